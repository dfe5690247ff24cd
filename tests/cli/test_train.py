"""`curate train` as a command: what it prints, its exit codes, the job it writes."""

import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest

pytest.importorskip("torch", reason='needs pip install "curate[train]"')
pytest.importorskip("transformers", reason='needs pip install "curate[train]"')

from curate.cli.main import main
from curate.models.tokenizer import Contract

TINY = "width=16 layers=1 heads=2 kv_heads=2 context=16 batch=4 lr=0.01 device=cpu precision=fp32".split()


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    contract = Contract(tokenizer="0" * 64, vocab_size=64, bos=0, eos=1, special={})
    folder = tmp_path / "tokens"
    (folder / "_curate").mkdir(parents=True)
    table = pa.table(
        {
            "id": [str(i) for i in range(200)],
            "key": pa.array(range(200), pa.uint64()),
            "tokens": pa.array([[3 + i % 60] * 10 for i in range(200)], pa.large_list(pa.uint16())),
            "prefix": pa.array([0] * 200, pa.int32()),
            "n_bytes": pa.array([30] * 200, pa.int64()),
        }
    ).replace_schema_metadata({"curate.contract": msgspec.json.encode(contract)})
    with pa.ipc.new_file(folder / "part-00000.arrow", table.schema) as file:
        file.write_table(table)
    (folder / "_curate/manifest.json").write_text("{}")
    return folder


def curate(monkeypatch: Any, capsys: Any, *words: object) -> tuple[int, str, str]:
    line = ["curate", "train", *map(str, words), *(w for one in TINY for w in ("--set", one))]
    monkeypatch.setattr(sys, "argv", line)
    with pytest.raises(SystemExit) as end:
        main()
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out, err


def test_every_value_is_printed_with_its_origin(tokens: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    code, out, err = curate(monkeypatch, capsys, tokens, "-o", tmp_path / "out", "--tokens", 640, "--seed", 3)
    assert (code, out) == (0, "")
    printed = {line.split("  ")[0]: line.split("  ")[-1].strip() for line in err.splitlines()}
    assert (printed["lr"], printed["seed"], printed["weight_decay"]) == ("flag", "flag", "default")
    assert (printed["intermediate"], printed["device"]) == ("8/3 of width", "flag")
    assert "10 steps" in err
    assert "next    curate eval" in err


def test_json_is_train_json_and_quiet_says_nothing(tokens: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    words = (tokens, "-o", tmp_path / "out", "--tokens", 640, "--json", "--quiet")
    code, out, err = curate(monkeypatch, capsys, *words)
    assert (code, err) == (0, "")
    said = json.loads(out)
    assert said == json.loads((tmp_path / "out/train.json").read_text())
    assert (said["schema"], said["status"], said["exit"]) == ("curate.train/1", "complete", 0)


def test_a_config_file_names_the_place_of_an_error(tokens: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    file = tmp_path / "train.yaml"
    file.write_text("seed: 1\nweight_decai: 0.2\n")
    code, _, err = curate(monkeypatch, capsys, tokens, "-o", tmp_path / "out", "--config", file)
    assert code == 2
    assert f"{file}:2:1: unknown key `weight_decai`" in err
    assert "did you mean `weight_decay`?" in err
    assert not (tmp_path / "out").exists()


def test_a_line_of_progress_tells_mfu(capsys) -> None:
    from curate.cli.train import View

    view = View(quiet=False)
    view._told = float("-inf")
    record = {"step": 3, "of": 9, "loss": 2.5, "lr": 1e-3, "tokens_per_second": 1e6, "mfu": 0.451}
    view(record)
    assert "step 3 of 9, loss 2.5000, rate 1.00e-03, 1,000,000 tokens/s, MFU 45.1%" in capsys.readouterr().err


def test_too_few_tokens_and_divergence_have_their_exit_codes(
    tokens: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    code, _, err = curate(monkeypatch, capsys, tokens, "-o", tmp_path / "out", "--tokens", 10_000)
    assert code == 2
    assert "`tokens` holds 2,400 tokens, and 10,000 are asked for" in err
    assert not (tmp_path / "out/train.json").exists()
    file = tmp_path / "train.yaml"
    file.write_text("lr: 1e30\n")
    monkeypatch.setattr(sys.modules[__name__], "TINY", [one for one in TINY if "lr" not in one])
    words = (tokens, "-o", tmp_path / "bad", "--tokens", 640, "--config", file, "--set", "clip=0", "--json")
    code, out, err = curate(monkeypatch, capsys, *words)
    assert code == 1
    assert json.loads(out)["error"]["kind"] == "diverged"
    assert "the run diverged at step" in err


def test_slurm_writes_a_job_and_trains_nothing(tokens: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    job = tmp_path / "job.sh"
    words = (tokens, "-o", tmp_path / "out", "--tokens", 640, "--slurm", job, "--nodes", 2, "--processes=4")
    code, _, err = curate(monkeypatch, capsys, *words)
    assert code == 0
    text = job.read_text()
    assert f"--no-python curate train {tokens} -o {tmp_path / 'out'} --tokens 640 --set width=16" in text
    assert "--nodes=2" in text
    assert "--gpus-per-node=4" in text
    assert "--slurm" not in text
    assert f"sbatch {job}" in err
    assert not (tmp_path / "out").exists()
