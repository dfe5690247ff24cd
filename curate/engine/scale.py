"""From the run on a sample to the whole: rows, bytes, seconds, disk.

Every pass of the sample run reads small files and a large one. The small ones tell what a file costs before its first
row, the large one the pace of rows; a phase that is one task in the sample is told the cost of a task by its neighbours.
Seconds reach from what the processor needs by itself to somewhat more than it took with all that ran beside.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from curate.engine import journal
from curate.engine.draw import Drawn, Floats, Range, T
from curate.engine.journal import Entry
from curate.engine.limits import phase_memory
from curate.engine.plan import Pass, Plan
from curate.engine.shuffle import MAX_FILES
from curate.engine.unit import pass_folder

FASTER = 1.9  # than on an idle machine, with caches that a sample does not fill
SLOWER = 1.45  # than on a machine as busy as during the sample
WIDEST = 2.9  # high / low of seconds
SORTED = 3  # times that records which are sorted at once stand in memory
PACKED = Range(0.38, 1.0, 1.3)  # a large row group packs better than a sample's, near-duplicates much better

Seconds = Callable[[Entry], float]


class Spent(NamedTuple):
    """Seconds that work takes beside what runs now, and those of the processor alone."""

    wall: float
    cpu: float

    def range(self) -> Range:
        """What it may take at another time."""
        high = self.wall * SLOWER
        return Range(max(min(self.cpu, self.wall) / FASTER, high / WIDEST), self.wall, high)

    def plus(self, other: "Spent") -> "Spent":
        return Spent(self.wall + other.wall, self.cpu + other.cpu)

    def times(self, factor: float) -> "Spent":
        return Spent(self.wall * factor, self.cpu * factor)


class Whole(NamedTuple):
    """What a sample is scaled to."""

    drawn: Drawn
    units: int
    workers: int
    cap_mb: int  # of a worker


class Sample:
    """What the run on the sample came to, group by group."""

    def __init__(self, plan: Plan, drawn: Drawn, start: Spent) -> None:
        self.plan, self.start = plan, start  # start: the whole call
        self.groups = max(len(drawn.groups), 1)
        out = plan.recipe.output.path
        self.entries: list[list[Entry]] = [
            list(journal.entries(pass_folder(plan, out, one))) if drawn.groups else [] for one in plan.passes
        ]
        first, *_ = [one for one in plan.passes if one.kind == "rows"]
        self.rows_in = self._column(first.index, lambda e: e.ledger.rows_in)

    @property
    def rows(self) -> float:
        return max(float(self.rows_in.sum()), 1.0)

    def _column(self, number: int, value: Any) -> Floats:
        found = np.zeros(self.groups)
        for entry in self.entries[number]:
            found[int(entry.unit)] += value(entry)
        return found

    def of_step(self, index: int, one: Pass) -> tuple[Floats, Floats, Floats, Floats]:
        """Rows and bytes that came to a step, rows that went on, its seconds; each (groups,). Of a global stage the
        seconds are those of its last phase, reading and writing included."""
        came, size, went, seconds = (np.zeros(self.groups) for _ in range(4))
        for entry in self.entries[one.index]:
            if count := entry.steps.get(str(index)):
                group = int(entry.unit)
                came[group], size[group], seconds[group] = count.rows, count.bytes, count.seconds
                went[group] = count.rows - sum(count.dropped.values()) - count.failed
                if index == one.opens:
                    seconds[group] = max(
                        0.0, entry.seconds - sum(step.seconds for step in entry.steps.values())
                    )
        return came, size, went, seconds

    def kept_bytes(self) -> Floats:
        """Of text, in the last pass, (groups,)."""
        last = [one for one in self.plan.passes if one.kind == "rows"][-1]
        return self._column(last.index, lambda e: e.text_bytes)

    def idle(self, one: Pass) -> float:
        """Share of a pass's seconds that the processor worked for it."""
        wall = sum(e.seconds for e in self.entries[one.index])
        return min(1.0, sum(e.cpu_seconds for e in self.entries[one.index]) / wall) if wall else 1.0

    def written(self, one: Pass, kept: bool) -> float:
        """Bytes of kept rows (or of the others) per row drawn: what the large group has more than small ones, so that no
        footer counts."""

        def size(entry: Entry) -> int:
            return sum(w.bytes for w in entry.outputs if w.name.startswith("_") != kept)

        if one.over != "units" or self.groups < 3:
            return sum(map(size, self.entries[one.index])) / self.rows
        sizes = self._column(one.index, size)
        more = float(self.rows_in[-1] - self.rows_in[:-1].mean())
        difference = float(sizes[-1] - sizes[:-1].mean())
        if difference <= 0 or more < 1:
            return float(sizes.sum()) / self.rows
        return difference / more

    def pace(self, one: Pass, of: Seconds) -> tuple[float, float, float]:
        """Seconds of a task before its first row, of each row drawn, and of the first task beyond that."""
        rows = self.rows_in
        if one.over != "units" or len(rows) < 2:
            took = sum(map(of, self.entries[one.index]))
            each = min(took, self._task(one, of))
            return each, (took - each) / self.rows, 0.0
        seconds = self._column(one.index, of)
        pace = seconds[-1] / max(rows[-1], 1.0)
        each = max(0.0, float(np.median(seconds[1:-1] - pace * rows[1:-1]))) if len(rows) > 3 else 0.0
        pace = max(0.0, float(seconds[-1]) - each) / max(rows[-1], 1.0)
        return each, float(pace), max(0.0, float(seconds[0] - each - pace * rows[0]))

    def _task(self, one: Pass, of: Seconds) -> float:
        # of a phase that is one task here, as of the phase before it that has many
        same = [p for p in self.plan.passes if p.step == one.step and p.over == "units" and p.kind == "phase"]
        return self.pace(same[0], of)[0] if same and len(self.rows_in) > 3 else 0.0


