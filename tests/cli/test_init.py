"""`curate init`: what it writes works, and it overwrites nothing."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest


def test_what_is_written(curate, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = curate("init", "My Corpus")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        f"My Corpus/{name}"
        for name in ("recipe.yaml", "Makefile", "crontab.txt", ".gitignore", "data/sample.jsonl")
    ]
    assert all(line.startswith("#") for line in (tmp_path / "My Corpus/crontab.txt").read_text().splitlines())
    assert "out/my-corpus" in (tmp_path / "My Corpus/recipe.yaml").read_text()


def test_nothing_is_overwritten(curate, tmp_path):
    (tmp_path / "Makefile").write_text("mine")
    done = curate("init", tmp_path)
    assert done.returncode == 2
    assert "is there already; nothing was written" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["Makefile"]
    assert (tmp_path / "Makefile").read_text() == "mine"


def test_own_data(curate, tmp_path):
    """A column that a stage would overwrite gets another name; HTML is extracted."""
    (tmp_path / "data").mkdir()
    pq.write_table(
        pa.table({"text": ["a"], "lang": ["en"], "html": pa.array([b"<p>a"], pa.large_binary())}),
        tmp_path / "data/x.parquet",
    )
    found = json.loads(curate("init", tmp_path, "--input", tmp_path / "data", "--json").stdout)
    assert (found["schema"], found["exit"]) == ("curate.init/1", 0)
    assert not (tmp_path / "data/sample.jsonl").exists()
    recipe = (tmp_path / "recipe.yaml").read_text()
    assert 'input: {path: "data", columns: {lang_source: lang}}' in recipe
    assert "- extract: {}" in recipe


@pytest.mark.parametrize(("name", "what"), [("none", "none"), ("numbers.parquet", "no column `text`")])
def test_data_that_cannot_be_read(curate, tmp_path, name, what):
    pq.write_table(pa.table({"n": [1]}), tmp_path / "numbers.parquet")
    done = curate("init", tmp_path / "new", "--input", tmp_path / name)
    assert done.returncode == 2
    assert what in done.stderr
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_make_works_at_once(curate, tmp_path):
    if shutil.which("make") is None:
        pytest.skip("needs make")
    folder = tmp_path / "new corpus"
    assert curate("init", folder).returncode == 0
    command = f"{sys.executable} -c 'from curate.cli.main import main; main()'"
    done = subprocess.run(
        ["make", f"CURATE={command}"], cwd=folder, text=True, capture_output=True, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
    assert "5 of 10 rows kept" in done.stderr
    dropped = json.loads((folder / "out/new-corpus/_curate/manifest.json").read_text())["rows"]["dropped"]
    assert {stage: sum(reasons.values()) for stage, reasons in dropped.items()} == {
        "language_id": 2, "gopher_quality": 1, "gopher_repetition": 1, "minhash_dedup": 1,
    }  # fmt: skip
    assert (folder / "report.html").is_file()
    again = subprocess.run(["make", f"CURATE={command}"], cwd=folder, text=True, capture_output=True)
    assert "nothing was left to do" in again.stderr


def test_the_cron_line_is_one_that_cron_runs(curate, tmp_path):
    folder = tmp_path / "50% new"
    curate("init", folder)
    line = (folder / "crontab.txt").read_text().splitlines()[-1].removeprefix("# ")
    command = line.split(None, 5)[5]
    assert "%" not in command.replace("\\%", "")
    assert command.startswith(f"cd '{Path(folder)}'".replace("%", "\\%"))
