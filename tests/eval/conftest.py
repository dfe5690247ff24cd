"""Checkpoint folders of tiny models with random weights, and a byte-level tokenizer."""

from collections.abc import Callable
from pathlib import Path

import pytest

from curate.models.tokenizer import contract, train

TEXT = "The cat sat on the mat, and nobody knew why it would not leave; so they left the house to it. Ein Käfer! "


@pytest.fixture(scope="session")
def save_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Saves a Llama of 2 layers with a tokenizer of its own."""
    torch = pytest.importorskip("torch", reason='needs pip install "curate[eval]"')
    transformers = pytest.importorskip("transformers", reason='needs pip install "curate[eval]"')

    def save(
        name: str, *, scale: float = 0.3, context: int = 64, vocabulary: int = 320, seed: int = 0
    ) -> Path:
        folder = tmp_path_factory.mktemp("checkpoints") / name
        folder.mkdir()
        train([TEXT * 20], vocabulary, folder)
        said = contract(str(folder))
        config = transformers.LlamaConfig(
            vocab_size=said.vocab_size, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=context, initializer_range=scale,
            bos_token_id=said.bos, eos_token_id=said.eos, tie_word_embeddings=True,
        )  # fmt: skip
        torch.manual_seed(seed)
        transformers.LlamaForCausalLM(config).save_pretrained(folder)
        return folder

    return save


@pytest.fixture(scope="session")
def checkpoint(save_checkpoint: Callable[..., Path]) -> Path:
    """One of them, with a context of 64 tokens."""
    return save_checkpoint("tiny")
