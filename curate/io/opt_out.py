r"""Pages whose owners said no: by a list (domains, URLs) or by the page itself. They are counted and become no row.

Lists    one entry per line, `#` begins a comment. `example.com` is a domain with all below it; `example.com/blog` is that
         URL and all below it (`/blog/a`, `/blog?a`, not `/blogger`); a trailing `*` is any continuation. Scheme, port,
         `www.` and the case of the host do not matter, nor how letters are percent-encoded. URLs are read as browsers
         read them (`\` is `/`, tabs are not there); with a list, a page whose URL names no host is skipped too. A page
         without URL is in no list.
Pages    with `tdm: true`: HTTP header or meta tag `tdm-reservation` of 1 (W3C TDM Reservation Protocol); `noai` or
         `noimageai` in X-Robots-Tag or in a meta tag `robots`, whichever robot it names. EPUB: `tdm:reservation` of 1 in
         its package, or a chapter that says so.
Not      robots.txt, /.well-known/tdmrep.json, tdm-policy: they are not in the record
Rows     skipped as opt_out, before anything else is asked of them. Where it cannot be told whether a broken record is
         of such a page, it is quarantined without its bytes.
Fails    ConfigError when a list cannot be read or holds a line that is neither
"""

import os
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote, unquote_to_bytes

from curate.errors import ConfigError
from curate.io.files import sha256_of
from curate.io.slices import Input

REASON = "opt_out"
_NOT_THERE = dict.fromkeys(map(ord, "\t\n\r"))
_AT_THE_ENDS = "".join(map(chr, range(33)))
_BEFORE_HOST = re.compile(r"(?:https?:/*|(?:[a-z][a-z0-9+.-]*:)?//+)?", re.I)
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\s/?#:@\[\]]+)(?::\d*)?", re.I)
_META = re.compile(rb"<meta\b[^>]*>", re.I)  # linear where a > follows every <meta
_ATTRIBUTE = re.compile(rb"""(?<![a-z-])([a-z-]+)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""", re.I)
_PACKAGE = re.compile(rb"""property\s*=\s*["']tdm:reservation["'][^>]*>\s*1\s*<""")
_NO_AI = {"noai", "noimageai"}


class OptOut:
    """What the lists and, with `tdm`, the pages themselves reserve."""

    def __init__(self, lines: Iterable[tuple[str, str]], tdm: bool) -> None:
        self.tdm = tdm
        self._domains: set[str] = set()
        self._paths: dict[str, list[tuple[bytes, bool]]] = {}  # host -> (path, whether it may go on anyhow)
        for line, where in lines:
            self._add(line, where)
        self.lists = bool(self._domains or self._paths)

    def _add(self, line: str, where: str) -> None:
        host, rest = _split(line.removeprefix("*."))
        if "." not in host and not host.startswith("["):
            raise ConfigError(
                f"`{line}` is neither a domain nor a URL",
                hint="one of them per line: example.com",
                where=where,
            )
        if rest in (b"", b"/", b"/*", b"*"):
            self._domains.add(host)
        else:
            self._paths.setdefault(host, []).append((rest.removesuffix(b"*"), rest.endswith((b"*", b"/"))))

    def has_url(self, url: str | None) -> bool:
        """Whether a list names the page's address."""
        if not self.lists or not url or not url.strip(_AT_THE_ENDS):
            return False
        host, rest = _split(url)
        if not host:
            return True
        if any(name in self._domains for name in _names(host)):
            return True
        return any(_is_below(rest, *path) for path in self._paths.get(host, ()))

    def in_headers(self, headers: Iterable[tuple[str, str]]) -> bool:
        """Whether the HTTP headers reserve the page."""
        return self.tdm and any(_reserves(name.encode(), value.encode()) for name, value in headers)

    def in_page(self, html: bytes | None) -> bool:
        """Whether a meta tag of the page reserves it."""
        if not self.tdm or not html:
            return False
        lower = html.lower()  # finds the few pages to look into at 1 GB/s
        if not any(word in lower for word in (b"tdm-reservation", b"noai", b"noimageai")):
            return False
        return any(_tag_reserves(tag[0]) for tag in _META.finditer(html, 0, html.rfind(b">") + 1))

    def in_package(self, package: bytes) -> bool:
        """Whether the package document of an EPUB reserves it."""
        return self.tdm and bool(_PACKAGE.search(package))

    def has_row(self, url: str | None, html: bytes | None) -> bool:
        """Whether a list or the page itself says it."""
        return self.has_url(url) or self.in_page(html)


