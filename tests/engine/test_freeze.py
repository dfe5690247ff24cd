"""Planning: what the scan of the input decides, and how a change of the input is noticed."""

import json
import os
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

import fsspec
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import curate.engine.fingerprints as fingerprints
import curate.engine.run as engine
from curate import stages
from curate.child import Child
from curate.engine import scan
from curate.engine.fingerprints import recipe_digest
from curate.engine.freeze import freeze, listing_changes, relocated
from curate.engine.unit import UnitReport
from curate.errors import ConfigError, DataError, RunError
from curate.io import inputs
from curate.io.files import Folder
from curate.recipe.recipe import from_tree
from curate.recipe.tree import Tree


def recipe(path: object, out: Path, stages=(), reading=(), **keys):
    reading = {"path": path if isinstance(path, list) else str(path), **dict(reading)}
    tree = {"input": reading, "stages": list(stages), "allow_quarantined": 1e9, **keys}
    return from_tree(Tree(tree, "recipe"), output=str(out))


def planned(made, **options):
    return freeze(made, [], lambda *_: None, **options)


def lines(*rows: dict) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def write_jsonl(file: Path, rows: list[dict]) -> None:
    file.write_bytes(lines(*rows))


def write_parquet(file: Path, rows: list[dict], group: int = 1) -> None:
    pq.write_table(pa.Table.from_pylist(rows), file, row_group_size=group, compression="none")


@pytest.mark.parametrize("write", [write_jsonl, write_parquet])
def test_which_row_of_an_id_is_kept_does_not_depend_on_the_units(tmp_path, write):
    """The first good row is, wherever the units are cut."""
    filling = [{"docid": f"filling-{n}", "text": f"{n}" + "f" * 700_000} for n in range(4)]
    bad, good = {"docid": "x", "text": None}, {"docid": "x", "text": "good"}
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / ("a" + write.__name__.replace("write_", ".")), [bad, *filling, good, good])
    found = []
    for unit_mb in (256, 1):
        made = recipe(tmp_path / "in", tmp_path / f"out-{unit_mb}", reading={"id": "docid"}, unit_mb=unit_mb)
        result = engine.run(made, workers=1)
        table = pq.read_table(sorted((tmp_path / f"out-{unit_mb}").glob("part-*")))
        found.append((result.quarantined, table["id"].to_pylist()))
    assert len(planned(made).units) > 2
    assert found[0] == found[1]
    assert found[0] == ({"null_text": 1, "duplicate_id": 1}, [*(row["docid"] for row in filling), "x"])


@pytest.fixture
def two_files(tmp_path) -> Path:
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        write_jsonl(tmp_path / f"in/{name}.jsonl", [{"text": f"{name}{n}"} for n in range(3)])
    return tmp_path / "in"


def edit(file: Path) -> None:
    """Another content of the same size, written an hour later."""
    file.write_bytes(file.read_bytes().replace(b"1", b"7"))
    os.utime(file, (file.stat().st_atime, file.stat().st_mtime + 3600))


def test_a_file_edited_between_planning_and_reading_stops_the_run(two_files, tmp_path, monkeypatch):
    """Its rows would lie in the work store under the old content's name."""
    plan_then_edit = lambda *given, **keys: (freeze(*given, **keys), edit(two_files / "b.jsonl"))[0]  # noqa: E731
    made = recipe(two_files, tmp_path / "out", [{"clean_text": {}}, "checkpoint"])
    monkeypatch.setattr(engine, "freeze", plan_then_edit)
    with pytest.raises(DataError, match=r"b\.jsonl` is not what it was"):
        engine.run(made, workers=1)
    with pytest.raises(DataError, match=r"changed file b\.jsonl"):
        engine.run(made, workers=1)


def test_a_file_of_the_same_size_is_compared_by_content_where_its_stamp_is_another(two_files, tmp_path):
    made = recipe(two_files, tmp_path / "out")
    plan = planned(made)
    os.utime(two_files / "a.jsonl", (1, 1))
    assert listing_changes(plan, made) == []
    plan.check_unchanged(plan.units[0])
    edit(two_files / "a.jsonl")
    assert listing_changes(plan, made) == ["changed file a.jsonl"]
    with pytest.raises(DataError, match=r"a\.jsonl"):
        plan.check_unchanged(plan.units[0])


