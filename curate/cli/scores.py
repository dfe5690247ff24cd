"""`curate eval select`, `gap`, `ageing`: what the scores of several checkpoints say together."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from curate.cli.run import Json
from curate.errors import ConfigError

if TYPE_CHECKING:
    from curate.eval.select import Statistics

ScoreFolders = Annotated[
    list[str], typer.Argument(metavar="SCORES...", help="Folders that `curate eval score` wrote.")
]


def register(group: typer.Typer) -> None:
    """Add the commands of this file to `curate eval`."""
    group.command("select")(select)
    group.command("gap")(gap)
    group.command("ageing")(ageing)


def select(
    scores: ScoreFolders,
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            "--metric", metavar="NAME", help="Such as arc_easy:gold_bpb; repeatable. [default: all]"
        ),
    ] = None,
    monotonicity: Annotated[
        float, typer.Option("--min-monotonicity", help="Spearman correlation of score and step.")
    ] = 0.5,
    snr: Annotated[float, typer.Option("--min-snr", help="Score over its spread between seeds.")] = 20.0,
    above_chance: Annotated[
        float, typer.Option("--min-above-chance", help="Such spreads above guessing.")
    ] = 3.0,
    order: Annotated[
        float | None, typer.Option("--min-ordering", help="Kendall tau between steps; not asked for without.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Which tasks mean something at this size: they grow, differ more than seeds do, and are no guessing.

    Score checkpoints of several steps and seeds of control runs, on runs that no verdict rests on.

    Example: curate eval select scores/control-0-* scores/control-1-* --metric arc_easy --metric arc_easy:gold_bpb
    """
    import msgspec

    from curate.cli.console import print_json
    from curate.eval.scores import higher_is_better, points, read_all
    from curate.eval.select import Bounds
    from curate.eval.select import select as judge

    bounds = Bounds(
        min_monotonicity=monotonicity, min_snr=snr, min_above_chance=above_chance, min_ordering=order
    )
    found = read_all(scores)
    given = points(found, tuple(metrics or ()))
    names = sorted({one.task for one in given})
    judged = judge(
        given, {name: value for name, value in found[0].chance.items() if name in names},
        lower_is_better=[name for name in names if not higher_is_better(name)], bounds=bounds,
    )  # fmt: skip
    if as_json:
        tasks = [{**msgspec.to_builtins(one), "enters": one.enters} for one in judged]
        return print_json({**_BODY, "bounds": bounds, "runs": _runs(found), "tasks": tasks})
    _print_selected(judged, _runs(found))


_BODY: dict[str, Any] = {"schema": "curate.eval/1", "status": "ok", "exit": 0}


def _runs(scores: Any) -> int:
    return len({(one.corpus, one.seed) for one in scores})


def _print_selected(judged: "list[Statistics]", runs: int) -> None:
    from curate.cli.console import cell, say, table

    rows = [("task", "monotonicity", "snr", "above chance", "ordering", "enters a verdict")]
    for one in judged:
        values = (one.monotonicity, one.snr, one.above_chance, one.ordering)
        shown = ["-" if value is None or value != value else f"{value:.2f}" for value in values]
        rows.append((cell(one.task), *shown, "yes" if one.enters else f"no: {', '.join(one.why_not)}"))  # type: ignore[arg-type]
    print("\n".join(table(rows, right=(1, 2, 3, 4))))
    say(f"\n{sum(one.enters for one in judged)} of {len(judged)} enter; {runs} runs")


