"""The page of a dataset: every number is that of the manifest, no text gets out of its place, nothing asks a network."""

import json
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from victims import HOSTILE, STEPS, run, texts

from curate.errors import ConfigError, DataError
from curate.report.facts import read_facts
from curate.report.page import Page, cut, gather, write


@pytest.fixture(scope="module")
def page(ruled: Path) -> Page:
    return gather(read_facts(str(ruled)))


@pytest.fixture(scope="module")
def manifest(ruled: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ruled / "_curate/manifest.json").read_bytes())
    return found


def test_numbers_by_hand(page: Page) -> None:
    assert page.rows == {"in": 55, "made": 0, "kept": 40, "dropped": 15, "quarantined": 0}
    assert {(r.stage, r.reason): r.rows for r in page.reasons} == {
        ("gopher_quality", "too_few_words"): 5,
        ("gopher_quality", "too_many_hashes"): 3,
        ("gopher_quality", "too_few_alpha_words"): 1,
        ("gopher_repetition", "dup_lines"): 4,
        ("exact_dedup", "duplicate"): 2,
    }
    assert [(f.name, f.rows, f.dropped, f.left) for f in page.funnel] == [
        ("gopher_quality", 55, 0, 55),
        ("gopher_repetition", 55, 0, 55),
        ("select", 55, 13, 42),
        ("exact_dedup", 42, 2, 40),
        ("token_count", 40, 0, 40),
    ]
    assert page.tokens == sum(-(-len(t) // 4) for t in texts()[:40])
    assert page.tokens_in == pytest.approx(sum(map(len, texts())) / 4, rel=0.01)


def test_every_number_is_that_of_the_manifest(page: Page, manifest: dict[str, Any]) -> None:
    rows = manifest["rows"]
    assert (page.rows["in"], page.rows["kept"], page.rows["made"]) == (rows["in"], rows["kept"], rows["made"])
    assert page.rows["quarantined"] == rows["quarantined"]
    assert page.tokens == manifest["tokens"]
    assert page.canaries == manifest["canaries"]
    assert page.canaries["planted"] >= page.canaries["came"] == page.canaries["found"] > 0
    assert (page.text_bytes, page.bytes_in, page.seconds) == (
        manifest["text_bytes"], manifest["bytes_in"], manifest["seconds"],
    )  # fmt: skip
    told: dict[str, dict[str, int]] = {}
    for reason in page.reasons:
        told.setdefault(reason.stage, {})[reason.reason] = reason.rows
    assert told == rows["dropped"]
    steps = {s["index"]: s for one in manifest["passes"] for s in one["steps"]}
    assert [(s.rows, s.dropped) for i, s in enumerate(page.funnel) if i in steps] == [
        (steps[i]["rows"], steps[i]["dropped"]) for i in sorted(steps)
    ]


def test_parts_add_up_to_the_manifest(page: Page, manifest: dict[str, Any]) -> None:
    """Each dimension, each histogram and the lengths count every row once."""
    rows = manifest["rows"]
    assert [d.name for d in page.dimensions] == ["language", "source", "year", "domain"]
    for dimension in page.dimensions:
        assert sum(value.kept for value in dimension.values) == rows["kept"]
        for number, reason in enumerate(page.reasons):
            dropped = sum(value.dropped.get(number, 0) for value in dimension.values)
            assert dropped == rows["dropped"][reason.stage][reason.reason]
    columns = {one.column: one for one in page.histograms}
    assert len(columns) == len(page.histograms) == 8 + 14
    for one in page.histograms:
        assert sum(one.kept) <= rows["kept"]
        assert sum(one.kept + one.here + one.elsewhere) + one.nothing == rows["in"]
        assert sum(one.here) == sum(mark.dropped for mark in one.marks)
    assert [(m.bound, m.keeps) for m in columns["gopher_quality_num_words"].marks] == [
        (50, "min"),
        (100_000, "max"),
    ]
    assert sum(page.lengths["kept"]) == rows["kept"]
    assert sum(sum(reason.lengths) for reason in page.reasons) == page.rows["dropped"]


def test_dimensions_by_hand(page: Page) -> None:
    of = {d.name: {v.name: v.rows for v in d.values} for d in page.dimensions}
    assert of["language"] == {"de": 18, "en": 36, "</script>": 1}
    assert of["source"] == {"a": 27, "b": 27, "<b>c</b>": 1}
    assert of["year"] == {"2020": 19, "2021": 18, "2022": 18}
    assert of["domain"] == {
        "site0.example": 14,
        "site1.example": 14,
        "site2.example": 13,
        "site3.example": 13,
        "": 1,
    }


def test_many_buckets_are_one(ruled: Path, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large dataset is counted bucket by bucket; the values that are not listed are counted together."""
    from curate.report import counts

    monkeypatch.setattr(counts, "_ROWS_PER_BUCKET", 10)
    assert gather(read_facts(str(ruled))).dimensions == page.dimensions
    monkeypatch.setattr(counts, "TOP", 2)
    domains = gather(read_facts(str(ruled))).dimensions[-1].values
    assert [(v.name, v.rows, v.others) for v in domains] == [
        ("site0.example", 14, 0), ("site1.example", 14, 0), ("", 27, 3),
    ]  # fmt: skip


def test_a_histogram_splits_at_its_threshold(page: Page) -> None:
    words = next(one for one in page.histograms if one.column == "gopher_quality_num_words")
    below = [n for edge, n in zip(words.edges[1:], words.here, strict=True) if edge <= 50 + 1e-6]
    assert sum(below) == sum(words.here) == 5
    assert sum(n for edge, n in zip(words.edges, words.kept, strict=False) if edge < 50 - 1e-6) == 0


def test_documents(page: Page) -> None:
    by_reason = dict(zip([r.reason for r in page.reasons], page.documents[1:], strict=True))
    assert {reason: len(d) for reason, d in by_reason.items()} == {
        "too_few_words": 5, "too_many_hashes": 3, "too_few_alpha_words": 1, "dup_lines": 4, "duplicate": 2,
    }  # fmt: skip
    assert len(page.documents[0]) == 10
    menu = by_reason["dup_lines"][0]
    assert menu.marked == 11
    assert menu.pieces[1::2] == ["Add to the basket and go on"] * 11
    assert "".join(menu.pieces) in texts()
    assert (menu.value, menu.threshold) == ("0.8462", "0.3")
    assert {d.kept_id for d in by_reason["duplicate"]} == {"doc-00"}
    assert not by_reason["too_few_words"][0].points
    assert by_reason["too_few_words"][0].values[0] == ("num_words", "4", "≥ 50 ≤ 100,000")


def test_a_row_that_is_gone_stops_the_page(ruled: Path, tmp_path: Path) -> None:
    shutil.copytree(ruled, tmp_path / "out")
    part = next((tmp_path / "out").glob("part-*.parquet"))
    pq.write_table(pq.read_table(part).slice(1), part)
    with pytest.raises(DataError, match="39 rows kept, but the journal says 40"):
        gather(read_facts(str(tmp_path / "out")))


@pytest.mark.parametrize("place", ["kept", "dropped"])
def test_a_manifest_with_another_number_stops_the_page(ruled: Path, tmp_path: Path, place: str) -> None:
    shutil.copytree(ruled, tmp_path / "out")
    file = tmp_path / "out/_curate/manifest.json"
    found = json.loads(file.read_bytes())
    if place == "kept":
        found["rows"]["kept"] += 1
    else:
        found["rows"]["dropped"]["exact_dedup"]["duplicate"] -= 1
    file.write_text(json.dumps(found))
    with pytest.raises(DataError, match="journal"):
        gather(read_facts(str(tmp_path / "out")))


class Parser(HTMLParser):
    """Counts what a browser would make of the page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: Counter[str] = Counter()
        self.links: list[str] = []
        self.data: list[str] = []
        self._in_data = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "action", "srcset")]
        self._in_data = ("id", "data") in attrs
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        if self._in_data:
            self.data.append(data)
            self._in_data = False


def test_no_text_gets_out_of_its_place(page: Page, tmp_path: Path) -> None:
    target, script = write(page, tmp_path / "my report.html")
    parser = Parser()
    parser.feed(target.read_text("utf-8"))
    assert parser.tags["script"] == 2  # the data and the program
    assert parser.tags["img"] == 0
    assert script.name == "my report.js"
    assert "my%20report.js" in parser.links
    raw = parser.data[0]
    assert not re.search("[<>&\u2028\u2029]", raw)
    again = msgspec.json.decode(raw, type=Page)
    assert again == msgspec.convert(msgspec.to_builtins(page), Page)
    hostile = [d for group in again.documents for d in group if HOSTILE in "".join(d.pieces)]
    assert [(d.id, d.url) for d in hostile] == [("<hostile> & 'id'", "javascript:alert(1)//</script>")]
    assert hostile[0].marked > 5
    title = re.search("<title>(.*)</title>", target.read_text("utf-8"))
    assert title
    assert title[1] == "&lt;i&gt;rules&lt;/i&gt; · curate report"


@pytest.mark.parametrize("there", ["let app = 1;\n", ""])
def test_a_script_that_is_not_ours_is_not_written_over(page: Page, tmp_path: Path, there: str) -> None:
    (tmp_path / "app.js").write_text(there)
    with pytest.raises(ConfigError, match=r"app\.js is there and is no script of a report"):
        write(page, tmp_path / "app.html")
    assert [(f.name, f.read_text()) for f in tmp_path.iterdir()] == [("app.js", there)]
    write(page, tmp_path / "report.html")
    write(page, tmp_path / "report.html")  # ours


def test_nothing_asks_a_network(page: Page, tmp_path: Path) -> None:
    target, script = write(page, tmp_path / "report.html")
    parser = Parser()
    parser.feed(target.read_text("utf-8"))
    assert all(link.startswith("#") or link == "report.js" for link in parser.links)
    outside = re.sub(
        r'<script type="application/json".*?</script>', "", target.read_text("utf-8"), flags=re.S
    )
    program = script.read_text("utf-8")
    assert not re.search(r"https?://|@import|url\(", outside)
    assert re.findall(r"https?://[^\"' ]+", program) == [
        "http://www.w3.org/2000/svg"
    ]  # a name, never fetched
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "fetch(",
        "XMLHttp",
        "import(",
    ):
        assert word not in program
    assert "default-src 'none'" in outside


