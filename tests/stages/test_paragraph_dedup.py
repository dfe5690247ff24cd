"""paragraph_dedup, all its phases in memory: exact and by a Bloom filter, each against plain Python."""

import random
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import ConfigError, DataError
from curate.kernels.bloom import holds, insert
from curate.kernels.pieces import CCNET, Pieces, digests
from curate.kernels.shingles import normalised
from curate.schema import text_buffers
from curate.stages import _bloom
from curate.stages._bloom import filter_size
from curate.stages.paragraph_dedup import Config, paragraph_dedup

sys.path.insert(0, str(Path(__file__).parent))
from phases import dedup

WORDS = [f"w{i}" for i in range(5_000)]


def texts(rows):
    return {row["id"]: row["text"] for row in rows}


def prose(draw, words):
    return " ".join(draw.choices(WORDS, k=words))


def test_exact_by_hand(tmp_path):
    units = [["Read  our terms, v2!\nOne."], ["read our terms v3\n\nTwo.\n---\n---", "Two.\nONE"]]
    kept, dropped, _ = dedup(paragraph_dedup, units, Config(), tmp_path)
    assert texts(kept) == {"0-0": "Read  our terms, v2!\nOne.", "1-0": "Two.\n---\n---"}
    assert [(row["id"], row["drop_reason"]) for row in dropped] == [("1-1", "emptied")]


def test_paragraphs_between_blank_lines(tmp_path):
    units = [["One\ntwo\n \n\nThree\nfour", "Three\n\none\ntwo\n\n\nfour"]]
    kept, _, _ = dedup(paragraph_dedup, units, Config(split="blank_lines"), tmp_path)
    assert texts(kept)["0-1"] == "Three\n\nfour"


paragraph = st.sampled_from(["a b", "A, B.", "c", "C 1", "c 22", "", "d é", "D e", "longer than others"])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(paragraph, min_size=1, max_size=4).map("\n".join), max_size=8), st.randoms())
def test_any_order_of_the_input_leaves_the_same_paragraphs(tmp_path_factory, documents, draw):
    config, scratch = Config(min_doc_chars=0), tmp_path_factory.getbasetemp()

    def left(units):
        kept, _, _ = dedup(paragraph_dedup, units, config, scratch)
        lines = [line for row in kept for line in row["text"].split("\n") if line]
        return Counter(" ".join(folded(line)) for line in lines)

    def folded(line):
        plain = line.lower().translate(str.maketrans("é", "e", ",."))
        return ["0" if word.isdigit() else word for word in plain.split()]

    shuffled = draw.sample(documents, len(documents))
    cut = draw.randint(0, len(documents))
    found = left([documents])
    assert left([shuffled[:cut], shuffled[cut:]]) == found
    assert set(found.values()) <= {1}


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(codec="ascii"), max_size=30))
def test_ascii_is_normalised_as_any_text(text):
    """The kernel takes a short cut for it; a soft hyphen, which vanishes, has it go the long way."""
    both = pa.array([text, f"\u00ad{text}"], pa.large_string())
    data, offsets = text_buffers(both)
    found = digests(Pieces(data, offsets, np.array([0, 1, 2])), 1, CCNET)
    words = normalised(text, CCNET)
    assert found.judged[0] == bool(words)
    if words:
        assert (found.high[0], found.check[0]) == (found.high[1], found.check[1])


def slow_bloom(units, config):
    """Texts as a filter that never errs leaves them; METHODS of BFF, in plain Python."""
    seen, left = set(), {}
    for number, unit in enumerate(units):
        for i, text in enumerate(unit):
            pieces, start = [], 0
            for at in [k for k, c in enumerate(text) if c == "\n"] + [len(text)]:
                pieces.append(text[start:at])
                start = at
            kept, num, held = [], 0, 0
            for piece in pieces:
                words = piece.split()
                grams = [tuple(words[k : k + config.ngram]) for k in range(len(words) - config.ngram + 1)]
                if not grams and len(words) >= config.min_ngram:
                    grams = [tuple(words)]
                contained = sum(gram in seen for gram in grams)
                num, held = num + len(grams), held + contained
                if grams and contained / len(grams) > config.threshold:
                    continue
                seen.update(grams)
                kept.append(piece)
            whole = config.remove == "old-both" and num and held / num > config.threshold
            left[f"{number}-{i}"] = "" if whole else "".join(kept)
    return left


few_words = st.lists(st.sampled_from("abc"), max_size=9).map(" ".join)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.lists(st.lists(few_words, max_size=4).map("\n".join), max_size=4), max_size=3),
    st.sampled_from([(3, 3), (3, 1), (2, 2), (1, 1)]), st.sampled_from([0.3, 0.5, 0.8]),
    st.sampled_from(["paragraphs", "old-both"]), st.integers(1, 5),
)  # fmt: skip
def test_bloom_equals_plain_python_where_it_never_errs(
    tmp_path_factory, units, sizes, threshold, remove, chunk
):
    config = Config(
        method="bloom", ngram=sizes[0], min_ngram=sizes[1], threshold=threshold, false_positive_rate=1e-6,
        expected_ngrams=5_000, remove=remove, min_doc_chars=0,
    )  # fmt: skip
    kept, _, _ = dedup(paragraph_dedup, units, config, tmp_path_factory.getbasetemp(), chunk)
    assert texts(kept) == slow_bloom(units, config)


