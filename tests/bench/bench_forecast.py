"""How sharp and how true the forecast is: `python tests/bench/bench_forecast.py [DATA] [RUNS]`.

Each corpus under several recipes and seeds: the forecast first, then the run. The drawn sample is bounded to a quarter of
the rows, else small corpora would be forecast from themselves. Prints for each kind of value the median of high / low
and how often the measured value lay inside.
"""

import shutil
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from curate.engine import draw, journal
from curate.engine.forecast import Forecast, Range, cpu_seconds, forecast
from curate.engine.freeze import freeze
from curate.engine.result import Result
from curate.engine.run import run
from curate.engine.scale import Spent
from curate.engine.unit import pass_folder
from curate.recipe.guards import NAMES
from curate.recipe.recipe import Recipe, from_tree
from curate.recipe.tree import Tree

GOPHER = [{"gopher_quality": {}}, {"gopher_repetition": {}}]
PASS = {"select": "gopher_quality_pass and gopher_repetition_pass"}
RECIPES: dict[str, list[dict[str, Any]]] = {
    "language": [{"language_id": {}}, {"select": "lang_score >= 0.8"}],
    "gopher": [*GOPHER, PASS],
    "clean": [
        {"clean_text": {}},
        {"gopher_quality": {}},
        {"select": "gopher_quality_pass"},
        {"token_count": {}},
    ],
    "sample": [{"sample": {}}, {"select": "sample_hash < 0.2"}],
    "dedup": [{"gopher_quality": {}}, {"select": "gopher_quality_num_words > 20"}, {"exact_dedup": {}}],
}
CORPORA = (
    "text", "multilingual/langid_sentences_75_languages_dev.parquet", "multilingual/tldr_pages_quarter.parquet",
    "multilingual/bible_chapters_low_resource.parquet", "multilingual/novels_fr_de_pt_es_sl_uk.parquet",
    "code/python_files_pypi_dev.parquet", "dedup/powershell_docs_versions_dev.parquet",
    "classifiers/quality_dclm_human_labels_dev.parquet", "html/wcxb_pages_dev.parquet",
    "html/debian_handbook_26_locales_dev.parquet",
)  # fmt: skip


def main(data: str = "../shared/data", runs: str = "50") -> None:
    """Forecast and run; print the table."""
    found: dict[str, list[tuple[Range, float]]] = defaultdict(list)
    pairs = [(corpus, name) for name in RECIPES for corpus in CORPORA][: int(runs)]
    for corpus, name in pairs:
        with tempfile.TemporaryDirectory(prefix="curate-bench-") as scratch:
            stages = [{"extract": {}}, *RECIPES[name]] if corpus.startswith("html/") else RECIPES[name]
            body = {
                "input": {"path": f"{data}/{corpus}", "columns": {"lang_gold": "lang"}}, "stages": stages,
                "output": {"path": f"{scratch}/out"}, "store": f"{scratch}/store",
                "allow_empty": True, "guards": {"allow": list(NAMES)},
            }  # fmt: skip
            for kind, said, true in one(from_tree(Tree(body, name))):
                found[kind].append((said, true))
                if not said.low <= true <= said.high:
                    print(
                        f"  outside: {corpus} {name}: {kind} {true:,.4g}, said {said.low:,.4g} - {said.high:,.4g}"
                    )
    for kind, values in found.items():
        widths = [said.high / said.low for said, _ in values if said.low > 0]
        inside = sum(said.low <= true <= said.high for said, true in values)
        print(f"{kind:<14} high / low {statistics.median(widths):5.2f}   inside {inside} of {len(values)}")


def one(recipe: Recipe) -> Iterator[tuple[str, Range, float]]:
    """Kind of value, its range, what was measured."""
    clock, cpu = time.perf_counter(), cpu_seconds()
    plan = freeze(recipe, (), lambda kind, data: None)
    planning = Spent(time.perf_counter() - clock, cpu_seconds() - cpu)
    quarter = max(400, min(draw.ROWS, sum(plan_rows(plan)) // 4))
    said = forecast(plan, recipe, workers=2, max_memory_mb=4096, planning=planning, rows=quarter)
    started = time.perf_counter()
    result = run(recipe, workers=2, max_memory_mb=4096, allow_quarantined=1e9)
    wall = time.perf_counter() - started
    steps = {}
    for part in plan.passes:
        folder = pass_folder(plan, recipe.output.path, part)
        if folder.exists(journal.JOURNAL):
            steps |= {int(i): count for i, count in journal.totals(journal.entries(folder)).steps.items()}
    yield from measured(said, result, steps, wall)
    output, store = Path(recipe.output.path), Path(recipe.store)
    yield "output bytes", said.output_bytes, disk(output)
    if said.scratch_bytes.high:
        yield "scratch bytes", said.scratch_bytes, disk(store)
    shutil.rmtree(output)


def measured(
    said: Forecast, result: Result, steps: dict[int, journal.StepCount], wall: float
) -> Iterator[tuple[str, Range, float]]:
    """What the journal says of each step that the forecast speaks of."""
    after = {step.index: following for step, following in zip(said.steps, said.steps[1:], strict=False)}
    wide = False
    for step in said.steps:
        wide = wide or step.is_global
        count = steps.get(step.index, journal.StepCount())
        kind = "global" if wide else "map"
        following = after.get(step.index)
        size = steps.get(following.index, journal.StepCount()).bytes if following else result.text_bytes
        yield f"rows, {kind}", step.rows, count.rows - sum(count.dropped.values()) - count.failed
        yield f"bytes, {kind}", step.bytes, size
    yield "seconds", said.seconds, wall
    yield "memory", said.worker_memory_bytes, max(one["peak_rss_bytes"] for one in result.passes)


def plan_rows(plan: Any) -> Iterator[int]:
    """Rows of each Parquet slice of the plan."""
    import pyarrow.parquet as pq

    for name in {piece.path for unit in plan.units for piece in unit}:
        yield pq.ParquetFile(Path(plan.root) / name).metadata.num_rows


def disk(folder: Path) -> float:
    """Bytes of the data files below."""
    return float(sum(path.stat().st_size for path in folder.rglob("*.parquet"))) if folder.exists() else 0.0


if __name__ == "__main__":
    main(*sys.argv[1:])
