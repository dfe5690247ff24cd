"""`curate stage NAME IN... -o OUT`: a one-stage recipe, its options made from the stage's Config."""

import importlib
import inspect
import re
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from curate.cli.run import WORKER_MEMORY_MB, Json, Quiet, Workers, execute
from curate.errors import ConfigError

# Names of our own options and parameters: a field of a Config with such a name goes by --config FILE alone.
_OURS = {
    "inputs", "output", "when", "workers", "store", "fresh", "config", "config_file", "set", "sets", "stages",
    "json", "as_json", "quiet", "help",
}  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command(
        "stage",
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
        add_help_option=False,
    )(stage)


def stage(context: typer.Context) -> None:
    """Run one stage: curate stage NAME IN... -o OUT [options of the stage].

    Example: curate stage gopher_quality corpus/ -o scored/ --min-words 20
    """
    from curate import stages
    from curate.stages import use_file

    arguments = list(context.args)
    files = _take(arguments, "--stages")
    for file in files:
        use_file(file)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(
            "Usage: curate stage NAME IN... -o OUT [options]\n\nRun one stage over files, folders or an Arrow stream (`-`)."
        )
        print("Example: curate stage gopher_quality corpus/ -o scored/ --min-words 20\n")
        print(
            f"Stages: {', '.join(stages.names())}\n\n`curate stage NAME --help` shows the options of a stage."
        )
        raise typer.Exit(0 if arguments else 2)
    name = arguments.pop(0)
    raise typer.Exit(build(name, files)(arguments, prog_name=f"curate stage {name}", standalone_mode=False))


def _take(arguments: list[str], flag: str) -> list[str]:
    """Remove `flag value` and `flag=value` from the arguments; returns the values."""
    found = []
    while at := next((i for i, a in enumerate(arguments, 1) if a == flag or a.startswith(f"{flag}=")), 0):
        _, joined, value = arguments.pop(at - 1).partition("=")
        if not joined and at <= len(arguments):
            value = arguments.pop(at - 1)
        if not value:
            raise ConfigError(f"{flag} needs a value", hint=f"{flag} my_stages.py")
        found.append(value)
    return found


def build(name: str, files: list[str]) -> Any:
    """A typer app with one command: its options are ours and one per plain field of the stage's Config."""
    from curate import stages

    spec = stages.find(name)
    importlib.import_module(spec.module)
    fields = config_parameters(spec.config)
    shown = {p.name for p in fields}
    left = [field for field in spec.config.__struct_fields__ if field not in shown]
    runner = _runner(name, files, left)
    own = list(inspect.signature(runner).parameters.values())[:-1]  # without **config
    parameters = [*own, *fields]
    runner.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    runner.__annotations__ = {p.name: p.annotation for p in parameters}
    # \b keeps the lines of a paragraph as they are
    runner.__doc__ = "\b\n" + (sys.modules[spec.module].__doc__ or "").strip().replace("\n\n", "\n\n\b\n")
    app = typer.Typer(
        add_completion=False, rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]}
    )
    app.command(name)(runner)
    return app


def config_parameters(config: type[Any]) -> list[inspect.Parameter]:
    """Parameters for the plain fields of a Config: bools --x/--no-x, lists repeated.

    Nested values, and fields that have the name of an option of ours, are left to --config.
    """
    import msgspec

    comments = field_comments(config)
    parameters = []
    for field in msgspec.structs.fields(config):
        if field.name in _OURS:
            continue
        flag = "--" + field.name.replace("_", "-")
        kind = msgspec.inspect.type_info(field.type)
        text = comments.get(field.name, "")
        default = field.default if field.default is not msgspec.NODEFAULT else None
        if default not in (None, "", ()) and not isinstance(default, list | dict):
            shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
            text = f"{text} (default: {shown})".strip()
        annotation: Any = Annotated[str | None, typer.Option(flag, help=text, show_default=False)]
        if isinstance(kind, msgspec.inspect.BoolType):
            annotation = Annotated[
                bool | None, typer.Option(f"{flag}/--no-{flag[2:]}", help=text, show_default=False)
            ]
        elif isinstance(kind, msgspec.inspect.VarTupleType | msgspec.inspect.ListType):
            annotation = Annotated[
                list[str] | None, typer.Option(flag, help=f"{text} (repeatable)", show_default=False)
            ]
        elif isinstance(kind, msgspec.inspect.DictType | msgspec.inspect.StructType):
            continue
        parameters.append(
            inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        )
    return parameters


