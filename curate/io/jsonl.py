"""JSON Lines: plain files by byte range, .gz and .zst as chains.

Lines end at the newline byte only (strings may hold U+2028). A row's ordinal is the number of lines before it, blank
ones included. `text` and a mapped `html` must be strings; in any other column of ours a string is itself and any
other value its JSON text (so 17 is "17"). Keys that have no column stay, value bytes untouched, in the JSON object
`extra`, sorted by key; of a key written twice the last one counts.

Rows     bad_json, bad_utf8 (a lone surrogate too), bad_type, bad_id, null_text, too_long are quarantined, one row
         each; blank lines are skipped, and lines whose owner said no (opt_out), bad ones too. A stream that ends early or breaks is one row more: truncated, corrupt_stream
Differs  an input may name `licence` for `license`; of the two the first in a line counts, the other is in `extra`
"""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import pairwise
from typing import Any

import msgspec
import pyarrow as pa

from curate.io.opt_out import REASON, OptOut, opt_out
from curate.io.slices import FileScan, Input, InputFile, LinkEnd, Report, Row, Slice, by_links
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
_MAX_KEYS = 256  # of a struct; files with more go the careful way
_BOM = b"\xef\xbb\xbf"
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_string = msgspec.json.Decoder(str).decode
_any = msgspec.json.Decoder().decode


class _Bad(Exception):
    """A line that is no row."""

    def __init__(self, reason: str, error: str) -> None:
        super().__init__(error)
        self.reason, self.error = reason, error


def key_columns(config: Input, own_ids: bool) -> dict[str, str]:
    """Which column a key of the file fills, `id` apart; a key that is not named goes to `extra`."""
    mapped = {theirs: ours for ours, theirs in config.columns.items() if ours != "id"}
    usual = {name: name for name in CORE if name != "id"} | {"licence": "license"}
    if config.id_column != "id" and not own_ids:
        usual["id"] = "source_id"
    filled = set(mapped.values())
    return mapped | {key: ours for key, ours in usual.items() if key not in mapped and ours not in filled}


def id_key(config: Input, own_ids: bool) -> str | None:
    """The key that holds the id, when the input brings ids."""
    return config.id_column or ("id" if own_ids else None)


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
                keys |= dict.fromkeys(_fields(line if offset else line.removeprefix(_BOM)))
                objects += 1
            except _NOT_JSON:
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
    on_id: Callable[[int, str], None] | None,
    *,
    max_document_bytes: int,
) -> FileScan:
    """One pass: digest, cuts at the first line start after each `unit_bytes`."""
    whole = Slice(file.name, "jsonl", 0, file.size, 0, file.size, chain=True, own_ids=file.own_ids)
    with DigestingFile(open_source(file.path)) as source:
        if on_id and id_key(config, file.own_ids):
            parse = _Parser(whole, config, schema, max_document_bytes)
            lines = _lines(_stream(source, file.path, 0, None), 0, 0, _longest(max_document_bytes))
            _report_ids(lines, parse, on_id, _longest(max_document_bytes), opt_out(config))
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
    parse: "_Parser",
    on_id: Callable[[int, str], None],
    longest: int,
    refused: OptOut | None,
) -> None:
    # parses each line as `read` does: of two rows with one id the first that can be read is kept
    for offset, ordinal, line, length, error in lines:
        line = line if offset else line.removeprefix(_BOM)
        if not error and length <= longest and line and not line.isspace():
            try:
                row = parse(line, ordinal)
            except _Bad:
                continue  # quarantined when it is read
            if not refused or not refused.has_row(row.get("url"), row.get("html")):
                on_id(ordinal, row["id"])


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
    parse, refused = _Parser(part, config, schema, max_document_bytes), opt_out(config)
    with open_source(path) as source:
        lines: Iterator[Line | LinkEnd] = _lines(
            _stream(source, path, part.start, part.stop), part.start, part.ordinal, longest
        )
        for line in by_links(lines, first_link) if part.chain else lines:  # type: ignore[type-var]
            if isinstance(line, LinkEnd):
                yield line
                continue
            offset, ordinal, data, length, error = line
            if not offset:
                data = data.removeprefix(_BOM)
            if not error and (not data or data.isspace()):
                report.skip("blank_line")
                continue
            try:
                if error:
                    raise _Bad(error.reason, error.error)
                if length > longest:
                    raise _Bad("too_long", f"a line of {length:,} bytes")
                row = parse(data, ordinal)
                if refused and refused.has_row(row.get("url"), row.get("html")):
                    report.skip(REASON)
                    continue
                yield length, row
            except _Bad as bad:
                reserved = parse.is_reserved(data, refused) if refused and length <= longest else None
                if reserved:
                    report.skip(REASON)
                    continue
                report.quarantine(
                    id=row_id(part.path, ordinal),
                    source=part.path,
                    offset=offset,
                    reason=bad.reason,
                    error=bad.error,
                    raw=b"" if refused and reserved is None else data[:RAW_CAP_BYTES],
                )


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


