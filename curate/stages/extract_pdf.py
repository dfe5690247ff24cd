"""Text of a PDF that has a text layer.

Paper   none; PDFium's reading order, through pypdfium2 (extra `pdf`)
Reads   pdf    large_binary (n,), null for a row that is no PDF
        text   large_string (n,), null for a PDF row
Writes  text                     lines as they are printed, a blank line between pages; '' where there is no text layer
        extract_pdf_num_pages    int32; null for a row that is no PDF
        extract_pdf_needs_ocr    bool: more than half of the pages hold fewer than 8 letters and digits; null as above
Rows    all kept, in order; column `pdf` is removed
Differs a word parted at a line's end goes up whole; its hyphen is left out where both halves are small letters and the
        document writes no such word with a hyphen elsewhere; text outside the page's frame is left out; nothing else is
        mended (columns, running titles, footnotes)
Fails   ConfigError without pypdfium2; a PDF that asks for a password, is broken beyond PDFium's repair or has no page is the
        engine's to quarantine, as is one past `deadline_seconds`
"""

import importlib.util
import re
from typing import Any

import msgspec
import pyarrow as pa

from curate.child import mark_row
from curate.errors import ConfigError
from curate.stage import stage


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of one PDF."""

    deadline_seconds: float = 60.0  # CPU seconds one PDF may take before it is quarantined
    max_memory_mb: int = 2048  # memory the extracting process may take before the PDF is quarantined

    def __post_init__(self) -> None:
        if self.deadline_seconds <= 0 or self.max_memory_mb <= 0:
            raise ConfigError("`deadline_seconds` and `max_memory_mb` must be above 0")
        if importlib.util.find_spec("pypdfium2") is None:
            raise ConfigError("`extract_pdf` needs pypdfium2", hint="pip install 'curate[pdf]'")


class UnreadablePdf(Exception):
    """Why a PDF gives no text; the engine quarantines its row."""


MIN_LETTERS = 8  # a page with fewer has no text layer; some scanners stamp a number on it
_LINE_END = re.compile(r"\r\n?")
# PDFium writes the hyphen of a parted word as U+0002 or U+FFFE and leaves out the line's end; the rest of the word and
# what clings to it goes up to the first half
_PARTED = re.compile(r"([^\W\d_]+)(?:[\ufffe\x02]\n?|[-\u00ad\u2010] ?\n)([^\W\d_]+)(\S*)[ \n]?")
_HYPHENATED = re.compile(r"[^\W\d_]+-[^\W\d_]+")
_HYPHENS = re.compile(r"[\ufffe\x02]")


@stage(
    "extract_pdf",
    version=1,
    config=Config,
    reads=["pdf", "text"],
    writes={
        "text": pa.large_string(),
        "extract_pdf_num_pages": pa.int32(),
        "extract_pdf_needs_ocr": pa.bool_(),
    },
    removes=["pdf"],
    isolate=True,
    ends_pass=True,
    libraries=["pypdfium2"],
    rare=True,  # plain text needs none
)
def extract_pdf(batch: pa.RecordBatch, config: Config) -> pa.RecordBatch:
    """Replace `pdf` by what its text layer says."""
    texts: list[str | None] = batch["text"].to_pylist()
    num_pages: list[int | None] = [None] * batch.num_rows
    needs_ocr: list[bool | None] = [None] * batch.num_rows
    for row, pdf in enumerate(batch["pdf"]):
        mark_row(row)
        if pdf.is_valid:
            pages = read_pages(pdf.as_py())
            bare = sum(sum(map(str.isalnum, page)) < MIN_LETTERS for page in pages)
            texts[row], num_pages[row], needs_ocr[row] = join_pages(pages), len(pages), 2 * bare > len(pages)
    out = batch.set_column(
        batch.schema.get_field_index("text"), "text", pa.array(texts, pa.large_string())
    ).drop_columns(["pdf"])
    out = out.append_column("extract_pdf_num_pages", pa.array(num_pages, pa.int32()))
    return out.append_column("extract_pdf_needs_ocr", pa.array(needs_ocr, pa.bool_()))


def read_pages(pdf: bytes) -> list[str]:
    """Text of each page, '' where it has none. UnreadablePdf where there is no way in."""
    import pypdfium2

    try:
        document: Any = pypdfium2.PdfDocument(pdf)
    except pypdfium2.PdfiumError as error:
        raise UnreadablePdf(f"PDFium cannot open it: {error}") from None
    if not len(document):
        raise UnreadablePdf("it has no pages")
    pages = []
    for number in range(len(document)):
        try:
            text: str = document[number].get_textpage().get_text_bounded()
        except pypdfium2.PdfiumError as error:
            raise UnreadablePdf(f"page {number + 1} of {len(document)}: {error}") from None
        pages.append(_LINE_END.sub("\n", text.replace("\0", "")).strip())
    return pages


def join_pages(pages: list[str]) -> str:
    """One text of all pages, words that a line's end parts put together."""
    text = "\n\n".join(filter(None, pages))

    hyphenated = set(_HYPHENATED.findall(text.lower()))

    def mended(match: re.Match[str]) -> str:
        first, second, rest = match.groups()
        small = first.islower() and second.islower() and min(len(first), len(second)) > 1
        hyphen = "" if small and f"{first}-{second}" not in hyphenated else "-"
        return f"{first}{hyphen}{second}{rest}\n"

    return _HYPHENS.sub("-", _PARTED.sub(mended, text))
