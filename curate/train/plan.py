"""Which document comes next: shares of several token datasets, over the phases of a run.

Shares are of tokens that are learned (text and EOS), constant in time within a phase: the dataset that is furthest
behind its share gives the next document. Temperature: shares go as size^(1/T). UniMax (Chung et al. 2023): each dataset,
the smallest first, gets an equal part of what is left of the budget, but no more than its epochs. A dataset that comes
to its end begins anew, shuffled anew, as often as `max_epochs` allows.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from curate.errors import ConfigError, DataError
from curate.train.packing import Pick
from curate.train.tokens import Tokens

Positions = npt.NDArray[np.int64]


class Mix(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    weights: dict[str, float] = {}  # by the name of a dataset's folder; by size where none are given
    temperature: float = 1.0  # of shares by size; above 1 small datasets count more
    unimax: float | None = None  # epochs at which a dataset is capped, instead of a temperature
    max_epochs: float = 1.0  # more, and data repeat: to be asked for

    def __post_init__(self) -> None:
        if any(weight < 0 for weight in self.weights.values()):
            raise ConfigError("`mix.weights` are 0 or above")
        if self.temperature <= 0 or self.max_epochs <= 0 or (self.unimax is not None and self.unimax <= 0):
            raise ConfigError("`mix.temperature`, `mix.unimax` and `mix.max_epochs` are above 0")
        if sum([bool(self.weights), self.temperature != 1, self.unimax is not None]) > 1:
            raise ConfigError("`mix` takes one of `weights`, `temperature` and `unimax`")


class Phase(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From `start` on. Documents that wait in best_fit's buffer are still those of the phase before."""

    start: float  # share of the steps that are done when it begins, 0-1
    weights: dict[str, float] = {}  # those of the mix where none are given
    metadata: Literal["prefix", "none"] | None = None  # the run's, where it is not given


