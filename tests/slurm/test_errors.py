"""What follows from what sbatch and its siblings say; texts as Slurm 22.05 printed them."""

from __future__ import annotations

import pytest

from lfadsrm_hpc.command import Answer
from lfadsrm_hpc.schedulers.slurm.errors import (
    Outcome,
    call_outcome,
    hint_for,
    is_unknown_job,
    submission_outcome,
)

FAILED = "sbatch: error: Batch job submission failed: "
REFUSED = [
    FAILED + "Invalid account or account/partition combination specified",
    "sbatch: error: invalid partition specified: nope\n" + FAILED + "Invalid partition name specified",
    FAILED + "Requested time limit is invalid (missing or exceeds some limit)",
    FAILED + "Required partition not available (inactive or drain)",
    FAILED + "Invalid job array specification",
    f"""sbatch: error: QOSMaxSubmitJobPerUserLimit
{FAILED}Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)""",
    FAILED + "Invalid qos specification",
    FAILED + "Requested node configuration is not available",
    "sbatch: error: Invalid generic resource (gres) specification",
    f"""sbatch: error: Memory specification can not be satisfied
{FAILED}Requested node configuration is not available""",
    FAILED + "More processors requested than permitted",
    "sbatch: error: Invalid --time specification",
    """sbatch: unrecognized option '--nonsense'
Try "sbatch --help" for more information""",
]
REFUSED_WITHOUT_HINT = [
    "sbatch: error: Unable to open file /absent.sh",
    """sbatch: error: This does not look like a batch script.  The first
sbatch: error: line must start with #! followed by the path to an interpreter.
sbatch: error: For instance: #!/bin/sh""",
    "sbatch: error: Batch script is empty!",
    FAILED + "Requested reservation is invalid",
    FAILED + "Unspecified error",  # what a site's own plugin says with its refusal
    FAILED + "I/O error writing script/environment to file",
]
UNREACHABLE = [
    FAILED + "Unable to contact slurm controller (connect failure)",
    """sbatch: error: No cluster 'other' known by database.
sbatch: error: 'other' can't be reached now, or it is an invalid entry for --cluster.""",
    """sbatch: error: resolve_ctls_from_dns_srv: res_nsearch error: Unknown host
sbatch: error: fetch_config: DNS SRV lookup failed
sbatch: error: _establish_config_source: failed to fetch config
sbatch: fatal: Could not establish a configuration source""",
    f"""sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying
{FAILED}Slurm temporarily unable to accept job, sleeping and retrying""",
]
UNCERTAIN = [
    FAILED + "Socket timed out on send/recv operation",
    FAILED + "Zero Bytes were transmitted or received",
    FAILED + "Unable to contact slurm controller (receive failure)",
    FAILED + "Unable to contact slurm controller (send failure)",
    FAILED + "Unexpected message received",
    FAILED + "Connection reset by peer",
    FAILED + "Resource temporarily unavailable",
    FAILED + "Protocol authentication error",
    FAILED,
    "",
    "Killed",
    "some wrapper: no",
]


@pytest.mark.parametrize("text", [*REFUSED, *REFUSED_WITHOUT_HINT])
def test_refused(text: str) -> None:
    assert submission_outcome(Answer(1, "", text + "\n")) is Outcome.REFUSED


@pytest.mark.parametrize("text", REFUSED)
def test_refusals_come_with_advice(text: str) -> None:
    assert hint_for(text)


@pytest.mark.parametrize("text", UNREACHABLE)
def test_unreachable(text: str) -> None:
    assert submission_outcome(Answer(1, "", text + "\n")) is Outcome.UNREACHABLE


@pytest.mark.parametrize("text", UNCERTAIN)
def test_uncertain(text: str) -> None:
    assert submission_outcome(Answer(1, "", text)) is Outcome.UNCERTAIN


@pytest.mark.parametrize(
    "answer",
    [
        Answer(0, "", ""),  # accepted, and its output lost
        Answer(0, "12", ""),
        Answer(1, "123\n", REFUSED[0]),  # an id, and an error
        Answer(-9, "", REFUSED[0]),
        Answer(0, "", REFUSED[0]),
    ],
)
def test_contradictions_are_uncertain(answer: Answer) -> None:
    assert submission_outcome(answer) is Outcome.UNCERTAIN


def test_words_of_a_sites_wrapper_do_not_hide_a_refusal() -> None:
    answer = Answer(1, "-----\nWelcome\n--> Verifying ... OK\n", REFUSED[0])
    assert submission_outcome(answer) is Outcome.REFUSED


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        (0, "", None),
        (0, "some warning", None),
        (1, "scancel: error: Kill job error on job id 3: Job/step already completing or completed", None),
        (1, "scancel: error: Kill job error on job id 3: Invalid job id specified", None),
        (1, "1_0: Job has already finished\n1_1-9: No error", None),
        (8, "scancel: error: Kill job error on job id 1: Unable to contact slurm controller (connect"
         " failure)", Outcome.UNREACHABLE),
        (1, "Unexpected message received for job 1", Outcome.UNREACHABLE),
        (1, "", Outcome.UNREACHABLE),
        (-9, "x", Outcome.UNREACHABLE),
        (1, "scancel: error: Kill job error on job id 3: Access/permission denied", Outcome.REFUSED),
        (1, "1_0: Job has already finished\n1_1-9: Access/permission denied", Outcome.REFUSED),
    ],
)  # fmt: skip
def test_calls_that_change_jobs(code: int, text: str, expected: Outcome | None) -> None:
    assert call_outcome(Answer(code, "", text)) is expected


def test_an_unknown_job_is_no_failure_of_the_query() -> None:
    assert is_unknown_job(Answer(1, "", "slurm_load_jobs error: Invalid job id specified\n"))
    assert not is_unknown_job(Answer(0, "", "slurm_load_jobs error: Invalid job id specified\n"))
    assert not is_unknown_job(Answer(1, "", "slurm_load_jobs error: Unable to contact slurm controller"))
