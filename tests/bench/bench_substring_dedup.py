"""substring_dedup beside a suffix array in memory, and on four times its memory: `python tests/bench/bench_substring_dedup.py [DATA] [MB]`.

First all text of DATA with `remove: all`: CPU seconds and peak memory of a run with one worker beside those of
pydivsufsort over the same bytes (suffix array, then neighbours compared; no reading, no cutting, no writing), and
whether both take the same number of characters. Then a corpus four times the memory that the worker may have (MB,
default 512, enforced by the engine): the words of DATA in another order in each document, with passages planted, of
which the later ones must go. Five to eight minutes of CPU in all.
"""

import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.engine.run import run
from curate.recipe.recipe import from_tree
from curate.recipe.tree import Tree

LENGTH = 100
PLANTED, TIMES, EVERY = 400, 25, 6  # different passages, how often each, documents between two of them
MEMORY_MB = 32  # of what is compared at once


def texts_of(data: Path) -> list[str]:
    """All texts of the folder."""
    files = sorted((data / "text").glob("*.parquet"))
    return [text for file in files for text in pq.read_table(file)["text"].drop_null().to_pylist()]


def write(path: Path, rows: Any) -> int:
    """Texts as Parquet with row groups of about 4 MB; returns their bytes."""
    schema, total, held, size = pa.schema({"text": pa.large_string()}), 0, [], 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for text in rows:
            held.append(text)
            size += len(text)
            if size > 4 << 20:
                table = pa.table({"text": held}, schema)
                writer.write_table(table)
                total, held, size = total + table.nbytes, [], 0
        writer.write_table(pa.table({"text": held}, schema))
    return total + size


def write_apart(*arguments: object) -> int:
    """`write` in a process of its own: a worker's peak, as Linux counts it, begins with the size of its parent."""
    command = [sys.executable, __file__, "--write", *map(str, arguments)]
    return int(subprocess.run(command, capture_output=True, check=True).stdout)


def ours(source: Path, folder: Path, options: dict[str, Any], cap_mb: int) -> Any:
    """Result of a run with one worker."""
    shutil.rmtree(folder, ignore_errors=True)
    recipe = {
        "input": {"path": str(source)}, "stages": [{"substring_dedup": options}], "unit_mb": 64,
        "output": {"path": str(folder / "out")},
    }  # fmt: skip
    return run(from_tree(Tree(recipe, "recipe")), workers=1, max_memory_mb=cap_mb)


def removed_chars(folder: Path) -> int:
    """Characters that went, those of dropped documents too."""
    kept = sum(
        pc.sum(pq.read_table(part, columns=["substring_dedup_removed_chars"]).column(0)).as_py() or 0
        for part in folder.glob("out/part-*.parquet")
    )
    dropped = folder.glob("out/_dropped/*/part-*.parquet")
    return kept + sum(
        pc.sum(pc.utf8_length(pq.read_table(p, columns=["text"]).column(0))).as_py() for p in dropped
    )


def peer(source: str) -> None:
    """Print what a suffix array in memory says: CPU seconds, peak memory, characters that go."""
    import pydivsufsort

    texts = pq.read_table(source)["text"].to_pylist()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    data = b"\xff".join(text.encode() for text in texts)
    start = time.process_time()
    found = pydivsufsort.divsufsort(data)
    common = pydivsufsort.kasai(data, found)
    symbols = np.frombuffer(data, np.uint8)
    same = (
        np.flatnonzero(common[:-1] >= LENGTH)
        if len(common) == len(data)
        else np.flatnonzero(common >= LENGTH)
    )
    starts = np.unique(np.concatenate([found[same], found[same + 1]]))
    ends = np.flatnonzero(np.append(symbols, 0xFF) == 0xFF)
    starts = starts[ends[np.searchsorted(ends, starts)] >= starts + LENGTH]  # within one document
    edges = np.zeros(len(data) + 1, np.int32)
    np.add.at(edges, starts, 1)
    np.add.at(edges, starts + LENGTH, -1)
    gone = np.cumsum(edges[:-1]) > 0
    seconds = time.process_time() - start
    first = np.flatnonzero((symbols & 0xC0 != 0x80) & (symbols != 0xFF))
    whole = np.minimum.reduceat(
        gone, np.flatnonzero(symbols & 0xC0 != 0x80)
    )  # a character goes when all its bytes do
    chars = int(whole[np.isin(np.flatnonzero(symbols & 0xC0 != 0x80), first)].sum())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak": peak, "before": before, "chars": chars}))


