"""What a score is explained by, where a select cuts on it: its spread in each source and language, a sample against length.

Judged   the columns that a stage declares as `scores`; numbers with a fraction that the input brings; `guards.scores`.
         Of these, the ones that a select compares with a number, or whose step's `_pass` it asks. Statistics of rules are
         not judged: a number of words is explained by length by construction.
Rows     those that come to the condition: the conditions before it in the same select hold (so after `lang = 'en' and`
         there is one language)
Memory   moments of at most MAX_GROUPS sources and languages, SAMPLE rows of a language and UNIT_SAMPLE of a unit; merging
         is exact for the moments, so no worker's order matters
Sample   the rows with the smallest hashes of their ids; a unit with many languages gives fewer of each
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

if TYPE_CHECKING:
    from curate.io.query import Predicate
    from curate.recipe.recipe import Recipe, Step

MAX_GROUPS = 200  # sources, and languages, counted apart; the rest are counted together
OTHERS = "*"
SAMPLE = 500  # rows of a language
UNIT_SAMPLE = 1000  # rows of a unit: its journal entry stays small
ROW = np.dtype([("hash", "<u4"), ("score", "<f8"), ("bytes", "<u4")])

Moments = list[float]  # rows, rows with a score, mean, sum of squares about it, least, largest
Floats = npt.NDArray[np.float64]


class ScoreCount(msgspec.Struct, kw_only=True):
    """One score in one unit, or in all of them."""

    sources: dict[str, Moments] = {}
    langs: dict[str, Moments] = {}
    sample: dict[str, bytes] = {}  # lang -> ROWs


def group_name(name: str, groups: Mapping[str, object]) -> str:
    """The source or language itself, or OTHERS where too many are counted apart already."""
    return name if name in groups or len(groups) < MAX_GROUPS else OTHERS


def is_text(batch: pa.RecordBatch, column: str) -> bool:
    """Whether there is such a column, of text."""
    kinds = (pa.string(), pa.large_string())
    return column in batch.schema.names and batch.schema.field(column).type in kinds


def scores_of(recipe: "Recipe", brought: pa.Schema) -> dict[str, str]:
    """Column that is judged -> the step whose verdict rests on it ("" for the input's)."""
    from curate.engine.plan import column_name
    from curate.recipe.recipe import CHECKPOINT

    found = {field.name: "" for field in brought if pa.types.is_floating(field.type)}
    found |= dict.fromkeys(recipe.guards.scores, "")
    for step in recipe.steps:
        if step.stage != CHECKPOINT:
            spec = step.spec()
            found |= {column_name(step, spec, column): step.name for column in spec.scores}
    return found


def watch(
    predicate: "Predicate", step: "Step", scores: Mapping[str, str], schema: pa.Schema
) -> "Watch | None":
    """What measures the scores that a select cuts on; None where it cuts on none."""
    found: dict[str, int] = {}
    for place, conjunct in enumerate(predicate.conjuncts):
        for column, name in scores.items():
            compared = conjunct.column == column and isinstance(conjunct.literal, float)
            if column in schema.names and (compared or (name and conjunct.flag == f"{name}_pass")):
                found.setdefault(column, place)
    return Watch(predicate, step.when, found, schema) if found else None


class Watch:
    """Measures scores in the rows that come to the conditions on them."""

    def __init__(
        self, predicate: "Predicate", when: str, columns: Mapping[str, int], schema: pa.Schema
    ) -> None:
        from curate.io.query import Predicate

        self._predicate, self._columns = predicate, dict(columns)
        self._when = Predicate(when, {f.name: f.type for f in schema}) if when else None

    def add(self, counts: dict[str, ScoreCount], batch: pa.RecordBatch) -> None:
        """Add a batch to what was counted before."""
        if self._when:
            batch = batch.filter(pa.array(self._when.mask(batch)))
        first = self._predicate.first_failure(batch)
        for column, place in self._columns.items():
            rows = batch.filter(pa.array((first == -1) | (first >= place)))
            if rows.num_rows:
                merge_scores(counts, {column: measure(rows, column)}, UNIT_SAMPLE)


def measure(batch: pa.RecordBatch, column: str) -> ScoreCount:
    """A score in some rows."""
    score = np.asarray(pc.fill_null(batch.column(column).cast(pa.float64()), np.nan), np.float64)
    count = ScoreCount()
    for name, groups in (("source", count.sources), ("lang", count.langs)):
        for group, rows in _rows_by(batch, name):
            merge_moments(groups, group_name(group, groups), moments(score[rows]))
    if "text" in batch.schema.names:
        size = np.asarray(pc.fill_null(pc.binary_length(batch.column("text")), 0), np.uint32)
        hashes = [xxhash.xxh3_64_intdigest(i, seed=13) >> 32 for i in batch.column("id").to_pylist()]
        rows_of = np.zeros(len(score), ROW)
        rows_of["hash"], rows_of["score"], rows_of["bytes"] = hashes, score, size
        for group, rows in _rows_by(batch, "lang"):
            some = rows_of[rows]
            known = group_name(group, count.sample)
            _merge_sample(count.sample, known, some[np.isfinite(some["score"])].tobytes())
    return count


def _rows_by(batch: pa.RecordBatch, column: str) -> list[tuple[str, npt.NDArray[np.int64]]]:
    """Rows by the value of a column of text, "" for null; all of them where there is no such column."""
    if not is_text(batch, column):
        return [("", np.arange(batch.num_rows))] if column == "lang" else []
    coded = pc.fill_null(batch.column(column), "").dictionary_encode()
    codes = np.asarray(coded.indices)
    return [(value, np.flatnonzero(codes == code)) for code, value in enumerate(coded.dictionary.to_pylist())]


def moments(values: Floats) -> Moments:
    """Of some rows; what is not finite has no score."""
    known = values[np.isfinite(values)]
    if not len(known):
        return [float(len(values)), 0.0, 0.0, 0.0, 0.0, 0.0]
    mean = float(known.mean())
    square = float(np.square(known - mean).sum())
    return [float(len(values)), float(len(known)), mean, square, float(known.min()), float(known.max())]


def merge_moments(groups: dict[str, Moments], name: str, more: Moments) -> None:
    """Chan, Golub and LeVeque: no difference of two large sums."""
    old = groups.get(name)
    if old is None or not old[1]:
        groups[name] = [more[0] + (old[0] if old else 0.0), *more[1:]]
        return
    if not more[1]:
        old[0] += more[0]
        return
    total, apart = old[1] + more[1], more[2] - old[2]
    square = old[3] + more[3] + apart * apart * old[1] * more[1] / total
    mean = old[2] + apart * more[1] / total
    groups[name] = [old[0] + more[0], total, mean, square, min(old[4], more[4]), max(old[5], more[5])]


def _merge_sample(sample: dict[str, bytes], name: str, more: bytes, most: int = SAMPLE) -> None:
    rows = np.frombuffer(sample.get(name, b"") + more, ROW)
    sample[name] = np.sort(rows, order=ROW.names)[:most].tobytes()


def merge_scores(total: dict[str, ScoreCount], more: Mapping[str, ScoreCount], most: int = 0) -> None:
    """Add scores to scores. At most `most` rows stay in the samples of one score; 0: SAMPLE of each language."""
    for column, count in more.items():
        seen = total.setdefault(column, ScoreCount())
        for groups, added in ((seen.sources, count.sources), (seen.langs, count.langs)):
            for name, found in added.items():
                merge_moments(groups, group_name(name, groups), found)
        for name, rows in count.sample.items():
            _merge_sample(seen.sample, group_name(name, seen.sample), rows)
        if most:
            _shrink(seen.sample, most)


def _shrink(sample: dict[str, bytes], most: int) -> None:
    """As many rows of each language as let all of them together be `most`."""
    sizes = [len(rows) // ROW.itemsize for rows in sample.values()]
    low, high = 1, SAMPLE
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if sum(min(s, middle) for s in sizes) <= most else (low, middle - 1)
    for name, rows in sample.items():
        sample[name] = rows[: low * ROW.itemsize]


def eta_squared(groups: Mapping[str, Moments]) -> float:
    """Share of the variance that lies between the groups; 0 where there is none at all."""
    whole: dict[str, Moments] = {}
    for found in groups.values():
        merge_moments(whole, "", list(found))
    within = sum(found[3] for found in groups.values())
    total = whole[""][3] if whole else 0.0
    return max(0.0, 1 - within / total) if total > 0 else 0.0


def spearman(rows: bytes) -> float:
    """Rank correlation of score and bytes of text in a sample; 0 where one of them does not vary."""
    sample = np.frombuffer(rows, ROW)
    return rank_correlation(sample["score"], sample["bytes"].astype(np.float64))


def rank_correlation(x: Floats, y: Floats) -> float:
    """Spearman's rho, ties with their mean rank."""
    a, b = (_ranks(values) for values in (x, y))
    a, b = a - a.mean(), b - b.mean()
    spread = float(np.sqrt(np.square(a).sum() * np.square(b).sum()))
    return float((a * b).sum()) / spread if spread else 0.0


def _ranks(values: Any) -> Floats:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    ranks: Floats = (last - (count - 1) / 2)[place]
    return ranks
