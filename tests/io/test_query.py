"""Predicates: what compiles, what is refused, and which conjunct a row fails; views over an output folder."""

import json
import time
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import ConfigError, CurateError, DataError
from curate.io import expression
from curate.io.query import Conjunct, Predicate, open_dataset, query
from curate.schema import DROP, QUARANTINE

COLUMNS = {
    "id": pa.string(),
    "text": pa.large_string(),
    "lang": pa.string(),
    "lang_score": pa.float32(),
    "n": pa.int32(),
    "gq_pass": pa.bool_(),
    "extra": pa.string(),
    "tags": pa.list_(pa.string()),
    "meta": pa.struct({"site": pa.string()}),
    "day": pa.date32(),
    "seen": pa.timestamp("us", tz="UTC"),
    "Up per": pa.string(),
    "select": pa.string(),
    "a.b": pa.int64(),
    'q"t': pa.int64(),
    "größe": pa.int64(),
}


def batch(**columns: list[object]) -> pa.RecordBatch:
    return pa.record_batch([pa.array(v, COLUMNS[k]) for k, v in columns.items()], names=list(columns))


def refused(where: str, columns: dict[str, pa.DataType] | None = None) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        Predicate(where, COLUMNS if columns is None else columns)
    return caught.value


def test_the_first_conjunct_that_is_not_true_drops_the_row() -> None:
    predicate = Predicate("lang = 'en' and lang_score >= 0.5 and gq_pass", COLUMNS)
    rows = batch(
        lang=["en", "de", "en", None, "en", "de", "en"],
        lang_score=[0.9, 0.9, 0.1, 0.9, 0.9, 0.1, None],
        gq_pass=[True, True, True, True, None, False, True],
    )
    assert predicate.first_failure(rows).tolist() == [-1, 0, 1, 0, 2, 0, 1]
    assert predicate.mask(rows).tolist() == [True, False, False, False, False, False, False]
    assert predicate.columns == ("lang", "lang_score", "gq_pass")


def test_conjuncts_keep_the_users_words_and_say_what_they_compare() -> None:
    found = Predicate(
        "gq_pass AND ('en' =  lang /* x */) and n > -1.5 and (n = 1 or n = 2) and day >= date '2024-01-01' -- end",
        COLUMNS,
    ).conjuncts
    assert found == (
        Conjunct("gq_pass", flag="gq_pass"),
        Conjunct("'en' =  lang", column="lang", literal="en"),
        Conjunct("n > -1.5", column="n", literal=-1.5),
        Conjunct("n = 1 or n = 2"),
        Conjunct("day >= date '2024-01-01'", column="day", literal="2024-01-01"),
    )


@pytest.mark.parametrize(
    ("where", "texts"),
    [
        ("n = 1 and (n = 2 and (n = 3 and gq_pass))", ["n = 1", "n = 2", "n = 3", "gq_pass"]),
        ("n between 1 and 2 and gq_pass", ["n between 1 and 2", "gq_pass"]),
        ("(n + 1) is null and n = 1", ["(n + 1) IS NULL", "n = 1"]),
        ("not (gq_pass and n = 1)", ["not (gq_pass and n = 1)"]),
        ("lang = ' and ' and n = 1", ["lang = ' and '", "n = 1"]),
        ("lang = 'üß and' and größe > 3 and n = 1", ["lang = 'üß and'", "größe > 3", "n = 1"]),
        ("gq_pass is not false and n = 1", ["gq_pass is not false", "n = 1"]),
    ],
)
def test_only_top_level_ands_split(where: str, texts: list[str]) -> None:
    assert [conjunct.text for conjunct in Predicate(where, COLUMNS).conjuncts] == texts


