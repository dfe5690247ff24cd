"""Options that several commands take."""

from typing import Annotated

import typer

Sides = Annotated[
    list[str] | None,
    typer.Option(
        "--with",
        metavar="DIR",
        help="Join the side columns that a run with `columns: new` wrote; repeatable.",
    ),
]
