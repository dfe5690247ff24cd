"""Words of UTF-8 text: the one splitting that every stage counts, compares and hashes by.

The word boundaries of Unicode (UAX #29), tailored to the tokenizer whose counts the published rules are run with today
(spaCy's): the thresholds of those rules sit in the middle of ordinary prose, so a word more or less decides.

White space (`str.isspace`) ends a word. A combining mark or format character goes with the character before it; one at
the start of a word is part of that word. Within a run of other characters:
- an ideograph, Hiragana, or a letter of Thai, Lao, Myanmar, Khmer or Tai is a word alone (UAX #29 without dictionary);
- the rest has edges and a core. Symbols at the edges are words of one character each, dots in a row one word. The core
  goes from the first to the last letter, digit or one of - ~ / @ \\ | ^ +; a dot after a single letter stays (U.S., C.);
- a core that begins like `http://` is one word (a URL);
- any other core is one word (3.14, a_b, 17:55, f(x).y) except that it is cut
    around - ~ – — between a letter or digit and a letter (well-known), and between two digits (1914-18),
    around / : < > = between a letter or digit and a letter (and/or),
    around a comma between letters, and a dot between a lower- and an upper-case letter (end.Next),
    around two and more dashes between letters, two and more dots, and each emoji or other pictograph or …,
    before an apostrophe followed by one or two last letters (that's, don't).

That is English, and what every language gets that has no ways of its own (`curate.stages._words`). Where - is of the
kind HYPHEN it is not cut around, but two and more are; where an apostrophe is of the kind ELISION a word is cut after it
when it stands between letters (l' + art); where it is of the kind INNER it is not cut at.

Differs from UAX #29: cores hold most inner symbols together; edges keep - / @ and the like (@name, --all); the period
of an abbreviation stays; `'s` is a word; Katakana is not cut from other letters; emoji sequences joined by U+200D are
one word per emoji, flags one per half; a line break inside a word is impossible, as there, but space + mark begins a word.
"""

from typing import Any, NamedTuple

import numba as nb
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from curate.kernels.unicode import (
    ALONE,
    COLON,
    COMMA,
    DASH,
    DIGIT,
    DOT,
    ELISION,
    HYPHEN,
    ICON,
    INNER,
    LETTER,
    LONG_DASH,
    MARK,
    OTHER,
    QUOTE,
    RELATION,
    SLASH,
    SPACE,
    STICKY,
    UPPER,
    kinds,
)  # fmt: skip

Bytes = npt.NDArray[np.uint8]
Longs = npt.NDArray[np.int64]

u64 = np.uint64
HASH_STEP = u64(0x9E3779B97F4A7C15)
MIX = u64(0xBF58476D1CE4E5B9)


class Given(NamedTuple):
    """Words found elsewhere, for the rows that have any; the others are split here.

    A word of row r goes from one of starts[offsets[r] : offsets[r + 1]] (bytes from the row's begin) to the next, or
    to white space. `kinds` is the table by which characters are told apart.
    """

    offsets: Longs  # (n + 1,)
    starts: Longs
    kinds: tuple[Bytes, Bytes]


def none_given(rows: int) -> Given:
    """All rows are split here."""
    return Given(np.zeros(rows + 1, np.int64), np.zeros(0, np.int64), kinds())


