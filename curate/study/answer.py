"""What a study found, so far: values by arm, metric and seed, a verdict for each, what seeds vary by, what was spent.

Every time verdicts are made is a look, and is written down: a study that is looked at early or goes on past its plan has
less alpha left, or none.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from curate.errors import DataError
from curate.models.tokenizer import contract
from curate.study.plan import Study
from curate.study.runs import Trained, suite_name
from curate.study.verdict import Spread, Verdict, alpha_left, plan_sees, verdicts

ANSWER = "study.json"
Scale = tuple[Any, ...]  # of a training: size, tokens, context, batch
Values = dict[str, dict[str, dict[int, float]]]  # arm -> metric -> seed -> value


class Look(msgspec.Struct, frozen=True):
    """Once verdicts were made: after so many seeds of so many planned, at this alpha."""

    seeds: int
    planned: int
    alpha: float


class RunFolder(msgspec.Struct, frozen=True):
    """Where a run's train.json, log.jsonl and scores lie; a relative folder starts where `output` does."""

    arm: str
    seed: int
    folder: str


class Answer(msgspec.Struct, kw_only=True):
    """`study.json`; `--json` prints it."""

    schema: str = "curate.ablate/1"
    status: str = "ok"
    exit: int = 0
    name: str
    control: str
    primary: str
    margin: float | None
    values: Values
    verdicts: list[Verdict]
    looks: list[Look]
    spread: dict[str, Spread]  # of each metric between seeds of an arm: earlier studies' and this one's
    training: dict[str, dict[str, Any]]  # of each arm: tokens, unique tokens, epochs, seconds
    runs: list[RunFolder]  # in the store
    notes: list[str]
    output: str


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


def numbers(file: Path) -> dict[str, float]:
    """The metrics of an `eval.json` by name.

    bpb, mean over held-out sets; bpb:SET; core; TASK, the accuracy that counts; TASK:gold_bpb, bits per byte of right
    answers; TASK:STATISTIC, such as correct_prob.
    """
    scores = msgspec.json.decode(file.read_bytes())
    if scores["partial"]:
        raise DataError("a partial result, made with --limit, is no measurement", where=str(file))
    sets = {f"bpb:{name}": float(one["bits_per_byte"]) for name, one in scores["heldout"].items()}
    found = {"bpb": sum(sets.values()) / len(sets), **sets} if sets else {}
    if scores["core"] is not None:
        found["core"] = float(scores["core"])
    for name, task in scores["tasks"].items():
        found |= {name: float(task["score"]), f"{name}:gold_bpb": float(task["gold_bits_per_byte"])}
        found |= {f"{name}:{statistic}": float(value) for statistic, value in task["means"].items()}
    return found


def higher_is_better(metric: str) -> bool:
    """Bits per byte fall, everything else rises."""
    return not (metric == "bpb" or metric.startswith("bpb:") or metric.endswith(":gold_bpb"))


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
        settings = {key: value for key, value in training["settings"].items() if key != "seed"}
        group = msgspec.json.encode([settings, training["datasets"]], order="sorted").decode()
        found = numbers(path)
        for metric in set(metrics) & found.keys():
            groups[metric].setdefault(group, []).append(found[metric])
    spreads = {metric: Spread.of(list(values.values())) for metric, values in groups.items()}
    return Earlier(spreads, float(np.median(seconds)) if seconds else None)


def scale_of(settings: Mapping[str, Any]) -> Scale:
    """Size, tokens, context and batch: runs that differ in these do not vary alike."""
    return tuple(settings[key] for key in ("size", "tokens", "context", "batch"))


