"""LaTeX of presentation MathML that brings none of its own.

Covers what pages use: fractions, roots, scripts, limits, accents, fences, tables, functions, Greek and common operators.
An element it does not know gives its children, a character it does not know stays itself.
"""

import unicodedata
from collections.abc import Callable
from typing import Any

_MAX_DEPTH = 60  # below it a formula is its text

_FUNCTIONS = frozenset(
    """arccos arcsin arctan arg cos cosh cot coth csc deg det dim exp gcd hom inf ker lg lim liminf limsup ln log max
    min sec sin sinh sup tan tanh Pr""".split()
)
_OPERATORS = dict(
    pair.split("=", 1)
    for pair in r"""
    ∑=\sum ∏=\prod ∐=\coprod ∫=\int ∬=\iint ∭=\iiint ∮=\oint ⋃=\bigcup ⋂=\bigcap ⋁=\bigvee ⋀=\bigwedge ⨁=\bigoplus
    ⨂=\bigotimes ≤=\leq ≥=\geq ≠=\neq ≈=\approx ≃=\simeq ≅=\cong ≡=\equiv ∼=\sim ∝=\propto ≪=\ll ≫=\gg ±=\pm ∓=\mp
    ×=\times ÷=\div ⋅=\cdot ·=\cdot ∘=\circ ∗=* −=- ⊕=\oplus ⊗=\otimes ∪=\cup ∩=\cap ∖=\setminus ∈=\in ∉=\notin
    ∋=\ni ⊂=\subset ⊆=\subseteq ⊃=\supset ⊇=\supseteq ∅=\emptyset ∀=\forall ∃=\exists ¬=\neg ∧=\wedge ∨=\vee
    →=\to ←=\leftarrow ↔=\leftrightarrow ⇒=\Rightarrow ⇐=\Leftarrow ⇔=\Leftrightarrow ↦=\mapsto ⟶=\longrightarrow
    ∞=\infty ∂=\partial ∇=\nabla ∆=\Delta …=\ldots ⋯=\cdots ⋮=\vdots ⋱=\ddots ⟨=\langle ⟩=\rangle ⌊=\lfloor
    ⌋=\rfloor ⌈=\lceil ⌉=\rceil ∥=\| ‖=\| ∣=\mid ⊥=\perp ∠=\angle √=\surd ℓ=\ell ℏ=\hbar ℜ=\Re ℑ=\Im ℵ=\aleph
    ℝ=\mathbb{R} ℂ=\mathbb{C} ℕ=\mathbb{N} ℤ=\mathbb{Z} ℚ=\mathbb{Q} ′=' ″='' ⊢=\vdash ⊨=\models ⊤=\top ∎=\blacksquare
    {=\{ }=\} %=\% #=\# &=\& _=\_ $=\$ \=\backslash ϕ=\phi ϵ=\epsilon
    """.split()
) | {character: "" for character in "\u2061\u2062\u2063\u2064\u200b"}  # invisible operators
_LIMITS = frozenset(
    r"\sum \prod \coprod \int \iint \iiint \oint \bigcup \bigcap \bigvee \bigwedge \bigoplus \bigotimes \lim \liminf "
    r"\limsup \max \min \sup \inf \det \gcd \Pr".split()
)
_OVER = {
    "^": "hat", "ˆ": "hat", "̂": "hat", "~": "tilde", "˜": "tilde", "¯": "bar", "‾": "overline", "―": "overline",
    "_": "overline", "→": "vec", "⃗": "vec", "˙": "dot", ".": "dot", "¨": "ddot", "⏞": "overbrace", "ˇ": "check",
}  # fmt: skip
_PARTS = {  # an element with more or fewer children is a row
    "mfrac": 2, "mroot": 2, "msub": 2, "msup": 2, "msubsup": 3, "munder": 2, "mover": 2, "munderover": 3,
}  # fmt: skip
_UNDER = {"_": "underline", "̲": "underline", "⏟": "underbrace", "‾": "underline"}


def latex(math: Any) -> str:
    """LaTeX of a `<math>` element, without delimiters."""
    return _node(math, 0)


def _node(node: Any, depth: int) -> str:
    if depth > _MAX_DEPTH:
        return " ".join((node.text or "").split())
    tag = _tag(node)
    made = _MAKERS.get(tag)
    if made and _PARTS.get(tag) in (None, len(_children(node))):
        return made(node, depth + 1)
    return _row(node, depth + 1)


def _tag(node: Any) -> str:
    return str(node.tag).rpartition(":")[2].lower()


def _children(node: Any) -> list[Any]:
    found, child = [], node.first_child
    while child is not None:
        if child.tag and child.tag[0] not in "#!":
            found.append(child)
        child = child.next_sibling
    return found


def _row(node: Any, depth: int) -> str:
    pieces, child = [], node.first_child
    while child is not None:
        if child.tag == "#text":  # stands in a row where the page is malformed, too
            pieces.append(_characters(_text(child)))
        elif child.tag and child.tag[0] not in "#!":
            pieces.append(_node(child, depth))
        child = child.next_sibling
    return joined(pieces)


def joined(pieces: list[str]) -> str:
    """Pieces of LaTeX side by side; a command and the letter after it stay two."""
    out = ""
    for piece in pieces:
        command = out.rpartition("\\")[2] if "\\" in out[-20:] else ""
        out += " " * bool(command.isalpha() and piece[:1].isalpha()) + piece
    return out


