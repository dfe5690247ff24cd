"""The tables against Python's own `unicodedata`, character by character."""

import numpy as np
import pytest

from curate.kernels import unicode
from curate.kernels.unicode import kind_of, kinds, lowered

EVERY = range(0x110000)


def entries(index: np.ndarray, values: np.ndarray) -> np.ndarray:
    codes = np.arange(0x110000)
    return values[index[codes >> 8].astype(int) * 256 + (codes & 255)]


def test_every_entry_is_the_characters_own() -> None:
    assert entries(*kinds()).tolist() == [kind_of(chr(code)) for code in EVERY]


def test_every_lower_case_is_pythons_but_one() -> None:
    assert [chr(code) for code in EVERY if chr(lowered(chr(code))) != chr(code).lower()] == ["\u0130"]
    assert lowered("\u0130") == ord("i")


def test_white_space_is_pythons() -> None:
    assert {chr(c) for c in np.flatnonzero(entries(*kinds()) <= unicode.SPACE)} == {
        chr(c) for c in EVERY if chr(c).isspace()
    }


@pytest.mark.parametrize(
    ("character", "kind"),
    [("a", unicode.LETTER), ("É", unicode.UPPER), ("ж", unicode.LETTER), ("中", unicode.ALONE), ("ひ", unicode.ALONE),
     ("ก", unicode.ALONE), ("カ", unicode.LETTER), ("한", unicode.LETTER), ("٣", unicode.DIGIT), ("½", unicode.DIGIT),
     ("\u0301", unicode.MARK), ("\u200d", unicode.MARK), ("🙂", unicode.ICON), ("…", unicode.ICON),
     ("\u3000", unicode.SPACE), ("\x85", unicode.BREAK), ("\x1f", unicode.SPACE), ("\u2028", unicode.BREAK), ("\0", unicode.OTHER), ("€", unicode.OTHER),
     ("’", unicode.QUOTE), ("\U0002ffff", unicode.ALONE)],
)  # fmt: skip
def test_kinds_by_hand(character: str, kind: int) -> None:
    assert kind_of(character) == kind


def test_a_table_is_made_once_and_again_when_it_is_damaged(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(unicode, "CACHE", str(tmp_path / "kernels"))

    def remainder(character: str) -> int:
        return ord(character) % 7

    made = unicode.stored("codes", remainder, np.int32)

    def never(character: str) -> int:
        raise AssertionError(character)

    kept = unicode.stored("codes", never, np.int32)
    for ours, theirs in zip(kept, made, strict=True):
        assert (ours == theirs).all()
        assert (ours.dtype, ours.flags.writeable) == (theirs.dtype, theirs.flags.writeable)
    [file] = (tmp_path / "kernels-tables").iterdir()
    file.write_bytes(file.read_bytes()[:1000])
    assert (unicode.stored("codes", remainder, np.int32)[1] == made[1]).all()
    assert (unicode.stored("codes", never, np.int32)[1] == made[1]).all()
