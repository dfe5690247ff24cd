"""Parts as DuckDB reads them: one row group at a time, only the columns and rows of a query, as often as it asks.

A scanner of pyarrow goes on reading until 1 GiB waits for its reader, and of a text that is soon there. DuckDB calls
`scanner` of whatever dataset it is given.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.dataset as ds

BATCH_ROWS = 2048  # what DuckDB works on at once


class Parts(ds.FileSystemDataset):  # type: ignore[misc]
    """A dataset whose scans hold one row group."""

    def scanner(self, columns: list[str] | None = None, filter: Any = None, **_: Any) -> "Scan":
        """What DuckDB asks for."""
        return Scan(self, columns, filter)


class Scan(NamedTuple):
    """The rows of a dataset that meet `filter`."""

    parts: Parts
    columns: list[str] | None  # None: all
    filter: Any

    def to_reader(self) -> pa.RecordBatchReader:
        """The rows, once."""
        whole = self.parts.schema
        names = whole.names if self.columns is None else self.columns
        return pa.RecordBatchReader.from_batches(pa.schema([whole.field(n) for n in names]), self._batches())

    def _batches(self) -> Iterator[pa.RecordBatch]:
        for part in self.parts.get_fragments(filter=self.filter):
            for group in part.split_by_row_group(filter=self.filter, schema=self.parts.schema):
                scanner = group.scanner(
                    schema=self.parts.schema, columns=self.columns, filter=self.filter, batch_size=BATCH_ROWS,
                    batch_readahead=1, fragment_readahead=1, use_threads=False,
                )  # fmt: skip
                yield from scanner.to_reader()
