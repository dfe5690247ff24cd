"""What `c4_quality` and `c4_lines` share: switches on lines (both read the raw text, so both must be set alike)."""

from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.errors import ConfigError
from curate.schema import text_buffers
from curate.stages._words import tokenizer, without_spaces

if TYPE_CHECKING:
    from curate.kernels.c4 import LineRules


def check_lines(config: msgspec.Struct) -> None:
    """Refuse negative numbers."""
    for field in ("min_words_per_line", "max_word_length"):
        if getattr(config, field) < 0:
            raise ConfigError(f"`{field}` must be 0 or more", hint=f"`{field}: 0` turns it off")


def line_rules(config: msgspec.Struct) -> "LineRules":
    """The switches, as the kernel takes them."""
    from curate.kernels.c4 import LineRules  # numba is loaded only where it runs

    return LineRules(*(getattr(config, field) for field in LineRules._fields))


def unreadable(texts: pa.Array, config: msgspec.Struct) -> npt.NDArray[np.bool_]:
    """Rows, (n,), of which the switches would leave nothing: they ask for spaces and Latin marks.

    None with `words: datatrove`, which asks nothing of scripts.
    """
    names = ("filter_no_terminal_punct", "min_words_per_line", "max_word_length")
    if config.words == "datatrove" or not any(getattr(config, name) for name in names):  # type: ignore[attr-defined]
        return np.zeros(len(texts), bool)
    return without_spaces(texts)


def datatrove_sentences(texts: pa.Array, config: msgspec.Struct, language: str) -> npt.NDArray[np.int64]:
    """Sentences, (n,), that datatrove's tokenizer finds in the lines left of each text, line by line."""
    from datatrove.utils.text import split_into_sentences

    from curate.kernels.c4 import edit_lines

    tokenizer(language)
    data, offsets, _ = edit_lines(*text_buffers(texts), line_rules(config), strip_rows=False)
    rows = (data[a:b].tobytes().decode() for a, b in pairwise(offsets))
    lines = (row.split("\n") if row else [] for row in rows)
    return np.array([sum(len(split_into_sentences(one, language)) for one in row) for row in lines], np.int64)
