"""Tasks through lm-eval-harness on local files, each item's answers kept, and what is computed from them.

Harness  makes prompts into requests, cuts them into tokens and computes `acc` and `acc_norm`; the log-likelihoods come
         from our own batches. Its number for the same model and task is the same
Scores   by item, from the probability of each answer, or the geometric mean over its characters (`_per_char`):
         correct_prob       of the right answer
         total_prob         of all answers together
         norm_correct_prob  the right one's share of all
         margin             the right one less the best wrong one
         A task with `by` counts its groups alike, one without its items
Paper    Magnusson et al. 2025 (DataDecide), arXiv:2504.11393, section 3; Biderman et al. 2024 (lm-eval), arXiv:2405.14782
"""

import contextlib
import hashlib
import io
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import ConfigError, DataError
from curate.eval.model import Model, Scored
from curate.eval.suite import Item, Items, centred

SCORES = ("correct_prob", "total_prob", "norm_correct_prob", "margin")
PER_ITEM = ("acc", "acc_norm", *SCORES, *(f"{name}_per_char" for name in SCORES))
ITEMS = pa.schema(
    {
        "task": pa.string(),
        "item": pa.string(),  # file:row
        "group": pa.string(),
        "passage": pa.string(),  # names what items of one text share; the item's own name where they share none
        "gold": pa.int32(),
        "chance": pa.float64(),
        "headline": pa.string(),  # the accuracy that counts
        "prompt_hash": pa.string(),  # sha256 of what stands before the answer
        "truncated": pa.bool_(),  # the prompt did not fit and lost its beginning
        "log_likelihoods": pa.list_(pa.float64()),  # of each answer with its delimiter, in nats
        "greedy": pa.list_(pa.bool_()),  # each of its tokens was the likeliest
        "chars": pa.list_(pa.int32()),  # of each answer, without the delimiter
        "bytes": pa.list_(pa.int32()),  # UTF-8, with the delimiter: what was scored
        **dict.fromkeys(PER_ITEM, pa.float64()),
    }
)


class TaskResult(msgspec.Struct, frozen=True, kw_only=True):
    """A task's numbers over some items, and what they were measured with."""

    score: float  # the accuracy that counts, over groups alike
    stderr: float  # of its mean over items: evaluation noise only
    metric: str  # acc or acc_norm
    chance: float
    centred: float  # 0 is guessing
    gold_bits_per_byte: float  # of the right answers
    items: int
    truncated: int  # items whose prompt did not fit
    unfit: int = 0  # items left out: an answer alone does not fit
    means: dict[str, float]  # acc, acc_norm and the continuous scores; a cloze has no margin
    groups: dict[str, float] = {}
    harness: str = ""
    task_hash: str = ""
    prompts_hash: str = ""


def evaluate(
    model: Model, tasks: Sequence[Items], tell: Callable[[str], None] = lambda _: None
) -> tuple[pa.Table, dict[str, TaskResult]]:
    """(ITEMS of every task, results by name)."""
    parts, results, harness = [ITEMS.empty_table()], {}, harness_version() if tasks else ""
    for one in tasks:
        tell(f"{one.task.name}: {len(one.items):,} items")
        rows = score_task(model, one)
        parts.append(rows)
        measured = result_of(rows)
        results[one.task.name] = msgspec.structs.replace(
            measured, harness=harness, unfit=len(one.items) - rows.num_rows,
            task_hash=one.task_hash, prompts_hash=one.prompts_hash,
        )  # fmt: skip
    return pa.concat_tables(parts), results


