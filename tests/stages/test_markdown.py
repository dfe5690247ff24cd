import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from curate.errors import ConfigError
from curate.stages._html_tokens import read_tokens
from curate.stages.extract import Config, extract

ALL = Config(format="markdown", main_content=False)


def text_of(page: str, config: Config = ALL) -> str:
    columns = {
        "html": pa.array([page.encode()], pa.large_binary()),
        "text": pa.nulls(1, pa.large_string()),
    }
    return str(extract(pa.record_batch(columns), config)["text"][0].as_py())


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("<h1>A <b>title</b><a class=headerlink>¶</a></h1><h3>B</h3><p>c", "# A title\n\n### B\n\nc"),
        ("<h2><div>two</div><div>parts</div></h2>", "## two parts"),
        ("<p>one  two\nthree<br>four", "one two three\nfour"),
        ("<p>a <b>bold </b>word, an <em>other</em>, <i></i>", "a **bold** word, an *other*,"),
        ("<b>x <i>y <b>z</b></i></b>", "**x *y z***"),
        ("<p>call <code>f(*x)</code>, <tt>a`b</tt>", "call `f(*x)`, `` a`b ``"),
        ("<ul><li>a<ul><li>b<li>c<p>d</ul><li>e</ul>f", "- a\n  - b\n  - c\n\n    d\n- e\n\nf"),
        ("<ol start=9><li>a<li>b<li value=20>c<li>d", "9. a\n10. b\n20. c\n21. d"),
        ("<ol><li><ul><li>a</ul></ol>", "1. - a"),
        ("<ul><li>a</ul><ul><li>b</ul>", "- a\n\n- b"),
        ("<li>no list", "no list"),
        ("<blockquote>a<ul><li>b</ul></blockquote>c", "> a\n\n> - b\n\nc"),
        ("<hr><p>a &lt;b&gt; &amp;amp; # * \ue000", "a <b> &amp; # * \ue000"),
        ("<p>icon \U000f0001", "icon"),
        ("<dl><dt>term<dd>meaning</dl>", "term\n\nmeaning"),
    ],
)
def test_blocks_and_lines(html: str, expected: str) -> None:
    assert text_of(html) == expected


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("<tr><th>a<th>b<tr><td>1<td>2|3<br>4", "| a | b |\n| --- | --- |\n| 1 | 2\\|3<br>4 |"),
        ("<tr><td colspan=2>a<tr><td>b<td>c", "| a |  |\n| --- | --- |\n| b | c |"),
        ("<tr><td rowspan=2>a<td>b<tr><td>c", "| a | b |\n| --- | --- |\n|  | c |"),
        ("<caption>C</caption><tr><td>a<td>b<tr><td>c", "C\n\n| a | b |\n| --- | --- |\n| c |  |"),
        ("<tr><td>a<tr><td>b|c", "a\n\nb|c"),  # one column is layout
        ("<tr><td><ul><li>a</ul><td><p>b", "- a\n\nb"),  # so is one row
        ("<tr><td><h2>a</h2><td>b<tr><td>c<td>d", "## a\n\nb\n\nc\n\nd"),
        (
            "<tr><td>a<td><table><tr><td>b<td>c<tr><td>d<td>e</table>",
            "a\n\n| b | c |\n| --- | --- |\n| d | e |",
        ),
        ("<tr><td>a<td><ul><li>b<li>c</ul><tr><td>d<td>e", "| a | b<br>c |\n| --- | --- |\n| d | e |"),
    ],
)
def test_tables(html: str, expected: str) -> None:
    assert text_of(f"<table>{html}</table>") == expected


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("<pre>  if a:\n\n\tb\n</pre>", "```\n  if a:\n\n\tb\n```"),
        ('<pre><code class="hljs language-C++">a<b>x</b>;</code></pre>', "```c++\nax;\n```"),
        ('<div class="highlight-python3 x"><div><pre><span></span>a</pre></div></div>', "```python3\na\n```"),
        ('<div class="language-c"><p>x</p></div><pre>a</pre>', "x\n\n```\na\n```"),
        ("<pre class='lang-none'>a<br>```b```</pre>", "````\na\n```b```\n````"),
        ("<ul><li>a<pre>b\n  c</pre></ul>", "- a\n\n  ```\n  b\n    c\n  ```"),
        ("<table><tr><td class=linenos><pre>1\n2</pre><td><pre>a\n b</pre></table>", "```\na\n b\n```"),
        ("<pre> \n </pre>b", "b"),
    ],
)
def test_code(html: str, expected: str) -> None:
    assert text_of(html) == expected


