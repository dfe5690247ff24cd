"""The house keeps its shape: who imports whom, one door per heavy library, quick imports, names."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "curate"
FILES = sorted(PACKAGE.rglob("*.py"))
STAGES = sorted(path for path in (PACKAGE / "stages").glob("*.py") if not path.stem.startswith("_"))

# A room imports only from itself and from rooms before it.
ROOMS = (
    "errors", "schema", "stage", "child", "io", "kernels", "programs", "models", "index", "stages", "recipe", "engine",
    "train", "eval", "fit", "study", "snapshots", "report", "cli",
)  # fmt: skip
# The only files or rooms that may import a library, wherever in them.
DOORS = {
    "duckdb": ("io/query.py",),
    "faiss": ("stages/semantic_dedup.py",),
    "fastwarc": ("io/warc.py",),
    "fsspec": ("io/",),
    "numba": ("kernels/",),
    "icu4py": ("stages/_words.py",),
    "llvmlite": ("kernels/",),
    "lm_eval": ("eval/",),
    "resiliparse": ("stages/extract.py", "io/warc.py"),  # a page's text; what encoding bytes are in
    "rich": ("cli/",),
    "torch": ("train/", "eval/", "models/embeddings.py"),
    "transformers": ("train/", "eval/", "models/embeddings.py"),
    "tokenizers": ("models/tokenizer.py",),
    "trafilatura": ("stages/extract.py",),
    "typer": ("cli/",),
    "click": ("cli/",),
    "yaml": ("recipe/", "stages/_thresholds.py"),
}
# but numba in kernels; torch and transformers where nobody imports a file without wanting them
NEVER_AT_TOP = {
    "torch", "duckdb", "datatrove", "trafilatura", "tokenizers", "numba", "faiss", "transformers", "lm_eval",
}  # fmt: skip
TOP_LEVEL = {
    ".ci", ".gitignore", "CHANGELOG.md", "LICENSE", "Makefile", "README.md", "curate", "pyproject.toml", "recipes",
    "scripts", "tests",
}  # fmt: skip


class Import(NamedTuple):
    file: str  # relative to curate/
    line: int
    module: str
    at_top: bool  # runs when the file is imported

    def __str__(self) -> str:
        return f"curate/{self.file}:{self.line} imports {self.module}"


def imports_of(source: str, file: str) -> Iterator[Import]:
    """Every import of a file, except those for type checkers alone."""
    yield from _walk(ast.parse(source), file, True)


def _walk(node: ast.AST, file: str, at_top: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(file, child.lineno, alias.name, at_top) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            module = "." * child.level + (child.module or "")
            names = [f"curate.{alias.name}" for alias in child.names] if module == "curate" else [module]
            yield from (Import(file, child.lineno, name, at_top) for name in names)
        elif isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _walk(child, file, at_top and not inside)


def all_imports() -> list[Import]:
    return [
        found
        for path in FILES
        for found in imports_of(path.read_text(), path.relative_to(PACKAGE).as_posix())
    ]


def room(path: str) -> str:
    """`io` of "io/warc.py", `errors` of "errors.py" or of "errors"."""
    return path.split("/")[0].removesuffix(".py")


def wrong_way(found: Import) -> bool:
    """Whether a file imports a room that comes after its own."""
    if found.module.startswith("."):
        return True
    if not found.module.startswith("curate.") or found.file == "__init__.py":
        return False
    here, there = room(found.file), found.module.split(".")[1]
    return ROOMS.index(there) > ROOMS.index(here)


def wrong_door(found: Import) -> bool:
    """Whether a file imports a library that has its door elsewhere."""
    doors = DOORS.get(found.module.split(".")[0])
    return doors is not None and not found.file.startswith(doors)


def too_early(found: Import) -> bool:
    """Whether a heavy library is imported with the file."""
    library = found.module.split(".")[0]
    allowed = room(found.file) in {"numba": ("kernels",), "torch": ("train", "eval")}.get(library, ())
    return found.at_top and library in NEVER_AT_TOP and not allowed


def test_the_rules_see_what_they_forbid() -> None:
    source = (
        "import duckdb\nfrom curate.engine import run\nfrom curate import cli\ndef f():\n    import numba\n"
    )
    duckdb, engine, cli, numba = imports_of(source, "stages/select.py")
    assert wrong_door(duckdb)
    assert too_early(duckdb)
    assert wrong_way(engine)
    assert wrong_way(cli)
    assert wrong_door(numba)
    assert not too_early(numba)


def test_every_room_has_its_place() -> None:
    assert {room(path.relative_to(PACKAGE).as_posix()) for path in FILES} - {"__init__"} <= set(ROOMS)


@pytest.mark.parametrize("rule", [wrong_way, wrong_door, too_early])
def test_imports(rule) -> None:
    assert [str(found) for found in all_imports() if rule(found)] == []


def modules_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after some code."""
    code += "\nimport sys; print('LOADED', *{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.rpartition("LOADED")[2].split())


