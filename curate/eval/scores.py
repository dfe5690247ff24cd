"""What scored checkpoints say, read back: their numbers by name, and which run and step each is of."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from curate.errors import DataError
from curate.eval.run import RESULT
from curate.eval.select import Point
from curate.eval.tasks import TaskResult

TRAINING = "train.json"  # of the run that a checkpoint is of


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """One folder that `curate eval score` wrote."""

    folder: str
    suite: str
    corpus: str  # datasets and settings of the run but its seed: what runs of several seeds share
    scale: str  # size, tokens, context and batch
    seed: int
    step: int
    tokens: int  # seen up to there
    values: dict[str, float]
    chance: dict[str, float]  # accuracies of guessing


def numbers(file: Path) -> dict[str, float]:
    """The metrics of an `eval.json` by name. DataError for a partial one.

    bpb, mean over held-out sets; bpb:SET; core; TASK, the accuracy that counts; TASK:gold_bpb, bits per byte of right
    answers; TASK:STATISTIC, such as correct_prob.
    """
    scores = _decoded(file)
    if scores["partial"]:
        raise DataError("a partial result, made with --limit, is no measurement", where=str(file))
    sets = {f"bpb:{name}": float(one["bits_per_byte"]) for name, one in scores["heldout"].items()}
    found = {"bpb": sum(sets.values()) / len(sets), **sets} if sets else {}
    if scores["core"] is not None:
        found["core"] = float(scores["core"])
    tasks = {name: msgspec.convert(task, _Numbers) for name, task in scores["tasks"].items()}
    return found | of_tasks(tasks)


class _Numbers(msgspec.Struct):
    """What is read of a task's result."""

    score: float
    gold_bits_per_byte: float
    means: dict[str, float]


def of_tasks(results: Mapping[str, TaskResult | _Numbers]) -> dict[str, float]:
    """The metrics of tasks by name, from their results; without `core`."""
    found: dict[str, float] = {}
    for name, task in results.items():
        found |= {name: task.score, f"{name}:gold_bpb": task.gold_bits_per_byte}
        found |= {f"{name}:{statistic}": value for statistic, value in task.means.items()}
    return found


def chances(file: Path) -> dict[str, float]:
    """What guessing gives, of the metrics that can be guessed: accuracies, and `core`."""
    scores = _decoded(file)
    found = {"core": 0.0} if scores["core"] is not None else {}
    for name, task in scores["tasks"].items():
        found |= dict.fromkeys((name, f"{name}:acc", f"{name}:acc_norm"), float(task["chance"]))
    return {name: chance for name, chance in found.items() if name in numbers(file)}


def higher_is_better(metric: str) -> bool:
    """Bits per byte fall, everything else rises."""
    return not (metric == "bpb" or metric.startswith("bpb:") or metric.endswith(":gold_bpb"))


def read(folder: str) -> Scores:
    """Scores of a checkpoint of `curate train`. DataError where they are missing, or the run is not known."""
    file = Path(folder) / RESULT
    said = _decoded(file)
    checkpoint = Path(said["checkpoint"])
    run = next((one for one in (checkpoint.parent, *file.parents[1:5]) if (one / TRAINING).is_file()), None)
    if run is None:
        raise DataError(
            f"nothing says which run `{checkpoint}` is of: no {TRAINING} beside it", where=folder,
            hint="score checkpoints where `curate train` left them: RUN/step-00000100, RUN/final",
        )  # fmt: skip
    training = msgspec.json.decode((run / TRAINING).read_bytes())
    settings = training["settings"]
    named = re.fullmatch(r"step-(\d{8})", checkpoint.name)
    step = int(named[1]) if named else int(training["steps"])
    scale = {key: settings[key] for key in ("size", "tokens", "context", "batch")}
    shared = {key: value for key, value in settings.items() if key != "seed"}
    if shared.get("subset"):  # which documents it draws goes by the seed
        shared["subset"] = {key: value for key, value in shared["subset"].items() if key != "seed"}
    return Scores(
        folder=folder, suite=said["suite"], corpus=_canonical([training["datasets"], shared]), scale=_canonical(scale),
        seed=int(settings["seed"]), step=step, tokens=step * int(settings["batch"]) * int(settings["context"]),
        values=numbers(file), chance=chances(file),
    )  # fmt: skip


def read_all(folders: Sequence[str]) -> list[Scores]:
    """Of one suite and one scale. DataError where they are of several."""
    found = [read(one) for one in folders]
    for key in ("suite", "scale"):
        for one in found[1:]:
            if getattr(one, key) != getattr(found[0], key):
                raise DataError(
                    f"of another {key} than `{found[0].folder}`: {getattr(one, key)}, not {getattr(found[0], key)}",
                    where=one.folder, hint=f"give the scores of one {key} at a time",
                )  # fmt: skip
    return found


def points(scores: Sequence[Scores], metrics: Sequence[str] = ()) -> list[Point]:
    """Each number of each checkpoint, of all metrics or of those named. DataError for one that a checkpoint lacks."""
    names = sorted(metrics or scores[0].values)
    for one in scores:
        if lost := [name for name in names if name not in one.values]:
            hint = f"it gives {', '.join(sorted(one.values))}"
            raise DataError(f"no metric `{lost[0]}`", where=one.folder, hint=hint)
    return [
        Point(task=name, corpus=one.corpus, seed=one.seed, step=one.step, score=one.values[name])
        for one in scores
        for name in names
    ]


def _decoded(file: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = msgspec.json.decode(file.read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        hint = "`curate eval CHECKPOINT -o DIR` makes such folders"
        raise DataError(f"no scores: {why}", where=str(file), hint=hint) from None
    return found


def _canonical(value: Any) -> str:
    return msgspec.json.encode(value, order="sorted").decode()
