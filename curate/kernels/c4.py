"""What the rules of C4 make of the lines of a document: counts, and the text that they leave."""

from typing import NamedTuple

import numba as nb
import numpy as np
import numpy.typing as npt

from curate.kernels.lanes import load8, looped
from curate.kernels.lines import (
    copy,
    find_control,
    find_phrase,
    first_bytes,
    flag_at,
    has_long_chunk,
    num_chars,
    num_chunks,
    num_sentences,
    strip,
    strip_row,
)
from curate.kernels.unicode import DECIMAL, LINE_END, TERMINAL, flags

Bytes = npt.NDArray[np.uint8]
Longs = npt.NDArray[np.int64]

u64 = np.uint64

# Columns of counts: what became of lines that are not blank, in the order of the rules; then what else is counted.
(
    KEPT_LINES,
    LONG_WORD_LINES,
    UNENDED_LINES,
    SHORT_LINES,
    JAVASCRIPT_LINES,
    POLICY_LINES,
    LOREM_IPSUM_LINES,
    CURLY_BRACKET_LINES,
    SENTENCES,
    PARAGRAPHS,
) = range(10)
_NUM_COLUMNS = 10

LOREM_IPSUM, JAVASCRIPT, POLICY, CITATION, CURLY_BRACKET = 1, 2, 4, 8, 16  # what a document may hold
NEWLINE, DOT, SQUARE, CURLY = 10, 46, 91, 123
_LOREM_IPSUM, _JAVASCRIPT, _EDIT, _CITATION_NEEDED = (
    np.frombuffer(phrase, np.uint8)
    for phrase in (b"lorem ipsum", b"javascript", b"[edit]", b"[citation needed]")
)
_POLICY = np.frombuffer(
    b"terms of useprivacy policycookie policyuses cookiesuse of cookiesuse cookies", np.uint8
)
_POLICY_CUTS = np.cumsum([0, 12, 14, 13, 12, 14, 11])


class LineRules(NamedTuple):
    """Which rules apply to lines; 0 turns a number off."""

    remove_citations: bool
    filter_no_terminal_punct: bool
    min_words_per_line: int
    max_word_length: int
    filter_javascript: bool
    filter_policy: bool


def line_counts(
    data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64], rules: LineRules, paragraph_chars: int
) -> npt.NDArray[np.int64]:
    """Counts of each row of a string column, int64 (n, 10). A paragraph is a line of `paragraph_chars` and more."""
    out = np.empty(0, np.uint8)
    no_text = np.empty(0, np.int64)
    counts: Longs = _judge_rows(data, offsets, rules, paragraph_chars, *_tables(), out, no_text, True)
    return counts


def edit_lines(
    data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64], rules: LineRules, strip_rows: bool = True
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The lines that the rules leave of each row, as (data, offsets), and the row's counts."""
    out = np.empty(int(offsets[-1] - offsets[0]), np.uint8)
    out_offsets = np.zeros(len(offsets), np.int64)
    counts = _judge_rows(data, offsets, rules, 0, *_tables(), out, out_offsets, strip_rows)
    return out[: out_offsets[-1]], out_offsets, counts


