"""`curate why`: what became of one document, and what every step of the recipe said of it."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curate.cli.options import Sides
from curate.errors import ConfigError

if TYPE_CHECKING:
    from curate.cli.dataset import Dataset
    from curate.cli.verdicts import Verdict

FOUND, NOT_FOUND = 0, 1
_OK = {True: "ok", False: "FAIL", None: ""}
MAX_SAME_SOURCE_ID = 20  # rows looked up: nothing says that a source's own ids are unique
_SAID = (
    "id",
    "raw",
    "stage",
    "reason",
    "error",
    "drop_stage",
    "drop_reason",
    "drop_value",
    "drop_threshold",
    "kept_id",
)  # fmt: skip; columns that have lines of their own


def why(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Output folder of a run.", show_default=False)],
    row_id: Annotated[
        str,
        typer.Argument(metavar="DOC_ID", help="The id or the source_id of a document.", show_default=False),
    ],
    sides: Sides = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Say where a document ended and what every step said of it, each value beside its bound.

    Of a duplicate it shows how its text differs from the one kept; of a kept document, which were dropped for it. Documents
    of the index that a run was compared with are known too.

    With side columns also what the steps said that wrote them.

    Example: curate why out/quickstart 3f9c0a6e5d1b4c27

    Exit codes: 0 found, 1 not found.
    """
    from curate.cli.console import print_json, printable, say
    from curate.cli.dataset import Dataset

    if any("\ud800" <= c <= "\udfff" for c in row_id):
        raise ConfigError(f"the id is not text: {printable(row_id)}", hint="write it in UTF-8")
    dataset = Dataset(folder, sides or ())
    findings, found_by = _findings(dataset, row_id)
    status = findings[0]["status"] if findings else "unknown"
    code = FOUND if findings else NOT_FOUND
    if as_json:
        head = {"schema": "curate.why/1", "id": row_id, "found_by": found_by, "status": status, "exit": code}
        print_json({**head, "findings": findings})
    elif found_by == "source_id":
        ids = ", ".join(f"`{printable(i)}`" for i in dict.fromkeys(f["row"]["id"] for f in findings))
        say(f"no row has the id `{printable(row_id)}`; it is the source_id of {ids}")
    for finding in findings if not as_json else []:
        _print_finding(finding)
    if not findings:
        _say_unknown(dataset, row_id)
    raise typer.Exit(code)


def _findings(dataset: "Dataset", row_id: str) -> tuple[list[dict[str, Any]], str]:
    """All that is known of an id, and which column it was found in; '' where nothing is."""
    from curate.cli.twins import clusters

    found, by = find(dataset, row_id), "id"
    if not found:
        same = _same_source_id(dataset, row_id)
        found, by = [finding for i in same for finding in find(dataset, i)], "source_id"
    findings = [_with_kept(dataset, _with_verdicts(dataset, finding)) for finding in found]
    for finding in findings:
        finding["with"] = list(_beside(dataset, finding))
        finding["clusters"] = list(clusters(dataset, finding["row"]))
    return findings, by if findings else ""


def find(dataset: "Dataset", row_id: str) -> list[dict[str, Any]]:
    """Everywhere an id stands: {"status", "part", "step", "after", "row", "pass"}. A row under way counts where it came last."""
    from curate.cli.seen import in_indexes

    (_, kept), *earlier = dataset.kept()
    found: list[dict[str, Any]] = [
        {"status": part.side, "part": part.name, "step": part.step, "after": "", "row": row, "pass": None}
        for part, row in dataset.find(row_id, [*kept, *dataset.dropped(), *dataset.quarantined()])
    ]
    for one, parts in earlier:
        if found:
            break
        for part, row in dataset.find(row_id, parts):
            found.append(
                {
                    "status": "kept so far",
                    "part": part.name,
                    "step": "",
                    "after": dataset.after(one),
                    "row": row,
                    "pass": one.index if one else None,
                }
            )
    return found or list(in_indexes(dataset, row_id))


