"""The phases of minhash_dedup over files in a folder, against truth by brute force on real documents."""

import itertools
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.engine import shuffle
from curate.errors import ConfigError, DataError
from curate.schema import text_buffers
from curate.stage import Task
from curate.stages import minhash_dedup as stage
from curate.stages.minhash_dedup import Config, Highest, Novel, check_header, minhash_dedup, notes, plan_of

DATA = Path(__file__).parents[2].parent / "shared/data"
UNIT = 1 << 40
SHAPE = pa.schema({
    "id": pa.string(), "text": pa.large_string(), "date": pa.string(), "source": pa.string(), "score": pa.float64(),
    "order": pa.uint64(),
})  # fmt: skip
ALL_BANDS = {"bands": 128, "rows": 1}  # proposes nearly every pair that has a shingle in common


class Source:
    """Rows of one unit and records for a task, as the engine gives them."""

    def __init__(self, batches=(), records=None):
        self._batches, self._records = batches, records

    def batches(self):
        return iter(self._batches)

    def merged(self):
        table = self._records
        return (
            iter(table.slice(i, 100) for i in range(0, table.num_rows, 100))
            if table is not None
            else iter(())
        )


class Sink:
    """Collects what a phase writes."""

    def __init__(self, scratch, memory=1 << 28):
        self.scratch, self.memory = scratch, memory
        self.tables, self.kept, self.dropped = [], [], []

    def write(self, table):
        self.tables.append(table)

    def keep(self, batch):
        self.kept += batch.to_pylist()

    def drop(self, batch, reasons):
        for i, row in enumerate(batch.to_pylist()):
            self.dropped.append(row | {name: values[i].as_py() for name, values in reasons.items()})

    def sorted(self, key):
        table = pa.concat_tables(self.tables) if self.tables else None
        return shuffle.sort(table, key) if table is not None else None


def dedup(units, config, scratch, ranges=1, memory=1 << 28):
    """Run all phases; returns kept and dropped rows, and the counts of all phases."""
    batches = []
    for number, unit in enumerate(units):
        rows = [row | {"order": number * UNIT + i} for i, row in enumerate(unit)]
        batches.append([pa.RecordBatch.from_pylist(rows[i : i + 50], SHAPE) for i in range(0, len(rows), 50)])
    records, counts = None, {}
    for phase in minhash_dedup.phases[:-1]:
        sink = Sink(scratch, memory)
        if phase.over == "units":
            tasks = [Source(unit, of_unit(records, i)) for i, unit in enumerate(batches)]
        elif records is None:
            tasks = []
        else:
            first = records[records.schema.names[0]].to_numpy()
            cuts = shuffle.key_ranges(ranges, 1) if phase.over == "ranges" else [(0, shuffle.U64_MAX)]
            tasks = [Source(records=records.filter(pa.array((first >= a) & (first <= b)))) for a, b in cuts]
        for task in tasks:
            for name, count in phase.run(Task(0), task, sink, config).items():
                counts[name] = counts.get(name, 0) + count
        records = sink.sorted(phase.key)
    result = Sink(scratch)
    for i, unit in enumerate(batches):
        stage.apply(Task(i), Source(unit, of_unit(records, i)), result, config)
    return result.kept, result.dropped, counts


def of_unit(records, number):
    if records is None or "order" not in records.schema.names:
        return records
    return records.filter(pa.array(records["order"].to_numpy() >> np.uint64(40) == number))


def row(name, text, **columns):
    return {"id": name, "text": text, **columns}


def documents(count, *files):
    found = []
    for file in files:
        table = pq.read_table(DATA / file)
        found += [row(f"{file}-{i}", text) for i, text in enumerate(table["text"].to_pylist())]
    return found[:count]


def shingle_sets(rows):
    from curate.kernels.shingles import shingles

    found = shingles(*text_buffers(pa.array([r["text"] for r in rows], pa.large_string())))
    return [found.hashes[a:b] for a, b in itertools.pairwise(found.offsets)]


