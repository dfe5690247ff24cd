"""`curate eval`: how good a checkpoint is, on text and tasks that no arm was trained on."""

from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from curate.cli import scores
from curate.cli.run import Json, Quiet
from curate.errors import ConfigError

if TYPE_CHECKING:
    from curate.eval.contamination import Contamination
    from curate.eval.run import Evaluation


class _Group(TyperGroup):
    """`curate eval FOLDER` is `curate eval score FOLDER`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = ["score", *args]
        return super().parse_args(ctx, args)


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    group = typer.Typer(
        cls=_Group,
        no_args_is_help=True,
        help="Score a checkpoint, or hold documents out to score on.\n\n"
        "Example: curate eval runs/a/final --suite small --data eval/ --heldout heldout/ -o scores/a",
    )
    group.command("score")(score)
    group.command("checkpoints")(checkpoints)
    group.command("heldout")(heldout)
    group.command("contamination")(contamination)
    group.command("probes")(probes)
    scores.register(group)
    app.add_typer(group, name="eval")


def score(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="A checkpoint in hub format.")],
    output: Annotated[str, typer.Option("--output", "-o", metavar="DIR", help="Where the results go.")],
    suite: Annotated[
        str, typer.Option("--suite", help="A built-in suite (small), or a YAML file.")
    ] = "small",
    data: Annotated[
        str, typer.Option("--data", metavar="DIR", help="Where the files of the suite lie.")
    ] = "",
    held: Annotated[
        list[str] | None,
        typer.Option(
            "--heldout",
            metavar="PATH",
            help="Held-out set for bits per byte, beside the suite's; repeatable.",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=1, help="Only so many documents and items of each: a partial result."),
    ] = None,
    dtype: Annotated[str, typer.Option("--dtype", help="fp32, bf16, or auto: bf16 on a GPU.")] = "auto",
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, or auto.")] = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score a checkpoint on held-out text and tasks: curate eval FOLDER is short for it.

    Writes eval.json, documents.parquet and items.parquet. What is missing is said before anything is scored.

    Example: curate eval score runs/a/final --suite small --data eval/ --heldout heldout/ -o scores/a
    """
    from curate.cli.console import print_json, say
    from curate.eval import run
    from curate.eval.model import named
    from curate.eval.suite import load

    _needs_libraries()

    run.check_output(output, limit or 0)
    chosen = load(suite, data=data, heldout=held or ())
    tell = (lambda _: None) if quiet else say
    found, documents, items = run.score(
        folder, chosen, dtype=named(dtype), device=device, limit=limit or 0, tell=tell
    )
    run.write(output, found, documents, items)
    if as_json:
        return print_json({**_body(found), "output": output})
    _print(found, output, quiet)


