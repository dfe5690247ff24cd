"""What went wrong in datatrove 0.10.1 when we ran it, done to our engine.

Each docstring begins with what happened there (four Parquet shards, one task per shard).
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

CONSOLE = Path(sys.executable).with_name("curate")
ROWS = 500
STAGES = """
import time

import msgspec
import pyarrow as pa

from curate.stage import stage


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


@stage("slow", version=1, config=Config, reads=["text"], writes={"slow_chars": pa.int64()})
def slow(batch, config):
    time.sleep(0.4)
    return batch.append_column("slow_chars", pa.array([len(t) for t in batch["text"].to_pylist()], pa.int64()))


@stage("poisoned", version=1, config=Config, reads=["text"], writes={"poisoned_chars": pa.int64()})
def poisoned(batch, config):
    if any("POISON" in text for text in batch["text"].to_pylist()):
        raise ValueError("a document that this stage cannot do")
    return batch.append_column("poisoned_chars", pa.array([0] * batch.num_rows, pa.int64()))


@stage("broken", version=1, config=Config, reads=["text"], writes={"broken_chars": pa.int64()})
def broken(batch, config):
    if "b.parquet" in batch["text"][0].as_py():
        raise ValueError("never works there")
    return batch.append_column("broken_chars", pa.array([0] * batch.num_rows, pa.int64()))
"""


def shard(folder: Path, name: str, poison: int = -1) -> None:
    texts = [f"{name} {i} " + ("POISON" if i == poison else "word ") * 500 for i in range(ROWS)]
    pq.write_table(pa.table({"text": texts, "row": range(ROWS)}), folder / name, compression="none")


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """b, c, d and e: four units."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in "bcde":
        shard(folder, f"{name}.parquet")
    return folder


@pytest.fixture
def arguments(tmp_path: Path, recipe: Any, shards: Path) -> Callable[[Sequence[Any]], list[str]]:
    """A run over the shards; more flags may follow."""
    (tmp_path / "my_stages.py").write_text(STAGES)

    def build(stages: Sequence[Any], name: str = "recipe.yaml") -> list[str]:
        file = recipe(stages, name=name, unit_mb=1)
        return [
            "run",
            str(file),
            "-o",
            str(tmp_path / "out"),
            "--stages",
            str(tmp_path / "my_stages.py"),
            "--workers",
            "2",
        ]

    return build


def journal(out: Path) -> dict[str, Any]:
    return {f.stem: msgspec.json.decode(f.read_bytes()) for f in (out / "_curate/journal").glob("*.json")}