def true_pairs(sets, threshold):
    """Every pair (i, j, Jaccard) from the threshold on, by counting what each pair shares."""
    members = np.repeat(np.arange(len(sets)), [len(s) for s in sets])
    order = np.argsort(np.concatenate(sets), kind="stable")
    hashes, owners = np.concatenate(sets)[order], members[order]
    ends = np.append(np.flatnonzero(hashes[1:] != hashes[:-1]) + 1, len(hashes))
    shared = {}
    for begin, end in itertools.pairwise([0, *ends.tolist()]):
        for pair in itertools.combinations(owners[begin:end].tolist(), 2):
            shared[pair] = shared.get(pair, 0) + 1
    found = [(a, b, n / (len(sets[a]) + len(sets[b]) - n)) for (a, b), n in shared.items()]
    return [pair for pair in found if pair[2] >= threshold]


WORDS = [f"word{i}" for i in range(400)]


def long(start, changed=0):
    """100 words, the last `changed` of them new: Jaccard with the unchanged (96 - changed) / (96 + changed)."""
    return " ".join(WORDS[start : start + 100 - changed] + [f"new{start}x{i}" for i in range(changed)])


def test_by_hand(tmp_path):
    units = [
        [row("a", long(0)), row("b", long(200)), row("empty", None), row("short", "Just three words")],
        [
            row("c", long(0, 5)),
            row("d", long(0, 30)),
            row("same", "just THREE words!"),
            row("not", "just two"),
        ],
    ]
    kept, dropped, counts = dedup(units, Config(**ALL_BANDS), tmp_path)
    sizes = [(r["id"], r["minhash_dedup_cluster_size"], r["minhash_dedup_cluster_id"]) for r in kept]
    assert sizes == [
        ("a", 2, "a"), ("b", 1, "b"), ("empty", None, None), ("short", 2, "short"), ("d", 1, "d"), ("not", 1, "not"),
    ]  # fmt: skip
    by_id = {r["id"]: r for r in dropped}
    assert set(by_id) == {"c", "same"}
    assert (by_id["c"]["kept_id"], by_id["c"]["drop_reason"]) == ("a", "near_duplicate")
    assert by_id["c"]["drop_value"] == pytest.approx(91 / 101)
    assert by_id["c"]["drop_threshold"] == 0.8
    assert (by_id["same"]["kept_id"], by_id["same"]["drop_reason"]) == ("short", "duplicate")
    assert by_id["same"]["drop_value"] == 1.0
    assert (counts["documents"], counts["short"], counts["dropped"]) == (7, 3, 2)
    assert counts["compared"] == 2  # d with a, and c with a; the short ones need no comparison


def test_nothing_goes_by_way_of_a_chain(tmp_path):
    """A ~ B and B ~ C, but not A ~ C: the middle one goes, both ends stay; in another order the middle one stays alone."""
    words = WORDS[:108]
    a, b, c = (row(n, " ".join(words[i : i + 100])) for n, i in (("a", 0), ("b", 4), ("c", 8)))
    kept, dropped, _ = dedup([[a, b, c]], Config(threshold=0.9, **ALL_BANDS), tmp_path)
    assert [r["id"] for r in kept] == ["a", "c"]
    assert [(r["id"], r["kept_id"]) for r in dropped] == [("b", "a")]
    kept, dropped, _ = dedup([[b, c, a]], Config(threshold=0.9, **ALL_BANDS), tmp_path)
    assert [r["id"] for r in kept] == ["b"]
    assert {r["id"]: r["kept_id"] for r in dropped} == {"c": "b", "a": "b"}


@pytest.fixture(scope="module")
def versions():
    return documents(500, "dedup/powershell_docs_versions_dev.parquet")


@pytest.fixture(scope="module")
def versions_truth(versions):
    return true_pairs(shingle_sets(versions), 0.8)


def test_who_is_dropped_is_verified_and_no_two_kept_are_duplicates(versions, versions_truth, tmp_path):
    kept, dropped, _ = dedup([versions[:200], versions[200:]], Config(**ALL_BANDS), tmp_path)
    assert len(kept) + len(dropped) == 500
    assert len(dropped) > 200
    number = {r["id"]: i for i, r in enumerate(versions)}
    jaccard = {frozenset(pair[:2]): pair[2] for pair in versions_truth}
    survivors = {r["id"] for r in kept}
    for lost in dropped:
        assert lost["kept_id"] in survivors
        if lost["drop_reason"] == "near_duplicate":
            pair = frozenset((number[lost["id"]], number[lost["kept_id"]]))
            assert lost["drop_value"] == pytest.approx(jaccard[pair])
    for a, b, _ in versions_truth:
        assert versions[a]["id"] not in survivors or versions[b]["id"] not in survivors
    assert sum(r["minhash_dedup_cluster_size"] for r in kept) == 500


