"""url_dedup: the normal form of URLs by hand and against plain Python, and all its phases in memory."""

import re
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import ConfigError
from curate.stages.url_dedup import Config, check, keys, url_dedup

sys.path.insert(0, str(Path(__file__).parent))
from phases import dedup


def key(url, **options):
    found = keys(pa.array([url], pa.string()), Config(**options))[0].as_py()
    return None if found is None else found.decode()


@pytest.mark.parametrize(
    "urls",
    [
        ["http://example.com/a", "https://example.com/a", "HTTP://EXAMPLE.com:80/a/", "https://example.com.:443/a//",
         "//example.com/a", "http://www.example.com/a?", "http://example.com/a#top", " http://example.com:/a\n",
         "http://example.com/a?utm_source=x&UTM_medium=y&gclid=1&fbclid", "example.com/%61?&&"],
        ["http://example.com", "http://example.com/", "https://WWW.example.com#", "http://example.com/?#/x"],
        ["http://a.org/~me/é?q=%c3%a9%20b", "http://a.org/%7Eme/%C3%A9?q=é b"],
        ["http://a.org/x/?b=1&a=2", "http://a.org/x?b=1&utm_x=3&a=2#c"],
        ["ftp://u:P@a.org:21/x", "FTP://u:P@A.org:21/x/"],
        ["http://[::1]:80/x", "https://[::1]/x"],
    ],
)  # fmt: skip
def test_spellings_of_one_address(urls):
    assert len({key(url) for url in urls}) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("http://a.org/X", "http://a.org/x"), ("http://a.org/?a=1&b=2", "http://a.org/?b=2&a=1"),
        ("http://a.org:8080/", "http://a.org/"), ("http://a.org:443/", "http://a.org/"),
        ("http://a.org/#!/one", "http://a.org/#!/two"), ("http://a.org/a%2Fb", "http://a.org/a/b"),
        ("http://www.com/", "http://com/"), ("ftp://a.org/", "http://a.org/"), ("http://me@a.org/", "http://a.org/"),
        ("http://a.org/?q=utm_x", "http://a.org/"), ("http://a.org/?gclids=1", "http://a.org/"),
        ("http://a.org/?q=a+b", "http://a.org/?q=a%20b"), ("http://a.org/100%", "http://a.org/100"),
    ],
)  # fmt: skip
def test_addresses_that_stay_apart(one, other):
    assert key(one) != key(other)


def test_what_goes_is_a_choice():
    assert key("http://www.a.org/?ref=x&utm_a=1", strip_www=False, tracking=["REF"]) == "www.a.org?utm_a=1"
    assert key("http://a.org/?session_id=x", tracking=["sess*"]) == "a.org"
    assert [key(url) for url in ("", " \n", None, "http://")] == [None] * 4


def slow(url):
    """The normal form with regular expressions, for http alone."""
    _, authority, path, query, fragment = re.fullmatch(
        r"(https?)://([^/?#]*)([^?#]*)(?:\?([^#]*))?(?:#(.*))?", url, re.S
    ).groups()
    user, at, host = authority.rpartition("@")
    host = re.sub(r":(80)?$" if url.startswith("http:") else r":(443)?$", "", host.lower()).rstrip(".")
    host = host[4:] if host.startswith("www.") and "." in host[4:] else host

    def escaped(text):
        def one(match):
            code = int(match[1], 16) if match[1] else match[0][0]
            kept = bool(re.fullmatch(rb"[A-Za-z0-9._~-]", bytes([code]))) if match[1] else False
            return bytes([code]) if kept else b"%%%02X" % code

        return re.sub(rb'%([0-9A-Fa-f]{2})|[\x00-\x20\x7f-\xff"<>\\^`{|}]', one, text.encode()).decode()

    pairs = [
        p for p in (query or "").split("&") if p and not re.match(r"(utm_|(gclid|fbclid)(=|$))", p, re.I)
    ]
    out = (
        user + at + host + escaped(path.rstrip("/")) + ("?" if pairs else "") + "&".join(map(escaped, pairs))
    )
    return out + (escaped("#" + fragment) if (fragment or "").startswith("!") else "")


host = st.sampled_from(
    ["a.org", "A.ORG.", "www.a.org", "www.org", "u@B.de:80", "b.de:443", "b.de:8", "b.de:"]
)
rest = st.lists(
    st.sampled_from(["/", "?", "&", "#", "!", "=", "%7e", "%2f", "%", "%a", "é", "x", "A", " ", "utm_", "gclid", "|"]),
    max_size=12,
).map("".join)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(["http://", "https://"]), host, rest)
def test_the_normal_form_equals_plain_python(scheme, host, rest):
    url = scheme + host + ("" if rest[:1] in ("", "?", "#") else "/") + rest
    url = url.strip(" ")
    assert key(url) == slow(url)


def row(name, url, date=None, text="x"):
    return {"id": name, "url": url, "date": date, "text": text}


UNITS = [
    [row("a", "http://a.org/x", "2020-01-01", "long text"), row("none", None), row("b", "b.org")],
    [row("c", "https://a.org/x/", "2024-01-01"), row("blank", " "), row("d", "a.org/x#y", "2022-01-01", "y")],
]


@pytest.mark.parametrize(("keep", "winner"), [("newest", "c"), ("first", "a"), ("longest", "a")])
def test_by_hand(tmp_path, keep, winner):
    kept, dropped, _ = dedup(url_dedup, UNITS, Config(keep=keep), tmp_path)
    names = [name for name in ("a", "none", "b", "c", "blank") if name not in {"a", "c"} - {winner}]
    assert [r["id"] for r in kept] == names
    found = {r["id"]: (r["url_dedup_cluster_size"], r["url_dedup_cluster_id"]) for r in kept}
    assert found == {winner: (3, winner), "b": (1, "b"), "none": (None, None), "blank": (None, None)}
    assert {(r["id"], r["kept_id"], r["drop_reason"]) for r in dropped} == {
        (name, winner, "duplicate") for name in {"a", "c", "d"} - {winner}
    }


def test_what_cannot_be_compared_is_refused():
    text = {"url": pa.string(), "date": pa.string(), "text": pa.large_string()}
    check(Config(), text)
    with pytest.raises(ConfigError, match="`url` must be text"):
        check(Config(), text | {"url": pa.int64()})
    with pytest.raises(ConfigError, match="needs `date` as text"):
        check(Config(), text | {"date": pa.date32()})
    with pytest.raises(ConfigError, match="`tracking` has an entry"):
        Config(tracking=["utm_*", "*"])
