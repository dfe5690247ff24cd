"""What changes beside a run: its lists, its side columns, its recipe, and what `--fresh` leaves when it is refused."""

import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.engine import run as engine
from curate.engine.forecast import Limits
from curate.engine.freeze import freeze
from curate.engine.isolate import Isolated
from curate.engine.limits import RowLimits
from curate.engine.unit import read_plan
from curate.engine.worker import run_unit
from curate.errors import ConfigError, DataError, GuardError
from curate.io.files import Folder
from curate.recipe.recipe import from_tree
from curate.recipe.tree import Tree
from curate.stages import use_file


@pytest.fixture
def place(tmp_path) -> Path:
    """Three files, so three units, of four pages each; site 2 is on the opt-out list, `bad` on the list of words."""
    (tmp_path / "in").mkdir()
    for part in range(3):
        rows = [
            {
                "id": f"{part}-{i}",
                "url": f"https://site{i}.com/",
                "text": f"good dog {part} {i} " + "word " * 80_000,
            }
            for i in range(4)
        ]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"in/{part}.parquet")
    (tmp_path / "no.txt").write_text("site2.com\n")
    (tmp_path / "words.txt").write_text("bad\n")
    return tmp_path


def recipe(place: Path, out: str = "out", **keys):
    tree = {
        "input": {"path": str(place / "in"), "id": "id", "opt_out": str(place / "no.txt")},
        "stages": [{"bad_words": {"list": str(place / "words.txt")}}, {"select": "bad_words_pass"}],
        "output": {"path": str(place / out)}, "unit_mb": 1, **keys,
    }  # fmt: skip
    return from_tree(Tree(tree, "recipe"))


def files(out: Path) -> dict[str, str]:
    return {
        str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(out.rglob("*"))
        if p.is_file() and "_curate/log" not in str(p)
    }


def parts(out: Path) -> dict[str, str]:
    return {name: digest for name, digest in files(out).items() if name.startswith("part-")}


def one_by_one(monkeypatch, between) -> None:
    """Run units in this process, with `between` after the first."""

    def go(pool, jobs, done):
        for number, job in enumerate(jobs):
            done(list(run_unit(job)))
            if number == 0:
                between()

    monkeypatch.setattr(engine.Pool, "run", go)


@pytest.mark.parametrize("name", ["no.txt", "words.txt"])
def test_a_list_that_changes_under_a_run_stops_it_until_it_is_restored(place, monkeypatch, name):
    engine.run(recipe(place, "whole"), workers=1)
    made, file = recipe(place), place / name
    before = file.read_text()
    with monkeypatch.context() as patched:
        one_by_one(patched, lambda: file.write_text("site1.com\ngood\n"))
        with pytest.raises(DataError, match=rf"{name}` is not what it was") as error:
            engine.run(made, workers=1)
    assert error.value.hint == "restore it, or plan anew with --fresh"
    assert len(parts(place / "out")) == 1
    with pytest.raises(ConfigError, match="another recipe"):
        engine.run(made, workers=1)
    file.write_text(before)
    engine.run(made, workers=1)
    assert [p.num_rows for p in map(pq.read_table, sorted((place / "out").glob("part-*")))] == [3, 3, 3]


def test_a_list_written_anew_with_the_same_words_is_the_same(place, monkeypatch):
    one_by_one(monkeypatch, lambda: (place / "no.txt").write_text("site2.com\n"))
    assert engine.run(recipe(place), workers=1).rows.kept == 9


def side_recipe(place: Path, min_words: int):
    tree = {
        "input": {"path": str(place / "in"), "id": "id"}, "stages": [{"gopher_quality": {"min_words": min_words}}],
        "output": {"path": str(place / "side"), "columns": "new"},
    }  # fmt: skip
    return from_tree(Tree(tree, "recipe"))


def joined(place: Path, out: str = "out"):
    reading = {"path": str(place / "in"), "id": "id", "with": str(place / "side")}
    return recipe(place, out, input=reading)


def test_side_columns_made_anew_under_a_run_stop_it_and_are_another_recipe(place, monkeypatch):
    engine.run(side_recipe(place, 1), workers=1)
    before = freeze(joined(place), (), lambda *_: None)
    with monkeypatch.context() as patched:
        begun = []

        def again():
            if not begun:
                begun.append(1)
                engine.run(side_recipe(place, 2), workers=1, fresh=True)

        one_by_one(patched, again)
        with pytest.raises(DataError, match="side` is not what it was"):
            engine.run(joined(place), workers=1)
    with pytest.raises(ConfigError, match="another recipe"):
        engine.run(joined(place), workers=1)
    after = freeze(joined(place), (), lambda *_: None)
    assert {p.fingerprint for p in before.passes}.isdisjoint(p.fingerprint for p in after.passes)


