"""Keeps one of the rows whose text is the same, byte for byte.

Method  128-bit xxh3 of the bytes, sorted out of core; two different texts meet with odds below 1e-18 at 1e10 rows
Reads   the column named by `column` (default text), nulls allowed; `date` for `keep: newest`
Writes  exact_dedup_cluster_size  int64 (n,), rows that had this text, 1 and more; null where the column is null
        exact_dedup_cluster_id    string (n,), id of the row that was kept
Rows    drops all but one of a cluster: drop_reason `duplicate`, kept_id the survivor, drop_value the cluster's size.
        `keep` chooses: first in input order, longest text, or newest date (then first)
Differs rows with a null in the column are all kept
Fails   ConfigError at plan when the column is not there or `keep: newest` has no `date`
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from curate.schema import text_buffers
from curate.stage import Inputs, Out, Phase, Task, global_stage

HASH_KEY = ("high", "low", "rank", "order")


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    keep: Literal["first", "longest", "newest"] = "first"  # which row of a cluster survives
    column: str = "text"  # rows are the same when this column is


def columns_read(config: Config) -> list[str]:
    return [
        config.column,
        *(["date"] if config.keep == "newest" else []),
        *(["text"] if config.keep == "longest" else []),
    ]


def hash_rows(task: Task, inputs: Inputs, out: Out, config: Config) -> Mapping[str, int]:
    """Per unit: one record per distinct text, its best row and how many there are, sorted by hash."""
    for batch in inputs.batches():
        high, low, valid = digests(batch.column(config.column))
        table = pa.table({
            "high": high, "low": low, "rank": rank(batch, config), "order": batch.column("order"),
            "id": batch.column("id"),
        })  # fmt: skip
        out.write(table.filter(pa.array(valid)))
    return {}


def group(task: Task, inputs: Inputs, out: Out, config: Config) -> Mapping[str, int]:
    """Per hash range: for each row of a cluster of two or more, who is kept and how many they are."""
    clusters = rows = 0
    for cluster in repeated(inputs.merged()):
        clusters, rows = clusters + len(cluster.starts), rows + cluster.table.num_rows
        sizes = np.diff(np.append(cluster.starts, cluster.table.num_rows))
        winners = pc.take(cluster.table["id"], pa.array(np.repeat(cluster.starts, sizes)))
        out.write(
            pa.table({"order": cluster.table["order"], "kept_id": winners, "size": np.repeat(sizes, sizes)})
        )
    return {"clusters": clusters, "rows": rows}


def apply(task: Task, inputs: Inputs, out: Out, config: Config) -> Mapping[str, int]:
    """Per unit: keep winners and rows alone, drop the others."""
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
        missing = batch.column(config.column).is_null()
        nothing = pa.scalar(None, pa.int64())
        marked = batch.append_column("exact_dedup_cluster_size", pc.if_else(missing, nothing, size))
        marked = marked.append_column(
            "exact_dedup_cluster_id", pc.if_else(missing, pa.scalar(None, pa.string()), kept_id)
        )
        survives = pc.equal(kept_id, batch.column("id"))
        out.keep(marked.filter(survives))
        gone = pc.invert(survives)
        out.drop(batch.filter(gone), {
            "drop_reason": pa.array(["duplicate"] * pc.sum(gone).as_py(), pa.string()) if batch.num_rows else pa.nulls(0, pa.string()),
            "drop_value": size.filter(gone).cast(pa.float64()), "kept_id": kept_id.filter(gone),
        })  # fmt: skip
    return {}


exact_dedup = global_stage(
    "exact_dedup", version=1, config=Config, reads=columns_read, libraries=["xxhash"],
    writes={"exact_dedup_cluster_size": pa.int64(), "exact_dedup_cluster_id": pa.string()},
    phases=[Phase(hash_rows, "units", HASH_KEY), Phase(group, "ranges", ("order",)), Phase(apply, "units")],
)  # fmt: skip


def digests(column: pa.Array) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64], npt.NDArray[np.bool_]]:
    """128-bit hash of each value in two halves, uint64 (n,) each, and which values are not null."""
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        column = column.cast(pa.string())
    data, offsets = text_buffers(column)
    view, cut, digest = memoryview(data.data), offsets.tolist(), xxhash.xxh3_128_digest
    joined = b"".join([digest(view[a:b]) for a, b in itertools.pairwise(cut)])
    halves = np.frombuffer(joined, ">u8").astype(np.uint64).reshape(-1, 2)
    return halves[:, 0], halves[:, 1], column.is_valid().to_numpy(zero_copy_only=False)


def rank(batch: pa.RecordBatch, config: Config) -> npt.NDArray[np.int64]:
    """Smaller is better; ties go to the earlier row."""
    if config.keep == "longest":
        _, offsets = text_buffers(batch.column("text"))
        return -np.diff(offsets)
    if config.keep == "newest":
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
    """Rows of clusters of two or more, in hash order; `starts` are the winners' positions."""

    def __init__(self, table: pa.Table, starts: npt.NDArray[np.int64]) -> None:
        self.table, self.starts = table, starts


def repeated(tables: Iterator[pa.Table]) -> Iterator[Clusters]:
    """Cut sorted records into clusters, holding back the last hash of each table until it is whole."""
    held: pa.Table | None = None
    for table in tables:
        table = pa.concat_tables([held, table]) if held is not None else table
        high, low = table["high"].to_numpy(), table["low"].to_numpy()
        last = np.flatnonzero((high != high[-1]) | (low != low[-1]))
        cut = int(last[-1]) + 1 if len(last) else 0
        held = table.slice(cut)
        yield from _clusters(table.slice(0, cut))
    if held is not None:
        yield from _clusters(held)


def _clusters(table: pa.Table) -> Iterator[Clusters]:
    if table.num_rows < 2:
        return
    high, low = table["high"].to_numpy(), table["low"].to_numpy()
    new = np.append(True, (high[1:] != high[:-1]) | (low[1:] != low[:-1]))
    number = np.cumsum(new) - 1
    several = np.bincount(number)[number] > 1
    if several.any():
        yield Clusters(table.filter(pa.array(several)), np.flatnonzero(new[several]))


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
