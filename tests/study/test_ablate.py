"""`curate ablate` from corpora to a verdict, with the real tokenizer, trainer and scorer."""

import json
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

STUDY = """
name: tiny
arms:
  plain: {dataset: plain.parquet}
  other: {dataset: other.parquet}
control: plain
tokenizer: tokenizer
suite: suite.yaml
primary: {metric: bpb, margin: 0.1}
metrics: ["bpb:docs"]
train: {width: 16, layers: 1, heads: 2, kv_heads: 2, context: 32, batch: 4, tokens: 1280, lr: 0.01}
seeds: 2
"""
WORDS = "the cat sat on a mat and ate the fish that a dog had left by the door of the old house".split()


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, step in (("plain", 1), ("other", 7), ("held", 1)):
        texts = [" ".join(WORDS[(i * step + k * step) % len(WORDS)] for k in range(40)) for i in range(120)]
        ids = [f"{name}-{i}" for i in range(120)]
        pq.write_table(pa.table({"id": ids, "text": pa.array(texts, pa.large_string())}), f"{name}.parquet")
    (tmp_path / "suite.yaml").write_text("name: s\nheldout: [{name: docs, path: held.parquet}]\n")
    (tmp_path / "study.yaml").write_text(STUDY)
    assert (
        curate("fit", "tokenizer", "held.parquet", "-o", "tokenizer", "--vocab-size", "300").returncode == 0
    )
    return tmp_path


def curate(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", "from curate.cli.main import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.slow  # a dozen processes that open torch
def test_a_study_from_corpora_to_verdicts_is_worked_off_once(project):
    plan = curate("ablate", "study.yaml", "-o", "out/one", "--dry-run", "--json")
    assert json.loads(plan.stdout)["plan"]["runs"] == 4
    done = curate("ablate", "study.yaml", "-o", "out/one", "--json", "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("curate train") == 4
    found = json.loads(done.stdout)
    assert {(v["arm"], v["metric"]) for v in found["verdicts"]} == {("other", "bpb"), ("other", "bpb:docs")}
    assert all(v["verdict"] in ("better", "worse", "undecided") for v in found["verdicts"])
    values = found["values"]["plain"]["bpb"]
    assert set(values) == {"0", "1"}
    assert values["0"] != values["1"]

    again = curate("ablate", "study.yaml", "-o", "out/one", "--json")
    assert "curate train" not in again.stderr
    assert json.loads(again.stdout)["verdicts"] == found["verdicts"]

    (project / "turned.yaml").write_text(STUDY.replace("control: plain", "control: other"))
    turned = curate("ablate", "turned.yaml", "-o", "out/two", "--json")  # its runs are there already
    assert "curate train" not in turned.stderr
    assert "curate eval out" not in turned.stderr
    mirrored = json.loads(turned.stdout)["verdicts"][0]
    assert mirrored["difference"] == pytest.approx(-found["verdicts"][0]["difference"])

    known = json.loads(curate("ablate", "study.yaml", "-o", "out/one", "--dry-run", "--json").stdout)["plan"]
    assert known["hours"] > 0
    assert known["smallest_detectable"] > 0


@pytest.mark.slow
def test_a_run_that_diverges_leaves_the_other_arms_their_verdicts(project):
    wild = "  wild: {dataset: other.parquet, train: {lr: 1.0e+30}}\ncontrol: plain"
    (project / "study.yaml").write_text(STUDY.replace("control: plain", wild))
    done = curate("ablate", "study.yaml", "-o", "out/one", "--json", "--workers", "2")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {(lost["arm"], lost["seed"]) for lost in found["diverged"]} == {("wild", 0), ("wild", 1)}
    by_arm = {one["arm"]: one for one in found["verdicts"]}
    assert "diverged at step" in by_arm["wild"]["note"]
    assert by_arm["wild"]["verdict"] == "undecided"
    assert by_arm["other"]["note"] == ""
    assert by_arm["other"]["low"] < by_arm["other"]["difference"] < by_arm["other"]["high"]
    again = curate("ablate", "study.yaml", "-o", "out/one")
    assert "wild seed 1: the run diverged at step" in again.stderr
    assert "curate train" not in again.stderr  # that is known


@pytest.mark.slow
def test_what_does_not_fit_is_said_before_any_training(project):
    (project / "study.yaml").write_text(STUDY.replace("tokens: 1280", "tokens: 10000000"))
    done = curate("ablate", "study.yaml", "-o", "out/one")
    assert done.returncode == 2
    assert "tokens" in done.stderr
    assert "curate train" not in done.stderr

    (project / "plain.parquet").write_bytes((project / "other.parquet").read_bytes())
    changed = curate("ablate", "study.yaml", "-o", "out/one")  # tokens of what was there before
    assert changed.returncode == 2
    assert "curate tokenize plain.parquet" in changed.stderr
    assert "--fresh" in changed.stderr

    (project / "study.yaml").write_text(STUDY.replace("metric: bpb", "metric: bbp"))
    wrong = curate("ablate", "study.yaml", "-o", "out/two")
    assert wrong.returncode == 2
    assert "gives no metric `bbp`" in wrong.stderr
    assert not (project / "out/two").exists()


@pytest.mark.slow
def test_a_tokenizer_fitted_on_an_arm_is_refused(project):
    assert curate("fit", "tokenizer", "other.parquet", "-o", "own", "--vocab-size", "300").returncode == 0
    (project / "study.yaml").write_text(STUDY.replace("tokenizer: tokenizer", "tokenizer: own"))
    done = curate("ablate", "study.yaml", "-o", "out/one")
    assert done.returncode == 2
    assert "fitted on the corpus of arm `other`" in done.stderr
    assert "curate train" not in done.stderr


@pytest.mark.slow
def test_what_a_study_names_to_be_made_is_made_once(project):
    made = "make: {own: fit tokenizer held.parquet --vocab-size 300}\ntokenizer: own"
    (project / "study.yaml").write_text(STUDY.replace("tokenizer: tokenizer", made))
    planned = curate("ablate", "study.yaml", "-o", "out/one", "--dry-run")
    assert planned.returncode == 0, planned.stderr
    assert "curate fit tokenizer held.parquet --vocab-size 300 -o own" in planned.stderr
    assert (project / "own/tokenizer.json").exists()
    assert "curate fit" not in curate("ablate", "study.yaml", "-o", "out/one", "--dry-run").stderr


@pytest.mark.slow
def test_averaged_weights_are_an_arm_of_their_own_and_no_training(project):
    changed = STUDY.replace(
        "  other: {dataset: other.parquet}", "  mean: {dataset: plain.parquet, scored: average}"
    )
    averaging = "tokens: 1280, checkpoint_every: 4, average: {kind: sma, last: 2}"
    (project / "study.yaml").write_text(changed.replace("tokens: 1280", averaging))
    done = curate("ablate", "study.yaml", "-o", "out/one", "--json", "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("curate train ") == 2  # two seeds
    assert done.stderr.count("curate eval out/") == 4
    values = json.loads(done.stdout)["values"]
    assert values["mean"]["bpb"].keys() == values["plain"]["bpb"].keys()
    assert all(values["mean"]["bpb"][seed] != values["plain"]["bpb"][seed] for seed in values["mean"]["bpb"])
    (project / "study.yaml").write_text(changed)
    refused = curate("ablate", "study.yaml", "-o", "out/two")
    assert refused.returncode == 2
    assert "averages none" in refused.stderr
