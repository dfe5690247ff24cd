"""Thresholds of the rules for each language, from the statistics of a reference corpus (FineWeb2's idea).

A rule carries what English uses over to another language, by where the English threshold lies among the statistic's
values on the English documents of the reference:
    mean_std      as many standard deviations from the mean; the threshold itself where values do not vary
    quantile      the value that as large a share of the language's documents fails; where no English document fails,
                  that is the largest value (or the least), however near
    median_ratio  the English threshold times the ratio of the medians; the threshold itself where one of them is 0
    tail          needs no English: the value that the `tail` worst of the language's documents fail
Which of them FineWeb2 chose for which key was found by training models and is not published with its code, so the rule
is an option; `mean_std` is our default, for it also says something of thresholds that no document reaches. Its files
name a key for words with a letter `max_non_alpha_words_ratio`; it is the least share of such words, there and here.

A language of more than SAMPLE documents is measured by as many of them, the same ones in whatever order they come; its
stop words are counted in all.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import ConfigError
from curate.fit.corpus import Corpus
from curate.models.languages import normalise, same_language
from curate.schema import text_buffers
from curate.stages import _thresholds, fineweb_quality, gopher_quality, gopher_repetition
from curate.stages._thresholds import Thresholds
from curate.stages._words import find_words

Values = npt.NDArray[np.float32]
Rule = Literal["quantile", "mean_std", "median_ratio", "tail"]
RULES: tuple[Rule, ...] = ("mean_std", "quantile", "median_ratio", "tail")

# Key of a file, n of an n-gram or 0 -> stage, statistic, option; the English threshold is the option's default.
KEYS = {
    ("dup_line_frac", 0): (gopher_repetition, "dup_lines_ratio", "max_dup_lines_ratio"),
    **{
        ("top_n_grams", n): (gopher_repetition, f"top_{n}gram_chars_ratio", f"max_top_{n}gram_chars_ratio")
        for n in range(2, 5)
    },
    **{
        ("dup_n_grams", n): (gopher_repetition, f"dup_{n}gram_chars_ratio", f"max_dup_{n}gram_chars_ratio")
        for n in range(5, 11)
    },
    ("line_punct_thr", 0): (fineweb_quality, "ended_lines_ratio", "min_ended_lines_ratio"),
    ("new_line_ratio", 0): (fineweb_quality, "newlines_ratio", "max_newlines_ratio"),
    ("min_avg_word_length", 0): (gopher_quality, "mean_word_chars", "min_mean_word_chars"),
    ("max_avg_word_length", 0): (gopher_quality, "mean_word_chars", "max_mean_word_chars"),
    ("max_non_alpha_words_ratio", 0): (gopher_quality, "alpha_words_ratio", "min_alpha_words_ratio"),
}
SCORE_RANGE = (
    0.3,
    0.9,
)  # language_score is the median less a standard deviation, within these (FineWeb2, as reported)
LEAST_STOP_WORDS = 8  # as many as Gopher's English list has
SAMPLE = 20_000  # documents of a language whose statistics are held
_WORDS_PER_BATCH = 1000  # of each language, the most frequent: a stop word is among them in every batch
_WORDS_HELD = 20_000  # of each language; rarer ones are forgotten when there are twice as many
_MEASURED = [*dict.fromkeys((m, s) for m, s, _ in KEYS.values())]  # stage, statistic
_COLUMNS = [*(statistic for _, statistic in _MEASURED), "lang_score"]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How values are found."""

    rules: dict[str, Rule] = {}  # by key; others take `rule`
    rule: Rule = "mean_std"
    tail: float = 0.1  # share of the reference that `tail` lets fail
    stop_share: float = 0.008  # a word is a stop word when it makes up so much of all words
    min_documents: int = 100  # languages with fewer are refused


class Fitted(msgspec.Struct, frozen=True, kw_only=True):
    """One value: where it came from, and the share of the language's reference documents that fail it."""

    key: str
    n: int  # of an n-gram; 0
    value: float | tuple[str, ...]
    rule: str
    dropped: float | None


class Language(msgspec.Struct, frozen=True, kw_only=True):
    """All values of a language."""

    lang: str
    documents: int
    fitted: list[Fitted]
    path: str = ""

    def thresholds(self) -> Thresholds:
        """As a file has them."""
        single = {one.key: one.value for one in self.fitted if not one.n}
        grams = {
            key: tuple((one.n, one.value) for one in self.fitted if one.key == key)
            for key in ("top_n_grams", "dup_n_grams")
        }
        return msgspec.convert({**single, **grams}, Thresholds, strict=False)


