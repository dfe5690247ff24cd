"""The rows that fastText's supervised models add up for one word: its own, and those of its character and word n-grams.

No fastmath and no reduction is left to the compiler, so CPUs agree on the float32.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from curate.kernels.lanes import add8, add8_rows, inlined, looped, ones

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

u32, u64 = np.uint32, np.uint64
_MIX = u64(0x9E3779B97F4A7C15)
_FNV_START, _FNV_PRIME, _SIGN = u32(2166136261), u32(16777619), u32(0xFFFFFF00)
_NGRAM_PRIME = u64(116049371)
_LABEL = np.frombuffer(b"__label__", np.uint8)


class Tables(NamedTuple):
    """What a document's words are looked up in; `models.fasttext` says how each array is laid out."""

    rows: Floats  # (words + n-gram rows, dim)
    entry_bytes: Bytes
    entry_offsets: Longs  # (words + labels + 1,)
    entry_slots: Ints  # open addressing by FNV-1a, -1 = empty
    kept: npt.NDArray[
        np.uint64
    ]  # (buckets / 32 + 1,) of a pruned model: rows before | a bit for each kept bucket
    num_words: int
    num_buckets: int
    pruned: bool
    min_chars: int
    max_chars: int
    word_ngrams: int


@inlined
def _fnv_step(hashed: np.uint32, byte: np.uint8) -> np.uint32:
    """One byte into the library's FNV-1a, which takes bytes as signed."""
    signed = u32(byte) | _SIGN if byte >= 128 else u32(byte)
    return u32(u32(hashed ^ signed) * _FNV_PRIME)


@inlined
def fnv(data: Bytes, start: int, stop: int) -> np.uint32:
    hashed = _FNV_START
    for i in range(start, stop):
        hashed = _fnv_step(hashed, data[i])
    return hashed


@inlined
def _slot(number: np.uint32, mask: int) -> np.int64:
    return np.int64((u64(number) * _MIX) >> u64(32)) & mask


@looped
def find_entry(data: Bytes, start: int, stop: int, hashed: np.uint32, tables: Tables) -> np.int64:
    """Index of data[start:stop] in the dictionary, -1 when it is not there."""
    mask = tables.entry_slots.shape[0] - 1
    slot = _slot(hashed, mask)
    while tables.entry_slots[slot] >= 0:
        entry = tables.entry_slots[slot]
        low = tables.entry_offsets[entry]
        if tables.entry_offsets[entry + 1] - low == stop - start:
            same = True
            for i in range(stop - start):
                if tables.entry_bytes[low + i] != data[start + i]:
                    same = False
                    break
            if same:
                return np.int64(entry)
        slot = (slot + 1) & mask
    return np.int64(-1)


@looped
def fill_entry_slots(entry_bytes: Bytes, entry_offsets: Longs, slots: Ints) -> bool:
    """Open addressing over the dictionary; `slots` comes filled with -1. False when two entries are equal."""
    mask = slots.shape[0] - 1
    for entry in range(entry_offsets.shape[0] - 1):
        low, high = entry_offsets[entry], entry_offsets[entry + 1]
        slot = _slot(fnv(entry_bytes, low, high), mask)
        while slots[slot] >= 0:
            other = entry_offsets[slots[slot]]
            if entry_offsets[slots[slot] + 1] - other == high - low:
                i = 0
                while i < high - low and entry_bytes[other + i] == entry_bytes[low + i]:
                    i += 1
                if i == high - low:
                    return False
            slot = (slot + 1) & mask
        slots[slot] = entry
    return True


@inlined
def _bucket_row(bucket: np.uint64, tables: Tables) -> tuple[np.int64, np.int64]:
    """Row of an n-gram bucket and 1, or 0 when the model was pruned of it. No branch to guess wrong."""
    if not tables.pruned:
        return tables.num_words + np.int64(bucket), np.int64(1)
    here = tables.kept[bucket >> u64(5)]
    bit = u64(1) << (bucket & u64(31))
    before = (here >> u64(32)) + ones(here & (bit - u64(1)))
    return tables.num_words + np.int64(before), np.int64((here & bit) != 0)


