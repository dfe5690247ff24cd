"""What a predicate may say: the allowlist over the tree of DuckDB's own parser (`json_serialize_sql`).

Whatever is not listed is refused: a node class, a key of a node, a function, a type.
"""

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from curate.errors import ConfigError


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Deterministic, one value per row, no state, linear in the row, no way to make a huge value out of a small one.
FUNCTIONS = _words("""
    + - * / // % ** ^ || ~~ !~~ ~~* !~~* ^@ ->> like_escape not_like_escape ilike_escape not_ilike_escape
    abs ceil ceiling floor round trunc sign sqrt cbrt ln log log2 log10 exp pow power mod greatest least
    isnan isinf isfinite
    length len strlen char_length character_length octet_length bit_length lower upper lcase ucase trim ltrim rtrim
    left right substr substring reverse replace concat contains starts_with ends_with prefix suffix position strpos
    instr split_part ascii unicode strip_accents md5
    regexp_matches regexp_full_match regexp_extract regexp_replace
    coalesce ifnull nullif if
    array_length list_contains list_has list_has_any list_has_all array_contains array_has array_has_any
    array_has_all list_extract array_extract list_position list_min list_max list_sum list_avg list_value row
    struct_extract map_extract map_contains
    json_extract_string json_exists json_valid json_type json_array_length json_contains
    date_part datepart date_trunc datetrunc date_diff datediff year month day hour minute second quarter week
    dayofweek isodow dayofyear isoyear epoch epoch_ms strptime try_strptime strftime make_date
    to_days to_hours to_minutes to_seconds to_weeks to_months to_years
""")
TYPES = _words("""
    BOOLEAN BOOL TINYINT SMALLINT INTEGER INT INT1 INT2 INT4 INT8 BIGINT HUGEINT UTINYINT USMALLINT UINTEGER UBIGINT
    FLOAT REAL DOUBLE DECIMAL NUMERIC VARCHAR TEXT STRING BLOB DATE TIME TIMESTAMP DATETIME TIMESTAMPTZ INTERVAL JSON
""")
_OPERATORS = _words("""
    OPERATOR_NOT OPERATOR_IS_NULL OPERATOR_IS_NOT_NULL OPERATOR_COALESCE OPERATOR_NULLIF OPERATOR_TRY
    COMPARE_IN COMPARE_NOT_IN ARRAY_EXTRACT ARRAY_SLICE STRUCT_EXTRACT
""")
# Node class -> the keys it may hold beside class, type and place.
_KEYS = {
    "COLUMN_REF": _words("column_names"),
    "CONSTANT": _words("literal"),
    "COMPARISON": _words("left right"),
    "CONJUNCTION": _words("children"),
    "OPERATOR": _words("children"),
    "BETWEEN": _words("input lower upper"),
    "CASE": _words("case_checks else_expr"),
    "CAST": _words("child try_cast type_expr"),
    "FUNCTION": _words("function_name is_operator order_bys arguments qualified_name"),
}
_REFUSED = {
    "SUBQUERY": "a subquery",
    "WINDOW": "a window function",
    "LAMBDA": "`->` (a lambda)",
    "STAR": "`*`",
    "PARAMETER": "a parameter",
    "POSITIONAL_REFERENCE": "a positional reference",
    "COLLATE": "a collation",
    "DEFAULT": "`default`",
}
_PLACES = _words("query_location query_location_length")
_NOWHERE = 2**64 - 1
_LISTED = "`curate explain select` names what is"

Node = Mapping[str, Any]


def only_expression(parsed: Node) -> dict[str, Any]:
    """The tree of `SELECT (expression)` and nothing else; ConfigError where there is more."""
    statements = parsed["statements"]
    node = statements[0]["node"]
    if (
        len(statements) != 1
        or set(node) != {"type", "cte_map", "select_list", "from_table", "aggregate_handling"}
        or node["type"] != "SELECT_NODE"
        or node["cte_map"]
        or node["from_table"]["type"] != "EMPTY"
        or len(node["select_list"]) != 1
    ):
        raise ConfigError("it is more than one expression", hint="join conditions by AND")
    tree: dict[str, Any] = node["select_list"][0]
    return tree


def as_select(tree: Node) -> dict[str, Any]:
    """The document that `json_deserialize_sql` spells as `SELECT tree`."""
    node = {"type": "SELECT_NODE", "cte_map": {}, "select_list": [tree], "from_table": {"type": "EMPTY"}}
    return {"error": False, "statements": [{"node": {**node, "aggregate_handling": "STANDARD_HANDLING"}}]}


