"""Arrow in: IPC files and streams, such as parts of `output.format: arrow` and what `datasets` saves.

Rows     those of Parquet (`columnar`), with the same reasons for a quarantine. From a batch that cannot be read on, the
         rest of a file is one row, unreadable_file: how many rows it had is not known
Slices   are ranges of record batches; a batch is held in memory whole
"""

import contextlib
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pyarrow as pa

from curate.io import hive
from curate.io.batches import cut
from curate.io.columnar import (
    Rows,
    bad_documents,
    cast,
    columns_of,
    file_columns,
    good_ids,
    quarantine,
    refused_rows,
)
from curate.io.files import is_remote
from curate.io.opt_out import opt_out
from curate.io.slices import FileScan, Input, InputFile, Report, Slice, TakeIds, row_ids
from curate.io.sources import DigestingFile, join, open_source
from curate.schema import raw_columns

_MAGIC = b"ARROW1"
_UNREADABLE = (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError)


def arrow_batches(file: Any, rows: int) -> Iterator[pa.RecordBatch]:
    """Rows of an open file in order, at most so many at a time."""
    part = pa.ipc.open_file(file)
    for i in range(part.num_record_batches):
        batch = part.get_batch(i)
        yield from (batch.slice(start, rows) for start in range(0, batch.num_rows, rows))


@contextlib.contextmanager
def _opened(path: str) -> Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
    """(schema, batches) of a file or a stream. Not mapped: mapped pages count as memory of a worker."""
    with contextlib.ExitStack() as stack:
        source: Any = stack.enter_context(
            pa.PythonFile(stack.enter_context(open_source(path)), "r") if is_remote(path) else pa.OSFile(path)
        )
        is_file = source.read(len(_MAGIC)) == _MAGIC
        source.seek(0)
        if is_file:
            whole = stack.enter_context(pa.ipc.open_file(source))
            yield whole.schema, (whole.get_batch(i) for i in range(whole.num_record_batches))
        else:
            stream = stack.enter_context(pa.ipc.open_stream(source))
            yield stream.schema, iter(stream)


def _only_damage(error: Exception) -> None:
    # a disk or network that gives up has an errno: that stops the run and never costs a row
    if getattr(error, "errno", None) is not None:
        raise error


def columns(file: InputFile, config: Input) -> dict[str, pa.DataType] | None:
    """Columns of the file as rows of ours; None when it cannot be read."""
    try:
        with _opened(file.path) as (schema, _):
            return columns_of(file, schema, config)
    except _UNREADABLE as error:
        _only_damage(error)
        return None


def scan(
    file: InputFile, config: Input, unit_bytes: int, on_ids: TakeIds | None, *, max_document_bytes: int
) -> FileScan:
    """Digest of the content; record batches packed into slices of about `unit_bytes`."""
    with DigestingFile(open_source(file.path)) as source:
        digest = source.hexdigest()
    slices: list[Slice] = []
    start = stop = first = ordinal = size = 0

    def close() -> None:
        if stop > start:
            slices.append(Slice(file.name, "arrow", start, stop, first, size, own_ids=file.own_ids))

    try:
        with _opened(file.path) as (schema, batches):
            look = _Ids(file, schema, config, max_document_bytes, on_ids) if on_ids else None
            for batch in batches:
                if stop > start and size + batch.nbytes > unit_bytes:
                    close()
                    start, first, size = stop, ordinal, 0
                if look:
                    look.take(batch, ordinal)
                stop, ordinal, size = stop + 1, ordinal + batch.num_rows, size + batch.nbytes
        close()
    except _UNREADABLE as error:
        _only_damage(error)
        close()
        slices.append(Slice(file.name, "arrow", stop, 0, ordinal, 0, own_ids=file.own_ids))
        return FileScan(digest, slices, None)
    return FileScan(digest, slices, ordinal)


class _Ids:
    """Reports the ids of rows that will not be quarantined."""

    def __init__(self, file: InputFile, schema: pa.Schema, config: Input, cap: int, on_ids: TakeIds) -> None:
        self._column = config.id_column or ("id" if file.own_ids else None)
        self._shared, self._cap, self._on_ids = hive.constants(schema), cap, on_ids
        self._refused, self._mapping = opt_out(config), {}
        if self._column:
            self._mapping = file_columns(file.path, hive.whole_schema(schema).names, config, file.own_ids)
        names = [self._mapping.get(name) for name in ("text", "html")]
        if raw_columns(pa.schema([field for field in schema if field.name == self._mapping.get("pdf")])):
            names.append(self._mapping["pdf"])
        self._documents = [name for name in names if name]

    def take(self, batch: pa.RecordBatch, ordinal: int) -> None:
        if not self._column:
            return
        batch = hive.widen(batch, self._shared)
        bad = [i for i, is_bad in enumerate(bad_documents(batch, self._documents, self._cap)) if is_bad]
        url, html = self._mapping.get("url"), self._mapping.get("html")
        bad += refused_rows(batch, url, html, self._refused)
        self._on_ids(*good_ids(cast(batch.column(self._column), pa.string()), bad, ordinal))


def read(
    root: str, part: Slice, config: Input, schema: pa.Schema, report: Report, *, batch_rows: int, batch_bytes: int,
    max_document_bytes: int,
) -> Iterator[pa.RecordBatch]:  # fmt: skip
    """Rows of a range of record batches."""
    path, ordinal = join(root, part.path), part.ordinal
    try:
        with _opened(path) as (found, batches):
            names = hive.whole_schema(found).names
            to_ours = Rows(path, part, names, config, schema, report, max_document_bytes)
            shared, theirs = hive.constants(found), [name for name in to_ours.theirs if name in found.names]
            for raw in islice(batches, part.start, part.stop or None):
                at_once = max(1, min(batch_rows, batch_bytes * raw.num_rows // max(1, raw.nbytes)))
                for start in range(0, raw.num_rows, at_once):
                    piece = hive.widen(raw.slice(start, at_once).select(theirs), shared)
                    yield from cut(to_ours(piece, ordinal + start), batch_rows, batch_bytes)
                ordinal += raw.num_rows
    except _UNREADABLE as error:
        _only_damage(error)
        name = row_ids(part.path, ordinal, 1)[0]
        quarantine(report, part, name, ordinal, "unreadable_file", str(error))
