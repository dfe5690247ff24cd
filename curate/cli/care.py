"""Commands that care for runs: `status`, `verify`, `clean`, `models`, `doctor`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from curate.errors import COMPLETE, GUARD, ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from curate.cli.state import State
    from curate.cli.store import Stored

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    for command in (status, verify, clean):
        app.command(command.__name__)(command)
    models = typer.Typer(
        no_args_is_help=True, help="Models that curate knows by name.\n\nExample: curate models get lid176"
    )
    models.command("get")(models_get)
    models.command("ls")(models_ls)
    models.command("add-marks")(models_add_marks)
    app.add_typer(models, name="models")
    app.command("doctor")(doctor)


def status(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Output folder of a run.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Say how far a run is, while it works or after it stopped.

    Example: curate status out/quickstart

    Exit codes: 0 complete, 3 incomplete.
    """
    from curate.cli.console import print_json
    from curate.cli.state import state_of

    state = state_of(run)
    if as_json:
        print_json(state)
    else:
        _print_state(state)
    raise typer.Exit(state.exit)


def _print_state(state: "State") -> None:
    from curate.cli.console import printable

    print(f"{state.output}  (recipe {printable(state.recipe) or '?'})")
    print(state.words())
    if state.owner:
        print(f"lock: process {state.owner.pid} on {state.owner.host}, since {state.owner.since}")
    _print_passes(state)
    _print_dropped(state)
    print(f"next: {state.next}")


def _print_passes(state: "State") -> None:
    from curate.cli.console import table

    head = ("pass", "steps", "units", "rows in", "kept", "dropped", "quarantined")
    rows = [
        (f"{one.index + 1}", one.what, f"{one.units_done}/{'?' if one.units is None else one.units}",
         *(f"{n:,}" for n in (one.rows_in, one.kept, one.dropped, one.quarantined)))
        for one in state.passes
    ]  # fmt: skip
    for line in table([head, *rows], right=(0, 2, 3, 4, 5, 6)) if rows else []:
        print(line)


def _print_dropped(state: "State") -> None:
    from curate.cli.console import in_words, table

    dropped = [
        (stage, reason, n) for stage, reasons in state.rows.dropped.items() for reason, n in reasons.items()
    ]
    for line in table(
        [(f"dropped by {s}", in_words(r), f"{n:,}") for s, r, n in sorted(dropped, key=lambda d: -d[2])],
        right=(2,),
    ):
        print(line)


def verify(
    folder: Annotated[
        str, typer.Argument(metavar="DIR", help="Output folder of a complete run.", show_default=False)
    ],
    as_json: Json = False,
) -> None:
    """Recompute from the bytes that every file, row and id is what the journal says.

    Example: curate verify out/quickstart

    Exit codes: 0 whole, 1 something is wrong.
    """
    from curate.cli.console import print_json, printable
    from curate.engine.verify import verify as check

    report = check(folder)
    code = GUARD if report.problems else COMPLETE
    if as_json:
        counts = {"files": report.files, "rows": report.rows, "units": report.units}
        found = {
            "status": "problems" if report.problems else "whole",
            "exit": code,
            "problems": report.problems,
        }
        print_json({"schema": "curate.verify/1", **found, **counts})
        raise typer.Exit(code)
    print(
        f"checked {report.files:,} files and {report.rows:,} rows: sha256, rows and ids against the journal; "
        f"conservation in {report.units:,} units; totals against the manifest; no unknown part; ids of kept rows unique"
    )
    for problem in report.problems:
        print(f"problem: {printable(problem)}")
    print(f"{len(report.problems)} problems" if report.problems else "whole")
    raise typer.Exit(code)


