"""Any filter or formatter block of datatrove as a stage: batch to Documents, block, and back.

For blocks of your own, for what `curate` has no stage for yet, and for comparing. It is slow: a Python object per row,
five to seven times the cost of working on columns, and most of datatrove's own rules are here as stages that are ten to
a hundred times as fast.

Block     the full name of a class, `datatrove.pipeline.filters.GopherQualityFilter`. It may come from any installed
          package. Running such a recipe runs the code of that package, and importing it does already: name none that
          you would not import. The recipe itself holds no code, so a block that wants a function is refused.
Document  id and text ('' for null), metadata from every column of strings, numbers and booleans, nulls left out;
          `lang` also as `language`. What a block writes into the metadata is not kept.
Paper     none; Penedo et al., datatrove, github.com/huggingface/datatrove
Reads     text                     large_string (n,), nulls allowed
          id                       string
          and what the block asks of the metadata, `url` for one
Writes    text                     as the block leaves it (C4QualityFilter takes lines out); null stays null
          datatrove_removed_chars  int32 (n,): characters taken away; null where the text is null
          datatrove_original       large_string (n,): the text as it was; only with `keep_original: true`
          datatrove_pass           bool (n,): the filter's answer; only for filters
          datatrove_reason         string: the reason it gives, else the name of the block; null if passed; only for filters
Rows      all kept, in order; the recipe's `select` decides
Differs   from a datatrove pipeline: the numbers that SamplerFilter and `keep_fraction` draw are hashes of (id, seed), and
          PIIFormatter begins with its first replacement in every row, so that the cut into batches changes nothing; a
          filter that drops a row leaves its text as it was; `exclusion_writer` is refused, as `_dropped/` has those rows
Fails     ConfigError for an unknown block or option, with the nearest name; for a class that is no filter or formatter;
          where datatrove or a library of the block is not installed
"""

import difflib
import importlib
import inspect
import os
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import ConfigError
from curate.stage import stage
from curate.stages.sample import uniform


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which block, with which options."""

    block: str  # full name of the class: datatrove.pipeline.filters.GopherQualityFilter
    options: dict[str, Any] = {}  # what the class takes, by name
    keep_original: bool = False  # keep the old text in `datatrove_original`
    seed: int = 0  # of the draws of blocks that draw

    def __post_init__(self) -> None:
        _check_options(find_block(self.block), self.options)


_distributions = cache(packages_distributions)  # reads the metadata of everything installed: 0.3 s
_HINT = "`datatrove.pipeline.filters.GopherQualityFilter` is one; `pip install 'curate[datatrove]'` brings datatrove"


@cache
def find_block(path: str) -> type[Any]:
    """The class of that name, a filter or a formatter."""
    module, _, name = path.rpartition(".")
    package = module.partition(".")[0]
    if package not in _distributions():
        what = (
            f"the package `{package}` is not installed" if module else f"`{path}` is no full name of a class"
        )
        raise ConfigError(f"{what}, in `block`", hint=_nearest(path))
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        raise ConfigError(f"cannot import `{module}`: {error}", hint=_nearest(path)) from None
    if found is None:
        raise ConfigError(f"unknown block `{name}` in `{module}`", hint=_nearest(path))
    if not (inspect.isclass(found) and issubclass(found, _kinds()) and not inspect.isabstract(found)):
        raise ConfigError(f"`{path}` is no filter and no formatter of datatrove", hint=_nearest(path))
    return found


def _kinds() -> tuple[type[Any], type[Any]]:
    from datatrove.pipeline.filters.base_filter import BaseFilter
    from datatrove.pipeline.formatters.base import BaseFormatter

    return BaseFilter, BaseFormatter


def is_filter(config: Config) -> bool:
    """Whether the block filters; otherwise it formats."""
    return issubclass(find_block(config.block), _kinds()[0])


def _nearest(path: str) -> str:
    if "datatrove" not in _distributions():
        return "`pip install 'curate[datatrove]'` brings datatrove"
    known = dict(_known_blocks())
    wanted = path.rpartition(".")[2].lower()
    near = difflib.get_close_matches(wanted, [name.lower() for name in known], 1)
    return next((f"did you mean `{known[name]}`?" for name in known if [name.lower()] == near), _HINT)


def _known_blocks() -> Iterator[tuple[str, str]]:
    """(name, full name) of datatrove's own filters and formatters."""
    for package in ("datatrove.pipeline.filters", "datatrove.pipeline.formatters"):
        module = importlib.import_module(package)
        for info in pkgutil.iter_modules(module.__path__):
            classes = vars(importlib.import_module(f"{package}.{info.name}")).items()
            for name, value in classes:
                if inspect.isclass(value) and issubclass(value, _kinds()) and not inspect.isabstract(value):
                    yield (
                        name,
                        f"{package}.{name}" if hasattr(module, name) else f"{package}.{info.name}.{name}",
                    )


