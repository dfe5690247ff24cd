"""Token datasets made by hand."""

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest
import xxhash

from curate.models.tokenizer import contract

BYTES = str(Path(__file__).parents[1] / "stages/lists/tokenizer")


@pytest.fixture
def write_tokens() -> Callable[..., Path]:
    """Writes documents of so many tokens each into a folder, as `curate tokenize` does, and returns it."""

    def write(folder: Path, lengths: Sequence[int]) -> Path:
        (folder / "_curate").mkdir(parents=True)
        ids = [f"{folder.parent.name}-{i}" for i in range(len(lengths))]
        table = pa.table({
            "id": ids,
            "key": pa.array([xxhash.xxh3_64_intdigest(i) for i in ids], pa.uint64()),
            "tokens": pa.array([[3 + i % 60] * n for i, n in enumerate(lengths)], pa.large_list(pa.uint16())),
            "prefix": pa.array([0] * len(lengths), pa.int32()),
            "n_bytes": pa.array(lengths, pa.int64()),
        }).replace_schema_metadata({"curate.contract": msgspec.json.encode(contract(BYTES))})  # fmt: skip
        with pa.ipc.new_file(folder / "part-00000.arrow", table.schema) as file:
            file.write_table(table)
        (folder / "_curate/manifest.json").write_text("{}")
        return folder

    return write
