"""`gopher_repetition`: by hand, every statistic equal to slow Python, decisions equal to datatrove's."""

import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import ConfigError
from curate.stages.gopher_repetition import RULES, WRITES, Config, gopher_repetition

sys.path.insert(0, str(Path(__file__).parents[1] / "kernels"))
from slow_gopher import repetition


def run(texts: list[str | None], config: Config | None = None) -> list[dict[str, Any]]:
    batch = pa.record_batch(
        {"id": pa.array(map(str, range(len(texts)))), "text": pa.array(texts, pa.large_string())}
    )
    out = gopher_repetition(batch, config or Config())
    assert out.select(["id", "text"]) == batch
    assert {field.name: field.type for field in out.schema if field.name not in batch.schema.names} == WRITES
    return [
        {key.removeprefix("gopher_repetition_"): value for key, value in row.items()}
        for row in out.to_pylist()
    ]


def different(words: int) -> str:
    return " ".join(f"word{i}" for i in range(words))


def test_by_hand() -> None:
    row = run(["a b a b a b\n\nxy\n\n\nxy\nzz"])[0]  # 23 characters
    assert row["num_chars"] == 23
    assert row["dup_paragraphs_ratio"] == 0  # "a b a b a b", "xy", "xy\\nzz"
    assert row["dup_lines_ratio"] == pytest.approx(1 / 4)  # "xy" again
    assert row["dup_line_chars_ratio"] == pytest.approx(2 / 23)
    assert row["top_2gram_chars_ratio"] == pytest.approx(3 * 3 / 23)  # "a b" three times
    assert row["top_3gram_chars_ratio"] == pytest.approx(5 * 2 / 23)  # "a b a" first of two that stand twice
    assert row["top_4gram_chars_ratio"] == pytest.approx(7 * 2 / 23)  # "a b a b" twice
    assert row["dup_5gram_chars_ratio"] == 0
    assert (row["pass"], row["reason"], row["threshold"]) == (False, "top_2gram", 0.2)


def test_repeats_are_scanned_left_to_right_and_skipped() -> None:
    row = run(["a b c d e a b c d e a b c d e f"])[0]  # 31 characters; "abcde" at words 5 and 10
    assert row["dup_5gram_chars_ratio"] == pytest.approx(10 / 31)
    assert row["dup_6gram_chars_ratio"] == pytest.approx(6 / 31)  # "abcdea" at word 5; "abcdef" is new
    assert row["dup_10gram_chars_ratio"] == pytest.approx(10 / 31)


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("empty", ""),
        ("dup_paragraphs", "a\n\na\n\nb" + " " * 50 + different(40)),
        ("dup_paragraph_chars", different(30) + "\n\n" + different(30) + "\n\n" + "\n\n".join("pqrst")),
        ("dup_lines", "a\na\na\n" + different(40)),
        ("dup_line_chars", different(30) + "\n" + different(30) + "\n" + "\n".join("pqrst")),
        ("top_2gram", " and ".join(f"it was {x}" for x in "abcdefghij")),
        ("top_3gram", ", ".join(f"it really was {x * 40}" for x in "abcdefghij")),
        ("dup_5gram", different(40) + " or " + different(40)),
    ],
)
def test_each_reason(reason: str, text: str) -> None:
    row = run([text])[0]
    assert (row["pass"], row["reason"]) == (False, reason)
    statistic, bound = next((s, b) for r, s, b in RULES if r == reason)
    assert row["value"] == pytest.approx(row[statistic])
    assert row["threshold"] == getattr(Config(), bound)
    at_the_edge = Config(
        **{field: 0 if field == "min_chars" else 1e9 for _, _, field in RULES} | {bound: row["value"]}
    )
    assert run([text], at_the_edge)[0]["pass"]


def test_text_without_repeats_passes() -> None:
    rows = run([different(500), "one", "  ", "a\n\n\n", "\n\n\na"])
    assert [(row["pass"], row["reason"], row["value"], row["threshold"]) for row in rows] == [
        (True,) + (None,) * 3
    ] * 5


def test_null_reads_as_empty_text() -> None:
    null, empty = run([None, ""])
    assert {**null, "id": "1", "text": ""} == empty
    assert (null["pass"], null["reason"], null["value"], null["threshold"]) == (False, "empty", 0, 1)
    assert null["dup_lines_ratio"] == 0  # the one line that "" is
    assert null["top_2gram_chars_ratio"] is None
    assert run([None], Config(min_chars=0))[0]["pass"]


@pytest.mark.parametrize(
    "bounds", [{"max_dup_lines_ratio": -0.1}, {"max_top_2gram_chars_ratio": float("nan")}]
)
def test_nonsense_bounds_are_refused(bounds: dict[str, float]) -> None:
    with pytest.raises(ConfigError) as error:
        Config(**bounds)  # type: ignore[arg-type]
    assert error.value.hint


