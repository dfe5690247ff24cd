"""Rows counted by DuckDB: by source, language, year and domain, and histograms of every number with a threshold.

Only the columns a query names are read. The values of a column are counted at most _ROWS_PER_BUCKET rows at a time: a
larger dataset is counted bucket by bucket of the values' hash, each with a look of its own at the column.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from curate.io.query import query
from curate.report.facts import KEPT, Facts, Key
from curate.report.rules import Rule

TOP = 30  # values of a dimension that are listed; the rest are counted together
BINS = 48
_ROWS_PER_BUCKET = 20_000_000

_DOMAIN = r"regexp_replace(lower(regexp_extract({url}, '^[A-Za-z][A-Za-z0-9+.-]*://(?:[^/@?#]*@)?([^/:?#]+)', 1)), '^www[.]', '')"
_YEAR = r"regexp_extract(CAST({date} AS VARCHAR), '^(\d{{4}})', 1)"


class Value(msgspec.Struct, kw_only=True):
    """One value of a dimension: its rows kept, and those dropped by number of reason."""

    name: str  # '' where the row has none
    kept: int = 0
    dropped: dict[int, int] = {}
    others: int = 0  # 0, or how many values are counted together here

    @property
    def rows(self) -> int:
        return self.kept + sum(self.dropped.values())


class Dimension(msgspec.Struct, kw_only=True):
    name: str
    values: list[Value]


class Mark(msgspec.Struct, kw_only=True):
    """A threshold in a histogram."""

    reason: str
    bound: float | None  # None: another one for each language
    keeps: Literal["min", "max"]
    dropped: int  # rows that this rule dropped


class Histogram(msgspec.Struct, kw_only=True):
    """Rows in bins between `edges`; the outer bins hold what lies beyond them."""

    column: str
    stage: str
    marks: list[Mark]
    log: bool
    edges: list[float]
    kept: list[int]
    here: list[int]  # dropped by a rule on this very column
    elsewhere: list[int]  # dropped by another one
    nothing: int  # rows that have no value here


def columns_of(connection: Any, view: str) -> dict[str, str]:
    """Column -> DuckDB's type."""
    rows = query(connection, f"SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM {view})")
    table = rows.read_all()
    return dict(zip(table[0].to_pylist(), table[1].to_pylist(), strict=True))


