"""Texts as pieces: lines, paragraphs or sentences, a hash of each, and texts without some of them.

The pieces of n rows tile their bytes: piece p is data[starts[p] : starts[p + 1]], and those of row r are
rows[r] : rows[r + 1]. What stands between two pieces, newlines and other white space, belongs to the one before.
"""

from typing import Any, NamedTuple

import numba as nb
import numpy as np
import numpy.typing as npt

from curate.kernels.lanes import load8, looped
from curate.kernels.lines import (
    DOT,
    HIGH_BITS,
    _after_single_letter,
    _next_sentence,
    copy,
    find_mark,
    find_newline,
    first_bytes,
    flag_at,
    num_chars,
    strip,
    strip_row,
)
from curate.kernels.shingles import (
    BLANK,
    GAP,
    NUMBER,
    PAD,
    Folding,
    Normal,
    Scratch,
    folding,
    mixed,
    normalise,
    scratch_for,
)
from curate.kernels.strings import frozen
from curate.kernels.unicode import TERMINAL, WHITE, flags

Bytes = npt.NDArray[np.uint8]
Longs = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Checks = npt.NDArray[np.uint32]
Flags = npt.NDArray[np.bool_]

u64 = np.uint64
STEP, OTHER_STEP = u64(0x9E3779B97F4A7C15), u64(0xC2B2AE3D27D4EB4F)
CCNET = Normal(case=True, accents=True, punctuation=True, digits=True)


class Pieces(NamedTuple):
    """The pieces of n rows of a string column."""

    data: Bytes
    starts: Longs  # (m + 1,)
    rows: Longs  # (n + 1,)


class Digests(NamedTuple):
    """96 bits of hash of each of m pieces, and which can be told apart at all."""

    high: Hashes
    check: Checks
    judged: Flags


def lines(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64], newline_first: bool = False) -> Pieces:
    """Pieces between newlines; a newline ends its line, or with `newline_first` begins the next one."""
    starts, rows = _room(offsets)
    m = _lines(frozen(data), frozen(offsets), newline_first, starts, rows)
    return Pieces(frozen(data), starts[: m + 1], rows)


