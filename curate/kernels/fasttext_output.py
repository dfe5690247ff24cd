"""fastText's output layers over mean vectors: the tree of hierarchical softmax, softmax, one-vs-all.

Sums have a fixed order and exponentials are taken in double precision, so that CPUs agree on the float32.
"""

import numpy as np
from numba import njit

from curate.kernels.fasttext_rows import Doubles, Flags, Floats, Ints, Longs
from curate.kernels.lanes import looped

f32 = np.float32


@looped
def _dot(hidden: Floats, output: Floats, row: int) -> np.float32:
    """Four sums in a fixed order: faster than one, and no compiler's choice."""
    dim = hidden.shape[0]
    a, b, c, d = f32(0), f32(0), f32(0), f32(0)
    whole = dim - dim % 4
    for q in range(0, whole, 4):
        a += hidden[q] * output[row, q]
        b += hidden[q + 1] * output[row, q + 1]
        c += hidden[q + 2] * output[row, q + 2]
        d += hidden[q + 3] * output[row, q + 3]
    for q in range(whole, dim):
        a += hidden[q] * output[row, q]
    return (a + b) + (c + d)


@looped
def _right_turn(hidden: Floats, output: Floats, row: int) -> np.float32:
    return f32(1.0 / (1.0 + np.exp(-np.float64(_dot(hidden, output, row)))))


@looped
def _best_leaf(
    hidden: Floats, output: Floats, tree: Ints, nodes: Longs, scores: Doubles
) -> tuple[int, float]:
    """Most probable leaf of the Huffman tree and its score; the later of equals, as in the library.

    The library adds log(p + 1e-5) at each turn; the product of p + 1e-5 is the same score.
    """
    leaves = output.shape[0]
    leaf, reached = 2 * leaves - 2, 1.0
    while leaf >= leaves:  # the greedy path gives a bound that cuts most of the search
        p = np.float64(_right_turn(hidden, output, leaf - leaves))
        right = p > 0.5
        reached *= (p if right else 1.0 - p) + 1e-5
        leaf = tree[1 if right else 0, leaf]
    best, bound = -1, reached * 0.999  # a score may still grow by 1e-5 a level
    nodes[0], scores[0], depth = 2 * leaves - 2, 1.0, 1
    while depth > 0:
        depth -= 1
        node, score = nodes[depth], scores[depth]
        if score < bound:
            continue
        if node < leaves:
            best, bound = node, score
            continue
        p = np.float64(_right_turn(hidden, output, node - leaves))
        nodes[depth], scores[depth] = tree[1, node], score * (p + 1e-5)
        nodes[depth + 1], scores[depth + 1] = tree[0, node], score * (1.0 - p + 1e-5)
        depth += 2
    return (best, bound) if best >= 0 else (leaf, reached)


@njit(cache=True, error_model="numpy")
def predict_tree(hidden: Floats, known: Flags, output: Floats, tree: Ints) -> tuple[Ints, Floats]:
    """Hierarchical softmax: label int32 (n,), -1 where unknown, and probability float32 (n,).

    tree  int32 (2, 2 * labels - 1): left and right child; leaves come first, the root last
    """
    n = hidden.shape[0]
    labels, probabilities = np.full(n, -1, np.int32), np.zeros(n, np.float32)
    nodes, scores = np.zeros(tree.shape[1] + 1, np.int64), np.zeros(tree.shape[1] + 1, np.float64)
    for d in range(n):
        if known[d]:
            labels[d], probabilities[d] = _best_leaf(hidden[d], output, tree, nodes, scores)
    return labels, probabilities


@njit(cache=True, error_model="numpy")
def _softmax(scores: Floats) -> None:
    top = scores.max()
    total = f32(0)
    for c in range(scores.shape[0]):
        scores[c] = f32(np.exp(np.float64(scores[c] - top)))
        total += scores[c]
    for c in range(scores.shape[0]):
        scores[c] /= total


@njit(cache=True, error_model="numpy")
def _table_sigmoid(x: np.float32) -> np.float32:
    """The library reads its sigmoid from 512 steps between -8 and 8."""
    if x < f32(-8):
        return f32(0)
    if x > f32(8):
        return f32(1)
    step = np.int64((x + f32(8)) * f32(512) / f32(8) / f32(2))
    return f32(1.0 / (1.0 + np.exp(-np.float64(f32(step * 16) / f32(512) - f32(8)))))


@njit(cache=True, error_model="numpy")
def predict_flat(hidden: Floats, known: Flags, output: Floats, softmax: bool) -> tuple[Ints, Floats]:
    """Softmax or one-vs-all over every label: label int32 (n,), -1 where unknown, and probability float32 (n,)."""
    n, num_labels = hidden.shape[0], output.shape[0]
    labels, probabilities = np.full(n, -1, np.int32), np.zeros(n, np.float32)
    scores = np.zeros(num_labels, np.float32)
    for d in range(n):
        if not known[d]:
            continue
        for c in range(num_labels):
            scores[c] = _dot(hidden[d], output, c)
        if softmax:
            _softmax(scores)
        else:
            for c in range(num_labels):
                scores[c] = _table_sigmoid(scores[c])
        top = scores.max()
        logged = f32(np.log(np.float64(top) + 1e-5))
        for c in range(num_labels):  # the last of those whose logarithms are equal, as in the library
            if scores[c] >= top * f32(0.99999) and f32(np.log(np.float64(scores[c]) + 1e-5)) == logged:
                labels[d] = c
        probabilities[d] = f32(np.exp(np.float64(logged)))
    return labels, probabilities
