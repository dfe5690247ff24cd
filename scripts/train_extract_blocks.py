"""Train the trees of `extract`'s engine `blocks`: `python scripts/train_extract_blocks.py ../shared/data/html [--check]`.

Needs LightGBM (4.7.0 made the table that is here), which is no dependency of the project; one thread, so that a second
run writes the same bytes. A block's label is the share of its words that lie in a run of three words of the gold text;
its weight is its share of the page's main text, so that pages count alike. Without `--check` it writes
curate/stages/blocks.npz. With it, it writes nothing and prints token F1, precision and recall of five folds by domain
(no page is judged by trees that saw its domain; this figure counts) and of the trees fitted to all pages.

The table, the features and the words they look for are one whole, and part of the stage's version: when any of them
changes, train again, raise `version` of the stage `extract`, and write the table's new digest into
tests/stages/test_extract_blocks.py, which fails until then.
"""

import argparse
import collections
import html
import re
import statistics
import zlib
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from curate.stages import _blocks
from curate.stages.extract import decode

FILES = {"wcxb_pages_dev": 1.0, "article_extraction_benchmark_dev": 3.0}  # weight of a page
ROUNDS = 250
FOLDS = 5
PARAMETERS = {
    "objective": "cross_entropy", "num_leaves": 31, "learning_rate": 0.06, "min_data_in_leaf": 60, "lambda_l2": 5,
    "feature_fraction": 0.4, "bagging_fraction": 0.7, "bagging_freq": 1, "max_bin": 127,
    "seed": 0, "deterministic": True, "force_row_wise": True, "num_threads": 1, "verbose": -1,
}  # fmt: skip
WORD = re.compile(r"\w+")
OUT = Path(__file__).parents[1] / "curate" / "stages" / "blocks.npz"


class Page(NamedTuple):
    file: str
    fold: int
    gold: list[str]
    texts: list[str]  # of each block
    words: list[list[str]]
    features: npt.NDArray[np.float32]
    labels: npt.NDArray[np.float64]
    weights: npt.NDArray[np.float64]


def read(folder: Path) -> list[Page]:
    return [
        page(file, row)
        for file in FILES
        for row in pq.read_table(
            folder / f"{file}.parquet", columns=["id", "url", "html", "text"]
        ).to_pylist()
    ]


def page(file: str, row: dict[str, Any]) -> Page:
    texts, features = _blocks.read_blocks(decode(row["html"]))
    words = [WORD.findall(html.unescape(text).lower()) for text in texts]
    gold = WORD.findall(row["text"].lower())
    runs = {n: {tuple(gold[i : i + n]) for i in range(len(gold) - n + 1)} for n in (1, 2, 3)}
    lines = {tuple(WORD.findall(line)) for line in row["text"].lower().split("\n")}
    labels = np.array([label(block, runs, lines) for block in words])
    sizes = np.array([len(block) for block in words], np.float64)
    weights = np.minimum(sizes / max(100.0, float(sizes @ labels) if len(words) else 0), 0.3) * FILES[file]
    domain = ".".join((urlsplit(row["url"] or "").netloc or row["id"]).split(".")[-2:])
    return Page(file, zlib.crc32(domain.encode()) % FOLDS, gold, texts, words, features, labels, weights)


def label(words: list[str], runs: dict[int, set[tuple[str, ...]]], lines: set[tuple[str, ...]]) -> float:
    if len(words) < 3:
        key = tuple(words)
        return 0.0 if not words else 1.0 if key in lines else 0.5 * (key in runs[len(words)])
    covered = np.zeros(len(words), np.bool_)
    for i in range(len(words) - 2):
        if tuple(words[i : i + 3]) in runs[3]:
            covered[i : i + 3] = True
    return float(covered.mean())


def fit(pages: list[Page]) -> Any:
    import lightgbm  # type: ignore[import-not-found]

    some = [page for page in pages if page.texts]
    weights = np.concatenate([page.weights for page in some])
    data = lightgbm.Dataset(
        np.vstack([page.features for page in some]),
        np.concatenate([page.labels for page in some]),
        weight=weights / weights.mean(),
        params=PARAMETERS,
    )
    return lightgbm.train(PARAMETERS, data, ROUNDS)


def flat(model: Any) -> dict[str, npt.NDArray[Any]]:
    """The trees one after the other, as `block_features.judge` takes them."""
    trees = [tree["tree_structure"] for tree in model.dump_model()["tree_info"]]
    nodes: list[tuple[int, np.float32, int]] = []
    starts = [0]
    leaves = np.zeros((len(trees), 32), np.float32)
    for i, tree in enumerate(trees):
        values: list[float] = []
        add(tree, nodes, values)
        starts.append(len(nodes))
        leaves[i, : len(values)] = values
    feature, limit, keep = zip(*nodes, strict=True)
    return {
        "starts": np.array(starts, np.int32),
        "feature": np.array(feature, np.int32),
        "limit": np.array(limit, np.float32),
        "keep": np.array(keep, np.uint32),
        "leaves": leaves,
    }


def add(tree: dict[str, Any], nodes: list[tuple[int, np.float32, int]], leaves: list[float]) -> None:
    """Nodes and leaves of a tree, the leaves from left to right."""
    if "leaf_value" in tree:
        leaves.append(tree["leaf_value"])
        return
    first = len(leaves)
    add(tree["left_child"], nodes, leaves)
    on_left = (1 << len(leaves)) - (1 << first)
    limit = np.float32(tree["threshold"])
    if float(limit) > tree["threshold"]:  # features are float32: the next one below asks the same of them
        limit = np.nextafter(limit, np.float32(-np.inf))
    nodes.append((tree["split_feature"], limit, 0xFFFFFFFF ^ on_left))
    add(tree["right_child"], nodes, leaves)


def score(page: Page, kept: list[int]) -> tuple[float, float, float]:
    """F1, precision and recall of the words, with their counts."""
    found = collections.Counter(word for i in kept for word in page.words[i])
    gold = collections.Counter(page.gold)
    both, empty = (found & gold).total(), float(not found and not gold)
    return (
        2 * both / (found.total() + gold.total() or 1) or empty,
        both / (found.total() or 1) or empty,
        both / (gold.total() or 1) or empty,
    )


def judged(model: Any, page: Page) -> tuple[float, float, float]:
    chance = model.predict(page.features) if page.texts else np.zeros(0)
    return score(page, _blocks.choose(chance, page.texts))


def report(name: str, pages: list[Page], scores: list[tuple[float, float, float]]) -> None:
    for file in FILES:
        own = [one for page, one in zip(pages, scores, strict=True) if page.file == file]
        for part in (own[:300], own) if len(own) > 300 else (own,):
            means = (statistics.mean(column) for column in zip(*part, strict=True))
            print(
                f"{name:10} {file} ({len(part)})  F1 {next(means):.4f}  P {next(means):.4f}  R {next(means):.4f}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--check", action="store_true", help="five folds by domain; writes nothing")
    given = parser.parse_args()
    pages = read(given.folder)
    model = fit(pages)
    if not given.check:
        np.savez_compressed(OUT, **flat(model))  # type: ignore[arg-type]
        print(f"{OUT}: {OUT.stat().st_size} bytes")
        return
    report("all pages", pages, [judged(model, page) for page in pages])
    folds = [fit([page for page in pages if page.fold != fold]) for fold in range(FOLDS)]
    report("by domain", pages, [judged(folds[page.fold], page) for page in pages])


if __name__ == "__main__":
    main()
