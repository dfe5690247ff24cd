"""`curate fit thresholds`: rules by hand, a corpus to files to verdicts, what is refused."""

import json
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from curate.cli.main import app
from curate.errors import ConfigError, DataError
from curate.fit import thresholds
from curate.fit.thresholds import KEYS, Options, carry, fit, stop_words
from curate.stages import _thresholds, fineweb_quality, gopher_quality, gopher_repetition, language_id

HUNDRED = np.arange(100) / 100  # 0, .01 ... .99


@pytest.mark.parametrize(
    ("rule", "low", "english", "there", "expected"),
    [
        ("quantile", False, 0.895, HUNDRED, 1.782),  # a tenth is above, in both
        ("quantile", True, 0.095, HUNDRED, 0.198),
        ("quantile", False, 5.0, HUNDRED, 1.98),  # none is above: the largest
        ("mean_std", False, 0.895, HUNDRED, 1.79),  # twice the mean and twice the spread
        ("mean_std", True, 0.1, HUNDRED, 0.2),
        ("mean_std", True, 0.7, np.full(9, 0.5), 0.7),  # English does not vary: nothing to carry
        ("median_ratio", False, 0.3, HUNDRED, 0.6),
        ("median_ratio", False, 0.3, np.zeros(9), 0.3),
        ("tail", False, 0.3, HUNDRED, 1.782),
        ("tail", True, 0.3, HUNDRED, 0.198),
    ],
)
def test_rules_by_hand(rule, low, english, there, expected) -> None:
    assert carry(rule, english, 2 * HUNDRED, there, low, 0.1) == pytest.approx(expected)


def test_what_does_not_vary_in_a_language_keeps_the_english_threshold() -> None:
    assert carry("mean_std", 0.1, np.zeros(9), HUNDRED, True, 0.1) == 0.1
    assert carry("mean_std", 0.3, np.zeros(9), HUNDRED, False, 0.1) == 0.3


@pytest.mark.parametrize("code", ["../../x", "x/y", "", "x\\y", "xx ", "xx_", ".", "a\n"])
def test_a_language_that_is_no_code_names_no_file(tmp_path: Path, code: str) -> None:
    rows = {"en": (ENGLISH, 30), code: (SPANISH, 30)}
    reference = corpus(tmp_path / "ref", rows)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match="is no code of a language") as error:
        fit([str(reference)], [], str(tmp_path / "a/b/out"), Options(min_documents=20))
    assert repr(code) in str(error.value)
    assert "a.parquet" in error.value.where
    assert sorted(tmp_path.rglob("*")) == before
    fit([str(reference)], ["en"], str(tmp_path / "out"), Options(min_documents=20))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["en.yaml"]


