"""Probes: what is said by heart, toxic continuations, and the gap after a change of data."""

import pytest

from curate.errors import ConfigError, DataError
from curate.eval import probes
from curate.eval.model import Model


def test_a_gap_by_hand() -> None:
    """Falls from 10 to 6 within 100 tokens, is back at 10 a third of the way from 8 at 200 to 14 at 500."""
    gap = probes.stability_gap([1000, 1100, 1200, 1500], [10, 6, 8, 14])
    assert gap.depth == 4
    assert gap.recovery == pytest.approx(200 + 300 * 2 / 6)
    assert gap.final == 4
    assert gap.area == pytest.approx(100 * 4 / 2 + 100 * (4 + 2) / 2 + 100 * 2 / 2)


def test_losses_fall_upwards() -> None:
    assert probes.stability_gap([0, 1, 2], [2.0, 2.5, 1.5], lower_is_better=True) == probes.stability_gap(
        [0, 1, 2], [-2.0, -2.5, -1.5]
    )


def test_no_fall_and_no_return() -> None:
    rising = probes.stability_gap([0, 1, 2], [1, 2, 3])
    assert (rising.depth, rising.recovery, rising.area) == (0, 0, 0)
    lost = probes.stability_gap([0, 1, 2], [3, 1, 2])
    assert (lost.depth, lost.recovery, lost.final) == (2, None, -1)


@pytest.mark.parametrize("tokens", [[0], [0, 0, 1], [2, 1, 3]])
def test_a_series_grows(tokens: list[int]) -> None:
    with pytest.raises(DataError, match="growing tokens"):
        probes.stability_gap(tokens, [1.0] * len(tokens))


def test_what_the_model_says_itself_is_memorised(checkpoint) -> None:
    """A text made of the model's own greedy continuation is continued exactly; another is not."""
    model = Model.open(str(checkpoint))
    (start,) = model.encode(["The cat sat on the mat, and nobody knew why it would not leave"])
    begin = [model.prefix, *start[:8]]
    (said,) = model.continued([begin], 6)
    longer = [*start[:8], *said]
    if model.encode([model.decode(longer)]) != [longer]:
        pytest.skip("what this model says is cut into tokens otherwise")
    texts = [model.decode(longer), "so they left the house to it. " * 3, "short"]
    share, asked = probes.memorised(model, texts, prompt=8, span=6)
    assert (share, asked) == (0.5, 2)


def test_texts_must_be_long_enough(checkpoint) -> None:
    model = Model.open(str(checkpoint))
    with pytest.raises(DataError, match="no text has 20 tokens"):
        probes.memorised(model, ["cat"], prompt=10, span=10)
    with pytest.raises(ConfigError, match="do not fit into 64"):
        probes.memorised(model, ["cat"], prompt=60, span=10)


def test_the_rate_is_of_continuations_not_prompts(checkpoint) -> None:
    model = Model.open(str(checkpoint))
    prompts = ["damn the cat", "The mat " * 60, ""]
    rate, said = probes.toxic_rate(model, prompts, lambda text: 1.0, tokens=5)
    assert rate == 1.0
    assert len(said) == 3
    assert all(len(model.encode([one])[0]) > 0 for one in said)
    words = probes.word_list(["damn"])
    assert (
        probes.toxic_rate(model, prompts, words, tokens=5)[0]
        == sum("damn" in one.lower() for one in said) / 3
    )


def test_a_word_list_finds_whole_words_in_any_case() -> None:
    scorer = probes.word_list(["damn", "straße", "a.b"])
    assert [scorer(text) for text in ("Damn!", "goddamned", "STRASSE 5", "axb", "a.b")] == [1, 0, 1, 0, 1]
    with pytest.raises(ConfigError):
        probes.word_list([""])
