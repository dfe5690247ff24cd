"""How a text tells its words apart: by hand, and as slow Python says on real and random text."""

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.kernels import scripts
from curate.kernels.frequency import frequent_words
from curate.schema import text_buffers

sys.path.insert(0, str(Path(__file__).parent))
import slow_words

NAMES = {scripts.SPACED: "spaced", scripts.DICTIONARY: "dictionary", scripts.UNSPLIT: "unsplit"}


def writings(texts: list[str]) -> list[str]:
    return [NAMES[code] for code in scripts.writing(*text_buffers(pa.array(texts, pa.large_string())))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "spaced"), ("1 2 …", "spaced"), ("the house", "spaced"), ("한국어 텍스트", "spaced"), ("Tiếng Việt", "spaced"),
        ("中文", "dictionary"), ("中文ab", "spaced"), ("中文字ab", "dictionary"), ("ไทย", "dictionary"), ("ひらがな", "dictionary"),
        ("བོད", "unsplit"), ("བོད中文中文", "dictionary"), ("བོད་ཡིག中", "unsplit"), ("ꦗꦮ", "unsplit"), ("ꪕꪰ", "spaced"),
        ("𠀀𠀁", "dictionary"), ("ꆈꌠ", "unsplit"),
    ],
)  # fmt: skip
def test_by_hand(text: str, expected: str) -> None:
    assert writings([text]) == [slow_words.writing(text)] == [expected]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.text(st.sampled_from("ab é中文字ไབཡꦗ한ế𠀀—1🙂"), max_size=30) | st.text(max_size=20), max_size=4
    )
)
def test_as_slow_python_says(texts: list[str]) -> None:
    texts = [text.encode("utf-8", "ignore").decode() for text in texts]
    assert writings(texts) == [slow_words.writing(text) for text in texts]


def test_on_real_text_of_all_languages(shared_data: Path) -> None:
    table = pq.read_table(shared_data / "multilingual/udhr_all_languages.parquet", columns=["text", "lang"])
    texts = [text[:1_000] for text in table["text"].to_pylist()]
    found = writings(texts)
    assert found == [slow_words.writing(text) for text in texts]
    langs = table["lang"].to_pylist()
    assert {lang for lang, one in zip(langs, found, strict=True) if one == "unsplit"} == {
        "bo",
        "dz",
        "ii",
        "jv-Java",
        "kkh-Lana",
    }
    assert {"zh", "ja", "th", "lo", "km", "my"} <= {
        lang for lang, one in zip(langs, found, strict=True) if one == "dictionary"
    }


def test_frequent_words_by_hand() -> None:
    texts = pa.array(["the cat, the dog", "1 the ... cat"], pa.large_string())
    assert frequent_words(*text_buffers(texts), None, 2) == ({"the": 3, "cat": 2}, 6)
