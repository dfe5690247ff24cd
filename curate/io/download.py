"""Files of Common Crawl and the hub come whole into a folder of the work store before they are read.

A download goes on from the byte it has reached, after an error of the network as after a kill, as long as its source
says that the file is the same (etag). It gets its name when it has the size that was announced, and the sha256 where the
source knows one; its time is the source's. Of two runs that want one file the second waits for the first.
A source that is busy (429, 5xx, connections that drop) is asked again later: as long as its Retry-After says, else twice
as long each time, jittered, until the waits of all downloads of a call come to `retry_seconds`.
"""

import contextlib
import email.utils
import fcntl
import hashlib
import http.client
import os
import queue
import random
import shutil
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import curate
from curate.errors import DataError, GuardError, RunError
from curate.io.files import open_store_file, sha256_of
from curate.io.slices import Remote

CONNECTIONS = 4  # at once; Common Crawl asks for few
TIMEOUT_SECONDS = 60
LONGEST_WAIT_SECONDS = 60
_CHUNK_BYTES = 1 << 20
_STORE_BYTES = 8 << 20  # of one request to a store
_BUSY = (408, 425, 429, 500, 502, 503, 504)
_NOT_THERE = (403, 404, 410)  # S3 says 403 of what is not there
_BROKEN = (urllib.error.URLError, http.client.HTTPException, OSError)

Job = TypeVar("Job")
Found = TypeVar("Found")
Say = Callable[[str], None]


class Gone(Exception):
    """The source says that there is no such file."""


