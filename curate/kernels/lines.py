"""Lines of UTF-8 text: characters, white space at their ends, words between white space, sentences, repeats.

Every kernel here takes bytes, a span of them and the table of `unicode.flags` (index, flags).
"""

from functools import cache

import numpy as np
import numpy.typing as npt

from curate.kernels.lanes import load8, looped, trailing_zeros
from curate.kernels.unicode import CAPITAL, NUMERIC, PUNCTUATION, TERMINAL, WHITE, WORDLIKE, flags
from curate.kernels.words import HASH_STEP, decode, hash_bytes, mix

Bytes = npt.NDArray[np.uint8]
Longs = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

u64 = np.uint64
DOT, APOSTROPHE = 46, 39
ONES, HIGH_BITS = u64(0x0101010101010101), u64(0x8080808080808080)
NEWLINES, SPACES = ONES * u64(10), ONES * u64(32)
BANGS, DOTS, QUERIES = ONES * u64(33), ONES * u64(46), ONES * u64(63)


@cache
def first_bytes(flag: int) -> npt.NDArray[np.bool_]:
    """Whether a character with the flag may begin with the byte: all others can be passed over, bool (256,)."""
    index, values = flags()
    found = np.zeros(256, np.bool_)
    blocks = values.reshape(-1, 256) & flag
    marked = np.asarray(blocks.any(axis=1))
    for block in map(int, np.flatnonzero(marked[index])):
        for low in np.flatnonzero(blocks[index[block]]):
            if not 0xD8 <= block < 0xE0:  # surrogates
                found[chr(block << 8 | int(low)).encode()[0]] = True
    return found


@looped
def find_control(text: Bytes, i: int, end: int) -> int:
    """First byte from i on that is a control character or not ASCII; end where there is none."""
    while i + 8 <= end:
        eight = load8(text, i)
        found = ((eight - SPACES) & ~eight | eight) & HIGH_BITS  # the lowest bit is right, others may not be
        if found:
            return i + int(trailing_zeros(found) >> u64(3))
        i += 8
    while i < end and 32 <= text[i] < 0x80:
        i += 1
    return i


@looped
def find_newline(text: Bytes, i: int, end: int) -> int:
    """First newline from i on; end where there is none."""
    while i + 8 <= end:
        newline = load8(text, i) ^ NEWLINES
        found = (newline - ONES) & ~newline & HIGH_BITS
        if found:
            return i + int(trailing_zeros(found) >> u64(3))
        i += 8
    while i < end and text[i] != 10:
        i += 1
    return i


@looped
def find_mark(text: Bytes, i: int, end: int) -> int:
    """First byte from i on that is one of . ! ? or not ASCII; end where there is none."""
    while i + 8 <= end:
        eight = load8(text, i)
        dot, bang, query = eight ^ DOTS, eight ^ BANGS, eight ^ QUERIES
        found = ((dot - ONES) & ~dot | (bang - ONES) & ~bang | (query - ONES) & ~query | eight) & HIGH_BITS
        if found:
            return i + int(trailing_zeros(found) >> u64(3))
        i += 8
    while i < end and text[i] < 0x80 and text[i] not in (33, 46, 63):
        i += 1
    return i


@looped
def flag_at(text: Bytes, i: int, end: int, index: Bytes, flags: Bytes) -> tuple[int, int]:
    """(flags, next i) of the character at i."""
    if text[i] < 0x80:
        return int(flags[text[i]]), i + 1
    code, following = decode(text, i, end)
    return int(flags[np.int64(index[code >> 8]) * 256 + (code & 255)]), following


@looped
def char_before(text: Bytes, begin: int, i: int) -> int:
    """Where the character that ends before i begins."""
    j = i - 1
    while j > begin and i - j < 4 and text[j] & 0xC0 == 0x80:
        j -= 1
    return j


@looped
def strip(text: Bytes, begin: int, end: int, index: Bytes, flags: Bytes) -> tuple[int, int]:
    """The span without white space at its ends."""
    while begin < end:
        flag, following = flag_at(text, begin, end, index, flags)
        if not flag & WHITE:
            break
        begin = following
    while end > begin:
        last = char_before(text, begin, end)
        flag, _ = flag_at(text, last, end, index, flags)
        if not flag & WHITE:
            break
        end = last
    return begin, end


@looped
def num_chars(text: Bytes, begin: int, end: int) -> int:
    """Characters of the span."""
    num = 0
    for i in range(begin, end):
        num += text[i] & 0xC0 != 0x80
    return num


@looped
def num_chunks(text: Bytes, begin: int, end: int, most: int, index: Bytes, flags: Bytes) -> int:
    """Words between white space, as `str.split` cuts them; counting stops at `most`."""
    num, i, inside = 0, begin, False
    while i < end and num < most:
        flag, i = flag_at(text, i, end, index, flags)
        if flag & WHITE:
            inside = False
        elif not inside:
            inside = True
            num += 1
    return num


@looped
def has_long_chunk(text: Bytes, begin: int, end: int, most: int, index: Bytes, flags: Bytes) -> bool:
    """Whether a word between white space has more than `most` characters."""
    i, chars = begin, 0
    while i < end:
        flag, i = flag_at(text, i, end, index, flags)
        chars = 0 if flag & WHITE else chars + 1
        if chars > most:
            return True
    return False


