"""What a run will come to, said before it starts: the recipe is run on a small stratified sample and scaled up.

Rows are drawn from the whole input (of a large one, from pieces spread over it) into GROUPS small files and one large
one. The small files tell how far samples differ from each other, which makes the ranges of rows and bytes; the large one
tells the speed, since a small file's time is mostly the cost of opening it.

Ranges of map stages hold 19 times in 20 as far as the sample goes. A row sample hides duplicates (of a pair, both must
be drawn), so the range of a global stage reaches from the worst that the sample allows to no duplicate at all.
"""

import resource
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from curate.engine import pieces, scale
from curate.engine.draw import GROUPS, ROWS, Drawn, Floats, Range, T, draw
from curate.engine.freeze import Sketch, freeze, sketch
from curate.engine.parts import ROW_GROUP_BYTES
from curate.engine.plan import Pass, Plan
from curate.engine.scale import PACKED, Sample, Spent, Whole
from curate.engine.unit import PLAN
from curate.errors import GuardError
from curate.io.files import Folder
from curate.io.inputs import Input, Slice
from curate.recipe.guards import NAMES, Guards
from curate.recipe.recipe import MAX_DROPS, Recipe

MEMORY_PER_GROUP = 3.0  # a row group that is being written stands in memory about so many times
MEMORY_VARIES = 1.15  # by what the allocator gives back
ASSUMED_ROWS = 20_000  # drawn to measure what a row costs


class StepForecast(msgspec.Struct, kw_only=True):
    """What is left after a step, and its own time on all workers together."""

    index: int
    step: str
    rows: Range
    bytes: Range  # of text (and of html, until it is extracted)
    cpu_seconds: Range
    is_global: bool = False


class PhaseForecast(msgspec.Struct, kw_only=True):
    """A phase of a global stage: its time on all workers together, and what it leaves in the work store."""

    step: str
    phase: str
    over: str
    tasks: int
    merges: int  # rounds in which its files are merged before the next phase
    cpu_seconds: Range
    scratch_bytes: Range

    def line(self) -> str:
        """In words."""
        merged = f", merged in {self.merges} rounds" if self.merges else ""
        return (
            f"phase    {self.step}.{self.phase}: {_in_words(self.cpu_seconds)} core seconds, "
            f"{_in_words(self.scratch_bytes.times(1e-6))} MB in the work store, {self.tasks:,} tasks{merged}"
        )


class Forecast(msgspec.Struct, kw_only=True):
    """What `check` prints of it."""

    sampled_rows: int
    sampled_share: float  # of the rows
    rows_in: Range
    steps: list[StepForecast]
    phases: list[PhaseForecast] = []
    seconds: Range  # wall time, planning included
    worker_memory_bytes: Range
    output_bytes: Range
    scratch_bytes: Range  # in the work store
    download_bytes: float = 0.0  # of an input that comes into the work store first
    workers: int
    notes: list[str] = []

    @property
    def disk_bytes(self) -> Range:
        """All that the run writes."""
        come = self.download_bytes
        return self.output_bytes.plus(self.scratch_bytes).plus(Range(come, come, come))

    def lines(self) -> list[str]:
        """The forecast as a table and what it means."""
        names = ["rows in", *(f"after {step.index} {step.step}" for step in self.steps)]
        rows = [self.rows_in, *(step.rows for step in self.steps)]
        sizes = ["", *(_in_words(step.bytes.times(1e-6)) for step in self.steps)]
        times = ["", *(_in_words(step.cpu_seconds) for step in self.steps)]
        table = [("", "rows", "MB of text", "core seconds")]
        table += zip(names, map(_in_words, rows), sizes, times, strict=True)
        widths = [max(len(line[column]) for line in table) for column in range(4)]
        found = [
            f"forecast, from {self.sampled_rows:,} rows drawn at random ({_percent(self.sampled_share)} of all)"
        ]
        for name, *cells in table:
            shown = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
            found.append("  ".join([name.ljust(widths[0]), *shown]).rstrip())
        found += [phase.line() for phase in self.phases]
        come = f", {self.download_bytes / 1e6:,.1f} of input downloaded" if self.download_bytes else ""
        return [
            *found,
            f"time     {_in_words(self.seconds)} s with {self.workers} workers",
            f"memory   {_in_words(self.worker_memory_bytes.times(1e-6))} MB in each worker",
            f"disk     {_in_words(self.disk_bytes.times(1e-6))} MB: {_in_words(self.output_bytes.times(1e-6))} of output, "
            f"{_in_words(self.scratch_bytes.times(1e-6))} in the work store{come}",
            *(f"note     {note}" for note in self.notes),
        ]


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 or not share else f"{share:.1e}"


