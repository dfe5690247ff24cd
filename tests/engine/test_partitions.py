"""`output.partition_by`: parts under lang=en/bucket=3/, that open everywhere and come back as they were."""

import datetime
import hashlib
import signal
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import curate
from curate.engine import limits, unit
from curate.errors import ConfigError
from curate.io import hive
from curate.io.files import Folder

TREE = {"stages": ["token_count"], "unit_mb": 1}


def write_input(folder: Path, rows: int = 2000) -> None:
    """Three files of a row group each, langs and days in turn, some null; 1.2 MB in all: 3 units."""
    folder.mkdir()
    for number in range(3):
        which = range(number * rows, (number + 1) * rows)
        table = pa.table(
            {
                "text": [f"document {i} " + "word " * (i % 80 + 20) for i in which],
                "lang": [["en", "de", None, "zh"][i % 4] for i in which],
                "day": pa.array([[datetime.date(2024, 1, 2), None][i % 2] for i in which], pa.date32()),
            }
        )
        pq.write_table(table, folder / f"{number}.parquet")


def recipe(place: Path, out: str, **output):
    return {**TREE, "input": {"path": str(place / "in")}, "output": {"path": str(place / out), **output}}


def checksums(out: Path) -> dict[str, str]:
    parts = [p for p in sorted(out.rglob("part-*")) if "_curate" not in p.parts]
    return {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in parts}


def rows_of(out: object) -> list[dict]:
    rows = [row for batch in curate.read(out) for row in batch.to_pylist()]
    return sorted(rows, key=lambda row: row["id"])


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("partitions")
    write_input(place / "in")
    curate.run(recipe(place, "plain"), workers=1)
    assert curate.run(recipe(place, "out", partition_by=["lang", "day"]), workers=1).rows.kept == 6000
    return place


def test_folders_and_rows_by_hand(made):
    names = sorted(
        {str(p.parent.relative_to(made / "out")) for p in (made / "out").glob(f"{hive.GLOB}.parquet")}
    )
    null = "__HIVE_DEFAULT_PARTITION__"  # i % 4 and i % 2 together take four values
    assert names == [
        f"lang={null}/day=2024-01-02",
        f"lang=de/day={null}",
        "lang=en/day=2024-01-02",
        f"lang=zh/day={null}",
    ]
    first = pq.ParquetFile(made / "out/lang=de/day=__HIVE_DEFAULT_PARTITION__/part-00000.parquet")
    assert "lang" not in first.schema_arrow.names
    texts = first.read(columns=["text"])["text"].to_pylist()
    assert [int(t.split()[1]) for t in texts] == list(range(1, 2000, 4))  # in the order of the input
    assert rows_of(made / "out") == rows_of(made / "plain")


def test_it_opens_in_the_tools_people_have(made, tmp_path, monkeypatch):
    folder = f"{made}/out"
    counts = "select lang, day, count(*) from {} group by all order by all"
    expected = duckdb.sql(counts.format(f"'{made}/plain/*.parquet'")).fetchall()
    assert duckdb.sql(counts.format(f"'{folder}/lang=*/*/*.parquet'")).fetchall() == expected
    assert ds.dataset(folder, partitioning="hive").to_table()["lang"].value_counts().to_pylist() != []
    assert pq.read_table(folder).num_rows == 6000
    assert set(pq.read_table(folder, filters=[("lang", "=", "de")])["lang"].to_pylist()) == {"de"}
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    loaded = datasets.load_dataset(folder, cache_dir=str(tmp_path))["train"]
    assert loaded.num_rows == 6000
    assert "lang" not in loaded.column_names  # it never looks at the names of folders


def test_pandas_where_no_value_is_null(made):
    made_tree = recipe(made, "full", partition_by=["lang"])
    made_tree["stages"] = [{"select": "lang is not null"}]
    curate.run(made_tree, workers=1)
    assert pd.read_parquet(made / "full").groupby("lang", observed=True).size().to_dict() == {
        "de": 1500,
        "en": 1500,
        "zh": 1500,
    }


def test_two_workers_and_any_batches_give_the_same_bytes(made, monkeypatch):
    from curate.engine import run
    from curate.recipe.recipe import from_tree
    from curate.recipe.tree import Tree

    expected = checksums(made / "out")
    curate.run(recipe(made, "two", partition_by=["lang", "day"]), workers=2)
    assert checksums(made / "two") == expected
    memory = limits.PhaseMemory(50_000, 0)  # 10 and more pieces on disk for each unit
    monkeypatch.setattr(unit, "phase_memory", lambda cap_mb: memory)
    monkeypatch.setattr(run.Pool, "run", _here)
    again = from_tree(Tree(recipe(made, "small", partition_by=["lang", "day"]), "recipe"))
    run.run(again, workers=1, batch_rows=100)
    assert checksums(made / "small") == expected


def _here(pool, jobs, on_done):
    from curate.engine.worker import run_unit

    for job in jobs:
        on_done(run_unit(job))


@pytest.mark.parametrize(
    "fault",
    [
        "rename:3",
        *(
            pytest.param(f, marks=pytest.mark.slow)
            for f in ("write:5", "flush:6", "claim:2", "claimed:1", "manifest:1")
        ),
    ],
)
def test_a_killed_run_goes_on_to_the_same_bytes(made, tmp_path, fault, curate, recipe):
    write = {"path": str(made / "in")}
    output = {"path": str(tmp_path / "out"), "partition_by": ["lang", "day"]}
    file = recipe(["token_count"], input=write, unit_mb=1, output=output)
    assert curate("run", file, "--workers", 1, env={"CURATE_FAULT": fault}).code in (-signal.SIGKILL, 0)
    done = curate("run", file, "--workers", 1)
    assert done.code == 0, done.err
    assert checksums(tmp_path / "out") == checksums(made / "out")
    assert curate("verify", tmp_path / "out").code == 0
    assert not list((tmp_path / "out/_curate").glob("tmp/*"))


