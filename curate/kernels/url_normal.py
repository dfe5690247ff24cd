"""URLs in one form, so that spellings of one address are equal."""

from collections.abc import Sequence

import numba as nb
import numpy as np
import numpy.typing as npt

from curate.kernels.lanes import looped
from curate.kernels.lines import copy, phrase_at
from curate.kernels.strings import frozen
from curate.kernels.urls import _authority, _host

Bytes = npt.NDArray[np.uint8]
Longs = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_COLON, _SLASH, _DOT, _AT, _QUERY, _HASH, _PERCENT, _AMPERSAND, _EQUALS, _BANG = (
    ord(c) for c in ":/.@?#%&=!"
)
_HTTP, _HTTPS, _WWW = (np.frombuffer(name, np.uint8) for name in (b"http", b"https", b"www."))
_P80, _P443 = (np.frombuffer(name, np.uint8) for name in (b"80", b"443"))
_HEX = np.frombuffer(b"0123456789ABCDEF", np.uint8)
_ESCAPED = np.array([c <= 32 or c >= 127 or chr(c) in '"<>\\^`{|}' for c in range(256)])
_UNRESERVED = np.array([(chr(c).isalnum() and c < 128) or chr(c) in "-._~" for c in range(256)])


def normal_urls(
    data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64], parameters: Sequence[str], strip_www: bool
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """The URLs of a string column in their normal form, as a string column; '' where nothing is left.

    `parameters` are those of the query that go, in lower case; one that ends in * stands for all that begin so.
    """
    names = [name.removesuffix("*").encode() for name in parameters]
    name_offsets = np.cumsum([0, *map(len, names)], dtype=np.int64)
    prefix = np.array([name.endswith("*") for name in parameters], np.bool_)
    out = np.empty(3 * int(offsets[-1] - offsets[0]) + 8, np.uint8)
    ends = np.zeros(len(offsets), np.int64)
    _normal_urls(
        frozen(data), frozen(offsets), frozen(np.frombuffer(b"".join(names), np.uint8)), frozen(name_offsets),
        frozen(prefix), strip_www, out, ends,
    )  # fmt: skip
    return out[: ends[-1]], ends


@nb.njit(nogil=True, cache=True)
def _normal_urls(
    data: Bytes, offsets: Longs, names: Bytes, name_offsets: Longs, prefix: Flags, strip_www: bool, out: Bytes,
    ends: Longs,
) -> None:  # fmt: skip
    for r in range(len(ends) - 1):
        begin, end = offsets[r], offsets[r + 1]
        while begin < end and data[begin] <= 32:
            begin += 1
        while begin < end and data[end - 1] <= 32:
            end -= 1
        n, i = _normal_authority(data, begin, end, strip_www, out, ends[r])
        ends[r + 1] = _normal_rest(data, i, end, names, name_offsets, prefix, out, n)


@looped
def _is(url: Bytes, begin: int, end: int, name: Bytes) -> bool:
    return end - begin == len(name) and phrase_at(url, begin, end, name)


@looped
def _normal_authority(
    url: Bytes, begin: int, end: int, strip_www: bool, out: Bytes, n: int
) -> tuple[int, int]:
    """Append scheme, user, host and port to `out`, n bytes long: (its new length, where the path begins)."""
    i = _authority(url, begin, end)
    colon = max(begin, i - 3)
    http, https = _is(url, begin, colon, _HTTP), _is(url, begin, colon, _HTTPS)
    if colon > begin and not http and not https:
        n = _copy_lower(url, begin, i, out, n)
    stop = i
    while stop < end and url[stop] not in (_SLASH, _QUERY, _HASH):
        stop += 1
    host, host_end = _host(url, begin, end)
    n = copy(url, i, host, out, n)
    if strip_www and host_end - host > 4 and phrase_at(url, host, host_end, _WWW):
        for k in range(host + 4, host_end):
            if url[k] == _DOT:
                host += 4
                break
    n = _copy_lower(url, host, host_end, out, n)
    port = host_end
    while port < stop and url[port] == _DOT:
        port += 1
    first = port + 1  # behind the colon
    if (
        first < stop
        and not (http and _is(url, first, stop, _P80))
        and not (https and _is(url, first, stop, _P443))
    ):
        n = copy(url, port, stop, out, n)
    return n, stop


@looped
def _normal_rest(
    url: Bytes, i: int, end: int, names: Bytes, name_offsets: Longs, prefix: Flags, out: Bytes, n: int
) -> int:
    """Append path, query and what counts of the fragment, url[i:end], to `out`, n bytes long: its new length."""
    fragment = i
    while fragment < end and url[fragment] != _HASH:
        fragment += 1
    query = i
    while query < fragment and url[query] != _QUERY:
        query += 1
    path_end = query
    while path_end > i and url[path_end - 1] == _SLASH:
        path_end -= 1
    n = _copy_escaped(url, i, path_end, out, n)
    mark, at = _QUERY, query + 1
    while at < fragment:
        stop = at
        while stop < fragment and url[stop] != _AMPERSAND:
            stop += 1
        if stop > at and not _is_named(url, at, stop, names, name_offsets, prefix):
            out[n] = mark
            n = _copy_escaped(url, at, stop, out, n + 1)
            mark = _AMPERSAND
        at = stop + 1
    if fragment + 1 < end and url[fragment + 1] == _BANG:
        n = _copy_escaped(url, fragment, end, out, n)
    return n


@looped
def _is_named(url: Bytes, begin: int, end: int, names: Bytes, offsets: Longs, prefix: Flags) -> bool:
    """Whether a parameter is one of those that go."""
    stop = begin
    while stop < end and url[stop] != _EQUALS:
        stop += 1
    for k in range(len(prefix)):
        size = offsets[k + 1] - offsets[k]
        if stop - begin < size or (stop - begin > size and not prefix[k]):
            continue
        j = 0
        while j < size:
            c = url[begin + j]
            if (c + 32 if 65 <= c <= 90 else c) != names[offsets[k] + j]:
                break
            j += 1
        if j == size:
            return True
    return False


@looped
def _copy_lower(url: Bytes, begin: int, end: int, out: Bytes, n: int) -> int:
    for i in range(begin, end):
        out[n + i - begin] = url[i] + 32 if 65 <= url[i] <= 90 else url[i]
    return n + end - begin


@looped
def _digit(c: int) -> int:
    """Value of a hexadecimal digit; -1 where it is none."""
    if 48 <= c <= 57:
        return c - 48
    c |= 32
    return c - 87 if 97 <= c <= 102 else -1


@looped
def _copy_escaped(url: Bytes, i: int, end: int, out: Bytes, n: int) -> int:
    """Append url[i:end]: escapes only where they are needed, in capitals."""
    while i < end:
        c = int(url[i])
        escaped = c == _PERCENT and i + 2 < end and _digit(url[i + 1]) >= 0 and _digit(url[i + 2]) >= 0
        if escaped:
            c = _digit(url[i + 1]) << 4 | _digit(url[i + 2])
            i += 2
        i += 1
        if (escaped and not _UNRESERVED[c]) or (not escaped and _ESCAPED[c]):
            out[n], out[n + 1], out[n + 2] = _PERCENT, _HEX[c >> 4], _HEX[c & 15]
            n += 3
        else:
            out[n] = c
            n += 1
    return n
