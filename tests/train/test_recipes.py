"""The data plans under recipes/train, each run with a small model and budget: what was read, and at which rate."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason='needs pip install "curate[train]"')
pytest.importorskip("transformers", reason='needs pip install "curate[train]"')

from curate.errors import ModelError
from curate.train import run, settings
from curate.train.loop import records

RECIPES = Path(__file__).parents[2] / "recipes/train"
CONTEXT, BATCH, STEPS = 16, 4, 200
SMALL = [f"context={CONTEXT}", f"batch={BATCH}", "device=cpu", "precision=fp32", "threads=1", "shuffle=1"]
SHAPE = ["width=16", "layers=1", "heads=2", "kv_heads=1"]

Run = Callable[..., tuple[run.Result, list[dict[str, Any]]]]


@pytest.fixture
def trained(token_dataset, tmp_path: Path) -> Run:
    """Runs a recipe on datasets of these names; of each document the first token says which."""

    def train(recipe: str, *names: str, sets: list[str], prefix: int = 0) -> Any:
        rng, folders = random.Random(0), []
        for number, name in enumerate(names, 3):
            texts = [[number] * rng.randrange(4, 12) for _ in range(1800)]
            folders.append(
                token_dataset([[9] * prefix + t for t in texts], name=name, prefix=[prefix] * len(texts))
            )
        given = settings.load(str(RECIPES / recipe), [*SMALL, *sets], {"tokens": STEPS * CONTEXT * BATCH})
        return run.train(folders, tmp_path / "out", given), records(tmp_path / "out")

    return train


@pytest.fixture
def base(token_dataset, tmp_path: Path) -> str:
    """A model to begin with."""
    tokens = token_dataset([[7, 8] * 8] * 50, name="before")
    run.train([tokens], tmp_path / "base", settings.load("", [*SMALL, *SHAPE], {"tokens": 640}))
    return str(tmp_path / "base/final")


def rates(log: list[dict[str, Any]]) -> Any:
    return np.array([record["lr"] for record in log])


def test_meco(trained: Run) -> None:
    result, log = trained("meco.yaml", "tokens", sets=SHAPE, prefix=4)
    labels = np.diff([record["loss_tokens"] for record in log])
    assert labels[180:].mean() > 1.3 * labels[:178].mean()  # the last tenth is without metadata
    assert rates(log).max() == 3e-3 == rates(log)[9]
    by_hand = 3e-4 + (3e-3 - 3e-4) / 2 * (1 + np.cos(np.pi * (np.array([180, 181, 200]) - 10) / 190))
    assert rates(log)[[179, 180, 199]] == pytest.approx(by_hand)  # no joint at the switch
    assert (result.settings["weight_decay"], result.settings["packing"]) == (0.033, "complete")
    assert result.data["unique_tokens"] == result.data["loss_tokens"]


def test_snowcoder(trained: Run) -> None:
    result, log = trained("snowcoder.yaml", "code", "quality", "synthetic", sets=SHAPE)
    shares = {name: share * 555 for name, share in result.data["shares"].items()}
    assert shares == pytest.approx({"code": 500, "quality": 50, "synthetic": 5}, abs=4)
    assert log[99]["data"]["shares"]["code"] == 1
    assert (rates(log)[4:180] == rates(log)[4]).all()
    assert rates(log)[180:] == pytest.approx(rates(log)[4] * np.arange(19, -1, -1) / 20)


def test_continued_pretraining_with_replay(trained: Run, base: str) -> None:
    result, log = trained("cpt_replay.yaml", "new", "old", sets=[f"init={base}"])
    seen = [record["data"]["shares"]["old"] for record in log if "data" in record]
    assert seen == pytest.approx([0.05, 0.05], abs=0.004)  # constant in time
    assert rates(log)[[0, 1, 199]] == pytest.approx([3e-4 * 0.55, 3e-4, 3e-5])  # up in 2 steps, from a tenth
    assert any("re-warming" in note for note in result.notes)


def test_parallel_text(trained: Run, base: str) -> None:
    names = ("languages", "parallel", "math", "code")
    result, log = trained("parallel.yaml", *names, sets=[f"init={base}"])
    shares = {name: share * 26 for name, share in result.data["shares"].items()}
    assert shares == pytest.approx({"languages": 14, "parallel": 2, "math": 5, "code": 5}, abs=0.1)
    assert rates(log)[[0, 199]] == pytest.approx([5e-5, 5e-7], rel=1e-3)


def test_a_plan_that_continues_a_model_asks_for_one(trained: Run) -> None:
    for recipe, names in (("cpt_replay.yaml", ("new", "old")), ("parallel.yaml", ("languages", "parallel"))):
        with pytest.raises(ModelError, match="no model at `base`"):
            trained(recipe, *names, sets=[])


def test_each_plan_is_run_here() -> None:
    text = Path(__file__).read_text()
    assert all(f'trained("{path.name}"' in text for path in RECIPES.iterdir())