class Order(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Documents ascending by a number, for a curriculum; it is the same in every epoch."""

    by: str  # a column that `curate tokenize --keep` kept
    window: int = 1000  # documents that are shuffled among themselves


def unimax(sizes: Sequence[int], budget: float, epochs: float) -> list[float]:
    """Tokens of each dataset (n,); ConfigError where all of them, `epochs` times over, are less than the budget."""
    if sum(sizes) * epochs < budget:
        raise ConfigError(
            f"UniMax: {epochs:g} epochs of all data are {sum(sizes) * epochs:,.0f} tokens, the budget is {budget:,.0f}",
            hint="raise `mix.unimax`, or lower `tokens`",
        )
    taken, left = [0.0] * len(sizes), budget
    order = sorted(range(len(sizes)), key=lambda i: sizes[i])
    for done, i in enumerate(order):
        taken[i] = min(left / (len(sizes) - done), epochs * sizes[i])
        left -= taken[i]
    return taken


def shares(names: Sequence[str], sizes: Sequence[int], mix: Mix, budget: float) -> list[float]:
    """Share of each dataset (n,), adding up to 1."""
    if mix.weights:
        return _weighed(names, mix.weights)
    if mix.unimax is not None:
        parts = unimax(sizes, budget, mix.unimax)
    else:
        parts = [size ** (1 / mix.temperature) for size in sizes]
    return [part / sum(parts) for part in parts]


def _weighed(names: Sequence[str], weights: Mapping[str, float]) -> list[float]:
    strange = [*(weights.keys() - set(names)), *(set(names) - weights.keys())]
    if strange or not sum(weights.values()):
        raise ConfigError(
            f"`weights` name {', '.join(weights)}; the datasets are {', '.join(names)}",
            hint="give each dataset a weight, one of them above 0",
        )
    return [weights[name] / sum(weights.values()) for name in names]


def names_of(datasets: Sequence[Tokens]) -> list[str]:
    """What `weights` call the datasets: their folders' names."""
    names = [one.folder.resolve().name for one in datasets]
    if len(set(names)) < len(names):
        raise ConfigError(f"two datasets have one name: {', '.join(names)}", hint="rename a folder")
    return names


class Plan(msgspec.Struct, frozen=True):
    """Shares and metadata by phase; the first phase begins at 0."""

    names: list[str]
    starts: list[float]  # (phases,)
    shares: list[list[float]]  # (phases, datasets)
    metadata: list[bool]  # (phases,)
    max_epochs: float


def plan(
    datasets: Sequence[Tokens], chosen: Sequence[Positions], mix: Mix, phases: Sequence[Phase], metadata: str,
    budget: int, count: str = "all",
) -> Plan:  # fmt: skip
    """Resolve a mix; an error where it does not fit the datasets, or these hold fewer tokens than the budget.

    `chosen`: positions of the documents that each dataset gives in an epoch; `count`: all, or loss, tokens that the
    budget counts.
    """
    names = names_of(datasets)
    sizes = [int(learned(one)[some].sum()) for one, some in zip(datasets, chosen, strict=True)]
    for name, size in zip(names, sizes, strict=True):
        if not size:
            raise DataError(f"the dataset `{name}` holds no text", hint="leave it out")
    common = shares(names, sizes, mix, budget)
    pieces = {0.0: (common, metadata == "prefix")}
    for phase in phases:
        if not max(pieces) <= phase.start < 1:
            raise ConfigError("`phases` start at ascending shares of the run, from 0 to below 1")
        by_name = _weighed(names, phase.weights) if phase.weights else common
        pieces[phase.start] = by_name, (phase.metadata or metadata) == "prefix"
    found = Plan(
        names, list(pieces), [part for part, _ in pieces.values()], [meta for _, meta in pieces.values()],
        max(mix.max_epochs, mix.unimax or 0),
    )  # fmt: skip
    for i, (one, some) in enumerate(zip(datasets, chosen, strict=True)):
        each = learned(one)
        if count == "all":  # start and EOS too
            each = np.where(
                each > 0, 2 + (one.lengths if all(found.metadata) else one.lengths - one.prefix), 0
            )
        _check_budget(found, i, int(each[some].sum()), budget)
    return found


def learned(tokens: Tokens) -> npt.NDArray[np.int64]:
    """Tokens of each document that bear loss (documents,): its text and EOS; 0 where there is no text."""
    text = tokens.lengths - tokens.prefix
    return np.where(text > 0, text + 1, 0)


def _check_budget(plan: Plan, which: int, there: int, budget: int) -> None:
    ends = [*plan.starts[1:], 1.0]
    share = sum(
        (end - start) * part[which] for start, end, part in zip(plan.starts, ends, plan.shares, strict=True)
    )
    asked = budget * share
    if asked > there * plan.max_epochs:
        raise DataError(
            f"`{plan.names[which]}` holds {there:,} tokens, and {asked:,.0f} are asked for, {asked / there:.2f} epochs",
            hint=f"at most `--tokens {int(there * plan.max_epochs / share)}`, more data, "
            f"or more repetition: `--set mix.max_epochs={np.ceil(asked / there):g}`",
        )


class Stream(Iterator[Pick]):
    """Documents in the order of a plan. `progress`, which the trainer sets, says which phase it is."""

    def __init__(
        self, plan: Plan, datasets: Sequence[Tokens],
        order: Callable[[Tokens, int], Positions], state: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """`order` gives the positions of a dataset's documents (chosen,) in an epoch. Ends where a dataset does."""
        self._plan, self._datasets, self._order = plan, datasets, order
        self._learned = [learned(one) for one in datasets]
        self.progress = 0.0
        state = state or {}
        none = [0] * len(datasets)
        self._phase: int = state.get("phase", 0)
        self._epoch: list[int] = list(state.get("epoch", none))
        self._at: list[int] = list(state.get("at", none))
        self._taken: list[int] = list(state.get("taken", none))  # learned tokens in this phase
        self._orders = [order(one, epoch) for one, epoch in zip(datasets, self._epoch, strict=True)]
        self._there = [
            int(tokens.sum() if len(chosen) == len(tokens) else tokens[chosen].sum())
            for tokens, chosen in zip(self._learned, self._orders, strict=True)
        ]

    def state(self) -> dict[str, Any]:
        """Where it is; JSON as it stands."""
        return {"phase": self._phase, "epoch": self._epoch[:], "at": self._at[:], "taken": self._taken[:]}

    def epochs(self, trained: Sequence[int]) -> dict[str, float]:
        """How often each dataset was trained on, in part too; `trained` (datasets,) is in learned tokens."""
        return {
            name: round(count / max(1, there), 4)
            for name, count, there in zip(self._plan.names, trained, self._there, strict=True)
        }

    def __next__(self) -> Pick:
        phase = sum(start <= self.progress + 1e-12 for start in self._plan.starts) - 1
        if phase > self._phase:
            self._phase, self._taken = phase, [0] * len(self._taken)
        given = self._plan.shares[self._phase]
        total = sum(self._taken) + 1
        which = max(
            range(len(given)), key=lambda i: given[i] * total - self._taken[i] if given[i] else -np.inf
        )
        document = self._next_of(which)
        self._taken[which] += int(self._learned[which][document])
        return Pick(which, document, self._plan.metadata[self._phase], self._epoch[which] > 0)

    def _next_of(self, which: int) -> int:
        if self._at[which] == len(self._orders[which]):
            self._epoch[which], self._at[which] = self._epoch[which] + 1, 0
            self._orders[which] = self._order(self._datasets[which], self._epoch[which])
        order = self._orders[which]
        if self._epoch[which] + self._at[which] / len(order) >= self._plan.max_epochs:
            raise StopIteration
        self._at[which] += 1
        return int(order[self._at[which] - 1])
