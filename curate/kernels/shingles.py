"""Word n-grams of documents as sets of 64-bit numbers, after a normalisation that is chosen.

Words. With punctuation folded they are the runs of letters, digits and marks between any other characters, where every
letter of a script without spaces (Han, Hiragana, Thai, Lao, Burmese, Khmer ...) is a word with the marks after it;
format characters (soft hyphen, joiners) vanish. With punctuation kept they are those of `curate.kernels.words`.
Case is folded by Unicode's one-to-one folding (U+0130 gives i); accents by taking a letter's canonical decomposition
without its marks (Mn); digits by reading every run of decimal digits of a word as one 0. Nothing is composed: text in
NFD has other words than the same text in NFC.

A word's hash is of its normalised UTF-8 bytes, a shingle's of n words' hashes in order. Under `sha1` the low half of a
shingle's hash is instead what datasketch takes: the first four bytes, little-endian, of the SHA-1 of its words joined
by one space.
"""

import unicodedata
from functools import cache
from typing import Any, NamedTuple

import numba as nb
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from curate.kernels.lanes import load8, looped, trailing_zeros
from curate.kernels.sha1 import sha1_low
from curate.kernels.strings import frozen
from curate.kernels.unicode import ALONE, DIGIT, LETTER, MARK, SPACE, kind_of, kinds, table
from curate.kernels.words import Bytes, Longs, _encode, decode, next_word, split_units

Hashes = npt.NDArray[np.uint64]

u64 = np.uint64
BLANK = 0x20  # between words; no word holds one
PAD = 64  # blanks before a text and after it, so that whole blocks can be read
C1, C2, C3 = u64(0x9E3779B97F4A7C15), u64(0xBF58476D1CE4E5B9), u64(0x94D049BB133111EB)

# What a character does to the normalised text: ends a word, belongs to one, is one, goes with the character before it,
# vanishes, belongs to a run of digits.
GAP, PART, LONE, JOINED, GONE, NUMBER = 0, 1, 2, 3, 4, 5


class Normal(NamedTuple):
    """What is folded before documents are compared."""

    case: bool = True
    accents: bool = False
    punctuation: bool = True
    digits: bool = False


class Shingles(NamedTuple):
    """The shingles of n documents: those of document i are hashes[offsets[i] : offsets[i + 1]], sorted and distinct."""

    hashes: Hashes
    offsets: Longs  # (n + 1,)
    words: Longs  # (n,) words of each document
    digests: Hashes  # (n,) hash of its normalised words in order, 0 where it has none


class Folding(NamedTuple):
    """How characters are read: entry = what to add to the code point << 3 | GAP to NUMBER."""

    blocks: Bytes
    entries: npt.NDArray[np.int32]
    plain: bool  # ASCII text is folded 64 bytes at once: case and punctuation folded, digits not
    split: bool  # words are those of `curate.kernels.words`, told apart by:
    kind_index: Bytes
    kind_values: Bytes


class Scratch(NamedTuple):
    """Room for one document. What is not touched of an array costs no memory."""

    text: Bytes  # its normalised words between blanks
    words: Hashes
    kind: Bytes
    at: Longs
    chars: Longs
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
    scratch = scratch_for(offsets)
    _shingles(
        frozen(data), frozen(offsets), ngram, sha1, folding(normal), scratch, out, out_offsets, words, digests
    )
    return Shingles(out[: out_offsets[-1]], out_offsets, words, digests)


def word_hashes(
    data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64], normal: Normal = Normal()
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """Hashes of the normalised words of a string column, in order, and where each document's begin, (n + 1,)."""
    out, out_offsets = np.empty(int(offsets[-1] - offsets[0]), np.uint64), np.zeros(len(offsets), np.int64)
    _word_hashes(frozen(data), frozen(offsets), folding(normal), scratch_for(offsets), out, out_offsets)
    return out[: out_offsets[-1]], out_offsets


