"""Words found by `re` are those of the library: every character, and texts made to be awkward."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Library

from curate.models import pretokens
from curate.models.pretokens import _LLAMA3, _QWEN2, Words, way_of
from curate.models.tokenizer import Tokenizer


def level(**more: bool) -> Any:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, **more)


def split(pattern: str) -> Any:
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), level(use_regex=False)])


WAYS: dict[str, Any] = {
    "gpt2": level(),
    "digits": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), level()]),
    _LLAMA3: split(_LLAMA3),
    _QWEN2: split(_QWEN2),
}
TEXT = "It's the cat's  naïve\n\n 12 345's I'LL we'Ve.\n\t__x__ ('the') a_b 9a a9 \r\n end. 'tis''s ...\n\n\n  \n x"


def made(pre: Any) -> Library:
    library = Library(models.BPE())
    library.pre_tokenizer, library.decoder = pre, decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        special_tokens=["<s>"],
    )
    library.train_from_iterator([TEXT] * 9, trainer)
    return library


@pytest.fixture(scope="module", params=WAYS, ids=["gpt2", "digits", "llama3", "qwen2"])
def way(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Tokenizer]:
    folder = tmp_path_factory.mktemp("way")
    made(WAYS[request.param]).save(str(folder / "tokenizer.json"))
    return request.param, Tokenizer(str(folder), plain=True)


def test_each_way_is_known(way: tuple[str, Tokenizer]) -> None:
    name, tokenizer = way
    assert way_of(tokenizer.library) == name
    assert tokenizer._words is not None


def same(tokenizer: Tokenizer, texts: list[str]) -> None:
    ids, offsets = tokenizer.encode(texts)
    whole = tokenizer.library.encode_batch(texts, add_special_tokens=False)
    for i, encoding in enumerate(whole):
        assert ids[offsets[i] : offsets[i + 1]].tolist() == encoding.ids, repr(texts[i])


@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.slow), 41])
def test_every_character_it_takes_is_classed_alike(way: tuple[str, Tokenizer], step: int) -> None:
    _, tokenizer = way
    words = tokenizer._words
    assert words
    taken = [chr(c) for c in range(0x30000) if not 0xD800 <= c < 0xE000 and words.takes(chr(c))]
    assert len(taken) > 60_000
    assert {"é", "猫", "🐈", "’", "\u00a0", "\u200b"} <= set(taken)
    assert not {"²", "Ⅷ", "\x1c", "\x85", "ſ"} & set(taken)
    pieces = tokenizer.library.pre_tokenizer.pre_tokenize_str
    find = words._find
    for start in range(0, len(taken), 500 * step):
        text = "".join(f"a{c}b {c}.{c} {c}1{c}'s\n{c}\n" for c in taken[start : start + 500 * step : step])
        assert [text[a:b] for _, (a, b) in pieces(text)] == find(text)


AWKWARD = st.lists(
    st.sampled_from(["'s", "'LL", "'", " ", "  ", "\n", "\r\n", "\t", "1", "12", "1234", "a", "Zé", "_", "--", ".", "猫",
                     "\u00a0", "\u2028", "²", "\x1c", "🐈", "e\u0301", "<s>"]) | st.text(max_size=3),
    max_size=14,
).map("".join)  # fmt: skip


@settings(max_examples=250, deadline=None)
@given(texts=st.lists(AWKWARD, max_size=5))
def test_texts_have_the_tokens_of_the_library(way: tuple[str, Tokenizer], texts: list[str]) -> None:
    same(way[1], texts)


def test_words_are_forgotten_in_time(way: tuple[str, Tokenizer], monkeypatch: pytest.MonkeyPatch) -> None:
    _, tokenizer = way
    monkeypatch.setattr(pretokens, "MAX_WORDS", 5)
    words = tokenizer._words
    assert words is not None
    words._known.clear()
    same(tokenizer, ["one two three four five six"])
    assert {"one", " six"} <= words._known.keys()
    same(tokenizer, ["seven eight"])
    assert words._known.keys() >= {"seven", " eight"}
    assert not {"one", " six"} & words._known.keys()
    same(tokenizer, [TEXT, TEXT[::-1], TEXT])


def test_other_ways_are_left_to_the_library(tmp_path: Path) -> None:
    assert way_of(made(pre_tokenizers.Metaspace())) == ""
    assert way_of(made(pre_tokenizers.ByteLevel(add_prefix_space=True))) == ""
    assert way_of(made(split(r"\s+"))) == ""
    assert way_of(made(level(use_regex=False))) == ""
    other = made(level())
    other.normalizer = normalizers.NFC()
    assert way_of(other) == ""
    other = made(level())
    other.add_tokens(["the cat"])  # is found in a text before its words are
    assert way_of(other) == ""
    other = made(level())
    other.model.dropout = 0.1
    assert way_of(other) == ""
    made(level()).save(str(tmp_path / "tokenizer.json"))
    assert Tokenizer(str(tmp_path))._words is None  # special tokens are looked for in the text
    assert isinstance(Tokenizer(str(tmp_path), plain=True)._words, Words)
