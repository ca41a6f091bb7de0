"""The command `lfadsrm`: its subcommands, loaded when they are called, and how errors end it."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click

from lfadsrm_hpc._version import __version__
from lfadsrm_hpc.cli.environment import name_variables, variables_at_work
from lfadsrm_hpc.cli.guarding import guarded
from lfadsrm_hpc.cli.terminal import may_colour
from lfadsrm_hpc.errors import LfadsrmError, LfadsrmWarning, UntrustedError, suggest

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
# What a shell shows for a program that a closed pipe has ended (128 + SIGPIPE).
EXIT_PIPE_CLOSED = 141

_SHARED = "if it is another user's, ask for write access: a shared collection needs one group and umask 002"

# subject -> name -> first line of its help: `lfadsrm --help` loads none of the modules.
_SECTIONS = {
    "Begin": {
        "demo": "Make data, train a small sweep, and show what comes out.",
        "init": "Write a commented experiment.toml into a folder.",
        "prepare": "Build the run collection and its inputs from experiment.toml.",
    },
    "Run": {
        "run": "Train on this machine, over GPUs or CPU slots.",
        "time": "Time some training steps here, for the costs that plan tells.",
        "plan": "Show what would be submitted to a cluster, and what it costs.",
        "submit": "Hand runs to the scheduler of a cluster.",
        "retry": "Submit runs again that failed, each as its failure asks for.",
        "cancel": "Cancel runs, on record, and tell what was running.",
        "throttle": "Change how many runs of a submission work at once.",
        "reconcile": "Clear up what is uncertain or lost, from scheduler and files.",
    },
    "Look": {
        "status": "Tell the state of every run.",
        "why": "Tell why a run is at what it is at, and what to do next.",
        "peek": "Draw a run's learning curve and rates, while it trains too.",
        "logs": "Print the log of a run.",
        "show": "Show a collection, its datasets, its params, or one run.",
        "tensorboard": "Start TensorBoard on a selection of runs.",
    },
    "Results": {
        "best": "Name the best run of each run spec, and what to write about it.",
        "metrics": "Tell how good runs are: bits per spike, co-smoothing, R2.",
        "check-runs": "Judge what runs have learned: good, suspect or bad, and why.",
        "infer": "Infer rates of new trials, or of a new session.",
        "export": "Write results into one file, or as the Matlab run manager does.",
        "nlb": "Write a submission file of the Neural Latents Benchmark.",
        "plot": "Draw a figure of a run, or of all runs together, into a file.",
        "report": "Write one HTML page: states, table, curves, rates.",
    },
    "Keep": {
        "clean": "Free space: delete what complete runs do not need any more.",
        "archive": "Pack a collection, or some of its runs, into one verified file.",
    },
    "Machine": {
        "doctor": "Check this machine, scheduler and disk, and suggest fixes.",
        "site": "List, show, check, detect, write and trust site descriptions.",
        "completion": "Print the script by which bash, zsh or fish completes names.",
    },
}
_HIDDEN = {"task": "Do one run (called by scripts)."}
_COMMANDS = {**{name: line for one in _SECTIONS.values() for name, line in one.items()}, **_HIDDEN}


class _PipeClosed(Exception):
    """The reader of a pipe (head, less) has gone: not an error, and nothing more can be written."""


@contextmanager
def _noting_closed_pipe() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:  # click would end with 1, which stands for failures
        raise _PipeClosed from error


class _Commands(click.Group):
    """Loads a subcommand's module only when it is called."""

    loaded: click.Command | None = None

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in _COMMANDS if name not in _HIDDEN]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        word = name.replace("-", "_")
        command: click.Command = getattr(importlib.import_module(f"lfadsrm_hpc.cli.{word}"), word)
        name_variables(command, (name,))
        self.loaded = command
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        found = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        own = click.Command.shell_complete(self, ctx, incomplete)  # options
        return [*(CompletionItem(name, help=_COMMANDS[name]) for name in found), *own]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        widest = max(map(len, self.list_commands(ctx)))
        for subject, commands in _SECTIONS.items():
            with formatter.section(subject):
                formatter.write_dl([(f"{name:<{widest}}", line) for name, line in commands.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            known = self.list_commands(ctx)
            hint = suggest(args[0], known) or f"there are: {', '.join(known)}"
            ctx.fail(f"there is no command {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with _noting_closed_pipe():  # --help writes here
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        with _noting_closed_pipe():
            return super().invoke(ctx)


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
Exit codes: 0 done; 1 failed (of a bug, the path of a report is printed); 2 usage;
3 data, params, config, site or template invalid; 4 nothing to do; 5 some runs failed; 6 the scheduler
does not answer; 7 partly submitted, the same again goes on; 9 it is uncertain whether a job was accepted,
see `lfadsrm reconcile`; 75 stopped, start it again; 130 interrupted; 143 ended by TERM; 129 by the end of
the terminal.""",
)
@click.version_option(__version__, prog_name="lfadsrm")
def lfadsrm() -> None:
    """Fit LFADS to many recording sessions and hyperparameters.

    Data goes to standard output, messages to standard error.
    """


class _Stopping:
    """What TERM, and the end of the terminal or of an ssh connection, do: as Ctrl-C, with their own code.

    A command ends where it is, and takes away what it was writing. Only the first of them counts, so that the
    second does not interrupt that. Commands that know better (run, task) catch them by themselves.
    """

    def __init__(self) -> None:
        self.code = EXIT_INTERRUPTED

    def install(self) -> None:
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:  # not under nohup
                signal.signal(number, self)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        for other in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(other, signal.SIG_IGN)
        self.code = 128 + number
        raise KeyboardInterrupt


def main() -> NoReturn:
    """Run the command line; never shows a traceback to the user, and always ends with a documented code."""
    # Whatever the user's own leaves, nothing is written for everybody to change.
    os.umask(os.umask(0o002) | 0o002)
    stopping = _Stopping()
    try:
        stopping.install()
        _main(stopping)
    except KeyboardInterrupt:  # while the end was being told
        sys.exit(stopping.code)


def _main(stopping: _Stopping) -> NoReturn:
    _ready_streams()
    try:
        code = _called()
        with _noting_closed_pipe():
            sys.stdout.flush()
        sys.exit(code if isinstance(code, int) else 0)
    except LfadsrmError as error:
        _fail(f"error: {error}{_of_variables(error.exit_code)}", error.exit_code)
    except click.ClickException as error:
        error.show()
        _fail(_of_variables(error.exit_code).lstrip("\n"), error.exit_code)
    except (click.exceptions.Abort, KeyboardInterrupt):
        _fail("interrupted", stopping.code)
    except _PipeClosed:
        # What is left in the buffer must have somewhere to go when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(EXIT_PIPE_CLOSED)
    except OSError as error:
        if stopping.code != EXIT_INTERRUPTED:  # the terminal has gone, and cannot be told
            _fail("interrupted", stopping.code)
        where = f"\n  where: {error.filename}" if error.filename is not None else ""
        hint = f"\n  do: {_SHARED}" if isinstance(error, PermissionError) else ""
        _fail(
            f"error: the system says: {error.strerror or error}{where}{hint}\n  details: {_write_report()}",
            EXIT_FAILED,
        )
    except MemoryError:
        _fail(f"error: there is not enough memory\n  details: {_write_report()}", EXIT_FAILED)
    except Exception as error:
        _fail(
            f"error: a bug in lfadsrm_hpc: {error!r}\n  details: {_write_report()}\n"
            "  do: report it with this file",
            EXIT_FAILED,
        )


def _called() -> Any:
    """Run the command; where it wants something trusted and a terminal can be asked, ask and run it again."""
    while True:
        try:
            return lfadsrm.main(prog_name="lfadsrm", standalone_mode=False, color=may_colour())
        except UntrustedError as error:
            from lfadsrm_hpc.cli.trusting import ask_trust

            if not ask_trust(error):
                raise


def _ready_streams() -> None:
    """Let no name that the terminal cannot show, and no warning, look like a crash."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    # Nor any name or log do to a terminal what it says.
    sys.stdout, sys.stderr = guarded(sys.stdout), guarded(sys.stderr)
    usual = warnings.showwarning

    def show(message: Any, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, LfadsrmWarning):
            click.echo(f"warning: {message}", err=True)
        else:
            usual(message, category, *place, **more)

    warnings.showwarning = show


def _of_variables(code: int) -> str:
    """Return which variables stand for options of a call that was refused: nobody sees them in the call."""
    command = lfadsrm.loaded
    found = variables_at_work(command) if code == EXIT_USAGE and command is not None else []
    return (
        "\n  variables that are set: " + ", ".join(f"{name}={os.environ[name]}" for name in found)
        if found
        else ""
    )


def _fail(message: str, code: int) -> NoReturn:
    if message:
        with contextlib.suppress(OSError):  # the terminal may have gone
            click.echo(message, err=True)
    sys.exit(code)


def _write_report() -> str:
    """Write the traceback and the versions to a file of its own; return where."""
    import tempfile
    import time
    import traceback

    try:
        handle, path = tempfile.mkstemp(prefix="lfadsrm-report-", suffix=".log")
        with os.fdopen(handle, "w", errors="backslashreplace") as stream:
            details: list[Any] = [time.ctime(), __version__, sys.version, sys.argv]
            stream.write("\n".join(str(detail) for detail in details) + "\n\n")
            stream.write(traceback.format_exc())
    except OSError as error:
        return f"no report could be written: {error}"
    return path
