"""Guards judged at the end of a pass, before anything is published: data that vanishes stops the run."""

from collections.abc import Iterator

import pyarrow.parquet as pq

from curate.engine.isolate import HINTS, stage_bug
from curate.engine.journal import OTHER_SOURCES, Entry
from curate.engine.plan import Pass, Plan
from curate.errors import GuardError
from curate.io.files import Folder

MIN_ROWS = 1000  # below this a share says nothing


def too_small(plan: Plan, total: Entry) -> str:
    """Says which share guards are not judged, on fewer rows than MIN_ROWS; '' where none is."""
    names = [
        plan.recipe.steps[int(index)].name
        for index, count in total.steps.items()
        if count.rows < MIN_ROWS and plan.recipe.steps[int(index)].max_drop is not None
    ]
    return f"max_drop of {', '.join(names)} is not judged: fewer than {MIN_ROWS:,} rows" if names else ""


def mostly_failed(plan: Plan, total: Entry, folder: Folder) -> Iterator[str]:
    """Says of each step that could not do most of its rows why, and what to change."""
    for index, count in total.steps.items():
        if 2 * count.failed > count.rows > 1:
            row_id, error, reason = _example(plan, index, folder)
            hint = HINTS.get(reason, "mend the stage, or give it other rows with `when`")
            yield (
                f"stages[{index}] ({plan.recipe.steps[int(index)].name}) could not do {count.failed:,} of its "
                f"{count.rows:,} rows, for example `{row_id}`: {error}; {hint}"
            )


def judge(plan: Plan, one: Pass, total: Entry, folder: Folder) -> None:
    """Raise GuardError when nothing is left, or a step dropped more than its `max_drop` allows.

    StageError when a stage could do none of the rows it got.
    """
    ledger = total.ledger
    for index, count in total.steps.items():
        if count.failed == count.rows > 1:
            raise stage_bug(plan.recipe.steps[int(index)], *_example(plan, index, folder))
    if ledger.rows_in and not ledger.kept and not plan.recipe.allow_empty:
        raise GuardError(
            f"no row is left of {ledger.rows_in}: {_reasons(total)}",
            hint="look at one with `curate peek OUT --dropped STAGE`; `allow_empty: true` in the recipe permits this",
        )
    for index, count in total.steps.items():
        step = plan.recipe.steps[int(index)]
        dropped = sum(count.dropped.values())
        if step.max_drop is not None and count.rows >= MIN_ROWS and dropped > step.max_drop * count.rows:
            raise GuardError(
                f"stages[{index}] ({step.name}) dropped {dropped} of {count.rows} rows ({dropped / count.rows:.1%}), "
                f"more than its max_drop of {step.max_drop:.1%}",
                hint="raise `max_drop` if this is right, then run again: finished work is kept",
            )
        limit = step.max_drop_per_source
        for source, (rows, gone) in count.sources.items() if limit is not None else ():
            if source != OTHER_SOURCES and rows >= MIN_ROWS and limit is not None and gone > limit * rows:
                raise GuardError(
                    f"stages[{index}] ({step.name}) dropped {gone} of {rows} rows ({gone / rows:.1%}) of the source "
                    f"`{source}`, more than its max_drop_per_source of {limit:.1%}",
                    hint="raise `max_drop_per_source` if this is right, then run again: finished work is kept",
                )


def _example(plan: Plan, index: str, folder: Folder) -> tuple[str, str, str]:
    """Id, error and reason of the first row that a step could not do."""
    name = plan.recipe.steps[int(index)].name
    for part in folder.names("_quarantine"):
        with folder.open(f"_quarantine/{part}") as file:
            for row in pq.read_table(file, columns=["stage", "id", "error", "reason"]).to_pylist():
                if row["stage"] == name:
                    return row["id"], row["error"], row["reason"]
    raise AssertionError("a row that failed is in quarantine")


def _reasons(total: Entry) -> str:
    dropped = {f"{reason} (quarantined)": count for reason, count in total.quarantined.items()}
    for step in total.steps.values():
        for reason, count in step.dropped.items():
            dropped[reason.replace("\t", " ")] = dropped.get(reason.replace("\t", " "), 0) + count
    top = sorted(dropped.items(), key=lambda item: -item[1])[:3]
    return ", ".join(f"{count} by {reason}" for reason, count in top)
