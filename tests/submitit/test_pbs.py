"""The PBS executor, on a fake PBS whose jobs really run."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import submitit
from disk_readers import read_submissions
from submitit.core.utils import UncompletedJobError

from lfadsrm_hpc.errors import (
    LfadsrmError,
    NothingEligibleError,
    SchedulerRefusedError,
    UsageError,
)
from lfadsrm_hpc.manifest.evidence import Seen
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.schedulers.batch import PLAIN, Report
from lfadsrm_hpc.schedulers.pbs.pbspro import PbsPro
from lfadsrm_hpc.submitit_plugin import PbsExecutor, PbsJob, PbsJobEnvironment, submit_with


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a folder without the blank that PBS takes in no path."""
    return tmp_path / "experiment"


@pytest.fixture
def executor(folder: Path) -> Callable[..., PbsExecutor]:
    def make(**parameters: Any) -> PbsExecutor:
        made = PbsExecutor(folder)
        made.update_parameters(**{"timeout_min": 10, **parameters})
        return made

    return make


def add(a: int, b: int) -> tuple[int, str, str]:
    return a + b, submitit.JobEnvironment().job_id, os.environ["PBS_JOBID"]


# -- submitit's own ways ----------------------------------------------------------------------------------


def test_it_is_registered() -> None:
    found = {entry.name: entry.value for entry in metadata.entry_points(group="submitit")}
    assert found["executor"] == "lfadsrm_hpc.submitit_plugin.pbs:PbsExecutor"
    assert found["job_environment"] == "lfadsrm_hpc.submitit_plugin.pbs:PbsJobEnvironment"


def test_auto_executor(folder: Path, pbspro: Any) -> None:
    auto = submitit.AutoExecutor(folder, cluster="pbs")
    auto.update_parameters(timeout_min=5, mem_gb=0.5, name="sums", cpus_per_task=2, pbs_array_parallelism=1)
    job = auto.submit(int, "7")
    assert job.result() == 7
    pbspro.wait(job.accepted.job)
    job.watcher.update()
    assert job.state == "COMPLETED"
    assert pbspro.task(job.accepted.job)["status"] == 0
    with auto.batch():
        jobs = [auto.submit(pow, 2, n) for n in range(3)]
    assert [job.result() for job in jobs] == [1, 2, 4]
    number = jobs[0].job_id.partition("_")[0]
    assert [job.job_id for job in jobs] == [f"{number}_{n}" for n in range(3)]
    made = pbspro.jobs()[number]
    assert (made["name"], made["ncpus"], len(made["tasks"])) == ("sums", 2, 3)
    text = jobs[0].paths.submission_file.read_text()
    assert "#PBS -J 0-2%1" in text
    assert "#PBS -l select=1:ncpus=2:mem=512mb" in text
    assert "#PBS -l walltime=0:05:00" in text


def test_slurms_own_parameters_stay_slurms(folder: Path) -> None:
    """submitit turns names without a prefix into names of executors, and must not find ours."""
    given = {"account": "lab", "array_parallelism": 4, "signal_delay_s": 60}
    slurm = submitit.AutoExecutor(folder, cluster="slurm")
    with pytest.warns(UserWarning, match="Use 'slurm_.*' instead"):
        slurm.update_parameters(**given)
    assert given.items() <= slurm.parameters.items()
    pbs = submitit.AutoExecutor(folder, cluster="pbs")
    pbs.update_parameters(**{f"pbs_{name}": value for name, value in given.items()})
    assert given.items() <= pbs.parameters.items()


