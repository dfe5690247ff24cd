"""What the manifest and the journal say of a dataset: the numbers that everything else on the page must meet."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import msgspec

from curate.engine.journal import MANIFEST, Entry, StepCount, totals
from curate.engine.plan import Plan
from curate.engine.result import Result, read_manifest
from curate.engine.unit import read_plan
from curate.errors import ConfigError, DataError
from curate.io.files import Folder
from curate.io.side import Side
from curate.recipe.recipe import CHECKPOINT, DropSample

Key = tuple[str, str]  # drop_stage, drop_reason
KEPT: Key = ("", "")


class StepFacts(msgspec.Struct, kw_only=True):
    """A step of the recipe, as the journal counted it."""

    index: int
    name: str
    where: str = ""  # of a select
    rows: int = 0  # that came in
    left: int = 0  # rows that went on: those of the next step, or of the output
    dropped: dict[Key, int] = {}


class Facts(msgspec.Struct, kw_only=True):
    """A complete dataset: its plan, its manifest, its journal."""

    folder: Path
    plan: Plan
    result: Result
    steps: list[StepFacts]

    @property
    def dropped(self) -> dict[Key, int]:
        """Rows dropped, by stage and reason, in the order of the recipe, the most frequent reason of a step first."""
        found: dict[Key, int] = {}
        for step in self.steps:
            for key, rows in sorted(step.dropped.items(), key=lambda item: (-item[1], item[0])):
                found[key] = found.get(key, 0) + rows
        return found

    @property
    def is_tokens(self) -> bool:
        """Whether the kept rows are tokens, without text."""
        return self.plan.recipe.output.format == "arrow"

    @property
    def has_all_rows(self) -> bool:
        """False where only a sample of the dropped rows was kept."""
        return not isinstance(self.plan.recipe.output.dropped, DropSample)

    def check(self, found: dict[Key, int], what: str) -> None:
        """DataError where rows counted in the files are not those of the journal."""
        for key, rows in ((KEPT, self.result.rows.kept), *self.dropped.items()):
            have = found.get(key, 0)
            if have != rows and (key == KEPT or self.has_all_rows or have > rows):
                side = "kept" if key == KEPT else f"dropped by {key[0]} for {key[1]}"
                raise DataError(
                    f"{what}: {have:,} rows {side}, but the journal says {rows:,}", where=str(self.folder),
                    hint="`curate verify` finds what is damaged",
                )  # fmt: skip


def read_facts(path: str, formats: Sequence[str] = ("parquet",)) -> Facts:
    """Facts of a complete dataset on a local disk; DataError or ConfigError where there is none of these formats."""
    folder = Folder(path)
    if folder.local is None:
        raise ConfigError("only local folders can be looked at", hint="copy the dataset here")
    plan = read_plan(folder)
    if plan is None:
        raise DataError(f"{path} is not the output of a run", hint="`curate ls runs` lists outputs")
    if not folder.exists(MANIFEST):
        raise DataError(f"{path} is not complete", hint=f"`curate status {path}` says how far the run is")
    result = read_manifest(folder)
    if plan.recipe.output.format not in formats:
        raise ConfigError(
            f"a dataset of format {plan.recipe.output.format} cannot be looked at",
            hint="`output: {format: parquet}`",
        )
    use_stages(plan)
    facts = Facts(
        folder=folder.local, plan=plan, result=result, steps=_steps(folder.local, plan, result.rows.kept)
    )
    told = {(stage, r): n for stage, reasons in result.rows.dropped.items() for r, n in reasons.items()}
    if told != facts.dropped:
        raise DataError(
            f"{path}: the manifest and the journal differ", hint="`curate verify` finds what is damaged"
        )
    return facts


def use_stages(plan: Plan) -> None:
    """Make the user's own stages known, where their files are still there."""
    from curate import stages

    for file in plan.stage_files:
        if Path(file).is_file():
            stages.use_file(file)


def side_plans(sides: Sequence[Side]) -> list[Plan]:
    """The plans of the runs that wrote side columns; ConfigError for columns that are not on a local disk."""
    found = []
    for side in sides:
        plan = read_plan(side.folder)
        if side.folder.local is None or plan is None:
            raise ConfigError(f"only local folders can be looked at, not `{side.path}`", hint="copy it here")
        use_stages(plan)
        found.append(plan)
    return found


def _steps(folder: Path, plan: Plan, kept: int) -> list[StepFacts]:
    entries = (
        msgspec.json.decode(file.read_bytes(), type=Entry)
        for file in sorted(folder.glob("_curate/journal/**/*.json"))
    )
    counts = totals(entries).steps
    found = []
    for step in plan.recipe.steps:
        if step.stage == CHECKPOINT:
            continue
        count = counts.get(str(step.index), StepCount())
        dropped: dict[Key, int] = {}
        for blamed, rows in count.dropped.items():
            stage, _, reason = blamed.partition("\t")
            dropped[stage, reason] = rows
        found.append(
            StepFacts(index=step.index, name=step.name, where=step.config.get("where", "") if step.stage == "select" else "",
                      rows=count.rows, dropped=dropped)
        )  # fmt: skip
    for one, following in itertools.pairwise(found):
        one.left = following.rows
    if found:
        found[-1].left = kept
    return found
