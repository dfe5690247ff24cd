"""What a run will come to is said before it starts, and holds."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.engine import journal
from curate.engine.check import check
from curate.engine.draw import Range, draw, pieces_of
from curate.engine.forecast import Limits, forecast
from curate.engine.freeze import freeze
from curate.engine.run import run
from curate.errors import GuardError, StageError
from curate.io import excerpt
from curate.io.files import Folder
from curate.recipe.recipe import from_tree
from curate.recipe.tree import Tree

ROWS = 12_000


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Every third text is short, every tenth stands twice; the order is by length, so the head is no sample."""
    folder = tmp_path_factory.mktemp("corpus")
    numbers = [i - 1 if i % 10 == 1 else i for i in range(ROWS)]
    texts = [f"document {number} " + "word " * (number % 3 * 40) for number in numbers]
    texts.sort(key=len)
    half = ROWS // 2
    for name, part in (("a", texts[:half]), ("b", texts[half:])):
        pq.write_table(pa.table({"text": part}), folder / f"{name}.parquet", row_group_size=500)
    return folder


def recipe_of(corpus, out, *stages, **keys):
    body = {"input": {"path": str(corpus)}, "stages": list(stages), "output": {"path": str(out)}} | keys
    return from_tree(Tree(body, "test"))


def planned(recipe):
    return freeze(recipe, (), lambda kind, data: None)


def expected(recipe):
    return forecast(planned(recipe), recipe, workers=1, max_memory_mb=2000)


def inside(value, found):
    return found.low <= value <= found.high


def test_what_is_left_lies_in_the_range_and_the_range_is_sharp(corpus, tmp_path):
    recipe = recipe_of(corpus, tmp_path / "out", "sample", {"select": "length(text) > 150"})
    said = expected(recipe)
    result = run(recipe, workers=1)
    rows, size = said.steps[1].rows, said.steps[1].bytes
    assert inside(result.rows.kept, rows)
    assert inside(result.text_bytes, size)
    assert rows.high < 1.3 * rows.low
    assert size.high < 1.3 * size.low
    assert said.rows_in == Range(ROWS, ROWS, ROWS)
    parts = [w.bytes for e in journal.entries(Folder(str(tmp_path / "out"))) for w in e.outputs]
    assert inside(sum(parts), said.output_bytes)
    assert said.scratch_bytes.high == 0


def test_a_sample_of_everything_is_exact(corpus, tmp_path):
    table = pq.read_table(corpus / "a.parquet").slice(0, 900)
    pq.write_table(table, tmp_path / "few.parquet", row_group_size=100)
    recipe = recipe_of(
        tmp_path / "few.parquet", tmp_path / "out", {"select": "length(text) % 2 = 0"}, "exact_dedup"
    )
    said, result = expected(recipe), run(recipe, workers=1)
    kept = float(result.rows.kept)
    assert said.sampled_share == 1
    assert said.steps[1].rows == Range(kept, kept, kept)
    assert not said.notes


def test_a_row_sample_hides_duplicates_and_says_so(corpus, tmp_path):
    recipe = recipe_of(corpus, tmp_path / "out", "exact_dedup")
    said, result = expected(recipe), run(recipe, workers=1)
    assert result.rows.kept == ROWS - ROWS // 10
    assert inside(result.rows.kept, said.steps[0].rows)
    assert "a row sample hides duplicates" in said.notes[0]
    assert said.scratch_bytes.low > 0


def test_output_without_the_duplicates_that_the_sample_hides(tmp_path):
    """Each text five times: of dropped rows only keys are kept, so the output is a fifth of what the sample writes."""
    words = [f"w{i * 7919 % 65521}" for i in range(60_000)]
    texts = [" ".join(words[i % 6000 * 9 : i % 6000 * 9 + 60]) for i in range(30_000)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "in.parquet", row_group_size=1000)
    output = {"path": str(tmp_path / "out"), "dropped": "keys"}
    recipe = recipe_of(tmp_path / "in.parquet", tmp_path / "out", "exact_dedup", output=output)
    said, result = expected(recipe), run(recipe, workers=1)
    parts = [w.bytes for e in journal.entries(Folder(str(tmp_path / "out"))) for w in e.outputs]
    assert result.rows.kept == 6000
    assert inside(sum(parts), said.output_bytes)
    full = expected(recipe_of(tmp_path / "in.parquet", tmp_path / "full", "exact_dedup"))
    assert full.output_bytes.low > said.output_bytes.low


