"""What `why` knows of documents that a run was compared with: those of the indexes that its steps name."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.errors import DataError

if TYPE_CHECKING:
    from curate.cli.dataset import Dataset
    from curate.index.index import Index

SEEN = "in the index"


def in_indexes(dataset: "Dataset", row_id: str) -> Iterator[dict[str, Any]]:
    """A finding as `why` has them for each document with that id; `text` where its file still lies there."""
    from curate.engine.remember import STAGE, index_of
    from curate.index.index import MANIFEST, Index
    from curate.index.removal import numbers_of

    recipe = dataset.plan.recipe if dataset.plan else None
    steps = [step for step in recipe.steps if step.stage == STAGE] if recipe else []
    for path in dict.fromkeys(index_of(recipe, s) for s in steps if recipe and s.settings().index):
        if (path / MANIFEST).is_file():
            index = Index(str(path))
            for number in numbers_of(index, [row_id])[0].tolist():
                yield _finding(dataset, index, number, row_id)


def _finding(dataset: "Dataset", index: "Index", number: int, row_id: str) -> dict[str, Any]:
    from curate.cli.dataset import Part
    from curate.io.files import Folder

    files, row_number = index.place_of(number)
    row: dict[str, Any] = {"id": row_id, "index": str(index.path), **_twin(index, number)}
    for file in map(Path, files):
        with contextlib.suppress(DataError, OSError):
            part = Part("kept", Folder(file.parent), file.name)
            found = dataset.find(row_id, [part] if file.suffix == ".parquet" else [])
            for _, one in found:
                row["text"] = one.get("text")
    place = f"{', '.join(files)}, row {row_number:,}, when it was added"
    return {"status": SEEN, "part": place, "step": "", "after": "", "row": row, "pass": None}


def _twin(index: "Index", number: int) -> dict[str, Any]:
    """For whom a dropped document went, and their Jaccard."""
    import pyarrow.compute as pc

    for edges in index.edges():
        for edge in edges.filter(pc.equal(edges["dropped"], number)).to_pylist():
            return {"dropped_for": index.id_of(edge["kept"]), "jaccard": edge["jaccard"]}
    return {}
