"""`guards:` of a recipe: what may stop a run at the end of a pass, the bounds, and what is let through."""

from typing import Literal

import msgspec

from curate.errors import ConfigError

NAMES = (
    "empty", "max_drop", "max_drop_per_source", "max_drop_per_lang", "unchanged", "constant_score",
    "score_by_language", "score_by_length", "canaries",
)  # fmt: skip


class Guards(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """They decide no row: changing them makes nothing anew."""

    allow: tuple[str, ...] = ()  # names of guards that only warn
    unchanged: Literal["warn", "stop"] = "stop"  # where a stage changes nothing, unless `rare`
    max_language_eta2: float = 0.5  # largest share of a score (not lang_score) that languages explain
    max_length_spearman: float = (
        0.8  # largest rank correlation, in a language, of a score and the text's length
    )
    scores: tuple[str, ...] = ()  # further columns to be judged as scores where a select names them

    def __post_init__(self) -> None:
        check_names(self.allow)
        for key in ("max_language_eta2", "max_length_spearman"):
            if not 0 <= getattr(self, key) <= 1:
                raise ConfigError(f"`{key}` is from 0 to 1", hint="1 never stops a run")


def check_names(names: tuple[str, ...]) -> None:
    """ConfigError for a name that no guard has."""
    if unknown := [name for name in names if name not in NAMES]:
        raise ConfigError(f"no guard is called `{unknown[0]}`", hint=f"one of {', '.join(NAMES)}")
