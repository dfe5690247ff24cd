"""`curate eval`: results as files and JSON, partial ones marked, errors before any scoring."""

import json
import random
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

torch = pytest.importorskip("torch", reason='needs pip install "curate[eval]"')
transformers = pytest.importorskip("transformers", reason='needs pip install "curate[eval]"')
pytest.importorskip("lm_eval", reason='needs pip install "curate[eval]"')

from curate.models.tokenizer import contract, train  # noqa: E402

SUITE = """\
name: mine
context: 32
heldout:
  - {name: text, path: docs.parquet, by: source, id: id}
tasks:
  - {name: mats, path: mats.jsonl, prompt: "Q: {query}", chance: 0.5}
"""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, a suite, documents and items in one folder."""
    folder = tmp_path_factory.mktemp("scene")
    checkpoint = folder / "final"
    checkpoint.mkdir()
    train(["The cat sat on the mat and nobody knew why. " * 20], 300, checkpoint)
    said = contract(str(checkpoint))
    config = transformers.LlamaConfig(
        vocab_size=said.vocab_size, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=32, bos_token_id=said.bos, eos_token_id=said.eos,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(config).save_pretrained(checkpoint)
    texts = ["The cat sat.", "Nobody knew [why].", "A mat, a mat!"]
    pq.write_table(
        pa.table({"id": ["a", "b", "c"], "text": texts, "source": ["x", "x", "y"]}), folder / "docs.parquet"
    )
    items = [
        {"query": q, "choices": ["the mat", "a cat"], "gold": 0} for q in ("Where?", "On what?", "Which?")
    ]
    (folder / "mats.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    (folder / "mine.yaml").write_text(SUITE)
    return folder


def test_results_as_files_and_json(scene, tmp_path, curate) -> None:
    done = curate(
        "eval", scene / "final", "--suite", scene / "mine.yaml", "-o", tmp_path / "out", "--json", "--quiet"
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    said = json.loads(done.stdout)
    written = json.loads((tmp_path / "out/eval.json").read_text())
    assert said == {**written, "output": str(tmp_path / "out")}
    assert (said["schema"], said["suite"], said["partial"]) == ("curate.eval/1", "mine", 0)
    assert set(said["heldout"]["text"]["domains"]) == {"x", "y"}
    assert said["heldout"]["text"]["context"] == 32
    task = said["tasks"]["mats"]
    assert task["harness"].startswith("lm_eval 0.")
    assert len(task["task_hash"]) == len(task["prompts_hash"]) == len(said["model"]["tokenizer"]) == 64
    assert said["core"] == pytest.approx((task["score"] - 0.5) / 0.5)
    items = pq.read_table(tmp_path / "out/items.parquet")
    assert items["item"].to_pylist() == ["mats.jsonl:1", "mats.jsonl:2", "mats.jsonl:3"]
    documents = pq.read_table(tmp_path / "out/documents.parquet")
    assert documents["id"].to_pylist() == ["a", "b", "c"]


def test_words_for_people_and_a_partial_result_is_marked(scene, tmp_path, curate) -> None:
    arguments = ("eval", scene / "final", "--suite", scene / "mine.yaml", "-o", tmp_path / "out")
    done = curate(*arguments, "--limit", 2)
    assert done.returncode == 0, done.stderr
    assert "bits per byte" in done.stdout
    assert "2 items" in done.stdout
    assert "partial    only 2 documents and items" in done.stderr
    assert json.loads((tmp_path / "out/eval.json").read_text())["partial"] == 2
    assert curate(*arguments, "--quiet").returncode == 0  # a whole result takes its place
    done = curate(*arguments, "--limit", 2)
    assert done.returncode == 2
    assert "holds a whole result" in done.stderr


def test_errors_come_before_any_scoring(scene, tmp_path, curate) -> None:
    out = tmp_path / "out"

    def refused(*arguments: object) -> str:
        done = curate("eval", *arguments, "-o", out)
        assert done.returncode == 2, done.stderr
        assert not out.exists()
        return done.stderr

    assert "no such checkpoint folder" in refused(scene / "nowhere", "--suite", scene / "mine.yaml")
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        (bare / name).write_bytes((scene / "final" / name).read_bytes())
    said = refused(bare, "--suite", scene / "mine.yaml")
    assert "no tokenizer.json in the checkpoint folder" in said
    assert "copy the tokenizer's files in" in said
    assert "no file of the task `blimp`" in refused(scene / "final", "--suite", "small", "--data", tmp_path)
    assert "no suite `huge`" in refused(scene / "final", "--suite", "huge")
    assert "dtype fp8" in refused(scene / "final", "--suite", scene / "mine.yaml", "--dtype", "fp8")
    (scene / "long.yaml").write_text(SUITE.replace("context: 32", "context: 64"))
    assert "the model takes 32" in refused(scene / "final", "--suite", scene / "long.yaml")


def test_a_tokenizer_of_another_model_is_refused(scene, tmp_path, curate) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for file in (scene / "final").iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    words = ["".join(random.Random(i).choices("abcdefghijklmnop", k=6)) for i in range(200)]
    assert train([" ".join(words * 3)], 900, other) > 600
    done = curate("eval", other, "--suite", scene / "mine.yaml", "-o", tmp_path / "out")
    assert done.returncode == 2
    assert "tokens, the model" in done.stderr


def test_heldout_as_a_command(scene, tmp_path, curate) -> None:
    done = curate("eval", "heldout", scene / "docs.parquet", "--id", "id", "--by", "source", "--documents", 1,
                  "-o", tmp_path / "held", "--workers", 1, "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["domains"] == {"x": 1, "y": 1}
    assert said["left_out"] == 2
    again = curate("eval", scene / "final", "--suite", scene / "mine.yaml", "--heldout", tmp_path / "held",
                   "-o", tmp_path / "out", "--json", "--quiet")  # fmt: skip
    assert json.loads(again.stdout)["heldout"]["held"]["documents"] == 2


def test_contamination_by_arm(scene, tmp_path, curate) -> None:
    """An item's question and right answer stand in one arm, its question and the wrong one in the other."""
    asked = "Why had the heron waited beside the frozen canal until every barge was gone?"
    item = {"query": asked, "choices": ["because of the herring", "to count them"], "gold": 0}
    (tmp_path / "herons.jsonl").write_text(json.dumps(item) + "\n")
    (tmp_path / "suite.yaml").write_text("tasks: [{name: herons, path: herons.jsonl}]\n")
    arms = []
    for name, answer in (("clean", "to count them"), ("dirty", "because of the herring")):
        arms.append(tmp_path / f"{name}.parquet")
        pq.write_table(pa.table({"text": [f"{asked} It did so {answer}.", "Nothing."]}), arms[-1])
    done = curate("eval", "contamination", *arms, "--suite", tmp_path / "suite.yaml", "-o", tmp_path / "found.json",
                  "--workers", 1, "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert [one["found"] for one in said["corpora"]] == [{"herons": []}, {"herons": ["herons.jsonl:1"]}]
    assert json.loads((tmp_path / "found.json").read_text()) == said
    refused = curate("eval", "contamination", arms[0], "--suite", scene / "nosuch.yaml")
    assert refused.returncode == 2


def test_probes_as_a_command(scene, tmp_path, curate) -> None:
    """What the model itself says is toxic where its words are listed; a text that it says is memorised."""
    from curate.eval.model import Model

    model = Model.open(str(scene / "final"))
    (said,) = model.continued([[model.prefix, *model.encode(["The cat"])[0]]], 8)
    pq.write_table(pa.table({"text": ["The cat"]}), tmp_path / "prompts.parquet")
    word = max(model.decode(said).split(), key=len, default="")
    if not word.strip("#"):
        pytest.skip("this model says nothing that a list can hold")
    (tmp_path / "words.txt").write_text(f"{word}\n")
    (tmp_path / "others.txt").write_text("zzzzzz\n")
    common = (
        "eval",
        "probes",
        scene / "final",
        "--prompts",
        tmp_path / "prompts.parquet",
        "--tokens",
        8,
        "--json",
    )
    toxic = [
        json.loads(curate(*common, "--words", tmp_path / name).stdout)["probes"]["toxic"]
        for name in ("words.txt", "others.txt")
    ]
    assert [one["rate"] for one in toxic] == [1.0, 0.0]
    assert toxic[0]["prompts"] == toxic[0]["words"] == 1
    done = curate(
        "eval", "probes", scene / "final", "--memorised", scene / "docs.parquet", "--prompt", 2, "--span", 1
    )
    assert "memorised" in done.stdout
    assert "of 3 texts" in done.stdout
    refused = curate("eval", "probes", scene / "final", "--words", tmp_path / "words.txt")
    assert (refused.returncode, "--words with --prompts" in refused.stderr) == (2, True)


def test_checkpoints_of_a_run_are_scored_once(scene, tmp_path, curate) -> None:
    run = tmp_path / "run"
    for step in (100, 200):
        shutil.copytree(scene / "final", run / f"step-{step:08d}")
    training = {
        "settings": {"size": "1m", "tokens": 6400, "context": 16, "batch": 2, "seed": 4},
        "datasets": [],
        "steps": 200,
    }
    (run / "train.json").write_text(json.dumps(training))
    command = ("eval", "checkpoints", run, "--suite", scene / "mine.yaml", "-o", tmp_path / "out", "--json")
    done = curate(*command)
    assert done.returncode == 0, done.stderr
    folders = json.loads(done.stdout)["scores"]
    assert [Path(one).name for one in folders] == ["step-00000100", "step-00000200"]
    series = json.loads(curate("eval", "gap", *folders, "--metric", "mats", "--json").stdout)["series"]
    assert [tokens for tokens, _ in series] == [3200, 6400]
    before = (tmp_path / "out/step-00000100/eval.json").stat().st_mtime_ns
    assert curate(*command, "--quiet").stderr == ""
    assert (tmp_path / "out/step-00000100/eval.json").stat().st_mtime_ns == before
    empty = curate("eval", "checkpoints", scene, "--suite", scene / "mine.yaml", "-o", tmp_path / "no")
    assert (empty.returncode, "no checkpoint in it" in empty.stderr) == (2, True)