def test_a_file_of_a_store_is_noticed_as_well(tmp_path):
    store = fsspec.filesystem("memory")
    store.pipe_file("/stamps/a.jsonl", lines({"text": "one"}))
    made = recipe("memory://stamps", tmp_path / "out")
    plan = planned(made)
    plan.check_unchanged(plan.units[0])
    store.pipe_file("/stamps/a.jsonl", lines({"text": "two"}))
    assert listing_changes(plan, made) == ["changed file a.jsonl"]
    with pytest.raises(DataError, match=r"a\.jsonl"):
        plan.check_unchanged(plan.units[0])


def test_an_input_that_moved_is_read_where_it_is(two_files, tmp_path):
    plan = planned(recipe(two_files, tmp_path / "out"))
    made = recipe(shutil.move(two_files, tmp_path / "moved"), tmp_path / "out")
    assert listing_changes(plan, made) == []
    moved = relocated(plan, made)
    assert moved == msgspec.structs.replace(plan, root=str(tmp_path / "moved"))


@pytest.mark.parametrize(
    ("path", "output"),
    [
        ("in", "in/out"), ("in", "in/a/b"), ("in/", "link/out"), ("link", "in/out"), ("in/**", "in/x/out"),
        ("i*", "in/out"), ("in/*", "in/out"), (".", "out"), (["other", "in"], "in/out"),
    ],
)  # fmt: skip
def test_an_output_that_the_input_would_take_in_is_refused(two_files, tmp_path, monkeypatch, path, output):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("in")
    shutil.copytree("in", "other")
    with pytest.raises(ConfigError, match="inside the input folder"):
        engine.run(recipe(path, Path(output)), workers=1)


@pytest.mark.parametrize(
    ("path", "output"),
    [
        ("in/*.jsonl", "in/out"),
        ("in/a.jsonl", "in/a"),
        ("in", "in/_out"),
        ("in", "in-out"),
        ("in/*/x.jsonl", "in/out"),
    ],
)
def test_an_output_beside_the_files_of_the_input_is_fine(two_files, tmp_path, monkeypatch, path, output):
    monkeypatch.chdir(tmp_path)
    (two_files / "sub").mkdir()
    write_jsonl(two_files / "sub/x.jsonl", [{"text": "x"}])
    engine.run(recipe(path, Path(output)), workers=1)
    assert listing_changes(planned(recipe(path, tmp_path / "elsewhere")), recipe(path, Path(output))) == []


def test_an_output_inside_an_input_of_a_store_is_refused():
    store = fsspec.filesystem("memory")
    store.pipe_file("/inside/in/a.jsonl", lines({"text": "one"}))
    with pytest.raises(ConfigError, match="inside the input folder"):
        planned(recipe("memory://inside/in", "memory://inside/in/out"))
    planned(recipe("memory://inside/in", "memory://inside/in-out"))
    planned(recipe("memory://inside/in/*.jsonl", "memory://inside/in/out"))


def test_an_unfinished_output_in_the_input_is_named(two_files, tmp_path):
    """Not told as files that are missing."""
    plan = planned(recipe(two_files, tmp_path / "out"))
    (two_files / "_curate").mkdir()
    with pytest.raises(DataError, match="not complete"):
        listing_changes(plan, recipe(two_files, tmp_path / "out"))


