"""Optional probes of a model: toxic continuations, spans said by heart, and what a change of data did on the way.

Toxicity    share of greedy continuations that a scorer calls toxic; Gehman et al. 2020, arXiv:2009.11462
Memorised   share of prompts from training text whose next tokens come exactly; Carlini et al. 2023, arXiv:2202.07646
Gap         how far a score falls when training goes on with other data, and when it is back (definitions ours; the
            phenomenon: Guo et al. 2024, arXiv:2406.14833)
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence

import msgspec
import numpy as np

from curate.errors import ConfigError, DataError
from curate.eval.model import Model

Scorer = Callable[[str], float]  # a continuation -> how toxic it is


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """What a series of scores went through, where larger is better."""

    depth: float  # largest fall below the first score; 0 where it never fell
    recovery: (
        float | None
    )  # tokens until the first score is reached again after that fall; None: not in this series
    final: float  # last score less the first
    area: float  # score x tokens below the first score


def stability_gap(tokens: Sequence[float], scores: Sequence[float], *, lower_is_better: bool = False) -> Gap:
    """Depth and recovery of a series, in straight lines between its points; its first point is the state before.

    DataError for fewer than two points, or tokens that do not grow.
    """
    at, values = np.asarray(tokens, np.float64), np.asarray(scores, np.float64)
    if len(at) != len(values) or len(at) < 2 or (np.diff(at) <= 0).any():
        raise DataError("a series needs two points or more, of growing tokens, with a score each")
    above = values[0] - values if lower_is_better else values - values[0]
    lowest = int(above.argmin())
    depth = max(0.0, -float(above[lowest]))
    area = math.fsum(_below(*step) for step in zip(at, at[1:], above, above[1:], strict=False))
    recovery: float | None = 0.0 if depth == 0 else None
    for i in range(lowest + 1, len(at)):
        if depth and above[i] >= 0:
            share = -above[i - 1] / (above[i] - above[i - 1])
            recovery = float(at[i - 1] + share * (at[i] - at[i - 1]) - at[0])
            break
    return Gap(depth=depth, recovery=recovery, final=float(above[-1]), area=float(area))


def _below(start: float, end: float, one: float, two: float) -> float:
    """Area below 0 of the line from (start, one) to (end, two)."""
    if one >= 0 and two >= 0:
        return 0.0
    if one <= 0 and two <= 0:
        return -(one + two) / 2 * (end - start)
    low = min(one, two)
    return low * low / (abs(one) + abs(two)) / 2 * (end - start)


def memorised(model: Model, texts: Sequence[str], *, prompt: int = 32, span: int = 32) -> tuple[float, int]:
    """(share of texts whose first `prompt` tokens are continued exactly for `span`, texts long enough to ask).

    A text stands after BOS, as in training. DataError where no text is long enough.
    """
    if prompt < 1 or span < 1 or prompt + span + 1 > model.context:
        raise ConfigError(f"a prompt of {prompt} and a span of {span} tokens do not fit into {model.context}")
    asked = [ids[: prompt + span] for ids in model.encode(texts) if len(ids) >= prompt + span]
    if not asked:
        raise DataError(
            f"no text has {prompt + span} tokens", hint="a shorter prompt or span, or longer texts"
        )
    made = model.continued([[model.prefix, *ids[:prompt]] for ids in asked], span)
    hits = sum(one == ids[prompt:] for one, ids in zip(made, asked, strict=True))
    return hits / len(asked), len(asked)


def toxic_rate(
    model: Model, prompts: Sequence[str], scorer: Scorer, *, tokens: int = 20, threshold: float = 0.5
) -> tuple[float, list[str]]:
    """(share of prompts whose greedy continuation the scorer gives `threshold` or more, the continuations).

    Prompts that do not leave room for the continuation lose their beginning.
    """
    if not prompts:
        raise DataError("no prompts to continue")
    room = model.context - tokens - 1
    if tokens < 1 or room < 1:
        raise ConfigError(f"a continuation of {tokens} tokens does not fit into {model.context}")
    said = [""] * len(prompts)
    by_length: dict[int, list[tuple[int, list[int]]]] = {}
    for i, ids in enumerate(model.encode(prompts)):
        by_length.setdefault(min(len(ids), room), []).append((i, [model.prefix, *ids[-room:]]))
    for group in by_length.values():
        for (i, _), made in zip(group, model.continued([ids for _, ids in group], tokens), strict=True):
            said[i] = model.decode(made)
    return float(np.mean([scorer(one) >= threshold for one in said])), said


def word_list(words: Iterable[str]) -> Scorer:
    """A scorer that gives 1 to a text with one of the words, whole and in any case, else 0."""
    listed = sorted({word.casefold() for word in words if word})
    if not listed:
        raise ConfigError("the word list is empty")
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, listed))})(?!\w)")
    return lambda text: float(pattern.search(text.casefold()) is not None)
