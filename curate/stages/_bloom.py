"""`paragraph_dedup: {method: bloom}`: paragraphs judged one after the other by a Bloom filter of their n-grams.

The records of all units carry the same hash, so that one task sees them all, in the order of the run.
"""

import math
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import ConfigError, DataError
from curate.schema import text_buffers
from curate.stage import Inputs, Out
from curate.stages._pieces import Cut, Orders, placed

GRAMS = 64  # of a record: records of one size keep what the shuffle holds small
MAX_WORDS = 1 << 32  # 32 bits of hash choose one
NO_DOCUMENT = -1


def filter_size(num: int, rate: float) -> tuple[int, int]:
    """(64-bit words, probes) of the smallest filter that takes `num` and then says yes to `rate` of all others."""
    bits, probes = min((-k / math.log1p(-(rate ** (1 / k))), k) for k in range(1, 33))
    return max(1, math.ceil(bits * num / 64)), probes


class Options(Protocol):
    """What the Config has for this method."""

    @property
    def ngram(self) -> int: ...
    @property
    def min_ngram(self) -> int: ...
    @property
    def threshold(self) -> float: ...
    @property
    def false_positive_rate(self) -> float: ...
    @property
    def expected_ngrams(self) -> int | None: ...
    @property
    def remove(self) -> str: ...


def size_note(config: Options) -> str:
    """What `check` says of the filter."""
    if config.expected_ngrams is None:
        words, probes = filter_size(10**9, config.false_positive_rate)
        return (
            f"Bloom filter of {words * 8 / 1e9:.2f} GB for every 1e9 n-grams ({probes} probes, "
            f"{config.false_positive_rate:.2%} false positives); they are counted first, about one for each word"
        )
    words, probes = filter_size(config.expected_ngrams, config.false_positive_rate)
    return (
        f"Bloom filter of {words * 8 / 1e9:.3g} GB for {config.expected_ngrams:,} n-grams "
        f"({probes} probes, {config.false_positive_rate:.2%} false positives)"
    )


def check_options(config: Options) -> None:
    """Refuse numbers that mean nothing, and a filter that cannot be addressed."""
    if not 1 <= config.min_ngram <= config.ngram:
        raise ConfigError("`min_ngram` must be from 1 to `ngram`", hint="leave both out for 13")
    if not 0 < config.threshold <= 1:
        raise ConfigError("`threshold` must be above 0 and at most 1", hint="leave it out for 0.8")
    if not 1e-6 <= config.false_positive_rate <= 0.5:
        raise ConfigError("`false_positive_rate` must be from 1e-6 to 0.5", hint="leave it out for 0.01")
    if config.expected_ngrams is not None and config.expected_ngrams < 1:
        raise ConfigError("`expected_ngrams` must be 1 or more", hint="leave it out to have them counted")
    if filter_size(config.expected_ngrams or 1, config.false_positive_rate)[0] > MAX_WORDS:
        raise ConfigError(
            f"{size_note(config)} is more than 34 GB",
            hint="`method: exact` has no such limit; or a higher `false_positive_rate`",
        )


