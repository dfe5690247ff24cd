"""Input, output and work store at s3:// addresses, against a real S3 server on loopback (rclone's).

That server ignores `If-None-Match`, so who wins a claim is proven on memory://, which does create exclusively.
"""

import gzip
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from curate.engine.lock import LOCK
from curate.io.files import Folder, StoreFile

CONSOLE = Path(sys.executable).with_name("curate")
SLOW_STAGE = """
import time

import msgspec
import pyarrow as pa

from curate.stage import stage


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


@stage("slow", version=1, config=Config, reads=["text"], writes={"slow_chars": pa.int64()})
def slow(batch, config):
    time.sleep(0.5)
    return batch.append_column("slow_chars", pa.array([len(t) for t in batch["text"].to_pylist()], pa.int64()))
"""


class Server:
    """An S3 server whose buckets are the folders of `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.env = {
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{self.port}",
            # with a part of an object rclone sends the checksum of the whole
            "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        }

    def start(self) -> None:
        rclone = Path(sys.executable).with_name("rclone")
        self.process = subprocess.Popen(
            [rclone, "serve", "s3", "--addr", f"127.0.0.1:{self.port}", "--auth-key", "key,secret", self.root],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise TimeoutError("rclone serve s3 does not answer")

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    found = Server(tmp_path_factory.mktemp("s3"))
    for bucket in ("bucket", "whole"):
        (found.root / bucket).mkdir()
    found.start()
    yield found
    found.stop()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, server: Server) -> Path:
    """Six units: doubles, repeated ids, a stream, bad rows. The same files lie in the bucket."""
    folder = tmp_path_factory.mktemp("source") / "in"
    folder.mkdir()
    for name in "abcd":
        texts = [f"document {i} of {name if i % 7 else 'all'} " + "word " * 200 for i in range(900)]
        table = pa.table({"key": [f"{name}-{i if i % 50 else 'twice'}" for i in range(900)], "text": texts})
        pq.write_table(table, folder / f"{name}.parquet", compression="none")
    lines = [json.dumps({"key": f"e-{i}", "text": f"line {i}"}) for i in range(500)]
    (folder / "e.jsonl.gz").write_bytes(gzip.compress("\n".join([*lines, '{"key": 1}']).encode()))
    shutil.copytree(folder, server.root / "bucket" / "in")
    return folder


STEPS = [
    {"sample": {}},
    {"select": "sample_hash < 0.9"},
    {"exact_dedup": {}},
    "slow",
    {"select": "slow_chars > 7"},
]


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Arguments of a run from an input; the output is to come."""
    folder = tmp_path_factory.mktemp("recipe")
    (folder / "slow.py").write_text(SLOW_STAGE)

    def arguments(source: str) -> list[str]:
        tree = {
            "input": {"path": source, "id": "key"}, "stages": STEPS, "unit_mb": 1, "allow_quarantined": 1000,
            "output": {"path": "set by -o"},
        }  # fmt: skip
        recipe = folder / f"{source.partition(':')[0].strip('/').replace('/', '_')}.yaml"
        recipe.write_text(json.dumps(tree))
        return ["run", str(recipe), "--stages", str(folder / "slow.py"), "--workers", "2", "--quiet", "-o"]

    return arguments


def parts(folder: Path) -> dict[str, bytes]:
    """Every file under a final name, and its bytes."""
    files = [f for f in folder.rglob("part-*") if "_curate" not in f.parts]
    return {str(f.relative_to(folder)): f.read_bytes() for f in files}


