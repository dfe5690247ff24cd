"""Whose words a stage counts: the kernels' own, those of ICU's dictionaries, or those of datatrove's tokenizers.

The kernels split by white space and punctuation. A text most of whose letters are Chinese, Japanese, Thai, Lao, Burmese
or Khmer has its words found by ICU (icu4py), which holds a dictionary of each; one in another script without spaces has
no words that anybody here could count, and is refused. Hyphens and apostrophes are those of the language where WAYS has it.
"""

import importlib.util
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.errors import ConfigError
from curate.models.languages import normalise
from curate.schema import text_buffers

if TYPE_CHECKING:
    from curate.kernels.words import Given

Longs = npt.NDArray[np.int64]

# Language -> whether a hyphen stays in a word; what an apostrophe between letters does: "stays" in a word, or "elides",
# so that a word ends with it (l' + art). As spaCy's tokenizer of the language; all others are split as English is.
WAYS = (
    dict.fromkeys("da de el es fi hu nl nn no pt ro sr sv".split(), (True, "stays"))
    | dict.fromkeys(("ca", "fr", "lb"), (True, "elides"))
    | dict.fromkeys(("it", "lij"), (False, "elides"))
)
NO_WORD_SPLITTER = "no_word_splitter"  # the reason of a refused row


class Options(Protocol):
    """What the Config of a stage that counts words has."""

    @property
    def words(self) -> str:
        """unicode or datatrove."""

    @property
    def words_lang(self) -> str:
        """The language of the rows, where no column names it."""


class Found(NamedTuple):
    """Words for a kernel (None: it splits every row itself), and the rows that it can say nothing of."""

    given: "Given | None"
    refused: npt.NDArray[np.bool_]  # (n,)


def check_words(config: Options) -> None:
    """Refuse words whose library is not there."""
    missing = [name for name in libraries(config) if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"`words: {config.words}` needs {' and '.join(missing)}",
            hint='`pip install "curate[datatrove]"`, or leave `words` out',
        )


def libraries(config: Options) -> tuple[str, ...]:
    """Libraries whose version decides what the words are."""
    return ("datatrove", "spacy") if config.words == "datatrove" else ("icu4py",)


def find_words(texts: pa.Array, config: Options, languages: pa.Array | None = None) -> Found:
    """What a kernel needs to count the words of a column without nulls; `languages` of the rows: else `words_lang`."""
    from curate.kernels import scripts, unicode  # numba is loaded only where it runs
    from curate.kernels.words import Given

    n = len(texts)
    if config.words == "datatrove":
        starts = [_by_datatrove(text, config.words_lang) for text in texts.to_pylist()]
        return (
            Found(_given(starts, _datatrove_kinds()), np.zeros(n, bool))
            if n
            else Found(None, np.zeros(0, bool))
        )
    writing = scripts.writing(*text_buffers(texts))
    rows = np.flatnonzero(writing == scripts.DICTIONARY)
    refused = writing == scripts.UNSPLIT
    ways = _ways(n, config, languages)
    if not len(rows) and not any(ways):
        return Found(None, refused)
    starts = [np.zeros(0, np.int64)] * n
    for way in {way for way in ways if way}:
        same = np.array([row for row in range(n) if ways[row] == way], np.int64)
        for row, found in zip(same, _by_kernel(texts.take(pa.array(same)), *way), strict=True):
            starts[row] = found
    for row in rows:
        starts[row] = _by_icu(texts[row].as_py())
    given: Given = _given(starts, unicode.kinds())
    return Found(given, refused)


def without_spaces(texts: pa.Array) -> npt.NDArray[np.bool_]:
    """Rows, (n,), most of whose letters are of scripts written without spaces; of a column without nulls."""
    from curate.kernels import scripts

    found: npt.NDArray[np.bool_] = scripts.writing(*text_buffers(texts)) != scripts.SPACED
    return found


