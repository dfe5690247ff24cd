"""`pii_mask`: addresses by hand, masks where datatrove's PIIFormatter puts them, linear in any text."""

import ipaddress
import random
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datatrove.pipeline.formatters import PIIFormatter
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import ConfigError
from curate.stages.pii_mask import PRIVATE, Config, pii_mask

MARKS = Config(email_replacements=("<M>",), ip_replacements=("<I>",))
THEIRS = PIIFormatter(email_replacement="<M>", ip_replacement="<I>")


def run(texts: list[str | None], config: Config | None = None) -> list[dict[str, Any]]:
    batch = pa.record_batch(
        {"id": pa.array(map(str, range(len(texts)))), "text": pa.array(texts, pa.large_string())}
    )
    rows = pii_mask(batch, config or Config()).to_pylist()
    return [{key.removeprefix("pii_mask_"): value for key, value in row.items()} for row in rows]


def masked(texts: list[str]) -> list[str]:
    return [row["text"] for row in run(texts, MARKS)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("write to jo.doe+x@mail.example.org.", "write to <M>."),
        ("<jo@a.b>,jo@c.d;", "<<M>>,<M>;"),
        ("jo@localhost and @jo and jo@", "jo@localhost and @jo and jo@"),
        ("a..b@c.de", "a..<M>"),  # an empty piece ends the local part
        (".a@b.c", ".<M>"),
        ("a.@b.c", "a.@b.c"),
        ("'jo@a.b'", "'<M>'"),  # begins at the edge of a word
        ("é!jo@a.b", "é<M>"),  # as here: é is a word's character, though not an address's
        ("jo@a-.b jo@a.b- jo@a.-b jo@x.y.", "jo@a-.b <M>- jo@a.-b <M>."),
        ("a@b.c@d.e", "<M>@d.e"),
        ("jo@[1.2.3.4] jo@[1.2.3.x-1:] jo@[1.2.3.]", "<M> <M> jo@[1.2.3.]"),
        ("8.8.8.8 and 10.0.0.1, 127.0.0.1", "<I> and 10.0.0.1, 127.0.0.1"),
        ("1234.5.6.7890", "1<I>90"),  # inside longer digits: 234.5.6.78
        ("8.8.8.256", "<I>6"),
        ("300.8.8.8.8", "300.8.8.8.8"),  # from the left: 00.8.8.8, passed over as written with a zero
        ("08.8.8.8", "08.8.8.8"),
        ("v1.2.3", "v1.2.3"),
        ("jo@8.8.8.8", "<M>"),
        ("8.8.8.8@a.b", "<M>"),
    ],
)
def test_addresses_by_hand(text: str, expected: str) -> None:
    assert masked([text]) == [expected]
    assert THEIRS.format(text) == expected


def test_counts_null_and_original() -> None:
    text = "jo@a.bc and x@y.zz from 9.9.9.9"
    rows = run(
        [text, "é", None], Config(keep_original=True, email_replacements=("ü",), ip_replacements=("",))
    )
    assert rows[0] == {
        "id": "0", "text": "ü and ü from ", "removed_chars": 18, "num_emails": 2, "num_ips": 1, "original": text
    }  # fmt: skip
    assert (rows[1]["text"], rows[1]["removed_chars"], rows[1]["num_emails"]) == ("é", 0, 0)
    assert set(rows[2].values()) == {"2", None}
    assert run([text], Config(emails=False, ip_replacements=("I",)))[0]["text"] == "jo@a.bc and x@y.zz from I"
    assert run([text], Config(ips=False))[0]["text"].endswith("9.9.9.9")
    with pytest.raises(ConfigError, match="ip_replacements"):
        Config(ip_replacements=())


def test_replacements_take_turns_and_a_second_pass_changes_nothing() -> None:
    config = Config(email_replacements=("a@example.com", "b@example.com"))
    texts = ["x@y.zz x@y.zz x@y.zz 9.9.9.9"] * 40
    rows = run(texts, config)
    firsts = {row["text"][:1] for row in rows}
    assert firsts == {"a", "b"}
    assert {row["text"].split()[0] != row["text"].split()[1] for row in rows} == {True}
    again = run([row["text"] for row in rows], config)
    assert [row["text"] for row in again] == [row["text"] for row in rows]
    assert {(row["num_emails"], row["num_ips"]) for row in again} == {(0, 0)}


def test_special_ranges_are_left_alone_at_their_edges() -> None:
    for first, last in PRIVATE:
        for address, inside in (
            (first, True),
            (last, True),
            (_next(first, -1), False),
            (_next(last, 1), False),
        ):
            if not _in_another(address, first):
                assert masked([address]) == [address if inside else "<I>"], address


def _next(address: str, step: int) -> str:
    return str(ipaddress.ip_address((int(ipaddress.ip_address(address)) + step) % 2**32))


def _in_another(address: str, first: str) -> bool:
    number = int(ipaddress.ip_address(address))
    ranges = [(int(ipaddress.ip_address(a)), int(ipaddress.ip_address(b))) for a, b in PRIVATE if a != first]
    return any(low <= number <= high for low, high in ranges)


def test_public_is_what_python_says_it_is() -> None:
    draw = random.Random(1)
    addresses = [".".join(str(draw.randrange(256)) for _ in range(4)) for _ in range(20_000)]
    expected = ["<I>" if ipaddress.ip_address(address).is_global else address for address in addresses]
    assert masked(addresses) == expected


PIECES = st.sampled_from(
    ["a", "b.", "@", ".", " ", "1", "25", "5", "255", "256", "8.8.8.8", "é", "!", "-", "_", "[", "]", ":", "'", "x@y.z",
     "0", "192.168.", "@[1.2.3.4]", "@[1.2.3.a:]", "\n", "٣", "ß", "@a.b"]
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(st.lists(PIECES, max_size=12).map("".join), min_size=1, max_size=5))
def test_any_text_is_masked_where_datatrove_masks(texts: list[str]) -> None:
    assert masked(texts) == [THEIRS.format(text) for text in texts]


def test_real_documents_are_masked_where_datatrove_masks(shared_data: Path) -> None:
    num = 0
    for file in ("text/en_masc_mixed_genres", "text/en_python_peps", "classifiers/pii_presidio_synth_v2_dev"):
        texts = pq.read_table(shared_data / f"{file}.parquet", columns=["text"])["text"].to_pylist()
        found = masked(texts)
        assert found == [THEIRS.format(text) for text in texts]
        num += sum(a != b for a, b in zip(found, texts, strict=True))
    assert num > 500


@pytest.mark.parametrize(
    "piece", ["@", "a.", "a@", "1.", "255.", "a-", "@a.", "!.", "1.2.3.", "@[1.2.3.", "é@"]
)
def test_a_megabyte_of_anything_takes_no_quadratic_time(piece: str) -> None:
    run(["a@b.c"])
    text, start = piece * (1_000_000 // len(piece)), time.process_time()
    run([text], MARKS)
    assert time.process_time() - start < 2  # quadratic: minutes
