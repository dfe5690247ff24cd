"""What a stage is.

A *map* stage is one pure function over a RecordBatch: same rows, same order, new columns.
A *global* stage is a list of phases with a barrier between them, each a plain function over files.
Both are plain functions with a `.stage` attribute, so `stages.NAME.NAME(batch, Config())` works from Python.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import msgspec
import pyarrow as pa

Function = TypeVar("Function", bound=Callable[..., Any])
Columns = Mapping[str, pa.DataType] | Callable[[Any], Mapping[str, pa.DataType]]
Names = Sequence[str] | Callable[[Any], Sequence[str]]
Check = Callable[[Any, Mapping[str, pa.DataType]], None]
Notes = Callable[[Any], Sequence[str]]


class Inputs(Protocol):
    """What a phase of a global stage may read."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Rows of the task's unit, in order (phases over units)."""

    def merged(self) -> Iterator[pa.Table]:
        """What the phase before wrote for this task's range or unit, merged in key order, in bounded tables.

        Each call reads it from its begin.
        """


class Out(Protocol):
    """Where a phase writes: records for the next phase, or (the last phase) kept and dropped rows."""

    @property
    def scratch(self) -> Path:
        """An empty folder on a local disk for what memory cannot hold; gone after the task (not the last phase's)."""

    @property
    def memory(self) -> int:
        """Bytes that a phase may hold beside a batch or table and what it makes of it; they decide no byte it writes."""

    def write(self, table: pa.Table) -> None:
        """Add records for the next phase; they are sorted by the phase's key, with a bounded memory."""

    def keep(self, batch: pa.RecordBatch) -> None:
        """Pass rows on to the next stage."""

    def drop(self, batch: pa.RecordBatch, reasons: Mapping[str, pa.Array]) -> None:
        """Drop rows; `reasons` holds the DROP columns other than drop_stage."""


@dataclass(frozen=True)
class Task:
    """One journaled piece of a phase: a unit, or a range [low, high] of the key's first column."""

    index: int
    low: int = 0
    high: int = 0


@dataclass(frozen=True)
class Phase:
    """`run(task, inputs, out, config) -> counts`.

    over   "units": one task per unit of the rows, which also reads the records whose key is the `order` of its rows;
           "ranges": one per range of the key written by the phase before; "whole": one over all those records
    key    columns that order the records written; the first is uint64. None for the last phase.
    """

    run: Callable[[Task, Inputs, Out, Any], Mapping[str, int]]
    over: Literal["units", "ranges", "whole"]
    key: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Stage:
    """The declared contract of a stage; the engine checks what it can of it at plan and per batch."""

    name: str
    version: int
    config: type[msgspec.Struct]
    function: Callable[..., Any]
    reads: Names
    writes: Columns
    removes: tuple[str, ...] = ()
    load: Callable[[Any, Path], Any] | None = None
    isolate: bool = False  # runs in a killable child; Config has `deadline_seconds` and `max_memory_mb`
    ends_pass: bool = False  # costly: what it wrote is kept for other recipes
    libraries: Names = ()  # whose version decides the output
    files: Callable[[Any], Sequence[str]] | None = None  # paths named by the config, part of the fingerprint
    phases: tuple[Phase, ...] = ()
    module: str = ""
    check: Check | None = None  # raises ConfigError at plan where the columns' types do not fit
    scores: tuple[str, ...] = ()  # columns that a model judged by: the guards ask what explains them
    notes: Notes | None = None  # lines about a Config that `check` prints
    makes_rows: bool = False  # adds rows, whose `parent_id` is not null
    rare: bool = False  # what it looks for is rare: that it finds nothing is no reason to stop a run
    states: Callable[[Any], Mapping[str, Any]] | None = None  # what its dataset says of itself, JSON
    parameters: Callable[[Any], int] | None = (
        None  # of the model that reads the tokens it counts as `model_tokens`
    )

    @property
    def is_global(self) -> bool:
        return bool(self.phases)

    def columns_read(self, config: Any) -> list[str]:
        return list(self.reads(config) if callable(self.reads) else self.reads)

    def libraries_used(self, config: Any) -> list[str]:
        return list(self.libraries(config) if callable(self.libraries) else self.libraries)

    def columns_written(self, config: Any) -> dict[str, pa.DataType]:
        return dict(self.writes(config) if callable(self.writes) else self.writes)


def stage(
    name: str,
    *,
    version: int,
    config: type[msgspec.Struct],
    reads: Names,
    writes: Columns,
    removes: Sequence[str] = (),
    load: Callable[[Any, Path], Any] | None = None,
    isolate: bool = False,
    ends_pass: bool = False,
    libraries: Names = (),
    files: Callable[[Any], Sequence[str]] | None = None,
    scores: Sequence[str] = (),
    notes: Notes | None = None,
    rare: bool = False,
    makes_rows: bool = False,
    check: Check | None = None,
    states: Callable[[Any], Mapping[str, Any]] | None = None,
) -> Callable[[Function], Function]:
    """Declare a map stage: `fn(batch, config)`, or `fn(batch, config, model)` with `load=fn(config, store)`.

    `writes` maps each new column to its Arrow type (`text` when the stage edits it); a function of the Config
    where it depends on it. The engine renames the columns when a recipe gives the stage another name. `scores` names
    those that a model's judgement is in: a run stops where language or length alone explain them. It also stops where
    a stage with a verdict or an edit finds nothing at all, unless what it looks for is `rare`. One that `makes_rows`
    gives back the rows it got, in order, with others among them, and writes `parent_id`, string, null for the former.
    `states` is what a dataset with its columns says of itself, in the manifest and in the metadata of every part; such
    a dataset keeps a copy of the stage's `files`.
    """

    def declare(function: Function) -> Function:
        declared = Stage(
            name, version, config, function, reads, writes, tuple(removes), load, isolate, ends_pass,
            libraries, files, (), function.__module__, scores=tuple(scores), notes=notes, rare=rare,
            makes_rows=makes_rows, check=check, states=states,
        )  # fmt: skip
        function.stage = declared  # type: ignore[attr-defined]
        return function

    return declare


def global_stage(
    name: str,
    *,
    version: int,
    config: type[msgspec.Struct],
    reads: Names,
    writes: Columns,
    phases: Sequence[Phase],
    libraries: Names = (),
    check: Check | None = None,
    files: Callable[[Any], Sequence[str]] | None = None,
    notes: Notes | None = None,
    parameters: Callable[[Any], int] | None = None,
) -> Stage:
    """Declare a global stage: phases in order; the last one is over units and keeps or drops rows.

    It may write `text`. `files` are paths that the Config names, of files or of folders with a `manifest.json`: their
    content is part of what names the passes. `parameters` is how large a model is that the stage runs; a phase of it then
    counts `model_tokens`, and the two say what the stage costs.
    """
    last = phases[-1]
    assert last.over == "units"
    assert last.key is None
    assert all(phase.key for phase in phases[:-1])
    return Stage(
        name, version, config, last.run, reads, writes, phases=tuple(phases), ends_pass=True,
        libraries=libraries if callable(libraries) else tuple(libraries), module=last.run.__module__, check=check,
        files=files, notes=notes, parameters=parameters,
    )  # fmt: skip
