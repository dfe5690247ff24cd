"""Rows that hang, crash or eat memory: found one by one, in a child that can be killed.

A row is quarantined only when it alone, in a fresh child, fails twice (five times where the child was killed by a
signal that anybody can send). A death not reproduced that way is the
machine's and is retried, ten times a unit. Deadlines are CPU seconds of the child (limits.py), so a busy machine costs
no row.
A child that passes a limit before it has a row is the stage's fault and stops the run, as do rows that fail one and
all.
"""

import mmap
import os
import signal
import traceback
import weakref
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from curate.child import Child, mark_row
from curate.engine.call import leave_pandas_out, stage_call
from curate.engine.limits import RowLimits
from curate.errors import CurateError, RunError, StageError
from curate.recipe.recipe import Step

MAX_DEATHS = 10
MAX_KILLS = 5  # of a row alone, by a signal that may come from outside
MANY = 100
MAX_ROWS = 4096  # a batch has no more
POLL_SECONDS = 0.1  # between looks at a child that works; each takes 0.3 ms
LOAD_CPU_SECONDS = 600.0  # of a child before its first batch: imports and the model
_UNMARKED = -1
HINTS = {  # what helps where a child dies again and again
    "memory": "raise the stage's `max_memory_mb`, or --worker-memory-mb where it has none",
    "deadline": "raise the stage's `deadline_seconds`; a stage of yours names one in its Config, with `isolate=True`",
    "crash": "something outside kills it (out of memory?); free memory or use fewer --workers",
}


class Failure(NamedTuple):
    """A row (position in its batch) that a stage could not do."""

    row: int
    reason: str  # error, deadline, memory, crash
    error: str
    killed: bool = False  # by a signal that is not ours: a row may be the cause (out of memory), or anybody