@looped
def num_sentences(text: Bytes, begin: int, end: int, ends: Bytes, index: Bytes, flags: Bytes) -> int:
    """Sentences of a line; 0 where it is blank. `ends` is first_bytes(TERMINAL).

    A new one begins after . ? ! (and the marks of other scripts), any punctuation behind, and white space. A dot also
    ends one between a lower- and an upper-case letter (end.Next), but not after a single letter (U.S.) nor in a run of
    dots; marks of scripts that write no spaces need none behind.
    """
    begin, end = strip(text, begin, end, index, flags)
    num, i = int(begin < end), begin
    while True:
        i = find_mark(text, i, end)
        if i == end:
            break
        if not ends[text[i]]:
            i += 1
            continue
        flag, following = flag_at(text, i, end, index, flags)
        if not flag & TERMINAL:
            i = following
            continue
        if text[i] == DOT:
            if following < end and text[following] == DOT:
                while i < end and text[i] == DOT:
                    i += 1
                continue
            if _after_single_letter(text, begin, i, index, flags):
                i = following
                continue
        ended, next_begin = _next_sentence(text, i, following, end, index, flags)
        if next_begin == end:
            break
        num += ended
        i = next_begin
    return num


@looped
def _next_sentence(text: Bytes, mark: int, i: int, end: int, index: Bytes, flags: Bytes) -> tuple[bool, int]:
    """(whether the mark before i ends a sentence, first character behind that is not punctuation or white space)."""
    behind, ended = i, text[mark] >= 0x80
    while i < end:
        flag, following = flag_at(text, i, end, index, flags)
        if flag & WHITE:
            ended = True
        elif not flag & PUNCTUATION:
            if i == behind and text[mark] == DOT and mark > 0 and flag & CAPITAL:
                ended = 97 <= text[mark - 1] <= 122
            break
        i = following
    return ended, i


@looped
def _after_single_letter(text: Bytes, begin: int, i: int, index: Bytes, flags: Bytes) -> bool:
    """Whether one letter stands alone before i: before it is no letter, digit or apostrophe."""
    if i == begin:
        return False
    letter = char_before(text, begin, i)
    flag, _ = flag_at(text, letter, i, index, flags)
    if not flag & WORDLIKE or flag & NUMERIC or text[letter] == 95:
        return False
    if letter == begin:
        return True
    before = char_before(text, begin, letter)
    flag, _ = flag_at(text, before, letter, index, flags)
    return bool(not (flag & WORDLIKE and text[before] != 95) and text[before] != APOSTROPHE)


@looped
def table_size(entries: int) -> int:
    """A power of two that keeps a table of hashes at most half full."""
    size = 64
    while size < 2 * entries:
        size *= 2
    return size


@looped
def hash_span(text: Bytes, begin: int, end: int) -> np.uint64:
    """64-bit hash of a span, as good as `hash_bytes` and another; four numbers at a time where it is long."""
    if end - begin < 32:
        short: np.uint64 = hash_bytes(text, begin, end)
        return short
    a = b = c = d = u64(end - begin) * HASH_STEP
    i = begin
    while i < end:
        at = min(i, end - 32)
        a = mix((a ^ load8(text, at)) * HASH_STEP)
        b = mix((b ^ load8(text, at + 8)) * HASH_STEP)
        c = mix((c ^ load8(text, at + 16)) * HASH_STEP)
        d = mix((d ^ load8(text, at + 24)) * HASH_STEP)
        i += 32
    h: np.uint64 = mix((mix(a * HASH_STEP) ^ b) * HASH_STEP)
    h = mix((mix((h ^ c) * HASH_STEP) ^ d) * HASH_STEP)
    return h


@looped
def is_repeated(text: Bytes, begin: int, end: int, keys: Hashes) -> bool:
    """Whether the span's hash is in the table, where it is put; `keys` has a size of `table_size`, 0 marks a free place."""
    h = hash_span(text, begin, end) | u64(1)
    mask = u64(len(keys) - 1)
    s = (h >> u64(1)) & mask
    while keys[s] != h:
        if keys[s] == 0:
            keys[s] = h
            return False
        s = (s + u64(1)) & mask
    return True


@looped
def copy(text: Bytes, begin: int, end: int, out: Bytes, n: int) -> int:
    """Append the span to `out`, n bytes long: its new length."""
    for i in range(begin, end):
        out[n + i - begin] = text[i]
    return n + end - begin


@looped
def strip_row(out: Bytes, begin: int, end: int, index: Bytes, flags: Bytes) -> int:
    """Take white space from both ends of the row just written, out[begin:end]: its new end."""
    first, last = strip(out, begin, end, index, flags)
    if first > begin:
        copy(out, first, last, out, begin)
    return int(begin + last - first)


@looped
def phrase_at(text: Bytes, i: int, end: int, phrase: Bytes) -> bool:
    """Whether the phrase, lower-case ASCII, begins at i in any case."""
    if i + len(phrase) > end:
        return False
    for j in range(len(phrase)):
        c = text[i + j]
        if (c + 32 if 65 <= c <= 90 else c) != phrase[j]:
            return False
    return True


@looped
def find_phrase(text: Bytes, begin: int, end: int, phrase: Bytes) -> int:
    """Where the phrase, lower-case ASCII, first begins in any case; -1 where it does not."""
    for i in range(begin, end - len(phrase) + 1):
        if text[i] | 32 == phrase[0] | 32 and phrase_at(text, i, end, phrase):
            return i
    return -1
