"""Drops rows that say what another row says, by the cosine of their embeddings.

Method  spherical k-means over a sample; clusters of more than 10,000 rows are cut into ones of about 1,000 by a k-means of
        their own, unless `clusters` is given; in each cluster the rows are walked in the order of `keep`, and a row goes
        when its cosine to a kept row before it is above 1 - eps
Paper   Abbas et al. 2023 (SemDeDup), arXiv:2303.09540, and its code
Reads   `column`, a list of numbers, all rows alike long; or `text`, with `model`; nulls allowed
Writes  semantic_dedup_cluster_size  int64 (n,), rows that this one stands for, 1 and more; null without embedding
        semantic_dedup_cluster_id    string (n,), its id
Rows    drops the others: drop_reason `semantic_duplicate`, kept_id the survivor, drop_value the cosine to it,
        drop_threshold 1 - eps. Rows without text or embedding, and embeddings of zeros, are kept.
        `keep` chooses: hard, the row farthest from the centroid; easy, the nearest; random; or first in input order
Differs the paper compares with every row before, gone or not, so that chains cascade (a ~ b ~ c leaves a alone):
        `cascade: true` does, and drop_value is then the cosine to the row that took this one along. Without cascade a larger
        eps may now and then drop fewer rows.
Misses  duplicates that fall into different clusters: more of them with more clusters. Tune `eps` for each model
Costs   clusters are made and rows assigned by one task; time grows as rows x clusters, of which there are at most 3,360
        there (39 of `train_rows` each) without `clusters`. Memory holds the sample
Same    fixed seed, one thread: same bytes on the same kind of processor; another one may round a cosine otherwise
Fails   ConfigError without `column` or `model`, with both, without faiss; for a column that is no list of numbers; DataError,
        naming the row, for an embedding of another length or with a value that is no number; ModelError for a bad folder
"""

import importlib.util
import itertools
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import ConfigError, DataError
from curate.stage import Inputs, Out, Phase, Task, global_stage
from curate.stages._semantic_walk import BLOCK, Vectors, Walk, as_vectors
from curate.stages.exact_dedup import Upcoming
from curate.stages.sample import uniform

if TYPE_CHECKING:
    from curate.models.embeddings import Embedder

