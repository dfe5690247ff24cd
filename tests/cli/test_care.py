"""status, verify, clean, models and doctor."""

import json
import os
import shutil
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.engine.lock import Lock
from curate.io.files import Folder

DAY = 86400


def test_status_of_a_complete_run(curate, made):
    done = curate("status", made)
    assert done.returncode == 0
    assert done.stdout.splitlines()[1] == "complete"
    found = json.loads(curate("status", made, "--json").stdout)
    assert (found["schema"], found["status"], found["exit"], found["owner"]) == (
        "curate.status/1",
        "complete",
        0,
        None,
    )
    assert found["rows"] == {
        "in": 60, "kept": 42, "made": 0, "quarantined": 1, "skipped": {},
        "dropped": {"input": {"score >= 0.2": 12}, "select": {"length(text) > 10": 1}, "exact_dedup": {"duplicate": 4}},
    }  # fmt: skip


def test_status_of_a_killed_run(curate, killed):
    done = curate("status", killed)
    assert done.returncode == 3
    assert "incomplete: pass 4 of 4, 2 of 3 units; process" in done.stdout
    assert "died" in done.stdout
    assert f"recipe.yaml -o {killed}" in done.stdout  # the next command, whole
    found = json.loads(curate("status", killed, "--json").stdout)
    assert [(p["units_done"], p["units"]) for p in found["passes"]] == [(3, 3), (3, 3), (1, 1), (2, 3)]
    assert found["rows"]["dropped"]["input"] == {"score >= 0.2": 12}
    # two of three units: 8 + 20 rows, less 20, 25, 30 and 33
    assert found["rows"]["kept"] == 24


def test_status_of_a_running_one(curate, killed, tmp_path):
    shutil.copytree(killed, tmp_path / "out")
    (tmp_path / "out/_curate/lock").unlink()
    with Lock(Folder(tmp_path / "out")):
        done = curate("status", tmp_path / "out")
    assert done.returncode == 3
    assert f"running as process {os.getpid()} on " in done.stdout


def test_status_while_it_plans_and_when_it_stopped_there(curate, tmp_path):
    with Lock(Folder(tmp_path / "out")):
        assert "planning" in curate("status", tmp_path / "out").stdout
    done = curate("status", tmp_path / "out")
    assert done.returncode == 2
    assert "holds no run" in done.stderr


def test_verify_says_what_it_checked(curate, made):
    done = curate("verify", made)
    assert done.returncode == 0
    assert "checked 8 files and 60 rows: sha256, rows and ids against the journal" in done.stdout
    assert "conservation in 6 units" in done.stdout
    assert done.stdout.endswith("whole\n")
    assert json.loads(curate("verify", made, "--json").stdout)["problems"] == []


def flip_a_byte(folder: Path) -> None:
    part = folder / "part-00001.parquet"
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)


def remove_a_part(folder: Path) -> None:
    (folder / "part-00002.parquet").unlink()


def add_a_part(folder: Path) -> None:
    shutil.copy(folder / "part-00000.parquet", folder / "part-00009.parquet")


def remove_dropped_rows(folder: Path) -> None:
    shutil.rmtree(folder / "_dropped/01_select")


def forget_a_unit(folder: Path) -> None:
    (folder / "_curate/journal/00001.json").unlink()


def rename_an_id(folder: Path, old: str = "doc-012", new: str = "doc-999") -> None:
    table = pq.read_table(folder / "part-00000.parquet")
    ids = pa.array([new if i == old else i for i in table["id"].to_pylist()])
    pq.write_table(
        table.set_column(table.schema.get_field_index("id"), "id", ids), folder / "part-00000.parquet"
    )


def repeat_an_id(folder: Path) -> None:
    rename_an_id(folder, new="doc-013")


def edit_the_manifest(folder: Path) -> None:
    manifest = folder / "_curate/manifest.json"
    manifest.write_text(manifest.read_text().replace('"kept": 42', '"kept": 43'))


