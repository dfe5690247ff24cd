"""Datasets of the hub, from a server that answers the requests huggingface_hub really sends."""

import hashlib
import json
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import HfFileSystem

from curate.engine.check import check
from curate.engine.forecast import Limits
from curate.engine.run import run
from curate.errors import ConfigError, DataError, GuardError, RunError
from curate.io import excerpt, inputs
from curate.io.fetched import pinned
from curate.io.slices import Input, Remote
from curate.recipe.recipe import from_tree
from curate.recipe.tree import Tree

CONSOLE = str(Path(sys.executable).with_name("curate"))
OLD, NEW = "a" * 40, "b" * 40
TOKEN = "hf_notarealtokenbutsecret"


@pytest.fixture
def hub(source, monkeypatch):
    """A dataset at two commits; `main` is the older one."""
    for commit, word in ((OLD, "old"), (NEW, "new")):
        top = source.folder / "datasets/org/name" / commit
        for number in range(3):
            file = top / f"data/en/part-{number}.parquet"
            file.parent.mkdir(parents=True, exist_ok=True)
            rows = [
                {"content": f"{word} {number} {row}", "url": f"https://a{row}.com/{number}"}
                for row in range(50)
            ]
            pq.write_table(pa.Table.from_pylist(rows), file, row_group_size=20)
        (top / "data/more.jsonl").write_text(json.dumps({"content": word, "url": "https://b.com"}) + "\n")
        (top / "README.md").write_text("# about\n")
        (top / ".gitattributes").write_text("*.parquet filter=lfs\n")
    move(source, OLD)
    monkeypatch.setenv("HF_ENDPOINT", source.address)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", source.address)  # the library read it at import
    template = source.address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    HfFileSystem.clear_instance_cache()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    return source


def move(source, commit):
    branches = {"main": commit, "v1": OLD, "refs/convert/parquet": NEW}
    (source.folder / "datasets/org/name/branches.json").write_text(json.dumps(branches))


def listed(path, tmp_path, say=print, **config):
    config = Input(path=path, columns={"text": "content"}, **config)
    root, files = inputs.list_files(config, tmp_path, str(tmp_path / "store"), 0, say)
    inputs.fetch(files, config, str(tmp_path / "store"), say, lambda *progress: None)
    return root, files, config


@pytest.mark.parametrize(
    ("path", "names", "commit"),
    [
        ("hf://datasets/org/name/data/en/*.parquet", ["part-0.parquet", "part-1.parquet", "part-2.parquet"], OLD),
        ("hf://datasets/org/name@v1/data/en/part-1.parquet", ["part-1.parquet"], OLD),
        (f"hf://datasets/org/name@{NEW}/data/more.jsonl", ["more.jsonl"], NEW),
        ("hf://datasets/org/name@refs/convert/parquet/data/en/part-0.parquet", ["part-0.parquet"], NEW),
        ("hf://datasets/org/name/data/**/*.parquet", ["en/part-0.parquet", "en/part-1.parquet", "en/part-2.parquet"], OLD),
        ("hf://datasets/org/name", ["README.md", "data/en/part-0.parquet", "data/en/part-1.parquet",
                                    "data/en/part-2.parquet", "data/more.jsonl"], OLD),
    ],
)  # fmt: skip
def test_files_of_a_dataset(hub, tmp_path, path, names, commit):
    root, files, _ = listed(path, tmp_path)
    assert [f.name for f in files] == names
    assert f"/downloads/hub/datasets/org/name@{commit}" in root
    for file in files:
        if file.format == "unread":
            assert file.name == "README.md"
            continue
        there = hub.folder / "datasets/org/name" / commit / root.partition(commit)[2].strip("/") / file.name
        assert Path(file.path).read_bytes() == there.read_bytes()
        if file.format == "parquet":
            assert file.remote.etag == file.remote.sha256 == hashlib.sha256(there.read_bytes()).hexdigest()


