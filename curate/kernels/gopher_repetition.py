"""What the Gopher repetition rules count, per document.

Memory is proportional to the largest document: scratch grows to it and is used again. Lines, paragraphs and n-grams of
words are compared by 64-bit hashes: the odds that a document of n of them holds one false repeat are below n * n / 2^65
(one in 10^7 for a million words).
"""

from typing import NamedTuple

import numba as nb
import numpy as np
import numpy.typing as npt

from curate.kernels import lines
from curate.kernels.chunks import (
    BLANK,
    FIRST,
    MOST_EDGES,
    PAST_END,
    WINDOW,
    find_bytes,
    find_chunks,
    num_chars,
    num_letters,
    take_text,
)
from curate.kernels.gopher_grams import GRAM_STEP, repeated_grams
from curate.kernels.lanes import load8, looped
from curate.kernels.lines import table_size
from curate.kernels.unicode import DOT, SPACE
from curate.kernels.words import (
    HASH_STEP,
    Given,
    decode,
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
Ints = npt.NDArray[np.int32]
Hashes = npt.NDArray[np.uint64]

u64 = np.uint64

# Columns of repetition_counts; TOP_GRAM + n for n = 2-4, DUP_GRAM + n for n = 5-10.
(CHARS, PARAGRAPHS, DUP_PARAGRAPHS, DUP_PARAGRAPH_CHARS, LINE_SPLITS, DUP_LINES, DUP_LINE_CHARS) = range(7)
_COLUMNS = 16


def repetition_counts(
    data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64], given: Given | None = None
) -> npt.NDArray[np.int64]:
    """Counts of each row of a string column, int64 (n, 16)."""
    n = len(offsets) - 1
    out = np.zeros((n, _COLUMNS), np.int64)
    scratch = _scratch(int(np.diff(offsets).max(initial=0)), given is not None)
    _repetition(data, offsets, *(given or none_given(n)), FIRST, scratch, out)
    return out


class Scratch(NamedTuple):
    """What one call works in; `words` are those of the document at hand."""

    text: Bytes
    edges: Longs  # of chunks
    newlines: Longs
    kind: Bytes  # of units
    at: Longs
    chars: Longs
    begins: Bytes
    prefix: Hashes  # rolling hash of the words before word i
    lengths: Longs  # characters in the words before word i
    places: Longs
    slots: Longs
    keys: Hashes
    counts: Ints
    marks: Bytes


def _scratch(longest: int, is_given: bool) -> Scratch:
    """For documents of `longest` bytes and less: there are no more lines or words than bytes."""
    size = table_size(longest + 1)
    units = longest + 1
    return Scratch(
        text=np.empty(longest + PAST_END, np.uint8),
        edges=np.empty(MOST_EDGES, np.int64),
        newlines=np.empty(units, np.int64),
        kind=np.empty(units, np.uint8),
        at=np.empty(units, np.int64),
        chars=np.empty(units, np.int64),
        begins=np.empty(units if is_given else 0, np.uint8),
        prefix=np.empty(units, np.uint64),
        lengths=np.empty(units, np.int64),
        places=np.empty(units, np.int64),
        slots=np.empty(units, np.int64),
        keys=np.empty(size, np.uint64),
        counts=np.empty(size, np.int32),
        marks=np.empty(4 * size, np.uint8),
    )


@nb.njit(nogil=True, cache=True)
def _repetition(
    data: Bytes, offsets: Longs, given: Longs, starts: Longs, kinds: tuple[Bytes, Bytes], first: Hashes, scratch: Scratch,
    out: Longs,
) -> None:  # fmt: skip
    for row in range(len(out)):
        length = offsets[row + 1] - offsets[row]
        take_text(data, offsets[row], offsets[row + 1], BLANK, scratch.text)
        if given[row + 1] > given[row]:
            found = starts[given[row] : given[row + 1]]
            num_words = _given_words(length, found, kinds[0], kinds[1], scratch)
        else:
            num_words = _hash_words(length, kinds[0], kinds[1], first, scratch)
        _count_row(length, num_words, kinds[0], kinds[1], scratch, out[row])


@looped
def _count_row(
    length: int, num_words: int, index: Bytes, values: Bytes, scratch: Scratch, out: Longs
) -> None:
    text, newlines = scratch.text, scratch.newlines
    out[CHARS] = num_chars(text, length)
    num_newlines = find_bytes(text, length, 10, newlines)
    _repeated_lines(text, 0, length, newlines, num_newlines, scratch.keys, out)
    begin, end = _strip(text, length, index, values)
    _repeated_paragraphs(text, begin, end, newlines, num_newlines, scratch.keys, out)
    repeated_grams(
        num_words,
        scratch.prefix,
        scratch.lengths,
        scratch.places,
        scratch.slots,
        scratch.keys,
        scratch.counts,
        scratch.marks,
        out,
    )


@looped
def _strip(text: Bytes, length: int, index: Bytes, values: Bytes) -> tuple[int, int]:
    """The span of a text without white space around it."""
    begin, end = 0, length
    while begin < end:
        code, following = decode(text, begin, end)
        if values[np.int64(index[code >> 8]) * 256 + (code & 255)] > SPACE:
            break
        begin = following
    while end > begin:
        last = end - 1
        while last > begin and end - last < 4 and text[last] & 0xC0 == 0x80:
            last -= 1
        code, following = decode(text, last, end)
        if following < end or values[np.int64(index[code >> 8]) * 256 + (code & 255)] > SPACE:
            break
        end = last
    return begin, end


