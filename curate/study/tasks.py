"""What a study does for its task metrics: searches every corpus for their items, scores the control's checkpoints, and
compares all arms on the items that no arm has seen. A study of bits per byte alone does nothing of this.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from curate.eval.contamination import Contamination
from curate.eval.run import STEPS
from curate.eval.select import Statistics
from curate.study import items, left_out, measurable
from curate.study.items import Common, Noise, Run, is_of_items
from curate.study.plan import Study
from curate.study.runs import Step, Trained, suite_name
from curate.study.scores import Scored
from curate.study.verdict import Verdict


class Compared(msgspec.Struct, frozen=True):
    """Runs as they are compared, and what is said of them beside the verdicts."""

    done: list[Scored]  # task metrics on the items that no arm has seen
    common: Common | None  # None for a study without task metrics
    refused: dict[str, str]  # metric -> why it decides nothing
    empty: list[str]  # metrics among them that have no item left
    tasks: dict[str, Statistics]  # of the task metrics, on control runs
    notes: list[str]


def metrics(study: Study) -> list[str]:
    """The study's metrics that items decide."""
    return [metric for metric in study.all_metrics() if is_of_items(metric)]


def searches(study: Study, folder: Path) -> list[list[Step]]:
    """A command for each arm: which items its corpus holds, without the documents that are left out of its tokens."""
    if not metrics(study):
        return []
    suite = suite_name(study)
    arms = [arm for arm, one in study.arms.items() if not one.is_tokens]
    return [[_search(study, folder, arm, suite)] for arm in arms]


def _search(study: Study, folder: Path, arm: str, suite: str) -> Step:
    done = str(_found(folder, arm, suite))
    corpus = left_out.corpus_of(study, folder, arm)
    flags = (*left_out.reading(study, arm), *left_out.flags(study, folder, arm))
    return Step(("eval", "contamination", corpus, "--suite", study.suite, *flags, "-o", done), done)


def checkpoints(study: Study, wanted: Sequence[Trained]) -> list[list[Step]]:
    """A command for each trained run of the control at equal tokens: its scores on the way."""
    if not metrics(study):
        return []
    found = {}
    for run in wanted:
        has = any(Path(run.folder).glob("step-*"))
        if has and (run.arm, run.matching) == (study.control, study.matchings[0]):
            place = str(Path(run.steps[1].done).parent / "steps")
            command = ("eval", "checkpoints", run.folder, "--suite", study.suite, "-o", place, "--quiet")
            found[run.folder] = [Step(command, f"{place}/{STEPS}", 1)]
    return list(found.values())


def compared(study: Study, folder: Path, store: Path, done: Sequence[Scored]) -> Compared:
    """Runs on the items that no arm has seen, and which of the metrics decide nothing."""
    wanted = metrics(study)
    if not wanted or not done:
        return Compared(list(done), None, {}, [], {}, [])
    suite = suite_name(study)
    seen = _seen(study, folder, suite)
    values, common = items.on_common({_key(one): _table(one, "items") for one in done}, seen)
    taken = [
        msgspec.structs.replace(
            one, values={**one.values, **{m: v for m, v in values[_key(one)].items() if m in wanted}}
        )
        for one in done
    ]
    empty = [metric for metric in wanted if metric not in values[_key(done[0])]]
    control = [
        Path(one.run.folder)
        for one in done
        if (one.run.arm, one.run.matching) == (study.control, study.matchings[0])
    ]
    judged = measurable.judged(store, suite, wanted, control)
    seen_whole = {
        metric: f"`{metric}`: every item of a task is in the corpus of some arm" for metric in empty
    }
    said = [
        f"`{arm}` was given as tokens: nobody has looked for items in it"
        for arm, one in study.arms.items() if one.is_tokens
    ]  # fmt: skip
    return Compared(
        taken, common, {**judged.refused, **seen_whole}, empty, judged.statistics, [*said, *_counted(common, wanted), *measurable.notes(judged)]
    )  # fmt: skip


def _counted(common: Common, wanted: Sequence[str]) -> list[str]:
    """Of each task that items left: in how many corpora, and the scores with them."""
    said = []
    for task, count in common.left_out.items():
        if not count:
            continue
        arms = ", ".join(f"{arm} {tasks[task]:,}" for arm, tasks in common.contaminated.items())
        full = [
            f"{metric} of " + ", ".join(f"{arm} {scores[metric]:.4f}" for arm, scores in common.full.items())
            for metric in wanted if metric.partition(":")[0] in (task, "core")
        ]  # fmt: skip
        with_them = f"; with them {'; '.join(full)}" if full else ""
        said.append(
            f"{count:,} items of `{task}` are in corpora ({arms}) and left every arm's score{with_them}"
        )
    return said


def judge(verdict: Verdict, refused: Mapping[str, str]) -> Verdict:
    """Undecided, with the reason, where the metric decides nothing."""
    why = refused.get(verdict.metric, "")
    if not why or verdict.note:
        return verdict
    return msgspec.structs.replace(verdict, verdict="undecided", not_inferior=None, note=why)


def noise(study: Study, folder: Path, of: Compared) -> list[Noise]:
    """Evaluation noise only: an interval for each arm, metric and matching against the control.

    Of runs that still have the scores of their items and documents.
    """
    gone: set[str] = set().union(*_seen(study, folder, suite_name(study)).values()) if of.common else set()
    runs: dict[tuple[str, str], list[Scored]] = {}
    for one in of.done:
        if _file(one, "items").is_file():
            runs.setdefault((one.run.matching, one.run.arm), []).append(one)
    found = []
    for (matching, arm), mine in runs.items():
        control = runs.get((matching, study.control), [])
        if arm == study.control or not control:
            continue
        for metric in study.all_metrics():
            if metric not in of.empty:
                low, high = _interval(metric, mine, control, gone)
                found.append(Noise(arm=arm, metric=metric, matching=matching, low=low, high=high))
    return found


def _interval(
    metric: str, mine: Sequence[Scored], its: Sequence[Scored], gone: set[str]
) -> tuple[float, float]:
    if not is_of_items(metric):
        return items.noise_of_documents(
            metric, *([_table(one, "documents") for one in some] for some in (mine, its))
        )
    arm, control = ([items.without(_table(one, "items"), gone) for one in some] for some in (mine, its))
    return items.noise_of_items(metric, arm, control)


def _seen(study: Study, folder: Path, suite: str) -> Mapping[str, set[str]]:
    """Items by arm, as `decontaminate` names them; nothing for an arm that was given as tokens."""
    return {
        arm: set() if one.is_tokens else _read(_found(folder, arm, suite)) for arm, one in study.arms.items()
    }


def _read(file: Path) -> set[str]:
    (found,) = msgspec.json.decode(file.read_bytes())["corpora"]
    return msgspec.convert(found, Contamination).names()


def _found(folder: Path, arm: str, suite: str) -> Path:
    return folder / "arms" / arm / f"contamination-{suite}.json"


def _key(one: Scored) -> Run:
    return one.run.matching, one.run.arm, one.run.seed


def _file(one: Scored, name: str) -> Path:
    return Path(one.run.steps[1].done).with_name(f"{name}.parquet")


def _table(one: Scored, name: str) -> pa.Table:
    return pq.read_table(_file(one, name))
