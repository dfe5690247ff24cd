"""Several processes as `torchrun` starts them: each takes its share of every step's sequences.

All read and pack the same stream, so the data position is one and the same; only the first process writes and prints.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

from curate.errors import ConfigError

RANK, WORLD, LOCAL = "RANK", "WORLD_SIZE", "LOCAL_RANK"


class Processes:
    """This process among the others; alone without `torchrun`."""

    def __init__(self, device: torch.device, rank: int = 0, world: int = 1) -> None:
        self.device, self.rank, self.world = device, rank, world

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def share(self, batch: int) -> slice:
        """Which sequences of a step are this process's; ConfigError where they do not divide."""
        if batch % self.world:
            raise ConfigError(
                f"`batch: {batch}` sequences do not divide over {self.world} processes",
                hint=f"take a multiple of {self.world}",
            )
        each = batch // self.world
        return slice(self.rank * each, (self.rank + 1) * each)

    def summed(self, *values: float) -> list[float]:
        """Each value added up over all processes."""
        if self.world == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return [float(value) for value in total.tolist()]

    def gathered(self, value: Any) -> list[Any]:
        """The value of every process, in their order."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Until all processes are here."""
        if self.world > 1:
            dist.barrier()

    def wrap(self, model: Any) -> Any:
        """The model with its gradients averaged over the processes."""
        if self.world == 1:
            return model
        return torch.nn.parallel.DistributedDataParallel(
            model, device_ids=[self.device.index] if self.device.type == "cuda" else None
        )


def kind_of(device: str) -> str:
    """cpu or cuda, of auto, cpu or cuda; ConfigError where there is no GPU."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("`device: cuda`: torch sees no GPU here", hint="`device: cpu`, or torch for CUDA")
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def precision_of(precision: str, device: str) -> str:
    """fp32 or bf16, of auto, fp32 or bf16: bf16 on a GPU and where the CPU multiplies it natively."""
    if precision != "auto":
        return precision
    can: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return "bf16" if kind_of(device) == "cuda" or can.get("avx512_bf16") or can.get("amx_bf16") else "fp32"


@contextmanager
def processes(device: str) -> Iterator[Processes]:
    """Join the others, if `torchrun` started any. `device`: auto, cpu or cuda."""
    kind = kind_of(device)
    world, rank = int(os.environ.get(WORLD, 1)), int(os.environ.get(RANK, 0))
    place = torch.device(f"cuda:{os.environ.get(LOCAL, 0)}" if kind == "cuda" else "cpu")
    if kind == "cuda":
        torch.cuda.set_device(place)
    if world == 1:
        yield Processes(place)
        return
    dist.init_process_group("nccl" if kind == "cuda" else "gloo")
    try:
        yield Processes(place, rank, world)
    finally:
        dist.destroy_process_group()


def slurm_job(command: str, nodes: int, processes: int, name: str) -> str:
    """A job script: `torchrun` on every node, queued again when it is stopped, going on from the last checkpoint."""
    return f"""#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --nodes={nodes}
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node={processes}
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --output={name}-%j.log

first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun torchrun --nnodes={nodes} --nproc-per-node={processes} \\
    --rdzv-id="$SLURM_JOB_ID" --rdzv-backend=c10d --rdzv-endpoint="$first:29500" \\
    --no-python {command}
"""
