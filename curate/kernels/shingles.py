"""Normalised words of documents, and their n-grams as sets of 64-bit numbers.

With punctuation folded, words are the runs of letters, digits and marks between any other characters, where every
letter of a script without spaces (Han, Hiragana, Thai, Lao, Burmese, Khmer ...) is a word with the marks after it, and
format characters (soft hyphen, joiners) vanish. With punctuation kept they are those of `curate.kernels.words`.
Case is folded by Unicode's one-to-one folding (U+0130 gives i); accents by taking a letter's canonical decomposition
without its marks (Mn); digits by reading every run of decimal digits of a word as one 0. Nothing is composed: text in
NFD has other words than the same text in NFC.

A word's hash is of its normalised UTF-8 bytes, a shingle's of its n words' hashes in order. Under `sha1` the low half of
a shingle's hash is instead what datasketch takes: the first four bytes, little-endian, of the SHA-1 of its words joined
by one space.
"""

import unicodedata
from functools import cache
from typing import Any, NamedTuple

import numba as nb
import numpy as np
import numpy.typing as npt

from curate.kernels.jaccard import MOST_BUCKETS, distinct
from curate.kernels.lanes import fold64, inlined, load8, looped, not_blank64, trailing_zeros
from curate.kernels.scripts import HIGH_BITS
from curate.kernels.sha1 import sha1_low
from curate.kernels.strings import frozen
from curate.kernels.unicode import ALONE, DIGIT, LETTER, MARK, SPACE, kind_of, kinds, stored
from curate.kernels.words import Bytes, Longs, _encode, decode, next_word, split_units

Hashes = npt.NDArray[np.uint64]

u64 = np.uint64
C1, C2, C3 = u64(0x9E3779B97F4A7C15), u64(0xBF58476D1CE4E5B9), u64(0x94D049BB133111EB)
ALL = u64(0xFFFFFFFFFFFFFFFF)
TURN = 13  # a word's hash is turned by this many bits more than the next word's
BLANK = 0x20  # between words; no word holds one
PAD = 64  # blanks before a text and after it, so that whole blocks can be read

# What a character does to the normalised text: ends a word, belongs to one, is one, goes with the character before it,
# vanishes, belongs to a run of digits.
GAP, PART, LONE, JOINED, GONE, NUMBER = 0, 1, 2, 3, 4, 5


class Normal(NamedTuple):
    """What is folded before documents are compared."""

    case: bool = True
    accents: bool = False
    punctuation: bool = True
    digits: bool = False


class Folding(NamedTuple):
    """How characters are read."""

    blocks: Bytes  # with `entries` a table of GAP to NUMBER | what to add to the code point << 3
    entries: npt.NDArray[np.int32]
    plain: bool  # ASCII text is folded 64 bytes at once: case and punctuation folded, digits not
    split: bool  # words are those of `curate.kernels.words`, told apart by:
    kind_index: Bytes
    kind_values: Bytes


class Shingles(NamedTuple):
    """The shingles of n documents: those of document i are hashes[offsets[i] : offsets[i + 1]], sorted and distinct."""

    hashes: Hashes
    offsets: Longs  # (n + 1,)
    words: Longs  # (n,) words of each document
    digests: Hashes  # (n,) hash of its normalised words in order, 0 where it has none


class Scratch(NamedTuple):
    """Room for one document. What is not touched of an array costs no memory."""

    text: Bytes  # its normalised words between blanks
    words: Hashes
    shingles: Hashes
    kind: Bytes  # of units, as `words` cuts them
    at: Longs  # of units; of words, for SHA-1
    chars: Longs
    counts: Longs  # (MOST_BUCKETS,)
    schedule: npt.NDArray[np.uint32]  # (80,), of SHA-1
    state: npt.NDArray[np.uint32]  # (5,)


