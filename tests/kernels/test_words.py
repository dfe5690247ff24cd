"""The words of the kernel: by hand, and equal to slow Python on real text and on anything hypothesis finds."""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.kernels.unicode import SPACE, kinds
from curate.kernels.words import all_words, decode, hash_bytes, next_word, none_given, split_units
from curate.schema import text_buffers
from curate.stages import gopher_quality
from curate.stages._words import find_words

sys.path.insert(0, str(Path(__file__).parent))
from slow_words import words as slow_words

TRICKY = "aZé1.-—~:/,'’…@#(~=\"_ \n\u3000\x00\u0301\u200d\ufe0f中カก한☺🙂s"


def raw_words(text: bytes) -> list[bytes]:
    data = np.frombuffer(text, np.uint8)
    kind = np.empty(len(text) + 1, np.uint8)
    at, chars = np.empty(len(text) + 1, np.int64), np.empty(len(text) + 1, np.int64)
    n, _ = split_units(data, *kinds(), kind, at, chars)
    found, core, i = [], 0, 0
    while i < n:
        if kind[i] <= SPACE:
            i += 1
            continue
        end, core = next_word(kind, i, core)
        assert end > i
        found.append(text[at[i] : at[end]])
        i = end
    return found


def words(text: str) -> list[str]:
    return [word.decode() for word in raw_words(text.encode())]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \u3000\u2028\t", []),
        ("The cat sat.", ["The", "cat", "sat", "."]),
        ('He said: "No!"', ["He", "said", ":", '"', "No", "!", '"']),
        ("that's don’t o'clock", ["that", "'s", "don", "’t", "o'clock"]),
        ("the U.S. and Mr. C. end.", ["the", "U.S.", "and", "Mr", ".", "C.", "end", "."]),
        ("sister's.", ["sister", "'s", "."]),
        ("well-known 1914-18 part-1 10-x", ["well", "-", "known", "1914", "-", "18", "part-1", "10", "-", "x"]),
        ("wait... what.. a....b…c", ["wait", "...", "what", "..", "a", "....", "b", "…", "c"]),
        ("yes--no -- ---", ["yes", "--", "no", "--", "---"]),
        ("and/or 17:55 a:b x=y 3.14 1,000 a,b", ["and", "/", "or", "17:55", "a", ":", "b", "x", "=", "y", "3.14", "1,000", "a", ",", "b"]),
        ("end.Next f(x).y f(x) _it_", ["end", ".", "Next", "f(x).y", "f(x", ")", "_", "it", "_"]),
        ("see (https://a.org/b-c?d=1), ok", ["see", "(", "https://a.org/b-c?d=1", ")", ",", "ok"]),
        ("@name --all #tag", ["@name", "--all", "#", "tag"]),
        ("中文 東京タワー ひら", ["中", "文", "東", "京", "タワー", "ひ", "ら"]),
        ("กิน 한국어 l’été", ["กิ", "น", "한국어", "l’été"]),
        ("Caf\u0065\u0301s हिन्दी", ["Caf\u0065\u0301s", "हिन्दी"]),
        ("hi🙂there 👩\u200d💻", ["hi", "🙂", "there", "👩\u200d", "💻"]),
        ("a\x00b \x00", ["a\x00b", "\x00"]),
    ],
)  # fmt: skip
def test_words_by_hand(text: str, expected: list[str]) -> None:
    assert words(text) == expected
    assert slow_words(text) == expected


