"""Tasks: lm-eval's own numbers are ours, scores by hand, wrong files and items."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate.errors import ConfigError, DataError
from curate.eval import suite, tasks
from curate.eval.model import Model
from curate.eval.suite import Task

pytest.importorskip("lm_eval", reason='needs pip install "curate[eval]"')

CHOICES = [
    {"query": "Where did the cat sit?", "choices": ["on the mat", "in a Käfer", "the"], "gold": 0},
    {"query": "", "choices": ["The cat sat.", "Nobody knew why."], "gold": 1},
    {"query": "Who left the house? " * 12, "choices": ["they", "it", "the cat", "a cat"], "gold": 0},
    {"query": "Which?", "choices": ["A", "B", "C", "D"], "gold": 2},
]
PAIRS = [
    {"sentence_good": "The cat sat.", "sentence_bad": "The cat sit.", "paradigm": "verbs"},
    {"sentence_good": "They left it.", "sentence_bad": "They left they.", "paradigm": "pronouns"},
    {"sentence_good": "It would not leave.", "sentence_bad": "It would not leaves.", "paradigm": "verbs"},
]
CLOZE = [
    {"context": "The cat sat on the", "continuation": "mat"},
    {"context": "so they left the ", "continuation": "house"},
]


def write(folder: Path, name: str, rows: list[Any], **keys: Any) -> Task:
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Task(name=name, path=str(folder / f"{name}.jsonl"), **keys)


@pytest.fixture
def three(tmp_path: Path) -> list[Task]:
    """One task of each kind."""
    return [
        write(tmp_path, "choices", CHOICES, prompt="Question: {query}\nAnswer:"),
        write(tmp_path, "pairs", PAIRS, kind="pairs", by="paradigm"),
        write(tmp_path, "cloze", CLOZE, kind="cloze"),
    ]


def test_the_number_of_the_harness_is_ours(checkpoint, three, capsys) -> None:
    """Its own model class on its own, against ours: the same requests, log-likelihoods and accuracies."""
    pytest.importorskip("accelerate", reason="lm-eval's model class needs it")
    from lm_eval import evaluator
    from lm_eval.models.huggingface import HFLM

    model = Model.open(str(checkpoint))
    opened = [suite.items_of(task) for task in three]
    rows, results = tasks.evaluate(model, opened)
    theirs = HFLM(pretrained=str(checkpoint), device="cpu", dtype="float32", batch_size=1)
    made = {one.task.name: tasks.harness_task(one) for one in opened}
    expected = evaluator.evaluate(theirs, {"tasks": made, "groups": {}}, bootstrap_iters=0)
    for name, result in results.items():
        for metric in ("acc", "acc_norm") if name != "cloze" else ("acc",):
            assert result.means[metric] == expected["results"][name][f"{metric},none"]
        ours = rows.filter(np.array(rows["task"].to_pylist()) == name).to_pylist()
        for row, sample in zip(ours, expected["samples"][name], strict=True):
            values = [value for value, _ in sample["filtered_resps"]]
            assert row["log_likelihoods"] == pytest.approx(values, rel=1e-5, abs=1e-4)
            assert row["greedy"] == [greedy for _, greedy in sample["filtered_resps"]]
            assert row["prompt_hash"] == sample["prompt_hash"]


def test_log_likelihoods_are_the_sums_over_an_answers_tokens(checkpoint, tmp_path) -> None:
    import torch

    model = Model.open(str(checkpoint))
    given = suite.items_of(write(tmp_path, "one", CHOICES[:1], prompt="{query}"))
    (row,) = tasks.score_task(model, given).to_pylist()
    prompt = model.tokenizer.encode("Where did the cat sit?")
    answer = model.encode([" on the mat"])[0]
    logits = model.network(torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1].detach()
    expected = torch.log_softmax(logits, -1)[range(len(answer)), answer].sum()
    assert row["log_likelihoods"][0] == pytest.approx(float(expected), rel=1e-5)
    assert prompt[0] == model.prefix  # the tokenizer's own way begins with BOS
    assert row["chars"][:2] == [10, 10]
    assert row["bytes"][:2] == [11, 12]


def test_scores_by_hand() -> None:
    values = np.log([0.2, 0.5, 0.1])
    assert tasks.continuous(values, 0) == pytest.approx(
        {"correct_prob": 0.2, "total_prob": 0.8, "norm_correct_prob": 0.25, "margin": -0.3}
    )
    assert tasks.continuous(values, 1)["margin"] == pytest.approx(0.3)
    alone = tasks.continuous(np.log([0.5]), 0)
    assert alone["norm_correct_prob"] == 1
    assert math.isnan(alone["margin"])
    assert tasks.continuous(np.array([-2000.0, -2000.0]), 0)["norm_correct_prob"] == pytest.approx(0.5)


def test_results_by_hand(checkpoint, three) -> None:
    rows, results = tasks.evaluate(Model.open(str(checkpoint)), [suite.items_of(task) for task in three])
    pairs, choices = results["pairs"], results["choices"]
    each = [row for row in rows.to_pylist() if row["task"] == "pairs"]
    verbs = np.mean(
        [row["log_likelihoods"][0] > row["log_likelihoods"][1] for row in each if row["group"] == "verbs"]
    )
    assert pairs.groups["verbs"] == verbs
    assert pairs.score == pytest.approx((verbs + pairs.groups["pronouns"]) / 2)  # not a mean over three items
    assert (pairs.chance, pairs.metric, results["cloze"].chance) == (0.5, "acc", 0.0)
    assert choices.chance == pytest.approx((1 / 3 + 1 / 2 + 1 / 4 + 1 / 4) / 4)
    assert choices.score == choices.means["acc_norm"]
    assert choices.truncated == 1  # the long one, in 64 tokens
    each = [row for row in rows.to_pylist() if row["task"] == "choices"]
    nats = -sum(row["log_likelihoods"][row["gold"]] for row in each)
    assert choices.gold_bits_per_byte == pytest.approx(nats / math.log(2) / (11 + 17 + 5 + 2))
    assert "margin" in choices.means
    assert "margin" not in results["cloze"].means  # there is no wrong answer
    assert tasks.core(results) == pytest.approx(np.mean([one.centred for one in results.values()]))
    assert all(
        one.harness.startswith("lm_eval ") and one.task_hash and one.prompts_hash for one in results.values()
    )


def test_guessing_is_0_and_perfect_is_1() -> None:
    assert suite.centred(0.25, 0.25) == 0
    assert suite.centred(1.0, 0.25) == 1
    assert suite.centred(0.0, 0.5) == -1


@pytest.mark.parametrize(
    ("row", "keys"),
    [
        (
            {"choices": {"text": ["x", "y", "z"], "label": ["1", "2", "3"]}, "answerKey": "2"},
            {"gold": "answerKey"},
        ),
        (
            {"choices": {"text": ["x", "y", "z"], "label": ["A", "B", "C"]}, "answerKey": "B"},
            {"gold": "answerKey"},
        ),
        ({"endings": ["x", "y"], "label": "1"}, {"choices": "endings", "gold": "label"}),
        ({"a": "x", "b": "y", "label": "2"}, {"choices": ("a", "b"), "gold": "label", "first": 1}),
        ({"choices": ["x", "y"], "gold": "B"}, {}),
    ],
)
def test_answers_as_the_hub_has_them(tmp_path, row, keys) -> None:
    (item,) = suite.items_of(write(tmp_path, "hub", [{"query": "?", **row}], **keys)).items
    assert item.choices[item.gold] == "y"


def test_arrow_files_of_an_installed_package(tmp_path, monkeypatch) -> None:
    (tmp_path / "some_tasks").mkdir()
    (tmp_path / "some_tasks/__init__.py").write_text("")
    table = pa.table({"query": ["Which?", "And?"], "choices": [["a", "b"]] * 2, "gold": [0, 1]})
    with pa.ipc.new_stream(tmp_path / "some_tasks/data.arrow", table.schema) as out:
        out.write_table(table)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine.yaml").write_text("tasks: [{name: a, path: 'package:some_tasks/data.arrow'}]")
    (opened,) = suite.open_all(suite.load(str(tmp_path / "mine.yaml")))
    assert [(item.id, item.gold) for item in opened.items] == [("data.arrow:1", 0), ("data.arrow:2", 1)]


def test_hashes_know_what_was_asked(tmp_path) -> None:
    def opened(**keys: Any) -> suite.Items:
        return suite.items_of(write(tmp_path, "task", CHOICES, **keys))

    one, same, other = opened(), opened(), opened(prompt="{query}\nAnswer:")
    assert (one.task_hash, one.prompts_hash) == (same.task_hash, same.prompts_hash)
    assert one.prompts_hash != other.prompts_hash
    assert one.task_hash != other.task_hash


def test_a_draw_of_more_items_has_the_smaller_draw(tmp_path) -> None:
    rows = [{"query": str(i), "choices": ["a", "b"], "gold": 0} for i in range(50)]
    few, more = (suite.items_of(write(tmp_path, "many", rows, items=n)) for n in (10, 30))
    assert len(few.items) == 10
    assert {one.id for one in few.items} < {one.id for one in more.items}
    assert few.items[0].id.startswith("many.jsonl:")


def test_an_answer_that_does_not_fit_is_counted(checkpoint, tmp_path) -> None:
    long = {"query": "?", "choices": ["qwz " * 40, "cat"], "gold": 1}
    model = Model.open(str(checkpoint))
    rows, results = tasks.evaluate(model, [suite.items_of(write(tmp_path, "some", [long, *CHOICES[:1]]))])
    assert rows["item"].to_pylist() == ["some.jsonl:2"]
    assert results["some"].unfit == 1
    with pytest.raises(DataError, match="no item of `all` fits"):
        tasks.evaluate(model, [suite.items_of(write(tmp_path, "all", [long]))])


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"query": "q", "choices": ["a", "b"], "gold": 2}, "none of 2 answers"),
        ({"query": "q", "choices": ["a"], "gold": 0}, "no list of answers"),
        ({"query": "q", "choices": ["a", ""], "gold": 0}, "empty"),
        ({"choices": ["a", "b"], "gold": 0}, "no `query`"),
    ],
)
def test_a_wrong_item_is_named(tmp_path, row, said) -> None:
    with pytest.raises(DataError, match=said) as caught:
        suite.items_of(write(tmp_path, "wrong", [CHOICES[0], row]))
    assert caught.value.where.endswith("wrong.jsonl:2")


def test_wrong_suites(tmp_path) -> None:
    def load(text: str) -> suite.Suite:
        (tmp_path / "mine.yaml").write_text(text)
        return suite.load(str(tmp_path / "mine.yaml"))

    with pytest.raises(ConfigError, match="unknown key `promt`") as caught:
        load("tasks: [{name: a, path: a.jsonl, promt: x}]")
    assert "prompt" in caught.value.hint
    with pytest.raises(ConfigError, match="nothing to score on"):
        load("name: empty")
    with pytest.raises(ConfigError, match="two entries are named `a`"):
        load("tasks: [{name: a, path: a.jsonl}, {name: a, path: b.jsonl}]")
    with pytest.raises(ConfigError, match="`chance: 1"):
        load("tasks: [{name: a, path: a.jsonl, chance: 1.0}]")
    with pytest.raises(ConfigError, match="no file of the task `a`") as caught:
        suite.open_all(load("tasks: [{name: a, path: a.jsonl}]"))
    assert caught.value.where == str(tmp_path / "a.jsonl")
    with pytest.raises(ConfigError, match="no suite `huge`"):
        suite.load("huge")
    with pytest.raises(ConfigError, match="package `not_there_at_all`"):
        load("tasks: [{name: a, path: 'package:not_there_at_all/a.jsonl'}]")


def test_the_built_in_suite_opens_on_the_shared_files(shared_data) -> None:
    opened = suite.open_all(suite.load("small", data=str(shared_data / "eval")), limit=20)
    assert [len(one.items) for one in opened] == [20] * 5
    assert all("{" not in one.items[0].prompt for one in opened)


def test_items_of_one_passage_say_so(tmp_path) -> None:
    rows = [
        {"query": q, "story": s, "choices": ["a", "b"], "gold": 0}
        for q, s in (("x", "one"), ("y", "one"), ("z", "two"))
    ]
    task = write(tmp_path, "boolq", rows, prompt="{story}\nQuestion: {query}", passage="story")
    first, second, third = suite.items_of(task).items
    assert first.passage == second.passage != third.passage
    bare = suite.items_of(write(tmp_path, "plain", rows))
    assert [one.passage for one in bare.items] == [one.id for one in bare.items]
