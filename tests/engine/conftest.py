"""The real command line, run as a user runs it, and what a run left on disk."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest

from curate.engine.verify import verify

CONSOLE = Path(sys.executable).with_name("curate")


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture(scope="session")
def curate() -> Callable[..., Ran]:
    """`curate ARGUMENT...` in a process of its own. No user ever sees a traceback."""

    def go(*arguments: object, env: Mapping[str, str] | None = None, timeout: float = 120) -> Ran:
        done = subprocess.run(
            [CONSOLE, *map(str, arguments)], capture_output=True, timeout=timeout, env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        ran = Ran(done.returncode, done.stdout.decode(), done.stderr.decode())
        assert "Traceback" not in ran.err, ran.err
        return ran

    return go


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """`curate ARGUMENT...` in the background; killed when the test ends."""
    running = []

    def go(*arguments: object, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        running.append(subprocess.Popen(
            [CONSOLE, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, **(env or {})},
        ))  # fmt: skip
        return running[-1]

    yield go
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[..., Path]:
    """Writes a recipe: its stages, then any other key. JSON is YAML."""

    def write(stages: Sequence[Any], *, name: str = "recipe.yaml", **keys: Any) -> Path:
        tree = {"input": {"path": str(tmp_path / "in")}, "stages": list(stages), **keys}
        file = tmp_path / name
        file.write_text(json.dumps(tree))
        return file

    return write


class Dataset:
    """What stands in an output folder under final names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def rows(self, pattern: str) -> list[dict[str, Any]]:
        return [row for file in sorted(self.folder.glob(pattern)) for row in pq.read_table(file).to_pylist()]

    @property
    def parts(self) -> list[Path]:
        """Every data file: kept, dropped, quarantined."""
        return sorted(file for file in self.folder.rglob("part-*") if "_curate" not in file.parts)

    @cached_property
    def kept(self) -> list[dict[str, Any]]:
        return self.rows("part-*.parquet")

    @cached_property
    def quarantined(self) -> list[dict[str, Any]]:
        return self.rows("_quarantine/part-*.parquet")

    @property
    def reasons(self) -> list[str]:
        return sorted(row["reason"] for row in self.quarantined)

    @property
    def manifest(self) -> Any:
        return msgspec.json.decode((self.folder / "_curate/manifest.json").read_bytes())

    @property
    def complete(self) -> bool:
        return (self.folder / "_curate/manifest.json").exists()

    @property
    def problems(self) -> list[str]:
        return verify(self.folder).problems


@pytest.fixture(scope="session")
def dataset() -> Callable[[Path], Dataset]:
    return Dataset
