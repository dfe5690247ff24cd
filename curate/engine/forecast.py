"""What a run will come to, said before it starts: the recipe is run on a small random sample and scaled up.

Rows are drawn evenly from the whole input (of a large one, from slices spread over it) into GROUPS small files and one
large one. The small files tell how far samples differ from each other, which makes the ranges of rows and bytes; the
large one tells the speed, since a small file's time is mostly the cost of opening it.

Ranges of map stages hold 19 times in 20 as far as the sample goes. A row sample hides duplicates (of a pair, both must
be drawn), so the range of a global stage reaches from the worst that the sample allows to no duplicate at all.
Time depends on what else the machine does: its range is TIME_FACTOR to either side.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.engine import journal
from curate.engine.draw import READ_BYTES, ROWS, Drawn, Floats, Range, T, draw
from curate.engine.freeze import freeze
from curate.engine.journal import Entry
from curate.engine.parts import ROW_GROUP_BYTES
from curate.engine.plan import Pass, Plan
from curate.engine.unit import PLAN, pass_folder
from curate.errors import GuardError
from curate.io.files import Folder
from curate.io.inputs import Input, Slice
from curate.recipe.guards import NAMES, Guards
from curate.recipe.recipe import MAX_DROPS, Recipe

TIME_FACTOR = 1.7
PACKED = Range(0.55, 1.0, 1.2)  # a large row group packs better than a sample's, near-duplicates much better
MEMORY_PER_GROUP = 3.0  # a row group that is being written stands in memory about so many times


class StepForecast(msgspec.Struct, kw_only=True):
    """What is left after a step, and its own time on all workers together."""

    index: int
    step: str
    rows: Range
    bytes: Range  # of text (and of html, until it is extracted)
    cpu_seconds: Range
    is_global: bool = False


class Forecast(msgspec.Struct, kw_only=True):
    """What `check` prints of it."""

    sampled_rows: int
    sampled_share: float  # of the rows
    rows_in: Range
    steps: list[StepForecast]
    seconds: Range  # wall time, planning included
    worker_memory_bytes: Range
    output_bytes: Range
    scratch_bytes: Range  # in the work store
    workers: int
    notes: list[str] = []

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
            f"forecast, from {self.sampled_rows:,} rows drawn at random ({self.sampled_share:.1%} of all)"
        ]
        for name, *cells in table:
            shown = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
            found.append("  ".join([name.ljust(widths[0]), *shown]).rstrip())
        total = self.output_bytes.plus(self.scratch_bytes)
        return [
            *found,
            f"time     {_in_words(self.seconds)} s with {self.workers} workers",
            f"memory   {_in_words(self.worker_memory_bytes.times(1e-6))} MB in each worker",
            f"disk     {_in_words(total.times(1e-6))} MB: {_in_words(self.output_bytes.times(1e-6))} of output, "
            f"{_in_words(self.scratch_bytes.times(1e-6))} in the work store",
            *(f"note     {note}" for note in self.notes),
        ]


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
            ("disk", self.disk, forecast.output_bytes.plus(forecast.scratch_bytes), 1e6, "MB"),
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
    plan_seconds: float = 0.0,
    rows: int = ROWS,
) -> Forecast:
    """Run the recipe of a plan on a sample of its input, at most `rows`, and say what the whole will come to.

    Raises what the run itself would raise: a stage that cannot work shows here.
    """
    from curate.engine.run import run  # which calls us when it has limits to keep

    with TemporaryDirectory(prefix="curate-forecast-") as name:
        scratch = Path(name)
        drawn = draw(plan, rows)
        small = _write(drawn.groups, scratch, recipe)
        sample_plan = freeze(small, stage_files, lambda kind, data: None)
        by_file: dict[str, list[Slice]] = {}
        for piece in (piece for unit in sample_plan.units for piece in unit):
            by_file.setdefault(piece.path, []).append(piece)
        sample_plan = msgspec.structs.replace(sample_plan, units=tuple(map(tuple, by_file.values())))
        Folder(small.output.path).replace(PLAN, msgspec.json.encode(sample_plan))
        started = time.perf_counter()
        if drawn.share:
            run(small, workers=1, stage_files=stage_files, max_memory_mb=max_memory_mb)
        wall = time.perf_counter() - started
        sample = _Sample(sample_plan, drawn)
        return _scale(plan, sample, drawn, wall, workers, plan_seconds)


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


class _Sample:
    """What the run on the sample came to, group by group."""

    def __init__(self, plan: Plan, drawn: Drawn) -> None:
        self.plan = plan
        self.groups = max(len(drawn.groups), 1)
        out = plan.recipe.output.path
        self.entries: list[list[Entry]] = [
            list(journal.entries(pass_folder(plan, out, one))) if drawn.share else [] for one in plan.passes
        ]
        first, *_ = [one for one in plan.passes if one.kind == "rows"]
        self.rows_in = self._column(first.index, lambda e: e.ledger.rows_in)

    def _column(self, number: int, value: Any) -> Floats:
        found = np.zeros(self.groups)
        for entry in self.entries[number]:
            found[int(entry.unit)] += value(entry)
        return found

    def of_step(self, index: int, one: Pass) -> tuple[Floats, Floats, Floats, Floats]:
        """Rows and bytes that came to a step, rows that went on, its seconds; each (groups,)."""
        came, size, went, seconds = (np.zeros(self.groups) for _ in range(4))
        for entry in self.entries[one.index]:
            if count := entry.steps.get(str(index)):
                group = int(entry.unit)
                came[group], size[group], seconds[group] = count.rows, count.bytes, count.seconds
                went[group] = count.rows - sum(count.dropped.values()) - count.failed
        return came, size, went, seconds

    def kept_bytes(self) -> Floats:
        last = [one for one in self.plan.passes if one.kind == "rows"][-1]
        return self._column(last.index, lambda e: e.text_bytes)

    def pass_seconds(self, one: Pass) -> Floats:
        return self._column(one.index, lambda e: e.seconds)

    def written(self, one: Pass, kept: bool) -> float:
        """Bytes of kept rows (or of the others) per row drawn: what the large group has more than small ones, so that no
        footer counts."""

        def size(entry: Entry) -> int:
            return sum(w.bytes for w in entry.outputs if w.name.startswith("_") != kept)

        if one.over != "units" or self.groups < 3:
            return sum(map(size, self.entries[one.index])) / max(float(self.rows_in.sum()), 1.0)
        sizes = self._column(one.index, size)
        more = float(self.rows_in[-1] - self.rows_in[:-1].mean())
        difference = float(sizes[-1] - sizes[:-1].mean())
        if difference <= 0 or more < 1:
            return float(sizes.sum()) / max(float(self.rows_in.sum()), 1.0)
        return difference / more


def _scale(
    plan: Plan, sample: _Sample, drawn: Drawn, wall: float, workers: int, plan_seconds: float
) -> Forecast:
    steps = _step_forecasts(plan, sample, drawn)
    output, scratch = _disk(plan, sample, drawn)
    memory = max((e.peak_rss_bytes for entries in sample.entries for e in entries), default=0)
    document_share = min(drawn.bytes / max(len(plan.units), 1), ROW_GROUP_BYTES)
    return Forecast(
        sampled_rows=int(sample.rows_in.sum()),
        sampled_share=drawn.share,
        rows_in=drawn.rows,
        steps=steps,
        seconds=_around(plan_seconds + _wall(plan, sample, drawn, wall, workers)),
        worker_memory_bytes=Range(
            memory, memory + document_share, memory + MEMORY_PER_GROUP * document_share
        ),
        output_bytes=output.times(drawn.rows).times(PACKED),
        scratch_bytes=scratch.times(drawn.rows).times(PACKED),
        workers=workers,
        notes=_notes(steps, drawn),
    )


def _disk(plan: Plan, sample: _Sample, drawn: Drawn) -> tuple[Range, Range]:
    """Bytes of the output and of the work store, per row that comes in."""
    output = scratch = Range(0.0, 0.0, 0.0)
    before = after = Range(1.0, 1.0, 1.0)  # what global stages leave, beyond what the sample shows
    full = plan.recipe.output.dropped == "full"
    for one in plan.passes:
        kept, others = sample.written(one, True), sample.written(one, False)
        if one.opens >= 0 and drawn.share < 1:
            came, _, went, _ = sample.of_step(one.opens, one)
            after = before.times(_unseen(float(came.sum()), float(went.sum()), drawn.share))
        here = Range(others, others, others)
        if full:  # duplicates that the sample hides lie among the dropped
            here = here.plus(
                Range(
                    kept * max(0.0, before.low - after.high), kept * (before.likely - after.likely),
                    kept * (before.high - after.low),
                )
            )  # fmt: skip
        if one.final:
            output = output.plus(
                before.times(kept).plus(Range(others, others, others))
                if full
                else after.times(kept).plus(here)
            )
        else:
            scratch = scratch.plus(after.times(kept).plus(here))
            output = output.plus(here)
        before = after
    return output, scratch


def _step_forecasts(plan: Plan, sample: _Sample, drawn: Drawn) -> list[StepForecast]:
    """What each step leaves, in order. After a global stage shares are of what that left."""
    found: list[StepForecast] = []
    names = {step.index: step.name for step in plan.recipe.steps}
    base, base_rows, left = sample.rows_in, drawn.rows, drawn.rows
    hidden = Range(1.0, 1.0, 1.0)  # share of the bytes that global stages leave, beyond what the sample shows
    order = [(i, one) for one in plan.passes if one.kind == "rows" for i in _steps_of(one)]
    for place, (index, one) in enumerate(order):
        came, _, went, seconds = sample.of_step(index, one)
        is_global = index == one.opens
        if is_global:
            unseen = _unseen(float(came.sum()), float(went.sum()), drawn.share)
            left, base = left.times(unseen), went
            base_rows = left
            if drawn.share < 1:
                hidden = hidden.times(unseen)
        elif plan.recipe.steps[index].stage == "select" or came.sum() > went.sum():
            left = base_rows.times(_survive(went, base, drawn))
        size = sample.of_step(*order[place + 1])[1] if place + 1 < len(order) else sample.kept_bytes()
        per_row = float(size.sum()) / max(float(sample.rows_in.sum()), 1.0)
        pace = float(seconds[-1]) / max(float(sample.rows_in[-1]), 1.0)
        text = _mean(size, sample.rows_in, drawn).times(per_row).times(drawn.rows).times(hidden)
        if not size.sum():  # what is left, if anything, is as long as what came in
            text = Range(0.0, 0.0, left.high * drawn.bytes / max(drawn.rows.likely, 1.0))
        found.append(
            StepForecast(
                index=index, step=names[index], rows=left.rounded(), is_global=is_global, bytes=text.rounded(),
                cpu_seconds=_around(pace * drawn.rows.likely),
            )
        )  # fmt: skip
    return found


def _steps_of(one: Pass) -> list[int]:
    return ([one.opens] if one.opens >= 0 else []) + list(one.steps)


def _notes(steps: Sequence[StepForecast], drawn: Drawn) -> list[str]:
    found = []
    if drawn.share < 1 and (hiding := [s.step for s in steps if s.is_global]):
        found.append(
            f"{', '.join(hiding)}: a row sample hides duplicates, so from there on the ranges are wide"
        )
    if not drawn.whole:
        found.append(f"the input is larger than {READ_BYTES >> 20} MB: drawn from slices spread over it")
    return found


def _wall(plan: Plan, sample: _Sample, drawn: Drawn, wall: float, workers: int) -> float:
    """Seconds of the whole run: what starting costs, and the large group's pace for everything."""
    rows = sample.rows_in
    spent = warm = busy = 0.0
    grow = drawn.rows.likely / max(float(rows.sum()), 1.0)
    for one in plan.passes:
        if one.over != "units" or len(rows) < 2:
            took = sum(e.seconds for e in sample.entries[one.index])
            spent, busy = spent + took, busy + took * grow
            continue
        seconds = sample.pass_seconds(one)
        pace = seconds[-1] / max(rows[-1], 1.0)
        each = max(0.0, float(np.median(seconds[1:-1] - pace * rows[1:-1]))) if len(rows) > 3 else 0.0
        pace = max(0.0, float(seconds[-1]) - each) / max(rows[-1], 1.0)
        warm += max(0.0, float(seconds[0]) - each - pace * rows[0])
        busy += pace * drawn.rows.likely + each * len(plan.units)
        if one.source < 0:
            busy += drawn.read_seconds
        spent += float(seconds.sum())
    turns = -(-len(plan.units) // workers) / max(
        len(plan.units), 1
    )  # the longest worker's share of the units
    return float(max(0.0, wall - spent) + warm + busy * turns)


