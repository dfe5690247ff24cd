"""The one door to `tokenizers`: a hub-format folder or its tokenizer.json, and how many tokens texts have."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from curate.errors import ModelError


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


class Tokenizer:
    """A tokenizer loaded once per worker."""

    def __init__(self, path: str) -> None:
        os.environ["TOKENIZERS_PARALLELISM"] = (
            "false"  # workers are processes; threads inside them fight for cores
        )
        from tokenizers import Tokenizer as Library

        file = tokenizer_file(path)
        try:
            self._library: Any = Library.from_file(str(file))
        except Exception as error:  # the library raises bare Exception for a file it cannot read
            raise ModelError(
                f"cannot read the tokenizer `{file}`: {error}", hint="save it again in hub format"
            ) from None
        self._library.no_truncation()  # a folder may carry both, and either would change the counts
        self._library.no_padding()

    def counts(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without special tokens."""
        return [
            len(encoding)
            for encoding in self._library.encode_batch_fast(list(texts), add_special_tokens=False)
        ]

    def tokens(self, texts: Sequence[str]) -> list[tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]]:
        """Ids (n,) of each text's tokens, and the characters each comes from (n, 2), without special tokens."""
        return [
            (np.array(encoding.ids, np.uint64), np.array(encoding.offsets, np.int64).reshape(-1, 2))
            for encoding in self._library.encode_batch(list(texts), add_special_tokens=False)
        ]
