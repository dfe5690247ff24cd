"""Learning rates over training, each a closed form.

`ratio(n, total)` is the share of the peak rate that step n takes. Steps count from 1 to total, so the last step takes
the end value exactly; n = 0 is where a curve begins, and no step takes it. A length is a number of steps, or below 1 a
share of all steps.
"""

import math
from typing import Literal

import msgspec

from curate.errors import ConfigError

Length = int | float


class _Curve(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    warmup: Length = 0.02  # steps from `start_ratio` up to the peak

    def joints(self, total: int) -> dict[str, int]:
        """Steps at which one piece of the curve ends and the next begins."""
        return {"warmup": steps(self.warmup, total)}

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if name.endswith("_ratio") and value is not None and not 0 <= value <= 1:
                raise ConfigError(f"`{name}` is a share of the peak rate, from 0 to 1")
            if name in ("warmup", "decay", "cooldown", "anneal") and value < 0:
                raise ConfigError(f"`{name}` is a number of steps, or below 1 a share of all steps")


class Constant(_Curve, frozen=True, kw_only=True, tag="constant"):
    """The peak rate, after a warm-up."""

    def ratio(self, n: int, total: int) -> float:
        return min(1.0, _warm(n, steps(self.warmup, total)))


class Cosine(_Curve, frozen=True, kw_only=True, tag="cosine"):
    """Half a cosine from the peak down to the end."""

    final_ratio: float = 0.1  # of the last step

    def ratio(self, n: int, total: int) -> float:
        warm = steps(self.warmup, total)
        if n < warm:
            return _warm(n, warm)
        return _cosine(1.0, self.final_ratio, _part(n, warm, total))


class Rewarm(_Curve, frozen=True, kw_only=True, tag="rewarm"):
    """From the rate where another run ended up to the peak again, then a cosine (Ibrahim et al. 2024)."""

    start_ratio: float = 0.1  # where the warm-up begins: the end of the run before
    final_ratio: float = 0.1

    def ratio(self, n: int, total: int) -> float:
        warm = steps(self.warmup, total)
        if n < warm:
            return self.start_ratio + (1 - self.start_ratio) * _warm(n, warm)
        return _cosine(1.0, self.final_ratio, _part(n, warm, total))


class Wsd(_Curve, frozen=True, kw_only=True, tag="wsd"):
    """Warm-up, stable, decay. `exponential` halves at equal distances: ProX has 0.5^(4x), which ends at 1/16."""

    decay: Length = 0.2  # last steps
    shape: Literal["linear", "1-sqrt", "exponential"] = "linear"
    final_ratio: float | None = None  # 0, or 1/16 where `shape` is exponential

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shape == "exponential" and self.final_ratio == 0:
            raise ConfigError("an exponential decay never reaches 0", hint="give `final_ratio`, as in 0.0625")

    def joints(self, total: int) -> dict[str, int]:
        return {"warmup": steps(self.warmup, total), "decay": total - steps(self.decay, total)}

    def ratio(self, n: int, total: int) -> float:
        joints = self.joints(total)
        if n < joints["decay"] or joints["decay"] == total:
            return min(1.0, _warm(n, joints["warmup"]))
        x = _part(n, joints["decay"], total)
        return _decayed(self.shape, self.final_ratio, x)


class Moderate(Wsd, frozen=True, kw_only=True, tag="moderate"):
    """A decay that stops at a third of the peak, made to be averaged: late data still count (a quality curriculum)."""

    shape: Literal["linear", "1-sqrt", "exponential"] = "1-sqrt"
    final_ratio: float | None = 1 / 3


class Infinite(_Curve, frozen=True, kw_only=True, tag="infinite"):
    """Warm-up N_w, cosine to a constant rate over N_c, constant until N_d, exponential anneal over N_a.

    New data begin from the checkpoint at N_d, at the constant rate: there is no warming up again. N_d = total - N_a.
    """

    cooldown: Length = 0.2  # N_c
    constant_ratio: float = 0.55  # eta_c / eta_max
    anneal: Length = 0.1  # N_a; 0 leaves the end to a later run
    final_ratio: float = 0.1  # eta_min / eta_max

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.constant_ratio or not self.final_ratio:
            raise ConfigError("`constant_ratio` and `final_ratio` are above 0: the anneal is exponential")

    def joints(self, total: int) -> dict[str, int]:
        warm = steps(self.warmup, total)
        anneal = total - steps(self.anneal, total)
        return {"warmup": warm, "cooldown": warm + steps(self.cooldown, total), "anneal": anneal}

    def ratio(self, n: int, total: int) -> float:
        joints = self.joints(total)
        if n < joints["warmup"]:
            return _warm(n, joints["warmup"])
        if n < joints["cooldown"]:
            return _cosine(1.0, self.constant_ratio, _part(n, joints["warmup"], joints["cooldown"]))
        if n <= joints["anneal"]:
            return self.constant_ratio
        x = _part(n, joints["anneal"], total)
        return self.constant_ratio * math.pow(self.final_ratio / self.constant_ratio, x)


Schedule = Constant | Cosine | Rewarm | Wsd | Moderate | Infinite


def steps(length: Length, total: int) -> int:
    """Steps of a length: itself, or below 1 its share of all steps, rounded."""
    return round(length * total) if length < 1 else int(length)


def check(schedule: Schedule, total: int) -> None:
    """ConfigError where the pieces of a curve do not fit into so many steps."""
    joints = list(schedule.joints(total).items())
    for (before, start), (name, end) in zip(joints, [*joints[1:], ("end", total)], strict=True):
        if end < start:
            raise ConfigError(
                f"`schedule`: {before} ends at step {start:,}, after {name} at step {end:,}",
                hint="train on more tokens, or make the pieces shorter",
            )


def _part(n: int, start: int, end: int) -> float:
    return (n - start) / (end - start) if end > start else 1.0


def _warm(n: int, length: int) -> float:
    return n / length if length else 1.0


def _cosine(high: float, low: float, x: float) -> float:
    return low + (high - low) / 2 * (1 + math.cos(math.pi * x))


def _decayed(shape: str, final: float | None, x: float) -> float:
    if shape == "exponential":
        return math.pow(1 / 16 if final is None else final, x)
    return 1 - (1 - (final or 0.0)) * (x if shape == "linear" else math.sqrt(x))
