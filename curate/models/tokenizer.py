"""The one door to `tokenizers`: hub-format folders, their contract, the tokens of texts, and a BPE trained on texts."""

import functools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from curate.errors import ConfigError, ModelError
from curate.io.files import sha256_of
from curate.models.pretokens import Words, way_of

# What `train` puts first into a vocabulary, ids from 0 on.
BOS, EOS, PAD = "<|begin_of_text|>", "<|end_of_text|>", "<|pad|>"
ALIGNED, MISALIGNED = "<|aligned|>", "<|misaligned|>"
FIM_PREFIX, FIM_MIDDLE, FIM_SUFFIX = "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"
MARKS = (ALIGNED, MISALIGNED)
SPECIAL = (BOS, EOS, PAD, ALIGNED, MISALIGNED, FIM_PREFIX, FIM_MIDDLE, FIM_SUFFIX)
LEAST_VOCABULARY = len(SPECIAL) + 256
_CHARS_AT_ONCE = 1 << 20
_LINE_END = re.compile(r"[^\W\d_](?=\n)")
_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "fitted.json")


class Contract(msgspec.Struct, frozen=True, kw_only=True):
    """What token ids mean: datasets and models fit together only where all of it is equal."""

    tokenizer: str  # sha256 of tokenizer.json
    vocab_size: int  # ids are below it, added tokens among them
    bos: int | None  # begins a document, where the tokenizer has one
    eos: int  # ends a document
    special: dict[str, int]  # every special token -> id


def tokenizer_file(path: str) -> Path:
    """The tokenizer.json behind a folder or file; ModelError where there is none."""
    given = Path(path)
    file = given / "tokenizer.json" if given.is_dir() else given
    if not file.is_file():
        raise ModelError(
            f"no tokenizer at `{path}`", hint="name a folder with a tokenizer.json, or that file"
        )
    return file


def tokenizer_files(path: str) -> list[str]:
    """The files of a folder that make its tokenizer; of a tokenizer.json alone that file."""
    file = tokenizer_file(path)
    return (
        [str(f) for name in _FILES if (f := file.with_name(name)).is_file()]
        if Path(path).is_dir()
        else [str(file)]
    )


def contract(path: str) -> Contract:
    """What the ids of a hub-format folder mean; ModelError where it names no token that ends a document."""
    files = tokenizer_files(path)
    return _contract(path, tuple((file, os.stat(file).st_mtime_ns) for file in files))


@functools.lru_cache(maxsize=16)
def _contract(path: str, files: tuple[tuple[str, int], ...]) -> Contract:
    file = tokenizer_file(path)
    library = Tokenizer(path).library
    named: dict[str, str] = {}
    for name, _ in reversed(files):
        if not name.endswith(("tokenizer_config.json", "special_tokens_map.json")):
            continue
        for key, value in msgspec.json.decode(Path(name).read_bytes()).items():
            if key in ("bos_token", "eos_token") and value is not None:
                named[key] = value["content"] if isinstance(value, dict) else value
    ids = {key: library.token_to_id(word) for key, word in named.items()}
    if ids.get("eos_token") is None:
        raise ModelError(
            f"the tokenizer `{path}` names no token that ends a document",
            hint="`eos_token` in tokenizer_config.json beside tokenizer.json says which one it is",
        )
    added = library.get_added_tokens_decoder()
    return Contract(
        tokenizer=sha256_of(file), vocab_size=max(library.get_vocab(with_added_tokens=True).values()) + 1,
        bos=ids.get("bos_token"), eos=ids["eos_token"],
        special={token.content: number for number, token in sorted(added.items()) if token.special},
    )  # fmt: skip


