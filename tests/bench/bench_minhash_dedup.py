"""minhash_dedup from Parquet to Parquet: `python tests/bench/bench_minhash_dedup.py [DATA] [MB]`.

Passages of real text, every fifth a copy of another with some words changed. One worker, CPU seconds, medians of
interleaved rounds: a whole run (verification on, dropped rows written), beside pyarrow reading and writing the same
rows, and datatrove's four MinHash stages on a share of them, since it is slow.
"""

import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import curate

ROUNDS, PASSAGE, FEW = 3, 1700, 1500
SCHEMA = pa.schema({"id": pa.string(), "text": pa.large_string()})


def passages(data: Path, megabytes: float, seed: int = 7) -> Iterator[str]:
    """Real text in pieces of about PASSAGE characters, every fifth an edited copy of one of the last thousand."""
    draw, done, recent, turn = random.Random(seed), 0, [], 0
    while done < megabytes * 1e6:
        for path in sorted((data / "text").glob("*.parquet")):
            for text in pq.read_table(path, columns=["text"])["text"].drop_null().to_pylist():
                for at in range(0, len(text), PASSAGE):
                    piece = text[at : at + PASSAGE]
                    if turn:  # the corpus again, in other words
                        piece = edited(piece, draw, 0.3)
                    recent = [*recent[-999:], piece]
                    for one in [
                        piece,
                        *([edited(draw.choice(recent), draw, 0.02)] if draw.random() < 0.25 else []),
                    ]:
                        done += len(one.encode())
                        yield one
                if done >= megabytes * 1e6:
                    return
        turn += 1


def edited(text: str, draw: random.Random, share: float) -> str:
    """The text with a share of its words replaced."""
    return " ".join(
        f"w{draw.randrange(10**6)}" if draw.random() < share else word for word in text.split(" ")
    )


def write_corpus(texts: list[str], path: Path) -> None:
    table = pa.table({"id": [f"{i:016x}" for i in range(len(texts))], "text": texts}, SCHEMA)
    pq.write_table(table, path, row_group_size=10_000, compression="zstd")


def ours(source: Path, folder: Path, **options: Any) -> tuple[float, Any]:
    """CPU seconds of a run with one worker, the parent's and the worker's, and its result."""
    shutil.rmtree(folder, ignore_errors=True)
    start = time.process_time()
    recipe = {
        "input": {"path": str(source), "id": "id"}, "stages": [{"minhash_dedup": options}],
        "output": {"path": str(folder / "out")},
    }  # fmt: skip
    result = curate.run(recipe, workers=1)
    return time.process_time() - start + sum(one["cpu_seconds"] for one in result.passes), result


def read_and_write(source: Path, folder: Path) -> float:
    """CPU seconds of pyarrow, on one thread."""
    start = time.process_time()
    with (
        pq.ParquetFile(source) as file,
        pq.ParquetWriter(
            folder / "copy.parquet", file.schema_arrow, compression="zstd", compression_level=3
        ) as writer,
    ):
        for batch in file.iter_batches(batch_size=10_000, use_threads=False):
            writer.write_batch(batch)
    return time.process_time() - start


def datatrove(source: Path, folder: Path) -> float:
    """CPU seconds of its four stages, 14 x 8, English words."""
    from datatrove.data import Document
    from datatrove.pipeline.dedup import (
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.utils.typeshelper import Languages

    shutil.rmtree(folder / "dt", ignore_errors=True)
    signatures, buckets, removed = (
        str(folder / "dt" / name) for name in ("signatures", "buckets", "removed")
    )
    table = pq.read_table(source)
    pairs = zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True)
    texts = [Document(text=text, id=name) for name, text in pairs]
    config = MinhashConfig()
    start = time.process_time()
    MinhashDedupSignature(signatures, config=config, language=Languages.english).run(iter(texts), 0, 1)
    for bucket in range(config.num_buckets):
        MinhashDedupBuckets(signatures, buckets, config=config).run(None, bucket, config.num_buckets)
    MinhashDedupCluster(buckets, removed, config=config).run(None, 0, 1)
    kept = list(MinhashDedupFilter(removed).run(iter(texts), 0, 1))
    assert 0 < len(kept) < len(texts)
    return time.process_time() - start


def median(work: Callable[[], float]) -> float:
    return statistics.median(work() for _ in range(ROUNDS))


def main() -> None:
    """Print rates and ratios."""
    data = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("../shared/data")
    megabytes = float(sys.argv[2]) if len(sys.argv) > 2 else 100.0
    with tempfile.TemporaryDirectory(prefix="curate-bench-") as scratch:
        folder = Path(scratch)
        source, few = folder / "in" / "all.parquet", folder / "few" / "few.parquet"
        for path in (source, few):
            path.parent.mkdir()
        texts = list(passages(data, megabytes))
        write_corpus(texts, source)
        write_corpus(texts[:FEW], few)
        size, small = (sum(len(t.encode()) for t in some) / 1e6 for some in (texts, texts[:FEW]))
        ours(few, folder / "warm")
        rounds = [(ours(source, folder / "ours"), read_and_write(source, folder)) for _ in range(ROUNDS)]
        mine, copy = (statistics.median(x) for x in zip(*((a[0], b) for a, b in rounds), strict=True))
        result = rounds[-1][0][1]
        print(
            f"{len(texts):,} documents, {size:.0f} MB, {sum(result.rows.dropped['minhash_dedup'].values()):,} dropped"
        )
        for one in result.passes:
            what = one["phase"] or "minhash_dedup 6 (apply, write)"
            print(
                f"  {what:<32} {one['cpu_seconds']:6.2f} s  {one['peak_rss_bytes'] >> 20} MB  {one.get('counts', '')}"
            )
        print(f"curate                    {size / mine:8.1f} MB/s  {mine:.2f} s")
        print(
            f"pyarrow read and write    {size / copy:8.1f} MB/s  {copy:.2f} s; curate takes {mine / copy:.2f} x its time"
        )
        if "--alone" not in sys.argv:
            peer = datatrove(few, folder)
            print(
                f"datatrove, four stages    {small / peer:8.2f} MB/s; curate is {size / mine / (small / peer):.0f} x as fast"
            )


if __name__ == "__main__":
    main()
