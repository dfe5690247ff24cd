"""Scoring a task beside lm-eval's own model class: `python tests/bench/bench_eval.py [ITEMS]`.

A model of 7M parameters with random weights, 500 items of ARC-Easy and of HellaSwag with four answers each, fp32, one
thread. Both take the requests that lm-eval makes; lm-eval's class runs them one by one, as it does by default, and in
batches of 8. CPU seconds, without imports and opening the model.
"""

import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import pyarrow.parquet as pq
import torch
from lm_eval import evaluator
from lm_eval.models.huggingface import HFLM
from transformers import LlamaConfig, LlamaForCausalLM

from curate.eval import suite, tasks
from curate.eval.model import Model
from curate.models.tokenizer import contract, train

DATA = Path(__file__).parents[3] / "shared" / "data"


def checkpoint(folder: Path) -> str:
    """7M parameters, a vocabulary of 8,192, context 512."""
    texts = pq.read_table(DATA / "text/en_18f_blog.parquet", columns=["text"])["text"].drop_null().to_pylist()
    train(texts, 8192, folder)
    said = contract(str(folder))
    config = LlamaConfig(
        vocab_size=said.vocab_size, hidden_size=256, intermediate_size=768, num_hidden_layers=6, num_attention_heads=4,
        max_position_embeddings=512, bos_token_id=said.bos, eos_token_id=said.eos, tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    return str(folder)


def theirs(folder: str, batch: int, opened: suite.Items) -> Callable[[], Any]:
    model = HFLM(pretrained=folder, device="cpu", dtype="float32", batch_size=batch)

    def run() -> Any:
        found = {opened.task.name: tasks.harness_task(opened)}
        with tasks.quiet():
            return evaluator.evaluate(model, {"tasks": found, "groups": {}}, bootstrap_iters=0)

    return run


def main() -> None:
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    items = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    with tempfile.TemporaryDirectory() as made:
        folder = checkpoint(Path(made))
        model = Model.open(folder)
        for one in suite.open_all(suite.load("small", data=str(DATA / "eval")), items):
            if one.task.name not in ("arc_easy", "hellaswag"):
                continue
            tasks.score_task(model, suite.items_of(one.task, 8))  # whatever is only done once
            ways = {"curate": lambda one=one: tasks.score_task(model, one)}
            ways |= {f"lm-eval, batches of {n}": theirs(folder, n, one) for n in (1, 8)}
            print(f"\n{one.task.name}, {len(one.items)} items")
            ours = 0.0
            for name, run in ways.items():
                begin = time.process_time()
                run()
                took = time.process_time() - begin
                ours = ours or took
                print(f"{name:25} {took:6.1f} CPU s  {took / ours:.2f} x ours")


if __name__ == "__main__":
    main()
