"""`extract` beside bare resiliparse and trafilatura on the same pages: speed on one core, token F1 against gold text.

`python tests/bench/bench_extract.py`; needs the shared data. CPU seconds: ours (both engines) and bare resiliparse in
turns, median of the rounds; trafilatura once, on every fourth page (the library's own version is printed; any that
imports will do). The trees of `blocks` saw the gold text of these pages: their F1 here is no figure to quote. What
counts is `scripts/train_extract_blocks.py --check`, where no page is judged by trees that saw its domain.
"""

import re
import statistics
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import trafilatura
from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.encoding import detect_encoding
from resiliparse.parse.html import HTMLTree

from curate.stages.extract import Config, extract

ROUNDS = 5
DATA = Path(__file__).parents[3] / "shared" / "data" / "html"


def ours(batch: pa.RecordBatch) -> list[str]:
    return extract(batch, Config())["text"].to_pylist()


def blocks(batch: pa.RecordBatch) -> list[str]:
    return extract(batch, Config(engine="blocks"))["text"].to_pylist()


def bare(pages: list[bytes]) -> list[str]:
    """Text alone, as the library's manual shows it: no title, date or canonical URL."""
    trees = (HTMLTree.parse_from_bytes(page, detect_encoding(page, from_html_meta=True)) for page in pages)
    return [extract_plain_text(tree, preserve_formatting=True, main_content=True) for tree in trees]


def by_trafilatura(pages: list[bytes]) -> list[str]:
    return [trafilatura.extract(page) or "" for page in pages]


def timed(extractor: Callable[[Any], list[str]], pages: Any) -> tuple[float, list[str]]:
    before = time.process_time()
    texts = extractor(pages)
    return time.process_time() - before, texts


def score(found: list[str], gold: list[str]) -> list[float]:
    """Mean F1, precision and recall over pages: lower-cased words with their counts."""
    rows = []
    for texts in zip(found, gold, strict=True):
        a, b = (Counter(re.findall(r"\w+", text.lower())) for text in texts)
        both, total_a, total_b = (a & b).total(), a.total(), b.total()
        empty = 1.0 if total_a == total_b == 0 else 0.0
        rows.append(
            [
                2 * both / (total_a + total_b or 1) or empty,
                both / (total_a or 1) or empty,
                both / (total_b or 1) or empty,
            ]
        )
    return [statistics.mean(column) for column in zip(*rows, strict=True)]


def report(
    name: str, seconds: float, pages: list[bytes], texts: list[str], gold: list[str], ratio: float
) -> None:
    f1, precision, recall = score(texts, gold)
    speed = (
        f"{sum(map(len, pages)) / 1e6 / seconds:8.1f} MB/s {len(pages) / seconds:7.0f} pages/s {ratio:7.2f} x"
    )
    print(f"{name:22} {speed}   F1 {f1:.4f}  precision {precision:.4f}  recall {recall:.4f}")


def bench(file: str, limit: int | None) -> None:
    table = pq.read_table(DATA / file, columns=["html", "text"]).slice(0, limit)
    pages, gold = table["html"].to_pylist(), table["text"].to_pylist()
    html = pa.array(pages, pa.large_binary())
    batch = pa.record_batch({"html": html, "text": pa.nulls(len(pages), pa.large_string())})
    blocks(batch.slice(0, 1))  # compiles
    rounds = [(timed(bare, pages), timed(ours, batch), timed(blocks, batch)) for _ in range(ROUNDS)]
    seconds = [statistics.median(one[i][0] for one in rounds) for i in range(3)]
    slow_seconds, slow_texts = timed(by_trafilatura, pages[::4])
    print(f"\n{file}: {len(pages)} pages, {sum(map(len, pages)) / 1e6:.0f} MB; ratio to bare resiliparse")
    report("resiliparse, bare", seconds[0], pages, rounds[0][0][1], gold, 1)
    report("curate", seconds[1], pages, rounds[0][1][1], gold, seconds[0] / seconds[1])
    report("curate, blocks (seen)", seconds[2], pages, rounds[0][2][1], gold, seconds[0] / seconds[2])
    slow_ratio = seconds[0] / len(pages) / (slow_seconds / len(pages[::4]))
    report(
        f"trafilatura {trafilatura.__version__}, 1/4",
        slow_seconds,
        pages[::4],
        slow_texts,
        gold[::4],
        slow_ratio,
    )


def main() -> None:
    bench("wcxb_pages_dev.parquet", 300)
    bench("wcxb_pages_dev.parquet", None)
    bench("article_extraction_benchmark_dev.parquet", None)


if __name__ == "__main__":
    main()
