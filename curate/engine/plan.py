"""A frozen plan: which units there are, which passes run over them, and a name for each pass made of its content.

Units are cut from the input alone. A pass is named by what decides its bytes (input content, resolved config, stage
versions, libraries, models, seed, unit rule), never by paths, workers or time; so a changed recipe never resumes
another's work and recipes that begin alike share their first passes.
"""

import base64
import bisect
import contextlib
import hashlib
import os
import sys
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import msgspec
import pyarrow as pa

from curate import stages
from curate.engine import shape
from curate.errors import ConfigError, DataError
from curate.io import side, unread
from curate.io.files import content_of, is_remote, sha256_of, stamp_of
from curate.io.inputs import InputFile, Slice
from curate.io.opt_out import sha256_of_list
from curate.io.sources import join
from curate.io.stamps import is_same
from curate.recipe.recipe import CHECKPOINT, Recipe, Step
from curate.schema import DROP
from curate.stage import Stage

FORMAT = 2  # raise when the same plan would give other bytes
KEYS_ABOVE_BYTES = 10 << 30  # dropped rows keep only their keys when the input is larger
_LIBRARIES = ("pyarrow", "numba", "numpy")  # whose versions may decide any pass's bytes
_READERS = {"warc": ("fastwarc", "resiliparse"), "jsonl": ("msgspec", "zstandard")}
_WRITERS = {"jsonl.zst": ("msgspec", "zstandard")}


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


class File(msgspec.Struct, frozen=True):
    name: str  # relative to the input root
    format: str
    size: int
    digest: str
    stamp: str = ""  # of the time it was listed; names nothing
    etag: str = ""  # of what was downloaded, as its source said


class Named(msgspec.Struct, frozen=True):
    """A file that the recipe names beside its input: a list, thresholds, a model."""

    path: str
    sha256: str
    stamp: int  # of the time it was read; another one says to read it again

    def is_same(self) -> bool:
        """Whether the file has the planned content."""
        try:
            now = stamp_of(self.path)
            return now == self.stamp or _sha256_then(self.path, now) == self.sha256
        except OSError:
            return False


@lru_cache(4096)
def _sha256_then(path: str, stamp: int) -> str:
    return content_of(path)


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

    def input_schema(self) -> pa.Schema:
        return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(self.columns)))

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


def compile_passes(recipe: Recipe, inputs: str, schema: pa.Schema, parquet_only: bool) -> tuple[Pass, ...]:
    """Cut the list of steps into passes. `inputs` is the digest of the input and its units."""
    passes: list[Pass] = []
    source, source_print, opens = -1, inputs, -1
    pending: list[int] = []

    def close(final: bool) -> None:
        nonlocal source, source_print, opens
        reads = passes[-1].index if opens >= 0 else -1
        name = _fingerprint(recipe, source_print, [opens, *pending] if opens >= 0 else pending, schema, final)
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
        name = _fingerprint(recipe, source_print, [step.index], schema, False, f"phase{number}")
        passes.append(
            Pass(index=len(passes), kind="phase", fingerprint=name, source=source, step=step.index, phase=number,
                 reads=reads, over=phase.over)
        )  # fmt: skip
        reads = passes[-1].index


def _fingerprint(
    recipe: Recipe, source: str, steps: Sequence[int], schema: pa.Schema, final: bool, part: str = "rows"
) -> str:
    content = {
        "format": FORMAT,
        "source": source,
        "part": part,
        "columns": str(schema),
        "steps": [step_identity(recipe.steps[i], recipe.base) for i in steps],
        "seed": recipe.seed,
        "max_document_mb": recipe.max_document_mb,
        "output": [
            recipe.output.format if final else None,
            msgspec.to_builtins(recipe.output.dropped),
            *(shape.of(recipe.output) if final else []),
        ],
        "libraries": versions(*_LIBRARIES, *(_WRITERS.get(recipe.output.format, ()) if final else ())),
    }
    return digest_of("pass", content)


def versions(*libraries: str) -> dict[str, str]:
    """Versions of libraries, and of the Unicode tables of Python."""
    return {"unicode": unicodedata.unidata_version} | {name: version(name) for name in libraries}


def step_identity(step: Step, base: str) -> dict[str, Any]:
    """What of a step decides its output: config, versions of stage and libraries, content of the files it names."""
    spec = step.spec()
    config = step.settings()
    file = stages.file_of(step.stage) or _file_outside(spec.module)
    return {
        "index": step.index,  # names the folder of its dropped rows
        "stage": step.stage,
        "version": spec.version,
        "name": step.name,
        "when": step.when,
        "config": step.config,
        "libraries": {
            name: version(name) for name in [*spec.libraries_used(config), *(["duckdb"] if step.when else [])]
        },
        # with the name: that of a list or of thresholds may say which language it is for
        "files": [f"{Path(file).name} {content_of(Path(base) / file)}" for file in _files_of(spec, config)],
        "code": sha256_of(file) if file else "",
    }


