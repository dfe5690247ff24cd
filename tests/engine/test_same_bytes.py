"""The same plan gives the same bytes on any number of workers and any batch size; the same input gives the same rows
in the same order however it is cut."""

import hashlib
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

import curate.engine.run as engine
from curate.engine.freeze import freeze
from curate.engine.worker import run_unit
from curate.recipe.recipe import from_tree
from curate.recipe.tree import Tree

STAGE_FILE = '''
"""Two stages that cannot do some rows."""

import msgspec

import pyarrow as pa
import pyarrow.compute as pc

from curate.stage import stage


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


@stage("first_letter", version=1, config=Config, reads=["text"], writes={"first_letter": pa.string()})
def first_letter(batch, config):
    return batch.append_column("first_letter", pa.array([text[0] for text in batch["text"].to_pylist()], pa.string()))


@stage("last_digit", version=1, config=Config, reads=["text"], writes={"last_digit": pa.int64()})
def last_digit(batch, config):
    return batch.append_column("last_digit", pa.array([int((text or "0")[-1]) for text in batch["text"].to_pylist()], pa.int64()))
'''
STAGES = [
    "last_digit", "first_letter", {"select": "first_letter <> 'q' and last_digit < 9"}, {"exact_dedup": {}},
    {"sample": {}}, {"stage": "sample", "name": "again", "seed": 3, "when": "sample_hash > 0.3"},
    {"select": "sample_hash < 0.8"},
]  # fmt: skip


@pytest.fixture(scope="module")
def stage_file(tmp_path_factory) -> str:
    """Stages with errors on single rows: empty texts, texts that do not end with a digit."""
    file = tmp_path_factory.mktemp("stages") / "letters.py"
    file.write_text(STAGE_FILE)
    from curate.stages import use_file

    use_file(file)
    return str(file)


def recipe(folder: Path, out: Path, **keys):
    tree = {"input": {"path": str(folder), "id": "key"}, "stages": STAGES, "allow_quarantined": 1e9, **keys}
    return from_tree(Tree(tree, "recipe"), output=str(out))


def checksums(out: Path) -> dict[str, str]:
    parts = [p for p in sorted(out.rglob("part-*")) if "_curate" not in p.parts]
    return {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in parts}


def contents(out: Path) -> dict[str, list]:
    """Rows of each folder in order; quarantined ones by id, since their order is the units'."""
    found: dict[str, list] = {}
    for part in sorted(out.rglob("part-*.parquet")):
        if "_curate" not in part.parts:
            found.setdefault(str(part.parent.relative_to(out)), []).extend(pq.read_table(part).to_pylist())
    if "_quarantine" in found:
        for row in found["_quarantine"]:
            row.pop("offset"), row.pop("source")  # where it lay in the input, which we cut
        found["_quarantine"].sort(key=lambda row: (row["id"], row["reason"]))
    return found


def text_of(draw: random.Random, size: int) -> str:
    middle = draw.randbytes(3).hex() if size < 1000 else "x" * draw.randint(1, size)
    return draw.choice("abcdeq") + middle + (draw.choice("0123456789") if draw.random() < 0.9995 else "!")


def table_of(texts: list[str | None], start: int = 0) -> pa.Table:
    keys = [f"key-{i if i % 97 else 5}" for i in range(start, start + len(texts))]
    return pa.table({"key": keys, "text": pa.array(texts, pa.string())})


@pytest.fixture(scope="module")
def many_rows(tmp_path_factory) -> Path:
    """30,000 rows in 4 units: more than a row group's worth, doubles, repeated ids, nulls, rows no stage can do."""
    folder = tmp_path_factory.mktemp("rows") / "in"
    folder.mkdir()
    draw = random.Random(4)
    texts: list[str | None] = [text_of(draw, 200) for _ in range(25_000)]
    texts += draw.choices(texts, k=2000) + [text_of(draw, 1500) for _ in range(3000)]
    for i in range(0, len(texts), 1331):
        texts[i] = draw.choice(["", None])
    pq.write_table(table_of(texts[:3000]), folder / "a.parquet", row_group_size=1000)
    pq.write_table(table_of(texts[3000:27_000], 3000), folder / "b.parquet", row_group_size=24_000)
    pq.write_table(table_of(texts[27_000:], 27_000), folder / "c.parquet", row_group_size=500)
    return folder


