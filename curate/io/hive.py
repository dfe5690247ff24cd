"""Partitioned datasets: parts under folders `lang=en/bucket=3/`, the values in the folders' names and not in the file.

So pandas, pyarrow, DuckDB and the hub's `datasets` all open one as it is (measured: pandas and pyarrow.parquet refuse a
column that stands both in the file and in the name; `datasets` never looks at names, so there it is not a column). A
name cannot tell '' from null or "007" from 7: our parts say their values, with the types, in the footer as well.
"""

import contextlib
import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from curate.errors import ConfigError
from curate.io.files import Folder

NULL = "__HIVE_DEFAULT_PARTITION__"
GLOB = "*=*/**/part-*"  # leaves out `_dropped/`
MAX_NAME_BYTES = 255  # of a folder on a disk
_KEY = b"curate.partition"


def can_part(kind: pa.DataType) -> bool:
    """Whether values of this type can name a folder and be read back."""
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return bool(is_text or pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_date32(kind))


def folder_of(values: Mapping[str, Any]) -> str:
    """`lang=en/bucket=3` of {"lang": "en", "bucket": 3}."""
    names = [f"{quote(name, safe='')}={_word(value)}" for name, value in values.items()]
    if long := next((name for name in names if len(name) > MAX_NAME_BYTES), None):
        raise ConfigError(
            f"`output.partition_by`: a value of `{long.partition('=')[0]}` is too long to name a folder: {long[:80]}…",
            hint="partition by a shorter column",
        )
    return "/".join(names)


def _word(value: Any) -> str:
    if value is None:
        return NULL
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"%5F{text[1:]}" if text == NULL else quote(text, safe="")


def metadata_of(values: Mapping[str, Any], types: Mapping[str, pa.DataType]) -> dict[bytes, bytes]:
    """What a part's footer says of its partition."""
    said = {
        name: [str(types[name]), value.isoformat() if isinstance(value, datetime.date) else value]
        for name, value in values.items()
    }
    return {_KEY: json.dumps(said).encode()}


def constants(schema: pa.Schema) -> dict[str, pa.Scalar]:
    """Values that all rows of a file share, by its footer; none in a file that is no partition of ours."""
    said = json.loads((schema.metadata or {}).get(_KEY, b"{}"))
    found = {}
    for name, (kind, value) in said.items():
        if isinstance(value, str) and kind.startswith("date32"):
            value = datetime.date.fromisoformat(value)
        found[name] = pa.scalar(value, pa.type_for_alias(kind))
    return found


def whole_schema(schema: pa.Schema) -> pa.Schema:
    """The columns of a part with those that its folder stands for."""
    missing = {name: value.type for name, value in constants(schema).items() if name not in schema.names}
    return pa.schema([*schema, *(pa.field(name, kind) for name, kind in missing.items())])


def widen(batch: pa.RecordBatch, values: Mapping[str, pa.Scalar], skip: Sequence[str] = ()) -> pa.RecordBatch:
    """A batch with the constant columns it lacks."""
    for name, value in values.items():
        if name not in batch.schema.names and name not in skip:
            batch = batch.append_column(name, pa.repeat(value, batch.num_rows))
    return batch


def schema_of(file: Any) -> pa.Schema:
    """All columns of a part, its partition's among them."""
    return whole_schema(pq.read_schema(file))


def parts(folder: Folder, under: str = "") -> list[str]:
    """Kept parts of a dataset, those in folders of partitions as well, sorted within each folder."""
    found = [
        n
        for n in folder.names(under)
        if n.startswith("part-") and n.endswith((".parquet", ".jsonl.zst", ".arrow"))
    ]
    below = [n for n in folder.folders(under) if "=" in n and not n.startswith(("_", "."))]
    start = f"{under}/" if under else ""
    return [start + n for n in found] + [p for n in below for p in parts(folder, start + n)]


def clear(folder: Folder) -> None:
    """Remove the kept parts of a dataset, and the folders of partitions that are empty then."""
    names = parts(folder)
    for name in names:
        folder.remove(name)
    if folder.local:
        places = {above for name in names for above in Path(name).parents if above.name}
        for place in sorted(places, reverse=True):
            with contextlib.suppress(OSError):  # a stranger's file is in it
                (folder.local / place).rmdir()