class Changed(DataError):
    """A file is not what it was when it was listed."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"`{address}` was changed at its source after it was listed",
            hint="the same command lists it anew",
        )
        self.address = address


class Again(Exception):
    """The source could not answer now; `after` seconds is when to ask again, if it said so."""

    def __init__(self, why: str, after: float = 0) -> None:
        super().__init__(why)
        self.why, self.after = why, after


class Patience:
    """What all downloads of a call may wait together, and when to ask again."""

    def __init__(self, seconds: float, say: Say) -> None:
        self._all, self._left, self._say, self._lock = seconds, seconds, say, threading.Lock()

    def wait(self, what: str, again: Again, tries: int) -> None:
        """Wait before the next try. RunError when that would be more than is left."""
        seconds = max(again.after, min(LONGEST_WAIT_SECONDS, 2.0**tries) * random.uniform(0.5, 1))
        with self._lock:
            if seconds > self._left:
                self._left = -1
                raise RunError(
                    f"gave up on {what}: {again.why}",
                    hint=f"waits came to more than `input.retry_seconds: {self._all:g}`; what was downloaded stays, the same command goes on",
                )
            self._left -= seconds
            self._say(f"{what}: {again.why}; asked again in {seconds:.0f} s")
        time.sleep(seconds)

    def end(self) -> None:
        """Let nothing wait any more: what still runs in other threads gives up at its next error."""
        with self._lock:
            self._left = -1

    def keep_trying(self, what: str, attempt: Callable[[], Found]) -> Found:
        """What `attempt` returns once it does not raise Again."""
        tries = 0
        while True:
            try:
                return attempt()
            except Again as again:
                self.wait(what, again, tries)
                tries += 1


def look(address: str, patience: Patience) -> Remote:
    """Size, etag and time of a file as its source says; `missing` is set when there is none."""

    def attempt() -> Remote:
        if not address.startswith(("http://", "https://")):
            return _look_in_store(address)
        with _reply(address, "HEAD", {}) as reply:
            if reply.headers["Content-Length"] is None:
                raise DataError(f"the source does not say how long `{address}` is", hint="use another mirror")
            return Remote(
                address, int(reply.headers["Content-Length"]), _etag(reply.headers), _written(reply.headers)
            )

    try:
        return patience.keep_trying(address, attempt)
    except Gone as gone:
        return Remote(address, 0, missing=str(gone))


def read_range(address: str, offset: int, length: int, patience: Patience) -> bytes:
    """Some bytes of a file, all of them."""
    remote = Remote(address, length, ranges=((offset, length),))
    got = bytearray()

    def attempt() -> bytes:
        for data in _bytes(remote, len(got)):
            got.extend(data)
        if len(got) < length:
            raise Again(f"{len(got):,} of {length:,} bytes came")
        return bytes(got)

    try:
        return patience.keep_trying(address, attempt)
    except Gone as gone:
        raise DataError(f"`{address}` is not there: {gone}", hint="check the address") from None


def is_here(path: Path, remote: Remote) -> bool:
    """Whether a file was downloaded whole."""
    try:
        about = path.stat()
    except FileNotFoundError:
        return False
    return about.st_size == remote.size and int(about.st_mtime) == remote.seconds


def download_all(
    wanted: Mapping[Path, Remote], patience: Patience, done: Callable[[Path, Remote], None]
) -> None:
    """Download what is not here yet. GuardError, before the first byte, when the disk cannot hold it."""
    todo = [(path, remote) for path, remote in wanted.items() if not is_here(path, remote)]
    _refuse_too_much(todo)
    try:
        for (path, remote), _ in in_threads(todo, lambda one: download(*one, patience)):
            done(path, remote)
    except BaseException:
        patience.end()
        raise


def _refuse_too_much(todo: Sequence[tuple[Path, Remote]]) -> None:
    if not todo:
        return
    place = next(p for p in todo[0][0].parents if p.exists())
    need, free = sum(_left(path, remote) for path, remote in todo), shutil.disk_usage(place).free
    if need > free:
        raise GuardError(
            f"{need / 1e9:,.1f} GB are to be downloaded and {place} has {free / 1e9:,.1f} GB",
            hint="ask for a smaller share, or put the work store (--store) where there is room",
        )


def _left(path: Path, remote: Remote) -> int:
    part = _part(path, remote)
    return remote.size - (part.stat().st_size if part.exists() else 0)


def _part(path: Path, remote: Remote) -> Path:
    # another etag, another file: what came of an older one is not gone on with
    mark = hashlib.sha256(f"{remote.etag}\0{remote.size}\0{remote.ranges}".encode()).hexdigest()[:12]
    return path.with_name(f"{path.name}.{mark}.part")


def download(path: Path, remote: Remote, patience: Patience) -> None:
    """Bring one file, beginning where an earlier try has stopped."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _part(path, remote)
    with open(part, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed, or its process dead
        if is_here(path, remote):
            part.unlink(missing_ok=True)  # another run was faster
            return
        _fill(file, remote, patience)
        file.flush()
        os.fsync(file.fileno())
        if remote.sha256 and sha256_of(part) != remote.sha256:
            part.unlink()
            raise DataError(
                f"`{remote.address}` came with another checksum than its source announced",
                hint="the same command downloads it again",
            )
        os.utime(part, (remote.seconds, remote.seconds))
        part.rename(path)


def _fill(file: Any, remote: Remote, patience: Patience) -> None:
    tries = 0
    while (reached := file.seek(0, os.SEEK_END)) < remote.size:
        try:
            for data in _bytes(remote, reached):
                file.write(data)
                file.flush()
            again = Again(f"{file.tell():,} of {remote.size:,} bytes came")
        except Again as error:
            again = error
        except Gone as gone:
            raise DataError(
                f"`{remote.address}` cannot be downloaded: {gone}", hint="it was there when it was listed"
            ) from None
        if file.seek(0, os.SEEK_END) > reached:
            tries = 0
        if file.tell() < remote.size:
            patience.wait(remote.address, again, tries)
            tries += 1


def _bytes(remote: Remote, start: int) -> Iterator[bytes]:
    # from the byte that was reached, to the end of the file or of its ranges
    for offset, length in remote.ranges or ((0, remote.size),):
        if start < length:
            left = length - start
            read = _http if remote.address.startswith(("http://", "https://")) else _store
            for data in read(remote, offset + start, left):
                left -= len(data)
                yield data
            if left:
                return  # it stopped early
        start = max(0, start - length)


def _http(remote: Remote, offset: int, length: int) -> Iterator[bytes]:
    with _reply(remote.address, "GET", {"Range": f"bytes={offset}-{offset + length - 1}"}) as reply:
        etag = _etag(reply.headers)
        if remote.etag and etag and etag != remote.etag:
            raise Changed(remote.address)
        if reply.status == 206 and not reply.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
            raise Again("the source answered with other bytes than it was asked for")
        before = 0 if reply.status == 206 else offset  # a source without ranges begins at the first byte
        with _transient():
            while before and (data := reply.read(min(_CHUNK_BYTES, before))):
                before -= len(data)
            while length and (data := reply.read1(min(_CHUNK_BYTES, length))):
                length -= len(data)
                yield data


def _reply(address: str, method: str, headers: dict[str, str]) -> Any:
    headers = {"User-Agent": f"curate/{curate.__version__}", "Accept-Encoding": "identity", **headers}
    with _transient():
        return urllib.request.urlopen(
            urllib.request.Request(address, headers=headers, method=method), timeout=TIMEOUT_SECONDS
        )


@contextlib.contextmanager
def _transient() -> Iterator[None]:
    """What a source or the way to it raises, as Again or Gone."""
    try:
        yield
    except urllib.error.HTTPError as error:
        status, after = error.code, _retry_after(error.headers.get("Retry-After"))
        error.close()
        raise _by_status(status, after, error.url) from None
    except _BROKEN as error:
        reason = getattr(error, "reason", None) or error
        raise Again(f"{type(reason).__name__}: {reason}".rstrip(": ")) from None


def _by_status(status: int, after: float, address: str) -> Exception:
    if status in _BUSY:
        return Again(f"HTTP {status}", after)
    if status in _NOT_THERE:
        return Gone(f"HTTP {status}")
    return DataError(f"`{address}` answers with HTTP {status}", hint="check the address")


def _retry_after(value: str | None) -> float:
    # seconds, or a date
    if not value:
        return 0
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0


def _etag(headers: Mapping[str, str]) -> str:
    return (headers.get("ETag") or "").removeprefix("W/").strip('"')


def _written(headers: Mapping[str, str]) -> int:
    try:
        return int(email.utils.parsedate_to_datetime(headers.get("Last-Modified") or "").timestamp())
    except ValueError:
        return 0


@contextlib.contextmanager
def store_answers(address: str) -> Iterator[None]:
    """What the library of a store raises, as Again or Gone; PermissionError and a refused key as DataError."""
    try:
        yield
    except FileNotFoundError as error:
        raise Gone(str(error)) from None
    except PermissionError as error:
        raise DataError(
            f"cannot read `{address}`: {error}", hint="check the keys in the environment"
        ) from None
    except OSError as error:
        reply: Any = getattr(error, "response", getattr(error.__cause__, "response", None))
        status = getattr(reply, "status_code", None)
        if status in (401, 403):
            raise DataError(
                f"cannot read `{address}`: HTTP {status}",
                hint="of a gated dataset: accept its terms on its page and set HF_TOKEN",
            ) from None
        if isinstance(status, int):
            raise _by_status(status, _retry_after(reply.headers.get("Retry-After")), address) from None
        raise Again(f"{type(error).__name__}: {error}") from None


def _look_in_store(address: str) -> Remote:
    from fsspec.core import url_to_fs

    from curate.io.files import store_errors

    with store_answers(address), store_errors(address):
        system, name = url_to_fs(address, use_listings_cache=False)
        about = system.info(name)
    time_ = about.get("LastModified") or about.get("mtime") or 0
    seconds = int(time_.timestamp() if hasattr(time_, "timestamp") else time_)
    return Remote(address, int(about["size"]), str(about.get("ETag") or "").strip('"'), seconds)


def _store(remote: Remote, offset: int, length: int) -> Iterator[bytes]:
    with store_answers(remote.address), open_store_file(remote.address) as file:
        file.seek(offset)
        while length and (data := file.read(min(_STORE_BYTES, length))):
            length -= len(data)
            yield data


def in_threads(jobs: Sequence[Job], work: Callable[[Job], Found]) -> Iterator[tuple[Job, Found]]:
    """Results as they come, from a few threads; the first error ends it. They are daemons: Ctrl-C waits for none."""
    waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
    finished: queue.SimpleQueue[tuple[Job, Found | BaseException]] = queue.SimpleQueue()
    stop = threading.Event()
    for job in jobs:
        waiting.put(job)

    def go() -> None:
        while not stop.is_set():
            try:
                job = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                finished.put((job, work(job)))
            except BaseException as error:
                finished.put((job, error))

    for _ in range(min(CONNECTIONS, len(jobs))):
        threading.Thread(target=go, daemon=True).start()
    try:
        for _ in jobs:
            job, found = finished.get()
            if isinstance(found, BaseException):
                raise found
            yield job, found
    finally:
        stop.set()
