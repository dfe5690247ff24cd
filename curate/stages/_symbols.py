"""What repeats are looked for in: the bytes of texts, their words, or the tokens of a tokenizer folder."""

from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.models.tokenizer import Tokenizer
from curate.schema import text_buffers

Longs = npt.NDArray[np.int64]


class Symbols(NamedTuple):
    """Of n texts; those of text i are values[offsets[i] : offsets[i + 1]]."""

    values: npt.NDArray[np.generic]  # uint8 bytes, or uint64 tokens
    offsets: Longs  # (n + 1,)
    begins: Longs | None  # byte of its text where each symbol begins; None for bytes
    ends: Longs | None

    def bytes_of(self, row: Longs, begin: Longs, end: Longs) -> tuple[Longs, Longs]:
        """Spans of symbols (in these rows) as spans of bytes; they are not empty."""
        if self.begins is None or self.ends is None:
            return begin, end
        base = self.offsets[row]
        return self.begins[base + begin], self.ends[base + end - 1]


def symbols_of(texts: pa.Array, unit: str, tokenizer: str) -> Symbols:
    """Symbols of a string column of n rows; a null has none."""
    if unit == "bytes":
        data, offsets = text_buffers(texts)
        return Symbols(data, offsets, None, None)
    return _tokens(texts, tokenizer) if tokenizer else _words(texts)


def _words(texts: pa.Array) -> Symbols:
    from curate.kernels import repeats

    data, offsets = text_buffers(texts)
    begins, ends, num = words_of(texts)
    values = np.empty(len(begins), np.uint64)
    repeats.hash_each(data, begins, ends, values)
    base = np.repeat(offsets[:-1], num)
    return Symbols(values, np.concatenate([[0], np.cumsum(num)]), begins - base, ends - base)


def words_of(texts: pa.Array) -> tuple[Longs, Longs, Longs]:
    """Where each word begins and ends (bytes of the column's buffer), and the words of each row, (n,)."""
    from curate.kernels.words import all_words, none_given

    data, offsets = text_buffers(texts)
    most = int(offsets[-1] - offsets[0])
    begins, ends, num = np.empty(most, np.int64), np.empty(most, np.int64), np.empty(len(texts), np.int64)
    n = all_words(data, offsets, none_given(len(texts)), begins, ends, num)
    return begins[:n].copy(), ends[:n].copy(), num


def _tokens(texts: pa.Array, tokenizer: str) -> Symbols:
    values, begins, ends, num = [], [], [], []
    plain = pc.fill_null(texts, "").to_pylist()
    for text, (ids, spans) in zip(plain, _loaded(tokenizer).tokens(plain), strict=True):
        codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        widths = 1 + (codes >= 0x80).astype(np.int64) + (codes >= 0x800) + (codes >= 0x10000)
        at = np.concatenate([[0], np.cumsum(widths)])[spans]  # (tokens, 2)
        begin, end = at[:, 0].copy(), at[:, 1].copy()
        if len(at) > 1:  # tokens that share a character leave it out
            begin[1:] = np.maximum(at[1:, 0], at[:-1, 1])
            end[:-1] = np.minimum(at[:-1, 1], at[1:, 0])
        values.append(ids)
        begins.append(begin)
        ends.append(end)
        num.append(len(ids))
    return Symbols(
        np.concatenate([np.zeros(0, np.uint64), *values]), np.concatenate([[0], np.cumsum(num, dtype=np.int64)]),
        np.concatenate([np.zeros(0, np.int64), *begins]), np.concatenate([np.zeros(0, np.int64), *ends]),
    )  # fmt: skip


@cache
def _loaded(tokenizer: str) -> Tokenizer:
    return Tokenizer(tokenizer)


def snap_to_words(texts: pa.Array, row: Longs, begin: Longs, end: Longs) -> tuple[Longs, Longs]:
    """Spans (bytes of their row) shrunk until they cut no word; one that lies in a word is empty."""
    _, offsets = text_buffers(texts)
    begins, ends, _ = words_of(texts)
    if not len(begins):
        return begin, end
    base = offsets[row]
    at = begin + base
    word = np.maximum(np.searchsorted(begins, at, side="right") - 1, 0)
    begin = np.where((begins[word] < at) & (at < ends[word]), ends[word] - base, begin)
    at = end + base
    word = np.maximum(np.searchsorted(begins, at, side="right") - 1, 0)
    end = np.where((begins[word] < at) & (at < ends[word]), begins[word] - base, end)
    return begin, np.maximum(begin, end)
