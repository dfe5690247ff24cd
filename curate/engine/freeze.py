"""Make a plan: list, scan and cut the input, check every step against its columns, name the passes."""

import bisect
import contextlib
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

import curate
from curate.engine import shuffle
from curate.engine.beside import check_corpus
from curate.engine.fingerprints import (
    File,
    inputs_digest,
    named_files,
    planned_file,
    recipe_digest,
    resolved,
    side_digests,
)
from curate.engine.journal import TMP
from curate.engine.lock import LOCK
from curate.engine.log import Listener
from curate.engine.plan import Plan, check_schema, compile_passes, encode_schema, pack_units
from curate.engine.scan import FILE_ROWS, KEY, ScanJob, ids_path, scan_all
from curate.engine.unit import DUPLICATES
from curate.errors import ConfigError
from curate.io import excerpt, inputs, side, unread
from curate.io.download import Patience
from curate.io.excerpt import Part
from curate.io.fetched import refuse_download
from curate.io.files import Folder, sha256_of
from curate.io.inputs import FileScan, Input, InputFile, Slice
from curate.io.listing import NothingThere, path_that_takes_in
from curate.io.stamps import is_same
from curate.recipe.recipe import CHECKPOINT, Recipe
from curate.schema import raw_columns

_REPEATED = pa.schema(
    {"unit": pa.uint64(), "place": pa.uint64(), "id": pa.string(), "keep_first": pa.bool_()}
)


def freeze(
    recipe: Recipe,
    stage_files: Sequence[str],
    listen: Listener,
    out: Folder | None = None,
    *,
    workers: int = 1,
    max_download: float | None = None,
) -> Plan:
    """The plan of a recipe on the input as it is now. Reads every input file once.

    Writes only into `out` and, where the input is downloaded, into the work store. GuardError before more than
    `max_download` bytes are downloaded.
    """
    settled, root, files = _listed(recipe, listen)
    _fetch(files, settled, store_of(recipe), listen, max_download)
    listen("plan", {"files": len(files), "bytes": sum(f.size for f in files)})
    return _frozen(settled, recipe.input.paths, root, files, stage_files, listen, out, workers)


class Sketch(NamedTuple):
    """A plan of pieces of the input, and what they stand for."""

    plan: Plan
    parts: list[Part]
    files: list[InputFile]  # of the whole input
    to_come: int  # bytes that a run would download
    coming_seconds: float  # for the pieces of it
    planning_seconds: float  # for the pieces


def sketch(
    recipe: Recipe, stage_files: Sequence[str], listen: Listener, folder: Path, max_download: float | None
) -> Sketch | None:
    """A plan of pieces of the input, which are written into `folder`; None where it is better read in full.

    GuardError where a run would download more than `max_download` bytes.
    """
    settled, _, files = _listed(recipe, listen)
    come = excerpt.to_come(files)
    refuse_download(come, max_download)
    if recipe.input.sides or recipe.output.columns == "new" or not excerpt.is_wanted(files):
        return None
    size = sum(f.size for f in files)
    listen("plan", {"files": len(files), "bytes": size})
    begun = time.perf_counter()
    parts = excerpt.take(files, folder, Patience(recipe.input.retry_seconds, _warn(listen)))
    came = time.perf_counter()
    pieces = [part.file for part in parts]
    plan = _frozen(settled, recipe.input.paths, str(folder), pieces, stage_files, listen, size=size)
    return Sketch(plan, parts, files, come, came - begun if come else 0.0, time.perf_counter() - came)


def _listed(recipe: Recipe, listen: Listener) -> tuple[Recipe, str, list[InputFile]]:
    # the recipe with its input settled, the root and the files
    if recipe.output.path:
        _refuse_output_in_input(recipe, Path(recipe.base))
    recipe = msgspec.structs.replace(recipe, input=_settled(recipe, listen))
    return recipe, *_list(recipe, store_of(recipe), listen)