def shingles(
    data: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    ngram: int = 5,
    normal: Normal = Normal(),
    sha1: bool = False,
) -> Shingles:
    """Sets of word n-grams of a string column; a document of fewer than n words has none."""
    n = len(offsets) - 1
    out = np.empty(int(offsets[-1] - offsets[0]), np.uint64)
    out_offsets, words, digests = np.zeros(n + 1, np.int64), np.empty(n, np.int64), np.empty(n, np.uint64)
    _shingles(
        frozen(data), frozen(offsets), ngram, sha1, folding(normal), scratch_for(offsets),
        out, out_offsets, words, digests,
    )  # fmt: skip
    return Shingles(out[: out_offsets[-1]], out_offsets, words, digests)


def word_hashes(
    data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64], normal: Normal = Normal()
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """Hashes of the normalised words of a string column, in order, and where each document's begin, (n + 1,)."""
    out, out_offsets = np.empty(int(offsets[-1] - offsets[0]), np.uint64), np.zeros(len(offsets), np.int64)
    _word_hashes(frozen(data), frozen(offsets), folding(normal), scratch_for(offsets), out, out_offsets)
    return out[: out_offsets[-1]], out_offsets


def normalised(text: str, normal: Normal = Normal()) -> list[str]:
    """The normalised words of one text."""
    data = np.frombuffer(text.encode(), np.uint8)
    scratch = scratch_for(np.array([0, len(data)]))
    end = normalise(frozen(data), 0, len(data), folding(normal), scratch)
    return [word for word in scratch.text[PAD:end].tobytes().decode().split(" ") if word]


def scratch_for(offsets: npt.NDArray[np.int64]) -> Scratch:
    """Room for the longest document of a column."""
    longest = int(np.max(np.diff(offsets), initial=0)) + 64
    text = np.empty(2 * longest + 4 * PAD, np.uint8)
    text[:PAD] = BLANK
    return Scratch(
        text, np.empty(longest, np.uint64), np.empty(longest, np.uint64), np.empty(longest, np.uint8),
        np.empty(longest, np.int64), np.empty(longest, np.int64), np.empty(MOST_BUCKETS, np.int64),
        np.empty(80, np.uint32), np.empty(5, np.uint32),
    )  # fmt: skip


@cache
def folding(normal: Normal) -> Folding:
    """The tables of a normalisation, made on first use."""

    def entry(character: str) -> int:
        return (_folded(character, normal) - ord(character)) << 3 | _part(character, normal)

    name = "-".join(["folding", *(part for part, on in zip(normal._fields, normal, strict=True) if on)])
    blocks, entries = stored(name, entry, np.int32)
    plain = normal.case and normal.punctuation and not normal.digits
    return Folding(frozen(blocks), frozen(entries), plain, not normal.punctuation, *map(frozen, kinds()))


def _folded(character: str, normal: Normal) -> int:
    if normal.accents and len(parts := unicodedata.normalize("NFD", character)) > 1:
        letters = [c for c in parts if unicodedata.category(c) != "Mn"]
        character = letters[0] if len(letters) == 1 else character
    if normal.case:
        folded = character.casefold()
        character = folded if len(folded) == 1 else character.lower()[0]
    return ord(character)


def _part(character: str, normal: Normal) -> int:
    kind, category = kind_of(character), unicodedata.category(character)
    if normal.accents and category == "Mn":
        return GONE
    if normal.digits and category == "Nd":
        return NUMBER
    if not normal.punctuation:
        return PART
    if kind == MARK:
        return GONE if category == "Cf" else JOINED
    if kind == ALONE:
        return LONE
    return PART if LETTER <= kind <= DIGIT else GAP