@pytest.fixture(scope="module")
def local(
    curate: Any, command: Any, source: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    """What the same run leaves on a disk."""
    out = tmp_path_factory.mktemp("local") / "out"
    ran = curate(*command(str(source)), out)
    assert ran.code == 0, ran.err
    found = parts(out)
    assert {name.split("/")[0] for name in found} == {"_dropped", "_quarantine", *[f"part-0000{i}.parquet" for i in range(4)], "part-00004-00000.parquet"}  # fmt: skip
    return found


def is_complete(server: Server, out: str) -> bool:
    return (server.root / "bucket" / out / "_curate/manifest.json").exists()


def killed(server: Server, arguments: list[str], out: str, entries: int) -> None:
    """Start a run and kill its process once so many units of its last pass are done."""
    run = subprocess.Popen([CONSOLE, *arguments, f"s3://bucket/{out}"], env={**os.environ, **server.env})
    deadline = time.monotonic() + 120
    while len(list((server.root / "bucket" / out / "_curate/journal").glob("*.json"))) < entries:
        assert run.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    run.wait()


@pytest.mark.slow
def test_everything_on_s3_gives_the_bytes_of_a_local_run(
    curate: Any, command: Any, server: Server, source: Path, local: dict[str, bytes]
) -> None:
    """And a run killed in the middle leaves nothing that looks complete; the rerun completes it."""
    arguments = command("s3://bucket/in")
    killed(server, arguments, "out", entries=1)
    folder = server.root / "bucket" / "out"
    assert not is_complete(server, "out")
    assert (folder / LOCK).exists()
    done = parts(folder)
    assert done.items() <= local.items()  # no partial file under a final name
    assert len(done) < len(local)
    for looking in ("verify", "peek"):
        ran = curate(looking, "s3://bucket/out", env=server.env)
        assert "not complete" in ran.err
        assert ran.code in ((3,) if looking == "verify" else (0, 2))
    again = curate(*arguments, "s3://bucket/out", env=server.env)
    assert again.code == 0, again.err
    assert is_complete(server, "out")
    assert parts(folder) == local
    assert not (folder / LOCK).exists()
    assert not list((folder / "_curate").glob("tmp/*"))
    assert (server.root / "bucket" / ".curate" / "passes").is_dir()
    assert not Path("s3:").exists()
    verified = curate("verify", "s3://bucket/out", env=server.env)
    assert verified.code == 0, verified.out


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["claimed:4", "rename:5", "manifest:1"])
def test_a_kill_at_every_step_of_a_commit(
    curate: Any, command: Any, server: Server, source: Path, local: dict[str, bytes], moment: str
) -> None:
    """The hook kills whatever process gets there: a worker, which is replaced, or the parent."""
    out = f"moment-{moment.partition(':')[0]}"
    arguments = [*command("s3://bucket/in"), f"s3://bucket/{out}", "--store", f"s3://bucket/store-{out}"]
    first = curate(*arguments, env={**server.env, "CURATE_FAULT": moment})
    assert parts(server.root / "bucket" / out).items() <= local.items()
    assert is_complete(server, out) == (first.code == 0)
    assert first.code == (-signal.SIGKILL if moment == "manifest:1" else 0)
    again = curate(*arguments, env=server.env)
    assert again.code == 0, again.err
    assert parts(server.root / "bucket" / out) == local


@pytest.mark.slow
def test_a_server_that_goes_away_stops_the_run_and_costs_no_row(
    curate: Any, command: Any, server: Server, source: Path, local: dict[str, bytes]
) -> None:
    arguments = [*command("s3://bucket/in"), "s3://bucket/away", "--store", "s3://bucket/store-away"]
    patience = {"AWS_MAX_ATTEMPTS": "1"}  # of botocore; s3fs tries five times by itself
    run = subprocess.Popen(
        [CONSOLE, *arguments], env={**os.environ, **server.env, **patience}, stderr=subprocess.PIPE, text=True
    )
    while not list((server.root / "bucket/away/_curate/journal").glob("*.json")):
        assert run.poll() is None
        time.sleep(0.02)
    server.stop()
    try:
        _, said = run.communicate(timeout=120)
    finally:
        server.start()
    assert run.returncode == 3, said
    assert "Traceback" not in said
    assert not is_complete(server, "away")
    again = curate(*arguments, env=server.env)
    assert again.code == 0, again.err
    assert parts(server.root / "bucket" / "away") == local


