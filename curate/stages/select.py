"""Keep the rows for which a predicate is true; the one map stage that drops.

Reads   the columns that `where` names
Writes  nothing; dropped rows carry drop_stage, drop_reason, drop_value and drop_threshold
Rows    kept in order; dropped where the first of the conditions joined by AND is not true (null is not true).
        Rows outside the step's `when` are kept
Fails   ConfigError for a predicate that is not one expression over known columns, literals, comparisons and the
        functions of `curate.io.expression`; DataError naming the row where it cannot be evaluated (a bad cast)

A dropped row names the stage to blame. `gopher_quality_pass`: that stage, its reason, value and threshold. `lang = 'en'`:
the stage that wrote `lang` ("input" where the file brought it), the condition, the row's value and the literal (both
null where they are not numbers). Anything else: `select` and the condition.
Numbers compare as in DuckDB: NaN is larger than every number, so `score >= 0.5` keeps it; x / 0 is null.

Besides and, or, not, in, between, like, is null, case, cast, try_cast and arithmetic there are the functions of
`curate.io.expression`, among them: abs round floor ceil least greatest coalesce isnan, length lower upper trim left
right replace contains starts_with ends_with split_part regexp_matches regexp_extract, len list_contains list_has_any
list_max, json_extract_string (extra->>'key'), date_part date_diff strptime. Nothing random, no clock, no file.
"""

from collections.abc import Mapping

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import ConfigError
from curate.io.query import Conjunct, Predicate
from curate.schema import DROP
from curate.stage import stage


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    where: str  # predicate that a row must meet, for example "lang = 'en' and lang_score >= 0.65"


class Selector:
    """A `where` compiled for the columns at hand. `writers`: column -> recipe step that wrote it.

    Rows for which `when` is not true are kept; what `where` says of them is never asked.
    """

    def __init__(
        self, where: str, columns: Mapping[str, pa.DataType], writers: Mapping[str, str], when: str = ""
    ) -> None:
        taken = [name for name in DROP if name in columns]
        if taken:
            raise ConfigError(
                f"the input brings the column `{taken[0]}`, which dropped rows need",
                hint=f"rename it in the recipe: input.columns: {{old_{taken[0]}: {taken[0]}}}",
            )
        self.predicate = Predicate(where, columns)
        self._when = Predicate(when, columns) if when else None
        self._writers = dict(writers)

    def split(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.RecordBatch]:
        """(kept, dropped), each in the order of the batch; dropped has the DROP columns beside its own."""
        first = self._first_failure(batch)
        kept = first == -1
        if kept.all():
            return batch, _with_reasons(batch.slice(0, 0), [])
        dropped, first = batch.filter(pa.array(~kept)), first[~kept]
        by_conjunct = np.argsort(first, kind="stable")
        reasons = []
        for index in np.unique(first):
            rows = dropped.filter(pa.array(first == index))
            reasons.append(self._blame(rows, self.predicate.conjuncts[index]))
        back = np.argsort(by_conjunct, kind="stable")  # from conjunct by conjunct to the order of the rows
        return batch.filter(pa.array(kept)), _with_reasons(dropped, reasons, pa.array(back))

    def _first_failure(self, batch: pa.RecordBatch) -> npt.NDArray[np.int32]:
        """Index (n,) of the first conjunct that is not true, -1 where all are or `when` is not."""
        if self._when is None:
            return self.predicate.first_failure(batch)
        inside = self._when.mask(batch)
        first = np.full(batch.num_rows, -1, np.int32)
        first[inside] = self.predicate.first_failure(batch.filter(pa.array(inside)))
        return first

    def _blame(self, rows: pa.RecordBatch, conjunct: Conjunct) -> pa.RecordBatch:
        """DROP columns for rows that this conjunct dropped."""
        nothing = pa.nulls(rows.num_rows, pa.float64())
        stage_name, reason, value, threshold = (
            "select",
            pa.nulls(rows.num_rows, pa.string()),
            nothing,
            nothing,
        )
        if len(conjunct.flag) > 5 and conjunct.flag.endswith("_pass"):
            stage_name = conjunct.flag.removesuffix("_pass")
            reason = _column(rows, f"{stage_name}_reason", pa.string())
            value = _column(rows, f"{stage_name}_value", pa.float64())
            threshold = _column(rows, f"{stage_name}_threshold", pa.float64())
        elif conjunct.column:
            stage_name = self._writers.get(conjunct.column, "input")
            value = _column(rows, conjunct.column, pa.float64())
            if isinstance(conjunct.literal, float):
                threshold = pa.repeat(conjunct.literal, rows.num_rows)
        columns = {
            "drop_stage": pa.repeat(stage_name, rows.num_rows),
            "drop_reason": pc.fill_null(reason, conjunct.text),
            "drop_value": value,
            "drop_threshold": threshold,
            "kept_id": pa.nulls(rows.num_rows, pa.string()),
        }
        return pa.record_batch(columns, schema=pa.schema(DROP))


def _column(rows: pa.RecordBatch, name: str, kind: pa.DataType) -> pa.Array:
    """The column as `kind` (a number or text), nulls where it is missing or holds something else."""
    column = rows.column(name) if name in rows.schema.names else pa.nulls(rows.num_rows)
    is_number = (
        pa.types.is_integer(column.type)
        or pa.types.is_floating(column.type)
        or pa.types.is_decimal(column.type)
    )
    is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    fits = is_text if kind == pa.string() else is_number
    return column.cast(kind, safe=False) if fits else pa.nulls(rows.num_rows, kind)


def _with_reasons(
    rows: pa.RecordBatch, reasons: list[pa.RecordBatch], order: pa.Array | None = None
) -> pa.RecordBatch:
    table = pa.Table.from_batches(reasons, schema=pa.schema(DROP))
    table = table if order is None else table.take(order)
    for name in DROP:
        rows = rows.append_column(
            name, pa.concat_arrays(table[name].chunks) if reasons else table[name].combine_chunks()
        )
    return rows


@stage("select", version=1, config=Config, reads=[], writes={}, libraries=["duckdb"])
def select(batch: pa.RecordBatch, config: Config) -> pa.RecordBatch:
    """The rows kept. The engine uses `Selector`, which compiles once and also returns the dropped rows."""
    columns = dict(zip(batch.schema.names, batch.schema.types, strict=True))
    kept, _ = Selector(config.where, columns, {}).split(batch)
    return kept
