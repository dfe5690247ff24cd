"""Our fastText against the library: same labels, same probabilities, for every kind of model and any bytes."""

import itertools
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fasttext
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.models.fasttext import Model, convert, huffman_tree, load
from curate.schema import text_buffers

Answers = tuple[list[str | None], np.ndarray]
NAMES = [
    "softmax.bin", "softmax.ftz", "hs.bin", "hs.ftz", "pruned_of_all.ftz", "chars.bin", "chars.ftz", "mixed.ftz",
    "ova.bin",
]  # fmt: skip
SPECIAL = [
    "</s>",
    "__label__000",
    "__label__new",
    "<",
    ">",
    "\x00",
    "\t",
    "\r",
    "\v",
    "\f",
    "\n",
    "é",
    "語",
    "😀",
    "\x80",
]
words = st.sampled_from(
    ["ba", "koré", "mixling", "语", "da", "no such word", "x" * 40, "дано" * 12, *SPECIAL]
)
documents = st.lists(st.one_of(words, st.just(" "), st.text(max_size=9)), max_size=30).map("".join)


def ours(model: Model, docs: list[bytes]) -> Answers:
    labels, scores = model.predict(*text_buffers(pa.array(docs, pa.large_binary())))
    return [model.labels[i] if i >= 0 else None for i in labels], scores


def library(path: Path, docs: list[bytes]) -> Answers:
    model = fasttext.load_model(str(path))
    answers = [model.f.predict(doc.replace(b"\n", b" ") + b"\n", 1, 0.0, "strict") for doc in docs]
    labels = [answer[0][1].removeprefix("__label__") if answer else None for answer in answers]
    return labels, np.array([answer[0][0] if answer else 0 for answer in answers], np.float32)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


def test_huffman_tree_by_hand() -> None:
    # counts 5 3 1: leaves 1 and 3 join as node 3 (weight 4), then 4 < 5 joins the leaf 5 as the root
    assert huffman_tree([5, 3, 1]).tolist() == [[-1, -1, -1, 2, 3], [-1, -1, -1, 1, 0]]
    assert huffman_tree([7]).tolist() == [[-1], [-1]]


@pytest.mark.parametrize("name", NAMES)
def test_labels_and_probabilities_are_the_librarys(name: str, trained: dict[str, Path], store: Path) -> None:
    training = (trained[name].parent / "two").read_text() + (trained[name].parent / "many").read_text()
    docs = [re.sub(r"__label__\d+ ", "", line).encode() for line in training.split("\n")[::7]]
    labels, scores = ours(load(convert(trained[name], store)), docs)
    expected, expected_scores = library(trained[name], docs)
    assert len(set(expected)) > 1
    assert labels == expected
    assert np.abs(scores - expected_scores).max() < 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_any_bytes_get_the_librarys_answer(name: str, trained: dict[str, Path], store: Path) -> None:
    model = load(convert(trained[name], store))

    @settings(max_examples=40, deadline=None)
    @given(
        st.lists(
            st.one_of(documents.map(lambda s: s.encode("utf-8", "replace")), st.binary(max_size=60)),
            max_size=20,
        )
    )
    def check(docs: list[bytes]) -> None:
        labels, scores = ours(model, docs)
        expected, expected_scores = library(trained[name], docs)
        assert np.abs(scores - expected_scores).max(initial=0) < 1e-4
        # the library adds in another order: where two labels score alike, the last bit may decide
        assert sum(a != b for a, b in zip(labels, expected, strict=True)) == 0

    check()


@settings(max_examples=60, deadline=None)
@given(docs=st.lists(documents.map(str.encode), min_size=1, max_size=40), cuts=st.lists(st.integers(0, 40)))
def test_a_result_does_not_depend_on_what_came_before(
    docs: list[bytes], cuts: list[int], trained: dict[str, Path], store: Path
) -> None:
    for name in ("mixed.ftz", "softmax.bin"):
        folder = convert(trained[name], store)
        whole = ours(load(folder), docs)
        again = load(folder)
        ours(again, docs[::-1])  # another cache
        edges = [0, *sorted(c for c in cuts if c < len(docs)), len(docs)]
        sliced = [ours(again, docs[a:b]) for a, b in itertools.pairwise(edges)]
        assert [label for labels, _ in sliced for label in labels] == whole[0]
        assert np.concatenate([scores for _, scores in sliced]).tobytes() == whole[1].tobytes()


def test_conversion_is_made_once_and_shared(trained: dict[str, Path], tmp_path: Path) -> None:
    folder = convert(trained["hs.ftz"], tmp_path)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    copy = tmp_path / "copy.ftz"
    copy.write_bytes(trained["hs.ftz"].read_bytes())
    assert convert(copy, tmp_path) == folder  # named by content, not by path
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    maps = Path("/proc/self/maps").read_text
    model = load(folder)
    assert f"{folder}/rows.npy" in maps()
    del model


def test_many_at_once_make_one_conversion(trained: dict[str, Path], tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = set(pool.map(lambda _: convert(trained["chars.ftz"], tmp_path), range(8)))
    assert [*(tmp_path / "models").iterdir()] == [*folders]
    assert ours(load(folders.pop()), [b"ba"])[0] == library(trained["chars.ftz"], [b"ba"])[0]


def test_few_labels_are_stored_as_scores(trained: dict[str, Path], store: Path) -> None:
    columns = {
        name: np.load(convert(trained[name], store) / "rows.npy").shape[1]
        for name in ("softmax.bin", "chars.bin")
    }
    assert columns == {"softmax.bin": 2, "chars.bin": 16}  # of dim 10 with 2 labels, of dim 16 with 300


def labels_equal_on(parquet: list[Path], lid176: Path, store: Path, most: int) -> tuple[int, float]:
    """Documents compared and the largest difference of a probability."""
    model, compared, widest = load(convert(lid176, store)), 0, 0.0
    for path in parquet:
        texts = pq.read_table(path, columns=["text"])["text"].drop_null()
        texts = texts.take(list(range(0, len(texts), max(1, len(texts) // most))))
        docs = [text.encode() for text in texts.to_pylist()]
        labels, scores = ours(model, docs)
        expected, expected_scores = library(lid176, docs)
        assert labels == expected, path.name
        compared, widest = compared + len(docs), max(widest, float(np.abs(scores - expected_scores).max()))
    return compared, widest


def test_lid176_has_the_librarys_labels_on_a_sample(shared_data: Path, lid176: Path, store: Path) -> None:
    files = sorted((shared_data / "multilingual").glob("*.parquet"))
    compared, widest = labels_equal_on(files, lid176, store, most=150)
    assert compared > 700
    assert widest < 1e-4


@pytest.mark.slow
def test_lid176_has_the_librarys_labels_on_every_document(
    shared_data: Path, lid176: Path, store: Path
) -> None:
    files = sorted((shared_data / "multilingual").glob("*.parquet")) + sorted(
        (shared_data / "text").glob("*.parquet")
    )
    compared, widest = labels_equal_on(files, lid176, store, most=10**9)
    assert compared > 70_000
    assert widest < 1e-4
