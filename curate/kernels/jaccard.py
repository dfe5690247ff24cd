"""Jaccard similarity of sets kept as sorted distinct numbers."""

import numba as nb
import numpy as np
import numpy.typing as npt

from curate.kernels.lanes import looped
from curate.kernels.strings import frozen

Hashes = npt.NDArray[np.uint64]
Longs = npt.NDArray[np.int64]

u64 = np.uint64
MOST_BUCKETS = 1 << 20


def jaccard(a: npt.NDArray[np.uint64], b: npt.NDArray[np.uint64]) -> float:
    """Share of the union that is in both of two sorted sets; 0.0 where both are empty."""
    shared = int(overlap(frozen(a), 0, len(a), frozen(b), 0, len(b)))
    return shared / max(1, len(a) + len(b) - shared)


def jaccards(
    hashes: npt.NDArray[np.uint64],
    offsets: npt.NDArray[np.int64],
    left: npt.NDArray[np.int64],
    right: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """Jaccard similarity of pairs of documents, (pairs,): of the sets numbered left[i] and right[i]."""
    out = np.empty(len(left), np.float64)
    _jaccards(frozen(hashes), frozen(offsets), frozen(left), frozen(right), out)
    return out


@nb.njit(nogil=True, cache=True)
def _jaccards(
    hashes: Hashes, offsets: Longs, left: Longs, right: Longs, out: npt.NDArray[np.float64]
) -> None:
    for i in range(len(out)):
        a, b = left[i], right[i]
        out[i] = similarity(hashes, offsets[a], offsets[a + 1], hashes, offsets[b], offsets[b + 1])


@looped
def similarity(a: Hashes, a_begin: int, a_end: int, b: Hashes, b_begin: int, b_end: int) -> float:
    """Jaccard similarity of a[a_begin:a_end] and b[b_begin:b_end], each sorted and distinct; 0.0 where both are empty."""
    shared = overlap(a, a_begin, a_end, b, b_begin, b_end)
    return float(shared / max(1, a_end - a_begin + b_end - b_begin - shared))


@looped
def overlap(a: Hashes, i: int, a_end: int, b: Hashes, j: int, b_end: int) -> int:
    """How many numbers a[i:a_end] and b[j:b_end] share, each sorted and distinct."""
    shared = 0
    while (
        i < a_end and j < b_end
    ):  # no branch that depends on the numbers: each would be guessed wrong half of the time
        x, y = a[i], b[j]
        shared += x == y
        i += x <= y
        j += y <= x
    return shared


@looped
def distinct(hashes: Hashes, m: int, counts: Longs, out: Hashes, begin: int) -> int:
    """Write the distinct ones of m hashes to out[begin:], sorted; returns their end. `counts` is room, (MOST_BUCKETS,).

    Hashes, of 32 or 64 bits, are spread evenly, so their first bits put nearly all in their place.
    """
    bits = 1
    while 2 << bits <= m and 2 << bits < MOST_BUCKETS:
        bits += 1
    shift = 8 * hashes.itemsize - bits
    for bucket in range(1 << bits):
        counts[bucket] = 0
    for i in range(m):
        counts[np.int64(u64(hashes[i]) >> u64(shift))] += 1
    at = begin
    for bucket in range(1 << bits):
        at, counts[bucket] = at + counts[bucket], at
    for i in range(m):
        first = np.int64(u64(hashes[i]) >> u64(shift))
        out[counts[first]] = hashes[i]
        counts[first] += 1
    n = begin
    for i in range(begin, begin + m):
        h, j = out[i], n
        while j > begin and out[j - 1] > h:
            j -= 1
        if j == begin or out[j - 1] != h:
            for k in range(n, j, -1):
                out[k] = out[k - 1]
            out[j] = h
            n += 1
    return n
