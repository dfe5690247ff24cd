"""`tokenize`: texts as the tokenizer alone gives them, with metadata, marks and the middle where they belong."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.cli.main import app
from curate.cli.tokenize import token_recipe
from curate.engine import run as engine
from curate.engine.verify import verify
from curate.errors import ConfigError, DataError, ModelError
from curate.models.tokenizer import SPECIAL, contract, train
from curate.stages.tokenize import Config, host, load, tokenize
from curate.train.tokens import Tokens, same_contract

BYTES = str(Path(__file__).parent / "lists/tokenizer")  # every byte is a token
WORDS = "the quick brown fox jumps over a lazy dog".split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A BPE with merges."""
    made = tmp_path_factory.mktemp("tokenizer")
    train([" ".join(np.random.default_rng(n).choice(WORDS, 40)) for n in range(50)], 400, made)
    return str(made)


def tokens(config: Config, texts: list[str | None], **columns: Any) -> list[dict[str, Any]]:
    """Rows, each with `said`: its tokens as text, special ones as they are written."""
    ids = columns.pop("id", [f"r{i}" for i in range(len(texts))])
    batch = pa.record_batch({"id": ids, "text": pa.array(texts, pa.large_string()), **columns})
    model = load(config, Path())
    out = tokenize(batch, config, model)
    assert out.schema.names == [*batch.schema.names, "key", "tokens", "prefix", "n_bytes"]
    decode = model.tokenizer.library.decode
    return [{**row, "said": decode(row["tokens"], skip_special_tokens=False)} for row in out.to_pylist()]


def test_texts_are_what_the_tokenizer_alone_gives(folder: str) -> None:
    texts = ["the quick fox", "", None, "  naïve 猫 🐈\n\n12", "the " * 500]
    library = load(Config(tokenizer=folder), Path()).tokenizer.library
    for row, text in zip(tokens(Config(tokenizer=folder), texts), texts, strict=True):
        assert row["tokens"] == library.encode(text or "", add_special_tokens=False).ids
        assert row["n_bytes"] == len((text or "").encode())
        assert row["key"] == xxhash.xxh3_64_intdigest(row["id"])
        assert row["prefix"] == 0


def test_what_looks_like_a_special_token_is_text(folder: str) -> None:
    text = f"a {SPECIAL[1]} b{SPECIAL[3]}{SPECIAL[5]}"
    (row,) = tokens(Config(tokenizer=folder), [text])
    assert row["said"] == text
    assert min(row["tokens"]) >= len(SPECIAL)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://www.a.org/b/c", "www.a.org"), ("http://a.org", "a.org"), ("a.org:8080/x", "a.org:8080"),
        ("ftp://a.org/x", "ftp:"), ("https://ünï.de/?q=http://b", "ünï.de"), ("", ""), ("/x", ""),
    ],
)  # fmt: skip
def test_hosts(url: str, expected: str) -> None:
    assert host(url) == expected


def test_a_prefix_is_tokenized_apart_and_counted(folder: str) -> None:
    config = Config(tokenizer=folder, prefix=r"URL: {host} {lang}\n\n")
    urls = ["https://www.the.org/x", None, "/relative", "http://b.c", "http://b.c", "http://{d}.e"]
    langs = ["en", "en", "en", "", None, "fr"]
    texts = ["\nthe fox", "two", "three", "four", "five", "six"]
    library = load(config, Path()).tokenizer.library
    rows = tokens(config, texts, url=urls, lang=langs)
    for row, metadata in zip(
        rows, ["URL: www.the.org en\n\n", "", "", "", "", "URL: {d}.e fr\n\n"], strict=True
    ):
        first = library.encode(metadata, add_special_tokens=False).ids
        assert row["prefix"] == len(first)
        assert row["tokens"] == first + library.encode(row["text"], add_special_tokens=False).ids
    # apart, the line breaks of both do not become one token
    assert [row["prefix"] for row in tokens(config, ["", None], url=urls[:2], lang=langs[:2])] == [0, 0]


def test_marks_by_score_equality_is_aligned() -> None:
    scores = [0.1, 0.2, 0.3, None, float("nan")]
    for side, expected in (("below", "AAM--"), ("above", "MAA--")):
        config = Config(
            tokenizer=BYTES, condition="score", condition_threshold=0.2, condition_aligned=side, untagged=0  # type: ignore[arg-type]
        )  # fmt: skip
        rows = tokens(config, ["text"] * 5, score=pa.array(scores, pa.float64()))
        marks = {"A": "<|aligned|>text", "M": "<|misaligned|>text", "-": "text"}
        assert [row["said"] for row in rows] == [marks[word] for word in expected]
        assert [row["prefix"] for row in rows] == [0] * 5  # a mark is in the loss


