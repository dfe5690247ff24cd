"""Which tasks mean something: the four statistics on series whose values are known."""

import math

import numpy as np
import pytest

from curate.errors import DataError
from curate.eval.select import Bounds, Point, decision_accuracy, ordering, select

pytest.importorskip("scipy", reason='needs pip install "curate[eval]"')

STEPS = (100, 200, 300, 400)


def series(task: str, runs: dict[tuple[str, int], list[float]]) -> list[Point]:
    return [
        Point(task=task, corpus=corpus, seed=seed, step=step, score=score)
        for (corpus, seed), scores in runs.items()
        for step, score in zip(STEPS, scores, strict=True)
    ]


GOOD = {
    ("a", 0): [0.30, 0.40, 0.50, 0.599], ("a", 1): [0.30, 0.40, 0.50, 0.601],
    ("b", 0): [0.26, 0.30, 0.40, 0.499], ("b", 1): [0.26, 0.30, 0.40, 0.501],
}  # fmt: skip


def test_a_task_that_grows_steadily_enters() -> None:
    (found,) = select(series("arc", GOOD), {"arc": 0.25})
    noise = math.sqrt(4 * 0.001**2 / 2)  # two corpora, one degree of freedom each
    assert found.monotonicity == pytest.approx(1.0)
    assert found.snr == pytest.approx(0.55 / noise)
    assert found.above_chance == pytest.approx((0.601 - 0.25) / noise)
    assert found.ordering == pytest.approx(1.0)
    assert found.enters


def test_noise_around_guessing_does_not() -> None:
    flat = {
        ("a", 0): [0.25, 0.27, 0.24, 0.22], ("a", 1): [0.26, 0.23, 0.25, 0.29],
        ("b", 0): [0.24, 0.26, 0.25, 0.27], ("b", 1): [0.27, 0.22, 0.26, 0.21],
    }  # fmt: skip
    (found,) = select(series("boolq", flat), {"boolq": 0.25})
    assert found.why_not == ("monotonicity", "snr", "above_chance")
    assert not found.enters


def test_spearman_by_hand() -> None:
    """Ranks 1 3 2 4 against 1 2 3 4: 1 - 6 x 2 / (4 x 15) = .8; a run that falls gives -1."""
    runs = {("a", 0): [0.1, 0.3, 0.2, 0.4], ("a", 1): [0.4, 0.3, 0.2, 0.1]}
    (found,) = select(series("t", runs), {})
    assert found.monotonicity == pytest.approx((0.8 - 1) / 2)


def test_kendall_by_hand() -> None:
    """Three corpora: from step 300 to 400 one of three pairs changes places: (2 - 1) / 3."""
    assert ordering(np.array([[9, 9, 1.0, 2.0], [8, 9, 2.0, 1.0], [7, 9, 3.0, 3.0]])) == pytest.approx(1 / 3)
    assert ordering(np.array([[1.0, 1.0], [1.0, 1.0]])) != ordering(np.array([[1.0, 1.0], [2.0, 2.0]]))
    assert math.isnan(ordering(np.array([[1.0, 2.0]])))


def test_bits_per_byte_are_better_when_less_and_have_no_guessing() -> None:
    falling = {key: [3 - value for value in scores] for key, scores in GOOD.items()}
    (found,) = select(series("bpb", falling), {}, lower_is_better=["bpb"])
    assert found.monotonicity == pytest.approx(1.0)
    assert found.above_chance is None
    assert found.enters
    (wrong,) = select(series("bpb", falling), {})
    assert wrong.why_not == ("monotonicity",)


def test_one_seed_says_nothing_of_noise() -> None:
    alone = {key: value for key, value in GOOD.items() if key[1] == 0}
    (found,) = select(series("arc", alone), {"arc": 0.25})
    assert math.isnan(found.snr)
    assert found.why_not == ("snr", "above_chance")


def test_ordering_is_asked_for_only_when_said() -> None:
    crossing = dict(GOOD) | {("a", 0): [0.3, 0.4, 0.39, 0.6], ("a", 1): [0.3, 0.4, 0.39, 0.602]}
    assert select(series("arc", crossing), {"arc": 0.25})[0].enters
    (found,) = select(series("arc", crossing), {"arc": 0.25}, bounds=Bounds(min_ordering=0.9))
    assert found.why_not == ("ordering",)


def test_wrong_scores_are_named() -> None:
    points = series("arc", GOOD)
    with pytest.raises(DataError, match="two scores of a, seed 0, at step 100"):
        select([*points, points[0]], {})
    with pytest.raises(DataError, match="no score of `piqa`"):
        select(points, {"piqa": 0.5})
    odd = Point(task="arc", corpus="c", seed=0, step=150, score=0.1)
    with pytest.raises(DataError, match="no step in common"):
        select([*points, odd], {})


def test_decision_accuracy_counts_pairs() -> None:
    """Of (a, b), (a, c), (b, c) the small size gets (a, b) and (a, c) right."""
    assert decision_accuracy({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 3, "c": 2}) == pytest.approx(2 / 3)
    assert decision_accuracy({"a": 1, "b": 1}, {"a": 1, "b": 3}) == 0.5
    with pytest.raises(DataError):
        decision_accuracy({"a": 1}, {"a": 1})
