"""The trees of `extract: {engine: blocks}`: a page by hand, any bytes, gold pages."""

import hashlib
import re
import statistics
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from curate.errors import ConfigError
from curate.stages import _blocks
from curate.stages.extract import Config, decode, extract

BLOCKS = Config(engine="blocks")
SENTENCES = [
    "A river that flows over a plain seldom keeps to a straight line for more than a few times its own width.",
    "The water on the outer bank runs faster, so it carries the soil away from there, grain by grain.",
    "On the inner bank it slows down, and what it carried from the last bend sinks & stays.",
]
PAGE = """<!doctype html><html><head><title>How rivers bend | The Site</title></head><body>
<nav class="menu"><ul><li><a href="/a">Home page</a></li><li><a href="/b">All the news</a></li></ul></nav>
<div class="cookie-consent"><p>We use cookies to give you the best experience on our site.</p></div>
<article class="post"><h1>How rivers bend</h1>
<p>A river that flows over a plain seldom keeps to a straight line for more than a few times its own width.</p>
<p>The water on the outer bank <a href="/fast">runs faster</a>, so it carries the soil away from there, grain by grain.</p>
<p>On the inner bank it slows down, and what it carried from the last bend sinks &amp; stays.</p></article>
<div id="comments" class="comments"><h3>2 Comments</h3>
<div class="comment"><p class="comment-author">Ann</p><p>Nice read, thanks!</p><a href="#r">Reply</a></div></div>
<footer class="footer"><p>Copyright 2021 The Site. All rights reserved.</p></footer></body></html>"""


def run(pages: list[bytes]) -> pa.RecordBatch:
    columns = {
        "html": pa.array(pages, pa.large_binary()),
        "text": pa.nulls(len(pages), pa.large_string()),
    }
    return extract(pa.record_batch(columns), BLOCKS)


def test_the_menu_goes_and_the_text_stays() -> None:
    (row,) = run([PAGE.encode()]).to_pylist()
    lines = row["text"].split("\n\n")
    assert lines[-3:] == SENTENCES
    assert set(lines[:-3]) <= {"How rivers bend"}
    assert row["extract_title"] == "How rivers bend"


def test_a_long_block_is_written_once() -> None:
    twice = PAGE.replace("</article>", f"<p>{SENTENCES[0]}</p></article>")
    assert run([twice.encode()])["text"][0].as_py().count(SENTENCES[0]) == 1


@pytest.mark.parametrize(
    ("chance", "kept"),
    [
        ([0.9, 0.1, 0.9, 0.8], [0, 2, 3]),  # best F1 .91, so .64 is asked for
        ([0.4, 0.4, 0.05, 0.1], [0, 1]),  # an unsure page: best F1 .54, so .38
    ],
)
def test_what_is_kept(chance: list[float], kept: list[int]) -> None:
    assert _blocks.choose(np.array(chance), ["a" * 10, "b" * 10, "c" * 10, "d" * 10]) == kept


@pytest.mark.parametrize(
    "wrong", [{"links": True}, {"alt_texts": True}, {"comments": True}, {"main_content": False}]
)
def test_what_blocks_cannot_do(wrong: dict[str, bool]) -> None:
    with pytest.raises(ConfigError, match="do not work with blocks"):
        Config(engine="blocks", **wrong)


def test_pages_without_text_or_encoding() -> None:
    pages = [
        b"",
        b"\0",
        b"<p>",
        PAGE.replace("river", "flüßchen").replace("<head>", "<head><meta charset=latin1>").encode("latin-1"),
        PAGE.encode("utf-16"),
    ]
    texts = run(pages)["text"].to_pylist()
    assert texts[:3] == ["", "", ""]
    assert "flüßchen that flows over a plain" in texts[3]
    assert SENTENCES[0] in texts[4]


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=8), st.sampled_from([b"<p>", b"</p>", b"<div class=nav>", b"\0", b"&#0;"])
        )
    )
)
@example([b"<p>\xff\xfe\0"])
def test_any_bytes(pieces: list[bytes]) -> None:
    page = b"".join(pieces)
    out = run([page, PAGE.encode(), page])["text"].to_pylist()
    assert out[0] == out[2] == run([page])["text"][0].as_py()
    assert "\0" not in out[0]
    assert out[1].endswith(SENTENCES[2])


def test_the_table_is_the_one_this_version_names() -> None:
    """Raise the version of `extract` with a new table (scripts/train_extract_blocks.py), then write both here."""
    table = Path(_blocks.__file__).with_name("blocks.npz").read_bytes()
    assert (extract.stage.version, hashlib.sha256(table).hexdigest()[:16]) == (2, "e3c630e29c12ab0d")


def test_gold_pages(shared_data: Path) -> None:
    """The trees saw these pages: this guards the way from bytes to text, not what they learned."""
    file = shared_data / "html" / "article_extraction_benchmark_dev.parquet"
    rows = pq.read_table(file, columns=["html", "text"]).to_pylist()
    scores = []
    for row in rows:
        found, gold = (
            Counter(re.findall(r"\w+", text.lower()))
            for text in (_blocks.main_text(decode(row["html"])), row["text"])
        )
        scores.append(2 * (found & gold).total() / (found.total() + gold.total()))
    assert statistics.mean(scores) > 0.95
