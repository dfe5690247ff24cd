"""A run of a study, out of the store: its loss over tokens, what it read, how it ended."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from curate.errors import DataError

POINTS = 180  # of a curve: each the mean of the steps around it


class Run(msgspec.Struct, kw_only=True):
    """One training; `status` is missing where its folder is gone."""

    seed: int
    matching: str  # tokens, pool
    folder: str
    status: str
    reason: str = ""  # why it diverged
    seconds: float = 0.0
    tokens: int = 0
    data: dict[str, Any] = {}  # shares, loss-bearing, unique and discarded tokens, epochs
    at: list[int] = []  # tokens read
    loss: list[float] = []  # nats per label, the mean around each


class _Result(msgspec.Struct):
    """What is needed of `train.json`."""

    status: str
    reason: str = ""
    tokens: int = 0
    data: dict[str, Any] = {}
    seconds: float = 0.0


class _Record(msgspec.Struct):
    """A line of `log.jsonl`."""

    tokens: int
    loss: float | None = None  # null where it was no number


def read_run(seed: int, matching: str, folder: Path) -> Run:
    """Read `train.json` and `log.jsonl`. DataError where they are damaged."""
    file = folder / "train.json"
    if not file.is_file():
        return Run(seed=seed, matching=matching, folder=str(folder), status="missing")
    try:
        result = msgspec.json.decode(file.read_bytes(), type=_Result)
        at, loss = curve(folder / "log.jsonl")
    except (OSError, msgspec.MsgspecError) as error:
        raise DataError(
            f"the run cannot be read: {error}",
            where=str(folder),
            hint="move it away, and run the study again",
        ) from None
    return Run(
        seed=seed, matching=matching, folder=str(folder), status=result.status, reason=result.reason,
        seconds=result.seconds, tokens=result.tokens, data=result.data, at=at, loss=loss,
    )  # fmt: skip


def curve(log: Path, points: int = POINTS) -> tuple[list[int], list[float]]:
    """Tokens and loss of a log in at most `points` bins of as many steps; steps whose loss is no number are left out."""
    decoder = msgspec.json.Decoder(_Record)
    at, loss = [], []
    with log.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):  # it is being written
                break
            record = decoder.decode(line)
            if record.loss is not None:
                at.append(record.tokens)
                loss.append(record.loss)
    bins = min(points, len(at))
    if not bins:
        return [], []
    return (
        [int(part.mean()) for part in np.array_split(np.array(at), bins)],
        [round(float(part.mean()), 4) for part in np.array_split(np.array(loss), bins)],
    )
