"""Keeps one of the rows whose text is the same, byte for byte.

Method  128-bit xxh3 of the bytes, sorted out of core; two different texts meet with odds below 1e-18 at 1e10 rows
Reads   the column named by `column` (default text), nulls allowed; `date` for `keep: newest`
Writes  exact_dedup_cluster_size  int64 (n,), rows that had this text, 1 and more; null where the column is null
        exact_dedup_cluster_id    string (n,), id of the row that was kept
Rows    drops all but one of a cluster: drop_reason `duplicate`, kept_id the survivor.
        `keep` chooses: first in input order, longest text, or newest date (then first)
Differs rows with a null in the column are all kept
Fails   ConfigError at plan when the column is not there, is a list, struct or map (which have no bytes of their
        own), or is called `order`; when `keep: newest` has no `date`, or one that is no text
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from curate.errors import ConfigError
from curate.schema import text_buffers
from curate.stage import Inputs, Out, Phase, Task, global_stage

HASH_KEY = ("high", "low", "rank", "order")
RECORD = pa.schema({"order": pa.uint64(), "id": pa.string()})


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    keep: Literal["first", "longest", "newest"] = "first"  # which row of a cluster survives
    column: str = "text"  # rows are the same when this column is


def columns_read(config: Config) -> list[str]:
    return [
        config.column,
        *(["date"] if config.keep == "newest" else []),
        *(["text"] if config.keep == "longest" else []),
    ]


def check(config: Config, columns: Mapping[str, pa.DataType]) -> None:
    """Refuse a column whose values cannot be compared byte for byte, and a date that is no text."""
    fit = [name for name, kind in columns.items() if is_comparable(kind) and name != "order"]
    if config.column == "order":
        hint = "call it otherwise: `input: {columns: {other_name: order}}`"
        raise ConfigError("`column: order` is the row's place in the run, not the input's column", hint=hint)
    if config.column not in fit:
        raise ConfigError(
            f"`column: {config.column}` is {columns[config.column]}, which cannot be compared byte for byte",
            hint=f"columns that can: {', '.join(fit)}",
        )
    check_date(config.keep, columns)


def check_date(keep: str, columns: Mapping[str, pa.DataType]) -> None:
    """Refuse a date that is no text where the newest row is kept."""
    if keep == "newest" and columns["date"] not in (pa.string(), pa.large_string()):
        raise ConfigError(
            f"`keep: newest` needs `date` as text, and it is {columns['date']}",
            hint="write it as 2026-11-20 or 2026-11-20T08:00:00Z",
        )


def is_comparable(kind: pa.DataType) -> bool:
    """Texts, bytes, numbers, and what is a moment or a day."""
    tests = (
        pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary, pa.types.is_integer,
        pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal, pa.types.is_date, pa.types.is_time,
        pa.types.is_timestamp,
    )  # fmt: skip
    return any(test(kind) for test in tests)


def hash_rows(task: Task, inputs: Inputs, out: Out, config: Config) -> Mapping[str, int]:
    """Per unit: one record per distinct text, its best row and how many there are, sorted by hash."""
    for batch in inputs.batches():
        high, low, valid = digests(batch.column(config.column))
        table = pa.table({
            "high": high, "low": low, "rank": rank(batch, config.keep), "order": batch.column("order"),
            "id": batch.column("id"),
        })  # fmt: skip
        out.write(table.filter(pa.array(valid)))
    return {}


def group(task: Task, inputs: Inputs, out: Out, config: Config) -> Mapping[str, int]:
    """Per hash range: each row that goes, with who is kept; each row kept for others, with how many they are."""
    clusters = Clusters()
    for table in inputs.merged():
        out.write(clusters.next(table))
    out.write(clusters.end())
    return {"dropped": clusters.dropped}


def apply(task: Task, inputs: Inputs, out: Out, config: Config) -> Mapping[str, int]:
    """Per unit: keep winners and rows alone, drop the others."""
    keep_winners(inputs, out, "exact_dedup", lambda batch: batch.column(config.column).is_null())
    return {}


def keep_winners(
    inputs: Inputs, out: Out, name: str, missing: Callable[[pa.RecordBatch], pa.BooleanArray]
) -> None:
    """Keep rows as the records of `group` say, with the size and id of their cluster; null for rows that are `missing`."""
    records = Upcoming(inputs.merged())
    for batch in inputs.batches():
        order = batch.column("order").to_numpy()
        found = records.up_to(int(order[-1])) if len(order) else None
        kept_id, size = batch.column("id"), pa.array(np.ones(len(order), np.int64))
        if found is not None:
            index = np.searchsorted(found["order"].to_numpy(), order)
            index[index == found.num_rows] = 0
            hit = found["order"].to_numpy()[index] == order
            take = pa.array(index, mask=~hit)
            kept_id = pc.coalesce(found["kept_id"].combine_chunks().take(take), kept_id)
            size = pc.coalesce(found["size"].combine_chunks().take(take), size)
        without = missing(batch)
        size = pc.if_else(without, pa.scalar(None, pa.int64()), size)
        cluster = pc.if_else(without, pa.scalar(None, pa.string()), kept_id)
        marked = batch.append_column(f"{name}_cluster_size", size).append_column(
            f"{name}_cluster_id", cluster
        )
        survives = pc.equal(kept_id, batch.column("id"))
        out.keep(marked.filter(survives))
        lost = batch.filter(pc.invert(survives))
        reasons = pa.array(["duplicate"] * lost.num_rows, pa.string())
        out.drop(lost, {"drop_reason": reasons, "kept_id": kept_id.filter(pc.invert(survives))})


exact_dedup = global_stage(
    "exact_dedup", version=1, config=Config, reads=columns_read, libraries=["xxhash"],
    writes={"exact_dedup_cluster_size": pa.int64(), "exact_dedup_cluster_id": pa.string()},
    phases=[Phase(hash_rows, "units", HASH_KEY), Phase(group, "ranges", ("order",)), Phase(apply, "units")],
    check=check,
)  # fmt: skip


def digests(column: pa.Array) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64], npt.NDArray[np.bool_]]:
    """128-bit hash of each value in two halves, uint64 (n,) each, and which values are not null."""
    kinds = (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())
    if column.type not in kinds:
        column = column.cast(pa.string())
    data, offsets = text_buffers(column)
    view, cut, digest = memoryview(data.data), offsets.tolist(), xxhash.xxh3_128_digest
    joined = b"".join([digest(view[a:b]) for a, b in itertools.pairwise(cut)])
    halves = np.frombuffer(joined, ">u8").astype(np.uint64).reshape(-1, 2)
    return halves[:, 0], halves[:, 1], column.is_valid().to_numpy(zero_copy_only=False)


def rank(batch: pa.RecordBatch, keep: str) -> npt.NDArray[np.int64]:
    """Smaller is better; ties go to the earlier row."""
    if keep == "longest":
        _, offsets = text_buffers(batch.column("text"))
        return -np.diff(offsets)
    if keep == "newest":
        return np.array([-date_key(d) for d in batch.column("date").to_pylist()], np.int64)
    return np.zeros(batch.num_rows, np.int64)


def date_key(date: str | None) -> int:
    """A date as a number that grows with time; 0 where there is none or it is no ISO date."""
    from datetime import UTC, datetime

    try:
        parsed = datetime.fromisoformat((date or "").strip())
    except ValueError:
        return 0
    zoned = parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    return max(1, int((zoned - datetime(1, 1, 1, tzinfo=UTC)).total_seconds()))


class Clusters:
    """Records in hash order, cut into clusters as they come; of the open cluster only its first row is held."""

    def __init__(self) -> None:
        self.dropped = 0
        self._open: pa.Table | None = None  # first row of the cluster that may go on
        self._size = 0

    def next(self, table: pa.Table) -> pa.Table:
        """What is known after these records: a row for each that goes (size 0) and for each finished winner."""
        if self._open is not None:
            table = pa.concat_tables([self._open, table])
        high, low = table["high"].to_numpy(), table["low"].to_numpy()
        starts = np.flatnonzero(np.append(True, (high[1:] != high[:-1]) | (low[1:] != low[:-1])))
        sizes = np.diff(np.append(starts, table.num_rows))
        sizes[0] += max(0, self._size - 1)  # rows of the open cluster that were seen before
        first = np.zeros(table.num_rows, np.bool_)
        first[starts] = True
        cluster = np.cumsum(first) - 1
        lasting = np.zeros(table.num_rows, np.int64)  # size, at the first row of each finished cluster
        lasting[starts[:-1]] = sizes[:-1]
        self._open, self._size = table.slice(int(starts[-1]), 1), int(sizes[-1])
        wanted = ~first | (lasting > 1)
        self.dropped += int((~first).sum())
        winners = pc.take(table["id"], pa.array(starts[cluster][wanted]))
        return pa.table(
            {"order": table["order"].filter(pa.array(wanted)), "kept_id": winners, "size": lasting[wanted]}
        )

    def end(self) -> pa.Table:
        """The winner of the last cluster."""
        several = self._open is not None and self._size > 1
        rows = self._open if self._open is not None and several else RECORD.empty_table()
        sizes = pa.array([self._size] if several else [], pa.int64())
        return pa.table({"order": rows["order"], "kept_id": rows["id"], "size": sizes})


class Upcoming:
    """Records in row order, given out as far as the rows have come."""

    def __init__(self, tables: Iterator[pa.Table]) -> None:
        self._tables, self._held = tables, None

    def up_to(self, order: int) -> Any:
        """Records of rows up to `order`; None where there are none."""
        ready = []
        while True:
            table = self._held if self._held is not None else next(self._tables, None)
            self._held = None
            if table is None:
                break
            count = int(np.searchsorted(table["order"].to_numpy(), order, side="right"))
            ready.append(table.slice(0, count))
            if count < table.num_rows:
                self._held = table.slice(count)
                break
        found = pa.concat_tables(ready) if ready else None
        return found if found is not None and found.num_rows else None
