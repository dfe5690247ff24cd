"""`read_all`: an input from its listing to its rows, with everything that did not become one."""

import json
import re
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from curate.io import inputs


class Log:
    """A Report that remembers, with the place between the rows where each thing was said."""

    def __init__(self) -> None:
        self.quarantined: list[dict[str, Any]] = []
        self.skipped: Counter[str] = Counter()

    def quarantine(self, **row: Any) -> None:
        assert set(row) == {"id", "source", "offset", "reason", "error", "raw"}
        assert len(row["raw"]) <= 4096
        self.quarantined.append(row)

    def skip(self, reason: str, count: int = 1) -> None:
        self.skipped[reason] += count

    @property
    def reasons(self) -> list[str]:
        return [row["reason"] for row in self.quarantined]

    @property
    def accounted(self) -> int:
        return len(self.quarantined) + sum(self.skipped.values())


class Everything:
    """What came out of an input."""

    def __init__(
        self, path: Any, base: Path, unit_bytes: int, first_link: int, reading: dict[str, int], **config: Any
    ):
        self.config = inputs.Input(path=path, **config)
        self.root, self.files = inputs.list_files(self.config, base)
        self.schema = inputs.input_schema(self.root, self.files, self.config)
        self.ids: list[tuple[int, str]] = []
        limit = {key: reading[key] for key in ("max_document_bytes",) if key in reading}
        self.scans = [
            inputs.scan(
                f,
                self.config,
                self.schema,
                unit_bytes,
                lambda o, i: self.ids.extend(zip(o, i, strict=True)),
                **limit,
            )
            for f in self.files
        ]
        self.slices = [part for scan in self.scans for part in scan.slices]
        self.log = Log()
        self.batches, self.links = [], 0
        for item in inputs.read(
            self.root, self.slices, self.config, self.schema, self.log, first_link=first_link, **reading
        ):
            if item is inputs.LINK_END:
                self.links += 1
            else:
                assert item.schema == self.schema
                item.validate(full=True)
                self.batches.append(item)

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        return [row for batch in self.batches for row in batch.to_pylist()]

    def column(self, name: str) -> list[Any]:
        return [value for batch in self.batches for value in batch[name].to_pylist()]


@pytest.fixture(scope="session")
def read_all() -> Callable[..., Everything]:
    def go(
        path: Any, *, base: Path = Path("/"), unit_bytes: int = 1 << 28, first_link: int = 0,
        reading: dict[str, int] | None = None, **config: Any,
    ) -> Everything:  # fmt: skip
        if isinstance(path, Path):
            path = str(path)
        return Everything(path, base, unit_bytes, first_link, reading or {}, **config)

    return go


class SourceServer:
    """A web server in a process of its own, which fails as it is told to (source_server.py)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("source_server.py")), str(folder)],
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout
        self.address = f"http://127.0.0.1:{int(self._process.stdout.readline())}"

    def fail(self, match: str, kind: str, times: int = 1, **how: Any) -> None:
        """Of the requests that match ("GET /path"), the first `times` fail. What was asked before is forgotten."""
        body = json.dumps([{"match": match, "kind": kind, "times": times, **how}]).encode()
        urllib.request.urlopen(f"{self.address}/_faults", body).close()

    def asked(self, match: str = "") -> list[dict[str, Any]]:
        """The requests so far."""
        with urllib.request.urlopen(f"{self.address}/_log") as reply:
            return [one for one in json.load(reply) if re.search(match, f"{one['method']} {one['path']}")]

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def source(tmp_path: Path) -> Iterator[SourceServer]:
    folder = tmp_path / "source"
    folder.mkdir()
    server = SourceServer(folder)
    yield server
    server.stop()
