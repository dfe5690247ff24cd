"""A whole run: plan or resume, pass after pass, guards, then the manifest that says it is complete."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pyarrow as pa

from curate.engine import canaries, journal
from curate.engine.fingerprints import named_files, recipe_digest
from curate.engine.forecast import Limits, fits_by_pieces, forecast
from curate.engine.freeze import freeze, listing_changes, relocated
from curate.engine.journal import MANIFEST
from curate.engine.limits import WORKER_MEMORY_MB
from curate.engine.lock import LOCK, InUse, Lock
from curate.engine.log import LOGS, Listener, RunLog
from curate.engine.plan import Plan
from curate.engine.publish import HUB_FILE, publish
from curate.engine.remember import planned, remember
from curate.engine.result import Result, judged, read_manifest
from curate.engine.runner import Runner, load_user_stages
from curate.engine.unit import PLAN, pass_folder, read_plan
from curate.engine.workers import Pool, Signals, default_workers, os_error
from curate.errors import ConfigError, DataError, ModelError
from curate.io import hive
from curate.io.arrow import arrow_batches
from curate.io.files import Folder, sha256_of
from curate.recipe.recipe import CHECKPOINT, MAX_DROPS, Recipe

ASIDE = f"{journal.TMP}/fresh"


def run(
    recipe: Recipe, *, workers: int = 0, fresh: bool = False, stage_files: Sequence[str] = (),
    max_memory_mb: int = WORKER_MEMORY_MB, allow_quarantined: float | None = None,
    listen: Listener = lambda kind, data: None, batch_rows: int = 4096, limits: Limits | None = None, trial: bool = False,
) -> Result:  # fmt: skip
    """Run a recipe to its end, or go on where it stopped; a `trial` adds to no index.

    Returns the Result of a complete run. Raises GuardError (nothing published), RunError (resumable), StageError,
    LockedError, ConfigError or DataError otherwise.
    """
    if not recipe.output.path:
        raise ConfigError(
            "no output is named", hint="add `output: {path: ...}` to the recipe, or give -o OUT"
        )
    out = Folder(recipe.output.path)
    allowed = recipe.allow_quarantined if allow_quarantined is None else allow_quarantined
    try:
        refuse_strangers(out)
        with (
            Signals() as signals, Planned(out), Lock(out), RunLog(out, listen) as listen,
            Pool(workers or default_workers(), max_memory_mb, signals, listen) as pool,
        ):  # fmt: skip
            plan, done = _begun(recipe, out, fresh, stage_files, listen, pool, limits)
            if done is None:
                return _ended(plan, out, pool, listen, batch_rows, allowed, trial)
            if not trial:
                remember(plan, out.path, listen, pool)
            return judged(done, allowed)
    except OSError as error:
        raise os_error(error, out.path) from error


def _begun(
    recipe: Recipe, out: Folder, fresh: bool, stage_files: Sequence[str], listen: Listener, pool: Pool,
    limits: Limits | None,
) -> tuple[Plan, Result | None]:  # fmt: skip
    """The plan, which fits into the limits and lets its canaries die; with the result where the run is complete already."""
    workers, cap_mb = pool.count, pool.max_memory_mb
    with place_of_plan(out, fresh) as place:
        disk, anew = limits.disk if limits else None, not place.exists(PLAN)
        if limits and anew and fits_by_pieces(recipe, stage_files, limits, workers, cap_mb):
            limits = None  # said before the input is read in full
        plan, done = plan_or_resume(recipe, place, stage_files, listen, workers, max_download=disk)
        if done is not None:
            return plan, done
        if limits:
            limits.refuse(forecast(plan, recipe, stage_files, workers=workers, max_memory_mb=cap_mb))
        if plan.recipe.canaries:
            for message in canaries.watch(plan, recipe, place, stage_files, cap_mb):
                listen("warning", {"message": message})
            listen("canaries", canaries.counts(place))
        if place is not out:
            load_models(plan)
    return plan, None


def _ended(
    plan: Plan, out: Folder, pool: Pool, listen: Listener, batch_rows: int, allowed: float, trial: bool
) -> Result:
    """All passes of a plan, published."""
    started = time.perf_counter()
    with (
        unplanned_where_it_cannot_begin(out),
        InUse(Folder(plan.store), [one.fingerprint for one in plan.passes]),
    ):
        runner = Runner(plan, out.path, pool, listen, batch_rows)
        for one in plan.passes:
            runner.run_pass(one)
        result = publish(plan, out, runner, time.perf_counter() - started, allowed)
        if not trial:
            remember(plan, out.path, listen, pool)
    return result


@contextlib.contextmanager
def place_of_plan(out: Folder, fresh: bool) -> Iterator[Folder]:
    """Where to plan: in the output; with `fresh` beside what is there, which goes when nothing has refused the plan."""
    if not fresh or not out.exists(PLAN):
        yield out
        return
    aside = Folder(f"{out.path}/{ASIDE}")
    aside.remove_all()
    try:
        with Lock(aside):
            yield aside
        remove_dataset(out)
        for name in aside.names("_curate"):
            out.take(aside, f"_curate/{name}", f"_curate/{name}")
    finally:
        aside.remove_all()


def load_models(plan: Plan) -> None:
    """Load what the stages load, as a worker does at its start."""
    load_user_stages(plan)
    for step in plan.recipe.steps:
        if step.stage != CHECKPOINT and (load := step.spec().load):
            load(step.settings(), plan.model_store())


@contextlib.contextmanager
def unplanned_where_it_cannot_begin(out: Folder) -> Iterator[None]:
    """Take the plan away where a list or model could not be loaded: a corrected one is another recipe's."""
    try:
        yield
    except (ConfigError, ModelError):
        if not out.exists(journal.JOURNAL):
            out.remove(PLAN)
        raise


