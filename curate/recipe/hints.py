"""What an error about a key of a recipe says next, made from the types of the Configs."""

import difflib
import types
import typing
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

_EXAMPLES = {
    "where": "where: \"lang = 'en' and length(text) > 200\"",
    "when": "when: \"lang = 'en'\"",
    "input": 'input: {path: "data/*.parquet"}',
    "path": 'path: "data/*.parquet"',
    "stages": "stages: [exact_dedup]",
}
_WORDS = {
    int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "null", Any: "any value",
}  # fmt: skip


def nearest(word: str, kind: type[Any], inner: Sequence[str | int], known: Sequence[str]) -> str:
    """A hint for an unknown key of the Config at a path: the nearest name, or all of them."""
    kind, _ = _find(kind, inner)
    fields = [name for one in _alternatives(kind) for name in getattr(one, "__struct_encode_fields__", ())]
    near = difflib.get_close_matches(word, [*fields, *known], 1)
    return f"did you mean `{near[0]}`?" if near else f"known keys: {', '.join([*fields, *known])}"


def meaning(kind: Any, path: Sequence[str | int]) -> str:
    """A hint for a value that does not fit: what the key at a path takes, its default, an example."""
    kind, field = _find(kind, path)
    if field is None:
        return ""
    example = f", for example `{_EXAMPLES[field.name]}`" if field.name in _EXAMPLES else ""
    shown = field.default if isinstance(field.default, str | int | float) and field.default != "" else None
    default = f" (default: {msgspec.json.encode(shown).decode()})" if shown is not None else ""
    if not isinstance(path[-1], str):
        return f"an entry of `{field.name}` is {_in_words(kind)}"
    return f"`{path[-1]}` is {_in_words(kind)}{default}{example}"


def _find(kind: Any, path: Sequence[str | int]) -> tuple[Any, msgspec.structs.FieldInfo | None]:
    """The type at a path inside a Config, and the last field on the way."""
    field = None
    for key in path:
        for one in _alternatives(kind):
            if isinstance(key, str) and hasattr(one, "__struct_encode_fields__"):
                field = next((f for f in msgspec.structs.fields(one) if f.encode_name == key), None)
                kind = field.type if field else None
            elif typing.get_origin(one) in (list, tuple, dict):
                kind = typing.get_args(one)[-1 if typing.get_origin(one) is dict else 0]
    return kind, field


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)


def _in_words(kind: Any) -> str:
    if kind in _WORDS:
        return _WORDS[kind]
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return f"one of {', '.join(map(str, inner))}"
    if origin in (list, tuple):
        return f"a list, each entry {_in_words(inner[0])}"
    if hasattr(kind, "__struct_encode_fields__"):
        return f"a mapping with the keys {', '.join(kind.__struct_encode_fields__)}"
    return " or ".join(map(_in_words, inner)) if len(_alternatives(kind)) > 1 else "a mapping"
