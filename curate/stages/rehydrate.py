"""Repeats documents by how many duplicates they stood for.

Paper   Penedo et al. 2025 (FineWeb2), arXiv:2506.20920: what is met often, but not everywhere, is worth reading again
Reads   id      string (n,)
        column  integer (n,): `minhash_dedup_cluster_size` unless `column` names another; null counts as 1
Writes  parent_id  string, null for the rows that came in; for a copy the id of the row it is a copy of
Rows    all kept, in order, each followed by its copies: of size s there are as many rows in all as `weights` gives
        for the largest size at most s. The id of a copy is a hash of its parent's, `column` and its number; where steps
        before have made rows, of how many did, too
Differs copies stand side by side: shuffle before training. A dedup stage behind it takes the copies out again
Fails   ConfigError at load when sizes do not grow from 1 or a weight is below 1; at plan when the column is not there or
        is no integer, and with `when`
"""

from collections.abc import Mapping

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from curate.errors import ConfigError
from curate.stage import stage

FINEWEB2 = ((1, 1), (2, 2), (3, 3), (5, 5), (100, 8), (1000, 1))


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    column: str = "minhash_dedup_cluster_size"  # how many documents a row stands for
    weights: tuple[tuple[int, int], ...] = FINEWEB2  # [size, rows in all] from that size on

    def __post_init__(self) -> None:
        sizes = [size for size, _ in self.weights]
        if not sizes or sizes[0] != 1 or sizes != sorted(set(sizes)):
            raise ConfigError("the sizes in `weights` grow from 1", hint="as in [[1, 1], [2, 2], [100, 8]]")
        if any(weight < 1 for _, weight in self.weights):
            raise ConfigError(
                "a weight below 1 would drop rows", hint="`select` drops: `minhash_dedup_cluster_size < 1000`"
            )


def check(config: Config, columns: Mapping[str, pa.DataType]) -> None:
    """Refuse a column that counts nothing."""
    if not pa.types.is_integer(columns[config.column]):
        raise ConfigError(f"`column: {config.column}` is {columns[config.column]}, no integer")


@stage(
    "rehydrate", version=3, config=Config, reads=lambda config: ["id", config.column],
    writes={"parent_id": pa.string()}, makes_rows=True, check=check, libraries=["xxhash"],
)  # fmt: skip
def rehydrate(batch: pa.RecordBatch, config: Config) -> pa.RecordBatch:
    """Add copies."""
    sizes, weights = np.array(config.weights, np.int64).T
    size = np.maximum(pc.fill_null(batch.column(config.column), 1).to_numpy().astype(np.int64), 1)
    times = weights[np.searchsorted(sizes, size, side="right") - 1]
    ends = np.cumsum(times)
    number = np.arange(ends[-1] if len(ends) else 0) - np.repeat(
        ends - times, times
    )  # of the copy; 0 is the row itself
    out = batch.take(pa.array(np.repeat(np.arange(batch.num_rows), times)))
    own = out.column("id")
    # an earlier step of this stage may have made the same copies
    makers = sum(name.rstrip("\0").endswith("parent_id") for name in batch.schema.names)
    what = f"{config.column}\0{makers}" if makers else config.column
    ids = [
        xxhash.xxh3_128_hexdigest(f"{parent}\0{what}\0{n}") if n else parent
        for parent, n in zip(own.to_pylist(), number.tolist(), strict=True)
    ]
    place = out.schema.get_field_index("id")
    made = out.set_column(place, batch.schema.field("id"), pa.array(ids, pa.string()))
    return made.append_column(
        "parent_id", pc.if_else(pa.array(number > 0), own, pa.scalar(None, pa.string()))
    )
