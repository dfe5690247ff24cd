"""Promises that a review once found broken; each test fails without its mend."""

import json
import shutil
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import curate as package
from curate.engine.lock import LOCK, InUse, Lock, me, passes_in_use
from curate.engine.run import run
from curate.engine.verify import verify
from curate.errors import GuardError
from curate.io.files import Folder
from curate.recipe.recipe import from_tree
from curate.recipe.tree import Tree


def recipe_of(folder: Path, out: str, stages, **keys):
    root = {
        "input": {"path": str(folder / "in")},
        "stages": stages,
        "output": {"path": str(folder / out)},
        **keys,
    }
    return from_tree(Tree(root, "recipe"))


@pytest.fixture
def texts(tmp_path):
    """2,000 rows in two files; every fifth text is short."""
    (tmp_path / "in").mkdir()
    for part in (0, 1):
        rows = [f"{'short' if i % 5 == 0 else 'long enough'} {part} {i}" for i in range(1000)]
        pq.write_table(
            pa.table({"text": rows, "source": ["a" if i % 2 else "b" for i in range(1000)]}),
            tmp_path / f"in/{part}.parquet",
        )
    return tmp_path


def kept(folder) -> list[str]:
    return [t for batch in package.read(folder) for t in batch.column("text").to_pylist()]


def test_repeated_ids_do_not_shift_what_dedup_drops(tmp_path):
    """Dedup that reads Parquet directly numbers rows alike when it hashes and when it drops."""
    (tmp_path / "in").mkdir()
    table = pa.table({"docid": list("aabcdef"), "text": ["one", "two", "X", "Y", "X", "W", "V"]})
    pq.write_table(table, tmp_path / "in/a.parquet")
    recipe = recipe_of(tmp_path, "out", [{"exact_dedup": {}}], allow_quarantined=1)
    recipe = msgspec.structs.replace(recipe, input=msgspec.structs.replace(recipe.input, id="docid"))
    assert run(recipe, workers=1).rows.quarantined == 1
    assert kept(tmp_path / "out") == ["one", "X", "Y", "W", "V"]
    dropped = pq.read_table(next((tmp_path / "out/_dropped").rglob("*.parquet"))).to_pylist()
    assert [(r["id"], r["text"], r["kept_id"]) for r in dropped] == [("d", "X", "b")]


def test_a_part_gone_from_the_work_store_is_made_anew(texts):
    stages = [{"select": "length(text) > 0"}, {"checkpoint": {}}]
    first = recipe_of(texts, "one", [*stages, {"sample": {}}], unit_mb=1, guards={"unchanged": "warn"})
    whole = run(first, workers=1)
    shutil.rmtree(texts / "one")
    part = next((texts / ".curate/passes").glob("*/part-*.parquet"))
    part.unlink()
    told = []
    again = run(first, workers=1, listen=lambda kind, data: told.append(data) if kind == "warning" else None)
    assert again.rows.kept == whole.rows.kept == 2000
    assert "gone from the work store" in told[0]["message"]
    assert verify(texts / "one").problems == []


def test_runs_that_keep_other_dropped_rows_share_no_pass(texts):
    stages = [{"select": "text like 'long%'"}, {"checkpoint": {}}, {"sample": {}}]
    for name, dropped in (("few", {"sample": 0.05}), ("all", "full")):
        recipe = recipe_of(texts, name, stages)
        recipe = msgspec.structs.replace(
            recipe,
            output=msgspec.structs.replace(
                recipe.output,
                dropped=msgspec.convert(dropped, recipe.output.__class__.__annotations__["dropped"]),
            ),
        )
        run(recipe, workers=1)
    assert verify(texts / "all").problems == []
    assert pq.read_table(texts / "all/_dropped/00_select").num_rows == 400


@pytest.mark.parametrize(
    ("guard", "lifted"),
    [
        ({"max_drop": 0.1}, {"max_drop": 0.3}),
        ({"max_drop_per_source": 0.1}, {"max_drop_per_source": 0.5}),
    ],
)
def test_a_guard_fires_publishes_nothing_and_can_be_lifted(texts, guard, lifted):
    def recipe(keys):
        return recipe_of(texts, "out", [{"stage": "select", "where": "text like 'long%'", **keys}])

    with pytest.raises(GuardError, match=next(iter(guard))) as caught:
        run(recipe(guard), workers=1)
    assert caught.value.exit_code == 1
    assert not (texts / "out/_curate/manifest.json").exists()
    result = run(recipe(lifted), workers=1)
    assert (result.exit, result.rows.kept, result.fresh_units) == (0, 1600, 0)  # finished work is kept


