"""What a study found, so far: values by arm, metric and seed, a verdict for each, what seeds vary by, what was spent.

Every time verdicts are made is a look, and is written down: a study that is looked at early or goes on past its plan has
less alpha left, or none. A run that diverged has no values; its reason is on record, and its arm is undecided.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from curate.eval.scores import higher_is_better
from curate.eval.select import Statistics
from curate.study import kinds, tasks
from curate.study.confirm import ANSWER, CONFIRM, plan_of
from curate.study.cost import Cost, of_arms
from curate.study.items import Common, Noise
from curate.study.matching import Pool
from curate.study.plan import Study, Target
from curate.study.scores import Scored, earlier, scale_of
from curate.study.verdict import Matching, Spread, Verdict, alpha_left, verdicts

Values = dict[str, dict[str, dict[int, float]]]  # arm -> metric -> seed -> value


class Lost(msgspec.Struct, frozen=True):
    """A run that diverged, and why its training gave up."""

    arm: str
    seed: int
    matching: Matching
    reason: str
    folder: str


class Look(msgspec.Struct, frozen=True):
    """Once verdicts were made: after so many seeds of so many planned, at this alpha, by which plan and seeds."""

    seeds: int
    planned: int
    alpha: float
    plan: str = ""
    first_seed: int = 0


class RunFolder(msgspec.Struct, frozen=True):
    """Where a run's train.json, log.jsonl and scores lie; a relative folder starts where `output` does."""

    arm: str
    seed: int
    folder: str
    matching: Matching = "tokens"


class Matched(msgspec.Struct, frozen=True):
    """What the runs of one matching gave."""

    values: Values
    spread: dict[str, Spread]
    training: dict[str, dict[str, Any]]


class Answer(msgspec.Struct, kw_only=True):
    """`study.json`; `--json` prints it."""

    schema: str = "curate.ablate/1"
    status: str = "ok"
    exit: int = 0
    name: str
    control: str
    primary: str
    margin: float | None
    values: Values
    verdicts: list[Verdict]
    looks: list[Look]
    spread: dict[str, Spread]  # of each metric between seeds of an arm: earlier studies' and this one's
    training: dict[str, dict[str, Any]]  # of each arm: tokens, unique tokens, epochs, seconds
    runs: list[RunFolder]  # in the store
    matchings: dict[Matching, Matched]  # values, spread and training above are those of the first
    diverged: list[Lost]
    target: Target | None = None
    pools: dict[str, Pool] = {}  # of each arm, where there is a target
    common: Common | None = None  # items that left the scores of tasks
    tasks: dict[str, Statistics] = {}  # of the task metrics, on runs of the control
    noise: list[Noise] = []  # evaluation noise only
    notes: list[str]
    output: str
    cost: dict[str, Cost]  # of curation, by arm
    plan: str  # names the study file, but for its first seed
    first_seed: int
    confirms: bool  # whether this is a confirm run


def answer(
    study: Study, folder: Path, store: Path, done: Sequence[Scored], planned: int, diverged: Sequence[Lost] = (),
    pools: Mapping[str, Pool] = {}, confirms: bool = False,
) -> Answer:  # fmt: skip
    """Judge what is done and write it down as a look. `planned`: seeds of an arm in the study file."""
    into = folder / CONFIRM if confirms else folder
    metrics, looks = study.all_metrics(), _looks(into)
    compared = tasks.compared(study, folder, store, done)
    done = compared.done
    earlier_of = {matching: _earlier(study, store, done, matching) for matching in study.matchings}
    matched = {
        matching: _matched(study, done, matching, earlier_of[matching]) for matching in study.matchings
    }
    seeds = _fewest_seeds(study, done, diverged)
    alpha = _spent(looks, Look(seeds, planned, study.alpha, plan_of(study), study.first_seed))
    found = verdicts(
        {matching: one.values for matching, one in matched.items()},
        study.control,
        {metric: higher_is_better(metric) for metric in metrics},
        alpha=alpha,
        stores={(name, metric): one for name, of in earlier_of.items() for metric, one in of.items()},
        margins={} if study.primary.margin is None else {study.primary.metric: study.primary.margin},
        lost=_why(diverged),
    )
    first = matched[study.matchings[0]]
    result = Answer(
        name=study.name, control=study.control, primary=study.primary.metric, margin=study.primary.margin,
        values=first.values, spread=first.spread, training=first.training, matchings=matched,
        verdicts=[tasks.judge(_with_tokens(one, matched, study.control), compared.refused) for one in found], looks=looks,
        common=compared.common, tasks=compared.tasks, noise=tasks.noise(study, folder, compared),
        runs=_folders(study, done), diverged=list(diverged), target=study.target, pools=dict(pools),
        notes=[*_notes(study, seeds, planned, alpha, earlier_of[study.matchings[0]]), *_unequal(study, done), *_told(done), *compared.notes, *kinds.notes(study, folder)],
        output=str(into), cost=of_arms(study, folder, pools), plan=plan_of(study), first_seed=study.first_seed, confirms=confirms,
    )  # fmt: skip
    into.mkdir(exist_ok=True)
    (into / ANSWER).write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1))
    return result


def _looks(folder: Path) -> list[Look]:
    path = folder / ANSWER
    if not path.exists():
        return []
    return msgspec.convert(msgspec.json.decode(path.read_bytes())["looks"], list[Look])


def _fewest_seeds(study: Study, done: Sequence[Scored], diverged: Sequence[Lost]) -> int:
    over = [(one.run.matching, one.run.arm, one.run.seed) for one in done]
    over += [(one.matching, one.arm, one.seed) for one in diverged]
    return min(sum(one[:2] == (m, arm) for one in set(over)) for m in study.matchings for arm in study.arms)


