"""Kills at any moment: the same bytes in the end, and never a partial file under a final name."""

import contextlib
import hashlib
import itertools
import json
import os
import random
import signal
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from curate.engine.unit import Job
from curate.engine.workers import DIED, NO_BATCH, Deaths, Signals, Stopped
from curate.errors import ConfigError

WORKER, EXTRACTOR = "curate.engine.worker:serve", "curate.engine.isolate:serve"
STAGES = [
    {"extract": {}},
    {"select": "length(text) > 400"},
    {"exact_dedup": {}},
    {"sample": {}},
    {"select": "sample_hash < 0.9"},
]


def page(draw: random.Random) -> bytes:
    words = ["corpus", "journal", "harbour", "lantern", "meadow", "quarry", "thimble", "walnut"]
    blocks = "".join(
        f"<p>{' '.join(draw.choices(words, k=draw.randint(5, 60)))}.</p>" for _ in range(draw.randint(1, 18))
    )
    head = f"<title>{draw.choice(words)}</title><meta name=date content=2024-0{draw.randint(1, 9)}-11>"
    return f"<html><head>{head}</head><body><article>{blocks}</article></body></html>".encode()


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> Path:
    """1,500 pages in 6 units: doubles, repeated ids, rows without a page."""
    folder = tmp_path_factory.mktemp("pages") / "in"
    folder.mkdir()
    draw = random.Random(1)
    html: list[bytes | None] = [page(draw) for _ in range(1200)]
    html += draw.choices(html, k=300)
    draw.shuffle(html)
    html[77] = html[1077] = None
    keys = [f"page-{i if i % 250 else 1}" for i in range(len(html))]
    table = pa.table({"key": keys, "html": pa.array(html, pa.binary())})
    pq.write_table(table.slice(0, 500), folder / "a.parquet", row_group_size=250)
    pq.write_table(table.slice(500), folder / "b.parquet", row_group_size=250)
    return folder


@pytest.fixture(scope="module")
def command(pages, tmp_path_factory):
    """Arguments of a run; the output folder is to come."""
    recipe = tmp_path_factory.mktemp("recipe") / "pages.yaml"
    tree = {
        "input": {"path": str(pages), "id": "key"},
        "stages": STAGES,
        "unit_mb": 1,
        "allow_quarantined": 100,
    }
    recipe.write_text(json.dumps(tree))
    return ["run", recipe, "--workers", 2, "--quiet", "-o"]


@pytest.fixture(scope="module")
def undisturbed(curate, command, tmp_path_factory) -> dict[str, str]:
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    ran = curate(*command, out)
    assert ran.code == 0, ran.err
    found = checksums(out)
    assert {name.split("/")[0] for name in found} >= {"_dropped", "_quarantine", "part-00000.parquet"}
    assert len(found) > 20
    return found


def checksums(out: Path) -> dict[str, str]:
    parts = [p for p in sorted(out.rglob("part-*")) if "_curate" not in p.parts]
    return {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in parts}


def assert_no_partial_file(base: Path) -> None:
    """Every file under a final name is listed in a journal with just these bytes, and opens."""
    listed = set()
    for file in base.rglob("_curate/journal/**/*.json"):
        for output in json.loads(file.read_bytes())["outputs"]:
            listed.add((output["name"].rpartition("/")[2], output["sha256"]))
    for part in base.rglob("*.parquet"):
        if part.name.startswith(("part-", "records-")):
            digest = hashlib.sha256(part.read_bytes()).hexdigest()
            assert (part.name, digest) in listed, f"{part} is not what a journal says"
            pq.read_metadata(part)
    for manifest in base.rglob("_curate/manifest.json"):
        json.loads(manifest.read_bytes())


