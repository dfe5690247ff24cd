"""WARC: every record is a row, counted as skipped, or quarantined; damage costs one record."""

import gzip
import io
import random
import tracemalloc
import zlib

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate.errors import ConfigError, DataError
from curate.io import inputs, slices, warc_frames
from curate.schema import row_id

PAGE = b"<!doctype html><html><body>" + b"<p>A paragraph of text. </p>" * 20 + b"</body></html>"


def record(
    kind: str = "response",
    block: bytes = b"",
    number: int = 0,
    content_type: str = "application/http; msgtype=response",
    length: int | None = None,
    more: str = "",
) -> bytes:
    head = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:uuid:{number}>\r\n"
        f"WARC-Target-URI: http://example.org/{number}\r\nWARC-Date: 2024-01-02T03:04:05Z\r\n{more}"
        f"Content-Type: {content_type}\r\nContent-Length: {len(block) if length is None else length}\r\n\r\n"
    )
    return head.encode() + block + b"\r\n\r\n"


def http(body: bytes, content_type: str = "text/html", status: str = "200 OK", more: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n{more}\r\n".encode() + body


def page(number: int, body: bytes = PAGE, **header: str) -> bytes:
    return record(block=http(body + b"<!-- %d -->" % number, **header), number=number)


def write(path, records, packed: bool | None = None) -> None:
    packed = path.name.endswith(".gz") if packed is None else packed
    path.write_bytes(b"".join(gzip.compress(r, 6) if packed else r for r in records))


@pytest.mark.parametrize("name", ["a.warc", "a.warc.gz"])
def test_records_by_hand(tmp_path, read_all, name):
    write(
        tmp_path / name,
        [
            record("warcinfo", b"software: x\r\n", 1, "application/warc-fields"),
            record("request", b"GET / HTTP/1.1\r\n\r\n", 2, "application/http; msgtype=request"),
            page(3),
            record("response", http(b"gone", status="404 Not Found"), 4),
            record("response", http(b"\x89PNG\r\n\x1a\n", "image/png"), 5),
            record("conversion", "Déjà vu".encode(), 6, "text/plain"),
            record("resource", b"<html>x</html>", 7, "text/html; charset=utf-8"),
            record("revisit", b"", 8),
        ],
    )
    found = read_all(tmp_path / name)
    assert found.schema.names == ["id", "text", "url", "source", "date", "html"]
    assert found.rows == [
        {"id": f"urn:uuid:{n}", "text": text, "url": f"http://example.org/{n}", "source": name,
         "date": "2024-01-02T03:04:05Z", "html": html}
        for n, text, html in [(3, None, PAGE + b"<!-- 3 -->"), (6, "Déjà vu", None), (7, None, b"<html>x</html>")]
    ]  # fmt: skip
    assert found.log.skipped == {"warcinfo": 1, "request": 1, "http_status": 1, "not_text": 1, "revisit": 1}
    assert found.ids == [(2, "urn:uuid:3"), (5, "urn:uuid:6"), (6, "urn:uuid:7")]
    assert found.scans[0].rows == 3


def test_a_pdf_is_a_row_when_the_input_says_so(tmp_path, read_all):
    write(
        tmp_path / "a.warc.gz",
        [
            page(1),
            record("response", http(b"%PDF-1.4", "application/pdf"), 2),
            record("resource", b"%PDF-1.5", 3, "application/pdf"),
        ],
    )
    assert read_all(tmp_path / "a.warc.gz").log.skipped == {"not_text": 2}
    found = read_all(tmp_path / "a.warc.gz", pdf=True)
    assert found.schema.names == ["id", "text", "url", "source", "date", "html", "pdf"]
    assert [(row["url"][-1], row["html"] is None, row["pdf"]) for row in found.rows] == [
        ("1", False, None),
        ("2", True, b"%PDF-1.4"),
        ("3", True, b"%PDF-1.5"),
    ]
    assert found.scans[0].rows == 3


def chunked(data: bytes) -> bytes:
    return (
        b"".join(
            b"%x\r\n%s\r\n" % (len(data[at : at + 100]), data[at : at + 100])
            for at in range(0, len(data), 100)
        )
        + b"0\r\n\r\n"
    )


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("more", "body"),
    [
        ("Content-Encoding: gzip\r\n", gzip.compress(PAGE, mtime=0)),
        ("Content-Encoding: x-gzip\r\n", gzip.compress(PAGE, mtime=0)),
        ("Content-Encoding: deflate\r\n", zlib.compress(PAGE)),
        ("Content-Encoding: deflate\r\n", raw_deflate(PAGE)),
        ("Content-Encoding: zstd\r\n", zstandard.compress(PAGE)),
        ("Transfer-Encoding: chunked\r\n", chunked(PAGE)),
        ("Transfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n", chunked(gzip.compress(PAGE, mtime=0))),
        # only claimed
        ("Content-Encoding: gzip\r\n", PAGE),
        ("Content-Encoding: br\r\n", PAGE),
        ("Content-Encoding: none\r\n", PAGE),
        ("Transfer-Encoding: chunked\r\n", PAGE),
    ],
)
def test_encodings_are_undone(tmp_path, read_all, more, body):
    write(tmp_path / "a.warc.gz", [record(block=http(body, more=more))])
    found = read_all(tmp_path / "a.warc.gz")
    assert found.column("html") == [PAGE], found.log.quarantined


