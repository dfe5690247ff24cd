"""Keeps one of the documents that are nearly the same: those that share most of their word n-grams.

Paper   Broder 1997 (MinHash), Indyk and Motwani 1998 (bands); as in Penedo et al. 2024 (FineWeb), arXiv:2406.17557
Method  MinHash signatures cut into bands propose pairs; a pair is a duplicate when the true Jaccard similarity of its
        n-gram sets reaches `threshold`. Documents that hang together by proposals are walked in the order of `keep`:
        one is kept unless it is a duplicate of one kept before it, so nothing goes by way of a chain of others
Reads   text, large_string (n,), nulls allowed; `date` for `keep: newest`; the columns of `highest` and `scope`
Writes  minhash_dedup_cluster_size  int64 (n,), documents that this one stands for, itself among them; null for null text
        minhash_dedup_cluster_id    string (n,), its own id; null for null text
Rows    drops duplicates: drop_reason `near_duplicate`, `duplicate` for documents too short for an n-gram; kept_id the
        survivor, drop_value their Jaccard, drop_threshold `threshold`
Words   as `curate.kernels.shingles` has them: case and punctuation folded unless `fold` says otherwise; each character
        of a script without spaces is a word
Differs documents of fewer than `ngram` words go only where another has the same words (FineWeb keeps them all), those
        without words where the text is the same, byte for byte. Rows with null text are all kept
Index   with `index` the kept documents of a `curate index` come first in keep order: what is a duplicate of one goes,
        `kept_id` names it; nothing of the index ever goes for a new document. `update_index` adds all that was seen
Odds    the same words are told by 64 bits of hash: among n different documents too short for an n-gram about
        n^2 / 2^65 pairs are taken for equal (0.03 at 1e9). n-grams are told by 32: of two documents with d of them each
        that the other has not, d^2 / 2^32 are taken for shared (a Jaccard off by one n-gram in 400,000 pairs at d = 100)
Misses  a pair is proposed with a probability that grows with its similarity: `curate check` prints it
Fails   ConfigError at load for options that exclude each other; at plan when no bands reach `recall`, a column is not
        there, `highest` is no number, `scope` cannot be compared, `keep: newest` has no `date` as text, or the index is
        not there or was made in another way
"""

import importlib.util
from collections.abc import Mapping
from typing import Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import ConfigError
from curate.index.index import Index
from curate.stage import Inputs, Out, Phase, Task, global_stage
from curate.stages._minhash_index import Candidates, Known, new_links, old_links
from curate.stages._minhash_links import Buckets, Components, Places
from curate.stages._minhash_sign import (
    Highest,
    Novel,
    Signer,
    check_header,
    index_header,
    plan_of,
    rank,
    scoped,
)
from curate.stages._minhash_walk import Walk, packed, tables
from curate.stages.exact_dedup import Upcoming, is_comparable

SHOWN = (0.8, 0.85, 0.9)  # similarities whose recall `check` prints


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    threshold: float = 0.8  # Jaccard similarity from which documents are duplicates
    recall: float = 0.95  # share of pairs at the threshold that bands are to propose; datasketch has its own
    num_perm: int = 128  # places of a signature; bands x rows is at most this
    bands: int | None = None  # given with `rows`, instead of planning them by `recall`
    rows: int | None = None  # places of a signature per band
    scheme: Literal["fast", "affine32", "datasketch"] = "fast"  # datasketch: bit for bit its signatures
    ngram: int = 5  # words of a shingle
    fold: tuple[Literal["case", "accents", "punctuation", "digits"], ...] = ("case", "punctuation")  # ignored
    seed: int = 1  # of the permutations
    keep: Literal["first", "longest", "newest"] | Highest = "first"  # or {highest: COLUMN}: who survives
    verify: bool | Novel = True  # by true sets; {max_novel_tokens: N} keeps what has more new words
    scope: str | None = None  # column: only documents of the same value are duplicates
    index: str | None = None  # folder of `curate index`: what it has already is dropped, before anything else
    update_index: bool = False  # add the documents to the index once the run is complete

    def __post_init__(self) -> None:
        if not (0 < self.threshold <= 1 and 0 < self.recall < 1):
            raise ConfigError("`threshold` lies in (0, 1] and `recall` in (0, 1)")
        if self.num_perm < 1 or self.ngram < 1:
            raise ConfigError("`num_perm` and `ngram` are 1 or more")
        if not 0 <= self.seed < 1 << 32:
            raise ConfigError(f"`seed` lies in 0 to {(1 << 32) - 1}, and is {self.seed}")
        if (self.bands is None) != (self.rows is None):
            raise ConfigError(
                "`bands` and `rows` are given together", hint="or leave both out: `recall` plans them"
            )
        if min(self.bands or 0, self.rows or 0) < 1 and self.bands is not None:
            raise ConfigError(
                "`bands` and `rows` are 1 or more", hint="or leave both out: `recall` plans them"
            )
        if self.bands is not None and not 1 <= self.bands * (self.rows or 0) <= self.num_perm:
            raise ConfigError(
                f"{self.bands} bands of {self.rows} rows do not fit into `num_perm: {self.num_perm}`",
                hint=f"bands x rows is {self.bands * (self.rows or 0)}: raise `num_perm` to it",
            )
        if isinstance(self.verify, Novel) and self.verify.max_novel_tokens < 0:
            raise ConfigError("`max_novel_tokens` is 0 or more", hint="`verify: true` does not count them")
        if self.index is not None and self.verify is not True:
            raise ConfigError("an index goes with `verify: true`", hint="it holds no words of its documents")
        if self.update_index and (self.index is None or self.keep != "first"):
            raise ConfigError(
                "`update_index` goes with `index` and with `keep: first`", hint="the index keeps the earlier"
            )


