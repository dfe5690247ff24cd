"""Answers from finished runs: looks, earlier runs of the store, notes."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from curate.errors import ConfigError, DataError
from curate.eval.scores import higher_is_better, numbers
from curate.study import answer, scores
from curate.study.plan import Arm, Primary, Study
from curate.study.runs import Step, Trained

SETTINGS = {"size": "1m", "tokens": 1000, "context": 128, "batch": 8}


@pytest.fixture(autouse=True)
def suite(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("s.yaml").write_text("heldout: [{name: web, path: held.parquet}]")
    Path("held.parquet").touch()


def finished(store: Path, name: str, arm: str, seed: int, bpb: float, **settings: object) -> Trained:
    """A run as training and scoring leave it."""
    folder = store / name
    scores = folder / "eval" / "suite" / "eval.json"
    scores.parent.mkdir(parents=True)
    task = {"score": 0.5, "gold_bits_per_byte": 2.0, "means": {"correct_prob": 0.25}}
    scores.write_text(json.dumps({
        "partial": 0, "core": 0.1, "heldout": {"web": {"bits_per_byte": bpb}}, "tasks": {"blimp": task},
    }))  # fmt: skip
    training = {
        "settings": {**SETTINGS, "seed": seed, **settings}, "datasets": [{"content": arm}], "parameters": 7, "tokens": 1000,
        "seconds": 2.0, "notes": ["below 2,000 steps"], "data": {"loss_tokens": 1000, "unique_tokens": 900, "epochs": {arm: 1.1}},
    }  # fmt: skip
    (folder / "train.json").write_text(json.dumps(training))
    return Trained(arm, seed, str(folder), (Step((), ""), Step((), str(scores))))


def study(seeds: int) -> Study:
    arms = {name: Arm(dataset=name) for name in ("raw", "clean")}
    return Study(
        name="s", arms=arms, control="raw", tokenizer="t", suite="s.yaml", primary=Primary(metric="bpb", margin=0.5),
        seeds=seeds,
    )  # fmt: skip


@pytest.fixture
def runs(tmp_path):
    rng = np.random.default_rng(1)
    return [
        finished(tmp_path / "store", f"{arm}{seed}", arm, seed, mean + rng.normal(0, 0.01))
        for seed in range(6) for arm, mean in (("raw", 1.0), ("clean", 0.9))
    ]  # fmt: skip


def judged(tmp_path, runs, seeds, planned):
    done = [scores.scored(run, ["bpb"]) for run in runs if run.seed < seeds]
    (tmp_path / "study").mkdir(exist_ok=True)
    return answer.answer(study(planned), tmp_path / "study", tmp_path / "store", done, planned)


def test_a_clear_difference_is_called_and_written(tmp_path, runs):
    found = judged(tmp_path, runs, 4, 4)
    (verdict,) = found.verdicts
    assert (verdict.arm, verdict.verdict, verdict.not_inferior) == ("clean", "better", True)
    written = json.loads((tmp_path / "study" / "study.json").read_text())
    assert written["verdicts"][0]["verdict"] == "better"
    assert written["values"]["raw"]["bpb"]["3"] == pytest.approx(found.values["raw"]["bpb"][3])
    assert "clean, raw: below 2,000 steps" in found.notes
    assert found.training["clean"]["unique_tokens"] == [900] * 4
    listed = [(run["arm"], run["seed"], Path(run["folder"]).name) for run in written["runs"]]
    assert listed == [(arm, seed, f"{arm}{seed}") for arm in ("raw", "clean") for seed in range(4)]
    # the two seeds that are no part of this study tell how much seeds vary: one degree of freedom an arm
    assert "2 degrees of freedom of earlier runs" in " ".join(found.notes)


def test_an_arm_with_a_seed_that_diverged_is_on_record_and_undecided(tmp_path, runs):
    done = [
        scores.scored(run, ["bpb"]) for run in runs if (run.arm, run.seed) != ("clean", 3) and run.seed < 4
    ]
    (tmp_path / "study").mkdir()
    lost = [answer.Lost("clean", 3, "tokens", "the loss is nan", str(tmp_path / "store" / "clean3"))]
    found = answer.answer(study(4), tmp_path / "study", tmp_path / "store", done, 4, lost)
    (verdict,) = found.verdicts
    assert (verdict.verdict, verdict.seeds, verdict.control_seeds) == ("undecided", 3, 4)
    assert verdict.note == "seed 3 of `clean`: the loss is nan"
    assert [look.seeds for look in found.looks] == [4]  # it is over, not early
    written = json.loads((tmp_path / "study" / "study.json").read_text())
    assert written["diverged"][0]["reason"] == "the loss is nan"
    assert written["verdicts"][0]["difference"] is None
    assert set(written["values"]["clean"]["bpb"]) == {"0", "1", "2"}


def test_a_study_whose_arm_diverged_with_every_seed(tmp_path, runs):
    done = [scores.scored(run, ["bpb"]) for run in runs if run.arm == "raw" and run.seed < 2]
    (tmp_path / "study").mkdir()
    lost = [answer.Lost("clean", seed, "tokens", "the loss is nan", "") for seed in (0, 1)]
    found = answer.answer(study(2), tmp_path / "study", tmp_path / "store", done, 2, lost)
    assert [(one.verdict, one.seeds) for one in found.verdicts] == [("undecided", 0)]
    assert found.training["clean"]["runs"] == 0


def test_looks_are_counted_and_alpha_is_spent_once(tmp_path, runs):
    early = judged(tmp_path, runs, 3, 6)
    assert [look.alpha for look in early.looks] == pytest.approx([0.025])
    assert "an early look" in " ".join(early.notes)
    again = judged(tmp_path, runs, 3, 6)
    assert len(again.looks) == 1  # the same data, no new look
    assert again.verdicts == early.verdicts
    full = judged(tmp_path, runs, 6, 6)
    assert [look.alpha for look in full.looks] == pytest.approx([0.025, 0.025])


def test_a_plan_made_longer_has_no_alpha_left(tmp_path, runs):
    judged(tmp_path, runs, 3, 3)
    more = judged(tmp_path, runs, 6, 6)
    assert more.verdicts[0].verdict == "undecided"
    assert "no alpha is left" in " ".join(more.notes)


def test_other_seeds_or_another_plan_in_the_same_folder_have_no_alpha_left(tmp_path, runs):
    judged(tmp_path, runs, 3, 3)
    done = [scores.scored(run, ["bpb"]) for run in runs if run.seed >= 3]
    for changed in ({"first_seed": 3}, {"first_seed": 3, "tokenizer": "u"}):
        one = msgspec.structs.replace(study(3), **changed)
        found = answer.answer(one, tmp_path / "study", tmp_path / "store", done, 3)
        assert [verdict.alpha for verdict in found.verdicts] == [0.0]
    assert [look.alpha for look in found.looks] == pytest.approx([0.05, 0, 0])


def test_spread_is_lent_only_where_all_arms_are_of_one_scale(tmp_path, runs):
    earlier = [
        finished(tmp_path / "store", f"e{seed}", "raw", seed, 1.0 + seed / 100) for seed in range(6, 9)
    ]
    assert earlier
    done = [scores.scored(run, ["bpb"]) for run in runs if run.seed < 2]
    (tmp_path / "study").mkdir()
    lent = answer.answer(study(2), tmp_path / "study", tmp_path / "store", done, 2)
    assert lent.spread["bpb"].df > 2
    (tmp_path / "other").mkdir()
    mixed = [finished(tmp_path / "store", f"m{seed}", "clean", seed, 0.9, batch=16) for seed in range(2)]
    done = [one for one in done if one.run.arm == "raw"] + [scores.scored(run, ["bpb"]) for run in mixed]
    for order in (done, done[::-1]):
        alone = answer.answer(study(2), tmp_path / "other", tmp_path / "store", order, 2)
        assert alone.spread["bpb"].df == 2


def test_what_was_not_held_equal_is_said(tmp_path, runs):
    assert "repeat their data (clean 1.1, raw 1.1 epochs)" in " ".join(judged(tmp_path, runs, 3, 3).notes)


def test_runs_of_another_size_lend_nothing(tmp_path, runs):
    finished(tmp_path / "store", "x1", "raw", 20, 5.0, size="3m")
    finished(tmp_path / "store", "x2", "raw", 21, 9.0, size="3m")
    found = scores.earlier(tmp_path / "store", "suite", ["bpb"], scores.scale_of(SETTINGS), set())
    assert found.spreads["bpb"].df == 10
    assert found.spreads["bpb"].variance < 0.001
    assert found.seconds == 2.0


def test_metrics_by_name_and_direction(runs):
    found = numbers(Path(runs[0].steps[1].done))
    assert found == {
        "bpb": found["bpb:web"], "bpb:web": found["bpb"], "core": 0.1, "blimp": 0.5, "blimp:gold_bpb": 2.0,
        "blimp:correct_prob": 0.25,
    }  # fmt: skip
    assert [higher_is_better(name) for name in found] == [False, False, True, True, False, True]


def test_a_metric_that_the_suite_has_not(runs):
    scores.check_metrics("s.yaml", ["bpb", "bpb:web"])
    for metric in ("core", "bpb:docs", "bbp"):
        with pytest.raises(ConfigError, match=f"no metric `{metric}`"):
            scores.check_metrics("s.yaml", [metric])
    with pytest.raises(DataError, match="no metric `mmlu`"):
        scores.scored(runs[0], ["mmlu"])
