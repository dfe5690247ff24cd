"""PDFs are written by hand here, object by object."""

import importlib.util
import random
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.engine.run import run
from curate.errors import ConfigError
from curate.recipe.recipe import load
from curate.stages.extract_pdf import Config, UnreadablePdf, extract_pdf, join_pages, read_pages


def make_pdf(pages: Sequence[Sequence[str]], trailer: str = "") -> bytes:
    """A PDF with these lines on its pages."""
    font = "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"
    kids = " ".join(f"{4 + 2 * n} 0 R" for n in range(len(pages)))
    objects = ["<</Type/Catalog/Pages 2 0 R>>", f"<</Type/Pages/Count {len(pages)}/Kids[{kids}]>>", font]
    for number, lines in enumerate(pages):
        shown = " ".join(f"({line}) Tj T*" for line in lines)
        content = f"BT /F1 12 Tf 14 TL 72 720 Td {shown} ET"
        objects += [
            f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Resources<</Font<</F1 3 0 R>>>>/Contents {5 + 2 * number} 0 R>>",
            f"<</Length {len(content)}>>stream\n{content}\nendstream",
        ]
    out, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n".encode("latin-1")
    xref = "".join(f"{place:010d} 00000 n \n" for place in places)
    size = len(objects) + 1
    end = f"xref\n0 {size}\n0000000000 65535 f \n{xref}trailer\n<</Size {size}/Root 1 0 R{trailer}>>\nstartxref\n{len(out)}\n%%EOF"
    return out + end.encode()


LETTER = make_pdf(
    [["The first line of an exam-", "ple, which ends here.", "Well-known is well-", "known."], ["Page two"]]
)
SCAN = make_pdf([[], ["2"], ["one page with words"]])
LOCKED = make_pdf(
    [["x"]], f"/Encrypt<</Filter/Standard/V 1/R 2/O<{'41' * 32}>/U<{'42' * 32}>/P -4>>/ID[<00><00>]"
)


def test_rows_and_columns() -> None:
    batch = pa.record_batch(
        {
            "id": pa.array(["a", "b", "c", "d"]),
            "text": pa.array([None, "kept", None, None], pa.large_string()),
            "pdf": pa.array([LETTER, None, SCAN, None], pa.large_binary()),
        }
    )
    found = extract_pdf(batch, Config()).to_pylist()
    assert [row.pop("id") for row in found] == ["a", "b", "c", "d"]
    letter = "The first line of an example,\nwhich ends here.\nWell-known is well-known.\n\nPage two"
    assert [tuple(row.values()) for row in found] == [
        (letter, 2, False),
        ("kept", None, None),
        ("2\n\none page with words", 3, True),
        (None, None, None),
    ]
    assert list(found[0]) == ["text", "extract_pdf_num_pages", "extract_pdf_needs_ocr"]


@pytest.mark.parametrize(
    ("written", "mended"),
    [
        ("exam-\nple one", "example\none"),
        ("exam\x02ple, one", "example,\none"),
        ("exam\ufffe\nple", "example"),
        ("well-\nknown and well-known", "well-known\nand well-known"),
        ("Anglo-\nSaxon", "Anglo-Saxon"),
        ("1990-\n1995", "1990-\n1995"),
        ("a -\nb", "a -\nb"),
        ("x-\nray", "x-ray"),
        ("- one\n- two", "- one\n- two"),
    ],
)
def test_parted_words(written: str, mended: str) -> None:
    assert join_pages([written]).rstrip() == mended


@pytest.mark.parametrize(
    ("pdf", "why"),
    [
        (LOCKED, "password"),
        (LETTER[:300], "format"),
        (b"", "format"),
        (b"<html>no PDF</html>", "format"),
        (make_pdf([]), "format"),
    ],
)
def test_unreadable(pdf: bytes, why: str) -> None:
    with pytest.raises(UnreadablePdf, match=why):
        read_pages(pdf)


def test_broken_bytes_give_text_or_a_reason() -> None:
    draw = random.Random(7)
    for _ in range(200):
        broken = bytearray(LETTER)
        for _ in range(draw.randint(1, 30)):
            broken[draw.randrange(len(broken))] = draw.randrange(256)
        try:
            pages = read_pages(bytes(broken))
        except UnreadablePdf:
            continue
        join_pages(pages).encode()


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pypdfium2") as error:
        Config()
    assert "curate[pdf]" in (error.value.hint or "")


def test_a_folder_of_pdfs_and_pages(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "letter.pdf").write_bytes(LETTER)
    (folder / "locked.pdf").write_bytes(LOCKED)
    (folder / "note.txt").write_text("a note")
    (folder / "page.html").write_bytes(b"<p>A page of words</p>")
    (folder / "scan.pdf").write_bytes(SCAN)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f'input: {{path: {folder}}}\nstages: [extract: {{}}, extract_pdf: {{}}, select: "not '
        f'coalesce(extract_pdf_needs_ocr, false)"]\noutput: {{path: {tmp_path / "out"}}}\n'
    )
    run(load(recipe))
    rows = pq.read_table(tmp_path / "out" / "part-00000.parquet").to_pylist()
    assert {row["source"]: row["text"].splitlines()[0] for row in rows} == {
        "letter.pdf": "The first line of an example,",
        "note.txt": "a note",
        "page.html": "A page of words",
    }
    (lost,) = [pq.read_table(path).to_pylist() for path in (tmp_path / "out" / "_quarantine").iterdir()]
    assert [(row["source"], row["stage"], row["reason"]) for row in lost] == [
        ("locked.pdf", "extract_pdf", "error")
    ]
    assert "Incorrect password" in lost[0]["error"]
    assert lost[0]["raw"].startswith(b"%PDF-1.4")
    (dropped,) = [pq.read_table(path) for path in (tmp_path / "out" / "_dropped").rglob("*.parquet")]
    assert dropped["source"].to_pylist() == ["scan.pdf"]
