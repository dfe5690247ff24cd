"""One walk over the kept and dropped rows: how long they are, how many tokens, and a sample for each reason.

Memory is bounded: a batch at a time, and of each reason the rows with the smallest hash of their id.
"""

import heapq
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from curate.errors import DataError
from curate.io import hive
from curate.io.arrow import arrow_batches
from curate.report.facts import KEPT, Facts, Key
from curate.schema import DROP

SAMPLE = 10  # documents for each reason, and of the kept
TEXT_CHARS = 200_000  # of a sampled document that are looked at
TOKENS = 2000  # of a sampled document that are spelled out
CHARS_PER_TOKEN = 4.0  # where nothing counted tokens
PER_DECADE, DECADES = 5, 8  # bins of the lengths: 1 to 10^8 characters
_ABOUT = ("id", "url", "source", "lang", "date", "extract_date", "source_id", *DROP)
_BATCH_ROWS = 1024
_SEED = 3  # other rows than those `dropped: sample` keeps


class Sum(msgspec.Struct, kw_only=True):
    """Rows of one side: kept, or dropped for one reason."""

    rows: int = 0
    texts: int = 0  # rows that have text
    chars: int = 0
    counted: int = 0  # tokens counted by token_count
    uncounted_chars: int = 0  # of rows without a count
    lengths: list[int] = []  # rows by characters or, of tokens, by those; PER_DECADE bins to a power of ten

    def tokens(self, per_char: float) -> float:
        """Counted where they were, estimated where not."""
        return self.counted + self.uncounted_chars * per_char


class Walk(msgspec.Struct, kw_only=True):
    """What the walk found, by reason; KEPT stands for the rows kept."""

    sums: dict[Key, Sum]
    samples: dict[Key, list[dict[str, Any]]]  # rows, at most SAMPLE for each key, ordered by a hash of the id

    @property
    def tokens_per_char(self) -> float:
        """As counted in the kept rows."""
        kept = self.sums.get(KEPT, Sum())
        chars = kept.chars - kept.uncounted_chars
        return kept.counted / chars if kept.counted and chars else 1 / CHARS_PER_TOKEN


def walk(facts: Facts, extra: Sequence[str] = (), sample: int = SAMPLE) -> Walk:
    """Read every row once; `extra` names columns that sampled rows bring beside the usual ones."""
    found = Walk(sums={}, samples={})
    pools: dict[Key, list[tuple[int, int, dict[str, Any]]]] = {}
    number = 0
    for file in [*kept_files(facts.folder), *sorted(facts.folder.glob("_dropped/**/part-*.parquet"))]:
        for batch in _batches(file, extra):
            for key, rows in _by_reason(batch):
                _add(found.sums.setdefault(key, Sum(lengths=[0] * (PER_DECADE * DECADES))), rows)
                number = _draw(pools.setdefault(key, []), rows, sample, number)
    facts.check({key: total.rows for key, total in found.sums.items()}, "rows in the files")
    for key, pool in pools.items():
        found.samples[key] = [row for _, _, row in sorted(pool, reverse=True)]
    return found


def kept_files(folder: Path) -> list[Path]:
    """The parts of the kept rows, in order."""
    names = ("part-*.parquet", "*=*/**/part-*.parquet", "part-*.arrow", "*=*/**/part-*.arrow")
    return next((found for name in names if (found := sorted(folder.glob(name)))), [])


def stream(folder: Path, schema: pa.Schema) -> pa.RecordBatchReader:
    """Columns of the kept rows for DuckDB, once, a small batch at a time: a dataset's scanner reads gigabytes ahead."""

    def batches() -> Iterator[pa.RecordBatch]:
        for file in kept_files(folder):
            with pq.ParquetFile(file) as parquet:
                here = [name for name in schema.names if name in parquet.schema_arrow.names]
                shared = hive.constants(parquet.schema_arrow)  # columns that only the folder's name holds
                for batch in parquet.iter_batches(_BATCH_ROWS, columns=here or ["id"]):
                    yield hive.widen(batch, shared).select(schema.names).cast(schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def _batches(file: Path, extra: Sequence[str]) -> Iterator[pa.RecordBatch]:
    try:
        if file.suffix == ".arrow":
            with pa.memory_map(str(file)) as mapped:
                yield from arrow_batches(mapped, _BATCH_ROWS)
            return
        with pq.ParquetFile(file) as parquet:
            wanted = {*_ABOUT, *extra, "text", "token_count"}
            names = [name for name in parquet.schema_arrow.names if name in wanted]
            shared = {n: v for n, v in hive.constants(parquet.schema_arrow).items() if n in wanted}
            for batch in parquet.iter_batches(batch_size=_BATCH_ROWS, columns=names):
                yield hive.widen(batch, shared)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"cannot be read: {error}", where=str(file), hint="`curate verify` finds what is damaged"
        ) from None


