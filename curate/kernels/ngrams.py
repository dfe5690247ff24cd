"""Which n-grams of words of a text stand in an index of other texts.

Words are runs of letters, digits and spacing marks, folded to lower case without accents; everything else ends a word.
Accents and format characters inside a word are passed over. A letter of a script without spaces is a word by itself.
A word is its 64-bit hash, an n-gram a hash of n of those: two of the index's 1e7 n-grams meet a foreign one in 1e12 words
with odds of a half.
"""

import unicodedata
from functools import cache
from typing import Any, NamedTuple

import numba as nb
import numpy as np
import numpy.typing as npt

from curate.kernels import unicode
from curate.kernels.strings import frozen
from curate.kernels.words import decode, mix

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]

u64 = np.uint64
SEPARATOR, JOINS, ALONE, PASSED_OVER = 0, 1, 2, 3
_SEED, _STEP, _BASE = u64(0x243F6A8885A308D3), u64(0x9E3779B97F4A7C15), u64(0xD1342543DE82EF95)
GRAM, WORD, NUM_WORDS, BEGIN, END = range(5)  # columns of hits; bytes from the begin of the data


class Words(NamedTuple):
    """Hashes of the words of n rows; those of row i are hashes[offsets[i]:offsets[i + 1]]."""

    hashes: Hashes
    offsets: Longs  # (n + 1,)


class Index(NamedTuple):
    """N-grams of sequences of words. A sequence shorter than the n-gram is one n-gram of its own length."""

    keys: Hashes  # (grams,) ascending: hash of each distinct n-gram
    slots: Ints  # open addressing: number of a gram, or -1
    bits: Bytes  # a filter before the slots: most n-grams of a text end here
    prefixes: Bytes  # a filter of the first `shortest` words of sequences that are shorter than the n-gram
    starts: Longs  # (grams + 1,) where the sequences of a gram begin in `postings`
    postings: Ints
    places: Longs  # (sequences + 1,) where the grams of a sequence begin in `grams`, by position
    grams: Ints
    lengths: Ints  # (sequences,) words
    weights: Floats  # (grams,) rarity; 0 for a gram that is not to count
    totals: Floats  # (sequences,) sum of the weights of the distinct grams


@cache
def characters() -> tuple[Bytes, Ints]:
    """Table of what a character is in a word (2 bits) and, above that, what to add to its code point to fold it."""

    def entry(character: str) -> int:
        return (ord(folded(character)) - ord(character)) << 2 | _kind(character)

    return unicode.stored("ngrams", entry, np.int32)  # type: ignore[return-value]


def folded(character: str) -> str:
    """Lower case without accents, one character for one; letters that are several by decomposition stay."""
    if ord(character) >= 0x20000:  # planes of ideographs, which the tables take for all alike
        return character
    lower = "σ" if character == "ς" else chr(unicode.lowered(character))
    bare = [part for part in unicodedata.normalize("NFD", lower) if unicodedata.category(part) != "Mn"]
    return bare[0] if len(bare) == 1 else lower


def _kind(character: str) -> int:
    kind = unicode.kind_of(character)
    if kind == unicode.ALONE:
        return ALONE
    if kind == unicode.MARK:
        return JOINS if unicodedata.category(character) == "Mc" else PASSED_OVER
    return JOINS if kind in (unicode.LETTER, unicode.UPPER, unicode.DIGIT) else SEPARATOR


