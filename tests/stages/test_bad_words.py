"""`bad_words`: phrases by hand in many scripts, equal to slow Python, decisions equal to datatrove's C4BadWordsFilter."""

import json
import os
import re
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import ConfigError
from curate.schema import CORE
from curate.stages.bad_words import WRITES, Config, bad_words, list_files, load


def run(
    config: Config, texts: list[str | None], langs: list[str | None] | None = None
) -> list[dict[str, Any]]:
    columns = {
        "id": pa.array(map(str, range(len(texts)))),
        "text": pa.array(texts, CORE["text"]),
        "lang": pa.array(langs or [None] * len(texts), pa.string()),
    }
    batch = pa.record_batch(columns)
    out = bad_words(batch, config, load(config, Path(".")))
    assert out.select(["id", "text", "lang"]) == batch
    assert {f.name: f.type for f in out.schema if f.name not in columns} == WRITES
    return [{key.removeprefix("bad_words_"): value for key, value in row.items()} for row in out.to_pylist()]


@pytest.fixture
def listed(tmp_path: Path) -> Any:
    """A Config with a list of phrases."""

    def config(*phrases: str, **options: Any) -> Config:
        (tmp_path / "list").write_text("\n".join(phrases) + "\n", "utf-8")
        return Config(list=str(tmp_path / "list"), **options)

    return config


PHRASES = ("darn", "Darn it", "o.k", "straße", "σάς", "ばか", "笨蛋 x", "บ้า", "дурак", "हट", "#tag", "👎")


@pytest.mark.parametrize(
    ("text", "num", "match"),
    [
        ("Darn, it is", 1, "darn"),
        ("DARN IT! darn it, darn", 3, "Darn it"),  # the longest of a place
        ("darning, undarn, darn_, 1darn", 0, None),
        ("(darn)", 1, "darn"),
        ("o.k.", 1, "o.k"),
        ("book o.king", 0, None),
        ("STRAßE STRASSE", 1, "straße"),
        ("ΣΆΣ", 1, "σάς"),  # final sigma
        ("あのばかやろう", 1, "ばか"),
        ("大笨蛋 xy", 1, "笨蛋 x"),  # found anywhere, as part of it writes no spaces
        ("คนบ้ามาก", 1, "บ้า"),
        ("это ДУРАК!", 1, "дурак"),
        ("дурака", 0, None),
        ("हटा", 0, None),  # a vowel sign goes on the word
        ("हट जा", 1, "हट"),
        ("本darn本", 1, "darn"),  # an ideograph is a word's edge
        ("a #tag b#tag", 1, "#tag"),
        ("no 👎👎", 2, "👎"),
        ("", 0, None),
        (None, None, None),
    ],
)
def test_phrases_by_hand(listed: Any, text: str | None, num: int | None, match: str | None) -> None:
    row = run(listed(*PHRASES), [text])[0]
    assert (row["num_matches"], row["match"]) == (num, match)
    verdict = (True, None, None, None) if not num else (False, "bad_word", num, 0)
    assert (row["pass"], row["reason"], row["value"], row["threshold"]) == verdict


def test_lists_by_language(tmp_path: Path) -> None:
    for name, phrase in (("en", "darn"), ("de", "mist"), ("rest", "zut")):
        (tmp_path / name).write_text(phrase)
    lists = {"en": str(tmp_path / "en"), "deu_Latn": str(tmp_path / "de")}
    texts: list[str | None] = ["darn mist zut"] * 5
    langs = ["eng_Latn", "de", "fr", None, "en"]
    found = run(Config(lists=lists), texts, langs)
    assert [row["match"] for row in found] == ["darn", "mist", None, None, "darn"]
    assert [row["pass"] for row in found] == [False, False, True, True, False]
    assert [row["num_matches"] for row in found] == [1, 1, None, None, 1]
    found = run(Config(lists=lists, list=str(tmp_path / "rest")), texts, langs)
    assert [row["match"] for row in found] == ["darn", "mist", "zut", "zut", "darn"]


def test_a_share_is_kept_by_id(listed: Any) -> None:
    texts: list[str | None] = ["darn", "fine"] * 2000
    kept = {
        share: [row["pass"] for row in run(listed("darn", keep_fraction=share), texts)]
        for share in (0.1, 0.5, 1.0)
    }
    assert [sum(passed[::2]) / 2000 for passed in kept.values()] == pytest.approx([0.1, 0.5, 1], abs=0.03)
    assert all(all(passed[1::2]) for passed in kept.values())
    assert all(b or not a for a, b in zip(kept[0.1], kept[0.5], strict=True))
    other = [row["pass"] for row in run(listed("darn", keep_fraction=0.5, seed=1), texts)]
    assert other != kept[0.5]


def test_errors_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no list was given") as caught:
        Config()
    assert "list: words.txt" in caught.value.hint
    with pytest.raises(ConfigError, match="keep_fraction"):
        Config(list="x", keep_fraction=2)
    with pytest.raises(ConfigError, match="`en` twice"):
        Config(lists={"en": "a", "eng": "b"})
    (tmp_path / "empty").write_text("\n \n")
    with pytest.raises(ConfigError, match="no entry"):
        load(Config(list=str(tmp_path / "empty")), tmp_path)
    with pytest.raises(ConfigError, match="no such list"):  # at plan, before anything runs
        list_files(Config(lists={"en": str(tmp_path / "none")}))