def planted(texts: list[str], megabytes: int) -> Any:
    """Documents of 20 kB whose words stand in an order of their own, EVERY'th with a passage at the end."""
    draw = np.random.default_rng(1)
    words = np.array([word for text in texts[::40] for word in text.split() if len(word) < 40], object)
    prose = "\n".join(texts[:2000])
    passages = [prose[i * 4000 : i * 4000 + 150 + 5 * i] for i in range(PLANTED)]
    turns = draw.permutation(np.repeat(np.arange(PLANTED), TIMES))
    total, row, turn = 0, 0, 0
    while total < megabytes * 1e6:
        text = " ".join(words[draw.integers(0, len(words), 3500)])
        if row % EVERY == 0 and turn < len(turns):
            text = f"{text} \N{PILCROW SIGN}{row % 10}{passages[turns[turn]]}"
            turn += 1
        total, row = total + len(text.encode()), row + 1
        yield text


def beside(data: Path, folder: Path) -> float:
    """The first question; returns how many bytes of memory the suffix array took for one of text."""
    size = write_apart(data, folder / "all.parquet") / 1e6
    pq.write_table(pq.read_table(folder / "all.parquet").slice(0, 20), folder / "few.parquet")
    ours(
        folder / "few.parquet", folder / "few", {"remove": "all", "min_chars": 0}, 1024
    )  # kernels are compiled once
    result = ours(folder / "all.parquet", folder / "all", {"remove": "all", "min_chars": 0}, 1024)
    seconds = sum(one["cpu_seconds"] for one in result.passes)
    peak = max(one["peak_rss_bytes"] for one in result.passes) / 2**20
    mine = removed_chars(folder / "all")
    done = subprocess.run(
        [sys.executable, __file__, "--peer", str(folder / "all.parquet")], capture_output=True, check=True
    )
    other = json.loads(done.stdout)
    print(f"{size:.1f} MB of text, remove: all")
    print(
        f"  curate        {size / seconds:6.2f} MB per CPU second, all in; peak of the worker {peak:.0f} MB"
    )
    print(
        f"  pydivsufsort  {size / other['seconds']:6.2f} MB per CPU second, search alone; peak {other['peak']:.0f} MB"
    )
    print(f"  ratio {other['seconds'] / seconds:.2f} x; characters that go: {mine:,} and {other['chars']:,}")
    return float(other["peak"] - other["before"]) * 2**20 / (size * 1e6)


def four_times(data: Path, folder: Path, cap_mb: int, in_memory: float) -> None:
    """The second question."""
    size = write_apart(data, folder / "big.parquet", 4 * cap_mb * 2**20 // 10**6 + 1) / 1e6
    start = time.perf_counter()
    result = ours(folder / "big.parquet", folder / "big", {"memory_mb": MEMORY_MB}, cap_mb)
    seconds = sum(one["cpu_seconds"] for one in result.passes)
    peaks = [one["peak_rss_bytes"] / 2**20 for one in result.passes]
    expected = sum((TIMES - 1) * (150 + 5 * i) for i in range(PLANTED))
    store = sum(f.stat().st_size for f in (folder / "big" / ".curate").rglob("*") if f.is_file()) / 1e6
    print(f"{size:.0f} MB of text, a worker of at most {cap_mb} MB, memory_mb: {MEMORY_MB}")
    print(f"  a suffix array in memory would take {in_memory * size / 1000:.0f} GB, as above")
    print(f"  peak of the worker, MB after each phase: {', '.join(f'{p:.0f}' for p in peaks)}")
    print(
        f"  {size / seconds:.2f} MB per CPU second; {time.perf_counter() - start:.0f} s; work store {store:.0f} MB"
    )
    print(
        f"  characters that went: {removed_chars(folder / 'big'):,} (planted {expected:,}, less what the texts repeat)"
    )


def main() -> None:
    """Print both."""
    if sys.argv[1:2] == ["--peer"]:
        peer(sys.argv[2])
        return
    if sys.argv[1:2] == ["--write"]:
        texts = texts_of(Path(sys.argv[2]))
        print(
            write(Path(sys.argv[3]), planted(texts, int(sys.argv[4])) if len(sys.argv) > 4 else iter(texts))
        )
        return
    data = Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data")
    with tempfile.TemporaryDirectory(prefix="curate-bench-") as scratch:
        in_memory = beside(data, Path(scratch))
        four_times(data, Path(scratch), int(sys.argv[2]) if len(sys.argv) > 2 else 512, in_memory)


if __name__ == "__main__":
    main()
