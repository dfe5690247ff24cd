"""Keeps one of the rows whose URL is the same once its spelling is evened out.

Method  the URL in its normal form, then 128-bit xxh3 of its bytes, sorted out of core. The normal form has
          no scheme where it is http or https, any other in lower case
          the host in lower case, without a dot at its end; with `strip_www` without `www.` where a dot is left
          no port where it is the scheme's own (80, 443), none where nothing follows the colon
          no slashes at the end of the path
          no parameters named by `tracking`, no empty ones, no `?` without any
          no fragment, unless it begins with #! (pages that a script loads)
          percent-encoding in capitals, and only where it must be: %7E is ~, a space is %20, bytes beyond ASCII encoded
          no white space around it
        What stays as it is: the order of parameters, case in path and query, names of users, `index.html`, `..`, hosts
        beyond ASCII
Reads   url   string (n,), nulls allowed; `date` for `keep: newest`, `text` for `keep: longest`
Writes  url_dedup_cluster_size  int64 (n,), rows that had this URL, 1 and more; null where there is no URL
        url_dedup_cluster_id    string (n,), id of the row that was kept; null where there is no URL
Rows    drops all but one of a cluster: drop_reason `duplicate`, kept_id the survivor. `keep` chooses: newest date (then
        first), first in input order, or longest text. Rows without a URL are kept
Differs FineWeb's ablation of URL dedup (arXiv:2406.17557) left less good data than MinHash alone
Fails   ConfigError at plan when `url` is not there or no text; when `keep: newest` has no `date`, or one that is no text;
        for an empty entry of `tracking`
"""

from collections.abc import Mapping
from typing import Literal

import msgspec
import numpy as np
import pyarrow as pa

from curate.errors import ConfigError
from curate.schema import text_buffers
from curate.stage import Inputs, Out, Phase, Task, global_stage
from curate.stages.exact_dedup import HASH_KEY, check_date, digests, group, keep_winners, rank

NAME = "url_dedup"
TRACKING = (
    "utm_*", "gclid", "gclsrc", "dclid", "gbraid", "wbraid", "fbclid", "msclkid", "yclid", "twclid", "ttclid", "igshid",
    "li_fat_id", "mc_cid", "mc_eid", "mkt_tok", "_ga", "_gl", "_hsenc", "_hsmi", "vero_id", "oly_anon_id", "oly_enc_id",
)  # fmt: skip


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which URLs are one, and which row of a URL stays."""

    keep: Literal["newest", "first", "longest"] = "newest"  # which row of a cluster survives
    strip_www: bool = True  # www.example.com is example.com
    tracking: tuple[str, ...] = TRACKING  # parameters that go, in any case; `utm_*`: all that begin so

    def __post_init__(self) -> None:
        if any(not name.strip("*") for name in self.tracking):
            raise ConfigError(
                "`tracking` has an entry without a name", hint="`tracking: []` keeps every parameter"
            )


def columns_read(config: Config) -> list[str]:
    return ["url", *{"newest": ["date"], "longest": ["text"], "first": []}[config.keep]]


def check(config: Config, columns: Mapping[str, pa.DataType]) -> None:
    """Refuse columns that are no text."""
    if columns["url"] not in (pa.string(), pa.large_string()):
        raise ConfigError(
            f"`url` must be text, and it is {columns['url']}", hint="`input: {columns: {url: name_of_it}}`"
        )
    check_date(config.keep, columns)


def keys(urls: pa.Array, config: Config) -> pa.Array:
    """The normal form of each URL, large_binary (n,); null where there is nothing to compare."""
    from curate.kernels.url_normal import normal_urls  # numba is loaded only where it runs

    names = [name.lower() for name in config.tracking]
    data, offsets = normal_urls(*text_buffers(urls), names, config.strip_www)
    empty = np.diff(offsets) == 0
    valid = pa.array(~empty).buffers()[1]
    return pa.Array.from_buffers(
        pa.large_binary(), len(urls), [valid, pa.py_buffer(offsets), pa.py_buffer(data)]
    )


def hash_urls(task: Task, inputs: Inputs, out: Out, config: Config) -> Mapping[str, int]:
    """Per unit: hash, rank and place of each row with a URL, sorted by hash."""
    for batch in inputs.batches():
        high, low, valid = digests(keys(batch["url"], config))
        table = pa.table({
            "high": high, "low": low, "rank": rank(batch, config.keep), "order": batch["order"], "id": batch["id"],
        })  # fmt: skip
        out.write(table.filter(pa.array(valid)))
    return {}


def apply(task: Task, inputs: Inputs, out: Out, config: Config) -> Mapping[str, int]:
    """Per unit: keep winners and rows alone, drop the others."""
    keep_winners(inputs, out, NAME, lambda batch: keys(batch["url"], config).is_null())
    return {}


url_dedup = global_stage(
    NAME, version=1, config=Config, reads=columns_read, libraries=["xxhash"],
    writes={f"{NAME}_cluster_size": pa.int64(), f"{NAME}_cluster_id": pa.string()},
    phases=[Phase(hash_urls, "units", HASH_KEY), Phase(group, "ranges", ("order",)), Phase(apply, "units")],
    check=check,
)  # fmt: skip
