"""Bytes of an input file: opened where it lies, hashed as they pass, decompressed in a bounded memory."""

import contextlib
import io
from collections.abc import Generator, Iterator
from typing import Any, BinaryIO, Protocol

import xxhash
import zstandard
from zlib_ng import zlib_ng as zlib  # inflates twice as fast

from curate.errors import DataError
from curate.io.files import is_remote, open_store_file

CHUNK_BYTES = 1 << 20
_GZIP_FEED_BYTES = 1 << 16
# What zstd makes of one piece comes in one go: the worst bomb (4 bytes for 128 KB) then makes 16 MB, and little is
# lost at an error. Measured: 850 MB/s, of 980 with large pieces.
_ZSTD_FEED_BYTES = 512


class Source(Protocol):
    """An open file to read."""

    def seek(self, offset: int, /) -> int: ...

    def read(self, size: int = -1, /) -> bytes: ...


class BrokenStream(Exception):
    """A compressed stream that cannot be read on; everything before was handed over."""

    def __init__(self, reason: str, error: str) -> None:
        super().__init__(error)
        self.reason, self.error = reason, error


def join(root: str, name: str) -> str:
    """Path or address of a file of the input."""
    return f"{root.rstrip('/')}/{name}"


def open_source(path: str) -> BinaryIO:
    """Open a local path or an fsspec address for reading and seeking."""
    try:
        if not is_remote(path):
            return open(path, "rb")
        return open_store_file(path)
    except OSError as error:
        raise DataError(
            f"cannot read `{path}`: {error.strerror or type(error).__name__}",
            hint="the input must stay in place and unchanged until the run is complete",
        ) from error


class DigestingFile(io.RawIOBase):
    """A file that hashes its content while it is read, each byte once, whatever the seeks."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._hashed, self._position = file, 0, 0
        self._digest = xxhash.xxh3_128()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = self._file.seek(offset, whence)
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int = -1) -> bytes:
        if self._position > self._hashed:
            self._catch_up(self._position)
        data = self._file.read(size)
        if self._position + len(data) > self._hashed:
            self._digest.update(memoryview(data)[self._hashed - self._position :])
            self._hashed = self._position + len(data)
        self._position += len(data)
        return data

    def _catch_up(self, stop: int | None) -> None:
        self._file.seek(self._hashed)
        while stop is None or self._hashed < stop:
            data = self._file.read(CHUNK_BYTES if stop is None else min(CHUNK_BYTES, stop - self._hashed))
            if not data:
                break
            self._digest.update(data)
            self._hashed += len(data)
        if stop is not None:
            self._file.seek(stop)

    def hexdigest(self) -> str:
        """Digest of the whole file; what nobody read is read now."""
        self._catch_up(None)
        return self._digest.hexdigest()

    def close(self) -> None:
        self._file.close()
        super().close()


def chunks(file: Source, start: int, stop: int | None = None) -> Iterator[bytes]:
    """The bytes from `start` to `stop` (to the end when None)."""
    while stop is None or start < stop:
        file.seek(start)  # somebody may have read elsewhere
        data = file.read(CHUNK_BYTES if stop is None else min(CHUNK_BYTES, stop - start))
        if not data:
            if stop is not None:
                raise DataError(
                    f"`{getattr(file, 'name', 'an input file')}` is shorter than when the run was planned",
                    hint="restore the file, or plan anew with --fresh",
                )
            return
        start += len(data)
        yield data


def compression(path: str) -> str | None:
    """gz or zst, by file ending."""
    ending = path.rpartition(".")[2].lower()
    return {"gz": "gz", "zst": "zst", "zstd": "zst"}.get(ending)


def decompressed(file: Source, kind: str) -> Iterator[bytes]:
    """Content of a .gz or .zst of any number of members; raises BrokenStream where it cannot go on."""
    member = gzip_member if kind == "gz" else _zstd_frame
    end = 0
    while not only_padding(file, end):
        end = yield from member(file, end)


def only_padding(file: Source, start: int) -> bool:
    """True when nothing but zero bytes (tape padding) is left."""
    file.seek(start)
    size = 64  # enough where another member follows
    while data := file.read(size):
        if data.strip(b"\0"):
            return False
        size = CHUNK_BYTES
    return True


def gzip_member(file: Source, start: int) -> Generator[bytes, None, int]:
    """Content of the gzip member at `start`; the generator returns the offset behind it."""
    position, piece, inflate = start, b"", zlib.decompressobj(31)
    while not inflate.eof:
        if not piece:
            file.seek(position)
            piece = file.read(_GZIP_FEED_BYTES)
            position += len(piece)
        before = inflate.copy()
        try:
            data = inflate.decompress(piece, CHUNK_BYTES)
        except zlib.error as error:
            yield _up_to_error(before, piece)
            raise BrokenStream("corrupt_stream", f"gzip: {error}") from None
        if data:
            yield data
        elif not piece:
            raise BrokenStream("truncated", "the file ends inside a gzip member")
        piece = inflate.unconsumed_tail
    return position - len(inflate.unused_data)


def _up_to_error(inflate: Any, piece: bytes) -> bytes:
    # zlib throws away what the failing call had made: feed byte by byte up to the error
    good = bytearray()
    with contextlib.suppress(zlib.error):
        for at in range(len(piece)):
            good += inflate.decompress(piece[at : at + 1])
    return bytes(good)


def _zstd_frame(file: Source, start: int) -> Generator[bytes, None, int]:
    frame = zstandard.ZstdDecompressor().decompressobj()
    position, block, at = start, b"", 0
    while not frame.eof:
        if at == len(block):
            file.seek(position)
            block, at = file.read(CHUNK_BYTES), 0
            position += len(block)
            if not block:
                raise BrokenStream("truncated", "the file ends inside a zstd frame")
        piece = block[at : at + _ZSTD_FEED_BYTES]
        at += len(piece)
        try:
            data = frame.decompress(piece)
        except zstandard.ZstdError as error:
            raise BrokenStream("corrupt_stream", f"zstd: {error}") from None
        if data:
            yield data
    return position - (len(block) - at) - len(frame.unused_data)
