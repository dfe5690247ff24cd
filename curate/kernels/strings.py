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
Slots = npt.NDArray[np.int32]


class Strings(NamedTuple):
    """String i is data[offsets[i]:offsets[i + 1]]; `slots` holds indices, -1 where free, at most half full."""

    data: Bytes
    offsets: Longs
    slots: Slots


def build(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> Strings:
    """The set of the rows of a string column; of equal rows the first is in it."""
    slots = np.full(max(2, 1 << (2 * len(offsets)).bit_length()), -1, np.int32)
    _fill(frozen(data), frozen(offsets), slots)
    return Strings(frozen(data), frozen(offsets), frozen(slots))


def frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A view that numba types as read-only whatever its source: one compiled kernel instead of several."""
    view = array.view(np.ndarray)
    view.flags.writeable = False
    return view


@nb.njit(nogil=True, cache=True)
def _fill(data: Bytes, offsets: Longs, slots: Slots) -> None:
    mask = np.uint64(len(slots) - 1)
    for i in range(len(offsets) - 1):
        begin, end = offsets[i], offsets[i + 1]
        if find(data, begin, end, data, offsets, slots) < 0:
            s = hash_bytes(data, begin, end) & mask
            while slots[s] >= 0:
                s = (s + np.uint64(1)) & mask
            slots[s] = i


@looped
def find(text: Bytes, begin: int, end: int, data: Bytes, offsets: Longs, slots: Slots) -> int:
    """Index of text[begin:end] in the set, -1 where it is not in it."""
    mask = np.uint64(len(slots) - 1)
    s = hash_bytes(text, begin, end) & mask
    while slots[s] >= 0:
        i = int(slots[s])
        if offsets[i + 1] - offsets[i] == end - begin:
            k = 0
            while k < end - begin and text[begin + k] == data[offsets[i] + k]:
                k += 1
            if k == end - begin:
                return i
        s = (s + np.uint64(1)) & mask
    return -1
