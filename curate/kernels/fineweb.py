"""What the FineWeb rules count, per document: its lines that are not blank, and its words.

Lines are compared by 64-bit hashes, as in `gopher`.
"""

import numba as nb
import numpy as np
import numpy.typing as npt

from curate.kernels.lanes import looped
from curate.kernels.lines import (
    char_before,
    find_newline,
    flag_at,
    is_repeated,
    num_chars,
    strip,
    table_size,
)
from curate.kernels.unicode import DOT, LETTER, SPACE, TERMINAL, UPPER, flags, kinds
from curate.kernels.words import decode, next_word, split_units

Bytes = npt.NDArray[np.uint8]
Longs = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

# Columns of line_counts; lines are those that are not blank, CHARS leaves the newlines out.
LINES, ENDED_LINES, SHORT_LINES, DUP_LINE_CHARS, CHARS, NEWLINES = range(6)

NOT_ASCII = 255


def line_counts(
    data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64], short_line_chars: int
) -> npt.NDArray[np.int64]:
    """Counts of each row of a string column, int64 (n, 6). A line of `short_line_chars` characters is short."""
    out = np.zeros((len(offsets) - 1, 6), np.int64)
    _count_rows(data, offsets, short_line_chars, *flags(), out)
    return out


@nb.njit(nogil=True, cache=True)
def _count_rows(data: Bytes, offsets: Longs, short: int, index: Bytes, flags: Bytes, out: Longs) -> None:
    keys = np.empty(64, np.uint64)
    for row in range(len(out)):
        text = data[offsets[row] : offsets[row + 1]]
        num_newlines = 0
        for i in range(len(text)):
            num_newlines += text[i] == 10
        size = table_size(num_newlines + 1)
        if len(keys) < size:
            keys = np.empty(size, np.uint64)
        _count_lines(text, short, index, flags, keys[:size], out[row])
        out[row, NEWLINES] = num_newlines
        out[row, CHARS] = num_chars(text, 0, len(text)) - num_newlines


@looped
def _count_lines(text: Bytes, short: int, index: Bytes, flags: Bytes, keys: Hashes, out: Longs) -> None:
    keys[:] = 0
    begin = 0
    while begin <= len(text):
        end = find_newline(text, begin, len(text))
        first, last = strip(text, begin, end, index, flags)
        if first < last:
            out[LINES] += 1
            flag, _ = flag_at(text, char_before(text, begin, end), end, index, flags)
            out[ENDED_LINES] += flag & TERMINAL != 0
            size = end - begin
            out[SHORT_LINES] += size <= 4 * short and (size <= short or num_chars(text, begin, end) <= short)
            if is_repeated(text, begin, end, keys):
                out[DUP_LINE_CHARS] += num_chars(text, begin, end)
        begin = end + 1


def word_counts(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Number of words of each row, as `words` cuts them, int64 (n,)."""
    index, kind_values = kinds()
    plain = np.full(256, NOT_ASCII, np.uint8)
    plain[:128] = kind_values[:128]
    out = np.zeros(len(offsets) - 1, np.int64)
    _count_words(data, offsets, plain, index, kind_values, out)
    return out


@nb.njit(nogil=True, cache=True)
def _count_words(
    data: Bytes, offsets: Longs, plain: Bytes, index: Bytes, kind_values: Bytes, out: Longs
) -> None:
    longest = np.max(offsets[1:] - offsets[:-1]) if len(out) else 0
    kind = np.empty(longest + 1, np.uint8)
    at, chars = np.empty(longest + 1, np.int64), np.empty(longest + 1, np.int64)
    for row in range(len(out)):
        text = data[offsets[row] : offsets[row + 1]]
        out[row] = _num_words(text, plain, index, kind_values, kind, at, chars)


@looped
def _num_words(
    text: Bytes, plain: Bytes, index: Bytes, kind_values: Bytes, kind: Bytes, at: Longs, chars: Longs
) -> int:
    """Words of a text: those of ASCII letters, alone or with one symbol behind, are told by their bytes."""
    num, i, end = 0, 0, len(text)
    while i < end:
        if plain[text[i]] <= SPACE:
            i += 1
            continue
        j = i
        while j < end and LETTER <= plain[text[j]] <= UPPER:
            j += 1
        k = plain[text[j]] if j < end else np.uint8(SPACE)
        if k <= SPACE:
            num += 1
            i = j
        elif DOT <= k < NOT_ASCII and j > i + (k == DOT) and (j + 1 == end or plain[text[j + 1]] <= SPACE):
            num += 2
            i = j + 1
        else:
            j = _chunk_end(text, j, index, kind_values)
            if j == i:  # white space that is not ASCII
                _, i = decode(text, i, end)
                continue
            n, _ = split_units(text[i:j], index, kind_values, kind, at, chars)
            num += _num_unit_words(kind, n)
            i = j
    return num


@looped
def _chunk_end(text: Bytes, i: int, index: Bytes, kind_values: Bytes) -> int:
    """End of what lies between white space."""
    while i < len(text):
        code, following = np.int64(text[i]), i + 1
        if code >= 0x80:
            code, following = decode(text, i, len(text))
        if kind_values[np.int64(index[code >> 8]) * 256 + (code & 255)] <= SPACE:
            break
        i = following
    return i


@looped
def _num_unit_words(kind: Bytes, n: int) -> int:
    num, core, i = 0, 0, 0
    while i < n:
        if kind[i] <= SPACE:
            i += 1
            continue
        i, core = next_word(kind, i, core)
        num += 1
    return num
