"""What rows may cost in a killable child where their stage names no deadline."""

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from curate.child import Child
from curate.engine import limits
from curate.engine.isolate import Isolated
from curate.engine.limits import RowLimits
from curate.recipe.recipe import Step, from_tree
from curate.recipe.tree import Tree
from curate.stages import use_file

STAGES = """
import time

import msgspec
import pyarrow as pa

from curate.stage import stage


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Timed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    deadline_seconds: float = 2.5
    max_memory_mb: int = 77


def busy(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


@stage("dull", version=1, config=Config, reads=["text"], writes={"dull_chars": pa.int64()})
def dull(batch, config):
    found = []
    for text in batch["text"].to_pylist():
        busy({"HANG": 1e9, "SLOW": 0.3}.get(text, 0))
        found.append(len(text))
    return batch.append_column("dull_chars", pa.array(found, pa.int64()))


@stage("timed", version=1, config=Timed, reads=["text"], writes={}, isolate=True)
def timed(batch, config):
    return batch
"""


@pytest.fixture
def step(tmp_path: Path) -> Step:
    """Of the stage that names no limits."""
    return steps(tmp_path)[0]


def steps(folder: Path) -> tuple[Step, ...]:
    (folder / "my_stages.py").write_text(STAGES)
    use_file(folder / "my_stages.py")
    return from_tree(
        Tree({"input": {"path": "in"}, "stages": ["dull", "timed"]}, "recipe"), output="out"
    ).steps


CHILD = """
import mmap

def serve(connection):
    with open(connection.recv(), "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    connection.send(sum(mapped[i] for i in range(0, len(mapped), 4096)))
    connection.recv()
    held = [b"x" * (100 << 20)]
    connection.send(len(held))
    connection.recv()
"""


def test_memory_of_a_child_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mapped file of 200 MB (a model, shared by all workers) does not count; 100 MB of bytes do."""
    (tmp_path / "mapper.py").write_text(CHILD)
    (tmp_path / "big").write_bytes(bytes(200 << 20))
    monkeypatch.syspath_prepend(tmp_path)
    child = Child("mapper:serve")
    try:
        child.connection.send(tmp_path / "big")
        child.connection.recv()
        mapped = child.memory_bytes()
        child.connection.send(None)
        child.connection.recv()
        assert mapped < 60 << 20
        assert 100 << 20 <= child.memory_bytes() - mapped < 110 << 20
    finally:
        child.kill()
    assert child.memory_bytes() == 0


def test_the_memory_cap_of_a_worker_is_one_for_all_commands() -> None:
    from curate.cli.run import WORKER_MEMORY_MB
    from curate.engine.run import WORKER_MEMORY_MB as of_the_engine

    assert WORKER_MEMORY_MB == of_the_engine == 1024


def test_the_limits_of_a_stage_hold_as_they_stand(tmp_path: Path) -> None:
    timed = RowLimits(steps(tmp_path)[1], careful_mb=900)
    for _ in range(9):
        timed.done(1, 0.001, first=False)
        timed.hung()
    assert (timed.memory_mb, timed.alone(True), timed.together(4096, False)) == (77, 2.5, 2.5)


def test_what_is_usual_comes_of_what_was_done(step: Step) -> None:
    """By hand: a first answer of 2 s, then 100 rows in 5 s: usual is 0.05 s a row."""
    found = RowLimits(step, careful_mb=900)
    assert found.memory_mb == 900
    assert (found.together(1, True), found.alone(True)) == (60, 60)  # nothing is known
    found.done(1, 2.0, first=True)
    assert found.together(1, False) == 20  # ten times the little that is known
    found.done(100, 5.0, first=False)
    assert found.together(1, False) == 1  # the least
    assert found.together(40, False) == pytest.approx(20)  # ten times 40 rows
    assert found.together(40, True) == pytest.approx(26)  # a fresh child imports first
    assert found.alone(True) == 66
    shrinking = []
    for _ in range(5):
        found.hung()
        shrinking.append(found.alone(False))
    assert shrinking == pytest.approx([30, 15, 7.5, 5, 5])  # down to a hundred times the usual
    found.start()  # another unit
    assert found.alone(False) == 60


def test_a_slow_row_stays_and_rows_that_hang_cost_little_more_than_themselves(
    step: Step, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stage without marks and deadline after two deaths: row after row, each with its minute, is not how it ends."""
    monkeypatch.setattr(limits, "ROW_CPU_SECONDS", 1.0)
    monkeypatch.setattr(limits, "LEAST_CPU_SECONDS", 0.1)
    texts = ["sound"] * 600
    texts[37], texts[200], texts[400] = "HANG", "SLOW", "HANG"
    batch = pa.record_batch({"id": [f"row {i}" for i in range(600)], "text": texts})
    careful = Isolated(step, str(tmp_path), [(str(tmp_path / "my_stages.py"), "")], RowLimits(step, 900))
    careful.start()
    try:
        done, failures = careful(batch)
    finally:
        careful.close()
    assert [(f.row, f.reason) for f in failures] == [(37, "deadline"), (400, "deadline")]
    assert failures[0].error.startswith("took more than ")
    assert failures[0].error.endswith(" CPU seconds (the stage names no deadline)")
    assert done["id"].to_pylist() == [f"row {i}" for i in range(600) if i not in (37, 400)]
    assert careful.deaths == 0  # of the machine: the slow row was none
    assert careful.cpu_seconds() < 40


def test_the_peak_of_a_process_is_not_that_of_its_parent():
    held = bytearray(300 << 20)
    code = "from curate.child import peak_memory_bytes; print(peak_memory_bytes())"
    told = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True).stdout
    assert 1 << 20 < int(told) < len(held) // 2


def test_what_a_phase_plans_with_fits_into_its_worker():
    for cap in (256, 512, 1024, 4096):
        planned = limits.phase_memory(cap)
        assert 1 << 20 <= planned.sort < planned.stage
        assert 3 * planned.sort + planned.stage <= max(cap - limits.ASIDE_MB, limits.LEAST_MB) << 20
    assert limits.phase_memory(1024) == (64 << 20, 192 << 20)
