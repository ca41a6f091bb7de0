"""The command `lfadsrm`: its subcommands, loaded when they are called, and how errors end it."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
import time
import traceback
from typing import Any, NoReturn

import click

from lfadsrm_hpc._version import __version__
from lfadsrm_hpc.errors import LfadsrmError

EXIT_BUG = 1
EXIT_INTERRUPTED = 130
_PIPE_CLOSED = 141

# name -> (module, first line of its help): `lfadsrm --help` loads none of the modules.
_COMMANDS = {
    "demo": ("demo", "Make data, train a small sweep, and show what comes out."),
    "init": ("init", "Write a commented experiment.toml into a folder."),
    "prepare": ("prepare", "Build the run collection and its inputs from experiment.toml."),
    "run": ("run", "Train on this machine with the local queue, over GPUs or CPU slots."),
    "status": ("status", "Tell the state of every run."),
    "logs": ("logs", "Print the log of a run."),
    "show": ("show", "Show a collection, its datasets, its params, or one run."),
    "task": ("task", "Do one run (called by scripts)."),
}
_HIDDEN = {"task"}


class _Commands(click.Group):
    """Loads a subcommand's module only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in _COMMANDS if name not in _HIDDEN]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        module = importlib.import_module(f"lfadsrm_hpc.cli.{_COMMANDS[name][0]}")
        command: click.Command = getattr(module, name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _COMMANDS[name][1]) for name in self.list_commands(ctx)])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            from lfadsrm_hpc.errors import suggest

            hint = suggest(args[0], self.list_commands(ctx))
            ctx.fail(f"no command {args[0]!r}" + (f"; {hint}" if hint else ""))
        return super().resolve_command(ctx, args)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  lfadsrm demo                     the whole road in about five minutes
  lfadsrm init my_experiment       then put your sessions into my_experiment/datasets
  lfadsrm prepare my_experiment && lfadsrm run my_experiment
  lfadsrm status my_experiment --json

\b
Exit codes: 0 done; 1 a bug; 2 usage; 3 data, config or template invalid; 4 nothing to do;
5 some runs failed; 130 interrupted.""",
)
@click.version_option(__version__, prog_name="lfadsrm")
def lfadsrm() -> None:
    """Fit LFADS to many recording sessions and hyperparameters.

    Data goes to standard output, messages to standard error.
    """


def main() -> NoReturn:
    """Run the command line; never shows a traceback to the user, and always ends with a documented code."""
    try:
        code = lfadsrm.main(prog_name="lfadsrm", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except LfadsrmError as error:
        _fail(f"error: {error}", error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.exceptions.Abort, KeyboardInterrupt):
        _fail("interrupted; what was done is kept", EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of a pipe (head, less) has gone: not an error, and nothing more can be written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(_PIPE_CLOSED)
    except Exception as error:
        _fail(f"error: a bug in lfadsrm_hpc: {error!r}\n  details: {_write_report()}", EXIT_BUG)


def _fail(message: str, code: int) -> NoReturn:
    click.echo(message, err=True)
    sys.exit(code)


def _write_report() -> str:
    """Write the traceback and the versions to a file of its own; return where."""
    handle, path = tempfile.mkstemp(prefix="lfadsrm-bug-", suffix=".log")
    with os.fdopen(handle, "w") as stream:
        details: list[Any] = [time.ctime(), __version__, sys.version, sys.argv]
        stream.write("\n".join(str(detail) for detail in details) + "\n\n")
        stream.write(traceback.format_exc())
    return path
