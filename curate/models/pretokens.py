"""Words of a text as byte-level tokenizers find them, each tokenized once and then remembered.

The library looks for words anew in every text with an engine of its own. Python's `re` finds the same ones in texts whose
characters it classes alike, and the tokens of a word do not depend on its neighbours: so a text is its words' tokens, one
after the other. Texts with other characters are left to the library, as are tokenizers that find words in other ways.
"""

import functools
import re
import sys
import unicodedata
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

_DIGITS = range(0x30, 0x3A)
MAX_WORDS = 1 << 18  # remembered; then they are forgotten, all of them
_LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_LETTER, _OTHER = r"[^\W\d_]", r"(?:[^\s\w]|_)"
# Name of the way to find words -> the same in Python's `re`, for the characters of `_plain`.
_GPT2 = rf" ?{_LETTER}+|'(?:[stmd]|re|ve|ll)| ?\d+| ?{_OTHER}+|\s+(?!\S)|\s+"
_WORDS = {
    "gpt2": _GPT2,
    # every digit is cut out first, and a blank before it ends its piece
    "digits": rf" ?{_LETTER}+|'(?:[stmd]|re|ve|ll)|\d| ?{_OTHER}+|\s+(?![^\s\d])|\s+",
    _LLAMA3: rf"'(?i:[stmd]|re|ve|ll)|(?:[^\w\r\n]|_)?{_LETTER}+|\d{{1,3}}| ?{_OTHER}+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}
_WORDS[_QWEN2] = _WORDS[_LLAMA3].replace(r"\d{1,3}", r"\d")

Encode = Callable[[list[str]], list[Any]]


def way_of(library: Any) -> str:
    """How a tokenizer finds words, a key of `_WORDS`; '' where it is another way."""
    if library.normalizer is not None or library.pre_tokenizer is None:
        return ""
    if not all(token.special for token in library.get_added_tokens_decoder().values()):
        return ""
    model = msgspec.json.decode(library.model.__getstate__())
    if model["type"] != "BPE" or model.get("dropout"):
        return ""
    said = msgspec.json.decode(library.pre_tokenizer.__getstate__())
    *before, last = said.get("pretokenizers", [said])
    if last["type"] != "ByteLevel" or last["add_prefix_space"] or len(before) > 1:
        return ""
    if not before or before[0] == {"type": "Digits", "individual_digits": True}:
        return ("digits" if before else "gpt2") if last["use_regex"] else ""
    isolated = (
        before[0]["type"] == "Split" and before[0]["behavior"] == "Isolated" and not before[0]["invert"]
    )
    pattern = before[0]["pattern"].get("Regex", "") if isolated and not last["use_regex"] else ""
    return pattern if pattern in _WORDS else ""


@functools.cache
def _foreign() -> re.Pattern[str]:
    """Finds a character that `re` and the library may class unlike.

    Letters and spaces are what they are since Unicode 3.2, whichever tables the two have; all other characters but
    numbers and controls are neither, known to a table or not. In a range that ignores case `ſ` is an s, the Kelvin
    sign a k; the Mongolian vowel separator was a space once.
    """
    then = unicodedata.ucd_3_2_0
    ranges: list[list[int]] = []
    for c in range(0x20, 0x30000):
        kind, before = unicodedata.category(chr(c)), then.category(chr(c))
        alike = kind[0] in "PSM" or kind == "Cf" or (kind[0] in "LZ" and kind == before) or c in _DIGITS
        if alike and c not in (0x17F, 0x180E, 0x212A):
            if ranges and ranges[-1][1] == c - 1:
                ranges[-1][1] = c
            else:
                ranges.append([c, c])
    kept = "".join(f"\\U{low:08x}-\\U{high:08x}" for low, high in ranges)
    return re.compile(rf"[^\t\n\r{kept}]")


class Words:
    """Tokens of texts by their words; `encode` is the library's for those that are new."""

    def __init__(self, way: str, encode: Encode) -> None:
        self._find = re.compile(_WORDS[way]).findall
        self._foreign = _foreign().search
        self._encode = encode
        self._known: dict[str, tuple[int, ...]] = {}

    def takes(self, text: str) -> bool:
        """Whether all its characters are known well enough."""
        return self._foreign(text) is None

    def tokens(self, text: str) -> npt.NDArray[np.uint32]:
        """Tokens (n,) of a text that it takes."""
        words = self._find(text)
        try:
            found = list(map(self._known.__getitem__, words))
        except KeyError:
            self._learn(words)
            found = list(map(self._known.__getitem__, words))
        return np.fromiter(chain.from_iterable(found), np.uint32)

    def _learn(self, words: Sequence[str]) -> None:
        if len(self._known) > MAX_WORDS:
            self._known.clear()
        new = list(set(words).difference(self._known))
        for word, encoding in zip(new, self._encode(new), strict=True):
            self._known[sys.intern(word)] = tuple(encoding.ids)
