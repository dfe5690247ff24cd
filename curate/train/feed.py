"""Token datasets as steps of a run see them: sequences, and a position to go on from."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from curate.errors import DataError
from curate.train.order import order, order_by
from curate.train.packing import Packed, Packer
from curate.train.plan import Positions, Stream, learned, plan
from curate.train.settings import Resolved
from curate.train.tokens import Tokens

_EPOCH_SEEDS = 1_000_003  # apart, so that the second epoch of one seed is not the first of the next


class Feed:
    """Sequences of some datasets, in the order and the shares of the settings."""

    def __init__(self, datasets: Sequence[Tokens], settings: Resolved, scratch: Path) -> None:
        """Checks what the settings ask of the data. `scratch` is a folder for orders, made again when it is gone."""
        self._datasets, self._settings, self._scratch = datasets, settings, scratch
        chosen = [self._ordered(one, 0) for one in datasets]
        self.plan = plan(datasets, chosen, settings.mix, settings.phases, settings.metadata, settings.tokens)
        self.go_on({})

    def go_on(self, state: dict[str, Any]) -> None:
        """Take up a position; {} is the begin."""
        settings = self._settings
        self._stream = Stream(self.plan, self._datasets, self._ordered, state.get("stream"))
        self._packer = Packer(
            self._datasets, self._stream, context=settings.context, method=settings.packing,
            state=state.get("packer"),
        )  # fmt: skip

    def state(self) -> dict[str, Any]:
        """The position; JSON as it stands."""
        return {"stream": self._stream.state(), "packer": self._packer.state()}

    def take(self, sequences: int, progress: float) -> list[Packed]:
        """The next sequences; `progress` is the share of the run that is done. DataError where there are no more."""
        self._stream.progress = progress
        taken = list(islice(self._packer, sequences))
        if len(taken) < sequences:
            raise DataError(
                f"the data came to its end at {progress:.1%} of the run: packing discarded {self._packer.counts.discarded:,} tokens",
                hint="train on fewer tokens, or raise `mix.max_epochs`",
            )
        return taken

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
            "epochs": self._stream.epochs(),
        }

    def _ordered(self, tokens: Tokens, epoch: int) -> Positions:
        settings = self._settings
        if settings.order is not None:
            by = settings.order
            found = order_by(tokens, by.by, by.window, settings.seed, self._scratch, settings.subset)
        else:
            found = order(tokens, settings.seed + epoch * _EPOCH_SEEDS, self._scratch, settings.subset)
        if not learned(tokens)[found].any():
            raise DataError(f"{tokens.folder} gives no document with text", hint="leave it out")
        return found
