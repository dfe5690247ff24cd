"""The walk over a component of linked documents in keep order: who is kept, and who is dropped for whom.

A document is dropped for the first document kept before it that shares a band with it and is verified, else it is
kept. Only kept documents are compared with, and only they are remembered: their band keys in a table of chains, their
shingles in one heap. Every array may lie on disk; `walk` stops before a document for which one of them is too short.
"""

from typing import NamedTuple

import numba as nb
import numpy as np
import numpy.typing as npt

from curate.kernels.words import HASH_STEP, mix

Bytes = npt.NDArray[np.uint8]
Longs = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Reals = npt.NDArray[np.float64]

# Places in `counts`.
KEPT, ENTRIES, SHINGLES, WORDS, IDS, BASE, OPEN, COMPONENT, SEEN, COMPARED, VERIFIED = range(11)


class Documents(NamedTuple):
    """n documents of components in order, each component's in keep order."""

    component: Hashes  # (n,)
    order: Hashes  # (n,)
    digest: Hashes  # (n,), equal where the words are
    bands: Hashes  # (n, bands); the digest in each place where there are no shingles
    shingles: Hashes  # sorted and distinct per document, documents one after the other
    shingle_offsets: Longs  # (n + 1,)
    words: Hashes  # as shingles: distinct words; empty unless novel ones are counted
    word_offsets: Longs  # (n + 1,)
    ids: Bytes
    id_offsets: Longs  # (n + 1,)


class State(NamedTuple):
    """What is remembered of kept documents, by their number; and the table of the open component."""

    counts: Longs  # (11,)
    order: Hashes  # by number
    size: Longs  # documents it stands for
    seen: Longs  # the document that it was last a candidate for
    found: Longs  # room for candidates
    shingles: Hashes
    shingle_end: Longs  # by number
    words: Hashes
    word_end: Longs  # by number
    ids: Bytes
    id_end: Longs  # by number
    keys: Hashes  # (slots,), a power of two
    heads: Longs  # (slots,), newest entry of a key, and 1; 0 where the slot is free
    kept: Longs  # by entry: a document's number
    next: Longs  # by entry: the entry before it in its chain, and 1
    slot: Longs  # by entry
    jaccard: Reals  # by entry


@nb.njit(nogil=True, cache=True)
def walk(
    d: Documents, start: int, threshold: float, most_novel: int, verify: bool, s: State, kept_of: Longs,
    jaccard_of: Reals,
) -> int:  # fmt: skip
    """Walk the documents from `start` on; returns where it stopped: n, or a document that needs more room.

    `kept_of` gets the number of the kept document that a document is dropped for, -1 where it is kept itself;
    `jaccard_of` their Jaccard, NaN where nothing is verified. `most_novel` < 0: novel words do not matter.
    """
    for i in range(start, len(d.component)):
        component = np.int64(d.component[i])
        if s.counts[OPEN] == 0 or component != s.counts[COMPONENT]:
            close(s)
            s.counts[OPEN], s.counts[COMPONENT] = 1, component
        if not has_room(d, i, s):
            return i
        s.counts[SEEN] += 1
        twin = _find(s, d.digest[i])
        if twin >= 0:  # the same words have the same fate
            winner, jaccard = s.kept[twin], s.jaccard[twin]
        else:
            winner, jaccard = _first_verified(d, i, threshold, most_novel, verify, s)
        kept_of[i], jaccard_of[i] = winner, jaccard
        if winner >= 0:
            s.size[winner] += 1
        else:
            winner = _keep(d, i, s)
        if twin < 0:
            _add(s, d.digest[i], winner, jaccard if kept_of[i] >= 0 else 1.0)
    return len(d.component)


