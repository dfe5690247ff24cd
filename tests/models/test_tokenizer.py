"""Long texts go to the library in pieces, and have the same tokens."""

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Library

from curate.models import tokenizer as module
from curate.models.tokenizer import Tokenizer

LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LINES = ["the end\n", "\n\nof", "a.\n\n", "word\nword\n ", "x\n\n\n", "12\n3", "naïve\n", "'s\n", " \n"]


def level(**more: bool) -> Any:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, **more)


PRE: dict[str, Any] = {
    "gpt2": level(),
    "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), level()]),
    "llama3": pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(LLAMA3), "isolated"), level(use_regex=False)]
    ),
}
UNSAFE: dict[str, Any] = {
    "metaspace": pre_tokenizers.Metaspace(), "no words": level(use_regex=False),
    "a space before": pre_tokenizers.ByteLevel(add_prefix_space=True), "none": None,
}  # fmt: skip


def made(folder: Any, pre: Any, normalizer: Any = None) -> Tokenizer:
    library = Library(models.BPE())
    if pre is not None:
        library.pre_tokenizer = pre
    if normalizer:
        library.normalizer = normalizer
    trainer = trainers.BpeTrainer(
        vocab_size=320, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    library.train_from_iterator(["".join(LINES)] * 5, trainer)
    library.save(str(folder / "tokenizer.json"))
    return Tokenizer(str(folder))


@pytest.fixture(scope="module", params=PRE)
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return made(tmp_path_factory.mktemp(request.param), PRE[request.param])


@settings(max_examples=150, deadline=None)
@given(
    texts=st.lists(st.lists(st.sampled_from(LINES) | st.text(max_size=6)).map("".join), max_size=4),
    at=st.integers(1, 20),
)
def test_pieces_have_the_tokens_of_the_whole(tokenizer: Tokenizer, texts: list[str], at: int) -> None:
    whole = [tokenizer.library.encode(text, add_special_tokens=False).ids for text in texts]
    before, module._CHARS_AT_ONCE = module._CHARS_AT_ONCE, at
    try:
        ids, offsets = tokenizer.encode(texts)
        counts = tokenizer.counts(texts)
        pieces = tokenizer._pieces(["some word\n" * 9])[0]
    finally:
        module._CHARS_AT_ONCE = before
    assert [ids[a:b].tolist() for a, b in itertools.pairwise(offsets)] == whole
    assert counts == list(map(len, whole))
    assert len(pieces) > 3 or at > 10


@pytest.mark.parametrize("name", UNSAFE)
def test_others_are_left_whole(tmp_path: Any, name: str) -> None:
    assert not made(tmp_path, UNSAFE[name])._may_cut


def test_normal_forms_that_change_lines(tmp_path: Any) -> None:
    assert made(tmp_path, PRE["gpt2"], normalizers.NFC())._may_cut
    assert not made(tmp_path, PRE["gpt2"], normalizers.Prepend("▁"))._may_cut
