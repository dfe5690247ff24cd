"""Whole runs beside datatrove and beside their own parts: `python tests/bench/bench_run.py [DATA]`.

One worker, CPU seconds, medians of interleaved rounds. Three questions: what a fused run costs over its kernels plus
one read plus one write; Parquet to Parquet with both Gopher stages and exact dedup beside datatrove; WARC to Parquet.
datatrove runs on a share of the documents, since it is slow; rates are MB of text (WARC: of HTML) per CPU second.
"""

import gzip
import os
import shutil
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import curate
from curate.stages import gopher_quality, gopher_repetition

ROUNDS, TIMES, EVERY = 3, 3, 60
GOPHER = [
    {"gopher_quality": {}},
    {"gopher_repetition": {}},
    {"select": "gopher_quality_pass and gopher_repetition_pass"},
]


def corpus(data: Path, folder: Path) -> tuple[Path, Path, float]:
    """All text, TIMES over, as one Parquet file of 2,000-row groups; a share of it; its megabytes."""
    texts = [
        t
        for path in sorted((data / "text").glob("*.parquet"))
        for t in pq.read_table(path)["text"].drop_null().to_pylist()
    ] * TIMES
    for name, chosen in (("all", texts), ("few", texts[::EVERY])):
        table = pa.table(
            {"text": pa.array(chosen, pa.large_string()), "id": [str(i) for i in range(len(chosen))]}
        )
        pq.write_table(table, folder / f"{name}.parquet", row_group_size=2000, compression="zstd")
    return folder / "all.parquet", folder / "few.parquet", sum(len(t.encode()) for t in texts) / 1e6


def spent(source: Path, stages: list[Any], folder: Path) -> list[float]:
    """CPU seconds of a run with one worker: the parent's, then those of the worker and its children in each pass.

    The imports of the worker itself, about half a second, come before its first pass and are not in them.
    """
    shutil.rmtree(folder, ignore_errors=True)
    start = time.process_time()
    recipe = {
        "input": {"path": str(source)},
        "stages": stages,
        "output": {"path": str(folder / "out")},
        "allow_quarantined": 1e9,
    }
    result = curate.run(recipe, workers=1)
    return [time.process_time() - start, *(one["cpu_seconds"] for one in result.passes)]


def ours(source: Path, stages: list[Any], folder: Path) -> float:
    """CPU seconds of a run, all in."""
    return sum(spent(source, stages, folder))


def cpu(work: Callable[[], Any]) -> float:
    """CPU seconds of this process and of the children that ended meanwhile (datatrove extracts in one)."""
    before = os.times()
    work()
    after = os.times()
    return sum(after[:4]) - sum(before[:4])


def batches(source: Path) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(source) as file:
        yield from file.iter_batches(batch_size=4096, use_threads=False)


def judged(source: Path) -> list[pa.RecordBatch]:
    done = (gopher_quality.gopher_quality(b, gopher_quality.Config()) for b in batches(source))
    return [gopher_repetition.gopher_repetition(b, gopher_repetition.Config()) for b in done]


def parts(source: Path, folder: Path) -> dict[str, float]:
    """CPU seconds of reading, of the two kernels, and of one write of every row as the run writes them."""
    read = cpu(lambda: list(batches(source)))
    kernels = cpu(lambda: judged(source)) - read
    table = pa.Table.from_batches(judged(source))
    slim = [n for n in table.schema.names if n not in ("text", "id")]
    write = cpu(
        lambda: pq.write_table(
            table,
            folder / "w.parquet",
            compression="zstd",
            compression_level=3,
            use_dictionary=slim,
            row_group_size=10_000,
        )
    )
    return {"read": read, "kernels": kernels, "write": write}


def datatrove_gopher(source: Path, folder: Path) -> None:
    from datatrove.pipeline.filters import GopherQualityFilter, GopherRepetitionFilter
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.writers import ParquetWriter

    steps: list[Any] = [
        ParquetReader(str(source.parent), glob_pattern=source.name),
        GopherQualityFilter(),
        GopherRepetitionFilter(),
    ]
    drain([*steps, ParquetWriter(str(folder / "dt"))])


def text_of(document: Any) -> str:
    return document.text


def datatrove_dedup(source: Path, folder: Path) -> None:
    """Signatures, duplicates, filter: its three steps in one process."""
    from datatrove.pipeline.dedup import (
        ExactDedupConfig,
        ExactDedupFilter,
        ExactDedupSignature,
        ExactFindDedups,
    )
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.writers import ParquetWriter

    shutil.rmtree(folder / "dd", ignore_errors=True)
    config = ExactDedupConfig(content_getter=text_of)
    sigs, found = str(folder / "dd/sigs"), str(folder / "dd/found")

    def reader() -> Any:
        return ParquetReader(str(source.parent), glob_pattern=source.name)

    drain([reader(), ExactDedupSignature(sigs, config)])
    drain([ExactFindDedups(sigs, found, config)])
    dropped = ParquetWriter(str(folder / "dd/dropped"))
    drain(
        [
            reader(),
            ExactDedupFilter(found, config, exclusion_writer=dropped),
            ParquetWriter(str(folder / "dd/out")),
        ]
    )


