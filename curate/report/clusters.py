"""What dedup stages took out: clusters by size, the largest with their members, what went by source, doubtful pairs.

Memory is bounded: counts by size, the largest clusters, and a sample of pairs; texts are read for these alone.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.errors import DataError
from curate.io import hive
from curate.recipe.recipe import DropSample
from curate.report.counts import columns_of, literal, quoted, rows_of
from curate.report.documents import kept_files
from curate.report.facts import Facts, StepFacts
from curate.report.word_diff import Piece, differ_in_names, word_diff

LARGEST, MEMBERS = 12, 6  # clusters of a stage that are shown, and dropped members of each
LOOKED, PAIRS = 400, 20  # pairs of a stage that are compared, and shown
PAIR_CHARS = 50_000  # longest text of a pair that is compared
TOP = 20  # sources listed
SIMILARITY = {"minhash_dedup": "Jaccard", "semantic_dedup": "cosine"}  # what `drop_value` is
_ROWS_PER_BUCKET = 20_000_000
_SEED = 7
_ABOUT = (
    "id",
    "url",
    "source",
    "lang",
    "drop_stage",
    "drop_reason",
    "drop_value",
    "drop_threshold",
    "kept_id",
)


class Size(msgspec.Struct, kw_only=True):
    """Clusters of `low` to `high` documents."""

    low: int
    high: int
    clusters: int
    documents: int


class Removal(msgspec.Struct, kw_only=True):
    """Rows of a source that came to the stage, and that it dropped."""

    source: str
    rows: int
    dropped: int


class Member(msgspec.Struct, kw_only=True):
    """A document of a cluster; `pieces` spell out how its text differs from the kept one's."""

    id: str
    url: str = ""
    source: str = ""
    lang: str = ""
    chars: int | None = None  # None: its text is not here
    value: float | None = None
    reason: str = ""
    pieces: list[Piece] = []


class Cluster(msgspec.Struct, kw_only=True):
    """A kept document with some of those dropped for it, the least alike first."""

    size: int
    kept: Member
    fate: str = ""  # of the kept one, where it is not in the output
    members: list[Member]


class Dedup(msgspec.Struct, kw_only=True):
    """What a dedup stage did."""

    name: str
    rows: int  # that came in
    dropped: int
    clusters: int = 0  # of two documents and more, whose kept one is in the dataset
    elsewhere: int = 0  # rows dropped whose kept one is not
    similarity: str = ""
    sizes: list[Size] = []
    removal: list[Removal] = []  # sources that lost rows, the most first
    sources: int = 0
    halved: int = 0  # sources that lost more than half
    estimated: bool = False  # counts by source are scaled up from a sample
    largest: list[Cluster] = []
    pairs: list[Cluster] = []  # that differ in names or numbers alone
    alike: int = 0  # how many of them there are among those looked at
    looked: int = 0
    to_look: int = 0  # pairs above the threshold, in all


def dedups(connection: Any, facts: Facts) -> list[Dedup]:
    """One for each step that dropped rows in favour of others, or counts those it stands for."""
    asker = _Asker(connection, facts)
    asked = [asker.ask(number) for number in asker.steps()]
    rows = fetch(facts.folder, {i for one in asked for i in one.ids()})
    return [one.told(rows) for one in asked]


class _Asked:
    """What was asked of a step; `told` adds the texts."""

    def __init__(
        self,
        dedup: Dedup,
        largest: dict[str, int],
        members: dict[str, list[str]],
        pairs: list[tuple[str, str]],
    ) -> None:
        self._dedup, self._largest, self._members, self._pairs = dedup, largest, members, pairs

    def ids(self) -> Iterator[str]:
        """Ids of all rows that are wanted."""
        for kept_id in self._largest:
            yield kept_id
            yield from self._members.get(kept_id, [])
        for pair in self._pairs:
            yield from pair

    def told(self, rows: Mapping[str, dict[str, Any]]) -> Dedup:
        """With clusters and pairs, their texts side by side."""
        found = self._dedup
        for kept_id, size in self._largest.items():
            found.largest.append(_cluster(rows, kept_id, self._members.get(kept_id, []), size))
        for dropped_id, kept_id in self._pairs:
            kept, dropped = (str((rows.get(i) or {}).get("text") or "") for i in (kept_id, dropped_id))
            if not kept or not dropped or max(len(kept), len(dropped)) > PAIR_CHARS:
                continue
            found.looked += 1
            if differ_in_names(kept, dropped):
                found.alike += 1
                if len(found.pairs) < PAIRS:
                    found.pairs.append(_cluster(rows, kept_id, [dropped_id], 2))
        return found


