"""The one door to DuckDB: predicates over a batch, and a read-only look into an output folder.

A predicate is one expression over columns, literals, comparisons and the functions of `expression.FUNCTIONS`. DuckDB's
own parser reads it, the allowlist walks the tree, and a locked connection without files, network or Python variables
runs it.
"""

import glob
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.errors import ConfigError, DataError
from curate.io import expression, hive
from curate.io.side import Side
from curate.schema import CORE, DROP, QUARANTINE

JOIN_MEMORY = "1GB"
_DOCS = ("part-*.parquet", "*=*/**/part-*.parquet", "part-*.arrow", "*=*/**/part-*.arrow")
ANSWER_ROWS = 2048  # of a batch; DuckDB would make one of a million, whatever their size
MAX_CHARS = 100_000
MAX_BRACKETS = 500  # DuckDB's parser needs quadratic time for brackets that never close
MAX_DEPTH = 100

_PREFIX = "SELECT ((\n"  # two brackets: nothing that closes one of them leaves a valid statement behind
_VIEW = "curate batch"
_SLIPS = {"&&": "and", "||": "or", "==": "="}  # of other languages
_EXAMPLE = "a predicate is one SQL expression: \"lang = 'en' and lang_score > 0.5\""


@dataclass(frozen=True)
class Conjunct:
    """One of the conditions that a predicate joins by AND at its top level."""

    text: str  # as written; in DuckDB's spelling where it does not stand by itself in the text
    flag: str = ""  # the column, where the conjunct is a column alone
    column: str = ""  # the column, where it is `column <op> literal`, in either order
    literal: float | str | bool | None = None


