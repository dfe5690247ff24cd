"""Error kinds. Only `cli` catches them; anything else that escapes is our bug and keeps its traceback."""

COMPLETE, GUARD, USAGE, INCOMPLETE, QUARANTINED, INTERRUPTED = 0, 1, 2, 3, 4, 130


class CurateError(Exception):
    """Something the user can act on: what happened, where (file, line, key, row) and the next step."""

    kind = "error"
    exit_code = USAGE

    def __init__(self, what: str, *, hint: str = "", where: str = "") -> None:
        super().__init__(what)
        self.what, self.hint, self.where = what, hint, where

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" if self.where else self.what

    def __reduce__(self) -> tuple[object, ...]:  # keyword arguments survive the pipe from a worker
        return _rebuild, (type(self), self.what, self.hint, self.where)


def _rebuild(kind: type[CurateError], what: str, hint: str, where: str) -> CurateError:
    return kind(what, hint=hint, where=where)


class ConfigError(CurateError):
    """A recipe, flag or option that cannot be run as written."""

    kind = "config"


class DataError(CurateError):
    """Input that cannot be used as a whole (a single bad row is quarantined, never raised)."""

    kind = "data"


class ModelError(CurateError):
    """A model file or server that is missing or unusable."""

    kind = "model"


class StageError(CurateError):
    """A stage that breaks its contract or can do no row: the same command ends the same way until it is mended."""

    kind = "stage"


class LockedError(CurateError):
    """The folder belongs to another live run."""

    kind = "locked"


class GuardError(CurateError):
    """A guard refused the result; nothing was published."""

    kind = "guard"
    exit_code = GUARD


class RunError(CurateError):
    """The run stopped before its end; the same command resumes it."""

    kind = "run"
    exit_code = INCOMPLETE
