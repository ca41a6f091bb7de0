"""`RunCollection.submit` is killed (-9) before every system call that changes a file; the next one goes on.

`tests/manifest/test_kill_submission.py` does the same with the manifest's own functions; here the order of
the steps is that of the package's door.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
import signal
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from disk_readers import read_submissions

from lfadsrm_hpc.api import Run, RunCollection
from lfadsrm_hpc.errors import NothingEligibleError
from lfadsrm_hpc.manifest.evidence import Seen
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.schedulers.batch import Accepted, BatchScheduler, Found, Job, Report

_file = Path(__file__).resolve().parents[1] / "manifest" / "killing.py"
_spec = importlib.util.spec_from_file_location("killing", _file)
assert _spec is not None
assert _spec.loader is not None
killing = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(killing)

WAITS = Seen(RunState.PENDING, "PENDING")


class OnDisk(BatchScheduler):
    """A scheduler whose jobs are files, so that they outlive the process that handed them over."""

    name = "on disk"

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        folder.mkdir()

    @property
    def jobs(self) -> dict[str, str]:
        """The names of the jobs that it took, by id."""
        return {path.stem: path.suffix[1:] for path in self.folder.iterdir()}

    def submit(self, script: Path) -> Accepted:
        mark = "#SBATCH --job-name="
        (line,) = [line for line in script.read_text().splitlines() if line.startswith(mark)]
        job = os.urandom(4).hex()
        os.close(os.open(self.folder / f"{job}.{line.removeprefix(mark)}", os.O_WRONLY | os.O_CREAT))
        return Accepted(job)

    def look(self, jobs: Sequence[Job]) -> Report:
        here = [job for job in jobs if job.id in self.jobs]
        return Report({(job.id, index): WAITS for job in here for index in job.indices}, live_ok=True)

    def find(self, names: Sequence[str], since: float) -> list[Found]:
        return [Found(job, name) for job, name in self.jobs.items() if name in names]

    def cancel(self, job: Job, indices: Sequence[int] | None = None) -> None:
        raise NotImplementedError

    def throttle(self, job: Job, most: int) -> None:
        raise NotImplementedError

    def version(self) -> str:
        return "on disk 1"


def status_of(work: Callable[[], object]) -> int:
    """Do something in a child process; return its wait status."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    return os.waitpid(pid, 0)[1]


def submit(rc: RunCollection) -> None:
    """Hand two runs over as two jobs."""
    rc.submit(chosen(rc), site="hill", walltime="1h", sets=["limits.array_tasks=1"])


def chosen(rc: RunCollection) -> list[Run]:
    return rc.runs[:2]


def check(rc: RunCollection, scheduler: OnDisk) -> None:
    """Every run is in exactly one job that the scheduler took, under the attempt that it now has."""
    handed = Counter(
        (task.run_id, task.attempt)
        for one in read_submissions(rc.layout, 0.0)
        for chunk in one.chunks
        for task in one.tasks
        if task.chunk == chunk.chunk.number and chunk.chunk.name in scheduler.jobs.values()
    )
    statuses = rc.status(chosen(rc))
    assert handed == Counter((status.run_id, status.attempt) for status in statuses)
    assert [status.state for status in statuses] == [RunState.PENDING] * 2
    assert len(scheduler.jobs) == len(set(scheduler.jobs.values())) == 2


@pytest.mark.slow
@pytest.mark.parametrize(("links", "half"), [(True, False), (False, True)], ids=["links", "no links"])
def test_every_write_point(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool, half: bool
) -> None:
    import fake_cluster

    monkeypatch.setattr(os, "fsync", lambda handle: None)
    monkeypatch.delenv("LFADSRM_SITE", raising=False)
    monkeypatch.delenv("LFADSRM_SITE_PATH", raising=False)
    left = Counter[int]()
    for number in itertools.count(1):
        place = tmp_path / str(number)
        shutil.copytree(project, place)
        scheduler = OnDisk(place / "scheduler")
        monkeypatch.setattr("lfadsrm_hpc.schedulers.known.make_scheduler", lambda site, made=scheduler: made)
        rc = RunCollection.open(place / "runs/small")

        def killed(rc: RunCollection = rc, number: int = number) -> None:
            killing.kill_before(number, links=links, half=half)
            submit(rc)

        status = status_of(killed)
        assert status in (0, signal.SIGKILL)
        left[len(scheduler.jobs)] += 1
        # Long after: what no links left empty is void, and calls of the scheduler are over.
        fake_cluster.age_submissions(rc.layout, 1000)
        for run in chosen(rc):
            fake_cluster.age_run(rc.layout, run.id, 1000)
        if status == signal.SIGKILL:
            try:
                submit(rc)
            except NothingEligibleError:  # all were handed over before the kill
                assert len(scheduler.jobs) == 2
        check(rc, scheduler)
        shutil.rmtree(place)
        if status == 0:
            break
    assert number > 60
    assert set(left) == {0, 1, 2}, "killed before, between and after the calls of the scheduler"
