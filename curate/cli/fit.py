"""`curate fit`: values for recipes, found on data."""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from curate.cli.run import Json
from curate.errors import ConfigError

if TYPE_CHECKING:
    from curate.fit.mix import Run
    from curate.fit.thresholds import Fitted, Options


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    fit = typer.Typer(
        no_args_is_help=True,
        help="Find values for recipes on data.\n\nExample: curate fit thresholds --reference wiki/ -o thresholds/",
    )
    fit.command("thresholds")(thresholds)
    fit.command("mix")(mix)
    fit.command("tokenizer")(tokenizer)
    app.add_typer(fit, name="fit")


def thresholds(
    reference: Annotated[
        list[str],
        typer.Option(
            "--reference",
            metavar="CORPUS",
            help="Good documents with `text` and `lang`: files, globs or folders; repeatable.",
        ),
    ],
    output: Annotated[str, typer.Option("--output", "-o", metavar="FOLDER", help="Where the YAML files go.")],
    lang: Annotated[list[str] | None, typer.Option("--lang", help="Only this language; repeatable.")] = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(
            "--rule",
            metavar="[KEY=]RULE",
            help="mean_std (the default), quantile, median_ratio or tail, for one key or for all; repeatable.",
        ),
    ] = None,
    tail: Annotated[
        float, typer.Option("--tail", help="Share of the reference that `tail` lets fail.")
    ] = 0.1,
    stop_share: Annotated[
        float, typer.Option("--stop-share", help="A word that makes up so much of all words is a stop word.")
    ] = 0.008,
    min_documents: Annotated[
        int, typer.Option("--min-documents", help="Fewer, and a language is refused.")
    ] = 100,
    as_json: Json = False,
) -> None:
    """Write one file of thresholds per language of a reference corpus.

    `gopher_quality`, `gopher_repetition`, `fineweb_quality` and, where the reference has a column `lang_score`,
    `language_id` read the folder: `thresholds: FOLDER`.

    Example: curate fit thresholds --reference wiki/ --lang fr --lang sw -o thresholds/
    """
    from curate.cli.console import print_json
    from curate.fit.thresholds import fit

    options = _options(rule or [], tail, stop_share, min_documents)
    fitted, refused = fit(reference, lang or [], output, options)
    if as_json:
        import msgspec

        body = {"languages": msgspec.to_builtins(fitted), "refused": refused}
        print_json({"schema": "curate.fit/1", "status": "ok", "exit": 0, "output": output, **body})
        return
    for one in fitted:
        _print(one.lang, one.documents, one.path, one.fitted)
    scored = all(one.thresholds().language_score is not None for one in fitted)
    _say_refused(refused, output, scored)


def mix(
    runs: Annotated[
        str,
        typer.Argument(
            metavar="RUNS.jsonl",
            help="One finished run, or a moment of one, per line: params, tokens, domain_share, domain_loss, general_loss.",
        ),
    ],
    law: Annotated[str, typer.Option("--law", help="d-cpt, or cmr (one model size).")] = "d-cpt",
    tokens: Annotated[
        float | None, typer.Option("--tokens", help="Budget to answer for; the largest of the runs.")
    ] = None,
    params: Annotated[
        float | None,
        typer.Option("--params", help="d-cpt: model size to answer for; the largest of the runs."),
    ] = None,
    max_increase: Annotated[
        float, typer.Option("--max-increase", help="cmr: nats that the general loss may rise.")
    ] = 0.05,
    base_loss: Annotated[
        float | None, typer.Option("--base-loss", help="d-cpt: general loss before continual pretraining.")
    ] = None,
    max_rise: Annotated[
        float, typer.Option("--max-rise", help="d-cpt: share of --base-loss that the general loss may rise.")
    ] = 0.03,
    as_json: Json = False,
) -> None:
    """Fit a law of mixtures to finished runs: how large a share of domain tokens the general loss bears.

    Example: curate fit mix runs.jsonl --law d-cpt --base-loss 2.86 --tokens 10e9
    """
    from curate.cli.console import print_json

    if law not in ("cmr", "d-cpt"):
        raise ConfigError(f"--law {law}: no such law", hint="d-cpt or cmr")
    if importlib.util.find_spec("scipy") is None:
        raise ConfigError("`fit mix` needs scipy, which is not there", hint='pip install "curate[study]"')
    found = _runs(runs)
    budget = tokens or max(run.tokens for run in found)
    share: float | None
    if law == "cmr":
        laws, share = _cmr(found, budget, max_increase)
    else:
        size = params or max(run.params for run in found)
        laws, share = _d_cpt(found, size, budget, (1 + max_rise) * base_loss if base_loss else None)
    if as_json:
        body = {"law": law, "fitted": laws, "tokens": budget, "domain_share": share}
        return print_json({"schema": "curate.fit/1", "status": "ok", "exit": 0, **body})
    for name, values in laws.items():
        print(name, " ".join(f"{key} {value:.6g}" for key, value in values.items()), sep="  ")
    if share is not None:
        print(f"largest domain share within the bound at {budget:,.0f} tokens: {share:.3f}")
    elif base_loss:
        print("no share keeps the bound")
    else:
        print("with --base-loss, the largest share within --max-rise as well")


