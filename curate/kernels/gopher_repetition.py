"""What the Gopher repetition rules count, per document.

Memory is proportional to the largest document: scratch grows to it and is used again. Lines, paragraphs and n-grams of
words are compared by 64-bit hashes: the odds that a document of n of them holds one false repeat are below n * n / 2^65
(one in 10^7 for a million words).
"""

import numba as nb
import numpy as np
import numpy.typing as npt

from curate.kernels.unicode import SPACE
from curate.kernels.words import (
    Given,
    given_word,
    hash_bytes,
    mark_given,
    mix,
    next_word,
    none_given,
    split_units,
)

Bytes = npt.NDArray[np.uint8]
Longs = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

u64 = np.uint64
GRAM_STEP = u64(0x9E3779B97F4A7C15)

# Columns of repetition_counts; TOP_GRAM + n for n = 2-4, DUP_GRAM + n for n = 5-10.
(CHARS, PARAGRAPHS, DUP_PARAGRAPHS, DUP_PARAGRAPH_CHARS, LINE_SPLITS, DUP_LINES, DUP_LINE_CHARS) = range(7)
TOP_GRAM, DUP_GRAM = 7 - 2, 10 - 5
_COLUMNS = 16


def repetition_counts(
    data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64], given: Given | None = None
) -> npt.NDArray[np.int64]:
    """Counts of each row of a string column, int64 (n, 16)."""
    n = len(offsets) - 1
    out = np.zeros((n, _COLUMNS), np.int64)
    _repetition(data, offsets, *(given or none_given(n)), out)
    return out


@nb.njit(nogil=True, cache=True)
def _repetition(
    data: Bytes, offsets: Longs, given: Longs, starts: Longs, kinds: tuple[Bytes, Bytes], out: Longs
) -> None:
    longest = np.max(offsets[1:] - offsets[:-1]) if len(out) else 0
    kind = np.empty(longest + 1, np.uint8)
    at = np.empty(longest + 1, np.int64)
    chars = np.empty(longest + 1, np.int64)
    keys = np.empty(_table_size(longest + 1), np.uint64)  # there are no more lines or words than bytes
    counts = np.empty(2 * len(keys), np.int32)
    newlines = np.empty(longest + 1, np.int64)
    prefix = np.empty(longest + 1, np.uint64)  # rolling hash of the words before word i
    lengths = np.empty(longest + 1, np.int64)  # characters in the words before word i
    places = np.empty(longest + 1, np.int64)
    slots = np.empty(longest + 1, np.int64)
    begins = np.empty(longest + 1 if len(starts) else 0, np.uint8)
    for row in range(len(out)):
        text = data[offsets[row] : offsets[row + 1]]
        n, out[row, CHARS] = split_units(text, kinds[0], kinds[1], kind, at, chars)
        is_given = given[row + 1] > given[row]
        if is_given:
            mark_given(at, n, starts[given[row] : given[row + 1]], begins)
        num_newlines = 0
        for i in range(len(text)):
            newlines[num_newlines] = i
            num_newlines += text[i] == 10
        _repeated_lines(text, 0, len(text), newlines, num_newlines, keys, out[row])
        first, last = 0, n  # the text without white space around it
        while first < n and kind[first] <= SPACE:
            first += 1
        while last > first and kind[last - 1] <= SPACE:
            last -= 1
        _repeated_paragraphs(text, at[first], at[last], newlines, num_newlines, keys, out[row])
        num_words = _hash_words(text, n, kind, at, chars, begins, is_given, prefix, lengths)
        _repeated_grams(num_words, prefix, lengths, places, slots, keys, counts, out[row])


@nb.njit(nogil=True, cache=True)
def _table_size(entries: int) -> int:
    """A power of two that keeps the table at most half full."""
    size = 64
    while size < 2 * entries:
        size *= 2
    return size


