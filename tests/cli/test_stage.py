"""`curate stage`: options made from a Config, Arrow streams in pipes, files of users."""

import json
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.cli.stage import _OURS, build, one_stage

STAGES = '''\
"""A stage whose options have the names of ours."""
import msgspec, pyarrow as pa
from curate.stage import stage

class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    output: str = "up"  # which way
    workers: int = 7  # how many hands
    limits: dict[str, int] = {}  # nested
    times: int = 1  # a plain one

@stage("shout", version=1, config=Config, reads=["text"], writes={"shout_word": pa.string()})
def shout(batch, config):
    word = f"{config.output} {config.workers} {config.times}"
    return batch.append_column("shout_word", pa.array([word] * len(batch), pa.string()))
'''


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder, made the current one, with two rows and a stages file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.jsonl").write_text('{"text": "one two three"}\n{"text": "four"}\n')
    (tmp_path / "mine.py").write_text(STAGES)
    return tmp_path


def pipe(*arguments, data=b""):
    """A command with bytes on its stdin: exit code, stdout, stderr."""
    command = [sys.executable, "-c", "from curate.cli.main import main; main()", *arguments, "--workers", "1"]
    done = subprocess.run(command, input=data, capture_output=True, timeout=120)
    return done.returncode, done.stdout, done.stderr.decode()


def test_no_rows_are_a_stream_too(place):
    code, stream, said = pipe("stage", "select", "in.jsonl", "-o", "-", "--where", "text = 'nothing'")
    assert code == 0, said
    none = pa.ipc.open_stream(stream).read_all()
    assert (none.num_rows, none.column_names) == (0, ["id", "text", "extra"])
    code, stream, said = pipe("stage", "token_count", "-", "-o", "-", data=stream)
    assert code == 0, said
    counted = pa.ipc.open_stream(stream).read_all()
    assert (counted.num_rows, counted.column_names[:2]) == (0, ["id", "text"])
    assert len(counted.column_names) > 3
    code, _, said = pipe("stage", "sample", "-", "-o", "out", data=stream)
    assert code == 0, said
    assert json.loads((place / "out/_curate/manifest.json").read_text())["rows"]["in"] == 0


def test_a_stream_has_one_schema_with_rows_and_without(place):
    schemas = []
    for word in ("four", "five"):
        _, stream, _ = pipe("stage", "select", "in.jsonl", "-o", "-", "--where", f"text = '{word}'")
        schemas.append(pa.ipc.open_stream(stream).schema)
    assert schemas[0].equals(schemas[1], check_metadata=True)


def test_rows_keep_their_ids_along_a_pipe(place):
    _, stream, _ = pipe("stage", "select", "in.jsonl", "-o", "-", "--where", "text = 'four'")
    ids = pa.ipc.open_stream(stream).read_all()["id"].to_pylist()
    for stage in ("sample", "token_count"):
        code, stream, said = pipe("stage", stage, "-", "-o", "-", data=stream)
        assert code == 0, said
    assert pa.ipc.open_stream(stream).read_all()["id"].to_pylist() == ids


def test_an_empty_dataset_is_still_refused(curate, place):
    assert curate("stage", "select", "in.jsonl", "-o", "out", "--where", "text = 'nothing'").returncode == 1


def test_json_and_a_stream_cannot_share_stdout(curate, place):
    done = curate("stage", "sample", "in.jsonl", "-o", "-", "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["what"] == "`--json` and `-o -` both write to stdout"


def test_a_field_with_the_name_of_our_option_goes_by_config(curate, place):
    said = " ".join(curate("stage", "--stages", "mine.py", "shout", "--help").stdout.split())
    assert "YAML file with options of the stage; the only way to set output, workers, limits." in said
    assert "how many hands" not in said
    (place / "more.yaml").write_text("output: down\nworkers: 8\n")
    done = curate(
        "stage", "--stages=mine.py", "shout", "in.jsonl", "-o", "out", "--config", "more.yaml", "--times", 3, "--workers", 1
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert pq.read_table(place / "out/part-00000.parquet")["shout_word"].to_pylist() == ["down 8 3"] * 2


def test_no_option_of_ours_is_offered_to_a_config():
    """Each parameter and flag of the command itself must be on the list."""
    import typer

    for option in typer.main.get_command(build("sample", [])).params:
        if option.name != "seed":
            assert {option.name, *(o.lstrip("-") for o in option.opts if o.startswith("--"))} <= _OURS


@pytest.mark.parametrize("where", [["--stages", "mine.py"], ["--stages=mine.py"]])
@pytest.mark.parametrize("first", [True, False])
def test_a_stages_file_may_stand_anywhere(curate, place, where, first):
    words = ["shout", "in.jsonl", "-o", "out", "--workers", 1]
    assert curate("stage", *([*where, *words] if first else [*words, *where])).returncode == 0


@pytest.mark.parametrize("where", ["--stages", "--stages="])
def test_a_stages_file_that_is_not_named(curate, place, where):
    done = curate("stage", "sample", "in.jsonl", where)
    assert (done.returncode, "--stages needs a value" in done.stderr) == (2, True)


def test_a_config_file_that_is_no_mapping(curate, place):
    (place / "list.yaml").write_text("- 1\n")
    done = curate("stage", "sample", "in.jsonl", "-o", "out", "--config", "list.yaml")
    assert done.returncode == 2
    assert "list.yaml: the options of a stage are a mapping" in done.stderr


def test_a_stage_alone_may_find_nothing():
    """In a recipe that stops the run; here no change is an answer."""
    recipe = one_stage("c4_lines", ["in.jsonl"], "out", "", "", "", [], {})
    assert recipe.guards.unchanged == "warn"
