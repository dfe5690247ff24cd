"""What `output.dropped` keeps of dropped rows, and what every command says of them in each mode."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROWS = 60
LOW = [f"low-{i:02d}" for i in range(0, ROWS, 3)]  # the source's own ids of rows whose score is too low


@pytest.fixture(scope="module", params=["full", "keys", {"sample": 0.5}], ids=["full", "keys", "sample"])
def made(request: Any, process: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """Mode and output of a run: of 60 rows every third is too low, and rows 1 and 2 are one text."""
    folder = tmp_path_factory.mktemp("modes")
    names = [f"{'low' if i % 3 == 0 else 'doc'}-{i:02d}" for i in range(ROWS)]
    pq.write_table(
        pa.table({
            "id": names, "html": pa.array([b"<p>raw</p>"] * ROWS, pa.binary()),
            "text": ["text of one" if i in (1, 2) else f"text of {i}" for i in range(ROWS)],
            "score": [0.1 if i % 3 == 0 else 0.9 for i in range(ROWS)],
        }),
        folder / "rows.parquet",
    )  # fmt: skip
    tree = {
        "input": {"path": str(folder / "rows.parquet")}, "stages": [{"select": "score > 0.5"}, "exact_dedup"],
        "output": {"path": str(folder / "out"), "dropped": request.param},
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(json.dumps(tree))
    done = process("run", folder / "recipe.yaml", "--workers", 1, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"]["dropped"] == {
        "input": {"score > 0.5": 20}, "exact_dedup": {"duplicate": 1},
    }  # fmt: skip
    return request.param, folder / "out"


def dropped(out: Path) -> list[dict[str, Any]]:
    return [
        row for file in sorted(out.glob("_dropped/*/*.parquet")) for row in pq.read_table(file).to_pylist()
    ]


def test_what_is_kept_of_dropped_rows(made: tuple[Any, Path]) -> None:
    mode, out = made
    rows = dropped(out)
    assert all(row["drop_stage"] and row["drop_reason"] and row["id"] and row["source_id"] for row in rows)
    assert not any("html" in row for row in rows)
    if mode == {"sample": 0.5}:
        assert 3 <= len(rows) <= 18  # of 21, each with one half
    else:
        assert len(rows) == 21
    assert all(("text" in row) == (mode != "keys") for row in rows)


def test_verify_holds_and_still_finds_what_was_changed(made: tuple[Any, Path], curate: Any) -> None:
    _mode, out = made
    assert curate("verify", out).returncode == 0
    part = next(out.glob("_dropped/00_select/*.parquet"))
    whole = part.read_bytes()
    table = pq.read_table(part)
    pq.write_table(table.slice(1), part)
    try:
        assert curate("verify", out).returncode == 1
    finally:
        part.write_bytes(whole)


def test_status_and_sql_count(made: tuple[Any, Path], curate: Any) -> None:
    _mode, out = made
    said = json.loads(curate("status", out, "--json").stdout)
    assert said["rows"]["dropped"] == {"input": {"score > 0.5": 20}, "exact_dedup": {"duplicate": 1}}
    counted = curate("sql", out, "select count(*) as n from dropped", "--json")
    assert json.loads(counted.stdout)["n"] == len(dropped(out))


def test_peek_shows_what_there_is_and_says_what_is_not(made: tuple[Any, Path], curate: Any) -> None:
    mode, out = made
    done = curate("peek", out, "--dropped", "select", "-n", 100)
    assert done.returncode == 0, done.stderr
    assert ("text of " in done.stdout) == (mode != "keys")
    note = {"full": "", "keys": "only the keys of dropped rows were kept"}
    assert note.get(str(mode), "only a sample of the dropped rows was kept") in done.stderr
    assert ("note:" in done.stderr) == (mode != "full")
    shown = sum(f"] {row['id']}" in done.stdout for row in dropped(out))
    assert shown == len([row for row in dropped(out) if row["drop_stage"] == "input"])


def test_why_finds_a_dropped_row_by_its_id_and_by_the_sources(made: tuple[Any, Path], curate: Any) -> None:
    mode, out = made
    here = {row["source_id"]: row["id"] for row in dropped(out)}
    for name in LOW:
        found = curate("why", out, name, "--json")
        if name in here:
            says = json.loads(found.stdout)
            assert (says["found_by"], says["status"]) == ("source_id", "dropped")
            assert says["findings"][0]["row"]["id"] == here[name]
            by_id = json.loads(curate("why", out, here[name], "--json").stdout)
            assert (by_id["found_by"], by_id["findings"]) == ("id", says["findings"])
        else:
            assert mode == {"sample": 0.5}
            assert found.returncode == 1
            assert "only a sample of the dropped rows was kept" in found.stderr


def test_why_by_source_id_says_which_id_it_is(made: tuple[Any, Path], curate: Any) -> None:
    _, out = made
    done = curate("why", out, "doc-01")
    own = pq.read_table(out / "part-00000.parquet", columns=["id", "source_id"]).to_pylist()
    (row_id,) = [row["id"] for row in own if row["source_id"] == "doc-01"]
    assert f"no row has the id `doc-01`; it is the source_id of `{row_id}`" in done.stderr
    lines = dict(line.split(None, 1) for line in done.stdout.splitlines() if line)
    assert (lines["id"], lines["state"], lines["source_id"]) == (row_id, "kept", "doc-01")
    assert curate("why", out, "doc-99").returncode == 1
