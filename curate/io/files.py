"""A folder we write into: on a local disk, or any address that fsspec knows (s3://, memory://, ...).

No file under a final name is ever partial: local files are flushed under another name and renamed, object stores
make an object visible only when it is complete.
"""

import contextlib
import errno
import hashlib
import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from curate.errors import ConfigError


def is_remote(path: str) -> bool:
    """True for an address like s3://bucket/folder; file:// and plain paths are local."""
    scheme, separator, _ = path.partition("://")
    return bool(separator) and scheme != "file"


def sha256_of(path: str | Path) -> str:
    """Hex sha256 of a local file, read in blocks."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_of(path: str | Path) -> str:
    """Hex sha256 of a local file, or of what names a folder: its `manifest.json`, else all its files."""
    if not os.path.isdir(path):
        return sha256_of(path)
    files = _named_by(Path(path))
    names = "".join(f"{file.relative_to(path)} {sha256_of(file)}\n" for file in files)
    return hashlib.sha256(names.encode()).hexdigest()


def stamp_of(path: str | Path) -> int:
    """When a file, or what names a folder, was last written, in nanoseconds."""
    files = _named_by(Path(path)) if os.path.isdir(path) else [Path(path)]
    return max((os.stat(file).st_mtime_ns for file in files), default=0)


def _named_by(folder: Path) -> list[Path]:
    manifest = folder / "manifest.json"
    return [manifest] if manifest.exists() else sorted(p for p in folder.rglob("*") if p.is_file())


@contextlib.contextmanager
def store_errors(address: str) -> Iterator[None]:
    """Whatever the library of a store raises comes as an OSError with an errno, as from a disk."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            error.strerror, error.filename = str(error), address
            error.errno = errno.EIO
        raise
    except Exception as error:  # botocore and aiohttp have errors of their own, and there are other stores
        raise OSError(errno.EIO, f"{type(error).__name__}: {error}", address) from error


class StoreFile(io.RawIOBase):
    """A file of a store, open for reading."""

    def __init__(self, file: BinaryIO, address: str) -> None:
        self._file, self._address = file, address

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        with store_errors(self._address):
            return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
        super().close()


def open_store_file(address: str, **how: str) -> BinaryIO:
    """Open any fsspec address for reading and seeking. `cache_type="none"`: without reading ahead."""
    import fsspec

    with store_errors(address):
        system, path = fsspec.core.url_to_fs(address)
        return cast(BinaryIO, StoreFile(system.open(path, "rb", **how), address))


class _Store:
    """A file system of fsspec."""

    def __init__(self, system: Any, address: str) -> None:
        self._system, self._address = system, address

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._system, name)

        def call(*arguments: Any, **options: Any) -> Any:
            with store_errors(self._address):
                return method(*arguments, **options)

        return call


class HashingFile:
    """A file being written that counts and hashes what passes through it."""

    def __init__(self, file: BinaryIO, address: str) -> None:
        self.file, self.bytes, self.closed = file, 0, False
        self._digest, self._address = hashlib.sha256(), address

    def write(self, data: Any) -> int:
        view = memoryview(data)
        self._digest.update(view)
        with store_errors(self._address):
            self.file.write(view)
        self.bytes += view.nbytes
        return view.nbytes

    def tell(self) -> int:
        return self.bytes

    def flush(self) -> None:
        self.file.flush()

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def close(self) -> None:
        """Make the bytes durable (fsync locally, upload remotely)."""
        if not self.closed:
            self.closed = True
            with store_errors(self._address), self.file:
                self.file.flush()
                try:
                    number = self.file.fileno()
                except (OSError, AttributeError, NotImplementedError):
                    return  # a remote file: durable once it is closed
                os.fsync(number)

    def abandon(self) -> None:
        """Close without promising anything; the caller removes the file."""
        self.closed = True
        discard = getattr(self.file, "discard", None)
        with contextlib.suppress(Exception):
            discard() if discard else self.file.close()
        if discard:
            cast(Any, self.file).closed = True  # or fsspec uploads what it holds when the object goes

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


