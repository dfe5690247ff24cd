"""Equal tokens and equal raw pool: epochs by hand, and what the runs of an arm are."""

import json
from pathlib import Path

import numpy as np
import pytest

from curate.errors import ConfigError, DataError
from curate.study import matching, plan, runs
from curate.train.order import Subset, chosen
from curate.train.plan import learned
from curate.train.tokens import Tokens

STUDY = """
name: two
arms:
  raw: {dataset: corpus}
  strict: {dataset: corpus}
control: raw
tokenizer: tokenizer
suite: suite.yaml
primary: {metric: bpb}
train: {width: 16, layers: 1, heads: 2, kv_heads: 2, context: 32, batch: 4, tokens: 1280}
target: {params: 1.0e+9, tokens: 40.0e+9, raw_pool: 20.0e+9, pool: raw}
seeds: 2
"""


def test_epochs_of_the_large_run_by_hand():
    target = plan.Target(params=1e9, tokens=100e9, raw_pool=200e9, pool="raw")
    sizes = {"raw": 8_000, "strict": 1_000, "made": 16_000}
    found = {arm: matching.of_size(target, size, sizes) for arm, size in sizes.items()}
    # strict keeps an eighth: 25e9 of the 200e9, which 100e9 tokens read four times
    assert found["strict"] == matching.Pool(1_000, 1 / 8, 4)
    assert (found["raw"].epochs, found["made"].epochs) == (0.5, 0.25)
    counted = plan.Target(params=1e9, tokens=100e9, raw_pool=200e9, pool=4_000)
    assert matching.of_size(counted, 1_000, sizes).epochs == 2


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_a_drawn_share_holds_as_many_tokens_as_asked(tmp_path, write_tokens, seed):
    lengths = np.random.default_rng(seed).integers(1, 60, 400)
    one = Tokens.open(write_tokens(tmp_path / "a" / "tokens", lengths.tolist()))
    for wanted in (1, 500, 5_000, int(learned(one).sum())):
        share = matching.share_of([one], wanted, seed)
        drawn = np.concatenate([some for _, some in chosen(one, Subset(share=share, seed=seed))])
        held = learned(one)[drawn].sum()
        assert wanted <= held < wanted + 61  # a document more at most
    with pytest.raises(ConfigError, match="are fewer than the"):
        matching.share_of([one], int(learned(one).sum()) + 1, seed)


@pytest.fixture
def study(tmp_path, monkeypatch, write_tokens):
    monkeypatch.chdir(tmp_path)
    Path("corpus").touch()
    Path("tokenizer").touch()
    Path("suite.yaml").write_text("name: s\nheldout: [{name: docs, path: corpus}]\n")
    write_tokens(tmp_path / "out/arms/raw/tokens", [19] * 400)
    write_tokens(tmp_path / "out/arms/strict/tokens", [19] * 100)

    def load(text: str = STUDY) -> plan.Study:
        Path("study.yaml").write_text(text)
        return plan.load("study.yaml")

    return load


def keys_of(run: runs.Trained) -> dict:
    command = run.steps[0].arguments
    return json.loads(Path(command[command.index("--config") + 1]).read_text())


def test_each_arm_and_seed_has_a_run_of_both_matchings(study):
    found = runs.runs_of(study(), Path("out"), Path("store"))
    by = {(run.arm, run.seed, run.matching): run for run in found}
    assert len(by) == len(found) == 2 * 2 * 2
    # raw: 40e9 / 20e9 = 2 epochs; strict, a quarter of it: 8 epochs, of 1280 / 8 = 160 tokens, 8 documents of 20
    strict, first = keys_of(by["strict", 0, "pool"]), keys_of(by["strict", 0, "tokens"])
    assert first["count"] == "loss"
    assert "subset" not in first
    assert strict["mix"] == {"max_epochs": 16}
    tokens = Tokens.open("out/arms/strict/tokens")
    for seed in (0, 1):
        subset = Subset(**keys_of(by["strict", seed, "pool"])["subset"])
        assert sum(len(some) for _, some in chosen(tokens, subset)) == 8
    assert by["strict", 0, "pool"].folder != by["strict", 0, "tokens"].folder
    assert keys_of(by["strict", 1, "pool"])["subset"] != strict["subset"]  # the documents vary with the seed


def test_where_the_large_run_repeats_nothing_both_are_one_run(study):
    found = runs.runs_of(
        study(STUDY.replace("raw_pool: 20.0e+9", "raw_pool: 80.0e+9")), Path("out"), Path("store")
    )
    folders = {(run.arm, run.seed, run.matching): run.folder for run in found}
    assert folders["raw", 0, "pool"] == folders["raw", 0, "tokens"]
    assert folders["strict", 0, "pool"] != folders["strict", 0, "tokens"]


def test_an_arm_with_fewer_unique_tokens_than_the_budget_is_refused(study):
    with pytest.raises(
        DataError, match=r"arm `strict`: `tokens` holds 2,000 tokens, and 4,000 are asked for"
    ) as said:
        runs.runs_of(study(STUDY.replace("tokens: 1280", "tokens: 4000")), Path("out"), Path("store"))
    assert "twice" in said.value.hint


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("pool: raw", "pool: row", "`target.pool: row` is no arm"),
        ("params: 1.0e+9", "params: 0", "above 0"),
        ("batch: 4,", "batch: 4, mix: {max_epochs: 4},", "the study's to say"),
        ("batch: 4,", "batch: 4, count: all,", "`train.count`"),
        ("batch: 4,", "batch: 4, subset: {share: 0.5},", "`train.subset`"),
    ],
)
def test_what_is_wrong_with_a_target(study, old, new, says):
    with pytest.raises(ConfigError, match=says):
        study(STUDY.replace(old, new))


def test_the_small_run_repeats_its_tokens_as_often_as_the_large_one(study):
    from curate.train import run as training
    from curate.train import settings

    found = {
        (one.arm, one.seed, one.matching): one for one in runs.runs_of(study(), Path("out"), Path("store"))
    }
    for kind, times in (("tokens", 1), ("pool", 8)):
        command = found["strict", 1, kind].steps[0].arguments
        given = settings.load(command[command.index("--config") + 1], ["shuffle=1", "threads=0"])
        training.train([command[1]], kind, given)
        data = json.loads((Path(kind) / "train.json").read_bytes())["data"]
        assert 1280 - 128 < data["loss_tokens"] <= 1280  # whole steps
        assert data["unique_tokens"] == pytest.approx(
            data["loss_tokens"] if times == 1 else 1280 / times, abs=20
        )
