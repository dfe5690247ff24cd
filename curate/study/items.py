"""Scores of all arms on identical items, and what the items alone say of a difference.

Common  an item that was found in the corpus of any arm leaves every arm's score; what each arm has seen and the scores on
        all items stand beside. Bits per byte of held-out text are left as they are: near-duplicates of the sets are out
        of every arm's tokens
Noise   percentile 95% interval of arm less control when whole passages (or documents) are drawn again, scores averaged
        over seeds first: noise of the items only, and no verdict; another seed is another model
Draws   within each domain or group that counts alike, so that all of them stay; 10,000
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import DataError
from curate.eval.contamination import on_common_items
from curate.eval.scores import of_tasks
from curate.eval.tasks import PER_ITEM, core

Floats = npt.NDArray[np.float64]
DRAWS = 10_000
Run = tuple[str, str, int]  # matching, arm, seed


class Common(msgspec.Struct, frozen=True, kw_only=True):
    """What left the scores."""

    contaminated: dict[str, dict[str, int]]  # arm -> task -> items of it in the arm's corpus
    left_out: dict[str, int]  # task -> items that left every arm's score
    full: dict[str, dict[str, float]]  # arm -> metric -> score on all items, the mean over its runs


class Noise(msgspec.Struct, frozen=True, kw_only=True):
    """Evaluation noise only: how well the items measure the difference of these very models."""

    arm: str
    metric: str
    matching: str
    low: float
    high: float


class Stratum(NamedTuple):
    """Items that count alike: their share of a metric is the sum of differences over the sum of sizes."""

    differences: Floats  # (items,) arm less control
    sizes: Floats  # (items,)
    clusters: npt.NDArray[np.int64]  # (items,) which of them are drawn together
    weight: float


def is_of_items(metric: str) -> bool:
    """Whether items decide it: of a task, or of all; not bits per byte of held-out text."""
    return metric != "bpb" and not metric.startswith("bpb:")


def on_common(
    runs: Mapping[Run, pa.Table], found: Mapping[str, Iterable[str]]
) -> tuple[dict[Run, dict[str, float]], Common]:
    """(metrics of each run on the items that no arm has seen, what left them), from ITEMS and the items in each corpus.

    A task without such an item has no metric. DataError where runs were scored on different items.
    """
    names = {f"{matching}/{arm}/{seed}": (matching, arm, seed) for matching, arm, seed in runs}
    seen = {arm: set(items) for arm, items in found.items()}
    scored = on_common_items(
        {name: runs[key] for name, key in names.items()}, {name: seen[key[1]] for name, key in names.items()}
    )
    values = {}
    for name, key in names.items():
        results = scored.arms[name].common
        whole = {"core": core(results)} if results and not scored.unusable else {}
        values[key] = of_tasks(results) | whole
    full: dict[str, list[dict[str, float]]] = {}
    for name, (_, arm, _) in names.items():
        results = scored.arms[name].full
        full.setdefault(arm, []).append(of_tasks(results) | {"core": core(results)})
    return values, Common(
        contaminated={key[1]: scored.arms[name].contaminated for name, key in names.items()},
        left_out={task: len(items) for task, items in scored.left_out.items()},
        full={
            arm: {m: float(np.mean([one[m] for one in some])) for m in some[0]} for arm, some in full.items()
        },
    )


def without(rows: pa.Table, found: Iterable[str]) -> pa.Table:
    """ITEMS that are not among those found (task/file:row)."""
    names = pa.array(sorted({name.rpartition("/")[2] for name in found}), pa.string())
    return rows.filter(pc.invert(pc.is_in(rows["item"], value_set=names)))


def noise_of_items(metric: str, arm: Sequence[pa.Table], control: Sequence[pa.Table]) -> tuple[float, float]:
    """Of a task's metric, or `core`, from ITEMS of each seed. DataError where there are no such items."""
    rows = control[0]
    tasks = pc.unique(rows["task"]).to_pylist()
    name, _, statistic = metric.partition(":")
    wanted = tasks if metric == "core" else [task for task in tasks if task == name]
    if not wanted:
        raise DataError(f"no items of `{metric}`", hint="a task of the suite, or `core`")
    strata: list[Stratum] = []
    for task in wanted:
        mine, its = (
            [table.filter(pc.equal(table["task"], task)) for table in some] for some in (arm, control)
        )
        share = 1 / len(wanted)
        if metric == "core":
            share /= 1 - float(its[0]["chance"].to_numpy().mean())
        strata += _of_task("" if metric == "core" else statistic, mine, its, share)
    return bootstrap(strata)


