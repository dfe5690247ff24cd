"""WARC (.warc, .warc.gz, WET): each response, resource or conversion record with a page or plain text is a row.

HTML goes to `html` (and with `input: {pdf: true}` a PDF to `pdf`), transfer and content encodings undone; other text to `text`, decoded by the charset of its header,
else as UTF-8, else by what its bytes look like. A page that is not UTF-8 but decodes in the charset of its HTTP header
is stored as UTF-8, as nobody sees that header later. `id` is WARC-Record-ID, `url` WARC-Target-URI, `date` WARC-Date,
`source` the file. A record's ordinal counts all records before it, of any type, broken ones included.

Rows     skipped: request, warcinfo, metadata, revisit and other types by name; http_status (not 200); not_text.
         Quarantined, one row each: bad_record (header or length that does not fit, broken gzip member, undecodable
         payload), truncated, corrupt_stream, too_long, bad_utf8. Reading goes on at the next record. Whose owner said
         no (see opt_out) is skipped, opt_out, broken or not.
Differs  fastwarc ends silently at the first thing it cannot read, so warc_frames finds the records and it parses each one;
         a payload whose gzip ends early keeps what was there, and one that only claims an encoding is taken as it is
"""

import codecs
import io
import re
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow as pa

from curate.errors import DataError
from curate.io.opt_out import REASON, OptOut
from curate.io.slices import FileScan, InputFile, LinkEnd, Report, Row, Slice, TakeIds, by_links
from curate.io.sources import (
    CHUNK_BYTES,
    DigestingFile,
    join,
    open_source,
)
from curate.io.warc_frames import HEADER_CAP, HEADER_END, Frame, frames
from curate.schema import CORE, RAW_CAP_BYTES, row_id

_HTML = {"text/html", "application/xhtml+xml"}
_PDF = {"application/pdf", "application/x-pdf"}
_TEXT = {"text/plain", "text/markdown", "text/x-markdown", "text/x-rst", "text/prs.fallenstein.rst"}
_NO_TYPE = {"", "application/octet-stream", "application/unknown", "unknown", "unknown/unknown", "*/*"}
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([\w.:-]+)", re.I)
_TARGET = re.compile(rb"(?im)^WARC-Target-URI[ \t]*:([^\r\n]*)")
_CHUNK_SIZE = re.compile(rb"(?:\r?\n)?([0-9a-fA-F]{1,8})[^\r\n]{0,256}\r?\n")
_WIDER = {
    "ascii": "cp1252", "iso8859-1": "cp1252", "iso8859-9": "cp1254", "gb2312": "gb18030", "gbk": "gb18030",
    "shift_jis": "cp932", "euc_kr": "cp949",
}  # fmt: skip
_LOOKS_HTML = re.compile(rb"\s*(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html)\b", re.I | re.S)
# codecs that Python has and the web has not; some are slow on purpose-made input
_NO_CHARSET = {
    "unicode-escape",
    "raw-unicode-escape",
    "idna",
    "punycode",
    "undefined",
    "utf-7",
    "mbcs",
    "oem",
}


def columns(pdf: bool = False) -> dict[str, pa.DataType]:
    """Columns of a row."""
    found = {name: CORE[name] for name in ("id", "text", "url", "source", "date")}
    return found | {name: pa.large_binary() for name in (("html", "pdf") if pdf else ("html",))}


def scan(
    file: InputFile,
    unit_bytes: int,
    on_ids: TakeIds | None,
    *,
    max_document_bytes: int,
    opt_out: OptOut | None = None,
    pdf: bool = False,
) -> FileScan:
    """One pass: digest, ids, cuts at the first member (plain: record) after each `unit_bytes` of content."""
    slices: list[Slice] = []
    begun = (0, 0, 0)  # offset, ordinal and position of the slice being filled
    member, rows, end, packed = (-1, 0, 0), 0, 0, False
    whole = Slice(file.name, "warc", 0, file.size, 0, file.size)
    with DigestingFile(open_source(file.path)) as source:
        for frame in frames(source, file.size, whole, max_document_bytes + 2 * HEADER_CAP):
            if frame.offset != member[0]:
                if frame.position - begun[2] >= unit_bytes:
                    slices.append(
                        Slice(file.name, "warc", begun[0], frame.offset, begun[1], frame.position - begun[2])
                    )
                    begun = frame.offset, frame.ordinal, frame.position
                member = frame.offset, frame.ordinal, frame.position
            end = frame.position + frame.length
            # one member around many records can only be read from its start
            packed |= frame.ordinal > member[1] and end - member[2] > unit_bytes
            if (record := _good(frame, max_document_bytes, opt_out, pdf)) is not None:
                rows += 1
                if on_ids and record.id:
                    on_ids([frame.ordinal], [record.id])
        if packed:
            slices = [Slice(file.name, "warc", 0, file.size, 0, end, chain=True)]
        elif file.size > begun[0]:
            slices.append(Slice(file.name, "warc", begun[0], file.size, begun[1], end - begun[2]))
        return FileScan(source.hexdigest(), slices, rows)


