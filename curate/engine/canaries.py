"""Canaries: a small run of the same recipe before the real one, with rows planted that its stages must find.

Rows drawn from the input go through the recipe in a temporary folder; those that it keeps are the hosts. Each host then
gets one thing planted (see `planted`) and all go through once more: same stages, options, models and lists, and the same
phases of global stages. What a stage must find it must find in every row that came to it. Real rows and canaries are
never in one run, so no canary can come into an output, a count or a sum of ids.

Not      bytes of the input's own format: rows are drawn as the reader gives them, and planted as Parquet
         a stage to which no planted row came says nothing: that is a warning
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.engine.canary import Change, Host, Kind
from curate.engine.draw import draw, mixed, pieces_of, spread
from curate.engine.guards import Finding, settle
from curate.engine.plan import Plan
from curate.engine.planted import kinds, planted_row, reads_pages
from curate.io.files import Folder
from curate.io.inputs import Input
from curate.recipe.guards import NAMES, Guards
from curate.recipe.recipe import MAX_DROPS, Recipe, Step
from curate.schema import raw_columns

FILE = "_curate/canaries.json"
ROWS = 2000  # drawn
READ_BYTES = 64 << 20  # of the input, to draw them from
EACH = 12  # hosts of a kind
BESIDE = 500  # other rows that run with them
HOST_CHARS = 20_000  # a longer text is no host
DOCUMENT_BYTES = 200_000  # nor is what is in a larger document, which is not drawn
SAMPLE_BYTES = 16 << 20  # of all documents drawn
KEPT = 1 << 30  # where a kept row ends; dropped ones end at their step


class Found(msgspec.Struct, kw_only=True):
    """What a step made of one kind of canary."""

    planted: str
    stage: str
    rows: int
    came: int  # to the stage: others may have dropped it before
    found: int


class Canaries(msgspec.Struct, kw_only=True):
    """`_curate/canaries.json`."""

    schema: str = "curate.canaries/1"
    sampled_rows: int
    hosts: int
    controls: int  # hosts written anew with nothing planted ...
    controls_kept: int  # ... and kept once more
    found: list[Found]


class Ends(dict[str, tuple[int, dict[str, Any]]]):
    """Id -> the step that dropped the row, or KEPT, and its columns."""


def watch(
    plan: Plan, recipe: Recipe, out: Folder, stage_files: Sequence[str], max_memory_mb: int
) -> list[str]:
    """Plant canaries and judge what the stages find, once for each run; returns warnings.

    GuardError where a stage misses one. Raises what the run itself would raise.
    """
    if out.exists(FILE):
        return []
    with TemporaryDirectory(prefix="curate-canaries-") as name:
        drawn = draw(plan, spread(pieces_of(plan), READ_BYTES), ROWS)
        rows = (
            _small(mixed(pa.concat_tables(drawn.groups)))
            if drawn.groups
            else plan.input_schema().empty_table()
        )
        result = _plant(rows, recipe, stage_files, max_memory_mb, Path(name))
    warnings = settle(list(_judge(result)), recipe.guards)
    out.replace(FILE, msgspec.json.format(msgspec.json.encode(result), indent=1))
    return warnings


def counts(out: Folder) -> dict[str, int]:
    """Rows planted, those that came to the stage that must find them, and those it found; nothing without canaries."""
    if not out.exists(FILE):
        return {}
    found = msgspec.json.decode(out.read(FILE), type=Canaries).found
    return {
        "planted": sum(f.rows for f in found),
        "came": sum(f.came for f in found),
        "found": sum(f.found for f in found),
    }


def _plant(
    rows: pa.Table, recipe: Recipe, stage_files: Sequence[str], max_memory_mb: int, scratch: Path
) -> Canaries:
    first = _run(rows, recipe, stage_files, max_memory_mb, scratch / "sample")
    hosts = list(_hosts(rows, first))
    wanted = kinds(recipe, rows.schema)
    eligible = {step.index: _inside(step, first) for step in recipe.steps if step.when}
    planted, used = _choose(hosts, wanted, eligible)
    added, needles = _rows(planted, rows.schema, recipe)
    rest = rows.filter(pa.array([i not in used for i in rows["id"].to_pylist()], pa.bool_())).slice(0, BESIDE)
    both = pa.concat_tables([rest, pa.Table.from_pylist(added, rows.schema)])
    ends = _run(both, recipe, stage_files, max_memory_mb, scratch / "planted") if added else Ends()
    controls = [name for name in needles if name.startswith("canary-control-")]
    return Canaries(
        sampled_rows=rows.num_rows, hosts=len(hosts), controls=len(controls),
        controls_kept=sum(name in ends and ends[name][0] == KEPT for name in controls),
        found=[_found(kind, number, names, needles, ends) for kind, number, names in _by_kind(wanted, needles)],
    )  # fmt: skip


def _small(rows: pa.Table) -> pa.Table:
    """The first rows whose documents are not too large, alone or together."""
    sizes = np.zeros(rows.num_rows, np.int64)
    for name in ("text", *raw_columns(rows.schema)):
        sizes += np.asarray(pc.fill_null(pc.binary_length(rows[name]), 0), np.int64)
    rows = rows.filter(pa.array(sizes <= DOCUMENT_BYTES))
    together = np.cumsum(sizes[sizes <= DOCUMENT_BYTES])
    return rows.slice(0, int((together <= SAMPLE_BYTES).sum()))


def _hosts(rows: pa.Table, ends: Ends) -> Iterator[Host]:
    """Rows that the recipe keeps, with a text to plant into."""
    number = 0
    for row in rows.to_pylist():
        end, columns = ends.get(row["id"], (0, {}))
        text = columns.get("text") or ""
        if end == KEPT and text.strip() and len(text) <= HOST_CHARS:
            yield Host(row, text, columns.get("lang") or "", number)
            number += 1


def _inside(step: Step, ends: Ends) -> set[str]:
    """Ids of the kept rows for which the `when` of a step holds; none where its columns are gone by then."""
    from curate.errors import ConfigError
    from curate.io.query import Predicate

    kept = [columns for end, columns in ends.values() if end == KEPT]
    if not kept:
        return set()
    table = pa.Table.from_pylist(kept)
    try:
        predicate = Predicate(step.when, {field.name: field.type for field in table.schema})
    except ConfigError:  # a column that a later stage takes away
        return set()
    mask = predicate.mask(table.combine_chunks().to_batches()[0])
    return {row["id"] for row, inside in zip(kept, mask, strict=True) if inside}


def _choose(
    hosts: Sequence[Host], wanted: Sequence[Kind], eligible: dict[int, set[str]]
) -> tuple[list[tuple[str, Kind | None, Host]], set[str]]:
    """(name, kind, host): hosts go round from kind to kind; the kind None is a control."""
    chosen: list[tuple[str, Kind | None, Host]] = []
    used: set[str] = set()
    waiting = list(hosts)
    for turn in range(EACH):
        for number, kind in enumerate([None, *wanted]):
            step = kind.finder if kind else None
            inside = eligible.get(step.index) if step else None
            fit = (i for i, host in enumerate(waiting) if inside is None or host.row["id"] in inside)
            if (place := next(fit, None)) is not None:
                host = waiting.pop(place)
                used.add(host.row["id"])
                chosen.append(
                    (f"canary-{number - 1}-{turn}" if kind else f"canary-control-{turn}", kind, host)
                )
    return chosen, used


def _rows(
    planted: Sequence[tuple[str, Kind | None, Host]], schema: pa.Schema, recipe: Recipe
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The planted rows, and the needle of each."""
    as_html, raw = reads_pages(recipe, schema), raw_columns(schema)
    rows: list[dict[str, Any]] = []
    needles: dict[str, str] = {}
    for name, kind, host in planted:
        change = kind.plant(host) if kind else Change()
        if change is None:
            continue
        needles[name] = change.needle
        rows.append(planted_row(host, change, name, raw, as_html))
        if kind and kind.copies == 2:
            double = (kind.double or kind.plant)(host) or change
            rows.append(planted_row(host, double, f"{name}-1", raw, as_html))
    return rows, needles


