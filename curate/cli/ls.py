"""Commands that say what there is: `ls stages|recipes|runs` and `explain`."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from curate.errors import ConfigError, CurateError

StageFiles = Annotated[
    list[str] | None,
    typer.Option("--stages", metavar="FILE.py", help="A Python file that declares stages; repeatable."),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


def stage_names(incomplete: str) -> list[str]:
    """Completion: names of built-in stages, from the file names alone."""
    files = (Path(__file__).parents[1] / "stages").glob("[a-z]*.py")
    return sorted(file.stem for file in files if file.stem.startswith(incomplete))


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    ls = typer.Typer(no_args_is_help=True, help="List stages, recipes or runs.\n\nExample: curate ls stages")
    ls.command("stages")(ls_stages)
    ls.command("recipes")(ls_recipes)
    ls.command("runs")(ls_runs)
    app.add_typer(ls, name="ls")
    app.command("explain")(explain)


def ls_stages(stages: StageFiles = None, as_json: Json = False) -> None:
    """List the stages that a recipe can name.

    Example: curate ls stages
    """
    from curate import stages as known

    for file in stages or []:
        known.use_file(file)
    rows = [
        {"name": name, "about": _docstring(known.find(name)).partition("\n")[0]} for name in known.names()
    ]
    _list("stages", rows, as_json)


def ls_recipes(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="Where the YAML files are.")] = "recipes",
    as_json: Json = False,
) -> None:
    """List the recipes of a folder, each with its first comment and its stages.

    Example: curate ls recipes recipes/
    """
    if not Path(folder).is_dir():
        raise ConfigError(f"no such folder: {folder}", hint="curate ls recipes FOLDER")
    files = sorted(file for file in Path(folder).iterdir() if file.suffix in (".yaml", ".yml"))
    _list("recipes", [_recipe_row(file) for file in files], as_json)


def _recipe_row(file: Path) -> dict[str, Any]:
    from curate.recipe.tree import parse

    try:
        text = file.read_text("utf-8")
        root = parse(text, str(file)).root
    except (CurateError, OSError, UnicodeDecodeError) as error:
        return {"recipe": str(file), "about": f"cannot be read: {error}", "stages": []}
    steps = root.get("stages") if isinstance(root, dict) else None
    comments = [line.lstrip("# ").rstrip() for line in text.splitlines() if line.startswith("#")]
    return {
        "recipe": str(file),
        "about": next(filter(None, comments), ""),
        "stages": [_step_name(s) for s in steps or []],
    }


def _step_name(step: Any) -> str:
    if isinstance(step, dict) and step:
        return str(step.get("name") or step.get("stage") or next(iter(step)))
    return str(step)


def ls_runs(
    folder: Annotated[
        str, typer.Argument(metavar="FOLDER", help="Where to look, with all folders below.")
    ] = ".",
    as_json: Json = False,
) -> None:
    """List output folders: recipe, state, rows kept and age.

    Example: curate ls runs out/
    """
    from curate.cli.dataset import find_runs

    if not Path(folder).is_dir():
        raise ConfigError(f"no such folder: {folder}", hint="curate ls runs FOLDER")
    rows = [_run_row(path, as_json) for path in find_runs(Path(folder))]
    _list("runs", rows, as_json)


def _run_row(path: Path, as_json: bool) -> dict[str, Any]:
    import time

    from curate.cli.console import human_seconds
    from curate.cli.state import state_of

    age = time.time() - (path / "_curate/plan.json").stat().st_mtime
    try:
        state = state_of(str(path))
    except CurateError as error:
        recipe, words, kept = "?", f"cannot be read: {error}", 0
    else:
        recipe, words, kept = state.recipe, state.words(), state.rows.kept
    row = {"output": str(path), "recipe": recipe, "state": words}
    if as_json:
        return {**row, "kept": kept, "age_seconds": round(age)}
    return {**row, "kept": f"{kept:,} kept", "age": human_seconds(age)}


def _list(what: str, rows: list[dict[str, Any]], as_json: bool) -> None:
    from curate.cli.console import cell, print_json, say, table

    if as_json:
        print_json({"schema": "curate.ls/1", what: rows})
        return
    cells = [
        tuple(cell(", ".join(v) if isinstance(v, list) else v, 100) for v in row.values()) for row in rows
    ]
    for line in table(cells):
        print(line)
    if not rows:
        say(f"no {what} here")


def explain(
    name: Annotated[
        str, typer.Argument(metavar="STAGE", autocompletion=stage_names, help="A stage.", show_default=False)
    ],
    stages: StageFiles = None,
    as_json: Json = False,
) -> None:
    """Print what a stage does and every option it takes.

    Example: curate explain gopher_quality
    """
    from curate import stages as known
    from curate.cli.console import print_json

    for file in stages or []:
        known.use_file(file)
    spec = known.find(name)
    options = _options(spec.config)
    if as_json:
        kind = "global" if spec.is_global else "map"
        about = {"stage": name, "version": spec.version, "kind": kind, "about": _docstring(spec)}
        print_json({"schema": "curate.explain/1", **about, "options": options})
        return
    print(
        f"{name}  (version {spec.version}, {'global: sees all rows' if spec.is_global else 'map: batch by batch'})\n"
    )
    print(_docstring(spec))
    _print_options(options)
    needed = ", ".join(f"{option['name']}: ..." for option in options if option["required"])
    example = "\"lang = 'en'\"" if name == "select" else f"{{{needed}}}"
    print(f"\nIn a recipe:   - {name}: {example}\nIn a shell:    curate stage {name} IN... -o OUT")


def _print_options(options: list[dict[str, Any]]) -> None:
    print("\nOptions, as keys of the recipe" + ("" if options else ": none"))
    for option in options:
        default = "required" if option["required"] else f"default {_as_yaml(option['default'])}"
        print(f"  {option['name']}: {option['type']}, {default}")
        print(
            f"      {option['about']}"
            + (f"  ({option['flag']})" if option["flag"] else "  (nested: by --config)")
        )


def _docstring(spec: Any) -> str:
    import importlib
    import inspect

    module = sys.modules.get(spec.module) or importlib.import_module(spec.module)
    return inspect.cleandoc(module.__doc__ or spec.function.__doc__ or "(no docstring)")


def _options(config: type[Any]) -> list[dict[str, Any]]:
    import msgspec

    from curate.cli.stage import config_parameters, field_comments

    on_command_line = {parameter.name: parameter for parameter in config_parameters(config)}
    comments = field_comments(config)
    rows = []
    for field in msgspec.structs.fields(config):
        default = None if field.required else field.default
        if field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        flag = "--" + field.name.replace("_", "-")
        if field.name not in on_command_line:
            flag = ""
        elif field.type is bool:
            flag += f"/--no-{flag[2:]}"
        rows.append({
            "name": field.name, "type": _type_words(field.type), "required": field.required,
            "default": msgspec.to_builtins(default), "about": comments.get(field.name, ""), "flag": flag,
        })  # fmt: skip
    return rows


def _type_words(kind: Any) -> str:
    """`int`, `first or longest`, `list of str`."""
    import types
    from typing import Literal, Union, get_args, get_origin

    origin, inner = get_origin(kind), [k for k in get_args(kind) if k is not Ellipsis]
    if origin is Literal:
        return " or ".join(_as_yaml(value) for value in inner)
    if origin in (Union, types.UnionType):
        return " or ".join("null" if k is type(None) else _type_words(k) for k in inner)
    if origin in (list, tuple):
        return f"list of {_type_words(inner[0])}"
    if origin is dict:
        return f"mapping of {_type_words(inner[0])} to {_type_words(inner[1])}"
    return str(getattr(kind, "__name__", kind))


def _as_yaml(value: Any) -> str:
    import msgspec

    return value if isinstance(value, str) and value.isidentifier() else msgspec.json.encode(value).decode()
