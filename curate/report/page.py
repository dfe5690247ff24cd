"""`report.html`: what a dataset kept and dropped, and why."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pyarrow as pa

from curate.engine.plan import writers
from curate.io.query import open_dataset
from curate.io.side import Side
from curate.models.tokenizer import Tokenizer
from curate.report import offline
from curate.report.clusters import Dedup, dedups
from curate.report.contamination import Contamination, contaminations
from curate.report.counts import Counter, Dimension, Histogram
from curate.report.documents import PER_DECADE, TOKENS, Sum, Walk, walk
from curate.report.facts import KEPT, Facts, Key, side_plans
from curate.report.passages import has_passages, of_match, passages
from curate.report.rules import Rule, predicate_columns, rules_of

SHOWN_CHARS = 3000  # of a document on the page
TOKENIZER = "_curate/tokenize"  # where a dataset keeps the files of its tokenizer
_BEFORE = 400  # characters shown before the first marked passage


class Reason(msgspec.Struct, kw_only=True):
    """Why rows were dropped: the stage to blame and its word for it."""

    stage: str
    reason: str
    step: int  # number of the funnel's step that dropped them
    rows: int
    tokens: float | None  # None where the text of dropped rows was not kept
    rule: str = ""  # what rows must meet: "alpha_words_ratio ≥ 0.8"
    lengths: list[int] = []


class Funnel(msgspec.Struct, kw_only=True):
    """A step of the recipe: what came in, what it dropped."""

    name: str
    where: str
    rows: int
    left: int
    dropped: int
    tokens_left: float | None


class Document(msgspec.Struct, kw_only=True):
    """A sampled row; `pieces` alternate between plain and marked text."""

    id: str
    url: str = ""
    source: str = ""
    lang: str = ""
    year: str = ""
    kept_id: str = ""
    chars: int | None = None
    tokens: int | None = None  # of a dataset of tokens; the text then spells out the first of them
    before: int = 0  # characters left out before the pieces
    after: int = 0
    pieces: list[str] = []
    marked: int = 0  # passages in the whole document
    points: bool = False  # whether the rule points at passages at all
    match: str = ""  # the entry of a list that was found, in the text or in the URL
    value: str = ""
    threshold: str = ""
    values: list[tuple[str, str, str]] = []  # statistic, value, threshold of the rules nearby


class Page(msgspec.Struct, kw_only=True):
    """Everything that the page shows."""

    schema: str = "curate.report/1"
    title: str
    output: str
    curate: str
    digest: str
    status: str
    seconds: float
    bytes_in: int
    text_bytes: int
    tokens: float
    tokens_counted: bool
    tokens_in: float | None  # of the rows in, as far as their text is known
    rows: dict[str, int]
    skipped: dict[str, int]
    quarantined: dict[str, int]
    canaries: dict[str, int]  # planted, came, found; empty without
    dropped_kept: str  # full, keys, sample
    funnel: list[Funnel]
    reasons: list[Reason]
    dimensions: list[Dimension]
    histograms: list[Histogram]
    lengths: dict[str, Any]
    documents: list[list[Document]]  # of the kept, then of each reason
    dedups: list[Dedup]
    contamination: list[Contamination]


def gather(facts: Facts, sides: Sequence[Side] = ()) -> Page:
    """Read a dataset once row by row and a few times column by column; `sides` bring more columns of the kept rows."""
    rules = rules_of(facts.plan)
    compared = predicate_columns(facts.plan)
    matches = [f"{step.name}_match" for step in facts.plan.recipe.steps]
    extra = [*(rule.column for rule in rules), *compared.values(), *matches]
    extra += facts.plan.recipe.output.partition_by
    walked = walk(facts, extra)
    beside = _beside(sides)
    per_char = walked.tokens_per_char
    result = facts.result
    mode = facts.plan.recipe.output.dropped
    kept = walked.sums.get(KEPT, Sum())
    dropped = facts.dropped
    funnel, tokens_in = _funnel(facts, walked)
    with TemporaryDirectory(prefix="curate-report-") as scratch:
        connection = open_dataset(facts.folder, sides, scratch)
        counter = Counter(connection, facts)
        dimensions, histograms = counter.dimensions(), counter.histograms([*rules, *beside[0]], beside[1])
        clusters = [] if facts.is_tokens else dedups(connection, facts)  # they compare texts
        contaminated = [] if facts.is_tokens else contaminations(connection, facts)
    return Page(
        title=result.recipe, output=str(facts.folder), curate=facts.plan.curate, digest=result.digest, status=result.status,
        seconds=result.seconds, bytes_in=result.bytes_in, text_bytes=result.text_bytes,
        tokens=result.tokens or kept.tokens(per_char), tokens_counted=bool(result.tokens),
        rows={"in": result.rows.in_, "made": result.rows.made, "kept": result.rows.kept,
              "dropped": sum(dropped.values()), "quarantined": result.rows.quarantined},
        skipped=result.rows.skipped, quarantined=result.quarantined, canaries=result.canaries,
        dropped_kept=mode if isinstance(mode, str) else "full" if mode is None else "sample",
        funnel=funnel, tokens_in=tokens_in, reasons=_reasons(facts, walked, rules), dimensions=dimensions,
        histograms=histograms,
        lengths={"per_decade": PER_DECADE, "kept": kept.lengths, "unit": "tokens" if facts.is_tokens else "characters", "spelled": TOKENS},
        documents=[_documents(facts, walked, key, rules, compared) for key in (KEPT, *dropped)],
        dedups=clusters, contamination=contaminated,
    )  # fmt: skip


def _beside(sides: Sequence[Side]) -> tuple[list[Rule], dict[str, str]]:
    """Thresholds of the steps that wrote side columns, and the step of every other number that they wrote."""
    rules: list[Rule] = []
    scores: dict[str, str] = {}
    for side, plan in zip(sides, side_plans(sides), strict=True):
        rules += rules_of(plan)
        wrote = writers(plan.recipe)
        for field in side.columns:
            step = wrote.get(field.name, "")
            is_number = pa.types.is_floating(field.type) or pa.types.is_integer(field.type)
            if is_number and field.name not in (f"{step}_value", f"{step}_threshold"):
                scores[field.name] = step
    return rules, {name: step for name, step in scores.items() if name not in {r.column for r in rules}}


def _tokens(facts: Facts, walked: Walk, key: Key) -> float | None:
    """Tokens of the rows dropped for a reason; scaled up where only a sample of them was kept."""
    total = walked.sums.get(key, Sum())
    if not total.texts:
        return 0.0 if total.rows and facts.plan.recipe.output.dropped != "keys" else None
    scale = facts.dropped.get(key, total.rows) / total.rows
    return total.tokens(walked.tokens_per_char) * scale


def _funnel(facts: Facts, walked: Walk) -> tuple[list[Funnel], float | None]:
    """Steps in order, and the tokens of all rows: they are added up from the end, from what was kept."""
    tokens: float | None = facts.result.tokens or walked.sums.get(KEPT, Sum()).tokens(walked.tokens_per_char)
    found = []
    for step in reversed(facts.steps):
        found.append(
            Funnel(name=step.name, where=step.where, rows=step.rows, left=step.left, dropped=sum(step.dropped.values()),
                   tokens_left=tokens)
        )  # fmt: skip
        for key in step.dropped:
            more = _tokens(facts, walked, key)
            tokens = None if tokens is None or more is None else tokens + more
    return found[::-1], tokens


def _reasons(facts: Facts, walked: Walk, rules: Sequence[Rule]) -> list[Reason]:
    by_key = {(rule.stage, rule.reason): rule for rule in rules}
    step_of = {key: number for number, step in enumerate(facts.steps) for key in step.dropped}
    found = []
    for key, rows in facts.dropped.items():
        rule = by_key.get(key)
        words = (
            f"{_short(rule.column, rule.stage)} {_at(rule)}" if rule and rule.reason != rule.column else ""
        )
        if rule and any(sign in key[1] for sign in "<>="):
            words = ""  # the condition says it
        found.append(
            Reason(stage=key[0], reason=key[1], step=step_of[key], rows=rows, tokens=_tokens(facts, walked, key), rule=words,
                   lengths=[] if facts.is_tokens else walked.sums.get(key, Sum()).lengths)
        )  # fmt: skip
    return found


def _at(rule: Rule) -> str:
    if rule.bound is None:
        return "by language"
    return f"{'≥' if rule.keeps == 'min' else '≤'} {number(rule.bound)}"


def _short(column: str, stage: str) -> str:
    return column.removeprefix(f"{stage}_")


def number(value: Any) -> str:
    """A value of a column in few characters."""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _documents(
    facts: Facts, walked: Walk, key: Key, rules: Sequence[Rule], compared: dict[Key, str]
) -> list[Document]:
    step = next((s for s in facts.plan.recipe.steps if s.name == key[0] and s.stage != "select"), None)
    stage, config = (step.stage, step.settings()) if step else ("", None)
    spelled = Tokenizer(str(facts.folder / TOKENIZER)).library if facts.is_tokens and key == KEPT else None
    nearby = [rule for rule in rules if rule.stage == key[0]] if key != KEPT else []
    found = []
    for row in walked.samples.get(key, []):
        text = spelled.decode(row["tokens"], skip_special_tokens=False) if spelled else row.get("text")
        match = row.get(f"{key[0]}_match") or ""  # the entry of a list that was found
        lang = str(row.get("lang") or "")
        spans = of_match(text or "", match) if match else passages(stage, key[1], text or "", config, lang)
        document = Document(
            id=row["id"], url=row.get("url") or "", source=row.get("source") or "", lang=lang,
            year=_year(row), kept_id=row.get("kept_id") or "", chars=row.get("chars"), tokens=row.get("num_tokens"), marked=len(spans),
            points=bool(match) or has_passages(stage, key[1]), match=match,
            value=_value(row, compared.get(key)), threshold=_number_of(row.get("drop_threshold")),
            values=[*_partition(row, facts.plan.recipe.output.partition_by), *_values(row, nearby)],
        )  # fmt: skip
        if text is not None:
            cut(document, text, spans)
        found.append(document)
    return found


def _partition(row: dict[str, Any], columns: Sequence[str]) -> list[tuple[str, str, str]]:
    """What the row's folder is named by, where no line of its own says it."""
    said = ("source", "lang", "url", "id")
    return [
        (name, number(row[name]), "") for name in columns if name not in said and row.get(name) is not None
    ]


