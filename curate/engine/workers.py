"""Supervised local workers: long-lived children that do jobs; a death costs a retry, never a row or the run.

A worker that dies twice at the same batch gets a careful third try: every stage in a killable child, which finds the
row (isolate.py) and may take as much memory as the worker. A worker above its memory cap, or busy with one batch for
STUCK_CPU_SECONDS, is killed, which counts as a death. Eleven deaths of one unit that no row explains stop the run,
resumable.
"""

import errno
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait
from types import FrameType
from typing import Any, NamedTuple

from curate import kernels
from curate.child import Child
from curate.engine.isolate import MAX_DEATHS
from curate.engine.journal import Entry
from curate.engine.log import Listener
from curate.engine.unit import Job
from curate.errors import INCOMPLETE, INTERRUPTED, RunError

POLL_SECONDS = 0.1
STUCK_CPU_SECONDS = 600.0  # on one batch, on one table of records, or before the first
NO_BATCH = -1  # mark of a worker that has a job and no batch yet


class Stopped(RunError):
    """Ctrl-C or SIGTERM; everything committed stays."""

    def __init__(self, number: int) -> None:
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        super().__init__(f"stopped by {name}", hint="run the same command again: it goes on where it stopped")
        self.exit_code = INTERRUPTED if number == signal.SIGINT else INCOMPLETE

    def __reduce__(self) -> tuple[object, ...]:
        return RunError, (self.what,)


class Signals:
    """While held, Ctrl-C and SIGTERM raise Stopped, wherever the main thread is."""

    def __init__(self) -> None:
        self.seen = 0
        self._old: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._old[number] = signal.signal(number, self._stop)
        return self

    def _stop(self, number: int, _: FrameType | None) -> None:
        self.seen = number
        raise Stopped(number)

    def check(self) -> None:
        """Raise again where a library swallowed it."""
        if self.seen:
            raise Stopped(self.seen)

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        if self.seen and error is not None and not isinstance(error, Stopped):
            raise Stopped(self.seen) from error  # what a library made of it


def os_error(error: OSError, where: str) -> RunError:
    """A disk or network that gave up: the run stops and can be resumed."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    hint = "free some space, then run the same command again: it goes on where it stopped"
    return RunError(
        f"{error.strerror or error}", where=str(error.filename or where),
        hint=hint if full else "run the same command again: it goes on where it stopped",
    )  # fmt: skip


CAP_HINT = "raise --worker-memory-mb: a stage, or a Parquet file written with huge pages, needs more"


class Death(NamedTuple):
    """What ended a worker, and what helps where it does so again and again."""

    how: str
    hint: str


DIED = Death("died", "something outside kills it (out of memory?); free memory or use fewer --workers")


class Worker:
    """One child and the job it has."""

    def __init__(self) -> None:
        self.child = Child("curate.engine.worker:serve")
        self.job: Job | None = None
        self.taken = False  # the child has read the job: what it marks belongs to it
        self._batch, self._since = NO_BATCH, 0.0

    def give(self, job: Job) -> None:
        self.job, self.taken = job, False
        self._batch, self._since = NO_BATCH, self.child.cpu_seconds()
        self.child.connection.send(job)

    @property
    def batch(self) -> int:
        """The batch it is at; NO_BATCH before the first of its job."""
        return self.child.row if self.taken else NO_BATCH

    def over_limit(self, max_memory_mb: int) -> Death | None:
        """The death it is due when it is over a limit."""
        if self.child.memory_bytes() > max_memory_mb << 20:
            return Death(f"went over its memory cap of {max_memory_mb} MB", CAP_HINT)
        batch, cpu = self.batch, self.child.cpu_seconds()
        if batch != self._batch:
            self._batch, self._since = batch, cpu
        if cpu - self._since > STUCK_CPU_SECONDS:
            where = "before its first batch" if batch == NO_BATCH else "on one batch"
            return Death(
                f"worked {STUCK_CPU_SECONDS:.0f} CPU seconds {where}",
                "a stage, the reader or a phase seems never to end there",
            )
        return None


class Deaths:
    """How often a unit's worker died, and at which batch."""

    def __init__(self, max_memory_mb: int) -> None:
        self._max_memory_mb = max_memory_mb
        self._batches: dict[str, list[int]] = {}

    def note(self, job: Job, batch: int, death: Death) -> Job:
        """The job to try next; RunError after too many."""
        seen = self._batches.setdefault(job.unit, [])
        seen.append(batch)
        if len(seen) > MAX_DEATHS:
            raise RunError(
                f"the worker of unit {job.unit} {death.how} {len(seen)} times and no row is to blame",
                hint=f"{death.hint}, and run again to resume",
            )
        same_batch = batch != NO_BATCH and seen.count(batch) >= 2
        return job._replace(careful=self._max_memory_mb if job.careful or same_batch else 0)