@nb.njit(nogil=True, cache=True)
def _slot(h: np.uint64, keys: Hashes, mask: np.uint64) -> tuple[np.uint64, bool]:
    """(place of hash h in the table, whether it was put there now). 0 marks a free place; h is never 0."""
    s = h & mask
    while keys[s] != h:
        if keys[s] == 0:
            keys[s] = h
            return s, True
        s = (s + u64(1)) & mask
    return s, False


@nb.njit(nogil=True, cache=True)
def _is_repeated(text: Bytes, begin: int, end: int, keys: Hashes, mask: np.uint64) -> bool:
    _, new = _slot(hash_bytes(text, begin, end) | u64(1), keys, mask)
    return not new


@nb.njit(nogil=True, cache=True)
def _num_chars(text: Bytes, begin: int, end: int) -> int:
    num = 0
    for i in range(begin, end):
        num += text[i] & 0xC0 != 0x80
    return num


@nb.njit(nogil=True, cache=True)
def _repeated_lines(
    text: Bytes, begin: int, end: int, newlines: Longs, num_newlines: int, keys: Hashes, out: Longs
) -> None:
    """Lines between runs of newlines, as re.split("\n+", text) gives them."""
    size = _table_size(num_newlines + 1)
    keys[:size] = 0
    i, k = begin, 0
    while True:
        j = newlines[k] if k < num_newlines else end
        out[LINE_SPLITS] += 1
        if _is_repeated(text, i, j, keys, u64(size - 1)):
            out[DUP_LINES] += 1
            out[DUP_LINE_CHARS] += _num_chars(text, i, j)
        if k == num_newlines:
            return
        while k + 1 < num_newlines and newlines[k + 1] == newlines[k] + 1:
            k += 1
        i = newlines[k] + 1
        k += 1


@nb.njit(nogil=True, cache=True)
def _repeated_paragraphs(
    text: Bytes, begin: int, end: int, newlines: Longs, num_newlines: int, keys: Hashes, out: Longs
) -> None:
    """Paragraphs between two and more newlines, as re.split("\n{2,}", text) gives them; begin and end are no newline."""
    size = _table_size(num_newlines + 1)
    keys[:size] = 0
    while num_newlines > 0 and newlines[num_newlines - 1] >= end:
        num_newlines -= 1
    i, k = begin, np.searchsorted(newlines[:num_newlines], begin)
    while True:
        while k < num_newlines and not (k + 1 < num_newlines and newlines[k + 1] == newlines[k] + 1):
            k += 1
        j = newlines[k] if k < num_newlines else end
        out[PARAGRAPHS] += 1
        if _is_repeated(text, i, j, keys, u64(size - 1)):
            out[DUP_PARAGRAPHS] += 1
            out[DUP_PARAGRAPH_CHARS] += _num_chars(text, i, j)
        if k == num_newlines:
            return
        while k + 1 < num_newlines and newlines[k + 1] == newlines[k] + 1:
            k += 1
        i = newlines[k] + 1
        k += 1


@nb.njit(nogil=True, cache=True)
def _hash_words(
    text: Bytes, n: int, kind: Bytes, at: Longs, chars: Longs, begins: Bytes, is_given: bool, prefix: Hashes,
    lengths: Longs,
) -> int:  # fmt: skip
    """Fill prefix and lengths: number of words."""
    num_words = 0
    prefix[0], lengths[0] = u64(0), 0
    core = np.int64(0)
    i = np.int64(0)
    while i < n:
        if kind[i] <= SPACE:
            i += 1
            continue
        if is_given:
            end = given_word(kind, begins, i)
        else:
            end, core = next_word(kind, i, core)
        prefix[num_words + 1] = prefix[num_words] * GRAM_STEP + hash_bytes(text, at[i], at[end])
        lengths[num_words + 1] = lengths[num_words] + chars[end] - chars[i]
        num_words += 1
        i = end
    return num_words