def _values(row: dict[str, Any], rules: Sequence[Rule]) -> list[tuple[str, str, str]]:
    """Each statistic once, with all its bounds."""
    bounds: dict[str, list[str]] = {}
    for rule in rules:
        if row.get(rule.column) is not None and rule.column != rule.reason:
            bounds.setdefault(rule.column, []).append(_at(rule))
    return [
        (_short(column, rules[0].stage), number(row[column]), " ".join(known))
        for column, known in bounds.items()
    ]


def _value(row: dict[str, Any], compared: str | None) -> str:
    if row.get("drop_value") is not None:
        return _number_of(row["drop_value"])
    return _number_of(row[compared]) if compared and row.get(compared) is not None else ""


def _number_of(value: Any) -> str:
    return "" if value is None else number(value)


def _year(row: dict[str, Any]) -> str:
    written = str(row.get("date") or row.get("extract_date") or "")
    return written[:4] if written[:4].isdecimal() and written[:4].isascii() and len(written) >= 4 else ""


def cut(document: Document, text: str, spans: Sequence[tuple[int, int]]) -> None:
    """Put SHOWN_CHARS of the text into the document, from a little before its first marked passage."""
    whole = document.chars or len(text)
    start = 0 if not spans or spans[0][0] < SHOWN_CHARS // 2 else spans[0][0] - _BEFORE
    end = min(len(text), start + SHOWN_CHARS)
    pieces, at = [], start
    for first, last in spans:
        if first >= end:
            break
        pieces += [text[at:first], text[first : min(last, end)]]
        at = min(last, end)
    document.pieces = [*pieces, text[at:end]]
    document.before, document.after = start, max(0, whole - end)


def write(page: Page, target: Path) -> list[Path]:
    """Write the page and, beside it, its script; returns both."""
    return offline.write("page", page.title, page, target)
