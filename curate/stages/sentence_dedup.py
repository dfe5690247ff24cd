"""Cuts runs of sentences out of texts that stand in the corpus before: every three in a row that somebody wrote earlier.

The first of equal windows of `n_sentences` in the order of the run stays, whatever documents, units or files it stands
in; all sentences of the others go. Where a text repeats itself, windows overlap their own first and cut into it.

Method  datatrove's sentence_dedup, after the three-sentence spans of C4 (Raffel et al. 2020, arXiv:1910.10683, section 2.2)
Reads   text  large_string (n,), nulls allowed
Writes  text                              edited; null stays null. A text that lost a sentence loses white space at its
                                          ends, too
        sentence_dedup_removed_chars      int32 (n,): characters taken away; null where null
        sentence_dedup_removed_sentences  int32 (n,): sentences taken away; null where null
        sentence_dedup_original           large_string (n,): the text as it was; only with `keep_original: true`
Rows    drops documents that a cut leaves with too little, with their old text: drop_reason `too_few_sentences` or
        `too_few_words`, drop_value what is left of them. Others are kept, in order; those of fewer sentences than a window
        as they are
Compare `normalize: ccnet` reads words: no case, accents, punctuation or white space, numbers as 0; none reads characters
Memory  does not grow with the corpus; the disk holds 20 bytes per sentence for a while, less by zstd
Differs sentences are cut as c4_quality counts them, at the end of a line at the latest; datatrove takes spaCy's. Windows
        are compared by 96 bits of hash, datatrove's by 64. ccnet's normalisation reads words, datatrove's simplify_text
        puts a space for most punctuation and folds numbers with their decimals into one 0
Fails   ConfigError for a number below its least
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import ConfigError
from curate.schema import text_buffers
from curate.stage import Inputs, Out, Phase, Task, global_stage
from curate.stages import _pieces

if TYPE_CHECKING:
    from curate.kernels.pieces import Digests, Pieces

NAME = "sentence_dedup"


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is a repeat, and what becomes of a document that is cut."""

    n_sentences: int = 3  # sentences of a window
    normalize: Literal["none", "ccnet"] = "ccnet"  # ccnet: words without case and accents, numbers as 0
    min_doc_sentences: int = 3  # documents that a cut leaves with fewer are dropped
    min_doc_words: int = 50  # documents that a cut leaves with fewer are dropped; both 0 keep all
    keep_original: bool = False  # keep the old text in `sentence_dedup_original`

    def __post_init__(self) -> None:
        if self.n_sentences < 1:
            raise ConfigError("`n_sentences` must be 1 or more", hint="leave it out for 3")
        for field in ("min_doc_sentences", "min_doc_words"):
            if getattr(self, field) < 0:
                raise ConfigError(f"`{field}` must not be below 0", hint="0 keeps every document")


def sentences_of(texts: pa.Array) -> "Pieces":
    """The sentences of a column."""
    from curate.kernels import pieces  # numba is loaded only where it runs

    return pieces.sentences(*text_buffers(texts))


def windows_of(pieces: "Pieces", config: Config) -> "Digests":
    """The hash of each window, at its first sentence."""
    from curate.kernels.pieces import CCNET, digests, windows

    found = digests(pieces, 1, CCNET if config.normalize == "ccnet" else None)
    return windows(found, pieces.rows, config.n_sentences)


def hash_windows(task: Task, inputs: Inputs, out: Out, config: Config) -> Mapping[str, int]:
    """Per unit: the hash of each window, sorted."""
    _pieces.write_hashes(inputs, out, sentences_of, lambda found: windows_of(found, config))
    return {}


def find_repeats(task: Task, inputs: Inputs, out: Out, config: Config) -> Mapping[str, int]:
    """Per range of hashes: all but the first of equal windows."""
    return {"windows": _pieces.write_repeats(inputs, out, 2)}


def apply(task: Task, inputs: Inputs, out: Out, config: Config) -> Mapping[str, int]:
    """Per unit: texts without the sentences of these windows; documents that are left with too little are dropped."""
    for batch, pieces, first in _pieces.gone_of(inputs, sentences_of):
        gone = first.copy()
        for i in range(1, config.n_sentences):
            gone[i:] |= first[: len(first) - i]  # a window lies in one row
        new = _pieces.edited(batch, NAME, "sentences", pieces, gone, keep_original=config.keep_original)
        _keep_long(out, batch, new, config)
    return {}


def _keep_long(out: Out, batch: pa.RecordBatch, new: pa.RecordBatch, config: Config) -> None:
    """Keep rows as they are now; of those that lost something drop the ones with too little, as they were."""
    lost = pc.fill_null(pc.greater(new[f"{NAME}_removed_sentences"], 0), False)
    rows = np.flatnonzero(lost.to_numpy(zero_copy_only=False))
    texts = new["text"].take(pa.array(rows))
    least = {"sentences": config.min_doc_sentences, "words": config.min_doc_words}
    left = {"sentences": np.diff(sentences_of(texts).rows), "words": num_words(texts)}
    few = {unit: left[unit] < least[unit] for unit in least}
    why = np.where(few["sentences"], "sentences", np.where(few["words"], "words", ""))
    short = np.zeros(batch.num_rows, np.bool_)
    short[rows] = why != ""
    out.keep(new.filter(pa.array(~short)))
    units = why[why != ""].tolist()
    values = np.where(why == "sentences", left["sentences"], left["words"])[why != ""]
    out.drop(batch.filter(pa.array(short)), {
        "drop_reason": pa.array([f"too_few_{unit}" for unit in units], pa.string()),
        "drop_value": pa.array(values, pa.float64()),
        "drop_threshold": pa.array([float(least[unit]) for unit in units], pa.float64()),
    })  # fmt: skip


def num_words(texts: pa.Array) -> npt.NDArray[np.int64]:
    """Words of each text, (n,), as every stage splits them."""
    from curate.kernels.shingles import Normal, word_hashes

    plain = Normal(case=False, accents=False, punctuation=False, digits=False)
    found: npt.NDArray[np.int64] = np.diff(word_hashes(*text_buffers(texts), plain)[1])
    return found


sentence_dedup = global_stage(
    NAME, version=1, config=Config, reads=["text"],
    writes=lambda config: _pieces.writes(NAME, "sentences", keep_original=config.keep_original),
    phases=[
        Phase(hash_windows, "units", _pieces.HASH_KEY), Phase(find_repeats, "ranges", ("order",)), Phase(apply, "units"),
    ],
)  # fmt: skip
