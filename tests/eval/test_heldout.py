"""Held-out sets: fixed by seed and id, and no near-duplicate of a held-out document stays for training."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.errors import ConfigError, DataError
from curate.eval import heldout
from curate.eval.heldout import hold_out, left_out, read_set

WORDS = [f"word{i}" for i in range(3000)]


def text(seed: int, words: int = 120) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def near(of: str, changed: int, seed: int, front: bool = False) -> str:
    """The same text with words at an end changed: of 8 of 120 the 5-grams' Jaccard is .87, of 8 at either end .76."""
    words, other = of.split(), random.Random(seed).choices(WORDS, k=changed)
    return " ".join([*other, *words[changed:]] if front else [*words[:-changed], *other])


@pytest.fixture
def corpus(tmp_path: Path) -> Callable[..., str]:
    """Writes rows (id, text, source) and returns the file."""

    def write(rows: list[tuple[str, str, str]], name: str = "corpus") -> str:
        ids, texts, sources = (list(column) for column in zip(*rows, strict=True))
        table = pa.table({"id": ids, "text": texts, "source": sources, "date": ["2020-01-01"] * len(ids)})
        pq.write_table(table, tmp_path / f"{name}.parquet")
        return str(tmp_path / f"{name}.parquet")

    return write


def rows_of(domains: dict[str, int]) -> list[tuple[str, str, str]]:
    return [
        (f"{domain}-{i}", text(hash_of(domain, i)), domain)
        for domain, count in domains.items()
        for i in range(count)
    ]


def hash_of(domain: str, i: int) -> int:
    return sum(map(ord, domain)) * 1000 + i


def test_so_many_of_each_domain_whatever_the_order(corpus, tmp_path) -> None:
    rows = rows_of({"web": 30, "books": 12, "wiki": 2})
    one = hold_out([corpus(rows)], str(tmp_path / "one"), documents=4, by="source", id="id", workers=1)
    assert one.domains == {"books": 4, "web": 4, "wiki": 2}
    assert one.documents == one.left_out == 10
    assert left_out(str(tmp_path / "one")) == set(read_set(str(tmp_path / "one"))["id"].to_pylist())
    random.Random(1).shuffle(rows)
    more = [*rows, *[(f"new-{i}", text(900_000 + i), "new") for i in range(5)]]
    two = hold_out([corpus(more)], str(tmp_path / "two"), documents=4, by="source", id="id", workers=1)
    assert left_out(str(tmp_path / "one")) < left_out(str(tmp_path / "two"))
    assert two.documents == 14


def test_near_duplicates_are_left_out_across_domains_and_by_no_chain(corpus, tmp_path) -> None:
    """Of each held-out document a near-duplicate stands in another domain, which is also near a third, kept document:
    a cluster named by that one would hide it."""
    rows = rows_of({"web": 20})
    drawn = hold_out([corpus(rows)], str(tmp_path / "first"), documents=5, by="source", id="id", workers=1)
    assert drawn.documents == 5
    chosen = read_set(str(tmp_path / "first")).to_pylist()
    copies = []
    for n, one in enumerate(chosen):
        close = near(one["text"], 8, n)
        copies += [(f"close-{n}", close, "copies"), (f"far-{n}", near(close, 60, 100 + n), "copies")]
        copies.insert(0, (f"chain-{n}", near(close, 8, 200 + n, front=True), "copies"))
    mixed = [*copies, *rows]
    found = hold_out(
        [corpus(mixed)], str(tmp_path / "second"), of=str(tmp_path / "first"), id="id", workers=1
    )
    table = pq.read_table(tmp_path / "second" / heldout.LEAVE_OUT).to_pylist()
    by_id = {row["id"]: row for row in table}
    for n, one in enumerate(chosen):
        assert by_id[f"close-{n}"]["held_out"] == one["id"]
        assert 0.8 <= by_id[f"close-{n}"]["similarity"] < 1
        assert by_id[one["id"]]["similarity"] == 1
        assert f"far-{n}" not in by_id
        assert f"chain-{n}" not in by_id
    assert found.set_hash == drawn.set_hash
    assert found.left_out == len(table) >= 10


