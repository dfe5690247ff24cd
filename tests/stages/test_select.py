"""`select`: which rows stay, and what a dropped row says about why."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import ConfigError
from curate.schema import DROP
from curate.stages.select import Config, Selector, select

COLUMNS = {
    "id": pa.string(),
    "lang": pa.string(),
    "lang_score": pa.float32(),
    "gq_pass": pa.bool_(),
    "gq_reason": pa.string(),
    "gq_value": pa.float64(),
    "gq_threshold": pa.float64(),
}
WRITERS = {"lang": "language_id", "lang_score": "language_id", "gq_pass": "gq"}
WHERE = "lang = 'en' and lang_score >= 0.5 and gq_pass and (lang_score < 0.9 or lang is null)"


def batch(*rows: tuple[object, ...], columns: dict[str, pa.DataType] = COLUMNS) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(
        [dict(zip(columns, row, strict=True)) for row in rows], schema=pa.schema(columns)
    )


def reasons(dropped: pa.RecordBatch) -> list[tuple[object, ...]]:
    names = ["id", "drop_stage", "drop_reason", "drop_value", "drop_threshold"]
    return [tuple(row[name] for name in names) for row in dropped.select(names).to_pylist()]


def test_a_dropped_row_knows_why() -> None:
    rows = batch(
        ("a", "en", 0.75, False, "word_count", 12.0, 50.0),
        ("b", "en", 0.75, True, None, None, None),
        ("c", "de", 0.75, False, "word_count", 12.0, 50.0),
        ("d", "en", 0.25, False, "word_count", 12.0, 50.0),
        ("e", "en", None, True, None, None, None),
        ("f", None, 0.75, True, None, None, None),
        ("g", "en", 1.0, True, None, None, None),
        ("h", "en", 0.75, None, None, None, None),
    )
    kept, dropped = Selector(WHERE, COLUMNS, WRITERS).split(rows)
    assert kept.to_pylist() == rows.slice(1, 1).to_pylist()
    assert reasons(dropped) == [
        ("a", "gq", "word_count", 12.0, 50.0),
        ("c", "language_id", "lang = 'en'", None, None),
        ("d", "language_id", "lang_score >= 0.5", 0.25, 0.5),
        ("e", "language_id", "lang_score >= 0.5", None, 0.5),
        ("f", "language_id", "lang = 'en'", None, None),
        ("g", "select", "lang_score < 0.9 or lang is null", None, None),
        ("h", "gq", "gq_pass", None, None),
    ]
    assert dropped.select(list(COLUMNS)).to_pylist() == [row for row in rows.to_pylist() if row["id"] != "b"]
    assert dropped.schema.names == [*COLUMNS, *DROP]
    assert [dropped.schema.field(name).type for name in DROP] == list(DROP.values())


def test_a_column_of_the_input_is_blamed_on_the_input() -> None:
    columns = {"id": pa.string(), "stars": pa.int64(), "ok": pa.bool_()}
    _, dropped = Selector("stars > 3 and ok", columns, {}).split(
        batch(("a", 3, True), ("b", 4, False), columns=columns)
    )
    assert reasons(dropped) == [("a", "input", "stars > 3", 3.0, 3.0), ("b", "select", "ok", None, None)]


def test_a_flag_without_its_reason_columns_gives_the_condition() -> None:
    columns = {"id": pa.string(), "gq_pass": pa.bool_()}
    _, dropped = Selector("gq_pass", columns, {}).split(batch(("a", False), columns=columns))
    assert reasons(dropped) == [("a", "gq", "gq_pass", None, None)]


def test_nothing_and_everything_dropped_have_the_same_columns() -> None:
    selector = Selector("lang = 'en'", COLUMNS, WRITERS)
    row = ("a", "en", 0.5, True, None, None, None)
    kept, none = selector.split(batch(row))
    empty, dropped = selector.split(batch(("a", "de", *row[2:])))
    nothing, no_drop = selector.split(batch())
    assert [kept.num_rows, none.num_rows, empty.num_rows, dropped.num_rows] == [1, 0, 0, 1]
    assert none.schema == dropped.schema == no_drop.schema
    assert kept.schema == empty.schema == nothing.schema == pa.schema(COLUMNS)


def test_the_stage_returns_the_kept_rows() -> None:
    rows = batch(("a", "en", 0.5, True, None, None, None), ("b", "de", 0.5, True, None, None, None))
    assert select(rows, Config(where="lang = 'en'")).to_pylist() == rows.slice(0, 1).to_pylist()


def test_columns_of_dropped_rows_must_be_free() -> None:
    with pytest.raises(ConfigError, match="drop_reason") as caught:
        Selector("drop_reason = 'x'", {"id": pa.string(), "drop_reason": pa.string()}, {})
    assert "input.columns" in caught.value.hint


def test_a_wrong_predicate_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="unknown column `langg`"):
        Selector("langg = 'en'", COLUMNS, {})


ROWS = st.tuples(
    st.none() | st.sampled_from(["en", "de", "é"]),
    st.none() | st.sampled_from([0.25, 0.5, 0.75, 1.0, float("nan")]),
    st.none() | st.booleans(),
    st.none() | st.sampled_from(["word_count", "ü"]),
    st.none() | st.just(1.5),
    st.none() | st.just(2.5),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(ROWS, max_size=30))
def test_a_when_is_the_select_of_its_rows_and_keeps_the_others(rows: list[tuple[object, ...]]) -> None:
    whole = batch(*[(str(i), *row) for i, row in enumerate(rows)])
    kept, dropped = Selector(WHERE, COLUMNS, WRITERS, when="lang = 'de'").split(whole)
    inside = [row["lang"] == "de" for row in whole.to_pylist()]
    kept_alone, dropped_alone = Selector(WHERE, COLUMNS, WRITERS).split(
        whole.filter(pa.array(inside, pa.bool_()))
    )
    stay = {*kept_alone["id"].to_pylist(), *(str(i) for i, is_in in enumerate(inside) if not is_in)}
    assert kept["id"].to_pylist() == [i for i in whole["id"].to_pylist() if i in stay]
    assert str(dropped.to_pylist()) == str(dropped_alone.to_pylist())


@settings(max_examples=60, deadline=None)
@given(st.lists(ROWS, max_size=30), st.integers(0, 30))
def test_any_slicing_gives_the_same_rows_and_every_row_goes_one_way(
    rows: list[tuple[object, ...]], cut: int
) -> None:
    whole = batch(*[(str(i), *row) for i, row in enumerate(rows)])
    selector = Selector(WHERE, COLUMNS, WRITERS)
    kept, dropped = selector.split(whole)
    assert sorted([*kept["id"].to_pylist(), *dropped["id"].to_pylist()], key=int) == whole["id"].to_pylist()
    cut = min(cut, len(rows))
    pieces = [selector.split(piece) for piece in (whole.slice(0, cut), whole.slice(cut))]
    for side, together in enumerate((kept, dropped)):
        apart = [row for piece in pieces for row in piece[side].to_pylist()]
        assert str(apart) == str(together.to_pylist())  # as text: NaN differs from itself
    assert dropped["drop_reason"].null_count == dropped["drop_stage"].null_count == 0
