"""The most frequent n-gram of words and the n-grams that repeat, for the Gopher repetition rules.

Words come as a rolling hash: prefix[i] is that of the words before word i, so the n-gram at i has the hash
prefix[i + n] - prefix[i] * GRAM_STEP ** n.
"""

import numpy as np
import numpy.typing as npt

from curate.kernels.lanes import looped
from curate.kernels.lines import table_size
from curate.kernels.words import mix

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

u64 = np.uint64
GRAM_STEP = u64(0x9E3779B97F4A7C15)
TOP_GRAM, DUP_GRAM = (
    7 - 2,
    10 - 5,
)  # columns: of the most frequent n-gram, n = 2-4; of the repeated ones, n = 5-10


@looped
def repeated_grams(
    num_words: int,
    prefix: Hashes,
    lengths: Longs,
    places: Longs,
    slots: Longs,
    keys: Hashes,
    counts: Ints,
    marks: Bytes,
    out: Longs,
) -> None:
    """Most frequent n-gram for n = 2-4, repeated n-grams for n = 5-10.

    An n-gram can only repeat where the shorter ones at its two ends repeat: only those `places` are looked up again.
    """
    num_places = _likely_repeats(num_words, prefix, places, marks)
    for n in range(2, 11):
        _count_grams(n, prefix, places, num_places, slots, keys, counts)
        if n <= 4 and num_words >= n:
            out[TOP_GRAM + n] = _top_gram_chars(n, num_places, places, slots, counts, lengths)
        elif n >= 5:
            out[DUP_GRAM + n] = _dup_gram_chars(n, num_places, places, slots, counts, lengths)
        num_places = _longer_places(num_places, places, slots, counts)
        if num_places == 0 and n >= 4:
            return


@looped
def _likely_repeats(num_words: int, prefix: Hashes, places: Longs, marks: Bytes) -> int:
    """Places of all 2-grams that repeat, and of a few others: a small table without keys, so quick to ask."""
    size = 4 * table_size(num_words)
    mask = u64(size - 1)
    marks[:size] = 0
    for i in range(num_words - 1):
        s = mix(prefix[i + 2] - prefix[i] * (GRAM_STEP * GRAM_STEP)) & mask
        marks[s] = 1 + (marks[s] > 0)
    num_places = 0
    for i in range(num_words - 1):
        places[num_places] = i
        num_places += marks[mix(prefix[i + 2] - prefix[i] * (GRAM_STEP * GRAM_STEP)) & mask] > 1
    return num_places


@looped
def _count_grams(
    n: int, prefix: Hashes, places: Longs, num_places: int, slots: Longs, keys: Hashes, counts: Ints
) -> None:
    """Count the n-grams that begin at `places`; slots[p] is that of place p. New or not takes the same path."""
    step = GRAM_STEP
    for _ in range(n - 1):
        step *= GRAM_STEP
    size = table_size(num_places)
    mask = u64(size - 1)
    keys[:size] = 0
    counts[:size] = 0
    for p in range(num_places):
        h = mix(prefix[places[p] + n] - prefix[places[p]] * step) | u64(1)
        s = h >> u64(1) & mask
        while (keys[s] != h) & (keys[s] != u64(0)):
            s = (s + u64(1)) & mask
        keys[s] = h
        counts[s] += 1
        slots[p] = s


@looped
def _longer_places(num_places: int, places: Longs, slots: Longs, counts: Ints) -> int:
    """Keep the places where an n-gram that repeats is followed, one word on, by another: number kept."""
    kept = 0
    for p in range(num_places - 1):
        repeats = (counts[slots[p]] != 1) & (counts[slots[p + 1]] != 1)
        kept_place, follows = places[p], places[p + 1] == places[p] + 1
        places[kept] = kept_place
        kept += repeats & follows
    return kept


@looped
def _top_gram_chars(
    n: int, num_places: int, places: Longs, slots: Longs, counts: Ints, lengths: Longs
) -> int:
    """Length of the most frequent n-gram (the first of equals), spaces between its words included, times its count."""
    best, first = np.int32(1), 0
    for p in range(num_places):
        if counts[slots[p]] > best:
            best, first = counts[slots[p]], places[p]
    return int((lengths[first + n] - lengths[first] + n - 1) * best)


@looped
def _dup_gram_chars(
    n: int, num_places: int, places: Longs, slots: Longs, counts: Ints, lengths: Longs
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
