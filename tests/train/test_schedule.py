"""Learning rates at every joint, by hand."""

import math

import msgspec
import pytest

from curate.errors import ConfigError
from curate.train.schedule import (
    Constant,
    Cosine,
    Infinite,
    Moderate,
    Rewarm,
    Schedule,
    Wsd,
    check,
    steps,
)


def close(value: float) -> object:
    return pytest.approx(value, rel=1e-12, abs=1e-15)


def test_a_length_is_steps_or_a_share() -> None:
    assert [steps(0, 1000), steps(0.02, 1000), steps(5, 1000), steps(1, 1000)] == [0, 20, 5, 1]


def test_constant() -> None:
    curve = Constant(warmup=10)
    assert [curve.ratio(n, 100) for n in (0, 1, 5, 10, 11, 100)] == [0, 0.1, 0.5, 1, 1, 1]


def test_no_warm_up_begins_at_the_peak() -> None:
    for curve in (Constant(warmup=0), Cosine(warmup=0), Wsd(warmup=0), Infinite(warmup=0)):
        assert curve.ratio(0, 100) == 1


def test_cosine() -> None:
    curve = Cosine(warmup=10, final_ratio=0.1)
    assert curve.ratio(5, 110) == 0.5
    assert curve.ratio(10, 110) == 1
    assert curve.ratio(60, 110) == close(0.55)
    assert curve.ratio(35, 110) == close(0.1 + 0.45 * (1 + math.sqrt(0.5)))
    assert curve.ratio(110, 110) == close(0.1)


def test_rewarm_begins_where_the_run_before_ended() -> None:
    curve = Rewarm(warmup=10, start_ratio=0.2, final_ratio=0.1)
    assert [curve.ratio(n, 110) for n in (0, 5, 10)] == [0.2, close(0.6), 1]
    assert curve.ratio(110, 110) == close(0.1)


@pytest.mark.parametrize(
    ("shape", "quarter", "half", "end"),
    [
        ("linear", 0.75, 0.5, 0.0),
        ("1-sqrt", 0.5, 1 - math.sqrt(0.5), 0.0),
        ("exponential", 0.5, 0.25, 1 / 16),
    ],
)
def test_wsd(shape, quarter: float, half: float, end: float) -> None:
    curve = Wsd(warmup=10, decay=40, shape=shape)
    assert [curve.ratio(n, 100) for n in (0, 5, 10, 11, 59, 60)] == [0, 0.5, 1, 1, 1, 1]
    assert [curve.ratio(n, 100) for n in (70, 80, 100)] == [close(quarter), close(half), close(end)]


def test_wsd_is_prox_by_its_own_numbers() -> None:
    curve = Wsd(warmup=2000, decay=200, shape="exponential")
    rates = [1e-3 * curve.ratio(t, 50_200) for t in (0, 1000, 2000, 50_000, 50_050, 50_200)]
    assert rates == [0, close(5e-4), close(1e-3), close(1e-3), close(1e-3 * 0.5), close(6.25e-5)]


def test_wsd_without_decay_is_constant() -> None:
    assert Wsd(warmup=10, decay=0).ratio(100, 100) == 1


def test_moderate_ends_at_a_third() -> None:
    curve = Moderate(warmup=10, decay=40)
    assert curve.ratio(60, 100) == 1
    assert curve.ratio(70, 100) == close(1 - 2 / 3 * 0.5)
    assert curve.ratio(100, 100) == close(1 / 3)


def test_infinite_has_three_joints_and_an_exact_end() -> None:
    curve = Infinite(warmup=100, cooldown=200, constant_ratio=0.55, anneal=100, final_ratio=0.1)
    assert curve.joints(1000) == {"warmup": 100, "cooldown": 300, "anneal": 900}
    rate = [3e-4 * curve.ratio(n, 1000) for n in range(1001)]
    assert [rate[50], rate[100], rate[200], rate[300]] == [
        close(1.5e-4), close(3e-4), close((3e-4 + 1.65e-4) / 2), close(1.65e-4),
    ]  # fmt: skip
    assert set(rate[300:901]) == {rate[900]}
    assert rate[950] == close(math.sqrt(1.65e-4 * 3e-5))
    assert rate[1000] == close(3e-5)
    for joint in (100, 300, 900):  # no jump: a joint's step is no longer than its neighbours'
        across, inside = abs(rate[joint + 1] - rate[joint - 1]), abs(rate[joint - 1] - rate[joint - 3])
        assert across <= max(inside, abs(rate[joint + 3] - rate[joint + 1])) + 1e-12


def test_infinite_goes_on_from_its_constant_rate() -> None:
    """A later run over the same curve, longer: up to the first run's N_d nothing is different."""
    curve = Infinite(warmup=100, cooldown=200, anneal=100)
    assert [curve.ratio(n, 1000) for n in range(901)] == [curve.ratio(n, 5000) for n in range(901)]
    assert curve.ratio(901, 5000) == curve.ratio(900, 1000) == 0.55


def test_every_kind_is_read_by_its_name() -> None:
    kinds = ["constant", "cosine", "rewarm", "wsd", "moderate", "infinite"]
    read = [msgspec.convert({"kind": kind}, Schedule) for kind in kinds]
    assert [type(one) for one in read] == [Constant, Cosine, Rewarm, Wsd, Moderate, Infinite]
    assert all(one.ratio(100, 100) <= 1 for one in read)
    with pytest.raises(msgspec.ValidationError, match="finale"):
        msgspec.convert({"kind": "cosine", "finale": 0}, Schedule)


def test_pieces_that_do_not_fit() -> None:
    check(Infinite(warmup=100, cooldown=200, anneal=100), 400)
    with pytest.raises(ConfigError, match="cooldown ends at step 300, after anneal at step 299"):
        check(Infinite(warmup=100, cooldown=200, anneal=100), 399)
    with pytest.raises(ConfigError, match="warmup ends at step 200, after end at step 100"):
        check(Cosine(warmup=200), 100)
    with pytest.raises(ConfigError, match="share of the peak"):
        Cosine(final_ratio=2)
    with pytest.raises(ConfigError, match="never reaches 0"):
        Wsd(shape="exponential", final_ratio=0)
