"""Sorted record files: by hand, and against plain sorting for any cut, spill and range."""

import io
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.engine import shuffle
from curate.engine.shuffle import U64_MAX, SortedWriter, key_ranges, merge

KEY = ("high", "rank", "order")
U64, I64 = st.integers(0, U64_MAX), st.integers(-(2**63), 2**63 - 1)
# A few values that meet often, and any other.
RECORDS = st.lists(
    st.tuples(st.sampled_from([0, 1, U64_MAX]) | U64, st.sampled_from([-1, 0]) | I64), max_size=60
)


def table_of(records, start=0):
    high = pa.array([r[0] for r in records], pa.uint64())
    rank = pa.array([r[1] for r in records], pa.int64())
    order = pa.array(range(start, start + len(records)), pa.uint64())
    return pa.table(
        {"high": high, "rank": rank, "order": order, "id": [f"id-{start + i}" for i in range(len(records))]}
    )


def sorted_file(tables, scratch) -> io.BytesIO:
    sink = io.BytesIO()
    writer = SortedWriter(sink, KEY, scratch)
    for table in tables:
        writer.write(table)
    writer.close()
    sink.seek(0)
    return sink


def rows_of(tables):
    return [tuple(row.values()) for table in tables for row in table.to_pylist()]


def test_by_hand(tmp_path):
    first = sorted_file([table_of([(5, 0), (1, 2)]), table_of([(1, 1)], 2)], tmp_path)
    second = sorted_file([table_of([(5, 0), (3, 0)], 3)], tmp_path)
    found = rows_of(merge([first, second], KEY))
    assert found == [
        (1, 1, 2, "id-2"),
        (1, 2, 1, "id-1"),
        (3, 0, 4, "id-4"),
        (5, 0, 0, "id-0"),
        (5, 0, 3, "id-3"),
    ]
    assert rows_of(merge([first, second], KEY, low=2, high=3)) == [(3, 0, 4, "id-4")]
    assert rows_of(merge([first, second], KEY, low=6)) == []


def test_a_merge_gives_out_small_tables_and_few_of_them(tmp_path, monkeypatch):
    """Whether the keys of the files lie among each other or one file after the other."""
    monkeypatch.setattr(shuffle, "STEP_BYTES", shuffle.ROW_GROUP_BYTES)
    for spread in (1, 10**9):
        files = [
            sorted_file([table_of([(n * 8 + f * spread, 0) for n in range(20_000)])], tmp_path)
            for f in range(8)
        ]
        sizes = [table.num_rows for table in merge(files, KEY)]
        group = pq.ParquetFile(files[0]).metadata.row_group(0).num_rows
        assert sum(sizes) == 160_000
        assert max(sizes) <= 2 * group
        assert len(sizes) < (2 if spread == 1 else 12) * 160_000 / group


def test_nothing_written_is_no_file(tmp_path):
    assert sorted_file([], tmp_path).getvalue() == b""
    assert rows_of(merge([], KEY)) == []


@settings(deadline=None)
@given(files=st.lists(RECORDS, min_size=1, max_size=5), cut=st.integers(1, 9), bounds=st.tuples(U64, U64))
def test_a_merge_is_a_sort(tmp_path_factory, files, cut, bounds):
    """Whatever the files, the row groups, the spilled runs and the range."""
    scratch = tmp_path_factory.mktemp("runs")
    low, high = min(bounds), max(bounds)
    sinks, expected, start = [], [], 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shuffle, "ROW_GROUP_BYTES", 150)
        patch.setattr(shuffle, "STEP_BYTES", 300)  # a few records of each file
        patch.setattr(shuffle, "RUN_BYTES", 100)  # a run after every few records ...
        patch.setattr(shuffle, "MAX_FILES", 3)  # ... so that runs are merged in rounds
        for number, records in enumerate(files):
            whole = table_of(records, start)
            pieces = [whole.slice(i, cut) for i in range(0, len(records), cut)]
            if records:
                sinks.append(sorted_file(pieces, scratch / str(number)))
            expected += [(*r, start + i, f"id-{start + i}") for i, r in enumerate(records)]
            start += len(records)
        patch.setattr(shuffle, "MAX_FILES", 5)
        expected.sort()
        assert rows_of(merge(sinks, KEY)) == expected
        inside = [row for row in expected if low <= row[0] <= high]
        assert rows_of(merge(sinks, KEY, low, high)) == inside
    assert not [p for p in Path(scratch).rglob("*") if p.is_file()]