@nb.njit(nogil=True, cache=True)
def decode(data: Bytes, i: int, end: int) -> tuple[np.int64, int]:
    """(code point, next i) of the character at i. A byte that is not valid UTF-8 reads as U+FFFD, by itself."""
    c = np.int64(data[i])
    if c < 0x80:
        return c, i + 1
    if 0xC2 <= c < 0xE0 and i + 1 < end and data[i + 1] & 0xC0 == 0x80:
        return (c & 0x1F) << 6 | np.int64(data[i + 1] & 0x3F), i + 2
    if c & 0xF0 == 0xE0 and i + 2 < end and data[i + 1] & 0xC0 == 0x80 and data[i + 2] & 0xC0 == 0x80:
        code = (c & 0x0F) << 12 | np.int64(data[i + 1] & 0x3F) << 6 | np.int64(data[i + 2] & 0x3F)
        if code >= 0x800 and not 0xD800 <= code < 0xE000:
            return code, i + 3
    if c & 0xF8 == 0xF0 and i + 3 < end and data[i + 1] & 0xC0 == 0x80 and data[i + 2] & 0xC0 == 0x80:
        code = (c & 0x07) << 18 | np.int64(data[i + 1] & 0x3F) << 12 | np.int64(data[i + 2] & 0x3F) << 6
        code |= np.int64(data[i + 3] & 0x3F)
        if data[i + 3] & 0xC0 == 0x80 and 0x10000 <= code < 0x110000:
            return code, i + 4
    return np.int64(0xFFFD), i + 1


@nb.njit(nogil=True, cache=True)
def split_units(
    text: Bytes, index: Bytes, values: Bytes, kind: Bytes, at: Longs, chars: Longs
) -> tuple[int, int]:
    """Cut UTF-8 bytes into units, a character with the marks after it: (number of units, number of characters).

    kind[u], at[u] (byte), chars[u] (characters before it). One unit more closes the list: kind SPACE, at == len(text).
    """
    n, num_chars, i = 0, 0, 0
    while i < len(text):
        if text[i] < 0x80:
            kind[n], at[n], chars[n] = values[text[i]], i, num_chars
            n += 1
            i += 1
        else:
            code, following = decode(text, i, len(text))
            k = values[np.int64(index[code >> 8]) * 256 + (code & 255)]
            leads = n == 0 or kind[n - 1] <= SPACE
            if k != MARK or leads:
                kind[n], at[n], chars[n] = STICKY if k == MARK else k, i, num_chars
                n += 1
            i = following
        num_chars += 1
    kind[n], at[n], chars[n] = SPACE, len(text), num_chars
    return n, num_chars


@nb.njit(nogil=True, cache=True)
def _core_end(kind: Bytes, i: int) -> int:
    """End of the core of the run that i lies in; i when it has none."""
    first, last = i, i
    while kind[i] > ALONE:
        if kind[i] <= STICKY:
            last = i + 1
        elif kind[i] == DOT and kind[i + 1] != DOT and i > first and LETTER <= kind[i - 1] <= UPPER:
            before = kind[i - 2] if i - 2 >= first else OTHER
            if not (LETTER <= before <= DIGIT or QUOTE <= before <= INNER):
                last = i + 1
        i += 1
    return last


@nb.njit(nogil=True, cache=True)
def _cut(kind: Bytes, i: int, core: int) -> int:
    """End of the word that symbol i of a core makes by itself; i when it does not. The core ends at `core`."""
    k = kind[i]
    if k == ICON:
        return i + 1
    if k == DOT and i + 1 < core and kind[i + 1] == DOT:
        while i < core and kind[i] == DOT:
            i += 1
        return i
    if i == 0 or i + 1 >= core or k <= DIGIT or not LETTER <= kind[i - 1] <= DIGIT:
        return i
    before, after = kind[i - 1], kind[i + 1]
    letters = before <= UPPER and LETTER <= after <= UPPER
    if k == COMMA:
        return i + 1 if letters else i
    if k == DOT:
        return i + 1 if before == LETTER and after == UPPER else i
    if k in (SLASH, COLON, RELATION):
        return i + 1 if LETTER <= after <= UPPER else i
    if k in (DASH, HYPHEN, LONG_DASH):
        if k != HYPHEN and (LETTER <= after <= UPPER or (k == DASH and before == DIGIT and after == DIGIT)):
            return i + 1
        j = i
        while j < core and kind[j] in (DASH, HYPHEN, LONG_DASH):
            j += 1
        if before <= UPPER and j > i + 1 and j < core and LETTER <= kind[j] <= UPPER:
            return j
    return i


