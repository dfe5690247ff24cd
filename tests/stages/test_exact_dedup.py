"""The phases of exact_dedup over files in a temporary folder, against a dictionary in plain Python."""

import datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.engine import shuffle
from curate.errors import ConfigError
from curate.stage import Task
from curate.stages.exact_dedup import (
    Config,
    apply,
    date_key,
    digests,
    exact_dedup,
    group,
    hash_rows,
    is_comparable,
)

SHAPE = pa.schema({"id": pa.string(), "text": pa.large_string(), "date": pa.string(), "order": pa.uint64()})


class Unit:
    """Rows of one unit and the records for it, as the engine gives them."""

    def __init__(self, batches=(), records=()):
        self._batches, self._records = batches, records

    def batches(self):
        return iter(self._batches)

    def merged(self):
        return iter(self._records)


class Sink:
    """Collects what a phase writes."""

    def __init__(self):
        self.tables, self.kept, self.dropped = [], [], []

    def write(self, table):
        self.tables.append(table)

    def keep(self, batch):
        self.kept += batch.to_pylist()

    def drop(self, batch, reasons):
        for i, row in enumerate(batch.to_pylist()):
            self.dropped.append(row | {name: values[i].as_py() for name, values in reasons.items()})


def dedup(units, config, chunk=3):
    """Run all phases; returns kept and dropped rows. `chunk`: rows per merged table."""
    batches, position = [], 0
    for number, unit in enumerate(units):
        rows = [row | {"order": number * 1000 + i} for i, row in enumerate(unit)]
        batches.append([pa.RecordBatch.from_pylist(rows[i : i + 2], SHAPE) for i in range(0, len(rows), 2)])
        position += len(unit)
    hashed = Sink()
    for unit in batches:
        hash_rows(Task(0), Unit(unit), hashed, config)
    grouped = Sink()
    group(
        Task(0), Unit(records=chunks(hashed.tables, ("high", "low", "rank", "order"), chunk)), grouped, config
    )
    result = Sink()
    for number, unit in enumerate(batches):
        mine = [t for t in chunks(grouped.tables, ("order",), chunk) if t.num_rows]
        mine = [t.filter(np.isin(t["order"].to_numpy() // 1000, [number])) for t in mine]
        apply(Task(number), Unit(unit, [t for t in mine if t.num_rows]), result, config)
    return result.kept, result.dropped


def chunks(tables, key, size):
    tables = [t for t in tables if t.num_rows]
    if not tables:
        return []
    table = shuffle.sort(pa.concat_tables(tables), key)
    return [table.slice(i, size) for i in range(0, table.num_rows, size)]


def row(name, text, date=None):
    return {"id": name, "text": text, "date": date}


def test_by_hand():
    units = [[row("a", "x"), row("b", "y")], [row("c", "x"), row("d", None), row("e", "x")]]
    kept, dropped = dedup(units, Config())
    assert [(r["id"], r["exact_dedup_cluster_size"], r["exact_dedup_cluster_id"]) for r in kept] == [
        ("a", 3, "a"),
        ("b", 1, "b"),
        ("d", None, None),
    ]
    assert [(r["id"], r["kept_id"], r["drop_reason"]) for r in dropped] == [
        ("c", "a", "duplicate"),
        ("e", "a", "duplicate"),
    ]


def test_newest_wins_and_then_the_first():
    units = [
        [row("old", "x", "2020-01-01"), row("none", "x")],
        [row("new", "x", "2024-05-01T00:00:00Z"), row("same", "x", "2024-05-01")],
    ]
    kept, dropped = dedup(units, Config(keep="newest"))
    assert [r["id"] for r in kept] == ["new"]
    assert {r["kept_id"] for r in dropped} == {"new"}


def test_longest_text_wins_among_rows_of_one_key():
    units = [[row("a", "short", "k"), row("b", "much longer", "k"), row("c", "tiny", "other")]]
    kept, _ = dedup(units, Config(keep="longest", column="date"))
    assert [r["id"] for r in kept] == ["b", "c"]


def test_dates_are_ordered_and_nonsense_is_oldest():
    assert (
        date_key("2024-01-02")
        > date_key("2024-01-01T23:00:00+00:00")
        > date_key("0001-01-01")
        > date_key("soon")
        == date_key(None)
    )
    assert date_key("2024-01-01T00:00:00+02:00") < date_key(
        datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC).isoformat()
    )


def test_the_hash_sees_every_byte():
    high, low, valid = digests(pa.array(["", "a", "a\n", None, "é", "e\u0301"]))
    assert len(set(zip(high.tolist(), low.tolist(), strict=True))) == 5  # null reads as ''
    assert valid.tolist() == [True, True, True, False, True, True]


def test_a_missing_date_is_a_config_error():
    from curate.engine.plan import schema_after
    from curate.recipe.recipe import Step

    schema = pa.schema({"id": pa.string(), "text": pa.large_string()})
    config = Config(keep="newest")
    with pytest.raises(ConfigError, match="`date`"):
        schema_after(
            schema, Step(index=0, stage="exact_dedup", name="exact_dedup", config={}), exact_dedup, config
        )


@pytest.mark.parametrize(
    ("options", "what", "hint"),
    [
        ({"column": "tags"}, "`column: tags` is list<item: string>, which cannot be compared byte for byte",
         "columns that can: id, text, raw, stars, day"),
        ({"column": "info"}, "`column: info` is struct<a: int64>", "columns that can: id, text"),
        ({"column": "titel"}, "`exact_dedup` reads `titel`, which is not there", "columns at that point: id, text, "),
        ({"column": "order"}, "`column: order` is the row's place", "call it otherwise"),
        ({"keep": "newest"}, "`keep: newest` needs `date` as text, and it is date32[day]", "write it as 2026-11-20"),
    ],
)  # fmt: skip
def test_a_column_that_is_not_there_or_cannot_be_compared_is_refused_at_plan(options, what, hint):
    from curate.engine.plan import check_schema
    from curate.recipe.recipe import from_tree
    from curate.recipe.tree import Tree

    recipe = from_tree(Tree({"input": {"path": "in"}, "stages": [{"exact_dedup": options}]}, "recipe"))
    schema = pa.schema({
        "id": pa.string(), "text": pa.large_string(), "raw": pa.large_binary(), "stars": pa.int8(), "day": pa.date64(),
        "tags": pa.list_(pa.string()), "info": pa.struct({"a": pa.int64()}), "order": pa.int64(), "date": pa.date32(),
    })  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        check_schema(recipe, schema)
    assert caught.value.what.startswith(what)
    assert caught.value.hint.startswith(hint)
    assert caught.value.where == "stages[0] (exact_dedup)"


@pytest.mark.parametrize("keep", [{"date": "desc"}, {"score": "asc"}, "score", "newest first"])
def test_an_order_that_is_none_of_the_three_is_refused_at_load(keep):
    from curate.recipe.recipe import from_tree
    from curate.recipe.tree import Tree

    with pytest.raises(ConfigError) as caught:
        from_tree(Tree({"input": {"path": "in"}, "stages": [{"exact_dedup": {"keep": keep}}]}, "recipe"))
    assert "`keep` is one of first, longest, newest" in caught.value.hint


@pytest.mark.parametrize(
    "values",
    [
        pa.array([b"\xff\xfe", b"\x00", None], pa.large_binary()), pa.array([1, 2, None], pa.uint8()),
        pa.array([0.5, -0.5, None]), pa.array([True, False, None]), pa.array([1, 2, None], pa.date32()),
        pa.array([1, 2, None], pa.timestamp("us", "UTC")), pa.array([1, 2, None], pa.time64("ns")),
        pa.array([1, 2, None], pa.int32()).cast(pa.decimal128(12, 2)),
    ],
    ids=lambda values: str(values.type),
)  # fmt: skip
def test_every_type_that_plan_allows_is_told_apart(values):
    assert is_comparable(values.type)
    high, low, valid = digests(values)
    assert (high[0], low[0]) != (high[1], low[1])
    assert valid.tolist() == [True, True, False]


texts = st.one_of(st.none(), st.sampled_from(["", "a", "b", "ab", "\U0001f600", "é"]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(texts, max_size=6), max_size=5), st.integers(1, 7))
def test_survivors_equal_plain_python_for_any_cut(units, chunk):
    named = [[row(f"{u}-{i}", text) for i, text in enumerate(unit)] for u, unit in enumerate(units)]
    first, size, expected_dropped = {}, {}, {}
    for r in (r for unit in named for r in unit):
        if r["text"] is not None:
            size[r["text"]] = size.get(r["text"], 0) + 1
            if first.setdefault(r["text"], r["id"]) != r["id"]:
                expected_dropped[r["id"]] = first[r["text"]]
    kept, dropped = dedup(named, Config(), chunk)
    assert {r["id"]: r["kept_id"] for r in dropped} == expected_dropped
    assert [r["id"] for r in kept] == [
        r["id"] for unit in named for r in unit if r["id"] not in expected_dropped
    ]
    assert all(r["exact_dedup_cluster_size"] == size.get(r["text"]) for r in kept)