def write_grams(inputs: Inputs, out: Out, cut: Cut, config: Options) -> None:
    """Per unit: the n-grams of each paragraph, by 64 to a record."""
    from curate.kernels.bloom import ngrams
    from curate.kernels.shingles import Normal, word_hashes

    plain = Normal(case=False, accents=False, punctuation=False, digits=False)
    for batch, pieces, orders in placed(inputs, cut):
        grams, offsets = ngrams(
            *word_hashes(pieces.data, pieces.starts, plain), config.ngram, config.min_ngram
        )
        num = -(-np.diff(offsets) // GRAMS)  # records of each paragraph
        first = np.repeat(np.cumsum(num) - num, num)
        piece = np.repeat(np.arange(len(orders)), num)
        begin = offsets[piece] + GRAMS * (np.arange(len(piece)) - first)
        cuts = 8 * np.append(begin, len(grams))
        column = pa.Array.from_buffers(
            pa.large_binary(), len(piece), [None, pa.py_buffer(cuts), pa.py_buffer(grams)]
        )
        rows = np.repeat(batch["order"].to_numpy(), np.diff(pieces.rows))
        same = np.zeros(len(piece), np.uint64)
        out.write(pa.table({
            "hash": same, "check": same.astype(np.uint32), "order": orders[piece], "row": rows[piece], "grams": column,
        }))  # fmt: skip


def write_judged(inputs: Inputs, out: Out, config: Options) -> dict[str, int]:
    """In the order of the run: the order of each paragraph that goes; `whole` where its document does."""
    from curate.kernels import bloom

    bits: npt.NDArray[np.uint64] | None = None
    probes = 0
    document = np.array([NO_DOCUMENT, 0, 0, 0], np.int64)
    counts = {"paragraphs": 0, "documents": 0, "ngrams": 0}
    for table in paragraphs(inputs.merged()):
        if bits is None:
            bits, probes = _empty(inputs, out, config)
        data, cuts = text_buffers(table["grams"])
        order, row = (table[name].to_numpy() for name in ("order", "row"))
        starts = np.flatnonzero(np.append(True, order[1:] != order[:-1]))
        grams = data[: cuts[-1]].view(np.uint64)
        offsets = np.append(cuts[:-1][starts], cuts[-1]) // 8
        gone, emptied = np.zeros(len(starts), np.bool_), np.zeros(len(starts), np.uint64)
        new, num = bloom.judge(
            bits, probes, grams, offsets, order[starts], row[starts], config.threshold, document, gone, emptied
        )  # fmt: skip
        num *= config.remove == "old-both"
        _write(out, order[starts][gone], emptied[:num])
        counts["ngrams"] += new
        counts["paragraphs"] += int(gone.sum())
        counts["documents"] += num
        if config.expected_ngrams is not None and counts["ngrams"] > config.expected_ngrams:
            raise DataError(
                f"the corpus has more than the {config.expected_ngrams:,} n-grams of `expected_ngrams`: the filter would "
                f"hold more than {config.false_positive_rate:.2%} of all others by mistake",
                hint="raise it, or leave it out to have them counted",
            )
    held = document[bloom.HELD] / max(1, document[bloom.NUM])
    if held > config.threshold and config.remove == "old-both":
        _write(out, np.zeros(0, np.uint64), document[[bloom.FIRST]].astype(np.uint64))
        counts["documents"] += 1
    return counts


def _empty(inputs: Inputs, out: Out, config: Options) -> tuple[npt.NDArray[np.uint64], int]:
    """(bits, probes) of a filter for as many n-grams as are expected, or there are. DataError where it is too large."""
    expected = config.expected_ngrams or num_ngrams(inputs)
    words, probes = filter_size(expected, config.false_positive_rate)
    if words > MAX_WORDS:
        raise DataError(
            f"a Bloom filter for the {expected:,} n-grams of the corpus is more than 34 GB",
            hint="`method: exact` has no such limit; or a higher `false_positive_rate`",
        )
    bits = np.memmap(out.scratch / "bits", np.uint64, "w+", shape=(words,))
    return bits.view(np.ndarray), probes


def _write(out: Out, gone: Orders, emptied: Orders) -> None:
    orders = np.concatenate([gone, emptied])
    whole = np.append(np.zeros(len(gone), np.bool_), np.ones(len(emptied), np.bool_))
    out.write(pa.table({"order": orders, "whole": whole}))


def num_ngrams(inputs: Inputs) -> int:
    """N-grams of all records."""
    return sum(pc.sum(pc.binary_length(table["grams"])).as_py() // 8 for table in inputs.merged()) or 1


def paragraphs(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Records such that no paragraph is cut between two tables."""
    held: list[pa.Table] = []  # of one paragraph, which may go on
    last = -1
    for table in tables:
        order = table["order"].to_numpy()
        begun = int(np.searchsorted(order, order[-1]))  # where its last paragraph begins
        if not begun and last == order[0]:
            held.append(table)
            continue
        ready = pa.concat_tables([*held, table.slice(0, begun)])
        if ready.num_rows:
            yield ready.combine_chunks()
        held, last = [table.slice(begun)], int(order[-1])
    if held:
        yield pa.concat_tables(held).combine_chunks()