@pytest.mark.parametrize(
    ("where", "rows", "kept"),
    [
        ("\"Up per\" = 'x'", {"Up per": ["x", "y"]}, [True, False]),
        ("\"select\" like 'a%'", {"select": ["ab", "b"]}, [True, False]),
        ('"a.b" > 1', {"a.b": [2, 1]}, [True, False]),
        ('"q""t" > 1', {'q"t': [2, 1]}, [True, False]),
        ("LANG = 'x'", {"lang": ["x", None]}, [True, False]),
        ("größe = 2", {"größe": [2, 1]}, [True, False]),
        ("extra->>'k' = 'v'", {"extra": ['{"k": "v"}', '{"k": 1}']}, [True, False]),
        ("(extra->>'$.k.j')::int > 3", {"extra": ['{"k": {"j": 4}}', "{}"]}, [True, False]),
        ("list_contains(tags, 'x')", {"tags": [["a", "x"], []]}, [True, False]),
        ("'x' in tags", {"tags": [["a", "x"], None]}, [True, False]),
        ("len(tags) > 1 and tags[1] = 'a'", {"tags": [["a", "x"], ["x", "a"]]}, [True, False]),
        ("meta.site = 'x'", {"meta": [{"site": "x"}, None]}, [True, False]),
        ("lang in ('en', 'de')", {"lang": ["de", "fr"]}, [True, False]),
        ("coalesce(lang, 'en') = 'en'", {"lang": [None, "de"]}, [True, False]),
        ("text ~ '^a.c$'", {"text": ["abc", "abcd"]}, [True, False]),
        ("length(text) > 1 and n % 2 = 0", {"text": ["éé", "éé"], "n": [2, 3]}, [True, False]),
        ("1 / n > 0", {"n": [2, 0]}, [True, False]),
        ("day >= '2024-05-01'", {"day": [19850, 19000]}, [True, False]),
        ("date_part('year', seen) = 1970", {"seen": [0, -1]}, [True, False]),
        (
            "case when gq_pass then n > 1 else false end",
            {"gq_pass": [True, False], "n": [2, 2]},
            [True, False],
        ),
    ],
)
def test_expressions(where: str, rows: dict[str, list[object]], kept: list[bool]) -> None:
    assert Predicate(where, COLUMNS).mask(batch(**rows)).tolist() == kept


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("", "names no column"),
        ("1 = 1", "names no column"),
        ("lang = ", "missing at its end"),
        ("größe = = 5", "at character 9"),
        ("langg = 'en'", "unknown column `langg`"),
        ("a.b > 1", "unknown column `a.b`"),
        ("rowid > 1", "unknown column `rowid`"),
        ("day > current_date", "unknown column `current_date`"),
        ("lang = user", "unknown column `user`"),
        ("meta.nothing = 'x'", "nothing"),
        ("n", "`n` is int32, not true or false"),
        ("lang and gq_pass", "not true or false"),
        ("lang = 5", "`lang` is text and 5 a number"),
        ("5 >= lang or gq_pass", "`lang` is text and 5 a number"),
        ("lang in ('a', 5)", "`lang` is text and 5 a number"),
        ("n = 'abc'", "abc"),
        ("lower(n, n) = 'x'", "lower"),
        ("random() > 0.5 and n = 1", "function `random` is not allowed"),
        ('"random"() > 0.5 and n = 1', "function `random` is not allowed"),
        ("seen < now()", "function `now` is not allowed"),
        ("n > age(seen)", "function `age` is not allowed"),
        ("lang = current_setting('threads')", "function `current_setting` is not allowed"),
        ("lang = getenv('HOME')", "function `getenv` is not allowed"),
        ("lang = getvariable('x')", "function `getvariable` is not allowed"),
        ("lang = read_text('/etc/passwd')", "function `read_text` is not allowed"),
        ("n > sum(n)", "function `sum` is not allowed"),
        ("n > count(*)", "function `count_star` is not allowed"),
        ("sleep_ms(1) = n", "function `sleep_ms` is not allowed"),
        ("main.lower(lang) = 'x'", "function `main.lower` is not allowed"),
        ("lang = repeat('x', 1000000000)", "function `repeat` is not allowed"),
        ("unnest(tags) = 'x'", "function `unnest` is not allowed"),
        ("lower(distinct lang) = 'x'", "distinct is not allowed"),
        ("lower(lang order by n) = 'x'", "order by is not allowed"),
        ("row_number() over () > n", "a window function is not allowed"),
        ("n in (select 1)", "a subquery is not allowed"),
        ("exists (from 'x.parquet') and n = 1", "a subquery is not allowed"),
        ("n = any(tags)", "a subquery is not allowed"),
        ("list_filter(tags, x -> x = 'a') = tags", "function `list_filter` is not allowed"),
        ("extra->'k' = 'v'", "`->` (a lambda) is not allowed"),
        ("* = 1", "`*` is not allowed"),
        ("columns('n') = 1", "`*` is not allowed"),
        ("n = $1", "a parameter is not allowed"),
        ("n = ?", "a parameter is not allowed"),
        ("#1 = n", "a positional reference is not allowed"),
        ("lang collate nocase = 'x'", "a collation is not allowed"),
        ("cast(lang as regclass) = n", "a cast to `regclass` is not allowed"),
        ("n = 1; select 2", "at character 6"),
        ("n = 1 limit 1", "at character 7"),
        ("n = 1)), ((n = 2", "more than one expression"),
        ("n = 1)) from x where ((n = 1", "more than one expression"),
        ("n = 1)) union select ((n", "more than one expression"),
        ("n)); copy (select 1) to '/tmp/x.csv'; select ((1", "more than one expression"),
        ("n = 1\0", "not text"),
        ("lang = '\ud800'", "not text"),
        ("(" * 600 + "n = 1" + ")" * 600, "too long or too deep"),
        ("not " * 300 + "gq_pass", "too deep"),
        ("n = 1 and " * 20_000 + "n = 1", "too long or too deep"),
    ],
)
def test_refused(where: str, says: str) -> None:
    error = refused(where)
    assert says in error.what
    assert error.hint