def test_long_paragraphs_go_over_many_records(tmp_path):
    draw = random.Random(4)
    long = [prose(draw, 400) for _ in range(4)]
    units = [[f"{long[0]}\n{long[1]}"], [f"{long[1]}\n{long[2]}", long[0]], [long[3]]]
    config = Config(method="bloom", false_positive_rate=1e-6, min_doc_chars=0)
    for chunk in (1, 2, 100):
        kept, _, _ = dedup(paragraph_dedup, units, config, tmp_path, chunk)
        assert texts(kept) == slow_bloom(units, config)
    assert texts(kept)["1-1"] == ""


@pytest.mark.parametrize("remove", ["paragraphs", "old-both"])
def test_a_second_copy_of_the_corpus_is_emptied(tmp_path, remove):
    draw = random.Random(1)
    documents = ["\n".join(prose(draw, draw.randint(13, 60)) for _ in range(5)) for _ in range(40)]
    config = Config(method="bloom", remove=remove)
    kept, dropped, counts = dedup(paragraph_dedup, [documents, documents], config, tmp_path)
    assert [row["text"] for row in kept] == documents
    assert [(row["id"], row["drop_reason"]) for row in dropped] == [(f"1-{i}", "emptied") for i in range(40)]
    assert sum(count.get("documents", 0) for count in counts) == (40 if remove == "old-both" else 0)


def test_paragraphs_without_an_ngram_stay_and_are_never_inserted(tmp_path):
    short = "one two three four five six seven eight nine ten eleven twelve"
    units = [[short, short, "\n\n", f"{short} thirteen", f"{short} thirteen"]]
    kept, dropped, _ = dedup(paragraph_dedup, units, Config(method="bloom"), tmp_path)
    assert [row["id"] for row in kept] == ["0-0", "0-1", "0-2", "0-3"]
    assert [row["id"] for row in dropped] == ["0-4"]


@pytest.mark.parametrize("rate", [0.1, 0.01, 0.001])
def test_the_rate_of_false_positives_is_the_one_stated(rate):
    num, unseen = 20_000, 200_000
    words, probes = filter_size(num, rate)
    bits = np.zeros(words, np.uint64)
    grams = np.random.default_rng(7).integers(0, 2**64, num + unseen, np.uint64)
    for gram in grams[:num]:
        insert(bits, probes, gram)
    assert all(holds(bits, probes, gram) for gram in grams[:num])
    found = sum(holds(bits, probes, gram) for gram in grams[num:]) / unseen
    assert rate / 2 < found < 2 * rate


def test_more_ngrams_than_expected_stop_the_run(tmp_path):
    draw = random.Random(2)
    units = [[prose(draw, 500) for _ in range(10)]]
    config = Config(method="bloom", expected_ngrams=1_000)
    with pytest.raises(DataError, match="more than the 1,000 n-grams"):
        dedup(paragraph_dedup, units, config, tmp_path)


def test_a_filter_that_cannot_be_addressed_stops_the_run(tmp_path, monkeypatch):
    """Also where n-grams are counted, not stated."""
    monkeypatch.setattr(_bloom, "MAX_WORDS", 50)
    units = [[prose(random.Random(2), 500) for _ in range(2)]]
    with pytest.raises(DataError, match=r"n-grams of the corpus is more than 34 GB"):
        dedup(paragraph_dedup, units, Config(method="bloom"), tmp_path)


def test_check_shows_the_size_of_the_filter():
    stated = Config(method="bloom", expected_ngrams=2_000_000_000)
    assert paragraph_dedup.notes(stated) == [
        "Bloom filter of 2.4 GB for 2,000,000,000 n-grams (7 probes, 1.00% false positives)"
    ]
    assert "1.20 GB for every 1e9 n-grams" in paragraph_dedup.notes(Config(method="bloom"))[0]
    assert paragraph_dedup.notes(Config()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ngram": 5}, "`ngram` is an option of `method: bloom`"),
        ({"method": "bloom", "min_count": 3}, "`min_count` is an option of `method: exact`"),
        ({"method": "bloom", "min_ngram": 14}, "`min_ngram` must be from 1 to `ngram`"),
        ({"method": "bloom", "threshold": 0.0}, "`threshold` must be above 0"),
        ({"method": "bloom", "false_positive_rate": 0.9}, "`false_positive_rate` must be"),
        ({"method": "bloom", "expected_ngrams": 10**12}, "is more than 34 GB"),
        ({"method": "bloom", "expected_ngrams": 0}, "`expected_ngrams` must be 1 or more"),
    ],
)
def test_options_that_mean_nothing_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Config(**options)
