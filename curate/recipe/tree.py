"""YAML text -> plain tree, with the place of every key.

Stricter than YAML: duplicate keys, anchors, tags and merges are refused, and only true, false, null and numbers are
resolved (so `lang: no` is Norwegian).
"""

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from curate.errors import ConfigError

Path = tuple[str | int, ...]
_MAX_BYTES = 1 << 20
_MAX_DEPTH = 50
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_NUMBER = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?")
_WORDS = {"true": True, "false": False, "null": None, "~": None, "": None, ".inf": float("inf")}


@dataclass
class Tree:
    """A document as dicts, lists and scalars; `places` maps each path to "file:line:column"."""

    root: Any
    name: str
    places: dict[Path, str] = field(default_factory=dict)

    def place(self, path: Path) -> str:
        """Where a path stands, or the nearest path above it."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, self.name)


def parse(text: str, name: str) -> Tree:
    """Read YAML text; `name` is the file's name for errors."""
    if len(text) > _MAX_BYTES:
        raise ConfigError("larger than 1 MB; this is not a recipe", where=name)
    tree = Tree(None, name)
    try:
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            _refuse_features(event, tree)
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _MAX_DEPTH:  # the scanner needs quadratic time for brackets inside brackets
                raise ConfigError("nested too deeply", where=_place(name, event.start_mark))
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        tree.root = _plain(node, (), tree) if node else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        raise ConfigError(f"not YAML: {error.problem or error}", where=where) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"not YAML: {str(error).splitlines()[0]}", where=name) from None
    return tree


def scalar(text: str) -> Any:
    """The value that a plain YAML word stands for here."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text) and len(text) < 20:
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else text


def _place(name: str, mark: Any) -> str:
    return f"{name}:{mark.line + 1}:{mark.column + 1}"


def _refuse_features(event: Any, tree: Tree) -> None:
    where = _place(tree.name, event.start_mark)
    if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
        raise ConfigError(
            "anchors and aliases are not part of a recipe", where=where, hint="write the value out"
        )
    if getattr(event, "tag", None):
        raise ConfigError(f"tags such as {event.tag} are not part of a recipe", where=where)


def _plain(node: yaml.Node, path: Path, tree: Tree) -> Any:
    tree.places[path] = _place(tree.name, node.start_mark)
    if isinstance(node, yaml.ScalarNode):
        text = _unicode(node.value, tree.places[path])
        return scalar(text) if node.style is None else text
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, (*path, i), tree) for i, item in enumerate(node.value)]
    result: dict[str, Any] = {}
    for key, value in node.value:
        where = _place(tree.name, key.start_mark)
        if not isinstance(key, yaml.ScalarNode):
            raise ConfigError("a key must be a plain word", where=where)
        name = _unicode(key.value, where)
        if name in result:
            raise ConfigError(f"`{name}` is given twice", where=where, hint="keep one of the two")
        result[name] = _plain(value, (*path, name), tree)
        tree.places[(*path, name)] = where
    return result


def _unicode(text: str, where: str) -> str:
    # JSON, which is YAML, spells what lies beyond U+FFFF as two escapes; PyYAML leaves them two
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise ConfigError(
            "an escape stands for no character", where=where, hint="write \\U0001F600 or the character itself"
        ) from None
