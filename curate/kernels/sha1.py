"""SHA-1 (FIPS 180-4) of slices of bytes: what datasketch hashes its shingles with."""

import numpy as np
import numpy.typing as npt

from curate.kernels.lanes import inlined, looped

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint32]

u32, u64 = np.uint32, np.uint64


@inlined
def _rotated(x: np.uint32, by: int) -> np.uint32:
    return u32(u32(x << u32(by)) | u32(x >> u32(32 - by)))


@looped
def sha1_low(data: Bytes, begin: int, end: int, w: Words, state: Words) -> np.uint32:
    """First four bytes, little-endian, of the SHA-1 of data[begin:end]; the digest stays in state, (5,). w is room, (80,)."""
    state[0], state[1], state[2] = u32(0x67452301), u32(0xEFCDAB89), u32(0x98BADCFE)
    state[3], state[4] = u32(0x10325476), u32(0xC3D2E1F0)
    size = end - begin
    for block in range((size + 8) // 64 + 1):
        for t in range(16):
            w[t] = u32(0)
            for byte in range(4):
                i = 64 * block + 4 * t + byte
                c = u32(data[begin + i]) if i < size else u32(0x80 if i == size else 0)
                w[t] = u32(w[t] << u32(8)) | c
        if block == (size + 8) // 64:
            w[14], w[15] = u32(u64(size) >> u64(29)), u32(u64(size) << u64(3))
        _block(w, state)
    first = state[0]
    return u32(
        first >> u32(24) | first >> u32(8) & u32(0xFF00) | first << u32(8) & u32(0xFF0000) | first << u32(24)
    )


@looped
def _block(w: Words, state: Words) -> None:
    for t in range(16, 80):
        w[t] = _rotated(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1)
    a, b, c, d, e = state[0], state[1], state[2], state[3], state[4]
    for t in range(80):
        if t < 20:
            f, k = b & c | ~b & d, u32(0x5A827999)
        elif t < 40:
            f, k = b ^ c ^ d, u32(0x6ED9EBA1)
        elif t < 60:
            f, k = b & c | b & d | c & d, u32(0x8F1BBCDC)
        else:
            f, k = b ^ c ^ d, u32(0xCA62C1D6)
        total = u32(_rotated(a, 5) + f + e + k + w[t])
        a, b, c, d, e = total, a, _rotated(b, 30), c, d
    state[0] += a
    state[1] += b
    state[2] += c
    state[3] += d
    state[4] += e
