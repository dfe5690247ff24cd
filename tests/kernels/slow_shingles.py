"""What `curate.kernels.shingles` promises, in slow Python: strings, tuples and sets."""

import re
import unicodedata
from typing import Any

from slow_words import letter_for, words


def normalised(text: str, normal: Any) -> list[str]:
    """Normalised words of a text."""
    if not normal.punctuation:
        found = ["".join(folded(c, normal) for c in word) for word in words(text)]
    else:
        kept = [c for c in text if unicodedata.category(c) != "Cf"]
        if normal.accents:
            kept = [c for c in kept if unicodedata.category(c) != "Mn"]
        kinds = "".join(map(letter_for, kept))
        spans = [match.span() for match in re.finditer("AM*|[lu1][lu1M]*", kinds)]
        found = ["".join(folded(c, normal) for c in kept[a:b]) for a, b in spans]
    if normal.digits:
        found = [re.sub(r"\d+", "0", word) for word in found]
    return [word for word in found if word]


def folded(character: str, normal: Any) -> str:
    """One character, without its accent and in lower case if these are folded."""
    if normal.accents:
        parts = unicodedata.normalize("NFD", character)
        letters = "".join(c for c in parts if unicodedata.category(c) != "Mn")
        if len(letters) == 1 or not letters:
            character = letters if len(parts) > 1 or not letters else character
    if normal.case and character:
        lower = character.casefold()
        character = lower if len(lower) == 1 else character.lower()[0]
    return character


def ngrams(found: list[str], n: int) -> list[tuple[str, ...]]:
    """All runs of n words."""
    return [tuple(found[i : i + n]) for i in range(len(found) - n + 1)]


def jaccard(a: set[Any], b: set[Any]) -> float:
    """Shared part of the union; 0.0 for two empty sets."""
    return len(a & b) / max(1, len(a | b))
