"""A checked recipe: the tree of a YAML file converted with unknown keys forbidden and every stage's Config built.

Precedence: flag > recipe > CURATE_* environment > default; `Recipe.origins` says where each value came from.
"""

import copy
import difflib
import math
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from curate import stages
from curate.errors import ConfigError
from curate.io.files import is_remote
from curate.io.inputs import Input
from curate.recipe.guards import Guards
from curate.recipe.hints import meaning, nearest
from curate.recipe.tree import Path as Place
from curate.recipe.tree import Tree, parse, scalar
from curate.stage import Stage

MAX_DROPS = ("max_drop", "max_drop_per_source", "max_drop_per_lang")
_STEP_KEYS = ("stage", "name", "when", *MAX_DROPS)
_SHORTHAND = {"select": "where"}  # `- select: "lang = 'en'"`
_ENVIRONMENT = {"CURATE_STORE": ("store",), "CURATE_SEED": ("seed",), "CURATE_UNIT_MB": ("unit_mb",)}
CHECKPOINT = "checkpoint"


class DropSample(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keep this share of the dropped rows whole."""

    sample: float


class Output(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    path: str = ""  # folder or address of the dataset
    format: Literal["parquet", "jsonl.zst", "arrow"] = "parquet"  # arrow: uncompressed, to be mapped
    dropped: Literal["full", "keys"] | DropSample | None = None  # None: full, or keys above 10 GB of input
    partition_by: tuple[str, ...] = ()  # columns whose values name folders, lang=en/bucket=3/
    # new: `id` and what the stages write, to be joined with the input; a list: `id` and those it names
    columns: Literal["all", "new"] | tuple[str, ...] = "all"


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of `stages`, its Config complete."""

    index: int
    stage: str
    name: str  # prefixes the columns; the stage's name unless the recipe gives one
    config: dict[str, Any]
    when: str = ""
    max_drop: float | None = None  # guard: largest share of its rows the step may drop
    max_drop_per_source: float | None = None
    max_drop_per_lang: float | None = None  # by the column `lang`, where there is one

    def spec(self) -> Stage:
        return stages.find(self.stage)

    def settings(self) -> Any:
        """The stage's Config."""
        return msgspec.convert(self.config, self.spec().config)


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    input: Input
    steps: tuple[Step, ...]
    output: Output
    seed: int = 0
    store: str = ""  # work store; `.curate` beside the output when empty
    unit_mb: int = 256
    max_document_mb: int = 64
    allow_empty: bool = False  # zero rows out of some rows in is an error otherwise
    allow_quarantined: float = 0  # a count, or below 1 a share of the rows
    guards: Guards = Guards()
    canaries: bool = False  # plant rows that the stages must find, in a small run before this one
    base: str = "."  # folder that relative paths start from
    file: str = ""  # where it was read from
    origins: dict[str, str] = {}


class _Top(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of a recipe file."""

    input: Input
    stages: list[Any]
    name: str = ""
    output: Output = Output()
    seed: int = 0
    store: str = ""
    unit_mb: int = 256
    max_document_mb: int = 64
    allow_empty: bool = False
    allow_quarantined: float = 0
    guards: Guards = Guards()
    canaries: bool = False


def load(path: str | Path, *, sets: Sequence[str] = (), output: str = "") -> Recipe:
    """Read and check a recipe file. `sets` are `key.path=value` flags; `output` stands for output.path."""
    file = Path(path)
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"cannot read the recipe: {reason}", where=str(path), hint=_recipe_hint(file)
        ) from None
    tree = parse(text, str(path))
    recipe = from_tree(tree, sets=sets, output=output, default_name=file.stem)
    return msgspec.structs.replace(recipe, file=str(path))


def from_tree(
    tree: Tree, *, sets: Sequence[str] = (), output: str = "", default_name: str = "recipe", base: str = "."
) -> Recipe:
    """Check a parsed recipe. Relative paths start from `base`, the current folder as for any command."""
    tree = Tree(copy.deepcopy(tree.root), tree.name, dict(tree.places))  # the caller's dict stays as it is
    root = tree.root
    if not isinstance(root, dict):
        raise ConfigError("a recipe is a mapping with `input`, `stages` and `output`", where=tree.name)
    if isinstance(root.get("input"), list):  # short for its `path`
        root["input"] = {"path": root["input"]}
        inside = [path for path in tree.places if path[0:1] == ("input",) and len(path) > 1]
        tree.places |= {("input", "path", *path[1:]): tree.places.pop(path) for path in inside}
    origins = {".".join(map(str, path)): "recipe" for path in tree.places if path}
    for variable, place in _ENVIRONMENT.items():
        if variable in os.environ and place[0] not in root:
            root[place[0]] = scalar(os.environ[variable])
            origins[place[0]] = tree.places[place] = variable
    for text in sets:
        origins[_set(tree, text)] = "flag"
    if output:
        root.setdefault("output", {})
        if not isinstance(root["output"], dict):
            raise ConfigError("`output` must be a mapping", where=tree.place(("output",)))
        root["output"]["path"] = output
        origins["output.path"] = "flag"
    top = convert(root, _Top, (), tree)
    _check_ranges(top, tree)
    steps = [_step(item, i, top.seed, tree) for i, item in enumerate(top.stages)]
    _check_names(steps, tree)
    values = {key: getattr(top, key) for key in top.__struct_fields__ if key not in ("stages", "name")}
    values["input"] = _with_full_paths(top.input, base)
    return Recipe(name=top.name or default_name, steps=tuple(steps), base=base, origins=origins, **values)


def _with_full_paths(given: Input, base: str) -> Input:
    # workers and a resume elsewhere open the side columns again
    sides = (p if is_remote(p) else os.path.abspath(os.path.join(base, p)) for p in given.sides)
    return msgspec.structs.replace(given, with_=tuple(sides))


def _check_ranges(top: _Top, tree: Tree) -> None:
    for key, low, high in (
        ("unit_mb", 1, 1 << 20),
        ("max_document_mb", 1, 1024),
        ("allow_quarantined", 0, 1 << 60),
    ):
        if not low <= getattr(top, key) <= high:
            raise ConfigError(f"`{key}` must be between {low} and {high}", where=tree.place((key,)))
    by = top.output.partition_by
    if len(set(by)) < len(by):
        raise ConfigError(
            "`partition_by` names a column twice",
            where=tree.place(("output", "partition_by")),
            hint="name it once",
        )
    if top.output.columns == "new" and (by or top.output.format != "parquet"):
        raise ConfigError(
            "`columns: new` writes plain Parquet beside the corpus: no `partition_by`, no other `format`",
            where=tree.place(("output", "columns")),
            hint="leave out the other key",
        )
    sample = getattr(top.output.dropped, "sample", 0.5)
    if not 0 < sample <= 1:
        raise ConfigError(
            "`sample` must be above 0 and at most 1", where=tree.place(("output", "dropped", "sample"))
        )


def _step(item: Any, index: int, seed: int, tree: Tree) -> Step:
    place: Place = ("stages", index)
    where = tree.place(place)
    if isinstance(item, str):
        item = {item: {}}
    if not isinstance(item, dict) or not item:
        raise ConfigError(f"stages[{index}] must be `- stage_name: {{options}}`", where=where)
    if "stage" in item:
        keys = dict(item)
        name = keys.pop("stage")
    elif len(item) == 1:
        name, value = next(iter(item.items()))
        if value is None:
            value = {}
        elif not isinstance(value, dict) and name in _SHORTHAND:
            value = {_SHORTHAND[name]: value}
        place = (*place, name)
        if not isinstance(value, dict):
            raise ConfigError(f"the options of `{name}` must be a mapping", where=tree.place(place))
        keys = dict(value)
    else:
        first = next(iter(item))
        raise ConfigError(
            f"stages[{index}] names several stages: {', '.join(map(str, item))}", where=where,
            hint=f"one list entry per stage, or `{{stage: {first}, ...options}}`",
        )  # fmt: skip
    if not isinstance(name, str):
        raise ConfigError(f"stages[{index}]: a stage is named by a word", where=where)
    return _build(name, keys, index, seed, place, tree)


def _build(name: str, keys: dict[str, Any], index: int, seed: int, place: Place, tree: Tree) -> Step:
    where = tree.place(place)
    extra = {key: keys.pop(key) for key in _STEP_KEYS if key in keys}
    if name == CHECKPOINT:
        if keys or extra:
            raise ConfigError("`checkpoint` takes no options", where=where, hint="write `- checkpoint`")
        return Step(index=index, stage=name, name=name, config={})
    try:
        spec = stages.find(name)
    except ConfigError as error:
        raise ConfigError(f"{error.what} in `stages[{index}]`", where=where, hint=error.hint) from None
    if "seed" in spec.config.__struct_fields__ and seed:
        keys.setdefault("seed", seed)
    config = convert(keys, spec.config, place, tree, f" in `stages[{index}]` ({name})", [*_STEP_KEYS])
    step: Step = convert(
        {
            "index": index,
            "stage": name,
            "name": name,
            **extra,
            "config": _finite(msgspec.to_builtins(config)),
        },
        Step,
        place,
        tree,
    )
    if not re.fullmatch(r"[a-z][a-z0-9_]*", step.name):
        raise ConfigError(
            "a step's `name` is lower-case letters, digits and _", where=tree.place((*place, "name"))
        )
    for guard in MAX_DROPS:
        if not 0 <= (getattr(step, guard) or 0) <= 1:
            raise ConfigError(f"`{guard}` is a share from 0 to 1", where=tree.place((*place, guard)))
    return step


def _finite(value: Any) -> Any:
    # a plan is JSON, which has no infinity; no statistic reaches the largest number either
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return (
        math.copysign(sys.float_info.max, value) if isinstance(value, float) and math.isinf(value) else value
    )


def convert(
    value: Any, kind: type[Any], place: Place, tree: Tree, context: str = "", known: Sequence[str] = ()
) -> Any:
    """`value` as `kind`; ConfigError with the place of a key that is unknown, missing or of another type."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        inner: list[str | int] = []
        for key, position in re.findall(r"\.([A-Za-z_]\w*)|\[(\d+|\.\.\.)\]", path.rstrip("`")):
            inner.append(key or (int(position) if position.isdigit() else 0))
        unknown = re.search(r"unknown field `(.*)`", message)
        if unknown:
            near = nearest(unknown[1], kind, inner, known)
            where = tree.place((*place, *inner, unknown[1]))
            raise ConfigError(f"unknown key `{unknown[1]}`{context}", where=where, hint=near) from None
        missing = re.search(r"missing required field `(.*)`", message)
        if missing:
            raise ConfigError(
                f"`{missing[1]}` is missing{context}", where=tree.place((*place, *inner)),
                hint=meaning(kind, [*inner, missing[1]]),
            ) from None  # fmt: skip
        key_text = f"`{'.'.join(map(str, inner))}`: " if inner else ""
        raise ConfigError(
            f"{key_text}{message}{context}", where=tree.place((*place, *inner)), hint=meaning(kind, inner)
        ) from None
    except ConfigError as error:
        where = error.where or tree.place(place)  # a file that an option names says where in itself
        raise ConfigError(f"{error.what}{context}", where=where, hint=error.hint) from None


def _check_names(steps: Sequence[Step], tree: Tree) -> None:
    seen: dict[str, int] = {}
    for step in steps:
        if step.stage in ("select", CHECKPOINT):
            continue
        if step.name in seen:
            raise ConfigError(
                f"`{step.name}` stands twice (stages[{seen[step.name]}] and stages[{step.index}]): their columns collide",
                where=tree.place(("stages", step.index)),
                hint=f"{{stage: {step.stage}, name: {step.name}_2, ...}} gives the second a name of its own",
            )
        seen[step.name] = step.index


def _set(tree: Tree, text: str) -> str:
    """Apply one `key.path=value`; a stage stands by its name or its number. Returns the path."""
    path, separator, value = text.partition("=")
    if not separator or not path:
        raise ConfigError(
            f"--set takes key.path=value, not `{text}`", hint="--set gopher_quality.min_words=20"
        )
    keys: list[Any] = path.split(".")
    parsed = parse(value, "--set").root if value else ""
    node: Any = tree.root
    steps = node.get("stages")
    if keys[0] not in _Top.__struct_fields__ and isinstance(steps, list):
        keys = ["stages", *keys]
    if keys[0] == "stages" and len(keys) > 1 and isinstance(steps, list):
        keys = ["stages", *_find_step(steps, keys[1], text), *keys[2:]]
    for key in keys[:-1]:
        if isinstance(node, dict) and (key not in node or node[key] is None):
            node[key] = {}
        try:
            node = node[key]
        except (KeyError, IndexError, TypeError):
            node = None
        if not isinstance(node, dict | list):
            raise ConfigError(f"--set {path}: `{key}` holds no keys", where=tree.name)
    if isinstance(node, list):
        raise ConfigError(f"--set {path}: name a key, not a list entry", where=tree.name)
    node[keys[-1]] = parsed
    tree.places[tuple(keys)] = f"--set {text}"
    return ".".join(map(str, keys))


def _find_step(steps: list[Any], key: str, text: str) -> list[Any]:
    """Path inside `stages` of the options of the step that `key` names: its name, its stage or its number."""
    for i, step in enumerate(steps):
        if isinstance(step, str):
            step = steps[i] = {step: {}}
        if not isinstance(step, dict) or not step:
            continue
        stage = next(iter(step))
        options = step if "stage" in step else step[stage]
        if not isinstance(options, dict):
            options = step[stage] = (
                {_SHORTHAND[stage]: options} if options is not None and stage in _SHORTHAND else {}
            )
        names = (str(i), options.get("name"), step.get("stage", stage))
        if key in names:
            return [i] if "stage" in step else [i, stage]
    raise ConfigError(
        f"--set {text}: no key and no stage is named `{key}`", hint="`--set stages.2.where=...` counts from 0"
    )


def _recipe_hint(file: Path) -> str:
    near = (
        difflib.get_close_matches(file.name, [p.name for p in file.parent.glob("*.y*ml")], 1)
        if file.parent.is_dir()
        else []
    )
    return f"did you mean `{file.parent / near[0]}`?" if near else "give the path of a YAML recipe"
