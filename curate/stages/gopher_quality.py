"""Document-level rules of Gopher: length, word length, symbols, bullets, ellipses, letters, stop words.

Paper   Rae et al. 2021 (Gopher), arXiv:2112.11446, appendix A.1.1
Reads   text  large_string (n,), nulls allowed (null reads as empty text, which is too short)
Writes  gopher_quality_pass, _reason, _value, _threshold  of the first failing rule, in the order of RULES
        gopher_quality_num_words             int32 (n,), words with a letter or digit
        gopher_quality_mean_word_chars       float32 (n,), their mean length; null where there is none
        gopher_quality_hash_ratio            float32 (n,), "#" per word of any kind; null where there is none
        gopher_quality_ellipsis_ratio        float32 (n,), "..." and "…" per word of any kind; null likewise
        gopher_quality_bullet_lines_ratio    float32 (n,), in [0, 1]; null where there is no line
        gopher_quality_ellipsis_lines_ratio  float32 (n,), in [0, 1]; null where there is no line
        gopher_quality_alpha_words_ratio     float32 (n,), in [0, 1]: words of any kind that hold a letter; null likewise
        gopher_quality_num_stop_words        int32 (n,), different stop words in the text
Rows    all kept, in order; the recipe's `select` decides
Differs words are those of `curate.kernels.words`, where a punctuation mark is a word too, as in the filter that the
        rules are mostly run with (datatrove; spaCy's words). Keep decisions agree on 99% of English documents and
        of most languages; less where that tokenizer has rules of its own (Portuguese keeps hyphens: 72% of novels).
        That filter leaves words of listed punctuation out of the length rules, we words without letter or digit.
        Stop words match in their own case, as there. A null ratio fails no rule
Fails   ConfigError for a bound that is negative, not a number or above its maximum; for stop words that are not one
        word each or fewer than `min_stop_words`
"""

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import ConfigError
from curate.schema import text_buffers, verdict
from curate.stage import stage
from curate.stages._rules import check_bounds, judge, ratio

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
    min_stop_words: int = 2  # fewest different stop words
    stop_words: tuple[str, ...] = ("the", "be", "to", "of", "and", "that", "have", "with")  # case counts

    def __post_init__(self) -> None:
        check_bounds(self, RULES)
        for word in self.stop_words:
            if word.split() != [word]:
                raise ConfigError(
                    f"`stop_words` holds {word!r}, which is not one word", hint='as in ["the", "and"]'
                )
        if len(set(self.stop_words)) < self.min_stop_words:
            raise ConfigError(
                f"`min_stop_words` is {self.min_stop_words}, but there are only {len(set(self.stop_words))} stop words",
                hint="`min_stop_words: 0` turns the rule off",
            )


@stage("gopher_quality", version=1, config=Config, reads=["text"], writes=WRITES)
def gopher_quality(batch: pa.RecordBatch, config: Config) -> pa.RecordBatch:
    """Measure each text and judge it by the first rule it fails."""
    from curate.kernels import gopher  # numba is loaded only where it runs

    data, offsets = text_buffers(pc.fill_null(batch["text"], ""))
    counts = gopher.quality_counts(data, offsets, config.stop_words).T  # (counts, n)
    words, tokens, lines = counts[gopher.WORDS], counts[gopher.TOKENS], counts[gopher.LINES]
    measured = {
        "num_words": words.astype(float),
        "mean_word_chars": ratio(counts[gopher.WORD_CHARS], words),
        "hash_ratio": ratio(counts[gopher.HASHES], tokens),
        "ellipsis_ratio": ratio(counts[gopher.ELLIPSES], tokens),
        "bullet_lines_ratio": ratio(counts[gopher.BULLET_LINES], lines),
        "ellipsis_lines_ratio": ratio(counts[gopher.ELLIPSIS_LINES], lines),
        "alpha_words_ratio": ratio(counts[gopher.ALPHA_TOKENS], tokens),
        "num_stop_words": counts[gopher.STOP_WORDS].astype(float),
    }
    return judge(batch, "gopher_quality", WRITES, RULES, measured, config)
