"""The training loop: one step after another, each with its line in the log.

A step's loss is the sum over its labels divided by their number over all micro-batches and processes, so that every
label weighs the same however sequences are packed. AdamW is torch's fused one, in fp32; with bf16 only products of
matrices are shorter.
"""

import math
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import msgspec
import torch

from curate.errors import GuardError
from curate.train import checkpoint
from curate.train.checkpoint import State
from curate.train.distributed import Processes
from curate.train.divergence import watched
from curate.train.feed import Feed
from curate.train.model import Batch, batch_of, decayed, loss_sum
from curate.train.settings import Resolved
from curate.train.size import flops_per_token

LOG = "log.jsonl"
SHARES_EVERY = 100  # steps between realised shares in the log
_PEAK_FLOPS = {  # dense bf16, by a part of the GPU's name; the first that fits
    "H200": 989e12, "H100 PCIe": 756e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "B200": 2.25e15,
}  # fmt: skip

Listen = Callable[[dict[str, Any]], None]


class Machine(msgspec.Struct, frozen=True):
    """What the run is worked off on."""

    processes: Processes
    bf16: bool
    compile: bool
    micro_batch: int  # sequences
    peak_flops: float = 0.0  # of all processes' GPUs together; 0 where it is not known, and no MFU is told

    @property
    def device(self) -> torch.device:
        return self.processes.device


def peak_flops(gpu: str) -> float:
    """Floating-point operations a second of a GPU by its name, of dense bf16 products; 0 where it is not known."""
    return next((peak for key, peak in _PEAK_FLOPS.items() if key in gpu), 0.0)


def adamw(model: Any, settings: Resolved) -> torch.optim.AdamW:
    """Fused AdamW; matrices decay, vectors do not."""
    matrices, vectors = decayed(model)
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    betas = (settings.beta1, settings.beta2)
    return torch.optim.AdamW(groups, lr=settings.lr, betas=betas, eps=settings.eps, fused=True)


