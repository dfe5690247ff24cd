"""What a canary is made of: the row it goes into, what is planted, and how a step shows that it found it."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from curate.recipe.recipe import Step


class Host(NamedTuple):
    """A real row that the recipe keeps."""

    row: dict[str, Any]  # as the input brings it
    text: str  # as the recipe leaves it
    lang: str
    number: int


class Change(NamedTuple):
    """What a planted row has in place of the host's; None is the host's own."""

    text: str | None = None
    url: str | None = None
    needle: str = ""  # what the text has from it
    meta: str = ""  # in the head of a page
    columns: tuple[tuple[str, Any], ...] = ()  # other columns and their values


Plant = Callable[[Host], Change | None]  # None: not into this one


class Kind(NamedTuple):
    """One thing to plant, and a step that must find it."""

    name: str
    finder: Step | None  # None: the reading itself
    how: Literal["verdict", "edit", "drop", "skip", "repeat"]
    plant: Plant
    counter: str = ""  # edits and repeats: the column that says how many the step has found
    copies: int = 1  # 2: the host and its double
    double: Plant | None = None  # what the double has; None: what the host has


def with_line(host: Host, line: str, needle: str) -> Change:
    """The host's text with a line more, among its own: at the end it might pass for a footer."""
    lines = host.text.split("\n")
    lines.insert((len(lines) + 1) // 2, line)
    return Change("\n".join(lines), needle=needle)


def at_line(host: Host, piece: str) -> Change:
    """The host's text with a piece at the begin of a line in the middle, so that no line is like another's."""
    lines = host.text.split("\n")
    lines[len(lines) // 2] = f"{piece} {lines[len(lines) // 2]}"
    return Change("\n".join(lines), needle=piece)
