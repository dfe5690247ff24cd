"""`curate why`: what became of one document."""

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curate.errors import ConfigError

if TYPE_CHECKING:
    from curate.cli.dataset import Dataset

FOUND, NOT_FOUND = 0, 1


def why(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Output folder of a run.", show_default=False)],
    row_id: Annotated[
        str, typer.Argument(metavar="DOC_ID", help="The id of a document.", show_default=False)
    ],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Say where a document ended: kept, dropped or quarantined, by whom and for what reason.

    Example: curate why out/quickstart 3f9c0a6e5d1b4c27

    Exit codes: 0 found, 1 not found.
    """
    from curate.cli.console import print_json, printable
    from curate.cli.dataset import Dataset

    if any("\ud800" <= c <= "\udfff" for c in row_id):
        raise ConfigError(f"the id is not text: {printable(row_id)}", hint="write it in UTF-8")
    dataset = Dataset(folder)
    findings = [_with_kept(dataset, finding) for finding in find(dataset, row_id)]
    status = findings[0]["status"] if findings else "unknown"
    code = FOUND if findings else NOT_FOUND
    if as_json:
        print_json(
            {"schema": "curate.why/1", "id": row_id, "status": status, "exit": code, "findings": findings}
        )
    for finding in findings if not as_json else []:
        _print_finding(row_id, finding)
    if not findings:
        _say_unknown(dataset, row_id)
    raise typer.Exit(code)


def find(dataset: "Dataset", row_id: str) -> list[dict[str, Any]]:
    """Everywhere an id stands: {"status", "part", "step", "after", "row"}. A row under way counts where it came last."""
    (_, kept), *earlier = dataset.kept()
    found = [
        {"status": part.side, "part": part.name, "step": part.step, "after": "", "row": row}
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
                }
            )
    return found


def _with_kept(dataset: "Dataset", finding: dict[str, Any]) -> dict[str, Any]:
    """Add what became of the row that was kept in this one's place; take the text out."""
    row = {name: value for name, value in finding["row"].items() if name != "text"}
    if not row.get("kept_id"):
        return {**finding, "row": row}
    nowhere: dict[str, Any] = {"status": "unknown", "part": "", "row": {}}
    other = next(iter(find(dataset, row["kept_id"])), nowhere)
    fate = {"status": other["status"], "part": other["part"], "drop_stage": other["row"].get("drop_stage")}
    return {**finding, "row": row, "kept": fate}


def _print_finding(row_id: str, finding: dict[str, Any]) -> None:
    from curate.cli.console import cell, table

    row, side = finding["row"], finding["status"]
    lines = [("id", cell(row_id, 200)), ("state", f"{side}{finding['after']}")]
    if side == "dropped":
        lines += [
            ("by", f"{cell(row['drop_stage'])} (in step {finding['step']})"),
            ("reason", cell(row["drop_reason"], 500)),
        ]
        lines += [
            (name, cell(row[f"drop_{name}"]))
            for name in ("value", "threshold")
            if row[f"drop_{name}"] is not None
        ]
    if side == "quarantined":
        lines += [
            ("by", cell(row["stage"])),
            ("reason", cell(row["reason"])),
            ("error", cell(row["error"], 1000)),
        ]
    if "kept" in finding:
        fate = finding["kept"]
        later = (
            f"dropped later, by {fate['drop_stage']}"
            if fate["status"] == "dropped"
            else f"{fate['status']}, {fate['part']}"
        )
        lines.append(("kept is", f"{cell(row['kept_id'], 200)}  ({later})"))
    lines.append(("part", finding["part"]))
    apart = (
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
    )
    lines += [
        (name, cell(value, 200)) for name, value in row.items() if name not in apart and value is not None
    ]
    print("\n".join(table(lines)) + "\n")


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
    """Ids that hold the text, and rows whose url or source_id it is."""
    import pyarrow.compute as pc

    parts = (
        [part for _, found in dataset.kept() for part in found] + dataset.dropped() + dataset.quarantined()
    )
    for part in parts:
        for batch in dataset.batches(
            part, skip=[n for n in dataset.schema(part).names if n not in ("id", "url", "source_id")]
        ):
            for name in ("url", "source_id"):
                if name in batch.schema.names:
                    same = batch.filter(pc.fill_null(pc.equal(batch[name], row_id), False))
                    yield from ((f"that is the {name} of", i) for i in same["id"].to_pylist())
            like = (
                batch.filter(pc.fill_null(pc.match_substring(batch["id"], row_id), False))
                if row_id
                else batch.slice(0, 0)
            )
            yield from (("an id that holds it is", i) for i in like["id"].to_pylist())