def _in_words(value: Range) -> str:
    digits = 0 if value.high >= 100 else 1 if value.high >= 10 else 2
    low, high = f"{value.low:,.{digits}f}", f"{value.high:,.{digits}f}"
    return low if low == high else f"{low} - {high}"


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a run may take: memory of all workers together and disk in bytes, hours. None is no limit."""

    memory: float | None = None
    disk: float | None = None
    hours: float | None = None

    def __bool__(self) -> bool:
        return any(value is not None for value in (self.memory, self.disk, self.hours))

    def refuse(self, forecast: Forecast) -> None:
        """GuardError when the upper end of a range is above its limit."""
        wanted = (
            ("memory", self.memory, forecast.worker_memory_bytes.times(forecast.workers), 1e6, "MB"),
            ("disk", self.disk, forecast.disk_bytes, 1e6, "MB"),
            ("hours", self.hours, forecast.seconds.times(1 / 3600), 1, "hours"),
        )
        for what, limit, need, unit, name in wanted:
            if limit is not None and need.high > limit:
                raise GuardError(
                    f"the forecast does not fit: {_in_words(need.times(1 / unit))} {name}"
                    f" where --max-{what} allows {limit / unit:,.4g}",
                    hint="`curate check RECIPE` shows what each stage takes"
                    + ("; fewer --workers need less" if what == "memory" else ""),
                )


def forecast(
    plan: Plan,
    recipe: Recipe,
    stage_files: Sequence[str] = (),
    *,
    workers: int,
    max_memory_mb: int,
    planning: Spent = Spent(0.0, 0.0),
    rows: int = ROWS,
    assume_rows: int = 0,
    sketched: Sketch | None = None,
) -> Forecast:
    """Run the recipe of a plan on a sample of its input, at most `rows`, and say what the whole will come to.

    `assume_rows`: what it would come to if the input had so many rows of the same kind. Raises what the run itself would
    raise: a stage that cannot work shows here.
    """
    with TemporaryDirectory(prefix="curate-forecast-") as name:
        scratch = Path(name)
        read, parts = pieces.pieces(plan, sketched, scratch)
        drawn = draw(plan, read, ASSUMED_ROWS if assume_rows else rows)
        small = _write(drawn.groups, scratch, recipe)
        sample_plan = _plan_of_groups(small, stage_files)
        start = _run(small, stage_files, max_memory_mb) if drawn.groups else Spent(0, 0)
        sample = Sample(sample_plan, drawn, start)
        scanning = pieces.scanning(sample_plan, scratch) if assume_rows and drawn.groups else Spent(0.0, 0.0)
    come = pieces.downloaded(plan, sketched)
    units = pieces.units_of(plan, sketched, read)
    if sketched:
        planning = pieces.planning_of(sketched, read)
    if assume_rows:
        grow = assume_rows / max(drawn.rows.likely, 1.0)
        drawn, planning, come = (
            _grown(drawn, grow),
            planning.plus(scanning.times(assume_rows / sample.rows / workers)),
            come * grow,
        )
        units = int(drawn.bytes / (recipe.unit_mb << 20))
    found = _scale(plan, sample, Whole(drawn, max(units, 1), workers, max_memory_mb), planning)
    found.download_bytes = come
    found.notes += pieces.notes(parts, sum(piece.bytes for piece in read))
    return found


def fits_by_pieces(
    recipe: Recipe, stage_files: Sequence[str], limits: Limits, workers: int, max_memory_mb: int
) -> bool:
    """Whether pieces of the input say that a run of it fits; False where it is better read in full, and says it then.

    GuardError where it does not fit: nothing but the pieces was read.
    """
    with TemporaryDirectory(prefix="curate-pieces-") as folder:
        some = sketch(recipe, stage_files, lambda kind, data: None, Path(folder), limits.disk)
        if some is None:
            return False
        found = forecast(
            some.plan, recipe, stage_files, workers=workers, max_memory_mb=max_memory_mb, sketched=some
        )
    limits.refuse(found)
    return True


def _grown(drawn: Drawn, grow: float) -> Drawn:
    rows = Range(drawn.rows.likely, drawn.rows.likely, drawn.rows.likely).times(grow)
    return drawn._replace(
        rows=rows,
        bytes=drawn.bytes * grow,
        share=drawn.share / grow,
        read_seconds=drawn.read_seconds * grow,
        read_cpu_seconds=drawn.read_cpu_seconds * grow,
    )


def _run(recipe: Recipe, stage_files: Sequence[str], max_memory_mb: int) -> Spent:
    from curate.engine.run import run  # which calls us when it has limits to keep

    clock, cpu = time.perf_counter(), cpu_seconds()
    run(recipe, workers=1, stage_files=stage_files, max_memory_mb=max_memory_mb, trial=True)
    return Spent(time.perf_counter() - clock, cpu_seconds() - cpu)


def cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _write(groups: Sequence[pa.Table], scratch: Path, recipe: Recipe) -> Recipe:
    """Write the groups as files, and the recipe that reads them; guards do not judge a sample."""
    (scratch / "in").mkdir()
    for number, table in enumerate(groups):
        pq.write_table(table, scratch / "in" / f"group-{number:02d}.parquet", row_group_size=table.num_rows)
    steps = tuple(msgspec.structs.replace(s, **dict.fromkeys(MAX_DROPS)) for s in recipe.steps)
    output = msgspec.structs.replace(recipe.output, path=str(scratch / "out"))
    return msgspec.structs.replace(
        recipe, input=Input(path=str(scratch / "in"), id="id"), output=output, store=str(scratch / "store"),
        steps=steps, guards=Guards(allow=NAMES), canaries=False, allow_empty=True, allow_quarantined=float(ROWS),
    )  # fmt: skip


def _plan_of_groups(recipe: Recipe, stage_files: Sequence[str]) -> Plan:
    """The plan of the sample's run, each group a unit."""
    plan = freeze(recipe, stage_files, lambda kind, data: None)
    by_file: dict[str, list[Slice]] = {}
    for piece in (piece for unit in plan.units for piece in unit):
        by_file.setdefault(piece.path, []).append(piece)
    plan = msgspec.structs.replace(plan, units=tuple(map(tuple, by_file.values())))
    Folder(recipe.output.path).replace(PLAN, msgspec.json.encode(plan))
    return plan


