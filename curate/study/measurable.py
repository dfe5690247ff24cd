"""Which task metrics of a study mean something at its size, judged on runs of its control.

Runs    of the control with other seeds than the study's, of this or another study, where two or more are in the store:
        choosing and confirming are then apart. Else the study's own, and its notes say so
Asked   as `curate eval select` does: monotone over the checkpoints that were scored, above the noise of seeds, above
        guessing. Where no run has two scored steps, monotonicity is not known and not asked for
Text    bits per byte of held-out text is no task and is not judged
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from curate.eval.run import RESULT, STEPS
from curate.eval.scores import Scores, higher_is_better, points, read
from curate.eval.select import Bounds, Statistics, select
from curate.study.items import is_of_items


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """The task metrics of a study."""

    statistics: dict[str, Statistics]
    refused: dict[str, str]  # metric -> why it decides nothing
    seeds: int  # of the control that were judged
    own: bool  # they are the study's own


def judged(store: Path, suite: str, metrics: Sequence[str], own: Sequence[Path]) -> Judged:
    """Judge the task metrics among `metrics` on the control's runs: `own`, the study's, and others in the store."""
    wanted = [metric for metric in metrics if is_of_items(metric)]
    mine = [one for folder in own for one in scored(folder, suite)] if wanted else []
    others: list[Scores] = []
    if mine:
        known = {folder.resolve() for folder in own}
        runs = [path.parents[2] for path in sorted(store.glob(f"*/eval/{suite}/{RESULT}"))]
        rest = (one for run in runs if run.resolve() not in known for one in scored(run, suite))
        others = [one for one in rest if one.corpus == mine[0].corpus]
    apart = len({one.seed for one in others}) > 1
    taken = others if apart else mine
    statistics = _statistics(taken, wanted) if taken else {}
    refused = {metric: why for metric, one in statistics.items() if (why := _why(metric, one))}
    return Judged(
        statistics=statistics, refused=refused, seeds=len({one.seed for one in taken}), own=not apart
    )


def scored(run: Path, suite: str) -> list[Scores]:
    """Scores of a run on a suite: of its checkpoints where they were scored, else of its end."""
    place = run / "eval" / suite
    steps = [place / "steps" / name for name in _steps(place / "steps" / STEPS)]
    folders = steps or ([place] if (place / RESULT).is_file() else [])
    return [read(str(one)) for one in folders]


def _steps(file: Path) -> list[str]:
    """Names of the checkpoints that were scored; none where they were not, or not to the end."""
    return [Path(one).name for one in msgspec.json.decode(file.read_bytes())] if file.is_file() else []


def _statistics(scores: Sequence[Scores], metrics: Sequence[str]) -> dict[str, Statistics]:
    there = [metric for metric in metrics if metric in scores[0].values]
    once = {(one.task, one.seed, one.step): one for one in points(scores, there)} if there else {}
    given = [msgspec.structs.replace(one, corpus="control") for one in once.values()]
    if not given:
        return {}
    names = {one.task for one in given}
    steps = {seed: {one.step for one in given if one.seed == seed} for seed in {one.seed for one in given}}
    if not set.intersection(*steps.values()):
        given = [msgspec.structs.replace(one, step=0) for one in given if one.step == max(steps[one.seed])]
    chance = {name: value for name, value in scores[0].chance.items() if name in names}
    lower = [name for name in names if not higher_is_better(name)]
    return {one.task: _asked(one) for one in select(given, chance, lower_is_better=lower)}


def _asked(found: Statistics) -> Statistics:
    """Without what is not known of one step, and so not asked for."""
    known = not math.isnan(found.monotonicity)
    why = (name for name in found.why_not if known or name != "monotonicity")
    return msgspec.structs.replace(found, why_not=tuple(why))


def _why(metric: str, found: Statistics, bounds: Bounds = Bounds()) -> str:
    """'' where it may decide."""
    values: Mapping[str, tuple[float | None, float]] = {
        "monotonicity": (found.monotonicity, bounds.min_monotonicity), "snr": (found.snr, bounds.min_snr),
        "above_chance": (found.above_chance, bounds.min_above_chance),
    }  # fmt: skip
    said = [f"{name} {values[name][0]:.3g}, {values[name][1]:g} asked" for name in found.why_not]
    return f"`{metric}` means nothing at this size: {'; '.join(said)}" if said else ""


def notes(found: Judged) -> list[str]:
    """What a reader has to know of the choice of tasks."""
    if not found.statistics:
        return []
    whose = "the study's own runs of the control" if found.own else "other runs of the control"
    said = [f"tasks were judged on {whose}, {found.seeds} seeds"]
    if any(math.isnan(one.monotonicity) for one in found.statistics.values()):
        said[0] += "; whether they grow with training is not known, for one step alone was scored"
    return said
