"""The phases of substring_dedup over tables in memory, against a search of every window in plain Python."""

import hashlib
import itertools
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.engine import shuffle
from curate.errors import ConfigError
from curate.stage import Task
from curate.stages import _repeats
from curate.stages.substring_dedup import Config, apply, collect, compare, meet, sketch

SHAPE = pa.schema({"id": pa.string(), "text": pa.large_string(), "order": pa.uint64()})
ONE = Task(0)


class Unit:
    """Rows of one unit and the records for it, as the engine gives them."""

    def __init__(self, batches=(), records=()):
        self._batches, self._records = batches, records

    def batches(self):
        return iter(self._batches)

    def merged(self):
        return iter(self._records)


class Sink:
    """Collects what a phase writes."""

    def __init__(self, scratch=None):
        self.scratch, self.memory = scratch, 1 << 28
        self.tables, self.kept, self.dropped = [], [], []

    def write(self, table):
        self.tables.append(table)

    def keep(self, batch):
        self.kept += batch.to_pylist()

    def drop(self, batch, reasons):
        for i, row in enumerate(batch.to_pylist()):
            self.dropped.append(row | {name: values[i].as_py() for name, values in reasons.items()})

    def records(self, key, chunk):
        tables = [t for t in self.tables if t.num_rows]
        if not tables:
            return []
        table = shuffle.sort(pa.concat_tables(tables), key)
        return [table.slice(i, chunk) for i in range(0, table.num_rows, chunk)]