def test_a_long_text_is_cut_around_its_first_passage() -> None:
    from curate.report.page import Document

    text = "a" * 5000 + "#" + "b" * 5000
    one = Document(id="1", chars=len(text))
    cut(one, text, [(5000, 5001)])
    assert (one.before, one.after) == (4600, 10001 - 7600)
    assert one.pieces == ["a" * 400, "#", "b" * 2599]
    cut(one, "short", [])
    assert one.pieces == ["short"]


@pytest.mark.parametrize("dropped", ["keys", {"sample": 0.5}])
def test_other_modes_of_dropped_rows(tmp_path: Path, dropped: Any) -> None:
    folder = run(tmp_path, STEPS, dropped=dropped)
    page = gather(read_facts(str(folder)))
    assert page.rows["dropped"] == 15
    assert sum(r.rows for r in page.reasons) == 15
    write(page, tmp_path / "report.html")
    if dropped == "keys":
        assert page.dropped_kept == "keys"
        assert page.funnel[0].tokens_left is None
        assert page.documents[1][0].chars is None
    else:
        assert page.dropped_kept == "sample"
        assert sum(len(d) for d in page.documents[1:]) < 15


def test_an_empty_dataset_has_a_page(tmp_path: Path) -> None:
    import curate

    pq.write_table(pa.table({"text": ["x", "y"]}), tmp_path / "in.parquet")
    recipe = {
        "input": {"path": str(tmp_path / "in.parquet")}, "stages": [{"select": "length(text) > 5"}],
        "output": {"path": str(tmp_path / "out")}, "allow_empty": True,
    }  # fmt: skip
    curate.run(recipe, workers=1)
    page = gather(read_facts(str(tmp_path / "out")))
    assert (page.rows["kept"], [r.rows for r in page.reasons]) == (0, [2])
    write(page, tmp_path / "report.html")


def test_bad_targets(page: Page, ruled: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot write"):
        write(page, tmp_path / "none/report.html")
    with pytest.raises(DataError, match="is not the output of a run"):
        read_facts(str(tmp_path))
    shutil.copytree(ruled, tmp_path / "out")
    (tmp_path / "out/_curate/manifest.json").unlink()
    with pytest.raises(DataError, match="is not complete"):
        read_facts(str(tmp_path / "out"))
