"""Prove that a dataset is whole: every file, every checksum, every row and every id, recomputed from the bytes."""

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
import zstandard

from curate.engine import journal, shuffle
from curate.engine.journal import JOURNAL, MANIFEST, Entry, Ledger, Written
from curate.engine.plan import Pass, Plan
from curate.engine.result import Result, read_manifest, summarise
from curate.engine.unit import read_plan
from curate.engine.workers import os_error
from curate.errors import DataError, RunError
from curate.io import hive
from curate.io.files import Folder
from curate.recipe.recipe import DropSample
from curate.schema import id_sum

_DAMAGE = (pa.ArrowException, zstandard.ZstdError, OSError, ValueError, KeyError, TypeError)


@dataclass
class Report:
    """What was checked and what was found."""

    files: int = 0
    rows: int = 0
    units: int = 0
    problems: list[str] = field(default_factory=list)


def verify(path: str | Path) -> Report:
    """Check a complete dataset. DataError when there is none, RunError when it is not complete."""
    folder = Folder(str(path))
    try:
        return _verify(folder)
    except OSError as error:
        raise os_error(error, folder.path) from error


def _verify(folder: Folder) -> Report:
    plan = read_plan(folder)
    if plan is None:
        raise DataError(f"{folder.path} holds no run", hint="give the output folder of `curate run`")
    if not folder.exists(MANIFEST):
        raise RunError(f"{folder.path} is not complete", hint="`curate run` with the same recipe finishes it")
    manifest = read_manifest(folder)
    check = _Check(folder, plan)
    rows_passes = [one for one in plan.passes if one.kind == "rows"]
    totals = {one.index: check.one_pass(one) for one in rows_passes}
    for before, after in itertools.pairwise(rows_passes):
        kept, read = totals[before.index].ledger, totals[after.index].ledger
        if (kept.kept, kept.sum_of("kept")) != (read.rows_in, read.sum_of("rows_in")):
            check.problem(
                f"pass {after.index} read {read.rows_in} rows, pass {before.index} kept {kept.kept}"
            )
    _same_totals(check, summarise(plan, totals, folder.path), manifest)
    check.strangers()
    check.unique_ids()
    return check.report


def _same_totals(check: "_Check", journal_says: Result, manifest_says: Result) -> None:
    if journal_says.rows != manifest_says.rows:
        check.problem("the manifest's totals are not the sum of the journal")


