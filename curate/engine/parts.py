"""The data files one unit writes: kept rows, dropped rows per step, quarantined rows.

Bytes must not depend on how rows arrive: row groups are cut by fixed row and byte counts, and each slice is combined
before the write (measured: without that pyarrow's bytes follow the batch size).
"""

import io
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.engine.journal import TMP, Written, fault
from curate.engine.partitions import Partitions
from curate.io import hive
from curate.io.files import Folder, HashingFile
from curate.recipe.recipe import Output
from curate.schema import BULKY, QUARANTINE, row_bytes

ROW_GROUP_ROWS = 10_000
ROW_GROUP_BYTES = 32 << 20
FINAL_LEVEL, INTERMEDIATE_LEVEL = 3, 1
QUARANTINE_ROWS = 1000  # held before they are written
JSONL = ".jsonl.zst"
ARROW = ".arrow"
_ENDINGS = {"parquet": ".parquet", "jsonl.zst": JSONL, "arrow": ARROW}


class RowSink(Protocol):
    """Writes tables to an open file."""

    def write(self, table: pa.Table) -> None:
        """Write one row group."""

    def close(self) -> None:
        """Write what ends the file."""


class ParquetSink:
    def __init__(self, file: HashingFile, schema: pa.Schema, level: int) -> None:
        slim = [f.name for f in schema if f.name not in BULKY and f.name != "id"]
        self._writer = pq.ParquetWriter(
            file, schema, compression="zstd", compression_level=level, use_dictionary=slim,
            write_statistics=[*slim, "id"] if "id" in schema.names else slim,
        )  # fmt: skip

    def write(self, table: pa.Table) -> None:
        self._writer.write_table(table, row_group_size=table.num_rows)

    def close(self) -> None:
        self._writer.close()


class JsonlSink:
    def __init__(self, file: HashingFile, schema: pa.Schema, level: int) -> None:
        import zstandard

        compressor = zstandard.ZstdCompressor(level=level).stream_writer(cast(Any, file), closefd=False)
        self._stream = io.BufferedWriter(cast(Any, compressor), 1 << 20)

    def write(self, table: pa.Table) -> None:
        for row in table.to_pylist():
            self._stream.write(msgspec.json.encode(row, enc_hook=_text_of) + b"\n")

    def close(self) -> None:
        self._stream.close()


class ArrowSink:
    """Uncompressed record batches, which readers map into memory."""

    def __init__(self, file: HashingFile, schema: pa.Schema, level: int) -> None:
        self._writer = pa.ipc.new_file(file, schema)

    def write(self, table: pa.Table) -> None:
        # taken, not sliced: what stands under nulls and behind the last bit depends on how the rows arrived
        fresh = table.take(pa.array(np.arange(table.num_rows))).combine_chunks()
        for batch in fresh.to_batches():
            self._writer.write_batch(batch)

    def close(self) -> None:
        self._writer.close()


_SINKS: Mapping[str, Any] = {".parquet": ParquetSink, ".zst": JsonlSink, ARROW: ArrowSink}


def _text_of(value: object) -> str:
    return str(value)


