"""Packing: closed forms, nothing lost but what is declared, resumed equals uninterrupted, documents alone."""

import json
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import ConfigError, DataError
from curate.models.tokenizer import Contract
from curate.train.packing import Packed, Packer, Pick, allowed
from curate.train.tokens import Tokens

Write = Callable[..., Path]
BOS, EOS = 0, 1


class InMemory:
    """Documents as `Tokens` has them."""

    folder = Path("memory")

    def __init__(self, documents: list[list[int]], prefix: list[int], contract: Contract) -> None:
        self.contract, self._documents = contract, documents
        self.lengths, self.prefix = np.array([len(d) for d in documents]), np.array(prefix)

    def tokens(self, document: int) -> np.ndarray[Any, Any]:
        return np.array(self._documents[document], np.uint16)


@pytest.fixture
def like(token_dataset: Write) -> Tokens:
    return Tokens.open(token_dataset([[5]], name="like"))


def picks(of: Any, **more: Any) -> Iterator[Pick]:
    return (Pick(0, i, **more) for i in range(len(of.lengths)))


def pack(of: Any, context: int, method: Any, buffer: int = 4, **more: Any) -> tuple[list[Packed], Packer]:
    packer = Packer([of], picks(of, **more), context=context, method=method, buffer=buffer)
    return list(packer), packer


def test_chunk_by_hand(token_dataset: Write) -> None:
    of = Tokens.open(token_dataset([[10, 11, 12], [20], [], [30, 31]], prefix=[1, 0, 0, 0]))
    rows, packer = pack(of, 4, "chunk")
    # 0 10 11 12 1 | 1 0 20 1 0 | 0 30 31 1
    assert [r.tokens.tolist() for r in rows] == [[0, 10, 11, 12, 1], [1, 0, 20, 1, 0], [0, 30, 31, 1, 1]]
    assert [r.documents.tolist() for r in rows] == [[0] * 5, [0, 1, 1, 1, 2], [0, 0, 0, 0, -1]]
    assert [r.positions.tolist() for r in rows] == [[0, 1, 2, 3, 4], [0, 0, 1, 2, 0], [0, 1, 2, 3, 0]]
    assert [r.loss.astype(int).tolist() for r in rows] == [[0, 0, 1, 1, 1], [0, 0, 1, 1, 0], [0, 1, 1, 1, 0]]
    counts = packer.counts
    assert (counts.sequences, counts.tokens, counts.padding, counts.loss_tokens) == (3, 12, 1, 8)
    assert (counts.documents, counts.empty, counts.cut, counts.discarded) == (4, 1, 1, 0)
    assert counts.fill_rate(4) == 1 - 1 / 15
    assert (
        "3 sequences of 4, 93.33% filled; 8 tokens in the loss, 8 of them unique, 0 discarded"
        in counts.lines(4)
    )


def test_complete_by_hand(token_dataset: Write) -> None:
    documents = [[10], [20, 21, 22], [30, 31], [40, 41, 42, 43, 44, 45], [50]]
    of = Tokens.open(token_dataset(documents, prefix=[0, 0, 1, 0, 0]))
    rows, packer = pack(of, 5, "complete")
    # 21 22 EOS do not fit; of the third the 2 places that are left would hold no token to learn
    assert [r.tokens.tolist() for r in rows] == [
        [0, 10, 1, 0, 20, 21], [0, 30, 31, 1, 0, 40], [0, 50, 1, 1, 1, 1],
    ]  # fmt: skip
    assert [r.loss.astype(int).tolist() for r in rows] == [
        [0, 1, 1, 0, 1, 1], [0, 0, 1, 1, 0, 1], [0, 1, 1, 0, 0, 0],
    ]  # fmt: skip
    assert (packer.counts.discarded, packer.counts.cut, packer.counts.padding) == (2 + 6, 2, 3)


def test_a_document_without_its_prefix(token_dataset: Write) -> None:
    of = Tokens.open(token_dataset([[8, 9, 10, 11]], prefix=[2]))
    for metadata, tokens, loss in (
        (True, [0, 8, 9, 10, 11, 1], [0, 0, 0, 1, 1, 1]),
        (False, [0, 10, 11, 1, 1, 1], [0, 1, 1, 1, 0, 0]),
    ):
        (row,), packer = pack(of, 5, "best_fit", metadata=metadata)
        assert (row.tokens.tolist(), row.loss.astype(int).tolist()) == (tokens, loss)
        assert packer.counts.loss_tokens == 3


