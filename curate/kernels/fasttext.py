"""fastText's supervised prediction over UTF-8 bytes: words, character and word n-grams, mean vector.

Differs from the library only in the order of float32 additions: the rows of one word (itself and its character
n-grams) are summed first, then added to the document. So a word's sum can be kept in a cache, and a document's result
is the same bytes whatever stood before it.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from curate.kernels.chunks import FIRST, MOST_EDGES, NUL, PAST_END, WINDOW, find_chunks, take_text
from curate.kernels.fasttext_rows import (
    Bytes,
    Flags,
    Floats,
    Longs,
    Tables,
    Words,
    add_row,
    add_word_ngrams,
    find_entry,
    fnv,
    sum_word,
)
from curate.kernels.lanes import inlined, load8, looped, prefetch

WIDEST_KEY = 32  # bytes; longer words are not cached

u32, u64, f32 = np.uint32, np.uint64, np.float32
_MIX, _MIX_1 = u64(0x9E3779B97F4A7C15), u64(0xBF58476D1CE4E5B9)
_MIX_2, _MIX_3 = u64(0x94D049BB133111EB), u64(0xD6E8FEB86659FD93)
_EOS = np.frombuffer(b"</s>", np.uint8)
_EOS_KEY = u64(int.from_bytes(b"</s>", "little"))

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

    text: Bytes  # the document at hand, and NUL behind it
    edges: Longs  # of a window: begin of a word, its end, begin of the next ...
    keys: Words  # (words, 4): first bytes of each word of a window
    places: Longs  # of each word: its hash, from which its slots follow
    running: Words  # (word_ngrams,): hash of the last d + 1 words
    bracketed: Bytes  # <word>
    pending: Longs  # rows to add
    word: Floats  # (dim,): sum of a new word


def new_scratch(longest: int, dim: int, word_ngrams: int) -> Scratch:
    """For documents of `longest` bytes and less."""
    words = MOST_EDGES // 2
    return Scratch(
        text=np.zeros(longest + PAST_END, np.uint8),
        edges=np.zeros(MOST_EDGES, np.int64),
        keys=np.zeros((words, 4), np.uint64),
        places=np.zeros(words, np.int64),
        running=np.zeros(max(word_ngrams, 1), np.uint64),
        bracketed=np.empty(2 + longest, np.uint8),
        pending=np.zeros(1024, np.int64),
        word=np.zeros(dim, np.float32),
    )


@looped
def fetch_words(scratch: Scratch, num: int, first: Words, near: Cache, far: Cache) -> None:
    """Keys and places of `num` words. What is not in the near cache is called from memory before it is asked for."""
    text, edges, keys, entries = scratch.text, scratch.edges, scratch.keys, near.entries
    near_mask, far_mask, width = entries.shape[0] - 1, far.entries.shape[0] - 1, far.entries.shape[1]
    for k in range(num):
        start = edges[2 * k]
        length = min(edges[2 * k + 1] - start, WIDEST_KEY)
        a, b = load8(text, start) & first[length, 0], load8(text, start + 8) & first[length, 1]
        c, d = load8(text, start + 16) & first[length, 2], load8(text, start + 24) & first[length, 3]
        keys[k, 0], keys[k, 1], keys[k, 2], keys[k, 3] = a, b, c, d
        place = np.int64((a * _MIX + b * _MIX_1 + c * _MIX_2 + d * _MIX_3) >> u64(40))
        scratch.places[k] = place
        s = place & near_mask
        differ = (entries[s, 0] ^ a) | (entries[s, 1] ^ b) | (entries[s, 2] ^ c) | (entries[s, 3] ^ d)
        wanted = (place & far_mask) * width if differ else 0  # no branch to guess wrong
        prefetch(far.entries, wanted)
        prefetch(far.entries, wanted + 8)


@inlined
def _holds(cache: Cache, slot: int, keys: Words, k: int) -> bool:
    entry = cache.entries
    differ = (entry[slot, 0] ^ keys[k, 0]) | (entry[slot, 1] ^ keys[k, 1])
    return bool(differ | (entry[slot, 2] ^ keys[k, 2]) | (entry[slot, 3] ^ keys[k, 3]) == u64(0))


@inlined
def _put(cache: Cache, slot: int, keys: Words, k: int, hashed: np.uint32, rows: int, word: Floats) -> None:
    for i in range(4):
        cache.entries[slot, i] = keys[k, i]
    cache.entries[slot, _HASH], cache.entries[slot, _COUNT] = hashed, rows
    for q in range(word.shape[0]):
        cache.sums[slot, _SUM + q] = word[q]


@looped
def _place_new(k: int, tables: Tables, near: Cache, far: Cache, scratch: Scratch) -> bool:
    """Sum word k of the window and put it into the caches; false for a label, which is no word."""
    start, stop = scratch.edges[2 * k], scratch.edges[2 * k + 1]
    place, keys, word = scratch.places[k], scratch.keys, scratch.word
    slot, far_slot = place & (near.entries.shape[0] - 1), place & (far.entries.shape[0] - 1)
    hashed = fnv(scratch.text, start, stop)
    rows = sum_word(scratch.text, start, stop, hashed, tables, scratch.bracketed, scratch.pending, word)
    if rows < 0:
        return False
    _put(near, slot, keys, k, hashed, rows, word)
    if stop - start > WIDEST_KEY:
        near.entries[slot, 0] = u64(0)  # found by nobody
    else:
        _put(far, far_slot, keys, k, hashed, rows, word)
    return True


@looped
def _sum_window(
    num: int, seen: int, tables: Tables, near: Cache, far: Cache, scratch: Scratch, into: Floats
) -> tuple[int, int, bool]:
    """Add the rows of a window's words: (how many rows, words seen of the document, whether its text ends here)."""
    edges, keys = scratch.edges, scratch.keys
    near_mask, far_mask = near.entries.shape[0] - 1, far.entries.shape[0] - 1
    added = 0
    for k in range(num):
        length = edges[2 * k + 1] - edges[2 * k]
        slot, far_slot = scratch.places[k] & near_mask, scratch.places[k] & far_mask
        if length > WIDEST_KEY or not _holds(near, slot, keys, k):
            if length == 4 and keys[k, 0] == _EOS_KEY:  # written out, it ends the line as a newline does
                return added, seen, True
            if length <= WIDEST_KEY and _holds(far, far_slot, keys, k):
                for i in range(far.entries.shape[1]):
                    near.entries[slot, i] = far.entries[far_slot, i]
            elif not _place_new(k, tables, near, far, scratch):
                continue
        added += np.int64(near.entries[slot, _COUNT])  # type: ignore[assignment]
        add_row(into, near.sums, slot, _SUM)
        if tables.word_ngrams > 1:
            hashed = u32(near.entries[slot, _HASH])
            added += add_word_ngrams(hashed, tables, scratch.running, seen, into)
            seen += 1
    return added, seen, False