@pytest.mark.parametrize(
    ("more", "body"),
    [
        ("Content-Encoding: gzip\r\n", gzip.compress(PAGE, mtime=0)[:-20]),
        ("Transfer-Encoding: chunked\r\n", chunked(PAGE)[:-50]),
    ],
)
def test_a_payload_cut_short_keeps_its_beginning(tmp_path, read_all, more, body):
    write(tmp_path / "a.warc.gz", [record(block=http(body, more=more))])
    (html,) = read_all(tmp_path / "a.warc.gz").column("html")
    assert len(html) > len(PAGE) // 2
    assert PAGE.startswith(html)


def test_a_payload_that_cannot_be_decoded(tmp_path, read_all):
    noise = random.Random(1).randbytes(5000)
    write(
        tmp_path / "a.warc.gz",
        [page(0), record(block=http(noise, more="Content-Encoding: br\r\n"), number=1), page(2)],
    )
    found = read_all(tmp_path / "a.warc.gz")
    assert found.log.reasons == ["bad_record"]
    assert found.log.quarantined[0]["id"] == "urn:uuid:1"
    assert len(found.rows) == 2


@pytest.mark.parametrize(
    ("data", "content_type", "text"),
    [
        ("Ünïcode".encode(), "text/plain", "Ünïcode"),
        ("\ufeffÜnïcode".encode(), "text/plain", "Ünïcode"),
        ("Привет, мир".encode("cp1251"), "text/plain; charset=windows-1251", "Привет, мир"),
        ("“quoted”".encode("cp1252"), 'text/plain; charset="ISO-8859-1"', "“quoted”"),
        ("naïve café".encode("latin-1"), "text/plain; charset=utf-8", "naïve café"),
        ("中文字符".encode("gbk"), "text/plain; charset=gb2312", "中文字符"),
        ("utf sixteen".encode("utf-16"), "text/plain; charset=utf-16", "utf sixteen"),
        (b"plain", "text/plain; charset=no-such-thing", "plain"),
        (b"plain", "text/plain; charset=unicode-escape", "plain"),
    ],
)
def test_text_is_decoded(tmp_path, read_all, data, content_type, text):
    write(tmp_path / "a.warc.gz", [record("conversion", data, content_type=content_type)])
    assert read_all(tmp_path / "a.warc.gz").column("text") == [text]


def test_text_that_is_none(tmp_path, read_all):
    write(
        tmp_path / "a.warc.gz", [record("resource", b"\x7fELF\0\0\0\xff\xfe\0\0", content_type="text/plain")]
    )
    assert read_all(tmp_path / "a.warc.gz").log.reasons == ["binary"]


def test_a_page_whose_charset_only_its_header_names_becomes_utf8(tmp_path, read_all):
    cyrillic = "<html><p>Привет, мир</p></html>"
    write(
        tmp_path / "a.warc.gz",
        [
            record(block=http(cyrillic.encode("cp1251"), "text/html; charset=windows-1251")),
            record(block=http(cyrillic.encode(), "text/html; charset=windows-1251")),
            record(block=http(cyrillic.encode("cp1251"), "text/html")),
        ],
    )
    assert read_all(tmp_path / "a.warc.gz").column("html") == [
        cyrillic.encode(), cyrillic.encode(), cyrillic.encode("cp1251")
    ]  # fmt: skip


def test_an_unnamed_type_is_looked_at(tmp_path, read_all):
    write(
        tmp_path / "a.warc",
        [
            record(block=b"HTTP/1.1 200 OK\r\n\r\n" + PAGE, number=1),
            record(block=b"HTTP/1.1 200 OK\r\n\r\n\x89PNG", number=2),
            record(
                block=b"HTTP/1.1 200 OK\r\n\r\nhello",
                number=3,
                more="WARC-Identified-Payload-Type: text/plain\r\n",
            ),
        ],
    )
    found = read_all(tmp_path / "a.warc")
    assert found.column("id") == ["urn:uuid:1", "urn:uuid:3"]
    assert found.log.skipped == {"not_text": 1}