def normalised(text: str, normal: Normal = Normal()) -> str:
    """The normalised words of one text, joined by one space."""
    data = np.frombuffer(text.encode(), np.uint8)
    scratch = scratch_for(np.array([0, len(data)]))
    end = normalise(frozen(data), 0, len(data), folding(normal), scratch)
    return " ".join(filter(None, scratch.text[PAD:end].tobytes().decode().split(" ")))


def scratch_for(offsets: npt.NDArray[np.int64]) -> Scratch:
    """Room for the longest document of a column."""
    longest = int(np.max(np.diff(offsets), initial=0)) + 1
    text = np.empty(2 * longest + 3 * PAD, np.uint8)
    text[:PAD] = BLANK
    kind, at, chars = np.empty(longest, np.uint8), np.empty(longest, np.int64), np.empty(longest, np.int64)
    sha1 = np.empty(80, np.uint32), np.empty(5, np.uint32)
    return Scratch(text, np.empty(longest, np.uint64), kind, at, chars, *sha1)


@cache
def folding(normal: Normal) -> Folding:
    """The tables of a normalisation, made on first use."""

    def entry(character: str) -> int:
        return (_folded(character, normal) - ord(character)) << 3 | _part(character, normal)

    blocks, entries = table(entry, np.int32)
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


@nb.njit(nogil=True, cache=True)
def _shingles(
    data: Bytes, offsets: Longs, ngram: int, sha1: bool, folding: Folding, scratch: Scratch,
    out: Hashes, out_offsets: Longs, words: Longs, digests: Hashes,
) -> None:  # fmt: skip
    for row in range(len(words)):
        begin = out_offsets[row]
        n, m = shingle(data, offsets[row], offsets[row + 1], ngram, sha1, folding, scratch, out, begin)
        words[row] = n
        digests[row] = digest(scratch.words, n)
        found = out[begin : begin + m]
        found.sort()
        out_offsets[row + 1] = begin + _squeeze(found)


@nb.njit(nogil=True, cache=True)
def _squeeze(numbers: Hashes) -> int:
    """Move the distinct ones of sorted numbers to the front; returns how many."""
    n = 0
    for i in range(len(numbers)):
        if i == 0 or numbers[i] != numbers[i - 1]:
            numbers[n] = numbers[i]
            n += 1
    return n


@nb.njit(nogil=True, cache=True)
def _word_hashes(
    data: Bytes, offsets: Longs, folding: Folding, scratch: Scratch, out: Hashes, out_offsets: Longs
) -> None:
    for row in range(len(offsets) - 1):
        end = normalise(data, offsets[row], offsets[row + 1], folding, scratch)
        n = hash_words(scratch.text, PAD, end, scratch.words)
        begin = out_offsets[row]
        for i in range(n):
            out[begin + i] = scratch.words[i]
        out_offsets[row + 1] = begin + n


@looped
def shingle(
    data: Bytes, begin: int, end: int, ngram: int, sha1: bool, folding: Folding, scratch: Scratch,
    out: Hashes, at: int,
) -> tuple[int, int]:  # fmt: skip
    """Hash the shingles of data[begin:end], in order, to out[at:]: (words, shingles). Leaves scratch.words."""
    stop = normalise(data, begin, end, folding, scratch)
    n = hash_words(scratch.text, PAD, stop, scratch.words)
    m = max(0, n - ngram + 1)
    for i in range(m):
        out[at + i] = u64(0)
    for j in range(ngram):
        left, right = u64(13 * j & 63), u64(-13 * j & 63)
        for i in range(m):
            word = scratch.words[i + j]
            out[at + i] += word << left | word >> right
    for i in range(m):
        out[at + i] = mixed(out[at + i])
    if sha1:
        _sha1_halves(scratch, stop, n, ngram, out, at)
    return n, m


@looped
def _sha1_halves(scratch: Scratch, end: int, n: int, ngram: int, out: Hashes, at: int) -> None:
    """Join the n words by one blank each, and put the SHA-1 of each shingle into the low half of its hash."""
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
    for i in range(n - ngram + 1):
        low = u64(sha1_low(text, starts[i], starts[i + ngram] - 1, scratch.schedule, scratch.state))
        out[at + i] = out[at + i] >> u64(32) << u64(32) | low


