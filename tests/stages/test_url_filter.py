"""`url_filter`: each list by hand, the kernel equal to slow Python, decisions equal to datatrove's URLFilter."""

import gzip
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.engine.fingerprints import step_identity
from curate.errors import ConfigError
from curate.recipe.recipe import from_tree
from curate.recipe.tree import Tree
from curate.stages.url_filter import WRITES, Config, list_files, load, url_filter

THEIRS = {
    "domain": "domain", "subdomain": "domain", "url": "url", "hard_blacklisted": "word",
    "soft_blacklisted": "soft_words", "blacklisted_subword": "substring",
}  # fmt: skip


@pytest.fixture
def judged(tmp_path: Path) -> Any:
    """The stage as a function of URLs and lists, each a list of lines."""

    def run(urls: list[str | None], /, min_soft_words: int = 2, **lists: list[str]) -> list[dict[str, Any]]:
        for name, entries in lists.items():
            (tmp_path / name).write_text("\n".join(entries) + "\n", "utf-8")
        files = {name: str(tmp_path / name) for name in lists}
        config = Config(**files, min_soft_words=min_soft_words)  # type: ignore[arg-type]
        batch = pa.record_batch(
            {"id": pa.array(map(str, range(len(urls)))), "url": pa.array(urls, pa.string())}
        )
        out = url_filter(batch, config, load(config, tmp_path / "store"))
        assert out.select(["id", "url"]) == batch
        assert {f.name: f.type for f in out.schema if f.name not in ("id", "url")} == WRITES
        return [
            {key.removeprefix("url_filter_"): value for key, value in row.items()} for row in out.to_pylist()
        ]

    return run


ALL = {
    "domains": ["bad.com", "*.evil.org", "müller.de", "1.2.3.4", "[::1]", "xxx"],
    "urls": ["http://ok.com/x/", "site.net/A?b"],
    "words": ["casino", "Пример"],
    "soft_words": ["free", "win", "Bonus!"],
    "substrings": ["cheap-pills"],
}


@pytest.mark.parametrize(
    ("url", "reason", "match"),
    [
        ("https://bad.com", "domain", "bad.com"),
        ("http://a.b.BAD.com.:80/x?y#z", "domain", "bad.com"),
        ("//bad.com/x", "domain", "bad.com"),
        ("bad.com/x", "domain", "bad.com"),
        ("http://user:secret@bad.com/", "domain", "bad.com"),
        ("http://a.evil.org", "domain", "evil.org"),
        ("http://any.site.xxx/", "domain", "xxx"),
        ("http://xn--mller-kva.de/", "domain", "xn--mller-kva.de"),
        ("http://MÜLLER.de/", "domain", "müller.de"),
        ("http://1.2.3.4:8080/", "domain", "1.2.3.4"),
        ("http://[::1]:80/", "domain", "[::1]"),
        ("http://notbad.com", None, None),
        ("http://bad.com.org/", None, None),
        ("http://good.org/http://bad.com", None, None),
        ("http://good.org/?at=@bad.com", None, None),
        ("https://www.OK.com/x#part", "url", "ok.com/x"),
        ("http://ok.com/x/y", None, None),
        ("http://site.net/A?b", "url", "site.net/A?b"),
        ("http://site.net/a?b", None, None),  # paths have case
        ("http://a.org/best-CASINO_2", "word", "casino"),  # _ is no letter
        ("http://a.org/online-casino/", "word", "casino"),
        ("http://a.org/casinos", None, None),
        ("http://a.org/пример/1", "word", "пример"),
        ("http://a.org/free-free", None, None),
        ("http://a.org/win/FREE", "soft_words", "win"),
        ("http://free.org/bonus", "soft_words", "free"),
        ("http://a.org/che_ap/pi-lls.html", "substring", "cheappills"),
        ("http://a.org/chea/pills", None, None),
        ("", None, None),
        (None, None, None),
    ],
)
def test_lists_by_hand(judged: Any, url: str | None, reason: str | None, match: str | None) -> None:
    row = judged([url], **ALL)[0]
    assert (row["pass"], row["reason"], row["match"]) == (reason is None, reason, match)
    soft = 2.0 if reason == "soft_words" else None
    assert (row["value"], row["threshold"]) == (soft, soft)


