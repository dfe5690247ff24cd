"""`decontaminate`: planted copies by hand, equal to slow Python, decisions equal to datatrove's filter, real sets."""

import gzip
import json
import os
import re
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

import curate
from curate.errors import ConfigError, DataError
from curate.io.query import open_dataset, query
from curate.schema import CORE
from curate.stages import _evaluation
from curate.stages._evaluation import Set, items
from curate.stages._sought import count
from curate.stages.decontaminate import Config, _writes, decontaminate, list_files, load, notes

QUESTION = (
    "A farmer walks nine miles to the market at Harrowgate and sells twelve geese for four crowns each, "
    "how many crowns does he carry home?"
)
ITEM = {"question": QUESTION, "answer": "48 crowns"}


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """A function of (items, texts, options): what the stage says of each text."""

    def call(rows: list[dict[str, Any]], texts: list[str | None], **options: Any) -> list[dict[str, Any]]:
        file = tmp_path / "geese.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        config = Config(sets=(Set(path=str(file)),), **options)
        batch = pa.record_batch({"text": pa.array(texts, CORE["text"])})
        out = decontaminate(batch, config, load(config, tmp_path))
        assert {f.name: f.type for f in out.schema if f.name != "text"} == {
            name: type_ for name, type_ in _writes(config).items() if name != "text"
        }
        return [
            {key.removeprefix("decontaminate_"): value for key, value in row.items()}
            for row in out.to_pylist()
        ]

    return call


AROUND = "Some words that stand before it. {} And some that stand behind it, of no matter what."
COPIES = {
    "verbatim": f"{QUESTION} 48 crowns",
    "re-cased": f"{QUESTION.upper()} 48 CROWNS",
    "re-punctuated": re.sub(r"[ ,]+", " — ", QUESTION) + "\n\n**48**-crowns!",
    "accents": f"{QUESTION.replace('e', 'é')} 48 crowns",
}
EDITED = COPIES["verbatim"].replace("sells", "barters")


@pytest.mark.parametrize("copy", COPIES)
def test_copies_are_found(run: Any, copy: str) -> None:
    clean, row = run([ITEM], ["No such thing stands here.", AROUND.format(COPIES[copy])])
    assert clean["pass"]
    assert clean["num_questions"] == 0
    assert clean["items"] is None
    assert not row["pass"]
    assert (row["reason"], row["value"], row["threshold"]) == ("question_and_answer", 1, 0.8)
    assert (row["task"], row["item"], row["items"]) == ("geese", "geese.jsonl:1", ["geese/geese.jsonl:1"])
    assert AROUND.format(COPIES[copy]).find(row["match"]) == AROUND.index("{")
    assert row["num_items"] == 1


def test_one_edited_word_is_the_known_miss_and_coverage_finds_it(run: Any) -> None:
    row = run([ITEM], [AROUND.format(EDITED)])[0]
    assert row["pass"]
    assert run([ITEM], [AROUND.format(EDITED)], threshold=0.6)[0]["value"] == pytest.approx(16 / 21, abs=0.01)
    row = run([ITEM], [AROUND.format(EDITED)], method="coverage")[0]
    assert (row["pass"], row["reason"], row["threshold"]) == (False, "coverage", 0.5)
    assert row["value"] == pytest.approx(24 / 25)


def test_coverage_is_the_share_of_words_that_one_document_covers(run: Any) -> None:
    words = [f"word{chr(97 + i)}" for i in range(20)]
    item = {"question": " ".join(words), "answer": "none"}
    texts = [" ".join(words[3:15]), " ".join(words[3:13]), " ".join([*words[:7], "x", *words[7:14]])]
    found = run([item], texts, method="coverage")
    assert [row["pass"] for row in found] == [False, True, True]
    assert found[0]["value"] == 12 / 20  # 10 of 20 are not above a half; runs of 7 hold no n-gram
    apart = " ".join(words[:8]) + " x" * 500 + " " + " ".join(words[12:])
    assert run([item], [apart], method="coverage")[0]["value"] == 16 / 20
    row = run([item], [apart], threshold=0.2, require_answer=False)[0]  # together, not the sum of both ends
    assert row["value"] == pytest.approx(4 / 16)


