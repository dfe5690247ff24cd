"""Bits per byte of held-out documents: by document, by domain, and by year where they are dated.

Method  sum of -ln p over a document's tokens / (ln 2 x UTF-8 bytes of its text). BOS, which stands before the document,
        and EOS are not scored and have no bytes; so tokenizers compare
Windows `context` tokens of input at most; the first window scores all its tokens, each further one `stride` new tokens
        that see the `context - stride` before them at least
Mean    of a domain: its nats over its bytes. Of a set: the plain mean over domains, for a mean over tokens hides the
        small ones; `micro` is that mean
Paper   Gao et al. 2020 (The Pile), arXiv:2101.00027, section 3.1; years as Longpre et al. 2023, arXiv:2305.13169
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from curate.errors import ConfigError, DataError
from curate.eval.corpus import documents
from curate.eval.model import Model
from curate.io.inputs import Input

NO_DOMAIN = "(none)"
CHUNK = 256  # documents whose windows are batched together
DOCUMENTS = pa.schema(
    {
        "set": pa.string(),
        "id": pa.string(),
        "domain": pa.string(),
        "year": pa.int32(),  # null where undated
        "n_bytes": pa.int64(),
        "n_tokens": pa.int64(),
        "nats": pa.float64(),  # -ln p of all its tokens
        "bits_per_byte": pa.float64(),
    }
)


class Heldout(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A held-out set of a suite."""

    name: str  # of its numbers
    path: str  # a file or folder with `text`
    id: str | None = None  # column of the id; as a run over the same input names its rows, when left out
    by: str | None = None  # column of the domain, such as source
    date: str | None = None  # column of the date, such as date


