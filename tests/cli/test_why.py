"""`curate why`: every step's verdict on rows that can be judged on paper."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

STAGES: list[Any] = [
    {"gopher_quality": {"min_words": 3, "min_mean_word_chars": 0, "min_alpha_words_ratio": 0.2, "min_stop_words": 0}},
    {"select": {"where": "gopher_quality_pass and score > 0.5 and length(text) < 99"}},
    "checkpoint",
    {"pii_mask": {"when": "lang = 'en'"}},
    "exact_dedup",
    {"select": "score < 0.99"},
]  # fmt: skip
ROWS = [  # id, text, lang, score
    ("kept", "the cat sat", "de", 0.9),
    ("mail", "write to someone@example.org soon", "en", 0.9),
    ("short", "two words", "en", 0.4),
    ("low", "one two three four", "en", 0.25),
    ("twin", "the cat sat", "de", 0.8),
    ("late", "a row that goes last", "de", 0.995),
    ("edge", "# a b c d e f g h i", "de", 0.9),  # one in ten is a hash, and 0.1 in 32 bits is above 0.1
    ("null", None, "de", 0.9),
]


def make(folder: Path, process: Any, stages: list[Any] = STAGES, **output: Any) -> Path:
    names = ("id", "text", "lang", "score")
    folder.mkdir()
    pq.write_table(
        pa.table(dict(zip(names, map(list, zip(*ROWS, strict=True)), strict=True))), folder / "in.parquet"
    )
    tree = {"input": {"path": str(folder / "in.parquet"), "id": "id"}, "stages": stages, "output": output}
    (folder / "recipe.yaml").write_text(json.dumps(tree))
    done = process("run", folder / "recipe.yaml", "-o", folder / "out", "--workers", 1)
    assert done.returncode == 4, done.stderr  # one row has no text
    return folder / "out"


@pytest.fixture(scope="module")
def made(tmp_path_factory: Any, process: Any) -> Path:
    return make(tmp_path_factory.mktemp("why") / "full", process)


@pytest.fixture(scope="module")
def only_keys(tmp_path_factory: Any, process: Any) -> Path:
    return make(tmp_path_factory.mktemp("why") / "keys", process, dropped="keys")


def verdicts(curate: Any, out: Path, row_id: str) -> list[dict[str, Any]]:
    done = curate("why", out, row_id, "--json")
    assert done.returncode == 0, done.stderr
    said: list[dict[str, Any]] = json.loads(done.stdout)["findings"][0]["verdicts"]
    assert [one["step"] for one in said] == [0, 1, 3, 4, 5]  # the checkpoint is no step
    return said


def words(said: list[dict[str, Any]]) -> list[str]:
    return [one["verdict"] for one in said]


def bounds(one: dict[str, Any]) -> dict[tuple[str, str], tuple[Any, Any, Any]]:
    return {(b["column"], b["sign"]): (b["value"], b["bound"], b["ok"]) for b in one["bounds"]}


def test_a_kept_row_passed_every_step(curate, made):
    quality, select, mask, dedup, last = verdicts(curate, made, "kept")
    assert words([quality, select, mask, dedup, last]) == ["pass", "pass", "no verdict", "pass", "pass"]
    found = bounds(quality)
    assert found["gopher_quality_num_words", ">="] == (3, 3, True)
    assert found["gopher_quality_num_words", "<="] == (3, 100000, True)
    assert found["gopher_quality_mean_word_chars", "<="] == (3, 10, True)
    assert [(c["text"], c["values"], c["ok"]) for c in select["conditions"]] == [
        ("gopher_quality_pass", {"gopher_quality_pass": True}, True),
        ("score > 0.5", {"score": 0.9}, True),
        ("length(text) < 99", {}, True),
    ]
    assert (mask["outside"], mask["statistics"]) == (True, {})  # it is German
    assert dedup["statistics"] == {"exact_dedup_cluster_size": 2, "exact_dedup_cluster_id": "kept"}


def test_a_bound_met_exactly_is_met(curate, made):
    value, bound, ok = bounds(verdicts(curate, made, "edge")[0])["gopher_quality_hash_ratio", "<="]
    assert (value > 0.1, bound, ok) == (True, 0.1, True)


def test_an_edit_says_how_much_went(curate, made):
    mask = verdicts(curate, made, "mail")[2]
    (row,) = [r for r in pq.read_table(made / "part-00000.parquet").to_pylist() if r["id"] == "mail"]
    assert mask["removed_chars"] == len("write to someone@example.org soon") - len(row["text"])
    assert mask["statistics"] == {"pii_mask_num_emails": 1, "pii_mask_num_ips": 0}


def test_a_row_that_fails_a_rule(curate, made):
    quality, select, *later = verdicts(curate, made, "short")
    assert (quality["verdict"], quality["reason"]) == ("fail", "too_few_words")
    assert bounds(quality)["gopher_quality_num_words", ">="] == (2, 3, False)
    assert bounds(quality)["gopher_quality_num_words", "<="] == (2, 100000, True)
    assert (select["verdict"], select["reason"]) == ("fail", "too_few_words")
    assert [c["ok"] for c in select["conditions"]] == [False, False, True]  # each one, not the first alone
    assert words(later) == ["not reached"] * 3
    text = curate("why", made, "short").stdout
    assert "00 gopher_quality  FAIL: too_few_words" in text
    assert " ".join(text.split()).count("gopher_quality_num_words 2 >= 3 FAIL") == 1
    assert "05 select          not reached" in text


def test_a_row_that_fails_a_condition(curate, made):
    quality, select, *later = verdicts(curate, made, "low")
    assert (quality["verdict"], select["verdict"], select["reason"]) == ("pass", "fail", "score > 0.5")
    assert [c["ok"] for c in select["conditions"]] == [True, False, True]
    assert words(later) == ["not reached"] * 3
    assert words(verdicts(curate, made, "late")) == ["pass", "pass", "no verdict", "pass", "fail"]


def test_a_duplicate_names_the_row_kept(curate, made):
    said = verdicts(curate, made, "twin")
    assert words(said) == ["pass", "pass", "no verdict", "fail", "not reached"]
    assert (said[3]["reason"], said[3]["kept_id"]) == ("duplicate", "kept")
    assert "04 exact_dedup     FAIL: duplicate, kept is kept" in curate("why", made, "twin").stdout


def test_a_quarantined_row_was_seen_by_nobody(curate, made):
    assert words(verdicts(curate, made, "null")) == ["not reached"] * 5


def test_a_row_that_a_stage_could_not_do(made):
    from curate.cli.dataset import Dataset
    from curate.cli.verdicts import fate_of, verdicts

    plan = Dataset(str(made)).plan
    assert plan
    row = {"id": "x", "stage": "pii_mask", "reason": "deadline", "source": "in.parquet"}
    said = verdicts(plan, row, fate_of(plan, "quarantined", row, "", None))
    assert [one.verdict for one in said] == [
        "not kept",
        "not kept",
        "quarantined",
        "not reached",
        "not reached",
    ]
    assert said[2].reason == "deadline"


def test_of_a_dropped_row_only_the_keys_are_left(curate, only_keys):
    quality, select, *later = verdicts(curate, only_keys, "short")
    assert bounds(quality) == {("gopher_quality_num_words", ">="): (2, 3, False)}
    assert [c["ok"] for c in select["conditions"]] == [False, None, None]
    assert words(later) == ["not reached"] * 3
    assert words(verdicts(curate, only_keys, "low"))[:2] == ["not kept", "fail"]
    assert verdicts(curate, only_keys, "low")[1]["conditions"][1] == {
        "text": "score > 0.5", "values": {"score": 0.25}, "ok": False,
    }  # fmt: skip
    assert "only the keys of dropped rows are kept" in curate("why", only_keys, "low").stdout
    assert words(verdicts(curate, only_keys, "kept")) == ["pass", "pass", "no verdict", "pass", "pass"]


def test_bounds_of_the_rows_language(curate, process, tmp_path):
    (tmp_path / "t").mkdir()
    for lang, longest in (("de", 4), ("en", 2)):
        (tmp_path / f"t/{lang}.yaml").write_text(
            f"min_avg_word_length: 1\nmax_avg_word_length: {longest}\nmax_non_alpha_words_ratio: 0.2\nstopwords: []\n"
        )
    stage = {"gopher_quality": {"min_words": 3, "min_stop_words": 0, "thresholds": str(tmp_path / "t")}}
    out = make(tmp_path / "run", process, [stage])
    key = ("gopher_quality_mean_word_chars", "<=")

    def ask(row_id: str) -> dict[str, Any]:
        found = json.loads(curate("why", out, row_id, "--json").stdout)["findings"][0]
        assert found["status"] == "kept"
        one: dict[str, Any] = found["verdicts"][0]
        return one

    assert bounds(ask("kept"))[key] == (3, 4, True)
    assert ask("low")["verdict"] == "fail"  # and nothing drops it
    assert bounds(ask("low"))[key] == (3.75, 2, False)
    shutil.rmtree(tmp_path / "t")
    gone = ask("kept")
    assert (gone["verdict"], gone["bounds"]) == ("no verdict", [])
    assert "no YAML file" in gone["note"]


def test_a_row_under_way(curate, killed):
    (found,) = json.loads(curate("why", killed, "doc-055", "--json").stdout)["findings"]
    assert [(one["name"], one["verdict"]) for one in found["verdicts"]] == [
        ("sample", "no verdict"), ("select", "pass"), ("exact_dedup", "not reached"), ("killer", "not reached"),
    ]  # fmt: skip


def test_parts_without_a_plan_have_no_verdicts(curate, made, tmp_path):
    shutil.copy(made / "part-00000.parquet", tmp_path)
    (found,) = json.loads(curate("why", tmp_path, "kept", "--json").stdout)["findings"]
    assert (found["status"], found["verdicts"]) == ("kept", [])
    assert "gopher_quality_num_words" in curate("why", tmp_path, "kept").stdout


@pytest.fixture(scope="module")
def sides(made, process):
    """The same rule with another bound, and a count, beside the corpus."""
    stages = [
        {"stage": "gopher_quality", "name": "again", "min_words": 4, "min_mean_word_chars": 0, "min_stop_words": 0},
        "token_count",
    ]  # fmt: skip
    folder = made.parent
    output = {"path": str(folder / "side"), "columns": "new"}
    (folder / "side.yaml").write_text(
        json.dumps({"input": {"path": str(made)}, "stages": stages, "output": output})
    )
    done = process("run", folder / "side.yaml", "--workers", 1)
    assert done.returncode == 0, done.stderr
    return folder / "side"


def test_steps_that_wrote_side_columns_say_theirs(curate, made, sides):
    done = curate("why", made, "kept", "--with", sides, "--json")
    (finding,) = json.loads(done.stdout)["findings"]
    assert finding["verdicts"][0]["name"] == "gopher_quality"
    (beside,) = finding["with"]
    assert (beside["output"], beside["status"], beside["row"]["token_count"]) == (str(sides), "kept", 3)
    again, counted = beside["verdicts"]
    assert (again["verdict"], again["reason"], again["value"], again["threshold"]) == (
        "fail", "too_few_words", 3, 4,
    )  # fmt: skip
    assert counted["statistics"] == {"token_count": 3}
    shown = curate("why", made, "kept", "--with", sides).stdout
    assert f"with {sides}: kept\n00 again        FAIL: too_few_words" in shown
    dropped = json.loads(curate("why", made, "low", "--with", sides, "--json").stdout)["findings"][0]
    assert dropped["with"] == []
    assert "is a dataset of its own, not side columns" in curate("why", made, "kept", "--with", made).stderr


def test_report_and_threshold_read_them_too(curate, made, sides):
    page = json.loads(curate("report", made, "--with", sides, "--json").stdout)
    of = {one["column"]: one for one in page["histograms"]}
    rows = page["rows"]["kept"]
    assert [sum(of[name]["kept"]) for name in ("again_num_words", "token_count")] == [rows, rows]
    assert [mark["bound"] for mark in of["again_num_words"]["marks"]] == [4, 100_000]
    assert of["token_count"]["marks"] == []
    assert "again_num_words" not in json.dumps(json.loads(curate("report", made, "--json").stdout))
    cut = json.loads(
        curate("threshold", made, "--with", sides, "--score", "token_count", "--at", 4, "--json").stdout
    )
    assert (cut["rows"], cut["kept"]) == (rows, sum(n >= 4 for n in (3, 5, 10)))


NEAR = "the river that runs past the old mill at {} rises in the hills and is shallow for most of the year"


@pytest.fixture(scope="module", params=["full", "keys"])
def near(tmp_path_factory: Any, process: Any, request: Any) -> Path:
    """One text with two near-duplicates."""
    folder = tmp_path_factory.mktemp("near")
    texts = [NEAR.format("Rome"), NEAR.format("Oslo"), NEAR.format("Rome") + "\x1b[31m"]
    pq.write_table(pa.table({"id": ["rome", "oslo", "red"], "text": texts}), folder / "in.parquet")
    stages: list[Any] = [{"minhash_dedup": {"threshold": 0.4}}]
    tree = {
        "input": {"path": str(folder / "in.parquet"), "id": "id"},
        "stages": stages,
        "output": {"dropped": request.param},
    }
    (folder / "recipe.yaml").write_text(json.dumps(tree))
    done = process("run", folder / "recipe.yaml", "-o", folder / "out", "--workers", 1)
    assert done.returncode == 0, done.stderr
    return folder / "out"


def test_a_duplicate_beside_the_one_kept(curate, near, request):
    shown = curate("why", near, "oslo").stdout
    (found,) = json.loads(curate("why", near, "oslo", "--json").stdout)["findings"]
    told = found["difference"]
    assert (told["similarity"], told["value"]) == ("Jaccard", found["row"]["drop_value"])
    assert found["clusters"] == []
    if "keys" in request.node.name:
        assert (told["pieces"], told["note"]) == (
            [],
            "the text of dropped rows was not kept (output.dropped)",
        )
        assert "difference: the text of dropped rows was not kept" in shown
        return
    assert [piece for piece in told["pieces"] if piece[0] != "same"] == [
        ["kept", "Rome"],
        ["dropped", "Oslo"],
    ]
    assert "difference, Jaccard 0." in shown
    assert "the old mill at [-Rome-]{+Oslo+} rises in the hills" in shown
    assert "\x1b" not in curate("why", near, "red").stdout
    assert "text" not in found["row"]


def test_a_kept_one_names_those_dropped_for_it(curate, near, monkeypatch):
    from curate.cli import twins

    (found,) = json.loads(curate("why", near, "rome", "--json").stdout)["findings"]
    (one,) = found["clusters"]
    assert (one["step"], one["size"], [m["id"] for m in one["members"]]) == (
        "minhash_dedup",
        3,
        ["oslo", "red"],
    )
    assert "difference" not in found
    assert "kept for 3 documents, itself among them" in curate("why", near, "rome").stdout
    monkeypatch.setattr(twins, "MEMBERS", 1)
    shown = curate("why", near, "rome").stdout
    assert "oslo" in shown
    assert "and 1 more" in shown