def _scale(plan: Plan, sample: Sample, whole: Whole, planning: Spent) -> Forecast:
    drawn = whole.drawn
    steps = _step_forecasts(sample, drawn)
    output, scratch = scale.disk(plan, sample, whole)
    memory = max((e.peak_rss_bytes for entries in sample.entries for e in entries), default=0)
    held = scale.held(plan, sample, whole)
    document_share = min(drawn.bytes / whole.units, ROW_GROUP_BYTES)
    running = scale.wall(sample, whole)
    return Forecast(
        sampled_rows=int(sample.rows_in.sum()),
        sampled_share=drawn.share,
        rows_in=drawn.rows,
        steps=steps,
        phases=_phase_forecasts(sample, whole),
        seconds=Spent(planning.wall + running.wall, planning.cpu + running.cpu).range(),
        worker_memory_bytes=Range(
            memory / MEMORY_VARIES,
            memory + max(document_share, held / 2),
            (memory + max(MEMORY_PER_GROUP * document_share, held)) * MEMORY_VARIES,
        ),
        output_bytes=output.times(drawn.rows).times(PACKED),
        scratch_bytes=scratch.times(drawn.rows).times(PACKED),
        workers=whole.workers,
        notes=_notes(steps, drawn),
    )


def _phase_forecasts(sample: Sample, whole: Whole) -> list[PhaseForecast]:
    """What each phase of a global stage takes and leaves in the work store."""
    found = []
    steps = {step.index: step for step in sample.plan.recipe.steps}
    for one in sample.plan.passes:
        if one.kind == "rows":
            continue
        each, pace, _ = sample.pace(one, lambda e: e.seconds)
        seconds = pace * whole.drawn.rows.likely + each * scale.tasks(one, whole)
        size = sample.written(one, True) * whole.drawn.rows.likely
        rounds = scale.merges(one, sample.plan, whole.units)
        phase = steps[one.step].spec().phases[one.phase]
        found.append(
            PhaseForecast(
                step=steps[one.step].name, phase=phase.run.__name__, over=phase.over,
                tasks=scale.tasks(one, whole), merges=rounds,
                cpu_seconds=Spent(seconds, seconds * sample.idle(one)).range(),
                scratch_bytes=Range(size, size, size).times(PACKED).times(1 + rounds),
            )
        )  # fmt: skip
    return found


