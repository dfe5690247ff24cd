"""Windows of `length` symbols that stand in a corpus more than once: an exact search in memory that is set beforehand.

Memory  a corpus has one window per symbol, far too many to sort. Each goes to where its minimizer sends it (the smallest
        hash of `gram` symbols in a row that it holds), and windows with the same symbols have the same one. So passages,
        runs of neighbouring windows with one minimizer, are sorted by it on disk; passages that are alone with theirs
        are dropped before their text is read. Of the others a suffix array is built, cut down to the windows and to
        their length, over as many at once as fit: nothing is decided by a hash.
        A minimizer of more passages than fit: what has been seen before is forgotten, one of each window is enough.
        When even that does not fit, passages are cut anew by longer minimizers and dealt to 16 files by them, again
        and again until they fit; that ends, since a minimizer of the whole length holds one window.
Paper   Schleimer et al. 2003 (winnowing); Roberts et al. 2004 (minimizers)
"""

import itertools
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.schema import text_buffers

Longs = npt.NDArray[np.int64]
FILES = 16  # that passages are dealt to
ROWS = 4_096  # passages looked at at once, at most
WINDOW_BYTES = 96  # of memory for each window that is sorted
PASSAGE_BYTES = 64  # for each passage beside its symbols, of which there are three copies for a while
SPANS = pa.schema({"order": pa.uint64(), "begin": pa.int64(), "end": pa.int64()})