def test_the_first_list_is_named_and_soft_words_are_counted(judged: Any) -> None:
    rows = judged(
        ["http://bad.com/casino", "http://a.org/free/casino/win", "http://a.org/free/win/bonus/free"], **ALL
    )
    assert [row["reason"] for row in rows] == ["domain", "word", "soft_words"]
    assert rows[2]["value"] == 3
    assert judged(["http://a.org/free/win"], min_soft_words=3, **ALL)[0]["pass"]


def test_forms_of_a_list(tmp_path: Path) -> None:
    text = "\ufeff# a comment\r\n\r\n  bad.com \r\nworse.com"
    (tmp_path / "plain").write_bytes(text.encode())
    (tmp_path / "packed.txt.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "other").write_text("third.com")
    batch = pa.record_batch(
        {"url": ["http://bad.com", "http://worse.com", "http://third.com", "http://comment"]}
    )
    for files in (("plain", "other"), ("packed.txt.gz", "other")):
        config = Config(domains=tuple(str(tmp_path / file) for file in files))
        out = url_filter(batch, config, load(config, tmp_path / "store"))
        assert out["url_filter_pass"].to_pylist() == [False, False, False, True]


def test_a_list_is_mapped_once_and_changes_with_its_content(tmp_path: Path) -> None:
    list_file, batch = tmp_path / "list", pa.record_batch({"url": ["http://a.com", "http://b.com"]})
    for text, passed in (("a.com", [False, True]), ("b.com", [True, False])):
        list_file.write_text(text)
        for _ in range(2):
            config = Config(domains=str(list_file))
            out = url_filter(batch, config, load(config, tmp_path / "store"))
            assert out["url_filter_pass"].to_pylist() == passed
    assert len(list((tmp_path / "store/lists").iterdir())) == 2


def test_the_content_of_a_list_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    list_file = tmp_path / "list"
    tree = {
        "input": {"path": "x"},
        "stages": [{"url_filter": {"domains": str(list_file)}}],
        "output": {"path": "y"},
    }
    seen = []
    for text in ("a.com", "b.com"):
        list_file.write_text(text)
        seen.append(step_identity(from_tree(Tree(tree, "test")).steps[0], ".")["files"])
    assert seen[0] != seen[1]


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("domains", b"good.com\nbad.com/page\n", r":2: `bad.com/page` is no domain"),
        ("domains", b"http://bad.com\n", "is no domain"),
        ("words", b"# c\n\n---\n", r":3: `---` is no word"),
        ("substrings", b"!!", "is no word"),
        ("urls", b"https://\n", "is no URL"),
        ("urls", b"", "holds no entry"),
        ("urls", b"# nothing\n \n", "holds no entry"),
        ("domains", b"caf\xe9.fr\n", "not UTF-8"),
        ("domains", gzip.compress(b"bad.com\n" * 99, mtime=0)[:-9], "cannot read"),
    ],
)
def test_a_list_that_would_match_nothing_is_refused(
    tmp_path: Path, name: str, content: bytes, error: str
) -> None:
    (tmp_path / "list").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(Config(**{name: str(tmp_path / "list")}), tmp_path)  # type: ignore[arg-type]
    assert re.search(error, str(caught.value))
    assert caught.value.hint


def test_no_list_and_no_file_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no list was given") as caught:
        Config()
    assert "domains: banned.txt" in caught.value.hint
    with pytest.raises(ConfigError, match="no such list"):  # at plan, before anything runs
        list_files(Config(domains=str(tmp_path / "none")))
    with pytest.raises(ConfigError, match="min_soft_words"):
        Config(soft_words="x", min_soft_words=0)


def slow_reason(url: str, lists: dict[str, list[str]]) -> str | None:
    """The same verdict from sets and regular expressions."""
    scheme = re.match(r"[^:/.?#]*:?//", url)
    rest = url[scheme.end() :] if scheme else url
    host = re.split(r"[/?#]", rest.lower(), maxsplit=1)[0].rpartition("@")[2]
    if host.startswith("["):
        inner, bracket, port = host.partition("]")
        host = inner + bracket + port.partition(":")[0]
    else:
        host = host.partition(":")[0]
    labels = host.rstrip(".").split(".")
    if any(".".join(labels[i:]) in lists["domains"] for i in range(len(labels))):
        return "domain"
    page = re.sub(r"^www\.", "", rest.partition("#")[0].rstrip("/"), flags=re.I)
    name = re.split(r"[/?]", page, maxsplit=1)[0]
    if re.sub("[A-Z]", lambda c: c[0].lower(), name) + page[len(name) :] in lists["urls"]:
        return "url"
    words = re.split("[\x00-/:-`{-\x7f]+", url.lower())
    if set(words) & set(lists["words"]):
        return "word"
    if len(set(words) & set(lists["soft_words"])) >= 2:
        return "soft_words"
    return "substring" if any(piece in "".join(words) for piece in lists["substrings"]) else None