def _spent(looks: list[Look], now: Look) -> float:
    """What this look may spend of its alpha; it is added to the others, unless it is one of them."""
    for look in looks:
        if msgspec.structs.replace(look, alpha=now.alpha) == now:
            return look.alpha
    left = now.alpha - sum(look.alpha for look in looks)  # less, once the plan was changed
    spent = min(alpha_left(now.seeds, now.planned, [one.seeds for one in looks], now.alpha), max(left, 0.0))
    looks.append(msgspec.structs.replace(now, alpha=spent))
    return spent


def _earlier(study: Study, store: Path, done: Sequence[Scored], matching: Matching) -> dict[str, Spread]:
    runs = [one for one in done if one.run.matching == matching]
    if not runs:
        return dict.fromkeys(study.all_metrics(), Spread(0.0, 0))
    own = {Path(one.run.folder).name for one in done}
    suite = Path(runs[0].run.steps[1].done).parent.name
    scales = {scale_of(one.training["settings"]) for one in runs}
    if len(scales) > 1:  # what varies alike with one arm does not with another
        return dict.fromkeys(study.all_metrics(), Spread(0.0, 0))
    return earlier(store, suite, study.all_metrics(), scales.pop(), own).spreads


def _matched(
    study: Study, done: Sequence[Scored], matching: Matching, before: Mapping[str, Spread]
) -> Matched:
    runs = {
        arm: [one for one in done if (one.run.matching, one.run.arm) == (matching, arm)] for arm in study.arms
    }
    values: Values = {
        arm: {metric: {one.run.seed: one.values[metric] for one in some} for metric in study.all_metrics()}
        for arm, some in runs.items()
    }
    spread = {metric: _all(before[metric], values, metric) for metric in study.all_metrics()}
    return Matched(values, spread, {arm: _training(some) for arm, some in runs.items()})


def _why(diverged: Sequence[Lost]) -> dict[tuple[Matching, str], str]:
    """A line for each arm with a seed that diverged."""
    found: dict[tuple[Matching, str], list[str]] = {}
    for one in diverged:
        found.setdefault((one.matching, one.arm), []).append(f"seed {one.seed} of `{one.arm}`: {one.reason}")
    return {key: "; ".join(lines) for key, lines in found.items()}


def _with_tokens(one: Verdict, matched: Mapping[Matching, Matched], control: str) -> Verdict:
    def mean(arm: str) -> int:
        unique = matched[one.matching].training[arm]["unique_tokens"]
        return round(sum(unique) / len(unique)) if unique else 0

    return msgspec.structs.replace(one, unique_tokens=mean(one.arm), control_unique_tokens=mean(control))


def _all(earlier: Spread, values: Values, metric: str) -> Spread:
    own = Spread.of([list(by_metric[metric].values()) for by_metric in values.values()])
    df = own.df + earlier.df
    return Spread((own.df * own.variance + earlier.df * earlier.variance) / df if df else 0.0, df)


def _training(done: Sequence[Scored]) -> dict[str, Any]:
    data = [one.training["data"] for one in done]
    return {
        "runs": len(done),
        "parameters": done[0].training["parameters"] if done else None,
        "tokens": [one.training["tokens"] for one in done],
        "unique_tokens": [one["unique_tokens"] for one in data],
        "epochs": [max(one["epochs"].values()) for one in data],
        "seconds": sum(one.training["seconds"] for one in done),
    }


def _folders(study: Study, done: Sequence[Scored]) -> list[RunFolder]:
    order = list(study.arms)
    runs = sorted(
        (one.run for one in done),
        key=lambda run: (run.matching != study.matchings[0], order.index(run.arm), run.seed),
    )
    return [RunFolder(run.arm, run.seed, run.folder, run.matching) for run in runs]


def _notes(study: Study, seeds: int, planned: int, alpha: float, earlier: dict[str, Spread]) -> list[str]:
    notes = []
    if alpha == 0:
        notes.append(
            "no alpha is left: the plan's seeds were judged before. A new study with another `first_seed` confirms"
        )
    elif seeds < planned:
        notes.append(f"an early look, after {seeds} of {planned} seeds, at alpha {alpha:.3g}")
    df = earlier[study.primary.metric].df
    if df:
        notes.append(f"spread of seeds pooled with {df} degrees of freedom of earlier runs")
    return notes


def _unequal(study: Study, done: Sequence[Scored]) -> list[str]:
    """What a study without a target did not hold equal."""
    if study.target is not None or not done:
        return []
    said = []
    learned = [int(one.training["data"]["loss_tokens"]) for one in done]
    if max(learned) > 1.01 * min(learned):
        said.append(
            f"from {min(learned):,} to {max(learned):,} tokens in the loss: `train: {{count: loss}}` makes them equal"
        )
    repeated = {one.run.arm: max(one.training["data"]["epochs"].values()) for one in done}
    if max(repeated.values()) > 1.01:
        epochs = ", ".join(f"{arm} {number:.2g}" for arm, number in sorted(repeated.items()))
        said.append(f"arms repeat their data ({epochs} epochs): a `target` compares them both ways")
    return said


def _told(done: Sequence[Scored]) -> list[str]:
    """What the trainings said of themselves, each once."""
    said = [(note, one.run.arm) for one in done for note in one.training["notes"]]
    arms = {note: sorted({arm for other, arm in said if other == note}) for note, _ in said}
    return [f"{', '.join(names)}: {note}" for note, names in arms.items()]
