"""Document rules of C4: lorem ipsum, curly brackets, too few sentences; counts of what its line rules remove.

The rules hold for the lines that the line rules leave (`c4_lines` lists them, and does the editing): a "lorem ipsum" in
a line without terminal punctuation drops no document. Run this before `c4_lines`, with the same switches: both read the
raw text, and together they keep the documents and leave the text that datatrove's C4QualityFilter does.

Paper   Raffel et al. 2020 (T5, C4), arXiv:1910.10683, section 2.2; paragraphs: Xue et al. 2021 (mC4), arXiv:2010.11934
Reads   text  large_string (n,), nulls allowed (null reads as empty text, which has too few sentences)
Writes  c4_quality_pass, _reason, _value, _threshold  of the first failing rule, in the order of RULES
        c4_quality_num_lorem_ipsum_lines, _num_curly_bracket_lines  int32 (n,), lines left that hold them (for the
                                             first: or are removed by the rules on javascript and policies)
        c4_quality_num_sentences             int32 (n,), in the lines left
        c4_quality_num_paragraphs            int32 (n,), lines between newlines of the raw text that have
                                             `min_paragraph_chars` and more; null with `min_paragraphs: 0`
        c4_quality_num_kept_lines            int32 (n,), lines left; blank lines are in no count
        c4_quality_num_long_word_lines, _num_unended_lines, _num_short_lines, _num_javascript_lines,
        _num_policy_lines                    int32 (n,), lines that each line rule removes, the first that does
Rows    all kept, in order; the recipe's `select` decides
Differs from datatrove: sentences are told by marks and what follows them, so an abbreviation (Mr. Smith) ends one (there
        some do not) and the marks of Chinese and the like need no space behind them (the full stop of
        Canadian syllabics ends one, there it does not); a document with both lorem ipsum
        and a curly bracket always names the first. A text mostly in a script without spaces (Chinese, Japanese, Thai
        ...) fails with the reason no_word_splitter, the counts of its lines null: no line of it would be left. With
        `filter_no_terminal_punct: false`, `min_words_per_line: 0` and `max_word_length: 0` it is judged too. With
        `words: datatrove` sentences are those of its tokenizer of `words_lang` (slow, for comparison), and every
        script is judged. From the paper: bad words are a stage of their own
Fails   ConfigError for a negative number; for words whose library is not there
"""

from typing import Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.schema import text_buffers, verdict
from curate.stage import stage
from curate.stages._c4 import check_lines, datatrove_sentences, line_rules, unreadable
from curate.stages._rules import check_bounds, judge
from curate.stages._words import NO_WORD_SPLITTER, check_words, libraries

# In the order of the checks: reason, statistic, bound. The paper's numbers are the defaults of Config.
RULES = (
    ("lorem_ipsum", "num_lorem_ipsum_lines", "max_lorem_ipsum_lines"),
    ("curly_bracket", "num_curly_bracket_lines", "max_curly_bracket_lines"),
    ("too_few_sentences", "num_sentences", "min_num_sentences"),
    ("too_few_paragraphs", "num_paragraphs", "min_paragraphs"),
)
LINE_COUNTS = (
    "num_kept_lines", "num_long_word_lines", "num_unended_lines", "num_short_lines", "num_javascript_lines",
    "num_policy_lines",
)  # fmt: skip
WRITES = verdict("c4_quality") | {
    f"c4_quality_{statistic}": pa.int32() for statistic in (*(rule[1] for rule in RULES), *LINE_COUNTS)
}


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which lines count, and what a document must have."""

    remove_citations: bool = True  # cut [12], [edit] and [citation needed] out of lines
    filter_no_terminal_punct: bool = True  # leave out lines that do not end in . ? ! " or ', or end in ...
    min_words_per_line: int = 3  # leave out lines of fewer words between white space; 0 for none
    max_word_length: int = 1000  # leave out lines with a word of more characters; 0 for none
    filter_javascript: bool = True  # leave out lines that mention javascript
    filter_policy: bool = True  # leave out lines on cookies, terms of use and privacy policies
    filter_lorem_ipsum: bool = True  # fail documents with "lorem ipsum"
    filter_curly_bracket: bool = True  # fail documents with {
    min_num_sentences: int = 5  # fewest sentences
    min_paragraphs: int = 0  # fewest long lines; 3 in mC4
    min_paragraph_chars: int = 200  # characters of a long line
    words: Literal["unicode", "datatrove"] = "unicode"  # whose sentences are counted
    words_lang: str = "eng"  # with `words: datatrove`: language of all texts, as datatrove writes it

    def __post_init__(self) -> None:
        check_lines(self)
        check_words(self)
        check_bounds(self, RULES)

    @property
    def max_lorem_ipsum_lines(self) -> float:
        """Bound of the rule on lorem ipsum."""
        return 0.0 if self.filter_lorem_ipsum else np.inf

    @property
    def max_curly_bracket_lines(self) -> float:
        """Bound of the rule on curly brackets."""
        return 0.0 if self.filter_curly_bracket else np.inf


def _libraries(config: Config) -> tuple[str, ...]:
    return libraries(config) if config.words == "datatrove" else ()


@stage("c4_quality", version=2, config=Config, reads=["text"], writes=WRITES, libraries=_libraries)
def c4_quality(batch: pa.RecordBatch, config: Config) -> pa.RecordBatch:
    """Measure the lines that would be left of each text and judge it by the first rule it fails."""
    from curate.kernels import c4  # numba is loaded only where it runs

    texts = pc.fill_null(batch["text"], "")
    data, offsets = text_buffers(texts)
    paragraph_chars = config.min_paragraph_chars if config.min_paragraphs else 0
    counts = c4.line_counts(data, offsets, line_rules(config), paragraph_chars).astype(float).T  # (counts, n)
    measured = {
        "num_lorem_ipsum_lines": counts[c4.LOREM_IPSUM_LINES],
        "num_curly_bracket_lines": counts[c4.CURLY_BRACKET_LINES],
        "num_sentences": counts[c4.SENTENCES],
        "num_paragraphs": counts[c4.PARAGRAPHS] if config.min_paragraphs else np.full(batch.num_rows, np.nan),
        **dict(zip(LINE_COUNTS, counts[c4.KEPT_LINES : c4.POLICY_LINES + 1], strict=True)),
    }
    if config.words == "datatrove":
        measured["num_sentences"] = datatrove_sentences(texts, config, config.words_lang).astype(float)
    refused = unreadable(texts, config)
    for statistic in ("num_lorem_ipsum_lines", "num_curly_bracket_lines", "num_sentences", *LINE_COUNTS):
        measured[statistic][refused] = np.nan
    return judge(batch, "c4_quality", WRITES, RULES, measured, config, refused={NO_WORD_SPLITTER: refused})
