"""A held-out set of a corpus, and the ids that every arm must leave out of its training data.

Drawn   of each domain the `documents` whose ids have the smallest hashes: the same ones in whatever order they come, and
        whatever else is in the corpus; another seed draws others
Rule    a document of the corpus is left out when it is in the set, or a near-duplicate of one that is. The set and the
        corpus go through `minhash_dedup` together, the set first: so every duplicate of it is dropped for it, and never
        for another document (`kept_id` names it). What the set has twice it keeps once, so a domain may have fewer
Arms    train on what `leave_out.parquet` does not name (`curate tokenize --leave-out`). A corpus with other texts or ids,
        such as another extraction of the same pages, needs a list of its own: give it and the set (`of`). `curate ablate`
        does both for every arm
Misses  duplicates that MinHash does not propose, see `curate explain minhash_dedup`; passages of a document within others
Files   heldout.parquet    id, text, columns of the corpus; near_duplicates int64, documents left out for it, itself too
        leave_out.parquet  id; held_out, the id of the set's document; similarity, their Jaccard
        heldout.json       seed, rule, counts, hashes
        All three come at once, or none does
"""

import heapq
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from curate.errors import ConfigError, DataError
from curate.eval.bpb import NO_DOMAIN
from curate.eval.corpus import columns, documents
from curate.eval.suite import ABOUT, SET
from curate.io.inputs import Input, list_files
from curate.stages.leave_out import LEAVE_OUT
from curate.stages.sample import uniform

MARK = "heldout/"  # before the ids of the set, where it stands beside the corpus
KEPT = ("source", "url", "date", "lang")  # columns that go along where the corpus has them


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """`heldout.json`: what was drawn, how, and what must stay out."""

    schema: str = "curate.heldout/1"
    corpus: list[str]
    by: str | None
    seed: int
    asked: int  # documents of each domain; 0: the set was given
    rule: dict[str, Any]  # minhash_dedup's options
    documents: int
    bytes: int
    domains: dict[str, int]
    corpus_documents: int  # with text
    unread: list[str] = []  # rows that cannot be read, which no run keeps: file, offset, reason
    left_out: int  # documents of the corpus that every arm leaves out
    set_hash: str  # xxh3-128 over ids and texts, as in eval.json
    leave_out_hash: str  # the same over the sorted ids


def hold_out(
    corpus: Sequence[str], folder: str, *, documents: int = 0, by: str | None = None, seed: int = 0,
    id: str | None = None, threshold: float = 0.8, of: str = "", workers: int = 0,
) -> Held:  # fmt: skip
    """Draw `documents` of each domain, or take the set of the folder `of`, and find what must stay out of training.

    ConfigError for a folder that is in use, or options that exclude each other; DataError for a corpus without text, or
    with an id that comes twice.
    """
    if bool(of) == bool(documents) or documents < 0 or seed < 0:
        raise ConfigError(
            "say how many documents of each domain are held out, or which set is", hint="--documents 200"
        )
    place = _empty(folder)
    given = Input(path=tuple(corpus), id=id)
    if not of:  # or the list is for this corpus alone, read as it is here
        _check_ids(given)
    place.parent.mkdir(parents=True, exist_ok=True)
    rule = {"threshold": threshold}
    with TemporaryDirectory(prefix=f".{place.name}-", dir=place.parent) as made:
        scratch = Path(made)
        unread: list[str] = []
        drawn, count = _laid_down(given, scratch, documents, by, seed, unread)
        chosen = read_set(of) if of else pa.Table.from_batches(drawn)
        _beside(chosen, scratch)
        left = _near(scratch, rule, workers)
        chosen = _counted(chosen, left)
        if not of:  # what was dropped for another of the set has no duplicates of its own
            chosen = chosen.filter(pc.greater(chosen["near_duplicates"], 0))
        sizes = pc.sum(pc.binary_length(chosen["text"].cast(pa.large_binary()))).as_py() or 0
        held = Held(
            corpus=list(corpus), by=by, seed=seed, asked=documents, rule=rule, documents=chosen.num_rows,
            bytes=sizes, domains=_domains(chosen, by), corpus_documents=count, left_out=left.num_rows, unread=unread,
            set_hash=_digest(chosen["id"].to_pylist(), chosen["text"].to_pylist()),
            leave_out_hash=_digest(left["id"].to_pylist()),
        )  # fmt: skip
        _lay_down(scratch / "set", chosen, left, held)
        (scratch / "set").rename(place)
    return held


def _lay_down(folder: Path, chosen: pa.Table, left: pa.Table, held: Held) -> None:
    folder.mkdir()
    pq.write_table(chosen, folder / SET, compression="zstd")
    pq.write_table(left, folder / LEAVE_OUT, compression="zstd")
    (folder / ABOUT).write_bytes(msgspec.json.format(msgspec.json.encode(held)))


def _empty(folder: str) -> Path:
    """A folder that can be written; ConfigError for one that holds something: a held-out set stays as it is."""
    place = Path(folder)
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise ConfigError(
            "is not empty", where=folder, hint="give an empty or a new folder: a held-out set stays"
        )
    return place


def _check_ids(given: Input) -> None:
    """ConfigError where ids would be made of the places of the files: an arm that reads other paths has others."""
    _, files = list_files(given, Path("."))
    placed = [file.path for file in files if not (given.id or file.own_ids or file.format == "warc")]
    if placed:
        raise ConfigError(
            "its rows are named by the paths that a run is given, so no other run could leave them out",
            where=placed[0], hint="--id COLUMN names a column with ids; or hold out of a corpus that `curate run` made",
        )  # fmt: skip


