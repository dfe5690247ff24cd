"""Two recipes side by side: which keys differ, stage by stage, each beside the nearest of the other."""

import difflib
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from curate.recipe.recipe import Recipe, Step

_NOT_COMPARED = ("steps", "base", "file", "origins")


class Change(msgspec.Struct, kw_only=True):
    """A key with another value."""

    key: str
    a: Any = None
    b: Any = None


class StepPair(msgspec.Struct, kw_only=True):
    """A step of one recipe beside the nearest of the other; one index is null where it stands alone."""

    name: str
    a: int | None
    b: int | None
    changes: list[Change] = []

    @property
    def same(self) -> bool:
        return self.a is not None and self.b is not None and not self.changes


class Recipes(msgspec.Struct, kw_only=True):
    """What differs between two recipes."""

    top: list[Change]
    steps: list[StepPair]

    @property
    def differ(self) -> bool:
        return bool(self.top) or not all(pair.same for pair in self.steps)


def compare(a: Recipe, b: Recipe) -> Recipes:
    """Every value counts, given or by default."""
    return Recipes(top=list(_changes(_top(a), _top(b))), steps=_align(a.steps, b.steps))


def _top(recipe: Recipe) -> dict[str, Any]:
    tree: dict[str, Any] = msgspec.to_builtins(recipe)
    return dict(_flat({key: value for key, value in tree.items() if key not in _NOT_COMPARED}))


def _flat(tree: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def _changes(a: dict[str, Any], b: dict[str, Any]) -> Iterator[Change]:
    for key in [*a, *(key for key in b if key not in a)]:
        if a.get(key) != b.get(key) and (a.get(key) or b.get(key) or (key in a and key in b)):
            yield Change(key=key, a=a.get(key), b=b.get(key))


def _align(a: Sequence[Step], b: Sequence[Step]) -> list[StepPair]:
    """The cheapest way from one list to the other: steps of one stage pair, the better the more alike they are."""
    best: list[list[tuple[float, list[StepPair]]]] = [[(0.0, [])]]
    for i in range(len(a) + 1):
        best += [[]] if i else []
        for j in range(len(b) + 1):
            ways = []
            if i and j and a[i - 1].stage == b[j - 1].stage:
                cost, pairs = best[i - 1][j - 1]
                ways.append((cost + _distance(a[i - 1], b[j - 1]), [*pairs, _pair(a[i - 1], b[j - 1])]))
            if i:
                cost, pairs = best[i - 1][j]
                ways.append((cost + 1, [*pairs, StepPair(name=a[i - 1].name, a=a[i - 1].index, b=None)]))
            if j:
                cost, pairs = best[i][j - 1]
                ways.append((cost + 1, [*pairs, StepPair(name=b[j - 1].name, a=None, b=b[j - 1].index)]))
            if ways:
                best[i].append(min(ways, key=lambda way: way[0]))
    return best[-1][-1][1]


def _distance(a: Step, b: Step) -> float:
    """0 for the same step, below 1 for two of the same stage."""
    left, right = (str(sorted(_values(step).items())) for step in (a, b))
    return float(1 - difflib.SequenceMatcher(None, left, right, autojunk=False).ratio())


def _pair(a: Step, b: Step) -> StepPair:
    changes = list(_changes(_values(a), _values(b)))
    return StepPair(name=a.name, a=a.index, b=b.index, changes=changes)


def _values(step: Step) -> dict[str, Any]:
    keys = {"name": step.name, "when": step.when}
    guards = {key: value for key, value in msgspec.to_builtins(step).items() if key.startswith("max_drop")}
    return dict(_flat({**keys, **guards, **msgspec.to_builtins(step.settings())}))
