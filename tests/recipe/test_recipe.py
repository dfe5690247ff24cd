import contextlib
import copy
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.errors import ConfigError
from curate.recipe.recipe import from_tree, load
from curate.recipe.tree import Tree, parse

GOOD = """\
name: web
input: {path: "data/*.parquet", columns: {text: content}}
stages:
  - select: "length(text) > 10"
  - exact_dedup: {keep: longest}
  - {stage: sample, name: holdout, seed: 3}
output: {path: out/web}
"""


def recipe(text, **options):
    return from_tree(parse(text, "web.yaml"), **options)


def error(text, **options):
    with pytest.raises(ConfigError) as caught:
        recipe(text, **options)
    return caught.value


def test_an_infinite_bound_is_the_largest_number_so_that_the_plan_can_hold_it():
    text = "input: {path: x}\nstages: [gopher_repetition: {max_dup_lines_ratio: .inf}]\n"
    assert recipe(text).steps[0].config["max_dup_lines_ratio"] == sys.float_info.max
    tree = {"input": {"path": "x"}, "stages": [{"gopher_repetition": {"max_dup_lines_ratio": float("inf")}}]}
    assert from_tree(Tree(tree, "recipe")).steps[0].config["max_dup_lines_ratio"] == sys.float_info.max


def test_a_good_recipe_is_read():
    found = recipe(GOOD)
    assert [s.name for s in found.steps] == ["select", "exact_dedup", "holdout"]
    assert found.steps[0].config == {"where": "length(text) > 10"}
    assert found.steps[1].config["keep"] == "longest"
    assert found.input.columns == {"text": "content"}


def test_only_true_false_null_and_numbers_are_resolved():
    tree = parse("[no, on, yes, true, null, 12, 1e3, .5, 0x10, 012, 2024-01-01, '7', 1_000]", "x").root
    assert tree == ["no", "on", "yes", True, None, 12, 1000.0, 0.5, "0x10", "012", "2024-01-01", "7", "1_000"]


def test_an_unknown_key_is_named_with_its_place_and_the_nearest_name():
    found = error(GOOD.replace("keep: longest", "kep: longest"))
    assert "unknown key `kep` in `stages[1]` (exact_dedup)" in found.what
    assert found.where == "web.yaml:5:19"
    assert found.hint == "did you mean `keep`?"


def test_an_unknown_key_of_the_input_is_named():
    found = error(GOOD.replace("columns:", "colums:"))
    assert (found.where, found.hint) == ("web.yaml:2:33", "did you mean `columns`?")


def test_an_unknown_stage_is_named_with_the_nearest():
    found = error(GOOD.replace("exact_dedup", "exact_dedupe"))
    assert "unknown stage `exact_dedupe` in `stages[1]`" in found.what
    assert found.hint == "did you mean `exact_dedup`?"


def test_a_wrong_type_names_the_key():
    found = error(GOOD.replace("seed: 3", "seed: three"))
    assert "seed" in found.what
    assert "int" in found.what


def test_a_missing_key_is_named():
    assert "`input` is missing" in error("stages: []").what


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2", "given twice"),
        ("a: &x 1\nb: *x", "anchors"),
        ("a: !!python/object/apply:os.system [ls]", "tags"),
        ("a: [1, 2", "not YAML"),
        ("[" * 5000 + "]" * 5000, "nested too deeply"),
        ("- 1", "a recipe is a mapping"),
        ("? [a]\n: 1", "plain word"),
        ("", "a recipe is a mapping"),
    ],
)
def test_yaml_that_is_no_recipe_is_refused(text, message):
    assert message in error(text).what


def test_the_same_step_name_twice_is_refused():
    assert "stands twice" in error(GOOD.replace("name: holdout", "name: exact_dedup")).what


def test_flags_win_over_the_recipe_and_are_remembered():
    found = recipe(
        GOOD,
        sets=["exact_dedup.keep=first", "stages.0.where=text is not null", "unit_mb=1"],
        output="elsewhere",
    )
    assert found.steps[1].config["keep"] == "first"
    assert found.steps[0].config["where"] == "text is not null"
    assert (found.unit_mb, found.output.path) == (1, "elsewhere")
    assert found.origins["unit_mb"] == "flag"
    assert found.origins["output.path"] == "flag"


