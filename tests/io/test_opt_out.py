"""Pages whose owners said no: no byte of them anywhere, by list or by the page's own word, from every reader."""

import gzip
import json
import re
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.errors import ConfigError
from curate.io.opt_out import OptOut, sha256_of_list

CONSOLE = str(sys.executable).replace("python3", "python").rpartition("/")[0] + "/curate"
SECRET = "xyzzyplugh"


def lists(*lines, tdm=False):
    return OptOut([(line, "list") for line in lines], tdm)


@pytest.mark.parametrize(
    ("line", "yes", "no"),
    [
        ("example.com", ["http://example.com", "https://a.b.Example.com:8080/x?y", "//example.com/", "example.com/a",
                         "https://u:p@www.example.com/"],
         ["https://notexample.com/", "https://example.com.evil.org/", "https://evil.org/example.com", "", None]),
        ("*.example.com", ["https://a.example.com/"], ["https://example.org/"]),
        ("https://www.example.com/blog", ["http://example.com/blog", "https://example.com/blog/a",
                                          "https://example.com/blog?a", "http://example.com/blog#a", "http://example.com/%62log"],
         ["https://example.com/blogger", "https://example.com/", "https://sub.example.com/blog", "https://example.com/Blog"]),
        ("example.com/blog/", ["https://example.com/blog/a"], ["https://example.com/blog"]),
        ("example.com/blog*", ["https://example.com/blogger"], ["https://example.com/blo"]),
        ("https://example.com/", ["https://sub.example.com/a"], []),
        ("bücher.de", ["https://xn--bcher-kva.de/a", "https://www.bücher.de"], ["https://bucher.de"]),
        ("192.0.2.1", ["http://192.0.2.1:80/a"], ["http://192.0.2.10/a"]),
        ("[2001:db8::1]", ["http://[2001:db8::1]:80/a"], ["http://[2001:db8::2]/"]),
    ],
)  # fmt: skip
def test_what_a_line_of_a_list_means(line, yes, no):
    found = lists(line)
    assert [url for url in yes if not found.has_url(url)] == []
    assert [url for url in no if found.has_url(url)] == []


@pytest.mark.parametrize("line", ["com", "two words.com", "/path", "http://", "localhost"])
def test_a_line_that_is_no_address_is_an_error_with_its_place(line):
    with pytest.raises(ConfigError, match="neither a domain nor a URL"):
        lists(line)


@pytest.mark.parametrize(
    "url",
    [
        "https://exa\tmple.com/a", " \x00https://example.com\r\n/a", "https:\\\\example.com\\a", "http:/example.com/a",
        "http:example.com", "http:///example.com/a", "https://user@b.org:x@example.com/",
        "https://ex%61mple.com/a", "https://example\u3002com/", "https://free.org\\@example.com@example.com",
    ],
)  # fmt: skip
def test_urls_that_browsers_read_though_odd(url):
    listed = "free.org" not in url
    assert lists("example.com").has_url(url) is listed
    assert lists("example.com/a").has_url(url) is (listed and url.rstrip("\r\n").endswith("a"))


@pytest.mark.parametrize(
    "url",
    [
        "/a",
        "urn:isbn:1",
        "http://exa mple.com/",
        "http://a.com:80b/",
        "http://é..x/",
        "?",
        "https://u:p/@other.org",
    ],
)
def test_a_url_whose_host_cannot_be_told_is_skipped_where_there_is_a_list(url):
    assert lists("other.org").has_url(url)
    assert not lists(tdm=True).has_url(url)


@given(st.lists(st.sampled_from(["a.com", "b.a.com", "c.org", "d.c.org", "e.net"]), max_size=4), st.sampled_from(
    ["a.com", "b.a.com", "x.b.a.com", "c.org", "xc.org", "d.c.org", "e.net", "f.io"]
))  # fmt: skip
def test_domains_against_the_plain_definition(names, host):
    assert lists(*names).has_url(f"https://{host}/p") == any(
        host == n or host.endswith(f".{n}") for n in names
    )


@pytest.mark.parametrize(
    ("headers", "reserved"),
    [
        ([("TDM-Reservation", "1")], True),
        ([("tdm-reservation", "0")], False),
        ([("X-Robots-Tag", "noindex"), ("x-robots-tag", "NoAI, noimageai")], True),
        ([("X-Robots-Tag", "otherbot: noimageai")], True),
        ([("X-Robots-Tag", "noarchive, noindex")], False),
        ([("X-Other", "noai")], False),
    ],
)
def test_headers(headers, reserved):
    assert lists(tdm=True).in_headers(headers) is reserved
    assert not lists().in_headers(headers)


