"""What of a page's structure survives extraction: `format: markdown` beside trafilatura's Markdown and resiliparse's text.

`python tests/bench/bench_markdown.py [FOLDER OF HTML ...]`; without folders the shared pages. Gold is counted in the page's
own tree, inside its one `<main>`, `role=main` or `<article>` (pages without one are left out), by lxml:
headings    lines `#... words`, level and words alike
list items  lines that begin with a bullet or number and go on with the item's first two words
cells       of tables with two rows and columns and no table, code or heading inside: a cell of a pipe table
code lines  of `<pre>`, longer than 3 characters: the same line, indentation included, inside a list less the list's own
formulas    TeX of annotations, MathJax scripts, `math` elements and formula images, blanks aside
"""

import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lxml.etree
import lxml.html
import pyarrow as pa
import pyarrow.parquet as pq
import trafilatura
from resiliparse.extract.html2text import extract_plain_text

from curate.stages.extract import Config, decode, extract

DATA = Path(__file__).parents[3] / "shared" / "data" / "html"
MAX_PAGES = 400
KINDS = ("headings", "list items", "cells", "code lines", "formulas")
MAIN = "//main | //*[@role='main'] | //article"
LAYOUT = ".//table | .//pre | .//h1 | .//h2 | .//h3 | .//h4 | .//h5 | .//h6"
TEX = ".//annotation[@encoding='application/x-tex'] | .//script[starts-with(@type, 'math/tex')]"
WORD = re.compile(r"\w+")


def words(text: str) -> str:
    return " ".join(WORD.findall(text.lower()))


def gold(page: str) -> dict[str, Counter[str]] | None:
    """Structure inside the page's main element; None where there is none or more than one."""
    tree = lxml.html.document_fromstring(
        page.encode(), parser=lxml.html.HTMLParser(encoding="utf-8", huge_tree=True)
    )
    mains = tree.xpath(MAIN)
    if not mains or any(mains[0] not in other.iterancestors() for other in mains[1:]):
        return None
    main = mains[0]
    for unseen in main.xpath(
        ".//nav | .//style | .//*[contains(@class, 'headerlink')] | .//td[@class='linenos']"
    ):
        unseen.drop_tree()
    found: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    for heading in main.xpath(".//h1 | .//h2 | .//h3 | .//h4 | .//h5 | .//h6"):
        if text := words(heading.text_content()):
            found["headings"][f"{heading.tag[1]} {text}"] += 1
    for item in main.xpath(".//li"):
        depth = sum(1 for _ in item.iterancestors("li"))
        own = [text for text in item.xpath(".//text()") if nested_in(text.getparent()) <= depth + 1]
        if text := words("".join(own)):
            found["list items"][" ".join(text.split()[:2])] += 1
    for table in main.xpath(".//table"):
        rows = [
            [words(cell.text_content()) for cell in row.xpath("./td | ./th")] for row in table.xpath(".//tr")
        ]
        if len(rows) > 1 and max(map(len, rows)) > 1 and not table.xpath(LAYOUT):
            found["cells"].update(cell for row in rows for cell in row if cell)
    for code in main.xpath(".//pre"):
        lines = "".join(code.itertext()).split("\n")
        found["code lines"].update(line.rstrip() for line in lines if len(line.strip()) > 3)
    for formula in main.xpath(TEX):
        found["formulas"][squeezed("".join(formula.itertext()))] += 1
    marked = [e.text_content() for e in main.xpath(".//*[contains(concat(' ', @class, ' '), ' math ')]")]
    found["formulas"].update(
        squeezed(text.strip()[2:-2]) for text in marked if text.strip()[:2] in ("\\(", "\\[")
    )
    images = main.xpath(
        ".//img[contains(concat(' ', @class, ' '), ' tex ') or contains(@class, 'formula')]/@alt"
    )
    found["formulas"].update(squeezed(alt.strip("$\\[]() ")) for alt in images)
    return found


def nested_in(element: Any) -> int:
    """List items around an element, itself included."""
    return sum(1 for _ in element.iterancestors("li")) + (element.tag == "li")


def squeezed(tex: str) -> str:
    tex = re.sub(r"\s+", "", re.sub(r"(?<!\\)%[^\n]*\n", "", tex))
    return tex.removeprefix("{\\displaystyle").removesuffix("}") if tex.startswith("{\\displaystyle") else tex


