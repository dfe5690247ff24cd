"""Verdicts of a study in words and numbers: a sentence for each, its interval, a difference for each seed."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

import msgspec

Values = Mapping[str, Mapping[str, Mapping[int, float]]]  # arm -> metric -> seed -> value


class Finding(msgspec.Struct, kw_only=True):
    """A verdict of `study.json`; null where an interval has no end, or nothing could be decided."""

    arm: str
    metric: str
    verdict: str  # better, worse, undecided
    difference: float | None
    low: float | None
    high: float | None
    alpha: float
    p: float | None
    smallest_detectable: float | None
    seeds: int
    control_seeds: int
    not_inferior: bool | None
    matching: str = "tokens"  # equal tokens, or equal raw pool
    unique_tokens: int = 0
    control_unique_tokens: int = 0
    note: str = ""


class Comparison(Finding, kw_only=True):
    """A verdict as the page shows it."""

    words: str  # the metric's name
    sentence: str
    lower_is_better: bool
    margin: float | None
    mean: float | None  # of the arm over its seeds
    control_mean: float | None
    # seed, arm minus control: with the same seed, else with the control's mean
    per_seed: list[tuple[int, float]]
    noise: tuple[float, float] | None = None  # interval of the items alone, no verdict


def metric_words(metric: str) -> str:
    """The name of a metric in a sentence."""
    if metric == "bpb":
        return "bits per byte"
    if metric.startswith("bpb:"):
        return f"bits per byte of {metric[4:]}"
    if metric.endswith(":gold_bpb"):
        return f"bits per byte of the right answers of {metric.removesuffix(':gold_bpb')}"
    if metric == "core":
        return "CORE"
    task, _, statistic = metric.partition(":")
    return f"{statistic.replace('_', ' ')} of {task}" if statistic else f"accuracy on {task}"


def lower_is_better(metric: str) -> bool:
    """Bits per byte fall, everything else rises."""
    return metric == "bpb" or metric.startswith("bpb:") or metric.endswith(":gold_bpb")


def comparisons(
    findings: Sequence[Finding],
    values: Mapping[str, Values],
    control: str,
    primary: str,
    margin: float | None,
) -> list[Comparison]:
    """Verdicts with what stands beside them on the page, `values` by matching; the primary metric first."""
    ordered = sorted(findings, key=lambda one: one.metric != primary)
    return [
        _comparison(one, values.get(one.matching, {}), control, margin if one.metric == primary else None)
        for one in ordered
    ]


def _comparison(one: Finding, values: Values, control: str, margin: float | None) -> Comparison:
    ours = values.get(one.arm, {}).get(one.metric, {})
    theirs = values.get(control, {}).get(one.metric, {})
    mean = fmean(theirs.values()) if theirs else None
    paired = set(ours) == set(theirs)
    per_seed = [(s, v - (theirs[s] if paired else mean)) for s, v in ours.items() if mean is not None]
    return Comparison(
        **{field: getattr(one, field) for field in one.__struct_fields__}, words=metric_words(one.metric),
        sentence=sentence(one), lower_is_better=lower_is_better(one.metric), margin=margin,
        mean=fmean(ours.values()) if ours else None, control_mean=mean, per_seed=per_seed,
    )  # fmt: skip


def sentence(one: Finding) -> str:
    """One verdict in plain words with its interval, as far as there is one."""
    matched = " at an equal raw pool" if one.matching == "pool" else ""
    seeds = (
        f"{one.seeds} seeds"
        if one.seeds == one.control_seeds
        else f"{one.seeds} seeds against {one.control_seeds}"
    )
    if one.difference is None or not math.isfinite(one.difference):
        return f"{one.arm}{matched}: undecided{f': {one.note}' if one.note else ''}."
    falls = lower_is_better(one.metric)
    side = "as good" if one.difference == 0 else "worse" if (one.difference > 0) == falls else "better"
    size = "" if one.difference == 0 else f" by {plain(abs(one.difference), one)}"
    told = f"{side}{size} {_unit(one.metric)}".rstrip()
    interval = (
        "no interval"
        if one.low is None or one.high is None
        else f"{plain(one.low, one)} to {plain(one.high, one)}"
    )
    if one.verdict != "undecided":
        return f"{one.arm}{matched}: {told} ({interval}), with {seeds}."
    sees = one.smallest_detectable
    seen = (
        "; no alpha is left to see anything with" if sees is None
        else f"; the smallest effect this plan could see was {plain(sees, one)}"
    )  # fmt: skip
    why = f" ({one.note})" if one.note else ""
    return f"{one.arm}{matched}: looks {told}, {interval}: undecided with {seeds}{seen}{why}."


def _unit(metric: str) -> str:
    return "bits per byte" if lower_is_better(metric) else f"in {metric_words(metric)}"


def plain(value: float, one: Finding) -> str:
    """A number with as many decimals as its interval bears, and no bound that is not 0 written as 0."""
    width = (one.high - one.low) if one.low is not None and one.high is not None else abs(one.difference or 1)
    decimals = 0 if width <= 0 else min(6, max(0, 1 - math.floor(math.log10(width))))
    least = min([abs(v) for v in (one.low, one.high, one.difference) if v], default=1.0)
    while decimals < 6 and round(least, decimals) == 0:
        decimals += 1
    return f"{value:.{decimals}f}".replace("-", "\u2212")