def _frozen(
    recipe: Recipe, asked: tuple[str, ...], root: str, files: Sequence[InputFile], stage_files: Sequence[str],
    listen: Listener, out: Folder | None = None, workers: int = 1, size: int | None = None,
) -> Plan:  # fmt: skip
    """The plan of files that are here; `size` of the input where they are a part of it."""
    schema = inputs.input_schema(root, files, recipe.input)
    check_schema(recipe, schema)
    named = named_files(recipe)
    side_columns = recipe.output.columns == "new"
    if side_columns:
        check_corpus(recipe, files)
    for message in surprises(files, schema, recipe):
        listen("warning", {"message": message})
    with _scratch(out) as scratch:
        scans = _scanned(recipe, files, schema, listen, scratch, workers)
        slices = [piece for s in scans for piece in s.slices]
        units = pack_units(slices, recipe.unit_mb << 20, across_files=not side_columns)
        duplicates = write_repeated(scratch, out, units, [f.name for f in files])
    planned = tuple(planned_file(f, s.digest) for f, s in zip(files, scans, strict=True))
    for path in recipe.input.sides:
        side.open_side(path).check({f.name: f.digest for f in planned})
    whole = resolved(recipe, sum(f.size for f in files) if size is None else size)
    parquet_only = all(f.format == "parquet" for f in files)
    return Plan(
        curate=curate.__version__, recipe=whole, digest=recipe_digest(whole),
        stage_files=tuple(str(Path(f).resolve()) for f in stage_files), root=str(root), files=planned, units=units, asked=asked,
        columns=encode_schema(schema), duplicate_ids=duplicates, store=store_of(recipe),
        named=named, sides=side_digests(recipe), stage_sha256=tuple(map(sha256_of, stage_files)),
        passes=compile_passes(whole, inputs_digest(planned, recipe), schema, parquet_only),
    )  # fmt: skip


def _scanned(
    recipe: Recipe, files: Sequence[InputFile], schema: pa.Schema, listen: Listener, scratch: Path, workers: int
) -> list[FileScan]:  # fmt: skip
    sizes = recipe.unit_mb << 20, recipe.max_document_mb << 20
    jobs = [ScanJob(i, f, recipe.input, schema, *sizes, str(scratch)) for i, f in enumerate(files)]
    return scan_all(jobs, workers, lambda f: listen("scan", {"file": f.name, "bytes": f.size}))


def _settled(recipe: Recipe, listen: Listener) -> Input:
    # the input with commits for branches, and its lists by their full paths
    found = inputs.pinned(recipe.input, _warn(listen))
    lists = tuple(os.path.abspath(Path(recipe.base) / file) for file in found.opt_out_files)
    return msgspec.structs.replace(found, opt_out=lists)


def _warn(listen: Listener) -> Callable[[str], None]:
    return lambda message: listen("warning", {"message": message})


def _list(recipe: Recipe, store: str, listen: Listener) -> tuple[str, list[InputFile]]:
    return inputs.list_files(recipe.input, Path(recipe.base), store, recipe.seed, _warn(listen))


def _fetch(
    files: Sequence[InputFile], recipe: Recipe, store: str, listen: Listener, most: float | None = None
) -> None:
    def progress(done: int, done_bytes: int, files: int, size: int) -> None:
        listen("download", {"done": done, "done_bytes": done_bytes, "files": files, "bytes": size})

    inputs.fetch(files, recipe.input, store, _warn(listen), progress, most)


@contextlib.contextmanager
def _scratch(out: Folder | None) -> Iterator[Path]:
    """A folder for a while: in the output while we hold it, so that the next run removes what a kill leaves."""
    if out is None or out.local is None or not out.exists(LOCK):
        with tempfile.TemporaryDirectory(prefix="curate-ids-") as folder:
            yield Path(folder)
        return
    scratch = out.local / TMP / "ids"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _refuse_output_in_input(recipe: Recipe, base: Path) -> None:
    output = recipe.output.path.rstrip("/")
    path = path_that_takes_in(recipe.input, base, f"{output}/part-00000.{recipe.output.format}")
    if path:
        raise ConfigError(
            f"the output lies inside the input folder: `{output}` would be read as part of `{path}`",
            hint="choose another output, or a glob that leaves it out",
            where="output",
        )


