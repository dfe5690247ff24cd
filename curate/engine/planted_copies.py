"""Canaries of the stages that find what stands in the corpus more than once.

Double    a host and its double, one of which must go: the same text (exact_dedup, semantic_dedup with `model`), or the text
          with its last word twice (minhash_dedup)
Repeat    one thing in all hosts, which must go from all but the first: a URL but for its fragment, a line, sentences, a
          passage, an embedding. Where only one of them comes to the stage, that says nothing
None      paragraph_dedup with `split: blank_lines` (an extractor may leave none) or more words to an n-gram than a line has;
          `min_count` above 2; more sentences, bytes or tokens than the passage has; semantic_dedup with hardly any `eps`
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

from curate.engine.canary import Change, Host, Kind, Plant, at_line, with_line
from curate.recipe.recipe import Step

EQUAL = 1e-4  # by how much the cosine of equal embeddings may be below 1
MISSED = 1e-6  # most that may be the odds of bands that do not propose a pair
# Written for this file.
_LINE = "Whoever finds this line twice has found one that was sown and may well cut it."
_SENTENCES = (
    "The lamp on the pier was lit before the rain began.", "Two men carried the last of the barrels into the shed.",
    "Nobody had told them that the ferry would be late.", "So they sat down and spoke of the winter before.",
    "When it came at last the lamp had gone out.",
)  # fmt: skip
_PASSAGE = (
    "on that long road between the mill and the quarry, where carts had cut two deep furrows into the clay and the hedges "
    "stood higher than any rider, a stranger might walk from the first bell to the last without meeting a soul, hear "
    "nothing but the wind in the poplars and the water below them, and come at dusk upon the inn with the green shutters, "
    "whose keeper asked no names, poured what there was to pour, and never in all those years forgot a face"
)


def _double(step: Step, config: Any) -> Iterator[Kind]:
    def plant(host: Host) -> Change | None:
        null = config.column != "text" and host.row.get(config.column, "") is None  # such rows are all kept
        return None if null else Change()

    own = config.column == "text"
    yield Kind("duplicate", step, "drop", plant, copies=2, double=_elsewhere if own else None)


def _elsewhere(host: Host, text: str | None = None) -> Change:
    """A double at an address of its own, which no stage that goes by URL takes for the host's."""
    url = host.row.get("url")
    return Change(text, url=f"{url.partition('#')[0]}{'&' if '?' in url else '?'}canary=2" if url else None)


def _near_double(step: Step, config: Any) -> Iterator[Kind]:
    from curate.stages._minhash_sign import plan_of

    bands, rows = plan_of(config)

    def double(host: Host) -> Change:
        words = re.findall(r"\w+", host.text.lower())
        grams = len({tuple(words[i : i + config.ngram]) for i in range(len(words) - config.ngram + 1)})
        alike = 1 - 1 / (grams // 2 + 1)  # at least: one n-gram more, and the stage's words may be fewer
        sure = alike >= config.threshold and (1 - alike**rows) ** bands < MISSED and words[-1].isascii()
        return _elsewhere(host, f"{host.text.rstrip()} {words[-1]}" if sure else None)

    yield Kind("near-duplicate", step, "drop", lambda host: Change(), copies=2, double=double)


def _same_url(step: Step, config: Any) -> Iterator[Kind]:
    def plant(host: Host) -> Change:
        return Change(url=f"https://EXAMPLE.org:443/the-same-page#{host.number}")

    yield Kind("URL spelled otherwise", step, "repeat", plant)


def _same_embedding(step: Step, config: Any) -> Iterator[Kind]:
    def plant(host: Host) -> Change | None:
        size = len(host.row.get(config.column) or ())
        return Change(columns=((config.column, [1.0] + [0.0] * (size - 1)),)) if size else None

    if config.model and config.eps > EQUAL:
        yield Kind("duplicate", step, "drop", lambda host: Change(), copies=2, double=_elsewhere)
    elif config.eps > EQUAL:
        yield Kind("equal embedding", step, "repeat", plant)


def _same_line(counter: str, line: Callable[[Any], str]) -> Callable[[Step, Any], Iterator[Kind]]:
    def plan(step: Step, config: Any) -> Iterator[Kind]:
        found = line(config)

        def plant(host: Host) -> Change:
            needle = f"{found} {host.number}" if config.normalize == "ccnet" else found  # numbers are 0
            return with_line(host, needle, needle)

        if found and config.min_count <= 2:
            yield Kind("line of another page", step, "repeat", plant, counter)

    return plan


def _line(config: Any) -> str:
    return " ".join([_LINE] * (config.min_chars // len(_LINE) + 1))


def _paragraph(config: Any) -> str:
    if config.method == "exact":
        return _line(config) if config.split == "lines" else ""
    return _LINE if len(_LINE.split()) >= max(config.ngram, config.min_ngram) else ""


def _begin(piece: str) -> Plant:
    return lambda host: at_line(host, piece)


def _same_sentences(step: Step, config: Any) -> Iterator[Kind]:
    if config.n_sentences <= len(_SENTENCES):
        plant = _begin(" ".join(_SENTENCES[: config.n_sentences]))
        yield Kind("sentences of another page", step, "repeat", plant, "removed_sentences")


def _same_passage(step: Step, config: Any) -> Iterator[Kind]:
    has = len(_PASSAGE) if config.unit == "bytes" else len(_PASSAGE.split())
    if config.length <= has:
        yield Kind("passage of another page", step, "repeat", _begin(_PASSAGE), "removed_spans")


PLANS: dict[str, Callable[[Step, Any], Iterator[Kind]]] = {
    "exact_dedup": _double, "minhash_dedup": _near_double, "url_dedup": _same_url, "semantic_dedup": _same_embedding,
    "line_dedup": _same_line("removed_lines", _line),
    "paragraph_dedup": _same_line("removed_paragraphs", _paragraph), "sentence_dedup": _same_sentences,
    "substring_dedup": _same_passage,
}  # fmt: skip