def _same_source_id(dataset: "Dataset", source_id: str) -> list[str]:
    """Ids of rows that the source calls so, a few at most."""
    import pyarrow.compute as pc

    found: dict[str, None] = {}
    for part in [*(part for _, parts in dataset.kept() for part in parts), *dataset.dropped()]:
        names = dataset.schema(part).names
        if "source_id" in names:
            for batch in dataset.batches(part, skip=[n for n in names if n not in ("id", "source_id")]):
                same = batch.filter(pc.fill_null(pc.equal(batch["source_id"], source_id), False))
                found |= dict.fromkeys(same["id"].to_pylist())
    return list(found)[:MAX_SAME_SOURCE_ID]


def _with_verdicts(dataset: "Dataset", finding: dict[str, Any]) -> dict[str, Any]:
    """Add what each step said; nothing where the parts came without a plan."""
    from curate.cli.seen import SEEN
    from curate.cli.verdicts import fate_of, verdicts

    said: list[Verdict] = []
    if dataset.plan and finding["status"] != SEEN:
        fate = fate_of(dataset.plan, finding["status"], finding["row"], finding["step"], finding["pass"])
        said = verdicts(dataset.plan, finding["row"], fate)
    return {**{name: value for name, value in finding.items() if name != "pass"}, "verdicts": said}


def _with_kept(dataset: "Dataset", finding: dict[str, Any]) -> dict[str, Any]:
    """Add what became of the row that was kept in this one's place, and how they differ; take the text out."""
    from curate.cli.twins import difference

    row = {name: value for name, value in finding["row"].items() if name != "text"}
    if not row.get("kept_id"):
        return {**finding, "row": row}
    nowhere: dict[str, Any] = {"status": "unknown", "part": "", "row": {}}
    other = next(iter(find(dataset, row["kept_id"])), nowhere)
    fate = {"status": other["status"], "part": other["part"], "drop_stage": other["row"].get("drop_stage")}
    return {
        **finding,
        "row": row,
        "kept": fate,
        "difference": difference(dataset, finding["row"], other["row"]),
    }


