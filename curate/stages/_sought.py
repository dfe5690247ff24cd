"""What `decontaminate` seeks of evaluation items, as the arrays of an index that can be mapped."""

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.errors import DataError
from curate.schema import text_buffers
from curate.stages import _evaluation

if TYPE_CHECKING:
    from curate.kernels.contamination import Answers
    from curate.kernels.ngrams import Index, Words

FORMAT = 3  # of the arrays; a change leaves old ones unused
_REFERENCE_ROWS = 1024  # read at once

Hashes = npt.NDArray[np.uint64]
Parts = list[Hashes]
Longs = npt.NDArray[np.int64]


class Options(Protocol):
    """What the Config of the stage has."""

    @property
    def sets(self) -> tuple[_evaluation.Set, ...]: ...
    @property
    def method(self) -> str: ...
    @property
    def words(self) -> int: ...
    @property
    def shortest(self) -> int: ...
    @property
    def require_answer(self) -> bool: ...
    @property
    def reference(self) -> str: ...
    @property
    def max_reference_documents(self) -> int: ...


class Items(NamedTuple):
    """The evaluation items as they are sought."""

    ngrams: "Index"
    owners: npt.NDArray[np.int32]  # (sequences,) number of the item
    num_questions: int  # sequences before that are of questions, the others are passages
    answers: "Answers"  # by sequence
    names: pa.Array  # task/file:row


class Sought(NamedTuple):
    """A sequence of words, and what must stand beside it: one of several answers, or the question."""

    item: int
    words: Parts
    beside: Parts


def arrays(config: Options) -> dict[str, npt.NDArray[Any]]:
    """Every array of the index by name."""
    from curate.kernels import contamination, ngrams

    items = list(_evaluation.items(config.sets))
    sequences = _questions(config, items)
    num_questions = len(sequences)
    if config.method == "rarity":
        sequences += _passages(items)
    joined = _joined([one.words for one in sequences])
    index = ngrams.build(joined, config.words, config.shortest)
    if config.reference:
        common = _in_reference(config, index) > config.max_reference_documents
        index = ngrams.weighted(index, np.where(common, 0.0, index.weights))
    beside = _joined([[words] for one in sequences for words in one.beside])
    places = np.cumsum([0, *(len(one.beside) for one in sequences)])
    own = contamination.own_answers(joined, beside, places)
    answers = contamination.Answers(*beside, places, own)
    names = text_buffers(pa.array([f"{item.task}/{item.name}" for item in items], pa.large_string()))
    return {
        **index._asdict(),
        **{f"answer_{name}": part for name, part in answers._asdict().items()},
        "owners": np.array([one.item for one in sequences], np.int32),
        "num_questions": np.array([num_questions]),
        "name_data": names[0],
        "name_offsets": names[1],
    }


def from_arrays(parts: Mapping[str, npt.NDArray[Any]]) -> Items:
    """The items of the arrays, nothing copied."""
    from curate.kernels.contamination import Answers
    from curate.kernels.ngrams import Index

    names = [None, pa.py_buffer(parts["name_offsets"]), pa.py_buffer(parts["name_data"])]
    return Items(
        ngrams=Index(*(parts[name] for name in Index._fields)),
        owners=parts["owners"],
        num_questions=int(parts["num_questions"][0]),
        answers=Answers(*(parts[f"answer_{name}"] for name in Answers._fields)),
        names=pa.Array.from_buffers(pa.large_string(), len(parts["name_offsets"]) - 1, names),
    )


def count(config: Options) -> dict[str, dict[str, int]]:
    """By task: `items`, and how many of them are `unmatchable`. Only with a reference the index is made for it."""
    items = list(_evaluation.items(config.sets))
    if config.reference:
        index = from_arrays(arrays(config))
        sought = index.owners[: index.num_questions][index.ngrams.totals[: index.num_questions] > 0].tolist()
    else:
        long = (one for one in _questions(config, items) if sum(map(len, one.words)) >= config.shortest)
        sought = [one.item for one in long]
    matchable, out = set(sought), dict[str, dict[str, int]]()
    for i, item in enumerate(items):
        counts = out.setdefault(item.task, {"items": 0, "unmatchable": 0})
        counts["items"] += 1
        counts["unmatchable"] += i not in matchable
    return out


def _questions(config: Options, items: list[_evaluation.Item]) -> list[Sought]:
    questions = _words([item.question for item in items])
    answers = _words([text for item in items for text in item.answers])
    found, end = list[Sought](), 0
    for i, item in enumerate(items):
        begin, end = end, end + len(item.answers)
        found += _sought(config, i, _row(questions, i), [_row(answers, a) for a in range(begin, end)])
    return found


def _sought(config: Options, item: int, question: Hashes, answers: Parts) -> list[Sought]:
    """What the method seeks of an item."""
    answers = [answer for answer in answers if len(answer)]  # one of signs alone has no words to look for
    if config.method == "coverage":
        return [Sought(item, [question], [])]
    if config.method == "window":
        return [Sought(item, [question, answer], []) for answer in answers or [question[:0]]]
    if config.method == "datatrove":
        end = question[max(0, len(question) - config.words + 1) :]
        return [Sought(item, [end, answer], []) for answer in answers]
    short = 0 < len(question) < config.shortest  # then its answer is sought, with the question beside it
    if short and config.require_answer and any(len(answer) >= config.shortest for answer in answers):
        return [Sought(item, [answer], [question]) for answer in answers]
    return [Sought(item, [question], answers)]


def _passages(items: list[_evaluation.Item]) -> list[Sought]:
    """Each passage once, for the first item that has it."""
    first = {item.passage: i for i, item in reversed(list(enumerate(items))) if item.passage}
    words = _words(list(first))
    return [Sought(i, [_row(words, p)], []) for p, i in enumerate(first.values())]


def _words(texts: list[str]) -> "Words":
    from curate.kernels.ngrams import words

    return words(*text_buffers(pa.array(texts, pa.large_string())))


def _row(words: "Words", row: int) -> Hashes:
    return words.hashes[words.offsets[row] : words.offsets[row + 1]]


def _joined(rows: list[Parts]) -> "Words":
    from curate.kernels.ngrams import Words

    lengths = [sum(map(len, parts)) for parts in rows]
    pieces = [np.zeros(0, np.uint64), *(part for parts in rows for part in parts)]
    return Words(np.concatenate(pieces), np.cumsum([0, *lengths], dtype=np.int64))


def _in_reference(config: Options, index: "Index") -> Longs:
    """Documents of the reference that have each n-gram, int64 (grams,)."""
    from curate.kernels import ngrams

    counts = np.zeros(len(index.keys), np.int64)
    for file in _evaluation.files_of(config.reference):
        texts = (_text(row, f"{file}:{number}") for number, row in enumerate(_evaluation.rows(file), 1))
        while some := list(itertools.islice(texts, _REFERENCE_ROWS)):
            column = pa.array(some, pa.large_string())
            hits, places = ngrams.scan(*text_buffers(column), index, config.words, config.shortest)
            ngrams.count_rows(hits[:, ngrams.GRAM], places, counts)
    return counts


def _text(row: Mapping[str, Any], where: str) -> str:
    text = row.get("text")
    if isinstance(text, str):
        return text
    hint = "its documents are in a column `text`"
    raise DataError("a document of the reference has no text", where=where, hint=hint)
