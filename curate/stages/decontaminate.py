"""Whether a document holds items of evaluation sets: questions with their answers, found by n-grams of words.

Method  rarity     (ours) an item is found where its question's n-grams that stand together, weighted by their rarity
                   ln((N + 1) / items of all N that have it), make more than `threshold` of all, and an answer stands
                   within `answer_window` words: whole if shorter than 2 n-grams (and once more than in the question
                   itself), else half of its n-grams. A question shorter than the n-gram is sought whole; one under
                   `min_words` beside its answer, which is sought in its place. Passages are sought by themselves, only counted
        coverage   as Tulu 3: n-grams of the document cover more than `threshold` of the question's words
        window     as GPT-3: each n-gram of a question with an answer is cut out with `window_chars` characters on either
                   side; a document fails when it falls into more than `max_pieces`
        datatrove  as its decontamination: any n-gram of an answer, or of the end of a question with an answer
Sets    .jsonl, .jsonl.zst, .jsonl.gz, .parquet, or folders of them. Columns are guessed from common names (question,
        query, prompt, context; answer, answers, continuation, canonical_solution; choices with gold, label; passage,
        support). What stands before a line `Question:` is a passage. 51.0 is sought as 51 too, the last line of a
        GSM8K answer by itself too
Words   letters and digits without case and accents; a letter of a script without spaces is a word; both sides alike
Paper   Lambert et al. 2024 (Tulu 3), arXiv:2411.15124, section 3.2; Brown et al. 2020 (GPT-3), arXiv:2005.14165,
        appendix C; the weights after allenai/decon
Reads   text                        large_string (n,), nulls allowed
Writes  decontaminate_pass          bool (n,)
        decontaminate_reason        string: question (of an item without answers), question_and_answer, coverage,
                                    ngram (datatrove), too_many_pieces, nothing_left (window); null where it passed
        decontaminate_value         float64: the best item's score, 0-1; n-grams found (datatrove); pieces (window)
        decontaminate_threshold     float64: what it may be at most
        decontaminate_task          string: task of the item found best; null where none was, so for the next two
        decontaminate_item          string: its file:row
        decontaminate_match         string: from the text, at most 1,000 characters of what stands there of it
        decontaminate_items         list<string>: task/file:row of all items found, the best first
        decontaminate_num_items     int32: how many; null where the text is null, so for the next two
        decontaminate_num_questions int32: questions found, with an answer or without
        decontaminate_num_passages  int32: passages found (rarity)
        text, decontaminate_removed_chars, decontaminate_num_pieces int32, decontaminate_original: with `method: window`
Rows    all kept, in order; the recipe's `select` decides. A second pass over what passed finds nothing (window: unless
        two pieces that a cut left make an n-gram together)
Differs an item of which too little can be sought (a question under `min_words` words; for the published methods one
        shorter than the n-gram; one of n-grams that are all in the reference) is unmatchable: `check` prints how many.
        A map stage does not know the corpus: GPT-3's rule on n-grams of more than 10 documents is asked of `reference`.
        window: GPT-3's documents become several, here one of the pieces that are left. Words are ours in all methods
Misses  a question reworded, translated, or with one word in n changed; items whose answer is far or written otherwise
Fails   ConfigError for a set that is not there or an option out of bounds; DataError, with file and row, for an item that
        cannot be read: no JSON, no such column, no question, a null answer, choices in no known shape
"""

import hashlib
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.errors import ConfigError
from curate.io.files import sha256_of
from curate.schema import text_buffers, verdict
from curate.stage import stage
from curate.stages import _edits, _lists, _sought
from curate.stages._evaluation import Set, files_of

