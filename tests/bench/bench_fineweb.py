"""`recipes/fineweb.yaml` beside datatrove's script of the same blocks: `python tests/bench/bench_fineweb.py [DATA]`.

One core, CPU seconds, medians of interleaved rounds; both sides without MinHash and without URL lists. From WARC (ours with
the recipe's extractor, resiliparse; datatrove with trafilatura, precision first, as FineWeb), then from JSON Lines of
text; the documents TIMES over, as start-up takes about a second. The extraction part on its own: the plan's scan of the
archive, and the pass that reads it and extracts, beside a bare loop of fastwarc and resiliparse over the same file.
Then the decisions: both sides with trafilatura on the same records, each class of difference counted.
"""

import json
import statistics
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from bench_extract import bare
from bench_run import cpu, drain, html_megabytes, ours, spent, warcs

from curate.models.catalog import get
from curate.recipe.tree import parse

ROUNDS, TIMES, EVERY = 3, 3, 40
RECIPE = Path(__file__).parents[2] / "recipes" / "fineweb.yaml"


def stages(*, leave: tuple[str, ...] = ("minhash_dedup",), **options: Any) -> list[Any]:
    """The recipe's stages without some; `options` are extract's."""
    found = []
    for step in parse(RECIPE.read_text(), "fineweb.yaml").root["stages"]:
        name = next(iter(step))
        if name not in leave:
            found.append({name: options} if name == "extract" else step)
    return found


def datatrove_steps(
    reader: Any, writer: Any, extract: bool, reasons: dict[str, str] | None = None
) -> list[Any]:
    """The blocks of its examples/fineweb.py, the model read from our cache; `reasons` gets why each document was dropped."""
    from datatrove.pipeline.extractors import Trafilatura
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
        LanguageFilter,
    )
    from datatrove.pipeline.formatters import PIIFormatter
    from fasttext.FastText import _FastText

    language = LanguageFilter("en")
    language.model._model = _FastText(str(get("lid176")))
    filters = [
        language, GopherRepetitionFilter(), GopherQualityFilter(), C4QualityFilter(filter_no_terminal_punct=False),
        FineWebQualityFilter(),
    ]  # fmt: skip
    if reasons is not None:
        for one in filters:
            one.exclusion_writer = _Reasons(type(one).__name__, reasons)
    # its own cache of repeated segments would make a page depend on those before it
    pages = [Trafilatura(favour_precision=True, deduplicate=False, timeout=20)] if extract else []
    return [reader, *pages, *filters, PIIFormatter(), writer]


class _Reasons:
    """Stands where a filter writes what it drops: remembers the reason of each document."""

    def __init__(self, name: str, reasons: dict[str, str]) -> None:
        self._name, self._reasons = name, reasons

    def __enter__(self) -> "_Reasons":
        return self

    def __exit__(self, *_: object) -> None: ...

    def write(self, document: Any, rank: int = 0, **_: Any) -> None:
        reason = document.metadata.get("filter_reason", "")
        self._reasons[document.id.strip("<>")] = f"{self._name} {reason}".strip()


def from_warc(source: Path, folder: Path) -> None:
    from datatrove.pipeline.readers import WarcReader
    from datatrove.pipeline.writers import ParquetWriter

    reader = WarcReader(str(source.parent), glob_pattern=source.name)
    drain(datatrove_steps(reader, ParquetWriter(str(folder / "dw")), True))


def from_jsonl(source: Path, folder: Path) -> None:
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import ParquetWriter

    reader = JsonlReader(str(source.parent), glob_pattern=source.name)
    drain(datatrove_steps(reader, ParquetWriter(str(folder / "dj")), False))


def bare_loop(source: Path) -> None:
    """Read and extract as the manuals of fastwarc and resiliparse show it, and keep the texts."""
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    with open(source, "rb") as file:
        records = ArchiveIterator(file, record_types=WarcRecordType.response, parse_http=True)
        bare(record.reader.read() for record in records)


def write_jsonl(data: Path, folder: Path) -> tuple[Path, Path, float]:
    """English text TIMES over as JSON Lines, and every EVERY-th document of it once; megabytes of text."""
    texts = [
        text
        for path in sorted((data / "text").glob("*.parquet"))
        for text in pq.read_table(path)["text"].drop_null().to_pylist()
    ]
    for name, chosen in (("all", texts * TIMES), ("few", texts[::EVERY])):
        with open(folder / f"{name}.jsonl", "w") as file:
            file.writelines(json.dumps({"text": text, "id": str(i)}) + "\n" for i, text in enumerate(chosen))
    return folder / "all.jsonl", folder / "few.jsonl", TIMES * sum(len(text.encode()) for text in texts) / 1e6


