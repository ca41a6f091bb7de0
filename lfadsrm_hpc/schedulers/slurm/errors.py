"""What Slurm's client programs say when something fails, and what follows from it: pure functions.

The texts are those of Slurm's `slurm_strerror`. sbatch ends with "Batch job submission failed: <text>",
where <text> is either the controller's own answer (then nothing was accepted), or tells of the connection:
then the request may have arrived. (A controller that was frozen for a while made sbatch say "Socket timed out
on send/recv operation", and took the job when it woke.)
"""

from __future__ import annotations

import errno
import os
import re
from enum import Enum

from lfadsrm_hpc.command import Answer


class Outcome(Enum):
    """What came of a call that failed."""

    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    UNCERTAIN = "uncertain"


# Nothing was sent: no address of a controller, none that listens, no credential to sign with.
_NEVER_SENT = re.compile(
    r"Unable to contact slurm controller \(connect failure\)"
    r"|Could not establish a configuration source"
    r"|cannot stat file"
    r"|can't be reached now, or it is an invalid entry"
    r"|No cluster '.*' known by database"
    r"|Munge encode failed"
    r"|Problem talking to (?:the )?database",
    re.IGNORECASE,
)
# The controller is alive and says: not now.
_NOT_NOW = re.compile(
    r"temporarily unable to accept job|job queue full|Job creation temporarily disabled"
    r"|in standby mode|backup controller",
    re.IGNORECASE,
)
# The connection broke after it was made, or what came back cannot be read.
_BROKEN = re.compile(
    r"Unable to contact slurm controller"
    r"|Socket timed out|Zero Bytes were transmitted"
    r"|Unexpected message received"
    r"|Message (?:send|receive) failure|Communication (?:connection|shutdown) failure"
    r"|Protocol (?:version|authentication)|Insane message length"
    r"|Header lengths are longer|Incomplete packet|not all data"
    r"|Munge decode failed|^No error$",
    re.IGNORECASE,
)
_SYSTEM = frozenset(os.strerror(number).lower() for number in errno.errorcode)
_FAILED = re.compile(r"Batch job submission failed:\s*(.*)")
# Lines by which sbatch refuses before it asks anybody. Other programs of that name put other words before.
_OWN_REFUSAL = re.compile(
    r"sbatch(?:-\w+)?: (?:error|fatal): |sbatch: (?:unrecognized|invalid|ambiguous|option)"
    r"|Try \"sbatch --help\""
)
_HARMLESS = re.compile(
    r"already completing or completed|Job has already finished|Invalid job id specified|: No error$"
)
_HINTS = (
    (r"invalid partition|partition not available", "name a partition that `sinfo -s` lists"),
    (r"invalid qos", "name a QOS that `sacctmgr show assoc user=$USER format=account,qos` lists"),
    (
        r"submit limit|MaxSubmit|job limit",
        "wait until some jobs have ended, or set limits.jobs of the site to what you may have at once",
    ),
    (
        r"invalid account|association",
        "set options.account of the site to one that `sacctmgr show assoc user=$USER` lists",
    ),
    (r"time limit", "ask for less time, or for a partition that allows as much (`sinfo -o '%P %l'`)"),
    (
        r"array specification",
        "limits.largest_array_index of the site must be MaxArraySize - 1 (`scontrol show config`) or less",
    ),
    (
        r"node configuration|more processors|memory specification|\(gres\)|node count",
        "no node of the partition has that much (`sinfo -o '%P %c %m %G'`)",
    ),
    (
        r"unrecognized option|invalid --|ambiguous",
        "an option in the script is wrong, or unknown to this Slurm: look at the site's directives",
    ),
    (r"temporarily unable|queue full", "the cluster holds as many jobs as it can: try again later"),
    (r"cannot stat file|configuration source", "is this a host of the cluster, and SLURM_CONF right?"),
)


def submission_outcome(answer: Answer) -> Outcome:
    """Tell what came of a call of sbatch that ended with an error, or printed no id.

    Only what is certain is called so: a refusal that is none would lead to a second submission.
    """
    text = answer.stderr
    if answer.returncode <= 0 or re.search(r"^\d+", answer.stdout, re.MULTILINE):
        return Outcome.UNCERTAIN
    failed = _FAILED.findall(text)
    if failed:
        return _final_outcome(failed[-1].strip())
    if _NEVER_SENT.search(text):
        return Outcome.UNREACHABLE
    if _OWN_REFUSAL.search(text) and not _BROKEN.search(text):
        return Outcome.REFUSED
    return Outcome.UNCERTAIN


def _final_outcome(text: str) -> Outcome:
    if _NEVER_SENT.search(text) or _NOT_NOW.search(text):
        return Outcome.UNREACHABLE
    if not text or _BROKEN.search(text) or text.lower() in _SYSTEM:
        return Outcome.UNCERTAIN
    return Outcome.REFUSED


def call_outcome(answer: Answer) -> Outcome | None:
    """Tell what came of a call that changes jobs that exist (scancel, scontrol update); None: all is well.

    That a job has ended already, or is forgotten, is no failure.
    """
    if answer.returncode == 0:
        return None
    lines = [line for line in answer.stderr.splitlines() if line.strip()]
    left = [line for line in lines if not _HARMLESS.search(line)]
    if lines and not left:
        return None
    if answer.returncode < 0 or not left:
        return Outcome.UNREACHABLE
    text = "\n".join(left)
    if any(words.search(text) for words in (_NEVER_SENT, _NOT_NOW, _BROKEN)):
        return Outcome.UNREACHABLE
    return Outcome.REFUSED


def never_sent(text: str) -> bool:
    """Return whether a client that was stopped at its time limit had said why it could not even begin."""
    return bool(_NEVER_SENT.search(text))


def is_unknown_job(answer: Answer) -> bool:
    """Return whether a query failed for no other reason than that the one job it named is not known."""
    text = answer.stderr
    others = _NEVER_SENT.search(text) or _BROKEN.search(text) or _NOT_NOW.search(text)
    return answer.returncode != 0 and "Invalid job id specified" in text and not others


def is_without_history(answer: Answer) -> bool:
    """Return whether sacct said that this cluster keeps no accounts."""
    return answer.returncode != 0 and "accounting storage is disabled" in answer.stderr


def hint_for(text: str) -> str | None:
    """Return what the user can do about an error; None where that is not known."""
    return next((hint for words, hint in _HINTS if re.search(words, text, re.IGNORECASE)), None)


def shorten(text: str, most: int = 500) -> str:
    """Return the last lines of what a program said, on one line."""
    return "; ".join(line.strip() for line in text.splitlines() if line.strip())[-most:]