@nb.njit(nogil=True, cache=True)
def has_room(d: Documents, i: int, s: State) -> bool:
    """Whether document i could be kept with the arrays as long as they are."""
    entries = s.counts[ENTRIES] + d.bands.shape[1] + 1
    return bool(
        s.counts[KEPT] < len(s.order)
        and entries <= len(s.kept)
        and 2 * entries <= len(s.keys)
        and s.counts[SHINGLES] + d.shingle_offsets[i + 1] - d.shingle_offsets[i] <= len(s.shingles)
        and s.counts[WORDS] + d.word_offsets[i + 1] - d.word_offsets[i] <= len(s.words)
        and s.counts[IDS] + d.id_offsets[i + 1] - d.id_offsets[i] <= len(s.ids)
    )


@nb.njit(nogil=True, cache=True)
def close(s: State) -> None:
    """The open component is complete: its table is emptied; what it kept stays until `forget`."""
    for entry in range(s.counts[ENTRIES]):
        s.heads[s.slot[entry]] = 0
    s.counts[ENTRIES], s.counts[BASE] = 0, s.counts[KEPT]


@nb.njit(nogil=True, cache=True)
def _first_verified(
    d: Documents, i: int, threshold: float, most_novel: int, verify: bool, s: State
) -> tuple[int, float]:
    begin, end = d.shingle_offsets[i], d.shingle_offsets[i + 1]
    n = _candidates(d, i, s)
    for k in np.sort(s.found[:n]):
        if not verify:
            return k, np.nan
        s.counts[COMPARED] += 1
        first = s.shingle_end[k - 1] if k else 0
        jaccard = jaccard_above(d.shingles[begin:end], s.shingles[first : s.shingle_end[k]], threshold)
        if jaccard >= threshold and (most_novel < 0 or _novel(d, i, s, k) <= most_novel):
            s.counts[VERIFIED] += 1
            return k, jaccard
    return -1, np.nan


@nb.njit(nogil=True, cache=True)
def _candidates(d: Documents, i: int, s: State) -> int:
    """Put the kept documents that share a band with document i into `found`; returns how many."""
    n = 0
    if d.bands[i, 0] == d.digest[i]:
        return n  # too short to shingle: only the same words are a match
    for band in range(d.bands.shape[1]):
        entry = _find(s, d.bands[i, band])
        while entry >= 0:
            kept = s.kept[entry]
            if s.seen[kept] != s.counts[SEEN]:
                s.seen[kept] = s.counts[SEEN]
                s.found[n] = kept
                n += 1
            entry = s.next[entry] - 1
    return n


@nb.njit(nogil=True, cache=True)
def jaccard_above(a: Hashes, b: Hashes, threshold: float) -> float:
    """Jaccard of two sorted sets; -1 as soon as it can no longer reach the threshold."""
    na, nb_ = len(a), len(b)
    if min(na, nb_) < threshold * max(na, nb_) - 1e-9:
        return -1.0
    spare = (
        min(na, nb_) - threshold * (na + nb_) / (1.0 + threshold) + 1e-9
    )  # members of the smaller that may miss
    i = j = common = 0
    while i < na and j < nb_:
        x, y = a[i], b[j]
        common += x == y
        i += x <= y
        j += y <= x
        if min(i, j) - common > spare:
            return -1.0
    return common / (na + nb_ - common)


@nb.njit(nogil=True, cache=True)
def _novel(d: Documents, i: int, s: State, k: int) -> int:
    """Number of words of document i that kept document k does not have."""
    a = d.words[d.word_offsets[i] : d.word_offsets[i + 1]]
    j, end, novel = s.word_end[k - 1] if k else 0, s.word_end[k], 0
    for word in a:
        while j < end and s.words[j] < word:
            j += 1
        novel += j == end or s.words[j] != word
    return novel


