"""A token dataset as the trainer sees it: documents as arrays in mapped memory.

`curate tokenize` makes one. Its parts are uncompressed Arrow files with the columns
  id string | key uint64, what orders documents | tokens large_list<uint16 or uint32>, without BOS and EOS
  prefix int32, leading tokens that are metadata | n_bytes int64, UTF-8 bytes of the text | columns kept for the mix
and `curate.contract` in the schema's metadata: JSON of the tokenizer's contract.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.engine.journal import MANIFEST
from curate.errors import DataError
from curate.io import hive
from curate.io.files import Folder
from curate.models.tokenizer import Contract

CONTRACT = b"curate.contract"
COLUMNS = ("id", "key", "tokens", "prefix", "n_bytes")
TOKENIZER = "_curate/tokenize"  # where a dataset keeps the files of its tokenizer

Ids = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]


class Tokens:
    """A complete token dataset. Of a document 28 bytes are held in memory once asked for; tokens stay on disk."""

    def __init__(self, folder: Path, contract: Contract, batches: Sequence[pa.RecordBatch]) -> None:
        self.folder, self.contract, self._batches = folder, contract, batches
        self._starts = np.cumsum([0, *(batch.num_rows for batch in batches)])
        self._values: list[Ids] = []
        self._offsets: list[npt.NDArray[np.int64]] = []
        for batch in batches:
            tokens = batch.column("tokens")
            _, offsets, *_ = tokens.buffers()
            self._values.append(tokens.values.to_numpy(zero_copy_only=True))
            self._offsets.append(np.frombuffer(offsets, np.int64, batch.num_rows + 1, tokens.offset * 8))

    @classmethod
    def open(cls, folder: str | Path) -> "Tokens":
        """Map a dataset. DataError where it is not complete, holds no documents, or is of two tokenizers."""
        where = Folder(str(folder))
        if where.local is None:
            raise DataError(
                f"{folder} is remote: tokens are mapped into memory", hint="copy the dataset here"
            )
        if not where.exists(MANIFEST):
            raise DataError(
                f"{folder} is not a complete token dataset",
                hint="`curate tokenize CORPUS -o TOKENS` makes one",
            )
        contract, batches = None, []
        for name in hive.parts(where):
            path = where.local / name
            reader = _mapped(path)
            found = _contract_of(path, reader.schema)
            contract = contract or found
            if found != contract:
                raise DataError(f"{path} was made by another tokenizer than the parts before it")
            read = (reader.get_batch(i) for i in range(reader.num_record_batches))
            batches += [batch for batch in read if batch.num_rows]
        if contract is None or not batches:
            raise DataError(f"{folder} holds no documents", hint="look at what was tokenized: `curate peek`")
        return cls(where.local, contract, batches)

    @property
    def documents(self) -> int:
        return int(self._starts[-1])

    @cached_property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each document (documents,), its prefix among them; 0 where there was no text."""
        return np.concatenate([np.diff(offsets) for offsets in self._offsets])

    @cached_property
    def keys(self) -> npt.NDArray[np.uint64]:
        """What orders documents (documents,): hash of the id, or of the group whose documents stay together."""
        return self._array("key", np.uint64)

    @cached_property
    def prefix(self) -> npt.NDArray[np.int32]:
        """Leading tokens of each document (documents,) that are metadata, out of the loss."""
        return self._array("prefix", np.int32)

    @cached_property
    def n_bytes(self) -> npt.NDArray[np.int64]:
        """UTF-8 bytes of each document's text (documents,)."""
        return self._array("n_bytes", np.int64)

    def tokens(self, document: int) -> Ids:
        """Tokens of one document, prefix first, without BOS and EOS: a view on mapped memory."""
        at = int(np.searchsorted(self._starts, document, "right")) - 1
        row = document - int(self._starts[at])
        start, end = self._offsets[at][row : row + 2]
        return self._values[at][start:end]

    def column(self, name: str) -> pa.ChunkedArray:
        """Any column (documents,); DataError naming those that are there."""
        schema = self._batches[0].schema
        if name not in schema.names:
            kept = [n for n in schema.names if n not in COLUMNS]
            raise DataError(
                f"{self.folder} has no column `{name}`",
                hint=f"columns kept: {', '.join(kept) or 'none'}; `curate tokenize --keep {name}` keeps it",
            )
        return pa.chunked_array([batch.column(name) for batch in self._batches])

    @property
    def tokenizer(self) -> Path:
        """Folder with the files of the tokenizer, as they were when the dataset was made."""
        return self.folder / TOKENIZER

    def _array(self, name: str, kind: Any) -> npt.NDArray[Any]:
        return np.asarray(self.column(name).to_numpy(), kind)


def _mapped(path: Path) -> pa.ipc.RecordBatchFileReader:
    try:
        return pa.ipc.open_file(pa.memory_map(str(path)))
    except pa.ArrowInvalid as error:
        raise DataError(
            f"{path} cannot be read: {error}", hint="`curate tokenize` makes token datasets"
        ) from None


def _contract_of(path: Path, schema: pa.Schema) -> Contract:
    missing = [name for name in COLUMNS if name not in schema.names]
    said = (schema.metadata or {}).get(CONTRACT)
    if missing or said is None:
        raise DataError(
            f"{path} holds no tokens: {f'no column `{missing[0]}`' if missing else 'no tokenizer is named'}",
            hint="`curate tokenize CORPUS -o TOKENS` makes token datasets",
        )
    return msgspec.json.decode(said, type=Contract)


def same_contract(one: Contract, two: Contract, names: tuple[object, object]) -> None:
    """DataError naming both where token ids do not mean the same; `names` are the folders they come from."""
    differing = [field for field in Contract.__struct_fields__ if getattr(one, field) != getattr(two, field)]
    if differing:
        field = differing[0]
        raise DataError(
            f"{names[0]} and {names[1]} are of different tokenizers: `{field}` is {getattr(one, field)} and {getattr(two, field)}",
            hint="tokenize all data of a study with one tokenizer, the model's",
        )
