"""`curate threshold`: what a cut on a score would do, before anything is dropped."""

from typing import TYPE_CHECKING, Annotated

import typer

from curate.cli.options import Sides
from curate.errors import ConfigError

if TYPE_CHECKING:
    from curate.report.cut import Cut, Group

SHOWN = 12  # values of each group


def threshold(
    folder: Annotated[
        str, typer.Argument(metavar="DIR", help="Output folder of a complete run.", show_default=False)
    ],
    score: Annotated[
        str,
        typer.Option("--score", metavar="COLUMN", help="The column of numbers to cut.", show_default=False),
    ],
    keep: Annotated[
        float | None,
        typer.Option(
            "--keep", min=0, max=1, help="Keep this share: the best of all rows.", show_default=False
        ),
    ] = None,
    keep_tokens: Annotated[
        bool, typer.Option("--keep-tokens", help="The share is of tokens, not of rows.")
    ] = False,
    at: Annotated[
        float | None, typer.Option("--at", help="Cut here, instead of --keep.", show_default=False)
    ] = None,
    low: Annotated[bool, typer.Option("--low", help="The lowest scores are the best.")] = False,
    sides: Sides = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Show what a cut on a score would keep by source, language, length and year; nothing is dropped.

    Example: curate threshold out/quickstart --score lang_score --keep 0.1
    """
    from tempfile import TemporaryDirectory

    from curate.cli.console import print_json
    from curate.cli.dataset import Dataset
    from curate.report.cut import Cutter
    from curate.report.facts import read_facts

    if (keep is None) == (at is None):
        raise ConfigError("give a share or a cut", hint="--keep 0.1, or --at 0.018")
    if keep == 0:
        raise ConfigError("--keep 0 keeps nothing", hint="--keep 0.1")
    if keep_tokens and keep is None:
        raise ConfigError("--keep-tokens says what --keep is a share of", hint="--keep 0.1 --keep-tokens")
    with TemporaryDirectory(prefix="curate-threshold-") as scratch:
        cutter = Cutter(read_facts(folder), score, low, Dataset(folder, sides or ()).sides, scratch)
        line = cutter.cut_for(keep, keep_tokens) if keep is not None else float(at or 0)
        cut = cutter.apply(line, asked=keep, of_tokens=keep_tokens)
    if as_json:
        print_json(cut)
    else:
        _print(cut)


def _print(cut: "Cut") -> None:
    from curate.cli.console import share

    about = "" if cut.tokens_counted else "about "
    print(f"{cut.score} {'<=' if cut.keeps == 'low' else '>='} {cut.cut:.6g}")
    print(
        f"keeps {cut.kept:,} of {cut.rows:,} rows ({share(cut.kept, cut.rows)}), "
        f"{about}{cut.kept_tokens:,.0f} of {cut.tokens:,.0f} tokens ({cut.kept_tokens / (cut.tokens or 1):.1%})"
    )
    if cut.nulls:
        print(f"{cut.nulls:,} rows have no score; they would go")
    for name, groups in cut.groups.items():
        _print_groups(name, groups)
    _print_beside(cut)
    print(f'\nin a recipe:   - select: "{cut.where}"')


def _print_groups(name: str, groups: "list[Group]") -> None:
    from curate.cli.console import cell, share, table

    lines: list[tuple[str, ...]] = [("", "rows", "kept", "share", "tokens kept", "median score")]
    ordered = sorted(groups, key=lambda g: g.name) if name in ("length", "year") else groups
    shown = ordered[-SHOWN:] if name == "year" else ordered[:SHOWN]
    for group in shown:
        label = group.name.partition(" ")[2] if name == "length" else group.name
        label = f"{group.others:,} others" if group.others else label or "(none)"
        lines.append((
            cell(label, 40), f"{group.rows:,}", f"{group.kept:,}", share(group.kept, group.rows),
            f"{group.kept_tokens / group.tokens:.1%}" if group.tokens else "", _score(group.middle),
        ))  # fmt: skip
    values = sum(group.others or 1 for group in groups)
    more = f" ({len(shown)} of {values:,} values; --json has more)" if values > len(shown) else ""
    print(f"\nby {name}{more}")
    print("\n".join(f"  {line}" for line in table(lines, right=(1, 2, 3, 4, 5))))


def _print_beside(cut: "Cut") -> None:
    from curate.cli.console import cell, table

    above, below = ("above", "below") if cut.keeps == "high" else ("under", "over")
    for kept, words in (
        (True, f"just {above} the line: they would stay"),
        (False, f"just {below}: they would go"),
    ):
        rows = [
            (_score(one.score), cell(one.id, 40), cell(one.source, 24), cell(one.text, 100))
            for one in cut.beside
            if one.kept == kept
        ]
        print(f"\n{words}")
        print("\n".join(f"  {line}" for line in table(rows, right=(0,))) or "  none")


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
