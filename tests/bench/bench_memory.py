"""Peak memory of the worker and of this process as the input grows: `python tests/bench/bench_memory.py`.

Bar: flat within 10% from 1x to 100x. One worker each, units of 4 MB:
rules        both Gopher stages, a select, exact dedup; Parquet of 2 kB documents, every tenth one twice; 80 and 800 MB
fineweb      recipes/fineweb.yaml over pages of HTML (Parquet with a column `html`); 20 MB, 200 MB and 2 GB
new columns  `columns: new`, and
partitions   `partition_by: [lang]`, over the documents of `rules`; 20 and 400 MB

Each line is a fresh process, after one that compiled the kernels: the largest resident size of the worker in each pass, and of the process that ran it.
`python tests/bench/bench_memory.py fineweb --within 1800` runs one of the four, and stops after so many seconds: a size
that would take longer, by the one before it, is not begun.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

import curate
from curate.child import peak_memory_bytes

WORDS = "the quick brown fox jumps over the lazy dog and that is what we have with us to be of use ".split()
RULES = [
    {"gopher_quality": {}},
    {"gopher_repetition": {}},
    {"select": "gopher_quality_num_words >= 50"},
    {"exact_dedup": {}},
]
FINEWEB = Path(__file__).parents[2] / "recipes/fineweb.yaml"
NEW, PARTITIONED = {"columns": "new"}, {"partition_by": ["lang"]}
PLAN: dict[str, tuple[list[Any], dict[str, Any], tuple[int, ...]]] = {  # stages, output, megabytes
    "rules": (RULES, {}, (80, 800)),
    "fineweb": ([], {}, (20, 200, 2000)),
    "new columns": ([{"gopher_quality": {}}, {"token_count": {}}], NEW, (20, 400)),
    "partitions": (RULES[:2], PARTITIONED, (20, 400)),
}


def text(n: int) -> str:
    """2 kB; of one number always the same."""
    return f"{n} " + " ".join(WORDS[(n * j) % 19] for j in range(430))


def documents(megabytes: int) -> Iterator[dict[str, list[Any]]]:
    """Every tenth one twice."""
    for start in range(0, megabytes * 500, 2000):
        numbers = range(start, start + 2000)
        texts = [text(i - 1 if i % 10 == 1 else i) for i in numbers]
        yield {"id": [f"{i}" for i in numbers], "text": texts, "lang": [("en", "de")[i % 2] for i in numbers]}


def pages(megabytes: int) -> Iterator[dict[str, list[Any]]]:
    """Pages of 10 kB, of sentences of Python's own manual in a frame of links: most rules let most of them pass."""
    frame = "".join(f'<li><a href="/{i}">Section {i} of this site</a></li>' for i in range(80))
    manual = " ".join(" ".join(topics.values()).split())
    sentences = np.array(sorted(set(re.findall(r"[A-Z][a-z]+ [a-z][a-z ,'-]{40,200}[.]", manual))))
    draw = np.random.default_rng(0)
    for start in range(0, megabytes * 100, 1000):
        bodies = []
        for _ in range(1000):
            drawn = draw.choice(sentences, (12, 4), replace=False)
            body = "".join(f"<p>{' '.join(four)}</p>" for four in drawn)
            bodies.append(
                f"<html><body><nav><ul>{frame}</ul></nav><article>{body}</article></body></html>".encode()
            )
        yield {"id": [f"{n}" for n in range(start, start + 1000)], "html": bodies}


def write_input(path: Path, name: str, megabytes: int) -> None:
    """One Parquet file of so many megabytes of documents."""
    rows = pages(megabytes) if name == "fineweb" else documents(megabytes)
    first = pa.table(next(rows))
    with pq.ParquetWriter(path, first.schema, compression="zstd") as writer:
        writer.write_table(first)
        for more in rows:
            writer.write_table(pa.table(more, first.schema))


def measure(name: str, folder: Path) -> dict[str, Any]:
    """One run in this process, over what was written."""
    stages, output, _ = PLAN[name]
    if name == "fineweb":
        stages = yaml.safe_load(FINEWEB.read_text())["stages"]
    recipe = {
        "input": {"path": str(folder / "in.parquet"), "id": "id"}, "stages": stages,
        "output": {"path": str(folder / "out"), **output}, "unit_mb": 4, "allow_empty": True,
        "guards": {"unchanged": "warn", "allow": ["constant_score"]},
    }  # fmt: skip
    started = time.perf_counter()
    result = curate.run(recipe, workers=1)
    return {
        "rows": result.rows.in_,
        "kept": result.rows.kept,
        "seconds": time.perf_counter() - started,
        "worker": [one["peak_rss_bytes"] / 2**20 for one in result.passes],
        "parent": peak_memory_bytes() / 2**20,
    }


def measured(name: str, megabytes: int, left: float) -> dict[str, Any] | None:
    """What a process of its own measured; None where it took more than `left` seconds."""
    with tempfile.TemporaryDirectory(prefix="curate-bench-") as scratch:
        write_input(Path(scratch) / "in.parquet", name, megabytes)
        command = [sys.executable, __file__, "--measure", name, scratch]
        timeout = None if left == float("inf") else left
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=timeout).stdout
        except subprocess.TimeoutExpired:
            return None
    found: dict[str, Any] = json.loads(done.splitlines()[-1])
    return found


def grow(name: str, end: float) -> None:
    """One line for each size, as far as there is time until `end`. The first run only compiles kernels."""
    first: dict[str, Any] = {}
    found: dict[str, Any] | None = {}
    sizes = PLAN[name][2]
    for number, megabytes in enumerate((sizes[0], *sizes)):
        left = end - time.monotonic()
        expected = found["seconds"] * megabytes / sizes[number - 2] if found and number > 1 else 0.0
        found = measured(name, megabytes, left) if expected < left else None
        if found is None:
            print(f"{name}: {megabytes:,} MB left out, no time: {expected:.0f} s expected, {left:.0f} s left")
            return
        if number == 0:
            continue
        first = first or found
        worker, before = max(found["worker"]), max(first["worker"])
        passes = " ".join(f"{peak:.0f}" for peak in found["worker"])
        print(
            f"{name}: {megabytes:,} MB, {found['rows']:,} rows, {found['kept']:,} kept, {found['seconds']:.0f} s: "
            f"worker {worker:.0f} MB ({worker / before:.2f} x; by pass {passes}), "
            f"parent {found['parent']:.0f} MB ({found['parent'] / first['parent']:.2f} x)",
            flush=True,
        )


def main() -> None:
    """Measure the named ones, or all."""
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure(sys.argv[2], Path(sys.argv[3]))))
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", choices=[[], *PLAN])
    parser.add_argument("--within", type=float, default=float("inf"), metavar="SECONDS")
    asked = parser.parse_args()
    for name in asked.names or PLAN:
        grow(name, time.monotonic() + asked.within)


if __name__ == "__main__":
    main()