@looped
def normalise(data: Bytes, begin: int, end: int, folding: Folding, scratch: Scratch) -> int:
    """Write the normalised words of data[begin:end] to scratch.text from PAD, blanks before, between and after.

    Returns their end.
    """
    o = PAD
    if not folding.split:
        o = _fold(data, begin, end, folding, scratch.text, o)
    else:
        n, _ = split_units(
            data[begin:end], folding.kind_index, folding.kind_values, scratch.kind, scratch.at, scratch.chars
        )
        core, i = np.int64(0), 0
        while i < n:
            if scratch.kind[i] <= SPACE:
                i += 1
                continue
            stop, core = next_word(scratch.kind, i, core)
            o = _fold(data, begin + scratch.at[i], begin + scratch.at[stop], folding, scratch.text, o)
            scratch.text[o] = BLANK
            o += 1
            i = stop
    for place in range(o, o + 2 * PAD):
        scratch.text[place] = BLANK
    return o


@looped
def _fold(data: Bytes, i: int, end: int, folding: Folding, out: Bytes, o: int) -> int:
    """Write data[i:end] to out[o:] as its characters are read, a blank for every gap; returns the end."""
    lone, digits = -1, -1  # ends of the last word of one letter, of the last run of digits
    while i < end:
        while folding.plain and i + 64 <= len(data):
            ascii: Any = np.int64(trailing_zeros(fold64(data, i, out, o)))
            n = min(ascii, end - i)
            i += n
            o += n
            if n < 64:
                break
        while i < end:
            code, following = decode(data, i, end)
            entry: Any = np.int64(folding.entries[np.int64(folding.blocks[code >> 8]) * 256 + (code & 255)])
            part = entry & 7
            if part == GAP:
                out[o] = BLANK
                o += 1
            elif part == NUMBER:
                if digits != o:
                    out[o] = 48
                    o += 1
                digits = o
            elif part != GONE and (part != JOINED or o == lone or out[o - 1] != BLANK):
                if part == LONE and out[o - 1] != BLANK:
                    out[o] = BLANK
                    o += 1
                if part == JOINED and o == lone:
                    o -= 1
                    part = np.int64(LONE)
                if entry >> 3 == 0:
                    for j in range(i, following):
                        out[o] = data[j]
                        o += 1
                else:
                    o = _encode(code + (entry >> 3), out, o)
                if part == LONE:
                    out[o] = BLANK
                    o += 1
                    lone = o
            i = following
            if folding.plain and i + 64 <= len(data) and load8(data, i) & HIGH_BITS == 0:
                break
    return o


@nb.njit(nogil=True, cache=True)
def _shingles(
    data: Bytes, offsets: Longs, ngram: int, sha1: bool, folding: Folding, scratch: Scratch,
    out: Hashes, out_offsets: Longs, words: Longs, digests: Hashes,
) -> None:  # fmt: skip
    for row in range(len(words)):
        n, m = shingle(data, offsets, row, ngram, sha1, folding, scratch)
        words[row], digests[row] = n, digest(scratch.words, n)
        out_offsets[row + 1] = distinct(scratch.shingles, m, scratch.counts, out, out_offsets[row])


@nb.njit(nogil=True, cache=True)
def _word_hashes(
    data: Bytes, offsets: Longs, folding: Folding, scratch: Scratch, out: Hashes, out_offsets: Longs
) -> None:
    for row in range(len(offsets) - 1):
        end = normalise(data, offsets[row], offsets[row + 1], folding, scratch)
        n = _hash_words(scratch.text, end, scratch.words)
        begin = out_offsets[row]
        for i in range(n):
            out[begin + i] = scratch.words[i]
        out_offsets[row + 1] = begin + n


@looped
def shingle(
    data: Bytes, offsets: Longs, row: int, ngram: int, sha1: bool, folding: Folding, scratch: Scratch
) -> tuple[int, int]:
    """Hash a row's words and shingles, in order, into scratch.words and scratch.shingles: (words, shingles)."""
    end = normalise(data, offsets[row], offsets[row + 1], folding, scratch)
    n = _hash_words(scratch.text, end, scratch.words)
    m = max(0, n - ngram + 1)
    _hash_shingles(scratch.words, ngram, m, scratch.shingles)
    if sha1 and m:
        _sha1_halves(scratch, end, ngram, m)
    return n, m


