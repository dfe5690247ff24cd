"""Which columns of a dataset have thresholds, and which: from the recipe alone."""

import importlib
import math
import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

import pyarrow as pa

from curate.engine.plan import Plan, column_name, schema_after, writers
from curate.io.query import Predicate
from curate.recipe.recipe import CHECKPOINT, Step

_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}


class Rule(NamedTuple):
    """A row whose `column` lies on the wrong side of `bound` is dropped by `stage` for `reason`."""

    stage: str  # as in drop_stage
    reason: str
    column: str
    bound: float | None  # None: another one for each language
    keeps: Literal["min", "max"]  # min: values from the bound up are good


def rules_of(plan: Plan) -> list[Rule]:
    """Every threshold on a number that stands in the recipe, in its order."""
    found: list[Rule] = []
    schema, wrote = plan.input_schema(), writers(plan.recipe)
    for step in plan.recipe.steps:
        if step.stage == CHECKPOINT:
            continue
        if step.stage == "select":
            found += _of_select(step, schema, wrote)
        else:
            found += _of_stage(step)
        schema = schema_after(schema, step, step.spec(), step.settings())
    return list(dict.fromkeys(found))


def predicate_columns(plan: Plan) -> dict[tuple[str, str], str]:
    """(drop_stage, drop_reason) -> the column that a condition of a `select` compares."""
    found = {}
    schema, wrote = plan.input_schema(), writers(plan.recipe)
    for step in plan.recipe.steps:
        if step.stage == "select":
            types = {field.name: field.type for field in schema}
            for part in Predicate(step.config["where"], types).conjuncts:
                if part.column:
                    found[wrote.get(part.column, "input"), part.text] = part.column
        if step.stage != CHECKPOINT:
            schema = schema_after(schema, step, step.spec(), step.settings())
    return found


def _of_stage(step: Step) -> Iterator[Rule]:
    """The rules of a stage that judges: its table RULES, or `min_x` and `max_x` of its Config beside a column `x`."""
    spec, config = step.spec(), step.settings()
    columns = spec.columns_written(config)
    by_language = getattr(config, "thresholds", "")
    module = importlib.import_module(spec.function.__module__)
    listed = getattr(module, "RULES", None) or [
        (field, field.partition("_")[2], field) for field in spec.config.__struct_fields__
    ]
    for reason, statistic, field in listed:
        name, bound = f"{spec.name}_{statistic}", getattr(config, field, None)
        side, _, _ = field.partition("_")
        varies = bool(by_language) and field in getattr(module, "BY_LANGUAGE", ())
        if not isinstance(bound, int | float) or isinstance(bound, bool) or not math.isfinite(bound):
            continue
        if side in ("min", "max") and name in columns and f"{spec.name}_pass" in columns:
            keeps: Literal["min", "max"] = "min" if side == "min" else "max"
            yield Rule(
                step.name, reason, column_name(step, spec, name), None if varies else float(bound), keeps
            )


def _of_select(step: Step, schema: pa.Schema, wrote: dict[str, str]) -> Iterator[Rule]:
    """Conditions that compare a column with a number."""
    for part in Predicate(step.config["where"], {field.name: field.type for field in schema}).conjuncts:
        sign = re.search(r"<=|>=|<|>", part.text)
        if part.column and isinstance(part.literal, float) and sign:
            literal_first = bool(re.match(r"[-+.\d]", part.text.lstrip("( ")))
            operator = _FLIPPED[sign[0]] if literal_first else sign[0]
            keeps: Literal["min", "max"] = "min" if operator in (">", ">=") else "max"
            yield Rule(wrote.get(part.column, "input"), part.text, part.column, part.literal, keeps)