def _by_reason(batch: pa.RecordBatch) -> Iterator[tuple[Key, pa.RecordBatch]]:
    if "drop_stage" not in batch.schema.names:
        yield KEPT, batch
        return
    keys = batch.select(["drop_stage", "drop_reason"])
    for pair in (
        pa.Table.from_batches([keys]).group_by(["drop_stage", "drop_reason"]).aggregate([]).to_pylist()
    ):
        same = pc.and_(
            pc.equal(batch["drop_stage"], pair["drop_stage"]),
            pc.equal(batch["drop_reason"], pair["drop_reason"]),
        )
        yield (pair["drop_stage"], pair["drop_reason"]), batch.filter(same)


def _add(total: Sum, rows: pa.RecordBatch) -> None:
    total.rows += rows.num_rows
    if "tokens" in rows.schema.names:
        lengths = pc.list_value_length(rows["tokens"]).to_numpy(zero_copy_only=False)
        total.texts, total.counted = total.texts + len(lengths), total.counted + int(lengths.sum())
        _count(total, lengths)
        return
    if "text" not in rows.schema.names:
        return
    chars = pc.utf8_length(rows["text"])
    lengths = chars.drop_null().to_numpy(zero_copy_only=False)
    total.texts += len(lengths)
    total.chars += int(lengths.sum())
    _count(total, lengths)
    if "token_count" in rows.schema.names:
        total.counted += pc.sum(rows["token_count"]).as_py() or 0
        chars = chars.filter(rows["token_count"].is_null())
    total.uncounted_chars += pc.sum(chars).as_py() or 0


def _count(total: Sum, lengths: npt.NDArray[Any]) -> None:
    bins = np.floor(np.log10(np.maximum(lengths, 1)) * PER_DECADE + 1e-9).astype(int)
    counts = np.bincount(np.minimum(bins, PER_DECADE * DECADES - 1), minlength=PER_DECADE * DECADES)
    total.lengths = [a + int(b) for a, b in zip(total.lengths, counts, strict=True)]


def _draw(pool: list[tuple[int, int, dict[str, Any]]], rows: pa.RecordBatch, sample: int, number: int) -> int:
    """Keep the rows with the smallest hashes; `pool` is a heap of (-hash, number, row)."""
    hashes: npt.NDArray[np.uint64] = np.array(
        [xxhash.xxh3_64_intdigest(i, seed=_SEED) for i in rows["id"].to_pylist()], np.uint64
    )
    for at in np.argsort(hashes, kind="stable")[:sample]:
        rank = -int(hashes[at])
        if len(pool) == sample and rank <= pool[0][0]:
            break
        number += 1
        row = _row(rows.slice(int(at), 1))
        (heapq.heapreplace if len(pool) == sample else heapq.heappush)(pool, (rank, number, row))
    return number


def _row(rows: pa.RecordBatch) -> dict[str, Any]:
    """One row with the start of its text and how long it is."""
    row: dict[str, Any] = {
        name: rows[name][0].as_py() for name in rows.schema.names if name not in ("text", "tokens")
    }
    if "text" in rows.schema.names and rows["text"][0].is_valid:
        row["chars"] = pc.utf8_length(rows["text"])[0].as_py()
        row["text"] = pc.utf8_slice_codeunits(rows["text"], 0, TEXT_CHARS)[0].as_py()
    if "tokens" in rows.schema.names:
        row["num_tokens"], row["tokens"] = (
            len(rows["tokens"][0]),
            rows["tokens"][0].values[:TOKENS].to_pylist(),
        )
    return row
