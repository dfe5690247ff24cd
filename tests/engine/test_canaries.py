"""Canaries: each stage must find what was planted for it, and nothing of it comes into the output."""

import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.engine import canaries, planted
from curate.engine.canaries import KEPT, Canaries, Ends, Found
from curate.engine.canary import Change, Host, Kind
from curate.engine.run import run
from curate.engine.verify import verify
from curate.errors import GuardError
from curate.recipe.recipe import from_tree
from curate.recipe.tree import Tree

WORDS = (
    "A quiet harbour lay beyond several green hills where old fishermen mended torn nets, while children ran along "
    "wooden piers and counted white sails that slowly returned home before evening. Nobody knew how many boats would "
    "come back, but everyone hoped to see them all. The bell of the church rang with a deep sound over the water."
)


def parquet(folder, texts, urls):
    pq.write_table(pa.table({"text": texts, "url": urls}), folder / "rows.parquet")


def jsonl(folder, texts, urls):
    lines = (json.dumps({"content": text, "link": url}) for text, url in zip(texts, urls, strict=True))
    (folder / "rows.jsonl").write_text("\n".join(lines))


def warc(folder, texts, urls):
    with gzip.open(folder / "pages.warc.gz", "wb") as file:
        for number, (text, url) in enumerate(zip(texts, urls, strict=True)):
            page = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n{planted.page(text, '')}".encode()
            file.write(
                f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Record-ID: <urn:{number}>\r\nWARC-Target-URI: {url}\r\n"
                f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(page)}\r\n\r\n".encode()
                + page + b"\r\n\r\n"
            )  # fmt: skip


@pytest.fixture
def go(tmp_path):
    """Runs stages over rows that they keep, with canaries; gives the result, the folder and the warnings."""

    def run_stages(stages, rows=120, source=None, write=parquet, **keys):
        (tmp_path / "in").mkdir(exist_ok=True)
        texts = [f"Row {i} begins like every other one.\n{WORDS}" for i in range(rows)]
        write(tmp_path / "in", texts, [f"https://fine.org/{i}" for i in range(rows)])
        reading = {"path": str(tmp_path / "in"), **(source or {})}
        tree = {"input": reading, "stages": stages, "canaries": True, **keys}
        warnings = []
        result = run(
            from_tree(Tree(tree, "recipe"), output=str(tmp_path / "out")), workers=1,
            listen=lambda kind, data: warnings.append(data["message"]) if kind == "warning" else None,
        )  # fmt: skip
        return result, tmp_path / "out", warnings

    return run_stages


def report(out):
    found = json.loads((out / "_curate/canaries.json").read_bytes())["found"]
    return {f"{one['planted']}: {one['stage']}": (one["rows"], one["came"], one["found"]) for one in found}


def test_every_stage_finds_its_share_and_no_canary_is_seen_outside(go, tmp_path):
    (tmp_path / "domains.txt").write_text("# none of these\nbanned.com\n*.evil.net\n")
    (tmp_path / "words.txt").write_text("casino\nbad-word\n")
    (tmp_path / "phrases.txt").write_text("unspeakable thing\n")
    (tmp_path / "opt_out.txt").write_text("private.org\nexample.com/blog*\n")
    stages = [
        {"url_filter": {"domains": str(tmp_path / "domains.txt"), "words": str(tmp_path / "words.txt")}},
        {"select": "url_filter_pass"},
        {"bad_words": {"list": str(tmp_path / "phrases.txt")}},
        {"select": "bad_words_pass"},
        {"gopher_repetition": {"when": "url like '%5'"}},
        {"select": "gopher_repetition_pass"},
        "exact_dedup",
        "pii_mask",
    ]
    result, out, warnings = go(stages, source={"opt_out": str(tmp_path / "opt_out.txt")})
    assert report(out) == {
        "opted-out page: input": (12, 12, 12),
        "banned domain: stages[0] (url_filter)": (12, 12, 12),
        "banned word in the URL: stages[0] (url_filter)": (12, 12, 12),
        "bad word: stages[2] (bad_words)": (12, 12, 12),
        "repeated lines: stages[4] (gopher_repetition)": (12, 12, 12),
        "duplicate: stages[6] (exact_dedup)": (12, 12, 12),
        "e-mail address: stages[7] (pii_mask)": (12, 12, 12),
        "public IP address: stages[7] (pii_mask)": (12, 12, 12),
    }
    assert warnings == []
    assert (result.rows.in_, result.rows.kept, result.rows.dropped) == (120, 120, {})
    assert result.rows.skipped == {}
    assert result.canaries == {"planted": 96, "came": 96, "found": 96}
    assert json.loads((out / "_curate/manifest.json").read_bytes())["canaries"] == result.canaries
    assert verify(out).problems == []
    texts = [row["text"] for file in out.glob("part-*.parquet") for row in pq.read_table(file).to_pylist()]
    assert len(texts) == 120
    assert not any("canary" in text for text in texts)
    assert not (out / "_dropped").exists()