def test_a_recipe_is_the_same_however_its_path_and_defaults_are_spelled(two_files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = planned(recipe("in", tmp_path / "out"))
    for made in (
        recipe(two_files, tmp_path / "out"), recipe("./in/*", tmp_path / "out"),
        recipe(shutil.copytree("in", "copy"), tmp_path / "out"), recipe("in", tmp_path / "out", output={"dropped": "full"}),
    ):  # fmt: skip
        assert recipe_digest(made, sum(f.size for f in plan.files)) == plan.digest == planned(made).digest
    keys = recipe("in", tmp_path / "out", output={"dropped": "keys"})
    assert recipe_digest(keys) != plan.digest
    assert recipe_digest(recipe("in", tmp_path / "out"), 11 << 30) == recipe_digest(keys)
    assert recipe_digest(recipe("in", tmp_path / "out", reading={"columns": {"lang": "l"}})) != plan.digest


@pytest.mark.parametrize(
    ("library", "input_format", "output", "renamed"),
    [
        ("numba", "parquet", {}, [True, True]), ("numpy", "jsonl", {}, [True, True]),
        ("msgspec", "jsonl", {}, [True, True]), ("msgspec", "parquet", {}, [False, False]),
        ("zstandard", "parquet", {"format": "jsonl.zst"}, [False, True]),
        ("fastwarc", "warc", {}, [True, True]), ("resiliparse", "warc", {}, [True, True]),
        ("fastwarc", "jsonl", {}, [False, False]),
    ],
)  # fmt: skip
def test_a_pass_is_named_by_the_libraries_that_decide_its_bytes(
    tmp_path, monkeypatch, library, input_format, output, renamed
):
    file = tmp_path / f"in.{input_format}"
    if input_format == "warc":
        file.write_bytes(b"WARC/1.0\r\nWARC-Type: warcinfo\r\nContent-Length: 0\r\n\r\n\r\n\r\n")
    else:
        {"jsonl": write_jsonl, "parquet": write_parquet}[input_format](file, [{"text": "a"}])
    made = recipe(file, tmp_path / "out", [{"clean_text": {}}, "checkpoint", {"sample": {}}], output=output)
    before = [one.fingerprint for one in planned(made).passes]
    monkeypatch.setattr(fingerprints, "version", lambda name: "99" if name == library else version(name))
    after = [one.fingerprint for one in planned(made).passes]
    assert [a != b for a, b in zip(after, before, strict=True)] == renamed


def test_the_code_of_a_stage_of_another_package_is_part_of_its_name(two_files, tmp_path, monkeypatch):
    site = tmp_path / "site"
    (site / "far-1.0.dist-info").mkdir(parents=True)
    (site / "far-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: far\nVersion: 1.0\n")
    (site / "far-1.0.dist-info/entry_points.txt").write_text("[curate.stages]\nfar = far_stage:far\n")
    code = (
        "import msgspec\nfrom curate.stage import stage\n"
        "class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):\n    pass\n"
        "@stage('far', version=1, config=Config, reads=['text'], writes={})\ndef far(batch, config):\n    return batch\n"
    )
    (site / "far_stage.py").write_text(code)
    monkeypatch.syspath_prepend(site)
    stages._entry_points.cache_clear()
    try:
        made = recipe(two_files, tmp_path / "out", [{"far": {}}])
        prints = [planned(made).passes[0].fingerprint]
        (site / "far_stage.py").write_text(f"{code}# another\n")
        prints.append(planned(made).passes[0].fingerprint)
        (site / "far_stage.py").write_text(code)
        prints.append(planned(made).passes[0].fingerprint)
    finally:
        stages._entry_points.cache_clear()
    assert prints[0] == prints[2] != prints[1]


@pytest.fixture
def repeated(tmp_path) -> Path:
    """Six files of two formats that share ids; some rows cannot be read."""
    (tmp_path / "in").mkdir()
    for number in range(6):
        rows = [
            {
                "docid": f"id-{n * (number + 1) % 5000}",
                "text": None if n % 7 == number else f"{n} {number}" * 50,
            }
            for n in range(3000)
        ]
        if number % 2:
            write_jsonl(tmp_path / f"in/{number}.jsonl", rows)
        else:
            write_parquet(tmp_path / f"in/{number}.parquet", rows, 500)
    return tmp_path / "in"


def duplicates(out: Path) -> list[tuple[int, str, bool]]:
    table = pq.read_table(out / "_curate/duplicate_ids.parquet")
    return list(zip(*(table[name].to_pylist() for name in ("unit", "id", "keep_first")), strict=True))


def test_repeated_ids_lie_by_unit(repeated, tmp_path, monkeypatch):
    """Against looking at every row; a unit finds its own in few row groups."""
    monkeypatch.setattr("curate.engine.shuffle.ROW_GROUP_BYTES", 8 << 10)
    made = recipe(repeated, tmp_path / "out", reading={"id": "docid"}, unit_mb=1)
    plan = planned(made, out=Folder(tmp_path / "out"))
    assert plan.duplicate_ids
    units: dict[str, list[int]] = {}
    for number, unit in enumerate(plan.units):
        schema = plan.input_schema()
        for batch in inputs.read(plan.root, unit, made.input, schema, UnitReport()):
            for row_id in batch["id"].to_pylist():
                units.setdefault(row_id, []).append(number)
    expected = {
        (unit, row_id, unit == held[0])
        for row_id, held in units.items()
        if len(held) > 1
        for unit in set(held)
    }
    found = duplicates(tmp_path / "out")
    assert len(plan.units) > 1
    assert len(found) == len(expected) > 3000
    assert set(found) == expected
    assert [unit for unit, _, _ in found] == sorted(unit for unit, _, _ in found)
    assert pq.read_metadata(tmp_path / "out/_curate/duplicate_ids.parquet").num_row_groups > 3


def test_ids_are_sorted_beside_the_plan(repeated, tmp_path, monkeypatch):
    """Where the next run finds what a kill leaves; nothing lies in the system's temporary folder."""
    (tmp_path / "system").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "system"))
    seen = []

    def look(kind, data):
        if kind == "scan":
            seen.append(
                (tmp_path / "out/_curate/tmp/ids").is_dir() and not any((tmp_path / "system").iterdir())
            )

    engine.run(recipe(repeated, tmp_path / "out", reading={"id": "docid"}), workers=1, listen=look)
    assert seen == [True] * 6
    assert not (tmp_path / "out/_curate/tmp").exists()