@nb.njit(nogil=True, cache=True)
def next_word(kind: Bytes, i: int, core: int) -> tuple[int, int]:
    """(end, core) of the word that begins at unit i, which is no white space.

    Pass back `core` with the next call (0 at the start of a document); the words of a document are
        core = 0
        for i in units: skip BREAK and SPACE; end, core = next_word(kind, i, core); ...; i = end
    """
    if i >= core and LETTER <= kind[i] <= UPPER:
        j = i + 1
        while LETTER <= kind[j] <= UPPER:
            j += 1
        # most words end here: before white space, or before a symbol and white space (the dot of C. stays)
        if kind[j] <= ALONE or (kind[j] >= DOT and kind[j + 1] <= SPACE and (kind[j] > DOT or j > i + 1)):
            return j, j
    word: tuple[int, int] = _any_word(kind, i, core)
    return word


@nb.njit(nogil=True, cache=True)
def mark_given(at: Longs, n: int, starts: Longs, begins: Bytes) -> None:
    """begins[u] is 1 where a given word begins at unit u; a start within a unit is passed over."""
    k = 0
    for u in range(n):
        while k < len(starts) and starts[k] < at[u]:
            k += 1
        begins[u] = k < len(starts) and starts[k] == at[u]


@nb.njit(nogil=True, cache=True)
def given_word(kind: Bytes, begins: Bytes, i: int) -> int:
    """End of the given word that begins at unit i, which is no white space."""
    i += 1
    while kind[i] > SPACE and not begins[i]:
        i += 1
    return i


@nb.njit(nogil=True, cache=True)
def count_given(data: Bytes, offsets: Longs, given: Given, out: Longs) -> None:
    """Number of words of the rows that have theirs given; what stands in `out` for the others stays."""
    longest = np.max(offsets[1:] - offsets[:-1]) if len(out) else 0
    kind, marks = np.empty(longest + 1, np.uint8), np.empty(longest + 1, np.uint8)
    at, chars = np.empty(longest + 1, np.int64), np.empty(longest + 1, np.int64)
    for row in range(len(out)):
        if given.offsets[row + 1] == given.offsets[row]:
            continue
        text = data[offsets[row] : offsets[row + 1]]
        n, _ = split_units(text, given.kinds[0], given.kinds[1], kind, at, chars)
        mark_given(at, n, given.starts[given.offsets[row] : given.offsets[row + 1]], marks)
        num, i = 0, 0
        while i < n:
            if kind[i] <= SPACE:
                i += 1
            else:
                i = given_word(kind, marks, i)
                num += 1
        out[row] = num


@nb.njit(nogil=True, cache=True)
def all_words(data: Bytes, offsets: Longs, given: Given, begins: Longs, ends: Longs, num_words: Longs) -> int:
    """Fill where each word of a column begins and ends (bytes of data), and the words of each row; returns their number."""
    longest = np.max(offsets[1:] - offsets[:-1]) if len(num_words) else 0
    kind = np.empty(longest + 1, np.uint8)
    at, chars = np.empty(longest + 1, np.int64), np.empty(longest + 1, np.int64)
    marks = np.empty(longest + 1 if len(given.starts) else 0, np.uint8)
    total = 0
    for row in range(len(num_words)):
        n, _ = split_units(
            data[offsets[row] : offsets[row + 1]], given.kinds[0], given.kinds[1], kind, at, chars
        )
        is_given = given.offsets[row + 1] > given.offsets[row]
        if is_given:
            mark_given(at, n, given.starts[given.offsets[row] : given.offsets[row + 1]], marks)
        before, core, i = total, np.int64(0), np.int64(0)
        while i < n:
            if kind[i] <= SPACE:
                i += 1
                continue
            if is_given:
                end = given_word(kind, marks, i)
            else:
                end, core = next_word(kind, i, core)
            begins[total], ends[total] = offsets[row] + at[i], offsets[row] + at[end]
            total += 1
            i = end
        num_words[row] = total - before
    return total


