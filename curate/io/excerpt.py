"""Pieces of a large input: what `check` reads of files that are too large to be read for a forecast, or not here yet.

Points are laid evenly over all bytes of the files, in the order of folder and size; at each a piece begins, which stands
for its share of the bytes. A piece begins with the next WARC member, line or row group. A compressed stream can only be
read from its begin, so its first bytes stand for it; so do the first pieces of a row group that several points lie in.
Each piece is written as a file of its own, for the readers.
"""

import bisect
import contextlib
import io
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import zstandard

from curate.errors import DataError
from curate.io import unread
from curate.io.download import Patience, is_here, read_range
from curate.io.files import open_store_file
from curate.io.slices import InputFile
from curate.io.sources import BrokenStream, compression, decompressed, gzip_member, open_source

PIECES, PIECE_BYTES = 96, 1 << 20  # of files that are here
REMOTE_PIECES, REMOTE_PIECE_BYTES = 24, 512 << 10  # of files that are not
WHOLE_BYTES = 256 << 20  # of files that are here: up to this all is read
UNPACKED = 4  # times as many bytes in a compressed file
_LONGER = 16  # times as long where no record ends in a piece
_FEED_BYTES = 512  # of a zstd stream
_GZIP, _MEMBER_TEXT = b"\x1f\x8b\x08", b"WARC/"


class Part(NamedTuple):
    """A piece of a file, as a file."""

    file: InputFile
    of: str  # name of the file in the input
    read_bytes: float  # of that file
    bytes: float  # of the input, that it stands for
    prefix: bool  # the begin of a stream stands for all of it


def is_wanted(files: Sequence[InputFile]) -> bool:
    """Whether pieces are much less than the files, and all files have parts that can be read alone."""
    if not all(f.format in ("warc", "jsonl", "parquet", *unread.FORMATS) for f in files):
        return False
    size = sum(f.size * (UNPACKED if compression(f.name) else 1) for f in files if not _remote(f))
    return size > WHOLE_BYTES or to_come(files) > REMOTE_PIECES * REMOTE_PIECE_BYTES


def to_come(files: Sequence[InputFile]) -> int:
    """Bytes that a run would download."""
    return sum(f.remote.size for f in files if _remote(f) and f.remote)


def take(files: Sequence[InputFile], folder: Path, patience: Patience) -> list[Part]:
    """Write the pieces into the folder. DataError where none of them can be read."""
    readable = [f for f in files if f.format not in unread.FORMATS and f.size]
    readable.sort(key=lambda f: (f.name.rpartition("/")[0], f.size, f.name))
    remote = any(map(_remote, readable))
    count, size = (REMOTE_PIECES, REMOTE_PIECE_BYTES) if remote else (PIECES, PIECE_BYTES)
    step = sum(f.size for f in readable) / count
    points, end, number = 0, 0, 0
    found: list[Part] = []
    for file in readable:
        begin, end = end, end + file.size
        offsets = [int((points + i + 0.5) * step) - begin for i in range(count)]
        offsets = [offset for offset in offsets if 0 <= offset < file.size]
        points += len(offsets)
        before = len(found)
        for data, name, read, prefix in _pieces(file, offsets, min(size, int(step) + 1), patience):
            path = folder / f"{number:03d}" / name
            path.parent.mkdir(parents=True)
            path.write_bytes(data)
            here = msgspec.structs.replace(
                file, path=str(path), name=f"{number:03d}/{name}", size=len(data), remote=None
            )
            found.append(Part(here, file.name, read, 0.0, prefix))
            number += 1
        share = step * len(offsets) / max(len(found) - before, 1)
        found[before:] = [part._replace(bytes=share) for part in found[before:]]
    if not found:
        raise DataError(
            "no piece of the input can be read alone", hint="--plan-only reads it in full", where="input"
        )
    return found


def _remote(file: InputFile) -> bool:
    return file.remote is not None and not is_here(Path(file.path), file.remote)


Piece = tuple[bytes, str, float, bool]  # content, name, bytes of the file that it was read from, is a prefix


def _pieces(file: InputFile, offsets: Sequence[int], size: int, patience: Patience) -> Iterator[Piece]:
    if not offsets:
        return
    packed = compression(file.name)
    if file.format == "parquet":
        yield from ((data, file.name, read, False) for data, read in _row_groups(file, offsets, size))
        return
    if not (packed and file.format == "jsonl"):
        cut = _lines if file.format == "jsonl" else _members if packed else _records
        pieces = [piece for offset in offsets if (piece := _cut(file, offset, size, cut, patience))]
        if pieces or not packed:
            yield from ((data, file.name, len(data), False) for data in pieces)
            return
    data = _read(file, 0, size * len(offsets), patience)
    text, used = _unpacked(data, packed or "gz")
    cut = _lines if file.format == "jsonl" else _records
    if found := cut(text, True, len(data) == file.size):
        yield found, os.path.splitext(file.name)[0], used * len(found) / len(text), len(data) < file.size


