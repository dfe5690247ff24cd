"""One unit of a rows pass, start to commit. Takes a plan folder and a unit's name and assumes nothing else."""

import contextlib
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from curate import stages
from curate.child import mark_row, peak_memory_bytes
from curate.engine import journal, shape
from curate.engine.flow import Flow
from curate.engine.journal import Entry
from curate.engine.limits import WORKER_MEMORY_MB, phase_memory
from curate.engine.parts import UnitFiles
from curate.engine.plan import Pass, Plan, schema_after
from curate.errors import DataError, StageError
from curate.io import inputs
from curate.io.files import Folder
from curate.schema import id_sum

PLAN = "_curate/plan.json"
DUPLICATES = "_curate/duplicate_ids.parquet"
BATCH_BYTES = 16 << 20
UNIT_ROWS = 1 << 40  # a row's order in a run: unit number * this + row number


class Job(NamedTuple):
    """What a worker is asked to do."""

    run: str  # folder that holds the plan
    pass_index: int
    unit: str
    number: int  # of the unit in the pass
    records: str = ""  # folder with the records of the phase before
    low: int = 0  # range of the key, or of row orders
    high: int = 0
    files: tuple[str, ...] = ()  # merging: names in `records` ...
    target: str = ""  # ... into this folder
    careful: int = 0  # a worker died here twice: every stage in a killable child of at most so many MB
    batch_rows: int = 4096
    cap_mb: int = WORKER_MEMORY_MB  # a worker above it is killed
    remember: int = -1  # instead of a unit: the step whose index gets what the run saw


Progress = Callable[[int, int], None]  # rows and bytes in, since the last call


def read_plan(folder: Folder) -> Plan | None:
    """The frozen plan of an output; None where there is none yet."""
    try:
        return msgspec.json.decode(folder.read(PLAN), type=Plan)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise DataError(
            f"the plan cannot be read: {error}",
            where=folder.address(PLAN),
            hint="`curate run --fresh` makes it anew",
        ) from None


@lru_cache(maxsize=2)
def load_plan(run: str) -> Plan:
    """The frozen plan of a run; makes the user's stages known."""
    plan = read_plan(Folder(run))
    if plan is None:
        raise DataError("the plan of the run is gone", where=run, hint="`curate run --fresh` makes it anew")
    for file, sha256 in plan.code:
        stages.use_file(file, sha256)
    return plan


def pass_folder(plan: Plan, run: str, one: Pass) -> Folder:
    """Where a pass keeps its journal and files: the output for the last one, else the work store."""
    return Folder(run) if one.final else Folder(plan.store) / f"passes/{one.fingerprint}"


def schema_before(plan: Plan, one: Pass) -> pa.Schema:
    """Columns of the rows that a pass reads."""
    schema = plan.input_schema()
    for earlier in plan.passes[: one.index]:
        if earlier.kind == "rows":
            schema = schema_of(plan, earlier, schema)
    return schema


def schema_of(plan: Plan, one: Pass, schema: pa.Schema) -> pa.Schema:
    """Columns after a rows pass."""
    for index in ([one.opens] if one.opens >= 0 else []) + list(one.steps):
        step = plan.recipe.steps[index]
        schema = schema_after(schema, step, step.spec(), step.settings())
    return schema


class UnitReport:
    """Collects what the reader could not give as rows."""

    def __init__(self) -> None:
        self.skipped: dict[str, int] = {}
        self.on_row: Callable[[dict[str, Any]], None] = lambda row: (
            None
        )  # a phase reads rows that a pass reports

    def quarantine(self, *, id: str, source: str, offset: int, reason: str, error: str, raw: bytes) -> None:
        self.on_row(
            {"id": id, "source": source, "offset": offset, "reason": reason, "error": error, "raw": raw}
        )

    def skip(self, reason: str, count: int = 1) -> None:
        self.skipped[reason] = self.skipped.get(reason, 0) + count