@pytest.mark.parametrize("write", [parquet, jsonl, warc])
def test_duplicates_personal_data_banned_urls_and_opted_out_pages_in_every_format(go, tmp_path, write):
    (tmp_path / "domains.txt").write_text("banned.com\n")
    (tmp_path / "opt_out.txt").write_text("private.org\n")
    source = {"opt_out": str(tmp_path / "opt_out.txt")}
    if write is jsonl:
        source["columns"] = {"text": "content", "url": "link"}
    stages = [
        *["extract"] * (write is warc), {"url_filter": {"domains": str(tmp_path / "domains.txt")}},
        {"select": "url_filter_pass"}, "exact_dedup", "pii_mask",
    ]  # fmt: skip
    result, out, warnings = go(stages, source=source, write=write)
    found = {name.partition(":")[0]: numbers for name, numbers in report(out).items()}
    kinds = ("opted-out page", "banned domain", "duplicate", "e-mail address", "public IP address")
    assert found == dict.fromkeys(kinds, (12, 12, 12))
    assert (result.rows.in_, result.rows.kept, warnings) == (120, 120, [])


# What the stage puts in is what was planted: it cannot be gone. Hosts are numbered from 0.
BROKEN = {
    "pii_mask": {"email_replacements": [f"canary{i}@mail{i}.curate.net" for i in range(120)], "ips": False}
}


def test_a_stage_that_misses_its_share_stops_the_run_before_it_begins(go):
    with pytest.raises(GuardError, match=r"stages\[0\] \(pii_mask\) found 0 of 12 rows") as caught:
        go([BROKEN, "exact_dedup"])
    assert "--allow canaries" in caught.value.hint
    assert [line.split()[-3:] for line in caught.value.what.splitlines()[2:]] == [
        ["rows", "came", "found"], ["12", "12", "0"], ["12", "12", "12"],
    ]  # fmt: skip
    result, out, warnings = go([BROKEN, "exact_dedup"], guards={"allow": ["canaries"]})
    assert (result.exit, result.rows.kept) == (0, 120)
    assert [message.endswith("(allowed)") for message in warnings] == [True]
    assert result.canaries == {"planted": 24, "came": 24, "found": 12}
    assert report(out)["e-mail address: stages[0] (pii_mask)"] == (12, 12, 0)


def test_what_never_came_to_a_stage_is_no_miss_and_is_told(go):
    """The first stage drops every planted line: the second has nothing to find."""
    stages = [{"select": "text not like '%@%'"}, {"pii_mask": {"ips": False}}]
    _, out, warnings = go(stages)
    assert report(out) == {"e-mail address: stages[1] (pii_mask)": (12, 0, 0)}
    assert warnings == [
        "canaries: none came to stages[1] (pii_mask): _curate/canaries.json says what was planted"
    ]


def test_without_kept_rows_nothing_can_be_planted(go):
    _, out, warnings = go([{"select": "text = 'x'"}, "pii_mask"], allow_empty=True)
    assert warnings[0] == "canaries: none of 120 sampled rows is kept, so there is nothing to plant them in"
    assert report(out)["e-mail address: stages[1] (pii_mask)"] == (0, 0, 0)


