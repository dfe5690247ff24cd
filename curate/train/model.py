"""The model: transformers' Llama with tied embeddings, and its loss on packed sequences.

Checkpoints are hub-format folders: AutoModelForCausalLM and AutoTokenizer open them, and so do vLLM and lm-eval.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch.nn.functional import cross_entropy

from curate.errors import ModelError
from curate.models.tokenizer import Contract
from curate.train.packing import Packed
from curate.train.settings import Resolved, Shape

IGNORED = -100  # label of a position that bears no loss
_NOISE = 0.1  # of a new embedding, in standard deviations of the others
_TOKENIZER_CLASS = "PreTrainedTokenizerFast"


class Batch(msgspec.Struct, frozen=True):
    """Inputs and labels of some sequences, int64 (sequences, context); `documents` numbers them for the mask."""

    tokens: torch.Tensor
    labels: torch.Tensor
    documents: torch.Tensor | None
    positions: torch.Tensor | None

    def map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "Batch":
        """Each of its tensors changed."""
        more = (None if t is None else change(t) for t in (self.documents, self.positions))
        return Batch(change(self.tokens), change(self.labels), *more)

    def to(self, device: torch.device) -> "Batch":
        """The same on a device."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=True))

    def split(self, size: int) -> "list[Batch]":
        """Pieces of at most so many sequences."""
        starts = range(0, len(self.tokens), size)
        return [self.map(lambda tensor, at=at: tensor[at : at + size]) for at in starts]  # type: ignore[misc]


def batch_of(packed: Sequence[Packed], mask: bool) -> Batch:
    """Inputs and labels of packed sequences; without `mask` documents see those before them in their sequence."""
    ids = torch.from_numpy(np.stack([one.tokens for one in packed]))
    labels = torch.from_numpy(np.stack([one.loss for one in packed]))
    labels = torch.where(labels, ids, IGNORED)[:, 1:]
    if not mask:
        return Batch(ids[:, :-1], labels, None, None)
    documents = torch.from_numpy(np.stack([one.documents[:-1] for one in packed]))
    positions = torch.from_numpy(np.stack([one.positions[:-1] for one in packed]))
    return Batch(ids[:, :-1], labels, documents, positions)


def document_mask(documents: torch.Tensor) -> torch.Tensor:
    """Who sees whom, bool (sequences, 1, context, context): earlier tokens of the same document."""
    same = documents[:, :, None] == documents[:, None, :]
    return same.tril()[:, None]


def loss_sum(model: Any, batch: Batch) -> torch.Tensor:
    """Negative log-likelihood of all labels, in nats, summed; fp32 ()."""
    seen = None if batch.documents is None else document_mask(batch.documents)
    logits = model(
        input_ids=batch.tokens, attention_mask=seen, position_ids=batch.positions, use_cache=False
    ).logits
    return cross_entropy(
        logits.flatten(0, 1).float(), batch.labels.flatten(), ignore_index=IGNORED, reduction="sum"
    )


def build(settings: Resolved, contract: Contract) -> Any:
    """A model with random weights (torch's seed), fp32."""
    from transformers import LlamaConfig, LlamaForCausalLM

    make: Any = LlamaForCausalLM
    config = LlamaConfig(
        vocab_size=contract.vocab_size,
        hidden_size=settings.width,
        intermediate_size=settings.intermediate,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.kv_heads,
        max_position_embeddings=settings.context,
        rope_parameters={"rope_type": "default", "rope_theta": settings.rope_theta},
        tie_word_embeddings=True,
        bos_token_id=contract.bos,
        eos_token_id=contract.eos,
    )
    config._attn_implementation = "sdpa"
    return make(config).to(torch.float32)


def read_shape(folder: str, contract: Contract, added: int = 0) -> Shape:
    """The shape of a hub-format folder's model; ModelError where it is not one, or reads another vocabulary.

    `added`: tokens of the contract that get an embedding yet.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    make: Any = AutoModelForCausalLM.from_config
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        with torch.device("meta"):
            count = make(config).num_parameters()
    except (OSError, ValueError) as error:
        raise ModelError(
            f"no model at `{folder}`: {str(error).splitlines()[0]}",
            hint="name a folder in hub format, with config.json and model.safetensors",
        ) from None
    if config.vocab_size + added < contract.vocab_size:
        raise ModelError(
            f"the model reads {config.vocab_size:,} token ids, the tokens need {contract.vocab_size:,}",
            where=folder, hint="tokenize with the model's own tokenizer: `curate tokenize --tokenizer FOLDER`",
        )  # fmt: skip
    heads = config.num_attention_heads
    rope = getattr(config, "rope_parameters", None) or {}
    return Shape(
        width=config.hidden_size, layers=config.num_hidden_layers, heads=heads,
        kv_heads=getattr(config, "num_key_value_heads", None) or heads,
        intermediate=config.intermediate_size, max_context=config.max_position_embeddings, parameters=count,
        rope_theta=float(rope.get("rope_theta", 10_000.0)),
    )  # fmt: skip


def open_weights(folder: str) -> Any:
    """The model of a hub-format folder, fp32."""
    from transformers import AutoModelForCausalLM

    try:
        return AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, dtype=torch.float32, attn_implementation="sdpa",
        )  # fmt: skip
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"cannot read the weights: {str(error).splitlines()[0]}", where=folder) from None


def add_embeddings(model: Any, ids: Sequence[int]) -> None:
    """Give new tokens the mean of the embeddings before them, and a tenth of their deviation as noise (torch's seed).

    So no other token becomes much less likely (Hewitt 2021, "Initializing new word embeddings"). Rows that the
    model has beyond its tokenizer's vocabulary are used before new ones are made.
    """
    if max(ids) >= model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(max(ids) + 1, mean_resizing=False)
    layers = [model.get_input_embeddings(), model.get_output_embeddings()]
    for weight in {id(layer.weight): layer.weight for layer in layers}.values():  # one where they are tied
        with torch.no_grad():
            known = weight[: min(ids)]
            deviation, mean = torch.std_mean(known, 0)
            weight[list(ids)] = mean + _NOISE * deviation * torch.randn(len(ids), len(mean))


def save(model: Any, tokenizer: Path, target: Path) -> None:
    """Weights, config and the tokenizer's files as a hub-format folder."""
    with quiet():
        model.save_pretrained(target)
    if tokenizer.is_dir():
        for file in tokenizer.iterdir():
            if file.is_file():
                (target / file.name).write_bytes(file.read_bytes())
    if (target / "tokenizer.json").is_file() and not (target / "tokenizer_config.json").is_file():
        said = msgspec.json.decode((target / "tokenizer.json").read_bytes())
        words = {token["id"]: token["content"] for token in said.get("added_tokens", ())}
        ids = {"bos_token": model.config.bos_token_id, "eos_token": model.config.eos_token_id}
        named = {key: words[number] for key, number in ids.items() if number in words}
        (target / "tokenizer_config.json").write_bytes(
            msgspec.json.encode({"tokenizer_class": _TOKENIZER_CLASS, **named})
        )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' bar for reading or writing a file or two."""
    from transformers.utils import logging

    theirs: Any = logging
    shown = theirs.is_progress_bar_enabled()
    theirs.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            theirs.enable_progress_bar()


def decayed(model: Any) -> tuple[Sequence[torch.nn.Parameter], Sequence[torch.nn.Parameter]]:
    """Parameters with weight decay (matrices) and without (vectors)."""
    every = [p for p in model.parameters() if p.requires_grad]
    return [p for p in every if p.ndim > 1], [p for p in every if p.ndim < 2]
