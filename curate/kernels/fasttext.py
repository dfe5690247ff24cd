"""fastText's supervised prediction over UTF-8 bytes: words, character and word n-grams, mean vector.

Differs from the library only in the order of float32 additions: the rows of one word (itself and its character
n-grams) are summed first, then added to the document. So a word's sum can be kept in a cache, and a document's result
is the same bytes whatever stood before it. No fastmath and no reduction is left to the compiler, so CPUs agree too.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from curate.kernels.lanes import add8, add8_rows, inlined, load8, looped, ones, trailing_zeros

WIDEST_KEY = 32  # bytes; longer words are not cached

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

u32, u64, f32 = np.uint32, np.uint64, np.float32
_LOW, _HIGH = u64(0x7F7F7F7F7F7F7F7F), u64(0x8080808080808080)
_FROM_TAB, _PAST_RETURN, _SPACES = u64(0x7777777777777777), u64(0x7272727272727272), u64(0x2020202020202020)
_MIX, _MIX_1 = u64(0x9E3779B97F4A7C15), u64(0xBF58476D1CE4E5B9)
_MIX_2, _MIX_3 = u64(0x94D049BB133111EB), u64(0xD6E8FEB86659FD93)
_FNV_START, _FNV_PRIME, _SIGN = u32(2166136261), u32(16777619), u32(0xFFFFFF00)
_NGRAM_PRIME = u64(116049371)
_EOS = np.frombuffer(b"</s>", np.uint8)
_EOS_KEY = u64(int.from_bytes(b"</s>", "little"))
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


# A cache's entry: the word in four numbers, padded with NUL, which no word holds; its hash; the rows in its sum; from
# _SUM on the sum. Two lines of memory side by side where the model has 16 dimensions.
_HASH, _COUNT, _SUM = 4, 5, 16


class Cache(NamedTuple):
    """Sums of words seen, direct-mapped by the word's own bytes (compared whole, so no hash can lie)."""

    entries: Words  # (slots, width / 2)
    sums: Floats  # (slots, width): the same memory


