"""Evaluation sets: files of items, each a question, its answers and the passage that it asks about.

An item that cannot be read is an error: one that is passed over would let its copies through (datatrove logs it and goes
on; dolma wrote empty attributes, its issues 150, 174, 218).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from curate.errors import ConfigError, DataError
from curate.io.sources import BrokenStream, chunks, compression, decompressed, open_source

# What the columns are called in common sets, the most telling name first.
QUESTIONS = (
    "question", "query", "problem", "prompt", "sentence_good", "goal", "ctx", "context", "instruction", "input", "text",
)  # fmt: skip
ANSWERS = ("answers", "answer", "continuation", "canonical_solution", "solution", "target", "output")
CHOICES = ("choices", "options", "endings")
GOLDS = ("gold", "answerKey", "label", "answer")
PASSAGES = ("passage", "support", "context", "article", "story", "paragraph")
NONE = "none"
FORMATS = (".jsonl", ".jsonl.zst", ".jsonl.gz", ".parquet")

_LABELS = re.compile(r"\A\s*(Question|Q):\s*|\s*\n\s*(Answer|A):\s*\Z")


class Set(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One evaluation set; columns that are not named are guessed."""

    path: str  # file (.jsonl, .jsonl.zst, .jsonl.gz, .parquet), or folder of such files
    task: str = ""  # name in reports; without it the column `task`, else the file's, folders of the set first
    question: str = ""  # column of the question
    answer: str = (
        ""  # column of the answer, the answers, or the number or letter of the right choice; `none` for none
    )
    passage: str = ""  # column of the passage that the question is about; `none` for none


class Item(NamedTuple):
    """One test item."""

    task: str
    name: str  # file:row
    question: str
    answers: list[str]  # any of them
    passage: str


def files_of(path: str) -> list[Path]:
    """The files of a set, sorted. ConfigError where there are none."""
    place = Path(path)
    if place.is_dir():
        found = sorted(p for p in place.rglob("*") if p.is_file() and p.name.lower().endswith(FORMATS))
    else:
        found = [place] if place.is_file() and place.name.lower().endswith(FORMATS) else []
    if not found:
        what = "no file of an evaluation set" if place.exists() else "no such evaluation set"
        raise ConfigError(
            what, where=path, hint=f"a set is a file, or a folder of files: {', '.join(FORMATS)}"
        )
    return found


def items(sets: Sequence[Set]) -> Iterator[Item]:
    """All items. DataError, with file and row, at the first that cannot be read; for a file without any, too."""
    for one in sets:
        for file in files_of(one.path):
            empty = True
            for number, row in enumerate(rows(file), 1):
                empty = False
                yield _item(one, file, number, row)
            if empty:
                raise DataError("the evaluation set holds no item", where=str(file), hint="take it out")


def rows(file: Path) -> Iterator[Mapping[str, Any]]:
    """The rows of a JSON Lines or Parquet file. DataError where it is neither."""
    if file.name.lower().endswith(".parquet"):
        yield from _parquet(file)
        return
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    for number, line in enumerate(_lines(file), 1):
        try:
            if line.removeprefix(b"\xef\xbb\xbf").strip():
                yield decode(line.removeprefix(b"\xef\xbb\xbf"))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise DataError(
                f"an item that is no JSON object: {error}", where=f"{file}:{number}", hint="one object a line"
            ) from None


def _lines(file: Path) -> Iterator[bytes]:
    rest = b""
    try:
        with open_source(str(file)) as source:
            kind = compression(file.name)
            for piece in decompressed(source, kind) if kind else chunks(source, 0):
                *lines, rest = (rest + piece).split(b"\n")
                yield from lines
    except BrokenStream as error:
        raise DataError(f"cannot unpack the evaluation set: {error}", where=str(file)) from None
    yield rest


def _parquet(file: Path) -> Iterator[Mapping[str, Any]]:
    import pyarrow.parquet as pq

    try:
        for batch in pq.ParquetFile(file).iter_batches(1024, use_threads=False):
            yield from batch.to_pylist()
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"cannot read the evaluation set: {error}", where=str(file)) from None


def _item(one: Set, file: Path, number: int, row: Mapping[str, Any]) -> Item:
    where = f"{file}:{number}"
    column = _column(one.question, QUESTIONS, "question", row, where)
    if not column:
        hint = f"`question:` names its column; the row has {', '.join(row)}"
        raise DataError("no column of an item's question is known", where=where, hint=hint)
    question = row[column]
    if not isinstance(question, str) or not question.strip():
        hint = "mend or remove the item, or name another column with `question:`"
        raise DataError(f"the item's question, `{column}`, is {question!r}, no text", where=where, hint=hint)
    passage = _passage(one, row, column, where)
    before, mark, asked = question.rpartition("\nQuestion:")
    if mark:
        passage, question = f"{passage}\n{before}".strip(), asked
    question = _LABELS.sub("", question.strip())
    task = one.task or row.get("task")
    task = task if isinstance(task, str) and task else _task_of(file, Path(one.path))
    return Item(task, f"{file.name}:{number}", question, _answers(one, row, column, where), passage)


