"""`curate eval select`, `gap` and `ageing` on score folders as `curate eval score` leaves them."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.eval.bpb import DOCUMENTS

SETTINGS = {"size": "1m", "tokens": 4000, "context": 10, "batch": 10}


@pytest.fixture
def score(tmp_path: Path) -> Callable[..., str]:
    """Writes the scores of a checkpoint of a run, and the run's train.json; returns the folder of the scores."""

    def write(run: str, step: int, bpb: float, acc: float, seed: int = 0, **settings: object) -> str:
        training = {
            "settings": {**SETTINGS, "seed": seed, **settings},
            "datasets": [{"content": "x"}],
            "steps": 40,
        }
        (tmp_path / run).mkdir(exist_ok=True)
        (tmp_path / run / "train.json").write_text(json.dumps(training))
        name = "final" if step == 40 else f"step-{step:08d}"
        folder = tmp_path / f"scores-{run}-{step}"
        folder.mkdir()
        task = {
            "score": acc,
            "chance": 0.5,
            "gold_bits_per_byte": bpb * 2,
            "means": {"correct_prob": acc / 2},
        }
        (folder / "eval.json").write_text(json.dumps({
            "checkpoint": str(tmp_path / run / name), "suite": "small", "partial": 0, "core": None,
            "heldout": {"web": {"bits_per_byte": bpb}}, "tasks": {"blimp": task},
        }))  # fmt: skip
        return str(folder)

    return write


@pytest.fixture
def control(score: Callable[..., str]) -> list[str]:
    """Two seeds at four steps: bits per byte fall and hardly vary, the task guesses."""
    return [
        score(f"run{seed}", step, 2.0 - step / 100 + seed / 1000, 0.5 + noise, seed)
        for seed, noises in ((0, (0.01, -0.01, 0.0, 0.01)), (1, (0.0, 0.01, 0.0, -0.01)))
        for step, noise in zip((10, 20, 30, 40), noises, strict=True)
    ]


def test_select_by_hand(control, curate) -> None:
    done = curate("eval", "select", *control, "--metric", "bpb:web", "--metric", "blimp", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    web, blimp = (next(one for one in said["tasks"] if one["task"] == name) for name in ("bpb:web", "blimp"))
    assert web["enters"]
    assert web["monotonicity"] == 1.0
    assert web["snr"] == pytest.approx((1.6 + 1.601) / 2 / (0.001 / 2**0.5))
    assert web["above_chance"] is None
    assert not blimp["enters"]
    assert blimp["why_not"] == ["monotonicity", "above_chance"]
    assert blimp["above_chance"] == pytest.approx(0.01 / (0.02 / 2**0.5))
    assert said["runs"] == 2
    shown = curate("eval", "select", *control, "--min-snr", "1e9").stdout
    assert "no: snr" in shown
    assert "blimp:correct_prob" in shown  # all metrics, where none is named


def test_runs_of_two_sizes_are_not_judged_together(control, score, curate) -> None:
    other = score("big", 40, 1.0, 0.5, size="3m")
    done = curate("eval", "select", *control, other)
    assert done.returncode == 2
    assert "of another scale" in done.stderr
    assert other in done.stderr


def test_a_metric_that_is_not_there_and_a_run_that_is_unknown(control, tmp_path, curate) -> None:
    assert "no metric `mmlu`" in curate("eval", "select", *control, "--metric", "mmlu").stderr
    (tmp_path / "run0/train.json").unlink()
    done = curate("eval", "select", *control)
    assert done.returncode == 2
    assert "nothing says which run" in done.stderr
    assert "no scores" in curate("eval", "select", tmp_path / "nosuch").stderr


def test_a_gap_by_hand(score, curate) -> None:
    """From 1.0 up to 1.2 at 1,000 tokens; back half-way between 2,000 (1.1) and 3,000 (0.9)."""
    base = score("base", 40, 1.0, 0.5)
    run = [score("cpt", step, bpb, 0.5) for step, bpb in ((30, 0.9), (10, 1.2), (20, 1.1))]
    done = curate("eval", "gap", *run, "--before", base, "--metric", "bpb", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [tokens for tokens, _ in found["series"]] == [0, 1000, 2000, 3000]
    assert found["gap"]["depth"] == pytest.approx(0.2)
    assert found["gap"]["recovery"] == pytest.approx(2500)
    assert "after 2,500 tokens" in curate("eval", "gap", *run, "--before", base, "--metric", "bpb").stderr
    alone = curate("eval", "gap", *run, "--metric", "bpb", "--json")
    assert (
        json.loads(alone.stdout)["gap"]["depth"] == 0
    )  # without it the first checkpoint is the state before
    other = score("other", 20, 1.0, 0.5, seed=3)
    assert "of several runs" in curate("eval", "gap", *run, other, "--metric", "bpb").stderr


def documents(folder: Path, rows: list[tuple[int | None, float]]) -> str:
    """Scores of documents of 1,000 bytes each: (year, bits per byte)."""
    folder.mkdir()
    table = [
        {"set": "news", "id": str(i), "domain": "a", "year": year, "n_bytes": 1000, "n_tokens": 100,
         "nats": bits * 1000 * 0.6931471805599453, "bits_per_byte": bits}
        for i, (year, bits) in enumerate(rows)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(table, DOCUMENTS), folder / "documents.parquet")
    return str(folder)


def test_ageing_finds_the_slopes(tmp_path, curate) -> None:
    """0.01 a year for text older than the training data, 0.03 for newer; 2020 is harder for all."""

    def bits(train: int, year: int) -> float:
        return 1 + 0.01 * max(train - year, 0) + 0.03 * max(year - train, 0) + 0.2 * (year == 2020)

    years = (2018, 2019, 2020, 2021)
    given = [
        f"{train}={documents(tmp_path / str(train), [*((year, bits(train, year)) for year in years), (None, 5.0)])}"
        for train in (2018, 2019, 2021)
    ]
    done = curate("eval", "ageing", *given, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["ageing"]
    assert found["slope_past"] == pytest.approx(0.01)
    assert found["slope_future"] == pytest.approx(0.03)
    assert found["table"]["2021"]["2020"] == pytest.approx(1.21)
    assert found["undated"] == 1
    assert "+0.0300 bits per byte" in curate("eval", "ageing", *given).stderr


def test_what_ageing_needs_is_said(tmp_path, curate) -> None:
    undated = documents(tmp_path / "undated", [(None, 1.0)])
    assert "no document is dated" in curate("eval", "ageing", f"2019={undated}").stderr
    assert "names no year" in curate("eval", "ageing", undated).stderr
    assert "no scores of documents" in curate("eval", "ageing", f"2019={tmp_path}").stderr
