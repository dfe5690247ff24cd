"""One file per stage; the file's name is the stage's name. `find` also knows entry points and files of users."""

import difflib
import hashlib
import importlib
import importlib.util
import sys
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from curate.errors import ConfigError, DataError
from curate.stage import Stage

_user_files: dict[str, Path] = {}  # stage name -> file given with --stages


def names() -> list[str]:
    """Every stage that can stand in a recipe now, sorted."""
    built_in = [path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_")]
    return sorted({*built_in, *(point.name for point in _entry_points()), *_user_files})


def find(name: str) -> Stage:
    """The stage of that name. ConfigError, with the nearest name, where there is none."""
    if name in _user_files:
        module = load_file(_user_files[name])
    elif (Path(__file__).parent / f"{name}.py").is_file() and name.isidentifier():
        module = importlib.import_module(f"curate.stages.{name}")
    elif point := next((p for p in _entry_points() if p.name == name), None):
        return _declared(point.load(), name, point.value)
    else:
        near = difflib.get_close_matches(name, names(), 1)
        raise ConfigError(
            f"unknown stage `{name}`",
            hint=f"did you mean `{near[0]}`?" if near else "`curate ls stages` lists them",
        )
    return _declared(getattr(module, name, None), name, str(module.__file__))


def use_file(path: str | Path, sha256: str = "") -> list[str]:
    """Make the stages declared in a Python file known (`--stages my_stages.py`); returns their names.

    With `sha256` a DataError where the file has another content by now: it was edited under the run that planned it.
    """
    file = Path(path).resolve()
    if not file.is_file():
        raise ConfigError(f"no such stages file: {path}", hint="--stages takes a Python file")
    module = load_file(file)
    if sha256 and hashlib.sha256(file.read_bytes()).hexdigest() != sha256:
        raise DataError(
            f"`{path}` is not what it was when the run was planned",
            hint="restore it, or plan anew with --fresh",
        )
    found = [key for key, value in vars(module).items() if _stage_of(value) and _stage_of(value).name == key]  # type: ignore[union-attr]
    if not found:
        raise ConfigError(
            f"{path} declares no stage",
            hint='decorate a function with @stage("its_name", ...), from curate.stage',
        )
    _user_files.update(dict.fromkeys(found, file))
    return found


def file_of(name: str) -> Path | None:
    """The user's file that declares the stage, if it came from one."""
    return _user_files.get(name)


@cache
def load_file(file: Path) -> ModuleType:
    """Import a user's stages file once, under a name of its own."""
    spec = importlib.util.spec_from_file_location(f"curate_stages_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{file} is not a Python file", hint="--stages takes a .py file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(
            f"the stages file raised {type(error).__name__}: {error}",
            where=str(file),
            hint=f"try `python {file}`",
        ) from error
    return module


@cache
def _entry_points() -> tuple[importlib.metadata.EntryPoint, ...]:
    return tuple(entry_points(group="curate.stages"))


def _stage_of(value: object) -> Stage | None:
    return value if isinstance(value, Stage) else getattr(value, "stage", None)


def _declared(value: object, name: str, where: str) -> Stage:
    found = _stage_of(value)
    if not isinstance(found, Stage):
        raise ConfigError(
            f"no stage `{name}` is declared there", where=where, hint="see `@stage` in curate.stage"
        )
    return found
