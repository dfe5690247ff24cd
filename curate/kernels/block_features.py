"""What a page says about each of its blocks, as numbers, and the trees that judge by them.

`features` writes, for each block: its own text; how near above it an element with such a tag or class is; how much text,
link text and prose its four next larger containers hold; its place; the page as a whole; its neighbours.
"""

import numpy as np
import numpy.typing as npt
from numba import njit

from curate.kernels.lanes import trailing_zeros
from curate.kernels.tags import CUES, HINTS, TAG, WORDS, Bytes, Ints, Longs, cue_bits, hint_bits

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Masks = npt.NDArray[np.uint32]

u64 = np.uint64

FAR = 30  # distance to an element that is not there
SHORT = 8  # words that the title of a part of the page has at most
LEVELS = 4  # larger containers
_ALL_LEAVES = np.uint32(0xFFFFFFFF)

_GROUPS = (
    "p|li|h1|h2 h3|h4 h5 h6|td th|pre code|div|section article main|a|blockquote|figcaption caption|dt dd|"
    "button label select option legend|span"
)
_GROUP = np.zeros(len(TAG) + 1, np.int64)
for _i, _names in enumerate(_GROUPS.split("|"), 1):
    _GROUP[[TAG[_name] for _name in _names.split()]] = _i
_NEAR_TAGS = "article main nav footer header aside form table ul section figure blockquote dl body".split()
_BITS, _NEAR = len(WORDS), len(WORDS) + len(_NEAR_TAGS)
_NEAR_OF = np.full(len(TAG) + 1, -1, np.int64)  # column of a tag among the distances
_NEAR_OF[[TAG[_name] for _name in _NEAR_TAGS]] = np.arange(_BITS, _NEAR)
_P, _H1, _ARTICLE, _TABLE, _TIME = TAG["p"], TAG["h1"], TAG["article"], TAG["table"], TAG["time"]

# First column of each kind of feature.
_CUE, _NUM_CUES = 23, len(CUES)
_SINCE = _CUE + _NUM_CUES
_ABOVE = _SINCE + _NUM_CUES
_AROUND = _ABOVE + _NEAR
_PLACE = _AROUND + 9 * LEVELS
_NEXT = _PLACE + 10
_WINDOW = _NEXT + 36
_PAGE = _WINDOW + 8
_NUM_HINTS = len(HINTS)
_ALL = _PAGE + _NUM_HINTS + 3


@njit(cache=True)
def features(data: Bytes, nodes: Ints, blocks: Ints, text: Bytes) -> Floats:
    """float32 (blocks, features), from a page and what `blocks.walk` found in it."""
    rows = np.zeros((len(blocks), _ALL), np.float32)
    if len(blocks) == 0:
        return rows
    sums = _sums(nodes, blocks)
    _own(rows, nodes, blocks, text)
    _repeats(rows, blocks, text)
    _cues(rows, blocks, text)
    near = _distances(nodes)
    alike = _alike(nodes)
    for i in range(len(blocks)):
        for j in range(_NEAR):
            rows[i, _ABOVE + j] = near[blocks[i, 0], j]
        _around(rows[i, _AROUND:_PLACE], nodes, sums, alike, blocks[i, 0])
    _place(rows, nodes, blocks, sums[0])
    _neighbours(rows, nodes, blocks)
    _windows(rows, blocks)
    _kind(rows, data, nodes)
    return rows


@njit(cache=True)
def _sums(nodes: Ints, blocks: Ints) -> Doubles:
    """Bytes, link bytes, bytes in <p>, ends of sentences, blocks, words, lower-case words of each element, (n, 7)."""
    sums = np.zeros((len(nodes), 7), np.float64)
    for block in blocks:
        size, node = block[2] - block[1], sums[block[0]]
        node[0] += size
        node[1] += min(size, block[3])
        node[2] += size if nodes[block[0], 0] == _P else 0
        node[3] += block[9]
        node[4] += 1
        node[5] += block[5]
        node[6] += block[6]
    for k in range(len(nodes) - 1, 0, -1):
        for j in range(7):
            sums[nodes[k, 1], j] += sums[k, j]
    return sums