def _split(url: str) -> tuple[str, bytes]:
    # ("example.com", b"/path?query") of a URL, or of a host with or without a path; "" where the host cannot be told
    url = url.strip(_AT_THE_ENDS).translate(_NOT_THERE).partition("#")[0]
    path, mark, asked = url.partition("?")
    path = path.replace("\\", "/")
    start = _BEFORE_HOST.match(path)
    whole, slash, below = path[start.end() if start else 0 :].partition("/")
    host = _HOST.fullmatch(whole.rpartition("@")[2])  # before it stand a name and a password
    if not host:
        return "", b""
    name = unquote(host[1]).lower().rstrip(".").removeprefix("www.")
    if not name.isascii():
        try:
            name = name.encode("idna").decode()
        except UnicodeError:
            return "", b""
    return name, unquote_to_bytes(slash + below + mark + asked)


def _names(host: str) -> Iterable[str]:
    # the host and the domains it is in: a.b.com, b.com, com
    while host:
        yield host
        host = host.partition(".")[2] if not host.startswith("[") else ""


def _is_below(rest: bytes, path: bytes, anyhow: bool) -> bool:
    return rest.startswith(path) and (anyhow or rest[len(path) : len(path) + 1] in (b"", b"/", b"?"))


def _reserves(name: bytes, value: bytes) -> bool:
    name = name.strip().lower()
    if name == b"tdm-reservation":
        return value.strip() == b"1"
    if name not in (b"x-robots-tag", b"robots"):
        return False
    words = re.split(r"[\s,:;]+", value.decode("ascii", "replace").lower())
    return not _NO_AI.isdisjoint(words)


def _tag_reserves(tag: bytes) -> bool:
    found = {m[1].lower(): m[2] or m[3] or m[4] or b"" for m in _ATTRIBUTE.finditer(tag)}
    name = found.get(b"name", b"").strip().lower()
    if name.endswith(b"bot"):  # <meta name="ccbot" content="noai">
        name = b"robots"
    return _reserves(name, found.get(b"content", b""))


def opt_out(config: Input) -> OptOut | None:
    """What the input says of opting out; None where it says nothing."""
    if not config.opt_out_files and not config.tdm:
        return None
    return _read(tuple((path, *_version(path)) for path in config.opt_out_files), config.tdm)


def sha256_of_list(path: str) -> str:
    """What stands for a list in the name of a run."""
    try:
        return sha256_of(path)
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from None


def _version(path: str) -> tuple[int, int]:
    try:
        about = os.stat(path)
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from None
    return about.st_mtime_ns, about.st_size


def _unreadable(path: str, why: str) -> ConfigError:
    return ConfigError(
        f"cannot read the opt-out list `{path}`: {why}",
        hint="nothing is read without it; correct `opt_out`, or bring the file back",
        where="input",
    )


@lru_cache(4)
def _read(files: tuple[tuple[str, int, int], ...], tdm: bool) -> OptOut:
    lines: list[tuple[str, str]] = []
    for path, _, _ in files:
        try:
            text = Path(path).read_text("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise _unreadable(path, str(error)) from None
        for number, line in enumerate(text.split("\n"), 1):
            if entry := re.sub(r"(?:^|\s)#.*", "", line).strip():
                lines.append((entry, f"{path}:{number}"))
    return OptOut(lines, tdm)