@pytest.mark.parametrize(
    ("html", "reserved"),
    [
        (b'<META Name="TDM-Reservation" content="1">', True),
        (b"<meta content='1' name=tdm-reservation />", True),
        (b'<meta name="tdm-reservation" content="0"><meta name="robots" content="index">', False),
        (b'<meta name="robots" content="index, noai">', True),
        (b'<meta\n name="CCBot" content="noimageai">', True),
        (b'<meta name="description" content="noai"><p>noai tdm-reservation 1</p>', False),
    ],
)
def test_meta_tags(html, reserved):
    assert lists(tdm=True).in_page(html) is reserved
    assert not lists().in_page(html)


@pytest.mark.parametrize(
    "html",
    [b"<meta " * 170_000, b"<meta noai " + b"a" * 10**6 + b">", b"<meta " + b"a-" * 500_000, b"<meta " * 170_000 + b">",
     b"<meta" + b" a" * 500_000 + b">", b"<meta a" + b" " * 10**6 + b">", b"<meta a=" + b" " * 10**6 + b">",
     b"<meta " + b'a="' * 330_000 + b">", b"<meta " + b"a='" * 330_000 + b'a=">', b"<meta name=robots content='" + b"a," * 500_000 + b"'>"],
)  # fmt: skip
def test_a_page_of_a_megabyte_takes_no_second(html):
    begin = time.process_time()
    assert not lists(tdm=True).in_page(b"tdm-reservation " + html)
    assert time.process_time() - begin < 1


def http(url, body, *, id, kind="text/html", headers="", length=None):
    page = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n{headers}\r\n".encode() + body
    size = len(page) if length is None else length
    return (
        f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Record-ID: <urn:{id}>\r\nWARC-Target-URI: {url}\r\n"
        f"Content-Type: application/http; msgtype=response\r\nContent-Length: {size}\r\n\r\n"
    ).encode() + page + b"\r\n\r\n"  # fmt: skip


@pytest.fixture
def warc(tmp_path):
    secret = SECRET.encode()
    records = [
        http("https://free.org/a", b"<p>free</p>", id="1"),
        http("https://no.com/a", b"<p>%s</p>" % secret, id="2"),
        http(
            "https://no.com/b", b"<p>%s</p>" % secret, id="3", headers="Content-Encoding: zstd\r\n"
        ),  # cannot be read
        http("https://no.com/c", b"<p>%s</p>" % secret, id="4", length=9),  # broken
        http("https://free.org/tdm", b"<p>%s</p>" % secret, id="5", headers="TDM-Reservation: 1\r\n"),
        http("https://free.org/meta", b'<meta name="robots" content="noai"><p>%s' % secret, id="6"),
        http("https://free.org/bad", b"\0<p>%s</p>" % secret, id="7", headers="Content-Encoding: br\r\n"),
        http("https://free.org/b", b"<p>free too</p>", id="8"),
    ]
    folder = tmp_path / "in"
    folder.mkdir()
    with open(folder / "a.warc.gz", "wb") as file:
        for record in records:
            file.write(gzip.compress(record))
    (tmp_path / "no.txt").write_text("# people who asked\nno.com # by mail\n")
    return folder


def test_warc_by_list_and_by_the_pages_own_word(warc, tmp_path, read_all):
    everything = read_all(warc, opt_out=[str(tmp_path / "no.txt")], tdm=True)
    assert [row["id"] for row in everything.rows] == ["urn:1", "urn:8"]
    assert [id for _, id in everything.ids] == ["urn:1", "urn:8"]
    assert everything.scans[0].rows == 2
    assert everything.log.skipped["opt_out"] == 5
    assert SECRET.encode() not in b"".join(row["raw"] for row in everything.log.quarantined)
    only_lists = read_all(warc, opt_out=[str(tmp_path / "no.txt")])
    assert only_lists.log.skipped == {"opt_out": 3}
    assert [row["id"] for row in only_lists.rows] == ["urn:1", "urn:5", "urn:6", "urn:8"]


def rows(tmp_path):
    return [
        {"id": "1", "url": "https://free.org/a", "text": "free"},
        {"id": "2", "url": "https://no.com/a", "text": SECRET},
        {"id": "2", "url": "https://free.org/2", "text": "free: the first of this id was never a row"},
        {"id": "3", "url": "https://a.no.com/b", "text": None},  # would be quarantined
        {"id": "4", "url": None, "text": "free"},
    ]


