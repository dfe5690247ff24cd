"""The passes of a plan in order on local workers: what is left of each is done, judged and marked complete."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator

import msgspec

from curate import stages
from curate.engine import guards, journal, shuffle
from curate.engine.journal import MANIFEST, Entry
from curate.engine.lock import Lock
from curate.engine.log import Listener
from curate.engine.plan import Pass, Plan
from curate.engine.unit import Job, pass_folder
from curate.engine.workers import Pool, Stopped
from curate.errors import CurateError, LockedError, RunError
from curate.io.files import Folder

RECORDS_PER_RANGE = 4_000_000


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
            journal.fault("unit")
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
        """Folder with few enough record files to read; merges the files of the phase before until that holds."""
        if one.reads < 0:
            return ""
        reads = self.plan.passes[one.reads]
        folder = pass_folder(self.plan, self.run, reads)
        round_number = 0
        while len(names := [n for n in folder.names() if n.endswith(".parquet")]) > shuffle.MAX_FILES:
            round_number += 1
            target = Folder(
                f"{pass_folder(self.plan, self.run, reads).path}-merge{round_number}by{shuffle.MAX_FILES}"
            )
            with self._turn(target):
                if journal.heal(target) or not target.exists(MANIFEST):
                    self._merge(reads, folder, names, target)
            folder = target
        return folder.path

    def _merge(self, reads: Pass, folder: Folder, names: list[str], target: Folder) -> None:
        """One round: groups of record files into one file each."""
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
