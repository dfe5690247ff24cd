"""A training run from its settings to `train.json`.

FOLDER holds `log.jsonl` (a line per step), `step-00000100/` (hub format and `training.pt`), `final/`, `final-ema/` where
an average is asked for, and `train.json`: the resolved settings with the origin of each value, the fingerprint, the
result. Run again, a killed run goes on from its last checkpoint; a complete one is left alone.
"""

import contextlib
import math
import signal
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import torch

from curate.engine.fingerprints import digest_of
from curate.engine.lock import Lock
from curate.engine.workers import os_error
from curate.errors import ConfigError, DataError, RunError
from curate.io.files import Folder, content_of, sha256_of
from curate.models.tokenizer import MARKS, marks_added
from curate.train import checkpoint, distributed, loop, model, results, schedule, settings, size
from curate.train.checkpoint import Opened, State
from curate.train.distributed import Processes, processes
from curate.train.feed import Feed, planned
from curate.train.loop import Diverged, Loop, Machine
from curate.train.plan import Plan
from curate.train.results import FINAL, RESULT, Result
from curate.train.settings import HOW, FromCheckpoint, Loaded, Resolution, Resolved, Settings
from curate.train.tokens import Tokens, same_contract

SCRATCH = "_order"
_LIBRARIES = ("torch", "transformers")
_LATER = {
    "count": "all"
}  # keys that came later: at this value they do not name a run, so that older ones keep theirs
_MICRO_TOKENS = {"cpu": 16_384, "cuda": 32_768}  # of one forward pass, where `micro_batch` is not given

Say = Callable[[str], None]


class Prepared(msgspec.Struct):
    """All that is known before the first step."""

    datasets: list[Tokens]
    plan: Plan
    loaded: Resolution
    folder: Path
    before: Opened | None
    notes: list[str]
    marks: list[int]  # tokens that the model of `init` gets an embedding for
    fingerprint: str = ""

    @property
    def settings(self) -> Resolved:
        return self.loaded.settings


def train(
    tokens: Sequence[str | Path], output: str | Path, given: Loaded, *,
    listen: loop.Listen = lambda record: None, say: Say = lambda text: None,
) -> Result:  # fmt: skip
    """Train a model on token datasets into a folder, or go on where a killed run stopped.

    Raises before any step where data, settings and model do not fit; Diverged, once that is in `train.json`; RunError
    where a signal stopped it, after a checkpoint.
    """
    prepared = prepare(tokens, output, given)
    if prepared.settings.threads:
        torch.set_num_threads(prepared.settings.threads)
    with processes(prepared.settings.device) as who, _locked(prepared.folder, who):
        done = _finished(prepared)
        if done is not None:
            return done
        try:
            return _trained(prepared, who, listen, say if who.is_first else lambda text: None)
        except OSError as error:
            raise os_error(error, str(prepared.folder)) from error


def prepare(tokens: Sequence[str | Path], output: str | Path, given: Loaded) -> Prepared:
    """Open data and model and resolve the settings; nothing is written."""
    if not tokens:
        raise ConfigError("no token dataset is named", hint="curate train TOKENS -o FOLDER")
    datasets = [Tokens.open(str(one)) for one in tokens]
    for one in datasets[1:]:
        same_contract(datasets[0].contract, one.contract, (datasets[0].folder, one.folder))
    contract, folder = datasets[0].contract, Path(output)
    notes: list[str] = []
    before, shape, marks = None, None, list[int]()
    source = source_of(given.settings)
    if source:
        marks = _new_marks(Path(source), datasets[0])
        shape = model.read_shape(source, contract, len(marks))
        before = _moments(given.settings, Path(source), notes)
        _note_marks(marks, before, notes)
    earlier = msgspec.convert(before.state.settings, Resolved) if before else None
    loaded = settings.resolve(given, contract.vocab_size, shape, earlier)
    total = loaded.settings.steps
    if not total:
        raise ConfigError(f"`tokens: {loaded.settings.tokens}` is less than one step", hint="raise `tokens`")
    exact = distributed.precision_of(loaded.settings.precision, loaded.settings.device)
    loaded = Resolution(msgspec.structs.replace(loaded.settings, precision=exact), loaded.origins)
    schedule.check(loaded.settings.schedule, total + (before.state.schedule_step if before else 0))
    _note_joint(loaded.settings, before, total, notes)
    found = Prepared(datasets, planned(datasets, loaded.settings), loaded, folder, before, notes, marks)
    found.fingerprint = _fingerprint(found)
    return found


def source_of(given: Settings) -> str:
    """Folder that `init` names; empty for scratch."""
    init = given.init
    if isinstance(init, FromCheckpoint):
        return init.checkpoint
    return "" if init == "scratch" else init


def _moments(given: Settings, source: Path, notes: list[str]) -> Opened | None:
    if isinstance(given.init, FromCheckpoint):
        opened = checkpoint.open_training(source)
        if given.init.optimizer == "keep":
            return opened
    there = (source / checkpoint.TRAINING).exists()
    more = "; the moments that lie there are not used (`{checkpoint: ..., optimizer: keep}`)" if there else ""
    notes.append(
        f"{source}: weights alone, no moments: the optimizer and the rate begin anew (re-warming){more}"
    )
    return None


