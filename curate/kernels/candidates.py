"""Similarities of documents with candidates whose sets lie elsewhere, as in an index mapped from disk."""

import numba as nb
import numpy as np
import numpy.typing as npt

from curate.kernels.clusters import Longs, Reals, jaccard_above
from curate.kernels.strings import frozen

Halves = npt.NDArray[np.uint32]


def similarities(
    shingles: Halves, offsets: Longs, documents: Longs, sets: Halves, ends: Longs, positions: Longs, threshold: float
) -> npt.NDArray[np.float64]:  # fmt: skip
    """Jaccard, (pairs,), of document documents[i] with set positions[i]; -1 below the threshold and for empty sets.

    Sets are sorted and distinct: document d's is shingles[offsets[d] : offsets[d + 1]], set p's ends at ends[p] and
    begins where the one before it ends.
    """
    out = np.empty(len(documents))
    _similarities(
        frozen(shingles), frozen(offsets), frozen(documents), frozen(sets), frozen(ends), frozen(positions),
        threshold, out,
    )  # fmt: skip
    return out


@nb.njit(nogil=True, cache=True)
def _similarities(
    shingles: Halves, offsets: Longs, documents: Longs, sets: Halves, ends: Longs, positions: Longs,
    threshold: float, out: Reals,
) -> None:  # fmt: skip
    for i in range(len(out)):
        d, p = documents[i], positions[i]
        begin = ends[p - 1] if p else 0
        mine, theirs = shingles[offsets[d] : offsets[d + 1]], sets[begin : ends[p]]
        out[i] = jaccard_above(mine, theirs, threshold) if len(mine) and len(theirs) else -1.0