def _cut(file: InputFile, offset: int, size: int, cut: Any, patience: Patience) -> bytes:
    length = size
    while length <= size * _LONGER:  # step by step: a piece must not hold those after it
        data = _read(file, offset, length, patience)
        if found := cut(data, offset == 0, offset + len(data) >= file.size):
            return bytes(found)
        length *= 2
    return b""


def _lines(data: bytes, at_begin: bool, at_end: bool) -> bytes:
    begin = 0 if at_begin else data.find(b"\n") + 1
    end = len(data) if at_end else data.rfind(b"\n") + 1
    return data[begin:end] if begin or at_begin else b""


def _records(data: bytes, at_begin: bool, at_end: bool) -> bytes:
    mark = b"\r\n\r\nWARC/"
    begin = 0 if at_begin else data.find(mark) + 4
    end = len(data) if at_end else data.rfind(mark) + 4
    return data[begin:end] if at_begin or begin > 3 else b""


def _members(data: bytes, at_begin: bool, at_end: bool) -> bytes:
    # whole gzip members, each of which opens a record
    source, begin = io.BytesIO(data), data.find(_GZIP)
    while begin >= 0 and not _opens_record(source, begin):
        begin = data.find(_GZIP, begin + 1)
    end = begin
    while 0 <= end < len(data):
        try:
            end = _end_of_member(source, end)
        except BrokenStream:
            break
    return data[begin:end] if begin >= 0 else b""


def _opens_record(source: io.BytesIO, at: int) -> bool:
    try:
        return next(gzip_member(source, at)).lstrip(b"\r\n").startswith(_MEMBER_TEXT)
    except (BrokenStream, StopIteration):
        return False


def _end_of_member(source: io.BytesIO, at: int) -> int:
    member = gzip_member(source, at)
    while True:
        try:
            next(member)
        except StopIteration as end:
            return int(end.value)


def _unpacked(data: bytes, kind: str) -> tuple[bytes, int]:
    # the text, and of how many bytes it was made: zstd makes it by blocks
    text, used = bytearray(), len(data)
    if kind == "zst":
        frame = zstandard.ZstdDecompressor().decompressobj(read_across_frames=True)
        for at in range(0, len(data), _FEED_BYTES):
            if more := frame.decompress(data[at : at + _FEED_BYTES]):
                text, used = text + more, min(at + _FEED_BYTES, len(data))
        return bytes(text), used
    with contextlib.suppress(BrokenStream):  # it was cut
        for piece in decompressed(io.BytesIO(data), kind):
            text += piece
    return bytes(text), used


def _read(file: InputFile, offset: int, length: int, patience: Patience) -> bytes:
    length = min(length, file.size - offset)
    if not file.remote or not _remote(file):
        with open_source(file.path) as source:
            source.seek(offset)
            return source.read(length)
    found, at = bytearray(), 0  # of ranges, one after another
    for start, size in file.remote.ranges or ((0, file.remote.size),):
        low, high = max(offset - at, 0), min(offset + length - at, size)
        if low < high:
            found += read_range(file.remote.address, start + low, high - low, patience)
        at += size
    return bytes(found)


def _row_groups(file: InputFile, offsets: Sequence[int], size: int) -> Iterator[tuple[bytes, float]]:
    """Rows of the row group at each offset, as Parquet: its first ones, or the next ones where it was there before."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if file.remote and _remote(file):
        source = open_store_file(
            file.remote.address, cache_type="none"
        )  # pieces, and not 5 MB more at each read
    else:
        source = open_source(file.path)
    with source, pq.ParquetFile(source, pre_buffer=False, buffer_size=1 << 20) as parquet:
        groups = [parquet.metadata.row_group(g) for g in range(parquet.metadata.num_row_groups)]
        ends = list(itertools.accumulate(group.total_byte_size for group in groups))
        at = [bisect.bisect_right(ends, offset / file.size * ends[-1]) for offset in offsets if ends]
        for number, same in itertools.groupby(min(place, len(groups) - 1) for place in at):
            group = groups[number]
            rows = max(1, size * group.num_rows // max(group.total_byte_size, 1))
            batches = parquet.iter_batches(rows, row_groups=[number], use_threads=False)
            for _ in same:
                some = list(_up_to(batches, size))
                held = sum(batch.num_rows for batch in some)
                if held:
                    sink = io.BytesIO()
                    pq.write_table(pa.Table.from_batches(some, parquet.schema_arrow), sink)
                    share = group.total_byte_size / ends[-1] * held / group.num_rows
                    yield sink.getvalue(), file.size * share


def _up_to(batches: Iterator[Any], size: int) -> Iterator[Any]:
    for batch in batches:
        yield batch
        size -= batch.nbytes
        if size <= 0:
            return
