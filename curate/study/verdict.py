"""Is an arm better than the control, worse, or is it undecided? The seed is the unit.

Values  one number per seed and arm, such as bits per byte: whatever varies with a seed (subset, order, init) is in it
Paired  arm and control with the same seeds: t interval on per-seed differences, n - 1 degrees of freedom
Pooled  a control with more seeds than the arm: difference of means, variance pooled within both, n + m - 2
Store   the variance of earlier runs of the same metric, size and budget is pooled in with its degrees of freedom
Many    Holm 1979 over arms, metrics and matchings: an interval is as wide as the step its comparison was judged at
Lost    a seed whose training diverged is missing because of its arm: what is left of the arm is no sample of it, and no
        comparison with it is decided; it still counts among the many
Looks   a plan names its seeds; judged after n of N it spends alpha n / N less what was spent before (a union bound), so
        looking often costs power and never gives false verdicts
Apart   resampling items says how well the items measure these two models, and nothing of another seed (`items`):
        percentile intervals over three seeds gave 25% false verdicts

Better and worse mean that the interval excludes 0; the margin is for planning and for "not inferior" alone.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import product
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from curate.errors import ConfigError, DataError

Floats = npt.NDArray[np.float64]
Word = Literal["better", "worse", "undecided"]
Matching = Literal["tokens", "pool"]  # equal tokens without repetition, equal raw pool with repetition
Values = Mapping[str, Mapping[str, Mapping[int, float]]]  # arm -> metric -> seed -> value
POWER = 0.8


class Spread(msgspec.Struct, frozen=True):
    """Variance between seeds of one arm, and the degrees of freedom it was estimated with."""

    variance: float
    df: int

    @classmethod
    def of(cls, arms: Sequence[Sequence[float]]) -> "Spread":
        """Pooled over arms; an arm of one seed says nothing."""
        kept = [np.asarray(arm, np.float64) for arm in arms if len(arm) > 1]
        df = sum(len(arm) - 1 for arm in kept)
        squares = sum(float(((arm - arm.mean()) ** 2).sum()) for arm in kept)
        return cls(squares / df if df else 0.0, df)


class Difference(msgspec.Struct, frozen=True):
    """Arm minus control, before any correction."""

    mean: float
    se: float  # standard error of the mean
    df: int
    paired: bool

    def p(self) -> float:
        """Two-sided; 1 where the difference is 0 and does not vary."""
        from scipy import stats

        if self.se == 0:
            return 1.0 if self.mean == 0 else 0.0
        return float(2 * stats.t.sf(abs(self.mean) / self.se, self.df))

    def interval(self, alpha: float) -> tuple[float, float]:
        """The t interval of level 1 - alpha."""
        from scipy import stats

        if alpha <= 0:
            return -np.inf, np.inf
        half = float(stats.t.ppf(1 - alpha / 2, self.df)) * self.se
        return self.mean - half, self.mean + half

    def detectable(self, alpha: float, power: float = POWER) -> float:
        """The smallest true difference that such a comparison calls with `power`."""
        return detectable(self.se, self.df, alpha, power)


class Verdict(msgspec.Struct, frozen=True):
    """One arm and metric against the control."""

    arm: str
    metric: str
    verdict: Word
    difference: float  # arm minus control, in the metric's unit; not a number where a seed was lost
    low: float
    high: float  # the interval of level 1 - alpha; null in JSON where it has no end
    alpha: float  # what this comparison was judged at, after Holm and looks
    p: float  # before any correction
    smallest_detectable: float  # with power .8 at that alpha
    seeds: int
    control_seeds: int
    not_inferior: bool | None  # the interval lies above minus the margin; null without a margin
    matching: Matching = "tokens"
    unique_tokens: int = 0  # loss-bearing ones of a run of the arm, the mean over its seeds
    control_unique_tokens: int = 0
    note: str = ""  # why nothing can be decided


def difference(
    arm: Mapping[int, float], control: Mapping[int, float], store: Spread = Spread(0.0, 0)
) -> Difference:
    """Arm minus control over seeds. DataError where nothing says how much seeds vary.

    `arm` and `control` give a value by seed. With the same seeds in both the differences are paired.
    """
    a, c = np.array(list(arm.values()), np.float64), np.array(list(control.values()), np.float64)
    paired = set(arm) == set(control)
    if paired:
        d = np.array([arm[seed] - control[seed] for seed in arm], np.float64)
        own = Spread.of([d.tolist()])
        earlier, per_seed = 2 * store.variance, 1 / len(d)  # of a difference of two independent runs
        mean = float(d.mean())
    else:
        own = Spread.of([a.tolist(), c.tolist()])
        earlier, per_seed = store.variance, 1 / len(a) + 1 / len(c)
        mean = float(a.mean() - c.mean())
    df = own.df + store.df
    if df < 1:
        raise DataError(
            "one seed an arm says nothing of seeds", hint="two seeds at least, or a store of runs"
        )
    variance = (own.df * own.variance + store.df * earlier) / df
    return Difference(mean, float(np.sqrt(variance * per_seed)), df, paired)


def alpha_left(seeds: int, planned: int, looked_at: Sequence[int], alpha: float = 0.05) -> float:
    """What a look after `seeds` of `planned` may spend, given the seeds at earlier looks; 0 when all is spent."""
    before = max(looked_at, default=0)
    return alpha * max(0, min(seeds, planned) - before) / planned


def holm(p: Sequence[float], alpha: float) -> list[tuple[bool, float]]:
    """(is rejected, the alpha it was judged at) of each comparison, in the order given."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    judged: list[tuple[bool, float]] = [(False, 0.0)] * len(p)
    open_, level = True, alpha
    for rank, i in enumerate(order):
        if open_:
            level = alpha / (len(p) - rank)
            open_ = p[i] < level
        judged[i] = (open_, level)
    return judged


