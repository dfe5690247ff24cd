"""`fineweb_quality`: each rule at its edge, statistics equal to slow Python, decisions equal to datatrove's."""

import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import ConfigError
from curate.stages.fineweb_quality import Config, fineweb_quality

sys.path.insert(0, str(Path(__file__).parents[1] / "kernels"))
sys.path.insert(0, str(Path(__file__).parent))
import slow_lines
import slow_words
from test_c4_quality import sample


def run(texts: list[str | None], config: Config | None = None) -> list[dict[str, Any]]:
    rows = fineweb_quality(
        pa.record_batch({"text": pa.array(texts, pa.large_string())}), config or Config()
    ).to_pylist()
    return [{key.removeprefix("fineweb_quality_"): value for key, value in row.items()} for row in rows]


def line(number: int, mark: str = ".", words: int = 6) -> str:
    return f"{number:04d} " + " ".join(["house"] * words) + mark


def page(ended: int, open_: int, short: int = 0) -> str:
    lines = [line(i) for i in range(ended)] + [line(i, "") for i in range(100, 100 + open_)]
    return "\n".join(lines + [f"{i:04d} {'x' * 24}." for i in range(short)])


@pytest.mark.parametrize(
    ("reason", "good", "bad", "value", "threshold"),
    [
        ("empty", "a house.", " \n\u3000\n", 0, 1),
        ("too_few_ended_lines", page(12, 88), page(11, 89), 0.11, 0.12),
        ("too_many_short_lines", page(33, 0, 67), page(32, 0, 68), 0.68, 0.67),
        ("dup_line_chars", "a.\n" + "z" * 198 + ".\na.", "a.\n" + "z" * 192 + ".\na.", 2 / 197, 0.01),
        ("too_many_newlines", "a b c d e\n\n\nf g h so.", "a b c d e\n\n\nf g so.", 3 / 9, 0.3),
    ],
)  # fmt: skip
def test_each_rule_at_its_edge(reason: str, good: str, bad: str, value: float, threshold: float) -> None:
    config = Config(
        max_short_lines_ratio=0.67 if reason == "too_many_short_lines" else 1,
        max_newlines_ratio=9 if reason == "dup_line_chars" else 0.3,
    )
    kept, dropped = run([good, bad], config)
    assert (kept["reason"], kept["pass"]) == (None, True)
    assert (dropped["reason"], dropped["pass"], dropped["threshold"]) == (reason, False, threshold)
    assert dropped["value"] == pytest.approx(value)


def test_null_reads_as_empty() -> None:
    null, empty = run([None, ""])
    assert {**null, "text": ""} == empty
    assert (null["reason"], null["num_lines"], null["newlines_ratio"]) == ("empty", 0, None)
    assert all(row["pass"] for row in run([None, "", "\n"], Config(min_lines=0)))


def test_marks_of_other_scripts_end_lines_and_what_follows_hides_them() -> None:
    endings = ["。", "।", "؟", "።", "។", "ៗ", '."', ". ", "…", ":"]
    rows = run([f"text{mark}" for mark in endings])
    assert [row["ended_lines_ratio"] for row in rows] == [1, 1, 1, 1, 1, 0, 0, 0, 0, 0]


@pytest.mark.parametrize(
    "bounds", [{"max_newlines_ratio": -1.0}, {"short_line_chars": -1}, {"min_lines": -1}]
)
def test_nonsense_is_refused(bounds: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as error:
        Config(**bounds)
    assert error.value.hint


TEXT = st.text(st.sampled_from("ab.。 \n\r\u3000é\u0301"), max_size=40) | st.text(max_size=30)


@settings(max_examples=300, deadline=None)
@given(st.lists(TEXT.map(lambda t: t.encode("utf-8", "ignore").decode()), max_size=4), st.integers(0, 9))
def test_statistics_are_those_of_slow_python(texts: list[str], short: int) -> None:
    for text, row in zip(texts, run(texts, Config(short_line_chars=short)), strict=True):
        for statistic, value in slow_lines.fineweb(text, short).items():
            assert row[statistic] == (None if value is None else pytest.approx(value)), statistic
        words = len(slow_words.words_of_any_script(text)) if slow_words.writing(text) != "unsplit" else 0
        assert row["newlines_ratio"] == (pytest.approx(text.count("\n") / words) if words else None)


@pytest.mark.slow
def test_decisions_agree_with_datatrove(shared_data: Path) -> None:
    """99.8% when this was written; the rest is Chinese and the like, whose words its English tokenizer does not split."""
    from datatrove.data import Document
    from datatrove.pipeline.filters import FineWebQualityFilter

    theirs = FineWebQualityFilter()
    texts = sample(shared_data, "text", 140, 12_000) + sample(shared_data, "multilingual", 100, 6_000)
    kept = [theirs.filter(Document(text=text, id="")) is True for text in texts]
    agreed = sum(row["pass"] == keep for row, keep in zip(run(texts), kept, strict=True))  # type: ignore[arg-type]
    assert 0.2 < sum(kept) / len(kept) < 0.95
    assert agreed / len(texts) >= 0.98


def test_newlines_per_word_of_scripts_without_spaces_and_thresholds_by_language(tmp_path: Path) -> None:
    (tmp_path / "cmn_Hani.yml").write_text("line_punct_thr: 0.5\nnew_line_ratio: 0.2\n")
    (tmp_path / "ell.yml").write_text("line_punct_thr: 0.5\nnew_line_ratio: 0.9\n")
    texts = [
        "我们学习中文。\n学校。",
        "我们学习\n中文",
        "我们学习中文。\n学校。",
        "བོད་ཡིག་གི་ཚིག",
        "我们。",
    ]  # 4 + 。+ 1 + 。words
    batch = pa.record_batch(
        {"text": pa.array(texts, pa.large_string()), "lang": ["zh", "zh", "el", "zh", "xx"]}
    )
    config = Config(thresholds=str(tmp_path), max_short_lines_ratio=1, max_dup_line_chars_ratio=1)
    out = fineweb_quality(batch, config)
    assert out["fineweb_quality_newlines_ratio"].to_pylist()[:4] == pytest.approx([1 / 6, 1 / 3, 1 / 6, None])
    assert out["fineweb_quality_reason"].to_pylist() == [
        None, "too_few_ended_lines", None, "no_word_splitter", "no_thresholds",
    ]  # fmt: skip
    assert out["fineweb_quality_threshold"].to_pylist() == [None, 0.5, None, None, None]
