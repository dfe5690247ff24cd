"""In what order a token dataset is read: a stable shuffle by seed, a stable subset, or a column with a window.

Shuffle  by splitmix64(key ^ salt of the seed), ties by position: a document's place among others depends on its key and
         the seed alone, so documents that two datasets share come in the same order in both. Documents of one group
         have one key and stay together, in the order of the input.
Subset   documents whose hash, of another salt, is below the share: which ones are in depends on key and seed alone.
By       ascending by a number, nulls last; every `window` documents in a row are shuffled among themselves, and 1 is
         the strict order. Equal numbers come in the order of the shuffle.
Memory   bounded, whatever the number of documents: sorted out of core, the order is a mapped file of int64.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from curate.engine.shuffle import SortedWriter, merge
from curate.errors import ConfigError
from curate.train.tokens import Tokens

Order = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

_STEP, _FIRST, _SECOND = (np.uint64(c) for c in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_BATCH_ROWS = 1 << 20


class Subset(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A share of the documents, the same ones in every dataset that has them."""

    share: float  # of the documents (of the groups, where there are any)
    seed: int = 0  # another one takes other documents

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ConfigError(f"a subset is a share above 0 and at most 1, not {self.share}")


def splitmix64(values: Hashes) -> Hashes:
    """One step of splitmix64 for each value (n,). Steele et al. 2014, with the constants of Vigna's C code."""
    with np.errstate(over="ignore"):
        mixed = values + _STEP
        mixed = (mixed ^ (mixed >> np.uint64(30))) * _FIRST
        mixed = (mixed ^ (mixed >> np.uint64(27))) * _SECOND
    return mixed ^ (mixed >> np.uint64(31))


def hashes(keys: Hashes, seed: int, use: str) -> Hashes:
    """A uniform 64-bit number for each key (n,); another seed or use, other numbers."""
    return splitmix64(keys ^ np.uint64(xxhash.xxh3_64_intdigest(f"{use} {seed}")))


def order(tokens: Tokens, seed: int, scratch: Path, subset: Subset | None = None) -> Order:
    """Positions of the documents, shuffled: int64 (chosen,), mapped from a file in `scratch` that later calls reuse."""
    name = _name(tokens, ["key"], f"{seed} {subset}")
    if (scratch / name).exists():
        return _mapped(scratch / name)
    tables = (
        _table(hash=hashes(keys, seed, "order"), position=positions)
        for keys, positions in chosen(tokens, subset)
    )
    return _sorted(scratch, name, tables, ("hash", "position"))


def order_by(
    tokens: Tokens, column: str, window: int, seed: int, scratch: Path, subset: Subset | None = None
) -> Order:
    """Positions of the documents by a number of theirs, shuffled within windows; as `order` otherwise.

    Holds 16 bytes of each document in memory.
    """
    if window < 1:
        raise ConfigError(f"the window of an order is 1 document or more, not {window}")
    name = _name(tokens, ["key", column], f"{column} {window} {seed} {subset}")
    if (scratch / name).exists():
        return _mapped(scratch / name)
    numbers = _numbers(tokens, column)
    with TemporaryDirectory(dir=_made(scratch)) as folder:
        tables = (
            _table(number=numbers[positions], hash=hashes(keys, seed, "order"), position=positions)
            for keys, positions in chosen(tokens, subset)
        )
        by_number = _sorted(Path(folder), "by_number", tables, ("number", "hash", "position"))
        windows = (
            _table(
                window=np.arange(start, start + len(some), dtype=np.uint64) // np.uint64(window),
                hash=hashes(tokens.keys[some], seed, "window"),
                position=some,
            )
            for start, some in _pieces(by_number)
        )
        return _sorted(scratch, name, windows, ("window", "hash", "position"))


def chosen(tokens: Tokens, subset: Subset | None) -> Iterator[tuple[Hashes, Order]]:
    """Keys and positions of the documents that are in, some at a time."""
    start = 0
    for chunk in tokens.column("key").chunks:
        keys = chunk.to_numpy(zero_copy_only=True)
        positions = np.arange(start, start + len(keys))
        start += len(keys)
        if subset is not None and subset.share < 1:
            inside = hashes(keys, subset.seed, "subset") < np.uint64(subset.share * 2.0**64)
            keys, positions = keys[inside], positions[inside]
        yield keys, positions


def _numbers(tokens: Tokens, column: str) -> Hashes:
    """The column's numbers as uint64 in the same order (documents,); nulls and NaN last."""
    values = tokens.column(column)
    kind = values.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise ConfigError(f"documents cannot be ordered by `{column}`: it is {kind}, not a number")
    floats = pc.cast(values, pa.float64(), safe=False).to_numpy() + 0.0  # -0.0 is 0.0
    bits = floats.view(np.int64)
    # negative floats grow downwards, and come before the others
    mapped = np.where(bits < 0, ~bits, bits ^ np.int64(-(2**63))).view(np.uint64)
    mapped[np.isnan(floats)] = np.uint64(2**64 - 1)
    return mapped


def _pieces(order: Order) -> Iterator[tuple[int, Order]]:
    for start in range(0, len(order), _BATCH_ROWS):
        yield start, np.array(order[start : start + _BATCH_ROWS])


def _table(**columns: npt.NDArray[np.generic]) -> pa.Table:
    return pa.table({name: pa.array(values) for name, values in columns.items()})


def _name(tokens: Tokens, columns: list[str], what: str) -> str:
    """Name of an order's file: made of what decides it."""
    digest = xxhash.xxh3_128(what)
    for column in columns:
        for chunk in tokens.column(column).chunks:
            for buffer in chunk.buffers():
                digest.update(buffer or b"")
    return f"order-{digest.hexdigest()}.npy"


def _sorted(scratch: Path, name: str, tables: Iterator[pa.Table], key: tuple[str, ...]) -> Order:
    """Sort tables by `key`; the positions, in that order, become the file `name`."""
    with TemporaryDirectory(dir=_made(scratch)) as folder:
        path, target = Path(folder) / "rows", Path(folder) / "order"
        with open(path, "wb") as sink:
            writer = SortedWriter(sink, key, Path(folder) / "runs")
            for table in tables:
                if table.num_rows:
                    writer.write(table)
            writer.close()
        file = np.lib.format.open_memmap(target, "w+", np.int64, (writer.rows,))  # type: ignore[no-untyped-call]
        with open(path, "rb") as source:
            at = 0
            for table in merge([source], key) if writer.rows else ():
                file[at : at + table.num_rows] = table["position"].to_numpy()
                at += table.num_rows
        file.flush()
        os.replace(target, scratch / name)
    return _mapped(scratch / name)


def _mapped(path: Path) -> Order:
    found: Order = np.load(path, mmap_mode="r")
    return found


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