def test_a_stage_that_cannot_drop_leaves_what_came(corpus, tmp_path):
    said = expected(recipe_of(corpus, tmp_path / "out", "sample"))
    assert said.steps[0].rows == said.rows_in
    assert said.worker_memory_bytes.high > said.worker_memory_bytes.low


def test_repeated_ids_are_no_rows_of_the_forecast(tmp_path):
    lines = [json.dumps({"text": f"text {i}", "docid": str(i // 2)}) for i in range(2000)]
    (tmp_path / "in.jsonl").write_text("\n".join(lines) + "\n")
    keys = {"input": {"path": str(tmp_path / "in.jsonl"), "id": "docid"}, "allow_quarantined": 1000}
    recipe = recipe_of(tmp_path, tmp_path / "out", "sample", **keys)
    said, result = expected(recipe), run(recipe, workers=1)
    assert (result.rows.kept, result.rows.quarantined) == (1000, 1000)
    assert inside(1000, said.steps[0].rows)
    assert said.steps[0].rows.high < 1100


def test_rows_are_drawn_from_the_whole_input_not_from_its_head(corpus, tmp_path):
    plan = planned(recipe_of(corpus, tmp_path / "out", "sample"))
    drawn = draw(plan, pieces_of(plan))
    lengths = [len(t) for table in drawn.groups for t in table["text"].to_pylist()]
    mean = sum(lengths) / len(lengths)
    whole = [len(t) for t in pq.read_table(corpus)["text"].to_pylist()]
    assert len(lengths) == 4000
    assert abs(mean - sum(whole) / len(whole)) < 5


def test_limits_refuse_the_upper_end(corpus, tmp_path):
    recipe = recipe_of(corpus, tmp_path / "out", "sample")
    with pytest.raises(GuardError, match=r"does not fit: .* where --max-disk allows 0.001"):
        run(recipe, workers=1, limits=Limits(disk=1000.0))
    assert not (tmp_path / "out" / "_curate" / "manifest.json").exists()
    assert run(recipe, workers=1, limits=Limits(disk=1e9, memory=1e10, hours=1.0)).exit == 0


def test_check_prints_it_and_refuses(curate, corpus, tmp_path):
    (tmp_path / "r.yaml").write_text(
        f"input: {{path: {corpus}}}\nstages: [sample, select: sample_hash < 0.5]\n"
    )
    flags = ("check", tmp_path / "r.yaml", "-o", tmp_path / "out", "--workers", 1)
    whole = curate(*flags, "--json")
    said = json.loads(whole.out)["forecast"]
    assert said["steps"][1]["rows"]["low"] < ROWS / 2 < said["steps"][1]["rows"]["high"]
    assert "after 1 select" in curate(*flags).out
    assert json.loads(curate(*flags, "--json", "--plan-only").out)["forecast"] is None
    refused = curate(*flags, "--max-memory", "1MB")
    assert refused.code == 1
    assert "where --max-memory allows 1" in refused.err
    wrong = curate(*flags, "--max-disk", "plenty")
    assert wrong.code == 2
    assert "as in 8GB" in wrong.err


def test_a_stage_that_cannot_work_shows_before_the_run(corpus, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "import msgspec, pyarrow as pa\nfrom curate.stage import stage\n"
        "class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):\n    pass\n"
        "@stage('mine', version=1, config=Config, reads=['text'], writes={'mine_n': pa.int32()})\n"
        "def mine(batch, config):\n    return batch\n"
    )
    from curate.stages import use_file

    use_file(file)
    recipe = recipe_of(corpus, tmp_path / "out", "mine")
    plan = freeze(recipe, [str(file)], lambda kind, data: None)
    with pytest.raises(StageError, match="mine"):
        forecast(plan, recipe, [str(file)], workers=1, max_memory_mb=2000)


def test_a_large_input_is_forecast_from_pieces(tmp_path, monkeypatch):
    """Lines of a compressed file and of a plain one, of which a part is read."""
    monkeypatch.setattr(excerpt, "WHOLE_BYTES", 10)
    monkeypatch.setattr(excerpt, "PIECE_BYTES", 4 << 10)
    lines = [json.dumps({"text": f"row {i} " + "word " * (i * 7919 % 90)}) for i in range(30_000)]
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.jsonl.gz").write_bytes(gzip.compress("\n".join(lines[:10_000]).encode(), 1))
    (tmp_path / "in/b.jsonl").write_text("\n".join(lines[10_000:]) + "\n")
    recipe = recipe_of(tmp_path / "in", tmp_path / "out", "sample", {"select": "length(text) > 200"})
    found = check(recipe, (), lambda kind, data: None, False, workers=1)
    said = found.forecast
    assert inside(30_000, said.rows_in)
    assert said.rows_in.high < 1.5 * said.rows_in.low
    assert inside(sum(len(json.loads(line)["text"]) > 200 for line in lines), said.steps[1].rows)
    assert (found.files, found.units, found.passes[0].state) == (2, None, "unknown")
    assert "pieces of 2 of 2 input files" in found.checked[0]
    assert "stand for the rest" in said.notes[0]
    assert said.notes[1].endswith("which stands for all of them: a.jsonl.gz")
    assert not (tmp_path / "out").exists()
    assert check(recipe, (), lambda kind, data: None, False, plan_only=True).units == 2


def test_limits_are_kept_before_a_large_input_is_read_in_full(tmp_path, monkeypatch):
    monkeypatch.setattr(excerpt, "WHOLE_BYTES", 10)
    monkeypatch.setattr(excerpt, "PIECE_BYTES", 4 << 10)
    lines = [json.dumps({"text": f"row {i} " + "word " * 50}) for i in range(10_000)]
    (tmp_path / "in.jsonl").write_text("\n".join(lines) + "\n")
    recipe = recipe_of(tmp_path / "in.jsonl", tmp_path / "out", "sample")
    seen = []
    with pytest.raises(GuardError, match=r"where --max-disk allows 0\.01"):
        run(recipe, workers=1, limits=Limits(disk=10_000.0), listen=lambda kind, data: seen.append(kind))
    assert seen == []
    assert not (tmp_path / "out/_curate/plan.json").exists()
    done = run(recipe, workers=1, limits=Limits(disk=1e9), listen=lambda kind, data: seen.append(kind))
    assert (done.rows.kept, seen.count("scan"), seen.count("plan")) == (10_000, 1, 1)


def test_as_many_rows_as_are_assumed(corpus, tmp_path):
    """Everything grows with the rows; a phase of a global stage stands by itself."""
    recipe = recipe_of(corpus, tmp_path / "out", "sample", {"select": "sample_hash < 0.5"}, "exact_dedup")
    more = forecast(planned(recipe), recipe, workers=1, max_memory_mb=2000, assume_rows=1000 * ROWS)
    assert more.rows_in == Range(*[1000.0 * ROWS] * 3)
    assert inside(500 * ROWS, more.steps[1].rows)
    assert 500 * ROWS * 20 < more.scratch_bytes.likely < 500 * ROWS * 400
    assert more.seconds.low > 10
    assert [(p.step, p.phase) for p in more.phases] == [("exact_dedup", p) for p in ("hash_rows", "group")]
    assert more.phases[0].scratch_bytes.low > 500 * ROWS * 10
    assert any(line.startswith("phase    exact_dedup.hash_rows:") for line in more.lines())


@pytest.mark.slow
def test_a_forecast_for_a_terabyte_and_for_a_hundred(corpus, tmp_path):
    """A worker's memory stays below its cap; rows, disk and time grow together (and files are merged in more rounds)."""
    recipe = recipe_of(corpus, tmp_path / "out", "minhash_dedup")
    one, hundred = (
        forecast(planned(recipe), recipe, workers=64, max_memory_mb=2048, assume_rows=rows)
        for rows in (10**10, 10**12)
    )
    tasks = [(p.phase, p.tasks == 1, p.merges) for p in one.phases]
    assert tasks == [
        ("sign", False, 2),
        ("band", False, 0),
        ("component", True, 0),
        ("gather", False, 2),
        ("cluster", False, 0),
    ]
    assert [p.merges for p in hundred.phases] == [3, 0, 0, 3, 0]
    for said in (one, hundred):
        assert 100e6 < said.worker_memory_bytes.low < said.worker_memory_bytes.high < 2048 << 20
        assert sum(p.scratch_bytes.likely for p in said.phases) <= 1.01 * said.scratch_bytes.likely
        assert said.steps[0].cpu_seconds.low > 0
    assert 80 < hundred.scratch_bytes.likely / one.scratch_bytes.likely < 200
    assert 20 < hundred.seconds.likely / one.seconds.likely < 500


def test_bytes_to_download_are_judged_with_the_others(corpus, tmp_path):
    said = expected(recipe_of(corpus, tmp_path / "out", "sample"))
    limits = Limits(disk=said.disk_bytes.high + 1000)
    limits.refuse(said)
    said.download_bytes = 2000.0
    assert "of input downloaded" in "\n".join(said.lines())
    with pytest.raises(GuardError, match="--max-disk allows"):
        limits.refuse(said)
