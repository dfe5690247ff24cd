"""`gopher_quality`: each rule at its edge, every statistic equal to slow Python, decisions equal to datatrove's."""

import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import ConfigError
from curate.stages.gopher_quality import RULES, WRITES, Config, gopher_quality

sys.path.insert(0, str(Path(__file__).parents[1] / "kernels"))
from slow_gopher import quality

ANY = Config(
    min_words=0, min_mean_word_chars=0, max_mean_word_chars=1000, min_alpha_words_ratio=0, min_stop_words=0
)


def run(texts: list[str | None], config: Config | None = None) -> list[dict[str, Any]]:
    batch = pa.record_batch(
        {"id": pa.array(map(str, range(len(texts)))), "text": pa.array(texts, pa.large_string())}
    )
    out = gopher_quality(batch, config or Config())
    assert out.select(["id", "text"]) == batch
    assert {field.name: field.type for field in out.schema if field.name not in batch.schema.names} == WRITES
    return [
        {key.removeprefix("gopher_quality_"): value for key, value in row.items()} for row in out.to_pylist()
    ]


def only(**bounds: float) -> Config:
    """Bounds of one rule, all other rules off."""
    off = {field: 0 if field.startswith("min_") else 10**9 for _, _, field in RULES}
    return Config(**{**off, **bounds})  # type: ignore[arg-type]


def prose(words: int) -> str:
    return " ".join(["the", "story", "of", "that", "house"][i % 5] for i in range(words))


@pytest.mark.parametrize(
    ("reason", "good", "bad", "value", "threshold"),
    [
        ("too_few_words", prose(50), prose(49) + " , ( --", 49, 50),
        ("too_many_words", prose(100_000), prose(100_001), 100_001, 100_000),
        ("short_words", "the and " * 30, "the and " * 29 + "the of", 179 / 60, 3),
        ("long_words", "the be " + "x" * 10 + " " + "abcdefghij " * 60, "the be " + "abcdefghijk " * 60, 665 / 62, 10),
        ("too_many_hashes", prose(90) + " #" * 10, prose(89) + " #" * 11, 0.11, 0.1),
        ("too_many_ellipses", prose(89) + " ..." * 10 + " the", prose(88) + " …" * 11 + " the", 0.11, 0.1),
        ("too_many_bullet_lines", "- the house of story\n" * 18 + "the\n" * 2, "\u2003• the house of story\n" * 19 + "the\n", 0.95, 0.9),
        ("too_many_ellipsis_lines", "the house of story...\n" * 3 + (prose(7) + "\n") * 7, "the house of story… \n" * 4 + (prose(9) + "\r\n") * 6, 0.4, 0.3),
        ("too_few_alpha_words", prose(80) + " 1" * 20, prose(79) + " 1" * 21, 0.79, 0.8),
        ("too_few_stop_words", "the be" + " house" * 60, "the The the" + " house" * 60, 1, 2),
    ],
)  # fmt: skip
def test_each_rule_at_its_edge(reason: str, good: str, bad: str, value: float, threshold: float) -> None:
    kept, dropped = run([good, bad])
    assert (kept["pass"], kept["reason"], kept["value"], kept["threshold"]) == (True, None, None, None)
    assert (dropped["pass"], dropped["reason"]) == (False, reason)
    assert dropped["value"] == pytest.approx(value)
    assert dropped["threshold"] == threshold
    assert reason in [r for r, _, _ in RULES]


def test_the_first_failing_rule_in_the_papers_order_is_named() -> None:
    row = run(["# " * 60 + "a " * 60])[0]
    assert row["reason"] == "short_words"
    assert row["hash_ratio"] == pytest.approx(0.5)


def test_null_and_empty_text_are_too_short() -> None:
    null, empty, blank = run([None, "", " \n\u3000"])
    assert {**null, "id": "1", "text": ""} == empty
    assert (null["pass"], null["reason"], null["value"], null["num_words"]) == (False, "too_few_words", 0, 0)
    assert null["mean_word_chars"] is null["hash_ratio"] is null["bullet_lines_ratio"] is None
    assert blank["bullet_lines_ratio"] == 0
    assert all(row["pass"] for row in run([None, "", "  "], ANY))