def test_the_answer_must_stand_near(run: Any) -> None:
    filler = "and so on " * 20
    texts = [
        QUESTION,
        f"{QUESTION} {filler} 48 crowns",
        f"48 crowns! {QUESTION}",
        f"{QUESTION} It is 48 crowns.",
    ]
    found = run([ITEM], texts)
    assert [row["pass"] for row in found] == [True, True, False, False]
    assert [row["num_questions"] for row in found] == [1, 1, 1, 1]
    assert not run([ITEM], texts[1:2], answer_window=60)[0]["pass"]
    assert not run([ITEM], texts[:1], require_answer=False)[0]["pass"]
    assert run([{"question": QUESTION}], texts[:1])[0]["reason"] == "question"
    within = {"question": QUESTION, "answer": "crowns"}  # twice in the question itself
    assert [row["pass"] for row in run([within], [QUESTION, f"{QUESTION} crowns"])] == [True, False]


def test_the_answer_may_stand_near_a_later_copy(run: Any) -> None:
    """A sheet of questions, and further down the same with solutions."""
    for filler in ("and so on " * 60, "", "next: "):
        sheet = f"{QUESTION} {filler}" * 3
        row, alone = run(
            [ITEM], [f"{sheet}{'so on ' * 60}{QUESTION} 48 crowns {'so on ' * 60}{QUESTION}", sheet]
        )
        assert (row["pass"], row["reason"], row["value"]) == (False, "question_and_answer", 1.0)
        assert (row["num_items"], row["num_questions"]) == (1, 1)
        assert (alone["pass"], alone["num_questions"]) == (True, 1)


def test_long_answers_by_half_of_their_ngrams(run: Any) -> None:
    answer = " ".join(f"step{chr(97 + i)}" for i in range(24))
    half = answer.split()[:15]
    texts = [f"{QUESTION} {' '.join(half)}", f"{QUESTION} {' '.join(half[:12])}"]
    assert [row["pass"] for row in run([{**ITEM, "answer": answer}], texts)] == [False, True]


def test_any_form_of_the_answer_counts(run: Any) -> None:
    for answer, text in ((["forty", "48"], "48"), (48.0, "48"), ("12 * 4 = 48 in all\n#### 48", "= 48")):
        assert not run([{**ITEM, "answer": answer}], [f"{QUESTION} {text}"])[0]["pass"]
    choice = {"question": QUESTION, "choices": ["a goose", "48 crowns"], "gold": "B"}
    assert not run([choice], [f"{QUESTION} 48 crowns"])[0]["pass"]


def test_a_passage_alone_never_drops(run: Any) -> None:
    passage = "The market of Harrowgate opens on every ninth day, when the geese come down from the hills in long rows."
    rows = [{**ITEM, "passage": passage}]
    found = run(rows, [f"{passage} 48 crowns", f"{passage} {QUESTION} 48 crowns"])
    assert [(row["pass"], row["num_passages"]) for row in found] == [(True, 1), (False, 1)]
    inside = [{"query": f"{passage}\nQuestion: {QUESTION}\nAnswer: ", "answer": "48 crowns"}]
    assert [row["pass"] for row in run(inside, [f"{passage} 48 crowns", COPIES["verbatim"]])] == [True, False]


def test_what_all_items_share_weighs_little(run: Any) -> None:
    frame = "Given the sentence below choose the one language of the four that it was written in"
    rows = [
        {"question": f"{frame} {word * 3} {word * 2} {word}", "answer": "A"}
        for word in map(chr, range(97, 117))
    ]
    found = run(rows, [f"{frame} A", f"{frame} ccc cc c A"], threshold=0.4)
    assert [row["num_items"] for row in found] == [0, 1]
    assert found[1]["item"] == "geese.jsonl:3"


