"""Make a plan: list, scan and cut the input, check every step against its columns, name the passes."""

import bisect
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

import curate
from curate.engine import shuffle
from curate.engine.log import Listener
from curate.engine.plan import (
    File,
    Plan,
    check_schema,
    compile_passes,
    encode_schema,
    inputs_digest,
    pack_units,
    planned_file,
    recipe_digest,
    resolved,
)  # fmt: skip
from curate.engine.unit import DUPLICATES
from curate.errors import ConfigError
from curate.io import inputs, unread
from curate.io.files import Folder
from curate.io.inputs import InputFile, Slice
from curate.io.listing import NothingThere, path_that_takes_in
from curate.io.stamps import is_same
from curate.recipe.recipe import Recipe

_FILE_ROWS = 1 << 40  # a row's place: file number * this + ordinal


def freeze(recipe: Recipe, stage_files: Sequence[str], listen: Listener, out: Folder | None = None) -> Plan:
    """The plan of a recipe on the input as it is now. Reads every input file once; writes only into `out`."""
    base = Path(recipe.base)
    if recipe.output.path:
        _refuse_output_in_input(recipe, base)
    root, files = inputs.list_files(recipe.input, base)
    schema = inputs.input_schema(root, files, recipe.input)
    check_schema(recipe, schema)
    size = sum(f.size for f in files)
    listen("plan", {"files": len(files), "bytes": size})
    ids = IdRecords()
    scans = []
    for number, file in enumerate(files):
        scans.append(
            inputs.scan(
                file, recipe.input, schema, recipe.unit_mb << 20, ids.of_file(number),
                max_document_bytes=recipe.max_document_mb << 20,
            )
        )  # fmt: skip
        listen("scan", {"file": file.name, "bytes": file.size})
    planned = tuple(planned_file(f, s.digest) for f, s in zip(files, scans, strict=True))
    slices = [piece for s in scans for piece in s.slices]
    units = pack_units(slices, recipe.unit_mb << 20)
    whole = resolved(recipe, size)
    duplicates = ids.write_repeated(out, units, [f.name for f in files])
    parquet_only = all(f.format == "parquet" for f in files)
    return Plan(
        curate=curate.__version__, recipe=whole, digest=recipe_digest(whole),
        stage_files=tuple(str(Path(f).resolve()) for f in stage_files), root=str(root), files=planned, units=units,
        columns=encode_schema(schema), duplicate_ids=duplicates, store=store_of(recipe),
        passes=compile_passes(whole, inputs_digest(planned, recipe), schema, parquet_only),
    )  # fmt: skip


def _refuse_output_in_input(recipe: Recipe, base: Path) -> None:
    output = recipe.output.path.rstrip("/")
    path = path_that_takes_in(recipe.input, base, f"{output}/part-00000.{recipe.output.format}")
    if path:
        raise ConfigError(
            f"the output lies inside the input folder: `{output}` would be read as part of `{path}`",
            hint="choose another output, or a glob that leaves it out",
            where="output",
        )


def store_of(recipe: Recipe) -> str:
    """The work store: the recipe's (or the environment's), else `.curate` beside the output."""
    if recipe.store:
        return os.path.abspath(recipe.store) if "://" not in recipe.store else recipe.store
    path = recipe.output.path.rstrip("/")
    parent = path.rpartition("/")[0]
    if "://" not in path:
        return os.path.abspath(os.path.join(parent or ".", ".curate"))
    return f"{path if parent.endswith(':/') else parent}/.curate"  # beside a bucket there is nothing


def listing_changes(plan: Plan, recipe: Recipe) -> list[str]:
    """How the input differs from the plan, by name, size and stamp (content where the stamp is another), in words."""
    try:
        _, files = inputs.list_files(recipe.input, Path(recipe.base))
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
    if now.size != then.size or now.format == unread.FORMAT:
        return now.size != then.size
    return now.stamp != then.stamp and not is_same(now.path, then.stamp, then.digest)


