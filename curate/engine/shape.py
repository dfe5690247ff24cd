"""What the output holds beside all columns in one folder: partitions, or the new columns alone. Refused at plan."""

from typing import Any

import pyarrow as pa

from curate.errors import ConfigError
from curate.io import hive
from curate.recipe.recipe import CHECKPOINT, Output, Recipe


def of(output: Output) -> list[Any]:
    """What names it in a fingerprint; nothing for a plain output, whose names stay what they were."""
    return [output.columns, output.partition_by] if output.partition_by or output.columns == "new" else []


def written(output: Output, before: pa.Schema, after: pa.Schema) -> pa.Schema:
    """The columns that are written, of those `before` and `after` the steps."""
    if output.columns == "all":
        return after
    return pa.schema([field for field in after if field.name == "id" or field.name not in before.names])


def check(recipe: Recipe, before: pa.Schema, after: pa.Schema) -> None:
    """ConfigError where columns `before` and `after` the steps do not allow what `output` asks for."""
    for name in recipe.output.partition_by:
        _check_partition(name, after)
    if recipe.output.columns == "new":
        _check_new(recipe, before, after)


def _check_partition(name: str, schema: pa.Schema) -> None:
    fit = [field.name for field in schema if hive.can_part(field.type) and field.name not in ("id", "text")]
    if name in fit:
        return
    if name in ("id", "text"):
        what = f"`{name}` differs from row to row"
    elif name in schema.names:
        what = f"`{name}` is {schema.field(name).type}; it must be a string, an integer, a bool or a date"
    else:
        what = f"there is no column `{name}`"
    raise ConfigError(
        f"`output.partition_by`: {what}", hint=f"columns it can be: {', '.join(fit)}", where="output"
    )


def _check_new(recipe: Recipe, before: pa.Schema, after: pa.Schema) -> None:
    for step in recipe.steps:
        if step.stage == CHECKPOINT:
            continue
        why = ""
        if step.stage == "select" or step.spec().is_global:
            why = "drops rows"
        elif step.spec().makes_rows:
            why = "makes rows"
        elif "text" in step.spec().columns_written(step.settings()):
            why = "writes `text`"
        if why:
            raise ConfigError(
                f"`output.columns: new` writes columns beside the corpus, row by row, and this step {why}",
                where=f"stages[{step.index}] ({step.name})",
                hint="leave the step out, or write a corpus of its own with `columns: all`",
            )
    if set(after.names) <= set(before.names):
        raise ConfigError(
            "`output.columns: new`: no step writes a new column",
            where="output",
            hint="add a stage that does; `curate ls stages` lists them",
        )
