"""Phases of a global stage: a unit or a key range in, one sorted record file out; the last one keeps and drops rows."""

import contextlib
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from curate.child import mark_row, peak_memory_bytes
from curate.engine import journal, shuffle
from curate.engine.call import Names
from curate.engine.journal import Entry, Ledger, Written
from curate.engine.limits import phase_memory
from curate.engine.plan import Pass, Plan
from curate.engine.unit import UNIT_ROWS, DuplicateIds, Job, LinkRun, UnitRows, pass_folder
from curate.io import inputs
from curate.io.files import Folder
from curate.recipe.recipe import Step
from curate.schema import DROP
from curate.stage import Task


class Rows:
    """Rows of the task's unit, and the records of the phase before that fall in the task's range."""

    def __init__(
        self, job: Job, rows: UnitRows | None, key: tuple[str, ...], bounds: tuple[int, int],
        names: Names, take_in: Callable[[pa.RecordBatch], pa.RecordBatch] = lambda batch: batch,
        outside: "Outside | None" = None,
    ) -> None:  # fmt: skip
        self._job, self._rows, self._key, self._bounds = job, rows, key, bounds
        self._names, self._take_in, self._outside = names, take_in, outside

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Rows of the unit, each batch with `order`, uint64 (n,): the row's place in the run."""
        assert self._rows is not None
        position = self._job.number * UNIT_ROWS
        for number, batch in enumerate(self._rows.from_link()):
            if batch is inputs.LINK_END:
                continue
            mark_row(number)
            taken = self._take_in(batch)
            order = pa.array(range(position, position + taken.num_rows), pa.uint64())
            position += taken.num_rows
            ordered = self._names.as_stage(taken).append_column("order", order)
            yield self._outside.set_aside(ordered, taken) if self._outside else ordered

    def merged(self) -> Iterator[pa.Table]:
        """Records of the phase before inside the range, in key order."""
        yield from merged_records(Folder(self._job.records), (), self._key, *self._bounds)


def merged_records(
    folder: Folder, names: tuple[str, ...], key: tuple[str, ...], low: int, high: int
) -> Iterator[pa.Table]:
    """Merge record files of a folder (all of them unless named)."""
    with contextlib.ExitStack() as stack:
        chosen = names or [n for n in folder.names() if n.endswith(".parquet")]
        files = [stack.enter_context(folder.open(n)) for n in chosen]
        for number, table in enumerate(shuffle.merge(files, key, low, high)):
            mark_row(number)  # a sign of life
            yield table


