"""Whole runs of minhash_dedup: the same survivors however the input is cut and read, and through kills and damage."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import curate.engine.run as engine
from curate.engine.limits import phase_memory
from curate.recipe.recipe import from_tree
from curate.recipe.tree import Tree

DATA = Path(__file__).parents[2].parent / "shared/data"
STAGES = [{"minhash_dedup": {"keep": {"highest": "score"}}}]  # no two are equal


@pytest.fixture(scope="module")
def texts():
    table = pq.read_table(DATA / "dedup/powershell_docs_versions_dev.parquet", columns=["text"])
    return [f"{text}\n{i}" for i, text in enumerate(table["text"].to_pylist()[:600])]


@pytest.fixture(scope="module")
def folder(texts, tmp_path_factory):
    """600 documents in 3 files."""
    found = tmp_path_factory.mktemp("in")
    write(found, texts, 3)
    return found


def write(folder, texts, files, seed=None):
    rows = list(enumerate(texts))
    if seed is not None:
        random.Random(seed).shuffle(rows)
    for i in range(files):
        ids, some = zip(*rows[i::files], strict=True)
        table = pa.table({
            "key": [str(k) for k in ids], "text": pa.array(some, pa.large_string()),
            "score": [k * 7919 % 601 for k in ids],
        })  # fmt: skip
        pq.write_table(table, folder / f"{i}.parquet", row_group_size=40)


def tree(source, out, store, unit_mb=1):
    return {
        "input": {"path": str(source), "id": "key"}, "stages": STAGES, "output": {"path": str(out)},
        "store": str(store), "unit_mb": unit_mb,
    }  # fmt: skip


def recipe(*where):
    return from_tree(Tree(tree(*where), "recipe"))


# A run that dies as a whole with the first task of a pass.
DIES = """
import json, os, signal, sys
import curate.engine.run as engine
from curate.recipe.recipe import from_tree
from curate.recipe.tree import Tree

def listen(kind, data):
    if kind == "unit" and data["pass"] == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

engine.run(from_tree(Tree(json.loads(sys.argv[1]), "recipe")), workers=1, listen=listen)
"""


def fates(out):
    kept = pq.read_table(out, columns=["id", "minhash_dedup_cluster_size"]).to_pylist()
    dropped = pq.read_table(
        next((out / "_dropped").iterdir()), columns=["id", "kept_id", "drop_value"]
    ).to_pylist()
    return sorted((r["id"], r["minhash_dedup_cluster_size"]) for r in kept), sorted(
        tuple(r.values()) for r in dropped
    )


def checksums(out):
    parts = [p for p in sorted(out.rglob("part-*")) if "_curate" not in p.parts]
    return {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in parts}


@pytest.fixture(scope="module")
def undisturbed(folder, tmp_path_factory):
    base = tmp_path_factory.mktemp("whole")
    result = engine.run(recipe(folder, base / "out", base / "store"), workers=2)
    assert result.rows.kept + result.rows.dropped["minhash_dedup"]["near_duplicate"] == 600
    assert result.rows.kept < 400
    return base / "out"


def test_damaged_records_and_parts_are_noticed_and_made_anew(folder, undisturbed, tmp_path):
    """One byte of every file in the work store is another; a second run needs all of them."""
    store = tmp_path / "store"
    engine.run(recipe(folder, tmp_path / "first", store), workers=1)
    damaged = [p for p in store.rglob("*.parquet") if p.stat().st_size]
    assert len({p.parent for p in damaged}) == 5  # the phases before the last
    for number, path in enumerate(damaged):
        data = bytearray(path.read_bytes())
        data[(len(data) * (number % 9 + 1)) // 11] ^= 0x10
        path.write_bytes(data)
    warnings = []

    def listen(kind, data):
        if kind == "warning":
            warnings.append(data["message"])

    engine.run(recipe(folder, tmp_path / "second", store), workers=1, listen=listen)
    assert sum("or damaged" in w for w in warnings) == 5
    assert checksums(tmp_path / "second") == checksums(undisturbed)


@pytest.mark.slow
def test_a_small_cap_gives_the_same_bytes(texts, tmp_path):
    """Records and kept documents do not fit into what a worker of 394 MB plans with, and fit into that of 4 GB."""
    long = [" ".join(texts[i : i + 12]) for i in range(0, 600, 2)]
    (source := tmp_path / "in").mkdir()
    write(source, [text for text in long for _ in range(2)], 1)
    made = []
    for cap in (394, 4096):
        base = tmp_path / str(cap)
        engine.run(recipe(source, base / "out", base / "store", 256), workers=1, max_memory_mb=cap)
        records = {
            p.relative_to(base): hashlib.sha256(p.read_bytes()).hexdigest() for p in base.rglob("records-*")
        }
        made.append((checksums(base / "out"), records))
    sizes = [p.stat().st_size for p in base.rglob("records-*")]
    assert phase_memory(394).stage < max(sizes) < phase_memory(4096).sort
    assert made[0] == made[1]


@pytest.mark.slow
@pytest.mark.parametrize(("files", "unit_mb", "workers", "seed"), [(1, 256, 1, 4), (7, 1, 2, 5)])
def test_who_survives_does_not_depend_on_units_workers_or_files(
    texts, undisturbed, tmp_path, files, unit_mb, workers, seed
):
    source = tmp_path / "in"
    source.mkdir()
    write(source, texts, files, seed)
    engine.run(recipe(source, tmp_path / "out", tmp_path / "store", unit_mb), workers=workers)
    assert fates(tmp_path / "out") == fates(undisturbed)


@pytest.mark.slow
def test_a_run_killed_in_every_phase_in_turn_ends_with_the_same_bytes(folder, undisturbed, tmp_path):
    where = folder, tmp_path / "out", tmp_path / "store"
    for number in range(6):
        arguments = [sys.executable, "-c", DIES, json.dumps(tree(*where)), str(number)]
        died = subprocess.run(arguments, stderr=subprocess.PIPE, env=os.environ, check=False)
        assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    engine.run(recipe(*where), workers=1)
    assert checksums(tmp_path / "out") == checksums(undisturbed)
    assert not [p for p in (tmp_path / "store").rglob("_curate/tmp/*")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "commit"),
    [("claim", 5), ("claim", 13), ("claim", 14), ("claimed", 14), ("rename", 13)],
)
def test_killed_in_any_phase_it_goes_on_to_the_same_bytes(
    folder, undisturbed, tmp_path, curate, commit, moment
):
    """A worker is killed at its n-th commit, and so is the one after it, to the end of the 39 tasks.

    `sign`, `gather` and `apply` have twelve each: the 13th is that of `band`, the 14th and 27th of `component` and `cluster`.
    """
    file = tmp_path / "recipe.yaml"
    file.write_text(json.dumps(tree(folder, tmp_path / "out", tmp_path / "store")))
    command = ["run", file, "--workers", 1, "--quiet"]
    died = curate(*command, env={"CURATE_FAULT": f"{moment}:{commit}"})
    assert died.code in (0, 3), died.err
    ran = curate(*command)
    assert ran.code == 0, ran.err
    assert checksums(tmp_path / "out") == checksums(undisturbed)
    assert not [p for p in (tmp_path / "store").rglob("_curate/tmp/*")]