@looped
def _hash_words(text: Bytes, end: int, out: Hashes) -> int:
    """Hash the words of normalised text to `out`; returns how many there are."""
    n, start, before = 0, np.int64(0), u64(0)
    for block in range(PAD, end + 1, 64):
        inside = not_blank64(text, block)
        shifted = inside << u64(1) | before
        starts, ends = inside & ~shifted, shifted & ~inside
        if not before:
            start = block + np.int64(trailing_zeros(starts))
            starts &= starts - u64(1)
        before = inside >> u64(63)
        while ends:
            out[n] = _hash_word(text, start, block + np.int64(trailing_zeros(ends)))
            n += 1
            ends &= ends - u64(1)
            start = block + np.int64(trailing_zeros(starts))
            starts &= starts - u64(1)
    return n


@inlined
def _hash_word(text: Bytes, start: int, end: int) -> Any:
    """Hash of text[start:end], at least one byte; reads up to 8 bytes before it and after it."""
    size = end - start
    first = load8(text, start) & ALL >> u64(max(0, 64 - 8 * size))
    last = load8(text, end - 8) if size > 8 else u64(0)
    h = first * C1 + (last ^ u64(size)) * C2
    for i in range(start + 8, end - 8, 8):
        h = (h ^ h >> u64(29) ^ load8(text, i)) * C3
    h = (h ^ h >> u64(32)) * C3
    return h ^ h >> u64(29)


@looped
def _hash_shingles(words: Hashes, ngram: int, m: int, out: Hashes) -> None:
    left, right = u64(TURN * (ngram - 1) & 63), u64(-TURN * (ngram - 1) & 63)
    for i in range(m):
        out[i] = words[i] << left | words[i] >> right
    for j in range(1, ngram):
        left, right = u64(TURN * (ngram - 1 - j) & 63), u64(-TURN * (ngram - 1 - j) & 63)
        for i in range(m):
            out[i] += words[i + j] << left | words[i + j] >> right
    for i in range(m):
        out[i] = mixed(out[i])


@looped
def _sha1_halves(scratch: Scratch, end: int, ngram: int, m: int) -> None:
    """Join the words by one blank each, and put the SHA-1 of each shingle into the low half of its hash."""
    text, starts = scratch.text, scratch.at
    o, word, outside = PAD, 0, True
    for i in range(PAD, end + 1):
        byte = text[i]
        if byte != BLANK and outside:
            starts[word] = o
            word += 1
        if byte != BLANK or not outside:
            text[o] = byte
            o += 1
        outside = byte == BLANK
    starts[word] = o
    for i in range(m):
        low = u64(sha1_low(text, starts[i], starts[i + ngram] - 1, scratch.schedule, scratch.state))
        scratch.shingles[i] = scratch.shingles[i] >> u64(32) << u64(32) | low


@inlined
def mixed(h: Any) -> Any:
    """Spread the bits of a 64-bit number (the finaliser of SplitMix64)."""
    h = (h ^ h >> u64(30)) * C2
    h = (h ^ h >> u64(27)) * C3
    return h ^ h >> u64(31)


@looped
def digest(words: Hashes, n: int) -> Any:
    """Hash of the first n numbers in order; 0 for none."""
    if n == 0:
        return u64(0)
    a, b, c, d, i = C1, C2, C3, u64(n), 0  # four chains: one would wait for its own product at each word
    while i + 4 <= n:
        a, b = (a ^ words[i]) * C2, (b ^ words[i + 1]) * C2
        c, d = (c ^ words[i + 2]) * C2, (d ^ words[i + 3]) * C2
        a, b, c, d = a ^ a >> u64(32), b ^ b >> u64(32), c ^ c >> u64(32), d ^ d >> u64(32)
        i += 4
    while i < n:
        a = mixed((a ^ words[i]) * C2)
        i += 1
    return mixed(mixed(mixed(mixed(a) + b) + c) + d)
