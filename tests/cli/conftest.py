"""Small datasets for all command tests, made by the real command: one complete, one whose run was killed."""

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.cli.main import main

RECIPE = """\
# Rows worth keeping
name: tiny
input: {{path: "{docs}", id: key}}
unit_mb: 1
stages:
  - sample: {{}}
  - select: "score >= 0.2 and length(text) > 10"
  - exact_dedup: {{}}
"""

# A stage that kills the run when it meets a row of the third unit: the first two units are committed.
KILLER = '''\
"""Kills the process that runs the recipe."""
import os, signal
import msgspec
from curate.stage import stage

class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    row: str = "doc-045"  # the row that kills

@stage("killer", version=1, config=Config, reads=["id"], writes={})
def killer(batch, config):
    if config.row in batch["id"].to_pylist():
        os.kill(os.getppid(), signal.SIGKILL)
        signal.pause()
    return batch
'''


def rows(start: int, stop: int) -> pa.Table:
    """Row i has score i / 60, so 12 are too low. 20, 30, 40 and 50 say what 15 says, 25 is short, 33 is null, 26 holds
    control characters, and 19, 39 and 59 are long, so that each file is a unit of its own."""
    texts: list[str | None] = [f"Document number {i}, with words of its own." for i in range(60)]
    for i in (20, 30, 40, 50):
        texts[i] = texts[15]
    texts[25], texts[26], texts[33] = "short", "\x1b[31mred [bold]markup[/bold]\x07", None
    for i in (19, 39, 59):
        texts[i] = random.Random(i).randbytes(600_000).hex()
    return pa.table({
        "key": [f"doc-{i:03d}" for i in range(start, stop)],
        "text": pa.array(texts[start:stop], pa.string()),
        "url": [f"https://example.org/{i}" for i in range(start, stop)],
        "score": [i / 60 for i in range(start, stop)],
    })  # fmt: skip


class Done(NamedTuple):
    """What a command left."""

    returncode: int
    stdout: str
    stderr: str


Curate = Callable[..., Done]


@pytest.fixture(scope="session")
def process() -> Curate:
    """Runs the command line in a process of its own."""

    def run(*arguments: object, **environment: str) -> Done:
        command = [sys.executable, "-c", "from curate.cli.main import main; main()", *map(str, arguments)]
        done = subprocess.run(
            command, env={**os.environ, **environment}, text=True, capture_output=True, timeout=120
        )
        return Done(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def curate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Curate:
    """Runs the command line from `main` to its exit in this process, which is quicker."""

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["curate", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return Done(ended.value.code or 0, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with docs/, recipe.yaml and nothing made yet."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "docs").mkdir()
    for number, (start, stop) in enumerate([(0, 20), (20, 40), (40, 60)]):
        pq.write_table(rows(start, stop), folder / f"docs/{number}.parquet")
    (folder / "recipe.yaml").write_text(RECIPE.format(docs=folder / "docs"))
    return folder


@pytest.fixture(scope="session")
def made(project: Path, process: Curate) -> Path:
    """A complete dataset: read it, never change it."""
    done = process("run", project / "recipe.yaml", "-o", project / "out/tiny", "--workers", 1)
    assert done.returncode == 4, done.stderr  # the row without text is quarantined
    return project / "out/tiny"


@pytest.fixture
def dataset(made: Path, tmp_path: Path) -> Path:
    """A copy of it to damage, without its work store."""
    shutil.copytree(made, tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.fixture(scope="session")
def killed(project: Path, process: Curate, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run killed in its last pass, two of three units done."""
    folder = tmp_path_factory.mktemp("killed")
    (folder / "killer.py").write_text(KILLER)
    (folder / "recipe.yaml").write_text((project / "recipe.yaml").read_text() + "  - killer: {}\n")
    done = process(
        "run", folder / "recipe.yaml", "-o", folder / "out", "--workers", 1, "--stages", folder / "killer.py"
    )
    assert done.returncode == -9, done.stderr
    return folder / "out"
