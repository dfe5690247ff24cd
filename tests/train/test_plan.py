"""Shares of datasets by hand; the stream of documents that follows them; an order by a score."""

from pathlib import Path

import numpy as np
import pytest

from curate.errors import ConfigError, DataError
from curate.train.order import order_by
from curate.train.plan import Mix, Phase, Stream, plan, shares, unimax
from curate.train.tokens import Tokens


def test_unimax_by_its_worked_example() -> None:
    assert unimax([1, 10, 100], 60, 4) == [4, 28, 28]
    assert unimax([100, 1, 10], 60, 4) == [28, 4, 28]
    assert unimax([1, 10, 100], 444, 4) == [4, 40, 400]
    with pytest.raises(ConfigError, match="4 epochs of all data are 444 tokens, the budget is 445"):
        unimax([1, 10, 100], 445, 4)


def test_shares() -> None:
    names, sizes = ["a", "b"], [100, 400]
    assert shares(names, sizes, Mix(), 10) == [0.2, 0.8]
    assert shares(names, sizes, Mix(temperature=2), 10) == pytest.approx([1 / 3, 2 / 3])
    assert shares(names, sizes, Mix(weights={"b": 1, "a": 3}), 10) == [0.75, 0.25]
    assert shares(names, sizes, Mix(unimax=1), 400) == [0.25, 0.75]
    with pytest.raises(ConfigError, match="`weights` name a; the datasets are a, b"):
        shares(names, sizes, Mix(weights={"a": 1}), 10)
    with pytest.raises(ConfigError, match="one of `weights`, `temperature` and `unimax`"):
        Mix(unimax=1, temperature=2)


@pytest.fixture
def two(token_dataset) -> list[Tokens]:
    rng = np.random.default_rng(0)
    made = [[[5] * int(n) for n in rng.integers(1, 30, 400)] for _ in range(2)]
    return [Tokens.open(token_dataset(docs, name=name)) for docs, name in zip(made, "ab", strict=True)]


def forward(tokens: Tokens, epoch: int) -> np.ndarray:
    return np.arange(tokens.documents) if epoch % 2 == 0 else np.arange(tokens.documents)[::-1].copy()


def stream(
    two: list[Tokens], mix: Mix, phases: tuple[Phase, ...] = (), budget: int = 1000, state=None
) -> Stream:
    found = plan(two, [forward(one, 0) for one in two], mix, phases, "prefix", budget)
    return Stream(found, two, forward, state)


def test_a_share_is_constant_in_time(two) -> None:
    given = stream(two, Mix(weights={"a": 1, "b": 4}, max_epochs=2))
    learned = [0, 0]
    for i in range(400):
        pick = next(given)
        learned[pick.dataset] += int(two[pick.dataset].lengths[pick.document]) + 1
        if i > 50:
            assert abs(learned[0] - sum(learned) / 5) <= 31  # a document's length


def test_a_dataset_begins_anew_in_another_order_and_says_so(two) -> None:
    picks = list(stream(two[:1], Mix(max_epochs=2.5), budget=9000))
    assert len(picks) == 1000
    assert [p.document for p in picks[:400]] == list(range(400))
    assert [p.document for p in picks[400:800]] == list(range(399, -1, -1))
    assert [p.repeat for p in picks] == [False] * 400 + [True] * 600


def test_a_stream_goes_on_where_it_was(two) -> None:
    mix, phases = Mix(weights={"a": 1, "b": 1}, max_epochs=3), (Phase(start=0.5, weights={"a": 0, "b": 1}),)
    given = stream(two, mix, phases)
    for _ in range(500):
        next(given)
    given.progress = 0.5
    next(given)
    again = stream(two, mix, phases, state=given.state())
    again.progress = 0.5
    rest = [next(given) for _ in range(100)]
    assert [next(again) for _ in range(100)] == rest
    assert {pick.dataset for pick in rest} == {1}


def test_phases_change_metadata(two) -> None:
    given = stream(two, Mix(), (Phase(start=0.9, metadata="none"),))
    assert next(given).metadata
    given.progress = 0.9
    assert not next(given).metadata


def test_what_does_not_fit(two) -> None:
    with pytest.raises(DataError, match=r"`a` holds .* tokens, and 50,000 are asked for"):
        stream(two, Mix(weights={"a": 1, "b": 1}), budget=100_000)
    with pytest.raises(ConfigError, match="ascending shares"):
        stream(two, Mix(), (Phase(start=0.5), Phase(start=0.2)))
    with pytest.raises(ConfigError, match="two datasets have one name"):
        stream([two[0], two[0]], Mix())


def test_no_more_is_asked_for_than_is_there(token_dataset) -> None:
    """Start, text and EOS: 3 x (2 + 10) tokens; one epoch of them is enough for 36, not for 37."""
    data = [Tokens.open(token_dataset([[5] * 10, [], [6] * 10, [7] * 10]))]
    stream(data, Mix(), budget=36)
    with pytest.raises(DataError, match=r"holds 36 tokens, and 37 are asked for, 1.03 epochs") as told:
        stream(data, Mix(), budget=37)
    assert "--tokens 36" in told.value.hint


def test_a_curriculum_is_monotone_up_to_its_window(token_dataset, tmp_path: Path) -> None:
    scores = np.random.default_rng(1).random(300)
    data = Tokens.open(token_dataset([[5, 6]] * 300, columns={"score": scores}))
    strict = scores[order_by(data, "score", 1, 0, tmp_path)]
    assert (np.diff(strict) >= 0).all()
    loose = scores[order_by(data, "score", 30, 0, tmp_path)]
    assert (loose.reshape(10, 30).min(1)[1:] >= loose.reshape(10, 30).max(1)[:-1]).all()
    assert (np.diff(loose) < 0).any()
