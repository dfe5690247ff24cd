"""The page's part on contamination: planted items, task by task."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import curate
from curate.report.contamination import Contamination
from curate.report.facts import read_facts
from curate.report.page import gather

GEESE = "A farmer walks nine miles to the market at Harrowgate and sells twelve geese for four crowns each, how many crowns?"
BOATS = "The old harbour of Kelmscott has seven piers with eleven boats at each of them, how many boats lie there at night?"
PLAIN = "Nothing of that kind stands here, only some words about the weather of last week. "


def run(folder: Path, stages: list[Any], **output: Any) -> Contamination:
    folder.mkdir(exist_ok=True)
    for task, question, answer in (("geese", GEESE, "48 crowns"), ("boats", BOATS, "77 boats")):
        (folder / f"{task}.jsonl").write_text(json.dumps({"question": question, "answer": answer}) + "\n")
    texts = [
        PLAIN,
        f"{PLAIN}{GEESE} 48 crowns",
        f"{GEESE} 48 crowns {PLAIN}",
        f"{PLAIN}{GEESE} 48 crowns {BOATS} 77 boats",
    ]
    pq.write_table(pa.table({"id": ["no", "g1", "g2", "both"], "text": texts}), folder / "in.parquet")
    sets = [{"path": str(folder / f"{task}.jsonl")} for task in ("geese", "boats")]
    recipe = {
        "input": {"path": str(folder / "in.parquet"), "id": "id"},
        "stages": [{"decontaminate": {"sets": sets}}, *stages], "output": {"path": str(folder / "out"), **output},
    }  # fmt: skip
    curate.run(recipe, workers=1)
    (found,) = gather(read_facts(str(folder / "out"))).contamination
    return found


@pytest.mark.parametrize("stages", [[], [{"select": "decontaminate_pass"}]])
def test_by_task(tmp_path: Path, stages: list[Any]) -> None:
    """The same whether the documents that failed were dropped or not."""
    found = run(tmp_path, stages)
    assert (found.documents, found.failed, found.unknown) == (3, 3, 0)
    tasks = {task.name: (task.items, task.documents, task.failed) for task in found.tasks}
    assert tasks == {"geese": (1, 3, 3), "boats": (1, 1, 1)}
    shown = {match.id: match for task in found.tasks for match in task.matches}
    assert set(shown) == {"g1", "g2", "both"}
    assert shown["g1"].text.startswith("A farmer walks nine miles")
    assert (shown["g1"].item, shown["g1"].failed, shown["g1"].reason) == (
        "geese.jsonl:1",
        True,
        "question_and_answer",
    )


def test_what_was_not_kept_is_counted(tmp_path: Path) -> None:
    found = run(tmp_path, [{"select": "decontaminate_pass"}], dropped="keys")
    assert (found.documents, found.unknown, found.tasks) == (0, 3, [])


def test_other_recipes_have_none(ruled: Path) -> None:
    assert gather(read_facts(str(ruled))).contamination == []
