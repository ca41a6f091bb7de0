"""The commands for clusters, as a user calls them: output, messages, exit codes."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lfadsrm_hpc.api import RunCollection
from lfadsrm_hpc.api.costs import cost_of
from lfadsrm_hpc.errors import SchedulerRefusedError
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.manifest.timings import Timing, write_timing
from lfadsrm_hpc.schedulers.batch import Job, Report
from lfadsrm_hpc.schedulers.resources import JobRequest

if TYPE_CHECKING:
    from fake_cluster import FakeCluster

WALL = ("--site", "hill", "--walltime", "1:00:00")


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Call = Callable[..., Said]


@pytest.fixture
def call(
    project: Path,
    cluster: FakeCluster,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Call:
    """Call `lfadsrm` in the folder of the experiment."""
    from lfadsrm_hpc.cli.main import main

    monkeypatch.chdir(project)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    for name in ("LFADSRM_COLLECTION", "LFADSRM_JSON"):
        monkeypatch.delenv(name, raising=False)

    def called(*args: object) -> Said:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["lfadsrm", *map(str, args)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert isinstance(ended.value.code, int)
        said = Said(ended.value.code, *capsys.readouterr())
        assert "Traceback" not in said.out + said.err
        assert "a bug in" not in said.err
        return said

    return called


@pytest.fixture
def rc(project: Path) -> RunCollection:
    return RunCollection.open(project / "runs/small")


def test_plan(call: Call, cluster: FakeCluster, rc: RunCollection) -> None:
    said = call("plan", *WALL, "--memory", "8G", "--max-parallel", 2)
    assert said.code == 0
    assert "site hill (slurm): 6 runs in 1 job" in said.out
    assert "1:00:00" in said.out
    assert "8G" in said.out
    assert "at most:  24.0 core hours, 3:00:00 from" in said.out
    assert "lfadsrm time" in said.out
    assert "disk:" in said.out
    assert "#!/bin" not in said.out
    shown = call("plan", *WALL, "--scripts").out
    assert "#SBATCH --array=0-5" in shown
    assert all(run.id in shown for run in rc.runs)
    assert cluster.calls == []
    assert not rc.layout.state_dir.exists()


def test_plan_from_a_timing(call: Call, rc: RunCollection) -> None:
    timing = Timing(rc.runs[0].id, "n1", "A100", 36.0, 60.0, sampling_s=0.0, peak_memory_mb=1500.0)
    write_timing(rc.layout, timing)
    least = cost_of(rc, {rc.runs[0].id: JobRequest(3600, gpus=1)}, states={}).least_s[rc.runs[0].id]
    words = ("plan", *WALL, "--gpus", 1, "--memory", "4G")
    said = call(*words, "--spec", "single_day1", "--match", "factors_dim=2").out
    assert f"at least: {least / 3600:.1f} GPU hours, " in said
    assert f"(from a timing of {rc.runs[0].id} on A100; without max_epochs nobody knows" in said
    assert "memory:   1500 MiB at its peak, which fits" in said
    said = call(*words, "--set", "packing.runs=3").out
    assert "memory:   3 times 1500 MiB at its peak, MORE than is asked for" in said


def test_plan_as_json(call: Call, rc: RunCollection) -> None:
    found = call("plan", *WALL, "--match", "factors_dim=3", "--json").json
    assert found["schema_version"] == 1
    assert [job["size"] for job in found["jobs"]] == [3]
    assert len(found["runs"]) == 3
    assert found["runs"][1]["index"] == 1
    assert found["runs"][1]["request"]["walltime_s"] == 3600
    assert found["cost"]["core_hours_at_most"] == 12.0
    assert "scripts" not in found
    assert "script-0.sh" in call("submit", *WALL, "--dry-run", "--json").json["scripts"]


def test_submit_prints_ids_alone_on_stdout(call: Call, cluster: FakeCluster) -> None:
    said = call("submit", *WALL, "--set", "limits.array_tasks=3")
    assert (said.code, said.out) == (0, "100\n101\n")
    assert "6 runs handed over to hill" in said.err
    again = call("submit", *WALL)
    assert (again.code, again.out) == (4, "")
    assert "6 pending" in again.err


def test_dry_run(call: Call, cluster: FakeCluster, rc: RunCollection) -> None:
    said = call("submit", *WALL, "--spec", "all", "--dry-run")
    assert said.code == 0
    assert "2 runs in 1 job" in said.out
    assert "--- script-0.sh ---" in said.out
    assert "Nothing was submitted" in said.err
    assert cluster.submits == 0
    assert not rc.layout.submissions()


@pytest.mark.parametrize(
    ("faults", "code", "words"),
    [
        (["refuse"], 3, "invalid account"),
        (["unreachable"], 6, "nobody answers"),
        (["ok", "unreachable"], 7, "1 of 2 jobs"),
        (["ok", "refuse"], 7, "1 of 2 jobs"),
        (["timed out"], 9, "lfadsrm reconcile"),
        (["interrupt"], 130, "interrupted"),
    ],
)
def test_exit_codes_of_submit(
    call: Call, cluster: FakeCluster, faults: list[str], code: int, words: str
) -> None:
    cluster.faults = list(faults)
    said = call("submit", *WALL, "--set", "limits.array_tasks=3")
    assert said.code == code
    assert words in said.err
    if code in (3, 6, 7):
        assert call("submit", *WALL, "--set", "limits.array_tasks=3").code == 0
        assert len(cluster.jobs) == 2


@pytest.mark.parametrize(("fault", "code"), [("unreachable", 7), ("timed out", 9)])
def test_what_was_handed_over_is_told_where_not_all_could_be(
    call: Call, cluster: FakeCluster, fault: str, code: int
) -> None:
    options = ("submit", *WALL, "--set", "limits.array_tasks=3")
    cluster.faults = ["ok", fault]
    said = call(*options, "--json")
    assert said.code == code
    assert [(job["job"], len(job["runs"])) for job in said.json["jobs"]] == [("100", 3)]


def test_unreachable_after_going_on_is_no_nothing(call: Call, cluster: FakeCluster) -> None:
    """6 says that nothing was changed, but what an earlier submission left is handed over by now."""
    options = ("submit", *WALL, "--set", "limits.array_tasks=2")
    cluster.faults = ["ok", "unreachable"]
    said = call(*options, "--spec", "all", "--spec", "single_day1")
    assert (said.code, said.out) == (7, "100\n")
    cluster.faults = ["ok", "unreachable"]
    said = call(*options)
    assert (said.code, said.out) == (7, "101\n")
    assert "nobody answers" in said.err
    assert (call(*options).code, len(cluster.jobs)) == (0, 3)


def test_a_job_of_which_nobody_knows_is_told_each_time(
    call: Call, cluster: FakeCluster, rc: RunCollection
) -> None:
    cluster.faults, cluster.blind = ["timed out"], True
    assert call("submit", *WALL, "--spec", "all").code == 9
    forget_senders(rc)
    said = call("submit", *WALL)
    assert (said.code, said.out) == (0, "100\n")
    assert "warning: nobody knows yet whether the scheduler took lf" in said.err
    assert "goes on with" not in said.err
    assert call("submit", *WALL).code == 9


def test_unreachable_before_anything(call: Call, cluster: FakeCluster, rc: RunCollection) -> None:
    cluster.down = True
    assert call("submit", *WALL).code == 6
    assert not rc.layout.state_dir.exists()


@pytest.mark.parametrize(
    ("words", "code", "hint"),
    [
        (["submit", "--site", "hill"], 3, "--walltime"),
        (["submit", "--site", "hil", "--walltime", "1:00:00"], 3, "hill"),
        (["submit", *WALL, "--partition", "gpus"], 3, "gpu"),
        (["submit", *WALL, "--state", "FALED"], 2, "FAILED"),
        (["submit", *WALL, "--gpus", "-1"], 2, ""),
        (["cancel"], 2, "--all"),
        (["cancel", "--all"], 4, ""),
        (["throttle", "3"], 4, ""),
        (["retry"], 4, ""),
    ],
)
def test_wrong_words(call: Call, words: list[str], code: int, hint: str) -> None:
    said = call(*words)
    assert (said.code, said.out) == (code, "")
    assert hint in said.err


def forget_senders(rc: RunCollection) -> None:
    """Let whoever called the scheduler be a process that is gone."""
    for path in rc.layout.submissions_dir.rglob("sending-*.json"):
        path.write_text(path.read_text().replace(f'"pid": {os.getpid()},', f'"pid": {2**30},'))


def test_retry_cancel_and_throttle(call: Call, cluster: FakeCluster, rc: RunCollection) -> None:
    import fake_cluster

    call("submit", *WALL, "--memory", "4G")
    cluster.start("100", 0, living=False)
    cluster.set("100", 0, RunState.OUT_OF_MEMORY)
    cluster.run("100", 1, 1)
    cluster.start("100", 2)
    fake_cluster.age_submissions(rc.layout, 500)
    for run in rc.runs:
        fake_cluster.age_run(rc.layout, run.id, 500)
    said = call("throttle", 2)
    assert (said.code, said.out) == (0, "100\t2\n")
    said = call("plan", "--retry")
    assert "6G" in said.out
    assert "1 out of memory" in said.out
    said = call("retry")
    assert (said.code, said.out) == (0, "101\n")
    said = call("retry", "--failed", "--walltime", "2:00:00")
    assert (said.code, said.out) == (0, "102\n")
    said = call("cancel", "--state", "running")
    assert (said.code, said.out) == (0, f"{rc.runs[2].id}\n")
    assert f"was running: {rc.runs[2].id}" in said.err
    found = call("cancel", "--all", "--json").json
    assert len(found["runs"]) == 5
    assert found["running"] == []
    assert sorted(found["jobs"]) == ["100", "101", "102"]


def test_cancelling_tells_what_was_running_where_the_scheduler_does_not_hear_it(
    call: Call, cluster: FakeCluster, rc: RunCollection
) -> None:
    call("submit", *WALL)
    cluster.start("100", 0)
    cluster.down = True
    said = call("cancel", "--all")
    assert said.code == 6
    assert said.out.split() == [run.id for run in rc.runs]
    assert f"was running: {rc.runs[0].id}" in said.err
    assert "could not be told" in said.err
    cluster.down = False
    said = call("cancel", "--all", "--json")
    assert (said.code, said.json["jobs"]) == (0, ["100"])


def test_that_nothing_is_to_be_done_is_not_said_for_want_of_an_answer(
    call: Call, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scheduler is there, but its queue cannot be asked: some of the runs may have ended badly."""
    call("submit", *WALL)
    monkeypatch.setattr(cluster, "look", lambda jobs: Report())
    for words in (["retry"], ["submit", *WALL], ["plan", "--retry"]):
        said = call(*words)
        assert (said.code, said.out) == (6, "")
        assert "6 unknown, but no usable answer came from hill" in said.err
    monkeypatch.undo()


