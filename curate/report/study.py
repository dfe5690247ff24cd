"""`curate report STUDY`: what a study asked, what it found and how sure it is, as one page.

Everything is read from result files: `study.json`, each run's `train.json` and `log.jsonl`, the manifest and the journal
of each arm's corpus. What is not there any more is said on the page and not made up.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from curate.report import offline
from curate.report.answer import STUDY, Answer, Common, Cost, Look, Matched, Pool, Target, Task, read_answer
from curate.report.arms import Corpus, corpus_of, set_beside
from curate.report.curves import Run, read_run
from curate.report.verdicts import Comparison, comparisons, metric_words


class Variation(msgspec.Struct, kw_only=True):
    """How much the seeds of one arm vary by a metric."""

    matching: str
    metric: str
    words: str
    deviation: float  # standard deviation, in the metric's unit
    df: int


class Arm(msgspec.Struct, kw_only=True):
    """An arm: its corpus, its trainings."""

    name: str
    is_control: bool
    corpus: Corpus
    runs: list[Run]
    training: dict[str, dict[str, Any]]  # by matching
    pool: Pool | None  # its share of the raw pool, where the study has a target
    cost: Cost | None  # of making its corpus


class Page(msgspec.Struct, kw_only=True):
    """Everything that the page shows."""

    schema: str = "curate.report.study/1"
    title: str
    output: str
    control: str
    primary: str
    primary_words: str
    margin: float | None
    question: str
    lead: str
    comparisons: list[Comparison]
    arms: list[Arm]  # the control first
    target: Target | None
    looks: list[Look]
    spread: list[Variation]
    tasks: dict[str, Task]
    common: Common | None
    notes: list[str]


def is_study(folder: str) -> bool:
    """Whether a folder is the output of a study."""
    return (Path(folder) / STUDY).is_file()


def gather(folder: str) -> Page:
    """Read a study's answer, the logs of its runs, and the corpora of its arms side by side."""
    answer = read_answer(folder)
    place = Place(Path(folder), answer)
    names = sorted(answer.values, key=lambda name: name != answer.control)
    corpora = {name: corpus_of(place.arm(name), place.find) for name in names}
    for name, (corpus, facts) in corpora.items():
        if name != answer.control and facts is not None:
            set_beside(corpus, facts, corpora[answer.control][1])
    matched = answer.matched()
    values = {matching: one.values for matching, one in matched.items()}
    found = comparisons(answer.verdicts, values, answer.control, answer.primary, answer.margin)
    noise = {(one.arm, one.metric, one.matching): (one.low, one.high) for one in answer.noise}
    for one in found:
        one.noise = noise.get((one.arm, one.metric, one.matching))
    arms = [
        Arm(
            name=name, is_control=name == answer.control, corpus=corpora[name][0],
            training={matching: one.training[name] for matching, one in matched.items() if name in one.training},
            runs=[read_run(run.seed, run.matching, place.find(run.folder)) for run in answer.runs_of(name)],
            pool=answer.pools.get(name), cost=answer.cost.get(name),
        )
        for name in names
    ]  # fmt: skip
    return Page(
        title=answer.name, output=folder, control=answer.control, primary=answer.primary,
        primary_words=metric_words(answer.primary), margin=answer.margin, question=_question(answer, arms),
        lead=_lead(found, answer), comparisons=found, arms=arms, target=answer.target,
        looks=answer.looks, spread=list(_spread(matched)), tasks=answer.tasks, common=answer.common, notes=[*answer.notes, *_confirmed(folder), *_lost(answer, arms)],
    )  # fmt: skip


class Place:
    """Where the paths of a study are now: it may have been moved with its store, and paths start where it ran."""

    def __init__(self, folder: Path, answer: Answer) -> None:
        self._folder, self._output = folder, answer.output
        self._arms = (folder.resolve().parent if answer.confirms else folder) / "arms"

    def arm(self, name: str) -> Path:
        """The folder of an arm's corpus and tokens."""
        return self._arms / name

    def find(self, path: str) -> Path:
        """A path that the study wrote: from its folder, as it lay then; else as it is written."""
        if os.path.isabs(path) == os.path.isabs(self._output):
            beside = Path(os.path.normpath(self._folder / os.path.relpath(path, self._output)))
            if beside.exists():
                return beside
        return Path(path)


def _spread(matched: dict[str, Matched]) -> Iterator[Variation]:
    for matching, found in matched.items():
        for metric, one in found.spread.items():
            yield Variation(
                matching=matching,
                metric=metric,
                words=metric_words(metric),
                deviation=one.variance**0.5,
                df=one.df,
            )


def _question(answer: Answer, arms: list[Arm]) -> str:
    """What was trained, on how much, how often, and what decides."""
    others = [f"`{arm.name}`" for arm in arms if not arm.is_control]
    control = next(iter(arms[0].training.values()), {})
    seeds = sorted({len(by.get(answer.primary, {})) for by in answer.values.values()})
    model = f"{_short(control['parameters'])} parameters" if control.get("parameters") else "a small model"
    tokens = control.get("tokens")
    each = f", {_short(max(tokens))} tokens each" if tokens else ""
    often = " to ".join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))
    again = "Asked again with fresh seeds: is" if answer.confirms else "Is"
    return (
        f"{again} a model better or worse for being trained on {_or(others)} instead of `{answer.control}`? {model}{each}, "
        f"{often} seeds an arm; {metric_words(answer.primary)} decides.{_target(answer.target)}"
    )


def _target(target: Target | None) -> str:
    if target is None:
        return ""
    return (
        f" It stands for a run of {_short(target.params)} parameters on {_short(target.tokens)} tokens, out of "
        f"{_short(target.raw_pool)} tokens of raw text: at equal tokens, and at equal raw pool with the epochs of that run."
    )


def _short(number: float) -> str:
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.3g}"


def _or(names: list[str]) -> str:
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _lead(found: list[Comparison], answer: Answer) -> str:
    """The verdicts by the primary metric, counted."""
    primary = [one for one in found if one.metric == answer.primary]
    counts = {word: sum(one.verdict == word for one in primary) for word in ("better", "worse", "undecided")}
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count)


def _lost(answer: Answer, arms: list[Arm]) -> list[str]:
    """What the page would show and cannot."""
    notes = []
    if not answer.runs:
        notes.append(
            "study.json does not say where the runs lie: the same `curate ablate` adds it, for loss curves here"
        )
    missing = [f"{arm.name} seed {run.seed}" for arm in arms for run in arm.runs if run.status == "missing"]
    if missing:
        notes.append(f"runs that are not in the store any more: {', '.join(missing)}")
    return notes + [f"{arm.name}: {arm.corpus.note}" for arm in arms if arm.corpus.note]


def _confirmed(folder: str) -> list[str]:
    again = str(Path(folder) / "confirm")
    return [f"asked again with fresh seeds: curate report {again}"] if is_study(again) else []


def write(page: Page, target: Path) -> list[Path]:
    """Write the page and, beside it, its script; returns both."""
    return offline.write("study", page.title, page, target)
