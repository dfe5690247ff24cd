"""Keeps a mixture the same in every arm: tokens of each source by themselves, and the shares of the control's.

Leaving out a stage changes how much of each source is left, and with it the mixture. Where the corpus has a column `source`
with a few values, each arm is trained on the control's shares of them; else there is nothing to pin.
"""

import hashlib
from pathlib import Path
from typing import Any

from curate.errors import DataError
from curate.io.query import open_dataset, query
from curate.stages.tokenize import WRITES
from curate.study import left_out
from curate.study.plan import Study
from curate.study.without import write
from curate.train.plan import learned
from curate.train.tokens import Tokens

MOST = 32  # sources whose shares are held; more are one mixture


def found(study: Study, folder: Path) -> list[str | None]:
    """Sources of the control's corpus, the largest first; [] where it has no column `source`."""
    corpus = open_dataset(folder / "arms" / study.control / "corpus")
    if "source" not in query(corpus, "SELECT * FROM docs LIMIT 0").schema.names:
        return []
    listed = query(
        corpus,
        "SELECT CAST(source AS VARCHAR) AS source, count(*) AS n FROM docs GROUP BY 1 ORDER BY n DESC, 1",
    )
    return [value for batch in listed for value in batch["source"].to_pylist()]


def pinned(study: Study, folder: Path) -> list[str | None]:
    """Sources whose shares are held; [] where there is nothing to hold."""
    sources = found(study, folder)
    return sources if 1 < len(sources) <= MOST else []


def note(study: Study, folder: Path) -> str:
    """What was held."""
    sources = found(study, folder)
    if 1 < len(sources) <= MOST:
        return f"every arm trains on the control's shares of {len(sources)} sources"
    why = (
        "its corpus has no column `source`"
        if not sources
        else f"it has {len(sources)} source{'s' * (len(sources) > 1)}"
    )
    return f"the mixture of sources is as each arm leaves it: {why}"


def recipes(study: Study, folder: Path, arm: str) -> dict[Path, Path]:
    """Output folder -> recipe, for the tokens of each source of an arm. Writes the recipes."""
    made = {}
    for source in pinned(study, folder):
        target = folder_of(folder, arm, source)
        write(_recipe(study, folder, arm, source, target), target.with_suffix(".yaml"))
        made[target] = target.with_suffix(".yaml")
    return made


def folder_of(folder: Path, arm: str, source: str | None) -> Path:
    """Where the tokens of a source lie; the name is the same in every arm."""
    digest = hashlib.sha256(repr(source).encode()).hexdigest()[:8]
    return folder / "arms" / arm / "sources" / f"source-{digest}"


def weights(study: Study, folder: Path) -> dict[str, float]:
    """Loss-bearing tokens of the control by source: what `mix.weights` of every arm are."""
    places = [folder_of(folder, study.control, source) for source in pinned(study, folder)]
    return {place.name: float(learned(Tokens.open(place)).sum()) for place in places}


def check(study: Study, folder: Path) -> None:
    """DataError where nothing of a source is left in an arm."""
    for arm in study.arms:
        for source in pinned(study, folder):
            if not any(folder_of(folder, arm, source).glob("part-*.arrow")):
                raise DataError(
                    f"arm `{arm}` has nothing left of source `{source}`, so the control's mixture cannot be held",
                    hint="leave that source out of the recipe's input",
                )


def _recipe(study: Study, folder: Path, arm: str, source: str | None, target: Path) -> dict[str, Any]:
    value = (
        "source is null"
        if source is None
        else "CAST(source AS VARCHAR) = '" + source.replace("'", "''") + "'"
    )
    lists = left_out.flags(study, folder, arm)[1::2]
    dropping: list[Any] = [{"leave_out": {"lists": lists}}, {"select": "leave_out_pass"}] if lists else []
    return {
        "name": "tokenize",
        "input": {"path": [str(folder / "arms" / arm / "corpus")]},
        "stages": [{"select": value}, *dropping, {"tokenize": {"tokenizer": study.tokenizer}}],
        "allow_empty": True,
        "output": {"path": str(target), "format": "arrow", "columns": list(WRITES)},
    }
