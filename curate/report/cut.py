"""What a cut on a score would do, before anything is dropped: rows and tokens by source, language, length and year."""

import heapq
import math
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import ConfigError
from curate.io import hive
from curate.io.query import open_dataset, query
from curate.io.side import Side
from curate.report.counts import columns_of, quoted
from curate.report.documents import CHARS_PER_TOKEN, kept_files, stream
from curate.report.facts import Facts, side_plans
from curate.schema import CORE

BESIDE = 20  # documents shown on each side of the line
TOP = 50  # values of a group that are listed; the rest are counted together
_VALUES_HELD = 1_000_000  # scores sorted at once; where there are more, the range is narrowed bin by bin
_BINS = 1000
_NUMBERS = ("INT", "FLOAT", "DOUBLE", "DECIMAL", "REAL")
_YEAR = r"regexp_extract(CAST({} AS VARCHAR), '^(\d{{4}})', 1)"
TEXT_CHARS = 200


class Group(msgspec.Struct, kw_only=True):
    """Rows of one value of a column, and what the cut would keep of them."""

    name: str
    rows: int
    kept: int
    tokens: float
    kept_tokens: float
    middle: float | None  # median score
    others: int = 0  # 0, or how many values are counted together here


class Beside(msgspec.Struct, kw_only=True):
    """A document next to the line."""

    id: str
    score: float
    kept: bool
    source: str
    lang: str
    text: str


class Cut(msgspec.Struct, kw_only=True):
    """What `curate threshold --json` prints."""

    schema: str = "curate.threshold/1"
    output: str
    score: str
    cut: float  # rows with this score and better stay
    keeps: Literal["high", "low"]
    of: Literal["rows", "tokens"]
    asked: float | None  # share asked for; null where the cut itself was given
    rows: int
    kept: int
    nulls: int  # rows without a score, null or NaN: they go
    tokens: float
    kept_tokens: float
    tokens_counted: bool
    groups: dict[str, list[Group]]  # source, language, length, year
    beside: list[Beside]  # the nearest above the line, then below, nearest first
    where: str  # for the recipe

    @property
    def kept_share(self) -> float:
        return self.kept / self.rows if self.rows else 0.0


