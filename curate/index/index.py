"""The index of near-duplicate removal: every document seen, kept or dropped, for refreshes.

A folder with a `manifest.json`, replaced as a whole: that is the commit of whatever changes the index. It names the
runs (`runs.py`), and the changes that removals made on top of them; files that it does not name are garbage. What
writes holds the folder's lock (the caller's to take); who reads needs none.
"""

import bisect
import functools
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from curate.errors import ConfigError, DataError
from curate.index.runs import EDGE_SCHEMA, Halves, Hashes, Longs, Part, Run, RunWriter, Stored
from curate.io.files import Folder, content_of

MANIFEST = "manifest.json"
FORMAT = "curate.index/2"
RUNS, CHANGES = "runs", "changes"
GONE, KEPT, DROPPED = 0, 1, 2
CHANGE_SCHEMA = pa.schema(
    {"number": pa.uint64(), "fate": pa.uint8(), "kept": pa.uint64(), "jaccard": pa.float64()}
)


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    schema: str = FORMAT
    header: dict[
        str, Any
    ]  # what two signatures must have in common to be compared, and when documents are duplicates
    runs: tuple[Stored, ...] = ()
    changes: tuple[str, ...] = ()  # of fates, in order
    next: int = 0  # number of the next document
    removed: int = 0
    added: tuple[str, ...] = ()  # names of what was added


def create(path: str, header: Mapping[str, Any]) -> "Index":
    """An empty index. ConfigError where there is one, or anything else."""
    folder = Folder(path)
    if folder.local is None:
        raise ConfigError(f"an index lies on a local disk, not at {path}", hint="copy it there afterwards")
    if [name for name in (*folder.names(), *folder.folders()) if name != "_curate"]:
        raise ConfigError(
            f"{path} is not empty", hint="`curate index add` adds to an index; or name another folder"
        )
    folder.replace(MANIFEST, msgspec.json.encode(Manifest(header=dict(header))))
    return Index(path)


def digest_of_index(path: str) -> str:
    """Name of an index's content. ConfigError where there is none."""
    if not (Path(path) / MANIFEST).is_file():
        raise ConfigError(f"no index at {path}", hint=f"make one: curate index build {path} CORPUS...")
    return content_of(path)


