"""Thresholds of one language each: a folder of YAML files, `fra_Latn.yaml` and so on, with the keys of FineWeb2's.

Every value is read as text first, so the stop word `no` stays a word. FineWeb2's own files are read as they are.
"""

import math
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import ConfigError, DataError
from curate.models.languages import normalise

_CODE = re.compile(r"[A-Za-z0-9]+([_-][A-Za-z0-9]+)*")  # of a language: a file is named by it
NO_THRESHOLDS = "no_thresholds"  # the reason of a row whose language has no file
NEEDS_SCORE = "`curate fit` writes `language_score` where the reference has a column `lang_score`: run `language_id` over it"
Values = npt.NDArray[np.float64]


class Thresholds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a file may hold; a stage refuses a file that lacks what it needs."""

    language_score: float | None = None  # least score of language identification
    dup_line_frac: float | None = None  # largest share of lines seen before
    top_n_grams: tuple[tuple[int, float], ...] | None = None  # n, largest share of characters; n = 2-4
    dup_n_grams: tuple[tuple[int, float], ...] | None = None  # the same for n = 5-10
    line_punct_thr: float | None = None  # least share of lines that end a sentence
    new_line_ratio: float | None = None  # most newlines per word
    min_avg_word_length: float | None = None
    max_avg_word_length: float | None = None
    max_non_alpha_words_ratio: float | None = (
        None  # least share of words with a letter: FineWeb2 kept the misnomer
    )
    stopwords: tuple[str, ...] | None = None

    def bounds(self) -> dict[str, float]:
        """By the name of the option that it stands for."""
        found = {option: getattr(self, key) for key, option in OPTIONS.items()}
        found |= {f"max_top_{n}gram_chars_ratio": share for n, share in self.top_n_grams or ()}
        found |= {f"max_dup_{n}gram_chars_ratio": share for n, share in self.dup_n_grams or ()}
        return {option: value for option, value in found.items() if value is not None}


# Key of a file -> option of a stage that it stands for.
OPTIONS = {
    "language_score": "min_score",
    "dup_line_frac": "max_dup_lines_ratio",
    "line_punct_thr": "min_ended_lines_ratio",
    "new_line_ratio": "max_newlines_ratio",
    "min_avg_word_length": "min_mean_word_chars",
    "max_avg_word_length": "max_mean_word_chars",
    "max_non_alpha_words_ratio": "min_alpha_words_ratio",
}


class ByRow(NamedTuple):
    """Bounds of each row, (n,), NaN where the language has no file, so `missing` must refuse it."""

    bounds: dict[str, Values]
    stop_words: list[tuple[str, ...]]
    group: npt.NDArray[np.int64]  # (n,): whose stop words
    missing: npt.NDArray[np.bool_]  # (n,): no file


class Bounded(Protocol):
    """A Config whose bounds may come from files."""

    @property
    def thresholds(self) -> str:
        """The folder; '' for none."""


def columns_read(config: Bounded) -> list[str]:
    """What a stage reads: `lang` picks the file of thresholds."""
    return ["text", "lang"] if config.thresholds else ["text"]


def files_of(config: Bounded) -> list[str]:
    """The files of thresholds, part of the fingerprint."""
    return files(config.thresholds) if config.thresholds else []


def files(folder: str) -> list[str]:
    """The files of a folder, sorted. ConfigError when there is none, or two of one language."""
    found = sorted(str(path) for path in Path(folder).glob("*.y*ml"))
    by_language: dict[str, str] = {}
    for path in found:
        if (first := by_language.setdefault(Path(path).stem, path)) != path:
            raise ConfigError(
                f"`thresholds`: {Path(first).name} and {Path(path).name} are of one language",
                hint="remove one of them", where=folder,
            )  # fmt: skip
    if not found:
        raise ConfigError(
            f"`thresholds`: no YAML file in {folder!r}",
            hint="`curate fit thresholds --reference CORPUS -o FOLDER` writes them",
        )
    return found


def check(folder: str, options: Sequence[str], min_stop_words: int = 0) -> None:
    """Refuse a folder with a file that cannot be read, or that lacks one of a stage's options."""
    if not folder:
        return
    keys = {option: key for key, option in OPTIONS.items()}
    for path, one in zip(files(folder), read(folder).values(), strict=True):
        bounds = one.bounds()
        lacking = [option for option in options if option not in bounds]
        if lacking:
            key = keys.get(lacking[0], f"{lacking[0].split('_')[1]}_n_grams")
            hint = NEEDS_SCORE if key == "language_score" else "every file of the folder needs it"
            raise ConfigError(f"`{key}` is missing ({lacking[0]})", where=path, hint=hint)
        if len(set(one.stopwords or ())) < min_stop_words:
            raise ConfigError(
                f"`stopwords` holds fewer words than `min_stop_words: {min_stop_words}`", where=path,
                hint="`min_stop_words: 0` turns the rule off",
            )  # fmt: skip