def _step_forecasts(sample: Sample, drawn: Drawn) -> list[StepForecast]:
    """What each step leaves, in order. After a global stage shares are of what that left."""
    found: list[StepForecast] = []
    recipe = sample.plan.recipe
    names = {step.index: step.name for step in recipe.steps}
    base, base_rows, left = sample.rows_in, drawn.rows, drawn.rows
    hidden = Range(1.0, 1.0, 1.0)  # share of the bytes that global stages leave, beyond what the sample shows
    order = [(i, one) for one in sample.plan.passes if one.kind == "rows" for i in _steps_of(one)]
    for place, (index, one) in enumerate(order):
        came, _, went, seconds = sample.of_step(index, one)
        is_global = index == one.opens
        if is_global:
            unseen = scale.unseen(float(came.sum()), float(went.sum()), drawn.share)
            left, base = left.times(unseen), went
            base_rows = left
            if drawn.share < 1:
                hidden = hidden.times(unseen)
        elif recipe.steps[index].stage == "select" or came.sum() > went.sum():
            left = base_rows.times(scale.survive(went, base, drawn))
        size = sample.of_step(*order[place + 1])[1] if place + 1 < len(order) else sample.kept_bytes()
        took = float(seconds[-1]) / max(float(sample.rows_in[-1]), 1.0) * drawn.rows.likely
        found.append(
            StepForecast(
                index=index, step=names[index], rows=left.rounded(), is_global=is_global,
                bytes=_text(size, sample, drawn, hidden, left).rounded(),
                cpu_seconds=Spent(took, took * sample.idle(one)).range(),
            )
        )  # fmt: skip
    return found


def _text(size: Floats, sample: Sample, drawn: Drawn, hidden: Range, left: Range) -> Range:
    """Bytes of text after a step."""
    if not size.sum():  # what is left, if anything, is as long as what came in
        return Range(0.0, 0.0, left.high * drawn.bytes / max(drawn.rows.likely, 1.0))
    apart = scale.relative(size, sample.rows_in, drawn)
    mean = Range(max(0.0, 1.0 - apart), 1.0, 1.0 + apart)
    text = mean.times(float(size.sum()) / sample.rows).times(drawn.rows).times(hidden)
    if not left.likely:
        return text
    # few rows may all lie in one group: not surer than their number, nor than lengths vary
    rows = left.times(text.likely / left.likely)
    seen = left.likely / drawn.rows.likely * sample.rows
    few = T * (max(0.0, 1.0 - drawn.share) / seen) ** 0.5 if seen < GROUPS else 0.0
    low, high = min(text.low, rows.low), max(text.high, rows.high)
    return Range(low * max(0.0, 1 - few), text.likely, high * (1 + few))


def _steps_of(one: Pass) -> list[int]:
    return ([one.opens] if one.opens >= 0 else []) + list(one.steps)


def _notes(steps: Sequence[StepForecast], drawn: Drawn) -> list[str]:
    found = []
    if drawn.share < 1 and (hiding := [s.step for s in steps if s.is_global]):
        found.append(
            f"{', '.join(hiding)}: a row sample hides duplicates, so from there on the ranges are wide"
        )
    return found
