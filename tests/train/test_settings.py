"""Where each value of a run comes from, and what is refused."""

from pathlib import Path

import pytest

from curate.errors import ConfigError
from curate.train import settings
from curate.train.schedule import Cosine, Wsd
from curate.train.settings import Shape


def test_flag_file_size_default(tmp_path: Path) -> None:
    file = tmp_path / "train.yaml"
    file.write_text("size: 7m\nlr: 5e-4\nbatch: 4\nschedule: {kind: wsd, decay: 0.1}\n")
    given = settings.load(str(file), ["batch=8", "schedule.shape=1-sqrt"], {"size": "3m", "seed": None})
    found = settings.resolve(given, 1000)
    now, origins = found.settings, found.origins
    assert (now.size, now.lr, now.batch, now.width, now.weight_decay) == ("3m", 5e-4, 8, 192, 0.1)
    assert now.schedule == Wsd(decay=0.1, shape="1-sqrt")
    keys = ("size", "lr", "batch", "schedule", "width", "weight_decay", "tokens", "intermediate", "seed")
    assert [origins[key] for key in keys] == [
        "flag", "file", "flag", "flag", "size 3m", "default", "20 per parameter", "8/3 of width", "default",
    ]  # fmt: skip


def test_a_schedule_without_a_kind_is_a_cosine() -> None:
    assert settings.load("", ["schedule.final_ratio=0"]).settings.schedule == Cosine(final_ratio=0)


def test_a_model_brings_its_shape() -> None:
    shape = Shape(
        width=576, layers=30, heads=9, kv_heads=3, intermediate=1536, max_context=512, parameters=134_515_008,
        rope_theta=1e5,
    )  # fmt: skip
    found = settings.resolve(settings.load(), 49_152, shape)
    assert (found.settings.size, found.settings.context, found.settings.rope_theta) == ("135m", 512, 1e5)
    assert found.settings.tokens == 20 * 134_515_008
    assert {found.origins[key] for key in ("size", "width", "context", "rope_theta")} == {"init"}


@pytest.mark.parametrize(
    ("sets", "message", "hint"),
    [
        (["widht=3"], "unknown key `widht`", "did you mean `width`?"),
        (["schedule.kind=wsd", "schedule.decoy=3"], "unknown key `decoy`", "decay"),
        (["schedule.kind=linear"], "linear", ""),
        (["batch=0"], "`batch` must be above 0", ""),
        (["lr=fast"], "`lr`", "a number"),
        (["mix.weights={a: -1}"], "are 0 or above", ""),
        (["init={checkpoint: x, optimizer: maybe}"], "maybe", ""),
        (["lr.peak=1"], "unknown key|Expected", ""),
        (["lr"], "takes key.path=value", ""),
    ],
)
def test_what_is_refused(sets: list[str], message: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=message) as told:
        settings.load("", sets)
    assert hint in told.value.hint


def test_shapes_that_do_not_split() -> None:
    for sets, message in ((["width=100", "heads=3"], "3 heads"), (["heads=4", "kv_heads=3"], "no multiple")):
        with pytest.raises(ConfigError, match=message):
            settings.resolve(settings.load("", sets), 64)
    with pytest.raises(ConfigError, match="no size `2t`") as told:
        settings.resolve(settings.load("", ["size=2t"]), 64)
    assert "135m" in told.value.hint


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the config"):
        settings.load(str(tmp_path / "no.yaml"))
