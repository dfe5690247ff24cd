"""Task metrics of a study: on common items, judged on the control, with the noise of items beside."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.eval.bpb import DOCUMENTS
from curate.eval.tasks import ITEMS, PER_ITEM, result_of
from curate.study import answer, confirm, tasks
from curate.study.plan import Arm, Primary, Study
from curate.study.runs import Step, Trained, suite_name
from curate.study.scores import scored
from curate.train.tokens import Tokens

SETTINGS = {"size": "1m", "tokens": 4000, "context": 10, "batch": 10}
ACCURACY = {"raw": 0.6, "clean": 0.8}


def study(metric: str = "quiz", **keys: object) -> Study:
    arms = {"raw": Arm(dataset="raw.parquet"), "clean": Arm(dataset="clean.parquet")}
    return Study(
        name="s", arms=arms, control="raw", tokenizer="t", suite="suite.yaml", primary=Primary(metric=metric), **keys,
    )  # fmt: skip


def finished(store: Path, suite: str, arm: str, seed: int, right: float) -> Trained:
    """A run whose first `right` of 40 items are answered rightly."""
    folder = store / f"{arm}{seed}"
    scores = folder / "eval" / suite
    scores.mkdir(parents=True)
    rows = [
        {"task": "quiz", "item": f"quiz.jsonl:{n + 1}", "group": "", "gold": 0, "chance": 0.5, "headline": "acc",
         "prompt_hash": str(n), "passage": str(n), "truncated": False, "log_likelihoods": [-1.0, -2.0],
         "greedy": [False, False], "chars": [1, 1], "bytes": [1, 1], **dict.fromkeys(PER_ITEM, float(n < right * 40))}
        for n in range(40)
    ]  # fmt: skip
    items = pa.Table.from_pylist(rows, ITEMS)
    pq.write_table(items, scores / "items.parquet")
    documents = [
        {"set": "web", "id": str(n), "domain": "a", "year": None, "n_bytes": 10, "n_tokens": 1, "nats": 10.0 - right + n % 3,
         "bits_per_byte": 1.0} for n in range(20)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(documents, DOCUMENTS), scores / "documents.parquet")
    found = result_of(items)
    task = {"score": found.score, "chance": 0.5, "gold_bits_per_byte": 2.0, "means": found.means}
    (scores / "eval.json").write_text(json.dumps({
        "checkpoint": str(folder / "final"), "suite": "suite", "partial": 0, "core": found.centred,
        "heldout": {"web": {"bits_per_byte": 1.0 - right / 10}}, "tasks": {"quiz": task},
    }))  # fmt: skip
    training = {
        "settings": {**SETTINGS, "seed": seed}, "datasets": [{"content": arm}], "parameters": 7, "tokens": 4000, "steps": 40,
        "seconds": 2.0, "notes": [], "data": {"loss_tokens": 1000, "unique_tokens": 900, "epochs": {arm: 1.0}},
    }  # fmt: skip
    (folder / "train.json").write_text(json.dumps(training))
    return Trained(arm, seed, str(folder), (Step((), ""), Step((), str(scores / "eval.json"))))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A suite of a task, arms whose corpora hold items 1 and 33 of it."""
    monkeypatch.chdir(tmp_path)
    Path("quiz.jsonl").write_text('{"query": "q", "choices": ["a", "b"], "gold": 0}\n' * 40)
    Path("suite.yaml").write_text("tasks: [{name: quiz, path: quiz.jsonl}]\n")
    suite = suite_name(study())
    for arm, rows in (("raw", [1]), ("clean", [1, 33])):
        (tmp_path / "out/arms" / arm).mkdir(parents=True)
        found = {
            "corpus": arm, "documents": 9, "items": {"quiz": 40}, "unmatchable": {"quiz": 0},
            "found": {"quiz": [f"quiz.jsonl:{row}" for row in rows]},
        }  # fmt: skip
        file = tmp_path / "out/arms" / arm / f"contamination-{suite}.json"
        file.write_text(json.dumps({"corpora": [found]}))
    return tmp_path


