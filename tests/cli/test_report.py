"""`curate report` from the shell."""

import json
from pathlib import Path


def test_it_writes_a_page_and_its_script(curate, made: Path, tmp_path):
    done = curate("report", made, "-o", tmp_path / "morning.html")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [str(tmp_path / "morning.html")]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["morning.html", "morning.js"]


def test_quiet(curate, made: Path, tmp_path):
    done = curate("report", made, "-o", tmp_path / "r.html", "-q")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_json_has_the_numbers_of_the_manifest(curate, made: Path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = json.loads(curate("report", made, "--json").stdout)
    rows = json.loads((made / "_curate/manifest.json").read_text())["rows"]
    assert found["schema"] == "curate.report/1"
    assert {key: found["rows"][key] for key in ("in", "made", "kept", "quarantined")} == {
        key: rows[key] for key in ("in", "made", "kept", "quarantined")
    }
    assert list(tmp_path.iterdir()) == []


def test_mistakes(curate, made: Path, killed: Path, tmp_path):
    for arguments, what in (
        ((made, "-o", tmp_path / "none/r.html"), "no such folder"),
        ((made, "-o", tmp_path), "the page cannot be"),
        ((killed, "-o", tmp_path / "r.html"), "is not complete"),
        ((tmp_path, "-o", tmp_path / "r.html"), "is not the output of a run"),
    ):
        done = curate("report", *arguments)
        assert done.returncode == 2
        assert what in done.stderr
    assert list(tmp_path.iterdir()) == []