def test_row_groups_and_bytes_do_not_depend_on_the_spills(tmp_path, monkeypatch):
    draw = np.random.default_rng(0)
    records = [(int(h), 0) for h in draw.integers(0, 2**63, 50_000)]
    whole = sorted_file([table_of(records)], tmp_path).getvalue()
    monkeypatch.setattr(shuffle, "RUN_BYTES", 100_000)
    pieces = sorted_file(
        [table_of(records[i : i + 777], i) for i in range(0, 50_000, 777)], tmp_path
    ).getvalue()
    assert pieces == whole
    groups = pq.ParquetFile(io.BytesIO(whole)).metadata
    sizes = [groups.row_group(i).num_rows for i in range(groups.num_row_groups)]
    assert max(sizes) < 1.1 * min(sizes[:-1])
    assert len(sizes) > 3
    assert sum(sizes) == 50_000


@given(rows=st.integers(0, 10**9), per_task=st.integers(1, 10**7))
def test_ranges_cover_every_key_once(rows, per_task):
    ranges = key_ranges(rows, per_task)
    assert ranges[0][0] == 0
    assert ranges[-1][1] == U64_MAX
    assert all(before[1] + 1 == after[0] for before, after in pairwise(ranges))
    assert len(ranges) == max(1, min(4096, -(-rows // per_task)))


def test_a_range_looks_at_few_row_groups(tmp_path, monkeypatch):
    """A file has thousands, and is read by hundreds of ranges."""
    monkeypatch.setattr(shuffle, "ROW_GROUP_BYTES", 1)
    whole = sorted_file([table_of([(n // 2, 0) for n in range(1000)])], tmp_path)
    looked = []

    class Watched(pq.ParquetFile):
        @property
        def metadata(self):
            whole = super().metadata
            return SimpleNamespace(row_group=lambda group: looked.append(group) or whole.row_group(group))

    monkeypatch.setattr(shuffle.pq, "ParquetFile", Watched)
    assert [row[0] for row in rows_of(merge([whole], KEY, 300, 301))] == [300, 300, 301, 301]
    assert rows_of(merge([whole], KEY, 500, 600)) == []
    assert len(looked) < 30


def test_row_groups_are_cut_by_bytes_and_a_giant_is_one_alone(tmp_path):
    """Records of a few bytes and of a megabyte: no reader ever holds much more than the largest."""
    sizes = [10] * 3000 + [3 << 20] + [10] * 3000 + [1 << 20] * 3
    table = pa.table({
        "high": np.arange(len(sizes), dtype=np.uint64),
        "bytes": pa.array([b"x" * n for n in sizes], pa.large_binary()),
    })  # fmt: skip
    sink = io.BytesIO()
    writer = SortedWriter(sink, ("high",), tmp_path)
    for i in range(0, len(sizes), 1000):
        writer.write(table.slice(i, 1000))
    writer.close()
    found = pq.ParquetFile(sink)
    groups = [found.read_row_group(i) for i in range(found.num_row_groups)]
    assert pa.concat_tables(groups).equals(table)
    assert all(g.nbytes - len(g["bytes"][-1].as_py()) < shuffle.ROW_GROUP_BYTES for g in groups)


def test_a_flipped_byte_is_noticed_when_it_is_read(tmp_path):
    whole = bytearray(sorted_file([table_of([(n * 2**50, 0) for n in range(5000)])], tmp_path).getvalue())
    whole[1000] ^= 1
    with pytest.raises(OSError, match="checksum"):
        rows_of(merge([io.BytesIO(bytes(whole))], KEY))
