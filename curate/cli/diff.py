"""`curate diff`: two recipes key by key, or two corpora row by row."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from curate.errors import COMPLETE, GUARD, ConfigError

if TYPE_CHECKING:
    from curate.recipe.recipe import Recipe
    from curate.report.difference import Corpora, Fate
    from curate.report.recipes import Change, Recipes


def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="A recipe or an output folder.", show_default=False)],
    b: Annotated[str, typer.Argument(metavar="B", help="What to compare it with.", show_default=False)],
    stages: Annotated[
        list[str] | None,
        typer.Option("--stages", metavar="FILE.py", help="A Python file that declares stages; repeatable."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Say how two recipes differ, key by key; or two corpora: what one keeps and the other drops, and why.

    Example: curate diff out/monday out/tuesday

    Rows of two corpora are matched by `id`. A recipe beside a folder is compared with the one that the folder was made by.

    Exit codes: 0 nothing differs, 1 something does.
    """
    from pathlib import Path

    from curate.cli.console import print_json
    from curate.report import difference, recipes
    from curate.report.facts import read_facts

    _use(stages or [])
    rules = recipes.compare(_recipe(a), _recipe(b))
    corpora = None
    if Path(a).is_dir() and Path(b).is_dir():
        corpora = difference.compare(read_facts(a), read_facts(b))
    differ = corpora.differ if corpora else rules.differ
    code = GUARD if differ else COMPLETE
    if as_json:
        status = {"status": "different" if differ else "same", "exit": code}
        print_json(
            {"schema": "curate.diff/1", **status, "a": a, "b": b, "recipes": rules, "corpora": corpora}
        )
        raise typer.Exit(code)
    _print_recipes(rules, a, b)
    if corpora:
        _print_corpora(corpora, a, b)
    raise typer.Exit(code)


def _use(files: list[str]) -> None:
    from curate import stages

    for file in files:
        stages.use_file(file)


def _recipe(path: str) -> "Recipe":
    """Of a YAML file, or the one in the plan of an output folder."""
    from pathlib import Path

    from curate.cli.dataset import read_plan
    from curate.io.files import Folder, is_remote
    from curate.recipe.recipe import load
    from curate.report.facts import use_stages

    if not (is_remote(path) or Path(path).is_dir()):
        try:
            return load(path)
        except ConfigError as error:
            if not error.what.startswith("`input` is missing"):
                raise
            return load(path, sets=["input.path=unknown"])  # the input comes with the run
    plan = read_plan(Folder(path))
    if plan is None:
        raise ConfigError(f"{path} is not the output of a run", hint="give a recipe or an output folder")
    use_stages(plan)
    return plan.recipe


def _print_recipes(found: "Recipes", a: str, b: str) -> None:
    from curate.cli.console import cell

    if not found.differ:
        print("recipes: the same")
        return
    print(f"recipes: - {a}  + {b}")
    for change in found.top:
        print(_line(change))
    for pair in found.steps:
        index = "/".join("-" if i is None else str(i) for i in (pair.a, pair.b))
        mark = " " if pair.same else "+" if pair.a is None else "-" if pair.b is None else "~"
        print(f"{mark} {index:>5}  {cell(pair.name)}")
        for change in pair.changes:
            print(f"         {_line(change)}")


def _line(change: "Change") -> str:
    """`key: old -> new`, or each on a line of its own where they are long."""
    values = [_value(change.a), _value(change.b)]
    if sum(map(len, values)) <= 70:
        return f"  {change.key}: {values[0]} -> {values[1]}"
    return f"  {change.key}:\n           - {values[0]}\n           + {values[1]}"


def _value(value: Any) -> str:
    from curate.cli.console import cell

    return "none" if value in (None, "") else cell(value, 300)


def _print_corpora(found: "Corpora", a: str, b: str) -> None:
    from curate.cli.console import cell, share

    print(f"\nrows:    {found.rows['a']:,} kept by {a}, {found.rows['b']:,} by {b}")
    total = found.rows["a"]
    print(f"         {found.same:,} kept by both, the same text ({share(found.same, total)} of {a})")
    if found.changed:
        ids = ", ".join(cell(i, 40) for i in found.changed_ids)
        print(f"         {found.changed:,} kept by both, with another text: {ids}")
    for kept, other, fates in ((a, b, found.only_a), (b, a, found.only_b)):
        rows = sum(fate.rows for fate in fates)
        print(f"\n{rows:,} rows only in {kept}" + ("; what the other did:" if fates else ""))
        for fate in fates:
            _print_fate(fate, other)
    for side in found.partial:
        print(
            f"\nnote: {a if side == 'a' else b} has only a sample of its dropped rows; others count as unknown there"
        )


def _print_fate(fate: "Fate", other: str) -> None:
    from curate.cli.console import cell, in_words

    what = {
        "dropped": f"dropped by {fate.stage}: {in_words(fate.reason)}",
        "quarantined": f"quarantined by {fate.stage}: {fate.reason}",
    }
    print(f"  {fate.rows:>9,}  {what.get(fate.fate, f'unknown to {other}')}")
    for shown in fate.sample:
        print(f"             {cell(shown.id, 40)}  {cell(shown.source, 24)}  {cell(shown.text, 70)}")
