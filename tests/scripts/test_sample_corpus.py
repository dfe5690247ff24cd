"""The sample corpus: real text, enough of it, always the same."""

import ast
import gzip
import hashlib
import importlib.util
import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/sample_corpus.py"


@pytest.fixture(scope="module")
def sample() -> Any:
    spec = importlib.util.spec_from_file_location("sample_corpus", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str, str, str]]:
    """Record type, id, content type and text of every record that the script writes, as fastwarc reads them."""
    from fastwarc.warc import ArchiveIterator

    out = tmp_path_factory.mktemp("sample") / "deeper" / "docs.warc.gz"
    done = subprocess.run([sys.executable, str(SCRIPT), str(out)], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert [path.name for path in out.parent.iterdir()] == ["docs.warc.gz"]
    with out.open("rb") as file:
        return [
            (str(r.record_type), r.record_id, r.headers["Content-Type"], r.reader.read().decode())
            for r in ArchiveIterator(file, parse_http=False)
        ]


@pytest.mark.slow
def test_there_are_thousands_of_documents(records: list[tuple[str, str, str, str]]) -> None:
    assert len(records) > 3000
    assert {kind.rpartition(".")[2] for kind, _, _, _ in records} == {"resource"}
    assert len({id for _, id, _, _ in records}) == len(records)
    assert min(len(text) for _, _, _, text in records) >= 300
    size = sum(len(text) for _, _, _, text in records)
    assert 5e6 < size < 100e6


@pytest.mark.slow
def test_pages_and_plain_texts(records: list[tuple[str, str, str, str]]) -> None:
    pages = [text for _, _, kind, text in records if kind == "text/html; charset=utf-8"]
    texts = [text for _, _, kind, text in records if kind == "text/plain; charset=utf-8"]
    assert len(pages) + len(texts) == len(records)
    assert len(pages) > 300
    assert sum("Cookie settings" in page for page in pages) > 300
    assert any(text.startswith("Boolean operations\n") for text in texts)  # a topic of the language reference


@pytest.mark.slow
def test_it_holds_duplicates_and_nothing_of_curate(records: list[tuple[str, str, str, str]]) -> None:
    digests = {hashlib.md5(text.encode()).digest() for _, _, _, text in records}
    assert len(records) - len(digests) > 20
    assert not any("curate.stages" in text for _, _, _, text in records)


def test_the_same_bytes_each_time(sample: Any, tmp_path: Path) -> None:
    for name in ("a", "b"):
        sample.write(itertools.islice(sample.documents(), 400), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    text = gzip.decompress((tmp_path / "a").read_bytes())
    assert b"\r\n\r\nBoolean operations\n" in text  # a topic of the language reference
    assert b"Content-Type: text/html" in text


def test_short_documents_are_left_out(sample: Any, tmp_path: Path) -> None:
    found = [sample.Document(f"u{n}", "text/plain", "é" * n) for n in (299, 300)]
    assert sample.write(found, tmp_path / "x.warc.gz") == (1, 300)
    header, _, body = gzip.decompress((tmp_path / "x.warc.gz").read_bytes()).partition(b"\r\n\r\n")
    assert body == ("é" * 300).encode() + b"\r\n\r\n"
    assert b"Content-Length: 600\r\n" in header + b"\r\n"
    assert b"WARC-Target-URI: u300\r\n" in header


def test_a_page_holds_the_documentation_and_is_escaped(sample: Any) -> None:
    long = "Reads and writes. " * 20
    tree = ast.parse(
        f'"""{long}\n\nReads <b>.\n\n    x & y\n\nEnd.\n"""\ndef f(a, *, b: int = 1):\n    """Does.\n\nMore."""\n'
        'def _hidden():\n    """No."""\nclass C:\n    def m(self):\n        """Method."""\n'
    )
    sections = list(sample.described(tree, "pkg.mod"))
    assert [name for name, _, _ in sections] == ["pkg.mod", "pkg.mod.f", "pkg.mod.C.m"]
    html = sample.page("pkg", "pkg.mod", sections, ["pkg/mod.py", "pkg/other.py"])
    assert "<p>Reads &lt;b&gt;.</p><pre>    x &amp; y</pre>" in html
    assert "<h3><code>f(a, b)</code></h3><p>Does.</p><p>More.</p>" in html
    assert '<a href="pkg.other.html">pkg.other</a>' in html
    assert "No." not in html
    assert sample.page("pkg", "pkg.mod", sections[1:], []) == ""  # too little to be a page


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("json/decoder.py", True), ("rich-15.0.dist-info/licenses/LICENSE", True), ("idlelib/NEWS.txt", True),
        ("test/test_json.py", False), ("numpy/_core/tests/test_ufunc.py", False), ("../../../bin/pip", False),
        ("numpy/_core.so", False), ("pip-23.dist-info/RECORD", False),
    ],
)  # fmt: skip
def test_what_counts_as_documentation(sample: Any, path: str, wanted: bool) -> None:
    from pathlib import PurePosixPath

    assert sample.is_documentation(PurePosixPath(path)) is wanted
