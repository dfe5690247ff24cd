"""What the text kernels know of each Unicode character, as two-stage tables made from Python's own `unicodedata`.

A table is (index, values): the entry of code point c is values[index[c >> 8] * 256 + (c & 255)]. Block 0 is Latin-1,
so values[c] is right for ASCII without the index. Numba freezes globals: kernels take the tables as arguments. The
Unicode version is Python's (`unicodedata.unidata_version`): characters newer than that are symbols.
"""

import contextlib
import os
import unicodedata
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from curate.kernels import CACHE

Index = npt.NDArray[np.uint8]

# Kinds of characters, as `words` needs them; the order carries meaning: up to SPACE is white space (BREAK ends a line),
# LETTER to UPPER are letters, LETTER to STICKY hold a word together, DOT and above are cut off at its edges.
BREAK, SPACE, ALONE, LETTER, UPPER, DIGIT, DASH, HYPHEN, SLASH, STICKY = range(10)
DOT, LONG_DASH, COLON, RELATION, COMMA, QUOTE, ELISION, INNER, ICON, OTHER, MARK = range(10, 21)

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

# Flags of characters, as the rules on lines need them.
WHITE, LINE_END, TERMINAL, PUNCTUATION, DECIMAL, NUMERIC, CAPITAL, WORDLIKE = (1 << bit for bit in range(8))

# Ends of sentences: Unicode 17's property Sentence_Terminal, which `unicodedata` does not know, and three marks of
# Khmer (U+17D6, U+17D9, U+17DA) that datatrove takes for such.
_TERMINALS = (
    0x21, 0x2E, 0x3F, 0x589, (0x61D, 0x61F), 0x6D4, (0x700, 0x702), 0x7F9, 0x837, 0x839, (0x83D, 0x83E),
    (0x964, 0x965), (0x104A, 0x104B), 0x1362, (0x1367, 0x1368), 0x166E, (0x1735, 0x1736), (0x17D4, 0x17D6),
    (0x17D9, 0x17DA), 0x1803, 0x1809, (0x1944, 0x1945), (0x1AA8, 0x1AAB), (0x1B4E, 0x1B4F), (0x1B5A, 0x1B5B),
    (0x1B5E, 0x1B5F), (0x1B7D, 0x1B7F), (0x1C3B, 0x1C3C), (0x1C7E, 0x1C7F), 0x2024, (0x203C, 0x203D),
    (0x2047, 0x2049), (0x2CF9, 0x2CFB), 0x2E2E, 0x2E3C, (0x2E53, 0x2E54), (0x2E60, 0x2E61), 0x3002, 0xA4FF,
    (0xA60E, 0xA60F), 0xA6F3, 0xA6F7, (0xA876, 0xA877), (0xA8CE, 0xA8CF), 0xA92F, (0xA9C8, 0xA9C9),
    (0xAA5D, 0xAA5F), (0xAAF0, 0xAAF1), 0xABEB, 0xFE12, (0xFE15, 0xFE16), 0xFE52, (0xFE56, 0xFE57), 0xFF01, 0xFF0E,
    0xFF1F, 0xFF61, (0x10A56, 0x10A57), (0x10F55, 0x10F59), (0x10F86, 0x10F89), (0x11047, 0x11048),
    (0x110BE, 0x110C1), (0x11141, 0x11143), (0x111C5, 0x111C6), 0x111CD, (0x111DE, 0x111DF), (0x11238, 0x11239),
    (0x1123B, 0x1123C), 0x112A9, (0x113D4, 0x113D5), (0x1144B, 0x1144C), (0x115C2, 0x115C3), (0x115C9, 0x115D7),
    (0x11641, 0x11642), (0x1173C, 0x1173E), 0x11944, 0x11946, (0x11A42, 0x11A43), (0x11A9B, 0x11A9C),
    (0x11C41, 0x11C42), (0x11EF7, 0x11EF8), (0x11F43, 0x11F44), (0x16A6E, 0x16A6F), 0x16AF5, (0x16B37, 0x16B38),
    0x16B44, (0x16D6E, 0x16D6F), 0x16E98, 0x1BC9F, 0x1DA88,
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


def terminals() -> frozenset[str]:
    """Characters that end a sentence, in any script."""
    ranges = [(entry, entry) if isinstance(entry, int) else entry for entry in _TERMINALS]
    return frozenset(chr(code) for first, last in ranges for code in range(first, last + 1))


def lowered(character: str) -> int:
    """Code point of the lower-case form: Unicode's one-to-one mapping, so U+0130 gives i without its dot."""
    lower = character.lower()
    return ord(lower[0])


def table(entry: Callable[[str], int], dtype: npt.DTypeLike) -> tuple[Index, npt.NDArray[np.generic]]:
    """The table of a function of one character."""
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


def stored(
    name: str, entry: Callable[[str], int], dtype: npt.DTypeLike
) -> tuple[Index, npt.NDArray[np.generic]]:
    """`table`, as the first process that needed it left it beside numba's cache: making one takes 0.1 seconds."""
    place = Path(f"{CACHE}-tables", f"{name}-{unicodedata.unidata_version}.npy")
    try:
        both = np.load(place)
        values = both[_LAST_BLOCK:].view(dtype)
        values.flags.writeable = False  # as one that was just made: numba tells them apart
        return both[:_LAST_BLOCK].copy(), values
    except (OSError, ValueError, EOFError):  # none, or damaged
        index, values = table(entry, dtype)
    with contextlib.suppress(OSError):  # where nothing can be kept, it is made each time
        place.parent.mkdir(parents=True, exist_ok=True)
        attempt = place.with_name(f".{os.getpid()}-{place.name}")
        np.save(attempt, np.concatenate([index, values.view(np.uint8)]))
        os.replace(attempt, place)
    return index, values


@cache
def kinds() -> tuple[Index, npt.NDArray[np.uint8]]:
    """Table of kinds, made on first use."""
    return stored("kinds", kind_of, np.uint8)  # type: ignore[return-value]


@cache
def kinds_with(hyphen: int, apostrophe: int) -> tuple[Index, npt.NDArray[np.uint8]]:
    """Table of kinds in which - and the two apostrophes are of other kinds."""
    index, values = kinds()
    values = values.copy()
    for character, kind in (
        ("-", hyphen),
        ("'", apostrophe),
        ("’", apostrophe),
    ):  # no block but theirs is like theirs
        values[int(index[ord(character) >> 8]) * 256 + (ord(character) & 255)] = kind
    return index, values


@cache
def flags() -> tuple[Index, npt.NDArray[np.uint8]]:
    """Table of flags, made on first use."""
    ends = terminals()

    def entry(character: str) -> int:
        category = unicodedata.category(character)
        return (
            WHITE * character.isspace()
            | LINE_END * (character.isspace() and character.splitlines() == [""])
            | TERMINAL * (character in ends)
            | PUNCTUATION * (category[0] == "P" or character in ends)
            | DECIMAL * (category == "Nd")
            | NUMERIC * character.isdigit()
            | CAPITAL * character.isupper()
            | WORDLIKE * (character.isalnum() or character == "_")
        )

    return stored("flags", entry, np.uint8)  # type: ignore[return-value]
