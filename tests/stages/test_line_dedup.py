"""line_dedup, all its phases in memory, against a dictionary in plain Python."""

import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import ConfigError
from curate.stages.line_dedup import Config, line_dedup

sys.path.insert(0, str(Path(__file__).parent))
from phases import dedup

ALL = Config(min_chars=1)


def texts(rows):
    return {row["id"]: row["text"] for row in rows}


def test_by_hand(tmp_path):
    units = [
        ["Home\nA story.\nShare this", None, ""],
        ["  Home \nAnother.\n\nShare this", "Home\nHome\nShare this"],
    ]
    kept, dropped, counts = dedup(line_dedup, units, ALL, tmp_path)
    assert texts(kept) == {"0-0": "Home\nA story.\nShare this", "0-1": None, "0-2": "", "1-0": "Another."}
    assert [(row["line_dedup_removed_lines"], row["line_dedup_removed_chars"]) for row in kept] == [
        (0, 0), (None, None), (0, 0), (2, 20),
    ]  # fmt: skip
    assert [(r["id"], r["drop_reason"], r["drop_value"], r["drop_threshold"]) for r in dropped] == [
        ("1-1", "emptied", 0, 1)
    ]
    assert dropped[0]["text"] == "Home\nHome\nShare this"
    assert sum(count.get("lines", 0) for count in counts) == 5


def test_short_lines_and_rare_ones_stay(tmp_path):
    long = "A line of exactly fifty characters, counted twice."
    assert len(long) == 50
    units = [[f"}}\n{long}\n{long[1:]}", f"}}\n{long}\n{long[1:]}\nnew"]]
    kept, _, _ = dedup(line_dedup, units, Config(), tmp_path)
    assert texts(kept)["0-1"] == f"}}\n{long[1:]}\nnew"
    often = Config(min_chars=1, min_count=3)
    kept, _, _ = dedup(line_dedup, [["a\nb", "a\nb\nc"], ["a\nd"]], often, tmp_path)
    assert texts(kept) == {"0-0": "a\nb", "0-1": "b\nc", "1-0": "d"}


def test_documents_left_with_little_are_dropped_only_if_they_were_cut(tmp_path):
    units = [["menu\nbody of text", "tiny", "menu\nrest"]]
    config = Config(min_chars=1, min_doc_chars=5, keep_original=True)
    kept, dropped, _ = dedup(line_dedup, units, config, tmp_path)
    assert texts(kept) == {"0-0": "menu\nbody of text", "0-1": "tiny"}
    assert [(r["id"], r["drop_reason"], r["drop_value"], r["drop_threshold"]) for r in dropped] == [
        ("0-2", "too_short", 4, 5)
    ]
    kept, dropped, _ = dedup(line_dedup, [["a", "a"]], Config(min_chars=1, min_doc_chars=0), tmp_path)
    assert (texts(kept), dropped) == ({"0-0": "a", "0-1": ""}, [])


def test_ccnet_compares_words(tmp_path):
    units = [["Été 2023: «fin»!", "ETE  1987 - fin\nother", "été fin\nother 2"]]
    kept, _, _ = dedup(line_dedup, units, Config(min_chars=1, normalize="ccnet"), tmp_path)
    assert texts(kept) == {"0-0": "Été 2023: «fin»!", "0-1": "other", "0-2": "été fin\nother 2"}
    kept, _, _ = dedup(line_dedup, units, ALL, tmp_path)
    assert [row["line_dedup_removed_lines"] for row in kept] == [0, 0, 0]


@pytest.mark.parametrize("options", [{"min_chars": 0}, {"min_count": 1}, {"min_doc_chars": -1}])
def test_numbers_that_mean_nothing_are_refused(options):
    with pytest.raises(ConfigError, match=f"`{next(iter(options))}` must"):
        Config(**options)


def slow(units, config):
    """(kept texts, dropped ids) by a list of lines seen."""
    lines = {}
    for unit in units:
        for line in (line.strip() for text in unit if text for line in text.split("\n")):
            lines[line] = lines.get(line, 0) + 1
    seen, kept, dropped = set(), {}, set()
    for number, unit in enumerate(units):
        for i, text in enumerate(unit):
            left = []
            for line in (text or "").split("\n"):
                bare = line.strip()
                judged = bare and len(bare) >= config.min_chars and lines[bare] >= config.min_count
                if not judged or bare not in seen:
                    left.append(line)
                if judged:
                    seen.add(bare)
            new = text if text is None or len(left) == text.count("\n") + 1 else "\n".join(left).strip()
            if new != text and len(new) < config.min_doc_chars:
                dropped.add(f"{number}-{i}")
            else:
                kept[f"{number}-{i}"] = new
    return kept, dropped


line = st.sampled_from(["a", "b", " a", "ab ", "", "é", "\u00a0b", "\U0001f600", "long one"])
text = st.none() | st.lists(line, max_size=5).map("\n".join)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.lists(text, max_size=5), max_size=4), st.integers(1, 7), st.integers(1, 3), st.integers(2, 4),
    st.integers(0, 3),
)  # fmt: skip
def test_texts_equal_plain_python_for_any_cut(
    tmp_path_factory, units, chunk, min_chars, min_count, min_doc_chars
):
    config = Config(min_chars=min_chars, min_count=min_count, min_doc_chars=min_doc_chars)
    kept, dropped, _ = dedup(line_dedup, units, config, tmp_path_factory.getbasetemp(), chunk)
    expected, gone = slow(units, config)
    assert texts(kept) == expected
    assert {row["id"] for row in dropped} == gone
