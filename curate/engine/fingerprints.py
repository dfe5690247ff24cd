"""Names made of content: of the input, of a recipe, of each pass.

A pass is named by what decides its bytes (input content, resolved config, stage versions, libraries, models, seed, unit
rule), never by paths, workers or time; so a changed recipe never resumes another's work and recipes that begin alike
share their first passes.
"""

import hashlib
import os
import sys
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import msgspec
import pyarrow as pa

from curate import stages
from curate.engine import shape
from curate.io import side
from curate.io.files import content_of, sha256_of, stamp_of
from curate.io.inputs import InputFile
from curate.io.opt_out import sha256_of_list
from curate.io.slices import Entry
from curate.recipe.recipe import CHECKPOINT, Recipe, Step
from curate.stage import Stage

FORMAT = 2  # raise when the same plan would give other bytes
KEYS_ABOVE_BYTES = 10 << 30  # dropped rows keep only their keys when the input is larger
NOTHING: Mapping[str, str] = {}
_LIBRARIES = ("pyarrow", "numba", "numpy")  # whose versions may decide any pass's bytes
_READERS = {"warc": ("fastwarc", "resiliparse"), "jsonl": ("msgspec", "zstandard")}
_WRITERS = {"jsonl.zst": ("msgspec", "zstandard")}
version = cache(metadata.version)  # which parses all that a library says of itself


class File(msgspec.Struct, frozen=True):
    """A file of the input as it was planned."""

    name: str  # relative to the input root
    format: str
    size: int
    digest: str
    stamp: str = ""  # of the time it was listed; names nothing
    etag: str = ""  # of what was downloaded, as its source said
    entry: int = -1  # of `input.path`, where that has a reading of its own

    @property
    def content(self) -> list[Any]:
        """What names it and how it is read."""
        return [self.name, self.size, self.digest] + [self.entry] * (self.entry >= 0)


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


def planned_file(file: InputFile, digest: str) -> File:
    """What the plan keeps of a file that was read."""
    etag = file.remote.etag if file.remote else ""
    return File(file.name, file.format, file.size, digest, file.stamp, etag, file.entry)


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


def inputs_digest(files: Sequence[File], recipe: Recipe) -> str:
    """Name of the input's content and of how it is read and cut."""
    content = {
        "files": [f.content for f in files],
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
    if any(isinstance(one, Entry) for one in recipe.input.entries):
        ways = (recipe.input.of(number) for number in range(len(recipe.input.entries)))
        reading["entries"] = [[way.format, way.id, way.columns] for way in ways]
    if not reading["tdm"]:
        del reading["tdm"]  # plans made before there was such a key stay what they are
    if lists := recipe.input.opt_out_files:
        reading["opt_out"] = [sha256_of_list(os.path.join(recipe.base, file)) for file in lists]
    if not reading["with"]:
        del reading["with"]
    elif recipe.input.sides:
        reading["with"] = list(side_digests(recipe))
    return reading


def resolved(recipe: Recipe, input_bytes: int) -> Recipe:
    """The recipe with what it leaves to the size of the input filled in."""
    if recipe.output.dropped is not None:
        return recipe
    dropped: Literal["keys", "full"] = "keys" if input_bytes > KEYS_ABOVE_BYTES else "full"
    return msgspec.structs.replace(recipe, output=msgspec.structs.replace(recipe.output, dropped=dropped))


def recipe_digest(recipe: Recipe, input_bytes: int = 0, known: Mapping[str, str] = NOTHING) -> str:
    """Name of everything in a recipe that decides rows, the input's content and place apart.

    `known`: sha256 of files named beside the input that are taken as given, by their full path.
    """
    recipe = resolved(recipe, input_bytes)
    readers = [name for libraries in _READERS.values() for name in libraries]
    content = {
        "format": FORMAT,
        "input": _reading(recipe),
        "libraries": versions(*_LIBRARIES, *readers),
        "steps": [step_identity(s, recipe.base, known) for s in recipe.steps if s.stage != CHECKPOINT],
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


def of_pass(
    recipe: Recipe, source: str, steps: Sequence[int], schema: pa.Schema, final: bool, part: str = "rows"
) -> str:
    """Name of a pass that runs these steps over what `source` names."""
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


def step_identity(step: Step, base: str, known: Mapping[str, str] = NOTHING) -> dict[str, Any]:
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
        "files": [
            f"{Path(path).name} {known[path] if path in known else content_of(path)}"
            for path in (os.path.abspath(os.path.join(base, file)) for file in _files_of(spec, config))
        ],
        "code": sha256_of(file) if file else "",
    }


def _files_of(spec: Stage, config: Any) -> Sequence[str]:
    return spec.files(config) if spec.files else ()


def _file_outside(module: str) -> str | None:
    # of a stage that another package brings; ours are told by the stage's version
    file = sys.modules[module].__file__ if module in sys.modules else None
    return None if module.partition(".")[0] == "curate" else file


def versions(*libraries: str) -> dict[str, str]:
    """Versions of libraries, and of the Unicode tables of Python."""
    return {"unicode": unicodedata.unidata_version} | {name: version(name) for name in libraries}


def digest_of(tag: str, content: Mapping[str, Any]) -> str:
    """Short sha256 of canonical JSON, tagged so that digests of different things never meet."""
    return hashlib.sha256(tag.encode() + b"\0" + msgspec.json.encode(content, order="sorted")).hexdigest()[
        :20
    ]
