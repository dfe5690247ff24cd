"""What Python users call."""

from pathlib import Path
from typing import Any

from curate.engine.result import Result
from curate.engine.run import run as run_recipe
from curate.recipe.recipe import Recipe, from_tree, load
from curate.recipe.tree import Tree


def run(
    recipe: str | Path | dict[str, Any] | Recipe, *, output: str = "", workers: int = 0, fresh: bool = False
) -> Result:
    """Run a recipe (a YAML file, its content as a dict, or a Recipe) and return its Result.

    Raises a CurateError: ConfigError or DataError before the start, GuardError, StageError or RunError later.
    """
    if isinstance(recipe, dict):
        recipe = from_tree(Tree(recipe, "recipe"), output=output)
    elif not isinstance(recipe, Recipe):
        recipe = load(recipe, output=output)
    return run_recipe(recipe, workers=workers, fresh=fresh)
