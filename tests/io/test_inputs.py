"""Listing, the union schema, own outputs as input, remote addresses, mixed formats."""

import gzip
import json

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash

from curate.errors import ConfigError, DataError
from curate.io import inputs
from curate.io.slices import near_names
from curate.io.sources import DigestingFile
from curate.schema import row_id

LINE = b'{"text": "a line"}\n'


def names(path, base, **config) -> tuple[str, list[str]]:
    root, files = inputs.list_files(inputs.Input(path=path, **config), base)
    return root, [file.name for file in files]


@pytest.fixture
def tree(tmp_path):
    for name in ("d/b.jsonl", "d/a.jsonl", "d/sub/c.jsonl", "d/_curate_not/x.jsonl", "d/.hidden/x.jsonl",
                 "d/_x.jsonl", "d/.y.jsonl", "d/readme.docx", "e/z.jsonl"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(LINE)
    return tmp_path


def test_listing_by_hand(tree):
    d, e = str(tree / "d"), str(tree / "e")
    assert names("d", tree) == (d, ["a.jsonl", "b.jsonl", "readme.docx", "sub/c.jsonl"])
    assert names("d/", tree) == (d, ["a.jsonl", "b.jsonl", "readme.docx", "sub/c.jsonl"])
    assert names(f"file://{d}", tree) == (d, ["a.jsonl", "b.jsonl", "readme.docx", "sub/c.jsonl"])
    assert names("d/*.jsonl", tree) == (d, ["a.jsonl", "b.jsonl"])
    assert names("d/**/*.jsonl", tree) == (d, ["a.jsonl", "b.jsonl", "sub/c.jsonl"])
    assert names("d/_*.jsonl", tree) == (d, ["_x.jsonl"])
    assert names("d/s*", tree) == (d, ["sub/c.jsonl"])
    assert names("d/sub/c.jsonl", tree) == (f"{d}/sub", ["c.jsonl"])
    assert names(("e", "d/[ab].jsonl", "d/a.jsonl"), tree) == (
        str(tree),
        ["d/a.jsonl", "d/b.jsonl", "e/z.jsonl"],
    )
    assert names(e, tree) == (e, ["z.jsonl"])


def test_links_lead_to_files(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store/blob").write_bytes(LINE)
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a.jsonl").symlink_to("../store/blob")
    (tmp_path / "d/folder").symlink_to("../store")
    assert names("d", tmp_path) == (str(tmp_path / "d"), ["a.jsonl", "folder"])
    assert names("d/*.jsonl", tmp_path) == (str(tmp_path / "d"), ["a.jsonl"])
    files = inputs.list_files(inputs.Input(path="d/*.jsonl"), tmp_path)[1]
    assert files[0].size == len(LINE)
    (tmp_path / "d/b.jsonl").symlink_to("nowhere")
    with pytest.raises(DataError, match="link to nothing"):
        names("d", tmp_path)


def test_a_name_with_glob_characters_is_a_file_first(tmp_path):
    (tmp_path / "a[1].jsonl").write_bytes(LINE)
    (tmp_path / "a1.jsonl").write_bytes(LINE)
    assert names("a[1].jsonl", tmp_path) == (str(tmp_path), ["a[1].jsonl"])


@pytest.mark.parametrize(
    ("path", "kind", "what", "hint"),
    [
        ("d/a.jsnl", DataError, "nothing at", "`a.jsonl`"),
        ("nowhere/x", DataError, "nothing at", "no folder"),
        ("d/*.parquet", DataError, "nothing to read", "looked at"),
        ("d/readme.docx", ConfigError, "readme.docx", "format:"),
        ("d/*", ConfigError, "readme.docx", "format:"),
        ("none", DataError, "nothing to read", "looked at"),
        ("words", ConfigError, "ending.*\\.docx", "format:"),
        ("arc/x.arc.gz", ConfigError, "x.arc.gz", "warcio recompress"),
        ("s4://bucket/x", ConfigError, "s4://bucket/x", "install"),
        ((), ConfigError, "empty", "path:"),
    ],
)
def test_what_cannot_be_listed(tree, path, kind, what, hint):
    (tree / "none").mkdir()
    for name in ("words/x.docx", "arc/x.arc.gz", "arc/a.warc"):
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_bytes(b"")
    with pytest.raises(kind, match=what) as error:
        names(path, tree)
    assert hint in error.value.hint


def test_an_unknown_format_and_repeated_names_are_refused(tree):
    with pytest.raises(ConfigError, match="jsnl") as error:
        names("d", tree, format="jsnl")
    assert "`jsonl`" in error.value.hint
    with pytest.raises(ConfigError, match="`x` twice"):
        inputs.Input(path="d", columns={"a": "x", "b": "x"})
    with pytest.raises(ConfigError, match="two columns"):
        inputs.Input(path="d", id="x", columns={"id": "y"})


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("x.warc", "warc"), ("x.warc.gz", "warc"), ("x.warc.wet.gz", "warc"), ("X.WARC.WAT.GZ", "warc"),
        ("x.jsonl", "jsonl"), ("x.jsonl.gz", "jsonl"), ("x.ndjson.zst", "jsonl"), ("c4.00001.json.gz", "jsonl"),
        ("part.0.parquet", "parquet"), ("x.htm", "html"), ("x.md", "text"), ("x.tar.py", "code"),
    ],
)  # fmt: skip
def test_formats_by_ending(tmp_path, name, format):
    (tmp_path / name).write_bytes(b"")
    _, (file,) = inputs.list_files(inputs.Input(path=name), tmp_path)
    assert (file.name, file.format, file.path) == (name, format, str(tmp_path / name))


