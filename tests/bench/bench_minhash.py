"""MinHash signatures beside the peers': `python tests/bench/bench_minhash.py [--peers PYTHON] [FOLDER]`.

112 permutations over word 5-grams; CPU seconds of all threads, medians of interleaved rounds; the slow ones run on every
fortieth document. daft and rensa want other versions of shared libraries than curate, so they run in a process of their
own, on the same documents in the same rounds: PYTHON is one of an environment made by
`python -m venv peers && peers/bin/pip install daft==0.7.26 rensa pyarrow`.

Ours also folds case and punctuation in all of Unicode; daft does so when asked (`normalize`) and not by itself.
datasketch and rensa get words by a regular expression and join their 5-grams in Python.
"""

import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

NUM_PERM, NGRAM, EVERY, ROUNDS, OURS_PER_ROUND = 112, 5, 40, 3, 2
APART = "daft", "daft, normalised", "rensa"
SLOW = {"rensa", "datasketch, affine32 + xxh3", "datasketch, affine32 + SHA-1", "datatrove"}


def grams(text: str) -> list[str]:
    """Word 5-grams the way Python users make them."""
    words = re.findall(r"\w+", text.lower())
    return [" ".join(words[i : i + NGRAM]) for i in range(len(words) - NGRAM + 1)]


def by_daft(normalised: bool) -> Callable[[Any], object]:
    import daft
    from daft.functions import minhash, normalize

    def work(table: Any) -> object:
        text = daft.col("text")
        if normalised:
            text = normalize(text, remove_punct=True, lowercase=True, nfd_unicode=False, white_space=True)
        hashed = minhash(text, num_hashes=NUM_PERM, ngram_size=NGRAM, hash_function="xxhash3_64")
        return daft.from_arrow(table).select(hashed).to_arrow()

    return work


def by_rensa(table: Any) -> object:
    from rensa import RMinHash

    def one(text: str) -> object:
        sketch = RMinHash(num_perm=NUM_PERM, seed=1)
        sketch.update(grams(text))
        return sketch.digest()

    return [one(text) for text in table["text"].to_pylist()]


def by_datasketch(hashfunc: Any) -> Callable[[Any], object]:
    from datasketch import MinHash

    def work(table: Any) -> object:
        kwargs = {"hashfunc": hashfunc} if hashfunc else {}
        sketches = [MinHash(NUM_PERM, **kwargs) for _ in range(len(table))]
        for sketch, text in zip(sketches, table["text"].to_pylist(), strict=True):
            sketch.update_batch([gram.encode() for gram in grams(text)])
        return sketches

    return work


def by_datatrove(table: Any) -> object:
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature

    signer = MinhashDedupSignature(
        "unused", MinhashConfig(num_buckets=14, hashes_per_bucket=8, n_grams=NGRAM)
    )
    found = [signer.get_shingles(text) for text in table["text"].to_pylist()]
    return [signer.get_signature(shingles) for shingles in found if shingles.size]


def by_curate(scheme: str) -> Callable[[Any], object]:
    from curate.kernels.minhash import permutations, signatures
    from curate.schema import text_buffers

    drawn = permutations(scheme, NUM_PERM, 1)
    return lambda table: signatures(*text_buffers(table["text"]), drawn, NGRAM)


def sets_by_curate(table: Any) -> object:
    from curate.kernels.shingles import shingles
    from curate.schema import text_buffers

    return shingles(*text_buffers(table["text"]), NGRAM)


def here() -> dict[str, Callable[[Any], object]]:
    import xxhash

    return {
        "curate, fast": by_curate("fast"),
        "curate, affine32": by_curate("affine32"),
        "curate, datasketch": by_curate("datasketch"),
        "curate, sets alone": sets_by_curate,
        "datasketch, affine32 + xxh3": by_datasketch(
            lambda gram: xxhash.xxh3_64_intdigest(gram) & 0xFFFFFFFF
        ),
        "datasketch, affine32 + SHA-1": by_datasketch(None),
        "datatrove": by_datatrove,
    }


def serve(path: str) -> None:
    """Time a peer for each name that comes in by a line; its CPU seconds go out."""
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    peers = {"daft": by_daft(False), "daft, normalised": by_daft(True), "rensa": by_rensa}
    for work in peers.values():
        work(table.slice(0, 50))
    print("ready", flush=True)
    for line in sys.stdin:
        name = line.strip()
        print(
            json.dumps(
                timed(peers[name], table.take(list(range(0, len(table), EVERY))) if name in SLOW else table)
            ),
            flush=True,
        )


def timed(work: Callable[[Any], object], table: Any) -> float:
    begin = time.process_time()
    work(table)
    return time.process_time() - begin


def megabytes(table: Any) -> float:
    return sum(len(text.encode()) for text in table["text"].to_pylist()) / 1e6


def rounds(table: Any, few: Any, apart: Any) -> dict[str, list[float]]:
    """MB/s of each, round by round."""
    works, size, few_size = here(), megabytes(table), megabytes(few)
    speeds: dict[str, list[float]] = {}
    for work in works.values():
        work(few.slice(0, 5))  # compile and load
    for _ in range(ROUNDS):
        for name, work in works.items():
            slow, repeats = name in SLOW, OURS_PER_ROUND if name.startswith("curate") else 1
            for _ in range(repeats):
                speeds.setdefault(name, []).append(
                    (few_size if slow else size) / timed(work, few if slow else table)
                )
        for name in APART if apart else ():
            apart.stdin.write(name + "\n")
            apart.stdin.flush()
            seconds = json.loads(apart.stdout.readline())
            speeds.setdefault(name, []).append((few_size if name in SLOW else size) / seconds)
    return speeds


def main(arguments: list[str]) -> None:
    """Print MB/s and how many times faster ours is."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from bench_gopher import documents

    python = arguments[arguments.index("--peers") + 1] if "--peers" in arguments else None
    folders = [a for a in arguments if a not in ("--peers", python)]
    default = Path(__file__).parents[3] / "shared" / "data" / "text"
    table = pa.table(
        {"text": pa.array(documents(Path(folders[0]) if folders else default), pa.large_string())}
    )
    few = table.take(list(range(0, len(table), EVERY)))
    with tempfile.TemporaryDirectory() as folder:
        path, apart = f"{folder}/texts.parquet", None
        pq.write_table(table, path)
        if python:
            apart = subprocess.Popen(
                [python, __file__, "--serve", path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            while apart.stdout.readline().strip() != "ready":
                assert apart.poll() is None, "the peers' process ended"
        speeds = rounds(table, few, apart)
        if apart:
            apart.communicate()
    ours = statistics.median(speeds["curate, fast"])
    print(
        f"{len(table)} documents, {megabytes(table):.1f} MB; the slow ones on {len(few)}, {megabytes(few):.1f} MB"
    )
    print(f"{'':30}{'MB/s':>8}{'ratio':>8}")
    for name, values in speeds.items():
        print(f"{name:30}{statistics.median(values):8.2f}{ours / statistics.median(values):8.1f}")
    if not python:
        print("daft and rensa were left out: --peers names a Python that has them")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2])
    else:
        main(sys.argv[1:])