Longs = npt.NDArray[np.int64]
METHODS = {  # words of an n-gram, threshold
    "rarity": (5, 0.8),  # the threshold of allenai/decon
    "coverage": (8, 0.5),
    "window": (13, 0.0),
    "datatrove": (12, 0.0),
}
MATCH_CHARS = 1000
WRITES = verdict("decontaminate") | {
    "decontaminate_task": pa.string(),
    "decontaminate_item": pa.string(),
    "decontaminate_match": pa.string(),
    "decontaminate_items": pa.list_(pa.string()),
    "decontaminate_num_items": pa.int32(),
    "decontaminate_num_questions": pa.int32(),
    "decontaminate_num_passages": pa.int32(),
}


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which sets, and what it takes to hold one of their items."""

    sets: tuple[Set, ...]  # evaluation sets: [{path: eval/arc.jsonl}, {path: eval/boolq, passage: text}]
    method: Literal["rarity", "coverage", "window", "datatrove"] = "rarity"  # how items are sought
    ngram: int | None = None  # words of an n-gram; by the method 5, 8, 13, 12
    threshold: float | None = None  # share of a question that may be there; .8 for rarity, .5 for coverage
    require_answer: bool = True  # an item counts only with an answer near its question; of rarity
    answer_window: int = 50  # words around the question in which an answer is sought
    min_words: int = 5  # fewest words of a question that is sought whole; of rarity
    reference: str = ""  # file or folder of ordinary text: n-grams that are common there do not count
    max_reference_documents: int = 10  # most documents of the reference that may have an n-gram that counts
    window_chars: int = 200  # characters cut on either side of an n-gram
    min_piece_chars: int = 200  # fewest characters of a piece that stays
    max_pieces: int = 10  # most pieces that a document may fall into
    keep_original: bool = False  # window: keep the old text in `decontaminate_original`

    def __post_init__(self) -> None:
        if not self.sets:
            raise ConfigError("no evaluation set was given,", hint="`sets: [{path: eval/arc.jsonl.zst}]`")
        if not 2 <= self.words <= 64:
            raise ConfigError("`ngram` must be from 2 to 64", hint="leave it out for the method's own")
        if not 0 <= self.share < 1:
            raise ConfigError(
                "`threshold` must be from 0 to below 1", hint="leave it out for the method's own"
            )
        for name in ("min_words", "max_pieces"):
            if getattr(self, name) < 1:
                raise ConfigError(f"`{name}` must be at least 1", hint="leave it out for the default")
        for name in ("answer_window", "max_reference_documents", "window_chars", "min_piece_chars"):
            if getattr(self, name) < 0:
                raise ConfigError(f"`{name}` must not be negative", hint="leave it out for the default")

    @property
    def words(self) -> int:
        """Words of an n-gram."""
        return METHODS[self.method][0] if self.ngram is None else self.ngram

    @property
    def share(self) -> float:
        """The threshold."""
        return METHODS[self.method][1] if self.threshold is None else self.threshold

    @property
    def shortest(self) -> int:
        """Fewest words of a sequence that is sought."""
        return min(self.min_words, self.words) if self.method == "rarity" else self.words


def list_files(config: Config) -> list[str]:
    """All files, part of the fingerprint."""
    places = [one.path for one in config.sets] + ([config.reference] if config.reference else [])
    return [str(file) for place in places for file in files_of(place)]


def load(config: Config, store: Path) -> _sought.Items:
    """The index, made once in the work store and mapped, so that the workers of a machine share its pages."""
    digest = hashlib.sha256(msgspec.json.encode([_sought.FORMAT, config]))
    for file in list_files(config):
        digest.update(Path(file).name.encode() + bytes.fromhex(sha256_of(file)))
    folder = store / "lists" / f"decontaminate-{digest.hexdigest()}"
    return _sought.from_arrays(_lists.mapped(folder, lambda: _sought.arrays(config)))


def notes(config: Config) -> list[str]:
    """By task: how many items there are, and how many of them cannot be found."""
    why = "too few words" + (", or words that are common in the reference" if config.reference else "")
    return [
        f"{task}: {counts['items']:,} items"
        + (f"; {counts['unmatchable']:,} of them cannot be found: {why}" if counts["unmatchable"] else "")
        for task, counts in _sought.count(config).items()
    ]


class Found(NamedTuple):
    """Items found, the best of each row first."""

    rows: Longs  # (f,) ascending
    of: Longs  # (f,) number of the sequence
    owners: npt.NDArray[np.int32]  # (f,) of the item
    scores: npt.NDArray[np.float64]  # (f,)
    begins: Longs  # (f,) bytes of the data
    ends: Longs


def _writes(config: Config) -> dict[str, pa.DataType]:
    if config.method != "window":
        return WRITES
    edit = _edits.writes("decontaminate", keep_original=config.keep_original)
    return edit | {"decontaminate_num_pieces": pa.int32()} | WRITES


@stage(
    "decontaminate", version=2, config=Config, reads=["text"], writes=_writes, load=load, files=list_files,
    notes=notes, rare=True,
)  # fmt: skip
def decontaminate(batch: pa.RecordBatch, config: Config, items: _sought.Items) -> pa.RecordBatch:
    """Add the verdict and the items found; cut them out with `method: window`."""
    from curate.kernels.ngrams import scan

    data, offsets = text_buffers(batch["text"])
    hits, places = scan(data, offsets, items.ngrams, config.words, config.shortest)
    if config.method in ("rarity", "coverage"):
        found, questions, passages = _judged(data, offsets, hits, places, config, items)
    else:
        found = _hit(hits, places, items)
        questions, passages = _distinct(found, batch.num_rows), np.zeros(batch.num_rows, np.int64)
    columns = _items_found(found, data, items, batch.num_rows)
    nulls = batch["text"].is_null().to_numpy(zero_copy_only=False)
    counts = {
        "num_items": _distinct(found, batch.num_rows),
        "num_questions": questions,
        "num_passages": passages,
    }
    if config.method == "window":
        batch, judged = _cut(batch, data, offsets, hits, places, config, items)
    else:
        judged = _verdict(found, config, items, batch.num_rows)
    for name, array in {**judged, **columns}.items():
        batch = batch.append_column(f"decontaminate_{name}", array)
    for name, values in counts.items():
        batch = batch.append_column(f"decontaminate_{name}", pa.array(values, pa.int32(), mask=nulls))
    return batch


def _judged(
    data: npt.NDArray[np.uint8],
    offsets: Longs,
    hits: Longs,
    places: Longs,
    config: Config,
    items: _sought.Items,
) -> tuple[Found, Longs, Longs]:
    """(items found, questions and passages by row)."""
    from curate.kernels import contamination as kernel

    coverage = config.method == "coverage"
    finds, scores = kernel.judge(hits, places, items.ngrams, config.words, config.share, coverage=coverage)
    pairs = np.unique(finds[:, kernel.ROW] << 32 | finds[:, kernel.SEQUENCE])
    rows, is_question = pairs >> 32, (pairs & 0xFFFFFFFF) < items.num_questions
    counts = [np.bincount(rows[some], minlength=len(offsets) - 1) for some in (is_question, ~is_question)]
    is_question = finds[:, kernel.SEQUENCE] < items.num_questions
    finds, scores = finds[is_question], scores[is_question]
    if config.require_answer and not coverage:
        near = kernel.answered(data, offsets, hits, finds, items.answers, config.words, config.answer_window)
        finds, scores = finds[near], scores[near]
    return _ordered(finds, scores, hits, items), counts[0], counts[1]


def _hit(hits: Longs, places: Longs, items: _sought.Items) -> Found:
    """Each item once for each of its n-grams in a row; all score alike."""
    from curate.kernels.ngrams import GRAM

    hit = np.flatnonzero(items.ngrams.weights[hits[:, GRAM]] > 0)
    rows = np.repeat(np.arange(len(places) - 1), np.diff(places))[hit]
    starts = items.ngrams.starts
    first, num = starts[hits[hit, GRAM]], np.diff(starts)[hits[hit, GRAM]]
    of = np.repeat(first - np.cumsum(num) + num, num) + np.arange(num.sum())
    which = np.repeat(hit, num)
    finds = np.column_stack([np.repeat(rows, num), items.ngrams.postings[of], which, which])
    return _ordered(finds.astype(np.int64).reshape(-1, 4), np.ones(len(finds)), hits, items)


def _ordered(finds: Longs, scores: npt.NDArray[np.float64], hits: Longs, items: _sought.Items) -> Found:
    from curate.kernels.contamination import FIRST, LAST, ROW, SEQUENCE
    from curate.kernels.ngrams import BEGIN, END

    owners = items.owners[finds[:, SEQUENCE]]
    order = np.lexsort((owners, -scores, finds[:, ROW]))
    finds = finds[order]
    return Found(
        finds[:, ROW], finds[:, SEQUENCE], owners[order], scores[order],
        hits[finds[:, FIRST], BEGIN], hits[finds[:, LAST], END],
    )  # fmt: skip


def _distinct(found: Found, num_rows: int) -> Longs:
    """Different items by row."""
    pairs = np.unique(found.rows << 32 | found.owners)
    return np.bincount(pairs >> 32, minlength=num_rows)


def _items_found(
    found: Found, data: npt.NDArray[np.uint8], items: _sought.Items, num_rows: int
) -> dict[str, pa.Array]:
    task, item, match = (np.full(num_rows, None, object) for _ in range(3))
    names = np.full(num_rows, None, object)
    rows, first = np.unique(found.rows, return_index=True)
    for row, begin, end in zip(rows, first, np.append(first, len(found.rows))[1:], strict=True):
        owners = list(dict.fromkeys(found.owners[begin:end].tolist()))
        names[row] = items.names.take(pa.array(owners)).to_pylist()
        task[row], _, item[row] = names[row][0].rpartition("/")
        held = data[found.begins[begin] : min(found.ends[begin], found.begins[begin] + 4 * MATCH_CHARS)]
        match[row] = held.tobytes().decode("utf-8", "ignore")[:MATCH_CHARS]
    return {
        "task": pa.array(task, pa.string()),
        "item": pa.array(item, pa.string()),
        "match": pa.array(match, pa.string()),
        "items": pa.array(names, pa.list_(pa.string())),
    }


def _verdict(found: Found, config: Config, items: _sought.Items, num_rows: int) -> dict[str, pa.Array]:
    rows, first, num = np.unique(found.rows, return_index=True, return_counts=True)
    failed = np.zeros(num_rows, np.bool_)
    failed[rows] = True
    reason, value = np.full(num_rows, None, object), np.zeros(num_rows)
    reason[rows] = {"coverage": "coverage", "datatrove": "ngram"}.get(config.method, "question")
    value[rows] = num if config.method == "datatrove" else found.scores[first]
    if config.method == "rarity" and config.require_answer:
        has_answers = np.diff(items.answers.places)[found.of[first]] > 0
        reason[rows[has_answers]] = "question_and_answer"
    return _verdict_columns(failed, reason, value, np.full(num_rows, config.share))


def _verdict_columns(
    failed: npt.NDArray[np.bool_], reason: npt.NDArray[np.object_], value: npt.NDArray[np.float64],
    threshold: npt.NDArray[np.float64],
) -> dict[str, pa.Array]:  # fmt: skip
    return {
        "pass": pa.array(~failed),
        "reason": pa.array(reason, pa.string()),
        "value": pa.array(value, mask=~failed),
        "threshold": pa.array(threshold, mask=~failed),
    }


def _cut(
    batch: pa.RecordBatch, data: npt.NDArray[np.uint8], offsets: Longs, hits: Longs, places: Longs, config: Config,
    items: _sought.Items,
) -> tuple[pa.RecordBatch, dict[str, pa.Array]]:  # fmt: skip
    """The batch with the n-grams cut out, and the verdict; a text that fails stays as it is."""
    from curate.kernels.ngrams import BEGIN, END, GRAM

    num_rows = batch.num_rows
    reason, value, threshold = np.full(num_rows, None, object), np.zeros(num_rows), np.zeros(num_rows)
    pieces, texts = np.ones(num_rows, np.int64), batch["text"].to_pylist()
    counts = items.ngrams.weights[hits[:, GRAM]] > 0
    for row in np.flatnonzero(np.diff(places)):
        mine = hits[places[row] : places[row + 1]][counts[places[row] : places[row + 1]]]
        left = _pieces(data[offsets[row] : offsets[row + 1]], mine[:, [BEGIN, END]] - offsets[row], config)
        stay = [piece for piece in left if len(piece) >= config.min_piece_chars or not len(mine)]
        pieces[row] = len(left)
        if len(left) > config.max_pieces:
            reason[row], value[row], threshold[row] = "too_many_pieces", len(left), config.max_pieces
        elif not stay:
            reason[row] = "nothing_left"
        elif len(mine):
            texts[row] = "\n\n".join(stay)
    failed = np.array([why is not None for why in reason], np.bool_)
    batch = _edits.edit(
        batch, "decontaminate", pa.array(texts, pa.large_string()), {"num_pieces": pieces},
        keep_original=config.keep_original,
    )  # fmt: skip
    return batch, _verdict_columns(failed, reason, value, threshold)


def _pieces(text: npt.NDArray[np.uint8], cuts: Longs, config: Config) -> list[str]:
    """What is left of a text between cuts (bytes) with `window_chars` characters on either side."""
    before = np.append(0, np.cumsum((text & 0xC0) != 0x80))  # characters before each byte
    chars, end, left = text.tobytes().decode(), 0, []
    for begin, stop in zip(before[cuts[:, 0]], before[cuts[:, 1]], strict=True):
        if begin - config.window_chars > end:
            left.append(chars[end : begin - config.window_chars])
        end = max(end, stop + config.window_chars)
    return [stripped for piece in [*left, chars[end:]] if (stripped := piece.strip())]
