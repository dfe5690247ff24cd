"""Where one WARC record ends and the next begins, in files that are whole and in files that are not.

A record counts once what follows it is another one, or the end. Where it is not so, the stretch up to the next line
(or gzip member) that really opens a record comes as one broken frame, and framing goes on there: records and broken
stretches cover every byte but the line ends between them. What is found at an offset depends on what follows it alone,
so a slice gives the frames that the whole file gives there.
"""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from curate.io.slices import Slice
from curate.io.sources import BrokenStream, Source, chunks, gzip_member, only_padding
from curate.schema import RAW_CAP_BYTES

HEADER_CAP = 64 << 10
HEADER_END = re.compile(rb"\r?\n\r?\n")
_GZIP = b"\x1f\x8b\x08"
_NEXT = re.compile(rb"\nWARC/\d\.")  # some crawlers still write 0.18
_LENGTH = re.compile(rb"(?im)^content-length[ \t]*:[ \t]*(\d{1,18})[ \t]*\r?$")


class Frame(NamedTuple):
    """A record as it lies in the file, or what is there instead of one (`reason` is set)."""

    position: int  # decompressed bytes before it: places it in a chain
    ordinal: int
    offset: int  # of the record, or of its gzip member, in the file
    raw: bytes  # header and block, the block cut at the cap
    length: int  # true length of header and block
    reason: str = ""
    error: str = ""


class _Window:
    """The part of a stream that is in memory."""

    def __init__(self, stream: Iterator[bytes], start: int = 0) -> None:
        self.data, self.start, self._stream = bytearray(), start, stream
        self.ended, self.broken = False, BrokenStream("", "")

    def have(self, size: int) -> bool:
        """Read until `size` bytes are here; False when the stream ends before."""
        while len(self.data) < size and not self.ended:
            try:
                self.data += next(self._stream)
            except StopIteration:
                self.ended = True
            except BrokenStream as error:
                self.ended, self.broken = True, error
        return len(self.data) >= size

    def drop(self, size: int) -> None:
        """Forget the first bytes."""
        del self.data[:size]
        self.start += size

    def pass_over(self, size: int) -> int:
        """Read and forget; returns how many bytes there were."""
        passed = 0
        while passed < size and self.have(1):
            step = min(size - passed, len(self.data))
            self.drop(step)
            passed += step
        return passed

    def skip_line_ends(self) -> None:
        """Drop the blank lines between records."""
        while self.have(1) and self.data[0] in b"\r\n":
            self.drop(1)


Found = tuple[int, bytes, int, str, str]  # position, raw, length, reason, error


def _frames(window: _Window, reopen: Callable[[int], _Window], cap: int, end: int | None) -> Iterator[Found]:
    # Records of one stream. A record counts once what follows it is another one or the end.
    window.skip_line_ends()
    nothing = True
    while window.have(1):
        nothing, start = False, window.start
        head = bytes(window.data[:RAW_CAP_BYTES])
        size, total, error = _header(window)
        if not error and end is not None and start + total > end:
            error = f"Content-Length says {total - size:,} bytes, the file ends before"
        if not error:
            raw, error = _take(window, total, min(total, size + cap), plain=end is not None)
        if not error:
            yield start, raw, total, "", ""
            window.skip_line_ends()
            continue
        if window.start > start:
            window = reopen(start + 1)
        more = _find_next(window)
        reason = window.broken.reason or ("truncated" if end is not None and not more else "bad_record")
        yield start, head, window.start - start, reason, window.broken.error or error
    if nothing and window.broken.reason:
        yield window.start, b"", 0, window.broken.reason, window.broken.error


def _header(window: _Window) -> tuple[int, int, str]:
    # bytes of the WARC header, of header and block, and what is wrong with it
    if not (window.have(7) and window.data.startswith(b"WARC/")):
        return 0, 0, "no WARC record begins here"
    size = 1024
    while True:
        more = window.have(size)
        end = HEADER_END.search(window.data, 0, min(size, len(window.data)))
        if end or not more or size >= HEADER_CAP:
            break
        size *= 4
    if not end:
        return 0, 0, "the WARC header does not end"
    length = _LENGTH.search(window.data, 0, end.end())
    if not length:
        return 0, 0, "the WARC header has no Content-Length"
    return end.end(), end.end() + int(length[1]), ""


