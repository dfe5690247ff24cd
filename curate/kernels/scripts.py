"""How a text tells its words apart, by the script of most of its letters."""

from functools import cache

import numba as nb
import numpy as np
import numpy.typing as npt

from curate.kernels.unicode import ALONE, UPPER, Index, kind_of, stored
from curate.kernels.words import decode, load64

Bytes = npt.NDArray[np.uint8]
Longs = npt.NDArray[np.int64]

HIGH_BITS = np.uint64(0x8080808080808080)

# Scripts whose words no dictionary of ours knows, written without spaces: Tibetan, Yi, Tai Le, New Tai Lue, Tai Tham,
# Balinese, Javanese, Tangut and Khitan, Nushu. (Tai Viet is in _ALONE, but its texts of today have spaces.)
_UNSPLIT = (
    (0x0F00, 0x0FFF), (0x1950, 0x19DF), (0x1A20, 0x1AAF), (0x1B00, 0x1B7F), (0xA000, 0xA4CF), (0xA980, 0xA9DF),
    (0x17000, 0x18DFF), (0x1B170, 0x1B2FF),
)  # fmt: skip
_TAI_VIET = (0xAA80, 0xAADF)

# What a character says of its text: nothing, or that of a letter by whose script words are found.
NO_LETTER, SPACED, DICTIONARY, UNSPLIT = 0, 1, 2, 3


def writing_of(character: str) -> int:
    """How the words of a letter's script are told apart; NO_LETTER for other characters."""
    kind, code = kind_of(character), ord(character)
    if not ALONE <= kind <= UPPER:
        return NO_LETTER
    if any(low <= code <= high for low, high in _UNSPLIT):
        return UNSPLIT
    return DICTIONARY if kind == ALONE and not _TAI_VIET[0] <= code <= _TAI_VIET[1] else SPACED


@cache
def writings() -> tuple[Index, npt.NDArray[np.uint8]]:
    """Table of writings, made on first use."""
    return stored("writings", writing_of, np.uint8)  # type: ignore[return-value]


def writing(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """SPACED, DICTIONARY or UNSPLIT for each row of a string column, uint8 (n,).

    DICTIONARY: more than half of the letters are of scripts without spaces (Chinese, Japanese, Thai, Lao, Burmese,
    Khmer), and not more than half of scripts that no dictionary knows (Tibetan, Javanese ...), which is UNSPLIT.
    """
    out = np.full(len(offsets) - 1, SPACED, np.uint8)
    _writing(data, offsets, *writings(), out)
    return out


@nb.njit(nogil=True, cache=True)
def _writing(data: Bytes, offsets: Longs, index: Bytes, values: Bytes, out: Bytes) -> None:
    for row in range(len(out)):
        text = data[offsets[row] : offsets[row + 1]]
        begins, ascii_letters = _wide_letters(text), 0  # most rows have none: no closer look
        if begins == 0:
            continue
        for i in range(len(text)):
            ascii_letters += ((text[i] & 0xDF) >= 65) & ((text[i] & 0xDF) <= 90)
        if begins > ascii_letters:
            out[row] = _majority(text, index, values)


@nb.njit(nogil=True, cache=True)
def _wide_letters(text: Bytes) -> int:
    """How many bytes may begin a letter from U+0800; E2 begins punctuation and symbols alone."""
    num, i = 0, 0
    while i < len(text):
        while i + 8 <= len(text) and not load64(text, i) & HIGH_BITS:
            i += 8
        for j in range(i, min(i + 8, len(text))):
            num += (text[j] >= 0xE0) & (text[j] != 0xE2)
        i += 8
    return num


@nb.njit(nogil=True, cache=True)
def _majority(text: Bytes, index: Bytes, values: Bytes) -> int:
    letters, dictionary, unsplit, i = 0, 0, 0, 0
    while i < len(text):
        code, i = decode(text, i, len(text))
        found = values[np.int64(index[code >> 8]) * 256 + (code & 255)]
        letters += found != NO_LETTER
        dictionary += found == DICTIONARY
        unsplit += found == UNSPLIT
    if 2 * unsplit > letters:
        return UNSPLIT
    return DICTIONARY if 2 * (dictionary + unsplit) > letters else SPACED