def _new_marks(source: Path, tokens: Tokens) -> list[int]:
    """Ids of the marks that the tokens' tokenizer has and the model's has not; DataError where they differ in more."""
    file = source / "tokenizer.json"
    if not file.is_file() or sha256_of(file) == tokens.contract.tokenizer:
        return []
    marks = marks_added(file, tokens.tokenizer / "tokenizer.json")
    if not marks:
        raise DataError(
            f"the tokens were made by another tokenizer than that of {source}",
            hint=f"`curate tokenize CORPUS -o TOKENS --tokenizer {source}`; "
            f"with --condition: `curate models add-marks {source} -o TOKENIZER` makes the one to name",
        )
    return marks


def _note_marks(marks: list[int], before: Opened | None, notes: list[str]) -> None:
    if marks and before is not None:
        raise ConfigError(
            "the tokens have marks that the checkpoint has no embeddings for, nor moments",
            hint="`optimizer: reset`, or `init: FOLDER`",
        )
    if marks:
        notes.append(
            f"{len(marks)} embeddings added, of {' and '.join(MARKS)}: the mean of the others and some noise"
        )


def _note_joint(now: Resolved, before: Opened | None, total: int, notes: list[str]) -> None:
    """Say where the rate jumps as an optimizer goes on."""
    if before is None:
        return
    state = before.state
    was = msgspec.convert(state.settings, Resolved)
    old = was.lr * was.schedule.ratio(state.schedule_step, state.schedule_total)
    first = state.schedule_step + 1
    new = now.lr * now.schedule.ratio(first, state.schedule_step + total)
    notes.append(
        f"goes on at step {first:,} of its schedule, with the moments; rate {old:.3g} then, {new:.3g} now"
    )
    if not 0.8 <= new / max(old, 1e-30) <= 1.25:
        notes.append(
            f"the rate jumps by a factor of {new / max(old, 1e-30):.3g}: this is no seamless continuation"
        )


def _fingerprint(prepared: Prepared) -> str:
    """Name of what decides the weights, up to the order of floating-point sums."""
    values = msgspec.to_builtins(prepared.settings)
    source = source_of(prepared.settings)
    left_out = {*HOW, "init", *(key for key, value in _LATER.items() if values[key] == value)}
    content = {
        "settings": {key: value for key, value in values.items() if key not in left_out},
        "datasets": [content_digest(one) for one in prepared.datasets],
        "names": [one.folder.name for one in prepared.datasets],
        "init": content_of(str(Path(source) / "model.safetensors")) if source else "scratch",
        "moments": prepared.before.state.schedule_step if prepared.before else None,
        "libraries": {name: version(name).partition("+")[0] for name in _LIBRARIES},
    }
    return digest_of("train", content)


def content_digest(tokens: Tokens) -> str:
    """Name of a token dataset's content: its parts' checksums from the journal, or read where there is none."""
    from curate.engine.journal import entries

    listed = [f"{w.name} {w.sha256}" for entry in entries(Folder(str(tokens.folder))) for w in entry.outputs]
    parts = sorted(tokens.folder.glob("**/*.arrow"))
    listed = sorted(listed) or [f"{path.name} {sha256_of(path)}" for path in parts]
    return digest_of("tokens", {"parts": listed, "contract": msgspec.to_builtins(tokens.contract)})


@contextlib.contextmanager
def _locked(folder: Path, who: Processes) -> Iterator[None]:
    if not who.is_first:
        yield
        return
    with Lock(Folder(str(folder))):
        yield


def _finished(prepared: Prepared) -> Result | None:
    """The result of a run that is over; ConfigError where the folder holds another one."""
    path = prepared.folder / RESULT
    if not path.exists():
        if checkpoint.found(prepared.folder) or (prepared.folder / "config.json").exists():
            raise ConfigError(
                f"{prepared.folder} holds checkpoints but no {RESULT}", hint="choose a new folder"
            )
        return None
    was = msgspec.json.decode(path.read_bytes(), type=Result)
    if was.fingerprint != prepared.fingerprint:
        now = msgspec.to_builtins(prepared.settings)
        was_set = _LATER | was.settings
        other = [key for key in now if key not in HOW and was_set.get(key) != now[key]]
        what = f"`{other[0]}` was {was_set.get(other[0])}" if other else "data or libraries were others"
        raise ConfigError(f"{prepared.folder} holds another run: {what}", hint="choose a new folder")
    if was.status == "diverged":
        raise Diverged(was.reason, hint="it would again: the same run gives the same numbers")
    return was if was.status == "complete" and (prepared.folder / FINAL).is_dir() else None