class _Check:
    def __init__(self, folder: Folder, plan: Plan) -> None:
        self.folder, self.plan, self.report = folder, plan, Report()
        self._listed: set[str] = set()
        self._unreadable: set[str] = set()

    def problem(self, text: str) -> None:
        self.report.problems.append(text)

    def one_pass(self, one: Pass) -> Entry:
        """Check the units of a rows pass; returns the sum of their entries."""
        under = JOURNAL if one.final else f"{JOURNAL}/pass-{one.index:02d}"
        entries = []
        for name in self.folder.names(under):
            try:
                entry = msgspec.json.decode(self.folder.read(f"{under}/{name}"), type=Entry)
            except ValueError as error:
                self.problem(f"{under}/{name} cannot be read: {error}")
                continue
            self.report.units += 1
            self._unit(one, entry)
            entries.append(entry)
        self._all_units(one, entries)
        return journal.totals(entries)

    def _all_units(self, one: Pass, entries: list[Entry]) -> None:
        if one.source >= 0:
            return
        done = {e.unit.partition("-")[0] for e in entries if e.last}
        for name in self.plan.unit_names():
            if name not in done:
                self.problem(f"unit {name} is not in the journal of pass {one.index}")

    def _unit(self, one: Pass, entry: Entry) -> None:
        if entry.fingerprint != one.fingerprint:
            self.problem(f"unit {entry.unit} of pass {one.index} was made by another recipe")
        if broken := entry.ledger.broken():
            self.problem(f"unit {entry.unit} of pass {one.index}: {broken}")
        found = Ledger(sums={})
        sampled = isinstance(self.plan.recipe.output.dropped, DropSample)
        for written in entry.outputs:
            side = (
                "dropped"
                if written.name.startswith("_dropped")
                else "quarantined"
                if written.name.startswith("_quarantine")
                else "kept"
            )
            if side == "kept" and not one.final:
                found.add("kept", entry.ledger.kept, entry.ledger.sum_of("kept"))  # lies in the work store
            else:
                rows, total = self._file(written)
                found.add(side, rows, total)
        for side in ("kept", "dropped", "quarantined"):
            if side == "dropped" and sampled:
                continue
            if getattr(found, side) != getattr(entry.ledger, side):
                self.problem(
                    f"unit {entry.unit} of pass {one.index}: {getattr(found, side)} rows {side} on disk, {getattr(entry.ledger, side)} in the journal"
                )
            elif found.sum_of(side) != entry.ledger.sum_of(side):
                self.problem(
                    f"unit {entry.unit} of pass {one.index}: other ids {side} on disk than in the journal"
                )

    def _file(self, written: Written) -> tuple[int, int]:
        """Rows and id sum of a file, after its checksum."""
        self._listed.add(written.name)
        if not self.folder.exists(written.name):
            self.problem(f"{written.name} is gone")
            self._unreadable.add(written.name)
            return 0, 0
        if self._sha256(written.name) != written.sha256:
            self.problem(f"{written.name} is not the file that was written (sha256 differs)")
        self.report.files += 1
        rows = total = 0
        try:
            for ids in self._read_ids(written.name):
                rows, total = rows + len(ids), total + id_sum(ids)
        except _DAMAGE as error:
            if getattr(error, "errno", None) is not None:  # the disk or the network, not the file
                raise
            self.problem(
                f"{written.name} cannot be read: {(str(error) or type(error).__name__).splitlines()[0]}"
            )
            self._unreadable.add(written.name)
        self.report.rows += rows
        return rows, total % journal.MODULUS

    def _sha256(self, name: str) -> str:
        digest = hashlib.sha256()
        with self.folder.open(name) as file:
            while block := file.read(1 << 22):
                digest.update(block)
        return digest.hexdigest()

    def _read_ids(self, name: str) -> Iterator[list[str]]:
        with self.folder.open(name) as file:
            if name.endswith(".parquet"):
                with pq.ParquetFile(file) as part:
                    for batch in part.iter_batches(columns=["id"], batch_size=65_536):
                        yield batch.column(0).to_pylist()
                return
            if name.endswith(".arrow"):
                column = pa.ipc.open_file(file).schema.get_field_index("id")
                part = pa.ipc.open_file(file, options=pa.ipc.IpcReadOptions(included_fields=[column]))
                for i in range(part.num_record_batches):
                    yield part.get_batch(i).column(0).to_pylist()
                return
            import zstandard

            with zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True) as stream:
                rest = b""
                while block := stream.read(1 << 22):
                    *lines, rest = (rest + block).split(b"\n")
                    yield [msgspec.json.decode(line)["id"] for line in lines]

    def strangers(self) -> None:
        """Files under final names that no journal entry lists."""
        places = ["_quarantine", *(f"_dropped/{n}" for n in self.folder.folders("_dropped"))]
        found = [f"{p}/{n}" for p in places for n in self.folder.names(p) if n.startswith("part-")]
        for name in [*hive.parts(self.folder), *found]:
            if name not in self._listed:
                self.problem(f"{name} is in no journal entry")

    def unique_ids(self) -> None:
        """No id stands twice among the kept rows; sorted out of core."""
        with TemporaryDirectory(prefix="curate-verify-") as scratch:
            path = Path(scratch) / "ids"
            with open(path, "wb") as sink:
                writer = shuffle.SortedWriter(sink, ("hash",), Path(scratch) / "runs")
                for name in sorted(self._listed - self._unreadable):
                    if not name.startswith("_"):
                        for ids in self._read_ids(name):
                            hashes = [xxhash.xxh3_64_intdigest(i) for i in ids]
                            writer.write(
                                pa.table(
                                    {"hash": pa.array(hashes, pa.uint64()), "id": pa.array(ids, pa.string())}
                                )
                            )
                writer.close()
            if writer.rows:
                self._find_repeated(path)

    def _find_repeated(self, path: Path) -> None:
        before: tuple[int, set[str]] = (-1, set())
        with open(path, "rb") as file:
            for table in shuffle.merge([file], ("hash",)):
                for digest, row_id in zip(table["hash"].to_pylist(), table["id"].to_pylist(), strict=True):
                    if digest != before[0]:
                        before = (digest, set())
                    if row_id in before[1]:
                        self.problem(f"the id {row_id} stands twice")
                        return
                    before[1].add(row_id)
