"""What a fastText .bin or .ftz of a classifier holds, checked on the way in.

Reads   one file, format versions 11 and 12, whole or quantised, pruned or not, any of the four losses
Returns ModelFile: settings, dictionary and the two matrices as views of the mapped file
Fails   ModelError naming the file and the field, for anything truncated, random or lying; no size that the file
        gives is believed before it is compared with the bytes that are there
"""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from curate.errors import ModelError

LABEL_PREFIX = "__label__"

_MAGIC, _SUPERVISED = 793712314, 3
_LOSSES = {1: "hs", 2: "ns", 3: "softmax", 4: "ova"}
_CENTROIDS = 256
_MOST_NGRAM = 64  # longer n-grams than any real model has; a lying header would only cost time
_MOST_BUCKETS = 1 << 27  # in a pruned model, whose file says nothing of their size
_MOST_UNPACKED = 256  # times the size of the file
_BLOCK_BYTES = 1 << 22
_ENTRY_BYTES = 10  # of a dictionary entry beside its name: NUL, count, kind


class _File:
    """Reads a model file front to back; whatever does not fit in the file's size is refused before it is made."""

    def __init__(self, path: Path, content: mmap.mmap) -> None:
        self.path, self.content, self.at, self.size = path, content, 0, len(content)

    def bad(self, what: str) -> ModelError:
        return ModelError(
            f"not a usable fastText model: {what}",
            where=str(self.path),
            hint="fetch or train the file again; a supervised .bin or .ftz of fastText 0.9 is expected",
        )

    def array(self, dtype: npt.DTypeLike, count: int, name: str) -> npt.NDArray[Any]:
        need, left = count * np.dtype(dtype).itemsize, self.size - self.at
        if count < 0 or need > left:
            raise self.bad(f"{name} would need {need} bytes at offset {self.at}, {left} are left")
        values = np.frombuffer(self.content, dtype, count, self.at)
        self.at += need
        return values

    def number(self, dtype: npt.DTypeLike, name: str) -> int:
        return int(self.array(dtype, 1, name)[0])

    def entry(self) -> tuple[bytes, int, int]:
        """Next entry of the dictionary: name, count, 0 for a word or 1 for a label."""
        end = self.content.find(b"\0", self.at)
        if end < 0 or end + _ENTRY_BYTES > self.size:
            raise self.bad(f"the dictionary is cut at offset {self.at}")
        name, count = self.content[self.at : end], self.content[end + 1 : end + 9]
        self.at = end + _ENTRY_BYTES
        return name, int.from_bytes(count, "little", signed=True), self.content[self.at - 1]

    def flag(self, name: str) -> bool:
        value = self.number("u1", name)
        if value > 1:
            raise self.bad(f"{name} is {value} at offset {self.at - 1}, not 0 or 1")
        return bool(value)


class Settings(NamedTuple):
    """What the training settings say about prediction."""

    dim: int
    word_ngrams: int
    loss: str
    num_buckets: int
    min_chars: int
    max_chars: int


def _read_settings(file: _File) -> Settings:
    if file.size < 8 or file.number("<i4", "magic") != _MAGIC:
        raise file.bad("the first bytes are not fastText's")
    version = file.number("<i4", "version")
    if version not in (11, 12):
        raise file.bad(f"format version {version}, only 11 and 12 are known")
    values = [int(v) for v in file.array("<i4", 12, "settings")]
    file.array("<f8", 1, "settings")
    dim, _, _, _, _, word_ngrams, loss, kind, num_buckets, min_chars, max_chars, _ = values
    if kind != _SUPERVISED:
        raise file.bad(f"model kind {kind} is no classifier (3 is)")
    if loss not in _LOSSES:
        raise file.bad(f"unknown loss {loss}")
    if version == 11:  # supervised models of that version had no character n-grams
        max_chars = 0
    word_ngrams, max_chars = max(word_ngrams, 1), max(max_chars, 0)
    if dim < 1 or word_ngrams > _MOST_NGRAM or max_chars > _MOST_NGRAM or num_buckets < 0:
        raise file.bad(
            f"settings out of range: dim {dim}, wordNgrams {word_ngrams}, maxn {max_chars}, bucket {num_buckets}"
        )
    if num_buckets == 0 and (word_ngrams > 1 or max_chars > 0):
        raise file.bad("n-grams without a bucket to hold them")
    return Settings(dim, word_ngrams, _LOSSES[loss], num_buckets, min_chars, max_chars)


