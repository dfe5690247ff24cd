"""Pieces of large files hold whole records, lie spread over the input and say what they stand for."""

import gzip
import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from curate.io import excerpt, inputs
from curate.io.download import Patience
from curate.io.slices import Input

ROWS = 6000
TEXTS = [f"row {i} " + "".join(random.Random(i).choices("abcdefgh ", k=200)) for i in range(ROWS)]


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(excerpt, "PIECES", 12)
    monkeypatch.setattr(excerpt, "PIECE_BYTES", 8 << 10)


def lines():
    return b"".join(json.dumps({"text": text}).encode() + b"\n" for text in TEXTS)


def record(number):
    body = TEXTS[number].encode()
    return (
        f"WARC/1.0\r\nWARC-Type: conversion\r\nWARC-Record-ID: <urn:uuid:{number}>\r\n"
        f"Content-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body + b"\r\n\r\n"  # fmt: skip


def write(name, folder):
    path = folder / name
    if name.endswith(".parquet"):
        pq.write_table(pa.table({"text": TEXTS}), path, row_group_size=500)
    elif name == "a.jsonl":
        path.write_bytes(lines())
    elif name == "a.jsonl.gz":
        path.write_bytes(gzip.compress(lines()))
    elif name == "a.jsonl.zst":
        path.write_bytes(zstandard.compress(lines()))
    elif name == "a.warc":
        path.write_bytes(b"".join(map(record, range(ROWS))))
    else:  # of one member, or of one for each record
        one = name == "one.warc.gz"
        whole = b"".join(map(record, range(ROWS)))
        path.write_bytes(
            gzip.compress(whole) if one else b"".join(gzip.compress(record(i)) for i in range(ROWS))
        )
    return path


class Whole:
    """A report to which nothing is to be said."""

    def quarantine(self, **row):
        raise AssertionError(row)

    skip = quarantine


def rows_of(part, config):
    schema = inputs.input_schema(str(part.file.path).removesuffix(part.file.name), [part.file], config)
    found = inputs.scan(part.file, config, schema, 1 << 30, None)
    root = part.file.path.removesuffix(f"/{part.file.name}")
    batches = inputs.read(root, found.slices, config, schema, Whole())
    return [t for b in batches if isinstance(b, pa.RecordBatch) for t in b["text"].to_pylist()]


@pytest.mark.parametrize(
    "name",
    ["a.parquet", "a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.warc", "a.warc.gz", "one.warc.gz"],
)
def test_a_piece_holds_whole_rows_and_stands_for_its_share(tmp_path, name):
    (tmp_path / "in").mkdir()
    path = write(name, tmp_path / "in")
    config = Input(path=str(tmp_path / "in"))
    _, files = inputs.list_files(config, tmp_path)
    parts = excerpt.take(files, tmp_path / "pieces", Patience(0, print))
    numbers = {text: i for i, text in enumerate(TEXTS)}
    firsts, found = [], 0.0
    for part in parts:
        texts = rows_of(part, config)
        places = [numbers[text] for text in texts]
        assert places == list(range(places[0], places[0] + len(places)))  # neighbours, none broken
        firsts.append(places[0])
        found += len(places) * part.bytes / part.read_bytes
    assert sum(part.bytes for part in parts) == pytest.approx(path.stat().st_size)
    assert sum(part.read_bytes for part in parts) < path.stat().st_size / 2
    assert found == pytest.approx(ROWS, rel=0.1)
    stream = name in ("a.jsonl.gz", "a.jsonl.zst", "one.warc.gz")
    assert [part.prefix for part in parts] == ([True] if stream else [False] * 12)
    assert firsts == sorted(firsts)
    assert stream or (firsts[0] < ROWS / 8 and firsts[-1] > ROWS * 7 / 8)


@pytest.mark.parametrize("name", ["a.warc.gz", "a.jsonl", "one.parquet"])
def test_no_row_is_read_twice(tmp_path, monkeypatch, name):
    """Not where pieces are longer than their share, and not where one row group is all there is."""
    monkeypatch.setattr(excerpt, "PIECE_BYTES", 1 << 20 if name != "one.parquet" else 8 << 10)
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / name
    if name == "one.parquet":
        pq.write_table(pa.table({"text": TEXTS}), path)
    else:
        write(name, tmp_path / "in")
    config = Input(path=str(tmp_path / "in"))
    _, files = inputs.list_files(config, tmp_path)
    parts = excerpt.take(files, tmp_path / "pieces", Patience(0, print))
    texts = [text for part in parts for text in rows_of(part, config)]
    assert len(parts) == 12
    assert len(set(texts)) == len(texts)
    assert sum(part.bytes for part in parts) == pytest.approx(path.stat().st_size)


def test_a_document_larger_than_a_piece_is_read_further(tmp_path):
    long = [json.dumps({"text": "x" * 60_000 + str(i)}) for i in range(20)]
    (tmp_path / "a.jsonl").write_text("\n".join(long) + "\n")
    _, files = inputs.list_files(Input(path=str(tmp_path / "a.jsonl")), tmp_path)
    parts = excerpt.take(files, tmp_path / "pieces", Patience(0, print))
    assert all(len(text) > 60_000 for part in parts for text in rows_of(part, Input(path="x")))


def test_files_without_parts_are_read_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(excerpt, "WHOLE_BYTES", 10)
    (tmp_path / "a.html").write_text("<p>one</p>" * 10)
    _, html = inputs.list_files(Input(path=str(tmp_path)), tmp_path)
    assert not excerpt.is_wanted(html)
    _, rows = inputs.list_files(Input(path=str(write("a.jsonl", tmp_path))), tmp_path)
    assert excerpt.is_wanted(rows)
