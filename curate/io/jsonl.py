"""JSON Lines: plain files by byte range, .gz and .zst as chains.

Lines end at the newline byte only (strings may hold U+2028). A row's ordinal is the number of lines before it, blank
ones included. What a line becomes is written in json_row.

Rows     bad_json, bad_utf8 (a lone surrogate too), bad_type, bad_id, null_text, too_long are quarantined, one row
         each; blank lines are skipped, and lines whose owner said no (opt_out), bad ones too. A stream that ends early or breaks is one row more: truncated, corrupt_stream
"""

from collections.abc import Iterable, Iterator
from itertools import pairwise

import pyarrow as pa

from curate.io.json_row import NOT_JSON, BadLine, Parser, fields_of, id_key, key_columns
from curate.io.opt_out import REASON, OptOut, opt_out
from curate.io.slices import FileScan, Input, InputFile, LinkEnd, Report, Row, Slice, TakeIds, by_links
from curate.io.sources import (
    BrokenStream,
    DigestingFile,
    Source,
    chunks,
    compression,
    decompressed,
    join,
    open_source,
)
from curate.schema import CORE, RAW_CAP_BYTES, row_id

PEEK_BYTES = 256 << 10  # of each file, to see which columns there are
_PEEK_LINE_BYTES = 128 << 20  # a longer line is not looked into

Line = tuple[int, int, bytes, int, BrokenStream | None]  # offset, ordinal, content, its full length, error

_SLACK_BYTES = (
    64 << 10
)  # a line may have twice the bytes of the longest document (escapes), and this much more
_BOM = b"\xef\xbb\xbf"


def columns(keys: Iterable[str], config: Input, own_ids: bool) -> dict[str, pa.DataType]:
    """Columns of a file that has these keys: id, text, the other core ones, the mapped ones, extra."""
    mapping = key_columns(config, own_ids)
    names = {mapping[key] for key in keys if key in mapping} | set(mapping.values()).intersection(
        config.columns
    )
    found = {name: type_ for name, type_ in CORE.items() if name in names or name in ("id", "text")}
    found |= {name: pa.string() for name in sorted(names - set(CORE))}
    if "html" in found:
        found["html"] = pa.large_binary()
    return found | {"extra": pa.string()}


def peek_keys(file: InputFile) -> list[str] | None:
    """Keys in the first lines, in order of appearance; None when no line there is an object."""
    keys: dict[str, None] = {}
    objects = 0
    with open_source(file.path) as source:
        for offset, _, line, _, _ in _lines(_first_bytes(source, file.path), 0, 0, _PEEK_LINE_BYTES):
            try:  # a line that the peek cut does not decode either
                keys |= dict.fromkeys(fields_of(line if offset else line.removeprefix(_BOM)))
                objects += 1
            except NOT_JSON:
                continue
    return list(keys) if objects else None


def _first_bytes(source: Source, path: str) -> Iterator[bytes]:
    # one whole line at least, when it is not absurd
    seen, lines = 0, 0
    for data in _stream(source, path, 0, None):
        newline = data.find(b"\n")
        take = data[: max(PEEK_BYTES - seen, newline + 1)] if lines or newline >= 0 else data
        yield take
        seen, lines = seen + len(take), lines + take.count(b"\n")
        if (lines and seen >= PEEK_BYTES) or seen > _PEEK_LINE_BYTES:
            return


def _stream(source: Source, path: str, start: int, stop: int | None) -> Iterator[bytes]:
    kind = compression(path)
    return decompressed(source, kind) if kind else chunks(source, start, stop)


def scan(
    file: InputFile,
    config: Input,
    schema: pa.Schema,
    unit_bytes: int,
    on_ids: TakeIds | None,
    *,
    max_document_bytes: int,
) -> FileScan:
    """One pass: digest, cuts at the first line start after each `unit_bytes`."""
    whole = Slice(file.name, "jsonl", 0, file.size, 0, file.size, chain=True, own_ids=file.own_ids)
    with DigestingFile(open_source(file.path)) as source:
        if on_ids and id_key(config, file.own_ids):
            parse = Parser(whole, config, schema, max_document_bytes)
            lines = _lines(_stream(source, file.path, 0, None), 0, 0, _longest(max_document_bytes))
            _report_ids(lines, parse, on_ids, _longest(max_document_bytes), opt_out(config))
        if compression(file.path):
            return FileScan(source.hexdigest(), [whole] if file.size else [], None)
        cuts = _cut(source, unit_bytes)
        slices = [
            Slice(file.name, "jsonl", start, stop, ordinal, stop - start, own_ids=file.own_ids)
            for (start, ordinal), (stop, _) in pairwise(cuts)
        ]
        return FileScan(source.hexdigest(), slices, cuts[-1][1])


