"""What every stage that edits `text` leaves on the row: the new text, how much went, the old text if it is wanted."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc


def writes(name: str, *, keep_original: bool) -> dict[str, pa.DataType]:
    """Columns of an edit by stage `name`."""
    columns = {"text": pa.large_string(), f"{name}_removed_chars": pa.int32()}
    return columns | ({f"{name}_original": pa.large_string()} if keep_original else {})


def emptied(texts: pa.Array, rows: npt.NDArray[np.bool_]) -> pa.Array:
    """The texts with '' in these rows, which a kernel leaves alone."""
    return pc.if_else(pa.array(rows), pa.scalar("", texts.type), texts) if rows.any() else texts


def text_array(
    data: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    old: pa.Array,
    left: npt.NDArray[np.bool_] | None = None,
) -> pa.Array:
    """The rows of (data, offsets) as large_string; null where `old` is, and the old text in the rows `left`."""
    made = pa.Array.from_buffers(
        pa.large_string(), len(old), [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(data))]
    )
    if left is not None and left.any():
        made = pc.if_else(pa.array(left), old.cast(pa.large_string()), made)
    if not old.null_count:
        return made
    return pc.if_else(old.is_null(), pa.scalar(None, pa.large_string()), made)


def edit(
    batch: pa.RecordBatch,
    name: str,
    new: pa.Array,
    counts: Mapping[str, npt.NDArray[np.int64]],
    *,
    keep_original: bool,
) -> pa.RecordBatch:
    """Put the new text in place and append what stage `name` says of the edit; `counts` are null where the text is."""
    old = batch["text"].cast(pa.large_string())
    batch = batch.set_column(batch.schema.get_field_index("text"), "text", new)
    removed = pc.subtract(pc.utf8_length(old), pc.utf8_length(new)).cast(pa.int32())
    batch = batch.append_column(f"{name}_removed_chars", removed)
    if keep_original:
        batch = batch.append_column(f"{name}_original", old)
    nulls = old.is_null().to_numpy(zero_copy_only=False)
    for count, values in counts.items():
        batch = batch.append_column(f"{name}_{count}", pa.array(values, pa.int32(), mask=nulls))
    return batch
