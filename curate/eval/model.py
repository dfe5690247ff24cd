"""A checkpoint folder opened for scoring: log-likelihoods of tokens, in batches of like length.

A sequence is scored as a document begins in training: after BOS, or after EOS where the tokenizer has no BOS. Padding
stands right of the tokens, where a causal model cannot see it. torch and transformers are imported where they are used.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast, get_args

import numpy as np
import numpy.typing as npt

from curate.errors import ConfigError, ModelError
from curate.io.files import sha256_of
from curate.models.tokenizer import Tokenizer

Dtype = Literal["auto", "fp32", "bf16"]
Tokens = tuple[int, ...]
UNBOUNDED = 2048  # context of a model that names none, as in lm-eval
WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
MOST_LOGITS = {"cpu": 1 << 25, "cuda": 1 << 30}  # of a batch: 128 MB and 4 GB in fp32
MOST_TOKENS = {"cpu": 1 << 10, "cuda": 1 << 16}


class Scored(NamedTuple):
    """Of each scored token: its log-likelihood in nats, and whether it was the likeliest."""

    log_likelihoods: npt.NDArray[np.float32]  # (scored,)
    greedy: npt.NDArray[np.bool_]  # (scored,)


class Model:
    """A causal language model with its tokenizer. `context` is the longest input it takes."""

    def __init__(self, network: Any, tokenizer: Any, folder: str) -> None:
        self.folder, self.network, self.tokenizer = folder, network.eval(), tokenizer
        self._plain = Tokenizer(folder, plain=True)  # as `tokenize` reads documents
        self.device: Any = next(network.parameters()).device
        self.dtype = str(next(network.parameters()).dtype).removeprefix("torch.")
        self.context = int(getattr(network.config, "max_position_embeddings", None) or UNBOUNDED)
        self.vocab_size = int(network.config.vocab_size)
        self.prefix = _prefix(tokenizer, network.config, folder)

    @classmethod
    def open(cls, folder: str, dtype: Dtype = "auto", device: str = "auto") -> "Model":
        """Open a hub-format folder. ModelError where a file is missing or another's; auto: bf16 on a GPU, else fp32."""
        check_folder(folder)
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from curate.train.model import quiet

        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        elif device.startswith("cuda") and not torch.cuda.is_available():
            raise ConfigError(f"`device: {device}`: there is no GPU here", hint="leave it out, or name cpu")
        short = dtype if dtype != "auto" else ("bf16" if device.startswith("cuda") else "fp32")
        try:
            with quiet():
                network = AutoModelForCausalLM.from_pretrained(
                    folder, local_files_only=True, trust_remote_code=False,
                    dtype={"fp32": torch.float32, "bf16": torch.bfloat16}[short],
                )  # fmt: skip
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            hint = "name a folder in hub format; `curate train` writes them"
            raise ModelError(f"cannot open the checkpoint: {first}", where=folder, hint=hint) from None
        if network.config.vocab_size < len(tokenizer):
            raise ModelError(
                f"the tokenizer has {len(tokenizer):,} tokens, the model {network.config.vocab_size:,}",
                where=folder, hint="tokenizer and weights are of different models: copy the right one in",
            )  # fmt: skip
        placed: Any = network
        return cls(placed.to(device), tokenizer, folder)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, without special tokens: what looks like one in a document is text."""
        ids, offsets = self._plain.encode(texts)
        return [ids[begin:end].tolist() for begin, end in pairwise(offsets)]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens, special ones among them, as it is."""
        return str(self._plain.library.decode(list(ids), skip_special_tokens=False))

    def score(self, sequences: Sequence[Sequence[int]], counts: Sequence[int]) -> list[Scored]:
        """Score the last `counts[i]` tokens of each sequence, given all before them in it.

        Sequences that differ in their last token alone, such as one prompt's answers A to D, are run once.
        """
        inputs: dict[tuple[Tokens, int], list[int]] = {}
        for i, (sequence, count) in enumerate(zip(sequences, counts, strict=True)):
            assert 0 < count < len(sequence) <= self.context + 1
            inputs.setdefault((tuple(sequence[:-1]), count), []).append(i)
        found: list[Scored] = [Scored(np.empty(0, np.float32), np.empty(0, np.bool_))] * len(sequences)
        for batch in self._batches(list(inputs)):
            owners = [inputs[key] for key in batch]
            for members, scored in zip(owners, self._run(batch, owners, sequences), strict=True):
                for i, one in zip(members, scored, strict=True):
                    found[i] = one
        return found

    def _batches(self, keys: list[tuple[Tokens, int]]) -> Iterator[list[tuple[Tokens, int]]]:
        """The longest first; a batch is bounded by its tokens with padding, and by its logits."""
        kind = self.device.type if self.device.type in MOST_TOKENS else "cpu"
        most = min(MOST_TOKENS[kind], MOST_LOGITS[kind] // self.vocab_size)
        keys.sort(key=lambda key: (-len(key[0]), -key[1]))
        at = 0
        while at < len(keys):
            size = max(1, most // len(keys[at][0]))
            yield keys[at : at + size]
            at += size

    def _run(
        self,
        batch: Sequence[tuple[Tokens, int]],
        owners: Sequence[Sequence[int]],
        sequences: Sequence[Sequence[int]],
    ) -> Iterator[list[Scored]]:
        """For each input of a batch, the scores of the sequences that it belongs to."""
        import torch

        width = max(len(tokens) for tokens, _ in batch)
        first = min(len(tokens) - count for tokens, count in batch)  # no logits are needed before it
        with torch.inference_mode():
            ids = torch.tensor([[*tokens, *[0] * (width - len(tokens))] for tokens, _ in batch])
            keep = torch.arange(first, width, device=self.device)
            logits = self.network(input_ids=ids.to(self.device), use_cache=False, logits_to_keep=keep).logits
            logits = logits[
                :, first - width :
            ].float()  # a model that does not know `logits_to_keep` gives all
            for row, (tokens, count), members in zip(logits, batch, owners, strict=True):
                end = len(tokens) - first
                scored = torch.log_softmax(row[end - count : end], -1)
                targets = torch.tensor([list(sequences[i][-count:]) for i in members], device=self.device)
                values = scored.gather(1, targets.T).T.cpu().numpy()  # (members, count)
                greedy = (scored.argmax(-1)[None] == targets).cpu().numpy()
                yield [Scored(value, hit) for value, hit in zip(values, greedy, strict=True)]

    def continued(self, prompts: Sequence[Sequence[int]], tokens: int) -> list[list[int]]:
        """Greedy continuations of prompts of one length, `tokens` long each: EOS ends none."""
        import torch

        out: list[list[int]] = []
        size = max(1, MOST_TOKENS.get(self.device.type, 1 << 12) // max(1, len(prompts[0]) + tokens))
        with torch.inference_mode():
            for at in range(0, len(prompts), size):
                ids = torch.tensor([list(p) for p in prompts[at : at + size]], device=self.device)
                made = self.network.generate(
                    input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, num_beams=1,
                    min_new_tokens=tokens, max_new_tokens=tokens, pad_token_id=self.prefix,
                )  # fmt: skip
                out += made[:, ids.shape[1] :].tolist()
        return out

    def about(self) -> dict[str, Any]:
        """What names the model in a result: weights and tokenizer by sha256, the number format, the libraries."""
        from importlib.metadata import version

        place = Path(self.folder)
        files = sorted(file for pattern in WEIGHTS for file in place.glob(pattern))
        return {
            "weights": {file.name: sha256_of(file) for file in files},
            "tokenizer": sha256_of(place / "tokenizer.json"),
            "parameters": int(self.network.num_parameters()),
            "dtype": self.dtype,
            "device": self.device.type,
            "torch": version("torch"),
            "transformers": version("transformers"),
        }


def named(dtype: str) -> Dtype:
    """A number format by its name; ConfigError for another."""
    for one in get_args(Dtype):
        if one == dtype:
            return cast(Dtype, one)
    raise ConfigError(f"dtype {dtype}: no such number format", hint=f"one of {', '.join(get_args(Dtype))}")


def check_folder(folder: str) -> None:
    """ModelError where a checkpoint folder lacks its config, weights or tokenizer."""
    place = Path(folder)
    if not place.is_dir():
        raise ModelError("no such checkpoint folder", where=folder, hint="name a folder in hub format")
    has_weights = any(True for pattern in WEIGHTS for _ in place.glob(pattern))
    missing = [name for name in ("config.json", "tokenizer.json") if not (place / name).is_file()]
    missing += [] if has_weights else ["model.safetensors"]
    if missing:
        hint = "copy the tokenizer's files in, from the folder the data was tokenized with"
        if missing != ["tokenizer.json"]:
            hint = "`curate train` writes complete folders: final/, step-00000100/"
        raise ModelError(f"no {missing[0]} in the checkpoint folder", where=folder, hint=hint)


def _prefix(tokenizer: Any, config: Any, folder: str) -> int:
    """BOS, or EOS where there is none: the tokenizer's, or else the model's."""
    for found in (
        tokenizer.bos_token_id, tokenizer.eos_token_id,
        getattr(config, "bos_token_id", None), getattr(config, "eos_token_id", None),
    ):  # fmt: skip
        one = found[0] if isinstance(found, list) and found else found
        if isinstance(one, int):
            return one
    raise ModelError(
        "neither the tokenizer nor the model names a BOS or EOS token, after which a document is scored",
        where=folder, hint="set `bos_token_id` or `eos_token_id` in config.json",
    )  # fmt: skip