def test_umask_and_input(executor: Any, pbspro: Any, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """The rights of the user's files; nothing to be read, where the input may be the script itself."""
    pbspro.set(start="stdin")
    request.addfinalizer(partial(os.umask, os.umask(0o027)))
    made = executor(teardown=[f"touch '{tmp_path}/to the end'"])
    job = made.submit(subprocess.check_output, ["sh", "-c", "umask; cat"], text=True)
    assert job.result() == "0027\n"
    pbspro.wait(job.accepted.job)
    assert (tmp_path / "to the end").exists()
    assert job.paths.stdout.stat().st_mode & 0o777 == 0o640


def test_jobs_keep_the_name_of_their_server(executor: Any, pbspro: Any) -> None:
    """Another server may be the one that is asked unless it is named."""
    pbspro.set(scheduling=False)
    jobs = [executor().submit(int, "3"), *executor().map_array(int, ["3", "4"])]
    asked = [job.watcher.job_of(job.job_id) for job in jobs]
    assert asked == [("1.vm", PLAIN), ("2[].vm", 0), ("2[].vm", 1)]
    PbsJob.watcher.whole.clear()
    again = pickle.loads(pickle.dumps(jobs[1]))
    assert again.watcher.job_of(again.job_id) == ("2[].vm", 0)


def test_an_array_of_one_is_a_plain_job(executor: Any, pbspro: Any) -> None:
    (job,) = executor().map_array(int, ["3"])
    assert job.result() == 3
    assert "_" not in job.job_id


def test_failures_and_cancellation(executor: Any, pbspro: Any) -> None:
    pbspro.set(slots=1)
    made = executor(setup=["export LOUD=1", "echo made up >&2"])
    failed = made.submit(int, "seven")
    slow = made.map_array(subprocess.check_call, [["sleep", "60"], ["sleep", "60"]])
    with pytest.raises(submitit.core.utils.FailedJobError, match="invalid literal"):
        failed.result()
    assert "made up" in failed.stderr()
    pbspro.wait(slow[0].accepted.job, "RQ")
    slow[1].watcher.update()
    assert [job.state for job in slow] == ["RUNNING", "PENDING"]
    assert not slow[1].done()
    for job in slow:
        job.cancel()
    pbspro.wait(slow[0].accepted.job)
    slow[1].watcher.update()
    assert [job.state for job in slow] == ["CANCELLED"] * 2
    assert all(job.done() for job in slow)
    slow[0]._results_timeout_s = 0
    with pytest.raises(UncompletedJobError):
        slow[0].result()
    assert PbsJob(made.folder, slow[0].job_id).state == "CANCELLED"  # made from its id alone
    slow[0].cancel()  # it has ended: no error


def test_refused(executor: Any, pbspro: Any) -> None:
    pbspro.set(refuse=[170, "qsub: Unknown queue"])
    with pytest.raises(SchedulerRefusedError, match="Unknown queue"):
        executor(queue="nowhere").submit(int, "7")


@pytest.mark.parametrize(
    ("seen", "done"),
    [(Seen(RunState.HELD, "S"), False), (Seen(RunState.UNKNOWN, "?"), False), (None, False),
     (Seen(RunState.FAILED, "F"), True)],
)  # fmt: skip
def test_only_what_is_known_as_an_end_is_one(
    seen: Seen | None, done: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {} if seen is None else {("99", PLAIN): seen}
    monkeypatch.setattr(PbsPro, "look", lambda self, jobs: Report(answers, live_ok=True))
    watcher = PbsJob(folder, "99").watcher
    watcher.clear()
    assert watcher.is_done("99", mode="force") is done
    monkeypatch.setattr("lfadsrm_hpc.submitit_plugin.states._ABSENT_S", -1.0)
    watcher.update()
    assert watcher.is_done("99", mode="cache") is (done or seen is None)  # gone for good


def test_a_server_that_is_silent_says_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PbsPro, "look", lambda self, jobs: Report())
    monkeypatch.setattr("lfadsrm_hpc.submitit_plugin.states._ABSENT_S", -1.0)
    watcher = PbsJob(folder, "98").watcher
    watcher.clear()
    assert not watcher.is_done("98", mode="force")
    assert watcher.get_state("98") == "UNKNOWN"


# -- its scripts --------------------------------------------------------------------------------------------


def test_what_cannot_be_is_refused(executor: Any) -> None:
    for wrong in ({"quue": "x"}, {"nodes": 2}, {"tasks_per_node": 2}, {"variables": {"A B": 1}},
                  {"queue": "a b"}, {"directives": ["walltime=1"]}, {"directives": ["-l a\n#PBS -l b"]},
                  {"timeout_min": 0}, {"walltime": "60"}):  # fmt: skip
        with pytest.raises(LfadsrmError):
            executor(**wrong)._script("true", 0)
    with pytest.raises(UsageError) as caught:
        executor(quue="x")
    assert "did you mean 'queue'" in str(caught.value)


def test_the_script(executor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "it's $(here)"
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setenv("PYTHONPATH", "/a b")
    made = executor(
        queue="gpu", account="proj", walltime="2:00:00", gpus_per_node=1, mem_gb=4, select="gpu_type=a100",
        directives=["-l filesystems=home:eagle"], setup=["module load x"], variables={"A": "it's"},
        signal_delay_s=300, array_parallelism=2,
    )  # fmt: skip
    text = made._script(made._submitit_command_str, 4)
    assert [line for line in text.splitlines() if line.startswith("#PBS")] == [
        "#PBS -N submitit",
        "#PBS -l select=1:ncpus=1:ngpus=1:mem=4096mb:gpu_type=a100",
        "#PBS -l walltime=2:00:00",
        "#PBS -j oe",
        "#PBS -o /dev/null",  # the folder's name has blanks
        "#PBS -q gpu",
        "#PBS -A proj",
        "#PBS -J 0-3%2",
        "#PBS -l filesystems=home:eagle",
    ]
    assert "export LFADSRM_DEADLINE=$(($(date +%s) + 6900))" in text
    assert "export PYTHONPATH='/a b'" in text
    script = tmp_path / "job.sh"
    script.write_text(text)
    subprocess.run(["bash", "-n", script], check=True)
    if shutil.which("shellcheck") is None:
        if os.environ.get("LFADSRM_REQUIRE_TOOLS") == "1":
            pytest.fail("shellcheck is not installed")
        pytest.skip("shellcheck is not installed")
    subprocess.run(["shellcheck", script], check=True)


def test_the_environment_of_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nodes").write_text("n1\nn1\nn2\n")
    monkeypatch.setenv("PBS_JOBID", "12[3].server")
    monkeypatch.setenv("PBS_ARRAY_ID", "12[].server")
    monkeypatch.setenv("PBS_ARRAY_INDEX", "3")
    monkeypatch.setenv("PBS_NODEFILE", str(tmp_path / "nodes"))
    environment = PbsJobEnvironment()
    assert (environment.job_id, environment.scheduler_job) == ("12_3", "12[].server")
    assert (environment.hostnames, environment.num_tasks, environment.global_rank) == (["n1", "n2"], 1, 0)
    assert not environment.activated()
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "pbs")
    assert isinstance(submitit.JobEnvironment(), PbsJobEnvironment)


# -- runs -----------------------------------------------------------------------------------------------


def states(collection: Any, runs: list[Any]) -> list[RunState]:
    return [status.state for status in collection.status(runs)]


@pytest.mark.slow
@pytest.mark.train
def test_an_array_of_runs(collection: Any, short: list[Any], folder: Path, pbspro: Any, helpers: Any) -> None:
    pbspro.set(scheduling=False)
    executor = submitit.AutoExecutor(folder, cluster="pbs")
    executor.update_parameters(timeout_min=10, pbs_directives=["-v MINE=1"])
    jobs = submit_with(collection, executor, short)
    assert pbspro.jobs()["1"]["variables"]["MINE"] == "1"  # PBS heeds one -v alone: the user's
    assert states(collection, short) == [RunState.PENDING] * 2
    with pytest.raises(NothingEligibleError):
        submit_with(collection, executor, short)
    pbspro.set(scheduling=True)
    (submission,) = read_submissions(collection.layout, 0.0)
    receipt = submission.chunks[0].receipt
    assert (submission.plan.scheduler, receipt.job) == ("pbspro", jobs[short[0].id].accepted.job)
    for index, run in enumerate(short):
        assert jobs[run.id].result().state is RunState.COMPLETED
        identity = helpers.incarnation(run, 1, 0).claim.identity
        assert (identity.job, identity.task) == (receipt.job, str(index))
    assert states(collection, short) == [RunState.COMPLETED] * 2


@pytest.mark.slow
@pytest.mark.train
def test_out_of_time_and_on_again(
    collection: Any, long: Any, undisturbed: Any, folder: Path, pbspro: Any, helpers: Any
) -> None:
    short_of_time = PbsExecutor(folder)
    short_of_time.update_parameters(timeout_min=1, signal_delay_s=53)  # that leaves 7 s
    job = submit_with(collection, short_of_time, [long])[long.id]
    with pytest.raises(submitit.core.utils.FailedJobError, match="stopped at a checkpoint"):
        job.result()
    ended = helpers.incarnation(long, 1, 0).exit
    assert (ended.code, ended.reason) == (75, "timeout")
    pbspro.wait(job.accepted.job)
    assert helpers.state(long) is RunState.TIMEOUT
    enough = PbsExecutor(folder)
    enough.update_parameters(timeout_min=10)
    assert submit_with(collection, enough, [long])[long.id].result().state is RunState.COMPLETED
    assert "resumes from 001.r0" in long.layout.attempt(2).log.read_text()
    helpers.same_bits(long, undisturbed)


@pytest.mark.slow
@pytest.mark.train
def test_deleted(collection: Any, long: Any, folder: Path, pbspro: Any, helpers: Any) -> None:
    pbspro.set(kill_delay_s=30)
    executor = PbsExecutor(folder)
    executor.update_parameters(timeout_min=10)
    job = submit_with(collection, executor, [long])[long.id]
    helpers.until(lambda: collection.status([long])[0].progress.get("epoch"))
    job.cancel()  # TERM, and KILL after a while
    pbspro.wait(job.accepted.job)
    ended = helpers.incarnation(long, 1, 0).exit
    assert (ended.code, ended.reason) == (75, "checkpointed")
