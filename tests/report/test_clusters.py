"""The page's part on duplicates: a corpus whose clusters are known, in all modes of dropped rows."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import curate
from curate.report import clusters
from curate.report.clusters import Dedup
from curate.report.facts import read_facts
from curate.report.page import gather, write

WORDS = [f"word{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(120)]


def text(seed: int, city: str = "Rome") -> str:
    """A text of its own for each seed, with one name in it."""
    own = [WORDS[(i * (seed + 3) + seed * 17) % len(WORDS)] for i in range(80)]
    return " ".join([*own[:40], city, *own[40:]])


def rows() -> list[dict[str, Any]]:
    """Source a: a text and its twin in three cities, one with another word. b: two the same, byte for byte; one alone."""
    found = [("a1", text(1)), ("a2", text(1, "Oslo")), ("a3", text(1, "Bonn")), ("a4", text(1) + " and more"),
             ("b1", text(2)), ("b2", text(2)), ("b3", text(3))]  # fmt: skip
    return [
        {
            "id": i,
            "text": t,
            "source": i[0],
            "lang": "en",
            "url": f"https://{'b1' if i == 'b3' else i}.example",
        }
        for i, t in found
    ]


STEPS: list[Any] = ["exact_dedup", {"minhash_dedup": {"threshold": 0.7}}]


def run(folder: Path, stages: list[Any] = STEPS, **output: Any) -> Path:
    pq.write_table(pa.Table.from_pylist(rows()), folder / "in.parquet")
    recipe = {
        "input": {"path": str(folder / "in.parquet"), "id": "id"}, "stages": stages,
        "output": {"path": str(folder / "out"), **output},
    }  # fmt: skip
    curate.run(recipe, workers=1)
    return folder / "out"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("clusters"))


def dedups(out: Path) -> list[Dedup]:
    return gather(read_facts(str(out))).dedups


def test_counts(made: Path) -> None:
    exact, near = dedups(made)
    assert (exact.name, exact.rows, exact.dropped, exact.clusters, exact.elsewhere) == (
        "exact_dedup",
        7,
        1,
        1,
        0,
    )
    assert (near.name, near.rows, near.dropped, near.clusters, near.elsewhere) == (
        "minhash_dedup",
        6,
        3,
        1,
        0,
    )
    assert [(s.low, s.high, s.clusters, s.documents) for s in exact.sizes] == [(2, 2, 1, 2)]
    assert [(s.low, s.clusters, s.documents) for s in near.sizes] == [(2, 0, 0), (3, 0, 0), (4, 1, 4)]


def test_removal_by_source(made: Path) -> None:
    exact, near = dedups(made)
    assert [(r.source, r.rows, r.dropped) for r in exact.removal] == [("b", 3, 1)]
    assert [(r.source, r.rows, r.dropped) for r in near.removal] == [
        ("a", 4, 3)
    ]  # of 4 that came, and b2 is gone
    assert [(one.sources, one.halved) for one in (exact, near)] == [(2, 0), (2, 1)]


def test_members_and_pairs(made: Path) -> None:
    exact, near = dedups(made)
    (same,) = exact.largest
    assert (same.kept.id, [m.id for m in same.members], same.fate) == ("b1", ["b2"], "")
    assert {kind for kind, _ in same.members[0].pieces} == {"same", "skipped"}
    (cluster,) = near.largest
    assert (cluster.kept.id, cluster.size, near.similarity) == ("a1", 4, "Jaccard")
    assert sorted(m.id for m in cluster.members) == ["a2", "a3", "a4"]
    values = [m.value for m in cluster.members]
    assert values == sorted(values)  # type: ignore[type-var]
    changed = {m.id: [p for p in m.pieces if p.kind in ("kept", "dropped")] for m in cluster.members}
    assert changed["a2"] == [("kept", "Rome"), ("dropped", "Oslo")]
    assert changed["a4"] == [("dropped", " and more")]
    assert (near.to_look, near.looked, near.alike) == (3, 3, 2)
    assert sorted(p.members[0].id for p in near.pairs) == ["a2", "a3"]
    assert (exact.to_look, exact.pairs) == (0, [])  # without a similarity there is no threshold to be above


def test_only_a_sample_is_looked_at(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LARGEST", "MEMBERS", "LOOKED"):
        monkeypatch.setattr(clusters, name, 1)
    _, near = dedups(made)
    assert (near.to_look, near.looked, [len(c.members) for c in near.largest]) == (3, 1, [1])
    monkeypatch.setattr(clusters, "PAIR_CHARS", 100)
    assert dedups(made)[1].looked == 0  # too long to be compared whole


def test_many_buckets_are_one(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = dedups(made)
    monkeypatch.setattr(clusters, "_ROWS_PER_BUCKET", 2)
    assert dedups(made) == before


def test_without_the_texts_of_dropped_rows(tmp_path: Path) -> None:
    exact, near = dedups(run(tmp_path, dropped="keys"))
    assert (near.dropped, near.to_look, near.looked, near.pairs) == (3, 3, 0, [])
    assert [(m.chars, m.pieces) for m in near.largest[0].members] == [(None, [])] * 3
    assert [(r.source, r.dropped) for r in near.removal] == [("a", 3)]
    assert exact.elsewhere == 0


def test_a_kept_one_that_went_later(tmp_path: Path) -> None:
    out = run(tmp_path, [*STEPS, {"select": "id != 'a1'"}])
    _, near = dedups(out)
    assert (near.clusters, near.elsewhere, near.largest[0].fate) == (1, 0, "dropped later, by input")
    assert near.largest[0].members[0].pieces
    (tmp_path / "keys").mkdir()
    _, near = dedups(run(tmp_path / "keys", [*STEPS, {"select": "id != 'a1'"}], dropped="keys"))
    assert (near.clusters, near.elsewhere, near.largest) == (0, 3, [])


def test_copies_count_once_and_other_dedups_too(tmp_path: Path) -> None:
    stages = [
        {"stage": "url_dedup", "name": "urls", "keep": "first"},
        {"minhash_dedup": {"threshold": 0.7}},
        "rehydrate",
    ]
    urls, near = dedups(run(tmp_path, stages))
    assert (urls.name, urls.dropped, urls.clusters, urls.elsewhere) == ("urls", 1, 1, 0)
    assert [(c.kept.id, c.members[0].id) for c in urls.largest] == [("b1", "b3")]
    assert (near.clusters, near.elsewhere) == (2, 0)  # b1 and b2 are near as well
    assert {c.kept.id: c.size for c in near.largest} == {"a1": 4, "b1": 2}


def test_a_page_of_a_sample_says_so(tmp_path: Path) -> None:
    page = gather(read_facts(str(run(tmp_path, dropped={"sample": 0.5}))))
    assert all(one.estimated for one in page.dedups)
    write(page, tmp_path / "report.html")


def test_bins() -> None:
    found = clusters._sizes([(2, 5), (9, 1), (40, 2)])
    assert [(s.low, s.high, s.clusters, s.documents) for s in found if s.clusters] == [
        (2, 2, 5, 10), (8, 15, 1, 9), (32, 63, 2, 80),
    ]  # fmt: skip
    assert [s.low for s in found] == [2, 3, 4, 5, 6, 7, 8, 16, 32]
