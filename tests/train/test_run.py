"""Whole runs of a tiny model: going on after a kill, where a run begins, what it refuses."""

import json
import os
import random
import re
import shutil
import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason='needs pip install "curate[train]"')
pytest.importorskip("transformers", reason='needs pip install "curate[train]"')

from safetensors.torch import load_file  # noqa: E402

from curate.errors import ConfigError, DataError, ModelError, RunError  # noqa: E402
from curate.train import averaging, checkpoint, run, settings  # noqa: E402
from curate.train.loop import Diverged, records  # noqa: E402

CONTEXT, BATCH = 16, 4
TINY = [
    "width=16", "layers=2", "heads=2", "kv_heads=1", f"context={CONTEXT}", f"batch={BATCH}", "lr=0.01",
    "checkpoint_every=5", "keep=100", "device=cpu", "precision=fp32",
]  # fmt: skip
STEPS = 20


class Killed(BaseException):
    pass


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tokens(token_dataset) -> Path:
    return token_dataset(documents(0))


def documents(seed: int, number: int = 150) -> list[list[int]]:
    """Each goes up or down from a random token: something to learn."""
    rng = random.Random(seed)
    found = []
    for _ in range(number):
        start, step = rng.randrange(3, 64), rng.choice([1, 2, 60])
        found.append([3 + (start + step * i) % 61 for i in range(rng.randrange(0, 40))])
    return found


def given(*sets: str, steps: int = STEPS, **flags: Any) -> settings.Loaded:
    return settings.load("", [*TINY, *sets], {"tokens": steps * CONTEXT * BATCH, **flags})


def killed_at(step: int) -> Callable[[dict[str, Any]], None]:
    def listen(record: dict[str, Any]) -> None:
        if record["step"] == step:
            raise Killed

    return listen


def losses(folder: Path) -> list[float]:
    return [record["loss"] for record in records(folder)]


def weights(folder: Path, name: str = "final") -> dict[str, Any]:
    return load_file(folder / name / "model.safetensors")