@nb.njit(nogil=True, cache=True)
def _keep(d: Documents, i: int, s: State) -> int:
    number = s.counts[KEPT]
    s.counts[KEPT] += 1
    s.order[number], s.size[number], s.seen[number] = d.order[i], 1, 0
    begin, end, at = d.shingle_offsets[i], d.shingle_offsets[i + 1], s.counts[SHINGLES]
    s.shingles[at : at + end - begin] = d.shingles[begin:end]
    s.counts[SHINGLES] = s.shingle_end[number] = at + end - begin
    begin, end, at = d.word_offsets[i], d.word_offsets[i + 1], s.counts[WORDS]
    s.words[at : at + end - begin] = d.words[begin:end]
    s.counts[WORDS] = s.word_end[number] = at + end - begin
    begin, end, at = d.id_offsets[i], d.id_offsets[i + 1], s.counts[IDS]
    s.ids[at : at + end - begin] = d.ids[begin:end]
    s.counts[IDS] = s.id_end[number] = at + end - begin
    for band in range(d.bands.shape[1]):
        if d.bands[i, 0] != d.digest[i]:
            _add(s, d.bands[i, band], number, 1.0)
    return int(number)


@nb.njit(nogil=True, cache=True)
def _slot(keys: Hashes, heads: Longs, key: np.uint64) -> int:
    at = np.int64(mix(key * HASH_STEP) & np.uint64(len(keys) - 1))
    while heads[at] and keys[at] != key:
        at = (at + 1) & (len(keys) - 1)
    return int(at)


@nb.njit(nogil=True, cache=True)
def _find(s: State, key: np.uint64) -> int:
    """Newest entry of a key; -1 where there is none."""
    return int(s.heads[_slot(s.keys, s.heads, key)] - 1)


@nb.njit(nogil=True, cache=True)
def _add(s: State, key: np.uint64, number: int, jaccard: float) -> None:
    at, entry = _slot(s.keys, s.heads, key), s.counts[ENTRIES]
    s.counts[ENTRIES] += 1
    s.kept[entry], s.next[entry], s.slot[entry], s.jaccard[entry] = number, s.heads[at], at, jaccard
    s.keys[at], s.heads[at] = key, entry + 1


@nb.njit(nogil=True, cache=True)
def rehash(s: State, keys: Hashes, heads: Longs) -> None:
    """Move the open component's table into a larger, empty one."""
    for old in range(len(s.keys)):
        if s.heads[old]:
            at = _slot(keys, heads, s.keys[old])
            keys[at], heads[at] = s.keys[old], s.heads[old]
            entry = s.heads[old] - 1
            while entry >= 0:
                s.slot[entry] = at
                entry = s.next[entry] - 1


@nb.njit(nogil=True, cache=True)
def forget(s: State) -> None:
    """Let go of the kept documents of complete components; those of the open one are renumbered from 0."""
    base = s.counts[BASE]
    left = s.counts[KEPT] - base
    if not base:
        return
    shingles, words, ids = s.shingle_end[base - 1], s.word_end[base - 1], s.id_end[base - 1]
    for k in range(left):
        s.order[k], s.size[k], s.seen[k] = s.order[base + k], s.size[base + k], s.seen[base + k]
        s.shingle_end[k] = s.shingle_end[base + k] - shingles
        s.word_end[k] = s.word_end[base + k] - words
        s.id_end[k] = s.id_end[base + k] - ids
    for k in range(s.counts[SHINGLES] - shingles):
        s.shingles[k] = s.shingles[shingles + k]
    for k in range(s.counts[WORDS] - words):
        s.words[k] = s.words[words + k]
    for k in range(s.counts[IDS] - ids):
        s.ids[k] = s.ids[ids + k]
    for entry in range(s.counts[ENTRIES]):
        s.kept[entry] -= base
    s.counts[KEPT], s.counts[BASE] = left, 0
    s.counts[SHINGLES] -= shingles
    s.counts[WORDS] -= words
    s.counts[IDS] -= ids


@nb.njit(nogil=True, cache=True)
def take_bytes(ends: Longs, data: Bytes, rows: Longs, out: Bytes) -> None:
    """Write the pieces `rows` of data, cut at `ends`, one after the other."""
    at = 0
    for row in rows:
        for i in range(ends[row - 1] if row else 0, ends[row]):
            out[at] = data[i]
            at += 1