def test_the_nearest_name_is_offered() -> None:
    assert refused("langg = 'en'").hint == "did you mean `lang`?"
    assert refused("lenght(text) > 1").hint == "did you mean `length`?"
    assert refused("a.b > 1").hint == 'write it in double quotes: "a.b"'


def test_names_that_differ_only_in_case_are_refused_when_named() -> None:
    columns = {"Lang": pa.string(), "lang": pa.string(), "n": pa.int32()}
    assert "may be any of the columns `Lang`, `lang`" in refused("lang = 'en'", columns).what
    assert Predicate("n = 1", columns).columns == ("n",)


def test_a_failed_cast_names_the_row_and_try_cast_drops_it() -> None:
    rows = batch(id=["r0", "r1", "r2", "r3"], lang=["1", "2", "x", "y"])
    with pytest.raises(DataError, match="row `r2`") as caught:
        Predicate("lang::int > 1", COLUMNS).mask(rows)
    assert "TRY_CAST" in caught.value.hint
    assert Predicate("try_cast(lang as int) > 1", COLUMNS).mask(rows).tolist() == [False, True, False, False]
    guarded = Predicate("lang in ('1', '2') and lang::int > 1", COLUMNS)
    assert guarded.first_failure(rows).tolist() == [1, -1, 0, 0]


def test_every_listed_function_exists_in_the_installed_duckdb() -> None:
    known = {name for (name,) in duckdb.sql("SELECT function_name FROM duckdb_functions()").fetchall()}
    syntax = {"coalesce", "ifnull", "nullif", "if"}
    assert expression.FUNCTIONS - known - syntax == set()
    volatile = "SELECT function_name FROM duckdb_functions() WHERE stability = 'VOLATILE'"
    assert expression.FUNCTIONS.isdisjoint(name for (name,) in duckdb.sql(volatile).fetchall())


