"""Items of a suite that a corpus holds, and the scores of all arms on those that no arm has seen.

Found   by `decontaminate`, in its own way (rarity): an item is sought as it is put to a model, prompt and right answer;
        of a pair the good sentence. See `curate explain decontaminate` for what it misses
Items go by the names that `decontaminate` gives them, task/file:row, of which file:row is compared: where two tasks have
files of one name, an item found in one leaves both.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import ConfigError, DataError
from curate.eval.suite import Items
from curate.eval.tasks import TaskResult, results_of
from curate.stages import _sought, decontaminate
from curate.stages._evaluation import NONE
from curate.stages._evaluation import Set as Sought

COLUMN = "decontaminate_items"


class Arm(msgspec.Struct, frozen=True, kw_only=True):
    """One arm's scores."""

    common: dict[str, TaskResult]  # on the items that are clean in every arm: what a verdict compares
    full: dict[str, TaskResult]  # on all items
    contaminated: dict[str, int]  # items of each task found in this arm's data


class Common(msgspec.Struct, frozen=True, kw_only=True):
    """All arms on identical items."""

    arms: dict[str, Arm]
    left_out: dict[str, list[str]]  # task -> file:row of the items that left
    unusable: list[str]  # tasks of which no item is clean in every arm


class Contamination(msgspec.Struct, frozen=True, kw_only=True):
    """Items of a suite that a corpus holds."""

    corpus: str
    documents: int  # that were searched
    items: dict[str, int]  # of each task, those that were sought
    unmatchable: dict[str, int]  # and those among them of which too little can be sought
    found: dict[str, list[str]]  # task -> file:row of the items found

    def names(self) -> set[str]:
        """Of the items found, as `decontaminate` has them: task/file:row."""
        return {f"{task}/{item}" for task, items in self.found.items() for item in items}


def search(
    tasks: Sequence[Items],
    corpus: str,
    *,
    id: str | None = None,
    leave_out: Sequence[str] = (),
    workers: int = 0,
) -> Contamination:
    """Look for the items of tasks in a corpus (files, a folder or a glob), without the documents that are left out.

    ConfigError where there is no task; what cannot be read of the corpus is not searched, for nobody trains on it.
    """
    if not tasks:
        raise ConfigError(
            "the suite has no task to look for", hint="bits per byte: `curate eval heldout --set`"
        )
    with TemporaryDirectory(prefix="curate-") as made:
        scratch = Path(made)
        sets = [_laid_down(one, scratch / f"{number}.jsonl") for number, one in enumerate(tasks)]
        counts = _sought.count(decontaminate.Config(sets=tuple(sets)))
        rows = _searched(sets, corpus, id, leave_out, scratch, workers)
        names = contaminated(str(scratch / "out"))
    numbers = {
        one.task: [int(n.rpartition(":")[2]) for n in names if n.startswith(f"{one.task}/")] for one in sets
    }
    return Contamination(
        corpus=corpus, documents=rows, items={task: one["items"] for task, one in counts.items()},
        unmatchable={task: one["unmatchable"] for task, one in counts.items()},
        found={one.task.name: [one.items[n - 1].id for n in sorted(numbers[one.task.name])] for one in tasks},
    )  # fmt: skip


def _laid_down(one: Items, file: Path) -> Sought:
    """The items of a task as a set that `decontaminate` reads: row n is item n."""
    pairs = one.task.kind == "pairs"
    with file.open("wb") as out:
        for item in one.items:
            right = item.choices[item.gold]
            question = right if pairs or not item.prompt.strip() else item.prompt
            out.write(msgspec.json.encode({"question": question, "answer": right}) + b"\n")
    return Sought(
        path=str(file),
        task=one.task.name,
        question="question",
        answer=NONE if pairs else "answer",
        passage=NONE,
    )