def _beside(dataset: "Dataset", finding: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What the runs that wrote side columns said of a kept row; nothing of rows that they never had."""
    from curate.cli.dataset import Dataset

    for side in dataset.sides if finding["status"] == "kept" else []:
        other = Dataset(side.path)
        for found in find(other, finding["row"]["id"]):
            said = _with_verdicts(other, {**found, "row": {**finding["row"], **found["row"]}})
            yield {"output": side.path, **said, "row": found["row"]}


def _print_finding(finding: dict[str, Any]) -> None:
    from curate.cli.console import cell, table
    from curate.cli.twins import print_clusters, print_difference

    row = finding["row"]
    lines = [
        ("id", cell(row["id"], 200)),
        ("state", f"{finding['status']}{finding['after']}"),
        *_verdict(finding),
        *_fate_of_kept(finding),
        ("part", finding["part"]),
        *(("note", note) for note in {one.note for one in finding["verdicts"] if one.verdict == "not kept"}),
    ]
    shown = {name for one in finding["verdicts"] for name in one.columns} | set(_SAID)
    lines += [(n, cell(value, 200)) for n, value in row.items() if n not in shown and value is not None]
    print("\n".join(table(lines)) + "\n")
    _print_verdicts(finding["verdicts"])
    if "difference" in finding:
        print_difference(finding["difference"])
    print_clusters(finding["clusters"])
    for other in finding["with"]:
        print(f"with {other['output']}: {other['status']}")
        _print_verdicts(other["verdicts"])


def _print_verdicts(said: "Sequence[Verdict]") -> None:
    width = max((len(one.name) for one in said), default=0)
    for one in said:
        print(f"{one.step:02d} {one.name:{width}}  {_said(one)}")
        for line in _lines(one):
            print(f"     {line}")
    if said:
        print()


def _lines(one: "Verdict") -> list[str]:
    """Conditions and bounds first, one to a line; then what else was measured."""
    from curate.cli.console import cell, table, wrapped

    told = [f"{name} {cell(value)}" for name, value in one.statistics.items()]
    return [
        *table(list(_conditions(one))),
        *table(list(_bounds(one)), right=(1,)),
        *(wrapped(told) if told else []),
    ]


def _said(one: "Verdict") -> str:
    """The verdict in words."""
    from curate.cli.console import cell

    said = one.verdict.replace("fail", "FAIL").replace("not kept", "went on; its values are not kept")
    if one.reason:
        said += f": {cell(one.reason, 500)}"
    if one.value is not None and not one.conditions and all(bound.ok is not False for bound in one.bounds):
        said += f", {cell(one.value)}"
        said += f" against {cell(one.threshold)}" if one.threshold is not None else ""
    if one.kept_id:
        said += f", kept is {cell(one.kept_id, 200)}"
    if one.removed_chars:
        grew = one.removed_chars < 0
        said += f"; {abs(one.removed_chars):,} characters {'added to' if grew else 'taken out of'} the text"
    if one.outside:
        said += f"; outside `when: {cell(one.when, 200)}`"
    return said + (f"; {cell(one.note, 500)}" if one.note and one.verdict != "not kept" else "")


def _conditions(one: "Verdict") -> Iterator[tuple[str, str, str]]:
    from curate.cli.console import cell

    for condition in one.conditions:
        told = [
            cell(value) if name == condition.text else f"{name} {cell(value)}"
            for name, value in condition.values.items()
        ]
        yield cell(condition.text, 200), ", ".join(told), _OK[condition.ok]


def _bounds(one: "Verdict") -> Iterator[tuple[str, ...]]:
    from curate.cli.console import cell

    for bound in one.bounds:
        limit = cell(bound.bound) if bound.bound is not None else "? (none for its language)"
        yield bound.column, cell(bound.value), f"{bound.sign} {limit}", _OK[bound.ok]


def _verdict(finding: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Who decided, and for what reason."""
    from curate.cli.console import cell

    row = finding["row"]
    if finding["status"] == "dropped":
        yield "by", f"{cell(row['drop_stage'])} (in step {finding['step']})"
        yield "reason", cell(row["drop_reason"], 500)
        for name in ("value", "threshold"):
            if row[f"drop_{name}"] is not None:
                yield name, cell(row[f"drop_{name}"])
    if finding["status"] == "quarantined":
        yield "by", cell(row["stage"])
        yield "reason", cell(row["reason"])
        yield "error", cell(row["error"], 1000)


def _fate_of_kept(finding: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What became of the row that was kept in its place."""
    from curate.cli.console import cell

    if "kept" in finding:
        fate = finding["kept"]
        is_gone = fate["status"] == "dropped"
        later = f"dropped later, by {fate['drop_stage']}" if is_gone else f"{fate['status']}, {fate['part']}"
        yield "kept is", f"{cell(finding['row']['kept_id'], 200)}  ({later})"


def _say_unknown(dataset: "Dataset", row_id: str) -> None:
    """Nothing is known of the id: near misses, and reasons why a row leaves no trace."""
    from curate.cli.console import printable, say

    say(f"no such id in {dataset.folder.path}: {printable(row_id)}")
    near = list(islice(_near(dataset, row_id), 3))
    for how, other in near:
        say(f"hint: {how} `{printable(other)}`")
    if dataset.plan and dataset.plan.recipe.output.dropped not in (None, "full", "keys"):
        say("hint: only a sample of the dropped rows was kept (output.dropped); it may be one of the others")
    if dataset.unfinished:
        say("hint: the run is not complete; the row may still come: `curate status` says how far it is")
    if not near:
        say(
            f'hint: ids are those of the column `id`: curate sql {dataset.folder.path} "select id, url from docs limit 5"'
        )


def _near(dataset: "Dataset", row_id: str) -> Iterator[tuple[str, str]]:
    """Ids that hold the text, and rows whose url it is."""
    import pyarrow.compute as pc

    parts = (
        [part for _, found in dataset.kept() for part in found] + dataset.dropped() + dataset.quarantined()
    )
    for part in parts:
        for batch in dataset.batches(
            part, skip=[n for n in dataset.schema(part).names if n not in ("id", "url")]
        ):
            if "url" in batch.schema.names:
                same = batch.filter(pc.fill_null(pc.equal(batch["url"], row_id), False))
                yield from (("that is the url of", i) for i in same["id"].to_pylist())
            like = (
                batch.filter(pc.fill_null(pc.match_substring(batch["id"], row_id), False))
                if row_id
                else batch.slice(0, 0)
            )
            yield from (("an id that holds it is", i) for i in like["id"].to_pylist())
