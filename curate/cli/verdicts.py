"""What every step of a recipe said of one row: its verdict, each value beside its bound, what it took out of the text.

A row carries what the steps measured; the recipe has the bounds. Steps after the one that dropped the row never saw it.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec
import numpy as np
import pyarrow as pa

from curate.engine.plan import Plan, column_name, schema_after
from curate.errors import ConfigError, DataError
from curate.io.query import Conjunct, Predicate
from curate.recipe.recipe import CHECKPOINT, Step
from curate.report.facts import use_stages
from curate.report.rules import Rule, bound_in, rules_of_stage

Word = Literal["pass", "fail", "no verdict", "not reached", "not kept", "quarantined"]
_VERDICT = ("pass", "reason", "value", "threshold")


class Bound(msgspec.Struct, kw_only=True):
    """A rule of a stage, and the row's value beside it."""

    reason: str
    column: str
    value: Any
    sign: Literal[">=", "<="]
    bound: float | None  # None: the row's language has none
    ok: bool | None  # None: there is no value, so the rule said nothing


class Condition(msgspec.Struct, kw_only=True):
    """One of the conditions that a select joins by AND."""

    text: str
    values: dict[str, Any]  # of the columns it names, as far as the row has them
    ok: bool | None  # None: not known


class Verdict(msgspec.Struct, kw_only=True):
    """What one step said."""

    step: int  # its place in the recipe
    name: str
    stage: str
    verdict: Word
    reason: str = ""
    value: float | None = None  # that the reason is about
    threshold: float | None = None
    when: str = ""  # the step's own condition
    outside: bool = False  # the row does not meet `when`, so the step let it be
    where: str = ""
    bounds: list[Bound] = []
    conditions: list[Condition] = []
    statistics: dict[str, Any] = {}
    removed_chars: int | None = None
    kept_id: str = ""
    note: str = ""  # what is not known, and why

    @property
    def columns(self) -> set[str]:
        """Columns of the row that it tells of."""
        verdict = {f"{self.name}_{name}" for name in (*_VERDICT, "removed_chars")}
        return verdict | {bound.column for bound in self.bounds} | set(self.statistics)


class Fate(msgspec.Struct, frozen=True, kw_only=True):
    """How far a row came."""

    status: Literal["kept", "kept so far", "dropped", "quarantined"]
    last: int  # the last step that had it; -1: none
    has_values: bool = True  # False: of the row only its keys were kept


def fate_of(plan: Plan, status: Any, row: Mapping[str, Any], step: str, passed: int | None) -> Fate:
    """`step` names the folder of a dropped row, NN_name; `passed` is the last pass that a row under way has behind it."""
    steps = plan.recipe.steps
    if status == "dropped":
        only_keys = plan.recipe.output.dropped == "keys"
        return Fate(status=status, last=int(step.partition("_")[0]), has_values=not only_keys)
    if status == "quarantined":
        at = next((s.index for s in steps if s.name == row.get("stage")), -1)
        return Fate(status=status, last=at, has_values=False)
    if passed is None:
        return Fate(status=status, last=len(steps))
    done = [i for one in plan.passes[: passed + 1] if one.kind == "rows" for i in (one.opens, *one.steps)]
    return Fate(status=status, last=max(done, default=-1))


def verdicts(plan: Plan, row: Mapping[str, Any], fate: Fate) -> list[Verdict]:
    """One for each step, in the recipe's order. `row` has the columns of its file, with the text."""
    use_stages(plan)
    schema, found = plan.input_schema(), []
    for step in plan.recipe.steps:
        if step.stage == CHECKPOINT:
            continue
        found.append(_verdict(step, row, fate, schema))
        with contextlib.suppress(ConfigError, msgspec.ValidationError):  # `_verdict` has said it
            schema = schema_after(schema, step, step.spec(), step.settings())
    return found


def _verdict(step: Step, row: Mapping[str, Any], fate: Fate, schema: pa.Schema) -> Verdict:
    one = Verdict(step=step.index, name=step.name, stage=step.stage, verdict="not reached", when=step.when)
    one.where = step.config.get("where", "") if step.stage == "select" else ""
    if step.index > fate.last:
        return one
    if fate.status == "quarantined":
        is_here = step.index == fate.last
        one.verdict, one.reason = ("quarantined", row["reason"]) if is_here else ("not kept", "")
        one.note = (
            "" if is_here else "of a quarantined row only its source and the start of its bytes are kept"
        )
        return one
    one.outside = _is_outside(step, row, schema)
    try:
        (_select if step.stage == "select" else _measure)(one, step, row, fate, schema)
    except (ConfigError, msgspec.ValidationError) as error:  # a stage or a file of thresholds that is gone
        one.verdict, one.note = "no verdict", f"its rules are not known: {error}"
    return one


