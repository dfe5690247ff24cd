"""Which tasks may enter a verdict at a size of model: those whose numbers mean something there.

Statistics, over runs of several corpora and seeds, scored at the same steps:
    monotonicity  mean over runs of Spearman's correlation of score and step; at least .5
    snr           final score over its spread between seeds: mean over corpora over the pooled standard deviation; above 20
    above_chance  how many such standard deviations the best final score lies above guessing; at least 3
    ordering      mean Kendall tau-b of the corpora's order between consecutive steps, from half of training on; reported,
                  and asked for only where `min_ordering` says so
A task without a chance level (bits per byte) has no `above_chance` and is not asked for it; where less is better, scores
are turned round for monotonicity. What cannot be computed (one seed, one step, one corpus) is NaN and does not pass.
Paper   Penedo et al. 2025 (FineWeb2), arXiv:2506.20920, section 3 (criteria); thresholds as reported for FineTasks
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from curate.errors import DataError

Floats = npt.NDArray[np.float64]


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One score of one run."""

    task: str
    corpus: str  # what the model was trained on
    seed: int
    step: int
    score: float


class Bounds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a task must reach."""

    min_monotonicity: float = 0.5
    min_snr: float = 20.0
    min_above_chance: float = 3.0  # standard deviations between seeds
    min_ordering: float | None = None  # Kendall tau; not asked for when left out


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """Of one task at one size."""

    task: str
    monotonicity: float
    snr: float
    above_chance: float | None  # None: there is no guessing
    ordering: float
    why_not: tuple[str, ...]  # the criteria it fails; empty: it may enter a verdict

    @property
    def enters(self) -> bool:
        return not self.why_not


class _Task:
    """Scores of a task as arrays, one per (corpus, seed), at the steps that all runs have."""

    def __init__(self, name: str, points: Iterable[Point]) -> None:
        runs: dict[tuple[str, int], dict[int, float]] = {}
        for one in points:
            if one.step in runs.setdefault((one.corpus, one.seed), {}):
                raise DataError(f"`{name}`: two scores of {one.corpus}, seed {one.seed}, at step {one.step}")
            runs[one.corpus, one.seed][one.step] = one.score
        shared = set.intersection(*(set(run) for run in runs.values()))
        if not shared:
            raise DataError(
                f"`{name}`: its runs have no step in common", hint="score them all at the same steps"
            )
        self.steps = sorted(shared)
        self.runs = {key: np.array([run[step] for step in self.steps]) for key, run in sorted(runs.items())}

    def by_corpus(self) -> dict[str, Floats]:
        """Scores (seeds, steps) of each corpus."""
        names = sorted({corpus for corpus, _ in self.runs})
        return {
            name: np.stack([run for (corpus, _), run in self.runs.items() if corpus == name])
            for name in names
        }


def select(
    points: Sequence[Point],
    chance: Mapping[str, float],
    *,
    lower_is_better: Sequence[str] = (),
    bounds: Bounds | None = None,
) -> list[Statistics]:
    """The statistics of every task, sorted by name. DataError for scores that come twice, or runs without a common step."""
    if unknown := {*chance, *lower_is_better} - {one.task for one in points}:
        raise DataError(f"no score of `{min(unknown)}`", hint="name tasks as the scores do")
    found = []
    for name in sorted({one.task for one in points}):
        task = _Task(name, (one for one in points if one.task == name))
        sign = -1.0 if name in lower_is_better else 1.0
        found.append(_judged(name, task, sign, chance.get(name), bounds or Bounds()))
    return found


def _judged(name: str, task: _Task, sign: float, chance: float | None, bounds: Bounds) -> Statistics:
    corpora = task.by_corpus()
    final = {corpus: scores[:, -1] for corpus, scores in corpora.items()}
    noise = seed_noise(final)
    means = np.array([one.mean() for one in final.values()])
    best = float(max((sign * one).max() for one in final.values()))
    values = {
        "monotonicity": monotonicity(task.steps, [sign * run for run in task.runs.values()]),
        "snr": _ratio(abs(float(means.mean())), noise),
        "above_chance": None if chance is None else _ratio(best - sign * chance, noise),
        "ordering": ordering(np.stack([scores.mean(0) for scores in corpora.values()])),
    }
    asked = {
        "monotonicity": bounds.min_monotonicity, "snr": bounds.min_snr,
        "above_chance": None if chance is None else bounds.min_above_chance, "ordering": bounds.min_ordering,
    }  # fmt: skip
    why = [key for key, least in asked.items() if least is not None and not (values[key] or 0) >= least]
    return Statistics(task=name, why_not=tuple(why), **values)  # type: ignore[arg-type]


def _ratio(value: float, noise: float) -> float:
    return (
        value / noise
        if noise > 0
        else (math.nan if math.isnan(noise) or value == 0 else math.copysign(math.inf, value))
    )


def monotonicity(steps: Sequence[int], runs: Sequence[Floats]) -> float:
    """Mean Spearman correlation of score and step; a run that stays as it is counts 0. NaN for one step."""
    from scipy import stats

    if len(steps) < 2:
        return math.nan
    found = [0.0 if np.ptp(run) == 0 else float(stats.spearmanr(steps, run).statistic) for run in runs]
    return float(np.mean(found))


def seed_noise(final: Mapping[str, Floats]) -> float:
    """Standard deviation between seeds of one corpus, pooled over corpora; NaN where none has two seeds."""
    kept = [one for one in final.values() if len(one) > 1]
    df = sum(len(one) - 1 for one in kept)
    return math.sqrt(sum(float(((one - one.mean()) ** 2).sum()) for one in kept) / df) if df else math.nan


def ordering(scores: Floats) -> float:
    """Mean Kendall tau-b between the columns of `scores` (corpora, steps) that follow each other, from half on."""
    from scipy import stats

    late = scores[:, scores.shape[1] // 2 :]
    if scores.shape[0] < 2 or late.shape[1] < 2:
        return math.nan
    found = [stats.kendalltau(one, two).statistic for one, two in zip(late.T, late.T[1:], strict=False)]
    return float(np.mean(np.nan_to_num(found)))  # all corpora alike order nothing: 0


def decision_accuracy(small: Mapping[str, float], large: Mapping[str, float]) -> float:
    """Share of pairs of corpora that a small model orders as the large one does; a tie of either decides nothing: half.

    Paper: Magnusson et al. 2025 (DataDecide), arXiv:2504.11393, section 2.
    """
    names = sorted(small)
    if names != sorted(large) or len(names) < 2:
        raise DataError("the two sizes are to be scored on the same corpora, two or more")
    signs = [
        np.sign(small[a] - small[b]) * np.sign(large[a] - large[b])
        for i, a in enumerate(names)
        for b in names[i + 1 :]
    ]
    return float(np.mean([(one + 1) / 2 for one in signs]))
