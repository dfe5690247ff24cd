"""The `curate` command. Commands import what they need when they run, so that `--help` opens nothing heavy."""

import gc
import io
import os
import sys
from typing import Any

import typer

from curate.cli import ablate, care, fit, index, look, report, run, stage, tokenize, train
from curate.cli import eval as evaluation
from curate.errors import INTERRUPTED, USAGE, ConfigError, CurateError

app = typer.Typer(
    name="curate",
    help="Turn raw text into a pretraining corpus: fast, resumable, every dropped row with its reason.\n\n"
    "Example: curate run recipes/quickstart.yaml -o out/quickstart",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (run, stage, look, report, fit, index, tokenize, train, evaluation, ablate, care):
    group.register(app)


_UsageError: Any = typer.BadParameter.__base__  # typer shows only this one of the family that it raises


def main() -> None:
    """Run the command line; the process ends with the exit code of DESIGN 5."""
    gc.set_threshold(50_000)  # as in a worker (curate.child)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(
            stream, io.TextIOWrapper
        ):  # a terminal that is not UTF-8 shows escapes, never a traceback
            stream.reconfigure(errors="backslashreplace")
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except _UsageError as error:
        if "--json" in sys.argv[1:]:
            from curate.cli.console import print_error_object

            what = ConfigError(error.format_message(), hint=f"see `{error.ctx.command_path} --help`")
            print_error_object(what, _command())
        error.show()
        sys.exit(USAGE)
    except CurateError as error:
        from curate.cli.console import print_error

        print_error(error, as_json="--json" in sys.argv[1:], command=_command())
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # `curate peek ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except RecursionError:
        print("error: something in the arguments is nested too deeply", file=sys.stderr)
        sys.exit(USAGE)


def _command() -> str:
    return next((a for a in sys.argv[1:] if not a.startswith("-")), "curate")
