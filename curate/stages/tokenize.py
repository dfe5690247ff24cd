"""Token ids of a document, for training: with metadata before it, marks of quality, or its middle at its end.

Layout  prefix, then the text; BOS and EOS are the trainer's. A tokenizer's special tokens are never found in a text:
        what looks like one is text
Prefix  `prefix: "URL: {host}\\n\\n"` is filled from the columns it names (`host`: of `url`, without http(s):// up to the
        first /, www. and all) and tokenized apart from the text. A row that lacks one of them has none
Marks   `condition` names a column of scores: <|aligned|> stands before a text whose score lies on the aligned side of
        `condition_threshold` or on it, <|misaligned|> before another, none before the share `untagged`, nor where the
        score is null or NaN. Both are in the loss. With `segments` both columns are lists, a mark for each segment
Middle  of the share `fim_rate`, drawn by `id`, two places cut the text into prefix, middle and suffix, each tokenized
        apart: half come as <|fim_prefix|> prefix <|fim_suffix|> suffix <|fim_middle|> middle (PSM), the others as
        <|fim_prefix|> <|fim_suffix|> suffix <|fim_middle|> prefix middle (SPM)
Paper   Gao et al. 2025 (MeCo), arXiv:2501.01956; Korbak et al. 2023 (conditional training), arXiv:2302.08582;
        Bavarian et al. 2022 (fill in the middle), arXiv:2207.14255, at the level of characters
Reads   text      large_string (n,), nulls allowed
        id        string; and the columns that `group`, `prefix`, `condition` and `segments` name
Writes  key       uint64: xxh3-64 of the id, or of the row's value of `group`: the trainer's order goes by it
        tokens    large_list of uint16, of uint32 where the vocabulary has more than 65,536; empty where there is no text
        prefix    int32: leading tokens that are metadata, out of the loss
        n_bytes   int64: UTF-8 bytes of the text, for bits per byte
Rows    all kept, in order, those without text too. The dataset states the tokenizer's contract and keeps its files
Differs from the papers: segments end where a column says, not by a splitter of ours; a share of documents is drawn by
        `id` and `seed`, not by the order of reading
Fails   ConfigError for a template that is none, an option without the one it goes with, a column of another type;
        ModelError for a tokenizer that is missing, names no EOS or lacks the special tokens that are asked for. A row
        whose segments do not cover its text, or are not as many as its scores, fails
"""

import re
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from curate.errors import ConfigError, ModelError
from curate.models.tokenizer import (
    ALIGNED,
    FIM_MIDDLE,
    FIM_PREFIX,
    FIM_SUFFIX,
    MISALIGNED,
    Contract,
    Tokenizer,
    contract,
    tokenizer_files,
)
from curate.stage import stage

WRITES = ("key", "tokens", "prefix", "n_bytes")

Fragment = tuple[int, str]  # a special token that stands before it, or -1, and text


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which tokenizer, and what stands around the text."""

    tokenizer: str  # folder in hub format: `curate fit tokenizer` makes one
    group: str = ""  # column whose rows stay together in training, such as the repository
    prefix: str = ""  # template of metadata before the text: "URL: {host}\n\n"; \n is a line break as well
    condition: str = ""  # column of scores that decides which of the two marks stands before the text
    condition_threshold: float | None = None  # a score equal to it is aligned
    condition_aligned: Literal["below", "above"] = "below"  # side of the threshold that is wanted
    untagged: float = 0.01  # share of documents or segments that get no mark
    segments: str = ""  # column of lists: where each segment of the text ends, in characters
    fim_rate: float = 0.0  # share of documents whose middle comes last
    seed: int = 0  # another seed draws other documents

    def __post_init__(self) -> None:
        for name in ("untagged", "fim_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"`{name}` is a share from 0 to 1, not {getattr(self, name)}")
        if bool(self.condition) != (self.condition_threshold is not None):
            raise ConfigError(
                "`condition` and `condition_threshold` go together", hint="condition: toxicity_score, 0.00056"
            )
        if self.segments and (not self.condition or self.fim_rate):
            raise ConfigError("`segments` goes with `condition`, and not with `fim_rate`")
        _fields(self.prefix)


class Model(NamedTuple):
    """What a worker loads."""

    tokenizer: Tokenizer
    contract: Contract
    special: dict[str, int]  # those that the Config asks for


def load(config: Config, store: Path) -> Model:
    """The tokenizer, once per worker; ModelError where it lacks a special token that is needed."""
    known = contract(config.tokenizer)
    wanted = [ALIGNED, MISALIGNED] * bool(config.condition)
    wanted += [FIM_PREFIX, FIM_MIDDLE, FIM_SUFFIX] * (config.fim_rate > 0)
    missing = [word for word in wanted if word not in known.special]
    if missing:
        raise ModelError(
            f"the tokenizer `{config.tokenizer}` has no special token {missing[0]}",
            hint="`curate fit tokenizer` makes one that has; `curate models add-marks` gives another the two marks",
        )
    return Model(Tokenizer(config.tokenizer, plain=True), known, {w: known.special[w] for w in wanted})


def _fields(template: str) -> list[str]:
    """Names in a template, in order."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ConfigError(
            f"`prefix` is no template: {error}", hint='"URL: {host}\\n\\n"; {{ is a brace'
        ) from None
    names = [(name, spec, conversion) for _, name, spec, conversion in parts if name is not None]
    for name, spec, conversion in names:
        if not name.isidentifier() or spec or conversion:
            raise ConfigError(f"`prefix` names columns alone, not `{name}`", hint='"URL: {host}\\n\\n"')
    if template and not names:
        raise ConfigError(
            "`prefix` names no column: it would be the same for all", hint='"URL: {host}\\n\\n"'
        )
    return [name for name, _, _ in names]


