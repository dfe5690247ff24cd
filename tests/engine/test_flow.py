"""Stages inside a run: their columns' names, and errors on single rows."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.engine.run import run
from curate.errors import RunError
from curate.recipe.recipe import from_tree
from curate.recipe.tree import Tree

STAGE_FILE = '''
"""Stages that cannot do some rows."""

import msgspec
import numpy as np
import pyarrow as pa

from curate.stage import stage


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    poison: str = "poison"  # a text that holds this cannot be done


@stage("picky", version=1, config=Config, reads=["text"], writes={"picky_done": pa.bool_()})
def picky(batch, config):
    for text in batch["text"].to_pylist():
        if config.poison in text:
            raise ValueError(f"cannot do {text[:10]}")
    return batch.append_column("picky_done", pa.array([True] * batch.num_rows))


@stage("roomy", version=1, config=Config, reads=["text"], writes={"roomy_done": pa.bool_()})
def roomy(batch, config):
    for text in batch["text"].to_pylist():
        if config.poison in text:
            np.ones(1 << 50)
    return batch.append_column("roomy_done", pa.array([True] * batch.num_rows))
'''


@pytest.fixture
def go(tmp_path):
    """Runs stages over rows; gives the result and the output folder."""
    file = tmp_path / "my_stages.py"
    file.write_text(STAGE_FILE)
    from curate.stages import use_file

    use_file(file)

    def run_stages(columns, stages, row_group_size=None, **keys):
        (tmp_path / "in").mkdir()
        pq.write_table(pa.table(columns), tmp_path / "in/rows.parquet", row_group_size=row_group_size)
        tree = Tree({"input": {"path": str(tmp_path / "in")}, "stages": stages, **keys}, "recipe")
        made = from_tree(tree, output=str(tmp_path / "out"))
        return run(made, workers=1, stage_files=[str(file)]), tmp_path / "out"

    return run_stages


def test_a_stage_may_stand_twice_under_two_names(go):
    """Map and global: the second finds the first's columns beside its own, and the input's `order` stays."""
    stages = ["sample", {"stage": "sample", "name": "again", "seed": 3, "when": "length(text) = 1"},
              "exact_dedup", {"stage": "exact_dedup", "name": "topics", "column": "topic"}]  # fmt: skip
    columns = {"text": ["a", "b", "a", "cc"], "order": [9, 8, 7, 6], "topic": ["x", "x", "y", "z"]}
    result, out = go(columns, stages)
    assert result.rows.dropped == {"exact_dedup": {"duplicate": 1}, "topics": {"duplicate": 1}}
    kept = pq.read_table(out / "part-00000.parquet")
    assert kept["text"].to_pylist() == ["a", "cc"]
    assert kept["order"].to_pylist() == [9, 6]
    assert kept["again_hash"].is_null().to_pylist() == [False, True]
    assert kept["again_hash"][0].as_py() != kept["sample_hash"][0].as_py()
    assert kept["exact_dedup_cluster_size"].to_pylist() == [2, 1]
    assert kept["topics_cluster_size"].to_pylist() == [2, 1]
    dropped = pq.read_table(out / "_dropped/03_topics/part-00000.parquet")
    assert dropped["kept_id"].to_pylist() == kept["id"].to_pylist()[:1]
    assert "topics_cluster_id" not in dropped.schema.names


def quarantined(out):
    return [row for file in sorted(out.glob("_quarantine/*")) for row in pq.read_table(file).to_pylist()]


def test_a_row_that_raises_is_quarantined_alone(go):
    texts = [f"poison {i}" if i in (0, 7, 19) else f"text {i}" for i in range(20)]
    result, out = go({"text": texts}, ["picky"])
    assert (result.rows.kept, result.rows.quarantined, result.exit) == (17, 3, 4)
    assert [row["error"] for row in quarantined(out)] == [
        "ValueError: cannot do poison 0", "ValueError: cannot do poison 7", "ValueError: cannot do poison 19",
    ]  # fmt: skip
    assert {(row["stage"], row["reason"]) for row in quarantined(out)} == {("picky", "error")}


@pytest.mark.parametrize("rows", [2, 40, 1000])
def test_a_stage_that_raises_on_every_row_is_the_stages_fault(go, rows):
    with pytest.raises(RunError, match="stage `picky` fails on every row: ValueError: cannot do poison"):
        go({"text": ["poison"] * rows}, ["picky"])


def test_a_unit_of_nothing_but_poison_does_not_stop_the_run(go):
    """Row groups of 20 rows and 1 MB: the last unit holds two rows, and the stage can do neither."""
    texts = [str(i) * 60_000 for i in range(40)] + ["poison 1", "poison 2"]
    result, _ = go({"text": texts}, ["picky"], row_group_size=20, unit_mb=1)
    assert (result.rows.kept, result.rows.quarantined, result.exit) == (40, 2, 4)


def test_a_row_that_asks_for_more_memory_than_there_is_is_quarantined(go):
    """A MemoryError in a worker counts as its death; the row is then found in a killable child."""
    result, out = go({"text": ["a", "poison", "b"]}, ["roomy"])
    assert (result.rows.kept, result.quarantined) == (2, {"memory": 1})
    assert quarantined(out)[0]["raw"] == b"poison"
