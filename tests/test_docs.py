"""What the project says of itself is there and true."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


def commands() -> Iterator[tuple[str, Any]]:
    """Every command with its full name: ("models get", ...)."""
    from typer.main import get_command

    from curate.cli.main import app

    waiting: list[tuple[str, Any]] = [("", get_command(app))]
    while waiting:
        name, command = waiting.pop()
        inner = getattr(command, "commands", None)
        if inner is None:
            yield name, command
        else:
            waiting += [(f"{name} {key}".strip(), value) for key, value in inner.items()]


@pytest.fixture(scope="module")
def fresh_pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The stages' pages as `make docs` would write them now."""
    folder = tmp_path_factory.mktemp("pages")
    subprocess.run([sys.executable, "scripts/stage_pages.py", str(folder)], check=True, cwd=ROOT)
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_every_stage_has_a_page(fresh_pages: dict[str, str]) -> None:
    stages = [path for path in (ROOT / "curate/stages").glob("*.py") if not path.stem.startswith("_")]
    assert set(fresh_pages) == {f"{path.stem}.md" for path in stages}
    assert "`min_words`" in fresh_pages["gopher_quality.md"]
    assert "arXiv:2112.11446" in fresh_pages["gopher_quality.md"]


def test_pages_are_those_of_make_docs(fresh_pages: dict[str, str]) -> None:
    written = {path.name: path.read_text() for path in (ROOT / "curate/stages/pages").glob("*.md")}
    stale = sorted(name for name in {*written, *fresh_pages} if written.get(name) != fresh_pages.get(name))
    assert stale == [], "run `make docs`"


def test_every_command_shows_an_example() -> None:
    found = dict(commands())
    assert {"run", "check", "stage", "verify", "models get"} <= set(found)
    assert [name for name, command in found.items() if "Example:" not in (command.help or "")] == []


def test_every_option_is_explained() -> None:
    options = [
        (name, option) for name, command in commands() for option in command.params if hasattr(option, "help")
    ]
    assert len(options) > 20
    assert [f"{name} {option.name}" for name, option in options if not option.help] == []


def test_readme_names_every_command() -> None:
    readme = (ROOT / "README.md").read_text()
    if readme.count("\n") <= 20:
        pytest.skip("README.md is not written yet")
    first = {name.split()[0] for name, _ in commands()}
    assert [name for name in sorted(first) if not re.search(rf"(curate |`){name}\b", readme)] == []


def test_quickstart_is_a_checked_recipe() -> None:
    from curate.recipe.recipe import load

    recipe = load(ROOT / "recipes/quickstart.yaml")
    assert [step.stage for step in recipe.steps][-1] == "minhash_dedup"
    assert all((ROOT / "curate/stages" / f"{step.stage}.py").is_file() for step in recipe.steps)
