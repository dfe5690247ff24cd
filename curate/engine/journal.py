"""The journal: one immutable file per finished unit. Its exclusive creation is the commit; the first one wins.

Data files are written under `_curate/tmp/` with names no other attempt uses, made durable, then listed in the entry;
after the commit they get their final names, which a resume finishes. Everything else in tmp is garbage.
"""

import os
import signal
from collections.abc import Iterable, Iterator

import msgspec

from curate.engine.bias import ScoreCount, group_name, merge_scores
from curate.errors import DataError
from curate.io.files import Folder, sha256_of

JOURNAL = "_curate/journal"
TMP = "_curate/tmp"
MANIFEST = "_curate/manifest.json"
MODULUS = 1 << 64

Counts = dict[str, int]


class Written(msgspec.Struct, kw_only=True):
    """A data file of a unit."""

    tmp: str
    name: str
    sha256: str
    bytes: int
    rows: int


class StepCount(msgspec.Struct, kw_only=True):
    rows: int = 0
    bytes: int = 0  # of `text` and `html` that came in
    failed: int = 0  # rows it could not do: it raised on them, died of them or took too long; quarantined
    seconds: float = 0.0
    dropped: Counts = {}  # reason -> rows
    sources: dict[str, list[int]] = {}  # source -> [rows, dropped], for the guards
    langs: dict[str, list[int]] = {}  # the same by `lang`
    changed: bool = False  # a row failed its verdict, or a text is another
    scores: dict[str, ScoreCount] = {}  # selects: what is known of the scores they cut on


class Ledger(msgspec.Struct, kw_only=True):
    """Rows and, for each side, the sum modulo 2^64 of a hash of each id.

    The law: rows_in + made = kept + dropped + quarantined, for the counts and for the sums.
    """

    rows_in: int = 0
    made: int = 0
    kept: int = 0
    dropped: int = 0
    quarantined: int = 0
    sums: dict[str, str] = {}  # side -> 16 hex digits

    def add(self, side: str, rows: int, id_sum: int) -> None:
        setattr(self, side, getattr(self, side) + rows)
        self.sums[side] = f"{(int(self.sums.get(side, '0'), 16) + id_sum) % MODULUS:016x}"

    def sum_of(self, side: str) -> int:
        return int(self.sums.get(side, "0"), 16)

    def broken(self) -> str:
        """What breaks the law, in words; '' when it holds."""
        if self.rows_in + self.made != self.kept + self.dropped + self.quarantined:
            return (
                f"{self.rows_in} rows in + {self.made} made is not "
                f"{self.kept} kept + {self.dropped} dropped + {self.quarantined} quarantined"
            )
        left = (self.sum_of("rows_in") + self.sum_of("made")) % MODULUS
        right = (self.sum_of("kept") + self.sum_of("dropped") + self.sum_of("quarantined")) % MODULUS
        return "" if left == right else "the ids that went in are not the ids that came out"


class Entry(msgspec.Struct, kw_only=True):
    """`_curate/journal/<unit>.json`: a finished unit (or link of a compressed stream, or task of a phase)."""

    schema: str = "curate.journal/1"
    unit: str
    pass_index: int = 0
    fingerprint: str
    ledger: Ledger
    steps: dict[str, StepCount] = {}  # step index -> counts
    skipped: Counts = {}
    quarantined: Counts = {}  # reason -> rows
    killed_ids: list[str] = []  # by deadline or memory: the one permitted difference between machines
    outputs: list[Written] = []
    bytes_in: int = 0
    text_bytes: int = 0
    tokens: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_rss_bytes: int = 0
    records: int = 0  # phases: records written
    counts: Counts = {}  # phases: what the phase reports
    link: int = 0
    last: bool = True  # false: more links of the stream follow
    first_ids: list[str] = []  # of ids that stand twice in the input: those whose first row is in this link


_fault_at = os.environ.get("CURATE_FAULT", "")
_fault_seen = 0


def fault(moment: str) -> None:
    """Die here when a test asked for it: CURATE_FAULT=moment:n kills the process the n-th time it gets here."""
    global _fault_seen
    if _fault_at:
        name, _, number = _fault_at.partition(":")
        if name == moment:
            _fault_seen += 1
            if _fault_seen == int(number or 1):
                os.kill(os.getpid(), signal.SIGKILL)


def commit(folder: Folder, entry: Entry, attempt: str) -> Entry:
    """Make a unit done; returns the entry that stands. When another attempt was first our files are removed."""
    fault("claim")
    if entry.outputs:
        folder.sync(TMP)  # the entry must never outlive the names it lists
    data = msgspec.json.format(msgspec.json.encode(entry), indent=1)
    won = folder.claim(f"{JOURNAL}/{entry.unit}.json", data, attempt)
    fault("claimed")
    if not won:
        for written in entry.outputs:
            folder.remove(written.tmp)
        entry = read(folder, entry.unit)
    finish(folder, entry)  # the first attempt may have died before it came to this
    return entry


