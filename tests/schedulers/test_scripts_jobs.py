"""The scripts of jobs, run by bash in a pretended allocation; fake tasks claim and record for real."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from lfadsrm_hpc.layout import CollectionLayout, run_key
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.fold import RunStatus
from lfadsrm_hpc.manifest.records import Identity
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.manifest.submissions import Plan, PlannedChunk, PlannedTask, write_plan
from lfadsrm_hpc.schedulers.resources import JobRequest
from lfadsrm_hpc.schedulers.scripts import render_chunk
from lfadsrm_hpc.schedulers.sites.loading import load_site

ROOT = Path(__file__).resolve().parents[2]
FAKE_TASK = Path(__file__).parent / "fakes" / "fake_job_task.py"
ULID = "01J9ZK3V5Q8N7M2C4B6A1D0E9F"
BASH = os.environ.get("LFADSRM_TEST_BASH", "bash")
NASTY = ["it's $(touch pwned)", 'a "b" `c` \\d', "x; y & z #1"]


def wait_until(true: Callable[[], Any], seconds: float = 90.0) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := true():
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited {seconds} s in vain")


class Allocation:
    """A submission on disk, and what a scheduler gives to the scripts that it starts."""

    def __init__(self, folder: Path) -> None:
        self.layout = CollectionLayout(folder / "my-collection")
        self.submission = self.layout.submission(ULID)
        self.fake = folder / "fake"
        (self.fake / "bin").mkdir(parents=True)
        (self.fake / "plan.json").write_text("{}")
        self.started: list[subprocess.Popen[bytes]] = []
        kept = ("PATH", "HOME", "LANG", "TMPDIR")
        self.env = {name: os.environ[name] for name in kept if name in os.environ}
        self.env |= {"PYTHONPATH": str(ROOT), "FAKE_DIR": str(self.fake)}
        self.env["PATH"] = f"{self.fake / 'bin'}:{self.env['PATH']}"

    def submit(
        self,
        *specs: str,
        site: str = "generic-slurm",
        sets: Sequence[str] = (),
        walltime_s: int = 3600,
        plan: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
        search: Sequence[Path] = (),
        **request: Any,
    ) -> list[str]:
        """Reserve runs and write their scripts; return the ids of the runs."""
        described = load_site(site, sets=("filesystem.latency_s=0", *sets)).site
        ids, tasks = [], []
        pack = described.packing.runs
        for number, spec in enumerate(specs):
            run = self.layout.run("abc", spec)
            run.path.mkdir(parents=True)
            run.params_json.write_text("{}")
            tasks.append(PlannedTask(0, number // pack, run.run_id, store.reserve(run, ULID)))
            ids.append(run.run_id)
        size = -(-len(specs) // pack)
        chunk = PlannedChunk(0, "lfTESTTESTTE0", size if size > 1 else 0)
        planned = Plan(ULID, described.scheduler, described.name, cluster="hpc", chunks=(chunk,))
        scripts = render_chunk(
            self.layout,
            self.submission,
            planned,
            chunk,
            tasks,
            described,
            JobRequest(walltime_s, **request),
            titles={},
            gpu_memory_mb={},
            task_command=(sys.executable, str(FAKE_TASK)),
            search=search,
        )
        # Lines before and after ours: others' tasks, and another chunk with the same index.
        others = [PlannedTask(1, task.index, "param_abc/other", 9) for task in tasks]
        write_plan(self.submission, planned, [*others, *tasks], scripts)
        if plan:
            (self.fake / "plan.json").write_text(json.dumps({f"param_abc/{k}": v for k, v in plan.items()}))
        return ids

    def start(
        self, index: int | None = None, *, scheduler: str = "slurm", **environment: str
    ) -> subprocess.Popen[bytes]:
        """Start the script as a scheduler does; what it prints goes to its output file."""
        env = {**self.env, **in_job(scheduler, index), **environment}
        home = self.fake / "home"  # PBS starts jobs there
        home.mkdir(exist_ok=True)
        with self.output(index).open("ab") as output:
            job = subprocess.Popen(
                [BASH, str(self.submission.script(0))],
                env=env,
                cwd=home,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.started.append(job)
        return job

    def run(self, index: int | None = None, **more: str) -> int:
        return self.start(index, **more).wait(120)

    def output(self, index: int | None = None) -> Path:
        name = "41.txt" if index is None else f"41_{index}.txt"
        return self.submission.output_dir / name

    def said(self, run_id: str) -> str:
        log = self.layout.run_by_id(run_id).attempt(1).log
        return log.read_text() if log.exists() else ""

    def status(self, run_id: str) -> RunStatus:
        return store.run_status(self.layout.run_by_id(run_id))

    def events(self, *kinds: str) -> list[dict[str, Any]]:
        path = self.fake / "events"
        lines = path.read_text().splitlines() if path.exists() else []
        return [event for line in lines if (event := json.loads(line))["event"] in kinds]

    def wait_for(self, kind: str, number: int = 1) -> list[dict[str, Any]]:
        wait_until(lambda: len(self.events(kind)) >= number)
        return self.events(kind)

    def ends(self, run_id: str) -> list[tuple[int, str, int | None]]:
        """Return code, reason and signal of each incarnation of the attempt."""
        attempt = store.read_facts(self.layout.run_by_id(run_id)).attempts[0]
        return [(i.exit.code, i.exit.reason, i.exit.signal) for i in attempt.incarnations if i.exit]

    def clean_up(self) -> None:
        for job in self.started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(job.pid, signal.SIGKILL)  # each began a session of its own
            job.wait()


def in_job(scheduler: str, index: int | None) -> dict[str, str]:
    if scheduler == "slurm":
        if index is None:
            return {"SLURM_JOB_ID": "41", "SLURM_ARRAY_TASK_ID": "7"}  # left over from another job
        return {
            "SLURM_ARRAY_JOB_ID": "41",
            "SLURM_JOB_ID": str(42 + index),
            "SLURM_ARRAY_TASK_ID": str(index),
        }
    if index is None:
        return {"PBS_JOBID": "41.server"}
    if scheduler == "torque":
        return {"PBS_JOBID": f"41[{index}].server", "PBS_ARRAYID": str(index)}
    return {
        "PBS_JOBID": f"41[{index}].server",
        "PBS_ARRAY_ID": "41[].server",
        "PBS_ARRAY_INDEX": str(index),
    }


@pytest.fixture
def allocation(tmp_path: Path) -> Iterator[Allocation]:
    made = Allocation(tmp_path)
    yield made
    made.clean_up()


# -- which run, and where what it prints goes


def test_each_task_does_its_run_and_logs_beside_its_attempt(allocation: Allocation) -> None:
    ids = allocation.submit(*NASTY)
    for index in (2, 0, 1):
        assert allocation.run(index) == 0
    assert [event["run"] for event in allocation.events("start")] == [ids[2], ids[0], ids[1]]
    for index, run_id in enumerate(ids):
        status = allocation.status(run_id)
        assert status.state is RunState.COMPLETED
        assert status.claim is not None
        assert status.claim.identity == Identity("hpc", "41", str(index), ULID)
        assert f"a line of the log of {run_id}" in allocation.said(run_id)
        assert not allocation.output(index).exists(), "an empty output file is removed"
    assert not list(allocation.fake.rglob("pwned"))
    assert not list(allocation.layout.path.rglob("pwned"))


@pytest.mark.parametrize("blanks", ["my lab's $HOME", "100% (ü)"])
def test_folders_with_any_names(tmp_path: Path, blanks: str) -> None:
    (tmp_path / blanks).mkdir()
    allocation = Allocation(tmp_path / blanks)
    ids = allocation.submit("a", "b")
    assert allocation.run(1) == 0
    assert allocation.status(ids[1]).state is RunState.COMPLETED


def test_one_run_is_a_plain_job(allocation: Allocation) -> None:
    [run_id] = allocation.submit("a")
    assert allocation.run() == 0
    status = allocation.status(run_id)
    assert status.claim is not None
    assert status.claim.identity == Identity("hpc", "41", "0", ULID)
    assert not allocation.output().exists()


@pytest.mark.parametrize(
    ("scheduler", "site", "index", "job"),
    [
        ("pbspro", "generic-pbspro", 1, "41[].server"),
        ("pbspro", "generic-pbspro", None, "41.server"),
        ("torque", "generic-torque", 1, "41[].server"),
        ("torque", "generic-torque", None, "41.server"),
    ],
)
def test_pbs_and_torque(
    allocation: Allocation, scheduler: str, site: str, index: int | None, job: str
) -> None:
    ids = allocation.submit(*("ab" if index else "a"), site=site)
    assert allocation.run(index, scheduler=scheduler) == 0
    status = allocation.status(ids[index or 0])
    assert status.state is RunState.COMPLETED
    assert status.claim is not None
    assert status.claim.identity == Identity("hpc", job, str(index or 0), ULID)
    [start] = allocation.events("start")
    assert start["cwd"] == str(allocation.layout.path)


def test_pbs_sub_job_that_is_not_told_its_array(allocation: Allocation) -> None:
    ids = allocation.submit("a", "b", site="generic-pbspro")
    assert allocation.run(1, scheduler="pbspro", PBS_ARRAY_ID="") == 0
    claim = allocation.status(ids[1]).claim
    assert claim is not None
    assert claim.identity.job == "41[].server"


def test_task_without_a_line_or_a_folder_cannot_start(allocation: Allocation) -> None:
    allocation.submit("a", "b", sets=("filesystem.latency_s=0",))
    script = allocation.submission.script(0)
    script.write_text(script.read_text().replace("lf_tries >= 5", "lf_tries >= 0"))
    assert allocation.run(2) == 3
    assert "task 2 of chunk 0 is not there" in allocation.output(2).read_text()
    assert not allocation.events("start")


def test_it_waits_for_what_its_machine_cannot_see_yet(allocation: Allocation) -> None:
    ids = allocation.submit("a", "b")
    hidden = allocation.submission.tasks.rename(allocation.fake / "tasks.tsv")
    job = allocation.start(1)
    time.sleep(0.3)
    assert job.poll() is None
    hidden.rename(allocation.submission.tasks)
    assert job.wait(120) == 0
    assert allocation.status(ids[1]).state is RunState.COMPLETED


def test_by_hand_it_says_what_it_is_for(allocation: Allocation) -> None:
    allocation.submit("a")
    done = subprocess.run(
        [BASH, str(allocation.submission.script(0))],
        env=allocation.env,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 3
    assert "sbatch script-0.sh" in done.stderr


# -- environment


def test_environment_of_a_task(allocation: Allocation) -> None:
    (allocation.fake / "bin" / "module").write_text('#!/bin/sh\necho "module $*"\n')
    (allocation.fake / "bin" / "module").chmod(0o755)
    [run_id] = allocation.submit(
        "a",
        sets=(
            'environment.keep=["LFADSRM_KEPT"]',
            'environment.setup=["export SHOW_SETUP=\\"a b\\"", "set -eu"]',
            'environment.modules=["cuda/12"]',
            "environment.activation=export SHOW_ACTIVE=1",
            'environment.variables={ SHOW_QUOTED = "it\'s $HOME" }',
        ),
        cpus=3,
        gpus=1,
    )
    began = time.time()
    assert (
        allocation.run(
            SLURM_CPUS_PER_TASK="6",
            CUDA_VISIBLE_DEVICES="1",
            LFADSRM_KEPT="yes",
            LFADSRM_COLLECTION="elsewhere",
            LFADSRM_DEADLINE="1",
        )
        == 0
    )
    [start] = allocation.events("start")
    found = start["environment"]
    assert began + 3290 < float(found.pop("LFADSRM_DEADLINE")) < time.time() + 3301
    assert found == {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": "1",
        "HDF5_USE_FILE_LOCKING": "FALSE",
        "LFADSRM_CLUSTER": "hpc",
        "LFADSRM_JOB": "41",
        "LFADSRM_KEPT": "yes",
        "LFADSRM_THREADS": "6",
        "OMP_NUM_THREADS": "6",
        "TF_NUM_INTEROP_THREADS": "6",
        "TF_NUM_INTRAOP_THREADS": "6",
        "SHOW_SETUP": "a b",
        "SHOW_ACTIVE": "1",
        "SHOW_QUOTED": "it's $HOME",
    }
    assert "module load cuda/12" in allocation.said(run_id)


def test_no_gpu_is_seen_where_none_was_asked_for(allocation: Allocation) -> None:
    allocation.submit("a", cpus=3)
    assert allocation.run() == 0
    [start] = allocation.events("start")
    assert start["environment"]["CUDA_VISIBLE_DEVICES"] == ""
    assert start["environment"]["LFADSRM_THREADS"] == "3"


@pytest.mark.parametrize(
    ("said", "listed", "seen"),
    [(None, "n7-gpu1\nn7-gpu3\n", "1,3"), ("2", "n7-gpu1\n", "2"), (None, "\n", None), (None, None, None)],
)
def test_gpus_that_torque_only_lists(
    allocation: Allocation, said: str | None, listed: str | None, seen: str | None
) -> None:
    allocation.submit("a", site="generic-torque", gpus=2)
    more = {} if said is None else {"CUDA_VISIBLE_DEVICES": said}
    if listed is not None:
        (allocation.fake / "gpus").write_text(listed)
        more["PBS_GPUFILE"] = str(allocation.fake / "gpus")
    assert allocation.run(scheduler="torque", **more) == 0
    [start] = allocation.events("start")
    assert start["environment"].get("CUDA_VISIBLE_DEVICES") == seen


def test_line_of_the_environment_that_fails_stops_the_script(allocation: Allocation) -> None:
    [run_id] = allocation.submit("a", sets=('environment.setup=["true", "(exit 9)", "touch never"]',))
    assert allocation.run() == 3
    assert "this line of the environment ended with status 9: (exit 9)" in allocation.said(run_id)
    assert not allocation.events("start")
    status = allocation.status(run_id)
    assert (status.state, status.closed, status.submission) == (RunState.FAILED, True, ULID)
    assert status.message == "this line of the environment ended with status 9: (exit 9)"


def test_what_python_could_not_even_take_is_put_on_record(allocation: Allocation) -> None:
    """Schedulers forget within minutes that a job failed; where it never took its run, nobody else knows."""
    first, second = allocation.submit("a", "b", plan={})
    script = allocation.submission.script(0)
    broken = "sh -c 'echo \"no é \\\\ here\" >&2; exit 2' "
    script.write_text(script.read_text().replace("lf_command=(", f"lf_command=({broken}"))
    assert allocation.run(0) == 2
    assert allocation.status(first).state is RunState.FAILED
    assert allocation.status(first).message == "the task ended with status 2 before it took the run"
    assert allocation.status(second).state is RunState.SUBMITTED, "its task has not been started"
    closed = allocation.layout.run_by_id(first).attempt(1).closed
    assert [path.name for path in closed.parent.glob(".*")] == []


@pytest.mark.parametrize("line", ['false "\\\\ a\\"b"', "false é"])
def test_what_is_put_on_record_can_be_read(allocation: Allocation, line: str) -> None:
    [run_id] = allocation.submit("a", sets=(f"environment.setup=['{line}']",))
    assert allocation.run() == 3
    status = allocation.status(run_id)
    assert status.message.startswith("this line of the environment ended with status 1: false ")
    assert status.message.isascii()


def test_packed_runs_whose_queue_cannot_begin_are_put_on_record(allocation: Allocation) -> None:
    ids = allocation.submit("a", "b", "c", sets=(*PACKED, 'environment.setup=["false"]'))
    assert allocation.run(0) == 3
    states = [allocation.status(run_id).state for run_id in ids]
    assert states == [RunState.FAILED, RunState.FAILED, RunState.SUBMITTED]


def test_program_that_is_not_there(allocation: Allocation) -> None:
    [run_id] = allocation.submit("a")
    script = allocation.submission.script(0)
    script.write_text(script.read_text().replace(sys.executable, "/no/such/python"))
    assert allocation.run() == 3
    assert "there is no program /no/such/python" in allocation.said(run_id)
    assert allocation.status(run_id).message == "there is no program /no/such/python here"


# -- how it ends


@pytest.mark.parametrize("code", [1, 65])
def test_exit_status_is_passed_on(allocation: Allocation, code: int) -> None:
    [run_id] = allocation.submit("a", plan={"a": [{"code": code}]})
    assert allocation.run() == code
    assert allocation.status(run_id).code == code


def test_run_of_another_task_is_left_alone_and_that_is_no_failure(allocation: Allocation) -> None:
    [run_id] = allocation.submit("a")
    run = allocation.layout.run_by_id(run_id)
    store.claim(run, 1, Identity("hpc", "40", "0", ULID))
    assert allocation.run() == 0
    assert not allocation.events("claimed")
    assert "nothing is left to do here" in allocation.said(run_id)
    assert allocation.ends(run_id) == []


@pytest.mark.parametrize(
    ("end", "status", "record"),
    [
        ({"kill": 9}, 137, (137, "killed", 9)),
        ({"kill": 11}, 139, (139, "killed", 11)),
        ({"kill": 6}, 134, (134, "killed", 6)),
        ({"code": 1, "record": False}, 1, (1, "failed", None)),
        ({"code": 0, "record": False}, 0, (1, "failed", None)),
        ({"code": 75, "record": False}, 75, (75, "checkpointed", None)),
    ],
)
def test_what_python_could_not_record_the_script_does(
    allocation: Allocation, end: dict[str, Any], status: int, record: tuple[int, str, int | None]
) -> None:
    [run_id] = allocation.submit("a", plan={"a": [end]})
    assert allocation.run() == status
    assert allocation.ends(run_id) == [record]
    [name] = allocation.layout.outbox_names()
    assert (name.key, name.attempt, name.incarnation, name.code) == (run_key(run_id), 1, 0, record[0])
    assert "is put on record" in allocation.said(run_id)


def test_death_before_the_claim_leaves_no_record(allocation: Allocation) -> None:
    [run_id] = allocation.submit("a", plan={"a": [{"late": 30}]})
    job = allocation.start()
    [start] = allocation.wait_for("start")
    os.kill(start["pid"], signal.SIGKILL)
    assert job.wait(120) == 137
    assert allocation.status(run_id).state is RunState.SUBMITTED
    assert allocation.layout.outbox_names() == []


@pytest.mark.parametrize(
    ("number", "site", "walltime_s", "reason"),
    [
        (signal.SIGTERM, (), 3600, "checkpointed"),
        (signal.SIGINT, (), 3600, "checkpointed"),
        (signal.SIGUSR2, (), 3600, "checkpointed"),
        (signal.SIGUSR2, (), 120, "timeout"),
        (signal.SIGUSR1, ("stopping.signal=USR1",), 120, "timeout"),
        (signal.SIGTERM, ("stopping.signal=TERM",), 120, "timeout"),
        (signal.SIGTERM, ("stopping.signal=TERM",), 3600, "checkpointed"),
    ],
)
def test_signals_reach_the_task(
    allocation: Allocation, number: signal.Signals, site: tuple[str, ...], walltime_s: int, reason: str
) -> None:
    [run_id] = allocation.submit("a", sets=site, walltime_s=walltime_s, plan={"a": [{"seconds": 60}]})
    job = allocation.start()
    allocation.wait_for("claimed")
    job.send_signal(number)
    assert job.wait(120) == 75
    [(code, why, _)] = allocation.ends(run_id)
    assert (code, why) == (75, reason)
    assert "the task is told to checkpoint and end" in allocation.said(run_id)


def test_signal_that_comes_before_python_can_catch_it(allocation: Allocation) -> None:
    [run_id] = allocation.submit("a", plan={"a": [{"late": 1.5, "seconds": 600}]})
    job = allocation.start()
    allocation.wait_for("start")
    job.send_signal(signal.SIGUSR2)
    assert job.wait(120) == 75
    assert allocation.ends(run_id) == [(75, "checkpointed", signal.SIGUSR2)]


def test_signal_to_all_processes_of_the_job(allocation: Allocation) -> None:
    """`scancel` and a preemption send TERM to every process, the script's helpers included."""
    [run_id] = allocation.submit("a", plan={"a": [{"late": 0.5, "seconds": 60}]})
    job = allocation.start()
    allocation.wait_for("start")
    os.killpg(job.pid, signal.SIGTERM)
    time.sleep(0.3)
    os.killpg(job.pid, signal.SIGTERM)
    assert job.wait(120) == 75
    assert allocation.ends(run_id) == [(75, "checkpointed", signal.SIGTERM)]
    assert "Terminated" not in allocation.said(run_id)


