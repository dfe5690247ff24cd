"""JSON Lines: what becomes a row, what does not and why, and that cutting changes nothing."""

import gzip
import io
import json
import tracemalloc

import msgspec
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate.errors import ConfigError, DataError
from curate.io import inputs, jsonl, slices, sources
from curate.schema import row_id


def test_a_row_by_hand(tmp_path, read_all):
    (tmp_path / "a.jsonl").write_text(
        '{"text": "one", "url": "http://x/", "id": 7, "n": 1.50, "tags": ["a", null]}\r\n'
        "\n"
        '{"date": 2024, "licence": "MIT", "text": "two"}'
    )
    found = read_all(tmp_path / "a.jsonl")
    assert found.schema.names == ["id", "text", "url", "date", "license", "source_id", "extra"]
    assert found.rows == [
        {"id": row_id("a.jsonl", 0), "text": "one", "url": "http://x/", "date": None, "license": None,
         "source_id": "7", "extra": '{"n":1.50,"tags":["a", null]}'},
        {"id": row_id("a.jsonl", 2), "text": "two", "url": None, "date": "2024", "license": "MIT",
         "source_id": None, "extra": None},
    ]  # fmt: skip
    assert found.log.skipped == {"blank_line": 1}
    assert found.scans[0].rows == 3


def test_lines_end_at_the_newline_byte_only(tmp_path, read_all):
    text = "one\u2028two\u2029three\x85four\x0bfive"
    (tmp_path / "a.jsonl").write_bytes(
        json.dumps({"text": text}, ensure_ascii=False).encode().replace(b"\\u000b", b"\\u000b") + b"\n"
    )
    assert read_all(tmp_path / "a.jsonl").column("text") == [text]


def test_mapping(tmp_path, read_all):
    (tmp_path / "a.jsonl").write_text('{"body": "b", "doc": 12, "lang": "en", "score": 0.5, "text": 3}\n')
    found = read_all(
        tmp_path / "a.jsonl", id="doc", columns={"text": "body", "lang_source": "lang", "score": "score"}
    )
    assert found.rows == [
        {"id": "12", "text": "b", "lang_source": "en", "score": "0.5", "extra": '{"text":3}'}
    ]
    assert found.ids == [(0, "12")]


def test_a_core_column_may_also_be_the_id(tmp_path, read_all):
    (tmp_path / "a.jsonl").write_text('{"text": "t", "url": "http://x/"}\n')
    assert read_all(tmp_path / "a.jsonl", id="url").rows == [
        {"id": "http://x/", "text": "t", "url": "http://x/", "extra": None}
    ]


def test_html_may_be_mapped(tmp_path, read_all):
    (tmp_path / "a.jsonl").write_text('{"page": "<p>é</p>"}\n{"page": null}\n')
    found = read_all(tmp_path / "a.jsonl", columns={"html": "page"})
    assert (found.column("html"), found.column("text")) == (["<p>é</p>".encode()], [None])
    assert found.log.reasons == ["null_text"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "a"', "bad_json"),
        (b'["text"]', "bad_json"),
        (b"17", "bad_json"),
        (b'{"text": NaN}', "bad_json"),
        (b'{"text": "a", "x": -Infinity}', "bad_json"),
        (b'{"text": "a", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "bad_json"),
        (b'{"text": "a", "x": ' + b'{"x":' * 100_000 + b"1" + b"}" * 100_001, "bad_json"),
        (b"[" * 100_000, "bad_json"),
        (b'{"text": "tab\tin a string"}', "bad_json"),
        (b'{"text": "a"} {"text": "b"}', "bad_json"),
        (b'{"text": "caf\xe9"}', "bad_utf8"),
        (b'{"text": "a", "x": "\xff"}', "bad_utf8"),
        (b'{"text": "a", "\xff": 1}', "bad_utf8"),
        (b'{"text": "\\ud800"}', "bad_utf8"),
        (b'{"text": "a lone \\udc00 one, with more behind it"}', "bad_utf8"),
        (b'{"text": "a", "x": ["\\ud800 and more"]}', "bad_utf8"),
        (b'{"text": "a", "\\ud800": 1}', "bad_utf8"),
        (b'{"text": 3}', "bad_type"),
        (b'{"text": {"a": "b"}}', "bad_type"),
        (b'{"text": true}', "bad_type"),
        (b'{"text": null}', "null_text"),
        (b'{"txt": "a"}', "null_text"),
    ],
)
def test_poison(tmp_path, read_all, line, reason):
    good = b'{"text": "good"}\n'
    (tmp_path / "a.jsonl").write_bytes(good + line + b"\n" + good)
    found = read_all(tmp_path / "a.jsonl")
    assert found.column("id") == [row_id("a.jsonl", 0), row_id("a.jsonl", 2)]
    (bad,) = found.log.quarantined
    assert bad["error"]
    assert (bad["reason"], bad["offset"], bad["id"]) == (reason, len(good), row_id("a.jsonl", 1))
    assert bad["raw"] == line[:4096]


