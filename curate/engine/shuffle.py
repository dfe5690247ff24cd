"""Sorted record files between the phases of a global stage.

Each task writes one Parquet file sorted by the phase's key; the statistics of its small row groups are the range
index. A later task merges the rows of one range of the first key column out of at most MAX_FILES such files, holding one
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

MAX_FILES = 32  # merged at once; more are merged in rounds
ROW_GROUP_BYTES = 256 << 10  # one is held of each file: small, so that memory is flat
RUN_BYTES = 64 << 20  # sorted in memory at once, unless said otherwise
STEP_BYTES = 2 << 20  # merged, or taken into order, at a time: it stands in memory three times
U64_MAX = 2**64 - 1

Bound = tuple[int, ...]


def sort(table: pa.Table, key: Sequence[str]) -> pa.Table:
    """The table in key order (stable)."""
    return table.combine_chunks().take(pa.array(_order(table, key)))


def _order(table: pa.Table, key: Sequence[str]) -> npt.NDArray[np.int64]:
    """Row numbers in key order, (n,)."""
    first = table[key[0]].to_numpy()
    order = np.argsort(first)
    ordered = first[order]
    same = ordered[1:] == ordered[:-1]
    tied = np.flatnonzero(np.append(same, False) | np.append(False, same))
    if len(tied):  # few where keys are hashes
        rows = np.sort(order[tied])
        columns = [table[name].to_numpy()[rows] for name in reversed(key)]
        order[tied] = rows[np.lexsort(columns)]
    return order


class SortedWriter:
    """Collects records in any order and leaves one sorted Parquet file; spills sorted runs to `scratch`."""

    def __init__(self, sink: Any, key: Sequence[str], scratch: Path, run_bytes: int = 0) -> None:
        self.key, self.rows, self._run_bytes = tuple(key), 0, run_bytes or RUN_BYTES
        self._sink, self._scratch = sink, scratch
        self._tables: list[pa.Table] = []
        self._bytes = 0
        self._runs: list[Path] = []

    def write(self, table: pa.Table) -> None:
        """Add records."""
        self._tables.append(table)
        self._bytes += table.nbytes
        self.rows += table.num_rows
        if self._bytes > self._run_bytes:
            self._spill()

    def write_sorted(self, tables: Iterator[pa.Table]) -> None:
        """Write all records at once, which come in the order of the key: nothing is held of them."""

        def counted() -> Iterator[pa.Table]:
            for table in tables:
                self.rows += table.num_rows
                yield table

        _write(self._sink, counted())

    def add_sorted(self, run: Path) -> None:
        """Add the records of a file that is sorted already; it is removed once they are merged."""
        self._runs.append(run)

    def close(self) -> None:
        """Sort what is left, merge it with the spilled runs and write the file; nothing is written without rows."""
        if not self._runs:
            if self._tables and self.rows:
                _write(self._sink, self._sorted())
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
                _write(file, self._sorted())
            self._runs.append(run)

    def _sorted(self) -> Iterator[pa.Table]:
        # what was written since the last spill; as it came it is let go of first
        table = pa.concat_tables(self._tables).combine_chunks()
        self._tables, self._bytes = [], 0
        order = _order(table, self.key)
        step = max(1, len(order) * STEP_BYTES // max(1, table.nbytes))
        for begin in range(0, len(order), step):
            yield table.take(pa.array(order[begin : begin + step]))

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
    """Write tables that are in key order; row groups are cut by the size of the rows alone."""
    writer: pq.ParquetWriter | None = None
    held: list[pa.Table] = []
    size = 0.0
    for table in tables:
        writer = writer or _writer(sink, table.schema)
        ends = np.cumsum(_row_bytes(table))
        begin, done = 0, -size  # of the open row group, in this table
        while len(ends) and ends[-1] - done >= ROW_GROUP_BYTES:
            end = int(np.searchsorted(ends, done + ROW_GROUP_BYTES)) + 1
            writer.write_table(pa.concat_tables([*held, table.slice(begin, end - begin)]).combine_chunks())
            held, begin, done = [], end, float(ends[end - 1])
        if begin < table.num_rows:
            held.append(table.slice(begin))
            size = float(ends[-1]) - done
        elif not held:
            size = 0.0
    if writer:
        if held:
            writer.write_table(pa.concat_tables(held).combine_chunks())
        writer.close()


def _writer(sink: Any, schema: pa.Schema) -> pq.ParquetWriter:
    # bytes are numbers that nothing makes smaller; of sorted integers all first bytes are alike
    packed = {f.name: "none" if pa.types.is_large_binary(f.type) else "zstd" for f in schema}
    integers = [f.name for f in schema if pa.types.is_integer(f.type)]
    return pq.ParquetWriter(
        sink, schema, compression=packed, compression_level={n: 1 for n, c in packed.items() if c == "zstd"},
        use_dictionary=False, use_byte_stream_split=integers, write_page_checksum=True,
    )  # fmt: skip


def _row_bytes(table: pa.Table) -> npt.NDArray[np.float64]:
    """About how many bytes each row has, (n,)."""
    sizes = np.zeros(table.num_rows)
    for column in table.columns:
        if pa.types.is_binary(column.type) or pa.types.is_string(column.type) or _is_large(column.type):
            sizes += pc.fill_null(pc.binary_length(column), 0).to_numpy() + 8
        elif pa.types.is_primitive(column.type):
            sizes += column.type.bit_width / 8
        else:
            sizes += column.nbytes / max(1, table.num_rows)
    return sizes


def _is_large(kind: pa.DataType) -> bool:
    return bool(pa.types.is_large_binary(kind) or pa.types.is_large_string(kind))


def merge(files: Sequence[Any], key: Sequence[str], low: int = 0, high: int = U64_MAX) -> Iterator[pa.Table]:
    """Rows of sorted files with low <= key[0] <= high, in key order, in tables of bounded size.

    Equal keys come in the order of `files`. Holds one row group per file, and about STEP_BYTES of what it merges.
    """
    assert len(files) <= MAX_FILES
    heads = [_Head(_row_groups(file, key[0], low, high), len(files)) for file in files]
    while live := [head for head in heads if head.fill()]:
        # Up to the smallest last key of any head, everything that can come is already here.
        bound = min(_last_key(head.rows, key) for head in live)
        ready = [rows for head in live if (rows := head.up_to(key, bound)).num_rows]
        yield ready[0] if len(ready) == 1 else sort(pa.concat_tables(ready), key)


class _Head:
    """The next rows of a file: a step of them or up to two, where so many are left."""

    def __init__(self, groups: Iterator[pa.Table], files: int) -> None:
        self._pieces, self.rows, self._step = self._cut(groups, files), pa.table({}), 1

    def _cut(self, groups: Iterator[pa.Table], files: int) -> Iterator[pa.Table]:
        for table in groups:
            self._step = max(1, table.num_rows * STEP_BYTES // (files * ROW_GROUP_BYTES))
            for begin in range(0, table.num_rows, self._step):
                yield table.slice(begin, self._step)

    def fill(self) -> bool:
        """Have a step of rows; whether there are any at all."""
        while self.rows.num_rows < self._step and (piece := next(self._pieces, None)) is not None:
            # copied, or the rest of a row group would hold all of it
            self.rows = pa.concat_tables([self.rows, piece]).combine_chunks() if self.rows.num_rows else piece
        return bool(self.rows.num_rows)

    def up_to(self, key: Sequence[str], bound: Bound) -> pa.Table:
        """Take the leading rows whose key is at most `bound`."""
        count = _count_up_to(self.rows, key, bound)
        taken, self.rows = self.rows.slice(0, count), self.rows.slice(count)
        return taken


def _row_groups(file: Any, column: str, low: int, high: int) -> Iterator[pa.Table]:
    reader = pq.ParquetFile(file, page_checksum_verification=True)
    index = reader.schema_arrow.get_field_index(column)
    groups, metadata = range(reader.num_row_groups), reader.metadata
    first = bisect.bisect_left(groups, low, key=lambda g: metadata.row_group(g).column(index).statistics.max)
    for group in groups[first:]:
        if metadata.row_group(group).column(index).statistics.min > high:
            break
        table = reader.read_row_group(group, use_threads=False)
        statistics = metadata.row_group(group).column(index).statistics
        if low <= statistics.min and statistics.max <= high:
            yield table
            continue
        kind = table.schema.field(column).type
        inside = pc.and_(
            pc.greater_equal(table[column], pa.scalar(low, kind)),
            pc.less_equal(table[column], pa.scalar(high, kind)),
        )
        table = table.filter(inside)
        if table.num_rows:
            yield table


def _last_key(table: pa.Table, key: Sequence[str]) -> Bound:
    return tuple(table[name][-1].as_py() for name in key)


def _count_up_to(table: pa.Table, key: Sequence[str], bound: Bound) -> int:
    """Number of leading rows whose key is at most `bound`."""
    begin, end = 0, table.num_rows
    for name, value in zip(key, bound, strict=True):
        column = table[name].to_numpy()[begin:end]
        value = column.dtype.type(value)
        begin, end = (begin + int(np.searchsorted(column, value, side)) for side in ("left", "right"))
    return int(end)


def key_ranges(rows: int, per_task: int) -> list[tuple[int, int]]:
    """Equal cuts of the uint64 key space so that a task sees about `per_task` records; bounds are inclusive."""
    count = max(1, min(4096, -(-rows // per_task)))
    edges = [U64_MAX * i // count for i in range(count + 1)]
    return [(edges[i] + (1 if i else 0), edges[i + 1]) for i in range(count)]


Merged = Callable[[], Iterator[pa.Table]]