def test_the_walk_is_the_greedy_one_in_keep_order(versions, versions_truth, tmp_path):
    near = {}
    for a, b, _ in versions_truth:
        near.setdefault(a, set()).add(b)
        near.setdefault(b, set()).add(a)
    order = sorted(range(500), key=lambda i: (-len(versions[i]["text"].encode()), i))
    expected, texts = set(), {}
    for i in order:
        twin = texts.setdefault(versions[i]["text"], i)
        if twin == i and not near.get(i, set()) & expected:
            expected.add(i)
    kept, _, _ = dedup([versions], Config(keep="longest", **ALL_BANDS), tmp_path)
    assert {r["id"] for r in kept} == {versions[i]["id"] for i in expected}


@pytest.mark.parametrize("keep", ["longest", Highest("score")])
def test_who_survives_does_not_depend_on_units_ranges_or_the_order_of_files(versions, keep, tmp_path):
    rows = [
        r | {"text": f"{r['text']}\n{'x' * i}", "score": float(i % 7) + i / 1000}
        for i, r in enumerate(versions)
    ]
    found = set()
    for cut, ranges, seed in ((500, 1, 0), (70, 5, 1), (33, 2, 2)):
        mixed = random.Random(seed).sample(rows, len(rows))
        units = [mixed[i : i + cut] for i in range(0, 500, cut)]
        kept, dropped, _ = dedup(units, Config(keep=keep), tmp_path, ranges)
        fates = {r["id"]: r["id"] for r in kept} | {r["id"]: r["kept_id"] for r in dropped}
        sizes = {r["id"]: r["minhash_dedup_cluster_size"] for r in kept}
        found.add((tuple(sorted(fates.items())), tuple(sorted(sizes.items()))))
    assert len(found) == 1


def test_a_component_on_disk_is_walked_as_one_in_memory(versions, tmp_path, monkeypatch):
    rows = [
        row(f"{i}", f"{long(0, i % 60)} {' '.join(f'own{i}y{k}' for k in range(30))}") for i in range(300)
    ]
    config = Config(threshold=0.7, **ALL_BANDS)
    in_memory = dedup([rows + versions], config, tmp_path)
    assert in_memory[2]["largest_component"] >= 300
    from curate.stages import _minhash_walk

    on_disk, real = [], _minhash_walk.array
    monkeypatch.setattr(_minhash_walk, "array", lambda *rest: on_disk.append(rest[-1]) or real(*rest))
    assert dedup([rows + versions], config, tmp_path, memory=1 << 11) == in_memory
    assert (tmp_path / "parent").exists()
    assert any(on_disk)
    assert list(tmp_path.glob("shingles-*"))


def test_only_documents_of_one_scope_are_duplicates(tmp_path):
    rows = [row(f"{source}{i}", long(0, i), source=source) for source in ("x", "y", None) for i in range(3)]
    rows += [
        row("s1", "two words", source="x"),
        row("s2", "two words", source="y"),
        row("s3", "two words", source="x"),
    ]
    kept, dropped, _ = dedup([rows], Config(scope="source", **ALL_BANDS), tmp_path)
    assert {r["id"]: r["kept_id"] for r in dropped} == {
        "x1": "x0", "x2": "x0", "y1": "y0", "y2": "y0", "None1": "None0", "None2": "None0", "s3": "s1",
    }  # fmt: skip
    assert len(kept) == 5


@pytest.mark.parametrize(
    ("keep", "survivor"),
    [("first", "a"), ("longest", "b"), ("newest", "c"), (Highest("score"), "d")],
)
def test_keep_names_the_survivor(keep, survivor, tmp_path):
    rows = [
        row("a", long(0), date="2020-01-01", score=float("nan")), row("b", long(0) + " more", date="soon", score=-1.0),
        row("c", long(0), date="2024-01-01"), row("d", long(0), date="2023-12-31", score=0.5),
    ]  # fmt: skip
    kept, dropped, _ = dedup([rows], Config(keep=keep, **ALL_BANDS), tmp_path)
    assert [(r["id"], r["minhash_dedup_cluster_size"]) for r in kept] == [(survivor, 4)]
    assert {r["kept_id"] for r in dropped} == {survivor}


