"""What `decontaminate` found, task by task: items, the documents that hold them, the text that matches."""

from typing import Any

import msgspec

from curate.report.counts import columns_of, literal, quoted, rows_of
from curate.report.facts import Facts

MATCHES = 6  # documents shown for each task
STAGE = "decontaminate"
_COLUMNS = ("items", "task", "item", "match", "pass", "reason", "value")


class Match(msgspec.Struct, kw_only=True):
    """A document that holds an item, and what stands there of it."""

    id: str
    item: str  # file:row
    text: str
    failed: bool
    reason: str = ""
    value: float | None = None


class Task(msgspec.Struct, kw_only=True):
    """An evaluation set."""

    name: str
    items: int  # different ones that were found
    documents: int  # that hold one or more
    failed: int  # of these
    matches: list[Match] = []  # of documents in which its item is the one found best; those that failed first


class Contamination(msgspec.Struct, kw_only=True):
    """What a step found."""

    name: str
    documents: int = 0  # that hold an item of any task
    failed: int = 0
    unknown: int = 0  # documents that it dropped and whose columns were not kept
    tasks: list[Task] = []  # most items first


def contaminations(connection: Any, facts: Facts) -> list[Contamination]:
    """One for each step that is `decontaminate`."""
    columns = {view: columns_of(connection, view) for view in ("docs", "dropped")}
    stages = {step.index: step.stage for step in facts.plan.recipe.steps}
    found = []
    for name in (step.name for step in facts.steps if stages[step.index] == STAGE):
        views = [v for v, names in columns.items() if {f"{name}_{c}" for c in _COLUMNS} <= set(names)]
        found.append(_of_step(connection, facts, name, views))
    return found


def _of_step(connection: Any, facts: Facts, name: str, views: list[str]) -> Contamination:
    said = ", ".join(f"{quoted(f'{name}_{column}')} AS {quoted(column)}" for column in _COLUMNS)
    both = " UNION ALL ".join(
        f"SELECT id, {said}, {'drop_stage' if view == 'dropped' else 'NULL'} AS dropped_by FROM {view}"
        for view in views
    )
    one = Contamination(name=name)
    blamed = sum(rows for (stage, _), rows in facts.dropped.items() if stage == name)
    if not views:
        one.unknown = blamed
        return one
    rows = f"(SELECT * FROM ({both}) WHERE items IS NOT NULL)"
    ((one.documents, one.failed, here),) = rows_of(
        connection,
        f"SELECT count(*), count(*) FILTER (WHERE NOT pass), count(*) FILTER (WHERE dropped_by = {literal(name)}) FROM {rows}",
    )
    one.unknown = max(0, blamed - here)
    one.tasks = _tasks(connection, rows)
    return one


def _tasks(connection: Any, rows: str) -> list[Task]:
    """Items are `task/file:row`, and a task may have a slash in it."""
    task = "regexp_replace({}, '/[^/]*$', '')"
    items = rows_of(
        connection,
        f"SELECT {task.format('i')} AS t, count(DISTINCT i) FROM (SELECT unnest(items) AS i FROM {rows}) GROUP BY t",
    )
    each = f"list_distinct(list_transform(items, lambda i: {task.format('i')}))"
    documents = rows_of(
        connection,
        f"SELECT t, count(*), count(*) FILTER (WHERE NOT pass) FROM (SELECT pass, unnest({each}) AS t FROM {rows}) GROUP BY t",
    )
    rank = "(hash(id) >> 1) + CASE WHEN pass THEN 9223372036854775808 ELSE 0 END"
    shown = rows_of(
        connection,
        f"SELECT task, min_by(struct_pack(id, item, match, pass, reason, value), {rank}, {MATCHES}) FROM {rows} GROUP BY task",
    )
    matches = {
        name: [
            Match(
                id=m["id"],
                item=m["item"],
                text=m["match"],
                failed=not m["pass"],
                reason=m["reason"] or "",
                value=m["value"],
            )
            for m in of
        ]
        for name, of in shown
    }
    counts = {name: (held, failed) for name, held, failed in documents}
    return [
        Task(
            name=name,
            items=n,
            documents=counts[name][0],
            failed=counts[name][1],
            matches=matches.get(name, []),
        )
        for name, n in sorted(items, key=lambda row: (-row[1], row[0]))
    ]