def processes(parent: int) -> dict[str, list[int]]:
    """Ids of the processes below `parent` by what they do."""
    found: dict[str, list[int]] = {WORKER: [], EXTRACTOR: []}
    below = [parent]
    while below:
        pid = below.pop()
        try:
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            for task in Path(f"/proc/{pid}/task").iterdir():
                below += map(int, (task / "children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue
        for target in found:
            if target in words:
                found[target].append(pid)
    return found


def wait_for(condition, seconds: float = 30.0):
    """Its first true value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.01)
    return value


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.slow
def test_killed_parents_leave_no_child_and_the_rerun_ends_with_the_same_bytes(
    curate, start, command, undisturbed, tmp_path
):
    draw, kills, base = random.Random(2), 0, None
    while kills < 8:
        if base is None or (base / "out/_curate/manifest.json").exists():
            base = tmp_path / f"base{kills}"
        run = start(*command, base / "out")
        time.sleep(draw.uniform(0.5, 3.0))
        children = list(itertools.chain(*processes(run.pid).values()))
        run.kill()
        run.wait()
        kills += 1
        wait_for(lambda pids=children: all(map(gone, pids)), seconds=1)
        assert_no_partial_file(base)
    for base in tmp_path.glob("base*"):
        ran = curate(*command, base / "out")
        assert (ran.code, ran.err) == (0, "")
        assert checksums(base / "out") == undisturbed
        assert_no_partial_file(base)
        left = [p.relative_to(base) for p in base.rglob("*") if p.is_file()]
        assert not [p for p in left if "tmp" in p.parts or p.name.startswith((".part", ".0"))]


@pytest.mark.slow
@pytest.mark.parametrize("victims", [WORKER, EXTRACTOR], ids=["workers", "extraction children"])
def test_killed_children_cost_no_row_and_no_second_call(
    start, command, undisturbed, dataset, tmp_path, victims
):
    draw, kills, number = random.Random(3), 0, 0
    while kills < 8:
        number += 1
        out = tmp_path / f"base{number}" / "out"
        run = start(*command, out)
        before = kills
        while run.poll() is None and kills < before + 6:
            time.sleep(draw.uniform(0.1, 0.8))
            if pids := processes(run.pid)[victims]:
                try:
                    os.kill(draw.choice(pids), signal.SIGKILL)
                except ProcessLookupError:
                    continue
                kills += 1
                assert_no_partial_file(out.parent)
        _, err = run.communicate(timeout=60)
        assert (run.returncode, err) == (0, b"")
        assert checksums(out) == undisturbed
        assert dataset(out).manifest["quarantined"] == {"duplicate_id": 6, "null_text": 2}


MOMENTS = ["write:5", "flush:4", "claim:2", "claimed:1", "rename:2", "take:3", "manifest:1"]


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_kill_inside_each_step_of_the_commit_changes_nothing(
    curate, command, undisturbed, tmp_path, moment
):
    """Every process that gets there dies there, again and again; the run goes on or stops, resumable."""
    first = curate(*command, tmp_path / "out", env={"CURATE_FAULT": moment})
    assert first.code in (0, 3, -9)
    assert first.code != 3 or "no row is to blame" in first.err
    assert_no_partial_file(tmp_path)
    last = curate(*command, tmp_path / "out")
    assert last.code == 0, last.err
    assert checksums(tmp_path / "out") == undisturbed


@pytest.mark.slow
def test_a_resume_that_is_killed_while_it_cleans_up_is_resumed(curate, command, undisturbed, tmp_path):
    """Every worker dies between commit and rename, then every rerun at its n-th rename."""
    assert curate(*command, tmp_path / "out", env={"CURATE_FAULT": "rename:1"}).code in (3, -9)
    for moment in ("rename:1", "rename:2"):
        assert curate(*command, tmp_path / "out", env={"CURATE_FAULT": moment}).code in (3, -9)
        assert_no_partial_file(tmp_path)
    assert curate(*command, tmp_path / "out").code == 0
    assert checksums(tmp_path / "out") == undisturbed


# One row per line; three links of 64 MB and a rest. Ids repeat over the links.
LINES = 1600


@pytest.fixture(scope="module")
def stream(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("stream") / "in"
    folder.mkdir()
    packer = zstandard.ZstdCompressor().compressobj()
    with open(folder / "rows.jsonl.zst", "wb") as file:
        for i in range(LINES):
            row = {"key": f"row-{i % 1500}", "text": f"{i % 1400} " + "lantern " * 16_000}
            file.write(packer.compress(json.dumps(row).encode() + b"\n"))
        file.write(packer.flush())
    return folder


@pytest.fixture(scope="module")
def stream_command(stream):
    stages = [{"select": "length(text) > 127000"}, {"exact_dedup": {}}]
    tree = {
        "input": {"path": str(stream), "id": "key"},
        "stages": stages,
        "allow_quarantined": 100,
        "guards": {"unchanged": "warn"},  # the select drops nothing
    }
    (stream.parent / "stream.yaml").write_text(json.dumps(tree))
    return ["run", stream.parent / "stream.yaml", "--quiet", "--workers", 1, "-o"]


@pytest.fixture(scope="module")
def undisturbed_stream(curate, stream_command, tmp_path_factory) -> dict[str, str]:
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    assert curate(*stream_command, out).code == 0
    return checksums(out)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["claim:2", "rename:3"])
def test_a_kill_between_the_links_of_a_stream_changes_nothing(
    curate, stream_command, undisturbed_stream, dataset, tmp_path, moment
):
    out = tmp_path / "out"
    first = curate(*stream_command, out, env={"CURATE_FAULT": moment})
    assert first.code in (0, 3)
    assert_no_partial_file(tmp_path)
    last = curate(*stream_command, out)
    assert last.code == 0, last.err
    assert checksums(out) == undisturbed_stream
    assert dataset(out).manifest["quarantined"] == {"duplicate_id": 100}
    assert dataset(out).problems == []


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 3)])
def test_ctrl_c_and_sigterm_stop_within_two_seconds_and_leave_a_resumable_run(
    start, curate, command, undisturbed, tmp_path, number, code
):
    run = start(*command, tmp_path / "out")
    wait_for(lambda: processes(run.pid)[EXTRACTOR])
    children = list(itertools.chain(*processes(run.pid).values()))
    since = time.monotonic()
    run.send_signal(number)
    _, err = run.communicate(timeout=30)
    assert time.monotonic() - since < 2
    assert run.returncode == code
    name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
    hint = "run the same command again: it goes on where it stopped"
    assert err.decode().splitlines() == [f"error: stopped by {name}", "", f"hint: {hint}"]
    wait_for(lambda: all(map(gone, children)), seconds=1)
    assert not (tmp_path / "out/_curate/lock").exists()
    assert_no_partial_file(tmp_path)
    assert curate(*command, tmp_path / "out").code == 0
    assert checksums(tmp_path / "out") == undisturbed


def test_a_signal_acts_wherever_the_run_is():
    """Planning, publishing: not between two jobs only."""

    def plan_for_ten_seconds():
        with Signals():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)

    since = time.monotonic()
    with pytest.raises(Stopped, match="SIGTERM"):
        plan_for_ten_seconds()
    assert time.monotonic() - since < 1


def test_a_signal_that_a_library_swallows_still_stops_the_run():
    def swallow(then):
        with Signals() as signals:
            with contextlib.suppress(Stopped):
                os.kill(os.getpid(), signal.SIGINT)
            then(signals)

    def fail(_):
        raise ConfigError("what the library made of it")

    for then in (Signals.check, fail):
        with pytest.raises(Stopped) as caught:
            swallow(then)
        assert caught.value.exit_code == 130


STAGE_FILE = '''
"""Stages that die, eat or wait."""

import os
import pathlib
import time

import msgspec
import pyarrow as pa

from curate.stage import stage


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    seconds: float = 0.0  # of sleep per batch
    max_memory_mb: int = 400  # of the killable child


@stage("hungry", version=1, config=Config, reads=["text"], writes={"hungry_done": pa.bool_()})
def hungry(batch, config):
    held = []
    while "poison" in batch["text"].to_pylist():
        held.append(bytearray(8 << 20))
        time.sleep(0.005)
    return batch.append_column("hungry_done", pa.array([True] * batch.num_rows))


class Plain(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    signs: str  # folder where a process that works on a batch leaves its id


def load(config, store):
    return b"x" * (2200 << 20)


@stage("heavy", version=1, config=Plain, reads=["text"], writes={"heavy_done": pa.bool_()}, load=load)
def heavy(batch, config, model):
    signs = pathlib.Path(config.signs)
    first = len(list(signs.iterdir())) < 2
    (signs / str(os.getpid())).touch()
    if first:
        time.sleep(60)
    return batch.append_column("heavy_done", pa.array([True] * batch.num_rows))


@stage("slow", version=1, config=Config, reads=["text"], writes={"slow_done": pa.bool_()})
def slow(batch, config):
    time.sleep(config.seconds)
    return batch.append_column("slow_done", pa.array([True] * batch.num_rows))
'''


@pytest.fixture
def few_rows(tmp_path, recipe):
    """Writes a recipe of one stage over ten rows, one of them poison; gives the command without OUT."""
    (tmp_path / "in").mkdir()
    texts = [f"text {i}" for i in range(10)]
    texts[4] = "poison"
    pq.write_table(pa.table({"text": texts}), tmp_path / "in/rows.parquet")
    (tmp_path / "my_stages.py").write_text(STAGE_FILE)

    def command(stage, *more):
        return ["run", recipe([stage]), "--stages", tmp_path / "my_stages.py", "--quiet", *more, "-o"]

    return command


@pytest.mark.slow
def test_a_row_that_makes_a_worker_eat_memory_without_end_is_found(curate, dataset, few_rows, tmp_path):
    """The worker is killed at its cap, twice; then a killable child runs the stage, and its cap finds the row."""
    ran = curate(*few_rows({"hungry": {}}, "--worker-memory-mb", 500), tmp_path / "out")
    assert ran.code == 4, ran.err
    out = dataset(tmp_path / "out")
    assert (len(out.kept), out.reasons) == (9, ["memory"])
    assert out.quarantined[0]["raw"] == b"poison"
    assert out.manifest["killed_ids"] == [out.quarantined[0]["id"]]


def test_somebody_who_kills_every_worker_ends_the_run_with_a_clear_error(start, dataset, few_rows, tmp_path):
    """Ten deaths that no row explains; no row is blamed, and the run can be resumed."""
    run = start(*few_rows({"slow": {"seconds": 30}}), tmp_path / "out")
    killed = 0
    while run.poll() is None:
        for pid in processes(run.pid)[WORKER]:
            os.kill(pid, signal.SIGKILL)
            killed += 1
            wait_for(lambda pid=pid: gone(pid))
        time.sleep(0.02)
    _, err = run.communicate()
    assert run.returncode == 3
    assert killed >= 11
    assert err.decode().splitlines()[0] == (
        "error: the worker of unit 00000 died 11 times and no row is to blame"
    )
    assert "something outside kills it" in err.decode()
    assert dataset(tmp_path / "out").parts == []


@pytest.mark.slow
def test_two_kills_from_outside_cost_no_row_where_the_model_is_big(start, dataset, few_rows, tmp_path):
    """The careful try that follows has the memory of a worker: 2.2 GB fit below 4 GB, killed twice or not."""
    (tmp_path / "signs").mkdir()
    run = start(
        *few_rows({"heavy": {"signs": str(tmp_path / "signs")}}, "--worker-memory-mb", 4096), tmp_path / "out"
    )
    killed: set[str] = set()
    while len(killed) < 2:
        (name,) = wait_for(lambda: {p.name for p in (tmp_path / "signs").iterdir()} - killed)
        os.kill(int(name), signal.SIGKILL)
        killed.add(name)
    _, err = run.communicate(timeout=120)
    assert run.returncode == 0, err.decode()
    out = dataset(tmp_path / "out")
    assert (len(out.kept), out.reasons) == (10, [])
    assert out.problems == []


def test_workers_killed_before_their_first_batch_are_not_tried_carefully(start, few_rows, tmp_path):
    """While they start or load, no batch is at work: a death then says nothing about the first."""
    events = tmp_path / "events.jsonl"
    run = start(*few_rows({"slow": {"seconds": 0.5}}, "--events", events), tmp_path / "out")
    killed: set[int] = set()
    while len(killed) < 4:
        for pid in wait_for(lambda: set(processes(run.pid)[WORKER]) - killed):
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
    careful = []
    while run.poll() is None:
        careful += processes(run.pid)[EXTRACTOR]
        time.sleep(0.02)
    _, err = run.communicate()
    assert run.returncode == 0, err.decode()
    deaths = [e for e in map(json.loads, events.read_text().splitlines()) if "batch" in e]
    assert [death["batch"] for death in deaths] == [NO_BATCH] * 4
    assert careful == []


def test_a_second_death_at_one_batch_is_followed_by_a_careful_try():
    job, deaths = Job("run", 0, "00000", 0), Deaths(300)
    tried = [deaths.note(job, batch, DIED).careful for batch in (NO_BATCH, NO_BATCH, 0, 1, 0)]
    assert tried == [0, 0, 0, 0, 300]


def test_workers_that_are_always_above_their_memory_cap_say_what_to_raise(curate, few_rows, tmp_path):
    ran = curate(*few_rows({"slow": {}}, "--worker-memory-mb", 10), tmp_path / "out")
    assert ran.code == 3
    assert "went over its memory cap of 10 MB 11 times" in ran.err
    assert "hint: raise --worker-memory-mb" in ran.err
    assert "outside" not in ran.err
