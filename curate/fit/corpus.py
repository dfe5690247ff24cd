"""A corpus as a fit reads it: whole, file by file, as often as it takes."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from curate.engine.fingerprints import digest_of
from curate.errors import DataError
from curate.io.inputs import FileScan, Input, InputFile, LinkEnd, input_schema, list_files, read, scan


class Corpus:
    """Documents with text, of files, globs or folders. DataError for a row that cannot be read."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._config = Input(path=tuple(paths))
        self._root, self.files = list_files(self._config, Path("."))
        self.schema = input_schema(self._root, self.files, self._config)
        self._scans: dict[str, FileScan] = {}

    def batches(self) -> Iterator[tuple[InputFile, pa.RecordBatch]]:
        """Rows in order, those without text left out."""
        for file in self.files:
            report = _Unread(file.path)
            for batch in read(self._root, self._scan(file).slices, self._config, self.schema, report):
                if not isinstance(batch, LinkEnd):
                    yield file, batch.filter(pc.is_valid(batch["text"]))

    def _scan(self, file: InputFile) -> FileScan:
        if file.path not in self._scans:
            self._scans[file.path] = scan(file, self._config, self.schema, 256 << 20, None)
        return self._scans[file.path]

    @property
    def digests(self) -> list[str]:
        """Of the content of each file."""
        return [self._scan(file).digest for file in self.files]

    @property
    def digest(self) -> str:
        """Names the corpus as plans name it: names and contents of its files."""
        pairs = [[file.name, digest] for file, digest in zip(self.files, self.digests, strict=True)]
        return digest_of("corpus", {"files": pairs})


class _Unread:
    """A corpus is read whole or not at all."""

    def __init__(self, path: str) -> None:
        self._path = path

    def quarantine(self, *, id: str, source: str, offset: int, reason: str, error: str, raw: bytes) -> None:
        if reason != "null_text":
            raise DataError(
                f"a row of the reference cannot be read ({reason}): {error}", where=f"{self._path}:{offset}"
            )

    def skip(self, reason: str, count: int = 1) -> None:
        pass
