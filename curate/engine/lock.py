"""One run per folder: the lock names its owner; a lock left by a dead process is taken over."""

import contextlib
import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from curate.errors import ConfigError, LockedError
from curate.io.files import Folder

LOCK = "_curate/lock"
USERS = "users"  # in the work store
_DISK = (errno.ENOSPC, errno.EDQUOT)  # right, but full


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    host: str
    boot_id: str
    pid: int
    start: str  # process start in clock ticks: a pid alone is reused
    since: str


def me() -> Owner:
    return Owner(
        host=socket.gethostname(), boot_id=_boot_id(), pid=os.getpid(), start=_start_of(os.getpid()),
        since=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )  # fmt: skip


def is_dead(owner: Owner) -> bool:
    """True when its process is surely gone; another machine's process never is."""
    if owner.host != socket.gethostname():
        return False
    return owner.boot_id != _boot_id() or _start_of(owner.pid) != owner.start


def read_owner(folder: Folder) -> Owner | None:
    """Who holds the folder; None where nobody does."""
    try:
        return msgspec.json.decode(folder.read(LOCK), type=Owner)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, msgspec.ValidationError):
        return Owner(
            host=socket.gethostname(), boot_id="", pid=0, start="", since=""
        )  # cut off by a full disk


class Lock:
    """Held from `with` to its end. LockedError, naming the other process, when a live one holds it."""

    def __init__(self, folder: Folder) -> None:
        self._folder, self._mine = folder, me()

    def __enter__(self) -> "Lock":
        mine = self._mine
        data = msgspec.json.encode(mine)
        for _ in range(5):
            if self._claim(data, f"{mine.pid}-{mine.start}"):
                return self
            owner = read_owner(self._folder)
            if owner is None:
                continue  # released between the two calls
            if not is_dead(owner):
                raise LockedError(
                    f"{self._folder.path} is being written by process {owner.pid} on {owner.host}, since {owner.since}",
                    hint=f"wait for it, or stop it; if that machine is gone, remove {self._folder.address(LOCK)}",
                )
            self._take_from(owner)
        raise LockedError(f"{self._folder.path} is locked and its lock keeps changing", hint="try again")

    def _claim(self, data: bytes, attempt: str) -> bool:
        # the first thing a run writes: here it shows whether it can
        try:
            return self._folder.claim(LOCK, data, attempt)
        except OSError as error:
            if error.errno in _DISK:
                raise
            raise ConfigError(
                f"cannot write into {self._folder.path}: {error.strerror}",
                hint="check the path (or bucket, endpoint and keys), or choose another output",
            ) from None

    def _take_from(self, dead: Owner) -> None:
        """Remove a dead owner's lock; of several that try, the others find it changed or gone."""
        with self._alone():
            if read_owner(self._folder) == dead:
                self._folder.remove(LOCK)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Among processes of this machine, which alone can tell that an owner is dead."""
        if not self._folder.local:
            yield
            return
        fd = os.open((self._folder.local / LOCK).parent, os.O_RDONLY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def __exit__(self, *_: object) -> None:
        if read_owner(self._folder) in (
            self._mine,
            None,
        ):  # else someone removed it by hand, and another run has it
            self._folder.remove(LOCK)


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _start_of(pid: int) -> str:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] == "Z" else fields[19]


class InUse:
    """While held, a note in the work store that a live run needs these passes; `clean` leaves them alone."""

    def __init__(self, store: Folder, passes: Sequence[str]) -> None:
        self._store, self._mine = store, me()
        self._name = f"{USERS}/{self._mine.host}-{self._mine.pid}-{self._mine.start}.json"
        self._note = msgspec.json.encode({"owner": self._mine, "passes": passes})

    def __enter__(self) -> "InUse":
        self._store.replace(self._name, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        self._store.remove(self._name)


def passes_in_use(store: Folder) -> set[str]:
    """Passes that runs which may be alive have noted; notes of dead ones are removed."""
    found: set[str] = set()
    for name in store.names(USERS):
        note = msgspec.json.decode(store.read(f"{USERS}/{name}"), type=_Note)
        if is_dead(note.owner):
            store.remove(f"{USERS}/{name}")
        else:
            found.update(note.passes)
    return found


class _Note(msgspec.Struct):
    owner: Owner
    passes: list[str]
