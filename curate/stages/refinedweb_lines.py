"""Line corrections of RefinedWeb, with the order and numbers of DCLM; fails documents that lose too many words by them.

A line between newlines goes when, in this order, too many of its characters are capitals, it is a number, it counts
something (3 likes; 1.2K views), or it has too few words. Then short lines lose "items in cart", a "Read more..." at
their end and a "Sign-in" at their beginning; a line of nothing else goes. Empty lines stay.

Paper   Penedo et al. 2023 (RefinedWeb), arXiv:2306.01116, appendix G.2; Li et al. 2024 (DCLM), arXiv:2406.11794, code
Reads   text  large_string (n,), nulls allowed
Writes  text                                 edited, stripped of white space at its ends; null stays null
        refinedweb_lines_pass, _reason, _value, _threshold  of the rule on removed words
        refinedweb_lines_removed_words_ratio float32 (n,), in [0, 1]: words removed per word before; words lie between
                                             white space and begin with a letter or digit; null where there is none
        refinedweb_lines_removed_chars       int32 (n,): characters taken away; null where null
        refinedweb_lines_num_capital_lines, _num_numeric_lines, _num_counter_lines, _num_short_lines  int32 (n,): lines
                                             that each rule removes; null where null
        refinedweb_lines_num_cut_lines       int32 (n,): lines that lose a phrase; null where null
        refinedweb_lines_original            large_string (n,): the text as it was; only with `keep_original: true`
Rows    all kept, in order; the recipe's `select` decides
Differs from DCLM's code: there any three characters may follow "Read more"; white space at the ends of the text is
        stripped before the first rule and after the last, not after each; a document that has no word before
        passes. The phrases and words are English; capitals are those of any script. A text mostly in a script without
        spaces (Chinese, Japanese, Thai ...) is left as it is and fails with the reason no_word_splitter, its share null
Fails   ConfigError for a bound that is negative or not a number
"""

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import ConfigError
from curate.schema import text_buffers, verdict
from curate.stage import stage
from curate.stages import _edits
from curate.stages._rules import check_bounds, judge, ratio
from curate.stages._words import NO_WORD_SPLITTER, without_spaces

RULES = (("too_many_removed_words", "removed_words_ratio", "max_removed_words_ratio"),)
LINE_COUNTS = (
    "num_capital_lines", "num_numeric_lines", "num_counter_lines", "num_short_lines", "num_cut_lines",
)  # fmt: skip


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which lines go, and how much may."""

    max_capitals_ratio: float = 0.5  # largest share of capitals among the characters of a line
    max_digits_ratio: float = 0.999999  # largest share of digits: lines of nothing else go
    remove_counters: bool = True  # remove lines like "3 likes"
    min_words_per_line: int = 2  # fewest words of a line, between white space
    max_words_for_cuts: int = 10  # most words of a line that loses "items in cart" and the like; 0 for none
    max_removed_words_ratio: float = 0.05  # largest share of words that may be removed
    keep_original: bool = False  # keep the old text in `refinedweb_lines_original`

    def __post_init__(self) -> None:
        check_bounds(self, RULES)
        for field in ("max_capitals_ratio", "max_digits_ratio", "min_words_per_line", "max_words_for_cuts"):
            if not getattr(self, field) >= 0:
                off = ".inf" if field.endswith("_ratio") else "0"
                raise ConfigError(f"`{field}` must be 0 or more", hint=f"`{field}: {off}` turns it off")


def _writes(config: Config) -> dict[str, pa.DataType]:
    return {
        **_edits.writes("refinedweb_lines", keep_original=config.keep_original),
        **{f"refinedweb_lines_{count}": pa.int32() for count in LINE_COUNTS},
        **verdict("refinedweb_lines"),
        "refinedweb_lines_removed_words_ratio": pa.float32(),
    }


@stage("refinedweb_lines", version=2, config=Config, reads=["text"], writes=_writes)
def refinedweb_lines(batch: pa.RecordBatch, config: Config) -> pa.RecordBatch:
    """Correct the lines of each text and judge it by the words that it loses."""
    from curate.kernels import refinedweb  # numba is loaded only where it runs

    texts = pc.fill_null(batch["text"], "")
    left = without_spaces(texts)
    data, offsets = text_buffers(_edits.emptied(texts, left))
    rules = refinedweb.LineRules(
        float(config.max_capitals_ratio), float(config.max_digits_ratio), config.remove_counters,
        config.min_words_per_line, config.max_words_for_cuts,
    )  # fmt: skip
    kept, kept_offsets, counts = refinedweb.edit_lines(data, offsets, rules)
    lines = counts.T[refinedweb.CAPITAL_LINES : refinedweb.CUT_LINES + 1]  # (kinds, n)
    new = _edits.text_array(kept, kept_offsets, batch["text"], left)
    batch = _edits.edit(
        batch, "refinedweb_lines", new, dict(zip(LINE_COUNTS, lines, strict=True)), keep_original=config.keep_original
    )  # fmt: skip
    words = counts[:, refinedweb.WORDS]
    measured = {"removed_words_ratio": ratio(words - counts[:, refinedweb.KEPT_WORDS], words)}
    refused = {NO_WORD_SPLITTER: left}
    return judge(batch, "refinedweb_lines", _writes(config), RULES, measured, config, refused=refused)
