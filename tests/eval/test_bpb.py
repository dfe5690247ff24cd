"""Bits per byte: 8 for a uniform byte model, windows that score each token once, domains, years."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.errors import ConfigError, DataError
from curate.eval import bpb
from curate.eval.bpb import DOCUMENTS, Heldout
from curate.eval.model import Model

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


@pytest.fixture
def heldout(tmp_path: Path) -> Callable[..., Heldout]:
    """Writes a set of documents with `source` and `date`."""

    def write(
        texts: list[str | None],
        sources: list[str | None] | None = None,
        dates: list[str | None] | None = None,
    ):
        columns = {
            "id": [f"doc-{i}" for i in range(len(texts))],
            "text": pa.array(texts, pa.large_string()),
            "source": pa.array(sources or ["web"] * len(texts), pa.string()),
            "date": pa.array(dates or [None] * len(texts), pa.string()),
        }
        pq.write_table(pa.table(columns), tmp_path / "set.parquet")
        return Heldout(name="set", path=str(tmp_path / "set.parquet"), id="id", by="source", date="date")

    return write


@pytest.fixture
def uniform_bytes(tmp_path: Path) -> Path:
    """A Llama over the 256 bytes and nothing else whose logits are all 0; the byte 0 stands before a document."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    library = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    folder = tmp_path / "bytes"
    folder.mkdir()
    library.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    config = transformers.LlamaConfig(
        vocab_size=256, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=32, bos_token_id=0, eos_token_id=None, tie_word_embeddings=False,
    )  # fmt: skip
    network = transformers.LlamaForCausalLM(config)
    torch.nn.init.zeros_(network.lm_head.weight)
    network.save_pretrained(folder)
    return folder


def test_a_uniform_byte_model_has_8_bits_per_byte(uniform_bytes, heldout) -> None:
    held = heldout(["Käse", "x" * 200, "\x00\t日本", "one more"], ["a", "a", "b", "b"])
    rows, result = bpb.measure(Model.open(str(uniform_bytes)), held)
    assert rows["bits_per_byte"].to_pylist() == pytest.approx([8.0] * 4, abs=1e-6)
    assert result.bits_per_byte == pytest.approx(8.0, abs=1e-6)
    assert result.micro == pytest.approx(8.0, abs=1e-6)
    assert rows["n_tokens"].to_pylist() == rows["n_bytes"].to_pylist() == [5, 200, 8, 8]  # no BOS, no EOS
    assert result.lossy == 0


@pytest.mark.parametrize(
    ("tokens", "context", "stride"), [(10, 4, 2), (4, 4, 2), (5, 4, 4), (1, 4, 1), (37, 8, 3)]
)
def test_windows_score_each_token_once(tokens: int, context: int, stride: int) -> None:
    found = bpb.windows(tokens, context, stride)
    scored = [at for end, count in found for at in range(end - count, end)]
    assert scored == list(range(tokens))
    assert all(count <= (context if end == found[0][0] else stride) for end, count in found)


def test_no_tokens_have_no_window() -> None:
    assert bpb.windows(0, 4, 2) == []


def test_nats_are_those_of_the_model_token_by_token(checkpoint) -> None:
    """Each token by a forward pass of its own, with the context that its window gives it."""
    model = Model.open(str(checkpoint))
    (document,) = model.encode(["The cat sat on the mat and left. " * 2])
    whole, expected = [model.prefix, *document], 0.0
    for end, scored in bpb.windows(len(document), 16, 6):
        for at in range(end - scored, end):
            seen = torch.tensor([whole[max(0, end - 16) : at + 1]])
            expected -= float(torch.log_softmax(model.network(seen).logits[0, -1].detach(), -1)[document[at]])
    found = bpb.nats_of(model, [document, [], document[:3]], 16, 6)
    assert found[0] == pytest.approx(expected, rel=1e-5)
    assert found[1] == 0
    assert found[2] < found[0]


def test_a_document_scores_alike_in_any_company(checkpoint) -> None:
    model = Model.open(str(checkpoint))
    documents = model.encode(["The cat.", "Ein Käfer! " * 30, "so they left the house to it"])
    together = bpb.nats_of(model, documents, 64, 32)
    alone = [bpb.nats_of(model, [one], 64, 32)[0] for one in documents]
    assert together == pytest.approx(alone, rel=1e-5)


def test_half_as_many_bits_of_a_number_are_near(checkpoint) -> None:
    fp32, bf16 = (Model.open(str(checkpoint), dtype=dtype, device="cpu") for dtype in ("fp32", "bf16"))
    documents = fp32.encode(["The cat sat on the mat and left. " * 3])
    assert (fp32.dtype, bf16.dtype) == ("float32", "bfloat16")
    near = pytest.approx(bpb.nats_of(fp32, documents, 64, 32), rel=0.02)
    assert bpb.nats_of(bf16, documents, 64, 32) == near


