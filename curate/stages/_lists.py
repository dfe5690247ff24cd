"""Lists that users give as files: one entry a line, plain or gzipped."""

import gzip
import hashlib
import os
import shutil
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import ConfigError
from curate.schema import text_buffers

if TYPE_CHECKING:
    from curate.kernels.strings import Strings

FORMAT = 2  # of a mapped list; a change leaves old ones unused
_SLICE = 1 << 18  # lines worked on at a time: a list of millions costs little more than its own size
_BOM, _GZIP = b"\xef\xbb\xbf", b"\x1f\x8b"


def read_bytes(path: str) -> bytes:
    """The content of a list, unpacked. ConfigError where it cannot be read."""
    try:
        content = Path(path).read_bytes()
        return gzip.decompress(content) if content.startswith(_GZIP) else content
    except (OSError, EOFError, zlib.error) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"cannot read the list: {why}",
            where=path,
            hint="a list is a text file, or one gzipped, one entry a line",
        ) from None


def lines(path: str, *, comments: bool) -> Iterator[tuple[pa.Array, pa.Array]]:
    """(entries without the white space around them, their line numbers from 1), a slice of the list at a time.

    Blank lines are left out, with `comments` those too that begin with #. ConfigError for a list that is empty or not
    UTF-8.
    """
    content = read_bytes(path).removeprefix(_BOM)
    newlines = np.flatnonzero(np.frombuffer(content, np.uint8) == 10)
    offsets = np.concatenate([[0], newlines + 1, [len(content)]]).astype(np.int64)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(content)]
    raw = pa.Array.from_buffers(pa.large_string(), len(offsets) - 1, buffers)
    try:
        raw.validate(full=True)
    except pa.ArrowInvalid:
        raise ConfigError("the list is not UTF-8", where=path, hint="`iconv -t utf-8` converts it") from None
    empty = True
    for start in range(0, len(raw), _SLICE):
        stripped = pc.utf8_trim_whitespace(raw.slice(start, _SLICE))
        wanted = pc.not_equal(stripped, "")
        if comments:
            wanted = pc.and_not(wanted, pc.starts_with(stripped, "#"))
        if pc.any(wanted).as_py():
            empty = False
            yield stripped.filter(wanted), pc.add(pc.indices_nonzero(wanted), start + 1)
    if empty:
        raise ConfigError(
            "the list holds no entry", where=path, hint="one entry a line; or leave the list out"
        )


def refuse(bad: pa.Array, entries: pa.Array, numbers: pa.Array, path: str, what: str, hint: str) -> None:
    """ConfigError at the first entry that is bad."""
    first = pc.index(bad, True).as_py()
    if first >= 0:
        raise ConfigError(f"`{entries[first]}` is {what}", where=f"{path}:{numbers[first]}", hint=hint)


def existing(paths: Sequence[str]) -> list[str]:
    """The paths, when each is a file: what a stage says at plan, before anything runs."""
    for path in paths:
        if not Path(path).is_file():
            raise ConfigError("no such list", where=path, hint="paths start from the folder you are in")
    return list(paths)


Reader = Callable[[str], Iterator[pa.Array]]


def string_set(paths: Sequence[str], read: Reader) -> "Strings":
    """The set of all entries of some lists, in memory."""
    from curate.kernels.strings import build

    entries = [piece for path in paths for piece in read(path)]
    return build(*_compact(pa.concat_arrays([pa.array([], pa.large_string()), *entries])))


def mapped_set(paths: Sequence[str], read: Reader, kind: str, store: Path) -> "Strings":
    """The same made once in the work store and mapped, so that the workers of a machine share its pages."""
    from curate.kernels.strings import Strings

    if not paths:
        return string_set(paths, read)
    digests = [hashlib.sha256(read_bytes(path)).digest() for path in paths]
    folder = store / "lists" / f"{kind}-{FORMAT}-{hashlib.sha256(b''.join(digests)).hexdigest()}"
    return Strings(**mapped(folder, lambda: string_set(paths, read)._asdict()))


def mapped(folder: Path, make: Callable[[], Mapping[str, npt.NDArray[Any]]]) -> dict[str, npt.NDArray[Any]]:
    """Named arrays, made once into a folder of the work store and mapped from there.

    Many workers may make them at once: each writes a folder of its own and the first rename wins.
    """
    from curate.kernels.strings import frozen

    if not folder.is_dir():
        attempt = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
        attempt.mkdir(parents=True)
        try:
            for name, part in make().items():
                np.save(attempt / f"{name}.npy", part)
            _publish(attempt, folder)
        finally:
            shutil.rmtree(attempt, ignore_errors=True)
    return {path.stem: frozen(np.load(path, mmap_mode="r")) for path in folder.glob("*.npy")}


def _publish(attempt: Path, folder: Path) -> None:
    try:
        os.rename(attempt, folder)
    except OSError:
        if not folder.is_dir():  # else another worker was first
            raise


def _compact(entries: pa.Array) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    data, offsets = text_buffers(entries)
    return data[offsets[0] : offsets[-1]], offsets - offsets[0]
