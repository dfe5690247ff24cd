"""What the page of a study needs of `study.json`; fields that came later have a default."""

from pathlib import Path
from typing import Any

import msgspec

from curate.errors import DataError
from curate.report.verdicts import Finding, Values

STUDY = "study.json"


class Look(msgspec.Struct, kw_only=True):
    """Once verdicts were made."""

    seeds: int
    planned: int
    alpha: float


class Spread(msgspec.Struct, kw_only=True):
    """Variance between seeds of one arm."""

    variance: float
    df: int


class RunFolder(msgspec.Struct, kw_only=True):
    """Where a run lies in the store."""

    arm: str
    seed: int
    folder: str
    matching: str = "tokens"


class Matched(msgspec.Struct, kw_only=True):
    """What the runs of one matching gave."""

    values: Values
    spread: dict[str, Spread]
    training: dict[str, dict[str, Any]]


class Target(msgspec.Struct, kw_only=True):
    """The large run that the small ones stand for."""

    params: float
    tokens: float
    raw_pool: float


class Pool(msgspec.Struct, kw_only=True):
    """An arm's share of the raw pool."""

    kept: float  # of its tokens
    epochs: float | None  # of the large run; null where nothing is kept


class Cost(msgspec.Struct, kw_only=True):
    """Of the curation of an arm's corpus."""

    cpu_seconds: dict[str, float]  # by step
    flops: dict[str, float] = {}  # by step that runs a model
    target_cpu_hours: float | None = None  # of the same curation over the target's raw pool
    target_flops: float | None = None
    target_share: float | None = None  # of these FLOPs in those of the target's training


class Noise(msgspec.Struct, kw_only=True):
    """Evaluation noise only."""

    arm: str
    metric: str
    matching: str
    low: float
    high: float


class Common(msgspec.Struct, kw_only=True):
    """Items that left the scores of tasks."""

    contaminated: dict[str, dict[str, int]]  # arm -> task -> items of it in the arm's corpus
    left_out: dict[str, int]  # task -> items that left every arm's score
    full: dict[str, dict[str, float]]  # arm -> metric -> score on all items


class Task(msgspec.Struct, kw_only=True):
    """What a task can tell at this size, on runs of the control."""

    monotonicity: float | None
    snr: float | None
    above_chance: float | None
    ordering: float | None
    why_not: list[str]  # the criteria it fails; empty: it may enter a verdict


class Answer(msgspec.Struct, kw_only=True):
    """What the page needs of `study.json`; fields that came later have a default."""

    name: str
    control: str
    primary: str
    margin: float | None
    values: Values
    verdicts: list[Finding]
    looks: list[Look]
    spread: dict[str, Spread]
    training: dict[str, dict[str, Any]]
    notes: list[str]
    output: str
    runs: list[RunFolder] = []
    matchings: dict[str, Matched] = {}  # values, spread and training above are those of the first
    diverged: list[RunFolder] = []
    target: Target | None = None
    pools: dict[str, Pool] = {}
    cost: dict[str, Cost] = {}
    noise: list[Noise] = []
    common: Common | None = None
    tasks: dict[str, Task] = {}
    confirms: bool = False  # a second time, with fresh seeds; its arms are those of the study around it

    def matched(self) -> dict[str, Matched]:
        """By matching; older studies had one."""
        first = Matched(values=self.values, spread=self.spread, training=self.training)
        return self.matchings or {"tokens": first}

    def runs_of(self, arm: str) -> list[RunFolder]:
        """Each once: where nothing is repeated, one run is both matchings'."""
        found: dict[str, RunFolder] = {}
        for run in [*self.runs, *self.diverged]:
            if run.arm == arm:
                found.setdefault(run.folder, run)
        return list(found.values())


def read_answer(folder: str) -> Answer:
    """`study.json` of a study's folder; DataError where it is none or is damaged."""
    path = Path(folder) / STUDY
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Answer)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DataError(
            f"it cannot be read: {error}", where=str(path), hint="the same `curate ablate` writes it anew"
        ) from None
    if found.control not in found.values:
        raise DataError(
            f"no arm `{found.control}`", where=str(path), hint="the same `curate ablate` writes it anew"
        )
    return found
