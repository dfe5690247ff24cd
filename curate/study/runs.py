"""The commands that a study is made of, each of which can be run by hand: run, tokenize, train, eval.

Each goes on where it was killed and is not done twice, so a study does too. The runs of all studies lie in one store by
their fingerprint: an arm that another study has trained is not trained again, and tells how much seeds vary.
"""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from curate.engine.fingerprints import digest_of
from curate.engine.lock import is_dead, read_owner
from curate.errors import COMPLETE, GUARD, QUARANTINED, USAGE, ConfigError, DataError, RunError
from curate.fit.corpus import Corpus
from curate.fit.tokenizer import fitted_on
from curate.io.files import Folder, content_of
from curate.models.tokenizer import contract
from curate.study import kinds, left_out, matching, sources, without
from curate.study.plan import MAKERS, Arm, Study, first_word
from curate.study.verdict import Matching
from curate.train.averaging import Average
from curate.train.tokens import Tokens, same_contract

Say = Callable[[str], None]
# SIGTERM when we die: training then saves and stops, and its lock is free for the next time
_COMMAND = "import ctypes; ctypes.CDLL(None).prctl(1, 15); from curate.cli.main import main; main()"


class Step(msgspec.Struct, frozen=True):
    """One command, and the file that says it is complete."""

    arguments: tuple[str, ...]  # of `curate`
    done: str
    threads: int = 0  # 0: as many as it likes
    result: str = ""  # its JSON; where `status` there is `diverged`, the steps after it are never taken
    again: bool = (
        False  # taken even when it is done: the command itself refuses what was made of something else
    )


class Trained(msgspec.Struct, frozen=True):
    """One run of an arm with a seed."""

    arm: str
    seed: int
    folder: str
    steps: tuple[Step, ...]  # training, then scoring
    matching: Matching = "tokens"


def divergence(result: str) -> str:
    """Why a training gave up for good, as its `train.json` has it; '' where it did not."""
    path = Path(result)
    if not result or not path.exists():
        return ""
    found = json.loads(path.read_bytes())
    return str(found["reason"]) if found["status"] == "diverged" else ""


def check_tokenizer(study: Study, folder: Path) -> None:
    """ConfigError where the tokenizer was fitted on a file of an arm: that arm would be told in fewer tokens."""
    fitted = fitted_on(study.tokenizer)
    for arm, one in study.arms.items():
        if one.is_tokens:
            means, own = Tokens.open(one.dataset).contract, contract(study.tokenizer)
            same_contract(own, means, (study.tokenizer, one.dataset))
            continue
        source = str(folder / "arms" / arm / "corpus") if one.recipe else one.dataset
        if fitted and set(fitted.files) & set(Corpus([source]).digests):
            raise ConfigError(
                f"the tokenizer `{study.tokenizer}` was fitted on the corpus of arm `{arm}`",
                hint="`curate fit tokenizer` on text that no arm trains on",
            )


def making(study: Study) -> list[Step]:
    """Make what the study needs besides its arms, such as a tokenizer and a held-out set."""
    return [
        Step(
            (*shlex.split(command), "-o", folder), str(Path(folder) / MAKERS[first_word(command)]),
            again=first_word(command) in ("run", "tokenize"),
        )
        for folder, command in study.make.items()
    ]  # fmt: skip


def corpus_steps(study: Study, folder: Path, arm: str) -> list[Step]:
    """Make the corpus of an arm, where a recipe does, and its tokens."""
    one, tokens = study.arms[arm], study.tokens_of(folder, arm)
    if one.is_tokens:
        return []
    corpus = folder / "arms" / arm / "corpus"
    source = str(corpus) if one.recipe else one.dataset
    steps = [_making_corpus(one, corpus, folder.parent / ".curate")] if one.recipe else []
    steps += [Step(*command) for command in left_out.commands(study, folder, arm, source)]
    flags = (*one.tokenize, *left_out.flags(study, folder, arm), "--quiet")
    command = ("tokenize", source, "-o", str(tokens), "--tokenizer", study.tokenizer, *flags)
    return [*steps, Step(command, str(tokens / "_curate/manifest.json"), again=True)]