class _Record(NamedTuple):
    parsed: Any  # fastwarc's record, its payload not yet read
    skip: str  # why it is no row, or ""
    id: str
    kind: str  # html, pdf or text
    charset: str
    encoded: bool  # the payload is in an encoding that fastwarc does not know


def _parse(raw: bytes, pdf: bool) -> _Record | None:
    # None: the headers cannot be read
    for auto_decode in ("all", "none"):
        try:
            return _read_headers(raw, auto_decode, pdf)
        except (OSError, ValueError, StopIteration):  # an encoding that fastwarc does not know, too
            continue
    return None


def _read_headers(raw: bytes, auto_decode: Any, pdf: bool) -> _Record | None:
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    parsed = next(ArchiveIterator(io.BytesIO(raw), parse_http=False, quirks_mode=True))
    id = (parsed.record_id or "").strip().removeprefix("<").removesuffix(">")
    type_ = parsed.record_type
    if type_ not in (WarcRecordType.response, WarcRecordType.resource, WarcRecordType.conversion):
        return _Record(parsed, str(type_).rpartition(".")[2], id, "", "", False)
    declared, charset = _content_type(parsed.headers.get("Content-Type"))
    if parsed.is_http:
        parsed.parse_http(auto_decode=auto_decode, quirks_mode=True)
        http = parsed.http_headers
        if http is None or http.status_code is None:
            return None
        if http.status_code != 200:
            return _Record(parsed, "http_status", id, "", "", False)
        declared, charset = _content_type(http.get("Content-Type"))
    if declared in _NO_TYPE:
        declared, _ = _content_type(parsed.headers.get("WARC-Identified-Payload-Type"))
    if declared in _NO_TYPE:
        declared = "text/html" if _LOOKS_HTML.match(raw[_http_body(raw) :][:1024]) else ""
    kinds = {"html": _HTML, "text": _TEXT, "pdf": _PDF if pdf else frozenset()}
    kind = next((name for name, types in kinds.items() if declared in types), "")
    return _Record(parsed, "" if kind else "not_text", id, kind, charset, auto_decode == "none")


def _http_body(raw: bytes) -> int:
    # offset of what follows the WARC header and, where there is one, the HTTP header
    end = HEADER_END.search(raw)
    at = end.end() if end else 0
    if raw.startswith(b"HTTP/", at) and (end := HEADER_END.search(raw, at)):
        at = end.end()
    return at


def _content_type(value: str | None) -> tuple[str, str]:
    # ("text/html", "utf-8") of 'Text/HTML; charset="UTF-8"'
    kind, _, parameters = (value or "").partition(";")
    charset = _CHARSET.search(parameters)
    return kind.strip().lower(), charset[1] if charset else ""


def read(
    root: str,
    part: Slice,
    report: Report,
    *,
    max_document_bytes: int,
    first_link: int = 0,
    opt_out: OptOut | None = None,
    pdf: bool = False,
) -> Iterator[tuple[int, Row] | LinkEnd]:
    """Rows of a slice, each with its size in bytes, and the link ends of a chain."""
    with open_source(join(root, part.path)) as source:
        size = source.seek(0, io.SEEK_END)
        if size < part.stop:
            raise DataError(
                f"`{join(root, part.path)}` is shorter than when the run was planned",
                hint="restore the file, or plan anew with --fresh",
            )
        found: Iterator[Frame | LinkEnd] = frames(source, size, part, max_document_bytes + 2 * HEADER_CAP)
        for frame in by_links(found, first_link) if part.chain else found:  # type: ignore[type-var]
            if isinstance(frame, LinkEnd):
                yield frame
            elif row := _row(frame, part, report, max_document_bytes, opt_out, pdf):
                yield row


class _Bad(Exception):
    """A record that should be a row and cannot be one: reason, error."""


def _good(frame: Frame, cap: int, opt_out: OptOut | None, pdf: bool) -> _Record | None:
    # the record if `read` makes a row of it; its payload is decoded for that (10% of the scan)
    record = None if frame.reason else _parse(frame.raw, pdf)
    if not record or record.skip or _is_reserved(frame, record, opt_out):
        return None
    try:
        _, document = _document(record, frame.raw, cap)
    except _Bad:
        return None
    return None if opt_out and opt_out.in_page(document.get("html")) else record


def _is_reserved(frame: Frame, record: _Record | None, opt_out: OptOut | None) -> bool:
    # by its address or its HTTP header; the address is looked for in broken records too
    if opt_out is None:
        return False
    end = HEADER_END.search(frame.raw, 0, HEADER_CAP)
    target = _TARGET.search(frame.raw, 0, end.start() if end else HEADER_CAP)
    if target and opt_out.has_url(target[1].decode("utf-8", "replace").strip().strip("<>")):
        return True
    headers = record.parsed.http_headers if record else None
    return headers is not None and opt_out.in_headers(headers)


def _document(record: _Record, raw: bytes, cap: int) -> tuple[int, Row]:
    payload = _payload(record, raw, cap)
    if record.kind == "pdf":
        return len(payload), {"pdf": payload}
    if record.kind == "html":
        return len(payload), {"html": _as_utf8(payload, record.charset)}
    return len(payload), {"text": _text(payload, record.charset)}


