"""A random sample of the input's rows, stratified, and the ranges that can be said from it.

Strata are the stretches that are read (slices of files), within them the classes of `source`, within those the length of
the document in powers of two. Each gets its share of the sample. Groups are samples of the same kind: neighbours in the
order of the strata are dealt to them, so that how far groups differ is the error of a stratified sample (random groups,
Wolter 1985, chapter 2). Where only parts of the input were read a group is made of whole parts, so that it is theirs.
"""

import math
import time
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from curate.engine.flow import document_bytes
from curate.engine.plan import Plan
from curate.engine.unit import UnitReport
from curate.io import inputs
from curate.io.inputs import Slice

ROWS = 4000  # drawn in all
GROUPS = 24  # small files; the large one comes after them
GROUP_ROWS = 50
SAMPLE_BYTES = 64 << 20  # documents held
T = 2.069  # Student's t at .975 with GROUPS - 1 degrees of freedom
_SOURCES, _LENGTHS = 32, 64  # classes
STREAM_VARIES = 0.2  # what is after the begin of a single stream: a guess
_MORE = 1.5  # so many times the sample is held, for strata to have their share

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


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


class Piece(NamedTuple):
    """A stretch of the input that is read, and what it stands for."""

    root: str
    slices: tuple[Slice, ...]
    read_bytes: float
    bytes: float  # of the input
    stream: bool = False  # its begin stands for all of it

    @property
    def weight(self) -> float:
        return self.bytes / max(self.read_bytes, 1.0)


class Drawn(NamedTuple):
    """A sample of the input's rows."""

    groups: list[pa.Table]  # GROUPS small ones, then the large one; fewer where there are few rows
    rows: Range  # in the whole input
    bytes: float  # of its documents
    share: float  # of the rows
    read_seconds: float  # for the whole input, on one core ...
    read_cpu_seconds: float  # ... of its processor
    whole: bool  # everything was read, so that rows and bytes are exact


def pieces_of(plan: Plan) -> list[Piece]:
    """Every slice of the plan."""
    slices = (piece for unit in plan.units for piece in unit)
    return [Piece(plan.root, (one,), one.bytes, one.bytes) for one in slices]


def spread(pieces: Sequence[Piece], read_bytes: int) -> list[Piece]:
    """All pieces, or so many of them, spread evenly, as `read_bytes` allow; those left out are stood for."""
    total = sum(piece.read_bytes for piece in pieces)
    if total <= read_bytes or len(pieces) <= 1:
        return list(pieces)
    count = max(1, int(len(pieces) * read_bytes / total))
    chosen = [pieces[int(place)] for place in (np.arange(count) + 0.5) * len(pieces) / count]
    grow = total / sum(piece.read_bytes for piece in chosen)
    return [piece._replace(bytes=piece.bytes * grow) for piece in chosen]


def draw(plan: Plan, pieces: Sequence[Piece], rows: int = ROWS) -> Drawn:
    """A stratified random sample of the rows in the pieces: in each stratum those whose id has the smallest hashes."""
    report, schema = UnitReport(), plan.input_schema()
    pool = _Pool(rows)
    size = 0.0
    per_piece = np.zeros(len(pieces))
    clocks = time.perf_counter, time.process_time
    spent, asked = [0.0, 0.0], [clock() for clock in clocks]  # of reading alone: a run holds no sample
    for number, piece in enumerate(pieces):
        for batch in inputs.read(
            piece.root, piece.slices, plan.recipe.input, schema, report,
            max_document_bytes=plan.recipe.max_document_mb << 20,
        ):  # fmt: skip
            spent = [
                so_far + clock() - then for so_far, clock, then in zip(spent, clocks, asked, strict=True)
            ]
            if isinstance(batch, pa.RecordBatch) and batch.num_rows:
                size += document_bytes(batch) * piece.weight
                pool.add(batch, number)
                per_piece[number] += batch.num_rows
            asked = [clock() for clock in clocks]
    weights = np.array([piece.weight for piece in pieces])
    stood_for, was_read = sum(piece.bytes for piece in pieces), sum(piece.read_bytes for piece in pieces)
    whole = bool((weights == 1).all())
    found = float((per_piece * weights).sum())
    apart = 0.0 if whole else _apart(per_piece * weights, pieces)
    total = Range(found * max(0.0, 1 - apart), found, found * (1 + apart))
    first, drawn = pool.without_repeated_ids()
    groups = pool.groups(weights, whole)
    total = total.times(first / max(drawn, 1))
    share = min(1.0, sum(table.num_rows for table in groups) / max(total.likely, 1.0))
    wall, cpu = (seconds * stood_for / max(was_read, 1.0) for seconds in spent)
    return Drawn(groups, total, size, share, wall, min(cpu, wall), whole)