def new_cache(size: int, dim: int) -> Cache:
    """An empty one of at most `size` bytes, a power of two of entries (256 at least)."""
    width = -(-(_SUM + dim) // 16) * 16
    slots = 1 << max(size // (4 * width), 256).bit_length() - 1
    memory = np.zeros(slots * width * 4 + 64, np.uint8)
    begin = -memory.ctypes.data % 64
    entries = memory[begin : begin + slots * width * 4].reshape(slots, width * 4)
    return Cache(entries.view(np.uint64), entries.view(np.float32))


class Scratch(NamedTuple):
    """What one call works in."""

    keys: Words  # (4,): first bytes of the word at hand
    running: Words  # (word_ngrams,): hash of the last d + 1 words
    text: Bytes  # <word>
    pending: Longs  # rows to add
    word: Floats  # (dim,): sum of a new word


@inlined
def _chunk(data: Bytes, at: int, end: int) -> np.uint64:
    """Eight bytes from `at`; those past `end` read as NUL, a separator."""
    chunk = u64(0)
    if at + 8 <= end:
        return u64(load8(data, np.int64(at)))
    for i in range(end - at):
        chunk |= u64(data[at + i]) << u64(8 * i)
    return chunk


@inlined
def _separators(chunk: np.uint64) -> np.uint64:
    """High bit of each byte that ends a word: NUL, \\t \\n \\v \\f \\r, space. Exact: no carry leaves a byte."""
    low = chunk & _LOW
    control = (low + _FROM_TAB) & ~(low + _PAST_RETURN)
    space = ~((low ^ _SPACES) + _LOW)
    return (control | space | ~(low + _LOW)) & ~chunk & _HIGH


@inlined
def _word_length(data: Bytes, start: int, end: int, keys: Words) -> np.int64:
    """Bytes of the word at `start` (0: none); `keys` gets its first 32."""
    length = np.int64(0)
    while True:
        chunk = _chunk(data, start + length, end)
        separators = _separators(chunk)
        part = np.int64(8) if separators == 0 else np.int64(trailing_zeros(separators) >> u64(3))
        if length < WIDEST_KEY:
            keys[length >> 3] = chunk if part == 8 else chunk & ((u64(1) << u64(8 * part)) - u64(1))
        length += part
        if part < 8:
            for i in range((length >> 3) + 1, 4):
                keys[i] = u64(0)
            return length


@inlined
def _fnv_step(hashed: np.uint32, byte: np.uint8) -> np.uint32:
    """One byte into the library's FNV-1a, which takes bytes as signed."""
    signed = u32(byte) | _SIGN if byte >= 128 else u32(byte)
    return u32(u32(hashed ^ signed) * _FNV_PRIME)


@inlined
def _fnv(data: Bytes, start: int, stop: int) -> np.uint32:
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
        slot = _slot(_fnv(entry_bytes, low, high), mask)
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
def _add(into: Floats, matrix: Floats, row: int, column: int = 0) -> None:
    """into += matrix[row, column:], as far as it goes."""
    dim, start = into.shape[0], row * matrix.shape[1] + column
    for q in range(0, dim - dim % 8, 8):
        add8(into, q, matrix, start + q)
    for q in range(dim - dim % 8, dim):
        into[q] += matrix[row, column + q]


@inlined
def _holds(cache: Cache, slot: int, keys: Words) -> bool:
    entry = cache.entries[slot]
    return bool(entry[0] == keys[0] and entry[1] == keys[1] and entry[2] == keys[2] and entry[3] == keys[3])


@inlined
def _put(cache: Cache, slot: int, keys: Words, hashed: np.uint32, rows: int, word: Floats) -> None:
    for i in range(4):
        cache.entries[slot, i] = keys[i]
    cache.entries[slot, _HASH], cache.entries[slot, _COUNT] = hashed, rows
    for q in range(word.shape[0]):
        cache.sums[slot, _SUM + q] = word[q]


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
def _sum_word(
    data: Bytes, start: int, stop: int, hashed: np.uint32, tables: Tables, scratch: Scratch, into: Floats
) -> int:
    """Sum of the word's rows; returns how many, or -1 for a label, which is no word."""
    into[:] = 0
    entry = find_entry(data, start, stop, hashed, tables)
    if entry >= tables.num_words or (entry < 0 and _starts_with_label(data, start, stop)):
        return -1
    added = 0
    if entry >= 0:
        _add(into, tables.rows, entry)
        added = 1
    if tables.max_chars == 0:
        return added
    length = _bracket(data, start, stop, scratch.text)
    return added + int(_add_char_ngrams(scratch.text, length, tables, scratch.pending, into))


@inlined
def _add_word_ngrams(hashed: np.uint32, tables: Tables, running: Words, seen: int, into: Floats) -> int:
    """Add the rows of the word n-grams that end in this word. running[d]: hash of the last d + 1 words."""
    signed = u64(np.int64(np.int32(hashed)))
    added = 0
    for d in range(min(seen, tables.word_ngrams - 1), 0, -1):
        running[d] = running[d - 1] * _NGRAM_PRIME + signed
        row, kept = _bucket_row(running[d] % u64(tables.num_buckets), tables)
        if kept:
            _add(into, tables.rows, row)
            added += 1
    running[0] = signed
    return added


@looped
def _sum_document(
    data: Bytes, at: int, end: int, tables: Tables, near: Cache, far: Cache, scratch: Scratch, into: Floats
) -> int:
    """Sum of the document's rows, the end-of-sentence token's included; returns how many."""
    keys, running, word = scratch.keys, scratch.running, scratch.word
    near_mask, far_mask = near.entries.shape[0] - 1, far.entries.shape[0] - 1
    added, seen = 0, 0
    while at < end:
        length = _word_length(data, at, end, keys)
        if length == 0:
            at += 1
            continue
        start, at = at, at + length
        mixed = keys[0] * _MIX + keys[1] * _MIX_1 + keys[2] * _MIX_2 + keys[3] * _MIX_3
        place = np.int64(mixed >> u64(40))
        slot, far_slot = place & near_mask, place & far_mask
        if length > WIDEST_KEY or not _holds(near, slot, keys):
            if length == 4 and keys[0] == _EOS_KEY:  # written out, it ends the line as a newline does
                break
            if length <= WIDEST_KEY and _holds(far, far_slot, keys):
                for i in range(far.entries.shape[1]):
                    near.entries[slot, i] = far.entries[far_slot, i]
            else:
                hashed = _fnv(data, start, at)
                rows = _sum_word(data, start, at, hashed, tables, scratch, word)
                if rows < 0:
                    continue
                _put(near, slot, keys, hashed, rows, word)
                if length > WIDEST_KEY:
                    near.entries[slot, 0] = u64(0)  # found by nobody
                else:
                    _put(far, far_slot, keys, hashed, rows, word)
        hashed = u32(near.entries[slot, _HASH])
        added += np.int64(near.entries[slot, _COUNT])  # type: ignore[assignment]
        _add(into, near.sums, slot, _SUM)
        if tables.word_ngrams > 1:
            added += _add_word_ngrams(hashed, tables, running, seen, into)
            seen += 1
    hashed = _fnv(_EOS, 0, 4)
    entry = find_entry(_EOS, 0, 4, hashed, tables)
    if 0 <= entry < tables.num_words:
        _add(into, tables.rows, entry)
        added += 1
    if tables.word_ngrams > 1:
        added += _add_word_ngrams(hashed, tables, running, seen, into)
    return added


@looped
def _fill(
    data: Bytes, offsets: Longs, tables: Tables, near: Cache, far: Cache, scratch: Scratch, hidden: Floats,
    known: Flags,
) -> None:  # fmt: skip
    for d in range(offsets.shape[0] - 1):
        added = _sum_document(data, offsets[d], offsets[d + 1], tables, near, far, scratch, hidden[d])
        if added > 0:
            known[d] = True
            scale = f32(1.0 / added)
            for q in range(hidden.shape[1]):
                hidden[d, q] *= scale


def hidden_vectors(
    data: Bytes, offsets: Longs, tables: Tables, near: Cache, far: Cache
) -> tuple[Floats, Flags]:
    """Mean of each document's rows.

    data, offsets  documents as `schema.text_buffers` gives them, n of them
    near, far      sums of words seen; what is not in the small one is looked for in the large one
    Returns float32 (n, dim) and bool (n,): false where no word, n-gram or end token is known to the model.
    """
    n, dim = offsets.shape[0] - 1, tables.rows.shape[1]
    hidden = np.zeros((n, dim), np.float32)
    known = np.zeros(n, np.bool_)
    scratch = Scratch(
        keys=np.zeros(4, np.uint64),
        running=np.zeros(max(tables.word_ngrams, 1), np.uint64),
        text=np.empty(2 + int(np.diff(offsets).max(initial=0)), np.uint8),
        pending=np.zeros(1024, np.int64),
        word=np.zeros(dim, np.float32),
    )
    _fill(data, offsets, tables, near, far, scratch, hidden, known)
    return hidden, known


@njit(cache=True, error_model="numpy")
def without_words(data: Bytes, offsets: Longs) -> Flags:
    """Documents of nothing but separators: bool (n,)."""
    blank = np.ones(offsets.shape[0] - 1, np.bool_)
    for d in range(blank.shape[0]):
        for i in range(offsets[d], offsets[d + 1]):
            if data[i] != 32 and data[i] != 0 and not 9 <= data[i] <= 13:
                blank[d] = False
                break
    return blank