class Folder:
    """Files by name relative to one local folder or remote address. Folders inside are made as needed."""

    def __init__(self, path: str | Path) -> None:
        self.path = str(path).removeprefix("file://")
        self.local: Path | None = None
        if is_remote(self.path):
            import fsspec

            try:
                system, self._root = fsspec.core.url_to_fs(self.path, use_listings_cache=False)
            except (ImportError, ValueError) as error:
                scheme = self.path.partition("://")[0]
                raise ConfigError(
                    f"cannot open {self.path}: {error}",
                    hint=f'for s3:// install "curate[s3]"; is {scheme} a known scheme?',
                ) from None
            self._fs = _Store(system, self.path)
        else:
            self.local = Path(self.path).absolute()

    def __truediv__(self, name: str) -> "Folder":
        return Folder(f"{self.path.rstrip('/')}/{name}")

    def address(self, name: str) -> str:
        """Full path or URL of a file, as an fsspec or pyarrow reader takes it."""
        return f"{self.path.rstrip('/')}/{name}"

    def _remote(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}".rstrip("/")

    def open(self, name: str) -> BinaryIO:
        """Open for reading; seekable."""
        if self.local:
            return open(self.local / name, "rb")
        return cast(BinaryIO, StoreFile(self._fs.open(self._remote(name), "rb"), self.address(name)))

    def read(self, name: str) -> bytes:
        with self.open(name) as file:
            return file.read()

    def create(self, name: str) -> HashingFile:
        """Open a new file for writing; durable once closed."""
        if self.local:
            (self.local / name).parent.mkdir(parents=True, exist_ok=True)
            return HashingFile(open(self.local / name, "wb"), str(self.local / name))
        return HashingFile(self._fs.open(self._remote(name), "wb"), self.address(name))

    def claim(self, name: str, data: bytes, attempt: str) -> bool:
        """Create `name` with `data` unless it exists: of many racing callers exactly one gets True.

        `attempt` makes the temporary name unique. Locally a link, remotely a conditional PUT. Some stores ignore the
        condition (rclone's server does); there the looks before and after leave only a moment for two winners.
        """
        if not self.local:
            if self.exists(name):
                return False
            try:
                self._fs.pipe_file(self._remote(name), data, mode="create")
            except OSError:  # stores spell "it exists" in many ways
                if not self.exists(name):
                    raise
            return self.read(name) == data  # a PUT that was sent twice meets itself
        target = self.local / name
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{attempt}")
        try:
            _write_durably(temporary, data)
            os.link(temporary, target)
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(target.parent)
        return True

    def sync(self, under: str) -> None:
        """Make the names in a local folder durable; object stores need nothing."""
        if self.local and (self.local / under).is_dir():
            _sync_folder(self.local / under)

    def replace(self, name: str, data: bytes) -> None:
        """Write a whole small file, atomically."""
        if not self.local:
            self._fs.pipe_file(self._remote(name), data)
            return
        target = self.local / name
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(
            f".{target.name}.new"
        )  # one name: what a kill leaves, the next try replaces
        try:
            _write_durably(temporary, data)
            os.replace(temporary, target)
        except OSError:  # a full disk: it gets back what we took
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(target.parent)

    def exists(self, name: str) -> bool:
        return (self.local / name).exists() if self.local else bool(self._fs.exists(self._remote(name)))

    def size(self, name: str) -> int:
        return (self.local / name).stat().st_size if self.local else int(self._fs.size(self._remote(name)))

    def names(self, under: str = "") -> list[str]:
        """Names of the files directly in a folder, sorted; none where there is no such folder."""
        if self.local:
            try:
                with os.scandir(self.local / under) as entries:
                    return sorted(e.name for e in entries if e.is_file() and not e.name.startswith("."))
            except (FileNotFoundError, NotADirectoryError):
                return []
        return sorted(e["name"].rpartition("/")[2] for e in self._listing(under) if e["type"] == "file")

    def folders(self, under: str = "") -> list[str]:
        """Names of the folders directly in a folder, sorted."""
        if self.local:
            try:
                with os.scandir(self.local / under) as entries:
                    return sorted(e.name for e in entries if e.is_dir())
            except (FileNotFoundError, NotADirectoryError):
                return []
        return sorted(
            e["name"].rstrip("/").rpartition("/")[2] for e in self._listing(under) if e["type"] == "directory"
        )

    def _listing(self, under: str) -> Iterator[dict[str, Any]]:
        with contextlib.suppress(FileNotFoundError):
            yield from self._fs.ls(self._remote(under), detail=True)

    def move(self, source: str, target: str) -> None:
        """Give a complete file its final name."""
        if self.local:
            (self.local / target).parent.mkdir(parents=True, exist_ok=True)
            os.replace(self.local / source, self.local / target)
        else:
            self._fs.copy(self._remote(source), self._remote(target))
            self._fs.rm_file(self._remote(source))

    def take(self, other: "Folder", source: str, target: str) -> None:
        """Put another folder's file here under `target`: a hard link where the disk allows, else a copy."""
        if not self.local:
            self._copy(other, source, target)  # a store shows an object once it is whole
            return
        folder, _, name = target.rpartition("/")
        temporary = f"{folder}/.{name}.new".lstrip("/")
        self.remove(temporary)
        try:
            if not self._link(other, source, temporary):
                self._copy(other, source, temporary)
            self.move(temporary, target)
        finally:
            self.remove(
                temporary
            )  # still there when `target` was the same file already: then a rename does nothing

    def _link(self, other: "Folder", source: str, target: str) -> bool:
        if not self.local or not other.local:
            return False
        (self.local / target).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(other.local / source, self.local / target)
        except OSError:  # another disk, or one without links
            return False
        return True

    def _copy(self, other: "Folder", source: str, target: str) -> None:
        writer = self.create(target)
        try:
            with other.open(source) as reader:
                shutil.copyfileobj(reader, cast(Any, writer), 8 << 20)
            writer.close()
        except BaseException:
            writer.abandon()
            raise

    def remove(self, name: str) -> None:
        """Remove a file; nothing happens when it is gone already."""
        with contextlib.suppress(FileNotFoundError):
            (self.local / name).unlink() if self.local else self._fs.rm_file(self._remote(name))

    def remove_all(self, under: str = "") -> None:
        """Remove a whole folder."""
        with contextlib.suppress(FileNotFoundError):
            if self.local:
                shutil.rmtree(self.local / under)
            else:
                self._fs.rm(self._remote(under), recursive=True)


def _write_durably(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
