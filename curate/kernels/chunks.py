"""Chunks of UTF-8 text, which lie between white space of ASCII: most of them are one plain word, and told by their bytes.

Texts stand at the begin of a buffer that has at least PAST_END bytes more, blank from the text's end on.
"""

import numpy as np
import numpy.typing as npt

from curate.kernels.lanes import between64, inlined, looped, ones, trailing_zeros

Bytes = npt.NDArray[np.uint8]
Longs = npt.NDArray[np.int64]

u64 = np.uint64
PAST_END = 64  # bytes behind a text that are read
WINDOW = 2048  # bytes whose chunks are found at a time; a multiple of 64
MOST_EDGES = WINDOW + 2
NUL, BLANK = 0, 32

_CASE, _SEVEN, _HIGH = u64(0x2020202020202020), u64(0x7F7F7F7F7F7F7F7F), u64(0x8080808080808080)
_FROM_A, _PAST_Z = u64(0x1F1F1F1F1F1F1F1F), u64(0x0505050505050505)
# FIRST[n]: masks of the first n bytes of 32, in four numbers.
FIRST = np.array([[(1 << 8 * min(max(n - 8 * k, 0), 8)) - 1 for k in range(4)] for n in range(33)], np.uint64)


@looped
def take_text(data: Bytes, begin: int, end: int, behind: int, text: Bytes) -> None:
    """Copy data[begin:end] to the begin of `text`, with PAST_END bytes of `behind` after it."""
    for i in range(end - begin):
        text[i] = data[begin + i]
    for i in range(end - begin, end - begin + PAST_END):
        text[i] = behind


@looped
def find_chunks(text: Bytes, at: int, stop: int, behind: int, edges: Longs, num: int) -> int:
    """Append begin and end of each chunk of text[at:stop] to `edges`, which holds `num` of them: their new number.

    White space is what `str.isspace` says of ASCII, or, where NUL stands behind the text, what fastText says. Reads the
    last 64 bytes to their end and finds edges there too. An odd number: a chunk goes on behind them.
    """
    before = u64(0) if num & 1 else u64(1)  # whether white space stands before `at`
    low = BLANK if behind == NUL else 28
    while at < stop:
        white = between64(text, at, 9, 13) | between64(text, at, low, BLANK)
        if behind == NUL:
            white |= between64(text, at, NUL, NUL)
        found = white ^ (white << u64(1) | before)
        before = white >> u64(63)
        while found:
            edges[num] = at + np.int64(trailing_zeros(found))
            num += 1
            found &= found - u64(1)
        at += 64
    return num


@inlined
def _not_letters(eight: np.uint64) -> np.uint64:
    """High bit of each byte that is no letter of ASCII."""
    small = (eight | _CASE) & _SEVEN
    return (~((small + _FROM_A) ^ (small + _PAST_Z)) | eight) & _HIGH


@inlined
def num_letters(first: np.uint64, second: np.uint64) -> np.int64:
    """Letters of ASCII with which 16 bytes begin."""
    found, more = _not_letters(first), _not_letters(second)
    if found:
        return np.int64(trailing_zeros(found) >> u64(3))
    return np.int64(8) + np.int64(trailing_zeros(more) >> u64(3))


@looped
def find_bytes(text: Bytes, length: int, byte: int, places: Longs) -> int:
    """Places of a byte in text[:length]: their number. `behind` must be another byte."""
    num = 0
    for at in range(0, length, 64):
        found = between64(text, at, byte, byte)
        while found:
            places[num] = at + np.int64(trailing_zeros(found))
            num += 1
            found &= found - u64(1)
    return num


@looped
def num_chars(text: Bytes, length: int) -> int:
    """Characters of text[:length]: bytes that do not continue one."""
    num = length
    for at in range(0, length, 64):
        num -= int(ones(between64(text, at, 0x80, 0xBF)))
    return num