def harness_version() -> str:
    """As it stands beside each number."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"lm_eval {version('lm_eval')}"
    except PackageNotFoundError:
        raise ConfigError(
            "tasks are scored through lm-eval, which is not there", hint='pip install "curate[eval]"'
        ) from None


def score_task(model: Model, given: Items) -> pa.Table:
    """ITEMS of one task, without items of which an answer is longer than the model's context, or has no token.

    DataError where none is left.
    """
    with quiet():
        task, lm = harness_task(given), _harness_model(model)
        task.build_all_requests(rank=0, world_size=1)
        requests = task.instances
        answers = lm.loglikelihood(requests, disable_tqdm=True)
    by_item: list[list[Any]] = [[] for _ in given.items]
    for request, answer in zip(requests, answers, strict=True):
        by_item[request.doc_id].append((request, *answer))
    rows = []
    for number, (item, answered) in enumerate(zip(given.items, by_item, strict=True)):
        if number in lm.unfit:
            continue
        answered.sort(key=lambda one: one[0].idx)
        metrics = task.process_results(task.eval_docs[number], [(ll, greedy) for _, ll, greedy in answered])
        prompt = answered[0][0].args[0]
        rows.append(_row(given, item, prompt, answered, metrics) | {"truncated": number in lm.truncated})
    if not rows:
        what = f"no item of `{given.task.name}` fits into the model's context of {model.context:,} tokens"
        raise DataError(what, where=given.task.path, hint="take the task out of the suite")
    return pa.Table.from_pylist(rows, ITEMS)


def _row(
    given: Items, item: Item, prompt: str, answered: Sequence[Any], metrics: Mapping[str, float]
) -> dict[str, Any]:
    values = np.array([ll for _, ll, _ in answered])
    chars = np.array([len(choice) for choice in item.choices])
    row = {
        "task": given.task.name, "item": item.id, "group": item.group, "passage": item.passage, "gold": item.gold,
        "chance": given.chance_of(item), "headline": given.task.headline,
        "prompt_hash": hashlib.sha256(prompt.encode()).hexdigest(), "log_likelihoods": values,
        "greedy": [greedy for _, _, greedy in answered], "chars": chars,
        "bytes": [len((given.task.between + choice).encode()) for choice in item.choices],
        "acc": float(metrics["acc"]), "acc_norm": float(metrics.get("acc_norm", metrics["acc"])),
    }  # fmt: skip
    per_char = continuous(values / chars, item.gold)
    return row | continuous(values, item.gold) | {f"{name}_per_char": v for name, v in per_char.items()}


def continuous(log_likelihoods: npt.NDArray[np.float64], gold: int) -> dict[str, float]:
    """SCORES of one item from its answers' log-likelihoods (answers,); the margin of a single answer is NaN."""
    likelihoods = np.exp(log_likelihoods)
    wrong = np.delete(likelihoods, gold)
    shares = np.exp(
        log_likelihoods - np.logaddexp.reduce(log_likelihoods)
    )  # where all probabilities underflow, too
    return {
        "correct_prob": float(likelihoods[gold]),
        "total_prob": float(likelihoods.sum()),
        "norm_correct_prob": float(shares[gold]),
        "margin": float(likelihoods[gold] - wrong.max()) if len(wrong) else math.nan,
    }


