"""`sample`: a uniform number per row that depends on its id and the seed alone."""

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from curate.errors import ConfigError
from curate.stages.sample import Config, sample


def hashes(ids: list[str | None], seed: int = 0) -> list[float | None]:
    batch = pa.record_batch({"id": pa.array(ids, pa.string()), "text": pa.array(ids, pa.large_string())})
    out = sample(batch, Config(seed=seed))
    assert out.select(["id", "text"]) == batch
    assert out.schema.field("sample_hash").type == pa.float64()
    found: list[float | None] = out["sample_hash"].to_pylist()
    return found


def test_by_hand() -> None:
    seed = xxhash.xxh3_64_intdigest(b"sample\x007")
    assert hashes(["a"], 7) == [(xxhash.xxh3_64_intdigest(b"a", seed) // 2048) / 2**53]
    assert hashes([]) == []


def test_nulls_stay_null() -> None:
    assert [value is None for value in hashes(["a", None, ""])] == [False, True, False]


def test_uniform_and_another_seed_is_another_sample() -> None:
    ids = [f"doc-{i}" for i in range(20_000)]
    zero, one = np.array(hashes(ids, 0)), np.array(hashes(ids, 1))
    assert zero.min() >= 0
    assert zero.max() < 1
    counts = np.histogram(zero, 20, (0, 1))[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 43.8  # chi-squared, 19 degrees of freedom, p = 0.001
    assert abs(np.corrcoef(zero, one)[0, 1]) < 0.03


@given(st.lists(st.none() | st.text(), max_size=30), st.integers(0, 30), st.randoms())
def test_slicing_and_order_change_nothing(ids: list[str | None], cut: int, random: object) -> None:
    whole = hashes(ids)
    assert hashes(ids[:cut]) + hashes(ids[cut:]) == whole
    assert hashes(ids[::-1]) == whole[::-1]


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ConfigError):
        Config(seed=-1)
