"""sentence_dedup, all its phases in memory, against plain Python and datatrove's blocks."""

import itertools
import random
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import ConfigError
from curate.kernels.lines import first_bytes, num_sentences
from curate.kernels.unicode import TERMINAL, flags
from curate.stages.sentence_dedup import Config, sentence_dedup, sentences_of

sys.path.insert(0, str(Path(__file__).parent))
from phases import dedup

FREE = Config(min_doc_sentences=0, min_doc_words=0)
A, B, C, D, E = (f"{word} stands here." for word in ("Alpha", "Beta", "Gamma", "Delta", "Epsilon"))


def texts(rows):
    return {row["id"]: row["text"] for row in rows}


def sentences(text):
    pieces = sentences_of(pa.array([text], pa.large_string()))
    return [bytes(pieces.data[a:b]).decode() for a, b in zip(pieces.starts, pieces.starts[1:], strict=False)]


def test_by_hand(tmp_path):
    units = [[f"{A} {B} {C} {D}"], [f"{E} {A.upper()} {B} {C}\n{E}", f"{B} {C} {E}"]]
    kept, _, counts = dedup(sentence_dedup, units, FREE, tmp_path)
    assert texts(kept) == {
        "0-0": f"{A} {B} {C} {D}",
        "1-0": f"{E} {E}",
        "1-1": "",
    }  # B C E: the window of 1-0
    assert [row["sentence_dedup_removed_sentences"] for row in kept] == [0, 3, 3]
    assert sum(count.get("windows", 0) for count in counts) == 2


def test_documents_left_with_little_are_dropped_only_if_they_were_cut(tmp_path):
    words = " ".join(["word"] * 49) + "."
    other = f"{words} Two. Three."
    units = [
        [f"{A} {B} {C}", f"{A} {B} {C} {D}", f"{A} {B} {C} {other}", f"{A} {B} {C} {E} One two. Three.", D]
    ]
    kept, dropped, _ = dedup(sentence_dedup, units, Config(keep_original=True), tmp_path)
    assert texts(kept) == {"0-0": f"{A} {B} {C}", "0-2": other, "0-4": D}
    assert [(r["id"], r["drop_reason"], r["drop_value"], r["drop_threshold"]) for r in dropped] == [
        ("0-1", "too_few_sentences", 1, 3), ("0-3", "too_few_words", 9, 50),
    ]  # fmt: skip
    assert dropped[1]["text"] == units[0][3]
    assert [row["sentence_dedup_original"] for row in kept] == [units[0][0], units[0][2], D]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("  \n ", ["  \n "]),
        (" One. Two\n\nthree ", [" One. ", "Two\n\n", "three "]),
        ('He said "no." (Then he left.)', ['He said "no." ', "(Then he left.)"]),
        ("U.S. troops ... left.Now", ["U.S. troops ... left.", "Now"]),
        ("一。二！「三」", ["一。", "二！「", "三」"]),
    ],
)
def test_where_sentences_are_cut(text, found):
    assert sentences(text) == found


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from('aB. !?\n\u3002"(é…'), max_size=40))
def test_sentences_are_those_that_c4_quality_counts(text):
    tables = first_bytes(TERMINAL), *flags()
    lines = [np.frombuffer(line.encode(), np.uint8) for line in text.split("\n")]
    found = sentences(text)
    assert "".join(found) == text
    assert len([piece for piece in found if piece.strip()]) == sum(
        num_sentences(line, 0, len(line), *tables) for line in lines
    )


def slow(units, size):
    """Texts by a set of windows seen; the sentences are those of the kernel."""
    seen, left = set(), {}
    for number, unit in enumerate(units):
        for i, text in enumerate(unit):
            pieces, gone = sentences(text), set()
            bare = [piece.strip() for piece in pieces]
            for k in range(len(pieces) - size + 1):
                window = tuple(bare[k : k + size])
                if any(window) and window in seen:
                    gone |= set(range(k, k + size))
                seen.add(window)
            new = "".join(piece for k, piece in enumerate(pieces) if k not in gone)
            left[f"{number}-{i}"] = new.strip() if gone else text
    return left


few = st.lists(st.sampled_from(["A. ", "B. ", "C\n", " ", "D! "]), max_size=9).map("".join)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(few, max_size=4), max_size=3), st.integers(1, 4), st.integers(1, 6))
def test_texts_equal_plain_python_for_any_cut(tmp_path_factory, units, size, chunk):
    config = Config(n_sentences=size, normalize="none", min_doc_sentences=0, min_doc_words=0)
    kept, _, _ = dedup(sentence_dedup, units, config, tmp_path_factory.getbasetemp(), chunk)
    assert texts(kept) == slow(units, size)


def by_datatrove(documents, folder):
    """Texts that datatrove's blocks leave, by id."""
    from datatrove.data import Document
    from datatrove.pipeline.dedup import SentenceDedupFilter, SentenceDedupSignature, SentenceFindDedups
    from datatrove.pipeline.dedup.sentence_dedup import SentDedupConfig

    def given():
        return iter([Document(text=text, id=name) for name, text in documents.items()])

    config = SentDedupConfig(min_doc_words=12, min_num_sentences=3)
    SentenceDedupSignature(str(folder / "sigs"), config=config).run(given())
    SentenceFindDedups(str(folder / "sigs"), str(folder / "dups"), config=config).run()
    left = SentenceDedupFilter(str(folder / "dups"), config).run(given())
    return {document.id: document.text.strip() for document in left}


def test_documents_are_kept_and_cut_as_by_datatrove(tmp_path):
    """Sentences that both cut alike, half of them written differently each time."""
    pytest.importorskip("datatrove")
    draw = random.Random(6)
    names = ["Anna", "Boris", "Clara", "David", "Emma", "Felix"]
    stock = [
        f"{a} met {b} on day {i} of their long journey"
        for i, (a, b) in enumerate(itertools.permutations(names, 2))
    ]

    def sentence(text):
        return (
            draw.choice([text, text.upper(), text.replace("day", "day,"), text.replace(" of", "  of")]) + "."
        )

    documents = {}
    for i in range(60):
        start = draw.randrange(len(stock) - 8)
        run = stock[start : start + draw.randint(3, 8)] if draw.random() < 0.7 else draw.sample(stock, 6)
        new = [f"Nobody wrote {word} in note {i} before" for word in ("this", "that", "these")]
        documents[f"0-{i}"] = " ".join(map(sentence, run + new * (i % 2)))
    expected = by_datatrove(documents, tmp_path)
    config = Config(min_doc_words=12, min_doc_sentences=3)
    kept, dropped, _ = dedup(sentence_dedup, [list(documents.values())], config, tmp_path)
    assert texts(kept) == expected
    assert 5 < len(dropped) < 55
    assert sum(row["sentence_dedup_removed_sentences"] > 0 for row in kept) > 5


@pytest.mark.parametrize("options", [{"n_sentences": 0}, {"min_doc_sentences": -1}, {"min_doc_words": -1}])
def test_numbers_that_mean_nothing_are_refused(options):
    with pytest.raises(ConfigError, match=f"`{next(iter(options))}` must"):
        Config(**options)
