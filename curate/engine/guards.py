"""Guards judged at the end of a pass, before anything is published: data that vanishes, and what looks wrong, stop the run.

Shares, scores and stages that change nothing are judged on at least MIN_ROWS rows, a source or language alone on enough
of its own. A guard that `guards: {allow: [NAME]}` or `--allow NAME` names only warns; what is let through stands in the
log. Two exceptions: duplicates and what else a stage declares as `rare` (lists, personal data, repairs) may well not be
there, so not to find any only warns; and `lang_score`, which says how sure the language itself is, differs by language
by its nature, so eta squared is not asked of what the step that writes `lang` measures.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import pyarrow.parquet as pq

from curate.engine import bias
from curate.engine.bias import OTHERS, Moments, ScoreCount
from curate.engine.isolate import HINTS, stage_bug
from curate.engine.journal import Entry, StepCount
from curate.engine.plan import Plan, writers
from curate.errors import GuardError
from curate.io.files import Folder
from curate.recipe.guards import Guards
from curate.recipe.recipe import CHECKPOINT, MAX_DROPS, Recipe, Step

MIN_ROWS = 1000  # below this a share says nothing
MIN_SOURCE = 200  # rows of a source whose scores may be called constant
MIN_LANG = 100  # rows of a language that stands for itself in eta squared
MIN_SAMPLE = 200  # rows of a language whose scores are held against their length
MAX_LINES = 20  # of a table

Table = Sequence[tuple[str, ...]]


class Finding(NamedTuple):
    """What a guard found: in a sentence, with the figures, and what to do if it is right."""

    guard: str
    what: str
    table: Table
    hint: str
    warns: bool = False  # and never stops


def too_small(plan: Plan, total: Entry) -> str:
    """Says which share guards are not judged, on fewer rows than MIN_ROWS; '' where none is."""
    steps = [(plan.recipe.steps[int(index)], count.rows) for index, count in total.steps.items()]
    names = [
        step.name for step, rows in steps if rows < MIN_ROWS and any(getattr(step, k) is not None for k in MAX_DROPS)
    ]  # fmt: skip
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


def judge(plan: Plan, total: Entry, folder: Folder) -> list[str]:
    """Raise GuardError with the tables of all guards that fired and are not allowed; returns what only warns.

    StageError when a stage could do none of the rows it got.
    """
    for index, count in total.steps.items():
        if count.failed == count.rows > 1:
            raise stage_bug(plan.recipe.steps[int(index)], *_example(plan, index, folder))
    found = [*_empty(plan, total)]
    for index, count in total.steps.items():
        step = plan.recipe.steps[int(index)]
        found += [*_drops(step, count), *_scores(step, count, plan.recipe)]
    found += _unchanged(plan, total)
    return settle(found, plan.recipe.guards)


def settle(found: list[Finding], guards: Guards) -> list[str]:
    """GuardError for what is not allowed; the rest in words."""
    stops = [finding for finding in found if not finding.warns and finding.guard not in guards.allow]
    if stops:
        names = ",".join(dict.fromkeys(finding.guard for finding in stops))
        hints = "; ".join(dict.fromkeys(finding.hint for finding in stops))
        raise GuardError(
            "\n\n".join("\n".join([f.what, *_lines(f.table)]) for f in stops),
            hint=f"{hints}; or let it through with `--allow {names}`. Run again: finished work is kept",
        )
    return [f"{f.what} (allowed)" if not f.warns else f.what for f in found]


def _lines(table: Table) -> list[str]:
    """A table below its sentence, indented; numbers to the right."""
    if not table:
        return []
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = []
    for first, *rest in table[: MAX_LINES + 1]:
        cells = [first.ljust(widths[0]), *(c.rjust(w) for c, w in zip(rest, widths[1:], strict=True))]
        lines.append("  " + "  ".join(cells).rstrip())
    more = len(table) - 1 - MAX_LINES
    return ["", *lines, *([f"  {more} more"] if more > 0 else [])]


def _empty(plan: Plan, total: Entry) -> Iterator[Finding]:
    rows = total.ledger.rows_in
    if rows and not total.ledger.kept and not plan.recipe.allow_empty:
        steps = [(plan.recipe.steps[int(index)], count) for index, count in total.steps.items()]
        table = [("stage", "rows", "dropped")]
        table += [(_name(step), f"{c.rows:,}", f"{sum(c.dropped.values()):,}") for step, c in steps]
        yield Finding(
            "empty", f"no row is left of {rows}: {_reasons(total)}", table,
            "look at one with `curate peek OUT --dropped STAGE`; `allow_empty: true` in the recipe permits this",
        )  # fmt: skip


def _drops(step: Step, count: StepCount) -> Iterator[Finding]:
    dropped = sum(count.dropped.values())
    limit = step.max_drop
    if limit is not None and count.rows >= MIN_ROWS and dropped > limit * count.rows:
        yield Finding(
            "max_drop",
            f"{_name(step)} dropped {dropped} of {count.rows} rows ({dropped / count.rows:.1%}), "
            f"more than its max_drop of {limit:.1%}",
            [], "raise `max_drop` if this is right",
        )  # fmt: skip
    for guard, what, groups in (
        ("max_drop_per_source", "source", count.sources),
        ("max_drop_per_lang", "language", count.langs),
    ):
        limit = getattr(step, guard)
        if limit is not None:
            yield from _drops_of(step, guard, what, groups, limit)


def _drops_of(
    step: Step, guard: str, what: str, groups: Mapping[str, list[int]], limit: float
) -> Iterator[Finding]:
    judged = [(n, rows, gone) for n, (rows, gone) in groups.items() if n != OTHERS and rows >= MIN_ROWS]
    judged.sort(key=lambda group: (-group[2] / group[1], group[0]))
    over = [group for group in judged if group[2] > limit * group[1]]
    if over:
        name, rows, gone = over[0]
        more = f" and of {len(over) - 1} more" if len(over) > 1 else ""
        table = [(what, "rows", "dropped", "share")]
        table += [(_shown(n), f"{rows:,}", f"{gone:,}", f"{gone / rows:.1%}") for n, rows, gone in judged]
        yield Finding(
            guard,
            f"{_name(step)} dropped {gone} of {rows} rows ({gone / rows:.1%}) of the {what} `{name}`{more}, "
            f"more than its {guard} of {limit:.1%}",
            table, f"raise `{guard}` if this is right",
        )  # fmt: skip


def _unchanged(plan: Plan, total: Entry) -> Iterator[Finding]:
    """Steps that could have dropped, failed or edited something; those that look for what is rare only warn."""
    idle = [
        (step, count.rows)
        for index, count in total.steps.items()
        if count.rows >= MIN_ROWS and not count.changed and not count.dropped
        and _could_change(step := plan.recipe.steps[int(index)])
    ]  # fmt: skip
    only_warns = plan.recipe.guards.unchanged == "warn"
    for rare in (False, True):
        steps = [(_name(step), rows) for step, rows in idle if _looks_for_rare(step, plan.recipe) == rare]
        names = ", ".join(f"{name} in {rows:,} rows" for name, rows in steps)
        if steps:
            yield Finding(
                "unchanged", f"nothing was dropped, failed or edited by {names}",
                [("stage", "rows", "changed"), *((name, f"{rows:,}", "0") for name, rows in steps)],
                "look at the options of the stage (a list, a bound, `when`), or leave it out",
                warns=rare or only_warns,
            )  # fmt: skip


def _looks_for_rare(step: Step, recipe: Recipe) -> bool:
    """Duplicates, what a stage declares as rare, and a select that asks for the verdicts of such stages alone."""
    if step.stage != "select":
        return step.spec().is_global or step.spec().rare
    flags = {s.name: s.spec().rare for s in recipe.steps[: step.index] if s.stage != CHECKPOINT}
    asked = re.split(r"\s+and\s+", step.config["where"].strip(), flags=re.IGNORECASE)
    return all(flags.get(one.removesuffix("_pass"), False) for one in asked)


def _could_change(step: Step) -> bool:
    spec = step.spec()
    written = spec.columns_written(step.settings())
    return step.stage == "select" or spec.is_global or "text" in written or f"{spec.name}_pass" in written


def _scores(step: Step, count: StepCount, recipe: Recipe) -> Iterator[Finding]:
    guards, names = recipe.guards, writers(recipe)
    for column, score in sorted(count.scores.items()):
        yield from _constant(step, column, score)
        if column not in names or names[column] != names.get("lang"):  # not how sure the language itself is
            yield from _by_language(step, column, score, guards.max_language_eta2)
        yield from _by_length(step, column, score, guards.max_length_spearman)


def _constant(step: Step, column: str, score: ScoreCount) -> Iterator[Finding]:
    """In a source, or in everything."""
    whole: dict[str, Moments] = {}
    for found in score.langs.values():
        bias.merge_moments(whole, "", list(found))
    if not whole or whole[""][0] < MIN_ROWS:
        return
    judged = {n: m for n, m in score.sources.items() if n != OTHERS and m[0] >= MIN_SOURCE}
    constant = [name for name, found in judged.items() if found[4] == found[5]]
    if whole[""][4] == whole[""][5]:
        yield Finding(
            "constant_score", f"`{column}`, on which {_name(step)} cuts, is the same in all rows",
            _moments_table("", {"all": whole[""]}), "a score that says nothing drops all rows or none",
        )  # fmt: skip
    elif constant:
        yield Finding(
            "constant_score",
            f"`{column}`, on which {_name(step)} cuts, is the same in all rows of the source `{sorted(constant)[0]}`"
            + (f" and of {len(constant) - 1} more" if len(constant) > 1 else ""),
            _moments_table("source", {n: judged[n] for n in sorted(judged, key=lambda n: (n not in constant, n))}),
            "a score that says nothing drops all of a source or none",
        )  # fmt: skip


def _by_language(step: Step, column: str, score: ScoreCount, bound: float) -> Iterator[Finding]:
    judged = {n: m for n, m in score.langs.items() if n != OTHERS and m[1] >= MIN_LANG}
    if len(judged) < 2 or sum(m[1] for m in judged.values()) < MIN_ROWS:
        return
    share = bias.eta_squared(judged)
    if share > bound:
        order = sorted(judged, key=lambda name: (-judged[name][2], name))
        yield Finding(
            "score_by_language",
            f"`{column}`, on which {_name(step)} cuts, is explained by language: eta squared {share:.2f}, "
            f"above max_language_eta2 of {bound:g}",
            _moments_table("language", {name: judged[name] for name in order}),
            "one bound for all languages then chooses languages: cut within each (`lang = 'en' and ...`, thresholds)",
        )  # fmt: skip


def _by_length(step: Step, column: str, score: ScoreCount, bound: float) -> Iterator[Finding]:
    found = []
    for name, rows in score.sample.items():
        if name != OTHERS and len(rows) >= MIN_SAMPLE * bias.ROW.itemsize:
            found.append((name, len(rows) // bias.ROW.itemsize, bias.spearman(rows)))
    found.sort(key=lambda item: (-abs(item[2]), item[0]))
    if found and sum(m[1] for m in score.langs.values()) >= MIN_ROWS and abs(found[0][2]) > bound:
        name, _, rho = found[0]
        yield Finding(
            "score_by_length",
            f"`{column}`, on which {_name(step)} cuts, is explained by length in the language `{name}`: "
            f"Spearman {rho:.2f}, beyond max_length_spearman of {bound:g}",
            [("language", "sampled rows", "Spearman"), *((_shown(n), f"{rows:,}", f"{r:.2f}") for n, rows, r in found)],
            "such a cut chooses long texts or short ones: cut on length itself, or take another score",
        )  # fmt: skip


def _moments_table(what: str, groups: Mapping[str, Moments]) -> Table:
    table: list[tuple[str, ...]] = [(what, "rows", "scored", "mean", "deviation", "least", "largest")]
    for name, (rows, scored, mean, square, low, high) in groups.items():
        numbers = (mean, (square / scored) ** 0.5, low, high) if scored else ()
        shown = [f"{number:.4g}" for number in numbers] or ["", "", "", ""]
        table.append((_shown(name), f"{rows:,.0f}", f"{scored:,.0f}", *shown))
    return table


def _name(step: Step) -> str:
    return f"stages[{step.index}] ({step.name})"


def _shown(name: str) -> str:
    return name if len(name) <= 60 else f"{name[:28]}...{name[-29:]}"


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
