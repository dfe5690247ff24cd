"""Passages that stand in a corpus more than once: windows of `length` symbols told apart, and spans cut out of texts.

A symbol is a byte, or a number that stands for a token; a window is `length` symbols in a row.
"""

import numba as nb
import numpy as np
import numpy.typing as npt

from curate.kernels.words import hash_bytes, load64, mix

Bytes = npt.NDArray[np.uint8]
Longs = npt.NDArray[np.int64]
u64 = np.uint64
BASE = u64(0x9E3779B97F4A7C15)
NEVER = u64(0xFFFFFFFFFFFFFFFF)
FEW = 16  # so many are sorted by insertion


@nb.njit(nogil=True, cache=True)
def runs(
    symbols: npt.NDArray[np.generic], offsets: Longs, length: int, gram: int, seed: int,
    row: Longs, start: Longs, count: Longs, key: npt.NDArray[np.uint64],
) -> int:  # fmt: skip
    """Windows of each row in runs that share their minimizer, the smallest hash of their `gram` symbols in a row.

    Fills row, start (of the run's first window in the row), count (of windows, at most length - gram + 1) and key (the
    hash); each has a place per window. Returns the number of runs. Windows with the same symbols have the same key, and a
    run in which there may be two of them (the minimizer stands in it twice) is not the only one with its key.
    """
    width = length - gram + 1
    recent = np.empty(width, np.uint64)
    lead, salt, n = u64(1), mix((u64(seed) + u64(1)) * BASE), 0
    for _ in range(gram - 1):
        lead *= BASE
    for r in range(len(offsets) - 1):
        begin, end = offsets[r], offsets[r + 1]
        if end - begin < length:
            continue
        rolling, least, at, slot, tied = u64(0), NEVER, -1, 0, False
        for i in range(begin, begin + gram - 1):
            rolling = rolling * BASE + u64(symbols[i]) + u64(1)
        for i in range(end - begin - gram + 1):
            rolling = rolling * BASE + u64(symbols[begin + i + gram - 1]) + u64(1)
            hashed = mix((rolling ^ salt) * BASE)
            rolling -= (u64(symbols[begin + i]) + u64(1)) * lead
            recent[slot] = hashed
            slot = slot + 1 if slot + 1 < width else 0
            new = hashed < least or at < 0
            if new:
                least, at, tied = hashed, i, False
            elif hashed == least:
                tied = True
            if not new and at <= i - width:  # it left the window
                least, at, tied = _last_of_least(recent, slot)
                new, at = True, i - width + 1 + at
            if i < width - 1:
                continue
            alone = n < 2 or row[n - 2] != r or key[n - 2] != least
            if new or i == width - 1 or (tied and alone):
                row[n], start[n], count[n], key[n] = r, i - width + 1, 1, least
                n += 1
            else:
                count[n - 1] += 1
    return n


@nb.njit(nogil=True, cache=True)
def _last_of_least(recent: npt.NDArray[np.uint64], begin: int) -> tuple[np.uint64, int, bool]:
    # of a ring; its place from `begin` on, and whether another is as small
    least, at, tied = recent[begin], 0, False
    for j in range(1, len(recent)):
        place = begin + j if begin + j < len(recent) else begin + j - len(recent)
        if recent[place] <= least:
            tied = recent[place] == least
            least, at = recent[place], j
    return least, at, tied


@nb.njit(nogil=True, cache=True)
def copy_slices(data: Bytes, begin: Longs, offsets: Longs, out: Bytes) -> None:
    """out[offsets[i] : offsets[i + 1]] = data from begin[i]."""
    for i in range(len(begin)):
        size = offsets[i + 1] - offsets[i]
        out[offsets[i] : offsets[i + 1]] = data[begin[i] : begin[i] + size]


@nb.njit(nogil=True, cache=True)
def hash_each(data: Bytes, begin: Longs, end: Longs, out: npt.NDArray[np.uint64]) -> None:
    """64-bit hash of each data[begin:end]."""
    for i in range(len(begin)):
        out[i] = hash_bytes(data, begin[i], end[i])


@nb.njit(nogil=True, cache=True)
def sort_windows(
    text: Bytes, at: Longs, size: int, order: npt.NDArray[np.int32], opens: npt.NDArray[np.bool_]
) -> None:
    """Suffix arrays of `text` cut down to the suffixes that begin at `at`, and to their first `size` bytes (8 and more).

    `opens` says which suffixes begin a group; each group is sorted by itself. Fills order (the suffixes, sorted) and
    opens (whether one differs in those bytes from the one before it, or begins a group). The bytes are taken eight at a
    time as numbers: the order is a total one, not that of a dictionary.
    """
    keys = np.empty(len(at), np.uint64)
    for i in range(len(at)):
        order[i] = i
    for depth in range(0, size, 8):
        here = min(depth, size - 8)
        low = 0
        while low < len(at):
            high = low + 1
            while high < len(at) and not opens[high]:
                high += 1
            if high - low > 1:
                for i in range(low, high):
                    keys[i] = load64(text, at[order[i]] + here)
                _sort(keys, order, low, high)
                for i in range(low + 1, high):
                    opens[i] = keys[i] != keys[i - 1]
            low = high