def plan_or_resume(
    recipe: Recipe, out: Folder, stage_files: Sequence[str], listen: Listener, workers: int = 1, *,
    max_download: float | None = None,
) -> tuple[Plan, Result | None]:  # fmt: skip
    """The frozen plan of the folder, or a new one; with the result where the run is complete already."""
    plan = read_plan(out) if out.exists(PLAN) else None
    if plan is None:
        plan = freeze(recipe, stage_files, listen, out, workers=workers, max_download=max_download)
        out.replace(PLAN, msgspec.json.format(msgspec.json.encode(plan), indent=1))
        return plan, None
    known = planned(plan, recipe) if out.exists(MANIFEST) else {}
    if plan.digest != recipe_digest(recipe, sum(f.size for f in plan.files), known):
        raise ConfigError(
            f"{out.path} holds a run of another recipe (or of other stage versions)",
            hint="choose another output, or make this one anew with --fresh; passes both recipes share are not run again",
        )
    changes = listing_changes(plan, recipe, listen)
    if out.exists(MANIFEST):
        return plan, _still_complete(out, changes)
    gone = [c for c in changes if not c.startswith("new")]
    if gone:
        raise DataError(
            f"the input changed while the run was stopped: {'; '.join(gone)}",
            hint="bring it back, or run with --fresh",
        )
    if changes:
        listen(
            "warning",
            {"message": f"{'; '.join(changes)}: not part of this run, whose plan was frozen before"},
        )
    renewed = with_guards_of(relocated(plan, recipe, listen), recipe, stage_files)
    if renewed != plan:
        out.replace(PLAN, msgspec.json.format(msgspec.json.encode(renewed), indent=1))
    if any(pass_folder(renewed, out.path, one).exists(journal.JOURNAL) for one in renewed.passes):
        listen("resume", {"output": out.path})
    return renewed, None


