"""A recipe without one of its stages, and a study of such recipes: arms, shared passes, shares of sources."""

import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.cli.main import main
from curate.errors import ConfigError, DataError
from curate.study import kinds, plan, runs, sources, without

BYTES = str(Path(__file__).parents[1] / "stages/lists/tokenizer")
RECIPE = """
input: {path: raw.parquet}
stages:
  - exact_dedup: {}
  - gopher_quality: {min_words: 8, min_stop_words: 0}
  - gopher_repetition: {}
  - sample: {}
  - select: "gopher_quality_pass and sample_hash >= 0 and source != 'spam'"
  - {stage: select, name: again, where: "gopher_quality_pass or gopher_quality_pass is null"}
output: {path: out/whole}
"""
STUDY = f"""
name: stages
kind: stage_by_stage
recipe: recipe.yaml
tokenizer: {BYTES}
suite: suite.yaml
primary: {{metric: bpb}}
train: {{width: 16, layers: 1, heads: 2, kv_heads: 2, context: 32, batch: 4, tokens: 640}}
seeds: 2
"""


def text(i: int, words: int) -> str:
    return " ".join(f"word{i}x{k}" for k in range(words))


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Of `web` every other document is short; each document of `books` stands there twice."""
    monkeypatch.chdir(tmp_path)
    texts = [text(i, 4 if i % 2 else 20) for i in range(60)] + [text(100 + i // 2, 30) for i in range(40)]
    table = pa.table({
        "id": [str(i) for i in range(100)], "text": pa.array(texts, pa.large_string()),
        "source": ["web"] * 60 + ["books"] * 40,
    })  # fmt: skip
    pq.write_table(table, "raw.parquet")
    Path("recipe.yaml").write_text(RECIPE)
    Path("study.yaml").write_text(STUDY)
    Path("suite.yaml").write_text("name: s\nheldout: [{name: docs, path: raw.parquet}]\n")
    return tmp_path


def test_conditions_on_what_a_stage_would_write_go_with_it(project):
    opened = without.opened("recipe.yaml")
    left = without.without(opened, "gopher_quality")["stages"]
    assert left == [
        {"exact_dedup": {}}, {"gopher_repetition": {}}, {"sample": {}},
        {"select": {"where": "(sample_hash >= 0) and (source != 'spam')"}},
    ]  # fmt: skip
    assert without.without(opened, "exact_dedup")["stages"] == opened.root["stages"][1:]
    assert without.survey(opened) == {
        "exact_dedup": "", "gopher_quality": "",
        "gopher_repetition": "`gopher_repetition` drops and edits nothing: no `select` looks at it",
    }  # fmt: skip
    with pytest.raises(ConfigError, match="no stage `gofer` to leave out") as said:
        without.without(opened, "gofer")
    assert said.value.hint == "stages: exact_dedup, gopher_quality, gopher_repetition"


def test_a_stage_that_another_one_needs_stays(project):
    needed = RECIPE.replace("gopher_repetition: {}", "{stage: gopher_repetition, when: gopher_quality_pass}")
    Path("recipe.yaml").write_text(needed)
    opened = without.opened("recipe.yaml")
    with pytest.raises(ConfigError, match=r"`gopher_quality` cannot be left out: .*gopher_quality_pass"):
        without.without(opened, "gopher_quality")
    assert "cannot be left out" in without.survey(opened)["gopher_quality"]
    assert list(plan.load("study.yaml").arms) == ["all", "without_exact_dedup"]
    Path("study.yaml").write_text(STUDY + "stages: [gopher_quality]\n")
    with pytest.raises(ConfigError, match="cannot be left out"):
        plan.load("study.yaml")


@pytest.fixture
def made(project, monkeypatch):
    """The study, its corpora and tokens made in this process."""
    study = plan.load("study.yaml")
    for steps in (runs.corpus_steps, runs.source_steps):
        for arm in study.arms:
            for step in steps(study, Path("out"), arm):
                monkeypatch.setattr(sys, "argv", ["curate", *step.arguments, "--workers", "1"])
                with pytest.raises(SystemExit) as ended:
                    main()
                assert ended.value.code in (0, None), step
                assert Path(step.done).exists()
    return study


def passes(arm: str) -> dict[str, float]:
    manifest = json.loads(Path(f"out/arms/{arm}/corpus/_curate/manifest.json").read_text())
    return {one["fingerprint"]: one["cpu_seconds"] for one in manifest["passes"]}


@pytest.mark.slow  # a dozen commands
def test_arms_share_passes_and_the_mixture(made):
    study, out = made, Path("out")
    assert list(study.arms) == ["all", "without_exact_dedup", "without_gopher_quality"]
    rows = {
        arm: json.loads((out / f"arms/{arm}/corpus/_curate/manifest.json").read_text())["rows"]["kept"]
        for arm in study.arms
    }
    assert rows == {"all": 50, "without_exact_dedup": 70, "without_gopher_quality": 80}
    whole, other = passes("all"), passes("without_gopher_quality")
    shared = whole.keys() & other.keys()
    assert len(shared) >= 2  # the passes of exact_dedup
    assert all(whole[name] == other[name] for name in shared)  # read from the journal, not made again
    assert Path(".curate").is_dir()

    by = {(one.arm, one.seed): one for one in runs.runs_of(study, out, Path("store"))}
    weights = []
    for arm in study.arms:
        command = by[arm, 0].steps[0].arguments
        weights.append(json.loads(Path(command[command.index("--config") + 1]).read_text())["mix"]["weights"])
        assert [Path(path).name for path in command[1:3]] == list(weights[-1])
    assert weights[0] == weights[1] == weights[2]
    web, books = (sources.folder_of(out, "all", name).name for name in ("web", "books"))
    tokens = {web: [text(i, 20) for i in range(0, 60, 2)], books: [text(100 + i, 30) for i in range(20)]}
    assert weights[0] == {
        name: sum(len(one) + 1 for one in said) for name, said in tokens.items()
    }  # bytes and EOS
    assert kinds.notes(study, out)[-1] == "every arm trains on the control's shares of 2 sources"
    assert "gopher_repetition" in kinds.notes(study, out)[0]

    for file in sources.folder_of(out, "without_exact_dedup", "web").glob("part-*.arrow"):
        file.unlink()
    with pytest.raises(DataError, match="arm `without_exact_dedup` has nothing left of source `web`"):
        runs.runs_of(study, out, Path("store"))


def test_without_sources_nothing_is_pinned_and_that_is_said(project):
    corpus = Path("out/arms/all/corpus")
    corpus.mkdir(parents=True)
    study, table = plan.load("study.yaml"), pq.read_table("raw.parquet")
    for sources_of, said in (
        (["web"] * 100, "it has 1 source"), ([str(i) for i in range(100)], "it has 100 sources"), (None, "no column `source`"),
    ):  # fmt: skip
        left = table.drop(["source"])
        if sources_of is not None:
            left = left.append_column("source", pa.array(sources_of))
        pq.write_table(left, corpus / "part-00000.parquet")
        assert sources.note(study, Path("out")).endswith(said)
        assert runs.source_steps(study, Path("out"), "all") == []
        assert kinds.data(study, Path("out"), "all") == [Path("out/arms/all/tokens")]
        assert kinds.keys(study, Path("out"), "all") == {}
