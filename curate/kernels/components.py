"""Union-find over arrays that may lie on disk: which documents hang together by links."""

import numba as nb
import numpy as np
import numpy.typing as npt

Longs = npt.NDArray[np.int64]  # or of 32 bits


@nb.njit(nogil=True, cache=True)
def unite(parent: Longs, a: Longs, b: Longs) -> None:
    """Link a[i] with b[i]. `parent` (n,) holds each one's parent and 1, 0 where there is no link yet.

    The root of a component is its smallest member, whatever the order of the links.
    """
    for i in range(len(a)):
        x, y = _root(parent, a[i]), _root(parent, b[i])
        if x < y:
            parent[y] = x + 1
        else:
            parent[x] = y + 1


@nb.njit(nogil=True, cache=True)
def _root(parent: Longs, x: int) -> int:
    if parent[x] == 0:
        parent[x] = x + 1
    while parent[x] != x + 1:
        parent[x] = parent[parent[x] - 1]
        x = parent[x] - 1
    return x


@nb.njit(nogil=True, cache=True)
def roots(parent: Longs, begin: int, end: int, members: Longs, found: Longs) -> int:
    """Linked members of begin:end and their roots; returns how many.

    To be called from 0 on, without gaps, once all is linked: `parent` of a root becomes minus its members so far.
    """
    n = 0
    for x in range(begin, end):
        if parent[x] == 0:
            continue
        root = x
        if parent[x] == x + 1:
            parent[x] = -1
        else:
            while parent[root] > 0:  # a root is smaller than its members, so it has been here
                root = parent[root] - 1
            parent[x] = root + 1
            parent[root] -= 1
        members[n], found[n] = x, root
        n += 1
    return n
