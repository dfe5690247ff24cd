"""`split`: train and held-out never share a cluster."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.errors import ConfigError, DataError
from curate.stages import sample
from curate.stages.split import Config, split


def sides(ids: list[str | None], clusters: list[object] | None = None, **config: object) -> list[str]:
    columns = {"id": pa.array(ids, pa.string())}
    if clusters is not None:
        columns["cluster"] = pa.array(clusters, pa.int64() if isinstance(clusters[0], int) else pa.string())
        config["cluster"] = "cluster"
    batch = pa.record_batch(columns)
    out = split(batch, Config(**config))  # type: ignore[arg-type]
    assert out.select(batch.schema.names) == batch
    found: list[str] = out["split"].to_pylist()
    return found


def test_share_of_clusters() -> None:
    ids: list[str | None] = [f"doc-{i}" for i in range(20_000)]
    found = sides(ids, held_out=0.1)
    assert set(found) == {"train", "held_out"}
    assert 1_850 < found.count("held_out") < 2_150
    assert set(sides(ids, held_out=0.0)) == {"train"}
    assert set(sides(ids, held_out=1.0)) == {"held_out"}
    assert sides(ids, held_out=0.1, seed=1) != found


@pytest.mark.parametrize("make", [str, int])
def test_a_held_out_document_never_shares_a_cluster_with_train(make: type) -> None:
    clusters = [make(i % 700) for i in range(5_000)]
    found = sides([str(i) for i in range(5_000)], clusters, held_out=0.3)
    by_side = {
        side: {c for c, s in zip(clusters, found, strict=True) if s == side} for side in ("train", "held_out")
    }
    assert len(by_side["train"]) + len(by_side["held_out"]) == 700
    assert 150 < len(by_side["held_out"]) < 270
    assert by_side["train"].isdisjoint(by_side["held_out"])


def test_a_row_without_a_cluster_is_a_cluster_named_by_its_id() -> None:
    ids: list[str | None] = [f"doc-{i}" for i in range(1_000)]
    alone = sides(ids, [None, *["x"] * 999], held_out=0.5)
    assert alone[0] == sides(ids, held_out=0.5)[0]
    assert sides(ids, [*["x"], *[None] * 999], held_out=0.5)[1:] == sides(ids, held_out=0.5)[1:]


def test_independent_of_sample() -> None:
    ids = [f"doc-{i}" for i in range(20_000)]
    sampled = np.array(sample.sample(pa.record_batch({"id": ids}), sample.Config())["sample_hash"]) < 0.1
    held_out = np.array(sides(list(ids), held_out=0.1)) == "held_out"
    assert 140 < (sampled & held_out).sum() < 260  # 200 expected; 2,000 were the two one hash


@given(
    st.lists(st.tuples(st.text(), st.none() | st.sampled_from("abc")), min_size=1, max_size=30),
    st.integers(0, 30),
)
def test_slicing_changes_nothing(rows: list[tuple[str, str | None]], cut: int) -> None:
    ids, clusters = [row[0] for row in rows], [row[1] for row in rows]
    columns = {"id": pa.array(ids, pa.string()), "c": pa.array(clusters, pa.string())}
    batch, config = pa.record_batch(columns), Config(cluster="c", held_out=0.5)
    pieces = [
        split(piece, config)["split"].to_pylist()
        for piece in (batch.slice(0, cut), batch.slice(min(cut, len(ids))))
    ]
    assert pieces[0] + pieces[1] == split(batch, config)["split"].to_pylist()


def test_an_empty_batch() -> None:
    out = split(pa.record_batch({"id": pa.array([], pa.string())}), Config())
    assert out.schema.field("split").type == pa.string()


def test_reads_the_named_column() -> None:
    assert split.stage.columns_read(Config(cluster="c")) == ["id", "c"]
    assert split.stage.columns_read(Config()) == ["id"]


def test_errors() -> None:
    for bad in ({"held_out": 1.5}, {"held_out": float("nan")}, {"seed": -1}, {"cluster": ""}):
        with pytest.raises(ConfigError):
            Config(**bad)
    with pytest.raises(DataError, match="row 1"):
        sides(["a", None])
    with pytest.raises(ConfigError, match="list"):
        split(pa.record_batch({"id": ["a"], "c": [["x"]]}), Config(cluster="c"))