def judged(place: Path, one: Study, shift: float = 0.0, seeds: int = 3) -> answer.Answer:
    suite = suite_name(one)
    runs = [
        finished(place / "store", suite, arm, seed, accuracy - shift + seed / 40)
        for arm, accuracy in ACCURACY.items() for seed in range(seeds)
    ]  # fmt: skip
    done = [scored(run, one.all_metrics()) for run in runs]
    return answer.answer(one, place / "out", place / "store", done, seeds)


def test_arms_are_compared_on_items_that_none_has_seen(place: Path) -> None:
    found = judged(place, study())
    assert found.common is not None
    assert found.common.contaminated == {"raw": {"quiz": 1}, "clean": {"quiz": 2}}
    assert found.common.left_out == {"quiz": 2}
    assert found.values["raw"]["quiz"][0] == pytest.approx(23 / 38)
    assert found.values["clean"]["quiz"][0] == pytest.approx(
        31 / 38
    )  # items 1 and 33 are out: one right, one wrong
    assert found.common.full["raw"]["quiz"] == pytest.approx((24 + 25 + 26) / 3 / 40)
    (verdict,) = found.verdicts
    assert (verdict.verdict, verdict.note) == ("better", "")
    assert found.tasks["quiz"].above_chance is not None
    assert "tasks were judged on the study's own runs of the control, 3 seeds" in " ".join(found.notes)
    assert (
        "2 items of `quiz` are in corpora (raw 1, clean 2) and left every arm's score; "
        "with them quiz of raw 0.6250, clean 0.8250" in found.notes
    )


def test_noise_of_items_stands_by_itself(place: Path) -> None:
    found = judged(place, study(metrics=("bpb",)))
    noise = {one.metric: one for one in found.noise}
    assert set(noise) == {"quiz", "bpb"}
    difference = next(one for one in found.verdicts if one.metric == "quiz").difference
    assert noise["quiz"].low < difference < noise["quiz"].high
    assert (noise["quiz"].arm, noise["quiz"].matching) == ("clean", "tokens")
    written = json.loads((place / "out/study.json").read_text())
    assert {one["metric"] for one in written["noise"]} == {"quiz", "bpb"}


def test_a_task_that_guesses_decides_nothing(place: Path) -> None:
    """The same difference, around chance."""
    found = judged(place, study(), shift=0.125)
    (verdict,) = found.verdicts
    assert verdict.verdict == "undecided"
    assert "`quiz` means nothing at this size: " in verdict.note
    assert verdict.difference > 0.2
    recorded = confirm._entry(json.loads((place / "out/study.json").read_text()), "curate ablate")
    assert f"| {verdict.difference:+.4f} |" in recorded
    assert f"Undecided: {verdict.note}." in recorded


def test_a_task_that_an_arm_has_seen_whole_decides_nothing(place: Path) -> None:
    file = next((place / "out/arms/clean").glob("contamination-*.json"))
    said = json.loads(file.read_text())
    said["corpora"][0]["found"]["quiz"] = [f"quiz.jsonl:{n}" for n in range(1, 41)]
    file.write_text(json.dumps(said))
    found = judged(place, study(metrics=("quiz:correct_prob",)))
    assert [(one.verdict, "every item of a task" in one.note) for one in found.verdicts] == [
        ("undecided", True)
    ] * 2
    assert found.noise == []


def test_text_alone_asks_for_none_of_this(place: Path) -> None:
    found = judged(place, study("bpb"))
    assert (found.common, found.tasks, [one.metric for one in found.noise]) == (None, {}, ["bpb"])
    assert tasks.searches(study("bpb"), place / "out") == []
    assert tasks.checkpoints(study("bpb"), []) == []


