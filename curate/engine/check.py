"""What `curate check` does: open everything a recipe names, freeze its plan in memory, write nothing."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from curate.engine.freeze import freeze
from curate.engine.journal import MANIFEST
from curate.engine.log import Listener
from curate.engine.plan import Plan, check_schema, step_identity
from curate.engine.unit import PLAN, pass_folder
from curate.errors import ConfigError
from curate.io.files import Folder
from curate.recipe.recipe import CHECKPOINT, Recipe


class PassPlan(msgspec.Struct, kw_only=True):
    index: int
    kind: str
    steps: list[str]
    fingerprint: str
    state: str  # to do | in the work store | in the output


class Check(msgspec.Struct, kw_only=True):
    """The `--json` object of `check`."""

    schema: str = "curate.check/1"
    status: str = "ok"
    exit: int = 0
    recipe: str
    files: int
    bytes: int
    units: int
    duplicate_ids: bool
    columns_in: dict[str, str]
    columns_out: dict[str, str]
    passes: list[PassPlan]
    stages: list[dict[str, Any]]
    output: str
    store: str
    free_bytes: int | None
    origins: dict[str, str]
    checked: list[str]

    def lines(self) -> list[str]:
        """The report in words."""
        found = [
            f"recipe   {self.recipe}",
            f"input    {self.files:,} files, {self.bytes / 1e6:,.1f} MB, cut into {self.units:,} units",
        ]
        if self.duplicate_ids:
            found.append("         some ids stand twice: the later rows will be quarantined (duplicate_id)")
        found += [f"output   {self.output or '(none named)'}", f"store    {self.store}"]
        for one in self.passes:
            found.append(
                f"pass {one.index + 1}   {one.kind:<6} {' > '.join(one.steps) or 'copy'}   [{one.state}]"
            )
        found.append(f"columns  {', '.join(self.columns_out)}")
        for key, origin in sorted(self.origins.items()):
            if origin not in ("recipe", "default"):
                found.append(f"set      {key} by {origin}")
        return [*found, f"checked  {'; '.join(self.checked)}"]


def check(recipe: Recipe, stage_files: Sequence[str], listen: Listener, fresh: bool) -> Check:
    """Check a recipe as far as it can be without running it. Raises what `run` would raise at its start."""
    base = Path(recipe.base)
    plan = freeze(recipe, stage_files, listen)
    checked = [f"read {len(plan.files)} input files in full", "every stage's options, columns and predicates"]
    models = 0
    for step in recipe.steps:
        if step.stage != CHECKPOINT and (load := step.spec().load):
            with TemporaryDirectory(prefix="curate-check-") as scratch:
                load(step.settings(), Path(scratch))
            models += 1
    if models:
        checked.append(f"opened {models} models")
    if recipe.output.path:
        _check_output(recipe, plan, fresh)
        checked.append("the output can be written")
    input_schema = plan.input_schema()
    output_schema = check_schema(recipe, input_schema)
    return Check(
        recipe=recipe.name, files=len(plan.files), bytes=sum(f.size for f in plan.files), units=len(plan.units),
        duplicate_ids=plan.duplicate_ids, columns_in={f.name: str(f.type) for f in input_schema},
        columns_out={f.name: str(f.type) for f in output_schema},
        passes=[_pass(plan, i, recipe.output.path) for i in range(len(plan.passes))],
        stages=[step_identity(s, str(base)) for s in recipe.steps if s.stage != CHECKPOINT], output=recipe.output.path,
        store=plan.store, free_bytes=_free(recipe.output.path), origins=recipe.origins, checked=checked,
    )  # fmt: skip


def _pass(plan: Plan, index: int, output: str) -> PassPlan:
    one = plan.passes[index]
    names = {s.index: s.name for s in plan.recipe.steps}
    if one.kind == "phase":
        phase = plan.recipe.steps[one.step].spec().phases[one.phase]
        steps = [f"{names[one.step]}.{phase.run.__name__}"]
    else:
        steps = [*([f"{names[one.opens]}.apply"] if one.opens >= 0 else []), *(names[i] for i in one.steps)]
    folder = pass_folder(plan, output or "-", one)
    done = bool(output or not one.final) and folder.exists(MANIFEST)
    state = ("in the output" if one.final else "in the work store") if done else "to do"
    return PassPlan(index=index, kind=one.kind, steps=steps, fingerprint=one.fingerprint, state=state)


def _check_output(recipe: Recipe, plan: Plan, fresh: bool) -> None:
    out = Folder(recipe.output.path)
    if out.exists(PLAN) and not fresh:
        earlier = msgspec.json.decode(out.read(PLAN), type=Plan)
        if earlier.digest != plan.digest:
            raise ConfigError(
                f"{out.path} holds a run of another recipe", hint="choose another output, or --fresh"
            )
    if out.local:
        parent = next(p for p in [out.local, *out.local.parents] if p.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK):
            raise ConfigError(f"cannot write into {parent}", hint="choose another output")


def _free(path: str) -> int | None:
    if "://" in path:
        return None
    local = Path(path or ".").absolute()
    return shutil.disk_usage(next(p for p in [local, *local.parents] if p.exists())).free
