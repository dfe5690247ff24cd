import re
import struct
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import trafilatura
from hypothesis import example, given
from hypothesis import strategies as st

from curate import child
from curate.errors import ConfigError
from curate.stages.extract import Config, decode, extract, read_date

PAGE = """<!doctype html><html><head><title>How rivers bend | The Site</title>
<meta property="og:title" content="How rivers bend - The Site">
<meta property="article:published_time" content="2021-03-04T05:06:07Z">
<link rel="canonical" href=" https://example.org/rivers "></head><body>
<nav><ul><li><a href="/a">Home page</a></li><li><a href="/b">All the news</a></li></ul></nav>
<h1>The Site</h1>
<article><h1>How <i>rivers</i> bend</h1>
<p>A river that flows over a plain seldom keeps to a straight line for more than a few times its own width.</p>
<p>The water on the outer bank <a href="/fast">runs faster</a>, so it carries the soil away from there.</p>
<pre>def bend(river):
    return river</pre>
<img src="x.png" alt="a bend seen from above"></article>
<footer>Copyright of the site</footer></body></html>"""


def run(
    pages: list[bytes | None], texts: list[str | None] | None = None, config: Config = Config()
) -> pa.RecordBatch:
    columns = {
        "id": pa.array([str(i) for i in range(len(pages))], pa.string()),
        "html": pa.array(pages, pa.large_binary()),
        "text": pa.array(texts or [None] * len(pages), pa.large_string()),
    }
    return extract(pa.record_batch(columns), config)


def text_of(page: bytes | str, config: Config = Config()) -> str:
    return run([page.encode() if isinstance(page, str) else page], config=config)["text"][0].as_py()


def test_a_page_by_hand() -> None:
    (row,) = run([PAGE.encode()]).to_pylist()
    assert row.pop("text").split("\n\n") == [
        "The Site",
        "How rivers bend",
        "A river that flows over a plain seldom keeps to a straight line for more than a few times its own width.",
        "The water on the outer bank runs faster, so it carries the soil away from there.",
        "def bend(river):\n    return river",
    ]
    assert row == {
        "id": "0",
        "extract_title": "How rivers bend",
        "extract_date": "2021-03-04",
        "extract_canonical_url": "https://example.org/rivers",
    }


def test_options() -> None:
    assert "(/fast)" in text_of(PAGE, Config(links=True))
    assert "a bend seen from above" in text_of(PAGE, Config(alt_texts=True))
    everything = text_of(PAGE, Config(main_content=False))
    assert "All the news" in everything
    assert "Copyright of the site" in everything
    remark = f"<p>{'This is what one reader had to say. ' * 5}</p>"
    commented = PAGE.replace("</article>", f'</article><div class="comments">{remark}</div>')
    assert "reader" in text_of(commented, Config(comments=True))
    assert "reader" not in text_of(commented)


def test_trafilatura() -> None:
    (row,) = run([PAGE.encode()], config=Config(engine="trafilatura")).to_pylist()
    assert "The water on the outer bank runs faster" in row["text"]
    assert "Copyright" not in row["text"]
    assert row["extract_title"] == "How rivers bend"
    assert text_of("", Config(engine="trafilatura")) == ""


def test_precision_is_trafilaturas_own() -> None:
    page = f"<article><p>{'The river bends here. ' * 20}</p><div class=bottom><p>A stray remark</p></div></article>"
    for precision in (False, True):
        expected = trafilatura.extract(page, include_comments=False, favor_precision=precision)
        assert text_of(page, Config(engine="trafilatura", precision=precision)) == expected
        assert ("A stray remark" in expected) is not precision
    with pytest.raises(ConfigError, match="trafilatura only"):
        Config(precision=True)


def test_config_is_checked() -> None:
    for wrong in ({"alt_texts": True}, {"main_content": False}):
        with pytest.raises(ConfigError, match="resiliparse only"):
            Config(engine="trafilatura", **wrong)
    with pytest.raises(ConfigError, match="above 0"):
        Config(deadline_seconds=0)


def test_rows_and_columns() -> None:
    out = run([None, b"", b"<p>some words</p>", None], ["kept as it was", None, None, None])
    assert out["text"].to_pylist() == ["kept as it was", "", "some words", None]
    assert out.column("extract_title").null_count == 4
    assert "html" not in out.schema.names
    declared = extract.stage.columns_written(Config())
    assert {name: out.schema.field(name).type for name in declared} == declared
    assert run([]).schema == out.schema


def test_a_row_is_marked_before_it_is_read() -> None:
    unreadable = pa.record_batch(
        {"html": pa.array([None, None, 7, None]), "text": pa.nulls(4, pa.large_string())}
    )
    with pytest.raises(AttributeError):  # 7 is no page
        extract(unreadable, Config())
    assert struct.unpack("q", child._row) == (2,)


