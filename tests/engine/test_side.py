"""`output: {columns: new}` and `input: {with: ...}`: new columns beside a corpus, joined on read."""

import hashlib
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import curate
from curate.engine import run as engine
from curate.engine.worker import run_unit
from curate.errors import ConfigError, DataError
from curate.io import side
from curate.recipe.recipe import from_tree
from curate.recipe.tree import Tree

CONSOLE = Path(sys.executable).with_name("curate")
ODD = '''
"""A stage that cannot do some rows."""

import msgspec
import pyarrow as pa

from curate.stage import stage


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


@stage("odd", version=1, config=Config, reads=["text"], writes={"odd": pa.int64()})
def odd(batch, config):
    return batch.append_column("odd", pa.array([int(t.split()[1]) // (int(t.split()[1]) % 101) for t in batch["text"].to_pylist()], pa.int64()))
'''


def words(numbers) -> list[str]:
    draw = np.random.default_rng(3)
    return [f"document {i} " + draw.bytes(200).hex() for i in numbers]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A corpus of 3 parts of 4 row groups, some 2 MB each, and `scores` beside it; every 101st row fails there."""
    place = tmp_path_factory.mktemp("side")
    (place / "odd.py").write_text(ODD)
    from curate.stages import use_file

    use_file(place / "odd.py")
    (place / "in").mkdir()
    for k in range(3):
        table = pa.table({"text": words(range(k * 4000, (k + 1) * 4000)), "year": [2000 + k] * 4000})
        pq.write_table(table, place / f"in/{k}.parquet", row_group_size=1000)
    curate.run(recipe({"path": str(place / "in")}, [], place / "corpus", unit_mb=2), workers=1)
    assert len(list((place / "corpus").glob("part-*"))) == 3
    result = scores(place, "scores")
    assert result.rows.quarantined == 119
    return place


def recipe(read: dict, stages: list, out: object, columns: str = "all", **keys) -> dict:
    output = {"path": str(out), "columns": columns}
    return {"input": read, "stages": stages, "output": output, "allow_quarantined": 1000, **keys}


def scores(place: Path, name: str, workers: int = 1, **keys):
    tree = recipe({"path": str(place / "corpus")}, ["token_count", "odd"], place / name, "new", **keys)
    return engine.run(from_tree(Tree(tree, "recipe")), workers=workers, stage_files=[str(place / "odd.py")])


def rows_of(out: object) -> list[dict]:
    return [row for batch in curate.read(out) for row in batch.to_pylist()]


def checksums(out: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(out.glob("part-*"))}


def test_the_files_hold_ids_and_new_columns_in_the_order_of_the_corpus(place):
    for part in (place / "scores").glob("part-*"):
        mine, theirs = pq.read_table(part), pq.read_table(place / "corpus" / part.name)
        assert mine.column_names == ["id", "token_count", "odd"]
        failed = [int(t.split()[1]) % 101 == 0 for t in theirs["text"].to_pylist()]
        assert mine["id"].to_pylist() == [
            i for i, bad in zip(theirs["id"].to_pylist(), failed, strict=True) if not bad
        ]
    size = sum(p.stat().st_size for p in (place / "scores").glob("part-*"))
    assert size < 0.2 * sum(p.stat().st_size for p in (place / "corpus").glob("part-*"))


def expected(place: Path) -> list[dict]:
    found = []
    for row in rows_of(place / "corpus"):
        i = int(row["text"].split()[1])
        found.append({**row, "odd": i // (i % 101) if i % 101 else None})
    return found


@pytest.mark.parametrize("unit_mb", [1, 256])
def test_run_reads_corpus_and_side_columns_as_one_table(place, tmp_path, unit_mb):
    """Units of 1 MB begin in the middle of files and of side parts."""
    read = {"path": str(place / "corpus"), "with": str(place / "scores")}
    curate.run(recipe(read, [], tmp_path / "out", unit_mb=unit_mb), workers=1)
    rows = rows_of(tmp_path / "out")
    assert [row.pop("token_count") is None for row in rows] == [row["odd"] is None for row in rows]
    assert rows == expected(place)


def test_side_columns_of_side_columns(place, tmp_path):
    read = {"path": str(place / "corpus"), "with": [str(place / "scores")]}
    curate.run(recipe(read, ["sample"], tmp_path / "more", "new"), workers=1)
    assert pq.read_schema(tmp_path / "more/part-00000.parquet").names == ["id", "sample_hash"]
    read["with"].append(str(tmp_path / "more"))
    curate.run(recipe(read, [{"select": "sample_hash < 0.5 and odd > 0"}], tmp_path / "out"), workers=1)
    assert 5000 < len(rows_of(tmp_path / "out")) < 7000


def test_sql_peek_and_plain_duckdb(place, curate):
    asked = curate(
        "sql",
        place / "corpus",
        "--with",
        place / "scores",
        "select count(*) n, count(odd) o, sum(odd)::BIGINT s from docs",
        "--json",
    )
    values = [row["odd"] for row in expected(place)]
    known = [value for value in values if value is not None]
    assert asked.json == {"n": 12_000, "o": len(known), "s": sum(known)}
    seen = curate(
        "peek", place / "corpus", "--with", place / "scores", "--where", "odd = 7", "--json", "-n", 3
    )
    assert seen.out.count('"odd":7') == 3
    connection = duckdb.connect()
    connection.execute((place / "scores/_curate/view.sql").read_text())
    found = connection.execute("select count(*), count(odd), sum(odd), max(year) from docs").fetchall()
    assert found == [(12_000, len(known), sum(known), 2002)]
    assert curate("verify", place / "scores").code == 0


def test_a_stream_and_check_hold_what_is_written(place, recipe, curate):
    file = recipe(
        ["token_count"], input={"path": str(place / "corpus")}, output={"path": "x", "columns": "new"}
    )
    stream = subprocess.run([CONSOLE, "run", file, "-o", "-", "-q"], capture_output=True, check=True).stdout
    table = pa.ipc.open_stream(stream).read_all()
    assert (table.column_names, table.num_rows) == (["id", "token_count"], 12_000)
    checked = curate("check", file, "-o", place / "never", "--json", "--plan-only")
    assert list(checked.json["columns_out"]) == ["id", "token_count"]


def test_the_manifest_names_the_corpus(place):
    corpus = json.loads((place / "scores/_curate/manifest.json").read_bytes())["corpus"]
    assert corpus["path"] == "../corpus"
    assert len(corpus["digest"]) == 20


def test_two_workers_and_any_batches_give_the_same_bytes(place, monkeypatch):
    scores(place, "two", workers=2)
    assert checksums(place / "two") == checksums(place / "scores")
    monkeypatch.setattr(engine.Pool, "run", lambda pool, jobs, done: [done(run_unit(job)) for job in jobs])
    tree = recipe({"path": str(place / "corpus")}, ["token_count", "odd"], place / "small", "new")
    engine.run(from_tree(Tree(tree, "recipe")), stage_files=[str(place / "odd.py")], batch_rows=13)
    assert checksums(place / "small") == checksums(place / "scores")


@pytest.mark.parametrize(
    "fault",
    ["claimed:2", *(pytest.param(f, marks=pytest.mark.slow) for f in ("flush:2", "rename:2", "manifest:1"))],
)
def test_a_killed_run_goes_on_to_the_same_bytes(place, tmp_path, fault, curate, recipe):
    output = {"path": str(tmp_path / "out"), "columns": "new"}
    file = recipe(
        ["token_count", "odd"], input={"path": str(place / "corpus")}, output=output, allow_quarantined=1000
    )
    command = ("run", file, "--workers", 1, "--stages", place / "odd.py")
    assert curate(*command, env={"CURATE_FAULT": fault}).code in (-signal.SIGKILL, 0, 3)
    assert curate(*command).code == 0
    assert checksums(tmp_path / "out") == checksums(place / "scores")


def test_a_folder_of_parquet_with_ids_of_its_own(tmp_path):
    (tmp_path / "in").mkdir()
    name = 'the "doc"'
    pq.write_table(pa.table({name: list(range(50)), "text": words(range(50))}), tmp_path / "in/a.parquet")
    read = {"path": str(tmp_path / "in"), "id": name}
    curate.run(recipe(read, ["token_count"], tmp_path / "scores", "new"), workers=1)
    connection = duckdb.connect()
    connection.execute((tmp_path / "scores/_curate/view.sql").read_text())
    found = connection.execute('select count(token_count), max("the ""doc""") from docs').fetchall()
    assert found == [(50, 49)]
    with_side = {**read, "with": str(tmp_path / "scores")}
    curate.run(recipe(with_side, [], tmp_path / "out"), workers=1)
    assert all(row["token_count"] for row in rows_of(tmp_path / "out"))
    del read["id"]
    with pytest.raises(ConfigError, match="joins by id"):
        curate.run(recipe(read, ["token_count"], tmp_path / "other", "new"), workers=1)


