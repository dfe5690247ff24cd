"""Checkpoints: `step-00000100/`, a hub-format folder with `training.pt` beside the weights.

`training.pt` holds what else decides the next step: Adam's moments and step counts, the place in the schedule, the state
of torch's random numbers (of every process), the data position, tokens seen, the run's fingerprint and its settings.
A folder is written under another name, made durable and renamed: under a `step-` name nothing is ever partial. What a
kill leaves is removed by the next save.
"""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors import SafetensorError

from curate.errors import DataError, RunError
from curate.train import model as models

TRAINING = "training.pt"
_NAME = re.compile(r"step-(\d{8})")
_TEMPORARY = ".unfinished-"


class State(msgspec.Struct, kw_only=True):
    """How far a run is, beside its weights."""

    step: int  # of this run, from 0
    schedule_step: int  # the same, or further where the optimizer came with another checkpoint
    schedule_total: int
    tokens: int  # positions that were trained on
    loss_tokens: int  # labels among them
    data: dict[str, Any]  # position of the data
    fingerprint: str
    settings: dict[str, Any]  # resolved, as JSON has them
    lowest: float  # running minimum of the loss, for the stop on divergence
    recent: list[float]  # last losses
    above: int = 0  # steps on end that it was too high
    seconds: float = 0.0  # in steps


def name_of(step: int) -> str:
    return f"step-{step:08d}"


def step_of(folder: Path) -> int:
    found = _NAME.fullmatch(folder.name)
    return int(found[1]) if found else -1


def found(folder: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    return sorted((path for path in folder.glob("step-*") if step_of(path) >= 0), key=step_of)


def save(
    target: Path, model: Any, optimizer: torch.optim.Optimizer, state: State, rng: list[Any], tokenizer: Path
) -> None:
    """Write a checkpoint folder, whole or not at all. An existing one stays as it is."""
    if target.exists():
        return
    for left in target.parent.glob(f"{_TEMPORARY}*"):
        shutil.rmtree(left)
    with _unfinished(target) as temporary:
        models.save(model, tokenizer, temporary)
        held = {"optimizer": optimizer.state_dict(), "state": msgspec.to_builtins(state), "rng": rng}
        torch.save(held, temporary / TRAINING)


def save_weights(target: Path, model: Any, tokenizer: Path) -> None:
    """Write a hub-format folder without moments, whole or not at all, in place of what is there."""
    with _unfinished(target) as temporary:
        models.save(model, tokenizer, temporary)
        shutil.rmtree(target, ignore_errors=True)


@contextmanager
def _unfinished(target: Path) -> Iterator[Path]:
    """A new folder under another name, durable before it gets its own; gone where that fails, for want of space say."""
    temporary = target.with_name(f"{_TEMPORARY}{target.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for path in [*temporary.iterdir(), temporary]:
            _sync(path)
        os.rename(temporary, target)
        _sync(target.parent)
    except (OSError, RuntimeError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError):
            raise
        raise RunError(  # what libraries make of a full disk
            f"cannot write {target}: {str(error).splitlines()[0]}",
            hint="free some space, then run the same command again: it goes on from the last checkpoint",
        ) from None


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class Opened(msgspec.Struct, frozen=True):
    state: State
    optimizer: dict[str, Any]
    rng: list[Any]


def open_training(folder: Path) -> Opened:
    """What a checkpoint holds beside its weights; DataError where it holds none."""
    path = folder / TRAINING
    if not path.is_file():
        raise DataError(
            f"{folder} has no {TRAINING}: it is weights alone, without the optimizer's moments",
            hint="`init: FOLDER` begins with the weights and warms up again",
        )
    try:
        read = torch.load(path, map_location="cpu", weights_only=True)
        return Opened(msgspec.convert(read["state"], State), read["optimizer"], read["rng"])
    except (RuntimeError, OSError, KeyError, EOFError, ValueError, msgspec.ValidationError) as error:
        raise DataError(
            f"{path} cannot be read: {str(error).splitlines()[0]}", hint="go on from an older checkpoint"
        ) from None


def load_weights(folder: Path, model: Any) -> None:
    """Put a checkpoint's weights into a model of the same shape."""
    from safetensors.torch import load_file

    missing, unexpected = model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
    left = [name for name in missing if name not in getattr(model, "_tied_weights_keys", {})]
    if left or unexpected:
        raise DataError(f"{folder} holds a model of another shape: {(*left, *unexpected)[0]}")


def remove_old(folder: Path, keep: int, marked: set[int]) -> None:
    """Remove checkpoints, but for the newest `keep` and the marked steps."""
    for path in found(folder)[:-keep]:
        if step_of(path) not in marked:
            gone = path.with_name(f"{_TEMPORARY}{path.name}")  # a kill here leaves no half of a checkpoint
            os.rename(path, gone)
            shutil.rmtree(gone)