def test_signal_during_the_setup(allocation: Allocation) -> None:
    [run_id] = allocation.submit(
        "a", sets=('environment.setup=["touch $FAKE_DIR/setup; sleep 1"]',), plan={"a": [{"seconds": 60}]}
    )
    job = allocation.start()
    wait_until((allocation.fake / "setup").exists)
    job.send_signal(signal.SIGTERM)
    assert job.wait(120) == 75
    assert allocation.ends(run_id) == [(75, "checkpointed", signal.SIGTERM)]


def test_deadline_ends_it_without_any_signal(allocation: Allocation) -> None:
    [run_id] = allocation.submit(
        "a", sets=("stopping.signal=", "stopping.warning=5m"), walltime_s=4, plan={"a": [{"seconds": 60}]}
    )
    assert allocation.run() == 75  # after half of its 4 s
    assert allocation.ends(run_id) == [(75, "timeout", None)]
    assert allocation.status(run_id).state is RunState.TIMEOUT


def test_requeued_task_is_the_next_incarnation_with_the_same_log(allocation: Allocation) -> None:
    [run_id] = allocation.submit("a", plan={"a": [{"seconds": 60}, {"kill": 9}, {}]})
    job = allocation.start()
    allocation.wait_for("claimed")
    job.send_signal(signal.SIGTERM)
    assert job.wait(120) == 75
    assert allocation.run() == 137
    assert allocation.run(SLURM_RESTART_COUNT="2") == 0
    assert [code for code, _, _ in allocation.ends(run_id)] == [75, 137, 0]
    assert [event["incarnation"] for event in allocation.events("claimed")] == [0, 1, 2]
    assert allocation.said(run_id).count("a line of the log") == 3
    assert allocation.status(run_id).state is RunState.COMPLETED
    assert allocation.run() == 0, "complete: nothing is left to do"