def paragraphs(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> Pieces:
    """Pieces between blank lines."""
    starts, rows = _room(offsets)
    m = _paragraphs(frozen(data), frozen(offsets), *map(frozen, flags()), starts, rows)
    return Pieces(frozen(data), starts[: m + 1], rows)


def sentences(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> Pieces:
    """Sentences as `lines.num_sentences` counts them: no sentence goes on in the next line."""
    starts, rows = _room(offsets)
    tables = frozen(first_bytes(TERMINAL).view(np.uint8)), *map(frozen, flags())
    m = _sentences(frozen(data), frozen(offsets), *tables, starts, rows)
    return Pieces(frozen(data), starts[: m + 1], rows)


def _room(offsets: Longs) -> tuple[Longs, Longs]:
    # what is not touched of it costs no memory
    return np.empty(int(offsets[-1] - offsets[0]) + 2, np.int64), np.zeros(len(offsets), np.int64)


def digests(pieces: Pieces, min_chars: int, normal: Normal | None) -> Digests:
    """Hash each piece without white space at its ends, or its normalised words in order.

    Not judged are pieces that are blank, shorter than `min_chars`, or without a word once normalised.
    """
    m = len(pieces.starts) - 1
    found = Digests(np.zeros(m, np.uint64), np.zeros(m, np.uint32), np.zeros(m, np.bool_))
    fold, scratch = folding(normal or CCNET), scratch_for(pieces.starts if normal else np.zeros(2, np.int64))
    _digests(
        pieces.data,
        frozen(pieces.starts),
        min_chars,
        normal is not None,
        *map(frozen, flags()),
        fold,
        scratch,
        *found,
    )
    return found


def windows(found: Digests, rows: npt.NDArray[np.int64], size: int) -> Digests:
    """Hashes of `size` pieces of a row in a row, each at its first piece; judged when one of them is."""
    m = len(found.high)
    out = Digests(np.zeros(m, np.uint64), np.zeros(m, np.uint32), np.zeros(m, np.bool_))
    _windows(*found, rows, size, *out)
    return out


def without(
    pieces: Pieces, gone: npt.NDArray[np.bool_], trim: bool
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The rows without the pieces that are gone: (data, offsets, number of pieces gone from each row).

    With `trim` a row that lost a piece loses the white space at its ends, too.
    """
    n = len(pieces.rows) - 1
    out = np.empty(int(pieces.starts[-1] - pieces.starts[0]), np.uint8)
    offsets, num = np.zeros(n + 1, np.int64), np.zeros(n, np.int64)
    _without(
        pieces.data, frozen(pieces.starts), frozen(pieces.rows), frozen(gone), trim, *map(frozen, flags()), out,
        offsets, num,
    )  # fmt: skip
    return out[: offsets[-1]], offsets, num


@nb.njit(nogil=True, cache=True)
def _lines(data: Bytes, offsets: Longs, newline_first: bool, starts: Longs, rows: Longs) -> int:
    m, behind = 0, 0 if newline_first else 1
    for r in range(len(rows) - 1):
        begin, end = offsets[r], offsets[r + 1]
        rows[r] = m
        if begin == end:
            continue
        starts[m] = begin
        m += 1
        i = find_newline(data, begin, end)
        while i < end:
            if begin < i + behind < end:
                starts[m] = i + behind
                m += 1
            i = find_newline(data, i + 1, end)
    rows[-1], starts[m] = m, offsets[-1]
    return m


@nb.njit(nogil=True, cache=True)
def _paragraphs(data: Bytes, offsets: Longs, index: Bytes, values: Bytes, starts: Longs, rows: Longs) -> int:
    m = 0
    for r in range(len(rows) - 1):
        i, end = offsets[r], offsets[r + 1]
        rows[r] = m
        blank_before = True
        while i < end:
            stop = min(find_newline(data, i, end) + 1, end)
            first, last = strip(data, i, stop, index, values)
            if m == rows[r] or (blank_before and first < last):
                starts[m] = i
                m += 1
            blank_before = first == last
            i = stop
    rows[-1], starts[m] = m, offsets[-1]
    return m


@nb.njit(nogil=True, cache=True)
def _sentences(
    data: Bytes, offsets: Longs, ends: Bytes, index: Bytes, values: Bytes, starts: Longs, rows: Longs
) -> int:
    m = 0
    for r in range(len(rows) - 1):
        i, end = offsets[r], offsets[r + 1]
        rows[r] = m
        while i < end:
            stop = find_newline(data, i, end)
            m = _sentences_of_line(data, i, stop, ends, index, values, starts, m)
            i = stop + 1
        if m > rows[r]:
            starts[rows[r]] = offsets[r]  # white space before the first
        elif offsets[r] < end:
            starts[m] = offsets[r]
            m += 1
    rows[-1], starts[m] = m, offsets[-1]
    return m


@looped
def _sentences_of_line(
    text: Bytes, begin: int, end: int, ends: Bytes, index: Bytes, values: Bytes, starts: Longs, m: int
) -> int:
    """Add where the sentences of a line begin; the rules are those of `lines.num_sentences`."""
    begin, end = strip(text, begin, end, index, values)
    if begin < end:
        starts[m] = begin
        m += 1
    i = begin
    while True:
        i = find_mark(text, i, end)
        if i == end:
            return m
        if not ends[text[i]]:
            i += 1
            continue
        flag, following = flag_at(text, i, end, index, values)
        if not flag & TERMINAL:
            i = following
            continue
        if text[i] == DOT:
            if following < end and text[following] == DOT:
                while i < end and text[i] == DOT:
                    i += 1
                continue
            if _after_single_letter(text, begin, i, index, values):
                i = following
                continue
        ended, i = _next_sentence(text, i, following, end, index, values)
        if i == end:
            return m
        if ended:
            starts[m] = _first_behind(text, following, i, index, values)
            m += 1


@looped
def _first_behind(text: Bytes, i: int, end: int, index: Bytes, values: Bytes) -> int:
    """Where a sentence begins between the mark before i and its first letter: opening quotes belong to it."""
    white = False
    while i < end:
        flag, following = flag_at(text, i, end, index, values)
        if white and not flag & WHITE:
            return i
        white = bool(flag & WHITE)
        i = following
    return end


@looped
def digest(text: Bytes, begin: int, end: int) -> tuple[Any, Any]:
    """Two 64-bit hashes of text[begin:end]."""
    a, b = u64(end - begin) * STEP, u64(end - begin) * OTHER_STEP
    i = begin
    while i < end:
        if end - i >= 8:
            eight = load8(text, i)
        else:
            eight = u64(0)
            for j in range(end - i):
                eight |= u64(text[i + j]) << u64(8 * j)
        a, b = mixed((a ^ eight) * STEP), mixed((b + eight) * OTHER_STEP)
        i += 8
    return a, b


@looped
def _is_ascii(text: Bytes, i: int, end: int) -> bool:
    while i + 8 <= end:
        if load8(text, i) & HIGH_BITS:
            return False
        i += 8
    while i < end and text[i] < 0x80:
        i += 1
    return i == end


@looped
def _fold_ascii(data: Bytes, begin: int, end: int, entries: npt.NDArray[np.int32], out: Bytes) -> int:
    """What `normalise` and `_squeeze` give for ASCII, several times as fast: the end of the words in `out`."""
    o, digits = PAD, -1
    for i in range(begin, end):
        entry = int(entries[data[i]])
        part = entry & 7
        if part == GAP:
            if out[o - 1] != BLANK:
                out[o] = BLANK
                o += 1
        elif part != NUMBER:
            out[o] = data[i] + (entry >> 3)
            o += 1
        elif digits != o:
            out[o] = ord("0")
            o += 1
            digits = o
    return o - 1 if o > PAD and out[o - 1] == BLANK else o


@looped
def _squeeze(text: Bytes, begin: int, end: int) -> int:
    """Leave one blank between the words of text[begin:end] and none at its ends; its new end."""
    o = begin
    for i in range(begin, end):
        if text[i] != BLANK or (o > begin and text[o - 1] != BLANK):
            text[o] = text[i]
            o += 1
    return o - 1 if o > begin and text[o - 1] == BLANK else o


@nb.njit(nogil=True, cache=True)
def _digests(
    data: Bytes, starts: Longs, min_chars: int, fold: bool, index: Bytes, values: Bytes, folding: Folding,
    scratch: Scratch, high: Hashes, check: Checks, judged: Flags,
) -> None:  # fmt: skip
    for p in range(len(high)):
        begin, end = strip(data, starts[p], starts[p + 1], index, values)
        if begin == end or end - begin < min_chars or num_chars(data, begin, end) < min_chars:
            continue
        if fold:
            if _is_ascii(data, begin, end):
                stop = _fold_ascii(data, begin, end, folding.entries, scratch.text)
            else:
                stop = _squeeze(scratch.text, PAD, normalise(data, begin, end, folding, scratch))
            judged[p] = stop > PAD
            a, b = digest(scratch.text, PAD, stop)
        else:
            judged[p] = True
            a, b = digest(data, begin, end)
        high[p], check[p] = a, np.uint32(b >> u64(32))


@nb.njit(nogil=True, cache=True)
def _windows(
    high: Hashes,
    check: Checks,
    judged: Flags,
    rows: Longs,
    size: int,
    out: Hashes,
    out_check: Checks,
    out_judged: Flags,
) -> None:
    for r in range(len(rows) - 1):
        for p in range(rows[r], rows[r + 1] - size + 1):
            a, b = u64(0), u64(0)
            for q in range(p, p + size):
                a = mixed(a * STEP + high[q])
                b = mixed(b * OTHER_STEP + u64(check[q]))
                out_judged[p] |= judged[q]
            out[p], out_check[p] = a, np.uint32(b >> u64(32))


@nb.njit(nogil=True, cache=True)
def _without(
    data: Bytes, starts: Longs, rows: Longs, gone: Flags, trim: bool, index: Bytes, values: Bytes, out: Bytes,
    offsets: Longs, num: Longs,
) -> None:  # fmt: skip
    n = 0
    for r in range(len(num)):
        begin = n
        for p in range(rows[r], rows[r + 1]):
            if gone[p]:
                num[r] += 1
            else:
                n = copy(data, starts[p], starts[p + 1], out, n)
        if trim and num[r]:
            n = strip_row(out, begin, n, index, values)
        offsets[r + 1] = n