U64_MAX = 2**64 - 1
ROWS_PER_CLUSTER = 1000
SAMPLE_PER_CLUSTER = 39  # fewest, as faiss advises
MOST_ROWS = 10_000  # of a cluster that is left whole
CUTS = 20  # bits of a cluster's place for the parts it is cut into
ITERATIONS = 20


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    column: str = ""  # column with the embeddings, lists of numbers
    model: str = ""  # or folder of a local sentence-embedding model, which embeds `text`
    eps: float = 0.05  # rows with a cosine above 1 - eps are the same
    keep: Literal["hard", "easy", "random", "first"] = "hard"  # which row of several survives
    cascade: bool = False  # compare with rows that are gone too, as the paper's code does
    clusters: int = 0  # clusters of k-means; 0: one for every 1,000 rows, or 39 of `train_rows`, then cut
    train_rows: int = 131_072  # most rows that k-means is trained on
    seed: int = 0  # another seed makes other clusters

    def __post_init__(self) -> None:
        if bool(self.column) == bool(self.model):
            raise ConfigError(
                "give one of `column` and `model`", hint="`column: embedding`, or `model: FOLDER`"
            )
        if self.column == "order":
            raise ConfigError("`column: order` is the row's place in the run", hint="call it otherwise")
        if not 0 <= self.eps < 1:
            raise ConfigError(
                "`eps` must be from 0 to below 1", hint="0.05 drops what has a cosine above .95"
            )
        for name, least in (("clusters", 0), ("train_rows", SAMPLE_PER_CLUSTER), ("seed", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"`{name}` must be at least {least}", hint="leave it out for the default")
        needed = ["faiss", *(["torch", "transformers"] if self.model else [])]
        if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
            extra = "semantic,embed" if self.model else "semantic"
            hint = f'`pip install "curate[{extra}]"`'
            raise ConfigError(f"`semantic_dedup` needs {' and '.join(missing)}", hint=hint)


def columns_read(config: Config) -> list[str]:
    return [config.column or "text"]


def model_files(config: Config) -> list[str]:
    """Files that decide the embeddings, part of the fingerprint."""
    from curate.models.embeddings import model_files

    return model_files(config.model) if config.model else []


def parameters(config: Config) -> int:
    from curate.models.embeddings import parameters

    return parameters(config.model)


def libraries(config: Config) -> list[str]:
    return ["faiss-cpu", "numpy", "xxhash", *(["torch", "transformers"] if config.model else [])]


def check(config: Config, columns: Mapping[str, pa.DataType]) -> None:
    """Refuse a column that holds no lists of numbers."""
    kind = columns[config.column or "text"]
    if config.column and not is_embedding(kind):
        fit = [name for name, other in columns.items() if is_embedding(other)]
        raise ConfigError(
            f"`column: {config.column}` is {kind}, no list of numbers",
            hint=f"columns that are: {', '.join(fit) or 'none'}",
        )


def is_embedding(kind: pa.DataType) -> bool:
    """Lists of floating-point numbers."""
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(lists and pa.types.is_floating(kind.value_type))


def embed(task: Task, inputs: Inputs, out: Out, config: Config) -> Mapping[str, int]:
    """Per unit: (draw, order, id, embedding of unit length), in an order drawn by id."""
    without, read = 0, 0
    for batch in inputs.batches():
        batch = batch.filter(batch.column(config.column or "text").is_valid())
        before = _embedder(config.model).tokens if config.model else 0
        vectors = _embeddings(batch, config)
        read += _embedder(config.model).tokens - before if config.model else 0
        lengths = np.linalg.norm(vectors, axis=1)
        has = lengths > 0
        without += int((~has).sum())
        draw = uniform(batch.column("id"), "semantic_dedup", config.seed)
        table = pa.table({
            "draw": (draw[has] * 2**63).astype(np.uint64),
            "order": batch.column("order").filter(pa.array(has)),
            "id": batch.column("id").filter(pa.array(has)),
            "embedding": _as_lists(vectors[has] / lengths[has, None]),
        })  # fmt: skip
        out.write(table)
    return {"without_embedding": without} | ({"model_tokens": read} if config.model else {})


def _embeddings(batch: pa.RecordBatch, config: Config) -> Vectors:
    """Float32 (n, dimensions)."""
    if config.model:
        return _embedder(config.model).embed(batch.column("text").to_pylist())
    lists = batch.column(config.column)
    lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
    size = int(lengths[0]) if len(lengths) else 0
    values = pc.list_flatten(lists).cast(pa.float32()).to_numpy(zero_copy_only=False)
    if (lengths != size).any():
        row = int(np.argmax(lengths != size))
        raise _bad(batch, row, f"has {lengths[row]} numbers, others {size}", config)
    vectors: Vectors = values.reshape(len(lengths), size)
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise _bad(batch, int(np.argmin(finite)), "holds a value that is no number", config)
    return vectors


def _bad(batch: pa.RecordBatch, row: int, what: str, config: Config) -> DataError:
    name = batch.column("id")[row].as_py()
    hint = "one model makes all embeddings; a row without one has null"
    return DataError(f"`{config.column}` of the row `{name}` {what}", hint=hint)


@cache
def _embedder(folder: str) -> "Embedder":
    from curate.models.embeddings import Embedder

    return Embedder(folder)


def _as_lists(vectors: Vectors) -> pa.Array:
    ends = np.arange(len(vectors) + 1, dtype=np.int32) * vectors.shape[1]
    return pa.ListArray.from_arrays(ends, pa.array(np.ravel(vectors).astype(np.float32)))


def cluster(task: Task, inputs: Inputs, out: Out, config: Config) -> Mapping[str, int]:
    """All at once: k-means over the rows drawn first, then each row with its cluster and its rank in it."""
    rows, sample, sampled = 0, list[pa.ChunkedArray](), 0
    for table in inputs.merged():
        rows += table.num_rows
        sample.append(table["embedding"].slice(0, max(0, config.train_rows - sampled)))
        sampled += len(sample[-1])
    if not rows:
        return {"clusters": 0}
    vectors = as_vectors(pa.chunked_array([chunk for some in sample for chunk in some.chunks]))
    most = config.clusters or min(-(-rows // ROWS_PER_CLUSTER), max(1, sampled // SAMPLE_PER_CLUSTER))
    k = min(most, sampled)
    means = _means(vectors, k, config)
    for table in _blocks(inputs.merged()):
        closeness, nearest = means.search(as_vectors(table["embedding"]), 1)
        place = nearest[:, 0].astype(np.uint64) * np.uint64(U64_MAX // k)  # spread over the key's range
        draw = table["draw"].to_numpy() if config.keep == "random" else np.zeros(table.num_rows)
        rank = _rank(closeness[:, 0], np.asarray(draw, np.int64), config)
        placed = table.drop_columns(["draw"]).append_column("rank", pa.array(rank))
        out.write(placed.append_column("place", pa.array(place >> CUTS << CUTS)))
    return {"clusters": k, "trained_on": sampled}


def _means(vectors: Vectors, k: int, config: Config) -> Any:
    """faiss's index of the k centroids."""
    import faiss

    faiss.omp_set_num_threads(1)
    means = faiss.Kmeans(
        vectors.shape[1], k, niter=ITERATIONS, spherical=True, seed=config.seed + 1,
        min_points_per_centroid=1, max_points_per_centroid=len(vectors),
    )  # fmt: skip
    means.train(vectors)
    return means.index


def split(task: Task, inputs: Inputs, out: Out, config: Config) -> Mapping[str, int]:
    """Per range of clusters: those of too many rows in parts."""
    if config.clusters:
        for table in inputs.merged():
            out.write(table)
        return {}
    parts = 0
    for number, (_, pieces) in enumerate(_clusters(inputs)):
        held, rows = list[pa.Table](), 0
        for piece in pieces:
            held, rows = [*held, piece], rows + len(piece)
            if rows > MOST_ROWS:
                break
        if rows > MOST_ROWS:
            parts += _cut(itertools.chain(held, pieces), out, out.scratch / f"cut-{number}", config)
        else:
            for table in held:
                out.write(table)
    return {"parts": parts}


def _cut(pieces: Iterator[pa.Table], out: Out, file: Path, config: Config) -> int:
    """Write a cluster with places of its parts, and ranks by their centroids; returns how many parts."""
    rows = _spool(pieces, file)
    k = min(-(-rows // ROWS_PER_CLUSTER), config.train_rows // SAMPLE_PER_CLUSTER, 1 << CUTS)
    every, seen, sample = max(1, rows // (k * SAMPLE_PER_CLUSTER)), 0, list[Vectors]()
    for table in _spooled(file):
        sample.append(as_vectors(table["embedding"])[-seen % every :: every])
        seen += len(table)
    means = _means(np.concatenate(sample), k, config)
    for table in _blocks(_spooled(file)):
        closeness, nearest = means.search(as_vectors(table["embedding"]), 1)
        place = table["place"].to_numpy() | nearest[:, 0].astype(np.uint64)
        rank = _rank(closeness[:, 0], table["rank"].to_numpy(), config)
        bare = table.drop_columns(["rank", "place"])
        out.write(bare.append_column("rank", pa.array(rank)).append_column("place", pa.array(place)))
    file.unlink()
    return k


def _spool(pieces: Iterator[pa.Table], file: Path) -> int:
    """Write tables to a file; returns their rows."""
    first = next(pieces)
    rows = len(first)
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, first.schema) as writer:
        writer.write_table(first)
        for piece in pieces:
            writer.write_table(piece)
            rows += len(piece)
    return rows


def _spooled(file: Path) -> Iterator[pa.Table]:
    with pa.OSFile(str(file)) as source, pa.ipc.open_file(source) as reader:
        for i in range(reader.num_record_batches):
            yield pa.Table.from_batches([reader.get_batch(i)])


def _rank(closeness: Vectors, other: npt.NDArray[np.int64], config: Config) -> npt.NDArray[np.int64]:
    """Smaller comes first; ties go to the earlier row. `other` where `keep` does not ask for closeness."""
    if config.keep in ("random", "first"):
        return other
    nearness: npt.NDArray[np.int64] = np.round(closeness.astype(np.float64) * 2**40).astype(np.int64)
    return nearness if config.keep == "hard" else -nearness


def compare(task: Task, inputs: Inputs, out: Out, config: Config) -> Mapping[str, int]:
    """Per range of clusters: each row that goes, with who is kept; each row kept for others, with how many they are."""
    dropped = 0
    for number, (_, pieces) in enumerate(_clusters(inputs)):
        walk = Walk(out.scratch / f"cluster-{number}", config)
        for block in _blocks(pieces):
            out.write(walk.next(block))
        out.write(walk.end())
        dropped += walk.dropped
    return {"dropped": dropped}


def _clusters(inputs: Inputs) -> Iterator[tuple[int, Iterator[pa.Table]]]:
    return itertools.groupby(_pieces(inputs), key=lambda piece: piece["place"][0].as_py())


def _pieces(inputs: Inputs) -> Iterator[pa.Table]:
    """The records cut where a new cluster begins."""
    for table in inputs.merged():
        places = table["place"].to_numpy()
        cuts = [0, *(np.flatnonzero(places[1:] != places[:-1]) + 1).tolist(), len(places)]
        for begin, end in itertools.pairwise(cuts):
            yield table.slice(begin, end - begin)


def _blocks(pieces: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of BLOCK rows, so that the cosines are rounded the same whatever the pieces."""
    held: list[pa.Table] = []
    for piece in pieces:
        held.append(piece)
        if sum(map(len, held)) >= BLOCK:
            whole = pa.concat_tables(held)
            full = len(whole) // BLOCK * BLOCK
            yield from (whole.slice(start, BLOCK) for start in range(0, full, BLOCK))
            held = [whole.slice(full)]
    rest = pa.concat_tables(held)
    if len(rest):
        yield rest


def apply(task: Task, inputs: Inputs, out: Out, config: Config) -> Mapping[str, int]:
    """Per unit: keep the rows that stand for themselves, drop the others."""
    records = Upcoming(inputs.merged())
    for batch in inputs.batches():
        order = batch.column("order").to_numpy()
        found = records.up_to(int(order[-1])) if len(order) else None
        kept_id, size = batch.column("id"), pa.array(np.ones(len(order), np.int64))
        similarity = pa.nulls(len(order), pa.float64())
        if found is not None:
            index = np.searchsorted(found["order"].to_numpy(), order)
            index[index == found.num_rows] = 0
            take = pa.array(index, mask=found["order"].to_numpy()[index] != order)
            kept_id = pc.coalesce(found["kept_id"].combine_chunks().take(take), kept_id)
            size = pc.coalesce(found["size"].combine_chunks().take(take), size)
            similarity = found["similarity"].combine_chunks().take(take)
        missing = batch.column(config.column or "text").is_null()
        marked = batch
        for name, values in (("cluster_size", size), ("cluster_id", kept_id)):
            values = pc.if_else(missing, pa.scalar(None, values.type), values)
            marked = marked.append_column(f"semantic_dedup_{name}", values)
        goes = pc.equal(size, 0)
        out.keep(marked.filter(pc.invert(goes)))
        lost = batch.filter(goes)
        out.drop(lost, {
            "drop_reason": pa.array(["semantic_duplicate"] * lost.num_rows, pa.string()),
            "drop_value": similarity.filter(goes),
            "drop_threshold": pa.array([1 - config.eps] * lost.num_rows, pa.float64()),
            "kept_id": kept_id.filter(goes),
        })  # fmt: skip
    return {}


semantic_dedup = global_stage(
    "semantic_dedup", version=2, config=Config, reads=columns_read, libraries=libraries, files=model_files, check=check,
    parameters=parameters,
    writes={"semantic_dedup_cluster_size": pa.int64(), "semantic_dedup_cluster_id": pa.string()},
    phases=[
        Phase(embed, "units", ("draw", "order")),
        Phase(cluster, "whole", ("place", "rank", "order")),
        Phase(split, "ranges", ("place", "rank", "order")),
        Phase(compare, "ranges", ("order",)),
        Phase(apply, "units"),
    ],
)  # fmt: skip