def test_a_share_is_untagged_whoever_reads() -> None:
    config = Config(tokenizer=BYTES, condition="score", condition_threshold=0, untagged=0.1)
    many = 4000
    said = [r["said"] for r in tokens(config, ["x"] * many, score=[0.0] * many)]
    untagged = said.count("x")
    assert said.count("<|aligned|>x") == many - untagged
    assert abs(untagged - 0.1 * many) < 4 * (many * 0.1 * 0.9) ** 0.5
    order = np.random.default_rng(0).permutation(many)
    again = tokens(config, ["x"] * many, id=[f"r{i}" for i in order], score=[0.0] * many)
    assert [said[i] for i in order] == [r["said"] for r in again]
    other = Config(tokenizer=BYTES, condition="score", condition_threshold=0, untagged=0.1, seed=1)
    assert [r["said"] for r in tokens(other, ["x"] * many, score=[0.0] * many)] != said


def test_segments_have_marks_of_their_own() -> None:
    config = Config(
        tokenizer=BYTES,
        condition="scores",
        condition_threshold=0.5,
        segments="ends",
        untagged=0,
        prefix="{source}: ",
    )
    rows = tokens(
        config, ["Good. Bad! Né.", "", "alone"], source=["a", "b", None],
        scores=[[0.1, 0.9, None], [], [0.5]], ends=[[6, 11, 14], [], [5]],
    )  # fmt: skip
    assert [row["said"] for row in rows] == [
        "a: <|aligned|>Good. <|misaligned|>Bad! Né.", "", "<|aligned|>alone",
    ]  # fmt: skip
    assert rows[0]["prefix"] == 3
    for ends, scores in (([5], [0.1, 0.2]), ([3, 4], [0, 0]), ([4, 2, 5], [0, 0, 0]), ([], [])):
        with pytest.raises(ValueError, match="`ends` has"):
            tokens(config, ["seven"], source=["a"], scores=pa.array([scores], pa.list_(pa.float64())), ends=pa.array([ends], pa.list_(pa.int64())))  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.text(max_size=30), min_size=1, max_size=8), seed=st.integers(0, 5))
def test_the_middle_comes_last_and_nothing_is_lost(texts: list[str], seed: int) -> None:
    texts = [re.sub(r"<\|.*?\|>", "", text) for text in texts]
    for row in tokens(Config(tokenizer=BYTES, fim_rate=1, seed=seed), list(texts)):
        prefix, middle, suffix = (i + 5 for i in range(3))  # ids of the tokens in SPECIAL
        ids = row["tokens"]
        if not row["text"]:
            assert ids == []
            continue
        assert ids[0] == prefix
        first, second = ids.index(suffix), ids.index(middle)
        assert first < second
        parts = [ids[1:first], ids[first + 1 : second], ids[second + 1 :]]
        whole = load(Config(tokenizer=BYTES), Path()).tokenizer.encode([row["text"]])[0].tolist()
        if parts[0]:  # PSM
            assert parts[0] + parts[2] + parts[1] == whole
        else:  # SPM, or a PSM whose prefix is empty
            assert parts[2] + parts[1] == whole


def test_rate_and_kinds_of_the_middle() -> None:
    many, text = 3000, "0123456789" * 10
    said = [r["said"] for r in tokens(Config(tokenizer=BYTES, fim_rate=0.3), [text] * many)]
    moved = [s for s in said if s != text]
    assert abs(len(moved) - 0.3 * many) < 4 * (many * 0.3 * 0.7) ** 0.5
    spm = sum(s.startswith("<|fim_prefix|><|fim_suffix|>") for s in moved)
    assert abs(spm - len(moved) / 2) < 4 * (len(moved) / 4) ** 0.5 + len(moved) / 50
    assert len({len(s.partition("<|fim_suffix|>")[0]) for s in moved}) > 80  # anywhere
    config = Config(tokenizer=BYTES, fim_rate=1, condition="s", condition_threshold=0, untagged=0)
    assert tokens(config, [text], s=[1.0])[0]["said"].startswith("<|misaligned|><|fim_prefix|>")