def structure(text: str) -> dict[str, Counter[str]]:
    """The same of an extracted text."""
    found: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    indent, fenced = "", False
    for line in text.split("\n"):
        if match := re.match(r"([\s>]*)(?:[-*•] |\d+\. )?```", line):
            fenced, indent = not fenced, match[1]
            continue
        found["code lines"][line.removeprefix(indent).rstrip() if fenced else line.rstrip()] += 1
        if fenced:
            continue
        if match := re.match(r"[\s>]*(?:[-*•] |\d+\. )?(#{1,6}) (.*)", line):
            found["headings"][f"{len(match[1])} {words(match[2])}"] += 1
        if match := re.match(r"[\s>]*(?:[-*•] |\d+\. )+(.*)", line):
            found["list items"][" ".join(words(match[1]).split()[:2])] += 1
        if line.lstrip().startswith("|"):
            cells = re.split(r"(?<!\\)\|", line)
            found["cells"].update(words(cell.replace("<br>", " ")) for cell in cells)
    return found


def survived(want: dict[str, Counter[str]], text: str) -> dict[str, int]:
    have = structure(text)
    kept = {kind: (want[kind] & have[kind]).total() for kind in KINDS}
    flat = re.sub(r"\s+", "", text)
    kept["formulas"] = sum(min(count, flat.count(tex)) for tex, count in want["formulas"].items() if tex)
    return kept


def ours(config: Config) -> Callable[[str], str]:
    def read(page: str) -> str:
        html = pa.array([page.encode()], pa.large_binary())
        batch = pa.record_batch({"html": html, "text": pa.nulls(1, pa.large_string())})
        return str(extract(batch, config)["text"][0].as_py())

    return read


READERS: dict[str, Callable[[str], str]] = {
    "curate, markdown": ours(Config(format="markdown")),
    "curate, markdown, blocks": ours(Config(format="markdown", engine="blocks")),
    "curate, markdown, all content": ours(Config(format="markdown", main_content=False)),
    f"trafilatura {trafilatura.__version__}": lambda page: trafilatura.extract(page, include_formatting=True) or "",
    "resiliparse": lambda page: extract_plain_text(page, preserve_formatting=True, main_content=True),
}  # fmt: skip


def shared_pages() -> Iterator[str]:
    for file in (
        "wcxb_pages_dev.parquet",
        "trafilatura_eval_dev.parquet",
        "debian_handbook_26_locales_dev.parquet",
    ):
        yield from map(decode, pq.read_table(DATA / file, columns=["html"])["html"].to_pylist()[:MAX_PAGES])


def folder_pages(folder: Path) -> Iterator[str]:
    files = sorted(folder.rglob("*.html"))
    yield from (decode(file.read_bytes()) for file in files[:: max(1, len(files) // MAX_PAGES)])


def bench(name: str, pages: Iterator[str]) -> None:
    chosen: list[tuple[str, dict[str, Any]]] = []
    for page in pages:
        try:
            want = gold(page)
        except lxml.etree.LxmlError:  # an empty page
            continue
        if want:
            chosen.append((page, want))
    total = {kind: sum(want[kind].total() for _, want in chosen) for kind in KINDS}
    print(f"\n{name}: {len(chosen)} pages with a main element")
    print(f"{'':30}" + "".join(f"{kind:>12}" for kind in KINDS) + f"{'pages/s':>10}")
    print(f"{'in the pages':30}" + "".join(f"{total[kind]:12,}" for kind in KINDS))
    for reader, read in READERS.items():
        read("<p>once, to load")
        before = time.process_time()
        texts = [read(page) for page, _ in chosen]
        speed = len(chosen) / max(time.process_time() - before, 1e-9)
        kept = [survived(want, text) for (_, want), text in zip(chosen, texts, strict=True)]
        shares = (sum(one[kind] for one in kept) / total[kind] if total[kind] else 0.0 for kind in KINDS)
        print(f"{reader:30}" + "".join(f"{share:12.3f}" for share in shares) + f"{speed:10.0f}")


def main() -> None:
    if not sys.argv[1:]:
        bench("shared pages", shared_pages())
    for folder in sys.argv[1:]:
        bench(folder, folder_pages(Path(folder)))


if __name__ == "__main__":
    main()
