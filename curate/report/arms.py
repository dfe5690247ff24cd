"""The corpus of an arm beside the control's: its recipe, its funnel, what it cost, what it took away.

A corpus is what the arm's recipe made in `arms/NAME/corpus`, or the dataset that its tokens were made of.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from curate.engine.journal import MANIFEST
from curate.engine.result import Result, read_manifest
from curate.engine.unit import read_plan
from curate.errors import CurateError
from curate.io.files import Folder
from curate.report import recipes
from curate.report.facts import Facts, read_facts
from curate.report.page import Funnel
from curate.report.taken import Taken, taken, taken_of_input

TOKENS = ("tokens", "candidate")  # folders of an arm's tokens; the second where they are mixed with a base
_VALUE_CHARS = 60


class Corpus(msgspec.Struct, kw_only=True):
    """What the page shows of an arm's corpus; empty with a `note` where there is no more than a path."""

    path: str = ""
    note: str = ""
    changes: list[str] = []  # against the control's recipe: "plant.share: 0 → 0.5"
    rows_in: int = 0
    rows_kept: int = 0
    text_bytes: int = 0
    funnel: list[Funnel] = []
    seconds: dict[str, float] = {}  # CPU seconds of curation: corpus, tokens
    tokens: int = 0  # in the token dataset
    left_out: int = 0  # documents that are not in it: near the suite's held-out sets
    taken: Taken | None = None  # what it dropped or changed of what the control keeps


def corpus_of(arm: Path, find: Callable[[str], Path]) -> tuple[Corpus, Facts | None]:
    """Read what is left of an arm's folder; `find` says where a path lies that the study wrote."""
    found = Corpus()
    made = arm / "corpus"
    tokens = Folder(str(next((path for path in map(arm.joinpath, TOKENS) if path.is_dir()), arm)))
    plan = read_plan(tokens)
    if plan is not None and tokens.exists(MANIFEST):
        counted = read_manifest(tokens)
        found.tokens, found.seconds["tokens"] = counted.tokens, _cpu_seconds(counted)
        found.left_out = sum(sum(reasons.values()) for reasons in counted.rows.dropped.values())
    if (made / MANIFEST).is_file():
        path = made
    elif plan is not None:
        source = plan.recipe.input.path[0]
        path = find(source if isinstance(source, str) else source.path)
    else:
        found.note = f"no corpus and no tokens in {arm}"
        return found, None
    found.path = str(path)
    if not (path / MANIFEST).is_file():
        found.note = f"its corpus, {path}, is not the output of a run, so it has no funnel"
        return found, None
    try:
        facts = read_facts(found.path)
    except CurateError as error:  # the verdict does not hang on it
        found.note = f"its corpus cannot be looked at: {error}"
        return found, None
    _fill(found, facts)
    return found, facts


def set_beside(found: Corpus, facts: Facts, control: Facts | None) -> None:
    """Add what differs from the control: keys of the recipe, and documents; of one that no run made, what the arm drops."""
    if control is not None:
        try:
            found.changes = list(_changes(control, facts))
            found.taken = taken(control, facts)
            return
        except CurateError as error:
            found.note = f"its corpus cannot be set beside the control's: {error}"
    try:
        found.taken = taken_of_input(facts)
    except CurateError as error:
        found.note = f"its corpus cannot be read: {error}"


def _fill(found: Corpus, facts: Facts) -> None:
    rows = facts.result.rows
    found.rows_in, found.rows_kept, found.text_bytes = (
        rows.in_ + rows.made,
        rows.kept,
        facts.result.text_bytes,
    )
    found.seconds["corpus"] = _cpu_seconds(facts.result)
    found.funnel = [
        Funnel(name=step.name, where=step.where, rows=step.rows, left=step.left, dropped=sum(step.dropped.values()),
               tokens_left=None)
        for step in facts.steps
    ]  # fmt: skip


def _cpu_seconds(result: Result) -> float:
    return sum(float(one["cpu_seconds"]) for one in result.passes)


def _changes(control: Facts, facts: Facts) -> Iterator[str]:
    """Keys of the recipe that differ, as `step.key: before \u2192 now`."""
    found = recipes.compare(control.plan.recipe, facts.plan.recipe)
    for change in found.top:
        if change.key != "output.path":
            yield _change("", change)
    for pair in found.steps:
        if pair.a is None or pair.b is None:
            yield f"{pair.name}: {'added' if pair.a is None else 'left out'}"
        for change in pair.changes:
            yield _change(f"{pair.name}.", change)


def _change(before: str, change: recipes.Change) -> str:
    a, b = ("none" if v in (None, "") else str(v)[:_VALUE_CHARS] for v in (change.a, change.b))
    return f"{before}{change.key}: {a} \u2192 {b}"