def default_workers() -> int:
    """One per core this process may use."""
    return len(os.sched_getaffinity(0))


class Pool:
    """Runs jobs on up to `count` workers, each below `max_memory_mb`; workers end with `with`."""

    def __init__(self, count: int, max_memory_mb: int, signals: Signals, listen: Listener) -> None:
        self.count, self.max_memory_mb = count, max_memory_mb
        self._signals, self._listen = signals, listen
        self._workers: list[Worker] = []
        self._retries: deque[Job] = deque()
        self._compiling = self._told = False

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Kill the workers; a later `run` starts others."""
        while self._workers:
            self._workers.pop().child.kill()

    def run(self, jobs: Iterator[Job], on_done: Callable[[list[Entry]], None]) -> None:
        """Do all jobs. Raises what a job raises; workers that are busy then are killed when the pool ends."""
        deaths = Deaths(self.max_memory_mb)
        # Until a first answer comes one worker goes alone: the others then find the kernels it compiled.
        self._compiling = not os.path.isdir(kernels.CACHE)
        while True:
            self._signals.check()
            self._tell_compiling()
            self._hand_out(jobs, deaths)
            busy = [w for w in self._workers if w.job is not None]
            if not busy and not self._retries:
                return
            self._hear(busy, deaths, on_done)
            for worker in busy:
                if worker.job is not None and (death := worker.over_limit(self.max_memory_mb)):
                    self._died(worker, deaths, death)

    def _tell_compiling(self) -> None:
        if self._compiling and not self._told and os.path.isdir(kernels.CACHE):
            self._told = True
            self._listen("compiling", {})

    def _hand_out(self, jobs: Iterator[Job], deaths: Deaths) -> None:
        idle = [w for w in self._workers if w.job is None]
        while len(self._workers) - len(idle) < (1 if self._compiling else self.count):
            job = self._retries.popleft() if self._retries else next(jobs, None)
            if job is None:
                return
            if not idle:
                idle.append(Worker())
                self._workers.append(idle[-1])
            worker = idle.pop()
            try:
                worker.give(job)
            except OSError:
                self._died(worker, deaths, DIED)

    def _hear(self, busy: list[Worker], deaths: Deaths, on_done: Callable[[list[Entry]], None]) -> None:
        by_connection = {w.child.connection: w for w in busy}
        ready: list[Any] = wait(list(by_connection), POLL_SECONDS)
        for connection in ready:
            worker = by_connection[connection]
            try:
                kind, body = connection.recv()
            except (EOFError, OSError):
                self._died(worker, deaths, DIED)
                continue
            if kind == "taken":
                worker.taken = True
                continue
            self._compiling = False
            if kind == "progress":
                self._listen("progress", {"rows": body[0], "bytes": body[1]})
            elif kind == "done":
                worker.job = None
                on_done(body)
            elif kind == "raise":
                raise body
            else:
                unit = worker.job.unit if worker.job else "?"
                raise RuntimeError(f"a worker failed on unit {unit}:\n{body}")

    def _died(self, worker: Worker, deaths: Deaths, death: Death) -> None:
        batch, job = worker.batch, worker.job
        worker.child.kill()
        self._workers.remove(worker)
        worker.job = None
        if job:
            self._listen("death", {"unit": job.unit, "batch": batch, "how": death.how})
            self._retries.append(deaths.note(job, batch, death))
