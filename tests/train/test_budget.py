"""A budget that counts tokens in the loss: arms with and without metadata learn from equally many."""

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

pytest.importorskip("torch", reason='needs pip install "curate[train]"')
pytest.importorskip("transformers", reason='needs pip install "curate[train]"')

from curate.engine.fingerprints import digest_of
from curate.errors import DataError
from curate.train import run, settings
from curate.train.loop import records
from curate.train.packing import Packer, Pick
from curate.train.tokens import Tokens

CONTEXT, BATCH, BUDGET = 16, 4, 1500
STEP = CONTEXT * BATCH
TINY = [
    "width=16", "layers=1", "heads=2", "kv_heads=1", f"context={CONTEXT}", f"batch={BATCH}", "lr=0.01",
    "checkpoint_every=10", "device=cpu", "precision=fp32", "threads=1",
]  # fmt: skip


def given(*sets: str, tokens: int = BUDGET) -> settings.Loaded:
    return settings.load("", [*TINY, *sets], {"tokens": tokens})


def with_prefix(number: int) -> dict[str, Any]:
    """Documents of 4 tokens of metadata and 0 to 20 of text, and how to write them."""
    rng = random.Random(0)
    texts = [[rng.randrange(9, 64) for _ in range(rng.randrange(0, 21))] for _ in range(number)]
    return {"documents": [[3, 4, 5, 6, *text] if text else [] for text in texts], "prefix": [4 * bool(t) for t in texts]}  # fmt: skip


@pytest.fixture
def tokens(token_dataset) -> Path:
    return token_dataset(**with_prefix(300))


@pytest.mark.parametrize("packing", ["chunk", "complete", "best_fit"])
def test_arms_with_and_without_metadata_learn_from_equally_many(
    tokens: Path, tmp_path: Path, packing: str
) -> None:
    arms = {name: [f"packing={packing}", f"metadata={name}"] for name in ("prefix", "none")}
    found = {name: run.train([tokens], tmp_path / name, given("count=loss", *arms[name])) for name in arms}
    logs = {name: records(tmp_path / name) for name in arms}
    for name, result in found.items():
        assert BUDGET - STEP < result.data["loss_tokens"] <= BUDGET
        assert result.data["loss_tokens"] == logs[name][-1]["loss_tokens"]
        assert result.steps == len(logs[name]) == result.tokens // STEP
        assert logs[name][-1]["lr"] == pytest.approx(0.001)  # the schedule's end is the last step
        assert result.data["epochs"]["tokens"] <= 1
    assert found["prefix"].steps > found["none"].steps
    counted = {
        name: run.prepare([tokens], tmp_path / "all", given(*arms[name])).settings.steps for name in arms
    }
    assert counted["prefix"] == counted["none"] == BUDGET // STEP


def test_phases_begin_at_shares_of_the_budget(tokens: Path, tmp_path: Path) -> None:
    """With 4 tokens of metadata to about 11 in the loss, the first half takes more steps than the second."""
    how = given("count=loss", "packing=complete", "shuffle=1", "phases=[{start: 0.5, metadata: none}]")
    run.train([tokens], tmp_path / "out", how)
    labels = [record["loss_tokens"] for record in records(tmp_path / "out")]
    half = next(i for i, seen in enumerate(labels) if seen >= BUDGET / 2) + 1
    first, second = labels[half - 1] / half, (labels[-1] - labels[half - 1]) / (len(labels) - half)
    assert second > 1.15 * first
    assert half > len(labels) / 2


def test_a_killed_run_goes_on_to_the_bit(tokens: Path, tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def kill(record: dict[str, Any]) -> None:
        if record["step"] == 17:
            raise Killed

    how = given("count=loss", "packing=best_fit", "phases=[{start: 0.6, metadata: none}]")
    whole = run.train([tokens], tmp_path / "whole", how)
    with pytest.raises(Killed):
        run.train([tokens], tmp_path / "killed", how, listen=kill)
    again = run.train([tokens], tmp_path / "killed", how)
    assert [(r["loss"], r["lr"]) for r in records(tmp_path / "killed")] == [
        (r["loss"], r["lr"]) for r in records(tmp_path / "whole")
    ]
    assert (again.data, again.steps) == (whole.data, whole.steps)


def test_all_there_is_can_be_asked_for_and_no_more(tokens: Path, tmp_path: Path) -> None:
    data = with_prefix(300)
    there = sum(len(d) - 4 + 1 for d in data["documents"] if d)
    found = run.train([tokens], tmp_path / "out", given("count=loss", tokens=there))
    assert there - STEP < found.data["loss_tokens"] <= there
    with pytest.raises(DataError, match=f"holds {there:,} tokens, and {there + 1:,} are asked for"):
        run.prepare([tokens], tmp_path / "more", given("count=loss", tokens=there + 1))
    with pytest.raises(DataError, match="come to their end after") as told:
        run.train([tokens], tmp_path / "less", given("count=loss", "packing=complete", tokens=there))
    most = int(told.value.hint.split()[3].strip("`,"))
    assert most < there
    assert not records(tmp_path / "less")
    run.train([tokens], tmp_path / "most", given("count=loss", "packing=complete", tokens=most))


@pytest.mark.parametrize("method", ["chunk", "complete", "best_fit"])
def test_what_is_passed_over_is_counted_as_what_is_read(tokens: Path, method: str) -> None:
    data = Tokens.open(tokens)

    def packer() -> Packer:
        picks = (Pick(0, i, metadata=i % 3 > 0, repeat=i % 2 > 0) for i in range(data.documents))
        return Packer([data], picks, context=CONTEXT, method=method, shuffle=5)

    read, passed = packer(), packer()
    labels = sum(int(one.loss[1:].sum()) for one in read)
    while passed.skip():
        pass
    assert passed.counts == read.counts
    assert labels == read.counts.loss_tokens


def test_runs_made_before_the_key_keep_their_names(tokens: Path, tmp_path: Path) -> None:
    prepared = run.prepare([tokens], tmp_path, given())
    keys = msgspec.to_builtins(prepared.settings)
    before = {key: value for key, value in keys.items() if key not in (*settings.HOW, "init", "count")}
    content = {
        "settings": before, "datasets": [run.content_digest(prepared.datasets[0])], "names": ["tokens"],
        "init": "scratch", "moments": None,
        "libraries": {name: run.version(name).partition("+")[0] for name in ("torch", "transformers")},
    }  # fmt: skip
    assert prepared.fingerprint == digest_of("train", content)
    assert run.prepare([tokens], tmp_path, given("count=loss")).fingerprint != prepared.fingerprint
