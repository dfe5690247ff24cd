"""The rows of a semantic cluster in their order: each goes with a kept one before it that it is too much like, or stays."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import DataError

if TYPE_CHECKING:
    from curate.stages.semantic_dedup import Config

Vectors = npt.NDArray[np.float32]
BLOCK = 1024  # rows compared at once with as many


def as_vectors(column: pa.ChunkedArray) -> Vectors:
    """Float32 (n, dimensions). DataError where they are not alike long."""
    lengths = pc.unique(pc.list_value_length(column)).to_pylist()
    if len(lengths) != 1:
        hint = "one model makes all embeddings; a row without one has null"
        raise DataError(f"some embeddings have {min(lengths)} numbers, some {max(lengths)}", hint=hint)
    flat = pc.list_flatten(column).to_numpy()
    return flat.reshape(-1, lengths[0])  # type: ignore[no-any-return]


class Walk:
    """The rows of a cluster in their order; those compared with lie in a file, a block of them in memory."""

    def __init__(self, file: Path, config: "Config") -> None:
        self.dropped = 0
        self._file, self._least, self._cascade = file, 1 - config.eps, config.cascade
        self._rows = 0  # in the file
        self._orders: list[int] = []  # of the row that stands for each of them, with its id
        self._ids: list[str] = []
        self._sizes: dict[int, int] = {}  # of kept rows, by order
        self._names: dict[int, str] = {}

    def next(self, block: pa.Table) -> pa.Table:
        """Records of the rows of a block that go."""
        vectors = as_vectors(block["embedding"])
        orders, ids = block["order"].to_pylist(), block["id"].to_pylist()
        best, which = self._closest(vectors)
        to = np.ascontiguousarray((vectors @ vectors.T).T)  # of each row the cosines of the others to it
        closest = np.full(len(orders), -1)  # row of the block that is closer than any of the file
        kept_for: dict[int, tuple[int, str]] = {}  # row of the block -> who stands for it
        stands: list[int] = []  # rows of the block that later ones are compared with
        gone: dict[str, list[Any]] = {"order": [], "kept_id": [], "similarity": []}
        for i, (order, name) in enumerate(zip(orders, ids, strict=True)):
            if best[i] > self._least:
                at = int(which[i])
                by = kept_for[int(closest[i])] if closest[i] >= 0 else (self._orders[at], self._ids[at])
                self._sizes[by[0]] += 1
                for column, value in zip(gone.values(), (order, by[1], float(best[i])), strict=True):
                    column.append(value)
            else:
                by = order, name
                self._sizes[order], self._names[order] = 1, name
            kept_for[i] = by
            if self._cascade or by[0] == order:
                stands.append(i)
                closer = to[i] > best
                best[closer], closest[closer] = to[i, closer], i
        self.dropped += len(gone["order"])
        self._append(vectors[stands], [kept_for[i] for i in stands])
        return records_of(gone["order"], gone["kept_id"], [0] * len(gone["order"]), gone["similarity"])

    def end(self) -> pa.Table:
        """Records of the rows that stand for others; the file is removed."""
        self._file.unlink(missing_ok=True)
        several = [(order, size) for order, size in self._sizes.items() if size > 1]
        orders = [order for order, _ in several]
        return records_of(
            orders,
            [self._names[order] for order in orders],
            [size for _, size in several],
            [None] * len(several),
        )

    def _closest(self, vectors: Vectors) -> tuple[Vectors, npt.NDArray[np.int64]]:
        """Cosine to the most alike row of the file, and which it is."""
        best = np.full(len(vectors), -2, np.float32)
        which = np.zeros(len(vectors), np.int64)
        if not self._rows:
            return best, which
        file = np.memmap(self._file, np.float32, "r", shape=(self._rows, vectors.shape[1]))
        for start in range(0, self._rows, BLOCK):
            cosines = vectors @ np.array(file[start : start + BLOCK]).T
            nearest = cosines.argmax(axis=1)
            highest = cosines[np.arange(len(vectors)), nearest]
            better = highest > best
            best[better], which[better] = highest[better], nearest[better] + start
        return best, which

    def _append(self, vectors: Vectors, stand: list[tuple[int, str]]) -> None:
        with open(self._file, "ab") as file:
            file.write(np.ascontiguousarray(vectors).tobytes())
        self._rows += len(vectors)
        self._orders += [order for order, _ in stand]
        self._ids += [name for _, name in stand]


def records_of(
    orders: list[int], kept: list[str], sizes: list[int], similarities: list[float | None]
) -> pa.Table:
    return pa.table({
        "order": pa.array(orders, pa.uint64()),
        "kept_id": pa.array(kept, pa.string()),
        "size": pa.array(sizes, pa.int64()),
        "similarity": pa.array(similarities, pa.float64()),
    })  # fmt: skip