def files(config: Config) -> list[str]:
    """The index: its content is part of what names the passes."""
    if config.index is None:
        return []
    Index(config.index).check(index_header(config))
    return [config.index]


def notes(config: Config) -> list[str]:
    """The plan, and what it finds."""
    from curate.kernels.minhash import predicted_recall

    bands, rows = plan_of(config)
    found = ", ".join(f"{predicted_recall(s, bands, rows):.3f} at {s}" for s in SHOWN)
    return [f"{bands} bands x {rows} rows; share of pairs found by their Jaccard: {found}"]


def columns_read(config: Config) -> list[str]:
    named = [config.keep.highest] if isinstance(config.keep, Highest) else []
    named += ["date"] if config.keep == "newest" else []
    return ["text", *named, *([config.scope] if config.scope else [])]


def libraries(config: Config) -> list[str]:
    planned = config.scheme == "datasketch" and config.bands is None
    return ["xxhash", *(["datasketch"] if planned else [])]


def check(config: Config, columns: Mapping[str, pa.DataType]) -> None:
    """Refuse columns of a type that cannot be ordered or compared, and bands that cannot be had."""
    if "datasketch" in libraries(config) and importlib.util.find_spec("datasketch") is None:
        raise ConfigError(
            "`scheme: datasketch` takes its bands from datasketch, which is not there",
            hint="`pip install datasketch`, or give `bands` and `rows`",
        )
    plan_of(config)
    if isinstance(config.keep, Highest):
        kind = columns[config.keep.highest]
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            raise ConfigError(f"`highest: {config.keep.highest}` is {kind}, no number", hint="name a score")
    if config.keep == "newest" and columns["date"] not in (pa.string(), pa.large_string()):
        raise ConfigError(
            f"`keep: newest` needs `date` as text, and it is {columns['date']}",
            hint="write it as 2026-11-20 or 2026-11-20T08:00:00Z",
        )
    if config.scope and not is_comparable(columns[config.scope]):
        raise ConfigError(
            f"`scope: {config.scope}` is {columns[config.scope]}, which cannot be compared",
            hint="name a column of texts or numbers, such as lang or source",
        )


def sign(task: Task, inputs: Inputs, out: Out, config: Config) -> Mapping[str, int]:
    """Per unit: (key, rank, order) of each document and band, in the order of the key."""
    signer = Signer(config)
    documents = short = 0
    for batch in inputs.batches():
        if batch.column("text").null_count:
            batch = batch.filter(batch.column("text").is_valid())
        signed = signer.of(batch, sets=False)
        keys, is_short = scoped(signed.bands, batch, config), signed.short
        rows = np.concatenate([np.repeat(np.flatnonzero(~is_short), keys.shape[1]), np.flatnonzero(is_short)])
        key = np.concatenate([keys[~is_short].ravel(), keys[is_short, 0]])
        order, ranked = batch.column("order").to_numpy(), rank(batch, config)
        out.write(signer.marked(pa.table({"key": key, "rank": ranked[rows], "order": order[rows]})))
        documents, short = documents + batch.num_rows, short + int(is_short.sum())
    return {"documents": documents, "short": short}


def band(task: Task, inputs: Inputs, out: Out, config: Config) -> Mapping[str, int]:
    """Per range of keys: links of the first document of a bucket with the others, and of each with the index."""
    buckets, index, old = Buckets(), Index(config.index) if config.index else None, 0
    for table in inputs.merged():
        check_header(table.schema.metadata, config)
        out.write(buckets.next(table))
        if index:
            out.write(found := old_links(index, table))
            old += found.num_rows
    return {"links": buckets.links, **({"links_with_index": old} if index else {})}


