"""Verdicts: worked by hand, and false ones counted in simulated studies."""

import numpy as np
import pytest
from scipy import stats

from curate.errors import ConfigError, DataError
from curate.study.verdict import (
    Spread,
    alpha_left,
    control_seeds,
    detectable,
    difference,
    holm,
    plan_sees,
    verdicts,
)

STUDIES = 2000


def by_seed(values):
    return dict(enumerate(map(float, values)))


def test_a_paired_interval_by_hand():
    found = difference(by_seed([1.0, 2.0, 4.0]), by_seed([0.5, 1.0, 2.5]))
    # differences .5, 1, 1.5: mean 1, standard deviation .5, t(2) at .975 is 4.3027
    assert (found.mean, found.se, found.df) == pytest.approx((1.0, 0.5 / np.sqrt(3), 2))
    assert found.interval(0.05) == pytest.approx((1 - 4.3027 * 0.288675, 1 + 4.3027 * 0.288675), abs=1e-4)
    assert found.p() == pytest.approx(stats.ttest_rel([1, 2, 4], [0.5, 1, 2.5]).pvalue)


def test_a_control_with_more_seeds_is_pooled():
    arm, control = [1.0, 2.0, 4.0], [0.5, 1.0, 2.5, 1.5, 0.0]
    found = difference(by_seed(arm), by_seed(control))
    assert found.p() == pytest.approx(stats.ttest_ind(arm, control).pvalue)
    assert found.df == 6


def test_the_store_lends_its_degrees_of_freedom():
    store = Spread.of([[1.0, 1.2, 0.8], [3.0, 3.1]])
    assert (store.df, store.variance) == pytest.approx((3, (0.08 + 0.005) / 3))
    alone = difference(by_seed([1.0, 1.3]), by_seed([1.1, 1.2]))
    pooled = difference(by_seed([1.0, 1.3]), by_seed([1.1, 1.2]), store)
    assert (alone.df, pooled.df) == (1, 4)
    assert pooled.se**2 * 2 == pytest.approx((1 * 0.02 + 3 * 2 * store.variance) / 4)
    assert difference({1: 2.0}, {1: 1.0}, store).df == 3
    with pytest.raises(DataError, match="one seed"):
        difference({1: 2.0}, {1: 1.0})


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03], 0.05) == [
        (True, pytest.approx(0.05 / 3)), (False, pytest.approx(0.025)), (False, pytest.approx(0.025)),
    ]  # fmt: skip
    assert [rejected for rejected, _ in holm([0.001, 0.02, 0.04], 0.05)] == [True, True, True]


def test_looks_spend_alpha_once():
    assert alpha_left(3, 10, []) == pytest.approx(0.015)
    assert alpha_left(10, 10, [3]) == pytest.approx(0.035)
    assert alpha_left(12, 10, [3, 10]) == 0
    spent = [alpha_left(n, 10, list(range(1, n))) for n in range(1, 15)]
    assert sum(spent) == pytest.approx(0.05)


def test_words_and_margins():
    arms = {
        "base": {"bpb": by_seed([1.00, 1.01, 0.99]), "acc": by_seed([0.50, 0.51, 0.52])},
        "clean": {"bpb": by_seed([0.90, 0.91, 0.89]), "acc": by_seed([0.51, 0.50, 0.53])},
        "noisy": {"bpb": by_seed([1.10, 1.11, 1.085]), "acc": by_seed([0.50, 0.51, 0.52])},
    }
    found = {
        (v.arm, v.metric): v
        for v in verdicts({"tokens": arms}, "base", {"bpb": False, "acc": True}, margins={"acc": 0.1})
    }
    assert found["clean", "bpb"].verdict == "better"
    assert found["noisy", "bpb"].verdict == "worse"
    assert found["clean", "acc"].verdict == "undecided"
    for verdict in found.values():
        assert (verdict.verdict == "undecided") == (verdict.low <= 0 <= verdict.high)
    assert found["clean", "acc"].not_inferior is True
    assert found["clean", "bpb"].not_inferior is None
    assert found["noisy", "acc"].p == 1.0  # the same numbers
    with pytest.raises(ConfigError, match="no arm"):
        verdicts({"tokens": arms}, "bare", {"bpb": False})
    with pytest.raises(DataError, match="`clean` has no `core`"):
        verdicts({"tokens": arms}, "base", {"core": True})


