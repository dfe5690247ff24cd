"""Chunks of text and what is seen in their bytes, against Python."""

import re

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.kernels.chunks import (
    BLANK,
    MOST_EDGES,
    NUL,
    PAST_END,
    find_bytes,
    find_chunks,
    num_chars,
    num_letters,
    take_text,
)


def padded(content: bytes, behind: int = BLANK) -> np.ndarray:
    text = np.full(len(content) + PAST_END, 7, np.uint8)
    take_text(np.frombuffer(content, np.uint8), 0, len(content), behind, text)
    return text


def chunks(content: bytes, behind: int) -> list[bytes]:
    edges = np.zeros(max(MOST_EDGES, len(content) + 2), np.int64)
    num = find_chunks(padded(content, behind), 0, len(content) + 1, behind, edges, 0)
    assert num % 2 == 0
    return [content[begin:end] for begin, end in edges[:num].reshape(-1, 2)]


def test_every_byte_is_white_space_or_not() -> None:
    for byte in range(256):
        content = b"a" * 3 + bytes([byte]) + b"b" * 70
        white = chr(byte).isspace() and byte < 0x80
        assert chunks(content, BLANK) == ([b"aaa", b"b" * 70] if white else [content])
        ends = byte in b"\0\t\n\v\f\r "
        assert chunks(content, NUL) == ([b"aaa", b"b" * 70] if ends else [content])


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from([b"a", b" ", b"\x1f", b"\0", b"b" * 63, b" " * 64, "\u00a0".encode()]), max_size=40
    )
)
def test_chunks_are_those_of_split(pieces: list[bytes]) -> None:
    content = b"".join(pieces)
    assert chunks(content, BLANK) == [one for one in re.split(rb"[\t-\r\x1c- ]", content) if one]
    assert chunks(content, NUL) == [one for one in re.split(rb"[\0\t-\r ]", content) if one]


def test_letters_at_the_begin_of_sixteen_bytes() -> None:
    for byte in range(256):
        is_letter = byte < 0x80 and chr(byte).isalpha()
        for place in range(16):
            sixteen = bytearray(b"azAZkMqabcdefghi")
            sixteen[place] = byte
            low, high = np.frombuffer(bytes(sixteen), np.uint64)
            assert num_letters(low, high) == (16 if is_letter else place)


@settings(deadline=None)
@given(st.text(st.sampled_from("a\n\u00e9\u20ac\U0001f600"), max_size=200))
def test_characters_and_places_of_a_byte(text: str) -> None:
    content = text.encode()
    places = np.zeros(len(content) + 1, np.int64)
    num = find_bytes(padded(content), len(content), 10, places)
    assert places[:num].tolist() == [i for i, byte in enumerate(content) if byte == 10]
    assert num_chars(padded(content), len(content)) == len(text)