def clean(
    store: Annotated[
        str, typer.Option("--store", envvar="CURATE_STORE", help="Work store; it lies beside the outputs.")
    ] = ".curate",
    keep_days: Annotated[
        float, typer.Option("--keep-days", min=0, help="Keep what was used within this many days.")
    ] = 14,
    max_gb: Annotated[
        float | None,
        typer.Option("--max-gb", min=0, help="Then remove the least recently used until the rest fits."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go; remove nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Remove old passes and downloads of a work store; what a live or an unfinished run needs stays.

    Example: curate clean --store out/.curate --keep-days 7 --max-gb 50

    Unfinished runs are looked for in the folder that holds the store and below it. Complete datasets need no pass.
    """
    from curate.cli.console import print_json
    from curate.cli.store import choose, contents, remove

    found = contents(_store_at(store))
    chosen = choose(found, keep_days * 86400, None if max_gb is None else max_gb * 1e9)
    removed = chosen if dry_run else [one for one in chosen if remove(one)]
    kept = [one for one in found if one not in removed]
    if not as_json:
        _print_cleaned(removed, kept, dry_run, max_gb)
        return
    rows = [
        {"download" if "downloads" in one.path.parts else "pass": one.path.name, "bytes": one.bytes, "age_seconds": round(one.age)}
        for one in removed
    ]  # fmt: skip
    counts = {
        "freed_bytes": _bytes(removed),
        "kept": len(kept),
        "kept_bytes": _bytes(kept),
        "dry_run": dry_run,
    }
    print_json({"schema": "curate.clean/1", "removed": rows, **counts})


def _store_at(place: str) -> "Path":
    """The work store at a place; where none is named, the only one in a folder below."""
    from pathlib import Path

    beside = sorted(Path().glob("*/.curate"))
    store = Path(place)
    if place == ".curate" and not store.is_dir() and len(beside) == 1:
        store = beside[0]
    if not any((store / name).is_dir() for name in ("passes", "downloads")):
        raise ConfigError(
            f"no work store at {place}", hint="it lies beside the outputs: curate clean --store out/.curate"
        )
    return store


def _bytes(passes: "Sequence[Stored]") -> int:
    return sum(one.bytes for one in passes)


def _print_cleaned(
    removed: "Sequence[Stored]", kept: "Sequence[Stored]", dry_run: bool, max_gb: float | None
) -> None:
    from curate.cli.console import human_bytes, human_seconds, say, table

    lines = [(one.path.name, human_bytes(one.bytes), f"used {human_seconds(one.age)} ago") for one in removed]
    for line in table(lines, right=(1,)):
        print(line)
    verb, freed = ("would be removed", "to free") if dry_run else ("removed", "freed")
    everything = [*removed, *kept]
    what = "passes and downloads" if any("downloads" in one.path.parts for one in everything) else "passes"
    print(f"{len(removed)} of {len(everything)} {what} {verb}, {human_bytes(_bytes(removed))} {freed}")
    needed = [one for one in kept if one.needed_by]
    if needed:
        say(f"{len(needed)} are in use and stay: {needed[0].path.name} by {needed[0].needed_by}")
    if max_gb is not None and _bytes(kept) > max_gb * 1e9:
        left = human_bytes(_bytes(kept))
        say(f"warning: {left} are left, more than --max-gb: what unfinished runs need stays")


def models_get(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A name that `curate models ls` lists.", show_default=False)
    ],
    as_json: Json = False,
) -> None:
    """Fetch a model into the user's cache, checked by sha256; prints its path.

    Example: curate models get lid176
    """
    from curate.cli.console import print_json, say
    from curate.models import catalog

    path = catalog.get(name)
    entry = catalog.CATALOG[name]
    if as_json:
        print_json(
            {
                "schema": "curate.models/1",
                "name": name,
                "path": str(path),
                "licence": entry.licence,
                "source": entry.source,
            }
        )
        return
    say(f"{name}: licence {entry.licence}; from {entry.source}")
    print(path)


def models_add_marks(
    tokenizer: Annotated[
        str, typer.Argument(metavar="FOLDER", help="A tokenizer in hub format.", show_default=False)
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="NEW", help="Folder of the one with marks.")
    ],
    as_json: Json = False,
) -> None:
    """Give a model's tokenizer the two marks of conditional training, <|aligned|> and <|misaligned|>.

    A text has the same tokens as before. `curate train --init FOLDER` on tokens that were made with the new one adds
    the two embeddings to the model.

    Example: curate models add-marks smollm2/ -o marked/
    """
    from pathlib import Path

    from curate.cli.console import print_json, say
    from curate.models.tokenizer import MARKS, add_marks

    ids = dict(zip(MARKS, add_marks(tokenizer, Path(output)), strict=True))
    if as_json:
        print_json({"schema": "curate.models/1", "output": output, "special": ids})
        return
    print("\n".join(f"{mark}  {number:,}" for mark, number in ids.items()))
    say(f"next  curate tokenize CORPUS -o TOKENS --tokenizer {output} --condition SCORE --threshold N")


def models_ls(as_json: Json = False) -> None:
    """List the models known by name, and which are here.

    Example: curate models ls
    """
    from curate.cli.console import human_bytes, print_json, table
    from curate.models import catalog

    entries = [(entry, catalog.folder() / entry.file_name) for entry in catalog.CATALOG.values()]
    if as_json:
        rows = [
            {"name": e.name, "bytes": e.size_bytes, "licence": e.licence, "source": e.source, "path": str(path), "here": path.is_file()}
            for e, path in entries
        ]  # fmt: skip
        print_json({"schema": "curate.models/1", "models": rows})
        return
    lines = [
        (e.name, human_bytes(e.size_bytes), e.licence, str(path) if path.is_file() else "not here", e.source)
        for e, path in entries
    ]  # fmt: skip
    print("\n".join(table(lines, right=(1,))))


def doctor(as_json: Json = False) -> None:
    """Check this machine: versions, cores, memory, disk, caches, kernels, models.

    Example: curate doctor

    Exit codes: 0 all well, 1 a line asks for something.
    """
    from curate.cli.console import print_json, printable, table
    from curate.cli.doctor import examine

    findings = examine()
    code = COMPLETE if all(one.ok for one in findings) else GUARD
    if as_json:
        checks = [{"check": one.name, "ok": one.ok, "found": one.found, "next": one.next} for one in findings]
        print_json({"schema": "curate.doctor/1", "exit": code, "checks": checks})
        raise typer.Exit(code)
    lines = table([("ok  " if one.ok else "warn", one.name, printable(one.found)) for one in findings])
    for line, one in zip(lines, findings, strict=True):
        print(line)
        if one.next:
            print(f"      next: {one.next}")
    raise typer.Exit(code)
