"""`semantic_dedup` beside SemDeDup as its paper has it, in memory: `python tests/bench/bench_semantic_dedup.py [ROWS]`.

ROWS (default 100,000) embeddings of 256 numbers: word counts of passages of real text, projected at random; a tenth are of
passages with a few words changed. Both make a cluster for every 1,000 rows, by faiss on one thread. Ours is a whole run with
one worker, from Parquet to Parquet, its start included; the other is the loop of the paper's code in numpy, with all
embeddings in memory and nothing read or written. It compares with rows that are gone too, so ours does it both ways;
the clusters are not the same ones (ours are trained in the order of a hash of the ids).
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from curate.engine.run import run
from curate.recipe.recipe import from_tree
from curate.recipe.tree import Tree

DATA = Path(__file__).parents[3] / "shared/data/text"
ROWS, DIMENSIONS, PASSAGE_CHARS, EDITS, EPS, ROWS_PER_CLUSTER, ITERATIONS = (
    100_000,
    256,
    1500,
    6,
    0.05,
    1000,
    20,
)


def write(path: Path, rows: int) -> None:
    """Ids and embeddings as Parquet."""
    draw = np.random.default_rng(0)
    words_of = [
        text[i : i + PASSAGE_CHARS].split()
        for file in sorted(DATA.glob("*.parquet"))
        for text in pq.read_table(file, columns=["text"])["text"].drop_null().to_pylist()
        for i in range(0, len(text), PASSAGE_CHARS)
    ]
    made = np.zeros((rows, DIMENSIONS), np.float32)
    for row in range(rows):
        words = words_of[(draw.integers(row) if row % 10 == 9 else row) % len(words_of)]
        if row >= len(words_of) or row % 10 == 9:
            words = [*words, *(f"new{draw.integers(1 << 40)}" for _ in range(EDITS))]
        hashes = np.array([xxhash.xxh3_64_intdigest(word) for word in words], np.uint64)
        signs = np.where(hashes >> np.uint64(63), 1.0, -1.0)
        np.add.at(made[row], (hashes % np.uint64(DIMENSIONS)).astype(np.int64), signs)
    vectors = pa.ListArray.from_arrays(
        np.arange(rows + 1, dtype=np.int32) * DIMENSIONS, pa.array(made.ravel())
    )
    table = pa.table({"id": [f"p{i}" for i in range(rows)], "text": ["-"] * rows, "vector": vectors})
    pq.write_table(table, path, row_group_size=5000)


def ours(source: Path, folder: Path, cascade: bool) -> tuple[float, float, int]:
    """CPU seconds, peak memory of the worker in MB, rows dropped."""
    step = {"semantic_dedup": {"column": "vector", "eps": EPS, "cascade": cascade}}
    recipe = {
        "input": {"path": str(source), "id": "id"},
        "stages": [step],
        "output": {"path": str(folder / "out")},
    }
    before = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    result = run(from_tree(Tree({**recipe, "guards": {"allow": ["max_drop"]}}, "recipe")), workers=1)
    after = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = sum(
        a.ru_utime + a.ru_stime - b.ru_utime - b.ru_stime for a, b in zip(after, before, strict=True)
    )
    peak = max(one["peak_rss_bytes"] for one in result.passes) / 2**20
    dropped = sum(pq.read_metadata(file).num_rows for file in folder.glob("out/_dropped/*/*.parquet"))
    return seconds, peak, dropped


def in_memory(source: str) -> None:
    """Print the same of the paper's loop."""
    import faiss

    faiss.omp_set_num_threads(1)
    column = pq.read_table(source, columns=["vector"])["vector"].combine_chunks()
    vectors = column.flatten().to_numpy().reshape(-1, DIMENSIONS)
    begin = resource.getrusage(resource.RUSAGE_SELF)
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    k = -(-len(vectors) // ROWS_PER_CLUSTER)
    means = faiss.Kmeans(
        DIMENSIONS, k, niter=ITERATIONS, spherical=True, seed=1, max_points_per_centroid=len(vectors)
    )
    means.train(vectors)
    closeness, nearest = means.index.search(vectors, 1)
    dropped = 0
    for cluster in range(k):
        members = np.flatnonzero(nearest[:, 0] == cluster)
        members = members[np.argsort(closeness[members, 0], kind="stable")]  # hard: the farthest first
        cosines = np.triu(vectors[members] @ vectors[members].T, 1)
        dropped += int((cosines.max(axis=0, initial=0) > 1 - EPS).sum())
    end = resource.getrusage(resource.RUSAGE_SELF)
    seconds = end.ru_utime + end.ru_stime - begin.ru_utime - begin.ru_stime
    print(json.dumps([seconds, end.ru_maxrss / 1024, dropped]))


def main() -> None:
    """Print CPU seconds, peak memory and rows dropped of each."""
    if sys.argv[1:2] == ["--in-memory"]:
        in_memory(sys.argv[2])
        return
    if sys.argv[1:2] == ["--write"]:
        write(Path(sys.argv[2]), int(sys.argv[3]))
        return
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # of the processes that follow
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    with tempfile.TemporaryDirectory(prefix="curate-bench-") as scratch:
        source = Path(scratch, "in.parquet")
        # in a process of its own: a worker's peak, as Linux counts it, begins with the size of its parent
        subprocess.run([sys.executable, __file__, "--write", str(source), str(rows)], check=True)
        command = [sys.executable, __file__, "--in-memory", str(source)]
        told: dict[str, Any] = {
            "curate": ours(source, Path(scratch, "kept"), cascade=False),
            "curate, cascade": ours(source, Path(scratch, "cascade"), cascade=True),
            "SemDeDup in memory": json.loads(subprocess.run(command, capture_output=True, check=True).stdout),
        }
    print(f"{rows:,} embeddings of {DIMENSIONS} numbers, eps {EPS}")
    print(f"{'':20}{'CPU s':>8}{'rows/s':>10}{'peak MB':>9}{'dropped':>9}")
    for name, (seconds, peak, dropped) in told.items():
        print(f"{name:20}{seconds:8.1f}{rows / seconds:10,.0f}{peak:9.0f}{dropped:9,}")


if __name__ == "__main__":
    main()
