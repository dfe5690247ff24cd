"""The line corrections of RefinedWeb: the text that they leave, and what they took away."""

from typing import NamedTuple

import numba as nb
import numpy as np
import numpy.typing as npt

from curate.kernels.lanes import looped
from curate.kernels.lines import (
    char_before,
    copy,
    find_newline,
    find_phrase,
    flag_at,
    num_chunks,
    phrase_at,
    strip,
    strip_row,
)
from curate.kernels.unicode import CAPITAL, DECIMAL, NUMERIC, WHITE, WORDLIKE, flags

Bytes = npt.NDArray[np.uint8]
Longs = npt.NDArray[np.int64]

# Columns of counts: what became of lines, in the order of the rules, and words before and after.
(KEPT_LINES, CAPITAL_LINES, NUMERIC_LINES, COUNTER_LINES, SHORT_LINES, CUT_LINES, WORDS, KEPT_WORDS) = range(
    8
)
_NUM_COLUMNS = 8

UNDERSCORE = 95
_CART, _MORE, _SIGN_IN = (
    np.frombuffer(phrase, np.uint8) for phrase in (b"items in cart", b"read more...", b"sign-in")
)
_COUNTED_WORDS = (
    b"likes", b"shares", b"comments", b"retweets", b"reposts", b"quotes", b"bookmarks", b"upvotes", b"downvotes",
    b"downloads", b"views", b"followers",
)  # fmt: skip
_COUNTED = np.frombuffer(b"".join(_COUNTED_WORDS), np.uint8)
_COUNTED_CUTS = np.cumsum([0, *map(len, _COUNTED_WORDS)])


class LineRules(NamedTuple):
    """Bounds of the rules on lines."""

    max_capitals_ratio: float
    max_digits_ratio: float
    remove_counters: bool
    min_words_per_line: int
    max_words_for_cuts: int


def edit_lines(
    data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64], rules: LineRules
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The text that the rules leave of each row, as (data, offsets), and counts, int64 (n, 8)."""
    out = np.empty(int(offsets[-1] - offsets[0]), np.uint8)
    out_offsets = np.zeros(len(offsets), np.int64)
    counts = np.zeros((len(offsets) - 1, _NUM_COLUMNS), np.int64)
    _edit_rows(data, offsets, rules, *flags(), counts, out, out_offsets)
    return out[: out_offsets[-1]], out_offsets, counts


@nb.njit(nogil=True, cache=True)
def _edit_rows(
    data: Bytes, offsets: Longs, rules: LineRules, index: Bytes, flags: Bytes, counts: Longs, out: Bytes,
    out_offsets: Longs,
) -> None:  # fmt: skip
    n = 0
    for row in range(len(counts)):
        text = data[offsets[row] : offsets[row + 1]]
        end = _edit(text, rules, index, flags, counts[row], out, n)
        end = strip_row(out, n, end, index, flags)
        counts[row, WORDS] = _num_words(text, 0, len(text), index, flags)
        counts[row, KEPT_WORDS] = _num_words(out, n, end, index, flags)
        n = end
        out_offsets[row + 1] = n


@looped
def _edit(
    text: Bytes, rules: LineRules, index: Bytes, flags: Bytes, counts: Longs, out: Bytes, n: int
) -> int:
    """Append what is left of a document's lines to `out`: its new length."""
    i, end = strip(text, 0, len(text), index, flags)
    num_kept = 0
    while i < end:
        last = find_newline(text, i, end)
        fate = _fate(text, i, last, rules, index, flags)
        if fate == KEPT_LINES:
            begin = n
            if num_kept > 0:
                out[n] = 10
                n += 1
            start = n
            n = _without_phrases(out, n, copy(text, i, last, out, n), rules, index, flags)
            if n - start != last - i:
                fate = CUT_LINES
            first, after = strip(out, start, n, index, flags)
            if last > i and first == after:  # nothing but the phrase
                n = begin
            else:
                num_kept += 1
        counts[fate] += last > i
        i = last + 1
    return n