@nb.njit(nogil=True, cache=True)
def _sort(keys: npt.NDArray[np.uint64], order: npt.NDArray[np.int32], low: int, high: int) -> None:
    # quicksort in three parts; the larger side waits, so that 64 places are enough
    waiting = np.empty((64, 2), np.int64)
    num = 0
    while True:
        while high - low > FEW:
            a, b, c = keys[low], keys[(low + high) >> 1], keys[high - 1]
            pivot = max(min(a, b), min(max(a, b), c))
            less, i, more = low, low, high
            while i < more:
                if keys[i] < pivot:
                    keys[i], keys[less] = keys[less], keys[i]
                    order[i], order[less] = order[less], order[i]
                    less += 1
                    i += 1
                elif keys[i] > pivot:
                    more -= 1
                    keys[i], keys[more] = keys[more], keys[i]
                    order[i], order[more] = order[more], order[i]
                else:
                    i += 1
            if less - low > high - more:
                waiting[num, 0], waiting[num, 1] = low, less
                low = more
            else:
                waiting[num, 0], waiting[num, 1] = more, high
                high = less
            num += 1
        for i in range(low + 1, high):
            k, o, j = keys[i], order[i], i
            while j > low and keys[j - 1] > k:
                keys[j], order[j] = keys[j - 1], order[j - 1]
                j -= 1
            keys[j], order[j] = k, o
        if not num:
            return
        num -= 1
        low, high = waiting[num, 0], waiting[num, 1]


@nb.njit(nogil=True, cache=True)
def firsts(order: npt.NDArray[np.int32], opens: npt.NDArray[np.bool_], first: npt.NDArray[np.int32]) -> None:
    """Of each window the first that is the same, itself where it is that one; -1 where there is no other."""
    low = 0
    while low < len(order):
        high, least = low + 1, order[low]
        while high < len(order) and not opens[high]:
            least = min(least, order[high])
            high += 1
        for i in range(low, high):
            first[order[i]] = least if high - low > 1 else -1
        low = high


@nb.njit(nogil=True, cache=True)
def repeated(
    first: npt.NDArray[np.int32], bases: Longs, rows: npt.NDArray[np.uint64], starts: Longs, length: int,
    every: bool, run: Longs, begin: Longs, end: Longs, news: npt.NDArray[np.bool_],
) -> int:  # fmt: skip
    """Spans of symbols that go. Run r has the windows bases[r] : bases[r + 1], the first of them at starts[r] of rows[r].

    A window that came before goes (`every`: also the first that is the same), but never a symbol of the one it repeats.
    Fills run, begin, end (in the row), a place per window, and news (whether a run has a window that is new); returns
    the number of spans.
    """
    n = 0
    for r in range(len(starts)):
        opened, news[r] = n, False
        for i in range(bases[r], bases[r + 1]):
            if first[i] < 0 or first[i] == i:
                news[r] = True
            if first[i] < 0 or (first[i] == i and not every):
                continue
            low = starts[r] + i - bases[r]
            high = low + length
            if not every:
                other = np.searchsorted(bases, first[i], side="right") - 1
                if rows[other] == rows[r]:
                    low = max(low, starts[other] + first[i] - bases[other] + length)
            if low >= high:
                continue
            if n > opened and low <= end[n - 1] and low >= begin[n - 1]:
                end[n - 1] = max(end[n - 1], high)
            else:
                run[n], begin[n], end[n] = r, low, high
                n += 1
    return n


@nb.njit(nogil=True, cache=True)
def merge_spans(row: Longs, begin: Longs, end: Longs) -> int:
    """Join spans (sorted by row and begin) that touch or overlap, in place; returns how many are left."""
    n = 0
    for i in range(len(row)):
        if n and row[i] == row[n - 1] and begin[i] <= end[n - 1]:
            end[n - 1] = max(end[n - 1], end[i])
        else:
            row[n], begin[n], end[n] = row[i], begin[i], end[i]
            n += 1
    return n


@nb.njit(nogil=True, cache=True)
def snap_to_characters(data: Bytes, offsets: Longs, row: Longs, begin: Longs, end: Longs) -> None:
    """Shrink spans (bytes of their row) until they begin and end between characters of UTF-8."""
    for i in range(len(row)):
        base, stop = offsets[row[i]], offsets[row[i] + 1]
        while begin[i] < end[i] and data[base + begin[i]] & 0xC0 == 0x80:
            begin[i] += 1
        while begin[i] < end[i] and base + end[i] < stop and data[base + end[i]] & 0xC0 == 0x80:
            end[i] -= 1


@nb.njit(nogil=True, cache=True)
def cut(
    data: Bytes, offsets: Longs, row: Longs, begin: Longs, end: Longs, out: Bytes, cuts: Longs, num: Longs
) -> None:
    """The rows without the spans (sorted, apart, of their row): bytes in `out`, offsets in cuts (n + 1,), spans per row in num."""
    n, k = 0, 0
    cuts[0] = 0
    for r in range(len(num)):
        i, num[r] = offsets[r], 0
        while k < len(row) and row[k] == r:
            if begin[k] < end[k]:
                stop = offsets[r] + begin[k]
                out[n : n + stop - i] = data[i:stop]
                n += stop - i
                i = offsets[r] + end[k]
                num[r] += 1
            k += 1
        out[n : n + offsets[r + 1] - i] = data[i : offsets[r + 1]]
        n += offsets[r + 1] - i
        cuts[r + 1] = n
