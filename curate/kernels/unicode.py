"""What the text kernels know of each Unicode character, as two-stage tables made from Python's own `unicodedata`.

A table is (index, values): the entry of code point c is values[index[c >> 8] * 256 + (c & 255)]. Block 0 is Latin-1,
so values[c] is right for ASCII without the index. Numba freezes globals: kernels take the tables as arguments. The
Unicode version is Python's (`unicodedata.unidata_version`): characters newer than that are symbols.
"""

import unicodedata
from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt

Index = npt.NDArray[np.uint8]

# Kinds of characters, as `words` needs them; the order carries meaning: up to SPACE is white space (BREAK ends a line),
# LETTER to UPPER are letters, LETTER to STICKY hold a word together, DOT and above are cut off at its edges.
BREAK, SPACE, ALONE, LETTER, UPPER, DIGIT, DASH, SLASH, STICKY = 0, 1, 2, 3, 4, 5, 6, 7, 8
DOT, LONG_DASH, COLON, RELATION, COMMA, QUOTE, ICON, OTHER, MARK = 9, 10, 11, 12, 13, 14, 15, 16, 17

_BY_CHARACTER = {
    "-": DASH, "~": DASH, "/": SLASH, "@": STICKY, "\\": STICKY, "|": STICKY, "^": STICKY, "+": STICKY, ".": DOT,
    "–": LONG_DASH, "—": LONG_DASH, ":": COLON, "<": RELATION, ">": RELATION, "=": RELATION, ",": COMMA,
    "'": QUOTE, "’": QUOTE, "…": ICON,
}  # fmt: skip

# Letters written without spaces between words: each is a word, as in UAX #29 (ideographs, Hiragana, and the scripts of
# line-break class SA: Thai, Lao, Myanmar, Khmer, Tai). `unicodedata` knows no scripts, hence ranges.
_ALONE = (
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x1950, 0x19DF), (0x1A20, 0x1AAF), (0x3005, 0x3007),
    (0x3021, 0x3029), (0x3041, 0x309F), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xA9E0, 0xA9FF), (0xAA60, 0xAADF),
    (0xF900, 0xFAFF),
)  # fmt: skip

_LAST_BLOCK = 0x110000 >> 8
_UNIFORM = (  # blocks whose characters are all alike: asking one stands for 256 (a tenth of the time)
    *range(0x34, 0x4D), *range(0x4E, 0x9F), *range(0xAC, 0xD7), *range(0xD8, 0xF9), *range(0x174, 0x187),
    *range(0x200, 0xE00), *range(0xE02, _LAST_BLOCK),
)  # fmt: skip


def kind_of(character: str) -> int:
    """Kind of one character."""
    if character.isspace():
        return BREAK if character.splitlines() == [""] else SPACE
    if (kind := _BY_CHARACTER.get(character)) is not None:
        return kind
    code = ord(character)
    if 0x20000 <= code < 0x40000:  # planes of ideographs; some are newer than Python's tables
        return ALONE
    category = unicodedata.category(character)
    if category[0] == "M" or category == "Cf":
        return MARK
    if category[0] == "L":
        if code >= 0xE00 and any(low <= code <= high for low, high in _ALONE):
            return ALONE
        return UPPER if category == "Lu" else LETTER
    if category[0] == "N":
        return DIGIT
    return ICON if category == "So" else OTHER


def lowered(character: str) -> int:
    """Code point of the lower-case form: Unicode's one-to-one mapping, so U+0130 gives i without its dot."""
    lower = character.lower()
    return ord(lower[0])


def _table(entry: Callable[[str], int], dtype: npt.DTypeLike) -> tuple[Index, npt.NDArray[np.generic]]:
    index = np.zeros(_LAST_BLOCK, np.uint8)
    blocks: dict[bytes, int] = {}
    uniform = set(_UNIFORM)
    for block in range(_LAST_BLOCK):
        first = block << 8
        if block in uniform:
            values = np.full(256, entry(chr(first)), dtype)
        else:
            values = np.fromiter(map(entry, map(chr, range(first, first + 256))), dtype, 256)
        index[block] = blocks.setdefault(values.tobytes(), len(blocks))
    return index, np.frombuffer(b"".join(blocks), dtype)


@cache
def kinds() -> tuple[Index, npt.NDArray[np.uint8]]:
    """Table of kinds, made on first use."""
    return _table(kind_of, np.uint8)  # type: ignore[return-value]


@cache
def lower_deltas() -> tuple[Index, npt.NDArray[np.int32]]:
    """Table of what to add to a code point to lower its case, made on first use."""
    return _table(lambda character: lowered(character) - ord(character), np.int32)  # type: ignore[return-value]