def datatrove_warc(source: Path, folder: Path) -> None:
    from datatrove.pipeline.extractors import Trafilatura
    from datatrove.pipeline.readers import WarcReader
    from datatrove.pipeline.writers import ParquetWriter

    drain(
        [
            WarcReader(str(source.parent), glob_pattern=source.name),
            Trafilatura(favour_precision=True),
            ParquetWriter(str(folder / "dw")),
        ]
    )


def drain(steps: list[Any]) -> None:
    data: Any = None
    for step in steps:
        data = step.run(data, 0, 1)
    for _ in data or ():
        pass


def warcs(data: Path, folder: Path, times: int = 1) -> tuple[Path, Path]:
    """Pages with gold text, `times` over, as one WARC file with a gzip member for each record; every eighth as another."""
    pages = [
        p
        for path in sorted((data / "html").glob("w*.parquet"))
        for p in pq.read_table(path)["html"].to_pylist()
    ]
    for name, chosen in (("every", pages * times), ("some", pages[::8])):
        with open(folder / f"{name}.warc.gz", "wb") as file:
            file.writelines(gzip.compress(record(page), 6) for page in chosen)
    return folder / "every.warc.gz", folder / "some.warc.gz"


def record(page: bytes) -> bytes:
    """A page as the WARC record of a response."""
    status = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(page)
    head = f"WARC/1.1\r\nWARC-Type: response\r\nWARC-Record-ID: <urn:uuid:{uuid.uuid4()}>\r\n"
    head += "WARC-Date: 2026-01-01T00:00:00Z\r\nWARC-Target-URI: http://example.org/\r\n"
    head += "WARC-Identified-Payload-Type: text/html\r\n"  # as Common Crawl's; without it datatrove guesses
    head += "Content-Type: application/http; msgtype=response\r\n"
    head += f"Content-Length: {len(status) + len(page)}\r\n\r\n"
    return head.encode() + status + page + b"\r\n\r\n"


def html_megabytes(source: Path) -> float:
    import fastwarc

    with open(source, "rb") as file:
        records = fastwarc.ArchiveIterator(
            file, record_types=fastwarc.WarcRecordType.response, parse_http=True
        )
        return sum(len(r.reader.read()) for r in records if "html" in (r.http_content_type or "")) / 1e6


def medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}


def main() -> None:
    """Print the three tables."""
    data = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[3] / "shared" / "data"
    with tempfile.TemporaryDirectory(prefix="curate-bench-") as scratch:
        folder = Path(scratch)
        source, few, size = corpus(data, folder)
        ours(source, GOPHER, folder / "warm")
        rounds = []
        for _ in range(ROUNDS):
            one = parts(source, folder)
            one["run"] = ours(source, GOPHER, folder / "run")
            one["dedup"] = ours(source, [{"exact_dedup": {}}], folder / "dedup")
            one["datatrove"] = cpu(lambda: datatrove_gopher(few, folder)) * EVERY
            one["datatrove_dedup"] = cpu(lambda: datatrove_dedup(source, folder))
            rounds.append(one)
        m = medians(rounds)
        bound = m["read"] + m["kernels"] + m["write"]
        print(f"{size:.1f} MB of text, one core, CPU seconds, medians of {ROUNDS}\n")
        print(
            f"read {m['read']:.2f} + kernels {m['kernels']:.2f} + write {m['write']:.2f} = {bound:.2f}; fused run {m['run']:.2f} = {m['run'] / bound:.2f} x"
        )
        print(
            f"Parquet to Parquet, both Gopher stages: curate {size / m['run']:.1f} MB/s, datatrove {size / m['datatrove']:.2f} MB/s, ratio {m['datatrove'] / m['run']:.0f} x"
        )
        print(
            f"exact dedup, Parquet to Parquet: {m['dedup']:.2f} s = {size / m['dedup']:.1f} MB/s, {m['dedup'] / (m['read'] + m['write']):.2f} x read + write"
        )
        print(
            f"exact dedup beside datatrove: {size / m['datatrove_dedup']:.1f} MB/s, ratio {m['datatrove_dedup'] / m['dedup']:.1f} x"
        )
        every, some = warcs(data, folder)
        pages, fewer = html_megabytes(every), html_megabytes(some)
        pairs = [
            (
                ours(every, [{"extract": {}}], folder / "w"),
                cpu(lambda: datatrove_warc(some, folder)) * pages / fewer,
            )
            for _ in range(ROUNDS)
        ]
        mine, theirs = (statistics.median(pair[i] for pair in pairs) for i in (0, 1))
        print(
            f"WARC to Parquet, {pages:.1f} MB of HTML: curate {pages / mine:.1f} MB/s, datatrove {pages / theirs:.2f} MB/s, ratio {theirs / mine:.1f} x"
        )


if __name__ == "__main__":
    main()