class Cutter:
    """Asks the kept rows of a dataset; nothing is changed."""

    def __init__(
        self, facts: Facts, score: str, low: bool = False, sides: Sequence[Side] = (), scratch: str = ""
    ) -> None:
        self._facts, self._score, self._low = facts, score, low
        side_plans(sides)  # all of them local
        self._connection = open_dataset(facts.folder, sides, scratch)
        self._columns = columns_of(self._connection, "docs")
        parts = kept_files(facts.folder)
        self._schema: pa.Schema = hive.schema_of(parts[0]) if parts else pa.schema(CORE)
        self._check_score()
        self._value = (
            f"NULLIF(CAST({quoted(score)} AS DOUBLE), {_sql(float('nan'))})"  # to DuckDB the largest
        )
        counted = "token_count" in self._columns
        self.counted = counted and bool(facts.result.tokens)
        self._tokens = (
            "COALESCE(token_count, 0)" if self.counted else f"ceil(length(text) / {CHARS_PER_TOKEN})"
        )

    def _check_score(self) -> None:
        import difflib

        numbers = [name for name, kind in self._columns.items() if kind.startswith(_NUMBERS) or "INT" in kind]
        if self._score in numbers:
            return
        near = difflib.get_close_matches(self._score, numbers, 1)
        what = "is not a number" if self._score in self._columns else "is not there"
        hint = (
            f"did you mean `{near[0]}`?" if near else "columns of numbers: " + (", ".join(numbers) or "none")
        )
        raise ConfigError(f"`{self._score}` {what} in {self._facts.folder}", hint=hint)

    def _query(self, sql: str) -> pa.RecordBatchReader:
        """Ask `docs` once, with the columns whose names stand in the query."""
        if set(self._columns) <= set(self._schema.names):  # else side columns or a folder's name bring more
            named = [field for field in self._schema if field.name in sql] or [self._schema.field("id")]
            self._connection.register("docs", stream(self._facts.folder, pa.schema(named)))
        return query(self._connection, sql)

    def _rows(self, sql: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._query(sql).read_all().to_pylist()
        return found

    def cut_for(self, share: float, of_tokens: bool) -> float:
        """The score at which the best `share` of rows or tokens stays: as many as fit, ties all in or all out."""
        weight = self._tokens if of_tokens else "1"
        sign = "-" if self._low else ""
        docs = f"(SELECT {sign}{self._value} AS v, CAST({weight} AS DOUBLE) AS n FROM docs WHERE {self._value} IS NOT NULL)"
        total = self._rows(f"SELECT CAST(COALESCE(sum({weight}), 0) AS DOUBLE) AS n FROM docs")[0]["n"]
        limit = share * total * (1 + 1e-12)  # 0.29 * 100 is a little less than 29
        span = self._rows(
            f"""SELECT min(v) AS low, max(v) AS high, count(*) AS rows, COALESCE(min(v) FILTER (isfinite(v)), 0) AS first,
            COALESCE(max(v) FILTER (isfinite(v)), 0) AS last FROM {docs}"""
        )[0]
        if not span["rows"]:
            raise ConfigError(
                f"`{self._score}` has no value in any row", hint="choose another score, or run its stage"
            )
        low, high, above = self._narrowed(docs, span, limit)
        found = self._rows(
            f"""SELECT v, {above!r} + sum(n) OVER (ORDER BY v DESC) AS upto FROM (SELECT v, sum(n) AS n FROM {docs}
            WHERE v BETWEEN {_sql(low)} AND {_sql(high)} GROUP BY v) QUALIFY upto <= {limit!r} ORDER BY v LIMIT 1"""
        )
        if not found and above:  # the line falls between two bins
            found = self._rows(f"SELECT min(v) AS v FROM {docs} WHERE v > {_sql(high)}")
        if not found:
            best = -span["high"] if self._low else span["high"]
            raise ConfigError(
                f"the best score alone, {best:g}, is more than {share:.2%} of the {'tokens' if of_tokens else 'rows'}",
                hint="choose a larger share: many rows have the same score",
            )
        return -float(found[0]["v"]) if self._low else float(found[0]["v"])

    def _narrowed(self, docs: str, span: dict[str, Any], limit: float) -> tuple[float, float, float]:
        """The range that the line falls into, of few enough values, and the weight above it; infinities are bins too."""
        low, high, rows, above = span["low"], span["high"], span["rows"], 0.0
        first, last = span["first"], span["last"]
        while rows > _VALUES_HELD and high > low:
            width = last / _BINS - first / _BINS or sys.float_info.min
            bins = self._rows(
                f"""SELECT CASE WHEN isfinite(v) THEN CAST(least({_BINS - 1}, floor((v - {_sql(first)}) / {_sql(width)})) AS INTEGER)
                WHEN v > 0 THEN {_BINS} ELSE -1 END AS bin, min(v) AS low, max(v) AS high, count(*) AS rows, sum(n) AS n
                FROM {docs} WHERE v BETWEEN {_sql(low)} AND {_sql(high)} GROUP BY bin ORDER BY bin DESC"""
            )
            for one in bins:
                low, high, rows = one["low"], one["high"], one["rows"]
                if above + one["n"] > limit or one is bins[-1]:
                    break
                above += one["n"]
            first, last = low, high
        return low, high, above

    def apply(self, cut: float, *, asked: float | None = None, of_tokens: bool = False) -> Cut:
        """Everything about one cut."""
        if math.isnan(cut):
            raise ConfigError("nan is no cut", hint="--at 0.018")
        cut = max(
            -sys.float_info.max, min(sys.float_info.max, cut)
        )  # neither JSON nor a predicate has infinity
        test = f"{'<=' if self._low else '>='} {cut!r}"
        if cut == (sys.float_info.max if self._low else -sys.float_info.max):
            test = "is not null"  # the worst infinity too
        stays = f"COALESCE(({self._value}) {test}, false)"
        whole = next(iter(self._groups("'all'", stays)), _NO_ROWS)
        nulls = self._rows(f"SELECT count(*) AS n FROM docs WHERE {self._value} IS NULL")[0]["n"]
        odd = self._rows(
            f"SELECT count(*) AS n FROM docs WHERE isnan(CAST({quoted(self._score)} AS DOUBLE))"
        )[0]["n"]
        numbers = f" and not isnan({self._score})" if odd else ""
        groups = {name: self._groups(sql, stays) for name, sql in self._dimensions().items()}
        return Cut(
            output=str(self._facts.folder), score=self._score, cut=cut, keeps="low" if self._low else "high",
            of="tokens" if of_tokens else "rows", asked=asked, rows=whole.rows, kept=whole.kept, nulls=nulls,
            tokens=whole.tokens, kept_tokens=whole.kept_tokens, tokens_counted=self.counted, groups=groups,
            beside=list(self._beside(cut)),
            where=f"{self._score} {test}{numbers}",
        )  # fmt: skip

    def _dimensions(self) -> dict[str, str]:
        """Group -> SQL of its value; the length is in powers of two and a half or so: 0-499, 500-1,999, ..."""
        found = {}
        for name, column in (("source", "source"), ("language", "lang")):
            if column in self._columns:
                found[name] = f"COALESCE(CAST({quoted(column)} AS VARCHAR), '')"
        edges = (500, 2000, 5000, 20000, 100000)
        cases = " ".join(
            f"WHEN length(text) < {e} THEN '{i} {_below(edges, i)}'" for i, e in enumerate(edges)
        )
        found["length"] = (
            f"CASE {cases} WHEN text IS NULL THEN '' ELSE '{len(edges)} {_below(edges, len(edges))}' END"
        )
        dates = [n for n in ("date", "extract_date") if n in self._columns]
        if dates:
            both = ", ".join(f"NULLIF(CAST({quoted(n)} AS VARCHAR), '')" for n in dates)
            found["year"] = _YEAR.format(f"COALESCE({both}, '')")
        return found

    def _groups(self, value: str, stays: str) -> list[Group]:
        top = self._rows(
            f"SELECT {value} AS v, count(*) AS n, count(*) OVER () AS d FROM docs GROUP BY 1 ORDER BY n DESC, v LIMIT {TOP}"
        )
        listed = ", ".join("'" + row["v"].replace("'", "''") + "'" for row in top)
        rows = self._rows(
            f"""SELECT CASE WHEN v IN ({listed}) THEN v END AS name, count(*) AS rows, count(*) FILTER (stays) AS kept,
            CAST(COALESCE(sum(n), 0) AS DOUBLE) AS tokens, CAST(COALESCE(sum(n) FILTER (stays), 0) AS DOUBLE) AS kept_tokens,
            approx_quantile(score, 0.5) AS middle
            FROM (SELECT {value} AS v, {stays} AS stays, {self._tokens} AS n, {self._value} AS score FROM docs)
            GROUP BY 1 ORDER BY name IS NULL, rows DESC, name"""
        ) if top else []  # fmt: skip
        others = top[0]["d"] - len(top) if top else 0
        return [
            Group(**{**row, "name": row["name"] or "", "others": others * (row["name"] is None)})
            for row in rows
        ]

    def _beside(self, cut: float) -> Iterator[Beside]:
        """The documents nearest to the line: first those that would stay."""
        import xxhash

        keep: list[tuple[float, int, Beside]] = []
        drop: list[tuple[float, int, Beside]] = []
        names = [n for n in ("id", "source", "lang") if n in self._columns]
        columns = ", ".join(map(quoted, names))
        reader = self._query(
            f"SELECT {columns}, {self._value} AS v, left(text, {TEXT_CHARS * 2}) AS text FROM docs",
        )
        for batch in reader:
            batch = batch.filter(pc.is_finite(batch["v"]))  # infinity is near to nothing
            for side, heap in ((pc.greater_equal, keep), (pc.less, drop)):
                if self._low:
                    side = {pc.greater_equal: pc.less_equal, pc.less: pc.greater}[side]
                rows = batch.filter(side(batch["v"], cut))
                distance = pc.abs(pc.subtract(rows["v"], cut))
                for at in (
                    pc.select_k_unstable(distance, BESIDE, [("", "ascending")]).to_pylist()
                    if len(rows)
                    else ()
                ):
                    row = rows.slice(at, 1).to_pylist()[0]
                    rank = (-distance[at].as_py(), xxhash.xxh3_64_intdigest(row["id"]))
                    if len(heap) < BESIDE or rank > heap[0][:2]:
                        push = heapq.heappush if len(heap) < BESIDE else heapq.heapreplace
                        push(heap, (*rank, self._document(row, heap is keep)))
        for heap in (keep, drop):
            yield from (one for _, _, one in sorted(heap, key=lambda item: item[:2], reverse=True))

    @staticmethod
    def _document(row: dict[str, Any], kept: bool) -> Beside:
        text = " ".join((row["text"] or "").split())[:TEXT_CHARS]
        return Beside(
            id=row["id"], score=row["v"], kept=kept, source=row.get("source") or "", lang=row.get("lang") or "", text=text
        )  # fmt: skip


def _sql(number: float) -> str:
    return f"CAST('{number!r}' AS DOUBLE)"


_NO_ROWS = Group(name="", rows=0, kept=0, tokens=0.0, kept_tokens=0.0, middle=None)


def _below(edges: tuple[int, ...], number: int) -> str:
    low = edges[number - 1] if number else 0
    return f"{low:,}-{edges[number] - 1:,}" if number < len(edges) else f"{low:,} and more"
