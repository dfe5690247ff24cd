"""A study file: which corpora are compared, by which number, over how many seeds, all of it named before the first run.

name: dedup
arms:
  raw: {dataset: out/raw}
  deduped: {recipe: recipes/dedup.yaml, set: {minhash_dedup.threshold: 0.7}}
control: raw
make: {out/tokenizer: fit tokenizer other.jsonl --vocab-size 4096}
tokenizer: out/tokenizer
train: {size: 1m, tokens: 2400000}
seeds: 3
suite: recipes/truth/suite.yaml
primary: {metric: bpb, margin: 0.01}
target: {params: 1e9, tokens: 100e9, raw_pool: 200e9, pool: raw}   # then at equal raw pool too

Two kinds of study make arms of their own: `kind: microanneal` with `checkpoint`, `base`, `share` and `arms`, and
`kind: stage_by_stage` with `recipe` and, where not every stage is meant, `stages`.
"""

import shlex
from pathlib import Path
from typing import Any, Literal

import msgspec

from curate.errors import ConfigError
from curate.recipe.recipe import convert
from curate.recipe.tree import Tree, parse
from curate.study import verdict
from curate.study.verdict import Matching

BASE, ALL = "base", "all"  # control of a microanneal, of a study stage by stage
# commands that make what a study needs -> the last file that each writes
MAKERS = {
    "run": "_curate/manifest.json", "tokenize": "_curate/manifest.json", "fit": "fitted.json", "eval": "heldout.json",
    "train": "final/config.json",
}  # fmt: skip


class Arm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A corpus: one that is there, or what a recipe makes."""

    dataset: str = ""  # a folder or files with `text`, or what `curate tokenize` made of them
    recipe: str = ""
    set: dict[str, Any] = {}  # of the recipe: key.path -> value
    without: str = ""  # of the recipe: a stage that is left out, with the conditions on what it writes
    stages: tuple[str, ...] = ()  # Python files with stages of the recipe's own
    tokenize: tuple[str, ...] = ()  # flags of `curate tokenize`, such as --prefix
    train: dict[str, Any] = {}  # keys of training that only this arm has
    scored: Literal["final", "average"] = (
        "final"  # its last weights, or what `train: {average: ...}` made of several
    )
    seed_offset: int = 0  # added to its seeds in training; arms that are the same are then other runs (A/A)

    @property
    def is_tokens(self) -> bool:
        """Whether its dataset was tokenized before."""
        return bool(self.dataset) and any(Path(self.dataset).glob("part-*.arrow"))

    def __post_init__(self) -> None:
        if bool(self.dataset) == bool(self.recipe):
            raise ConfigError("an arm has a `dataset` or a `recipe`, one of them")
        if self.dataset and (self.set or self.stages or self.without):
            raise ConfigError("`set`, `stages` and `without` go with a `recipe`")


class Primary(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The one number that decides, and what difference would matter."""

    metric: str
    margin: float | None = None  # for planning and for "not inferior"; better and worse do not look at it