class Index:
    """An index as its manifest was when it was opened. ConfigError where there is none, DataError where it is damaged."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.digest = digest_of_index(path)
        try:
            self.manifest = msgspec.json.decode((self.path / MANIFEST).read_bytes(), type=Manifest)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise DataError(f"the manifest cannot be read: {error}", where=str(self.path / MANIFEST), hint="bring it back from a copy") from None  # fmt: skip
        if self.manifest.schema != FORMAT:
            what = f"the index {path} is of format {self.manifest.schema}, and this version reads {FORMAT}"
            raise DataError(what, hint="build it anew: curate index build")
        bands = int(self.manifest.header["bands"])
        self.runs = [Run(self.path / RUNS / one.name, one, bands) for one in self.manifest.runs]
        self._firsts = [int(run.numbers[0]) for run in self.runs]

    @functools.cached_property
    def changes(self) -> pa.Table:
        """Fates changed since their runs were written (CHANGE_SCHEMA), ascending by number, the last word on each."""
        found = [pq.read_table(self.path / CHANGES / name) for name in self.manifest.changes]
        table = pa.concat_tables([CHANGE_SCHEMA.empty_table(), *found])
        _, last = np.unique(table["number"].to_numpy()[::-1], return_index=True)
        return table.take(table.num_rows - 1 - last)

    def check(self, header: Mapping[str, Any]) -> None:
        """ConfigError when it was made in another way than `header` says."""
        if dict(self.manifest.header) != dict(header):
            theirs, ours = (msgspec.json.encode(one).decode() for one in (self.manifest.header, header))
            raise ConfigError(
                f"the index {self.path} was made as {theirs}, and is asked for as {ours}",
                hint="give the stage the options of the index, or build another index",
            )

    def run_of(self, number: int) -> Run:
        return self.runs[bisect.bisect_right(self._firsts, number) - 1]

    def by_run(self, numbers: Hashes) -> Iterator[tuple[Run, Longs, Longs]]:
        """Of each run concerned: it, places in `numbers`, positions in it."""
        of = np.searchsorted(np.array(self._firsts, np.uint64), numbers, side="right") - 1
        for i in np.unique(of):
            places = np.flatnonzero(of == i)
            yield self.runs[i], places, self.runs[i].positions_of(numbers[places])

    def fates(self, numbers: Hashes) -> npt.NDArray[np.uint8]:
        """GONE, KEPT or DROPPED of each."""
        fate = np.empty(len(numbers), np.uint8)
        for run, places, positions in self.by_run(numbers):
            fate[places] = np.where(run.kept[positions], KEPT, DROPPED)
        changed = self.changes["number"].to_numpy()
        at = np.minimum(np.searchsorted(changed, numbers), max(0, len(changed) - 1))
        if len(changed):
            here = changed[at] == numbers
            fate[here] = self.changes["fate"].to_numpy()[at[here]]
        return fate

    def sharing(self, keys: Hashes) -> tuple[Longs, Hashes]:
        """Pairs (place in `keys`, number) of documents, kept or dropped, with that band key."""
        distinct, inverse = np.unique(keys, return_inverse=True)
        empty = (np.zeros(0, np.int64), np.zeros(0, np.uint64))
        hits = [
            (which, run.numbers[positions]) for run in self.runs for which, positions in [run.hits(distinct)]
        ]
        which, numbers = (np.concatenate(column) for column in zip(empty, *hits, strict=True))
        by_key = np.argsort(which, kind="stable")
        count = np.bincount(which, minlength=len(distinct))
        first, each = (np.cumsum(count) - count)[inverse], count[inverse]
        places = np.repeat(np.arange(len(keys)), each)
        within = np.arange(len(places)) - np.repeat(np.cumsum(each) - each, each)
        return places, numbers[by_key][first[places] + within]

    def similarities(
        self, shingles: Halves, offsets: Longs, digests: Hashes, documents: Longs, numbers: Hashes
    ) -> npt.NDArray[np.float64]:  # fmt: skip
        """Jaccard, (pairs,), of documents[i] of those given with document numbers[i]; -1 below the threshold.

        Those too short for a shingle are only the same as what has their digest.
        """
        from curate.kernels.candidates import similarities

        threshold, out = float(self.manifest.header["threshold"]), np.empty(len(numbers))
        for run, places, positions in self.by_run(numbers):
            mine = documents[places]
            found = similarities(shingles, offsets, mine, run.sets, run.set_ends, positions, threshold)
            out[places] = np.where(run.digests[positions] == digests[mine], 1.0, found)
        return out

    def ids(self, numbers: Hashes) -> list[str]:
        """The ids of documents."""
        found = [""] * len(numbers)
        for run, places, positions in self.by_run(numbers):
            for place, position in zip(places.tolist(), positions.tolist(), strict=True):
                found[place] = run.id_of(position)
        return found

    def edges(self) -> Iterator[pa.Table]:
        """(dropped, kept, jaccard) of every dropped document, as things are now."""
        changes = self.changes
        for run in self.runs:
            for table in run.edges():
                yield table.filter(
                    pa.array(~np.isin(table["dropped"].to_numpy(), changes["number"].to_numpy()))
                )
        dropped = changes.filter(pa.array(changes["fate"].to_numpy() == DROPPED))
        yield dropped.select(["number", "kept", "jaccard"]).rename_columns(EDGE_SCHEMA.names)

    def id_of(self, number: int) -> str:
        """The id of a document."""
        return self.ids(np.array([number], np.uint64))[0]

    def place_of(self, number: int) -> tuple[tuple[str, ...], int]:
        """The files in one of which a document's text lay when it was added, and how many of their rows came before it."""
        parts = self.run_of(number).stored.parts
        part = parts[bisect.bisect_right(parts, number, key=lambda part: part.first) - 1]
        return part.paths, number - part.first

    def writer(self) -> RunWriter:
        """A new run; `commit` makes it part of the index."""
        clean(self.path, self.manifest)
        return RunWriter(self.path / RUNS / f"{self.manifest.next:012d}-{uuid.uuid4().hex[:8]}")

    def commit(self, **changes: Any) -> "Index":
        """The index with another manifest."""
        replaced = msgspec.structs.replace(self.manifest, **changes)
        folder = Folder(self.path)
        folder.sync(RUNS)
        folder.replace(MANIFEST, msgspec.json.encode(replaced))
        clean(self.path, replaced)
        return Index(str(self.path))

    def add(self, writer: RunWriter, source: str, parts: list[Part], numbers: int) -> "Index":
        """The index with what was written, which took so many numbers, as its last run."""
        stored = writer.close(source, parts)
        runs = (*self.manifest.runs, stored) if stored.documents else self.manifest.runs
        added = (*self.manifest.added, source)
        return self.commit(runs=runs, next=self.manifest.next + numbers, added=added)

    @property
    def documents(self) -> int:
        """How many there are, removed ones apart."""
        return sum(one.documents for one in self.manifest.runs) - self._changed(GONE)

    @property
    def kept(self) -> int:
        """How many of them are kept."""
        numbers = self.changes["number"].to_numpy()
        then = sum(int(run.kept[positions].sum()) for run, _, positions in self.by_run(numbers))
        return sum(one.kept for one in self.manifest.runs) - then + self._changed(KEPT)

    def _changed(self, fate: int) -> int:
        return int((self.changes["fate"].to_numpy() == fate).sum())


def clean(path: Path, manifest: Manifest) -> None:
    """Remove what a call that never came to its end left."""
    folder = Folder(path)
    for name in set(folder.folders(RUNS)) - {one.name for one in manifest.runs}:
        folder.remove_all(f"{RUNS}/{name}")
    for name in set(folder.names(CHANGES)) - set(manifest.changes):
        folder.remove(f"{CHANGES}/{name}")