def test_commands_for_each_arm_and_each_run_of_the_control(place: Path) -> None:
    searches = tasks.searches(study(), Path("out"))
    assert [track[0].arguments[:3] for track in searches] == [
        ("eval", "contamination", "raw.parquet"), ("eval", "contamination", "clean.parquet"),
    ]  # fmt: skip
    runs = [finished(place / "store", suite_name(study()), arm, 0, 0.5) for arm in ("raw", "clean")]
    assert tasks.checkpoints(study(), runs) == []  # none was kept
    for run in runs:
        (Path(run.folder) / "step-00000040").mkdir()
    ((step,),) = tasks.checkpoints(study(), runs)
    assert step.arguments[:3] == ("eval", "checkpoints", runs[0].folder)


STUDY = """
name: tiny
arms:
  plain: {dataset: plain.parquet, tokenize: [--set, input.id=id]}
  other: {dataset: other.parquet}
control: plain
tokenizer: tokenizer
suite: suite.yaml
primary: {metric: bpb}
metrics: [quiz, "quiz:gold_bpb"]
train:
  {width: 16, layers: 1, heads: 2, kv_heads: 2, context: 32, batch: 4, tokens: 1280, lr: 0.01, checkpoint_every: 4, keep: 4}
seeds: 2
"""
WORDS = [
    f"{a}{b}"
    for a in ("the", "cat", "sat", "mat", "door", "fish", "house", "left")
    for b in ("", "s", "ly", "er", "ing")
]


@pytest.mark.slow  # a dozen processes that open torch
def test_a_study_of_text_and_a_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lm_eval", reason='needs pip install "curate[eval]"')
    monkeypatch.chdir(tmp_path)
    texts = [" ".join(random.Random(i).choices(WORDS, k=60)) for i in range(120)]
    asked = "Why had the heron waited beside the frozen canal until every barge was gone?"
    ids = [f"doc-{i}" for i in range(120)]
    pq.write_table(pa.table({"id": ids, "text": texts}), "plain.parquet")
    seen = [f"{asked} because of the herring", *(f"{text} more" for text in texts[1:])]
    pq.write_table(pa.table({"text": seen}), "other.parquet")
    items = [{"query": asked, "choices": ["because of the herring", "out of spite"], "gold": 0}]
    items += [
        {"query": f"{text}?", "choices": ["the cat", "the mats"], "gold": i % 2}
        for i, text in enumerate(WORDS)
    ]
    Path("quiz.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    Path("suite.yaml").write_text(
        "heldout: [{name: docs, path: held}]\ntasks: [{name: quiz, path: quiz.jsonl}]\n"
    )
    Path("study.yaml").write_text(STUDY)

    def curate(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-c", "from curate.cli.main import main; main()", *arguments]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done

    curate("eval", "heldout", "plain.parquet", "--id", "id", "--documents", "5", "-o", "held")
    curate("fit", "tokenizer", "held/heldout.parquet", "-o", "tokenizer", "--vocab-size", "300")
    found = json.loads(curate("ablate", "study.yaml", "-o", "out", "--json", "--workers", "2").stdout)
    left = [Tokens.open(f"out/arms/{arm}/tokens").documents for arm in ("plain", "other")]
    assert left[0] == 115
    assert left[1] in (115, 116)  # doc-0 is another text there
    assert found["common"]["contaminated"] == {"plain": {"quiz": 0}, "other": {"quiz": 1}}
    assert found["common"]["left_out"] == {"quiz": 1}
    by_metric = {one["metric"]: one for one in found["verdicts"]}
    assert by_metric["bpb"]["note"] == ""
    assert "means nothing at this size" in by_metric["quiz"]["note"]  # a model of ten steps
    assert {one["metric"] for one in found["noise"]} == {"bpb", "quiz", "quiz:gold_bpb"}
    assert (
        found["tasks"]["quiz:gold_bpb"]["monotonicity"] is not None
    )  # checkpoints of the control were scored