def test_what_json_allows_is_kept(tmp_path, read_all):
    lines = [
        '{"text": "😀\\ud83d\\ude00\\u0000", "big": 123456789012345678901234567890, "e": 1e999}',
        '{"text": "a", "text": "b"}',
        '{"text": ""}',
    ]
    (tmp_path / "a.jsonl").write_text("\ufeff" + "\n".join(lines))
    found = read_all(tmp_path / "a.jsonl")
    assert found.column("text") == ["😀😀\0", "b", ""]
    assert found.rows[0]["extra"] == '{"big":123456789012345678901234567890,"e":1e999}'
    assert not found.log.quarantined


@pytest.mark.parametrize("value", ["null", "[1]", "true"])
def test_an_id_is_a_string_or_a_number(tmp_path, read_all, value):
    (tmp_path / "a.jsonl").write_text(
        f'{{"text": "a", "id": "x"}}\n{{"text": "b", "id": {value}}}\n{{"text": "c"}}'
    )
    found = read_all(tmp_path / "a.jsonl", id="id")
    assert found.column("id") == ["x"]
    assert found.log.reasons == ["bad_id", "bad_id"]
    assert found.ids == [(0, "x")]


def test_a_long_line_is_not_held_in_memory(tmp_path, read_all):
    with open(tmp_path / "a.jsonl", "wb") as file:
        file.write(b'{"text": "first"}\n{"text": "')
        for _ in range(100):
            file.write(b"x" * (1 << 20))
        file.write(b'"}\n{"text": "last"}\n')
    tracemalloc.start()
    found = read_all(tmp_path / "a.jsonl", reading={"max_document_bytes": 1 << 20})
    assert tracemalloc.get_traced_memory()[1] < 12 << 20
    tracemalloc.stop()
    assert found.column("text") == ["first", "last"]
    assert found.log.reasons == ["too_long"]
    assert found.log.quarantined[0]["offset"] == 18


def test_a_document_over_the_limit_is_too_long_in_bytes(tmp_path, read_all):
    (tmp_path / "a.jsonl").write_text(
        '{"text": "éééé"}\n{"text": "\\u00e9\\u00e9\\u00e9"}\n{"text": "ééééé"}\n'
    )
    found = read_all(tmp_path / "a.jsonl", reading={"max_document_bytes": 8})
    assert found.column("text") == ["éééé", "ééé"]
    assert found.log.reasons == ["too_long"]


def test_a_missing_key_is_named(tmp_path, read_all):
    (tmp_path / "a.jsonl").write_text('{"content": "a", "ident": 1}\n')
    with pytest.raises(ConfigError, match=r"a\.jsonl.*no key `text`") as error:
        read_all(tmp_path / "a.jsonl")
    assert "content" in error.value.hint
    with pytest.raises(ConfigError, match="`idnt`") as error:
        read_all(tmp_path / "a.jsonl", id="idnt", columns={"text": "content"})
    assert "`ident`" in error.value.hint
    with pytest.raises(ConfigError, match="`scor`"):
        read_all(tmp_path / "a.jsonl", columns={"text": "content", "score": "scor"})


def test_a_file_that_shrank_is_an_error(tmp_path, read_all):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n' * 3)
    found = read_all(path)
    path.write_text('{"text": "a"}\n')
    with pytest.raises(DataError, match=r"a\.jsonl.*shorter"):
        list(inputs.read(found.root, found.slices, found.config, found.schema, found.log))
    path.unlink()
    with pytest.raises(DataError, match=r"a\.jsonl"):
        list(inputs.read(found.root, found.slices, found.config, found.schema, found.log))