class Predicate:
    """A predicate compiled once per worker for the columns at hand; ConfigError for whatever is refused."""

    def __init__(self, where: str, columns: Mapping[str, pa.DataType]) -> None:
        import duckdb

        self._where = where
        self._connection = _connect(
            f"SET max_expression_depth = {MAX_DEPTH}",
            "SET error_on_division_by_zero = false; SET ieee_floating_point_ops = false",  # x / 0 is null, not inf or NaN
        )
        try:
            tree = self._parse()
            self.columns: tuple[str, ...] = tuple(dict.fromkeys(expression.check(tree, columns)))
            if not self.columns:
                raise ConfigError("it names no column", hint=_EXAMPLE)
            parts = tree["children"] if tree["type"] == "CONJUNCTION_AND" else [tree]
            self.conjuncts: tuple[Conjunct, ...] = tuple(self._conjunct(part, columns) for part in parts)
            cases = " ".join(f"WHEN ({c.text}) IS NOT TRUE THEN {i}" for i, c in enumerate(self.conjuncts))
            self._sql = f'SELECT CAST(CASE {cases} ELSE -1 END AS INTEGER) AS first FROM "{_VIEW}"'
            self._try_types({name: columns[name] for name in self.columns})
        except ConfigError as error:
            unknown = error.what.removeprefix("unknown column `").rstrip("`")
            if f'"{unknown}"' in where:
                error.hint += f"; a text stands in single quotes: '{unknown}'"
            slip = next((f"write `{word}`" for mark, word in _SLIPS.items() if mark in where), "")
            raise ConfigError(f"predicate `{_short(where)}`: {error.what}", hint=slip or error.hint) from None
        except duckdb.Error as error:
            hint = "cast one side, for example TRY_CAST(x AS DOUBLE)"
            raise ConfigError(f"predicate `{_short(where)}`: {_first_line(error)}", hint=hint) from None

    def mask(self, batch: pa.RecordBatch) -> npt.NDArray[np.bool_]:
        """Rows (n,) where every conjunct is true; null is not true."""
        return np.equal(self.first_failure(batch), -1)

    def first_failure(self, batch: pa.RecordBatch) -> npt.NDArray[np.int32]:
        """Index (n,) of the first conjunct that is not true, -1 where all are. DataError naming the row on a bad cast."""
        import duckdb

        if batch.num_rows == 0:
            return np.zeros(0, np.int32)
        try:
            return self._evaluate(batch)
        except (duckdb.DataError, duckdb.InvalidInputException) as error:
            row = self._first_bad_row(batch)
            name = batch["id"][row].as_py() if "id" in batch.schema.names else row
            raise DataError(
                f"predicate `{_short(self._where)}` cannot be evaluated on row `{name}`: {_first_line(error)}",
                hint="write TRY_CAST(x AS type) or TRY(expression): null drops the row instead of stopping the run",
            ) from None

    def _evaluate(self, batch: pa.RecordBatch) -> npt.NDArray[np.int32]:
        self._connection.register(_VIEW, pa.Table.from_batches([batch.select(list(self.columns))]))
        first = self._connection.execute(self._sql).fetchnumpy()["first"]
        self._connection.unregister(_VIEW)  # or the connection keeps the batch alive
        return np.asarray(first, np.int32)

    def _first_bad_row(self, batch: pa.RecordBatch) -> int:
        import duckdb

        low, high = 0, batch.num_rows  # the first bad row is in [low, high)
        while high - low > 1:
            middle = (low + high) // 2
            try:
                self._evaluate(batch.slice(low, middle - low))
                low = middle
            except duckdb.Error:
                high = middle
        return low

    def _try_types(self, types: Mapping[str, pa.DataType]) -> None:
        """Run each conjunct on one row of nulls: binds every type and folds every constant."""
        nulls = pa.record_batch([pa.nulls(1, kind) for kind in types.values()], schema=pa.schema(types))
        self._connection.register(_VIEW, pa.Table.from_batches([nulls]))
        listed = ", ".join(f"({c.text}) AS c{i}" for i, c in enumerate(self.conjuncts))
        found = self._connection.sql(f'SELECT {listed} FROM "{_VIEW}"').to_arrow_table().schema
        for conjunct, field in zip(self.conjuncts, found, strict=True):
            if not pa.types.is_boolean(field.type):
                raise ConfigError(
                    f"`{_short(conjunct.text)}` is {field.type}, not true or false", hint=_EXAMPLE
                )
        self._evaluate(nulls)

    def _parse(self) -> dict[str, Any]:
        text = self._where
        if "\0" in text or not _is_unicode(text):
            raise ConfigError("it is not text", hint="write it in UTF-8, without NUL")
        if len(text) > MAX_CHARS or sum(map(text.count, "([{")) > MAX_BRACKETS:
            raise ConfigError("it is too long or too deep", hint="write several selects, one after another")
        parsed = self._serialize(f"{_PREFIX}{text}\n))")
        if not parsed["error"]:
            return expression.only_expression(parsed)
        message = _first_line(parsed["error_message"])
        if "position" not in parsed:  # too deep, or statements other than SELECT
            raise ConfigError(
                "it is too deep" if "depth" in message else "it is more than one expression", hint=_EXAMPLE
            )
        before = text.encode()[: max(0, int(parsed["position"]) - len(_PREFIX))].decode(errors="ignore")
        if not text[len(before) :].strip():
            raise ConfigError("something is missing at its end", hint=_EXAMPLE)
        raise ConfigError(f"{message} at character {len(before) + 1}", hint=_EXAMPLE)

    def _conjunct(self, node: dict[str, Any], columns: Mapping[str, pa.DataType]) -> Conjunct:
        text = self._text_of(node)
        if expression.is_column(node):
            return Conjunct(text, flag=expression.resolve(node["column_names"], columns))
        if node["class"] == "COMPARISON":
            for side, other in ((node["left"], node["right"]), (node["right"], node["left"])):
                value = other["child"] if other["class"] == "CAST" else other
                if expression.is_column(side) and value["class"] == "CONSTANT":
                    column = expression.resolve(side["column_names"], columns)
                    return Conjunct(text, column=column, literal=expression.literal(value))
        return Conjunct(text)

    def _text_of(self, node: dict[str, Any]) -> str:
        """The user's own words where they alone mean the same, else DuckDB's spelling of the tree."""
        start, end = expression.span(node)
        written = f"{_PREFIX}{self._where}".encode()[start:end].decode(errors="replace")
        if self._means(written, node):
            return written
        document = json.dumps(expression.as_select(node))
        found = self._connection.execute(
            "SELECT json_deserialize_sql(CAST(? AS JSON))", [document]
        ).fetchall()
        spelled = str(found[0][0]).removeprefix("SELECT ")
        for text in (spelled[1:-1], spelled):  # it writes one more pair of brackets than it needs
            if self._means(text, node):
                return text
        raise ConfigError("DuckDB cannot spell it back", hint="write it in a simpler way")

    def _means(self, text: str, node: dict[str, Any]) -> bool:
        parsed = self._serialize(f"{_PREFIX}{text}))")
        if parsed["error"]:
            return False
        try:
            return bool(expression.meaning(expression.only_expression(parsed)) == expression.meaning(node))
        except ConfigError:
            return False

    def _serialize(self, sql: str) -> dict[str, Any]:
        call = "SELECT json_serialize_sql(?, skip_null := true, skip_empty := true, skip_default := true)"
        parsed: dict[str, Any] = json.loads(self._connection.execute(call, [sql]).fetchall()[0][0])
        return parsed


