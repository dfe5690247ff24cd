"""Curves made by hand: which of them ends a run."""

import math
from collections.abc import Iterable

import pytest

pytest.importorskip("torch", reason='needs pip install "curate[train]"')

from curate.train.checkpoint import State
from curate.train.divergence import MEAN_OF, PATIENCE, watched

VOCABULARY = 1024
UNTRAINED = math.log(VOCABULARY)  # 6.93


def fresh() -> State:
    return State(
        step=0, schedule_step=0, schedule_total=1000, tokens=0, loss_tokens=0, data={}, fingerprint="", settings={},
        lowest=math.inf, recent=[],
    )  # fmt: skip


def ends_at(curve: Iterable[float], nats: float = 2.0, state: State | None = None) -> int | None:
    """The step at which a curve of losses ends its run."""
    state = state or fresh()
    for step, loss in enumerate(curve, 1):
        if watched(state, loss, 1.0, VOCABULARY, nats):
            return step
    return None


def learned(steps: int, end: float = 3.0) -> list[float]:
    """From an untrained model's loss down to `end`."""
    return [end + (UNTRAINED - end) * math.exp(-5 * i / steps) for i in range(steps)]


def test_a_loss_that_goes_up_and_stays_ends_the_run() -> None:
    found = ends_at(learned(500) + [UNTRAINED + 1] * 300)
    assert found is not None
    assert 500 + PATIENCE <= found <= 500 + PATIENCE + MEAN_OF
    climbing = learned(500) + [3 + 0.05 * i for i in range(1000)]
    assert ends_at(climbing) == pytest.approx(500 + (UNTRAINED - 3) / 0.05 + PATIENCE, abs=MEAN_OF)


def test_so_does_one_that_was_never_good() -> None:
    """High from the first steps on, and going down, but to no less than nothing learned."""
    assert ends_at([50 / (1 + i / 20) + 10 for i in range(1000)]) == MEAN_OF + PATIENCE - 1
    assert ends_at([UNTRAINED + 0.1] * 1000) is None  # untrained is not lost


def test_a_spike_that_heals_does_not() -> None:
    assert ends_at(learned(500) + [30.0] * 5 + [12 * math.exp(-i / 20) + 3 for i in range(500)]) is None


def test_nor_does_a_jump_of_the_data() -> None:
    """A repeated block, learned by heart, then ordinary text; and harder data for good."""
    assert ends_at(learned(500, 0.01) + [9.0] * 20 + learned(500, 4.0)) is None
    assert ends_at(learned(500, 0.5) + [UNTRAINED - 0.5] * 1000) is None


def test_blocks_that_take_turns_with_text_do_not() -> None:
    turns = ([0.01] * 60 + [UNTRAINED + 2] * 60) * 20
    assert ends_at(learned(500, 0.01) + turns) is None


def test_a_good_stretch_begins_the_count_anew() -> None:
    bad, good = [UNTRAINED + 3] * (PATIENCE - 5), [2.0] * MEAN_OF
    assert ends_at(learned(500) + (bad + good) * 5) is None


def test_no_number_ends_it_at_once_and_always() -> None:
    for loss, norm in ((math.nan, 1.0), (math.inf, 1.0), (3.0, math.nan), (3.0, math.inf)):
        assert "the loss is" in watched(fresh(), loss, norm, VOCABULARY, 0.0)


def test_0_leaves_all_else_alone() -> None:
    assert ends_at(learned(500) + [1e9] * 1000, nats=0) is None


def test_it_goes_on_from_a_checkpoint() -> None:
    import msgspec

    curve = learned(500) + [UNTRAINED + 5] * 300
    state = fresh()
    assert ends_at(curve[:560], state=state) is None
    again = msgspec.convert(msgspec.to_builtins(state), State)
    rest = ends_at(curve[560:], state=again)
    assert rest is not None
    assert 560 + rest == ends_at(curve)
