"""Row groups of the files a unit writes."""

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import curate.engine.run as engine
from curate.recipe.recipe import from_tree
from curate.recipe.tree import Tree
from curate.schema import row_bytes


def test_bytes_of_a_row_are_those_that_weigh():
    batch = pa.record_batch({
        "id": ["a", "b", "c"],
        "text": pa.array(["été", None, ""], pa.large_string()),
        "page": pa.array([b"x" * 5000, b"x" * 4000, None]),
        "tokens": pa.array([[1, 2, 3], [], None], pa.large_list(pa.uint16())),
        "tags": [["x" * 9000], [], []],
    })  # fmt: skip
    assert row_bytes(batch).tolist() == [5 + 5000 + 6, 0, 0]
    assert row_bytes(batch.slice(1)).tolist() == [0, 0]


@pytest.mark.parametrize("column", ["html", "page"])
def test_a_column_of_large_values_cuts_row_groups_whatever_its_name(tmp_path, column):
    rows, size = 60, 2 << 20
    pages = [os.urandom(size) for _ in range(rows)]
    table = pa.table({"id": [str(i) for i in range(rows)], "text": ["a text"] * rows, column: pages})
    pq.write_table(table, tmp_path / "in.parquet", compression="none")
    tree = {
        "input": {"path": str(tmp_path / "in.parquet"), "id": "id"},
        "stages": [{"select": "id <> '7'"}],
        "output": {"path": str(tmp_path / "out")},
    }
    result = engine.run(from_tree(Tree(tree, "recipe")), workers=1)
    assert result.rows.kept == rows - 1
    (part,) = (tmp_path / "out").glob("part-*")
    metadata = pq.read_metadata(part)
    sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    assert sizes == [16, 16, 16, 11]  # 32 MiB each
