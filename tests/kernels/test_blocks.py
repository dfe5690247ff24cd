"""Blocks of a page by hand, over any bytes, and the trees against plain Python."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from curate.kernels.block_features import features, judge
from curate.kernels.blocks import MOST_BLOCKS, walk
from curate.kernels.tags import HINTS, TAGS, WORDS


def blocks_of(page: str) -> list[tuple[str, str]]:
    """(tag of the block's element, text)."""
    nodes, blocks, text = walk(np.frombuffer(page.encode(), np.uint8))
    return [(TAGS[nodes[b[0], 0]], text[b[1] : b[2]].tobytes().decode()) for b in blocks]


@pytest.mark.parametrize(
    ("page", "blocks"),
    [
        ("<p>One <b>two</b>  three<p>four", [("p", "One two three"), ("p", "four")]),
        ("<ul><li>a<li>b<ul><li>c</ul></ul>d", [("li", "a"), ("li", "b"), ("li", "c"), ("body", "d")]),
        ("<tr><td>1<td>2<tr><th>3", [("td", "1"), ("td", "2"), ("th", "3")]),
        ("<dl><dt>word<dd>what it means</dl>", [("dt", "word"), ("dd", "what it means")]),
        ("<p>a<br>b<br><br>c", [("p", "a\nb\n"), ("p", "c")]),
        ("<pre>if a:\n    b</pre><p>c\n\n  d", [("pre", "if a:\n    b"), ("p", "c d")]),
        ("a&nbsp;b\u00a0c\u200bd", [("body", "a b c d")]),
        ("<script>if (a</p) '<p>no'</script><!-- <p>no --><style><p></style><P>yes", [("p", "yes")]),
        ("<head><title>no</title></head><body>yes", [("body", "yes")]),
        ("<head><title>no</title><p>the head never ends", [("p", "the head never ends")]),
        ('<p title="a > b">text', [("p", "text")]),
        ("<svg/><p>a</p><svg><text>no</text></svg>b", [("p", "a"), ("body", "b")]),
        ("1 < 2 </nothing> <", [("body", "1 < 2 <")]),
        ("", []),
        ("<p><div> </div>", []),
    ],
)
def test_blocks_by_hand(page: str, blocks: list[tuple[str, str]]) -> None:
    assert blocks_of(page) == blocks


def test_what_a_block_counts() -> None:
    page = '<div id=MAIN class="side_bar nav"><img><p hidden>Go <a href=x>the 2 ways</a>, Ann. 2<br>End'
    nodes, blocks, text = walk(np.frombuffer(page.encode(), np.uint8))
    (block,) = blocks
    assert text.tobytes() == b"Go the 2 ways, Ann. 2\nEnd"
    assert block[3:].tolist() == [8, 1, 7, 2, 2, 3, 2, 1, 1]  # link bytes, links, words, lower, digits, ...
    assert [WORDS[i].split()[0] for i in range(len(WORDS)) if nodes[1, 2] >> i & 1] == ["nav", "main"]
    assert nodes[block[0]][[0, 1, 4, 5]].tolist() == [TAGS.index("p"), 1, 1, 2]


def test_what_stands_around_a_block() -> None:
    page = "<main><article class=post><h1>Comments</h1><p>The rivers bend.</article></main><p>Read more: The sea. See also"
    data = np.frombuffer((page + HINTS[9]).encode(), np.uint8)
    rows = features(data, *walk(data))
    assert rows[:, 1].tolist() == [1, 3, 7]  # words
    assert np.expm1(rows[:, 0]).round().tolist() == [8, 16, 44]
    cues = rows[:, 23:37]
    assert cues.sum(1).tolist() == [1, 0, 1]
    since = rows[:, 37:51]
    assert since[:, 0].tolist() == [200, 1, 2]  # blocks since a short one spoke of comments
    distance = rows[:, 51:85]
    assert distance[:, 20:22].tolist() == [[1, 2], [1, 2], [30, 30]]  # of <article>, of <main>
    assert rows[:, -3].tolist() == [1, 1, 1]  # articles on the page
    assert rows[:, -17:-3].sum(1).tolist() == [1, 1, 1]  # one hint
    assert np.isfinite(rows).all()


def test_trees_against_plain_python() -> None:
    rows = np.random.default_rng(3).random((40, 3)).astype(np.float32)
    # the first tree: x0 <= .5 ? (x2 <= .3 ? 1 : -1) : .25; the second: .5
    starts, feature = np.array([0, 2, 2], np.int32), np.array([0, 2], np.int32)
    limit, keep = np.array([0.5, 0.3], np.float32), np.array([0b100, 0b110], np.uint32)
    leaves = np.zeros((2, 32), np.float32)
    leaves[0, :3], leaves[1, 0] = [1, -1, 0.25], 0.5
    total = [((1 if r[2] <= limit[1] else -1) if r[0] <= 0.5 else 0.25) + 0.5 for r in rows]
    np.testing.assert_allclose(
        judge(rows, starts, feature, limit, keep, leaves), 1 / (1 + np.exp(-np.array(total)))
    )


PIECES = st.one_of(
    st.binary(max_size=6),
    st.sampled_from([
        b"<", b">", b"</", b"/>", b"<!--", b"-->", b"<p>", b"</p>", b"<li>", b"<ul>", b"<table>", b"<td>", b"<tr>",
        b"<br>", b"<pre>", b"</pre>", b"<svg/>", b"<svg", b"<script>", b"</script>", b"<a href=x>", b"</a>", b"&nbsp",
        b"&nbsp;", b"\xc2\xa0", b"\xe2\x80\x8b", b"\xe2\x80", b"\0", b"<head>", b"<body>", b' class="', b" style='display:",
        b"none", b"comment", b"=", b'"', b"word ", b"<span>" * 600, b"<div class=nav>",
    ]),
)  # fmt: skip
PAGES = st.lists(PIECES, max_size=40).map(b"".join)


def check(page: bytes) -> None:
    """What must hold for the blocks of any page."""
    data = np.frombuffer(page, np.uint8)
    nodes, blocks, text = walk(data)
    assert len(text) <= len(data)
    assert (nodes[1:, 1] < np.arange(1, len(nodes))).all()  # a parent comes before
    edges = blocks[:, 1:3].ravel()
    assert (np.diff(edges) >= 0).all()
    assert (blocks[:, 1] < blocks[:, 2]).all()
    assert not len(blocks) or edges[-1] <= len(text)
    rows = features(data, nodes, blocks, text)
    assert len(rows) == len(blocks)
    assert np.isfinite(rows).all()


@settings(deadline=None)
@given(PAGES)
@example(b"<")
@example(b"<a")
@example(b"&nbsp")
def test_any_bytes(page: bytes) -> None:
    check(page)


@pytest.mark.slow
def test_never_out_of_bounds(tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from hypothesis import given, settings\nimport test_blocks\n"
        "settings(deadline=None, max_examples=500, database=None)(given(test_blocks.PAGES)(test_blocks.check))()\n"
    )
    settings = {"NUMBA_BOUNDSCHECK": "1", "CURATE_CACHE": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | settings)


@pytest.mark.parametrize(
    "page",
    [
        b"<div>" * 40_000 + b"x" + b"</div>" * 40_000,
        b"<" * 10_000_000,
        b"<p>x" * 500_000,
        b"<span>" * 500 + b"<div>x" * 100_000,
        b"<!--" * 500_000,
        b"<script>" * 500_000,
        b'<a b="' * 500_000,
    ],
    ids=["nested", "signs", "blocks", "spans", "comments", "scripts", "quotes"],
)
def test_a_hostile_page_ends_soon(page: bytes) -> None:
    data = np.frombuffer(page, np.uint8)
    nodes, blocks, text = walk(data)
    assert len(blocks) <= MOST_BLOCKS
    assert np.isfinite(features(data, nodes, blocks, text)).all()