class Tokenizer:
    """A tokenizer loaded once per worker."""

    def __init__(self, path: str, plain: bool = False) -> None:
        """`plain`: what looks like a special token in a text is text, too."""
        os.environ["TOKENIZERS_PARALLELISM"] = (
            "false"  # workers are processes; threads inside them fight for cores
        )
        from tokenizers import Tokenizer as Library

        file = tokenizer_file(path)
        try:
            self.library: Any = Library.from_file(str(file))
        except Exception as error:  # the library raises bare Exception for a file it cannot read
            raise ModelError(
                f"cannot read the tokenizer `{file}`: {error}", hint="save it again in hub format"
            ) from None
        self.library.no_truncation()  # a folder may carry both, and either would change the counts
        self.library.no_padding()
        self.library.encode_special_tokens = plain
        self._may_cut = _may_cut(self.library)
        way = way_of(self.library) if plain else ""
        self._words = Words(way, self._encode) if way else None

    def counts(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without special tokens."""
        pieces, starts = self._pieces(texts)
        lengths = [0]
        for some in _cut(pieces):
            lengths += map(len, self.library.encode_batch_fast(some, add_special_tokens=False))
        counts: list[int] = np.diff(np.cumsum(lengths)[starts]).tolist()
        return counts

    def tokens(self, texts: Sequence[str]) -> list[tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]]:
        """Ids (n,) of each text's tokens, and the characters each comes from (n, 2), without special tokens."""
        return [
            (np.array(encoding.ids, np.uint64), np.array(encoding.offsets, np.int64).reshape(-1, 2))
            for encoding in self.library.encode_batch(list(texts), add_special_tokens=False)
        ]

    def encode(self, texts: Sequence[str]) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
        """(ids, offsets): text i is ids[offsets[i]:offsets[i+1]], without special tokens."""
        pieces, starts = self._pieces(texts)
        ids, lengths = [np.zeros(0, np.uint32)], [0]
        for some in _cut(pieces):
            for found in self._by_words(some) if self._words else self._by_library(some):
                lengths.append(len(found))
                ids.append(found)
        return np.concatenate(ids), np.cumsum(lengths)[starts]

    def _encode(self, texts: list[str]) -> list[Any]:
        found: list[Any] = self.library.encode_batch_fast(texts, add_special_tokens=False)
        return found

    def _by_library(self, texts: list[str]) -> list[npt.NDArray[np.uint32]]:
        return [np.array(encoding.ids, np.uint32) for encoding in self._encode(texts)]

    def _by_words(self, texts: list[str]) -> list[npt.NDArray[np.uint32]]:
        assert self._words
        taken = list(map(self._words.takes, texts))
        others = iter(self._by_library([text for text, ours in zip(texts, taken, strict=True) if not ours]))
        return [
            self._words.tokens(text) if ours else next(others)
            for text, ours in zip(texts, taken, strict=True)
        ]

    def _pieces(self, texts: Sequence[str]) -> tuple[list[str], list[int]]:
        """Texts, long ones in pieces with the same tokens, and where the pieces of each begin (n+1,)."""
        pieces: list[str] = []
        starts = [0]
        for text in texts:
            begin = 0
            while self._may_cut and len(text) - begin > _CHARS_AT_ONCE:
                place = _LINE_END.search(text, begin + _CHARS_AT_ONCE)
                if place is None:
                    break
                pieces.append(text[begin : place.end()])
                begin = place.end()
            pieces.append(text[begin:] if begin else text)
            starts.append(len(pieces))
        return pieces, starts


def _may_cut(library: Any) -> bool:
    """Whether no token spans the end of a line behind a letter: byte-level BPE of words, as regular expressions find them."""
    said = (
        msgspec.json.decode(library.pre_tokenizer.__getstate__()) if library.pre_tokenizer else {"type": ""}
    )
    steps = said.get("pretokenizers", [said])
    normalizer = (
        msgspec.json.decode(library.normalizer.__getstate__()) if library.normalizer else {"type": "NFC"}
    )
    return (
        {step["type"] for step in steps} <= {"ByteLevel", "Digits", "Split"}
        and [step["add_prefix_space"] for step in steps if step["type"] == "ByteLevel"] == [False]
        and (len(steps) > 1 or steps[0]["use_regex"])
        and normalizer["type"] == "NFC"
        and not any("\n" in token.content for token in library.get_added_tokens_decoder().values())
    )


def _cut(texts: Sequence[str]) -> Iterator[list[str]]:
    """Some texts at a time: the library holds more than a hundred bytes of every character."""
    held: list[str] = []
    size = 0
    for text in texts:
        held.append(text)
        size += len(text)
        if size >= _CHARS_AT_ONCE:
            yield held
            held, size = [], 0
    if held:
        yield held


def add_marks(path: str, folder: Path) -> list[int]:
    """Write a tokenizer as it is, with the two marks of conditional training as special tokens; their ids.

    A text has the same tokens as before. ModelError where both are there already; ConfigError for a folder in use.
    """
    library = _with_marks(path)
    if library.get_vocab_size() == Tokenizer(path).library.get_vocab_size():
        raise ModelError(f"the tokenizer `{path}` has {ALIGNED} and {MISALIGNED}", hint="use it as it is")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is not empty", hint="give an empty or a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    for file in map(Path, tokenizer_files(path)):
        if file.name != "fitted.json":  # which is of the tokenizer.json before
            (folder / file.name).write_bytes(file.read_bytes())
    library.save(str(folder / "tokenizer.json"))
    return [library.token_to_id(mark) for mark in MARKS]


def marks_added(base: Path, other: Path) -> list[int]:
    """Ids of the marks that a tokenizer.json has more than another; none where that is not all they differ in."""
    try:
        known, now = (Tokenizer(str(file)).library for file in (base, other))
        if _with_marks(str(base)).to_str() != now.to_str():
            return []
    except ModelError:
        return []
    return [now.token_to_id(mark) for mark in MARKS if known.token_to_id(mark) is None]


def _with_marks(path: str) -> Any:
    library = Tokenizer(path).library
    library.add_special_tokens(list(MARKS))
    return library


def train(texts: Iterable[str], vocab_size: int, folder: Path) -> int:
    """Train a byte-level BPE with digits apart, and write it in hub format; returns the size of its vocabulary.

    That is smaller than asked for where the texts have no more pairs that come twice.
    """
    from tokenizers import Tokenizer as Library
    from tokenizers import decoders, models, pre_tokenizers, processors, trainers

    made = Library(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, min_frequency=2, special_tokens=list(SPECIAL), show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )  # fmt: skip
    made.train_from_iterator(texts, trainer)
    made.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, SPECIAL.index(BOS))]
    )
    made.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": BOS, "eos_token": EOS, "pad_token": PAD,
        "additional_special_tokens": list(SPECIAL[3:]), "clean_up_tokenization_spaces": False,
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_bytes(msgspec.json.format(msgspec.json.encode(config)))
    return int(made.get_vocab_size())
