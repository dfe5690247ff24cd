"""Confirm runs and the record: fresh seeds, and nothing published without seeds, unique tokens and both matchings."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from curate.errors import ConfigError
from curate.study import answer, confirm, scores
from curate.study.plan import Arm, Primary, Study, Target
from curate.study.runs import Step, Trained

ROOT = Path(__file__).parents[2]
OUT = Path("out")


def study(**changes: object) -> Study:
    arms = {"raw": Arm(dataset="raw"), "clean": Arm(dataset="clean", seed_offset=100)}
    target = Target(params=1e9, tokens=1e9, raw_pool=1e9, pool="raw")
    keys = {
        "name": "s",
        "arms": arms,
        "control": "raw",
        "tokenizer": "t",
        "suite": "s.yaml",
        "seeds": 2,
        "target": target,
    }
    return Study(**{**keys, "primary": Primary(metric="bpb"), **changes})


def run(one: Study, seeds: int, *, confirms: bool = False, lost: bool = False) -> answer.Answer:
    """Finished runs of a study, and what it makes of them."""
    rng, done = np.random.default_rng(one.first_seed), []
    for matching in one.matchings:
        for arm, bpb in (("raw", 1.0), ("clean", 0.9)):
            for seed in range(one.first_seed, one.first_seed + seeds):
                folder = Path("store") / f"{matching}-{arm}-{seed}"
                file = folder / "eval/suite/eval.json"
                file.parent.mkdir(parents=True, exist_ok=True)
                value = {"web": {"bits_per_byte": bpb + rng.normal(0, 0.001)}}
                file.write_text(json.dumps({"partial": 0, "core": None, "heldout": value, "tasks": {}}))
                settings = {"size": "1m", "tokens": 1000, "context": 128, "batch": 8, "seed": seed}
                (folder / "train.json").write_text(json.dumps({
                    "settings": settings, "datasets": [{"content": arm}], "parameters": 7, "tokens": 1000, "seconds": 2.0,
                    "notes": [], "data": {"loss_tokens": 1000, "unique_tokens": 1000 if matching == "tokens" else 500, "epochs": {"tokens": 1.0}},
                }))  # fmt: skip
                made = Trained(arm, seed, str(folder), (Step((), ""), Step((), str(file))), matching)
                done.append(scores.scored(made, ["bpb"]))
    gone = []
    if lost:
        gone = [answer.Lost("clean", one.first_seed, "tokens", "the loss is nan", "")]
        done = [
            d for d in done if (d.run.arm, d.run.seed, d.run.matching) != ("clean", one.first_seed, "tokens")
        ]
    return answer.answer(one, OUT, Path("store"), done, one.seeds, gone, confirms=confirms)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("s.yaml").write_text("heldout: [{name: web, path: held.parquet}]")
    Path("held.parquet").touch()
    OUT.mkdir()


def test_a_confirm_run_has_seeds_and_looks_of_its_own():
    with pytest.raises(ConfigError, match="not complete") as said:
        confirm.fresh(study(seeds=3), OUT, "s.yaml")
    assert said.value.hint == "first: curate ablate s.yaml -o out"
    three = study(seeds=3)
    run(three, 2)
    with pytest.raises(ConfigError, match="not complete"):
        confirm.fresh(three, OUT, "s.yaml")
    run(three, 3)
    again = confirm.fresh(three, OUT, "s.yaml")
    used, fresh = (
        {one.training(arm, seed)["seed"] for arm in one.arms for seed in one.seeds_of(arm)}
        for one in (three, again)
    )
    assert max(used) == 102
    assert min(fresh) == 103
    found = run(again, 3, confirms=True)
    assert [look.alpha for look in found.looks] == pytest.approx([0.05])
    assert (OUT / "confirm/study.json").exists()
    assert len(json.loads((OUT / "study.json").read_text())["looks"]) == 2
    assert confirm.fresh(three, OUT, "s.yaml") == again  # a killed one goes on
    with pytest.raises(ConfigError, match="another plan"):
        confirm.fresh(study(seeds=3, alpha=0.1), OUT, "s.yaml")


def test_only_a_complete_confirm_run_is_recorded_and_once():
    results = Path("recipes/RESULTS.md")
    run(study(), 2)
    again = confirm.fresh(study(), OUT, "s.yaml")
    for seeds in (0, 1):
        if seeds:
            run(again, seeds, confirms=True)
        with pytest.raises(ConfigError, match="before the confirm run is complete") as said:
            confirm.record(study(), OUT, "s.yaml")
        assert said.value.hint == "first: curate ablate s.yaml -o out --confirm"
    found = run(again, 2, confirms=True)
    assert not results.exists()
    assert confirm.record(study(), OUT, "s.yaml") == results
    text = results.read_text()
    assert confirm.faults(text) == []
    assert "`curate ablate s.yaml -o out --confirm --record`" in text
    rows = [line for line in text.splitlines() if line.startswith("| clean")]
    first = found.verdicts[0]
    assert rows[0].startswith(f"| clean | bpb | tokens | 2 / 2 | 1,000 / 1,000 | {first.difference:+.4f} |")
    assert rows[0].endswith(
        f"| {first.low:+.4f} to {first.high:+.4f} at {1 - first.alpha:.2%} | {first.verdict} |"
    )
    assert rows[1].startswith("| clean | bpb | pool | 2 / 2 | 500 / 500 |")
    with pytest.raises(ConfigError, match="already"):
        confirm.record(study(), OUT, "s.yaml")
    assert results.read_text() == text


def test_what_is_recorded_first_stays():
    run(study(), 2)
    run(confirm.fresh(study(), OUT, "s.yaml"), 2, confirms=True, lost=True)
    Path("recipes").mkdir()
    Path("recipes/RESULTS.md").write_text("# Mine\n\nwords\n")
    text = confirm.record(study(), OUT, "s.yaml").read_text()
    assert text.startswith("# Mine\n\nwords\n\n## ")
    assert "| clean | bpb | tokens | 1 / 2 | 1,000 / 1,000 | - | diverged | undecided |" in text
    assert "clean seed 102, tokens: the loss is nan" in text


def test_one_matching_is_not_published():
    with pytest.raises(ConfigError, match="this study has one") as said:
        confirm.record(study(target=None), OUT, "s.yaml")
    assert "target" in said.value.hint


def test_what_a_published_verdict_lacks_is_found():
    run(study(), 2)
    run(confirm.fresh(study(), OUT, "s.yaml"), 2, confirms=True)
    good = confirm.record(study(), OUT, "s.yaml").read_text()
    for old, new, says in (
        ("| 2 / 2 | 500 / 500 |", "| 2 / 2 | - |", "no unique tokens"),
        ("| 2 / 2 | 500 / 500 |", "| - | 500 / 500 |", "no seeds"),
        ("| clean | bpb | pool |", "| clean | bpb | tokens |", "tokens matching alone"),
        ("| clean | bpb | tokens |", "| clean | bpb2 | tokens |", "matching alone"),
        ("| unique tokens |", "| tokens |", "no table of verdicts"),
    ):
        assert old in good
        assert says in " ".join(confirm.faults(good.replace(old, new, 1)))
    broken = json.loads((OUT / "confirm/study.json").read_text())
    broken["verdicts"][0]["unique_tokens"] = 0
    (OUT / "confirm/study.json").write_bytes(msgspec.json.encode(broken))
    Path("recipes/RESULTS.md").unlink()
    with pytest.raises(ConfigError, match=r"cannot be published: .*no unique tokens"):
        confirm.record(study(), OUT, "s.yaml")


def test_the_record_of_this_repository_is_whole():
    file = ROOT / confirm.RESULTS
    assert not file.exists() or confirm.faults(file.read_text("utf-8")) == []