def test_short_questions_whole_or_beside_their_answer(run: Any, tmp_path: Path) -> None:
    solution = "hold the pan under cold water and turn it twice"
    rows = [
        {"question": "cool the pan down now"},
        {"question": "cool a pan", "answer": solution},
        {"question": "cool it", "answer": "with ice"},
    ]
    texts = ["Cool the pan down now!", "cool the pan down nowadays", f"How to cool a pan: {solution}", solution,
             "cool it with ice"]  # fmt: skip
    found = run(rows, texts, ngram=6)
    assert [row["item"] for row in found] == ["geese.jsonl:1", None, "geese.jsonl:2", None, None]
    assert run(rows, [solution], ngram=6, require_answer=False)[0]["pass"]  # an answer alone is no item
    config = Config(sets=(Set(path=str(tmp_path / "geese.jsonl")),), ngram=6)
    assert notes(config) == ["geese: 3 items; 1 of them cannot be found: too few words"]


@pytest.mark.parametrize("method", ["rarity", "coverage", "window", "datatrove"])
def test_items_that_cannot_be_found_are_those_without_ngrams(tmp_path: Path, method: Any) -> None:
    """Counted from their lengths, and with a reference from the index that is left."""
    path, reference = tmp_path / "geese.jsonl", tmp_path / "reference.jsonl"
    words = " ".join(f"word{i}" for i in range(12))
    rows = [{"question": "how", "answer": "so"}, {"question": f"why {words}", "answer": "geese"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, ITEM]))
    reference.write_text((json.dumps({"text": f"why {words} geese"}) + "\n") * 3)
    for common, lost in (({}, 1), ({"reference": str(reference), "max_reference_documents": 2}, 2)):
        config = Config(sets=(Set(path=str(path)),), method=method, **common)
        items = load(config, tmp_path / "store")
        sought = items.ngrams.totals[: items.num_questions] > 0
        assert 3 - len(set(items.owners[: items.num_questions][sought].tolist())) == lost
        assert notes(config)[0].startswith(f"geese: 3 items; {lost} of them cannot be found")


def test_a_file_is_read_as_far_as_rows_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "reference.jsonl.gz"
    lines = "".join(json.dumps({"text": os.urandom(40).hex()}) + "\n" for _ in range(50_000))
    path.write_bytes(gzip.compress(b"\xef\xbb\xbf" + lines.encode())[:-1000])
    rows = _evaluation.rows(path)
    assert [next(rows) for _ in range(1000)] == [json.loads(line) for line in lines.split("\n")[:1000]]
    with pytest.raises(DataError, match="cannot unpack"):
        list(rows)


WORDS = [f"w{a}{b}" for a in "abcdefghij" for b in "abcdefghij"]


def test_window_cuts_around_each_ngram(run: Any) -> None:
    item = {"question": " ".join(WORDS[:13]), "answer": WORDS[13]}
    hit, rest = " ".join(WORDS[1:16]), "é, " * 300
    text = f"{rest}{hit} {rest}"
    row = run([item], [text, rest, None], method="window", keep_original=True)
    assert [r["pass"] for r in row] == [True, True, True]
    behind = text.index(WORDS[13]) + len(WORDS[13]) + 200
    assert row[0]["text"] == f"{text[: len(rest) - 200].strip()}\n\n{text[behind:].strip()}"
    assert (row[0]["num_pieces"], row[0]["original"], row[0]["items"]) == (2, text, ["geese/geese.jsonl:1"])
    assert (row[1]["text"], row[1]["removed_chars"], row[1]["num_pieces"]) == (rest, 0, 1)
    assert (row[2]["text"], row[2]["num_items"]) == (None, None)
    again = run([item], [row[0]["text"]], method="window")[0]
    assert (again["num_items"], again["text"]) == (0, row[0]["text"])


