"""`output.format: arrow`: uncompressed parts that are mapped, and a dataset like any other."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import curate
from curate.engine import run as engine
from curate.engine.parts import UnitFiles
from curate.engine.verify import verify
from curate.errors import ConfigError
from curate.io.files import Folder
from curate.recipe.recipe import Output, from_tree
from curate.recipe.tree import Tree
from curate.stages import use_file

NUMBERS = '''
"""Numbers of a row, as unsigned integers."""

import json

import msgspec
import pyarrow as pa

from curate.stage import stage


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    file: str


def states(config):
    return {"numbers": json.loads(open(config.file).read())}


@stage(
    "numbers", version=1, config=Config, reads=["text"],
    writes={"tokens": pa.large_list(pa.uint16()), "more": pa.large_list(pa.uint32())},
    states=states, files=lambda config: [config.file],
)
def numbers(batch, config):
    texts = batch["text"].to_pylist()
    found = [None if len(t) % 7 == 0 else list(t.encode()) for t in texts]
    out = batch.append_column("tokens", pa.array(found, pa.large_list(pa.uint16())))
    return out.append_column("more", pa.array([[len(t) << 20] for t in texts], pa.large_list(pa.uint32())))
'''


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[..., Any]:
    (tmp_path / "numbers.py").write_text(NUMBERS)
    (tmp_path / "fact.json").write_text('{"seven": 7}')
    use_file(tmp_path / "numbers.py")
    (tmp_path / "in").mkdir()
    draw = np.random.default_rng(0)
    for part in range(3):
        texts = ["x" * int(n) + "é" for n in draw.integers(0, 30, 400)]
        table = pa.table(
            {
                "text": texts,
                "source": [f"s{i % 5}" for i in range(400)],
                "flag": [i % 3 == 0 for i in range(400)],
            }
        )
        pq.write_table(table, tmp_path / f"in/{part}.parquet", row_group_size=100)

    def write(name: str = "out", **output: Any) -> Any:
        tree = {
            "input": {"path": str(tmp_path / "in")},
            "stages": [{"numbers": {"file": str(tmp_path / "fact.json")}}, {"select": "length(text) > 3"}],
            "output": {"path": str(tmp_path / name), "format": "arrow", **output},
        }
        return from_tree(Tree(tree, "test"))

    return write


def parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*.arrow"))


def test_a_complete_dataset_like_any_other(recipe: Callable[..., Any], tmp_path: Path) -> None:
    result = engine.run(recipe(), workers=1, stage_files=[str(tmp_path / "numbers.py")])
    out = tmp_path / "out"
    assert result.rows.in_ == 1200
    assert 0 < result.rows.kept < 1200
    assert verify(out).problems == []
    assert verify(out).rows == 1200  # kept and dropped
    mapped = [pa.ipc.open_file(pa.memory_map(str(path))) for path in parts(out)]
    table = pa.concat_tables(part.read_all() for part in mapped)
    assert table.num_rows == result.rows.kept
    for row in table.select(["text", "tokens", "more"]).to_pylist():
        assert row["tokens"] == (None if len(row["text"]) % 7 == 0 else list(row["text"].encode()))
        assert row["more"] == [len(row["text"]) << 20]
    allocated = pa.total_allocated_bytes()
    assert mapped[0].get_batch(0)["more"].values.to_numpy(zero_copy_only=True).dtype == np.uint32
    assert pa.total_allocated_bytes() == allocated  # nothing was decompressed
    assert sum(batch.num_rows for batch in curate.read(out)) == result.rows.kept
    # what its stage states stands in manifest and parts, and the file behind it with them
    manifest = msgspec.json.decode((out / "_curate/manifest.json").read_bytes())
    assert manifest["says"] == {"numbers": {"seven": 7}}
    assert json.loads(mapped[0].schema.metadata[b"curate.numbers"]) == {"seven": 7}
    assert (out / "_curate/numbers/fact.json").read_text() == '{"seven": 7}'
    assert "part-*.arrow" in (out / ".huggingface.yaml").read_text()
    assert engine.run(recipe(), workers=1, stage_files=[str(tmp_path / "numbers.py")]).fresh_units == 0


def test_only_the_named_columns(recipe: Callable[..., Any], tmp_path: Path) -> None:
    engine.run(recipe(columns=["tokens", "source"]), workers=1, stage_files=[str(tmp_path / "numbers.py")])
    assert pa.ipc.open_file(parts(tmp_path / "out")[0]).schema.names == ["id", "tokens", "source"]
    assert verify(tmp_path / "out").problems == []
    with pytest.raises(ConfigError, match="no column `sauce`"):
        engine.run(recipe("b", columns=["sauce"]), workers=1, stage_files=[str(tmp_path / "numbers.py")])
    engine.run(
        recipe("c", format="parquet", columns=["source"]),
        workers=1,
        stage_files=[str(tmp_path / "numbers.py")],
    )
    assert pq.read_schema(next((tmp_path / "c").glob("part-*"))).names == ["id", "source"]


def test_damage_is_found(recipe: Callable[..., Any], tmp_path: Path) -> None:
    engine.run(recipe(), workers=1, stage_files=[str(tmp_path / "numbers.py")])
    part = parts(tmp_path / "out")[0]
    whole = part.read_bytes()
    part.write_bytes(whole[: len(whole) // 2])
    assert any("sha256 differs" in p for p in verify(tmp_path / "out").problems)
    assert any("cannot be read" in p for p in verify(tmp_path / "out").problems)
    part.unlink()
    assert any("is gone" in p for p in verify(tmp_path / "out").problems)
    part.write_bytes(whole)
    (tmp_path / "out/part-99999.arrow").write_bytes(whole)
    assert any("no journal entry" in p for p in verify(tmp_path / "out").problems)


def test_peek_and_sql(recipe: Callable[..., Any], tmp_path: Path) -> None:
    from curate.cli.dataset import Dataset
    from curate.io.query import open_dataset, query

    result = engine.run(recipe(), workers=1, stage_files=[str(tmp_path / "numbers.py")])
    dataset = Dataset(str(tmp_path / "out"))
    ((_, kept),) = dataset.kept()
    rows = [
        row for part in kept for batch in dataset.batches(part, skip=["html"]) for row in batch.to_pylist()
    ]
    assert len(rows) == result.rows.kept
    assert dataset.schema(kept[0]).field("tokens").type == pa.large_list(pa.uint16())
    assert [row["text"] for _, row in dataset.find(rows[5]["id"], kept)] == [rows[5]["text"]]
    asked = query(
        open_dataset(tmp_path / "out"), "select source, sum(len(tokens)) n from docs group by all order by 1"
    )
    counted = {r["source"]: int(r["n"]) for r in asked.read_all().to_pylist()}
    assert counted == {s: sum(len(r["tokens"] or ()) for r in rows if r["source"] == s) for s in counted}
    assert len(counted) == 5


@pytest.mark.parametrize("cut", [1, 3, 8, 64, 1000])
def test_bytes_do_not_depend_on_batches(tmp_path: Path, cut: int) -> None:
    draw = np.random.default_rng(1)
    rows = 500
    null = draw.random(rows) < 0.3
    batch = pa.record_batch({
        "id": [f"r{i}" for i in range(rows)],
        "tokens": pa.array([None if null[i] else draw.integers(0, 9, i % 11).tolist() for i in range(rows)], pa.large_list(pa.uint16())),
        "flag": pa.array((draw.random(rows) < 0.5), mask=null),
        "score": pa.array(draw.random(rows), mask=null),
        "source": pa.array([None if null[i] else f"s{i % 5}" for i in range(rows)]),
    })  # fmt: skip

    def written(name: str, size: int, start: int) -> bytes:
        files = UnitFiles(Folder(tmp_path / name), 0, "00000", Output(format="arrow"))
        padded = pa.concat_batches([batch.slice(0, start), batch]).slice(
            start
        )  # garbage before and under nulls
        scores = pc.if_else(padded["score"].is_valid(), padded["score"], pa.scalar(None, pa.float64()))
        padded = padded.set_column(3, "score", scores)
        for at in range(0, rows, size):
            files.keep(padded.slice(at, size))
        (one,) = files.finish()
        return (tmp_path / name / one.tmp).read_bytes()

    assert written("a", rows, 0) == written("b", cut, cut % 7)


@pytest.mark.parametrize(
    ("moment", "code"),  # a worker that dies is replaced, and one that always does stops the run
    [("write:2", 3), ("flush:1", 3), ("claim:2", 0), ("claimed:1", 0), ("rename:2", 0), ("manifest:1", -9)],
)
@pytest.mark.slow
def test_killed_and_resumed_is_the_same(
    recipe: Callable[..., Any], tmp_path: Path, curate: Callable[..., Any], moment: str, code: int
) -> None:
    tree = {
        "input": {"path": str(tmp_path / "in")}, "unit_mb": 1,
        "stages": [{"numbers": {"file": str(tmp_path / "fact.json")}}, {"select": "length(text) > 3"}],
    }  # fmt: skip
    (tmp_path / "r.yaml").write_text(json.dumps(tree | {"output": {"format": "arrow"}}))
    arguments = ["run", tmp_path / "r.yaml", "--stages", tmp_path / "numbers.py", "--workers", 1]
    assert curate(*arguments, "-o", tmp_path / "whole").code == 0
    killed = curate(*arguments, "-o", tmp_path / "out", env={**os.environ, "CURATE_FAULT": moment})
    assert killed.code == code
    assert curate(*arguments, "-o", tmp_path / "out").code == 0
    assert [p.read_bytes() for p in parts(tmp_path / "out")] == [
        p.read_bytes() for p in parts(tmp_path / "whole")
    ]
    assert verify(tmp_path / "out").problems == []
