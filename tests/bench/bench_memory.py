"""Peak memory of a worker from 20 to 200 units: `python tests/bench/bench_memory.py`.

The same text again and again with a number in front, cut into units of 4 MB; both Gopher stages, a select, exact
dedup. Prints the largest resident size of the worker in each pass.
"""

import shutil
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

import curate

WORDS = "the quick brown fox jumps over the lazy dog and that is what we have with us to be of use ".split()
STAGES = [
    {"gopher_quality": {}},
    {"gopher_repetition": {}},
    {"select": "gopher_quality_num_words >= 50"},
    {"exact_dedup": {}},
]


def write_input(path: Path, megabytes: int) -> None:
    """Documents of 2 kB, every tenth one twice."""
    rows = megabytes * 500
    schema = pa.schema({"text": pa.large_string()})
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for start in range(0, rows, 2000):
            numbers = [i - 1 if i % 10 == 1 else i for i in range(start, start + 2000)]
            texts = [f"{n} " + " ".join(WORDS[(n * j) % 19] for j in range(430)) for n in numbers]
            writer.write_table(pa.table({"text": texts}, schema))


def main() -> None:
    """Print one line per size."""
    with tempfile.TemporaryDirectory(prefix="curate-bench-") as scratch:
        folder = Path(scratch)
        for units in (20, 200):
            write_input(folder / "in.parquet", units * 4)
            recipe = {
                "input": {"path": str(folder / "in.parquet")},
                "stages": STAGES,
                "output": {"path": str(folder / "out")},
                "unit_mb": 4,
            }
            result = curate.run(recipe, workers=1)
            peaks = [one["peak_rss_bytes"] / 2**20 for one in result.passes]
            print(
                f"{units} units, {result.rows.in_:,} rows: peak of the worker, MB per pass: {', '.join(f'{p:.0f}' for p in peaks)}"
            )
            shutil.rmtree(folder / "out")
            shutil.rmtree(folder / ".curate")


if __name__ == "__main__":
    main()
