"""Tasks that mean nothing at a study's size decide nothing, and are judged on other runs than the study's."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from curate.study.measurable import judged, notes

SETTINGS = {"size": "1m", "tokens": 4000, "context": 10, "batch": 10}


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Path]:
    """Writes a run and its scores on a suite: the accuracy at each step, the last one its end."""

    def write(
        name: str, seed: int, accuracies: dict[int, float], gold: float = 2.0, **settings: object
    ) -> Path:
        folder = tmp_path / "store" / name
        scores = folder / "eval" / "suite"
        (scores / "steps").mkdir(parents=True)
        training = {
            "settings": {**SETTINGS, "seed": seed, **settings},
            "datasets": [],
            "steps": max(accuracies),
        }
        (folder / "train.json").write_text(json.dumps(training))

        def result(place: Path, checkpoint: str, accuracy: float) -> None:
            place.mkdir(exist_ok=True)
            task = {"score": accuracy, "chance": 0.5, "gold_bits_per_byte": gold, "means": {"acc": accuracy}}
            said = {
                "checkpoint": str(folder / checkpoint), "suite": "suite", "partial": 0, "core": accuracy,
                "heldout": {"web": {"bits_per_byte": 1.0}}, "tasks": {"blimp": task},
            }  # fmt: skip
            (place / "eval.json").write_text(json.dumps(said))

        result(scores, "final", accuracies[max(accuracies)])
        if len(accuracies) > 1:
            names = [f"step-{step:08d}" for step in accuracies]
            for name_, accuracy in zip(names, accuracies.values(), strict=True):
                result(scores / "steps" / name_, name_, accuracy)
            (scores / "steps/steps.json").write_text(json.dumps([f"scores/{one}" for one in names]))
        return folder

    return write


METRICS = ["bpb", "blimp", "blimp:gold_bpb"]


def test_a_task_that_grows_passes(run, tmp_path) -> None:
    own = [run(f"c{seed}", seed, {10: 0.55, 20: 0.60, 30: 0.65 + seed / 100}) for seed in (0, 1)]
    found = judged(tmp_path / "store", "suite", METRICS, own)
    assert found.statistics["blimp"].monotonicity == 1.0
    assert found.statistics["blimp"].above_chance == pytest.approx(0.16 / (0.01 / math.sqrt(2)))
    assert "blimp" not in found.refused
    assert set(found.statistics) == {"blimp", "blimp:gold_bpb"}  # text is no task
    assert found.own
    assert notes(found) == ["tasks were judged on the study's own runs of the control, 2 seeds"]


def test_a_task_at_chance_decides_nothing(run, tmp_path) -> None:
    own = [run("c0", 0, {10: 0.52, 20: 0.49, 30: 0.50}), run("c1", 1, {10: 0.50, 20: 0.51, 30: 0.51})]
    found = judged(tmp_path / "store", "suite", METRICS, own)
    assert "`blimp` means nothing at this size: monotonicity" in found.refused["blimp"]
    assert "above_chance 1.41, 3 asked" in found.refused["blimp"]


def test_of_one_step_growth_is_not_asked_for(run, tmp_path) -> None:
    own = [run(f"c{seed}", seed, {30: 0.7 + seed / 100}) for seed in (0, 1)]
    found = judged(tmp_path / "store", "suite", METRICS, own)
    assert found.refused == {}
    assert "whether they grow with training is not known" in notes(found)[0]


def test_other_runs_of_the_control_are_taken_where_there_are_two(run, tmp_path) -> None:
    own = [run(f"c{seed}", seed, {30: 0.5 + seed / 100}) for seed in (0, 1)]
    run("size", 2, {30: 0.9}, size="3m")
    run("lone", 2, {30: 0.8})
    assert judged(tmp_path / "store", "suite", METRICS, own).own  # of the same settings there is but one
    run("more", 3, {10: 0.5, 30: 0.81})
    found = judged(tmp_path / "store", "suite", METRICS, own)
    assert (found.own, found.seeds) == (False, 2)
    assert "blimp" not in found.refused  # by the study's own it would guess
    assert found.statistics["blimp"].above_chance == pytest.approx(0.31 / (0.01 / math.sqrt(2)))


def test_a_study_of_text_alone_judges_nothing(run, tmp_path) -> None:
    found = judged(tmp_path / "store", "suite", ["bpb", "bpb:web"], [run("c0", 0, {30: 0.5})])
    assert (found.statistics, found.refused, notes(found)) == ({}, {}, [])