def gap(
    scores: ScoreFolders,
    metric: Annotated[str, typer.Option("--metric", metavar="NAME", help="Such as bpb:web or arc_easy.")],
    before: Annotated[
        str,
        typer.Option(
            "--before", metavar="SCORES", help="Of the model that training began from, at 0 tokens."
        ),
    ] = "",
    as_json: Json = False,
) -> None:
    """How far a score fell after a change of data, and when it was back: checkpoints of one run.

    Without --before the first checkpoint is the state before.

    Example: curate eval gap scores/cpt-* --before scores/base --metric bpb:web
    """
    from pathlib import Path

    from curate.cli.console import print_json, say, table
    from curate.eval.probes import stability_gap
    from curate.eval.run import RESULT
    from curate.eval.scores import higher_is_better, numbers, points, read_all

    found = sorted(read_all(scores), key=lambda one: one.tokens)
    if len({(one.corpus, one.seed) for one in found}) > 1:
        raise ConfigError("these are checkpoints of several runs", hint="give those of one run, and --before")
    series = [(one.tokens, point.score) for one, point in zip(found, points(found, [metric]), strict=True)]
    if before:
        values = numbers(Path(before) / RESULT)
        if metric not in values:
            raise ConfigError(f"no metric `{metric}`", where=before, hint="score it on the same suite")
        series.insert(0, (0, values[metric]))
    at, values_at = [tokens for tokens, _ in series], [value for _, value in series]
    result = stability_gap(at, values_at, lower_is_better=not higher_is_better(metric))
    if as_json:
        return print_json({**_BODY, "metric": metric, "series": series, "gap": result})
    print("\n".join(table([("tokens", metric), *((f"{t:,}", f"{v:.4f}") for t, v in series)], right=(0, 1))))
    say(f"\ndepth      {result.depth:.4f}, the largest fall below the state before")
    back = "not in this series" if result.recovery is None else f"after {result.recovery:,.0f} tokens"
    say(f"recovered  {back}")
    say(f"final      {result.final:+.4f}; area below {result.area:,.4g} tokens")


def ageing(
    scores: Annotated[
        list[str],
        typer.Argument(metavar="YEAR=SCORES...", help="Scores of a model trained on text up to that year."),
    ],
    held: Annotated[
        str, typer.Option("--set", metavar="NAME", help="Held-out set. [default: all that are dated]")
    ] = "",
    as_json: Json = False,
) -> None:
    """How bits per byte grow with the years between training data and text (a dated held-out set).

    Example: curate eval ageing 2019=scores/until-2019 2022=scores/until-2022
    """
    from curate.cli.console import print_json, say, table
    from curate.eval.bpb import ageing as fitted

    found = fitted(_by_year(scores, held))
    if as_json:
        return print_json({**_BODY, "ageing": found})
    years = sorted({year for row in found.table.values() for year in row})
    rows = [("trained until", *(str(year) for year in years))]
    for train, row in found.table.items():
        rows.append((str(train), *(f"{row[year]:.4f}" if year in row else "-" for year in years)))
    print("\n".join(table(rows, right=tuple(range(1, len(years) + 1)))))
    for name, slope in (("older", found.slope_past), ("newer", found.slope_future)):
        said = "not known from these" if slope != slope else f"{slope:+.4f} bits per byte"
        say(f"a year {name}  {said}")
    say(f"undated       {found.undated:,} documents")


def _by_year(scores: list[str], held: str) -> dict[int, Any]:
    """Documents of every score folder by the year before its =."""
    from pathlib import Path

    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    parts: dict[int, list[pa.Table]] = {}
    for one in scores:
        year, sign, folder = one.partition("=")
        file = Path(folder) / "documents.parquet"
        if not sign or not year.isdecimal():
            raise ConfigError(f"`{one}` names no year", hint="2019=scores/until-2019")
        if not file.is_file():
            raise ConfigError("no scores of documents", where=str(file), hint="`curate eval score -o DIR`")
        rows = pq.read_table(file)
        rows = rows.filter(pc.equal(rows["set"], held)) if held else rows
        if rows["year"].null_count == rows.num_rows:
            hint = "a set of the suite is dated by `date: COLUMN`; --set names another"
            raise ConfigError("no document is dated", where=str(file), hint=hint)
        parts.setdefault(int(year), []).append(rows)
    return {year: pa.concat_tables(tables) for year, tables in parts.items()}