class UnitRows:
    """Rows of one unit as the pass reads them, batch by batch, with what the reader reported."""

    def __init__(self, plan: Plan, one: Pass, job: Job) -> None:
        self.plan, self.job = plan, job
        self.report = UnitReport()
        self.source = plan.passes[one.source] if one.source >= 0 else None
        self.schema = schema_before(plan, one)

    def from_link(self, link: int = 0) -> Iterator[Any]:
        """Batches, and LINK_END at the end of each link of a compressed stream."""
        self.plan.check_named()
        yield from self._input(link) if self.source is None else self._part(self.source)
        self.plan.check_named()

    @property
    def is_chain(self) -> bool:
        return self.source is None and any(s.chain for s in self.slices)

    @property
    def slices(self) -> tuple[inputs.Slice, ...]:
        return self.plan.units[self.job.number]

    def _input(self, link: int) -> Iterator[Any]:
        self.plan.check_unchanged(self.slices)
        yield from inputs.read(
            self.plan.root, self.slices, self.plan.recipe.input, self.schema, self.report,
            batch_rows=self.job.batch_rows, max_document_bytes=self.plan.recipe.max_document_mb << 20, first_link=link,
        )  # fmt: skip
        self.plan.check_unchanged(self.slices)  # while it was read

    def _part(self, source: Pass) -> Iterator[pa.RecordBatch]:
        folder = pass_folder(self.plan, self.job.run, source)
        name = f"part-{self.job.unit}.parquet"
        if all(written.name != name for written in journal.read(folder, self.job.unit).outputs):
            return  # no row of the unit was left
        if not folder.exists(name):
            raise DataError(
                f"{name} is in the journal but gone", where=folder.path, hint="run again: it is made anew"
            )
        part = folder.local / name if folder.local else folder.open(name)
        with pq.ParquetFile(part, pre_buffer=False, buffer_size=1 << 20) as file:
            rows = min(self.job.batch_rows, rows_within(file.metadata, BATCH_BYTES))
            for batch in file.iter_batches(batch_size=rows, use_threads=False):
                yield from small(batch.cast(self.schema) if batch.schema != self.schema else batch)


def rows_within(metadata: Any, size: int) -> int:
    """Rows that come to about `size` bytes in the fullest row group, one at least."""
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    fullest = max((g.total_byte_size / g.num_rows for g in groups if g.num_rows), default=1.0)
    return max(1, int(size / max(fullest, 1.0)))


def small(batch: pa.RecordBatch, limit: int = BATCH_BYTES) -> Iterator[pa.RecordBatch]:
    """Cut a batch until each piece is below `limit` bytes or one row."""
    if batch.num_rows > 1 and batch.nbytes > limit:
        half = batch.num_rows // 2
        yield from small(batch.slice(0, half), limit)
        yield from small(batch.slice(half), limit)
    else:
        yield batch


class DuplicateIds:
    """Later rows of an id that stands twice in the input; found at plan."""

    def __init__(self, plan: Plan, job: Job) -> None:
        self.keep_first: dict[str, bool] = {}
        self.found: list[str] = []  # repeated ids whose first row came since the last commit
        self._seen: set[str] = set()
        if plan.duplicate_ids:
            folder = Folder(job.run)
            unit = job.number
            with folder.open(DUPLICATES) as file:
                table = pq.read_table(file, filters=[("unit", "==", unit)])
            self.keep_first = dict(zip(table["id"].to_pylist(), table["keep_first"].to_pylist(), strict=True))

    def already_found(self, ids: list[str]) -> None:
        """Links committed before a kill hold the first rows of these."""
        self._seen.update(ids)

    def split(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.RecordBatch | None]:
        """The rows to go on with, and the later ones of a repeated id."""
        if not self.keep_first:
            return batch, None
        keep = []
        for row_id in batch.column("id").to_pylist():
            first = self.keep_first.get(row_id)
            keep.append(first is None or (first and row_id not in self._seen))
            if first and keep[-1]:
                self._seen.add(row_id)
                self.found.append(row_id)
        mask = pa.array(keep, pa.bool_())
        return (batch, None) if all(keep) else (batch.filter(mask), batch.filter(pa.compute.invert(mask)))


_flows: dict[tuple[str, int, int], Flow] = {}


def flow_for(plan: Plan, one: Pass, job: Job) -> Flow:
    """The fused steps of a pass, made once per worker: models stay loaded, children alive."""
    key = (one.fingerprint, one.index, job.careful)
    if key not in _flows:
        for old in _flows.values():
            old.close()
        _flows.clear()
        schema = schema_before(plan, one)
        if one.opens >= 0:
            step = plan.recipe.steps[one.opens]
            schema = schema_after(schema, step, step.spec(), step.settings())
        _flows[key] = Flow(plan, [plan.recipe.steps[i] for i in one.steps], schema, job.careful)
    return _flows[key]


def run_rows(
    plan: Plan, one: Pass, job: Job, progress: Progress, apply: "Callable[[LinkRun], None] | None" = None
) -> Iterator[Entry]:
    """A unit of a rows pass: read, push through the steps, write, commit; one entry per link of a stream.

    `apply` stands for the reading where the pass opens with the last phase of a global stage.
    """
    folder = pass_folder(plan, job.run, one)
    rows = UnitRows(plan, one, job)
    flow = flow_for(plan, one, job)
    duplicates = DuplicateIds(plan, job) if one.source < 0 else None
    link = 0
    if rows.is_chain:
        link, finished = _links_done(folder, job.unit, duplicates)
        if finished:
            return
    stream = rows.from_link(link)
    more = True
    while more:
        name = f"{job.unit}-{link:05d}" if rows.is_chain else job.unit
        run = LinkRun(plan, one, job, folder, flow, rows, duplicates, name, progress)
        more = run.run(stream, apply)
        yield run.commit(link, last=not more)
        link += 1


