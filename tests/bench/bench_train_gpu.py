"""Training on one GPU: `python tests/bench/bench_train_gpu.py loop [SIZE]` or `... arms [PROCESSES...]`.

loop  tokens/s and MFU of our loop beside a bare one of the same model and batch (compiled, bf16, fused AdamW; batches on
      the GPU, no masks, no log), steps in turns; ours without the document mask as well. SIZE: 135m; the vocabulary is
      of 1,024 tokens whatever the size
arms  12 arms x 3 seeds at 30m, so many processes side by side (4, 8, 12), as `curate ablate --workers N` starts them,
      against one after another, of which three are run and counted 12 times. The time is that of the wall, start and
      compilation in it. Where NVIDIA's MPS runs (`nvidia-cuda-mps-control -d`) processes share the GPU at the same time
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_train import VOCABULARY, dataset
from torch.nn.functional import cross_entropy

from curate.train import run, settings
from curate.train import size as sizes
from curate.train.distributed import Processes
from curate.train.feed import Feed
from curate.train.loop import Loop, adamw
from curate.train.model import build

ROUNDS, STEPS, WARM = 6, 10, 10
ARMS, SEEDS, TOKENS = 12, 3, 20_000_000


def random_tokens(folder: Path, tokens: int) -> Path:
    """Documents of 50 to 2,000 random tokens."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(50, 2000, tokens // 1000)
    return dataset(folder, [rng.integers(2, VOCABULARY, n, np.uint16) for n in lengths])


def budget(size: str) -> int:
    """Tokens of more steps than are taken."""
    one = sizes.find(size)
    return one.batch * one.context * (WARM + ROUNDS * STEPS + 10)


def ours(tokens: Path, size: str, *sets: str) -> Loop:
    given = settings.load("", ["device=cuda", *sets], {"size": size, "tokens": budget(size)})
    prepared = run.prepare([tokens], tokens.parent / "out", given)
    machine = run.machine_of(prepared.settings, Processes(torch.device("cuda:0")))
    feed = Feed(prepared.datasets, prepared.plan, prepared.settings, tokens.parent / "order")
    model, state, optimizer = run._begin(prepared, machine, feed)
    loop = Loop(tokens.parent, prepared.settings, model, optimizer, feed, state, machine, lambda record: None)
    loop.model.train()
    return loop


def bare(loop: Loop) -> Callable[[], Any]:
    """A step of the plainest loop over the same model, batch and micro-batches."""
    now, micro = loop.settings, loop.machine.micro_batch
    model = build(now, loop.feed._datasets[0].contract).train().cuda()
    optimizer, compiled = adamw(model, now), torch.compile(model)
    batch = torch.randint(2, VOCABULARY, (now.batch, now.context + 1), device="cuda")

    def step() -> None:
        for piece in batch.split(micro):
            with torch.autocast("cuda", torch.bfloat16):
                logits = compiled(input_ids=piece[:, :-1], use_cache=False).logits
                loss = cross_entropy(logits.flatten(0, 1).float(), piece[:, 1:].flatten())
            (loss * len(piece) / now.batch).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def interleaved(steps: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Median seconds of a step of each, taken in turns."""
    for step in steps.values():
        for _ in range(WARM):
            step()
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(ROUNDS):
        for name, step in steps.items():
            torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(STEPS):
                step()
            torch.cuda.synchronize()
            seconds[name].append((time.perf_counter() - start) / STEPS)
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def loop(size: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        tokens = random_tokens(Path(scratch, "tokens"), int(1.2 * budget(size)))
        loops = {
            "ours": ours(tokens, size),
            "no document mask": ours(tokens, size, "document_mask=false"),
        }
        first = loops["ours"]
        took = interleaved({"bare": bare(first)} | {name: one.step for name, one in loops.items()})
    now, peak = first.settings, first.machine.peak_flops
    for name, seconds in took.items():
        rate = now.batch * now.context / seconds
        mfu = f"MFU {rate * first._flops / peak:.1%}" if peak else "MFU not known"
        print(f"{name:<18} {rate:12,.0f} tokens/s  {mfu}  {took['bare'] / seconds:6.3f} x bare")
    print(f"{size}, {now.precision}, batch {now.batch} x {now.context}, {torch.cuda.get_device_name()}")


def worked(tokens: Path, folder: Path, runs: Sequence[int], processes: int) -> float:
    """Seconds for runs of these seeds, so many at a time."""
    waiting, going = list(runs), list[subprocess.Popen[bytes]]()
    code = "from curate.cli.main import main; main()"
    start = time.perf_counter()
    while waiting or going:
        while waiting and len(going) < processes:
            seed = waiting.pop(0)
            words = (
                "train",
                tokens,
                "-o",
                folder / str(seed),
                "--size",
                "30m",
                "--tokens",
                TOKENS,
                "--seed",
                seed,
            )
            sets = ("--set", "device=cuda", "--set", "threads=1", "--quiet")
            going.append(subprocess.Popen([sys.executable, "-c", code, *map(str, (*words, *sets))]))
        for one in [one for one in going if one.poll() is not None]:
            assert one.returncode == 0
            going.remove(one)
        time.sleep(0.05)
    return time.perf_counter() - start


def arms(counts: Sequence[int]) -> None:
    every = ARMS * SEEDS
    with tempfile.TemporaryDirectory() as scratch:
        tokens = random_tokens(Path(scratch, "tokens"), int(1.2 * TOKENS))
        worked(tokens, Path(scratch, "cold"), [0], 1)  # what is compiled once is cached for all
        alone = worked(tokens, Path(scratch, "alone"), range(3), 1) / 3 * every
        print(f"one after another  {alone:8,.0f} s (3 runs, times {every // 3})")
        for count in counts:
            took = worked(tokens, Path(scratch, f"by-{count}"), range(every), count)
            print(f"{count:>2} side by side    {took:8,.0f} s  {alone / took:5.2f} x sooner")
    print(f"{ARMS} arms x {SEEDS} seeds, 30m, {TOKENS:,} tokens each, {torch.cuda.get_device_name()}")


if __name__ == "__main__":
    if not torch.cuda.is_available():
        sys.exit("torch sees no GPU here")
    what, *more = sys.argv[1:] or ["loop"]
    if what == "arms":
        arms([int(one) for one in more] or [4, 8, 12])
    else:
        loop(*(more or ["135m"]))
