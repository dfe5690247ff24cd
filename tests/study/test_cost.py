"""What an arm's curation cost: by hand from a manifest, and of a run whose stage reads with a model."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import curate
from curate.study import cost
from curate.study.matching import Pool
from curate.study.plan import Arm, Primary, Study, Target

BYTES = Path(__file__).parents[1] / "stages/lists/tokenizer"
TARGET = Target(params=1e6, tokens=1e6, raw_pool=3e6, pool="raw")
POOLS = {"raw": Pool(1_000, 1.0, 1.0), "clean": Pool(500, 0.5, 2.0)}


def write(corpus: Path, passes: list[dict], steps: list[dict]) -> Path:
    (corpus / "_curate").mkdir(parents=True)
    (corpus / "_curate/manifest.json").write_text(json.dumps({"passes": passes}))
    (corpus / "_curate/plan.json").write_text(json.dumps({"recipe": {"steps": steps}}))
    return corpus


def rows(cpu: float, **seconds: float) -> dict:
    steps = [{"step": name, "seconds": value} for name, value in seconds.items()]
    return {"phase": "", "cpu_seconds": cpu, "counts": {}, "steps": steps}


def phase(name: str, cpu: float) -> dict:
    return {"phase": name, "cpu_seconds": cpu, "counts": {}, "steps": []}


def test_seconds_by_stage_by_hand(tmp_path):
    passes = [
        rows(10.0, extract=6.0, select=1.0),
        rows(4.0, language_id=6.0, select=2.0),  # more by the clock than the processor gave
        phase("minhash_dedup 1", 3.0), phase("minhash_dedup 2", 0.5), rows(1.0),
    ]  # fmt: skip
    found = cost.of_corpus(
        write(tmp_path, passes, [{"stage": "checkpoint", "name": "checkpoint", "config": {}}])
    )
    assert found.cpu_seconds == {
        "extract": 6.0, "select": 2.0, "reading and writing": 4.0, "language_id": 3.0, "minhash_dedup": 3.5,
    }  # fmt: skip
    assert sum(found.cpu_seconds.values()) == sum(one["cpu_seconds"] for one in passes)
    assert found.flops == {}
    assert "18.5 CPU seconds (extract 6.0" in found.line()


def test_over_the_target_it_grows_with_the_raw_pool():
    found = cost.at_target(cost.Cost({"extract": 7.2}, {"semantic_dedup": 2e9}), TARGET, POOLS)
    # 3e6 tokens of raw text for 1,000 here; training costs 6 x 1e6 x 1e6
    assert found.target_cpu_hours == pytest.approx(7.2 * 3000 / 3600)
    assert found.target_flops == pytest.approx(6e12)
    assert found.target_share == pytest.approx(1.0)
    assert "at the target 6.0 CPU hours, 6e+12 FLOPs, 100.000% of training" in found.line()


def test_an_arm_that_was_not_made_here_costs_nothing_known(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(Path("made"), [rows(2.0, extract=1.0)], [])
    arms = {"raw": Arm(dataset="made"), "clean": Arm(dataset="elsewhere")}
    study = Study(
        name="s",
        arms=arms,
        control="raw",
        tokenizer="t",
        suite="s",
        primary=Primary(metric="bpb"),
        target=TARGET,
    )
    found = cost.of_arms(study, Path("out"), POOLS)
    assert list(found) == ["raw"]
    assert found["raw"].target_share == 0
    Path("made/part-00000.arrow").touch()  # tokenizing is no curation
    assert cost.of_arms(study, Path("out"), POOLS) == {}


@pytest.mark.slow  # a worker opens torch
def test_a_stage_that_reads_with_a_model_says_what_that_costs(tmp_path, monkeypatch):
    pytest.importorskip("faiss", reason='needs pip install "curate[semantic]"')
    transformers = pytest.importorskip("transformers", reason='needs pip install "curate[embed]"')
    monkeypatch.chdir(tmp_path)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(BYTES / "tokenizer.json"))
    tokenizer.save_pretrained("model")
    config = transformers.LlamaConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1,
        vocab_size=len(tokenizer),
    )  # fmt: skip
    model = transformers.LlamaModel(config)
    model.save_pretrained("model")
    texts = [f"{i} {'x' * i}" for i in range(40)]
    pq.write_table(pa.table({"text": pa.array(texts, pa.large_string())}), "raw.parquet")
    recipe = {
        "input": {"path": "raw.parquet"}, "output": {"path": "out"},
        "stages": [{"semantic_dedup": {"model": "model", "clusters": 1, "eps": 0.0}}],
    }  # fmt: skip
    curate.run(recipe, workers=1)
    read = sum(len(tokenizer(text)["input_ids"]) for text in texts)
    parameters = sum(one.numel() for one in model.parameters())
    assert cost.of_corpus(Path("out")).flops == {"semantic_dedup": 2.0 * parameters * read}
