"""Takes documents out of an index, and judges anew those whose fate hangs on them, as if run from scratch.

Documents are judged in the order of their numbers, which is the order of keeping. One is judged again when the document
that it went for is no longer kept, and when one before it that shares a band with it is newly kept, or no longer.
Each is judged once, for all that it depends on comes before it; so what is looked at is what is touched.
"""

import heapq
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.index.index import CHANGE_SCHEMA, CHANGES, DROPPED, GONE, KEPT, Index
from curate.index.runs import Hashes

IDS_AT_ONCE = 1 << 16


class Removed(NamedTuple):
    """What a removal did, by ids."""

    removed: int
    missing: list[str]  # asked for, and not in the index
    back: list[str]  # kept now, and were dropped
    dropped: list[tuple[str, str]]  # dropped now, and were kept; with whom they went for


class Fate(NamedTuple):
    fate: int
    kept: int = 0  # of a dropped one: whom it went for
    jaccard: float = 1.0


def remove(index: Index, ids: Sequence[str]) -> Removed:
    """Take documents out and commit that; the caller holds the lock."""
    numbers, found = numbers_of(index, ids)
    numbers = numbers[index.fates(numbers) != GONE]
    missing = sorted(set(ids) - found)
    if not len(numbers):
        return Removed(0, missing, [], [])
    anew = Anew(index, numbers)
    anew.judge()
    fates = anew.fates
    name = f"{len(index.manifest.changes):06d}-{index.digest[:12]}.parquet"
    (index.path / CHANGES).mkdir(exist_ok=True)
    _write(index, name, fates)
    then = index.fates(np.array(list(fates), np.uint64))
    back = [n for n, old in zip(fates, then, strict=True) if old == DROPPED and fates[n].fate == KEPT]
    lost = [n for n, old in zip(fates, then, strict=True) if old == KEPT and fates[n].fate == DROPPED]
    index.commit(changes=(*index.manifest.changes, name), removed=index.manifest.removed + len(numbers))
    twins = [fates[n].kept for n in lost]
    ids_of = (index.ids(np.array(some, np.uint64)) for some in (back, lost, twins))
    return Removed(len(numbers), missing, next(ids_of), list(zip(next(ids_of), next(ids_of), strict=True)))


def numbers_of(index: Index, ids: Sequence[str]) -> tuple[Hashes, set[str]]:
    """Numbers, ascending, of all documents with these ids that are not gone, and the ids found."""
    asked, numbers, found = pa.array(ids, pa.large_string()), [np.zeros(0, np.uint64)], set()
    for run in index.runs:
        for begin in range(0, len(run.numbers), IDS_AT_ONCE):
            ends = run.id_ends[begin : begin + IDS_AT_ONCE]
            offsets = np.append(run.id_ends[begin - 1] if begin else 0, ends)
            column = pa.Array.from_buffers(
                pa.large_string(), len(ends), [None, pa.py_buffer(offsets), pa.py_buffer(run.ids)]
            )
            hits = pc.indices_nonzero(pc.is_in(column, asked)).to_numpy()
            there = run.numbers[begin + hits]
            left = index.fates(there) != GONE
            numbers.append(there[left])
            found.update(column.take(pa.array(hits[left])).to_pylist())
    return np.concatenate(numbers), found


class Anew:
    """Fates that differ from the index's once some documents are gone."""

    def __init__(self, index: Index, gone: Hashes) -> None:
        self._index = index
        self.fates = {number: Fate(GONE) for number in gone.tolist()}
        self._waiting: list[int] = []
        self._asked: set[int] = set()
        taken = pa.array(gone)
        for edges in index.edges():
            behind = edges.filter(pc.is_in(edges["kept"], taken))
            self._ask(behind["dropped"].to_numpy())

    def judge(self) -> None:
        """Judge what waits, in order, until nothing does."""
        while self._waiting:
            number = heapq.heappop(self._waiting)
            if number in self.fates:
                continue  # gone
            others = self._sharing(number)
            was = self._fate(number)
            now = self._judged(number, others[others < number])
            if now.fate != was or was == DROPPED:
                self.fates[number] = now
            if now.fate != was:
                self._ask(others[others > number])

    def _ask(self, numbers: Hashes) -> None:
        for number in numbers.tolist():
            if number not in self._asked:
                self._asked.add(number)
                heapq.heappush(self._waiting, number)

    def _fate(self, number: int) -> int:
        return int(self._index.fates(np.array([number], np.uint64))[0])

    def _sharing(self, number: int) -> Hashes:
        run = self._index.run_of(number)
        keys = np.unique(run.bands[run.positions_of(np.array([number], np.uint64))[0]])
        numbers: Hashes = np.unique(self._index.sharing(keys)[1])
        there: Hashes = numbers[(numbers != number) & (self._index.fates(numbers) != GONE)]
        return there

    def _judged(self, number: int, earlier: Hashes) -> Fate:
        """The fate of a document beside those before it that share a band with it."""
        kept = earlier[self._kept(earlier)]
        if len(kept):
            jaccard = self._similarities(number, kept)
            verified = np.flatnonzero(jaccard >= 0)
            if len(verified):
                return Fate(DROPPED, int(kept[verified[0]]), float(jaccard[verified[0]]))
        return Fate(KEPT)

    def _kept(self, numbers: Hashes) -> npt.NDArray[np.bool_]:
        kept: npt.NDArray[np.bool_] = self._index.fates(numbers) == KEPT
        for i, number in enumerate(numbers.tolist()):
            if number in self.fates:
                kept[i] = self.fates[number].fate == KEPT
        return kept

    def _similarities(self, number: int, kept: Hashes) -> npt.NDArray[np.float64]:
        run = self._index.run_of(number)
        at = int(run.positions_of(np.array([number], np.uint64))[0])
        offsets = np.array([run.set_ends[at - 1] if at else 0, run.set_ends[at]])
        documents = np.zeros(len(kept), np.int64)
        return self._index.similarities(run.sets, offsets, run.digests[at : at + 1], documents, kept)


def _write(index: Index, name: str, fates: dict[int, Fate]) -> None:
    rows = [(number, *fates[number]) for number in sorted(fates)]
    columns = [pa.array(c, f.type) for c, f in zip(zip(*rows, strict=True), CHANGE_SCHEMA, strict=True)]
    with open(index.path / CHANGES / name, "wb") as file:
        pq.write_table(pa.Table.from_arrays(columns, schema=CHANGE_SCHEMA), file, compression="zstd")
        file.flush()
        os.fsync(file.fileno())