def _check_options(block: type[Any], options: dict[str, Any]) -> None:
    takes = {
        name: parameter
        for name, parameter in inspect.signature(block).parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        and name != "exclusion_writer"
    }
    for name in options:
        if name not in takes:
            near = difflib.get_close_matches(name, takes, 1)
            hint = f"did you mean `{near[0]}`?" if near else f"it takes: {', '.join(takes) or 'none'}"
            raise ConfigError(f"`{block.__name__}` takes no option `{name}`", hint=hint)
    for name, parameter in takes.items():
        if parameter.default is parameter.empty and "Callable" in str(parameter.annotation):
            raise ConfigError(
                f"`{block.__name__}` wants a function (`{name}`), and a recipe holds no code",
                hint="write a stage in a Python file and give it with --stages",
            )
        if parameter.default is parameter.empty and name not in options:
            raise ConfigError(
                f"`{block.__name__}` wants the option `{name}`", hint=f"options: {{{name}: ...}}"
            )


def _writes(config: Config) -> dict[str, pa.DataType]:
    columns = {"text": pa.large_string(), "datatrove_removed_chars": pa.int32()}
    original = {"datatrove_original": pa.large_string()} if config.keep_original else {}
    verdict = {"datatrove_pass": pa.bool_(), "datatrove_reason": pa.string()} if is_filter(config) else {}
    return columns | original | verdict


def _libraries(config: Config) -> Sequence[str]:
    return sorted({"datatrove", *_distributions()[config.block.partition(".")[0]]})


def files(config: Config) -> list[str]:
    """Files that the options name, and the code of a block that is not datatrove's, whose version tells nothing."""
    named = [value for value in _strings(config.options) if os.path.isfile(value)]
    block = find_block(config.block)
    if block.__module__.partition(".")[0] != "datatrove":
        named.append(inspect.getfile(block))
    return [os.path.abspath(file) for file in named]


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _strings(one)


def load(config: Config, store: Path) -> Any:
    """The block, once per worker."""
    try:
        return find_block(config.block)(**config.options)
    except ImportError as error:
        raise ConfigError(f"a library of the block is missing: {error}", hint="`pip install` it") from None
    except (TypeError, ValueError, OSError) as error:
        what = f"`{config.block}` refuses its options: {error}"
        raise ConfigError(what, hint="see the block's own documentation") from error


@stage(
    "datatrove", version=1, config=Config, reads=["text", "id"], writes=_writes, load=load, libraries=_libraries,
    files=files,
)  # fmt: skip
def datatrove(batch: pa.RecordBatch, config: Config, block: Any) -> pa.RecordBatch:
    """Run the block over every row, its answer and its text written into columns."""
    from datatrove.data import Document

    names = [field.name for field in batch.schema if _is_metadata(field)]
    metadata = batch.select(names).to_pylist() if names else [{}] * batch.num_rows
    ids, texts = batch["id"].to_pylist(), batch["text"].to_pylist()
    filters = is_filter(config)
    rewind, answers, new = _rewinder(block, batch["id"], config.seed), [], []
    for row, (values, text) in enumerate(zip(metadata, texts, strict=True)):
        rewind(row)
        if not filters:
            new.append(None if text is None else block.format(text))
            continue
        document = Document(text=text or "", id=ids[row] or "", metadata=_of_datatrove(values))
        answers.append(_answer(block, document))
        new.append(None if text is None else document.text if answers[-1][0] else text)
    return _with_columns(batch, config, pa.array(new, pa.large_string()), answers)


def _is_metadata(field: pa.Field) -> bool:
    kind = field.type
    plain = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_boolean,
    )
    return field.name not in ("id", "text") and any(is_one(kind) for is_one in plain)


def _of_datatrove(values: dict[str, Any]) -> dict[str, Any]:
    known = {name: value for name, value in values.items() if value is not None}
    return ({"language": known["lang"]} if "lang" in known else {}) | known


def _answer(block: Any, document: Any) -> tuple[bool, str | None]:
    answer = block.filter_batch([document])[0]
    passed, reason = answer if isinstance(answer, tuple) else (answer, None)
    return bool(passed), None if passed else reason or type(block).__name__


def _rewinder(block: Any, ids: pa.Array, seed: int) -> Callable[[int], None]:
    """What brings a block back to its beginning before each row: its draws, and where it stands in a round."""
    draws = uniform(ids, "datatrove", seed)
    rounds = [part for part in vars(block).values() if hasattr(part, "_replace_i")]

    def rewind(row: int) -> None:
        if hasattr(block, "uniform"):
            block.uniform = lambda: draws[row]
        for part in rounds:
            part._replace_i = 0

    return rewind


def _with_columns(
    batch: pa.RecordBatch, config: Config, new: pa.Array, answers: list[tuple[bool, str | None]]
) -> pa.RecordBatch:
    old = batch["text"].cast(pa.large_string())
    batch = batch.set_column(batch.schema.get_field_index("text"), "text", new)
    removed = pc.subtract(pc.utf8_length(old), pc.utf8_length(new)).cast(pa.int32())
    batch = batch.append_column("datatrove_removed_chars", removed)
    if config.keep_original:
        batch = batch.append_column("datatrove_original", old)
    if not is_filter(config):
        return batch
    batch = batch.append_column("datatrove_pass", pa.array([passed for passed, _ in answers], pa.bool_()))
    return batch.append_column("datatrove_reason", pa.array([reason for _, reason in answers], pa.string()))
