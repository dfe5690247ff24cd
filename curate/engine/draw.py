"""A random sample of the input's rows, and the ranges that can be said from it."""

import math
import time
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from curate.engine.flow import document_bytes
from curate.engine.plan import Plan
from curate.engine.unit import UnitReport
from curate.io import inputs
from curate.io.inputs import Slice

ROWS = 4000  # drawn in all
GROUPS = 24  # small files; the large one comes after them
GROUP_ROWS = 50
READ_BYTES = 256 << 20  # of the input, read to draw from
SAMPLE_BYTES = 64 << 20  # documents held
T = 2.069  # Student's t at .975 with GROUPS - 1 degrees of freedom

Floats = npt.NDArray[np.float64]


class Range(msgspec.Struct, frozen=True):
    """From the least to the most that is to be expected, and what is likely."""

    low: float
    likely: float
    high: float

    def times(self, other: "Range | float") -> "Range":
        """Both unknown at once: the ends multiply."""
        if not isinstance(other, Range):
            other = Range(other, other, other)
        return Range(self.low * other.low, self.likely * other.likely, self.high * other.high)

    def rounded(self) -> "Range":
        """In whole numbers, outwards."""
        return Range(float(math.floor(self.low + 1e-3)), self.likely, float(math.ceil(self.high - 1e-3)))

    def plus(self, other: "Range") -> "Range":
        """Both together."""
        return Range(self.low + other.low, self.likely + other.likely, self.high + other.high)


class Drawn(NamedTuple):
    """A sample of the input's rows."""

    groups: list[pa.Table]  # GROUPS small ones, then the large one; fewer where there are few rows
    rows: Range  # in the whole input
    bytes: float  # of its documents
    share: float  # of the rows
    read_seconds: float  # for the whole input, on one core
    whole: bool  # every slice was read, so that rows and bytes are exact


def draw(plan: Plan, rows: int = ROWS, read_bytes: int = READ_BYTES) -> Drawn:
    """A random sample of the input's rows: those whose id has the smallest hashes, whatever their order."""
    slices = [piece for unit in plan.units for piece in unit]
    chosen = _spread(slices, read_bytes)
    report, schema = UnitReport(), plan.input_schema()
    pool = _Smallest(rows)
    size = 0
    per_slice = []
    started = time.perf_counter()
    for number, piece in enumerate(chosen):
        before = pool.rows_seen
        for batch in inputs.read(
            plan.root, [piece], plan.recipe.input, schema, report,
            max_document_bytes=plan.recipe.max_document_mb << 20,
        ):  # fmt: skip
            if isinstance(batch, pa.RecordBatch) and batch.num_rows:
                size += document_bytes(batch)
                pool.add(batch, number)
        per_slice.append(pool.rows_seen - before)
    seconds = time.perf_counter() - started
    weight = np.array([piece.bytes for piece in chosen], float)
    grow = sum(piece.bytes for piece in slices) / max(float(weight.sum()), 1.0)
    whole = len(chosen) == len(slices)
    spread = _ratio(np.array(per_slice, float), weight) if not whole else 0.0
    found = float(pool.rows_seen) * grow
    total = Range(found * max(0.0, 1 - spread), found, found * (1 + spread))
    first, drawn = pool.without_repeated_ids()
    groups = pool.groups(whole)
    total = total.times(first / max(drawn, 1))
    return Drawn(groups, total, size * grow, drawn / max(found, 1.0), seconds * grow, whole)


def _spread(slices: Sequence[Slice], read_bytes: int) -> list[Slice]:
    """All slices, or so many of them, spread evenly, as `read_bytes` allow."""
    total = sum(piece.bytes for piece in slices)
    if total <= read_bytes or len(slices) <= 1:
        return list(slices)
    count = max(1, int(len(slices) * read_bytes / total))
    places = (np.arange(count) + 0.5) * len(slices) / count
    return [slices[int(place)] for place in places]


class _Smallest:
    """The rows with the smallest hashes of their ids, as many and as large as are allowed."""

    def __init__(self, rows: int) -> None:
        self.rows_seen = 0
        self._rows, self._bound = rows, 2**64 - 1
        self._held: list[tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64], pa.Table]] = []
        self._count = 0

    def add(self, batch: pa.RecordBatch, piece: int) -> None:
        self.rows_seen += batch.num_rows
        ids = batch.column("id").to_pylist()
        hashes = np.array([xxhash.xxh3_64_intdigest(i, seed=1789) for i in ids], np.uint64)
        inside = hashes <= self._bound
        if not inside.any():
            return
        table = pa.Table.from_batches([batch.filter(pa.array(inside))])
        self._held.append((hashes[inside], np.full(int(inside.sum()), piece), table))
        self._count += table.num_rows
        if self._count > 2 * self._rows or sum(t.nbytes for _, _, t in self._held) > 2 * SAMPLE_BYTES:
            self._shrink()

    def _shrink(self) -> None:
        if not self._held:
            return
        hashes = np.concatenate([h for h, _, _ in self._held])
        pieces = np.concatenate([p for _, p, _ in self._held])
        table = pa.concat_tables([t for _, _, t in self._held])
        rows = min(self._rows, len(hashes))
        if table.nbytes > SAMPLE_BYTES:  # from now on fewer
            rows = self._rows = max(1, min(rows, int(len(hashes) * SAMPLE_BYTES / table.nbytes)))
        order = np.argsort(hashes, kind="stable")[:rows]
        self._held = [(hashes[order], pieces[order], table.take(pa.array(order)))]
        self._count, self._bound = rows, int(hashes[order[-1]]) if rows < len(hashes) else self._bound

    def without_repeated_ids(self) -> tuple[int, int]:
        """Leave out the later rows of an id, which a run quarantines; returns how many are left, and were there."""
        self._shrink()
        if not self._held:
            return 0, 0
        hashes, pieces, table = self._held[0]
        first = np.sort(np.unique(hashes, return_index=True)[1])
        self._held = [(hashes[first], pieces[first], table.take(pa.array(first)))]
        return len(first), len(hashes)

    def groups(self, whole: bool) -> list[pa.Table]:
        """Small groups and the rest; where only some slices were read, a group takes whole slices."""
        if not self._held:
            return []
        _, pieces, table = self._held[0]
        small = min(GROUP_ROWS, len(pieces) // (2 * GROUPS))
        if not whole:
            group = pieces % GROUPS
            seen = np.zeros(GROUPS, np.int64)
            for row, number in enumerate(group):  # rows beyond a group's share go into the large one
                seen[number] += 1
                if seen[number] > max(small, 1):
                    group[row] = GROUPS
        else:
            group = np.minimum(np.arange(len(pieces)) // max(small, 1), GROUPS)
        chosen = [np.flatnonzero(group == number) for number in range(GROUPS + 1)]
        return [table.take(pa.array(rows)) for rows in chosen if len(rows)]


def _ratio(values: Floats, weights: Floats) -> float:
    """Half the relative width of values per weight, from the slices read to all of them."""
    total, count = float(values.sum()), len(values)
    if count < 2 or not total:
        return 1.0
    rest = np.subtract(values, weights * (total / float(weights.sum())))
    return T * float((np.square(rest).sum() * count / (count - 1)) ** 0.5) / total
