"""Arms on identical items, and the noise of items, on hand-made tables."""

import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from curate.errors import DataError
from curate.eval.bpb import DOCUMENTS, summary
from curate.eval.tasks import ITEMS, PER_ITEM
from curate.study import items
from curate.study.items import Stratum, bootstrap, noise_of_documents, noise_of_items, on_common, without


def table(
    task: str, hits: list[float], groups: list[str] | None = None, passages: list[str] | None = None
) -> pa.Table:
    """ITEMS of a task whose items were answered rightly (1) or not; the right answer has -1 - hit nats and 2 bytes."""
    rows = [
        {
            "task": task, "item": f"{task}.jsonl:{n}", "group": groups[n] if groups else "", "gold": 0, "chance": 0.5,
            "passage": passages[n] if passages else None, "headline": "acc", "prompt_hash": str(n), "truncated": False,
            "log_likelihoods": [-1.0 - hit, -2.0], "greedy": [False, False], "chars": [1, 1], "bytes": [2, 2],
            **dict.fromkeys(PER_ITEM, float(hit)),
        }
        for n, hit in enumerate(hits)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, ITEMS)


def both(one: list[float], two: list[float]) -> pa.Table:
    return pa.concat_tables([table("arc", one), table("piqa", two)])


def test_items_seen_by_one_arm_leave_the_scores_of_all() -> None:
    runs = {
        ("tokens", "raw", 0): both([1, 0, 0, 1], [1, 1]),
        ("tokens", "raw", 1): both([1, 0, 0, 0], [1, 1]),
        ("tokens", "clean", 0): both([0, 0, 1, 1], [0, 1]),
    }
    values, common = on_common(
        runs, {"raw": ["arc/arc.jsonl:0"], "clean": ["arc/arc.jsonl:1", "piqa/piqa.jsonl:0"]}
    )
    assert [values[key]["arc"] for key in runs] == [0.5, 0.0, 1.0]
    assert [values[key]["piqa"] for key in runs] == [1.0, 1.0, 1.0]
    assert values["tokens", "raw", 0]["core"] == pytest.approx((0.0 + 1.0) / 2)  # centred: 0 is guessing
    assert values["tokens", "raw", 1]["arc:gold_bpb"] == pytest.approx(2 / (4 * math.log(2)))
    assert common.contaminated == {"raw": {"arc": 1, "piqa": 0}, "clean": {"arc": 1, "piqa": 1}}
    assert common.left_out == {"arc": 2, "piqa": 1}
    assert common.full["raw"]["arc"] == pytest.approx((0.5 + 0.25) / 2)
    assert common.full["clean"]["piqa"] == 0.5


def test_a_task_that_is_seen_whole_has_no_number() -> None:
    runs = {("tokens", "a", 0): both([1], [1]), ("tokens", "b", 0): both([0], [1])}
    values, _ = on_common(runs, {"a": ["arc/arc.jsonl:0"], "b": []})
    assert "arc" not in values["tokens", "a", 0]
    assert "core" not in values["tokens", "a", 0]  # of other tasks it would be another number
    assert values["tokens", "b", 0]["piqa"] == 1.0


def test_without_leaves_the_others() -> None:
    assert without(table("arc", [1, 0, 1]), ["arc/arc.jsonl:1"])["acc"].to_pylist() == [1, 1]


def test_noise_of_one_group_is_that_of_independent_items() -> None:
    rng = np.random.default_rng(0)
    hits = rng.integers(0, 2, 400).astype(float)
    low, high = noise_of_items("arc", [table("arc", hits.tolist())], [table("arc", [0.0] * 400)])
    assert low < hits.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * hits.std() / 20, rel=0.08)