def test_scanning_in_children_gives_the_same_plan(repeated, tmp_path, monkeypatch):
    monkeypatch.setattr(scan, "PARALLEL_BYTES", 0)
    started = []
    monkeypatch.setattr(scan, "Child", lambda target: started.append(target) or Child(target))
    found = []
    for workers in (1, 3):
        out = tmp_path / f"out-{workers}"
        made = recipe(repeated, out, reading={"id": "docid"}, unit_mb=1, store=str(tmp_path / "store"))
        plan = planned(made, out=Folder(out), workers=workers)
        found.append(
            (msgspec.structs.replace(plan, recipe=None), (out / "_curate/duplicate_ids.parquet").read_bytes())
        )
    assert found[0] == found[1]
    assert len(started) == 3


def test_an_error_in_a_child_is_the_runs(two_files, tmp_path, monkeypatch):
    monkeypatch.setattr(scan, "PARALLEL_BYTES", 0)
    removed = lambda kind, data: (two_files / "a.jsonl").unlink() if kind == "plan" else None  # noqa: E731
    with pytest.raises(DataError, match=r"cannot read `.*a\.jsonl`"):
        freeze(recipe(two_files, tmp_path / "out"), [], removed, workers=2)


@pytest.mark.parametrize("deaths", [2, 100])
def test_a_killed_child_is_replaced_and_not_for_ever(two_files, tmp_path, monkeypatch, deaths):
    monkeypatch.setattr(scan, "PARALLEL_BYTES", 0)
    started = []

    class Mortal(Child):
        def __init__(self, target):
            super().__init__(target)
            started.append(self)
            if len(started) <= deaths:
                self.process.kill()

    monkeypatch.setattr(scan, "Child", Mortal)
    made = recipe(two_files, tmp_path / "out")
    if deaths == 2:
        assert planned(made, workers=2) == planned(made)
    else:
        with pytest.raises(RunError, match="was killed 3 times"):
            planned(made, workers=2)
    assert not any(child.alive() for child in started)