def dedup(units, config, scratch, chunk=3):
    """Run all phases over units of texts; returns kept and dropped rows. `chunk`: rows per merged table and batch."""
    batches = []
    for number, unit in enumerate(units):
        rows = [
            {"id": f"{number}-{i}", "text": text, "order": number * 1000 + i} for i, text in enumerate(unit)
        ]
        batches.append([pa.RecordBatch.from_pylist(rows[i : i + 2], SHAPE) for i in range(0, len(rows), 2)])

    def of_unit(records, number):
        mine = [t.filter(np.isin(t["order"].to_numpy() // 1000, [number])) for t in records]
        return [t for t in mine if t.num_rows]

    sketched, met, collected, compared, result = (Sink(scratch) for _ in range(5))
    for unit in batches:
        sketch(ONE, Unit(unit), sketched, config)
    meet(ONE, Unit(records=sketched.records(("hash",), chunk)), met, config)
    for number, unit in enumerate(batches):
        records = of_unit(met.records(("order", "start"), chunk), number)
        collect(ONE, Unit(unit, records), collected, config)
    compare(ONE, Unit(records=collected.records(("hash", "order", "start"), chunk)), compared, config)
    for number, unit in enumerate(batches):
        records = of_unit(compared.records(("order", "begin"), chunk), number)
        apply(ONE, Unit(unit, records), result, config)
    return result.kept, result.dropped


def slow_spans(rows, length, every):
    """Symbols that go, of each row: every window that came before, but no symbol of the one it repeats."""
    seen, gone = {}, [set() for _ in rows]
    places = [(r, i) for r, row in enumerate(rows) for i in range(len(row) - length + 1)]
    for r, i in places:
        seen.setdefault(rows[r][i : i + length], []).append((r, i))
    for r, i in places:
        same = seen[rows[r][i : i + length]]
        if len(same) > 1 and (every or same[0] != (r, i)):
            spared = same[0][1] + length if not every and same[0][0] == r else 0
            gone[r] |= set(range(max(i, spared), i + length))
    return gone


def slow(texts, length, every=False):
    """The texts without them, cut between characters; None stays None."""
    rows = [(text or "").encode() for text in texts]
    done = []
    for text, row, gone in zip(texts, rows, slow_spans(rows, length, every), strict=True):
        starts = [i for i in range(len(row) + 1) if i == len(row) or row[i] & 0xC0 != 0x80]
        kept = b"".join(row[a:b] for a, b in itertools.pairwise(starts) if not gone >= set(range(a, b)))
        done.append(None if text is None else kept.decode())
    return done


def planted(seed, size, alphabet="abcdefghijklmnopqrstuvwxyz     \n"):
    rng = random.Random(seed)
    return "".join(rng.choice(alphabet) for _ in range(size))


def test_only_repeats_of_the_length_and_more_go(tmp_path):
    """METHODS' own: L - 1, L and L + 1 symbols planted; the first stays."""
    for extra, goes in ((-1, False), (0, True), (1, True)):
        passage = planted(1, 100 + extra)
        texts = [f"{planted(i, 40)}{i}{passage}{i}{planted(9 - i, 40)}" for i in range(3)]
        kept, _ = dedup([texts[:1], texts[1:]], Config(), tmp_path)
        expected = [texts[0], *(text.replace(passage, "") if goes else text for text in texts[1:])]
        assert [row["text"] for row in kept] == expected
        assert [row["substring_dedup_removed_spans"] for row in kept] == [0, int(goes), int(goes)]
        assert [row["substring_dedup_removed_chars"] for row in kept][1] == (len(passage) if goes else 0)


def test_remove_all_takes_the_first_as_well(tmp_path):
    passage = planted(1, 120)
    texts = [f"{planted(i, 40)}{i}{passage}{i}{planted(9 - i, 40)}" for i in range(3)]
    kept, _ = dedup([texts], Config(remove="all"), tmp_path)
    assert [row["text"] for row in kept] == [text.replace(passage, "") for text in texts]


def test_a_repeat_that_overlaps_its_first_leaves_that_one(tmp_path):
    texts = ["a" * 150, "ab" * 200, "a" * 150]
    kept, dropped = dedup([texts], Config(), tmp_path)
    assert [row["text"] for row in kept] == ["a" * 100, "ab" * 50]
    assert [(row["id"], row["text"], row["drop_reason"]) for row in dropped] == [
        ("0-2", "a" * 150, "emptied")
    ]


@pytest.mark.parametrize("every", [False, True])
def test_real_texts_equal_plain_python(every, shared_data, tmp_path):
    """Versions of documents, which share most of what they say."""
    table = pq.read_table(shared_data / "dedup/powershell_docs_versions_dev.parquet", columns=["text"])
    texts = table["text"].to_pylist()[:12]
    units = [texts[:4], texts[4:5], texts[5:]]
    kept, _ = dedup(units, Config(remove="all" if every else None, min_chars=0), tmp_path, 1000)
    assert [row["text"] for row in kept] == slow(texts, 100, every)
    assert sum(row["substring_dedup_removed_chars"] for row in kept) > 1_000


@pytest.mark.parametrize(
    ("options", "removed", "digest"),
    [
        ({}, 127571, "ec500e15788fb373"),
        ({"remove": "all"}, 195001, "bac292b333128889"),
        ({"unit": "tokens"}, 105220, "645ac2f47c7acfe8"),
        ({"snap": "words"}, 120425, "015c2d265e206ccf"),
    ],
)
def test_real_texts_are_those_on_record(options, removed, digest, shared_data, tmp_path):
    """Characters that go, and a digest of what is left; a change wants a new version of the stage."""
    texts = pq.read_table(shared_data / "text/web_stackexchange_samples.parquet")["text"].to_pylist()
    kept, _ = dedup([texts], Config(**options, min_chars=0), tmp_path, 1000)
    found = hashlib.sha256("\0".join(row["text"] for row in kept).encode()).hexdigest()[:16]
    assert (sum(row["substring_dedup_removed_chars"] for row in kept), found) == (removed, digest)


@pytest.mark.parametrize("size", range(99, 300, 7))
def test_what_repeats_within_one_text_alone_is_found(size, tmp_path):
    """One passage may hold all the windows that are the same."""
    texts = [planted(1, 70) + "0" * size + planted(2, 70), planted(3, 400)]
    for every in (False, True):
        config = Config(remove="all" if every else None)
        kept, _ = dedup([texts], config, tmp_path)
        assert [row["text"] for row in kept] == slow(texts, 100, every)


def test_matches_do_not_cross_documents(tmp_path):
    passage = planted(3, 100)
    texts = [f"1{passage}2", passage[:50], passage[50:], f"3{passage}4"]
    kept, _ = dedup([texts], Config(), tmp_path)
    assert [row["text"] for row in kept] == [texts[0], texts[1], texts[2], "34"]


def test_documents_left_with_too_little_are_dropped_with_their_text(tmp_path):
    passage = planted(4, 100)
    texts = [f"{passage}, the first", passage, f"{passage} end", "short", None, ""]
    kept, dropped = dedup([texts], Config(min_chars=10), tmp_path)
    assert [row["text"] for row in kept] == [texts[0], "short", None, ""]
    assert [row["substring_dedup_removed_chars"] for row in kept] == [0, 0, None, 0]
    assert [(r["text"], r["drop_reason"], r["drop_value"], r["drop_threshold"]) for r in dropped] == [
        (texts[1], "emptied", 0.0, 10.0),
        (texts[2], "too_short", 4.0, 10.0),
    ]
    kept, dropped = dedup([texts], Config(min_chars=0), tmp_path)
    assert [row["text"] for row in kept] == [texts[0], "", " end", "short", None, ""]
    assert not dropped


def test_the_old_text_is_kept_where_it_is_asked_for(tmp_path):
    passage = planted(5, 100)
    kept, _ = dedup([[passage + "1", passage + "2"]], Config(keep_original=True), tmp_path)
    assert [(row["text"], row["substring_dedup_original"]) for row in kept] == [
        (passage + "1", passage + "1"),
        ("2", passage + "2"),
    ]


def test_cuts_fall_between_characters(tmp_path):
    # two letters that share their first byte, so that the repeat begins in the middle of a character
    passage = "é" * 60
    texts = [f"start à{passage[1:]}ü end", f"other è{passage[1:]}û last"]
    kept, _ = dedup([texts], Config(), tmp_path)
    assert [row["text"] for row in kept] == slow(texts, 100)
    assert kept[1]["text"] == "other èû last"


def test_words_are_left_whole(tmp_path):
    passage = "night " + planted(6, 100, "abcdefghij ") + " may"
    texts = [f"Good {passage}be so.", f"This is a fort{passage}or it is not."]
    kept, _ = dedup([texts], Config(snap="words"), tmp_path)
    begin, end = kept[1]["text"][:19], kept[1]["text"][19:]
    assert (begin, end) == ("This is a fortnight", "mayor it is not.")


@pytest.mark.parametrize(("num", "goes"), [(49, False), (50, True), (51, True)])
def test_words_are_counted_whatever_lies_between(num, goes, tmp_path):
    words = [f"w{i}" for i in range(num)]
    texts = [f"First: {' '.join(words)} ends.", f"Second, {'  '.join(words)} here too."]
    kept, _ = dedup([texts], Config(unit="tokens"), tmp_path)
    assert kept[0]["text"] == texts[0]
    assert kept[1]["text"] == ("Second,  here too." if goes else texts[1])


def test_tokens_are_those_of_the_folder(tmp_path):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    # every byte is a token: an emoji has four, and is cut whole or not at all
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    library = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(letters)}, merges=[]))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    library.save(str(tmp_path / "tokenizer.json"))
    passage = planted(7, 50)
    texts = [f"1😀{passage}é", f"2🙀{passage}à", f"3{passage[:49]}"]
    config = Config(unit="tokens", tokenizer=str(tmp_path))
    kept, _ = dedup([texts], config, tmp_path)
    assert [row["text"] for row in kept] == [texts[0], "2🙀à", texts[2]]


