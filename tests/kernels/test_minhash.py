"""Signatures: golden values, equal to the real datasketch and to slow Python; bands that find what they promise."""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasketch import MinHash
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import ConfigError
from curate.kernels.minhash import (
    EMPTY,
    affine61,
    band_keys,
    datasketch_plan,
    permutations,
    plan,
    predicted_recall,
    sign,
    signatures,
    signatures_and_sets,
)
from curate.kernels.sha1 import sha1_low
from curate.kernels.shingles import Normal, shingles
from curate.schema import text_buffers

sys.path.insert(0, str(Path(__file__).parent))
import slow_shingles as slow

P = 2**61 - 1
OF_DATASKETCH = {"datasketch": "legacy", "affine32": "affine32"}


def column(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    return text_buffers(pa.array(texts, pa.large_string()))


def test_parameters_and_values_of_datasketch_by_hand() -> None:
    drawn = permutations("datasketch", 128, 1)
    assert drawn.a[:2].tolist() == [775169054918279404, 2109959069025162]
    assert drawn.b[:2].tolist() == [1758426461858698312, 965365488286768773]
    hello, room = np.frombuffer(b"hello", np.uint8), (np.empty(80, np.uint32), np.empty(5, np.uint32))
    h = sha1_low(hello, 0, 5, *room)
    assert h == 499578026
    assert affine61(np.uint64(h), drawn.a[0], drawn.b[0]) & 0xFFFFFFFF == 228630785


def test_values_of_datatrove_by_hand() -> None:
    draw = np.random.RandomState(1)
    a, b = draw.randint(1, P, 112, dtype=np.uint64), draw.randint(0, P, 112, dtype=np.uint64)
    assert a[:2].tolist() == [775169054918279404, 1758426461858698313]
    assert b[0] == 1062448801025099917
    hello, state = np.frombuffer(b"hello", np.uint8), np.empty(5, np.uint32)
    sha1_low(hello, 0, 5, np.empty(80, np.uint32), state)
    h = np.frombuffer(state[:2].astype(">u4").tobytes(), "<u8")[0]
    assert h == 11738849977924252842
    assert affine61(h, a[0], b[0]) == 654673216207885643


def datasketch_of(words: list[str], ngram: int, num_perm: int, seed: int, scheme: str) -> np.ndarray:
    sketch = MinHash(num_perm, seed, scheme=OF_DATASKETCH[scheme])
    sketch.update_batch([" ".join(gram).encode() for gram in slow.ngrams(words, ngram)])
    return sketch.hashvalues


@pytest.mark.parametrize("scheme", OF_DATASKETCH)
def test_200_real_documents_have_the_signatures_of_datasketch(scheme: str, shared_data: Path) -> None:
    texts: list[str] = []
    for path in sorted((shared_data / "text").glob("*.parquet")):
        texts += pq.read_table(path, columns=["text"])["text"].drop_null().slice(0, 25).to_pylist()
    texts = [text[:2500] for text in texts][:200]
    assert len(texts) == 200
    found = signatures(*column(texts), permutations(scheme, 128, 1)).signatures
    for text, row in zip(texts, found, strict=True):
        words = slow.normalised(text, Normal())
        assert row.tolist() == datasketch_of(words, 5, 128, 1, scheme).tolist()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.text("ab é中B,.", max_size=60), max_size=4),
    st.integers(1, 6), st.sampled_from([1, 3, 16, 128]), st.integers(0, 2**32 - 1), st.sampled_from(list(OF_DATASKETCH)),
)  # fmt: skip
def test_signatures_are_those_of_datasketch(
    texts: list[str], ngram: int, num_perm: int, seed: int, scheme: str
) -> None:
    found = signatures(*column(texts), permutations(scheme, num_perm, seed), ngram).signatures
    for text, row in zip(texts, found, strict=True):
        words = slow.normalised(text, Normal())
        assert row.tolist() == datasketch_of(words, ngram, num_perm, seed, scheme).tolist()


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 2**64 - 1), max_size=150), max_size=4),
    st.sampled_from([1, 5, 16, 112, 128]),
    st.integers(0, 2**32 - 1),
)
def test_fast_signatures_are_those_of_datasketch_with_our_hash(
    sets: list[list[int]], num_perm: int, seed: int
) -> None:
    hashes, offsets = (
        np.array([number for numbers in sets for number in numbers], np.uint64),
        np.cumsum([0, *map(len, sets)]),
    )
    found = sign(hashes, offsets, permutations("fast", num_perm, seed))
    for numbers, row in zip(sets, found, strict=True):
        sketch = MinHash(num_perm, seed, hashfunc=lambda number: number & 0xFFFFFFFF)
        sketch.update_batch(numbers)
        assert row.tolist() == sketch.hashvalues.tolist()