def answer(study: Study, folder: Path, store: Path, done: Sequence[Scored], planned: int) -> Answer:
    """Judge what is done and write it down as a look. `planned`: seeds of an arm in the study file."""
    metrics = study.all_metrics()
    values: Values = {arm: {metric: {} for metric in metrics} for arm in study.arms}
    for one in done:
        for metric in metrics:
            values[one.run.arm][metric][one.run.seed] = one.values[metric]
    looks = _looks(folder)
    seeds = min(len(values[arm][study.primary.metric]) for arm in study.arms)
    again = [look for look in looks if (look.seeds, look.planned) == (seeds, planned)]
    left = study.alpha - sum(look.alpha for look in looks)  # less, once the plan was made longer
    alpha = (
        again[0].alpha
        if again
        else min(alpha_left(seeds, planned, [one.seeds for one in looks], study.alpha), left)
    )
    own = {Path(one.run.folder).name for one in done}
    suite = Path(done[0].run.steps[1].done).parent.name
    before = earlier(store, suite, metrics, scale_of(done[0].training["settings"]), own).spreads
    margins = {} if study.primary.margin is None else {study.primary.metric: study.primary.margin}
    found = verdicts(
        values,
        study.control,
        {metric: higher_is_better(metric) for metric in metrics},
        alpha=alpha,
        stores=before,
        margins=margins,
    )
    if not again:
        looks.append(Look(seeds, planned, alpha))
    result = Answer(
        name=study.name, control=study.control, primary=study.primary.metric, margin=study.primary.margin,
        values=values, verdicts=found, looks=looks, spread={m: _all(before[m], values, m) for m in metrics},
        training={arm: _training([one for one in done if one.run.arm == arm]) for arm in study.arms},
        runs=_folders(study, done),
        notes=[*_notes(study, seeds, planned, alpha, before), *_told(done)], output=str(folder),
    )  # fmt: skip
    (folder / ANSWER).write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1))
    return result


def _looks(folder: Path) -> list[Look]:
    path = folder / ANSWER
    if not path.exists():
        return []
    return msgspec.convert(msgspec.json.decode(path.read_bytes())["looks"], list[Look])


def _all(earlier: Spread, values: Values, metric: str) -> Spread:
    own = Spread.of([list(by_metric[metric].values()) for by_metric in values.values()])
    df = own.df + earlier.df
    return Spread((own.df * own.variance + earlier.df * earlier.variance) / df if df else 0.0, df)


def _training(done: Sequence[Scored]) -> dict[str, Any]:
    data = [one.training["data"] for one in done]
    return {
        "runs": len(done),
        "parameters": done[0].training["parameters"],
        "tokens": [one.training["tokens"] for one in done],
        "unique_tokens": [one["unique_tokens"] for one in data],
        "epochs": [max(one["epochs"].values()) for one in data],
        "seconds": sum(one.training["seconds"] for one in done),
    }


def _folders(study: Study, done: Sequence[Scored]) -> list[RunFolder]:
    found = {(one.run.arm, one.run.seed): one.run.folder for one in done}
    return [
        RunFolder(arm, seed, found[arm, seed]) for arm in study.arms for a, seed in sorted(found) if a == arm
    ]


def _notes(study: Study, seeds: int, planned: int, alpha: float, earlier: dict[str, Spread]) -> list[str]:
    notes = []
    if alpha == 0:
        notes.append(
            "no alpha is left: the plan's seeds were judged before. A new study with another `first_seed` confirms"
        )
    elif seeds < planned:
        notes.append(f"an early look, after {seeds} of {planned} seeds, at alpha {alpha:.3g}")
    df = earlier[study.primary.metric].df
    if df:
        notes.append(f"spread of seeds pooled with {df} degrees of freedom of earlier runs")
    return notes


def _told(done: Sequence[Scored]) -> list[str]:
    """What the trainings said of themselves, each once."""
    said = [(note, one.run.arm) for one in done for note in one.training["notes"]]
    arms = {note: sorted({arm for other, arm in said if other == note}) for note, _ in said}
    return [f"{', '.join(names)}: {note}" for note, names in arms.items()]


def outlook(study: Study, store: Path) -> dict[str, Any]:
    """Runs, tokens, hours and the smallest difference of the primary metric that the plan sees, before it begins.

    Hours and difference are None where the store has no run of the same size and budget.
    """
    from curate.train.settings import load, resolve

    runs = [(arm, seed) for arm in study.arms for seed in study.seeds_of(arm)]
    vocabulary = contract(study.tokenizer).vocab_size
    resolved = {arm: resolve(load(flags=study.training(arm, 0)), vocabulary).settings for arm in study.arms}
    scale = scale_of(msgspec.to_builtins(resolved[study.control]))
    before = earlier(store, suite_name(study), [study.primary.metric], scale, set())
    spread, control = before.spreads[study.primary.metric], len(study.seeds_of(study.control))
    comparisons = (len(study.arms) - 1) * len(study.all_metrics())
    sees = None
    if spread.df:
        sees = plan_sees(spread.variance**0.5, study.seeds, control, comparisons, spread.df, study.alpha)
    return {
        "runs": len(runs), "tokens": sum(resolved[arm].tokens for arm, _ in runs),
        "hours": None if before.seconds is None else before.seconds * len(runs) / 3600,
        "smallest_detectable": sees, "spread": spread, "comparisons": comparisons,
    }  # fmt: skip
