"""`language_id`: the library's label and probability as columns."""

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import ModelError
from curate.models import catalog
from curate.models.fasttext import Model
from curate.stages.language_id import Config, language_id, load_model

TEXTS = [
    "The ship left the harbour before the storm.",
    "Le navire a quitté le port avant la tempête.",
    "Das Schiff verließ den Hafen vor dem Sturm.",
    "船は嵐の前に港を出た。",
    "Корабль вышел из порта\nдо начала шторма.",
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    try:
        catalog.find("lid176")
    except ModelError as error:
        pytest.skip(f"{error} ({error.hint})")
    return load_model(Config(), tmp_path_factory.mktemp("store"))


def batch(texts: list[str | None], kind: pa.DataType | None = None) -> pa.RecordBatch:
    return pa.record_batch(
        {"text": pa.array(texts, kind or pa.large_string()), "id": [str(i) for i in range(len(texts))]}
    )


def test_five_languages(model: Model) -> None:
    out = language_id(batch(TEXTS), Config(), model)
    assert out["lang"].to_pylist() == ["en", "fr", "de", "ja", "ru"]
    assert all(score > 0.5 for score in out["lang_score"].to_pylist())
    assert out.schema == pa.schema(
        {"text": pa.large_string(), "id": pa.string(), "lang": pa.string(), "lang_score": pa.float32()}
    )


def test_no_words_no_language(model: Model) -> None:
    out = language_id(batch([None, "", " \n\t\r\v\f\0 ", "hello"]), Config(), model)
    assert out["lang"].is_null().to_pylist() == [True, True, True, False]
    assert out["lang_score"].is_null().to_pylist() == [True, True, True, False]


def test_a_score_below_that_of_its_language_fails(model: Model, tmp_path: Path) -> None:
    for name, least in (("eng_Latn", 0.1), ("fra_Latn", 0.9999999), ("rus_Cyrl", 0.2)):
        (tmp_path / f"{name}.yaml").write_text(f"language_score: {least}\n")
    config = Config(thresholds=str(tmp_path))
    out = language_id(batch([*TEXTS, None]), config, model)
    assert out["language_id_pass"].to_pylist() == [True, False, False, False, True, False]
    none = "no_thresholds"
    assert out["language_id_reason"].to_pylist() == [None, "low_score", none, none, None, none]
    assert out["language_id_threshold"].to_pylist() == [None, 0.9999999, None, None, None, None]
    assert out["language_id_value"].to_pylist()[1] == pytest.approx(out["lang_score"].to_pylist()[1])
    assert {f.name: f.type for f in out.schema} == {
        f.name: f.type for f in language_id(batch(TEXTS), Config(), model).schema
    } | (
        language_id.stage.columns_written(config)  # type: ignore[attr-defined]
    )


def test_empty_batch(model: Model) -> None:
    out = language_id(batch([]), Config(), model)
    assert out.num_rows == 0
    assert out.schema.names == ["text", "id", "lang", "lang_score"]


def test_a_newline_counts_as_a_space(model: Model) -> None:
    out = language_id(batch([TEXTS[1], TEXTS[1].replace(" ", "\n")]), Config(), model)
    assert len(set(out["lang_score"].to_pylist())) == 1


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.text(max_size=60), st.sampled_from(TEXTS)), max_size=12),
    st.integers(0, 12),
)
def test_slices_and_string_widths_change_nothing(model: Model, texts: list[str | None], cut: int) -> None:
    whole = language_id(batch(texts), Config(), model)
    assert (
        language_id(batch(texts, pa.string()), Config(), model)
        .select(["lang", "lang_score"])
        .equals(whole.select(["lang", "lang_score"]))
    )
    parts = [language_id(batch(texts).slice(*edges), Config(), model) for edges in ((0, cut), (cut,))]
    assert (
        pa.Table.from_batches(parts).combine_chunks().equals(pa.Table.from_batches([whole]).combine_chunks())
    )


def test_contract() -> None:
    declared = language_id.stage
    assert declared.columns_written(Config()) == {"lang": pa.string(), "lang_score": pa.float32()}
    assert declared.columns_read(Config()) == ["text"]
    with pytest.raises(ModelError, match="no model file"):
        declared.files(Config(model="missing.bin"))


def test_the_model_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    own = tmp_path / "own.ftz"
    own.write_bytes(b"not a model")
    assert language_id.stage.files(Config(model=str(own))) == [str(own)]
    with pytest.raises(ModelError, match="first bytes"):
        load_model(Config(model=str(own)), tmp_path)


def test_importing_the_stage_imports_no_numba() -> None:
    code = "import sys, curate.stages.language_id; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
