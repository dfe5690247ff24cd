"""Whether a document's URL is on a list: of domains, of URLs, or of words and pieces of words that a URL should not have.

Lists     text files, or gzipped ones, one entry a line; # begins a comment line. None is shipped. Case does not matter.
          domains     example.com is that host and all below it (a.b.example.com)
          urls        compared without scheme, `www.`, fragment and last slash
          words       whole words of the URL: what stands between characters that are no letters or digits
          soft_words  the same; a URL fails with `min_soft_words` different ones
          substrings  anywhere in the URL once all but letters and digits is taken out of it (ad-ult finds "adult")
Paper     Penedo et al. 2023 (RefinedWeb), arXiv:2306.01116, appendix G.1; words and substrings as DCLM writes them
Reads     url                   string (n,), nulls allowed
Writes    url_filter_pass       bool (n,); true where there is no URL
          url_filter_reason     string: domain, url, word, soft_words or substring, the first in this order; null if passed
          url_filter_value      float64: different soft words, for soft_words alone
          url_filter_threshold  float64: `min_soft_words`, for soft_words alone
          url_filter_match      string: the entry of the list, for soft_words the first of them
Rows      all kept, in order; the recipe's `select` decides
Differs   from datatrove's URLFilter: case of the URL does not matter for domains and words; a domain has all hosts below
          it, not only the host and the registered domain (so `co.uk` is all of it); an IP address can be listed; `urls`
          without a scheme match (there they never do); letters outside ASCII belong to words. No percent-decoding.
Fails     ConfigError without a list, for a list that cannot be read, is empty or holds an entry that can match nothing
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import ConfigError
from curate.schema import text_buffers, verdict
from curate.stage import stage
from curate.stages import _lists

if TYPE_CHECKING:
    from curate.kernels.phrases import Trie
    from curate.kernels.strings import Strings

LISTS = ("domains", "urls", "words", "soft_words", "substrings")
REASONS = (None, "domain", "url", "word", "soft_words", "substring")  # by the kernel's verdict
WRITES = verdict("url_filter") | {"url_filter_match": pa.string()}


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which lists; each is a file or a list of files."""

    domains: str | tuple[str, ...] = ()  # file of domains: a host and all below it
    urls: str | tuple[str, ...] = ()  # file of URLs
    words: str | tuple[str, ...] = ()  # file of words that no URL may have
    soft_words: str | tuple[str, ...] = ()  # file of words of which no URL may have several
    min_soft_words: int = 2  # different soft words that make a URL fail
    substrings: str | tuple[str, ...] = ()  # file of what no URL may have even inside a word

    def __post_init__(self) -> None:
        if not any(files_of(self, name) for name in LISTS):
            raise ConfigError(
                "no list was given, and none is shipped,",
                hint="give one: `domains: banned.txt`, one domain a line; also urls, words, soft_words, substrings",
            )
        if self.min_soft_words < 1:
            raise ConfigError(
                "`min_soft_words` must be at least 1", hint="leave `soft_words` out to turn it off"
            )


def files_of(config: Config, name: str) -> tuple[str, ...]:
    """The files of one list."""
    value: str | tuple[str, ...] = getattr(config, name)
    return (value,) if isinstance(value, str) and value else tuple(value)


def list_files(config: Config) -> list[str]:
    """All files, part of the fingerprint."""
    return _lists.existing([path for name in LISTS for path in files_of(config, name)])


class Lists(NamedTuple):
    """The lists as the kernel takes them, and the substrings by number."""

    domains: "Strings"
    urls: "Strings"
    words: "Strings"
    soft_words: "Strings"
    substrings: "Trie"
    pieces: list[str]


