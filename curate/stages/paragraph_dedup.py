"""Cuts paragraphs out of texts that stand in the corpus before, or most of whose word n-grams do.

`method: exact`: paragraphs are the same when their words are, without case, accents and punctuation and with numbers as 0
(`normalize: ccnet`), or when their characters are (none). The first of equal ones in the order of the run stays, whatever
documents, units or files they stand in.
`method: bloom`: paragraphs are read in the order of the run. One of whose n-grams more than `threshold` are in a Bloom
filter goes; of any other the n-grams go into the filter. One with fewer words than `min_ngram` has no n-gram and stays.
With `remove: old-both` a document of whose n-grams more than `threshold` were in the filter is emptied as well.

Paper   exact: Wenzek et al. 2020 (CCNet), arXiv:1911.00359
        bloom: Li et al. 2024 (DCLM), arXiv:2406.11794 (BFF), whose settings are the defaults
Reads   text  large_string (n,), nulls allowed
Writes  text                                edited; null stays null. exact: a text that lost a paragraph loses white space
                                            at its ends, too; bloom: a newline goes with the paragraph behind it
        paragraph_dedup_removed_chars       int32 (n,): characters taken away; null where null
        paragraph_dedup_removed_paragraphs  int32 (n,): paragraphs taken away; null where null
        paragraph_dedup_original            large_string (n,): the text as it was; only with `keep_original: true`
Rows    drops documents that a cut leaves with fewer than `min_doc_chars` characters, with their old text: drop_reason
        `emptied` or `too_short`, drop_value the characters left. Others are kept, in order
Order   exact: the texts that are left are the same in any order of the input, but which document keeps a paragraph is not.
        bloom: what is left depends on the order, and one task reads all n-grams, one core whatever the workers. Results
        are the same for any number of workers and size of units, since the order of the run is that of the input
Memory  exact: 96 bits of hash, sorted out of core, 20 bytes of disk per paragraph for a while, less by zstd.
        bloom: a mapped file of 1.2 bytes per n-gram at 1% false positives, which should fit into memory (it is written all
        over), and 9 bytes of disk per word for a while. `check` prints its size
Differs CCNet hashes to 64 bits within a group of shards, and keeps accents out as we do but joins words around punctuation.
        BFF takes words of UAX #29: ours are those of every stage, told apart with case and punctuation. Its filter is as
        large as a search says for the n-grams given; ours for those counted, unless `expected_ngrams` is given
Fails   ConfigError for a number out of its range, or an option of the other method; DataError when there are more n-grams
        than `expected_ngrams`, or than a filter of 34 GB takes
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import msgspec
import pyarrow as pa

from curate.errors import ConfigError
from curate.schema import text_buffers
from curate.stage import Inputs, Out, Phase, Task, global_stage
from curate.stages import _bloom, _pieces

if TYPE_CHECKING:
    from curate.kernels.pieces import Pieces

NAME = "paragraph_dedup"
OF_METHOD = {
    "exact": ("split", "normalize", "min_chars", "min_count"),
    "bloom": ("ngram", "min_ngram", "threshold", "false_positive_rate", "expected_ngrams", "remove"),
}


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is a repeat, and what becomes of a document that is cut."""

    method: Literal["exact", "bloom"] = "exact"  # equal paragraphs, or those with n-grams seen before
    split: Literal["lines", "blank_lines"] = "lines"  # exact: what ends a paragraph; bloom: lines
    normalize: Literal["none", "ccnet"] = "ccnet"  # exact; ccnet: words without case, accents, numbers as 0
    min_chars: int = 1  # exact: shorter paragraphs are left alone; 1 judges all that are not blank
    min_count: int = 2  # exact: paragraphs that stand in the corpus fewer times are left alone
    ngram: int = 13  # bloom: words of an n-gram
    min_ngram: int = 13  # bloom: words of the shortest paragraph that is judged
    threshold: float = 0.8  # bloom: share of n-grams seen before above which a paragraph goes
    false_positive_rate: float = 0.01  # bloom: share of new n-grams taken for seen; sets the size
    expected_ngrams: int | None = None  # bloom: n-grams the filter is made for; without it they are counted
    remove: Literal["paragraphs", "old-both"] = "paragraphs"  # bloom: `old-both` also empties whole documents
    min_doc_chars: int = 1  # documents that a cut leaves with fewer are dropped; 0 keeps all, empty or not
    keep_original: bool = False  # keep the old text in `paragraph_dedup_original`

    def __post_init__(self) -> None:
        other = "bloom" if self.method == "exact" else "exact"
        defaults = {field.name: field.default for field in msgspec.structs.fields(Config)}
        for name in OF_METHOD[other]:
            if getattr(self, name) != defaults[name]:
                raise ConfigError(f"`{name}` is an option of `method: {other}`", hint="leave it out")
        _pieces.check_options(self)
        if self.method == "bloom":
            _bloom.check_options(self)


def pieces_of(texts: pa.Array, config: Config) -> "Pieces":
    """The paragraphs of a column."""
    from curate.kernels import pieces  # numba is loaded only where it runs

    if config.split == "blank_lines":
        return pieces.paragraphs(*text_buffers(texts))
    return pieces.lines(*text_buffers(texts), newline_first=config.method == "bloom")


def hash_paragraphs(task: Task, inputs: Inputs, out: Out, config: Config) -> Mapping[str, int]:
    """Per unit: the hash of each paragraph, sorted; bloom: the n-grams of each, in order."""
    if config.method == "bloom":
        _bloom.write_grams(inputs, out, lambda texts: pieces_of(texts, config), config)
    else:
        _pieces.write_hashes(
            inputs, out, lambda texts: pieces_of(texts, config), lambda found: _pieces.hashed(found, config)
        )
    return {}


def judge(task: Task, inputs: Inputs, out: Out, config: Config) -> Mapping[str, int]:
    """Per range of hashes: all but the first of equal paragraphs; bloom: those that go, all in one range."""
    if config.method == "bloom":
        return _bloom.write_judged(inputs, out, config)
    return {"paragraphs": _pieces.write_repeats(inputs, out, config.min_count)}


def apply(task: Task, inputs: Inputs, out: Out, config: Config) -> Mapping[str, int]:
    """Per unit: texts without these paragraphs; documents that are left with too little are dropped."""
    for batch, pieces, gone in _pieces.gone_of(inputs, lambda texts: pieces_of(texts, config)):
        new = _pieces.edited(
            batch, NAME, "paragraphs", pieces, gone, keep_original=config.keep_original, trim=config.method == "exact"
        )  # fmt: skip
        _pieces.keep_long(out, batch, new, NAME, "paragraphs", config.min_doc_chars)
    return {}


paragraph_dedup = global_stage(
    NAME, version=1, config=Config, reads=["text"],
    writes=lambda config: _pieces.writes(NAME, "paragraphs", keep_original=config.keep_original),
    phases=[
        Phase(hash_paragraphs, "units", _pieces.HASH_KEY), Phase(judge, "ranges", ("order",)), Phase(apply, "units"),
    ],
    notes=lambda config: [_bloom.size_note(config)] if config.method == "bloom" else [],
)  # fmt: skip