KATEX = (
    '<span class="katex"><span class="katex-mathml"><math><semantics><mi>x</mi>'
    '<annotation encoding="application/x-tex">x^2</annotation></semantics></math></span>'
    '<span class="katex-html" aria-hidden="true">x2</span></span>'
)
MEDIAWIKI = (
    '<span class="mwe-math-element"><span style="display: none;"><math><semantics><mi>x</mi><annotation '
    'encoding="application/x-tex">{\\displaystyle x_{1}}</annotation></semantics></math></span>'
    '<img class="mwe-math-fallback-image-inline" alt="{\\displaystyle x_{1}}"></span>'
)
MATHJAX = '<span class="MathJax_Preview">[x]</span><span class="MathJax">x</span><script type="math/tex{}">x % y\n+ 1</script>'


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        (f"a {KATEX}, b", "a $x^2$, b"),
        (f'a <span class="katex-display">{KATEX}</span> b', "a\n\n$$x^2$$\n\nb"),
        (f"a {MEDIAWIKI} b", "a $x_{1}$ b"),
        (f"a {MATHJAX.format('')}", "a $x + 1$"),
        (f"a {MATHJAX.format('; mode=display')}", "a\n\n$$x + 1$$"),
        ("<mjx-container display=true><svg></svg><math><mi>x</mi></math></mjx-container>", "$$x$$"),
        (
            "a <img class=tex alt='\\(z\\)'> <img class=formulaDsp alt='\\[ y \\]'> <img alt=no>",
            "a $z$\n\n$$y$$",
        ),
        ("a \\(x_i\\) and \\[y\\] or $$z$$", "a \\(x_i\\) and \\[y\\] or $$z$$"),
    ],
)
def test_formulas(html: str, expected: str) -> None:
    assert text_of(f"<p>{html}</p>") == expected


@pytest.mark.parametrize(
    ("mathml", "latex"),
    [
        ("<mi>E</mi><mo>=</mo><mi>m</mi><msup><mi>c</mi><mn>2</mn></msup>", "E=mc^{2}"),
        ("<mfrac><mn>1</mn><msqrt><mi>x</mi></msqrt></mfrac>", r"\frac{1}{\sqrt{x}}"),
        ("<mroot><mi>x</mi><mn>3</mn></mroot>", r"\sqrt[3]{x}"),
        (
            "<munderover><mo>∑</mo><mrow><mi>i</mi><mo>=</mo><mn>0</mn></mrow><mi>n</mi></munderover><mi>i</mi>",
            r"\sum_{i=0}^{n}i",
        ),
        ("<msub><mi>α</mi><mi>i</mi></msub><mi>Ω</mi><mi>λ</mi><mi>ς</mi>", r"\alpha_{i}\Omega\lambda ς"),
        ("<mi>sin</mi><mo>&#x2061;</mo><mi>x</mi><mi>foo</mi>", r"\sin x\mathrm{foo}"),
        ("<mover><mi>x</mi><mo>¯</mo></mover><msup><mi>f</mi><mo>′</mo></msup>", r"\bar{x}f'"),
        ("<munder><mi>x</mi><mi>y</mi></munder>", r"\underset{y}{x}"),
        (
            "<mtable><mtr><mtd><mn>1</mn></mtd><mtd><mn>2</mn></mtd></mtr><mtr><mtd><mn>3</mn></mtd></mtr></mtable>",
            r"\begin{matrix}1 & 2 \\ 3\end{matrix}",
        ),
        ("<mfenced open='{'><mi>a</mi><mi>b</mi></mfenced>", r"\{a,b)"),
        ("<msubsup><mi>x</mi><mi>i</mi><mn>2</mn></msubsup><mtext>if x</mtext>", r"x_{i}^{2}\text{if x}"),
        ("<mnew><mi>a</mi><mo>≤</mo><mi>b</mi></mnew>", r"a\leq b"),
        ("<mrow>" * 200 + "<mi>a</mi>", "a"),
    ],
)
def test_mathml(mathml: str, latex: str) -> None:
    assert text_of(f"<p><math>{mathml}</math></p>") == f"${latex}$"