@cache
def read(folder: str) -> dict[str, Thresholds]:
    """Language code, as the file is named -> its thresholds, in the order of `files`."""
    return {Path(path).stem: _read(path) for path in files(folder)}


def _read(path: str) -> Thresholds:
    import yaml

    loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # FineWeb2 has 1,868 files: C takes a second
    try:
        with open(path, encoding="utf-8") as file:
            one = msgspec.convert(_plain(yaml.compose(file, loader), path), Thresholds, strict=False)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, msgspec.ValidationError) as error:
        raise ConfigError(f"not a file of thresholds: {error}", where=path) from None
    wrong = [option for option, bound in one.bounds().items() if math.isnan(bound) or bound < 0]
    if wrong:
        raise ConfigError(f"{wrong[0]} must be 0 or more", where=path)
    if (one.min_avg_word_length or 0) > (one.max_avg_word_length or math.inf):
        raise ConfigError("`min_avg_word_length` is above `max_avg_word_length`", where=path)
    for word in one.stopwords or ():
        if word.split() != [word]:
            raise ConfigError(f"`stopwords` holds {word!r}, which is not one word", where=path)
    return one


def _plain(node: Any, path: str) -> Any:
    """Mappings, lists and text: of a scalar only its text is taken."""
    if node is None or not isinstance(node.value, list):
        return node and node.value
    if node.id == "sequence":
        return [_plain(item, path) for item in node.value]
    keys = [key.value for key, _ in node.value]
    if twice := next((key for key in keys if keys.count(key) > 1), None):
        raise ConfigError(f"`{twice}` stands twice", where=path)
    return {key.value: _plain(value, path) for key, value in node.value}


def check_code(code: str, where: str) -> None:
    """Refuse a language of a corpus that could not name a file: a path, nothing at all."""
    if not _CODE.fullmatch(code):
        raise DataError(
            f"`lang` holds {code!r}, which is no code of a language",
            hint="codes are as in en, fra_Latn, zh-Hant; name those to fit: --lang fra",
            where=where,
        )


def write(folder: str, language: str, thresholds: Thresholds) -> Path:
    """Write the file of a language; returns its path."""
    import yaml

    assert _CODE.fullmatch(language), language
    path = Path(folder) / f"{language}.yaml"
    path.write_text(yaml.safe_dump(msgspec.to_builtins(thresholds), allow_unicode=True), "utf-8")
    return path


def by_row(folder: str, languages: pa.Array, options: Sequence[str]) -> ByRow:
    """The bounds of each row, by the language that it says it is in."""
    known = read(folder)
    codes = pc.dictionary_encode(languages, null_encoding="encode")
    found = [_file_of(folder, code) for code in codes.dictionary.to_pylist()]
    group = codes.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    tables = [known[name].bounds() if name else {} for name in found]
    missing = np.array([name is None for name in found], bool)[group]
    bounds = {
        option: np.array([table.get(option, math.nan) for table in tables], float)[group]
        for option in options
    }
    return ByRow(bounds, [known[name].stopwords or () if name else () for name in found], group, missing)


@cache
def _file_of(folder: str, code: str | None) -> str | None:
    return find(code, list(read(folder)))


def find(code: str | None, names: Sequence[str]) -> str | None:
    """The file of a language: the one of its very name, else the only one of that language and no other script."""
    if code is None or code in names:
        return code
    script = _script(code)
    near = [
        n for n in names if normalise(n) == normalise(code) and (not script or _script(n) in ("", script))
    ]
    return near[0] if len(near) == 1 else None


def _script(code: str) -> str:
    """`latn` of fra_Latn; '' where the code names none."""
    parts = code.lower().replace("-", "_").split("_")[1:]
    return next((part for part in parts if len(part) == 4), "")