@looped
def _fate(text: Bytes, begin: int, end: int, rules: LineRules, index: Bytes, flags: Bytes) -> int:
    """The first rule that removes the line. An empty line is kept."""
    if begin == end:
        return KEPT_LINES
    chars, capitals, digits = 0, 0, 0
    i = begin
    while i < end:
        flag, i = flag_at(text, i, end, index, flags)
        chars += 1
        capitals += flag & CAPITAL != 0
        digits += flag & NUMERIC != 0
    if capitals > rules.max_capitals_ratio * chars:
        return CAPITAL_LINES
    if digits > rules.max_digits_ratio * chars:
        return NUMERIC_LINES
    if rules.remove_counters and digits > 0 and _is_counter(text, begin, end, index, flags):
        return COUNTER_LINES
    if num_chunks(text, begin, end, rules.min_words_per_line, index, flags) < rules.min_words_per_line:
        return SHORT_LINES
    return KEPT_LINES


@looped
def _is_counter(text: Bytes, i: int, end: int, index: Bytes, flags: Bytes) -> bool:
    """Whether the line is a number and what it counts (3 likes, 1.2K views), with symbols around them at most."""
    i = _skip_symbols(text, i, end, index, flags)
    if i == end or not flag_at(text, i, end, index, flags)[0] & DECIMAL:
        return False
    while i < end:
        flag, following = flag_at(text, i, end, index, flags)
        if not flag & DECIMAL and text[i] not in (44, 46):  # , .
            break
        i = following
    if i < end and text[i] | 32 in (98, 107, 109):  # b k m
        i += 1
    begin = i
    while i < end:
        flag, following = flag_at(text, i, end, index, flags)
        if not flag & WHITE:
            break
        i = following
    if i == begin:
        return False
    for k in range(len(_COUNTED_CUTS) - 1):
        word = _COUNTED[_COUNTED_CUTS[k] : _COUNTED_CUTS[k + 1]]
        if phrase_at(text, i, end, word):
            return bool(_skip_symbols(text, i + len(word), end, index, flags) == end)
    return False


@looped
def _skip_symbols(text: Bytes, i: int, end: int, index: Bytes, flags: Bytes) -> int:
    """First letter, digit or underscore from i on."""
    while i < end:
        flag, following = flag_at(text, i, end, index, flags)
        if flag & WORDLIKE:
            break
        i = following
    return i


@looped
def _without_phrases(out: Bytes, begin: int, end: int, rules: LineRules, index: Bytes, flags: Bytes) -> int:
    """Cut "items in cart", a last "Read more..." and a first "Sign-in" out of the line out[begin:end]: its new end.

    Only where it has few words. White space goes with a phrase: one character before it, after "Sign-in".
    """
    most = rules.max_words_for_cuts
    found = find_phrase(out, begin, end, _CART)
    if found >= 0 and num_chunks(out, begin, end, most + 1, index, flags) <= most:
        while found >= 0:
            first = _white_before(out, begin, found, index, flags)
            end = copy(out, found + len(_CART), end, out, first)
            found = find_phrase(out, first, end, _CART)
    last = end - len(_MORE)
    is_more = last >= begin and phrase_at(out, last, end, _MORE)
    if is_more and num_chunks(out, begin, end, most + 1, index, flags) <= most:
        end = _white_before(out, begin, last, index, flags)
    if phrase_at(out, begin, end, _SIGN_IN) and num_chunks(out, begin, end, most + 1, index, flags) <= most:
        first = begin + len(_SIGN_IN)
        if first < end:
            flag, following = flag_at(out, first, end, index, flags)
            first = following if flag & WHITE else first
        end = copy(out, first, end, out, begin)
    return end


@looped
def _white_before(text: Bytes, begin: int, i: int, index: Bytes, flags: Bytes) -> int:
    """Where the white space character before i begins; i where there is none."""
    if i == begin:
        return i
    before = char_before(text, begin, i)
    return before if flag_at(text, before, i, index, flags)[0] & WHITE else i


@looped
def _num_words(text: Bytes, i: int, end: int, index: Bytes, flags: Bytes) -> int:
    """Words between white space that begin with a letter or digit."""
    num, inside = 0, False
    while i < end:
        c = text[i]
        flag, following = flag_at(text, i, end, index, flags)
        if flag & WHITE:
            inside = False
        elif not inside:
            inside = True
            num += flag & WORDLIKE != 0 and c != UNDERSCORE
        i = following
    return num
