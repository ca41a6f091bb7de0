"""The next command about a run: right for every state, and one that the command line takes."""

from __future__ import annotations

import dataclasses
from typing import Any

import click
import pytest

from lfadsrm_hpc.cli.main import lfadsrm
from lfadsrm_hpc.manifest.deleted import Deleted
from lfadsrm_hpc.manifest.evidence import Seen
from lfadsrm_hpc.manifest.fold import RunStatus
from lfadsrm_hpc.manifest.reconcile import Remedy
from lfadsrm_hpc.manifest.records import BAD_DATA, DEADLINE, KILLED, NEVER_STARTED
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.schedulers.next_steps import Names, Situation, next_step
from lfadsrm_hpc.schedulers.resources import Ended, JobRequest
from lfadsrm_hpc.schedulers.sites.site import About, Partition, Retry, Site

S = RunState
RUN = "param_0123456789ab/day 1"
NAMES = Names(RUN, ("my runs",), ("--spec", "day 1", "--match", "factors_dim=8"))
SELECTED = ("--spec", "day 1", "--match", "factors_dim=8")
PARTITIONS = {
    "gpu": Partition(max_walltime="8:00:00", memory_per_node="16G"),
    "cpu": Partition(max_walltime="2-00:00:00", memory_per_node="64G"),
}
SITE = Site(site=About(name="hill", scheduler="slurm"), partitions=PARTITIONS)
REQUEST = JobRequest(3600, "gpu", memory_mb=4096)


def step(state: S, *, on_cluster: bool = True, reason: str | None = None, **more: Any) -> tuple[str, ...]:
    about = {
        name: more.pop(name) for name in ("cancelled", "heartbeat_age_s", "peak_memory_mb") if name in more
    }
    status = RunStatus(RUN, state, 1, reason=reason, **about)
    situation = Situation(status, NAMES, on_cluster=on_cluster, **more)
    found = next_step(situation)
    assert found.why
    assert found.why[0].islower()
    parse(found.command)
    return found.command


def parse(command: tuple[str, ...]) -> None:
    """Let the real command line read a command: unknown options and wrong values are errors."""
    program, *words = command
    if program == "lfadsrm":
        context = click.Context(lfadsrm)
        known = lfadsrm.get_command(context, words[0])
        assert known is not None, words[0]
        known.make_context(words[0], words[1:], parent=context)
    else:
        assert program in ("scontrol", "qrls")


def retried(state: S, *ended: Ended, reason: str | None = None, **more: Any) -> tuple[str, ...]:
    """Return the options of `retry` for a run whose attempts ended so."""
    settings = {"request": REQUEST, "site": SITE, **more}
    command = step(state, reason=reason, history=ended or (Ended(state),), **settings)
    assert command[:7] == ("lfadsrm", "retry", "my runs", *SELECTED)
    return command[7:]


AGAIN = [state for state in S if state.is_failure and state is not S.CANCELLED]
LOGS = ("lfadsrm", "logs", RUN, "-C", "my runs")
WATCH = ("lfadsrm", "status", "my runs", *SELECTED, "--watch")


@pytest.mark.parametrize(
    ("state", "more", "expected"),
    [
        (S.PREPARED, {"on_cluster": False}, ("run", "my runs", *SELECTED)),
        (S.PREPARED, {}, ("plan", "my runs", *SELECTED, "--walltime", "4:00:00")),
        (S.PREPARED, {"walltime": "90m"}, ("submit", "my runs", *SELECTED, "--walltime", "90m")),
        (
            S.PREPARED,
            {"walltime": "90m", "site_name": "hill"},
            ("submit", "my runs", *SELECTED, "--site", "hill", "--walltime", "90m"),
        ),
        (
            S.PREPARED,
            {"waits_for": Names("param_b/day2", ("/other",))},
            ("why", "param_b/day2", "-C", "/other"),
        ),
        (S.SUBMITTED, {"remedy": Remedy.SUBMIT}, ("submit", "my runs")),
        (S.SUBMITTED, {}, WATCH[1:]),
        (S.PENDING, {"reason": "Priority"}, WATCH[1:]),
        (S.PENDING, {"on_cluster": False}, WATCH[1:]),
        (S.PENDING, {"reason": "PartitionTimeLimit"}, ("cancel", "my runs", *SELECTED)),
        (S.PENDING, {"reason": "Can Never Run: Insufficient ncpus"}, ("cancel", "my runs", *SELECTED)),
        (S.HELD, {"job": "47_3", "seen": Seen(S.HELD, "SUSPENDED")}, WATCH[1:]),
        (S.HELD, {"job": "47_3", "reason": "JobHeldAdmin", "seen": Seen(S.HELD, "PENDING")}, WATCH[1:]),
        (S.RUNNING, {"heartbeat_age_s": 20.0}, ("peek", RUN, "-C", "my runs", "--every", "10")),
        (S.RUNNING, {"heartbeat_age_s": 900.0}, (*LOGS[1:], "-f")),
        (S.RUNNING, {"cancelled": True}, ("cancel", "my runs", *SELECTED)),
        (S.REQUEUED, {}, WATCH[1:]),
        (S.COMPLETED, {}, ("check-runs", "my runs", *SELECTED)),
        (S.COMPLETED, {"on_cluster": False}, ("check-runs", "my runs", *SELECTED)),
        (S.COMPLETED, {"deleted": Deleted(model=True)}, ("check-runs", "my runs", *SELECTED)),
        (S.COMPLETED, {"deleted": Deleted(False, ("a",))}, ("run", "my runs", *SELECTED, "--posterior-only")),
        (S.COMPLETED, {"deleted": Deleted(True, ("a",))}, ("clean", "my runs", *SELECTED, "--restart")),
        (S.UNCERTAIN, {"remedy": Remedy.RECONCILE}, ("reconcile", "my runs")),
        (S.UNKNOWN, {"remedy": Remedy.RECONCILE}, ("reconcile", "my runs")),
        (S.UNKNOWN, {"remedy": Remedy.CANCEL}, ("cancel", "my runs", *SELECTED)),
        (S.UNKNOWN, {"remedy": Remedy.ANSWER}, ("doctor", "my runs")),
        (S.UNKNOWN, {}, ("status", "my runs", *SELECTED)),
        *((state, {"on_cluster": False}, ("run", "my runs", *SELECTED)) for state in AGAIN),
        (S.CANCELLED, {"on_cluster": False}, ("run", "my runs", *SELECTED, "--cancelled")),
    ],
)  # fmt: skip
def test_every_state(state: S, more: dict[str, Any], expected: tuple[str, ...]) -> None:
    assert step(state, **more) == ("lfadsrm", *expected)