def test_null_text_with_bytes_under_it_reads_as_empty() -> None:
    text = pa.Array.from_buffers(
        pa.large_string(),
        2,
        [pa.py_buffer(b"\x02"), pa.array([0, 3, 6]).buffers()[1], pa.py_buffer(b"thebig")],
    )
    rows = gopher_quality(pa.record_batch({"text": text}), Config()).to_pylist()
    assert [row["gopher_quality_num_words"] for row in rows] == [0, 1]


def test_stop_words_and_bounds_are_the_users() -> None:
    text = "le chat et la maison " * 12
    german, french = Config(stop_words=("der", "und")), Config(stop_words=("le", "et", "l’été"))
    assert [run([text], c)[0]["reason"] for c in (Config(), german, french)] == [
        "too_few_stop_words", "too_few_stop_words", None,
    ]  # fmt: skip
    assert run([prose(60)], Config(min_words=61))[0]["reason"] == "too_few_words"
    assert run(["un " * 60], only(min_stop_words=0))[0]["pass"]


@pytest.mark.parametrize(
    "bounds",
    [{"min_words": -1}, {"max_hash_ratio": float("nan")}, {"min_words": 10, "max_words": 9},
     {"min_mean_word_chars": 11.0}, {"stop_words": ("the end", "a")}, {"stop_words": ("", "a")},
     {"stop_words": ("the", "the")}],
)  # fmt: skip
def test_nonsense_bounds_are_refused(bounds: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as error:
        Config(**bounds)
    assert error.value.hint


ZH = "我们在学校里学习中文,因为他们喜欢音乐。"
TH = "ภาษาไทยไม่มีช่องว่างระหว่างคำ"
BO = "བོད་ཡིག་གི་ཚིག"


def test_words_of_scripts_without_spaces_are_those_of_a_dictionary() -> None:
    rows = run([ZH, TH, "東京タワーへ行きます。", "ພາສາລາວ", "ភាសាខ្មែរមិនមានចន្លោះ", "မြန်မာဘာသာစကား"], ANY)
    # 我们 在 学校 里 学习 中文 因为 他们 喜欢 音乐; ภาษา ไทย ไม่มี ช่อง ว่าง ระหว่าง คำ; and so on, checked by eye
    assert [row["num_words"] for row in rows] == [10, 7, 4, 2, 4, 2]
    assert rows[0]["alpha_words_ratio"] == pytest.approx(10 / 12)  # 。 and the comma are words too
    assert run([ZH], Config(min_words=1, min_mean_word_chars=1, stop_words=("我们", "因为")))[0]["pass"]


def test_a_script_without_spaces_and_dictionary_is_refused() -> None:
    rows = run([BO, BO + " by the house" * 9, ""], ANY)
    assert [(row["pass"], row["reason"]) for row in rows] == [
        (False, "no_word_splitter"),
        (True, None),
        (True, None),
    ]
    assert (rows[0]["value"], rows[0]["threshold"], rows[0]["num_words"], rows[0]["alpha_words_ratio"]) == (
        None,
    ) * 4
    assert rows[0]["bullet_lines_ratio"] == 0


def test_the_majority_of_letters_decides_and_neighbours_do_not() -> None:
    few = "学习中文" + " house" * 2  # 4 of 14 letters
    texts: list[str | None] = [ZH, prose(60), few, None, BO, TH]
    rows = run(texts, ANY)
    assert rows[2]["num_words"] == 6  # each ideograph by itself
    for text, row in zip(texts, rows, strict=True):
        assert {**run([text], ANY)[0], "id": row["id"]} == row


@pytest.fixture
def folder(tmp_path: Path) -> str:
    names = {
        "fra_Latn": ["le", "la", "no"],
        "deu_Latn": ["der", "und", "die"],
        "srp_Cyrl": ["и", "у"],
        "srp_Latn": ["i", "u"],
    }
    for name, words in names.items():
        lines = [f"- {word}" for word in words]
        (tmp_path / f"{name}.yaml").write_text(
            "max_avg_word_length: 9\nmin_avg_word_length: 2\nmax_non_alpha_words_ratio: 0.5\nstopwords:\n"
            + "\n".join(lines)
        )
    return str(tmp_path)


def in_languages(rows: list[tuple[str, str | None]], config: Config) -> list[str | None]:
    batch = pa.record_batch(
        {
            "text": pa.array([t for t, _ in rows], pa.large_string()),
            "lang": pa.array([c for _, c in rows], pa.string()),
        }
    )
    return gopher_quality(batch, config)["gopher_quality_reason"].to_pylist()


def test_thresholds_and_stop_words_are_those_of_the_rows_language(folder: str) -> None:
    config = Config(thresholds=folder, min_words=4)
    french, german = "le chat de la maison", "der Hund und die Katze"
    cases = [
        (french, "fr", None), (french, "fra", None), (french, "fra_Latn", None), (french, "de", "too_few_stop_words"),
        (german, "deu_Latn", None), ("no no la la 11 11 11", "fr", None), ("no no la 11 11 11 11", "fr", "too_few_alpha_words"),
        (french + " x" * 9, "fr", "short_words"), ("la le maisonnettes maisonnettes", "fr", None),
        ("la le maisonnettes maisonnettes" + " maisonnettes" * 5, "fr", "long_words"),
        (french, "en", "no_thresholds"), (french, None, "no_thresholds"), ("и у и у", "srp_Cyrl", "short_words"),
        ("и у", "sr", "no_thresholds"), ("le la", "fra_Arab", "no_thresholds"),
    ]  # fmt: skip
    found = in_languages([(text, lang) for text, lang, _ in cases], config)
    assert found == [reason for _, _, reason in cases]
    batch = pa.record_batch({"text": pa.array([french], pa.large_string()), "lang": ["en"]})
    row = gopher_quality(batch, config).to_pylist()[0]
    assert (row["gopher_quality_num_words"], row["gopher_quality_threshold"]) == (5, None)
    assert gopher_quality.stage.columns_read(config) == ["text", "lang"]  # type: ignore[attr-defined]
    assert len(gopher_quality.stage.files(config)) == 4  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stopwords: [a, b]", "`min_avg_word_length` is missing"),
        ("min_avg_word_length: 3\nmax_avg_word_length: 2\nmax_non_alpha_words_ratio: 0.5\nstopwords: [a, b]", "above"),
        ("min_avg_word_length: 1\nmax_avg_word_length: 2\nmax_non_alpha_words_ratio: 0.5\nstopwords: [a]", "fewer words"),
        ("min_avg_word_lenth: 3", "min_avg_word_lenth"), ("a: 1\na: 2", "a"), ("- x", "not a file"), ("", "not a file"),
        ("language_score: -1", "0 or more"), ("stopwords: [the end]", "not one word"), ("a: [", "not a file"),
    ],
)  # fmt: skip
def test_a_bad_file_of_thresholds_is_refused_with_its_name(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "fra_Latn.yaml").write_text(text)
    with pytest.raises(ConfigError, match=said) as error:
        Config(thresholds=str(tmp_path))
    assert "fra_Latn.yaml" in error.value.where