def test_the_commands_show_partitions_as_columns(made, curate):
    out = made / "out"
    assert curate("verify", out).code == 0
    asked = curate("sql", out, "select lang, count(*) n from docs group by all order by all", "--json")
    assert '{"lang":"de","n":1500}' in asked.out
    assert '{"lang":null,"n":1500}' in asked.out
    shown = curate("peek", out, "--where", "lang = 'zh'", "--json", "-n", 2)
    assert [line.count('"lang":"zh"') for line in shown.out.splitlines()] == [1, 1]
    row = next(r for r in rows_of(out) if r["lang"] == "de")
    assert curate("why", out, row["id"], "--json").json["findings"][0]["row"]["lang"] == "de"
    assert curate("status", out, "--json").json["rows"]["kept"] == 6000


def test_it_is_input_again_with_ids_types_and_nulls(made):
    tree = recipe(made, "again")
    tree["input"] = {"path": str(made / "out")}
    tree["stages"] = [{"stage": "token_count", "name": "again"}]
    curate.run(tree, workers=1)
    rows = rows_of(made / "again")
    for row in rows:
        row.pop("again_token_count")
    assert rows == rows_of(made / "out")


def test_fresh_leaves_no_folder_of_another_partition(made):
    curate.run(recipe(made, "fresh", partition_by=["lang"]), workers=1)
    curate.run(recipe(made, "fresh", partition_by=["day"]), workers=1, fresh=True)
    assert [p.name for p in (made / "fresh").glob("lang=*")] == []
    assert rows_of(made / "fresh") == rows_of(made / "plain")


def test_a_partitioned_output_in_a_store(made):
    import fsspec

    tree = recipe(made, "out", partition_by=["lang", "day"])
    tree["output"]["path"] = "memory://parts/out"
    from curate.engine import run
    from curate.recipe.recipe import from_tree
    from curate.recipe.tree import Tree

    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(run.Pool, "run", _here)
    try:
        run.run(from_tree(Tree(tree, "recipe")), workers=1)
    finally:
        monkeypatch.undo()
    names = hive.parts(Folder("memory://parts/out"))
    assert names == hive.parts(Folder(str(made / "out")))
    assert all(
        fsspec.filesystem("memory").cat(f"/parts/out/{n}") == (made / "out" / n).read_bytes() for n in names
    )
    assert rows_of("memory://parts/out") == rows_of(made / "plain")


def test_json_lines_keep_the_column(made):
    curate.run(recipe(made, "lines", partition_by=["lang"], format="jsonl.zst"), workers=1)
    assert len(list((made / "lines").glob("lang=de/part-*.jsonl.zst"))) == 3
    assert duckdb.sql(f"select distinct lang from read_json('{made}/lines/lang=de/*')").fetchall() == [
        ("de",)
    ]


@pytest.mark.parametrize(
    ("by", "message"),
    [
        ("language", "there is no column `language`"),
        ("text", "differs from row to row"),
        ("score", "is double"),
    ],
)
def test_what_cannot_part_is_refused_at_plan(tmp_path, by, message):
    pq.write_table(pa.table({"text": ["a"], "lang": ["en"], "score": [0.5]}), tmp_path / "in")
    tree = recipe(tmp_path, "out", partition_by=["lang", by])
    tree["input"]["format"] = "parquet"
    with pytest.raises(ConfigError, match=message) as caught:
        curate.run(tree, workers=1)
    assert "lang" in caught.value.hint


def test_too_many_values_name_the_column_and_the_count(tmp_path):
    table = pa.table({"text": ["a"] * 1500, "lang": ["en"] * 1500, "n": list(range(1500))})
    pq.write_table(table, tmp_path / "in")
    tree = recipe(tmp_path, "out", partition_by=["lang", "n"])
    tree["input"]["format"] = "parquet"
    with pytest.raises(ConfigError, match=r"1,500 values of `n`"):
        curate.run(tree, workers=1)


@settings(max_examples=60, deadline=None)
@given(
    words=st.lists(st.none() | st.text(st.characters(codec="utf-8"), max_size=12), min_size=1, max_size=6),
    number=st.none() | st.integers(-(2**31), 2**31 - 1),
    flag=st.none() | st.booleans(),
)
def test_any_value_comes_back(tmp_path_factory, words, number, flag):
    """By the footer exactly; by the folder's name as pyarrow reads it, given the types."""
    place = tmp_path_factory.mktemp("value")
    kinds = {"w": pa.large_string(), "n": pa.int32(), "b": pa.bool_()}
    for word in {*words}:
        values = {"w": word, "n": number, "b": flag}
        folder = place / hive.folder_of(values)
        folder.mkdir(parents=True)
        plain = pa.table({"id": ["1"]}).replace_schema_metadata(hive.metadata_of(values, kinds))
        pq.write_table(plain, folder / "part-0.parquet")
        shared = hive.constants(pq.read_schema(folder / "part-0.parquet"))
        assert {name: value.as_py() for name, value in shared.items()} == values
        assert {name: value.type for name, value in shared.items()} == kinds
    parts = [str(p) for p in place.glob("*=*/**/part-*.parquet")]
    read = ds.dataset(parts, partitioning=ds.partitioning(pa.schema(kinds), flavor="hive")).to_table()
    assert sorted(map(str, read["w"].to_pylist())) == sorted(map(str, {*words}))
