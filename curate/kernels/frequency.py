"""How often each word stands in a column."""

import numba as nb
import numpy as np
import numpy.typing as npt

from curate.kernels.words import Given, all_words, hash_bytes, none_given

Bytes = npt.NDArray[np.uint8]
Longs = npt.NDArray[np.int64]


def frequent_words(
    data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64], given: Given | None, most: int
) -> tuple[dict[str, int], int]:
    """The `most` most frequent words that hold a letter, with their counts, and the number of all such words."""
    words = given or none_given(len(offsets) - 1)
    size = int(offsets[-1] - offsets[0]) + 1
    begins, ends = np.empty(size, np.int64), np.empty(size, np.int64)
    n = all_words(data, offsets, words, begins, ends, np.empty(len(offsets) - 1, np.int64))
    hashes = np.empty(n, np.uint64)
    _hash_all(data, begins, ends, hashes)
    _, first, counts = np.unique(hashes, return_index=True, return_counts=True)
    found: dict[str, int] = {}
    letters = 0
    for i in np.argsort(-counts, kind="stable"):
        word = data[begins[first[i]] : ends[first[i]]].tobytes().decode("utf-8", "replace")
        if any(c.isalpha() for c in word):
            letters += int(counts[i])
            if len(found) < most:
                found[word] = int(counts[i])
    return found, letters


@nb.njit(nogil=True, cache=True)
def _hash_all(data: Bytes, begins: Longs, ends: Longs, hashes: npt.NDArray[np.uint64]) -> None:
    for i in range(len(hashes)):
        hashes[i] = hash_bytes(data, begins[i], ends[i])
