"""Which bounds a recipe holds, step by step."""

from pathlib import Path

import pytest

from curate.recipe.recipe import Step, from_tree
from curate.recipe.tree import Tree
from curate.report.rules import bound_in, rules_of_stage


def step(stage: dict[str, object]) -> Step:
    tree = {"input": {"path": "in.parquet"}, "stages": [stage], "output": {"path": "out"}}
    return from_tree(Tree(tree, "test", {})).steps[0]


def test_a_bound_that_is_off_is_no_rule() -> None:
    """`.inf` stands in a plan as the largest float, which no statistic passes."""
    on = {rule.option for rule in rules_of_stage(step({"gopher_quality": {}}))}
    off = {rule.option for rule in rules_of_stage(step({"gopher_quality": {"max_hash_ratio": float("inf")}}))}
    assert on - off == {"max_hash_ratio"}


def test_a_score_is_bounded_by_its_language(tmp_path: Path) -> None:
    for lang, score in (("en", 0.9), ("de_Latn", 0.7)):
        (tmp_path / f"{lang}.yaml").write_text(f"language_score: {score}\n")
    one = step({"language_id": {"thresholds": str(tmp_path)}})
    (rule,) = rules_of_stage(one)
    assert (rule.stage, rule.reason, rule.column, rule.bound, rule.keeps) == (
        "language_id", "low_score", "lang_score", None, "min",
    )  # fmt: skip
    found = [bound_in(rule, one.settings(), lang) for lang in ("en", "de", "fr", None)]
    assert found == [0.9, 0.7, None, None]
    assert list(rules_of_stage(step({"language_id": {}}))) == []


@pytest.mark.parametrize("name", ["gopher_quality", "second"])
def test_columns_have_the_steps_name(name: str) -> None:
    rules = list(rules_of_stage(step({"gopher_quality": {"name": name, "min_words": 7}})))
    assert rules[0][:5] == (name, "too_few_words", f"{name}_num_words", 7.0, "min")