def _text(node: Any) -> str:
    return " ".join((node.text or "").split())


def _characters(text: str) -> str:
    return joined([_OPERATORS.get(character, _greek(character)) for character in text])


def _greek(character: str) -> str:
    if not "\u0391" <= character <= "\u03c9":
        return character
    *_, size, _, name = ("", "", *unicodedata.name(character, "").split()[-3:])
    if name in ("FINAL", "OMICRON", "SIGMA") and character in "ςοΟ":
        return character
    name = {"LAMDA": "LAMBDA"}.get(name, name)
    if size == "SMALL":
        return f"\\{name.lower()}"
    upright = ("GAMMA", "DELTA", "THETA", "LAMBDA", "XI", "PI", "SIGMA", "UPSILON", "PHI", "PSI", "OMEGA")
    return f"\\{name.capitalize()}" if name in upright else character


def _identifier(node: Any, depth: int) -> str:
    text = _text(node)
    if text in _FUNCTIONS:
        return f"\\{text}"
    return f"\\mathrm{{{text}}}" if len(text) > 1 and text.isascii() and text.isalpha() else _characters(text)


def _operator(node: Any, depth: int) -> str:
    text = _text(node)
    if text in _FUNCTIONS:
        return f"\\{text}"
    if len(text) > 1 and text.isalpha():
        return f"\\operatorname{{{text}}}"
    return _characters(text)


def _words(node: Any, depth: int) -> str:
    text = (node.text or "").replace("\n", " ")
    return f"\\text{{{text}}}" if text.strip() else " "


def _parts(node: Any, depth: int, count: int) -> list[str]:
    parts = [_node(child, depth) for child in _children(node)]
    return (parts + [""] * count)[:count]


def _fraction(node: Any, depth: int) -> str:
    above, below = _parts(node, depth, 2)
    if (node.getattr("linethickness") or "") in ("0", "0px", "0pt"):
        return f"\\binom{{{above}}}{{{below}}}"
    return f"\\frac{{{above}}}{{{below}}}"


def _root(node: Any, depth: int) -> str:
    base, index = _parts(node, depth, 2)
    return f"\\sqrt[{index}]{{{base}}}"


def _base(written: str) -> str:
    # what a script can hang on: one sign or one command; else braces
    one = len(written) == 1 or (written[:1] == "\\" and written[1:].isalpha()) or not written
    return (written or "{}") if one else f"{{{written}}}"


def _scripts(below: bool, above: bool) -> Callable[[Any, int], str]:
    def write(node: Any, depth: int) -> str:
        base, *scripts = _parts(node, depth, 1 + below + above)
        low = f"_{{{scripts[0]}}}" if below and scripts[0] else ""
        high = scripts[-1] if above else ""
        if high.strip("'") == "":  # primes stand as they are
            return _base(base) + low + high
        return f"{_base(base)}{low}^{{{high}}}"

    return write


def _stacked(below: bool, above: bool) -> Callable[[Any, int], str]:
    scripts = _scripts(below, above)

    def write(node: Any, depth: int) -> str:
        children = _children(node)
        base, *around = _parts(node, depth, 1 + below + above)
        if base in _LIMITS:
            return scripts(node, depth)
        under, over = (around[0] if below else ""), (around[-1] if above else "")
        marks = [_text(child) for child in children[1:]]
        if under:
            accent = _UNDER.get(marks[0])
            base = f"\\{accent}{{{base}}}" if accent else f"\\underset{{{under}}}{{{base}}}"
        if over:
            accent = _OVER.get(marks[-1])
            base = f"\\{accent}{{{base}}}" if accent else f"\\overset{{{over}}}{{{base}}}"
        return base

    return write


def _table(node: Any, depth: int) -> str:
    rows = [row for row in _children(node) if _tag(row) in ("mtr", "mlabeledtr")]
    lines = " \\\\ ".join(" & ".join(_node(cell, depth + 1) for cell in _children(row)) for row in rows)
    return f"\\begin{{matrix}}{lines}\\end{{matrix}}"


def _fenced(node: Any, depth: int) -> str:
    opening, closing = (node.getattr("open") or "("), (node.getattr("close") or ")")
    separators = node.getattr("separators") or ","
    return (
        _characters(opening)
        + separators[:1].join(_parts(node, depth, len(_children(node))))
        + _characters(closing)
    )


def _first(node: Any, depth: int) -> str:
    return next((_node(child, depth) for child in _children(node)), _text(node))


_MAKERS: dict[str, Callable[[Any, int], str]] = {
    "mi": _identifier, "mn": lambda node, depth: _text(node), "mo": _operator, "mtext": _words, "ms": _words,
    "mspace": lambda node, depth: " ", "mfrac": _fraction, "mroot": _root, "mtable": _table, "mfenced": _fenced,
    "msqrt": lambda node, depth: f"\\sqrt{{{_row(node, depth)}}}",
    "msub": _scripts(True, False), "msup": _scripts(False, True), "msubsup": _scripts(True, True),
    "munder": _stacked(True, False), "mover": _stacked(False, True), "munderover": _stacked(True, True),
    "semantics": _first, "annotation": lambda node, depth: "", "annotation-xml": lambda node, depth: "",
    "mphantom": lambda node, depth: "", "none": lambda node, depth: "",
}  # fmt: skip
