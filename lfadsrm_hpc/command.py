"""The only caller of subprocess: `ask` a program something within a time limit, or `launch` one without."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from lfadsrm_hpc.errors import CommandError

Process = subprocess.Popen[bytes]


@dataclass(frozen=True)
class Answer:
    """What a program said.

    Attributes
    ----------
    returncode : int
        Negative: the signal that ended it.
    stdout, stderr : str
        Bytes that are not UTF-8 are replaced, never an error.
    """

    returncode: int
    stdout: str
    stderr: str


def ask(
    args: Sequence[str],
    *,
    timeout_s: float,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str = "",
    check: bool = True,
) -> Answer:
    """Run a program to its end and return what it printed.

    Raises
    ------
    CommandError
        It cannot be started or did not end within `timeout_s` seconds; with `check`, also when it
        ended with a status other than 0.
    """
    command = [str(arg) for arg in args]
    try:
        done = subprocess.run(
            command,
            input=stdin.encode(),
            capture_output=True,
            timeout=timeout_s,
            env=env,
            cwd=cwd,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CommandError(
            f"{command[0]} gave no answer within {timeout_s:g} s",
            command=command,
            stdout=(error.stdout or b"").decode(errors="replace"),
            stderr=(error.stderr or b"").decode(errors="replace"),
        ) from error
    except OSError as error:
        raise CommandError(f"{command[0]} cannot be started: {error.strerror}", command=command) from error
    answer = Answer(
        done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    )
    if check and answer.returncode != 0:
        raise CommandError(
            f"{command[0]} ended with status {answer.returncode}: {answer.stderr.strip()[-500:]}",
            command=command,
            returncode=answer.returncode,
            stdout=answer.stdout,
            stderr=answer.stderr,
        )
    return answer


def launch(
    args: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdout: IO[bytes] | int | None = None,
    stderr: IO[bytes] | int | None = None,
    new_session: bool = False,
) -> Process:
    """Start a program that may run for days and return its process; the caller waits for it.

    Standard input is empty. With `new_session` it outlives the terminal and Ctrl-C does not reach it.

    Raises
    ------
    CommandError
        It cannot be started.
    """
    command = [str(arg) for arg in args]
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env=env,
            cwd=cwd,
            start_new_session=new_session,
        )
    except OSError as error:
        raise CommandError(f"{command[0]} cannot be started: {error.strerror}", command=command) from error


def end(process: Process, *, patience_s: float = 5.0) -> int:
    """End a program that was launched, by TERM and, if it does not heed that in time, by KILL.

    Returns
    -------
    int
        Its exit code; what it was if it had ended already.
    """
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()