@pytest.mark.parametrize("output", [{"partition_by": ["bad_words_reason"]}, {"partition_by": ["url"]}])
def test_other_partitions_are_another_recipe_of_other_passes(place, output):
    plain, other = recipe(place), recipe(place, output={"path": str(place / "out"), **output})
    plans = [freeze(made, (), lambda *_: None) for made in (plain, other)]
    assert plans[0].passes[-1].fingerprint != plans[1].passes[-1].fingerprint
    engine.run(plain, workers=1)
    with pytest.raises(ConfigError, match="another recipe"):
        engine.run(other, workers=1)


def test_new_columns_alone_are_another_recipe_of_other_passes(place):
    stages = [{"bad_words": {"list": str(place / "words.txt")}}]
    whole, new = (
        recipe(place, stages=stages, output={"path": str(place / "out"), "columns": columns})
        for columns in ("all", "new")
    )  # fmt: skip
    plans = [freeze(made, (), lambda *_: None) for made in (whole, new)]
    assert plans[0].passes[-1].fingerprint != plans[1].passes[-1].fingerprint
    engine.run(whole, workers=1)
    with pytest.raises(ConfigError, match="another recipe"):
        engine.run(new, workers=1)


def test_fresh_leaves_a_dataset_as_it_was_until_its_new_plan_stands(place):
    made = recipe(place, allow_quarantined=2)
    engine.run(made, workers=1)
    before = files(place / "out")
    with pytest.raises(GuardError, match="--max-hours allows"):
        engine.run(made, workers=1, fresh=True, limits=Limits(hours=1e-9))
    assert files(place / "out") == before
    (place / "words.txt").write_bytes(b"\xff\n")
    with pytest.raises(ConfigError, match="not UTF-8"):
        engine.run(made, workers=1, fresh=True)
    assert files(place / "out") == before
    (place / "words.txt").write_text("dog\n")
    with pytest.raises(ConfigError, match="nowhere"):
        engine.run(recipe(place, stages=[{"select": "nowhere > 1"}]), workers=1, fresh=True)
    assert files(place / "out") == before
    twice = [{"id": "same", "url": None, "text": "good"}] * 2  # so that a plan is more than one file
    pq.write_table(pa.Table.from_pylist(twice), place / "in/3.parquet")
    result = engine.run(made, workers=1, fresh=True)
    assert (result.rows.kept, result.rows.quarantined) == (1, 1)
    assert not (place / "out/_curate/tmp").exists()


def test_a_bad_line_in_a_list_leaves_no_plan_that_refuses_the_corrected_list(place):
    (place / "hosts.txt").write_text("https://whole.url/a\n")
    made = recipe(place, stages=[{"url_filter": {"domains": str(place / "hosts.txt")}}])
    with pytest.raises(ConfigError, match=r"no domain") as error:
        engine.run(made, workers=1)
    assert error.value.where.endswith("hosts.txt:1")
    assert not (place / "out").exists()
    (place / "hosts.txt").write_text("whole.url\n")
    assert engine.run(made, workers=1).rows.kept == 9


def test_a_finished_dataset_says_what_its_lists_were(place):
    engine.run(recipe(place), workers=1)
    plan = json.loads((place / "out/_curate/plan.json").read_text())
    assert {Path(one["path"]).name: one["sha256"] for one in plan["named"]} == {
        name: hashlib.sha256((place / name).read_bytes()).hexdigest() for name in ("no.txt", "words.txt")
    }


CODE = """
import msgspec
import pyarrow as pa
from curate.stage import stage


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    deadline_seconds: int = 9
    max_memory_mb: int = 999


@stage("said", version=1, config=Config, reads=["text"], writes={"said": pa.int64()}, isolate=True)
def said(batch, config):
    return batch.append_column("said", pa.array([1] * batch.num_rows, pa.int64()))
"""


def test_stages_edited_after_the_plan_are_not_loaded(place):
    """By a worker, and by the killable child of one that had loaded them before; this process had them first."""
    file = place / "my_stages.py"
    file.write_text(CODE)
    use_file(file)
    made = recipe(place, stages=["said"])

    def edit(kind, data):
        if kind == "pass":
            file.write_text(CODE.replace("[1]", "[2]"))

    with pytest.raises(DataError, match=r"my_stages.py` is not what it was") as error:
        engine.run(made, workers=1, stage_files=[str(file)], listen=edit)
    assert error.value.hint == "restore it, or plan anew with --fresh"
    assert parts(place / "out") == {}
    (planned,) = read_plan(Folder(str(place / "out"))).code
    child = Isolated(made.steps[0], str(place), [planned], RowLimits(made.steps[0]))
    with pytest.raises(DataError, match=r"my_stages.py` is not what it was"):
        child(pa.record_batch({"text": ["a"]}))
    child.close()
    file.write_text(CODE)
    assert engine.run(made, workers=1, stage_files=[str(file)]).rows.kept == 9
