"""Side columns: a folder that `output: {columns: new}` wrote beside a corpus, joined with it on read.

A part of side columns has the rows of a stretch of one corpus file, in its order, less those quarantined on the way. So
a join is two files read side by side: ids are compared batch by batch, and where they differ each row of the corpus
must be found further down or among the quarantined (its new columns are null). Any other row is an error that names it.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.errors import ConfigError, DataError
from curate.io.files import Folder
from curate.io.slices import Slice
from curate.io.stamps import is_same

_PLAN, _MANIFEST = "_curate/plan.json", "_curate/manifest.json"
_BATCH_ROWS = 8192
_REMAKE = "`curate run --fresh` with the recipe that wrote the side columns makes them anew"


class _File(msgspec.Struct):
    name: str
    size: int
    digest: str
    stamp: str = ""


class _Pass(msgspec.Struct):
    fingerprint: str


class _Output(msgspec.Struct):
    columns: str = "all"


class _Recipe(msgspec.Struct):
    output: _Output


class _Plan(msgspec.Struct):
    """What of a plan says which corpus the columns belong to, and where each row is."""

    files: list[_File]
    units: list[list[Slice]]
    passes: list[_Pass]
    recipe: _Recipe


def open_side(path: str) -> "Side":
    """The side columns in a folder. ConfigError or DataError where there are none, or not all yet."""
    folder = Folder(path)
    if not folder.exists(_PLAN):
        raise ConfigError(
            f"`{path}` holds no side columns",
            hint="`output: {columns: new}` in a recipe writes them",
            where="with",
        )
    if not folder.exists(_MANIFEST):
        raise DataError(
            f"the side columns in `{path}` are not complete", hint="the command that began them resumes it"
        )
    return _opened(path, hashlib.sha256(folder.read(_MANIFEST)).hexdigest())


@lru_cache(16)
def _opened(path: str, manifest: str) -> "Side":
    return Side(path)


class Side:
    """Complete side columns."""

    def __init__(self, path: str) -> None:
        self.path, self.folder = path, Folder(path)
        plan = msgspec.json.decode(self.folder.read(_PLAN), type=_Plan)
        if plan.recipe.output.columns != "new":
            raise ConfigError(
                f"`{path}` is a dataset of its own, not side columns",
                hint="`output: {columns: new}` in its recipe would have written side columns",
                where="with",
            )
        self.digest = plan.passes[-1].fingerprint  # of what decides its bytes, the corpus among it
        self.files = {file.name: file for file in plan.files}
        width = max(5, len(str(len(plan.units) - 1)))
        self._starts: dict[str, list[tuple[int, str]]] = {}  # corpus file -> (ordinal, part) of its stretches
        for number, unit in enumerate(plan.units):
            at = self._starts.setdefault(unit[0].path, [])
            at.append((unit[0].ordinal, f"part-{number:0{width}d}.parquet"))

    @cached_property
    def parts(self) -> list[str]:
        """Names of its files, sorted."""
        return [name for name in self.folder.names() if name.startswith("part-")]

    @cached_property
    def columns(self) -> pa.Schema:
        """The new columns."""
        if not self.parts:
            raise DataError(f"the side columns in `{self.path}` have no row", hint=_REMAKE)
        with self.folder.open(self.parts[0]) as file:
            return pa.schema([field for field in pq.read_schema(file) if field.name != "id"])

    @cached_property
    def quarantined(self) -> frozenset[str]:
        """Ids of rows that came no further than the quarantine."""
        found: set[str] = set()
        for name in self.folder.names("_quarantine"):
            with self.folder.open(f"_quarantine/{name}") as file:
                found.update(pq.read_table(file, columns=["id"])["id"].to_pylist())
        return frozenset(found)

    def check(self, digests: Mapping[str, str]) -> None:
        """DataError unless all these files (name -> digest of the content) are of the corpus the columns belong to."""
        for name, digest in digests.items():
            if name not in self.files or self.files[name].digest != digest:
                raise self._other(name, "not a file of" if name not in self.files else "not what it was in")

    def check_folder(self, corpus: Folder, names: Sequence[str]) -> None:
        """The same for all the parts of a dataset; content is read only where size is equal and time is not."""
        if gone := sorted(self.files.keys() - set(names)):
            raise self._other(gone[0], "gone from")
        for name in names:
            then = self.files.get(name)
            if then is None:
                raise self._other(name, "not a file of")
            place = str(corpus.local / name) if corpus.local else corpus.address(name)
            if corpus.size(name) != then.size or not is_same(place, then.stamp, then.digest):
                raise self._other(name, "not what it was in")

    def _other(self, name: str, how: str) -> DataError:
        return DataError(
            f"the side columns in `{self.path}` belong to another state of the corpus: `{name}` is {how} the one "
            "they were made of",
            hint=_REMAKE,
        )

    def rows(self, name: str, ordinal: int) -> "Rows":
        """Rows in the order of a corpus file, from the stretch that holds row `ordinal` on."""
        starts = self._starts.get(name, [])
        first = max((i for i, (start, _) in enumerate(starts) if start <= ordinal), default=0)
        return Rows(self, name, [part for _, part in starts[first:]])


class Rows:
    """A cursor: `match` gives the new columns of the next rows of the corpus."""

    def __init__(self, side: Side, file: str, parts: Sequence[str]) -> None:
        self._side, self._file = side, file
        self._more = self._batches([part for part in parts if part in side.parts])
        names = pa.schema([pa.field("id", pa.string()), *side.columns])
        self._held: pa.Table = names.empty_table()

    def _batches(self, parts: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for name in parts:
            with self._side.folder.open(name) as file, pq.ParquetFile(file, pre_buffer=False) as part:
                yield from part.iter_batches(batch_size=_BATCH_ROWS, use_threads=False)

    def _load(self) -> bool:
        batch = next(self._more, None)
        if batch is not None:
            more = pa.Table.from_batches([batch]).cast(self._held.schema)
            self._held = pa.concat_tables([self._held, more])
        return batch is not None

    def match(self, ids: pa.Array) -> pa.Table:
        """The columns (n,) of rows with these ids, that come in the corpus's order; null where quarantined."""
        while self._held.num_rows < len(ids) and self._load():
            pass
        head = self._held.slice(0, len(ids))
        if head["id"].combine_chunks().equals(ids):
            self._held = self._held.slice(len(ids))
            return head.drop_columns(["id"])
        return self._search(ids.to_pylist())

    def _search(self, ids: list[str]) -> pa.Table:
        places = {row_id: i for i, row_id in reversed(list(enumerate(self._held["id"].to_pylist())))}
        rows: list[int | None] = []
        at = 0
        for row_id in ids:
            while (found := places.get(row_id, -1)) < at and row_id not in self._side.quarantined:
                if at == 0:  # nothing of what is held was asked for: a slice that begins further down
                    self._held, places = self._held.slice(0, 0), {}
                start = self._held.num_rows
                if not self._load():
                    raise self._missing(row_id)
                for i, other in enumerate(self._held["id"].slice(start).to_pylist(), start):
                    places.setdefault(other, i)
            rows.append(found if found >= at else None)
            at = max(at, found + 1)
        taken = self._held.drop_columns(["id"]).take(pa.array(rows, pa.int64()))
        self._held = self._held.slice(at)
        return taken

    def _missing(self, row_id: str) -> DataError:
        return DataError(
            f"row `{row_id}` of `{self._file}` is not among the side columns in `{self._side.path}`, or out of order",
            hint=f"is the input read as it was then (`id`, `columns`, `max_document_mb`)? {_REMAKE}",
        )


def join(
    batches: Iterator[pa.RecordBatch], sides: Sequence[Side], name: str, ordinal: int, schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """Rows of a corpus file, from row `ordinal` on, with the columns of `schema` that sides bring."""
    cursors = [side.rows(name, ordinal) for side in sides]
    for batch in batches:
        for cursor in cursors:
            found = cursor.match(batch.column("id"))
            for field in found.schema:
                if field.name in schema.names:
                    values: Any = pc.cast(found[field.name].combine_chunks(), field.type)
                    batch = batch.append_column(field.name, values)
        yield batch.select([n for n in schema.names if n in batch.schema.names])


def joined_schema(schema: pa.Schema, sides: Sequence[Side]) -> pa.Schema:
    """Columns of the corpus and of all sides; a name that stands twice is a ConfigError."""
    for side in sides:
        for field in side.columns:
            if field.name in schema.names:
                raise ConfigError(
                    f"the column `{field.name}` of the side columns in `{side.path}` is there already",
                    hint="give the step that writes it another `name`, or leave one of the two out",
                    where="with",
                )
            schema = schema.append(field)
    return schema