def surprises(files: Sequence[InputFile], schema: pa.Schema, recipe: Recipe) -> Iterator[str]:
    """What a user may not expect of this input, in words."""
    left = [f.name for f in files if f.format == unread.FORMAT and not unread.is_arc(f.name)]
    if left:
        names = ", ".join(left[:3]) + (", ..." if len(left) > 3 else "")
        yield f"{len(left)} files of the folder are not read ({names}): unknown endings; `input.format` reads them"
    own = any(f.own_ids or recipe.input.of(f.entry).id_column for f in files)
    if "source_id" in schema.names and not own:
        yield "ids are made of file and row; the input's own `id` is kept as `source_id` (`input.id: id` uses it)"
    removed = {name for s in recipe.steps if s.stage != CHECKPOINT for name in s.spec().removes}
    for name in raw_columns(schema):
        if name not in removed:
            stage = {"html": "extract", "pdf": "extract_pdf"}[name]
            yield f"the input holds {name} and no stage turns it into text; `- {stage}: {{}}` does"
    stages = [s.stage for s in recipe.steps]
    for name in stages[stages.index("rehydrate") :] if "rehydrate" in stages else ():
        if name.endswith("_dedup"):
            yield f"`{name}` comes after `rehydrate` and takes its copies out again; put it before"


def store_of(recipe: Recipe) -> str:
    """The work store: the recipe's (or the environment's), else `.curate` beside the output."""
    if recipe.store:
        return os.path.abspath(recipe.store) if "://" not in recipe.store else recipe.store
    path = recipe.output.path.rstrip("/")
    parent = path.rpartition("/")[0]
    if "://" not in path:
        return os.path.abspath(os.path.join(parent or ".", ".curate"))
    return f"{path if parent.endswith(':/') else parent}/.curate"  # beside a bucket there is nothing


def _as_planned(recipe: Recipe, plan: Plan, listen: Listener) -> Recipe:
    """The recipe with its lists in place and, where it asks for what the plan was made of, with the plan's commits."""
    if recipe.input.paths == plan.asked:
        settled = recipe.input.with_paths(plan.recipe.input.paths)
        recipe = msgspec.structs.replace(recipe, input=settled)
    return msgspec.structs.replace(recipe, input=_settled(recipe, listen))


def listing_changes(plan: Plan, recipe: Recipe, listen: Listener = lambda kind, data: None) -> list[str]:
    """How the input differs from the plan, by name, size and stamp (content where the stamp is another), in words."""
    try:
        _, files = _list(_as_planned(recipe, plan, listen), plan.store, listen)
    except NothingThere:
        files = []
    now, then = {f.name: f for f in files}, {f.name: f for f in plan.files}
    new, gone = sorted(now.keys() - then.keys()), sorted(then.keys() - now.keys())
    other = sorted(n for n in now.keys() & then.keys() if _is_other(now[n], then[n]))
    found = []
    for names, one, many in (
        (new, "new file", "new files"),
        (gone, "missing file", "missing files"),
        (other, "changed file", "changed files"),
    ):
        if names:
            found.append(f"{one} {names[0]}" if len(names) == 1 else f"{len(names)} {many}, {names[0]} first")
    return sorted(found, reverse=True)


def _is_other(now: InputFile, then: File) -> bool:
    if unread.MISSING in (now.format, then.format):
        return False  # left out of the run, or not at its source any more: what is here is read
    if now.entry != then.entry:
        return True
    if now.size != then.size or now.format == unread.FORMAT:
        return now.size != then.size
    if now.remote and now.stamp != then.stamp and not os.path.exists(now.path):
        return True
    return now.stamp != then.stamp and not is_same(now.path, then.stamp, then.digest)