class LinkRun:
    """A unit's rows up to the next commit."""

    def __init__(
        self, plan: Plan, one: Pass, job: Job, folder: Folder, flow: Flow, rows: UnitRows,
        duplicates: DuplicateIds | None, name: str, progress: Progress,
    ) -> None:  # fmt: skip
        self.progress = progress
        self.plan, self.one, self.job, self.folder = plan, one, job, folder
        self.flow, self.rows, self.duplicates, self.name = flow, rows, duplicates, name
        self.files = self._files(folder, name)
        flow.start(self.files)
        rows.report.on_row = self._take_report
        self.bytes_in = 0
        self.started, self.cpu = time.perf_counter(), flow.cpu_seconds()

    def _files(self, folder: Folder, name: str) -> UnitFiles:
        output = self.plan.recipe.output
        if not self.one.final:
            return UnitFiles(folder, self.one.index, name, None)
        schema = shape.written(output, self.plan.input_schema(), self.flow.schema)
        columns = [] if output.columns == "all" else schema.names
        says, memory = shape.metadata(self.plan.recipe), phase_memory(self.job.cap_mb).sort
        return UnitFiles(folder, self.one.index, name, output, columns, says, memory)

    def run(self, stream: Iterator[Any], apply: "Callable[[LinkRun], None] | None") -> bool:
        """Push rows until the unit or link ends; True when a link ended and the stream goes on."""
        try:
            if apply:
                apply(self)
                return False
            for number, batch in enumerate(stream):
                if batch is inputs.LINK_END:
                    return True
                mark_row(number)
                self.flow.push(self.take_in(batch))
            return False
        except BaseException:
            with contextlib.suppress(OSError):
                self.files.abandon()
            raise

    def take_in(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Count rows that come in and set aside the later ones of a repeated id."""
        self.flow.count_in(batch)
        self.bytes_in += batch.nbytes
        if self.duplicates:
            batch, repeated = self.duplicates.split(batch)
            for row in repeated.to_pylist() if repeated else ():
                raw = row.get("text") or ""
                self.flow.quarantine(
                    "read",
                    {"id": row["id"], "source": row.get("source"), "offset": None, "reason": "duplicate_id",
                     "error": "an earlier row has this id", "raw": raw.encode()},
                )  # fmt: skip
        self.progress(batch.num_rows, batch.nbytes)
        return batch

    def _take_report(self, row: dict[str, Any]) -> None:
        self.flow.ledger.add("rows_in", 1, id_sum([row["id"]]))
        self.flow.quarantine("read", row)

    def commit(self, link: int, last: bool) -> Entry:
        self.plan.check_named()
        flow = self.flow
        broken = flow.ledger.broken()
        if broken:
            steps = ([self.one.opens] if self.one.opens >= 0 else []) + list(self.one.steps)
            names = ", ".join(self.plan.recipe.steps[i].name for i in steps)
            raise StageError(
                f"unit {self.name} does not add up: {broken}",
                hint=f"one of the stages {names} lost or invented rows; mend it and run again",
            )
        found = self.duplicates.found if self.duplicates else []
        entry = Entry(
            unit=self.name, pass_index=self.one.index, fingerprint=self.one.fingerprint, ledger=flow.ledger, steps=flow.counts,
            skipped=self.rows.report.skipped, quarantined=flow.quarantined, killed_ids=flow.killed_ids,
            outputs=self.files.finish(), bytes_in=self.bytes_in, text_bytes=flow.text_bytes, tokens=flow.tokens,
            seconds=time.perf_counter() - self.started, cpu_seconds=flow.cpu_seconds() - self.cpu,
            peak_rss_bytes=peak_memory_bytes(), link=link, last=last,
            first_ids=found[:] if self.rows.is_chain else [],
        )  # fmt: skip
        self.rows.report.skipped = {}
        found.clear()
        return journal.commit(self.folder, entry, self.files.attempt)


def _links_done(folder: Folder, unit: str, duplicates: DuplicateIds | None) -> tuple[int, bool]:
    """First link still to do, and whether the stream is finished."""
    link = 0
    while entry := journal.finished(folder, f"{unit}-{link:05d}"):
        if duplicates:
            duplicates.already_found(entry.first_ids)
        if entry.last:
            return link, True
        link += 1
    return link, False
