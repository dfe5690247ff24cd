"""Stages inside a run: their columns' names, and errors on single rows."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.engine import isolate
from curate.engine.limits import RowLimits
from curate.engine.run import run
from curate.engine.verify import verify
from curate.errors import ConfigError, StageError
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


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    deadline_seconds: float = 0.2
    max_memory_mb: int = 300
    load_mb: int = 0  # what the model takes


def load(config, store):
    return b"x" * (config.load_mb << 20)


@stage("greedy", version=1, config=Limits, reads=["text"], writes={"greedy_done": pa.bool_()}, isolate=True, load=load)
def greedy(batch, config, model):
    held = []
    while batch.num_rows:
        held.append(b"x" * (64 << 20))
    return batch


class How(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    how: str  # the contract is broken


@stage("wrong", version=1, config=How, reads=["text"], writes={"wrong_done": pa.bool_()})
def wrong(batch, config):
    done = batch.append_column("wrong_done", pa.array([True] * batch.num_rows))
    other = batch.append_column("wrong_done", batch["text"].cast(pa.string()))
    return {"short": done.slice(1), "swapped": done.take(pa.array([1, 0, 2])), "none": None,
            "more": done.append_column("extra", batch["text"]), "other": other}[config.how]


@stage("endless", version=1, config=Limits, reads=["text"], writes={"endless_done": pa.bool_()}, isolate=True)
def endless(batch, config):
    while batch.num_rows:
        pass
    return batch
'''


@pytest.fixture
def go(tmp_path):
    """Runs stages over rows; gives the result and the output folder."""
    file = tmp_path / "my_stages.py"
    file.write_text(STAGE_FILE)
    from curate.stages import use_file

    use_file(file)

    def run_stages(columns, stages, row_group_size=None, input_id=None, **keys):
        (tmp_path / "in").mkdir()
        pq.write_table(pa.table(columns), tmp_path / "in/rows.parquet", row_group_size=row_group_size)
        source = {"path": str(tmp_path / "in"), "id": input_id}
        tree = Tree({"input": source, "stages": stages, **keys}, "recipe")
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


def test_a_select_asks_only_the_rows_of_its_when_and_blames_as_ever(go):
    """A row that the predicate cannot even evaluate passes where it is outside; null is not true."""
    columns = {"text": list("abcdef"), "kind": ["n", "n", "x", None, "n", "n"],
               "value": ["5", "50", "not a number", "1", "7", None], "score": [1.0, 1.0, 0.0, 0.0, 0.2, 1.0]}  # fmt: skip
    where = "score > 0.5 and cast(value as integer) < 10"
    result, out = go(columns, [{"select": {"where": where, "when": "kind = 'n'"}}])
    kept = pq.read_table(out / "part-00000.parquet")
    assert kept["text"].to_pylist() == ["a", "c", "d"]
    assert kept.schema.names == ["id", "text", "kind", "value", "score"]
    condition = "cast(value as integer) < 10"
    assert result.rows.dropped == {"select": {condition: 2}, "input": {"score > 0.5": 1}}
    dropped = pq.read_table(out / "_dropped/00_select/part-00000.parquet").to_pylist()
    assert [(row["text"], row["drop_stage"], row["drop_value"], row["drop_threshold"]) for row in dropped] == [
        ("b", "select", None, None), ("e", "input", 0.2, 0.5), ("f", "select", None, None),
    ]  # fmt: skip
    assert verify(out).problems == []


def test_the_when_of_a_select_is_checked_at_plan(go):
    with pytest.raises(ConfigError, match="unknown column `knd`") as caught:
        go({"text": ["a"]}, [{"select": {"where": "length(text) > 3", "when": "knd = 'n'"}}])
    assert caught.value.where == "stages[0] (select)"


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
    """The error names the stage, a row and the next step; running again cannot help, so the exit is 2."""
    with pytest.raises(
        StageError, match=r"`picky` fails on every row, .* ValueError: cannot do poison"
    ) as caught:
        go({"id": [f"row {i}" for i in range(rows)], "text": ["poison"] * rows}, ["picky"], input_id="id")
    assert "for example on `row " in caught.value.what
    assert caught.value.where == "stages[0]"
    assert "mend it and run again" in caught.value.hint
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("stage", "seconds", "limit"),
    [
        ("greedy", 60.0, "300 MB (`max_memory_mb` of the stage)"),
        ("endless", 0.2, "0.2 CPU seconds (`deadline_seconds` of the stage)"),
    ],
)
def test_a_stage_that_passes_a_limit_on_every_row_is_the_stages_fault(go, stage, seconds, limit):
    """The error names the limit, its value and what to raise."""
    with pytest.raises(StageError, match=f"stage `{stage}` fails on every row") as caught:
        go({"text": ["sound"] * 3}, [{stage: {"deadline_seconds": seconds}}])
    assert caught.value.what.endswith(f"took more than {limit}")
    assert limit.partition("`")[2].partition("`")[0] in caught.value.hint


def test_a_stage_that_cannot_do_most_of_its_rows_says_so(go):
    result, out = go({"text": ["poison 1", "poison 2", "fine"]}, ["picky"])
    assert (result.rows.kept, result.exit) == (1, 4)
    (warning,) = [
        line
        for line in (out / "_curate/log").glob("*")
        for line in line.read_text().splitlines()
        if "could not do" in line
    ]
    assert "stages[0] (picky) could not do 2 of its 3 rows" in warning
    assert "ValueError: cannot do poison 1" in warning


@pytest.mark.parametrize(
    ("how", "problem"),
    [("short", "returned 2 rows for 3"), ("swapped", "changed the order or the ids of rows"), ("none", "returned NoneType"),
     ("more", "returned the columns"), ("other", "wrote `wrong_done` as string, declared is bool")],
)  # fmt: skip
def test_a_stage_that_breaks_its_contract_is_named_with_a_row(go, how, problem):
    with pytest.raises(StageError, match=f"stage `wrong` {problem}.* begins with row `r1`") as caught:
        go({"id": ["r1", "r2", "r3"], "text": ["a", "b", "c"]}, [{"wrong": {"how": how}}], input_id="id")
    assert (caught.value.where, caught.value.exit_code) == ("stages[0]", 2)
    assert "mend it and run again" in caught.value.hint


def test_many_rows_that_all_pass_a_limit_stop_their_unit(go, tmp_path, monkeypatch):
    """Not only at the end of the pass: many is 2 here, and the third row is never tried."""
    monkeypatch.setattr(isolate, "MANY", 2)
    tree = Tree({"input": {"path": "in"}, "stages": [{"greedy": {"deadline_seconds": 60.0}}]}, "recipe")
    (step,) = from_tree(tree, output="out").steps
    stage = isolate.Isolated(step, str(tmp_path), [(str(tmp_path / "my_stages.py"), "")], RowLimits(step))
    batch = pa.record_batch({"id": ["a", "b", "c"], "text": ["x", "y", "z"]})
    with pytest.raises(StageError, match=r"stage `greedy` fails on every row, .*: took more than 300 MB"):
        stage(batch)
    stage.close()


def test_a_stage_whose_model_is_above_its_memory_cap_stops_the_run_at_once(go):
    with pytest.raises(StageError, match="`greedy` takes more than 300 MB before its first row") as caught:
        go({"text": ["sound", "also sound"]}, [{"greedy": {"load_mb": 400}}])
    assert "max_memory_mb" in caught.value.hint


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
