"""The switches on lines that `c4_quality` and `c4_lines` share. Both read the raw text, so both must be set alike."""

from typing import TYPE_CHECKING

import msgspec

from curate.errors import ConfigError

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