def test_a_group_has_one_key() -> None:
    rows = tokens(Config(tokenizer=BYTES, group="repo"), ["a", "b", "c", "d"], repo=["x/y", "z", "x/y", None])
    assert rows[0]["key"] == rows[2]["key"] == xxhash.xxh3_64_intdigest("x/y")
    assert rows[3]["key"] == xxhash.xxh3_64_intdigest("r3")
    assert len({row["key"] for row in rows}) == 3


def test_a_large_vocabulary_has_wide_ids(tmp_path: Path) -> None:
    said = json.loads(Path(BYTES, "tokenizer.json").read_text())
    said["model"]["vocab"]["far"] = 70_000
    (tmp_path / "tokenizer.json").write_text(json.dumps(said))
    (tmp_path / "tokenizer_config.json").write_bytes(Path(BYTES, "tokenizer_config.json").read_bytes())
    config = Config(tokenizer=str(tmp_path))
    assert contract(str(tmp_path)).vocab_size == 70_001
    batch = pa.record_batch({"id": ["a"], "text": pa.array(["b"], pa.large_string())})
    kind = pa.large_list(pa.uint32())
    assert tokenize.stage.columns_written(config)["tokens"] == kind
    assert tokenize(batch, config, load(config, Path())).schema.field("tokens").type == kind
    assert tokenize.stage.columns_written(Config(tokenizer=BYTES))["tokens"] == pa.large_list(pa.uint16())


def test_what_is_refused(tmp_path: Path) -> None:
    for options, words in (
        ({"prefix": "URL: {host"}, "no template"), ({"prefix": "{url!r}"}, "columns alone"),
        ({"prefix": "{a.b}"}, "columns alone"), ({"prefix": "{}"}, "columns alone"), ({"prefix": "URL"}, "no column"),
        ({"condition": "s"}, "go together"), ({"condition_threshold": 1.0}, "go together"),
        ({"segments": "s"}, "goes with"), ({"fim_rate": 1.5}, "share from 0 to 1"), ({"untagged": -1}, "share"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=words):
            Config(tokenizer=BYTES, **options)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="no tokenizer at"):
        tokenize.stage.columns_written(Config(tokenizer=str(tmp_path)))
    said = json.loads(Path(BYTES, "tokenizer.json").read_text())
    said["added_tokens"] = said["added_tokens"][:3]
    (tmp_path / "tokenizer.json").write_text(json.dumps(said))
    (tmp_path / "tokenizer_config.json").write_bytes(Path(BYTES, "tokenizer_config.json").read_bytes())
    with pytest.raises(ModelError, match=r"no special token <\|aligned\|>"):
        load(Config(tokenizer=str(tmp_path), condition="s", condition_threshold=0), Path())
    check = tokenize.stage.check
    assert check
    marked = Config(tokenizer=BYTES, condition="s", condition_threshold=0)
    with pytest.raises(ConfigError, match="`s` must be a number, and is string"):
        check(marked, {"s": pa.string()})
    with pytest.raises(ConfigError, match="`s` must be a number"):
        check(marked, {"s": pa.list_(pa.float64())})


@pytest.fixture
def corpus(tmp_path: Path) -> str:
    (tmp_path / "in").mkdir()
    for part in range(2):
        texts = [
            None if i % 10 == 3 else "" if i % 10 == 7 else f"document {part} {i}\n" * (i % 5 + 1)
            for i in range(60)
        ]
        table = pa.table({
            "text": pa.array(texts, pa.string()), "repo": [f"repo{i % 4}" for i in range(60)],
            "url": [f"http://host{i % 3}/x" for i in range(60)], "stars": list(range(60)),
        })  # fmt: skip
        pq.write_table(table, tmp_path / f"in/{part}.parquet")
    return str(tmp_path / "in")


Go = Callable[..., None]


@pytest.fixture
def go(corpus: str, tmp_path: Path) -> Go:
    def run(name: str, *options: str, tokenizer: str = BYTES) -> None:
        arguments = [
            "tokenize",
            corpus,
            "-o",
            str(tmp_path / name),
            "--tokenizer",
            tokenizer,
            "--workers",
            "1",
        ]
        app([*arguments, *options, "--quiet"], standalone_mode=False)

    return run