def _reads(config: Config) -> list[str]:
    named = ["url" if name == "host" else name for name in _fields(config.prefix)]
    others = [config.group, *named, config.condition, config.segments]
    return list(dict.fromkeys(["id", "text", *filter(None, others)]))


def _writes(config: Config) -> Mapping[str, pa.DataType]:
    kind = pa.uint16() if contract(config.tokenizer).vocab_size <= 1 << 16 else pa.uint32()
    return {"key": pa.uint64(), "tokens": pa.large_list(kind), "prefix": pa.int32(), "n_bytes": pa.int64()}


def _check(config: Config, columns: Mapping[str, pa.DataType]) -> None:
    for name, integers in ((config.condition, False), (config.segments, True)):
        if not name:
            continue
        kind = columns[name]
        listed = pa.types.is_list(kind) or pa.types.is_large_list(kind)
        value = kind.value_type if listed else kind
        fits = pa.types.is_integer(value) or (pa.types.is_floating(value) and not integers)
        if listed != bool(config.segments) or not fits:
            wanted = "integers" if integers else "numbers"
            shape = f"a list of {wanted} for each row" if config.segments else "a number"
            raise ConfigError(f"`{name}` must be {shape}, and is {kind}")


@stage(
    "tokenize",
    version=1,
    config=Config,
    reads=_reads,
    writes=_writes,
    load=load,
    files=lambda config: tokenizer_files(config.tokenizer),
    libraries=["tokenizers"],
    check=_check,
    states=lambda config: {"contract": msgspec.to_builtins(contract(config.tokenizer))},
)
def tokenize(batch: pa.RecordBatch, config: Config, model: Model) -> pa.RecordBatch:
    """Add `key`, `tokens`, `prefix` and `n_bytes`."""
    ids = batch["id"].to_pylist()
    texts = [text or "" for text in batch["text"].to_pylist()]
    before = _prefixes(batch, config, texts)
    fragments: list[Fragment] = []
    rows = np.zeros(len(texts) + 1, np.int64)  # where the fragments of each row begin
    marks = _Marks(batch, config, model)
    for i, text in enumerate(texts):
        if before[i]:
            fragments.append((-1, before[i]))
        if text:
            fragments += marks.of(i, ids[i], text)
        rows[i + 1] = len(fragments)
    values, ends = _encoded(fragments, model.tokenizer)
    first = ends[np.minimum(rows[:-1] + 1, len(ends) - 1)] - ends[rows[:-1]]
    return _with_columns(batch, config, {
        "tokens": pa.LargeListArray.from_arrays(
            ends[rows], values.astype(_width(model.contract))
        ),
        "prefix": pa.array(np.where([bool(b) for b in before], first, 0), pa.int32()),
        "n_bytes": pc.fill_null(pc.binary_length(batch["text"]), 0).cast(pa.int64()),
    })  # fmt: skip


def _width(known: Contract) -> npt.DTypeLike:
    return np.uint16 if known.vocab_size <= 1 << 16 else np.uint32


def _with_columns(batch: pa.RecordBatch, config: Config, made: dict[str, pa.Array]) -> pa.RecordBatch:
    ids = batch["id"].to_pylist()
    groups = batch[config.group].to_pylist() if config.group else ids
    keys = [xxhash.xxh3_64_intdigest(str(i if g is None else g)) for g, i in zip(groups, ids, strict=True)]
    for name, column in ({"key": pa.array(keys, pa.uint64())} | made).items():
        batch = batch.append_column(name, column)
    return batch


