"""A tokenizer for all arms of a study: byte-level BPE, trained on a corpus that is none of theirs.

Bytes are the alphabet, so that any text comes back whole; every digit is a token of its own, as in SmolLM2. Of a sample
the documents are those whose ids have the smallest hashes: the same ones in whatever order they come. The folder says
what it was trained on (`fitted.json`), for a study that must not train on it.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from curate.errors import ConfigError, DataError
from curate.fit.corpus import Corpus
from curate.models.tokenizer import LEAST_VOCABULARY, contract, train

FITTED = "fitted.json"


class Fitted(msgspec.Struct, frozen=True, kw_only=True):
    """`fitted.json` in a tokenizer's folder: what it was trained on."""

    schema: str = "curate.tokenizer/1"
    tokenizer: str  # sha256 of tokenizer.json
    vocab_size: int
    corpus: str  # digest of the names and contents of its files
    files: list[str]  # digests of the contents alone
    documents: int  # of the corpus, with text
    sampled: int  # of them, trained on
    text_bytes: int  # of those, in UTF-8


def fit(corpus: Sequence[str], folder: str, vocab_size: int, sample: int = 0) -> Fitted:
    """Train on a corpus, or on `sample` documents of it, and write the folder. ConfigError for a folder that is in use."""
    if vocab_size < LEAST_VOCABULARY:
        raise ConfigError(
            f"a vocabulary has {LEAST_VOCABULARY} tokens or more, not {vocab_size}",
            hint="256 bytes and the special tokens come first",
        )
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"{folder} is not empty", hint="give an empty or a new folder")
    source = Corpus(corpus)
    seen = _Seen(_largest_hash(source, sample) if sample else None)
    target.mkdir(parents=True, exist_ok=True)
    size = train(seen.texts(source), vocab_size, target)
    if not seen.sampled:
        (target / "tokenizer.json").unlink()
        (target / "tokenizer_config.json").unlink()
        raise DataError("the corpus has no document with text", where=corpus[0])
    fitted = Fitted(
        tokenizer=contract(folder).tokenizer, vocab_size=size, documents=seen.documents, sampled=seen.sampled,
        text_bytes=seen.text_bytes, corpus=source.digest, files=sorted(source.digests),
    )  # fmt: skip
    (target / FITTED).write_bytes(msgspec.json.format(msgspec.json.encode(fitted)))
    return fitted


def fitted_on(folder: str) -> Fitted | None:
    """What a folder's tokenizer was trained on; None where the folder does not say. DataError where it was changed since."""
    file = Path(folder) / FITTED
    if not file.is_file():
        return None
    try:
        found = msgspec.json.decode(file.read_bytes(), type=Fitted)
    except ValueError as error:
        raise DataError(f"{file} cannot be read: {error}", hint="`curate fit tokenizer` writes it") from None
    if found.tokenizer != contract(folder).tokenizer:
        raise DataError(f"{file} is of another tokenizer.json", hint="`curate fit tokenizer` makes both")
    return found


def _largest_hash(corpus: Corpus, sample: int) -> np.uint64 | None:
    """The largest of the `sample` smallest hashes; None where there are not so many. Holds 8 bytes of each document."""
    hashes = np.concatenate([np.zeros(0, np.uint64), *(_hashes(batch) for _, batch in corpus.batches())])
    return None if len(hashes) <= sample else np.partition(hashes, sample - 1)[sample - 1]


class _Seen:
    """Counts what goes by on its way to the trainer."""

    def __init__(self, largest: np.uint64 | None) -> None:
        self._largest = largest
        self.documents = self.sampled = self.text_bytes = 0

    def texts(self, corpus: Corpus) -> Iterator[str]:
        for _, batch in corpus.batches():
            self.documents += batch.num_rows
            if self._largest is not None:
                batch = batch.filter(pa.array(_hashes(batch) <= self._largest))
            self.sampled += batch.num_rows
            self.text_bytes += pc.sum(pc.binary_length(batch["text"])).as_py() or 0
            yield from batch["text"].to_pylist()


def _hashes(batch: pa.RecordBatch) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    return np.array([xxhash.xxh3_64_intdigest(i, seed=11) for i in batch["id"].to_pylist()], np.uint64)
