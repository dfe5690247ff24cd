"""minhash_dedup from 10,000 to 10 million short documents: `python tests/bench/bench_minhash_scale.py [SCALE ...]`.

Bar: time linear within 15%, peak memory flat within 10%, under `--max-memory 2GB`; 1x is 100,000 rows. SCALE is 0.1, 1, 10
unless given (100: 10 million rows, 3 GB of text). A size that would go beyond `--seconds N` (600) in all, by the time of the
size before it, is left out and named.

A row is three passages of real text, about 300 bytes, drawn by a seeded generator; every fifth is the row before it with a
word put in. Units of 4 MB, one worker, each size in a process of its own. CPU seconds are the run's, its planning and its
worker's, less what a run over 1,000 rows takes: that is starting.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.child import peak_memory_bytes
from curate.engine.forecast import Limits
from curate.engine.run import run
from curate.recipe.recipe import from_tree
from curate.recipe.tree import Tree

ROWS, START = 100_000, 1_000
PASSAGE = 17  # words
AT_ONCE = 20_000
LIMIT = 2e9  # bytes, of --max-memory


def passages(data: Path) -> pa.Array:
    """Pieces of PASSAGE words of real text."""
    found = []
    for path in sorted((data / "text").glob("*.parquet")):
        for text in pq.read_table(path, columns=["text"])["text"].drop_null().to_pylist():
            words = text.split()
            found += [" ".join(words[i : i + PASSAGE]) for i in range(0, len(words) - PASSAGE, PASSAGE)]
    return pa.array(found, pa.string())


def batches(pieces: pa.Array, rows: int, seed: int = 5) -> Iterator[pa.Table]:
    """Rows from the first on; those of a smaller corpus are the first of a larger one."""
    draw = np.random.default_rng(seed)
    for start in range(0, rows, AT_ONCE):
        drawn, words = draw.integers(0, len(pieces), (3, AT_ONCE)), draw.integers(0, 10**6, AT_ONCE)
        twin = np.arange(AT_ONCE) % 5 == 4
        drawn[:, twin] = drawn[:, np.flatnonzero(twin) - 1]
        word = pc.if_else(
            pa.array(twin), pc.binary_join_element_wise("w", pa.array(words).cast(pa.string()), ""), None
        )
        parts = [pieces.take(pa.array(column)) for column in drawn]
        texts = pc.binary_join_element_wise(*parts[:2], word, parts[2], " ", null_handling="skip")
        ids = pa.array(np.arange(start, start + AT_ONCE)).cast(pa.string())
        yield pa.table({"id": ids, "text": texts.cast(pa.large_string())}).slice(0, rows - start)


def write_input(path: Path, pieces: pa.Array, rows: int) -> float:
    """One Parquet file; returns the megabytes of its text."""
    size = 0
    schema = pa.schema({"id": pa.string(), "text": pa.large_string()})
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for table in batches(pieces, rows):
            writer.write_table(table, row_group_size=AT_ONCE // 2)
            size += pc.sum(pc.binary_length(table["text"])).as_py()
    return size / 1e6


def measure(folder: Path) -> dict[str, Any]:
    """One run in this process, over what was written."""
    body = {
        "input": {"path": str(folder / "in.parquet"), "id": "id"}, "stages": ["minhash_dedup"],
        "output": {"path": str(folder / "out")}, "unit_mb": 4,
    }  # fmt: skip
    cpu, begun = time.process_time(), time.perf_counter()
    result = run(from_tree(Tree(body, "bench")), workers=1, limits=Limits(memory=LIMIT))
    return {
        "rows": result.rows.in_, "dropped": sum(result.rows.dropped["minhash_dedup"].values()),
        "cpu": time.process_time() - cpu + sum(one["cpu_seconds"] for one in result.passes),
        "seconds": time.perf_counter() - begun, "passes": [[one["cpu_seconds"], one["peak_rss_bytes"] / 2**20] for one in result.passes],
        "parent": peak_memory_bytes() / 2**20,
    }  # fmt: skip


def one_size(pieces: pa.Array, rows: int, scratch: Path) -> dict[str, Any]:
    """Write a corpus, run over it in a fresh process, and clear it away."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    megabytes = write_input(scratch / "in.parquet", pieces, rows)
    command = [sys.executable, __file__, "--measure", str(scratch)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    shutil.rmtree(scratch)
    return {**json.loads(done.splitlines()[-1]), "megabytes": megabytes}


def main() -> None:
    """Print one line per size, and what it is to that of 1x (or the first given)."""
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure(Path(sys.argv[2]))))
        return
    arguments = sys.argv[1:]
    limit = float(arguments.pop(arguments.index("--seconds") + 1)) if "--seconds" in arguments else 600.0
    scales = sorted(float(a) for a in arguments if a != "--seconds") or [0.1, 1.0, 10.0]
    begun = time.perf_counter()
    pieces = passages(Path("../shared/data"))
    with tempfile.TemporaryDirectory(prefix="curate-bench-") as folder:
        scratch = Path(folder) / "one"
        for _ in range(2):  # the first compiles kernels
            start = one_size(pieces, START, scratch)
        base: dict[str, Any] = {}
        took, before = 0.0, 0.0
        for scale in scales:
            if before and time.perf_counter() - begun + took * scale / before > limit:
                print(f"{scale:g}x left out: it would take about {took * scale / before:,.0f} s")
                break
            at = time.perf_counter()
            found = one_size(pieces, int(scale * ROWS), scratch)
            took, before = time.perf_counter() - at, scale
            pace, peak = (
                (found["cpu"] - start["cpu"]) / found["rows"] * 1e6,
                max(p for _, p in found["passes"]),
            )
            if not base or scale <= 1:
                base = {"pace": pace, "peak": peak, "parent": found["parent"]}
            print(
                f"{scale:g}x: {found['rows']:,} rows, {found['megabytes']:,.0f} MB, {found['dropped']:,} dropped, "
                f"{found['cpu']:.1f} CPU s ({start['cpu']:.1f} to start), {found['seconds']:.0f} s; a million rows {pace:.1f} CPU s "
                f"({pace / base['pace']:.2f} x); worker {peak:.0f} MB ({peak / base['peak']:.2f} x), "
                f"parent {found['parent']:.0f} MB ({found['parent'] / base['parent']:.2f} x)\n"
                f"    sign band component gather cluster apply: "
                + " ".join(f"{c:.1f} s {p:.0f} MB," for c, p in found["passes"]),
                flush=True,
            )
    print(f"cores {os.cpu_count()}, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