def test_importing_stages_and_io_is_cheap() -> None:
    names = [
        f"curate.{path.parent.name}.{path.stem}" for path in [*STAGES, *(PACKAGE / "io").glob("[a-z]*.py")]
    ]
    loaded = modules_after(f"import {', '.join(names)}")
    assert "pyarrow" in loaded
    assert (
        loaded & {"numba", "duckdb", "torch", "datatrove", "trafilatura", "tokenizers", "resiliparse"}
        == set()
    )


def test_help_opens_nothing_heavy() -> None:
    loaded = modules_after(
        "import sys; sys.argv = ['curate', '--help']\nfrom curate.cli.main import main\n"
        "try: main()\nexcept SystemExit as end: assert not end.code"
    )
    assert "typer" in loaded
    assert loaded & {"pyarrow", "numpy", "numba", "duckdb", "rich", "yaml", "msgspec", "fsspec"} == set()


def test_no_file_is_named_for_nothing() -> None:
    nothing = re.compile(r"(utils?|helpers?|common|misc|manager|base)\.py")
    tracked = [*FILES, *(ROOT / "scripts").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    assert [str(path) for path in tracked if nothing.fullmatch(path.name)] == []


@pytest.mark.parametrize("path", STAGES, ids=lambda path: path.stem)
def test_a_stage_states_its_contract(path: Path) -> None:
    doc = ast.get_docstring(ast.parse(path.read_text())) or ""
    assert [
        word for word in ("Reads", "Writes", "Rows", "Fails") if not re.search(rf"^{word} ", doc, re.M)
    ] == []


@pytest.mark.parametrize("path", STAGES, ids=lambda path: path.stem)
def test_every_option_of_a_stage_is_explained(path: Path) -> None:
    tree = ast.parse(path.read_text())
    config = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Config")
    fields = [node for node in config.body if isinstance(node, ast.AnnAssign)]
    lines = path.read_text().splitlines()
    assert [
        ast.unparse(field.target) for field in fields if "  # " not in lines[(field.end_lineno or 0) - 1]
    ] == []


def test_constraints_pin_each_package_once() -> None:
    lines = (ROOT / ".ci/constraints.txt").read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.+]+", line)] == []  # so no host either
    names = [re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower() for line in lines]
    assert len(names) == len(set(names))


@pytest.fixture(scope="module")
def tracked_files() -> list[str]:
    if not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout")
    done = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stdout.splitlines()


def test_top_level_holds_nothing_else(tracked_files: list[str]) -> None:
    assert {name.partition("/")[0] for name in tracked_files} - TOP_LEVEL == set()


def test_no_file_names_somebodys_machine(tracked_files: list[str]) -> None:
    home = re.compile(rb"(?<![\w.}])/(?:work/|root/|home/\w+/|Users/\w+/)")
    present = [name for name in tracked_files if (ROOT / name).is_file()]
    assert [name for name in present if home.search((ROOT / name).read_bytes())] == []
