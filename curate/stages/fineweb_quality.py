"""Rules of FineWeb: lines that end like sentences, short lines, repeated lines, newlines per word.

Paper   Penedo et al. 2024 (FineWeb), arXiv:2406.17557, appendix E; newlines per word are in its code alone (datatrove)
Reads   text  large_string (n,), nulls allowed (null reads as empty text, which fails)
        lang  string (n,), only with `thresholds`
Writes  fineweb_quality_pass, _reason, _value, _threshold  of the first failing rule, in the order of RULES
        fineweb_quality_num_lines             int32 (n,), lines between newlines that are not blank
        fineweb_quality_ended_lines_ratio     float32 (n,), in [0, 1]: lines whose last character ends a sentence in
                                              some script; null where there is no line
        fineweb_quality_short_lines_ratio     float32 (n,), in [0, 1]: lines of `short_line_chars` and fewer; null likewise
        fineweb_quality_dup_line_chars_ratio  float32 (n,), characters of lines seen before, per character of the text
                                              that is no newline; null likewise
        fineweb_quality_newlines_ratio        float32 (n,), newlines per word; null where there is no word
Rows    all kept, in order; the recipe's `select` decides
Differs the paper's text gives 0.1 for repeated lines; its table and its code 0.01, taken here. Lines are not stripped:
        white space at the end of one hides its mark, as in datatrove. Marks that end sentences are those of Unicode 17
        and three of Khmer; a quote behind one hides it.
        Words are as in gopher_quality, by language too (there: of spaCy; here with `words: datatrove`): Chinese, Japanese, Thai, Lao,
        Burmese and Khmer by ICU's dictionaries; a text in another script without spaces fails with the reason
        no_word_splitter, newlines per word null. With `thresholds` a row whose language has no file fails with the
        reason no_thresholds. Repeats are told by 64-bit hashes
Fails   ConfigError for a bound that is negative or not a number; for a file of thresholds that cannot be read or
        lacks a key
"""

from typing import Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import ConfigError
from curate.schema import text_buffers, verdict
from curate.stage import stage
from curate.stages import _thresholds
from curate.stages._rules import check_bounds, judge, ratio
from curate.stages._words import NO_WORD_SPLITTER, check_words, find_words, libraries

# In the order of the checks: reason, statistic, bound. The numbers of the paper's code are the defaults of Config.
RULES = (
    ("empty", "num_lines", "min_lines"),
    ("too_few_ended_lines", "ended_lines_ratio", "min_ended_lines_ratio"),
    ("too_many_short_lines", "short_lines_ratio", "max_short_lines_ratio"),
    ("dup_line_chars", "dup_line_chars_ratio", "max_dup_line_chars_ratio"),
    ("too_many_newlines", "newlines_ratio", "max_newlines_ratio"),
)
BY_LANGUAGE = ("min_ended_lines_ratio", "max_newlines_ratio")  # bounds that files may set
WRITES = (
    verdict("fineweb_quality")
    | {"fineweb_quality_num_lines": pa.int32()}
    | {f"fineweb_quality_{statistic}": pa.float32() for _, statistic, _ in RULES[1:]}
)


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds."""

    min_lines: int = 1  # fewest lines that are not blank; 0 lets empty text pass
    min_ended_lines_ratio: float = 0.12  # smallest share of lines that end like a sentence
    max_short_lines_ratio: float = 0.67  # largest share of short lines
    short_line_chars: int = 30  # characters of the longest short line
    max_dup_line_chars_ratio: float = 0.01  # largest share of characters in lines seen before
    max_newlines_ratio: float = 0.3  # most newlines per word
    thresholds: str = ""  # folder of YAML files, one per `lang`: lines that end, newlines per word
    words: Literal["unicode", "datatrove"] = "unicode"  # whose words are counted
    words_lang: str = "eng"  # language of all texts, without `thresholds`; as datatrove writes it

    def __post_init__(self) -> None:
        check_bounds(self, RULES)
        check_words(self)
        _thresholds.check(self.thresholds, BY_LANGUAGE)
        if self.short_line_chars < 0:
            raise ConfigError(
                "`short_line_chars` must be 0 or more", hint="`short_line_chars: 0` counts none"
            )


@stage(
    "fineweb_quality",
    version=3,
    config=Config,
    reads=_thresholds.columns_read,
    writes=WRITES,
    libraries=libraries,
    files=_thresholds.files_of,
)
def fineweb_quality(batch: pa.RecordBatch, config: Config) -> pa.RecordBatch:
    """Measure each text and judge it by the first rule it fails."""
    from curate.kernels import fineweb  # numba is loaded only where it runs
    from curate.kernels.words import count_given

    texts = pc.fill_null(batch["text"], "")
    data, offsets = text_buffers(texts)
    found = find_words(texts, config, batch["lang"] if config.thresholds else None)
    counts = fineweb.line_counts(data, offsets, config.short_line_chars).T  # (counts, n)
    words = fineweb.word_counts(data, offsets)
    if found.given:
        count_given(data, offsets, found.given, words)
    lines = counts[fineweb.LINES]
    measured = {
        "num_lines": lines.astype(float),
        "ended_lines_ratio": ratio(counts[fineweb.ENDED_LINES], lines),
        "short_lines_ratio": ratio(counts[fineweb.SHORT_LINES], lines),
        "dup_line_chars_ratio": ratio(counts[fineweb.DUP_LINE_CHARS], counts[fineweb.CHARS] * (lines > 0)),
        "newlines_ratio": ratio(counts[fineweb.NEWLINES], words),
    }
    measured["newlines_ratio"][found.refused] = np.nan
    bounds, refused = {}, {NO_WORD_SPLITTER: found.refused}
    if config.thresholds:
        rows = _thresholds.by_row(config.thresholds, batch["lang"], BY_LANGUAGE)
        bounds, refused[_thresholds.NO_THRESHOLDS] = rows.bounds, rows.missing
    return judge(batch, "fineweb_quality", WRITES, RULES, measured, config, bounds=bounds, refused=refused)