@njit(cache=True)
def _own(rows: Floats, nodes: Ints, blocks: Ints, text: Bytes) -> None:
    for i in range(len(blocks)):
        row, block = rows[i], blocks[i]
        start, end, words = block[1], block[2], max(1, block[5])
        size = end - start
        row[0] = np.log1p(size)
        row[1] = block[5]
        row[2] = min(1.0, block[3] / size)
        row[3] = block[4]
        row[4] = block[6] / words
        row[5] = block[7] / size
        row[6] = block[8] / size
        row[7] = block[9] / size
        row[8] = block[9]
        row[9] = block[10]
        row[10] = block[11]
        row[11] = size / words
        row[12] = text[end - 1]
        row[13] = text[start]
        for at in range(start, end):
            c = text[at]
            if c == 124:
                row[14] = 1
            elif c == 64:
                row[15] = 1
            elif c == 0xA9 and at > start and text[at - 1] == 0xC2:
                row[16] = 1  # the copyright sign
            elif c == 36:
                row[17] = 1
        row[20] = _GROUP[nodes[block[0], 0]]
        row[21] = nodes[block[0], 4]
        row[22] = nodes[block[0], 5]


@njit(cache=True)
def _repeats(rows: Floats, blocks: Ints, text: Bytes) -> None:
    """How often the page says the same, and how often it has said it before."""
    keys = np.zeros(len(blocks), np.int64)
    seen = np.zeros(8192, np.int64)
    for i in range(len(blocks)):
        h = 0
        for at in range(blocks[i, 1], blocks[i, 2]):
            h = (h * 131 + text[at]) & 0xFFFFFFFFFF
        keys[i] = h % 8192
        rows[i, 19] = seen[keys[i]]
        seen[keys[i]] += 1
    for i in range(len(blocks)):
        rows[i, 18] = seen[keys[i]]


@njit(cache=True)
def _cues(rows: Floats, blocks: Ints, text: Bytes) -> None:
    """What a block speaks of, and how many blocks ago a short one (the title of a part) spoke of it."""
    last = np.full(_NUM_CUES, -1000, np.int64)
    for i in range(len(blocks)):
        bits = cue_bits(text, blocks[i, 1], blocks[i, 2])
        for j in range(_NUM_CUES):
            rows[i, _CUE + j] = bits >> j & 1
            rows[i, _SINCE + j] = min(200, i - last[j])
            if bits >> j & 1 and blocks[i, 5] <= SHORT:
                last[j] = i


@njit(cache=True)
def _distances(nodes: Ints) -> Bytes:
    """How many elements up the nearest with a bit of WORDS, or with such a tag, is, uint8 (n, _NEAR)."""
    near = np.full((len(nodes), _NEAR), FAR, np.uint8)
    for k in range(1, len(nodes)):
        for j in range(_NEAR):
            near[k, j] = min(FAR, near[nodes[k, 1], j] + 1)
            if j < _BITS and nodes[k, 2] >> j & 1:
                near[k, j] = 0
        if _NEAR_OF[nodes[k, 0]] >= 0:
            near[k, _NEAR_OF[nodes[k, 0]]] = 0
    return near


@njit(cache=True)
def _alike(nodes: Ints) -> Longs:
    """How many elements are alike in tag, class and depth (cards, remarks), (n,)."""
    table = np.zeros(4096, np.int64)
    slot = np.zeros(len(nodes), np.int64)
    for k in range(1, len(nodes)):
        slot[k] = (np.int64(nodes[k, 0]) * 7919 + np.int64(nodes[k, 3]) * 31 + nodes[k, 5] * 104729) % 4096
        table[slot[k]] += 1
    return table[slot]


@njit(cache=True)
def _around(row: Floats, nodes: Ints, sums: Doubles, alike: Longs, node: int) -> None:
    """The next larger containers: an element that holds no more text than the one inside it is passed over."""
    level, last = 0, -1.0
    while level < LEVELS:
        inside = sums[node]
        if inside[0] > last or node == 0:
            f = row[9 * level : 9 * level + 9]
            size, words = max(1.0, inside[0]), max(1.0, inside[5])
            f[0] = np.log1p(inside[0])
            f[1] = inside[1] / size
            f[2] = inside[2] / size
            f[3] = inside[3] / words
            f[4] = inside[4]
            f[5] = inside[6] / words
            f[6] = inside[0] / sums[0, 0]
            f[7] = min(200, alike[node])
            f[8] = inside[0] / max(1.0, inside[4])
            level += 1
            last = inside[0]
        if node > 0:
            node = nodes[node, 1]


