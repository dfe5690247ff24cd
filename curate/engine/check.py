"""What `curate check` does: open everything a recipe names, freeze its plan in memory, try it on a sample."""

import io
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from curate.engine import shape
from curate.engine.fingerprints import step_identity
from curate.engine.forecast import Forecast, cpu_seconds, forecast
from curate.engine.freeze import Sketch, freeze, sketch
from curate.engine.journal import MANIFEST
from curate.engine.limits import WORKER_MEMORY_MB
from curate.engine.lock import is_dead, read_owner
from curate.engine.log import Listener
from curate.engine.plan import Plan, check_schema
from curate.engine.run import plan_or_resume, refuse_strangers, remove_dataset
from curate.engine.scale import Spent
from curate.engine.unit import PLAN, pass_folder
from curate.engine.workers import default_workers, os_error
from curate.errors import ConfigError, LockedError
from curate.io.files import Folder, HashingFile
from curate.recipe.recipe import CHECKPOINT, Recipe


class PassPlan(msgspec.Struct, kw_only=True):
    index: int
    kind: str
    steps: list[str]
    fingerprint: str
    state: str  # to do | in the work store | in the output | unknown


class Check(msgspec.Struct, kw_only=True):
    """The `--json` object of `check`."""

    schema: str = "curate.check/1"
    status: str = "ok"
    exit: int = 0
    recipe: str
    files: int
    bytes: int
    units: int | None  # None where only pieces of the input were read
    duplicate_ids: bool
    columns_in: dict[str, str]
    columns_out: dict[str, str]
    passes: list[PassPlan]
    stages: list[dict[str, Any]]
    notes: dict[str, list[str]]  # step -> what its stage says of its options
    output: str
    store: str
    free_bytes: int | None
    origins: dict[str, str]
    checked: list[str]
    forecast: Forecast | None = None

    def lines(self) -> list[str]:
        """The report in words."""
        found = [
            f"recipe   {self.recipe}",
            f"input    {self.files:,} files, {self.bytes / 1e6:,.1f} MB"
            + (f", cut into {self.units:,} units" if self.units is not None else ""),
        ]
        if self.duplicate_ids:
            found.append("         some ids stand twice: the later rows will be quarantined (duplicate_id)")
        found += [f"output   {self.output or '(none named)'}", f"store    {self.store}"]
        for one in self.passes:
            found.append(
                f"pass {one.index + 1}   {one.kind:<6} {' > '.join(one.steps) or 'copy'}   [{one.state}]"
            )
        found += [f"stage    {step}: {line}" for step, lines in self.notes.items() for line in lines]
        found.append(f"columns  {', '.join(self.columns_out)}")
        for key, origin in sorted(self.origins.items()):
            if origin not in ("recipe", "default"):
                found.append(f"set      {key} by {origin}")
        found.append(f"checked  {'; '.join(self.checked)}")
        return [*found, "", *self.forecast.lines()] if self.forecast else found


