"""Copies by cluster size: FineWeb2's table, ids, and what a whole run counts."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import curate
from curate.engine.freeze import surprises
from curate.engine.verify import verify
from curate.errors import ConfigError
from curate.recipe.recipe import from_tree
from curate.recipe.tree import Tree
from curate.stages.rehydrate import Config, rehydrate


def batch(sizes):
    ids = pa.array([f"row-{i}" for i in range(len(sizes))], pa.string())
    return pa.RecordBatch.from_pydict(
        {"id": ids, "text": ids, "minhash_dedup_cluster_size": pa.array(sizes, pa.int64())}
    )


def times(sizes, config=Config()):
    names = rehydrate(batch(sizes), config).column("text").to_pylist()
    return [names.count(f"row-{i}") for i in range(len(sizes))]


def test_the_table_of_fineweb2():
    assert times([1, 2, 3, 4, 5, 99, 100, 999, 1000, 10**6, None, 0]) == [1, 2, 3, 3, 5, 5, 8, 8, 1, 1, 1, 1]
    assert times([1, 9, 10], Config(weights=((1, 1), (10, 2)))) == [1, 1, 2]


def test_rows_stay_in_order_and_copies_name_their_parent():
    out = rehydrate(batch([2, 1, 3]), Config())
    assert out.column("text").to_pylist() == ["row-0", "row-0", "row-1", "row-2", "row-2", "row-2"]
    assert out.column("parent_id").to_pylist() == [None, "row-0", None, None, "row-2", "row-2"]
    assert [i for i in out.column("id").to_pylist() if i.startswith("row")] == ["row-0", "row-1", "row-2"]
    assert len(set(out.column("id").to_pylist())) == 6
    again = rehydrate(batch([2, 1, 3]).slice(2), Config())
    assert again.column("id").equals(out.column("id").slice(3))
    assert rehydrate(batch([]), Config()).num_rows == 0


def test_copies_by_another_column_have_other_ids():
    rows = batch([2]).append_column("exact_dedup_cluster_size", pa.array([2]))
    by_default = rehydrate(rows, Config()).column("id")[1]
    assert by_default != rehydrate(rows, Config(column="exact_dedup_cluster_size")).column("id")[1]


@pytest.mark.parametrize("weights", [(), ((2, 2),), ((1, 1), (1, 2)), ((1, 1), (5, 2), (3, 2)), ((1, 0),)])
def test_tables_that_are_none_are_refused(weights):
    with pytest.raises(ConfigError):
        Config(weights=weights)


def test_twice_by_the_same_column_makes_other_ids(tmp_path):
    path, twice = (
        tmp_path / "a.parquet",
        {"stage": "rehydrate", "name": "again", "column": "exact_dedup_cluster_size"},
    )
    pq.write_table(pa.table({"text": pa.array(["the same text"] * 2, pa.large_string())}), path)
    stages = [{"exact_dedup": {}}, {"rehydrate": {"column": "exact_dedup_cluster_size"}}, twice]
    curate.run(
        {"input": {"path": str(path)}, "stages": stages, "output": {"path": str(tmp_path / "out")}}, workers=1
    )
    ids = pq.read_table(tmp_path / "out" / "part-00000.parquet")["id"].to_pylist()
    assert len(ids) == len(set(ids)) == 4


def test_a_dedup_behind_it_is_warned_about():
    def told(*stages):
        tree = {"input": {"path": "in"}, "stages": list(stages), "output": {"path": "out"}}
        schema = pa.schema({"id": pa.string(), "text": pa.large_string()})
        return list(surprises([], schema, from_tree(Tree(tree, "recipe"))))

    copies = {"rehydrate": {"column": "exact_dedup_cluster_size"}}
    [warning] = told({"exact_dedup": {}}, copies, {"minhash_dedup": {}})
    assert "`minhash_dedup` comes after `rehydrate`" in warning
    assert not told({"exact_dedup": {}}, copies)


def test_a_run_counts_what_is_made_and_adds_up(tmp_path):
    (tmp_path / "in").mkdir()
    texts = ["the same text"] * 3 + ["another text"] * 2 + ["alone"]
    pq.write_table(pa.table({"text": pa.array(texts, pa.large_string())}), tmp_path / "in" / "a.parquet")
    recipe = {
        "input": {"path": str(tmp_path / "in")}, "output": {"path": str(tmp_path / "out")},
        "stages": [{"exact_dedup": {}}, {"rehydrate": {"column": "exact_dedup_cluster_size"}}, {"sample": {}},
                   {"select": "text <> 'alone'"}],
    }  # fmt: skip
    result = curate.run(recipe, workers=1)
    assert (result.rows.in_, result.rows.made, result.rows.kept) == (6, 3, 5)
    assert result.rows.dropped["exact_dedup"] == {"duplicate": 3}
    kept = pq.read_table(tmp_path / "out").to_pydict()
    assert kept["text"] == ["the same text"] * 3 + ["another text"] * 2
    assert len(set(kept["sample_hash"])) == 5  # copies are rows of their own to later stages
    assert not verify(str(tmp_path / "out")).problems


@pytest.mark.parametrize(
    ("stages", "what"),
    [
        ([{"stage": "rehydrate", "when": "text <> ''"}], "takes no `when`"),
        ([{"rehydrate": {"column": "text"}}], "`column: text` is large_string, no integer"),
    ],
)
def test_what_cannot_be_is_refused_at_plan(stages, what):
    from curate.engine.plan import check_schema
    from curate.recipe.recipe import from_tree
    from curate.recipe.tree import Tree

    schema = pa.schema({
        "id": pa.string(), "text": pa.large_string(), "minhash_dedup_cluster_size": pa.int64(),
    })  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        check_schema(from_tree(Tree({"input": {"path": "in"}, "stages": stages}, "recipe")), schema)
    assert what in caught.value.what
