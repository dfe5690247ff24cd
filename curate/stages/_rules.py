"""What every stage made of thresholds does with its measurements: a verdict and one column per statistic."""

import math
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.errors import ConfigError

Values = npt.NDArray[np.float64]
Rule = tuple[str, str, str]  # reason, statistic, field of Config that bounds it: `min_...` or `max_...`


def check_bounds(config: msgspec.Struct, rules: Sequence[Rule]) -> None:
    """Refuse bounds that are negative, not a number, or that no document can meet together."""
    bounds = {field: getattr(config, field) for _, _, field in rules}
    for field, bound in bounds.items():
        if math.isnan(bound) or bound < 0:
            raise ConfigError(
                f"`{field}` must be 0 or more, not {bound}", hint=f"`{field}: {_off(field)}` turns it off"
            )
        if bound > bounds.get(field.replace("min_", "max_"), bound):
            high = field.replace("min_", "max_")
            raise ConfigError(f"`{field}` is above `{high}`: no document could pass", hint=f"raise `{high}`")


def _off(field: str) -> str:
    return "0" if field.startswith("min_") else ".inf"


def ratio(part: npt.NDArray[np.int64], whole: npt.NDArray[np.int64]) -> Values:
    """part / whole; NaN where there is no whole."""
    out = np.full(len(part), np.nan)
    np.divide(part, whole, out=out, where=whole != 0)
    return out


def judge(
    batch: pa.RecordBatch,
    name: str,
    writes: Mapping[str, pa.DataType],
    rules: Sequence[Rule],
    measured: Mapping[str, Values],
    config: msgspec.Struct,
    *,
    bounds: Mapping[str, Values] | None = None,
    refused: Mapping[str, npt.NDArray[np.bool_]] | None = None,
) -> pa.RecordBatch:
    """Append the verdict of stage `name` and its statistics (NaN is null) to the batch.

    The first rule whose statistic lies outside its bound is the reason. NaN fails no rule. `bounds` holds fields whose
    bound differs by row, `refused` the rows that fail before any rule, by reason, without value and threshold.
    """
    n = batch.num_rows
    bounds, refused = bounds or {}, refused or {}
    failing, value, threshold = np.full(n, -1), np.full(n, np.nan), np.full(n, np.nan)
    for number, rows in enumerate(refused.values(), len(rules)):
        failing[(failing < 0) & rows] = number
    for number, (_, statistic, field) in enumerate(rules):
        bound = np.broadcast_to(bounds.get(field, np.float64(getattr(config, field))), n)
        values = measured[statistic]
        failed = (failing < 0) & (values < bound if field.startswith("min_") else values > bound)
        failing[failed], value[failed], threshold[failed] = number, values[failed], bound[failed]
    passed = failing < 0
    reasons = pa.array([*(reason for reason, _, _ in rules), *refused], pa.string())
    columns = {
        f"{name}_pass": pa.array(passed),
        f"{name}_reason": reasons.take(pa.array(failing, mask=passed)),
        f"{name}_value": pa.array(value, mask=np.isnan(value)),
        f"{name}_threshold": pa.array(threshold, mask=np.isnan(threshold)),
    }
    for statistic, values in measured.items():
        column = f"{name}_{statistic}"
        columns[column] = pa.array(values, mask=np.isnan(values)).cast(writes[column])
    for column, array in columns.items():
        batch = batch.append_column(column, array)
    return batch
