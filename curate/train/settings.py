"""What a training run is made of: keys of a config file, and where each value came from.

Precedence: flag > file > checkpoint > size > default. A key that is null is derived; every value is printed with its
origin and can be given.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from curate.errors import ConfigError
from curate.recipe.recipe import convert
from curate.recipe.tree import Tree, parse
from curate.train import size as sizes
from curate.train.averaging import Average
from curate.train.order import Subset
from curate.train.plan import Mix, Order, Phase
from curate.train.schedule import Cosine, Schedule


class FromCheckpoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Go on from a checkpoint of a run of ours."""

    checkpoint: str  # folder with weights and training.pt
    optimizer: Literal["keep", "reset"] = "keep"  # its moments and its place in the schedule, or neither


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    size: str = ""  # 1m ... 1b; the nearest one for a model from a folder
    tokens: int | None = None  # budget; 20 per parameter
    count: Literal["all", "loss"] = (
        "all"  # by `tokens`: every position, or those in the loss (text and EOS) alone
    )
    init: str | FromCheckpoint = "scratch"  # or a hub-format folder: its weights, no moments
    seed: int = 0  # weights and order of the data
    width: int | None = None
    layers: int | None = None
    heads: int | None = None
    kv_heads: int | None = None
    intermediate: int | None = None  # width of the feed-forward layers
    context: int | None = None  # tokens of a sequence
    rope_theta: float = 10_000.0
    batch: int | None = None  # sequences of a step, over all processes
    micro_batch: int | None = None  # sequences of one forward pass
    lr: float | None = None  # peak
    schedule: Schedule = Cosine()
    weight_decay: float = 0.1  # of matrices; vectors have none
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    clip: float = 1.0  # largest norm of a step's gradient; 0: any
    packing: Literal["chunk", "complete", "best_fit"] = "chunk"
    shuffle: int | None = None  # sequences that wait, to come in an order of the seed; 1: as they are packed
    document_mask: bool = True  # documents of one sequence do not see each other; positions begin anew
    metadata: Literal["prefix", "none"] = "prefix"  # none: documents without their metadata
    mix: Mix = Mix()
    order: Order | None = None  # of documents; shuffled by the seed where it is not given
    subset: Subset | None = None  # a share of the documents
    phases: tuple[Phase, ...] = ()  # changes of the mix over training
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = (
        "auto"  # of matrix products, bf16 where it pays; the rest is fp32
    )
    compile: bool | None = None  # torch.compile; on a GPU
    threads: int = 0  # of torch on a CPU; 0: its own choice
    checkpoint_every: int | None = None  # steps
    keep: int = 2  # newest checkpoints that stay, beside those at a joint of the schedule
    average: Average | None = None  # of the last checkpoints, saved beside the raw weights
    divergence: float = (
        2.0  # nats above its lowest, and above ln(vocabulary), where a loss that stays ends the run; 0: any
    )

    def __post_init__(self) -> None:
        for name in (
            "tokens",
            "layers",
            "batch",
            "shuffle",
            "micro_batch",
            "context",
            "checkpoint_every",
            "lr",
        ):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConfigError(f"`{name}` must be above 0")
        if self.keep < 1:
            raise ConfigError("`keep` must be 1 or more: a killed run goes on from a checkpoint")


