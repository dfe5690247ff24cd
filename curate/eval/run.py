"""Scores a checkpoint on a suite and writes what it found.

DIR/eval.json           numbers by name, each with what it was measured with
DIR/documents.parquet   bits per byte of each document of the held-out sets
DIR/items.parquet       each item of the tasks: log-likelihoods of its answers, scores
"""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from curate.errors import ConfigError
from curate.eval import bpb, tasks
from curate.eval.model import Dtype, Model, check_folder
from curate.eval.suite import Items, Suite, open_all

RESULT = "eval.json"
STEPS = "steps.json"  # of a run's checkpoints: the folders of their scores, written last


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """What `eval.json` holds."""

    schema: str = "curate.eval/1"
    status: str = "ok"
    exit: int = 0
    checkpoint: str  # its folder, as it was named
    model: dict[str, Any]  # weights and tokenizer by sha256, number format, libraries
    suite: str
    partial: int = 0  # only the first so many documents and items of each: not to be mixed with whole results
    heldout: dict[str, bpb.Result]
    tasks: dict[str, tasks.TaskResult]
    core: float | None  # mean centred accuracy; null without tasks


def score(
    folder: str, suite: Suite, *, dtype: Dtype = "auto", device: str = "auto", limit: int = 0,
    tell: Callable[[str], None] = lambda _: None,
) -> tuple[Evaluation, pa.Table, pa.Table]:  # fmt: skip
    """(numbers, documents, items). What is missing is an error before the model is opened."""
    check_folder(folder)
    if suite.tasks:
        tasks.harness_version()
    opened = open_all(suite, limit)
    return score_model(Model.open(folder, dtype, device), suite, opened, limit=limit, tell=tell)


def score_model(
    model: Model,
    suite: Suite,
    opened: list[Items],
    *,
    limit: int = 0,
    tell: Callable[[str], None] = lambda _: None,
) -> tuple[Evaluation, pa.Table, pa.Table]:
    """The same with what is open already."""
    parts, sets = [bpb.DOCUMENTS.empty_table()], {}
    for held in suite.heldout:
        rows, sets[held.name] = bpb.measure(
            model, held, context=suite.context or 0, stride=suite.stride or 0, limit=limit, tell=tell
        )
        parts.append(rows)
    items, results = tasks.evaluate(model, opened, tell)
    core = tasks.core(results)
    found = Evaluation(
        checkpoint=model.folder, model=model.about(), suite=suite.name, partial=limit, heldout=sets, tasks=results,
        core=None if math.isnan(core) else core,
    )  # fmt: skip
    return found, pa.concat_tables(parts), items


def score_run(
    run: str, suite: Suite, output: str, *, dtype: Dtype = "auto", device: str = "auto",
    tell: Callable[[str], None] = lambda _: None,
) -> list[str]:  # fmt: skip
    """Score every checkpoint of a run into `output`/step-...; those that are scored stay. Returns their folders.

    ConfigError where the run has none.
    """
    from curate.train.checkpoint import found

    steps = found(Path(run))
    if not steps:
        hint = "a run of `curate train` keeps its last ones: `checkpoint_every`, `keep`"
        raise ConfigError("no checkpoint in it", where=run, hint=hint)
    opened = open_all(suite)
    for step in steps:
        place = Path(output) / step.name
        if not (place / RESULT).is_file():
            tell(step.name)
            write(str(place), *score_model(Model.open(str(step), dtype, device), suite, opened, tell=tell))
    done = [str(Path(output) / step.name) for step in steps]
    (Path(output) / f".{STEPS}").write_bytes(msgspec.json.encode(done))
    os.replace(Path(output) / f".{STEPS}", Path(output) / STEPS)
    return done


def check_output(folder: str, limit: int) -> None:
    """ConfigError where a partial result would take the place of a whole one."""
    file = Path(folder) / RESULT
    if limit and file.is_file() and not msgspec.json.decode(file.read_bytes()).get("partial"):
        hint = "give another folder; --limit is for trying things out"
        raise ConfigError("holds a whole result, and --limit makes a partial one", where=folder, hint=hint)


def write(folder: str, found: Evaluation, documents: pa.Table, items: pa.Table) -> None:
    """Lay the three files down, `eval.json` last: where it is, the others are whole and its own."""
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    own = f".{os.getpid()}-"  # two studies may score one run at a time
    for name, table in (("documents", documents), ("items", items)):
        pq.write_table(table, place / f"{own}{name}.parquet", compression="zstd")
    (place / f"{own}{RESULT}").write_bytes(msgspec.json.format(msgspec.json.encode(found)))
    (place / RESULT).unlink(missing_ok=True)
    for name in ("documents.parquet", "items.parquet", RESULT):
        os.replace(place / f"{own}{name}", place / name)