def test_options() -> None:
    page = '<p>a <a href="/x (1)">link <b>b</b></a> <a href="#y">c</a> <img alt="d"></p>'
    assert text_of(page) == "a link **b** c"
    config = Config(format="markdown", main_content=False, links=True, alt_texts=True)
    assert text_of(page, config) == "a [link **b**](/x%20(1%29) c d"
    with pytest.raises(ConfigError, match="trafilatura"):
        Config(format="markdown", engine="trafilatura")


def test_title_is_read_before_the_text() -> None:
    columns = {"html": pa.array([b"<h1>One <math><mi>x</mi></math></h1><p>y"], pa.large_binary())}
    batch = pa.record_batch({**columns, "text": pa.nulls(1, pa.large_string())})
    (row,) = extract(batch, ALL).to_pylist()
    assert row["extract_title"] == "One x"
    assert row["text"] == "# One $x$\n\ny"


@pytest.mark.parametrize(
    "page",
    [
        "<div>x " * 40_000,
        "<ul><li>x " * 20_000,
        "<b><i>x " * 20_000,
        "<pre>" + "`" * 100_000,
        "<p>" + "< " * 100_000,
        "<table><tr><td>x<td>y<tr><td>z" * 10_000,
        "<table><tr>" + "<td colspan=1000 rowspan=1000>x" * 2_000 + "<tr><td>y" * 2_000,
    ],
)
def test_hostile_pages_take_linear_time(page: str) -> None:
    # resiliparse itself is left out: it never ends on some of these, and the stage runs in a child with a deadline
    from resiliparse.parse.html import HTMLTree

    from curate.stages._markdown import write_lines

    tokens, _ = read_tokens(HTMLTree.parse(f"<body>{page}").body.html)
    before = time.process_time()
    lines = write_lines(tokens, {token.mark for token in tokens}, links=True)
    assert time.process_time() - before < 5
    assert sum(map(len, lines)) < 40 * len(page)


tags = "p div h1 h2 ul ol li table tr td th pre code b i a blockquote br math mfrac mi caption span".split()
pieces = st.one_of(
    st.sampled_from([f"<{tag}>" for tag in tags] + [f"</{tag}>" for tag in tags]),
    st.sampled_from(
        ["word", " ", "\n", "&lt;", "\xa0", '<a href="x">', "<td colspan=3 rowspan=2>", "<script>x</script>"]
    ),
)


@example("<math><mfrac>word")
@example("<math>word<mi>word</mi><mfrac><mi>word</mi><mi>word</mi><mi>word</mi></mfrac></math>")
@given(st.lists(pieces, max_size=40).map("".join))
def test_any_tags_keep_their_words(page: str) -> None:
    found = text_of(page)
    assert found.count("word") == text_of(page, Config(main_content=False)).count("word")
    assert not re.search("[\U000f0000-\U0010ffff]", found)


def f1(found: str, gold: str) -> float:
    a, b = (Counter(re.findall(r"\w+", text.lower())) for text in (found, gold))
    return 2 * (a & b).total() / max(1, a.total() + b.total())


@pytest.mark.parametrize("engine", ["resiliparse", "blocks"])
@pytest.mark.parametrize(
    ("name", "rows"), [("article_extraction_benchmark_dev", 111), ("wcxb_pages_dev", 100)]
)
def test_gold_pages_lose_little_to_the_plain_text(
    shared_data: Path, name: str, rows: int, engine: Any
) -> None:
    table = pq.read_table(shared_data / "html" / f"{name}.parquet", columns=["html", "text"]).slice(0, rows)
    scores = []
    for config in (Config(engine=engine), Config(engine=engine, format="markdown")):
        html = table["html"].combine_chunks().cast(pa.large_binary())
        batch = pa.record_batch({"html": html, "text": pa.nulls(rows, pa.large_string())})
        found = extract(batch, config)["text"].to_pylist()
        stripped = [text.replace("<br>", " ") for text in found]
        scores.append(sum(f1(*pair) for pair in zip(stripped, table["text"].to_pylist(), strict=True)) / rows)
    assert scores[1] >= scores[0] - 0.01
