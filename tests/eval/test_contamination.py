"""Items that are contaminated in one arm leave every arm's score."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import curate
from curate.errors import ConfigError, DataError
from curate.eval import contamination
from curate.eval.suite import Task, items_of
from curate.eval.tasks import ITEMS, PER_ITEM


def scored(right: dict[str, list[int]]) -> pa.Table:
    """ITEMS of tasks whose items, row by row, were answered rightly (1) or not."""
    rows = [
        {
            "task": task, "item": f"{task}.jsonl:{number}", "group": "", "gold": 0, "chance": 0.5, "headline": "acc",
            "prompt_hash": str(number), "truncated": False, "log_likelihoods": [-1.0, -2.0], "greedy": [False, False],
            "chars": [1, 1], "bytes": [1, 1], **dict.fromkeys(PER_ITEM, float(hit)),
        }
        for task, hits in right.items() for number, hit in enumerate(hits, 1)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, ITEMS)


def test_all_arms_lose_what_one_has_seen() -> None:
    arms = {
        "control": scored({"arc": [1, 0, 0, 1], "piqa": [1, 1]}),
        "arm": scored({"arc": [1, 1, 1, 1], "piqa": [0, 1]}),
    }
    seen = {
        "control": ["piqa/piqa.jsonl:1"],
        "arm": ["ai2/arc/arc.jsonl:2", "arc/arc.jsonl:3", "x/other.jsonl:1"],
    }
    found = contamination.on_common_items(arms, seen)
    assert found.left_out == {"arc": ["arc.jsonl:2", "arc.jsonl:3"], "piqa": ["piqa.jsonl:1"]}
    arm, control = found.arms["arm"], found.arms["control"]
    assert (arm.full["arc"].score, arm.common["arc"].score, arm.common["arc"].items) == (1.0, 1.0, 2)
    assert (control.full["arc"].score, control.common["arc"].score) == (0.5, 1.0)
    assert (control.common["piqa"].score, arm.common["piqa"].score) == (1.0, 1.0)
    assert arm.contaminated == {"arc": 2, "piqa": 0}
    assert control.contaminated == {"arc": 0, "piqa": 1}
    assert found.unusable == []


def test_a_task_without_a_clean_item_is_named() -> None:
    arms = {"a": scored({"arc": [1], "piqa": [1]}), "b": scored({"arc": [0], "piqa": [1]})}
    found = contamination.on_common_items(arms, {"a": ["arc/arc.jsonl:1"], "b": []})
    assert found.unusable == ["arc"]
    assert list(found.arms["b"].common) == ["piqa"]


def test_arms_are_scored_on_the_same_items() -> None:
    arms = {"a": scored({"arc": [1, 0]}), "b": scored({"arc": [1]})}
    with pytest.raises(DataError, match=r"arc.jsonl:2 of `arc`"):
        contamination.on_common_items(arms, {"a": [], "b": []})
    with pytest.raises(DataError, match="`b` has scores or contamination"):
        contamination.on_common_items({"a": arms["a"], "b": arms["a"]}, {"a": []})


def test_contamination_is_what_decontaminate_found_in_kept_documents(tmp_path) -> None:
    """The names that the stage writes are those of the scored items."""
    question = "Which of these animals is known to build dams across small rivers in the forest"
    item = {"query": question, "choices": ["the beaver", "the owl"], "gold": 0}
    other = {
        "query": "What do people call the coloured arc seen after rain in sunlight",
        "choices": ["a rainbow", "b"],
        "gold": 0,
    }
    (tmp_path / "arc.jsonl").write_text("".join(json.dumps(row) + "\n" for row in (other, item)))
    texts = [
        "A text about nothing of the kind, as long as it has to be.",
        f"Quiz! {question}? Answer: the beaver.",
    ]
    pq.write_table(pa.table({"text": texts}), tmp_path / "docs.parquet")
    stages = [{"decontaminate": {"sets": [{"path": str(tmp_path / "arc.jsonl")}]}}]
    recipe = {"input": {"path": str(tmp_path / "docs.parquet")}, "stages": stages}
    curate.run(recipe, output=str(tmp_path / "out"), workers=1)
    found = contamination.contaminated(str(tmp_path / "out"))
    assert {name.rpartition("/")[2] for name in found} == {"arc.jsonl:2"}
    bare = {"input": {"path": str(tmp_path / "docs.parquet")}, "stages": [{"sample": {}}]}
    curate.run(bare, output=str(tmp_path / "bare"), workers=1)
    with pytest.raises(DataError, match="contamination is not known"):
        contamination.contaminated(str(tmp_path / "bare"))


@pytest.fixture
def tasks(tmp_path):
    """A task of questions, one of pairs, one of continuations, opened."""
    words = "the heron waited beside the frozen canal until every barge had gone home before dawn".split()
    questions = [
        {
            "q": f"Why did {' '.join(words[n:] + words[:n])}?",
            "choices": ["because of fish", "out of spite"],
            "gold": 0,
        }
        for n in range(3)
    ]
    pairs = [
        {"sentence_good": f"Nobody in {n} villages had ever seen a purple badger dance.", "sentence_bad": "x"}
        for n in (7, 8)
    ]
    said = [
        {"context": "A very long winter came over the northern hills and then the", "continuation": "wolves"}
    ]
    for name, rows in (("why", questions), ("pairs", pairs), ("next", said)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [
        items_of(Task(name="why", path=str(tmp_path / "why.jsonl"), prompt="Question: {q}\nAnswer:")),
        items_of(Task(name="pairs", path=str(tmp_path / "pairs.jsonl"), kind="pairs")),
        items_of(Task(name="next", path=str(tmp_path / "next.jsonl"), kind="cloze")),
    ]


def test_items_of_a_suite_in_a_corpus(tasks, tmp_path):
    """An item counts with its answer; a left-out document does not; items keep the file and row of their task."""
    asked = tasks[0].items[1].prompt.removeprefix("Question: ").removesuffix("\nAnswer:")
    texts = [
        "Nothing at all to see in here.",
        f"On the quiz: {asked} They said because of fish, naturally.",
        tasks[0].items[2].prompt + " and nobody could answer.",
        f"He wrote: {tasks[1].items[1].choices[0]}",
        f"{tasks[2].items[0].prompt} wolves were heard.",
    ]
    ids = [f"doc-{n}" for n in range(5)]
    pq.write_table(
        pa.table({"id": ids, "text": pa.array(texts, pa.large_string())}), tmp_path / "docs.parquet"
    )
    found = contamination.search(tasks, str(tmp_path / "docs.parquet"), id="id", workers=1)
    assert found.found == {"why": ["why.jsonl:2"], "pairs": ["pairs.jsonl:2"], "next": ["next.jsonl:1"]}
    assert found.names() == {"why/why.jsonl:2", "pairs/pairs.jsonl:2", "next/next.jsonl:1"}
    assert (found.documents, found.items, found.unmatchable["why"]) == (
        5,
        {"why": 3, "pairs": 2, "next": 1},
        0,
    )
    (tmp_path / "left.jsonl").write_text('{"id": "doc-1"}\n')
    without = contamination.search(
        tasks, str(tmp_path / "docs.parquet"), id="id", leave_out=[str(tmp_path / "left.jsonl")], workers=1
    )
    assert (without.documents, without.found["why"]) == (4, [])


def test_a_suite_without_tasks_has_nothing_to_look_for(tmp_path):
    with pytest.raises(ConfigError, match="no task to look for"):
        contamination.search([], str(tmp_path))
