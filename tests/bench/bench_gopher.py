"""Both Gopher stages beside datatrove's two filters on the same English documents: `python tests/bench/bench_gopher.py`.

One core, CPU seconds, medians of interleaved rounds. datatrove runs on every tenth document (it is slow), as it ships
(spaCy words, split once for both filters by its cache) and with `str.split` in place of spaCy.
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datatrove.pipeline.filters.gopher_quality_filter as quality_module
import datatrove.pipeline.filters.gopher_repetition_filter as repetition_module
import pyarrow as pa
import pyarrow.parquet as pq
from datatrove.data import Document

from curate.stages import gopher_quality, gopher_repetition

DOCUMENTS, EVERY, ROUNDS, OURS_PER_ROUND = 2_000, 10, 3, 5


def documents(folder: Path) -> list[str]:
    """The same share of each file, in turn."""
    texts: list[str] = []
    files = sorted(folder.glob("*.parquet"))
    for path in files:
        column = pq.read_table(path, columns=["text"])["text"].drop_null().to_pylist()
        texts += column[:: max(1, len(column) * len(files) // DOCUMENTS)]
    return texts


def megabytes(texts: list[str]) -> float:
    return sum(len(text.encode()) for text in texts) / 1e6


def ours(texts: pa.Array) -> list[bool]:
    kept: list[bool] = []
    for start in range(0, len(texts), 1024):
        batch = pa.record_batch({"text": texts.slice(start, 1024)})
        batch = gopher_quality.gopher_quality(batch, gopher_quality.Config())
        batch = gopher_repetition.gopher_repetition(batch, gopher_repetition.Config())
        both = zip(
            batch["gopher_quality_pass"].to_pylist(), batch["gopher_repetition_pass"].to_pylist(), strict=True
        )
        kept += [a and b for a, b in both]
    return kept


def theirs(texts: list[str]) -> list[bool]:
    filters = quality_module.GopherQualityFilter(), repetition_module.GopherRepetitionFilter()
    return [all([f.filter(Document(text=text, id="")) is True for f in filters]) for text in texts]


def theirs_with_split(texts: list[str]) -> list[bool]:
    shipped = quality_module.split_into_words
    quality_module.split_into_words = repetition_module.split_into_words = lambda text, language: text.split()
    try:
        return theirs(texts)
    finally:
        quality_module.split_into_words = repetition_module.split_into_words = shipped


def timed(work: Callable[[Any], list[bool]], texts: Any, size: float) -> tuple[float, list[bool]]:
    start = time.process_time()
    kept = work(texts)
    return size / (time.process_time() - start), kept


def main() -> None:
    """Print MB/s, ratios and the agreement of keep decisions."""
    default = Path(__file__).parents[3] / "shared" / "data" / "text"
    texts = documents(Path(sys.argv[1]) if len(sys.argv) > 1 else default)
    few = texts[::EVERY]
    column, size, few_size = pa.array(texts, pa.large_string()), megabytes(texts), megabytes(few)
    mine = ours(column)[::EVERY]  # and compile
    theirs(few[:2])  # and load
    speeds: dict[str, list[float]] = {"curate": [], "datatrove, spaCy": [], "datatrove, str.split": []}
    kept: dict[str, list[bool]] = {}
    for _ in range(ROUNDS):
        for _ in range(OURS_PER_ROUND):
            speeds["curate"].append(timed(ours, column, size)[0])
        for name, work in ("datatrove, spaCy", theirs), ("datatrove, str.split", theirs_with_split):
            speed, kept[name] = timed(work, few, few_size)
            speeds[name].append(speed)
    rate = {name: statistics.median(values) for name, values in speeds.items()}
    print(f"{len(texts)} documents, {size:.1f} MB; datatrove on {len(few)}, {few_size:.1f} MB")
    print(f"{'':24}{'MB/s':>8}{'ratio':>8}{'same decision':>15}")
    for name, value in rate.items():
        same = sum(a == b for a, b in zip(mine, kept.get(name, mine), strict=True)) / len(few)
        print(f"{name:24}{value:8.2f}{rate['curate'] / value:8.1f}{same:14.1%}")


if __name__ == "__main__":
    main()
