"""A token dataset made by hand: documents given as lists of ids."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
import xxhash

from curate.models.tokenizer import Contract

CONTRACT = Contract(
    tokenizer="0" * 64, vocab_size=64, bos=0, eos=1, special={"<s>": 0, "</s>": 1, "<pad>": 2}
)


@pytest.fixture(scope="session")
def contract() -> Contract:
    """Of a tokenizer that there is not."""
    return CONTRACT


@pytest.fixture
def token_dataset(tmp_path: Path) -> Callable[..., Path]:
    """Writes documents of ids into a folder and returns it. `columns` are kept beside them, by name."""

    def write(
        documents: Sequence[Sequence[int]],
        *,
        name: str = "tokens",
        prefix: Sequence[int] = (),
        n_bytes: Sequence[int] = (),
        keys: Sequence[int] = (),
        columns: Mapping[str, Sequence[Any]] | None = None,
        contract: Contract = CONTRACT,
        part_rows: int = 100,
    ) -> Path:
        folder = tmp_path / name
        (folder / "_curate").mkdir(parents=True)
        ids = [f"{name}-{i}" for i in range(len(documents))]
        made = keys or [xxhash.xxh3_64_intdigest(i) for i in ids]
        table = pa.table(
            {
                "id": ids,
                "key": pa.array(made, pa.uint64()),
                "tokens": pa.array(documents, pa.large_list(pa.uint16())),
                "prefix": pa.array(prefix or [0] * len(documents), pa.int32()),
                "n_bytes": pa.array(n_bytes or [3 * len(d) for d in documents], pa.int64()),
                **(columns or {}),
            }
        ).replace_schema_metadata({"curate.contract": msgspec.json.encode(contract)})
        for part, start in enumerate(range(0, len(documents), part_rows)):
            with pa.ipc.new_file(folder / f"part-{part:05d}.arrow", table.schema) as file:
                file.write_table(table.slice(start, part_rows).combine_chunks(), max_chunksize=40)
        (folder / "_curate/manifest.json").write_text("{}")
        return folder

    return write