class Score(msgspec.Struct, frozen=True):
    """Bits per byte of some documents taken together."""

    bits_per_byte: float
    documents: int
    bytes: int
    tokens: int


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Of one held-out set."""

    bits_per_byte: float  # mean over domains
    micro: float  # over all bytes
    documents: int
    bytes: int
    tokens: int
    domains: dict[str, Score]
    years: dict[int, Score] = {}
    undated: int = 0  # documents without a year, where the set is dated
    empty: int = 0  # documents without a byte: not scored
    lossy: int = 0  # documents that the tokenizer does not give back as they were: their number is too low
    context: int = 0
    stride: int = 0
    set_hash: str = ""  # xxh3-128 over ids and texts


class Ageing(msgspec.Struct, frozen=True, kw_only=True):
    """Scores by year of training and year of evaluation."""

    table: dict[int, dict[int, float]]  # train year -> eval year -> bits per byte
    slope_past: float  # bits per byte for each year that the text is older than the training data
    slope_future: float  # and newer
    undated: int  # documents that no year is known of


def measure(
    model: Model, held: Heldout, *, context: int = 0, stride: int = 0, limit: int = 0,
    tell: Callable[[str], None] = lambda _: None,
) -> tuple[pa.Table, Result]:  # fmt: skip
    """(DOCUMENTS of each document, the set's result). 0: the model's context, half of it, all documents.

    DataError for a set without a byte; ConfigError where the model cannot hold the context.
    """
    context, stride = checked(model.context, context, stride)
    digest, empty, lossy, parts = xxhash.xxh3_128(), 0, 0, []
    for batch in chunks(held, limit):
        texts, ids = batch["text"].to_pylist(), batch["id"].to_pylist()
        for id_, text in zip(ids, texts, strict=True):
            digest.update(f"{id_}\0{text}\0")
        tokens = model.encode(texts)
        lossy += sum(model.decode(t) != text for t, text in zip(tokens, texts, strict=True))
        nats = nats_of(model, tokens, context, stride)
        n_bytes = pc.binary_length(batch["text"].cast(pa.large_binary())).to_numpy()
        parts.append(_rows(held, batch, n_bytes, [len(t) for t in tokens], nats))
        empty += int((n_bytes == 0).sum())
        tell(f"{held.name}: {sum(p.num_rows for p in parts):,} documents")
    found = pa.concat_tables([DOCUMENTS.empty_table(), *parts])
    found = found.filter(pc.greater(found["n_bytes"], 0))
    if not found.num_rows:
        raise DataError(f"the held-out set `{held.name}` has no text", where=held.path)
    about = {
        "context": context,
        "stride": stride,
        "empty": empty,
        "lossy": lossy,
        "set_hash": digest.hexdigest(),
    }
    return found, msgspec.structs.replace(summary(found, dated=held.date is not None), **about)


def checked(longest: int, context: int, stride: int) -> tuple[int, int]:
    """(context, stride) with their defaults; ConfigError where they do not fit."""
    context = context or longest
    stride = stride or max(1, context // 2)
    if context > longest:
        raise ConfigError(
            f"the suite scores with a context of {context:,} tokens, the model takes {longest:,}",
            hint=f"`context: {longest}` for all arms: numbers of different contexts do not compare",
        )
    if not 1 <= stride <= context:
        raise ConfigError(f"`stride: {stride}` must be from 1 to the context, {context:,}")
    return context, stride


def chunks(held: Heldout, limit: int) -> Iterator[pa.RecordBatch]:
    """The documents of a set, at most `limit`, a few at a time."""
    columns = tuple(name for name in (held.by, held.date) if name)
    left = limit or 1 << 62
    for batch in documents(Input(path=held.path, id=held.id), columns):
        for at in range(0, min(batch.num_rows, left), CHUNK):
            yield batch.slice(at, min(CHUNK, left - at))
        left -= batch.num_rows
        if left <= 0:
            return


def windows(tokens: int, context: int, stride: int) -> list[tuple[int, int]]:
    """(end, scored) of each window over `tokens` tokens: the last `scored` tokens before `end` are scored by it."""
    ends = [min(context, tokens), *range(context + stride, tokens + stride, stride)] if tokens else []
    ends = [min(end, tokens) for end in ends]
    return [(end, end - before) for before, end in zip([0, *ends], ends, strict=False)]


def nats_of(
    model: Model, tokens: Sequence[Sequence[int]], context: int, stride: int
) -> npt.NDArray[np.float64]:
    """-ln p of each document (documents,), all its windows together, accumulated in float64."""
    sequences, counts, owners = [], [], []
    for i, document in enumerate(tokens):
        whole = [model.prefix, *document]
        for end, scored in windows(len(document), context, stride):
            sequences.append(whole[max(0, end - context) : end + 1])
            counts.append(scored)
            owners.append(i)
    nats = np.zeros(len(tokens))
    for i, found in zip(owners, model.score(sequences, counts), strict=True):
        nats[i] -= found.log_likelihoods.sum(dtype=np.float64)
    return nats


def _rows(
    held: Heldout, batch: pa.RecordBatch, n_bytes: Any, n_tokens: Sequence[int], nats: npt.NDArray[np.float64]
) -> pa.Table:
    domains = batch[held.by].cast(pa.string()).to_pylist() if held.by else [None] * batch.num_rows
    dates = batch[held.date].cast(pa.string()).to_pylist() if held.date else [None] * batch.num_rows
    columns = {
        "set": [held.name] * batch.num_rows,
        "id": batch["id"].cast(pa.string()),
        "domain": [domain or NO_DOMAIN for domain in domains],
        "year": [year_of(date) for date in dates],
        "n_bytes": n_bytes,
        "n_tokens": n_tokens,
        "nats": nats,
        "bits_per_byte": bits_per_byte(nats, n_bytes),
    }
    return pa.table(columns, DOCUMENTS)


def bits_per_byte(nats: Any, n_bytes: Any) -> npt.NDArray[np.float64]:
    """nats / (ln 2 x bytes), elementwise; NaN for no bytes."""
    size = np.asarray(n_bytes, np.float64) * math.log(2)
    out = np.full(size.shape, np.nan)
    np.divide(nats, size, out=out, where=size > 0)
    return out


def year_of(date: str | None) -> int | None:
    """The year that a date begins with."""
    found = re.match(r"\s*(\d{4})(?!\d)", date or "")
    return int(found[1]) if found else None


def summary(rows: pa.Table, *, dated: bool = False) -> Result:
    """The result of a set, or of any part of one, from DOCUMENTS."""
    domains = _grouped(rows, "domain")
    years = _grouped(rows.filter(pc.is_valid(rows["year"])), "year") if dated else {}
    everything = _score(rows)
    return Result(
        bits_per_byte=math.fsum(one.bits_per_byte for one in domains.values()) / len(domains),
        micro=everything.bits_per_byte, documents=everything.documents, bytes=everything.bytes,
        tokens=everything.tokens, domains=domains, years=years, undated=rows["year"].null_count if dated else 0,
    )  # fmt: skip


def _grouped(rows: pa.Table, column: str) -> dict[Any, Score]:
    values = sorted(pc.unique(rows[column]).to_pylist())
    return {value: _score(rows.filter(pc.equal(rows[column], value))) for value in values}


def _score(rows: pa.Table) -> Score:
    n_bytes, n_tokens = (int(rows[name].to_numpy().sum()) for name in ("n_bytes", "n_tokens"))
    nats = math.fsum(rows["nats"].to_numpy())
    return Score(nats / (math.log(2) * n_bytes), rows.num_rows, n_bytes, n_tokens)


def ageing(by_train_year: Mapping[int, pa.Table]) -> Ageing:
    """How bits per byte grow with the years between training data and text, from DOCUMENTS of models of several years.

    Slopes are fitted by least squares with an effect for each year of the text, so that years that are harder for all
    models do not count; where one model leaves them undetermined, with one intercept. NaN where no gap says anything.
    """
    table = {
        train: {year: one.bits_per_byte for year, one in summary(rows, dated=True).years.items()}
        for train, rows in sorted(by_train_year.items())
    }
    undated = max((rows["year"].null_count for rows in by_train_year.values()), default=0)
    cells = [(train, year, value) for train, row in table.items() for year, value in row.items()]
    past, future = _slopes(cells)
    return Ageing(table=table, slope_past=past, slope_future=future, undated=undated)


def _slopes(cells: Sequence[tuple[int, int, float]]) -> tuple[float, float]:
    """(per year older, per year newer)."""
    if not cells:
        return math.nan, math.nan
    train, years, values = (np.array(column, np.float64) for column in zip(*cells, strict=True))
    gaps = np.stack([np.maximum(train - years, 0), np.maximum(years - train, 0)], 1)  # (cells, 2)
    seen = gaps.any(0)
    for effects in (years[:, None] == np.unique(years)[None], np.ones((len(cells), 1))):
        design = np.concatenate([effects.astype(np.float64), gaps[:, seen]], 1)
        if np.linalg.matrix_rank(design) == design.shape[1]:
            fitted = np.linalg.lstsq(design, values, rcond=None)[0][effects.shape[1] :]
            slopes = np.full(2, math.nan)
            slopes[seen] = fitted
            return float(slopes[0]), float(slopes[1])
    return math.nan, math.nan