@dataclass
class Dictionary:
    """Words, then labels, as one run of bytes with offsets."""

    num_words: int
    labels: list[str]  # without the prefix
    label_counts: list[int]
    entry_bytes: npt.NDArray[np.uint8]
    entry_offsets: npt.NDArray[np.int64]  # (words + labels + 1,)
    pruned: bool
    buckets: npt.NDArray[np.int32]  # n-grams that a pruned model kept, rising
    targets: npt.NDArray[np.int32]  # the row of each, after the words


def _read_dictionary(file: _File) -> Dictionary:
    size, num_words, num_labels = (int(v) for v in file.array("<i4", 3, "dictionary sizes"))
    file.number("<i8", "token count")
    num_kept = file.number("<i8", "pruned size")
    if num_words < 0 or num_labels < 1 or size != num_words + num_labels:
        raise file.bad(f"a dictionary of {size} entries with {num_words} words and {num_labels} labels")
    if size * _ENTRY_BYTES > file.size - file.at:
        raise file.bad(f"a dictionary of {size} entries does not fit in the file")
    entries, counts = [], []
    for entry in range(size):
        name, count, kind = file.entry()
        if kind != (entry >= num_words):
            raise file.bad(
                f"entry {entry} of the dictionary is marked {kind}; words are 0 and come before labels, 1"
            )
        entries.append(name)
        counts.append(count)
    counts = counts[num_words:]
    if not all(0 <= count < 10**15 for count in counts):  # what the tree of labels can weigh
        raise file.bad(f"label counts between {min(counts)} and {max(counts)}")
    try:
        labels = [name.decode().removeprefix(LABEL_PREFIX) for name in entries[num_words:]]
    except UnicodeDecodeError as error:
        raise file.bad(f"a label is not UTF-8: {error}") from None
    offsets = np.cumsum([0, *map(len, entries)], dtype=np.int64)
    kept = file.array("<i4", 2 * max(num_kept, 0), "kept n-grams").reshape(-1, 2)
    buckets, targets = kept[np.argsort(kept[:, 0], kind="stable")].T
    text = np.frombuffer(b"".join(entries), np.uint8)
    return Dictionary(num_words, labels, counts, text, offsets, num_kept >= 0, buckets, targets)


