"""Parquet: row-group ranges, the schema of a union of files, and damage that costs no more than it must."""

import random
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate.errors import ConfigError, DataError
from curate.io import inputs, slices
from curate.schema import row_id


def table(count: int, start: int = 0) -> pa.Table:
    return pa.table(
        {"text": [f"row {n} " + "x" * (n % 90) for n in range(start, start + count)], "n": range(count)}
    )


READER = """
import resource, sys
from pathlib import Path

from curate.io import inputs
from curate.io.slices import Input

config = Input(path=sys.argv[1])
root, files = inputs.list_files(config, Path("."))
schema = inputs.input_schema(root, files, config)
found = inputs.scan(files[0], config, schema, 256 << 20, lambda ordinal, id: None)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = sum(b.num_rows for b in inputs.read(root, found.slices, config, schema, None))
print(rows, before >> 10, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)
"""


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_a_row_group_larger_than_the_memory_of_a_worker_is_read(tmp_path, compression):
    """400 MB in one row group: the reader needs 120 MB more than the process that has only planned."""
    texts = [random.Random(i).randbytes(100_000).hex() for i in range(20)] * 100
    texts = [f"{i} {text}" for i, text in enumerate(texts)]
    pq.write_table(
        pa.table({"text": texts}), tmp_path / "a.parquet", compression=compression, use_dictionary=False
    )
    assert pq.read_metadata(tmp_path / "a.parquet").num_row_groups == 1
    done = subprocess.run(
        [sys.executable, "-c", READER, tmp_path / "a.parquet"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    rows, before, after = map(int, done.stdout.split())
    assert rows == 2000
    assert after - before < 200


def test_columns_by_hand(tmp_path, read_all):
    pq.write_table(
        pa.table(
            {
                "tags": [["a"], None],
                "licence": pa.array(["MIT", None]).dictionary_encode(),
                "text": pa.array(["one", "two"]).dictionary_encode(),
                "date": pa.array([0, None], pa.date32()),
                "id": [7, 8],
            }
        ),
        tmp_path / "a.parquet",
    )
    found = read_all(tmp_path / "a.parquet")
    assert found.schema == pa.schema(
        {"id": pa.string(), "text": pa.large_string(), "date": pa.string(), "license": pa.string(),
         "source_id": pa.string(), "tags": pa.list_(pa.string())}
    )  # fmt: skip
    assert found.rows == [
        {"id": row_id("a.parquet", 0), "text": "one", "date": "1970-01-01", "license": "MIT", "source_id": "7", "tags": ["a"]},
        {"id": row_id("a.parquet", 1), "text": "two", "date": None, "license": None, "source_id": "8", "tags": None},
    ]  # fmt: skip
    assert found.scans[0].rows == 2
    assert found.ids == []


def test_mapping(tmp_path, read_all):
    pq.write_table(
        pa.table({"doc": [5, None], "content": ["a", "b"], "lang": ["en", "de"], "url": ["u", "v"]}),
        tmp_path / "a.parquet",
    )
    found = read_all(tmp_path / "a.parquet", id="doc", columns={"text": "content", "lang_source": "lang"})
    assert found.rows == [{"id": "5", "text": "a", "url": "u", "lang_source": "en"}]
    assert found.ids == [(0, "5")]
    assert found.log.reasons == ["bad_id"]
    by_url = read_all(tmp_path / "a.parquet", id="url", columns={"text": "content"})
    assert by_url.column("id") == by_url.column("url") == ["u", "v"]


def test_a_mapped_column_that_one_file_has_is_null_in_the_others(tmp_path, read_all):
    pq.write_table(pa.table({"text": ["a"], "link": ["u"]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": ["b"]}), tmp_path / "b.parquet")
    found = read_all(str(tmp_path / "*.parquet"), columns={"url": "link"})
    assert found.column("url") == ["u", None]
    with pytest.raises(ConfigError, match="no file has a column `links`") as error:
        read_all(str(tmp_path / "*.parquet"), columns={"url": "links"})
    assert "link" in error.value.hint


@pytest.mark.parametrize(
    ("columns", "config", "what", "hint"),
    [
        ({"content": ["a"]}, {}, "no column `text`", "{text: content}"),
        ({"text": ["a"], "ident": ["b"]}, {"id": "idnt"}, "no column `idnt`", "`ident`"),
        ({"text": [1]}, {}, "`text` must be a string", "columns:"),
        ({"text": ["a"], "id": [1.5]}, {"id": "id"}, "`id` must be a string", "another"),
        ({"text": ["a"], "url": [["b"]]}, {}, "`url` must be a string", "{url_2: url}"),
        (
            {"text": ["a"], "body": ["b"]},
            {"columns": {"text": "body"}},
            "two columns for `text`",
            "{text_2: text}",
        ),
        ({"text": ["a"], "id": ["b"], "source_id": ["c"]}, {}, "two columns for `source_id`", "columns:"),
    ],
)
def test_columns_that_cannot_be(tmp_path, read_all, columns, config, what, hint):
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match=what) as error:
        read_all(tmp_path / "a.parquet", **config)
    assert "a.parquet" in error.value.what
    assert hint in error.value.hint


def test_files_whose_schemas_differ(tmp_path, read_all):
    pq.write_table(pa.table({"text": ["a"], "x": [1], "void": pa.nulls(1)}), tmp_path / "a.parquet")
    pq.write_table(
        pa.table({"y": ["z"], "text": pa.array(["b"], pa.large_string()), "void": [2.5]}),
        tmp_path / "b.parquet",
    )
    found = read_all(tmp_path)
    assert [{k: v for k, v in row.items() if k != "id"} for row in found.rows] == [
        {"text": "a", "x": 1, "void": None, "y": None},
        {"text": "b", "x": None, "void": 2.5, "y": "z"},
    ]
    pq.write_table(pa.table({"text": ["c"], "x": ["one"]}), tmp_path / "c.parquet")
    with pytest.raises(DataError, match=r"`x`.*int64.*a\.parquet.*string.*c\.parquet"):
        read_all(tmp_path)


def test_one_huge_file_is_many_units(tmp_path, read_all):
    pq.write_table(table(10_000), tmp_path / "a.parquet", row_group_size=500)
    whole = read_all(tmp_path / "a.parquet")
    assert [(s.start, s.stop, s.ordinal) for s in whole.slices] == [(0, 20, 0)]
    cut = read_all(tmp_path / "a.parquet", unit_bytes=whole.slices[0].bytes // 6, reading={"batch_rows": 77})
    assert len(cut.slices) >= 6
    assert [s.ordinal for s in cut.slices] == [500 * s.start for s in cut.slices]
    assert sum(s.bytes for s in cut.slices) == whole.slices[0].bytes
    assert cut.rows == whole.rows
    assert whole.column("id") == [row_id("a.parquet", n) for n in range(10_000)]
    assert max(b.num_rows for b in cut.batches) <= 77


def test_batches_are_bounded_in_bytes(tmp_path, read_all):
    texts = ["x" * size for size in [10, 5000, 3000, 3000, 9000, 1, 1, 1]]
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet")
    found = read_all(tmp_path / "a.parquet", reading={"batch_bytes": 6000})
    assert found.column("text") == texts
    assert all(b.num_rows == 1 or len("".join(b["text"].to_pylist())) <= 6000 for b in found.batches)


def test_bad_rows_in_row_order_whatever_the_batch(tmp_path, read_all):
    texts = [b"a", b"caf\xe9", None, b"x" * 100, b"b", b"\xff\xfe", None]
    bad = pa.array(texts, pa.binary())
    text = pa.Array.from_buffers(pa.string(), len(bad), bad.buffers())
    pq.write_table(pa.table({"text": text, "other": [b"1"] * 7}), tmp_path / "a.parquet")
    for batch_rows in (1, 2, 100):
        found = read_all(tmp_path / "a.parquet", reading={"max_document_bytes": 50, "batch_rows": batch_rows})
        assert found.column("text") == ["a", "b"]
        assert found.column("id") == [row_id("a.parquet", 0), row_id("a.parquet", 4)]
        assert [(q["offset"], q["reason"]) for q in found.log.quarantined] == [
            (1, "bad_utf8"), (2, "null_text"), (3, "too_long"), (5, "bad_utf8"), (6, "null_text")
        ]  # fmt: skip
        assert found.log.quarantined[0]["raw"] == b"caf\xe9"
        assert found.log.quarantined[0]["id"] == row_id("a.parquet", 1)


@pytest.mark.parametrize("type_", [pa.binary(), pa.large_binary(), pa.string()])
def test_pages(tmp_path, read_all, type_):
    pq.write_table(pa.table({"html": pa.array(["<p>", None, "<b>"], type_)}), tmp_path / "a.parquet")
    found = read_all(tmp_path / "a.parquet")
    assert found.schema.field("html").type == pa.large_binary()
    assert (found.column("html"), found.column("text")) == ([b"<p>", b"<b>"], [None, None])
    assert found.log.reasons == ["null_text"]


def corrupt_page(path, group: int, column: int = 0) -> None:
    at = pq.ParquetFile(path).metadata.row_group(group).column(column)
    data = bytearray(path.read_bytes())
    middle = at.data_page_offset + at.total_compressed_size * 2 // 3
    data[middle : middle + 8] = bytes(b ^ 0xFF for b in data[middle : middle + 8])
    path.write_bytes(data)


@pytest.mark.parametrize("compression", ["zstd", "snappy", "none"])
def test_a_corrupt_page_costs_the_rest_of_its_row_group(tmp_path, read_all, compression):
    path = tmp_path / "a.parquet"
    pq.write_table(
        table(9000), path, row_group_size=3000, compression=compression, use_dictionary=False,
        data_page_size=4096, write_page_checksum=True,
    )  # fmt: skip
    good = read_all(path)
    corrupt_page(path, 1)
    found = read_all(path)
    lost = [q["offset"] for q in found.log.quarantined]
    assert 500 < len(lost) < 2500
    assert lost == list(range(6000 - len(lost), 6000))
    assert set(found.log.reasons) == {"corrupt_row_group"}
    assert found.rows == [row for n, row in enumerate(good.rows) if n not in lost]
    assert [q["id"] for q in found.log.quarantined] == [good.rows[n]["id"] for n in lost]
    small = read_all(path, reading={"batch_rows": 111}, unit_bytes=1)
    assert (small.rows, small.log.quarantined) == (found.rows, found.log.quarantined)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not parquet at all", None])
def test_an_unreadable_file_is_one_row(tmp_path, read_all, content):
    pq.write_table(table(50), tmp_path / "a.parquet")
    pq.write_table(table(50), tmp_path / "b.parquet")
    whole = (tmp_path / "b.parquet").read_bytes()
    (tmp_path / "b.parquet").write_bytes(whole[:-100] if content is None else content)
    found = read_all(tmp_path)
    assert len(found.rows) == 50
    assert [(q["reason"], q["source"], q["id"]) for q in found.log.quarantined] == [
        ("unreadable_file", "b.parquet", row_id("b.parquet", 0))
    ]
    (tmp_path / "a.parquet").unlink()
    with pytest.raises(DataError, match="none of the 1 files"):
        read_all(tmp_path)


def test_a_file_that_changed_is_an_error(tmp_path, read_all):
    pq.write_table(table(50), tmp_path / "a.parquet", row_group_size=10)
    found = read_all(tmp_path / "a.parquet")
    for change in ((tmp_path / "a.parquet").unlink, lambda: (tmp_path / "a.parquet").write_bytes(b"x")):
        change()
        with pytest.raises(DataError, match=r"a\.parquet"):
            list(inputs.read(found.root, found.slices, found.config, found.schema, found.log))
    pq.write_table(table(50), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet"):
        list(inputs.read(found.root, found.slices, found.config, found.schema, found.log))


def test_no_rows(tmp_path, read_all):
    pq.write_table(table(0), tmp_path / "a.parquet")
    found = read_all(tmp_path / "a.parquet")
    assert found.rows == []
    assert found.scans[0].rows == 0


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.one_of(st.none(), st.text(max_size=30)), max_size=60),
    st.integers(1, 20), st.integers(1, 2000), st.integers(1, 30), st.integers(20, 500),
)  # fmt: skip
def test_any_cut_gives_the_same_rows(tmp_path, read_all, texts, group, unit_bytes, batch_rows, batch_bytes):
    pq.write_table(
        pa.table({"text": pa.array(texts, pa.string())}), tmp_path / "a.parquet", row_group_size=group
    )
    found = read_all(
        tmp_path / "a.parquet",
        unit_bytes=unit_bytes,
        reading={"batch_rows": batch_rows, "batch_bytes": batch_bytes},
    )
    assert found.column("text") == [text for text in texts if text is not None]
    assert found.log.reasons == ["null_text"] * texts.count(None)
    assert found.column("id") == [row_id("a.parquet", n) for n, text in enumerate(texts) if text is not None]


def test_row_ids_are_those_of_the_schema():
    assert slices.row_ids("a/é.parquet", 5, 3) == [row_id("a/é.parquet", n) for n in (5, 6, 7)]


def test_real_corpora_as_pyarrow_reads_them(shared_data, read_all):
    for folder in ("text/en_py*", "html/article*", "code"):
        found = read_all(shared_data / folder)
        ours = pa.Table.from_batches(found.batches)
        theirs = pa.concat_tables([pq.read_table(f.path) for f in found.files], promote_options="permissive")
        for name, original in {
            "text": "text",
            "source_id": "id",
            "license": "licence",
            "html": "html",
        }.items():
            if original in theirs.column_names:
                assert ours[name].combine_chunks() == theirs[original].cast(ours[name].type).combine_chunks()
        assert not found.log.quarantined


def test_reading_is_near_pyarrows_own_speed(tmp_path, read_all):
    texts = [f"{n} " + "some words of text " * 100 for n in range(20_000)]
    pq.write_table(
        pa.table({"text": texts}), tmp_path / "a.parquet", row_group_size=4096, use_dictionary=False
    )
    found = read_all(tmp_path / "a.parquet")

    def bare() -> None:
        for _ in pq.ParquetFile(tmp_path / "a.parquet", memory_map=True).iter_batches(
            4096, use_threads=False
        ):
            pass

    def ours() -> None:
        for _ in inputs.read(found.root, found.slices, found.config, found.schema, found.log):
            pass

    def seconds(work) -> float:
        best = 1e9
        for _ in range(5):
            start = time.process_time()
            work()
            best = min(best, time.process_time() - start)
        return best

    assert seconds(ours) < 2.5 * seconds(bare)


@pytest.mark.parametrize("write_statistics", [True, False])
def test_the_scan_reports_the_ids_of_rows_alone(tmp_path, read_all, write_statistics):
    """By footer and text: null, too long, no id, an id that is not UTF-8; html stands for text."""
    ids = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff")]
    )
    for name, columns in (
        ("a", {"key": ["x", "x", "y", None], "text": [None, "t" * 200, "good", "no id"]}),
        ("b", {"key": ids, "text": ["no such id"]}),
        ("c", {"key": ["x", "z", "v"], "text": ["good", None, None], "html": [None, b"<p>", None]}),
    ):
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet", write_statistics=write_statistics)
    found = read_all(tmp_path, id="key", reading={"max_document_bytes": 100})
    assert found.log.reasons == ["null_text", "too_long", "bad_id", "bad_utf8", "null_text"]
    assert found.ids == [(2, "y"), (0, "x"), (1, "z")]
    assert found.column("id") == ["y", "x", "z"]
