"""Two texts beside each other: by hand, and pieces that spell out both, whatever the texts."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.report.word_diff import CHANGE_CHARS, COMPARED_CHARS, Piece, differ_in_names, word_diff


def spelled(pieces: list[Piece], side: str) -> str:
    """One of the texts; what is left out as dots."""
    return "".join(
        "." * int(text) if kind == "skipped" else text
        for kind, text in pieces
        if kind in ("same", "skipped", side)
    )


def test_by_hand() -> None:
    assert word_diff("The cat sat on the mat.", "The dog sat on the mat!") == [
        ("same", "The "), ("kept", "cat"), ("dropped", "dog"), ("same", " sat on the mat"), ("kept", "."), ("dropped", "!"),
    ]  # fmt: skip
    assert word_diff("one two", "one two") == [("same", "one two")]
    assert word_diff("", "new") == [("dropped", "new")]
    assert word_diff("", "") == []
    # A shared space between two changed words is part of one change.
    assert word_diff("go to old town", "go to new city") == [
        ("same", "go to "), ("kept", "old town"), ("dropped", "new city"),
    ]  # fmt: skip
    assert word_diff("我住在東京", "我住在大阪")[:2] == [("same", "我住在"), ("kept", "東京")]


def test_what_is_far_from_a_change_is_left_out() -> None:
    same = "word " * 200
    pieces = word_diff(f"{same}5.1 {same}", f"{same}7.4 {same}")
    assert [kind for kind, _ in pieces] == ["skipped", "same", "kept", "dropped", "same", "skipped"]
    assert [text for kind, text in pieces if kind == "skipped"] == [str(1000 - 60), str(1000 - 59)]
    assert (pieces[1].text, pieces[2].text, pieces[3].text) == ("word " * 12, "5.1", "7.4")


def test_long_texts_are_compared_at_their_start() -> None:
    text = "".join(f"word{i} " for i in range(10_000))
    pieces = word_diff(text, f"begin {text}")
    assert pieces[0] == ("dropped", "begin ")
    assert [kind for kind, _ in pieces] == [
        "dropped",
        "same",
        "skipped",
        "rest",
    ]  # its end, cut, is no change
    assert int(pieces[-1].text) >= len(text) - COMPARED_CHARS


def test_what_is_shown_is_bounded() -> None:
    first, more, new = word_diff("begin " * 300, "another")
    assert (first.kind, len(first.text), new) == ("kept", CHANGE_CHARS, ("dropped", "another"))
    assert more == ("more_kept", str(1800 - CHANGE_CHARS))
    text = " ".join(f"w{i}" for i in range(3000))
    pieces = word_diff(text, text.replace("5", "five"), shown=500)
    assert 500 < sum(len(text) for kind, text in pieces if kind in ("same", "kept", "dropped")) < 1000
    assert pieces[-1].kind == "rest"


words = st.lists(st.sampled_from(["a", "b", "Cat", "12", ", ", " ", "\n", "é", "漢"]), max_size=60).map(
    "".join
)


@settings(max_examples=300, deadline=None)
@given(words | st.text(max_size=40), words | st.text(max_size=40))
def test_pieces_spell_out_both_texts(kept: str, dropped: str) -> None:
    pieces = word_diff(kept, dropped, shown=10_000)
    for side, text in (("kept", kept), ("dropped", dropped)):
        told = spelled(pieces, side)
        assert len(told) == len(text)
        assert all(a in (b, ".") for a, b in zip(told, text, strict=True))
    assert (kept == dropped) == all(kind in ("same", "skipped") for kind, _ in pieces)


@pytest.mark.parametrize(
    ("kept", "dropped", "expected"),
    [
        ("Flight 12 to Rome, on time.", "Flight 374 to New York — on time", True),
        ("the price is 5.10", "the price is 7", True),
        ("sold in Paris", "sold in paris", False),  # in lower case it is a word like others
        ("the cat of Rome", "the dog of Oslo", False),
        ("the same words", "the same, words!", False),  # nothing but marks
        ("a b", "a b", False),
    ],
)
def test_names_and_numbers(kept: str, dropped: str, expected: bool) -> None:
    assert differ_in_names(kept, dropped) is expected
    assert differ_in_names(dropped, kept) is expected
