"""Cuts lines out of texts that stand in the corpus before.

Two lines are the same when their characters are, white space at their ends aside. The first of equal lines in the order
of the run stays, whatever documents, units or files they stand in; a text that repeats its own line loses the repeat.

Paper   Penedo et al. 2024 (FineWeb), arXiv:2406.17557: "line deduplication". There it made a corpus that was
        deduplicated by MinHash worse: measure before you trust it
Reads   text  large_string (n,), nulls allowed
Writes  text                      edited; null stays null. A text that lost a line loses white space at its ends, too
        line_dedup_removed_chars  int32 (n,): characters taken away; null where null
        line_dedup_removed_lines  int32 (n,): lines taken away; null where null
        line_dedup_original       large_string (n,): the text as it was; only with `keep_original: true`
Rows    drops documents that a cut leaves with fewer than `min_doc_chars` characters, with their old text: drop_reason
        `emptied` or `too_short`, drop_value the characters left. Others are kept, in order
Method  `normalize: ccnet` compares words instead of characters: no case, accents, punctuation or white space, numbers as 0.
        96 bits of hash per line, sorted out of core: two different lines meet with odds below 1e-9 at 1e10 lines. Memory
        does not grow with the corpus; the disk holds 20 bytes per line for a while, less by zstd
Differs the paper keeps a random one of equal lines. It judges every line (`min_chars: 1`), or those of ten words: the
        default of 50 characters stands for these, so that closing brackets and table rules stay.
        Lines end at a newline, no other break
Fails   ConfigError for a number below its least
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import msgspec
import pyarrow as pa

from curate.schema import text_buffers
from curate.stage import Inputs, Out, Phase, Task, global_stage
from curate.stages import _pieces

if TYPE_CHECKING:
    from curate.kernels.pieces import Pieces

NAME = "line_dedup"


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is a repeat, and what becomes of a document that is cut."""

    min_chars: int = 50  # shorter lines are left alone; 1 judges every line that is not blank
    min_count: int = 2  # lines that stand in the corpus fewer times are left alone
    normalize: Literal["none", "ccnet"] = "none"  # ccnet: words without case and accents, numbers as 0
    min_doc_chars: int = 1  # documents that a cut leaves with fewer are dropped; 0 keeps all, empty or not
    keep_original: bool = False  # keep the old text in `line_dedup_original`

    def __post_init__(self) -> None:
        _pieces.check_options(self)


def lines_of(texts: pa.Array) -> "Pieces":
    """The lines of a column."""
    from curate.kernels import pieces  # numba is loaded only where it runs

    return pieces.lines(*text_buffers(texts))


def hash_lines(task: Task, inputs: Inputs, out: Out, config: Config) -> Mapping[str, int]:
    """Per unit: the hash of each line that is judged, sorted."""
    _pieces.write_hashes(inputs, out, lines_of, lambda found: _pieces.hashed(found, config))
    return {}


def find_repeats(task: Task, inputs: Inputs, out: Out, config: Config) -> Mapping[str, int]:
    """Per range of hashes: all but the first of equal lines."""
    return {"lines": _pieces.write_repeats(inputs, out, config.min_count)}


def apply(task: Task, inputs: Inputs, out: Out, config: Config) -> Mapping[str, int]:
    """Per unit: texts without these lines; documents that are left with too little are dropped."""
    for batch, pieces, gone in _pieces.gone_of(inputs, lines_of):
        new = _pieces.edited(batch, NAME, "lines", pieces, gone, keep_original=config.keep_original)
        _pieces.keep_long(out, batch, new, NAME, "lines", config.min_doc_chars)
    return {}


line_dedup = global_stage(
    NAME, version=1, config=Config, reads=["text"],
    writes=lambda config: _pieces.writes(NAME, "lines", keep_original=config.keep_original),
    phases=[
        Phase(hash_lines, "units", _pieces.HASH_KEY), Phase(find_repeats, "ranges", ("order",)), Phase(apply, "units"),
    ],
)  # fmt: skip
