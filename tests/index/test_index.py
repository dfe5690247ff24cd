"""An index beside runs from scratch: what is added, taken out and merged has the fates it would have had from the start."""

import gzip
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer import Exit

import curate.cli.why as from_cli
import curate.engine.run as engine
from curate.engine.remember import add_corpus
from curate.errors import ConfigError, CurateError, DataError
from curate.index.export import to_datasketch
from curate.index.index import KEPT, Index, create
from curate.index.merge import merge
from curate.index.removal import remove
from curate.recipe.recipe import from_tree
from curate.recipe.tree import Tree
from curate.schema import text_buffers
from curate.stages.minhash_dedup import Config, Signer, index_header

DATA = Path(__file__).parents[2].parent / "shared/data"


@pytest.fixture(scope="module")
def rows():
    """240 documents: versions of the same pages, and some that are too short."""
    table = pq.read_table(DATA / "dedup/powershell_docs_versions_dev.parquet", columns=["text"])
    texts = [text[:1500] for text in table["text"].to_pylist()[:200]]
    texts += [f"number {i % 9}" for i in range(20)] + [f"{texts[i]} and {i} more" for i in range(20)]
    return [(f"d{i}", texts[(i * 97) % 240]) for i in range(240)]


def corpus(folder, rows):
    folder.mkdir()
    ids, texts = zip(*rows, strict=True)
    table = pa.table({"id": ids, "text": pa.array(texts, pa.large_string())})
    pq.write_table(table.slice(0, len(rows) // 2), folder / "0.parquet")
    pq.write_table(table.slice(len(rows) // 2), folder / "1.parquet")
    return str(folder)


def recipe(source, out, options, **keys):
    tree = {
        "input": {"path": source, "id": "id"}, "stages": [{"minhash_dedup": options}], "output": {"path": str(out)},
        "store": f"{out}-store", "guards": {"allow": ["max_drop", "empty"]}, "allow_empty": True, **keys,
    }  # fmt: skip
    return from_tree(Tree(tree, "recipe"))


def dedup(source, out, **options):
    engine.run(recipe(source, out, options), workers=1)
    return outcome(out)


def outcome(out):
    """Kept ids, and edges (dropped, kept, jaccard)."""
    dropped = sorted((out / "_dropped").glob("*/*.parquet"))
    columns = ["id", "kept_id", "drop_value"]
    edges = [tuple(r.values()) for t in dropped for r in pq.read_table(t, columns=columns).to_pylist()]
    kept = [
        i for t in sorted(out.glob("*.parquet")) for i in pq.read_table(t, columns=["id"])["id"].to_pylist()
    ]
    return sorted(kept), sorted(edges)


def fates(index):
    """Kept ids, and edges (dropped, kept, jaccard), by ids."""
    edges = pa.concat_tables(index.edges())
    dropped, kept = (index.ids(edges[name].to_numpy()) for name in ("dropped", "kept"))
    everything = {i for run in index.runs for i in index.ids(run.numbers)} - removed(index)
    return sorted(everything - set(dropped)), sorted(
        zip(dropped, kept, edges["jaccard"].to_pylist(), strict=True)
    )


def removed(index):
    gone = index.changes.filter(pa.compute.equal(index.changes["fate"], 0))
    return set(index.ids(gone["number"].to_numpy()))


@pytest.fixture(scope="module")
def whole(rows, tmp_path_factory):
    """Survivors and edges of a run from scratch."""
    base = tmp_path_factory.mktemp("whole")
    kept, edges = dedup(corpus(base / "in", rows), base / "out")
    assert len(edges) > 60
    return kept, edges


@pytest.fixture(scope="module")
def built(rows, tmp_path_factory):
    """An index of the first 150 documents, then of the rest."""
    base = tmp_path_factory.mktemp("built")
    index = create(str(base / "index"), index_header(Config()))
    add_corpus(str(index.path), corpus(base / "a", rows[:150]), workers=1)
    add_corpus(str(index.path), corpus(base / "b", rows[150:]), workers=1)
    return index.path


def test_what_was_added_piece_by_piece_has_the_fates_of_a_run_from_scratch(whole, built):
    index = Index(str(built))
    assert (len(index.runs), index.documents, index.kept) == (2, 240, len(whole[0]))
    assert fates(index) == whole
    assert not (built / "work").exists()


def test_what_is_left_after_a_removal_has_the_fates_of_a_run_without_it(rows, whole, built, tmp_path):
    shutil.copytree(built, tmp_path / "index")
    behind = {kept for _, kept, _ in whole[1]}
    gone = sorted(behind)[::2] + [i for i in whole[0] if i not in behind][:10] + [whole[1][0][0]]
    for some in (gone[:5], gone[5:], ["never there"]):
        found = remove(Index(str(tmp_path / "index")), some)
        assert found.missing == [i for i in some if i == "never there"]
    kept, edges = dedup(corpus(tmp_path / "in", [r for r in rows if r[0] not in gone]), tmp_path / "out")
    index = Index(str(tmp_path / "index"))
    assert fates(index) == (kept, edges)
    assert (index.documents, index.kept) == (240 - len(gone), len(kept))
    assert index.manifest.removed == len(gone)
    merged = merge(index)
    assert (len(merged.runs), merged.documents, merged.kept) == (1, 240 - len(gone), len(kept))
    assert fates(merged) == (kept, edges)


def test_who_comes_back_and_who_goes_for_it_is_told(tmp_path):
    """By hand: a ~ b, b ~ c, not a ~ c. Without a, b comes back, and c goes for it."""
    words = [f"word{i}" for i in range(108)]
    texts = [" ".join(words[i : i + 100]) for i in (0, 4, 8)]
    index = create(str(tmp_path / "index"), index_header(Config(threshold=0.9, bands=128, rows=1)))
    add_corpus(str(index.path), corpus(tmp_path / "in", list(zip("abc", texts, strict=True))), workers=1)
    assert fates(Index(str(index.path)))[0] == ["a", "c"]
    found = remove(Index(str(index.path)), ["a"])
    assert (found.removed, found.back, found.dropped) == (1, ["b"], [("c", "b")])
    assert fates(Index(str(index.path)))[0] == ["b"]


def test_a_merge_changes_no_answer(rows, built, tmp_path):
    shutil.copytree(built, tmp_path / "index")
    before = Index(str(built))
    after = merge(Index(str(tmp_path / "index")))
    assert (len(after.runs), fates(after)) == (1, fates(before))
    assert sorted((tmp_path / "index/runs").iterdir()) == [
        tmp_path / "index/runs" / after.runs[0].stored.name
    ]
    for keys in (before.runs[1].keys[:500], before.runs[0].keys[-500:]):
        answers = [
            sorted(zip(*(a.tolist() for a in one.sharing(keys)), strict=True)) for one in (before, after)
        ]
        assert answers[0] == answers[1]
        assert len(answers[0]) >= 500


def test_a_run_names_the_old_document(rows, whole, built, tmp_path):
    kept, edges = dedup(corpus(tmp_path / "in", [("again", rows[0][1]), ("new", "never seen before " * 9)]), tmp_path / "out", index=str(built))  # fmt: skip
    assert kept == ["new"]
    [(lost, twin, jaccard)] = edges
    survivor = {d: k for d, k, _ in whole[1]}.get(rows[0][0], rows[0][0])
    assert (lost, twin) == ("again", survivor)
    assert jaccard >= 0.8


def test_why_knows_documents_that_only_the_index_has(rows, built, whole, tmp_path, capsys):
    """Who it is, where its text lay, and how the new one differs."""
    words = rows[0][1].split()
    source = corpus(
        tmp_path / "in", [("again", " ".join([*words, "and more"])), ("new", "never seen before " * 9)]
    )
    _, [(lost, twin, _)] = dedup(source, tmp_path / "out", index=str(built))

    def why(id):
        with pytest.raises(Exit):
            from_cli.why(str(tmp_path / "out"), id, as_json=True)
        return json.loads(capsys.readouterr().out)

    [found] = why(lost)["findings"]
    assert (found["kept"]["status"], found["row"]["kept_id"]) == ("in the index", twin)
    assert any(kind == "dropped" and "more" in text for kind, text in found["difference"]["pieces"])
    [kept] = why(twin)["findings"]
    assert (kept["status"], "dropped_for" in kept["row"]) == ("in the index", False)
    assert str(built.parent) in kept["part"]
    gone, survivor, jaccard = whole[1][0]
    [dropped] = why(gone)["findings"]
    assert (dropped["row"]["dropped_for"], dropped["row"]["jaccard"]) == (survivor, jaccard)
    assert why("never there")["status"] == "unknown"


def test_an_index_made_in_another_way_is_refused_with_both_headers_shown(built, rows, tmp_path):
    with pytest.raises(ConfigError, match=r'"seed":1.*"seed":2'):
        dedup(corpus(tmp_path / "in", rows[:2]), tmp_path / "out", index=str(built), seed=2)
    with pytest.raises(ConfigError, match="no index at"):
        dedup(str(tmp_path / "in"), tmp_path / "out", index=str(tmp_path / "none"))


def test_a_run_adds_what_it_saw_once(rows, whole, tmp_path):
    index = create(str(tmp_path / "index"), index_header(Config()))
    source = corpus(tmp_path / "in", rows)
    options = {"index": str(index.path), "update_index": True}
    with_canaries = recipe(source, tmp_path / "out", options, canaries=True)
    engine.run(with_canaries, workers=1, trial=True)  # complete, as a kill before the addition leaves it
    assert Index(str(index.path)).documents == 0
    kept, edges = dedup(source, tmp_path / "out", **options)
    assert (kept, edges) == whole
    once = Index(str(index.path))
    assert fates(once) == whole
    assert dedup(source, tmp_path / "out", **options) == whole
    assert Index(str(index.path)).digest == once.digest
    for number in (0, 7, 119, 120, 239):
        paths, row = once.place_of(int(once.runs[0].numbers[number]))
        there = [one for path in paths for one in pq.read_table(path)["id"].to_pylist()]
        assert there[row] == once.id_of(int(once.runs[0].numbers[number])) == rows[number][0]


def test_corpora_are_paths_and_globs_and_one_that_is_not_there_is_told(rows, tmp_path):
    index = create(str(tmp_path / "index"), index_header(Config()))
    with pytest.raises(CurateError, match="nowhere"):
        add_corpus(str(index.path), str(tmp_path / "nowhere"), workers=1)
    add_corpus(str(index.path), corpus(tmp_path / "in", rows[:6]) + "/*.parquet", workers=1)
    assert Index(str(index.path)).id_of(0) == rows[0][0]


def test_a_file_cut_short_is_noticed(built, tmp_path):
    shutil.copytree(built, tmp_path / "index")
    path = next((tmp_path / "index/runs").iterdir()) / "sets"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(DataError, match="gone or cut short"):
        Index(str(tmp_path / "index"))


def test_an_index_of_another_format_is_refused(built, tmp_path):
    shutil.copytree(built, tmp_path / "index")
    manifest = tmp_path / "index/manifest.json"
    manifest.write_text(manifest.read_text().replace("curate.index/2", "curate.index/1"))
    with pytest.raises(DataError, match=r"of format curate\.index/1"):
        Index(str(tmp_path / "index"))


@pytest.mark.parametrize("scheme", ["fast", pytest.param("affine32", marks=pytest.mark.slow), "datasketch"])
def test_the_exported_lsh_answers_as_the_index_does(rows, tmp_path, scheme):
    from datasketch import MinHash

    from curate.kernels.shingles import normalised, shingles

    config = Config(scheme=scheme, bands=20, rows=5)
    index = create(str(tmp_path / "index"), index_header(config))
    add_corpus(str(index.path), corpus(tmp_path / "in", rows[:60]), workers=1)
    index = Index(str(index.path))
    assert to_datasketch(index, str(tmp_path / "lsh")) <= index.kept
    lsh = pickle.loads((tmp_path / "lsh").read_bytes())
    answered = 0
    for _, text in rows[60:160]:
        column = pa.array([text], pa.large_string())
        words = normalised(text)
        if len(words) < 5:
            continue
        if scheme == "fast":
            sketch = MinHash(128, 1, hashfunc=lambda number: number & 0xFFFFFFFF)
            sketch.update_batch([int(n) for n in shingles(*text_buffers(column)).hashes])
        else:
            sketch = MinHash(128, 1, scheme={"datasketch": "legacy"}.get(scheme, scheme))
            sketch.update_batch([" ".join(words[i : i + 5]).encode() for i in range(len(words) - 4)])
        keys = Signer(config).of(pa.RecordBatch.from_arrays([column], ["text"]), sets=False).bands[0]
        numbers = np.unique(index.sharing(keys)[1])
        ours = index.ids(numbers[index.fates(numbers) == KEPT])
        assert sorted(lsh.query(sketch)) == sorted(ours)
        answered += len(ours)
    assert answered > 20


DEADLY = """
import os, sys
from curate.index.index import Index
def commit(*_, **__):
    if "curate.child" in sys.orig_argv:  # a worker, which commits additions
        os.kill(os.getppid(), 9)
    os.kill(os.getpid(), 9)
Index.commit = commit
"""
CHANGE = """
import sys
from curate.engine.remember import add_corpus
from curate.index.index import Index
from curate.index.merge import merge
from curate.index.removal import remove
path, what = sys.argv[1:3]
{"add": lambda: add_corpus(path, sys.argv[3], workers=1), "merge": lambda: merge(Index(path)),
 "remove": lambda: remove(Index(path), sys.argv[3:])}[what]()
"""


@pytest.mark.slow
def test_killed_before_it_is_committed_a_change_leaves_the_index_as_it_was(rows, built, whole, tmp_path):
    """kill -9 at the end of an addition, a removal and a merge; called again each is done, and nothing is left over."""
    path = str(tmp_path / "index")
    shutil.copytree(built, path)
    (tmp_path / "deadly").mkdir()
    (tmp_path / "deadly/sitecustomize.py").write_text(DEADLY)
    paths = os.pathsep.join([str(tmp_path / "deadly"), *filter(None, sys.path)])
    more = corpus(tmp_path / "in", [("x", rows[3][1] + " once more"), ("y", "other words " * 9)])
    changes = {
        "add": (more, lambda: add_corpus(path, more, workers=1)),
        "remove": (whole[1][0][1], lambda: remove(Index(path), [whole[1][0][1]])),
        "merge": ("", lambda: merge(Index(path))),
    }
    for what, (argument, again) in changes.items():
        before = Index(path)
        died = subprocess.run(
            [sys.executable, "-c", CHANGE, path, what, argument],
            env={**os.environ, "PYTHONPATH": paths}, capture_output=True,
        )  # fmt: skip
        assert died.returncode == -9, died.stderr
        assert (Index(path).digest, fates(Index(path))) == (before.digest, fates(before))
        again()
        after = Index(path)
        assert after.digest != before.digest
        assert {p.name for p in (after.path / "runs").iterdir()} == {run.stored.name for run in after.runs}
    assert (len(after.runs), after.documents, after.manifest.removed) == (1, 241, 1)


def test_of_a_run_of_ours_what_it_kept_comes_first_and_then_what_it_dropped(rows, whole, tmp_path):
    dedup(corpus(tmp_path / "in", rows), tmp_path / "out")
    index = create(str(tmp_path / "index"), index_header(Config()))
    add_corpus(str(index.path), str(tmp_path / "out"), workers=1)
    index = Index(str(index.path))
    assert (len(index.runs), index.runs[0].stored.kept, fates(index)) == (2, len(whole[0]), whole)


def test_streams_and_scopes_are_indexed_as_they_are_deduplicated(rows, tmp_path):
    """Compressed JSON Lines in several units, ids from a column, languages kept apart."""
    folder = tmp_path / "in"
    folder.mkdir()
    lines = [
        json.dumps({"key": f"{i}-{lang}", "text": text, "lang": lang})
        for i, text in rows[:80] for lang in ("en", None)
    ]  # fmt: skip
    for name, some in (("a", lines[:50]), ("b", lines[50:])):
        with gzip.open(folder / f"{name}.jsonl.gz", "wt") as file:
            file.write("\n".join(some))
    reading = {"path": str(folder), "id": "key", "columns": {"lang": "lang"}}
    engine.run(recipe("", tmp_path / "out", {"scope": "lang"}, input=reading), workers=1)
    kept, edges = outcome(tmp_path / "out")
    index = create(str(tmp_path / "index"), index_header(Config(scope="lang")))
    options = {"scope": "lang", "index": str(index.path), "update_index": True}
    engine.run(recipe("", tmp_path / "again", options, input=reading), workers=1)
    index = Index(str(index.path))
    assert fates(index) == (kept, edges)
    assert all(a.rpartition("-")[2] == b.rpartition("-")[2] for a, b, _ in edges)
    paths, row = index.place_of(int(index.runs[0].numbers[-1]))
    assert ([Path(p).name for p in paths], row) == (["b.jsonl.gz"], 109)
