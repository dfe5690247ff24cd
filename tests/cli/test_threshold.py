"""`curate threshold`: the counts of a cut are those of the rows themselves, and nothing is changed."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest


@pytest.fixture(scope="module")
def scored(process, tmp_path_factory) -> Path:
    """100 rows of two sources: scores 0.00 to 0.99, every tenth null; row i has 4 * (i + 1) characters."""
    import pyarrow as pa

    folder = tmp_path_factory.mktemp("scored")
    table = pa.table({
        "key": [f"r{i:02d}" for i in range(100)],
        "text": [f"{i:03d} " * (i + 1) for i in range(100)],
        "source": [("low", "high")[i >= 50] for i in range(100)],
        "lang": ["en"] * 100,
        "date": [f"{2000 + i // 10}-05-05" for i in range(100)],
        "quality": [None if i % 10 == 3 else i / 100 for i in range(100)],
    })  # fmt: skip
    pq.write_table(table, folder / "in.parquet")
    (folder / "r.yaml").write_text(
        f"input: {{path: {folder}/in.parquet, id: key}}\nstages:\n  - token_count: {{}}\n"
    )
    done = process("run", folder / "r.yaml", "-o", folder / "out", "--workers", 1)
    assert done.returncode == 0, done.stderr
    return folder / "out"


def cut(curate, folder, *arguments):
    done = curate("threshold", folder, "--score", "quality", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_rows_by_hand(curate, scored):
    """The ten best of 100 rows: 99 to 89 without 93."""
    found = cut(curate, scored, "--keep", 0.1)
    assert (found["cut"], found["rows"], found["kept"], found["nulls"]) == (0.89, 100, 10, 10)
    tokens = [i + 1 for i in range(100)]
    assert found["tokens"] == sum(tokens)
    assert found["kept_tokens"] == sum(tokens[i] for i in range(89, 100) if i != 93)
    groups = {g["name"]: (g["rows"], g["kept"]) for g in found["groups"]["source"]}
    assert groups == {"low": (50, 0), "high": (50, 10)}
    assert {g["name"]: g["kept"] for g in found["groups"]["year"]}["2008"] == 1
    assert sum(g["kept"] for g in found["groups"]["length"]) == 10
    assert found["where"] == "quality >= 0.89"


def test_values_beyond_the_listed_are_counted_together(curate, scored, monkeypatch):
    from curate.report import cut as module

    monkeypatch.setattr(module, "TOP", 3)
    years = cut(curate, scored, "--keep", 0.1)["groups"]["year"]
    assert [(g["name"], g["rows"], g["kept"], g["others"]) for g in years] == [
        ("2000", 10, 0, 0), ("2001", 10, 0, 0), ("2002", 10, 0, 0), ("", 70, 10, 7),
    ]  # fmt: skip


def test_tokens_by_hand(curate, scored):
    found = cut(curate, scored, "--keep", 0.1, "--keep-tokens")
    assert found["cut"] == 0.95  # 100 + 99 + 98 + 97 + 96 of 5050; one more would be 585, above a tenth
    assert found["kept_tokens"] == 490


@pytest.mark.parametrize("keep", [0.02, 0.1, 0.29, 0.37, 0.5, 0.9, 1])
@pytest.mark.parametrize("more", [(), ("--low",), ("--keep-tokens",)])
def test_a_range_that_is_narrowed_gives_the_same_cut(curate, scored, monkeypatch, keep, more):
    from curate.report import cut as module

    whole = cut(curate, scored, "--keep", keep, *more)
    monkeypatch.setattr(module, "_VALUES_HELD", 2)
    monkeypatch.setattr(module, "_BINS", 7)
    assert cut(curate, scored, "--keep", keep, *more) == whole


def test_low_scores(curate, scored):
    found = cut(curate, scored, "--keep", 0.05, "--low")
    assert (found["cut"], found["kept"], found["keeps"]) == (0.05, 5, "low")
    assert found["where"] == "quality <= 0.05"


def test_twenty_on_each_side(curate, scored):
    found = cut(curate, scored, "--at", 0.5)
    above, below = ([d["score"] for d in found["beside"] if d["kept"] == kept] for kept in (True, False))
    assert above == [i / 100 for i in range(50, 73) if i % 10 != 3][:20]
    assert below == [i / 100 for i in range(49, 0, -1) if i % 10 != 3][:20]
    assert len(above) == len(below) == 20


def test_its_where_keeps_what_it_said(curate, process, scored, tmp_path):
    found = cut(curate, scored, "--keep", 0.37)
    done = process("stage", "select", scored, "-o", tmp_path / "out", "--where", found["where"], "--json")
    assert json.loads(done.stdout)["rows"]["kept"] == found["kept"] == 37


@pytest.fixture(scope="module")
def odd(process, tmp_path_factory) -> Path:
    """200 rows: 40 NaN, 10 null, 10 inf, 6 -inf, and 134 scores from 0.66 to 1.99."""
    import pyarrow as pa

    folder = tmp_path_factory.mktemp("odd")
    inf = float("inf")
    scores = [float("nan")] * 40 + [None] * 10 + [inf] * 10 + [-inf] * 6 + [i / 100 for i in range(66, 200)]
    table = {
        "text": ["x"] * 200,
        "id": [f"r{i:03d}" for i in range(200)],
        "quality": pa.array(scores, pa.float64()),
    }
    pq.write_table(pa.table(table), folder / "in.parquet")
    (folder / "r.yaml").write_text(
        f"input: {{path: {folder}/in.parquet, id: id}}\nstages:\n  - token_count: {{}}\n"
    )
    done = process("run", folder / "r.yaml", "-o", folder / "out", "--workers", 1)
    assert done.returncode == 0, done.stderr
    return folder / "out"


@pytest.mark.parametrize("held", [1_000_000, 2])
@pytest.mark.parametrize(
    ("keep", "more", "line", "kept"),
    [
        (0.1, (), 1.9, 20),  # ten are inf
        (0.05, (), 1.7976931348623157e308, 10),
        (0.72, (), 0.66, 144),
        (0.9, (), -1.7976931348623157e308, 150),  # all that are numbers
        (0.04, ("--low",), 0.67, 8),  # six are -inf
        (0.03, ("--low",), -1.7976931348623157e308, 6),
        (0.7, ("--low",), 1.99, 140),
        (1, ("--low",), 1.7976931348623157e308, 150),
    ],
)
def test_nan_is_no_score_and_infinity_is_one(
    curate, process, odd, tmp_path, monkeypatch, held, keep, more, line, kept
):
    from curate.report import cut as module

    monkeypatch.setattr(module, "_VALUES_HELD", held)
    monkeypatch.setattr(module, "_BINS", 7)
    found = cut(curate, odd, "--keep", keep, *more)
    assert (found["cut"], found["rows"], found["kept"], found["nulls"]) == (line, 200, kept, 50)
    out = tmp_path / "out"
    done = curate("stage", "select", odd, "-o", out, "--where", found["where"], "--json", "--workers", 1)
    assert json.loads(done.stdout)["rows"]["kept"] == kept


def test_in_words(curate, scored):
    done = curate("threshold", scored, "--score", "quality", "--keep", 0.1)
    assert "keeps 10 of 100 rows (10.0%)" in done.stdout
    assert "10 rows have no score; they would go" in done.stdout
    assert 'select: "quality >= 0.89"' in done.stdout


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("--score", "qualty", "--keep", 0.1), "did you mean `quality`?"),
        (("--score", "source", "--keep", 0.1), "is not a number"),
        (("--score", "quality"), "give a share or a cut"),
        (("--score", "quality", "--keep", 0.1, "--at", 0.5), "give a share or a cut"),
        (("--score", "quality", "--keep", 0.001), "is more than 0.10% of the rows"),
        (("--score", "quality", "--keep", 1.5), "--keep"),
        (("--score", "quality", "--at", 0.5, "--keep-tokens"), "--keep 0.1 --keep-tokens"),
    ],
)
def test_mistakes(curate, scored, arguments, what):
    done = curate("threshold", scored, *arguments)
    assert done.returncode == 2
    assert what in done.stderr


def test_nothing_is_changed(curate, scored):
    before = {p: p.read_bytes() for p in scored.rglob("*") if p.is_file()}
    cut(curate, scored, "--keep", 0.5)
    assert {p: p.read_bytes() for p in scored.rglob("*") if p.is_file()} == before