pieces = st.sampled_from(["a", "b", "a" * 12, "ab", "aaaa", "é", "😀", "🙀", "abcdabcd", "ü x", "\n"])
texts = st.one_of(st.none(), st.lists(pieces, max_size=30).map("".join))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.lists(texts, max_size=5), max_size=4), st.integers(1, 9), st.booleans(), st.integers(16, 24)
)
def test_texts_equal_plain_python_for_any_cut(tmp_path_factory, units, chunk, every, length):
    config = Config(min_length=length, remove="all" if every else None, min_chars=0)
    kept, dropped = dedup(units, config, tmp_path_factory.mktemp("scratch"), chunk)
    whole = list(itertools.chain(*units))
    assert [row["text"] for row in kept] == slow(whole, length, every)
    assert not dropped


def search_spans(rows, search, scratch):
    """Spans by `repeated_spans` over passages as phases give them, as sets of symbols per row."""
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    symbols = np.concatenate([np.array(list(row), search.symbol) for row in rows])
    found = _repeats.passages(symbols, offsets, search.length, search.gram)
    found = found.append_column("order", found["row"].cast(pa.uint64()))
    tables = _repeats.with_symbols(found, symbols, offsets, search.length)
    table = shuffle.sort(
        pa.concat_tables([t.drop_columns("row") for t in tables]), ("hash", "order", "start")
    )
    gone = [set() for _ in rows]
    for spans in _repeats.repeated_spans(iter([table]), search, scratch):
        for order, begin, end in zip(*(spans[c].to_pylist() for c in spans.column_names), strict=True):
            gone[order] |= set(range(begin, end))
    return gone