def wall(sample: Sample, whole: Whole) -> Spent:
    """Seconds of the whole run: what starting costs, and the large group's pace for everything."""
    found = []
    for of, start, reading in (
        (_wall, sample.start.wall, whole.drawn.read_seconds), (_cpu, sample.start.cpu, whole.drawn.read_cpu_seconds),
    ):  # fmt: skip
        spent = warm = busy = 0.0
        for one in sample.plan.passes:
            each, pace, first = sample.pace(one, of)
            spent += sum(map(of, sample.entries[one.index]))
            warm += first
            work = pace * whole.drawn.rows.likely + each * tasks(one, whole)
            if one.source < 0:
                work += reading
            busy += work * _turns(one, whole)
        found.append(max(0.0, start - spent) + warm + busy)
    return Spent(*found)


def _wall(entry: Entry) -> float:
    return entry.seconds


def _cpu(entry: Entry) -> float:
    return min(entry.cpu_seconds, entry.seconds)


def tasks(one: Pass, whole: Whole) -> int:
    """Tasks of a pass of the whole run; those over ranges are guessed to be as many as units."""
    return 1 if one.over == "whole" else whole.units


def _turns(one: Pass, whole: Whole) -> float:
    # the longest worker's share of the work
    return 1.0 if one.over == "whole" else -(-whole.units // whole.workers) / whole.units


def merges(one: Pass, plan: Plan, units: int) -> int:
    """Rounds in which the records of a pass are merged before they are read."""
    rounds = 0
    if any(other.reads == one.index for other in plan.passes) and one.over == "units":
        while units > MAX_FILES:
            units, rounds = -(-units // MAX_FILES), rounds + 1
    return rounds


def held(plan: Plan, sample: Sample, whole: Whole) -> float:
    """Bytes that a phase of a global stage may hold beyond what the sample's took: what its worker plans with, where its
    records and those it reads are that many."""
    budget, found = phase_memory(whole.cap_mb), 0.0
    for one in (one for one in plan.passes if one.kind == "phase"):
        share = whole.drawn.rows.likely / tasks(one, whole)
        written = sample.written(one, True) * share
        read = 0.0 if one.over == "units" else sample.written(plan.passes[one.reads], True) * share
        found = max(found, SORTED * min(written, budget.sort) + min(read, budget.stage))
    return found


def disk(plan: Plan, sample: Sample, whole: Whole) -> tuple[Range, Range]:
    """Bytes of the output and of the work store, per row that comes in."""
    drawn = whole.drawn
    output = scratch = Range(0.0, 0.0, 0.0)
    before = after = Range(1.0, 1.0, 1.0)  # what global stages leave, beyond what the sample shows
    full = plan.recipe.output.dropped == "full"
    for one in plan.passes:
        kept, others = sample.written(one, True), sample.written(one, False)
        if one.opens >= 0 and drawn.share < 1:
            came, _, went, _ = sample.of_step(one.opens, one)
            after = before.times(unseen(float(came.sum()), float(went.sum()), drawn.share))
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
            rounds = 1 + merges(one, plan, whole.units)  # each writes all of it again
            scratch = scratch.plus(after.times(kept).plus(here).times(rounds))
            output = output.plus(here)
        before = after
    return output, scratch


def survive(went: Floats, base: Floats, drawn: Drawn) -> Range:
    """Share of rows that went on, of those that are the base: Wilson's interval, of as many rows as the groups say that
    the stratified sample is worth."""
    n, x = float(base.sum()), float(went.sum())
    if n == 0:
        return Range(0.0, 0.0, 0.0)
    unread = max(0.0, 1.0 - drawn.share)
    share, z = x / n, T * unread**0.5
    worth = n
    if 0 < share < 1 and len(base) > 3:
        apart = variance(went, base) / (share * (1 - share))  # the design effect (Kish 1965)
        worth = n / max(0.3, apart)
        if not drawn.whole:
            worth *= float(base[:-1].sum()) / n
    middle = (share + z * z / (2 * worth)) / (1 + z * z / worth)
    half = z / (1 + z * z / worth) * (share * (1 - share) / worth + z * z / (4 * worth * worth)) ** 0.5
    return Range(max(0.0, min(middle - half, share)), share, min(1.0, max(middle + half, share)))


def variance(values: Floats, rows: Floats) -> float:
    """Of values, per row, by how the small groups differ from all."""
    rest = np.subtract(values[:-1], rows[:-1] * (float(values.sum()) / float(rows.sum())))
    return float(np.square(rest).sum()) / max(float(rows[:-1].sum()), 1.0)


def relative(values: Floats, rows: Floats, drawn: Drawn) -> float:
    """Half the relative width of the range of values per row."""
    total, all_rows = float(values.sum()), float(rows.sum())
    if len(values) < 4 or not total:
        return 0.0 if drawn.share >= 1 or not total else 1.0
    counted = all_rows if drawn.whole else float(rows[:-1].sum())
    unread = max(0.0, 1.0 - drawn.share)
    return T * float((variance(values, rows) * counted * unread) ** 0.5) / counted / (total / all_rows)


def unseen(came: float, went: float, share: float) -> Range:
    """Share of rows that a global stage leaves: a pair of duplicates shows only when both were drawn."""
    if not came:
        return Range(1.0, 1.0, 1.0)
    seen = came - went
    if share >= 1:
        return Range(went / came, went / came, went / came)
    least = max(0.0, seen - 2 * (seen + 1) ** 0.5)
    most = (seen + 2 * (seen + 1) ** 0.5 + 2) / came / share
    return Range(max(0.0, 1 - most), max(0.0, 1 - seen / came / share), 1 - least / came)
