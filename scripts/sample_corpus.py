"""Build a sample corpus from the documentation that every Python installation holds.

    .venv/bin/python scripts/sample_corpus.py sample/python-docs.warc.gz

The language reference, the standard library, pip, and the packages that curate stands on: long descriptions, licences,
text files, docstrings, one HTML page per module with a menu, a search box and a footer around its documentation, and the
source files of the standard library. Nothing is imported, nothing is fetched; the same installation gives the same bytes.
Duplicates come by themselves: licences, docstrings that two classes share, the packages of which pip carries a copy.
"""

import ast
import gzip
import re
import sys
import sysconfig
import uuid
import warnings
from collections.abc import Iterable, Iterator
from html import escape
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path, PurePosixPath
from typing import NamedTuple

SITE = "https://python-docs.example"
DATE = "2026-01-01T00:00:00Z"  # fixed, so that two builds are equal
MENU = 12  # modules named in a page's menu, before it and behind it
MIN_CHARS = 300  # a document shorter than this says too little
TEXT_SUFFIXES = {".txt", ".rst", ".md"}
LEGAL_FILE = re.compile(r"(licen[cs]e|copying|notice|authors)", re.I)
NOT_DOCUMENTATION = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}

Section = tuple[str, str, str]  # name, heading, docstring
Scope = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


class Document(NamedTuple):
    url: str
    type: str  # text/plain or text/html
    text: str


def documents() -> Iterator[Document]:
    """All of them, in a fixed order."""
    yield from language_reference()
    root = Path(sysconfig.get_path("stdlib"))
    yield from library("python", {path.relative_to(root).as_posix(): path for path in root.rglob("*")})
    for package in packages():
        name = package.metadata["Name"].lower()
        yield Document(f"{SITE}/{name}/description", "text/plain", package.metadata.get("Description", ""))
        yield from library(
            name, {str(path): Path(str(package.locate_file(path))) for path in package.files or []}
        )


def packages() -> list[Distribution]:
    """pip, and what curate requires, directly or not: the same however much else is installed."""
    found: dict[str, Distribution] = {}
    wanted = ["pip", *requirements(distribution("curate"))]
    while wanted:
        name = wanted.pop()
        if name in found or name == "curate":
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:  # required on other systems only
            continue
        wanted += requirements(found[name])
    return [found[name] for name in sorted(found)]


def requirements(package: Distribution) -> list[str]:
    """Names of what a package always needs."""
    lines = [line for line in package.requires or [] if "extra ==" not in line]
    return [re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", line)[0]).lower() for line in lines]  # type: ignore[index]


def language_reference() -> Iterator[Document]:
    """The topics of `help()`, read as a literal."""
    tree = ast.parse(Path(sysconfig.get_path("stdlib"), "pydoc_data/topics.py").read_text("utf-8"))
    assignment = next(node for node in tree.body if isinstance(node, ast.Assign))
    for topic, text in sorted(ast.literal_eval(assignment.value).items()):
        yield Document(f"{SITE}/topics/{topic}", "text/plain", text)


def library(name: str, files: dict[str, Path]) -> Iterator[Document]:
    """Documents of a package, from its files by relative path."""
    wanted = {
        path: file for path, file in files.items() if is_documentation(PurePosixPath(path)) and file.is_file()
    }
    modules = sorted(path for path in wanted if path.endswith(".py"))
    for path in sorted(wanted):
        text, url = wanted[path].read_text("utf-8", "replace"), f"{SITE}/{name}/{path}"
        if path.endswith(".html"):
            yield Document(url, "text/html", text)
            continue
        if name == "python" or not path.endswith(".py"):
            yield Document(url, "text/plain", text)
        if path.endswith(".py") and (tree := parsed(text)):
            # one of a name: properties have two functions, branches two versions
            sections = list({section[0]: section for section in described(tree, dotted(path))}.values())
            yield from (Document(f"{url}#{where}", "text/plain", doc) for where, _, doc in sections)
            at = modules.index(path)
            html = page(name, dotted(path), sections, modules[max(0, at - MENU) : at + MENU])
            yield Document(f"{SITE}/pages/{name}/{dotted(path)}.html", "text/html", html)


def is_documentation(path: PurePosixPath) -> bool:
    """Modules, text files and legal files of a package; no tests."""
    if NOT_DOCUMENTATION & set(path.parts) or path.is_absolute() or ".." in path.parts:
        return False
    return path.suffix in {".py", ".html", *TEXT_SUFFIXES} or (
        not path.suffix and bool(LEGAL_FILE.match(path.name))
    )


def parsed(source: str) -> ast.Module | None:
    """The syntax tree; None for the few templates that are no Python."""
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError):
        return None