def test_ranks_order_numbers_of_every_type():
    values = [None, 3, -5, 0, 127, -128]
    for kind in (pa.int8(), pa.int64(), pa.float32(), pa.float64()):
        batch = pa.RecordBatch.from_pydict({"score": pa.array(values, kind)})
        ranks = stage.rank(batch, Config(keep=Highest("score")))
        assert np.argsort(ranks).tolist() == [4, 1, 3, 2, 5, 0]
    huge = pa.RecordBatch.from_pydict({"score": pa.array([2**63 - 1, 2**63 - 2, -(2**63)], pa.int64())})
    assert np.argsort(stage.rank(huge, Config(keep=Highest("score")))).tolist() == [0, 1, 2]
    unsigned = pa.RecordBatch.from_pydict({"score": pa.array([None, 7, 2**63 + 4, 2**63 + 5], pa.uint64())})
    assert np.argsort(stage.rank(unsigned, Config(keep=Highest("score")))).tolist() == [3, 2, 1, 0]


def test_new_words_save_a_document(tmp_path):
    rows = [row("a", long(0)), row("b", long(0, 2)), row("c", long(0, 3))]
    _, dropped, _ = dedup([rows], Config(verify=Novel(2), **ALL_BANDS), tmp_path)
    assert [r["id"] for r in dropped] == ["b"]


def test_without_verification_a_shared_band_is_enough(tmp_path):
    rows = [row("a", long(0)), row("b", long(0, 60)), row("s", "one two"), row("t", "one two")]
    _, dropped, counts = dedup([rows], Config(verify=False, **ALL_BANDS), tmp_path)
    assert [(r["id"], r["kept_id"], r["drop_value"], r["drop_reason"]) for r in dropped] == [
        ("b", "a", None, "near_duplicate"), ("t", "s", 1.0, "duplicate"),
    ]  # fmt: skip
    assert counts["compared"] == 0


def test_documents_without_words_are_told_apart_by_their_bytes(tmp_path):
    rows = [row(str(i), text) for i, text in enumerate(["", "", "!", "?", "!", " \n"])]
    _, dropped, _ = dedup([rows], Config(), tmp_path)
    assert {r["id"]: r["kept_id"] for r in dropped} == {"1": "0", "4": "2"}


def test_plans_and_what_check_says_of_them():
    assert plan_of(Config()) == (13, 7)
    assert plan_of(Config(bands=14, rows=8)) == (14, 8)
    assert plan_of(Config(scheme="datasketch")) == (9, 13)
    assert notes(Config()) == [
        "13 bands x 7 rows; share of pairs found by their Jaccard: 0.953 at 0.8, 0.993 at 0.85, 1.000 at 0.9"
    ]


def test_other_signatures_are_refused_with_both_headers_shown():
    with pytest.raises(DataError, match=r'"seed":2.*"seed":1'):
        check_header(stage.Signer(Config(seed=2)).marked(pa.table({})).schema.metadata, Config())


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"bands": 14}, "`bands` and `rows` are given together"),
        ({"bands": 14, "rows": 10}, "14 bands of 10 rows do not fit into `num_perm: 128`"),
        ({"bands": -2, "rows": -3}, "`bands` and `rows` are 1 or more"),
        ({"seed": -1}, "`seed` lies in 0 to 4294967295"),
        ({"seed": 1 << 32}, "`seed` lies in 0 to 4294967295"),
        ({"threshold": 0}, "`threshold` lies in"),
        ({"recall": 1.0}, "`recall` in"),
        ({"verify": {"max_novel_tokens": -1}}, "`max_novel_tokens` is 0 or more"),
        ({"keep": {"highest": "tags"}}, "`highest: tags` is list<item: string>, no number"),
        ({"keep": "newest"}, "`keep: newest` needs `date` as text"),
        ({"scope": "tags"}, "`scope: tags` is list<item: string>"),
        ({"num_perm": 1}, "1 permutations find at most 0.8000 of the pairs"),
        ({"keep": {"highest": "quality"}}, "`minhash_dedup` reads `quality`, which is not there"),
        ({"scope": "order"}, "cannot read a column called `order`: that is the row's place in the run"),
    ],
)
def test_options_that_cannot_be_are_refused(options, what):
    from curate.engine.plan import check_schema
    from curate.recipe.recipe import from_tree
    from curate.recipe.tree import Tree

    schema = pa.schema({
        "id": pa.string(), "text": pa.large_string(), "tags": pa.list_(pa.string()), "date": pa.date32(),
        "order": pa.int64(),
    })  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        recipe = from_tree(Tree({"input": {"path": "in"}, "stages": [{"minhash_dedup": options}]}, "recipe"))
        check_schema(recipe, schema)
    assert what in caught.value.what


