"""One suite over every map stage: what `curate.stage` promises and the engine relies on."""

from pathlib import Path

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate import stages
from curate.errors import CurateError
from curate.schema import CORE

LISTS = Path(__file__).parent / "lists"
NEEDED = {  # options without a default
    "bad_words": {"list": str(LISTS / "bad_words.txt"), "keep_fraction": 0.5},
    "datatrove": {"block": "datatrove.pipeline.filters.C4QualityFilter"},
    "decontaminate": {"sets": [{"path": str(LISTS / "items.jsonl")}]},
    "leave_out": {"lists": [str(LISTS / "leave_out.jsonl")]},
    "select": {"where": "length(text) >= 0 or text is null"},
    "tokenize": {"tokenizer": str(LISTS / "tokenizer"), "fim_rate": 0.5, "prefix": "{url}"},
    "url_filter": {"domains": str(LISTS / "domains.txt")},
}
EXTRA = {"html": pa.large_binary(), "pdf": pa.large_binary()}  # null pdf: test_extract_pdf has real ones
TEXTS = [
    "The quick brown fox jumps over the lazy dog. " * 5,
    "",
    None,
    "Ünïcödé — 中文字 ไทย עברית 👩‍👩‍👧‍👦 e\u0301",
    "- one\n- two\n\n\n- three...\n" * 4,
    "\t\n \u00a0\u2028",
    "x" * 5000,
]
MAPS = [n for n in stages.names() if not (stages.find(n).is_global or stages.find(n).makes_rows)]


def rows(texts):
    schema = pa.schema({**CORE, **EXTRA})
    pages = [
        None if t is None or i % 2 else f"<html><body><p>{t}</p></body></html>".encode()
        for i, t in enumerate(texts)
    ]
    return pa.RecordBatch.from_pylist(
        [
            {"id": f"row-{i}", "text": None if page else text, "url": f"http://a.org/{i}", "html": page}
            for i, (text, page) in enumerate(zip(texts, pages, strict=True))
        ],
        schema,
    )


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session", params=MAPS)
def call(request, store):
    """The stage as a function of a batch, and its declared contract."""
    spec = stages.find(request.param)
    config = msgspec.convert(NEEDED.get(spec.name, {}), spec.config)
    try:
        model = (spec.load(config, Path(store)),) if spec.load else ()
    except CurateError as error:
        pytest.skip(f"{error} ({error.hint})")

    def run(batch):
        taken = [n for n in batch.schema.names if n in spec.columns_written(config) and n != "text"]
        unread = [name for name in EXTRA if name not in spec.columns_read(config)]
        return spec.function(batch.drop_columns(taken + unread), config, *model)

    return run, spec, config


def test_columns_are_those_declared_with_their_types(call):
    run, spec, config = call
    before, after = rows(TEXTS), run(rows(TEXTS))
    declared = spec.columns_written(config)
    assert {n: after.schema.field(n).type for n in declared} == declared
    untouched = [n for n in before.schema.names if n not in declared and n not in EXTRA]
    assert all(after.column(n) == before.column(n) for n in untouched)
    assert set(after.schema.names) == {*untouched, *declared}


def test_an_empty_batch_gives_the_same_columns(call):
    run, _, _ = call
    assert run(rows([])).schema == run(rows(TEXTS)).schema
    assert run(rows([])).num_rows == 0


def test_nulls_alone_pass(call):
    run, _, _ = call
    assert run(rows([None, None])).column("id").to_pylist() == ["row-0", "row-1"]


def test_twice_gives_the_same(call):
    run, _, _ = call
    assert run(rows(TEXTS)) == run(rows(TEXTS))


def test_the_cut_into_batches_changes_nothing(call):
    run, _, _ = call
    whole = run(rows(TEXTS))
    for size in (1, 2, 3):
        pieces = [run(rows(TEXTS).slice(i, size)) for i in range(0, len(TEXTS), size)]
        assert pa.Table.from_batches(pieces).combine_chunks().to_batches() == [whole]


@settings(max_examples=30, deadline=None)
@given(texts=st.lists(st.none() | st.text(max_size=60), min_size=1, max_size=6), data=st.data())
def test_any_text_keeps_its_row_and_its_verdict(call, texts, data):
    run, _, _ = call
    batch = rows(texts)
    cut = data.draw(st.integers(0, len(texts)))
    pieces = [run(piece) for piece in (batch.slice(0, cut), batch.slice(cut)) if piece.num_rows]
    whole = run(batch)
    assert whole.column("id") == batch.column("id")
    assert pa.Table.from_batches(pieces).combine_chunks().to_batches() == [whole]


@pytest.mark.parametrize("name", stages.names())
def test_every_stage_says_what_it_reads_and_writes(name):
    import sys

    doc = sys.modules[stages.find(name).module].__doc__ or ""
    assert "Reads" in doc
    assert "Writes" in doc
    assert stages.find(name).name == name
