"""Passes and downloads of a work store: who needs them, how old they are, and their removal."""

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from curate.cli.dataset import find_runs
from curate.engine.journal import MANIFEST
from curate.engine.lock import Lock, is_dead, passes_in_use, read_owner
from curate.engine.plan import Plan
from curate.engine.unit import read_plan
from curate.errors import LockedError
from curate.io.files import Folder

_LEAVING = ".leaving-"  # a pass half removed; nobody resumes it


@dataclass(frozen=True)
class Stored:
    """A pass folder or a download: the bytes its removal frees, seconds since its last use, what keeps it ('' nothing)."""

    path: Path
    bytes: int
    age: float
    needed_by: str


def contents(store: Path) -> list[Stored]:
    """All passes and downloads of a store, the least recently used first."""
    found = [*_passes(store), *_downloads(store)]
    return sorted(found, key=lambda one: (-one.age, one.path.name))


def _passes(store: Path) -> Iterator[Stored]:
    needs = dict(_needed(store))
    now = time.time()
    for path in (store / "passes").iterdir() if (store / "passes").is_dir() else ():
        if not path.is_dir():
            continue
        fingerprint = path.name.partition("-merge")[0]
        owner = read_owner(Folder(path))
        holder = f"process {owner.pid} on {owner.host}" if owner and not is_dead(owner) else ""
        yield Stored(path, _freed_bytes(path), now - _last_use(path), holder or needs.get(fingerprint, ""))


def _downloads(store: Path) -> Iterator[Stored]:
    """Files that were downloaded to be read. A live run may need any; an unfinished one needs those it planned."""
    alive = "a run that is alive" if passes_in_use(Folder(store)) else ""
    needed = {
        str(Path(plan.root, file.name)): f"the unfinished run {run}"
        for run, plan in _unfinished(store) for file in plan.files
    }  # fmt: skip
    now = time.time()
    for path in sorted((store.resolve() / "downloads").rglob("*")):
        if path.is_file() and path.parent.name != "listings":
            stat = path.stat()  # its mtime is that of its source
            age = now - max(stat.st_ctime, stat.st_atime)
            yield Stored(path, stat.st_size, age, alive or needed.get(str(path), ""))


def _needed(store: Path) -> Iterator[tuple[str, str]]:
    """Pass -> who needs it: a run that is alive anywhere, or an unfinished one beside the store or below."""
    yield from ((name, "a run that is alive") for name in passes_in_use(Folder(store)))
    for run, plan in _unfinished(store):
        yield from ((one.fingerprint, f"the unfinished run {run}") for one in plan.passes)


def _unfinished(store: Path) -> Iterator[tuple[str, Plan]]:
    """Runs beside the store or below that have a plan and no manifest."""
    for run in find_runs(store.resolve().parent):
        folder = Folder(run)
        plan = read_plan(folder)
        if plan and not folder.exists(MANIFEST) and Path(plan.store).resolve() == store.resolve():
            yield str(run), plan


def _last_use(path: Path) -> float:
    """A run touches the manifest of a pass it uses; an unfinished pass was used when it last wrote."""
    marks = [path / MANIFEST, path / "_curate/journal", path / "_curate", path]
    return next(mark.stat().st_mtime for mark in marks if mark.exists())


def _freed_bytes(path: Path) -> int:
    """Files that datasets hold as well (hard links) free nothing."""
    stats = (os.stat(Path(place) / name) for place, _, names in os.walk(path) for name in names)
    return sum(s.st_size for s in stats if s.st_nlink == 1)


def choose(passes: list[Stored], keep_seconds: float, max_bytes: float | None) -> list[Stored]:
    """What is to go: everything unneeded that is too old, then the least recently used until the rest fits."""
    chosen = []
    left = sum(one.bytes for one in passes)
    for one in passes:
        too_much = max_bytes is not None and left > max_bytes
        if not one.needed_by and (one.age > keep_seconds or too_much or _LEAVING in one.path.name):
            chosen.append(one)
            left -= one.bytes
    return chosen


def remove(one: Stored) -> bool:
    """Remove a pass, unless a run has taken it meanwhile, or a download. A pass loses its name before its files go."""
    if one.path.is_file():
        one.path.unlink()
        return True
    if _LEAVING not in one.path.name:
        leaving = one.path.with_name(f"{_LEAVING}{one.path.name}-{os.getpid()}")
        try:
            with Lock(Folder(one.path)):
                one.path.rename(leaving)
        except LockedError:
            return False
    else:
        leaving = one.path
    shutil.rmtree(leaving)
    return True