def test_a_task_compares_within_the_workers_share_unless_the_recipe_says():
    assert Config().search(200 << 20).memory == 200 << 20
    assert Config().search(1 << 20).memory == 32 << 20
    assert Config(memory_mb=40).search(200 << 20).memory == 40 << 20


@pytest.mark.parametrize("every", [False, True])
@pytest.mark.parametrize("memory", [1 << 30, 1 << 15, 1 << 13, 1 << 11])
def test_memory_does_not_change_what_is_found(memory, every, tmp_path, monkeypatch):
    """5 kB in the least memory: one footer under many texts, whole copies, and what lies within one text twice."""
    monkeypatch.setattr(_repeats, "ROWS", 8)
    files = []
    read = _repeats._read
    monkeypatch.setattr(_repeats, "_read", lambda place: files.append(place.name) or read(place))
    rng = random.Random(8)
    footer = bytes(rng.choices(b"abc ", k=40))
    rows = [bytes(rng.choices(b"ab", k=30)) + footer + bytes(rng.choices(b"ab", k=30)) for _ in range(40)]
    rows += [rows[3], rows[4] + rows[5], footer * 8, b"-" * 300, rows[3]]
    search = _repeats.Search(50, np.uint8, every, memory)
    assert search_spans(rows, search, tmp_path) == slow_spans(rows, 50, every)
    deepest = max((int(name[0]) for name in files), default=-1)  # -1: nothing had to be dealt to files
    assert deepest >= {1 << 30: -1, 1 << 15: 0, 1 << 13: 1, 1 << 11: 3}[memory]
    assert not list(Path(tmp_path).iterdir())


@pytest.mark.parametrize("symbol", [np.uint8, np.uint64])
@pytest.mark.parametrize("length", [8, 13, 50])
def test_symbols_of_any_width_and_length(symbol, length, tmp_path):
    rng = random.Random(length)
    rows = [tuple(rng.choices(range(3), k=rng.randrange(200))) for _ in range(30)]
    search = _repeats.Search(length, symbol, False, 1 << 30)
    assert search_spans(rows, search, tmp_path) == slow_spans(rows, length, False)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"min_length": 15}, "`min_length` must be from 16 to 2000 bytes"),
        ({"unit": "tokens", "min_length": 251}, "`min_length` must be from 2 to 250 tokens"),
        ({"keep": "first", "remove": "all"}, "exclude each other"),
        ({"tokenizer": "x"}, "`tokenizer` needs `unit: tokens`"),
        ({"min_chars": -1}, "`min_chars` must not be below 0"),
        ({"memory_mb": 8}, "`memory_mb` must be 32 or more"),
    ],
)
def test_options_out_of_range_are_refused(options, what):
    with pytest.raises(ConfigError, match=what):
        Config(**options)