@looped
def _sum_document(
    length: int, tables: Tables, near: Cache, far: Cache, scratch: Scratch, first: Words, into: Floats
) -> int:
    """Sum of the rows of scratch.text[:length], the end-of-sentence token's included; returns how many."""
    added, seen, num, at, ended = 0, 0, 0, 0, False
    while at <= length and not ended:
        num = find_chunks(scratch.text, at, min(at + WINDOW, length + 1), NUL, scratch.edges, num)
        fetch_words(scratch, num >> 1, first, near, far)
        more, seen, ended = _sum_window(num >> 1, seen, tables, near, far, scratch, into)
        added += more
        if num & 1:
            scratch.edges[0] = scratch.edges[num - 1]
        num, at = num & 1, at + WINDOW
    hashed = fnv(_EOS, 0, 4)
    entry = find_entry(_EOS, 0, 4, hashed, tables)
    if 0 <= entry < tables.num_words:
        add_row(into, tables.rows, entry)
        added += 1
    if tables.word_ngrams > 1:
        added += add_word_ngrams(hashed, tables, scratch.running, seen, into)
    return added


@looped
def _fill(
    data: Bytes, offsets: Longs, tables: Tables, near: Cache, far: Cache, scratch: Scratch, first: Words,
    hidden: Floats, known: Flags,
) -> None:  # fmt: skip
    for d in range(offsets.shape[0] - 1):
        length = offsets[d + 1] - offsets[d]
        take_text(data, offsets[d], offsets[d + 1], NUL, scratch.text)
        added = _sum_document(length, tables, near, far, scratch, first, hidden[d])
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
    scratch = new_scratch(int(np.diff(offsets).max(initial=0)), dim, tables.word_ngrams)
    _fill(data, offsets, tables, near, far, scratch, FIRST, hidden, known)
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