class Search(NamedTuple):
    """What is looked for, and with how much memory."""

    length: int  # symbols of a window
    symbol: npt.DTypeLike  # uint8 for bytes, uint64 for tokens
    every: bool  # whether the first of equal windows goes too
    memory: int  # bytes

    @property
    def gram(self) -> int:
        """Symbols that minimizers are made of: two or three of them in a window."""
        return max(1, self.length // 3)


def passages(
    symbols: npt.NDArray[np.generic], offsets: Longs, length: int, gram: int, seed: int = 0
) -> pa.Table:
    """Passages of n rows of symbols, offsets (n + 1,): row, start (in the row), count (of windows), hash (of the minimizer)."""
    from curate.kernels import repeats
    from curate.kernels.strings import frozen

    most = int(np.maximum(np.diff(offsets) - length + 1, 0).sum())
    row, start, count = (np.empty(most, np.int64) for _ in range(3))
    key = np.empty(most, np.uint64)
    n = repeats.runs(frozen(symbols), frozen(offsets), length, gram, seed, row, start, count, key)
    return pa.table(
        {"row": row[:n], "start": start[:n], "count": count[:n].astype(np.int32), "hash": key[:n]}
    )


def with_symbols(
    found: pa.Table, symbols: npt.NDArray[np.generic], offsets: Longs, length: int
) -> Iterator[pa.Table]:
    """The passages (row, start, count), some at a time, with their symbols as bytes."""
    from curate.kernels import repeats
    from curate.kernels.strings import frozen

    data, width = frozen(symbols.view(np.uint8)), symbols.dtype.itemsize
    for i in range(0, found.num_rows, ROWS):
        some = found.slice(i, ROWS)
        begin = (offsets[some["row"].to_numpy()] + some["start"].to_numpy()) * width
        cuts = np.concatenate(
            [[0], np.cumsum((some["count"].to_numpy().astype(np.int64) + length - 1) * width)]
        )
        out = np.empty(int(cuts[-1]), np.uint8)
        repeats.copy_slices(data, begin, cuts, out)
        column = pa.Array.from_buffers(
            pa.large_binary(), some.num_rows, [None, pa.py_buffer(cuts), pa.py_buffer(out)]
        )
        yield some.append_column("symbols", column)


def repeated_spans(
    tables: Iterable[pa.Table], search: Search, scratch: Path, depth: int = 0
) -> Iterator[pa.Table]:
    """Spans (order, begin, end: symbols of a row) that go, of passages (hash, order, start, count, symbols).

    They come in the order of (hash, order, start); deeper down, where they have been cut anew, in any order of hashes.
    """
    held: list[pa.Table] = []
    size = 0
    stream = _bounded(tables)
    for table in stream:
        held.append(table)
        size += _cost(table)
        if size < search.memory:
            continue
        whole = _together(held, depth)
        spans, news = _compare(whole, search)
        yield spans
        last = whole["hash"][-1].as_py() if depth == 0 else None
        going_on = news if last is None else news & (whole["hash"].to_numpy() == last)
        held = [whole.filter(pa.array(going_on))]
        size = _cost(held[0])
        if size > search.memory // 2:
            rest: list[pa.Table] = []
            same = itertools.chain(held, _while_same(stream, last, rest))
            yield from _dealt(same, search, scratch, depth)
            held, size = rest, sum(map(_cost, rest))
    if held:
        yield _compare(_together(held, depth), search)[0]


def _together(held: list[pa.Table], depth: int) -> pa.Table:
    """Passages in the order of their minimizers; those of one in the order they came."""
    whole = pa.concat_tables(held)
    if depth == 0:
        return whole
    return whole.take(pa.array(np.argsort(whole["hash"].to_numpy(), kind="stable")))


def _bounded(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    for table in tables:
        for i in range(0, table.num_rows, ROWS):
            yield table.slice(i, ROWS)


def _cost(table: pa.Table) -> int:
    """Bytes of memory that comparing these passages takes."""
    windows = int(pc.sum(table["count"], min_count=0).as_py())
    symbols = int(pc.sum(pc.binary_length(table["symbols"]), min_count=0).as_py())
    rows: int = table.num_rows
    return WINDOW_BYTES * windows + 3 * symbols + PASSAGE_BYTES * rows


def _while_same(tables: Iterator[pa.Table], key: int | None, rest: list[pa.Table]) -> Iterator[pa.Table]:
    """Passages as long as they have this minimizer; the first others go to `rest`. None: all there are."""
    for table in tables:
        count = (
            table.num_rows
            if key is None
            else int(np.searchsorted(table["hash"].to_numpy(), np.uint64(key), side="right"))
        )
        yield table.slice(0, count)
        if count < table.num_rows:
            rest.append(table.slice(count))
            return


def _compare(table: pa.Table, search: Search) -> tuple[pa.Table, npt.NDArray[np.bool_]]:
    """Spans that go among these passages alone, sorted by minimizer, and which passages hold a window that none before them has."""
    from curate.kernels import repeats
    from curate.kernels.strings import frozen

    data, offsets = text_buffers(table["symbols"])
    width = np.dtype(search.symbol).itemsize
    bases = np.concatenate([[0], np.cumsum(table["count"].to_numpy().astype(np.int64))])
    n = int(bases[-1])
    at = np.arange(n) * width
    at += np.repeat(offsets[:-1] - bases[:-1] * width, np.diff(bases))
    order, opens, first = np.empty(n, np.int32), np.zeros(n, np.bool_), np.empty(n, np.int32)
    key = table["hash"].to_numpy()
    opens[bases[:-1][np.append(True, key[1:] != key[:-1])]] = True
    repeats.sort_windows(frozen(data), at, search.length * width, order, opens)
    repeats.firsts(order, opens, first)
    del at, order, opens
    passage, begin, end = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.int64)
    news = np.empty(table.num_rows, np.bool_)
    orders = table["order"].to_numpy()
    num = repeats.repeated(
        first, bases, frozen(orders), frozen(table["start"].to_numpy()), search.length, search.every, passage, begin,
        end, news,
    )  # fmt: skip
    spans = pa.table({"order": orders[passage[:num]], "begin": begin[:num], "end": end[:num]}, SPANS)
    return spans, news


def _dealt(tables: Iterable[pa.Table], search: Search, scratch: Path, depth: int) -> Iterator[pa.Table]:
    """Spans of passages that do not fit: cut by longer minimizers, dealt to files by them, each searched by itself."""
    gram = search.gram
    for _ in range(depth + 1):
        gram += (search.length - gram + 1) // 2
    places = [scratch / f"{depth}-{i}" for i in range(FILES)]
    with ExitStack() as stack:
        writers: list[pa.ipc.RecordBatchFileWriter | None] = [None] * FILES
        for table in tables:
            for piece in _cut_anew(table, search, gram, depth + 1):
                file_of = piece["hash"].to_numpy() % np.uint64(FILES)
                for i in np.unique(file_of).tolist():
                    part = piece.filter(pa.array(file_of == i))
                    writers[i] = writers[i] or stack.enter_context(pa.ipc.new_file(places[i], part.schema))
                    writers[i].write_table(part)
    for place in places:
        if place.exists():
            yield from repeated_spans(_read(place), search, scratch, depth + 1)
            place.unlink()


def _cut_anew(table: pa.Table, search: Search, gram: int, seed: int) -> Iterator[pa.Table]:
    data, offsets = text_buffers(table["symbols"])
    symbols = data[: offsets[-1]].view(search.symbol)
    offsets = offsets // symbols.itemsize
    found = passages(symbols, offsets, search.length, gram, seed)
    for some in with_symbols(found, symbols, offsets, search.length):
        whole = table.take(some["row"])
        start = pc.add(whole["start"], some["start"])
        yield pa.table({
            "hash": some["hash"], "order": whole["order"], "start": start, "count": some["count"],
            "symbols": some["symbols"],
        })  # fmt: skip


def _read(place: Path) -> Iterator[pa.Table]:
    with pa.OSFile(str(place)) as file, pa.ipc.open_file(file) as reader:
        for i in range(reader.num_record_batches):
            yield pa.Table.from_batches([reader.get_batch(i)])