def _making_corpus(arm: Arm, corpus: Path, store: Path) -> Step:
    """One work store for all arms: what their recipes begin with alike is computed once."""
    sets = [flag for key, value in arm.set.items() for flag in ("--set", f"{key}={json.dumps(value)}")]
    stages = [flag for file in arm.stages for flag in ("--stages", file)]
    recipe = arm.recipe
    if arm.without:
        recipe = str(corpus.with_name("recipe.yaml"))
        without.write(without.without(without.opened(arm.recipe, arm.stages), arm.without), Path(recipe))
    command = ("run", recipe, "-o", str(corpus), *sets, *stages, "--store", str(store), "--quiet")
    return Step(command, str(corpus / "_curate/manifest.json"), again=True)


def source_steps(study: Study, folder: Path, arm: str) -> list[Step]:
    """Make the tokens of each source of an arm, where the study holds the mixture of sources."""
    if study.kind != "stage_by_stage":
        return []
    store = ("--store", str(folder.parent / ".curate"))
    return [
        Step(("run", str(recipe), *store, "--quiet"), str(target / "_curate/manifest.json"), again=True)
        for target, recipe in sources.recipes(study, folder, arm).items()
    ]


def runs_of(study: Study, folder: Path, store: Path) -> list[Trained]:
    """A run for each arm and seed, seed by seed, so that an early look sees every arm. Opens all data and settings.

    Raises before any training where tokens, settings and budget of an arm do not fit.
    """
    wanted = [(seed, arm) for arm in study.arms for seed in study.seeds_of(arm)]
    if study.kind == "stage_by_stage":
        sources.check(study, folder)
    suite, pools, found = suite_name(study), matching.pools(study, folder), []
    of_kind = {arm: kinds.keys(study, folder, arm) for arm in study.arms}
    for seed, arm in sorted(wanted, key=lambda one: one[0]):
        keys = {**study.training(arm, seed), **of_kind[arm], "threads": 1}
        first = _run(study, folder, store, (arm, seed, "tokens"), keys, suite)
        found.append(first.run)
        if arm in pools:
            more = matching.repeated(keys, first.budget, pools[arm], first.datasets)
            found.append(_run(study, folder, store, (arm, seed, "pool"), more, suite).run)
    return found


class _Prepared(NamedTuple):
    run: Trained
    budget: int
    datasets: list[Tokens]


def _run(
    study: Study, folder: Path, store: Path, of: tuple[str, int, Matching], keys: dict[str, Any], suite: str
) -> _Prepared:  # fmt: skip
    """A run and the commands it is made of; ConfigError or DataError, naming the arm, where it cannot be."""
    from curate.train import run as training
    from curate.train import settings

    name = digest_of("study", {"train": keys})[:16]
    config = folder / "arms" / of[0] / f"train-{name}.yaml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(json.dumps(keys))  # JSON is YAML
    tokens = [str(path) for path in kinds.data(study, folder, of[0])]
    try:
        prepared = training.prepare(tokens, store / "none", settings.load(str(config)))
    except (ConfigError, DataError) as error:
        hint = (
            error.hint
            if study.target is None
            else "fewer `train.tokens`, or a larger corpus: none may come twice"
        )
        raise type(error)(f"arm `{of[0]}`: {error.what}", hint=hint, where=error.where) from None
    run = store / prepared.fingerprint
    done, (weights, scores) = run / "final" / "config.json", _scored(study, of[0], prepared.settings.average)
    train = ("train", *tokens, "-o", str(run), "--config", str(config), "--quiet")
    place = run / scores / suite
    score = ("eval", str(run / weights), "--suite", study.suite, "-o", str(place), "--quiet")
    steps = (Step(train, str(done), 1, str(run / "train.json")), Step(score, str(place / "eval.json"), 1))
    return _Prepared(
        Trained(of[0], of[1], str(run), steps, of[2]), prepared.settings.tokens, prepared.datasets
    )