def kinds_of(stages, schema=None, **keys):
    recipe = from_tree(Tree({"input": {"path": "in", **keys}, "stages": stages}, "recipe"))
    columns = {"id": pa.string(), "text": pa.large_string(), "url": pa.string(), **(schema or {})}
    return {kind.name: kind for kind in planted.kinds(recipe, pa.schema(columns))}


HOST = Host({"id": "a", "text": "old", "url": "https://fine.org"}, "One two.\nThree four.", "en", 1)


@pytest.mark.parametrize(
    ("where", "planted_text"),
    [
        ("lang = 'en'", "text in `de`"), ("lang_score > 0.5 and lang IN ('de', 'fr')", "text in `en`"),
        ("lang in ('eng_Latn', 'deu_Latn')", "text in `ru`"), ("lang in ('ru', 'en', 'de')", None),
        ("lang <> 'de'", None), ("lang = 'en' or lang_score > 0.5", None), ("lang_score > 0.5", None),
    ],
)  # fmt: skip
def test_a_language_is_planted_where_the_select_leaves_it_out(where, planted_text):
    assert list(kinds_of(["language_id", {"select": where}])) == ([planted_text] if planted_text else [])


def test_nothing_is_planted_where_the_options_let_it_pass(tmp_path):
    (tmp_path / "words.txt").write_text("word\n")
    stages = [
        {"pii_mask": {"emails": False, "ips": False}},
        {"bad_words": {"list": str(tmp_path / "words.txt"), "keep_fraction": 0.5}},
        {"c4_quality": {"filter_lorem_ipsum": False}}, {"c4_lines": {"filter_javascript": False}},
        {"gopher_repetition": {"max_dup_lines_ratio": 1, "max_dup_line_chars_ratio": 1}},
        {"gopher_quality": {"min_words": 3}},
        {"fineweb_quality": {"max_dup_line_chars_ratio": 0.5}},
        {"refinedweb_lines": {"max_removed_words_ratio": 0.5}}, "token_count", "sample",
    ]  # fmt: skip
    assert kinds_of(stages) == {}


def test_what_is_planted_by_hand(tmp_path):
    (tmp_path / "list.txt").write_text("evil.com\n*.bad.org\n")
    path = str(tmp_path / "list.txt")
    found = kinds_of(
        [{"url_filter": {"domains": path, "substrings": path}}, "pii_mask", "exact_dedup"], opt_out=path
    )
    assert found["banned domain"].plant(HOST) == Change(url="https://bad.org")
    assert found["opted-out page"].plant(HOST) == Change(url="https://bad.org")
    assert found["banned piece of a word in the URL"].plant(HOST) == Change(
        url="https://example.org/abadorgz"
    )
    mail = found["e-mail address"].plant(HOST)
    assert mail.needle == "canary1@mail1.curate.net"
    lines = ["One two.", f"Letters of every kind reach us at {mail.needle} on all days.", "Three four."]
    assert mail.text == "\n".join(lines)
    row = planted.planted_row(HOST, mail, "canary-0-0", [], False)
    assert row == {"id": "canary-0-0", "text": mail.text, "url": "https://fine.org"}
    page = planted.planted_row(HOST, Change(text="a < b", meta="<meta>"), "c", ["html"], True)
    assert (page["text"], b"<p>a &lt; b</p>" in page["html"], b"<meta>" in page["html"]) == (None, True, True)


def test_a_null_has_no_duplicate():
    (kind,) = kinds_of([{"exact_dedup": {"column": "url"}}]).values()
    assert kind.plant(HOST) == Change()
    assert kind.plant(HOST._replace(row={**HOST.row, "url": None})) is None


OTHERS = "amber basin cedar delta ember fjord grove heron inlet juniper kelp lagoon meadow nettle orchard pebble quartz reed".split()