def result_of(rows: pa.Table) -> TaskResult:
    """A task's numbers over some of its items, from ITEMS."""
    metric, n = rows["headline"][0].as_py(), rows.num_rows
    values, names = rows[metric].to_numpy(), rows["group"].to_numpy()
    groups = {str(name): float(values[names == name].mean()) for name in sorted(set(names))}
    score, chance = float(np.mean(list(groups.values()))), float(rows["chance"].to_numpy().mean())
    gold = rows["gold"].to_pylist()
    nats, size = (
        sum(row[g] for row, g in zip(rows[name].to_pylist(), gold, strict=True))
        for name in ("log_likelihoods", "bytes")
    )
    return TaskResult(
        score=score, stderr=float(values.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan, metric=metric,
        chance=chance, centred=centred(score, chance), gold_bits_per_byte=-nats / (math.log(2) * size), items=n,
        truncated=pc.sum(rows["truncated"]).as_py(),
        means={name: mean for name in PER_ITEM if math.isfinite(mean := float(rows[name].to_numpy().mean()))},
        groups=groups if len(groups) > 1 else {},
    )  # fmt: skip


def results_of(rows: pa.Table) -> dict[str, TaskResult]:
    """Of every task in ITEMS, in the order in which they come."""
    names = pc.unique(rows["task"]).to_pylist()
    return {name: result_of(rows.filter(pc.equal(rows["task"], name))) for name in names}


def core(results: Mapping[str, TaskResult]) -> float:
    """Mean of the centred accuracies (CORE; Li et al. 2024, arXiv:2406.11794); NaN without tasks."""
    return float(np.mean([one.centred for one in results.values()])) if results else math.nan


def harness_task(given: Items) -> Any:
    """lm-eval's own task object over these items, made in memory."""
    from datasets import Dataset
    from lm_eval.api.task import ConfigurableTask

    between, cloze = given.task.between, given.task.kind == "cloze"
    docs = [
        {
            "prompt": item.prompt,
            "choices": list(item.choices),
            "gold": between + item.choices[0] if cloze else item.gold,
        }
        for item in given.items
    ]
    data = Dataset.from_list(docs)
    config = {
        "task": given.task.name, "custom_dataset": lambda **_: {"test": data}, "test_split": "test", "num_fewshot": 0,
        "output_type": "loglikelihood" if cloze else "multiple_choice",
        "doc_to_text": "prompt", "doc_to_target": "gold", "target_delimiter": between,
        "metric_list": [
            {"metric": name, "aggregation": "mean", "higher_is_better": True}
            for name in (("acc",) if cloze else ("acc", "acc_norm"))
        ],
    }  # fmt: skip
    return ConfigurableTask(config=config if cloze else config | {"doc_to_choice": "choices"})


def _harness_model(model: Model) -> Any:
    """The model as lm-eval sees it: its own way of cutting requests into tokens, our batches."""
    from lm_eval.api.model import TemplateLM

    prefix = model.decode([model.prefix])

    class Checkpoint(TemplateLM):  # type: ignore[misc, unused-ignore]
        truncated: set[int]  # numbers of the items whose prompt did not fit
        unfit: set[int]  # and of those with an answer that does not

        @property
        def eot_token_id(self) -> int:
            return model.prefix

        def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
            if add_special_tokens is None:  # the tokenizer's own way, but BOS only once
                add_special_tokens = not string.startswith(prefix)
            return list(model.tokenizer.encode(string, add_special_tokens=add_special_tokens, verbose=False))

        def loglikelihood(self, requests: Any, disable_tqdm: bool = False) -> list[tuple[float, bool]]:
            self.owners = [request.doc_id for request in requests]
            return list(super().loglikelihood(requests, disable_tqdm=disable_tqdm))

        def _loglikelihood_tokens(self, requests: Any, **_: Any) -> list[tuple[float, bool]]:
            asked = [(n, [*c, *a], len(a)) for n, (_, c, a) in zip(self.owners, requests, strict=True)]
            self.unfit = {n for n, _, count in asked if not 0 < count <= model.context}
            self.truncated = {n for n, whole, _ in asked if len(whole) > model.context + 1}
            fit = [(whole[-model.context - 1 :], count) for n, whole, count in asked if n not in self.unfit]
            found = iter(model.score([whole for whole, _ in fit], [count for _, count in fit]))
            return [_NONE if n in self.unfit else _summed(next(found)) for n, _, _ in asked]

        def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> list[float]:
            raise AssertionError("the harness demands the method; no task of a suite asks for it")

        def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
            raise AssertionError("the harness demands the method; no task of a suite asks for it")

    return Checkpoint()


_NONE = (math.nan, False)


def _summed(scored: Scored) -> tuple[float, bool]:
    return float(scored.log_likelihoods.sum(dtype=np.float64)), bool(scored.greedy.all())


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the harness's bars and remarks; its errors come through."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
