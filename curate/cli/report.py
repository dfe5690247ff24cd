"""`curate report`: the page to open first; and the commands that compare and begin."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curate.cli.diff import diff
from curate.cli.init import init
from curate.cli.options import Sides
from curate.cli.threshold import threshold
from curate.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def register(app: typer.Typer) -> None:
    """Add `report` and the commands beside it."""
    for command in (report, diff, threshold, init):
        app.command(command.__name__)(command)


def report(
    folder: Annotated[
        str,
        typer.Argument(
            metavar="DIR", help="Output folder of a complete run, or of a study.", show_default=False
        ),
    ],
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="FILE", help="The page; its script is written beside it.")
    ] = "report.html",
    sides: Sides = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="What the page shows, as one JSON object on stdout; no page.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Say nothing unless something is wrong.")
    ] = False,
) -> None:
    """Write a page that shows what a dataset kept and dropped, and why; it needs no network.

    Of a study (the folder of `curate ablate`) it shows the verdicts, loss curves, corpora and cost of the arms.

    Example: curate report out/quickstart -o report.html

    The page and its script (report.js) hold all numbers, and some text of sampled documents.
    """
    from pathlib import Path

    from curate.cli.dataset import Dataset
    from curate.report import study
    from curate.report.facts import read_facts
    from curate.report.page import gather, write

    target = Path(output)
    if not as_json and not target.parent.is_dir():
        raise ConfigError(f"no such folder: {target.parent}", hint="make it first, or give another -o")
    if not as_json and (target.is_dir() or target.suffix.lower() not in (".html", ".htm")):
        raise ConfigError(f"the page cannot be `{output}`", hint="-o report.html")
    if study.is_study(folder):
        if sides:
            raise ConfigError("a study has no rows that columns could be joined to", hint="leave out --with")
        found = study.gather(folder)
        said = f"{found.lead}, by {found.primary_words}; open it in a browser:"
        _give(found, lambda: study.write(found, target), said, as_json, quiet)
    else:
        page = gather(read_facts(folder, ("parquet", "arrow")), Dataset(folder, sides or ()).sides)
        said = f"{page.rows['kept']:,} of {page.rows['in']:,} rows kept; open it in a browser:"
        _give(page, lambda: write(page, target), said, as_json, quiet)


def _give(page: Any, write: Callable[[], "list[Path]"], said: str, as_json: bool, quiet: bool) -> None:
    from curate.cli.console import print_json, say

    if as_json:
        print_json(page)
        return
    written = write()
    if not quiet:
        say(said)
        print(written[0])
