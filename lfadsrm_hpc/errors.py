"""One exception tree; every message says what is wrong, where, and what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class LfadsrmError(Exception):
    """Base of every error that this package raises on purpose.

    Parameters
    ----------
    what : str
        What is wrong, as one sentence.
    where : object, optional
        The file, dataset, run or key that it is about.
    hint : str, optional
        What the user can do next.

    Attributes
    ----------
    exit_code : int
        What the command line exits with when this error ends a command.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: object | None = None, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        text = self.what
        if self.where is not None:
            text += f"\n  where: {self.where}"
        if self.hint is not None:
            text += f"\n  do: {self.hint}"
        return text

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.__dict__.copy()))


def _rebuild(cls: type[LfadsrmError], state: dict[str, object]) -> LfadsrmError:
    error = cls.__new__(cls)
    Exception.__init__(error, state.get("what"))
    error.__dict__.update(state)
    return error


class UsageError(LfadsrmError):
    """A call that cannot mean anything: wrong arguments, a name that cannot be one."""

    exit_code = 2


class NotFoundError(UsageError, LookupError):
    """A dataset, run, parameter or file was asked for that is not there."""


class NotConfirmedError(UsageError):
    """Something costly, or that cannot be undone, was not confirmed; nothing was done."""


class ConfigError(LfadsrmError):
    """An experiment file, a site, a template or a stored collection is invalid."""

    exit_code = 3


class ParamsError(ConfigError, ValueError):
    """A hyperparameter has a wrong name, type or value."""


class TemplateError(ConfigError):
    """A template cannot be found or rendered, or a text cannot be quoted for a shell."""


class UntrustedError(ConfigError):
    """A file of a project would run commands as the user, who has not trusted it yet.

    Attributes
    ----------
    place : object
        The file or folder that is to be trusted.
    """

    def __init__(self, what: str, *, where: object, hint: str, place: object) -> None:
        super().__init__(what, where=where, hint=hint)
        self.place = place


class MismatchError(ConfigError):
    """What is on disk was made from other data or parameters than those at hand."""


class DataError(LfadsrmError, ValueError):
    """The spike counts or what goes with them are unusable; in a job this ends with exit code 65."""

    exit_code = 3


class ManifestError(LfadsrmError):
    """A file of the manifest is unreadable or contradicts another."""


class ClaimLostError(ManifestError):
    """Another task owns this attempt (exit code 64 in a job); nothing was changed."""

    exit_code = 64


class RunCancelledError(ClaimLostError):
    """Somebody cancelled this run; it is not taken unless it is asked for again (exit code 64 in a job)."""


class CommandError(LfadsrmError):
    """A program could not be started, ran out of time, or ended with an error.

    Attributes
    ----------
    command : list of str
    returncode : int or None
        None when it never ended by itself.
    stdout, stderr : str
    """

    def __init__(
        self,
        what: str,
        *,
        command: Sequence[str],
        returncode: int | None = None,
        stdout: str = "",
        stderr: str = "",
        hint: str | None = None,
    ) -> None:
        super().__init__(what, where=" ".join(command), hint=hint)
        self.command = list(command)
        self.returncode = returncode
        self.stdout = stdout
        self.stderr = stderr


class SchedulerError(LfadsrmError):
    """A scheduler, or the local queue, cannot do what was asked.

    Attributes
    ----------
    done : object
        What was done before it went wrong, as the call would have returned it; None: nothing.
    """

    done: Any = None


class SchedulerUnreachableError(SchedulerError):
    """The scheduler did not answer, or what it said cannot be read; nothing was changed."""

    exit_code = 6


class SchedulerRefusedError(SchedulerError):
    """The scheduler refused a request for good: nothing was accepted, and the same again will not help."""

    exit_code = 3


class PartlySubmittedError(SchedulerError):
    """Some chunks of a submission were handed over and some were not; submitting again goes on."""

    exit_code = 7


class SubmissionUncertainError(SchedulerError):
    """A scheduler may or may not have accepted a job; it is never submitted again before that is clear."""

    exit_code = 9


class NothingEligibleError(SchedulerError):
    """No run is left to do."""

    exit_code = 4


class SomeRunsFailedError(SchedulerError):
    """Runs failed, and the caller asked to be told."""

    exit_code = 5


class ModelError(LfadsrmError):
    """The model cannot be built, trained or restored."""


class DivergedError(ModelError):
    """Training met losses or gradients that are not finite and could not recover."""


class InterruptedRunError(LfadsrmError):
    """The user or the system stopped the work; what was done is kept (75 in a job, 130 on a command line)."""

    exit_code = 130


class ResultsError(LfadsrmError):
    """Results are missing, incomplete, or do not belong to the run that was asked for."""


class LfadsrmWarning(UserWarning):
    """Base of the warnings of this package."""


class DataWarning(LfadsrmWarning):
    """The data can be used, but something about it deserves a look."""


def suggest(name: object, known: Sequence[str]) -> str | None:
    """Name the known word nearest to a misspelt one, as a hint; None for what is no word.

    Examples
    --------
    >>> suggest("factor_dim", ["factors_dim", "gen_dim"])
    "did you mean 'factors_dim'?"
    """
    import difflib

    if not isinstance(name, str):
        return None
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean {nearest[0]!r}?" if nearest else None
