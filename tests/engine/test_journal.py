"""The commit protocol by hand, and the conservation law as a property."""

import multiprocessing
import signal
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.engine import journal
from curate.engine.journal import Entry, Ledger, StepCount, Written
from curate.errors import DataError
from curate.io.files import Folder
from curate.schema import id_sum

FORK = multiprocessing.get_context("fork")
IDS = st.lists(st.text("abc", max_size=3), max_size=6)


def entry_of(folder: Folder, unit: str, attempt: str, content: bytes) -> Entry:
    """An attempt that has written one file and not committed yet."""
    file = folder.create(f"{journal.TMP}/{unit}-{attempt}")
    file.write(content)
    file.close()
    written = Written(tmp=f"{journal.TMP}/{unit}-{attempt}", name=f"part-{unit}.parquet", sha256=file.sha256,
                      bytes=len(content), rows=1)  # fmt: skip
    return Entry(unit=unit, fingerprint="f", ledger=Ledger(sums={}), outputs=[written])


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def files(folder: Folder) -> list[str]:
    assert folder.local
    return sorted(str(p.relative_to(folder.local)) for p in folder.local.rglob("*") if p.is_file())


def test_a_commit_gives_the_file_its_name_and_leaves_nothing_else(folder):
    stands = journal.commit(folder, entry_of(folder, "00000", "a", b"rows"), "a")
    assert stands.outputs[0].sha256 == journal.read(folder, "00000").outputs[0].sha256
    assert files(folder) == ["_curate/journal/00000.json", "part-00000.parquet"]
    assert folder.read("part-00000.parquet") == b"rows"


def test_of_two_attempts_the_first_stands_and_the_second_leaves_nothing(folder):
    first, second = entry_of(folder, "00000", "a", b"first"), entry_of(folder, "00000", "b", b"second")
    journal.commit(folder, first, "a")
    assert journal.commit(folder, second, "b") == first
    assert files(folder) == ["_curate/journal/00000.json", "part-00000.parquet"]
    assert folder.read("part-00000.parquet") == b"first"


def test_an_attempt_that_died_before_its_renames_is_finished_by_the_next(folder):
    """Else the run would end, remove `_curate/tmp` and lose the rows (a worker killed between commit and rename)."""
    first, second = entry_of(folder, "00000", "a", b"first"), entry_of(folder, "00000", "b", b"second")
    folder.claim(f"{journal.JOURNAL}/00000.json", msgspec.json.encode(first), "a")
    journal.commit(folder, second, "b")
    assert folder.read("part-00000.parquet") == b"first"
    assert folder.names(journal.TMP) == []


def test_resume_finishes_what_was_committed_and_removes_what_was_not(folder):
    committed = entry_of(folder, "00000", "a", b"committed")
    entry_of(folder, "00001", "b", b"half a fi")
    folder.claim(f"{journal.JOURNAL}/00000.json", msgspec.json.encode(committed), "a")
    (folder.local / journal.TMP / "sort-x").mkdir()
    (folder.local / journal.JOURNAL / ".00001.json.b").write_bytes(b"{cut o")
    journal.resume(folder)
    journal.resume(folder)  # repeatable
    assert files(folder) == ["_curate/journal/00000.json", "part-00000.parquet"]
    assert folder.folders(journal.TMP) == []


def test_a_file_that_someone_removed_is_named(folder):
    journal.commit(folder, entry_of(folder, "00000", "a", b"rows"), "a")
    folder.remove("part-00000.parquet")
    with pytest.raises(DataError, match=r"part-00000\.parquet is in the journal but gone"):
        journal.resume(folder)


def test_a_damaged_entry_is_named(folder):
    folder.replace(f"{journal.JOURNAL}/00000.json", b'{"unit": ')
    with pytest.raises(DataError, match=r"00000\.json: damaged journal entry"):
        journal.read(folder, "00000")


def commit_one(path: str, attempt: str, start, results) -> None:
    folder = Folder(path)
    entry = entry_of(folder, "00000", attempt, attempt.encode())
    start.wait()
    results.put((attempt, journal.commit(folder, entry, attempt).outputs[0].tmp))


def test_of_eight_racing_attempts_all_agree_on_the_winner(folder):
    start, results = FORK.Event(), FORK.Queue()
    racers = [
        FORK.Process(target=commit_one, args=(folder.path, f"attempt{i}", start, results)) for i in range(8)
    ]
    for racer in racers:
        racer.start()
    start.set()
    winners = {results.get(timeout=60)[1] for _ in racers}
    for racer in racers:
        racer.join()
    assert len(winners) == 1
    assert f"{journal.TMP}/00000-{folder.read('part-00000.parquet').decode()}" == winners.pop()
    assert files(folder) == ["_curate/journal/00000.json", "part-00000.parquet"]


def die_in_commit(path: str, moment: str) -> None:
    journal._fault_at = f"{moment}:1"  # what CURATE_FAULT sets
    folder = Folder(path)
    journal.commit(folder, entry_of(folder, "00000", "a", b"rows"), "a")


@pytest.mark.parametrize("moment", ["claim", "claimed", "rename"])
def test_a_kill_inside_a_commit_leaves_all_or_nothing(folder, moment):
    """Each moment of the protocol: after `resume` the unit is either whole or not there at all."""
    victim = FORK.Process(target=die_in_commit, args=(folder.path, moment))
    victim.start()
    victim.join()
    assert victim.exitcode == -signal.SIGKILL
    assert not folder.exists("part-00000.parquet")
    journal.resume(folder)
    assert journal.units_done(folder) == ([] if moment == "claim" else ["00000"])
    assert folder.exists("part-00000.parquet") == (moment != "claim")
    assert folder.names(journal.TMP) == []


@given(kept=IDS, dropped=IDS, quarantined=IDS)
def test_the_law_holds_exactly_when_no_row_is_lost_made_up_or_swapped(kept, dropped, quarantined):
    ledger = Ledger(sums={})
    everything = kept + dropped + quarantined
    ledger.add("rows_in", len(everything), id_sum(everything))
    for side, ids in (("kept", kept), ("dropped", dropped), ("quarantined", quarantined)):
        for one in ids:
            ledger.add(side, 1, id_sum([one]))
    assert ledger.broken() == ""
    if kept:
        swapped = Ledger(
            sums=dict(ledger.sums),
            **{s: getattr(ledger, s) for s in ("rows_in", "kept", "dropped", "quarantined")},
        )
        swapped.sums["kept"] = (
            f"{(swapped.sum_of('kept') - id_sum(kept[:1]) + id_sum(['other'])) % journal.MODULUS:016x}"
        )
        assert "ids" in swapped.broken()
        ledger.kept -= 1
        assert "is not" in ledger.broken()


@given(
    st.lists(st.tuples(IDS, st.dictionaries(st.sampled_from("ab"), st.integers(1, 9))), max_size=5),
    st.randoms(),
)
def test_totals_do_not_depend_on_the_order_of_units(units, random):
    entries = []
    for number, (ids, reasons) in enumerate(units):
        ledger = Ledger(sums={})
        ledger.add("rows_in", len(ids), id_sum(ids))
        step = StepCount(rows=len(ids), dropped=reasons, sources={"s": [len(ids), 0]})
        entries.append(
            Entry(unit=f"{number}", fingerprint="f", ledger=ledger, steps={"0": step}, skipped=reasons)
        )
    total = journal.totals(entries)
    random.shuffle(entries)
    assert journal.totals(entries) == total
    assert total.ledger.rows_in == sum(len(ids) for ids, _ in units)
    assert total.ledger.sum_of("rows_in") == id_sum([i for ids, _ in units for i in ids])