def _select(one: Verdict, step: Step, row: Mapping[str, Any], fate: Fate, schema: pa.Schema) -> None:
    """A row that went on met every condition; of one dropped here the file says which it did not meet."""
    is_here = fate.status == "dropped" and step.index == fate.last
    one.verdict = "fail" if is_here else "pass"
    one.reason = row["drop_reason"] if is_here else ""
    if is_here:
        one.value, one.threshold = row["drop_value"], row["drop_threshold"]
    if one.outside:
        return
    types = {field.name: field.type for field in schema}
    parts = Predicate(one.where, types).conjuncts
    failed = _failed(parts, row) if is_here else len(parts)
    for number, part in enumerate(parts):
        names = Predicate(part.text, types).columns
        ok = True if number < failed else None if number > failed else False
        if ok is None and fate.has_values:
            ok = _is_true(part.text, row, schema)
        values = {name: row[name] for name in names if name in row and name != "text"}
        if ok is False and part.column and part.column not in values and row["drop_value"] is not None:
            values = {part.column: row["drop_value"]}
        one.conditions.append(Condition(text=part.text, values=values, ok=ok))


def _failed(parts: Sequence[Conjunct], row: Mapping[str, Any]) -> int:
    """Which condition dropped the row: the one that is the reason, or the verdict of the stage blamed."""
    for number, part in enumerate(parts):
        if part.text == row["drop_reason"]:
            return number
    flag = f"{row['drop_stage']}_pass"
    return next((number for number, part in enumerate(parts) if part.flag == flag), len(parts))


def _is_true(predicate: str, row: Mapping[str, Any], schema: pa.Schema) -> bool | None:
    """None where it cannot be asked again: a column was not kept, or the value does not fit."""
    try:
        asked = Predicate(predicate, {field.name: field.type for field in schema})
        if not set(asked.columns) <= set(row):
            return None
        batch = pa.RecordBatch.from_pylist(
            [{name: row[name] for name in asked.columns}],
            pa.schema([schema.field(name) for name in asked.columns]),
        )
        return bool(asked.mask(batch)[0])
    except (ConfigError, DataError, pa.ArrowException):
        return None


def _is_outside(step: Step, row: Mapping[str, Any], schema: pa.Schema) -> bool:
    return bool(step.when) and _is_true(step.when, row, schema) is False


def _measure(one: Verdict, step: Step, row: Mapping[str, Any], fate: Fate, schema: pa.Schema) -> None:
    """Verdict and statistics of a stage, out of the columns that it wrote."""
    spec, config = step.spec(), step.settings()
    wrote = {column_name(step, spec, c): kind for c, kind in spec.columns_written(config).items()}
    said = {name: row.get(f"{step.name}_{name}") for name in _VERDICT}
    is_here = fate.status == "dropped" and step.index == fate.last  # a global stage dropped it
    if is_here or (not fate.has_values and _is_blamed(step, row)):
        said = {"pass": False} | {name: row[f"drop_{name}"] for name in _VERDICT[1:]}
    elif not fate.has_values:
        one.verdict, one.note = "not kept", "only the keys of dropped rows are kept (output.dropped)"
        return
    elif spec.is_global:
        said["pass"] = True
    one.verdict = "no verdict" if said["pass"] is None else "pass" if said["pass"] else "fail"
    one.reason, one.value, one.threshold = said["reason"] or "", said["value"], said["threshold"]
    one.kept_id = (row.get("kept_id") or "") if is_here else ""
    one.removed_chars = row.get(f"{step.name}_removed_chars")
    if one.outside:
        return
    one.bounds = list(_bounds(one, list(rules_of_stage(step)), config, row, wrote, fate))
    apart = {"text", f"{step.name}_removed_chars", *(f"{step.name}_{name}" for name in _VERDICT)}
    apart |= {bound.column for bound in one.bounds}
    one.statistics = {name: row[name] for name in wrote if name not in apart and row.get(name) is not None}


def _is_blamed(step: Step, row: Mapping[str, Any]) -> bool:
    """Whether the row was dropped for this stage's verdict: its reason is a word, that of a comparison is its text."""
    return bool(row["drop_stage"] == step.name and row["drop_reason"].isidentifier())


def _bounds(
    one: Verdict, rules: Sequence[Rule], config: Any, row: Mapping[str, Any], wrote: Mapping[str, pa.DataType],
    fate: Fate,
) -> Iterator[Bound]:  # fmt: skip
    """The rule that is the reason has its value and bound as they were judged, in full precision."""
    failed = one.verdict == "fail"
    for rule in rules:
        value, bound = row.get(rule.column), bound_in(rule, config, row.get("lang"))
        ok = _meets(value, bound, rule, wrote[rule.column])
        if failed and rule.reason == one.reason:
            value, bound, ok = one.value, one.threshold, False
        elif not fate.has_values:
            continue
        sign: Literal[">=", "<="] = ">=" if rule.keeps == "min" else "<="
        yield Bound(reason=rule.reason, column=rule.column, value=value, sign=sign, bound=bound, ok=ok)


def _meets(value: Any, bound: float | None, rule: Rule, kind: pa.DataType) -> bool | None:
    if value is None or bound is None:
        return None
    if pa.types.is_float32(kind):  # 0.1 was judged in 64 bits and is kept in 32, where it is above 0.1
        value, bound = np.float32(value), float(np.float32(bound))
    return bool(value >= bound if rule.keeps == "min" else value <= bound)