def test_no_record_id(tmp_path, read_all):
    write(tmp_path / "a.warc.gz", [page(1), page(2).replace(b"WARC-Record-ID: <urn:uuid:2>\r\n", b"")])
    found = read_all(tmp_path / "a.warc.gz")
    assert found.column("id") == ["urn:uuid:1", row_id("a.warc.gz", 1)]
    assert found.ids == [(0, "urn:uuid:1")]


def test_line_feeds_alone(tmp_path, read_all):
    block = http(b"<html>x</html>").replace(b"\r\n", b"\n")
    head = record(block=block).partition(b"\r\n\r\n")[0].replace(b"\r\n", b"\n")
    (tmp_path / "a.warc").write_bytes((head + b"\n\n" + block + b"\n\n") * 2)
    assert read_all(tmp_path / "a.warc").column("html") == [b"<html>x</html>"] * 2


@pytest.mark.parametrize("name", ["a.warc", "a.warc.gz"])
@pytest.mark.parametrize("lie", [-40, -1, 5, 3000, 10**6, 10**9, 10**17])
def test_a_lying_length_costs_one_record(tmp_path, read_all, name, lie):
    block = http(PAGE)
    liar = record(block=block, number=2, length=len(block) + lie)
    write(tmp_path / name, [page(0), page(1), liar, *(page(n) for n in range(3, 9))])
    for cap in (1 << 20, 900):  # also where the scan and the reader hold only a part of a block
        found = read_all(tmp_path / name, reading={"max_document_bytes": cap})
        assert found.column("id") == [f"urn:uuid:{n}" for n in (0, 1, 3, 4, 5, 6, 7, 8)]
        assert found.log.reasons == ["bad_record"]


@pytest.mark.parametrize("name", ["a.warc", "a.warc.gz"])
@pytest.mark.parametrize("missing", [b"Content-Length: ", b"WARC/1.0\r\n", b"\r\n\r\n"])
def test_a_broken_header_costs_one_record(tmp_path, read_all, name, missing):
    broken = page(1).replace(missing, b"", 1)
    write(tmp_path / name, [page(0), broken, page(2)])
    found = read_all(tmp_path / name)
    assert found.column("id") == ["urn:uuid:0", "urn:uuid:2"]
    assert found.log.reasons == ["bad_record"]


def test_a_flipped_byte_costs_one_member(tmp_path, read_all):
    pages = [page(n, random.Random(n).randbytes(500).hex().encode()) for n in range(5)]
    members = [gzip.compress(p) for p in pages]
    broken = len(members[0]) + len(members[1]) + 20
    data = b"".join(members)
    for at in range(broken, broken + len(members[2]) - 20, 7):
        for flip in (0x01, 0xFF):
            (tmp_path / "a.warc.gz").write_bytes(data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :])
            found = read_all(tmp_path / "a.warc.gz")
            assert found.column("id") == [f"urn:uuid:{n}" for n in (0, 1, 3, 4)], (at, flip)
            assert len(found.log.quarantined) == 1
            assert found.log.quarantined[0]["offset"] == len(members[0]) + len(members[1])
            assert found.log.reasons[0] in ("corrupt_stream", "bad_record", "truncated")


@pytest.mark.parametrize("junk", [b"junk between members", b"\0" * 100 + b"x", b"\x1f\x8b\x08\0\0\0\0\0junk"])
def test_junk_between_members(tmp_path, read_all, junk):
    first, second = gzip.compress(page(0)), gzip.compress(page(1))
    (tmp_path / "a.warc.gz").write_bytes(first + junk + second + bytes(512))
    found = read_all(tmp_path / "a.warc.gz")
    assert found.column("id") == ["urn:uuid:0", "urn:uuid:1"]
    assert found.log.reasons == ["corrupt_stream"]
    assert found.log.quarantined[0]["offset"] == len(first)


@pytest.mark.parametrize("name", ["a.warc", "a.warc.gz"])
def test_a_file_that_ends_early(tmp_path, read_all, name):
    write(tmp_path / name, [page(n) for n in range(4)])
    data = (tmp_path / name).read_bytes()
    for cut in (10, 60, 100):
        (tmp_path / name).write_bytes(data[:-cut])
        found = read_all(tmp_path / name)
        assert found.column("id") == ["urn:uuid:0", "urn:uuid:1", "urn:uuid:2"]
        assert found.log.reasons == ["truncated"]