def test_the_connection_is_locked_and_sees_neither_files_nor_variables(tmp_path: Path) -> None:
    connection = Predicate("n = 1", COLUMNS)._connection
    secret = pa.table({"x": [1]})  # in reach of DuckDB's replacement scans, were they on
    (tmp_path / "x.csv").write_text("a\n1\n")
    for sql in (
        "FROM secret",
        f"FROM '{tmp_path}/x.csv'",
        f"COPY (SELECT 1) TO '{tmp_path}/y'",
        "SET threads = 2",
    ):
        with pytest.raises(duckdb.Error):
            connection.execute(sql)
    assert secret.num_rows == 1
    assert not (tmp_path / "y").exists()


@pytest.mark.parametrize(
    "unit", ["(", "[", "case when ", "not (", "lower(", "'", "$$", "/*", "{'a':", "cast(", "a."]
)
def test_unclosed_and_deep_texts_end_soon(unit: str) -> None:
    start = time.process_time()
    for count in (1, 30, 400, 5000):
        refused(unit * count)
        refused("n = " + unit * count + " 1")
    assert time.process_time() - start < 20


TOKENS = """
n lang text gq_pass tags extra ( ) [ ] { } , ; ' " = <> < > <= and or not in between is null like ilike 'a' '' 1 2.5 -1
1e400 x'ff' + - * / % || -> ->> :: int varchar decimal(3,1) cast as case when then else end select from where exists
lower( length( random() now() any all over() distinct order by limit union $1 ? #1 -- /* */ true false interval date
'2020-01-01' struct row( lambda : x try( coalesce( collate nocase escape . .* 'x' é \\ @ ! ~ ^@ similar to
"""
WORDS = st.sampled_from(TOKENS.split())
PIECES = (
    st.lists(WORDS, max_size=12).map(" ".join)
    | st.text(max_size=40)
    | st.text("ntag'\"()[]{}=<>- +*/;,.$#@", max_size=20)
)


@settings(max_examples=150, deadline=None)
@given(PIECES)
def test_every_text_compiles_or_is_refused(where: str) -> None:
    rows = batch(
        n=[1, None],
        lang=["1", None],
        text=["", None],
        gq_pass=[True, None],
        tags=[["a"], None],
        extra=["{}", None],
    )
    try:
        predicate = Predicate(where, dict(zip(rows.schema.names, rows.schema.types, strict=True)))
    except ConfigError:
        return
    try:
        assert len(predicate.first_failure(rows)) == 2
    except DataError:  # a cast that this row does not bear
        return


CONDITIONS = {
    "n > 2": lambda row: None if row["n"] is None else row["n"] > 2,
    "lang = 'en'": lambda row: None if row["lang"] is None else row["lang"] == "en",
    "gq_pass": lambda row: row["gq_pass"],
    "(n is null or lang is null)": lambda row: row["n"] is None or row["lang"] is None,
    "not gq_pass": lambda row: None if row["gq_pass"] is None else not row["gq_pass"],
}
ROWS = st.fixed_dictionaries(
    {
        "n": st.none() | st.integers(0, 5),
        "lang": st.none() | st.sampled_from(["en", "de"]),
        "gq_pass": st.none() | st.booleans(),
    }
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(list(CONDITIONS)), min_size=1, max_size=4),
    st.lists(ROWS, max_size=20),
    st.integers(0, 20),
)
def test_equal_to_slow_python_and_to_any_slicing(
    parts: list[str], rows: list[dict[str, object]], cut: int
) -> None:
    predicate = Predicate(" and ".join(parts), COLUMNS)
    whole = batch(**{key: [row[key] for row in rows] for key in ("n", "lang", "gq_pass")})
    slow = [
        next((i for i, part in enumerate(parts) if CONDITIONS[part](row) is not True), -1) for row in rows
    ]
    assert predicate.first_failure(whole).tolist() == slow
    halves = (whole.slice(0, cut), whole.slice(min(cut, len(rows))))
    assert np.concatenate([predicate.first_failure(half) for half in halves]).tolist() == slow