def test_rows_are_those_of_local_files(hub, tmp_path):
    root, files, config = listed("hf://datasets/org/name/data/en/*.parquet", tmp_path)
    schema = inputs.input_schema(root, files, config)
    slices = [s for f in files for s in inputs.scan(f, config, schema, 1 << 28, None).slices]
    rows = [r for b in inputs.read(root, slices, config, schema, None) for r in b.to_pylist()]
    assert [r["text"] for r in rows] == [f"old {n} {row}" for n in range(3) for row in range(50)]


def test_a_branch_is_frozen_as_a_commit(hub):
    config = Input(path="hf://datasets/org/name/data/*.jsonl")
    assert pinned(config, print).path == (f"hf://datasets/org/name@{OLD}/data/*.jsonl",)
    move(hub, NEW)
    assert pinned(config, print).path == (f"hf://datasets/org/name@{NEW}/data/*.jsonl",)
    fixed = Input(path=f"hf://datasets/org/name@{OLD}/data/*.jsonl")
    hub.fail("nothing", "short")
    assert pinned(fixed, print) == fixed
    assert hub.asked() == []


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("hf://datasets/org/none/data/*.parquet", DataError, "cannot be found on the hub"),
        ("hf://datasets/org/name@none/data/*.parquet", DataError, "cannot be found on the hub"),
        ("hf://datasets/org/name/none/a.parquet", DataError, "cannot be found on the hub"),
        ("hf://datasets/org/name/none/*.parquet", DataError, "nothing to read at"),
        ("hf://org/name/a.parquet", ConfigError, "no dataset of the hub"),
        ("hf://datasets/org", ConfigError, "no dataset of the hub"),
    ],
)
def test_addresses_that_lead_nowhere(hub, tmp_path, path, error, message):
    with pytest.raises(error, match=message) as found:
        listed(path, tmp_path)
    assert found.value.hint
    assert TOKEN not in str(found.value) + found.value.hint


def test_a_gated_dataset_says_what_to_do(hub, tmp_path):
    hub.fail("GET .*/resolve/", "status", times=99, code=403)
    with pytest.raises(DataError, match="HTTP 403") as error:
        listed("hf://datasets/org/name/data/en/*.parquet", tmp_path)
    assert "accept its terms" in error.value.hint
    assert "HF_TOKEN" in error.value.hint


@pytest.fixture
def quick(monkeypatch):
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda s: sleep(s / 100))


RESOLVE, TREE, API = "GET .*/resolve/", "GET /api/.*tree", "GET /api/datasets/org/name"


@pytest.mark.parametrize(
    ("match", "kind", "how"),
    [
        *((match, "status", {"code": code}) for match in (RESOLVE, TREE, API) for code in (429, 503)),
        (RESOLVE, "short", {}),
        (RESOLVE, "drop", {}),
    ],
)
def test_a_hub_that_fails_for_a_while(hub, tmp_path, quick, match, kind, how):
    hub.fail(match, kind, times=9, **how)  # more than the library tries by itself
    _, files, _ = listed("hf://datasets/org/name/data/en/*.parquet", tmp_path)
    for file in files:
        assert (
            Path(file.path).read_bytes()
            == (hub.folder / f"datasets/org/name/{OLD}/data/en" / file.name).read_bytes()
        )


def test_a_hub_that_fails_for_good(hub, tmp_path, quick):
    hub.fail(RESOLVE, "status", times=9999, code=503)
    with pytest.raises(RunError, match="gave up on hf://datasets/org/name"):
        listed("hf://datasets/org/name/data/en/*.parquet", tmp_path, retry_seconds=5)