class Sample:
    """Statistics of the documents of one language whose ids have the least hashes."""

    def __init__(self) -> None:
        self._hashes = np.zeros(0, np.uint64)
        self._values = np.zeros((0, len(_COLUMNS)), np.float32)
        self._limit = np.iinfo(np.uint64).max

    def add(self, batch: pa.RecordBatch) -> None:
        """Measure those documents that belong to the sample as far as it is known."""
        import xxhash

        ids = batch["id"].to_pylist()
        hashes = np.fromiter(map(xxhash.xxh3_64_intdigest, ids), np.uint64, len(ids))
        rows = np.flatnonzero(hashes <= self._limit)
        if not len(rows):
            return
        self._hashes = np.concatenate([self._hashes, hashes[rows]])
        self._values = np.concatenate([self._values, _measure(batch.take(pa.array(rows)))])
        if len(self._hashes) > 2 * SAMPLE:
            self._cut()

    def values(self, statistic: str) -> Values:
        """Values of a statistic on the documents that have one."""
        self._cut()
        found = self._values[:, _COLUMNS.index(statistic)]
        known: Values = found[~np.isnan(found)]
        return known

    def _cut(self) -> None:
        if len(self._hashes) > SAMPLE:
            least = np.argsort(self._hashes, kind="stable")[:SAMPLE]
            self._hashes, self._values = self._hashes[least], self._values[least]
            self._limit = int(self._hashes[-1])


def _measure(batch: pa.RecordBatch) -> Values:
    """float32 (n, columns); NaN where a document has no such value."""
    texts = pa.record_batch({"text": batch["text"]})
    columns = []
    for module in dict.fromkeys(module for module, _ in _MEASURED):
        name = module.__name__.rpartition(".")[2]
        out = getattr(module, name)(texts, module.Config(words_lang=batch["lang"][0].as_py()))
        columns += [out[f"{name}_{statistic}"] for m, statistic in _MEASURED if m is module]
    scored = "lang_score" in batch.schema.names
    columns.append(batch["lang_score"] if scored else pa.nulls(batch.num_rows))
    return np.column_stack([c.cast(pa.float32()).to_numpy(zero_copy_only=False) for c in columns])


class Reference:
    """What was measured on a reference corpus: statistics, scores and words, by language."""

    def __init__(self) -> None:
        self.documents: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()  # documents whose words cannot be told apart
        self.words: dict[str, Counter[str]] = {}
        self.num_words: Counter[str] = Counter()
        self._samples: dict[str, Sample] = {}

    def values(self, lang: str, statistic: str) -> Values:
        """Values of a statistic on the sampled documents of a language that have one."""
        return self._samples.get(lang, Sample()).values(statistic)

    def add(self, batch: pa.RecordBatch) -> None:
        """Measure documents of one language, named in their `lang`."""
        lang = batch["lang"][0].as_py()
        self._samples.setdefault(lang, Sample()).add(batch)
        self._count_words(lang, batch["text"])
        self.documents[lang] += batch.num_rows

    def _count_words(self, lang: str, texts: pa.Array) -> None:
        from curate.kernels.frequency import frequent_words

        found = find_words(texts, gopher_quality.Config(words_lang=lang))
        self.refused[lang] += int(found.refused.sum())
        words, letters = frequent_words(*text_buffers(texts), found.given, _WORDS_PER_BATCH)
        counted = self.words.setdefault(lang, Counter())
        counted.update(words)
        if len(counted) > 2 * _WORDS_HELD:
            self.words[lang] = Counter(dict(counted.most_common(_WORDS_HELD)))
        self.num_words[lang] += letters


def fit(
    reference: Sequence[str], languages: Sequence[str], folder: str, options: Options
) -> tuple[list[Language], dict[str, str]]:
    """Fit every language of the reference (or those named) and write its file: (fitted, code refused -> why)."""
    if Path(folder).is_dir() and any(Path(folder).glob("*.y*ml")):
        raise ConfigError(f"{folder} holds YAML files already", hint="give an empty or a new folder")
    measured = Reference()
    for batch in documents(reference, languages):
        measured.add(batch)
    chosen = choose(measured, languages, options)
    Path(folder).mkdir(parents=True, exist_ok=True)
    fitted = [_fit_language(measured, lang, options) for lang in chosen]
    refused = {lang: why for lang in sorted(measured.documents) if (why := why_not(measured, lang, options))}
    return [
        msgspec.structs.replace(one, path=str(_thresholds.write(folder, one.lang, one.thresholds())))
        for one in fitted
    ], refused