def test_a_named_step_does_not_read_what_has_the_name_of_its_output():
    from curate.engine.plan import check_schema
    from curate.recipe.recipe import from_tree
    from curate.recipe.tree import Tree

    def check(*names):
        steps = [{"stage": "minhash_dedup", "name": name} for name in names]
        steps[1]["keep"] = {"highest": f"{names[0]}_cluster_size"}
        recipe = from_tree(Tree({"input": {"path": "in"}, "stages": steps}, "recipe"))
        return check_schema(recipe, pa.schema({"id": pa.string(), "text": pa.large_string()}))

    with pytest.raises(
        ConfigError, match="a column called `minhash_dedup_cluster_size`: that is what it calls"
    ):
        check("minhash_dedup", "again")
    assert "again_cluster_size" in check("first", "again").names


def test_survivors_of_a_large_component_come_in_bounded_tables(tmp_path, monkeypatch):
    from curate.stages import _minhash_walk

    rows = [row(f"{i}-{twin}", long(0, i)) for i in range(60) for twin in "ab"]
    config = Config(threshold=1.0, **ALL_BANDS)
    whole, sizes, real = dedup([rows], config, tmp_path), [], stage.tables

    def watched(*rest):
        for table in real(*rest):
            sizes.append(int(np.sum(table["size"].to_numpy() > 0)))
            yield table

    monkeypatch.setattr(stage, "tables", watched)
    monkeypatch.setattr(_minhash_walk, "CHUNK", 10)
    assert dedup([rows], config, tmp_path) == whole
    assert whole[2]["largest_component"] == 120
    assert (sum(sizes), max(sizes)) == (60, 10)


def test_an_array_on_disk_has_its_blocks(tmp_path):
    from curate.stages._minhash_links import array

    zeros = array(tmp_path / "zeros", 100_000, np.int64, on_disk=True)
    assert not zeros.any()
    assert (tmp_path / "zeros").stat().st_blocks * 512 >= zeros.nbytes


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["fast", "datasketch"])
def test_recall_is_what_was_predicted(scheme):
    """Of all pairs of 5,000 real documents, over 20 seeds: as many are proposed as 1 - (1 - s^r)^b says."""
    from curate.kernels.minhash import band_keys, permutations, predicted_recall, signatures

    rows = real_documents()
    assert len({r["id"] for r in rows}) == 5000
    data, offsets = text_buffers(pa.array([r["text"] for r in rows], pa.large_string()))
    pairs = true_pairs(shingle_sets(rows), 0.5)
    assert len(pairs) > 2000
    a, b, s = (np.array(column) for column in zip(*pairs, strict=True))
    bands, per_band = plan_of(Config())
    recalls = []
    for seed in range(1, 21):
        signed = signatures(data, offsets, permutations(scheme, 128, seed))
        keys = band_keys(signed.signatures, bands, per_band)
        recalls.append(float((keys[a] == keys[b]).any(axis=1).mean()))
    expected = float(np.mean([predicted_recall(x, bands, per_band) for x in s]))
    error = float(np.std(recalls, ddof=1)) / len(recalls) ** 0.5
    assert abs(np.mean(recalls) - expected) < 3 * error, (np.mean(recalls), expected, error)


def real_documents():
    """5,000: versions of the same pages, and passages of other texts."""
    found = documents(5000, "dedup/powershell_docs_versions_dev.parquet")
    for file in sorted((DATA / "text").glob("*.parquet")):
        for text in pq.read_table(file, columns=["text"])["text"].to_pylist():
            if len(found) == 5000:
                return found
            found.append(row(f"{file.stem}-{len(found)}", text[:4000]))
    return found