def _given(starts: list[Longs], kinds: tuple[Any, Any]) -> "Given":
    from curate.kernels.words import Given

    offsets = np.cumsum([0, *map(len, starts)], dtype=np.int64)
    return Given(offsets, np.concatenate(starts), kinds)


def _ways(rows: int, config: Options, languages: pa.Array | None) -> list[tuple[bool, str] | None]:
    """How each row's language treats hyphens and apostrophes; None: as English."""
    if languages is None:
        return [WAYS.get(normalise(config.words_lang))] * rows
    codes = languages.dictionary_encode("encode")
    known = [WAYS.get(normalise(code or "")) for code in codes.dictionary.to_pylist()]
    return [known[i] for i in codes.indices.to_pylist()]


def _by_kernel(texts: pa.Array, hyphen_stays: bool, apostrophe: str) -> list[Longs]:
    """Where the kernels' words of each row begin, in bytes, with another way with hyphens and apostrophes."""
    from curate.kernels import unicode
    from curate.kernels.words import all_words, none_given

    kinds = unicode.kinds_with(
        unicode.HYPHEN if hyphen_stays else unicode.DASH,
        unicode.ELISION if apostrophe == "elides" else unicode.INNER,
    )
    data, offsets = text_buffers(texts)
    begins, ends = np.empty((2, int(offsets[-1] - offsets[0])), np.int64)
    num_words = np.empty(len(texts), np.int64)
    all_words(data, offsets, none_given(len(texts))._replace(kinds=kinds), begins, ends, num_words)
    return [
        found - begin
        for found, begin in zip(np.split(begins, np.cumsum(num_words))[:-1], offsets[:-1], strict=True)
    ]


def _by_icu(text: str) -> Longs:
    """Where the pieces begin that ICU cuts a text into, in bytes."""
    from icu4py.breakers import WordBreaker

    lengths = [
        len(piece) for piece in WordBreaker(text, "en")
    ]  # its dictionaries go by script, not by locale
    starts: Longs = _bytes_before(text)[np.cumsum([0, *lengths[:-1]])]
    return starts


def _by_datatrove(text: str, language: str) -> Longs:
    """Where the words of datatrove's tokenizer of a language begin, in bytes."""
    starts, end = [], 0
    for word in tokenizer(language).word_tokenize(text):
        start = text.find(word, end)
        if start < 0:
            raise ConfigError(
                f"datatrove's tokenizer of `{language}` rewrites its words, so they cannot be counted in the text",
                hint="`words: unicode` counts the words of every language",
            )
        starts.append(start)
        end = start + len(word)
    return _bytes_before(text)[starts] if starts else np.zeros(0, np.int64)


def _bytes_before(text: str) -> Longs:
    """UTF-8 bytes before each character of a text, and all of them."""
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    widths = 1 + (codes >= 0x80).astype(np.int64) + (codes >= 0x800) + (codes >= 0x10000)
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(widths)])


@cache
def tokenizer(language: str) -> Any:
    """datatrove's tokenizer of a language. ConfigError where it has none."""
    from datatrove.utils.word_tokenizers import load_word_tokenizer

    try:
        return load_word_tokenizer(language)
    except ValueError:
        raise ConfigError(
            f"datatrove has no tokenizer for `words_lang: {language}`",
            hint="its codes are as in eng, fra, cmn_Hani",
        ) from None
    except ImportError as error:
        raise ConfigError(f"datatrove's tokenizer of `{language}` is not complete: {error}") from None


@cache
def _datatrove_kinds() -> tuple[Any, Any]:
    """Characters as datatrove's filters tell them apart: letters; others that are not in its list of punctuation."""
    from datatrove.utils.text import PUNCTUATION_SET

    from curate.kernels import unicode

    def kind(character: str) -> int:
        ours = unicode.kind_of(character)
        if ours <= unicode.SPACE:
            return ours
        if character.isalpha():
            return unicode.LETTER
        if character not in PUNCTUATION_SET:
            return unicode.DIGIT
        return unicode.DOT if character == "." else unicode.OTHER

    return unicode.table(kind, np.uint8)
