"""Two runs into one folder: the second is told who holds it; a lock left by a dead process is taken over."""

import contextlib
import multiprocessing
import os
import subprocess
import time

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.engine.lock import LOCK, Lock, is_dead, me, read_owner
from curate.errors import LockedError
from curate.io.files import Folder

FORK = multiprocessing.get_context("fork")
SLOW_STAGE = """
import time

import msgspec
import pyarrow as pa

from curate.stage import stage


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    seconds: float = 60.0  # of sleep per batch


@stage("slow", version=1, config=Config, reads=["text"], writes={"slow_done": pa.bool_()})
def slow(batch, config):
    time.sleep(config.seconds)
    return batch.append_column("slow_done", pa.array([True] * batch.num_rows))
"""


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "out")


def leave_lock(folder, **changed):
    """The lock of another owner, who differs from us by `changed`."""
    owner = msgspec.structs.replace(me(), **changed)
    folder.replace(LOCK, msgspec.json.encode(owner))
    return owner


def process_that_ended():
    ended = subprocess.Popen(["true"])
    ended.wait()
    return ended.pid


def test_who_holds_the_lock_is_named_and_it_goes_with_the_holder(folder):
    with Lock(folder):
        with pytest.raises(LockedError, match=f"process {os.getpid()} on ") as caught, Lock(folder):
            pass
        assert folder.address(LOCK) in caught.value.hint
        assert caught.value.exit_code == 2
        assert read_owner(folder) is not None  # the failed attempt left the holder's lock alone
    assert read_owner(folder) is None
    assert folder.names("_curate") == []


def test_the_lock_goes_when_the_run_fails(folder):
    with contextlib.suppress(ValueError), Lock(folder):
        raise ValueError
    assert read_owner(folder) is None


@pytest.mark.parametrize(
    "changed",
    [{"pid": process_that_ended()}, {"start": "1"}, {"boot_id": "another boot", "pid": 1}],
    ids=["the process ended", "its pid was given to another process", "the machine was started anew"],
)
def test_a_dead_owners_lock_is_taken_over(folder, changed):
    assert is_dead(leave_lock(folder, **changed))
    with Lock(folder):
        assert read_owner(folder).pid == os.getpid()


def test_a_lock_cut_off_by_a_full_disk_is_taken_over(folder):
    folder.replace(LOCK, b"")
    with Lock(folder):
        assert read_owner(folder).pid == os.getpid()


def test_a_process_that_is_dead_but_not_waited_for_is_dead(folder):
    child = FORK.Process(target=os._exit, args=(0,))
    start = "1"
    child.start()
    while True:
        with open(f"/proc/{child.pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        start = fields[19]
        if fields[0] == "Z":
            break
        time.sleep(0.01)
    assert is_dead(msgspec.structs.replace(me(), pid=child.pid, start=start))
    child.join()


def test_a_lock_of_another_machine_is_never_taken(folder):
    leave_lock(folder, host="elsewhere", pid=1)
    with pytest.raises(LockedError, match="process 1 on elsewhere") as caught, Lock(folder):
        pass
    assert "remove" in caught.value.hint
    assert read_owner(folder).host == "elsewhere"


def hold(path, start, log):
    start.wait()
    for _ in range(20):
        try:
            with Lock(Folder(path)):
                os.write(log, b"<")
                time.sleep(0.002)
                os.write(log, b">")
        except LockedError:
            os.write(log, b".")
        # the lock of a process that is gone, again and again
        with contextlib.suppress(FileExistsError):
            gone = msgspec.json.encode(msgspec.structs.replace(me(), start="1"))
            Folder(path).claim(LOCK, gone, f"gone-{os.getpid()}")


def test_of_many_that_take_over_a_dead_owners_lock_one_gets_it(folder, tmp_path):
    leave_lock(folder, start="1")
    start = FORK.Event()
    log = os.open(tmp_path / "log", os.O_CREAT | os.O_APPEND | os.O_RDWR)
    takers = [FORK.Process(target=hold, args=(folder.path, start, log)) for _ in range(6)]
    for taker in takers:
        taker.start()
    start.set()
    for taker in takers:
        taker.join()
        assert taker.exitcode == 0
    told = (tmp_path / "log").read_text().replace(".", "")
    assert len(told) >= 12
    assert told == "<>" * (len(told) // 2)


@pytest.fixture
def slow_run(tmp_path, recipe):
    """Arguments of a run that would take a minute; OUT is missing."""
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"text": ["one", "two"]}), tmp_path / "in" / "rows.parquet")
    stages = tmp_path / "my_stages.py"
    stages.write_text(SLOW_STAGE)
    return ["run", recipe([{"slow": {}}]), "--stages", stages, "--quiet", "-o"]


def test_a_second_run_is_told_which_process_holds_the_folder(curate, start, slow_run, tmp_path):
    out = tmp_path / "out"
    first = start(*slow_run, out)
    while not (out / "_curate/plan.json").exists():
        assert first.poll() is None, first.stderr.read()
        time.sleep(0.05)
    second = curate(*slow_run, out)
    assert second.code == 2
    assert f"is being written by process {first.pid} on " in second.err
    assert curate(*slow_run, out, "--fresh").code == 2
    assert (out / "_curate/plan.json").exists()  # --fresh removed nothing of the other's
    first.kill()
    first.wait()
    assert (out / LOCK).exists()  # and the next run takes it over: test_kill.py