def relocated(plan: Plan, recipe: Recipe, listen: Listener = lambda kind, data: None) -> Plan:
    """The plan reading its files, found unchanged, where the recipe now says they are; downloads are made good."""
    recipe = _as_planned(recipe, plan, listen)
    root, files = _list(recipe, plan.store, listen)
    _fetch(files, recipe, plan.store, listen)
    stamps = {f.name: f.stamp for f in files}
    planned = tuple(msgspec.structs.replace(f, stamp=stamps.get(f.name, f.stamp)) for f in plan.files)
    reading = msgspec.structs.replace(plan.recipe.input, opt_out=recipe.input.opt_out)
    frozen = msgspec.structs.replace(plan.recipe, input=reading)
    return msgspec.structs.replace(plan, root=str(root), files=planned, recipe=frozen)


def write_repeated(
    scratch: Path, out: Folder | None, units: Sequence[Sequence[Slice]], names: Sequence[str]
) -> bool:
    """Write which units hold rows of a repeated id, and which of them keeps it, by unit. False where no id repeats."""
    runs = [path for number in range(len(names)) if (path := ids_path(scratch, number)).exists()]
    if not runs:
        return False
    places = _repeated_places(_all_ids(runs, scratch), unit_finder(units, names))
    first = next(places, None)
    if first is None or out is None:
        return first is not None
    with contextlib.closing(out.create(DUPLICATES)) as file:
        writer = shuffle.SortedWriter(file, ("unit", "place"), scratch / "repeated")
        places = itertools.chain([first], places)
        while some := list(itertools.islice(places, 50_000)):
            writer.write(pa.Table.from_pylist([row._asdict() for row in some], _REPEATED))
        writer.close()
    return True


def _all_ids(runs: Sequence[Path], scratch: Path) -> Iterator[pa.Table]:
    # every id of the input in the order of its hash, then of its place
    if len(runs) > shuffle.MAX_FILES:
        whole = scratch / "ids"
        with open(whole, "wb") as file:
            writer = shuffle.SortedWriter(file, KEY, scratch / "runs")
            for run in runs:
                writer.add_sorted(run)
            writer.close()
        runs = [whole]
    with contextlib.ExitStack() as stack:
        yield from shuffle.merge([stack.enter_context(open(run, "rb")) for run in runs], KEY)


class Repeated(NamedTuple):
    """A unit that holds rows of a repeated id."""

    unit: int
    place: int  # of the first of them
    id: str
    keep_first: bool  # the first one of the input is here


def _repeated_places(tables: Iterator[pa.Table], find_unit: Callable[[int, int], int]) -> Iterator[Repeated]:
    held: dict[str, Repeated | int] = {}  # of one hash: id -> its only row, or the unit of its last one
    current = None
    for table in tables:
        table = table.filter(pa.array(_may_repeat(table["hash"].to_numpy())))
        for digest, place, row_id in zip(*(table[c].to_pylist() for c in (*KEY, "id")), strict=True):
            if digest != current:
                held, current = {}, digest
            unit = find_unit(place // FILE_ROWS, place % FILE_ROWS)
            before = held.get(row_id)
            if before is None:
                held[row_id] = Repeated(unit, place, row_id, True)
                continue
            if isinstance(before, Repeated):
                yield before
                before = before.unit
            if unit != before:
                yield Repeated(unit, place, row_id, False)
            held[row_id] = unit


def _may_repeat(hashes: Any) -> Any:
    # sorted hashes that stand beside an equal one; the first and last may have one in the next table
    same = hashes[1:] == hashes[:-1]
    return np.append(True, same) | np.append(same, True)


def unit_finder(units: Sequence[Sequence[Slice]], names: Sequence[str]) -> Callable[[int, int], int]:
    """(file number, ordinal) -> number of the unit that holds the row."""
    numbers = {name: i for i, name in enumerate(names)}
    starts = sorted((numbers[s.path], s.ordinal, u) for u, unit in enumerate(units) for s in unit)
    keys = [(f, o) for f, o, _ in starts]

    def find(file: int, ordinal: int) -> int:
        return starts[bisect.bisect_right(keys, (file, ordinal)) - 1][2]

    return find
