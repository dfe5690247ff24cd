"""Finished runs: their metrics by name, and what earlier runs of the store say of seeds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from curate.errors import ConfigError, DataError
from curate.eval.scores import numbers
from curate.eval.suite import load
from curate.study.runs import Trained
from curate.study.verdict import Spread

Scale = tuple[Any, ...]  # of a training: size, tokens, context, batch, init, whether data repeat


class Scored(msgspec.Struct, frozen=True):
    """A finished run."""

    run: Trained
    values: dict[str, float]
    training: dict[str, Any]  # train.json


def scored(run: Trained, metrics: Sequence[str]) -> Scored:
    """Read what training and scoring left. DataError for a metric that the suite does not give."""
    found = numbers(Path(run.steps[1].done))
    for metric in metrics:
        if metric not in found:
            raise DataError(
                f"the suite gives no metric `{metric}`", hint=f"it gives {', '.join(sorted(found))}"
            )
    training = msgspec.json.decode((Path(run.folder) / "train.json").read_bytes())
    return Scored(run, {metric: found[metric] for metric in metrics}, training)


def check_metrics(suite: str, metrics: Sequence[str]) -> None:
    """ConfigError for a metric that a suite does not give, before anything is trained."""
    given = load(suite)
    sets, tasks = [one.name for one in given.heldout], [one.name for one in given.tasks]
    whole = [
        *(["bpb"] if sets else []),
        *(f"bpb:{name}" for name in sets),
        *(["core"] if tasks else []),
        *tasks,
    ]
    for metric in metrics:
        if metric not in whole and metric.partition(":")[0] not in tasks:
            raise ConfigError(
                f"the suite `{suite}` gives no metric `{metric}`",
                hint=f"it gives {', '.join(whole)}; TASK:gold_bpb and TASK:STATISTIC of a task",
            )


class Earlier(msgspec.Struct, frozen=True):
    """What other runs of the same suite, size and budget say."""

    spreads: dict[str, Spread]  # of each metric, between seeds of an arm
    seconds: float | None  # of one training, the median


def earlier(store: Path, suite: str, metrics: Sequence[str], scale: Scale, without: set[str]) -> Earlier:
    """Look through the store; runs differ in nothing but their seed where they tell how much seeds vary."""
    groups: dict[str, dict[str, list[float]]] = {metric: {} for metric in metrics}
    seconds = []
    for path in sorted(store.glob(f"*/eval/{suite}/eval.json")):
        folder = path.parents[2]
        training = msgspec.json.decode((folder / "train.json").read_bytes())
        if folder.name in without or scale_of(training["settings"]) != scale:
            continue
        seconds.append(training["seconds"])
        group = _but_seed(training)
        found = numbers(path)
        for metric in set(metrics) & found.keys():
            groups[metric].setdefault(group, []).append(found[metric])
    spreads = {metric: Spread.of(list(values.values())) for metric, values in groups.items()}
    return Earlier(spreads, float(np.median(seconds)) if seconds else None)


def _but_seed(training: Mapping[str, Any]) -> str:
    """What runs have in common that differ in their seed alone; with it varies which documents a subset draws."""
    settings = {key: value for key, value in training["settings"].items() if key != "seed"}
    if settings.get("subset"):
        settings["subset"] = float(f"{settings['subset']['share']:.2g}")
    return msgspec.json.encode([settings, training["datasets"]], order="sorted").decode()


def scale_of(settings: Mapping[str, Any]) -> Scale:
    """Size, tokens, context, batch, where it begins and repetition: runs that differ in these do not vary alike."""
    repeats = (settings.get("mix") or {}).get("max_epochs", 1.0) > 1
    begins = settings.get("init", "scratch")
    return (*(settings[key] for key in ("size", "tokens", "context", "batch")), str(begins), repeats)
