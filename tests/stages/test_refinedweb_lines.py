"""`refinedweb_lines`: lines by hand, the 5% rule at its edge, equal to slow Python."""

import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import ConfigError
from curate.stages.refinedweb_lines import Config, refinedweb_lines

sys.path.insert(0, str(Path(__file__).parents[1] / "kernels"))
sys.path.insert(0, str(Path(__file__).parent))
import slow_lines
from test_c4_quality import CHINESE, THAI, sample

GOLDEN = [  # line, what is left of it
    ("An ordinary line stays", "An ordinary line stays"),
    ("ABCD def", "ABCD def"),  # 4 of 8
    ("ABCDE def", None),  # 5 of 9
    ("12345", None),
    ("12 345", "12 345"),
    ("3 likes", None),
    ("* 1,204.5K\u00a0Followers!", None),
    ("3 likes from me", "3 likes from me"),
    ("3likes you", "3likes you"),
    ("word", None),
    ("  ", None),
    ("3 items in cart now", "3 now"),
    ("Items in Cart", None),
    (
        "one two three four five six seven eight items in cart",
        "one two three four five six seven eight items in cart",
    ),
    ("News of today Read more...", "News of today"),
    ("Read more... and more", "Read more... and more"),
    ("read more...", None),
    ("Sign-in to the site", "to the site"),
    ("You sign-in here", "You sign-in here"),
]


def run(texts: list[str | None], config: Config | None = None) -> list[dict[str, Any]]:
    batch = pa.record_batch({"text": pa.array(texts, pa.large_string())})
    rows = refinedweb_lines(batch, config or Config()).to_pylist()
    return [{key.removeprefix("refinedweb_lines_"): value for key, value in row.items()} for row in rows]


def test_golden_lines() -> None:
    rows = run([line for line, _ in GOLDEN])
    assert [row["text"] for row in rows] == [left or "" for _, left in GOLDEN]
    whole = run(["first line\n\n" + "\n".join(line for line, _ in GOLDEN)], Config(keep_original=True))[0]
    assert whole["text"] == "first line\n\n" + "\n".join(left for _, left in GOLDEN if left)
    assert whole["original"].startswith("first line")
    names = (
        "num_capital_lines",
        "num_numeric_lines",
        "num_counter_lines",
        "num_short_lines",
        "num_cut_lines",
    )
    assert [whole[name] for name in names] == [1, 1, 2, 2, 5]


def test_the_rule_on_removed_words_at_its_edge() -> None:
    rows = run(["word " * 19 + "\nlonely", "word " * 18 + "\nlonely", None, "", "lonely"])
    assert [row["pass"] for row in rows] == [True, False, True, True, False]
    assert [row["reason"] for row in rows] == [
        None,
        "too_many_removed_words",
        None,
        None,
        "too_many_removed_words",
    ]
    assert rows[1]["value"] == pytest.approx(1 / 19)
    assert rows[1]["threshold"] == 0.05
    assert rows[2]["text"] is rows[2]["removed_chars"] is rows[2]["num_short_lines"] is None
    assert rows[4]["text"] == ""


def test_scripts_without_spaces_are_left_and_fail_by_name() -> None:
    texts = [CHINESE, "an ordinary line\nlonely", None, THAI]
    rows = run(texts, Config(keep_original=True))
    none = "no_word_splitter"
    assert [row["text"] for row in rows] == [CHINESE, "an ordinary line", None, THAI]
    assert [row["reason"] for row in rows] == [none, "too_many_removed_words", None, none]
    assert [row["removed_words_ratio"] for row in rows] == [None, 0.25, None, None]
    assert [row["num_short_lines"] for row in rows] == [0, 1, None, 0]
    assert [row["removed_chars"] for row in rows] == [0, 7, None, 0]


def test_rules_can_be_turned_off() -> None:
    off = Config(
        max_capitals_ratio=float("inf"), max_digits_ratio=1, remove_counters=False, min_words_per_line=0, max_words_for_cuts=0
    )  # fmt: skip
    text = "ALL CAPITALS\n123\n3 likes\nword\nitems in cart"
    assert run([text], off)[0]["text"] == text


@pytest.mark.parametrize(
    "bounds", [{"max_capitals_ratio": -1.0}, {"min_words_per_line": -1}, {"max_digits_ratio": float("nan")}]
)
def test_nonsense_is_refused(bounds: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as error:
        Config(**bounds)
    assert error.value.hint


PIECES = st.sampled_from(
    ["ab c", "AB", "12", "3", "٣", "k", ",", ".", " ", "\n", "\u3000", "_", "*", "likes", "Views", "items in cart",
     "Read more...", "Sign-in", "é", "É", "a b c d e f"]
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(st.lists(PIECES, max_size=12).map("".join), max_size=4))
def test_edits_are_those_of_slow_python(texts: list[str]) -> None:
    for text, row in zip(texts, run(texts), strict=True):  # type: ignore[arg-type]
        left, removed = slow_lines.refinedweb(text)
        assert row["text"] == left
        assert row["removed_words_ratio"] == (None if removed is None else pytest.approx(removed))


def test_real_text_is_edited_as_by_slow_python(shared_data: Path) -> None:
    texts = sample(shared_data, "text", 10, 5_000) + sample(shared_data, "multilingual", 10, 3_000)
    for text, row in zip(texts, run(texts), strict=True):  # type: ignore[arg-type]
        unread = row["reason"] == "no_word_splitter"
        assert row["text"] == (text if unread else slow_lines.refinedweb(text)[0])