@inlined
def add_row(into: Floats, matrix: Floats, row: int, column: int = 0) -> None:
    """into += matrix[row, column:], as far as it goes."""
    dim, start = into.shape[0], row * matrix.shape[1] + column
    for q in range(0, dim - dim % 8, 8):
        add8(into, q, matrix, start + q)
    for q in range(dim - dim % 8, dim):
        into[q] += matrix[row, column + q]


@looped
def _add_rows(into: Floats, matrix: Floats, rows: Longs, num: int) -> None:
    """Add matrix[rows[:num]] in that order, eight columns at a time in a register."""
    dim = into.shape[0]
    for q in range(0, dim - dim % 8, 8):
        add8_rows(into, q, matrix, rows, num)
    for q in range(dim - dim % 8, dim):
        for i in range(num):
            into[q] += matrix[rows[i], q]


@inlined
def _bracket(data: Bytes, start: int, stop: int, text: Bytes) -> int:
    """Write the word into `text` as <word>; returns its length."""
    length = stop - start + 2
    text[0], text[length - 1] = 60, 62
    for i in range(stop - start):
        text[i + 1] = data[start + i]
    return length


@looped
def _add_char_ngrams(text: Bytes, length: int, tables: Tables, pending: Longs, into: Floats) -> int:
    """Add the rows of the character n-grams of text[:length]; returns how many."""
    buckets = u32(tables.num_buckets)
    added, num = 0, 0
    for first in range(length):
        if text[first] & 0xC0 == 0x80:
            continue
        hashed, i, chars = _FNV_START, first, 1
        while i < length and chars <= tables.max_chars:
            hashed = _fnv_step(hashed, text[i])
            i += 1
            while i < length and text[i] & 0xC0 == 0x80:
                hashed = _fnv_step(hashed, text[i])
                i += 1
            if chars >= tables.min_chars and not (chars == 1 and (first == 0 or i == length)):
                pending[num], kept = _bucket_row(u64(hashed % buckets), tables)
                num += kept
            chars += 1
        if num + tables.max_chars >= pending.shape[0]:
            _add_rows(into, tables.rows, pending, num)
            added, num = added + num, 0
    _add_rows(into, tables.rows, pending, num)
    return added + num


@looped
def _starts_with_label(data: Bytes, start: int, stop: int) -> bool:
    if stop - start < _LABEL.shape[0]:
        return False
    for i in range(_LABEL.shape[0]):  # noqa: SIM110
        if data[start + i] != _LABEL[i]:
            return False
    return True


@looped
def sum_word(
    data: Bytes,
    start: int,
    stop: int,
    hashed: np.uint32,
    tables: Tables,
    text: Bytes,
    pending: Longs,
    into: Floats,
) -> int:
    """Sum of the word's rows; returns how many, or -1 for a label, which is no word. `text` and `pending` are scratch."""
    into[:] = 0
    entry = find_entry(data, start, stop, hashed, tables)
    if entry >= tables.num_words or (entry < 0 and _starts_with_label(data, start, stop)):
        return -1
    added = 0
    if entry >= 0:
        add_row(into, tables.rows, entry)
        added = 1
    if tables.max_chars == 0:
        return added
    length = _bracket(data, start, stop, text)
    return added + int(_add_char_ngrams(text, length, tables, pending, into))


@inlined
def add_word_ngrams(hashed: np.uint32, tables: Tables, running: Words, seen: int, into: Floats) -> int:
    """Add the rows of the word n-grams that end in this word. running[d]: hash of the last d + 1 words."""
    signed = u64(np.int64(np.int32(hashed)))
    added = 0
    for d in range(min(seen, tables.word_ngrams - 1), 0, -1):
        running[d] = running[d - 1] * _NGRAM_PRIME + signed
        row, kept = _bucket_row(running[d] % u64(tables.num_buckets), tables)
        if kept:
            add_row(into, tables.rows, row)
            added += 1
    running[0] = signed
    return added
