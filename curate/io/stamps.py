"""Whether a file of the input is still the one that was planned, without reading it where its stamp says so.

A stamp changes when a file is written: its time on a local disk, an etag or a time in a store. A file of another stamp
is read and compared by content, since one that was copied or touched is still the same.
"""

import os
from functools import lru_cache
from typing import Any

from curate.io.files import is_remote, store_errors
from curate.io.sources import DigestingFile, open_source

_KEYS = ("ETag", "etag", "LastModified", "last_modified", "mtime", "modified", "updated", "created")


def is_local(system: Any) -> bool:
    """Whether an fsspec file system is the local disk."""
    return "file" in (system.protocol if isinstance(system.protocol, tuple) else (system.protocol,))


def stamp(system: Any, name: str, about: dict[str, Any]) -> str:
    """The stamp of a file that `system` lists as `about`; "" where it tells nothing."""
    if is_local(system):
        return str(os.stat(name).st_mtime_ns)  # not what a link's own time is
    return next((str(about[key]).strip('"') for key in _KEYS if about.get(key)), "")


def is_same(address: str, planned: str, digest: str) -> bool:
    """Whether a file has the planned stamp or, where it has another, the planned content."""
    now = _stamp_now(address)
    return not planned or not now or planned == now or _digest(address, now) == digest


def _stamp_now(address: str) -> str:
    if not is_remote(address):
        return str(os.stat(address).st_mtime_ns)
    from fsspec.core import url_to_fs

    system, name = url_to_fs(address, use_listings_cache=False)
    with store_errors(address):
        return stamp(system, name, system.info(name))


@lru_cache(4096)
def _digest(address: str, stamp: str) -> str:
    with DigestingFile(open_source(address)) as file:
        return file.hexdigest()
