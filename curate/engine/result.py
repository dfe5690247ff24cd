"""What a run came to: totals of the journal, the manifest, and the exit code."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from curate.engine import journal
from curate.engine.journal import MANIFEST, Entry
from curate.engine.plan import Pass, Plan
from curate.errors import COMPLETE, QUARANTINED, DataError
from curate.io import unread
from curate.io.files import Folder


class Rows(msgspec.Struct, kw_only=True):
    """`in + made = kept + quarantined + all dropped`; skipped records never were rows."""

    in_: int = msgspec.field(name="in", default=0)
    kept: int = 0
    made: int = 0
    quarantined: int = 0
    skipped: dict[str, int] = {}
    dropped: dict[str, dict[str, int]] = {}


class Result(msgspec.Struct, kw_only=True):
    """What a run came to; also `_curate/manifest.json` and the `--json` object."""

    schema: str = "curate.run/1"
    status: Literal["complete", "quarantined"] = "complete"
    exit: int = 0
    rows: Rows
    output: str = ""
    seconds: float = 0.0
    next: str = ""
    recipe: str = ""
    text_bytes: int = 0
    tokens: int = 0
    bytes_in: int = 0
    quarantined: dict[str, int] = {}  # reason -> rows
    killed_ids: list[str] = []  # quarantined by deadline or memory
    missing: list[str] = []  # files asked for that were not at their source; `allow_missing` allows them
    passes: list[dict[str, Any]] = []
    canaries: dict[str, int] = {}  # planted, came to their stage, found
    corpus: dict[
        str, str
    ] = {}  # `columns: new`: path (relative to here) and digest of what the columns belong to
    says: dict[str, Any] = {}  # what its stages state: the contract of a tokenizer
    digest: str = ""
    fresh_units: int = 0  # done by this very call; 0 when nothing was left to do
    fresh_bytes: int = 0  # of the input, read by this very call


def read_manifest(folder: Folder) -> Result:
    """What a complete run came to."""
    try:
        return msgspec.json.decode(folder.read(MANIFEST), type=Result)
    except ValueError as error:
        raise DataError(
            f"the manifest cannot be read: {error}", where=folder.address(MANIFEST),
            hint="`curate run --fresh` makes the dataset anew",
        ) from None  # fmt: skip


def judged(result: Result, allowed: float) -> Result:
    """The result with its exit code: more quarantined rows than allowed is 4."""
    limit = allowed if allowed >= 1 or allowed == 0 else allowed * result.rows.in_
    over = result.rows.quarantined > limit
    result.status, result.exit = ("quarantined", QUARANTINED) if over else ("complete", COMPLETE)
    return result


def summarise(plan: Plan, totals: Mapping[int, Entry], output: str) -> Result:
    """Totals over all rows passes, from the journal alone."""
    rows_passes = [one for one in plan.passes if one.kind == "rows"]
    first, last = totals[rows_passes[0].index], totals[rows_passes[-1].index]
    rows = Rows(in_=first.ledger.rows_in, kept=last.ledger.kept, skipped=dict(first.skipped), dropped={})
    result = Result(
        rows=rows,
        output=output,
        recipe=plan.recipe.name,
        digest=plan.digest,
        quarantined={},
        killed_ids=[],
        missing=[f.name for f in plan.files if f.format == unread.MISSING],
        passes=[],
    )
    for one in rows_passes:
        total = totals[one.index]
        rows.made += total.ledger.made
        rows.quarantined += total.ledger.quarantined
        journal.merge_counts(result.quarantined, total.quarantined)
        result.killed_ids.extend(total.killed_ids)
        for step in total.steps.values():
            for blamed, count in step.dropped.items():
                stage, _, reason = blamed.partition("\t")
                reasons = rows.dropped.setdefault(stage, {})
                reasons[reason] = reasons.get(reason, 0) + count
    result.passes = [
        _pass_summary(plan, one, totals[one.index]) for one in plan.passes if one.index in totals
    ]
    result.text_bytes, result.tokens, result.bytes_in = last.text_bytes, last.tokens, first.bytes_in
    result.next = f"curate peek {output}"
    return result


def _pass_summary(plan: Plan, one: Pass, total: Entry) -> dict[str, Any]:
    names = {str(step.index): step.name for step in plan.recipe.steps}
    phase = f"{names[str(one.step)]} {one.phase + 1}" if one.kind == "phase" else ""
    return {
        "index": one.index, "phase": phase, "fingerprint": one.fingerprint, "rows_in": total.ledger.rows_in, "kept": total.ledger.kept,
        "dropped": total.ledger.dropped, "quarantined": total.ledger.quarantined, "seconds": round(total.seconds, 3),
        "cpu_seconds": round(total.cpu_seconds, 3), "peak_rss_bytes": total.peak_rss_bytes, "counts": total.counts,
        "steps": [
            {"index": int(i), "step": names[i], "rows": s.rows, "dropped": sum(s.dropped.values()), "seconds": round(s.seconds, 3)}
            for i, s in sorted(total.steps.items(), key=lambda item: int(item[0]))
        ],
    }  # fmt: skip