def _searched(
    sets: Sequence[Sought], corpus: str, id: str | None, leave_out: Sequence[str], scratch: Path, workers: int
) -> int:
    """Run the stage into `scratch`/out; returns the number of documents searched."""
    from curate.engine.api import run

    without = [{"leave_out": {"lists": list(leave_out)}}, {"select": "leave_out_pass"}] if leave_out else []
    recipe = {
        "name": "contamination", "input": {"path": corpus, **({"id": id} if id else {})},
        "stages": [*without, {"decontaminate": {"sets": msgspec.to_builtins(sets)}}],
        "output": {"path": str(scratch / "out"), "columns": [COLUMN], "dropped": "keys"},
        "store": str(scratch / "store"), "allow_empty": True, "allow_quarantined": 1 << 40,
    }  # fmt: skip
    return run(recipe, workers=workers).rows.kept


def contaminated(corpus: str) -> set[str]:
    """Items found in the kept documents of a dataset that went through `decontaminate`, as it names them."""
    from curate.engine.run import read

    found: set[str] = set()
    for batch in read(corpus):
        if COLUMN not in batch.schema.names:
            hint = "add `decontaminate: {sets: [...]}` to the recipe, with the files of the suite's tasks"
            raise DataError(f"no column `{COLUMN}`: its contamination is not known", where=corpus, hint=hint)
        found.update(pc.unique(pc.list_flatten(batch[COLUMN])).drop_null().to_pylist())
    return found


def on_common_items(arms: Mapping[str, pa.Table], found: Mapping[str, Iterable[str]]) -> Common:
    """Score every arm's ITEMS (see tasks) without the items found in any arm's data.

    DataError where an arm's contamination is not given, or arms were not scored on the same items.
    """
    if missing := sorted(set(arms) ^ set(found)):
        raise DataError(
            f"the arm `{missing[0]}` has scores or contamination, not both", hint="an arm without has set()"
        )
    first, asked = _asked(arms)
    by_arm = {arm: {name.rpartition("/")[2] for name in names} for arm, names in found.items()}
    everywhere: Set[str] = set().union(*by_arm.values())
    clean = {arm: rows.filter(pc.invert(_among(rows, everywhere))) for arm, rows in arms.items()}
    tasks = pc.unique(arms[first]["task"]).to_pylist()
    common = {arm: results_of(rows) for arm, rows in clean.items()}
    scored = {
        arm: Arm(common=common[arm], full=results_of(rows), contaminated=_counts(rows, by_arm[arm], tasks))
        for arm, rows in arms.items()
    }
    left = {task: [item for of, item, _ in asked if of == task and item in everywhere] for task in tasks}
    return Common(arms=scored, left_out=left, unusable=[task for task in tasks if task not in common[first]])


def _asked(arms: Mapping[str, pa.Table]) -> tuple[str, list[tuple[str, str, str]]]:
    """(the first arm, its (task, item, prompt hash)); DataError where another arm was asked other things."""
    if not arms:
        raise DataError("no arm was scored")
    first, *others = arms
    keys = {arm: _keys(rows) for arm, rows in arms.items()}
    for other in others:
        if keys[other] != keys[first]:
            odd = min(set(keys[other]) ^ set(keys[first]), default=keys[first][0])
            raise DataError(
                f"`{first}` and `{other}` were not scored on the same items: {odd[1]} of `{odd[0]}`",
                hint="score all arms on one suite, with one limit and models of one context",
            )
    return first, keys[first]


def _keys(rows: pa.Table) -> list[tuple[str, str, str]]:
    columns: Any = (rows[name].to_pylist() for name in ("task", "item", "prompt_hash"))
    return list(zip(*columns, strict=True))


def _among(rows: pa.Table, names: Set[str]) -> pa.ChunkedArray:
    return pc.is_in(rows["item"], value_set=pa.array(sorted(names), pa.string()))


def _counts(rows: pa.Table, names: Set[str], tasks: list[str]) -> dict[str, int]:
    hit = rows.filter(_among(rows, names))["task"].to_pylist()
    return {task: hit.count(task) for task in tasks}
