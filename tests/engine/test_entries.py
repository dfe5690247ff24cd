"""One input of several sources, each with its own columns: `input: [{path: a, columns: {...}}, b]`."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import curate
from curate.engine import journal
from curate.engine.canaries import watch
from curate.engine.check import check
from curate.engine.forecast import forecast
from curate.engine.freeze import freeze
from curate.engine.verify import verify
from curate.errors import ConfigError, DataError
from curate.io.files import Folder
from curate.recipe.recipe import from_tree
from curate.recipe.tree import parse
from curate.report.recipes import compare
from curate.schema import row_id


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """Two JSON Lines files, a Parquet file and one without an ending, each with names of its own for the text."""
    monkeypatch.chdir(tmp_path)
    for name in ("web", "news", "books"):
        (tmp_path / name).mkdir()
    (tmp_path / "web/a.jsonl").write_text(
        "".join(json.dumps({"content": f"web {i}", "link": f"http://a.net/{i}"}) + "\n" for i in range(3))
    )
    (tmp_path / "news/a.jsonl").write_text('{"text": "news", "nr": 7, "content": "not the text"}\n')
    table = {"body": ["one book", "two books"], "isbn": ["b-1", "b-2"], "year": [1999, None]}
    pq.write_table(pa.table(table), tmp_path / "books/b.parquet")
    (tmp_path / "books/late").write_text('{"body": "a late one"}\n')
    return tmp_path


ENTRIES = """
input:
  - {path: web/*.jsonl, columns: {text: content, url: link}}
  - news/a.jsonl
  - {path: books/b.parquet, id: isbn, columns: {text: body}}
  - {path: books/late, format: jsonl, columns: {text: body}}
stages: [token_count, {select: "length(text) > 4"}]
output: {path: out}
"""


def recipe_of(text, **keys):
    return from_tree(parse(text, "r.yaml"), **keys)


def rows_of(out):
    return [row for batch in curate.read(out) for row in batch.to_pylist()]


def test_each_entry_is_read_by_its_own_columns(sources):
    recipe = recipe_of(ENTRIES)
    result = curate.run(recipe, workers=1)
    assert result.rows.kept == 6
    assert result.rows.dropped == {"select": {"length(text) > 4": 1}}
    rows = rows_of("out")
    shown = ("id", "text", "url", "year", "extra")
    assert [tuple(row[name] for name in shown) for row in rows] == [
        ("b-1", "one book", None, 1999, None),
        ("b-2", "two books", None, None, None),
        (row_id("books/late", 0), "a late one", None, None, None),
        *((row_id("web/a.jsonl", i), f"web {i}", f"http://a.net/{i}", None, None) for i in range(3)),
    ]  # fmt: skip
    (dropped,) = pq.read_table("out/_dropped").to_pylist()
    assert (dropped["text"], dropped["extra"]) == ("news", '{"content":"not the text","nr":7}')
    assert not verify("out").problems
    again = curate.run(recipe, workers=1)
    assert again.fresh_units == 0


def test_check_forecast_and_canaries_read_it_too(sources):
    recipe = recipe_of(ENTRIES)
    found = check(recipe, (), lambda kind, data: None, False, workers=1)
    assert (found.files, found.columns_in["year"]) == (4, "int64")
    assert found.forecast.rows_in.likely == 7
    plan = freeze(recipe, (), lambda kind, data: None)
    assert forecast(plan, recipe, workers=1, max_memory_mb=2000).steps[-1].rows.likely == 6
    out = Folder(str(sources / "planted"))
    watch(plan, recipe, out, (), 2000)
    assert json.loads(out.read("_curate/canaries.json"))["sampled_rows"] == 7


def test_an_entry_that_is_read_otherwise_is_another_input(sources):
    names = {one.fingerprint for one in freeze(recipe_of(ENTRIES), (), print).passes}
    for old, new in (("url: link", "source: link"), ("id: isbn, ", ""), (", url: link", "")):
        other = freeze(recipe_of(ENTRIES.replace(old, new)), (), print)
        assert names.isdisjoint(one.fingerprint for one in other.passes)
    changed = compare(recipe_of(ENTRIES), recipe_of(ENTRIES.replace("id: isbn, ", ""))).top
    assert [change.key for change in changed] == ["input.path"]


def test_a_file_moved_from_entry_to_entry_is_another_run(sources):
    text = """
input: [{path: a.jsonl, columns: {text: x}}, {path: b.jsonl, columns: {text: y}}]
stages: []
output: {path: out}
"""
    for name in "ab":
        (sources / f"{name}.jsonl").write_text(f'{{"x": "the x of {name}", "y": "the y of {name}"}}\n')
    curate.run(recipe_of(text), workers=1)
    assert [row["text"] for row in rows_of("out")] == ["the x of a", "the y of b"]
    swapped = text.replace("a.jsonl", "c.jsonl").replace("b.jsonl", "a.jsonl").replace("c.jsonl", "b.jsonl")
    with pytest.raises(ConfigError, match=r"changed since: 2 changed files, a\.jsonl first"):
        curate.run(recipe_of(swapped), workers=1)
    curate.run(recipe_of(swapped), workers=1, fresh=True)
    assert [row["text"] for row in rows_of("out")] == ["the y of a", "the x of b"]
    assert len(list(journal.entries(Folder("out")))) == 1


@pytest.mark.parametrize(
    ("entries", "what", "place", "hint"),
    [
        ("[{path: web, columns: {text: contnt}}]", "no key `contnt`", "input.path[0]", "`content`"),
        ("[news, {path: web/*.jsonl}]", "no key `text`", "input.path[1]", "columns: {text: ...}"),
        ("[news, {path: books/b.parquet, id: isnb, columns: {text: body}}]", "no column `isnb`", "input.path[1]", "`isbn`"),
        ("[web, {path: web/a.jsonl, columns: {text: link}}]", r"two entries .*/a\.jsonl`", "input.path[1]", "narrower"),
        ("[news, {path: none/*.jsonl}]", "nothing to read at `none", "input.path[1]", "looked at"),
        ("[news, {path: books/late, format: jsnl}]", "unknown format `jsnl`", "input.path[1]", "`jsonl`"),
        ("[news, {path: news, columns: {a: x, b: x}}]", "`x` twice", "input.path[1]", "one name"),
        ("[news, {path: news, colums: {}}]", "unknown key `colums`", "r.yaml:1:28", "`columns`"),
        ("[news, {path: 7}]", "Expected `str`, got `int`", "r.yaml:1:16", "text"),
    ],
)  # fmt: skip
def test_errors_name_the_entry(sources, entries, what, place, hint):
    with pytest.raises((ConfigError, DataError), match=what) as error:
        freeze(recipe_of(f"input: {entries}\nstages: []\noutput: {{path: out}}\n"), (), print)
    assert error.value.where == place
    assert hint in error.value.hint


def test_two_types_of_one_column_name_both_files(sources):
    (sources / "c.jsonl").write_text('{"text": "c", "published": "in May"}\n')
    text = """
input: [{path: books/b.parquet, columns: {text: body}}, {path: c.jsonl, columns: {year: published}}]
stages: []
output: {path: out}
"""
    with pytest.raises(DataError, match=r"`year` is int64 in `books/b\.parquet` and string in `c\.jsonl`"):
        freeze(recipe_of(text), (), print)


def test_a_flag_and_defaults_of_all_entries(sources):
    text = "input: {path: [web, {path: news, columns: {}}], columns: {text: content}}\nstages: []\noutput: {path: out}"
    curate.run(recipe_of(text), workers=1)
    assert [row["text"] for row in rows_of("out")] == ["news", "web 0", "web 1", "web 2"]
    flag = "input.path=[{path: news/a.jsonl, columns: {text: content}}]"
    curate.run(recipe_of(ENTRIES, sets=[flag], output="other"), workers=1)
    assert [row["text"] for row in rows_of("other")] == ["not the text"]
