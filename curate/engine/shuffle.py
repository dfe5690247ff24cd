"""Sorted record files between the phases of a global stage.

Each task writes one Parquet file sorted by the phase's key; the statistics of its small row groups are the range
index. A later task merges the rows of one range of the first key column out of at most 64 such files, holding one
row group of each. Key columns are integers, the first uint64.
"""

import bisect
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

MAX_FILES = 64  # merged at once; more are merged in rounds
ROW_GROUP_ROWS = 1_024  # of up to 64 files one is held: small, so that memory is flat
RUN_BYTES = 16 << 20  # sorted in memory at once
U64_MAX = 2**64 - 1

Bound = tuple[int, ...]


def sort(table: pa.Table, key: Sequence[str]) -> pa.Table:
    """The table in key order (stable)."""
    columns = [table[name].to_numpy() for name in reversed(key)]
    return table.take(pa.array(np.lexsort(columns)))


class SortedWriter:
    """Collects records in any order and leaves one sorted Parquet file; spills sorted runs to `scratch`."""

    def __init__(self, sink: Any, key: Sequence[str], scratch: Path) -> None:
        self.key, self.rows = tuple(key), 0
        self._sink, self._scratch = sink, scratch
        self._tables: list[pa.Table] = []
        self._bytes = 0
        self._runs: list[Path] = []

    def write(self, table: pa.Table) -> None:
        """Add records."""
        self._tables.append(table)
        self._bytes += table.nbytes
        self.rows += table.num_rows
        if self._bytes > RUN_BYTES:
            self._spill()

    def add_sorted(self, run: Path) -> None:
        """Add the records of a file that is sorted already; it is removed once they are merged."""
        self._runs.append(run)

    def close(self) -> None:
        """Sort what is left, merge it with the spilled runs and write the file; nothing is written without rows."""
        if not self._runs:
            if self.rows:
                _write(self._sink, iter([sort(pa.concat_tables(self._tables), self.key)]))
            return
        self._spill()
        while len(self._runs) > MAX_FILES:
            self._runs = [
                self._merge_runs(self._runs[i : i + MAX_FILES]) for i in range(0, len(self._runs), MAX_FILES)
            ]
        with ExitStack() as stack:
            _write(self._sink, merge([stack.enter_context(open(run, "rb")) for run in self._runs], self.key))
        self.abandon()

    def abandon(self) -> None:
        """Remove the spilled runs."""
        for run in self._runs:
            run.unlink(missing_ok=True)
        self._runs = []

    def _spill(self) -> None:
        if self._tables:
            run = self._next_run()
            with open(run, "wb") as file:
                _write(file, iter([sort(pa.concat_tables(self._tables), self.key)]))
            self._runs.append(run)
            self._tables, self._bytes = [], 0

    def _merge_runs(self, runs: list[Path]) -> Path:
        target = self._next_run()
        with ExitStack() as stack, open(target, "wb") as file:
            _write(file, merge([stack.enter_context(open(run, "rb")) for run in runs], self.key))
        for run in runs:
            run.unlink()
        return target

    def _next_run(self) -> Path:
        self._scratch.mkdir(parents=True, exist_ok=True)
        self._run_number = getattr(self, "_run_number", -1) + 1
        return self._scratch / f"run-{self._run_number:05d}"


def _write(sink: Any, tables: Iterator[pa.Table]) -> None:
    """Write tables that are in key order; row groups are cut by count alone."""
    writer, held = None, None
    for table in tables:
        held = pa.concat_tables([held, table]) if held is not None and held.num_rows else table
        writer = writer or pq.ParquetWriter(
            sink, table.schema, compression="zstd", compression_level=1, use_dictionary=False
        )
        while held.num_rows >= ROW_GROUP_ROWS:
            writer.write_table(held.slice(0, ROW_GROUP_ROWS).combine_chunks())
            held = held.slice(ROW_GROUP_ROWS)
    if writer:
        if held is not None and held.num_rows:
            writer.write_table(held.combine_chunks())
        writer.close()


def merge(files: Sequence[Any], key: Sequence[str], low: int = 0, high: int = U64_MAX) -> Iterator[pa.Table]:
    """Rows of sorted files with low <= key[0] <= high, in key order, in tables of bounded size.

    Equal keys come in the order of `files`. Holds one row group per file.
    """
    assert len(files) <= MAX_FILES
    readers = [_row_groups(file, key[0], low, high) for file in files]
    heads: list[pa.Table | None] = [next(reader, None) for reader in readers]
    while any(head is not None for head in heads):
        # Up to the smallest last key of any head, everything that can come is already here.
        bound = min(_key_at(head, key, -1) for head in heads if head is not None)
        ready = []
        for i, head in enumerate(heads):
            if head is None:
                continue
            count = _count_up_to(head, key, bound)
            if count:
                ready.append(head.slice(0, count))
            heads[i] = head.slice(count) if count < head.num_rows else next(readers[i], None)
        if ready:
            yield sort(pa.concat_tables(ready), key)


def _row_groups(file: Any, column: str, low: int, high: int) -> Iterator[pa.Table]:
    reader = pq.ParquetFile(file)
    index = reader.schema_arrow.get_field_index(column)
    groups, metadata = range(reader.num_row_groups), reader.metadata
    first = bisect.bisect_left(groups, low, key=lambda g: metadata.row_group(g).column(index).statistics.max)
    for group in groups[first:]:
        if metadata.row_group(group).column(index).statistics.min > high:
            break
        table = reader.read_row_group(group, use_threads=False)
        kind = table.schema.field(column).type
        inside = pc.and_(
            pc.greater_equal(table[column], pa.scalar(low, kind)),
            pc.less_equal(table[column], pa.scalar(high, kind)),
        )
        table = table.filter(inside)
        if table.num_rows:
            yield table


def _key_at(table: pa.Table, key: Sequence[str], row: int) -> Bound:
    return tuple(table[name][row].as_py() for name in key)


def _count_up_to(table: pa.Table, key: Sequence[str], bound: Bound) -> int:
    """Number of leading rows whose key is at most `bound`."""
    columns: list[npt.NDArray[Any]] = [table[name].to_numpy() for name in key]
    at_most = np.ones(table.num_rows, np.bool_)
    for column, value in zip(reversed(columns), reversed(bound), strict=True):
        value = column.dtype.type(value)
        at_most = (column < value) | ((column == value) & at_most)
    return int(at_most.sum())


def key_ranges(rows: int, per_task: int) -> list[tuple[int, int]]:
    """Equal cuts of the uint64 key space so that a task sees about `per_task` records; bounds are inclusive."""
    count = max(1, min(4096, -(-rows // per_task)))
    edges = [U64_MAX * i // count for i in range(count + 1)]
    return [(edges[i] + (1 if i else 0), edges[i + 1]) for i in range(count)]


Merged = Callable[[], Iterator[pa.Table]]
