"""A number in [0, 1) for each row, uniform and fixed by the row's id: what a sample is cut from.

Reads   id           string (n,)
Writes  sample_hash  float64 (n,), in [0, 1); null where the id is null
Rows    all kept, in order; `select: "sample_hash < 0.01"` keeps 1%, and each smaller share lies in every larger one
Fails   ConfigError for a seed below 0
"""

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from curate.errors import ConfigError
from curate.stage import stage


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    seed: int = 0  # another seed draws another sample

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ConfigError("`seed` must not be negative", hint="use 0, 1, 2, ...")


def uniform(ids: pa.Array, domain: str, seed: int) -> npt.NDArray[np.float64]:
    """A hash of each id in [0, 1); other domains and seeds give independent numbers. Nulls read as ''."""
    start = xxhash.xxh3_64_intdigest(f"{domain}\0{seed}".encode())
    digest = xxhash.xxh3_64_intdigest
    hashes = np.fromiter((digest(i or "", start) for i in ids.to_pylist()), np.uint64, len(ids))
    return np.ldexp(
        (hashes >> np.uint64(11)).astype(np.float64), -53
    )  # 53 bits are exact, so 1.0 never comes


@stage("sample", version=1, config=Config, reads=["id"], writes={"sample_hash": pa.float64()})
def sample(batch: pa.RecordBatch, config: Config) -> pa.RecordBatch:
    """Add `sample_hash`."""
    ids = batch["id"]
    hashes = uniform(ids, "sample", config.seed)
    return batch.append_column(
        "sample_hash", pa.array(hashes, mask=ids.is_null().to_numpy(zero_copy_only=False))
    )
