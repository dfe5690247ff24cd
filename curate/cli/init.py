"""`curate init`: a folder to begin with."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from curate.errors import ConfigError

RECIPE = """\
# {name}: clean English prose. `make check` says what would be done, `make` does it, `make report` shows what came of it.
name: {name}
input: {{path: {path}{columns}}}
stages:{extract}
  - language_id: {{}}          # `lang` and `lang_score`
  - select: "lang = 'en' and lang_score >= 0.65"
  - gopher_quality: {{}}       # length, word length, symbols, stop words
  - gopher_repetition: {{}}    # repeated lines, paragraphs and n-grams
  - select: "gopher_quality_pass and gopher_repetition_pass"
  - minhash_dedup: {{}}        # one of the documents that share most of their word 5-grams
  - token_count: {{}}
output: {{path: "out/{name}"}}
"""

MAKEFILE = """\
# make          run the recipe, or go on where it stopped        make report   report.html, the page to open first
# make check    say what would be done                           make verify   recompute every sum
CURATE ?= {curate}

.PHONY: all run check report verify
all: report

run: .model
	$(CURATE) run recipe.yaml

check: .model
	$(CURATE) check recipe.yaml

report: run
	$(CURATE) report out/{name} -o report.html

verify:
	$(CURATE) verify out/{name}

# the language model, once
.model:
	$(CURATE) models get lid176
	@touch $@
"""

CRON = """\
# Every night at 02:15 the dataset is made anew from the input of that hour; silent unless something is wrong.
# To begin: remove the first # of the last line, then `crontab crontab.txt` (it replaces the lines that `crontab -l` shows).
# 15 2 * * * cd {folder} && {curate} run recipe.yaml --fresh --quiet && {curate} report out/{name} -o report.html --quiet
"""

IGNORE = """\
out/
.curate/
.model
report.html
report.js
"""


def init(
    folder: Annotated[
        str, typer.Argument(metavar="DIR", help="Folder to make or to fill.", show_default=False)
    ],
    source: Annotated[
        str,
        typer.Option(
            "--input",
            metavar="PATH",
            help="Your data: a file, folder or glob. Without it a sample is written.",
        ),
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Begin a project: a recipe, a Makefile, a line for cron and a .gitignore. Nothing is overwritten.

    Example: curate init my-corpus --input data/

    Then `cd my-corpus && make` runs the recipe and writes report.html.
    """
    from curate.cli.console import print_json, printable, say

    target = Path(folder)
    name = _name(target)
    columns = _columns(source) if source else ["text"]
    files = {
        "recipe.yaml": _recipe(name, _address(source, target) if source else "data/", columns),
        "Makefile": MAKEFILE.format(name=name, curate=_command().replace("$", "$$")),
        "crontab.txt": CRON.format(
            name=name, folder=_for_cron(str(target.resolve())), curate=_for_cron(_command())
        ),
        ".gitignore": IGNORE,
        **(_sample() if not source else {}),
    }
    _write(target, files)
    following = f"cd {folder} && make"
    if as_json:
        done = {"status": "complete", "exit": 0, "output": folder}
        print_json({"schema": "curate.init/1", **done, "written": list(files), "next": following})
        return
    for file in files:
        print(printable(str(target / file)))
    say(f"\nnext  {printable(following)}")


def _write(target: Path, files: dict[str, str]) -> None:
    """All of them or none."""
    there = [name for name in files if (target / name).exists()]
    if there:
        raise ConfigError(
            f"{target / there[0]} is there already; nothing was written",
            hint="choose another folder, or move it away",
        )
    try:
        for name, text in files.items():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            with (target / name).open("x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise ConfigError(
            f"cannot write {error.filename or target}: {error.strerror}", hint="curate init DIR"
        ) from None


def _name(target: Path) -> str:
    """The folder's name as a recipe and an output can bear it."""
    import re

    return re.sub(r"[^a-z0-9_-]+", "-", target.resolve().name.lower()).strip("-") or "corpus"


def _columns(source: str) -> Sequence[str]:
    """Columns that the rows of an input will have; DataError where there is no input."""
    from curate.io.files import is_remote
    from curate.io.inputs import Input, input_schema, list_files

    if is_remote(source):
        return ("text",)
    config = Input(path=source)
    root, files = list_files(config, Path())
    names: list[str] = input_schema(root, files, config).names
    return names


def _address(source: str, target: Path) -> str:
    """The input as seen from the folder: relative where it lies inside."""
    import os

    from curate.io.files import is_remote

    if is_remote(source):
        return source
    path, home = os.path.abspath(source), os.path.abspath(target)
    return os.path.relpath(path, home) if path.startswith(home + os.sep) else path


def _recipe(name: str, path: str, columns: Sequence[str]) -> str:
    """The recipe for rows of these columns: what a stage would overwrite gets another name."""
    import msgspec

    taken = [c for c in ("lang", "lang_score", "token_count") if c in columns]
    renamed = ", ".join(f"{column}_source: {column}" for column in taken)
    raw = [name for name in ("html", "pdf") if name in columns]
    if not raw and "text" not in columns:
        raise ConfigError(
            f"the input has no column `text`; it has {', '.join(columns)}",
            hint="write recipe.yaml by hand, with `input: {columns: {text: ...}}`",
        )
    extract = "\n  - extract: {}              # main text of each page" if "html" in raw else ""
    extract += "\n  - extract_pdf: {}          # text layer of each PDF" if "pdf" in raw else ""
    return RECIPE.format(
        name=name, path=msgspec.json.encode(path).decode(), extract=extract,
        columns=f", columns: {{{renamed}}}" if renamed else "",
    )  # fmt: skip


def _command() -> str:
    """The `curate` that runs now."""
    import sys

    beside = Path(sys.executable).with_name("curate")
    return str(beside) if beside.is_file() else "curate"


def _for_cron(text: str) -> str:
    """One word of a crontab line, where % ends the command."""
    import shlex

    return shlex.quote(text).replace("%", "\\%")


def _sample() -> dict[str, str]:
    """Ten short documents, one for most of the recipe's rules."""
    from importlib.resources import files

    return {"data/sample.jsonl": (files("curate.cli") / "sample.jsonl").read_text("utf-8")}