def _of_task(
    statistic: str, arm: Sequence[pa.Table], control: Sequence[pa.Table], share: float
) -> list[Stratum]:
    rows = control[0]
    clusters = _numbered(_passages(rows))
    if statistic == "gold_bpb":
        sizes = _gold(rows, "bytes")
        difference = -(_mean(arm, "log_likelihoods") - _mean(control, "log_likelihoods")) / math.log(2)
        return [Stratum(difference, sizes, clusters, share)]
    column = statistic if statistic in PER_ITEM else rows["headline"][0].as_py()
    difference = _mean(arm, column) - _mean(control, column)
    groups = _numbered(rows["group"].to_pylist()) if not statistic else np.zeros(len(difference), np.int64)
    return [
        Stratum(difference[at], np.ones(at.sum()), clusters[at], share / (groups.max() + 1))
        for at in (groups == group for group in range(groups.max() + 1))
    ]


def _passages(rows: pa.Table) -> list[str]:
    """What items are drawn by: their passage, or each by itself (of results without such a column, too)."""
    if "passage" not in rows.column_names:
        return list(rows["item"].to_pylist())
    return list(pc.coalesce(rows["passage"], rows["item"]).to_pylist())


def _mean(tables: Sequence[pa.Table], column: str) -> Floats:
    """(items,) mean over seeds."""
    is_list = column == "log_likelihoods"
    values = [_gold(one, column) if is_list else one[column].to_numpy() for one in tables]
    return np.asarray(np.mean(values, 0), np.float64)


def _gold(rows: pa.Table, column: str) -> Floats:
    gold = rows["gold"].to_pylist()
    return np.array([row[g] for row, g in zip(rows[column].to_pylist(), gold, strict=True)], np.float64)


def noise_of_documents(
    metric: str, arm: Sequence[pa.Table], control: Sequence[pa.Table]
) -> tuple[float, float]:
    """Of `bpb` or `bpb:SET`, from DOCUMENTS of each seed. DataError where there is no such set."""
    rows = control[0]
    sets = pc.unique(rows["set"]).to_pylist()
    wanted = sets if metric == "bpb" else [name for name in sets if metric == f"bpb:{name}"]
    if not wanted:
        raise DataError(f"no documents of `{metric}`", hint="a held-out set of the suite")
    difference = (_mean(arm, "nats") - _mean(control, "nats")) / math.log(2)
    sizes, names = rows["n_bytes"].to_numpy().astype(np.float64), np.array(rows["set"].to_pylist())
    domains = np.array(rows["domain"].to_pylist())
    strata = []
    for name in wanted:
        inside = sorted(set(domains[names == name].tolist()))
        for domain in inside:
            at = (names == name) & (domains == domain)
            weight = 1 / len(wanted) / len(inside)
            strata.append(Stratum(difference[at], sizes[at], np.arange(at.sum()), weight))
    return bootstrap(strata)


def _numbered(values: Sequence[str]) -> npt.NDArray[np.int64]:
    return np.unique(np.array(values), return_inverse=True)[1].astype(np.int64)


def bootstrap(strata: Sequence[Stratum], draws: int = DRAWS, seed: int = 0) -> tuple[float, float]:
    """Percentile 95% interval of the weighted sum of the strata's ratios when whole clusters are drawn again."""
    rng, found = np.random.default_rng(seed), np.zeros(draws)
    for one in strata:
        _, of = np.unique(one.clusters, return_inverse=True)
        sums, sizes = np.bincount(of, one.differences), np.bincount(of, one.sizes)
        block = max(1, (1 << 22) // len(sums))
        for at in range(0, draws, block):
            drawn = rng.integers(0, len(sums), (min(block, draws - at), len(sums)))
            found[at : at + block] += one.weight * sums[drawn].sum(1) / sizes[drawn].sum(1)
    return float(np.quantile(found, 0.025)), float(np.quantile(found, 0.975))
