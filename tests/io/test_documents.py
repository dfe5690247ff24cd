"""Files that are one document each."""

from pathlib import Path

import pyarrow as pa
import pytest

from curate.schema import row_id


def test_each_file_is_a_row(tmp_path, read_all):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "page.HTML").write_bytes(b"<p>\xe9</p>")
    (tmp_path / "a.md").write_text("# Tïtle\n")
    (tmp_path / "b" / "code.py").write_bytes(b"\xef\xbb\xbfprint('\xc3\xa9')\r\n")
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    found = read_all(tmp_path)
    assert found.schema == pa.schema(
        {"id": pa.string(), "text": pa.large_string(), "source": pa.string(), "html": pa.large_binary()}
    )
    assert [(row["source"], row["text"], row["html"]) for row in found.rows] == [
        ("a.md", "# Tïtle\n", None),
        ("b/code.py", "print('é')\r\n", None),
        ("b/page.HTML", None, b"<p>\xe9</p>"),
        ("empty.txt", "", None),
    ]
    assert found.column("id") == [row_id(name, 0) for name in found.column("source")]
    assert [scan.rows for scan in found.scans] == [1, 1, 1, 1, None]
    assert found.log.skipped == {"unknown_ending": 1}


def test_a_pdf_is_a_row_of_its_bytes(tmp_path, read_all):
    (tmp_path / "a.PDF").write_bytes(b"%PDF-1.4")
    (tmp_path / "b.txt").write_text("b")
    found = read_all(tmp_path)
    assert found.schema.field("pdf").type == pa.large_binary()
    assert [(row["source"], row["text"], row["pdf"]) for row in found.rows] == [
        ("a.PDF", None, b"%PDF-1.4"),
        ("b.txt", "b", None),
    ]


def test_poison(tmp_path, read_all):
    (tmp_path / "a.txt").write_bytes(b"caf\xe9")
    (tmp_path / "b.html").write_bytes(b"x" * 101)
    (tmp_path / "c.rst").write_bytes(b"x" * 100)
    found = read_all(tmp_path, reading={"max_document_bytes": 100})
    assert found.column("source") == ["c.rst"]
    assert [(q["source"], q["reason"], q["raw"][:3]) for q in found.log.quarantined] == [
        ("a.txt", "bad_utf8", b"caf"),
        ("b.html", "too_long", b"xxx"),
    ]


@pytest.mark.parametrize("format", ["code", "text", "html"])
def test_a_format_takes_any_file(tmp_path, read_all, format):
    (tmp_path / "Makefile").write_text("all:\n")
    found = read_all(tmp_path, format=format)
    assert found.column("html" if format == "html" else "text") == [
        b"all:\n" if format == "html" else "all:\n"
    ]


def test_many_small_files_share_a_batch(tmp_path, read_all):
    for n in range(50):
        (tmp_path / f"{n:02}.txt").write_text("x" * 10)
    assert [b.num_rows for b in read_all(tmp_path, reading={"batch_rows": 20}).batches] == [20, 20, 10]
    assert [b.num_rows for b in read_all(tmp_path, reading={"batch_bytes": 300}).batches] == [30, 20]


def test_a_source_tree(read_all):
    tree = Path(__file__).parents[2] / "curate/stages"
    found = read_all(tree)
    assert found.column("source") == sorted(
        str(p.relative_to(tree))
        for p in [*tree.rglob("*.py"), *tree.rglob("*.md")]
        if not any(part.startswith(("_", ".")) for part in p.relative_to(tree).parts)
    )
