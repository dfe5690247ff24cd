"""Each published recipe runs with only `input.path` given, and keeps what its rules say."""

from pathlib import Path

import pytest

import curate
from curate.recipe.recipe import load

RECIPES = Path(__file__).parents[2] / "recipes"
NEAR = {"minhash_dedup": {"near_duplicate": 1}}  # what the page that stands there twice comes to
NAMES = {
    "gopher": NEAR,
    "c4": {"sentence_dedup": {"too_few_sentences": 1}},
    "refinedweb": NEAR,
    "dclm": {"paragraph_dedup": {"emptied": 1}},
    "fineweb": NEAR,
    "fineweb2": NEAR,
    "yi": NEAR,
}
PROSE = """\
The river comes down from the hills in spring and brings more water than the old mill can use.
For most of the year the wheel stands still, and the children of the village play on its broad wooden steps.
When autumn arrives, farmers from both valleys carry their grain to the miller and wait for him to begin.
He knows each of them by name, and he asks about their horses before he asks about the harvest.
My grandmother used to say that a good loaf begins with patience and that flour has a memory of its own.
She kept her books in a drawer under the window, next to the letters that her brother had written from the sea.
One of those letters describes a storm that lasted for nine days, during which nobody could cook or sleep.
Afterwards the captain shared the last of the dried fruit with everyone who had stayed on deck.
I have read that page many times, because it shows how people behave when they think that nobody will ever know.
The mill was sold to a painter last year, who wants to turn the upper floor into a place where he can work.
He promised to leave the wheel as it is, and so far he has been true to his word.
On Sundays visitors sit on the grass with their baskets and listen to the sound that the water makes.
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> Path:
    """A page of English prose, the same one again, and one of a few words."""
    folder = tmp_path_factory.mktemp("pages")
    good = "\n".join(f"<p>{line}</p>" for line in PROSE.splitlines())
    for name, body in (("good", good), ("again", good), ("short", "<p>Buy now.</p>")):
        (folder / f"{name}.html").write_text(f"<html><body><article>{body}</article></body></html>")
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_a_published_recipe_runs_with_its_input_alone(name, pages, tmp_path):
    recipe = load(RECIPES / f"{name}.yaml", sets=[f"input.path={pages}"], output=str(tmp_path / "out"))
    rows = curate.run(recipe, workers=1).rows
    assert recipe.name == name
    assert (rows.in_, rows.quarantined) == (3, 0)
    assert rows.kept == 1, rows.dropped
    assert NAMES[name].items() <= rows.dropped.items()


def test_every_recipe_is_tried():
    assert {path.stem for path in RECIPES.glob("*.yaml")} == {*NAMES, "quickstart"}