def _tables() -> tuple[Bytes, Bytes, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    return *flags(), first_bytes(LINE_END), first_bytes(TERMINAL)


@nb.njit(nogil=True, cache=True)
def _judge_rows(
    data: Bytes, offsets: Longs, rules: LineRules, paragraph_chars: int, index: Bytes, flags: Bytes, breaks: Bytes,
    ends: Bytes, out: Bytes, out_offsets: Longs, strip_rows: bool,
) -> Longs:  # fmt: skip
    """Counts; the text that is left too where there is room for it."""
    counts = np.zeros((len(offsets) - 1, _NUM_COLUMNS), np.int64)
    uncited = np.empty(np.max(offsets[1:] - offsets[:-1]) if len(counts) else 0, np.uint8)
    n = 0
    for row in range(len(counts)):
        text = data[offsets[row] : offsets[row + 1]]
        end = _judge_lines(text, rules, index, flags, breaks, ends, counts[row], uncited, out, n)
        if len(out_offsets) > 0:
            n = strip_row(out, n, end, index, flags) if strip_rows else end
            out_offsets[row + 1] = n
        if paragraph_chars > 0:
            counts[row, PARAGRAPHS] = _num_paragraphs(text, paragraph_chars)
    return counts


@looped
def _judge_lines(
    text: Bytes, rules: LineRules, index: Bytes, flags: Bytes, breaks: Bytes, ends: Bytes, counts: Longs,
    uncited: Bytes, out: Bytes, n: int,
) -> int:  # fmt: skip
    """Count the lines of a document and, where there is room, append those that are left to `out`: its new length."""
    held, num_kept, i = _held(text, uncited), 0, 0
    while i < len(text):
        (first, last), i = _line_end(text, i, breaks)
        first, last = strip(text, first, last, index, flags)
        if _has_long_word(text, first, last, rules, index, flags):
            counts[LONG_WORD_LINES] += 1
            continue
        enough = (
            num_chunks(text, first, last, rules.min_words_per_line, index, flags) >= rules.min_words_per_line
        )
        is_blank = first == last
        if held & CITATION and rules.remove_citations and _has(text, first, last, SQUARE):
            size = _without_citations(text, first, last, uncited, index, flags)
            fate = _fate(uncited, 0, size, enough, held, rules, counts)
            if fate == KEPT_LINES:
                n, num_kept = _keep(uncited, 0, size, counts, num_kept, ends, index, flags, out, n)
        else:
            fate = _fate(text, first, last, enough, held, rules, counts)
            if fate == KEPT_LINES:
                n, num_kept = _keep(text, first, last, counts, num_kept, ends, index, flags, out, n)
        counts[fate] += not is_blank
    return n


@looped
def _keep(
    line: Bytes, first: int, last: int, counts: Longs, num_kept: int, ends: Bytes, index: Bytes, flags: Bytes,
    out: Bytes, n: int,
) -> tuple[int, int]:  # fmt: skip
    if len(out) == 0:
        counts[SENTENCES] += num_sentences(line, first, last, ends, index, flags)
        return n, num_kept + 1
    if num_kept > 0:
        out[n] = NEWLINE
        n += 1
    return copy(line, first, last, out, n), num_kept + 1


@looped
def _held(text: Bytes, scratch: Bytes) -> int:
    """What the text may hold, by a few letters of each phrase; most texts hold none. The first loop is vectorised."""
    held, n = u64(0), max(len(text) - 6, 0)
    for i in range(n):
        a, b, c, d = text[i] | 32, text[i + 1] | 32, text[i + 2] | 32, text[i + 3] | 32
        e, f, g = text[i + 4] | 32, text[i + 5] | 32, text[i + 6] | 32
        lorem = (a == 114) & (b == 101) & (c == 109) & (d == 32) & (e == 105) & (f == 112)  # rem ip
        javascript = (a == 97) & (b == 118) & (c == 97) & (d == 115) & (e == 99)  # avasc
        policy = (a == 99) & (b == 111) & (c == 111) & (d == 107) & (e == 105) & (f == 101)  # cookie
        policy |= (
            (a == 121) & (b == 32) & (c == 112) & (d == 111) & (e == 108) & (f == 105) & (g == 99)
        )  # y polic
        policy |= (
            (a == 109) & (b == 115) & (c == 32) & (d == 111) & (e == 102) & (f == 32) & (g == 117)
        )  # ms of u
        scratch[i] = (
            lorem * LOREM_IPSUM | javascript * JAVASCRIPT | policy * POLICY
            | (text[i] == SQUARE) * CITATION | (text[i] == CURLY) * CURLY_BRACKET
        )  # fmt: skip
    for i in range(n, len(text)):
        scratch[i] = (text[i] == SQUARE) * CITATION | (text[i] == CURLY) * CURLY_BRACKET
    i = 0
    while i + 8 <= len(text):
        held |= load8(scratch, i)
        i += 8
    held |= held >> u64(32)
    held |= held >> u64(16)
    held |= held >> u64(8)
    while i < len(text):
        held |= u64(scratch[i])
        i += 1
    return int(held & u64(31))


@looped
def _line_end(text: Bytes, i: int, breaks: Bytes) -> tuple[tuple[int, int], int]:
    """(span of the line at i, begin of the next), as `str.splitlines` cuts them."""
    begin = i
    while True:
        i = find_control(text, i, len(text))
        if i == len(text):
            return (begin, i), i
        c = text[i]
        if not breaks[c]:
            i += 1
        elif c == NEWLINE:
            return (begin, i), i + 1
        elif c < 0x80:
            pair = c == 13 and i + 1 < len(text) and text[i + 1] == NEWLINE
            return (begin, i), i + 1 + pair
        elif c == 0xC2 and i + 1 < len(text) and text[i + 1] == 0x85:
            return (begin, i), i + 2
        elif c == 0xE2 and i + 2 < len(text) and text[i + 1] == 0x80 and text[i + 2] & 0xFE == 0xA8:
            return (begin, i), i + 3
        else:
            i += 1


@looped
def _has_long_word(text: Bytes, first: int, last: int, rules: LineRules, index: Bytes, flags: Bytes) -> bool:
    most = rules.max_word_length
    return most > 0 and last - first > most and has_long_chunk(text, first, last, most, index, flags)


@looped
def _has(text: Bytes, first: int, last: int, byte: int) -> bool:
    while first < last and text[first] != byte:
        first += 1
    return first < last


@looped
def _fate(
    line: Bytes, first: int, last: int, enough: bool, held: int, rules: LineRules, counts: Longs
) -> int:
    """The first rule that removes the line; before that, it counts where it would drop the document."""
    if rules.filter_no_terminal_punct and not _is_ended(line, first, last):
        return UNENDED_LINES
    if not enough:
        return SHORT_LINES
    if held & LOREM_IPSUM:
        counts[LOREM_IPSUM_LINES] += find_phrase(line, first, last, _LOREM_IPSUM) >= 0
    if held & JAVASCRIPT and rules.filter_javascript and find_phrase(line, first, last, _JAVASCRIPT) >= 0:
        return JAVASCRIPT_LINES
    if held & CURLY_BRACKET:
        counts[CURLY_BRACKET_LINES] += _has(line, first, last, CURLY)
    if held & POLICY and rules.filter_policy:
        for k in range(len(_POLICY_CUTS) - 1):
            if find_phrase(line, first, last, _POLICY[_POLICY_CUTS[k] : _POLICY_CUTS[k + 1]]) >= 0:
                return POLICY_LINES
    return KEPT_LINES


@looped
def _is_ended(line: Bytes, first: int, last: int) -> bool:
    """Whether the line ends in . ? ! " or ', and not in three dots."""
    if first == last:
        return False
    c = line[last - 1]
    if c == DOT:
        return not (last - first >= 3 and line[last - 2] == DOT and line[last - 3] == DOT)
    return c in (33, 34, 39, 63)


@looped
def _without_citations(text: Bytes, i: int, end: int, out: Bytes, index: Bytes, flags: Bytes) -> int:
    """Write the span without [12], [], [edit] and [citation needed]: bytes written."""
    n = 0
    while i < end:
        if text[i] == SQUARE:
            j = i + 1
            while j < end:
                flag, following = flag_at(text, j, end, index, flags)
                if not flag & DECIMAL:
                    break
                j = following
            if j < end and text[j] == 93:
                i = j + 1
                continue
            if _is_at(text, i, end, _EDIT):
                i += len(_EDIT)
                continue
            if _is_at(text, i, end, _CITATION_NEEDED):
                i += len(_CITATION_NEEDED)
                continue
        out[n] = text[i]
        n += 1
        i += 1
    return n


@looped
def _is_at(text: Bytes, i: int, end: int, phrase: Bytes) -> bool:
    if i + len(phrase) > end:
        return False
    j = 0
    while j < len(phrase) and text[i + j] == phrase[j]:
        j += 1
    return j == len(phrase)


@looped
def _num_paragraphs(text: Bytes, least: int) -> int:
    """Lines between newlines that have at least so many characters."""
    num, begin = 0, 0
    for i in range(len(text) + 1):
        if i == len(text) or text[i] == NEWLINE:
            num += i - begin >= least and num_chars(text, begin, i) >= least
            begin = i + 1
    return num
