"""Books in EPUB, made from zipfile: one row each, its chapters one page."""

import io
import zipfile

import pyarrow as pa
import pytest

CONTAINER = (
    '<?xml version="1.0"?><container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
    '<rootfile full-path="OEBPS/book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
)
NOTHING: dict[str, str | bytes | None] = {}
FIRST, SECOND = "The first chapter tells how it began, and why.", "The second tells how it ended: naïvely."


def chapter(body, head=""):
    return f'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><head><title/>{head}</head><body class="x">{body}</body></html>'


def book(meta="", files=NOTHING):
    """Two chapters, whose names say the wrong order, a picture and a navigation; other files by their names."""
    items = {"b": "two%20parts/b.xhtml", "a": "a.xhtml", "nav": "nav.xhtml", "pic": "p.png"}
    kind = {"pic": "image/png"}
    manifest = "".join(
        f'<item id="{i}" href="{href}" media-type="{kind.get(i, "application/xhtml+xml")}"/>'
        for i, href in items.items()
    )
    spine = "".join(f'<itemref idref="{i}"/>' for i in ("b", "pic", "a"))
    members = {
        "mimetype": "application/epub+zip", "META-INF/container.xml": CONTAINER,
        "OEBPS/book.opf": f'<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"<metadata><dc:title>Book</dc:title>{meta}</metadata><manifest>{manifest}</manifest><spine>{spine}</spine></package>",
        "OEBPS/two parts/b.xhtml": chapter(f"<script src='x'/><p>{FIRST}</p>"),
        "OEBPS/a.xhtml": chapter(f"<p>{SECOND}</p>").encode("utf-16"),
        "OEBPS/nav.xhtml": chapter("<p>Contents</p>"), "OEBPS/p.png": b"\x89PNG",
    } | files  # fmt: skip
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            if content is not None:
                archive.writestr(name, content)
    return data.getvalue()


def test_chapters_stand_in_the_order_of_the_spine(tmp_path, read_all):
    (tmp_path / "book.epub").write_bytes(book())
    (tmp_path / "note.txt").write_text("a note")
    found = read_all(tmp_path)
    assert found.schema.field("html").type == pa.large_binary()
    assert [(row["source"], row["text"]) for row in found.rows] == [
        ("book.epub", None),
        ("note.txt", "a note"),
    ]
    page = found.rows[0]["html"].decode()
    assert page.index(FIRST) < page.index(SECOND)
    assert "Contents" not in page
    assert "<script src='x'></script>" in page


def test_extract_makes_text_of_it(tmp_path, read_all):
    from curate.stages.extract import Config, extract

    (tmp_path / "book.epub").write_bytes(book())
    text = extract(read_all(tmp_path).batches[0], Config())["text"][0].as_py()
    assert [line for line in text.split("\n") if line] == [FIRST, SECOND]


@pytest.mark.parametrize(
    ("data", "reason", "error"),
    [
        (b"no zip", "bad_epub", "not a zip file"),
        (book(files={"META-INF/container.xml": "<container/>"}), "bad_epub", ""),
        (book(files={"OEBPS/book.opf": "<package"}), "bad_epub", "ParseError"),
        (book(files={"OEBPS/a.xhtml": None}), "bad_epub", "a.xhtml"),
        (book(files={"OEBPS/a.xhtml": b"<body>\xff\x00"}), "bad_utf8", "can't decode"),
        (book(files={"OEBPS/a.xhtml": b"x" * 100_000}), "too_long", "longer than 50,000 bytes"),
        (book(files={"META-INF/encryption.xml": '<e xmlns:c="x"><c:CipherReference URI="OEBPS/a.xhtml"/></e>'}), "encrypted", "a.xhtml"),
    ],
)  # fmt: skip
def test_what_is_no_book_is_quarantined(tmp_path, read_all, data, reason, error):
    (tmp_path / "book.epub").write_bytes(data)
    (tmp_path / "note.txt").write_text("a note")
    found = read_all(tmp_path, reading={"max_document_bytes": 50_000})
    assert [(row["source"], row["reason"]) for row in found.log.quarantined] == [("book.epub", reason)]
    assert error in found.log.quarantined[0]["error"]
    assert found.column("source") == ["note.txt"]


@pytest.mark.parametrize(
    "data",
    [
        book(meta='<meta property="tdm:reservation">1</meta>'),
        book(files={"OEBPS/a.xhtml": chapter("<p>x</p>", '<meta name="tdm-reservation" content="1"/>')}),
    ],
)
def test_a_book_whose_owner_said_no_is_skipped(tmp_path, read_all, data):
    (tmp_path / "book.epub").write_bytes(data)
    (tmp_path / "note.txt").write_text("a note")
    found = read_all(tmp_path, tdm=True)
    assert (found.log.skipped, found.column("source")) == ({"opt_out": 1}, ["note.txt"])
    assert read_all(tmp_path).column("source") == ["book.epub", "note.txt"]
