"""What minhash_dedup makes of a document: keys of its bands, digest, sets, rank; and the header that says how."""

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from curate.errors import DataError
from curate.schema import text_buffers
from curate.stages._minhash_walk import packed
from curate.stages.exact_dedup import date_key, digests

if TYPE_CHECKING:
    from curate.stages.minhash_dedup import Config

HEADER = b"minhash"  # its key in the metadata of signature files
WORST = np.int64(2**63 - 1)  # rank of what has no value
NO_SCOPE = np.uint64(0x5851F42D4C957F2D)  # hash of a null


class Highest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    highest: str  # column of numbers; null and NaN come last


class Novel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    max_novel_tokens: int  # distinct words that the dropped may have and the kept has not


@cache  # each table of records is asked for its header
def plan_of(config: "Config") -> tuple[int, int]:
    """(bands, rows). ConfigError where none reach `recall`."""
    if config.bands is not None and config.rows is not None:
        return config.bands, config.rows
    from curate.kernels.minhash import datasketch_plan, plan

    if config.scheme == "datasketch":
        return datasketch_plan(config.threshold, config.num_perm)
    return plan(config.threshold, config.recall, config.num_perm)


def header(config: "Config") -> dict[str, Any]:
    """What two signatures must have in common to be compared."""
    bands, rows = plan_of(config)
    return {
        "scheme": config.scheme, "seed": config.seed, "num_perm": config.num_perm, "bands": bands, "rows": rows,
        "ngram": config.ngram, "fold": sorted(config.fold),
    }  # fmt: skip


def index_header(config: "Config") -> dict[str, Any]:
    """What an index and a Config must have in common."""
    return {**header(config), "threshold": config.threshold, "scope": config.scope or ""}


def check_header(found: Mapping[bytes, bytes] | None, config: "Config") -> None:
    """DataError when signatures were made in another way than the Config says."""
    ours = msgspec.json.encode(header(config))
    theirs = (found or {}).get(HEADER, b"none")
    if theirs != ours:
        raise DataError(
            f"signatures were made as {theirs.decode()}, and asked for as {ours.decode()}",
            hint="give the stage the same options, or make the signatures anew",
        )


class Signed(msgspec.Struct):
    """n documents as the stage compares them."""

    bands: npt.NDArray[np.uint64]  # (n, bands) keys; the digest where a document is too short to shingle
    digests: npt.NDArray[np.uint64]  # (n,) of the words; of the bytes where there are none
    short: npt.NDArray[np.bool_]  # (n,)
    shingles: pa.Array  # packed sets; empty unless asked for
    words: pa.Array  # packed sets; empty unless novel ones are counted


class Signer:
    """Makes what a Config says of documents."""

    def __init__(self, config: "Config") -> None:
        from curate.kernels.minhash import permutations
        from curate.kernels.shingles import Normal

        self.config = config
        self._bands, self._rows = plan_of(config)
        drawn, used = permutations(config.scheme, config.num_perm, config.seed), self._bands * self._rows
        self._permutations = drawn._replace(a=drawn.a[:used], b=drawn.b[:used])
        self._normal = Normal(**{part: part in config.fold for part in Normal._fields})
        self._metadata = {HEADER: msgspec.json.encode(header(config))}

    def marked(self, table: pa.Table) -> pa.Table:
        """The table with the header of its signatures."""
        return table.replace_schema_metadata(self._metadata)

    def of(self, batch: pa.RecordBatch, sets: bool) -> Signed:
        """Keys of the documents of a batch without null texts; with `sets` what is compared as well."""
        from curate.kernels.minhash import band_keys, signatures, signatures_and_sets
        from curate.kernels.shingles import shingles

        config, column = self.config, batch.column("text")
        data, offsets = text_buffers(column)
        how = self._permutations, config.ngram, self._normal
        shingle_sets = word_sets = packed(np.empty(0, np.uint64), np.zeros(batch.num_rows + 1, np.int64))
        if sets:
            signed, found = signatures_and_sets(data, offsets, *how)
            shingle_sets = packed(*found)
        else:
            signed = signatures(data, offsets, *how)
        if sets and isinstance(config.verify, Novel):
            words = shingles(data, offsets, 1, self._normal)
            word_sets = packed(words.hashes, words.offsets)
        digest = signed.digests.copy()
        for row in np.flatnonzero(signed.words == 0):
            digest[row] = xxhash.xxh3_64_intdigest(data[offsets[row] : offsets[row + 1]].tobytes())
        keys, short = band_keys(signed.signatures, self._bands, self._rows), signed.words < config.ngram
        keys[short] = digest[short, None]
        return Signed(keys, digest, short, shingle_sets, word_sets)


def scoped(keys: npt.NDArray[np.uint64], batch: pa.RecordBatch, config: "Config") -> npt.NDArray[np.uint64]:
    """Keys that meet only within a value of `scope`; (n, bands)."""
    if not config.scope:
        return keys
    column = batch.column(config.scope)
    values = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    hashes, _, _ = digests(values.dictionary)
    index = values.indices
    of_row = np.append(hashes, NO_SCOPE)[pc.fill_null(index, len(hashes)).to_numpy()]
    return np.asarray(keys ^ of_row[:, None], np.uint64)


def rank(batch: pa.RecordBatch, config: "Config") -> npt.NDArray[np.int64]:
    """Smaller is better; ties go to the earlier row."""
    if config.keep == "first":
        return np.zeros(batch.num_rows, np.int64)
    if config.keep == "longest":
        return -np.diff(text_buffers(batch.column("text"))[1])
    if config.keep == "newest":
        return np.array([-date_key(d) for d in batch.column("date").to_pylist()], np.int64)
    assert isinstance(config.keep, Highest)
    column = batch.column(config.keep.highest)
    null = column.is_null().to_numpy(False)
    if pa.types.is_signed_integer(column.type):
        number = column.fill_null(0).to_numpy().astype(np.int64)
        return np.where(null, WORST, ~number)
    if column.type == pa.uint64():  # not all of them are floats; a null is as 0
        number = (column.fill_null(0).to_numpy(False) ^ np.uint64(1 << 63)).view(np.int64)
        return np.asarray(~number)
    value = column.cast(pa.float64()).fill_null(np.nan).to_numpy(False) + 0.0  # no negative zero
    bits = value.view(np.int64)
    return np.where(np.isnan(value), WORST, ~(bits ^ (bits >> 63 & WORST)))