def agreement(source: Path, folder: Path) -> tuple[int, int, Counter[str]]:
    """Records of a WARC file, those on which both sides decide alike, and what decides otherwise, in words."""
    from datatrove.pipeline.readers import WarcReader
    from datatrove.pipeline.writers import JsonlWriter

    import curate

    out, kept = folder / "ours", folder / "theirs"
    recipe = {
        "input": {"path": str(source)}, "stages": stages(engine="trafilatura", precision=True),
        "output": {"path": str(out)}, "allow_quarantined": 1e9,
    }  # fmt: skip
    curate.run(recipe, workers=2)
    mine = {row["id"]: "kept" for batch in curate.read(out) for row in batch.select(["id"]).to_pylist()}
    for path in sorted((out / "_dropped").rglob("*.parquet")):
        for row in pq.read_table(path, columns=["id", "drop_stage", "drop_reason"]).to_pylist():
            mine[row["id"]] = f"{row['drop_stage']} {row['drop_reason']}"
    writer, reasons = JsonlWriter(str(kept), compression=None), dict[str, str]()
    drain(datatrove_steps(WarcReader(str(source.parent), glob_pattern=source.name), writer, True, reasons))
    lines = [line for path in kept.glob("*.jsonl") for line in path.read_text().splitlines()]
    theirs = {json.loads(line)["id"].strip("<>") for line in lines}
    differ = Counter(
        f"curate: {what}; datatrove: {'kept' if row in theirs else reasons.get(row, 'no text')}"
        for row, what in mine.items()
        if (what == "kept") != (row in theirs)
    )
    return len(mine), len(mine) - differ.total(), differ


def main() -> None:
    """Print speeds, ratios and the agreement."""
    data = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[3] / "shared" / "data"
    with tempfile.TemporaryDirectory(prefix="curate-bench-") as scratch:
        folder = Path(scratch)
        every, some = warcs(data, folder, TIMES)
        every_mb, some_mb = html_megabytes(every), html_megabytes(some)
        lines, few, text_mb = write_jsonl(data, folder)
        few_mb = sum(len(json.loads(line)["text"].encode()) for line in few.read_text().splitlines()) / 1e6
        texts = stages(leave=("minhash_dedup", "extract"))
        ours(some, stages(), folder / "warm")
        names = "warc", "warc, datatrove", "jsonl", "jsonl, datatrove", "scan", "extraction", "bare loop"
        rates: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(ROUNDS):
            scan, extraction, *rest = spent(every, stages(), folder / "w")
            rates["warc"].append(every_mb / (scan + extraction + sum(rest)))
            rates["scan"].append(every_mb / scan)
            rates["extraction"].append(every_mb / extraction)
            rates["bare loop"].append(every_mb / cpu(lambda: bare_loop(every)))
            rates["warc, datatrove"].append(some_mb / cpu(lambda: from_warc(some, folder)))
            rates["jsonl"].append(text_mb / ours(lines, texts, folder / "j"))
            rates["jsonl, datatrove"].append(few_mb / cpu(lambda: from_jsonl(few, folder)))
        rate = {name: statistics.median(values) for name, values in rates.items()}
        for kind, size in (("warc", every_mb), ("jsonl", text_mb)):
            mine, other = rate[kind], rate[f"{kind}, datatrove"]
            print(
                f"{kind}: {size:.1f} MB; curate {mine:.1f} MB/s, datatrove {other:.2f} MB/s, ratio {mine / other:.1f} x"
            )
        print(
            f"extraction part: scan {rate['scan']:.0f} MB/s; reading and extracting {rate['extraction']:.1f} MB/s, "
            f"bare loop {rate['bare loop']:.1f}, ratio {rate['extraction'] / rate['bare loop']:.2f}"
        )
        records, alike, differ = agreement(warcs(data, folder)[0], folder)
        print(f"decisions on {records} records: {alike / records:.2%} alike")
        for what, count in differ.most_common():
            print(f"  {count:5}  {what}")


if __name__ == "__main__":
    main()
