"""Global stages that edit text, and url_dedup, as whole runs: same bytes, same rows, kills, the conservation law."""

import hashlib
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

STAGES = {
    "url": {"url_dedup": {}},
    "line": {"line_dedup": {"min_chars": 1}},
    "paragraph": {"paragraph_dedup": {"split": "blank_lines"}},
    "bloom": {"paragraph_dedup": {"method": "bloom", "remove": "old-both", "ngram": 5, "min_ngram": 5}},
    "sentence": {"sentence_dedup": {"min_doc_words": 5, "keep_original": True}},
}
ROWS, UNITS = 400, 4


def write_rows(folder: Path) -> None:
    """Four files of 0.8 MB: paragraphs drawn from a few, some rows without text or URL."""
    draw = random.Random(5)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(draw.choices(letters, k=draw.randint(2, 9))) for _ in range(20_000)]

    def sentence() -> str:
        return " ".join(draw.choices(words, k=draw.randint(3, 12))).capitalize() + "."

    stock = [" ".join(sentence() for _ in range(draw.randint(1, 4))) for _ in range(2_000)]
    rows = []
    for i in range(ROWS):
        num = draw.choice([1, 2, 250])
        pieces = [draw.choice(stock) if draw.random() < 0.3 else sentence() for _ in range(num)]
        rows.append({
            "id": f"row-{i}", "text": "\n\n".join(pieces) if i % 50 else "", "date": f"2024-01-{1 + i % 28:02}",
            "url": f"http://www.a{draw.randint(0, 150)}.org/?utm_source={i}" if i % 7 else None,
        })  # fmt: skip
    folder.mkdir()
    for part in range(4):
        table = pa.Table.from_pylist(rows[part * 100 : part * 100 + 100])
        pq.write_table(table, folder / f"{part}.parquet", row_group_size=20)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("corpus") / "in"
    write_rows(folder)
    return folder


@pytest.fixture
def run(curate, corpus, recipe, tmp_path, dataset):
    """Runs one stage; returns the dataset."""

    def go(stage, out, *options, env=None, codes=(0,), unit_mb=1):
        tree = {"path": str(corpus), "id": "id"}
        file = recipe([STAGES[stage]], input=tree, unit_mb=unit_mb, store=str(tmp_path / f"store-{out}"))
        ran = curate("run", file, "--quiet", "-o", tmp_path / out, *options, env=env)
        assert ran.code in codes, ran.err
        return dataset(tmp_path / out)

    return go


def checksums(out: Path) -> dict[str, str]:
    parts = [p for p in sorted(out.rglob("part-*")) if "_curate" not in p.parts]
    return {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in parts}


def assert_whole(data) -> None:
    """Every row is there once, kept or dropped, and something was done."""
    assert data.problems == []
    dropped = data.rows("_dropped/*/part-*.parquet")
    assert sorted(row["id"] for row in data.kept + dropped) == sorted(f"row-{i}" for i in range(ROWS))
    assert dropped
    assert all(row["drop_reason"] for row in dropped)
    removed = [name for name in data.kept[0] if name.endswith("_removed_chars")]
    assert not removed or sum(row[removed[0]] for row in data.kept) > 0


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_workers_give_the_same_bytes_and_units_the_same_rows(run, stage):
    one = run(stage, "one", "--workers", 1)
    assert_whole(one)
    two = run(stage, "two", "--workers", 2)
    assert checksums(one.folder) == checksums(two.folder)
    assert len(list(one.folder.glob("part-*"))) == UNITS
    single = run(stage, "three", "--workers", 1, unit_mb=256)
    assert len(list(single.folder.glob("part-*"))) == 1
    assert single.kept == one.kept
    drops = "_dropped/*/part-*.parquet"
    assert single.rows(drops) == one.rows(drops)


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, dict[str, str]]:
    """Checksums of a run that nothing disturbed, by stage."""
    return {}


# Four units: commits 1 to 4 of the only worker are of the first phase, 5 is of the second, 6 to 9 of the last.
@pytest.mark.slow
@pytest.mark.parametrize("stage", ["line", "bloom"])
@pytest.mark.parametrize("moment", ["claim:2", "claim:5", "claim:7"])
def test_a_kill_in_each_phase_ends_in_the_same_bytes(run, undisturbed, stage, moment):
    if stage not in undisturbed:
        undisturbed[stage] = checksums(run(stage, "undisturbed", "--workers", 1).folder)
    run(stage, "out", "--workers", 1, env={"CURATE_FAULT": moment}, codes=(0, 3, -9))
    again = run(stage, "out", "--workers", 1)
    assert checksums(again.folder) == undisturbed[stage]
    assert_whole(again)


def test_check_prints_the_size_of_the_bloom_filter(curate, corpus, recipe, tmp_path):
    stage = {"paragraph_dedup": {"method": "bloom", "expected_ngrams": 5_000_000_000}}
    file = recipe([stage], input={"path": str(corpus), "id": "id"}, output={"path": str(tmp_path / "out")})
    ran = curate("check", file)
    assert "Bloom filter of 6 GB for 5,000,000,000 n-grams" in ran.out + ran.err