def _around(value: float) -> Range:
    return Range(value / TIME_FACTOR, value, value * TIME_FACTOR)


def _survive(went: Floats, base: Floats, drawn: Drawn) -> Range:
    """Share of rows that went on, of those that are the base; both from Wilson's interval and from the groups."""
    n, x = float(base.sum()), float(went.sum())
    if n == 0:
        return Range(0.0, 0.0, 0.0)
    unread = max(0.0, 1.0 - drawn.share)
    share, z = x / n, 1.96 * unread**0.5
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    spread = share * _relative(went, base, drawn)
    return Range(
        max(0.0, min(middle - half, share - spread)), share, min(1.0, max(middle + half, share + spread))
    )


def _mean(values: Floats, rows: Floats, drawn: Drawn) -> Range:
    """1, and how far the true mean may be from the sampled one, relatively."""
    spread = _relative(values, rows, drawn)
    return Range(max(0.0, 1.0 - spread), 1.0, 1.0 + spread)


def _relative(values: Floats, rows: Floats, drawn: Drawn) -> float:
    """Half the relative width of the range of values per row, by how the small groups differ."""
    total, all_rows = float(values.sum()), float(rows.sum())
    if len(values) < 4 or not total:
        return 0.0 if drawn.share >= 1 or not total else 1.0
    small_rows = float(rows[:-1].sum())
    rest = np.subtract(values[:-1], rows[:-1] * (total / all_rows))
    variance = float(np.square(rest).sum()) / max(small_rows, 1.0)  # per row
    counted = all_rows if drawn.whole else small_rows
    unread = max(0.0, 1.0 - drawn.share)
    return T * float((variance * counted * unread) ** 0.5) / counted / (total / all_rows)


def _unseen(came: float, went: float, share: float) -> Range:
    """Share of rows that a global stage leaves: a pair of duplicates shows only when both were drawn."""
    if not came:
        return Range(1.0, 1.0, 1.0)
    seen = came - went
    if share >= 1:
        return Range(went / came, went / came, went / came)
    most = (seen + 2 * (seen + 1) ** 0.5 + 2) / came / share
    return Range(max(0.0, 1 - most), max(0.0, 1 - seen / came / share), 1 - seen / came)