@looped
def _slot(h: np.uint64, keys: Hashes, mask: np.uint64) -> tuple[np.uint64, bool]:
    """(place of hash h in the table, whether it was put there now). 0 marks a free place; h is never 0."""
    s = h >> u64(1) & mask
    while keys[s] != h:
        if keys[s] == 0:
            keys[s] = h
            return s, True
        s = (s + u64(1)) & mask
    return s, False


@looped
def _is_repeated(text: Bytes, begin: int, end: int, keys: Hashes, mask: np.uint64) -> bool:
    _, new = _slot(lines.hash_span(text, begin, end) | u64(1), keys, mask)
    return not new


@looped
def _repeated_lines(
    text: Bytes, begin: int, end: int, newlines: Longs, num_newlines: int, keys: Hashes, out: Longs
) -> None:
    """Lines between runs of newlines, as re.split("\n+", text) gives them."""
    size = table_size(num_newlines + 1)
    keys[:size] = 0
    i, k = begin, 0
    while True:
        j = newlines[k] if k < num_newlines else end
        out[LINE_SPLITS] += 1
        if _is_repeated(text, i, j, keys, u64(size - 1)):
            out[DUP_LINES] += 1
            out[DUP_LINE_CHARS] += lines.num_chars(text, i, j)
        if k == num_newlines:
            return
        while k + 1 < num_newlines and newlines[k + 1] == newlines[k] + 1:
            k += 1
        i = newlines[k] + 1
        k += 1


@looped
def _repeated_paragraphs(
    text: Bytes, begin: int, end: int, newlines: Longs, num_newlines: int, keys: Hashes, out: Longs
) -> None:
    """Paragraphs between two and more newlines, as re.split("\n{2,}", text) gives them; begin and end are no newline."""
    size = table_size(num_newlines + 1)
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
            out[DUP_PARAGRAPH_CHARS] += lines.num_chars(text, i, j)
        if k == num_newlines:
            return
        while k + 1 < num_newlines and newlines[k + 1] == newlines[k] + 1:
            k += 1
        i = newlines[k] + 1
        k += 1


@looped
def _hash_words(length: int, index: Bytes, values: Bytes, first: Hashes, scratch: Scratch) -> int:
    """Fill prefix and lengths: number of words. Plain words, alone or with one symbol behind, are told by their bytes."""
    text, edges = scratch.text, scratch.edges
    num_words, num, at = 0, 0, 0
    scratch.prefix[0], scratch.lengths[0] = u64(0), 0
    while at <= length:
        num = find_chunks(text, at, min(at + WINDOW, length + 1), BLANK, edges, num)
        for k in range(num >> 1):
            begin, end = edges[2 * k], edges[2 * k + 1]
            size = min(end - begin, 16)
            low, high = load8(text, begin) & first[size, 0], load8(text, begin + 8) & first[size, 1]
            letters = num_letters(low, high)
            symbol = values[text[end - 1]]
            if letters == end - begin:
                _add_word(_hash16(low, high, letters), letters, num_words, scratch)
                num_words += 1
            elif (
                letters == end - begin - 1
                and symbol >= DOT
                and letters > (symbol == DOT)
                and text[end - 1] < 0x80
            ):
                low, high = low & first[letters, 0], high & first[letters, 1]
                _add_word(_hash16(low, high, letters), letters, num_words, scratch)
                _add_word(_hash16(u64(text[end - 1]), u64(0), 1), 1, num_words + 1, scratch)
                num_words += 2
            else:
                num_words = _hash_units(begin, end, index, values, num_words, scratch)
        if num & 1:
            edges[0] = edges[num - 1]
        num, at = num & 1, at + WINDOW
    return num_words


@looped
def _add_word(hashed: np.uint64, chars: int, i: int, scratch: Scratch) -> None:
    scratch.prefix[i + 1] = scratch.prefix[i] * GRAM_STEP + hashed
    scratch.lengths[i + 1] = scratch.lengths[i] + chars


@looped
def _hash16(low: np.uint64, high: np.uint64, size: int) -> np.uint64:
    """`hash_bytes` of `size` bytes, 1 - 16, in two numbers."""
    h: np.uint64 = mix((u64(size) * HASH_STEP ^ low) * HASH_STEP)
    if size > 8:
        h = mix((h ^ high) * HASH_STEP)
    return h


@looped
def _hash_units(begin: int, end: int, index: Bytes, values: Bytes, num_words: int, scratch: Scratch) -> int:
    """Append the words of a chunk: their new number."""
    kind, at, chars = scratch.kind, scratch.at, scratch.chars
    n, _ = split_units(scratch.text[begin:end], index, values, kind, at, chars)
    i, core = 0, 0
    while i < n:
        if kind[i] <= SPACE:
            i += 1
            continue
        following, core = next_word(kind, i, core)
        hashed = hash_bytes(scratch.text, begin + at[i], begin + at[following])
        _add_word(hashed, chars[following] - chars[i], num_words, scratch)
        num_words += 1
        i = following
    return num_words


@looped
def _given_words(length: int, starts: Longs, index: Bytes, values: Bytes, scratch: Scratch) -> int:
    """Fill prefix and lengths with the words given of a document: their number."""
    kind, at, chars, num_words = scratch.kind, scratch.at, scratch.chars, 0
    scratch.prefix[0], scratch.lengths[0] = u64(0), 0
    n, _ = split_units(scratch.text[:length], index, values, kind, at, chars)
    mark_given(at, n, starts, scratch.begins)
    i = 0
    while i < n:
        if kind[i] <= SPACE:
            i += 1
            continue
        following = given_word(kind, scratch.begins, i)
        hashed = hash_bytes(scratch.text, at[i], at[following])
        _add_word(hashed, chars[following] - chars[i], num_words, scratch)
        num_words += 1
        i = following
    return num_words