def field_comments(config: type[Any]) -> dict[str, str]:
    """The comment behind each field of a Config: its help."""
    try:
        source = inspect.getsource(config)
    except OSError:
        return {}
    return dict(re.findall(r"^\s+(\w+)\s*:[^#\n]*?#\s*(.+)$", source, re.MULTILINE))


def _runner(name: str, files: list[str], left: list[str]) -> Callable[..., None]:
    only = f"; the only way to set {', '.join(left)}" if left else ""

    def run(
        inputs: Annotated[
            list[str],
            typer.Argument(metavar="IN...", help="Files, folders, globs, or - for an Arrow stream."),
        ],
        output: Annotated[str, typer.Option("-o", "--output", help="Output folder; -: an Arrow IPC stream.")],
        when: Annotated[str, typer.Option("--when", help="Predicate; other rows pass untouched.")] = "",
        workers: Workers = 0,
        store: Annotated[str, typer.Option("--store", help="Work store.")] = "",
        fresh: Annotated[bool, typer.Option("--fresh", help="Make the dataset anew.")] = False,
        config_file: Annotated[
            str, typer.Option("--config", metavar="FILE", help=f"YAML file with options of the stage{only}.")
        ] = "",
        sets: Annotated[
            list[str] | None,
            typer.Option("--set", metavar="KEY=VALUE", help="Any key, such as input.columns.text=content."),
        ] = None,
        as_json: Json = False,
        quiet: Quiet = False,
        **config: Any,
    ) -> None:
        recipe = one_stage(name, inputs, output, when, store, config_file, sets or [], config)
        execute(recipe, files, workers, fresh, None, WORKER_MEMORY_MB, "", as_json, quiet)

    return run


def one_stage(
    name: str,
    inputs: list[str],
    output: str,
    when: str,
    store: str,
    config_file: str,
    sets: list[str],
    config: dict[str, Any],
) -> Any:
    """The recipe that `curate stage` stands for."""
    from curate.recipe.recipe import from_tree
    from curate.recipe.tree import Tree

    step = _options(name, config_file, config)
    if when:
        step["when"] = when
    root: dict[str, Any] = {
        "name": name,
        "input": _from_stdin() if inputs == ["-"] else {"path": inputs},
        "stages": [{name: step}],
        "output": {"path": output},
    }
    if store:
        root["store"] = store
    root["guards"] = {"unchanged": "warn"}  # as with sed, nothing to change is an answer
    if output == "-":  # as with grep, no rows are an answer: the next command gets an empty stream
        root["allow_empty"] = True
    return from_tree(Tree(root, f"curate stage {name}"), sets=sets, default_name=name)


def _options(name: str, config_file: str, config: dict[str, Any]) -> dict[str, Any]:
    """Keys of the stage's Config: those of the file, then those of the flags."""
    from curate.recipe.tree import scalar

    step = _from_file(config_file) if config_file else {}
    for key, value in config.items():
        if isinstance(value, list):
            value = [scalar(v) for v in value]
        if value is not None and value != []:
            step[key] = scalar(value) if isinstance(value, str) else value
    if name == "select" and isinstance(step.get("where"), int | float | bool):
        step["where"] = str(config["where"])  # `--where true` is a predicate
    return step


def _from_file(path: str) -> dict[str, Any]:
    from pathlib import Path

    from curate.recipe.tree import parse

    try:
        found = parse(Path(path).read_text("utf-8"), path).root or {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}", hint="--config takes a YAML file") from None
    if not isinstance(found, dict):
        raise ConfigError("the options of a stage are a mapping", where=path, hint="one `key: value` a line")
    return found


def _from_stdin() -> dict[str, Any]:
    """The `input` of an Arrow IPC stream on stdin, laid down as a Parquet file for the time of the run.

    Rows keep the ids they come with: along a pipe they are the same rows.
    """
    import atexit
    from tempfile import TemporaryDirectory

    import pyarrow as pa
    import pyarrow.parquet as pq

    scratch = TemporaryDirectory(prefix="curate-stdin-")
    atexit.register(scratch.cleanup)
    path = f"{scratch.name}/stdin.parquet"
    try:
        with (
            pa.ipc.open_stream(sys.stdin.buffer) as reader,
            pq.ParquetWriter(path, reader.schema, compression="zstd") as writer,
        ):
            for batch in reader:
                writer.write_batch(batch)
            has_ids = "id" in reader.schema.names and reader.schema.field("id").type in (
                pa.string(),
                pa.large_string(),
            )
    except pa.ArrowInvalid as error:
        raise ConfigError(
            f"stdin is no Arrow IPC stream: {error}", hint="`curate stage ... -o -` writes one"
        ) from None
    return {"path": [path], "id": "id"} if has_ids else {"path": [path]}
