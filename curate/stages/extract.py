"""Main text, title, date and canonical URL of an HTML page.

Paper   none; resiliparse's main-content rules (Bevendorff et al. 2018, Elastic ChatNoir), trafilatura's, or `blocks`:
        trees that learned from pages with gold text which blocks to keep (best text; .6 to .8 of the speed)
Reads   html   large_binary (n,), null for a row that has its text already
        text   large_string (n,), null for an HTML row
Writes  text                   the page's text, one line per block; '' where none was found; never null for an HTML row.
                               `format: markdown`: headings, lists, quotes, pipe tables, fenced code, `code`, **bold**,
                               *italic*, links with `links: true`; TeX and MathML as `$...$`, `$$...$$`; nothing escaped
        extract_title          string: the `<h1>` that og:title or `<title>` repeats (the longest), else the only `<h1>`,
                               else og:title, else `<title>`
        extract_date           string, YYYY-MM-DD: when the page says it was published; null where it does not say
        extract_canonical_url  string: the absolute `<link rel=canonical>`; null where there is none
Rows    all kept, in order; column `html` is removed
Differs bytes that are valid UTF-8 are read as UTF-8 whatever the page declares (the declarations lie more often);
        a date written with the month as a number in the middle or first (01/07/16) is ambiguous and left out
        blocks: a block of 60 characters or more is written once; what comes after 50,000 blocks is left out
        markdown: a table's first row is its header, a line break in a cell `<br>`; a table with one row or one column,
        or around headings, code or tables, is layout; a formula is its TeX annotation, else made from MathML; icons in
        the private planes 15 and 16 are left out
Fails   ConfigError when an option asks an engine for what it cannot do; an error on one page is the engine's to
        quarantine, as is a page past `deadline_seconds` (resiliparse never lets go of the GIL while it hangs)
"""

import codecs
import contextlib
import re
from collections.abc import Iterator
from datetime import date
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import pyarrow as pa