def test_window_drops_what_falls_apart(run: Any) -> None:
    item = {"question": " ".join(WORDS[:14])}
    hit, rest = " ".join(WORDS[:14]), " and" * 200
    texts = [f"{hit}{rest} " * 10 + hit, f"{hit}{rest} " * 11 + hit, f"short {hit}"]
    found = run([item], texts, method="window")
    assert [row["reason"] for row in found] == [None, "too_many_pieces", "nothing_left"]
    assert (found[1]["value"], found[1]["threshold"], found[1]["text"]) == (11, 10, texts[1])
    assert found[2]["text"] == texts[2]


def test_ngrams_common_in_the_reference_do_not_count(run: Any, tmp_path: Path) -> None:
    reference = tmp_path / "reference.jsonl.gz"
    reference.write_bytes(gzip.compress((json.dumps({"text": QUESTION}) + "\n").encode() * 11))
    for method in ("rarity", "coverage", "datatrove", "window"):
        text = "x " * 400 + COPIES["verbatim"] + " x" * 400
        options: dict[str, Any] = {"method": method, "ngram": 5}
        assert run([ITEM], [text], **options)[0]["num_items"] == 1
        left = run([ITEM], [text], reference=str(reference), **options)[0]["num_items"]
        assert left == (0 if method in ("rarity", "coverage") else 1)  # those with the answer are not in it
        assert (
            run([ITEM], [text], reference=str(reference), max_reference_documents=11, **options)[0][
                "num_items"
            ]
            == 1
        )
    reference.write_bytes(gzip.compress(b'{"text": "a"}\n{"title": "a"}\n'))
    with pytest.raises(DataError, match=r"reference.jsonl.gz:2: a document of the reference has no text"):
        run([ITEM], ["a"], reference=str(reference))


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        (['{"question": "a b"}', '{"query": "c"}'], ":2: the item has no column `question`"),
        (['{"question": null}'], ":1: the item's question, `question`, is None"),
        (['{"question": " "}'], ":1: the item's question"),
        (['{"question": "a"}', "nonsense"], ":2: an item that is no JSON object"),
        (['{"question": "a"}', "[1]"], ":2: an item that is no JSON object"),
        (['{"question": "a", "answer": null}'], ":1: the item's answer, `answer`, is null"),
        (['{"question": "a", "choices": ["b"], "gold": 1}'], ":1: the item's answer, `gold`, is 1, none of"),
        (['{"question": "a", "choices": ["b"], "gold": -1}'], "none of its choices"),
        (
            ['{"question": "a", "answers": ["b", null]}'],
            ":1: the item's answer, `answers`, is ['b', None], no",
        ),
        (['{"question": "a", "answer": {"aliases": ["b"]}}'], ":1: the item's answer, `answer`, is {"),
        (['{"question": "a", "answer": "B", "options": "A) b B) c"}'], ":1: the item's choices are 'A) b"),
        (
            ['{"question": "a", "answer": 0, "choices": ["b", null]}'],
            ":1: the item's choices are ['b', None]",
        ),
        (['{"question": "a", "passage": 3}'], ":1: the item's passage is 3"),
        ([""], ": the evaluation set holds no item"),
    ],
)
def test_an_item_that_cannot_be_read_is_an_error(tmp_path: Path, lines: list[str], what: str) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text("\n".join(lines))
    one = Set(path=str(file), question="question" if "query" in "".join(lines) else "")
    with pytest.raises(DataError) as caught:
        load(Config(sets=(one,)), tmp_path)
    assert f"{file}{what}" in str(caught.value) or what in str(caught.value)


