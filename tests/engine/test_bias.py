"""Scores explained by source, language or length: by hand, against slow Python, and whatever the order of merging."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.engine import bias
from curate.engine import guards as guarding
from curate.engine.journal import StepCount
from curate.engine.run import run
from curate.errors import GuardError
from curate.io.query import Predicate
from curate.recipe.recipe import from_tree
from curate.recipe.tree import Tree

FLOATS = st.floats(-1e6, 1e6, allow_nan=False, width=32)


def batch(score, **columns):
    rows = len(score)
    found = {"id": [f"row {i}" for i in range(rows)], "score": pa.array(score, pa.float64())}
    return pa.record_batch({**found, **columns})


def test_moments_by_hand():
    """Mean 3, squares about it 4 + 1 + 0 + 1 + 4; a null and NaN are rows without a score."""
    count = bias.measure(batch([1, 2, None, 3, float("nan"), 4, 5], source=["s"] * 7), "score")
    assert count.sources == {"s": [7, 5, 3, 10, 1, 5]}
    assert count.langs == {"": [7, 5, 3, 10, 1, 5]}
    assert count.sample == {}


def test_eta_squared_by_hand():
    """Means 1 and 5 about 3: 2 * 4 + 2 * 4 between; (0 1 1)^2 within: 1 + 1 + 1 + 1. 16 / 20."""
    count = bias.measure(batch([0, 2, 4, 6], lang=["a", "a", "b", "b"]), "score")
    assert bias.eta_squared(count.langs) == pytest.approx(16 / 20)
    assert bias.eta_squared({"a": [3, 3, 1, 0, 1, 1]}) == 0
    assert bias.eta_squared({}) == 0


def test_rank_correlation_by_hand():
    """d = 0 1 1 0: 1 - 6 * 2 / (4 * 15); ties have their mean rank; a constant has none."""
    assert bias.rank_correlation(np.array([1.0, 2, 3, 4]), np.array([1.0, 3, 2, 4])) == pytest.approx(0.8)
    assert bias.rank_correlation(np.array([1.0, 1, 2]), np.array([5.0, 5, 9])) == pytest.approx(1)
    assert bias.rank_correlation(np.array([7.0, 7, 7]), np.array([1.0, 2, 3])) == 0


@given(st.lists(st.tuples(st.sampled_from("abc"), FLOATS), min_size=2, max_size=60), st.integers(1, 60))
@settings(deadline=None)
def test_eta_squared_is_that_of_all_rows_however_they_were_cut(rows, cut):
    lang, score = [row[0] for row in rows], np.array([row[1] for row in rows], float)
    total: dict = {}
    for piece in range(0, len(rows), cut):
        part = slice(piece, piece + cut)
        bias.merge_scores(total, {"score": bias.measure(batch(score[part], lang=lang[part]), "score")})
    between = sum(
        lang.count(a) * (score[[x == a for x in lang]].mean() - score.mean()) ** 2 for a in set(lang)
    )
    spread = float(np.square(score - score.mean()).sum())
    expected = between / spread if spread > 1e-6 else None
    if expected is not None:
        assert bias.eta_squared(total["score"].langs) == pytest.approx(expected, abs=1e-6)


def slow_spearman(x, y):
    """Ranks by counting, then Pearson's formula; None where one does not vary."""
    ranks = [[sum(w < v for w in z) + (sum(w == v for w in z) + 1) / 2 for v in z] for z in (x, y)]
    (a, b), n = ranks, len(x)
    middle = (n + 1) / 2
    spread = [sum((r - middle) ** 2 for r in z) for z in ranks]
    together = sum((r - middle) * (s - middle) for r, s in zip(a, b, strict=True))
    return together / (spread[0] * spread[1]) ** 0.5 if all(spread) else 0.0


@given(st.lists(st.tuples(FLOATS, st.integers(0, 50)), min_size=3, max_size=80))
@settings(deadline=None)
def test_rank_correlation_is_the_slow_one(rows):
    x, y = (np.array(values, float) for values in zip(*rows, strict=True))
    assert bias.rank_correlation(x, y) == pytest.approx(slow_spearman(x, y), abs=1e-9)


