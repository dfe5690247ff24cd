"""fastText classifiers, read by our own kernel: convert a .bin or .ftz once, map it, predict.

A converted model is a folder of .npy arrays and header.json, named by the sha256 of its source, so that every worker
of a machine shares its pages. Quantised matrices are unpacked into it: a .ftz grows to the size of its dense form. A
model with fewer labels than dimensions (a quality classifier) is stored as its rows' scores for each label: the output
layer is linear in the mean of rows, so the answer is the same, and 800 MB of bigrams become 16.

Labels and probabilities are the library's for one line and k=1: a newline counts as a space, the end-of-sentence token
is added, `</s>` as a word of its own ends the text, words that begin with `__label__` are skipped. The probability of
a tree (hierarchical softmax) may pass 1 by 1e-5 a level, as the library's does.
Not covered: word vectors (cbow, skipgram), k > 1.
"""

import hashlib
import mmap
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from curate.errors import ModelError
from curate.models.fasttext_file import Dense, Dictionary, Quantised, read

FORMAT = 3  # of the converted folder; a change leaves old ones unused
# Word sums that a worker keeps: the small cache stays in a core's own, the large one answers for most of its misses.
_NEAR_BYTES, _FAR_BYTES = 1 << 20, 1 << 25


class Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """header.json of a converted model."""

    source_sha256: str
    labels: list[str]
    loss: str
    num_words: int
    num_buckets: int
    pruned: bool
    min_chars: int
    max_chars: int
    word_ngrams: int
    arrays: dict[str, tuple[str, list[int]]]  # name: type, shape