def _cluster(rows: Mapping[str, dict[str, Any]], kept_id: str, members: Iterable[str], size: int) -> Cluster:
    kept = rows.get(kept_id, {"id": kept_id})
    by = kept.get("drop_stage")
    fate = "" if by is None and "text" in kept else f"dropped later, by {by}" if by else "not in this dataset"
    dropped = [_member(rows[i], kept.get("text")) for i in members if i in rows]
    dropped.sort(key=lambda one: (one.value is None, one.value or 0.0, one.id))
    return Cluster(size=size, kept=_member(kept), fate=fate, members=dropped)


def _member(row: Mapping[str, Any], kept_text: str | None = None) -> Member:
    text = row.get("text")
    both = text is not None and kept_text is not None
    return Member(
        id=row["id"], url=row.get("url") or "", source=str(row.get("source") or ""), lang=str(row.get("lang") or ""),
        chars=row.get("chars"), value=row.get("drop_value"), reason=row.get("drop_reason") or "",
        pieces=word_diff(kept_text or "", text or "") if both else [],
    )  # fmt: skip


class _Asker:
    """Asks the views `docs` and `dropped` of a dataset."""

    def __init__(self, connection: Any, facts: Facts) -> None:
        self._rows, self._facts = partial(rows_of, connection), facts
        self._columns = {view: columns_of(connection, view) for view in ("docs", "dropped")}
        rows = facts.result.rows.kept + sum(facts.dropped.values())
        self._buckets = 1 + rows // _ROWS_PER_BUCKET

    def steps(self) -> list[int]:
        """Numbers of the steps that are dedup stages."""
        sized = {name for columns in self._columns.values() for name in columns}
        for_others = {
            row[0] for row in self._rows("SELECT DISTINCT drop_stage FROM dropped WHERE kept_id IS NOT NULL")
        }
        return [
            number for number, step in enumerate(self._facts.steps)
            if f"{step.name}_cluster_size" in sized or step.name in for_others
        ]  # fmt: skip

    def ask(self, number: int) -> _Asked:
        """Counts of a step, and which rows are to be shown."""
        step = self._facts.steps[number]
        stage = self._facts.plan.recipe.steps[step.index].stage
        found = Dedup(name=step.name, rows=step.rows, dropped=sum(step.dropped.values()))
        found.similarity = SIMILARITY.get(stage, "")
        gone = _is_one_of(step.dropped)
        winners = self._winners(step.name)
        largest: dict[str, int] = {}
        if winners:
            found.sizes = _sizes(self._rows(f"SELECT size, count(*) FROM ({winners}) GROUP BY size"))
            found.clusters = sum(size.clusters for size in found.sizes)
            lost = sum(size.documents for size in found.sizes) - found.clusters
            found.elsewhere = max(0, found.dropped - lost)
            largest = dict(
                self._rows(
                    f"SELECT id, size FROM ({winners}) ORDER BY size DESC, id LIMIT {LARGEST}",
                )
            )
        self._remove(found, number, step)
        near = f"{gone} AND kept_id IS NOT NULL AND drop_value IS NOT NULL"
        found.to_look = self._rows(f"SELECT count(*) FROM dropped WHERE {near}")[0][0]
        pairs = self._rows(
            f"SELECT id, kept_id FROM dropped WHERE {near} ORDER BY hash(id, {_SEED}), id LIMIT {LOOKED}",
        )
        return _Asked(found, largest, self._members(gone, largest), [(a, b) for a, b in pairs])

    def _winners(self, name: str) -> str:
        """Rows that stand for several, id and size; copies of them have another id. Empty where nothing says."""
        size, own = quoted(f"{name}_cluster_size"), quoted(f"{name}_cluster_id")
        said = [
            view
            for view, columns in self._columns.items()
            if {f"{name}_cluster_size", f"{name}_cluster_id"} <= set(columns)
        ]
        return " UNION ALL ".join(
            f"SELECT id, {size} AS size FROM {view} WHERE {size} > 1 AND {own} = id" for view in said
        )

    def _members(self, gone: str, largest: Mapping[str, int]) -> dict[str, list[str]]:
        if not largest:
            return {}
        listed = ", ".join(map(literal, largest))
        return dict(self._rows(
            f"SELECT kept_id, min_by(id, hash(id, {_SEED}), {MEMBERS}) FROM dropped WHERE {gone} AND kept_id IN ({listed}) GROUP BY 1"
        ))  # fmt: skip

    def _remove(self, found: Dedup, number: int, step: StepFacts) -> None:
        """By source: rows that came to the step and rows that it dropped; quarantined rows are not counted."""
        if not all("source" in columns for columns in self._columns.values()):
            return
        mode = self._facts.plan.recipe.output.dropped
        weight = 1 / mode.sample if isinstance(mode, DropSample) else 1
        before = _is_one_of({key: 0 for one in self._facts.steps[:number] for key in one.dropped})
        both = f"""SELECT {_SOURCE} AS v, 1.0 AS came, 0.0 AS gone FROM docs
            UNION ALL SELECT {_SOURCE}, {weight!r}, CASE WHEN {_is_one_of(step.dropped)} THEN {weight!r} ELSE 0 END FROM dropped
            WHERE NOT ({before})"""
        listed: list[Removal] = []
        for bucket in range(self._buckets):
            where = f"WHERE hash(v) % {self._buckets} = {bucket}" if self._buckets > 1 else ""
            by = f"SELECT v, sum(came) AS came, sum(gone) AS gone FROM ({both}) {where} GROUP BY v"
            rows = self._rows(
                f"SELECT v, came, gone, count(*) OVER (), count(*) FILTER (WHERE gone * 2 > came) OVER () FROM ({by}) ORDER BY gone DESC, v LIMIT {TOP}",
            )
            found.sources += rows[0][3] if rows else 0
            found.halved += rows[0][4] if rows else 0
            listed += [
                Removal(source=v, rows=round(came), dropped=round(gone))
                for v, came, gone, _, _ in rows
                if gone
            ]
        found.removal = sorted(listed, key=lambda one: (-one.dropped, one.source))[:TOP]
        found.estimated = isinstance(mode, DropSample)


