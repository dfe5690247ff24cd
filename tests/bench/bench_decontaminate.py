"""`decontaminate` beside datatrove's n-gram filter: `python tests/bench/bench_decontaminate.py [TEXT] [EVAL]`.

One core, CPU seconds, medians of interleaved rounds, index loaded before. datatrove's indexer asks for lighteval, so its index
is made by its own `compute_hashes`, of the planted items and every 20th other (all take minutes); its filter runs on every 50th
document. Right of the speeds: which planted copies of real items each finds (recall, by how the copy was changed), and what it drops of the text
as it is, which holds none.
"""

import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from bench_gopher import documents, megabytes
from datatrove.data import Document
from datatrove.pipeline.decont.n_grams import NGramsDecontFilter, NGramsDecontIndexer

from curate.stages import decontaminate as stage
from curate.stages._evaluation import Item, Set, items

EVERY, ROUNDS, PLANTED = 50, 3, 200
METHODS = ("rarity", "coverage", "window", "datatrove")
Judge = Callable[[list[str]], list[bool]]


def ours(config: stage.Config, found: Any) -> Judge:
    def judge(texts: list[str]) -> list[bool]:
        hit: list[bool] = []
        for start in range(0, len(texts), 1024):
            batch = pa.record_batch({"text": pa.array(texts[start : start + 1024], pa.large_string())})
            counts = stage.decontaminate(batch, config, found)["decontaminate_num_items"]
            hit += [count > 0 for count in counts.to_pylist()]
        return hit

    return judge


def theirs(every: list[Item], folder: Path) -> Judge:
    """datatrove's filter with an index of all items."""
    indexer = object.__new__(NGramsDecontIndexer)  # its constructor asks for lighteval
    block = NGramsDecontFilter(str(folder))
    indexer.config, indexer.tokenizer, indexer.hash_func = block.config, block.tokenizer, block.hash_func
    hashes = {
        h for item in every for answer in item.answers for h in indexer.compute_hashes(answer, item.question)
    }
    np.array(sorted(hashes), np.uint64).tofile(folder / "all.index.hashes")
    return lambda texts: [block.filter(Document(text=text, id="")) is not True for text in texts]


def copies(some: list[Item]) -> dict[str, list[str]]:
    """Texts that hold an item each, changed in one way."""
    rng = np.random.default_rng(0)
    plain = [f"{item.question}\nAnswer: {item.answers[0]}" for item in some]

    def edited(text: str, num: int) -> str:
        words = text.split(" ")
        for place in rng.choice(len(words), min(num, len(words)), replace=False):
            words[place] = "zzz"
        return " ".join(words)

    changed = {
        "verbatim": plain,
        "re-cased": [text.upper() for text in plain],
        "re-punctuated": [re.sub(r"[.,;:?!]", " -", text) for text in plain],
        "one word edited": [edited(text, 1) for text in plain],
        "three words edited": [edited(text, 3) for text in plain],
        "question alone": [item.question for item in some],
    }
    return {
        name: [f"Some text.\n\n{text}\n\nMore of it." for text in texts] for name, texts in changed.items()
    }


def main() -> None:
    """Print MB/s, ratios, recall by kind of copy, and documents of the clean text that are hit."""
    data = Path(__file__).parents[3] / "shared" / "data"
    text, sets = (
        Path(a) if a else data / b for a, b in zip((*sys.argv[1:], "", "")[:2], ("text", "eval"), strict=True)
    )
    texts, every = documents(text), [item for item in items([Set(path=str(sets))]) if item.answers]
    some_items = every[:: len(every) // PLANTED]
    planted = copies(some_items)
    with tempfile.TemporaryDirectory() as store:
        judges: dict[str, Judge] = {}
        for method in METHODS:
            config = stage.Config(sets=(Set(path=str(sets)),), method=method)  # type: ignore[arg-type]
            judges[f"curate, {method}"] = ours(config, stage.load(config, Path(store)))
        judges["datatrove"] = theirs(some_items + every[::20], Path(store))
        speeds: dict[str, list[float]] = {name: [] for name in judges}
        for round_ in range(ROUNDS + 1):
            for name, judge in judges.items():
                some = texts if name != "datatrove" else texts[::EVERY]
                begin = time.process_time()
                judge(some)
                if round_:  # the first compiles and loads
                    speeds[name].append(megabytes(some) / (time.process_time() - begin))
        rate = {name: statistics.median(values) for name, values in speeds.items()}
        print(
            f"{len(texts)} documents, {megabytes(texts):.1f} MB; datatrove on every {EVERY}th; {len(every)} items with answers"
        )
        print(
            f"{'':22}{'MB/s':>8}{'x datatrove':>12}"
            + "".join(f"{name:>20}" for name in planted)
            + f"{'clean text hit':>16}"
        )
        for name, judge in judges.items():
            clean = texts if name != "datatrove" else texts[::EVERY]
            recall = "".join(f"{sum(judge(some)) / len(some):20.1%}" for some in planted.values())
            print(
                f"{name:22}{rate[name]:8.2f}{rate[name] / rate['datatrove']:12.1f}{recall}{sum(judge(clean)):16}"
            )


if __name__ == "__main__":
    main()
