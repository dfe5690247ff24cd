"""A run of the index: what was added at once, in flat files that are written front to back and mapped to be read.

    numbers     uint64 (n,)        of each document, ascending
    digests     uint64 (n,)        of its normalised words
    kept        bool (n,)          when the run was written; `changes` of the index come on top
    bands       uint64 (n, bands)  its band keys, the digest in each place where it is too short for a shingle
    sets        uint32             low halves of shingles, sorted and distinct per document; set p ends at set_ends[p]
    set_ends    int64 (n,)
    ids         uint8              UTF-8, one after the other; id p ends at id_ends[p]
    id_ends     int64 (n,)
    keys        uint64             the band keys once more, ascending: a delta is found by one scan of these
    positions   uint32             of the document of each key
    edges.parquet                  dropped, kept: uint64; jaccard: double; in the order of `dropped`

Flat files in place of Parquet: a mapped one gives a range of keys, or one document's set, without decoding a row group.
A run never changes. Until the manifest names it, it is garbage.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from curate.errors import DataError

DTYPES: dict[str, Any] = {
    "numbers": np.uint64, "digests": np.uint64, "kept": np.bool_, "bands": np.uint64, "sets": np.uint32,
    "set_ends": np.int64, "ids": np.uint8, "id_ends": np.int64, "keys": np.uint64, "positions": np.uint32,
}  # fmt: skip
EDGES = "edges.parquet"
EDGE_SCHEMA = pa.schema({"dropped": pa.uint64(), "kept": pa.uint64(), "jaccard": pa.float64()})
SORTED_KEYS = 4 << 20  # sorted in memory at once
PIECE_SHINGLES = 4 << 20  # read at once where a run is gone through
MERGED_KEYS = 1 << 18  # of each spilled piece held while they are merged

Hashes = npt.NDArray[np.uint64]
Halves = npt.NDArray[np.uint32]
Longs = npt.NDArray[np.int64]


class Part(msgspec.Struct, frozen=True):
    """Where the text of documents from a number on lay when they were added."""

    first: int
    paths: tuple[str, ...]  # files, in one of them


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """What the manifest says of a run."""

    name: str
    source: str  # names what was added
    documents: int
    kept: int
    edges: int
    bytes: dict[str, int]  # by file
    parts: tuple[Part, ...]


class Documents(NamedTuple):
    """n documents on their way into a run, in the order of their numbers."""

    numbers: Hashes
    digests: Hashes
    kept: npt.NDArray[np.bool_]
    bands: Hashes  # (n, bands)
    sets: Halves
    set_offsets: Longs  # (n + 1,)
    ids: npt.NDArray[np.uint8]
    id_offsets: Longs  # (n + 1,)


class RunWriter:
    """Writes a run into a new folder; memory is bounded, whatever comes."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder, self._files = folder, {n: open(folder / n, "wb") for n in DTYPES}  # noqa: SIM115
        self._edges_file = open(folder / EDGES, "wb")  # noqa: SIM115
        self._edges = pq.ParquetWriter(self._edges_file, EDGE_SCHEMA, compression="zstd")
        self._keys: list[tuple[Hashes, npt.NDArray[np.uint32]]] = []
        self._waiting = self._spills = 0
        self.documents = self.kept = self.edges = 0
        self._set_end = self._id_end = 0

    def add(self, documents: Documents) -> None:
        """Append documents."""
        d, n = documents, len(documents.numbers)
        if self.documents + n >= 1 << 32:
            raise DataError("a run of the index holds at most 2^32 documents", hint="add it in pieces")
        for name in ("numbers", "digests", "kept", "bands"):
            self._put(name, getattr(d, name))
        self._put("sets", d.sets[d.set_offsets[0] : d.set_offsets[-1]])
        self._put("ids", d.ids[d.id_offsets[0] : d.id_offsets[-1]])
        self._put("set_ends", self._set_end + d.set_offsets[1:] - d.set_offsets[0])
        self._put("id_ends", self._id_end + d.id_offsets[1:] - d.id_offsets[0])
        self._set_end += int(d.set_offsets[-1] - d.set_offsets[0])
        self._id_end += int(d.id_offsets[-1] - d.id_offsets[0])
        short = np.diff(d.set_offsets) == 0
        rows = np.concatenate([np.repeat(np.flatnonzero(~short), d.bands.shape[1]), np.flatnonzero(short)])
        keys = np.concatenate([d.bands[~short].ravel(), d.bands[short, 0]])
        self._keys.append((keys, (self.documents + rows).astype(np.uint32)))
        self._waiting += len(keys)
        if self._waiting > SORTED_KEYS:
            self._spill()
        self.documents, self.kept = self.documents + n, self.kept + int(d.kept.sum())

    def add_edges(self, edges: pa.Table) -> None:
        """Append rows of EDGE_SCHEMA."""
        if edges.num_rows:
            self._edges.write_table(edges.cast(EDGE_SCHEMA))
            self.edges += edges.num_rows

    def close(self, source: str, parts: Sequence[Part]) -> Stored:
        """Sort the keys and make everything durable."""
        self._spill()
        pieces = [tuple(_array(self._spilled(i, name), DTYPES[name]) for name in ("keys", "positions")) for i in range(self._spills)]  # fmt: skip
        for keys, positions in merged(pieces):
            self._put("keys", keys)
            self._put("positions", positions)
        for i in range(self._spills):
            for name in ("keys", "positions"):
                self._spilled(i, name).unlink()
        self._edges.close()
        for file in (*self._files.values(), self._edges_file):
            file.flush()
            os.fsync(file.fileno())
            file.close()
        sizes = {name: (self._folder / name).stat().st_size for name in (*DTYPES, EDGES)}
        return Stored(
            name=self._folder.name, source=source, documents=self.documents, kept=self.kept, edges=self.edges,
            bytes=sizes, parts=tuple(parts),
        )  # fmt: skip

    def _put(self, name: str, values: npt.NDArray[Any]) -> None:
        _write(self._files[name], values, DTYPES[name])

    def _spilled(self, number: int, name: str) -> Path:
        return self._folder / f"{name}-{number}"

    def _spill(self) -> None:
        if not self._keys:
            return
        keys, positions = (np.concatenate(column) for column in zip(*self._keys, strict=True))
        order = np.argsort(keys, kind="stable")
        for name, values in (("keys", keys), ("positions", positions)):
            with open(self._spilled(self._spills, name), "wb") as file:
                _write(file, values[order], DTYPES[name])
        self._keys, self._waiting, self._spills = [], 0, self._spills + 1