@pytest.mark.slow
def test_a_run_holds_the_commit_and_never_the_token(hub, tmp_path):
    (tmp_path / "no.txt").write_text("a7.com\n")
    file = tmp_path / "r.yaml"
    file.write_text(json.dumps({
        "input": {
            "path": "hf://datasets/org/name/data/en/*.parquet", "columns": {"text": "content"},
            "opt_out": [str(tmp_path / "no.txt")],
        },
        "stages": [{"clean_text": {}}], "output": {"path": str(tmp_path / "out")},
    }))  # fmt: skip
    done = subprocess.run([CONSOLE, "run", str(file), "--json"], capture_output=True)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert (rows["in"], rows["kept"], rows["skipped"]) == (147, 147, {"opt_out": 3})
    assert any(one["authorization"] == f"Bearer {TOKEN}" for one in hub.asked())
    plan = json.loads((tmp_path / "out/_curate/plan.json").read_text())
    assert plan["recipe"]["input"]["path"] == [f"hf://datasets/org/name@{OLD}/data/en/*.parquet"]
    for place in ("out", ".curate"):
        for path in (tmp_path / place).rglob("*"):
            assert not path.is_file() or TOKEN.encode() not in path.read_bytes()
    assert TOKEN.encode() not in done.stdout + done.stderr

    move(hub, NEW)  # the branch goes on; the run does not
    (tmp_path / "out/_curate/manifest.json").unlink()
    hub.fail("nothing", "short")
    done = subprocess.run([CONSOLE, "run", str(file), "--json"], capture_output=True)
    assert (done.returncode, hub.asked()) == (0, []), done.stderr
    text = pq.read_table(next((tmp_path / "out").glob("part-*.parquet")))["text"].to_pylist()
    assert all(t.startswith("old ") for t in text)
    done = subprocess.run([CONSOLE, "run", str(file), "--fresh", "--json"], capture_output=True)
    assert done.returncode == 0, done.stderr
    assert (
        pq.read_table(next((tmp_path / "out").glob("part-*.parquet")))["text"][0].as_py().startswith("new ")
    )


def test_a_file_name_that_leads_elsewhere_is_refused(tmp_path, monkeypatch):
    listing = ("datasets/org/name", {"datasets/org/name/../../../../x": Remote("hf://x", 1)})
    monkeypatch.setattr("curate.io.hub.files", lambda path, patience: listing)
    with pytest.raises(DataError, match="names a file"):
        listed(f"hf://datasets/org/name@{OLD}/x", tmp_path)


def test_a_forecast_reads_pieces_of_parquet_and_downloads_nothing(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(excerpt, "REMOTE_PIECES", 2)
    folder = hub.folder / "datasets/org/name" / OLD / "big"
    folder.mkdir()
    draw = random.Random(3)
    for number in range(2):
        rows = [
            {"text": draw.randbytes(1000).hex(), "url": f"https://a.com/{number}/{i}"} for i in range(3000)
        ]
        pq.write_table(
            pa.Table.from_pylist(rows), folder / f"{number}.parquet", row_group_size=1500, compression="none"
        )
    size = sum(file.stat().st_size for file in folder.iterdir())
    tree = {
        "input": {"path": "hf://datasets/org/name/big/*.parquet"}, "stages": ["sample", {"select": "sample_hash < 0.5"}],
        "output": {"path": str(tmp_path / "out")},
    }  # fmt: skip
    recipe = from_tree(Tree(tree, "recipe"))
    hub.fail("nothing", "short")
    found = check(recipe, (), lambda kind, data: None, False, workers=1)
    said = found.forecast
    assert "read 2 pieces of 2 of 2 input files" in found.checked[0]
    assert said.download_bytes == size > 12e6
    assert 5950 < said.rows_in.likely < 6050  # rows are alike, so the range is no wider than its error
    assert said.steps[1].rows.low <= 3000 <= said.steps[1].rows.high
    ranges = [re.findall(r"\d+", one["range"]) for one in hub.asked(RESOLVE) if one["range"]]
    assert 0 < sum(int(last) + 1 - int(first) for first, last in ranges) < 0.4 * size
    with pytest.raises(GuardError, match=r"12\.\d MB are to be downloaded where --max-disk allows 5"):
        run(recipe, workers=1, limits=Limits(disk=5e6))
    with pytest.raises(GuardError, match="--max-hours"):
        run(recipe, workers=1, limits=Limits(hours=1e-9))
    assert not list((tmp_path / ".curate/downloads").rglob("*.parquet"))
