"""What adding 1% to an index costs: `python tests/bench/bench_index.py [--seconds N] [TIMES...]`.

1x is 100,000 documents (150 MB of text), about the least that one keeps an index of; by default 1x, 10x and 100x are
measured, each only where it should end within so many seconds of the start (default 1,200), as the size before it tells.
For each size: CPU seconds of `curate run` with minhash_dedup over all documents (written as ever), of `curate index
build`, and of `curate index add` of 1% more. The last is told apart: what an addition of twenty documents costs is
starting and ending, the rest is the addition's own. Documents are passages of real text, from the 70,000th on with their
words shuffled; a fifth are copies of earlier ones with words changed. One worker; each command is a process of its own,
and all of its processes are counted; of additions the median of three.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

DATA = Path(__file__).parents[3] / "shared/data/text"
UNIT, TIMES, SECONDS = 100_000, (1, 10, 100), 1200
PASSAGE_BYTES, COPIES, EDITS, TURNS, FEW, FILE = 1500, 0.2, 5, 3, 20, 20_000


def passages() -> list[np.ndarray]:
    """The words of all passages of the shared texts."""
    found = []
    for file in sorted(DATA.glob("*.parquet")):
        for text in pq.read_table(file, columns=["text"])["text"].to_pylist():
            found += [text[i : i + PASSAGE_BYTES] for i in range(0, len(text), PASSAGE_BYTES)]
    return [np.array(text.split(), object) for text in found if len(text) > PASSAGE_BYTES // 2]


def document(texts: list[np.ndarray], i: int) -> str:
    """Document number i: the same whenever it is asked for."""
    draw = np.random.default_rng(i)
    near = i > 10 and draw.random() < COPIES
    source = int(draw.integers(i)) if near else i
    words = texts[source % len(texts)]
    words = words[np.random.default_rng([source]).permutation(len(words))] if source >= len(texts) else words
    if near:
        words = words.copy()
        words[draw.integers(len(words), size=EDITS)] = f"edit{i}"
    return " ".join(words)


def corpus(folder: Path, texts: list[np.ndarray], begin: int, count: int) -> str:
    """Documents number begin to begin + count, in files."""
    folder.mkdir()
    for at in range(begin, begin + count, FILE):
        numbers = range(at, min(at + FILE, begin + count))
        rows = pa.array([document(texts, i) for i in numbers], pa.large_string())
        table = pa.table({"id": [f"d{i}" for i in numbers], "text": rows})
        pq.write_table(table, folder / f"{at:012d}.parquet", row_group_size=2000)
    return str(folder)


def cpu(*arguments: str) -> float:
    """CPU seconds of a `curate` command, its workers included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-c", "from curate.cli.main import main; main()", *arguments, "--quiet"]
    subprocess.run(command, check=True)
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    return now.ru_utime + now.ru_stime - before.ru_utime - before.ru_stime


def measure(base: Path, texts: list[np.ndarray], size: int) -> None:
    """Print a line."""
    from curate.index.index import Index

    whole, path = corpus(base / "in", texts, 0, size), str(base / "index")
    recipe = {
        "input": {"path": whole, "id": "id"}, "stages": [{"minhash_dedup": {}}], "output": {"path": str(base / "out")},
        "guards": {"allow": ["max_drop"]},
    }  # fmt: skip
    (base / "recipe.yaml").write_text(json.dumps(recipe))
    one = ("--workers", "1")
    full = cpu("run", str(base / "recipe.yaml"), *one)
    build = cpu("index", "build", path, whole, *one)
    costs: dict[int, list[float]] = {size // 100: [], FEW: []}
    for turn in range(TURNS):
        for count, found in costs.items():
            some = corpus(base / f"{turn}-{count}", texts, size * (turn + 2) + count, count)
            found.append(cpu("index", "add", path, some, *one))
    added, least = (statistics.median(found) for found in costs.values())
    index = Index(path)
    text_bytes = sum(file.stat().st_size for file in (base / "in").iterdir()) / size
    index_bytes = sum(sum(run.bytes.values()) for run in index.manifest.runs) / index.documents
    print(
        f"{size:>10,} documents: run {full:.1f} s, build {build:.1f} s, add 1% {added:.2f} s = {added / full:.1%}"
    )
    print(f"{'':>10} {least:.2f} s of it to start and end ({least / full:.1%}), {added - least:.2f} s beyond ({(added - least) / full:.1%})")  # fmt: skip
    print(
        f"{'':>10} {index_bytes:,.0f} bytes a document in the index, {text_bytes:,.0f} in compressed Parquet"
    )


def main() -> None:
    """Print what each size costs, as far as the time goes."""
    asked = argparse.ArgumentParser()
    asked.add_argument("times", nargs="*", type=int, default=TIMES)
    asked.add_argument("--seconds", type=float, default=SECONDS)
    given = asked.parse_args()
    started, texts = time.monotonic(), passages()
    with tempfile.TemporaryDirectory() as warm:
        measure(Path(warm), texts, 200)  # kernels are compiled
    took, before = 0.0, 0
    for times in given.times:
        left = given.seconds - (time.monotonic() - started)
        if before and took * times / before > left:
            print(f"{times * UNIT:>10,} documents: not run, {left:.0f} s are left (--seconds)")
            return
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            measure(Path(folder), texts, times * UNIT)
        took, before = time.monotonic() - began, times
        print(f"{'':>10} {took:.0f} s in all", flush=True)


if __name__ == "__main__":
    main()
