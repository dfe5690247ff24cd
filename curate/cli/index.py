"""`curate index`: build, add, remove, info, merge, export."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from curate.cli.run import Json, Quiet, Workers
from curate.errors import COMPLETE, GUARD, ConfigError

if TYPE_CHECKING:
    from curate.index.removal import Removed

Place = Annotated[str, typer.Argument(metavar="INDEX", help="Folder of the index.", show_default=False)]
Corpora = Annotated[
    list[str],
    typer.Argument(metavar="CORPUS...", help="Output folders, files or globs, in order.", show_default=False),
]
Ids = Annotated[
    str, typer.Option("--id", metavar="COLUMN", help="Column with ids; `id` where Parquet has one.")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    group = typer.Typer(
        no_args_is_help=True,
        help="What minhash_dedup has seen, kept and dropped, for later crawls.\n\n"
        "Example: curate index build seen/ out/2025 && curate index info seen/",
    )
    for command in (build, add, remove, info, merge, export):
        group.command(command.__name__)(command)
    app.add_typer(group, name="index")


def build(
    index: Place,
    corpora: Corpora,
    config_file: Annotated[
        str,
        typer.Option(
            "--config",
            metavar="FILE",
            help="YAML file with options of minhash_dedup, as threshold or scheme.",
        ),
    ] = "",
    id_column: Ids = "",
    workers: Workers = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make an index of corpora; near-duplicates are looked for among their documents.

    Example: curate index build seen/ out/2024 out/2025
    """
    from curate.index.index import MANIFEST, Index, create
    from curate.io.files import Folder

    header = _header(config_file)
    if not Folder(index).exists(MANIFEST):
        create(index, header)
    Index(index).check(header)
    add(index, corpora, id_column, workers, as_json, quiet)


def _header(config_file: str) -> dict[str, Any]:
    """What an index made with these options of minhash_dedup says of itself."""
    import msgspec

    from curate.cli.stage import _from_file
    from curate.stages._minhash_sign import index_header
    from curate.stages.minhash_dedup import Config

    options = _from_file(config_file) if config_file else {}
    try:
        return index_header(msgspec.convert(options, Config))
    except msgspec.ValidationError as error:
        raise ConfigError(
            str(error), where=config_file, hint="`curate explain minhash_dedup` lists the options"
        ) from None


def add(
    index: Place,
    corpora: Corpora,
    id_column: Ids = "",
    workers: Workers = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Add documents, kept and dropped: each is looked for in the index and among those that come with it.

    Example: curate index add seen/ out/2026

    Killed, it goes on where it was when called again. What was added already is not added again.
    """
    from curate.cli.console import print_json, say
    from curate.engine.remember import add_corpus
    from curate.index.index import Index

    counts = []
    for corpus in corpora:
        before = Index(index)
        add_corpus(index, corpus, id_column, workers)
        after = Index(index)
        counts.append(
            {
                "corpus": corpus,
                "documents": after.documents - before.documents,
                "kept": after.kept - before.kept,
            }
        )
        if not quiet and not as_json:
            c: Any = counts[-1]
            known = "; it was there already" if after.digest == before.digest else ""
            say(f"{corpus}: {c['documents']:,} documents added, {c['kept']:,} of them kept{known}")
    if as_json:
        print_json({"schema": "curate.index/1", "index": index, "added": counts})


def remove(
    index: Place,
    ids: Annotated[str, typer.Option("--ids", metavar="FILE", help="One id a line.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Take documents out, and judge anew whom they stood for, as if they had never been there.

    Example: curate index remove seen/ --ids gone.txt

    Prints the documents that come back because their kept twin is gone, and those that are duplicates of one that came
    back. Exit codes: 0 all were there; 1 some ids are not in the index (the others are taken out).
    """
    from pathlib import Path

    from curate.cli.console import print_json
    from curate.engine.lock import Lock
    from curate.index.index import Index
    from curate.index.removal import remove as take_out
    from curate.io.files import Folder

    try:
        asked = [line for line in Path(ids).read_text("utf-8").splitlines() if line]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"cannot read {ids}: {error}", hint="--ids takes a text file, one id a line"
        ) from None
    Index(index)
    with Lock(Folder(index)):
        found = take_out(Index(index), asked)
    code = GUARD if found.missing else COMPLETE
    if as_json:
        print_json({
            "schema": "curate.index/1", "exit": code, "removed": found.removed, "missing": found.missing, "back": found.back,
            "dropped": [{"id": a, "kept_id": b} for a, b in found.dropped],
        })  # fmt: skip
    else:
        _print_removed(found)
    raise typer.Exit(code)


def _print_removed(found: "Removed") -> None:
    from curate.cli.console import printable, say

    for one in found.back:
        print(f"back\t{printable(one)}")
    for one, kept in found.dropped:
        print(f"dropped\t{printable(one)}\t{printable(kept)}")
    say(
        f"{found.removed:,} taken out, {len(found.back):,} come back, {len(found.dropped):,} go for one that came back"
    )
    if found.missing:
        say(
            f"{len(found.missing):,} ids are not in the index, {printable(found.missing[0])} the first of them"
        )


def info(index: Place, as_json: Json = False) -> None:
    """Say what an index holds.

    Example: curate index info seen/
    """
    from curate.cli.console import human_bytes, print_json
    from curate.index.index import Index

    found = Index(index)
    size = sum(sum(one.bytes.values()) for one in found.manifest.runs)
    counts = {
        "documents": found.documents, "kept": found.kept, "removed": found.manifest.removed,
        "runs": len(found.runs), "bytes": size, "added": len(found.manifest.added),
    }  # fmt: skip
    if as_json:
        print_json({"schema": "curate.index/1", "index": index, "header": found.manifest.header, **counts})
        return
    print(f"{index}: {found.documents:,} documents, {found.kept:,} kept, {found.manifest.removed:,} removed")
    print(f"{len(found.runs)} runs, {human_bytes(size)}; from {len(found.manifest.added)} additions")
    said = {k: " and ".join(v) if isinstance(v, list) else v for k, v in found.manifest.header.items()}
    print(", ".join(f"{key} {value}" for key, value in said.items() if value not in ("", None)))


def merge(index: Place, as_json: Json = False) -> None:
    """Make one run of all, without what was removed; answers stay what they are.

    Example: curate index merge seen/
    """
    from curate.cli.console import print_json, say
    from curate.engine.lock import Lock
    from curate.index.index import Index
    from curate.index.merge import merge as merge_runs
    from curate.io.files import Folder

    Index(index)
    with Lock(Folder(index)):
        before = Index(index)
        after: Index = merge_runs(before)
    if as_json:
        print_json({"schema": "curate.index/1", "runs": len(after.runs), "before": len(before.runs)})
    else:
        say(f"{len(before.runs)} runs are {len(after.runs)}")


def export(
    index: Place,
    to: Annotated[str, typer.Option("--to", metavar="FORMAT", help="datasketch: a pickled MinHashLSH.")],
    output: Annotated[str, typer.Option("-o", "--output", metavar="FILE", help="The file to write.")],
) -> None:
    """Write the kept documents as a structure of another library, which answers queries as the index does.

    Example: curate index export seen/ --to datasketch -o seen.pickle
    """
    from curate.cli.console import say
    from curate.index.export import to_datasketch
    from curate.index.index import Index

    if to != "datasketch":
        raise ConfigError(f"cannot export to `{to}`", hint="--to datasketch")
    say(f"{to_datasketch(Index(index), output):,} documents in {output}")