def packed(data: bytes, kind: str, members: int = 1) -> bytes:
    pack = gzip.compress if kind == "gz" else zstandard.compress
    step = -(-len(data) // members) or 1
    return b"".join(pack(data[at : at + step]) for at in range(0, len(data), step))


def some_lines(count: int) -> bytes:
    return b"".join(b'{"text": "row %d %s"}\n' % (n, b"x" * (n % 50)) for n in range(count))


@pytest.mark.parametrize("kind", ["gz", "zst"])
@pytest.mark.parametrize("members", [1, 3])
def test_a_chain_gives_the_rows_of_the_plain_file(tmp_path, read_all, kind, members):
    data = some_lines(2000)
    (tmp_path / "a.jsonl").write_bytes(data)
    (tmp_path / f"b.jsonl.{kind}").write_bytes(packed(data, kind, members))
    plain, chain = read_all(tmp_path / "a.jsonl"), read_all(tmp_path / f"b.jsonl.{kind}")
    assert chain.column("text") == plain.column("text")
    assert chain.column("id") == [row_id(f"b.jsonl.{kind}", n) for n in range(2000)]
    assert [s.chain for s in chain.slices] == [True]
    assert chain.links == 1


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_a_chain_resumes_at_any_link(tmp_path, read_all, monkeypatch, kind):
    monkeypatch.setattr(slices, "LINK_BYTES", 1000)
    data = some_lines(50) + b'{"text": "%s"}\n' % (b"y" * 5000) + b"not json\n\n" + some_lines(50)
    path = tmp_path / f"a.jsonl.{kind}"
    path.write_bytes(packed(data, kind, 2))
    whole = read_all(path)
    by_link, link = [[]], 0
    log = whole.log.__class__()
    for item in inputs.read(whole.root, whole.slices, whole.config, whole.schema, log):
        if item is inputs.LINK_END:
            by_link.append([])
        else:
            by_link[-1] += item.column("text").to_pylist()
    starts = [0]
    for line in data.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    last = max(start for start in starts if start < len(data))
    assert whole.links == last // 1000 + 1 == len(by_link) - 1
    assert by_link.pop() == []
    for link in range(whole.links + 2):
        rest = read_all(path, first_link=link)
        assert rest.column("text") == [text for texts in by_link[link:] for text in texts]
        assert rest.column("id") == whole.column("id")[len(whole.rows) - len(rest.rows) :]
        assert rest.links == max(0, whole.links - link)
    assert whole.log.reasons == ["bad_json"]
    assert read_all(path, first_link=whole.links - 1).log.reasons == []


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_a_truncated_stream_keeps_what_was_before(tmp_path, read_all, kind):
    data = some_lines(20_000)
    (tmp_path / f"a.jsonl.{kind}").write_bytes(packed(data, kind)[:-20])
    found = read_all(tmp_path / f"a.jsonl.{kind}")
    assert found.log.reasons == ["truncated"]
    texts = [json.loads(line)["text"] for line in data.splitlines()]
    assert len(found.rows) > (19_000 if kind == "gz" else 1000)
    assert found.column("text") == texts[: len(found.rows)]
    assert found.log.quarantined[0]["id"] == row_id(f"a.jsonl.{kind}", len(found.rows))


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_a_corrupt_stream_keeps_what_was_before(tmp_path, read_all, kind):
    broken = bytearray(packed(some_lines(10_000), kind))
    broken[len(broken) // 2 : len(broken) // 2 + 40] = b"\xff" * 40
    (tmp_path / f"a.jsonl.{kind}").write_bytes(packed(some_lines(10_000), kind, 2) + broken)
    found = read_all(tmp_path / f"a.jsonl.{kind}")
    assert found.log.reasons[-1] == "corrupt_stream"
    assert len(found.rows) > 10_000
    assert found.column("text")[:10_000] == [
        json.loads(line)["text"] for line in some_lines(10_000).splitlines()
    ]
    assert found.column("id")[:10_000] == [row_id(f"a.jsonl.{kind}", n) for n in range(10_000)]


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_a_bomb_is_streamed(tmp_path, read_all, kind):
    made = io.BytesIO()
    writer = (
        gzip.GzipFile(fileobj=made, mode="wb", compresslevel=1)
        if kind == "gz"
        else zstandard.ZstdCompressor().stream_writer(made, closefd=False)
    )
    with writer:
        writer.write(b'{"text": "first"}\n{"text": "')
        for _ in range(300):
            writer.write(bytes([0x61]) * (1 << 20))
        writer.write(b'"}\n{"text": "last"}\n')
    (tmp_path / f"a.jsonl.{kind}").write_bytes(made.getvalue())
    tracemalloc.start()
    found = read_all(tmp_path / f"a.jsonl.{kind}", reading={"max_document_bytes": 1 << 20})
    assert tracemalloc.get_traced_memory()[1] < 100 << 20
    tracemalloc.stop()
    assert found.column("text") == ["first", "last"]
    assert found.log.reasons == ["too_long"]


def test_an_empty_file_has_no_slice(tmp_path, read_all):
    for name in ("a.jsonl", "b.jsonl.gz", "c.jsonl"):
        (tmp_path / name).write_bytes(b'{"text": "one"}' if name == "c.jsonl" else b"")
    found = read_all(tmp_path)
    assert found.column("text") == ["one"]
    assert [part.path for part in found.slices] == ["c.jsonl"]


LINE = st.one_of(
    st.binary(max_size=60),
    st.dictionaries(
        st.sampled_from(["text", "id", "x", "licence"]), st.one_of(st.text(), st.integers(), st.none())
    ).map(lambda d: json.dumps(d).encode()),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(LINE), st.integers(1, 200), st.integers(1, 4))
def test_any_bytes_are_accounted_for_at_any_cut(tmp_path, read_all, lines, unit_bytes, batch_rows):
    data = b"\n".join(lines)
    (tmp_path / "a.jsonl").write_bytes(data)
    try:
        whole = read_all(tmp_path / "a.jsonl")
    except ConfigError:  # no object has `text`: a mapping is missing
        assert not any(b'"text"' in line for line in lines)
        return
    count = len(data.split(b"\n")) - (data == b"" or data.endswith(b"\n"))
    assert len(whole.rows) + whole.log.accounted == count == whole.scans[0].rows
    cut = read_all(tmp_path / "a.jsonl", unit_bytes=unit_bytes, reading={"batch_rows": batch_rows})
    assert cut.rows == whole.rows
    assert cut.log.quarantined == whole.log.quarantined
    assert [part.start for part in cut.slices] == [0, *[part.stop for part in cut.slices[:-1]]][
        : len(cut.slices)
    ]
    assert cut.scans[0].digest == whole.scans[0].digest
    assert all(batch.num_rows <= batch_rows for batch in cut.batches)


def test_real_lines_as_json_reads_them(shared_data, read_all):
    path = shared_data / "math/gsm8k_train.jsonl.zst"
    with zstandard.open(path, "rt", encoding="utf-8", newline="\n") as file:
        rows = [json.loads(line) for line in file]
    found = read_all(path, columns={"text": "question", "answer": "answer"})
    assert found.column("text") == [row["question"] for row in rows]
    assert found.column("answer") == [row["answer"] for row in rows]
    assert [msgspec.json.decode(extra) for extra in found.column("extra")] == [
        {"task": row["task"]} for row in rows
    ]
    assert found.column("license") == [row["licence"] for row in rows]


def test_the_peek_stops_early(tmp_path, monkeypatch):
    monkeypatch.setattr(jsonl, "PEEK_BYTES", 100)
    (tmp_path / "a.jsonl").write_text('{"text": "a", "b": 1}\n' * 10 + '{"late": 1}\n')
    file = inputs.InputFile(str(tmp_path / "a.jsonl"), "a.jsonl", "jsonl", 1)
    assert jsonl.peek_keys(file) == ["text", "b"]


@pytest.mark.parametrize("kind", ["", ".gz"])
def test_the_peek_sees_one_line_at_least(tmp_path, kind):
    data = b'{"text": "%s", "url": "u"}\n{"late": 1}\n' % (b"x\\n" * (1 << 20))
    (tmp_path / f"a.jsonl{kind}").write_bytes(packed(data, "gz") if kind else data)
    assert jsonl.peek_keys(inputs.InputFile(str(tmp_path / f"a.jsonl{kind}"), "a", "jsonl", 1)) == [
        "text",
        "url",
    ]


def until_broken(data: bytes) -> bytes:
    good = b""
    try:
        for piece in sources.decompressed(io.BytesIO(data), "gz"):
            good += piece
    except sources.BrokenStream:
        return good
    raise AssertionError("it is not broken")


def test_gzip_hands_over_all_before_an_error():
    whole = gzip.compress(some_lines(3000))
    for cut in (len(whole) // 3, len(whole) // 2):
        assert until_broken(whole[:cut] + b"\xff" * 200).startswith(until_broken(whole[:cut]))


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz"])
def test_the_scan_reports_the_ids_of_rows_alone(tmp_path, read_all, ending):
    """Whatever is quarantined later must not stand before a good row of the same id."""
    bad = [
        '"text": null', '"text": 5', '"url": "u"', '"text": "\\ud800"', '"text": "a", "k": "\\ud800"', '"text": "a"',
        '"text": "' + "x" * 200 + '"', '"text": "' + "x" * 70_000 + '"', '"text": "a", "k": {',
    ]  # fmt: skip
    lines = [f'{{"key": "x", {fields}}}' for fields in bad]
    lines[5] = lines[5].replace('"x"', "[1]")
    lines = ['{"key": "y", "text": "good"}', *lines, "", '{"key": "x", "text": "good"}']
    content = "\n".join(lines).encode()
    (tmp_path / f"a.{ending}").write_bytes(gzip.compress(content) if ending.endswith("gz") else content)
    found = read_all(tmp_path / f"a.{ending}", id="key", reading={"max_document_bytes": 100})
    assert found.log.reasons == [
        "null_text", "bad_type", "null_text", "bad_utf8", "bad_utf8", "bad_id", "too_long", "too_long", "bad_json",
    ]  # fmt: skip
    assert [i for _, i in found.ids] == found.column("id") == ["y", "x"]
    assert found.ids[-1] == (len(lines) - 1, "x")
