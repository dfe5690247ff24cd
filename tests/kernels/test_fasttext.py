"""The parts of the fastText kernel that can be checked by hand or against slow Python; the whole is checked against
the library in tests/models/test_fasttext.py."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.kernels.chunks import FIRST, NUL, WINDOW, find_chunks
from curate.kernels.fasttext import fetch_words, new_cache, new_scratch, without_words
from curate.kernels.fasttext_output import _table_sigmoid, predict_flat, predict_tree
from curate.kernels.fasttext_rows import fill_entry_slots, fnv


def buffer(content: bytes) -> np.ndarray:
    return np.frombuffer(content, np.uint8)


def slow_words(content: bytes) -> list[bytes]:
    return [word for word in re.split(rb"[\x00\t\n\v\f\r ]", content) if word]


def kernel_words(content: bytes) -> list[tuple[bytes, bytes]]:
    """Each word with the key it is cached by."""
    scratch, cache, num, found = new_scratch(len(content), 8, 1), new_cache(1 << 16, 8), 0, []
    scratch.text[: len(content)] = buffer(content)
    for at in range(0, len(content) + 1, WINDOW):
        num = find_chunks(scratch.text, at, min(at + WINDOW, len(content) + 1), NUL, scratch.edges, num)
        fetch_words(scratch, num >> 1, FIRST, cache, cache)
        for begin, end, key in zip(
            scratch.edges[: num & -2 : 2], scratch.edges[1:num:2], scratch.keys, strict=False
        ):
            found.append((content[begin:end], key.tobytes().rstrip(b"\0")))
        scratch.edges[0] = scratch.edges[num - 1]
        num &= 1
    assert num == 0
    return found


@settings(deadline=None)
@given(st.binary(max_size=120).map(lambda b: b.replace(b"a", b" ")))
def test_words_and_their_keys(content: bytes) -> None:
    assert kernel_words(content) == [(word, word[:32]) for word in slow_words(content)]


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(0, 3 * WINDOW), max_size=12))
def test_words_across_windows(places: list[int]) -> None:
    content = bytearray(b"x" * (3 * WINDOW))
    for place in [*places, WINDOW]:
        content[place : place + 1] = b" "
    assert kernel_words(bytes(content)) == [(word, word[:32]) for word in slow_words(content)]


def test_a_word_that_ends_with_the_buffer_or_runs_past_the_key() -> None:
    for length in [*range(1, 70), WINDOW - 1, WINDOW, WINDOW + 1]:
        assert kernel_words(b"x" * length) == [(b"x" * length, b"x" * min(length, 32))]
        assert kernel_words(b" " * length) == []


def test_fnv_with_signed_bytes_by_hand() -> None:
    assert fnv(buffer(b""), 0, 0) == 2166136261
    assert fnv(buffer(b"a"), 0, 1) == 0xE40C292C  # the published FNV-1a of "a"
    # 0x80 counts as -128: the start XOR 0xFFFFFF80, times the prime
    assert fnv(buffer(b"\x80"), 0, 1) == (2166136261 ^ 0xFFFFFF80) * 16777619 % 2**32


def test_two_equal_entries_are_reported() -> None:
    offsets = np.array([0, 2, 4])
    assert fill_entry_slots(buffer(b"abac"), offsets, np.full(8, -1, np.int32))
    assert not fill_entry_slots(buffer(b"abab"), offsets, np.full(8, -1, np.int32))


def test_tree_by_hand() -> None:
    # root 4 = (leaf 0, node 3), node 3 = (leaf 2, leaf 1); the row of node n is n - 3
    tree = np.array([[-1, -1, -1, 2, 0], [-1, -1, -1, 1, 3]], np.int32)
    output = np.array([[1.0], [2.0], [9.0]], np.float32)  # node 3, node 4, unused
    hidden, known = np.array([[1.0], [-3.0], [1.0]], np.float32), np.array([True, True, False])
    labels, probabilities = predict_tree(hidden, known, output, tree)
    right = 1 / (1 + np.exp(-2.0)), 1 / (1 + np.exp(-1.0))
    assert labels.tolist() == [1, 0, -1]
    assert probabilities[0] == pytest.approx((right[0] + 1e-5) * (right[1] + 1e-5), rel=1e-6)
    assert probabilities[1] == pytest.approx(1 - 1 / (1 + np.exp(6.0)) + 1e-5, rel=1e-6)


def test_of_equal_labels_the_last_wins() -> None:
    output = np.array([[1.0], [2.0], [2.0], [0.0]], np.float32)
    labels, probabilities = predict_flat(np.ones((1, 1), np.float32), np.array([True]), output, True)
    assert labels.tolist() == [2]
    assert probabilities[0] == pytest.approx(np.exp(2) / (np.exp(1) + 2 * np.exp(2) + 1) + 1e-5, rel=1e-6)


def test_the_sigmoid_goes_in_steps_as_the_librarys() -> None:
    assert _table_sigmoid(np.float32(-8.1)) == 0
    assert _table_sigmoid(np.float32(8.1)) == 1
    assert _table_sigmoid(np.float32(0.03)) == 0.5  # a step is 1/32 wide
    assert _table_sigmoid(np.float32(0.04)) == pytest.approx(1 / (1 + np.exp(-1 / 32)))


@settings(deadline=None)
@given(st.lists(st.binary(max_size=6), max_size=8))
def test_documents_without_words(docs: list[bytes]) -> None:
    offsets = np.cumsum([0, *map(len, docs)])
    assert without_words(buffer(b"".join(docs)), offsets).tolist() == [not slow_words(doc) for doc in docs]
