"""Document-level rules of Gopher: length, word length, symbols, bullets, ellipses, letters, stop words.

Paper   Rae et al. 2021 (Gopher), arXiv:2112.11446, appendix A.1.1
Reads   text  large_string (n,), nulls allowed (null reads as empty text, which is too short)
        lang  string (n,), only with `thresholds`; else all rows are in `words_lang`
Writes  gopher_quality_pass, _reason, _value, _threshold  of the first failing rule, in the order of RULES
        gopher_quality_num_words             int32 (n,), words with a letter or digit
        gopher_quality_mean_word_chars       float32 (n,), their mean length; null where there is none
        gopher_quality_hash_ratio            float32 (n,), "#" per word of any kind; null where there is none
        gopher_quality_ellipsis_ratio        float32 (n,), "..." and "…" per word of any kind; null likewise
        gopher_quality_bullet_lines_ratio    float32 (n,), in [0, 1]; null where there is no line
        gopher_quality_ellipsis_lines_ratio  float32 (n,), in [0, 1]; null where there is no line
        gopher_quality_alpha_words_ratio     float32 (n,), in [0, 1]: words of any kind that hold a letter; null likewise
        gopher_quality_num_stop_words        int32 (n,), stop words in the text; `distinct_stop_words`: each once
Rows    all kept, in order; the recipe's `select` decides
Words   `words: unicode`: those of `curate.kernels.words`, split as English is but for hyphens and apostrophes of these
        languages (as in spaCy's tokenizers of them): a hyphen stays in the word (vê-lo) in Catalan, Danish, Dutch,
        Finnish, French, German, Greek, Hungarian, Luxembourgish, Norwegian, Portuguese, Romanian, Serbian, Spanish and
        Swedish; a word ends with the apostrophe (l' + art) in Catalan, French, Italian, Ligurian and Luxembourgish
        and is not cut there (p'ra) in the others. Such rows are split in a scan of their own. Of a text mostly Chinese, Japanese, Thai, Lao, Burmese or
        Khmer those of ICU's dictionaries; a text mostly in another script without spaces (Tibetan, Yi, Javanese,
        Balinese, Tai) fails with the reason no_word_splitter, its statistics of words null. The majority of letters
        decides. `words: datatrove`: those of its tokenizer of `words_lang`, told apart as there; slow, for comparison
Differs a punctuation mark is a word too, as in the filter that the rules are mostly run with (datatrove; spaCy's words).
        Keep decisions agree on 99% of English documents and, with the language given, on 98% and more (or all but one) in
        347 of 351 languages tried. In the others more words are without letters here, so that alphabetic words are
        too few: its tokenizer of Cherokee splits at white space alone; that of Quiotepec Chinantec, Kabyle and K'iche'
        does not take combining marks and modifier letters (tone marks, ˈ ʼ, a dot below) for letters, so a dot or
        hyphen next to them, and ˜ or ― beside a word, stay in it.
        Clitics are not told from other parts of a word: Romanian -ul and într-, French -vous, Catalan a + l (of al) are
        words there, not here. A code without script gets another script's tokenizer there (zh, chr): write cmn_Hani
        That filter leaves words of listed punctuation out of the length rules, we words without letter or digit
        (not with `words: datatrove`).
        Stop words match in their own case, as there. A null ratio fails no rule.
        With `thresholds` a row whose language has no file fails with the reason no_thresholds
Fails   ConfigError for a bound that is negative, not a number or above its maximum; for stop words that are not one
        word each or fewer than `min_stop_words`; for a file of thresholds that cannot be read or lacks a key
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

# In the order of the checks: reason, statistic, bound. The paper's numbers are the defaults of Config.
RULES = (
    ("too_few_words", "num_words", "min_words"),
    ("too_many_words", "num_words", "max_words"),
    ("short_words", "mean_word_chars", "min_mean_word_chars"),
    ("long_words", "mean_word_chars", "max_mean_word_chars"),
    ("too_many_hashes", "hash_ratio", "max_hash_ratio"),
    ("too_many_ellipses", "ellipsis_ratio", "max_ellipsis_ratio"),
    ("too_many_bullet_lines", "bullet_lines_ratio", "max_bullet_lines_ratio"),
    ("too_many_ellipsis_lines", "ellipsis_lines_ratio", "max_ellipsis_lines_ratio"),
    ("too_few_alpha_words", "alpha_words_ratio", "min_alpha_words_ratio"),
    ("too_few_stop_words", "num_stop_words", "min_stop_words"),
)
OF_WORDS = (
    "num_words", "mean_word_chars", "hash_ratio", "ellipsis_ratio", "alpha_words_ratio", "num_stop_words",
)  # fmt: skip
BY_LANGUAGE = (
    "min_mean_word_chars",
    "max_mean_word_chars",
    "min_alpha_words_ratio",
)  # bounds that files may set
WRITES = verdict("gopher_quality") | {
    "gopher_quality_num_words": pa.int32(),
    "gopher_quality_mean_word_chars": pa.float32(),
    "gopher_quality_hash_ratio": pa.float32(),
    "gopher_quality_ellipsis_ratio": pa.float32(),
    "gopher_quality_bullet_lines_ratio": pa.float32(),
    "gopher_quality_ellipsis_lines_ratio": pa.float32(),
    "gopher_quality_alpha_words_ratio": pa.float32(),
    "gopher_quality_num_stop_words": pa.int32(),
}


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    min_words: int = 50  # fewest words with a letter or digit
    max_words: int = 100_000  # most words with a letter or digit
    min_mean_word_chars: float = 3.0  # shortest mean word length, in characters
    max_mean_word_chars: float = 10.0  # longest mean word length, in characters
    max_hash_ratio: float = 0.1  # most "#" per word
    max_ellipsis_ratio: float = 0.1  # most ellipses per word
    max_bullet_lines_ratio: float = 0.9  # largest share of lines that start with - or •
    max_ellipsis_lines_ratio: float = 0.3  # largest share of lines that end with an ellipsis
    min_alpha_words_ratio: float = 0.8  # smallest share of words, punctuation included, with a letter
    min_stop_words: int = 2  # fewest stop words
    distinct_stop_words: bool = True  # count each stop word once; false counts all it stands, as DCLM does
    stop_words: tuple[str, ...] = ("the", "be", "to", "of", "and", "that", "have", "with")  # case counts
    thresholds: str = ""  # folder of YAML files, one per `lang`: word lengths, alphabetic words, stop words
    words: Literal["unicode", "datatrove"] = "unicode"  # whose words are counted
    words_lang: str = "eng"  # language of all texts, without `thresholds`; as datatrove writes it

    def __post_init__(self) -> None:
        check_bounds(self, RULES)
        check_words(self)
        _thresholds.check(self.thresholds, BY_LANGUAGE, self.min_stop_words)
        for word in self.stop_words:
            if word.split() != [word]:
                raise ConfigError(
                    f"`stop_words` holds {word!r}, which is not one word", hint='as in ["the", "and"]'
                )
        if len(set(self.stop_words)) < (self.min_stop_words if self.distinct_stop_words else 1):
            raise ConfigError(
                f"`min_stop_words` is {self.min_stop_words}, but there are only {len(set(self.stop_words))} stop words",
                hint="`min_stop_words: 0` turns the rule off",
            )


@stage(
    "gopher_quality",
    version=3,
    config=Config,
    reads=_thresholds.columns_read,
    writes=WRITES,
    libraries=libraries,
    files=_thresholds.files_of,
)
def gopher_quality(batch: pa.RecordBatch, config: Config) -> pa.RecordBatch:
    """Measure each text and judge it by the first rule it fails."""
    from curate.kernels import gopher_quality as kernel  # numba is loaded only where it runs

    texts = pc.fill_null(batch["text"], "")
    data, offsets = text_buffers(texts)
    found = find_words(texts, config, batch["lang"] if config.thresholds else None)
    stop_words, group, bounds, refused = [config.stop_words], None, {}, {NO_WORD_SPLITTER: found.refused}
    if config.thresholds:
        rows = _thresholds.by_row(config.thresholds, batch["lang"], BY_LANGUAGE)
        stop_words, group, bounds = rows.stop_words, rows.group, rows.bounds
        refused[_thresholds.NO_THRESHOLDS] = rows.missing
    counts = kernel.quality_counts(  # (counts, n)
        data, offsets, stop_words, group, found.given, config.distinct_stop_words
    ).T
    words, tokens, lines = counts[kernel.WORDS], counts[kernel.TOKENS], counts[kernel.LINES]
    measured = {
        "num_words": words.astype(float),
        "mean_word_chars": ratio(counts[kernel.WORD_CHARS], words),
        "hash_ratio": ratio(counts[kernel.HASHES], tokens),
        "ellipsis_ratio": ratio(counts[kernel.ELLIPSES], tokens),
        "bullet_lines_ratio": ratio(counts[kernel.BULLET_LINES], lines),
        "ellipsis_lines_ratio": ratio(counts[kernel.ELLIPSIS_LINES], lines),
        "alpha_words_ratio": ratio(counts[kernel.ALPHA_TOKENS], tokens),
        "num_stop_words": counts[kernel.STOP_WORDS].astype(float),
    }
    for statistic in OF_WORDS:
        measured[statistic][found.refused] = np.nan
    return judge(batch, "gopher_quality", WRITES, RULES, measured, config, bounds=bounds, refused=refused)
