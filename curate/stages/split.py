"""Train or held-out, by a hash of the duplicate cluster, so that no cluster is on both sides.

Reads   id, and the column named by `cluster` (a string or a whole number)
Writes  split  string (n,), "train" or "held_out"
Rows    all kept, in order; `select: "split = 'train'"` parts them
Differs a row without a cluster (null) counts as a cluster of its own, named by its id
Fails   ConfigError for a share outside 0 to 1, a negative seed or a `cluster` of another type; DataError where a row
        has neither cluster nor id

Put it after the dedup stage: `split: {cluster: exact_dedup_cluster_id}`. By default the id is the cluster.
"""

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import ConfigError, DataError
from curate.stage import stage
from curate.stages.sample import uniform


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    held_out: float = 0.01  # share of clusters that is held out, 0 to 1
    cluster: str = "id"  # column with the id of the duplicate cluster, for example exact_dedup_cluster_id
    seed: int = 0  # another seed holds out other clusters

    def __post_init__(self) -> None:
        if not 0 <= self.held_out <= 1:
            raise ConfigError(
                "`held_out` must be between 0 and 1", hint="0.01 holds out one cluster in a hundred"
            )
        if self.seed < 0:
            raise ConfigError("`seed` must not be negative", hint="use 0, 1, 2, ...")
        if not self.cluster:
            raise ConfigError("`cluster` must name a column", hint="leave it out to split by id")


def _reads(config: Config) -> list[str]:
    return list(dict.fromkeys(["id", config.cluster]))


@stage("split", version=1, config=Config, reads=_reads, writes={"split": pa.string()})
def split(batch: pa.RecordBatch, config: Config) -> pa.RecordBatch:
    """Add `split`."""
    cluster = batch[config.cluster]
    if not (
        pa.types.is_integer(cluster.type)
        or pa.types.is_string(cluster.type)
        or pa.types.is_large_string(cluster.type)
    ):
        raise ConfigError(
            f"`{config.cluster}` is {cluster.type}", hint="a cluster is a string or a whole number"
        )
    cluster = pc.coalesce(cluster.cast(pa.string()), batch["id"].cast(pa.string()))
    if cluster.null_count:
        row = int(np.flatnonzero(cluster.is_null().to_numpy(zero_copy_only=False))[0])
        raise DataError(
            f"row {row} of the batch has neither `{config.cluster}` nor `id`", hint="give every row an id"
        )
    # the domain differs from sample's: a 1% sample must not be the held-out 1%
    held_out = uniform(cluster, "split", config.seed) < config.held_out
    return batch.append_column("split", pa.array(np.where(held_out, "held_out", "train"), pa.string()))
