"""A second time with fresh seeds, and a line in the record only for what was confirmed.

What is looked for, chosen and tried again is found by chance now and then. So a study is published by its confirm run: the
same plan, seeds that no run of it had, looks and alpha of its own.
"""

import datetime
import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from curate.engine.fingerprints import digest_of
from curate.errors import ConfigError
from curate.study.plan import Study
from curate.study.runs import suite_name

ANSWER = "study.json"
CONFIRM = "confirm"  # folder in the study's own
RESULTS = Path("recipes/RESULTS.md")
_HEAD = """# Results

What `curate ablate` found, of studies that were confirmed with fresh seeds. Differences are arm minus control, intervals are
over seeds, corrected for all comparisons of the study; seeds and unique tokens are the arm's and the control's.
"""
_COLUMNS = ("arm", "metric", "matching", "seeds", "unique tokens", "difference", "interval", "verdict")


def plan_of(study: Study) -> str:
    """Names everything in a study file but the seeds that it begins with, and what it scores on."""
    return digest_of(
        "study", {**msgspec.to_builtins(study), "first_seed": None, "scored": suite_name(study)}
    )[:16]


def fresh(study: Study, folder: Path, file: str) -> Study:
    """The same plan with seeds after all that were used. ConfigError where the study itself is not complete."""
    there = _answer(folder)
    command = f"curate ablate {file} -o {folder}"
    if there is None or not _is_complete(there, study):
        raise ConfigError(
            "there is nothing to confirm yet: the study is not complete", hint=f"first: {command}"
        )
    _check_plan(there, study, command)
    used = [seed + one.seed_offset for arm, one in study.arms.items() for seed in study.seeds_of(arm)]
    used += [run["seed"] + study.arms[run["arm"]].seed_offset for run in there["runs"]]
    return msgspec.structs.replace(study, first_seed=max(used) + 1)


def record(study: Study, folder: Path, file: str, results: Path = RESULTS) -> Path:
    """Append what the confirm run found. ConfigError where it is not complete, not of this plan, or recorded already."""
    command = f"curate ablate {file} -o {folder} --confirm"
    if len(study.matchings) < 2:
        raise ConfigError(
            "a verdict is published with both matchings, and this study has one",
            hint="`target: {params, tokens, raw_pool, pool}` in the study file",
        )
    there = _answer(folder / CONFIRM)
    if there is None or not _is_complete(there, study):
        raise ConfigError("nothing is recorded before the confirm run is complete", hint=f"first: {command}")
    _check_plan(there, study, command)
    if any(one["alpha"] <= 0 for one in there["verdicts"]):
        raise ConfigError(
            "the confirm run was looked at again after its plan was over: no alpha is left for that look",
            hint="a study in a new folder, with another `first_seed`",
        )
    entry = _entry(there, f"{command} --record")
    wrong = faults(entry)
    if wrong:
        raise ConfigError(f"this cannot be published: {wrong[0]}")
    before = results.read_text("utf-8") if results.exists() else _HEAD
    if _mark(there) in before:
        raise ConfigError(f"{results} has this confirm run already", hint="it is recorded once")
    results.parent.mkdir(parents=True, exist_ok=True)
    results.write_text(f"{before.rstrip()}\n\n{entry}", "utf-8")
    return results


def faults(text: str) -> list[str]:
    """What verdicts in a record lack: seeds, unique tokens, or one of the two matchings."""
    found = []
    for entry in re.split(r"(?m)^## ", text)[1:]:
        title, rows = (
            entry.splitlines()[0],
            [_cells(line) for line in entry.splitlines() if line.startswith("| ")],
        )
        if not rows or tuple(rows[0]) != _COLUMNS:
            found.append(f"`{title}` has no table of verdicts")
            continue
        matchings: dict[tuple[str, str], set[str]] = {}
        for arm, metric, matching, seeds, unique, _, interval, verdict in rows[2:]:
            matchings.setdefault((arm, metric), set()).add(matching)
            lost = interval == "diverged" and verdict == "undecided"
            for what, said, least in (("seeds", seeds, 2), ("unique tokens", unique, 1)):
                numbers = [int(one) for one in re.findall(r"\d+", said.replace(",", ""))]
                if not lost and (len(numbers) != 2 or min(numbers) < least):
                    found.append(f"`{title}`, {arm}, {metric}, {matching}: no {what}")
        found += [
            f"`{title}`, {arm}, {metric}: {' and '.join(sorted(some)) or 'no'} matching alone"
            for (arm, metric), some in matchings.items() if some != {"tokens", "pool"}
        ]  # fmt: skip
        if not matchings:
            found.append(f"`{title}` has no verdict")
    return found


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _answer(folder: Path) -> dict[str, Any] | None:
    path = folder / ANSWER
    return msgspec.json.decode(path.read_bytes()) if path.exists() else None


def _is_complete(answer: Mapping[str, Any], study: Study) -> bool:
    over = Counter((run["matching"], run["arm"]) for run in [*answer["runs"], *answer["diverged"]])
    return all(over[way, arm] >= len(study.seeds_of(arm)) for way in study.matchings for arm in study.arms)


def _check_plan(answer: Mapping[str, Any], study: Study, command: str) -> None:
    if answer.get("plan") != plan_of(study):
        raise ConfigError(
            f"what lies in {answer['output']} was found by another plan than this study file's",
            hint=f"run the study as it is now, in a new folder: {command}",
        )


def _mark(answer: Mapping[str, Any]) -> str:
    return f"plan {answer['plan']}, seeds from {answer['first_seed']} on"


def _entry(answer: Mapping[str, Any], command: str) -> str:
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    arms = [arm for arm in answer["training"] if arm != answer["control"]]
    refused = [one["note"] for one in answer["verdicts"] if one["note"] and one["difference"] is not None]
    lines = [
        f"## {today} {' '.join(answer['name'].split())}",
        "",
        f"`{shlex.join(shlex.split(command))}`",
        "",
        f"Arms {', '.join(arms)} against {answer['control']}; decided by {answer['primary']}; {_mark(answer)}.",
        "",
        *(_row(cells) for cells in (_COLUMNS, ["---"] * len(_COLUMNS))),
        *(_row(_verdict(one)) for one in answer["verdicts"]),
        *(
            f"\n{one['arm']} seed {one['seed']}, {one['matching']}: {one['reason']}"
            for one in answer["diverged"]
        ),
        *(f"\nUndecided: {why}." for why in dict.fromkeys(refused)),
    ]
    return "\n".join(lines) + "\n"


def _verdict(one: Mapping[str, Any]) -> Sequence[str]:
    difference, interval = "-", "diverged"
    if one["difference"] is not None:
        level = f" at {1 - one['alpha']:.2%}"
        difference, interval = f"{one['difference']:+.4f}", f"{one['low']:+.4f} to {one['high']:+.4f}{level}"
    return (
        one["arm"], one["metric"], one["matching"], f"{one['seeds']} / {one['control_seeds']}",
        f"{one['unique_tokens']:,} / {one['control_unique_tokens']:,}", difference, interval, one["verdict"],
    )  # fmt: skip


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
