"""Main text, title, date and canonical URL of an HTML page.

Paper   none; resiliparse's main-content rules (Bevendorff et al. 2018, Elastic ChatNoir), or trafilatura's
Reads   html   large_binary (n,), null for a row that has its text already
        text   large_string (n,), null for an HTML row
Writes  text                   the page's text, one line per block; '' where none was found; never null for an HTML row
        extract_title          string: the `<h1>` that og:title or `<title>` repeats (the longest), else the only `<h1>`,
                               else og:title, else `<title>`
        extract_date           string, YYYY-MM-DD: when the page says it was published; null where it does not say
        extract_canonical_url  string: the absolute `<link rel=canonical>`; null where there is none
Rows    all kept, in order; column `html` is removed
Differs bytes that are valid UTF-8 are read as UTF-8 whatever the page declares (the declarations lie more often);
        a date written with the month as a number in the middle or first (01/07/16) is ambiguous and left out
Fails   ConfigError when an option asks trafilatura for what it cannot do; an error on one page is the engine's to
        quarantine, as is a page past `deadline_seconds` (resiliparse never lets go of the GIL while it hangs)
"""

import re
from datetime import date
from typing import Any, Literal

import msgspec
import pyarrow as pa

from curate.child import mark_row
from curate.errors import ConfigError
from curate.stage import stage


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Defaults score best against pages with gold text."""

    engine: Literal["resiliparse", "trafilatura"] = "resiliparse"  # library that finds the text
    main_content: bool = True  # leave out navigation, footers, side bars; false keeps all visible text
    links: bool = False  # write a link's target after its words
    alt_texts: bool = False  # write the description in place of an image
    comments: bool = False  # keep the readers' comments
    deadline_seconds: float = 10.0  # CPU seconds one page may take before it is quarantined
    max_memory_mb: int = 1024  # memory the extracting process may take before the page is quarantined

    def __post_init__(self) -> None:
        if self.engine == "trafilatura" and (self.alt_texts or not self.main_content):
            raise ConfigError(
                "`alt_texts: true` and `main_content: false` work with resiliparse only",
                hint="leave out `engine: trafilatura`, or the option",
            )
        if self.deadline_seconds <= 0 or self.max_memory_mb <= 0:
            raise ConfigError("`deadline_seconds` and `max_memory_mb` must be above 0")


WRITES = {
    "text": pa.large_string(),
    "extract_title": pa.string(),
    "extract_date": pa.string(),
    "extract_canonical_url": pa.string(),
}


@stage(
    "extract",
    version=1,
    config=Config,
    reads=["html", "text"],
    writes=WRITES,
    removes=["html"],
    isolate=True,
    ends_pass=True,
    libraries=["resiliparse", "trafilatura"],
)
def extract(batch: pa.RecordBatch, config: Config) -> pa.RecordBatch:
    """Replace `html` by what the page says."""
    rows: list[tuple[str | None, ...]] = []
    for row, (html, text) in enumerate(zip(batch["html"], batch["text"], strict=True)):
        mark_row(row)
        page = html.as_py()
        rows.append((text.as_py(), None, None, None) if page is None else _read_page(page, config))
    columns = {
        name: pa.array([row[i] for row in rows], kind) for i, (name, kind) in enumerate(WRITES.items())
    }
    out = batch.set_column(batch.schema.get_field_index("text"), "text", columns.pop("text"))
    for name, column in columns.items():
        out = out.append_column(name, column)
    return out.drop_columns(["html"])


def _read_page(page: bytes, config: Config) -> tuple[str, str | None, str | None, str | None]:
    from resiliparse.parse.html import HTMLTree

    html = decode(page)
    tree: Any = HTMLTree.parse(html)
    document = tree.document
    text = _text_by_trafilatura(html, config) if config.engine == "trafilatura" else _text(tree, config)
    head = tree.head or document  # a selector walks all it is given: 0.03 ms for the head, 0.2 ms for a page
    headings: list[Any] = []
    times: list[Any] = []
    # .values(): a plain loop over the result asks the whole query again at every step
    for element in document.query_selector_all("h1, time[datetime]").values():
        (headings if element.tag == "h1" else times).append(element)
    title = _title(head, _one_line(tree.title), [_one_line(heading.text) for heading in headings])
    return text.replace("\0", ""), title, _date(page, head, times), _canonical_url(head)


def decode(page: bytes) -> str:
    """Text of a page in any encoding, broken bytes replaced; never raises."""
    from resiliparse.parse.encoding import detect_encoding

    if b"\0" not in page and b"\x1b" not in page:  # else UTF-16 or ISO-2022, whose bytes may be valid UTF-8
        try:
            return page.decode("utf-8-sig")
        except UnicodeDecodeError:
            pass
    encoding = detect_encoding(page, from_html_meta=True) or "utf-8"
    return page.decode(encoding, "replace").removeprefix("\ufeff")


def _text(tree: Any, config: Config) -> str:
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


def _text_by_trafilatura(html: str, config: Config) -> str:
    import trafilatura

    text: str | None = trafilatura.extract(html, include_comments=config.comments, include_links=config.links)
    return text or ""


def _title(head: Any, title: str, headings: list[str]) -> str | None:
    og_title = _one_line(_attribute(head, 'meta[property="og:title"]', "content"))
    repeated = [h for h in headings if h.lower() in og_title.lower() or h.lower() in title.lower()]
    only = headings if len(headings) == 1 else []
    return max(repeated, key=len, default="") or "".join(only) or og_title or title or None


def _one_line(text: str | None) -> str:
    return " ".join((text or "").replace("\0", "").split())


def _attribute(document: Any, selector: str, name: str) -> str | None:
    element = document.query_selector(selector)
    return None if element is None else element.getattr(name)


def _canonical_url(head: Any) -> str | None:
    url = (_attribute(head, "link[rel~=canonical i][href]", "href") or "").replace("\0", "").strip()
    return url if url.startswith(("http://", "https://")) else None


_META_DATES = ", ".join(
    [f'meta[property="{name}" i]' for name in ("article:published_time", "og:published_time")]
    + [
        f'meta[name="{name}" i]'
        for name in (
            "article:published_time", "citation_publication_date", "date", "dc.date", "dc.date.issued", "dcterms.created",
            "dcterms.date", "parsely-pub-date", "pubdate", "publish-date", "publish_date", "sailthru.date",
        )
    ]
    + ["meta[itemprop=datePublished]"]
)  # fmt: skip
_JSON_DATE = re.compile(rb'"datePublished"\s*:\s*"([^"]{4,40})"')
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_YEAR_FIRST = re.compile(r"\s*(\d{4})([-/.]?)(\d{2})\2(\d{2})(?!\d)")
_MONTH_NAME = r"(?P<month>jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_IN_WORDS = [
    re.compile(rf"\b{_MONTH_NAME}\s+(?P<day>\d{{1,2}})(?:st|nd|rd|th)?,?\s+(?P<year>\d{{4}})\b", re.I),
    re.compile(rf"\b(?P<day>\d{{1,2}})(?:st|nd|rd|th)?\s+{_MONTH_NAME},?\s+(?P<year>\d{{4}})\b", re.I),
]


def _date(page: bytes, head: Any, times: list[Any]) -> str | None:
    """First readable date of the meta tags, else of the page's JSON, else of its time elements."""
    written = [element.getattr("content") or "" for element in head.query_selector_all(_META_DATES).values()]
    if not any(map(read_date, written)) and (start := page.find(b'"datePublished"')) >= 0:
        # in the bytes, since a pattern takes ten times as long to walk a str
        written += [match.decode("ascii", "replace") for match in _JSON_DATE.findall(page, start)]
    written += [time.getattr("datetime") or "" for time in times]
    return next(filter(None, map(read_date, written)), None)


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