class Target(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The large run that the small ones stand for."""

    params: float  # parameters of its model
    tokens: float  # that it trains on
    raw_pool: float  # tokens of raw text that there are for it, before any curation
    pool: str | float  # the arm that is the raw text of all others, or how many tokens that has

    def __post_init__(self) -> None:
        numbers = [
            self.params,
            self.tokens,
            self.raw_pool,
            *([] if isinstance(self.pool, str) else [self.pool]),
        ]
        if min(numbers) <= 0:
            raise ConfigError("numbers of a `target` are above 0")


class Study(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    kind: Literal["arms", "microanneal", "stage_by_stage"] = "arms"
    checkpoint: str = ""  # microanneal: what every arm goes on from, weights and moments
    base: str = ""  # microanneal: the control's corpus or tokens, and most of what the others train on
    share: float = 0.0  # microanneal: of the tokens that are the arm's own
    recipe: str = ""  # stage_by_stage: whole for the control, without one of its stages for each other arm
    stages: tuple[
        str, ...
    ] = ()  # stage_by_stage: the stages to leave out; all that can be where none are named
    stage_files: tuple[str, ...] = ()  # stage_by_stage: Python files with stages of the recipe's own
    arms: dict[str, Arm]
    control: str
    make: dict[str, str] = {}  # folder -> the `curate` command that makes it, without -o
    tokenizer: str  # one for all arms, fitted on none of them
    suite: str  # what `curate eval` scores
    primary: Primary
    metrics: tuple[str, ...] = ()  # further ones: they count in the correction
    train: dict[str, Any] = {}  # keys of `curate train --config`, but the seed
    seeds: int = 3  # of an arm; the control gets sqrt(arms) times as many
    first_seed: int = 0  # a confirm run takes others
    alpha: float = 0.05  # share of studies without any difference that may give a verdict
    target: Target | None = None  # arms are then compared at equal raw pool too

    def __post_init__(self) -> None:
        self._check_kind()
        if len(self.arms) < 2:
            raise ConfigError("a study has two arms or more, one of them the control")
        if self.control not in self.arms:
            raise ConfigError(f"`control: {self.control}` is no arm", hint=f"arms: {', '.join(self.arms)}")
        bad = [name for name in self.arms if not name.replace("_", "").replace("-", "").isalnum()]
        if bad:
            raise ConfigError(
                f"an arm is called `{bad[0]}`", hint="letters, digits, `-` and `_`: it names a folder"
            )
        if self.seeds < 2:
            raise ConfigError(
                f"`seeds: {self.seeds}`: one seed says nothing of seeds", hint="2 or more, better 3 to 5"
            )
        if not 0 < self.alpha < 1:
            raise ConfigError("`alpha` lies between 0 and 1")
        for folder, command in self.make.items():
            _check_quotes(folder, command)
            if first_word(command) not in MAKERS:
                raise ConfigError(
                    f"`make.{folder}: {command}`: {first_word(command) or 'nothing'} makes no folder here",
                    hint=f"one of {', '.join(MAKERS)}, without `curate` and without -o",
                )
        if any("seed" in keys for keys in (self.train, *(arm.train for arm in self.arms.values()))):
            raise ConfigError("`train.seed` is the study's to choose", hint="`seeds` and `first_seed`")

        if self.target is not None:
            self._check_target(self.target)

    def _check_kind(self) -> None:
        keys_of = {
            "microanneal": ("checkpoint", "base", "share"), "stage_by_stage": ("recipe", "stages", "stage_files"),
        }  # fmt: skip
        for kind, keys in keys_of.items():
            named = [key for key in keys if getattr(self, key)]
            if named and kind != self.kind:
                raise ConfigError(f"`{named[0]}` goes with another `kind`", hint=f"kind: {kind}")
        if self.kind == "microanneal":
            self._check_microanneal()

    def _check_microanneal(self) -> None:
        if not self.checkpoint or not 0 < self.share < 1:
            raise ConfigError("a microanneal has a `checkpoint`, a `base` and a `share` between 0 and 1")
        if self.target is not None:
            raise ConfigError(
                "a microanneal has no `target`: it compares at equal tokens alone",
                hint="a study of `kind: arms` confirms what it finds, from scratch",
            )
        for keys in (self.train, *(arm.train for arm in self.arms.values())):
            own = [key for key in ("init", "schedule", "lr", "mix", "count", "phases") if key in keys]
            if own:
                raise ConfigError(f"`train.{own[0]}` is the microanneal's to choose", hint="leave it out")

    def _check_target(self, target: Target) -> None:
        if isinstance(target.pool, str) and target.pool not in self.arms:
            raise ConfigError(
                f"`target.pool: {target.pool}` is no arm",
                hint=f"arms: {', '.join(self.arms)}; or a number of tokens",
            )
        for keys in (self.train, *(arm.train for arm in self.arms.values())):
            mix = keys.get("mix") or {}
            own = [f"mix.{key}" for key in ("max_epochs", "unimax") if key in mix]
            own += [key for key in ("phases", "subset", "count") if key in keys]
            if own:
                raise ConfigError(
                    f"`train.{own[0]}`: with a `target`, which tokens count and how often is the study's to say",
                    hint="leave it out",
                )

    def seeds_of(self, arm: str) -> list[int]:
        """Seeds of an arm's runs."""
        count = self.seeds
        if arm == self.control:
            count = verdict.control_seeds(self.seeds, len(self.arms) - 1)
        return list(range(self.first_seed, self.first_seed + count))

    @property
    def matchings(self) -> tuple[Matching, ...]:
        """What is held equal between arms; each has runs of its own."""
        return ("tokens",) if self.target is None else ("tokens", "pool")

    def tokens_of(self, folder: Path, arm: str) -> Path:
        """Tokens of an arm's own corpus."""
        if self.arms[arm].is_tokens:
            return Path(self.arms[arm].dataset)
        name = "candidate" if self.kind == "microanneal" and arm != self.control else "tokens"
        return folder / "arms" / arm / name  # datasets that are mixed need names of their own

    def all_metrics(self) -> list[str]:
        """The primary one first."""
        return list(dict.fromkeys([self.primary.metric, *self.metrics]))

    def training(self, arm: str, seed: int) -> dict[str, Any]:
        """Keys of a training: order and init vary with the seed, and the documents where a `subset` is drawn."""
        one = self.arms[arm]
        count = {} if self.target is None else {"count": "loss"}
        keys = {**count, **self.train, **one.train, "seed": seed + one.seed_offset}
        if isinstance(keys.get("subset"), dict):
            keys["subset"] = {**keys["subset"], "seed": keys["seed"]}
        return keys


def load(file: str) -> Study:
    """Read a study file; ConfigError with the line of what is wrong. Paths in it start from the current folder."""
    try:
        text = Path(file).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"cannot read the study: {getattr(error, 'strerror', None) or error}",
            where=file,
            hint="curate ablate STUDY.yaml",
        ) from None
    tree: Tree = parse(text, file)
    if isinstance(tree.root, dict):
        _fill_arms(tree.root)
    found: Study = convert(tree.root, Study, (), tree)
    named = [arm.recipe or arm.dataset for arm in found.arms.values()]
    named += [path for path in (found.tokenizer, found.suite, found.checkpoint) if path]
    made = [path for path in named if any(Path(path).is_relative_to(folder) for folder in found.make)]
    missing = [path for path in named if path not in made and not _is_there(path)]
    if missing:
        raise ConfigError(
            f"`{missing[0]}` is not there", where=file, hint="paths start from the current folder"
        )
    return found