def named_files(recipe: Recipe) -> tuple[Named, ...]:
    """Every file that the recipe names beside its input, as it is now."""
    found = {os.path.join(recipe.base, path): sha256_of_list for path in recipe.input.opt_out_files}
    for step in recipe.steps:
        if step.stage != CHECKPOINT:
            paths = _files_of(step.spec(), step.settings())
            found |= {os.path.join(recipe.base, path): content_of for path in paths}
    return tuple(_named(os.path.abspath(path), read) for path, read in found.items())


def _named(path: str, read: Callable[[str], str]) -> Named:
    stamp = stamp_of(path) if os.path.exists(path) else 0  # reading says what is wrong
    return Named(path, read(path), stamp)


def side_digests(recipe: Recipe) -> tuple[str, ...]:
    """What names the side columns, in order."""
    return tuple(side.open_side(path).digest for path in recipe.input.sides)


def _files_of(spec: Stage, config: Any) -> Sequence[str]:
    return spec.files(config) if spec.files else ()


def _file_outside(module: str) -> str | None:
    # of a stage that another package brings; ours are told by the stage's version
    file = sys.modules[module].__file__ if module in sys.modules else None
    return None if module.partition(".")[0] == "curate" else file


def resolved(recipe: Recipe, input_bytes: int) -> Recipe:
    """The recipe with what it leaves to the size of the input filled in."""
    if recipe.output.dropped is not None:
        return recipe
    dropped: Literal["keys", "full"] = "keys" if input_bytes > KEYS_ABOVE_BYTES else "full"
    return msgspec.structs.replace(recipe, output=msgspec.structs.replace(recipe.output, dropped=dropped))


def recipe_digest(recipe: Recipe, input_bytes: int = 0) -> str:
    """Name of everything in a recipe that decides rows, the input's content and place apart."""
    recipe = resolved(recipe, input_bytes)
    readers = [name for libraries in _READERS.values() for name in libraries]
    content = {
        "format": FORMAT,
        "input": _reading(recipe),
        "libraries": versions(*_LIBRARIES, *readers),
        "steps": [step_identity(s, recipe.base) for s in recipe.steps if s.stage != CHECKPOINT],
        "order": [s.stage for s in recipe.steps],
        "seed": recipe.seed,
        "unit_mb": recipe.unit_mb,
        "max_document_mb": recipe.max_document_mb,
        "output": [
            recipe.output.format,
            msgspec.to_builtins(recipe.output.dropped),
            *shape.of(recipe.output),
        ],
    }
    return digest_of("recipe", content)


def inputs_digest(files: Sequence[File], recipe: Recipe) -> str:
    """Name of the input's content and of how it is read and cut."""
    content = {
        "files": [[f.name, f.size, f.digest] for f in files],
        "reading": _reading(recipe),
        "libraries": versions(*(name for f in {f.format for f in files} for name in _READERS.get(f, ()))),
        "unit_mb": recipe.unit_mb,
    }
    if recipe.output.columns == "new":
        content["units"] = "never of two files"
    return digest_of("input", content)


def _reading(recipe: Recipe) -> dict[str, Any]:
    # how the input is read, not where it lies
    reading: dict[str, Any] = msgspec.to_builtins(recipe.input)
    for key in ("path", "opt_out", "allow_missing", "retry_seconds"):
        del reading[key]
    if not reading["tdm"]:
        del reading["tdm"]  # plans made before there was such a key stay what they are
    if lists := recipe.input.opt_out_files:
        reading["opt_out"] = [sha256_of_list(os.path.join(recipe.base, file)) for file in lists]
    if not reading["with"]:
        del reading["with"]
    elif recipe.input.sides:
        reading["with"] = list(side_digests(recipe))
    return reading


def digest_of(tag: str, content: Mapping[str, Any]) -> str:
    """Short sha256 of canonical JSON, tagged so that digests of different things never meet."""
    return hashlib.sha256(tag.encode() + b"\0" + msgspec.json.encode(content, order="sorted")).hexdigest()[
        :20
    ]


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


def planned_file(file: InputFile, digest: str) -> File:
    etag = file.remote.etag if file.remote else ""
    return File(file.name, file.format, file.size, digest, file.stamp, etag)
