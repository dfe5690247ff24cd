"""Keeps the documents of a suite's held-out sets out of every arm, by one rule.

Rule    a document is left out where the set's own list names its id, or where it is near one of the set, at the
        similarity that the set was made with: an arm that a recipe makes of the same pages may have other ids and texts
Sets    those that `curate eval heldout` made, and none that was drawn from an arm other than the control: such a set
        would be of that arm's own making
Lists   FOLDER/arms/ARM/leave_out/NAME-..., one for each set, made once for as long as the set stays as it is
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from curate.engine.fingerprints import digest_of
from curate.errors import ConfigError
from curate.eval import heldout
from curate.eval.suite import ABOUT, SET, load
from curate.study.plan import Study
from curate.train.tokens import Tokens

_OLDER = "they are older than the set: remove that folder, and it is made again without"
_TOKENIZE = "`curate tokenize CORPUS --leave-out FOLDER`, of the held-out set"

Command = tuple[tuple[str, ...], str]  # arguments of `curate`, and the file that says it is complete


def sets(study: Study) -> dict[str, str]:
    """Folders of the suite's held-out sets by name; '' for a set that has no list of what is left out for it."""
    paths = {one.name: Path(one.path) for one in load(study.suite).heldout}
    made = {name: path.name == SET and (path.parent / ABOUT).is_file() for name, path in paths.items()}
    return {name: str(path.parent) if made[name] else "" for name, path in paths.items()}


def commands(study: Study, folder: Path, arm: str, source: str) -> list[Command]:
    """What makes the lists of an arm from its corpus. ConfigError for a set that was drawn from an arm."""
    given = reading(study, arm)
    found: list[Command] = []
    for name, place in _made(study):
        _check_origin(study, folder, name, place)
        lists, rule = _list_of(folder, arm, name, place), heldout.about(place).rule
        threshold = ("--threshold", str(rule["threshold"]))
        arguments = ("eval", "heldout", source, "--set", place, "-o", str(lists), *threshold, *given)
        found.append((arguments, str(lists / ABOUT)))
    return found


def flags(study: Study, folder: Path, arm: str) -> list[str]:
    """Of `curate tokenize`, so that an arm's tokens are without what is left out."""
    return [flag for path in _lists(study, folder, arm) for flag in ("--leave-out", path)]


def check(study: Study, folder: Path) -> None:
    """ConfigError where the tokens of an arm hold a document that is left out."""
    for arm in study.arms:
        check_arm(study, folder, arm)


def check_arm(study: Study, folder: Path, arm: str) -> None:
    """The same of one arm; of one that was given as tokens by the sets' own lists alone."""
    given = study.arms[arm].is_tokens
    lists = [place for _, place in _made(study)] if given else _lists(study, folder, arm)
    listed = [heldout.left_out(path) for path in lists]
    names = pa.array(sorted(set[str]().union(*listed)), pa.string())
    if not len(names):
        return
    tokens = study.tokens_of(folder, arm)
    ids = Tokens.open(tokens).column("id")
    inside = ids.filter(pc.is_in(ids, value_set=names))
    if len(inside):
        raise ConfigError(
            f"the tokens of arm `{arm}` hold {len(inside):,} documents that the suite holds out, `{inside[0]}` first",
            where=str(tokens), hint=_TOKENIZE if given else _OLDER,
        )  # fmt: skip


def unmade(study: Study) -> list[str]:
    """Names of the sets that nothing says what to leave out for: nobody has looked for them in the arms."""
    return [name for name, place in sets(study).items() if not place]


def _made(study: Study) -> Iterator[tuple[str, str]]:
    return ((name, place) for name, place in sets(study).items() if place)


def _lists(study: Study, folder: Path, arm: str) -> list[str]:
    """The set's own list before the arm's."""
    pairs = [(place, str(_list_of(folder, arm, name, place))) for name, place in _made(study)]
    return [path for pair in pairs for path in pair]


def _list_of(folder: Path, arm: str, name: str, place: str) -> Path:
    made = heldout.about(place)
    digest = digest_of("heldout", {"set": made.set_hash, "rule": made.rule})[:8]
    return folder / "arms" / arm / "leave_out" / f"{name}-{digest}"


def reading(study: Study, arm: str) -> Sequence[str]:
    """`--id` as the arm's own flags for `curate tokenize` have it."""
    flags = study.arms[arm].tokenize
    asked = [value for flag, value in pairwise(flags) if flag == "--set"]
    asked += [flag.partition("=")[2] for flag in flags if flag.startswith("--set=")]
    keys = dict(one.partition("=")[::2] for one in asked if one.startswith("input."))
    if others := keys.keys() - {"input.id"}:
        raise ConfigError(
            f"arm `{arm}` reads its corpus by `{min(others)}`, so held-out documents cannot be looked for in it",
            hint="map its columns in a recipe instead; `input.id` may stay",
        )
    return ("--id", keys["input.id"]) if keys else ()


def _check_origin(study: Study, folder: Path, name: str, place: str) -> None:
    origins = {Path(one).resolve() for one in heldout.about(place).corpus}
    control = _corpus(study, folder, study.control)
    for arm in study.arms:
        own = _corpus(study, folder, arm)
        if own in origins and own != control:
            raise ConfigError(
                f"the held-out set `{name}` was drawn from arm `{arm}`: it would tell for that arm",
                where=place, hint="hold documents out of what all arms are made of, and score on those",
            )  # fmt: skip


def corpus_of(study: Study, folder: Path, arm: str) -> str:
    """What an arm is tokenized from."""
    one = study.arms[arm]
    return one.dataset or str(folder / "arms" / arm / "corpus")


def _corpus(study: Study, folder: Path, arm: str) -> Path:
    return Path(corpus_of(study, folder, arm)).resolve()