class Untouched(Folder):
    """A folder that nobody changes: what is removed is only passed over from then on, what is written goes nowhere."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._gone: set[str] = set()

    def exists(self, name: str) -> bool:
        return name not in self._gone and super().exists(name)

    def names(self, under: str = "") -> list[str]:
        return [n for n in super().names(under) if f"{under}/{n}".lstrip("/") not in self._gone]

    def folders(self, under: str = "") -> list[str]:
        return [n for n in super().folders(under) if f"{under}/{n}".lstrip("/") not in self._gone]

    def remove(self, name: str) -> None:
        self._gone.add(name)

    def remove_all(self, under: str = "") -> None:
        self._gone.add(under)

    def replace(self, name: str, data: bytes) -> None:
        pass

    def create(self, name: str) -> HashingFile:
        return HashingFile(io.BytesIO(), self.address(name))


def check(
    recipe: Recipe, stage_files: Sequence[str], listen: Listener, fresh: bool, *,
    workers: int = 0, max_memory_mb: int = WORKER_MEMORY_MB, plan_only: bool = False,
    max_download: float | None = None, assume_rows: int = 0,
) -> Check:  # fmt: skip
    """Check a recipe and forecast its run, from a sample unless `plan_only`; nothing of the run is written.

    Raises what `run` would raise at its start, GuardError among it before more than `max_download` bytes come.
    """
    out = Untouched(recipe.output.path) if recipe.output.path else None
    places = [_writable("output", out)] if out else []
    with TemporaryDirectory(prefix="curate-pieces-") as folder:
        clock, cpu = time.perf_counter(), cpu_seconds()
        try:
            pieces = None if plan_only else Path(folder)
            plan, sketched, read = _plan(recipe, out, stage_files, listen, fresh, max_download, pieces)
        except OSError as error:
            raise os_error(error, recipe.output.path) from error
        places += [_writable("work store", Folder(plan.store))] if out else []
        models = _open_models(recipe)
        opened = [f"opened {models} models"] if models else []
        planning = Spent(time.perf_counter() - clock, cpu_seconds() - cpu)
        expected = None
        if not plan_only:
            expected = forecast(
                plan, recipe, stage_files, workers=workers or default_workers(), max_memory_mb=max_memory_mb,
                planning=planning, assume_rows=assume_rows, sketched=sketched,
            )  # fmt: skip
            opened.append(f"ran it on {expected.sampled_rows:,} rows")
    files = sketched.files if sketched else plan.files
    input_schema = plan.input_schema()
    output_schema = shape.written(recipe.output, input_schema, check_schema(recipe, input_schema))
    return Check(
        recipe=recipe.name, files=len(files), bytes=sum(f.size for f in files), units=None if sketched else len(plan.units),
        duplicate_ids=plan.duplicate_ids, columns_in={f.name: str(f.type) for f in input_schema},
        columns_out={f.name: str(f.type) for f in output_schema},
        passes=[_pass(plan, i, out, sketched is None) for i in range(len(plan.passes))],
        stages=[step_identity(s, recipe.base) for s in recipe.steps if s.stage != CHECKPOINT],
        notes=_notes(recipe), output=recipe.output.path, store=plan.store, free_bytes=_free(recipe.output.path), origins=recipe.origins,
        checked=[read, "every stage's options, columns and predicates", *opened, *places], forecast=expected,
    )  # fmt: skip


def _plan(
    recipe: Recipe, out: Untouched | None, stage_files: Sequence[str], listen: Listener, fresh: bool,
    max_download: float | None, folder: Path | None,
) -> tuple[Plan, Sketch | None, str]:  # fmt: skip
    """The plan that a run would begin with, of an earlier run or made now; and what was looked at for it.

    Of a large input it is made of pieces, which come into `folder`; without one the input is read in full.
    """
    earlier = out is not None and _earlier(out, fresh)
    if folder and not earlier and (some := sketch(recipe, stage_files, listen, folder, max_download)):
        read = f"read {len(some.parts)} pieces of {len({part.of for part in some.parts})} of {len(some.files)} input files"
        return some.plan, some, read
    if out is None:
        plan = freeze(recipe, stage_files, listen, max_download=max_download)
        return plan, None, f"read {len(plan.files)} input files in full"
    plan, _ = plan_or_resume(recipe, out, stage_files, listen, max_download=max_download)
    files = f"{len(plan.files)} input files"
    return (
        plan,
        None,
        f"{files} are those that an earlier run planned" if earlier else f"read {files} in full",
    )


def _earlier(out: Untouched, fresh: bool) -> bool:
    """Whether an earlier run planned into the folder. Raises what a run would say of it."""
    refuse_strangers(out)
    owner = read_owner(out)
    if owner and not is_dead(owner):
        raise LockedError(
            f"{out.path} is being written by process {owner.pid} on {owner.host}, since {owner.since}",
            hint=f"wait for it; `curate status {out.path}` says how far it is",
        )
    if fresh:
        remove_dataset(out)
    return out.exists(PLAN)


def _notes(recipe: Recipe) -> dict[str, list[str]]:
    steps = [step for step in recipe.steps if step.stage != CHECKPOINT]
    return {step.name: list(note(step.settings())) for step in steps if (note := step.spec().notes)}


def _open_models(recipe: Recipe) -> int:
    """Load what the stages load, as a worker does at its start; returns how many have a model."""
    loading = [step for step in recipe.steps if step.stage != CHECKPOINT and step.spec().load]
    opened = 0
    for step in loading:
        load = step.spec().load
        assert load
        with TemporaryDirectory(prefix="curate-check-") as scratch:
            opened += load(step.settings(), Path(scratch)) is not None
    return opened


def _writable(what: str, folder: Folder) -> str:
    """What can be said of a place before anything is written into it. ConfigError where nothing can be."""
    if folder.local is None:
        try:
            folder.names()
        except OSError as error:
            raise ConfigError(
                f"cannot reach the {what} {folder.path}: {error.strerror}",
                hint="check bucket, endpoint and keys",
            ) from None
        return f"the address of the {what} answers (no write was tried)"
    nearest = next(p for p in [folder.local, *folder.local.parents] if p.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise ConfigError(f"cannot write the {what} into {nearest}", hint=f"choose another {what}")
    return f"permission to write the {what}"


def _pass(plan: Plan, index: int, out: Folder | None, whole: bool) -> PassPlan:
    one = plan.passes[index]
    names = {s.index: s.name for s in plan.recipe.steps}
    if one.kind == "phase":
        phase = plan.recipe.steps[one.step].spec().phases[one.phase]
        steps = [f"{names[one.step]}.{phase.run.__name__}"]
    else:
        steps = [*([f"{names[one.opens]}.apply"] if one.opens >= 0 else []), *(names[i] for i in one.steps)]
    if not whole:  # a pass is named by all of its input
        return PassPlan(index=index, kind=one.kind, steps=steps, fingerprint="", state="unknown")
    folder = out if one.final else pass_folder(plan, "", one)
    done = folder is not None and folder.exists(MANIFEST)
    state = ("in the output" if one.final else "in the work store") if done else "to do"
    return PassPlan(index=index, kind=one.kind, steps=steps, fingerprint=one.fingerprint, state=state)


def _free(path: str) -> int | None:
    if "://" in path:
        return None
    local = Path(path or ".").absolute()
    return shutil.disk_usage(next(p for p in [local, *local.parents] if p.exists())).free
