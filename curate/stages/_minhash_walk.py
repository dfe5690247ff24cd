"""The walk over components as its records come: arrays that grow, and go to disk above a budget."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.schema import text_buffers
from curate.stages._minhash_links import array

DTYPES = {
    "order": np.uint64, "size": np.int64, "seen": np.int64, "found": np.int64, "shingles": np.uint32,
    "shingle_end": np.int64, "words": np.uint64, "word_end": np.int64, "ids": np.uint8, "id_end": np.int64,
    "keys": np.uint64, "heads": np.int64, "kept": np.int64, "next": np.int64, "slot": np.int64, "jaccard": np.float64,
}  # fmt: skip
TABLE = ("keys", "heads")
CHUNK = 1 << 17  # kept documents that are looked at at once
BY_ENTRY = ("kept", "next", "slot", "jaccard")
HEAPS = ("shingles", "words", "ids")

FATE = pa.schema(
    {
        "order": pa.uint64(),
        "kept_id": pa.string(),
        "kept": pa.uint64(),  # its order; of a document of an index its number, with OLD
        "jaccard": pa.float64(),
        "size": pa.int64(),
        "short": pa.bool_(),
    }
)


def packed(hashes: npt.NDArray[np.unsignedinteger], offsets: npt.NDArray[np.int64]) -> pa.Array:
    """Sets of numbers as bytes, large_binary (n,)."""
    cut = pa.py_buffer(np.ascontiguousarray(offsets * hashes.itemsize))
    return pa.Array.from_buffers(
        pa.large_binary(), len(offsets) - 1, [None, cut, pa.py_buffer(np.ascontiguousarray(hashes))]
    )


def unpacked(column: pa.ChunkedArray, kind: npt.DTypeLike = np.uint64) -> tuple[Any, npt.NDArray[np.int64]]:
    """What `packed` took; the offsets begin where the first set does."""
    data, offsets = text_buffers(column)
    size = np.dtype(kind).itemsize
    return data[: len(data) // size * size].view(kind), offsets // size


class Walk:
    """Decides every document of a range of components, table by table.

    Kept documents lie in arrays that grow, on disk where `memory` bytes do not hold them.
    """

    def __init__(self, threshold: float, most_novel: int, verify: bool, scratch: Path, memory: int) -> None:
        from curate.kernels.clusters import State

        self._rules = threshold, most_novel, verify
        self._scratch, self._memory, self._files = scratch, memory, 0
        self._on_disk: dict[str, Path] = {}
        lengths = dict.fromkeys(TABLE, 1 << 12)
        arrays = {name: np.zeros(lengths.get(name, 256), kind) for name, kind in DTYPES.items()}
        self._state = State(counts=np.zeros(11, np.int64), **arrays)
        self.dropped = 0

    def next(self, table: pa.Table) -> Iterator[pa.Table]:
        """Fates (FATE) of documents dropped among these, and of documents kept for others whose component is complete."""
        from curate.kernels.clusters import walk

        documents = _documents(table)
        kept_of, jaccard = np.empty(table.num_rows, np.int64), np.empty(table.num_rows)
        at = 0
        while (at := walk(documents, at, *self._rules, self._state, kept_of, jaccard)) < table.num_rows:
            self._grow(documents, at)
        lost = kept_of >= 0
        self.dropped += int(lost.sum())
        short = documents.bands[:, 0] == documents.digest
        yield self._fates(documents.order[lost], kept_of[lost], jaccard[lost], 0, short[lost])
        yield from self._winners()

    def end(self) -> Iterator[pa.Table]:
        """Fates of documents kept for others in the last component."""
        from curate.kernels.clusters import close

        close(self._state)
        yield from self._winners()

    def counts(self) -> dict[str, int]:
        from curate.kernels import clusters

        compared, verified = (int(self._state.counts[i]) for i in (clusters.COMPARED, clusters.VERIFIED))
        return {"compared": compared, "verified": verified, "dropped": self.dropped}

    def _winners(self) -> Iterator[pa.Table]:
        from curate.kernels import clusters

        state = self._state
        complete = int(state.counts[clusters.BASE])
        for begin in range(0, complete, CHUNK):  # one component may have more than memory holds
            numbers = begin + np.flatnonzero(state.size[begin : min(begin + CHUNK, complete)] > 1)
            yield self._fates(state.order[numbers], numbers, 1.0, state.size[numbers], False)
        clusters.forget(state)

    def _fates(self, order: Any, numbers: npt.NDArray[np.int64], *columns: Any) -> pa.Table:
        """Rows of FATE; `columns` are those after `kept`, or one value for all rows."""
        from curate.kernels.clusters import take_bytes

        ends = self._state.id_end
        begins = np.where(numbers > 0, ends[numbers - 1], 0)
        offsets = np.append(0, np.cumsum(ends[numbers] - begins))
        ids = np.empty(offsets[-1], np.uint8)
        take_bytes(ends, self._state.ids, numbers, ids)
        buffers = [None, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(ids)]
        kept_id = pa.Array.from_buffers(pa.string(), len(numbers), buffers)
        rest = [self._state.order[numbers], *(np.broadcast_to(column, len(numbers)) for column in columns)]
        return pa.Table.from_arrays([order, kept_id, *map(np.ascontiguousarray, rest)], schema=FATE)

    def _grow(self, documents: Any, at: int) -> None:
        """Make room for one more document."""
        from curate.kernels.clusters import rehash

        state, needed = self._state, self._needed(documents, at)
        for name, size in needed.items():
            if name not in TABLE and len(old := getattr(state, name)) < size:
                new = self._array(name, max(size, 2 * len(old)))
                new[: len(old)] = old
                self._state = state = state._replace(**{name: new})
        if len(state.keys) < needed["keys"]:
            size = 1 << int(needed["keys"] * 2 - 1).bit_length()
            tables = {name: self._array(name, size) for name in TABLE}
            rehash(state, tables["keys"], tables["heads"])
            self._state = state._replace(**tables)

    def _needed(self, documents: Any, at: int) -> dict[str, int]:
        from curate.kernels import clusters

        counts = self._state.counts
        entries = int(counts[clusters.ENTRIES]) + documents.bands.shape[1] + 1
        offsets = {
            "shingles": documents.shingle_offsets,
            "words": documents.word_offsets,
            "ids": documents.id_offsets,
        }
        used = {"shingles": clusters.SHINGLES, "words": clusters.WORDS, "ids": clusters.IDS}
        needed = dict.fromkeys(DTYPES, int(counts[clusters.KEPT]) + 1)
        needed |= dict.fromkeys(BY_ENTRY, entries) | dict.fromkeys(TABLE, 2 * entries)
        return needed | {n: int(counts[used[n]] + offsets[n][at + 1] - offsets[n][at]) for n in HEAPS}

    def _array(self, name: str, size: int) -> npt.NDArray[Any]:
        dtype = np.dtype(DTYPES[name])
        held = sum(getattr(self._state, n).nbytes for n in DTYPES if n not in self._on_disk and n != name)
        on_disk = held + size * dtype.itemsize > self._memory
        if old := self._on_disk.pop(name, None):
            old.unlink()  # what is mapped stays until nobody looks at it
        if on_disk:
            self._files += 1
            self._on_disk[name] = self._scratch / f"{name}-{self._files}"
        return array(self._on_disk.get(name, self._scratch), size, dtype, on_disk)


def _documents(table: pa.Table) -> Any:
    from curate.kernels.clusters import Documents
    from curate.kernels.strings import frozen

    shingles, words = unpacked(table["shingles"], np.uint32), unpacked(table["words"])
    bands, starts = unpacked(table["bands"])
    whole = bands[starts[0] : starts[-1]].reshape(table.num_rows, -1)
    columns = (table[name].to_numpy() for name in ("component", "order", "digest"))
    return Documents(*map(frozen, (*columns, whole, *shingles, *words, *text_buffers(table["id"]))))


def tables(walk: Walk, records: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """All fates of a range."""
    for table in records:
        yield from walk.next(table)
    yield from walk.end()