@pytest.fixture(scope="module")
def expected(many_rows, stage_file, tmp_path_factory) -> dict[str, str]:
    out = tmp_path_factory.mktemp("expected") / "out"
    result = engine.run(recipe(many_rows, out, unit_mb=1), workers=1, stage_files=[stage_file])
    assert result.quarantined.keys() == {"error", "null_text", "duplicate_id"}
    found = checksums(out)
    assert len(found) > 8
    assert max(pq.read_metadata(part).num_row_groups for part in out.glob("part-*")) > 1
    return found


def in_this_process(monkeypatch, shuffled: random.Random | None = None) -> None:
    """Units run here, one after the other in any order, as an outer scheduler may call them."""

    def run(pool, jobs, on_done):
        jobs = list(jobs)
        if shuffled:
            shuffled.shuffle(jobs)
        for job in jobs:
            on_done(run_unit(job))

    monkeypatch.setattr(engine.Pool, "run", run)


@pytest.mark.parametrize("batch_rows", [257, 4096])
def test_any_batch_size_gives_the_same_bytes(
    many_rows, expected, stage_file, tmp_path, monkeypatch, batch_rows
):
    in_this_process(monkeypatch, random.Random(batch_rows))
    out = tmp_path / "out"
    engine.run(recipe(many_rows, out, unit_mb=1), stage_files=[stage_file], batch_rows=batch_rows)
    assert checksums(out) == expected


@pytest.mark.parametrize("batch_rows", [pytest.param(1, marks=pytest.mark.slow), 7])
def test_the_smallest_batches_give_the_same_bytes(many_rows, stage_file, tmp_path, monkeypatch, batch_rows):
    in_this_process(monkeypatch)
    (tmp_path / "in").mkdir()
    few = pq.read_table(many_rows / "a.parquet").slice(0, 1400)
    pq.write_table(few, tmp_path / "in" / "a.parquet")
    for name, rows in (("whole", 4096), ("pieces", batch_rows)):
        made = recipe(tmp_path / "in", tmp_path / name, store=str(tmp_path / f"store-{name}"))
        engine.run(made, stage_files=[stage_file], batch_rows=rows)
    assert checksums(tmp_path / "whole") == checksums(tmp_path / "pieces")


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "batch_rows"), [(2, 257), (3, 4096)])
def test_any_number_of_workers_gives_the_same_bytes(
    many_rows, expected, stage_file, tmp_path, workers, batch_rows
):
    out = tmp_path / "out"
    engine.run(
        recipe(many_rows, out, unit_mb=1), workers=workers, stage_files=[stage_file], batch_rows=batch_rows
    )
    assert checksums(out) == expected


def test_a_folder_moved_elsewhere_gives_the_same_bytes(
    many_rows, expected, stage_file, tmp_path, monkeypatch
):
    in_this_process(monkeypatch)
    (tmp_path / "other place").mkdir()
    for file in many_rows.iterdir():
        (tmp_path / "other place" / file.name).write_bytes(file.read_bytes())
    out = tmp_path / "out"
    engine.run(recipe(tmp_path / "other place", out, unit_mb=1), stage_files=[stage_file])
    assert checksums(out) == expected


sizes = st.lists(st.integers(1, 12), min_size=1, max_size=6)