from curate.child import mark_row
from curate.errors import ConfigError
from curate.stage import stage
from curate.stages._blocks import main_text
from curate.stages._markdown import markdown


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Defaults are the fastest; `engine: blocks` scores best against pages with gold text."""

    engine: Literal["resiliparse", "trafilatura", "blocks"] = "resiliparse"  # who finds the text
    format: Literal["text", "markdown"] = "text"  # markdown keeps headings, lists, tables, code and formulas
    main_content: bool = True  # leave out navigation, footers, side bars; false keeps all visible text
    links: bool = False  # write a link's target after its words
    alt_texts: bool = False  # write the description in place of an image
    comments: bool = False  # keep the readers' comments
    precision: bool = False  # trafilatura only: less text, more surely the article's, as FineWeb has it
    deadline_seconds: float = 10.0  # CPU seconds one page may take before it is quarantined
    max_memory_mb: int = 1024  # memory the extracting process may take before the page is quarantined

    def __post_init__(self) -> None:
        if self.engine == "blocks" and (
            self.links or self.alt_texts or self.comments or not self.main_content
        ):
            raise ConfigError(
                "`links`, `alt_texts`, `comments` and `main_content: false` do not work with blocks",
                hint="leave out `engine: blocks`, or the option",
            )
        if self.engine == "trafilatura" and (self.alt_texts or not self.main_content):
            raise ConfigError(
                "`alt_texts: true` and `main_content: false` work with resiliparse only",
                hint="leave out `engine: trafilatura`, or the option",
            )
        if self.format == "markdown" and self.engine == "trafilatura":
            raise ConfigError(
                "`format: markdown` does not work with trafilatura",
                hint="leave out `engine`, or write blocks",
            )
        if self.precision and self.engine != "trafilatura":
            raise ConfigError(
                "`precision: true` works with trafilatura only", hint="add `engine: trafilatura`"
            )
        if self.deadline_seconds <= 0 or self.max_memory_mb <= 0:
            raise ConfigError("`deadline_seconds` and `max_memory_mb` must be above 0")


WRITES = {
    "text": pa.large_string(),
    "extract_title": pa.string(),
    "extract_date": pa.string(),
    "extract_canonical_url": pa.string(),
}


def load_engine(config: Config, store: Path) -> None:
    """Compile the kernels of `blocks` before the deadline of a first page runs."""
    if config.engine == "blocks":
        main_text("<p>a page")


@stage(
    "extract",
    version=2,
    config=Config,
    reads=["html", "text"],
    writes=WRITES,
    removes=["html"],
    load=load_engine,
    isolate=True,
    ends_pass=True,
    libraries=["resiliparse", "trafilatura"],
    rare=True,  # plain text needs none
)
def extract(batch: pa.RecordBatch, config: Config, loaded: None = None) -> pa.RecordBatch:
    """Replace `html` by what the page says."""
    rows: list[tuple[str | None, ...]] = []
    texts = batch["text"].to_pylist()
    for row, html in enumerate(batch["html"]):
        mark_row(row)
        if html.is_valid:
            rows.append(_read_page(html.as_buffer(), config))  # a view: the page is not copied
        else:
            rows.append((texts[row], None, None, None))
    columns = {
        name: pa.array([row[i] for row in rows], kind) for i, (name, kind) in enumerate(WRITES.items())
    }
    out = batch.set_column(batch.schema.get_field_index("text"), "text", columns.pop("text"))
    for name, column in columns.items():
        out = out.append_column(name, column)
    return out.drop_columns(["html"])


def _read_page(page: pa.Buffer, config: Config) -> tuple[str, str | None, str | None, str | None]:
    from resiliparse.parse.html import HTMLTree

    html = decode(page)
    tree: Any = HTMLTree.parse(html)
    head = _head(tree)
    headings, times = [], []
    # one walk for both. .values(): a plain loop over the result asks the whole query again at every step
    for element in tree.document.query_selector_all("h1, time[datetime]").values():
        if element.tag == "h1":
            headings.append(_one_line(element.text))
        else:
            times.append(element.getattr("datetime") or "")
    title, published = (
        _title(head.og_title, _one_line(tree.title), headings),
        _date(html, head.dates, times),
    )
    # last, since Markdown changes the tree
    text = _markdown(tree, html, config) if config.format == "markdown" else _text(tree, html, config)
    return text.replace("\0", ""), title, published, head.canonical_url


def decode(page: bytes | pa.Buffer) -> str:
    """Text of a page in any encoding, broken bytes replaced; never raises."""
    from resiliparse.parse.encoding import detect_encoding

    page = bytes(page)
    if b"\0" not in page and b"\x1b" not in page:  # else UTF-16 or ISO-2022, whose bytes may be valid UTF-8
        with contextlib.suppress(UnicodeDecodeError):
            return page.removeprefix(codecs.BOM_UTF8).decode()
    encoding = detect_encoding(page, from_html_meta=True) or "utf-8"
    return page.decode(encoding, "replace").removeprefix("\ufeff")


def _markdown(tree: Any, html: str, config: Config) -> str:
    plain = msgspec.structs.replace(config, links=False, alt_texts=False)
    return markdown(
        tree, html, lambda page: _text(page, page, plain), links=config.links, alt_texts=config.alt_texts
    )


def _text(tree: Any, html: str, config: Config) -> str:
    """Plain text of a page; resiliparse takes the tree, or the page itself where there is none."""
    if config.engine != "resiliparse":
        return _text_without_tree(html, config)
    from resiliparse.extract.html2text import extract_plain_text

    text: str = extract_plain_text(
        tree,
        preserve_formatting=True,
        main_content=config.main_content,
        links=config.links,
        alt_texts=config.alt_texts,
        comments=config.comments,
    )
    return text


def _text_without_tree(html: str, config: Config) -> str:
    if config.engine == "blocks":
        return main_text(html)
    import trafilatura

    text: str | None = trafilatura.extract(
        html,
        include_comments=config.comments,
        include_links=config.links,
        favor_precision=config.precision,
    )
    return text or ""


def _title(og_title: str, title: str, headings: list[str]) -> str | None:
    repeated = [h for h in headings if h.lower() in og_title.lower() or h.lower() in title.lower()]
    only = headings if len(headings) == 1 else []
    return max(repeated, key=len, default="") or "".join(only) or og_title or title or None


def _one_line(text: str | None) -> str:
    return " ".join((text or "").replace("\0", "").split())


_DATE_NAMES = frozenset({
    "article:published_time", "citation_publication_date", "date", "dc.date", "dc.date.issued", "dcterms.created",
    "dcterms.date", "parsely-pub-date", "pubdate", "publish-date", "publish_date", "sailthru.date",
})  # fmt: skip
_DATE_PROPERTIES = frozenset({"article:published_time", "og:published_time"})
_HEAD = (  # few and broad, since each selector is tried on each element; Python looks at the names
    'meta[property="og:title"], meta[property$=":published_time" i], meta[name$=":published_time" i], '
    'meta[name*="date" i], meta[name="dcterms.created" i], meta[itemprop=datePublished], link[rel~=canonical i][href]'
)
_JSON_DATE = re.compile(r'"datePublished"\s*:\s*"([^"]{4,40})"')
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_YEAR_FIRST = re.compile(r"\s*(\d{4})([-/.]?)(\d{2})\2(\d{2})(?!\d)")
_MONTH_NAME = r"(?P<month>jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_IN_WORDS = [
    re.compile(rf"\b{_MONTH_NAME}\s+(?P<day>\d{{1,2}})(?:st|nd|rd|th)?,?\s+(?P<year>\d{{4}})\b", re.I),
    re.compile(rf"\b(?P<day>\d{{1,2}})(?:st|nd|rd|th)?\s+{_MONTH_NAME},?\s+(?P<year>\d{{4}})\b", re.I),
]


class _Head(NamedTuple):
    og_title: str
    canonical_url: str | None
    dates: list[str]


def _head(tree: Any) -> _Head:
    """What the head says, in one query: each one costs a small page 1% of its time."""
    titles: list[str] = []
    urls: list[str] = []
    dates: list[str] = []
    for element in (tree.head or tree.document).query_selector_all(_HEAD).values():
        if element.tag == "link":
            urls.append((element.getattr("href") or "").replace("\0", "").strip())
        elif element.getattr("property") == "og:title":
            titles.append(_one_line(element.getattr("content")))
        elif (
            (element.getattr("name") or "").lower() in _DATE_NAMES
            or (element.getattr("property") or "").lower() in _DATE_PROPERTIES
            or element.getattr("itemprop") == "datePublished"
        ):
            dates.append(element.getattr("content") or "")
    absolute = urls[:1] if urls and urls[0].startswith(("http://", "https://")) else [None]
    return _Head(titles[0] if titles else "", absolute[0], dates)


def _date(html: str, meta_dates: list[str], times: list[str]) -> str | None:
    """First readable date of the meta tags, else of the page's JSON, else of its time elements."""
    return next(filter(None, map(read_date, chain(meta_dates, _json_dates(html), times))), None)


def _json_dates(html: str) -> Iterator[str]:
    place = -1  # found by str.find, since a pattern takes ten times as long to walk the page
    while (place := html.find('"datePublished"', place + 1)) >= 0:
        if match := _JSON_DATE.match(html, place):
            yield match[1]


def read_date(written: str) -> str | None:
    """YYYY-MM-DD of a date that can be read one way only, else null."""
    if match := _YEAR_FIRST.match(written):
        year, month, day = int(match[1]), int(match[3]), int(match[4])
    elif match := next(filter(None, (pattern.search(written) for pattern in _IN_WORDS)), None):
        year, month, day = int(match["year"]), _MONTHS.index(match["month"].lower()) + 1, int(match["day"])
    else:
        return None
    try:
        return date(year, month, day).isoformat()
    except ValueError:
        return None
