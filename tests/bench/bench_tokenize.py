"""Token datasets beside the tokenizers library alone and datatrove's DocumentTokenizer; packing beside a training run.

`python tests/bench/bench_tokenize.py`; needs the shared data and datatrove. One core, one process, CPU seconds, the same
byte-level BPE of 8,192 tokens. The library gets its documents in memory and throws its tokens away; the block gets them
in memory and writes and shuffles them; ours reads Parquet and writes a dataset with checksums, as the command does.
"""

import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pyarrow as pa
import pyarrow.parquet as pq

from curate.cli.tokenize import token_recipe
from curate.engine import run as engine
from curate.fit.tokenizer import fit
from curate.stages import tokenize as stage
from curate.train.order import order
from curate.train.packing import Packer, Pick
from curate.train.tokens import Tokens

ROUNDS = 3
CONTEXT = 1024
TEXTS = "en_digitalgov_articles en_18f_blog en_masc_mixed_genres web_stackexchange_samples".split()
DATA = Path(__file__).parents[3] / "shared" / "data" / "text"


def cpu_seconds(work: Callable[[], object]) -> float:
    """Median of the rounds."""
    spent = []
    for _ in range(ROUNDS):
        before = time.process_time()
        work()
        spent.append(time.process_time() - before)
    return statistics.median(spent)


def the_block(texts: list[str], tokenizer: Path, scratch: Path) -> Callable[[], object]:
    from datatrove.data import Document
    from datatrove.pipeline.tokens import DocumentTokenizer
    from loguru import logger

    logger.remove()
    logging.disable(logging.WARNING)

    def work() -> object:
        block = DocumentTokenizer(
            str(scratch / f"datatrove{time.monotonic_ns()}"), str(tokenizer / "tokenizer.json"),
            eos_token="<|end_of_text|>", save_final_metadata=False, seed=0,
        )  # fmt: skip
        return block.run(Document(text=text, id=str(i)) for i, text in enumerate(texts))

    return work


def the_command(corpus: Path, tokenizer: Path, scratch: Path) -> float:
    """Of its worker, in the median of the rounds."""
    spent = []
    for number in range(ROUNDS):
        out, store = scratch / f"ours{number}", str(scratch / "store")
        recipe = token_recipe([str(corpus)], str(out), {"tokenizer": str(tokenizer)}, [], store, [])
        spent.append(engine.run(recipe, workers=1).passes[0]["cpu_seconds"])
    return statistics.median(spent)


def packing(tokens: Tokens, method: Any, scratch: Path) -> str:
    begun = time.process_time()
    taken = order(tokens, 0, scratch)
    packer = Packer([tokens], (Pick(0, int(i)) for i in taken), context=CONTEXT, method=method)
    for _ in packer:
        pass
    spent = time.process_time() - begun
    return (
        f"  {method:<9} {packer.counts.tokens / spent / 1e6:6.1f} M tokens/s  {packer.counts.lines(CONTEXT)}"
    )


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as place:
        scratch = Path(place)
        files = [DATA / f"{name}.parquet" for name in TEXTS]
        table = pa.concat_tables(pq.read_table(file, columns=["text"]) for file in files)
        pq.write_table(table.filter(pa.compute.is_valid(table["text"])), scratch / "corpus.parquet")
        texts = pq.read_table(scratch / "corpus.parquet")["text"].to_pylist()
        megabytes = sum(len(text.encode()) for text in texts) / 1e6
        tokenizer = scratch / "tokenizer"
        fit([str(scratch / "corpus.parquet")], str(tokenizer), 8192)
        config = stage.Config(tokenizer=str(tokenizer))
        model = stage.load(config, scratch)
        batch = pa.record_batch(
            {"id": [str(i) for i in range(len(texts))], "text": pa.array(texts, pa.large_string())}
        )
        library = model.tokenizer.library
        found = {
            "tokenizers alone": cpu_seconds(
                lambda: library.encode_batch_fast(texts, add_special_tokens=False)
            ),
            "our stage": cpu_seconds(lambda: stage.tokenize(batch, config, model)),
            "curate tokenize": the_command(scratch / "corpus.parquet", tokenizer, scratch),
            "datatrove's DocumentTokenizer": cpu_seconds(the_block(texts, tokenizer, scratch)),
        }
        print(f"{len(texts):,} documents, {megabytes:.1f} MB; MB/s of CPU time, medians of {ROUNDS} rounds")
        for name, seconds in found.items():
            ratio = found["tokenizers alone"] / seconds
            print(f"  {name:<30} {megabytes / seconds:5.2f} MB/s  {ratio:.2f} x the library")
        tokens = Tokens.open(scratch / "ours0")
        print(f"order and packing of {tokens.documents:,} documents, {int(tokens.lengths.sum()):,} tokens")
        for method in ("chunk", "complete", "best_fit"):
            print(packing(tokens, method, scratch))


if __name__ == "__main__":
    main()
