"""One line of JSON to one row: the careful way, and a quick one for lines that have the keys of those before.

`text` and a mapped `html` must be strings; in any other column of ours a string is itself and any other value its JSON
text (so 17 is "17"). Keys that have no column stay, value bytes untouched, in the JSON object `extra`, sorted by key; of
a key written twice the last one counts.

Fails    BadLine: bad_json, bad_utf8 (a lone surrogate too), bad_type, bad_id, null_text, too_long
Differs  an input may name `licence` for `license`; of the two the first in a line counts, the other is in `extra`
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import msgspec
import pyarrow as pa

from curate.io.opt_out import OptOut
from curate.io.slices import Input, Row, Slice
from curate.schema import CORE, row_id

NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
fields_of = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_MAX_KEYS = 256  # of a struct; files with more go the careful way
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_string = msgspec.json.Decoder(str).decode
_any = msgspec.json.Decoder().decode


class BadLine(Exception):
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


class Parser:
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
            except (*NOT_JSON, BadLine):
                pass
        try:
            fields = fields_of(line)
            row = self._row(fields, ordinal)
        except NOT_JSON as error:
            raise BadLine(_what_is_wrong(line), str(error)) from None
        if len(self._seen) < _MAX_KEYS and not self._seen.issuperset(fields):
            self._seen.update(fields)
            self._learn()
        return row

    def is_reserved(self, line: bytes, opt_out: OptOut) -> bool | None:
        """Whether a line that is no row is of a page whose owner said no; None where nobody can tell."""
        try:
            fields = fields_of(line)
            found = {self._columns[key]: _text_of(raw) for key, raw in fields.items() if key in self._columns}
        except NOT_JSON:
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
            raise BadLine("null_text", "no text in this row")
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
            raise BadLine("null_text", "no text in this row")
        if extra:
            row["extra"] = _strict(b"{" + b",".join(_key(k) + bytes(extra[k]) for k in sorted(extra)) + b"}")
        return row

    def _document(self, key: str, raw: msgspec.Raw) -> str | bytes | None:
        try:
            value = _string(raw)
        except msgspec.ValidationError:
            if bytes(raw) == b"null":
                return None
            raise BadLine("bad_type", f"`{key}` is not a string") from None
        if len(memoryview(raw)) - 2 > self._cap and len(value.encode()) > self._cap:
            raise BadLine("too_long", f"`{key}` has {len(value):,} characters")
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
    raise BadLine("bad_id", "the id is missing, or neither a string nor a number")


def _what_is_wrong(line: bytes) -> str:
    try:
        line.decode()
    except UnicodeDecodeError:
        return "bad_utf8"
    try:
        _any(_SURROGATE.sub(rb"\\u00e9", line))
    except NOT_JSON:
        return "bad_json"
    # the line is JSON but for its lone surrogates; without any, it is JSON that is no object
    return "bad_utf8" if _SURROGATE.search(line) and line.lstrip()[:1] == b"{" else "bad_json"