class Resolved(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a run: every value there, but those of the machine."""

    size: str
    tokens: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    context: int
    batch: int
    lr: float
    checkpoint_every: int
    shuffle: int

    @property
    def steps(self) -> int:
        """Of the budget, whole ones, if every position counts; with `count: loss` there are no fewer."""
        return self.tokens // (self.batch * self.context)


# Keys that say how a run is worked off, not what comes out (up to the order of floating-point sums).
MACHINE = ("device", "precision", "micro_batch", "compile", "threads")
HOW = ("device", "micro_batch", "compile", "threads", "keep")
_SHUFFLE = 1_024  # sequences that wait, where `shuffle` is not given
_CHECKPOINTS = 10  # of a run, where `checkpoint_every` is not given


class Loaded(msgspec.Struct, frozen=True):
    """Settings as they were given, and who gave each."""

    settings: Settings
    origins: dict[str, str]


def load(file: str = "", sets: Sequence[str] = (), flags: Mapping[str, Any] | None = None) -> Loaded:
    """Read a config file (YAML; none: all defaults), then `key.path=value` texts, then flags that are not None."""
    tree = parse(_read(file), file) if file else Tree({}, "--set")
    root = {} if tree.root is None else tree.root
    if not isinstance(root, dict):
        raise ConfigError("a training config is a mapping", where=file, hint="as in `lr: 1e-3`")
    origins = dict.fromkeys(map(str, root), "file")
    for text in sets:
        origins[_set(root, text, tree)] = "flag"
    for name, value in (flags or {}).items():
        if value is not None:
            root[name], origins[name] = value, "flag"
    if isinstance(root.get("schedule"), dict):
        root["schedule"] = {"kind": "cosine", **root["schedule"]}
    return Loaded(convert(root, Settings, (), tree), origins)


def _read(file: str) -> str:
    try:
        return Path(file).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"cannot read the config: {getattr(error, 'strerror', None) or error}", where=file
        ) from None


def _set(root: dict[str, Any], text: str, tree: Tree) -> str:
    path, separator, value = text.partition("=")
    keys = path.split(".")
    if not separator or not all(keys):
        raise ConfigError(f"--set takes key.path=value, not `{text}`", hint="--set schedule.kind=wsd")
    node = root
    for key in keys[:-1]:
        node = node.setdefault(key, {})
        if not isinstance(node, dict):
            raise ConfigError(f"--set {path}: `{key}` holds no keys")
    node[keys[-1]] = parse(value, "--set").root if value else ""
    tree.places[tuple(keys)] = f"--set {text}"
    return keys[0]


def parse_init(text: str) -> Any:
    """What `--init` says: a word, a folder, or a mapping as in YAML."""
    return parse(text, "--init").root if text.lstrip().startswith("{") else text


class Resolution(msgspec.Struct, frozen=True):
    """Settings of a run, and who gave each."""

    settings: Resolved
    origins: dict[str, str]


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """Of a model that is there already."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    max_context: int
    parameters: int
    rope_theta: float


def resolve(
    given: Loaded, vocabulary: int, model: Shape | None = None, before: Settings | None = None
) -> Resolution:
    """Fill in what was not given.

    `model`: what `init` opens; `before`: settings of the run whose optimizer goes on.
    """
    values, origins = _as_dict(given.settings), dict(given.origins)

    def fill(name: str, value: Any, origin: str) -> None:
        if name not in origins:
            values[name], origins[name] = value, origin

    if before is not None:
        for name in ("lr", "schedule", "weight_decay", "beta1", "beta2", "eps", "clip", "batch", "size"):
            fill(name, getattr(before, name), "checkpoint")
    if model is not None:
        _keep_shape(values, origins, model)
    name = values["size"] or (sizes.nearest(model.parameters) if model else "1m")
    size = sizes.find(name)
    fill("size", name, "init" if model else "default")
    for key in ("width", "layers", "heads", "kv_heads", "context", "batch", "lr"):
        fill(key, getattr(size, key), f"size {name}")
    if model is not None and values["context"] > model.max_context:
        _refuse_context(values, origins, model.max_context)
    fill("intermediate", sizes.intermediate(values["width"]), "8/3 of width")
    _check_shape(values)
    keys = ("width", "layers", "heads", "kv_heads", "intermediate")
    count = model.parameters if model else sizes.parameters(*(values[key] for key in keys), vocabulary)
    fill("tokens", sizes.TOKENS_PER_PARAMETER * count, f"{sizes.TOKENS_PER_PARAMETER} per parameter")
    steps = values["tokens"] // (values["batch"] * values["context"])
    fill("checkpoint_every", max(1, steps // _CHECKPOINTS), f"{_CHECKPOINTS} in a run")
    waiting = max(1, min(_SHUFFLE, steps * values["batch"] // 20))
    fill("shuffle", 1 if values["order"] else waiting, f"a 20th of the run, {_SHUFFLE:,} at most")
    for key in Settings.__struct_fields__:
        origins.setdefault(key, "machine" if key in MACHINE else "default")
    return Resolution(Resolved(**values), origins)


def _as_dict(settings: Settings) -> dict[str, Any]:
    return {key: getattr(settings, key) for key in Settings.__struct_fields__}


def _keep_shape(values: dict[str, Any], origins: dict[str, str], model: Shape) -> None:
    for name in ("width", "layers", "heads", "kv_heads", "intermediate", "rope_theta"):
        has = getattr(model, name)
        if name in origins and values[name] != has:
            raise ConfigError(
                f"`{name}: {values[name]}`: the model of `init` has {has}",
                hint=f"leave `{name}` out, or begin with `init: scratch`",
            )
        values[name], origins[name] = has, "init"


def _refuse_context(values: dict[str, Any], origins: dict[str, str], longest: int) -> None:
    if origins["context"] in ("flag", "file"):
        raise ConfigError(
            f"`context: {values['context']}`: the model of `init` reads at most {longest} tokens"
        )
    values["context"], origins["context"] = longest, "init"


def _check_shape(values: dict[str, Any]) -> None:
    width, heads, kv_heads = values["width"], values["heads"], values["kv_heads"]
    if width % heads or width // heads % 2:
        raise ConfigError(f"`width: {width}` does not split into {heads} heads of even width")
    if heads % kv_heads:
        raise ConfigError(f"`heads: {heads}` is no multiple of `kv_heads: {kv_heads}`")
