"""What the engine and the readers tell each other: files, slices of files, rows, and the ends of links."""

import contextlib
import enum
from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import get_close_matches
from typing import Any, Final, Protocol, TypeVar

import msgspec
import xxhash

from curate.errors import ConfigError, DataError

LINK_BYTES = 64 << 20  # decompressed bytes of one link of a chain

Item = TypeVar("Item", bound=tuple[Any, ...])
Row = dict[str, Any]  # column -> value; what a row does not name is null


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An entry of `input.path` whose files are read in a way of their own; a key left out is as `input` has it."""

    path: str  # a file, glob or folder
    format: str | None = None
    id: str | None = None
    columns: dict[str, str] | None = None


class Input(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`input:` of a recipe. A list stands for `path`: `input: [{path: a.jsonl, columns: {text: content}}, b.parquet]`."""

    path: str | tuple[str | Entry, ...]  # files, globs or folders; local or any fsspec address
    format: str | None = None  # warc, jsonl, parquet, arrow, html, text or code; by file ending when left out
    id: str | None = None  # column that holds the id
    columns: dict[str, str] = {}  # our name -> the file's name: {text: content}
    with_: str | tuple[str, ...] = msgspec.field(
        default=(), name="with"
    )  # folders of side columns to be joined
    pdf: bool = False  # WARC: records of application/pdf are rows too, for `extract_pdf`
    opt_out: str | tuple[str, ...] = ()  # files of domains and URLs that are never read, one per line
    tdm: bool = False  # honour tdm-reservation, noai and noimageai in HTTP headers and meta tags
    allow_missing: int = 0  # of the files asked of Common Crawl: so many may not be there
    retry_seconds: int = 900  # how long downloads may wait, all together, for a source that is busy

    def __post_init__(self) -> None:
        for number, one in enumerate(self.entries):
            if isinstance(one, Entry):
                with named(self.place_of(number)):
                    self.of(number)
        names = list(self.columns.values())
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ConfigError(
                f"`columns` names `{twice[0]}` twice", hint="a column has one name", where="input"
            )
        if self.id and self.columns.get("id", self.id) != self.id:
            raise ConfigError(
                "`id` and `columns.id` name two columns", hint="leave one of them out", where="input"
            )
        if not self.paths:
            raise ConfigError(
                "`path` is empty", hint='say what to read: path: "data/*.parquet"', where="input"
            )

    @property
    def entries(self) -> tuple[str | Entry, ...]:
        return (self.path,) if isinstance(self.path, str) else self.path

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(one if isinstance(one, str) else one.path for one in self.entries)

    def with_paths(self, paths: Sequence[str]) -> "Input":
        """The same reading of other places, one for each of `paths`."""
        entries = tuple(
            path if isinstance(one, str) else msgspec.structs.replace(one, path=path)
            for one, path in zip(self.entries, paths, strict=True)
        )
        return msgspec.structs.replace(self, path=entries)

    def of(self, entry: int) -> "Input":
        """How files of an entry are read."""
        one = self.entries[entry] if entry >= 0 else ""
        if isinstance(one, str):
            return self
        own = {key: value for key in ("format", "id", "columns") if (value := getattr(one, key)) is not None}
        return msgspec.structs.replace(self, path=one.path, **own)

    def refuse_twice(self, name: str, before: int, entry: int) -> None:
        """ConfigError where two entries take in a file, which is read in one way."""
        if before != entry:
            raise ConfigError(
                f"two entries of `path` take in `{name}`",
                hint="a file is read in one way: make the globs narrower",
                where=self.place_of(max(before, entry)),
            )

    def place_of(self, entry: int) -> str:
        """Where an entry stands in the recipe."""
        return f"input.path[{entry}]" if entry >= 0 else "input"

    @property
    def opt_out_files(self) -> tuple[str, ...]:
        return (self.opt_out,) if isinstance(self.opt_out, str) else self.opt_out

    @property
    def sides(self) -> tuple[str, ...]:
        return (self.with_,) if isinstance(self.with_, str) else self.with_

    @property
    def id_column(self) -> str | None:
        """The file's column that becomes `id`, when the recipe names one."""
        return self.id or self.columns.get("id")