def test_a_format_over_the_ending(tmp_path, read_all):
    (tmp_path / "data.bin").write_bytes(LINE)
    assert read_all(tmp_path, format="jsonl").column("text") == ["a line"]


def output(folder, complete: bool = True, jsonl: bool = False) -> None:
    (folder / "_curate").mkdir(parents=True)
    (folder / "_dropped/01_select").mkdir(parents=True)
    for at, name in enumerate(["part-00000", "part-00001"]):
        rows = [{"id": f"id-{at}-{n}", "text": "t", "url": None} for n in range(3)]
        if jsonl:
            lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
            (folder / f"{name}.jsonl.gz").write_bytes(gzip.compress(lines))
        else:
            table = pa.Table.from_pylist(
                rows, pa.schema({"id": pa.string(), "text": pa.large_string(), "url": pa.string()})
            )
            pq.write_table(table, folder / f"{name}.parquet")
            pq.write_table(table, folder / f"_dropped/01_select/{name}.parquet")
    (folder / "_curate/plan.json").write_text("{}")
    if complete:
        (folder / "_curate/manifest.json").write_text("{}")


@pytest.mark.parametrize("jsonl", [False, True])
@pytest.mark.parametrize("path", ["out", "out/part-*", "out/part-00000*", "*", "."])
def test_our_own_output_keeps_its_ids(tmp_path, read_all, jsonl, path):
    output(tmp_path / "out", jsonl=jsonl)
    found = read_all(path, base=tmp_path)
    assert found.column("id") == [
        f"id-{p}-{n}" for p in ((0,) if "00000" in path else (0, 1)) for n in range(3)
    ]
    assert "source_id" not in found.schema.names
    assert [i for _, i in found.ids] == found.column("id")


@pytest.mark.parametrize("path", ["out", "out/part-*", "*", "."])
def test_an_incomplete_output_is_refused(tmp_path, read_all, path):
    output(tmp_path / "out", complete=False)
    with pytest.raises(DataError, match=r"out.*not complete") as error:
        read_all(path, base=tmp_path)
    assert "resumes" in error.value.hint


def test_mixed_formats_keep_the_order_of_names(tmp_path, read_all):
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "b.jsonl").write_bytes(b'{"text": "json", "url": "u", "k": 1}\n')
    pq.write_table(pa.table({"text": ["parquet"], "k": [2]}), tmp_path / "c.parquet")
    (tmp_path / "d.html").write_text("<p>")
    found = read_all(tmp_path)
    assert found.schema.names == ["id", "text", "url", "source", "html", "k", "extra"]
    assert found.column("text") == ["text", "json", "parquet", None]
    assert found.column("k") == [None, None, 2, None]
    assert found.column("extra") == [None, '{"k":1}', None, None]
    assert found.column("id") == [row_id(f.name, 0) for f in found.files]


