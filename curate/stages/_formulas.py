r"""Formulas of a page as LaTeX text: `$...$` in a line, `$$...$$` on a line of its own.

KaTeX, MathJax, MediaWiki and bare MathML say a formula twice or more (drawn, for screen readers, as its source); it is
taken once: the TeX annotation, else the MathML, else the image's alternative text. `\(...\)`, `\[...\]` and `$$` in the
text stay as they are.
"""

import re
from typing import Any

from curate.stages._mathml import latex

_CONTAINERS = {  # what must be in the page's source for the selector to be worth asking
    "katex": ".katex",
    "mwe-math": ".mwe-math-element",
    "mjx-container": "mjx-container",
    "<math": "math",
    "math/tex": 'script[type^="math/tex"]',
    "alt=": (
        "img.tex, img.latex, img.math, img.formulaInl, img.formulaDsp, img.mwe-math-fallback-image-inline, "
        "img.mwe-math-fallback-image-display"
    ),
}
_DRAWN = ".MathJax_Preview, .MathJax, .MathJax_Display, .MathJax_SVG, .MathJax_SVG_Display, .MathJax_CHTML"
_DELIMITED = re.compile(r"\\\[(.*)\\\]|\\\((.*)\\\)|\$\$(.*)\$\$|\$(.*)\$", re.S)
_COMMENT = re.compile(r"(?<!\\)%[^\n]*\n")


def write_formulas(tree: Any, html: str) -> None:
    """Replace every formula of the tree by its LaTeX."""
    lower = html.lower()
    if "math/tex" in lower:
        for drawn in tree.document.query_selector_all(_DRAWN).values():
            if drawn.parent is not None:
                drawn.parent.remove_child(drawn)
    for sign, selector in _CONTAINERS.items():
        if sign in lower:
            for element in tree.document.query_selector_all(selector).values():
                _write_formula(tree, element)


def _write_formula(tree: Any, element: Any) -> None:
    source = _source(element)
    if not source or element.parent is None:
        return
    display = _is_display(element)
    new = tree.create_element(
        "div" if display else "span"
    )  # an element, so that its neighbours stay as they are
    new.append_child(tree.create_text_node(f"$${source}$$" if display else f"${source}$"))
    element.parent.replace_child(new, element)


def _source(element: Any) -> str:
    # LaTeX of a formula, without delimiters, on one line
    if element.tag == "script":
        found = element.text or ""
    elif element.tag == "img":
        found = _undelimited(element.getattr("alt") or "")
    elif note := element.query_selector('annotation[encoding="application/x-tex"]'):
        found = note.text or ""
    elif math := (element if element.tag == "math" else element.query_selector("math")):
        found = latex(math)
    elif image := element.query_selector("img[alt]"):
        found = _undelimited(image.getattr("alt") or "")
    else:
        return ""
    found = " ".join(_COMMENT.sub("\n", found).split())
    if found.startswith("{\\displaystyle ") and found.endswith("}"):  # MediaWiki puts it around everything
        found = found[len("{\\displaystyle ") : -1].strip()
    return found


def _undelimited(written: str) -> str:
    match = _DELIMITED.fullmatch(written.strip())
    return next(filter(None, match.groups()), "") if match else written


def _is_display(element: Any) -> bool:
    classes = " ".join(
        node.getattr("class") or "" for node in (element, element.parent) if getattr(node, "getattr", None)
    )
    if element.tag == "script":
        return "mode=display" in (element.getattr("type") or "").replace(" ", "")
    if element.tag in ("mjx-container", "math"):
        return (element.getattr("display") or "") in ("true", "block")
    if "katex" in classes:
        return "katex-display" in classes
    image = element.query_selector("math[display=block], .mwe-math-fallback-image-display")
    return image is not None or "display" in classes or "formulaDsp" in classes