def test_domains_count_alike_and_years_are_those_of_dated_documents(checkpoint, heldout) -> None:
    texts: list[str | None] = ["The cat sat. " * 9, "Ein Käfer!", "the mat", None, "why? it would not leave"]
    held = heldout(
        texts, ["a", "b", "b", "b", None], ["2019-03-01", "2020", "unknown", "2020-01-01", "2020-05-05"]
    )
    rows, result = bpb.measure(Model.open(str(checkpoint)), held)
    value = dict(zip(rows["id"].to_pylist(), rows["bits_per_byte"].to_pylist(), strict=True))
    assert set(value) == {"doc-0", "doc-1", "doc-2", "doc-4"}
    nats = dict(zip(rows["id"].to_pylist(), rows["nats"].to_pylist(), strict=True))
    b = (nats["doc-1"] + nats["doc-2"]) / math.log(2) / (11 + 7)
    assert {name: one.bits_per_byte for name, one in result.domains.items()} == pytest.approx(
        {"a": value["doc-0"], "b": b, bpb.NO_DOMAIN: value["doc-4"]}
    )
    assert result.bits_per_byte == pytest.approx((value["doc-0"] + b + value["doc-4"]) / 3)
    assert {year: one.documents for year, one in result.years.items()} == {2019: 1, 2020: 2}
    assert result.undated == 1
    assert (result.documents, result.context, result.stride) == (4, 64, 32)


def test_the_hash_of_a_set_knows_its_texts(checkpoint, heldout) -> None:
    model = Model.open(str(checkpoint))
    one = bpb.measure(model, heldout(["The cat", "sat"]))[1].set_hash
    assert bpb.measure(model, heldout(["The cat", "sat"]))[1].set_hash == one
    assert bpb.measure(model, heldout(["The cat", "sat."]))[1].set_hash != one


def test_what_cannot_be_scored_is_said(checkpoint, heldout) -> None:
    model = Model.open(str(checkpoint))
    with pytest.raises(DataError, match="has no text"):
        bpb.measure(model, heldout(["", ""]))
    with pytest.raises(ConfigError, match="context of 128 tokens, the model takes 64"):
        bpb.measure(model, heldout(["cat"]), context=128)
    with pytest.raises(ConfigError, match="stride"):
        bpb.measure(model, heldout(["cat"]), context=16, stride=17)


def documents(scores: dict[int, float], undated: int = 0) -> pa.Table:
    """One document of 100 bytes per year."""
    years = [*scores, *[None] * undated]
    values = np.array([*scores.values(), *[1.0] * undated])
    n = len(years)
    return pa.table(
        {
            "set": ["s"] * n, "id": [str(i) for i in range(n)], "domain": ["d"] * n, "year": years,
            "n_bytes": [100] * n, "n_tokens": [30] * n, "nats": values * math.log(2) * 100, "bits_per_byte": values,
        },
        DOCUMENTS,
    )  # fmt: skip


def test_slopes_of_a_planted_drift_are_recovered() -> None:
    """0.02 bits for each year back, 0.05 for each year ahead, and years that are harder for everyone."""
    hard = {2018: 0.9, 2019: 1.4, 2020: 1.1, 2021: 1.0, 2022: 1.3}

    def score(train: int, year: int) -> float:
        return hard[year] + 0.02 * max(train - year, 0) + 0.05 * max(year - train, 0)

    tables = {train: documents({y: score(train, y) for y in hard}, undated=3) for train in (2019, 2020, 2021)}
    found = bpb.ageing(tables)
    assert found.slope_past == pytest.approx(0.02)
    assert found.slope_future == pytest.approx(0.05)
    assert found.undated == 3
    assert found.table[2020][2022] == pytest.approx(1.4)


def test_one_model_has_slopes_with_one_intercept() -> None:
    found = bpb.ageing({2020: documents({year: 1.0 + 0.03 * (year - 2020) for year in (2020, 2021, 2023)})})
    assert math.isnan(found.slope_past)
    assert found.slope_future == pytest.approx(0.03)


@pytest.mark.parametrize(
    ("date", "year"),
    [("2021-03-04", 2021), ("2021", 2021), ("20210304", None), ("March 2021", None), (None, None)],
)
def test_years(date: str | None, year: int | None) -> None:
    assert bpb.year_of(date) == year


def test_jsonl_sets_are_read_too(checkpoint, tmp_path) -> None:
    (tmp_path / "set.jsonl").write_text(
        "\n".join(json.dumps({"text": text}) for text in ("The cat", "the mat"))
    )
    held = Heldout(name="lines", path=str(tmp_path / "set.jsonl"))
    rows, result = bpb.measure(Model.open(str(checkpoint)), held, limit=1)
    assert rows.num_rows == result.documents == 1
    assert list(result.domains) == [bpb.NO_DOMAIN]