def open_dataset(folder: Path, sides: Sequence[Side] = (), scratch: str = "") -> Any:
    """A DuckDB connection with the views `docs, dropped, quarantine, journal` of an output folder. Ask it by `query`.

    It has no files at all, since a SELECT can write into any folder that DuckDB may read (`WITH t AS (COPY ...)`):
    pyarrow reads the parts for it, column by column, as a query needs them. `sides` add their columns to `docs`, by
    id; a join that outgrows JOIN_MEMORY goes on in the folder `scratch`.
    """
    entries = sorted(folder.resolve().glob("_curate/journal/**/*.json"))
    views = _views(folder)
    if not sides:
        return _open(folder, [_journal(entries)], views)
    views["curate corpus"] = views.pop("docs")
    for number, one in enumerate(sides):
        views[f"curate side {number}"] = _dataset(
            [Path(one.folder.address(name)).absolute() for name in one.parts], one.columns
        )
    before = [_journal(entries), f"SET memory_limit = '{JOIN_MEMORY}'"]
    return _open(folder, before, views, [_joined(sides)], scratch)


def _joined(sides: Sequence[Side]) -> str:
    numbers = range(len(sides))
    columns = ", ".join(f"s{n}.* EXCLUDE (id)" for n in numbers)
    joins = " ".join(f'LEFT JOIN "curate side {n}" s{n} ON c.id = s{n}.id' for n in numbers)
    return f'CREATE VIEW docs AS SELECT c.*, {columns} FROM "curate corpus" c {joins}'


def open_pair(a: Path, b: Path) -> Any:
    """The same for two folders at once: the views `a_docs`, `a_dropped`, ..., `b_docs`, ...; no journal."""
    views = {
        f"{name}_{view}": rows
        for name, folder in (("a", a), ("b", b))
        for view, rows in _views(folder).items()
    }
    return _open(a, [], views)


def _open(
    folder: Path, before: list[str], views: Mapping[str, Any], after: Sequence[str] = (), scratch: str = ""
) -> Any:
    import duckdb

    try:
        return _connect(*before, views=views, after=after, scratch=scratch)
    except duckdb.Error as error:
        raise _unreadable(folder, error) from None


def _unreadable(folder: Path, error: Exception) -> DataError:
    return DataError(f"{folder} cannot be read: {_first_line(error)}", hint="run `curate verify` on it")


def _views(folder: Path) -> dict[str, Any]:
    folder = folder.resolve()
    docs = next((found for names in _DOCS if (found := sorted(folder.glob(names)))), [])
    if not docs and not (folder / "_curate").is_dir():
        raise DataError(
            f"{folder} is not the output of a run", hint="it has neither part-*.parquet nor _curate/"
        )
    try:
        parts = _dataset(docs, pa.schema(CORE))
        return {
            "docs": parts,
            "dropped": _dataset(sorted(folder.glob("_dropped/**/part-*.parquet")), _with_drop(parts.schema)),
            "quarantine": _dataset(sorted(folder.glob("_quarantine/part-*.parquet")), QUARANTINE),
        }
    except pa.ArrowException as error:
        raise _unreadable(folder, error) from None


