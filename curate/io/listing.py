"""Files of an input: paths, globs and folders, local or at any fsspec address, each with its format.

A folder gives every file below it, without names that begin with `_` or `.`; those of unknown endings are put on
record as not read. A path or a glob that leads to one is an error: nothing named is left out silently. The root, which file
names are relative to, is the longest common folder of the paths before their first glob character. A folder with
`_curate/` is one of our own outputs: complete, its parts are read and keep their ids; incomplete, it is refused.
"""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from curate.errors import ConfigError, DataError
from curate.io import fetched, unread
from curate.io.documents import FORMATS as DOCUMENTS
from curate.io.files import is_remote
from curate.io.slices import Input, InputFile, Remote, near_names
from curate.io.stamps import is_local, stamp

FORMATS = ("warc", "jsonl", "parquet", "arrow", *DOCUMENTS)
_PACKED = ("gz", "zst", "zstd")
_ENDINGS = {
    **{ending: "warc" for ending in ("warc", "warc.gz", "wet", "wet.gz", "wat", "wat.gz")},
    **{
        ending: "jsonl" for ending in ("jsonl", "ndjson", "json")
    },  # a .json that is one array: rows of bad_json
    **{f"{ending}.{packed}": "jsonl" for ending in ("jsonl", "ndjson", "json") for packed in _PACKED},
    **{ending: "parquet" for ending in ("parquet", "pq")},
    "arrow": "arrow",
    **{ending: format for format, endings in DOCUMENTS.items() for ending in endings},
}


class NothingThere(DataError):
    """A path of the input leads to no file."""


def list_files(
    config: Input,
    base: Path,
    store: str = ".curate",
    seed: int = 0,
    say: Callable[[str], None] = lambda message: None,
) -> tuple[str, list[InputFile]]:
    """The input root and its files, sorted by name. Relative paths start from `base`.

    Files of Common Crawl and the hub are listed where they will lie in the work store `store`; `inputs.fetch` brings
    them. `seed` draws a share of a crawl.
    """
    _check_formats(config)
    if fetched.is_fetched(config):
        root, remote = fetched.list_remote(config, base, store, seed, say)
        spelled = set[str]().union(*(_marks(path.partition("://")[2]) for path in config.paths))
        shown = [file for file in remote if not _marks(file[0]) - spelled]
        return root, [_fetched_file(root, *file, config) for file in shown]
    found: dict[str, InputFile] = {}  # by whole name
    roots, systems = [], []
    for number, path in enumerate(config.paths):
        system, address, root, kind = _look(path, base)
        systems.append(system)
        roots.append(root)
        files = _files(system, address, root, kind)
        entry = -1 if isinstance(config.entries[number], str) else number
        format, own = config.of(entry).format, dict[str, bool]()
        if kind == "directory" and not format:
            _some_known(path, files)
        for name, about in files.items():
            file = InputFile(
                _address(system, name), name, _format(name, format, kind == "directory"), int(about["size"]),
                _is_own(system, name, root, own), stamp(system, name, about), entry=entry,
            )  # fmt: skip
            config.refuse_twice(name, found.setdefault(name, file).entry, entry)
        if not files:
            raise NothingThere(
                f"nothing to read at `{path}`", hint=f"looked at {address}", where=config.place_of(entry)
            )
    if len({str(system.protocol) for system in systems}) > 1:
        raise ConfigError("the paths lie on different systems", hint="one input, one system", where="input")
    root = os.path.commonpath(roots)
    named = (replace(file, name=_relative(file.name, root)) for file in found.values())
    return _address(systems[0], root), sorted(named, key=lambda file: file.name)


def _check_formats(config: Input) -> None:
    for number in range(-1, len(config.entries)):
        format = config.of(number).format
        if format is not None and format not in FORMATS:
            where = config.place_of(number)
            raise ConfigError(f"unknown format `{format}`", hint=near_names(format, FORMATS), where=where)


def _fetched_file(root: str, name: str, remote: Remote, entry: int, config: Input) -> InputFile:
    given = config.of(entry).format
    globbed = any(set("*?[") & set(path) for path in config.paths)
    named = any(path.endswith(name) for path in config.paths)
    format = unread.MISSING if remote.missing else _format(name, given, not (globbed or named))
    if format in DOCUMENTS and not (given or globbed or named):
        format = unread.FORMAT  # README.md of a dataset
    stamp = str(remote.seconds * 10**9)
    return InputFile(f"{root}/{name}", name, format, remote.size, stamp=stamp, remote=remote, entry=entry)


def path_that_takes_in(config: Input, base: Path, file: str) -> str:
    """The path of the input that a new file at `file` would belong to; "" when there is none."""
    from fsspec.utils import glob_translate

    if fetched.is_fetched(config):
        return ""
    for path in config.paths:
        system, address, root, kind = _look(path, base)
        place = _place_below(system, root, file)
        if kind == "file" or not place or _marks(place[len(root) :]) - _marks(address[len(root) :]):
            continue
        matches = re.compile(glob_translate(address)).match
        if kind == "directory" or any(matches(place[:end]) for end in _ends(place, len(root))):
            return path
    return ""


def _place_below(system: Any, root: str, file: str) -> str:
    # address of the file in the system when it lies below the root; links are followed on a disk
    from fsspec.core import url_to_fs

    if is_local(system) != (not is_remote(file)):
        return ""
    if is_local(system):
        below = os.path.relpath(os.path.realpath(file.removeprefix("file://")), os.path.realpath(root))
        return "" if below.startswith("../") else f"{root.rstrip('/')}/{below}"
    other, place = url_to_fs(file, use_listings_cache=False)
    same = other.protocol == system.protocol and place.startswith(f"{root.rstrip('/')}/")
    return str(place) if same else ""