def test_columns_of_an_input_without_any(tmp_path, read_all):
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(ConfigError, match="name columns"):
        read_all(tmp_path, columns={"text": "content"})


@pytest.fixture
def memory(tmp_path):
    system = fsspec.filesystem("memory")
    warc = b"WARC/1.0\r\nWARC-Type: conversion\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi\r\n\r\n"
    pq.write_table(pa.table({"text": ["p"] * 100}), tmp_path / "p.parquet", row_group_size=10)
    files = {
        "a.jsonl": LINE * 40, "b.jsonl.gz": gzip.compress(LINE * 40), "c.warc.gz": gzip.compress(warc) * 20,
        "d.html": b"<p>", "sub/e.parquet": (tmp_path / "p.parquet").read_bytes(), "_x/f.jsonl": LINE,
    }  # fmt: skip
    (tmp_path / "local/sub").mkdir(parents=True)
    (tmp_path / "local/_x").mkdir()
    for name, content in files.items():
        system.pipe_file(f"/bucket/{name}", content)
        (tmp_path / "local" / name).write_bytes(content)
    yield tmp_path / "local"
    system.rm("/bucket", recursive=True)


@pytest.mark.parametrize("path", ["memory://bucket", "memory://bucket/", "memory://bucket/**"])
def test_a_remote_folder_reads_as_a_local_one(memory, read_all, path):
    local = read_all(memory, unit_bytes=200)
    remote = read_all(path, unit_bytes=200)
    assert [f.name for f in remote.files] == [f.name for f in local.files]
    assert all(f.path.startswith("memory://") for f in remote.files)
    assert [s.digest for s in remote.scans] == [s.digest for s in local.scans]
    assert (remote.slices, remote.rows) == (local.slices, local.rows)
    assert len(local.rows) == 40 + 40 + 20 + 1 + 100
    assert len(local.slices) > 15


def test_remote_files_that_are_gone(memory, read_all):
    found = read_all("memory://bucket/*.jsonl")
    with pytest.raises(DataError, match="nothing at"):
        read_all("memory://bucket/x.jsonl")
    fsspec.filesystem("memory").pipe_file("/bucket/a.jsonl", b"")
    with pytest.raises(DataError, match="shorter"):
        list(inputs.read(found.root, found.slices, found.config, found.schema, found.log))
    fsspec.filesystem("memory").rm("/bucket/a.jsonl")
    with pytest.raises(DataError, match=r"a\.jsonl"):
        list(inputs.read(found.root, found.slices, found.config, found.schema, found.log))


def test_the_digest_is_that_of_the_content(tmp_path, read_all):
    for name in ("a.jsonl", "b.txt"):
        (tmp_path / name).write_bytes(LINE * 1000)
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(LINE * 1000) + b"junk")
    (tmp_path / "d.warc").write_bytes(b"WARC/1.0\r\nContent-Length: 999999\r\n\r\n" + LINE * 1000)
    pq.write_table(pa.table({"text": ["a"] * 1000}), tmp_path / "e.parquet")
    found = read_all(tmp_path)
    assert [s.digest for s in found.scans] == [
        xxhash.xxh3_128_hexdigest((tmp_path / f.name).read_bytes()) for f in found.files
    ]


def test_seeking_does_not_confuse_the_digest(tmp_path):
    data = bytes(range(256)) * 100
    (tmp_path / "x").write_bytes(data)
    with DigestingFile(open(tmp_path / "x", "rb")) as file:
        for offset, size in [(0, 10), (5, 20), (1000, 50), (3, 3), (900, 300), (25_000, 5000)]:
            file.seek(offset)
            assert file.read(size) == data[offset : offset + size]
        assert file.hexdigest() == xxhash.xxh3_128_hexdigest(data)


def test_a_hint_names_no_more_than_eight():
    names = [f"column_{i}" for i in range(300)]
    assert near_names("xyz", names[:2]) == "there are column_0, column_1"
    assert near_names("xyz", names) == f"there are {', '.join(names[:8])}, ..."
