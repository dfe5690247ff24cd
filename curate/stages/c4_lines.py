"""Line edits of C4: lines that are not sentences go, citations too.

Lines lie between line breaks of any kind and are stripped of white space. In this order a line is removed when it has a
word that is too long; then citations are cut out of it; then it is removed when it does not end like a sentence, has too
few words (counted before the cut), mentions javascript, or is about policies. What is left is joined by newlines.

Run it after `c4_quality` and its `select`, with the same switches: both read the raw text, and together they keep the
documents and leave the text that datatrove's C4QualityFilter does. The other way round `c4_quality` would judge lines
whose citations are gone already.

Paper   Raffel et al. 2020 (T5, C4), arXiv:1910.10683, section 2.2
Reads   text  large_string (n,), nulls allowed
Writes  text                        edited; '' where no line is left; null stays null
        c4_lines_removed_chars      int32 (n,): characters taken away; null where null
        c4_lines_num_removed_lines  int32 (n,): lines taken away that were not blank; null where null
        c4_lines_original           large_string (n,): the text as it was; only with `keep_original: true`
Rows    all kept, in order; no verdict: a document that these rules empty fails `c4_quality`
Differs a text mostly in a script without spaces (Chinese, Japanese, Thai ...) is left as it is: no line of it would
        stay. With `filter_no_terminal_punct: false`, `min_words_per_line: 0` and `max_word_length: 0` it is edited too, as with
        `words: datatrove`.
        Words per line default to the paper's 3, as in datatrove; the authors' code is said to use 5
Fails   ConfigError for a negative number
"""

from typing import Literal

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from curate.schema import text_buffers
from curate.stage import stage
from curate.stages import _edits
from curate.stages._c4 import check_lines, line_rules, unreadable


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which lines go."""

    remove_citations: bool = True  # cut [12], [edit] and [citation needed] out of lines
    filter_no_terminal_punct: bool = True  # remove lines that do not end in . ? ! " or ', or end in ...
    min_words_per_line: int = 3  # remove lines of fewer words between white space; 0 for none
    max_word_length: int = 1000  # remove lines with a word of more characters; 0 for none
    filter_javascript: bool = True  # remove lines that mention javascript
    filter_policy: bool = True  # remove lines on cookies, terms of use and privacy policies
    words: Literal["unicode", "datatrove"] = "unicode"  # datatrove: all scripts are edited alike
    keep_original: bool = False  # keep the old text in `c4_lines_original`

    def __post_init__(self) -> None:
        check_lines(self)


def _writes(config: Config) -> dict[str, pa.DataType]:
    columns = _edits.writes("c4_lines", keep_original=config.keep_original)
    return columns | {"c4_lines_num_removed_lines": pa.int32()}


@stage("c4_lines", version=2, config=Config, reads=["text"], writes=_writes)
def c4_lines(batch: pa.RecordBatch, config: Config) -> pa.RecordBatch:
    """Take the lines away that the rules remove."""
    from curate.kernels import c4  # numba is loaded only where it runs

    texts = pc.fill_null(batch["text"], "")
    left = unreadable(texts, config)
    data, offsets = text_buffers(_edits.emptied(texts, left))
    kept, kept_offsets, counts = c4.edit_lines(data, offsets, line_rules(config))
    removed = counts[:, c4.KEPT_LINES + 1 : c4.POLICY_LINES + 1].sum(axis=1)
    new = _edits.text_array(kept, kept_offsets, batch["text"], left)
    return _edits.edit(
        batch, "c4_lines", new, {"num_removed_lines": removed}, keep_original=config.keep_original
    )
