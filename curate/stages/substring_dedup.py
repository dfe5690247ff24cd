"""Cuts passages out of texts that stand in the corpus more than once: repeats of 100 bytes or 50 tokens and more.

Every window of `min_length` symbols that stands in the corpus before goes, whatever documents, units or files it stands
in; spans that touch are one. No window lies in two documents. Found exactly, out of core: nothing is decided by a hash of
bytes (tokens are told apart by their ids; words by 64 bits of hash).

Paper   Lee et al. 2022 (Deduplicating Training Data Makes Language Models Better), arXiv:2107.06499, section 4.1;
        minimizers in place of one suffix array over everything: Schleimer et al. 2003
Reads   text  large_string (n,), nulls allowed
Writes  text                           edited; null stays null
        substring_dedup_removed_chars  int32 (n,): characters taken away; null where null
        substring_dedup_removed_spans  int32 (n,): spans taken away; null where null
        substring_dedup_original       large_string (n,): the text as it was; only with `keep_original: true`
Rows    drops documents that a cut leaves with fewer than `min_chars` characters, with their old text: drop_reason
        `emptied` or `too_short`, drop_value the characters left. Others are kept, in order
Method  `keep: first`: in run order the first of equal windows stays where it stands, as far as no window that was there
        earlier overlaps it; a repeat that overlaps its own first (rules of dashes) leaves that one whole.
        `remove: all`: all equal windows go, as in the authors' code. Spans shrink until they cut no character, with
        `snap: words` no word. Cuts may bring passages together that repeat again: a second run finds those
Memory  `memory_mb` for the passages that one task compares, whatever the corpus; without it three tenths of what a
        worker's cap leaves. It changes no byte. Disk: a third of the text, and up to four times what may stand in it twice
Differs the paper counts 50 tokens of BPE; `unit: tokens` counts those of `tokenizer`, or words, between which white space
        is not compared
Fails   ConfigError for a length that is out of range, a tokenizer with `unit: bytes`, or `keep` with `remove`
"""

from collections.abc import Mapping
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import ConfigError
from curate.models.tokenizer import tokenizer_file
from curate.schema import text_buffers
from curate.stage import Inputs, Out, Phase, Task, global_stage
from curate.stages import _edits
from curate.stages._repeats import Search, passages, repeated_spans, with_symbols
from curate.stages._symbols import snap_to_words, symbols_of
from curate.stages.exact_dedup import Upcoming