def test_a_large_reference_is_measured_by_a_sample_whatever_its_order(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(thresholds, "SAMPLE", 40)
    corpus(tmp_path / "ref", {"en": (ENGLISH, 300)})
    table = pq.read_table(tmp_path / "ref/a.parquet").append_column("id", pa.array(map(str, range(300))))
    batches = [
        batch.set_column(0, "text", batch["text"].cast(pa.large_string()))
        for batch in table.to_batches(max_chunksize=30)
    ]
    sampled, turned, whole = thresholds.Reference(), thresholds.Reference(), thresholds.Reference()
    for batch, other in zip(batches, reversed(batches), strict=True):
        sampled.add(batch)
        turned.add(other)
    values = sampled.values("en", "mean_word_chars")
    assert len(values) == 40
    assert sorted(values) == sorted(turned.values("en", "mean_word_chars"))
    assert sampled.documents == {"en": 300}
    monkeypatch.setattr(thresholds, "SAMPLE", 300)
    for batch in batches:
        whole.add(batch)
    assert len(whole.values("en", "mean_word_chars")) == 300
    assert np.isin(values, whole.values("en", "mean_word_chars")).all()
    assert sampled.words == whole.words  # stop words are counted in all documents


def test_rare_words_are_forgotten(monkeypatch) -> None:
    monkeypatch.setattr(thresholds, "_WORDS_HELD", 5)
    reference = thresholds.Reference()
    for i in range(30):
        letters = "abcdefghijklmnopqrstuvwxyz"
        texts = [f"the of and x{letters[i % 26]}{letters[i // 26]} y{letters[i % 26]}{letters[i // 26]}"]
        reference.add(
            pa.record_batch({"id": [str(i)], "text": pa.array(texts, pa.large_string()), "lang": ["en"]})
        )
    assert len(reference.words["en"]) <= 10
    assert [reference.words["en"][word] for word in ("the", "of", "and")] == [30, 30, 30]


def test_language_id_is_named_only_where_every_file_has_its_threshold(tmp_path: Path) -> None:
    for score in (True, False):
        reference = corpus(tmp_path / f"ref{score}", {"en": (ENGLISH, 30), "es": (SPANISH, 30)}, score=score)
        out = str(tmp_path / f"out{score}")
        common = ["fit", "thresholds", "--reference", str(reference), "--min-documents", "20", "-o", out]
        said = CliRunner().invoke(app, common).stderr
        assert ("fineweb_quality and language_id" in said) is score
        assert ("gopher_repetition and fineweb_quality\n" in said) is not score
        assert ("the reference has a column `lang_score`" in said) is not score
        if score:
            language_id.Config(thresholds=out)
    with pytest.raises(ConfigError, match="`language_score` is missing") as error:
        language_id.Config(thresholds=out)
    assert "`lang_score`" in error.value.hint


def test_stop_words_are_those_of_a_share_and_at_least_eight() -> None:
    counts = dict(zip("abcdefghijk", [50, 40, 30, 9, 8, 8, 8, 8, 8, 1, 1], strict=True))
    assert stop_words(counts, 1000, 0.008) == tuple("abcdefghi")
    assert stop_words(counts, 1000, 0.03) == tuple("abcdefgh")


def corpus(folder: Path, rows: dict[str, tuple[str, int]], score: bool = False) -> Path:
    """Documents of sixty to ninety words drawn from the words of each language."""
    draw = random.Random(7)
    texts, langs = [], []
    for lang, (words, count) in rows.items():
        for _ in range(count):
            lines = [
                " ".join(draw.choices(words.split(), k=draw.randint(12, 18))) + draw.choice(".  ")
                for _ in range(5)
            ]
            texts.append("\n".join(lines))
            langs.append(lang)
    columns = {"text": texts, "lang": langs}
    if score:
        columns["lang_score"] = pa.array([draw.uniform(0.6, 1) for _ in texts], pa.float32())
    folder.mkdir()
    pq.write_table(pa.table(columns), folder / "a.parquet")
    return folder


ENGLISH = "the be to of and that have with in it house tree river water stone light 1 2"
SPANISH = "no la el de que y en los casa árbol río agua piedra luz noche 1 2 3"


def test_from_a_corpus_to_files_to_verdicts(tmp_path: Path) -> None:
    reference = corpus(
        tmp_path / "ref", {"en": (ENGLISH, 60), "es": (SPANISH, 50), "fr": ("le la", 3)}, score=True
    )
    fitted, refused = fit([str(reference)], [], str(tmp_path / "out"), Options(min_documents=50))
    assert [(one.lang, one.documents) for one in fitted] == [("en", 60), ("es", 50)]
    assert refused == {"fr": "3 documents, fewer than 50"}
    files = _thresholds.read(str(tmp_path / "out"))
    spanish = files["es"]
    assert set(spanish.stopwords or ()) == set(SPANISH.split()) - set("123")  # `no` stays a word
    assert 0.3 <= (spanish.language_score or 0) <= 0.9
    assert [n for n, _ in spanish.dup_n_grams or ()] == list(range(5, 11))

    # what the table says that a value drops is what the stage drops by that rule alone
    table = pq.read_table(reference)
    rows = table.filter(pa.compute.equal(table["lang"], "es")).combine_chunks().to_batches()[0]
    rows = rows.set_column(0, "text", rows["text"].cast(pa.large_string()))
    shares = {(one.key, one.n): one.dropped for one in fitted[1].fitted}
    for (key, n), (module, statistic, option) in KEYS.items():
        name = module.__name__.rpartition(".")[2]
        off = {bound: 0 if bound.startswith("min_") else 10**9 for _, _, bound in module.RULES}
        value = spanish.bounds()[option]
        out = getattr(module, name)(rows, module.Config(**{**off, option: value}))
        assert 1 - np.mean(out[f"{name}_pass"].to_pylist()) == pytest.approx(shares[key, n]), statistic
    for module, name in (
        (gopher_quality, "gopher_quality"),
        (gopher_repetition, "gopher_repetition"),
        (fineweb_quality, "fineweb_quality"),
    ):
        config = module.Config(thresholds=str(tmp_path / "out"))
        assert "no_thresholds" not in getattr(module, name)(rows, config)[f"{name}_reason"].to_pylist()


def test_english_files_hold_what_english_uses(tmp_path: Path) -> None:
    reference = corpus(tmp_path / "ref", {"eng_Latn": (ENGLISH, 40)})
    for rule in ("mean_std", "median_ratio"):
        fitted, _ = fit([str(reference)], [], str(tmp_path / rule), Options(min_documents=20, rule=rule))
        values = {(one.key, one.n): one.value for one in fitted[0].fitted}
        assert values["max_avg_word_length", 0] == pytest.approx(10, abs=0.002)
        assert values["top_n_grams", 2] == pytest.approx(0.2, abs=0.002)


def test_what_cannot_be_fitted_is_said(tmp_path: Path) -> None:
    few = corpus(tmp_path / "few", {"en": (ENGLISH, 5), "es": (SPANISH, 30), "bo": ("བོད་ཡིག་གི་ཚིག", 30)})
    out = str(tmp_path / "out")
    with pytest.raises(ConfigError, match="not 20 English documents") as error:
        fit([str(few)], ["es"], out, Options(min_documents=20))
    assert "tail" in error.value.hint
    with pytest.raises(ConfigError, match="bo: its script is written without spaces"):
        fit([str(few)], ["bo"], out, Options(min_documents=20, rule="tail"))
    with pytest.raises(ConfigError, match="no document in sw"):
        fit([str(few)], ["sw"], out, Options(min_documents=20, rule="tail"))
    with pytest.raises(ConfigError, match="en: 5 documents, fewer than 100; es: 30"):
        fit([str(few)], [], out, Options(rule="tail"))
    assert not Path(out).exists()
    fit([str(few)], ["spa"], out, Options(min_documents=20, rule="tail"))
    assert [path.name for path in Path(out).iterdir()] == ["es.yaml"]
    with pytest.raises(ConfigError, match="holds YAML files already"):
        fit([str(few)], ["spa"], out, Options(min_documents=20, rule="tail"))
    (few / "b.jsonl").write_text("{broken\n")
    with pytest.raises(DataError, match="cannot be read"):
        fit([str(few / "b.jsonl")], ["spa"], str(tmp_path / "out2"), Options())


def test_a_reference_without_lang_is_in_the_language_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        "".join(json.dumps({"text": "la casa no es de la luz " * 9}) + "\n" for _ in range(9))
    )
    options = Options(min_documents=5, rule="tail")
    with pytest.raises(ConfigError, match="no column `lang`"):
        fit([str(tmp_path / "a.jsonl")], [], str(tmp_path / "out"), options)
    fitted, _ = fit([str(tmp_path / "a.jsonl")], ["spa_Latn"], str(tmp_path / "out"), options)
    assert [(one.lang, one.documents) for one in fitted] == [("spa_Latn", 9)]


def test_the_command_prints_a_table_and_an_object(tmp_path: Path) -> None:
    reference = corpus(tmp_path / "ref", {"en": (ENGLISH, 30), "es": (SPANISH, 30), "xx": ("a", 2)})
    common = ["fit", "thresholds", "--reference", str(reference), "--min-documents", "20"]
    done = CliRunner().invoke(
        app, [*common, "-o", str(tmp_path / "a"), "--rule", "tail", "--rule", "line_punct_thr=quantile"]
    )
    assert done.exit_code == 0, done.output
    assert "es  30 documents" in done.stdout
    assert "line_punct_thr" in done.stdout
    assert "no file for xx: 2 documents" in done.stderr
    done = CliRunner().invoke(app, [*common, "-o", str(tmp_path / "b"), "--json"])
    found = json.loads(done.stdout)
    assert [one["lang"] for one in found["languages"]] == ["en", "es"]
    assert found["refused"] == {"xx": "2 documents, fewer than 20"}
    for bad in ("best", "stopword=tail"):
        refused = CliRunner().invoke(app, [*common, "-o", str(tmp_path / "c"), "--rule", bad])
        assert isinstance(refused.exception, ConfigError)