UNSPACED = "[\u0e00-\u0fff\u3041-\u30ff\u4e00-\u9fff]"


def slow_count(text: str, phrases: list[str]) -> int:
    """The same count, character by character."""

    def fold(some: str) -> str:
        return "".join("σ" if c == "ς" else c.lower()[0] for c in some)

    def joins(c: str) -> bool:
        wordlike = c.isalnum() or c == "_" or unicodedata.category(c)[0] == "M"
        return wordlike and not re.match(UNSPACED, c)

    text, num, i = fold(text), 0, 0
    while i < len(text):
        ends = [i + len(p) for p in map(fold, phrases) if text.startswith(p, i) and (
            re.search(UNSPACED, p) or (not (i and joins(text[i - 1])) and not (i + len(p) < len(text) and joins(text[i + len(p)])))
        )]  # fmt: skip
        num, i = (num + 1, max(ends)) if ends else (num, i + 1)
    return num


LETTERS = "aAbBéÉßİıſKςσΣ 本ばก้́_1.\U00010400\U00010428Ⱥⱥ"


@settings(max_examples=300, deadline=None)
@given(
    texts=st.lists(st.text(LETTERS, max_size=12), min_size=1, max_size=5),
    phrases=st.lists(
        st.text(LETTERS, min_size=1, max_size=3).filter(lambda p: p == p.strip()), min_size=1, max_size=6
    ),
)
def test_any_phrase_in_any_text_is_counted_as_slow_python_does(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], phrases: list[str]
) -> None:
    file = tmp_path_factory.getbasetemp() / "phrases"
    file.write_text("\n".join(phrases), "utf-8")
    found = run(Config(list=str(file)), list(texts))
    assert [row["num_matches"] for row in found] == [slow_count(text, phrases) for text in texts]


THEIRS = """
import json, sys
from pathlib import Path
from huggingface_hub import cached_assets_path
from datatrove.data import Document
from datatrove.io import strip_protocol
from datatrove.pipeline.filters import c4_filters

folder = cached_assets_path(library_name="datatrove", namespace="filters", subfolder="c4_badwords")
given = json.load(sys.stdin)
for lang, words in given["words"].items():  # where the filter keeps the lists that it has fetched
    url = c4_filters._EN_BADWORDS_URL if lang == "en" else c4_filters._BADWORDS_URL + lang
    file = Path(folder) / strip_protocol(url).replace("/", "_")
    file.write_text("".join(word + "\\n" for word in words), "utf-8")
    Path(f"{file}.completed").touch()
block = c4_filters.C4BadWordsFilter()
documents = [Document(text=text, id="", metadata={"language": lang}) for lang, text in given["rows"]]
json.dump([block.filter(document) is True for document in documents], sys.stdout)
"""


def test_decisions_are_those_of_datatrove(shared_data: Path, tmp_path: Path) -> None:
    table = pq.read_table(shared_data / "classifiers/bad_words_28_languages.parquet")
    words: dict[str, list[str]] = {}
    for word, lang in zip(table["word"].to_pylist(), table["lang"].to_pylist(), strict=True):
        # phrases with capitals are never found there, and short ones of ja and zh are taken out
        if (
            lang in ("en", "de", "es", "fr", "it", "ja", "zh")
            and word == word.lower()
            and not (word.isascii() and lang in ("ja", "zh"))
        ):
            words.setdefault(lang, []).append(word)
    words["ja"] = [word for word in words["ja"] if word not in ("グロ", "女の子")]
    words["zh"] = [word for word in words["zh"] if word != "性"]
    rows = []
    for file in ("toxicity_davidson_tweets_dev", "toxicity_hatecheck_10_languages_dev"):
        read = pq.read_table(shared_data / f"classifiers/{file}.parquet", columns=["text", "lang"])
        rows += [
            (lang or "en", text)
            for text, lang in zip(read["text"].to_pylist(), read["lang"].to_pylist(), strict=True)
        ]
    rows = [row for row in rows if row[0] in words][::3]
    lists = {}
    for lang, some in words.items():
        lists[lang] = str(tmp_path / lang)
        (tmp_path / lang).write_text("\n".join(some), "utf-8")
    ours = [
        row["pass"]
        for row in run(Config(lists=lists), [text for _, text in rows], [lang for lang, _ in rows])
    ]
    done = subprocess.run(
        [sys.executable, "-c", THEIRS], input=json.dumps({"words": words, "rows": rows}), capture_output=True, text=True,
        check=True, env={**os.environ, "HF_ASSETS_CACHE": str(tmp_path / "assets")},
    )  # fmt: skip
    theirs = json.loads(done.stdout)
    assert len(rows) > 5000
    assert 0.1 < sum(ours) / len(ours) < 0.9
    assert [row for row, a, b in zip(rows, ours, theirs, strict=True) if a != b] == []