NAME = "substring_dedup"
DEFAULT_LENGTH = {"bytes": 100, "tokens": 50}
LENGTHS = {
    "bytes": (16, 2000),
    "tokens": (2, 250),
}  # a passage takes up to twice as much, of 8 bytes per token
LEAST_MEMORY_MB = 32


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is a repeat, and what of it goes."""

    unit: Literal["bytes", "tokens"] = "bytes"  # what lengths are counted in
    min_length: int | None = None  # shortest repeat; without it 100 bytes, or 50 tokens
    tokenizer: str = ""  # for tokens: folder with a tokenizer.json, or that file; without it tokens are words
    keep: Literal["first"] | None = None  # the first of equal passages stays: so it is without `remove`
    remove: Literal["all"] | None = None  # the first of equal passages goes as well
    snap: Literal["characters", "words"] = "characters"  # what no cut goes through
    min_chars: int = 1  # documents left with fewer characters by a cut are dropped; 0 keeps empty ones too
    memory_mb: int | None = None  # for what one task compares; without it what a worker's cap allows
    keep_original: bool = False  # keep the old text in `substring_dedup_original`

    def __post_init__(self) -> None:
        low, high = LENGTHS[self.unit]
        if not low <= self.length <= high:
            raise ConfigError(
                f"`min_length` must be from {low} to {high} {self.unit}", hint="leave it out for the paper's"
            )
        if self.keep and self.remove:
            raise ConfigError(
                "`keep: first` and `remove: all` exclude each other", hint="leave one of them out"
            )
        if self.tokenizer and self.unit == "bytes":
            raise ConfigError("`tokenizer` needs `unit: tokens`", hint="leave it out, or count in tokens")
        if self.min_chars < 0:
            raise ConfigError("`min_chars` must not be below 0", hint="0 keeps every document")
        if self.memory_mb is not None and self.memory_mb < LEAST_MEMORY_MB:
            raise ConfigError(
                f"`memory_mb` must be {LEAST_MEMORY_MB} or more",
                hint="leave it out for what --worker-memory-mb allows",
            )

    @property
    def length(self) -> int:
        """Symbols of the shortest repeat."""
        return DEFAULT_LENGTH[self.unit] if self.min_length is None else self.min_length

    def search(self, memory: int = 0) -> Search:
        """What the search for equal windows needs; `memory` bytes where the recipe does not say."""
        symbol = np.uint8 if self.unit == "bytes" else np.uint64
        least = max(memory, LEAST_MEMORY_MB << 20)
        return Search(self.length, symbol, self.remove == "all", (self.memory_mb or 0) << 20 or least)


def sketch(task: Task, inputs: Inputs, out: Out, config: Config) -> Mapping[str, int]:
    """Per unit: its passages by hash, without their text."""
    search = config.search()
    for batch in inputs.batches():
        found = symbols_of(batch["text"], config.unit, config.tokenizer)
        table = passages(found.values, found.offsets, search.length, search.gram)
        order = batch["order"].take(table["row"].combine_chunks())
        out.write(table.select(["hash", "start", "count"]).append_column("order", order))
    return {}


def meet(task: Task, inputs: Inputs, out: Out, config: Config) -> Mapping[str, int]:
    """Per range of hashes: passages that are not alone with theirs."""
    met, before, written = 0, None, False  # the last passage of the table before, and whether it was written
    for table in inputs.merged():
        whole = table if before is None else pa.concat_tables([before, table])
        key = whole["hash"].to_numpy()
        same = key[1:] == key[:-1]
        several = np.append(False, same) | np.append(same, False)
        before, last = whole.slice(whole.num_rows - 1), bool(several[-1])
        several[0] &= not written
        written = last
        out.write(whole.filter(pa.array(several)))
        met += int(several.sum())
    return {"passages": met}


def collect(task: Task, inputs: Inputs, out: Out, config: Config) -> Mapping[str, int]:
    """Per unit: the text of its passages that are not alone."""
    records = Upcoming(inputs.merged())
    for batch in inputs.batches():
        orders = batch["order"].to_numpy()
        found = records.up_to(int(orders[-1])) if len(orders) else None
        if found is None:
            continue
        row = np.searchsorted(orders, found["order"].to_numpy())
        rows = np.unique(row)  # only these are read as tokens
        symbols = symbols_of(batch["text"].take(pa.array(rows)), config.unit, config.tokenizer)
        found = found.append_column("row", pa.array(np.searchsorted(rows, row)))
        for some in with_symbols(found, symbols.values, symbols.offsets, config.length):
            out.write(some.drop_columns("row"))
    return {}


def compare(task: Task, inputs: Inputs, out: Out, config: Config) -> Mapping[str, int]:
    """Per range of hashes: the spans that go."""
    num = 0
    for spans in repeated_spans(inputs.merged(), config.search(out.memory), out.scratch):
        out.write(spans)
        num += spans.num_rows
    return {"spans": num}


def apply(task: Task, inputs: Inputs, out: Out, config: Config) -> Mapping[str, int]:
    """Per unit: texts without the spans; documents that are left with too little are dropped."""
    records = Upcoming(inputs.merged())
    for batch in inputs.batches():
        orders = batch["order"].to_numpy()
        found = records.up_to(int(orders[-1])) if len(orders) else None
        new, num = without(batch["text"], orders, found, config)
        edited = _edits.edit(batch, NAME, new, {"removed_spans": num}, keep_original=config.keep_original)
        left = pc.fill_null(pc.utf8_length(new), 0).to_numpy()
        short = (num > 0) & (left < config.min_chars)
        out.keep(edited.filter(pa.array(~short)))
        left = left[short]
        out.drop(batch.filter(pa.array(short)), {
            "drop_reason": pa.array(np.where(left == 0, "emptied", "too_short"), pa.string()),
            "drop_value": pa.array(left, pa.float64()),
            "drop_threshold": pa.array(np.full(len(left), config.min_chars), pa.float64()),
        })  # fmt: skip
    return {}


def without(
    texts: pa.Array, orders: npt.NDArray[np.uint64], found: pa.Table | None, config: Config
) -> tuple[pa.Array, npt.NDArray[np.int64]]:
    """The texts without their spans (order, begin, end: symbols), and how many spans went from each, (n,)."""
    from curate.kernels import repeats
    from curate.kernels.strings import frozen

    if found is None:
        return texts.cast(pa.large_string()), np.zeros(len(texts), np.int64)
    row = np.searchsorted(orders, found["order"].to_numpy())
    begin, end = found["begin"].to_numpy().copy(), found["end"].to_numpy().copy()
    n = repeats.merge_spans(row, begin, end)
    row, begin, end = row[:n], begin[:n], end[:n]
    rows, place = np.unique(row, return_inverse=True)
    some = texts.take(pa.array(rows))
    if config.unit == "tokens":
        begin, end = symbols_of(some, config.unit, config.tokenizer).bytes_of(place, begin, end)
    if config.snap == "words":
        begin, end = snap_to_words(some, place, begin, end)
    data, offsets = text_buffers(texts)
    repeats.snap_to_characters(frozen(data), frozen(offsets), row, begin, end)
    out = np.empty(int(offsets[-1] - offsets[0]), np.uint8)
    cuts, num = np.empty(len(texts) + 1, np.int64), np.empty(len(texts), np.int64)
    repeats.cut(frozen(data), frozen(offsets), row, begin, end, out, cuts, num)
    return _edits.text_array(out[: cuts[-1]], cuts, texts), num


def _writes(config: Config) -> dict[str, pa.DataType]:
    columns = _edits.writes(NAME, keep_original=config.keep_original)
    return columns | {f"{NAME}_removed_spans": pa.int32()}


def _notes(config: Config) -> list[str]:
    what = "all of them go" if config.remove else "the first in run order stays"
    within = f"{config.memory_mb} MB" if config.memory_mb else "what --worker-memory-mb leaves"
    return [f"repeats of {config.length} {config.unit} and more: {what}; one task compares within {within}"]


substring_dedup = global_stage(
    NAME, version=1, config=Config, reads=["text"], writes=_writes,
    phases=[
        Phase(sketch, "units", ("hash",)), Phase(meet, "ranges", ("order", "start")),
        Phase(collect, "units", ("hash", "order", "start")), Phase(compare, "ranges", ("order", "begin")),
        Phase(apply, "units"),
    ],
    libraries=lambda config: ["tokenizers"] if config.tokenizer else [],
    files=lambda config: [str(tokenizer_file(config.tokenizer))] if config.tokenizer else [], notes=_notes,
)  # fmt: skip