def _scored(study: Study, arm: str, average: Average | None) -> tuple[str, str]:
    """Folders of a run: of the weights that the arm is told by, and of their scores."""
    if study.arms[arm].scored == "final":
        return "final", "eval"
    if average is None:
        raise ConfigError(
            f"arm `{arm}` is scored by averaged weights, and averages none",
            hint="train: {average: {kind: ema}}",
        )
    return f"final-{average.kind}", f"eval-{average.kind}"


def suite_name(study: Study) -> str:
    """Folder of a run's scores: by the content of the suite and of every file it names."""
    from curate.eval.suite import load

    suite = load(study.suite)
    paths = [*(one.path for one in suite.heldout), *(one.path for one in suite.tasks)]
    lost = [path for path in paths if not Path(path).exists()]
    if lost:
        raise ConfigError(f"`{study.suite}` names `{lost[0]}`, which is not there")
    content = {"text": Path(study.suite).read_text("utf-8"), "files": [content_of(path) for path in paths]}
    return digest_of("suite", content)[:16]


def work(tracks: Sequence[Sequence[Step]], workers: int, logs: Path, say: Say) -> Iterator[int]:
    """Run tracks of steps side by side, the steps of one in order; yields the number of each track as it is over.

    It is over when its steps are complete, or one of them diverged. ConfigError or RunError with a command's own words
    once one fails; the others are stopped, and go on next time.
    """
    waiting = [(i, list(track)) for i, track in enumerate(tracks)]
    going: list[tuple[int, list[Step], subprocess.Popen[bytes]]] = []
    told: set[str] = set()
    try:
        while waiting or going:
            for entry in list(waiting):
                number, steps = entry
                left = [step for step in steps if step.again or not Path(step.done).exists()]
                if not left or divergence(left[0].result):
                    waiting.remove(entry)
                    yield number
                elif (
                    len(going) < workers
                    and not _is_going(left[0], going)
                    and not _is_held(left[0], told, say)
                ):
                    waiting.remove(entry)
                    going.append((number, left, _start(left[0], _log(logs, number, left[0]), say)))
            for one in [one for one in going if one[2].poll() is not None]:
                going.remove(one)
                number, left, process = one
                if process.returncode == USAGE and _is_held(left[0], told, say):  # the other was quicker
                    waiting.append((number, left))
                    continue
                _check(left[0], process.returncode, _log(logs, number, left[0]))
                waiting.insert(0, (number, [] if divergence(left[0].result) else left[1:]))
            time.sleep(0.05)
    finally:
        for _, _, process in going:
            process.terminate()
        for _, _, process in going:
            process.wait()


def _is_going(step: Step, going: "list[tuple[int, list[Step], subprocess.Popen[bytes]]]") -> bool:
    """Whether another track is at the same step."""
    return any(left[0].done == step.done for _, left, _ in going)


def _is_held(step: Step, told: set[str], say: Say) -> bool:
    """Whether another study trains this run just now; it is waited for."""
    if step.arguments[:1] != ("train",):
        return False
    place = str(Path(step.done).parents[1])
    owner = read_owner(Folder(place)) if Path(place).exists() else None
    if owner is None or is_dead(owner):
        return False
    if place not in told:
        told.add(place)
        say(f"waiting: {place} is being trained by process {owner.pid} on {owner.host}")
    return True


def _log(logs: Path, track: int, step: Step) -> Path:
    return logs / f"{track:03}-{step.arguments[0]}.log"


def _start(step: Step, log: Path, say: Say) -> subprocess.Popen[bytes]:
    say(f"curate {' '.join(step.arguments)}")
    threads = {name: str(step.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS") if step.threads}
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as said:
        return subprocess.Popen(
            [sys.executable, "-c", _COMMAND, *step.arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said, env={**os.environ, **threads},
        )  # fmt: skip


def _check(step: Step, code: int, log: Path) -> None:
    if code in (COMPLETE, QUARANTINED) and Path(step.done).exists():
        return
    if code == GUARD and divergence(step.result):
        return
    kind = ConfigError if code == USAGE else RunError
    raise kind(
        f"`curate {' '.join(step.arguments)}` ended with exit {code}\n{log.read_text('utf-8', 'replace').strip()}",
        hint="mend that, then the same `curate ablate` goes on from there",
    )
