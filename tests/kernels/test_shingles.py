"""Normalised words and shingles: by hand, and as slow Python has them on real text and on anything hypothesis finds."""

import hashlib
import sys
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.kernels.jaccard import jaccard, jaccards
from curate.kernels.sha1 import sha1_low
from curate.kernels.shingles import Normal, Shingles, normalised, shingles, word_hashes
from curate.schema import text_buffers

sys.path.insert(0, str(Path(__file__).parent))
import slow_shingles as slow

TRICKY = (
    "aZéİßſKσς1٣.-_~:/'’…@ \n\u3000\x00\u00ad\u0301\u0345\u0903\u200d\ufe0f中カがほกิ한가🙂𠀀𝟘𞤀\u023a\ue000"
)
NORMALS = [Normal(*choice) for choice in product([False, True], repeat=4)]
FILLER = "the filler that follows, of ASCII alone, is as long as a whole block of the kernel: " * 2


def utf8(text: str) -> str:
    return text.encode("utf-8", "ignore").decode()  # no lone surrogates: they have no UTF-8


texts_of_any_kind = st.lists(
    st.text(st.sampled_from(TRICKY), max_size=40).map(utf8)
    | st.text(max_size=30).map(utf8)
    | st.text(st.sampled_from("ab B,\u00e9"), max_size=300),
    max_size=5,
)


def column(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """A column with text after its last row, so that whole blocks are read at once there too."""
    whole = pa.array([*texts, FILLER], pa.large_string())
    return text_buffers(whole.slice(0, len(texts))) if texts else text_buffers(whole.slice(0, 0))


def rows(hashes: np.ndarray, offsets: np.ndarray) -> list[list[int]]:
    return [hashes[a:b].tolist() for a, b in pairwise(offsets)]


def shingle_rows(found: Shingles) -> list[list[int]]:
    return rows(found.hashes, found.offsets)


@pytest.mark.parametrize(
    ("text", "normal", "expected"),
    [
        ("", Normal(), ""),
        (" -- ☺\ufe0f \u0301 \u2028", Normal(), ""),
        ("The Cat’s well-known 3.14 (U.S.) a_b!", Normal(), "the cat s well known 3 14 u s a b"),
        ("The Cat’s well-known 3.14", Normal(punctuation=False), "the cat ’s well - known 3.14"),
        ("The Cat", Normal(case=False), "The Cat"),
        ("Été ΣΟΦΟΣ İß", Normal(), "été σοφοσ iß"),
        ("Été e\u0301 Å \u1ec7 한 が", Normal(accents=True), "ete e a e 한 か"),
        ("中文 東京タワー กิน x", Normal(), "中 文 東 京 タワー กิ น x"),
        ("a中b", Normal(), "a 中 b"),
        ("co\u00adop \u200dx\u200d", Normal(), "coop x"),
        ("room 101b, 2026-11-21, ٣٤", Normal(digits=True), "room 0b 0 0 0 0"),
        ("room 101b, 3.14", Normal(digits=True, punctuation=False), "room 0b , 0.0"),
    ],
)
def test_normalised_by_hand(text: str, normal: Normal, expected: str) -> None:
    assert normalised(text, normal) == expected.split()
    assert slow.normalised(text, normal) == expected.split()


@settings(max_examples=150, deadline=None)
@given(texts_of_any_kind, st.sampled_from(NORMALS))
def test_normalised_words_are_those_of_slow_python(texts: list[str], normal: Normal) -> None:
    for text in texts:
        assert normalised(text, normal) == slow.normalised(text, normal)


@pytest.mark.parametrize("normal", [Normal(), Normal(accents=True, digits=True), Normal(punctuation=False)])
def test_every_character_is_read_as_slow_python_does(normal: Normal) -> None:
    characters = [chr(code) for code in range(0x20000) if not 0xD800 <= code < 0xE000]
    for some in zip(*[iter(characters)] * 4096, strict=False):
        text = "".join(f"x{c}y {c}" for c in some)
        assert normalised(text, normal) == slow.normalised(text, normal)


@settings(max_examples=150, deadline=None)
@given(texts_of_any_kind, st.sampled_from(NORMALS))
def test_equal_words_and_only_these_have_equal_hashes(texts: list[str], normal: Normal) -> None:
    found = [slow.normalised(text, normal) for text in texts]
    hashes = rows(*word_hashes(*column(texts), normal))
    assert [len(row) for row in hashes] == [len(row) for row in found]
    pairs = {pair for words, row in zip(found, hashes, strict=True) for pair in zip(words, row, strict=True)}
    assert len({word for word, _ in pairs}) == len({h for _, h in pairs}) == len(pairs)


@settings(max_examples=150, deadline=None)
@given(texts_of_any_kind, st.sampled_from(NORMALS), st.integers(1, 9), st.booleans())
def test_shingles_are_the_sets_of_slow_python(texts: list[str], normal: Normal, n: int, sha1: bool) -> None:
    words = [slow.normalised(text, normal) for text in texts]
    sets = [set(slow.ngrams(row, n)) for row in words]
    found = shingles(*column(texts), n, normal, sha1)
    hashed = shingle_rows(found)
    assert found.words.tolist() == [len(row) for row in words]
    assert all(row == sorted(set(row)) for row in hashed)
    assert [len(row) for row in hashed] == [len(row) for row in sets]
    for i, j in product(range(len(texts)), repeat=2):
        assert len(set(hashed[i]) & set(hashed[j])) == len(sets[i] & sets[j])
        assert (found.digests[i] == found.digests[j]) == (words[i] == words[j])
        assert bool(found.digests[i]) == bool(words[i])
    if sha1:
        assert [{h & 0xFFFFFFFF for h in row} for row in hashed] == [set(map(low_sha1, row)) for row in sets]


def low_sha1(words: tuple[str, ...]) -> int:
    return int.from_bytes(hashlib.sha1(" ".join(words).encode()).digest()[:4], "little")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=4))
