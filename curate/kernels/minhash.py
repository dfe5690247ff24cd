"""MinHash signatures of documents' shingles, their bands, and how many bands of how many rows to take.

A signature holds, for each of K permutations of the 32-bit numbers, the smallest that a document's shingles map to; two
documents agree in each place with a probability near the Jaccard similarity of their sets (Broder 1997).
Schemes:
- `fast`: the shingle's hash, MurmurHash3's finaliser, then a * x + b modulo 2^32 with a odd (multiply-shift);
- `affine32`: the same over the SHA-1 of the shingle, bit for bit the `datasketch.MinHash` of 2.0 and later;
- `datasketch`: SHA-1, then (a * x + b mod 2^64) mod 2^61 - 1, low 32 bits: `datasketch.MinHash` before 2.0, and its
  `scheme="legacy"` since.
The parameters of `fast` are those of `affine32`, so a `datasketch.MinHash` with our hash of shingles has our signatures.
"""

from typing import NamedTuple

import numba as nb
import numpy as np
import numpy.typing as npt

from curate.errors import ConfigError
from curate.kernels.jaccard import distinct
from curate.kernels.lanes import looped
from curate.kernels.shingles import C1, Folding, Normal, Scratch, digest, folding, mixed, scratch_for, shingle
from curate.kernels.strings import frozen
from curate.kernels.words import Bytes, Longs

Hashes = npt.NDArray[np.uint64]
Signatures = npt.NDArray[np.uint32]

SCHEMES = ("fast", "affine32", "datasketch")
PRIME = np.uint64((1 << 61) - 1)
EMPTY = np.uint32(0xFFFFFFFF)  # each place of a signature of nothing

u32, u64 = np.uint32, np.uint64


class Permutations(NamedTuple):
    """x -> a * x + b of each place of a signature, (K,); uint32, for `datasketch` uint64."""

    scheme: str
    a: npt.NDArray[np.unsignedinteger]
    b: npt.NDArray[np.unsignedinteger]

    @property
    def sha1(self) -> bool:
        """Whether shingles are hashed by SHA-1."""
        return self.scheme != "fast"


class Signed(NamedTuple):
    """Signatures of n documents, and what `shingles` says of them besides."""

    signatures: Signatures  # (n, K), EMPTY for documents without shingles
    words: Longs  # (n,)
    digests: Hashes  # (n,)


