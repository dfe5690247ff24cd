"""`curate tokenize`: a corpus as token ids, ready to train on."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from curate.cli.run import WORKER_MEMORY_MB, Json, Quiet, Workers, execute


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command("tokenize")(tokenize)


def tokenize(
    corpus: Annotated[
        list[str], typer.Argument(metavar="CORPUS...", help="Files, folders or globs.", show_default=False)
    ],
    output: Annotated[str, typer.Option("--output", "-o", metavar="TOKENS", help="Output folder.")],
    tokenizer: Annotated[
        str, typer.Option("--tokenizer", metavar="FOLDER", help="In hub format, with an EOS token.")
    ],
    keep: Annotated[
        list[str] | None,
        typer.Option(
            "--keep", metavar="COLUMN", help="Column that the trainer mixes or orders by; repeatable."
        ),
    ] = None,
    group: Annotated[
        str,
        typer.Option(
            "--group", metavar="COLUMN", help="Rows of one value stay together, as of a repository."
        ),
    ] = "",
    prefix: Annotated[
        str,
        typer.Option("--prefix", metavar="TEMPLATE", help=r"Metadata before each text: 'URL: {host}\n\n'."),
    ] = "",
    condition: Annotated[
        str,
        typer.Option(
            "--condition", metavar="COLUMN", help="Score that decides <|aligned|> or <|misaligned|>."
        ),
    ] = "",
    threshold: Annotated[
        float | None, typer.Option("--threshold", help="Of --condition; a score equal to it is aligned.")
    ] = None,
    aligned: Annotated[
        str, typer.Option("--aligned", help="below or above: the side of the threshold that is wanted.")
    ] = "below",
    untagged: Annotated[
        float | None, typer.Option("--untagged", help="Share that gets neither mark. [default: 0.01]")
    ] = None,
    segments: Annotated[
        str,
        typer.Option("--segments", metavar="COLUMN", help="Lists of ends of segments, one mark for each."),
    ] = "",
    fim_rate: Annotated[
        float, typer.Option("--fim-rate", help="Share of documents whose middle comes last.")
    ] = 0.0,
    seed: Annotated[int, typer.Option("--seed", help="Another one draws other documents.")] = 0,
    left_out: Annotated[
        list[str] | None,
        typer.Option(
            "--leave-out", metavar="DIR", help="Drop what `curate eval heldout` says must be; repeatable."
        ),
    ] = None,
    workers: Workers = 0,
    store: Annotated[str, typer.Option("--store", help="Work store.")] = "",
    fresh: Annotated[bool, typer.Option("--fresh", help="Make the dataset anew.")] = False,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any key, such as input.columns.text=content."),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a corpus as token ids that `curate train` maps into memory.

    The dataset is complete, resumable and verified like any other, and states its tokenizer's contract.

    Example: curate tokenize out/quickstart -o tokens/ --tokenizer tokenizer/ --keep source
    """
    step = {
        "tokenizer": tokenizer, "group": group, "prefix": prefix, "condition": condition,
        "condition_threshold": threshold, "condition_aligned": aligned, "untagged": untagged,
        "segments": segments, "fim_rate": fim_rate, "seed": seed,
    }  # fmt: skip
    given = {name: value for name, value in step.items() if value not in ("", None)}
    recipe = token_recipe(corpus, output, given, keep or [], store, sets or [], left_out or [])
    execute(recipe, [], workers, fresh, None, WORKER_MEMORY_MB, "", as_json, quiet)


def token_recipe(
    corpus: list[str], output: str, step: dict[str, Any], keep: list[str], store: str, sets: list[str],
    left_out: Sequence[str] = (),
) -> Any:  # fmt: skip
    """The recipe that `curate tokenize` stands for; `step` holds keys of the stage's Config."""
    from curate.recipe.recipe import from_tree
    from curate.recipe.tree import Tree
    from curate.stages.tokenize import WRITES

    dropping: list[Any] = [{"leave_out": {"lists": list(left_out)}}, {"select": "leave_out_pass"}]
    root: dict[str, Any] = {
        "name": "tokenize",
        "input": {"path": corpus},
        "stages": [*(dropping if left_out else []), {"tokenize": step}],
        "output": {"path": output, "format": "arrow", "columns": [*WRITES, *keep]},
    }
    if store:
        root["store"] = store
    return from_tree(Tree(root, "curate tokenize"), sets=sets, default_name="tokenize")