@nb.njit(nogil=True, cache=True)
def _repeated_grams(
    num_words: int,
    prefix: Hashes,
    lengths: Longs,
    places: Longs,
    slots: Longs,
    keys: Hashes,
    counts: npt.NDArray[np.int32],
    out: Longs,
) -> None:
    """Most frequent n-gram for n = 2-4, repeated n-grams for n = 5-10.

    An n-gram can only repeat where the shorter ones at its two ends repeat: only those `places` are looked up again.
    """
    num_places = _likely_repeats(num_words, prefix, places, counts)
    for n in range(2, 11):
        kept = _find_grams(n, num_words, prefix, places, num_places, slots, keys, counts)
        if n <= 4 and num_words >= n:
            out[TOP_GRAM + n] = _top_gram_chars(n, kept, places, slots, counts, lengths)
        elif n >= 5:
            out[DUP_GRAM + n] = _dup_gram_chars(n, kept, places, slots, counts, lengths)
        num_places = 0
        for p in range(kept):
            places[num_places] = places[p]
            num_places += counts[slots[p]] != 1
        if num_places == 0 and n >= 4:
            return


@nb.njit(nogil=True, cache=True)
def _likely_repeats(num_words: int, prefix: Hashes, places: Longs, counts: npt.NDArray[np.int32]) -> int:
    """Places of all 2-grams that repeat, and of a few others: a small table without keys, so quick to ask."""
    mask = u64(2 * _table_size(num_words) - 1)
    counts[: mask + 1] = 0
    for i in range(num_words - 1):
        counts[mix(prefix[i + 2] - prefix[i] * (GRAM_STEP * GRAM_STEP)) & mask] += 1
    num_places = 0
    for i in range(num_words - 1):
        places[num_places] = i
        num_places += counts[mix(prefix[i + 2] - prefix[i] * (GRAM_STEP * GRAM_STEP)) & mask] > 1
    return num_places


@nb.njit(nogil=True, cache=True)
def _find_grams(
    n: int,
    num_words: int,
    prefix: Hashes,
    places: Longs,
    num_places: int,
    slots: Longs,
    keys: Hashes,
    counts: npt.NDArray[np.int32],
) -> int:
    """Count the n-grams that begin at `places`; keep the places where one may repeat, and its slot: number kept."""
    step = GRAM_STEP
    for _ in range(n - 1):
        step *= GRAM_STEP
    size = _table_size(num_places)
    keys[:size] = 0
    kept = 0
    for p in range(num_places):
        i = places[p]
        # where the next place is not the next word, the shorter n-gram at the end is unique
        if i + n > num_words or (n > 2 and (p + 1 == num_places or places[p + 1] != i + 1)):
            continue
        s, new = _slot(mix(prefix[i + n] - prefix[i] * step) | u64(1), keys, u64(size - 1))
        counts[s] = 1 if new else counts[s] + 1
        places[kept], slots[kept] = i, s
        kept += 1
    return kept


@nb.njit(nogil=True, cache=True)
def _top_gram_chars(
    n: int, num_places: int, places: Longs, slots: Longs, counts: npt.NDArray[np.int32], lengths: Longs
) -> int:
    """Length of the most frequent n-gram (the first of equals), spaces between its words included, times its count."""
    best, first = np.int32(1), 0
    for p in range(num_places):
        if counts[slots[p]] > best:
            best, first = counts[slots[p]], places[p]
    return int((lengths[first + n] - lengths[first] + n - 1) * best)


@nb.njit(nogil=True, cache=True)
def _dup_gram_chars(
    n: int, num_places: int, places: Longs, slots: Longs, counts: npt.NDArray[np.int32], lengths: Longs
) -> int:
    """Characters in n-grams seen before, scanning left to right and skipping each one found."""
    chars, following = 0, 0
    for p in range(num_places):
        i, s = places[p], slots[p]
        if i < following or counts[s] == 1:
            continue
        if counts[s] < 0:  # seen
            chars += lengths[i + n] - lengths[i]
            following = i + n
        counts[s] = -1
    return chars
