"""The Gopher rules in slow Python, over slow words: values of every statistic, None where it is of nothing."""

import re
from collections import Counter

from slow_words import letter_for, words_of_any_script, writing

Values = dict[str, float | None]


def ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def quality(text: str, stop_words: tuple[str, ...]) -> Values:
    tokens = words_of_any_script(text)
    letters = [t for t in tokens if any(letter_for(c) in "luA" for c in t)]
    counted = [t for t in tokens if any(letter_for(c) in "luA1" for c in t)]
    lines = text.splitlines()
    values: Values = {
        "num_words": len(counted),
        "mean_word_chars": ratio(sum(map(len, counted)), len(counted)),
        "hash_ratio": ratio(text.count("#"), len(tokens)),
        "ellipsis_ratio": ratio(text.count("...") + text.count("…"), len(tokens)),
        "bullet_lines_ratio": ratio(sum(x.lstrip().startswith(("•", "-")) for x in lines), len(lines)),
        "ellipsis_lines_ratio": ratio(sum(x.rstrip().endswith(("...", "…")) for x in lines), len(lines)),
        "alpha_words_ratio": ratio(len(letters), len(tokens)),
        "num_stop_words": len(set(tokens) & set(stop_words)),
    }
    return (
        values if writing(text) != "unsplit" else {k: v if "lines" in k else None for k, v in values.items()}
    )


def _repeated(parts: list[str]) -> tuple[int, int]:
    repeats = [part for i, part in enumerate(parts) if part in parts[:i]]
    return len(repeats), sum(map(len, repeats))


def repetition(text: str) -> Values:
    tokens = words_of_any_script(text)
    paragraphs, lines = re.split(r"\n{2,}", text.strip()), re.split(r"\n+", text)
    (num_p, chars_p), (num_l, chars_l) = _repeated(paragraphs), _repeated(lines)
    values: Values = {
        "num_chars": len(text),
        "dup_paragraphs_ratio": ratio(num_p, len(paragraphs)),
        "dup_paragraph_chars_ratio": ratio(chars_p, len(text)),
        "dup_lines_ratio": ratio(num_l, len(lines)),
        "dup_line_chars_ratio": ratio(chars_l, len(text)),
    }
    for n in range(2, 5):
        grams = Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))
        top, count = grams.most_common(1)[0] if grams else ((), 0)
        values[f"top_{n}gram_chars_ratio"] = ratio(len(" ".join(top)) * count, len(text))
    for n in range(5, 11):
        values[f"dup_{n}gram_chars_ratio"] = ratio(_skipping(tokens, n), len(text))
    return (
        values if writing(text) != "unsplit" else {k: None if "gram" in k else v for k, v in values.items()}
    )


def _skipping(tokens: list[str], n: int) -> int:
    seen, chars, i = set(), 0, 0
    while i < len(tokens) - n + 1:
        gram = tuple(tokens[i : i + n])
        if gram in seen:
            chars += sum(map(len, gram))
            i += n
        else:
            seen.add(gram)
            i += 1
    return chars
