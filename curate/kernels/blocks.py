"""Blocks of text in an HTML page, with what the markup around them says: one walk over the bytes, no tree library.

A block is text between two borders of block elements; inline elements stay inside it. Elements are opened and closed by
a short version of the standard's rules (an open `<p>`, `<li>`, `<td>`, `<dd>` or `<option>` ends where the next starts).
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from curate.kernels.tags import TAG, Bytes, Ints, Longs, flagged, is_at, read_attributes, tag_at

DEEPEST = 510  # open elements that are told apart; deeper ones count as children of the last
MOST_BLOCKS = 50_000  # real pages have hundreds; a hostile one must not take a gigabyte for its features
_BLOCK = flagged(
    "html body div section p li ul ol dl dd dt h1 h2 h3 h4 h5 h6 table tbody thead tfoot tr td th pre blockquote article "
    "main nav footer header aside form figure figcaption address details summary fieldset center hr button select "
    "option head menu dialog caption legend optgroup object video audio canvas"
)
_VOID = flagged("br img input meta link source wbr area base col embed param track hr")
_RAW = flagged("script style textarea title iframe svg noscript template math")
_STOP = flagged(
    "html body div section ul ol dl table td th blockquote article main nav footer header aside form figure"
)
_P, _LI, _BR, _A, _TD, _TR = TAG["p"], TAG["li"], TAG["br"], TAG["a"], TAG["td"], TAG["tr"]
_TH, _DD, _DT, _OPTION, _PRE, _HEAD = TAG["th"], TAG["dd"], TAG["dt"], TAG["option"], TAG["pre"], TAG["head"]
_UL, _OL, _DL, _TABLE, _BODY, _HTML = TAG["ul"], TAG["ol"], TAG["dl"], TAG["table"], TAG["body"], TAG["html"]
_IMG, _SVG = TAG["img"], TAG["svg"]
_NBSP = np.frombuffer(b"nbsp;", np.uint8)


@njit(cache=True)
def _skip_raw(data: Bytes, at: int, end: int, tag: int) -> int:
    """Past the end tag of an element whose inside is not markup."""
    while at < end - 2:
        if data[at] == 60 and data[at + 1] == 47:
            found, after = tag_at(data, at + 2, end)
            if found == tag:
                while after < end and data[after] != 62:
                    after += 1
                past: int = min(after + 1, end)
                return past
        at += 1
    return end


@njit(cache=True)
def _closes(tag: int, open_tag: int) -> bool:
    """Whether a start tag ends an open element of that tag."""
    if open_tag == _P:
        return bool(_BLOCK[tag])
    if tag in (_LI, _OPTION, _TR):
        return open_tag == tag or (tag == _TR and open_tag in (_TD, _TH))
    if tag in (_DD, _DT):
        return open_tag in (_DD, _DT)
    if tag in (_TD, _TH):
        return open_tag in (_TD, _TH)
    return False


@njit(cache=True)
def _bounds(tag: int, open_tag: int) -> bool:
    """Whether the search for an element to end stops at that open element."""
    if tag == _LI:
        return open_tag in (_UL, _OL)
    if tag in (_DD, _DT):
        return open_tag == _DL
    if tag in (_TD, _TH, _TR):
        return open_tag == _TABLE
    return bool(_STOP[open_tag])


class _Page(NamedTuple):
    nodes: Ints
    blocks: Ints
    text: Bytes
    stack: Longs  # open elements, outermost first
    now: Longs  # the counters below


# Places in `now`: how many elements, blocks, bytes of text, open elements; open `<a>` and `<pre>`; images and line breaks
# since the last text; whether a block is open, white space is due, the head is open.
_NODES, _BLOCKS, _SIZE, _DEPTH, _LINKS, _PRES, _IMAGES, _BREAKS, _OPEN, _SPACE, _IN_HEAD = range(11)


@njit(cache=True)
def _pop(page: _Page, lowest: int) -> None:
    """Close the open elements from a level on."""
    now = page.now
    while now[_DEPTH] >= lowest:
        tag = page.nodes[page.stack[now[_DEPTH]], 0]
        if tag == _A:
            now[_LINKS] -= 1
        if tag == _PRE:
            now[_PRES] -= 1
        now[_DEPTH] -= 1


@njit(cache=True)
def _end_tag(page: _Page, data: Bytes, at: int, end: int) -> int:
    tag, at = tag_at(data, at + 2, end)
    while at < end and data[at] != 62:
        at += 1
    now = page.now
    if tag == _HEAD:
        now[_IN_HEAD] = 0
    if _BLOCK[tag]:
        now[_OPEN] = 0
    level = depth = now[_DEPTH]
    while level > 0 and page.nodes[page.stack[level], 0] != tag and depth - level < 40:
        level -= 1
    if level > 0 and page.nodes[page.stack[level], 0] == tag:
        _pop(page, level)
    return at + 1


@njit(cache=True)
def _break(page: _Page) -> None:
    """One `<br>` is a line in the block, two are its end."""
    now = page.now
    now[_BREAKS] += 1
    if now[_BREAKS] > 1:
        now[_OPEN] = 0
    elif now[_OPEN]:
        page.text[now[_SIZE]] = 10
        now[_SIZE] += 1
        block = page.blocks[now[_BLOCKS] - 1]
        block[2] = now[_SIZE]
        block[11] += 1
        now[_SPACE] = 0


@njit(cache=True)
def _end_implied(page: _Page, tag: int) -> None:
    """Close what a start tag ends."""
    level = depth = page.now[_DEPTH]
    lowest = depth + 1
    while level > 0 and depth - level < 12:
        open_tag = page.nodes[page.stack[level], 0]
        if _closes(tag, open_tag):
            lowest = level
        if _bounds(tag, open_tag) and lowest != level:
            break
        level -= 1
    _pop(page, lowest)


@njit(cache=True)
def _start_tag(page: _Page, data: Bytes, at: int, end: int) -> int:
    tag, at = tag_at(data, at + 1, end)
    at, bits, digest, href, hidden = read_attributes(data, at, end)
    now, nodes = page.now, page.nodes
    if _RAW[tag]:
        return at if tag == _SVG and data[at - 2] == 47 else _skip_raw(data, at, end, tag)
    if tag in (_BODY, _HEAD):
        now[_IN_HEAD] = tag == _HEAD
    if tag == _BR:
        _break(page)
        return at
    if tag == _IMG:
        now[_IMAGES] += 1
    if _BLOCK[tag]:
        now[_OPEN] = 0
        now[_IN_HEAD] = now[_IN_HEAD] and tag in (_HEAD, _HTML)
    if _VOID[tag]:
        return at
    _end_implied(page, tag)
    parent = page.stack[now[_DEPTH]]
    node = nodes[now[_NODES]]
    node[0], node[1], node[2], node[3] = tag, parent, bits, digest
    node[4] = 1 if hidden or nodes[parent, 4] else 0
    node[5] = nodes[parent, 5] + 1
    if now[_DEPTH] < DEEPEST:
        now[_DEPTH] += 1
        page.stack[now[_DEPTH]] = now[_NODES]
        if tag == _A:
            now[_LINKS] += 1
            if href and now[_OPEN]:
                page.blocks[now[_BLOCKS] - 1, 4] += 1
        elif tag == _PRE:
            now[_PRES] += 1
    now[_NODES] += 1
    return at


@njit(cache=True)
def _blank(data: Bytes, at: int, stop: int) -> int:
    """Bytes of the white space at a place, 0 where there is none."""
    c = data[at]
    if c <= 32:
        return 1
    if c == 0xC2 and at + 1 < stop and data[at + 1] == 0xA0:
        return 2
    if c == 38 and at + 5 < stop and is_at(data, at + 1, _NBSP):
        return 6
    if c == 0xE2 and at + 2 < stop and data[at + 1] == 0x80 and data[at + 2] in (0x8B, 0x8E):
        return 3  # zero-width space, left-to-right mark
    return 0


@njit(cache=True)
def _open_block(page: _Page) -> None:
    now, nodes = page.now, page.nodes
    block = page.blocks[now[_BLOCKS]]
    node = page.stack[now[_DEPTH]]
    while node > 0 and not _BLOCK[nodes[node, 0]]:
        node = nodes[node, 1]
    block[0] = node
    block[1] = now[_SIZE]
    block[4] = 1 if now[_LINKS] > 0 else 0
    block[10] = now[_IMAGES]
    now[_OPEN], now[_IMAGES], now[_SPACE] = 1, 0, 0
    now[_BLOCKS] += 1


@njit(cache=True)
def _write(page: _Page, c: int) -> None:
    """One byte that is no white space."""
    now, text = page.now, page.text
    if not now[_OPEN]:
        _open_block(page)
    block = page.blocks[now[_BLOCKS] - 1]
    if now[_SPACE]:
        text[now[_SIZE]] = 32
        now[_SIZE] += 1
        now[_SPACE] = 0
    previous = text[now[_SIZE] - 1] if now[_SIZE] > block[1] else 32
    text[now[_SIZE]] = c
    now[_SIZE] += 1
    now[_BREAKS] = 0
    block[2] = now[_SIZE]
    digit, capital, small = 48 <= c <= 57, 65 <= c <= 90, 97 <= c <= 122
    block[3] += now[_LINKS] > 0
    block[7] += digit
    block[8] += capital
    block[9] += c == 44 or c == 46 or c == 63 or c == 33 or c == 59
    if (digit or capital or small or c >= 0xC3) and (previous <= 47 or previous == 91):
        block[5] += 1
        block[6] += small


@njit(cache=True)
def _text(page: _Page, data: Bytes, at: int, end: int) -> int:
    now = page.now
    stop = at + 1
    while stop < end and data[stop] != 60:
        stop += 1
    if now[_IN_HEAD]:
        return stop
    while at < stop:
        skip = _blank(data, at, stop)
        if not skip:
            _write(page, data[at])
            at += 1
            continue
        if now[_OPEN] and now[_PRES] > 0 and data[at] <= 32:
            page.text[now[_SIZE]] = data[at]
            now[_SIZE] += 1
            now[_SPACE] = 0
        elif now[_OPEN]:
            now[_SPACE] = 1
        at += skip
    return at


@njit(cache=True)
def _skip_comment(data: Bytes, at: int, end: int) -> int:
    """Past a comment, a doctype or a processing instruction."""
    if at + 3 < end and data[at + 2] == 45 and data[at + 3] == 45:
        at += 4
        while at < end and not (data[at] == 62 and data[at - 1] == 45 and data[at - 2] == 45):
            at += 1
    else:
        while at < end and data[at] != 62:
            at += 1
    return at + 1


@njit(cache=True)
def walk(data: Bytes) -> tuple[Ints, Ints, Bytes]:
    """Elements int32 (n, 6), blocks int32 (b, 12) and the text of the blocks one after the other, uint8.

    An element is its tag, its parent, the bits of WORDS, a digest of its class, whether it is hidden, its depth. A block
    is its element, start and end in the text, bytes inside links, links, words, words that begin in lower case, digits,
    capitals, commas and ends of sentences, images before it, line breaks. What comes after MOST_BLOCKS is left out.
    """
    end = len(data)
    tags = 16
    for at in range(end - 1):
        tags += data[at] == 60 and (data[at + 1] == 47 or data[at + 1] >= 65)
    page = _Page(
        np.zeros((tags, 6), np.int32),
        np.zeros((min(tags, MOST_BLOCKS) + 1, 12), np.int32),
        np.empty(end + tags, np.uint8),
        np.zeros(DEEPEST + 1, np.int64),
        np.zeros(11, np.int64),
    )
    now = page.now
    now[_NODES] = 1
    page.nodes[0, 0], page.nodes[0, 1] = _BODY, -1
    at = 0
    while at < end and now[_BLOCKS] <= MOST_BLOCKS:
        c = data[at + 1] if data[at] == 60 and at + 1 < end else np.uint8(0)
        if c == 33 or c == 63:
            at = _skip_comment(data, at, end)
        elif c == 47:
            at = _end_tag(page, data, at, end)
        elif 65 <= c <= 90 or 97 <= c <= 122:
            at = _start_tag(page, data, at, end)
        else:
            at = _text(page, data, at, end)
    made = min(now[_BLOCKS], MOST_BLOCKS)
    return page.nodes[: now[_NODES]], page.blocks[:made], page.text[: now[_SIZE]]