def test_passages_are_drawn_whole() -> None:
    """Ten items of a passage are one observation: the interval is sqrt(10) times as wide."""
    rng = np.random.default_rng(1)
    hits = np.repeat(rng.integers(0, 2, 40).astype(float), 10)
    control = [table("arc", [0.0] * 400)]
    passages = [f"p{i // 10}" for i in range(400)]
    apart = noise_of_items("arc", [table("arc", hits.tolist())], control)
    whole = noise_of_items(
        "arc",
        [table("arc", hits.tolist(), passages=passages)],
        [table("arc", [0.0] * 400, passages=passages)],
    )
    assert (whole[1] - whole[0]) / (apart[1] - apart[0]) == pytest.approx(math.sqrt(10), rel=0.15)


def test_groups_count_alike_and_seeds_are_averaged() -> None:
    """A group of two items weighs as much as one of eight; without variance within groups there is no noise."""
    groups = ["a"] * 8 + ["b"] * 2
    arm = [table("arc", [1.0] * 8 + [0.0] * 2, groups), table("arc", [0.0] * 8 + [0.0] * 2, groups)]
    low, high = noise_of_items("arc", arm, [table("arc", [0.0] * 10, groups)])
    assert (low, high) == (pytest.approx(0.25), pytest.approx(0.25))  # (1/2 + 0) / 2
    plain = noise_of_items("arc:acc", arm, [table("arc", [0.0] * 10, groups)])
    assert plain[0] < 0.4 < plain[1]  # a statistic is the mean of all items: 8 / 10 / 2


def test_the_interval_is_about_the_difference_that_is_scored() -> None:
    rng = np.random.default_rng(2)
    arm, control = (both(*(rng.random((2, 50)).tolist())) for _ in range(2))
    values, _ = on_common({("t", "a", 0): arm, ("t", "c", 0): control}, {"a": [], "c": []})
    for metric in ("arc", "arc:gold_bpb", "piqa:correct_prob", "core"):
        low, high = noise_of_items(metric, [arm], [control])
        assert low < values["t", "a", 0][metric] - values["t", "c", 0][metric] < high
    with pytest.raises(DataError, match="no items of `mmlu`"):
        noise_of_items("mmlu", [arm], [control])


def documents(bits: dict[tuple[str, str], list[float]]) -> pa.Table:
    """DOCUMENTS by (set, domain): bits per byte of documents of 100, 200, ... bytes."""
    rows = [
        {"set": name, "id": f"{domain}{n}", "domain": domain, "year": None, "n_bytes": 100 * (n + 1), "n_tokens": 1,
         "nats": value * 100 * (n + 1) * math.log(2), "bits_per_byte": value}
        for (name, domain), values in bits.items() for n, value in enumerate(values)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, DOCUMENTS)


def test_documents_are_drawn_within_their_domains() -> None:
    rng = np.random.default_rng(3)
    keys = (("web", "a"), ("web", "b"), ("code", "a"))
    arm, control = (documents({key: rng.normal(1, 0.1, 30).tolist() for key in keys}) for _ in range(2))
    scores = [
        {name: summary(one.filter(pc.equal(one["set"], name))).bits_per_byte for name in ("web", "code")}
        for one in (arm, control)
    ]
    low, high = noise_of_documents("bpb:web", [arm], [control])
    assert low < scores[0]["web"] - scores[1]["web"] < high
    both_sets = (scores[0]["web"] + scores[0]["code"] - scores[1]["web"] - scores[1]["code"]) / 2
    low, high = noise_of_documents("bpb", [arm], [control])
    assert low < both_sets < high
    assert noise_of_documents("bpb", [arm], [arm]) == (0, 0)
    with pytest.raises(DataError, match="no documents of `bpb:news`"):
        noise_of_documents("bpb:news", [arm], [control])


def test_draws_keep_every_stratum() -> None:
    constant = [
        Stratum(np.full(n, value), np.ones(n), np.arange(n), 0.5) for n, value in ((2, 1.0), (50, 0.0))
    ]
    assert bootstrap(constant, draws=100) == (0.5, 0.5)


def test_a_metric_is_of_items_or_of_text() -> None:
    named = ("bpb", "bpb:web", "core", "arc", "arc:gold_bpb")
    assert [items.is_of_items(name) for name in named] == [False, False, True, True, True]
