"""A disk that fills up stops the run with one clear error; with more space the same command finishes it."""

import hashlib
import os
import random
import shutil
import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

STAGES = [{"select": "length(text) > 2000"}, {"exact_dedup": {}}]
MB = 1 << 20


@pytest.fixture
def small_disk(tmp_path):
    """Mounts a file system of a few bytes; `size(bytes)` changes that."""
    if os.geteuid():
        if os.environ.get("CI"):
            pytest.fail("CI must be able to mount a tmpfs")
        pytest.skip("needs root to mount a small tmpfs")
    folder = tmp_path / "disk"
    folder.mkdir()

    def size(bytes_: int) -> Path:
        options = f"{'remount,' if os.path.ismount(folder) else ''}size={bytes_}"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "curate-test", folder], check=True)
        return folder

    yield size
    if os.path.ismount(folder):
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """8 MB that no compression makes smaller than 6, in 12 units; each text stands twice."""
    folder = tmp_path_factory.mktemp("rows") / "in"
    folder.mkdir()
    draw = random.Random(0)
    texts = [draw.randbytes(draw.choice([500, 6000])).hex() for _ in range(1200)]
    table = pa.table({"text": texts + texts[::-1]})
    pq.write_table(table, folder / "rows.parquet", row_group_size=200, compression="none")
    return folder


@pytest.fixture(scope="module")
def undisturbed(rows, tmp_path_factory):
    """Checksums of what a run with enough space leaves."""
    import json

    from curate.engine.run import run
    from curate.recipe.recipe import load

    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "r.yaml").write_text(json.dumps({"input": {"path": str(rows)}, "stages": STAGES, "unit_mb": 1}))
    run(load(folder / "r.yaml", output=str(folder / "out")), workers=2)
    return checksums(folder / "out")


def checksums(out):
    parts = [p for p in sorted(out.rglob("part-*")) if "_curate" not in p.parts]
    return {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in parts}


def assert_full(ran):
    assert ran.code == 3, ran.err
    first, blank, hint, *rest = ran.err.splitlines()
    assert first.startswith("error: "), ran.err
    assert first.endswith("No space left on device")
    assert (blank, rest) == ("", [])
    assert hint == "hint: free some space, then run the same command again: it goes on where it stopped"


@pytest.mark.slow
@pytest.mark.parametrize("full", ["out", "store"])
def test_a_full_disk_stops_the_run_and_more_space_finishes_it(
    curate, recipe, dataset, rows, undisturbed, small_disk, tmp_path, full
):
    disk = small_disk(4 * MB)
    out, store = (disk / "out", tmp_path / "store") if full == "out" else (tmp_path / "out", disk / "store")
    command = ["run", recipe(STAGES, unit_mb=1, input={"path": str(rows)}), "-o", out, "--store", store, "--workers", 2, "--quiet"]  # fmt: skip
    assert_full(curate(*command))
    assert not dataset(out).complete
    # What unfinished units had written is given back, so that the next run has room to begin.
    assert not [f for f in disk.rglob("_curate/tmp/*") if f.is_file()]
    assert shutil.disk_usage(disk).free > 64 << 10
    assert not list(disk.rglob("_curate/lock"))
    assert_full(curate(*command))  # nothing was freed
    done_before = len(list(disk.rglob("_curate/journal/*.json")))
    assert done_before
    small_disk(64 * MB)
    ran = curate(*command)
    assert (ran.code, ran.err) == (0, "")
    assert checksums(out) == undisturbed
    assert dataset(out).problems == []


@pytest.mark.slow
def test_a_disk_without_room_for_the_plan_is_told_as_such(curate, recipe, rows, undisturbed, small_disk):
    disk = small_disk(16 << 10)
    command = ["run", recipe(STAGES, unit_mb=1, input={"path": str(rows)}), "-o", disk / "out", "--quiet"]
    assert_full(curate(*command))
    small_disk(64 * MB)
    assert curate(*command).code == 0
    assert checksums(disk / "out") == undisturbed


@pytest.mark.slow
def test_a_disk_filled_by_others_at_the_very_end_leaves_nothing_half_done(
    curate, recipe, dataset, rows, undisturbed, small_disk
):
    """All units are committed; only the end (dropped rows, manifest) finds no room."""
    disk = small_disk(64 * MB)
    command = ["run", recipe(STAGES, unit_mb=1, input={"path": str(rows)}), "-o", disk / "out", "--quiet"]
    died = curate(*command, env={"CURATE_FAULT": "manifest:1"})
    assert died.code == -9
    with open(disk / "filler", "wb") as filler:
        while shutil.disk_usage(disk).free:
            filler.write(bytes(min(4096, shutil.disk_usage(disk).free)))
            filler.flush()
    assert_full(curate(*command))
    assert not dataset(disk / "out").complete
    (disk / "filler").unlink()
    assert curate(*command).code == 0
    assert checksums(disk / "out") == undisturbed
