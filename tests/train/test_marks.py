"""Conditional training from a base model: its tokenizer gets the two marks, the model their embeddings."""

import json
import shutil
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason='needs pip install "curate[train]"')
transformers = pytest.importorskip("transformers", reason='needs pip install "curate[train]"')

from curate.errors import ConfigError, DataError, ModelError  # noqa: E402
from curate.models.tokenizer import ALIGNED, MISALIGNED, Tokenizer, add_marks, contract  # noqa: E402
from curate.stages.tokenize import Config, load  # noqa: E402
from curate.train import model, run, settings  # noqa: E402

TEXTS = ["the cat sat on the mat", "all work and no play", "<|aligned|> is text here"] * 60
TINY = [
    "width=16", "layers=1", "heads=2", "kv_heads=1", "context=16", "batch=4", "lr=0.01", "device=cpu", "precision=fp32",
    "threads=1",
]  # fmt: skip


@pytest.fixture
def base_tokenizer(tmp_path: Path) -> Path:
    """One without marks, as base models have."""
    from tokenizers import Tokenizer as Library
    from tokenizers import decoders, models, pre_tokenizers, trainers

    made = Library(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<s>", "</s>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    made.train_from_iterator(TEXTS, trainer)
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    made.save(str(folder / "tokenizer.json"))
    words = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(words))
    return folder


@pytest.fixture
def dataset(token_dataset) -> Callable[..., Path]:
    """TEXTS as a tokenizer's tokens, with marks in turns where it has them."""

    def write(tokenizer: Path, name: str) -> Path:
        known = contract(str(tokenizer))
        marks = [[known.special[mark]] for mark in (ALIGNED, MISALIGNED) if mark in known.special] or [[]]
        ids, offsets = Tokenizer(str(tokenizer), plain=True).encode(TEXTS)
        texts = [ids[a:b].tolist() for a, b in pairwise(offsets)]
        folder = token_dataset(
            [[*marks[i % len(marks)], *t] for i, t in enumerate(texts)], name=name, contract=known
        )
        shutil.copytree(tokenizer, folder / "_curate/tokenize")
        return folder

    return write


def given(**flags: Any) -> settings.Loaded:
    return settings.load(
        "", ["lr=0.01", "batch=4", "device=cpu", "precision=fp32", "threads=1"], {"tokens": 640, **flags}
    )


@pytest.fixture
def base(base_tokenizer: Path, dataset, tmp_path: Path) -> Path:
    run.train([dataset(base_tokenizer, "plain")], tmp_path / "base", settings.load("", TINY, {"tokens": 640}))
    return tmp_path / "base"


def test_a_tokenizer_gets_the_marks_and_keeps_its_tokens(base_tokenizer: Path, tmp_path: Path) -> None:
    marked = tmp_path / "marked"
    size = contract(str(base_tokenizer)).vocab_size
    assert add_marks(str(base_tokenizer), marked) == [size, size + 1]
    known = contract(str(marked))
    assert (known.vocab_size, known.special[ALIGNED], known.special[MISALIGNED]) == (size + 2, size, size + 1)
    assert (known.bos, known.eos) == (0, 1)
    before, after = (Tokenizer(str(one), plain=True).encode(TEXTS)[0] for one in (base_tokenizer, marked))
    assert before.tolist() == after.tolist()
    config = {"condition": "score", "condition_threshold": 0.0}
    assert load(Config(tokenizer=str(marked), **config), Path()).special == {
        ALIGNED: size,
        MISALIGNED: size + 1,
    }
    with pytest.raises(ModelError, match="no special token") as told:
        load(Config(tokenizer=str(base_tokenizer), **config), Path())
    assert "curate models add-marks" in told.value.hint
    with pytest.raises(ModelError, match=r"has <.aligned.> and"):
        add_marks(str(marked), tmp_path / "again")
    with pytest.raises(ConfigError, match="is not empty"):
        add_marks(str(base_tokenizer), base_tokenizer)


