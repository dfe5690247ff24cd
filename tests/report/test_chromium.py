"""The page in a real browser: drawn without an error, clicked through, looked at, with an attacker among the documents."""

import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from chromium import Chromium, open_chromium
from victims import GOOD, HOSTILE, run

import curate
from curate.report.facts import read_facts
from curate.report.page import gather, write

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    yield from open_chromium()


@pytest.fixture
def opened(browser: Chromium, ruled: Path, tmp_path: Path) -> Chromium:
    """A fresh page on the screen."""
    browser.errors.clear()
    browser.requests.clear()
    browser.open(write(gather(read_facts(str(ruled))), tmp_path / "report.html")[0])
    return browser


def text(browser: Chromium, selector: str) -> str:
    found = browser.ask(f"document.querySelector('{selector}').innerText")
    assert isinstance(found, str)
    return found


def test_it_is_drawn_from_two_files_alone(opened: Chromium) -> None:
    assert [Path(request).name for request in opened.requests] == ["report.html", "report.js"]
    assert opened.errors == []
    assert text(opened, "#lead").startswith("40 of 55 rows kept")
    assert opened.ask("document.querySelectorAll('#histograms svg').length") == 22
    assert opened.ask("document.querySelectorAll('#histograms .limit').length") == 24
    assert "−13" in text(opened, "#funnel-rows")
    assert "canaries found" in text(opened, "#tiles")
    assert opened.ask("document.documentElement.scrollWidth <= innerWidth")


def test_a_reason_opens_its_documents(opened: Chromium) -> None:
    number = opened.ask(
        "[...document.querySelectorAll('.reason')].findIndex(b => b.innerText.startsWith('dup lines'))"
    )
    opened.click(".reason", number)
    assert text(opened, "#about").startswith("dup lines")
    assert opened.ask("document.querySelectorAll('#text mark').length") == 11
    assert opened.ask("document.querySelectorAll('.pager .n').length") == 4
    opened.click(".pager .n", 2)
    assert opened.ask("document.querySelector('.pager [aria-current=true]').innerText") == "3"


def test_choosing_rows_changes_the_numbers(opened: Chromium) -> None:
    opened.click("#where-tabs button", 1)
    opened.click("#where-rows .v", 0)
    assert text(opened, "#lead").startswith("20 of 27 rows kept")
    assert "with source a" in text(opened, "#lead")
    assert opened.ask("document.getElementById('filter').selectedOptions[0].label") == "a"
    opened.ask(
        "(f => { f.value = ''; f.dispatchEvent(new Event('change')); })(document.getElementById('filter'))"
    )
    assert text(opened, "#lead").startswith("40 of 55")


def test_keys_are_enough(opened: Chromium) -> None:
    opened.ask("document.querySelector('.pick[aria-selected=true]').focus()")
    first = text(opened, "#about .verdict")
    opened.press("ArrowRight")
    assert opened.ask("document.querySelector('.pager [aria-current=true]').innerText") == "2"
    opened.press("ArrowDown")
    assert text(opened, "#about .verdict") != first
    assert opened.ask("document.activeElement.classList.contains('pick')")
    opened.ask("document.activeElement.blur()")
    opened.ask("scrollTo(0, 0)")
    seen = set()
    for _ in range(40):
        opened.press("Tab")
        seen.add(opened.ask("document.activeElement.closest('section, .bar, body').id || 'bar'"))
    assert {"bar", "reasons", "where"} <= seen