@pytest.mark.parametrize(
    ("choices", "gold", "answers"),
    [
        (["red", "blue"], 1, ["blue"]),
        (["red", "blue"], "B", ["blue"]),
        (["red", "blue"], "blue", ["blue"]),
        ([3, 4, 5], 1, ["4"]),
        ([3, 4, 5], 5, ["5"]),
        (["red", "blue", "green"], [0, 2], ["red", "green"]),
        ({"text": ["red", "blue"], "label": ["1", "2"]}, "1", ["red"]),
        ({"A": "red", "B": "blue"}, "B", ["blue"]),
        ({"A": "red", "B": "blue"}, "blue", ["blue"]),
        ([{"label": "A", "text": "red"}, {"label": "B", "text": "blue"}], "A", ["red"]),
    ],
)
def test_choices_in_the_shapes_of_known_sets(tmp_path: Path, choices: Any, gold: Any, answers: Any) -> None:
    file = tmp_path / "set.jsonl"
    file.write_text(json.dumps({"question": "a b", "choices": choices, "answer": gold}))
    assert [item.answers for item in items([Set(path=str(file))])] == [answers]


def test_options_and_files_are_checked(tmp_path: Path) -> None:
    one = (Set(path=str(tmp_path / "none.jsonl")),)
    with pytest.raises(ConfigError, match="no such evaluation set"):
        list_files(Config(sets=one))
    with pytest.raises(ConfigError, match="no evaluation set was given"):
        Config(sets=())
    for option in ({"ngram": 1}, {"threshold": 1.0}, {"min_words": 0}, {"window_chars": -1}):
        with pytest.raises(ConfigError, match=next(iter(option))):
            Config(sets=one, **option)


def test_sets_in_every_format_and_in_folders_are_the_same(tmp_path: Path) -> None:
    rows = [{"prompt": f"question {i}", "solution": f"a {i}", "context": f"passage {i}"} for i in range(3)]
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + lines)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines))
    (tmp_path / "a.jsonl.zst").write_bytes(zstandard.compress(lines))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    found = [[item[2:] for item in items([Set(path=str(file))])] for file in sorted(tmp_path.iterdir())]
    assert found == [[(f"question {i}", [f"a {i}"], f"passage {i}") for i in range(3)]] * 4
    whole = list(
        items([Set(path=str(tmp_path), task="all", question="context", answer="none", passage="none")])
    )
    assert [item[0] for item in whole] == ["all"] * 12
    assert whole[0][2:] == ("passage 0", [], "")


def test_files_of_one_name_in_two_folders_are_two_tasks(tmp_path: Path) -> None:
    for task in ("arc", "boolq"):
        (tmp_path / task).mkdir()
        (tmp_path / task / "test.jsonl").write_text(json.dumps({"question": f"{task}?", "answer": "yes"}))
    (tmp_path / "piqa.val.jsonl").write_text(json.dumps({"question": "piqa?", "answer": "no"}))
    found = [(item.task, item.name) for item in items([Set(path=str(tmp_path))])]
    assert found == [
        ("arc/test", "test.jsonl:1"),
        ("boolq/test", "test.jsonl:1"),
        ("piqa", "piqa.val.jsonl:1"),
    ]


def slow_words(text: str) -> list[str]:
    """Words as the kernel's docstring has them, by the standard library."""
    from curate.kernels import unicode

    found, open_word = [], False
    for c in text:
        category = unicodedata.category(c)
        if category in ("Mn", "Me", "Cf"):
            continue
        if unicode.kind_of(c) == unicode.ALONE:
            found.append(c)
            open_word = False
            continue
        if category[0] not in "LN" and category != "Mc":
            open_word = False
            continue
        bare = [p for p in unicodedata.normalize("NFD", c.lower()[0]) if unicodedata.category(p) != "Mn"]
        folded = {"ς": "σ"}.get(c, bare[0] if len(bare) == 1 else c.lower()[0])
        if open_word:
            found[-1] += folded
        else:
            found.append(folded)
        open_word = True
    return found


LETTERS = "aAbé\u0301ÉßİıςΣ 本ばก้_1.\U00010400Ⱥ한\u00ad²"