def test_bytes_that_are_not_utf8_end_a_word(texts: list[bytes]) -> None:
    found = shingles(*text_buffers(pa.array([*texts, FILLER.encode()], pa.large_binary())), 2)
    for i, text in enumerate(texts):
        words = slow.normalised(text.decode("utf-8", "replace"), Normal())
        assert found.words[i] == len(words)


@settings(max_examples=50, deadline=None)
@given(texts_of_any_kind, st.sampled_from(NORMALS), st.data())
def test_a_slice_of_a_column_has_the_shingles_of_its_rows(texts: list[str], normal: Normal, data) -> None:
    first = data.draw(st.integers(0, len(texts)))
    array = pa.array([*texts, None, FILLER], pa.large_string())
    whole, part = (shingles(*text_buffers(a), 3, normal) for a in (array, array.slice(first)))
    assert shingle_rows(whole)[first:] == shingle_rows(part)
    assert whole.digests[first:].tolist() == part.digests.tolist()


def test_long_and_repeated_words() -> None:
    texts = ["a" * n for n in range(1, 80)] + ["a" * n + "b" for n in range(1, 80)] + ["x " * 1000]
    found = word_hashes(*column(texts))[0]
    assert len(set(found.tolist())) == 79 + 79 + 1
    one = shingles(*column(["x " * 1000, "x x x x x", "x x x x"]))
    assert shingle_rows(one)[0] == shingle_rows(one)[1] != []
    assert shingle_rows(one)[2] == []


def test_sorting_long_documents() -> None:
    text = " ".join(str(i * i % 7919) for i in range(40_000))
    (found,) = shingle_rows(shingles(*column([text])))
    assert len(found) == len(set(slow.ngrams(text.split(), 5)))
    assert found == sorted(set(found))


def test_hashes_stay_what_they_are() -> None:
    # indexes on disk hold them: whoever changes them has to raise the stage's version
    found = shingles(*column(["One fish two fish red fish, blue fish."]), 5)
    assert found.hashes.tolist() == [
        308800205477854772,
        5083465964162256319,
        9989922041102836465,
        17205423019985498400,
    ]
    assert found.digests.tolist() == [5359290975093722368]


def test_words_of_real_text_of_all_languages(shared_data: Path) -> None:
    texts = []
    for path in sorted((shared_data / "multilingual").glob("*.parquet")):
        found = pq.read_table(path, columns=["text"])["text"].drop_null().to_pylist()
        texts += [text[:1000] for text in found[:: max(1, len(found) // 30)]]
    assert texts
    for normal in Normal(), Normal(accents=True, digits=True), Normal(punctuation=False):
        words = [slow.normalised(text, normal) for text in texts]
        hashes = rows(*word_hashes(*column(texts), normal))
        pairs = {pair for a, b in zip(words, hashes, strict=True) for pair in zip(a, b, strict=True)}
        assert len({word for word, _ in pairs}) == len({h for _, h in pairs}) == len(pairs)


def test_sha1_is_that_of_hashlib() -> None:
    schedule, state = np.empty(80, np.uint32), np.empty(5, np.uint32)
    for size in range(200):
        data = np.random.default_rng(size).integers(0, 256, size + 5, dtype=np.uint8)
        low = sha1_low(data, 5, len(data), schedule, state)
        expected = hashlib.sha1(data[5:].tobytes()).digest()
        assert state.astype(">u4").tobytes() == expected
        assert low == int.from_bytes(expected[:4], "little")


numbers = st.sets(st.integers(0, 30) | st.integers(0, 2**64 - 1), max_size=40)


@settings(max_examples=100, deadline=None)
@given(st.lists(numbers, min_size=1, max_size=6))
def test_jaccard_is_that_of_slow_python(sets: list[set[int]]) -> None:
    arrays = [np.array(sorted(numbers), np.uint64) for numbers in sets]
    offsets = np.cumsum([0, *map(len, arrays)])
    left, right = np.divmod(np.arange(len(sets) ** 2), len(sets))
    expected = [slow.jaccard(a, b) for a, b in product(sets, repeat=2)]
    assert jaccards(np.concatenate(arrays), offsets, left, right).tolist() == expected
    assert [jaccard(a, b) for a, b in product(arrays, repeat=2)] == expected
