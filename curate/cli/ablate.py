"""`curate ablate`: did this corpus make the model better, and how sure are we?"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curate.cli.run import Json, Quiet
from curate.errors import ConfigError

if TYPE_CHECKING:
    from curate.study.answer import Answer, Lost
    from curate.study.plan import Study
    from curate.study.runs import Trained
    from curate.study.scores import Scored


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command("ablate")(ablate)


def ablate(
    study: Annotated[
        str, typer.Argument(metavar="STUDY.yaml", help="Arms, control, seeds, the number that decides.")
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FOLDER", help="Corpora, tokens and the answer.")
    ],
    store: Annotated[
        str,
        typer.Option(
            "--store", help="Runs of all studies, by fingerprint. [default: .curate/runs beside FOLDER]"
        ),
    ] = "",
    workers: Annotated[int, typer.Option("--workers", min=0, help="Runs at a time; 0: one per core.")] = 0,
    seeds: Annotated[
        int, typer.Option("--seeds", min=0, help="Look after so many seeds; it costs alpha.")
    ] = 0,
    confirm: Annotated[
        bool, typer.Option("--confirm", help="The same plan with fresh seeds, once the study is complete.")
    ] = False,
    record: Annotated[
        bool, typer.Option("--record", help="Add a complete confirm run to recipes/RESULTS.md.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Make what `make` names, print the plan and what it could see.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a small model on each arm with several seeds, score them alike, and say better, worse or undecided.

    A killed study goes on where it stopped; runs that another study has made are not made again. Only what a confirm run
    with fresh seeds found is recorded.

    Example: curate ablate recipes/truth/planted_harm.yaml -o out/planted_harm

    Exit codes: 0 whatever the verdict; 2 the study cannot be run as written; 3 a command of it failed, run again to go on.
    """
    from curate.cli.console import print_json, say
    from curate.study import confirm as confirming
    from curate.study import plan

    _need("torch", "transformers", "lm_eval", "scipy")
    found = plan.load(study)
    _check_metrics(found)
    runs = Path(store) if store else Path(output).parent / ".curate" / "runs"
    talk = (lambda text: None) if quiet else say
    _make(found, Path(output), talk)
    if dry_run:
        return _say_plan(found, runs, as_json)
    if record and not confirm:
        added = confirming.record(found, Path(output), study)
        talk(f"added to {added}")
        return (
            print_json({"schema": "curate.ablate/1", "status": "ok", "exit": 0, "results": str(added)})
            if as_json
            else None
        )
    now = confirming.fresh(found, Path(output), study) if confirm else found
    result = _worked(now, Path(output), runs, workers or os.cpu_count() or 1, seeds, talk, confirm)
    if record:
        talk(f"added to {confirming.record(found, Path(output), study)}")
    if as_json:
        print_json(result)
    elif not quiet:
        _say_answer(result)


def _need(*libraries: str) -> None:
    import importlib.util

    missing = [name for name in libraries if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"a study needs {', '.join(missing)}", hint='pip install "curate[train,eval,study]"'
        )


def _check_metrics(study: "Study") -> None:
    """Before any training; a suite that `make` makes is looked at when it is there."""
    from curate.study.scores import check_metrics

    if Path(study.suite).exists() or not study.suite.endswith((".yaml", ".yml")):
        check_metrics(study.suite, study.all_metrics())


def _make(study: "Study", folder: Path, talk: Any) -> None:
    from curate.study import runs

    for _ in runs.work([runs.making(study)], 1, folder / "log", talk):
        pass