def pack(batch: pa.RecordBatch) -> bytes:
    """A batch as Arrow IPC; slices carry only their own bytes."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def unpack(data: bytes) -> pa.RecordBatch:
    with pa.ipc.open_stream(data) as reader:
        return reader.read_next_batch()


class SharedBatch:
    """Memory that a child reads batches from: through the pipe a batch of pages took a tenth of what their text takes.

    The child's batch lies in it, so the next one is written only after the reply.
    """

    def __init__(self, fd: int | None = None) -> None:
        """The writer gives no `fd`; the reader that of the writer, which it inherited."""
        self._access = mmap.ACCESS_WRITE if fd is None else mmap.ACCESS_READ
        self.fd = os.memfd_create("curate-batch") if fd is None else fd
        self._memory = pa.py_buffer(b"")
        weakref.finalize(self, os.close, self.fd)

    def write(self, batch: pa.RecordBatch) -> int:
        """Returns the bytes that `read` is to be told of."""
        measured = pa.MockOutputStream()
        with pa.ipc.new_stream(measured, batch.schema) as writer:
            writer.write_batch(batch)
        size = int(measured.size())
        if size > self._memory.size:
            os.ftruncate(self.fd, size)
            self._map(size)
        with pa.ipc.new_stream(pa.FixedSizeBufferWriter(self._memory), batch.schema) as writer:
            writer.write_batch(batch)
        return size

    def read(self, size: int) -> pa.RecordBatch:
        """The batch that was written last, in place."""
        if size > self._memory.size:
            self._map(size)
        with pa.ipc.open_stream(self._memory.slice(0, size)) as reader:
            return reader.read_next_batch()

    def _map(self, size: int) -> None:
        self._memory = pa.py_buffer(mmap.mmap(self.fd, size, access=self._access))


class Blame:
    """Whose fault it is when rows fail: the stage's, when the first 100 rows of a unit do.

    Units are cut by the plan, so batch size and workers change nothing. The end of the pass judges smaller units.
    """

    def __init__(self, step: Step) -> None:
        self._step = step
        self.start()

    def start(self) -> None:
        """A unit begins."""
        self._done = self._failed = 0

    def done(self, rows: int) -> None:
        self._done += rows

    def failed(self, row_id: str, error: str, reason: str = "error") -> None:
        """A row failed alone, twice. StageError when all did so far, and they are many."""
        self._failed += 1
        if self._failed >= MANY and not self._done:
            raise stage_bug(self._step, row_id, error, reason)


def run_alone(
    call: Callable[[pa.RecordBatch], pa.RecordBatch], batch: pa.RecordBatch, blame: Blame
) -> tuple[pa.RecordBatch, list[Failure]]:
    """Run a stage in this process; where it raises, find the rows that raise alone, twice."""
    try:
        out = call(batch)
        blame.done(batch.num_rows)
        return out, []
    except (CurateError, MemoryError):
        raise
    except Exception:
        pass
    done: list[pa.RecordBatch] = []
    failures: list[Failure] = []
    for row in range(batch.num_rows):
        for attempt in (1, 2):
            try:
                done.append(call(batch.slice(row, 1)))
                blame.done(1)
                break
            except (CurateError, MemoryError):
                raise
            except Exception as error:
                if attempt == 2:
                    failures.append(Failure(row, "error", f"{type(error).__name__}: {error}"))
                    blame.failed(batch.column("id")[row].as_py(), "".join(traceback.format_exception(error)))
    return join(done, call, batch), failures


def stage_bug(step: Step, row_id: str, error: str, reason: str = "error") -> StageError:
    """What a stage that can do no row is told, with one of its rows and what went wrong there."""
    *trace, last = error.strip().splitlines()
    hint = HINTS.get(reason, "this is the stage, not the data; mend it") + " and run again"
    return StageError(
        f"stage `{step.stage}` fails on every row, for example on `{row_id}`: {last}",
        where=f"stages[{step.index}]", hint=f"{hint}:\n{error.rstrip()}" if trace else hint,
    )  # fmt: skip


def join(
    done: list[pa.RecordBatch], call: Callable[[pa.RecordBatch], pa.RecordBatch], batch: pa.RecordBatch
) -> pa.RecordBatch:
    """One batch out of pieces; an empty one of the right schema where every row failed."""
    if not done:
        return call(batch.slice(0, 0))
    table = pa.Table.from_batches(done).combine_chunks()
    return table.to_batches()[0] if table.num_rows else done[0]


class Isolated:
    """A stage in a persistent killable child; a fresh one after each death."""

    def __init__(
        self,
        step: Step,
        store: str,
        code: list[tuple[str, str]],
        limits: RowLimits,
    ) -> None:
        self.step, self.deaths, self.blame = step, 0, Blame(step)
        self._hello = (msgspec.json.encode(step), store, code)
        self._limits = limits
        self._child: Child | None = None
        self._shared = SharedBatch()
        self._first = True  # the child has not answered yet: it imports and compiles
        self._cpu_of_dead = 0.0
        # fewer for a while after a death that no marked row explains, and until it is known how long rows take
        self._at_once = 1 if limits.guessed else MAX_ROWS

    def start(self) -> None:
        """A unit begins."""
        self.deaths = 0
        self.blame.start()
        self._limits.start()

    def cpu_seconds(self) -> float:
        """CPU seconds of all children so far."""
        return self._cpu_of_dead + (self._child.cpu_seconds() if self._child else 0.0)

    def __call__(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, list[Failure]]:
        failures: list[Failure] = []
        done: list[pa.RecordBatch] = []
        start = 0
        while start < batch.num_rows:
            piece = batch.slice(start, self._at_once)
            done += self._run(piece, start, failures)
            start += piece.num_rows
        return join(done, self._empty, batch), [
            f._replace(error=f.error.strip().splitlines()[-1] if f.error else "") for f in failures
        ]

    def _empty(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        out, failure = self._try(batch)
        if out is None:
            raise RunError(f"stage `{self.step.stage}` fails on an empty batch: {failure.error}")
        return out

    def _run(
        self, batch: pa.RecordBatch, offset: int, failures: list[Failure], trust_marks: bool = True
    ) -> list[pa.RecordBatch]:
        done: list[pa.RecordBatch] = []
        while batch.num_rows:
            out, failure = self._try(batch)
            if out is not None:
                self._at_once = min(MAX_ROWS, self._at_once + self._at_once // 8 + 1)
                self.blame.done(batch.num_rows)
                return [*done, out]
            if failure.row == _UNMARKED or not trust_marks:  # the row may be any: halve
                if batch.num_rows > 1:
                    half = batch.num_rows // 2
                    if failure.reason != "error":
                        self._at_once = half
                    done += self._run(batch.slice(0, half), offset, failures, trust_marks)
                    batch, offset = batch.slice(half), offset + half
                    continue
                failure = failure._replace(row=0)
            row = min(failure.row, batch.num_rows - 1)
            if row:  # what came before it was done once already; if not, the marks are wrong
                done += self._run(batch.slice(0, row), offset, failures, trust_marks=False)
            done += self._alone(batch.slice(row, 1), offset + row, failures, failure.reason)
            batch, offset = batch.slice(row + 1), offset + row + 1
        return done

    def _alone(
        self, row: pa.RecordBatch, position: int, failures: list[Failure], reason: str
    ) -> list[pa.RecordBatch]:
        """Judge a row that is suspected since its batch failed for `reason`."""
        failure, fresh = Failure(0, "", ""), reason != "error"
        for attempt in range(1, MAX_KILLS + 1):
            if fresh:  # the last failure was a death or a kill, not an exception
                self.close()
            out, failure = self._try(row, alone=True)
            if out is not None:
                self.blame.done(1)
                if fresh and not (reason == "deadline" and self._limits.guessed):
                    self._count_death(reason)
                return [out]
            if attempt >= 2 and not failure.killed:
                break
        if failure.reason == "deadline":
            self._limits.hung()
        failures.append(failure._replace(row=position))
        self.blame.failed(row.column("id")[0].as_py(), failure.error, failure.reason)
        return []

    def _count_death(self, reason: str) -> None:
        self.deaths += 1
        if self.deaths > MAX_DEATHS:
            raise RunError(
                f"the child that runs `{self.step.stage}` died {self.deaths} times and no row is to blame",
                hint=f"{HINTS[reason]}, and run again to resume",
            )

    def _try(self, batch: pa.RecordBatch, alone: bool = False) -> tuple[pa.RecordBatch | None, Failure]:
        child = self._child = self._child or self._start()
        first, self._first = self._first, False
        marked = self._limits.alone(first)
        unmarked = marked if alone else self._limits.together(batch.num_rows, first)
        since, size = child.cpu_seconds(), self._shared.write(batch)
        try:
            child.connection.send(size)
            reason = self._watch(child, unmarked, marked)
            if reason:
                row = child.row
                self.close()
                seconds = unmarked if row == _UNMARKED else marked
                return None, Failure(row, reason, self._limits.passed(reason, seconds))
            kind, body = child.connection.recv()
        except (EOFError, OSError):
            row = child.row
            self.close()
            status = child.process.returncode
            killed = status in (-signal.SIGKILL, -signal.SIGTERM)
            return None, Failure(row, "crash", f"the child died (exit status {status})", killed)
        if kind == "raise":
            raise body
        if kind != "ok":
            return None, Failure(child.row, kind, body)
        self._limits.done(batch.num_rows, child.cpu_seconds() - since, first)
        return unpack(body), Failure(0, "", "")

    def _watch(self, child: Child, unmarked: float, marked: float) -> str:
        """Wait for the reply; names the limit that was passed, if one was.

        CPU seconds of a row that the stage has marked, and of all that were sent while it marks none.
        """
        row, since = child.row, child.cpu_seconds()
        while not child.connection.poll(POLL_SECONDS):
            cpu, now = child.cpu_seconds(), child.row
            if now != row:
                row, since = now, cpu
            elif cpu - since > (unmarked if row == _UNMARKED else marked):
                return "deadline"
            if child.memory_bytes() > self._limits.memory_mb << 20:
                return "memory"
        return ""

    def _start(self) -> Child:
        child = Child("curate.engine.isolate:serve", (self._shared.fd,))
        try:
            child.connection.send((*self._hello, self._shared.fd))
            reason = self._watch(child, LOAD_CPU_SECONDS, LOAD_CPU_SECONDS)
            reply: tuple[str, Any] = ("over", reason) if reason else child.connection.recv()
        except (EOFError, OSError):
            child.kill()
            self._count_death("crash")
            return self._start()
        kind, body = reply
        if kind == "ready" and child.memory_bytes() > self._limits.memory_mb << 20:  # quicker than the watch
            kind, body = "over", "memory"
        if kind == "ready":
            self._first = True
            return child
        child.kill()
        if kind == "over":
            raise self._too_much(body)
        raise body

    def _too_much(self, reason: str) -> StageError:
        over_time = f"{LOAD_CPU_SECONDS:.0f} CPU seconds"
        what = over_time if reason == "deadline" else f"{self._limits.memory_mb} MB"
        return StageError(
            f"stage `{self.step.stage}` takes more than {what} before its first row", where=f"stages[{self.step.index}]",
            hint=HINTS["memory"] if reason == "memory" else "loading it seems never to end; mend it and run again",
        )  # fmt: skip

    def close(self) -> None:
        if self._child:
            self._cpu_of_dead += self._child.cpu_seconds()
            self._child.kill()
            self._child = None


def serve(connection: Connection) -> None:
    """In the child: load the stage, then one batch in, one batch or error out."""
    from curate import stages

    encoded, store, code, shared = connection.recv()
    batches = SharedBatch(shared)
    call: Any = None
    try:
        for file, sha256 in code:
            stages.use_file(file, sha256)
        step = msgspec.json.decode(encoded, type=Step)
        leave_pandas_out([step])
        call = stage_call(step, Path(store))
        connection.send(("ready", None))
    except CurateError as error:
        connection.send(("raise", error))
    while True:
        batch = batches.read(connection.recv())
        mark_row(_UNMARKED)
        try:
            reply: tuple[str, Any] = ("ok", pack(call(batch)))
        except CurateError as error:
            reply = ("raise", error)
        except MemoryError:
            reply = ("memory", traceback.format_exc())
        except Exception:
            reply = ("error", traceback.format_exc())
        connection.send(reply)
