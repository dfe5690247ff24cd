"""The kernels on lines: sentences by hand, and equal to slow Python."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.kernels.fineweb import word_counts
from curate.kernels.lines import (
    find_control,
    find_mark,
    find_newline,
    first_bytes,
    hash_span,
    num_sentences,
)
from curate.kernels.unicode import TERMINAL, flags, terminals
from curate.schema import text_buffers

sys.path.insert(0, str(Path(__file__).parent))
import pyarrow as pa
import slow_lines
import slow_words


def sentences(line: str) -> int:
    data = np.frombuffer(line.encode(), np.uint8)
    return num_sentences(data, 0, len(data), first_bytes(TERMINAL), *flags())


@pytest.mark.parametrize(
    ("line", "number"),
    [
        ("", 0), (" \u3000", 0), ("One", 1), ("One.", 1), ("One. Two", 2), ('He said "no." Then he left.', 2),
        ("(Yes.) No", 2), ("What?! -- Never. ", 2), ("3.14 and a.b", 1), ("hello... world", 1), ("end.Next", 2),
        ("the U.S. is", 1), ("Mr. Smith", 2), ("А. Пушкин пишет. Да", 2), ("今天。明天！", 2), ("यह है। वह है।", 2),
        ("Wait . . .", 1), ("a _. b", 2),
    ],
)  # fmt: skip
def test_sentences_by_hand(line: str, number: int) -> None:
    assert sentences(line) == number


LINE = st.text(st.sampled_from("aZé1._!?\"'…-() \t。।А\u3000\u0301$"), max_size=30) | st.text(max_size=20)


@settings(max_examples=300, deadline=None)
@given(LINE.map(lambda t: t.encode("utf-8", "ignore").decode()))
def test_sentences_are_those_of_slow_python(line: str) -> None:
    assert sentences(line) == slow_lines.sentences(line)


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("aA.,! \n\tZé中\u3000\u0301-(1\u00a0'"), max_size=40))
def test_word_counts_are_those_of_slow_python(text: str) -> None:
    data, offsets = text_buffers(pa.array([text, "", text], pa.large_string()))
    assert word_counts(data, offsets).tolist() == [
        len(slow_words.words(text)),
        0,
        len(slow_words.words(text)),
    ]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40), st.integers(0, 40))
def test_searches_find_the_first_byte(text: bytes, start: int) -> None:
    data, start = np.frombuffer(text, np.uint8), min(start, len(text))
    for find, wanted in (
        (find_newline, lambda c: c == 10),
        (find_control, lambda c: c < 32 or c > 127),
        (find_mark, lambda c: c in b".!?" or c > 127),
    ):
        expected = next((i for i in range(start, len(text)) if wanted(text[i])), len(text))
        assert find(data, start, len(text)) == expected


def test_marks_that_end_sentences_are_those_of_datatrove_and_more() -> None:
    text = pytest.importorskip("datatrove.utils.text")
    assert terminals() >= text.TERMINAL_PUNCTUATION


def test_spans_that_differ_in_one_place_have_other_hashes() -> None:
    for size in (8, 31, 32, 33, 63, 64, 65, 200):
        found = {int(hash_span(np.full(size + 9, 97, np.uint8), 4, 4 + size))}
        for place in range(size):
            text = np.full(size + 9, 97, np.uint8)
            text[4 + place] = 98
            found.add(int(hash_span(text, 4, 4 + size)))
        for place in range(0, size - 16, 8):  # equal numbers side by side
            text = np.full(size + 9, 97, np.uint8)
            text[4 + place : 4 + place + 16] = 99
            found.add(int(hash_span(text, 4, 4 + size)))
        assert len(found) == 1 + size + len(range(0, size - 16, 8))


def test_the_hash_of_a_span_depends_on_its_bytes_alone() -> None:
    line = np.random.default_rng(0).integers(0, 256, 300).astype(np.uint8)
    for size in (0, 7, 32, 40, 100):
        for begin in (0, 3, 17):
            text = np.concatenate([np.full(begin, 7, np.uint8), line[:size], np.full(5, 9, np.uint8)])
            assert hash_span(text, begin, begin + size) == hash_span(line, 0, size)
