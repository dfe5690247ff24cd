"""Studies whose arms are something other than corpora to begin with."""

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason='needs pip install "curate[train]"')

from curate.errors import ConfigError, DataError  # noqa: E402
from curate.study import kinds, plan, runs  # noqa: E402
from curate.train import run as training  # noqa: E402
from curate.train import settings  # noqa: E402
from curate.train.loop import records  # noqa: E402

BYTES = str(Path(__file__).parents[1] / "stages/lists/tokenizer")
TINY = {
    "width": 16, "layers": 1, "heads": 2, "kv_heads": 2, "context": 32, "batch": 4, "lr": 0.01, "threads": 1,
    "schedule": {"kind": "wsd", "warmup": 2, "decay": 0.5}, "checkpoint_every": 5, "keep": 10, "tokens": 20 * 128,
}  # fmt: skip
STUDY = f"""
name: candidates
kind: microanneal
checkpoint: big/step-00000010
base: base
share: 0.25
arms:
  other: {{dataset: corpus}}
tokenizer: {BYTES}
suite: suite.yaml
primary: {{metric: bpb}}
train: {{tokens: 1280}}
seeds: 2
"""


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def project(tmp_path, monkeypatch, write_tokens):
    monkeypatch.chdir(tmp_path)
    Path("corpus").touch()
    Path("suite.yaml").write_text("name: s\nheldout: [{name: docs, path: corpus}]\n")
    Path("study.yaml").write_text(STUDY)
    base = write_tokens(tmp_path / "base", [19] * 200)
    write_tokens(tmp_path / "out/arms/other/candidate", [9] * 200)
    training.train([base], "big", settings.load(flags=TINY))
    return tmp_path


def trained(run: runs.Trained) -> tuple[dict, list[float]]:
    """`train.json` and the rates of all steps."""
    command = run.steps[0].arguments
    tokens = command[1 : command.index("-o")]
    training.train(tokens, run.folder, settings.load(command[command.index("--config") + 1]))
    found = json.loads((Path(run.folder) / "train.json").read_bytes())
    return found, [record["lr"] for record in records(Path(run.folder))]


def test_every_arm_decays_from_one_checkpoint_to_zero_on_the_base_and_its_share(project):
    study = plan.load("study.yaml")
    found = {(one.arm, one.seed): one for one in runs.runs_of(study, Path("out"), Path("store"))}
    assert set(found) == {("base", 0), ("base", 1), ("other", 0), ("other", 1)}
    base, rates = trained(found["base", 0])
    other, same_rates = trained(found["other", 0])
    assert rates == same_rates
    assert rates == pytest.approx([0.01 * (1 - n / 10) for n in range(1, 11)])
    assert rates[-1] == 0
    assert base["data"]["shares"] == {"base": 1.0}
    assert other["data"]["shares"]["candidate"] == pytest.approx(0.25, abs=0.02)
    for one in (base, other):
        assert "goes on at step 11 of its schedule, with the moments" in one["notes"][0]
    assert base["tokens"] == other["tokens"]
    assert "say nothing of another checkpoint" in kinds.notes(study, Path("out"))[-1]
    assert "arm `base` was given as tokens" in kinds.notes(study, Path("out"))[0]


def test_a_checkpoint_that_has_decayed_or_has_no_moments(project):
    for checkpoint, error, says in (
        ("big/step-00000020", ConfigError, "it has decayed already"),
        ("big/final", DataError, "training.pt"),
    ):
        Path("study.yaml").write_text(STUDY.replace("big/step-00000010", checkpoint))
        with pytest.raises(error, match=says):
            runs.runs_of(plan.load("study.yaml"), Path("out"), Path("store"))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("share: 0.25", "share: 1.5", "a `share` between 0 and 1"),
        ("checkpoint: big/step-00000010", "", "has a `checkpoint`"),
        ("checkpoint: big/step-00000010", "checkpoint: nosuch", "`nosuch` is not there"),
        ("  other:", "  base:", "the control that a microanneal makes itself"),
        ("suite: suite.yaml", "suite: suite.yaml\ncontrol: other", "makes its own control"),
        ("tokens: 1280", "tokens: 1280, lr: 0.1", "`train.lr` is the microanneal's"),
        ("kind: microanneal", "kind: arms\ncontrol: other", "goes with another `kind`"),
        ("seeds: 2", "seeds: 2\ntarget: {params: 1, tokens: 1, raw_pool: 1, pool: 1}", "has no `target`"),
    ],
)
def test_what_is_wrong_with_a_microanneal(tmp_path, monkeypatch, old, new, says):
    monkeypatch.chdir(tmp_path)
    for name in ("corpus", "base", "suite.yaml", "big/step-00000010"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    Path("study.yaml").write_text(STUDY.replace(old, new))
    with pytest.raises(ConfigError, match=says):
        plan.load("study.yaml")


def test_what_is_made_need_not_be_there_yet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("corpus", "suite.yaml"):
        Path(name).touch()
    make = "make: {base: tokenize corpus --tokenizer t, big: train base}\n"
    Path("study.yaml").write_text(STUDY + make)
    assert plan.load("study.yaml").checkpoint == "big/step-00000010"
    Path("study.yaml").write_text(STUDY + make.replace(", big: train base", ""))
    with pytest.raises(ConfigError, match="`big/step-00000010` is not there"):
        plan.load("study.yaml")