def verdicts(
    matched: Mapping[Matching, Values],
    control: str,
    higher_is_better: Mapping[str, bool],
    *,
    alpha: float = 0.05,
    stores: Mapping[tuple[Matching, str], Spread] | None = None,
    margins: Mapping[str, float] | None = None,
    lost: Mapping[tuple[Matching, str], str] | None = None,
) -> list[Verdict]:
    """A verdict per matching, arm and metric; `matched` is the values of each matching, the control's among them.

    `stores` is by matching and metric; `lost` says of an arm in a matching why seeds of it are missing. ConfigError for a
    control that is not there; DataError for a metric that an arm has not.
    """
    stores, margins, lost = stores or {}, margins or {}, lost or {}
    names = {name: None for arms in matched.values() for name in arms}
    if control not in names:
        raise ConfigError(f"no arm `{control}` to compare with", hint=f"arms: {', '.join(names)}")
    asked = [key for key in product(matched, names, higher_is_better) if key[1] != control]
    notes = {key: lost.get((key[0], key[1])) or lost.get((key[0], control), "") for key in asked}
    found = {
        key: _compared(matched[key[0]], key[1], control, key[2], stores.get((key[0], key[2]), Spread(0.0, 0)))
        for key in asked if not notes[key]
    }  # fmt: skip
    judged = holm([found[key].p() if key in found else 1.0 for key in asked], alpha)
    answers = []
    for key, (rejected, level) in zip(asked, judged, strict=True):
        matching, arm, metric = key
        of = {
            "matching": matching, "arm": arm, "metric": metric, "alpha": level,
            "seeds": len(matched[matching][arm].get(metric, ())),
            "control_seeds": len(matched[matching][control].get(metric, ())),
        }  # fmt: skip
        if key in found:
            answers.append(_verdict(of, found[key], rejected, higher_is_better[metric], margins.get(metric)))
        else:
            answers.append(_undecided(of, margins.get(metric), notes[key]))
    return answers


def _compared(arms: Values, arm: str, control: str, metric: str, store: Spread) -> Difference:
    for name in (arm, control):
        if not arms[name].get(metric):
            raise DataError(f"arm `{name}` has no `{metric}`", hint="evaluate it with the study's suite")
    return difference(arms[arm][metric], arms[control][metric], store)


def _verdict(
    of: Mapping[str, Any], found: Difference, rejected: bool, higher: bool, margin: float | None
) -> Verdict:
    low, high = found.interval(of["alpha"])
    word: Word = "undecided"
    if rejected:
        word = "better" if (found.mean > 0) == higher else "worse"
    worst = low if higher else -high
    return Verdict(
        **of, verdict=word, difference=found.mean, low=low, high=high, p=found.p(),
        smallest_detectable=found.detectable(of["alpha"]), not_inferior=None if margin is None else worst > -margin,
    )  # fmt: skip


def _undecided(of: Mapping[str, Any], margin: float | None, note: str) -> Verdict:
    return Verdict(
        **of, verdict="undecided", difference=np.nan, low=-np.inf, high=np.inf, p=1.0, smallest_detectable=np.inf,
        not_inferior=None if margin is None else False, note=note,
    )  # fmt: skip


def detectable(se: float, df: int, alpha: float, power: float = POWER) -> float:
    """The smallest true difference that a two-sided t test of this standard error calls with `power`; inf at alpha 0."""
    if alpha <= 0 or se == 0:
        return float("inf") if alpha <= 0 else 0.0
    return _noncentrality(df, alpha, power) * se


@cache
def _noncentrality(df: int, alpha: float, power: float) -> float:
    """Of the noncentral t whose power is `power`, averaged over quantiles of the standard error's estimate."""
    from scipy import optimize, stats

    spread = np.sqrt(stats.chi2.ppf((np.arange(4000) + 0.5) / 4000, df) / df)
    bound = stats.t.ppf(1 - alpha / 2, df) * spread

    def short(ratio: float) -> float:
        return float((stats.norm.sf(bound - ratio) + stats.norm.cdf(-bound - ratio)).mean()) - power

    return float(optimize.brentq(short, 0, float(bound.max()) + 10))


def plan_sees(
    sigma: float, seeds: int, control_seeds: int, comparisons: int, store_df: int = 0, alpha: float = 0.05
) -> float:
    """The smallest difference that a plan calls with power .8, at Holm's first step; sigma is between seeds of an arm."""
    paired = seeds == control_seeds
    df = (seeds - 1 if paired else seeds + control_seeds - 2) + store_df
    if df < 1:
        return float("inf")
    se = sigma * np.sqrt(1 / seeds + 1 / control_seeds)
    return detectable(float(se), df, alpha / comparisons)


def control_seeds(seeds: int, arms: int) -> int:
    """Seeds of the control where `arms` are compared with it: sqrt(arms) times theirs (Dunnett 1955)."""
    return max(seeds, round(seeds * float(np.sqrt(arms))))
