"""The passages of a document that tripped a rule: what to mark in its text.

Each finder repeats in plain Python, for the few documents that are shown, what the rule's kernel counts. A rule that
looks at the whole (a length, a mean) has no passage: its value beside its threshold says it.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from curate.report.words import Span, word_spans

Finder = Callable[[str, Any], Iterator[Span]]  # text, the stage's Config -> spans of characters, in order

_FINDERS: dict[tuple[str, str], Finder] = {}
_MAX_SPANS = 2000  # of a document; nobody looks at more


def passages(stage: str, reason: str, text: str, config: Any, lang: str = "") -> list[Span]:
    """Spans of the text that the rule `reason` of a stage objects to; none where it has no passage.

    `lang` is the row's: stages with `thresholds` split words by it.
    """
    finder = _FINDERS.get((stage, reason))
    if finder is None:
        return []
    if lang and getattr(config, "thresholds", "") and config.words == "unicode":
        config = msgspec.structs.replace(config, words_lang=lang)
    found: list[Span] = []
    for start, end in finder(text, config):
        if found and start <= found[-1][1]:  # touching spans are one
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        elif start < end:
            found.append((start, end))
        if len(found) > _MAX_SPANS:
            break
    return found


def has_passages(stage: str, reason: str) -> bool:
    """Whether the rule points at passages at all."""
    return (stage, reason) in _FINDERS


def finds(stage: str, *reasons: str) -> Callable[[Finder], Finder]:
    """The decorated function finds the passages of these rules."""

    def declare(finder: Finder) -> Finder:
        _FINDERS.update(dict.fromkeys(((stage, reason) for reason in reasons), finder))
        return finder

    return declare


def _matches(pattern: str, flags: int = 0) -> Finder:
    compiled = re.compile(pattern, flags)
    return lambda text, config: (match.span() for match in compiled.finditer(text))


def _split(text: str, newlines: str) -> Iterator[Span]:
    """Spans between runs of newlines."""
    at = 0
    for gap in re.finditer(newlines, text):
        yield at, gap.start()
        at = gap.end()
    yield at, len(text)


def _lines(text: str) -> Iterator[Span]:
    """Spans of lines without the white space around them."""
    at = 0
    for line in text.splitlines(keepends=True):
        body = line.strip()
        start = at + len(line) - len(line.lstrip()) if body else at
        yield start, start + len(body)
        at += len(line)


def _seen_before(text: str, spans: Iterator[Span]) -> Iterator[Span]:
    seen: set[str] = set()
    for start, end in spans:
        if text[start:end] in seen:
            yield start, end
        seen.add(text[start:end])


@finds("gopher_repetition", "dup_lines", "dup_line_chars")
def _repeated_lines(text: str, config: Any) -> Iterator[Span]:
    return _seen_before(text, _split(text, r"\n+"))


@finds("gopher_repetition", "dup_paragraphs", "dup_paragraph_chars")
def _repeated_paragraphs(text: str, config: Any) -> Iterator[Span]:
    return _seen_before(text, _split(text, r"\n{2,}"))


def _top_gram(n: int) -> Finder:
    def find(text: str, config: Any) -> Iterator[Span]:
        spans = word_spans(text, config)
        words = [text[start:end] for start, end in spans]
        grams = list(zip(*(words[i:] for i in range(n)), strict=False))
        if not grams:
            return
        top = max(Counter(grams).items(), key=lambda item: item[1])[0]
        yield from ((spans[i][0], spans[i + n - 1][1]) for i, gram in enumerate(grams) if gram == top)

    return find


def _repeated_grams(n: int) -> Finder:
    def find(text: str, config: Any) -> Iterator[Span]:
        spans = word_spans(text, config)
        words = [text[start:end] for start, end in spans]
        seen: set[tuple[str, ...]] = set()
        i = 0
        while i + n <= len(words):
            gram = tuple(words[i : i + n])
            if gram in seen:
                yield spans[i][0], spans[i + n - 1][1]
                i += n
            else:
                seen.add(gram)
                i += 1

    return find


for _n in range(2, 5):
    finds("gopher_repetition", f"top_{_n}gram")(_top_gram(_n))
for _n in range(5, 11):
    finds("gopher_repetition", f"dup_{_n}gram")(_repeated_grams(_n))

finds("gopher_quality", "too_many_hashes")(_matches("#"))
finds("gopher_quality", "too_many_ellipses")(_matches(r"\.\.\.|…"))


@finds("gopher_quality", "too_many_bullet_lines")
def _bullet_lines(text: str, config: Any) -> Iterator[Span]:
    return (span for span in _lines(text) if text.startswith(("-", "•"), *span))


@finds("gopher_quality", "too_many_ellipsis_lines")
def _ellipsis_lines(text: str, config: Any) -> Iterator[Span]:
    return (span for span in _lines(text) if text.endswith(("...", "…"), *span))


@finds("gopher_quality", "too_few_alpha_words")
def _words_without_letters(text: str, config: Any) -> Iterator[Span]:
    return ((a, b) for a, b in word_spans(text, config) if not any(c.isalpha() for c in text[a:b]))


@finds("gopher_quality", "long_words")
def _long_words(text: str, config: Any) -> Iterator[Span]:
    return ((a, b) for a, b in word_spans(text, config) if b - a > config.max_mean_word_chars)


@finds("gopher_quality", "too_few_stop_words")
def _stop_words(text: str, config: Any) -> Iterator[Span]:
    """Those that are there."""
    return ((a, b) for a, b in word_spans(text, config) if text[a:b] in config.stop_words)


finds("c4_quality", "lorem_ipsum")(_matches("lorem ipsum", re.IGNORECASE))
finds("c4_quality", "curly_bracket")(_matches("{"))


def _filled_lines(text: str) -> Iterator[Span]:
    """Lines between newlines, as they are, without the blank ones."""
    return (span for span in _split(text, "\n") if text[slice(*span)].strip())


@finds("fineweb_quality", "too_few_ended_lines")
def _unended_lines(text: str, config: Any) -> Iterator[Span]:
    from curate.kernels.unicode import terminals

    ends = terminals()
    return (span for span in _filled_lines(text) if text[span[1] - 1] not in ends)


@finds("fineweb_quality", "too_many_short_lines")
def _short_lines(text: str, config: Any) -> Iterator[Span]:
    return ((a, b) for a, b in _filled_lines(text) if b - a <= config.short_line_chars)


@finds("fineweb_quality", "dup_line_chars")
def _lines_seen_before(text: str, config: Any) -> Iterator[Span]:
    return _seen_before(text, _filled_lines(text))


def of_match(text: str, match: str) -> list[Span]:
    """Where an entry of a list stands in a text, whatever the case."""
    return [found.span() for found in re.finditer(re.escape(match), text, re.IGNORECASE)][:_MAX_SPANS]
