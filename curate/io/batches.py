"""Rows to record batches of a fixed schema, cut by count and by bytes."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from curate.io.slices import Row
from curate.schema import raw_columns, row_bytes


class Batcher:
    """Collects rows of any number of small slices; `flush` gives the batch that is due."""

    def __init__(self, schema: pa.Schema, batch_rows: int, batch_bytes: int) -> None:
        self.schema, self._max_rows, self._max_bytes = schema, batch_rows, batch_bytes
        self._rows: list[Row] = []
        self._bytes = 0

    def add(self, size: int, row: Row) -> Iterator[pa.RecordBatch]:
        """Take one row of `size` bytes; yields the batch that it did not fit into."""
        if self._rows and (len(self._rows) >= self._max_rows or self._bytes + size > self._max_bytes):
            yield from self.flush()
        self._rows.append(row)
        self._bytes += size

    def flush(self) -> Iterator[pa.RecordBatch]:
        """What is left, if anything."""
        if self._rows:
            rows, self._rows, self._bytes = self._rows, [], 0
            arrays = [pa.array([row.get(field.name) for row in rows], field.type) for field in self.schema]
            yield pa.RecordBatch.from_arrays(arrays, schema=self.schema)


def document_bytes(batch: pa.RecordBatch) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Bytes of text, html and pdf of each row."""
    import pyarrow.compute as pc

    total = np.zeros(batch.num_rows, np.int64)
    for name in ("text", *raw_columns(batch.schema)):
        if name in batch.schema.names:
            lengths = pc.fill_null(pc.binary_length(batch[name]), 0)
            total += lengths.to_numpy(zero_copy_only=False)
    return total


def cut(batch: pa.RecordBatch, batch_rows: int, batch_bytes: int) -> Iterator[pa.RecordBatch]:
    """Slices of at most `batch_rows` rows and `batch_bytes`, by `row_bytes` (one row at least)."""
    sizes = row_bytes(batch)
    if batch.num_rows <= batch_rows and sizes.sum() <= batch_bytes:
        if batch.num_rows:
            yield batch
        return
    ends = np.cumsum(sizes)
    start = 0
    while start < batch.num_rows:
        used = ends[start - 1] if start else 0
        stop = int(np.searchsorted(ends, used + batch_bytes, "right"))
        stop = min(max(stop, start + 1), start + batch_rows)
        yield batch.slice(start, stop - start)
        start = stop
