"""Guards, by hand: each fires with its table, does not fire below its bound, and lets through what is allowed."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.engine.run import run
from curate.errors import ConfigError, GuardError
from curate.recipe.recipe import from_tree
from curate.recipe.tree import Tree


class Place:
    """A folder with an input; runs stages over it and keeps the warnings of the last run."""

    def __init__(self, folder):
        self.folder = folder

    def rows(self, columns):
        (self.folder / "in").mkdir(exist_ok=True)
        pq.write_table(pa.table(columns), self.folder / "in/rows.parquet", row_group_size=400)

    def run(self, stages, **keys):
        tree = {"input": {"path": str(self.folder / "in")}, "stages": stages, "unit_mb": 1, **keys}
        self.warnings = []
        return run(
            from_tree(Tree(tree, "recipe"), output=str(self.folder / "out")), workers=1,
            listen=lambda kind, data: self.warnings.append(data["message"]) if kind == "warning" else None,
        )  # fmt: skip


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def languages(en=1500, de=1200, fr=900):
    lang = ["en"] * en + ["de"] * de + ["fr"] * fr
    return {"text": [f"{name} {i}" for i, name in enumerate(lang)], "lang": lang}


def stopped(place, guard, stages, **keys):
    """The error of a guard; nothing is published, and the work that is done is not done again once it is allowed."""
    with pytest.raises(GuardError) as caught:
        place.run(stages, **keys)
    assert caught.value.exit_code == 1
    assert f"--allow {guard}" in caught.value.hint
    assert not (place.folder / "out/_curate/manifest.json").exists()
    guards = keys.pop("guards", {})
    result = place.run(stages, **keys, guards={**guards, "allow": [guard]})
    assert (result.exit, result.fresh_units) == (0, 0)
    assert any(message.endswith("(allowed)") for message in place.warnings)
    return caught.value.what


def test_max_drop_per_lang_names_the_language_and_shows_all_that_are_judged(place):
    """600 of 1,200 German rows go: half. Of French there are too few to judge, though all of them go."""
    place.rows(languages())
    where = "lang = 'en' or (lang = 'de' and try_cast(right(text, 1) as integer) < 5)"
    what = stopped(
        place, "max_drop_per_lang", [{"select": {"where": where, "max_drop_per_lang": 0.4}}]
    ).splitlines()
    assert what[0] == (
        "stages[0] (select) dropped 600 of 1200 rows (50.0%) of the language `de`, "
        "more than its max_drop_per_lang of 40.0%"
    )
    table = [line.split() for line in what[2:]]
    assert table == [
        ["language", "rows", "dropped", "share"],
        ["de", "1,200", "600", "50.0%"],
        ["en", "1,500", "0", "0.0%"],
    ]


def test_max_drop_per_lang_does_not_fire_at_its_bound_nor_without_the_column(place):
    place.rows(languages())
    half = "lang <> 'de' or try_cast(right(text, 1) as integer) < 5"
    assert place.run([{"select": {"where": half, "max_drop_per_lang": 0.5}}]).exit == 0
    place.rows({"text": ["a"] * 1500 + ["b"] * 10})
    place.folder = place.folder / "other"
    place.folder.mkdir()
    place.rows({"text": ["a"] * 1500 + ["b"] * 10})
    assert place.run([{"select": {"where": "text = 'b'", "max_drop_per_lang": 0}}]).rows.kept == 10


def test_a_share_is_checked_when_the_recipe_is_read():
    with pytest.raises(ConfigError, match="`max_drop_per_lang` is a share"):
        from_tree(Tree({"input": {"path": "in"}, "stages": [{"sample": {"max_drop_per_lang": 2}}]}, "recipe"))


@pytest.mark.parametrize(
    ("guard", "keys", "where"),
    [
        ("max_drop", {"max_drop": 0.1}, "lang = 'en'"),
        ("max_drop_per_source", {"max_drop_per_source": 0.1}, "lang = 'en'"),
        ("empty", {}, "lang = 'it'"),
    ],
)
def test_every_guard_can_be_let_through_by_its_name(place, guard, keys, where):
    place.rows({**languages(), "source": ["one"] * 3600})
    stopped(place, guard, [{"select": {"where": where, **keys}}])


def test_what_drops_everything_is_told_by_stage(place):
    place.rows(languages())
    what = stopped(place, "empty", [{"select": "lang <> 'fr'"}, {"select": "lang = 'fr'"}])
    assert what.startswith("no row is left of 3600: 2700 by input lang = 'fr', 900 by input lang <> 'fr'")
    assert [line.split()[-2:] for line in what.splitlines()[3:]] == [["3,600", "900"], ["2,700", "2,700"]]


IDLE = ["c4_lines", "gopher_repetition", {"select": "gopher_repetition_pass"}, "exact_dedup"]


WORDS = (
    "A quiet harbour lay beyond several green hills where old fishermen mended torn nets, while children ran along "
    "wooden piers and counted white sails that slowly returned home before evening."
)


def sentences(rows):
    return {"text": [f"Row number {i} begins like every other one. {WORDS}" for i in range(rows)]}


def test_stages_that_change_nothing_are_named_and_stop_the_run(place):
    place.rows(sentences(1000))
    what = stopped(place, "unchanged", IDLE[:3])
    said, _, *table = what.splitlines()
    assert said == (
        "nothing was dropped, failed or edited by stages[0] (c4_lines) in 1,000 rows, "
        "stages[1] (gopher_repetition) in 1,000 rows, stages[2] (select) in 1,000 rows"
    )
    assert [line.split()[-2:] for line in table] == [["rows", "changed"], *3 * [["1,000", "0"]]]


def test_duplicates_and_what_is_rare_may_not_be_there(place):
    """Nor is a select idle that asks for the verdicts of such stages alone; beside another verdict it is."""
    place.rows(sentences(1000))
    (place.folder / "words.txt").write_text("unspeakable thing\n")
    rare = [{"bad_words": {"list": str(place.folder / "words.txt")}}, "clean_text", "pii_mask"]
    select = {"select": "bad_words_pass"}
    assert place.run([*rare, select, "exact_dedup"]).rows.kept == 1000
    assert place.warnings == [
        "nothing was dropped, failed or edited by stages[0] (bad_words) in 1,000 rows, stages[1] (clean_text) in "
        "1,000 rows, stages[2] (pii_mask) in 1,000 rows, stages[3] (select) in 1,000 rows",
        "nothing was dropped, failed or edited by stages[4] (exact_dedup) in 1,000 rows",
    ]
    place.folder = place.folder / "other"
    place.folder.mkdir()
    place.rows(sentences(1000))
    with pytest.raises(GuardError, match=r"by stages\[3\] \(select\) in 1,000 rows\n"):
        place.run([*rare, {"select": "bad_words_pass and length(text) > 9"}])


def test_unchanged_may_only_warn(place):
    place.rows(sentences(1000))
    assert place.run(["c4_lines"], guards={"unchanged": "warn"}).exit == 0
    assert place.warnings == ["nothing was dropped, failed or edited by stages[0] (c4_lines) in 1,000 rows"]


def test_few_rows_and_stages_that_change_one_row_are_not_called_idle(place):
    place.rows(sentences(999))
    place.run(["c4_lines"])
    place.folder = place.folder / "other"
    place.folder.mkdir()
    texts = sentences(1200)["text"]
    place.rows({"text": [*texts, texts[7], f"no sentence\n{WORDS}", "again again again again again again"]})
    assert place.run(["sample", *IDLE[1:], "c4_lines"]).rows.kept == 1201
    assert not place.warnings


def test_names_of_guards_are_checked():
    for guards, said in (
        ({"allow": ["max_dorp"]}, "max_dorp"),
        ({"max_language_eta2": 2}, "max_language_eta2"),
    ):
        with pytest.raises(ConfigError, match=said):
            from_tree(Tree({"input": {"path": "in"}, "stages": ["sample"], "guards": guards}, "recipe"))


def test_how_sure_language_identification_is_may_differ_by_language(place):
    """One sentence each, so that the language explains all of its score."""
    sentences = (
        "The old house stands by the river and the children play there.",
        "Das alte Haus steht am Fluss, und die Kinder spielen dort.",
        "La vieille maison se trouve au bord de la rivière.",
    )
    place.rows({"text": [f"{sentences[i % 3]} {i // 900}" for i in range(2700)]})
    result = place.run(["language_id", {"select": "lang_score >= 0.1"}], guards={"unchanged": "warn"})
    assert result.rows.kept == 2700
