"""Datasets of the Hugging Face hub: hf://datasets/ORG/NAME[@revision]/path, globs and folders.

A branch or tag is resolved to its commit when a run is planned; the plan holds the commit, and a resume goes on with it.
Files are read through huggingface_hub's own file system: HF_ENDPOINT says where the hub lies, HF_TOKEN (or a login) who
asks; neither reaches plan or log. A folder gives its data files; other files (README.md) go on record as not read.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from curate.errors import ConfigError, DataError
from curate.io.download import Found, Gone, Patience, store_answers
from curate.io.files import store_errors
from curate.io.slices import Remote

SCHEME = "hf://"
_HINT = "hf://datasets/ORG/NAME/data/*.parquet, or with a revision: hf://datasets/ORG/NAME@main/..."
_ADDRESS = re.compile(r"hf://datasets/[^/@]+/[^/@]+(@[^*?\[]*?)?(/.*)?")
_COMMIT = re.compile(r"hf://datasets/[^/@]+/[^/@]+@[0-9a-f]{40}(/|$)")


def pinned(path: str, patience: Patience) -> str:
    """The address at the commit that its revision is now."""
    if not _ADDRESS.fullmatch(path):
        raise ConfigError(f"`{path}` is no dataset of the hub", hint=_HINT, where="input")
    if _COMMIT.match(path):
        return path

    def attempt() -> str:
        with _answers(path):
            there = _system().resolve_path(path)
            about = _api().repo_info(there.repo_id, repo_type="dataset", revision=there.revision)
            return f"hf://datasets/{there.repo_id}@{about.sha}/{there.path_in_repo}".rstrip("/")

    return _tried(path, attempt, patience)


def files(path: str, patience: Patience) -> tuple[str, dict[str, Remote]]:
    """(root, files by name) of an address at a commit. Names and root begin with datasets/ORG/NAME@commit."""

    def attempt() -> tuple[str, dict[str, Remote]]:
        with _answers(path):
            system = _system()
            there = system.resolve_path(path)
            about = _api().repo_info(there.repo_id, repo_type="dataset", revision=there.revision)
            root, found = _found(system, there.unresolve())
        seconds = int(about.last_modified.timestamp()) if about.last_modified else 0
        return root, {name: _remote(info, seconds) for name, info in found.items() if info["type"] == "file"}

    root, found = _tried(path, attempt, patience)
    if not found:
        raise DataError(f"nothing to read at `{path}`", hint=_HINT, where="input")
    return root, found


def _found(system: Any, address: str) -> tuple[str, dict[str, dict[str, Any]]]:
    if "*" in address or "?" in address or "[" in address:
        first = min(address.find(c) for c in "*?[" if c in address)
        return address[:first].rpartition("/")[0], system.glob(address, detail=True)
    about = system.info(address)
    if about["type"] == "file":
        return address.rpartition("/")[0], {address: about}
    return address, system.find(address, detail=True)


def _remote(info: dict[str, Any], seconds: int) -> Remote:
    sha256 = (info.get("lfs") or {}).get("sha256") or ""
    return Remote(
        SCHEME + info["name"], int(info["size"]), sha256 or info.get("blob_id") or "", seconds, sha256
    )


def _system() -> Any:
    from huggingface_hub import HfFileSystem

    return HfFileSystem(skip_instance_cache=True)


def _api() -> Any:
    from huggingface_hub import HfApi

    return HfApi()


@contextmanager
def _answers(path: str) -> Iterator[None]:
    with store_answers(path), store_errors(path):
        yield


def _tried(path: str, attempt: Callable[[], Found], patience: Patience) -> Found:
    try:
        return patience.keep_trying(path, attempt)
    except Gone as gone:
        raise DataError(
            f"`{path}` cannot be found on the hub: {str(gone).splitlines()[0]}",
            hint="is the name right? Private and gated datasets need HF_TOKEN, and their terms accepted on their page",
            where="input",
        ) from None
