"""What a run leaves behind: `train.json`, the final weights and their average."""

from pathlib import Path
from typing import Any

import msgspec

from curate.io.files import Folder
from curate.models.tokenizer import Contract
from curate.train import averaging, checkpoint, loop
from curate.train.loop import Loop

RESULT = "train.json"
FINAL = "final"
_LAST = 100  # steps whose mean loss is the result


class Result(msgspec.Struct, kw_only=True):
    """`train.json`; `--json` prints it."""

    schema: str = "curate.train/1"
    status: str  # running, complete, diverged
    exit: int = 0
    output: str
    fingerprint: str
    settings: dict[str, Any]
    origins: dict[str, str]
    parameters: int
    steps: int
    datasets: list[dict[str, Any]]
    contract: Contract
    libraries: dict[str, str]
    notes: list[str] = []  # what a reader of the result has to know
    reason: str = ""  # why it stopped
    loss: float | None = None  # mean of the last 100 steps, nats per label
    tokens: int = 0
    data: dict[str, Any] = {}  # what was read: shares, loss-bearing and unique tokens, epochs
    seconds: float = 0.0
    tokens_per_second: float = 0.0
    checkpoints: list[str] = []
    next: str = ""


def lines(result: Result) -> list[str]:
    """Every value of a run and where it came from."""
    values = [
        (key, _short(value), result.origins.get(key, "default")) for key, value in result.settings.items()
    ]
    widths = [max(len(row[i]) for row in values) for i in (0, 1)]
    rows = [f"{key:<{widths[0]}}  {value:<{widths[1]}}  {origin}" for key, value, origin in values]
    return [*rows, f"{result.parameters:,} parameters, {result.steps:,} steps"]


def _short(value: Any) -> str:
    return (
        f"{value:,}"
        if isinstance(value, int) and not isinstance(value, bool)
        else msgspec.json.encode(value).decode()
    )


def finish(result: Result, going: Loop, tokenizer: Path) -> None:
    """The average, `train.json`, and last `final`: where it is, the run is complete."""
    if going.settings.average is not None:
        _save_average(going, going.settings.average, tokenizer)
    write(ended(result, going, "complete"))
    checkpoint.save_weights(going.folder / FINAL, going.model, tokenizer)


def _save_average(going: Loop, average: averaging.Average, tokenizer: Path) -> None:
    folders = checkpoint.found(going.folder)[-average.last :]
    raw = {name: tensor.clone() for name, tensor in going.model.state_dict().items()}
    going.model.load_state_dict(averaging.average_folders(folders, average), strict=False)
    going.model.tie_weights()
    checkpoint.save_weights(going.folder / f"{FINAL}-{average.kind}", going.model, tokenizer)
    going.model.load_state_dict(raw)


def ended(result: Result, going: Loop, status: str, exit: int = 0, reason: str = "") -> Result:
    records = loop.records(going.folder)
    losses = [record["loss"] for record in records[-_LAST:] if record["loss"] is not None]
    result.status, result.exit, result.reason = status, exit, reason
    result.loss = sum(losses) / len(losses) if losses else None
    result.tokens, result.data = going.state.tokens, going.feed.realised()
    result.seconds = round(going.state.seconds, 3)
    result.tokens_per_second = round(result.tokens / max(result.seconds, 1e-9), 1)
    result.checkpoints = [path.name for path in checkpoint.found(going.folder)]
    if status == "complete":
        average = going.settings.average
        ends = [FINAL, *([f"{FINAL}-{average.kind}"] if average else [])]
        result.checkpoints += ends
        result.next = " && ".join(f"curate eval {going.folder / name}" for name in ends)
    return result


def write(result: Result) -> None:
    """Put `train.json` in its place, atomically."""
    body = msgspec.json.format(msgspec.json.encode(result), indent=1)
    Folder(result.output).replace(RESULT, body + b"\n")
