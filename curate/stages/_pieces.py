"""Lines, paragraphs or sentences that stand in a corpus before: found out of core by their hash, and cut out.

A piece's `order` is the order of its unit's first row and the pieces before it in the unit: it grows as the run goes on,
and lies within the orders of the unit's rows. So `Phase` sorts and hands out pieces as it does rows.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import ConfigError
from curate.stage import Inputs, Out
from curate.stages import _edits
from curate.stages.exact_dedup import Upcoming

if TYPE_CHECKING:
    from curate.kernels.pieces import Digests, Pieces

HASH_KEY = ("hash", "check", "order")
Orders = npt.NDArray[np.uint64]
Cut = Callable[[pa.Array], "Pieces"]


class Options(Protocol):
    """What the Config of a stage that cuts out lines or paragraphs has."""

    @property
    def min_chars(self) -> int: ...
    @property
    def min_count(self) -> int: ...
    @property
    def min_doc_chars(self) -> int: ...
    @property
    def normalize(self) -> str: ...


def check_options(config: Options) -> None:
    """Refuse numbers that mean nothing."""
    if config.min_chars < 1:
        raise ConfigError("`min_chars` must be 1 or more", hint="1 judges every piece that is not blank")
    if config.min_count < 2:
        raise ConfigError("`min_count` must be 2 or more", hint="2 cuts whatever stands in the corpus before")
    if config.min_doc_chars < 0:
        raise ConfigError("`min_doc_chars` must not be below 0", hint="0 keeps every document")


def writes(name: str, unit: str, *, keep_original: bool) -> dict[str, pa.DataType]:
    """Columns of a stage that cuts out pieces called `unit`."""
    return _edits.writes(name, keep_original=keep_original) | {f"{name}_removed_{unit}": pa.int32()}


def placed(inputs: Inputs, cut: Cut) -> Iterator[tuple[pa.RecordBatch, "Pieces", Orders]]:
    """The batches of a unit, their texts in m pieces, and the order of each piece, (m,)."""
    following: int | None = None
    for batch in inputs.batches():
        pieces = cut(batch["text"])
        if following is None and batch.num_rows:
            following = batch["order"][0].as_py()
        first, m = following or 0, len(pieces.starts) - 1
        yield batch, pieces, np.arange(first, first + m, dtype=np.uint64)
        following = first + m if following is not None else None


def write_hashes(inputs: Inputs, out: Out, cut: Cut, digests: Callable[["Pieces"], "Digests"]) -> None:
    """Per unit: hash, check and order of each piece that is judged."""
    for _, pieces, orders in placed(inputs, cut):
        found = digests(pieces)
        table = pa.table({"hash": found.high, "check": found.check, "order": orders})
        out.write(table.filter(pa.array(found.judged)))


def hashed(pieces: "Pieces", config: Options) -> "Digests":
    """Hashes of pieces as the Config normalises them."""
    from curate.kernels.pieces import CCNET, digests

    return digests(pieces, config.min_chars, CCNET if config.normalize == "ccnet" else None)


class Repeats:
    """Records in key order, cut into groups of equal pieces as they come: which pieces are there for a second time.

    Of a group that may go on only what waits for `min_count` is held.
    """

    def __init__(self, min_count: int) -> None:
        self._min_count = min_count
        self._key: tuple[int, int] | None = None
        self._seen = 0
        self._waiting = np.zeros(0, np.uint64)

    def next(self, table: pa.Table) -> Orders:
        """Orders of pieces, in no order, that are not the first of a group of `min_count` and more."""
        key, check, order = (table[name].to_numpy() for name in HASH_KEY)
        first = np.append(True, (key[1:] != key[:-1]) | (check[1:] != check[:-1]))
        goes_on = self._key == (key[0], check[0])
        starts = np.flatnonzero(first)
        sizes = np.diff(np.append(starts, len(key)))
        sizes[0] += self._seen if goes_on else 0
        waiting = self._waiting if goes_on else self._waiting[:0]
        often = sizes >= self._min_count
        later = ~first
        later[0] = goes_on
        found: Orders = order[later & often[np.cumsum(first) - 1]]
        if often[0]:
            found, waiting = np.concatenate([waiting, found]), waiting[:0]
        last = int(starts[-1])
        if often[-1]:
            waiting = waiting[:0]
        else:
            new = order[last:][later[last:]]
            waiting = np.concatenate([waiting, new]) if last == 0 else new
        self._key, self._seen, self._waiting = (int(key[-1]), int(check[-1])), int(sizes[-1]), waiting
        return found


def write_repeats(inputs: Inputs, out: Out, min_count: int) -> int:
    """Per range of hashes: the order of each piece that goes; returns how many."""
    repeats, num = Repeats(min_count), 0
    for table in inputs.merged():
        found = repeats.next(table)
        out.write(pa.table({"order": found}))
        num += len(found)
    return num


def gone_of(inputs: Inputs, cut: Cut) -> Iterator[tuple[pa.RecordBatch, "Pieces", npt.NDArray[np.bool_]]]:
    """The batches of a unit, their texts in m pieces, and which of them the phase before has named, (m,)."""
    records = Upcoming(inputs.merged())
    for batch, pieces, orders in placed(inputs, cut):
        named = np.zeros(len(orders), np.bool_)
        found = records.up_to(int(orders[-1])) if len(orders) else None
        if found is not None:
            at = (found["order"].to_numpy() - orders[0]).astype(np.int64)
            named[at] = True
            if "whole" in found.column_names:  # the documents that these pieces stand in
                for row in np.searchsorted(pieces.rows, at[found["whole"].to_numpy()], side="right") - 1:
                    named[pieces.rows[row] : pieces.rows[row + 1]] = True
        yield batch, pieces, named


def edited(
    batch: pa.RecordBatch, name: str, unit: str, pieces: "Pieces", gone: npt.NDArray[np.bool_], *,
    keep_original: bool, trim: bool = True,
) -> pa.RecordBatch:  # fmt: skip
    """The batch with texts that lost their pieces, and what is said of that."""
    from curate.kernels.pieces import without

    data, offsets, num = without(pieces, gone, trim)
    new = _edits.text_array(data, offsets, batch["text"])
    return _edits.edit(batch, name, new, {f"removed_{unit}": num}, keep_original=keep_original)


def keep_long(
    out: Out, batch: pa.RecordBatch, new: pa.RecordBatch, name: str, unit: str, min_chars: int
) -> None:
    """Keep rows as they are now; of those that lost something drop the ones with too few characters, as they were."""
    left = pc.fill_null(pc.utf8_length(new["text"]), 0).to_numpy()
    lost = pc.fill_null(new[f"{name}_removed_{unit}"], 0).to_numpy() > 0
    short = lost & (left < min_chars)
    out.keep(new.filter(pa.array(~short)))
    left = left[short]
    out.drop(batch.filter(pa.array(short)), {
        "drop_reason": pa.array(np.where(left == 0, "emptied", "too_short"), pa.string()),
        "drop_value": pa.array(left, pa.float64()),
        "drop_threshold": pa.array(np.full(len(left), min_chars), pa.float64()),
    })  # fmt: skip
