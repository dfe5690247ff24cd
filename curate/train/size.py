"""One dial: a name from 1m to 1b stands for a model's shape and for what trains well with it.

The name tells the parameters with the vocabulary in the last column; `parameters` counts them for any. 135m and 360m
have the shapes of SmolLM2, 1b that of TinyLlama; 1m is the smallest at which two corpora were told apart honestly here
(0.72M parameters at a vocabulary of 1,024, 2,000 steps and 3 tokens per parameter or more).
"""

import math
from typing import NamedTuple

from curate.errors import ConfigError


class Size(NamedTuple):
    width: int
    layers: int
    heads: int
    kv_heads: int
    context: int  # tokens
    batch: int  # sequences of a step
    lr: float  # peak
    vocabulary: int  # the name counts it


SIZES = {
    "1m": Size(128, 3, 4, 4, 128, 8, 2e-3, 1_024),
    "3m": Size(192, 5, 6, 6, 256, 16, 2e-3, 2_048),
    "7m": Size(256, 7, 4, 4, 256, 16, 2e-3, 4_096),
    "15m": Size(384, 7, 6, 6, 512, 32, 1.5e-3, 4_096),
    "30m": Size(512, 8, 8, 8, 512, 64, 1.5e-3, 8_192),
    "60m": Size(640, 10, 10, 10, 1_024, 64, 1e-3, 16_384),
    "135m": Size(576, 30, 9, 3, 1_024, 128, 1e-3, 49_152),
    "360m": Size(960, 32, 15, 5, 2_048, 128, 6e-4, 49_152),
    "1b": Size(2_048, 22, 32, 4, 2_048, 256, 4e-4, 49_152),
}
TOKENS_PER_PARAMETER = 20  # the budget where none is given (Hoffmann et al. 2022)
HONEST_STEPS, HONEST_TOKENS_PER_PARAMETER = 2_000, 3  # below, the sign of a difference may be wrong


def find(name: str) -> Size:
    """The size of a name; ConfigError naming all."""
    try:
        return SIZES[name.lower()]
    except KeyError:
        raise ConfigError(f"no size `{name}`", hint=f"sizes: {', '.join(SIZES)}") from None


def nearest(parameters: int) -> str:
    """Name of the size that is nearest in parameters, by their ratio."""
    return min(SIZES, key=lambda name: abs(math.log(parameters / _own_parameters(SIZES[name]))))


def intermediate(width: int) -> int:
    """Width of the feed-forward layers: 8/3 of the model's, rounded up to whole lanes."""
    lanes = 64 if width >= 512 else 8
    return -(-8 * width // (3 * lanes)) * lanes


def parameters(*shape: int) -> int:
    """Parameters of a decoder with tied embeddings, grouped queries and gated feed-forward layers.

    `shape`: width, layers, heads, kv heads, width of the feed-forward layers, vocabulary.
    """
    width, layers, heads, kv_heads, inner, vocabulary = shape
    attention = 2 * width * width + 2 * width * (width // heads) * kv_heads
    return vocabulary * width + layers * (attention + 3 * width * inner + 2 * width) + width


def flops_per_token(all_parameters: int, layers: int, width: int, context: int) -> int:
    """Forward and backward: 6 per parameter (tied embeddings count once, as the output layer), and attention.

    Attention as if every token saw the whole context (Chowdhery et al. 2022), which is how MFU is usually told.
    """
    return 6 * all_parameters + 12 * layers * width * context


def _own_parameters(size: Size) -> int:
    inner = intermediate(size.width)
    return parameters(size.width, size.layers, size.heads, size.kv_heads, inner, size.vocabulary)