def _write(file: BinaryIO, values: npt.NDArray[Any], dtype: npt.DTypeLike) -> None:
    file.write(np.ascontiguousarray(values, dtype).reshape(-1).view(np.uint8).data)


def _array(path: Path, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """A file mapped as an array."""
    if not path.stat().st_size:
        return np.zeros(0, dtype)
    return np.memmap(path, dtype, "r").view(np.ndarray)


def merged(pieces: Sequence[tuple[Any, ...]], size: int = MERGED_KEYS) -> Iterator[tuple[Any, Any]]:
    """Merge sorted (keys, positions) in slices of bounded size; equal keys come in the order of the pieces."""
    at = [0] * len(pieces)
    while any(begin < len(keys) for begin, (keys, _) in zip(at, pieces, strict=True)):
        open_ = [i for i, (keys, _) in enumerate(pieces) if at[i] < len(keys)]
        # Up to the smallest end of any piece's next slice everything that can come is known.
        bound = min(pieces[i][0][min(at[i] + size, len(pieces[i][0])) - 1] for i in open_)
        ends = {i: int(np.searchsorted(pieces[i][0], bound, side="right")) for i in open_}
        keys = np.concatenate([pieces[i][0][at[i] : ends[i]] for i in open_])
        positions = np.concatenate([pieces[i][1][at[i] : ends[i]] for i in open_])
        order = np.argsort(keys, kind="stable")
        yield keys[order], positions[order]
        for i in open_:
            at[i] = ends[i]


class Run:
    """A run as it lies on disk; every array is mapped, nothing is read before it is asked for."""

    def __init__(self, folder: Path, stored: Stored, bands: int) -> None:
        self.stored, self.folder = stored, folder
        for name, size in stored.bytes.items():
            path = folder / name
            if not path.exists() or path.stat().st_size != size:
                raise DataError(
                    "a file of the index is gone or cut short", where=str(path),
                    hint="bring it back from a copy, or build the index anew",
                )  # fmt: skip
        arrays = {name: _array(folder / name, kind) for name, kind in DTYPES.items()}
        self.numbers, self.digests, self.kept = arrays["numbers"], arrays["digests"], arrays["kept"]
        self.bands = arrays["bands"].reshape(-1, bands)
        self.sets, self.set_ends = arrays["sets"], arrays["set_ends"]
        self.ids, self.id_ends = arrays["ids"], arrays["id_ends"]
        self.keys, self.positions = arrays["keys"], arrays["positions"]

    def positions_of(self, numbers: Hashes) -> Longs:
        """Positions of documents of this run."""
        return np.searchsorted(self.numbers, numbers).astype(np.int64)

    def hits(self, keys: Hashes) -> tuple[Longs, Longs]:
        """Pairs (place in `keys`, position) of equal keys; `keys` are ascending and distinct."""
        if not len(keys) or not len(self.keys):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        low = int(np.searchsorted(self.keys, keys[0]))
        high = int(np.searchsorted(self.keys, keys[-1], side="right"))
        near = self.keys[low:high]
        first = np.searchsorted(near, keys, "left")
        count = np.searchsorted(near, keys, "right") - first
        which = np.repeat(np.arange(len(keys)), count)
        within = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)
        return which, self.positions[low + first[which] + within].astype(np.int64)

    def id_of(self, position: int) -> str:
        begin = self.id_ends[position - 1] if position else 0
        return bytes(self.ids[begin : self.id_ends[position]]).decode()

    def edges(self) -> Iterator[pa.Table]:
        """Rows of EDGE_SCHEMA."""
        with pq.ParquetFile(self.folder / EDGES) as file:
            for batch in file.iter_batches(1 << 16):
                yield pa.Table.from_batches([batch])

    def documents(self, rows: int = 1 << 13, most: int = PIECE_SHINGLES) -> Iterator[Documents]:
        """All of it, in pieces of so many documents and shingles, or of one document."""
        end = 0
        while (begin := end) < len(self.numbers):
            full = int(self.set_ends[begin - 1] if begin else 0) + most
            end = min(begin + rows, max(begin + 1, int(np.searchsorted(self.set_ends, full, side="right"))))
            end = min(end, len(self.numbers))
            set_offsets, id_offsets = (
                np.append(ends[begin - 1] if begin else 0, ends[begin:end]) for ends in (self.set_ends, self.id_ends)
            )  # fmt: skip
            yield Documents(
                self.numbers[begin:end], self.digests[begin:end], self.kept[begin:end], self.bands[begin:end],
                self.sets, set_offsets, self.ids, id_offsets,
            )  # fmt: skip