def documents(reference: Sequence[str], languages: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The corpus as batches of one language each; without a column `lang` all are in the one language named."""
    corpus = Corpus(reference)
    if "lang" not in corpus.schema.names and len(languages) != 1:
        raise ConfigError(
            "the reference has no column `lang`", hint="name its one language: --lang fra", where=reference[0]
        )
    for file, batch in corpus.batches():
        yield from _by_language(batch, languages, file.path)


def _by_language(batch: pa.RecordBatch, languages: Sequence[str], where: str) -> Iterator[pa.RecordBatch]:
    if "lang" not in batch.schema.names:
        batch = batch.append_column("lang", pa.array([languages[0]] * batch.num_rows, pa.string()))
    for lang in sorted(pc.unique(batch["lang"].drop_null()).to_pylist()):
        if not languages or normalise(lang) == "en" or any(same_language(lang, one) for one in languages):
            _thresholds.check_code(lang, where)
            yield batch.filter(pc.equal(batch["lang"], lang))


def choose(measured: Reference, languages: Sequence[str], options: Options) -> list[str]:
    """The languages to fit. ConfigError when one that was named cannot be."""
    wanted = [
        c for c in measured.documents if not languages or any(same_language(c, one) for one in languages)
    ]
    chosen = [lang for lang in sorted(wanted) if not why_not(measured, lang, options)]
    absent = [one for one in languages if not any(same_language(one, lang) for lang in chosen)]
    if absent or not chosen:
        reasons = [
            f"{lang}: {why_not(measured, lang, options)}" for lang in sorted(wanted) if lang not in chosen
        ]
        raise ConfigError(
            "; ".join(reasons) or f"the reference has no document in {', '.join(absent) or 'any language'}",
            hint="a larger reference, or a lower --min-documents",
        )
    _check_english(measured, options)
    return chosen


def why_not(measured: Reference, lang: str, options: Options) -> str:
    """Why a language cannot be fitted; '' when it can."""
    count = measured.documents[lang]
    if 2 * measured.refused[lang] > count:
        return "its script is written without spaces and no dictionary knows its words"
    if count < options.min_documents:
        return f"{count} documents, fewer than {options.min_documents}"
    return ""


def _check_english(measured: Reference, options: Options) -> None:
    rules = sorted({options.rules.get(key, options.rule) for key, _ in KEYS} - {"tail"})
    if rules and measured.documents[_english(measured) or ""] < options.min_documents:
        raise ConfigError(
            f"{', '.join(rules)} carries English thresholds over, and the reference has not"
            f" {options.min_documents} English documents",
            hint="add some with `lang` en to it, or take `--rule tail`",
        )


def _english(measured: Reference) -> str | None:
    """The code that English goes by here."""
    found = [lang for lang in measured.documents if normalise(lang) == "en"]
    return max(found, key=lambda lang: measured.documents[lang], default=None)


def _fit_language(measured: Reference, lang: str, options: Options) -> Language:
    english = _english(measured)
    fitted = []
    for (key, n), (module, statistic, option) in KEYS.items():
        rule = options.rules.get(key, options.rule)
        values = measured.values(lang, statistic).astype(float)
        there = measured.values(english, statistic).astype(float) if english else values
        low = option.startswith("min_")
        found = carry(rule, getattr(module.Config(), option), values, there, low, options.tail)
        value = _rounded(found, low)
        fitted.append(
            Fitted(key=key, n=n, value=value, rule=rule, dropped=_share_failing(values, value, low))
        )
    scores = measured.values(lang, "lang_score").astype(float)
    if len(scores):
        low_score, high_score = SCORE_RANGE
        value = _rounded(max(low_score, min(high_score, float(np.median(scores) - np.std(scores)))), True)
        dropped = _share_failing(scores, value, True)
        fitted.append(Fitted(key="language_score", n=0, value=value, rule="median - std", dropped=dropped))
    words = stop_words(measured.words[lang], measured.num_words[lang], options.stop_share)
    fitted.append(Fitted(key="stopwords", n=0, value=words, rule="frequency", dropped=None))
    return Language(lang=lang, documents=measured.documents[lang], fitted=fitted)


def carry(
    rule: Rule,
    english: float,
    values: npt.NDArray[np.float64],
    there: npt.NDArray[np.float64],
    low: bool,
    tail: float,
) -> float:
    """The threshold for `values`, where `english` is that for the English values `there`; `low`: it is a least value."""
    if rule == "tail":
        return float(np.quantile(values, tail if low else 1 - tail))
    if rule == "quantile":
        below = float(np.mean(there < english)) if low else 1 - float(np.mean(there > english))
        return float(np.quantile(values, below))
    if rule == "median_ratio":
        here, median = float(np.median(values)), float(np.median(there))
        return english * here / median if here and median else english
    spread = float(np.std(there))
    away = (english - float(np.mean(there))) / spread if spread else 0.0
    own = float(np.std(values))
    return max(0.0, float(np.mean(values)) + away * own) if spread and own else english


def stop_words(words: Mapping[str, int], total: int, share: float) -> tuple[str, ...]:
    """Words that make up at least `share` of all, the most frequent first; at least LEAST_STOP_WORDS of them."""
    ranked = sorted(words.items(), key=lambda item: (-item[1], item[0]))
    enough = max(LEAST_STOP_WORDS, sum(count >= share * total for _, count in ranked))
    return tuple(word for word, _ in ranked[:enough])


def _share_failing(values: npt.NDArray[np.float64], value: float, low: bool) -> float:
    return float(np.mean(values < value if low else values > value)) if len(values) else 0.0


def _rounded(value: float, low: bool) -> float:
    """Three decimals, to the side that lets more pass."""
    return (math.floor if low else math.ceil)(round(value * 1000, 6)) / 1000
