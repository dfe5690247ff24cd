"""Planning: what the scan of the input decides, and how a change of the input is noticed."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import curate.engine.run as engine
from curate.engine.freeze import freeze
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


def write_parquet(file: Path, rows: list[dict]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), file, row_group_size=1, compression="none")


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