_SOURCE = "COALESCE(CAST(source AS VARCHAR), '')"


def _is_one_of(keys: Iterable[tuple[str, str]]) -> str:
    """SQL: the row was dropped by one of the stages for one of its reasons."""
    listed = ", ".join(f"({literal(stage)}, {literal(reason)})" for stage, reason in keys)
    return f"(drop_stage, drop_reason) IN ({listed})" if listed else "FALSE"


def _sizes(counts: Sequence[tuple[Any, ...]]) -> list[Size]:
    """Bins 2, 3, and so on to 7, then 8 to 15, 16 to 31: every one up to the largest cluster."""
    found: list[Size] = []
    for size, clusters in sorted(counts):
        while not found or size > found[-1].high:
            low = found[-1].high + 1 if found else 2
            found.append(Size(low=low, high=low if low < 8 else 2 * low - 1, clusters=0, documents=0))
        found[-1].clusters += clusters
        found[-1].documents += size * clusters
    return found


def fetch(folder: Path, ids: set[str]) -> dict[str, dict[str, Any]]:
    """Rows by id, kept or dropped, with the first PAIR_CHARS + 1 characters of their text and how long it is."""
    found: dict[str, dict[str, Any]] = {}
    wanted = pa.array(sorted(ids), pa.string())
    for file in [*kept_files(folder), *sorted(folder.glob("_dropped/**/part-*.parquet"))] if ids else []:
        try:
            with pq.ParquetFile(file) as parquet:
                for row in _wanted(parquet, wanted):
                    found.setdefault(row["id"], row)
        except (pa.ArrowException, OSError) as error:
            raise DataError(
                f"cannot be read: {error}", where=str(file), hint="`curate verify` finds what is damaged"
            ) from None
    return found


def _wanted(parquet: pq.ParquetFile, wanted: pa.Array) -> Iterator[dict[str, Any]]:
    names = [name for name in parquet.schema_arrow.names if name in (*_ABOUT, "text")]
    shared = {n: v for n, v in hive.constants(parquet.schema_arrow).items() if n in _ABOUT}
    for group in range(parquet.num_row_groups):
        hits = pc.indices_nonzero(pc.is_in(parquet.read_row_group(group, columns=["id"])["id"], wanted))
        if not len(hits):
            continue
        for batch in parquet.read_row_group(group, columns=names).take(hits).to_batches():
            rows = hive.widen(batch, shared)
            if "text" in rows.schema.names:
                chars = pc.utf8_length(rows["text"])
                cut = pc.utf8_slice_codeunits(rows["text"], 0, PAIR_CHARS + 1)
                rows = rows.set_column(rows.schema.get_field_index("text"), "text", cut).append_column(
                    "chars", chars
                )
            yield from rows.to_pylist()