@pytest.mark.parametrize(
    ("lang", "text", "expected"),
    [
        ("pt", "vê-lo -- p'ra 1914-18 fim--Mas disse-lh'o.", ["vê-lo", "--", "p'ra", "1914-18", "fim", "--", "Mas", "disse-lh'o", "."]),
        ("por_Latn", "guarda-chuva e/ou", ["guarda-chuva", "e", "/", "ou"]),
        ("fr", "L’art d'un grand-père, qu'il «l'a».", ["L’", "art", "d'", "un", "grand-père", ",", "qu'", "il", "«", "l'", "a", "»", "."]),
        ("it", "dell'arte italo-greca 'ok'", ["dell'", "arte", "italo", "-", "greca", "'", "ok", "'"]),
        ("en", "don't well-known", ["don", "'t", "well", "-", "known"]),
        ("xx", "don't well-known", ["don", "'t", "well", "-", "known"]),
    ],
)  # fmt: skip
def test_words_of_a_language_by_hand(lang: str, text: str, expected: list[str]) -> None:
    texts = pa.array(["It's well-known.", text, ""], pa.large_string())
    languages = pa.array(["en", lang, None])
    data, offsets = text_buffers(texts)
    given = find_words(texts, gopher_quality.Config(), languages).given or none_given(3)
    begins, ends = np.empty((2, len(data)), np.int64)
    num = np.empty(3, np.int64)
    total = all_words(data, offsets, given, begins, ends, num)
    found = [data[a:b].tobytes().decode() for a, b in zip(begins[:total], ends[:total], strict=True)]
    assert found[:6] == ["It", "'s", "well", "-", "known", "."]
    assert found[6:] == expected
    assert num.tolist() == [6, len(expected), 0]


@settings(max_examples=400, deadline=None)
@given(st.text(st.sampled_from(TRICKY), max_size=30) | st.text(max_size=40))
def test_words_are_those_of_slow_python(text: str) -> None:
    text = text.encode("utf-8", "ignore").decode()  # no lone surrogates: they have no UTF-8
    assert words(text) == slow_words(text)


@settings(max_examples=100, deadline=None)
@given(st.text(st.sampled_from(TRICKY), max_size=20), st.text(st.sampled_from(TRICKY), max_size=20))
def test_white_space_separates(left: str, right: str) -> None:
    assert words(left + " " + right) == words(left) + words(" " + right)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40))
def test_invalid_utf8_is_read_byte_by_byte_and_loses_nothing(data: bytes) -> None:
    assert b"".join(raw_words(data)) == b"".join(raw_words(b" " + data))
    codes, i = [], 0
    array = np.frombuffer(data, np.uint8)
    while i < len(data):
        code, i = decode(array, i, len(data))
        codes.append(chr(code))
    valid = data.decode("utf-8", "replace")
    assert "".join(codes).replace("\ufffd", "") == valid.replace("\ufffd", "")


@pytest.mark.parametrize("unit", ["a.", "1-", "a,-", ".", "'s", "中", "a:/", "\u0301", "-"])
def test_time_is_linear_in_a_run_without_space(unit: str) -> None:
    text = unit * 300_000  # quadratic work would take hours
    assert "".join(words(text)) == text


def multilingual(shared_data: Path, per_file: int) -> list[str]:
    texts: list[str] = []
    for path in sorted((shared_data / "multilingual").glob("*.parquet")):
        column = pq.read_table(path, columns=["text"])["text"].drop_null().to_pylist()
        texts += column[:: max(1, len(column) // per_file)]
    assert texts
    return texts


def test_words_on_real_text_of_all_languages(shared_data: Path) -> None:
    for text in multilingual(shared_data, 80):
        assert words(text[:2_000]) == slow_words(text[:2_000])


@pytest.mark.slow
def test_words_on_every_multilingual_document(shared_data: Path) -> None:
    for text in multilingual(shared_data, 100_000):
        assert words(text[:2_000]) == slow_words(text[:2_000])


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=0, max_size=40), st.binary(max_size=20), st.binary(max_size=20))
def test_hash_depends_on_the_bytes_alone(word: bytes, before: bytes, after: bytes) -> None:
    whole = np.frombuffer(before + word + after, np.uint8)
    alone = np.frombuffer(word, np.uint8)
    end = len(before) + len(word)
    assert hash_bytes(whole, len(before), end) == hash_bytes(alone, 0, len(word))


def test_hashes_of_short_texts_differ() -> None:
    texts = {bytes(t) for n in range(3) for t in np.ndindex(*[64] * n)} | {b"\0" * n for n in range(70)}
    assert len({hash_bytes(np.frombuffer(t, np.uint8), 0, len(t)) for t in texts}) == len(texts)
