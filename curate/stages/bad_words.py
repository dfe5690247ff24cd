"""Whether a document has a word or phrase of a list, as C4 drops pages.

List    a text file, or a gzipped one, one phrase a line (the form of LDNOOBW). None is shipped.
Where   a phrase stands between edges of words: letters, digits, _ and combining marks go on a word. A phrase with a
        character of a script that writes no spaces (Chinese, Japanese, Thai, Lao, Tibetan, Burmese, Khmer) is found
        anywhere, and such characters are the edge of a word beside them. The script of the phrase decides, not `lang`.
Case    does not matter: characters are compared by Unicode's one-to-one lower case, final sigma as sigma
Paper   Raffel et al. 2020 (C4), arXiv:1910.10683, section 2.2; `keep_fraction` as T5's code and datatrove have it
Reads   text                    large_string (n,), nulls allowed
        id                      string, for the draw of `keep_fraction`
        lang                    string, only with `lists`
Writes  bad_words_pass          bool (n,); true where no list is for the row's language
        bad_words_reason        string: bad_word; null where it passed
        bad_words_value         float64: phrases found; null where it passed
        bad_words_threshold     float64: 0, the most a document may have; null where it passed
        bad_words_num_matches   int32: phrases found from the left, the longest of a place, without overlap; null where
                                the text is null or no list is for its language
        bad_words_match         string: the first of them, as it stands in the list; null where none was found
Rows    all kept, in order; the recipe's `select` decides
Differs from datatrove's C4BadWordsFilter: it looks anywhere for all phrases of the lists ja, th, zh (also for "sm" in
        "small") and so leaves some common ones out, which a list given here has to do itself; there a combining mark
        ends a word; phrases with capitals are never found; the draw is by the order of documents, here by `id`
Fails   ConfigError without a list, for a list that cannot be read or is empty, for a `keep_fraction` outside 0-1
"""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.errors import ConfigError
from curate.models.languages import normalise
from curate.schema import text_buffers, verdict
from curate.stage import stage
from curate.stages import _lists
from curate.stages.sample import uniform

if TYPE_CHECKING:
    from curate.kernels.phrases import Trie

WRITES = verdict("bad_words") | {"bad_words_num_matches": pa.int32(), "bad_words_match": pa.string()}


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which lists, and what share of the documents that have such words stays."""

    list: str = ""  # file of phrases for documents of every language that `lists` does not name
    lists: dict[str, str] = {}  # file of phrases by the language in `lang`: {en: en.txt, ja: ja.txt}
    keep_fraction: float = 0.0  # share of the documents with such words that pass all the same, drawn by `id`
    seed: int = 0  # another seed draws others

    def __post_init__(self) -> None:
        if not self.list and not self.lists:
            raise ConfigError(
                "no list was given, and none is shipped,",
                hint="give one: `list: words.txt`, one phrase a line; or `lists: {en: en.txt, ja: ja.txt}`",
            )
        if not 0 <= self.keep_fraction <= 1:
            raise ConfigError("`keep_fraction` must be from 0 to 1", hint="leave it out to drop all")
        if self.seed < 0:
            raise ConfigError("`seed` must not be negative", hint="use 0, 1, 2, ...")
        codes = [normalise(code) for code in self.lists]
        if twice := next((code for code in codes if codes.count(code) > 1), ""):
            raise ConfigError(
                f"`lists` names the language `{twice}` twice", hint="en, eng and eng_Latn are the same"
            )


class Phrases(NamedTuple):
    """A list as it was given, and as the kernel takes it."""

    phrases: pa.Array
    trie: "Trie"


def columns_read(config: Config) -> list[str]:
    """`lang` only where it chooses the list."""
    return ["text", "id", *(["lang"] if config.lists else [])]


def list_files(config: Config) -> list[str]:
    """All files, part of the fingerprint."""
    return _lists.existing([*([config.list] if config.list else []), *config.lists.values()])


def load(config: Config, store: Path) -> dict[str, Phrases]:
    """The lists by language, once per worker; "" is the one for all others."""
    found = {normalise(code): _phrases(path) for code, path in config.lists.items()}
    return found | ({"": _phrases(config.list)} if config.list else {})


def _phrases(path: str) -> Phrases:
    from curate.kernels.phrases import build

    phrases = pa.concat_arrays([some for some, _ in _lists.lines(path, comments=False)])
    return Phrases(phrases, build(phrases.to_pylist()))


@stage(
    "bad_words", version=1, config=Config, reads=columns_read, writes=WRITES, load=load, files=list_files,
    libraries=["xxhash"], rare=True,
)  # fmt: skip
def bad_words(batch: pa.RecordBatch, config: Config, lists: dict[str, Phrases]) -> pa.RecordBatch:
    """Add the verdict, the number of phrases found and the first of them."""
    from curate.kernels.phrases import find

    data, offsets = text_buffers(batch["text"])
    num, match = np.zeros(batch.num_rows, np.int64), np.full(batch.num_rows, None, object)
    unknown = batch["text"].is_null().to_numpy(zero_copy_only=False).copy()
    for code, rows in _rows_by_list(batch, config, lists).items():
        if code not in lists:
            unknown[rows] = True
            continue
        first, num[rows] = find(data, offsets, rows, lists[code].trie)
        match[rows] = lists[code].phrases.take(pa.array(first, mask=first < 0)).to_numpy(zero_copy_only=False)
    passed = num == 0
    if config.keep_fraction:
        passed |= uniform(batch["id"], "bad_words", config.seed) < config.keep_fraction
    columns = {
        "bad_words_pass": pa.array(passed),
        "bad_words_reason": pa.array(np.full(len(num), "bad_word", object), pa.string(), mask=passed),
        "bad_words_value": pa.array(num.astype(np.float64), mask=passed),
        "bad_words_threshold": pa.array(np.zeros(len(num)), mask=passed),
        "bad_words_num_matches": pa.array(num.astype(np.int32), mask=unknown),
        "bad_words_match": pa.array(match, pa.string()),
    }
    for name, array in columns.items():
        batch = batch.append_column(name, array)
    return batch


def _rows_by_list(
    batch: pa.RecordBatch, config: Config, lists: dict[str, Phrases]
) -> dict[str, npt.NDArray[np.int64]]:
    """Rows by the list that is for them; those of "" may have none."""
    if not config.lists:
        return {"": np.arange(batch.num_rows)}
    codes = [normalise(code) if code else "" for code in batch["lang"].to_pylist()]
    chosen = np.array([code if code in lists else "" for code in codes], object)
    return {code: np.flatnonzero(chosen == code) for code in sorted(set(chosen.tolist()))}
