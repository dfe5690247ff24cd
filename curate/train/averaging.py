"""Averages of weights over checkpoints, in fp32.

sma  every checkpoint counts the same
ema  avg <- alpha * avg + (1 - alpha) * w, oldest first: the newest counts 1 - alpha. (Papers leave open which of the
     two alpha belongs to; `alpha: 0.8` is the other reading.)
wma  the i-th oldest of k counts i / (1 + ... + k)
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from curate.errors import ConfigError

if TYPE_CHECKING:
    import torch


class Average(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: Literal["ema", "sma", "wma"] = "ema"
    last: int = 6  # checkpoints
    alpha: float = 0.2  # of ema: share of the average so far

    def __post_init__(self) -> None:
        if self.last < 2:
            raise ConfigError("`average.last` must be 2 or more checkpoints")
        if not 0 <= self.alpha < 1:
            raise ConfigError("`average.alpha` is a share from 0 to 1")


def coefficients(average: Average, k: int) -> list[float]:
    """Weight of each of k checkpoints (k,), oldest first; they add up to 1."""
    if average.kind == "sma":
        return [1 / k] * k
    if average.kind == "wma":
        return [2 * i / (k * (k + 1)) for i in range(1, k + 1)]
    a = average.alpha
    return [a ** (k - 1), *((1 - a) * a ** (k - i) for i in range(2, k + 1))]


def averaged(
    states: Iterable[dict[str, "torch.Tensor"]], weights: Sequence[float]
) -> dict[str, "torch.Tensor"]:
    """Weighted sum of state dicts, fp32; one is held in memory beside the sum."""
    import torch

    total: dict[str, torch.Tensor] = {}
    for state, weight in zip(states, weights, strict=True):
        for name, tensor in state.items():
            part = tensor.to(torch.float32) * weight
            total[name] = total[name] + part if name in total else part
    return total


def average_folders(folders: Sequence[Path], average: Average) -> dict[str, "torch.Tensor"]:
    """The average over hub-format checkpoint folders, oldest first."""
    from safetensors.torch import load_file

    states = (load_file(folder / "model.safetensors") for folder in folders)
    return averaged(states, coefficients(average, len(folders)))