def _worked(
    study: "Study", folder: Path, store: Path, workers: int, seeds: int, talk: Any, confirms: bool
) -> "Answer":
    from curate.engine.lock import Lock
    from curate.io.files import Folder
    from curate.study import answer, left_out, matching, runs, tasks

    if seeds and seeds > study.seeds:
        raise ConfigError(
            f"--seeds {seeds}: the study names {study.seeds}", hint="change `seeds` in the study"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with Lock(Folder(str(folder))):
        corpora = [runs.corpus_steps(study, folder, arm) for arm in study.arms]
        for _ in runs.work(corpora, 1, folder / "log", talk):
            pass
        runs.check_tokenizer(study, folder)
        of_sources = [runs.source_steps(study, folder, arm) for arm in study.arms]
        for _ in runs.work(of_sources, 1, folder / "log", talk):
            pass
        left_out.check(study, folder)
        for name in left_out.unmade(study):
            talk(f"`{name}` is no set of `curate eval heldout`: no arm is searched for its documents")
        for _ in runs.work(tasks.searches(study, folder), 1, folder / "log", talk):
            pass
        wanted = runs.runs_of(study, folder, store)
        if seeds:
            wanted = [run for run in wanted if run.seed < study.first_seed + seeds]
        talk(f"{len(wanted)} runs: {len(study.arms)} arms, {study.seeds} seeds, control `{study.control}`")
        done, diverged = _trained(study, wanted, workers, folder / "log", talk)
        for _ in runs.work(tasks.checkpoints(study, wanted), workers, folder / "log", talk):
            pass
        return answer.answer(
            study, folder, store, done, study.seeds, diverged, matching.pools(study, folder), confirms
        )


def _trained(
    study: "Study", wanted: "list[Trained]", workers: int, logs: Path, talk: Any
) -> "tuple[list[Scored], list[Lost]]":
    """Work runs off, one of several that are the same; what those gave that were completed, and the others."""
    from curate.study import runs, scores
    from curate.study.answer import Lost

    done: list[Scored] = []
    diverged: list[Lost] = []
    tracks = list(dict.fromkeys(run.steps for run in wanted))
    for number in runs.work(tracks, workers, logs, talk):
        for run in (run for run in wanted if run.steps == tracks[number]):
            why = runs.divergence(run.steps[0].result)
            if why:
                diverged.append(Lost(run.arm, run.seed, run.matching, why, run.folder))
                told = why
            else:
                done.append(scores.scored(run, study.all_metrics()))
                told = f"{study.primary.metric} {done[-1].values[study.primary.metric]:.4f}"
            talk(f"{run.arm} seed {run.seed}: {told}  ({len(done) + len(diverged)} of {len(wanted)})")
    return done, diverged


def _say_plan(study: "Study", store: Path, as_json: bool) -> None:
    from curate.cli.console import print_json, table
    from curate.study.outlook import outlook

    plan = outlook(study, store)
    if as_json:
        return print_json({"schema": "curate.ablate/1", "status": "ok", "exit": 0, "plan": plan})
    hours, sees = plan["hours"], plan["smallest_detectable"]
    rows = [
        ("runs", f"{plan['runs']}"), ("tokens", f"{plan['tokens']:,}"),
        ("hours", "not known: no such run in the store yet" if hours is None else f"{hours:.2f} on one core or GPU"),
        ("sees", "not known: no earlier runs tell how much seeds vary" if sees is None
         else f"{study.primary.metric} {sees:.4f} or more, four times in five"),
    ]  # fmt: skip
    print("\n".join(table(rows)))


def _say_answer(result: "Answer") -> None:
    from curate.cli.console import say, table

    rows = [
        ("arm", "metric", "matching", "difference", "interval", "verdict", "smallest it could see", "seeds")
    ]
    for one in result.verdicts:
        known = one.difference == one.difference  # not of a run that diverged
        rows.append((
            one.arm, one.metric, one.matching, f"{one.difference:+.4f}" if known else "-",
            f"{one.low:+.4f} to {one.high:+.4f}" if known else "diverged", one.verdict,
            f"{one.smallest_detectable:.4f}" if known else "-", f"{one.seeds} / {one.control_seeds}",
        ))  # fmt: skip
    say()
    print("\n".join(table(rows)))
    for lost in result.diverged:
        say(f"{lost.arm} seed {lost.seed}: {lost.reason}; without it nothing is said of the arm")
    for why in dict.fromkeys(
        one.note for one in result.verdicts if one.note and one.difference == one.difference
    ):
        say(f"undecided: {why}")
    for noise in result.noise:
        say(
            f"{noise.arm} {noise.metric} {noise.matching}: {noise.low:+.4f} to {noise.high:+.4f}, evaluation noise only"
        )
    for note in result.notes:
        say(note)
    for arm, cost in result.cost.items():
        say(f"{arm} cost {cost.line()}")
    say(f"against `{result.control}`; intervals over seeds, corrected for {len(result.verdicts)} comparisons")
    say(f"output  {result.output}")