def test_side_columns_in_a_store(place, monkeypatch):
    monkeypatch.setattr(engine.Pool, "run", lambda pool, jobs, done: [done(run_unit(job)) for job in jobs])
    read = {"path": str(place / "corpus")}
    engine.run(from_tree(Tree(recipe(read, ["token_count"], "memory://side/scores", "new"), "recipe")))
    read["with"] = "memory://side/scores"
    engine.run(from_tree(Tree(recipe(read, [], "memory://side/out"), "recipe")))
    assert all(row["token_count"] for row in rows_of("memory://side/out"))


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([{"select": "length(text) > 3"}], "drops rows"),
        (["exact_dedup"], "drops rows"),
        (["clean_text"], "writes `text`"),
        ([], "no step writes a new column"),
    ],
)
def test_what_is_no_column_is_refused_at_plan(place, tmp_path, stages, message):
    with pytest.raises(ConfigError, match=message):
        curate.run(recipe({"path": str(place / "corpus")}, stages, tmp_path / "out", "new"), workers=1)


def test_jsonl_and_partitions_are_refused(place, tmp_path):
    (tmp_path / "in.jsonl").write_text('{"text": "a"}\n')
    with pytest.raises(ConfigError, match="is jsonl"):
        curate.run(
            recipe({"path": str(tmp_path / "in.jsonl")}, ["token_count"], tmp_path / "out", "new"), workers=1
        )
    tree = recipe({"path": str(place / "corpus")}, ["token_count"], tmp_path / "out", "new")
    tree["output"]["partition_by"] = ["year"]
    with pytest.raises(ConfigError, match="no `partition_by`"):
        curate.run(tree, workers=1)