def test_one_member_around_the_whole_file_is_a_chain(tmp_path, read_all, monkeypatch):
    monkeypatch.setattr(slices, "LINK_BYTES", 3000)
    records = [page(n) for n in range(30)]
    (tmp_path / "a.warc.gz").write_bytes(gzip.compress(b"".join(records[:25])) + gzip.compress(records[25]))
    packed = read_all(tmp_path / "a.warc.gz", unit_bytes=2000)
    assert [part.chain for part in packed.slices] == [True]
    assert packed.column("id") == [f"urn:uuid:{n}" for n in range(26)]
    assert packed.links == sum(map(len, records[:25])) // 3000 + 1
    for link in range(packed.links + 1):
        rest = read_all(tmp_path / "a.warc.gz", unit_bytes=2000, first_link=link)
        first = next((n for n in range(26) if sum(map(len, records[:n])) >= 3000 * link), 26)
        assert rest.column("id") == [f"urn:uuid:{n}" for n in range(first, 26)]
        assert rest.links == packed.links - link
    whole = read_all(tmp_path / "a.warc.gz")
    assert [part.chain for part in whole.slices] == [False]
    assert whole.rows == packed.rows


def test_plain_inside_gz_name_and_the_other_way_round(tmp_path, read_all):
    write(tmp_path / "a.warc.gz", [page(0), page(1)], packed=False)
    write(tmp_path / "b.warc", [page(2), page(3)], packed=True)
    assert read_all(tmp_path).column("id") == [f"urn:uuid:{n}" for n in range(4)]


def test_bombs_and_giants_stay_small_in_memory(tmp_path, read_all):
    bomb = io.BytesIO()
    with gzip.GzipFile(fileobj=bomb, mode="wb", compresslevel=9) as file:
        for _ in range(200):
            file.write(bytes(1 << 20))
    giant = http(b"<html>" + b"x" * (60 << 20))
    write(
        tmp_path / "a.warc.gz",
        [
            page(0),
            record(block=http(bomb.getvalue(), more="Content-Encoding: gzip\r\n"), number=1),
            record(block=giant, number=2),
            record(block=http(b"\x89PNG" + bytes(60 << 20), "image/png"), number=3),
            page(4),
        ],
    )
    with open(tmp_path / "a.warc.gz", "ab") as file:
        file.write(bomb.getvalue() + gzip.compress(page(5)))
    del giant
    tracemalloc.start()
    found = read_all(tmp_path / "a.warc.gz", reading={"max_document_bytes": 1 << 20})
    assert tracemalloc.get_traced_memory()[1] < 20 << 20
    tracemalloc.stop()
    assert found.column("id") == ["urn:uuid:0", "urn:uuid:4", "urn:uuid:5"]
    assert found.log.reasons == ["too_long", "too_long", "bad_record"]
    assert found.log.skipped == {"not_text": 1}


def test_a_file_that_shrank_is_an_error(tmp_path, read_all):
    write(tmp_path / "a.warc.gz", [page(0), page(1)])
    found = read_all(tmp_path / "a.warc.gz")
    write(tmp_path / "a.warc.gz", [page(0)])
    with pytest.raises(DataError, match=r"a\.warc\.gz"):
        list(inputs.read(found.root, found.slices, found.config, found.schema, found.log))


def test_arc_is_refused_by_name(tmp_path, read_all, shared_data):
    for name in ("aut-archive-org-2008.arc.gz", "warcio-bad.arc"):
        with pytest.raises(ConfigError, match=name) as error:
            read_all(shared_data / "warc" / name)
        assert "warcio recompress" in error.value.hint


# every record of the shared archives, as fastwarc counts them: (rows, skipped, quarantined)
ARCHIVES = {
    "aut-archive-org-2008.warc.gz": (130, 692, []),
    "commoncrawl-whirlwind.warc.gz": (1, 3, []),
    "commoncrawl-whirlwind.warc.wat.gz": (0, 2, []),
    "commoncrawl-whirlwind.warc.wet.gz": (1, 1, []),
    "daft-example.warc.gz": (1, 29, []),
    "dolma-sample-0000.warc.gz": (24, 24, []),
    "iipc-IAH-urls-wget.warc.gz": (6, 30, []),
    "resiliparse-block-sized-records.warc.gz": (0, 3, []),
    "resiliparse-clipped.warc.gz": (0, 0, ["truncated"]),
    "resiliparse-warcfile.warc.gz": (16, 34, []),
    "warcio-example-bad-non-chunked.warc.gz": (1, 5, []),
    "warcio-example-digest.warc": (0, 4, []),
    "warcio-example-iana.org-chunked.warc": (1, 2, []),
    "warcio-example-resource.warc.gz": (1, 2, []),
    "warcio-example-space-in-target-uri.warc.gz": (0, 2, []),
    "warcio-example-trunc.warc": (0, 3, ["bad_record"]),
    "warcio-example-wget-bad-target-uri.warc.gz": (3, 3, []),
    "warcio-example-wrong-chunks.warc.gz": (0, 1, ["bad_record", "bad_record"]),
    "warcio-example.warc": (1, 5, []),
    "warcio-example.warc.gz": (1, 5, []),
    "warcio-post-test.warc.gz": (0, 6, []),
}


