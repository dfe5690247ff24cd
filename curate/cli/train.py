"""`curate train`: a small language model on token datasets."""

import sys
import time
from typing import Annotated, Any

import typer

from curate.cli.run import Json, Quiet
from curate.errors import ConfigError


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command("train")(train)


def train(
    tokens: Annotated[
        list[str],
        typer.Argument(metavar="TOKENS...", help="Folders that `curate tokenize` made.", show_default=False),
    ],
    output: Annotated[str, typer.Option("--output", "-o", metavar="FOLDER", help="Where the run goes.")],
    size: Annotated[
        str | None, typer.Option("--size", help="1m ... 1b: shape, batch and rate. [default: 1m]")
    ] = None,
    budget: Annotated[
        int | None,
        typer.Option(
            "--tokens",
            metavar="N",
            min=1,
            help="Budget; 20 per parameter. --set count=loss: tokens in the loss.",
        ),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            "--init", help="scratch, a model folder, or {checkpoint: FOLDER, optimizer: keep | reset}."
        ),
    ] = None,
    config: Annotated[
        str, typer.Option("--config", metavar="FILE", help="YAML with any of the printed keys.")
    ] = "",
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY.PATH=VALUE", help="Change one key; repeatable.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Of the weights and of the order of the data.")
    ] = None,
    slurm: Annotated[
        str,
        typer.Option("--slurm", metavar="FILE", help="Write a job script that runs this command, and stop."),
    ] = "",
    nodes: Annotated[int, typer.Option("--nodes", min=1, help="Of the job.")] = 1,
    processes: Annotated[
        int, typer.Option("--processes", min=1, help="Of the job on each node: its GPUs.")
    ] = 1,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a Llama-style model on token datasets, or go on where a killed run stopped.

    One dial, --size, derives the rest; every derived value is printed and can be set. On several processes:
    torchrun --nproc-per-node 2 --no-python curate train ...

    Example: curate train tokens/ -o out/small --size 1m --tokens 2400000

    Exit codes: 0 complete; 1 the loss diverged; 2 data, settings and model do not fit, or the folder is in use; 3
    stopped, run again to go on; 130 interrupted.
    """
    from curate.train import settings

    flags = {
        "size": size, "tokens": budget, "seed": seed, "init": None if init is None else settings.parse_init(init),
    }  # fmt: skip
    given = settings.load(config, sets or [], flags)
    if slurm:
        _write_job(slurm, nodes, processes, tokens, output, given)
        return
    _run(tokens, output, given, as_json, quiet)


def _run(tokens: list[str], output: str, given: Any, as_json: bool, quiet: bool) -> None:
    from curate.cli.console import print_json, say

    run = _trainer()
    view = View(quiet)
    try:
        result = run.train(tokens, output, given, listen=view, say=(lambda text: None) if quiet else say)
    finally:
        view.close()
    import os

    if int(os.environ.get("RANK", 0)):
        return
    if as_json:
        print_json(result)
    if not quiet:
        _say_result(result)


def _trainer() -> Any:
    try:
        from curate.train import run
    except ImportError as error:
        if error.name not in ("torch", "transformers", "safetensors"):
            raise
        raise ConfigError(f"training needs {error.name}", hint='pip install "curate[train]"') from None
    return run


def _say_result(result: Any) -> None:
    from curate.cli.console import human_seconds, say, table

    data = result.data
    rows = [
        ("loss", f"{result.loss:.4f} nats per token, mean of the last 100 steps"),
        ("tokens", f"{result.tokens:,}; {data['loss_tokens']:,} in the loss, {data['unique_tokens']:,} of them unique"),
        ("data", ", ".join(f"{name} {part:.1%}, {data['epochs'][name]:.2f} epochs" for name, part in data["shares"].items())),
        ("time", f"{human_seconds(result.seconds)}, {result.tokens_per_second:,.0f} tokens/s"),
        ("output", result.output),
        ("next", result.next),
    ]  # fmt: skip
    say()
    for line in table(rows):
        say(line)


def _write_job(path: str, nodes: int, processes: int, tokens: list[str], output: str, given: Any) -> None:
    import shlex
    from pathlib import Path

    run, words = _trainer(), sys.argv[1:]
    prepared = run.prepare(tokens, output, given)  # an error is found before the queue
    left: list[str] = []
    skip = False
    for word in words:
        if not skip and not word.startswith(("--slurm=", "--nodes=", "--processes=")):
            if word in ("--slurm", "--nodes", "--processes"):
                skip = True
                continue
            left.append(word)
        skip = False
    from curate.train.distributed import slurm_job

    command = shlex.join(["curate", *left, "--quiet"])
    Path(path).write_text(slurm_job(command, nodes, processes, Path(output).name))
    from curate.cli.console import say

    say(f"{path}: {nodes} x {processes} processes, {prepared.settings.tokens:,} tokens")
    say(f"next  sbatch {path}")


class View:
    """How far a run is: a bar on a terminal, else a line every 30 seconds."""

    def __init__(self, quiet: bool) -> None:
        self._quiet, self._told = quiet, time.monotonic()
        self._bar: Any = None

    def __call__(self, record: dict[str, Any]) -> None:
        from curate.cli.console import LINE_SECONDS, say

        if self._quiet:
            return
        done, of = record["step"], record["of"]
        line = f"step {done:,} of {of:,}, loss {record['loss']:.4f}, rate {record['lr']:.2e}"
        line += f", {record['tokens_per_second']:,.0f} tokens/s"
        line += f", MFU {record['mfu']:.1%}" if "mfu" in record else ""
        if sys.stderr.isatty():
            if self._bar is None:
                self._bar = _bar()
            self._bar.update(0, description=line, completed=done, total=of)
        elif time.monotonic() - self._told > LINE_SECONDS:
            self._told = time.monotonic()
            say(line)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()


def _bar() -> Any:
    from curate.cli.console import _bar as bar

    return bar()