@nb.njit(nogil=True, cache=True)
def _any_word(kind: Bytes, i: int, core: int) -> tuple[int, int]:
    k = kind[i]
    if k == ALONE:
        return i + 1, core
    j = i
    if i >= core:  # the start of a run, or its edges
        if k >= DOT:
            j += 1
            while k == DOT and kind[j] == DOT:
                j += 1
            return j, core
        core = _core_end(kind, i)
        while LETTER <= kind[j] <= UPPER:
            j += 1
        if j > i and kind[j] == COLON and kind[j + 1] == SLASH and kind[j + 2] == SLASH:
            return core, core
    else:
        j = _cut(kind, i, core)
        if j > i:
            return j, core
    j = i + 1
    while j < core:
        if kind[j] > DIGIT:
            if (
                kind[j] == ELISION
                and LETTER <= kind[j - 1] <= UPPER
                and j + 1 < core
                and LETTER <= kind[j + 1] <= UPPER
            ):
                return j + 1, core
            if _cut(kind, j, core) > j or _is_clitic(kind, j, core):
                break
        j += 1
    return j, core


@nb.njit(nogil=True, cache=True)
def _is_clitic(kind: Bytes, i: int, core: int) -> bool:
    """Whether i is an apostrophe after a letter and before the one or two letters that end the core."""
    if kind[i] != QUOTE or not LETTER <= kind[i - 1] <= UPPER or not i + 2 <= core <= i + 3:
        return False
    return bool(LETTER <= kind[i + 1] <= UPPER and LETTER <= kind[core - 1] <= UPPER)


@nb.njit(nogil=True, cache=True)
def mix(h: np.uint64) -> np.uint64:
    """Spread the bits of a 64-bit hash."""
    h ^= h >> u64(29)
    h *= MIX
    return h ^ (h >> u64(32))


@intrinsic
def load64(typing: Any, data: Any, i: Any) -> Any:
    """The 8 bytes from data[i] as one number; the caller sees to it that they exist."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        pointer = builder.bitcast(builder.gep(array.data, [arguments[1]]), ir.IntType(64).as_pointer())
        number = builder.load(pointer)
        number.align = 1
        return number

    return types.uint64(data, types.int64), generate


@nb.njit(nogil=True, cache=True)
def hash_bytes(data: Bytes, begin: int, end: int) -> np.uint64:
    """64-bit hash of data[begin:end]: two of n different texts collide with odds below n * n / 2^65."""
    h = u64(end - begin) * HASH_STEP
    i = begin
    while end - i >= 8:
        h = mix((h ^ load64(data, i)) * HASH_STEP)
        i += 8
    rest = end - i
    if rest > 0:
        if end >= 8:  # the 8 bytes that end here, less those that are done or not ours
            tail = load64(data, end - 8) >> u64(8 * (8 - rest))
        else:
            tail = u64(0)
            for j in range(rest):
                tail |= u64(data[i + j]) << u64(8 * j)
        h = mix((h ^ tail) * HASH_STEP)
    return h


@nb.njit(nogil=True, cache=True)
def _encode(code: int, out: Bytes, n: int) -> int:
    if code < 0x80:
        out[n] = code
        return n + 1
    if code < 0x800:
        out[n], out[n + 1] = 0xC0 | code >> 6, 0x80 | code & 0x3F
        return n + 2
    if code < 0x10000:
        out[n], out[n + 1], out[n + 2] = 0xE0 | code >> 12, 0x80 | code >> 6 & 0x3F, 0x80 | code & 0x3F
        return n + 3
    out[n], out[n + 1] = 0xF0 | code >> 18, 0x80 | code >> 12 & 0x3F
    out[n + 2], out[n + 3] = 0x80 | code >> 6 & 0x3F, 0x80 | code & 0x3F
    return n + 4
