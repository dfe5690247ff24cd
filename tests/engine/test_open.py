"""An output folder opens as it is in the tools people have, and shows them the kept rows alone."""

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

import curate
from curate.errors import DataError

KEPT = ["doc 0 is long enough", "doc 2 is long enough", "doc 4 is long enough"]


@pytest.fixture(scope="module", params=["parquet", "jsonl.zst"])
def output(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("open")
    texts = [f"doc {i} is long enough" if i % 2 == 0 else "short" for i in range(5)] + [None, KEPT[0]]
    pq.write_table(pa.table({"text": texts}), folder / "in.parquet")
    recipe = {
        "input": {"path": str(folder / "in.parquet")},
        "stages": [{"select": "length(text) > 10"}, {"exact_dedup": {}}],
        "output": {"path": str(folder / "out"), "format": request.param},
    }
    assert curate.run(recipe, workers=1).exit == 4  # one null text
    return str(folder / "out"), request.param


def test_duckdb(output):
    folder, ending = output
    reader = "read_parquet" if ending == "parquet" else "read_json"
    assert duckdb.sql(f"select text from {reader}('{folder}/*.{ending}')").fetchall() == [(t,) for t in KEPT]


def test_pandas_and_pyarrow(output):
    folder, ending = output
    if ending != "parquet":
        with pytest.raises(DataError, match="JSON Lines"):
            next(curate.read(folder))
        return
    assert pd.read_parquet(folder)["text"].tolist() == KEPT
    assert pyarrow.dataset.dataset(folder).to_table()["text"].to_pylist() == KEPT
    assert [t for batch in curate.read(folder) for t in batch.column("text").to_pylist()] == KEPT


def test_datasets_of_the_hub(output, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    folder, _ = output
    loaded = datasets.load_dataset(folder, cache_dir=str(tmp_path))
    assert loaded["train"]["text"][:] == KEPT