def test_the_set_itself_has_no_near_duplicates(corpus, tmp_path) -> None:
    rows = rows_of({"web": 10})
    twins = [(f"twin-{i}", row[1], "web") for i, row in enumerate(rows)]
    found = hold_out(
        [corpus([*rows, *twins])], str(tmp_path / "set"), documents=20, by="source", id="id", workers=1
    )
    chosen = read_set(str(tmp_path / "set"))
    assert found.documents == 10
    assert len(set(chosen["text"].to_pylist())) == 10
    assert chosen["near_duplicates"].to_pylist() == [2] * 10
    assert len(left_out(str(tmp_path / "set"))) == 20


def test_the_set_is_scored_as_it_is(corpus, tmp_path) -> None:
    from curate.eval import suite
    from curate.eval.bpb import chunks

    hold_out([corpus(rows_of({"web": 6}))], str(tmp_path / "set"), documents=3, by="date", id="id", workers=1)
    (held,) = suite.load("small", heldout=[str(tmp_path / "set")]).heldout
    assert (held.name, held.by, held.date, held.id) == ("set", "date", "date", "id")
    ids = [i for batch in chunks(held, 0) for i in batch["id"].to_pylist()]
    assert ids == read_set(str(tmp_path / "set"))["id"].to_pylist()
    assert json.loads((tmp_path / "set/heldout.json").read_text())["asked"] == 3


def test_what_is_wrong_is_said(corpus, tmp_path) -> None:
    file = corpus(rows_of({"web": 4}))
    with pytest.raises(ConfigError, match="named by the paths"):
        hold_out([file], str(tmp_path / "a"), documents=2)
    with pytest.raises(ConfigError, match="how many documents"):
        hold_out([file], str(tmp_path / "a"), id="id")
    with pytest.raises(ConfigError, match="no column `domain`"):
        hold_out([file], str(tmp_path / "a"), documents=2, by="domain", id="id")
    with pytest.raises(ConfigError, match="no held-out set"):
        hold_out([file], str(tmp_path / "a"), of=str(tmp_path), id="id", workers=1)
    twice = corpus([("same", text(1), "web"), ("same", text(2), "web")], "twice")
    with pytest.raises(DataError, match="comes twice"):
        hold_out([twice], str(tmp_path / "a"), documents=2, id="id", workers=1)
    assert not (tmp_path / "a").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("")
    with pytest.raises(ConfigError, match="is not empty"):
        hold_out([file], str(tmp_path / "full"), documents=2, id="id")


def test_a_list_for_a_corpus_without_ids_names_its_rows_as_a_run_does(corpus, tmp_path) -> None:
    """The set has ids of its own; of the other corpus rows are named by file and place, as `curate tokenize` names them."""
    from curate.eval.corpus import documents
    from curate.io.inputs import Input

    rows = rows_of({"web": 12})
    hold_out([corpus(rows)], str(tmp_path / "set"), documents=3, by="source", id="id", workers=1)
    held = set(read_set(str(tmp_path / "set"))["id"].to_pylist())
    (tmp_path / "bare.jsonl").write_text("".join(json.dumps({"text": said}) + "\n" for _, said, _ in rows))
    found = hold_out(
        [str(tmp_path / "bare.jsonl")], str(tmp_path / "list"), of=str(tmp_path / "set"), workers=1
    )
    named = [
        i for batch in documents(Input(path=str(tmp_path / "bare.jsonl"))) for i in batch["id"].to_pylist()
    ]
    assert found.left_out == 3
    assert left_out(str(tmp_path / "list")) == {
        named[place] for place, (id_, _, _) in enumerate(rows) if id_ in held
    }


def test_a_row_that_cannot_be_read_is_told_and_stops_nothing(corpus, tmp_path) -> None:
    """No run keeps it, so nobody trains on it; of a set that is scored it is an error."""
    from curate.eval.corpus import documents
    from curate.io.inputs import Input

    rows = rows_of({"web": 6})
    lines = [json.dumps({"id": id_, "text": said}).encode() for id_, said, _ in rows]
    (tmp_path / "dirty.jsonl").write_bytes(b"\n".join([*lines[:3], b"{no json", *lines[3:]]) + b"\n")
    found = hold_out([str(tmp_path / "dirty.jsonl")], str(tmp_path / "set"), documents=2, id="id", workers=1)
    assert (found.corpus_documents, found.documents) == (6, 2)
    assert len(found.unread) == 1
    assert found.unread[0].startswith(f"{tmp_path / 'dirty.jsonl'}:")
    with pytest.raises(DataError, match="cannot be read"):
        list(documents(Input(path=str(tmp_path / "dirty.jsonl"), id="id")))
