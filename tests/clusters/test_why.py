"""`lfadsrm why`: state, evidence and the next command, which is then given, of runs on a cluster and here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lfadsrm_hpc.api import RunCollection
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.evidence import Seen
from lfadsrm_hpc.manifest.records import OUT_OF_MEMORY, Claim, Exit, Identity
from lfadsrm_hpc.manifest.states import RunState

if TYPE_CHECKING:
    from fake_cluster import FakeCluster

S = RunState
SPEC, MATCH = "single_day1", "factors_dim=2"


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str


@dataclass
class Asked:
    """One run of a project, and what `lfadsrm why` says of it."""

    call: Callable[..., Said]
    project: Path
    cluster: FakeCluster

    @property
    def run(self) -> Any:
        (run,) = RunCollection.open(self.project / "runs/small").find_runs(SPEC, factors_dim=2)
        return run

    def why(self) -> dict[str, Any]:
        said = self.call("why", self.run.id, "--json")
        assert said.code == 0, said.err
        found: dict[str, Any] = json.loads(said.out)
        text = self.call("why", self.run.id).out
        assert found["next"]["shell"] in text
        return found

    def evidence(self) -> dict[str, str]:
        return {one["source"]: one["says"] for one in self.why()["evidence"]}

    def follow(self) -> Said:
        """Give the next command."""
        program, *words = self.why()["next"]["command"]
        assert program == "lfadsrm"
        return self.call(*words)

    def submit(self) -> str:
        said = self.call(
            "submit", "--site", "hill", "--walltime", "1:00:00", "--spec", SPEC, "--match", MATCH
        )
        assert said.code == 0, said.err
        self.old()
        return said.out.strip()

    def old(self) -> None:
        import fake_cluster

        layout = self.run.layout.collection
        fake_cluster.age_submissions(layout, 500)
        fake_cluster.age_run(layout, self.run.id, 500)


@pytest.fixture
def asked(
    project: Path, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Asked:
    from lfadsrm_hpc.cli.main import main

    monkeypatch.chdir(project)
    # As if a scheduler were here.
    monkeypatch.setattr("lfadsrm_hpc.schedulers.untried.has_scheduler", lambda: True)
    monkeypatch.setattr("lfadsrm_hpc.schedulers.sites.detection.scheduler_names", list)
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
        assert "a bug in" not in said.err, said.err
        return said

    return Asked(called, project, cluster)


def test_a_run_that_was_never_tried(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    found = asked.why()
    assert (found["state"], found["attempt"], found["lines"]) == ("PREPARED", None, [])
    assert found["next"]["shell"] == "lfadsrm run --spec single_day1 --match factors_dim=2"
    monkeypatch.setenv("LFADSRM_SITE", "hill")
    assert found["next"] != asked.why()["next"]
    followed = asked.follow()
    assert followed.code == 0
    assert "1 run in 1 job" in followed.out
    asked.submit()
    monkeypatch.delenv("LFADSRM_SITE")
    other = json.loads(asked.call("why", "single_day2", "--match", MATCH, "--json").out)
    assert other["next"]["command"][1:] == [
        "submit", "--spec", "single_day2", "--match", MATCH, "--site", "hill", "--walltime", "1:00:00",
    ]  # fmt: skip
    assert asked.call(*other["next"]["command"][1:]).code == 0


def test_the_experiment_says_where_runs_go(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    toml = asked.project / "experiment.toml"
    toml.write_text(toml.read_text() + '[cluster]\nsite = "hill"\nwalltime = "90m"\n')
    monkeypatch.setenv("LFADSRM_SITE", "local")
    assert asked.why()["next"]["command"][1] == "submit"
    assert asked.follow().code == 0
    assert asked.why()["state"] == "PENDING"


def test_a_site_is_what_sends_runs_to_a_cluster(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not that a scheduler is installed: what is told next must work."""
    toml = asked.project / "experiment.toml"
    before = toml.read_text()
    found = asked.why()
    assert found["next"]["command"][1] == "run"
    assert "site init" in found["next"]["why"]
    assert asked.call(*found["next"]["command"][1:], "--dry-run").code == 0
    monkeypatch.setenv("LFADSRM_SITE", "local")
    local = asked.why()["next"]
    assert local["command"][1] == "run"
    assert "site init" not in local["why"]
    monkeypatch.delenv("LFADSRM_SITE")
    toml.write_text(before + '[cluster]\nsite = "hill"\n')
    assert asked.why()["next"]["command"][1:] == [
        "plan", "--spec", SPEC, "--match", MATCH, "--walltime", "4:00:00",
    ]  # fmt: skip
    assert asked.follow().code == 0
    toml.write_text(before + '[cluster]\nsite = "hil"\n')
    found = asked.why()
    assert found["next"]["command"][1] == "run"
    (warning,) = found["warnings"]
    assert "there is no site 'hil'" in warning
    assert "did you mean 'hill'?" in warning