def _take(window: _Window, total: int, kept: int, *, plain: bool) -> tuple[bytes, str]:
    # Leaves the window behind the record; on an error where it was, if all of the record is in memory.
    short = not window.have(kept)
    with memoryview(window.data) as data:
        raw = bytes(data[:kept])
    at = kept
    if kept < total and not short:
        window.drop(kept)
        short = window.pass_over(total - kept) < total - kept
        at = 0
    if short:
        return raw, f"Content-Length says {total:,} bytes with the header, the data ends before"
    window.have(at + 4)
    ended = plain and bytes(window.data[at : at + 4]).startswith((b"\r\n\r\n", b"\n\n"))
    while window.have(at + 1) and window.data[at] in b"\r\n":
        at += 1
    window.have(at + 5)
    following = bytes(window.data[at : at + 5])
    # Behind two line ends junk is the next record's damage, behind none the length is wrong. In a gzip member junk
    # is damage that its checksum has yet to tell.
    if not (ended or b"WARC/".startswith(following)) or (not following and window.broken.reason):
        return raw, "Content-Length does not lead to the next record"
    window.drop(at)
    return raw, ""


def _find_next(window: _Window) -> bool:
    # Drops what is before the next line that opens a record; False when there is none.
    while not (at := _NEXT.search(window.data)):
        window.drop(max(0, len(window.data) - 8))
        if not window.have(len(window.data) + 1):
            window.drop(len(window.data))
            return False
    window.drop(at.start() + 1)
    return True


def frames(source: Source, size: int, part: Slice, cap: int) -> Iterator[Frame]:
    """Every record that begins in the slice, and every stretch that is none, with blocks cut at `cap` bytes."""
    split = _gzip_frames if is_gzip(source, part.path) else _plain_frames
    for ordinal, (position, offset, found) in enumerate(split(source, size, part, cap), part.ordinal):
        yield Frame(position, ordinal, offset, *found[1:])


def _plain_frames(source: Source, size: int, part: Slice, cap: int) -> Iterator[tuple[int, int, Found]]:
    def opened(at: int) -> _Window:
        return _Window(chunks(source, at), at)

    for found in _frames(opened(part.start), opened, cap, size):
        if found[0] >= part.stop:
            return
        yield found[0], found[0], found


def _gzip_frames(source: Source, size: int, part: Slice, cap: int) -> Iterator[tuple[int, int, Found]]:
    position, offset = 0, part.start
    while offset < part.stop and not only_padding(source, offset):
        member, passed = _Member(source, offset), 0
        for found in _frames(member.window(0), member.window, cap, None):
            yield position + found[0], offset, found
            passed = found[0] + found[2]
        position += passed
        offset = member.end or _next_member(source, offset + 1, size)


class _Member:
    """A gzip member, which may be opened again to look for what a wrong length jumped over."""

    def __init__(self, source: Source, offset: int) -> None:
        self._source, self._offset = source, offset
        self.end = 0  # offset behind it, once its end was seen

    def window(self, at: int) -> _Window:
        window = _Window(self._content())
        window.pass_over(at)
        return window

    def _content(self) -> Iterator[bytes]:
        self.end = yield from gzip_member(self._source, self._offset)


def is_gzip(source: Source, path: str) -> bool:
    """By content where it is plain to see (crawlers and servers rename), else by file ending."""
    source.seek(0)
    begin = source.read(5)
    return begin.startswith(_GZIP) or (path.endswith(".gz") and begin != b"WARC/")


def _next_member(source: Source, start: int, size: int) -> int:
    # the next gzip magic behind which there really is a record
    kept = b""
    for data in chunks(source, start):
        data = kept + data
        at = data.find(_GZIP)
        while at >= 0:
            if _opens_record(source, start - len(kept) + at):
                return start - len(kept) + at
            at = data.find(_GZIP, at + 1)
        start += len(data) - len(kept)
        kept = data[1 - len(_GZIP) :]
    return size


def _opens_record(source: Source, offset: int) -> bool:
    try:
        return next(gzip_member(source, offset)).lstrip(b"\r\n").startswith(b"WARC/")
    except (BrokenStream, StopIteration):
        return False