@settings(max_examples=300, deadline=None)
@given(texts=st.lists(st.text(LETTERS, max_size=20) | st.text(max_size=20), min_size=1, max_size=5))
def test_words_are_those_of_slow_python(texts: list[str]) -> None:
    from curate.kernels.ngrams import words
    from curate.schema import text_buffers

    found = words(*text_buffers(pa.array(texts, pa.large_string())))
    slow = [slow_words(text) for text in texts]
    assert np.diff(found.offsets).tolist() == [len(some) for some in slow]
    known: dict[str, int] = {}
    for word, hashed in zip((w for some in slow for w in some), found.hashes.tolist(), strict=True):
        assert known.setdefault(word, hashed) == hashed
    assert len(set(known.values())) == len(known)


def slow_score(question: list[str], text: list[str], weights: dict[tuple[str, ...], float], n: int) -> float:
    """Rarity of the question's n-grams in the best stretch of twice its length, as a share of all."""
    grams = {tuple(question[i : i + n]) for i in range(len(question) - n + 1)}
    span, best = 2 * max(len(question), n), 0.0
    for start in range(len(text)):
        place = text[start : start + span]
        held = {tuple(place[i : i + n]) for i in range(len(place) - n + 1)} & grams
        best = max(best, sum(weights[g] for g in held))
    return best / sum(weights[g] for g in grams)


@settings(max_examples=150, deadline=None)
@given(
    questions=st.lists(st.lists(st.sampled_from("abc"), min_size=2, max_size=7), min_size=1, max_size=4),
    texts=st.lists(st.lists(st.sampled_from("abcd"), max_size=40), min_size=1, max_size=3),
    n=st.integers(2, 3),
)
def test_scores_are_those_of_slow_python(
    tmp_path_factory: pytest.TempPathFactory, questions: list[list[str]], texts: list[list[str]], n: int
) -> None:
    folder = tmp_path_factory.mktemp("slow")
    file = folder / "set.jsonl"
    file.write_text("".join(json.dumps({"question": " ".join(q)}) + "\n" for q in questions))
    config = Config(sets=(Set(path=str(file)),), ngram=n, min_words=2, threshold=0.0)
    batch = pa.record_batch({"text": pa.array([" ".join(t) for t in texts], CORE["text"])})
    out = decontaminate(batch, config, load(config, folder)).to_pylist()
    sized = [(q, min(n, len(q))) for q in questions]
    held = [{tuple(q[i : i + k]) for i in range(len(q) - k + 1)} for q, k in sized]
    weights = {g: float(np.log((len(held) + 1) / sum(g in h for h in held))) for some in held for g in some}
    for row, text in zip(out, texts, strict=True):
        scores = [slow_score(q, text, weights, k) for q, k in sized]
        assert row["decontaminate_num_items"] == sum(score > 0 for score in scores)
        if any(scores):
            assert row["decontaminate_value"] == pytest.approx(max(scores))


def test_decisions_are_those_of_datatrove(run: Any, tmp_path: Path) -> None:
    from datatrove.data import Document
    from datatrove.pipeline.decont.n_grams import NGramsDecontFilter
    from datatrove.utils.hashing import create_hash_func

    block = NGramsDecontFilter(str(tmp_path / "index"))
    hashed, n = create_hash_func(block.config.hash_config), block.config.n_grams
    rng = np.random.default_rng(0)
    names = [
        "apple",
        "bridge",
        "castle",
        "dragon",
        "engine",
        "forest",
        "garden",
        "harbor",
        "island",
        "jungle",
    ]
    rows, grams = [], set()
    for _ in range(30):
        question, answer = (
            list(rng.choice(names, size)) for size in (rng.integers(3, 20), rng.integers(1, 20))
        )
        rows.append({"question": " ".join(question), "answer": " ".join(answer)})
        both = question[max(0, len(question) - n + 1) :] + answer
        grams |= {" ".join(both[i : i + n]) for i in range(len(both) - n + 1)}
    (tmp_path / "index").mkdir()
    np.array([hashed(gram) for gram in grams], np.uint64).tofile(tmp_path / "index/set.index.hashes")
    texts = []
    for row in rows * 2:
        words = f"{row['question']} {row['answer']}".split()
        cut = words[rng.integers(0, 8) : len(words) - rng.integers(0, 8)]
        texts.append(" ".join([*rng.choice(names, 3), *cut, *rng.choice(names, 3)]))
    ours = [row["pass"] for row in run(rows, texts, method="datatrove")]
    theirs = [block.filter(Document(text=text, id="")) is True for text in texts]
    assert 10 < sum(ours) < 50
    assert ours == theirs


