"""A local folder that we write into: whole files or none, and nothing left over."""

import errno
import os

import pytest

from curate.io.files import Folder, sha256_of


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "out")


def everything(folder):
    return sorted(str(p.relative_to(folder.local)) for p in folder.local.rglob("*") if p.is_file())


def test_a_created_file_knows_its_size_and_checksum(folder):
    file = folder.create("a/b")
    file.write(b"some ")
    file.write(memoryview(b"bytes"))
    file.close()
    assert folder.read("a/b") == b"some bytes"
    assert (file.bytes, file.sha256) == (10, sha256_of(folder.local / "a/b"))


def test_of_two_claims_the_first_wins(folder):
    assert folder.claim("x/entry", b"first", "1")
    assert not folder.claim("x/entry", b"second", "2")
    assert folder.read("x/entry") == b"first"
    assert everything(folder) == ["x/entry"]


def full_disk(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("act", [lambda f: f.claim("x", b"new", "1"), lambda f: f.replace("x", b"new")])
def test_a_full_disk_leaves_nothing_behind(folder, monkeypatch, act):
    folder.create("other").close()
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        act(folder)
    assert everything(folder) == ["other"]


@pytest.mark.parametrize("links", [True, False], ids=["same disk", "another disk"])
def test_a_file_taken_twice_leaves_nothing_over(folder, tmp_path, monkeypatch, links):
    """As when a run is killed between the files it takes, and run again."""
    other = Folder(tmp_path / "other")
    other.replace("d/part", b"rows")
    if not links:
        monkeypatch.setattr(os, "link", full_disk)
    folder.replace("d/.part.new", b"half of i")  # a kill left it
    for _ in range(2):
        folder.take(other, "d/part", "d/part")
    assert everything(folder) == ["d/part"]
    assert folder.read("d/part") == b"rows"
    assert os.path.samefile(folder.local / "d/part", other.local / "d/part") == links


def test_names_hide_what_is_not_finished(folder):
    folder.replace("part-1", b"")
    folder.replace("part-0", b"")
    (folder.local / ".part-2.new").write_bytes(b"")
    (folder.local / "sub").mkdir()
    assert (folder.names(), folder.folders()) == (["part-0", "part-1"], ["sub"])
    assert (folder.names("nowhere"), folder.folders("nowhere")) == ([], [])
