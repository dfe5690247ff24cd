"""A tokenizer fitted on a corpus: any text comes back whole, the same corpus gives the same bytes."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.cli.main import app
from curate.errors import ConfigError, DataError, ModelError
from curate.fit.tokenizer import FITTED, fit, fitted_on
from curate.models.tokenizer import SPECIAL, Tokenizer, contract

WORDS = "the quick brown fox jumps over a lazy dog and naïve cats — 猫 12345 years".split()


def corpus(folder: Path, order: list[int], files: int = 1) -> str:
    """Documents by number, each with an id of its own, in so many files."""
    folder.mkdir()
    for file, numbers in enumerate(np.array_split(order, files)):
        texts = [" ".join(np.random.default_rng(n).choice(WORDS, 30)) for n in numbers]
        table = pa.table({"id": [f"d{n}" for n in numbers], "text": texts})
        pq.write_table(table, folder / f"part-{file:05d}.parquet")
    (folder / "_curate").mkdir()  # a dataset of ours: ids stay
    (folder / "_curate/manifest.json").write_text("{}")
    return str(folder)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("fit")
    fit([corpus(place / "in", list(range(200)))], str(place / "out"), 400)
    return place / "out"


@settings(max_examples=200, deadline=None)
@given(text=st.text())
def test_any_text_comes_back(fitted: Path, text: str) -> None:
    tokenizer = Tokenizer(str(fitted), plain=True)
    ids, offsets = tokenizer.encode([text, "", text])
    assert offsets[1] == offsets[2]
    assert ids[: offsets[1]].tolist() == ids[offsets[2] :].tolist()
    assert tokenizer.library.decode(ids[: offsets[1]].tolist(), skip_special_tokens=False) == text
    assert not set(ids.tolist()) & set(range(len(SPECIAL)))


def test_words_are_single_tokens_and_digits_apart(fitted: Path) -> None:
    tokenizer = Tokenizer(str(fitted))
    assert tokenizer.counts([" quick brown", " 123", "12345"]) == [2, 4, 5]


def test_the_contract(fitted: Path) -> None:
    found = contract(str(fitted))
    assert (found.bos, found.eos) == (0, 1)
    assert found.special == {word: i for i, word in enumerate(SPECIAL)}
    said = json.loads((fitted / FITTED).read_text())
    assert found.tokenizer == said["tokenizer"]
    assert found.vocab_size == said["vocab_size"] <= 400
    on = fitted_on(str(fitted))
    assert on
    assert (on.tokenizer, on.sampled) == (found.tokenizer, 200)
    (fitted / "tokenizer_config.json").rename(fitted / "aside.json")
    try:
        with pytest.raises(ModelError, match="names no token that ends a document"):
            contract(str(fitted))
        (fitted / "special_tokens_map.json").write_text('{"eos_token": {"content": "<|pad|>"}}')
        assert (contract(str(fitted)).bos, contract(str(fitted)).eos) == (None, 2)
    finally:
        (fitted / "special_tokens_map.json").unlink(missing_ok=True)
        (fitted / "aside.json").rename(fitted / "tokenizer_config.json")


@pytest.mark.slow  # transformers
def test_the_hub_library_opens_the_folder(fitted: Path) -> None:
    transformers = pytest.importorskip("transformers")
    opened = transformers.AutoTokenizer.from_pretrained(str(fitted))
    text = "the naïve  fox\n\n12 <b> 🐈"
    ids, _ = Tokenizer(str(fitted)).encode([text])
    assert opened(text, add_special_tokens=False)["input_ids"] == ids.tolist()
    assert opened(text)["input_ids"] == [0, *ids.tolist()]
    assert (opened.bos_token_id, opened.eos_token_id, opened.pad_token_id) == (0, 1, 2)
    assert opened.decode(ids) == text
    assert len(opened) == contract(str(fitted)).vocab_size


def test_a_sample_is_of_the_same_documents_in_any_order(tmp_path: Path) -> None:
    order = list(range(300))
    one = fit([corpus(tmp_path / "a", order)], str(tmp_path / "ta"), 300, sample=40)
    np.random.default_rng(0).shuffle(order)
    two = fit([corpus(tmp_path / "b", order, files=3)], str(tmp_path / "tb"), 300, sample=40)
    assert (one.documents, one.sampled) == (two.documents, two.sampled) == (300, 40)
    assert one.text_bytes == two.text_bytes
    assert (tmp_path / "ta/tokenizer.json").read_bytes() == (tmp_path / "tb/tokenizer.json").read_bytes()
    assert one.tokenizer == two.tokenizer
    assert one.corpus != two.corpus  # other files, and so other contents
    other = fit([corpus(tmp_path / "c", order[:100])], str(tmp_path / "tc"), 300, sample=500)
    assert (other.sampled, len(other.files)) == (100, 1)


def test_what_is_refused(tmp_path: Path) -> None:
    good = corpus(tmp_path / "in", [1, 2])
    with pytest.raises(ConfigError, match="264 tokens or more"):
        fit([good], str(tmp_path / "out"), 263)
    with pytest.raises(ConfigError, match="is not empty"):
        fit([good], good, 300)
    pq.write_table(pa.table({"text": pa.array([None, None], pa.string())}), tmp_path / "null.parquet")
    with pytest.raises(DataError, match="no document with text"):
        fit([str(tmp_path / "null.parquet")], str(tmp_path / "out"), 300)
    assert not list((tmp_path / "out").iterdir())


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["fit", "tokenizer", corpus(tmp_path / "in", list(range(50))), "-o", str(tmp_path / "out")]
    app([*arguments, "--vocab-size", "100000"], standalone_mode=False)
    shown = capsys.readouterr()
    assert "50 of 50 documents" in shown.out
    assert "no other pair comes twice" in shown.err
    assert f"curate tokenize CORPUS -o TOKENS --tokenizer {tmp_path / 'out'}" in shown.err
    arguments[-1] = str(tmp_path / "more")
    app([*arguments, "--vocab-size", "300", "--sample", "9", "--json"], standalone_mode=False)
    said = json.loads(capsys.readouterr().out)
    assert (said["schema"], said["sampled"], said["vocab_size"]) == ("curate.fit/1", 9, 300)


def test_what_it_was_trained_on_goes_with_the_tokenizer(fitted: Path, tmp_path: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((fitted / name).read_bytes())
    assert fitted_on(str(tmp_path)) is None
    (tmp_path / FITTED).write_bytes((fitted / FITTED).read_bytes())
    (tmp_path / "tokenizer.json").write_text((fitted / "tokenizer.json").read_text() + " ")
    with pytest.raises(DataError, match=r"is of another tokenizer\.json"):
        fitted_on(str(tmp_path))
    (tmp_path / FITTED).write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        fitted_on(str(tmp_path))
