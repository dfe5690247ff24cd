"""A recipe without one of its stages: the step is gone, and with it the conditions on what it would have written.

A `select` loses those of its conditions (joined by AND) that look at the step's columns, and goes when none is left. A step
whose columns, or whose text, another one needs cannot be left out.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from curate import stages
from curate.engine.plan import check_schema, schema_after
from curate.errors import ConfigError
from curate.io.inputs import input_schema, list_files
from curate.io.query import Predicate
from curate.recipe.recipe import CHECKPOINT, Recipe, Step, from_tree
from curate.recipe.tree import Tree, parse

# Steps that say what the corpus is, and not how good it is: leaving one out would compare something else.
_FRAME = ("select", "sample", "split", "extract", "extract_pdf", CHECKPOINT)


class Opened(NamedTuple):
    """A recipe as it is written, checked, and the columns it begins with."""

    root: dict[str, Any]
    recipe: Recipe
    schema: pa.Schema


def opened(file: str, stage_files: Sequence[str] = ()) -> Opened:
    """Read a recipe; ConfigError where it is wrong or its input is not there."""
    for one in stage_files:
        stages.use_file(one)
    try:
        tree = parse(Path(file).read_text("utf-8"), file)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"cannot read the recipe: {getattr(error, 'strerror', None) or error}", where=file
        ) from None
    recipe = from_tree(tree, default_name=Path(file).stem)
    root, files = list_files(recipe.input, Path(recipe.base))
    return Opened(tree.root, recipe, input_schema(root, files, recipe.input))


def survey(one: Opened) -> dict[str, str]:
    """Why a step cannot be left out, '' where it can, by its name: of all steps that judge, edit or drop documents."""
    found = {}
    for step in one.recipe.steps:
        if step.stage in _FRAME:
            continue
        try:
            left = without(one, step.name)
        except ConfigError as error:
            found[step.name] = error.what
            continue
        spec = step.spec()
        edits = spec.is_global or spec.makes_rows or "text" in spec.columns_written(step.settings())
        same = len(left["stages"]) == len(one.root["stages"]) - 1 and _selects(left) == _selects(one.root)
        found[step.name] = (
            f"`{step.name}` drops and edits nothing: no `select` looks at it" if same and not edits else ""
        )
    return found


def without(one: Opened, name: str) -> dict[str, Any]:
    """The recipe as it is written, but without the step of this name. ConfigError where it cannot be left out."""
    gone = next(
        (step for step in one.recipe.steps if step.name == name and step.stage not in ("select", CHECKPOINT)),
        None,
    )
    if gone is None:
        names = [step.name for step in one.recipe.steps if step.stage not in _FRAME]
        raise ConfigError(f"no stage `{name}` to leave out", hint=f"stages: {', '.join(names)}")
    kept: list[Any] = []
    schema, columns = one.schema, set[str]()
    for step, item in zip(one.recipe.steps, one.root["stages"], strict=True):
        if step is not gone:
            kept += _but(step, item, schema, columns)
        if step.stage == CHECKPOINT:
            continue
        after = schema_after(schema, step, step.spec(), step.settings())
        if step is gone:
            columns = set(after.names) - set(schema.names)
        schema = after
    root = {**one.root, "stages": kept}
    try:
        check_schema(from_tree(Tree(root, "recipe"), default_name=one.recipe.name), one.schema)
    except ConfigError as error:
        raise ConfigError(f"`{name}` cannot be left out: {error.what}", hint=error.hint) from None
    return root


def _but(step: Step, item: Any, schema: pa.Schema, gone: set[str]) -> list[Any]:
    """The entry of a step without the conditions on columns that are gone; nothing where none is left."""
    if step.stage != "select" or not gone:
        return [item]
    types = {field.name: field.type for field in schema}
    conditions = [one.text for one in Predicate(step.config["where"], types).conjuncts]
    left = [text for text in conditions if not gone & set(Predicate(text, types).columns)]
    if len(left) == len(conditions):
        return [item]
    where = " and ".join(f"({text})" for text in left)
    if "stage" in item:
        return [{**item, "where": where}] if left else []
    options = item["select"] if isinstance(item["select"], dict) else {}
    return [{"select": {**options, "where": where}}] if left else []


def _selects(root: dict[str, Any]) -> str:
    return json.dumps(
        [
            item
            for item in root["stages"]
            if isinstance(item, dict) and ("select" in item or item.get("stage") == "select")
        ]
    )


def write(root: dict[str, Any], file: Path) -> None:
    """As YAML, which JSON is; an equal file stays as it is."""
    text = json.dumps(root, indent=1, ensure_ascii=False) + "\n"
    if not file.exists() or file.read_text("utf-8") != text:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
