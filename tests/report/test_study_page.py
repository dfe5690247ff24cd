"""The page of a study: its sentences by hand, every number that of a result file, no text out of its place."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from chromium import Chromium, open_chromium
from studies import study as small_study
from studies import verdict
from test_page import Parser
from victims import HOSTILE

from curate.errors import ConfigError, DataError
from curate.report import study
from curate.report.curves import curve
from curate.report.verdicts import Finding, lower_is_better, metric_words, sentence


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def page(folder: Path) -> study.Page:
    return study.gather(str(folder))


def said(*arguments: Any, **more: Any) -> str:
    return sentence(msgspec.convert(verdict(*arguments, **more), Finding))


def test_sentences() -> None:
    assert said("a", "bpb", "undecided", 0.3277, -0.0531, 0.7085, smallest_detectable=0.4895) == (
        "a: looks worse by 0.33 bits per byte, \u22120.05 to 0.71: undecided with 2 seeds; "
        "the smallest effect this plan could see was 0.49."
    )
    assert said("a", "bpb", "worse", 0.0947, 0.0022, 0.1872) == (
        "a: worse by 0.095 bits per byte (0.002 to 0.187), with 2 seeds."
    )
    assert said("a", "quiz", "better", 0.19, 0.01, 0.37, control_seeds=3, matching="pool") == (
        "a at an equal raw pool: better by 0.19 in accuracy on quiz (0.01 to 0.37), with 2 seeds against 3."
    )
    assert said("a", "quiz", "undecided", -0.1, None, None, smallest_detectable=None) == (
        "a: looks worse by 0.10 in accuracy on quiz, no interval: undecided with 2 seeds; no alpha is left to see anything with."
    )
    assert (
        said("a", "bpb", "undecided", None, None, None, note="seed 1 diverged")
        == "a: undecided: seed 1 diverged."
    )
    assert metric_words("blimp:gold_bpb") == "bits per byte of the right answers of blimp"
    assert metric_words("blimp:correct_prob") == "correct prob of blimp"


def test_verdicts_and_what_stands_beside_them(page: study.Page) -> None:
    assert [(one.arm, one.metric) for one in page.comparisons] == [
        ("ruled", "bpb"), ("edited", "bpb"), ("ruled", "quiz"), ("edited", "quiz"),
    ]  # fmt: skip
    assert page.lead == "1 worse, 1 undecided"
    one = page.comparisons[0]
    assert [(seed, round(d, 6)) for seed, d in one.per_seed] == [(0, 0.1), (1, 0.12)]
    assert (one.mean, one.control_mean) == (pytest.approx(1.93), pytest.approx(1.82))
    assert [c.noise for c in page.comparisons] == [(0.08, 0.13), None, None, None]
    assert [c.margin for c in page.comparisons] == [0.02, 0.02, None, None]
    assert [c.lower_is_better for c in page.comparisons] == [True, True, False, False]
    assert (
        "`ruled` or `edited` instead of `raw`? 725 k parameters, 10 k tokens each, 2 seeds" in page.question
    )
    assert page.spread[0].deviation == pytest.approx(0.04)


def test_runs_are_found_where_the_study_lies_now(page: study.Page) -> None:
    raw, _, edited = page.arms
    assert [run.status for run in raw.runs] == ["complete", "complete", "missing"]
    assert "runs that are not in the store any more: raw seed 2" in page.notes
    run = raw.runs[0]
    assert (len(run.at), run.at[-1] <= 10_000, run.loss[0] > run.loss[-1]) == (180, True, True)
    assert run.data["unique_tokens"] == 8000
    assert (edited.runs[1].status, edited.runs[1].reason) == ("diverged", "the loss is null")
    assert max(edited.runs[1].at) <= 5000


def test_a_short_curve_is_whole(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text('{"tokens":8,"loss":3.5}\n{"tokens":16,"loss":null}\n{"tokens":24,"loss":2.5}\n')
    assert curve(log) == ([8, 24], [3.5, 2.5])
    assert curve(log, points=1) == ([16], [3.0])


def test_corpora_are_those_of_the_manifests(page: study.Page, folder: Path) -> None:
    for arm in page.arms:
        manifest = json.loads((folder / "arms" / arm.name / "corpus/_curate/manifest.json").read_bytes())
        assert (arm.corpus.rows_in, arm.corpus.rows_kept) == (
            manifest["rows"]["in"],
            manifest["rows"]["kept"],
        )
        dropped = sum(n for reasons in manifest["rows"]["dropped"].values() for n in reasons.values())
        assert sum(step.dropped for step in arm.corpus.funnel) == dropped
        assert arm.corpus.seconds["corpus"] == pytest.approx(
            sum(p["cpu_seconds"] for p in manifest["passes"])
        )
    assert page.arms[1].corpus.changes == ["gopher_quality: added", "select: added"]


def test_what_an_arm_took_away(page: study.Page) -> None:
    raw, ruled, edited = (arm.corpus.taken for arm in page.arms)
    assert raw is None
    assert ruled is not None
    assert {(g.fate, g.stage, g.reason): g.rows for g in ruled.groups} == {
        ("dropped", "gopher_quality", "too_few_words"): 5,
        ("dropped", "gopher_quality", "too_many_hashes"): 3,
        ("dropped", "gopher_quality", "too_few_alpha_words"): 1,
    }
    assert (ruled.rows, ruled.same, ruled.added) == (55, 46, 0)
    assert len(ruled.examples) == 9
    assert any(HOSTILE in piece.text for one in ruled.examples for piece in one.pieces)
    assert edited is not None
    assert [(g.fate, g.rows) for g in edited.groups] == [("changed", 8)]  # menus, hashes, the hostile one
    pieces = [piece for one in edited.examples for piece in one.pieces]
    assert [p.text.count("Add to the basket") for p in pieces if "basket" in p.text] == [12] * 4
    assert all(p.kind == "kept" for p in pieces if "basket" in p.text)


def test_what_is_gone_is_said(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "study")
    shutil.rmtree(tmp_path / "study/arms/ruled")
    page = study.gather(str(tmp_path / "study"))
    assert not page.arms[1].corpus.funnel
    assert any(note.startswith("ruled: no corpus and no tokens") for note in page.notes)
    assert {run.status for arm in page.arms for run in arm.runs} == {"missing"}  # the store stayed behind
    (tmp_path / "study/study.json").write_text('{"name": "x"}')
    with pytest.raises(DataError, match="missing required field"):
        study.gather(str(tmp_path / "study"))


def test_a_control_that_no_run_made(folder: Path, tmp_path: Path) -> None:
    """The arm's own drops stand in for what it took away."""
    shutil.copytree(folder, tmp_path / "study")
    shutil.rmtree(tmp_path / "study/arms/raw")
    ruled = study.gather(str(tmp_path / "study")).arms[1].corpus.taken
    assert ruled is not None
    assert (ruled.of_control, ruled.rows, ruled.same, len(ruled.examples)) == (False, 55, 46, 9)
    assert [(g.reason, g.rows) for g in ruled.groups] == [
        ("too_few_words", 5), ("too_many_hashes", 3), ("too_few_alpha_words", 1),
    ]  # fmt: skip
    assert any(HOSTILE in one.pieces[0].text for one in ruled.examples)


