"""An output folder as the commands that look at it see it, complete or not: its plan, its files, their rows.

Until a run is complete, what its earlier passes dropped or quarantined lies in the work store and is looked for there.
"""

import contextlib
import functools
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.engine.journal import MANIFEST
from curate.engine.plan import Pass, check_schema
from curate.engine.runner import load_user_stages
from curate.engine.unit import PLAN, pass_folder
from curate.engine.unit import read_plan as read_plan
from curate.errors import DataError
from curate.io import hive
from curate.io.arrow import arrow_batches
from curate.io.files import Folder
from curate.io.side import Side as SideColumns
from curate.io.side import join, joined_schema, open_side
from curate.schema import raw_columns

BATCH_ROWS = 256
Side = Literal["kept", "dropped", "quarantined"]


class Part(NamedTuple):
    """A file of rows."""

    side: Side
    folder: Folder
    name: str  # below the folder
    step: str = ""  # dropped: NN_step


class Dataset:
    """DataError where there is no dataset."""

    def __init__(self, path: str, sides: Sequence[str] = ()) -> None:
        self.folder = Folder(path)
        self.sides = [open_side(side) for side in sides]  # joined with the kept rows
        self.plan = read_plan(self.folder)
        self.complete = self.folder.exists(MANIFEST)
        if self.plan is None and not self.folder.folders("_curate") and not hive.parts(self.folder):
            raise DataError(
                f"{path} is not the output of a run",
                hint="`curate ls runs FOLDER` lists the outputs below a folder",
            )

        for side in self.sides:
            side.check_folder(self.folder, hive.parts(self.folder))

    @property
    def unfinished(self) -> bool:
        """True where a run began and has not ended; parts without a plan came from elsewhere."""
        return self.plan is not None and not self.complete

    def kept(self) -> list[tuple[Pass | None, list[Part]]]:
        """Parts of the output; of an unfinished run also those of its earlier passes, the furthest first."""
        sources: list[tuple[Pass | None, Folder]] = [(None, self.folder), *self._earlier()]
        return [(one, [Part("kept", folder, name) for name in hive.parts(folder)]) for one, folder in sources]

    def after(self, one: Pass | None) -> str:
        """Words for rows that an unfinished run has brought as far as this pass."""
        return f", after pass {one.index + 1} of {len(self.plan.passes)}" if one and self.plan else ""

    def dropped(self) -> list[Part]:
        """Files of dropped rows, step by step."""
        found = {}
        for folder in self._folders():
            for step in folder.folders("_dropped"):
                for name in folder.names(f"_dropped/{step}"):
                    found[f"_dropped/{step}/{name}"] = Part(
                        "dropped", folder, f"_dropped/{step}/{name}", step
                    )
        return [found[name] for name in sorted(found)]

    def quarantined(self) -> list[Part]:
        """Files of quarantined rows."""
        found = {}
        for folder in self._folders():
            for name in folder.names("_quarantine"):
                found[name] = Part("quarantined", folder, f"_quarantine/{name}")
        return [found[name] for name in sorted(found)]

    def _folders(self) -> list[Folder]:
        return [self.folder, *(folder for _, folder in self._earlier())]

    def _earlier(self) -> list[tuple[Pass, Folder]]:
        """Passes of an unfinished run before its last, the furthest first."""
        if self.plan is None or self.complete:
            return []
        passes = [one for one in self.plan.passes if one.kind == "rows" and not one.final]
        return [(one, pass_folder(self.plan, self.folder.path, one)) for one in reversed(passes)]

    def schema(self, part: Part) -> pa.Schema:
        """Columns of a file."""
        if part.name.endswith(".jsonl.zst"):
            return self._json_schema
        with readable(part), part.folder.open(part.name) as file:
            if part.name.endswith(".arrow"):
                return joined_schema(pa.ipc.open_file(file).schema, self._sides_of(part))
            return joined_schema(hive.schema_of(file), self._sides_of(part))

    def _sides_of(self, part: Part) -> list[SideColumns]:
        return self.sides if part.side == "kept" and part.folder is self.folder else []

    def batches(self, part: Part, skip: Sequence[str] = ()) -> Iterator[pa.RecordBatch]:
        """Rows of a file in order, without the columns `skip`; DataError where it cannot be read."""
        if sides := self._sides_of(part):
            schema = pa.schema([field for field in self.schema(part) if field.name not in skip])
            yield from join(self._plain_batches(part, skip), sides, part.name, 0, schema)
        else:
            yield from self._plain_batches(part, skip)

    def _plain_batches(self, part: Part, skip: Sequence[str]) -> Iterator[pa.RecordBatch]:
        with readable(part), part.folder.open(part.name) as file:
            if part.name.endswith(".parquet"):
                with pq.ParquetFile(file) as parquet:
                    names = [n for n in parquet.schema_arrow.names if n not in skip]
                    shared = hive.constants(parquet.schema_arrow)
                    for batch in parquet.iter_batches(batch_size=BATCH_ROWS, columns=names):
                        yield hive.widen(batch, shared, skip)
                return
            if part.name.endswith(".arrow"):
                for batch in arrow_batches(file, BATCH_ROWS):
                    yield batch.select([n for n in batch.schema.names if n not in skip])
                return
            schema = pa.schema([f for f in self._json_schema if f.name not in skip])
            lines = _lines(file)
            while rows := [msgspec.json.decode(line) for line in itertools.islice(lines, BATCH_ROWS)]:
                yield pa.RecordBatch.from_pylist(rows, schema)

    @functools.cached_property
    def _json_schema(self) -> pa.Schema:
        """What JSON Lines stand for: the schema that the plan gives the output."""
        assert self.plan  # only a run writes JSON Lines
        load_user_stages(self.plan)
        return pa.schema([_json_field(f) for f in check_schema(self.plan.recipe, self.plan.input_schema())])

    def find(self, row_id: str, parts: Sequence[Part]) -> Iterator[tuple[Part, dict[str, Any]]]:
        """Rows of that id with all columns but raw documents."""
        for part in parts:
            if part.name.endswith(".parquet"):
                yield from ((part, row) for row in _find_in_parquet(part, row_id))
                continue
            for batch in self.batches(part):
                yield from ((part, row) for row in batch.filter(pc.equal(batch["id"], row_id)).to_pylist())


