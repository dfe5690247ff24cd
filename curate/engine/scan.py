"""Scan every file of the input once, in child processes where it is worth it: digests, slices, and the ids it brings.

The ids of a file lie in one record file sorted by hash, so that those standing twice are found out of core.
"""

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import xxhash

from curate.child import Child
from curate.engine import shuffle
from curate.errors import CurateError, RunError
from curate.io import inputs
from curate.io.inputs import FileScan, Input, InputFile

FILE_ROWS = 1 << 40  # a row's place: file number * this + ordinal
KEY = ("hash", "place")
PARALLEL_BYTES = 64 << 20  # of input; less is read before children have started
_IDS_AT_ONCE = 200_000
_MAX_DEATHS = 3


class ScanJob(NamedTuple):
    """One file to scan."""

    number: int
    file: InputFile
    config: Input
    schema: pa.Schema
    unit_bytes: int
    max_document_bytes: int
    scratch: str  # folder that takes the ids


def scan_all(jobs: Sequence[ScanJob], workers: int, done: Callable[[InputFile], None]) -> list[FileScan]:
    """The scans of all files, in their order, whatever the number of workers."""
    size = sum(job.file.size for job in jobs)
    finished: Generator[tuple[ScanJob, FileScan], None, None]
    if workers > 1 and len(jobs) > 1 and size > PARALLEL_BYTES:
        finished = _in_children(jobs, workers)
    else:
        finished = ((job, scan_file(job)) for job in jobs)
    found: dict[int, FileScan] = {}
    with contextlib.closing(finished):
        for job, scan in finished:
            found[job.number] = scan
            done(job.file)
    return [found[job.number] for job in jobs]


def ids_path(scratch: str | Path, number: int) -> Path:
    """Where the sorted ids of a file lie; no file where it brings none."""
    return Path(scratch) / f"ids-{number:08d}"


def scan_file(job: ScanJob) -> FileScan:
    """Scan one file and leave its ids in the scratch folder."""
    ids = _Ids(job)
    try:
        scan = inputs.scan(
            job.file,
            job.config,
            job.schema,
            job.unit_bytes,
            ids.add,
            max_document_bytes=job.max_document_bytes,
        )
        ids.close()
    except BaseException:
        ids.abandon()
        raise
    return scan


class _Ids:
    """Takes (ordinal, id) of the rows of one file."""

    def __init__(self, job: ScanJob) -> None:
        self._path, self._base = ids_path(job.scratch, job.number), job.number * FILE_ROWS
        self._places: list[int] = []
        self._ids: list[str] = []
        self._writer: shuffle.SortedWriter | None = None

    def add(self, ordinals: Sequence[int], ids: Sequence[str]) -> None:
        self._places += ordinals
        self._ids += ids
        if len(self._ids) >= _IDS_AT_ONCE:
            self._flush()

    def close(self) -> None:
        self._flush()
        if self._writer:
            self._writer.close()
            self._file.close()

    def abandon(self) -> None:
        if self._writer:
            self._writer.abandon()
            self._file.close()

    def _flush(self) -> None:
        if not self._ids:
            return
        hashes = np.fromiter(map(xxhash.xxh3_64_intdigest, self._ids), np.uint64, len(self._ids))
        places = np.array(self._places, np.uint64) + np.uint64(self._base)
        if not self._writer:
            self._file = open(self._path, "wb")  # noqa: SIM115
            self._writer = shuffle.SortedWriter(self._file, KEY, self._path.with_suffix(".runs"))
        self._writer.write(
            pa.table({"hash": hashes, "place": places, "id": pa.array(self._ids, pa.string())})
        )
        self._places, self._ids = [], []


def _in_children(jobs: Sequence[ScanJob], workers: int) -> Generator[tuple[ScanJob, FileScan], None, None]:
    waiting = deque(sorted(jobs, key=lambda job: -job.file.size))  # the longest first
    deaths: dict[int, int] = {}
    busy: dict[Any, tuple[Child, ScanJob]] = {}
    idle = [Child("curate.engine.scan:serve") for _ in range(min(workers, len(jobs)))]
    try:
        while waiting or busy:
            while waiting and idle:
                child, job = idle.pop(), waiting.popleft()
                busy[child.connection] = child, job
                with contextlib.suppress(BrokenPipeError):  # told below
                    child.connection.send(job)
            for connection in wait(list(busy)):
                child, job = busy.pop(connection)
                try:
                    found = child.connection.recv()
                except (EOFError, ConnectionResetError):
                    child.kill()
                    _count_death(deaths, job)
                    waiting.appendleft(job)
                    idle.append(Child("curate.engine.scan:serve"))
                    continue
                idle.append(child)
                if isinstance(found, Exception):
                    raise found
                yield job, found
    finally:
        for child in [*idle, *(child for child, _ in busy.values())]:
            child.kill()


def _count_death(deaths: dict[int, int], job: ScanJob) -> None:
    deaths[job.number] = deaths.get(job.number, 0) + 1
    if deaths[job.number] >= _MAX_DEATHS:
        raise RunError(
            f"the process that scanned `{job.file.path}` was killed {_MAX_DEATHS} times",
            hint="is there enough memory? The same command begins again",
        )


def serve(connection: Connection) -> None:
    """Entry point of a child: scans one file per message."""
    while True:
        job: ScanJob = connection.recv()
        try:
            connection.send(scan_file(job))
        except (CurateError, OSError) as error:
            connection.send(error)
