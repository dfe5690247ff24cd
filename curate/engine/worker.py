"""Inside a worker: one job in, progress and a result out."""

import os
import time
import traceback
from multiprocessing.connection import Connection
from typing import Any

from curate.child import mark_row
from curate.engine import journal
from curate.engine.call import leave_pandas_out
from curate.engine.journal import Entry
from curate.engine.phase import apply, run_merge, run_phase
from curate.engine.remember import add_to_index
from curate.engine.unit import Job, Progress, load_plan, pass_folder, run_rows
from curate.engine.workers import NO_BATCH, os_error
from curate.errors import CurateError
from curate.io.files import Folder


def run_unit(job: Job, progress: Progress = lambda rows, size: None) -> list[Entry]:
    """Do one unit or task and commit it: any scheduler can call this with a plan folder and a unit's name."""
    plan = load_plan(job.run)
    if job.remember >= 0:
        add_to_index(plan, job.run, plan.recipe.steps[job.remember])
        return []
    one = plan.passes[job.pass_index]
    folder = Folder(job.target) if job.files else pass_folder(plan, job.run, one)
    if entry := journal.finished(folder, job.unit):  # by an attempt that died before it could say so
        return [entry]
    if job.files:
        return [run_merge(plan, one, job)]
    if one.kind == "phase":
        return [run_phase(plan, one, job)]
    return list(run_rows(plan, one, job, progress, apply if one.opens >= 0 else None))


class Telling:
    """Sums progress and sends it a few times a second."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._rows, self._bytes, self._sent = connection, 0, 0, time.monotonic()

    def __call__(self, rows: int, size: int) -> None:
        self._rows, self._bytes = self._rows + rows, self._bytes + size
        if time.monotonic() - self._sent > 0.2:
            self._connection.send(("progress", (self._rows, self._bytes)))
            self._rows, self._bytes, self._sent = 0, 0, time.monotonic()


def serve(connection: Connection) -> None:
    """Loop of the child process."""
    while True:
        job: Job = connection.recv()
        mark_row(NO_BATCH)
        connection.send(("taken", None))
        try:
            leave_pandas_out(load_plan(job.run).recipe.steps)
            reply: tuple[str, Any] = ("done", run_unit(job, Telling(connection)))
        except CurateError as error:
            reply = ("raise", error)
        except OSError as error:
            reply = ("raise", os_error(error, job.run))
        except MemoryError:  # a death like any other: a careful try finds the row
            os._exit(1)
        except Exception:
            reply = ("bug", traceback.format_exc())
        connection.send(reply)
