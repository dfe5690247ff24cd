"""Repetition rules of Gopher: repeated paragraphs, lines and word n-grams.

Paper   Rae et al. 2021 (Gopher), arXiv:2112.11446, table A1
Reads   text  large_string (n,), nulls allowed (null reads as empty text, which fails)
        lang  string (n,), only with `thresholds`
Writes  gopher_repetition_pass, _reason, _value, _threshold  of the first failing rule, in the order of RULES
        gopher_repetition_num_chars                  int32 (n,), code points of the text
        gopher_repetition_dup_paragraphs_ratio       float32 (n,), paragraphs seen before in the document
        gopher_repetition_dup_paragraph_chars_ratio  float32 (n,), their characters / those of the text
        gopher_repetition_dup_lines_ratio, _dup_line_chars_ratio  likewise; lines lie between runs of newlines
        gopher_repetition_top_Ngram_chars_ratio      float32 (n,), N = 2-4: the most frequent n-gram, its words
                                                     joined by spaces, times its count
        gopher_repetition_dup_Ngram_chars_ratio      float32 (n,), N = 5-10: n-grams seen before, scanned from left
                                                     to right, each one found is skipped; spaces are not counted
        Every ratio of characters divides by the whole text, white space included; null where the text is empty
Rows    all kept, in order; the recipe's `select` decides
Words   as in gopher_quality, by language too: `words: unicode` splits Chinese, Japanese, Thai, Lao, Burmese and
        Khmer by ICU's dictionaries; a text in another script without spaces fails with the reason no_word_splitter, its n-grams null
Differs n-grams are equal when their words are (the datatrove filter compares 5- to 10-grams glued together: there
        "a bc" equals "ab c"). Equality is that of 64-bit hashes.
        Keep decisions agree in 349 of 351 languages on 98% of the documents tried and more, or on all but one. The
        others (with datatrove's words they agree) are pages of commands under 1,600 characters (English, Indonesian)
        whose list items end in `):`, an emoticon and one word to spaCy, two words here: the n-grams that begin or
        end there shift, and 5- and 6-grams repeat in 15% of the text more or less. Chinese (4 of 67 such pages) is cut
        by jieba's dictionary there, by ICU's here, also inside mixed tokens (node_版本)
        With `thresholds` a row whose language has no file fails with the reason no_thresholds
Fails   ConfigError for a bound that is negative or not a number; for a file of thresholds that cannot be read or
        lacks a key
"""

from typing import Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.schema import text_buffers, verdict
from curate.stage import stage
from curate.stages import _thresholds
from curate.stages._rules import check_bounds, judge, ratio
from curate.stages._words import NO_WORD_SPLITTER, check_words, find_words, libraries

