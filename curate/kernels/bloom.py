"""A Bloom filter of n-grams, and paragraphs judged in order by how many of theirs it holds already."""

from typing import Any

import numba as nb
import numpy as np
import numpy.typing as npt

from curate.kernels.lanes import looped
from curate.kernels.shingles import mixed
from curate.kernels.strings import frozen

Bytes = npt.NDArray[np.uint8]
Longs = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Flags = npt.NDArray[np.bool_]

u64 = np.uint64
STEP = u64(0x9E3779B97F4A7C15)
ROW, FIRST, NUM, HELD = range(4)  # of a document's state


def ngrams(
    words: npt.NDArray[np.uint64], offsets: npt.NDArray[np.int64], size: int, least: int
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """Hashes of `size` words in a row of each row, in order, and where each row's begin, (n + 1,).

    A row of fewer words, but `least` and more, has one n-gram of all of them.
    """
    out, out_offsets = np.empty(len(words), np.uint64), np.zeros(len(offsets), np.int64)
    _ngrams(frozen(words), frozen(offsets), size, least, out, out_offsets)
    return out[: out_offsets[-1]], out_offsets


@nb.njit(nogil=True, cache=True)
def _ngrams(words: Hashes, offsets: Longs, size: int, least: int, out: Hashes, out_offsets: Longs) -> None:
    n, lead = 0, u64(1)
    for _ in range(size):
        lead *= STEP
    for r in range(len(offsets) - 1):
        begin, end = offsets[r], offsets[r + 1]
        rolling = u64(0)
        for i in range(begin, end):
            rolling = rolling * STEP + words[i]
            if i - begin >= size:
                rolling -= words[i - size] * lead
            if i - begin + 1 >= size:
                out[n] = mixed(rolling)
                n += 1
        if least <= end - begin < size:
            out[n] = mixed(rolling)
            n += 1
        out_offsets[r + 1] = n


@looped
def _position(gram: u64, probe: int, num_words: int) -> tuple[Any, Any]:
    """(word, bit in it) of one probe: 32 bits of hash choose the word."""
    h = mixed(gram + u64(probe) * STEP)
    return np.int64((h >> u64(32)) * u64(num_words) >> u64(32)), u64(1) << (h & u64(63))


@looped
def holds(bits: Hashes, probes: int, gram: u64) -> bool:
    """Whether the n-gram was inserted, or all its bits by others."""
    for probe in range(probes):
        word, bit = _position(gram, probe, len(bits))
        if not bits[word] & bit:
            return False
    return True


@looped
def insert(bits: Hashes, probes: int, gram: u64) -> bool:
    """Put an n-gram in; whether the filter did not hold it."""
    new = False
    for probe in range(probes):
        word, bit = _position(gram, probe, len(bits))
        if not bits[word] & bit:
            bits[word] |= bit
            new = True
    return new


@nb.njit(nogil=True, cache=True)
def judge(
    bits: Hashes, probes: int, grams: Hashes, offsets: Longs, orders: Hashes, rows: Hashes, threshold: float,
    document: Longs, gone: Flags, emptied: Hashes,
) -> tuple[int, int]:  # fmt: skip
    """Judge paragraphs in order; n-grams of those that stay go into the filter.

    grams[offsets[p] : offsets[p + 1]] are those of paragraph p, of the document rows[p]. gone[p] is whether more than
    `threshold` of them are held. `document` is the state of the last one, which may go on with the next call (ROW below
    0: none); `emptied` gets the order of the first paragraph of each finished one of whose n-grams more than that are
    held. Returns (n-grams new to the filter, documents in `emptied`).
    """
    new, num_emptied = 0, 0
    for p in range(len(gone)):
        if document[ROW] != np.int64(rows[p]):
            if document[NUM] > 0 and document[HELD] / document[NUM] > threshold:
                emptied[num_emptied] = u64(document[FIRST])
                num_emptied += 1
            document[ROW], document[FIRST] = rows[p], orders[p]
            document[NUM], document[HELD] = 0, 0
        held, num = 0, offsets[p + 1] - offsets[p]
        for i in range(offsets[p], offsets[p + 1]):
            held += holds(bits, probes, grams[i])
        document[NUM] += num
        document[HELD] += held
        gone[p] = num > 0 and held / num > threshold
        if not gone[p]:
            for i in range(offsets[p], offsets[p + 1]):
                new += insert(bits, probes, grams[i])
    return new, num_emptied
