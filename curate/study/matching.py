"""What is held equal between arms, and what each arm then trains on.

tokens  equal loss-bearing tokens, none of them twice: an arm with fewer unique tokens than the budget is refused
pool    the raw text that each arm is made of is equal, so an arm that keeps less of it repeats what it keeps: as often in
        the small run as it would in the large one. Of an arm with yield y = tokens kept / tokens of the pool, the large run
        reads e = tokens / (raw_pool y) epochs; the small one then draws tokens / e of its tokens, other ones by seed. Where e
        is 1 or less nothing is repeated, and the runs are those of `tokens`
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from curate.errors import ConfigError
from curate.study import kinds
from curate.study.plan import Study, Target
from curate.train.order import hashes
from curate.train.plan import learned
from curate.train.tokens import Tokens


class Pool(msgspec.Struct, frozen=True):
    """An arm's share of the raw pool."""

    tokens: int  # loss-bearing, of the arm's corpus
    kept: float  # of the raw pool's tokens
    epochs: float  # of the large run


def pools(study: Study, folder: Path) -> dict[str, Pool]:
    """By arm; {} for a study without a target. Opens the tokens of all arms."""
    if study.target is None:
        return {}
    sizes = {
        arm: unique([Tokens.open(path) for path in kinds.data(study, folder, arm)]) for arm in study.arms
    }
    return {arm: of_size(study.target, size, sizes) for arm, size in sizes.items()}


def of_size(target: Target, size: int, sizes: Mapping[str, int]) -> Pool:
    """Of an arm with so many tokens; `sizes` by arm, one of which may be the pool."""
    raw = sizes[target.pool] if isinstance(target.pool, str) else target.pool
    kept = size / raw
    return Pool(size, kept, target.tokens / (target.raw_pool * kept) if kept else math.inf)


def unique(datasets: Sequence[Tokens]) -> int:
    """Loss-bearing tokens."""
    return sum(int(learned(one).sum()) for one in datasets)


def repeated(keys: Mapping[str, Any], budget: int, pool: Pool, datasets: Sequence[Tokens]) -> dict[str, Any]:
    """Keys of a training at equal raw pool, from those at equal tokens."""
    if pool.epochs <= 1:
        return dict(keys)
    share = share_of(datasets, round(budget / pool.epochs), keys["seed"])
    return {
        **keys,
        "subset": {"share": share, "seed": keys["seed"]},
        # a bound, not the number: documents are whole, and packing may discard some
        "mix": {**keys.get("mix", {}), "max_epochs": math.ceil(2 * pool.epochs)},
    }


def share_of(datasets: Sequence[Tokens], wanted: int, seed: int) -> float:
    """The smallest share of the documents, of all with a hash below it, that holds so many loss-bearing tokens.

    ConfigError where all of them hold fewer.
    """
    drawn = np.concatenate([hashes(one.keys, seed, "subset") for one in datasets])
    order = np.argsort(drawn, kind="stable")
    held = np.cumsum(np.concatenate([learned(one) for one in datasets])[order])
    at = int(np.searchsorted(held, max(1, wanted)))
    if at == len(held):
        raise ConfigError(
            f"{int(held[-1]):,} unique tokens are fewer than the {wanted:,} that the target's epochs leave",
            hint="train on fewer tokens, or make a larger corpus",
        )
    return min(1.0, math.nextafter((int(drawn[order[at]]) + 1) / 2.0**64, 2.0))
