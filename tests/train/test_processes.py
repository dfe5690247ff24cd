"""Runs in processes of their own: killed at any moment, and two together."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason='needs pip install "curate[train]"')
pytest.importorskip("transformers", reason='needs pip install "curate[train]"')

from safetensors.torch import load_file  # noqa: E402

from curate.train import checkpoint  # noqa: E402
from curate.train.distributed import Processes, slurm_job  # noqa: E402
from curate.train.loop import records  # noqa: E402

SETS = [
    "width=16", "layers=2", "heads=2", "kv_heads=2", "context=16", "batch=4", "lr=0.01", "device=cpu", "precision=fp32", "threads=1",
    "checkpoint_every=3", "packing=best_fit",
]  # fmt: skip


@pytest.fixture
def command(token_dataset) -> Callable[[Path, int], list[str]]:
    rng = random.Random(0)
    documents = [[rng.randrange(3, 64)] * rng.randrange(1, 40) for _ in range(600)]
    tokens = token_dataset(documents)

    def line(output: Path, steps: int) -> list[str]:
        sets = [word for one in SETS for word in ("--set", one)]
        return ["train", str(tokens), "-o", str(output), "--tokens", str(steps * 64), *sets, "--quiet"]

    return line


def curate(words: list[str], **options) -> subprocess.Popen[bytes]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    code = "import sys; from curate.cli.main import main; main()"
    return subprocess.Popen([sys.executable, "-c", code, *words], env=environment, **options)


@pytest.mark.slow
def test_kills_at_any_moment_leave_a_run_that_goes_on(command, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert curate(command(whole, 100)).wait() == 0
    rng, kills = random.Random(1), 0
    for _ in range(4):
        running = curate(command(killed, 100))
        began = len(records(killed)) if killed.exists() else 0
        want = began + rng.randrange(1, 40)
        while running.poll() is None and len(records(killed)) < want:
            time.sleep(0.02)
        if running.poll() is None:
            running.send_signal(signal.SIGKILL)
            kills += 1
        running.wait()
        for path in checkpoint.found(killed):
            assert checkpoint.open_training(path).state.step == checkpoint.step_of(path)
            load_file(path / "model.safetensors")
    assert curate(command(killed, 100)).wait() == 0
    assert kills > 1
    assert [r["loss"] for r in records(killed)] == [r["loss"] for r in records(whole)]
    assert (killed / "final/model.safetensors").read_bytes() == (
        whole / "final/model.safetensors"
    ).read_bytes()


@pytest.mark.slow
def test_two_processes_are_one_with_the_same_batch(command, tmp_path: Path) -> None:
    labels = ["--set", "count=loss"]
    assert curate([*command(tmp_path / "one", 30), *labels]).wait() == 0
    words = [
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--standalone",
        "--no-python",
        sys.executable,
    ]
    code = "import sys; from curate.cli.main import main; main()"
    line = [sys.executable, *words, "-c", code, *command(tmp_path / "two", 30), *labels]
    subprocess.run(line, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    one, two = records(tmp_path / "one"), records(tmp_path / "two")
    assert [r["loss"] for r in two] == pytest.approx([r["loss"] for r in one], abs=1e-5)
    assert [r["grad_norm"] for r in two] == pytest.approx([r["grad_norm"] for r in one], rel=1e-3)
    assert [r["loss_tokens"] for r in two] == [r["loss_tokens"] for r in one]
    assert 30 * 64 - 64 < one[-1]["loss_tokens"] <= 30 * 64
    fingerprints = [
        json.loads((tmp_path / name / "train.json").read_text())["fingerprint"] for name in ("one", "two")
    ]
    assert fingerprints[0] == fingerprints[1]


def test_a_process_takes_its_part_of_a_step() -> None:
    from curate.errors import ConfigError

    cpu = torch.device("cpu")
    assert [Processes(cpu, rank, 2).share(6) for rank in (0, 1)] == [slice(0, 3), slice(3, 6)]
    with pytest.raises(ConfigError, match="do not divide over 4 processes"):
        Processes(cpu, 0, 4).share(6)


def test_a_job_runs_the_same_command_on_every_node() -> None:
    job = slurm_job("curate train tokens -o out --quiet", 2, 8, "out")
    assert subprocess.run(["bash", "-n"], input=job.encode(), check=False).returncode == 0
    assert "#SBATCH --nodes=2\n" in job
    assert "--nnodes=2 --nproc-per-node=8" in job
    assert "--no-python curate train tokens -o out --quiet\n" in job