def _still_complete(out: Folder, changes: Sequence[str]) -> Result:
    """The result of a complete run whose input and output are what they were."""
    if changes:
        raise ConfigError(
            f"{out.path} is complete, but its input has changed since: {'; '.join(changes)}",
            hint="--fresh makes it anew; another output keeps both",
        )
    done = read_manifest(out)
    gone = [w.name for e in journal.entries(out) for w in e.outputs if not out.exists(w.name)]
    if gone:
        raise DataError(
            f"{out.path} was complete, but {gone[0]} is gone", hint="--fresh makes the dataset anew"
        )
    done.fresh_units = done.fresh_bytes = 0
    done.output, done.next = out.path, f"curate peek {out.path}"
    return done


def with_guards_of(plan: Plan, recipe: Recipe, stage_files: Sequence[str]) -> Plan:
    """The plan with what decides no row taken from the recipe as it is now: guards, and where stages files lie."""
    steps = tuple(
        msgspec.structs.replace(old, **{guard: getattr(new, guard) for guard in MAX_DROPS})
        for old, new in zip(plan.recipe.steps, recipe.steps, strict=True)
    )
    reading = msgspec.structs.replace(plan.recipe.input, with_=recipe.input.with_)
    guarded = msgspec.structs.replace(
        plan.recipe, input=reading, steps=steps, allow_empty=recipe.allow_empty, guards=recipe.guards,
        allow_quarantined=recipe.allow_quarantined, canaries=recipe.canaries,
    )  # fmt: skip
    files = tuple(str(Path(f).resolve()) for f in stage_files) or plan.stage_files
    return msgspec.structs.replace(
        plan, recipe=guarded, stage_files=files, stage_sha256=tuple(map(sha256_of, files)), named=named_files(recipe)
    )  # fmt: skip


def refuse_strangers(out: Folder) -> None:
    """An output folder is new, empty or ours."""
    try:
        strangers = [n for n in [*out.names(), *out.folders()] if not n.startswith((".", "_curate"))]
    except OSError as error:
        raise ConfigError(
            f"cannot write into {out.path}: {error.strerror or error}",
            hint="check the path (or bucket, endpoint and keys), or choose another output",
        ) from None
    if strangers and not out.exists(PLAN):
        raise ConfigError(
            f"{out.path} is not empty and no curate dataset (it holds {strangers[0]})",
            hint="choose another output folder",
        )


class Planned:
    """Takes away what a call wrote into its output when it ends before there is a plan."""

    def __init__(self, out: Folder) -> None:
        self._out = out

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        if not self._out.exists(PLAN) and not self._out.exists(LOCK):
            self._out.remove_all("_curate")
            with contextlib.suppress(OSError):
                if self._out.local:
                    self._out.local.rmdir()  # only when it is empty


def remove_dataset(out: Folder) -> None:
    """Remove what an earlier run left (and only that)."""
    if not out.exists(PLAN):
        return
    for name in (MANIFEST, HUB_FILE):
        out.remove(name)
    hive.clear(out)
    kept = (journal.TMP, LOGS)  # the plan that takes its place, and what is told of it
    ours = [name for n in out.folders("_curate") if (name := f"_curate/{n}") not in kept]
    for name in ("_dropped", "_quarantine", *ours):
        out.remove_all(name)
    for name in out.names("_curate"):
        if f"_curate/{name}" != LOCK:
            out.remove(f"_curate/{name}")


def read(folder: str | Path) -> Iterator[pa.RecordBatch]:
    """Kept rows of a complete dataset, in order. Raises DataError when the run is not complete."""
    import pyarrow.parquet as pq

    where = Folder(str(folder))
    if not where.exists(MANIFEST):
        raise DataError(f"{where.path} is not a complete dataset", hint="finish it with `curate run`")
    for name in hive.parts(where):
        if name.endswith(".jsonl.zst"):
            raise DataError(f"{where.path} holds JSON Lines", hint="read its parts with a JSON reader")
        if name.endswith(".arrow"):
            with where.open(name) as file:
                yield from arrow_batches(file, 4096)
            continue
        with where.open(name) as file, pq.ParquetFile(file) as part:
            shared = hive.constants(part.schema_arrow)
            for batch in part.iter_batches(batch_size=4096):
                yield hive.widen(batch, shared)
