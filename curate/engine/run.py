"""A whole run: plan or resume, pass after pass, guards, then the manifest that says it is complete."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import pyarrow as pa

from curate import stages
from curate.engine import beside, canaries, guards, journal, shape, shuffle
from curate.engine.fingerprints import named_files, recipe_digest
from curate.engine.forecast import Limits, fits_by_pieces, forecast
from curate.engine.freeze import freeze, listing_changes, relocated
from curate.engine.journal import MANIFEST, Entry, fault
from curate.engine.limits import WORKER_MEMORY_MB
from curate.engine.lock import LOCK, InUse, Lock
from curate.engine.log import LOGS, Listener, RunLog
from curate.engine.plan import Pass, Plan
from curate.engine.remember import planned, remember
from curate.engine.result import Result, judged, read_manifest, summarise
from curate.engine.unit import PLAN, Job, pass_folder, read_plan
from curate.engine.workers import Pool, Signals, Stopped, default_workers, os_error
from curate.errors import ConfigError, CurateError, DataError, LockedError, ModelError, RunError
from curate.io import hive
from curate.io.arrow import arrow_batches
from curate.io.files import Folder, sha256_of
from curate.recipe.recipe import CHECKPOINT, MAX_DROPS, Recipe

RECORDS_PER_RANGE = 4_000_000
HUB_FILE = ".huggingface.yaml"
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
        with Signals() as signals, Planned(out), Lock(out), RunLog(out, listen) as listen:
            workers = workers or default_workers()
            with place_of_plan(out, fresh) as place:
                disk = limits.disk if limits else None
                anew = limits and not place.exists(PLAN)
                if limits and anew and fits_by_pieces(recipe, stage_files, limits, workers, max_memory_mb):
                    limits = None  # said before the input is read in full
                plan, done = plan_or_resume(recipe, place, stage_files, listen, workers, max_download=disk)
                if done is not None:
                    if not trial:
                        with Pool(workers, max_memory_mb, signals, listen) as pool:
                            remember(plan, out.path, listen, pool)
                    return judged(done, allowed)
                if limits:
                    limits.refuse(
                        forecast(plan, recipe, stage_files, workers=workers, max_memory_mb=max_memory_mb)
                    )
                if plan.recipe.canaries:
                    for message in canaries.watch(plan, recipe, place, stage_files, max_memory_mb):
                        listen("warning", {"message": message})
                    listen("canaries", canaries.counts(place))
                if place is not out:
                    load_models(plan)
            started = time.perf_counter()
            with (
                unplanned_where_it_cannot_begin(out),
                InUse(Folder(plan.store), [one.fingerprint for one in plan.passes]),
                Pool(workers, max_memory_mb, signals, listen) as pool,
            ):
                runner = Runner(plan, out.path, pool, listen, batch_rows)
                for one in plan.passes:
                    runner.run_pass(one)
                result = publish(plan, out, runner, time.perf_counter() - started, allowed)
                if not trial:
                    remember(plan, out.path, listen, pool)
            return result
    except OSError as error:
        raise os_error(error, out.path) from error


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


class Runner:
    """Runs passes in order on local workers."""

    def __init__(self, plan: Plan, run: str, pool: Pool, listen: Listener, batch_rows: int) -> None:
        self.plan, self.run, self.pool = plan, run, pool
        self.listen, self.batch_rows = listen, batch_rows
        self.fresh_units = self.fresh_bytes = 0
        self.totals: dict[int, Entry] = {}
        load_user_stages(plan)

    def run_pass(self, one: Pass) -> None:
        """Do what is left of a pass, judge its guards and mark it complete."""
        folder = pass_folder(self.plan, self.run, one)
        if one.final:
            self._work(one, folder)
            return
        with self._turn(folder):
            if lost := journal.heal(folder):
                message = (
                    f"{lost} units of pass {one.index + 1} are gone from the work store or damaged: made anew"
                )
                self.listen("warning", {"message": message})
            if folder.exists(MANIFEST):
                self.totals[one.index] = msgspec.json.decode(folder.read(MANIFEST), type=Entry)
                if folder.local:
                    os.utime(folder.local / MANIFEST)  # `clean` removes the least recently used
                self.listen("reuse", {"pass": one.index, "of": len(self.plan.passes)})
                self._judge(one)
                return
            self._work(one, folder)
            folder.remove_all(journal.TMP)
            folder.replace(MANIFEST, msgspec.json.encode(self.totals[one.index]))

    @contextlib.contextmanager
    def _turn(self, folder: Folder) -> Iterator[None]:
        """The lock of a pass that other runs may be making as well: waits for them."""
        with contextlib.ExitStack() as held:
            told = False
            while True:
                try:
                    held.enter_context(Lock(folder))
                    break
                except LockedError as error:
                    if not told:
                        self.listen(
                            "warning", {"message": f"waiting: {error.what}, and this run needs it too"}
                        )
                    told = True
                    time.sleep(0.5)
            yield

    def _work(self, one: Pass, folder: Folder) -> None:
        journal.resume(folder)
        jobs, total = self._jobs(one, folder)
        self.listen(
            "pass",
            {"pass": one.index, "of": len(self.plan.passes), "units": total, "bytes": self._bytes(one)},
        )

        def on_done(entries: list[Entry]) -> None:
            self.fresh_units += 1
            for entry in entries:
                self.fresh_bytes += entry.bytes_in if one.source < 0 else 0
                self.listen("unit", {"pass": one.index, "entry": entry})

        self._do(jobs, on_done, folder)
        self.totals[one.index] = journal.totals(journal.entries(folder))
        self._judge(one)

    def _do(self, jobs: list[Job], on_done: Callable[[list[Entry]], None], folder: Folder) -> None:
        try:
            self.pool.run(iter(jobs), on_done)
        except Stopped:
            raise  # within a second; a resume cleans up
        except CurateError:  # of the run, or a stage's
            self.pool.end()
            with contextlib.suppress(OSError, CurateError):
                journal.resume(folder)  # a full disk gets back what unfinished units hold
            raise

    def _judge(self, one: Pass) -> None:
        if one.kind == "rows":
            self._check_chain(one)
            total, folder = self.totals[one.index], pass_folder(self.plan, self.run, one)
            if small := guards.too_small(self.plan, total):
                self.listen("warning", {"message": small})
            warnings = guards.judge(self.plan, total, folder)
            for message in [*warnings, *guards.mostly_failed(self.plan, total, folder)]:
                self.listen("warning", {"message": message})

    def _check_chain(self, one: Pass) -> None:
        """What a pass read is what the pass before kept, by count and by id sum."""
        if one.source < 0:
            return
        kept, read = self.totals[one.source].ledger, self.totals[one.index].ledger
        if (kept.kept, kept.sum_of("kept")) != (read.rows_in, read.sum_of("rows_in")):
            raise RunError(
                f"pass {one.index + 1} read {read.rows_in} rows where pass {one.source + 1} kept {kept.kept}",
                hint=f"the work store {self.plan.store} was changed by hand; remove it and run with --fresh",
            )

    def _bytes(self, one: Pass) -> int:
        return sum(s.bytes for unit in self.plan.units for s in unit) if one.source < 0 else 0

    def _jobs(self, one: Pass, folder: Folder) -> tuple[list[Job], int]:
        """The jobs of a pass that are not in its journal yet, and how many there are in all."""
        records = self._records(one)
        done = set(journal.units_done(folder))
        if one.over != "units":
            ranges = ranges_of(one, self.totals[one.reads].records)
            named = [(f"r{i:05d}", i, low, high) for i, (low, high) in enumerate(ranges)]
        else:
            named = [(unit, i, 0, shuffle.U64_MAX) for i, unit in enumerate(self._units(one))]
        jobs = [
            Job(
                self.run, one.index, unit, number, records, low, high, batch_rows=self.batch_rows,
                cap_mb=self.pool.max_memory_mb,
            )
            for unit, number, low, high in named if unit not in done
        ]  # fmt: skip
        return jobs, len(named)

    def _units(self, one: Pass) -> list[str]:
        if one.source < 0:
            return self.plan.unit_names()
        return journal.units_done(pass_folder(self.plan, self.run, self.plan.passes[one.source]))

    def _records(self, one: Pass) -> str:
        """Folder with at most 64 record files to read; merges the files of the phase before until that holds."""
        if one.reads < 0:
            return ""
        reads = self.plan.passes[one.reads]
        folder = pass_folder(self.plan, self.run, reads)
        round_number = 0
        while len(names := [n for n in folder.names() if n.endswith(".parquet")]) > shuffle.MAX_FILES:
            round_number += 1
            target = Folder(f"{pass_folder(self.plan, self.run, reads).path}-merge{round_number}")
            with self._turn(target):
                if journal.heal(target) or not target.exists(MANIFEST):
                    self._merge(reads, folder, names, target)
            folder = target
        return folder.path

    def _merge(self, reads: Pass, folder: Folder, names: list[str], target: Folder) -> None:
        """One round: groups of at most 64 record files into one file each."""
        journal.resume(target)
        done = set(journal.units_done(target))
        groups = [tuple(names[i : i + shuffle.MAX_FILES]) for i in range(0, len(names), shuffle.MAX_FILES)]
        jobs = [
            Job(
                self.run, reads.index, f"m{i:05d}", i, folder.path, files=group, target=target.path,
                cap_mb=self.pool.max_memory_mb,
            )
            for i, group in enumerate(groups) if f"m{i:05d}" not in done
        ]  # fmt: skip
        self._do(jobs, lambda _: None, target)
        target.replace(MANIFEST, b"{}")


def ranges_of(one: Pass, records: int) -> list[tuple[int, int]]:
    """Key ranges of the tasks of a phase that reads so many records."""
    if not records:
        return []
    return shuffle.key_ranges(records, records if one.over == "whole" else RECORDS_PER_RANGE)


def load_user_stages(plan: Plan) -> None:
    """Make the stages of the plan's files known in this process."""
    for file, sha256 in plan.code:
        stages.use_file(file, sha256)


