"""Two texts side by side, word by word: what one of them alone has, with some of what they share around it.

Compared are the first COMPARED_CHARS of each by difflib, without what they share at both ends.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import Literal, NamedTuple

COMPARED_CHARS = 20_000  # of each text
SHOWN_CHARS = 4000  # of a difference
CHANGE_CHARS = 800  # of either text in one change
CONTEXT = 24  # tokens that are shown around a difference, white space among them
START = 120  # tokens of texts that do not differ

Kind = Literal["same", "kept", "dropped", "skipped", "more_kept", "more_dropped", "rest"]

_ALONE = r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]"  # scripts without spaces
_LETTER = (
    rf"(?!{_ALONE})[\w\u0300-\u036f\u0591-\u05bd\u064b-\u065f\u0900-\u0963\u0966-\u0dff]"  # with vowel signs
)
_TOKEN = re.compile(rf"{_ALONE}|(?:{_LETTER}){{1,40}}|\s{{1,40}}|[^\w\s]")  # a word, white space, or a mark


class Piece(NamedTuple):
    """A run of text: shared, of the kept or of the dropped text alone; or how much is not shown."""

    kind: Kind
    text: str  # or a number of characters: skipped, both have them; more: of that text; rest: not compared or not shown


def word_diff(kept: str, dropped: str, shown: int = SHOWN_CHARS) -> list[Piece]:
    """Pieces that spell out both texts, as far as they go."""
    a, b = (_TOKEN.findall(text[:COMPARED_CHARS]) for text in (kept, dropped))
    runs = _absorb(_runs(a, b))
    if runs and _is_artefact(runs[-1], len(kept), len(dropped)):
        runs.pop()
    out: list[Piece] = []
    seen = [0, 0]  # characters of either text
    for number, (is_same, left, right) in enumerate(runs):
        texts = "".join(left), "".join(right)
        out += _context(left, number == 0, number == len(runs) - 1) if is_same else _changed(*texts)
        seen = [n + len(text) for n, text in zip(seen, texts, strict=True)]
        if sum(len(piece.text) for piece in out if piece.kind in ("same", "kept", "dropped")) > shown:
            break
    rest = max(len(kept) - seen[0], len(dropped) - seen[1])
    return [*out, *([Piece("rest", str(rest))] if rest else [])]


def differ_in_names(kept: str, dropped: str) -> bool:
    """Whether all words that differ are capitalised or hold digits, and some do; marks and white space do not count."""
    a, b = ([word for word in _TOKEN.findall(text) if _is_word(word)] for text in (kept, dropped))
    return a != b and [w for w in a if not _is_name(w)] == [w for w in b if not _is_name(w)]


def _is_word(token: str) -> bool:
    return token[0].isalnum() or token[0] == "_"


def _is_name(word: str) -> bool:
    return word[0].isupper() or any(c.isdigit() for c in word)


class _Run(NamedTuple):
    """Tokens of either text."""

    is_same: bool
    left: list[str]
    right: list[str]

    @property
    def chars(self) -> int:
        return max(len("".join(self.left)), len("".join(self.right)))


def _runs(a: list[str], b: list[str]) -> Iterator[_Run]:
    """Runs of tokens in turn, shared and changed. Words are aligned; white space and marks go with the word before."""
    start = _shared(a, b)
    end = _shared(a[start:][::-1], b[start:][::-1])
    yield _Run(True, a[:start], b[:start])
    x, y = (_words(tokens[start : len(tokens) - end]) for tokens in (a, b))
    matcher = SequenceMatcher(None, [word[0] for word in x], [word[0] for word in y])
    for tag, i, j, k, m in matcher.get_opcodes():
        if tag == "equal":
            pairs = [([left], [right]) for left, right in zip(x[i:j], y[k:m], strict=True)]
        else:
            pairs = [(x[i:j], y[k:m])]
        for left, right in pairs:
            yield from _trimmed(*(list(itertools.chain.from_iterable(words)) for words in (left, right)))
    yield _Run(True, a[len(a) - end :], b[len(b) - end :])


def _words(tokens: list[str]) -> list[list[str]]:
    """Each word with what stands between it and the next; a first one may be without a word."""
    found: list[list[str]] = []
    for token in tokens:
        if not found or _is_word(token):
            found.append([])
        found[-1].append(token)
    return found


def _trimmed(left: list[str], right: list[str]) -> Iterator[_Run]:
    """A change without what both have at its ends."""
    start = _shared(left, right)
    end = _shared(left[start:][::-1], right[start:][::-1])
    yield _Run(True, left[:start], right[:start])
    yield _Run(False, left[start : len(left) - end], right[start : len(right) - end])
    yield _Run(True, left[len(left) - end :], right[len(right) - end :])


def _shared(a: Sequence[str], b: Sequence[str]) -> int:
    """Tokens at the start that are the same."""
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))


def _absorb(runs: Iterator[_Run]) -> list[_Run]:
    """Shared runs no longer than the changes on both sides of them are part of one change."""
    out: list[_Run] = []
    for run in (run for run in runs if run.left or run.right):
        if out and out[-1].is_same == run.is_same:
            out[-1].left.extend(run.left)
            out[-1].right.extend(run.right)
        else:
            out.append(run)
    found: list[_Run] = []
    for run in out:
        found.append(run)
        while len(found) > 2 and not run.is_same and found[-2].chars <= min(found[-3].chars, found[-1].chars):
            for one in found[-2:]:
                found[-3].left.extend(one.left)
                found[-3].right.extend(one.right)
            del found[-2:]
    return found


def _is_artefact(last: _Run, kept: int, dropped: int) -> bool:
    """Whether the end of one text is alone only because the other one, of so many characters, was cut."""
    alone = not last.is_same and bool(last.left) != bool(last.right)
    return alone and (dropped if last.left else kept) > COMPARED_CHARS


def _changed(left: str, right: str) -> list[Piece]:
    found: list[Piece] = []
    if left:
        found.append(Piece("kept", left[:CHANGE_CHARS]))
    if len(left) > CHANGE_CHARS:
        found.append(Piece("more_kept", str(len(left) - CHANGE_CHARS)))
    if right:
        found.append(Piece("dropped", right[:CHANGE_CHARS]))
    if len(right) > CHANGE_CHARS:
        found.append(Piece("more_dropped", str(len(right) - CHANGE_CHARS)))
    return found


def _context(tokens: list[str], is_first: bool, is_last: bool) -> list[Piece]:
    """What is shown of a shared run: its ends next to a change."""
    before, after = (0 if is_last else CONTEXT), (0 if is_first else CONTEXT)
    if is_first and is_last:
        after = START
    if len(tokens) <= before + after + CONTEXT:
        return [Piece("same", "".join(tokens))]
    ends = "".join(tokens[:after]), "".join(tokens[len(tokens) - before :] if before else [])
    skipped = len("".join(tokens)) - sum(map(len, ends))
    found: list[Piece] = [Piece("same", ends[0]), Piece("skipped", str(skipped)), Piece("same", ends[1])]
    return [piece for piece in found if piece.text]
