"""Columns every room agrees on, and the few ways in and out of Arrow buffers.

A row has `id` (string) and `text` (large_string); `url, source, date, lang, license` when known (DESIGN 2).
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

CORE: dict[str, pa.DataType] = {
    "id": pa.string(),
    "text": pa.large_string(),
    "url": pa.string(),
    "source": pa.string(),
    "date": pa.string(),
    "lang": pa.string(),
    "license": pa.string(),
}

# What a dropped row carries beside its own columns.
DROP: dict[str, pa.DataType] = {
    "drop_stage": pa.string(),
    "drop_reason": pa.string(),
    "drop_value": pa.float64(),
    "drop_threshold": pa.float64(),
    "kept_id": pa.string(),
}

QUARANTINE = pa.schema(
    {
        "id": pa.string(),
        "source": pa.string(),  # file, relative to the input root
        "offset": pa.int64(),  # ordinal or byte offset in that file
        "stage": pa.string(),  # who could not read it
        "reason": pa.string(),  # one word: bad_json, too_long, deadline, ...
        "error": pa.string(),
        "raw": pa.binary(),  # first bytes of the row, capped
    }
)
RAW_CAP_BYTES = 4096
BULKY = ("text", "html", "pdf")  # columns whose dictionary and statistics cost more than they give
_BYTES = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
_SMALL_BYTES = 4096  # of a URL or a title: rows are counted for those


def raw_columns(schema: pa.Schema) -> list[str]:
    """Columns that hold documents as raw bytes, until a stage turns them into `text`."""
    names = ["html"] if "html" in schema.names else []
    if "pdf" in schema.names:
        type_ = schema.field("pdf").type  # a column of addresses may be called so
        names += ["pdf"] * (pa.types.is_binary(type_) or pa.types.is_large_binary(type_))
    return names


def verdict(name: str) -> dict[str, pa.DataType]:
    """Columns of a rule stage: pass, and the first failing rule with its value and threshold."""
    return {
        f"{name}_pass": pa.bool_(),
        f"{name}_reason": pa.string(),
        f"{name}_value": pa.float64(),
        f"{name}_threshold": pa.float64(),
    }


def text_buffers(column: pa.Array) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """View a string or binary column of n rows without copying its bytes.

    Returns (data, offsets): uint8 (bytes,), int64 (n+1,). Row i is data[offsets[i]:offsets[i+1]].
    Nulls read as empty; ask `column.is_null()` for them.
    """
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_string(column.type) or pa.types.is_binary(column.type):
        width: npt.DTypeLike = np.int32
    elif pa.types.is_large_string(column.type) or pa.types.is_large_binary(column.type):
        width = np.int64
    else:
        raise TypeError(f"not a string or binary column: {column.type}")
    if len(column) == 0:
        return np.zeros(0, np.uint8), np.zeros(1, np.int64)
    if column.null_count:  # Arrow may keep bytes under a null
        empty = "" if pa.types.is_string(column.type) or pa.types.is_large_string(column.type) else b""
        column = column.fill_null(pa.scalar(empty, column.type))
    _, offset_buffer, data_buffer = column.buffers()
    offsets = np.frombuffer(offset_buffer, width, len(column) + 1, column.offset * np.dtype(width).itemsize)
    data = np.zeros(0, np.uint8) if data_buffer is None else np.frombuffer(data_buffer, np.uint8)
    return data, offsets.astype(np.int64, copy=False)


def row_bytes(batch: pa.RecordBatch) -> npt.NDArray[np.int64]:
    """Bytes (n,) of each row's text, html, pdf and tokens, and of values above 4 KiB in columns that nobody named."""
    import pyarrow.compute as pc

    total = np.zeros(batch.num_rows, np.int64)
    for field, column in zip(batch.schema, batch.columns, strict=True):
        if any(is_kind(field.type) for is_kind in _BYTES):
            size = np.diff(text_buffers(column)[1])
            total += size if field.name in BULKY else np.where(size > _SMALL_BYTES, size, 0)
        elif field.name == "tokens" and pa.types.is_large_list(field.type):
            count = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
            total += count * field.type.value_type.bit_width // 8
    return total


def row_id(path: str, ordinal: int) -> str:
    """Id of a row that brings none: hex of xxh3-128(path relative to the input root, ordinal in the file)."""
    return xxhash.xxh3_128_hexdigest(f"{path}\0{ordinal}".encode("utf-8", "surrogateescape"))


def id_sum(ids: Iterable[str | None]) -> int:
    """Sum modulo 2^64 of a 64-bit hash of each id: equal sums mean that no id was swapped for another."""
    digest = xxhash.xxh3_64_intdigest
    return sum(digest(i or "") for i in ids) & 0xFFFFFFFFFFFFFFFF