def _by_kind(wanted: Sequence[Kind], needles: dict[str, str]) -> Iterator[tuple[Kind, int, list[str]]]:
    for number, kind in enumerate(wanted):
        yield kind, number, [name for name in needles if name.startswith(f"canary-{number}-")]


def _found(kind: Kind, number: int, names: list[str], needles: dict[str, str], ends: Ends) -> Found:
    came = found = 0
    for name in names:
        here, seen = _look(kind, name, needles[name], ends)
        came, found = came + here, found + (here and seen)
    if kind.how == "repeat" and came < 2:
        came = found = 0  # alone it is no repeat
    elif kind.how == "repeat" and found:
        found = min(came, found + 1)  # the first one stays
    stage = f"stages[{kind.finder.index}] ({kind.finder.name})" if kind.finder else "input"
    return Found(planted=kind.name, stage=stage, rows=len(names), came=came, found=found)


def _look(kind: Kind, name: str, needle: str, ends: Ends) -> tuple[bool, bool]:
    """Whether a planted row came to its stage, and whether that found it."""
    if kind.finder is None:
        return True, name not in ends
    index = kind.finder.index
    all_ends = [ends.get(label, (-1, {})) for label in ([name, f"{name}-1"] if kind.copies == 2 else [name])]
    end, columns = all_ends[0]
    stands = needle in (columns.get("text") or "")  # an extractor may have taken it for a footer
    if kind.how == "verdict":
        verdict = columns.get(f"{kind.finder.name}_pass")
        return verdict is False or (verdict is not None and stands), verdict is False
    if kind.how == "edit":
        counted = columns.get(f"{kind.finder.name}_{kind.counter}") or 0
        failed = columns.get(f"{kind.finder.name}_pass") is False  # where an edit leaves nothing
        return end > index and (counted > 0 or stands), failed or not stands
    if kind.how == "repeat" and kind.counter and end != index:
        counted = columns.get(f"{kind.finder.name}_{kind.counter}") or 0
        return end > index and (counted > 0 or stands), not stands
    return all(place >= index for place, _ in all_ends), any(place == index for place, _ in all_ends)