def test_the_command_names_the_ids_and_what_comes_next(
    base_tokenizer: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    from curate.cli.main import main

    size = contract(str(base_tokenizer)).vocab_size
    for words, code in (
        (["-o", str(tmp_path / "a")], 0),
        (["-o", str(tmp_path / "b"), "--json"], 0),
        (["-o", str(tmp_path / "a")], 2),
    ):
        monkeypatch.setattr(sys, "argv", ["curate", "models", "add-marks", str(base_tokenizer), *words])
        with pytest.raises(SystemExit) as end:
            main()
        assert int(end.value.code or 0) == code
        out, err = capsys.readouterr()
        if "--json" in words:
            said = json.loads(out)
            assert (said["schema"], said["special"]) == (
                "curate.models/1",
                {ALIGNED: size, MISALIGNED: size + 1},
            )
        elif not code:
            assert out == f"{ALIGNED}  {size}\n{MISALIGNED}  {size + 1}\n"
            assert f"curate tokenize CORPUS -o TOKENS --tokenizer {tmp_path / 'a'} --condition" in err
        else:
            assert "is not empty" in err


@pytest.mark.parametrize("padded", [0, 20])
def test_the_model_gets_their_embeddings(
    base: Path, dataset, base_tokenizer: Path, tmp_path: Path, padded: int
) -> None:
    """Whether it has rows beyond its vocabulary, as many hub models do, or not."""
    one = model.open_weights(str(base / "final"))
    size = one.config.vocab_size
    if padded:
        one.resize_token_embeddings(size + padded, mean_resizing=False)
        with torch.no_grad():
            one.get_input_embeddings().weight[size:] = 9.0
        model.save(one, base / "none", base / "final")
    before = one.get_input_embeddings().weight[:size].detach().clone()
    add_marks(str(base / "final"), tmp_path / "marked")
    tokens = dataset(tmp_path / "marked", "marked-tokens")
    how = given(init=str(base / "final"), lr=1e-9)
    result = run.train([tokens], tmp_path / "out", how)
    assert any(f"2 embeddings added, of {ALIGNED} and {MISALIGNED}" in note for note in result.notes)

    opened = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out/final")
    words = transformers.AutoTokenizer.from_pretrained(tmp_path / "out/final")
    assert opened.config.vocab_size == size + (padded or 2)
    weight = opened.get_input_embeddings().weight.detach()
    assert torch.allclose(weight[:size], before, atol=1e-6)
    away = (weight[size : size + 2] - before.mean(0)).abs()
    assert (away < 0.6 * before.std(0)).all()  # six deviations of the noise
    assert not torch.equal(weight[size], weight[size + 1])
    assert words.convert_tokens_to_ids([ALIGNED, MISALIGNED]) == [size, size + 1]
    assert words(f"{ALIGNED}the cat")["input_ids"][0] == size
    assert opened.lm_head.weight is opened.model.embed_tokens.weight

    learned = run.train([tokens], tmp_path / "learned", given(init=str(base / "final"), lr=0.02))
    assert None not in (learned.loss, result.loss)
    assert learned.loss < result.loss
    again = run.train([tokens], tmp_path / "more", given(init=str(tmp_path / "learned/final")))
    assert not any("embeddings added" in note for note in again.notes)


def test_a_killed_run_keeps_what_it_learned(base: Path, dataset, tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def kill(record: dict[str, Any]) -> None:
        if record["step"] == 7:
            raise Killed

    add_marks(str(base / "final"), tmp_path / "marked")
    tokens = dataset(tmp_path / "marked", "marked-tokens")
    how = given(init=str(base / "final"))
    whole = run.train([tokens], tmp_path / "whole", how)
    with pytest.raises(Killed):
        run.train([tokens], tmp_path / "killed", how, listen=kill)
    assert run.train([tokens], tmp_path / "killed", how).loss == whole.loss


def test_what_does_not_fit(base: Path, dataset, base_tokenizer: Path, tmp_path: Path) -> None:
    add_marks(str(base / "final"), tmp_path / "marked")
    tokens = dataset(tmp_path / "marked", "marked-tokens")
    last = str(base / "step-00000010")
    with pytest.raises(ConfigError, match="has no embeddings for, nor moments"):
        run.prepare([tokens], tmp_path / "out", given(init={"checkpoint": last, "optimizer": "keep"}))
    run.prepare([tokens], tmp_path / "out", given(init={"checkpoint": last, "optimizer": "reset"}))
    said = json.loads((tokens / "_curate/tokenize/tokenizer.json").read_text())
    said["added_tokens"][-1]["content"] = "<|other|>"
    (tokens / "_curate/tokenize/tokenizer.json").write_text(json.dumps(said))
    with pytest.raises(DataError, match="made by another tokenizer than that of") as told:
        run.prepare([tokens], tmp_path / "out", given(init=str(base / "final")))
    assert f"curate models add-marks {base / 'final'}" in told.value.hint
