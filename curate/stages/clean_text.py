"""Repair text without changing what it says: wrong decodings, Unicode form, control characters, white space.

Kept are the leading white space of a line (code), tabs, joiners and direction marks (they spell), and the zero-width
space beside Thai, Lao, Tibetan, Burmese and Khmer letters, where it ends a word.

Paper   none; encodings by ftfy (Speer 2019)
Reads   text                      large_string (n,), nulls allowed
Writes  text                      edited; null stays null
        clean_text_removed_chars  int32 (n,): characters taken away, below 0 where the text grew; null where null
        clean_text_original       large_string (n,): the text as it was; only with `keep_original: true`
Rows    all kept, in order
Differs ftfy's typography (straight quotes, ligatures, full-width forms) and its HTML entities are left alone; text is
        cleaned until nothing changes, four times at most, since one repair may show the next
Fails   ConfigError when `max_newlines` is below 1
"""

import re
import unicodedata
from functools import cache
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import ConfigError
from curate.stage import stage


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to repair."""

    fix_encoding: bool = True  # undo decoding with the wrong encoding ("cafÃ©"), line by line
    form: Literal["", "NFC", "NFD", "NFKC", "NFKD"] = "NFC"  # Unicode normal form; "" for none
    collapse_spaces: bool = True  # runs of spaces inside a line become one; false for code and aligned tables
    max_newlines: int = 3  # longer runs of newlines are cut to this many
    keep_original: bool = False  # keep the old text in `clean_text_original`

    def __post_init__(self) -> None:
        if self.max_newlines < 1:
            raise ConfigError("`max_newlines` must be at least 1", hint="1 takes out every blank line")


ROUNDS = 4  # of cleaning what cleaning changed

_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")  # what a terminal reads as colour
_NEWLINES = ["\r\n", "\r", "\x0b", "\x0c", "\x85", "\u2028", "\u2029"]
_INVISIBLE = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\xad\u2060\u206a-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff]")
_UNSPACED = "\u0e00-\u109f\u1780-\u17ff\u1950-\u1aaf"  # scripts that write no space between words
_ZERO_WIDTH_SPACE = re.compile(f"(?<![{_UNSPACED}\u200b])\u200b++(?![{_UNSPACED}])")
_UNTIDY = (  # RE2: finds every text that the steps of `_tidy` may change, normal form and ftfy aside
    r"[\x00-\x08\x0b-\x1f\x7f-\x{a0}\x{ad}\x{200b}\x{2028}\x{2029}\x{2060}\x{206a}-\x{206f}\x{feff}\x{fff9}-\x{fffb}"
    r"\x{fffe}\x{ffff}]|[ \t]\n|[ \t\n]\z|\A\n"
)
_INNER_SPACES = re.compile(r"(?<=[^ \t\n]) {2,}")


def _writes(config: Config) -> dict[str, pa.DataType]:
    columns = {"text": pa.large_string(), "clean_text_removed_chars": pa.int32()}
    return columns | ({"clean_text_original": pa.large_string()} if config.keep_original else {})


@stage("clean_text", version=1, config=Config, reads=["text"], writes=_writes, libraries=["ftfy"], rare=True)
def clean_text(batch: pa.RecordBatch, config: Config) -> pa.RecordBatch:
    """Clean the rows that need it; the others are not even decoded."""
    old = batch["text"].cast(pa.large_string())
    new = _clean(old, config, ROUNDS)
    removed = pc.subtract(pc.utf8_length(old), pc.utf8_length(new)).cast(pa.int32())
    out = batch.set_column(batch.schema.get_field_index("text"), "text", new)
    out = out.append_column("clean_text_removed_chars", removed)
    return out.append_column("clean_text_original", old) if config.keep_original else out


def _clean(texts: pa.Array, config: Config, rounds: int) -> pa.Array:
    garbled = _matches(texts, _garbled_pattern()) if config.fix_encoding else np.zeros(len(texts), bool)
    dirty = garbled | _matches(texts, _untidy_pattern(config)) | _denormalized(texts, config.form)
    rows = np.flatnonzero(dirty)
    old = [texts[row].as_py() for row in rows.tolist()]
    new = [_tidy(text, config, fix) for text, fix in zip(old, garbled[rows].tolist(), strict=True)]
    changed = np.array([a != b for a, b in zip(old, new, strict=True)], bool)
    if not changed.any():
        return texts
    mask = np.zeros(len(texts), bool)
    mask[rows[changed]] = True
    cleaned = pa.array(
        [text for text, differs in zip(new, changed, strict=True) if differs], pa.large_string()
    )
    return pc.replace_with_mask(texts, mask, _clean(cleaned, config, rounds - 1) if rounds > 1 else cleaned)


def _tidy(text: str, config: Config, garbled: bool) -> str:
    if garbled:
        text = _fix_encoding(text)
    if "\x1b" in text:
        text = _ESCAPES.sub("", text)
    for newline in _NEWLINES:
        text = text.replace(newline, "\n")
    text = _INVISIBLE.sub("", text)
    if "\u200b" in text:
        text = _ZERO_WIDTH_SPACE.sub("", text)
    if config.form:
        text = unicodedata.normalize(config.form, text)
    text = text.replace("\xa0", " ")
    text = "\n".join(
        [line.rstrip(" \t") for line in text.split("\n")]
    )  # a pattern would be quadratic in a long run
    if config.collapse_spaces and "  " in text:
        text = _INNER_SPACES.sub(" ", text)
    return re.sub(f"\n{{{config.max_newlines + 1},}}", "\n" * config.max_newlines, text).strip("\n")


def _fix_encoding(text: str) -> str:
    import ftfy

    fixed: str = ftfy.fix_text(
        text,
        ftfy.TextFixerConfig(
            unescape_html=False,
            remove_terminal_escapes=False,
            fix_latin_ligatures=False,
            fix_character_width=False,
            uncurl_quotes=False,
            fix_line_breaks=False,
            remove_control_chars=False,
            normalization=None,
            explain=False,
        ),
    )
    return fixed


def _matches(texts: pa.Array, pattern: str) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = (
        pc.match_substring_regex(texts, pattern).fill_null(False).to_numpy(zero_copy_only=False)
    )
    return found


def _denormalized(texts: pa.Array, form: Any) -> npt.NDArray[np.bool_]:
    out = np.zeros(len(texts), bool)
    if form:
        for row in np.flatnonzero(pc.invert(pc.string_is_ascii(texts)).fill_null(False)).tolist():
            out[row] = not unicodedata.is_normalized(form, texts[row].as_py())
    return out


def _untidy_pattern(config: Config) -> str:
    spaces = r"|[^ \t\n] {2}" if config.collapse_spaces else ""
    return rf"{_UNTIDY}{spaces}|\n{{{config.max_newlines + 1}}}"


@cache
def _garbled_pattern() -> str:
    """ftfy's own test for a garbled line, as RE2 runs it: a hundred times as fast, and it may say yes too often.

    ftfy tests every line that is not ASCII (5 MB/s). The pattern has no look-around, so it needs only its comments
    and blanks taken out, and its two Unicode classes, which RE2 reads as ASCII, widened to any character.
    """
    from ftfy.badness import BADNESS_RE

    token = re.compile(r"\\[ws]|(\[(?:\\.|[^\]\\])*\])|\s+#[^\n]*|\s+")
    any_character = {r"\w": "(?s:.)", r"\s": "(?s:.)"}
    return "(?m)" + token.sub(lambda match: match[1] or any_character.get(match[0], ""), BADNESS_RE.pattern)
