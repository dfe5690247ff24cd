"""`curate run` and `curate check`."""

import re
import sys
from typing import Annotated, Any

import typer

from curate.errors import ConfigError

WORKER_MEMORY_MB = 1024  # as engine.run has it, which help must not import
Recipe = Annotated[str, typer.Argument(metavar="RECIPE", help="A YAML recipe.", show_default=False)]
Output = Annotated[
    str,
    typer.Option(
        "-o", "--output", help="Output folder or address; stands for output.path. `-`: an Arrow IPC stream."
    ),
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY.PATH=VALUE", help="Change one value of the recipe; repeatable."),
]
StageFiles = Annotated[
    list[str] | None,
    typer.Option("--stages", metavar="FILE.py", help="A Python file that declares stages; repeatable."),
]
Store = Annotated[
    str,
    typer.Option("--store", help="Work store for finished passes; `.curate` beside the output by default."),
]
Workers = Annotated[int, typer.Option("--workers", min=0, help="Worker processes; 0: one per core.")]
WorkerMemory = Annotated[
    int,
    typer.Option("--worker-memory-mb", min=1, help="A worker above this is killed and its unit tried again."),
]
_REFUSES = "Refuse to start when the forecast may need more"
MaxMemory = Annotated[
    str, typer.Option("--max-memory", metavar="SIZE", help=f"{_REFUSES} in all workers together, as in 8GB.")
]
MaxDisk = Annotated[
    str, typer.Option("--max-disk", metavar="SIZE", help=f"{_REFUSES} for output and work store, as in 2TB.")
]
MaxHours = Annotated[float | None, typer.Option("--max-hours", min=0, help=f"{_REFUSES} time.")]
Allow = Annotated[
    str,
    typer.Option(
        "--allow",
        metavar="GUARD[,GUARD]",
        help="Guards that only warn: max_drop, constant_score, canaries, ...",
    ),
]
PlanOnly = Annotated[bool, typer.Option("--plan-only", help="Print the plan alone; run no sample.")]
AssumeRows = Annotated[
    int,
    typer.Option("--assume-rows", min=0, help="Forecast as if the input had so many rows of its kind."),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing unless something is wrong.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("run")(run)
    app.command("check")(check)


def run(
    recipe: Recipe,
    output: Output = "",
    sets: Sets = None,
    workers: Workers = 0,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Make the dataset anew instead of going on.")
    ] = False,
    stages: StageFiles = None,
    store: Store = "",
    allow_quarantined: Annotated[
        float | None,
        typer.Option(
            "--allow-quarantined",
            min=0,
            help="Rows (or below 1 a share) that may be quarantined before the exit code is 4.",
        ),
    ] = None,
    worker_memory: WorkerMemory = WORKER_MEMORY_MB,
    max_memory: MaxMemory = "",
    max_disk: MaxDisk = "",
    max_hours: MaxHours = None,
    allow: Allow = "",
    events: Annotated[str, typer.Option("--events", metavar="FILE", help="One JSON line per event.")] = "",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run a recipe to its end, or go on where it stopped.

    Example: curate run recipes/quickstart.yaml -o out/quickstart

    Exit codes: 0 complete; 1 a guard stopped it; 2 usage or configuration, a stage that cannot work, or the folder is
    in use; 3 incomplete, run again to resume; 4 complete with more quarantined rows than allowed; 130 interrupted.
    """
    loaded = _allowing(_load(recipe, output, sets, stages, store), allow)
    limits = _limits(max_memory, max_disk, max_hours)
    execute(
        loaded, stages or [], workers, fresh, allow_quarantined, worker_memory, events, as_json, quiet, limits
    )


def _allowing(recipe: Any, names: str) -> Any:
    """The recipe with guards that `--allow` names beside its own."""
    import msgspec

    from curate.recipe.guards import check_names

    allowed = tuple(name.strip() for name in names.split(",") if name.strip())
    check_names(allowed)
    guards = msgspec.structs.replace(recipe.guards, allow=(*recipe.guards.allow, *allowed))
    return msgspec.structs.replace(recipe, guards=guards)


def _limits(memory: str, disk: str, hours: float | None) -> Any:
    from curate.engine.forecast import Limits

    return Limits(memory=_bytes(memory, "--max-memory"), disk=_bytes(disk, "--max-disk"), hours=hours)


def _bytes(size: str, flag: str) -> float | None:
    """Bytes of a size like 8GB or 1.5TB; None where there is none."""
    if not size:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT])?(i)?B?", size.strip(), re.IGNORECASE)
    if not found:
        raise ConfigError(f"{flag} takes a size, not `{size}`", hint="as in 8GB, 500MB or 1.5TB")
    number, unit, binary = found.groups()
    return float(float(number) * (1024 if binary else 1000) ** " KMGT".index((unit or " ").upper()))


def _load(recipe: str, output: str, sets: list[str] | None, stages: list[str] | None, store: str) -> Any:
    from curate.recipe.recipe import load
    from curate.stages import use_file

    for file in stages or []:
        use_file(file)
    return load(recipe, sets=[*(sets or []), *([f"store={store}"] if store else [])], output=output)


def execute(
    recipe: Any, stage_files: list[str], workers: int, fresh: bool, allow_quarantined: float | None, worker_memory: int,
    events: str, as_json: bool, quiet: bool, limits: Any = None,
) -> None:  # fmt: skip
    """Run a loaded recipe and end the process with its exit code."""
    from curate.cli.console import Progress, print_json, print_summary
    from curate.engine.run import run as run_recipe

    stream = recipe.output.path == "-"
    if stream and as_json:
        raise ConfigError("`--json` and `-o -` both write to stdout", hint="leave one of them out")
    progress = Progress(quiet)
    listen = EventFile(events, progress) if events else progress
    if stream:
        recipe, scratch = to_scratch(recipe)
    try:
        result = run_recipe(
            recipe, workers=workers, fresh=fresh, stage_files=stage_files, max_memory_mb=worker_memory,
            allow_quarantined=allow_quarantined, listen=listen, limits=limits,
        )  # fmt: skip
    finally:
        progress.close()
    if stream:
        _write_stream(recipe.output.path)
        scratch.cleanup()
        result.output, result.next = "-", ""
    if as_json:
        print_json(result)
    if not quiet or result.exit:
        print_summary(result)
    raise typer.Exit(result.exit)


def to_scratch(recipe: Any) -> tuple[Any, Any]:
    """The recipe with a temporary folder in place of `-`."""
    from tempfile import TemporaryDirectory

    import msgspec

    scratch = TemporaryDirectory(prefix="curate-stream-")
    output = msgspec.structs.replace(
        recipe.output, path=f"{scratch.name}/out", format="parquet", partition_by=()
    )
    return msgspec.structs.replace(recipe, output=output), scratch


def _write_stream(folder: str) -> None:
    """Kept rows of a dataset to stdout. Without rows it is still a stream: its columns, and nothing more."""
    import pyarrow as pa

    from curate.engine.plan import check_schema
    from curate.engine.run import read
    from curate.engine.shape import written
    from curate.engine.unit import load_plan

    plan = load_plan(folder)
    before = plan.input_schema()
    schema = written(plan.recipe.output, before, check_schema(plan.recipe, before))
    with pa.ipc.new_stream(sys.stdout.buffer, schema) as writer:
        for batch in read(folder):
            writer.write_batch(batch.cast(schema))
    sys.stdout.buffer.flush()


class EventFile:
    """Writes every event as a JSON line, then passes it on."""

    def __init__(self, path: str, then: Any) -> None:
        try:
            self._file = open(path, "a", buffering=1)  # noqa: SIM115
        except OSError as error:
            raise ConfigError(
                f"cannot write {path}: {error.strerror}", hint="--events takes a file to append to"
            ) from None
        self._then = then

    def __call__(self, kind: str, data: Any) -> None:
        import time

        import msgspec

        self._file.write(msgspec.json.encode({"event": kind, "time": time.time(), **data}).decode() + "\n")
        self._then(kind, data)


def check(
    recipe: Recipe,
    output: Output = "",
    sets: Sets = None,
    workers: Workers = 0,
    fresh: Annotated[bool, typer.Option("--fresh", help="As for run.")] = False,
    stages: StageFiles = None,
    store: Store = "",
    worker_memory: WorkerMemory = WORKER_MEMORY_MB,
    max_memory: MaxMemory = "",
    max_disk: MaxDisk = "",
    max_hours: MaxHours = None,
    plan_only: PlanOnly = False,
    assume_rows: AssumeRows = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Open everything a recipe names, print the plan, and forecast the run from a sample.

    Rows, text, time, memory and disk come as ranges, of global stages' phases too. Nothing of the run is written.

    Example: curate check recipes/quickstart.yaml -o out/quickstart --max-memory 4GB

    Exit codes: 0 it can be run as far as the last line says; 1 it would not fit; 2 what stands in its way is named.
    """
    from curate.cli.console import Progress, print_json
    from curate.engine.check import check as check_recipe

    loaded = _load(recipe, output, sets, stages, store)
    stream = loaded.output.path == "-"
    if stream:
        loaded, _scratch = to_scratch(loaded)
    limits = _limits(max_memory, max_disk, max_hours)
    report = check_recipe(
        loaded, stages or [], Progress(quiet), fresh, workers=workers, max_memory_mb=worker_memory,
        plan_only=plan_only and not limits, max_download=limits.disk, assume_rows=assume_rows,
    )  # fmt: skip
    report.output = "-" if stream else report.output
    if as_json:
        print_json(report)
    elif not quiet:
        print("\n".join(report.lines()))
    if report.forecast:
        limits.refuse(report.forecast)
    raise typer.Exit(report.exit)