class Loop:
    """A run between two checkpoints: `steps` takes it to its end."""

    def __init__(
        self, folder: Path, settings: Resolved, model: Any, optimizer: torch.optim.Optimizer, feed: Feed,
        state: State, machine: Machine, listen: Listen, stopped: Callable[[], bool] = lambda: False,
    ) -> None:  # fmt: skip
        self.folder, self.settings, self.model, self.optimizer = folder, settings, model, optimizer
        self.feed, self.state, self.machine, self._listen, self._stopped = (
            feed,
            state,
            machine,
            listen,
            stopped,
        )
        self.steps = feed.steps
        self._lr, self._batch, self._context = settings.lr, settings.batch, settings.context
        self._share = machine.processes.share(self._batch)
        self._wrapped = machine.processes.wrap(model)
        self._run: Any = torch.compile(self._wrapped) if machine.compile else self._wrapped
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        count = sum(p.numel() for p in self._parameters)
        config = model.config
        self._flops = flops_per_token(count, config.num_hidden_layers, config.hidden_size, self._context)

    def run(self, save: Callable[[], None], every: int, marked: set[int]) -> bool:
        """Go on to the last step, calling `save` every so many steps and at marked ones.

        False where it was stopped before, after a save; GuardError where the loss diverged.
        """
        self.model.train()
        with self._log() as log:
            while self.state.step < self.steps:
                record = self.step()
                log.write(msgspec.json.encode(record).decode() + "\n")
                self._listen(record | {"of": self.steps})
                self._refuse_divergence(record)
                stop = bool(record.pop("stop", False))
                if self.state.step % every == 0 or self.state.step in marked or stop:
                    log.flush()
                    save()
                if stop and self.state.step < self.steps:
                    return False
        return True

    def step(self) -> dict[str, Any]:
        """One step of the optimizer; its record."""
        start, state = time.perf_counter(), self.state
        packed = self.feed.take(self._batch, self._progress())
        count = int(sum(one.loss[1:].sum() for one in packed))
        batch = batch_of(packed[self._share], self.settings.document_mask).to(self.machine.device)
        rate = self._lr * self.settings.schedule.ratio(state.schedule_step + 1, state.schedule_total)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        total = self._backward(batch, max(1, count))
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, self.settings.clip or math.inf, foreach=True)
        nats, stop = self.machine.processes.summed(float(total), float(self._stopped()))
        loss, size = nats / max(1, count), float(norm)
        if math.isfinite(loss) and math.isfinite(size):
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._count(count)
        return self._record(loss, rate, size, time.perf_counter() - start) | ({"stop": True} if stop else {})

    def _progress(self) -> float:
        """Share of the budget that is used."""
        if self.settings.count == "loss":
            return self.state.loss_tokens / self.settings.tokens
        return self.state.step / self.steps

    def _backward(self, batch: Batch, count: int) -> torch.Tensor:
        """Gradients of the mean over `count` labels; this process's sum of losses."""
        total = torch.zeros((), device=self.machine.device)
        pieces = list(batch.split(self.machine.micro_batch))
        world = self.machine.processes.world  # DDP takes the mean over processes, we want the sum
        for i, piece in enumerate(pieces):
            last = i == len(pieces) - 1
            with nullcontext() if last or world == 1 else self._wrapped.no_sync():
                with torch.autocast(self.machine.device.type, torch.bfloat16, enabled=self.machine.bf16):
                    loss = loss_sum(self._run, piece)
                (loss * (world / count)).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total

    def _count(self, labels: int) -> None:
        state = self.state
        state.step += 1
        state.schedule_step += 1
        state.tokens += self._batch * self._context
        state.loss_tokens += labels

    def _record(self, loss: float, rate: float, norm: float, seconds: float) -> dict[str, Any]:
        self.state.seconds += seconds
        speed = self._batch * self._context / seconds
        record: dict[str, Any] = {
            "step": self.state.step, "loss": loss, "lr": rate, "grad_norm": norm, "tokens": self.state.tokens,
            "loss_tokens": self.state.loss_tokens, "tokens_per_second": round(speed, 1),
            "seconds": round(self.state.seconds, 3),
        }  # fmt: skip
        if self.machine.peak_flops:
            record["mfu"] = round(speed * self._flops / self.machine.peak_flops, 4)
        if self.state.step % SHARES_EVERY == 0 or self.state.step == self.steps:
            record |= {"data": self.feed.realised()}
        return record

    def _refuse_divergence(self, record: dict[str, Any]) -> None:
        vocabulary, nats = self.model.config.vocab_size, self.settings.divergence
        why = watched(self.state, record["loss"], record["grad_norm"], vocabulary, nats)
        if why:
            raise Diverged(
                f"the run diverged at step {self.state.step:,}: {why}",
                hint="lower `lr`, warm up longer, look at the data of these steps, or set `divergence`; each in a new folder",
            )

    def _log(self) -> Any:
        """The log, cut after the step the run goes on from; only the first process writes it."""
        if not self.machine.processes.is_first:
            return open(os.devnull, "w")
        path = self.folder / LOG
        kept = [r for r in records(self.folder) if r["step"] <= self.state.step]
        temporary = path.with_name(f".{LOG}")
        temporary.write_bytes(b"".join(msgspec.json.encode(r) + b"\n" for r in kept))
        temporary.replace(path)
        return open(path, "a", buffering=1)


class Diverged(GuardError):
    """The loss is no number any more, or stays above that of a model that has learned nothing."""

    kind = "diverged"


def records(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's log; a last one that a kill cut off is left out."""
    path = folder / LOG
    found = []
    for line in path.read_bytes().splitlines() if path.exists() else []:
        try:
            found.append(msgspec.json.decode(line))
        except msgspec.DecodeError:
            break
    return found


def joints(settings: Resolved, state: State) -> set[int]:
    """Steps of this run at which its schedule has a joint: checkpoints there stay."""
    before = state.schedule_step - state.step
    found = settings.schedule.joints(state.schedule_total)
    return {at - before for name, at in found.items() if name in ("decay", "anneal")}


def save(loop: Loop, tokenizer: Path, keep: int, marked: set[int]) -> None:
    """A checkpoint of where the loop is; old ones go."""
    loop.state.data = loop.feed.state()
    processes = loop.machine.processes
    rng = processes.gathered(torch.get_rng_state())
    if processes.is_first:
        target = loop.folder / checkpoint.name_of(loop.state.step)
        checkpoint.save(target, loop.model, loop.optimizer, loop.state, rng, tokenizer)
        checkpoint.remove_old(loop.folder, keep, marked)
    processes.wait()
