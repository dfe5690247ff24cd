"""Commands side by side: what is done is left alone, and a command that fails speaks for itself."""

import os
import socket

import pytest

from curate.engine.lock import Lock
from curate.errors import ConfigError
from curate.io.files import Folder
from curate.study.runs import Step, divergence, work


def test_a_command_that_cannot_be_run_as_written_says_why(tmp_path):
    step = Step(("verify", str(tmp_path / "nosuch")), str(tmp_path / "done"))
    with pytest.raises(ConfigError, match="ended with exit 2") as refused:
        list(work([[step]], 1, tmp_path / "log", lambda text: None))
    assert "nosuch" in (tmp_path / "log" / "000-verify.log").read_text()
    assert (tmp_path / "log" / "000-verify.log").read_text().strip() in str(refused.value)


def test_a_training_that_diverged_ends_its_track_and_no_other(tmp_path):
    result = tmp_path / "train.json"
    result.write_text('{"status": "diverged", "reason": "the loss is nan"}')
    (tmp_path / "done").touch()
    wild = Step(("verify", "nosuch"), str(tmp_path / "nosuch"), result=str(result))
    said: list[str] = []
    assert list(
        work([[wild, wild], [Step((), str(tmp_path / "done"))]], 1, tmp_path / "log", said.append)
    ) == [0, 1]
    assert said == []
    assert divergence(str(result)) == "the loss is nan"
    result.write_text('{"status": "running", "reason": ""}')
    assert divergence(str(result)) == ""


def test_what_is_done_is_not_started_again(tmp_path):
    (tmp_path / "done").touch()
    said: list[str] = []
    step = Step(("verify", "nosuch"), str(tmp_path / "done"))
    assert list(work([[step], [step, step]], 2, tmp_path / "log", said.append)) == [0, 1]
    assert said == []


def test_a_run_that_another_study_trains_is_waited_for(tmp_path):
    place, done = tmp_path / "run", tmp_path / "run" / "final" / "config.json"
    place.mkdir()
    step = Step(("train", "nosuch"), str(done))
    said: list[str] = []
    with Lock(Folder(str(place))):
        over = work([[step], []], 2, tmp_path / "log", said.append)
        assert next(over) == 1
        assert said == [
            f"waiting: {place} is being trained by process {os.getpid()} on {socket.gethostname()}"
        ]
        done.parent.mkdir()
        done.touch()
        assert list(over) == [0]
    assert len(said) == 1
