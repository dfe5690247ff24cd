"""Main text of a page by trees that learned from gold pages which blocks to keep.

`blocks.npz` holds boosted regression trees over what `kernels/block_features.py` says of a block. `scripts/train_extract_blocks.py`
makes it again from the gold pages (WCXB dev and the article benchmark, both split by domain); no text is in it.
"""

import html as entities
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

STRICT = 0.7  # chance a block must have, over the F1 that the page lets hope for
ONCE_CHARS = 60  # a block of as many characters is written once, however often the page has it


def main_text(html: str) -> str:
    """The kept blocks, one line each (a block with `<br>` more), an empty line between two of them."""
    from curate.kernels.block_features import judge

    texts, features = read_blocks(html)
    kept = choose(judge(features, *_trees()), texts)
    return "\n\n".join(entities.unescape(texts[i]).strip() for i in kept)


def choose(chance: npt.NDArray[np.float64], texts: list[str]) -> list[int]:
    """Blocks to keep, in order.

    Taking the likeliest first, the expected F1 of a page rises to a best value; a block helps it when its chance is above
    half of that (Lipton et al. 2014). We ask for more, as a stray remark costs a corpus more than a lost caption.
    """
    if not texts:
        return []
    sizes = np.array([len(text) for text in texts], np.float64)
    order = np.argsort(-chance, kind="stable")
    hits = np.cumsum((chance * sizes)[order])
    best = (2 * hits / (np.cumsum(sizes[order]) + hits[-1])).max()
    kept: dict[str | int, int] = {}
    for i in np.flatnonzero(chance >= STRICT * best):
        kept.setdefault(texts[i] if len(texts[i]) >= ONCE_CHARS else int(i), int(i))
    return list(kept.values())


def read_blocks(html: str) -> tuple[list[str], npt.NDArray[np.float32]]:
    """Text of every block, its character references as written, and float32 (blocks, features)."""
    from curate.kernels.block_features import features
    from curate.kernels.blocks import walk

    data = np.frombuffer(html.encode("utf-8", "replace"), np.uint8)
    nodes, blocks, text = walk(data)
    written = text.tobytes()
    texts = [written[start:end].decode("utf-8", "replace") for start, end in blocks[:, 1:3].tolist()]
    return texts, features(data, nodes, blocks, text)


@cache
def _trees() -> list[Any]:
    with np.load(Path(__file__).with_name("blocks.npz")) as trees:
        return [trees[name] for name in ("starts", "feature", "limit", "keep", "leaves")]