def test_no_state_is_without_a_step() -> None:
    for state in S:
        for on_cluster in (False, True):
            assert step(state, on_cluster=on_cluster)


def test_held_jobs_are_released_by_the_scheduler_that_has_them() -> None:
    seen = Seen(S.HELD, "PENDING", "JobHeldUser")
    assert step(S.HELD, job="47_3", scheduler="slurm", seen=seen, reason="JobHeldUser") == (
        "scontrol", "release", "47_3",
    )  # fmt: skip
    for scheduler in ("pbspro", "torque"):
        held = step(S.HELD, job="47[3].pbs", scheduler=scheduler, seen=Seen(S.HELD, "H"))
        assert held == ("qrls", "47[3].pbs")


def test_unusable_data_are_never_tried_again_as_they_are() -> None:
    for on_cluster in (False, True):
        ended = (Ended(S.FAILED, bad_data=True),)
        command = step(
            S.FAILED, reason=BAD_DATA, on_cluster=on_cluster, history=ended, request=REQUEST, site=SITE
        )
        assert command == ("lfadsrm", "clean", "my runs", *SELECTED, "--restart")


@pytest.mark.parametrize("state", [S.TIMEOUT, S.OUT_OF_MEMORY, S.NODE_FAIL, S.PREEMPTED, S.LOST])
def test_what_retry_takes_unasked_needs_no_option(state: S) -> None:
    assert retried(state) == ()


def test_what_retry_takes_only_when_it_is_asked() -> None:
    assert retried(S.FAILED) == ("--failed",)
    assert retried(S.FAILED, reason=KILLED) == ("--failed",)
    assert retried(S.CANCELLED) == ("--state", "CANCELLED")
    assert retried(S.CANCELLED, request=None) == ("--state", "CANCELLED")
    assert retried(S.LOST, reason=NEVER_STARTED) == ()


def test_what_was_tried_too_often_is_allowed_once_more() -> None:
    failed, lost = Ended(S.FAILED), Ended(S.LOST)
    assert retried(S.FAILED, failed, failed, lost, failed) == ("--failed", "--max-attempts", "5")
    few = dataclasses.replace(SITE, retry=Retry(max_infrastructure_attempts=2))
    assert retried(S.LOST, lost, lost, site=few) == ("--max-infrastructure-attempts", "3")


def test_what_a_partition_cannot_give_is_sought_in_another() -> None:
    most = JobRequest(8 * 3600, "gpu", memory_mb=16384)
    assert retried(S.OUT_OF_MEMORY, request=most) == ("--partition", "cpu")
    assert retried(S.TIMEOUT, request=most) == ("--partition", "cpu")
    assert retried(S.TIMEOUT, Ended(S.TIMEOUT, gained=True), request=most) == ()
    out = Ended(S.OUT_OF_MEMORY)
    assert retried(S.OUT_OF_MEMORY, out, out, out, request=most) == (
        "--max-attempts", "4", "--partition", "cpu",
    )  # fmt: skip


def test_memory_that_nobody_asked_for_is_asked_for() -> None:
    unasked = JobRequest(3600, "gpu")
    assert retried(S.OUT_OF_MEMORY, request=unasked) == ("--memory", "16G")
    assert retried(S.OUT_OF_MEMORY, request=unasked, peak_memory_mb=30000.0) == ("--memory", "44G")


def test_a_deadline_is_not_cured_by_more_time() -> None:
    ended = Ended(S.TIMEOUT, curable=False)
    assert retried(S.TIMEOUT, ended, reason=DEADLINE) == ("--walltime", "1:00:00")


def test_what_no_option_cures_is_looked_at() -> None:
    alone = dataclasses.replace(SITE, partitions={"gpu": PARTITIONS["gpu"]})
    most = JobRequest(3600, "gpu", memory_mb=16384)
    ended = (Ended(S.OUT_OF_MEMORY),)
    assert step(S.OUT_OF_MEMORY, history=ended, request=most, site=alone) == (*LOGS, "-n", "0")