def kill_after(arguments: Sequence[str], out: Path, units: int) -> None:
    """Start a run and kill its process once so many units are done."""
    run = subprocess.Popen([CONSOLE, *arguments], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(journal(out)) < units:
        assert run.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    run.kill()
    run.wait()


def children(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def test_accident_a_a_poison_document_leaves_no_short_file(
    curate: Any, dataset: Any, tmp_path: Path, shards: Path, arguments: Any
) -> None:
    """There: the run raised, its siblings were killed, and the shard stood under its final name with half its rows,
    a valid Parquet file; three more stood there with no bytes at all.

    Here the one document is quarantined and everything else kept.
    """
    shard(shards, "c.parquet", poison=250)
    ran = curate(*arguments(["poisoned"]))
    assert ran.code == 4, ran.err
    out = dataset(tmp_path / "out")
    assert [pq.read_metadata(f).num_rows for f in sorted(out.folder.glob("part-*"))] == [
        ROWS,
        ROWS - 1,
        ROWS,
        ROWS,
    ]
    (row,) = out.quarantined
    assert row["raw"].startswith(b"c.parquet 250 ")
    assert "cannot do" in row["error"]
    assert out.problems == []


@pytest.mark.slow
def test_accident_a_a_stage_that_fails_leaves_no_short_file(
    dataset: Any, tmp_path: Path, arguments: Any
) -> None:
    """There: as above, for any exception.

    Here a stage that fails on every row of a unit stops the run, and what stands under a final name is whole and
    listed with its checksum.
    """
    ran = subprocess.run([CONSOLE, *arguments(["broken"])], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 2  # no run without a change helps, so nothing may try again for ever
    assert "stage `broken` fails on every row, for example on `" in ran.stderr
    assert "ValueError: never works there" in ran.stderr
    out = dataset(tmp_path / "out")
    assert not out.complete
    listed = {o["name"] for entry in journal(out.folder).values() for o in entry["outputs"]}
    assert {f.name for f in out.parts} <= listed
    assert all(pq.read_metadata(f).num_rows == ROWS for f in out.parts)


@pytest.mark.slow
def test_accident_b_totals_after_a_resume_are_of_the_whole_run(
    curate: Any, dataset: Any, tmp_path: Path, arguments: Any
) -> None:
    """There: two of four tasks finished in a second run, and stats.json held the two alone: 10,000 documents of 20,000."""
    kill_after(arguments(["slow"]), tmp_path / "out", units=2)
    done = len(journal(tmp_path / "out"))
    assert 2 <= done < 4
    ran = curate(*arguments(["slow"]), "--json")
    assert ran.code == 0, ran.err
    assert ran.json["fresh_units"] == 4 - done
    assert (
        ran.json["rows"]["in"] == ran.json["rows"]["kept"] == len(dataset(tmp_path / "out").kept) == 4 * ROWS
    )
    assert dataset(tmp_path / "out").manifest["rows"] == ran.json["rows"]


def test_accident_c_a_changed_recipe_is_not_taken_for_done(
    curate: Any, dataset: Any, tmp_path: Path, arguments: Any
) -> None:
    """There: another pipeline with the same logging folder did nothing, said that all tasks were complete and never
    made its output.

    Here it is refused, and --fresh makes it anew.
    """
    assert curate(*arguments(["sample"])).code == 0
    before = {f.name: f.read_bytes() for f in dataset(tmp_path / "out").parts}
    changed = arguments(["sample", {"select": "row < 100"}], name="changed.yaml")
    ran = curate(*changed)
    assert ran.code == 2
    assert "another recipe" in ran.err
    assert "--fresh" in ran.err
    assert {f.name: f.read_bytes() for f in dataset(tmp_path / "out").parts} == before
    assert curate(*changed, "--fresh").code == 0
    assert len(dataset(tmp_path / "out").kept) == 400
    assert dataset(tmp_path / "out").problems == []


@pytest.mark.slow
def test_accident_d_a_file_that_is_new_after_completion_is_not_ignored(
    curate: Any, dataset: Any, tmp_path: Path, shards: Path, arguments: Any
) -> None:
    """There: the run was complete and stayed so; the file was never read and nothing was said."""
    assert curate(*arguments(["sample"])).code == 0
    shard(shards, "f.parquet")
    ran = curate(*arguments(["sample"]))
    assert ran.code == 2
    assert "new file f.parquet" in ran.err
    assert curate(*arguments(["sample"]), "--fresh").code == 0
    assert len(dataset(tmp_path / "out").kept) == 5 * ROWS


def test_accident_d2_a_new_file_that_sorts_first_moves_no_row(
    curate: Any, dataset: Any, tmp_path: Path, shards: Path, arguments: Any
) -> None:
    """There: the listing was made anew, every file slid to the next task, and of 20,000 rows 5,000 were lost and
    5,000 doubled without a warning; the count was right.

    Here the plan is frozen: the file is named in a warning and not part of this run.
    """
    kill_after(arguments(["slow"]), tmp_path / "out", units=2)
    shard(shards, "a.parquet")
    ran = curate(*arguments(["slow"]))
    assert ran.code == 0, ran.err
    assert "warning: new file a.parquet: not part of this run" in ran.err
    out = dataset(tmp_path / "out")
    wanted = [(f"{name}.parquet", str(i)) for name in "bcde" for i in range(ROWS)]
    assert [tuple(row["text"].split()[:2]) for row in out.kept] == wanted
    assert len({row["id"] for row in out.kept}) == 4 * ROWS
    assert out.problems == []


def test_accident_e_a_key_seen_late_is_not_lost(
    curate: Any, recipe: Any, dataset: Any, tmp_path: Path
) -> None:
    """There: the schema came from the first documents, and a key first seen in the sixth vanished.

    Here keys without a column stay in `extra`, value for value; so does one that comes after the peek.
    """
    (tmp_path / "late").mkdir()
    rows: list[dict[str, Any]] = [{"text": f"document {i} " + "word " * 200} for i in range(2000)]
    rows[5]["licence_note"] = {"spdx": "CC-BY-4.0", "year": 2024}
    rows[1999]["stars"] = 5
    (tmp_path / "late" / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    file = recipe(["sample"], input={"path": str(tmp_path / "late")})
    assert curate("run", file, "-o", tmp_path / "out").code == 0
    kept = dataset(tmp_path / "out").kept
    assert {i: json.loads(row["extra"]) for i, row in enumerate(kept) if row["extra"]} == {
        5: {"licence_note": {"spdx": "CC-BY-4.0", "year": 2024}}, 1999: {"stars": 5}
    }  # fmt: skip


@pytest.mark.slow
def test_accident_k_a_killed_worker_is_replaced_and_the_run_returns(
    curate: Any, dataset: Any, tmp_path: Path, arguments: Any
) -> None:
    """There: the other tasks finished and the run waited for ever (two watchdogs of 180 s)."""
    run = subprocess.Popen([CONSOLE, *arguments(["slow"]), "--quiet"])
    deadline = time.monotonic() + 60
    while len(journal(tmp_path / "out")) < 1:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    workers = children(run.pid)
    assert workers
    os.kill(workers[0], signal.SIGKILL)
    assert run.wait(timeout=60) == 0
    out = dataset(tmp_path / "out")
    assert len(out.kept) == 4 * ROWS
    assert out.problems == []