class _Pool:
    """The rows with the smallest hashes of their ids, some more than wanted, and how many rows each stratum has."""

    def __init__(self, rows: int) -> None:
        self._rows, self._held_rows, self._bound = rows, int(rows * _MORE), 2**64 - 1
        self._held: list[tuple[npt.NDArray[np.uint64], Ints, pa.Table]] = []
        self._count = 0
        self._strata: dict[int, int] = {}  # -> rows seen

    def add(self, batch: pa.RecordBatch, piece: int) -> None:
        strata = _strata(batch, piece)
        for stratum, count in zip(*np.unique(strata, return_counts=True), strict=True):
            self._strata[int(stratum)] = self._strata.get(int(stratum), 0) + int(count)
        hashes = _hashes(batch.column("id"))
        inside = hashes <= self._bound
        if not inside.any():
            return
        table = pa.Table.from_batches([batch.filter(pa.array(inside))])
        self._held.append((hashes[inside], strata[inside], table))
        self._count += table.num_rows
        if self._count > 2 * self._held_rows or sum(t.nbytes for _, _, t in self._held) > 2 * SAMPLE_BYTES:
            self._shrink()

    def _shrink(self) -> None:
        if not self._held:
            return
        hashes, strata = (np.concatenate([held[i] for held in self._held]) for i in (0, 1))
        table = pa.concat_tables([held[2] for held in self._held])
        rows = min(self._held_rows, len(hashes))
        if table.nbytes > SAMPLE_BYTES:  # from now on fewer
            rows = self._held_rows = max(1, min(rows, int(len(hashes) * SAMPLE_BYTES / table.nbytes)))
            self._rows = max(1, int(rows / _MORE))
        order = np.argsort(hashes, kind="stable")[:rows]
        self._held = [(hashes[order], strata[order], table.take(pa.array(order)))]
        self._count, self._bound = rows, int(hashes[order[-1]]) if rows < len(hashes) else self._bound

    def without_repeated_ids(self) -> tuple[int, int]:
        """Leave out the later rows of an id, which a run quarantines; returns how many are left, and were there."""
        self._shrink()
        if not self._held:
            return 0, 0
        hashes, strata, table = self._held[0]
        first = np.sort(np.unique(hashes, return_index=True)[1])
        self._held = [(hashes[first], strata[first], table.take(pa.array(first)))]
        return len(first), len(hashes)

    def groups(self, weights: Floats, whole: bool) -> list[pa.Table]:
        """Each stratum's share of the sample, dealt to small groups; what is left over is the large one."""
        if not self._held:
            return []
        hashes, strata, table = self._held[0]
        order = np.lexsort((hashes, strata))
        order = order[self._quotas(strata[order], weights, whole)]
        if whole:
            group = _dealt(hashes[order])
        else:
            group = (strata[order] // (_SOURCES * _LENGTHS)) % GROUPS
            small = max(1, min(GROUP_ROWS, len(order) // (2 * GROUPS)))
            group[_rank(group) >= small] = GROUPS
        chosen = [order[group == number] for number in range(GROUPS + 1)]
        return [table.take(pa.array(rows)) for rows in chosen if len(rows)]

    def _quotas(self, strata: Ints, weights: Floats, whole: bool) -> npt.NDArray[np.bool_]:
        """Which of the rows, sorted by stratum, are in the sample."""
        names = np.array(sorted(self._strata))
        rows = np.array([self._strata[int(name)] for name in names]) * weights[names // (_SOURCES * _LENGTHS)]
        held = np.searchsorted(strata, names, "right") - np.searchsorted(strata, names, "left")
        wanted = float(min(self._rows, len(strata)))
        if not whole:  # a stretch of few rows must not stand for less than its share
            piece = names // (_SOURCES * _LENGTHS)
            have, need = np.bincount(piece, held), np.bincount(piece, rows)
            wanted = min(
                wanted, float(np.quantile((have / np.maximum(need, 1e-9))[need > 0], 0.25) * rows.sum())
            )
        wanted = max(wanted, len(strata) / 4)
        upto = np.floor(np.cumsum(rows) * (wanted / rows.sum()) + 0.5)
        quota = np.maximum(np.diff(upto, prepend=0), 0)
        return np.asarray(_rank(strata) < quota[np.searchsorted(names, strata)])


def mixed(rows: pa.Table) -> pa.Table:
    """The rows in an order that says nothing of where they lie."""
    return rows.take(pa.array(np.argsort(_hashes(rows["id"]), kind="stable")))


def _hashes(ids: pa.Array) -> npt.NDArray[np.uint64]:
    return np.array([xxhash.xxh3_64_intdigest(i, seed=1789) for i in ids.to_pylist()], np.uint64)


def _strata(batch: pa.RecordBatch, piece: int) -> Ints:
    """(n,) number of each row's stratum, in the order of pieces, classes of `source`, lengths."""
    size = np.zeros(batch.num_rows)
    for name in ("text", "html", "pdf"):
        if name in batch.schema.names:
            size += pc.fill_null(pc.binary_length(batch.column(name)), 0).to_numpy(zero_copy_only=False)
    length = np.minimum(np.log2(size + 1).astype(np.int64), _LENGTHS - 1)
    source = np.zeros(batch.num_rows, np.int64)
    if "source" in batch.schema.names:
        names = pc.fill_null(batch.column("source").cast(pa.string()), "").dictionary_encode()
        classes = [xxhash.xxh3_64_intdigest(name) % _SOURCES for name in names.dictionary.to_pylist()]
        source = np.array(classes, np.int64)[names.indices.to_numpy()]
    return np.asarray((piece * _SOURCES + source) * _LENGTHS + length, np.int64)


def _rank(values: Ints) -> Ints:
    """(n,) how many equal values stand before each."""
    order = np.argsort(values, kind="stable")
    sorted_ = values[order]
    begins = np.flatnonzero(np.r_[True, sorted_[1:] != sorted_[:-1]])
    found = np.empty(len(values), np.int64)
    found[order] = np.arange(len(values)) - np.repeat(begins, np.diff(np.r_[begins, len(values)]))
    return found


def _dealt(hashes: npt.NDArray[np.uint64]) -> Ints:
    """(n,) group of each row: of every window of neighbours each small group gets one."""
    small = max(1, min(GROUP_ROWS, len(hashes) // (2 * GROUPS)))
    window = np.arange(len(hashes)) * small // max(len(hashes), 1)
    by_hash = np.lexsort((hashes, window))
    group = np.empty(len(hashes), np.int64)
    group[by_hash] = np.minimum(_rank(window[by_hash]), GROUPS)
    return group


def _apart(rows: Floats, pieces: Sequence[Piece]) -> float:
    """Half the relative width of the range of all rows, by how rows per byte differ among pieces; streams apart."""
    sizes = np.array([piece.bytes for piece in pieces])
    streams = np.array([piece.stream for piece in pieces])
    squared, total = 0.0, float(rows.sum())
    if not total:
        return 1.0
    for kind in (streams, ~streams):
        values, weights, count = rows[kind], sizes[kind], int(kind.sum())
        if count == 1:
            squared += float((values[0] * (STREAM_VARIES if streams[kind][0] else 1.0)) ** 2)
        elif count:
            rest = values - weights * (values.sum() / weights.sum())
            squared += T * T * float(np.square(rest).sum()) * count / (count - 1)
    return float(squared**0.5 / total)
