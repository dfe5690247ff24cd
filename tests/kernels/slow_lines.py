"""The rules on lines in slow Python: `re` and `str`, no tables, no spans."""

import re
import unicodedata
from functools import lru_cache

from curate.kernels.unicode import terminals

POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
COUNTED = (
    "likes|shares|comments|retweets|reposts|quotes|bookmarks|upvotes|downvotes|downloads|views|followers"
)


@lru_cache(None)
def is_terminal(c: str) -> bool:
    return c in terminals()


def skippable(c: str) -> bool:
    return c.isspace() or unicodedata.category(c)[0] == "P" or is_terminal(c)


def sentences(line: str) -> int:
    """1 for the line, and 1 for each mark behind which another sentence begins."""
    line = line.strip()
    num, i = int(line != ""), 0
    while i < len(line):
        c = line[i]
        if not is_terminal(c):
            i += 1
        elif c == "." and line[i + 1 : i + 2] == ".":
            i += len(re.match(r"\.+", line[i:]).group())  # type: ignore[union-attr]
        elif c == "." and single_letter(line[:i]):
            i += 1
        else:
            j = i + 1
            while j < len(line) and skippable(line[j]):
                j += 1
            if j == len(line):
                break
            between = line[i + 1 : j]
            camel = c == "." and not between and re.search("[a-z]$", line[:i]) and line[j].isupper()
            num += bool(ord(c) > 127 or camel or any(b.isspace() for b in between))
            i = j
    return num


def single_letter(before: str) -> bool:
    if not before or not before[-1].isalnum() or before[-1].isdigit():
        return False
    return len(before) == 1 or not (before[-2].isalnum() or before[-2] == "'")


def c4(text: str, **switches: object) -> tuple[dict[str, int], str]:
    """Counts of the lines that are not blank by what became of them, and the text left."""
    on = {
        "remove_citations": True, "filter_no_terminal_punct": True, "min_words_per_line": 3, "max_word_length": 1000,
        "filter_javascript": True, "filter_policy": True, **switches,
    }  # fmt: skip
    counts = dict.fromkeys(
        ("kept", "long_word", "unended", "short", "javascript", "policy", "lorem_ipsum", "curly_bracket", "sentences"), 0
    )  # fmt: skip
    kept = []
    for raw in text.splitlines():
        line = raw.strip()
        fate, left = _fate(line, on, counts)
        if line:
            counts[fate] += 1
        if fate == "kept":
            kept.append(left)
            counts["sentences"] += sentences(left)
    return counts, "\n".join(kept).strip()


def _fate(line: str, on: dict[str, object], counts: dict[str, int]) -> tuple[str, str]:
    words = line.split()
    if on["max_word_length"] and any(len(word) > on["max_word_length"] for word in words):  # type: ignore[operator]
        return "long_word", line
    if on["remove_citations"]:
        line = re.sub(r"\[\d*\]|\[edit\]|\[citation needed\]", "", line)
    if on["filter_no_terminal_punct"] and (not re.search(r"[.?!\"']\Z", line) or line.endswith("...")):
        return "unended", line
    if len(words) < on["min_words_per_line"]:  # type: ignore[operator]
        return "short", line
    low = "".join(c.lower() if c.isascii() else c for c in line)
    counts["lorem_ipsum"] += "lorem ipsum" in low
    if on["filter_javascript"] and "javascript" in low:
        return "javascript", line
    counts["curly_bracket"] += "{" in line
    if on["filter_policy"] and any(phrase in low for phrase in POLICY):
        return "policy", line
    return "kept", line


def fineweb(text: str, short: int) -> dict[str, float | None]:
    lines = [line for line in text.split("\n") if line.strip()]
    repeats = [line for i, line in enumerate(lines) if line in lines[:i]]
    if not lines:
        return {
            "num_lines": 0,
            "ended_lines_ratio": None,
            "short_lines_ratio": None,
            "dup_line_chars_ratio": None,
        }
    return {
        "num_lines": len(lines),
        "ended_lines_ratio": sum(is_terminal(line[-1]) for line in lines) / len(lines),
        "short_lines_ratio": sum(len(line) <= short for line in lines) / len(lines),
        "dup_line_chars_ratio": sum(map(len, repeats)) / len(text.replace("\n", "")),
    }


def refinedweb(text: str) -> tuple[str, float | None]:
    """Text left, and the share of words removed."""
    kept = []
    for line in text.strip().split("\n") if text.strip() else []:
        if line and (
            sum(c.isupper() for c in line) / len(line) > 0.5
            or sum(c.isdigit() for c in line) / len(line) > 0.999999
            or re.search(rf"^\W*\d[,.\d]*[kKmMbB]?\s+(?:{COUNTED})\W*\Z", line, re.I)
            or len(line.split()) < 2
        ):
            continue
        left = line
        for pattern in (r"\s?items in cart", r"\s?read more\.\.\.\Z", r"\Asign-in\s?"):
            if len(left.split()) <= 10:
                left = re.sub(pattern, "", left, flags=re.I)
        if not line or left.strip():
            kept.append(left)
    left = "\n".join(kept).strip()
    before, after = (sum(word[0].isalnum() for word in t.split()) for t in (text, left))
    return left, (before - after) / before if before else None