@pytest.mark.slow
def test_a_second_run_into_the_same_address_is_refused(
    curate: Any, command: Any, server: Server, source: Path
) -> None:
    arguments = [*command("s3://bucket/in"), "s3://bucket/twice", "--store", "s3://bucket/store-twice"]
    run = subprocess.Popen([CONSOLE, *arguments], env={**os.environ, **server.env})
    try:
        while not (server.root / "bucket/twice" / LOCK).exists():
            assert run.poll() is None
            time.sleep(0.02)
        second = curate(*arguments, env=server.env)
        assert second.code == 2
        assert f"process {run.pid} on" in second.err
    finally:
        run.kill()
        run.wait()


@pytest.mark.slow
def test_a_bucket_can_be_the_output(curate: Any, tmp_path: Path, server: Server) -> None:
    """Its work store, which lies beside any other output, then lies inside."""
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n{"text": "one"}\n')
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps({"input": {"path": str(tmp_path / "a.jsonl")}, "stages": ["exact_dedup"]}))
    ran = curate("run", recipe, "-o", "s3://whole", "--json", env=server.env)
    assert ran.code == 0, ran.err
    assert ran.json["rows"]["kept"] == 2
    assert (server.root / "whole" / ".curate" / "passes").is_dir()
    assert curate("verify", "s3://whole", env=server.env).code == 0
    assert curate("run", recipe, "-o", "s3://whole", "--fresh", env=server.env).code == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("address", "change"),
    [
        ("s3://no-such-bucket/out", {}),
        ("s3://bucket/wrong-key", {"AWS_SECRET_ACCESS_KEY": "wrong"}),
        ("s3://bucket/no-server", {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"}),
    ],
)
def test_an_address_that_cannot_be_written_is_said_at_once(
    curate: Any, tmp_path: Path, server: Server, address: str, change: dict[str, str]
) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n')
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps({"input": {"path": str(tmp_path / "a.jsonl")}, "stages": ["sample"]}))
    ran = curate("run", recipe, "-o", address, env={**server.env, **change})
    assert ran.code == 2
    assert f"cannot write into {address}" in ran.err


def test_of_many_claims_exactly_one_wins() -> None:
    """On a store that creates exclusively."""
    folder = Folder("memory://claims")
    barrier = threading.Barrier(16)
    won = []

    def claim(number: int) -> None:
        barrier.wait()
        won.append(folder.claim("journal/00000.json", b"attempt %d" % number, str(number)))

    threads = [threading.Thread(target=claim, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False] * 15 + [True]
    assert not folder.claim("journal/00000.json", b"late", "late")
    assert folder.read("journal/00000.json").startswith(b"attempt")


class Lossy(MemoryFileSystem):  # type: ignore[misc]
    """A store that does what it is asked and then loses the connection, with an error of its own kind."""

    protocol = "lossy"
    cachable = False

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        super().pipe_file(path, value, mode=mode, **kwargs)
        raise OSError("412 precondition failed on the second try")


def test_a_claim_sent_twice_meets_itself() -> None:
    """A client that lost the answer asks again and hears that the file exists: it is its own."""
    fsspec.register_implementation("lossy", Lossy, clobber=True)
    folder = Folder("lossy://claims-twice")
    assert folder.claim("lock", b"mine", "1")
    assert not folder.claim("lock", b"other", "2")
    assert folder.read("lock") == b"mine"


def test_whatever_a_store_raises_is_an_os_error_with_an_errno() -> None:
    class Broken:
        def read(self, size: int = -1) -> bytes:
            raise RuntimeError("the connection was reset")

    with pytest.raises(OSError, match="the connection was reset") as caught:
        StoreFile(Broken(), "store://x").read(1)  # type: ignore[arg-type]
    assert caught.value.errno
    with pytest.raises(FileNotFoundError) as missing:
        Folder("memory://nothing-here").read("x")
    assert missing.value.errno
