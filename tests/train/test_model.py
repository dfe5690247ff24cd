"""The model: its size, documents that do not see each other, a loss by hand, folders that others open."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason='needs pip install "curate[train]"')
transformers = pytest.importorskip("transformers", reason='needs pip install "curate[train]"')

from curate.models.tokenizer import Contract  # noqa: E402
from curate.train import model, settings, size  # noqa: E402
from curate.train.packing import Packed, Packer, Pick  # noqa: E402
from curate.train.settings import Resolved  # noqa: E402
from curate.train.tokens import Tokens  # noqa: E402

TINY = ["width=32", "layers=2", "heads=4", "kv_heads=2", "context=24", "batch=2"]


def resolved(vocabulary: int, *sets: str) -> Resolved:
    return settings.resolve(settings.load("", sets or TINY), vocabulary).settings


@pytest.fixture
def tiny(contract: Contract) -> Any:
    torch.manual_seed(0)
    return model.build(resolved(contract.vocab_size), contract).eval()


@pytest.mark.parametrize("name", size.SIZES)
def test_a_size_counts_as_its_name_says(name: str) -> None:
    now = resolved(size.SIZES[name].vocabulary, f"size={name}")
    shape = (now.width, now.layers, now.heads, now.kv_heads, now.intermediate)
    ours = size.parameters(*shape, size.SIZES[name].vocabulary)
    contract = Contract(tokenizer="", vocab_size=size.SIZES[name].vocabulary, bos=None, eos=0, special={})
    with torch.device("meta"):
        theirs = model.build(now, contract).num_parameters()
    assert ours == theirs
    named = float(name[:-1]) * (1e9 if name.endswith("b") else 1e6)
    assert 0.7 < ours / named < 1.1
    assert size.nearest(ours) == name


def test_the_smallest_honest_setting_is_the_first_on_the_dial() -> None:
    now = resolved(1024, "size=1m", "tokens=2400000")
    assert (now.width, now.layers, now.heads, now.context, now.batch, now.lr) == (128, 3, 4, 128, 8, 2e-3)
    shape = (now.width, now.layers, now.heads, now.kv_heads, now.intermediate)
    assert round(size.parameters(*shape, 1024) / 1e6, 2) == 0.72
    assert now.steps == 2343


def test_flops_of_a_token_by_hand() -> None:
    """GPT-3 6.7B by PaLM's formula: 6 x 6.7e9 + 12 x 32 layers x 4096 wide x 2048 tokens."""
    assert size.flops_per_token(6_700_000_000, 32, 4096, 2048) == 40_200_000_000 + 3_221_225_472


def test_mfu_is_told_where_the_peak_is_known(token_dataset, tmp_path: Path) -> None:
    """The share of the peak: tokens/s x (6 N + 12 L W T) / peak, over all processes' GPUs."""
    import msgspec

    from curate.train import loop, run
    from curate.train.distributed import Processes
    from curate.train.feed import Feed

    assert [loop.peak_flops(f"NVIDIA {name}") for name in ("H200", "A100-SXM4-80GB", "GeForce GTX 1080")] == [
        989e12, 312e12, 0.0,
    ]  # fmt: skip
    given = settings.load("", [*TINY, "tokens=960", "device=cpu", "precision=fp32"])
    prepared = run.prepare([token_dataset([[5] * 20] * 100)], tmp_path / "out", given)
    cpu = run.machine_of(prepared.settings, Processes(torch.device("cpu")))
    records = []
    for machine in (cpu, msgspec.structs.replace(cpu, peak_flops=1e9)):
        feed = Feed(prepared.datasets, prepared.plan, prepared.settings, tmp_path / "order")
        one, state, optimizer = run._begin(prepared, machine, feed)
        records.append(
            loop.Loop(tmp_path, prepared.settings, one, optimizer, feed, state, machine, print).step()
        )
    flops = 6 * sum(p.numel() for p in one.parameters()) + 12 * 2 * 32 * 24
    assert "mfu" not in records[0]
    assert records[1]["mfu"] == pytest.approx(records[1]["tokens_per_second"] * flops / 1e9, rel=1e-2)
    assert records[1]["mfu"] > 0


def packed(tokens: Path, method: str) -> list[Packed]:
    data = Tokens.open(tokens)
    picks = (Pick(0, i) for i in range(data.documents))
    return list(Packer([data], picks, context=24, method=method))


@pytest.mark.parametrize("method", ["chunk", "complete", "best_fit"])
def test_a_packed_document_has_its_logits_alone(token_dataset, tiny, method: str) -> None:
    rng = np.random.default_rng(0)
    documents = [rng.integers(3, 64, n).tolist() for n in (7, 3, 11, 5, 1, 9, 2)]
    rows = packed(token_dataset(documents), method)
    batch = model.batch_of(rows, True)
    with torch.no_grad():
        together = tiny(
            input_ids=batch.tokens,
            attention_mask=model.document_mask(batch.documents),
            position_ids=batch.positions,
        ).logits
        seen = 0
        for row, one in enumerate(rows):
            for number in set(one.documents[:-1].tolist()) - {-1}:
                at = np.flatnonzero(one.documents[:-1] == number)
                alone = tiny(input_ids=batch.tokens[row, at][None]).logits[0]
                assert torch.allclose(together[row, at], alone, atol=1e-5)
                seen += len(at)
    assert seen > 40
    bare = model.batch_of(rows, False)
    with torch.no_grad():
        mixed = tiny(input_ids=bare.tokens).logits
    assert not torch.allclose(mixed, together, atol=1e-3)


def test_the_loss_is_that_of_the_labels_by_hand(token_dataset, tiny) -> None:
    rows = packed(token_dataset([[10, 11, 12], [20, 21]], prefix=[1, 0]), "best_fit")
    batch = model.batch_of(rows, True)
    with torch.no_grad():
        total = float(model.loss_sum(tiny, batch))
        by_hand = 0.0
        for ids, learned in (([0, 10, 11, 12, 1], [11, 12, 1]), ([0, 20, 21, 1], [20, 21, 1])):
            logits = tiny(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
            skip = len(ids) - 1 - len(learned)
            by_hand -= sum(float(logits[skip + i, token]) for i, token in enumerate(learned))
    assert int((batch.labels != model.IGNORED).sum()) == 6
    assert total == pytest.approx(by_hand, rel=1e-5)
    assert total / 6 == pytest.approx(math.log(64), abs=0.2)


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<s>", "</s>"], show_progress=False)
    made.train_from_iterator(["the cat sat on the mat"] * 3, trainer)
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    made.save(str(folder / "tokenizer.json"))
    return folder


def test_a_saved_folder_opens_elsewhere(tiny, tokenizer: Path, tmp_path: Path) -> None:
    target = tmp_path / "saved"
    target.mkdir()
    model.save(tiny, tokenizer, target)
    again = transformers.AutoModelForCausalLM.from_pretrained(target).eval()
    read = transformers.AutoTokenizer.from_pretrained(target)
    ids = torch.tensor([read("the cat")["input_ids"]]) % 64
    with torch.no_grad():
        assert torch.equal(again(input_ids=ids).logits, tiny(input_ids=ids).logits)
    assert read.decode(read("the cat sat")["input_ids"]) == "the cat sat"
    assert (read.bos_token, read.eos_token, read.eos_token_id) == ("<s>", "</s>", 1)
    assert again.lm_head.weight is again.model.embed_tokens.weight
    assert again.config.eos_token_id == 1