def _judge(result: Canaries) -> Iterator[Finding]:
    table = [("planted", "stage", "rows", "came", "found")]
    table += [(f.planted, f.stage, str(f.rows), str(f.came), str(f.found)) for f in result.found]
    missed = [f for f in result.found if f.found < f.came]
    if missed:
        first = missed[0]
        more = f", and {len(missed) - 1} more kinds were missed" if len(missed) > 1 else ""
        yield Finding(
            "canaries",
            f"{first.stage} found {first.found} of {first.came} rows in which there was a planted {first.planted}{more}",
            table, "look at the options and lists of the stage",
        )  # fmt: skip
    came = {f.stage for f in result.found if f.came}
    unseen = sorted({f.stage for f in result.found} - came)
    if not result.hosts:
        what = f"canaries: none of {result.sampled_rows:,} sampled rows is kept, so there is nothing to plant them in"
    elif unseen:
        what = f"canaries: none came to {', '.join(unseen)}: {FILE} says what was planted"
    elif 2 * result.controls_kept < result.controls:
        what = f"canaries: of {result.controls} rows with nothing planted {result.controls_kept} were kept"
    else:
        return
    yield Finding("canaries", what, [], "", warns=True)


def _run(
    rows: pa.Table, recipe: Recipe, stage_files: Sequence[str], max_memory_mb: int, scratch: Path
) -> Ends:
    """The recipe over some rows, and where each of them ended."""
    from curate.engine.run import run  # which calls us

    (scratch / "in").mkdir(parents=True)
    pq.write_table(rows, scratch / "in/rows.parquet")
    steps = tuple(msgspec.structs.replace(step, **dict.fromkeys(MAX_DROPS)) for step in recipe.steps)
    output = type(recipe.output)(path=str(scratch / "out"), dropped="full")
    reading = Input(path=str(scratch / "in"), id="id", opt_out=recipe.input.opt_out, tdm=recipe.input.tdm)
    small = msgspec.structs.replace(
        recipe, input=reading, output=output, steps=steps, store=str(scratch / "store"), canaries=False,
        guards=Guards(allow=NAMES), allow_empty=True, allow_quarantined=float(1 << 40),
    )  # fmt: skip
    run(small, workers=1, stage_files=stage_files, max_memory_mb=max_memory_mb, trial=True)
    return _ends(Path(output.path))


def _ends(out: Path) -> Ends:
    ends = Ends()
    for file in sorted(out.rglob("part-*.parquet")):
        folder = file.relative_to(out).parts[0]
        if folder == "_quarantine":
            ends.update({i: (-1, {}) for i in pq.read_table(file, columns=["id"])["id"].to_pylist()})
        elif folder == "_dropped":
            step = int(file.parent.name.partition("_")[0])
            ends.update({row["id"]: (step, row) for row in pq.read_table(file).to_pylist()})
        elif file.parent == out:
            ends.update({row["id"]: (KEPT, row) for row in pq.read_table(file).to_pylist()})
    return ends
