"""Token datasets: documents as they were written, and what is refused."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from curate.errors import DataError
from curate.train.tokens import Tokens, same_contract

Write = Callable[..., Path]


def test_documents_are_what_was_written(token_dataset: Write) -> None:
    rng = np.random.default_rng(0)
    documents = [rng.integers(3, 64, size).tolist() for size in rng.integers(0, 9, 333)]
    prefix = [min(len(d), 2) for d in documents]
    columns = {"source": [f"s{i % 3}" for i in range(333)]}
    tokens = Tokens.open(token_dataset(documents, prefix=prefix, keys=range(333), columns=columns))
    assert tokens.documents == 333
    assert [tokens.tokens(i).tolist() for i in range(333)] == documents
    assert tokens.tokens(5).dtype == np.uint16
    assert tokens.lengths.tolist() == list(map(len, documents))
    assert tokens.prefix.tolist() == prefix
    assert tokens.keys.tolist() == list(range(333))
    assert tokens.keys.dtype == np.uint64
    assert tokens.n_bytes.tolist() == [3 * len(d) for d in documents]
    assert tokens.column("source").to_pylist() == columns["source"]
    assert tokens.contract.eos == 1


def test_what_is_refused(token_dataset: Write, tmp_path: Path) -> None:
    folder = token_dataset([[5, 6]])
    with pytest.raises(DataError, match="no column `date`") as caught:
        Tokens.open(folder).column("date")
    assert "--keep date" in caught.value.hint
    (folder / "_curate/manifest.json").unlink()
    with pytest.raises(DataError, match="not a complete token dataset"):
        Tokens.open(folder)
    with pytest.raises(DataError, match="holds no documents"):
        Tokens.open(token_dataset([], name="empty"))
    broken = token_dataset([[5]], name="broken")
    (broken / "part-00000.arrow").write_bytes(b"not Arrow")
    with pytest.raises(DataError, match="cannot be read"):
        Tokens.open(broken)


def test_another_tokenizer_is_refused_with_both_names(token_dataset: Write) -> None:
    one = Tokens.open(token_dataset([[5]], name="one"))
    other = msgspec.structs.replace(one.contract, eos=2)
    two = Tokens.open(token_dataset([[5]], name="two", contract=other))
    same_contract(one.contract, one.contract, ("a", "b"))
    with pytest.raises(DataError, match=r"one and .*two are of different tokenizers: `eos` is 1 and 2"):
        same_contract(one.contract, two.contract, (one.folder, two.folder))
    part = two.folder / "part-00000.arrow"
    part.rename(one.folder / "part-00001.arrow")
    with pytest.raises(DataError, match=r"part-00001\.arrow was made by another tokenizer"):
        Tokens.open(one.folder)
