"""Rows of a file with typed columns, Parquet or Arrow, as rows of ours: which of its columns fills which of ours, and the
rows that are quarantined on the way.
"""

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import ConfigError
from curate.io import hive
from curate.io.batches import document_bytes
from curate.io.opt_out import REASON, OptOut, opt_out
from curate.io.slices import Input, InputFile, Report, Slice, near_names, row_ids
from curate.schema import CORE, RAW_CAP_BYTES, raw_columns

_TEXT_NAMES = ("content", "contents", "body", "raw_content", "markdown", "document", "code")


def columns_of(file: InputFile, schema: pa.Schema, config: Input) -> dict[str, pa.DataType]:
    """Columns of a file as rows of ours, from its schema."""
    schema = hive.whole_schema(schema)
    mapping = file_columns(file.path, schema.names, config, file.own_ids)
    return {
        ours: CORE[ours] if theirs is None else _our_type(file.path, ours, theirs, schema.field(theirs).type)
        for ours, theirs in mapping.items()
    }


def file_columns(path: str, names: list[str], config: Input, own_ids: bool) -> dict[str, str | None]:
    """Our columns in order -> the file's column that fills each (None: made by us). ConfigError where it cannot be."""
    for theirs in names:
        if names.count(theirs) > 1:
            raise ConfigError(f"`{path}` has two columns called `{theirs}`", hint="rename one in the file")
    renamed = {ours: theirs for ours, theirs in config.columns.items() if ours != "id"}
    id_column = config.id_column or ("id" if own_ids else None)
    if "text" not in renamed or "html" in names:  # a column that other files of the input have is null here
        renamed = {ours: theirs for ours, theirs in renamed.items() if theirs in names}
    for theirs in [*renamed.values(), *([id_column] if id_column else [])]:
        if theirs not in names:
            raise ConfigError(
                f"`{path}` has no column `{theirs}`", hint=near_names(theirs, names), where="input"
            )
    found: dict[str, str | None] = {"id": id_column, **renamed}
    # a core column may be the id and stay what it is as well (`id: url`)
    taken = set(renamed.values()) | ({id_column} if id_column == "id" or id_column not in CORE else set())
    for theirs in names:
        if theirs not in taken:
            ours = "source_id" if theirs == "id" else theirs
            if theirs == "licence" and "license" not in {*names, *renamed}:
                ours = "license"
            if ours in found:
                raise ConfigError(
                    f"`{path}` has two columns for `{ours}`: `{found[ours]}` and `{theirs}`",
                    hint=f"rename one: columns: {{{theirs}_2: {theirs}}}",
                    where="input",
                )
            found[ours] = theirs
    if not {"text", "html", "pdf"} & set(found):
        guess = next((name for name in names if name in _TEXT_NAMES), "...")
        raise ConfigError(
            f"`{path}` has no column `text`; it has {', '.join(names)}",
            hint=f"say which one it is: columns: {{text: {guess}}}",
            where="input",
        )
    found.setdefault("text", None)
    return {n: found[n] for n in CORE if n in found} | {n: found[n] for n in found if n not in CORE}


def _is_string(type_: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_)
    )


