"""Which columns of a dataset have thresholds, and which: from the recipe alone."""

import importlib
import math
import re
import sys
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

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
    option: str = ""  # of the stage's Config, that sets the bound


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
            found += rules_of_stage(step)
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


def rules_of_stage(step: Step) -> Iterator[Rule]:
    """The rules of a stage that judges: its table RULES, or `min_x` and `max_x` of its Config beside a column `x`."""
    spec, config = step.spec(), step.settings()
    columns = spec.columns_written(config)
    module = importlib.import_module(spec.function.__module__)
    listed = getattr(module, "RULES", None) or [
        (field, field.partition("_")[2], field) for field in spec.config.__struct_fields__
    ]
    varying = getattr(module, "BY_LANGUAGE", ()) if getattr(config, "thresholds", "") else ()
    for reason, statistic, field in listed:
        name = statistic if statistic in columns else f"{spec.name}_{statistic}"
        bound, side = getattr(config, field, None), field.partition("_")[0]
        if not (field in varying or _is_bound(bound)) or f"{spec.name}_pass" not in columns:
            continue
        if side in ("min", "max") and name in columns:
            keeps: Literal["min", "max"] = "min" if side == "min" else "max"
            value = None if field in varying or bound is None else float(bound)
            yield Rule(step.name, reason, column_name(step, spec, name), value, keeps, field)


def _is_bound(value: Any) -> bool:
    """A number that some statistic can pass: a plan has the largest float where the recipe said `.inf`."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return math.isfinite(value) and abs(value) < sys.float_info.max


def bound_in(rule: Rule, config: Any, language: str | None) -> float | None:
    """The bound for a language; None where it has no file of thresholds."""
    if rule.bound is not None:
        return rule.bound
    from curate.stages import _thresholds

    files = _thresholds.read(config.thresholds)
    name = _thresholds.find(language, list(files))
    return files[name].bounds().get(rule.option) if name else None


def _of_select(step: Step, schema: pa.Schema, wrote: dict[str, str]) -> Iterator[Rule]:
    """Conditions that compare a column with a number."""
    for part in Predicate(step.config["where"], {field.name: field.type for field in schema}).conjuncts:
        sign = re.search(r"<=|>=|<|>", part.text)
        if part.column and isinstance(part.literal, float) and sign:
            literal_first = bool(re.match(r"[-+.\d]", part.text.lstrip("( ")))
            operator = _FLIPPED[sign[0]] if literal_first else sign[0]
            keeps: Literal["min", "max"] = "min" if operator in (">", ">=") else "max"
            yield Rule(wrote.get(part.column, "input"), part.text, part.column, part.literal, keeps)
