"""Tags and texts of a page, in order, each text with a mark that comes out of any extractor with it.

The page is a tree written out again: every element closed in its place, attributes in double quotes, only four entities.
A walk over the tree itself takes ten times as long.
"""

import re
from typing import NamedTuple

# a mark is one character of the private plane 15, after one of plane 16 in the largest pages; a page's own are taken out
_LOW, _LOW_VALUES, _HIGH = 0xF0000, 0xFFFE, 0x100000
MARK = re.compile("[\U00100000-\U0010fffd]?[\U000f0000-\U000ffffd]")
_PRIVATE = re.compile("[\U000f0000-\U0010ffff]")
# an element as the tree writes it: attributes have quoted values, `<` and `>` in them are escaped; raw text as it is
_TOKEN = re.compile(
    r"<!--.*?-->|<(?P<raw>script|style|xmp|iframe|noembed|noframes)(?:\s[^>]*)?>.*?</(?P=raw)>"
    r"|<(?P<end>/?)(?P<tag>[a-zA-Z][^\s/>]*)(?P<attributes>[^>]*)>|(?P<text>[^<]+)|<",
    re.S,
)
_ATTRIBUTE = re.compile(r'\s(class|href|role|start|value|colspan|rowspan)="([^"]*)"')
VOID = frozenset(
    "area base basefont bgsound br col embed frame hr img input keygen link meta param source track wbr".split()
)

_ENTITIES = (("&lt;", "<"), ("&gt;", ">"), ("&nbsp;", "\xa0"), ("&quot;", '"'), ("&amp;", "&"))
_LANGUAGE = re.compile(
    r"(?:^|\s)(?:lang(?:uage)?-|highlight-(?:source-)?|brush:\s*|sourceCode\s+)([\w+#]+)|^(rust)(?:\s|$)"
)
_NO_LANGUAGE = frozenset(
    {"default", "none", "text", "plain", "plaintext", "txt", "source", "notranslate", "nohighlight"}
)


class Token(NamedTuple):
    """A tag, or a text (its `tag` is empty)."""

    tag: str
    end: bool
    body: str  # attributes, or the text
    mark: str = ""


def read_tokens(html: str) -> tuple[list[Token], str]:
    """Tags and texts of a page, and the page with its marks."""
    tokens: list[Token] = []
    marked: list[str] = []
    marks = 0
    for match in _TOKEN.finditer(html):
        mark = ""
        if tag := match["tag"]:
            tokens.append(Token(tag.lower(), bool(match["end"]), match["attributes"]))
        elif text := match["text"]:
            text = _PRIVATE.sub("", text)
            if text and not text.isspace():
                high, low = divmod(marks, _LOW_VALUES)
                mark = (chr(_HIGH + high) if high else "") + chr(_LOW + low)
                marks += 1
            tokens.append(Token("", False, text, mark))
            marked += mark, text
            continue
        marked.append(match[0])
    return tokens, "".join(marked)


def plain(written: str) -> str:
    """A text or an attribute as its reader sees it."""
    if "&" in written:
        for entity, character in _ENTITIES:
            written = written.replace(entity, character)
    return written


def attribute(token: Token, name: str) -> str:
    """Its value, "" where there is none; of the few names that are ever asked for."""
    return next((plain(value) for found, value in _ATTRIBUTE.findall(token.body) if found == name), "")


def classes(token: Token) -> set[str]:
    """Names in its `class`."""
    return set(attribute(token, "class").split()) if token.body else set()


def number(token: Token, name: str, otherwise: int) -> int:
    """An attribute that is a count, `otherwise` where it is none."""
    written = attribute(token, name).strip()
    return int(written) if written.isascii() and written.isdigit() and 0 < len(written) < 9 else otherwise


def language_of(tokens: list[Token], at: int) -> str:
    """The language that a code block, the `<code>` in it or an element right around it names."""
    around = tokens[at : at + 3]
    for token in reversed(tokens[max(0, at - 4) : at]):
        if token.end or token.mark:
            break
        around.append(token)
    for token in around:
        match = _LANGUAGE.search(attribute(token, "class")) if token.tag and not token.end else None
        if match:
            found = (match[1] or match[2]).lower()
            return "" if found in _NO_LANGUAGE else found
    return ""