def relocated(plan: Plan, recipe: Recipe) -> Plan:
    """The plan reading its files, found unchanged, where the recipe now says they are."""
    root, files = inputs.list_files(recipe.input, Path(recipe.base))
    stamps = {f.name: f.stamp for f in files}
    planned = tuple(msgspec.structs.replace(f, stamp=stamps.get(f.name, f.stamp)) for f in plan.files)
    return msgspec.structs.replace(plan, root=str(root), files=planned)


class IdRecords:
    """Ids that come from the input, sorted out of core to find those that stand twice."""

    def __init__(self) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="curate-ids-")
        self._path = Path(self._scratch.name) / "ids.parquet"
        self._file: Any = None
        self._writer: shuffle.SortedWriter | None = None
        self._rows: tuple[list[int], list[int], list[str]] = ([], [], [])

    def of_file(self, number: int) -> Callable[[int, str], None]:
        """Takes (ordinal, id) of the rows of one file."""
        hashes, places, ids = self._rows
        digest = xxhash.xxh3_64_intdigest

        def on_id(ordinal: int, row_id: str) -> None:
            hashes.append(digest(row_id))
            places.append(number * _FILE_ROWS + ordinal)
            ids.append(row_id)
            if len(ids) >= 200_000:
                self._flush()

        return on_id

    def _flush(self) -> None:
        hashes, places, ids = self._rows
        if not ids:
            return
        if self._writer is None:
            self._file = open(self._path, "wb")  # noqa: SIM115
            self._writer = shuffle.SortedWriter(
                self._file, ("hash", "place"), Path(self._scratch.name) / "runs"
            )
        self._writer.write(
            pa.table(
                {"hash": pa.array(hashes, pa.uint64()), "place": pa.array(places, pa.uint64()), "id": ids}
            )
        )
        for column in self._rows:
            column.clear()

    def write_repeated(
        self, out: Folder | None, units: Sequence[Sequence[Slice]], names: Sequence[str]
    ) -> bool:
        """Write which units hold rows of a repeated id, and which of them keeps it. False where no id repeats."""
        self._flush()
        if self._writer is None:
            return False
        self._writer.close()
        self._file.close()
        find_unit = unit_finder(units, names)
        found: dict[tuple[int, str], bool] = {}
        for row_id, places in self._repeated():
            for n, place in enumerate(places):
                key = find_unit(place // _FILE_ROWS, place % _FILE_ROWS), row_id
                found[key] = found.get(key, False) or n == 0
        self._scratch.cleanup()
        if not found or out is None:
            return bool(found)
        rows = sorted((unit, row_id, keep) for (unit, row_id), keep in found.items())
        file = out.create(DUPLICATES)
        table = pa.table(
            {"unit": [r[0] for r in rows], "id": [r[1] for r in rows], "keep_first": [r[2] for r in rows]}
        )
        pq.write_table(table, file)
        file.close()
        return True

    def _repeated(self) -> Iterator[tuple[str, list[int]]]:
        """Each id that stands twice or more, with its places in input order."""
        held: dict[str, list[int]] = {}
        current = None
        with open(self._path, "rb") as file:
            for table in shuffle.merge([file], ("hash", "place")):
                for digest, place, row_id in zip(
                    *(table[c].to_pylist() for c in ("hash", "place", "id")), strict=True
                ):
                    if digest != current:
                        yield from ((i, places) for i, places in held.items() if len(places) > 1)
                        held, current = {}, digest
                    held.setdefault(row_id, []).append(place)
        yield from ((i, places) for i, places in held.items() if len(places) > 1)


def unit_finder(units: Sequence[Sequence[Slice]], names: Sequence[str]) -> Callable[[int, int], int]:
    """(file number, ordinal) -> number of the unit that holds the row."""
    numbers = {name: i for i, name in enumerate(names)}
    starts = sorted((numbers[s.path], s.ordinal, u) for u, unit in enumerate(units) for s in unit)
    keys = [(f, o) for f, o, _ in starts]

    def find(file: int, ordinal: int) -> int:
        return starts[bisect.bisect_right(keys, (file, ordinal)) - 1][2]

    return find
