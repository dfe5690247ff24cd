"""The command line as a whole: what help opens, how it reads, completion."""

import json
import os
import resource
import statistics
import subprocess
import sys

import pytest
import typer

from curate.cli.main import app

HEAVY = ("pyarrow", "numpy", "numba", "duckdb", "rich", "msgspec", "yaml")


def commands(group=None, before=()):
    """Every command as words: ("ls", "runs"), ("peek",), ..."""
    group = group or typer.main.get_command(app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*before, name))
        yield (*before, name)


@pytest.mark.parametrize("words", [(), *sorted(commands())], ids=" ".join)
def test_help_opens_with_a_working_example(curate, words):
    done = curate(*words, "--help")
    assert done.returncode == 0
    example = next(
        line.strip() for line in done.stdout.splitlines() if line.strip().startswith("Example: curate ")
    )
    assert example.removeprefix("Example: curate ").split()[: len(words)] == list(words)
    assert done.stderr == ""


def test_help_opens_nothing_heavy():
    code = "import sys; sys.argv = ['curate', '--help']\nfrom curate.cli.main import main\ntry: main()\nexcept SystemExit: pass\n"
    code += f"print(*sorted({HEAVY!r} & sys.modules.keys()), file=sys.stderr)".replace(
        repr(HEAVY), repr(set(HEAVY))
    )
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True)
    assert "Usage: curate" in done.stdout
    assert done.stderr.strip() == ""


def test_help_is_quick():
    """CPU seconds, median of five: other work on the machine does not count."""

    def seconds():
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-c", "from curate.cli.main import main; main()", "--help"],
            stdout=subprocess.DEVNULL,
            check=True,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert statistics.median(seconds() for _ in range(5)) < 0.2


def complete(words):
    """What bash would offer for the last word."""
    code = "import sys; sys.argv = ['curate']\nfrom curate.cli.main import main\nmain()"
    environment = {
        "_CURATE_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, text=True, capture_output=True
    )
    return done.stdout.split()


def test_completion_knows_commands_and_stages():
    assert complete("curate ver") == ["verify"]
    assert complete("curate ls re") == ["recipes"]
    assert complete("curate explain exact") == ["exact_dedup"]


def test_completion_can_be_shown(curate):
    assert "--show-completion" in curate("--help").stdout


def test_an_unknown_command_is_a_usage_error(curate):
    assert curate("peak", "out").returncode == 2


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["run", "--bogus"], "No such option: --bogus"),
        (["run"], "Missing argument 'RECIPE'."),
        (["check", "r.yaml", "--workers", "x"], "--workers"),
        (["peak", "out"], "No such command 'peak'"),
        (["stage", "sample", "in", "--sede", "3"], "No such option: --sede"),
        (["models", "fetch"], "No such command 'fetch'"),
    ],
)
def test_a_usage_error_is_an_object_too(curate, words, what):
    done = curate(*words, "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["exit"], found["status"]) == (2, 2, "error")
    assert found["schema"] == f"curate.{words[0]}/1"
    assert set(found["error"]) == {"kind", "what", "hint", "where"}
    assert what in found["error"]["what"]
    assert "--help`" in found["error"]["hint"]
    assert what in done.stderr
    assert curate(*words).stdout == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "r.yaml", "--allow-quarantined", -1),
        ("run", "r.yaml", "--workers", -3),
        ("stage", "sample", "in", "-o", "out", "--workers", -3),
    ],
)
def test_no_number_below_zero(curate, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    done = curate(*arguments)
    assert done.returncode == 2
    assert f"Invalid value for '{arguments[-2]}'" in done.stderr