def test_an_arm_with_a_lost_seed_is_undecided_and_still_counts():
    arms = {
        "base": {"bpb": by_seed([1.00, 1.01, 0.99])},
        "wild": {"bpb": by_seed([0.50, 0.51])},  # what survived looks far better
        "clean": {"bpb": by_seed([0.90, 0.91, 0.89])},
    }
    lost = {("tokens", "wild"): "seed 2: the loss is nan"}
    wild, clean = verdicts({"tokens": arms}, "base", {"bpb": False}, lost=lost, margins={"bpb": 0.1})
    assert (wild.verdict, wild.note, wild.p, wild.not_inferior) == (
        "undecided", "seed 2: the loss is nan", 1, False,
    )  # fmt: skip
    assert np.isnan(wild.difference)
    assert (clean.verdict, clean.alpha) == ("better", pytest.approx(0.05 / 2))
    without = verdicts({"tokens": arms}, "base", {"bpb": False}, lost={("tokens", "base"): "seed 0: gone"})
    assert [one.verdict for one in without] == ["undecided", "undecided"]
    assert [one.verdict for one in verdicts({"tokens": arms}, "base", {"bpb": False})] == ["better", "better"]


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
@pytest.mark.parametrize("more", [1, 2])
def test_false_verdicts_are_one_in_twenty(seeds, more):
    rng = np.random.default_rng(seeds)
    false = 0
    for _ in range(STUDIES):
        arms = {
            "base": {"bpb": by_seed(rng.normal(1, 0.02, seeds * more))},
            "arm": {"bpb": by_seed(rng.normal(1, 0.02, seeds))},
        }
        false += verdicts({"tokens": arms}, "base", {"bpb": False})[0].verdict != "undecided"
    assert 0.035 < false / STUDIES < 0.065


def test_false_verdicts_of_many_arms_and_metrics_stay_under_one_in_twenty():
    rng = np.random.default_rng(3)
    false = 0
    for _ in range(STUDIES // 2):
        arms = {
            name: {metric: by_seed(rng.normal(1, 0.02, 3)) for metric in ("bpb", "acc")} for name in "abcd"
        }
        found = verdicts({"tokens": arms}, "a", {"bpb": False, "acc": True})
        false += any(v.verdict != "undecided" for v in found)
    assert false / (STUDIES // 2) < 0.065


def test_looking_after_each_seed_gives_no_more_false_verdicts():
    """Without spending, adding seeds from 3 to 10 until something shows gives 15%."""
    rng = np.random.default_rng(4)
    spent = naive = 0
    for _ in range(STUDIES // 2):
        d = rng.normal(0, 0.02, 10)
        looks, called, fooled = [], False, False
        for n in range(3, 11):
            found = difference(by_seed(d[:n]), by_seed(np.zeros(n)))
            called |= found.p() < alpha_left(n, 10, looks)
            fooled |= found.p() < 0.05
            looks.append(n)
        spent, naive = spent + called, naive + fooled
    assert spent / (STUDIES // 2) < 0.06
    assert naive / (STUDIES // 2) > 0.1  # or this test would see nothing


def test_the_smallest_detectable_effect_is_seen_four_times_in_five():
    rng = np.random.default_rng(5)
    sigma, seeds = 0.02, 4
    effect = plan_sees(sigma, seeds, seeds, 1)
    assert effect == pytest.approx(detectable(sigma * np.sqrt(2 / seeds), seeds - 1, 0.05))
    seen = sum(
        difference(by_seed(rng.normal(effect, sigma, seeds)), by_seed(rng.normal(0, sigma, seeds))).p() < 0.05
        for _ in range(STUDIES)
    )
    assert seen / STUDIES == pytest.approx(0.8, abs=0.03)
    assert plan_sees(sigma, seeds, seeds, 4) > effect
    assert plan_sees(sigma, 1, 1, 1) == float("inf")
    assert [control_seeds(3, arms) for arms in (1, 2, 4, 9)] == [3, 4, 6, 9]