def finish(folder: Folder, entry: Entry) -> None:
    """Give the files of a committed unit their final names; repeatable."""
    for written in entry.outputs:
        if folder.exists(written.name):
            continue
        fault("rename")
        try:
            folder.move(written.tmp, written.name)
        except FileNotFoundError:
            if not folder.exists(written.name):  # else another attempt moved it just now
                raise DataError(
                    f"{written.name} is in the journal but gone", where=folder.path,
                    hint="someone removed it; run again with --fresh",
                ) from None  # fmt: skip


def read(folder: Folder, unit: str) -> Entry:
    """The entry of a unit."""
    name = f"{JOURNAL}/{unit}.json"
    try:
        return msgspec.json.decode(folder.read(name), type=Entry)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise DataError(
            f"damaged journal entry: {error}", where=folder.address(name), hint="run again with --fresh"
        ) from None


def finished(folder: Folder, unit: str) -> Entry | None:
    """The entry of a unit that is done already, its files under their final names; None for one still to do."""
    if not folder.exists(f"{JOURNAL}/{unit}.json"):
        return None
    entry = read(folder, unit)
    finish(folder, entry)
    return entry


def units_done(folder: Folder) -> list[str]:
    """Names of the committed units, sorted."""
    return [name.removesuffix(".json") for name in folder.names(JOURNAL) if name.endswith(".json")]


def entries(folder: Folder) -> Iterator[Entry]:
    """All entries in unit order, one at a time."""
    for unit in units_done(folder):
        yield read(folder, unit)


def resume(folder: Folder) -> None:
    """After a kill: finish what was committed and remove what was not."""
    for entry in entries(folder):
        finish(folder, entry)
    for leftover in (folder.local / JOURNAL).glob(".*") if folder.local else ():
        leftover.unlink()  # an entry that was being created
    for name in folder.names(TMP):
        folder.remove(f"{TMP}/{name}")
    for name in folder.folders(TMP):
        folder.remove_all(f"{TMP}/{name}")


def heal(folder: Folder) -> int:
    """Forget the units of a pass whose files are gone or damaged, so that they are made anew; returns how many."""
    lost = 0
    for entry in entries(folder):
        if not all(_is_whole(folder, written) for written in entry.outputs):
            for written in entry.outputs:
                folder.remove(written.name)
            folder.remove(f"{JOURNAL}/{entry.unit}.json")
            lost += 1
    if lost:
        folder.remove(MANIFEST)
    return lost


def _is_whole(folder: Folder, written: Written) -> bool:
    name = written.name if folder.exists(written.name) else written.tmp
    if not folder.exists(name):
        return False
    return folder.local is None or sha256_of(folder.local / name) == written.sha256  # stores check their own


def merge_counts(total: Counts, more: Counts) -> None:
    for key, value in more.items():
        total[key] = total.get(key, 0) + value


def totals(all_entries: Iterable[Entry], unit: str = "total") -> Entry:
    """Sum of entries; outputs are left out."""
    total = Entry(
        unit=unit, fingerprint="", ledger=Ledger(sums={}), steps={}, skipped={}, quarantined={}, killed_ids=[]
    )
    total.counts = {}
    for entry in all_entries:
        total.fingerprint = entry.fingerprint
        for side in ("rows_in", "made", "kept", "dropped", "quarantined"):
            total.ledger.add(side, getattr(entry.ledger, side), entry.ledger.sum_of(side))
        for index, count in entry.steps.items():
            _add_step(total.steps.setdefault(index, StepCount()), count)
        merge_counts(total.skipped, entry.skipped)
        merge_counts(total.quarantined, entry.quarantined)
        merge_counts(total.counts, entry.counts)
        total.killed_ids.extend(entry.killed_ids)
        for field in ("bytes_in", "text_bytes", "tokens", "seconds", "cpu_seconds", "records"):
            setattr(total, field, getattr(total, field) + getattr(entry, field))
        total.peak_rss_bytes = max(total.peak_rss_bytes, entry.peak_rss_bytes)
    return total


def _add_step(total: StepCount, count: StepCount) -> None:
    total.rows += count.rows
    total.bytes += count.bytes
    total.failed += count.failed
    total.seconds += count.seconds
    merge_counts(total.dropped, count.dropped)
    total.changed |= count.changed
    merge_scores(total.scores, count.scores)
    for groups, more in ((total.sources, count.sources), (total.langs, count.langs)):
        for name, (rows, dropped) in more.items():
            seen = groups.setdefault(group_name(name, groups), [0, 0])
            seen[0] += rows
            seen[1] += dropped
