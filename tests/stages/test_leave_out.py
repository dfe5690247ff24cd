"""`leave_out`: what held-out lists name stays out, with the reason; a list is found whatever its format."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.errors import ConfigError, DataError
from curate.stages.leave_out import LEAVE_OUT, Config, leave_out, load


@pytest.fixture
def lists(tmp_path):
    """A folder as `curate eval heldout` leaves it, and a file of bare ids."""
    table = {"id": ["a", "b"], "held_out": ["a", "a"], "similarity": [1.0, 0.85]}
    pq.write_table(pa.table(table), tmp_path / LEAVE_OUT)
    (tmp_path / "more.jsonl").write_text('{"id": "b"}\n{"id": "p"}\n')
    return (str(tmp_path), str(tmp_path / "more.jsonl"))


def judged(config, columns):
    found = leave_out(pa.record_batch(columns), config, load(config, None))
    names = ("pass", "reason", "value", "threshold")
    return [tuple(row[f"leave_out_{name}"] for name in names) for row in found.to_pylist()]


def test_by_hand(lists):
    assert judged(Config(lists=lists), {"id": ["a", "b", "c", "p", None]}) == [
        (False, "held_out", 1.0, None),
        (False, "near_duplicate", 0.85, None),
        (True, None, None, None),
        (False, "held_out", None, None),
        (True, None, None, None),
    ]


def test_a_row_goes_with_the_one_it_was_made_of(lists):
    rows = {"id": ["1", "2", "a"], "parent_id": pa.array(["b", None, None], pa.string())}
    assert [passed for passed, *_ in judged(Config(lists=lists), rows)] == [False, True, False]


def test_what_is_wrong_is_said(tmp_path):
    with pytest.raises(ConfigError, match="no list was given"):
        Config(lists=())
    with pytest.raises(ConfigError, match="no list of what is left out") as missing:
        load(Config(lists=(str(tmp_path),)), None)
    assert LEAVE_OUT in str(missing.value.where)
    (tmp_path / "bad.jsonl").write_text(json.dumps({"name": "a"}) + "\n")
    with pytest.raises(DataError, match="without `id`"):
        load(Config(lists=(str(tmp_path / "bad.jsonl"),)), None)


def test_tokens_are_without_them_and_say_why(lists, tmp_path):
    """`curate tokenize --leave-out`: dropped like any row, under `leave_out`."""
    from curate.cli.tokenize import token_recipe
    from curate.engine import run as engine
    from curate.io.query import open_dataset, query

    rows = pa.table({"id": ["a", "b", "c"], "text": ["one", "two", "three"]})
    pq.write_table(rows, tmp_path / "docs.parquet")
    step = {"tokenizer": str(Path(__file__).parent / "lists/tokenizer")}
    recipe = token_recipe(
        [str(tmp_path / "docs.parquet")], str(tmp_path / "out"), step, [], "", ["input.id=id"], lists[:1]
    )
    done = engine.run(recipe, workers=1).rows
    assert (done.in_, done.kept) == (3, 1)
    assert done.dropped == {"leave_out": {"held_out": 1, "near_duplicate": 1}}
    found = query(
        open_dataset(tmp_path / "out"), "SELECT id, drop_stage, drop_value FROM dropped ORDER BY id"
    )
    assert found.read_all().to_pylist() == [
        {"id": "a", "drop_stage": "leave_out", "drop_value": 1.0},
        {"id": "b", "drop_stage": "leave_out", "drop_value": 0.85},
    ]