def _ends(place: str, start: int) -> Iterator[int]:
    # of the path itself and of each folder above it
    while len(place) > start:
        yield len(place)
        place = place.rpartition("/")[0]


def _marks(below: str) -> set[str]:
    # `_` and `.` where they begin a name: such files are passed over
    return {part[0] for part in below.split("/") if part[:1] in ("_", ".")}


def _look(path: str, base: Path) -> tuple[Any, str, str, str]:
    # (file system, address there, root, "directory" | "file" | "glob")
    from fsspec.core import url_to_fs

    if not is_remote(path):
        path = str(base.absolute() / os.path.expanduser(path.removeprefix("file://")))
    try:
        system, address = url_to_fs(path, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        hint = "install what it needs; for s3://: pip install 'curate[s3]'"
        raise ConfigError(f"cannot open `{path}`: {error}", hint=hint, where="input") from error
    address = address.rstrip("/") or "/"
    try:
        there = system.exists(address)
        kind = ("directory" if system.isdir(address) else "file") if there else "glob"
    except Exception as error:  # every kind of store has errors of its own
        raise DataError(f"cannot open `{path}`: {error}", hint="check the address and the keys") from error
    if not there and not set("*?[") & set(address):
        raise NothingThere(f"there is nothing at `{path}`", hint=_beside(system, address), where="input")
    if kind == "directory":
        return system, address, address, kind
    first = min((address.find(c) for c in "*?[" if c in address), default=-1) if kind == "glob" else -1
    return system, address, address[:first].rpartition("/")[0] or "/", kind


def _beside(system: Any, address: str) -> str:
    folder, _, name = address.rpartition("/")
    if not system.isdir(folder or "/"):
        return f"there is no folder {folder} either"
    return near_names(name, [str(n).rpartition("/")[2] for n in system.ls(folder or "/", detail=False)][:50])


def _files(system: Any, address: str, root: str, kind: str) -> dict[str, dict[str, Any]]:
    # address -> what the system says of it; folders that a glob matches are walked
    if kind == "file":
        return {address: system.info(address)}
    matched = {address: {"type": "directory"}} if kind == "directory" else system.glob(address, detail=True)
    spelled = _marks(address[len(root) :])
    found: dict[str, dict[str, Any]] = {}
    for name, info in matched.items():
        below = system.find(name, detail=True) if info["type"] == "directory" else {name: info}
        if info["type"] == "directory":
            _refuse_incomplete(system, name)
        for file, about in below.items():
            if about["type"] != "directory" and not _marks(file[len(root) :]) - spelled:
                found[file] = _through_link(system, file, about)
    return found


def _through_link(system: Any, name: str, about: dict[str, Any]) -> dict[str, Any]:
    # a link to a file is that file; one to a folder is not walked (it may lead in a circle) and goes on record as unread
    if not about.get("islink"):
        return about
    if not system.exists(name):
        raise DataError(
            f"`{name}` is a link to nothing", hint="remove it, or bring its file back", where="input"
        )
    return dict(system.info(name))


def _some_known(path: str, files: dict[str, dict[str, Any]]) -> None:
    if files and not any(_ending(name) in _ENDINGS for name in files):
        endings = sorted({f".{_ending(name)}" for name in files})[:8]
        raise ConfigError(
            f"no file below `{path}` has an ending we know; there are {', '.join(endings)}",
            hint=f"say what they are with `format:` ({', '.join(FORMATS)})",
            where="input",
        )


def _format(name: str, given: str | None, in_folder: bool) -> str:
    # of a folder every file is taken in, if only to be put on record as not read
    format = given or _ENDINGS.get(_ending(name))
    if in_folder and format is None:
        return unread.FORMAT
    if unread.is_arc(name):
        raise ConfigError(f"`{name}`: ARC files are not read", hint=unread.HOW_TO_READ_ARC, where="input")
    if format is None:
        raise ConfigError(
            f"`{name}`: the ending is not one we know",
            hint=f"say what it is with `format:` ({', '.join(FORMATS)}), or narrow the path",
            where="input",
        )
    return format


def _ending(name: str) -> str:
    parts = name.rpartition("/")[2].lower().split(".")[1:]
    return ".".join(parts[-2:] if parts and parts[-1] in _PACKED else parts[-1:])


def _is_own(system: Any, name: str, root: str, known: dict[str, bool]) -> bool:
    # a part below a folder of ours; folders are looked at once
    if not name.rpartition("/")[2].startswith("part-"):
        return False
    return any(_is_output(system, folder, known) for folder in _folders(name, root))


def _folders(name: str, root: str) -> Iterator[str]:
    folder = name.rpartition("/")[0]
    while len(folder) >= len(root) and folder:
        yield folder
        folder = folder.rpartition("/")[0]


def _is_output(system: Any, folder: str, known: dict[str, bool]) -> bool:
    if folder not in known:
        _refuse_incomplete(system, folder)
        known[folder] = system.exists(f"{folder}/_curate/manifest.json")
    return known[folder]


def _refuse_incomplete(system: Any, folder: str) -> None:
    if system.isdir(f"{folder}/_curate") and not system.exists(f"{folder}/_curate/manifest.json"):
        raise DataError(
            f"`{folder}` is the output of a run that is not complete",
            hint="finish it first: the command that began it resumes it",
            where="input",
        )


def _address(system: Any, name: str) -> str:
    return name if is_local(system) else str(system.unstrip_protocol(name))


def _relative(name: str, root: str) -> str:
    relative = name[len(root) :].lstrip("/")
    try:
        relative.encode()
    except UnicodeEncodeError:
        raise DataError(f"the file name {relative!r} is not UTF-8", hint="rename the file") from None
    return relative
