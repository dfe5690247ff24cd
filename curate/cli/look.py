"""Commands that look into a dataset: `peek`, `why`, `sql`. They read and never write."""

import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curate.cli import ls
from curate.cli.options import Sides
from curate.cli.why import why
from curate.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

    from curate.cli.dataset import Dataset, Part

TEXT_CHARS = 300  # of a document shown by peek
TABLE_ROWS = 1000  # in a table; --json prints all
DROP_COLUMNS = ("drop_stage", "drop_reason", "drop_value", "drop_threshold", "kept_id")

Directory = Annotated[str, typer.Argument(metavar="DIR", help="Output folder of a run.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    ls.register(app)
    app.command("peek")(peek)
    app.command("why")(why)
    app.command("sql")(sql)


def peek(
    folder: Directory,
    dropped: Annotated[
        str, typer.Option("--dropped", metavar="STAGE", help="Rows that this stage dropped; `any`: of all.")
    ] = "",
    where: Annotated[
        str, typer.Option("--where", metavar="SQL", help="Only rows for which this predicate is true.")
    ] = "",
    sides: Sides = None,
    rows: Annotated[int, typer.Option("-n", "--rows", min=1, help="How many documents.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Rows as JSON lines on stdout.")] = False,
) -> None:
    """Show documents: the first ones of the dataset, in its order.

    Example: curate peek out/quickstart --dropped gopher_quality -n 3

    With --json one line per row: {"schema", "side", "part", "row"}.
    """
    from curate.cli.console import print_json, say
    from curate.cli.dataset import Dataset

    dataset = Dataset(folder, sides or ())
    parts = _dropped_parts(dataset, dropped) if dropped else _kept_parts(dataset)
    steps = [step.name for step in dataset.plan.recipe.steps] if dataset.plan else []
    found = 0
    for part, row in islice(_rows(dataset, parts, where, dropped, with_html=as_json), rows):
        found += 1
        if as_json:
            print_json({"schema": "curate.peek/1", "side": part.side, "part": part.name, "row": row})
        else:
            _print_document(found, part.name, row, steps)
    if not found:
        say("no such rows" if where or dropped else "no rows")


def _kept_parts(dataset: "Dataset") -> "list[Part]":
    from curate.cli.console import say

    one, parts = next((found for found in dataset.kept() if found[1]), (None, []))
    if dataset.unfinished:
        say(f"note: {dataset.folder.path} is not complete; these are rows so far{dataset.after(one)}")
    return parts


def _dropped_parts(dataset: "Dataset", stage: str) -> "list[Part]":
    from difflib import get_close_matches

    from curate.cli.console import say

    if dataset.unfinished:
        say(f"note: {dataset.folder.path} is not complete; rows dropped so far")
    if dataset.plan and dataset.plan.recipe.output.dropped not in (None, "full"):
        keys = dataset.plan.recipe.output.dropped == "keys"
        what = "the keys of dropped rows were" if keys else "a sample of the dropped rows was"
        say(f"note: only {what} kept (output.dropped); `curate status` counts them all")
    steps = [step.name for step in dataset.plan.recipe.steps] if dataset.plan else []
    if stage != "any" and steps and stage not in (*steps, "input", *(p.step for p in dataset.dropped())):
        near = get_close_matches(stage, steps, 1)
        hint = f"did you mean `{near[0]}`?" if near else f"its steps are {', '.join(steps)}"
        raise ConfigError(f"no step `{stage}` in {dataset.folder.path}", hint=hint)
    return dataset.dropped()


def _rows(
    dataset: "Dataset", parts: "Sequence[Part]", where: str, stage: str, with_html: bool
) -> "Iterator[tuple[Part, dict[str, Any]]]":
    """Rows that `where` is true for; of dropped ones those that the step dropped or was blamed for."""
    import pyarrow.compute as pc

    match = Where(dataset, parts, where) if where and parts else None
    for part in parts:
        of_step = stage in ("", "any", part.step, part.step.partition("_")[2])
        for batch in dataset.batches(part, skip=() if with_html or match else ("html",)):
            if not of_step:
                batch = batch.filter(pc.equal(batch["drop_stage"], stage))
            if match:
                batch = match(batch)
            yield from ((part, row) for row in batch.to_pylist())


class Where:
    """A predicate over files of several schemas; a column that a file lacks is null there."""

    def __init__(self, dataset: "Dataset", parts: "Sequence[Part]", where: str) -> None:
        import pyarrow as pa

        from curate.io.query import Predicate

        first_of = {part.step: part for part in reversed(parts)}  # files of one step have one schema
        union = pa.unify_schemas([dataset.schema(p) for p in first_of.values()], promote_options="permissive")
        self._types = {field.name: field.type for field in union}
        self._predicate = Predicate(where, self._types)

    def __call__(self, batch: "pa.RecordBatch") -> "pa.RecordBatch":
        """The rows of a batch that meet it."""
        import pyarrow as pa

        wide = batch
        for name in self._predicate.columns:
            if name not in batch.schema.names:
                wide = wide.append_column(name, pa.nulls(batch.num_rows, self._types[name]))
        return batch.filter(pa.array(self._predicate.mask(wide)))


_SHOWN_APART = {"id", "text", "html", "url", "source", *DROP_COLUMNS}


def _print_document(number: int, part: str, row: dict[str, Any], steps: Sequence[str]) -> None:
    from curate.cli.console import cell, printable, wrapped

    if number > 1:
        print()
    print(f"[{number}] {cell(row.get('id'), 200)}  ({part})")
    for name in ("url", "source"):
        if row.get(name):
            print(f"    {name}  {cell(row[name], 500)}")
    if row.get("drop_stage"):
        print(f"    dropped by {_drop_words(row)}")
    text = row.get("text")
    if text is not None:
        print("\n".join(f"    | {line}" for line in printable(text[:TEXT_CHARS].expandtabs(4)).split("\n")))
        if len(text) > TEXT_CHARS:
            print(f"    | ... {len(text):,} characters")
    for step, items in _by_step(row, steps).items():
        for i, line in enumerate(wrapped(items)):
            print(f"    {step if i == 0 else ' ' * len(step)}{'  ' if step else ''}{line}")


def _by_step(row: dict[str, Any], steps: Sequence[str]) -> dict[str, list[str]]:
    """Columns and values in short, under the step that wrote them ('' for others)."""
    from curate.cli.console import cell

    groups: dict[str, list[str]] = {"": []}
    for name, value in row.items():
        if name in _SHOWN_APART or value is None:
            continue
        step = max((s for s in steps if name.startswith(f"{s}_")), key=len, default="")
        short = name.removeprefix(f"{step}_") if step else name
        shown = f"{value:.3g}" if isinstance(value, float) else cell(value)
        words = ("pass" if value else "FAIL") if step and short == "pass" else f"{short} {shown}"
        groups.setdefault(step, []).append(words)
    return groups


def _drop_words(row: dict[str, Any]) -> str:
    from curate.cli.console import cell

    words = f"{cell(row['drop_stage'])}: {cell(row['drop_reason'], 200)}"
    for name in ("value", "threshold"):
        if row[f"drop_{name}"] is not None:
            words += f", {name} {cell(row[f'drop_{name}'])}"
    return words + (f", kept is {cell(row['kept_id'])}" if row.get("kept_id") else "")


def sql(
    folder: Directory,
    query: Annotated[
        str,
        typer.Argument(
            metavar="SQL", help="One SELECT over docs, dropped, quarantine, journal.", show_default=False
        ),
    ],
    sides: Sides = None,
    as_json: Annotated[bool, typer.Option("--json", help="Rows as JSON lines on stdout.")] = False,
) -> None:
    """Ask a dataset in SQL; nothing can be changed. Views: docs, dropped, quarantine, journal.

    Example: curate sql out/quickstart "select drop_stage, drop_reason, count(*) n from dropped group by all order by n desc"
    """
    from curate.cli.console import say
    from curate.cli.dataset import Dataset
    from curate.io import query as door

    dataset = Dataset(folder, sides or ())
    if any(folder.local is None for folder in (dataset.folder, *(side.folder for side in dataset.sides))):
        raise ConfigError(
            "sql reads local folders only", hint="copy the dataset here, or open it in DuckDB yourself"
        )
    if any(part.name.endswith(".jsonl.zst") for _, parts in dataset.kept() for part in parts):
        raise ConfigError(
            "sql reads Parquet, and these parts are JSON Lines",
            hint="`output: {format: parquet}` writes Parquet",
        )
    if dataset.unfinished:
        say(f"note: {folder} is not complete; what its earlier passes dropped is not in here yet")
    assert dataset.folder.local
    with TemporaryDirectory(prefix="curate-sql-") as scratch:
        found = door.query(door.open_dataset(dataset.folder.local, dataset.sides, scratch), query)
        if as_json:
            _write_lines(found)
        else:
            _write_table(found)


def _write_lines(found: "pa.RecordBatchReader") -> None:
    import msgspec

    names = _distinct(found.schema.names)
    for batch in found:
        for row in zip(*(column.to_pylist(maps_as_pydicts="lossy") for column in batch.columns), strict=True):
            line = dict(zip(names, row, strict=True))
            sys.stdout.write(msgspec.json.encode(line, enc_hook=str).decode() + "\n")
    sys.stdout.flush()


def _distinct(names: list[str]) -> list[str]:
    """Column names, a repeated one numbered: JSON keys must differ."""
    counts: dict[str, int] = {}
    out = []
    for name in names:
        counts[name] = counts.get(name, 0) + 1
        out.append(name if counts[name] == 1 else f"{name}_{counts[name]}")
    return out


def _write_table(found: "pa.RecordBatchReader") -> None:
    import pyarrow as pa

    from curate.cli.console import cell, say, table

    batches, rows = [], 0
    for batch in found:
        batches.append(batch.slice(0, TABLE_ROWS - rows))
        rows += batches[-1].num_rows
        if batch.num_rows > batches[-1].num_rows:
            say(f"only the first {TABLE_ROWS:,} rows are shown; --json prints all")
            break
    shown = pa.Table.from_batches(batches, found.schema)
    cells = [tuple(cell(name) for name in found.schema.names)]
    cells += zip(
        *([cell(value) for value in column.to_pylist(maps_as_pydicts="lossy")] for column in shown.columns),
        strict=True,
    )
    numbers = tuple(
        i
        for i, kind in enumerate(found.schema.types)
        if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )
    for line in table(cells, right=numbers):
        print(line)