def _trained(prepared: Prepared, who: Processes, listen: loop.Listen, say: Say) -> Result:
    now, tokenizer = prepared.settings, prepared.datasets[0].tokenizer
    if not who.is_first:
        who.wait()  # the first makes the orders of the data, the others map them
    feed = Feed(prepared.datasets, prepared.plan, now, prepared.folder / SCRATCH)
    if who.is_first:
        who.wait()
    machine = machine_of(now, who)
    one, state, optimizer = _begin(prepared, machine, feed)
    result = _result(prepared, one, machine, feed.steps)
    for line in (*results.lines(result), *result.notes):
        say(line)
    if who.is_first:
        results.write(result)
    marked = loop.joints(now, state)
    with _stopping() as stopped:
        going = Loop(prepared.folder, now, one, optimizer, feed, state, machine, listen, stopped)
        keep = max(now.keep, now.average.last if now.average else 0)
        save = partial(loop.save, going, tokenizer, keep, marked)
        try:
            ended = going.run(save, now.checkpoint_every, marked)
        except Diverged as why:
            if who.is_first:
                results.write(results.ended(result, going, "diverged", why.exit_code, why.what))
            raise
    if not ended:
        raise RunError(
            f"stopped at step {state.step:,} of {going.steps:,}", hint="the same command goes on from there"
        )
    save()
    if who.is_first:
        results.finish(result, going, tokenizer)
    who.wait()
    return result


def machine_of(now: Resolved, who: Processes) -> Machine:
    """What the settings leave to the machine."""
    on_gpu = who.device.type == "cuda"
    peak = loop.peak_flops(torch.cuda.get_device_name(who.device)) if on_gpu else 0.0
    most = max(1, _MICRO_TOKENS[who.device.type] // now.context)
    return Machine(
        processes=who, bf16=now.precision == "bf16", compile=on_gpu if now.compile is None else now.compile,
        micro_batch=now.micro_batch or min(now.batch // who.world or 1, most), peak_flops=who.world * peak,
    )  # fmt: skip


def _begin(prepared: Prepared, machine: Machine, feed: Feed) -> tuple[Any, State, torch.optim.Optimizer]:
    """Model, place and optimizer: of the last checkpoint, of `init`, or new."""
    now, source = prepared.settings, source_of(prepared.settings)
    torch.manual_seed(now.seed)
    latest = next(reversed(checkpoint.found(prepared.folder)), None)
    if source:
        one = model.open_weights(str(latest or source))
        if prepared.marks and not latest:
            model.add_embeddings(one, prepared.marks)
    else:
        one = model.build(now, prepared.datasets[0].contract)
        if latest:
            checkpoint.load_weights(latest, one)
    one.to(machine.device)
    optimizer = loop.adamw(one, now)
    start = prepared.before.state.schedule_step if prepared.before else 0
    state = State(
        step=0, schedule_step=start, schedule_total=start + feed.steps, tokens=0, loss_tokens=0, data={},
        fingerprint=prepared.fingerprint, settings=msgspec.to_builtins(now), lowest=math.inf, recent=[],
    )  # fmt: skip
    opened = checkpoint.open_training(latest) if latest else prepared.before
    if opened is not None:
        optimizer.load_state_dict(opened.optimizer)
        _keep_decay(optimizer, now)
    if latest and opened is not None:
        state = opened.state
        feed.go_on(state.data)
        torch.set_rng_state(opened.rng[min(machine.processes.rank, len(opened.rng) - 1)])
    return one, state, optimizer


def _keep_decay(optimizer: torch.optim.Optimizer, now: Resolved) -> None:
    """Options are this run's; the state dict brings those of the one before."""
    for group, decay in zip(optimizer.param_groups, (now.weight_decay, 0.0), strict=True):
        group |= {"weight_decay": decay, "betas": (now.beta1, now.beta2), "eps": now.eps}


def _result(prepared: Prepared, one: Any, machine: Machine, steps: int) -> Result:
    now = prepared.settings
    count = sum(p.numel() for p in one.parameters())
    notes = list(prepared.notes)
    if steps < size.HONEST_STEPS or now.tokens < size.HONEST_TOKENS_PER_PARAMETER * count:
        notes.append(
            f"below {size.HONEST_STEPS:,} steps or {size.HONEST_TOKENS_PER_PARAMETER} tokens per parameter: "
            "a difference to another run may have the wrong sign"
        )
    values = msgspec.to_builtins(now) | {
        "device": machine.device.type, "compile": machine.compile, "micro_batch": machine.micro_batch,
    }  # fmt: skip
    return Result(
        status="running", output=str(prepared.folder), fingerprint=prepared.fingerprint, settings=values,
        origins=prepared.loaded.origins, parameters=count, steps=steps, notes=notes,
        datasets=[
            {"name": d.folder.name, "documents": d.documents, "content": content_digest(d)} for d in prepared.datasets
        ],
        contract=prepared.datasets[0].contract, libraries={name: version(name) for name in _LIBRARIES},
    )  # fmt: skip


@contextlib.contextmanager
def _stopping() -> Iterator[Callable[[], bool]]:
    """Whether SIGTERM or Ctrl-C came since; the loop then saves and ends."""
    came: list[int] = []
    before = {}
    with contextlib.suppress(ValueError):  # not the main thread: signals are another's
        for one in (signal.SIGTERM, signal.SIGINT):
            before[one] = signal.signal(one, lambda number, frame: came.append(number))
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if signal.SIGINT in came:
        raise KeyboardInterrupt