def test_best_fit_by_hand(token_dataset: Write) -> None:
    # laid out 4, 3, 8 and 9, cut into 8 and a rest of 2, into sequences of 8 places
    sizes = [2, 1, 6, 7]
    of = Tokens.open(token_dataset([[10 * (i + 1)] * n for i, n in enumerate(sizes)]))
    rows, packer = pack(of, 7, "best_fit")
    kept = [sorted(set(r.tokens[r.documents >= 0].tolist()) - {0, 1}) for r in rows]
    assert kept == [[40], [10, 20], [30], [40]]
    assert packer.counts.cut == 1
    rows, _ = pack(of, 8, "best_fit")  # 4, 3, 8, 9: best fit of the shorter ones is beside each other
    assert [sorted(set(r.tokens[r.documents >= 0].tolist()) - {0, 1}) for r in rows] == [[10, 20], [30], [40]]


def test_no_bos_is_eos(token_dataset: Write, contract: Contract) -> None:
    without = msgspec.structs.replace(contract, bos=None)
    of = Tokens.open(token_dataset([[5, 6]], contract=without))
    (row,), _ = pack(of, 3, "chunk")
    assert row.tokens.tolist() == [1, 5, 6, 1]
    assert row.loss.tolist() == [False, True, True, True]


WORLD = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 6)), max_size=25)
METHODS = st.sampled_from(["chunk", "complete", "best_fit"])


def world(shapes: list[tuple[int, int]], contract: Contract) -> tuple[InMemory, list[list[int]]]:
    documents = [[100 + 50 * i + j for j in range(n)] for i, (n, _) in enumerate(shapes)]
    prefix = [min(p, n) for n, p in shapes]
    laid = [[BOS, *d, EOS] for d, p in zip(documents, prefix, strict=True) if len(d) > p]
    return InMemory(documents, prefix, contract), laid