class PartWriter:
    """One file: buffers rows and hands them on in row groups of a fixed cut. Nothing exists until the first row."""

    def __init__(
        self, folder: Folder, tmp: str, name: str, level: int, metadata: Mapping[bytes, bytes] | None = None
    ) -> None:
        self.rows = 0
        self._folder, self._tmp, self._name, self._level = folder, tmp, name, level
        self._metadata = metadata
        self._file: HashingFile | None = None
        self._sink: RowSink | None = None
        self._batches: list[pa.RecordBatch] = []
        self._held_rows = 0
        self._held_bytes = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows."""
        self.rows += batch.num_rows
        sizes = row_bytes(batch) + 1
        start = 0
        while start < batch.num_rows:
            # The row group ends with the row that reaches either limit, wherever the batch boundaries are.
            room_rows = ROW_GROUP_ROWS - self._held_rows
            ends = np.cumsum(sizes[start : start + room_rows])
            take = min(
                int(np.searchsorted(ends, ROW_GROUP_BYTES - self._held_bytes)) + 1, room_rows, len(ends)
            )
            self._batches.append(batch.slice(start, take))
            self._held_rows += take
            self._held_bytes += int(ends[take - 1])
            start += take
            if self._held_rows >= ROW_GROUP_ROWS or self._held_bytes >= ROW_GROUP_BYTES:
                self._flush()

    def _flush(self) -> None:
        if not self._batches:
            return
        table = pa.Table.from_batches(self._batches).combine_chunks()
        if self._sink is None:
            self._file = self._folder.create(self._tmp)
            sink = _SINKS[Path(self._name).suffix]
            self._sink = sink(self._file, table.schema.with_metadata(self._metadata or None), self._level)
        fault("write")
        self._sink.write(table)
        self._batches, self._held_rows, self._held_bytes = [], 0, 0

    def close(self) -> Written | None:
        """Make the file durable; None where there was no row."""
        self._flush()
        if self._sink is None or self._file is None:
            return None
        self._sink.close()
        fault("flush")
        self._file.close()
        return Written(
            tmp=self._tmp, name=self._name, sha256=self._file.sha256, bytes=self._file.bytes, rows=self.rows
        )

    def abandon(self) -> None:
        if self._file is not None:
            self._file.abandon()
            self._folder.remove(self._tmp)


class UnitFiles:
    """All files of one unit under one attempt. `output` is the recipe's where they go there, None in the work store.

    `columns` are those that are kept, all unless some are named; `says` goes into the metadata of the kept parts; of
    partitions `memory` bytes of rows wait at once.
    """

    def __init__(
        self, folder: Folder, pass_index: int, unit: str, output: Output | None, columns: Sequence[str] = (),
        says: Mapping[bytes, bytes] | None = None, memory: int = 64 << 20,
    ) -> None:  # fmt: skip
        self.attempt = uuid.uuid4().hex[:12]
        self._folder, self._pass, self._unit = folder, pass_index, unit
        self._level = FINAL_LEVEL if output else INTERMEDIATE_LEVEL
        self._columns, self._says = list(columns), dict(says or {})
        self._ending = _ENDINGS[output.format] if output else ".parquet"
        self._kept: PartWriter | Partitions = (
            self._partitions(output, memory)
            if output and output.partition_by
            else self._writer("", f"part-{unit}{self._ending}", self._says)
        )
        self._dropped: dict[str, PartWriter] = {}
        self._quarantined: dict[str, list[Mapping[str, Any]]] = {}

    def _partitions(self, output: Output, memory: int) -> Partitions:
        # A kill leaves the scratch folder where a resume cleans up.
        scratch = self._folder.local / TMP if self._folder.local else None
        whole = self._ending != ".parquet"
        return Partitions(output.partition_by, self._unit, scratch, whole, self._open_part, memory)

    def _writer(self, tag: str, name: str, metadata: Mapping[bytes, bytes] | None = None) -> PartWriter:
        # dropped rows are looked at, not trained on: half of the time for an eighth more bytes
        level = INTERMEDIATE_LEVEL if name.startswith("_") else self._level
        return PartWriter(self._folder, f"{TMP}/{self._unit}-{self.attempt}{tag}", name, level, metadata)

    def _open_part(
        self, number: int, values: Mapping[str, Any], types: Mapping[str, pa.DataType]
    ) -> PartWriter:
        name = f"{hive.folder_of(values)}/part-{self._unit}{self._ending}"
        return self._writer(f"-{number:04d}", name, hive.metadata_of(values, types) | self._says)

    def keep(self, batch: pa.RecordBatch) -> None:
        if batch.num_rows:
            self._kept.write(batch.select(self._columns) if self._columns else batch)

    def drop(self, step: str, batch: pa.RecordBatch) -> None:
        """`step` is the folder name, NN_stage."""
        if step not in self._dropped:
            self._dropped[step] = self._writer(f"-{step}", f"_dropped/{step}/part-{self._unit}.parquet")
        self._dropped[step].write(batch)

    def quarantine(self, row: Mapping[str, Any]) -> None:
        # A file for each stage and reason: among them rows come in an order that follows the batches.
        kind = f"{row['stage']}-{row['reason']}"
        held = self._quarantined.setdefault(kind, [])
        held.append(row)
        if len(held) >= QUARANTINE_ROWS:
            self._write_quarantined(kind)

    def _write_quarantined(self, kind: str) -> None:
        if (writer := f"_quarantine-{kind}") not in self._dropped:
            name = f"_quarantine/part-{self._pass:02d}-{self._unit}-{kind}.parquet"
            self._dropped[writer] = self._writer(f"-quarantine-{kind}", name)
        self._dropped[writer].write(pa.RecordBatch.from_pylist(self._quarantined.pop(kind), QUARANTINE))

    def finish(self) -> list[Written]:
        """Make all files durable and list them."""
        for kind in list(self._quarantined):
            self._write_quarantined(kind)
        closed = self._kept.close()
        kept = closed if isinstance(closed, list) else [closed]
        return [w for w in (*kept, *(d.close() for d in self._dropped.values())) if w]

    def abandon(self) -> None:
        """Remove what was written so far."""
        for writer in (self._kept, *self._dropped.values()):
            writer.abandon()
