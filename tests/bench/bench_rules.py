"""The four rule filters together beside datatrove's: `python tests/bench/bench_rules.py [FOLDER]`.

gopher_quality, gopher_repetition, fineweb_quality, c4_quality and c4_lines; one core, CPU seconds, medians of
interleaved rounds. datatrove runs on every tenth document (it is slow), as it ships (spaCy words, split once for all
filters by its cache) and with `str.split` in place of spaCy's words (its sentences are spaCy's in both). Each filter
sees the text as it came and decides by itself, on both sides; below the speeds, what they decide otherwise.
"""

import statistics
import sys
import time
from collections import Counter
from pathlib import Path

import datatrove.pipeline.filters.fineweb_quality_filter as fineweb_module
import datatrove.pipeline.filters.gopher_quality_filter as quality_module
import datatrove.pipeline.filters.gopher_repetition_filter as repetition_module
import pyarrow as pa
from bench_gopher import documents, megabytes
from datatrove.data import Document
from datatrove.pipeline.filters import C4QualityFilter

from curate.stages import c4_lines, c4_quality, fineweb_quality, gopher_quality, gopher_repetition

EVERY, ROUNDS, OURS_PER_ROUND = 10, 3, 3
VERDICTS = {
    "gopher_quality": gopher_quality,
    "gopher_repetition": gopher_repetition,
    "fineweb_quality": fineweb_quality,
    "c4_quality": c4_quality,
}
Reasons = dict[str, list[str | None]]


def ours(texts: pa.Array, seconds: Counter[str] | None = None) -> Reasons:
    """Reasons of every stage; CPU seconds per stage are added to `seconds`."""
    reasons: Reasons = {name: [] for name in VERDICTS}
    seconds = Counter() if seconds is None else seconds
    for start in range(0, len(texts), 1024):
        batch = pa.record_batch({"text": texts.slice(start, 1024)})
        for name, module in VERDICTS.items():
            begin = time.process_time()
            batch = getattr(module, name)(batch, module.Config())
            seconds[name] += time.process_time() - begin
            reasons[name] += batch[f"{name}_reason"].to_pylist()
        begin = time.process_time()
        c4_lines.c4_lines(batch, c4_lines.Config())
        seconds["c4_lines"] += time.process_time() - begin
    return reasons


def theirs(texts: list[str]) -> Reasons:
    filters = {
        "gopher_quality": quality_module.GopherQualityFilter(),
        "gopher_repetition": repetition_module.GopherRepetitionFilter(),
        "fineweb_quality": fineweb_module.FineWebQualityFilter(),
        "c4_quality": C4QualityFilter(),
    }
    reasons: Reasons = {name: [] for name in filters}
    for text in texts:
        for name, judge in filters.items():
            verdict = judge.filter(Document(text=text, id=""))
            reasons[name].append(None if verdict is True else verdict[1])
    return reasons


def theirs_with_split(texts: list[str]) -> Reasons:
    modules = quality_module, repetition_module, fineweb_module
    shipped = quality_module.split_into_words
    for module in modules:
        module.split_into_words = lambda text, language: text.split()
    try:
        return theirs(texts)
    finally:
        for module in modules:
            module.split_into_words = shipped


def print_disagreements(mine: Reasons, other: Reasons) -> None:
    """Decisions that differ, by stage and by the two reasons (None: kept)."""
    for name in VERDICTS:
        pairs = list(zip(other[name], mine[name], strict=True))
        differ = Counter((str(b), str(a)) for b, a in pairs if (a is None) != (b is None))
        print(f"{name}: {1 - differ.total() / len(pairs):.1%} of {len(pairs)} decisions agree")
        for (b, a), count in differ.most_common():
            print(f"    {count:5}  datatrove {b}, curate {a}")


def main() -> None:
    """Print MB/s, ratios, each stage's share, and the disagreements with datatrove as it ships."""
    default = Path(__file__).parents[3] / "shared" / "data" / "text"
    texts = documents(Path(sys.argv[1]) if len(sys.argv) > 1 else default)
    few = texts[::EVERY]
    column, size, few_size = pa.array(texts, pa.large_string()), megabytes(texts), megabytes(few)
    mine = {name: reasons[::EVERY] for name, reasons in ours(column).items()}  # and compile
    theirs(few[:2])  # and load
    speeds: dict[str, list[float]] = {"curate": [], "datatrove, spaCy": [], "datatrove, str.split": []}
    seconds: Counter[str] = Counter()
    for _ in range(ROUNDS):
        for _ in range(OURS_PER_ROUND):
            begin = time.process_time()
            ours(column, seconds)
            speeds["curate"].append(size / (time.process_time() - begin))
        for name, work in ("datatrove, spaCy", theirs), ("datatrove, str.split", theirs_with_split):
            begin = time.process_time()
            found = work(few)
            speeds[name].append(few_size / (time.process_time() - begin))
            if work is theirs:
                other = found
    rate = {name: statistics.median(values) for name, values in speeds.items()}
    print(f"{len(texts)} documents, {size:.1f} MB; datatrove on {len(few)}, {few_size:.1f} MB")
    print(f"{'':24}{'MB/s':>8}{'ratio':>8}")
    for name, value in rate.items():
        print(f"{name:24}{value:8.2f}{rate['curate'] / value:8.1f}")
    for name, spent in seconds.items():
        print(f"    {name:20}{size * ROUNDS * OURS_PER_ROUND / spent:8.1f} MB/s")
    print_disagreements(mine, other)


if __name__ == "__main__":
    main()
