"""Supervised local workers: long-lived children that do jobs; a death costs a retry, never a row or the run.

A worker that dies twice at the same batch gets a careful third try: every stage in a killable child, which finds the
row (isolate.py). Ten deaths of one unit that no row explains stop the run, resumable.
"""

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait
from types import FrameType
from typing import Any

from curate.child import Child
from curate.engine.isolate import MAX_DEATHS
from curate.engine.journal import Entry
from curate.engine.unit import Job
from curate.errors import INCOMPLETE, INTERRUPTED, RunError

POLL_SECONDS = 0.1
_NO_BATCH = -1


class Stopped(RunError):
    """Ctrl-C or SIGTERM; everything committed stays."""

    def __init__(self, number: int) -> None:
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        super().__init__(f"stopped by {name}", hint="run the same command again: it goes on where it stopped")
        self.exit_code = INTERRUPTED if number == signal.SIGINT else INCOMPLETE

    def __reduce__(self) -> tuple[object, ...]:
        return RunError, (self.what,)


class Signals:
    """While held, Ctrl-C and SIGTERM are noted instead of raised; `check` raises Stopped."""

    def __init__(self) -> None:
        self.seen = 0
        self._old: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._old[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, _: FrameType | None) -> None:
        self.seen = number

    def check(self) -> None:
        if self.seen:
            raise Stopped(self.seen)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)


class Worker:
    """One child and the job it has."""

    def __init__(self) -> None:
        self.child = Child("curate.engine.worker:serve")
        self.job: Job | None = None

    def give(self, job: Job) -> None:
        self.job = job
        self.child.connection.send(job)


class Deaths:
    """How often a unit's worker died, and at which batch."""

    def __init__(self) -> None:
        self._batches: dict[str, list[int]] = {}

    def note(self, job: Job, batch: int, how: str) -> Job:
        """The job to try next; RunError after too many."""
        seen = self._batches.setdefault(job.unit, [])
        seen.append(batch)
        if len(seen) > MAX_DEATHS:
            raise RunError(
                f"the worker of unit {job.unit} {how} {len(seen)} times and no row is to blame",
                hint="something outside kills it (out of memory?); free memory or use fewer --workers, and run again to resume",
            )
        return job._replace(careful=job.careful or seen.count(batch) >= 2)


def default_workers() -> int:
    """One per core this process may use."""
    return len(os.sched_getaffinity(0))


def run_jobs(
    jobs: Iterator[Job], count: int, max_memory_mb: int, signals: Signals,
    on_done: Callable[[list[Entry]], None], on_progress: Callable[[int, int], None],
) -> None:  # fmt: skip
    """Run all jobs on `count` workers. Raises what a job raises, after killing the workers."""
    workers: list[Worker] = []
    deaths = Deaths()
    retries: deque[Job] = deque()

    def next_job() -> Job | None:
        return retries.popleft() if retries else next(jobs, None)

    try:
        while True:
            signals.check()
            idle = [w for w in workers if w.job is None]
            while len(workers) - len(idle) < count:
                job = next_job()
                if job is None:
                    break
                if not idle:
                    idle.append(Worker())
                    workers.append(idle[-1])
                worker = idle.pop()
                try:
                    worker.give(job)
                except OSError:
                    _died(worker, workers, deaths, retries, "died")
            busy = [w for w in workers if w.job is not None]
            if not busy and not retries:
                return
            _listen(busy, workers, deaths, retries, max_memory_mb, on_done, on_progress)
    finally:
        for worker in workers:
            worker.child.kill()


def _listen(
    busy: list[Worker], workers: list[Worker], deaths: Deaths, retries: deque[Job], max_memory_mb: int,
    on_done: Callable[[list[Entry]], None], on_progress: Callable[[int, int], None],
) -> None:  # fmt: skip
    by_connection = {w.child.connection: w for w in busy}
    ready: list[Any] = wait(list(by_connection), POLL_SECONDS)
    for connection in ready:
        worker = by_connection[connection]
        try:
            kind, body = connection.recv()
        except (EOFError, OSError):
            _died(worker, workers, deaths, retries, "died")
            continue
        if kind == "progress":
            on_progress(*body)
        elif kind == "done":
            worker.job = None
            on_done(body)
        elif kind == "raise":
            raise body
        else:
            raise RuntimeError(f"a worker failed on unit {worker.job.unit if worker.job else '?'}:\n{body}")
    for worker in busy:
        if worker in workers and worker.job is not None and worker.child.rss_bytes() > max_memory_mb << 20:
            _died(worker, workers, deaths, retries, f"went over its memory cap of {max_memory_mb} MB")


def _died(worker: Worker, workers: list[Worker], deaths: Deaths, retries: deque[Job], how: str) -> None:
    batch = worker.child.row
    worker.child.kill()
    workers.remove(worker)
    if worker.job:
        retries.append(deaths.note(worker.job, batch, how))
    time.sleep(0.05)
