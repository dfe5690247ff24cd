"""What work may cost: of a phase the memory it plans with, of rows in a killable child memory and CPU seconds.

A worker above its cap is killed, so a phase of a global stage plans with less: what the interpreter, the libraries and a
batch take is set aside, a tenth of the rest is for records that are sorted at once (which stand in memory about three
times), three tenths are the stage's, and what is left is nobody's.

A stage that runs isolated names `deadline_seconds` and `max_memory_mb` in its Config, and they hold as they stand: the
deadline for one row, or for all that were sent where the stage marks no rows.

Any other stage comes here only after two deaths of its worker, and nobody knows how long its rows take. So it begins
with one row, and what it has done tells what is usual: rows sent together get ten times that, and are halved when they
need more; a row alone, the only one that may be quarantined, gets a minute. That minute is halved with each row of the
unit that needed all of it, down to a hundred times the usual: a batch full of rows that hang takes hours, not days.
"""

from typing import NamedTuple

from curate.recipe.recipe import Step

WORKER_MEMORY_MB = 1024  # cap of a worker
ASIDE_MB = 384  # for interpreter, libraries, a batch and what becomes of it
LEAST_MB = 10
ROW_CPU_SECONDS = 60.0
LEAST_CPU_SECONDS = 1.0
MEMORY_MB = 2048
TOGETHER, ALONE, WARM = (
    10,
    100,
    3,
)  # times the usual: of rows together, of a row alone, of a child's first answer


class PhaseMemory(NamedTuple):
    """Bytes that a phase plans with."""

    sort: int  # of records that are sorted at once
    stage: int  # of what the stage itself holds


def phase_memory(cap_mb: int) -> PhaseMemory:
    """Of a worker that is killed above `cap_mb`."""
    rest = max(cap_mb - ASIDE_MB, LEAST_MB) << 20
    return PhaseMemory(rest // 10, rest * 3 // 10)


class RowLimits:
    """Of one stage; `careful_mb` is the cap of the worker whose deaths led here."""

    def __init__(self, step: Step, careful_mb: int = 0) -> None:
        config = step.settings()
        self.memory_mb: int = getattr(config, "max_memory_mb", careful_mb or MEMORY_MB)
        self._own: float | None = getattr(config, "deadline_seconds", None)
        self._memory_of = (
            "`max_memory_mb` of the stage" if hasattr(config, "max_memory_mb") else "--worker-memory-mb"
        )
        self._rows, self._seconds = 0, 0.0
        self._first: float | None = None
        self.start()

    def start(self) -> None:
        """A unit begins."""
        self._minute = ROW_CPU_SECONDS

    @property
    def guessed(self) -> bool:
        """Whether the deadline is ours and not the stage's."""
        return self._own is None

    def done(self, rows: int, cpu_seconds: float, first: bool) -> None:
        """Rows were done; `first`: by a child that had to import and compile before."""
        if first or self._first is None:
            self._first = cpu_seconds if self._first is None else min(self._first, cpu_seconds)
        else:
            self._rows, self._seconds = self._rows + rows, self._seconds + cpu_seconds

    def hung(self) -> None:
        """A row alone needed all its time."""
        self._minute /= 2

    def alone(self, first: bool) -> float:
        """CPU seconds of one row."""
        if self._own is not None:
            return self._own
        if self._first is None:
            return ROW_CPU_SECONDS
        return min(ROW_CPU_SECONDS, max(self._minute, self._usual(1, ALONE))) + self._warm(first)

    def together(self, rows: int, first: bool) -> float:
        """CPU seconds of rows of which any may hang; what needs more is halved."""
        if self._own is not None:
            return self._own
        if self._first is None:
            return ROW_CPU_SECONDS
        return self._usual(rows, TOGETHER) + self._warm(first)

    def _warm(self, first: bool) -> float:
        return WARM * (self._first or 0.0) if first else 0.0

    def _usual(self, rows: int, times: int) -> float:
        mean = self._seconds / self._rows if self._rows else self._first or 0.0
        return max(LEAST_CPU_SECONDS, times * rows * mean)

    def passed(self, reason: str, cpu_seconds: float) -> str:
        """What a row is told that went over one."""
        if reason == "memory":
            return f"took more than {self.memory_mb} MB ({self._memory_of})"
        whose = "`deadline_seconds` of the stage" if self._own is not None else "the stage names no deadline"
        return f"took more than {cpu_seconds:.3g} CPU seconds ({whose})"