class Remote(msgspec.Struct, frozen=True):
    """What is downloaded before it is read."""

    address: str  # http(s)://, or any that fsspec opens
    size: int  # bytes to come
    etag: str = ""
    seconds: int = 0  # since 1970, when it was written, as its source says
    sha256: str = ""  # where the source knows it
    ranges: tuple[tuple[int, int], ...] = ()  # (offset, length): only these bytes of it, one after another
    missing: str = ""  # why there is none


class InputFile(msgspec.Struct, frozen=True):
    """One file of the input."""

    path: str  # absolute, or an address
    name: str  # relative to the input root, parts joined by '/'
    format: str
    size: int
    own_ids: bool = False  # a part of one of our own outputs: its ids stay
    stamp: str = (
        ""  # changes when the file is written: its time locally, an etag or time in a store; '' unknown
    )
    remote: Remote | None = None  # where `path` comes from
    entry: int = -1  # of `input.path`, where that has a reading of its own


TakeIds = Callable[[Sequence[int], Sequence[str]], None]  # ordinals and ids of rows of a file


class Slice(msgspec.Struct, frozen=True):
    """Part of one file. `start` and `stop` are row groups of Parquet, batches of Arrow, byte offsets of everything else."""

    path: str  # relative to the input root
    format: str
    start: int
    stop: int
    ordinal: int  # ordinal in the file of its first row
    bytes: int  # decompressed where that is known; for packing into units
    chain: bool = False  # a compressed stream that can only be read from its start, link by link
    own_ids: bool = False
    entry: int = -1


class FileScan(msgspec.Struct, frozen=True):
    """What one pass over a file found."""

    digest: str  # xxh3-128 of the whole content
    slices: list[Slice]
    rows: int | None  # None where counting would cost more than the scan; blank lines count as rows here


class Report(Protocol):
    """Where a reader says what did not become a row."""

    def quarantine(
        self, *, id: str, source: str, offset: int, reason: str, error: str, raw: bytes
    ) -> None: ...

    def skip(self, reason: str, count: int = 1) -> None: ...


class LinkEnd(enum.Enum):
    """End of a link of a chain."""

    LINK_END = "link_end"


LINK_END: Final = LinkEnd.LINK_END


def by_links(items: Iterable[Item], first_link: int) -> Iterator[Item | LinkEnd]:
    """Items, each beginning with its decompressed offset, with a LINK_END after each link of 64 MB.

    An item belongs to the link its first byte is in. Items before `first_link` are passed over.
    """
    link = 0
    for item in items:
        while item[0] >= (link + 1) * LINK_BYTES:
            if link >= first_link:
                yield LINK_END
            link += 1
        if link >= first_link:
            yield item
    if link >= first_link:
        yield LINK_END


@contextlib.contextmanager
def named(place: str) -> Iterator[None]:
    """Errors of the input say which entry they are about."""
    try:
        yield
    except (ConfigError, DataError) as error:
        error.where = place if error.where == "input" else error.where
        raise


_NAMED = 8  # in a hint


def near_names(name: str, names: Iterable[str]) -> str:
    """A hint: which of `names` may have been meant."""
    names = list(names)
    near = get_close_matches(name, names, 3)
    if near:
        return f"did you mean {' or '.join(f'`{n}`' for n in near)}?"
    return f"there are {', '.join(names[:_NAMED])}" + (", ..." if len(names) > _NAMED else "")


def row_ids(name: str, start: int, count: int) -> list[str]:
    """`schema.row_id` of `count` rows in order, without encoding the path for each."""
    prefix = f"{name}\0".encode("utf-8", "surrogateescape")
    digest = xxhash.xxh3_128_hexdigest
    return [digest(b"%s%d" % (prefix, ordinal)) for ordinal in range(start, start + count)]
