"""The page of a token dataset: how long its documents are in tokens, and what a model reads of them."""

from pathlib import Path

import pytest
from victims import table, texts

import curate
from curate.errors import ConfigError
from curate.report.facts import read_facts
from curate.report.page import Page, gather

BYTES = str(Path(__file__).parents[1] / "stages/lists/tokenizer")  # every byte is a token


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import pyarrow.parquet as pq

    place = tmp_path_factory.mktemp("tokens")
    pq.write_table(table(), place / "in.parquet")
    recipe = {
        "input": {"path": str(place / "in.parquet"), "id": "key"},
        "stages": [{"select": "length(text) > 100"}, {"tokenize": {"tokenizer": BYTES}}],
        "output": {"path": str(place / "out"), "format": "arrow", "columns": ["key", "tokens", "prefix", "n_bytes", "source"]},
    }  # fmt: skip
    curate.run(recipe, workers=1)
    return place / "out"


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return gather(read_facts(str(folder), ("parquet", "arrow")))


def test_rows_tokens_and_lengths(page: Page) -> None:
    kept = [text for text in texts() if len(text) > 100]
    assert (page.rows["kept"], page.rows["dropped"]) == (len(kept), 5) == (50, 5)
    assert page.tokens == sum(len(text.encode()) for text in kept)
    assert [(step.name, step.dropped) for step in page.funnel] == [("select", 5), ("tokenize", 0)]
    assert page.lengths["unit"] == "tokens"
    assert sum(page.lengths["kept"]) == 50
    at = [i for i, n in enumerate(page.lengths["kept"]) if n]
    assert (min(at), max(at)) == (12, 14)  # of 251 tokens and more, 5 bins to a power of ten
    assert next(d for d in page.dimensions if d.name == "source").values[0].rows == 27


def test_a_document_is_spelled_out(page: Page) -> None:
    shown = {document.id: document for document in page.documents[0]}
    assert len(shown) == 10
    whole = dict(zip([f"doc-{i:02d}" for i in range(54)], texts(), strict=False)) | {
        "<hostile> & 'id'": texts()[-1]
    }
    for name, document in shown.items():
        assert "".join(document.pieces) == whole[name]
        assert document.tokens == len(whole[name].encode())
    assert page.documents[1][0].pieces[0].startswith("Too short")  # a dropped row has its text


def test_what_compares_texts_has_none(folder: Path) -> None:
    with pytest.raises(ConfigError, match="format arrow cannot be looked at"):
        read_facts(str(folder))
