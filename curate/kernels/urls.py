"""What a list of domains, URLs, words or pieces of words says of a URL."""

import numba as nb
import numpy as np
import numpy.typing as npt

from curate.kernels.lanes import looped
from curate.kernels.phrases import Trie, joining, longest_at
from curate.kernels.strings import Strings, find, frozen

Bytes = npt.NDArray[np.uint8]
Longs = npt.NDArray[np.int64]
Ints = npt.NDArray[np.int32]

PASSES, DOMAIN, URL, WORD, SOFT_WORDS, SUBSTRING = range(6)
_COLON, _SLASH, _DOT, _AT, _QUERY, _HASH = (ord(c) for c in ":/.@?#")


def judge(
    column: tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]],
    lower: tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]],
    domains: Strings,
    urls: Strings,
    words: Strings,
    soft_words: Strings,
    substrings: Trie,
    min_soft_words: int,
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(verdict, entry of its list, soft words) of each URL, given as it is and in lower case: int8, int64, int64 (n,).

    The verdict is that of the first list that has it, in the order of the arguments. For SOFT_WORDS the entry is the
    first of them.
    """
    n = len(column[1]) - 1
    verdict, entry, num_soft = np.zeros(n, np.int8), np.full(n, -1, np.int64), np.zeros(n, np.int64)
    _judge(
        frozen(column[0]), frozen(column[1]), frozen(lower[0]), frozen(lower[1]), domains, urls, words, soft_words, substrings, *joining(),
        min_soft_words, verdict, entry, num_soft,
    )  # fmt: skip
    return verdict, entry, num_soft


def url_keys(
    data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """What is compared of URLs, as a string column: no scheme, `www.`, fragment or last slash; host in lower case."""
    out, ends = np.zeros(len(data), np.uint8), np.zeros(len(offsets), np.int64)
    _url_keys(frozen(data), frozen(offsets), out, ends)
    return out[: ends[-1]], ends


@nb.njit(nogil=True, cache=True)
def _url_keys(data: Bytes, offsets: Longs, out: Bytes, ends: Longs) -> None:
    for i in range(len(offsets) - 1):
        ends[i + 1] = _url_key(data, offsets[i], offsets[i + 1], out, ends[i])


@looped
def _authority(url: Bytes, begin: int, end: int) -> int:
    """Where the host begins, a user's name before it left in: behind `//` or `scheme://`."""
    i = begin
    while i < end and url[i] not in (_COLON, _SLASH, _DOT, _QUERY, _HASH):
        i += 1
    if i < end and url[i] == _COLON:
        i += 1
    return i + 2 if i + 1 < end and url[i] == _SLASH and url[i + 1] == _SLASH else begin


@looped
def _host(url: Bytes, begin: int, end: int) -> tuple[int, int]:
    """The host without a user's name, port or last dot."""
    i = _authority(url, begin, end)
    stop = i
    while stop < end and url[stop] not in (_SLASH, _QUERY, _HASH):
        if url[stop] == _AT:
            i = stop + 1
        stop += 1
    port = i
    if i < stop and url[i] == 91:  # [::1]
        while port < stop and url[port] != 93:
            port += 1
    while port < stop and url[port] != _COLON:
        port += 1
    while port > i and url[port - 1] == _DOT:
        port -= 1
    return i, port


@looped
def _url_key(url: Bytes, begin: int, end: int, out: Bytes, n: int) -> int:
    """Append the key of one URL to `out`, n bytes long: its new length."""
    i, stop = _authority(url, begin, end), begin
    while stop < end and url[stop] != _HASH:
        stop += 1
    while stop > i and url[stop - 1] == _SLASH:
        stop -= 1
    w = i
    while w < stop and url[w] | 32 == 119:
        w += 1
    if w == i + 3 and w < stop and url[w] == _DOT:
        i += 4
    in_host = True
    while i < stop:
        c = url[i]
        in_host = in_host and c not in (_SLASH, _QUERY)
        out[n] = c + 32 if in_host and 65 <= c <= 90 else c
        n += 1
        i += 1
    return n