def checkpoints(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A folder that `curate train` wrote.")],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="DIR", help="Where step-.../eval.json go.")
    ],
    suite: Annotated[str, typer.Option("--suite", help="A built-in suite, or a YAML file.")] = "small",
    data: Annotated[
        str, typer.Option("--data", metavar="DIR", help="Where the files of the suite lie.")
    ] = "",
    held: Annotated[
        list[str] | None,
        typer.Option("--heldout", metavar="PATH", help="Held-out set, beside the suite's; repeatable."),
    ] = None,
    dtype: Annotated[str, typer.Option("--dtype", help="fp32, bf16, or auto: bf16 on a GPU.")] = "auto",
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, or auto.")] = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score every checkpoint of a run, for `curate eval select` and `gap`; what is scored already stays.

    Example: curate eval checkpoints runs/a --suite small --data eval/ -o scores/a
    """
    from curate.cli.console import print_json, say
    from curate.eval.model import named
    from curate.eval.run import score_run
    from curate.eval.suite import load

    _needs_libraries()
    chosen = load(suite, data=data, heldout=held or ())
    tell = (lambda _: None) if quiet else say
    done = score_run(run, chosen, output, dtype=named(dtype), device=device, tell=tell)
    body = {"schema": "curate.eval/1", "status": "ok", "exit": 0, "checkpoint": run, "scores": done}
    if as_json:
        return print_json(body)
    print("\n".join(done))


def heldout(
    corpus: Annotated[list[str], typer.Argument(metavar="CORPUS...", help="Files, folders or globs.")],
    output: Annotated[str, typer.Option("--output", "-o", metavar="DIR", help="Where the set goes.")],
    documents: Annotated[
        int | None, typer.Option("--documents", min=1, help="How many of each domain.")
    ] = None,
    by: Annotated[str, typer.Option("--by", metavar="COLUMN", help="The domain, such as source.")] = "",
    of: Annotated[
        str,
        typer.Option("--set", metavar="DIR", help="A set there is: what of CORPUS must be left out for it."),
    ] = "",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another seed draws others.")] = 0,
    id_column: Annotated[str, typer.Option("--id", metavar="COLUMN", help="The column with ids.")] = "",
    threshold: Annotated[
        float, typer.Option("--threshold", help="Jaccard similarity from which documents are duplicates.")
    ] = 0.8,
    workers: Annotated[int, typer.Option("--workers", help="Processes; as many as cores.")] = 0,
    as_json: Json = False,
) -> None:
    """Hold documents out of a corpus, with all their near-duplicates.

    Writes the set, and the ids that every arm leaves out of its training data.

    Example: curate eval heldout corpus/ --by source --documents 200 -o heldout/
    """
    import msgspec

    from curate.cli.console import cell, print_json, say, table
    from curate.eval.heldout import hold_out

    held = hold_out(
        corpus, output, documents=documents or 0, by=by or None, seed=seed, id=id_column or None, threshold=threshold,
        of=of, workers=workers,
    )  # fmt: skip
    if as_json:
        body = msgspec.to_builtins(held)
        return print_json({**body, "schema": "curate.eval/1", "status": "ok", "exit": 0, "output": output})
    rows = [("domain", "documents"), *((name, f"{count:,}") for name, count in held.domains.items())]
    print("\n".join(table(rows, right=(1,))))
    say(f"\nheld out   {held.documents:,} documents, {held.bytes:,} bytes")
    say(
        f"left out   {held.left_out:,} of {held.corpus_documents:,} documents of the corpus, themselves among them"
    )
    if held.unread:
        say(f"not read   {len(held.unread):,} rows, {cell(held.unread[0])} the first; no run keeps them")
    say(f"output     {output}")
    say(f"next       curate tokenize {cell(corpus[0])} --leave-out {output} -o tokens/ --tokenizer FOLDER")


def contamination(
    corpora: Annotated[
        list[str],
        typer.Argument(metavar="CORPUS...", help="Arms: each a file, a folder, or a glob in quotes."),
    ],
    suite: Annotated[str, typer.Option("--suite", help="A built-in suite, or a YAML file.")] = "small",
    data: Annotated[
        str, typer.Option("--data", metavar="DIR", help="Where the files of the suite lie.")
    ] = "",
    left_out: Annotated[
        list[str] | None,
        typer.Option(
            "--leave-out", metavar="DIR", help="As `curate tokenize` has it: not searched; repeatable."
        ),
    ] = None,
    id_column: Annotated[str, typer.Option("--id", metavar="COLUMN", help="The column with ids.")] = "",
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="Write what was found as JSON.")
    ] = "",
    workers: Annotated[int, typer.Option("--workers", help="Processes; as many as cores.")] = 0,
    as_json: Json = False,
) -> None:
    """Items of a suite's tasks that a corpus holds, question and answer.

    Scores of arms compare on the items that none of them has: `curate ablate` leaves the others out.

    Example: curate eval contamination out/raw out/deduped --suite small --data eval/
    """
    from pathlib import Path

    import msgspec

    from curate.cli.console import print_json, say
    from curate.eval.contamination import search
    from curate.eval.suite import load, open_all

    opened = open_all(load(suite, data=data))
    found = [
        search(opened, one, id=id_column or None, leave_out=left_out or (), workers=workers)
        for one in corpora
    ]
    body = {"schema": "curate.eval/1", "status": "ok", "exit": 0, "suite": suite, "corpora": found}
    if output:
        Path(output).parent.mkdir(parents=True, exist_ok=True)
        written = Path(output).with_name(f".{Path(output).name}")
        written.write_bytes(msgspec.json.format(msgspec.json.encode(body)))
        written.replace(output)
    if as_json:
        return print_json(body)
    _print_contamination(found)
    if output:
        say(f"output     {output}")


def _print_contamination(found: "list[Contamination]") -> None:
    from curate.cli.console import cell, say, table

    rows = [("task", "items", "cannot be found", *(cell(one.corpus) for one in found))]
    for task, items in found[0].items.items():
        hits = (f"{len(one.found[task]):,}" for one in found)
        rows.append((cell(task), f"{items:,}", f"{found[0].unmatchable[task]:,}", *hits))
    print("\n".join(table(rows, right=tuple(range(1, len(rows[0]))))))
    for one in found:
        say(f"{cell(one.corpus)}: {one.documents:,} documents searched")


def probes(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="A checkpoint in hub format.")],
    words: Annotated[
        str, typer.Option("--words", metavar="FILE", help="Words that make a continuation toxic, one a line.")
    ] = "",
    prompts: Annotated[
        str, typer.Option("--prompts", metavar="PATH", help="Texts to continue, for --words.")
    ] = "",
    memorised: Annotated[
        str,
        typer.Option("--memorised", metavar="PATH", help="Training text: how much of it is said by heart."),
    ] = "",
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="Of a continuation, for --words.")] = 20,
    prompt: Annotated[
        int, typer.Option("--prompt", min=1, help="Tokens of a text that are shown, for --memorised.")
    ] = 32,
    span: Annotated[
        int, typer.Option("--span", min=1, help="Tokens that must come exactly, for --memorised.")
    ] = 32,
    limit: Annotated[int, typer.Option("--limit", min=1, help="So many texts, the first ones.")] = 1000,
    dtype: Annotated[str, typer.Option("--dtype", help="fp32, bf16, or auto: bf16 on a GPU.")] = "auto",
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, or auto.")] = "auto",
    as_json: Json = False,
) -> None:
    """How often a model goes on in toxic words, and how much of its training text it says by heart.

    What a change of data did on the way is in the scores of its checkpoints: `curate eval gap`.

    Example: curate eval probes runs/a/final --words bad_words.txt --prompts prompts.jsonl --memorised corpus/
    """
    from curate.cli.console import print_json
    from curate.eval.model import Model, named
    from curate.eval.probes import memorised as by_heart
    from curate.eval.probes import toxic_rate, word_list

    if bool(words) != bool(prompts) or not (words or memorised):
        raise ConfigError("nothing to probe", hint="--words with --prompts, or --memorised, or all three")
    _needs_libraries()
    listed = _words(words) if words else []
    texts = [_texts(path, limit) if path else [] for path in (prompts, memorised)]
    model = Model.open(folder, named(dtype), device)
    found: dict[str, Any] = {}
    if words:
        rate, _ = toxic_rate(model, texts[0], word_list(listed), tokens=tokens)
        found["toxic"] = {"rate": rate, "prompts": len(texts[0]), "words": len(listed), "tokens": tokens}
    if memorised:
        share, asked = by_heart(model, texts[1], prompt=prompt, span=span)
        found["memorised"] = {"rate": share, "texts": asked, "prompt": prompt, "span": span}
    if as_json:
        body = {"schema": "curate.eval/1", "status": "ok", "exit": 0, "checkpoint": folder}
        return print_json({**body, "model": model.about(), "probes": found})
    for name, one in found.items():
        print(f"{name:<10} {one['rate']:.4f}  of {one.get('prompts', one.get('texts')):,} texts")


def _words(path: str) -> list[str]:
    from curate.stages._lists import lines

    return [word for entries, _ in lines(path, comments=True) for word in entries.to_pylist()]


def _texts(path: str, limit: int) -> list[str]:
    """The first texts of an input."""
    from curate.eval.bpb import Heldout, chunks

    given = Heldout(name=path, path=path)
    return [text for batch in chunks(given, limit) for text in batch["text"].to_pylist()]


def _needs_libraries() -> None:
    import importlib.util

    for name in ("torch", "transformers"):
        if importlib.util.find_spec(name) is None:
            raise ConfigError(f"`eval` needs {name}, which is not there", hint='pip install "curate[eval]"')


def _body(found: "Evaluation") -> dict[str, Any]:
    import msgspec

    body: dict[str, Any] = msgspec.to_builtins(found, str_keys=True)
    return body


def _print(found: "Evaluation", output: str, quiet: bool) -> None:
    from curate.cli.console import cell, say, table

    rows = [("", "score", "what", "over")]
    for name, held in found.heldout.items():
        rows.append(
            (cell(name), f"{held.bits_per_byte:.4f}", "bits per byte", f"{held.documents:,} documents")
        )
        if len(held.domains) > 1:
            rows += [
                (f"  {cell(domain)}", f"{one.bits_per_byte:.4f}", "", f"{one.documents:,}")
                for domain, one in held.domains.items()
            ]
        rows += [
            (f"  {year}", f"{one.bits_per_byte:.4f}", "", f"{one.documents:,}")
            for year, one in held.years.items()
        ]
    for name, task in found.tasks.items():
        what = f"{task.metric}, guessing {task.chance:.3f}"
        rows.append((cell(name), f"{task.score:.4f}", what, f"{task.items:,} items"))
        rows.append(("", f"{task.gold_bits_per_byte:.4f}", "bits per byte of right answers", ""))
    print("\n".join(table(rows, right=(1,))))
    if quiet:
        return
    if found.core is not None:
        say(f"\ncentred    {found.core:.4f}, mean over tasks: 0 is guessing, 1 is perfect")
    for name, task in found.tasks.items():
        if task.unfit or task.truncated:
            say(
                f"{name}: {task.truncated:,} prompts lost their beginning, {task.unfit:,} items do not fit and are out"
            )
    for name, held in found.heldout.items():
        if held.lossy or held.empty:
            say(f"{name}: {held.empty:,} empty documents left out, {held.lossy:,} that the tokenizer changes")
    if found.partial:
        say(f"partial    only {found.partial:,} documents and items of each: for trying out")
    say(f"output     {output}")