@looped
def normalise(data: Bytes, begin: int, end: int, folding: Folding, scratch: Scratch) -> int:
    """Write the normalised words of data[begin:end] to scratch.text from PAD, with blanks between; returns their end."""
    if not folding.split:
        o: int = _fold(data, begin, end, folding, scratch.text, PAD)
    else:
        o = _fold_words(data[begin:end], folding, scratch)
    for j in range(2 * PAD):
        scratch.text[o + j] = BLANK
    return o


@looped
def _fold_words(text: Bytes, folding: Folding, scratch: Scratch) -> int:
    n, _ = split_units(text, folding.kind_index, folding.kind_values, scratch.kind, scratch.at, scratch.chars)
    o, core, i = PAD, 0, 0
    while i < n:
        if scratch.kind[i] <= SPACE:
            i += 1
            continue
        stop, core = next_word(scratch.kind, i, core)
        o = _fold(text, scratch.at[i], scratch.at[stop], folding, scratch.text, o)
        scratch.text[o] = BLANK
        o += 1
        i = stop
    return o


@looped
def _fold(data: Bytes, i: int, end: int, folding: Folding, out: Bytes, o: int) -> int:
    """Write data[i:end] to out[o:] as its characters are read, a blank for every gap; returns the end."""
    lone, digits = -1, -1  # ends of the last word of one letter, of the last run of digits
    while i < end:
        code, following = decode(data, i, end)
        entry = int(folding.entries[np.int64(folding.blocks[code >> 8]) * 256 + (code & 255)])
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
                part = LONE
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
    return o


@looped
def hash_words(text: Bytes, begin: int, end: int, out: Hashes) -> int:
    """Hash the words of normalised text[begin:end], blanks around it, to `out`; returns how many there are."""
    n, start, before = 0, np.int64(begin), u64(0)
    for block in range(begin, end + 1, 64):
        inside = not_blank64(text, block)
        edges = inside ^ (inside << u64(1) | before)
        before = inside >> u64(63)
        while edges:
            i = block + np.int64(trailing_zeros(edges))
            edges &= edges - u64(1)
            if text[i] != BLANK:
                start = i
            else:
                out[n] = hash_word(text, start, i)
                n += 1
    return n


@looped
def hash_word(text: Bytes, start: int, end: int) -> Any:
    """Hash of text[start:end], at least one byte; reads up to 8 bytes before it and after it."""
    size = end - start
    if size <= 8:
        return mixed((load8(text, start) << u64(64 - 8 * size)) * C1 + u64(size))
    h = load8(text, start) * C1 + u64(size)
    i = start + 8
    while i + 8 < end:
        h = (h ^ h >> u64(29) ^ load8(text, i)) * C2
        i += 8
    return mixed((h ^ h >> u64(29)) * C3 + load8(text, end - 8) * C2)


@looped
def mixed(h: Any) -> Any:
    """Spread the bits of a 64-bit number (the finaliser of SplitMix64)."""
    h = (h ^ h >> u64(30)) * C2
    h = (h ^ h >> u64(27)) * C3
    return h ^ h >> u64(31)


@looped
def digest(words: Hashes, n: int) -> np.uint64:
    """Hash of the first n numbers in order; 0 for none."""
    h = u64(0)
    for i in range(n):
        h = mixed(h * C1 + words[i])
    return h


@intrinsic
def not_blank64(context: Any, array: Any, index: Any) -> Any:
    """64 bits, the lowest first: whether the byte at `index` + bit is no blank."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lanes = ir.VectorType(ir.IntType(8), 64)
        data = cgutils.create_struct_proxy(signature.args[0])(context, builder, arguments[0]).data
        block = builder.load(builder.bitcast(builder.gep(data, [arguments[1]]), lanes.as_pointer()), align=1)
        differ = builder.icmp_unsigned("!=", block, ir.Constant(lanes, [BLANK] * 64))
        return builder.bitcast(differ, ir.IntType(64))

    return types.uint64(array, types.int64), generate