@pytest.mark.parametrize("name", sorted(ARCHIVES))
def test_every_record_of_real_archives(shared_data, read_all, name):
    path = shared_data / "warc" / name
    found = read_all(path)
    assert (len(found.rows), found.log.skipped.total(), found.log.reasons) == ARCHIVES[name]
    cut = read_all(path, unit_bytes=1, reading={"batch_rows": 3})
    assert cut.rows == found.rows
    assert cut.log.skipped == found.log.skipped
    assert cut.log.quarantined == found.log.quarantined
    if not found.log.quarantined:
        from fastwarc.warc import ArchiveIterator

        with open(path, "rb") as file:
            assert len(found.rows) + found.log.accounted == sum(1 for _ in ArchiveIterator(file))


def test_the_list_is_complete(shared_data):
    there = {p.name for p in (shared_data / "warc").iterdir()}
    assert {name for name in there if ".arc" not in name} == set(ARCHIVES)


PIECE = st.one_of(
    st.binary(max_size=100),
    st.builds(page, st.integers(0, 9)),
    st.builds(lambda b, n: record(block=b, length=n), st.binary(max_size=300), st.integers(0, 1000)),
    st.just(b"WARC/1.0\r\n"),
    st.just(b"WARC/1.0\r\nContent-Length: 5\r\n\r\nHTTP/"),
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(PIECE, max_size=8), st.integers(1, 3000), st.sampled_from(["plain", "members", "one"]), st.data()
)
def test_any_bytes_are_accounted_for_at_any_cut(tmp_path, read_all, pieces, unit_bytes, packing, data):
    if packing == "members":
        content = b"".join(gzip.compress(piece) for piece in pieces)
    else:
        content = b"".join(pieces) if packing == "plain" else gzip.compress(b"".join(pieces))
    if content and packing != "plain" and data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(content) - 1))
        content = content[:at] + data.draw(st.binary(min_size=1, max_size=9)) + content[at + 3 :]
    path = tmp_path / ("a.warc" if packing == "plain" else "a.warc.gz")
    path.write_bytes(content)
    whole = read_all(path)
    cut = read_all(path, unit_bytes=unit_bytes, reading={"batch_rows": 2})
    assert cut.rows == whole.rows
    assert cut.log.quarantined == whole.log.quarantined
    assert cut.log.skipped == whole.log.skipped
    assert cut.scans[0].digest == whole.scans[0].digest
    assert cut.ids == whole.ids
    if content.strip(b"\r\n\0"):
        assert len(whole.rows) + whole.log.accounted > 0 or packing != "plain"


@settings(max_examples=150, deadline=None)
@given(st.lists(PIECE, max_size=8), st.sampled_from([50, 1 << 20]))
def test_records_and_stretches_that_are_none_cover_every_byte(pieces, cap):
    data = b"".join(pieces)
    if data.startswith(b"\x1f\x8b\x08"):
        return
    part = inputs.Slice("a.warc", "warc", 0, len(data), 0, len(data))
    at = 0
    for frame in warc_frames.frames(io.BytesIO(data), len(data), part, cap):
        assert data[at : frame.position].strip(b"\r\n") == b""
        assert data[frame.position :].startswith(frame.raw[:cap])
        at = frame.position + frame.length
    assert data[at:].strip(b"\r\n") == b""


def test_the_scan_reports_the_ids_of_rows_alone(tmp_path, read_all):
    """A payload that is too long, cannot be decoded or is no text stands before no good record of the same id."""
    bad = [
        page(1, b"x" * 5000),
        record("conversion", b"a\0b", 1, "text/plain"),
        record("response", http(b"\0" * 99, more="Content-Encoding: gzip\r\n"), 1),
    ]
    write(tmp_path / "a.warc.gz", [*bad, page(2), page(1)])
    found = read_all(tmp_path / "a.warc.gz", reading={"max_document_bytes": 1000})
    assert found.log.reasons == ["too_long", "binary", "bad_record"]
    assert found.ids == [(3, "urn:uuid:2"), (4, "urn:uuid:1")]
    assert found.scans[0].rows == 2