@settings(max_examples=200, deadline=None)
@given(shapes=WORLD, context=st.integers(2, 20))
def test_chunk_is_the_stream_cut(shapes: list[tuple[int, int]], context: int, contract: Contract) -> None:
    of, laid = world(shapes, contract)
    stream = [token for document in laid for token in document]
    rows, _ = pack(of, context, "chunk")
    for k, row in enumerate(rows):
        held = row.tokens[row.documents >= 0].tolist()
        assert held == stream[k * context : k * context + context + 1]
    assert len(rows) == (-(-(len(stream) - 1) // context) if stream else 0)


@settings(max_examples=300, deadline=None)
@given(shapes=WORLD, context=st.integers(2, 20), method=METHODS, buffer=st.integers(1, 9))
def test_every_token_is_taught_once(
    shapes: list[tuple[int, int]], context: int, method: str, buffer: int, contract: Contract
) -> None:
    of, laid = world(shapes, contract)
    rows, packer = pack(of, context, method, buffer)
    counts = packer.counts
    assert counts.tokens + counts.discarded == sum(map(len, laid))
    assert counts.padding == sum(int((r.documents < 0).sum()) for r in rows)
    taught = [int(t) for r in rows for t in r.tokens[r.loss] if t != EOS]
    texts = [t for n, d in enumerate(of._documents) for t in d[of.prefix[n] :]]
    assert counts.loss_tokens == sum(int(r.loss.sum()) for r in rows) == counts.by_dataset[0]
    assert len(taught) == len(set(taught))
    assert set(taught) <= set(texts)
    if method != "complete":
        assert sorted(taught) == sorted(texts)
        assert counts.discarded == 0
        assert counts.loss_tokens - len(taught) == len(laid)  # every EOS
    else:
        assert all(r.tokens[0] == BOS for r in rows)
        assert all(
            r.documents[-1] >= 0 or r is rows[-1] or rows[i + 1].tokens[0] == BOS for i, r in enumerate(rows)
        )
    for row in rows:
        assert not row.loss[row.documents < 0].any()
        for number in range(row.documents.max() + 1):
            inside = np.flatnonzero(row.documents == number)
            assert row.positions[inside].tolist() == list(range(len(inside)))
            assert not row.loss[inside[0]]
            body = [t for t in row.tokens[inside].tolist() if t > EOS]
            assert body == list(range(body[0], body[0] + len(body))) if body else True


@settings(max_examples=200, deadline=None)
@given(
    shapes=WORLD, context=st.integers(2, 20), method=METHODS, buffer=st.integers(1, 9), at=st.integers(0, 30)
)
def test_resumed_equals_uninterrupted(
    shapes: list[tuple[int, int]], context: int, method: Any, buffer: int, at: int, contract: Contract
) -> None:
    of, _ = world(shapes, contract)
    rows, whole = pack(of, context, method, buffer)
    stream = picks(of)
    options: Any = {"context": context, "method": method, "buffer": buffer}
    first: Any = Packer([of], stream, **options)  # type: ignore[list-item]
    begun = [row for _, row in zip(range(at), first, strict=False)]
    saved = json.loads(json.dumps(first.state()))
    list(first)  # what goes on meanwhile is not in the state
    rest = (Pick(0, i) for i in range(saved["counts"]["documents"], len(of.lengths)))
    second: Any = Packer([of], rest, state=saved, **options)  # type: ignore[list-item]
    again = begun + list(second)
    assert len(again) == len(rows)
    for one, other in zip(again, rows, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    assert second.counts == whole.counts


def test_two_datasets_and_repeats_are_counted(token_dataset: Write) -> None:
    a = Tokens.open(token_dataset([[10, 11]], name="a"))
    b = Tokens.open(token_dataset([[20]], name="b"))
    stream = iter([Pick(0, 0), Pick(1, 0), Pick(0, 0, repeat=True)])
    packer = Packer([a, b], stream, context=9, method="chunk")
    list(packer)
    assert packer.counts.by_dataset == [6, 2]
    assert (packer.counts.loss_tokens, packer.counts.unique_tokens) == (8, 5)


def test_what_is_refused(token_dataset: Write, like: Tokens) -> None:
    with pytest.raises(ConfigError, match="2 tokens or more"):
        Packer([like], iter(()), context=1)
    other = msgspec.structs.replace(like.contract, tokenizer="f" * 64)
    two = Tokens.open(token_dataset([[5]], name="two", contract=other))
    with pytest.raises(DataError, match=r"like and .*two are of different tokenizers"):
        Packer([like, two], iter(()), context=4)
    saved = Packer([like], iter(()), context=4).state()
    with pytest.raises(DataError, match="the saved packing is of"):
        Packer([like], iter(()), context=5, state=saved)


@pytest.mark.parametrize("method", ["chunk", "best_fit"])
def test_logits_of_a_packed_document_are_its_logits_alone(token_dataset: Write, method: Any) -> None:
    torch = pytest.importorskip("torch")
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
            max_position_embeddings=64,
        )
    ).eval()  # fmt: skip
    rng = np.random.default_rng(0)
    of = Tokens.open(token_dataset([rng.integers(3, 64, n).tolist() for n in (5, 9, 3, 14, 7, 11)]))
    rows, _ = pack(of, 24, method)
    seen = 0
    with torch.no_grad():
        for row in rows:
            tokens, positions = torch.tensor(row.tokens)[None], torch.tensor(row.positions)[None]
            bias = torch.where(torch.tensor(allowed(row.documents)), 0.0, float("-inf"))[None, None]
            packed = model(tokens, attention_mask=bias, position_ids=positions, use_cache=False).logits[0]
            unmasked = model(tokens, use_cache=False).logits[0]
            for number in range(row.documents.max() + 1):
                inside = torch.tensor(np.flatnonzero(row.documents == number))
                alone = model(tokens[:, inside], use_cache=False).logits[0]
                assert torch.allclose(packed[inside], alone, atol=1e-5)
                if number:
                    assert not torch.allclose(unmasked[inside], alone, atol=1e-3)
                    seen += 1
    assert seen >= 3


def test_sequences_of_a_long_document_do_not_come_together(token_dataset) -> None:
    of = Tokens.open(token_dataset([[10 + i] * 320 for i in range(40)]))
    picks = [Pick(0, i) for i in range(40)]
    plain = list(Packer([of], iter(picks), context=16, method="chunk"))
    mixed = Packer([of], iter(picks), context=16, method="chunk", shuffle=200, seed=1)
    first = [next(mixed) for _ in range(100)]
    saved = mixed.state()
    rest = list(mixed)
    key = lambda one: one.tokens.tobytes()  # noqa: E731
    assert sorted(map(key, first + rest)) == sorted(map(key, plain))  # the same sequences, in another order
    near = lambda rows: sum(a.tokens[-1] == b.tokens[-1] for a, b in pairwise(rows))  # noqa: E731
    assert near(plain) > 0.9 * len(plain)
    assert near(first + rest) < 0.25 * len(plain)
    read = saved["counts"]["documents"]
    again = Packer([of], iter(picks[read:]), context=16, method="chunk", shuffle=200, seed=1, state=saved)
    assert list(map(key, again)) == list(map(key, rest))
    other = Packer([of], iter(picks), context=16, method="chunk", shuffle=200, seed=2)
    assert [key(next(other)) for _ in range(100)] != list(map(key, first))
