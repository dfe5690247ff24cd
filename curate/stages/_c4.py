"""The switches on lines that `c4_quality` and `c4_lines` share. Both read the raw text, so both must be set alike."""

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.errors import ConfigError
from curate.stages._words import without_spaces

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
    """Rows, (n,), of which the switches would leave nothing: they ask for spaces and Latin marks."""
    names = ("filter_no_terminal_punct", "min_words_per_line", "max_word_length")
    if not any(getattr(config, name) for name in names):
        return np.zeros(len(texts), bool)
    return without_spaces(texts)