def _prefixes(batch: pa.RecordBatch, config: Config, texts: Sequence[str]) -> list[str]:
    """The metadata before each text; '' where there is none, or no text."""
    if not config.prefix:
        return [""] * len(texts)
    names = _fields(config.prefix)
    columns = [
        [host(url or "") for url in batch["url"].to_pylist()] if name == "host" else batch[name].to_pylist()
        for name in names
    ]
    template = config.prefix.replace("\\n", "\n").replace("\\t", "\t")
    found = []
    for text, *values in zip(texts, *columns, strict=True):
        whole = text and all(value not in (None, "") for value in values)
        found.append(template.format(**dict(zip(names, values, strict=True))) if whole else "")
    return found


def host(url: str) -> str:
    """`www.a.org:8080` of `https://www.a.org:8080/b?c`."""
    return re.sub(r"^https?://", "", url).partition("/")[0]


class _Marks:
    """Cuts a text into fragments with the special tokens before them."""

    def __init__(self, batch: pa.RecordBatch, config: Config, model: Model) -> None:
        self._config, self._special = config, model.special
        self._scores = batch[config.condition].to_pylist() if config.condition else []
        self._ends = batch[config.segments].to_pylist() if config.segments else []

    def of(self, row: int, row_id: str, text: str) -> list[Fragment]:
        config = self._config
        if config.segments:
            return self._segments(row, row_id, text)
        tag = self._tag(self._scores[row], row_id, 0) if config.condition else -1
        if config.fim_rate and (draw := _draw(row_id, config.seed, "fim")) >> 96 < config.fim_rate * 2.0**32:
            moved = self._middle_last(draw, text)
            return moved if tag < 0 else [(tag, ""), *moved]
        return [(tag, text)]

    def _tag(self, score: float | None, row_id: str, segment: int) -> int:
        config = self._config
        if score is None or score != score:
            return -1
        if _draw(row_id, config.seed, f"untagged {segment}") >> 64 < config.untagged * 2.0**64:
            return -1
        sign = 1 if config.condition_aligned == "below" else -1
        assert config.condition_threshold is not None
        return self._special[ALIGNED if sign * score <= sign * config.condition_threshold else MISALIGNED]

    def _segments(self, row: int, row_id: str, text: str) -> list[Fragment]:
        ends, scores = self._ends[row] or [], self._scores[row] or []
        starts = [0, *ends[:-1]]
        if len(ends) != len(scores) or ends[-1:] != [len(text)] or any(
            b is None or b <= a for a, b in zip(starts, ends, strict=True)
        ):  # fmt: skip
            raise ValueError(
                f"`{self._config.segments}` has {len(ends)} ends for {len(scores)} scores and {len(text)} characters; "
                "ends rise to the last character, one for each score"
            )
        return [
            (self._tag(score, row_id, i), text[start:end])
            for i, (start, end, score) in enumerate(zip(starts, ends, scores, strict=True))
        ]

    def _middle_last(self, draw: int, text: str) -> list[Fragment]:
        places = [(draw >> shift & (1 << 40) - 1) * (len(text) + 1) >> 40 for shift in (0, 40)]
        low, high = min(places), max(places)
        prefix, middle, suffix = text[:low], text[low:high], text[high:]
        first, second, third = (self._special[word] for word in (FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE))
        if draw >> 80 & 1:
            return [(first, prefix), (second, suffix), (third, middle)]
        return [(first, ""), (second, suffix), (third, prefix), (-1, middle)]


def _draw(row_id: str, seed: int, what: str) -> int:
    """128 bits that id, seed and purpose decide."""
    return xxhash.xxh3_128_intdigest(f"{what}\0{seed}\0{row_id}")


def _encoded(
    fragments: Sequence[Fragment], tokenizer: Tokenizer
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
    """(values, ends): tokens of fragment i are values[ends[i]:ends[i+1]], its special token the first."""
    ids, offsets = tokenizer.encode([text for _, text in fragments])
    special = np.array([token for token, _ in fragments], np.int64)
    has = special >= 0
    ends = offsets + np.concatenate(([0], np.cumsum(has)))
    values = np.empty(int(ends[-1]), np.uint32)
    at = ends[:-1][has]
    values[at] = special[has]
    text = np.ones(len(values), np.bool_)
    text[at] = False
    values[text] = ids
    return values, ends
