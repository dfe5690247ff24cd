"""A frozen plan: which units there are, which passes run over them, and which columns they leave.

Units are cut from the input alone. What a pass is named by is `fingerprints.py`'s.
"""

import base64
import bisect
import contextlib
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import pyarrow as pa

from curate.engine import shape
from curate.engine.fingerprints import File, Named, of_pass
from curate.errors import ConfigError, DataError
from curate.io import side, unread
from curate.io.files import is_remote
from curate.io.inputs import Slice
from curate.io.sources import join
from curate.io.stamps import is_same
from curate.recipe.recipe import CHECKPOINT, Recipe, Step
from curate.schema import DROP
from curate.stage import Stage


class Pass(msgspec.Struct, frozen=True, kw_only=True):
    """One walk over the units. `rows` passes write a dataset; `phase` passes write records of a global stage."""

    index: int
    kind: Literal["rows", "phase"]
    fingerprint: str
    source: int  # the rows pass it reads; -1 for the input
    steps: tuple[int, ...] = ()  # map stages and selects, fused
    opens: int = -1  # the global step whose last phase opens this pass
    step: int = -1  # phase: its global step ...
    phase: int = -1  # ... and which of its phases
    reads: int = -1  # pass whose records it reads (a phase's predecessor)
    over: Literal["units", "ranges", "whole"] = "units"
    final: bool = False


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """`_curate/plan.json`."""

    schema: str = "curate.plan/1"
    curate: str
    recipe: Recipe
    digest: str  # of recipe, stage versions and libraries: everything but the input
    stage_files: tuple[str, ...]
    root: str  # of the input
    files: tuple[File, ...]
    units: tuple[tuple[Slice, ...], ...]
    columns: str  # the input's Arrow schema, base64
    passes: tuple[Pass, ...]
    store: str
    duplicate_ids: bool = False
    asked: tuple[str, ...] = ()  # the input's paths in the recipe; the plan's have commits for branches
    named: tuple[Named, ...] = ()
    sides: tuple[str, ...] = ()  # digests of the side columns
    stage_sha256: tuple[str, ...] = ()  # of the content of `stage_files`

    def input_schema(self) -> pa.Schema:
        return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(self.columns)))

    @property
    def code(self) -> list[tuple[str, str]]:
        """Files with stages of users, each with its planned sha256; older plans have none."""
        return list(itertools.zip_longest(self.stage_files, self.stage_sha256, fillvalue=""))

    def model_store(self) -> Path:
        """Where converted models lie, always on a local disk: they are mapped into memory."""
        if not is_remote(self.store):
            return Path(self.store)
        base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        return Path(os.environ.get("CURATE_CACHE") or Path(base) / "curate")

    def check_unchanged(self, slices: Sequence[Slice]) -> None:
        """DataError when a file of a unit is not what it was: what is read has the planned content's name."""
        for name in sorted({s.path for s in slices if s.format not in unread.FORMATS}):
            file = self.files[bisect.bisect_left(self.files, name, key=lambda f: f.name)]
            address = join(self.root, name)
            with contextlib.suppress(FileNotFoundError):  # reading says that
                if not is_same(address, file.stamp, file.digest):
                    raise DataError(
                        f"`{address}` is not what it was when the run was planned",
                        hint="restore it, or plan anew with --fresh",
                    )

    def check_named(self) -> None:
        """DataError when a list or side columns are not what they were: a unit must not hold two of them."""
        sides = zip(self.recipe.input.sides, self.sides, strict=False)  # older plans name none
        other = [file.path for file in self.named if not file.is_same()]
        other += [path for path, digest in sides if side.open_side(path).digest != digest]
        if other:
            raise DataError(
                f"`{other[0]}` is not what it was when the run was planned",
                hint="restore it, or plan anew with --fresh",
            )

    def unit_names(self) -> list[str]:
        width = max(5, len(str(len(self.units) - 1)))
        return [f"{i:0{width}d}" for i in range(len(self.units))]


def column_name(step: Step, spec: Stage, column: str) -> str:
    """Name in the data of a column that a stage writes: another step name takes the place of the stage's."""
    if column == "text" or step.name == spec.name:
        return column
    if column.startswith(f"{spec.name}_"):
        return f"{step.name}_{column.removeprefix(f'{spec.name}_')}"
    return f"{step.name}_{column}"


def schema_after(schema: pa.Schema, step: Step, spec: Stage, config: Any) -> pa.Schema:
    """Columns after a step. ConfigError when it reads what is not there or would overwrite what is."""
    if step.stage == "select":
        return schema
    where = f"stages[{step.index}] ({step.name})"
    if step.when and spec.makes_rows:
        raise ConfigError(
            f"`{spec.name}` makes rows, and takes no `when`", where=where, hint="leave `when` out"
        )
    for column in spec.columns_read(config):
        if column not in schema.names:
            raise ConfigError(
                f"`{spec.name}` reads `{column}`, which is not there", where=where,
                hint=f"columns at that point: {', '.join(schema.names)}",
            )  # fmt: skip
    if spec.check:
        try:
            spec.check(config, {field.name: field.type for field in schema})
        except ConfigError as error:
            raise ConfigError(error.what, where=where, hint=error.hint) from None
    _refuse_own_names(step, spec, config, where)
    for column in spec.removes:
        if column in schema.names:
            schema = schema.remove(schema.get_field_index(column))
    for column, kind in spec.columns_written(config).items():
        name = column_name(step, spec, column)
        if name == "text" and "text" in schema.names:
            continue
        if name in schema.names:
            raise ConfigError(
                f"`{spec.name}` writes `{name}`, which is there already", where=where,
                hint=f"rename the input's column: `input: {{columns: {{{name}_source: {name}}}}}`, or give the step a `name`",
            )  # fmt: skip
        schema = schema.append(pa.field(name, kind))
    return schema


