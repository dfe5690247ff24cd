"""What the output holds beside all columns in one folder: partitions, the new columns alone, or those that are named,
and what it says of itself. Refused at plan."""

from typing import Any

import msgspec
import pyarrow as pa

from curate.errors import ConfigError
from curate.io import hive
from curate.recipe.recipe import CHECKPOINT, Output, Recipe


def of(output: Output) -> list[Any]:
    """What names it in a fingerprint; nothing for a plain output, whose names stay what they were."""
    return [output.columns, output.partition_by] if output.partition_by or output.columns != "all" else []


def written(output: Output, before: pa.Schema, after: pa.Schema) -> pa.Schema:
    """The columns that are written, of those `before` and `after` the steps."""
    if output.columns == "all":
        return after
    if output.columns == "new":
        return pa.schema([field for field in after if field.name == "id" or field.name not in before.names])
    return pa.schema([after.field(name) for name in dict.fromkeys(["id", *output.columns])])


def says(recipe: Recipe) -> dict[str, Any]:
    """What the stages state about the dataset they make, for its parts and its manifest."""
    found: dict[str, Any] = {}
    for step in recipe.steps:
        if step.stage != CHECKPOINT and (states := step.spec().states):
            found |= states(step.settings())
    return found


def metadata(recipe: Recipe) -> dict[bytes, bytes]:
    """The same as metadata of a schema, JSON under names of ours."""
    return {f"curate.{name}".encode(): msgspec.json.encode(what) for name, what in says(recipe).items()}


def check(recipe: Recipe, before: pa.Schema, after: pa.Schema) -> None:
    """ConfigError where columns `before` and `after` the steps do not allow what `output` asks for."""
    if recipe.output.columns == "new":
        _check_new(recipe, before, after)
    elif recipe.output.columns != "all":
        _check_named(recipe.output.columns, after)
    for name in recipe.output.partition_by:
        _check_partition(name, written(recipe.output, before, after))


def _check_named(names: tuple[str, ...], schema: pa.Schema) -> None:
    for name in names:
        if name not in schema.names:
            raise ConfigError(
                f"`output.columns`: there is no column `{name}`",
                hint=f"columns at the end: {', '.join(schema.names)}",
                where="output",
            )


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