def _task_of(file: Path, place: Path) -> str:
    """The file's name, after the folders it lies in within the set: test.jsonl of two tasks are two."""
    inside = file.relative_to(place) if file != place else Path(file.name)
    return (inside.parent / file.name.split(".")[0]).as_posix()


def _column(given: str, known: Sequence[str], what: str, row: Mapping[str, Any], where: str) -> str:
    """The column named, or the first of the known ones that the row has; "" where there is none."""
    if given == NONE:
        return ""
    if given and given not in row:
        raise DataError(
            f"the item has no column `{given}`", where=where, hint=f"`{what}:` names one of {', '.join(row)}"
        )
    return given or next((name for name in known if name in row), "")


def _passage(one: Set, row: Mapping[str, Any], question: str, where: str) -> str:
    others = [name for name in PASSAGES if name != question]
    value = row.get(_column(one.passage, others, "passage", row, where))
    if value is not None and not isinstance(value, str):
        hint = "name another column with `passage:`, or `passage: none`"
        raise DataError(f"the item's passage is {value!r}, no text", where=where, hint=hint)
    return value or ""


def _answers(one: Set, row: Mapping[str, Any], question: str, where: str) -> list[str]:
    """All forms of the right answer; none where the set has no answers."""
    choices, labels = _choices(row, "" if one.answer else where)
    column = _column(
        one.answer, GOLDS if choices else [n for n in ANSWERS if n != question], "answer", row, where
    )
    if not column:
        return []
    value = row[column]
    if value is None:
        hint = "`answer: none` takes the set by its questions alone"
        raise DataError(f"the item's answer, `{column}`, is null", where=where, hint=hint)
    if choices and value not in choices:
        golds = value if isinstance(value, list) and value else [value]
        return [str(choices[_index(gold, labels, column, where)]) for gold in golds]
    if isinstance(value, dict):  # SQuAD: {text: [...], answer_start: [...]}
        value = value.get("text", value)
    forms = value if isinstance(value, list) else [value]
    if not all(isinstance(form, str | int | float) for form in forms):
        hint = "name another column with `answer:`, or `answer: none`"
        raise DataError(f"the item's answer, `{column}`, is {value!r}, no text", where=where, hint=hint)
    return [form for part in forms for form in _forms(part)]


def _choices(row: Mapping[str, Any], where: str) -> tuple[list[Any], list[str]]:
    """(texts or numbers, labels); none where there are none. DataError for an unknown shape, unless `where` is ""."""
    said = value = next((row[name] for name in CHOICES if name in row), None)
    labels: list[str] = []
    if isinstance(value, dict) and isinstance(
        value.get("text"), list
    ):  # ARC: {text: [...], label: [A, B, ...]}
        labels, value = value.get("label") or [], value["text"]
    elif isinstance(value, dict):  # MedQA: {A: ..., B: ...}
        labels, value = list(value), list(value.values())
    elif isinstance(value, list) and all(
        isinstance(one, dict) for one in value
    ):  # [{label: A, text: ...}, ...]
        labels, value = [one.get("label") for one in value], [one.get("text") for one in value]
    if not isinstance(value, list) or not all(isinstance(choice, str | int | float) for choice in value):
        if said is None or not where:
            return [], []
        hint = "`answer:` names a column with the answer's text, or `answer: none`"
        raise DataError(f"the item's choices are {said!r}, no list of texts", where=where, hint=hint)
    return value, labels or [chr(65 + i) for i in range(len(value))]


def _index(gold: Any, labels: list[str], column: str, where: str) -> int:
    """Which choice a number, a numeral or a letter means."""
    if gold in labels:
        return labels.index(gold)
    text = str(gold).strip()
    if text.isdecimal() and int(text) < len(labels):
        return int(text)
    hint = f"a choice is its text, its number from 0 or one of {', '.join(labels)}"
    raise DataError(
        f"the item's answer, `{column}`, is {gold!r}, none of its choices", where=where, hint=hint
    )


def _forms(value: Any) -> list[str]:
    """How an answer may be written: 51.0 as 51 too, true as yes, GSM8K's by its last line too."""
    if isinstance(value, bool):
        return ["yes", "true"] if value else ["no", "false"]
    if isinstance(value, float) and value.is_integer():
        return [str(value), str(int(value))]
    text = str(value)
    rationale, mark, final = text.rpartition("####")
    return [rationale, final] if mark else [text]