def same(one: dict[str, Any], two: dict[str, Any]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("packing", ["chunk", "complete", "best_fit"])
def test_a_killed_run_goes_on_to_the_bit(tokens: Path, tmp_path: Path, packing: str) -> None:
    how = given(f"packing={packing}", "mix.max_epochs=3")
    whole = run.train([tokens], tmp_path / "whole", how)
    with pytest.raises(Killed):
        run.train([tokens], tmp_path / "killed", how, listen=killed_at(13))
    assert [path.name for path in checkpoint.found(tmp_path / "killed")] == ["step-00000005", "step-00000010"]
    seen: list[int] = []
    again = run.train([tokens], tmp_path / "killed", how, listen=lambda record: seen.append(record["step"]))
    assert seen == list(range(11, STEPS + 1))
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    assert same(weights(tmp_path / "killed"), weights(tmp_path / "whole"))
    assert (again.data, again.tokens) == (whole.data, whole.tokens)
    assert losses(tmp_path / "whole")[-1] < losses(tmp_path / "whole")[0]


def test_without_its_moments_it_does_not(tokens: Path, tmp_path: Path) -> None:
    run.train([tokens], tmp_path / "whole", given())
    with pytest.raises(Killed):
        run.train([tokens], tmp_path / "killed", given(), listen=killed_at(13))
    file = tmp_path / "killed/step-00000010/training.pt"
    held = torch.load(file, weights_only=True)
    for moments in held["optimizer"]["state"].values():
        moments["exp_avg"].zero_()
        moments["exp_avg_sq"].zero_()
    torch.save(held, file)
    run.train([tokens], tmp_path / "killed", given())
    mine, theirs = losses(tmp_path / "killed"), losses(tmp_path / "whole")
    assert mine[:11] == theirs[:11]  # the loss of a step is that before it
    assert mine[11:] != theirs[11:]
    assert not same(weights(tmp_path / "killed"), weights(tmp_path / "whole"))


def test_a_log_that_a_kill_cut_off_is_mended(tokens: Path, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run.train([tokens], tmp_path / "out", given(), listen=killed_at(13))
    log = tmp_path / "out/log.jsonl"
    log.write_text(log.read_text() + '{"step": 14, "lo')
    (tmp_path / "out/.unfinished-step-00000015").mkdir()
    run.train([tokens], tmp_path / "out", given())
    assert [record["step"] for record in records(tmp_path / "out")] == list(range(1, STEPS + 1))
    assert not (tmp_path / "out/.unfinished-step-00000015").exists()


def test_a_complete_run_is_left_alone_and_another_one_refused(tokens: Path, tmp_path: Path) -> None:
    first = run.train([tokens], tmp_path / "out", given())
    before = (tmp_path / "out/train.json").stat().st_mtime_ns
    second = run.train([tokens], tmp_path / "out", given(), listen=killed_at(1))
    assert second.fingerprint == first.fingerprint
    assert (tmp_path / "out/train.json").stat().st_mtime_ns == before
    with pytest.raises(ConfigError, match=re.escape("holds another run: `lr` was 0.01")):
        run.train([tokens], tmp_path / "out", given("lr=0.02"))
    before = weights(tmp_path / "out")
    shutil.rmtree(tmp_path / "out/final")  # killed just before the end
    run.train([tokens], tmp_path / "out", given(), listen=killed_at(1))
    assert same(weights(tmp_path / "out"), before)
    run.train([tokens], tmp_path / "out", given("micro_batch=1"))  # how it is worked off is no other run


def test_seed_and_data_name_a_run(tokens: Path, token_dataset, tmp_path: Path) -> None:
    other = token_dataset(documents(1), name="other")
    same_name = token_dataset(documents(1), name="more/tokens")
    names = {
        run.prepare([data], tmp_path, how).fingerprint
        for data in (tokens, other, same_name)
        for how in (given(), given(seed=1), given("micro_batch=2"))
    }
    assert len(names) == 6


def test_micro_batches_change_nothing_but_rounding(tokens: Path, tmp_path: Path) -> None:
    run.train([tokens], tmp_path / "whole", given("packing=complete"))
    run.train([tokens], tmp_path / "pieces", given("packing=complete", "micro_batch=1"))
    assert losses(tmp_path / "pieces") == pytest.approx(losses(tmp_path / "whole"), abs=1e-5)
    labels = [record["loss_tokens"] for record in records(tmp_path / "whole")]
    assert len({b - a for a, b in pairwise(labels)}) > 1  # pieces have unequal labels


@pytest.mark.slow
def test_compiled_and_in_bf16_the_curve_is_the_same_up_to_rounding(tokens: Path, tmp_path: Path) -> None:
    run.train([tokens], tmp_path / "plain", given())
    run.train([tokens], tmp_path / "compiled", given("compile=true"))
    run.train([tokens], tmp_path / "short", given("precision=bf16"))
    assert losses(tmp_path / "compiled") == pytest.approx(losses(tmp_path / "plain"), abs=1e-4)
    assert losses(tmp_path / "short") == pytest.approx(losses(tmp_path / "plain"), abs=0.05)
    assert losses(tmp_path / "short") != losses(tmp_path / "plain")
    assert all(tensor.dtype == torch.float32 for tensor in weights(tmp_path / "short").values())


def test_train_json_says_what_was_done(tokens: Path, tmp_path: Path) -> None:
    run.train([tokens], tmp_path / "out", given(seed=3))
    said = json.loads((tmp_path / "out/train.json").read_text())
    assert (said["schema"], said["status"], said["steps"]) == ("curate.train/1", "complete", STEPS)
    assert said["origins"]["lr"] == "flag"
    assert said["origins"]["intermediate"] == "8/3 of width"
    assert set(said["origins"]) == set(said["settings"]) == set(settings.Settings.__struct_fields__)
    assert said["tokens"] == STEPS * CONTEXT * BATCH
    assert said["data"]["loss_tokens"] == records(tmp_path / "out")[-1]["loss_tokens"]
    assert said["data"]["unique_tokens"] == said["data"]["loss_tokens"]
    assert said["data"]["shares"] == {"tokens": 1.0}
    assert any("wrong sign" in note for note in said["notes"])
    assert said["loss"] == pytest.approx(sum(losses(tmp_path / "out")) / STEPS)


def test_old_checkpoints_go_but_those_at_joints_stay(tokens: Path, tmp_path: Path) -> None:
    how = given("schedule.kind=infinite", "schedule.cooldown=2", "schedule.anneal=8", "keep=1")
    run.train([tokens], tmp_path / "out", how)
    assert [path.name for path in checkpoint.found(tmp_path / "out")] == ["step-00000012", "step-00000020"]


# ---------------------------------------------------------------------- where a run begins


def test_infinite_goes_on_from_the_checkpoint_before_its_anneal(
    tokens: Path, token_dataset, tmp_path: Path
) -> None:
    """Same data: the longer run and the one that goes on agree to the bit up to the data's order."""
    curve = ["schedule.kind=infinite", "schedule.warmup=4", "schedule.cooldown=2", "schedule.anneal=8"]
    run.train([tokens], tmp_path / "first", given(*curve))
    start = tmp_path / "first/step-00000012"
    more = token_dataset(documents(9), name="more")
    init = {"checkpoint": str(start), "optimizer": "keep"}
    went_on = run.train([more], tmp_path / "second", given("checkpoint_every=4", init=init))
    assert went_on.origins["schedule"] == "checkpoint"
    rates = [record["lr"] for record in records(tmp_path / "second")]
    assert rates[:12] == [0.01 * 0.55] * 12  # no warming up again; the anneal is that of 12 + 20 steps
    assert rates[-1] == pytest.approx(0.01 * 0.1)
    assert any("goes on at step 13 of its schedule, with the moments" in note for note in went_on.notes)
    assert not any("jumps" in note for note in went_on.notes)

    reset = run.train([more], tmp_path / "reset", given(*curve, init=init | {"optimizer": "reset"}))
    assert losses(tmp_path / "reset")[0] == losses(tmp_path / "second")[0]  # the weights are the same
    assert losses(tmp_path / "reset")[2:] != losses(tmp_path / "second")[2:]
    assert any("re-warming" in note for note in reset.notes)

    with pytest.raises(Killed):
        run.train([more], tmp_path / "killed", given("checkpoint_every=4", init=init), listen=killed_at(9))
    run.train([more], tmp_path / "killed", given("checkpoint_every=4", init=init))
    assert losses(tmp_path / "killed") == losses(tmp_path / "second")


def test_a_jump_of_the_rate_is_said(tokens: Path, tmp_path: Path) -> None:
    run.train([tokens], tmp_path / "first", given())
    init = {"checkpoint": str(tmp_path / "first/step-00000020"), "optimizer": "keep"}
    found = run.prepare([tokens], tmp_path / "second", given(init=init))
    assert any("the rate jumps by a factor of" in note for note in found.notes)


def test_a_folder_is_weights_alone_and_warms_up_again(tokens: Path, tmp_path: Path) -> None:
    run.train([tokens], tmp_path / "first", given())
    start = str(tmp_path / "first/step-00000020")
    found = run.train([tokens], tmp_path / "second", settings.load("", ["lr=0.01", "batch=4", "device=cpu", "precision=fp32"], {"init": start, "tokens": 1280}))  # fmt: skip
    assert (found.settings["width"], found.origins["width"]) == (16, "init")
    assert (found.settings["context"], found.origins["context"]) == (CONTEXT, "init")
    assert any("no moments" in note and "moments that lie there are not used" in note for note in found.notes)
    assert losses(tmp_path / "second")[0] < 4.0  # it has learned before: a new model begins at ln 64 = 4.16
    assert losses(tmp_path / "first")[0] > 4.1


# ---------------------------------------------------------------------- data


def test_shares_hold_and_change_by_phase(token_dataset, tmp_path: Path) -> None:
    a, b = (token_dataset(documents(i, 2000), name=name) for i, name in ((1, "a"), (2, "b")))
    how = given(
        "mix.weights={a: 3, b: 1}", "phases=[{start: 0.5, weights: {a: 0, b: 1}}]", "shuffle=1", steps=200
    )
    found = run.train([a, b], tmp_path / "out", how)
    half = records(tmp_path / "out")[99]["data"]["shares"]
    assert half["a"] == pytest.approx(0.75, abs=0.02)
    assert found.data["shares"]["a"] == pytest.approx(0.375, abs=0.01)


@pytest.mark.parametrize("shuffle", [1, 12])  # what waits was not trained on
def test_epochs_are_counted_and_unique_tokens_with_them(token_dataset, tmp_path: Path, shuffle: int) -> None:
    few = token_dataset([[3 + i, 4 + i, 5 + i, 6] for i in range(40)], name="few")
    found = run.train([few], tmp_path / "out", given("mix.max_epochs=8", f"shuffle={shuffle}"))
    assert found.data["epochs"]["few"] == pytest.approx(STEPS * CONTEXT * BATCH / 240, abs=0.1)
    assert found.data["unique_tokens"] == 40 * 5


def test_a_subset_is_all_there_is(tokens: Path, tmp_path: Path) -> None:
    half = run.prepare([tokens], tmp_path, given("subset={share: 0.5}", steps=15))
    other = run.prepare([tokens], tmp_path, given("subset={share: 0.5, seed: 1}", steps=15))
    assert half.fingerprint != other.fingerprint
    run.prepare([tokens], tmp_path, given(steps=40))
    with pytest.raises(DataError, match="are asked for"):
        run.prepare([tokens], tmp_path, given("subset={share: 0.5}", steps=40))


def test_a_curriculum_is_read_in_its_order(token_dataset, tmp_path: Path) -> None:
    """Documents of one token each, harder ones later: the loss falls while they are the same, and jumps with them."""
    data = token_dataset(
        [[5] * 30] * 100 + [[9] * 30] * 100, columns={"score": [1.0] * 100 + [0.0] * 100}, part_rows=200
    )
    run.train(
        [data],
        tmp_path / "out",
        given("order={by: score, window: 1}", "packing=complete", "divergence=0", steps=50),
    )
    found = losses(tmp_path / "out")
    assert found[24] < 0.5 * found[0]
    assert max(found[25:30]) > 2 * found[24]


def test_what_packing_discards_is_known_before_the_first_step(token_dataset, tmp_path: Path) -> None:
    data = token_dataset([[5] * 30] * 200)
    with pytest.raises(
        DataError, match="after 200 sequences of 204: `packing: complete` discards 3,000 tokens"
    ) as told:
        run.train([data], tmp_path / "out", given("packing=complete", steps=51))
    assert "--tokens 3200" in told.value.hint
    assert not records(tmp_path / "out")


def test_metadata_is_in_the_text_and_out_of_the_loss_until_it_is_left_out(
    token_dataset, tmp_path: Path
) -> None:
    data = token_dataset(
        [[60, 61, *d] for d in documents(0, 2000) if d], prefix=[2] * sum(map(bool, documents(0, 2000)))
    )
    run.train([data], tmp_path / "with", given("phases=[{start: 0.5, metadata: none}]"))
    labels = [record["loss_tokens"] for record in records(tmp_path / "with")]
    run.train([data], tmp_path / "without", given("metadata=none"))
    bare = [record["loss_tokens"] for record in records(tmp_path / "without")]
    assert labels[9] < bare[9]
    assert labels[19] - labels[10] > labels[9] - labels[0]


# ---------------------------------------------------------------------- the end


def test_the_average_is_saved_beside_the_raw_weights(tokens: Path, tmp_path: Path) -> None:
    found = run.train([tokens], tmp_path / "out", given("average={kind: wma, last: 3}", "keep=1"))
    out = tmp_path / "out"
    assert found.next == f"curate eval {out / 'final'} && curate eval {out / 'final-wma'}"
    names = ["step-00000010", "step-00000015", "step-00000020"]
    assert [path.name for path in checkpoint.found(tmp_path / "out")] == names
    states = [weights(tmp_path / "out", name) for name in names]
    mean = weights(tmp_path / "out", "final-wma")
    for name, tensor in mean.items():
        by_hand = (states[0][name].double() + 2 * states[1][name].double() + 3 * states[2][name].double()) / 6
        assert torch.allclose(tensor.double(), by_hand, atol=1e-7)
    assert same(weights(tmp_path / "out"), states[-1])


def test_the_average_is_kept_through_a_kill(tokens: Path, tmp_path: Path) -> None:
    how = given("average={kind: ema, last: 2}")
    run.train([tokens], tmp_path / "whole", how)
    with pytest.raises(Killed):
        run.train([tokens], tmp_path / "killed", how, listen=killed_at(19))
    run.train([tokens], tmp_path / "killed", how)
    assert same(weights(tmp_path / "killed", "final-ema"), weights(tmp_path / "whole", "final-ema"))


def test_closed_forms_of_the_averages() -> None:
    def mean(kind: str, values: list[float], **options: Any) -> float:
        states = [{"w": torch.tensor([value], dtype=torch.bfloat16)} for value in values]
        average = averaging.Average(kind=kind, **options)
        found = averaging.averaged(states, averaging.coefficients(average, len(values)))["w"]
        assert found.dtype == torch.float32
        return float(found)

    values = [1.0, 2.0, 4.0]
    assert mean("sma", values) == pytest.approx(7 / 3)
    assert mean("wma", values) == pytest.approx((1 + 4 + 12) / 6)
    running = values[0]
    for value in values[1:]:
        running = 0.2 * running + 0.8 * value
    assert mean("ema", values) == pytest.approx(running)
    assert mean("ema", values, alpha=0.8) == pytest.approx(0.8 * (0.8 * 1 + 0.2 * 2) + 0.2 * 4)


def test_a_run_that_diverges_stops_with_the_reason(tokens: Path, tmp_path: Path) -> None:
    how = given("lr=1e30", "clip=0", "schedule.warmup=0")
    with pytest.raises(Diverged, match="the run diverged at step"):
        run.train([tokens], tmp_path / "out", how)
    said = json.loads((tmp_path / "out/train.json").read_text())
    assert (said["status"], said["exit"]) == ("diverged", 1)
    assert "diverged at step" in said["reason"]
    with pytest.raises(Diverged, match="diverged at step"):
        run.train([tokens], tmp_path / "out", how, listen=killed_at(1))


def test_harder_data_are_no_divergence(token_dataset, tmp_path: Path) -> None:
    easy = token_dataset([[5] * 30 for _ in range(300)], name="easy")
    hard = token_dataset(documents(3, 300), name="hard")
    phases = "phases=[{start: 0, weights: {easy: 1, hard: 0}}, {start: 0.5, weights: {easy: 0, hard: 1}}]"
    run.train([easy, hard], tmp_path / "out", given(phases, "divergence=1", "lr=0.03", steps=120))
    found = losses(tmp_path / "out")
    assert max(found[60:65]) > found[59] + 2


def test_a_rate_far_too_high_ends_the_run(token_dataset, tmp_path: Path) -> None:
    data = token_dataset(documents(3, 2000))
    how = given("lr=10", "schedule.kind=constant", "schedule.warmup=0", steps=130)
    with pytest.raises(Diverged, match="the loss stays above"):
        run.train([data], tmp_path / "out", how)
    said = json.loads((tmp_path / "out/train.json").read_text())
    assert (said["status"], len(records(tmp_path / "out"))) == ("diverged", 119)
    free = given("lr=10", "schedule.kind=constant", "schedule.warmup=0", "divergence=0", steps=130)
    assert run.train([data], tmp_path / "free", free).status == "complete"


def test_a_signal_saves_and_stops(tokens: Path, tmp_path: Path) -> None:
    import signal

    def at(record: dict[str, Any]) -> None:
        if record["step"] == 7:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(RunError, match="stopped at step 8 of 20"):
        run.train([tokens], tmp_path / "out", given(), listen=at)
    run.train([tokens], tmp_path / "whole", given())
    run.train([tokens], tmp_path / "out", given())
    assert losses(tmp_path / "out") == losses(tmp_path / "whole")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small tmpfs")
def test_a_full_disk_stops_a_run_that_goes_on_with_more_space(tokens: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()

    def size(options: str) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "curate-test", disk], check=True)

    run.train([tokens], tmp_path / "whole", given())
    each = sum(file.stat().st_size for file in (tmp_path / "whole/step-00000005").iterdir())
    size(f"size={int(2.7 * each)}")
    try:
        with pytest.raises(RunError) as told:
            run.train([tokens], disk / "out", given())
        assert "free some space" in told.value.hint
        assert [path.name for path in checkpoint.found(disk / "out")] == ["step-00000005", "step-00000010"]
        assert not list((disk / "out").glob(".unfinished*"))
        size(f"remount,size={20 * each}")
        run.train([tokens], disk / "out", given())
        assert losses(disk / "out") == losses(tmp_path / "whole")
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


# ---------------------------------------------------------------------- what does not fit


def test_what_does_not_fit_is_said_before_anything_is_written(
    tokens: Path, token_dataset, contract, tmp_path: Path
) -> None:
    import msgspec

    out = tmp_path / "out"
    with pytest.raises(DataError, match="are asked for"):
        run.train([tokens], out, given(steps=500))
    run.train([tokens], tmp_path / "small", given())
    small = str(tmp_path / "small/final")
    wide = token_dataset(
        [[70, 71]] * 900, name="wide", contract=msgspec.structs.replace(contract, vocab_size=80)
    )
    with pytest.raises(DataError, match="different tokenizers"):
        run.train([tokens, wide], out, given())
    with pytest.raises(ModelError, match="the model reads 64 token ids, the tokens need 80"):
        run.train([wide], out, given(init=small))
    with pytest.raises(ConfigError, match="`layers: 2`: the model of `init` has 3"):
        run.train([tokens], tmp_path / "three", given("layers=3"))
        run.train([tokens], out, given(init=str(tmp_path / "three/final")))
    with pytest.raises(ConfigError, match="reads at most 16 tokens"):
        run.train([tokens], out, given("context=32", init=small))
    with pytest.raises(DataError, match="weights alone"):
        run.train([tokens], out, given(init={"checkpoint": small, "optimizer": "keep"}))
    with pytest.raises(ModelError, match="no model at"):
        run.train([tokens], out, given(init=str(tokens)))
    (tmp_path / "small/final/tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match="made by another tokenizer than that of"):
        run.train([tokens], out, given(init=small))
    (tokens / "_curate/manifest.json").unlink()
    with pytest.raises(DataError, match="not a complete token dataset"):
        run.train([tokens], out, given())
    assert not out.exists()