class Model:
    """A mapped classifier with this worker's cache of word sums. Not for two threads at once."""

    def __init__(self, header: Header, arrays: dict[str, npt.NDArray[Any]]) -> None:
        from curate.kernels.fasttext import new_cache
        from curate.kernels.fasttext_rows import Tables

        self.header = header
        self.labels = header.labels
        self._output = arrays["output"]
        self._tree = arrays.get("tree")
        self._tables = Tables(
            rows=arrays["rows"],
            entry_bytes=arrays["entry_bytes"],
            entry_offsets=arrays["entry_offsets"],
            entry_slots=arrays["entry_slots"],
            kept=arrays["kept"],
            num_words=header.num_words,
            num_buckets=header.num_buckets,
            pruned=header.pruned,
            min_chars=header.min_chars,
            max_chars=header.max_chars,
            word_ngrams=header.word_ngrams,
        )
        dim = self._output.shape[1]
        self._near, self._far = new_cache(_NEAR_BYTES, dim), new_cache(_FAR_BYTES, dim)

    def predict(
        self, data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """Most probable label of each document, as `schema.text_buffers` gives them.

        Returns (index into `labels`, probability), int32 and float32 (n,). The index is -1 where nothing of the
        document, not even the end of its line, is known to the model: there the library has no answer either.
        """
        from curate.kernels.fasttext import hidden_vectors
        from curate.kernels.fasttext_output import predict_flat, predict_tree

        hidden, known = hidden_vectors(
            _read_only(data), _read_only(offsets), self._tables, self._near, self._far
        )
        if self._tree is not None:
            return predict_tree(hidden, known, self._output, self._tree)  # type: ignore[no-any-return]
        return predict_flat(hidden, known, self._output, self.header.loss == "softmax")  # type: ignore[no-any-return]


def _read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A view that numba types as read-only whatever its source: one compiled kernel instead of several."""
    view = array.view()
    view.flags.writeable = False
    return view


def convert(path: Path, store: Path) -> Path:
    """Make a .bin or .ftz mappable, once: returns the folder in `store` that `load` opens.

    Many workers may do it at once: each writes a folder of its own and the first rename wins.
    """
    try:
        source = open(path, "rb")  # noqa: SIM115
    except OSError as error:
        raise ModelError(f"cannot open the model file: {error.strerror}", where=str(path)) from None
    with source:
        sha256 = hashlib.file_digest(source, "sha256").hexdigest()
        target = store / "models" / f"fasttext-{FORMAT}-{sha256}"
        if (target / "header.json").is_file():
            return target
        if os.fstat(source.fileno()).st_size == 0:
            raise ModelError("the model file is empty", where=str(path), hint="fetch or train it again")
        content = mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ)  # closed with the last view of it
    attempt = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    attempt.mkdir(parents=True)
    try:
        _write(attempt, path, content, sha256)
        _publish(attempt, target)
    finally:
        shutil.rmtree(attempt, ignore_errors=True)
    return target


def _publish(attempt: Path, target: Path) -> None:
    try:
        attempt.rename(target)
    except OSError:
        if not (target / "header.json").is_file():  # else another worker was first
            raise


def _write(folder: Path, path: Path, content: mmap.mmap, sha256: str) -> None:
    settings, words, rows, output = read(path, content)
    arrays = _lookups(words, settings.num_buckets, path)
    if settings.loss == "hs":
        arrays["tree"] = huffman_tree(words.label_counts)
    weights = np.concatenate(list(output.blocks()))  # (labels, dim)
    if not np.isfinite(weights).all():
        raise ModelError("weights that are not finite", where=str(path), hint="fetch or train the file again")
    project = weights.shape[0] < weights.shape[1]
    arrays["output"] = np.eye(len(weights), dtype=np.float32) if project else np.asarray(weights, np.float32)
    for name, values in arrays.items():
        np.save(folder / f"{name}.npy", values)
    shapes = {name: (str(values.dtype), list(values.shape)) for name, values in arrays.items()}
    shapes["rows"] = ("float32", [rows.shape[0], min(weights.shape)])
    _write_rows(folder / "rows.npy", rows, weights if project else None, path)
    header = Header(
        source_sha256=sha256,
        labels=words.labels,
        loss=settings.loss,
        num_words=words.num_words,
        num_buckets=settings.num_buckets,
        pruned=words.pruned,
        min_chars=settings.min_chars,
        max_chars=settings.max_chars,
        word_ngrams=settings.word_ngrams,
        arrays=shapes,
    )
    (folder / "header.json").write_bytes(msgspec.json.encode(header))


def _write_rows(
    target: Path, rows: Dense | Quantised, project: npt.NDArray[np.float32] | None, path: Path
) -> None:
    num_columns = rows.shape[1] if project is None else len(project)
    with open(target, "wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (rows.shape[0], num_columns)}
        np.lib.format.write_array_header_1_0(file, header)  # type: ignore[no-untyped-call]
        for block in rows.blocks():  # written, not mapped: a full disk is an OSError then, not a SIGBUS
            wanted = block if project is None else _projected(block, project)
            if not np.isfinite(wanted).all():
                raise ModelError(
                    "weights that are not finite", where=str(path), hint="fetch or train the file again"
                )
            file.write(np.ascontiguousarray(wanted, "<f4").data)


def _projected(block: npt.NDArray[np.float32], output: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Each row's dot product with each label, (rows, labels): column by column, so that no BLAS decides the last bit."""
    total = np.zeros((len(block), len(output)))
    with np.errstate(all="ignore"):
        for q in range(block.shape[1]):
            total += np.multiply.outer(block[:, q], output[:, q], dtype=np.float64)
        return total.astype(np.float32)


def _lookups(words: Dictionary, num_buckets: int, path: Path) -> dict[str, npt.NDArray[Any]]:
    from curate.kernels.fasttext_rows import fill_entry_slots

    entry_slots = np.full(_slots(len(words.entry_offsets)), -1, np.int32)
    if not fill_entry_slots(words.entry_bytes, words.entry_offsets, entry_slots):
        raise ModelError(
            "the dictionary holds a word twice", where=str(path), hint="fetch or train the file again"
        )
    return {
        "entry_bytes": words.entry_bytes,
        "entry_offsets": words.entry_offsets,
        "entry_slots": entry_slots,
        "kept": _rank_bits(words.buckets, num_buckets if words.pruned else 0),
    }


def _rank_bits(buckets: npt.NDArray[np.int32], num_buckets: int) -> npt.NDArray[np.uint64]:
    """One number for 32 buckets: low half, a bit for each that was kept; high half, how many were kept before."""
    kept = np.zeros(num_buckets // 32 + 1, np.uint64)
    np.bitwise_or.at(kept, buckets >> 5, np.uint64(1) << (buckets & 31).astype(np.uint64))
    before = np.cumsum(np.bincount(buckets >> 5, minlength=len(kept))) - np.bincount(
        buckets >> 5, minlength=len(kept)
    )
    return kept | before.astype(np.uint64) << np.uint64(32)


def _slots(count: int) -> int:
    return 1 << max(2 * count, 1).bit_length()


def huffman_tree(counts: list[int]) -> npt.NDArray[np.int32]:
    """Left and right child of each node, int32 (2, 2n - 1): n leaves first (-1), then inner nodes, the root last.

    `counts` fall, as in every file; leaves are taken from the end, inner nodes in the order they were made.
    """
    n = len(counts)
    tree = np.full((2, 2 * n - 1), -1, np.int32)
    weights = counts + [10**15] * (n - 1)
    leaf, inner = n - 1, n
    for node in range(n, 2 * n - 1):
        for side in range(2):
            if leaf >= 0 and weights[leaf] < weights[inner]:
                tree[side, node], leaf = leaf, leaf - 1
            else:
                tree[side, node], inner = inner, inner + 1
        weights[node] = weights[tree[0, node]] + weights[tree[1, node]]
    return tree


def load(folder: Path) -> Model:
    """Open what `convert` made; the arrays are mapped, not read."""
    try:
        header = msgspec.json.decode((folder / "header.json").read_bytes(), type=Header)
        arrays = {name: _map(folder / f"{name}.npy", *kind) for name, kind in header.arrays.items()}
    except (OSError, EOFError, ValueError, msgspec.DecodeError) as error:
        raise ModelError(
            f"the converted model is damaged: {error}",
            where=str(folder),
            hint="delete this folder; it is made again",
        ) from None
    return Model(header, arrays)


def _map(path: Path, dtype: str, shape: list[int]) -> npt.NDArray[Any]:
    if 0 in shape:  # a file without bytes cannot be mapped
        return _read_only(np.zeros(shape, dtype))
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.dtype != dtype or list(array.shape) != shape:
        raise ValueError(f"{path.name} is {array.dtype} {array.shape}, not {dtype} {shape}")
    return _read_only(np.asarray(array))