def test_a_named_step_is_set_by_its_name():
    assert recipe(GOOD, sets=["holdout.seed=9"]).steps[2].config["seed"] == 9


def test_the_environment_stands_below_the_recipe(monkeypatch):
    monkeypatch.setenv("CURATE_STORE", "/tmp/store")
    assert recipe(GOOD).store == "/tmp/store"
    assert recipe(GOOD + "store: mine\n").store == "mine"


def test_a_flag_that_names_nothing_is_refused():
    assert "no key and no stage" in error(GOOD, sets=["stages.nothing.here=1"]).what
    assert "no stage is named `nothing`" in error(GOOD, sets=["nothing=1"]).what


def test_the_seed_of_the_recipe_reaches_stages_without_their_own():
    text = GOOD.replace(", seed: 3", "") + "seed: 11\n"
    assert recipe(text).steps[2].config["seed"] == 11
    assert recipe(GOOD + "seed: 11\n").steps[2].config["seed"] == 3


@pytest.mark.parametrize(
    ("old", "new", "hint"),
    [
        ('select: "length(text) > 10"', "select", "`where` is text, for example `where: \"lang = 'en' and length(text) > 200\"`"),
        ("seed: 3", "seed: three", "`seed` is a whole number (default: 0)"),
        ("keep: longest", "keep: longst", '`keep` is one of first, longest, newest (default: "first")'),
        ("path: out/web", "dropped: keyss", "`dropped` is one of full, keys or a mapping with the keys sample or null"),
        ("path: out/web", "dropped: {sample: x}", "`sample` is a number"),
        ("path: out/web", "dropped: {sampel: 1}", "did you mean `sample`?"),
        ("text: content", "text: 3", "an entry of `columns` is text"),
        ("exact_dedup: {keep: longest}", "gopher_quality: {stop_words: [a, 1]}", "an entry of `stop_words` is text"),
        ("exact_dedup: {keep: longest}", "checkpoint: {every: 2}", "write `- checkpoint`"),
    ],
)  # fmt: skip
def test_an_error_says_what_the_key_takes(old, new, hint):
    assert old in GOOD
    assert error(GOOD.replace(old, new)).hint == hint


def test_a_wrong_value_of_the_environment_is_named_by_its_variable(monkeypatch):
    monkeypatch.setenv("CURATE_SEED", "abc")
    assert error(GOOD).where == "CURATE_SEED"
    monkeypatch.setenv("CURATE_SEED", "1")
    monkeypatch.setenv("CURATE_UNIT_MB", "0")
    assert error(GOOD).where == "CURATE_UNIT_MB"


def test_a_dict_given_from_python_stays_as_it_is(monkeypatch):
    monkeypatch.setenv("CURATE_SEED", "4")
    tree = {"input": {"path": "x"}, "stages": ["sample", {"select": "a"}]}
    before = copy.deepcopy(tree)
    found = from_tree(Tree(tree, "t"), sets=["sample.seed=2"], output="out")
    assert tree == before
    assert (found.steps[0].config["seed"], found.output.path) == (2, "out")


def test_a_missing_file_is_a_clear_error(tmp_path):
    (tmp_path / "web.yaml").write_text(GOOD)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "wbe.yaml")
    assert "web.yaml" in caught.value.hint


@given(st.text(max_size=200))
def test_any_text_is_a_recipe_or_a_config_error(text):
    with contextlib.suppress(ConfigError):
        recipe(text)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["stage", "select", "where", "exact_dedup", "keep", "name", "when"]),
                inner,
                max_size=3,
            )
        ),
        max_leaves=12,
    )
)
def test_any_tree_of_stages_is_a_recipe_or_a_config_error(stages):
    with contextlib.suppress(ConfigError):
        from_tree(Tree({"input": {"path": "x"}, "stages": stages}, "t"))
