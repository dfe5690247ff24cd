"""Line, paragraph, sentence and URL dedup beside datatrove's sentence dedup and dolma's paragraph dedup.

`python tests/bench/bench_text_dedup.py`: one core, CPU seconds, medians of interleaved rounds, each on the same documents
as Parquet: real texts, and half of them again with a third of their lines changed. Ours are whole runs, from reading the
input to written Parquet with every dropped row; datatrove's are its own steps from reading JSONL to written JSONL, on a
tenth of the documents; dolma's writes no text, only where paragraphs are to be cut, and is left out where it is not
installed (`pip install --no-deps dolma` is enough).
"""

import gzip
import importlib.util
import json
import os
import random
import shutil
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

ROUNDS, BYTES, FEWER = 3, 50_000_000, 10
Work = Callable[[Path], None]
OURS: dict[str, dict[str, Any]] = {
    "url_dedup": {"keep": "first"},
    "line_dedup": {"min_chars": 1},
    "paragraph_dedup": {},
    "paragraph_dedup, bloom": {"method": "bloom"},
    "sentence_dedup": {},
}


def documents(folder: Path, size: int) -> list[dict[str, str]]:
    """Rows of about `size` bytes of text."""
    draw = random.Random(3)
    files = sorted((folder / "text").glob("*.parquet"))
    columns = [pq.read_table(path, columns=["text"])["text"].drop_null().to_pylist() for path in files]
    texts, num = [], 0
    for column in zip(*columns, strict=False):
        for text in column:
            lines = text[:100_000].split("\n")
            copy = [line[::-1] if draw.random() < 0.33 else line for line in lines]
            texts += ["\n".join(lines)] + ["\n".join(copy)] * (draw.random() < 0.5)
            num = sum(map(len, texts[-2:])) + num
        if num > size:
            break
    return [
        {"id": f"row-{i}", "text": text, "url": f"http://www.site{i % 997}.org/{i // 2}?utm_source=x"}
        for i, text in enumerate(texts)
    ]


def write_jsonl(folder: Path, rows: list[dict[str, str]]) -> int:
    """Write rows as one file; the bytes of their text."""
    folder.mkdir()
    with gzip.open(folder / "rows.jsonl.gz", "wt", compresslevel=1) as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return sum(len(row["text"].encode()) for row in rows)


def ours(stage: str, config: dict[str, Any], source: Path) -> Work:
    import curate

    def work(place: Path) -> None:
        tree = {
            "input": {"path": str(source), "id": "id"}, "stages": [{stage: config}], "store": str(place / "store"),
            "output": {"path": str(place / "out")},
        }  # fmt: skip
        curate.run(tree, workers=1)

    return work


def datatrove_sentences(source: Path) -> Work:
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import SentenceDedupFilter, SentenceDedupSignature, SentenceFindDedups
    from datatrove.pipeline.dedup.sentence_dedup import SentDedupConfig
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter

    config = SentDedupConfig(min_doc_words=50, min_num_sentences=3)

    def work(place: Path) -> None:
        sigs, dups = str(place / "sigs"), str(place / "dups")
        for step in (
            [JsonlReader(str(source)), SentenceDedupSignature(sigs, config=config)],
            [SentenceFindDedups(sigs, dups, config=config)],
            [JsonlReader(str(source)), SentenceDedupFilter(dups, config), JsonlWriter(str(place / "out"))],
        ):
            LocalPipelineExecutor(step, logging_dir=None, skip_completed=False).run()

    return work


def dolma_paragraphs(source: Path) -> Work | None:
    package = importlib.util.find_spec("dolma")
    if package is None:
        return None
    binary = next(Path(package.submodule_search_locations[0]).glob("dolma*.so"))  # its Python needs much else
    spec = importlib.util.spec_from_file_location("dolma", binary)
    core = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(core)

    def work(place: Path) -> None:
        (place / "documents").mkdir()
        shutil.copy(source / "rows.jsonl.gz", place / "documents")
        config = {
            "documents": [str(place / "documents/*.gz")],
            "dedupe": {"name": "dups", "paragraphs": {"attribute_name": "dups"}, "skip_empty": True},
            "bloom_filter": {
                "file": str(place / "bloom"), "read_only": False, "size_in_bytes": 0,
                "estimated_doc_count": 5_000_000, "desired_false_positive_rate": 0.01,
            },
            "work_dir": {"input": str(place / "in"), "output": str(place / "out")}, "processes": 1, "dryrun": False,
        }  # fmt: skip
        core.deduper_entrypoint(json.dumps(config))

    return work


def cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    return sum(os.times()[:4])


def measured(works: dict[str, Work], sizes: dict[str, int]) -> dict[str, float]:
    """MB per CPU second of each, medians of interleaved rounds: what the first of three compiles is left out."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(ROUNDS):
        for name, work in works.items():
            with TemporaryDirectory() as scratch:
                start = cpu_seconds()
                work(Path(scratch))
                seconds[name].append(cpu_seconds() - start)
                print(f"{name}: {seconds[name][-1]:.2f} s", file=sys.stderr)
    return {name: sizes[name] / 1e6 / statistics.median(taken) for name, taken in seconds.items()}


def main() -> None:
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    rows = documents(
        Path(__file__).parents[3] / "shared/data", int(sys.argv[1]) if len(sys.argv) > 1 else BYTES
    )
    size = sum(len(row["text"].encode()) for row in rows)
    with TemporaryDirectory() as scratch:
        parquet, jsonl, few = (Path(scratch) / name for name in ("parquet", "jsonl", "few"))
        parquet.mkdir()
        pq.write_table(pa.Table.from_pylist(rows), parquet / "rows.parquet", row_group_size=500)
        write_jsonl(jsonl, rows)
        few_size = write_jsonl(few, rows[:: 2 * FEWER] + rows[1 :: 2 * FEWER])
        works = {name: ours(name.split(",")[0], config, parquet) for name, config in OURS.items()}
        works["datatrove, sentences"] = datatrove_sentences(few)
        if dolma := dolma_paragraphs(jsonl):
            works["dolma, paragraphs"] = dolma
        print(f"{len(rows):,} documents, {size / 1e6:.1f} MB of text", file=sys.stderr)
        sizes = dict.fromkeys(works, size) | {"datatrove, sentences": few_size}
        speeds = measured(works, sizes)
    peers = {"sentence_dedup": "datatrove, sentences", "paragraph_dedup": "dolma, paragraphs"}
    print(f"{'':28}{'MB/s':>10}{'ratio':>8}")
    for name, speed in speeds.items():
        peer = speeds.get(peers.get(name, ""))
        print(f"{name:28}{speed:10.2f}{f'{speed / peer:8.1f}' if peer else ''}")


if __name__ == "__main__":
    main()