def check(node: Node, columns: Mapping[str, pa.DataType]) -> Iterator[str]:
    """The columns that an expression names, in its order; ConfigError for anything that is not on the lists above."""
    kind = node["class"]
    if kind not in _KEYS or (kind == "OPERATOR" and node["type"] not in _OPERATORS):
        hint = "write extra->>'key', with brackets around it" if kind == "LAMBDA" else _LISTED
        raise ConfigError(f"{_REFUSED.get(kind, node['type'].lower())} is not allowed", hint=hint)
    unknown = set(node) - _PLACES - {"class", "type"} - _KEYS[kind]
    if kind == "FUNCTION":
        unknown |= _check_function(node)
    if unknown:
        raise ConfigError(f"{', '.join(sorted(unknown))} is not allowed", hint=_LISTED)
    if kind == "COLUMN_REF":
        yield resolve(node["column_names"], columns)
    if kind == "CAST":
        _check_type(node["type_expr"])
    if kind == "COMPARISON" or node["type"] == "COMPARE_IN":
        _check_sides(list(children(node)), columns)
    for child in children(node):
        yield from check(child, columns)


def _check_function(node: Node) -> set[str]:
    path = node["qualified_name"]["path"]
    name = ".".join(path)
    if len(path) > 1 or name.lower() not in FUNCTIONS:
        near = difflib.get_close_matches(name.lower(), FUNCTIONS, 1, 0.75)
        hint = f"did you mean `{near[0]}`?" if near else _LISTED
        raise ConfigError(f"function `{name}` is not allowed", hint=hint)
    unknown = {"order by"} if set(node["order_bys"]) != {"type"} else set()
    if any(set(argument) != {"expression"} for argument in node.get("arguments", [])):
        unknown.add("a named argument")
    return unknown


def _check_type(node: Node) -> None:
    name = ".".join(node.get("qualified_name", {}).get("path", [node.get("type_name", "?")]))
    if name.upper() not in TYPES or any(child["class"] != "CONSTANT" for child in node.get("children", [])):
        raise ConfigError(f"a cast to `{name}` is not allowed", hint="one of " + ", ".join(sorted(TYPES)))


def _check_sides(sides: list[dict[str, Any]], columns: Mapping[str, pa.DataType]) -> None:
    """`lang = 5` would cast each lang to a number and stop at the first that is none."""
    names = [side["column_names"][0] for side in sides if is_column(side)]
    texts = [name for name in names if _is_text(columns[resolve([name], columns)])]
    numbers = [
        s for s in sides if s["class"] == "CONSTANT" and s["literal"]["kind"] in ("INTEGER", "NUMERIC")
    ]
    if texts and numbers:
        value = numbers[0]["literal"]["text"]
        raise ConfigError(
            f"`{texts[0]}` is text and {value} a number", hint=f"write '{value}', or cast the column"
        )


def resolve(path: list[str], columns: Mapping[str, pa.DataType]) -> str:
    """The column a name stands for (ASCII case does not count); a longer path reaches into a struct."""
    whole = ".".join(path)
    same = [column for column in columns if _fold(column) == _fold(path[0])]
    if len(same) > 1:
        raise ConfigError(
            f"`{path[0]}` may be any of the columns {', '.join(f'`{column}`' for column in same)}: case does not count",
            hint="rename one of them in `input.columns`",
        )
    if same and (len(path) == 1 or pa.types.is_struct(columns[same[0]])):
        return same[0]
    near = difflib.get_close_matches(whole, list(columns), 1)
    hint = f"did you mean `{near[0]}`?" if near else "the columns are " + ", ".join(columns)
    if len(path) > 1 and whole in columns:
        hint = f'write it in double quotes: "{whole}"'
    raise ConfigError(f"unknown column `{whole}`", hint=hint)


def children(node: Node) -> Iterator[dict[str, Any]]:
    """The expressions directly below one."""
    for key in ("left", "right", "input", "lower", "upper", "child"):
        if key in node:
            yield node[key]
    yield from node.get("children", [])
    for argument in node.get("arguments", []):
        yield argument["expression"]
    for case in node.get("case_checks", []):
        yield from (case["when_expr"], case["then_expr"])
    if "else_expr" in node:
        yield node["else_expr"]


def span(node: Node) -> tuple[int, int]:
    """First byte and end of an expression in its source. The parser places `a IS NULL` at the IS: hence the children."""
    spans = [span(child) for child in children(node)]
    if node.get("query_location", _NOWHERE) != _NOWHERE:
        spans.append((node["query_location"], node["query_location"] + node.get("query_location_length", 0)))
    spans = [(start, end) for start, end in spans if end]
    return (min(start for start, _ in spans), max(end for _, end in spans)) if spans else (0, 0)


def meaning(node: Any) -> Any:
    """A tree without places, and without the mark that tells an operator from the same function called by name."""
    if isinstance(node, dict):
        return {
            key: meaning(value) for key, value in node.items() if key not in _PLACES and key != "is_operator"
        }
    return [meaning(item) for item in node] if isinstance(node, list) else node


def is_column(node: Node) -> bool:
    """A column alone, no path into a struct."""
    return node["class"] == "COLUMN_REF" and len(node["column_names"]) == 1


def literal(node: Node) -> float | str | bool | None:
    """Value of a constant; dates and other casts of a constant stay text."""
    kind, text = node["literal"]["kind"], node["literal"].get("text", "")
    if kind in ("INTEGER", "NUMERIC"):
        return float(text.replace("_", ""))
    if kind == "BOOLEAN":
        return bool(text == "true")
    return None if kind == "NULL_LITERAL" else str(text)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _fold(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape").lower()