def check_rows(everything):
    assert [row["id"] for row in everything.rows] == ["1", "2", "4"]
    assert all(SECRET not in row["text"] for row in everything.rows)
    assert everything.log.skipped == {"opt_out": 2}
    assert everything.log.quarantined == []
    assert [id for _, id in everything.ids] == ["1", "2", "4"]


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_rows_with_a_url(tmp_path, read_all, name):
    (tmp_path / "no.txt").write_text("no.com\n")
    if name == "a.jsonl":
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows(tmp_path)))
    else:
        pq.write_table(pa.Table.from_pylist(rows(tmp_path)), tmp_path / name, row_group_size=2)
    check_rows(read_all(tmp_path / name, opt_out=str(tmp_path / "no.txt"), id="id"))


def test_a_line_that_cannot_be_parsed_is_quarantined_without_its_bytes(tmp_path, read_all):
    (tmp_path / "no.txt").write_text("no.com\n")
    good = json.dumps({"url": "https://free.org", "text": "free"})
    (tmp_path / "a.jsonl").write_text(f'{good}\n{{"url": "https://no.com", "text": "{SECRET}\n')
    everything = read_all(tmp_path / "a.jsonl", opt_out=str(tmp_path / "no.txt"))
    assert [(row["reason"], row["raw"]) for row in everything.log.quarantined] == [("bad_json", b"")]


def test_html_columns_and_files_say_it_themselves(tmp_path, read_all):
    no = f'<meta name="tdm-reservation" content="1"><p>{SECRET}</p>'
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages/no.html").write_text(no)
    (tmp_path / "pages/yes.html").write_text("<p>yes</p>")
    everything = read_all(tmp_path / "pages", tdm=True)
    assert ([row["source"] for row in everything.rows], everything.log.skipped) == (
        ["yes.html"],
        {"opt_out": 1},
    )
    pq.write_table(pa.table({"html": [no, "<p>yes</p>"]}), tmp_path / "a.parquet")
    everything = read_all(tmp_path / "a.parquet", tdm=True)
    assert ([row["html"] for row in everything.rows], everything.log.skipped) == (
        [b"<p>yes</p>"],
        {"opt_out": 1},
    )


def test_a_list_without_urls_to_go_by_is_an_error(tmp_path, read_all):
    (tmp_path / "no.txt").write_text("no.com\n")
    (tmp_path / "a.jsonl").write_text('{"text": "a", "address": "https://no.com"}\n')
    with pytest.raises(ConfigError, match="goes by `url`"):
        read_all(tmp_path / "a.jsonl", opt_out=str(tmp_path / "no.txt"))
    named = read_all(tmp_path / "a.jsonl", opt_out=str(tmp_path / "no.txt"), columns={"url": "address"})
    assert named.log.skipped == {"opt_out": 1}


def test_a_list_that_is_not_there_stops_everything(tmp_path, read_all):
    (tmp_path / "a.jsonl").write_text('{"text": "a", "url": "https://no.com"}\n')
    with pytest.raises(ConfigError, match="cannot read the opt-out list"):
        read_all(tmp_path / "a.jsonl", opt_out=str(tmp_path / "gone.txt"))
    with pytest.raises(ConfigError, match="cannot read the opt-out list"):
        sha256_of_list(str(tmp_path / "gone.txt"))


def test_a_run_counts_them_and_no_file_of_it_holds_a_byte(warc, tmp_path):
    def run(*more):
        recipe = tmp_path / "r.yaml"
        recipe.write_text(
            f"input: {{path: {warc}, opt_out: {tmp_path}/no.txt, tdm: true}}\nstages:\n  - extract: {{}}\n"
            f"  - select: \"text not like '%too%'\"\noutput: {{path: {tmp_path}/out}}\n"
        )
        return subprocess.run(
            [CONSOLE, "run", str(recipe), "--json", "--allow-quarantined", "9", *more], capture_output=True
        )

    done = run()
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"]["skipped"]["opt_out"] == 5
    assert b"5 opt_out" in done.stderr or json.loads(done.stdout)["rows"]["in"] >= 2
    for file in [f for top in ("out", ".curate") for f in (tmp_path / top).rglob("*") if f.is_file()]:
        content = file.read_bytes()
        if file.suffix == ".parquet":
            content = str(pq.read_table(file).to_pylist()).encode()
        assert not re.search(SECRET.encode(), content), file
    (tmp_path / "no.txt").write_text("no.com\nfree.org\n")  # another list is another run
    assert b"another recipe" in run().stderr
