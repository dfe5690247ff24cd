"""Common Crawl by address: a share of a crawl's files, a list of paths, or the pages of a domain.

    commoncrawl://CC-MAIN-2024-10?share=0.001     files whose hash with the recipe's seed is below the share
    commoncrawl://CC-MAIN-2024-10?paths=FILE      the paths in a file, one per line, as in warc.paths.gz
    commoncrawl://CC-MAIN-2024-10?domain=a.org    the domain and all below it, by the crawl's index
    ...&kind=wet                                  extracted text instead of pages (not with `domain`)

`CURATE_COMMONCRAWL` is where it lies: https://data.commoncrawl.org/, a mirror, or s3://commoncrawl/.

Share    a larger share holds the files of a smaller one; how many it is differs by chance from share * files
Domain   from the cdx index: its first level (cluster.idx, sorted by host) is searched by ranges, then the blocks that
         name the domain are read. Only pages with status 200 out of `warc/` files, and only their bytes: each is a gzip
         member, so those of one file, put together in their order, are a WARC file. `www.` does not matter.
"""

import gzip
import json
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl

import msgspec
import xxhash

from curate.errors import ConfigError, DataError
from curate.io.download import Patience, in_threads, look, read_range
from curate.io.slices import Remote, near_names

SCHEME = "commoncrawl://"
_BASE = "https://data.commoncrawl.org/"
_HINT = "commoncrawl://CC-MAIN-2024-10?share=0.001, ?paths=FILE or ?domain=example.com"
_WINDOW_BYTES = 32 << 10  # of the index; about what one search step costs anyhow
_NAME = re.compile(r"[\w.@=+-]+(/[\w.@=+-]+)*")


class Crawl(msgspec.Struct, frozen=True):
    """An address, read."""

    crawl: str
    kind: Literal["warc", "wet"] = "warc"
    share: float | None = None
    paths: str = ""
    domain: str = ""


def base() -> str:
    """Where Common Crawl lies."""
    return os.environ.get("CURATE_COMMONCRAWL", _BASE).rstrip("/") + "/"


def parse(address: str) -> Crawl:
    """An address; ConfigError names what is wrong with it."""
    crawl, _, query = address.removeprefix(SCHEME).partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    known = [name for name in Crawl.__struct_fields__ if name != "crawl"]
    for name in options:
        if name not in known:
            raise ConfigError(f"`{address}`: unknown `{name}`", hint=near_names(name, known), where="input")
    if not _NAME.fullmatch(crawl):
        raise ConfigError(f"`{address}` names no crawl", hint=_HINT, where="input")
    try:
        found = msgspec.convert({"crawl": crawl, **options}, Crawl, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"`{address}`: {error}", hint=_HINT, where="input") from None
    if sum(name in options for name in ("share", "paths", "domain")) != 1:
        raise ConfigError(f"`{address}` must name one of share, paths, domain", hint=_HINT, where="input")
    if found.share is not None and not 0 < found.share <= 1:
        raise ConfigError("`share` is above 0 and at most 1", hint=_HINT, where="input")
    if found.domain and found.kind != "warc":
        raise ConfigError("the index names pages of `kind=warc` only", hint="leave `kind` out", where="input")
    return found


def identity(address: str, seed: int, folder: Path) -> str:
    """What decides which files an address means, and where they lie. (A published crawl does not change.)"""
    found = parse(address)
    lines = "\n".join(_paths_in(found.paths, folder)) if found.paths else ""
    return f"{base()}\0{address}\0{seed if found.share else ''}\0{lines}"


def files(address: str, seed: int, folder: Path, patience: Patience) -> dict[str, Remote]:
    """The files that an address means, by name: the path that Common Crawl gives them, or one below `domain/`."""
    found = parse(address)
    if found.domain:
        return _pages(found, patience)
    if found.paths:
        names = _paths_in(found.paths, folder)
    else:
        names = _all_paths(found, patience)
        chosen = [name for name in names if share_of(name, seed) < (found.share or 0)]
        if not chosen:
            raise ConfigError(
                f"a share of {found.share} of the {len(names):,} files of {found.crawl} is none of them",
                hint=f"share={2 / len(names):.2g} is about two",
                where="input",
            )
        names = chosen
    return dict(in_threads(names, lambda name: look(base() + name, patience)))


def share_of(name: str, seed: int) -> float:
    """Where a path lies between 0 and 1."""
    return xxhash.xxh3_64_intdigest(f"{seed}\0{name}") / 2**64


def _paths_in(file: str, folder: Path) -> list[str]:
    try:
        text = (folder / file).read_bytes()
        text = gzip.decompress(text) if file.endswith(".gz") else text
        names = [line.strip() for line in text.decode().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError, EOFError, zlib.error) as error:
        raise ConfigError(f"cannot read the paths in `{file}`: {error}", hint=_HINT, where="input") from None
    return _checked(names, file)


def _checked(names: list[str], where: str) -> list[str]:
    for name in names:
        if not _NAME.fullmatch(name) or ".." in name.split("/"):
            raise DataError(
                f"`{name}` is no path of Common Crawl",
                hint="as in warc.paths.gz: crawl-data/...",
                where=where,
            )
    if not names:
        raise DataError("there is no path in it", hint="one per line: crawl-data/...", where=where)
    return list(dict.fromkeys(names))


