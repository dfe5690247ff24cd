"""What the arms of a study are and train on, where the study file gives something shorter than arms.

microanneal  every arm goes on from one checkpoint of a larger run, with its moments, and decays linearly to 0: on
             `base` and, a `share` of the tokens, the arm's own corpus; the control on `base` alone. It is cheaper than
             training from scratch and sees smaller effects (OLMo 2, arXiv:2501.00656), those on that checkpoint:
             seeds draw other documents and orders, and all have one model to begin with
stage_by_stage  one arm for each stage of a recipe, made without it; the control is the whole recipe. Tokens are equal as in
             any study, and so are the shares of the sources (`sources`), so that a stage is judged by what it does to the
             text and not by what it does to the mixture. What recipes share is computed once, in one work store
"""

from pathlib import Path
from typing import Any

import msgspec

from curate.errors import ConfigError
from curate.models.tokenizer import contract
from curate.study import sources, without
from curate.study.plan import BASE, Study
from curate.train.settings import Resolved

_DECAYED = 0.05  # of the peak rate; a checkpoint below has its anneal behind it


def data(study: Study, folder: Path, arm: str) -> list[Path]:
    """Token datasets that an arm trains on."""
    own = study.tokens_of(folder, arm)
    if study.kind == "microanneal" and arm != BASE:
        return [study.tokens_of(folder, BASE), own]
    if study.kind == "stage_by_stage":
        return [sources.folder_of(folder, arm, one) for one in sources.pinned(study, folder)] or [own]
    return [own]


def keys(study: Study, folder: Path, arm: str) -> dict[str, Any]:
    """Keys of an arm's trainings that the kind of study decides, whatever the seed."""
    if study.kind == "stage_by_stage":
        shares = sources.weights(study, folder)
        return {"mix": {**study.train.get("mix", {}), "weights": shares}} if shares else {}
    if study.kind != "microanneal":
        return {}
    found = {**_start(study), **_anneal(study, arm)}
    if arm != BASE:
        names = [path.resolve().name for path in data(study, folder, arm)]
        found["mix"] = {"weights": dict(zip(names, (1 - study.share, study.share), strict=True))}
    return found


def notes(study: Study, folder: Path) -> list[str]:
    """What a reader of the answer has to know of its arms."""
    said = [
        f"arm `{arm}` was given as tokens: nobody has looked for held-out documents in it"
        for arm, one in study.arms.items() if one.is_tokens
    ]  # fmt: skip
    if study.kind == "microanneal":
        said.append(
            f"all runs begin with {study.checkpoint}: seeds are of the data's order, and say nothing of another checkpoint"
        )
    if study.kind == "stage_by_stage":
        surveyed = without.survey(without.opened(study.recipe, study.stage_files)).items()
        said += [why for name, why in surveyed if why and not study.stages]
        said.append(sources.note(study, folder))
    return said


def resolved(study: Study, arm: str, **more: Any) -> Resolved:
    """Settings of an arm's trainings, before there is any data."""
    from curate.train import model, run, settings

    means = contract(study.tokenizer)
    given = settings.load(flags={**study.training(arm, 0), **_start(study), **more})
    source = run.source_of(given.settings)
    shape = model.read_shape(source, means) if source else None
    before = _before(study) if study.kind == "microanneal" else None
    return settings.resolve(given, means.vocab_size, shape, before[0] if before else None).settings


def _start(study: Study) -> dict[str, Any]:
    if study.kind != "microanneal":
        return {}
    return {"init": {"checkpoint": study.checkpoint, "optimizer": "keep"}}


def _before(study: Study) -> tuple[Resolved, float]:
    """Settings of the checkpoint's run, and the rate of its last step."""
    from curate.train import checkpoint

    state = checkpoint.open_training(Path(study.checkpoint)).state
    was = msgspec.convert(state.settings, Resolved)
    ratio = was.schedule.ratio(state.schedule_step, state.schedule_total)
    if ratio < _DECAYED or (ratio < 1 and state.schedule_step >= state.schedule_total):
        raise ConfigError(
            f"`checkpoint: {study.checkpoint}`: its rate is {ratio:.1%} of the peak, so it has decayed already",
            hint="an earlier step of that run; checkpoints at the joints of a schedule stay",
        )
    return was, was.lr * ratio


def _anneal(study: Study, arm: str) -> dict[str, Any]:
    """From the checkpoint's rate down to 0, over all steps of the run."""
    flat = resolved(study, arm, schedule={"kind": "constant", "warmup": 0})
    if not flat.steps:
        raise ConfigError(f"`train.tokens: {flat.tokens}` is less than one step", hint="raise it")
    return {
        "lr": _before(study)[1],
        "schedule": {"kind": "wsd", "warmup": 0, "decay": flat.steps, "shape": "linear", "final_ratio": 0.0},
    }
