"""A page and its script, two files that work without a network.

All numbers and texts stand as JSON in the page, in which no byte of a document can end the element that holds it;
the script writes them by `textContent` alone, and the page's policy lets nothing but that script run.
"""

import html
import string
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from curate.errors import ConfigError


def write(kind: str, title: str, data: Any, target: Path) -> list[Path]:
    """Write a page and, beside it, its script; returns both. `kind` names the files it is made of: page or study."""
    script = target.with_suffix(".js")
    if script == target:
        raise ConfigError(f"the page cannot be called {target.name}", hint="-o report.html")
    here = files("curate.report")
    code = "".join((here / name).read_text("utf-8") for name in ("draw.js", f"{kind}.js"))
    _check_ours(script, code.partition("\n")[0])
    text = string.Template((here / f"{kind}.html").read_text("utf-8")).substitute(
        title=html.escape(title), style=(here / "page.css").read_text("utf-8"), script=quote(script.name),
        data=as_json(data),
    )  # fmt: skip
    try:
        script.write_text(code, "utf-8")
        target.write_text(text, "utf-8")
    except OSError as error:
        raise ConfigError(
            f"cannot write {error.filename}: {error.strerror}", hint="-o FOLDER/report.html"
        ) from None
    return [target, script]


def _check_ours(script: Path, first: str) -> None:
    """Refuse to write over a script that no report wrote."""
    try:
        with script.open("rb") as file:
            ours = file.read(len(first.encode())) == first.encode()
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError(f"cannot write {script}: {error.strerror}", hint="-o FOLDER/report.html") from None
    if not ours:
        raise ConfigError(
            f"{script} is there and is no script of a report; the page would need a script of that name",
            hint="give the page another name: -o report.html",
        )


_ESCAPED = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def as_json(value: Any) -> str:
    """JSON that may stand in a page: nothing in it reads as markup."""
    return msgspec.json.encode(value).decode().translate(_ESCAPED)
