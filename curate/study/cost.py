"""What curation cost: CPU seconds by stage, and the FLOPs of models that stages run.

Passes that several arms share are counted for each of them. A model costs 2 FLOPs per parameter and token that it reads;
fastText and the like are in the CPU seconds alone. At the target, curation reads the whole raw pool and training costs
6 N D: what was measured grows with the tokens of the pool.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from curate import stages
from curate.study.matching import Pool
from curate.study.plan import Arm, Study, Target

_OTHER = "reading and writing"


class Cost(msgspec.Struct, frozen=True):
    """Of an arm's corpus; of an arm that no run of ours made nothing is known."""

    cpu_seconds: dict[str, float]  # by step
    flops: dict[str, float]  # by step that runs a model
    target_cpu_hours: float | None = None  # of the same curation over the target's raw pool
    target_flops: float | None = None
    target_share: float | None = None  # of these FLOPs in those of the target's training

    def line(self) -> str:
        """For people."""
        most = sorted(self.cpu_seconds.items(), key=lambda one: -one[1])[:3]
        said = f"{sum(self.cpu_seconds.values()):,.1f} CPU seconds ({', '.join(f'{k} {v:,.1f}' for k, v in most)})"
        if self.flops:
            said += f", {sum(self.flops.values()):.3g} FLOPs of models"
        if self.target_cpu_hours is not None:
            said += f"; at the target {self.target_cpu_hours:,.1f} CPU hours, {self.target_flops:.3g} FLOPs, "
            said += f"{self.target_share:.3%} of training"
        return said


def of_arms(study: Study, folder: Path, pools: Mapping[str, Pool]) -> dict[str, Cost]:
    """Costs by arm, of those whose corpus says what it cost."""
    found = {}
    for name, arm in study.arms.items():
        made = None if arm.is_tokens else of_corpus(_corpus(arm, folder / "arms" / name))
        if made is not None:
            found[name] = at_target(made, study.target, pools) if study.target else made
    return found


def of_corpus(corpus: Path) -> Cost | None:
    """What the run that made a corpus cost, by its manifest and plan; None for a folder of another origin."""
    if not (corpus / "_curate/manifest.json").is_file():
        return None
    passes = msgspec.json.decode((corpus / "_curate/manifest.json").read_bytes())["passes"]
    steps = msgspec.json.decode((corpus / "_curate/plan.json").read_bytes())["recipe"]["steps"]
    seconds: dict[str, float] = {}
    for step, spent in (pair for one in passes for pair in _seconds(one)):
        seconds[step] = round(seconds.get(step, 0.0) + spent, 3)
    return Cost(seconds, dict(_flops(passes, steps)))


def at_target(cost: Cost, target: Target, pools: Mapping[str, Pool]) -> Cost:
    """The same curation over the raw pool of the target."""
    raw = pools[target.pool].tokens if isinstance(target.pool, str) else target.pool
    grows = target.raw_pool / raw
    flops = sum(cost.flops.values()) * grows
    return msgspec.structs.replace(
        cost, target_cpu_hours=sum(cost.cpu_seconds.values()) * grows / 3600, target_flops=flops,
        target_share=flops / (6 * target.params * target.tokens),
    )  # fmt: skip


def _corpus(arm: Arm, folder: Path) -> Path:
    return folder / "corpus" if arm.recipe else Path(arm.dataset)


def _seconds(one: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Of a pass, by step; a phase is all its stage's, and a pass of rows also reads and writes."""
    if one["phase"]:
        yield one["phase"].rpartition(" ")[0], one["cpu_seconds"]
        return
    timed = sum(step["seconds"] for step in one["steps"])
    fits = min(1.0, one["cpu_seconds"] / timed) if timed else 0.0  # a step's are of the clock
    for step in one["steps"]:
        yield step["step"], step["seconds"] * fits
    yield _OTHER, one["cpu_seconds"] - timed * fits


def _flops(passes: list[dict[str, Any]], steps: list[dict[str, Any]]) -> Iterator[tuple[str, float]]:
    for step in steps:
        if step["stage"] == "checkpoint":
            continue
        read = sum(
            one["counts"].get("model_tokens", 0)
            for one in passes
            if one["phase"].rpartition(" ")[0] == step["name"]
        )
        if read:
            spec = stages.find(step["stage"])
            assert spec.parameters is not None, "a stage that counts a model's tokens says how large it is"
            yield step["name"], 2.0 * spec.parameters(msgspec.convert(step["config"], spec.config)) * read
