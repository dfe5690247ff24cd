"""What an arm took away from the control's corpus: documents that the control keeps and the arm drops or changes."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from curate.io.query import open_pair
from curate.report import difference
from curate.report.counts import columns_of, literal, rows_of
from curate.report.documents import walk
from curate.report.facts import Facts
from curate.report.word_diff import Piece, word_diff

SHOWN = 10  # documents
TEXT_CHARS = 3000  # of each of the two texts


class Group(msgspec.Struct, kw_only=True):
    """Documents that the control keeps, by what the arm did with them."""

    fate: str  # changed, dropped, quarantined, absent
    stage: str = ""
    reason: str = ""
    rows: int


class Example(msgspec.Struct, kw_only=True):
    """One of them. A changed text is told in pieces: shared, the control's (`kept`), the arm's (`dropped`)."""

    id: str
    source: str
    group: int
    chars: int  # of the control's text
    pieces: list[Piece]


class Taken(msgspec.Struct, kw_only=True):
    """The control's documents by what became of them in the arm; or, where they are not known, the arm's own input."""

    of_control: bool
    rows: int  # that the control keeps; or that came in
    same: int
    groups: list[Group]
    added: int  # rows that the arm alone keeps
    examples: list[Example]


def taken(control: Facts, arm: Facts) -> Taken:
    """Join two corpora on `id`; ConfigError where they have no id in common."""
    found = difference.compare(control, arm, SHOWN)
    groups, ids = [], []
    if found.changed:
        groups.append(Group(fate=difference.CHANGED, rows=found.changed))
        ids.append(found.changed_ids)
    for fate in found.only_a:
        groups.append(Group(fate=fate.fate, stage=fate.stage, reason=fate.reason, rows=fate.rows))
        ids.append([shown.id for shown in fate.sample])
    chosen = dict(_in_turn(ids))
    return Taken(
        of_control=True, rows=found.rows["a"], same=found.same, groups=groups, added=sum(fate.rows for fate in found.only_b),
        examples=list(_examples(control, arm, groups, chosen)) if chosen else [],
    )  # fmt: skip


def taken_of_input(arm: Facts) -> Taken:
    """What the arm's own recipe dropped, for a control whose corpus no run made."""
    ordered = sorted(arm.dropped.items(), key=lambda one: (-one[1], one[0]))
    groups = [Group(fate=difference.DROPPED, stage=s, reason=r, rows=rows) for (s, r), rows in ordered]
    samples = walk(arm, sample=SHOWN).samples
    rows = [{row["id"]: row for row in samples.get(key, [])} for key, _ in ordered]
    return Taken(
        of_control=False, rows=arm.result.rows.in_ + arm.result.rows.made, same=arm.result.rows.kept, groups=groups, added=0,
        examples=[_dropped(rows[group][i], group) for i, group in _in_turn([list(own) for own in rows])],
    )  # fmt: skip


def _dropped(row: Mapping[str, Any], group: int) -> Example:
    chars = row.get("chars") or 0
    return Example(
        id=row["id"],
        source=row.get("source") or "",
        group=group,
        chars=chars,
        pieces=_start(row.get("text"), chars),
    )


def _start(text: str | None, chars: int) -> list[Piece]:
    shown = [Piece("same", (text or "")[:TEXT_CHARS])]
    return [*shown, Piece("rest", str(chars - TEXT_CHARS))] if chars > TEXT_CHARS else shown


def _in_turn(ids: Sequence[Sequence[str]]) -> Iterator[tuple[str, int]]:
    """At most SHOWN ids, each with the number of its group: one of each group, then a second of each."""
    turns = [(i, group) for at in range(SHOWN) for group, own in enumerate(ids) for i in own[at : at + 1]]
    yield from sorted(turns[:SHOWN], key=lambda one: one[1])


def _examples(
    control: Facts, arm: Facts, groups: Sequence[Group], chosen: Mapping[str, int]
) -> Iterator[Example]:
    connection = open_pair(control.folder, arm.folder)
    listed = ", ".join(map(literal, chosen))
    source = "source" if "source" in columns_of(connection, "a_docs") else "''"
    texts = {
        side: {i: row for i, *row in rows_of(connection, f"SELECT id, {what} FROM {side}_docs WHERE id IN ({listed})")}
        for side, what in (
            ("a", f"{source}, length(text), left(text, {TEXT_CHARS})"), ("b", f"left(text, {TEXT_CHARS})"),
        )
    }  # fmt: skip
    for i, group in chosen.items():
        name, chars, text = texts["a"][i]
        pieces = _start(text, chars or 0)
        if groups[group].fate == difference.CHANGED:
            pieces = word_diff(text or "", texts["b"][i][0] or "")
        yield Example(id=i, source=name or "", group=group, chars=chars or 0, pieces=pieces)
