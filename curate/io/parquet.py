"""Parquet in: row-group ranges, at pyarrow's own speed. (Parts are written by the engine.)

Rows     a row whose strings are not UTF-8 is quarantined bad_utf8, one without text and html null_text, one over the
         size limit too_long, one without the mapped id bad_id. What cannot be decoded of a row group is one row each,
         corrupt_row_group, by ordinal; a file without a readable footer is one row, unreadable_file. Rows whose owner
         said no (see opt_out) are skipped, opt_out, bad ones too.
Scan     the ids of rows that will be quarantined are left out where footer and text can tell: null_text, too_long,
         bad_id, an id that is not UTF-8. What only decoding every column shows (bad_utf8 elsewhere,
         corrupt_row_group) is not seen: such a row, if the first of a repeated id, may cost the later ones.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.errors import ConfigError, DataError
from curate.io import hive
from curate.io.batches import cut, document_bytes
from curate.io.files import is_remote
from curate.io.opt_out import REASON, OptOut, opt_out
from curate.io.slices import FileScan, Input, InputFile, Report, Slice, TakeIds, near_names, row_ids
from curate.io.sources import DigestingFile, join, open_source
from curate.schema import CORE, RAW_CAP_BYTES, raw_columns

_TEXT_NAMES = ("content", "contents", "body", "raw_content", "markdown", "document", "code")
BUFFER_BYTES, REMOTE_BUFFER_BYTES = 1 << 20, 8 << 20  # read ahead per column
_UNREADABLE = (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError)


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


def columns(file: InputFile, config: Input) -> dict[str, pa.DataType] | None:
    """Columns of the file as rows of ours; None when its footer cannot be read."""
    try:
        with _open(file.path) as parquet:
            schema: pa.Schema = parquet.schema_arrow
    except _UNREADABLE as error:
        _only_damage(error)
        return None
    schema = hive.whole_schema(schema)
    mapping = file_columns(file.path, schema.names, config, file.own_ids)
    return {
        ours: CORE[ours] if theirs is None else _our_type(file.path, ours, theirs, schema.field(theirs).type)
        for ours, theirs in mapping.items()
    }


def _only_damage(error: Exception) -> None:
    # A disk or network that gives up has an errno: that stops the run and never costs a row.
    if getattr(error, "errno", None) is not None:
        raise error


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


@contextlib.contextmanager
def _open(path: str) -> Iterator[Any]:
    # Buffered: pre_buffer would hold a row group's columns whole, and a mapped file counts as memory of ours.
    # Measured on a row group of 1 GB: 0.24 GB at the peak, mapped 1.2, pre-buffered 1.2, in the same time.
    source = open_source(path)
    with (
        source,
        pq.ParquetFile(
            source if is_remote(path) else path,
            pre_buffer=False,
            buffer_size=REMOTE_BUFFER_BYTES if is_remote(path) else BUFFER_BYTES,
            page_checksum_verification=True,
        ) as parquet,
    ):
        yield parquet


def scan(
    file: InputFile,
    config: Input,
    unit_bytes: int,
    on_ids: TakeIds | None,
    *,
    max_document_bytes: int,
) -> FileScan:
    """Digest of the content; row groups packed into slices of about `unit_bytes`."""
    with DigestingFile(open_source(file.path)) as source:
        digest = source.hexdigest()
    try:
        with _open(file.path) as parquet:
            groups = [parquet.metadata.row_group(g) for g in range(parquet.metadata.num_row_groups)]
            id_column = config.id_column or ("id" if file.own_ids else None)
            if on_ids and id_column:
                names = hive.whole_schema(parquet.schema_arrow).names
                mapping = file_columns(file.path, names, config, file.own_ids)
                _report_ids(parquet, id_column, mapping, on_ids, max_document_bytes, opt_out(config))
    except _UNREADABLE as error:
        _only_damage(error)
        return FileScan(digest, [Slice(file.name, "parquet", 0, 0, 0, 0, own_ids=file.own_ids)], None)
    slices: list[Slice] = []
    start = first = ordinal = size = 0
    for index, group in enumerate(groups):
        if index > start and size + group.total_byte_size > unit_bytes:
            slices.append(Slice(file.name, "parquet", start, index, first, size, own_ids=file.own_ids))
            start, first, size = index, ordinal, 0
        ordinal, size = ordinal + group.num_rows, size + group.total_byte_size
    if groups:
        slices.append(Slice(file.name, "parquet", start, len(groups), first, size, own_ids=file.own_ids))
    return FileScan(digest, slices, ordinal)


def _report_ids(
    parquet: Any,
    column: str,
    mapping: dict[str, str | None],
    on_ids: TakeIds,
    cap: int,
    refused: OptOut | None,
) -> None:
    documents = [theirs for name in ("text", "html") if (theirs := mapping.get(name))]
    if (pdf := mapping.get("pdf")) and raw_columns(pa.schema({"pdf": parquet.schema_arrow.field(pdf).type})):
        documents.append(pdf)
    asked = [theirs for name in ("url", "html") if refused and (theirs := mapping.get(name))]
    start = 0
    for group in range(parquet.metadata.num_row_groups):
        ordinal = start
        footer = parquet.metadata.row_group(group)
        look = _may_be_bad(footer, documents, cap)
        rows, names = (1 << 10, [column, *documents]) if look else (1 << 16, [column])
        names = list({*names, *asked})
        try:
            for batch in parquet.iter_batches(rows, row_groups=[group], columns=names, use_threads=False):
                bad = list(_reserved(batch, mapping.get("url"), mapping.get("html"), refused))
                if look:
                    bad += np.flatnonzero(_bad_documents(batch, documents, cap)).tolist()
                on_ids(*_good_ids(_cast(batch.column(column), pa.string()), bad, ordinal))
                ordinal += batch.num_rows
        except _UNREADABLE as error:  # these rows are quarantined when they are read
            _only_damage(error)
        start += footer.num_rows


def _good_ids(column: pa.Array, bad: Sequence[int], first: int) -> tuple[Sequence[int], list[str]]:
    # ordinals and ids, without the `bad` rows and those whose id is missing or not UTF-8
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


def _may_be_bad(footer: Any, documents: list[str], cap: int) -> bool:
    # whether a row of the group may lack its document or hold one that is too long, by the footer alone
    chunks = [footer.column(i) for i in range(footer.num_columns)]
    chunks = [chunk for chunk in chunks if chunk.path_in_schema in documents]
    whole = any(c.statistics is not None and c.statistics.null_count == 0 for c in chunks)
    return not whole or sum(c.total_uncompressed_size for c in chunks) > cap


def _reserved(
    batch: pa.RecordBatch, url: str | None, html: str | None, refused: OptOut | None
) -> Iterator[int]:
    # rows of pages whose owners said no
    if refused is None:
        return
    urls, pages = (
        _cast(batch.column(name), pa.large_binary()).to_pylist() if name else [None] * batch.num_rows
        for name in (url, html if refused.tdm else None)
    )
    for row, (address, page) in enumerate(zip(urls, pages, strict=True)):
        if refused.has_row(address.decode("utf-8", "replace") if address else None, page):
            yield row


def _bad_documents(batch: pa.RecordBatch, documents: list[str], cap: int) -> list[bool]:
    lengths = [pc.binary_length(_cast(batch.column(name), pa.large_binary())) for name in documents]
    return [
        all(size is None for size in sizes) or sum(size or 0 for size in sizes) > cap
        for sizes in zip(*(length.to_pylist() for length in lengths), strict=True)
    ]


def read(
    root: str,
    part: Slice,
    config: Input,
    schema: pa.Schema,
    report: Report,
    *,
    batch_rows: int,
    batch_bytes: int,
    max_document_bytes: int,
) -> Iterator[pa.RecordBatch]:
    """Rows of a range of row groups."""
    path = join(root, part.path)
    with contextlib.ExitStack() as stack:
        try:
            parquet = stack.enter_context(_open(path))
        except _UNREADABLE as error:
            _only_damage(error)
            if part.stop:
                raise _changed(path) from error
            _quarantine(report, part, row_ids(part.path, 0, 1)[0], 0, "unreadable_file", str(error))
            return
        if not 0 < part.stop <= parquet.metadata.num_row_groups:
            raise _changed(path)
        in_file, shared = parquet.schema_arrow.names, hive.constants(parquet.schema_arrow)
        names = hive.whole_schema(parquet.schema_arrow).names
        to_ours = _Rows(path, part, names, config, schema, report, max_document_bytes)
        theirs = [name for name in to_ours.theirs if name in in_file]
        ordinal = part.ordinal
        for group in range(part.start, part.stop):
            size = parquet.metadata.row_group(group)
            at_once = batch_bytes * size.num_rows // max(1, size.total_byte_size)
            for raw in _group(
                parquet, group, max(1, min(batch_rows, at_once)), theirs, part, report, ordinal
            ):
                yield from cut(to_ours(hive.widen(raw, shared), ordinal), batch_rows, batch_bytes)
                ordinal += raw.num_rows
            ordinal = part.ordinal + sum(
                parquet.metadata.row_group(g).num_rows for g in range(part.start, group + 1)
            )


def _changed(path: str) -> DataError:
    return DataError(
        f"`{path}` is not what it was when the run was planned", hint="restore it, or plan anew with --fresh"
    )


def _quarantine(
    report: Report, part: Slice, id: str, offset: int, reason: str, error: str, raw: bytes = b""
) -> None:
    report.quarantine(
        id=id, source=part.path, offset=offset, reason=reason, error=error, raw=raw[:RAW_CAP_BYTES]
    )


def _group(
    parquet: Any, group: int, at_once: int, names: list[str], part: Slice, report: Report, ordinal: int
) -> Iterator[pa.RecordBatch]:
    # Around a page that cannot be decoded it goes on row by row, so what is lost does not depend on `at_once`.
    rows, done, error = parquet.metadata.row_group(group).num_rows, 0, "the row group ends early"
    for step in (at_once, 64, 1):
        seen = 0
        try:
            for batch in parquet.iter_batches(step, row_groups=[group], columns=names, use_threads=False):
                new = batch.slice(max(0, done - seen))
                seen += batch.num_rows
                if new.num_rows:
                    done += new.num_rows
                    yield new
            break
        except _UNREADABLE as failure:
            _only_damage(failure)
            error = str(failure)
    for lost, id in enumerate(row_ids(part.path, ordinal + done, rows - done), ordinal + done):
        _quarantine(report, part, id, lost, "corrupt_row_group", error)


def _cast(array: pa.Array, type_: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return array if array.type == type_ else array.cast(type_)


class _Rows:
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
        reserved = list(_reserved(batch, url, html, self._opt_out))
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
            _quarantine(self._report, self._part, id_, ordinal + row, reason, error, text or b"")
        return batch.filter(pa.array(keep))

    def _column(self, raw: pa.RecordBatch, field: pa.Field, ordinal: int) -> pa.Array:
        theirs = self._mapping.get(field.name)
        if theirs:
            return _cast(raw.column(theirs), field.type)
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