def write(folder: Path, path: str, **columns: list[object]) -> None:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / path)


def rows_of(folder: Path, sql: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = query(open_dataset(folder), sql).read_all().to_pylist()
    return found


def test_views_of_an_output_folder(tmp_path: Path) -> None:
    folder = tmp_path / "it's [a] folder*"
    write(folder, "part-00000.parquet", id=["a"], text=["x"])
    write(folder, "part-00001.parquet", id=["b"], text=["y"])
    write(
        folder,
        "_dropped/02_select/part-00000.parquet",
        id=["c"],
        text=["z"],
        drop_stage=["lang"],
        lang=["de"],
    )
    write(folder, "_dropped/03_dedup/part-00000.parquet", id=["d"], drop_stage=["dedup"], kept_id=["a"])
    write(folder, "_quarantine/part-00000.parquet", id=["e"], reason=["too_long"])
    (folder / "_curate/journal").mkdir(parents=True)
    (folder / "_curate/journal/00000.json").write_text(
        json.dumps({"unit": "00000", "rows": {"in": 5, "kept": 2}})
    )
    assert rows_of(folder, "SELECT id FROM docs ORDER BY id") == [{"id": "a"}, {"id": "b"}]
    assert rows_of(folder, "SELECT id, lang, kept_id FROM dropped ORDER BY id") == [
        {"id": "c", "lang": "de", "kept_id": None},
        {"id": "d", "lang": None, "kept_id": "a"},
    ]
    assert rows_of(folder, "SELECT reason FROM quarantine") == [{"reason": "too_long"}]
    assert rows_of(folder, "SELECT unit, rows['kept'] AS kept FROM journal") == [{"unit": "00000", "kept": 2}]


def test_missing_folders_are_empty_views_with_their_columns(tmp_path: Path) -> None:
    write(tmp_path, "part-00000.parquet", id=["a"], text=["x"], score=[1.0])
    connection = open_dataset(tmp_path)
    dropped = query(connection, "SELECT * FROM dropped").read_all()
    assert dropped.num_rows == 0
    assert dropped.schema.names == ["id", "text", "score", *DROP]
    assert [dropped.schema.field(name).type for name in DROP] == list(DROP.values())
    quarantine = query(connection, "SELECT * FROM quarantine").read_all()
    assert (quarantine.num_rows, quarantine.schema.names) == (0, QUARANTINE.names)
    assert query(connection, "SELECT unit FROM journal").read_all().num_rows == 0


def test_partitions_are_one_view(tmp_path: Path) -> None:
    write(tmp_path, "lang=en/part-00000.parquet", id=["a"])
    write(tmp_path, "lang=no/part-00000.parquet", id=["b"])
    write(tmp_path, "_dropped/02_select/part-00000.parquet", id=["c"])
    assert rows_of(tmp_path, "SELECT id, lang FROM docs ORDER BY id") == [
        {"id": "a", "lang": "en"},
        {"id": "b", "lang": "no"},
    ]


@pytest.mark.parametrize(
    "sql",
    [
        "COPY docs TO '{folder}/x.parquet' (FORMAT parquet)",
        "EXPLAIN ANALYZE COPY docs TO '{folder}/x.parquet' (FORMAT parquet)",
        "WITH t AS (COPY docs TO '{folder}/x.parquet') SELECT * FROM docs",
        "SELECT * FROM query('WITH t AS (COPY docs TO ''{folder}/x.parquet'') SELECT * FROM docs')",
        "SELECT * FROM '{folder}/part-00000.parquet'",
        "ATTACH '{folder}/x.parquet' AS x",
        "EXPORT DATABASE '{folder}/x.parquet'",
        "CREATE TABLE x AS FROM docs",
        "DROP VIEW docs",
        "SET threads = 2",
        "SELECT 1; SELECT 2",
        "SELECT * FROM read_text('{outside}')",
        "SELECT * FROM '{outside}'",
        "SELECT * FROM glob('{outside}*')",
        "SELECT nothing FROM docs",
        "SELEC",
        "",
        "\ud800",
    ],
)
def test_a_query_reads_the_folder_and_nothing_else(tmp_path: Path, sql: str) -> None:
    folder, outside = tmp_path / "out", tmp_path / "secret.csv"
    write(folder, "part-00000.parquet", id=["a"])
    outside.write_text("a\n1\n")
    with pytest.raises(ConfigError):
        query(open_dataset(folder), sql.format(folder=folder, outside=outside)).read_all()
    assert sorted(path.name for path in folder.iterdir()) == ["part-00000.parquet"]


@pytest.mark.parametrize("good", [1, 300_000])
def test_a_cast_that_fails_early_or_late_is_our_error(tmp_path: Path, good: int) -> None:
    write(tmp_path, "part-00000.parquet", id=[*["1"] * good, "x"])
    with pytest.raises(CurateError, match="Could not convert"):
        rows_of(tmp_path, "SELECT id::int FROM docs")


def test_a_folder_that_is_no_output_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not the output of a run"):
        open_dataset(tmp_path)
    (tmp_path / "part-00000.parquet").write_bytes(b"PAR1 broken")
    with pytest.raises(DataError, match="cannot be read"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("where", "hint"),
    [
        ('lang = "en"', "a text stands in single quotes: 'en'"),
        ("lang = 'en' && n > 1", "write `and`"),
        ("lang = 'en' || n > 1", "write `or`"),
    ],
)
def test_the_commonest_slips_are_told_how_to_write_it(where, hint):
    with pytest.raises(ConfigError) as error:
        Predicate(where, {"lang": pa.string(), "n": pa.int64()})
    assert hint in error.value.hint


def test_a_query_holds_a_row_group_and_not_what_it_could_read_ahead(tmp_path: Path) -> None:
    """Ten row groups of 8 MB: what a slow reader has not asked for is not read, not all of it as pyarrow's scanner does."""
    texts = pa.array([f"{i:06d}" * 667 for i in range(20_000)], pa.large_string())
    table = pa.table({"id": pa.array([str(i) for i in range(20_000)]), "text": texts})
    pq.write_table(table, tmp_path / "part-00000.parquet", row_group_size=2000)
    del table, texts
    connection = open_dataset(tmp_path)
    before, held, rows = pa.total_allocated_bytes(), [], 0
    for batch in query(connection, "select text from docs"):
        time.sleep(0.02)  # what reads ahead in another thread gets its time
        held.append(pa.total_allocated_bytes() - before)
        rows += batch.num_rows
    assert rows == 20_000
    assert len(held) > 5
    assert max(held) < 40e6


def test_a_filter_reads_columns_that_the_answer_lacks(tmp_path: Path) -> None:
    table = pa.table(
        {"id": list("abcdef"), "score": [1.0, 2.0, None, float("nan"), 5.0, 6.0], "lang": ["en", "de"] * 3}
    )
    pq.write_table(table, tmp_path / "part-00000.parquet", row_group_size=2)
    connection = open_dataset(tmp_path)

    def ids(where: str) -> list[str]:
        return (
            query(connection, f"select id from docs where {where} order by id").read_all()["id"].to_pylist()
        )

    assert ids("score > 1 and lang = 'de'") == ["b", "d", "f"]  # NaN is above every number, as in a predicate
    assert ids("score <= 2") == ["a", "b"]
    assert ids("score is null") == ["c"]
    assert ids("lang in ('en') and id >= 'c'") == ["c", "e"]
    both = query(
        connection, "select a.id from docs a join docs b on a.id = b.id where b.lang = 'en'"
    ).read_all()
    assert both.num_rows == 3