def query(connection: Any, sql: str) -> pa.RecordBatchReader:
    """Rows of one SELECT over the views of `open_dataset`; ConfigError for anything else."""
    import duckdb

    hint = "the views are docs, dropped, quarantine and journal; they are read, never changed"
    if not _is_unicode(sql):
        raise ConfigError("the query is not text", hint="write it in UTF-8")
    try:
        statements = connection.extract_statements(sql)
        if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
            raise ConfigError("only one SELECT is allowed", hint=hint)
        found = connection.sql(statements[0].query).to_arrow_reader(ANSWER_ROWS)
    except duckdb.Error as error:
        raise ConfigError(f"the query failed: {str(error).strip()}", hint=hint) from None
    return pa.RecordBatchReader.from_batches(found.schema, _rows(found))


def _rows(found: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    try:
        yield from found
    except (
        OSError,
        pa.ArrowException,
    ) as error:  # so arrive a cast that fails and a part that cannot be read
        raise DataError(
            f"the query failed: {str(error).strip()}", hint="TRY_CAST gives null where a cast fails"
        ) from None


def _dataset(files: list[Path], empty: pa.Schema) -> Any:
    """The parts as one dataset, missing columns null; without rows and of the schema `empty` where there are none."""
    import pyarrow.dataset as ds
    import pyarrow.parquet as pq

    from curate.io.scan import Parts

    if not files:
        return empty.empty_table()
    if files[0].suffix == ".arrow":
        return ds.dataset([str(file) for file in files], format="ipc")
    first = {file.parent: file for file in reversed(files)}  # a folder has one schema, fixed at plan
    schemas = [pq.read_schema(file) for file in first.values()]
    kinds = pa.schema([(name, value.type) for name, value in hive.constants(schemas[0]).items()])
    union = pa.unify_schemas([hive.whole_schema(schema) for schema in schemas], promote_options="permissive")
    by_folder = ds.partitioning(kinds, flavor="hive") if len(kinds) else "hive"
    found = ds.dataset([str(file) for file in files], format="parquet", partitioning=by_folder)
    whole = pa.unify_schemas([union, found.schema], promote_options="permissive")
    return Parts(list(found.get_fragments()), whole, found.format, found.filesystem)


def _with_drop(schema: pa.Schema) -> pa.Schema:
    missing = {name: kind for name, kind in DROP.items() if name not in schema.names}
    return pa.unify_schemas([schema, pa.schema(missing)])


def _journal(files: list[Path]) -> str:
    if not files:
        return "CREATE TABLE journal (unit VARCHAR)"
    listed = ", ".join(_quoted(glob.escape(str(file))) for file in files)
    return f"CREATE TABLE journal AS FROM read_json([{listed}], union_by_name = true)"


def _connect(
    *before: str, views: Mapping[str, Any] | None = None, after: Sequence[str] = (), scratch: str = ""
) -> Any:
    """A connection in memory on one thread, locked once the statements have run."""
    import duckdb

    connection = duckdb.connect(":memory:", config={"threads": 1})
    for sql in before:
        connection.execute(sql)
    for name, source in (views or {}).items():
        connection.register(name, source)
    for sql in after:
        connection.execute(sql)
    connection.execute(
        f"""
        SET temp_directory = {_quoted(scratch)}; SET TimeZone = 'UTC';
        SET python_enable_replacements = false; SET allow_community_extensions = false;
        SET autoload_known_extensions = false; SET autoinstall_known_extensions = false;
        SET enable_external_access = false; SET lock_configuration = true;
        """
    )
    return connection


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}…"


def _first_line(error: object) -> str:
    return str(error).strip().partition("\n")[0]
