"""ls and explain."""

import json
import shutil
from pathlib import Path

import pytest


def test_ls_stages_names_each_with_its_first_line(curate):
    done = curate("ls", "stages")
    lines = dict(line.split(None, 1) for line in done.stdout.splitlines())
    assert lines["select"] == "Keep the rows for which a predicate is true; the one map stage that drops."
    listed = json.loads(curate("ls", "stages", "--json").stdout)
    assert listed["schema"] == "curate.ls/1"
    assert [row["name"] for row in listed["stages"]] == sorted(lines)


def test_ls_stages_of_a_users_file(curate, killed):
    assert "Kills the process" in curate("ls", "stages", "--stages", killed.parent / "killer.py").stdout
    assert curate("ls", "stages", "--stages", "nosuch.py").returncode == 2


def test_ls_recipes(curate, project, tmp_path):
    shutil.copy(project / "recipe.yaml", tmp_path)
    (tmp_path / "broken.yml").write_text("stages: [")
    (tmp_path / "notes.txt").write_text("no recipe")
    rows = json.loads(curate("ls", "recipes", tmp_path, "--json").stdout)["recipes"]
    assert [row["recipe"] for row in rows] == [str(tmp_path / "broken.yml"), str(tmp_path / "recipe.yaml")]
    assert rows[0]["about"].startswith("cannot be read")
    assert (rows[1]["about"], rows[1]["stages"]) == (
        "Rows worth keeping",
        ["sample", "select", "exact_dedup"],
    )
    assert curate("ls", "recipes", tmp_path / "nosuch").returncode == 2


def test_ls_runs_finds_them_below(curate, made, killed, dataset, project):
    listed = json.loads(curate("ls", "runs", project, "--json").stdout)["runs"]
    assert [(row["output"], row["recipe"], row["state"], row["kept"]) for row in listed] == [
        (str(made), "tiny", "complete", 42)
    ]
    (dataset / "_curate/plan.json").write_text("{")
    damaged, *_ = json.loads(curate("ls", "runs", dataset.parent, "--json").stdout)["runs"]
    assert damaged["state"].startswith("cannot be read")
    shown = curate("ls", "runs", killed.parent).stdout
    assert "incomplete: pass 4 of 4, 2 of 3 units" in shown
    assert curate("ls", "runs", project / "docs").stdout == ""


def test_explain_prints_contract_and_options(curate):
    done = curate("explain", "exact_dedup")
    assert done.returncode == 0
    assert "Keeps one of the rows whose text is the same" in done.stdout
    assert (
        "keep: first or longest or newest, default first\n      which row of a cluster survives  (--keep)"
        in done.stdout
    )
    assert "curate stage exact_dedup IN... -o OUT" in done.stdout


def test_explain_json(curate):
    found = json.loads(curate("explain", "extract", "--json").stdout)
    assert (found["schema"], found["kind"]) == ("curate.explain/1", "map")
    options = {option["name"]: option for option in found["options"]}
    assert options["links"] == {
        "name": "links", "type": "bool", "required": False, "default": False,
        "about": "write a link's target after its words", "flag": "--links/--no-links",
    }  # fmt: skip
    (where,) = json.loads(curate("explain", "select", "--json").stdout)["options"]
    assert where["required"]


def test_explain_covers_every_stage(curate):
    from curate import stages

    for name in (path.stem for path in Path(stages.__file__).parent.glob("[!_]*.py")):
        done = curate("explain", name, "--json")
        assert done.returncode == 0
        for option in json.loads(done.stdout)["options"]:
            assert option["about"], f"{name}.{option['name']} has no trailing comment"


def test_explain_a_users_stage_and_an_unknown_one(curate, killed):
    assert (
        'row: str, default "doc-045"\n      the row that kills'
        in curate("explain", "killer", "--stages", killed.parent / "killer.py").stdout
    )
    done = curate("explain", "exact_dedub")
    assert done.returncode == 2
    assert "did you mean `exact_dedup`?" in done.stderr


@pytest.fixture(autouse=True)
def forget_user_stages(monkeypatch):
    """Stages of a file stay known for the life of a process."""
    from curate import stages

    monkeypatch.setattr(stages, "_user_files", dict(stages._user_files))
