"""How many tokens a document has, by a tokenizer folder or by characters.

Reads   text         large_string (n,), nulls allowed
Writes  token_count  int32 (n,); null where the text is null
Rows    all kept, in order
Differs without a tokenizer it is an estimate, the characters (code points) / `chars_per_token`, rounded up; special
        tokens are not counted
Fails   ConfigError for `chars_per_token` of 0 or less; ModelError for a tokenizer that is missing or unreadable
"""

from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import ConfigError
from curate.models.tokenizer import Tokenizer, tokenizer_file
from curate.stage import stage


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    tokenizer: str = ""  # folder with a tokenizer.json, or that file; without it tokens are estimated
    chars_per_token: float = 4.0  # characters that make a token, where there is no tokenizer

    def __post_init__(self) -> None:
        if not 0 < self.chars_per_token < float("inf"):
            raise ConfigError("`chars_per_token` must be above 0", hint="4.0 suits English")


def load(config: Config, store: Path) -> Tokenizer | None:
    """The tokenizer, once per worker; None where tokens are estimated."""
    return Tokenizer(config.tokenizer) if config.tokenizer else None


def _files(config: Config) -> list[str]:
    return [str(tokenizer_file(config.tokenizer))] if config.tokenizer else []


@stage(
    "token_count",
    version=1,
    config=Config,
    reads=["text"],
    writes={"token_count": pa.int32()},
    load=load,
    files=_files,
    libraries=["tokenizers"],
)
def token_count(batch: pa.RecordBatch, config: Config, tokenizer: Tokenizer | None = None) -> pa.RecordBatch:
    """Add `token_count`."""
    text = batch["text"]
    if tokenizer is None:
        chars = pc.utf8_length(text).cast(pa.float64())
        counts = pc.ceil(pc.divide(chars, config.chars_per_token)).cast(pa.int32())
    else:
        is_null = text.is_null().to_numpy(zero_copy_only=False)
        found = tokenizer.counts([t or "" for t in text.to_pylist()])
        counts = pa.array(np.array(found, np.int32), mask=is_null)
    return batch.append_column("token_count", counts)