class _Parser:
    """One line to one row.

    The lines of a file have the same keys, so they are decoded straight into a struct of those seen so far. What does
    not fit (a new key, a number for a string, an error) goes the careful way, which gives the same rows.
    """

    def __init__(self, part: Slice, config: Input, schema: pa.Schema, max_document_bytes: int) -> None:
        self._name, self._cap = part.path, max_document_bytes
        self._id_key = id_key(config, part.own_ids)
        mapping = key_columns(config, part.own_ids)
        self._columns = {key: ours for key, ours in mapping.items() if ours in schema.names}
        self._seen: set[str] = set()
        self._decode: Callable[[bytes], Any] | None = None
        self._names: list[str] = []  # of the struct's fields: our columns, then the others
        self._others: list[tuple[str, bytes]] = []  # name in the row, `"key":`

    def __call__(self, line: bytes, ordinal: int) -> Row:
        if self._decode and len(line) <= self._cap:
            try:
                return self._row_of(self._decode(line), ordinal)
            except (*_NOT_JSON, _Bad):
                pass
        try:
            fields = _fields(line)
            row = self._row(fields, ordinal)
        except _NOT_JSON as error:
            raise _Bad(_what_is_wrong(line), str(error)) from None
        if len(self._seen) < _MAX_KEYS and not self._seen.issuperset(fields):
            self._seen.update(fields)
            self._learn()
        return row

    def is_reserved(self, line: bytes, opt_out: OptOut) -> bool | None:
        """Whether a line that is no row is of a page whose owner said no; None where nobody can tell."""
        try:
            fields = _fields(line)
            found = {self._columns[key]: _text_of(raw) for key, raw in fields.items() if key in self._columns}
        except _NOT_JSON:
            return None
        return opt_out.has_row(found.get("url"), (found.get("html") or "").encode())

    def _learn(self) -> None:
        ours = {key: column for key, column in self._columns.items() if key in self._seen}
        if len(set(ours.values())) < len(ours) or "html" in ours.values() or self._id_key in ours:
            self._decode = None  # which of two keys fills a column is a matter of their order
            return
        others = sorted(self._seen - set(ours))
        raw = msgspec.Raw | msgspec.UnsetType
        fields = [(key, str | None, None) for key in ours] + [(key, raw, msgspec.UNSET) for key in others]
        line = msgspec.defstruct(
            "Line",
            [(f"f{n}", type_, default) for n, (_, type_, default) in enumerate(fields)],
            rename={f"f{n}": key for n, (key, _, _) in enumerate(fields)},
            forbid_unknown_fields=True,
            gc=False,
        )
        self._names = [*ours.values(), *(f"\0{key}" for key in others)]
        self._others = [(f"\0{key}", _key(key)) for key in others if key != self._id_key]
        self._decode = msgspec.json.Decoder(line).decode

    def _row_of(self, line: Any, ordinal: int) -> Row:
        row: Row = dict(zip(self._names, msgspec.structs.astuple(line), strict=True))
        if row.get("text") is None:
            raise _Bad("null_text", "no text in this row")
        id = row.get(f"\0{self._id_key}") if self._id_key else None
        row["id"] = _id(id or None) if self._id_key else row_id(self._name, ordinal)
        extra = [key + bytes(row[name]) for name, key in self._others if row[name] is not msgspec.UNSET]
        if extra:
            row["extra"] = _strict(b"{" + b",".join(extra) + b"}")
        return row

    def _row(self, fields: dict[str, msgspec.Raw], ordinal: int) -> Row:
        row: Row = {"id": _id(fields.get(self._id_key)) if self._id_key else row_id(self._name, ordinal)}
        extra = {}
        for key, raw in fields.items():
            ours = self._columns.get(key)
            if ours is None or ours in row:
                if key != self._id_key:
                    extra[key] = raw
            elif ours == "text" or ours == "html":
                row[ours] = self._document(key, raw)
            else:
                row[ours] = _text_of(raw)
        if row.get("text") is None and row.get("html") is None:
            raise _Bad("null_text", "no text in this row")
        if extra:
            row["extra"] = _strict(b"{" + b",".join(_key(k) + bytes(extra[k]) for k in sorted(extra)) + b"}")
        return row

    def _document(self, key: str, raw: msgspec.Raw) -> str | bytes | None:
        try:
            value = _string(raw)
        except msgspec.ValidationError:
            if bytes(raw) == b"null":
                return None
            raise _Bad("bad_type", f"`{key}` is not a string") from None
        if len(memoryview(raw)) - 2 > self._cap and len(value.encode()) > self._cap:
            raise _Bad("too_long", f"`{key}` has {len(value):,} characters")
        return value.encode() if self._columns[key] == "html" else value


@lru_cache(4096)
def _key(key: str) -> bytes:
    return msgspec.json.encode(key) + b":"


def _strict(data: bytes) -> str:
    if _SURROGATE.search(data):
        _any(data)  # refuses a lone one
    return data.decode()


def _text_of(raw: msgspec.Raw) -> str | None:
    try:
        return _string(raw)
    except msgspec.ValidationError:
        data = bytes(raw)
        return None if data == b"null" else _strict(data)


def _id(raw: msgspec.Raw | None) -> str:
    if raw is not None:
        first = bytes(memoryview(raw)[:1])
        if first == b'"':
            return str(_string(raw))
        if first in b"-0123456789":
            return bytes(raw).decode()
    raise _Bad("bad_id", "the id is missing, or neither a string nor a number")


def _what_is_wrong(line: bytes) -> str:
    try:
        line.decode()
    except UnicodeDecodeError:
        return "bad_utf8"
    try:
        _any(_SURROGATE.sub(rb"\\u00e9", line))
    except _NOT_JSON:
        return "bad_json"
    # the line is JSON but for its lone surrogates; without any, it is JSON that is no object
    return "bad_utf8" if _SURROGATE.search(line) and line.lstrip()[:1] == b"{" else "bad_json"