# In the order of the checks: reason, statistic, bound. The paper's numbers are the defaults of Config.
RULES = (
    ("empty", "num_chars", "min_chars"),
    ("dup_paragraphs", "dup_paragraphs_ratio", "max_dup_paragraphs_ratio"),
    ("dup_paragraph_chars", "dup_paragraph_chars_ratio", "max_dup_paragraph_chars_ratio"),
    ("dup_lines", "dup_lines_ratio", "max_dup_lines_ratio"),
    ("dup_line_chars", "dup_line_chars_ratio", "max_dup_line_chars_ratio"),
    *((f"top_{n}gram", f"top_{n}gram_chars_ratio", f"max_top_{n}gram_chars_ratio") for n in range(2, 5)),
    *((f"dup_{n}gram", f"dup_{n}gram_chars_ratio", f"max_dup_{n}gram_chars_ratio") for n in range(5, 11)),
)
OF_WORDS = tuple(statistic for _, statistic, _ in RULES[5:])
BY_LANGUAGE = ("max_dup_lines_ratio", *(bound for _, _, bound in RULES[5:]))  # bounds that files may set
WRITES = (
    verdict("gopher_repetition")
    | {"gopher_repetition_num_chars": pa.int32()}
    | {f"gopher_repetition_{statistic}": pa.float32() for _, statistic, _ in RULES[1:]}
)


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    min_chars: int = 1  # fewest characters; 0 lets empty text pass
    max_dup_paragraphs_ratio: float = 0.3  # largest share of paragraphs seen before
    max_dup_paragraph_chars_ratio: float = 0.2  # largest share of characters in them
    max_dup_lines_ratio: float = 0.3  # largest share of lines seen before
    max_dup_line_chars_ratio: float = 0.2  # largest share of characters in them
    max_top_2gram_chars_ratio: float = 0.2  # largest share of characters in the most frequent 2-gram of words
    max_top_3gram_chars_ratio: float = 0.18  # the same for 3-grams
    max_top_4gram_chars_ratio: float = 0.16  # the same for 4-grams
    max_dup_5gram_chars_ratio: float = 0.15  # largest share of characters in 5-grams of words seen before
    max_dup_6gram_chars_ratio: float = 0.14  # the same for 6-grams
    max_dup_7gram_chars_ratio: float = 0.13  # the same for 7-grams
    max_dup_8gram_chars_ratio: float = 0.12  # the same for 8-grams
    max_dup_9gram_chars_ratio: float = 0.11  # the same for 9-grams
    max_dup_10gram_chars_ratio: float = 0.1  # the same for 10-grams
    thresholds: str = ""  # folder of YAML files, one per `lang`, for repeated lines and all n-grams
    words: Literal["unicode", "datatrove"] = "unicode"  # whose words are counted
    words_lang: str = "eng"  # language of all texts, without `thresholds`; as datatrove writes it

    def __post_init__(self) -> None:
        check_bounds(self, RULES)
        check_words(self)
        _thresholds.check(self.thresholds, BY_LANGUAGE)


@stage(
    "gopher_repetition",
    version=3,
    config=Config,
    reads=_thresholds.columns_read,
    writes=WRITES,
    libraries=libraries,
    files=_thresholds.files_of,
)
def gopher_repetition(batch: pa.RecordBatch, config: Config) -> pa.RecordBatch:
    """Measure each text and judge it by the first rule it fails."""
    from curate.kernels import gopher_repetition as kernel  # numba is loaded only where it runs
    from curate.kernels.gopher_grams import DUP_GRAM, TOP_GRAM

    texts = pc.fill_null(batch["text"], "")
    found = find_words(texts, config, batch["lang"] if config.thresholds else None)
    counts = kernel.repetition_counts(*text_buffers(texts), found.given).T  # (counts, n)
    chars = counts[kernel.CHARS]
    measured = {
        "num_chars": chars.astype(float),
        "dup_paragraphs_ratio": ratio(counts[kernel.DUP_PARAGRAPHS], counts[kernel.PARAGRAPHS]),
        "dup_paragraph_chars_ratio": ratio(counts[kernel.DUP_PARAGRAPH_CHARS], chars),
        "dup_lines_ratio": ratio(counts[kernel.DUP_LINES], counts[kernel.LINE_SPLITS]),
        "dup_line_chars_ratio": ratio(counts[kernel.DUP_LINE_CHARS], chars),
    }
    for n in range(2, 5):
        measured[f"top_{n}gram_chars_ratio"] = ratio(counts[TOP_GRAM + n], chars)
    for n in range(5, 11):
        measured[f"dup_{n}gram_chars_ratio"] = ratio(counts[DUP_GRAM + n], chars)
    for statistic in OF_WORDS:
        measured[statistic][found.refused] = np.nan
    bounds, refused = {}, {NO_WORD_SPLITTER: found.refused}
    if config.thresholds:
        rows = _thresholds.by_row(config.thresholds, batch["lang"], BY_LANGUAGE)
        bounds, refused[_thresholds.NO_THRESHOLDS] = rows.bounds, rows.missing
    return judge(batch, "gopher_repetition", WRITES, RULES, measured, config, bounds=bounds, refused=refused)
