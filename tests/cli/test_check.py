"""`curate check` raises what `run` raises at its start, writes nothing and names only what it looked at."""

import json

import pytest

from curate.engine.check import Untouched
from curate.engine.lock import Lock, me
from curate.io.files import Folder


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A folder, made the current one, with a recipe over two rows."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.jsonl").write_text('{"text": "one two three"}\n{"text": "four"}\n')
    (tmp_path / "r.yaml").write_text("input: {path: in.jsonl}\nstages: [sample]\n")
    return tmp_path


def tree(folder):
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(folder.rglob("*"))}


def same_refusal(curate, *arguments):
    """What `check` and `run` both say; nothing is written by the first."""
    before = tree(Folder(".").local)
    checked = curate("check", "r.yaml", *arguments)
    assert tree(Folder(".").local) == before
    ran = curate("run", "r.yaml", "--workers", 1, *arguments)
    assert checked.returncode == ran.returncode != 0
    assert checked.stdout == ran.stdout == ""
    assert checked.stderr.partition("\n")[0] == ran.stderr.partition("\n")[0]
    return checked.stderr


def test_a_folder_of_someone_else(curate, small):
    (small / "out").mkdir()
    (small / "out/diary.txt").touch()
    assert "is not empty and no curate dataset (it holds diary.txt)" in same_refusal(curate, "-o", "out")


def test_a_damaged_plan(curate, small):
    (small / "out/_curate").mkdir(parents=True)
    (small / "out/_curate/plan.json").write_text('{"recipe": ')
    assert "error: out/_curate/plan.json: the plan cannot be read" in same_refusal(curate, "-o", "out")
    assert curate("check", "r.yaml", "-o", "out", "--fresh").returncode == 0


def test_an_output_of_another_recipe_and_one_whose_input_changed(curate, small):
    assert curate("run", "r.yaml", "-o", "out", "--workers", 1).returncode == 0
    assert "holds a run of another recipe" in same_refusal(curate, "-o", "out", "--set", "sample.seed=2")
    (small / "in.jsonl").write_text('{"text": "five"}\n')
    assert "its input has changed since: changed file in.jsonl" in same_refusal(curate, "-o", "out")


def test_an_output_in_use(curate, small):
    with Lock(Folder("out")):
        done = curate("check", "r.yaml", "-o", "out")
        assert done.returncode == 2
        assert f"is being written by process {me().pid}" in done.stderr


@pytest.mark.parametrize(
    "arguments", [("-o", "in.jsonl/out"), ("-o", "in.jsonl"), ("-o", "out", "--store", "in.jsonl")]
)
def test_a_file_where_a_folder_has_to_be(curate, small, arguments):
    done = curate("check", "r.yaml", *arguments)
    assert done.returncode == 2
    assert f"into {small}/in.jsonl" in done.stderr


def test_it_says_what_it_looked_at_and_no_more(curate, small):
    def checked(*arguments):
        return json.loads(curate("check", "r.yaml", "--json", *arguments).stdout)["checked"]

    def planned(*arguments):
        return checked("--plan-only", *arguments)

    always = "every stage's options, columns and predicates"
    assert checked() == ["read 1 input files in full", always, "ran it on 2 rows"]
    assert planned() == ["read 1 input files in full", always]
    places = ["permission to write the output", "permission to write the work store"]
    assert planned("-o", "out") == ["read 1 input files in full", always, *places]
    remote = planned("-o", "memory://bucket/out")
    assert remote[2:] == [
        f"the address of the {w} answers (no write was tried)" for w in ("output", "work store")
    ]
    assert curate("run", "r.yaml", "-o", "out", "--workers", 1).returncode == 0
    assert planned("-o", "out")[0] == "1 input files are those that an earlier run planned"


def test_what_fresh_makes_again_is_to_do(curate, small):
    assert curate("run", "r.yaml", "-o", "out", "--workers", 1).returncode == 0
    before = tree(small)
    assert "[in the output]" in curate("check", "r.yaml", "-o", "out").stdout
    assert "[to do]" in curate("check", "r.yaml", "-o", "out", "--fresh").stdout
    assert tree(small) == before


def test_an_address_that_no_one_answers(curate, small, monkeypatch):
    pytest.importorskip("s3fs")
    for name, value in {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    done = curate("check", "r.yaml", "-o", "s3://bucket/out")
    assert done.returncode == 2
    assert "cannot reach the output s3://bucket/out" in done.stderr


def test_a_stream_as_output_is_no_folder(curate, small):
    assert "output   -\n" in curate("check", "r.yaml", "-o", "-").stdout


def test_an_untouched_folder_forgets_what_is_removed_and_keeps_it(tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/c").touch()
    folder = Untouched(str(tmp_path))
    folder.remove("a/c")
    folder.remove_all("a/b")
    folder.replace("new", b"x")
    folder.create("newer").close()
    assert (folder.exists("a/c"), folder.names("a"), folder.folders("a"), folder.names()) == (
        False,
        [],
        [],
        [],
    )
    assert (tmp_path / "a/c").exists()
    assert (tmp_path / "a/b").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
