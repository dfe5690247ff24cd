"""Files that are one document each: pages of HTML, EPUB, PDF, plain text and Markdown, source code. One file is one row.

HTML goes to `html` (EPUB as one page, see epub) and PDF to `pdf` as bytes (what they say is the extractor's business), anything else to `text`, UTF-8
(a byte order mark is cut off): bad_utf8 otherwise. `source` is the file's name in the input.
"""

from collections.abc import Iterator

import pyarrow as pa

from curate.io.epub import BadBook, Book
from curate.io.opt_out import REASON, OptOut
from curate.io.slices import FileScan, InputFile, Report, Row, Slice
from curate.io.sources import DigestingFile, join, open_source
from curate.schema import CORE, RAW_CAP_BYTES, row_id

_CODE = tuple(
    """
    py pyi js mjs cjs jsx ts tsx vue c h cc cpp cxx hh hpp cu cuh cs java kt kts scala groovy gradle go rs zig nim
    rb php pl pm lua r jl m mm swift dart sh bash zsh fish ps1 sql hs ml mli fs fsx ex exs erl hrl clj cljs lisp el
    scm vb pas f f90 f95 asm s v vhd vhdl sv tex toml yaml yml cmake mk proto graphql css scss less ipynb
    """.split()
)
FORMATS = {
    "html": ("html", "htm", "xhtml"),
    "epub": ("epub",),
    "pdf": ("pdf",),
    "text": ("txt", "text", "md", "markdown", "rst"),
    "code": _CODE,
}
RAW = ("html", "pdf")  # formats whose bytes a stage reads; the column is called like the format


def columns(format: str) -> dict[str, pa.DataType]:
    """Columns of a row of this format."""
    found = {name: CORE[name] for name in ("id", "text", "source")}
    raw = "html" if format == "epub" else format
    return found | ({raw: pa.large_binary()} if raw in RAW else {})


def scan(file: InputFile) -> FileScan:
    """One slice, one row."""
    with DigestingFile(open_source(file.path)) as source:
        return FileScan(
            source.hexdigest(), [Slice(file.name, file.format, 0, file.size, 0, max(file.size, 1))], 1
        )


def read(
    root: str, part: Slice, report: Report, *, max_document_bytes: int, opt_out: OptOut | None = None
) -> Iterator[tuple[int, Row]]:
    """The row of a file; none when the page says that it is not to be used."""
    with open_source(join(root, part.path)) as source:
        data = source.read(max_document_bytes + 1)
    book, bad = None, None
    if part.format == "epub" and len(data) <= max_document_bytes:
        try:
            book = Book(data, max_document_bytes)
        except BadBook as failure:
            bad = failure
    if opt_out and _is_reserved(part, data, book, opt_out):
        report.skip(REASON)
        return
    row: Row = {"id": row_id(part.path, 0), "source": part.path}
    if len(data) > max_document_bytes:
        reason, error = "too_long", f"the file is longer than {max_document_bytes:,} bytes"
    elif bad:
        reason, error = bad.reason, bad.error
    elif book:
        html = book.html()
        yield len(html), row | {"html": html}
        return
    elif part.format in RAW:
        yield len(data), row | {part.format: data}
        return
    else:
        try:
            yield len(data), row | {"text": data.decode("utf-8-sig")}
            return
        except UnicodeDecodeError as failure:
            reason, error = "bad_utf8", str(failure)
    report.quarantine(
        id=row["id"], source=part.path, offset=0, reason=reason, error=error, raw=data[:RAW_CAP_BYTES]
    )


def _is_reserved(part: Slice, data: bytes, book: Book | None, opt_out: OptOut) -> bool:
    pages = [chapter.encode() for chapter in book.chapters] if book else [data] * (part.format == "html")
    return any(map(opt_out.in_page, pages)) or (book is not None and opt_out.in_package(book.package))