def test_an_attack_stays_text(opened: Chromium) -> None:
    number = opened.ask(
        "[...document.querySelectorAll('.reason')].findIndex(b => b.innerText.startsWith('too few alpha'))"
    )
    opened.click(".reason", number)
    shown = opened.ask("document.getElementById('text').textContent")
    for piece in HOSTILE.split():
        if piece.isascii() and piece.isprintable():
            assert piece in shown
    assert "U+202E" in shown
    assert opened.ask("window.hacked") is None
    assert opened.ask("document.querySelectorAll('img, iframe, script:not([src]):not([type])').length") == 0
    assert opened.ask("document.querySelectorAll('a[href^=\"javascript\"]').length") == 0
    assert text(opened, "h1") == "<i>rules</i>"
    assert opened.errors == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_screenshots(opened: Chromium, tmp_path: Path, scheme: str) -> None:
    """To look at: CURATE_SCREENSHOTS=folder keeps them. Text can be told from the paper in both schemes."""
    folder = Path(os.environ.get("CURATE_SCREENSHOTS") or tmp_path)
    opened.prefer(scheme)
    for place in ("header", "#reasons", "#thresholds", "#clusters", "#documents"):
        target = folder / f"{scheme}-{place.lstrip('#')}.png"
        opened.screenshot(target, place)
        assert target.stat().st_size > 20_000
    light = opened.ask("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]")
    ink = opened.ask("getComputedStyle(document.body).color.match(/\\d+/g).map(Number)[0]")
    assert (light > 200 > 60 > ink) if scheme == "light" else (light < 60 < 200 < ink)


def test_a_narrow_window_holds_it(opened: Chromium) -> None:
    opened.resize(420, 800)
    assert opened.ask("document.documentElement.scrollWidth") <= 420
    opened.resize(1280, 800)


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Near-duplicates, one of which attacks the page."""
    folder = tmp_path_factory.mktemp("twins")
    texts = [GOOD.format(f"of {city}") for city in ("Rome", "Oslo", "Bonn")]
    texts += [
        f"{GOOD.format('of Rome')} {HOSTILE}",
        "Words of its own that stand nowhere else, and a few more.",
    ]
    ids = ["rome", "oslo", "bonn", "</script><b>", "alone"]
    pq.write_table(
        pa.table({"id": ids, "text": texts, "source": ["a", "a", "b", "<i>b</i>", "b"]}),
        folder / "in.parquet",
    )
    recipe = {
        "input": {"path": str(folder / "in.parquet"), "id": "id"}, "stages": [{"minhash_dedup": {"threshold": 0.5}}],
        "output": {"path": str(folder / "out")},
    }  # fmt: skip
    curate.run(recipe, workers=1)
    return folder / "out"


def test_duplicates_stand_beside_each_other(browser: Chromium, twins: Path, tmp_path: Path) -> None:
    browser.errors.clear()
    browser.open(write(gather(read_facts(str(twins))), tmp_path / "report.html")[0])
    assert text(browser, "#clusters-note").startswith("minhash_dedup dropped 3 of 5 rows")
    assert "2 differ only in names or numbers" in text(browser, "#clusters-note")
    assert browser.ask("document.querySelector('#clusters-tabs').hidden")
    assert browser.ask("document.querySelector('a[href=\"#contamination\"]').hidden")
    assert "<i>b</i>" in text(browser, "#removal-rows")
    assert (
        browser.ask("document.querySelectorAll('#removal-rows .much').length") == 1
    )  # one of one; of a one of two
    assert browser.ask("document.querySelectorAll('.steps button').length") == 3
    shown = text(browser, "#twins-text")  # the least alike is first
    assert "window.hacked = 1" in shown
    assert "U+202E" in shown
    assert "</script><b>" in text(browser, "#twins-sides")
    browser.click(".which button", 1)
    assert browser.ask("document.querySelectorAll('#twins-list .one').length") == 2
    assert browser.ask("document.querySelector('#twins-text del').innerText") == "Rome"
    assert browser.ask("document.querySelector('#twins-text ins').innerText") in ("Oslo", "Bonn")
    assert browser.ask("document.querySelectorAll('#clusters b b, #clusters i, #clusters img').length") == 0
    assert browser.ask("window.hacked") is None
    assert browser.errors == []
    browser.resize(420, 800)
    assert browser.ask("document.documentElement.scrollWidth") <= 420
    browser.resize(1280, 800)


def test_kept_rows_say_their_folder(browser: Chromium, tmp_path: Path) -> None:
    """Columns that folders are named by stand beside a kept row, where no reason's statistics do."""
    browser.errors.clear()
    folder = run(tmp_path, ["token_count"], partition_by=["date"])
    browser.open(write(gather(read_facts(str(folder))), tmp_path / "report.html")[0])
    assert browser.errors == []
    assert text(browser, "#about table").startswith("date")
