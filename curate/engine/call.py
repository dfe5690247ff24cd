"""A stage as a plain function of a batch: model loaded, columns named as its step says, contract checked."""

import importlib.abc
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate.engine.plan import column_name
from curate.errors import StageError
from curate.recipe.recipe import CHECKPOINT, Step


class _NoPandas(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname: str, *_: object) -> ModuleSpec | None:
        if fullname == "pandas":
            raise ModuleNotFoundError(fullname)
        return None


def leave_pandas_out(steps: Sequence[Step]) -> None:
    """Keep pyarrow from importing pandas with the first array of this process, where it is installed (0.3 s).

    Not where a stage is somebody else's: until `to_pandas` imports it, a Series would be read as any sequence.
    """
    named = [step.spec().function.__module__ for step in steps if step.stage != CHECKPOINT]
    if "pandas" in sys.modules or not all(name.startswith("curate.") for name in named):
        return
    refusing = _NoPandas()
    sys.meta_path.insert(0, refusing)
    try:
        pa.array([None])
    finally:
        sys.meta_path.remove(refusing)


def stage_call(step: Step, store: Path) -> Callable[[pa.RecordBatch], pa.RecordBatch]:
    """The stage as a function of a batch, its model loaded, its columns named as the step says."""
    spec, config = step.spec(), step.settings()
    model = (spec.load(config, store),) if spec.load else ()
    declared, names = spec.columns_written(config), Names(step)

    def call(batch: pa.RecordBatch) -> pa.RecordBatch:
        batch = names.as_stage(batch)
        if not batch.num_rows:  # lists without values have no type: no stage needs to think of that
            return names.as_step(empty(batch.schema, declared, spec.removes))
        out = spec.function(batch, config, *model)
        check_contract(step, batch, out, declared, spec.removes)
        return names.as_step(out)

    return call


def empty(schema: pa.Schema, declared: Mapping[str, pa.DataType], removes: Sequence[str]) -> pa.RecordBatch:
    """No rows, with the columns of a stage's output."""
    kinds = {f.name: f.type for f in schema if f.name not in removes} | dict(declared)
    return pa.RecordBatch.from_pydict({name: pa.nulls(0, kind) for name, kind in kinds.items()})


class Names:
    """Columns as the stage names them, and as its step does (`name:`, for a stage that stands twice).

    What an earlier step wrote under the stage's names, or the input under one of `own`, is set aside meanwhile.
    """

    def __init__(self, step: Step, own: Sequence[str] = ()) -> None:
        spec = step.spec()
        written = [c for c in spec.columns_written(step.settings()) if c != "text"]
        taken = [*own, *(written if step.name != spec.name else ())]
        self._aside = {c: f"{c}\0" for c in taken}
        self._back = {c: column_name(step, spec, c) for c in written} | {f"{c}\0": c for c in taken}

    def as_stage(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return batch.rename_columns([self._aside.get(n, n) for n in batch.schema.names])

    def as_step(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return batch.rename_columns([self._back.get(n, n) for n in batch.schema.names])


def given_back(step: Step, out: pa.RecordBatch) -> pa.RecordBatch:
    """Of what a stage returns the rows that it got."""
    return out.filter(out.column("parent_id").is_null()) if step.spec().makes_rows else out


def check_contract(
    step: Step, batch: pa.RecordBatch, out: Any, declared: Mapping[str, pa.DataType], removes: tuple[str, ...]
) -> None:
    """A stage must give back the same rows (and those it makes) with exactly the columns it declares."""
    problem = ""
    if not isinstance(out, pa.RecordBatch):
        problem = f"returned {type(out).__name__}, not a RecordBatch"
    elif step.spec().makes_rows and "parent_id" not in out.schema.names:
        problem = "makes rows without `parent_id`"
    elif (old := given_back(step, out)).num_rows != batch.num_rows:
        problem = f"returned {old.num_rows} rows for {batch.num_rows}"
    else:
        expected = [n for n in batch.schema.names if n not in removes]
        expected += [n for n in declared if n not in expected]
        if sorted(out.schema.names) != sorted(expected):
            problem = f"returned the columns {out.schema.names}, declared are {expected}"
        wrong = [n for n, kind in declared.items() if not problem and out.schema.field(n).type != kind]
        if wrong:
            problem = (
                f"wrote `{wrong[0]}` as {out.schema.field(wrong[0]).type}, declared is {declared[wrong[0]]}"
            )
        elif not problem and old.column("id") != batch.column("id"):
            problem = "changed the order or the ids of rows"
    if problem:
        raise StageError(
            f"stage `{step.stage}` {problem}, in the batch that begins with row `{batch.column('id')[0]}`",
            where=f"stages[{step.index}]",
            hint="a stage returns its rows in order with its declared columns; mend it and run again: "
            "finished work is kept",
        )