def publish(plan: Plan, out: Folder, runner: Runner, seconds: float, allowed: float) -> Result:
    """Bring dropped and quarantined rows and the journals of earlier passes into the output; then the manifest."""
    for one in plan.passes[:-1]:
        if one.kind == "rows":
            _take_pass(out, pass_folder(plan, runner.run, one), one)
    result = judged(summarise(plan, runner.totals, out.path), allowed)
    result.seconds = seconds
    result.fresh_units, result.fresh_bytes = runner.fresh_units, runner.fresh_bytes
    result.canaries = canaries.counts(out)
    out.remove_all(journal.TMP)
    # DuckDB, pandas and pyarrow pass over folders that begin with `_`; the hub's `datasets` reads this instead.
    ending = plan.recipe.output.format
    parts = "part-*" if not plan.recipe.output.partition_by else hive.GLOB
    out.replace(HUB_FILE, f'configs:\n- config_name: default\n  data_files: "{parts}.{ending}"\n'.encode())
    result.says = shape.says(plan.recipe)
    _take_along(plan, out)
    if plan.recipe.output.columns == "new":
        result.corpus = beside.corpus_of(plan, out)
        out.replace(beside.VIEW, beside.view_sql(plan, out))
    fault("manifest")
    out.replace(MANIFEST, msgspec.json.format(msgspec.json.encode(result), indent=1))
    return result


def _take_along(plan: Plan, out: Folder) -> None:
    """Copy what a dataset that states something needs to be understood: the files that the stage's Config names."""
    for step in plan.recipe.steps:
        if step.stage != CHECKPOINT and (spec := step.spec()).states and spec.files:
            for file in spec.files(step.settings()):
                path = Path(plan.recipe.base, file)
                out.replace(f"_curate/{step.stage}/{path.name}", path.read_bytes())


def _take_pass(out: Folder, folder: Folder, one: Pass) -> None:
    for name in folder.folders("_dropped"):
        for file in folder.names(f"_dropped/{name}"):
            fault("take")
            out.take(folder, f"_dropped/{name}/{file}", f"_dropped/{name}/{file}")
    for file in folder.names("_quarantine"):
        out.take(folder, f"_quarantine/{file}", f"_quarantine/{file}")
    for file in folder.names(journal.JOURNAL):
        out.take(folder, f"{journal.JOURNAL}/{file}", f"{journal.JOURNAL}/pass-{one.index:02d}/{file}")


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