def _our_type(path: str, ours: str, theirs: str, type_: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(type_):
        type_ = type_.value_type
    if ours == "html" and (_is_string(type_) or pa.types.is_binary(type_) or pa.types.is_large_binary(type_)):
        return pa.large_binary()
    if ours in CORE or ours == "source_id":
        wanted = CORE.get(ours, pa.string())
        plain = pa.types.is_primitive(type_) or pa.types.is_decimal(type_)
        if _is_string(type_) or pa.types.is_null(type_):
            return wanted
        if ours != "text" and (pa.types.is_integer(type_) if ours == "id" else plain):
            return wanted
        raise ConfigError(
            f"column `{theirs}` of `{path}` is {type_}, and `{ours}` must be a string",
            hint="map another column"
            if ours != theirs or ours == "id"
            else f"rename it: columns: {{{theirs}_2: {theirs}}}",
            where="input",
        )
    if _is_string(type_):
        return type_ if pa.types.is_large_string(type_) else pa.string()
    return type_


def good_ids(column: pa.Array, bad: Sequence[int], first: int) -> tuple[Sequence[int], list[str]]:
    """Ordinals and ids, without the `bad` rows and those whose id is missing or not UTF-8."""
    try:
        column.validate(full=True)
        if not bad and not column.null_count:
            return range(first, first + len(column)), column.to_pylist()
    except pa.ArrowInvalid:
        pass  # of some rows
    left, good = set(bad), []
    for row, value in enumerate(column.cast(pa.binary()).to_pylist()):
        if value is not None and row not in left:
            with contextlib.suppress(UnicodeDecodeError):
                good.append((first + row, value.decode()))
    return [ordinal for ordinal, _ in good], [name for _, name in good]


def refused_rows(
    batch: pa.RecordBatch, url: str | None, html: str | None, refused: OptOut | None
) -> Iterator[int]:
    """Rows of pages whose owners said no."""
    if refused is None:
        return
    urls, pages = (
        cast(batch.column(name), pa.large_binary()).to_pylist() if name else [None] * batch.num_rows
        for name in (url, html if refused.tdm else None)
    )
    for row, (address, page) in enumerate(zip(urls, pages, strict=True)):
        if refused.has_row(address.decode("utf-8", "replace") if address else None, page):
            yield row


def bad_documents(batch: pa.RecordBatch, documents: list[str], cap: int) -> list[bool]:
    """Which rows have none of the documents, or more than `cap` bytes of them."""
    lengths = [pc.binary_length(cast(batch.column(name), pa.large_binary())) for name in documents]
    return [
        all(size is None for size in sizes) or sum(size or 0 for size in sizes) > cap
        for sizes in zip(*(length.to_pylist() for length in lengths), strict=True)
    ]


def quarantine(
    report: Report, part: Slice, id: str, offset: int, reason: str, error: str, raw: bytes = b""
) -> None:
    """Report a row, with no more of it than is kept."""
    report.quarantine(
        id=id, source=part.path, offset=offset, reason=reason, error=error, raw=raw[:RAW_CAP_BYTES]
    )


def cast(array: pa.Array, type_: pa.DataType) -> pa.Array:
    """As the type, without a dictionary."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return array if array.type == type_ else array.cast(type_)


class Rows:
    """A batch as it lies in the file -> a batch of our schema, without the rows that are quarantined."""

    def __init__(
        self,
        path: str,
        part: Slice,
        names: list[str],
        config: Input,
        schema: pa.Schema,
        report: Report,
        max_document_bytes: int,
    ) -> None:
        mapping = file_columns(path, names, config, part.own_ids)
        self._mapping = {ours: theirs for ours, theirs in mapping.items() if ours in schema.names}
        self.theirs = sorted({theirs for theirs in self._mapping.values() if theirs}, key=names.index)
        self._part, self._schema, self._report, self._cap = part, schema, report, max_document_bytes
        self._opt_out = opt_out(config)

    def __call__(self, raw: pa.RecordBatch, ordinal: int) -> pa.RecordBatch:
        batch = pa.RecordBatch.from_arrays(
            [self._column(raw, field, ordinal) for field in self._schema], schema=self._schema
        )
        reasons = self._reasons(raw, batch)
        url, html = (name if name in self._schema.names else None for name in ("url", "html"))
        reserved = list(refused_rows(batch, url, html, self._opt_out))
        if not reasons and not reserved:
            return batch
        keep = np.ones(batch.num_rows, bool)
        if reserved:
            keep[reserved] = False
            self._report.skip(REASON, len(reserved))
        for row in reserved:
            reasons.pop(row, None)
        for row, (reason, error) in sorted(reasons.items()):
            keep[row] = False
            id_, text = (
                batch[name].slice(row, 1).cast(pa.large_binary())[0].as_py() for name in ("id", "text")
            )
            id_ = id_.decode("utf-8", "replace") if id_ else row_ids(self._part.path, ordinal + row, 1)[0]
            quarantine(self._report, self._part, id_, ordinal + row, reason, error, text or b"")
        return batch.filter(pa.array(keep))

    def _column(self, raw: pa.RecordBatch, field: pa.Field, ordinal: int) -> pa.Array:
        theirs = self._mapping.get(field.name)
        if theirs:
            return cast(raw.column(theirs), field.type)
        if field.name == "id":
            return pa.array(row_ids(self._part.path, ordinal, raw.num_rows), field.type)
        return pa.nulls(raw.num_rows, field.type)

    def _reasons(self, raw: pa.RecordBatch, batch: pa.RecordBatch) -> dict[int, tuple[str, str]]:
        reasons: dict[int, tuple[str, str]] = {}
        sizes = document_bytes(batch)
        for row in np.flatnonzero(sizes > self._cap).tolist():
            reasons[row] = "too_long", f"a document of {sizes[row]:,} bytes"
        if batch["text"].null_count:
            empty = batch["text"].is_null().to_numpy(zero_copy_only=False)
            for name in raw_columns(self._schema):
                empty = empty & batch[name].is_null().to_numpy(zero_copy_only=False)
            for row in np.flatnonzero(empty).tolist():
                reasons[row] = "null_text", "no text in this row"
        if batch["id"].null_count:
            for row in np.flatnonzero(batch["id"].is_null().to_numpy(zero_copy_only=False)).tolist():
                reasons[row] = "bad_id", "the id is missing"
        try:
            raw.validate(full=True)  # pyarrow does not look at the encoding when it reads
        except pa.ArrowInvalid:
            for row in range(raw.num_rows):
                try:
                    raw.slice(row, 1).validate(full=True)
                except pa.ArrowInvalid as error:
                    reasons[row] = "bad_utf8", str(error)
        return reasons