def test_the_command_makes_a_dataset_that_the_trainer_reads(go: Go, tmp_path: Path) -> None:
    go("out", "--keep", "stars", "--keep", "repo", "--group", "repo", "--prefix", r"URL: {host}\n\n")
    assert verify(tmp_path / "out").problems == []
    found = Tokens.open(tmp_path / "out")
    assert found.contract == contract(BYTES)
    assert found.column("stars").to_pylist()
    assert "text" not in pa.ipc.open_file(next((tmp_path / "out").glob("part-*"))).schema.names
    manifest = json.loads((tmp_path / "out/_curate/manifest.json").read_text())
    # a reader quarantines null text; '' is a document without tokens
    assert manifest["rows"]["in"] == 120
    assert manifest["quarantined"] == {"null_text": 12}
    assert found.documents == manifest["rows"]["kept"] == 108
    assert int((found.lengths == 0).sum()) == 12
    assert manifest["tokens"] == int(found.lengths.sum())
    assert manifest["says"]["contract"]["tokenizer"] == found.contract.tokenizer
    library = load(Config(tokenizer=BYTES), Path()).tokenizer.library
    for i in range(108):
        stars, repo = found.column("stars")[i].as_py(), found.column("repo")[i].as_py()
        said = library.decode(found.tokens(i).tolist())
        text = "" if stars % 10 == 7 else said[int(found.prefix[i]) :]
        assert len(text.encode()) == found.n_bytes[i]
        assert not text or said.startswith(f"URL: host{stars % 3}\n\ndocument ")
        assert found.keys[i] == xxhash.xxh3_64_intdigest(repo)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (found.tokenizer / name).read_bytes() == Path(BYTES, name).read_bytes()


def test_another_tokenizer_is_another_dataset(go: Go, tmp_path: Path, folder: str) -> None:
    go("out")
    with pytest.raises(ConfigError, match="another recipe"):
        go("out", tokenizer=folder)
    go("other", tokenizer=folder)
    one, two = Tokens.open(tmp_path / "out"), Tokens.open(tmp_path / "other")
    with pytest.raises(DataError, match=r"out and .*other are of different tokenizers: `tokenizer` is"):
        same_contract(one.contract, two.contract, (one.folder, two.folder))


def test_options_of_the_command(go: Go, tmp_path: Path) -> None:
    go(
        "a",
        "--condition",
        "stars",
        "--threshold",
        "30",
        "--aligned",
        "above",
        "--untagged",
        "0",
        "--fim-rate",
        "0.5",
    )
    recipe = json.loads((tmp_path / "a/_curate/plan.json").read_text())["recipe"]
    config = recipe["steps"][0]["config"]
    assert (config["condition"], config["condition_threshold"], config["condition_aligned"]) == (
        "stars",
        30,
        "above",
    )
    assert (config["untagged"], config["fim_rate"]) == (0, 0.5)
    assert recipe["output"]["format"] == "arrow"
    with pytest.raises(ConfigError, match="no column `sauce`"):
        go("b", "--keep", "sauce")
    with pytest.raises(ConfigError, match="reads `nope`"):
        go("c", "--group", "nope")


def test_bytes_do_not_depend_on_batches(corpus: str, tmp_path: Path) -> None:
    step = {"tokenizer": BYTES, "prefix": "{url} ", "fim_rate": 0.5}
    found = []
    for name, rows in (("a", 4096), ("b", 7)):
        recipe = token_recipe(
            [corpus], str(tmp_path / name), step, ["repo", "stars"], str(tmp_path / f"s{name}"), []
        )
        engine.run(recipe, workers=1, batch_rows=rows)
        found.append([part.read_bytes() for part in sorted((tmp_path / name).glob("part-*.arrow"))])
    assert found[0] == found[1]
    assert found[0]


def test_a_row_that_fails_is_quarantined_and_nothing_is_lost(tmp_path: Path) -> None:
    ends = [[4] if i % 9 else [99] for i in range(200)]
    table = pa.table({"text": ["word"] * 200, "ends": ends, "scores": [[0.5]] * 200})
    pq.write_table(table, tmp_path / "in.parquet")
    step = {"tokenizer": BYTES, "condition": "scores", "condition_threshold": 0.5, "segments": "ends"}
    recipe = token_recipe([str(tmp_path / "in.parquet")], str(tmp_path / "out"), step, [], "", [])
    result = engine.run(recipe, workers=1)
    assert (result.rows.in_, result.rows.kept, result.rows.quarantined) == (200, 177, 23)
    assert verify(tmp_path / "out").problems == []
    (file,) = (tmp_path / "out/_quarantine").glob("part-*")
    error = pq.read_table(file)["error"][0].as_py()
    assert "`ends` has 1 ends for 1 scores and 4 characters" in error