def _all_paths(found: Crawl, patience: Patience) -> list[str]:
    address = f"{base()}crawl-data/{found.crawl}/{found.kind}.paths.gz"
    there = look(address, patience)
    if there.missing:
        raise ConfigError(
            f"there is no crawl `{found.crawl}`: {address} answers {there.missing}",
            hint="index.commoncrawl.org lists them: CC-MAIN-2024-10 and others",
            where="input",
        )
    data = read_range(address, 0, there.size, patience)
    return _checked(gzip.decompress(data).decode().split(), address)


def _pages(found: Crawl, patience: Patience) -> dict[str, Remote]:
    domain = found.domain.lower().removeprefix("www.").strip(".")
    if not re.fullmatch(r"[\w-]+(\.[\w-]+)+", domain):
        raise ConfigError(f"`{found.domain}` is no domain", hint=_HINT, where="input")
    key = ",".join(reversed(domain.encode("idna").decode().split("."))).encode()
    ranges: dict[str, dict[tuple[int, int], int]] = {}
    blocks = dict.fromkeys(b for end in b"),:" for b in _blocks(found.crawl, key + bytes([end]), patience))
    for _, lines in in_threads(list(blocks), lambda block: _lines(found.crawl, block, patience)):
        for line in lines:
            if re.match(re.escape(key) + rb"[),:]", line):
                _, stamp, about = line.split(b" ", 2)
                _add(ranges, stamp.decode(), json.loads(about))
    if not ranges:
        raise DataError(
            f"the index of {found.crawl} has no page of `{domain}`", hint="another crawl may", where="input"
        )
    return {
        f"domain/{domain}/{name}": Remote(
            base() + name, sum(length for _, length in parts), seconds=max(parts.values()), ranges=tuple(sorted(parts))
        )
        for name, parts in ranges.items()
    }  # fmt: skip


def _add(ranges: dict[str, dict[tuple[int, int], int]], stamp: str, about: dict[str, str]) -> None:
    name = about["filename"]
    if about.get("status") == "200" and "/warc/" in name:  # others are of robots.txt and of errors
        _checked([name], "index")
        ranges.setdefault(name, {})[int(about["offset"]), int(about["length"])] = _seconds(stamp)


def _seconds(stamp: str) -> int:
    from calendar import timegm
    from time import strptime

    return timegm(strptime(stamp[:14], "%Y%m%d%H%M%S"))


def _index(crawl: str, name: str) -> str:
    return f"{base()}cc-index/collections/{crawl}/indexes/{name}"


Block = tuple[str, int, int]  # file of the index, offset, length


def _blocks(crawl: str, prefix: bytes, patience: Patience) -> Iterator[Block]:
    # the blocks whose keys may begin with the prefix: the last one that begins before it, and on
    address = _index(crawl, "cluster.idx")
    there = look(address, patience)
    if there.missing:
        raise ConfigError(
            f"{crawl} has no index: {address} answers {there.missing}",
            hint="crawls since 2013 have one; is the name right?",
            where="input",
        )
    start, before = _last_before(address, there.size, prefix, patience), None
    for _, line in _index_lines(address, start, there.size, patience):
        key = line.split(b" ", 1)[0]
        _, name, offset, length = line.split(b"\t")[:4]
        block = _checked([name.decode()], address)[0], int(offset), int(length)
        if key < prefix:
            before = block
            continue
        if before:
            yield before
            before = None
        if not key.startswith(prefix):
            return
        yield block
    if before:
        yield before


def _last_before(address: str, size: int, prefix: bytes, patience: Patience) -> int:
    # offset of a line, no more than a window before the first one whose key is not below the prefix
    low, high = 0, size  # the line at `low` is below it (or the first); none from `high` on is
    while high - low > _WINDOW_BYTES:
        middle = (low + high) // 2
        lines = _index_lines(address, middle, high, patience)
        next(lines)  # the rest of the line that `middle` is in
        offset, line = next(lines, (high, b""))
        if offset < high and line.split(b" ", 1)[0] < prefix:
            low = offset
        else:
            high = middle
    return low


def _index_lines(address: str, start: int, stop: int, patience: Patience) -> Iterator[tuple[int, bytes]]:
    # (offset, line) of those that begin before `stop`
    begun, at = b"", start
    while at < stop:
        data = read_range(address, at, min(_WINDOW_BYTES, stop - at), patience)
        at += len(data)
        *lines, begun = (begun + data).split(b"\n")
        offset = at - len(begun) - sum(len(line) + 1 for line in lines)
        for line in lines:
            yield offset, line
            offset += len(line) + 1
    if begun:
        yield at - len(begun), begun


def _lines(crawl: str, block: Block, patience: Patience) -> list[bytes]:
    name, offset, length = block
    address = _index(crawl, name)
    try:
        return gzip.decompress(read_range(address, offset, length, patience)).splitlines()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"the index `{address}` is damaged at {offset}: {error}", hint="use another mirror"
        ) from None
