"""Sentence embeddings of a local model folder (hub format): the mean of the last layer over the tokens.

torch and transformers are imported where a model is opened.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.errors import ModelError

NEEDED = ("config.json", "tokenizer.json")
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
MAX_TOKENS = 512  # where the folder does not say
_BATCH_TOKENS = 8192


def model_files(folder: str) -> list[str]:
    """The files that decide the embeddings; ModelError where one is missing."""
    place = Path(folder)
    weights = [name for name in WEIGHTS if (place / name).is_file()][:1]
    missing = [name for name in NEEDED if not (place / name).is_file()] + ([] if weights else [WEIGHTS[0]])
    if missing:
        hint = "name a folder as `sentence-transformers` saves it; models are not fetched"
        raise ModelError(f"no {missing[0]} in the model folder", where=folder, hint=hint)
    extra = [name for name in ("sentence_bert_config.json",) if (place / name).is_file()]
    return [str(place / name) for name in (*NEEDED, *weights, *extra)]


def parameters(folder: str) -> int:
    """How many the model of a folder has."""
    from safetensors import safe_open

    file = Path(folder) / WEIGHTS[0]
    if file.is_file():
        with safe_open(file, "np") as tensors:
            names = tensors.keys()
            return sum(math.prod(tensors.get_slice(name).get_shape()) for name in names)
    import torch

    held = torch.load(Path(folder) / WEIGHTS[1], map_location="meta", weights_only=True)
    return sum(one.numel() for one in held.values())


class Embedder:
    """A model, loaded once per worker."""

    def __init__(self, folder: str) -> None:
        model_files(folder)
        import torch
        from transformers import AutoModel, AutoTokenizer

        torch.set_num_threads(1)  # workers are processes; the same sums in the same order
        self._torch: Any = torch
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._model: Any = AutoModel.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, torch_dtype=torch.float32
        ).eval()
        about = Path(folder) / "sentence_bert_config.json"
        said = json.loads(about.read_text()).get("max_seq_length") if about.is_file() else None
        self._max_tokens = int(said or MAX_TOKENS)
        self.tokens = 0  # that it has read

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Embeddings, float32 (n, dimensions), not of unit length. What is beyond the model's length is cut off."""
        if not texts:
            return np.zeros((0, self._model.config.hidden_size), np.float32)
        tokens = self._tokenizer(list(texts), truncation=True, max_length=self._max_tokens)["input_ids"]
        self.tokens += sum(map(len, tokens))
        order = sorted(range(len(texts)), key=lambda i: len(tokens[i]))
        out = np.zeros((len(texts), self._model.config.hidden_size), np.float32)
        while order:  # texts of one length at a time: padding would change the sums
            size = len(tokens[order[0]])
            rows = [i for i in order[: max(1, _BATCH_TOKENS // size)] if len(tokens[i]) == size]
            order = order[len(rows) :]
            with self._torch.inference_mode():
                ids = self._torch.tensor([tokens[i] for i in rows])
                states = self._model(
                    input_ids=ids, attention_mask=self._torch.ones_like(ids)
                ).last_hidden_state
            out[rows] = states.mean(1).numpy()
        return out