def load(config: Config, store: Path) -> Lists:
    """The lists, once per worker; the long ones mapped, so that workers share them."""
    from curate.kernels.phrases import build

    files = files_of(config, "substrings")
    pieces = list(dict.fromkeys(p for path in files for some in _words(path) for p in some.to_pylist()))
    return Lists(
        domains=_lists.mapped_set(files_of(config, "domains"), _domains, "domains", store),
        urls=_lists.mapped_set(files_of(config, "urls"), _urls, "urls", store),
        words=_lists.string_set(files_of(config, "words"), _words),
        soft_words=_lists.string_set(files_of(config, "soft_words"), _words),
        substrings=build(pieces, anywhere=True),
        pieces=pieces,
    )


def _domains(path: str) -> Iterator[pa.Array]:
    hint = "one domain a line, without scheme, port or path; whole URLs go into `urls`"
    for entries, numbers in _lists.lines(path, comments=True):
        names = pc.utf8_rtrim(pc.utf8_lower(entries), ".")
        names = pc.replace_substring_regex(names, r"^\*?\.", "")
        is_domain = pc.match_substring_regex(names, r"^([^\s/:@?#\[\]]+|\[[0-9a-f:.]+\])$")
        _lists.refuse(pc.invert(is_domain), entries, numbers, path, "no domain", hint)
        yield names
        foreign = names.filter(pc.invert(pc.string_is_ascii(names)))
        yield pa.array(map(_ascii_name, foreign.to_pylist()), pa.large_string())


def _ascii_name(name: str) -> str:
    """The name as it stands in most URLs (xn--...), or as it is where it has none."""
    try:
        return name.encode("idna").decode()
    except UnicodeError:
        return name


def _urls(path: str) -> Iterator[pa.Array]:
    from curate.kernels.urls import url_keys

    for entries, numbers in _lists.lines(path, comments=True):
        data, offsets = url_keys(*text_buffers(entries))
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
        keys = pa.Array.from_buffers(pa.large_string(), len(entries), buffers)
        _lists.refuse(
            pc.equal(keys, ""), entries, numbers, path, "no URL", "one URL a line: example.com/page"
        )
        yield keys


def _words(path: str) -> Iterator[pa.Array]:
    for entries, numbers in _lists.lines(path, comments=True):
        words = pc.replace_substring_regex(pc.utf8_lower(entries), r"[\x00-/:-`{-\x7f]+", "")
        hint = "a word is made of letters and digits"
        _lists.refuse(pc.equal(words, ""), entries, numbers, path, "no word", hint)
        yield words


@stage(
    "url_filter", version=1, config=Config, reads=["url"], writes=WRITES, load=load, files=list_files,
    rare=True,
)  # fmt: skip
def url_filter(batch: pa.RecordBatch, config: Config, lists: Lists) -> pa.RecordBatch:
    """Add the verdict and the entry that matched."""
    from curate.kernels.urls import SOFT_WORDS, judge

    lower = text_buffers(pc.utf8_lower(batch["url"]))
    found, entry, num_soft = judge(text_buffers(batch["url"]), lower, *lists[:5], config.min_soft_words)
    is_soft = found == SOFT_WORDS
    failed = np.flatnonzero(found)
    match = np.full(len(found), None, object)
    match[failed] = [_entry(lists, found[row], entry[row]) for row in failed]
    columns = {
        "url_filter_pass": pa.array(found == 0),
        "url_filter_reason": pa.array(REASONS, pa.string()).take(pa.array(found)),
        "url_filter_value": pa.array(num_soft.astype(np.float64), mask=~is_soft),
        "url_filter_threshold": pa.array(np.full(len(found), float(config.min_soft_words)), mask=~is_soft),
        "url_filter_match": pa.array(match, pa.string()),
    }
    for name, array in columns.items():
        batch = batch.append_column(name, array)
    return batch


def _entry(lists: Lists, verdict: int, entry: int) -> str:
    if LISTS[verdict - 1] == "substrings":
        return lists.pieces[entry]
    strings: Any = lists[verdict - 1]
    return bytes(strings.data[strings.offsets[entry] : strings.offsets[entry + 1]]).decode()