def test_the_page_asks_for_nothing_that_a_study_does_not_write() -> None:
    from curate.eval.select import Statistics
    from curate.report import answer as read
    from curate.study import answer as written
    from curate.study.cost import Cost
    from curate.study.items import Common, Noise
    from curate.study.matching import Pool
    from curate.study.plan import Target
    from curate.study.verdict import Verdict

    pairs = [
        (read.Answer, written.Answer), (Finding, Verdict), (read.RunFolder, written.RunFolder), (read.RunFolder, written.Lost),
        (read.Matched, written.Matched), (read.Target, Target), (read.Pool, Pool), (read.Cost, Cost), (read.Noise, Noise),
        (read.Common, Common), (read.Task, Statistics),
    ]  # fmt: skip
    for ours, theirs in pairs:
        needed = {f.name for f in msgspec.structs.fields(ours) if f.required}
        assert needed <= {f.name for f in msgspec.structs.fields(theirs)}
    assert set(read.Answer.__struct_fields__) <= set(written.Answer.__struct_fields__)
    assert set(Finding.__struct_fields__) <= set(Verdict.__struct_fields__)


def test_bits_fall_and_the_rest_rises() -> None:
    from curate.eval.scores import higher_is_better

    for metric in ("bpb", "bpb:docs", "blimp", "blimp:gold_bpb", "blimp:correct_prob", "core"):
        assert lower_is_better(metric) != higher_is_better(metric)


def test_both_matchings(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder.parent, tmp_path / "out")
    file = tmp_path / "out/study/study.json"
    found = json.loads(file.read_bytes())
    first = {key: found[key] for key in ("values", "spread", "training")}
    pool = json.loads(json.dumps(first))
    pool["values"]["ruled"]["bpb"] = {"0": 2.0, "1": 2.1}
    found["matchings"] = {"tokens": first, "pool": pool}
    found["verdicts"].append(verdict("ruled", "bpb", "worse", 0.23, 0.1, 0.36, matching="pool"))
    found["runs"] += [
        {
            "arm": "raw",
            "seed": 0,
            "folder": "out/.curate/runs/raw-0",
            "matching": "pool",
        },  # the same run as above
        {"arm": "ruled", "seed": 0, "folder": "out/.curate/runs/edited-0", "matching": "pool"},
    ]
    found["target"] = {"params": 1e9, "tokens": 2e10, "raw_pool": 3e10, "pool": "raw"}
    found["pools"] = {
        "raw": {"tokens": 9000, "kept": 1.0, "epochs": 0.67},
        "ruled": {"tokens": 500, "kept": 0.5, "epochs": 1.33},
    }
    file.write_text(json.dumps(found))
    page = study.gather(str(tmp_path / "out/study"))
    one = next(one for one in page.comparisons if one.matching == "pool")
    assert [(seed, round(d, 6)) for seed, d in one.per_seed] == [(0, 0.2), (1, 0.26)]
    assert one.sentence.startswith("ruled at an equal raw pool: worse by 0.23")
    assert [[run.matching for run in arm.runs] for arm in page.arms[:2]] == [
        ["tokens"] * 3,
        ["tokens", "tokens", "pool"],
    ]
    assert "a run of 1 B parameters on 20 B tokens, out of 30 B tokens of raw text" in page.question
    assert page.arms[1].pool is not None
    assert page.arms[1].pool.epochs == 1.33
    assert [(one.matching, one.metric) for one in page.spread] == [
        ("tokens", "bpb"), ("tokens", "quiz"), ("pool", "bpb"), ("pool", "quiz"),
    ]  # fmt: skip


