"""How far a run is, from its lock and its journals alone: while it works, after a kill, when it is complete."""

from collections.abc import Mapping
from typing import Literal

import msgspec

from curate.engine import journal
from curate.engine.journal import JOURNAL, MANIFEST, Entry
from curate.engine.lock import Owner, is_dead, read_owner
from curate.engine.plan import Pass, Plan
from curate.engine.result import Rows, read_manifest, summarise
from curate.engine.runner import ranges_of
from curate.engine.unit import pass_folder, read_plan
from curate.errors import COMPLETE, INCOMPLETE, DataError
from curate.io.files import Folder


class PassState(msgspec.Struct, kw_only=True):
    """One pass: `units` is null until the pass before it tells how many there are."""

    index: int
    what: str
    units: int | None
    units_done: int
    rows_in: int
    kept: int
    dropped: int
    quarantined: int


class State(msgspec.Struct, kw_only=True):
    """What `status --json` prints."""

    schema: str = "curate.status/1"
    status: Literal["complete", "running", "incomplete"]
    exit: int
    output: str
    recipe: str = ""
    owner: Owner | None = None  # of the lock, dead or alive
    rows: Rows
    passes: list[PassState] = []
    next: str

    def words(self) -> str:
        """The state in one line."""
        if self.status == "complete":
            return "complete"
        undone = [one for one in self.passes if one.units is None or one.units_done < one.units]
        far = "planning" if not self.passes else "all units done"
        if undone:
            now = undone[0]
            far = f"pass {now.index + 1} of {len(self.passes)}, {now.units_done} of {now.units or '?'} units"
        if self.status == "running" and self.owner:
            return f"running as process {self.owner.pid} on {self.owner.host}: {far}"
        return f"incomplete: {far}" + (f"; process {self.owner.pid} died" if self.owner else "")


def state_of(path: str) -> State:
    """The state of an output folder. DataError where no run ever was."""
    folder = Folder(path)
    plan, owner = read_plan(folder), read_owner(folder)
    running = owner is not None and not is_dead(owner)
    if plan is None and owner is None:
        raise DataError(
            f"{path} holds no run", hint="`curate ls runs FOLDER` lists the outputs below a folder"
        )
    if folder.exists(MANIFEST):
        return _complete(folder, plan)
    found = State(
        status="running" if running else "incomplete", exit=INCOMPLETE, output=path, owner=owner, rows=Rows(skipped={}, dropped={}),
        next=f"curate status {path}" if running else f"curate run {(plan and plan.recipe.file) or 'RECIPE'} -o {path}",
    )  # fmt: skip
    if plan is not None:
        totals = {one.index: _total(plan, path, one) for one in plan.passes}
        found.recipe = plan.recipe.name
        found.rows = summarise(plan, {i: total for i, (total, _) in totals.items()}, path).rows
        found.passes = [_pass_state(plan, path, one, totals) for one in plan.passes]
    return found


def _complete(folder: Folder, plan: Plan | None) -> State:
    result = read_manifest(folder)
    passes = []
    for one in plan.passes if plan else ():
        summary = next((p for p in result.passes if p["index"] == one.index), None)
        if summary and plan:
            units = len(folder.names(JOURNAL if one.final else f"{JOURNAL}/pass-{one.index:02d}"))
            rows = {key: summary[key] for key in ("rows_in", "kept", "dropped", "quarantined")}
            passes.append(
                PassState(index=one.index, what=_what(plan, one), units=units, units_done=units, **rows)
            )
    return State(
        status="complete", exit=COMPLETE, output=folder.path, recipe=result.recipe, rows=result.rows, passes=passes,
        next=f"curate verify {folder.path}",
    )  # fmt: skip


def _total(plan: Plan, run: str, one: Pass) -> tuple[Entry, int]:
    """Sum of a pass's journal so far, and how many units are done."""
    entries = list(journal.entries(pass_folder(plan, run, one)))
    return journal.totals(entries), sum(entry.last for entry in entries)


def _pass_state(plan: Plan, run: str, one: Pass, totals: Mapping[int, tuple[Entry, int]]) -> PassState:
    total, done = totals[one.index]
    ledger = total.ledger
    return PassState(
        index=one.index, what=_what(plan, one), units=_units(plan, run, one, totals), units_done=done,
        rows_in=ledger.rows_in, kept=ledger.kept, dropped=ledger.dropped, quarantined=ledger.quarantined,
    )  # fmt: skip


def _units(plan: Plan, run: str, one: Pass, totals: Mapping[int, tuple[Entry, int]]) -> int | None:
    if one.over == "units" and one.source < 0:
        return len(plan.units)
    before = one.source if one.over == "units" else one.reads
    folder = pass_folder(plan, run, plan.passes[before])
    if not folder.exists(MANIFEST):
        return None
    if one.over == "units":
        return len(journal.units_done(folder))
    return len(ranges_of(one, totals[before][0].records))


def _what(plan: Plan, one: Pass) -> str:
    names = {step.index: step.name for step in plan.recipe.steps}
    if one.kind == "phase":
        return f"{names[one.step]}, phase {one.phase + 1}"
    steps = ([one.opens] if one.opens >= 0 else []) + list(one.steps)
    return ", ".join(names[i] for i in steps) or "read"
