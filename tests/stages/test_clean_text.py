import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ftfy.badness import is_bad
from hypothesis import given
from hypothesis import strategies as st

from curate.errors import ConfigError
from curate.stages import clean_text as module
from curate.stages.clean_text import Config, clean_text

NONE = Config(fix_encoding=False, form="")


def run(texts: list[str | None], config: Config = Config()) -> pa.RecordBatch:
    return clean_text(pa.record_batch({"text": pa.array(texts, pa.large_string())}), config)


def clean(text: str, config: Config = Config()) -> str:
    return run([text], config)["text"][0].as_py()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "caf\xc3\xa9 plain\nand caf\xe9 right",
            "caf\xe9 plain\nand caf\xe9 right",
        ),  # one garbled line, one right
        ("It\xe2\x80\x99s", "It\u2019s"),  # curly quotes are repaired, not straightened
        ("It\u2019s \ufb01ne \uff21", "It\u2019s \ufb01ne \uff21"),
        ("&amp; &lt;b&gt;", "&amp; &lt;b&gt;"),
        ("e\u0301", "\xe9"),
        ("a\r\nb\rc\u2028d\x0ce", "a\nb\nc\nd\ne"),
        ("a\x00b\x07c\x7fd\ufeffe\xadf\ufffe", "abcdef"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("a\u200bb", "ab"),
        ("\u0e01\u200b\u0e02", "\u0e01\u200b\u0e02"),  # Thai: it ends a word
        ("\u06a9\u200c\u0628 \u0915\u094d\u200d", "\u06a9\u200c\u0628 \u0915\u094d\u200d"),  # joiners spell
        ("\U0001f468\u200d\U0001f469", "\U0001f468\u200d\U0001f469"),
        ("one  two   three", "one two three"),
        ("def f():\n    if x:\n\t  y  \n", "def f():\n    if x:\n\t  y"),
        ("c1\t\tc2", "c1\t\tc2"),
        ("a\xa0b", "a b"),
        ("\n \t\n  first\n\n\n\n\nlast \n\n", "  first\n\n\nlast"),
        ("", ""),
        (" \n ", ""),
    ],
)
def test_by_hand(text: str, expected: str) -> None:
    assert clean(text) == expected


def test_options() -> None:
    assert clean("caf\xc3\xa9", Config(fix_encoding=False)) == "caf\xc3\xa9"
    assert clean("e\u0301 \ufb01", Config(form="")) == "e\u0301 \ufb01"
    assert clean("\xe9 \ufb01", Config(form="NFKD")) == "e\u0301 fi"
    assert clean("a  b", Config(collapse_spaces=False)) == "a  b"
    assert clean("a\n\n\nb", Config(max_newlines=1)) == "a\nb"
    with pytest.raises(ConfigError, match="max_newlines"):
        Config(max_newlines=0)


def test_columns() -> None:
    out = run(["a  b", None, "ok", "\u0958"], Config(keep_original=True))  # U+0958 has a longer normal form
    assert out["text"].to_pylist() == ["a b", None, "ok", "\u0915\u093c"]
    assert out["clean_text_removed_chars"].to_pylist() == [1, None, 0, -1]
    assert out["clean_text_original"].to_pylist() == ["a  b", None, "ok", "\u0958"]
    declared = clean_text.stage.columns_written(Config(keep_original=True))
    assert {name: out.schema.field(name).type for name in declared} == declared
    assert "clean_text_original" not in clean_text.stage.columns_written(Config())


def test_empty_batch() -> None:
    assert run([]).num_rows == 0


pieces = st.sampled_from(
    ["\xc3", "\xc2\xa9", "\xe2\x80\x99", " ", "  ", "\t", "\n", "\r\n", "\n\n\n\n", "\x85", "\x1b[", "1m", "\x00", "\u200b",
     "\u0301", "e", "\u0e01", "\u200d", "\xa0", "\xad", "\ufeff", "\u2028", "x", "<", "&amp;", "\x0b", "\u0344", "Z"]
)  # fmt: skip
messy = st.one_of(st.text(), st.lists(pieces, max_size=12).map("".join))


@given(st.lists(st.one_of(st.none(), messy), max_size=5), st.sampled_from(["", "NFC", "NFD", "NFKC", "NFKD"]))
def test_cleaning_twice_is_cleaning_once(texts: list[str | None], form: str) -> None:
    once = run(texts, Config(form=form))["text"]
    assert run(once.to_pylist(), Config(form=form))["text"].equals(once)
    assert all(not form or text is None or unicodedata.is_normalized(form, text) for text in once.to_pylist())


@given(st.lists(messy, max_size=6))
def test_a_row_does_not_depend_on_its_batch(texts: list[str]) -> None:
    together = run(texts)
    assert together["text"].to_pylist() == [clean(text) for text in texts]
    sliced = clean_text(
        pa.record_batch({"text": pa.array(["x", *texts], pa.large_string())}).slice(1), Config()
    )
    assert sliced.equals(together)


@given(messy)
def test_no_untidy_text_is_passed_over(text: str) -> None:
    assert clean(text, NONE) == module._tidy(text, NONE, garbled=False)


@given(messy)
def test_no_garbled_line_is_passed_over(text: str) -> None:
    if any(is_bad(line) for line in text.split("\n")):
        assert module._matches(pa.array([text], pa.large_string()), module._garbled_pattern())[0]


def slow(text: str) -> str:
    """Every step on every round, ftfy asked about every line."""
    for _ in range(module.ROUNDS):
        text = module._tidy(text, Config(), garbled=True)
    return text


def test_real_text_garbled_and_not_equals_the_slow_way(shared_data: Path) -> None:
    table = pq.read_table(shared_data / "multilingual" / "udhr_all_languages.parquet", columns=["text"])
    right = [text[:400] for text in table["text"].to_pylist()[::9]]
    garbled = [text.encode().decode("latin-1") for text in right]
    found = run(right + garbled)["text"].to_pylist()
    assert found == [slow(text) for text in right + garbled]
    restored = [a == b for a, b in zip(found[: len(right)], found[len(right) :], strict=True)]
    assert sum(restored) >= 0.9 * len(right)


def test_long_runs_take_no_quadratic_time_and_collapse() -> None:
    assert clean("a" + " " * 300_000 + "b") == "a b"
    assert clean("\n" * 300_000 + "x") == "x"
    assert clean(" \n" * 150_000 + "x") == "x"
    assert len(clean("\u200b" * 300_000 + "\u0e01")) == 300_001  # Thai needs its zero-width spaces
