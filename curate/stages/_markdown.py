"""A page's main content as Markdown.

The plain-text extractor decides what is main content: every piece of text gets a mark of a private-use character, and
what comes out with the text was kept. One pass over the page's tokens then writes the kept pieces with what they stand in:
headings, lists, quotes, pipe tables, fenced code, inline code, bold and italic, links when asked for.

A table's first row is its header, as GitHub's form has no other; a merged cell stands in its first place. A table around
headings, code or other tables, or with one row or column, is layout: its cells are paragraphs. Characters that mean
something to Markdown are not escaped, since a model is to read the text as it was written.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from curate.stages._formulas import write_formulas
from curate.stages._html_tokens import (
    MARK,
    VOID,
    Token,
    attribute,
    classes,
    language_of,
    number,
    plain,
    read_tokens,
)

_SPACES = re.compile("  +")
_SPACE = re.compile(r"[ \t\n\r\f]+")
_BLOCKS = frozenset(
    """address article aside blockquote body caption center dd details dialog div dl dt fieldset figcaption figure footer
    form header hgroup hr legend li main menu nav ol p section summary table tbody td tfoot th thead tr ul pre
    video""".split()
)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_EMPHASIS = {"b": "**", "strong": "**", "i": "*", "em": "*"}
_CODE = frozenset({"code", "tt", "kbd", "samp"})
_INLINE = frozenset({*_EMPHASIS, *_CODE, "a", "br"})
_LISTS = frozenset({"ul", "ol", "menu"})
_GUTTER = frozenset(
    {"linenos", "linenodiv", "lineno", "headerlink"}
)  # line numbers; the sign that links a heading
_MAX_NESTING = 16  # lists and quotes below are written at this depth
_MAX_SPAN, _MAX_COLUMNS = 50, 100
_MAX_CELL_CHARS = 1000  # a longer one is layout
_NOT_IN_A_TABLE = frozenset("table pre h1 h2 h3 h4 h5 h6 form".split())


def markdown(
    tree: Any, html: str, extract_text: Callable[[str], str], *, links: bool, alt_texts: bool
) -> str:
    """Markdown of what `extract_text` keeps of a page; changes the tree."""
    if tree.body is None:
        return ""
    write_formulas(tree, html)
    if alt_texts:
        _write_alt_texts(tree)
    tokens, marked = read_tokens(tree.body.html)
    return "\n".join(write_lines(tokens, set(MARK.findall(extract_text(marked))), links))


def write_lines(tokens: list[Token], kept: set[str], links: bool) -> list[str]:
    """Markdown of the texts whose marks were kept."""
    writer = _Writer(tokens, kept, links)
    writer.write()
    return writer.lines


def _write_alt_texts(tree: Any) -> None:
    for image in tree.document.query_selector_all("img[alt]").values():
        if (image.getattr("alt") or "").strip() and image.parent is not None:
            image.parent.replace_child(tree.create_text_node(image.getattr("alt")), image)


class _Wrap(NamedTuple):
    """An inline element that is open."""

    depth: int
    mark: str
    start: int  # in the line being written
    href: str = ""


class _Container:
    """A list item or a quote that is open."""

    def __init__(self, first: str, rest: str) -> None:
        self.first, self.rest = first, rest


class _Table:
    """The table being read, as rows of cells."""

    def __init__(self) -> None:
        self.rows: list[list[str]] = []
        self._below: dict[int, int] = {}  # column -> rows that a cell above still fills

    def add_row(self) -> None:
        self.rows.append([])

    def add_cell(self, text: str, columns: int, rows: int) -> None:
        if not self.rows:
            self.add_row()
        row = self.rows[-1]
        while self._below.get(len(row)):
            self._below[len(row)] -= 1
            row.append("")
        for column in range(len(row), len(row) + columns):
            self._below[column] = rows - 1
        row += [text] + [""] * (columns - 1)

    def lines(self) -> list[str]:
        """The pipe table; nothing when it is none."""
        rows = [row for row in self.rows if any(row)]
        width = max((len(row) for row in rows), default=0)
        if (
            len(rows) < 2
            or not 2 <= width <= _MAX_COLUMNS
            or any(len(cell) > _MAX_CELL_CHARS for row in rows for cell in row)
        ):
            return []
        lines = [f"| {' | '.join(row + [''] * (width - len(row)))} |" for row in rows]
        return [lines[0], f"|{' --- |' * width}", *lines[1:]]


class _Writer:
    """Takes the tree's elements as they open and close, writes lines."""

    def __init__(self, tokens: list[Token], kept: set[str], links: bool) -> None:
        self.lines: list[str] = []
        self._tokens, self._kept, self._links = tokens, kept, links
        self._at = 0  # the token being read
        self._line: list[str] = []  # pieces of the block being written
        self._wraps: list[_Wrap] = []
        self._skip = 0  # depth of an element that is passed over
        self._heading = self._heading_depth = 0
        self._containers: list[_Container] = []
        self._too_deep = 0
        self._lists: list[list[int]] = []  # [next number, 0 for bullets; serial number of the outermost list]
        self._serial = self._last_list = 0
        self._pre = 0  # depth of the code block that is open
        self._code: list[str] = []
        self._code_kept = False
        self._language = ""
        self._table: _Table | None = None
        self._table_depth = 0
        self._cell: list[str] | None = None
        self._cell_span = (1, 1)

    def write(self) -> None:
        """All tokens to lines."""
        depth = 0
        for at, token in enumerate(self._tokens):
            self._at = at
            if not token.tag:
                self._add_text(token)
            elif token.tag in VOID:
                if not token.end:
                    self._open(token, depth + 1)
            elif token.end:
                self._close(token.tag, depth)
                depth -= 1
            else:
                depth += 1
                self._open(token, depth)
        self._flush()

    def _open(self, token: Token, depth: int) -> None:
        if self._skip:
            return
        if self._pre:
            self._open_in_code(token, depth)
        elif token.tag in _HEADINGS or token.tag in _BLOCKS:
            self._open_block(token, depth)
        elif token.tag in _INLINE:
            self._open_inline(token, depth)

    def _close(self, tag: str, depth: int) -> None:
        if self._skip:
            self._skip = self._skip if self._skip != depth else 0
        elif self._pre:
            if self._pre == depth:
                self._close_code()
        elif tag in _HEADINGS:
            self._close_heading(depth)
        elif tag in _BLOCKS:
            self._close_block(tag, depth)
        elif self._wraps and self._wraps[-1].depth == depth:
            self._close_inline(self._wraps.pop())

    def _add_text(self, token: Token) -> None:
        if self._skip or (token.mark and token.mark not in self._kept):
            return
        text = plain(token.body)
        if self._pre:
            self._code.append(text)
            self._code_kept |= token.mark != ""
        else:
            self._line.append(_SPACE.sub(" ", text) if token.mark else " ")

    # blocks

    def _open_block(self, token: Token, depth: int) -> None:
        tag = token.tag
        if self._heading:
            self._line.append(" ")
            return
        self._flush()
        if tag in _HEADINGS:
            self._heading, self._heading_depth = _HEADINGS[tag], depth
        elif tag == "pre":
            self._pre, self._code, self._code_kept = depth, [], False
            self._language = language_of(self._tokens, self._at)
        elif tag in _LISTS:
            self._serial += not self._lists
            self._lists.append([number(token, "start", 1) if tag == "ol" else 0, self._serial])
        elif tag == "li" and self._lists:
            self._open_item(token)
        elif tag == "blockquote":
            self._push("> ", "> ")
        elif self._table:
            self._open_in_table(token)
        elif tag == "table" and self._is_data(token):
            self._table, self._table_depth = _Table(), depth
        elif tag == "td" and classes(token) & _GUTTER:
            self._skip = depth

    def _is_data(self, table: Token) -> bool:
        if attribute(table, "role") in ("presentation", "none"):
            return False
        rows = cells = 0
        for at in range(self._at + 1, len(self._tokens)):
            token = self._tokens[at]
            if token.tag in _NOT_IN_A_TABLE:
                return token.tag == "table" and token.end and 1 < rows < cells
            rows += token.tag == "tr" and not token.end
            cells += token.tag in ("td", "th") and not token.end
        return False

    def _open_item(self, token: Token) -> None:
        mine = self._lists[-1]
        if not mine[0]:
            return self._push("- ", "  ")
        count = number(token, "value", mine[0])
        mine[0] = count + 1
        first = f"{count}. "
        self._push(first, " " * len(first))

    def _push(self, first: str, rest: str) -> None:
        if len(self._containers) < _MAX_NESTING:
            self._containers.append(_Container(first, rest))
        else:
            self._too_deep += 1

    def _pop(self) -> None:
        if self._too_deep:
            self._too_deep -= 1
        else:
            self._containers.pop()

    def _open_in_table(self, token: Token) -> None:
        tag = token.tag
        assert self._table
        if tag == "tr" and self._cell is None:
            self._table.add_row()
        elif tag in ("td", "th") and self._cell is None:
            self._cell = []
            self._cell_span = (
                min(number(token, "colspan", 1), _MAX_SPAN),
                min(number(token, "rowspan", 1), _MAX_SPAN),
            )

    def _close_heading(self, depth: int) -> None:
        if depth == self._heading_depth:
            self._flush()
            self._heading = self._heading_depth = 0

    def _close_block(self, tag: str, depth: int) -> None:
        if self._heading:
            return
        self._flush()
        if tag in _LISTS:
            self._lists.pop()
        elif (tag == "li" and self._lists) or tag == "blockquote":
            self._pop()
        elif self._table and self._cell is not None and tag in ("td", "th"):
            self._table.add_cell("<br>".join(self._cell).replace("|", "\\|"), *self._cell_span)
            self._cell = None
        elif self._table and depth == self._table_depth:
            self._close_table()

    def _close_table(self) -> None:
        assert self._table
        table, self._table, self._cell = self._table, None, None
        if lines := table.lines():
            self._emit(lines)
            return
        for row in table.rows:
            for cell in filter(None, row):
                self._emit(cell.replace("\\|", "|").split("<br>"))

    def _close_code(self) -> None:
        self._pre = 0
        code = "".join(self._code).replace("\r\n", "\n").replace("\r", "\n").rstrip()
        if self._code_kept:
            fence = "`" * max(3, 1 + max(map(len, re.findall("`+", code)), default=0))
            self._emit([fence + self._language, *code.lstrip("\n").split("\n"), fence])

    def _flush(self) -> None:
        if not self._line:
            return
        written = "".join(self._line)
        self._line.clear()
        self._wraps.clear()
        lines = [line for line in (_SPACES.sub(" ", line).strip() for line in written.split("\n")) if line]
        if not lines:
            return
        self._emit([f"{'#' * self._heading} {' '.join(lines)}"] if self._heading else lines)

    def _emit(self, lines: list[str]) -> None:
        if self._cell is not None:
            self._cell += lines
            return
        first = rest = ""
        begins = False
        for container in self._containers:
            first += container.first
            rest += container.rest
            begins |= container.first != container.rest
            container.first = container.rest
        outermost = self._lists[0][1] if self._lists else 0
        if self.lines and not (begins and outermost == self._last_list):
            self.lines.append("")
        self._last_list = outermost
        self.lines.append(first + lines[0])
        self.lines += [(rest + line).rstrip() if not line else rest + line for line in lines[1:]]

    # inside a line

    def _open_in_code(self, token: Token, depth: int) -> None:
        if token.tag == "br":
            self._code.append("\n")
        elif token.tag in ("span", "a", "td") and classes(token) & _GUTTER:
            self._skip = depth

    def _open_inline(self, token: Token, depth: int) -> None:
        tag = token.tag
        if tag == "br":
            self._line.append(" " if self._heading else "\n")
            return
        mark = _EMPHASIS.get(tag, "") if not self._heading else ""
        href = ""
        if tag in _CODE:
            mark = "`"
        elif tag == "a":
            if classes(token) & _GUTTER:
                self._skip = depth
                return
            href = attribute(token, "href").strip() if self._links else ""
            mark = "[" if href and not href.startswith(("#", "javascript:")) else ""
        if mark and not any(wrap.mark in (mark, "`") for wrap in self._wraps):
            self._wraps.append(_Wrap(depth, mark, len(self._line), href))

    def _close_inline(self, wrap: _Wrap) -> None:
        written = "".join(self._line[wrap.start :])
        if not (inner := written.strip(" \n")):
            return
        if wrap.mark == "[":
            href = _SPACE.sub("%20", wrap.href).replace(")", "%29")
            inner = f"[{_SPACE.sub(' ', inner)}]({href})"
        elif wrap.mark == "`" and "`" in inner:
            inner = f"`` {inner} ``"
        elif wrap.mark != "`" or "\n" not in inner:
            inner = wrap.mark + inner + wrap.mark
        before = written[0] if written[0] in " \n" else ""
        after = written[-1] if written[-1] in " \n" else ""
        self._line[wrap.start :] = [before + inner + after]
