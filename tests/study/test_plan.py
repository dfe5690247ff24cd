"""Study files: what they say, and what is wrong with one before anything runs."""

from pathlib import Path

import pytest

from curate.errors import ConfigError
from curate.study import plan

GOOD = """
name: dedup
arms:
  raw: {dataset: corpus}
  deduped: {dataset: corpus, seed_offset: 100}
  third: {dataset: corpus}
control: raw
tokenizer: tokenizer
suite: suite.yaml
primary: {metric: bpb, margin: 0.01}
metrics: [blimp, bpb]
train: {size: 1m, subset: {share: 0.5}}
seeds: 4
first_seed: 10
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("corpus", "tokenizer", "suite.yaml"):
        (tmp_path / name).touch()

    def load(text: str = GOOD) -> plan.Study:
        Path("study.yaml").write_text(text)
        return plan.load("study.yaml")

    return load


def test_seeds_metrics_and_training_of_an_arm(study):
    found = study()
    assert found.seeds_of("deduped") == [10, 11, 12, 13]
    assert found.seeds_of("raw") == [10, 11, 12, 13, 14, 15]  # 4 x sqrt(2) = 5.7
    assert found.all_metrics() == ["bpb", "blimp"]
    assert found.training("deduped", 12) == {"size": "1m", "seed": 112, "subset": {"share": 0.5, "seed": 112}}


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("control: raw", "control: row", "`control: row` is no arm"),
        ("seeds: 4", "seeds: 1", "one seed says nothing"),
        ("size: 1m", "size: 1m, seed: 3", "`train.seed`"),
        ("suite: suite.yaml", "suite: swite.yaml", "`swite.yaml` is not there"),
        ("raw: {dataset: corpus}", "raw: {dataset: corpus, recipe: r.yaml}", "one of them"),
        ("raw: {dataset: corpus}", "raw: {dataset: corpus, set: {a.b: 1}}", "go with a `recipe`"),
        ("raw: {dataset: corpus}", "r/aw: {dataset: corpus}", "no arm"),
        ("primary: {metric: bpb, margin: 0.01}", "primary: {metrik: bpb}", "metrik"),
        (
            "tokenizer: tokenizer",
            "make: {t: rm -r}\ntokenizer: t",
            "`make.t: rm -r`: rm makes no folder here",
        ),
        ("tokenizer: tokenizer", "make: {t: 'run \"x'}\ntokenizer: t", "No closing quotation"),
        ("seeds: 4", "sedes: 4", "did you mean `seeds`"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(study, old, new, says):
    with pytest.raises(ConfigError) as refused:
        study(GOOD.replace(old, new))
    assert says in f"{refused.value} {refused.value.hint}"


@pytest.mark.parametrize(
    ("line", "says"),
    [("recipe: 5", "`recipe: 5` is not a file"), ("recipe: r.yaml\nstages: x", "`stages: x` is not a list")],
)
def test_stage_by_stage_with_something_else_than_a_recipe(study, line, says):
    text = "name: s\nkind: stage_by_stage\ntokenizer: tokenizer\nsuite: suite.yaml\nprimary: {metric: bpb}\n"
    with pytest.raises(ConfigError, match=says):
        study(text + line)


def test_no_study_file(study):
    with pytest.raises(ConfigError, match="cannot read the study"):
        plan.load("nosuch.yaml")
