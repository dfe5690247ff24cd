"""A set of byte strings that is exact: a hash table of indices into one run of bytes, so that it can be mapped.

Nothing is decided by a hash alone: what is found was compared byte by byte.
"""

from typing import Any, NamedTuple

import numba as nb
import numpy as np
import numpy.typing as npt

from curate.kernels.lanes import looped
from curate.kernels.words import hash_bytes

Bytes = npt.NDArray[np.uint8]
Longs = npt.NDArray[np.int64]

_INDEX = np.int64(0xFFFFFFFF)
_HALF = ~_INDEX


class Strings(NamedTuple):
    """String i is data[offsets[i]:offsets[i + 1]]. A slot holds half of its hash above i, or -1 where it is free.

    The half hash spares two cache misses for nearly everything that is not in the set.
    """

    data: Bytes
    offsets: Longs
    slots: Longs


def build(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> Strings:
    """The set of the rows of a string column; of equal rows the first is in it."""
    slots = np.full(
        max(2, 1 << (3 * len(offsets) // 2).bit_length()), -1, np.int64
    )  # two thirds full at most
    _fill(frozen(data), frozen(offsets), slots)
    return Strings(frozen(data), frozen(offsets), frozen(slots))


def frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A view that numba types as read-only whatever its source: one compiled kernel instead of several."""
    view = array.view(np.ndarray)
    view.flags.writeable = False
    return view


@nb.njit(nogil=True, cache=True)
def _fill(data: Bytes, offsets: Longs, slots: Longs) -> None:
    mask = np.int64(len(slots) - 1)
    for i in range(len(offsets) - 1):
        begin, end = offsets[i], offsets[i + 1]
        if find(data, begin, end, data, offsets, slots) < 0:
            h = np.int64(hash_bytes(data, begin, end) >> np.uint64(1))
            s = h & mask
            while slots[s] >= 0:
                s = (s + 1) & mask
            slots[s] = h & _HALF | i


@looped
def find(text: Bytes, begin: int, end: int, data: Bytes, offsets: Longs, slots: Longs) -> int:
    """Index of text[begin:end] in the set, -1 where it is not in it."""
    if len(offsets) == 1:
        return -1
    mask = np.int64(len(slots) - 1)
    h = np.int64(hash_bytes(text, begin, end) >> np.uint64(1))  # never below 0
    s = h & mask
    while slots[s] >= 0:
        if (slots[s] ^ h) & _HALF == 0:
            i = int(slots[s] & _INDEX)
            if offsets[i + 1] - offsets[i] == end - begin:
                k = 0
                while k < end - begin and text[begin + k] == data[offsets[i] + k]:
                    k += 1
                if k == end - begin:
                    return i
        s = (s + 1) & mask
    return -1
