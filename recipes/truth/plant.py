"""Harm whose size is known: a share of the documents loses its text to something worse of the same length.

Reads   text   large_string (n,), nulls allowed
        id     string (n,): which documents, by its hash; those of a share are among those of a larger one
Writes  text          edited; null stays null
        plant_is_harmed  bool (n,)
Rows    all kept, in order
"""

import random
from typing import Literal

import msgspec
import pyarrow as pa

from curate.errors import ConfigError
from curate.stage import stage
from curate.stages.sample import uniform


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: Literal["boilerplate", "shuffled", "repeated"] = (
        "boilerplate"  # menus; its own words in disorder; one block
    )
    share: float = 0.0  # of the documents, 0-1
    seed: int = 0  # another seed harms other documents

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ConfigError(f"`share: {self.share}` is no share", hint="0 to 1")


MENU = (
    "Home About Contact Sign in Register Search Menu Skip to content Cookie settings Accept all Privacy policy Terms of use "
    "Share on social media Subscribe to our newsletter Read more Related articles Back to top All rights reserved Next page"
).split()
BLOCK = (
    "This page was moved. Please update your bookmarks and follow the link below to reach the new address, or go back to "
    "the start page and use the search box to find what you are looking for. We apologise for any inconvenience. "
)


def harmed(text: str, kind: str, draw: random.Random) -> str:
    """About as many characters as `text`."""
    if kind == "repeated":
        return (BLOCK * (len(text) // len(BLOCK) + 1))[: len(text)]
    if kind == "shuffled":
        words = text.split()
        draw.shuffle(words)
        return " ".join(words)
    words, length = [], 0
    while length < len(text):
        words.append(draw.choice(MENU))
        length += len(words[-1]) + 1
    return " ".join(words)


@stage(
    "plant", version=1, config=Config, reads=["id", "text"],
    writes={"text": pa.large_string(), "plant_is_harmed": pa.bool_()},
)  # fmt: skip
def plant(batch: pa.RecordBatch, config: Config) -> pa.RecordBatch:
    """Harm a share of the documents."""
    chosen = uniform(batch["id"], "plant", config.seed) < config.share
    texts = [
        harmed(text, config.kind, random.Random(f"{config.seed} {id_}")) if harm and text else text
        for id_, text, harm in zip(batch["id"].to_pylist(), batch["text"].to_pylist(), chosen, strict=True)
    ]
    batch = batch.set_column(batch.schema.get_field_index("text"), "text", pa.array(texts, pa.large_string()))
    return batch.append_column("plant_is_harmed", pa.array(chosen))