@pytest.fixture
def different(tmp_path):
    """Rows that have little in common, with a date and an embedding each."""
    draw = np.random.default_rng(5)
    texts = []
    for i in range(100):
        lines = [" ".join(draw.choice(OTHERS, 12)) + f" {chr(97 + i % 26)}{i}x{k}." for k in range(8)]
        texts.append("\n".join(lines))
    table = {
        "text": texts, "url": [f"https://fine.org/{i}" for i in range(100)],
        "vector": [v.tolist() for v in draw.normal(size=(100, 8)).astype(np.float32)],
    }  # fmt: skip
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table(table), tmp_path / "in/rows.parquet")
    return tmp_path


def copies(different, stages):
    tree = {"input": {"path": str(different / "in")}, "stages": stages, "canaries": True}
    tree["guards"] = {"unchanged": "warn"}
    warnings = []
    result = run(
        from_tree(Tree(tree, "recipe"), output=str(different / "out")), workers=1,
        listen=lambda kind, data: warnings.append(data["message"]) if kind == "warning" else None,
    )  # fmt: skip
    return result, report(different / "out"), [one for one in warnings if "canaries" in one]


def test_copies_are_found_by_every_stage_that_goes_by_them(different):
    """One recipe: what is planted for a stage comes through those before it."""
    items = [
        {"question": f"Which {w} hill of the {v} would you climb first in a {v} winter by a {w} lamp", "answer": f"{v} {w}"}
        for w in OTHERS for v in OTHERS
    ]  # fmt: skip
    (different / "set.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    stages = [
        {"url_dedup": {"keep": "first"}}, "exact_dedup", "minhash_dedup", {"semantic_dedup": {"column": "vector", "clusters": 2}}, "line_dedup",
        {"paragraph_dedup": {"min_doc_chars": 0}}, "sentence_dedup", "substring_dedup",
        {"decontaminate": {"sets": [{"path": str(different / "set.jsonl")}]}}, {"select": "decontaminate_pass"},
    ]  # fmt: skip
    result, found, warnings = copies(different, stages)
    assert found == {
        "URL spelled otherwise: stages[0] (url_dedup)": (10, 10, 10),
        "duplicate: stages[1] (exact_dedup)": (10, 10, 10),
        "near-duplicate: stages[2] (minhash_dedup)": (10, 10, 10),
        "equal embedding: stages[3] (semantic_dedup)": (10, 10, 10),
        "line of another page: stages[4] (line_dedup)": (10, 10, 10),
        "line of another page: stages[5] (paragraph_dedup)": (10, 10, 10),
        "sentences of another page: stages[6] (sentence_dedup)": (10, 10, 10),
        "passage of another page: stages[7] (substring_dedup)": (10, 10, 10),
        "item of an evaluation set: stages[8] (decontaminate)": (10, 10, 10),
    }
    assert (result.rows.kept, warnings) == (100, [])


@pytest.mark.slow
@pytest.mark.parametrize(
    "stage",
    [
        {"line_dedup": {"normalize": "ccnet", "min_chars": 300}}, {"paragraph_dedup": {"method": "bloom"}},
        {"paragraph_dedup": {"normalize": "none"}}, {"sentence_dedup": {"n_sentences": 5, "normalize": "none"}},
        {"substring_dedup": {"unit": "tokens", "remove": "all"}}, {"substring_dedup": {"min_length": 300, "snap": "words"}},
        {"minhash_dedup": {"ngram": 3, "keep": "longest", "verify": {"max_novel_tokens": 0}}},
        {"minhash_dedup": {"threshold": 1.0}}, {"url_dedup": {"tracking": [], "strip_www": False, "keep": "first"}},
    ],
)  # fmt: skip
def test_copies_are_found_whatever_the_options(different, stage):
    _, found, warnings = copies(different, [stage])
    assert (list(found.values()), warnings) == ([(12, 12, 12)], [])


@pytest.mark.slow
@pytest.mark.parametrize("method", ["coverage", "datatrove", "window"])
def test_items_are_found_by_every_method(different, method):
    item = {"question": " ".join(f"{w} {w}ish" for w in OTHERS), "answer": "because they said so there"}
    (different / "set.jsonl").write_text(json.dumps(item) + "\n")
    stage = {"decontaminate": {"sets": [{"path": str(different / "set.jsonl")}], "method": method}}
    _, found, _ = copies(different, [stage, {"select": "decontaminate_pass"}])
    assert found == {"item of an evaluation set: stages[0] (decontaminate)": (12, 12, 12)}