@pytest.fixture(scope="module")
def real(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Any]:
    config = Config(sets=(Set(path=str(shared_data / "eval")),))
    return config, load(config, tmp_path_factory.mktemp("store"))


@pytest.mark.slow
def test_every_real_item_is_read_and_found_in_its_copy(real: tuple[Config, Any]) -> None:
    config, sought = real
    every = list(items(config.sets))
    assert len(every) == 82_344
    counts = count(config)
    assert sum(task["items"] for task in counts.values()) == len(every)
    some = every[::40]
    texts = [f"An exam.\n\n{item.question.upper()}\n\nAnswer: {(item.answers or ['?'])[-1]}" for item in some]
    out = decontaminate(pa.record_batch({"text": pa.array(texts, CORE["text"])}), config, sought)
    missed = [
        item.name
        for item, found in zip(some, out["decontaminate_items"].to_pylist(), strict=True)
        if f"{item.task}/{item.name}" not in (found or [])
    ]
    unmatchable = sum(task["unmatchable"] for task in counts.values()) / len(every)
    assert len(missed) / len(some) < unmatchable + 0.01


@pytest.mark.slow
def test_clean_text_has_no_hits(real: tuple[Config, Any], shared_data: Path) -> None:
    config, sought = real
    for name in ("en_18f_blog", "en_openstax_principles-economics-bundle", "en_nltk_reviews_speeches"):
        table = pq.read_table(shared_data / f"text/{name}.parquet", columns=["text"]).combine_chunks()
        out = decontaminate(table.to_batches()[0], config, sought)
        assert set(out["decontaminate_pass"].to_pylist()) == {True}


def test_a_run_reports_by_task_and_a_second_finds_none(tmp_path: Path) -> None:
    sets = [{"path": str(Path(__file__).parent / "lists/items.jsonl")}]
    rows = [json.loads(line) for line in Path(sets[0]["path"]).read_text().splitlines()]
    exam = "\n".join(
        f"{row.get('question', row.get('query'))} It is {row.get('answer', 'clear the lower lock')}."
        for row in rows
    )
    first = f"{rows[0]['question']} {rows[0]['answer']}"
    texts = [exam, first, "Nothing of it.", rows[2]["passage"]]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))

    def run_as(name: str, path: Path) -> Any:
        step = {"stage": "decontaminate", "name": name, "sets": sets}
        output = {"path": str(tmp_path / name)}
        stages = [step, {"select": f"{name}_pass"}]
        return curate.run({"name": name, "input": {"path": str(path)}, "stages": stages, "output": output})

    run_as("one", tmp_path / "in.jsonl")
    by_task = query(open_dataset(tmp_path / "one"), """
        select regexp_extract(item, '^(.*)/', 1) as task, count(distinct item), count(distinct id)
        from (select id, unnest(one_items) as item from dropped) group by task order by task
    """)  # fmt: skip
    assert [tuple(row.values()) for row in by_task.read_all().to_pylist()] == [
        ("boats", 1, 1),
        ("rivers", 2, 2),
    ]
    assert run_as("two", tmp_path / "one").rows.kept == 2