@looped
def _find_domain(url: Bytes, begin: int, end: int, data: Bytes, offsets: Longs, slots: Longs) -> int:
    """The first of the host and the domains above it that is in the set: a.b.com, then b.com, then com."""
    i, stop = _host(url, begin, end)
    while i < stop:
        found = find(url, i, stop, data, offsets, slots)
        if found >= 0:
            return int(found)
        while i < stop and url[i] != _DOT:
            i += 1
        i += 1
    return -1


@looped
def _is_wordlike(c: int) -> bool:
    return 97 <= c <= 122 or 48 <= c <= 57 or c >= 0x80


@looped
def _find_substring(
    url: Bytes, begin: int, end: int, scratch: Bytes, keys: Longs, nodes: Ints, ends: Ints, kinds: Bytes, pairs: Bytes,
    index: Bytes, values: Bytes,
) -> int:  # fmt: skip
    """The first entry inside the URL's letters and digits, written together; -1 where there is none."""
    n = 0
    for k in range(begin, end):
        if _is_wordlike(url[k]):
            scratch[n] = url[k]
            n += 1
    for k in range(n):
        found, _ = longest_at(scratch, 0, k, n, keys, nodes, ends, kinds, pairs, index, values)
        if found >= 0:
            return int(found)
    return -1


@looped
def _find_words(
    url: Bytes, begin: int, end: int, data: Bytes, offsets: Longs, slots: Longs,
    soft_data: Bytes, soft_offsets: Longs, soft_slots: Longs, seen: Longs, row: int,
) -> tuple[int, int, int]:  # fmt: skip
    """(the first word of the set, -1 where there is none; else the first soft word, -1; different soft words)."""
    first, num, i = -1, 0, begin
    while i < end:
        stop = i
        while stop < end and _is_wordlike(url[stop]):
            stop += 1
        if stop > i:
            word = find(url, i, stop, data, offsets, slots)
            if word >= 0:
                return word, first, num
            soft = find(url, i, stop, soft_data, soft_offsets, soft_slots)
            if soft >= 0 and seen[soft] != row:
                seen[soft] = row
                num += 1
                first = soft if first < 0 else first
        i = stop + 1
    return -1, first, num


@nb.njit(nogil=True, cache=True)
def _judge(
    data: Bytes, offsets: Longs, lower: Bytes, lower_offsets: Longs,
    domains: Strings, urls: Strings, words: Strings, soft: Strings, pieces: Trie, index: Bytes, values: Bytes,
    min_soft: int, verdict: npt.NDArray[np.int8], entry: Longs, num_soft: Longs,
) -> None:  # fmt: skip
    # taken apart here: an array out of a tuple counts a reference each time
    domain_data, domain_offsets, domain_slots = domains
    url_data, url_offsets, url_slots = urls
    word_data, word_offsets, word_slots = words
    soft_data, soft_offsets, soft_slots = soft
    keys, nodes, ends, kinds, pairs = pieces
    longest = 0
    for row in range(len(verdict)):
        longest = max(longest, offsets[row + 1] - offsets[row], lower_offsets[row + 1] - lower_offsets[row])
    scratch = np.zeros(longest, np.uint8)
    seen = np.full(len(soft_offsets), -1, np.int64)  # the row that last had the word
    for row in range(len(verdict)):
        begin, end = lower_offsets[row], lower_offsets[row + 1]
        found = _find_domain(lower, begin, end, domain_data, domain_offsets, domain_slots)
        if found >= 0:
            verdict[row], entry[row] = DOMAIN, found
            continue
        n = _url_key(data, offsets[row], offsets[row + 1], scratch, 0)
        found = find(scratch, 0, n, url_data, url_offsets, url_slots)
        if found >= 0:
            verdict[row], entry[row] = URL, found
            continue
        found, first_soft, num_soft[row] = _find_words(
            lower, begin, end, word_data, word_offsets, word_slots, soft_data, soft_offsets, soft_slots, seen, row
        )  # fmt: skip
        if found >= 0:
            verdict[row], entry[row] = WORD, found
            continue
        if num_soft[row] >= min_soft:
            verdict[row], entry[row] = SOFT_WORDS, first_soft
            continue
        found = _find_substring(lower, begin, end, scratch, keys, nodes, ends, kinds, pairs, index, values)
        if found >= 0:
            verdict[row], entry[row] = SUBSTRING, found
