"""Documents of any input that a recipe reads, for scoring: all of them, or an error that names the row."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from curate.errors import ConfigError, DataError
from curate.io.inputs import Input, LinkEnd, input_schema, list_files, read, scan

UNIT_BYTES = 256 << 20


def documents(
    given: Input, columns: tuple[str, ...] = (), unread: list[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Batches with `id`, `text` and the named columns, in the order of the input; a null text is '' here.

    Ids are those that a run over the same input gives. ConfigError where a column is not there, DataError for a row
    that cannot be read, unless `unread` takes its place and the reason.
    """
    root, files = list_files(given, Path("."))
    schema = input_schema(root, files, given)
    for name in columns:
        if name not in schema.names:
            hint = f"its columns: {', '.join(schema.names)}"
            raise ConfigError(f"no column `{name}`", where=", ".join(given.paths), hint=hint)
    taken = list(dict.fromkeys(("id", "text", *columns)))
    for file in files:
        slices = scan(file, given, schema, UNIT_BYTES, None).slices
        for batch in read(root, slices, given, schema, _Unread(file.path, unread)):
            if not isinstance(batch, LinkEnd):
                yield batch.select(taken)


class _Unread:
    """A set that is scored is read whole or not at all; rows without text hold no bytes to score."""

    def __init__(self, path: str, unread: list[str] | None) -> None:
        self._path, self._unread = path, unread

    def quarantine(self, *, id: str, source: str, offset: int, reason: str, error: str, raw: bytes) -> None:
        if reason == "null_text":
            return
        if self._unread is None:
            what = f"a row of the held-out set cannot be read ({reason}): {error}"
            raise DataError(what, where=f"{self._path}:{offset}", hint="mend the row, or take it out")
        self._unread.append(f"{self._path}:{offset}: {reason}")

    def skip(self, reason: str, count: int = 1) -> None:
        pass


def columns(paths: str | tuple[str, ...], id: str | None = None) -> list[str]:
    """Names of the columns of an input."""
    given = Input(path=paths, id=id)
    return list(input_schema(*list_files(given, Path(".")), given).names)
