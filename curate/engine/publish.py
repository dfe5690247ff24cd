"""What makes an output complete: rows and journals of earlier passes beside it, and the manifest last."""

from pathlib import Path

import msgspec

from curate.engine import beside, canaries, journal, shape
from curate.engine.journal import MANIFEST, fault
from curate.engine.plan import Pass, Plan
from curate.engine.result import Result, judged, summarise
from curate.engine.runner import Runner
from curate.engine.unit import pass_folder
from curate.io import hive
from curate.io.files import Folder
from curate.recipe.recipe import CHECKPOINT

HUB_FILE = ".huggingface.yaml"


def publish(plan: Plan, out: Folder, runner: Runner, seconds: float, allowed: float) -> Result:
    """Bring dropped and quarantined rows and the journals of earlier passes into the output; then the manifest."""
    for one in plan.passes[:-1]:
        if one.kind == "rows":
            _take_pass(out, pass_folder(plan, runner.run, one), one)
    result = judged(summarise(plan, runner.totals, out.path), allowed)
    result.seconds = seconds
    result.fresh_units, result.fresh_bytes = runner.fresh_units, runner.fresh_bytes
    result.canaries = canaries.counts(out)
    out.remove_all(journal.TMP)
    # DuckDB, pandas and pyarrow pass over folders that begin with `_`; the hub's `datasets` reads this instead.
    ending = plan.recipe.output.format
    parts = "part-*" if not plan.recipe.output.partition_by else hive.GLOB
    out.replace(HUB_FILE, f'configs:\n- config_name: default\n  data_files: "{parts}.{ending}"\n'.encode())
    result.says = shape.says(plan.recipe)
    _take_along(plan, out)
    if plan.recipe.output.columns == "new":
        result.corpus = beside.corpus_of(plan, out)
        out.replace(beside.VIEW, beside.view_sql(plan, out))
    fault("manifest")
    out.replace(MANIFEST, msgspec.json.format(msgspec.json.encode(result), indent=1))
    return result


def _take_along(plan: Plan, out: Folder) -> None:
    """Copy what a dataset that states something needs to be understood: the files that the stage's Config names."""
    for step in plan.recipe.steps:
        if step.stage != CHECKPOINT and (spec := step.spec()).states and spec.files:
            for file in spec.files(step.settings()):
                path = Path(plan.recipe.base, file)
                out.replace(f"_curate/{step.stage}/{path.name}", path.read_bytes())


def _take_pass(out: Folder, folder: Folder, one: Pass) -> None:
    for name in folder.folders("_dropped"):
        for file in folder.names(f"_dropped/{name}"):
            fault("take")
            out.take(folder, f"_dropped/{name}/{file}", f"_dropped/{name}/{file}")
    for file in folder.names("_quarantine"):
        out.take(folder, f"_quarantine/{file}", f"_quarantine/{file}")
    for file in folder.names(journal.JOURNAL):
        out.take(folder, f"{journal.JOURNAL}/{file}", f"{journal.JOURNAL}/pass-{one.index:02d}/{file}")