def find_runs(below: Path) -> list[Path]:
    """Output folders in a folder and below it, sorted; names that begin with `_` or `.` are not entered."""
    found = []
    for place, folders, _ in os.walk(below):
        if "_curate" in folders and (Path(place) / PLAN).is_file():
            found.append(Path(place))
        folders[:] = [name for name in folders if not name.startswith(("_", "."))]
    return sorted(found)


@contextlib.contextmanager
def readable(part: Part) -> Iterator[None]:
    """Turn what a damaged file raises into a DataError that names it."""
    import zstandard

    try:
        yield
    except (
        pa.ArrowException,
        OSError,
        zstandard.ZstdError,
        msgspec.DecodeError,
        UnicodeDecodeError,
    ) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"cannot be read: {reason}",
            where=part.folder.address(part.name),
            hint="`curate verify` finds what is damaged",
        ) from None


def _find_in_parquet(part: Part, row_id: str) -> Iterator[dict[str, Any]]:
    with readable(part), part.folder.open(part.name) as file, pq.ParquetFile(file) as parquet:
        raw = raw_columns(parquet.schema_arrow)
        names = [n for n in parquet.schema_arrow.names if n not in raw]
        if "id" not in names:
            return
        leaves = parquet.metadata.row_group(0).num_columns if parquet.num_row_groups else 0
        at = next(i for i in range(leaves) if parquet.schema.column(i).path == "id") if leaves else 0
        for group in range(parquet.num_row_groups):
            bounds = parquet.metadata.row_group(group).column(at).statistics
            if bounds is not None and bounds.has_min_max and not bounds.min <= row_id <= bounds.max:
                continue
            ids = parquet.read_row_group(group, columns=["id"])["id"]
            hits = pc.indices_nonzero(pc.fill_null(pc.equal(ids, row_id), False))
            if len(hits):
                shared = {name: value.as_py() for name, value in hive.constants(parquet.schema_arrow).items()}
                for row in parquet.read_row_group(group, columns=names).take(hits).to_pylist():
                    yield {**shared, **row}


def _json_field(field: pa.Field) -> pa.Field:
    """Dates, bytes and decimals stand as strings in JSON."""
    kind = field.type
    as_text = (
        pa.types.is_temporal(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
    )
    return field.with_type(pa.string()) if as_text else field


def _lines(file: Any) -> Iterator[bytes]:
    import zstandard

    rest = b""
    with zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True) as stream:
        while block := stream.read(1 << 20):
            *whole, rest = (rest + block).split(b"\n")
            yield from whole