@njit(cache=True)
def _place(rows: Floats, nodes: Ints, blocks: Ints, total: Doubles) -> None:
    """Where on the page, and what the page is like."""
    n, before, heading = len(blocks), 0, -1
    for i in range(n):
        if heading < 0 and nodes[blocks[i, 0], 0] == _H1:
            heading = i
    for i in range(n):
        f = rows[i, _PLACE:_NEXT]
        f[0] = i / n
        f[1] = before / total[0]
        f[2] = i - heading if heading >= 0 else -1000
        f[3] = n
        f[4] = np.log1p(total[0])
        f[5] = total[1] / total[0]
        f[6] = total[2] / total[0]
        f[7] = total[3] / max(1.0, total[5])
        f[8] = total[6] / max(1.0, total[5])
        f[9] = total[0] / n
        before += blocks[i, 2] - blocks[i, 1]


@njit(cache=True)
def _neighbours(rows: Floats, nodes: Ints, blocks: Ints) -> None:
    """Three blocks on either side, each in six numbers."""
    for i in range(len(blocks)):
        for place, step in enumerate((-3, -2, -1, 1, 2, 3)):
            f = rows[i, _NEXT + 6 * place : _NEXT + 6 * place + 6]
            j = i + step
            if j < 0 or j >= len(blocks):
                f[:] = -1
                continue
            f[0] = rows[j, 0]
            f[1] = rows[j, 2]
            f[2] = rows[j, 4]
            f[3] = rows[j, 20]
            f[4] = nodes[blocks[j, 0], 1] == nodes[blocks[i, 0], 1]
            f[5] = rows[j, 7]


@njit(cache=True)
def _windows(rows: Floats, blocks: Ints) -> None:
    """Text, link text and prose of the five and of the fifteen blocks on either side."""
    for i in range(len(blocks)):
        for place, width in enumerate((5, 15)):
            size = links = ends = words = lower = 0.0
            for block in blocks[max(0, i - width) : i + width + 1]:
                size += block[2] - block[1]
                links += min(block[2] - block[1], block[3])
                ends += block[9]
                words += block[5]
                lower += block[6]
            f = rows[i, _WINDOW + 4 * place : _WINDOW + 4 * place + 4]
            f[0] = np.log1p(size)
            f[1] = links / size
            f[2] = ends / max(1.0, words)
            f[3] = lower / max(1.0, words)


@njit(cache=True)
def _kind(rows: Floats, data: Bytes, nodes: Ints) -> None:
    """The same for all blocks: hints, and how many articles, tables and times the page has."""
    bits = hint_bits(data)
    for j in range(_NUM_HINTS):
        rows[:, _PAGE + j] = bits >> j & 1
    tags = nodes[:, 0]
    rows[:, _ALL - 3] = np.sum(tags == _ARTICLE)
    rows[:, _ALL - 2] = np.sum(tags == _TABLE)
    rows[:, _ALL - 1] = np.sum(tags == _TIME)


@njit(cache=True)
def judge(rows: Floats, starts: Ints, feature: Ints, limit: Floats, keep: Masks, leaves: Floats) -> Doubles:
    """Chance of each block to be main text: the trees' leaves added up, then squashed.

    A tree's nodes are starts[t]:starts[t + 1]. A node whose feature is above its limit rules out the leaves on its left:
    `keep` uint32 has a bit for each of the others. The first leaf that is left is the row's (QuickScorer, Lucchese et
    al. 2015); all rows go through a node together, without a branch.
    """
    columns = rows.T.copy()
    chance = np.zeros(len(rows), np.float64)
    left = np.empty(len(rows), np.uint32)
    for tree in range(len(leaves)):
        left[:] = _ALL_LEAVES
        for node in range(starts[tree], starts[tree + 1]):
            column, most, others = columns[feature[node]], limit[node], keep[node]
            for i in range(len(left)):
                left[i] &= others if column[i] > most else _ALL_LEAVES
        for i in range(len(left)):
            chance[i] += leaves[tree, trailing_zeros(u64(left[i]))]
    return 1 / (1 + np.exp(-chance))