def test_a_confirm_run_has_the_arms_of_its_study(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder.parent, tmp_path / "out")
    found = json.loads((folder / "study.json").read_bytes())
    (tmp_path / "out/study/confirm").mkdir()
    again = {**found, "confirms": True, "output": "out/study/confirm"}
    (tmp_path / "out/study/confirm/study.json").write_text(json.dumps(again))
    page = study.gather(str(tmp_path / "out/study/confirm"))
    assert page.question.startswith("Asked again with fresh seeds: is a model")
    assert [arm.corpus.rows_kept for arm in page.arms] == [55, 46, 55]
    assert page.arms[0].runs[0].status == "complete"
    first = study.gather(str(tmp_path / "out/study"))
    assert any(note.startswith("asked again with fresh seeds: curate report") for note in first.notes)


def test_no_text_gets_out_of_its_place(page: study.Page, tmp_path: Path) -> None:
    target, script = study.write(page, tmp_path / "study.html")
    parser = Parser()
    parser.feed(target.read_text("utf-8"))
    assert parser.tags["script"] == 2
    assert parser.tags["i"] == 0
    assert all(link.startswith("#") or link == script.name for link in parser.links)
    assert msgspec.json.decode(parser.data[0], type=study.Page) == msgspec.convert(
        msgspec.to_builtins(page), study.Page
    )
    assert "innerHTML" not in script.read_text("utf-8")


def test_the_command_knows_a_study(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from curate.cli.report import report

    report(str(folder), output=str(tmp_path / "study.html"))
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "study.html")]
    report(str(folder), as_json=True)
    assert json.loads(capsys.readouterr().out)["schema"] == "curate.report.study/1"
    with pytest.raises(ConfigError, match="a study has no rows"):
        report(str(folder), output=str(tmp_path / "study.html"), sides=["scores"])


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    yield from open_chromium()


@pytest.mark.slow
def test_in_a_browser(browser: Chromium, page: study.Page, tmp_path: Path) -> None:
    browser.open(study.write(page, tmp_path / "study.html")[0])
    ask = browser.ask

    def text(selector: str) -> str:
        return str(ask(f"document.querySelector('{selector}').innerText"))

    assert browser.errors == []
    assert [Path(request).name for request in browser.requests] == ["study.html", "study.js"]
    assert text("#lead").split("\n") == ["1 worse, 1 undecided", "against raw, by bits per byte"]
    assert "worse by 0.110 bits per byte (0.002 to 0.218), with 2 seeds" in text("#said")
    assert ask("document.querySelectorAll('.metric').length") == 2
    assert ask("document.querySelectorAll('.metric .band').length") == 3  # one could not be judged
    assert ask("document.querySelectorAll('.metric .seed').length") == 6
    assert ask("document.querySelectorAll('.metric .noise').length") == 1
    assert ask("document.querySelectorAll('#chart .run').length") == 6
    assert ask("document.querySelector('#chart .ended').textContent") == "✕ diverged"
    browser.click("#loss-arms button", 0)
    assert ask("document.querySelectorAll('#chart .run').length") == 4
    ask("document.getElementById('chart').focus()")
    browser.press("ArrowLeft")
    assert "ruled, seed 0" in text("#chart .tip")
    assert "4.5" in text("#chart .tip")
    assert ask("document.querySelectorAll('.card').length") == 3
    assert "Text was read more than once" in text("#read-note")
    assert ask("document.querySelectorAll('#twins-list .one').length") == 9
    for number in range(9):
        browser.click("#twins-list .one", number)
        if "window.hacked" in text("#twins-text"):
            break
    assert "window.hacked = 1" in text("#twins-text")
    assert "U+202E" in text("#twins-text")
    browser.click("#taken-tabs button", 1)
    assert "kept with another text 8" in text("#fates-legend")
    removed = "[...document.querySelectorAll('#twins-text del')].map(d => d.innerText).join('')"
    for number in range(8):
        browser.click("#twins-list .one", number)
        if "Add to the basket" in ask(removed):
            break
    assert "Add to the basket" in ask(removed)
    assert "an <b>early</b> look" in text("#facts")
    assert "may decide" in text("#facts")
    assert "Items that an arm has seen" in text("#facts")
    assert "gopher_quality 3.0 s" in text("#cost-rows")
    assert "2 TFLOPs" in text("#cost-rows")
    assert ask("window.hacked") is None
    assert ask("document.documentElement.scrollWidth <= innerWidth")
    browser.resize(420, 800)
    assert ask("document.documentElement.scrollWidth") <= 420
