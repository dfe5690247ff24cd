"""`token_count`: the tokenizer's own counts, or an estimate by characters."""

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from curate.errors import ConfigError, ModelError
from curate.stages.token_count import Config, load, token_count

TEXTS = [
    "the cat sat on the mat",
    "a naïve café — 猫が座った 🐈",
    "",
    " ",
    "the the the\n\nthe",
    "\x00\t",
    "zebra quilt vow " * 9,
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny byte-level BPE that adds special tokens, truncates and pads when asked as it stands."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<s>"], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(TEXTS[:3], trainer)
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    made.enable_truncation(3)
    made.enable_padding(length=8)
    path = tmp_path_factory.mktemp("tokenizer")
    made.save(str(path / "tokenizer.json"))
    return path


def counts(texts: list[str | None], config: Config) -> list[int | None]:
    batch = pa.record_batch(
        {"id": [str(i) for i in range(len(texts))], "text": pa.array(texts, pa.large_string())}
    )
    out = token_count(batch, config, load(config, Path()))
    assert out.select(["id", "text"]) == batch
    assert out.schema.field("token_count").type == pa.int32()
    found: list[int | None] = out["token_count"].to_pylist()
    return found


def test_characters_by_hand() -> None:
    texts = ["", "a", "abcd", "abcde", "猫猫猫猫", "🐈", None]
    assert counts(texts, Config()) == [0, 1, 1, 2, 1, 1, None]
    assert counts(texts, Config(chars_per_token=2.5)) == [0, 1, 2, 2, 2, 1, None]
    assert counts([], Config()) == []


def test_equal_to_the_tokenizer_itself(folder: Path) -> None:
    library = Tokenizer.from_file(str(folder / "tokenizer.json"))
    library.no_truncation()
    library.no_padding()
    own = [len(library.encode(text, add_special_tokens=False).ids) for text in TEXTS]
    assert max(own) > 8
    assert counts([*TEXTS, None], Config(tokenizer=str(folder))) == [*own, None]
    assert counts(list(TEXTS), Config(tokenizer=str(folder / "tokenizer.json"))) == own
    assert counts([], Config(tokenizer=str(folder))) == []


@settings(max_examples=50, deadline=None)
@given(texts=st.lists(st.none() | st.text(), max_size=12), cut=st.integers(0, 12), with_model=st.booleans())
def test_slicing_changes_nothing(folder: Path, texts: list[str | None], cut: int, with_model: bool) -> None:
    config = Config(tokenizer=str(folder)) if with_model else Config()
    tokenizer = load(config, Path())
    batch = pa.record_batch({"text": pa.array(texts, pa.large_string())})
    pieces = (batch.slice(0, cut), batch.slice(min(cut, len(texts))))
    found = [token_count(piece, config, tokenizer)["token_count"].to_pylist() for piece in pieces]
    assert found[0] + found[1] == token_count(batch, config, tokenizer)["token_count"].to_pylist()


def test_the_file_is_part_of_the_fingerprint(folder: Path) -> None:
    files = token_count.stage.files
    assert files(Config(tokenizer=str(folder))) == [str(folder / "tokenizer.json")]
    assert files(Config()) == []


def test_errors(tmp_path: Path) -> None:
    for bad in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError):
            Config(chars_per_token=bad)
    with pytest.raises(ModelError, match="no tokenizer"):
        load(Config(tokenizer=str(tmp_path)), Path())
    (tmp_path / "tokenizer.json").write_text('{"model": ')
    with pytest.raises(ModelError, match="cannot read") as caught:
        load(Config(tokenizer=str(tmp_path)), Path())
    assert str(tmp_path / "tokenizer.json") in caught.value.what