def about(folder: str) -> Held:
    """What a held-out folder says of itself. ConfigError where it is none."""
    file = Path(folder) / ABOUT
    if not file.is_file():
        raise ConfigError(
            "no held-out set", where=folder, hint="`curate eval heldout CORPUS -o FOLDER` makes one"
        )
    return msgspec.json.decode(file.read_bytes(), type=Held)


def read_set(folder: str) -> pa.Table:
    """The documents of a held-out folder. ConfigError where it is none."""
    about(folder)
    return pq.read_table(Path(folder) / SET)


def left_out(folder: str) -> set[str]:
    """The ids that every arm leaves out of its training data."""
    about(folder)
    return set(pq.read_table(Path(folder) / LEAVE_OUT, columns=["id"])["id"].to_pylist())


def _laid_down(
    given: Input, scratch: Path, documents: int, by: str | None, seed: int, unread: list[str]
) -> tuple[list[pa.RecordBatch], int]:
    """Write ids and texts of the corpus; returns the documents drawn, and how many have text."""
    there = columns(given.paths, given.id)
    taken = tuple(dict.fromkeys([*([by] if by else []), *(name for name in KEPT if name in there)]))
    draw, count = _Draw(documents), 0
    (scratch / "docs").mkdir()
    schema = pa.schema({"id": pa.string(), "text": pa.large_string()})
    with pq.ParquetWriter(scratch / "docs/1-corpus.parquet", schema, compression="zstd") as writer:
        for batch in _with_text(given, taken, unread):
            writer.write_batch(batch.select(["id", "text"]).cast(schema))
            count += batch.num_rows
            draw.add(batch, by, seed)
    if not count:
        raise DataError("the corpus has no document with text", where=", ".join(given.paths))
    return draw.rows(), count


def _with_text(given: Input, taken: tuple[str, ...], unread: list[str]) -> Iterator[pa.RecordBatch]:
    for batch in documents(given, taken, unread):
        kept = batch.filter(pc.greater(pc.binary_length(batch["text"].cast(pa.large_binary())), 0))
        if kept.num_rows:
            yield kept


class _Draw:
    """Holds the rows with the smallest hashes of each domain, and no others."""

    def __init__(self, documents: int) -> None:
        self._documents, self._seen = documents, 0
        self._heaps: dict[str, list[tuple[float, str, int, pa.RecordBatch]]] = {}

    def add(self, batch: pa.RecordBatch, by: str | None, seed: int) -> None:
        hashes = uniform(batch["id"], "heldout", seed).tolist()
        domains = batch[by].cast(pa.string()).to_pylist() if by else [None] * batch.num_rows
        for i, (value, id_, domain) in enumerate(zip(hashes, batch["id"].to_pylist(), domains, strict=True)):
            heap = self._heaps.setdefault(domain or NO_DOMAIN, [])
            self._seen += 1
            if len(heap) < self._documents or (heap and -value > heap[0][0]):
                heapq.heappush(
                    heap, (-value, id_, self._seen, batch.take(pa.array([i])))
                )  # a copy of the row alone
            if len(heap) > self._documents:
                heapq.heappop(heap)

    def rows(self) -> list[pa.RecordBatch]:
        """By domain, then by hash."""
        return [one[-1] for _, heap in sorted(self._heaps.items()) for one in sorted(heap, reverse=True)]


def _beside(chosen: pa.Table, scratch: Path) -> None:
    marked = pc.binary_join_element_wise(MARK, chosen["id"].cast(pa.string()), "")
    table = pa.table({"id": marked, "text": chosen["text"].cast(pa.large_string())})
    pq.write_table(table, scratch / "docs/0-heldout.parquet")


def _near(scratch: Path, rule: dict[str, Any], workers: int) -> pa.Table:
    """(id, held_out, similarity) of the documents that are near a document of the set, in the order of the ids."""
    from curate.engine.api import run
    from curate.io.query import open_dataset, query

    recipe = {
        "name": "heldout", "input": {"path": str(scratch / "docs"), "id": "id"}, "stages": [{"minhash_dedup": rule}],
        "output": {"path": str(scratch / "out"), "dropped": "keys"}, "store": str(scratch / "store"),
        "guards": {"unchanged": "warn"}, "allow_quarantined": 1 << 40,
    }  # fmt: skip
    result = run(recipe, workers=workers)
    if result.rows.quarantined:
        raise DataError(
            "an id of the corpus comes twice, or a row cannot be read", hint="--id COLUMN names another"
        )
    sql = f"""
        SELECT id, substr(kept_id, {len(MARK) + 1}) AS held_out, drop_value AS similarity FROM dropped
        WHERE starts_with(kept_id, '{MARK}') AND NOT starts_with(id, '{MARK}') ORDER BY id
    """
    return query(open_dataset(scratch / "out"), sql).read_all()


def _counted(chosen: pa.Table, left: pa.Table) -> pa.Table:
    """The set with the number of documents that were dropped for each."""
    counts = Counter(left["held_out"].to_pylist())
    near = pa.array([counts[one] for one in chosen["id"].to_pylist()], pa.int64())
    if "near_duplicates" in chosen.column_names:
        chosen = chosen.drop_columns(["near_duplicates"])
    return chosen.append_column("near_duplicates", near)


def _domains(chosen: pa.Table, by: str | None) -> dict[str, int]:
    names = chosen[by].to_pylist() if by and by in chosen.column_names else [None] * chosen.num_rows
    return dict(sorted(Counter(str(name or NO_DOMAIN) for name in names).items()))


def _digest(*values: list[str]) -> str:
    digest = xxhash.xxh3_128()
    for row in zip(*values, strict=True):
        digest.update("".join(f"{one}\0" for one in row))
    return digest.hexdigest()
