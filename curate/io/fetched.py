"""Inputs that are downloaded before they are read (commoncrawl://, hf://): what they mean, and where it comes to lie.

Everything lies in `downloads` of the work store (of the user's cache when that is remote), under the names that it has at
its source; from there it is read as any local file. What an address means is asked once and kept beside it, in
`listings`: a published crawl does not change, and an address of the hub is kept by its commit. So a resume asks nobody.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from curate.errors import ConfigError, DataError, GuardError
from curate.io import commoncrawl, hub, unread
from curate.io.download import Changed, Patience, Say, download_all, is_here
from curate.io.files import Folder, is_remote
from curate.io.slices import Input, InputFile, Remote

_NAMED = 20  # missing files in an error


class Listing(msgspec.Struct):
    """What an address means."""

    address: str
    root: str  # folder in `downloads`
    files: dict[str, Remote]  # by name in `downloads`


def is_fetched(config: Input) -> bool:
    """Whether an input is downloaded. ConfigError where only a part of it is."""
    found = {path.startswith((commoncrawl.SCHEME, hub.SCHEME)) for path in config.paths}
    if len(found) > 1:
        raise ConfigError("the paths lie on different systems", hint="one input, one system", where="input")
    return True in found


def pinned(config: Input, say: Say) -> Input:
    """The input with its revisions of the hub as commits."""
    patience = Patience(config.retry_seconds, say)
    paths = tuple(hub.pinned(p, patience) if p.startswith(hub.SCHEME) else p for p in config.paths)
    return config if paths == config.paths else config.with_paths(paths)


def downloads(store: str) -> Path:
    """Where downloads lie, always on a local disk."""
    if not is_remote(store):
        return Path(store).absolute() / "downloads"
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(os.environ.get("CURATE_CACHE") or Path(cache) / "curate") / "downloads"


def list_remote(
    config: Input, base: Path, store: str, seed: int, say: Say
) -> tuple[str, list[tuple[str, Remote, int]]]:
    """The input root, and (name, file, entry) of what is asked for. DataError when more is missing than may be."""
    patience, folder = Patience(config.retry_seconds, say), downloads(store)
    found = [_listing(path, base, seed, folder, patience) for path in pinned(config, say).paths]
    root = os.path.commonpath([listing.root for listing in found])
    files: dict[str, tuple[Remote, int]] = {}
    for number, listing in enumerate(found):
        entry = -1 if isinstance(config.entries[number], str) else number
        for name, remote in listing.files.items():
            before = files.setdefault(name[len(root) :].lstrip("/"), (remote, entry))[1]
            config.refuse_twice(name, before, entry)
    missing = sorted(name for name, (remote, _) in files.items() if remote.missing)
    if len(missing) > config.allow_missing:
        raise DataError(
            f"{len(missing)} of {len(files)} files are not at their source: {', '.join(missing[:_NAMED])}"
            + (", ..." if len(missing) > _NAMED else ""),
            hint=f"`input.allow_missing: {len(missing)}` goes on without them; they are counted as skipped",
            where="input",
        )
    return str(folder / root), sorted((name, *file) for name, file in files.items())


def _listing(path: str, base: Path, seed: int, folder: Path, patience: Patience) -> Listing:
    common = path.startswith(commoncrawl.SCHEME)
    identity = commoncrawl.identity(path, seed, base) if common else path
    kept, name = Folder(folder / "listings"), f"{hashlib.sha256(identity.encode()).hexdigest()[:20]}.json"
    if kept.exists(name):
        return msgspec.json.decode(kept.read(name), type=Listing)
    top = "commoncrawl" if common else "hub"
    root, files = ("", commoncrawl.files(path, seed, base, patience)) if common else hub.files(path, patience)
    for one in files:  # names become paths here
        if ".." in one.split("/") or one.startswith("/"):
            raise DataError(
                f"the source of `{path}` names a file {one!r}", hint="no such file is read", where="input"
            )
    found = Listing(
        path, f"{top}/{root}".rstrip("/"), {f"{top}/{name}": remote for name, remote in files.items()}
    )
    if not any(remote.missing for remote in files.values()):
        kept.replace(name, msgspec.json.format(msgspec.json.encode(found), indent=1))
    return found


def _forget(listings: Folder, address: str) -> None:
    for name in listings.names():
        found = msgspec.json.decode(listings.read(name), type=Listing)
        if any(remote.address == address for remote in found.files.values()):
            listings.remove(name)


def refuse_download(size: float, most: float | None) -> None:
    """GuardError where more bytes are to come than may."""
    if most is not None and size > most:
        raise GuardError(
            f"{size / 1e6:,.1f} MB are to be downloaded where --max-disk allows {most / 1e6:,.4g}",
            hint="ask for a smaller share, or allow more",
        )


def fetch(
    files: Sequence[InputFile],
    config: Input,
    store: str,
    say: Say,
    progress: Callable[[int, int, int, int], None],
    most: float | None = None,
) -> None:
    """Download what is not here yet. `progress` gets files and bytes that came, and how many are to come.

    GuardError, before the first byte, where that is more than `most` bytes.
    """
    wanted = {
        Path(f.path): f.remote
        for f in files
        if f.remote and f.format not in unread.FORMATS and not is_here(Path(f.path), f.remote)
    }
    came: list[int] = []
    size = sum(remote.size for remote in wanted.values())
    refuse_download(size, most)

    def tell() -> None:
        progress(len(came), sum(came), len(wanted), size)

    def done(path: Path, remote: Remote) -> None:
        came.append(remote.size)
        tell()

    if wanted:
        tell()
    try:
        download_all(wanted, Patience(config.retry_seconds, say), done)
    except Changed as error:
        _forget(Folder(downloads(store) / "listings"), error.address)
        raise