@pytest.fixture
def copied(place, tmp_path) -> Path:
    """Corpus and scores elsewhere, with other times: still a pair."""
    for name in ("corpus", "scores"):
        shutil.copytree(place / name, tmp_path / name)
    for part in (tmp_path / "corpus").glob("part-*"):
        part.touch()
    return tmp_path


def change(part: Path, order) -> None:
    table = pq.read_table(part)
    pq.write_table(table.take(pa.array(order(table.num_rows))), part)


def test_a_copy_of_corpus_and_side_is_still_a_pair(copied, curate):
    asked = curate("sql", copied / "corpus", "--with", copied / "scores", "select count(odd) from docs")
    assert asked.code == 0


def test_the_view_goes_where_corpus_and_side_go_together(copied, monkeypatch):
    """Where they lay there is nothing any more: found from within the folder, or where the variable says."""
    (copied / "then").mkdir()
    read = {"path": str(copied / "corpus")}
    curate.run(recipe(read, ["token_count"], copied / "then/tokens", "new"), workers=1)
    moved = copied / "it's moved"
    moved.mkdir()
    (copied / "corpus").rename(moved / "corpus")
    (copied / "then").rename(moved / "then")
    view = (moved / "then/tokens/_curate/view.sql").read_text()
    asked = "select count(*), count(token_count) from docs"
    connection = duckdb.connect()
    with pytest.raises(duckdb.IOException, match="No files found"):
        connection.execute(view)
    monkeypatch.chdir(moved / "then/tokens")
    connection.execute(view)
    assert connection.execute(asked).fetchall() == [(12_000, 12_000)]
    monkeypatch.chdir(moved)
    connection.execute("SET VARIABLE curate_side = 'then/tokens'")
    assert connection.execute(asked).fetchall() == [(12_000, 12_000)]