# -- several runs in one allocation


PACKED = ("packing.runs=2", "queue.poll_s=0.05", "queue.look_s=0")


def test_packed_runs_share_their_allocation(allocation: Allocation) -> None:
    ids = allocation.submit(*NASTY, sets=(*PACKED, 'environment.keep=["LFADSRM_KEPT"]'), plan={}, cpus=4)
    assert allocation.run(1, SLURM_CPUS_PER_TASK="4") == 0
    assert [event["run"] for event in allocation.events("start")] == [ids[2]]
    assert allocation.run(0, SLURM_CPUS_PER_TASK="4", LFADSRM_KEPT="1", LFADSRM_OTHER="1") == 0
    for number, run_id in enumerate(ids):
        status = allocation.status(run_id)
        assert status.state is RunState.COMPLETED
        assert status.claim is not None
        assert status.claim.identity == Identity("hpc", "41", str(number // 2), ULID)
        assert "a line of the log" in allocation.said(run_id)
        assert not allocation.output(number // 2).exists()
    found = allocation.events("start")[1]["environment"]
    assert found["LFADSRM_THREADS"] == "2", "the cores of the allocation are shared"
    assert found["CUDA_VISIBLE_DEVICES"] == ""
    assert found["LFADSRM_KEPT"] == "1"
    assert "LFADSRM_OTHER" not in found
    assert "2 of 2 done" in (allocation.submission.output_dir / "0-0.log").read_text()
    assert not list(allocation.layout.state_dir.glob("local/*")), "nothing of other queues' is touched"


@pytest.mark.parametrize(
    ("number", "walltime_s", "reason"),
    [(signal.SIGTERM, 3600, "checkpointed"), (signal.SIGUSR2, 120, "timeout")],
)
def test_packed_runs_are_told_to_stop(
    allocation: Allocation, number: signal.Signals, walltime_s: int, reason: str
) -> None:
    starts = [{"seconds": 60, "late": 0.4}, {}]
    ids = allocation.submit(
        "a", "b", sets=PACKED, walltime_s=walltime_s, plan={"a": starts, "b": starts}, cpus=2
    )
    job = allocation.start(SLURM_CPUS_PER_TASK="2")
    allocation.wait_for("start", 2)
    job.send_signal(number)
    assert job.wait(120) == 75
    assert [allocation.ends(run_id) for run_id in ids] == [[(75, reason, number)]] * 2
    # Started again by the scheduler it goes on with the same attempts.
    assert allocation.run(SLURM_CPUS_PER_TASK="2") == 0
    assert [[code for code, _, _ in allocation.ends(run_id)] for run_id in ids] == [[75, 0]] * 2


def test_packed_runs_stop_at_the_deadline_and_no_other_starts(allocation: Allocation) -> None:
    ids = allocation.submit("a", "b", sets=PACKED, walltime_s=6, plan={"a": [{"seconds": 60}]}, cpus=1)
    assert allocation.run(SLURM_CPUS_PER_TASK="1") == 75
    assert allocation.ends(ids[0]) == [(75, "timeout", None)]
    assert allocation.status(ids[1]).state is RunState.SUBMITTED


def test_packed_runs_that_die_fail_or_are_anothers(allocation: Allocation) -> None:
    plan = {"a": [{"kill": 9}, {}], "b": [{"code": 1}], "d": [{"kill": 9}]}
    ids = allocation.submit("a", "b", "c", "d", sets=(*PACKED, "packing.runs=4"), plan=plan, cpus=4)
    store.claim(allocation.layout.run_by_id(ids[2]), 1, Identity("hpc", "40", "0", ULID))
    assert allocation.run(SLURM_CPUS_PER_TASK="4") == 5
    assert [code for code, _, _ in allocation.ends(ids[0])] == [137, 0]
    assert allocation.ends(ids[1]) == [(1, "failed", None)]
    assert allocation.ends(ids[2]) == []
    assert allocation.ends(ids[3]) == [(137, "killed", 9)] * 2
    # A requeue tries again what was killed, not what failed or is complete.
    began = len(allocation.events("claimed"))
    assert allocation.run(SLURM_CPUS_PER_TASK="4") == 5
    assert {event["run"] for event in allocation.events("claimed")[began:]} == {ids[3]}


def test_packed_runs_on_the_gpus_of_the_allocation(allocation: Allocation) -> None:
    """nvidia-smi is not there; the scheduler has named two GPUs."""
    allocation.submit(
        *"abc", sets=(*PACKED, "packing.runs=3"), plan={x: [{"seconds": 0.6}] for x in "abc"}, gpus=2, cpus=6
    )
    only = allocation.fake / "no-smi"
    only.mkdir()
    for folder in ("/usr/bin", "/bin"):
        for program in Path(folder).iterdir():
            if program.name != "nvidia-smi" and not (only / program.name).exists():
                (only / program.name).symlink_to(program)
    assert allocation.run(SLURM_CPUS_PER_TASK="6", CUDA_VISIBLE_DEVICES="2,5", PATH=str(only)) == 0
    starts = allocation.events("start")
    assert len(starts) == 3
    # They start at once, and tell of it in any order.
    given = {e["run"].rpartition("/")[2]: e["environment"]["CUDA_VISIBLE_DEVICES"] for e in starts}
    assert given == {"a": "2", "b": "5", "c": "2"}


def test_packed_runs_do_not_fall_back_to_cores(allocation: Allocation) -> None:
    allocation.submit("a", "b", sets=PACKED, gpus=1)
    assert allocation.run(CUDA_VISIBLE_DEVICES="") == 3
    assert "no GPU can be used" in (allocation.submission.output_dir / "0-0.log").read_text()
    assert not allocation.events("start")
