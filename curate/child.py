"""A killable, long-lived child process, fed one message at a time over a pipe.

Peers lose work to concurrent.futures (one killed worker breaks the pool), to fork (locks copied while held) and to
time-outs inside the process (a C library that holds the GIL never sees them). So: a fresh interpreter, a pipe, a
shared row counter, and a parent that looks at CPU seconds and memory and kills.
"""

import contextlib
import ctypes
import gc
import importlib
import mmap
import os
import re
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

GC_THRESHOLD = 50_000  # objects before Python looks for cycles: at its 700 that is a fifth of a start
_PR_SET_PDEATHSIG = 1
_TICKS = os.sysconf("SC_CLK_TCK")
_OWN_MEMORY = re.compile(rb"^Rss(?:Anon|Shmem):\s*(\d+) kB", re.M)

_row: Any = bytearray(8)  # in a child: memory shared with the parent


def mark_row(row: int) -> None:
    """Say which row of the current batch is being worked on. Cheap; call it in every per-row loop that may hang."""
    struct.pack_into("q", _row, 0, row)


def peak_memory_bytes() -> int:
    """Largest resident size of this process so far. (`ru_maxrss` begins with that of the process that started it.)"""
    with open("/proc/self/status", "rb") as file:
        line = next(line for line in file if line.startswith(b"VmHWM"))
    return int(line.split()[1]) << 10


class Child:
    """One child running `target` ("module:function", called with the connection until it returns)."""

    def __init__(self, target: str, files: tuple[int, ...] = ()) -> None:
        """`files`: descriptors that it gets too, under the same numbers."""
        ours, theirs = socket.socketpair()
        row_fd = os.memfd_create("curate-row")
        os.ftruncate(row_fd, mmap.PAGESIZE)
        self._row = mmap.mmap(row_fd, mmap.PAGESIZE)
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-m",
                "curate.child",
                target,
                str(theirs.fileno()),
                str(row_fd),
                str(os.getpid()),
            ],
            pass_fds=(theirs.fileno(), row_fd, *files),
            stdin=subprocess.DEVNULL,
            stdout=2,  # our stdout is data
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            start_new_session=True,  # Ctrl-C reaches the parent alone, which then decides
        )
        theirs.close()
        os.close(row_fd)
        self.connection = Connection(ours.detach())

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def row(self) -> int:
        """Row the child last marked."""
        return int(struct.unpack_from("q", self._row, 0)[0])

    def alive(self) -> bool:
        return self.process.poll() is None

    def cpu_seconds(self) -> float:
        """User and system time so far; 0.0 once the child is gone."""
        try:
            with open(f"/proc/{self.pid}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return 0.0
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def memory_bytes(self) -> int:
        """Resident memory of its own; 0 once the child is gone.

        Pages of mapped files (a model) are shared by all workers, and the kernel takes them back when it needs them.
        """
        try:
            with open(f"/proc/{self.pid}/status", "rb") as file:
                status = file.read()
        except (FileNotFoundError, ProcessLookupError):
            return 0
        return sum(int(size) << 10 for size in _OWN_MEMORY.findall(status))

    def kill(self) -> None:
        """End it now and wait until it is gone. Safe to call twice."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        self.connection.close()
        with contextlib.suppress(BufferError, ValueError):
            self._row.close()


def main() -> None:
    """Entry point of the child itself: `python -m curate.child TARGET PIPE_FD ROW_FD PARENT_PID`."""
    target, pipe_fd, row_fd, parent = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    gc.set_threshold(GC_THRESHOLD)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above took hold
        os._exit(1)
    import curate.child  # the module others import, not this `__main__`

    curate.child._row = mmap.mmap(row_fd, mmap.PAGESIZE)
    module, _, function = target.partition(":")
    serve: Callable[[Connection], None] = getattr(importlib.import_module(module), function)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        serve(Connection(pipe_fd))


if __name__ == "__main__":
    main()