def _row(
    frame: Frame, part: Slice, report: Report, cap: int, opt_out: OptOut | None, pdf: bool
) -> tuple[int, Row] | None:
    record = None if frame.reason else _parse(frame.raw, pdf)
    if record and record.skip:
        report.skip(record.skip)
        return None
    if _is_reserved(frame, record, opt_out):
        report.skip(REASON)
        return None
    id = record.id if record and record.id else row_id(part.path, frame.ordinal)
    try:
        if frame.reason:
            raise _Bad(frame.reason, frame.error)
        if not record:
            raise _Bad("bad_record", "the WARC or HTTP header of this record cannot be read")
        size, document = _document(record, frame.raw, cap)
        if opt_out and opt_out.in_page(document.get("html")):
            report.skip(REASON)
            return None
        row: Row = {
            "id": id,
            "url": _header_text(record, "WARC-Target-URI"),
            "source": part.path,
            "date": _header_text(record, "WARC-Date"),
        }
        return size, row | document
    except _Bad as bad:
        reason, error = bad.args
        # of what cannot be read, or holds parts of several records, nobody knows whose page it is
        unknown = opt_out is not None and (opt_out.tdm or frame.reason or not record)
        report.quarantine(
            id=id,
            source=part.path,
            offset=frame.offset,
            reason=reason,
            error=error,
            raw=b"" if unknown else frame.raw[:RAW_CAP_BYTES],
        )
        return None


def _header_text(record: _Record, name: str) -> str | None:
    value = record.parsed.headers.get(name)
    return value.strip().removeprefix("<").removesuffix(">") if value else None


def _payload(record: _Record, raw: bytes, cap: int) -> bytes:
    data, error = (b"", "unknown encoding") if record.encoded else _read(record.parsed.reader, cap)
    if error and not data:
        data = _undecoded(raw, record.parsed.http_headers, cap, error)
    if len(data) > cap:
        raise _Bad("too_long", f"a document of more than {cap:,} bytes")
    return data


def _read(reader: Any, cap: int) -> tuple[bytes, str]:
    # at most one byte more than `cap`, however much there is: a decompression bomb stays in its bottle
    pieces, left = [], cap + 1
    try:
        while left > 0 and (piece := reader.read(min(left, CHUNK_BYTES))):
            pieces.append(piece)
            left -= len(piece)
    except OSError as error:
        return b"".join(pieces), str(error)
    return b"".join(pieces), ""


def _undecoded(raw: bytes, headers: Any, cap: int, error: str) -> bytes:
    # What fastwarc cannot decode: raw deflate, x-gzip, a body cut inside a chunk, encodings that are only claimed.
    body = raw[_http_body(raw) :]
    if "chunked" in (headers.get("Transfer-Encoding") or "").lower():
        body = _dechunked(body) or body
    encoding = (headers.get("Content-Encoding") or "").lower()
    for bits in (47, -15) if "gzip" in encoding or "deflate" in encoding else ():
        try:
            return zlib.decompressobj(bits).decompress(body, cap + 1)
        except zlib.error:
            continue
    head = body[:4096]
    if b"\0" not in head and (head.lstrip().startswith(b"<") or _decodes(head)):
        return body[: cap + 1]
    raise _Bad("bad_record", f"the payload cannot be decoded: {error}")


def _decodes(head: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True


def _dechunked(body: bytes) -> bytes:
    pieces, at = [], 0
    while (head := _CHUNK_SIZE.match(body, at)) and (size := int(head[1], 16)):
        pieces.append(body[head.end() : head.end() + size])
        at = head.end() + size
    return b"".join(pieces)


def _codec(charset: str | None) -> str | None:
    # as the web reads labels: latin-1 is windows-1252, gb2312 is gb18030
    try:
        name = codecs.lookup(charset or "").name
    except (LookupError, ValueError):
        return None
    return None if name in _NO_CHARSET else _WIDER.get(name, name)


def _decoded(data: bytes, codec: str | None) -> str | None:
    try:
        text = data.decode(codec) if codec else None
        if text is not None:
            text.encode()
        return text
    except (UnicodeError, LookupError):
        return None


def _as_utf8(page: bytes, charset: str) -> bytes:
    codec = _codec(charset)
    if (
        codec is None
        or codec == "utf-8"
        or (not codec.startswith("utf-") and _decoded(page, "utf-8") is not None)
    ):
        return page
    text = _decoded(page, codec)
    return page if text is None else text.encode()


def _text(data: bytes, charset: str) -> str:
    text = _decoded(data, _codec(charset))
    if text is None:
        text = _decoded(data, "utf-8")
    if text is None:
        from resiliparse.parse.encoding import detect_encoding

        text = _decoded(data, _codec(detect_encoding(data)))
    if text is not None and "\0" in text:
        raise _Bad("binary", "what is declared as text holds NUL characters")
    if text is None:
        raise _Bad(
            "bad_utf8", "the text decodes neither as its header says, nor as UTF-8, nor as what it looks like"
        )
    return text.removeprefix("\ufeff")
