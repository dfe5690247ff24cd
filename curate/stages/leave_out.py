"""Whether a document must stay out of training, because a held-out set has it or one near it.

Lists   folders that `curate eval heldout` made, of which `leave_out.parquet` is read, or files (.parquet, .jsonl) with
        `id`, and where known `held_out`, the id of the set's document, and `similarity`
Ids     are compared as they are; a row that another was made into also by its `parent_id`. So a list is good for the
        corpus that it was made of: one of other texts or ids needs its own (`curate eval heldout CORPUS --set FOLDER`)
Reads   id                   string (n,); `parent_id`, where there is one
Writes  leave_out_pass       bool (n,)
        leave_out_reason     string: held_out (the set has it), near_duplicate (of one that it has); null where it passed
        leave_out_value      float64: Jaccard similarity to the set's document, where the list says it
        leave_out_threshold  float64, null: the list was cut by its own
Rows    all kept, in order; `select: leave_out_pass` drops
Fails   ConfigError for a list that is not there; DataError for one without `id`
"""

from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from curate.errors import ConfigError, DataError
from curate.schema import verdict
from curate.stage import stage
from curate.stages._evaluation import rows

LEAVE_OUT = "leave_out.parquet"


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    lists: tuple[str, ...]  # folders of `curate eval heldout`, or files with `id`

    def __post_init__(self) -> None:
        if not self.lists:
            raise ConfigError(
                "no list was given,", hint="`lists: [heldout/]`, a folder of `curate eval heldout`"
            )


class Listed(NamedTuple):
    """Why an id is on a list."""

    reason: str
    similarity: float | None


def list_files(config: Config) -> list[str]:
    """The files of all lists, part of the fingerprint. ConfigError where one is not there."""
    files = [Path(path) / LEAVE_OUT if Path(path).is_dir() else Path(path) for path in config.lists]
    for file in files:
        if not file.is_file():
            hint = "`curate eval heldout CORPUS --set FOLDER -o DIR` makes one for a corpus"
            raise ConfigError("no list of what is left out", where=str(file), hint=hint)
    return [str(file) for file in files]


def load(config: Config, store: Path) -> dict[str, Listed]:
    """The ids of all lists, once per worker; the first list to name one says why."""
    listed: dict[str, Listed] = {}
    for path in list_files(config):
        for number, row in enumerate(rows(Path(path)), 1):
            if row.get("id") is None:
                raise DataError("an entry without `id`", where=f"{path}:{number}", hint="one id an entry")
            own = row.get("held_out") in (None, row["id"])
            one = Listed("held_out" if own else "near_duplicate", row.get("similarity"))
            listed.setdefault(str(row["id"]), one)
    return listed


@stage(
    "leave_out", version=1, config=Config, reads=["id"], writes=verdict("leave_out"), load=load, files=list_files,
    rare=True,
)  # fmt: skip
def leave_out(batch: pa.RecordBatch, config: Config, listed: dict[str, Listed]) -> pa.RecordBatch:
    """Add the verdict."""
    found = [listed.get(id_) for id_ in batch["id"].to_pylist()]
    if "parent_id" in batch.schema.names:
        parents = batch["parent_id"].to_pylist()
        found = [one or listed.get(parent) for one, parent in zip(found, parents, strict=True)]
    columns = {
        "pass": pa.array(np.array([one is None for one in found], np.bool_)),
        "reason": pa.array([one and one.reason for one in found], pa.string()),
        "value": pa.array([one and one.similarity for one in found], pa.float64()),
        "threshold": pa.nulls(batch.num_rows, pa.float64()),
    }
    for name, array in columns.items():
        batch = batch.append_column(f"leave_out_{name}", array)
    return batch
