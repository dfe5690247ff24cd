"""Where rows come from: lists the input, fixes its schema, cuts its files into slices, reads them.

Everything here is a function of the input and the recipe alone: the same rows come in the same order whatever the size
of units and batches. What a row of each format looks like is written in warc, jsonl, parquet, arrow and documents.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
from msgspec.structs import replace

from curate.errors import ConfigError, DataError
from curate.io import arrow, documents, json_row, jsonl, parquet, side, unread, warc
from curate.io.batches import Batcher
from curate.io.fetched import fetch, pinned
from curate.io.listing import list_files
from curate.io.opt_out import opt_out
from curate.io.slices import (
    LINK_BYTES,
    LINK_END,
    FileScan,
    Input,
    InputFile,
    LinkEnd,
    Report,
    Row,
    Slice,
    TakeIds,
    named,
    near_names,
)
from curate.schema import CORE

__all__ = [
    "LINK_BYTES",
    "LINK_END",
    "FileScan",
    "Input",
    "InputFile",
    "LinkEnd",
    "Report",
    "Slice",
    "fetch",
    "input_schema",
    "list_files",
    "pinned",
    "read",
    "scan",
]


TYPED: Mapping[str, Any] = {"parquet": parquet, "arrow": arrow}  # formats whose files state their columns


def input_schema(root: str, files: Sequence[InputFile], config: Input) -> pa.Schema:
    """The columns of every row, fixed before the run: the union over the files.

    Parquet and Arrow files state theirs, JSON Lines by the keys of their first lines (keys first seen later stay in
    `extra`); one name with two types is a DataError.
    """
    found: dict[str, tuple[pa.DataType, str]] = {}
    readable = False
    for entry in sorted({file.entry for file in files}):
        here = [file for file in files if file.entry == entry]
        with named(config.place_of(entry)):
            readable |= _add_columns(found, here, config.of(entry))
    if not readable:
        raise DataError(
            f"none of the {len(files)} files can be read", hint="are they Parquet or Arrow?", where=root
        )
    _check_whole(found, files, config)
    types = {"text": CORE["text"]} | {name: type_ for name, (type_, _) in found.items()}
    first = [name for name in (*CORE, "source_id", *documents.RAW) if name in types]
    order = first + [name for name in found if name not in first and name != "extra"]
    corpus = pa.schema({name: types[name] for name in order + ["extra"] * ("extra" in types)})
    return side.joined_schema(corpus, [side.open_side(path) for path in config.sides])


def _add_columns(
    found: dict[str, tuple[pa.DataType, str]], files: Sequence[InputFile], config: Input
) -> bool:
    """Add the columns of files that are read alike, in the order in which they are first seen; False where none is."""
    if (config.columns or config.id) and not any(f.format in ("jsonl", *TYPED) for f in files):
        raise ConfigError(
            "`id` and `columns` name columns, and this input has none",
            hint="leave them out: only JSON Lines, Parquet and Arrow have columns of their own",
            where="input",
        )
    readable, seen = False, set[str]()
    keys = _peek([file for file in files if file.format == "jsonl"], config)
    for file in files:
        if file.format in unread.FORMATS:
            continue
        columns = _columns_of(file, keys, config)
        readable |= columns is not None
        seen |= (columns or {}).keys()
        for name, type_ in (columns or {}).items():
            before, where = found.get(name, (pa.null(), file.name))
            found[name] = _union(name, before, where, type_, file.name), file.name
    for ours, theirs in config.columns.items():
        if ours not in seen and any(file.format in TYPED for file in files):
            raise ConfigError(
                f"no file has a column `{theirs}`", hint=near_names(theirs, sorted(seen)), where="input"
            )
    return readable


def _columns_of(
    file: InputFile, keys: Mapping[str, Sequence[str]], config: Input
) -> dict[str, pa.DataType] | None:
    if file.format in TYPED:
        stated: dict[str, pa.DataType] | None = TYPED[file.format].columns(file, config)
        return stated
    if file.format == "jsonl":
        return jsonl.columns(keys[file.name], config, file.own_ids)
    return warc.columns(config.pdf) if file.format == "warc" else documents.columns(file.format)


def _check_whole(found: Mapping[str, object], files: Sequence[InputFile], config: Input) -> None:
    """Refuse what the input asks of columns that are not there."""
    if config.opt_out_files and "url" not in found:
        raise ConfigError(
            "`opt_out` goes by `url`, and no file of the input has one",
            hint="say which column it is: columns: {url: ...}",
            where="input",
        )
    if config.sides and any(file.format != "parquet" for file in files):
        raise ConfigError(
            "`with` joins side columns, and only Parquet has them", hint="leave it out", where="input"
        )


def _union(name: str, before: pa.DataType, where: str, type_: pa.DataType, file: str) -> pa.DataType:
    if before == type_ or pa.types.is_null(type_):
        return before
    if pa.types.is_null(before):
        return type_
    if {before, type_} == {pa.string(), pa.large_string()}:
        return pa.large_string()
    raise DataError(
        f"column `{name}` is {before} in `{where}` and {type_} in `{file}`",
        hint="read them in two runs, or rename the column in one of the files",
        where="input",
    )


def _peek(files: Sequence[InputFile], config: Input) -> dict[str, list[str]]:
    # keys of each file's first lines; a column that the recipe names must be there
    seen: dict[str, list[str]] = {}
    everything: dict[str, None] = {}
    for file in files:
        keys = jsonl.peek_keys(file)
        seen[file.name] = keys or []
        if keys is None:
            continue
        everything |= dict.fromkeys(keys)
        id_key = json_row.id_key(config, file.own_ids)
        if id_key and id_key not in keys:
            hint = near_names(id_key, keys)
            raise ConfigError(
                f"`{file.path}` has no key `{id_key}` in its first rows", hint=hint, where="input"
            )
        mapping = json_row.key_columns(config, file.own_ids)
        if not {"text", "html"} & {mapping.get(key) for key in keys}:
            text = next((theirs for theirs, ours in mapping.items() if ours == "text"), "text")
            raise ConfigError(
                f"`{file.path}` has no key `{text}` in its first rows",
                hint=f"say which one it is: columns: {{text: ...}}; {near_names(text, keys)}",
                where="input",
            )
    for name in config.columns.values():
        if everything and name not in everything and not any(file.format in TYPED for file in files):
            hint = near_names(name, everything)
            raise ConfigError(f"no file has a key `{name}` in its first rows", hint=hint, where="input")
    return seen


def scan(
    file: InputFile,
    config: Input,
    schema: pa.Schema,
    unit_bytes: int,
    on_ids: TakeIds | None,
    *,
    max_document_bytes: int = 64 << 20,
) -> FileScan:
    """One pass over a file: digest of its content, slices of about `unit_bytes`, rows where counting is free.

    `on_ids` gets ordinals and ids of the rows whose id the input brings, and not of what `read` will quarantine: of two
    rows with one id the first good one is kept, whatever the units. (Parquet: see there for what only reading shows.)
    """
    found = _scan(file, config.of(file.entry), schema, unit_bytes, on_ids, max_document_bytes)
    if file.entry < 0:
        return found
    return replace(found, slices=[replace(one, entry=file.entry) for one in found.slices])


def _scan(
    file: InputFile, config: Input, schema: pa.Schema, unit_bytes: int, on_ids: TakeIds | None, cap: int
) -> FileScan:  # fmt: skip
    if file.format in TYPED:
        found: FileScan = TYPED[file.format].scan(file, config, unit_bytes, on_ids, max_document_bytes=cap)
        return found
    if file.format == "jsonl":
        return jsonl.scan(file, config, schema, unit_bytes, on_ids, max_document_bytes=cap)
    if file.format == "warc":
        return warc.scan(
            file, unit_bytes, on_ids, max_document_bytes=cap, opt_out=opt_out(config), pdf=config.pdf
        )
    if file.format in unread.FORMATS:
        return unread.scan(file)
    return documents.scan(file)


def read(
    root: str,
    slices: Sequence[Slice],
    config: Input,
    schema: pa.Schema,
    report: Report,
    *,
    batch_rows: int = 4096,
    batch_bytes: int = 16 << 20,
    max_document_bytes: int = 64 << 20,
    first_link: int = 0,
) -> Iterator[pa.RecordBatch | LinkEnd]:
    """Rows of the slices, in order, as batches of exactly `schema`.

    A batch has at most `batch_rows` rows and `batch_bytes` of text, html and pdf (one row at least). After the last row
    of each link of a chain comes LINK_END; what was reported before it belongs to that link.
    """
    sides = [side.open_side(path) for path in config.sides]
    joined = {name for one in sides for name in one.columns.names}
    corpus = pa.schema([field for field in schema if field.name not in joined])
    pending = Batcher(schema, batch_rows, batch_bytes)
    for part in slices:
        reading = config.of(part.entry)
        if part.format in TYPED:
            yield from pending.flush()
            rows = TYPED[part.format].read(
                root, part, reading, corpus, report,
                batch_rows=batch_rows, batch_bytes=batch_bytes, max_document_bytes=max_document_bytes,
            )  # fmt: skip
            yield from side.join(rows, sides, part.path, part.ordinal, schema) if sides else rows
        elif part.format in unread.FORMATS:
            unread.read(part, report)
        else:
            for item in _rows(root, part, reading, schema, report, max_document_bytes, first_link):
                if isinstance(item, LinkEnd):
                    yield from pending.flush()
                    yield item
                else:
                    yield from pending.add(*item)
    yield from pending.flush()


def _rows(
    root: str, part: Slice, config: Input, schema: pa.Schema, report: Report, cap: int, first_link: int
) -> Iterator[tuple[int, Row] | LinkEnd]:
    if part.format == "jsonl":
        return jsonl.read(root, part, config, schema, report, max_document_bytes=cap, first_link=first_link)
    if part.format == "warc":
        return warc.read(
            root,
            part,
            report,
            max_document_bytes=cap,
            first_link=first_link,
            opt_out=opt_out(config),
            pdf=config.pdf,
        )
    return documents.read(root, part, report, max_document_bytes=cap, opt_out=opt_out(config))