def _cmr(runs: "list[Run]", tokens: float, max_increase: float) -> tuple[dict[str, dict[str, float]], float]:
    import msgspec

    from curate.fit.mix import TOKENS_UNIT, cmr

    law, points = cmr(runs, max_increase)
    through = {f"at {at:,.0f} tokens": {"critical_share": share} for at, share in points}
    share = min(1.0, max(0.0, float(law.at(tokens / TOKENS_UNIT))))
    return {"law": msgspec.to_builtins(law), **through}, share


def _d_cpt(
    runs: "list[Run]", params: float, tokens: float, limit: float | None
) -> tuple[dict[str, dict[str, float]], float | None]:
    import msgspec

    from curate.fit.mix import best_share, d_cpt

    laws = {of: d_cpt(runs, of) for of in ("domain", "general")}
    share = best_share(laws["general"], params, tokens, limit) if limit else None
    return {of: msgspec.to_builtins(law) for of, law in laws.items()}, share


def _runs(path: str) -> "list[Run]":
    """The runs of a file; DataError with its line for one that is none."""
    import msgspec

    from curate.errors import DataError
    from curate.fit.mix import Run

    try:
        lines = Path(path).read_bytes().splitlines()
    except OSError as error:
        raise DataError(
            f"cannot read `{path}`: {error.strerror}", hint="name a JSON Lines file of runs"
        ) from None
    runs = []
    for number, line in enumerate(lines, 1):
        try:
            runs.append(msgspec.json.decode(line, type=Run))
        except (msgspec.DecodeError, msgspec.ValidationError, DataError) as error:
            raise DataError(
                f"{error}",
                where=f"{path}:{number}",
                hint="keys: params, tokens, domain_share, domain_loss, general_loss",
            ) from None
    if not runs:
        raise DataError(f"`{path}` has no runs", hint="one JSON object a line")
    return runs


def tokenizer(
    corpus: Annotated[
        list[str],
        typer.Argument(
            metavar="CORPUS...", help="Documents with `text`: files, globs or folders.", show_default=False
        ),
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FOLDER", help="Where the tokenizer goes.")
    ],
    vocab_size: Annotated[
        int, typer.Option("--vocab-size", metavar="N", help="Tokens, special ones and 256 bytes among them.")
    ],
    sample: Annotated[
        int, typer.Option("--sample", metavar="N", min=0, help="Train on so many documents; 0: on all.")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Train a byte-level BPE and write it in hub format, for `curate tokenize` and for every arm of a study.

    Train it on text that no arm trains on: fitted.json in the folder says which files it saw.

    Example: curate fit tokenizer wiki/ -o tokenizer/ --vocab-size 8192 --sample 20000
    """
    import msgspec

    from curate.cli.console import print_json, say
    from curate.fit.tokenizer import fit

    fitted = fit(corpus, output, vocab_size, sample)
    if as_json:
        body = {name: value for name, value in msgspec.to_builtins(fitted).items() if name != "schema"}
        return print_json({"schema": "curate.fit/1", "status": "ok", "exit": 0, "output": output, **body})
    print(
        f"{fitted.vocab_size:,} tokens, from {fitted.sampled:,} of {fitted.documents:,} documents, "
        f"{fitted.text_bytes / 1e6:,.1f} MB of text"
    )
    if fitted.vocab_size < vocab_size:
        say(f"no more than {fitted.vocab_size:,} tokens: no other pair comes twice in these texts")
    say(f"next  curate tokenize CORPUS -o TOKENS --tokenizer {output}")


def _options(rules: list[str], tail: float, stop_share: float, min_documents: int) -> "Options":
    from curate.fit.thresholds import KEYS, RULES, Options

    if not 0 < tail < 1 or not 0 < stop_share < 1 or min_documents < 1:
        raise ConfigError("--tail and --stop-share are shares between 0 and 1, --min-documents is 1 or more")
    by_key = {}
    keys = list(dict.fromkeys(key for key, _ in KEYS))
    for text in rules:
        key, _, name = text.rpartition("=")
        if name not in RULES or (key and key not in keys):
            raise ConfigError(
                f"--rule {text}: not a rule" if name not in RULES else f"--rule {text}: no such key",
                hint=", ".join(RULES if name not in RULES else keys),
            )
        by_key[key] = name
    every = by_key.pop("", "mean_std")
    return Options(rules=by_key, rule=every, tail=tail, stop_share=stop_share, min_documents=min_documents)


def _print(lang: str, documents: int, path: str, fitted: "list[Fitted]") -> None:
    from curate.cli.console import cell, table

    print(f"{lang}  {documents:,} documents  {path}")
    rows = [("key", "value", "fails", "rule")]
    for one in fitted:
        key = f"{one.key} {one.n}" if one.n else one.key
        value = " ".join(one.value) if isinstance(one.value, tuple) else f"{one.value:.3f}"
        rows.append((f"  {key}", cell(value), "" if one.dropped is None else f"{one.dropped:.2%}", one.rule))
    print("\n".join(table(rows, right=(2,))) + "\n")


def _say_refused(refused: dict[str, str], output: str, scored: bool) -> None:
    from curate.cli.console import say
    from curate.stages._thresholds import NEEDS_SCORE

    for lang, why in refused.items():
        say(f"no file for {lang}: {why}")
    stages = ["gopher_quality", "gopher_repetition", "fineweb_quality", *(["language_id"] if scored else [])]
    say(f"next  thresholds: {output}  in {', '.join(stages[:-1])} and {stages[-1]}")
    if not scored:
        say(f"not in language_id: {NEEDS_SCORE}")