def words(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> Words:
    """Words of the rows of a string column."""
    hashes = np.empty((int(offsets[-1] - offsets[0]) + len(offsets)) // 2 + 1, np.uint64)
    places = np.zeros(len(offsets), np.int64)
    _all_words(frozen(data), frozen(offsets), *characters(), hashes, places)
    return Words(hashes[: places[-1]].copy(), places)


@nb.njit(nogil=True, cache=True)
def _all_words(data: Bytes, offsets: Longs, index: Bytes, values: Any, hashes: Hashes, places: Longs) -> None:
    longest = np.max(offsets[1:] - offsets[:-1]) if len(offsets) > 1 else 0
    begins, ends = np.empty(longest // 2 + 1, np.int32), np.empty(longest // 2 + 1, np.int32)
    for row in range(len(offsets) - 1):
        text = data[offsets[row] : offsets[row + 1]]
        places[row + 1] = places[row] + split_words(text, index, values, hashes[places[row] :], begins, ends)


@nb.njit(nogil=True, cache=True)
def split_words(text: Bytes, index: Bytes, values: Any, hashes: Hashes, begins: Ints, ends: Ints) -> int:
    """Hash, begin and end (bytes) of each word; returns their number."""
    n, i, h, inside = 0, 0, _SEED, False
    while i < len(text):
        if text[i] < 0x80:
            code, following = np.int64(text[i]), i + 1
            value = np.int64(values[code])
        else:
            code, following = decode(text, i, len(text))
            value = np.int64(values[np.int64(index[code >> 8]) * 256 + (code & 255)])
        kind, code = value & 3, code + (value >> 2)
        if kind == JOINS:
            if not inside:
                begins[n], h, inside = i, _SEED, True
            h = (h ^ u64(code)) * _STEP
            ends[n] = following
        elif kind != PASSED_OVER:
            if inside:
                hashes[n] = mix(h)
                n, inside = n + 1, False
            if kind == ALONE:
                begins[n], ends[n], hashes[n] = i, following, mix((_SEED ^ u64(code)) * _STEP)
                n += 1
        i = following
    if inside:
        hashes[n] = mix(h)
        n += 1
    return n


@nb.njit(nogil=True, cache=True)
def _key(rolled: np.uint64, num: int) -> np.uint64:
    key: np.uint64 = mix((rolled ^ u64(num)) * _STEP)
    return key


@nb.njit(nogil=True, cache=True)
def _rolled(hashes: Hashes, begin: int, end: int) -> np.uint64:
    rolled = u64(0)
    for i in range(begin, end):
        rolled = rolled * _BASE + hashes[i]
    return rolled


@nb.njit(nogil=True, cache=True)
def _power(num: int) -> np.uint64:
    power = u64(1)
    for _ in range(num):
        power *= _BASE
    return power


def build(sequences: Words, ngram: int, shortest: int) -> Index:
    """The index of the n-grams of some sequences; those of fewer than `shortest` words have none.

    weights[g] = ln((sequences + 1) / sequences that hold g).
    """
    lengths = np.diff(sequences.offsets)
    num = np.where(lengths >= ngram, lengths - ngram + 1, (lengths >= shortest).astype(np.int64))
    places = np.concatenate([[0], np.cumsum(num)])
    found = np.empty(places[-1], np.uint64)
    _sequence_keys(sequences.hashes, sequences.offsets, places, ngram, found)
    keys, grams = np.unique(found, return_inverse=True)
    of = np.repeat(np.arange(len(lengths)), num)
    pairs = np.unique(grams.astype(np.int64) << 32 | of)
    starts = np.searchsorted(pairs >> 32, np.arange(len(keys) + 1))
    weights = np.log((len(lengths) + 1) / np.diff(starts)) if len(keys) else np.zeros(0)
    slots = np.full(max(2, 1 << (2 * len(keys)).bit_length()), -1, np.int32)
    bits, prefixes = _filter(len(keys)), _filter(int((lengths < ngram).sum()))
    _fill(keys, slots, bits)
    _fill_prefixes(sequences.hashes, sequences.offsets, ngram, shortest, prefixes)
    postings = (pairs & 0xFFFFFFFF).astype(np.int32)
    index = Index(
        keys, slots, bits, prefixes, starts, postings, places, grams.astype(np.int32), lengths.astype(np.int32),
        weights, np.zeros(0),
    )  # fmt: skip
    return weighted(index, weights)


def weighted(index: Index, weights: npt.NDArray[np.float64]) -> Index:
    """The index with other weights."""
    of = np.repeat(np.arange(len(index.keys)), np.diff(index.starts))
    totals = np.bincount(index.postings, weights[of], minlength=len(index.lengths)).astype(np.float64)
    return Index(*(frozen(part) for part in index._replace(weights=weights, totals=totals)))


def _filter(entries: int) -> npt.NDArray[np.uint8]:
    return np.zeros(max(8, 1 << (2 * entries).bit_length()), np.uint8)  # 16 to 32 bits for each


@nb.njit(nogil=True, cache=True)
def _sequence_keys(hashes: Hashes, offsets: Longs, places: Longs, ngram: int, keys: Hashes) -> None:
    for s in range(len(offsets) - 1):
        size = min(ngram, offsets[s + 1] - offsets[s])
        for p in range(places[s + 1] - places[s]):
            begin = offsets[s] + p
            keys[places[s] + p] = _key(_rolled(hashes, begin, begin + size), size)


@nb.njit(nogil=True, cache=True)
def _set(bits: Bytes, key: np.uint64) -> None:
    bit = (key >> u64(24)) & u64(len(bits) * 8 - 1)
    bits[bit >> u64(3)] |= np.uint8(1 << (bit & u64(7)))


@nb.njit(nogil=True, cache=True)
def _may_hold(bits: Bytes, key: np.uint64) -> bool:
    bit = (key >> u64(24)) & u64(len(bits) * 8 - 1)
    return bool(bits[bit >> u64(3)] >> (bit & u64(7)) & u64(1))


@nb.njit(nogil=True, cache=True)
def _fill(keys: Hashes, slots: Ints, bits: Bytes) -> None:
    mask = u64(len(slots) - 1)
    for g in range(len(keys)):
        _set(bits, keys[g])
        s = keys[g] & mask
        while slots[s] >= 0:
            s = (s + u64(1)) & mask
        slots[s] = g


@nb.njit(nogil=True, cache=True)
def _fill_prefixes(hashes: Hashes, offsets: Longs, ngram: int, shortest: int, bits: Bytes) -> None:
    for s in range(len(offsets) - 1):
        if shortest <= offsets[s + 1] - offsets[s] < ngram:
            _set(bits, _key(_rolled(hashes, offsets[s], offsets[s] + shortest), shortest))


@nb.njit(nogil=True, cache=True)
def _look(key: np.uint64, keys: Hashes, slots: Ints, bits: Bytes) -> int:
    """Number of the n-gram, -1 where it is in no item."""
    if not _may_hold(bits, key):
        return -1
    mask = u64(len(slots) - 1)
    s = key & mask
    while slots[s] >= 0:
        if keys[slots[s]] == key:
            return int(slots[s])
        s = (s + u64(1)) & mask
    return -1


def scan(
    data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64], index: Index, ngram: int, shortest: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(hits int64 (h, 5), their offsets by row int64 (n + 1,)) of the rows of a string column, in order of the words."""
    tables = *characters(), *index[:4]
    hits, places = _scan(frozen(data), frozen(offsets), *tables, ngram, shortest)
    return hits, places


@nb.njit(nogil=True, cache=True)
def _scan(
    data: Bytes, offsets: Longs, table: Bytes, values: Any,
    keys: Hashes, slots: Ints, bits: Bytes, prefixes: Bytes, ngram: int, shortest: int,
) -> tuple[Longs, Longs]:  # fmt: skip
    longest = np.max(offsets[1:] - offsets[:-1]) // 2 + 1 if len(offsets) > 1 else 0
    hashes = np.empty(longest, np.uint64)
    begins, ends = np.empty(longest, np.int32), np.empty(longest, np.int32)
    hits, places, h = np.empty((1024, 5), np.int64), np.zeros(len(offsets), np.int64), 0
    leaving, leaving_prefix = _power(ngram), _power(shortest)
    for row in range(len(offsets) - 1):
        at = offsets[row]
        num = split_words(data[at : offsets[row + 1]], table, values, hashes, begins, ends)
        whole, prefix = u64(0), u64(0)
        for i in range(num):
            whole = whole * _BASE + hashes[i]
            prefix = prefix * _BASE + hashes[i]
            if i >= ngram:
                whole -= hashes[i - ngram] * leaving
            if i >= shortest:
                prefix -= hashes[i - shortest] * leaving_prefix
            if h + ngram >= len(hits):
                hits = np.concatenate((hits, np.empty_like(hits)))
            first = i + 1 - ngram
            if first >= 0:
                gram = _look(_key(whole, ngram), keys, slots, bits)
                if gram >= 0:
                    hits[h, GRAM], hits[h, WORD], hits[h, NUM_WORDS] = gram, first, ngram
                    hits[h, BEGIN], hits[h, END] = at + begins[first], at + ends[i]
                    h += 1
            first = i + 1 - shortest
            if shortest < ngram and first >= 0 and _may_hold(prefixes, _key(prefix, shortest)):
                rolled = prefix
                for last in range(i, min(first + ngram - 1, num)):
                    if last > i:
                        rolled = rolled * _BASE + hashes[last]
                    gram = _look(_key(rolled, last + 1 - first), keys, slots, bits)
                    if gram >= 0:
                        hits[h, GRAM], hits[h, WORD], hits[h, NUM_WORDS] = gram, first, last + 1 - first
                        hits[h, BEGIN], hits[h, END] = at + begins[first], at + ends[last]
                        h += 1
        places[row + 1] = h
    return hits[:h].copy(), places


def count_rows(
    grams: npt.NDArray[np.int64], places: npt.NDArray[np.int64], out: npt.NDArray[np.int64]
) -> None:
    """Add to out (grams,) the number of rows that each gram was hit in."""
    rows = np.repeat(np.arange(len(places) - 1), np.diff(places))
    pairs = np.unique(grams << 32 | rows)
    np.add.at(out, pairs >> 32, 1)