def component(task: Task, inputs: Inputs, out: Out, config: Config) -> Mapping[str, int]:
    """Over all links: which component each linked document is of."""
    components = Components(Places(new_links(inputs.merged())), out.scratch, out.memory)
    for table in new_links(inputs.merged()):
        components.link(table)
    candidates = Candidates(inputs.merged()) if config.index else None
    for table in components.members():
        out.write(candidates.beside(table) if candidates else table)
    return {
        "linked": components.linked,
        "components": components.count,
        "largest_component": components.largest,
    }


def gather(task: Task, inputs: Inputs, out: Out, config: Config) -> Mapping[str, int]:
    """Per unit: what the walk needs of each linked document."""
    signer, upcoming = Signer(config), Upcoming(inputs.merged())
    for batch in inputs.batches():
        order = batch.column("order").to_numpy()
        found = upcoming.up_to(int(order[-1])) if len(order) else None
        if found is None:
            continue
        linked = batch.select(["id", *columns_read(config)]).take(
            pa.array(np.searchsorted(order, found["order"].to_numpy()))
        )
        signed = signer.of(linked, sets=config.verify is not False)
        n, bands = signed.bands.shape
        table = pa.table({
            "component": found["component"], "rank": rank(linked, config), "order": found["order"],
            "id": linked.column("id"), "digest": signed.digests,
            "bands": packed(signed.bands, np.arange(n + 1) * bands), "shingles": signed.shingles, "words": signed.words,
            **({"old": found["old"]} if config.index else {}),
        })  # fmt: skip
        out.write(signer.marked(table))
    return {}


def cluster(task: Task, inputs: Inputs, out: Out, config: Config) -> Mapping[str, int]:
    """Per range of components: each document that goes, with who is kept; each one kept for others, with how many."""
    novel = config.verify.max_novel_tokens if isinstance(config.verify, Novel) else -1
    walk = Walk(config.threshold, novel, config.verify is not False, out.scratch, out.memory)
    known = Known(Index(config.index), inputs.merged(), out.write) if config.index else None
    for table in tables(walk, known.others() if known else inputs.merged()):
        out.write(table)
    return {**walk.counts(), **({"known": known.dropped} if known else {})}


def apply(task: Task, inputs: Inputs, out: Out, config: Config) -> Mapping[str, int]:
    """Per unit: keep survivors and drop the others."""
    upcoming = Upcoming(inputs.merged())
    for batch in inputs.batches():
        order = batch.column("order").to_numpy()
        found = upcoming.up_to(int(order[-1])) if len(order) else None
        size = np.ones(len(order), np.int64)
        if found is not None:
            at = np.searchsorted(order, found["order"].to_numpy())
            size[at] = found["size"].to_numpy()
        kept = pa.array(size > 0)
        null = batch.column("text").is_null()
        marked = batch.append_column("minhash_dedup_cluster_size", pa.array(size, mask=null.to_numpy(False)))
        own = pc.if_else(null, pa.scalar(None, pa.string()), batch.column("id"))
        out.keep(marked.append_column("minhash_dedup_cluster_id", own).filter(kept))
        if found is not None:
            lost = found.filter(pc.equal(found["size"], 0)).combine_chunks()
            dropped = batch.filter(pc.invert(kept))
            out.drop(dropped, _reasons(dropped, lost, config))
    return {}


def _reasons(dropped: pa.RecordBatch, lost: pa.Table, config: Config) -> Mapping[str, pa.Array]:
    jaccard = pc.if_else(pc.is_nan(lost["jaccard"]), pa.scalar(None, pa.float64()), lost["jaccard"])
    reason = pc.if_else(lost["short"], "duplicate", "near_duplicate")
    return {
        "drop_reason": reason.combine_chunks().cast(pa.string()), "kept_id": lost["kept_id"].combine_chunks(),
        "drop_value": jaccard.combine_chunks(),
        "drop_threshold": pa.array(np.full(dropped.num_rows, config.threshold)),
    }  # fmt: skip


minhash_dedup = global_stage(
    "minhash_dedup", version=2, config=Config, reads=columns_read, libraries=libraries,
    writes={"minhash_dedup_cluster_size": pa.int64(), "minhash_dedup_cluster_id": pa.string()},
    phases=[
        Phase(sign, "units", ("key", "rank", "order")), Phase(band, "ranges", ("a", "b")),
        Phase(component, "whole", ("order",)), Phase(gather, "units", ("component", "rank", "order")),
        Phase(cluster, "ranges", ("order",)), Phase(apply, "units"),
    ],
    check=check, notes=notes, files=files,
)  # fmt: skip