def _fill_arms(root: dict[str, Any]) -> None:
    """The arms and the control that a kind of study stands for."""
    if root.get("kind", "arms") == "arms":
        return
    if "control" in root:
        raise ConfigError(
            f"a study of `kind: {root['kind']}` makes its own control", hint="leave `control` out"
        )
    if root["kind"] == "microanneal" and isinstance(root.get("arms"), dict):
        if BASE in root["arms"]:
            raise ConfigError(
                f"`{BASE}` is the control that a microanneal makes itself", hint="rename that arm"
            )
        root["arms"] = {BASE: {"dataset": root.get("base", "")}, **root["arms"]}
        root["control"] = BASE
    if root["kind"] == "stage_by_stage":
        if "arms" in root or "recipe" not in root:
            raise ConfigError("a study of `kind: stage_by_stage` has a `recipe`, and makes its arms of it")
        root["arms"], root["control"] = _by_stage(root), ALL


def _check_types(root: dict[str, Any]) -> None:
    lists = [key for key in ("stages", "stage_files") if not isinstance(root.get(key) or [], list)]
    wrong = lists or ([] if isinstance(root["recipe"], str) else ["recipe"])
    if wrong:
        raise ConfigError(
            f"`{wrong[0]}: {root[wrong[0]]}` is not {'a list' if lists else 'a file'}",
            hint="recipe: FILE, stages: [NAME, ...], stage_files: [FILE, ...]",
        )


def _by_stage(root: dict[str, Any]) -> dict[str, Any]:
    from curate.study import without

    _check_types(root)
    files = root.get("stage_files") or []
    whole = {"recipe": root["recipe"], "stages": files}
    recipe = without.opened(root["recipe"], files)
    names = root.get("stages") or [name for name, why in without.survey(recipe).items() if not why]
    for name in names:
        without.without(recipe, name)
    return {ALL: whole, **{f"without_{name}": {**whole, "without": name} for name in names}}


def _check_quotes(folder: str, command: str) -> None:
    try:
        shlex.split(command)
    except ValueError as error:
        raise ConfigError(f"`make.{folder}: {command}`: {error}", hint="as in a shell") from None


def first_word(command: str) -> str:
    """Of a command of `make`."""
    return command.split(maxsplit=1)[0] if command.split() else ""


def _is_there(path: str) -> bool:
    return "://" in path or any(sign in path for sign in "*?[") or Path(path).exists()