def test_a_folder_without_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no YAML file") as error:
        Config(thresholds=str(tmp_path))
    assert "curate fit thresholds" in error.value.hint


TEXT = st.text(st.sampled_from("the be aZé1.-•…#\n\r\u2028\x85 \u3000\u0301中🙂\x00"), max_size=40) | st.text(
    max_size=30
)


def check(texts: list[str | None], rows: list[dict[str, Any]]) -> None:
    for text, row in zip(texts, rows, strict=True):
        for statistic, value in quality(text or "", Config().stop_words).items():
            assert row[statistic] == (None if value is None else pytest.approx(value)), (statistic, text)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.none() | TEXT.map(lambda t: t.encode("utf-8", "ignore").decode()), max_size=5))
def test_statistics_are_those_of_slow_python(texts: list[str | None]) -> None:
    check(texts, run(texts))


@settings(max_examples=50, deadline=None)
@given(st.lists(TEXT.map(lambda t: t.encode("utf-8", "ignore").decode()), max_size=6), st.integers(0, 6))
def test_a_slice_gives_the_same_rows(texts: list[str], cut: int) -> None:
    batch = pa.record_batch({"text": pa.array(texts, pa.large_string())})
    whole = gopher_quality(batch, Config())
    assert gopher_quality(batch.slice(cut), Config()) == whole.slice(cut)


