"""`_curate/log/<start>-<pid>.jsonl`: one line per event of a call of `run`. Never holds document text."""

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from curate.errors import CurateError
from curate.io.files import Folder

Listener = Callable[[str, Mapping[str, Any]], None]
LOGS = "_curate/log"


class RunLog:
    """Writes the events of one call and passes them on; rows/s progress is left out."""

    def __init__(self, out: Folder, then: Listener) -> None:
        self._out, self._then = out, then
        start = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        self._name = f"{LOGS}/{start}-{os.getpid()}.jsonl"
        self._lines: list[bytes] = []

    def __enter__(self) -> Listener:
        return self.listen

    def listen(self, kind: str, data: Mapping[str, Any]) -> None:
        """An event of the engine."""
        if kind != "progress":
            body = {k: v for k, v in data.items() if k != "entry"}
            if "entry" in data:
                body["unit"] = data["entry"].unit
            self._write(kind, body)
        self._then(kind, data)

    def _write(self, kind: str, data: Mapping[str, Any]) -> None:
        line = msgspec.json.encode({"time": time.time(), "event": kind, **data}) + b"\n"
        if self._out.local:
            path = self._out.local / self._name
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "ab") as file:
                file.write(line)
        else:
            self._lines.append(line)  # object stores cannot append: written once, at the end

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        end = (
            {"error": str(error) if isinstance(error, CurateError) else type(error).__name__} if error else {}
        )
        try:
            self._write("end", end)
            if self._lines:
                self._out.replace(self._name, b"".join(self._lines))
        except OSError:
            if error is None:
                raise  # else the disk is full, say, and `error` already tells