@given(st.permutations(range(12)))
@settings(deadline=None, max_examples=20)
def test_the_sample_does_not_know_the_order_of_the_units(order):
    """600 rows of `a` in 12 units of 50: of all of them those with the smallest hashes."""
    rng = np.random.default_rng(1)
    score, text = rng.random(600), ["x" * int(n) for n in rng.integers(1, 90, 600)]
    whole = batch(score, text=text, lang=["a"] * 600)
    total: dict = {}
    for unit in order:
        piece = {"score": bias.measure(whole.slice(50 * unit, 50), "score")}
        bias.merge_scores(total, piece)
    (rows,) = total["score"].sample.values()
    assert rows == bias.measure(whole, "score").sample["a"]
    assert len(rows) == bias.SAMPLE * bias.ROW.itemsize


def test_a_unit_of_many_languages_keeps_a_small_sample_of_each():
    """300 languages of 20 rows: 199 by themselves, the rest together; 1,000 rows in all."""
    lang = [f"l{i % 300:03d}" for i in range(6000)]
    counts: dict = {}
    found = bias.measure(batch(np.arange(6000.0), text=["x"] * 6000, lang=lang), "score")
    bias.merge_scores(counts, {"score": found}, bias.UNIT_SAMPLE)
    sizes = [len(rows) // bias.ROW.itemsize for rows in counts["score"].sample.values()]
    assert len(counts["score"].langs) == bias.MAX_GROUPS + 1
    assert len(sizes) == bias.MAX_GROUPS + 1
    assert sum(sizes) <= bias.UNIT_SAMPLE
    assert min(sizes) >= 4


def go(where, rows=1200, guards=None, **columns):
    """What the guards say of a select over rows with a column `score`, in units of 100 rows."""
    columns = {"id": [f"row {i}" for i in range(rows)], "text": [f"text {i}" for i in range(rows)], **columns}
    table = pa.table(columns).combine_chunks()
    tree = {"input": {"path": "in"}, "stages": [{"select": where}], "guards": guards or {}}
    recipe = from_tree(Tree(tree, "recipe"))
    types = {field.name: field.type for field in table.schema}
    watch = bias.watch(
        Predicate(where, types), recipe.steps[0], bias.scores_of(recipe, table.schema), table.schema
    )
    total: dict = {}
    for unit in table.to_batches(max_chunksize=100) if watch else ():
        counts: dict = {}
        watch.add(counts, unit)
        bias.merge_scores(total, counts)
    found = list(guarding._scores(recipe.steps[0], StepCount(rows=rows, scores=total), recipe))
    return guarding.settle(found, recipe.guards)


VARIED = [(i * 37 % 101) / 101 for i in range(1200)]


def thirds(*names):
    return [names[i % len(names)] for i in range(1200)]


def test_a_score_that_is_constant_in_a_source_stops_the_run():
    score = [0.25 if i % 3 == 1 else VARIED[i] for i in range(1200)]
    columns = {"score": score, "source": thirds("books", "code", "web")}
    with pytest.raises(GuardError, match="is the same in all rows of the source `code`") as caught:
        go("score > 0.2", **columns)
    lines = [line.split() for line in caught.value.what.splitlines()[2:]]
    assert lines[0] == ["source", "rows", "scored", "mean", "deviation", "least", "largest"]
    assert lines[1] == ["code", "400", "400", "0.25", "0", "0.25", "0.25"]
    assert [line[0] for line in lines[2:]] == ["books", "web"]
    (told,) = go("score > 0.2", **columns, guards={"allow": ["constant_score"]})
    assert told.endswith("of the source `code` (allowed)")


def test_a_score_that_is_constant_everywhere_stops_the_run():
    with pytest.raises(GuardError, match="is the same in all rows"):
        go("text <> 'text 7' and score < 2", score=[1.0] * 1200)


def test_a_source_without_any_score_is_constant():
    score = [None if i % 3 == 1 else VARIED[i] for i in range(1200)]
    with pytest.raises(GuardError, match="of the source `code`"):
        go("score > 0.2", score=score, source=thirds("books", "code", "web"))


@pytest.mark.parametrize(
    ("where", "columns"),
    [
        ("score > 0.2", {"score": VARIED, "source": thirds("a", "b")}),  # it varies
        ("score > 0.2", {"score": VARIED[:900], "source": ["a"] * 900, "rows": 900}),  # too few rows
        ("source <> 'b' or score > 0.2", {"score": [0.5] * 1200, "source": thirds("a", "b")}),  # no bound on all rows
        ("score >= 1", {"score": [3] * 1200}),  # a whole number counts something
        ("text <> ''", {"score": [0.5] * 1200}),  # no select cuts on it
    ],
)  # fmt: skip
def test_what_is_no_constant_score(where, columns):
    assert go(where, **columns) == []


def test_a_score_that_the_language_explains_stops_the_run():
    """0.8 and more in English, 0.2 and less in German: means .85 and .15, deviations .03."""
    score = [VARIED[i] / 10 + (0.8 if i % 2 else 0.1) for i in range(1200)]
    columns = {"score": score, "lang": thirds("de", "en")}
    with pytest.raises(
        GuardError, match=r"explained by language: eta squared 0.99, above .* of 0.5"
    ) as caught:
        go("score > 0.5", **columns)
    assert [line.split()[:2] for line in caught.value.what.splitlines()[3:]] == [["en", "600"], ["de", "600"]]
    assert go("score > 0.5", **columns, guards={"max_language_eta2": 0.995}) == []


def test_conditions_before_the_one_on_the_score_choose_the_rows_it_is_judged_on():
    score = [VARIED[i] / 10 + (0.8 if i % 2 else 0.1) for i in range(1200)]
    assert go("lang = 'en' and score > 0.5", score=score, lang=thirds("de", "en")) == []


def test_a_score_that_is_length_stops_the_run():
    """In English it grows with the text, in German it does not."""
    text = ["x" * (1 + i * 31 % 997) for i in range(1200)]
    score = [len(text[i]) ** 0.5 if i % 2 else VARIED[i] for i in range(1200)]
    columns = {"text": text, "score": score, "lang": thirds("de", "en")}
    with pytest.raises(GuardError, match=r"by length in the language `en`: Spearman 1\.00") as caught:
        go("score > 0.5", **columns, guards={"allow": ["score_by_language"]})
    lines = [line.split() for line in caught.value.what.splitlines()[3:]]
    assert [line[:2] for line in lines] == [["en", "500"], ["de", "500"]]
    assert abs(float(lines[1][2])) < 0.2
    assert go("score > 0.5", **columns, guards={"max_length_spearman": 1, "max_language_eta2": 1}) == []


def test_a_recipe_names_further_scores():
    with pytest.raises(GuardError, match="`grade`, on which"):
        go("grade >= 3", grade=[3] * 1200, guards={"scores": ["grade"]})


def test_the_scores_that_stages_declare_are_judged():
    recipe = from_tree(
        Tree({"input": {"path": "in"}, "stages": ["language_id", {"stage": "gopher_quality"}]}, "recipe")
    )
    brought = pa.schema({"text": pa.large_string(), "quality": pa.float32(), "rank": pa.int32()})
    assert bias.scores_of(recipe, brought) == {"quality": "", "lang_score": "language_id"}


def test_a_run_stops_at_a_score_and_goes_on_when_it_is_allowed(tmp_path):
    (tmp_path / "in").mkdir()
    table = {"text": [f"text {i}" for i in range(1200)], "score": [0.5] * 1200}
    pq.write_table(pa.table(table), tmp_path / "in/rows.parquet")

    def again(**keys):
        tree = {"input": {"path": str(tmp_path / "in")}, "stages": [{"select": "score > 0.3"}], **keys}
        return run(from_tree(Tree(tree, "recipe"), output=str(tmp_path / "out")), workers=1)

    with pytest.raises(GuardError, match=r"`score`, on which .* cuts, is the same in all rows") as caught:
        again()
    assert "--allow constant_score" in caught.value.hint
    assert not (tmp_path / "out/_curate/manifest.json").exists()
    result = again(guards={"allow": ["constant_score", "unchanged"]})
    assert (result.exit, result.rows.kept, result.fresh_units) == (0, 1200, 0)


def test_the_same_counts_with_one_worker_and_with_three(tmp_path):
    """Journals say the same of the scores, to the last bit."""
    (tmp_path / "in").mkdir()
    for number in range(4):
        rows = range(500 * number, 500 * number + 500)
        table = {"text": [f"{'y' * (i % 50)} {i}" for i in rows], "score": [i * 37 % 101 / 7 for i in rows],
                 "lang": [f"l{i % 4}" for i in rows]}  # fmt: skip
        pq.write_table(pa.table(table), tmp_path / f"in/{number}.parquet")
    found = []
    for workers in (1, 3):
        tree = {"input": {"path": str(tmp_path / "in")}, "stages": [{"select": "score > 0.3"}]}
        out = tmp_path / f"out{workers}"
        run(from_tree(Tree(tree, "recipe"), output=str(out)), workers=workers)
        from curate.engine import journal
        from curate.io.files import Folder

        found.append(journal.totals(journal.entries(Folder(str(out)))).steps["0"].scores)
    assert found[0] == found[1]
    assert set(found[0]["score"].langs) == {"l0", "l1", "l2", "l3"}
