"""The training loop beside a bare PyTorch loop of the same model, on CPU: `python tests/bench/bench_train.py [SIZE]`.

The bare loop has its batches in memory, no masks, no log: forward, mean loss, backward, clip, fused AdamW. Ours packs
from mapped tokens, normalises by the labels of the step, logs. Steps of both are interleaved on one thread; medians of
CPU seconds a step. Then ours on real text against as many random tokens in documents of the same lengths.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import xxhash
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch.nn.functional import cross_entropy

from curate.models.tokenizer import Contract
from curate.train import run, settings
from curate.train.distributed import Processes
from curate.train.feed import Feed
from curate.train.loop import Loop, adamw
from curate.train.model import build
from curate.train.tokens import CONTRACT

VOCABULARY, DOCUMENTS, ROUNDS, STEPS = 1024, 1500, 12, 10


def texts(folder: Path) -> list[str]:
    """Some documents of each file."""
    found: list[str] = []
    files = sorted(folder.glob("*.parquet"))
    for path in files:
        column = pq.read_table(path, columns=["text"])["text"].drop_null().to_pylist()
        found += [text[:20_000] for text in column[:: max(1, len(column) * len(files) // DOCUMENTS)]]
    return found


def tokenized(documents: list[str]) -> list[list[int]]:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=["<s>", "</s>"], show_progress=False)
    made.train_from_iterator(documents[::10], special)
    return [one.ids for one in made.encode_batch_fast(documents, add_special_tokens=False)]


def dataset(folder: Path, documents: list[list[int]]) -> Path:
    """A token dataset as `curate tokenize` makes it."""
    contract = Contract(tokenizer="", vocab_size=VOCABULARY, bos=0, eos=1, special={})
    names = [str(i) for i in range(len(documents))]
    columns = {
        "id": names,
        "key": pa.array([xxhash.xxh3_64_intdigest(name) for name in names], pa.uint64()),
        "tokens": pa.array(documents, pa.large_list(pa.uint16())),
        "prefix": pa.array([0] * len(documents), pa.int32()),
        "n_bytes": pa.array([4 * len(one) for one in documents], pa.int64()),
    }
    table = pa.table(columns).replace_schema_metadata({CONTRACT: msgspec.json.encode(contract)})
    (folder / "_curate").mkdir(parents=True)
    with pa.ipc.new_file(folder / "part-00000.arrow", table.schema) as file:
        file.write_table(table)
    (folder / "_curate/manifest.json").write_text("{}")
    return folder


def ours(tokens: Path, size: str, *sets: str) -> Loop:
    """The loop as `curate train` makes it, at its first step."""
    given = settings.load("", ["device=cpu", *sets], {"size": size, "tokens": 1_000_000})
    prepared = run.prepare([tokens], tokens.parent / "out", given)
    machine = run.machine_of(prepared.settings, Processes(torch.device("cpu")))
    feed = Feed(prepared.datasets, prepared.plan, prepared.settings, tokens.parent / "order")
    model, state, optimizer = run._begin(prepared, machine, feed)
    return Loop(tokens.parent, prepared.settings, model, optimizer, feed, state, machine, lambda record: None)


def bare(loop: Loop) -> Callable[[], Any]:
    """A step of the plainest loop over the same model, batch and context."""
    now = loop.settings
    torch.manual_seed(0)
    model = build(now, loop.feed._datasets[0].contract).train()
    optimizer = adamw(model, now)
    batches = [torch.randint(2, VOCABULARY, (now.batch, now.context + 1)) for _ in range(50)]
    at = 0

    def step() -> float:
        nonlocal at
        batch = batches[at % len(batches)]
        at += 1
        with torch.autocast("cpu", torch.bfloat16, enabled=loop.machine.bf16):
            logits = model(input_ids=batch[:, :-1], use_cache=False).logits
            loss = cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return step


def interleaved(steps: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Median CPU seconds of a step of each, taken in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(ROUNDS):
        for name, step in steps.items():
            for _ in range(STEPS):
                start = time.process_time()
                step()
                seconds[name].append(time.process_time() - start)
    return {name: statistics.median(taken[STEPS:]) for name, taken in seconds.items()}


def main() -> None:
    """Print tokens/s and the ratios."""
    size = sys.argv[1] if len(sys.argv) > 1 else "1m"
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        real = tokenized(texts(Path(__file__).parents[3] / "shared" / "data" / "text"))
        random = np.random.default_rng(0)
        made = [random.integers(2, VOCABULARY, len(one)).tolist() for one in real]
        folders = {
            "real": dataset(Path(scratch, "a", "tokens"), real),
            "synthetic": dataset(Path(scratch, "b", "tokens"), made),
        }
        loops = {name: ours(folder, size) for name, folder in folders.items()}
        loops["no document mask"] = ours(folders["real"], size, "document_mask=false")
        for loop in loops.values():
            loop.model.train()
        now = loops["real"].settings
        took = interleaved({"bare": bare(loops["real"])} | {name: loop.step for name, loop in loops.items()})
    for name, seconds in took.items():
        rate = now.batch * now.context / seconds
        print(
            f"{name:<18} {1000 * seconds:8.2f} ms/step {rate:10,.0f} tokens/s {took['bare'] / seconds:6.3f} x bare"
        )
    print(f"{size}, {now.precision}, batch {now.batch} x {now.context}, one thread")
    print(f"real / synthetic step time {took['real'] / took['synthetic']:.3f}")


if __name__ == "__main__":
    main()
