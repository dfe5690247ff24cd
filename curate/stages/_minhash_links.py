"""From buckets of band keys to links, and from links to components, in bounded memory."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Orders = npt.NDArray[np.uint64]
Longs = npt.NDArray[np.int64]

UNIT_BITS = np.uint64(40)  # an order is unit << 40 | the row's place in it
CHUNK = 1 << 16  # documents written at once
MIX, STEP = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x9E3779B97F4A7C15)


class Buckets:
    """Records sorted by (key, rank, order), cut into buckets as they come; of the open bucket its first row is held."""

    def __init__(self) -> None:
        self.links = 0
        self._open: tuple[np.uint64, np.uint64] | None = None  # key, and order of the first row

    def next(self, table: pa.Table) -> pa.Table:
        """Links (a, b) of the first document of each bucket with the others: a star, never all pairs."""
        key, order = table["key"].to_numpy(), table["order"].to_numpy()
        starts = np.flatnonzero(np.append(True, key[1:] != key[:-1]))
        first = order[starts]
        if self._open and self._open[0] == key[0]:
            first[0] = self._open[1]
        self._open = key[-1], first[-1]
        linked = np.repeat(first, np.diff(np.append(starts, len(key))))
        others = linked != order
        self.links += int(others.sum())
        return pa.table({"a": linked[others], "b": order[others]})


def spread(orders: Orders) -> Orders:
    """Numbers spread evenly over 64 bits, one to one."""
    h = orders * STEP
    h ^= h >> np.uint64(29)
    h *= MIX
    return h ^ (h >> np.uint64(32))


class Places:
    """Orders of linked documents as places in one array, without gaps between units."""

    def __init__(self, tables: Iterator[pa.Table]) -> None:
        sizes = np.zeros(0, np.int64)  # by unit
        for table in tables:
            for name in ("a", "b"):
                units, places = _split(table[name].to_numpy())
                sizes = np.append(
                    sizes, np.zeros(max(0, int(units.max(initial=-1)) + 1 - len(sizes)), np.int64)
                )
                np.maximum.at(sizes, units, places + 1)
        self._units = np.flatnonzero(sizes)
        self._starts = np.append(0, np.cumsum(sizes[self._units]))

    @property
    def count(self) -> int:
        return int(self._starts[-1])

    def of(self, orders: Orders) -> Longs:
        units, places = _split(orders)
        return np.asarray(self._starts[np.searchsorted(self._units, units)] + places, np.int64)

    def orders(self, places: Longs) -> Orders:
        unit = np.searchsorted(self._starts, places, side="right") - 1
        within = (places - self._starts[unit]).astype(np.uint64)
        return np.asarray(self._units[unit].astype(np.uint64) << UNIT_BITS | within, np.uint64)


def _split(orders: Orders) -> tuple[Longs, Longs]:
    units = orders >> UNIT_BITS
    return units.astype(np.int64), (orders - (units << UNIT_BITS)).astype(np.int64)


def array(path: Path, size: int, dtype: npt.DTypeLike, on_disk: bool) -> npt.NDArray[Any]:
    """Zeros, in memory or in a file. OSError where the disk is full: later, a page without a block is a signal."""
    if not on_disk or not size:
        return np.zeros(size, dtype)
    with open(path, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, size * np.dtype(dtype).itemsize)
    return np.memmap(path, dtype, "r+", shape=(size,)).view(np.ndarray)


class Components:
    """Which linked documents hang together. A number per document, on disk where `memory` bytes do not hold them."""

    def __init__(self, places: Places, scratch: Path, memory: int) -> None:
        self.count = self.linked = self.largest = 0
        self._places = places
        kind = np.dtype(np.int32 if places.count < 1 << 31 else np.int64)
        on_disk = places.count * kind.itemsize > memory
        self._parent = array(scratch / "parent", places.count, kind, on_disk)

    def link(self, table: pa.Table) -> None:
        from curate.kernels.components import unite

        unite(self._parent, *(self._places.of(table[name].to_numpy()) for name in ("a", "b")))

    def members(self) -> Iterator[pa.Table]:
        """(order, component) of every linked document, in order; components' numbers are spread evenly."""
        from curate.kernels.components import roots

        found, root = np.empty(CHUNK, np.int64), np.empty(CHUNK, np.int64)
        for begin in range(0, self._places.count, CHUNK):
            end = min(begin + CHUNK, self._places.count)
            n = roots(self._parent, begin, end, found, root)
            orders, first = self._places.orders(found[:n]), self._places.orders(root[:n])
            self.linked += n
            yield pa.table({"order": orders, "component": spread(first)})
        for begin in range(0, self._places.count, CHUNK):
            parent = self._parent[begin : begin + CHUNK]  # of roots minus the size
            self.count += int((parent < 0).sum())
            self.largest = max(self.largest, -int(parent.min()))
