"""A finished study in small: two real corpora, an arm without one, logs of runs, and what they came to."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from victims import table

import curate

ARMS = {
    "raw": ["token_count"],
    "ruled": [{"gopher_quality": {}}, {"select": "gopher_quality_pass"}, "token_count"],
    "edited": [{"c4_lines": {}}],
}
VALUES = {
    "raw": {"bpb": {0: 1.80, 1: 1.84}, "quiz": {0: 0.30, 1: 0.34}},
    "ruled": {"bpb": {0: 1.90, 1: 1.96}, "quiz": {0: 0.50, 1: 0.52}},
    "edited": {"bpb": {0: 1.81, 1: 1.83}, "quiz": {0: 0.30, 1: 0.36}},
}


def verdict(
    arm: str,
    metric: str,
    word: str,
    difference: float | None,
    low: float | None,
    high: float | None,
    **more: Any,
) -> dict[str, Any]:
    return {
        "arm": arm, "metric": metric, "verdict": word, "difference": difference, "low": low, "high": high, "alpha": 0.05, "p": 0.01,
        "smallest_detectable": 0.1234, "seeds": 2, "control_seeds": 2, "not_inferior": None, **more,
    }  # fmt: skip


def run_folder(store: Path, arm: str, seed: int, status: str = "complete") -> dict[str, Any]:
    """A run of 1,000 steps whose loss falls from 5 to 4."""
    folder = store / f"{arm}-{seed}"
    folder.mkdir(parents=True)
    data = {"shares": {"tokens": 1.0}, "loss_tokens": 9000, "unique_tokens": 8000, "epochs": {"tokens": 1.25}}
    (folder / "train.json").write_text(json.dumps({
        "status": status, "reason": "" if status == "complete" else "the loss is null", "tokens": 10_000, "data": data, "seconds": 2.0,
        "notes": [],
    }))  # fmt: skip
    lines = [{"step": i + 1, "tokens": 10 * (i + 1), "loss": 5 - i / 1000} for i in range(1000)]
    if status == "diverged":
        lines = [*lines[:500], {"step": 501, "tokens": 5010, "loss": None}]
    log = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "log.jsonl").write_text(log + '{"step": 1001, "tok')  # a run under way was cut here
    return {"arm": arm, "seed": seed, "folder": f"out/.curate/runs/{arm}-{seed}"}


def study(folder: Path) -> Path:
    """Write it; paths in it are those of another place, where it ran."""
    out = folder / "out"
    (out / "study").mkdir(parents=True)
    pq.write_table(table(), folder / "in.parquet")
    for arm, steps in ARMS.items():
        recipe = {
            "name": "rules", "input": {"path": str(folder / "in.parquet"), "id": "key"}, "stages": steps,
            "output": {"path": str(out / "study/arms" / arm / "corpus")},
        }  # fmt: skip
        curate.run(recipe, workers=1)
    runs = [
        run_folder(out / ".curate/runs", arm, seed, "diverged" if (arm, seed) == ("edited", 1) else "complete")
        for arm in ARMS for seed in (0, 1)
    ]  # fmt: skip
    training = {
        "runs": 2,
        "parameters": 724_864,
        "tokens": [10_000, 10_000],
        "unique_tokens": [8000, 8000],
        "epochs": [1.25, 1.25],
        "seconds": 4.0,
    }
    answer = {
        "schema": "curate.ablate/1", "status": "ok", "exit": 0, "name": "<i>small</i>", "control": "raw", "primary": "bpb",
        "margin": 0.02, "values": VALUES,
        "verdicts": [
            verdict("ruled", "quiz", "better", 0.19, 0.01, 0.37),
            verdict("ruled", "bpb", "worse", 0.11, 0.002, 0.218, not_inferior=False),
            verdict("edited", "bpb", "undecided", None, None, None, note="seed 1 diverged", not_inferior=False),
            verdict("edited", "quiz", "undecided", 0.01, -0.09, 0.11),
        ],
        "looks": [{"seeds": 1, "planned": 2, "alpha": 0.025}, {"seeds": 2, "planned": 2, "alpha": 0.025}],
        "spread": {"bpb": {"variance": 0.0016, "df": 3}, "quiz": {"variance": 0.0, "df": 0}},
        "training": dict.fromkeys(ARMS, training), "notes": ["an <b>early</b> look"], "output": "out/study",
        "noise": [{"arm": "ruled", "metric": "bpb", "matching": "tokens", "low": 0.08, "high": 0.13}],
        "cost": {"ruled": {"cpu_seconds": {"gopher_quality": 3.0, "select": 0.5}, "flops": {"score": 2e12}}},
        "tasks": {"quiz": {"task": "quiz", "monotonicity": 0.9, "snr": 3.0, "above_chance": None, "ordering": 1.0, "why_not": []}},
        "common": {"contaminated": {"ruled": {"quiz": 3}}, "left_out": {"quiz": 3}, "full": {"ruled": {"quiz": 0.51}}},
        "runs": [*runs, {"arm": "raw", "seed": 2, "folder": "out/.curate/runs/gone"}],
    }  # fmt: skip
    (out / "study/study.json").write_text(json.dumps(answer))
    return out / "study"