class Outside:
    """Rows for which the step's `when` is not true: the stage never sees them, and they go on untouched, in order."""

    def __init__(self, step: Step, schema: pa.Schema, hold: bool) -> None:
        from curate.io.query import Predicate

        self._hold = hold  # only the last phase passes them on
        self._predicate = Predicate(step.when, {field.name: field.type for field in schema})
        self._written = step.spec().columns_written(step.settings())
        self._waiting: list[pa.RecordBatch] = []

    def set_aside(self, ordered: pa.RecordBatch, plain: pa.RecordBatch) -> pa.RecordBatch:
        """The rows that the stage sees; the others wait for `among`."""
        inside = pa.array(self._predicate.mask(plain))
        if self._hold:
            self._waiting.append(ordered.filter(pc.invert(inside)))
        return ordered.filter(inside)

    def among(self, kept: pa.RecordBatch | None) -> pa.RecordBatch | None:
        """Kept rows with the waiting ones between them; `_pass` is true for those, other new columns are null."""
        waiting, self._waiting = self._waiting, []
        whole = [batch for rows in waiting if (batch := self._widened(rows)).num_rows]
        if not whole:
            return kept
        columns = whole[0].schema.names if kept is None else kept.schema.names
        pieces = [*([kept] if kept is not None else []), *(batch.select(columns) for batch in whole)]
        table = pa.Table.from_batches(pieces).sort_by("order").combine_chunks()
        return table.to_batches()[0]

    def _widened(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        for name, kind in self._written.items():
            if name in rows.schema.names:  # `text` stays what it is
                continue
            values = (
                pa.repeat(True, rows.num_rows) if name.endswith("_pass") else pa.nulls(rows.num_rows, kind)
            )
            rows = rows.append_column(name, values)
        return rows


class Kept:
    """Where the last phase puts rows: into the rest of the pass, or the dropped."""

    def __init__(self, run: LinkRun, step: Step, names: Names, outside: Outside | None) -> None:
        self._run, self._step, self._names, self._outside = run, step, names, outside
        self._removed = f"{step.name}_removed_chars"

    def keep(self, batch: pa.RecordBatch) -> None:
        self._push((self._outside.among(batch) if self._outside else None) or batch)

    def finish(self) -> None:
        """Rows outside `when` that came after the last kept ones."""
        rest = self._outside.among(None) if self._outside else None
        if rest is not None:
            self._push(rest)

    def _push(self, batch: pa.RecordBatch) -> None:
        batch = self._plain(batch)
        count = self._run.flow.count_step(self._step, batch)
        if self._removed in batch.schema.names:  # of a stage that edits text
            count.changed |= bool(pc.any(pc.greater(batch.column(self._removed), 0)).as_py())
        self._run.flow.push(batch)

    def drop(self, batch: pa.RecordBatch, reasons: Mapping[str, pa.Array]) -> None:
        batch = self._plain(batch)
        self._run.flow.count_step(self._step, batch)
        for name, kind in DROP.items():
            values = reasons.get(name)
            if name == "drop_stage":
                values = pa.array([self._step.name] * batch.num_rows, kind)
            batch = batch.append_column(name, pa.nulls(batch.num_rows, kind) if values is None else values)
        self._run.flow.drop(self._step, batch)

    @property
    def scratch(self) -> Path:
        raise AssertionError("the last phase streams")

    @property
    def memory(self) -> int:
        raise AssertionError("the last phase streams")

    def write(self, table: pa.Table) -> None:
        raise AssertionError("the last phase keeps or drops rows")

    def _plain(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        if "order" in batch.schema.names:
            batch = batch.remove_column(batch.schema.get_field_index("order"))
        return self._names.as_step(batch)


class Records:
    """Where any other phase writes: one file sorted by the phase's key."""

    def __init__(self, writer: shuffle.SortedWriter, scratch: Path, memory: int) -> None:
        self.scratch, self.memory = scratch, memory
        self._writer, self._tables = writer, 0

    def write(self, table: pa.Table) -> None:
        self._tables += 1
        mark_row(self._tables)  # a sign of life
        self._writer.write(table)

    def keep(self, batch: pa.RecordBatch) -> None:
        raise AssertionError("only the last phase keeps rows")

    def drop(self, batch: pa.RecordBatch, reasons: Mapping[str, pa.Array]) -> None:
        raise AssertionError("only the last phase drops rows")


def apply(run: LinkRun) -> None:
    """The last phase over one unit; what it keeps flows into the rest of the pass."""
    step = run.plan.recipe.steps[run.one.opens]
    phase = step.spec().phases[-1]
    key = step.spec().phases[-2].key or ()
    bounds = _orders(run.job)
    names = Names(step, ["order"])
    outside = Outside(step, run.rows.schema, hold=True) if step.when else None
    rows = Rows(run.job, run.rows, key, bounds, names, run.take_in, outside)
    kept = Kept(run, step, names, outside)
    phase.run(Task(run.job.number), rows, kept, step.settings())
    kept.finish()


def _orders(job: Job) -> tuple[int, int]:
    # of the rows of a unit
    return job.number * UNIT_ROWS, (job.number + 1) * UNIT_ROWS - 1


def rows_of(plan: Plan, one: Pass, job: Job, key: tuple[str, ...]) -> Rows:
    """What a task of a phase before the last reads; the records have this key."""
    step = plan.recipe.steps[one.step]
    rows = UnitRows(plan, one, job) if one.over == "units" else None
    repeated = DuplicateIds(plan, job) if rows and one.source < 0 else None
    outside = Outside(step, rows.schema, hold=False) if rows and step.when else None
    bounds = _orders(job) if rows else (job.low, job.high)

    def first_rows(batch: pa.RecordBatch) -> pa.RecordBatch:
        """The rows that the last phase will see: a later row of a repeated id is none of them."""
        return repeated.split(batch)[0] if repeated else batch

    return Rows(job, rows, key, bounds, Names(step, ["order"]), first_rows, outside)


def run_phase(plan: Plan, one: Pass, job: Job) -> Entry:
    """A task of any other phase, start to commit."""
    step = plan.recipe.steps[one.step]
    phases = step.spec().phases
    phase, before = phases[one.phase], phases[one.phase - 1].key if one.phase > 0 else ()
    found = rows_of(plan, one, job, before or ())

    def body(writer: shuffle.SortedWriter, scratch: Path) -> Mapping[str, int]:
        records = Records(writer, scratch, phase_memory(job.cap_mb).stage)
        return phase.run(Task(job.number, job.low, job.high), found, records, step.settings())

    return _write_records(pass_folder(plan, job.run, one), one.fingerprint, job, phase.key or (), body)


def run_merge(plan: Plan, one: Pass, job: Job) -> Entry:
    """One task of a merging round: record files of a pass into one."""
    key = plan.recipe.steps[one.step].spec().phases[one.phase].key or ()

    def body(writer: shuffle.SortedWriter, _: Path) -> Mapping[str, int]:
        writer.write_sorted(merged_records(Folder(job.records), job.files, key, 0, shuffle.U64_MAX))
        return {}

    return _write_records(Folder(job.target), one.fingerprint, job, key, body)


def _write_records(
    folder: Folder, fingerprint: str, job: Job, key: tuple[str, ...],
    body: Callable[[shuffle.SortedWriter, Path], Mapping[str, int]],
) -> Entry:  # fmt: skip
    unit, attempt = job.unit, uuid.uuid4().hex[:12]
    tmp = f"{journal.TMP}/{unit}-{attempt}"
    started, cpu = time.perf_counter(), time.process_time()
    file = folder.create(tmp)
    try:
        # A kill leaves it where a resume cleans up.
        place = folder.local / journal.TMP if folder.local else None
        with (
            tempfile.TemporaryDirectory(prefix="sort-", dir=place) as runs,
            tempfile.TemporaryDirectory(prefix="task-", dir=place) as scratch,
        ):
            writer = shuffle.SortedWriter(file, key, Path(runs), phase_memory(job.cap_mb).sort)
            counts = body(writer, Path(scratch))
            writer.close()
        file.close()
    except BaseException:
        with contextlib.suppress(OSError):
            file.abandon()
            folder.remove(tmp)
        raise
    outputs = [
        Written(
            tmp=tmp, name=f"records-{unit}.parquet", sha256=file.sha256, bytes=file.bytes, rows=writer.rows
        )
    ]
    if not writer.rows:
        folder.remove(tmp)
    entry = Entry(
        unit=unit, fingerprint=fingerprint, ledger=Ledger(sums={}), counts=dict(counts),
        outputs=outputs if writer.rows else [], records=writer.rows, seconds=time.perf_counter() - started,
        cpu_seconds=time.process_time() - cpu, peak_rss_bytes=peak_memory_bytes(),
    )  # fmt: skip
    return journal.commit(folder, entry, attempt)