@pytest.mark.parametrize("scheme", ["fast", "affine32", "datasketch"])
def test_signing_in_one_pass_is_shingling_then_signing(scheme: str, shared_data: Path) -> None:
    path = shared_data / "text" / "en_python_peps.parquet"
    texts = pq.read_table(path, columns=["text"])["text"].drop_null().slice(0, 40).to_pylist()
    texts += ["", "too short", "just five words of text", "中文東京 タワー"]
    drawn, normal = permutations(scheme, 100, 3), Normal(accents=True)
    signed = signatures(*column(texts), drawn, 4, normal)
    found = shingles(*column(texts), 4, normal, drawn.sha1)
    assert np.array_equal(signed.signatures, sign(found.hashes, found.offsets, drawn))
    assert signed.words.tolist() == found.words.tolist()
    assert signed.digests.tolist() == found.digests.tolist()
    again, sets = signatures_and_sets(*column(texts), drawn, 4, normal)
    for ours, theirs in zip(again, signed, strict=True):
        assert np.array_equal(ours, theirs)
    for row in range(len(texts)):
        whole = found.hashes[found.offsets[row] : found.offsets[row + 1]]
        halves = sets.hashes[sets.offsets[row] : sets.offsets[row + 1]]
        assert halves.tolist() == np.unique(whole & np.uint64(0xFFFFFFFF)).tolist()
    assert (signed.signatures[-4:-2] == EMPTY).all()
    assert (signed.signatures[-2:] != EMPTY).all()


def test_keys_stay_what_they_are() -> None:
    # indexes on disk hold them: whoever changes them has to raise the stage's version
    found = signatures(*column(["One fish two fish red fish, blue fish."]), permutations("fast", 6, 1))
    keys = band_keys(found.signatures, 2, 3)
    assert keys.tolist() == [[2467753319565085336, 10840682425707200935]]


def test_a_scheme_that_does_not_exist() -> None:
    with pytest.raises(ConfigError, match="no MinHash scheme is called `sha1`"):
        permutations("sha1", 128, 1)


def pairs_of_sets(similarity: float, pairs: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Random sets of 64-bit numbers; 2i and 2i + 1 have this Jaccard similarity exactly."""
    size = 200
    shared = round(size * similarity)
    each = (size - shared) // 2
    numbers = np.random.default_rng(seed).integers(0, 2**64, (pairs, shared + 2 * each), dtype=np.uint64)
    left, right = numbers[:, : shared + each], np.delete(numbers, np.s_[shared : shared + each], axis=1)
    both = np.stack([left, right], axis=1)
    return both.ravel(), np.arange(2 * pairs + 1) * (shared + each)


@pytest.mark.parametrize("scheme", ["fast", "datasketch"])
@pytest.mark.parametrize("similarity", [0.5, 0.6, 0.7, 0.8, 0.9])
def test_bands_find_what_is_predicted(similarity: float, scheme: str) -> None:
    hit, pairs, seeds = 0, 500, 8
    for seed in range(seeds):
        hashes, offsets = pairs_of_sets(similarity, pairs, seed)
        keys = band_keys(sign(hashes, offsets, permutations(scheme, 112, seed)), 14, 8)
        hit += int((keys[::2] == keys[1::2]).any(axis=1).sum())
    expected = predicted_recall(similarity, 14, 8)
    sigma = np.sqrt(expected * (1 - expected) / (pairs * seeds))
    assert abs(hit / (pairs * seeds) - expected) < 3 * sigma


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 3), st.integers(0, 2**32))
def test_band_keys_are_equal_where_the_rows_of_a_band_are(
    bands: int, rows: int, more: int, seed: int
) -> None:
    signed = np.random.default_rng(seed).integers(0, 2, (20, bands * rows + more), dtype=np.uint32)
    keys = band_keys(signed, bands, rows)
    cut = [
        [(band, *row[band * rows : (band + 1) * rows].tolist()) for band in range(bands)] for row in signed
    ]
    pairs = {pair for a, b in zip(cut, keys.tolist(), strict=True) for pair in zip(a, b, strict=True)}
    assert len({band for band, _ in pairs}) == len({key for _, key in pairs}) == len(pairs)


def test_bands_that_do_not_fit() -> None:
    with pytest.raises(ConfigError, match="20 bands of 7 rows do not fit into 128"):
        band_keys(np.zeros((1, 128), np.uint32), 20, 7)


def test_plans() -> None:
    assert plan(0.8, 0.95, 128) == (13, 7)
    assert plan(0.8, 0.985, 128) == (18, 7)
    assert datasketch_plan(0.8, 128) == (9, 13)
    assert round(predicted_recall(0.8, 13, 7), 3) == 0.953
    assert round(predicted_recall(0.8, 18, 7), 3) == 0.986
    fineweb = [round(predicted_recall(s / 100, 14, 8), 3) for s in (50, 60, 70, 75, 80, 85)]
    assert fineweb == pytest.approx([0.053, 0.211, 0.564, 0.772, 0.924, 0.988], abs=2e-3)
    with pytest.raises(ConfigError, match=r"find at most 0\.6836 of the pairs"):
        plan(0.25, 0.9, 4)


@given(st.floats(0.05, 1), st.floats(0.01, 0.9999), st.integers(1, 40))
def test_a_plan_has_most_rows_then_fewest_bands(threshold: float, recall: float, num_perm: int) -> None:
    fits = [
        (-rows, bands)
        for rows in range(1, num_perm + 1)
        for bands in range(1, num_perm // rows + 1)
        if 1 - (1 - threshold**rows) ** bands >= recall
    ]
    if fits:
        rows, bands = min(fits)
        assert plan(threshold, recall, num_perm) == (bands, -rows)
    else:
        with pytest.raises(ConfigError):
            plan(threshold, recall, num_perm)