def test_a_machine_that_is_recognised(asked: Asked) -> None:
    site = asked.project / "site_configs/hill.toml"
    site.write_text(site.read_text().replace("8:00:00", "2:00:00") + '[recognise]\nhostnames = ["*"]\n')
    assert asked.why()["next"]["command"][-2:] == ["--walltime", "2:00:00"], "no more than is allowed there"
    assert asked.follow().code == 0
    site.write_text(site.read_text().replace("[request]", '[request]\nwalltime = "1:00:00"'))
    assert asked.why()["next"]["command"][1:] == ["plan", "--spec", SPEC, "--match", MATCH]
    assert asked.follow().code == 0


def test_a_cluster_of_earlier_that_nobody_describes_any_more(asked: Asked) -> None:
    asked.submit()
    (asked.project / "site_configs/hill.toml").unlink()
    other = json.loads(asked.call("why", "single_day2", "--match", MATCH, "--json").out)
    assert other["next"]["command"][1] == "run"
    assert "there is no site 'hill'" in other["warnings"][0]


def test_prepare_tells_the_same(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Next: lfadsrm run .\n" in asked.call("prepare").err
    monkeypatch.setenv("LFADSRM_SITE", "hill")
    told = asked.call("prepare", ".").err
    assert "Next: lfadsrm plan . --walltime 4:00:00 (`submit` in place of `plan`" in told
    assert asked.call("plan", ".", "--walltime", "4:00:00").code == 0
    toml = asked.project / "experiment.toml"
    toml.write_text(toml.read_text() + '[cluster]\nsite = "hill"\nwalltime = "1h"\n')
    monkeypatch.setenv("LFADSRM_SITE", "local")
    assert "Next: lfadsrm plan . (`submit`" in asked.call("prepare").err, "the experiment names a site"
    toml.write_text(toml.read_text().replace("hill", "hil"))
    told = asked.call("prepare").err
    assert "warning: no site can be chosen: there is no site 'hil'" in told
    assert "Next: lfadsrm run ." in told


def test_a_run_that_waits_works_and_ends(asked: Asked) -> None:
    job = asked.submit()
    found = asked.why()
    assert (found["state"], found["job"]) == ("PENDING", job)
    assert asked.evidence()["slurm of hill"] == f"job {job} is PENDING, Priority"
    assert found["next"]["command"][1:] == ["status", "--spec", SPEC, "--match", MATCH, "--watch"]
    asked.cluster.set(job, -1, S.HELD, reason="JobHeldUser")
    assert asked.why()["next"]["command"] == ["scontrol", "release", job]
    asked.cluster.start(job, -1)
    found = asked.why()
    assert found["state"] == "RUNNING"
    assert "attempts/001/claim.r0.json" in asked.evidence()
    assert found["next"]["command"][1:3] == ["peek", asked.run.id]
    log = asked.run.layout.attempt(1).log
    log.write_text("".join(f"line {n}\x1b[31m\n" for n in range(5000)))
    assert asked.why()["lines"][-2:] == ["line 4998?[31m", "line 4999?[31m"]
    for name in asked.run.dataset_names:
        asked.run.layout.posterior_dir.mkdir(exist_ok=True)
        asked.run.layout.posterior_means(name).write_bytes(b"rates")
    asked.cluster.end(job, -1, 0)
    found = asked.why()
    assert found["state"] == "COMPLETED"
    assert found["next"]["command"][1] == "check-runs"


@pytest.mark.parametrize(
    ("state", "options", "words"),
    [
        (S.OUT_OF_MEMORY, [], "with 6G of memory"),
        (S.TIMEOUT, [], "with 1:30:00 of walltime"),
        (S.NODE_FAIL, [], "the same request"),
        (S.FAILED, ["--failed"], "the same request"),
    ],
)
def test_the_next_command_brings_a_failed_run_back(
    asked: Asked, state: RunState, options: list[str], words: str
) -> None:
    asked.call("submit", "--site", "hill", "--walltime", "1:00:00", "--memory", "4G", "--spec", SPEC)
    job = next(iter(asked.cluster.jobs))
    asked.cluster.start(job, 0, living=False)
    asked.cluster.set(job, 0, state)
    asked.old()
    found = asked.why()
    assert found["state"] == state.value
    assert f"job {job}" in asked.evidence().get("slurm of hill", f"job {job}")
    assert found["next"]["command"][1:] == ["retry", "--spec", SPEC, "--match", MATCH, *options]
    assert words in found["next"]["why"]
    assert asked.follow().code == 0
    after = asked.why()
    assert (after["state"], after["attempt"]) == ("PENDING", 2)


def test_a_cancelled_run_comes_back_only_when_asked(asked: Asked) -> None:
    job = asked.submit()
    assert asked.call("cancel", "--all").code == 0
    asked.cluster.set(job, -1, S.CANCELLED)
    found = asked.why()
    assert found["state"] == "CANCELLED"
    assert any(source.startswith(".lfadsrm/cancel-") for source in asked.evidence())
    assert asked.follow().code == 0
    assert asked.why()["state"] == "PENDING"


def test_what_may_have_been_handed_over_is_looked_up(asked: Asked) -> None:
    asked.cluster.faults, asked.cluster.blind = ["accepted but timed out"], True
    words = ("submit", "--site", "hill", "--walltime", "1:00:00", "--spec", SPEC, "--match", MATCH)
    assert asked.call(*words).code == 9
    for path in asked.run.layout.collection.submissions_dir.glob("*/sending-*.json"):
        record = json.loads(path.read_text())
        record["process"] |= {"pid": 2**30, "start": 1}  # the command that sent it has ended
        path.write_text(json.dumps(record))
    asked.old()
    asked.cluster.blind = False
    found = asked.why()
    assert found["state"] == "UNCERTAIN"
    assert found["next"]["command"] == ["lfadsrm", "reconcile"]
    assert asked.follow().code == 0
    assert asked.why()["state"] == "PENDING"


def test_a_submission_that_was_interrupted_goes_on(asked: Asked) -> None:
    asked.cluster.faults = ["ok", "unreachable"]
    words = ("submit", "--site", "hill", "--walltime", "1:00:00", "--spec", SPEC)
    assert asked.call(*words, "--set", "limits.array_tasks=1").code == 7
    other = json.loads(asked.call("why", SPEC, "--match", "factors_dim=3", "--json").out)
    assert other["state"] == "SUBMITTED"
    assert other["next"]["command"] == ["lfadsrm", "submit"]
    assert asked.call("submit", "--site", "hill", "--walltime", "1:00:00").code == 0
    assert json.loads(asked.call("why", SPEC, "--match", "factors_dim=3", "--json").out)["state"] == "PENDING"


def test_a_scheduler_that_does_not_answer_is_looked_at(asked: Asked) -> None:
    asked.submit()
    asked.cluster.down = True
    found = asked.why()
    assert found["state"] == "UNKNOWN"
    assert found["warnings"]
    assert found["next"]["command"] == ["lfadsrm", "doctor"]
    assert "no usable answer" in asked.evidence()["slurm of hill"]


def test_runs_of_this_machine(asked: Asked) -> None:
    claim = store.take_local(asked.run.layout, Identity.local("", 0))
    assert isinstance(claim, Claim)
    store.heartbeat(asked.run.layout, claim, phase="training", epoch=3, max_epochs=9)
    assert asked.evidence()["attempts/001/heartbeat.r0"] == "training, epoch 3 of 9"
    message = "training met costs that are not finite\n  do: lower learning_rate_init"
    store.publish_exit(asked.run.layout, claim, Exit(1, "failed", message=message))
    found = asked.why()
    assert (found["state"], found["reason"]) == ("FAILED", "failed")
    assert "code 1, failed" in asked.evidence()["attempts/001/exit.r0.json"]
    assert found["next"]["shell"] == "lfadsrm run --spec single_day1 --match factors_dim=2"
    assert "lower learning_rate_init" in asked.call("why", asked.run.id).out


def test_unusable_data_have_their_outputs_deleted(asked: Asked) -> None:
    claim = store.take_local(asked.run.layout, Identity.local("", 0))
    assert isinstance(claim, Claim)
    store.publish_exit(asked.run.layout, claim, Exit(65, "bad_data", message="no spikes at all"))
    command = asked.why()["next"]["command"]
    assert command[:2] == ["lfadsrm", "clean"]
    assert "--restart" in command
    done = subprocess.run([sys.executable, "-m", "lfadsrm_hpc", *command[1:], "--yes"], check=False)
    assert done.returncode == 0
    assert asked.why()["state"] == "PREPARED"


def test_a_suspended_job_is_waited_for(asked: Asked) -> None:
    job = asked.submit()
    asked.cluster.jobs[job].tasks[-1] = Seen(S.HELD, "SUSPENDED")
    assert asked.why()["next"]["command"][1] == "status"


def test_too_many_failures_are_told(asked: Asked) -> None:
    job = asked.submit()
    for _ in range(3):
        asked.cluster.start(job, -1)
        asked.cluster.end(job, -1, 137, OUT_OF_MEMORY)
        if "--max-attempts" in asked.why()["next"]["command"]:
            break
        assert asked.call("retry", "--failed", "--state", "OUT_OF_MEMORY", "--memory", "8G").code == 0
        job = list(asked.cluster.jobs)[-1]
    assert asked.why()["next"]["command"][-2:] == ["--max-attempts", "4"]
    assert asked.follow().code == 0


def test_from_python(asked: Asked) -> None:
    found = asked.run.why()
    assert found.status.state is S.PREPARED
    assert found.command.startswith(f"lfadsrm run '{os.path.realpath(asked.project)}")
    assert "PREPARED" in str(found)