@settings(max_examples=6, deadline=None)
@given(
    cuts=sizes,
    groups=st.integers(1, 12),
    unit_mb=st.integers(1, 4),
    batch_rows=st.integers(1, 20),
    seed=st.integers(0, 99),
)
def test_any_cut_of_the_input_gives_the_same_rows_in_the_same_order(
    stage_file, tmp_path_factory, cuts, groups, unit_mb, batch_rows, seed
):
    """Rows into files, row groups, units and batches; texts of up to 400 kB, so that units are cut."""
    draw = random.Random(seed)
    texts = [text_of(draw, draw.choice([3, 400_000])) for _ in range(sum(cuts))]
    base = tmp_path_factory.mktemp("cut")
    with pytest.MonkeyPatch.context() as monkeypatch:
        in_this_process(monkeypatch, draw)
        found = []
        for name, lengths, rows, mb, batch in (
            ("whole", [len(texts)], len(texts), 256, 4096), ("cut", cuts, groups, unit_mb, batch_rows),
        ):  # fmt: skip
            (base / name).mkdir()
            start = 0
            for number, length in enumerate(lengths):
                piece = table_of(texts[start : start + length], start)
                pq.write_table(piece, base / name / f"{number:03d}.parquet", row_group_size=rows)
                start += length
            made = recipe(base / name, base / f"{name}-out", unit_mb=mb, allow_empty=True)
            engine.run(made, stage_files=[stage_file], batch_rows=batch)
            found.append(contents(base / f"{name}-out"))
    for rows_of_folder in (rows for side in found for rows in side.values()):
        for row in rows_of_folder:
            row.pop("source", None)
    assert found[0] == found[1]


@pytest.fixture
def stream(tmp_path) -> Path:
    """A compressed stream of 6 links; the same ids stand in several of them."""
    (tmp_path / "in").mkdir()
    draw = random.Random(5)
    lines = [
        json.dumps({"key": f"key-{i % 190}", "text": text_of(draw, 2000) if i % 40 else ""})
        for i in range(240)
    ]
    packed = zstandard.ZstdCompressor().compress("\n".join(lines).encode())
    (tmp_path / "in" / "rows.jsonl.zst").write_bytes(packed)
    return tmp_path


@pytest.mark.parametrize(
    ("stop_after", "output"), [(1, {}), (4, {}), (3, {"format": "jsonl.zst", "dropped": {"sample": 0.5}})]
)
def test_a_stream_stopped_between_links_goes_on_to_the_same_bytes(
    stream, stage_file, tmp_path, monkeypatch, stop_after, output
):
    """The links before the stop are not read again, and what they held of repeated ids is still known."""
    import curate.engine.journal as journal

    monkeypatch.setattr("curate.io.slices.LINK_BYTES", 50_000)
    in_this_process(monkeypatch)
    made = recipe(stream / "in", tmp_path / "whole", output=output)
    whole = engine.run(made, stage_files=[stage_file])
    assert len([p for p in (tmp_path / "whole/_curate/journal").rglob("*-0000*.json")]) > 5
    assert whole.quarantined["duplicate_id"] > 10
    commits = []

    class Killed(BaseException):
        pass

    def commit_some(*arguments):
        if len(commits) == stop_after:
            raise Killed
        commits.append(arguments)
        return commit(*arguments)

    commit = journal.commit
    monkeypatch.setattr(journal, "commit", commit_some)
    made = recipe(stream / "in", tmp_path / "stopped", output=output, store=str(tmp_path / "store"))
    with pytest.raises(Killed):
        engine.run(made, stage_files=[stage_file])
    monkeypatch.setattr(journal, "commit", commit)
    again = engine.run(made, stage_files=[stage_file])
    assert checksums(tmp_path / "stopped") == checksums(tmp_path / "whole")
    assert again.rows == whole.rows


def test_the_plan_names_passes_by_what_decides_their_bytes_and_nothing_else(many_rows, stage_file, tmp_path):
    """What is kept of dropped rows, seed and unit rule rename every pass; the output's place does not."""
    prints = []
    for name, keys in (
        ("a", {}),
        ("b", {"output": {"dropped": "keys"}}),
        ("c", {"seed": 1}),
        ("d", {"unit_mb": 2}),
        ("e", {}),
    ):
        plan = freeze(
            recipe(many_rows, tmp_path / name, **{"unit_mb": 1, **keys}), [stage_file], lambda *_: None
        )
        prints.append([one.fingerprint for one in plan.passes])
    assert not set(prints[0]) & set(prints[1])  # a pass holds its dropped rows
    assert not set(prints[0]) & set(prints[2])
    assert not set(prints[0]) & set(prints[3])
    assert prints[0] == prints[4]
