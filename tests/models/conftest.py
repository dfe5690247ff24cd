"""Small classifiers trained with fastText itself, and lid.176."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from curate.errors import ModelError
from curate.models import catalog

# fastText leaves part of its matrix uninitialised with few threads and meets NaN at random; filled memory and one
# thread make every run good and equal.
TRAIN = """
import fasttext, json, sys
for job in json.loads(sys.argv[1]):
    model = fasttext.train_supervised(thread=1, verbose=0, **job["train"])
    if job["quantize"]:
        model.quantize(input=job["train"]["input"], thread=1, verbose=False, **job["quantize"])
    model.save_model(job["path"])
"""

NGRAMS = {"wordNgrams": 2, "bucket": 3000, "dim": 10, "minn": 0, "maxn": 0}
CHARS = {"wordNgrams": 1, "bucket": 2000, "dim": 16, "minn": 2, "maxn": 4, "lr": 1.0, "epoch": 15}
MODELS: dict[str, tuple[str, dict[str, object], dict[str, object]]] = {
    "softmax.bin": ("two", {**NGRAMS, "loss": "softmax"}, {}),
    "softmax.ftz": ("two", {**NGRAMS, "loss": "softmax"}, {"qnorm": True, "dsub": 3}),
    "hs.bin": ("two", {**NGRAMS, "loss": "hs"}, {}),
    "hs.ftz": ("two", {**NGRAMS, "loss": "hs", "wordNgrams": 3}, {"qnorm": True, "cutoff": 700}),
    "pruned_of_all.ftz": ("two", {**NGRAMS, "loss": "softmax", "wordNgrams": 1}, {"cutoff": 300}),
    "chars.bin": ("many", {**CHARS, "loss": "hs"}, {}),
    "chars.ftz": ("many", {**CHARS, "loss": "softmax"}, {"qnorm": True, "cutoff": 900, "qout": True}),
    "mixed.ftz": ("many", {**CHARS, "loss": "hs", "wordNgrams": 3, "minn": 1}, {"cutoff": 1200}),
    "ova.bin": ("two", {**NGRAMS, "loss": "ova"}, {}),
}


def lines(num_labels: int, seed: int) -> list[str]:
    """Labelled nonsense: each label has words of its own, some of them not ASCII."""
    rng = random.Random(seed)
    syllables = ["ba", "ko", "ré", "şu", "но", "да", "ta", "mi", "語", "x", "ling", "er"]
    shared = ["".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(300)]
    own = [["".join(rng.choices(syllables, k=3)) for _ in range(40)] for _ in range(num_labels)]
    return [
        f"__label__{label:03d} "
        + " ".join(rng.choice(own[label] if rng.random() < 0.5 else shared) for _ in range(12))
        for label in (rng.randrange(num_labels) for _ in range(3000))
    ]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One small model of every shape, each trained once."""
    folder = tmp_path_factory.mktemp("fasttext")
    (folder / "two").write_text("\n".join(lines(2, seed=1)))
    (folder / "many").write_text("\n".join(lines(300, seed=2)))
    jobs = [
        {"path": str(folder / name), "train": {"input": str(folder / data), **train}, "quantize": quantize}
        for name, (data, train, quantize) in MODELS.items()
    ]
    subprocess.run(
        [sys.executable, "-c", TRAIN, json.dumps(jobs)],
        check=True,
        env={**os.environ, "MALLOC_PERTURB_": "255"},
    )
    return {name: folder / name for name in MODELS}


@pytest.fixture(scope="session")
def lid176() -> Path:
    """The language model of the catalogue, which `make venv` fetches."""
    try:
        return catalog.find("lid176")
    except ModelError as error:
        if os.environ.get("CI"):
            pytest.fail(f"CI must have the model: {error} ({error.hint})")
        pytest.skip(f"{error} ({error.hint})")