def _cut(source: Source, unit_bytes: int) -> list[tuple[int, int]]:
    # (offset, ordinal) of the first line of each slice, closed by the end of the file
    cuts, offset, ordinal, ended = [(0, 0)], 0, 0, True
    for data in chunks(source, 0):
        at = 0
        while (target := cuts[-1][0] + unit_bytes - 1) < offset + len(data):
            newline = data.find(b"\n", max(at, target - offset))
            if newline < 0:
                break
            ordinal += data.count(b"\n", at, newline + 1)
            at = newline + 1
            cuts.append((offset + at, ordinal))
        ordinal += data.count(b"\n", at)
        offset += len(data)
        ended = data.endswith(b"\n")
    ordinal += not ended
    if cuts[-1][0] < offset:
        cuts.append((offset, ordinal))
    return cuts


def _report_ids(
    lines: Iterator[Line],
    parse: Parser,
    on_ids: TakeIds,
    longest: int,
    refused: OptOut | None,
) -> None:
    # parses each line as `read` does: of two rows with one id the first that can be read is kept
    for offset, ordinal, line, length, error in lines:
        line = line if offset else line.removeprefix(_BOM)
        if not error and length <= longest and line and not line.isspace():
            try:
                row = parse(line, ordinal)
            except BadLine:
                continue  # quarantined when it is read
            if not refused or not refused.has_row(row.get("url"), row.get("html")):
                on_ids([ordinal], [row["id"]])


def _longest(max_document_bytes: int) -> int:
    # bytes of a line; a longer one is not parsed
    return 2 * max_document_bytes + _SLACK_BYTES


def read(
    root: str,
    part: Slice,
    config: Input,
    schema: pa.Schema,
    report: Report,
    *,
    max_document_bytes: int,
    first_link: int = 0,
) -> Iterator[tuple[int, Row] | LinkEnd]:
    """Rows of a slice, each with its size in bytes, and the link ends of a chain."""
    path = join(root, part.path)
    longest = _longest(max_document_bytes)
    parse, refused = Parser(part, config, schema, max_document_bytes), opt_out(config)
    with open_source(path) as source:
        lines: Iterator[Line | LinkEnd] = _lines(
            _stream(source, path, part.start, part.stop), part.start, part.ordinal, longest
        )
        for line in by_links(lines, first_link) if part.chain else lines:  # type: ignore[type-var]
            if isinstance(line, LinkEnd):
                yield line
                continue
            offset, ordinal, data, length, error = line
            data = data if offset else data.removeprefix(_BOM)
            if not error and (not data or data.isspace()):
                report.skip("blank_line")
                continue
            try:
                if error:
                    raise BadLine(error.reason, error.error)
                if length > longest:
                    raise BadLine("too_long", f"a line of {length:,} bytes")
                row = parse(data, ordinal)
                if refused and refused.has_row(row.get("url"), row.get("html")):
                    report.skip(REASON)
                else:
                    yield length, row
            except BadLine as bad:
                reserved = parse.is_reserved(data, refused) if refused and length <= longest else None
                raw = b"" if refused and reserved is None else data[:RAW_CAP_BYTES]
                _set_aside(report, part, ordinal, offset, bad, raw, bool(reserved))


def _set_aside(
    report: Report, part: Slice, ordinal: int, offset: int, bad: BadLine, raw: bytes, reserved: bool
) -> None:
    """Quarantine a line; one of a page whose owner said no is skipped."""
    if reserved:
        report.skip(REASON)
        return
    report.quarantine(
        id=row_id(part.path, ordinal), source=part.path, offset=offset, reason=bad.reason, error=bad.error, raw=raw
    )  # fmt: skip


def _lines(stream: Iterator[bytes], offset: int, ordinal: int, limit: int) -> Iterator[Line]:
    # Of a line longer than `limit` only the head is kept. An error of the stream ends the last line.
    pending, length, error = bytearray(), 0, None  # the line begun in earlier chunks
    while True:
        try:
            data = next(stream)
        except StopIteration:
            break
        except BrokenStream as broken:
            error = broken
            break
        *complete, tail = data.split(b"\n")
        for line in complete:
            if length:
                length += len(line)
                line = bytes(pending if length > limit else pending + line)
                pending.clear()
            else:
                length = len(line)
            yield offset, ordinal, line if length <= limit else line[:RAW_CAP_BYTES], length, None
            offset, ordinal, length = offset + length + 1, ordinal + 1, 0
        length += len(tail)
        if length <= limit:
            pending += tail
        else:
            pending = (pending + tail[:RAW_CAP_BYTES])[:RAW_CAP_BYTES]
    if length or error:
        yield offset, ordinal, bytes(pending), length, error
