"""Passes of a work store: who needs them, how old they are, and their removal."""

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from curate.cli.dataset import find_runs
from curate.engine.journal import MANIFEST
from curate.engine.lock import Lock, is_dead, passes_in_use, read_owner
from curate.engine.unit import read_plan
from curate.errors import LockedError
from curate.io.files import Folder

_LEAVING = ".leaving-"  # a pass half removed; nobody resumes it


@dataclass(frozen=True)
class StoredPass:
    """A pass folder: the bytes that its removal frees, seconds since its last use, and what keeps it ('' is nothing)."""

    path: Path
    bytes: int
    age: float
    needed_by: str


def passes_of(store: Path) -> list[StoredPass]:
    """All passes of a store, the least recently used first."""
    needs = dict(_needed(store))
    now = time.time()
    found = []
    for path in (store / "passes").iterdir():
        if not path.is_dir():
            continue
        fingerprint = path.name.partition("-merge")[0]
        owner = read_owner(Folder(path))
        holder = f"process {owner.pid} on {owner.host}" if owner and not is_dead(owner) else ""
        found.append(
            StoredPass(path, _freed_bytes(path), now - _last_use(path), holder or needs.get(fingerprint, ""))
        )
    return sorted(found, key=lambda one: (-one.age, one.path.name))


def _needed(store: Path) -> Iterator[tuple[str, str]]:
    """Pass -> who needs it: a run that is alive anywhere, or an unfinished one beside the store or below."""
    yield from ((name, "a run that is alive") for name in passes_in_use(Folder(store)))
    for run in find_runs(store.resolve().parent):
        folder = Folder(run)
        plan = read_plan(folder)
        if plan and not folder.exists(MANIFEST) and Path(plan.store).resolve() == store.resolve():
            yield from ((one.fingerprint, f"the unfinished run {run}") for one in plan.passes)


def _last_use(path: Path) -> float:
    """A run touches the manifest of a pass it uses; an unfinished pass was used when it last wrote."""
    marks = [path / MANIFEST, path / "_curate/journal", path / "_curate", path]
    return next(mark.stat().st_mtime for mark in marks if mark.exists())


def _freed_bytes(path: Path) -> int:
    """Files that datasets hold as well (hard links) free nothing."""
    stats = (os.stat(Path(place) / name) for place, _, names in os.walk(path) for name in names)
    return sum(s.st_size for s in stats if s.st_nlink == 1)


def choose(passes: list[StoredPass], keep_seconds: float, max_bytes: float | None) -> list[StoredPass]:
    """What is to go: everything unneeded that is too old, then the least recently used until the rest fits."""
    chosen = []
    left = sum(one.bytes for one in passes)
    for one in passes:
        too_much = max_bytes is not None and left > max_bytes
        if not one.needed_by and (one.age > keep_seconds or too_much or _LEAVING in one.path.name):
            chosen.append(one)
            left -= one.bytes
    return chosen


def remove(one: StoredPass) -> bool:
    """Remove a pass, unless a run has taken it meanwhile. It is gone under its name before its files go."""
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