def cut_a_journal_entry(folder: Path) -> None:
    (folder / "_curate/journal/00001.json").write_text('{"schema"')


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (flip_a_byte, "part-00001.parquet is not the file that was written"),
        (remove_a_part, "part-00002.parquet is gone"),
        (add_a_part, "part-00009.parquet is in no journal entry"),
        (remove_dropped_rows, "_dropped/01_select/part-00000.parquet is gone"),
        (forget_a_unit, "the manifest's totals are not the sum of the journal"),
        (rename_an_id, "other ids kept on disk than in the journal"),
        (repeat_an_id, "the id doc-013 stands twice"),
        (edit_the_manifest, "the manifest's totals are not the sum of the journal"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_verify_finds(curate, dataset, damage, problem):
    damage(dataset)
    done = curate("verify", dataset)
    assert done.returncode == 1
    assert problem in done.stdout
    found = json.loads(curate("verify", dataset, "--json").stdout)
    assert (found["schema"], found["status"], found["exit"]) == ("curate.verify/1", "problems", 1)
    assert f"{len(found['problems'])} problems\n" in done.stdout


def test_verify_of_a_damaged_journal(curate, dataset):
    cut_a_journal_entry(dataset)
    done = curate("verify", dataset)
    assert done.returncode in (1, 2)
    assert "_curate/journal/00001.json" in done.stdout + done.stderr


def test_verify_of_an_unfinished_run(curate, killed):
    done = curate("verify", killed)
    assert done.returncode == 3
    assert "not complete" in done.stderr


@pytest.fixture
def store(made, tmp_path) -> Path:
    """A copy of the complete run's work store: three passes, none needed by anybody."""
    shutil.copytree(made.parent / ".curate", tmp_path / ".curate")
    return tmp_path / ".curate"


def passes(store: Path) -> list[Path]:
    return sorted((store / "passes").iterdir())


def age(path: Path, days: float) -> None:
    """As if it had been used that long ago."""
    manifest = path / "_curate/manifest.json"
    os.utime(manifest, (time.time() - days * DAY,) * 2)


def test_clean_removes_what_was_not_used_for_long(curate, store):
    old, *young = passes(store)
    age(old, 15)
    for one in young:
        age(one, 13)
    planned = json.loads(curate("clean", "--store", store, "--dry-run", "--json").stdout)
    assert [row["pass"] for row in planned["removed"]] == [old.name]
    assert passes(store) == [old, *young]
    done = curate("clean", "--store", store)
    assert done.returncode == 0
    assert "1 of 3 passes removed" in done.stdout
    assert passes(store) == young


def test_clean_removes_downloads_that_no_run_needs(curate, tmp_path):
    downloads = tmp_path / ".curate/downloads"
    for name in ("commoncrawl/a.warc.gz", "commoncrawl/b.warc.gz", "listings/l.json"):
        (downloads / name).parent.mkdir(parents=True, exist_ok=True)
        (downloads / name).write_bytes(b"12345")
    unfinished = tmp_path / "out/_curate"
    unfinished.mkdir(parents=True)
    (tmp_path / "in.jsonl").write_text('{"text": "one"}\n')
    (tmp_path / "r.yaml").write_text(f"input: {{path: {tmp_path}/in.jsonl}}\nstages: [sample]\n")
    assert curate("run", tmp_path / "r.yaml", "-o", tmp_path / "out").returncode == 0
    (unfinished / "manifest.json").unlink()
    plan = json.loads((unfinished / "plan.json").read_text())
    plan["root"], plan["files"][0]["name"] = str(downloads / "commoncrawl"), "a.warc.gz"
    (unfinished / "plan.json").write_text(json.dumps(plan))
    done = curate("clean", "--store", tmp_path / ".curate", "--keep-days", 0)
    assert "1 of 2 passes and downloads removed, 5 B freed" in done.stdout
    assert "1 are in use and stay: a.warc.gz by the unfinished run" in done.stderr
    assert sorted(path.name for path in downloads.rglob("*.*")) == ["a.warc.gz", "l.json"]


def test_clean_to_a_size_takes_the_least_recently_used(curate, store):
    a, b, c = passes(store)
    for one, days in ((a, 1), (b, 3), (c, 2)):
        age(one, days)
    sizes = {one: sum(f.stat().st_size for f in one.rglob("*") if f.is_file()) for one in (a, b, c)}
    # rounded up: a fits, and a with c does not
    done = curate("clean", "--store", store, "--max-gb", (sizes[a] + 1) / 1e9)
    assert done.returncode == 0
    assert passes(store) == [a]
    assert curate("clean", "--store", store, "--max-gb", 0).returncode == 0
    assert passes(store) == []


def test_clean_counts_no_bytes_that_a_dataset_holds_too(curate, made):
    """Dropped rows of a pass are hard links into the dataset."""
    planned = json.loads(
        curate("clean", "--store", made.parent / ".curate", "--keep-days", 0, "--dry-run", "--json").stdout
    )
    store = made.parent / ".curate"
    everything = sum(f.stat().st_size for f in store.rglob("*") if f.is_file())
    linked = sum(f.stat().st_size for f in store.rglob("_dropped/**/*.parquet")) + sum(
        f.stat().st_size for f in store.rglob("_quarantine/*")
    )
    assert linked > 0
    assert planned["freed_bytes"] <= everything - linked


def test_clean_keeps_what_an_unfinished_run_names(curate, killed, project, process):
    store = killed.parent / ".curate"
    before = passes(store)
    done = curate("clean", "--store", store, "--keep-days", 0, "--max-gb", 0)
    assert done.returncode == 0
    assert passes(store) == before
    assert "3 are in use and stay" in done.stderr
    assert "more than --max-gb" in done.stderr
    resumed = process("verify", killed)
    assert resumed.returncode == 3  # still not complete, and nothing is lost


def test_clean_keeps_what_a_live_run_writes(curate, store):
    held, *others = passes(store)
    with Lock(Folder(held)):
        done = curate("clean", "--store", store, "--keep-days", 0)
        assert passes(store) == [held]
    assert f"{held.name} by process {os.getpid()}" in done.stderr
    assert "2 of 3 passes removed" in done.stdout
    assert others


def test_clean_finishes_a_removal_that_was_killed(curate, store):
    one = passes(store)[0]
    one.rename(one.with_name(f".leaving-{one.name}-1"))
    assert "1 of 3 passes removed" in curate("clean", "--store", store).stdout


@pytest.mark.slow
def test_a_run_after_clean_makes_the_same_bytes(process, project, made, tmp_path):
    shutil.copytree(made.parent / ".curate", tmp_path / ".curate")
    assert process("clean", "--store", tmp_path / ".curate", "--keep-days", 0).returncode == 0
    assert process("run", project / "recipe.yaml", "-o", tmp_path / "again").returncode == 4
    for part in made.glob("part-*"):
        assert (tmp_path / "again" / part.name).read_bytes() == part.read_bytes()


def test_clean_without_a_store(curate, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = curate("clean")
    assert done.returncode == 2
    assert "no work store at .curate" in done.stderr


def test_models_ls_and_get(curate):
    from curate.models import catalog

    listed = json.loads(curate("models", "ls", "--json").stdout)["models"]
    assert [row["name"] for row in listed] == list(catalog.CATALOG)
    assert listed[0]["here"] == (catalog.folder() / "lid.176.ftz").is_file()
    if not listed[0]["here"]:
        pytest.skip("lid176 is not on this machine; `curate models get lid176` fetches it")
    done = curate("models", "get", "lid176")
    assert done.stdout.strip() == listed[0]["path"]
    assert "licence CC-BY-SA-3.0" in done.stderr


def test_models_get_of_an_unknown_name(curate):
    done = curate("models", "get", "lid177")
    assert done.returncode == 2
    assert "lid176" in done.stderr


def test_doctor_finds_a_missing_model_and_a_cache_that_cannot_be_written(process, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    done = process("doctor", "--json", CURATE_CACHE=str(blocked / "cache"))
    assert done.returncode == 1
    found = json.loads(done.stdout)
    checks = {check["check"]: check for check in found["checks"]}
    assert not checks["kernels"]["ok"]
    assert "CURATE_CACHE" in checks["kernels"]["next"]
    assert checks["model lid176"]["next"].endswith("curate models get lid176`")
    assert checks["python"]["ok"]
    assert checks["workers"]["ok"]


def test_doctor_prints_a_line_for_each_check(curate):
    done = curate("doctor")
    lines = [line for line in done.stdout.splitlines() if not line.startswith("      next")]
    assert len(lines) == 12
    assert {line.split()[0] for line in lines} <= {"ok", "warn"}
    assert done.returncode == int(any(line.startswith("warn") for line in lines))
    assert next(line for line in lines if "kernels" in line).startswith("ok")