def dotted(path: str) -> str:
    return path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")


def page(name: str, title: str, sections: list[Section], neighbours: list[str]) -> str:
    """A page as a documentation site would serve it; "" for a module that has little documentation."""
    if sum(len(doc) for _, _, doc in sections) < MIN_CHARS:
        return ""
    menu = "".join(
        f'<li><a href="{dotted(other)}.html">{escape(dotted(other))}</a></li>' for other in neighbours
    )
    contents = "".join(f'<li><a href="#{escape(where)}">{escape(where)}</a></li>' for where, _, _ in sections)
    body = "".join(f'<section id="{escape(w)}">{head}{blocks(doc)}</section>\n' for w, head, doc in sections)
    return f"""<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>{escape(title)} | {escape(name)} documentation</title>
<link rel="canonical" href="{SITE}/pages/{escape(name)}/{escape(title)}.html">
<style>nav {{ float: left }} footer {{ color: gray }}</style></head>
<body>
<header class="header"><nav><ul><li><a href="/">Home</a></li><li><a href="/download">Download</a></li></ul></nav>
<form action="/search"><input name="q"><button>Search the documentation</button></form></header>
<nav class="sidebar"><h3>Modules</h3><ul>{menu}</ul></nav>
<main><article>
{body}</article></main>
<aside class="sidebar"><h3>On this page</h3><ul>{contents}</ul></aside>
<footer class="footer"><p>Did you find what you were looking for? <a href="/feedback">Tell us</a>.</p>
<p><a href="/terms">Terms of use</a> | <a href="/privacy">Privacy policy</a> | <a href="/cookies">Cookie settings</a></p>
<script>window.loaded = true;</script></footer>
</body></html>
"""


def described(scope: Scope, name: str) -> Iterator[Section]:
    """Name, heading and docstring of a module and of everything public in it, nested classes included."""
    if doc := ast.get_docstring(scope):
        yield name, heading(scope, name), doc
    for node in scope.body:
        if isinstance(
            node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        ) and not node.name.startswith("_"):
            yield from described(node, f"{name}.{node.name}")


def heading(scope: Scope, name: str) -> str:
    if isinstance(scope, ast.Module):
        return f"<h1>{escape(name)}</h1>"
    if isinstance(scope, ast.ClassDef):
        return f"<h2>class {scope.name}</h2>"
    given = scope.args.posonlyargs + scope.args.args + scope.args.kwonlyargs
    names = [argument.arg for argument in given if argument.arg not in {"self", "cls"}]
    return f"<h3><code>{scope.name}({', '.join(names)})</code></h3>"


def blocks(doc: str) -> str:
    """Paragraphs, and what is indented or a session as code."""
    parts = [part for part in re.split(r"\n\s*\n", doc) if part.strip()]
    return "".join(
        f"<pre>{escape(part)}</pre>" if part.startswith((" ", ">>>")) else f"<p>{escape(part)}</p>"
        for part in parts
    )


def record(document: Document) -> bytes:
    """A WARC resource record in a gzip member of its own."""
    payload = document.text.encode("utf-8", "replace")
    header = (
        "WARC/1.1\r\nWARC-Type: resource\r\n"
        f"WARC-Record-ID: <urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, document.url)}>\r\n"
        f"WARC-Target-URI: {document.url}\r\nWARC-Date: {DATE}\r\n"
        f"Content-Type: {document.type}; charset=utf-8\r\nContent-Length: {len(payload)}\r\n\r\n"
    )
    return gzip.compress(header.encode() + payload + b"\r\n\r\n", 6, mtime=0)


def write(found: Iterable[Document], out: Path) -> tuple[int, int]:
    """Write what is long enough; returns how many documents and characters. The file appears when it is whole."""
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(out.name + ".tmp")
    written = chars = 0
    with unfinished.open("wb") as file:
        for document in found:
            if len(document.text) >= MIN_CHARS and "\0" not in document.text:
                file.write(record(document))
                written, chars = written + 1, chars + len(document.text)
    unfinished.replace(out)
    return written, chars


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: sample_corpus.py OUT.warc.gz")
    warnings.simplefilter("ignore", SyntaxWarning)  # old modules with old escapes
    out = Path(sys.argv[1])
    try:
        written, chars = write(documents(), out)
    except PackageNotFoundError as error:
        sys.exit(
            f"error: {error.name} is not installed for this Python\n\nhint: run it with .venv/bin/python; `make demo` does"
        )
    print(f"{out}: {written:,} documents, {chars / 1e6:.1f} M characters, {out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
