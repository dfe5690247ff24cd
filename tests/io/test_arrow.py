"""Arrow files and streams as input: the rows of Parquet, and damage that is on record."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.engine import run as engine
from curate.engine.verify import verify
from curate.errors import ConfigError, DataError
from curate.recipe.recipe import from_tree
from curate.recipe.tree import Tree
from curate.schema import row_id


def write(path, table, *, stream=False, batch=10, compression=None):
    make = pa.ipc.new_stream if stream else pa.ipc.new_file
    with make(str(path), table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as out:
        out.write_table(table, max_chunksize=batch)


def rows(count=35):
    kinds = pa.array([f"kind {n % 3}" for n in range(count)]).dictionary_encode()
    return pa.table({
        "content": [None if n == 7 else f"row {n}" for n in range(count)],
        "name": [f"doc-{n}" for n in range(count)], "kind": kinds, "n": range(count),
    })  # fmt: skip


KEYS = {"columns": {"text": "content"}, "id": "name"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("compression", [None, "zstd"])
def test_rows_are_those_of_parquet(tmp_path, read_all, stream, compression):
    write(tmp_path / "a.arrow", rows(), stream=stream, compression=compression)
    pq.write_table(rows(), tmp_path / "a.parquet", row_group_size=10)
    found, wanted = (read_all(tmp_path / f"a.{ending}", **KEYS) for ending in ("arrow", "parquet"))
    assert found.rows == wanted.rows
    assert found.schema == wanted.schema
    assert found.ids == wanted.ids
    assert found.log.reasons == wanted.log.reasons == ["null_text"]
    assert [scan.rows for scan in found.scans] == [35]


@pytest.mark.parametrize("stream", [False, True])
def test_the_cut_into_units_changes_nothing(tmp_path, read_all, stream):
    write(tmp_path / "a.arrow", rows(), stream=stream)
    whole, cut = (read_all(tmp_path, unit_bytes=size, columns={"text": "content"}) for size in (1 << 20, 300))
    assert len(cut.slices) > len(whole.slices) == 1
    assert cut.rows == whole.rows
    assert whole.column("id")[0] == row_id("a.arrow", 0)


def test_a_file_of_text_under_another_ending(tmp_path, read_all):
    write(tmp_path / "data.bin", pa.table({"text": ["one", "two"]}))
    assert read_all(tmp_path / "data.bin", format="arrow").column("text") == ["one", "two"]


def test_a_file_that_breaks_off_is_one_row_of_quarantine(tmp_path, read_all):
    """A stream that ends within its third batch: the first two are read, the rest is on record."""
    write(tmp_path / "a.arrow", pa.table({"text": [f"row {n} " * 50 for n in range(30)]}), stream=True)
    content = (tmp_path / "a.arrow").read_bytes()
    (tmp_path / "a.arrow").write_bytes(content[: len(content) * 5 // 6])
    found = read_all(tmp_path)
    assert len(found.rows) == 20
    assert found.log.reasons == ["unreadable_file"]
    assert found.log.quarantined[0]["offset"] == 20
    (tmp_path / "a.arrow").write_bytes(b"no arrow")
    write(tmp_path / "b.arrow", pa.table({"text": ["good"]}))
    mixed = read_all(tmp_path)
    assert (mixed.column("text"), mixed.log.reasons) == (["good"], ["unreadable_file"])


def test_tokens_are_no_text(tmp_path, read_all):
    write(
        tmp_path / "part-00000.arrow",
        pa.table({"id": ["a"], "tokens": pa.array([[1, 2]], pa.large_list(pa.uint16()))}),
    )
    with pytest.raises(ConfigError, match="no column `text`; it has id, tokens"):
        read_all(tmp_path)


def test_one_column_of_two_types_names_both_files(tmp_path, read_all):
    write(tmp_path / "a.arrow", pa.table({"text": ["x"], "n": [1]}))
    pq.write_table(pa.table({"text": ["y"], "n": ["one"]}), tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"`n` is int64 in `a\.arrow`"):
        read_all(tmp_path)


def test_what_a_run_wrote_as_arrow_is_the_input_of_another(tmp_path):
    """Its rows keep their ids, and the second run says the same as one that read Parquet."""
    pq.write_table(pa.table({"text": [f"text {n}" for n in range(50)]}), tmp_path / "in.parquet")

    def go(source, target, form):
        root = {"input": {"path": str(tmp_path / source)}, "stages": [{"sample": {}}, {"select": "sample_hash >= 0.5"}],
                "output": {"path": str(tmp_path / target), "format": form}, "store": str(tmp_path / f"store-{target}")}  # fmt: skip
        if source != "in.parquet":
            root["stages"] = [{"select": "length(text) > 0"}]
            root["guards"] = {"unchanged": "warn"}
        return engine.run(from_tree(Tree(root, "recipe")), workers=1)

    for form in ("arrow", "parquet"):
        go("in.parquet", f"first-{form}", form)
        go(f"first-{form}", f"second-{form}", "parquet")
    one, two = (pq.read_table(tmp_path / f"second-{form}") for form in ("arrow", "parquet"))
    assert one["id"].to_pylist() == two["id"].to_pylist()
    assert one["text"].to_pylist() == two["text"].to_pylist()
    assert verify(tmp_path / "second-arrow").problems == []
