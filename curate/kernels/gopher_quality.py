"""What the Gopher quality rules count, per document. Scratch grows to the largest document and is used again."""

from collections.abc import Sequence

import numba as nb
import numpy as np
import numpy.typing as npt

from curate.kernels.unicode import ALONE, BREAK, DIGIT, DOT, SPACE, UPPER
from curate.kernels.words import (
    Given,
    given_word,
    hash_bytes,
    mark_given,
    next_word,
    none_given,
    split_units,
)

Bytes = npt.NDArray[np.uint8]
Longs = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

# Columns of quality_counts. Words here hold a letter or digit, tokens are all words.
(
    WORDS,
    WORD_CHARS,
    TOKENS,
    ALPHA_TOKENS,
    STOP_WORDS,
    HASHES,
    ELLIPSES,
    LINES,
    BULLET_LINES,
    ELLIPSIS_LINES,
) = range(10)


def quality_counts(
    data: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    stop_words: Sequence[tuple[str, ...]],
    group: npt.NDArray[np.int64] | None = None,
    given: Given | None = None,
    distinct: bool = True,
) -> npt.NDArray[np.int64]:
    """Counts of each row of a string column, int64 (n, 10).

    STOP_WORDS counts those of stop_words[group[row]] (group None: all rows have the first), each once if `distinct`.
    """
    n = len(offsets) - 1
    lists = [_hashes(words) for words in stop_words]
    stop_offsets = np.cumsum([0, *map(len, lists)])
    longest = max((len(word.encode()) for words in stop_words for word in words), default=0)
    out = np.zeros((n, 10), np.int64)
    _quality(
        data, offsets, *(given or none_given(n)), np.concatenate([np.zeros(0, np.uint64), *lists]), stop_offsets,
        np.zeros(n, np.int64) if group is None else group, longest, distinct, out,
    )  # fmt: skip
    return out


def _hashes(words: tuple[str, ...]) -> Hashes:
    """Sorted hashes of different words."""
    found = {hash_bytes(np.frombuffer(word.encode(), np.uint8), 0, len(word.encode())) for word in words}
    return np.array(sorted(found), np.uint64)


@nb.njit(nogil=True, cache=True)
def _quality(
    data: Bytes, offsets: Longs, given: Longs, starts: Longs, kinds: tuple[Bytes, Bytes], stop_hashes: Hashes,
    stop_offsets: Longs, group: Longs, longest_stop: int, distinct: bool, out: Longs,
) -> None:  # fmt: skip
    longest = np.max(offsets[1:] - offsets[:-1]) if len(out) else 0
    kind = np.empty(longest + 1, np.uint8)
    at = np.empty(longest + 1, np.int64)
    chars = np.empty(longest + 1, np.int64)
    begins = np.empty(longest + 1 if len(starts) else 0, np.uint8)
    seen = np.full(len(stop_hashes), -1, np.int64)
    for row in range(len(out)):
        text = data[offsets[row] : offsets[row + 1]]
        n, _ = split_units(text, kinds[0], kinds[1], kind, at, chars)
        is_given = given[row + 1] > given[row]
        if is_given:
            mark_given(at, n, starts[given[row] : given[row + 1]], begins)
        a, b = stop_offsets[group[row]], stop_offsets[group[row] + 1]
        _count_words(
            text,
            row,
            n,
            kind,
            at,
            chars,
            begins,
            is_given,
            stop_hashes[a:b],
            longest_stop,
            distinct,
            seen[a:b],
            out[row],
        )
        _count_symbols(text, out[row])


@nb.njit(nogil=True, cache=True)
def _count_words(
    text: Bytes, row: int, n: int, kind: Bytes, at: Longs, chars: Longs, begins: Bytes, is_given: bool,
    stop_hashes: Hashes, longest_stop: int, distinct: bool, seen: Longs, out: Longs,
) -> None:  # fmt: skip
    """Words and the lines they stand in, in one scan."""
    words, word_chars, tokens, alpha_tokens, stop_words = 0, 0, 0, 0, 0
    first, last = -1, -1  # units between the white space around the line
    core, i = 0, 0
    while i < n:
        if kind[i] <= SPACE:
            if kind[i] == BREAK and not (text[at[i]] == 13 and i + 1 < n and text[at[i + 1]] == 10):
                _count_line(text, kind, at, first, last, out)
                first = -1
            i += 1
            continue
        if is_given:
            end = given_word(kind, begins, i)
        else:
            end, core = next_word(kind, i, core)
        if first < 0:
            first = i
        last = end - 1
        tokens += 1
        alpha, digit = False, False
        for j in range(i, end):
            alpha |= ALONE <= kind[j] <= UPPER
            digit |= kind[j] == DIGIT
            if alpha:
                break
        alpha_tokens += alpha
        if alpha or digit:
            words += 1
            word_chars += chars[end] - chars[i]
        if (stop_words < len(stop_hashes) or not distinct) and at[end] - at[i] <= longest_stop:
            h = hash_bytes(text, at[i], at[end])
            q = np.searchsorted(stop_hashes, h)
            if q < len(stop_hashes) and stop_hashes[q] == h and (seen[q] != row or not distinct):
                seen[q] = row
                stop_words += 1
        i = end
    if n > 0 and kind[n - 1] != BREAK:
        _count_line(text, kind, at, first, last, out)
    out[WORDS], out[WORD_CHARS], out[TOKENS] = words, word_chars, tokens
    out[ALPHA_TOKENS], out[STOP_WORDS] = alpha_tokens, stop_words


@nb.njit(nogil=True, cache=True)
def _count_line(text: Bytes, kind: Bytes, at: Longs, first: int, last: int, out: Longs) -> None:
    """A line; whether it begins with - or •, whether it ends with an ellipsis. White space around it is left out."""
    out[LINES] += 1
    if first < 0:
        return
    out[BULLET_LINES] += text[at[first]] == 45 or _is_at(text, at[first], at[first + 1], 0xA2)
    if last >= 2 and at[last + 1] - at[last - 2] == 3:
        out[ELLIPSIS_LINES] += kind[last] == DOT and kind[last - 1] == DOT and kind[last - 2] == DOT
    else:
        out[ELLIPSIS_LINES] += at[last + 1] - at[last] == 3 and _is_at(text, at[last], at[last + 1], 0xA6)


@nb.njit(nogil=True, cache=True)
def _count_symbols(text: Bytes, out: Longs) -> None:
    """# and ellipses; `....` holds one ellipsis, `......` two."""
    hashes, triples, ellipses = 0, 0, 0
    for i in range(len(text)):
        hashes += text[i] == 35
    for i in range(len(text) - 2):  # these two loops are vectorised
        triples += (text[i] == 46) & (text[i + 1] == 46) & (text[i + 2] == 46)
        ellipses += (text[i] == 0xE2) & (text[i + 1] == 0x80) & (text[i + 2] == 0xA6)
    if triples > 0:
        dots = 0
        for i in range(len(text)):
            dots = dots + 1 if text[i] == 46 else 0
            if dots == 3:
                ellipses += 1
                dots = 0
    out[HASHES], out[ELLIPSES] = hashes, ellipses


@nb.njit(nogil=True, cache=True)
def _is_at(text: Bytes, i: int, end: int, last_byte: int) -> bool:
    """Whether the character E2 80 `last_byte` (• or …) begins at byte i."""
    return i + 3 <= end and text[i] == 0xE2 and text[i + 1] == 0x80 and text[i + 2] == last_byte