def _refuse_own_names(step: Step, spec: Stage, config: Any, where: str) -> None:
    """ConfigError when a stage reads a column that is set aside for its own of that name."""
    own = {"order": "the row's place in the run"} if spec.is_global else {}
    if step.name != spec.name:
        own |= dict.fromkeys(spec.columns_written(config), "what it calls its own output")
    for column in spec.columns_read(config):
        if column in own and column != "text":
            raise ConfigError(
                f"`{spec.name}` cannot read a column called `{column}`: that is {own[column]}", where=where,
                hint=f"give the step that writes it another `name`; an input's column: `input: {{columns: {{other: {column}}}}}`",
            )  # fmt: skip


def compile_passes(recipe: Recipe, inputs: str, schema: pa.Schema, parquet_only: bool) -> tuple[Pass, ...]:
    """Cut the list of steps into passes. `inputs` is the digest of the input and its units."""
    passes: list[Pass] = []
    source, source_print, opens = -1, inputs, -1
    pending: list[int] = []

    def close(final: bool) -> None:
        nonlocal source, source_print, opens
        reads = passes[-1].index if opens >= 0 else -1
        name = of_pass(recipe, source_print, [opens, *pending] if opens >= 0 else pending, schema, final)
        passes.append(
            Pass(index=len(passes), kind="rows", fingerprint=name, source=source, steps=tuple(pending), opens=opens,
                 reads=reads, final=final)
        )  # fmt: skip
        source, source_print, opens = passes[-1].index, name, -1
        pending.clear()

    for step in recipe.steps:
        if step.stage == CHECKPOINT:
            if pending or opens >= 0:
                close(False)
            continue
        spec = step.spec()
        if not spec.is_global:
            pending.append(step.index)
            if spec.ends_pass and step.index < len(recipe.steps) - 1:
                close(False)
            continue
        if pending or opens >= 0 or (source < 0 and not parquet_only):
            close(False)
        _add_phases(passes, recipe, step, spec, source, source_print, schema)
        opens = step.index
    close(True)
    return tuple(passes)


def _add_phases(
    passes: list[Pass],
    recipe: Recipe,
    step: Step,
    spec: Stage,
    source: int,
    source_print: str,
    schema: pa.Schema,
) -> None:
    reads = -1
    for number, phase in enumerate(spec.phases[:-1]):
        name = of_pass(recipe, source_print, [step.index], schema, False, f"phase{number}")
        passes.append(
            Pass(index=len(passes), kind="phase", fingerprint=name, source=source, step=step.index, phase=number,
                 reads=reads, over=phase.over)
        )  # fmt: skip
        reads = passes[-1].index


def pack_units(
    slices: Sequence[Slice], unit_bytes: int, across_files: bool = True
) -> tuple[tuple[Slice, ...], ...]:
    """Group consecutive slices up to `unit_bytes`; a compressed stream is a unit of its own."""
    units: list[tuple[Slice, ...]] = []
    current: list[Slice] = []
    size = 0
    for piece in slices:
        other = bool(current) and piece.path != current[0].path and not across_files
        if current and (other or piece.chain or size + piece.bytes > unit_bytes):
            units.append(tuple(current))
            current, size = [], 0
        current.append(piece)
        size += piece.bytes
        if piece.chain:
            units.append(tuple(current))
            current, size = [], 0
    return (*units, tuple(current)) if current else tuple(units)


def encode_schema(schema: pa.Schema) -> str:
    return base64.b64encode(schema.serialize().to_pybytes()).decode()


def writers(recipe: Recipe) -> dict[str, str]:
    """Column -> name of the step that writes it."""
    found: dict[str, str] = {}
    for step in recipe.steps:
        if step.stage not in ("select", CHECKPOINT):
            spec = step.spec()
            found.update(
                {column_name(step, spec, c): step.name for c in spec.columns_written(step.settings())}
            )
    return found


def check_schema(recipe: Recipe, schema: pa.Schema) -> pa.Schema:
    """Walk all steps over the input's columns; returns the output's. Predicates are compiled here as well."""
    from curate.io.query import Predicate

    before = schema
    for step in recipe.steps:
        if step.stage == CHECKPOINT:
            continue
        types = {field.name: field.type for field in schema}
        where = f"stages[{step.index}] ({step.name})"
        for predicate in filter(
            None, (step.when, step.config.get("where") if step.stage == "select" else "")
        ):
            try:
                Predicate(predicate, types)
            except ConfigError as error:
                raise ConfigError(error.what, where=where, hint=error.hint) from None
        schema = schema_after(schema, step, step.spec(), step.settings())
    clash = [name for name in schema.names if name in DROP]
    if clash:
        raise ConfigError(
            f"the column name `{clash[0]}` is taken: dropped rows carry it",
            hint="rename it in `input.columns`",
        )
    shape.check(recipe, before, schema)
    return schema