def test_a_throttle_that_nobody_hears(call: Call, cluster: FakeCluster) -> None:
    call("submit", *WALL)
    cluster.down = True
    said = call("throttle", 2)
    assert (said.code, said.out) == (6, "")


def test_a_throttle_that_is_refused(
    call: Call, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    call("submit", *WALL, "--set", "limits.array_tasks=3")

    def refuse(job: Job, most: int) -> None:
        if job.id in refusing:
            raise SchedulerRefusedError("no such attribute", hint="a newer version has it")

    monkeypatch.setattr(cluster, "throttle", refuse)
    refusing = {"100", "101"}
    said = call("throttle", 2)
    assert (said.code, said.out) == (3, "")
    assert "a newer version has it" in said.err
    refusing = {"100"}
    said = call("throttle", 2)
    assert (said.code, said.out) == (0, "101\t1\n")
    assert "warning: job 100: no such attribute" in said.err


def test_reconcile(call: Call, cluster: FakeCluster, rc: RunCollection) -> None:
    import fake_cluster

    said = call("reconcile")
    assert (said.code, said.out) == (0, "")
    cluster.faults, cluster.blind = ["accepted but timed out"], True
    assert call("submit", *WALL).code == 9
    forget_senders(rc)
    said = call("reconcile", "--json")
    assert (said.code, len(said.json["uncertain"])) == (9, 1)
    cluster.blind = False
    said = call("reconcile")
    assert said.code == 0
    assert "job 100: found, and adopted" in said.out
    fake_cluster.age_submissions(rc.layout, 500)
    cluster.down = True
    said = call("reconcile")
    assert said.code == 6
    cluster.down = False
    cluster.purge("100")
    said = call("reconcile")
    assert said.code == 0
    assert len([line for line in said.out.splitlines() if ": lost" in line]) == 6
    assert call("status", "--json").json["counts"] == {"LOST": 6}


def test_the_cluster_table_of_an_experiment(call: Call, cluster: FakeCluster, project: Path) -> None:
    file = project / "experiment.toml"
    text = file.read_text()
    file.write_text(
        text + '[cluster]\nsite = "hill"\nwalltime = "3:00:00"\npartition = "cpu"\naccount = "lab7"\n'
        'max_parallel = 3\nset = ["stopping.warning=2m"]\n'
    )
    found = call("submit", "--dry-run", "--json", "--cpus", 2).json
    script = found["scripts"]["script-0.sh"]
    for line in ("--time=3:00:00", "--partition=cpu", "--account=lab7", "--array=0-5%3", "USR2@120"):
        assert line in script
    assert "--cpus-per-task=2" in script
    # It is under what the command says, and does not stand in the way of what a retry needs.
    assert "--time=1:00:00" in call("submit", "--dry-run", *WALL).out
    call("submit", "--spec", "all")
    import fake_cluster

    cluster.start("100", 0, living=False)
    cluster.set("100", 0, RunState.TIMEOUT)
    rc = RunCollection.open(project / "runs/small")
    fake_cluster.age_submissions(rc.layout, 500)
    for run in rc.runs:
        fake_cluster.age_run(rc.layout, run.id, 500)
    assert "4:30:00" in call("plan", "--retry").out
    for wrong in ('walltim = "1:00:00"', "cpus = -1", "walltime = 3", "set = 4"):
        file.write_text(text + f"[cluster]\n{wrong}\n")
        said = call("submit")
        assert said.code == 3
        assert "[cluster]" in said.err


def test_a_site_without_a_scheduler_starts_the_local_queue(
    call: Call, cluster: FakeCluster, rc: RunCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Path] = []
    monkeypatch.setattr(
        "lfadsrm_hpc.schedulers.local.detach_queue", lambda script: started.append(script) or 4711
    )
    assert "6 runs for the local queue" in call("plan", "--site", "local").out
    said = call("submit", "--site", "local", "--spec", "all")
    assert (said.code, said.out) == (0, "4711\n")
    assert started == [rc.layout.queue_script]
    assert cluster.calls == []
