"""Phrases of a list found in UTF-8 text in any case, at the edges of words where their script has words with spaces.

A trie over bytes: each character's edge leads to the same node from all its forms of upper and lower case, so the text
is read as it is. Two bytes tell for nearly every position that no phrase begins there.
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numba as nb
import numpy as np
import numpy.typing as npt

from curate.kernels.lanes import looped
from curate.kernels.strings import frozen
from curate.kernels.unicode import Index, lowered, stored
from curate.kernels.words import decode

Bytes = npt.NDArray[np.uint8]
Longs = npt.NDArray[np.int64]
Ints = npt.NDArray[np.int32]

BOUND, FREE = 1, 2  # a phrase that stands between edges of words, or anywhere

# Scripts that write no space between words: Thai, Lao, Tibetan, Burmese, Khmer, Tai, Kana, ideographs. By ranges, since
# `unicodedata` knows no scripts, and their vowel signs are of them too.
_UNSPACED = (
    (0x0E00, 0x0FFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x1950, 0x19FF), (0x1A20, 0x1AAF), (0x3005, 0x3007),
    (0x3021, 0x3029), (0x3041, 0x30FF), (0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xA9E0, 0xA9FF),
    (0xAA60, 0xAADF), (0xF900, 0xFAFF), (0xFF66, 0xFF9F), (0x1AFF0, 0x1B16F), (0x20000, 0x3FFFF),
)  # fmt: skip
_STEP = np.uint64(0x9E3779B97F4A7C15)


class Trie(NamedTuple):
    """Edges in a hash table (`keys`: node << 8 | byte, -1 where free), what ends in a node, how phrases may begin."""

    keys: Longs
    nodes: Ints
    ends: Ints  # (nodes,), the phrase that ends there, -1 for none
    kinds: Bytes  # (phrases,), BOUND or FREE
    pairs: Bytes  # (65536,), kinds of the phrases that may begin with these two bytes


def is_unspaced(character: str) -> bool:
    """Whether its script writes no space between words."""
    code = ord(character)
    return code >= 0xE00 and any(low <= code <= high for low, high in _UNSPACED)


def joins(character: str) -> int:
    """Whether a word goes on with the character: letters, digits, _ and combining marks of scripts with spaces."""
    import unicodedata

    wordlike = character.isalnum() or character == "_" or unicodedata.category(character)[0] == "M"
    return int(wordlike and not is_unspaced(character))


@cache
def joining() -> tuple[Index, npt.NDArray[np.uint8]]:
    """Table of `joins`, made on first use."""
    return stored("joins", joins, np.uint8)  # type: ignore[return-value]


def fold(character: str) -> str:
    """The form that stands for both cases; a final sigma is a sigma."""
    return "σ" if character == "ς" else chr(lowered(character))


@cache
def _forms() -> dict[str, list[bytes]]:
    forms: dict[str, list[bytes]] = {}
    for code in range(0x20000):
        if 0xD800 <= code < 0xE000:
            continue
        folded = fold(chr(code))
        if folded != chr(code):
            forms.setdefault(folded, [folded.encode()]).append(chr(code).encode())
    return forms


def build(phrases: Sequence[str], *, anywhere: bool = False) -> Trie:
    """The trie of phrases; a phrase with a character of a script without spaces is found anywhere, as all are on demand."""
    edges: dict[int, int] = {}
    ends, pairs = [-1], np.zeros(1 << 16, np.uint8)
    kinds = np.full(len(phrases), FREE if anywhere else BOUND, np.uint8)
    for number, phrase in enumerate(phrases):
        if any(map(is_unspaced, phrase)):
            kinds[number] = FREE
        forms = [_forms().get(fold(c), [fold(c).encode()]) for c in phrase]
        _mark_pairs(pairs, forms, int(kinds[number]))
        node = 0
        for variants in forms:
            node = _add(edges, ends, node, variants)
        if ends[node] < 0:
            ends[node] = number
    keys = np.full(max(2, 1 << (2 * len(edges)).bit_length()), -1, np.int64)
    nodes = np.zeros(len(keys), np.int32)
    _place(np.array(list(edges), np.int64), np.array(list(edges.values()), np.int32), keys, nodes)
    return Trie(*(frozen(part) for part in (keys, nodes, np.array(ends, np.int32), kinds, pairs)))


def _add(edges: dict[int, int], ends: list[int], start: int, variants: list[bytes]) -> int:
    """Lead every form of a character from `start` to one node."""
    target = -1
    for form in variants:
        node = start
        for byte in form[:-1]:
            node = edges.setdefault(node << 8 | byte, len(ends))
            if node == len(ends):
                ends.append(-1)
        if target < 0:
            target = edges.get(node << 8 | form[-1], len(ends))
            if target == len(ends):
                ends.append(-1)
        edges[node << 8 | form[-1]] = target
    return target


def _mark_pairs(pairs: Bytes, forms: list[list[bytes]], kind: int) -> None:
    for form in forms[0] if forms else []:
        if len(form) > 1:
            pairs[form[0] | form[1] << 8] |= kind
        elif len(forms) == 1:
            pairs[form[0] :: 256] |= kind
        else:
            for following in forms[1]:
                pairs[form[0] | following[0] << 8] |= kind


@nb.njit(nogil=True, cache=True)
def _place(edges: Longs, targets: Ints, keys: Longs, nodes: Ints) -> None:
    for e in range(len(edges)):
        s = _slot(edges[e], len(keys))
        while keys[s] >= 0:
            s = (s + 1) & (len(keys) - 1)
        keys[s], nodes[s] = edges[e], targets[e]


@looped
def _slot(key: int, slots: int) -> int:
    return int((np.uint64(key) * _STEP) >> np.uint64(20)) & (slots - 1)


@looped
def _step(node: int, byte: int, keys: Longs, nodes: Ints) -> int:
    """The node behind the edge, -1 where there is none."""
    key = int(node) << 8 | int(byte)
    s = _slot(key, len(keys))
    while keys[s] != key:
        if keys[s] < 0:
            return -1
        s = (s + 1) & (len(keys) - 1)
    return int(nodes[s])


@looped
def joins_at(text: Bytes, i: int, end: int, index: Bytes, values: Bytes) -> bool:
    """Whether the character at i goes on a word; not at the end."""
    if i >= end:
        return False
    if text[i] < 0x80:
        return bool(values[text[i]])
    code, _ = decode(text, i, end)
    return bool(values[int(index[code >> 8]) * 256 + (code & 255)])


@looped
def joins_before(text: Bytes, begin: int, i: int, end: int, index: Bytes, values: Bytes) -> bool:
    """Whether the character before i goes on a word; not at the beginning."""
    if i <= begin:
        return False
    i -= 1
    while i > begin and text[i] & 0xC0 == 0x80:
        i -= 1
    return bool(joins_at(text, i, end, index, values))


@looped
def longest_at(
    text: Bytes, begin: int, i: int, end: int,
    keys: Longs, nodes: Ints, ends: Ints, kinds: Bytes, pairs: Bytes, index: Bytes, values: Bytes,
) -> tuple[int, int]:  # fmt: skip
    """(the longest phrase that begins at i, where it ends), or (-1, i)."""
    kind = pairs[np.int64(text[i]) | (np.int64(text[i + 1]) << 8 if i + 1 < end else 0)]
    if kind == 0:
        return -1, i
    at_edge = kind & BOUND and not joins_before(text, begin, i, end, index, values)
    if kind == BOUND and not at_edge:
        return -1, i
    found, found_end, node, j = -1, i, 0, i
    while j < end:
        node = _step(node, text[j], keys, nodes)
        if node < 0:
            break
        j += 1
        phrase = int(ends[node])
        if phrase >= 0 and (kinds[phrase] == FREE or (at_edge and not joins_at(text, j, end, index, values))):
            found, found_end = phrase, j
    return found, found_end


def find(
    data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], trie: Trie
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(the first phrase of each of the rows, -1 for none; how many there are), int64 (rows,).

    Read from the left, the longest phrase of a place counts, and the next is sought behind it.
    """
    first, num = np.full(len(rows), -1, np.int64), np.zeros(len(rows), np.int64)
    _find(frozen(data), frozen(offsets), frozen(rows), *trie, *joining(), first, num)
    return first, num


@nb.njit(nogil=True, cache=True)
def _find(
    data: Bytes, offsets: Longs, rows: Longs,
    keys: Longs, nodes: Ints, ends: Ints, kinds: Bytes, pairs: Bytes, index: Bytes, values: Bytes,
    first: Longs, num: Longs,
) -> None:  # fmt: skip
    for r in range(len(rows)):
        begin, end = offsets[rows[r]], offsets[rows[r] + 1]
        i = begin
        while i < end:
            # what `longest_at` asks first, asked here: a call for every byte would be most of the time
            kind = pairs[np.int64(data[i]) | (np.int64(data[i + 1]) << 8 if i + 1 < end else 0)]
            before = data[i - 1] if i > begin else np.uint8(0)
            if kind == 0 or (kind == BOUND and before < 0x80 and values[before]):
                i += 1
                continue
            phrase, behind = longest_at(data, begin, i, end, keys, nodes, ends, kinds, pairs, index, values)
            if phrase < 0:
                i += 1
                continue
            if num[r] == 0:
                first[r] = phrase
            num[r] += 1
            i = behind