def permutations(scheme: str, num_perm: int, seed: int) -> Permutations:
    """The permutations of a scheme. NumPy's RandomState is frozen, so these are the same for ever."""
    if scheme not in SCHEMES:
        raise ConfigError(f"no MinHash scheme is called `{scheme}`", hint=f"there are {', '.join(SCHEMES)}")
    draw = np.random.RandomState(seed)
    if scheme == "datasketch":
        drawn = [
            (draw.randint(1, PRIME, dtype=np.uint64), draw.randint(0, PRIME, dtype=np.uint64))
            for _ in range(num_perm)
        ]
        a, b = np.array(drawn, np.uint64).T
        return Permutations(scheme, np.ascontiguousarray(a), np.ascontiguousarray(b))
    odd = draw.randint(0, 1 << 31, num_perm, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    return Permutations(scheme, odd, draw.randint(0, 1 << 32, num_perm, dtype=np.uint32))


def signatures(
    data: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    permutations: Permutations,
    ngram: int = 5,
    normal: Normal = Normal(),
) -> Signed:
    """Signatures of a string column in one pass: those that `sign` makes of its `shingles`."""
    n = len(offsets) - 1
    found, words, digests = (
        np.empty((n, len(permutations.a)), np.uint32),
        np.empty(n, np.int64),
        np.empty(n, np.uint64),
    )
    _signatures(
        frozen(data), frozen(offsets), ngram, permutations.sha1, folding(normal), scratch_for(offsets),
        _keys(offsets), frozen(permutations.a), frozen(permutations.b), found, words, digests,
    )  # fmt: skip
    return Signed(found, words, digests)


class Sets(NamedTuple):
    """The shingles of n documents by half a hash, sorted and distinct: those of document i are hashes[offsets[i] : offsets[i + 1]]."""

    hashes: Signatures
    offsets: Longs  # (n + 1,)


def signatures_and_sets(
    data: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    permutations: Permutations,
    ngram: int = 5,
    normal: Normal = Normal(),
) -> tuple[Signed, Sets]:
    """`signatures`, and in the same pass what `shingles` gives, of each hash the low half, which is what `sign` takes."""
    n = len(offsets) - 1
    found, words = np.empty((n, len(permutations.a)), np.uint32), np.empty(n, np.int64)
    digests, ends = np.empty(n, np.uint64), np.zeros(n + 1, np.int64)
    sets = np.empty(int(offsets[-1] - offsets[0]), np.uint32)
    _signatures_and_sets(
        frozen(data), frozen(offsets), ngram, permutations.sha1, folding(normal), scratch_for(offsets),
        _keys(offsets), frozen(permutations.a), frozen(permutations.b), found, words, digests,
        sets, ends,
    )  # fmt: skip
    return Signed(found, words, digests), Sets(sets[: ends[-1]], ends)


def sign(
    hashes: npt.NDArray[np.uint64], offsets: npt.NDArray[np.int64], permutations: Permutations
) -> npt.NDArray[np.uint32]:
    """Signatures, (n, K), of sets of shingles that were hashed as the scheme asks (`permutations.sha1`)."""
    out = np.empty((len(offsets) - 1, len(permutations.a)), np.uint32)
    _sign(
        frozen(hashes), frozen(offsets), _keys(offsets), frozen(permutations.a), frozen(permutations.b), out
    )
    return out


def band_keys(signatures: npt.NDArray[np.uint32], bands: int, rows: int) -> npt.NDArray[np.uint64]:
    """One number, (n, bands), for each run of `rows` places of a signature and the band's number."""
    if bands < 1 or rows < 1 or bands * rows > signatures.shape[1]:
        raise ConfigError(
            f"{bands} bands of {rows} rows do not fit into {signatures.shape[1]} permutations",
            hint="bands x rows is at most `num_perm`",
        )
    out = np.empty((len(signatures), bands), np.uint64)
    _band_keys(frozen(signatures), rows, out)
    return out


def predicted_recall(similarity: float, bands: int, rows: int) -> float:
    """Odds that two documents of a Jaccard similarity share a band: 1 - (1 - s^r)^b."""
    return float(1.0 - (1.0 - similarity**rows) ** bands)


def plan(threshold: float, recall: float, num_perm: int) -> tuple[int, int]:
    """(bands, rows): most rows, then fewest bands, that find a pair at the threshold with at least this probability."""
    for rows in range(num_perm, 0, -1):
        for bands in range(1, num_perm // rows + 1):
            if predicted_recall(threshold, bands, rows) >= recall:
                return bands, rows
    best = predicted_recall(threshold, num_perm, 1)
    raise ConfigError(
        f"{num_perm} permutations find at most {best:.4f} of the pairs at a Jaccard of {threshold}, not {recall}",
        hint="raise `num_perm`, or lower `recall`",
    )


def datasketch_plan(threshold: float, num_perm: int) -> tuple[int, int]:
    """(bands, rows) that `datasketch.MinHashLSH` takes by itself: false positives and negatives weigh the same."""
    from datasketch.lsh import _optimal_param

    bands, rows = _optimal_param(threshold, num_perm, 0.5, 0.5)
    return int(bands), int(rows)


def _keys(offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
    return np.empty(int(np.max(np.diff(offsets), initial=0)) + 64, np.uint32)


@nb.njit(nogil=True, cache=True)
def _signatures(
    data: Bytes, offsets: Longs, ngram: int, sha1: bool, folding: Folding, scratch: Scratch,
    keys: Signatures, a: Hashes, b: Hashes, out: Signatures, words: Longs, digests: Hashes,
) -> None:  # fmt: skip
    for row in range(len(out)):
        n, m = shingle(data, offsets, row, ngram, sha1, folding, scratch)
        words[row], digests[row] = n, digest(scratch.words, n)
        sign_one(scratch.shingles, 0, m, keys, a, b, out[row])


@nb.njit(nogil=True, cache=True)
def _signatures_and_sets(
    data: Bytes, offsets: Longs, ngram: int, sha1: bool, folding: Folding, scratch: Scratch,
    keys: Signatures, a: Hashes, b: Hashes, out: Signatures, words: Longs, digests: Hashes,
    sets: Signatures, ends: Longs,
) -> None:  # fmt: skip
    for row in range(len(out)):
        n, m = shingle(data, offsets, row, ngram, sha1, folding, scratch)
        words[row], digests[row] = n, digest(scratch.words, n)
        sign_one(scratch.shingles, 0, m, keys, a, b, out[row])
        for i in range(m):
            keys[i] = u32(scratch.shingles[i])
        ends[row + 1] = distinct(keys, m, scratch.counts, sets, ends[row])


@nb.njit(nogil=True, cache=True)
def _sign(hashes: Hashes, offsets: Longs, keys: Signatures, a: Hashes, b: Hashes, out: Signatures) -> None:
    for row in range(len(out)):
        sign_one(hashes, offsets[row], offsets[row + 1], keys, a, b, out[row])


@looped
def sign_one(
    hashes: Hashes, begin: int, end: int, keys: Signatures, a: Hashes, b: Hashes, out: Signatures
) -> None:
    """Signature of hashes[begin:end]; `keys` is room for as many."""
    n = end - begin
    for k in range(len(out)):
        out[k] = EMPTY
    if a.itemsize == 8:
        for i in range(n):
            x = hashes[begin + i] & u64(0xFFFFFFFF)
            for k in range(len(out)):
                out[k] = min(out[k], u32(affine61(x, a[k], b[k])))
        return
    for i in range(n):
        keys[i] = finalised(u32(hashes[begin + i]))
    k = 0
    while k + 4 <= len(
        out
    ):  # four at once: a key is read once for all of them, and no product waits for another
        a0, a1, a2, a3 = u32(a[k]), u32(a[k + 1]), u32(a[k + 2]), u32(a[k + 3])
        b0, b1, b2, b3 = u32(b[k]), u32(b[k + 1]), u32(b[k + 2]), u32(b[k + 3])
        least0 = least1 = least2 = least3 = EMPTY
        for i in range(n):
            key = keys[i]
            least0, least1 = min(least0, u32(a0 * key + b0)), min(least1, u32(a1 * key + b1))
            least2, least3 = min(least2, u32(a2 * key + b2)), min(least3, u32(a3 * key + b3))
        out[k], out[k + 1], out[k + 2], out[k + 3] = least0, least1, least2, least3
        k += 4
    while k < len(out):
        scale, shift, least = u32(a[k]), u32(b[k]), EMPTY
        for i in range(n):
            least = min(least, u32(scale * keys[i] + shift))
        out[k] = least
        k += 1


@looped
def finalised(h: np.uint32) -> np.uint32:
    """MurmurHash3's finaliser of 32 bits."""
    h = u32(u32(h ^ h >> u32(16)) * u32(0x85EBCA6B))
    h = u32(u32(h ^ h >> u32(13)) * u32(0xC2B2AE35))
    return u32(h ^ h >> u32(16))


@looped
def affine61(x: np.uint64, a: np.uint64, b: np.uint64) -> np.uint64:
    """(a * x + b mod 2^64) mod 2^61 - 1."""
    v = a * x + b
    v = (v & PRIME) + (v >> u64(61))
    return v - PRIME if v >= PRIME else v


@nb.njit(nogil=True, cache=True)
def _band_keys(signatures: Signatures, rows: int, out: Hashes) -> None:
    for i in range(len(out)):
        for band in range(out.shape[1]):
            h = mixed(u64(band + 1) * C1)
            for k in range(band * rows, (band + 1) * rows):
                h = mixed(h ^ u64(signatures[i, k]))
            out[i, band] = h