PIECES = st.sampled_from(
    ["http:", "//", "/", ".", ":", "@", "?", "#", "www.", "WWW.", "a", "B", "a.com", "b.a.com", "x", "one", "two", "é", "[", "]", "8", "-"]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(urls=st.lists(st.lists(PIECES, min_size=1, max_size=9).map("".join), min_size=1, max_size=8))
def test_any_url_is_judged_as_slow_python_does(
    tmp_path_factory: pytest.TempPathFactory, urls: list[str]
) -> None:
    lists = {
        "domains": ["a.com", "b.x"], "urls": ["x/a", "b", "x?one"], "words": ["two", "éa"],
        "soft_words": ["one", "a", "x", "8"], "substrings": ["oneone", "xb"],
    }  # fmt: skip
    folder = tmp_path_factory.getbasetemp() / "slow"
    folder.mkdir(exist_ok=True)
    for name, entries in lists.items():
        (folder / name).write_text("\n".join(entries))
    config = Config(**{name: str(folder / name) for name in lists})  # type: ignore[arg-type]
    out = url_filter(pa.record_batch({"url": urls}), config, load(config, folder))
    assert out["url_filter_reason"].to_pylist() == [slow_reason(url, lists) for url in urls]


@pytest.mark.filterwarnings("ignore:The 'registered_domain'")
def test_decisions_are_those_of_datatrove(shared_data: Path, judged: Any) -> None:
    from datatrove.data import Document
    from datatrove.pipeline.filters import URLFilter
    from tldextract import TLDExtract

    files = ["html/wcxb_pages_dev", "html/trafilatura_eval_dev", "html/article_extraction_benchmark_dev"]
    tables = [pq.read_table(shared_data / f"{file}.parquet", columns=["url"])["url"] for file in files]
    urls = sorted({url for table in tables for url in table.to_pylist() if url})
    extract = TLDExtract(suffix_list_urls=(), cache_dir=None)
    lists = {
        "domains": [extract(url).top_domain_under_public_suffix for url in urls[::9]] + [extract(url).fqdn for url in urls[4::9]],
        "urls": urls[1::9],
        "words": ["blog", "recipe", "2019", "review"],
        "soft_words": ["the", "to", "of", "how", "in", "and", "a"],
        "substrings": ["wiki", "best-", "newsa"],
    }  # fmt: skip
    lists["domains"] = [
        name for name in lists["domains"] if name
    ]  # an address has none, and '' is the host of another
    theirs = URLFilter(
        extra_domains=lists["domains"], extra_urls=lists["urls"], banned_words=lists["words"],
        banned_subwords=lists["substrings"], soft_banned_words=lists["soft_words"], use_integrated_lists=False,
    )  # fmt: skip
    theirs.tldextractor = extract  # its own asks the net for the newest list first
    reasons = []
    for url in urls:
        answer = theirs.filter(Document(text="", id="", metadata={"url": url}))
        reasons.append(THEIRS[answer[1]] if isinstance(answer, tuple) else None)
    rows = judged(urls, **lists)
    differing = [
        (url, row, reason)
        for url, row, reason in zip(urls, rows, reasons, strict=True)
        if row["reason"] != reason
    ]
    assert len(urls) > 1000
    assert all(reasons.count(reason) > 20 for reason in {*THEIRS.values(), None})
    # The differences on the stage's page: capitals, hosts between, and the same URL with another scheme, www. or slash.
    for url, row, reason in differing:
        explained = {
            "word": url != url.lower(),
            "soft_words": url != url.lower(),
            "domain": row["match"] not in (extract(url).fqdn, extract(url).top_domain_under_public_suffix),
            "url": url not in lists["urls"],
        }
        assert explained.get(row["reason"], False), (row["reason"], reason)
    assert len(differing) < 0.02 * len(urls)