def rows_of(connection: Any, sql: str) -> list[tuple[Any, ...]]:
    """All rows of a SELECT."""
    table = query(connection, sql).read_all()
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def quoted(name: str) -> str:
    """A column's name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    """A text in SQL."""
    return "'" + value.replace("'", "''") + "'"


class Counter:
    """Asks the views `docs` and `dropped` of a dataset."""

    def __init__(self, connection: Any, facts: Facts) -> None:
        self._connection, self._facts = connection, facts
        self._columns = {view: columns_of(connection, view) for view in ("docs", "dropped")}
        self._keys: list[Key] = list(facts.dropped)
        rows = facts.result.rows.kept + sum(facts.dropped.values())
        self._buckets = 1 + rows // _ROWS_PER_BUCKET

    def dimensions(self) -> list[Dimension]:
        """Language, source, year and domain: those of which there is something to say."""
        expressions = {
            "language": self._first("lang"),
            "source": self._first("source"),
            "year": self._first("date", "extract_date", template=_YEAR),
            "domain": self._first("url", template=_DOMAIN),
        }
        found = [self._dimension(name, sql) for name, sql in expressions.items() if any(sql.values())]
        return [one for one in found if len(one.values) > 1]

    def _first(self, *names: str, template: str = "") -> dict[str, str]:
        """View -> the first of the columns that is not null; '' where it has none."""
        found = {}
        for view, columns in self._columns.items():
            parts = [f"NULLIF(CAST({quoted(n)} AS VARCHAR), '')" for n in names if n in columns]
            sql = f"COALESCE({', '.join(parts)})" if parts else ""
            found[view] = template.format(url=sql, date=sql) if sql and template else sql
        return found

    def _dimension(self, name: str, sql: dict[str, str]) -> Dimension:
        both = " UNION ALL ".join(
            f"SELECT COALESCE({sql[view] or 'NULL'}, '') AS v, {key} FROM {view}"
            for view, key in (("docs", "'' AS s, '' AS r"), ("dropped", "drop_stage AS s, drop_reason AS r"))
        )
        top: list[tuple[str, int]] = []
        distinct = 0
        for bucket in range(self._buckets):
            where = f"WHERE hash(v) % {self._buckets} = {bucket}" if self._buckets > 1 else ""
            rows = rows_of(
                self._connection,
                f"SELECT v, count(*) AS n, count(*) OVER () AS d FROM ({both}) {where} GROUP BY v ORDER BY n DESC, v LIMIT {TOP}",
            )
            distinct += rows[0][2] if rows else 0
            top = sorted([*top, *((v, n) for v, n, _ in rows)], key=lambda row: (-row[1], row[0]))[:TOP]
        listed = ", ".join("'" + v.replace("'", "''") + "'" for v, _ in top)
        rows = rows_of(
            self._connection,
            f"SELECT CASE WHEN v IN ({listed}) THEN v END AS v, s, r, count(*) FROM ({both}) GROUP BY ALL",
        )
        values = {v: Value(name=v, dropped={}) for v, _ in top}
        rest = Value(name="", dropped={}, others=distinct - len(top))
        seen: dict[Key, int] = {}
        for v, stage, reason, count in rows:
            value, key = rest if v is None else values[v], (stage, reason)
            seen[key] = seen.get(key, 0) + count
            if key == KEPT:
                value.kept += count
            elif key in self._keys:
                number = self._keys.index(key)
                value.dropped[number] = value.dropped.get(number, 0) + count
        self._facts.check(seen, f"by {name}")
        ordered = sorted(values.values(), key=lambda value: value.name) if name == "year" else values.values()
        return Dimension(name=name, values=[*ordered, *([rest] if rest.others else [])])

    def histograms(self, rules: Iterable[Rule], scores: Mapping[str, str] | None = None) -> list[Histogram]:
        """One for each column that has a threshold and is in the data, and for each of `scores`: column -> its step."""
        by_column: dict[str, list[Rule]] = {}
        for rule in rules:
            by_column.setdefault(rule.column, []).append(rule)
        found = [self._histogram(column, marks[0].stage, marks) for column, marks in by_column.items()]
        found += [self._histogram(column, stage, []) for column, stage in (scores or {}).items()]
        return [one for one in found if one]

    def _histogram(self, column: str, stage: str, rules: Sequence[Rule]) -> Histogram | None:
        views = [view for view, columns in self._columns.items() if column in columns]
        if not views:
            return None
        blamed = (
            " OR ".join(
                f"(drop_stage = {literal(rule.stage)} AND drop_reason = {literal(rule.reason)})"
                for rule in rules
            )
            or "FALSE"
        )
        side = {"docs": "0", "dropped": f"CASE WHEN {blamed} THEN 1 ELSE 2 END"}
        both = " UNION ALL ".join(
            f"SELECT CAST({quoted(column)} AS DOUBLE) AS v, {side[view]} AS side FROM {view}"
            for view in views
        )
        low, high, near, far, whole = rows_of(
            self._connection,
            f"""SELECT min(v), max(v), approx_quantile(v, 0.002), approx_quantile(v, 0.99), bool_and(v = floor(v))
            FROM (SELECT CASE WHEN isfinite(v) THEN v END AS v FROM ({both}))""",
        )[0]
        if low is None:
            return None
        bounds = [rule.bound for rule in rules if rule.bound is not None]
        log = low >= 0 and max([far, *bounds]) > 50 * max(near, 1) and whole
        edges = _edges(low, high, near, far, bounds, log, whole)
        value = "log10(v + 1)" if log else "v"
        first, last = ((math.log10(e + 1) if log else e) for e in (edges[0], edges[-1]))
        bins = len(edges) - 1
        number = f"least({bins - 1}, greatest(0, CAST(floor(({value} - {first!r}) / {(last - first) / bins!r} + 1e-6) AS INTEGER)))"
        counts = [[0] * bins for _ in range(3)]
        for which, at, rows in rows_of(
            self._connection,
            f"SELECT side, {number} AS bin, count(*) FROM ({both}) WHERE isfinite(v) GROUP BY ALL",
        ):
            counts[which][at] = rows
        total = self._facts.result.rows.kept + sum(self._facts.dropped.values())
        marks = [
            Mark(reason=r.reason, bound=r.bound, keeps=r.keeps, dropped=self._facts.dropped.get((r.stage, r.reason), 0))
            for r in rules
        ]  # fmt: skip
        return Histogram(
            column=column, stage=stage, marks=marks, log=log, edges=edges, kept=counts[0], here=counts[1],
            elsewhere=counts[2], nothing=total - sum(map(sum, counts)),
        )  # fmt: skip


def _edges(
    low: float, high: float, near: float, far: float, bounds: Sequence[float], log: bool, whole: bool
) -> list[float]:
    """Edges of bins between all but the outermost values, the first threshold on an edge."""
    start, stop = min([max(low, near), *bounds]), max([min(high, far), *bounds])
    on_edge = bounds[0] if bounds else start
    if log:
        width = (math.log10(stop + 1) - math.log10(start + 1) or 1) / BINS
        at = math.log10(on_edge + 1)
        first = at - math.ceil((at - math.log10(start + 1)) / width - 1e-9) * width
        return [10 ** (first + i * width) - 1 for i in range(BINS + 2)]
    if whole and stop - start < 2 * BINS:
        return [math.floor(start) + float(i) for i in range(math.floor(stop) - math.floor(start) + 2)]
    stop += (stop - start) * 0.04 or 1.0
    width = (stop - start) / BINS
    first = on_edge - math.ceil((on_edge - start) / width - 1e-9) * width
    return [first + i * width for i in range(BINS + 2)]