def test_a_corpus_that_changed_is_an_error(copied, curate, recipe):
    change(copied / "corpus/part-00001.parquet", lambda n: range(n - 1))
    read = {"path": str(copied / "corpus"), "with": str(copied / "scores")}
    file = recipe([], input=read, output={"path": str(copied / "out")})
    for command in (
        ("sql", copied / "corpus", "--with", copied / "scores", "select 1"),
        ("peek", copied / "corpus", "--with", copied / "scores"),
        ("run", file, "--workers", 1),
    ):
        ran = curate(*command)
        assert ran.code == 2
        assert "`part-00001.parquet` is not what it was in" in ran.err


def test_a_part_that_is_not_of_this_corpus_is_an_error_naming_the_row(copied, tmp_path):
    """A side part with its rows reversed: its files say nothing, the ids do."""
    change(copied / "scores/part-00001.parquet", lambda n: range(n - 1, -1, -1))
    read = {"path": str(copied / "corpus"), "with": str(copied / "scores")}
    first = pq.read_table(copied / "corpus/part-00001.parquet")["id"].to_pylist()
    with pytest.raises(DataError, match="is not among the side columns") as caught:
        curate.run(recipe(read, [], tmp_path / "out"), workers=1)
    assert any(f"`{row_id}`" in caught.value.what for row_id in first)


def test_folders_that_are_no_side_columns(place, tmp_path):
    for folder, message in (
        (place / "corpus", "a dataset of its own"),
        (place / "in", "holds no side columns"),
    ):
        read = {"path": str(place / "corpus"), "with": str(folder)}
        with pytest.raises(ConfigError, match=message):
            curate.run(recipe(read, [], tmp_path / "out"), workers=1)
    twice = {"path": str(place / "corpus"), "with": [str(place / "scores"), str(place / "scores")]}
    with pytest.raises(ConfigError, match="`token_count` of the side columns"):
        curate.run(recipe(twice, [], tmp_path / "out"), workers=1)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_subsequences_meet_by_id(data):
    """The cursor against a dictionary: rows that fail on one side, batches of any size on both, any place to begin."""
    ids = [str(i) for i in range(data.draw(st.integers(1, 40)))]
    lost = set(data.draw(st.lists(st.sampled_from(ids))))  # quarantined when the side was made
    unread = set(data.draw(st.lists(st.sampled_from(ids))))  # not read now
    begin = data.draw(st.integers(0, len(ids) - 1))
    there = [i for i in ids if i not in lost]
    size, step = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    schema = pa.schema({"id": pa.string(), "x": pa.int64()})
    cursor = side.Rows.__new__(side.Rows)
    cursor._held, cursor._file = schema.empty_table(), "a.parquet"
    cursor._side = type("S", (), {"quarantined": frozenset(lost), "path": "scores"})()
    table = pa.table({"id": there, "x": [int(i) for i in there]}, schema=schema)
    cursor._more = iter(table.to_batches(max_chunksize=size))
    asked = [i for i in ids[begin:] if i not in unread]
    found = []
    for at in range(0, len(asked), step):
        found += cursor.match(pa.array(asked[at : at + step], pa.string()))["x"].to_pylist()
    assert found == [None if i in lost else int(i) for i in asked]
