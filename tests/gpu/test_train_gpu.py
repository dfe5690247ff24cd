"""Training on a GPU: bf16, fused AdamW and torch.compile learn; a killed run goes on; documents do not see each other."""

import random
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest

torch = pytest.importorskip("torch", reason='needs pip install "curate[train]"')
pytest.importorskip("transformers", reason='needs pip install "curate[train]"')

from curate.models.tokenizer import Contract  # noqa: E402
from curate.train import model, run, settings  # noqa: E402
from curate.train.loop import records  # noqa: E402
from curate.train.packing import Packer, Pick  # noqa: E402
from curate.train.tokens import CONTRACT, Tokens  # noqa: E402

DEVICE = "cuda"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here"),
]
STEPS, CONTEXT, BATCH = 20, 128, 16
SMALL = [
    "size=7m", f"context={CONTEXT}", f"batch={BATCH}", "lr=2e-3", "schedule.warmup=2", "checkpoint_every=5",
    f"device={DEVICE}",
]  # fmt: skip


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    """Documents that go up from a random token: something to learn."""
    rng = random.Random(0)
    starts = [(rng.randrange(61), rng.randrange(20, 200)) for _ in range(1500)]
    documents = [[3 + (start + i) % 61 for i in range(length)] for start, length in starts]
    number = len(documents)
    table = pa.table(
        {
            "id": [str(i) for i in range(number)],
            "key": pa.array([rng.getrandbits(64) for _ in range(number)], pa.uint64()),
            "tokens": pa.array(documents, pa.large_list(pa.uint16())),
            "prefix": pa.array([0] * number, pa.int32()),
            "n_bytes": pa.array([9] * number, pa.int64()),
        }
    ).replace_schema_metadata(
        {CONTRACT: msgspec.json.encode(Contract(tokenizer="", vocab_size=64, bos=0, eos=1, special={}))}
    )
    folder = tmp_path / "tokens"
    (folder / "_curate").mkdir(parents=True)
    with pa.ipc.new_file(folder / "part-00000.arrow", table.schema) as file:
        file.write_table(table)
    (folder / "_curate/manifest.json").write_text("{}")
    return folder


def given(*sets: str) -> settings.Loaded:
    return settings.load("", [*SMALL, *sets], {"tokens": STEPS * CONTEXT * BATCH})


def test_bf16_and_compiled_it_learns(tokens: Path, tmp_path: Path) -> None:
    result = run.train([tokens], tmp_path / "out", given())
    log = records(tmp_path / "out")
    assert (result.settings["precision"], result.settings["compile"]) == ("bf16", True)
    assert log[-1]["loss"] < 0.7 * log[0]["loss"]
    plain = run.train([tokens], tmp_path / "plain", given("compile=false", "precision=fp32"))
    assert result.loss == pytest.approx(plain.loss, rel=0.03)


def test_a_killed_run_goes_on(tokens: Path, tmp_path: Path) -> None:
    """Eager, the same kernels in the same order: as close as atomic sums on a GPU allow."""

    class Killed(BaseException):
        pass

    def kill(record: dict[str, Any]) -> None:
        if record["step"] == 13:
            raise Killed

    how = given("compile=false")
    run.train([tokens], tmp_path / "whole", how)
    with pytest.raises(Killed):
        run.train([tokens], tmp_path / "killed", how, listen=kill)
    seen: list[int] = []
    run.train([tokens], tmp_path / "killed", how, listen=lambda record: seen.append(record["step"]))
    assert seen == list(range(11, STEPS + 1))
    whole, killed = ([r["loss"] for r in records(tmp_path / name)] for name in ("whole", "killed"))
    assert killed == pytest.approx(whole, rel=1e-3)


def test_a_packed_document_has_its_logits_alone(tokens: Path) -> None:
    torch.backends.cuda.matmul.allow_tf32 = False
    data = Tokens.open(tokens)
    now = settings.resolve(given(), data.contract.vocab_size).settings
    one = model.build(now, data.contract).eval().to(DEVICE)
    rows = [next(Packer([data], (Pick(0, i) for i in range(50)), context=CONTEXT)) for _ in range(2)]
    batch = model.batch_of(rows, True).to(torch.device(DEVICE))
    assert batch.documents is not None
    with torch.no_grad():
        mask = model.document_mask(batch.documents)
        together = one(input_ids=batch.tokens, attention_mask=mask, position_ids=batch.positions).logits
        for number in range(int(batch.documents[0].max()) + 1):
            at = torch.from_numpy(np.flatnonzero(rows[0].documents[:-1] == number))
            alone = one(input_ids=batch.tokens[0, at][None]).logits[0]
            assert torch.allclose(together[0, at], alone, atol=1e-4)


def test_mfu_stands_in_the_log_of_a_known_gpu(tokens: Path, tmp_path: Path) -> None:
    from curate.train.loop import peak_flops

    if not peak_flops(torch.cuda.get_device_name()):
        pytest.skip(f"the peak of {torch.cuda.get_device_name()} is not in the table")
    run.train([tokens], tmp_path / "out", given())
    assert all(0 < record["mfu"] < 1 for record in records(tmp_path / "out"))
