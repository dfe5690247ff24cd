"""Scores of all arms on the items that no arm has seen: what is contaminated in one leaves the scores of all.

Items go by the names that `decontaminate` gives them, task/file:row, of which file:row is compared: where two tasks have
files of one name, an item found in one leaves both.
"""

from collections.abc import Iterable, Mapping, Set
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import DataError
from curate.eval.tasks import TaskResult, results_of

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
