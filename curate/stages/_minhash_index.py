"""Documents of an index as candidates: how they come along from phase to phase, and who goes for one of them."""

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.index.index import KEPT, Index
from curate.stages._minhash_walk import FATE, packed, unpacked
from curate.stages.exact_dedup import Upcoming

OLD = np.uint64(1 << 63)  # in a link: the other end is a document of the index; no order has this bit


def old_links(index: Index, table: pa.Table) -> pa.Table:
    """Links (a, b) of documents with kept ones of the index that share a key; keys ascend."""
    which, numbers = index.sharing(table["key"].to_numpy())
    kept = index.fates(numbers) == KEPT
    return pa.table({"a": table["order"].to_numpy()[which[kept]], "b": numbers[kept] | OLD})


def new_links(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The links among the documents of the run; one with the index alone is linked with itself."""
    for table in tables:
        a, b = table["a"].to_numpy(), table["b"].to_numpy()
        yield pa.table({"a": a, "b": np.where(b >= OLD, a, b)})


class Candidates:
    """The documents of the index that a document is compared with, given out in row order."""

    def __init__(self, links: Iterator[pa.Table]) -> None:
        def by_order() -> Iterator[pa.Table]:
            for table in links:
                old = table.filter(pc.greater_equal(table["b"], pa.scalar(int(OLD), pa.uint64())))
                if old.num_rows:
                    yield old.rename_columns(["order", "b"])

        self._upcoming = Upcoming(by_order())

    def beside(self, members: pa.Table) -> pa.Table:
        """The table with `old`: of each document the numbers, ascending, packed."""
        order = members["order"].to_numpy()
        found = self._upcoming.up_to(int(order[-1])) if len(order) else None
        numbers, offsets = np.zeros(0, np.uint64), np.zeros(len(order) + 1, np.int64)
        if found is not None:
            of, numbers = found["order"].to_numpy(), found["b"].to_numpy() ^ OLD
            new = np.append(True, (of[1:] != of[:-1]) | (numbers[1:] != numbers[:-1]))
            numbers = numbers[new]
            offsets = np.append(np.searchsorted(of[new], order), len(numbers))
        return members.append_column("old", packed(numbers, offsets))


def against(index: Index, table: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Fates (FATE) of documents that go for one of the index, and the rows of the others."""
    numbers, offsets = unpacked(table["old"])
    numbers = numbers[offsets[0] : offsets[-1]]
    documents = np.repeat(np.arange(table.num_rows), np.diff(offsets))
    shingles, shingle_offsets = unpacked(table["shingles"], np.uint32)
    digests = table["digest"].to_numpy()
    found = index.similarities(shingles, shingle_offsets, digests, documents, numbers)
    verified = np.flatnonzero(found >= 0)
    lost, first = np.unique(documents[verified], return_index=True)  # the first in number order
    pairs = verified[first]
    short = np.diff(shingle_offsets)[lost] == 0
    columns = [
        table["order"].to_numpy()[lost], pa.array(index.ids(numbers[pairs]), pa.string()), numbers[pairs] | OLD,
        found[pairs], np.zeros(len(lost), np.int64), short,
    ]  # fmt: skip
    rest = np.ones(table.num_rows, np.bool_)
    rest[lost] = False
    return pa.Table.from_arrays([pa.array(c) for c in columns], schema=FATE), table.filter(pa.array(rest))


class Known:
    """Takes out the documents that the index has already, as they come to the walk."""

    def __init__(self, index: Index, records: Iterator[pa.Table], write: Callable[[pa.Table], None]) -> None:
        self._index, self._records, self._write = index, records, write
        self.dropped = 0

    def others(self) -> Iterator[pa.Table]:
        """What is left for the walk; the fates of the rest are written."""
        for table in self._records:
            fates, rest = against(self._index, table)
            self._write(fates)
            self.dropped += fates.num_rows
            if rest.num_rows:
                yield rest
