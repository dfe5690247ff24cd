"""`url_filter`, `bad_words` and `pii_mask` beside datatrove's blocks with the same lists: `python tests/bench/bench_text_filters.py`.

One core, CPU seconds, medians of interleaved rounds, each row of the table on the same documents. The list of words is
the shared one of English; the lists of domains and URLs (4.6 million) are those that datatrove installs. The last lines
give what the adapter stage `datatrove` adds to a block's own time.
"""

import os
import statistics
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

ROUNDS, TEXTS, URLS = 3, 400, 20_000
Work = Callable[[], list[Any]]


def documents(folder: Path) -> list[str]:
    """The same share of each file, in turn."""
    files = sorted((folder / "text").glob("*.parquet"))
    columns = [pq.read_table(path, columns=["text"])["text"].drop_null().to_pylist() for path in files]
    return [text for column in columns for text in column[:: max(1, len(column) * len(files) // TEXTS)]]


def addresses(folder: Path) -> list[str]:
    """URLs of the shared pages, over and over."""
    urls = [
        url
        for path in sorted((folder / "html").glob("*.parquet"))
        if "url" in pq.read_schema(path).names
        for url in pq.read_table(path, columns=["url"])["url"].drop_null().to_pylist()
        if url
    ]
    return (urls * (URLS // len(urls) + 1))[:URLS]


def rounds(name: str, size: float, unit: str, ours: Work, theirs: Work) -> None:
    """Print a line: both speeds, the ratio, the share of rows with the same answer."""
    mine, others = ours(), theirs()  # and compile, and load
    seconds: dict[Work, list[float]] = {ours: [], theirs: []}
    for _ in range(ROUNDS):
        for work in (ours, theirs):
            start = time.process_time()
            work()
            seconds[work].append(time.process_time() - start)
    fast, slow = (size / statistics.median(seconds[work]) for work in (ours, theirs))
    same = sum(a == b for a, b in zip(mine, others, strict=True)) / len(mine)
    print(f"{name:28}{fast:10,.1f}{slow:10,.1f} {unit:<7}{fast / slow:8.1f}{same:10.2%}")


def batches(columns: dict[str, pa.Array]) -> list[pa.RecordBatch]:
    whole = pa.record_batch(columns)
    return [whole.slice(start, 1024) for start in range(0, whole.num_rows, 1024)]


def url_filter(urls: list[str], scratch: Path) -> None:
    import datatrove
    from datatrove.data import Document
    from datatrove.pipeline.filters import URLFilter
    from tldextract import TLDExtract

    from curate.stages import url_filter as stage

    assets = Path(datatrove.__file__).parent / "assets"
    with tarfile.open(next(assets.glob("url_filter*.tar.gz"))) as packed:
        packed.extractall(scratch, filter="data")
    named = {"words": "banned_words", "soft_words": "soft_banned_words", "substrings": "banned_subwords"}
    files = {field: str(assets / f"{name}.txt") for field, name in named.items()}
    config = stage.Config(domains=str(scratch / "domains"), urls=str(scratch / "urls"), **files)  # type: ignore[arg-type]
    start = time.perf_counter()
    stage.load(config, scratch / "store")
    made = time.perf_counter() - start
    lists = stage.load(config, scratch / "store")
    opened = time.perf_counter() - start - made
    block = URLFilter()
    block.tldextractor = TLDExtract(suffix_list_urls=(), cache_dir=None)  # its own asks the net
    start = time.perf_counter()
    block.download_data()
    theirs_opened = time.perf_counter() - start
    columns = batches({"url": pa.array(urls, pa.string())})
    rows = [Document(text="", id="", metadata={"url": url}) for url in urls]
    rounds(
        "url_filter",
        len(urls) / 1e3,
        "kURL/s",
        lambda: [
            x for b in columns for x in stage.url_filter(b, config, lists)["url_filter_pass"].to_pylist()
        ],
        lambda: [block.filter(row) is True for row in rows],
    )
    print(
        f"  4.6 million entries: made mappable in {made:.1f} s once, opened in {opened:.1f} s; datatrove {theirs_opened:.1f} s a process"
    )


def bad_words(texts: list[str], column: pa.Array, folder: Path, scratch: Path) -> None:
    from datatrove.data import Document
    from datatrove.io import strip_protocol
    from datatrove.pipeline.filters import c4_filters
    from huggingface_hub import cached_assets_path

    from curate.stages import bad_words as stage

    table = pq.read_table(folder / "classifiers/bad_words_28_languages.parquet").to_pylist()
    words = "".join(f"{row['word']}\n" for row in table if row["lang"] == "en")
    assets = cached_assets_path(library_name="datatrove", namespace="filters", subfolder="c4_badwords")
    theirs_list = Path(assets) / strip_protocol(c4_filters._EN_BADWORDS_URL).replace("/", "_")
    for file in (scratch / "words", theirs_list):
        file.write_text(words)
    Path(f"{theirs_list}.completed").touch()  # as after fetching it
    config, block = stage.Config(list=str(scratch / "words")), c4_filters.C4BadWordsFilter()
    lists, columns = (
        stage.load(config, scratch),
        batches({"id": pa.array(map(str, range(len(texts)))), "text": column}),
    )
    rows = [Document(text=text, id="") for text in texts]
    rounds(
        "bad_words, English",
        column.nbytes / 1e6,
        "MB/s",
        lambda: [x for b in columns for x in stage.bad_words(b, config, lists)["bad_words_pass"].to_pylist()],
        lambda: [block.filter(row) is True for row in rows],
    )


def pii_mask(texts: list[str], column: pa.Array) -> None:
    from datatrove.pipeline.formatters import PIIFormatter

    from curate.stages import pii_mask as stage

    marks = {"email_replacements": ("<M>",), "ip_replacements": ("<I>",)}
    config, block = stage.Config(**marks), PIIFormatter(email_replacement="<M>", ip_replacement="<I>")
    columns = batches({"id": pa.array(map(str, range(len(texts)))), "text": column})
    rounds(
        "pii_mask",
        column.nbytes / 1e6,
        "MB/s",
        lambda: [x for b in columns for x in stage.pii_mask(b, config)["text"].to_pylist()],
        lambda: [block.format(text) for text in texts],
    )


def adapter(texts: list[str], column: pa.Array) -> None:
    from datatrove.data import Document

    from curate.stages import datatrove as stage

    config = stage.Config(block="datatrove.pipeline.filters.RegexFilter", options={"regex_exp": "zyxwv"})
    block = stage.load(config, Path("."))
    columns = batches({"id": pa.array(map(str, range(len(texts)))), "text": column})
    rounds(
        "datatrove: RegexFilter",
        column.nbytes / 1e6,
        "MB/s",
        lambda: [x for b in columns for x in stage.datatrove(b, config, block)["datatrove_pass"].to_pylist()],
        lambda: [block.filter(Document(text=text, id="")) for text in texts],
    )


def main() -> None:
    """Print speeds, ratios and how often the answers are alike."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[3] / "shared" / "data"
    with TemporaryDirectory() as scratch:
        os.environ["HF_ASSETS_CACHE"] = f"{scratch}/assets"  # before datatrove is imported
        from loguru import logger

        logger.disable("datatrove")
        texts = documents(folder)
        column = pa.array(texts, pa.large_string())
        print(f"{len(texts)} documents, {column.nbytes / 1e6:.1f} MB; {URLS} URLs")
        print(f"{'':28}{'curate':>10}{'datatrove':>10} {'':7}{'ratio':>8}{'alike':>10}")
        url_filter(addresses(folder), Path(scratch))
        bad_words(texts, column, folder, Path(scratch))
        pii_mask(texts, column)
        adapter(texts, column)


if __name__ == "__main__":
    main()
