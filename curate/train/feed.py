"""Token datasets as steps of a run see them: sequences, and a position to go on from."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from curate.errors import DataError
from curate.train.order import chosen, order, order_by
from curate.train.packing import Packed, Packer
from curate.train.plan import Plan, Positions, Stream, plan
from curate.train.settings import Resolved
from curate.train.tokens import Tokens

_EPOCH_SEEDS = 1_000_003  # apart, so that the second epoch of one seed is not the first of the next


def planned(datasets: Sequence[Tokens], settings: Resolved) -> Plan:
    """What the settings ask of the data; an error where that is not there."""
    taken = [np.concatenate([positions for _, positions in chosen(one, settings.subset)]) for one in datasets]
    if settings.order is not None:
        for one in datasets:
            one.column(settings.order.by)
    return plan(
        datasets, taken, settings.mix, settings.phases, settings.metadata, settings.tokens, settings.count
    )


class Feed:
    """Sequences of some datasets, in the order and the shares of the settings."""

    def __init__(self, datasets: Sequence[Tokens], plan: Plan, settings: Resolved, scratch: Path) -> None:
        """`scratch` is a folder for orders, made again when it is gone."""
        self._datasets, self._settings, self._scratch = datasets, settings, scratch
        self.plan = plan
        self.steps = settings.steps if settings.count == "all" else self._steps_of_labels()
        if settings.packing == "complete" and settings.count == "all":
            self._check_length()
        self.go_on({})

    def go_on(self, state: dict[str, Any]) -> None:
        """Take up a position; {} is the begin."""
        settings = self._settings
        self._stream = Stream(self.plan, self._datasets, self._ordered, state.get("stream"))
        self._packer = Packer(
            self._datasets, self._stream, context=settings.context, method=settings.packing, shuffle=settings.shuffle,
            seed=settings.seed, state=state.get("packer"),
        )  # fmt: skip

    def _check_length(self) -> None:
        """DataError where so much is discarded that the data do not last; only lengths are read."""
        settings = self._settings
        self.go_on({})
        for i in range(settings.steps * settings.batch):
            self._look_to(i // settings.batch / settings.steps)
            if not self._packer.skip():
                raise DataError(
                    f"the data come to their end after {i:,} sequences of {settings.steps * settings.batch:,}: "
                    f"`packing: complete` discards {self._packer.counts.discarded:,} tokens",
                    hint=f"at most `--tokens {i * settings.context}`, another `packing`, or more `mix.max_epochs`",
                )

    def _steps_of_labels(self) -> int:
        """Whole steps in a budget that counts tokens in the loss; only lengths are read. DataError without so many."""
        settings, steps = self._settings, 0
        self.go_on({})
        counts = self._packer.counts
        while True:
            self._look_to(counts.loss_tokens / settings.tokens)
            whole = all(self._packer.skip() for _ in range(settings.batch))
            if counts.loss_tokens > settings.tokens or (counts.loss_tokens == settings.tokens and not whole):
                return steps
            if not whole:
                raise DataError(
                    f"the data come to their end after {counts.loss_tokens:,} tokens in the loss of {settings.tokens:,}: "
                    f"packing discards {counts.discarded:,}",
                    hint=f"at most `--tokens {counts.loss_tokens}`, another `packing`, or more `mix.max_epochs`",
                )
            steps += 1

    def state(self) -> dict[str, Any]:
        """The position; JSON as it stands."""
        return {"stream": self._stream.state(), "packer": self._packer.state()}

    def take(self, sequences: int, progress: float) -> list[Packed]:
        """The next sequences; `progress` is the share of the budget that is used. DataError where there are no more."""
        self._look_to(progress)
        taken = list(islice(self._packer, sequences))
        if len(taken) < sequences:
            raise DataError(
                f"the data came to its end at {progress:.1%} of the run: packing discarded {self._packer.counts.discarded:,} tokens",
                hint="train on fewer tokens, or raise `mix.max_epochs`",
            )
        return taken

    def _look_to(self, progress: float) -> None:
        """A document that is read now comes when the sequences that wait have come."""
        settings = self._settings
        self._stream.progress = progress + (settings.shuffle - 1) / (settings.steps * settings.batch)

    def realised(self) -> dict[str, Any]:
        """What was trained on so far: share of each dataset in the loss-bearing tokens, unique tokens, epochs."""
        counts = self._packer.counts
        total = max(1, sum(counts.by_dataset))
        return {
            "shares": dict(
                zip(self.plan.names, (round(n / total, 6) for n in counts.by_dataset), strict=True)
            ),
            "loss_tokens": counts.loss_tokens,
            "unique_tokens": counts.unique_tokens,
            "discarded_tokens": counts.discarded,
            "fill_rate": round(counts.fill_rate(self._settings.context), 6),
            "epochs": self._stream.epochs(counts.by_dataset),
        }

    def _ordered(self, tokens: Tokens, epoch: int) -> Positions:
        settings = self._settings
        if settings.order is not None:
            by = settings.order
            return order_by(tokens, by.by, by.window, settings.seed, self._scratch, settings.subset)
        return order(tokens, settings.seed + epoch * _EPOCH_SEEDS, self._scratch, settings.subset)