def test_nothing_left_is_an_error_unless_allowed(texts):
    with pytest.raises(GuardError, match="no row is left of 2000"):
        run(recipe_of(texts, "out", [{"select": "text = 'nothing'"}]), workers=1)
    allowed = run(recipe_of(texts, "out", [{"select": "text = 'nothing'"}], allow_empty=True), workers=1)
    assert (allowed.exit, allowed.rows.kept) == (0, 0)


def test_the_manifest_tells_the_exit_code_of_its_run(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.jsonl").write_text('{"text": "good"}\nbad line\n')
    assert run(recipe_of(tmp_path, "out", [{"sample": {}}]), workers=1).exit == 4
    manifest = json.loads((tmp_path / "out/_curate/manifest.json").read_bytes())
    assert (manifest["status"], manifest["exit"]) == ("quarantined", 4)


def test_a_run_does_not_remove_the_lock_of_another(tmp_path):
    folder = Folder(tmp_path)
    with Lock(folder):
        other = msgspec.json.encode(msgspec.structs.replace(me(), host="elsewhere"))
        (tmp_path / LOCK).write_bytes(other)  # ours was removed by hand, and another run came
    assert (tmp_path / LOCK).read_bytes() == other


def test_passes_of_a_live_run_are_in_use_and_those_of_a_dead_one_are_not(tmp_path):
    store = Folder(tmp_path)
    with InUse(store, ["a", "b"]):
        assert passes_in_use(store) == {"a", "b"}
        note = next((tmp_path / "users").iterdir())
        note.write_bytes(note.read_bytes().replace(me().boot_id.encode(), b"an-earlier-boot"))
        assert passes_in_use(store) == set()
    assert list((tmp_path / "users").iterdir()) == []


def test_rows_outside_when_pass_a_global_stage_untouched_and_in_order(tmp_path):
    (tmp_path / "in").mkdir()
    texts, kinds = list("aabbaccad"), list("xyxxyyxxx")
    pq.write_table(pa.table({"text": texts, "kind": kinds}), tmp_path / "in/a.parquet")
    recipe = recipe_of(tmp_path, "out", [{"exact_dedup": {"when": "kind = 'x'"}}])
    for batch_rows in (2, 4096):
        run(recipe, workers=1, batch_rows=batch_rows, fresh=True)
        rows = pq.read_table(tmp_path / "out/part-00000.parquet").to_pylist()
        assert [(r["text"], r["kind"], r["exact_dedup_cluster_size"]) for r in rows] == [
            ("a", "x", 2), ("a", "y", None), ("b", "x", 2), ("a", "y", None), ("c", "y", None), ("c", "x", 1),
            ("d", "x", 1),
        ]  # fmt: skip
    assert verify(tmp_path / "out").problems == []


def test_one_text_a_hundred_thousand_times_is_one_cluster(tmp_path):
    (tmp_path / "in").mkdir()
    pq.write_table(
        pa.table({"text": [""] * 100_000 + ["x"]}), tmp_path / "in/a.parquet", row_group_size=10_000
    )
    result = run(recipe_of(tmp_path, "out", [{"exact_dedup": {}}]), workers=1)
    assert result.rows.kept == 2
    sizes = pq.read_table(tmp_path / "out/part-00000.parquet")["exact_dedup_cluster_size"].to_pylist()
    assert sizes == [100_000, 1]


def test_records_merged_in_rounds_drop_the_same(tmp_path, monkeypatch):
    """Also where one of the merged files was damaged before another run took it up."""
    (tmp_path / "in").mkdir()
    for part in range(5):
        rows = pa.table({"text": [f"{(part * 7 + i) % 23} " * 30_000 for i in range(20)]})  # a unit each
        pq.write_table(rows, tmp_path / f"in/{part}.parquet")
    keys = {"unit_mb": 1, "store": str(tmp_path / "store")}
    run(recipe_of(tmp_path, "plain", [{"exact_dedup": {}}], unit_mb=1), workers=1)
    monkeypatch.setattr("curate.engine.shuffle.MAX_FILES", 2)
    run(recipe_of(tmp_path, "rounds", [{"exact_dedup": {}}], **keys), workers=1)
    merged = sorted((tmp_path / "store").rglob("*-merge1by2/records-*.parquet"))
    assert len(merged) == 3
    merged[0].write_bytes(merged[0].read_bytes()[:-100])
    run(recipe_of(tmp_path, "again", [{"exact_dedup": {}}, {"token_count": {}}], **keys), workers=1)
    assert kept(tmp_path / "plain") == kept(tmp_path / "rounds") == kept(tmp_path / "again")
    assert len(kept(tmp_path / "plain")) == 23
