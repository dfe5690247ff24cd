"""EPUB: the chapters of a book as one page of HTML, in the order of its spine.

What stands between <body> and </body> of each chapter is joined; navigation that is not in the spine, pictures and styles
are left out.

Fails    BadBook: bad_epub (no ZIP, no package, a chapter that is not there), encrypted, bad_utf8, too_long
Paper    W3C EPUB 3.3, sections 4.2 (container) and 5 (package)
"""

import io
import posixpath
import re
import zipfile
import zlib
from urllib.parse import unquote
from xml.etree import ElementTree

_CHAPTERS = ("application/xhtml+xml", "text/html", "text/x-oeb1-document")
_BODY = re.compile(r"<body\b[^>]*>(.*)</body\s*>", re.S | re.I)
_CLOSED = re.compile(
    r"<(script|style|textarea|iframe)\b([^>]*)/>", re.I
)  # which XHTML may write, and HTML never ends
_BROKEN = (zipfile.BadZipFile, zlib.error, LookupError, ValueError, SyntaxError, EOFError, RuntimeError)


class BadBook(Exception):
    """A file that is no book that can be read."""

    def __init__(self, reason: str, error: str) -> None:
        super().__init__(error)
        self.reason, self.error = reason, error


class Book:
    """The package and the chapters of an EPUB of at most `cap` bytes of chapters."""

    def __init__(self, data: bytes, cap: int) -> None:
        self._left, self._cap = cap, cap
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                container = ElementTree.fromstring(self._member(archive, "META-INF/container.xml"))
                package = container.find(".//{*}rootfile").attrib["full-path"]  # type: ignore[union-attr]
                self.package = self._member(archive, package)
                names = self._chapters(ElementTree.fromstring(self.package), posixpath.dirname(package))
                locked = self._encrypted(archive)
                if hidden := next((name for name in names if name in locked), None):
                    raise BadBook("encrypted", f"the chapter {hidden} is encrypted")
                self.chapters = [_text(self._member(archive, name)) for name in names]
        except (AttributeError, *_BROKEN) as error:
            raise BadBook("bad_epub", f"{type(error).__name__}: {error}") from None

    def html(self) -> bytes:
        """One page, UTF-8."""
        bodies = (found[1] if (found := _BODY.search(chapter)) else chapter for chapter in self.chapters)
        joined = "\n".join(_CLOSED.sub(r"<\1\2></\1>", body) for body in bodies)
        return (
            f'<!DOCTYPE html><html><head><meta charset="utf-8"></head><body>{joined}</body></html>'.encode()
        )

    def _member(self, archive: zipfile.ZipFile, name: str) -> bytes:
        with archive.open(name) as file:  # the size that a ZIP states may be wrong
            data = file.read(self._left + 1)
        self._left -= len(data)
        if self._left < 0:
            raise BadBook("too_long", f"the book is longer than {self._cap:,} bytes")
        return data

    def _encrypted(self, archive: zipfile.ZipFile) -> set[str]:
        if "META-INF/encryption.xml" not in archive.namelist():
            return set()
        tree = ElementTree.fromstring(self._member(archive, "META-INF/encryption.xml"))
        return {unquote(one.get("URI", "")) for one in tree.iterfind(".//{*}CipherReference")}

    def _chapters(self, package: ElementTree.Element, folder: str) -> list[str]:
        items = {item.get("id"): item for item in package.iterfind("{*}manifest/{*}item")}
        spine = [items[ref.get("idref")] for ref in package.iterfind("{*}spine/{*}itemref")]
        return [
            posixpath.normpath(posixpath.join(folder, unquote(item.attrib["href"])))
            for item in spine if item.get("media-type") in _CHAPTERS
        ]  # fmt: skip


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadBook("bad_utf8", str(error)) from None
