"""What adding 1% to an index costs: `python tests/bench/bench_index.py [DOCUMENTS...]`.

For each size: CPU seconds of a run of minhash_dedup over all documents (written as ever), of building the index of them,
and of adding 1% more to it; beside, of adding twenty documents, which is what starting and ending costs. Documents are
passages of real text, of which a fifth are copies of others with words changed. One worker; all processes are counted;
of additions the median of five.
"""

import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

DATA = Path(__file__).parents[3] / "shared/data/text"
SIZES = (2_000, 20_000, 200_000)
PASSAGE_BYTES, COPIES, EDITS, TURNS, FEW = 1500, 0.2, 5, 5, 20


def passages() -> list[str]:
    """All passages of the shared texts."""
    found = []
    for file in sorted(DATA.glob("*.parquet")):
        for text in pq.read_table(file, columns=["text"])["text"].to_pylist():
            found += [text[i : i + PASSAGE_BYTES] for i in range(0, len(text), PASSAGE_BYTES)]
    return [text for text in found if len(text) > PASSAGE_BYTES // 2]


def documents(texts: list[str], begin: int, count: int) -> pa.Table:
    """Documents number begin to begin + count; beyond the passages there are, their words are shuffled."""
    made, draw = [], random.Random(begin)
    for i in range(begin, begin + count):
        near = i > 10 and draw.random() < COPIES
        source = draw.randrange(i) if near else i
        words = texts[source % len(texts)].split()
        random.Random(source).shuffle(words) if source >= len(texts) else None
        for _ in range(EDITS if near else 0):
            words[draw.randrange(len(words))] = f"edit{i}"
        made.append(" ".join(words))
    ids = [f"d{i}" for i in range(begin, begin + count)]
    return pa.table({"id": ids, "text": pa.array(made, pa.large_string())})


def corpus(folder: Path, texts: list[str], begin: int, count: int) -> str:
    folder.mkdir()
    for number, at in enumerate(range(begin, begin + count, 20_000)):
        table = documents(texts, at, min(20_000, begin + count - at))
        pq.write_table(table, folder / f"{number:05d}.parquet", row_group_size=2000)
    return str(folder)


def cpu(work: Callable[[], object]) -> float:
    """CPU seconds of this process and of its children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    work()
    now = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(n.ru_utime + n.ru_stime - u.ru_utime - u.ru_stime for n, u in zip(now, used, strict=True))


def measure(base: Path, texts: list[str], size: int) -> None:
    from curate.engine.api import run
    from curate.engine.remember import add_corpus
    from curate.index.index import Index, create
    from curate.stages.minhash_dedup import Config, index_header

    whole = corpus(base / "in", texts, 0, size)
    recipe = {
        "input": {"path": whole, "id": "id"}, "stages": [{"minhash_dedup": {}}], "output": {"path": str(base / "out")},
        "guards": {"allow": ["max_drop"]},
    }  # fmt: skip
    full = cpu(lambda: run(recipe, workers=1))
    path = str(create(str(base / "index"), index_header(Config())).path)
    build = cpu(lambda: add_corpus(path, whole, workers=1))
    costs: dict[int, list[float]] = {size // 100: [], FEW: []}
    for turn in range(TURNS):
        for count, found in costs.items():
            some = corpus(base / f"{turn}-{count}", texts, size * (turn + 2) + count, count)
            found.append(cpu(lambda some=some: add_corpus(path, some, workers=1)))
    added, least = (statistics.median(found) for found in costs.values())
    index = Index(path)
    size_bytes = sum(sum(one.bytes.values()) for one in index.manifest.runs)
    print(
        f"{size:>9,} documents: run {full:.1f} s, build {build:.1f} s, add 1% {added:.2f} s = {added / full:.1%}; add {FEW} "
        f"{least:.2f} s, so 1% itself {max(0.0, added - least) / full:.1%}; {size_bytes / index.documents:,.0f} bytes a document"
    )


def main() -> None:
    texts = passages()
    warm = tempfile.TemporaryDirectory()
    with warm:
        measure(Path(warm.name), texts, 200)  # kernels are compiled
    for size in [int(argument) for argument in sys.argv[1:]] or SIZES:
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            measure(Path(folder), texts, size)
        print(f"          ({time.perf_counter() - started:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
