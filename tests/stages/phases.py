"""The phases of a global stage over tables in memory, as the engine runs them over files."""

import numpy as np
import pyarrow as pa

from curate.engine import shuffle
from curate.stage import Task

UNIT_ROWS = 100_000  # orders of a unit
SHAPE = pa.schema({
    "id": pa.string(), "text": pa.large_string(), "url": pa.string(), "date": pa.string(), "order": pa.uint64(),
})  # fmt: skip


class Unit:
    """Rows of one unit and the records for it."""

    def __init__(self, batches=(), records=()):
        self._batches, self._records = batches, records

    def batches(self):
        return iter(self._batches)

    def merged(self):
        return iter(self._records)


class Sink:
    """Collects what a phase writes."""

    def __init__(self, scratch):
        self.scratch, self.memory = scratch, 1 << 28
        self.tables, self.kept, self.dropped = [], [], []

    def write(self, table):
        self.tables.append(table)

    def keep(self, batch):
        self.kept += batch.to_pylist()

    def drop(self, batch, reasons):
        for i, row in enumerate(batch.to_pylist()):
            self.dropped.append(row | {name: values[i].as_py() for name, values in reasons.items()})


def dedup(stage, units, config, scratch, chunk=3):
    """Run all phases over units of rows (dicts, or texts); returns kept and dropped rows.

    `chunk`: records of a merged table; batches have two rows; key ranges are two.
    """
    batches = []
    for number, unit in enumerate(units):
        rows = [
            row if isinstance(row, dict) else {"id": f"{number}-{i}", "text": row}
            for i, row in enumerate(unit)
        ]
        rows = [row | {"order": number * UNIT_ROWS + i} for i, row in enumerate(rows)]
        batches.append([pa.RecordBatch.from_pylist(rows[i : i + 2], SHAPE) for i in range(0, len(rows), 2)])
    bounds = [(number * UNIT_ROWS, (number + 1) * UNIT_ROWS - 1) for number in range(len(batches))]
    tables, key, counts = [], (), []
    for phase in stage.phases:
        sink = Sink(scratch)
        if phase.over == "units":
            tasks = list(zip(batches, bounds, strict=True))
        else:
            tasks = [((), (0, shuffle.U64_MAX // 2)), ((), (shuffle.U64_MAX // 2 + 1, shuffle.U64_MAX))]
        for number, (rows, (low, high)) in enumerate(tasks):
            unit = Unit(rows, records(tables, key, low, high, chunk))
            counts.append(phase.run(Task(number, low, high), unit, sink, config))
        tables, key = sink.tables, phase.key
    return sink.kept, sink.dropped, counts


def records(tables, key, low, high, chunk):
    """Tables of `chunk` records inside [low, high], in key order."""
    tables = [table for table in tables if table.num_rows]
    if not tables:
        return []
    table = shuffle.sort(pa.concat_tables(tables), key)
    first = table[key[0]].to_numpy()
    table = table.filter((first >= np.uint64(low)) & (first <= np.uint64(high)))
    return [table.slice(i, chunk) for i in range(0, table.num_rows, chunk)]