def test_no_copy_is_planted_where_the_options_let_it_pass(different):
    stages = [
        {"line_dedup": {"min_count": 3}}, {"paragraph_dedup": {"split": "blank_lines"}},
        {"sentence_dedup": {"n_sentences": 6}}, {"substring_dedup": {"min_length": 1000}},
    ]  # fmt: skip
    assert kinds_of(stages) == {}
    assert kinds_of([{"paragraph_dedup": {"method": "bloom", "ngram": 40, "min_ngram": 40}}]) == {}


def test_a_line_that_stands_again_is_a_miss_and_the_first_is_not():
    step = from_tree(Tree({"input": {"path": "in"}, "stages": ["line_dedup"]}, "recipe")).steps[0]
    kind = Kind("line", step, "repeat", lambda host: None, "removed_lines")
    stands, cut = (KEPT, {"text": "a needle"}), (KEPT, {"text": "a", "line_dedup_removed_lines": 1})

    def found(**ends):
        one = canaries._found(kind, 0, [*ends], dict.fromkeys(ends, "needle"), Ends(ends))
        return one.rows, one.came, one.found

    assert found(a=stands, b=cut, c=(0, {"text": "needle"})) == (3, 3, 3)
    assert found(a=stands, b=stands, c=cut) == (3, 3, 2)
    assert found(a=stands, b=stands) == (2, 2, 0)
    assert found(a=stands, b=(-1, {})) == (2, 0, 0)
    assert found(a=cut, b=cut) == (2, 2, 2)


def test_where_a_row_ends_says_whether_it_came_and_was_found():
    step = from_tree(Tree({"input": {"path": "in"}, "stages": ["sample", "pii_mask"]}, "recipe")).steps[1]

    def look(how, **ends):
        kind = Kind("x", step, how, lambda host: None, "num_emails", 2 if how == "drop" else 1)
        rows = Ends({name.replace("_", "-"): end for name, end in ends.items()})
        return canaries._look(kind, "c", "needle", rows)

    masked, missed = (
        {"text": "clean", "pii_mask_num_emails": 1},
        {"text": "a needle", "pii_mask_num_emails": 0},
    )
    assert look("edit", c=(KEPT, masked)) == (True, True)
    assert look("edit", c=(2, missed)) == (True, False)  # dropped later, but it was missed
    assert look("edit", c=(0, missed)) == (False, False)
    assert look("edit", c=(KEPT, {"text": "clean", "pii_mask_num_emails": 0}))[0] is False  # gone before
    assert look("verdict", c=(2, {"text": "x", "pii_mask_pass": False})) == (True, True)
    assert look("verdict", c=(2, {"text": "needle", "pii_mask_pass": True})) == (True, False)
    assert look("verdict", c=(0, {"text": "needle"})) == (False, False)
    assert look("drop", c=(KEPT, {}), c_1=(1, {})) == (True, True)
    assert look("drop", c=(KEPT, {}), c_1=(KEPT, {})) == (True, False)
    assert look("drop", c=(0, {}), c_1=(KEPT, {})) == (False, False)
    nothing = Kind("x", None, "skip", lambda host: None)
    assert canaries._look(nothing, "c", "", Ends()) == (True, True)
    assert canaries._look(nothing, "c", "", Ends({"c": (0, {})})) == (True, False)


def test_the_table_names_the_stage_that_missed():
    result = Canaries(
        sampled_rows=9, hosts=4, controls=1, controls_kept=1,
        found=[Found(planted="duplicate", stage="stages[1] (exact_dedup)", rows=3, came=3, found=2)],
    )  # fmt: skip
    (finding,) = canaries._judge(result)
    assert finding.what == (
        "stages[1] (exact_dedup) found 2 of 3 rows in which there was a planted duplicate"
    )
    assert finding.table[1] == ("duplicate", "stages[1] (exact_dedup)", "3", "3", "2")
