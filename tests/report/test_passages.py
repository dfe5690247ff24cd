"""What is marked: by hand, and beside the numbers that the stages themselves compute."""

import itertools
import json
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate import stages
from curate.report.passages import of_match, passages
from curate.report.words import word_spans


def config(stage: str, **values: Any) -> Any:
    return msgspec.convert(values, stages.find(stage).config)


def marked(stage: str, reason: str, text: str, **values: Any) -> list[str]:
    return [text[a:b] for a, b in passages(stage, reason, text, config(stage, **values))]


@pytest.mark.parametrize(
    ("stage", "reason", "text", "expected"),
    [
        ("gopher_repetition", "dup_lines", "one\ntwo\n\none\ntwo\nthree", ["one", "two"]),
        ("gopher_repetition", "dup_paragraphs", "a\nb\n\nc\n\na\nb", ["a\nb"]),
        ("gopher_repetition", "top_2gram", "the cat and the cat or the dog", ["the cat", "the cat"]),
        ("gopher_repetition", "dup_5gram", "a b c d e x a b c d e", ["a b c d e"]),
        ("gopher_quality", "too_many_hashes", "# a #b", ["#", "#"]),
        ("gopher_quality", "too_many_ellipses", "so... and… end.", ["...", "…"]),
        ("gopher_quality", "too_many_bullet_lines", "- one\nplain\n  • two\n", ["- one", "• two"]),
        (
            "gopher_quality",
            "too_many_ellipsis_lines",
            "read more...\nwell.\nand… \n",
            ["read more...", "and…"],
        ),
        ("gopher_quality", "too_few_alpha_words", "a 12 b, 3-4", ["12", ",", "3-4"]),
        ("gopher_quality", "too_few_stop_words", "The cat of the house", ["of", "the"]),
        ("gopher_quality", "too_few_words", "short", []),
    ],
)
def test_by_hand(stage: str, reason: str, text: str, expected: list[str]) -> None:
    assert marked(stage, reason, text) == expected


@pytest.mark.parametrize(
    ("stage", "reason", "text", "expected"),
    [
        ("c4_quality", "lorem_ipsum", "Then Lorem ipsum dolor.", ["Lorem ipsum"]),
        ("c4_quality", "curly_bracket", "if (x) { y }", ["{"]),
        ("fineweb_quality", "too_few_ended_lines", "It ends.\nMenu\n\n終わり。", ["Menu"]),
        ("fineweb_quality", "too_many_short_lines", f"Home\n{'x' * 31}\n", ["Home"]),
        ("fineweb_quality", "dup_line_chars", "a\nb\n\na\n", ["a"]),
    ],
)
def test_of_web_rules_by_hand(stage: str, reason: str, text: str, expected: list[str]) -> None:
    assert marked(stage, reason, text) == expected


def test_every_finder_is_of_a_rule_that_is_there() -> None:
    import importlib

    from curate.report.passages import _FINDERS

    for stage, reason in _FINDERS:
        rules = importlib.import_module(stages.find(stage).function.__module__).RULES
        assert reason in [rule[0] for rule in rules], (stage, reason)


words = st.lists(
    st.sampled_from(["a", "b", "the", "#", "12", "...", "\n", "\n\n", "- x", "é😀"]), max_size=40
)


@settings(max_examples=150, deadline=None)
@given(words.map(" ".join) | words.map("".join))
def test_marked_chars_are_those_that_the_rule_counts(text: str) -> None:
    """Repeated n-grams without white space, and repeated lines, are the numerators of the stage's ratios."""
    from curate.stages.gopher_repetition import Config, gopher_repetition

    batch = pa.record_batch({"text": pa.array([text], pa.large_string())})
    row = gopher_repetition(batch, Config()).to_pylist()[0]
    if not text:
        return
    for n in (5, 7):
        chars = sum(
            len("".join(piece.split())) for piece in marked("gopher_repetition", f"dup_{n}gram", text)
        )
        assert chars / len(text) == pytest.approx(row[f"gopher_repetition_dup_{n}gram_chars_ratio"], rel=1e-5)
    lines = sum(map(len, marked("gopher_repetition", "dup_lines", text)))
    assert lines / len(text) == pytest.approx(row["gopher_repetition_dup_line_chars_ratio"], rel=1e-5)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60))
def test_words_cover_all_but_white_space(text: str) -> None:
    text = text.encode("utf-8", "ignore").decode()
    spans = word_spans(text, config("gopher_quality"))
    assert all(a < b for a, b in spans)
    assert all(b <= c for (_, b), (c, _) in itertools.pairwise(spans))
    assert "".join("".join(text[a:b] for a, b in spans).split()) == "".join(text.split())


@pytest.mark.parametrize(
    ("text", "options", "lang", "expected"),
    [
        ("我们今天去学校", {}, "", ["我们", "今天", "去", "学校"]),
        ("l'art d'un ami", {"words_lang": "fra"}, "", ["l'", "art", "d'", "un", "ami"]),
        ("l'art, ami", {}, "", ["l'art", ",", "ami"]),
        ("l'art d'un ami", {"thresholds": True}, "fr", ["l'", "art", "d'", "un", "ami"]),
        ("it's can't", {"words": "datatrove"}, "", ["it", "'s", "ca", "n't"]),
        ("བོད་ཡིག་གི་ཚིག", {}, "", []),
    ],
)
def test_words_are_those_of_the_stage(
    tmp_path: Path, text: str, options: dict[str, Any], lang: str, expected: list[str]
) -> None:
    if options.get("thresholds"):
        dup, top = ([[n, 0.2] for n in range(*ends)] for ends in ((5, 11), (2, 5)))
        bounds = {"dup_line_frac": 0.3, "top_n_grams": top, "dup_n_grams": dup}
        (tmp_path / "fra_Latn.yaml").write_text(json.dumps(bounds))
        options = {"thresholds": str(tmp_path)}
    settings = config("gopher_repetition", **options)
    counted = [text[a:b] for a, b in passages("gopher_repetition", "top_2gram", text, settings, lang)]
    pairs = word_spans(text, msgspec.structs.replace(settings, words_lang=lang or settings.words_lang))
    assert [text[a:b] for a, b in pairs] == expected
    assert counted == ([text[pairs[0][0] : pairs[1][1]]] if pairs else [])


def test_of_match() -> None:
    assert of_match("Bad, bAd and ba.d", "bad") == [(0, 3), (5, 8)]
