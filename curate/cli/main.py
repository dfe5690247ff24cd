"""The `curate` command. Commands import what they need when they run, so that `--help` opens nothing heavy."""

import io
import os
import sys

import typer

from curate.cli import care, look, run, stage
from curate.errors import USAGE, CurateError

app = typer.Typer(
    name="curate",
    help="Turn raw text into a pretraining corpus: fast, resumable, every dropped row with its reason.\n\n"
    "Example: curate run recipes/quickstart.yaml -o out/quickstart",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (run, stage, look, care):
    group.register(app)


def main() -> None:
    """Run the command line; the process ends with the exit code of DESIGN 5."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(
            stream, io.TextIOWrapper
        ):  # a terminal that is not UTF-8 shows escapes, never a traceback
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except CurateError as error:
        from curate.cli.console import print_error

        print_error(error, as_json="--json" in sys.argv[1:], command=_command())
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # `curate peek ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except RecursionError:
        print("error: something in the arguments is nested too deeply", file=sys.stderr)
        sys.exit(USAGE)


def _command() -> str:
    return next((a for a in sys.argv[1:] if not a.startswith("-")), "curate")