def test_statistics_on_real_text(shared_data: Path) -> None:
    texts: list[str | None] = [
        text[:3_000]
        for path in sorted((shared_data / "multilingual").glob("*.parquet"))
        for text in pq.read_table(path, columns=["text"])["text"].drop_null().to_pylist()[::1000]
    ]
    assert len(texts) > 50
    check(texts, run(texts))


@pytest.mark.slow
def test_decisions_agree_with_datatrove(shared_data: Path) -> None:
    """99.4% of 1,440 documents of ten English collections when this was written."""
    from datatrove.data import Document
    from datatrove.pipeline.filters import GopherQualityFilter

    theirs = GopherQualityFilter()
    texts: list[str | None] = []
    for path in sorted((shared_data / "text").glob("*.parquet")):
        column = pq.read_table(path, columns=["text"])["text"].drop_null().to_pylist()
        texts += [text[:12_000] for text in column[:: max(1, len(column) // 40)]]
    kept = [theirs.filter(Document(text=text or "", id="")) is True for text in texts]
    agreed = sum(row["pass"] == keep for row, keep in zip(run(texts), kept, strict=True))
    assert 0.2 < sum(kept) / len(kept) < 0.95
    assert agreed / len(texts) >= 0.98


def test_stop_words_by_occurrence() -> None:
    text = "the house, the story" + " house" * 60
    assert run([text])[0]["num_stop_words"] == 1
    counted = run([text, "of of of the " * 20], Config(distinct_stop_words=False))
    assert [row["num_stop_words"] for row in counted] == [2, 80]
    assert counted[0]["pass"]
    many = Config(stop_words=("the",), min_stop_words=3, distinct_stop_words=False)
    assert [row["pass"] for row in run(["the " * 3 + "house " * 60, "the " * 2 + "house " * 60], many)] == [
        True,
        False,
    ]


def test_two_files_of_one_language_are_refused_by_name(folder: str) -> None:
    (Path(folder) / "fra_Latn.yml").write_text("{}")
    with pytest.raises(ConfigError, match=r"fra_Latn\.yaml and fra_Latn\.yml are of one language"):
        Config(thresholds=folder)


@pytest.mark.parametrize("text", ["dup_line_fra: 0.1", "dup_line_frac: much", "dup_line_frac: -1", "{"])
def test_a_recipe_says_which_file_of_thresholds_is_wrong(tmp_path: Path, text: str) -> None:
    from curate.recipe.recipe import from_tree
    from curate.recipe.tree import Tree

    (tmp_path / "fra.yaml").write_text(text)
    stages = [{"gopher_quality": {"thresholds": str(tmp_path)}}]
    tree = {"input": {"path": "x"}, "stages": stages, "output": {"path": "y"}}
    with pytest.raises(ConfigError) as error:
        from_tree(Tree(tree, "r.yaml"))
    assert error.value.where == str(tmp_path / "fra.yaml")


def test_thresholds_are_part_of_the_fingerprint_by_content_and_by_name(folder: str) -> None:
    from curate.engine.fingerprints import step_identity
    from curate.recipe.recipe import from_tree
    from curate.recipe.tree import Tree

    tree = {
        "input": {"path": "x"},
        "stages": [{"gopher_quality": {"thresholds": folder}}],
        "output": {"path": "y"},
    }
    seen = [step_identity(from_tree(Tree(tree, "test")).steps[0], ".")["files"]]
    french = Path(folder) / "fra_Latn.yaml"
    french.rename(french.with_name("fro_Latn.yaml"))
    seen.append(step_identity(from_tree(Tree(tree, "test")).steps[0], ".")["files"])
    assert len(seen[0]) == 4
    assert seen[0] != seen[1]
