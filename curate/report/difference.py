"""Two corpora side by side: what one keeps and the other does not, by stage and reason, joined on `id`."""

from typing import Any

import msgspec
import pyarrow as pa

from curate.errors import ConfigError
from curate.io.query import open_pair
from curate.report.counts import columns_of, literal, rows_of
from curate.report.documents import stream
from curate.report.facts import Facts

SAMPLE = 3  # documents of each fate
_ROWS_PER_BUCKET = 5_000_000  # ids held at once; more are joined bucket by bucket
TEXTS = pa.schema({"id": pa.string(), "text": pa.large_string()})
TEXT_CHARS = 200

# Where a row of one side is on the other.
KEPT, CHANGED, DROPPED, QUARANTINED, ABSENT = "kept", "changed", "dropped", "quarantined", "absent"


class Shown(msgspec.Struct, kw_only=True):
    """A document that one side keeps."""

    id: str
    source: str
    text: str


class Fate(msgspec.Struct, kw_only=True):
    """Rows that one side keeps and what the other did with them."""

    fate: str  # dropped, quarantined, absent
    stage: str = ""
    reason: str = ""
    rows: int
    sample: list[Shown] = []


class Corpora(msgspec.Struct, kw_only=True):
    """What two datasets have in common and what not."""

    rows: dict[str, int]  # kept by a, by b
    same: int  # kept by both with the same text
    changed: int  # kept by both, the text differs
    changed_ids: list[str] = []
    only_a: list[Fate]  # kept by a alone: what b did
    only_b: list[Fate]
    partial: list[str] = []  # sides of which only a sample of the dropped rows is there

    @property
    def differ(self) -> bool:
        return bool(self.changed or self.only_a or self.only_b)


def compare(a: Facts, b: Facts, sample: int = SAMPLE) -> Corpora:
    """Join two datasets on `id`, with `sample` documents of each fate; ConfigError where they have no id in common."""
    connection = open_pair(a.folder, b.folder)
    kept = {"a": a.result.rows.kept, "b": b.result.rows.kept}
    largest = max(facts.result.rows.in_ + facts.result.rows.made for facts in (a, b))
    buckets = 1 + largest // _ROWS_PER_BUCKET
    found = Corpora(
        rows=kept, same=0, changed=0, only_a=[], only_b=[],
        partial=[name for name, facts in (("a", a), ("b", b)) if not facts.has_all_rows],
    )  # fmt: skip
    for one, other in (("a", "b"), ("b", "a")):
        fates: dict[tuple[str, str, str], tuple[int, list[str]]] = {}
        for bucket in range(buckets):
            for side, facts in (("a", a), ("b", b)):
                connection.register(f"{side}_texts", stream(facts.folder, TEXTS))
            for row in rows_of(connection, _join(one, other, buckets, bucket, sample)):
                rows, ids = fates.get(row[:3], (0, []))
                fates[row[:3]] = rows + row[3], (ids + row[4])[:sample]
        found.same, _ = fates.pop((KEPT, "", ""), (0, []))
        found.changed, found.changed_ids = fates.pop((CHANGED, "", ""), (0, []))
        ordered = sorted(fates.items(), key=lambda item: (-item[1][0], item[0]))
        listed = [
            Fate(fate=fate, stage=stage, reason=reason, rows=rows, sample=_shown(connection, one, ids))
            for (fate, stage, reason), (rows, ids) in ordered
        ]
        if one == "a":
            found.only_a = listed
        else:
            found.only_b = listed
    if not found.same + found.changed and all(kept.values()) and _strangers(found):
        raise ConfigError(
            "the two corpora have no id in common",
            hint="ids are made of file and row: make both from the same input, or map its own ids with `input.id`",
        )
    return found


def _strangers(found: Corpora) -> bool:
    return all(fate.fate == ABSENT for fate in (*found.only_a, *found.only_b))


def _join(one: str, other: str, buckets: int, bucket: int, sample: int) -> str:
    """Rows kept by `one`, by what `other` did with them: fate, stage, reason, rows, a few ids."""

    def rows(view: str, columns: str) -> str:
        where = f" WHERE hash(id) % {buckets} = {bucket}" if buckets > 1 else ""
        return f"(SELECT id{columns} FROM {view}{where})"

    return f"""
        SELECT fate, stage, reason, count(*), min_by(id, hash(id), {sample}) FROM (
            SELECT x.id,
                CASE WHEN y.id IS NOT NULL THEN CASE WHEN x.h IS DISTINCT FROM y.h THEN '{CHANGED}' ELSE '{KEPT}' END
                    WHEN d.id IS NOT NULL THEN '{DROPPED}' WHEN q.id IS NOT NULL THEN '{QUARANTINED}' ELSE '{ABSENT}' END AS fate,
                CASE WHEN y.id IS NULL THEN COALESCE(d.drop_stage, q.stage, '') ELSE '' END AS stage,
                CASE WHEN y.id IS NULL THEN COALESCE(d.drop_reason, q.reason, '') ELSE '' END AS reason
            FROM {rows(f"{one}_texts", ", hash(text) AS h")} x
            LEFT JOIN {rows(f"{other}_texts", ", hash(text) AS h")} y ON x.id = y.id
            LEFT JOIN {rows(f"{other}_dropped", ", drop_stage, drop_reason")} d ON x.id = d.id
            LEFT JOIN {rows(f"{other}_quarantine", ", stage, reason")} q ON x.id = q.id
        ) GROUP BY ALL"""


def _shown(connection: Any, side: str, ids: list[str]) -> list[Shown]:
    if not ids:
        return []
    listed = ", ".join(map(literal, ids))
    source = "source" if "source" in columns_of(connection, f"{side}_docs") else "NULL"
    sql = f"SELECT id, {source}, left(text, {TEXT_CHARS * 2}) FROM {side}_docs WHERE id IN ({listed}) ORDER BY hash(id)"
    return [
        Shown(id=i, source=source or "", text=" ".join((text or "").split())[:TEXT_CHARS])
        for i, source, text in rows_of(connection, sql)
    ]