def test_grams_of_a_script_without_spaces_are_of_dictionary_words() -> None:
    row = run(["学校 中文 学校中文。"])[0]  # 学校 中文 twice, 5 characters with a space between the words
    assert row["top_2gram_chars_ratio"] == pytest.approx(2 * 5 / 11)


def test_a_script_without_spaces_and_dictionary_is_refused() -> None:
    row = run(["བོད་ཡིག་གི་ཚིག\nབོད་ཡིག་གི་ཚིག"])[0]
    assert (row["pass"], row["reason"], row["value"]) == (False, "no_word_splitter", None)
    assert (row["dup_lines_ratio"], row["top_2gram_chars_ratio"], row["dup_10gram_chars_ratio"]) == (
        0.5,
        None,
        None,
    )


def test_thresholds_are_those_of_the_rows_language(tmp_path: Path) -> None:
    def write(name: str, lines: float, top: float) -> None:
        grams = "".join(f"\n- [{n}, {top}]" for n in (2, 3, 4))
        dup = "".join(f"\n- - {n}\n  - 0.5" for n in range(5, 11))
        (tmp_path / f"{name}.yml").write_text(
            f"dup_line_frac: {lines}\ntop_n_grams:{grams}\ndup_n_grams:{dup}\n"
        )

    write("swh_Latn", 0.6, 0.9)
    write("fra_Latn", 0.2, 0.05)
    text = different(10) + "\na\na\nb"  # a quarter of its lines
    often = "a b " * 4 + different(20)
    batch = pa.record_batch(
        {
            "text": pa.array([text, text, often, often, text], pa.large_string()),
            "lang": ["sw", "fr", "sw", "fr", "xx"],
        }
    )
    out = gopher_repetition(batch, Config(thresholds=str(tmp_path), max_dup_lines_ratio=0))
    assert out["gopher_repetition_reason"].to_pylist() == [
        None,
        "dup_lines",
        None,
        "top_2gram",
        "no_thresholds",
    ]
    assert out["gopher_repetition_threshold"].to_pylist() == [None, 0.2, None, 0.05, None]


def check(texts: list[str | None], rows: list[dict[str, Any]]) -> None:
    for text, row in zip(texts, rows, strict=True):
        for statistic, value in repetition(text or "").items():
            assert row[statistic] == (None if value is None else pytest.approx(value)), (statistic, text)


FEW = st.lists(
    st.sampled_from(["a", "b", "é", " ", " ", "\n", "\n\n", "🙂", ".", "\u3000", "中"]), max_size=120
).map("".join)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.none() | FEW | st.text(max_size=40).map(lambda t: t.encode("utf-8", "ignore").decode()), max_size=4
    )
)
def test_statistics_are_those_of_slow_python(texts: list[str | None]) -> None:
    check(texts, run(texts))


@settings(max_examples=50, deadline=None)
@given(st.lists(FEW, max_size=6), st.integers(0, 6))
def test_a_slice_gives_the_same_rows(texts: list[str], cut: int) -> None:
    batch = pa.record_batch({"text": pa.array(texts, pa.large_string())})
    whole = gopher_repetition(batch, Config())
    assert gopher_repetition(batch.slice(cut), Config()) == whole.slice(cut)


def test_statistics_on_real_text(shared_data: Path) -> None:
    texts: list[str | None] = [
        text[:3_000]
        for path in sorted((shared_data / "multilingual").glob("*.parquet"))
        for text in pq.read_table(path, columns=["text"])["text"].drop_null().to_pylist()[::1000]
    ]
    assert len(texts) > 50
    check(texts, run(texts))


def test_a_document_larger_than_the_others_changes_nothing() -> None:
    small, large = "a b c d e " * 3, different(200_000) + "\n" + different(200_000)
    alone, between = run([small]), run([small, large, small])
    assert between[0] == alone[0]
    assert {**between[2], "id": "0"} == alone[0]
    assert between[1]["dup_lines_ratio"] == 0.5
    assert between[1]["dup_10gram_chars_ratio"] == pytest.approx(
        between[1]["dup_5gram_chars_ratio"], rel=1e-3
    )


@pytest.mark.slow
def test_decisions_agree_with_datatrove(shared_data: Path) -> None:
    """99.9% of 1,440 documents of ten English collections when this was written."""
    from datatrove.data import Document
    from datatrove.pipeline.filters import GopherRepetitionFilter

    theirs = GopherRepetitionFilter()
    texts: list[str | None] = []
    for path in sorted((shared_data / "text").glob("*.parquet")):
        column = pq.read_table(path, columns=["text"])["text"].drop_null().to_pylist()
        texts += [text[:12_000] for text in column[:: max(1, len(column) // 40)]]
    kept = [theirs.filter(Document(text=text or "", id="")) is True for text in texts]
    agreed = sum(row["pass"] == keep for row, keep in zip(run(texts), kept, strict=True))
    assert 0.2 < sum(kept) / len(kept) < 0.95
    assert agreed / len(texts) >= 0.98
