"""Orders: permutations that key and seed alone decide, in any dataset and whatever the memory."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from curate.engine import shuffle
from curate.errors import ConfigError
from curate.train.order import Subset, hashes, order, order_by, splitmix64
from curate.train.tokens import Tokens

Write = Callable[..., Path]


def slow_splitmix64(state: int) -> int:
    mask = 2**64 - 1
    z = (state + 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


def made(write: Write, keys: list[int], **more: object) -> Tokens:
    return Tokens.open(write([[5]] * len(keys), keys=keys, name=f"t{hash((tuple(keys), str(more)))}", **more))


def test_splitmix64_is_the_published_one() -> None:
    # the first numbers of the reference generator started at 0
    assert splitmix64(np.zeros(1, np.uint64)).tolist() == [0xE220A8397B1DCDAF]
    values = np.random.default_rng(0).integers(0, 2**64, 1000, np.uint64)
    assert splitmix64(values).tolist() == [slow_splitmix64(int(v)) for v in values]


def test_a_permutation_by_key_and_seed(token_dataset: Write, tmp_path: Path) -> None:
    keys = np.random.default_rng(1).integers(0, 2**64, 500, np.uint64).tolist()
    tokens = made(token_dataset, keys)
    first = order(tokens, 7, tmp_path / "orders")
    assert isinstance(first, np.memmap)
    assert sorted(first.tolist()) == list(range(500))
    assert first.tolist() == np.argsort(hashes(tokens.keys, 7, "order"), kind="stable").tolist()
    assert order(tokens, 8, tmp_path / "orders").tolist() != first.tolist()
    files = sorted((tmp_path / "orders").iterdir())
    assert len(files) == 2  # and nothing that was needed on the way
    assert order(tokens, 7, tmp_path / "orders").tolist() == first.tolist()
    assert sorted((tmp_path / "orders").iterdir()) == files
    # documents that another dataset shares, elsewhere in it, come in the same order there
    some = keys[100:400][::-1]
    fewer = order(made(token_dataset, some), 7, tmp_path / "orders")
    assert [some[i] for i in fewer] == [keys[i] for i in first if keys[i] in set(some)]


def test_one_group_stays_together_in_its_order(token_dataset: Write, tmp_path: Path) -> None:
    keys = [i % 7 for i in range(70)]
    found = order(made(token_dataset, keys), 3, tmp_path)
    groups = [keys[i] for i in found]
    assert sum(a != b for a, b in itertools.pairwise(groups)) == 6
    for group in range(7):
        assert [i for i in found if keys[i] == group] == list(range(group, 70, 7))


def test_out_of_core_is_the_same(
    token_dataset: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = np.random.default_rng(2).integers(0, 50, 400, np.uint64).tolist()
    columns = {"score": np.random.default_rng(3).normal(size=400).round(1).tolist()}
    tokens = made(token_dataset, keys, columns=columns)
    whole = order(tokens, 0, tmp_path / "a"), order_by(tokens, "score", 9, 0, tmp_path / "a")
    monkeypatch.setattr(shuffle, "RUN_BYTES", 500)
    spilled = order(tokens, 0, tmp_path / "b"), order_by(tokens, "score", 9, 0, tmp_path / "b")
    assert [o.tolist() for o in whole] == [o.tolist() for o in spilled]


def test_a_subset_is_of_the_same_documents_everywhere(token_dataset: Write, tmp_path: Path) -> None:
    keys = np.random.default_rng(4).integers(0, 2**64, 2000, np.uint64).tolist()
    tokens, half = made(token_dataset, keys), made(token_dataset, keys[::2])
    quarter = Subset(share=0.25)
    found = {keys[i] for i in order(tokens, 1, tmp_path, quarter)}
    assert 400 < len(found) < 600  # 500 +- 5 standard deviations
    assert {keys[i] for i in order(tokens, 2, tmp_path, quarter)} == found
    assert {keys[::2][i] for i in order(half, 1, tmp_path, quarter)} == found & set(keys[::2])
    assert {keys[i] for i in order(tokens, 1, tmp_path, Subset(share=0.5))} > found
    other = {keys[i] for i in order(tokens, 1, tmp_path, Subset(share=0.25, seed=9))}
    assert 80 < len(other & found) < 170  # independent: a quarter of a quarter is 125
    assert len(order(tokens, 1, tmp_path, Subset(share=1))) == 2000
    assert order(made(token_dataset, [5, 6]), 0, tmp_path, Subset(share=1e-12)).tolist() == []
    with pytest.raises(ConfigError):
        Subset(share=0)


def test_by_a_column_within_a_window(token_dataset: Write, tmp_path: Path) -> None:
    scores = [3.0, -1.5, None, 0.0, -0.0, 7.25, -2e300, float("nan"), 1e-300, float("inf")]
    tokens = made(token_dataset, list(range(10)), columns={"score": scores, "word": ["a"] * 10})
    strict = order_by(tokens, "score", 1, 0, tmp_path).tolist()
    assert strict[:2] == [6, 1]
    assert set(strict[2:4]) == {3, 4}
    assert strict[4:8] == [8, 0, 5, 9]
    assert set(strict[8:]) == {2, 7}
    found = order_by(tokens, "score", 4, 0, tmp_path).tolist()
    assert [set(found[i : i + 4]) for i in (0, 4, 8)] == [set(strict[i : i + 4]) for i in (0, 4, 8)]
    assert found != strict
    assert order_by(tokens, "score", 4, 1, tmp_path).tolist() != found
    with pytest.raises(ConfigError, match="`word`"):
        order_by(tokens, "word", 1, 0, tmp_path)
    with pytest.raises(ConfigError, match="window"):
        order_by(tokens, "score", 0, 0, tmp_path)
