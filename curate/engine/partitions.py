"""Kept rows of a unit under `lang=en/bucket=3/`, one part for each value that the unit holds.

Rows wait, sorted by partition, in memory and above a budget on disk until the unit ends; then the parts are written
one after the other. So one file is open at a time whatever the number of partitions, memory is flat, and the rows of a
part come in the order of the input whatever the batches.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from curate.engine.journal import Written
from curate.errors import ConfigError
from curate.io import hive

MAX_PARTITIONS = 1000  # of one unit

Key = tuple[Any, ...]


class Writer(Protocol):
    """A part being written."""

    def write(self, batch: pa.RecordBatch) -> None: ...

    def close(self) -> Written | None: ...

    def abandon(self) -> None: ...


OpenPart = Callable[[int, Mapping[str, Any], Mapping[str, pa.DataType]], Writer]


class Partitions:
    """Takes the kept rows of a unit; `open_part(number, values, types)` gives the writer of a partition.

    `memory`: bytes of rows that wait at once.
    """

    def __init__(
        self,
        by: Sequence[str],
        unit: str,
        scratch: Path | None,
        keep_columns: bool,
        open_part: OpenPart,
        memory: int,
    ) -> None:
        self._by, self._unit, self._place, self._keep_columns = by, unit, scratch, keep_columns
        self._open_part, self._memory = open_part, memory
        self._held: list[pa.RecordBatch] = []
        self._held_bytes = 0
        self._pieces: dict[Key, list[Callable[[], pa.RecordBatch]]] = {}
        self._types: dict[str, pa.DataType] = {}
        self._stack = contextlib.ExitStack()
        self._scratch = ""
        self._spills = 0
        self._current: Writer | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows."""
        self._held.append(batch)
        self._held_bytes += batch.nbytes
        if self._held_bytes >= self._memory:
            self._spill()

    def _spill(self) -> None:
        if not self._scratch:
            if self._place:
                self._place.mkdir(parents=True, exist_ok=True)
            folder = TemporaryDirectory(prefix="partitions-", dir=self._place)
            self._scratch = self._stack.enter_context(folder)
        path = f"{self._scratch}/{self._spills:05d}"
        self._spills += 1
        batches = []
        with contextlib.ExitStack() as closing:
            writer: Any = None
            for key, batch in self._sorted():
                if writer is None:
                    writer = closing.enter_context(pa.ipc.new_file(path, batch.schema))
                writer.write_batch(batch)
                batches.append(key)
        reader = pa.ipc.open_file(self._stack.enter_context(pa.OSFile(path)))
        for number, key in enumerate(batches):
            self._pieces.setdefault(key, []).append(partial(reader.get_batch, number))
        self._check_count()

    def _sorted(self) -> Iterator[tuple[Key, pa.RecordBatch]]:
        """What is held, by partition; within one in the order it came."""
        table = pa.Table.from_batches(self._held).combine_chunks()
        self._held, self._held_bytes = [], 0
        self._types = {name: table.schema.field(name).type for name in self._by}
        codes = np.zeros(table.num_rows, np.int64)
        for name in self._by:
            column = table[name].combine_chunks().dictionary_encode(null_encoding="encode")
            if isinstance(column, pa.ChunkedArray):
                column = column.combine_chunks()
            _, codes = np.unique(
                codes * len(column.dictionary) + column.indices.to_numpy(zero_copy_only=False),
                return_inverse=True,
            )  # dense again, so that the product of many columns cannot overflow
        order = np.argsort(codes, kind="stable")
        starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
        rows = table if self._keep_columns else table.drop_columns(list(self._by))
        for start, end in zip(starts, [*starts[1:], len(order)], strict=True):
            first = int(order[start])
            key = tuple(table[name][first].as_py() for name in self._by)
            piece = rows.take(pa.array(order[start:end])).combine_chunks()
            yield key, piece.to_batches()[0]

    def _check_count(self) -> None:
        if len(self._pieces) > MAX_PARTITIONS:
            counts = {name: len({key[i] for key in self._pieces}) for i, name in enumerate(self._by)}
            worst = max(counts, key=lambda name: counts[name])
            raise ConfigError(
                f"`output.partition_by`: unit {self._unit} holds {len(self._pieces):,} partitions so far, "
                f"{counts[worst]:,} values of `{worst}`; at most {MAX_PARTITIONS:,} are written",
                hint="partition by a column with few values: each one makes a file in every unit",
            )

    def close(self) -> list[Written]:
        """Write all parts and make them durable."""
        if self._held:
            for key, batch in self._sorted():
                self._pieces.setdefault(key, []).append(partial(_itself, batch))
            self._check_count()
        found = []
        folders = {hive.folder_of(dict(zip(self._by, key, strict=True))): key for key in self._pieces}
        for number, folder in enumerate(sorted(folders)):
            key = folders[folder]
            self._current = self._open_part(number, dict(zip(self._by, key, strict=True)), self._types)
            for piece in self._pieces.pop(key):
                self._current.write(piece())
            found.append(self._current.close())
        self._stack.close()
        return [written for written in found if written]

    def abandon(self) -> None:
        """Remove what waits; parts that are whole already are garbage that a resume removes."""
        if self._current:
            self._current.abandon()
        self._stack.close()


def _itself(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch
