"""`datatrove`: every answer and every text as the block itself gives them, whatever the cut into batches."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datatrove.data import Document
from datatrove.pipeline.filters import C4QualityFilter, FineWebQualityFilter
from datatrove.pipeline.formatters import PIIFormatter, SymbolLinesFormatter

from curate.errors import ConfigError
from curate.recipe.recipe import from_tree
from curate.recipe.tree import Tree
from curate.stages import datatrove as module
from curate.stages.datatrove import Config, datatrove, files, is_filter, load

FILTERS, FORMATTERS = "datatrove.pipeline.filters", "datatrove.pipeline.formatters"


def run(batch: pa.RecordBatch, block: str, **options: Any) -> pa.RecordBatch:
    config = Config(block=block, options=options)
    return datatrove(batch, config, load(config, Path(".")))


def rows(texts: list[str | None], **columns: list[Any]) -> pa.RecordBatch:
    ids = pa.array([f"row-{i}" for i in range(len(texts))])
    return pa.record_batch({"id": ids, "text": pa.array(texts, pa.large_string()), **columns})


@pytest.fixture(scope="module")
def documents(shared_data: Path) -> pa.RecordBatch:
    table = pq.read_table(shared_data / "text/web_stackexchange_samples.parquet", columns=["id", "text"])
    batch = table.combine_chunks().to_batches()[0]
    return batch.set_column(1, "text", batch["text"].cast(pa.large_string()))


@pytest.mark.parametrize("block", [FineWebQualityFilter, C4QualityFilter])
def test_a_filter_answers_and_edits_as_alone(documents: pa.RecordBatch, block: type[Any]) -> None:
    out = run(documents, f"{FILTERS}.{block.__name__}")
    alone = block()
    for row in zip(
        *(out[name].to_pylist() for name in ("id", "datatrove_pass", "datatrove_reason", "text")), strict=True
    ):
        document = Document(text=documents["text"][documents["id"].index(row[0]).as_py()].as_py(), id=row[0])
        old, answer = document.text, alone.filter(document)
        passed, reason = answer if isinstance(answer, tuple) else (answer, None)
        assert row[1:] == (passed, reason, document.text if passed else old)
    assert out["id"] == documents["id"]
    assert 0 < sum(out["datatrove_pass"].to_pylist()) < out.num_rows


@pytest.mark.parametrize("block", [PIIFormatter, SymbolLinesFormatter])
def test_a_formatter_edits_as_alone(documents: pa.RecordBatch, block: type[Any]) -> None:
    out = run(documents, f"{FORMATTERS}.{block.__name__}")
    assert out.schema.names == ["id", "text", "datatrove_removed_chars"]
    old = documents["text"].to_pylist()
    assert out["text"].to_pylist() == [block().format(text) for text in old]
    lengths = [len(a) - len(b) for a, b in zip(old, out["text"].to_pylist(), strict=True)]
    assert out["datatrove_removed_chars"].to_pylist() == lengths
    assert any(lengths)


@pytest.mark.parametrize(
    ("block", "options"),
    [
        ("PIIFormatter", {}),
        ("SamplerFilter", {"rate": 0.5}),
        ("RegexFilter", {"regex_exp": "9"}),
    ],
)
def test_the_cut_into_batches_changes_nothing(block: str, options: dict[str, Any]) -> None:
    batch = rows([f"jo{i}@a.bc x@y.zz" for i in range(60)])
    name = f"{FORMATTERS if block == 'PIIFormatter' else FILTERS}.{block}"
    whole = run(batch, name, **options)
    pieces = [run(batch.slice(i, 7), name, **options) for i in range(0, 60, 7)]
    assert pa.Table.from_batches(pieces).combine_chunks().to_batches() == [whole]
    if "datatrove_pass" in whole.schema.names:
        assert 0 < sum(whole["datatrove_pass"].to_pylist()) < 60


@pytest.mark.filterwarnings("ignore:The 'registered_domain'")
def test_metadata_comes_from_columns() -> None:
    batch = rows(["a", "b", None], url=["http://bad.com", "http://good.com", "http://good.com"], n=[1, 2, 3])
    config = Config(
        block=f"{FILTERS}.URLFilter", options={"use_integrated_lists": False, "extra_domains": ["bad.com"]}
    )
    block = load(config, Path("."))
    from tldextract import TLDExtract

    block.tldextractor = TLDExtract(suffix_list_urls=(), cache_dir=None)  # its own asks the net
    out = datatrove(batch, config, block)
    assert out["datatrove_pass"].to_pylist() == [False, True, True]
    assert out["datatrove_reason"].to_pylist() == ["domain", None, None]
    assert out["text"].to_pylist() == ["a", "b", None]
    assert out["datatrove_removed_chars"].to_pylist() == [0, 0, None]


def test_a_block_without_a_reason_gives_its_name_and_the_original_is_kept_on_demand() -> None:
    config = Config(block=f"{FILTERS}.RegexFilter", options={"regex_exp": "x"}, keep_original=True)
    out = datatrove(rows(["x", "y"]), config, load(config, Path(".")))
    assert out["datatrove_reason"].to_pylist() == ["RegexFilter", None]
    assert out["datatrove_original"].to_pylist() == ["x", "y"]


@pytest.mark.parametrize(
    ("block", "options", "error", "hint"),
    [
        (
            f"{FILTERS}.GoferQualityFilter",
            {},
            "unknown block",
            f"did you mean `{FILTERS}.GopherQualityFilter`",
        ),
        ("datatrove.pipelines.filters.URLFilter", {}, "cannot import", f"did you mean `{FILTERS}.URLFilter`"),
        ("PIIFormatter", {}, "no full name", f"did you mean `{FORMATTERS}.PIIFormatter`"),
        ("datatrove.pipeline.readers.JsonlReader", {}, "no filter and no formatter", "is one"),
        (f"{FILTERS}.base_filter.BaseFilter", {}, "no filter and no formatter", ""),
        ("os.path.join", {}, "`os` is not installed", "is one"),
        (
            f"{FILTERS}.FineWebQualityFilter",
            {"line_punct_th": 1},
            "no option `line_punct_th`",
            "`line_punct_thr`",
        ),
        (
            f"{FILTERS}.FineWebQualityFilter",
            {"exclusion_writer": 1},
            "no option `exclusion_writer`",
            "it takes",
        ),
        (f"{FILTERS}.RegexFilter", {}, "wants the option `regex_exp`", "regex_exp"),
        (f"{FILTERS}.LambdaFilter", {"filter_function": "len"}, "wants a function", "--stages"),
    ],
)
def test_errors_name_the_nearest(block: str, options: dict[str, Any], error: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config(block=block, options=options)
    assert error in caught.value.what
    assert hint in caught.value.hint
    recipe = {"input": {"path": "x"}, "stages": [{"datatrove": {"block": block, "options": options}}]}
    with pytest.raises(ConfigError, match="datatrove"):
        from_tree(Tree(recipe, "test"))


def test_a_block_that_refuses_its_options_is_a_configuration_error() -> None:
    config = Config(block=f"{FILTERS}.RegexFilter", options={"regex_exp": 3})
    with pytest.raises(ConfigError, match="refuses its options"):
        load(config, Path("."))
    assert is_filter(config)


def test_files_of_the_options_and_ones_own_code_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = tmp_path / "words.txt"
    words.write_text("a")
    block = f"{FILTERS}.RegexFilter"
    assert files(Config(block=block, options={"regex_exp": "no file"})) == []
    assert files(Config(block=block, options={"regex_exp": str(words)})) == [str(words)]
    (tmp_path / "own_block.py").write_text(
        "from datatrove.pipeline.filters.base_filter import BaseFilter\n"
        "class Own(BaseFilter):\n"
        "    def __init__(self, lists): self.lists = lists\n"
        "    def filter(self, doc): return True\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    installed = {**module._distributions(), "own_block": ["own"]}
    monkeypatch.setattr(module, "_distributions", lambda: installed)
    own = Config(block="own_block.Own", options={"lists": {"en": [str(words)]}})
    assert files(own) == [str(words), str(tmp_path / "own_block.py")]
