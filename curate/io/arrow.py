"""Parts that are uncompressed Arrow IPC files."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa


def arrow_batches(file: Any, rows: int) -> Iterator[pa.RecordBatch]:
    """Rows of an open file in order, at most so many at a time."""
    part = pa.ipc.open_file(file)
    for i in range(part.num_record_batches):
        batch = part.get_batch(i)
        yield from (batch.slice(start, rows) for start in range(0, batch.num_rows, rows))