@pytest.mark.parametrize(
    ("head", "body", "title"),
    [
        ("<title> A \n b </title>", "<p>x", "A b"),
        ("<title>A b</title>", "<h1>Only one</h1>", "Only one"),
        ("<title>A b | Site</title>", "<h1>Site logo</h1><h1>a B</h1>", "a B"),
        ("<title>A</title><meta property='og:title' content='Og'>", "<h1>one</h1><h1>two</h1>", "Og"),
        ("<title>A</title>", "<h1> </h1>", "A"),
        ("", "<p>x", None),
    ],
)
def test_title(head: str, body: str, title: str | None) -> None:
    page = f"<html><head>{head}</head><body>{body}</body></html>"
    assert run([page.encode()])["extract_title"][0].as_py() == title


@pytest.mark.parametrize(
    ("page", "date"),
    [
        ('<meta name="DC.date" content="2020-02-03">', "2020-02-03"),
        ('<meta name="date" content="soon"><meta name="pubdate" content="20200203">', "2020-02-03"),
        ('<body><script>{"datePublished" : "Feb 8, 2022"}</script>', "2022-02-08"),
        ('<body><time>yesterday</time><time datetime="2019-01-02T03:04Z">', "2019-01-02"),
        ('<meta name="date" content="2020-01-01"><body><time datetime="2019-01-02">', "2020-01-01"),
        ('<meta property="OG:published_time" content="2020-02-03">', "2020-02-03"),
        ('<meta itemprop="datePublished" content="2020-02-03">', "2020-02-03"),
        (
            '<meta name="update" content="2020-01-01"><meta property="x:published_time" content="2020-01-01">',
            None,
        ),
        ('<script>{"datePublished": 5, "datePublished": "soon", "datePublished":"2020-02-03"}', "2020-02-03"),
        ('<meta name="viewport" content="2020-01-01"><body><p>1 May 2020', None),
    ],
)
def test_date(page: str, date: str | None) -> None:
    assert run([page.encode()])["extract_date"][0].as_py() == date


@pytest.mark.parametrize(
    ("written", "date"),
    [
        ("2021-12-31T23:59:59+09:00", "2021-12-31"),
        (" 2021/12/31", "2021-12-31"),
        ("20211231", "2021-12-31"),
        ("20211231235959", None),
        ("31st December 2021", "2021-12-31"),
        ("Fri, Dec. 31, 2021", "2021-12-31"),
        ("01/07/16", None),
        ("2021-02-30", None),
        ("0000-01-01", None),
        ("", None),
    ],
)
def test_read_date(written: str, date: str | None) -> None:
    assert read_date(written) == date


def test_a_relative_canonical_url_is_left_out() -> None:
    assert run([b'<link rel="canonical" href="/rivers">'])["extract_canonical_url"].null_count == 1


@pytest.mark.parametrize(
    ("text", "encoding", "declared"),
    [
        ("é ü ß", "utf-8", "iso-8859-1"),  # the bytes speak for themselves
        ("é ü ß", "utf-8-sig", ""),
        ("é ü ß", "utf-16", ""),
        ("é ü ß", "iso-8859-1", "iso-8859-1"),
        ("зима и лето", "cp1251", "windows-1251"),
        ("日本語のページ", "shift_jis", "Shift_JIS"),
        ("日本語のページ", "iso-2022-jp", "iso-2022-jp"),
    ],
)
def test_encodings(text: str, encoding: str, declared: str) -> None:
    page = f'<html><head><meta charset="{declared}"></head><body><p>{text}</p></body></html>'
    assert text_of(page.encode(encoding)) == text


def test_one_broken_byte_spoils_one_character() -> None:
    assert text_of('<meta charset="utf-8"><p>é ü'.encode() + b"\xff ok") == "é ü\ufffd ok"


tags = st.sampled_from(
    [b"<p>", b"</div>", b"<a href='", b"<!--", b"<table>", b"&#xD800;", b"&#0;", b"<title>", b"<h1>"]
)
charsets = st.sampled_from(
    [b"", b"\xff\xfe", b"\xfe\xff", b"<meta charset=utf-7>", b"<meta charset=hz>", b"\x1b$B", b"\0"]
)


@given(charsets, st.lists(st.one_of(tags, st.binary(max_size=8)), max_size=12).map(b"".join))
@example(b"", b"<meta charset=base64>\xe9")
@example(b"", b"<frameset>")
def test_any_bytes_make_a_text(start: bytes, rest: bytes) -> None:
    page = start + rest
    decode(page).encode()  # a lone surrogate would raise
    for config in (Config(), Config(main_content=False)):
        (row,) = run([page], config=config).to_pylist()
        assert row["text"] is not None
        assert "\0" not in "".join(filter(None, row.values()))


def f1(found: str, gold: str) -> float:
    a, b = (Counter(re.findall(r"\w+", text.lower())) for text in (found, gold))
    return 2 * (a & b).total() / max(1, a.total() + b.total())


@pytest.mark.parametrize(
    ("name", "rows", "least"),
    [("article_extraction_benchmark_dev", 111, 0.924), ("wcxb_pages_dev", 300, 0.874)],
)
def test_gold_pages(shared_data: Path, name: str, rows: int, least: float) -> None:
    table = pq.read_table(shared_data / "html" / f"{name}.parquet", columns=["html", "text"]).slice(0, rows)
    found = run(table["html"].to_pylist())["text"].to_pylist()
    scores = [f1(*pair) for pair in zip(found, table["text"].to_pylist(), strict=True)]
    assert sum(scores) / rows >= least - 0.005