def _block_rows(dim: int) -> int:
    return max(1, _BLOCK_BYTES // (4 * dim))


@dataclass
class Dense:
    """A matrix of floats."""

    values: npt.NDArray[np.float32]  # (rows, dim)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.values.shape[0], self.values.shape[1]

    def blocks(self) -> Iterator[npt.NDArray[np.float32]]:
        """The rows, a few MB at a time."""
        step = _block_rows(self.shape[1])
        for low in range(0, len(self.values), step):
            yield self.values[low : low + step]


@dataclass
class Quantised:
    """A matrix as codes into codebooks, one a part of the columns, with the rows' norms apart or not."""

    codes: npt.NDArray[np.uint8]  # (rows, parts)
    centroids: list[npt.NDArray[np.float32]]  # one (256, width) a part
    norm_codes: npt.NDArray[np.uint8] | None  # (rows,)
    norms: npt.NDArray[np.float32]  # (256,)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns, unpacked."""
        return self.codes.shape[0], sum(part.shape[1] for part in self.centroids)

    def ordered(self, order: npt.NDArray[np.int64]) -> "Quantised":
        """The rows in another order."""
        norm_codes = None if self.norm_codes is None else self.norm_codes[order]
        return Quantised(self.codes[order], self.centroids, norm_codes, self.norms)

    def blocks(self) -> Iterator[npt.NDArray[np.float32]]:
        """The unpacked rows, a few MB at a time."""
        step = _block_rows(self.shape[1])
        for low in range(0, len(self.codes), step):
            codes = self.codes[low : low + step]
            block = np.hstack([part[codes[:, p]] for p, part in enumerate(self.centroids)])
            if self.norm_codes is not None:
                block = self.norms[self.norm_codes[low : low + step], None] * block
            yield block


def _read_matrix(file: _File, name: str, quantised: bool) -> Dense | Quantised:
    has_norms = quantised and file.flag(f"{name} norm flag")
    rows, dim = (int(v) for v in file.array("<i8", 2, f"{name} shape"))
    if rows < 1 or dim < 1:
        raise file.bad(f"the {name} matrix is {rows} x {dim}")
    if rows * dim * 4 > _MOST_UNPACKED * file.size:
        raise file.bad(f"the {name} matrix of {rows} x {dim} is over {_MOST_UNPACKED} times the file")
    if not quantised:
        return Dense(file.array("<f4", rows * dim, name).reshape(rows, dim))
    code_bytes = file.number("<i4", f"{name} code size")
    codes = file.array("u1", code_bytes, f"{name} codes")
    centroids = _read_centroids(file, name, dim)
    if code_bytes != rows * len(centroids):
        raise file.bad(f"{name} has {code_bytes} codes for {rows} rows of {len(centroids)} parts")
    norm_codes, norms = None, np.ones(_CENTROIDS, np.float32)
    if has_norms:
        norm_codes = file.array("u1", rows, f"{name} norms")
        norms = _read_centroids(file, f"{name} norms", 1)[0][:, 0]
    return Quantised(codes.reshape(rows, -1), centroids, norm_codes, norms)


def _read_centroids(file: _File, name: str, dim: int) -> list[npt.NDArray[np.float32]]:
    """Codebooks of a product quantiser, one (256, width) a part; the last part may be narrower."""
    own_dim, parts, width, last = (int(v) for v in file.array("<i4", 4, f"{name} quantiser"))
    if own_dim != dim or width < 1 or parts != -(-dim // width) or last != dim - (parts - 1) * width:
        raise file.bad(
            f"{name} quantiser of {own_dim} in {parts} parts of {width} and {last}, for {dim} columns"
        )
    books = file.array("<f4", dim * _CENTROIDS, f"{name} centroids")
    edges = [min(p * width, dim) * _CENTROIDS for p in range(parts + 1)]
    return [books[a:b].reshape(_CENTROIDS, -1) for a, b in pairwise(edges)]


class ModelFile(NamedTuple):
    """A whole classifier."""

    settings: Settings
    words: Dictionary
    rows: Dense | Quantised  # (words + n-gram rows, dim)
    output: Dense | Quantised  # (labels, dim)


def read(path: Path, content: mmap.mmap) -> ModelFile:
    """Parse the mapped file; the arrays are views of `content`, which must stay open."""
    file = _File(path, content)
    settings = _read_settings(file)
    words = _read_dictionary(file)
    quantised = file.flag("input quantised flag")
    if words.pruned and not quantised:
        raise file.bad("pruned but not quantised, which fastText refuses too")
    rows = _read_matrix(file, "input", quantised)
    output_quantised = file.flag("output quantised flag")
    output = _read_matrix(file, "output", quantised and output_quantised)
    if file.at != file.size:
        raise file.bad(f"{file.size - file.at} bytes are left over at its end")
    if rows.shape[1] != settings.dim or output.shape != (len(words.labels), settings.dim):
        raise file.bad(
            f"matrices {rows.shape} and {output.shape} for {len(words.labels)} labels, dim {settings.dim}"
        )
    _check_rows(file, settings, words, rows.shape[0])
    if isinstance(rows, Quantised) and words.pruned:
        rows = rows.ordered(np.concatenate([np.arange(words.num_words), words.num_words + words.targets]))
    return ModelFile(settings, words, rows, output)


def _check_rows(file: _File, settings: Settings, words: Dictionary, rows: int) -> None:
    """Every row that a prediction may ask for exists; a kept bucket has one row and a row one bucket."""
    need = words.num_words
    if (settings.word_ngrams > 1 or settings.max_chars > 0) and not words.pruned:
        need += settings.num_buckets
    if len(words.buckets):
        for values, limit in ((words.buckets, settings.num_buckets), (words.targets, rows - words.num_words)):
            if values.min() < 0 or values.max() >= limit or len(np.unique(values)) < len(values):
                raise file.bad(
                    f"kept n-grams between {values.min()} and {values.max()}, not each once below {limit}"
                )
    if need > rows:
        raise file.bad(f"the input matrix has {rows} rows, words and n-grams need {need}")
    if words.pruned and settings.num_buckets > _MOST_BUCKETS:
        raise file.bad(f"{settings.num_buckets} buckets")
