"""A synthetic collection of thousands of runs in all states, with files as the package itself writes them.

Nothing is trained: sessions are tiny, and attempts are reserved, claimed, ended and closed through
`lfadsrm_hpc.manifest`. Flushing to disk is left out, and folders are dated back, as if all of it had happened
over the last days. Running runs have beaten a moment ago.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

AGE_S = 3600.0
HOSTS = [f"node{n:03d}" for n in range(40)]

# how many of 10,000 runs: (what happened to the run, in words of `Story`)
MIX = {
    "completed": 4300,
    "completed here": 700,
    "failed, then completed": 350,
    "timeout, then completed": 250,
    "failed": 200,
    "bad data": 20,
    "killed": 30,
    "out of memory": 60,
    "node fail": 20,
    "lost": 40,
    "timeout": 30,
    "cancelled": 100,
    "running": 400,
    "requeued, running": 20,
    "waiting": 1980,
    "never": 1500,
}


@dataclass
class Built:
    """What was built.

    Attributes
    ----------
    path : Path
        The run collection.
    running : list of (run id, attempt, incarnation)
    jobs : dict of str to list
        By job id, the live tasks of the scheduler: (index, "RUNNING" or "PENDING", host).
    names : dict of str to str
        By job id, the job's name.
    """

    path: Path
    running: list[tuple[str, int, int]] = field(default_factory=list)
    jobs: dict[str, list[tuple[int, str, str]]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    def beat(self) -> None:
        """Let the running runs beat once more."""
        from lfadsrm_hpc.layout import CollectionLayout
        from lfadsrm_hpc.manifest import store

        layout = CollectionLayout(self.path)
        with quickly():
            for run_id, attempt, incarnation in self.running:
                run = layout.run_by_id(run_id)
                claim = store.read_claim(run.attempt(attempt), incarnation)
                assert claim is not None
                store.heartbeat(run, claim, **_progress(random.Random(run_id)))


@contextmanager
def quickly() -> Iterator[None]:
    """Flush nothing to disk meanwhile."""
    with mock.patch.object(os, "fsync", return_value=None):
        yield


def prepare(folder: Path, n_specs: int, n_params: int) -> Any:
    """Prepare a collection of `n_specs` single sessions x `n_params` params in all truth."""
    import numpy as np

    from lfadsrm_hpc.api import RunCollection
    from lfadsrm_hpc.collection.params import RunParams
    from lfadsrm_hpc.collection.run_spec import RunSpec
    from lfadsrm_hpc.data.dataset import Dataset
    from lfadsrm_hpc.data.dataset_collection import DatasetCollection

    source = folder / "datasets"
    source.mkdir(parents=True)
    for day in range(n_specs):
        spikes = np.random.default_rng(day).poisson(0.5, (40, 20, 5))
        np.savez(source / f"day{day:03d}.npz", spikes=spikes, bin_ms=10.0, condition=np.arange(40) % 4)
    sessions = DatasetCollection(source)
    for path in sorted(source.iterdir()):
        Dataset(sessions, path.name)
    collection = RunCollection(folder / "runs", "scale", sessions, "for measuring")
    dims, keeps = ([2, 4, 6, 8, 10], [0.9, 0.95]) if n_params % 10 == 0 else ([8], [0.95])
    collection.add_params(
        RunParams(spike_bin_ms=10, co_dim=0, batch_size=8).generate_sweep(
            "factors_dim", dims, "keep_prob", keeps, "seed", range(n_params // len(dims) // len(keeps))
        )
    )
    collection.add_run_spec([RunSpec(one.single_run_name, sessions, [one.name]) for one in sessions])
    with quickly():
        collection.prepare_for_lfads(warn=False)
    return collection


def live_through(collection: Any, *, settings: dict[str, Any], site: str, n_submissions: int = 6) -> Built:
    """Let everything happen to the runs of a prepared collection.

    Parameters
    ----------
    settings : dict
        The site, as a plan keeps it.
    n_submissions : int
        So many are handed to the scheduler; retries are a submission of their own.
    """
    built = Built(collection.path)
    with quickly():
        _History(collection, built, settings, site).tell(n_submissions)
    _date_back(collection, {run_id for run_id, _, _ in built.running})
    return built


class _History:
    """Makes the facts, submission after submission."""

    def __init__(self, collection: Any, built: Built, settings: dict[str, Any], site: str) -> None:
        self.layout, self.built, self.settings, self.site = collection.layout, built, settings, site
        runs = [run.layout for run in collection.runs]
        random.Random(1).shuffle(runs)
        self.stories: dict[str, list[Any]] = {}
        total, begin = sum(MIX.values()), 0
        for story, share in MIX.items():
            end = begin + max(1, round(share * len(runs) / total))
            self.stories[story], begin = runs[begin:end], end
        self.stories["never"] += runs[begin:]
        self.next_job = 4_210_000

    def tell(self, n_submissions: int) -> None:
        from lfadsrm_hpc.manifest import store

        first, later = [], []
        for story, runs in self.stories.items():
            if story not in ("completed here", "never"):
                (later if story in ("waiting", "running", "requeued, running") else first).extend(
                    (story, run) for run in runs
                )
        size = -(-len(first) // max(1, n_submissions - 2))
        for begin in range(0, len(first), size):
            self._submit(first[begin : begin + size])
        half = len(later) // 2
        self._submit(later[:half], running=True)
        self._submit(later[half:])
        again = [
            (story.split(", then ")[1], run)
            for story, runs in self.stories.items()
            if ", then " in story
            for run in runs
        ]
        self._submit(again)
        for number, run in enumerate(self.stories["completed here"]):
            claim = store.take_local(run, _local(number))
            store.heartbeat(run, claim, **_progress(random.Random(number)))
            self._end(run, claim, 0, "done")
        store.cancel(self.layout, self.stories["cancelled"])

    def _submit(self, work: Sequence[tuple[str, Any]], running: bool = False, chunk_size: int = 1000) -> None:
        """Plan a submission, hand it over, and let its tasks do what their stories say."""
        from lfadsrm_hpc.manifest import store, submissions
        from lfadsrm_hpc.manifest.process import Process
        from lfadsrm_hpc.manifest.records import new_ulid
        from lfadsrm_hpc.schedulers.batch import job_name

        if not work:
            return
        ulid = new_ulid()
        layout = self.layout.submission(ulid)
        rows, chunks, jobs = [], [], []
        for number, begin in enumerate(range(0, len(work), chunk_size)):
            part = work[begin : begin + chunk_size]
            request = {"walltime_s": 14400, "partition": "gpu", "gpus": 1, "cpus": 4, "memory_mb": 16000}
            chunks.append(
                submissions.PlannedChunk(number, job_name(ulid, number), len(part), request, max_parallel=200)
            )
            jobs.append(str(self.next_job))
            self.built.names[jobs[-1]] = chunks[-1].name
            self.next_job += 1
            for index, (_, run) in enumerate(part):
                rows.append(submissions.PlannedTask(number, index, run.run_id, store.reserve(run, ulid)))
        plan = submissions.Plan(
            ulid, "slurm", self.site, "", time.time(), "somebody", "0", self.settings, tuple(chunks),
            Process.current(),
        )  # fmt: skip
        submissions.write_plan(layout, plan, rows, {f"script-{c.number}.sh": "#!/bin/bash\n" for c in chunks})
        for chunk, job in zip(chunks, jobs, strict=True):
            submissions.begin_sending(layout, chunk.number, 1)
            answer = submissions.Receipt(job, time.time(), output=f"Submitted batch job {job}")
            submissions.record_receipt(layout, chunk.number, answer)
        for (story, run), row in zip(work, rows, strict=True):
            self._happen(story.split(", then ")[0], run, row, jobs[row.chunk], ulid)

    def _happen(self, story: str, run: Any, row: Any, job: str, ulid: str) -> None:
        from lfadsrm_hpc.manifest import store

        host = HOSTS[hash((job, row.index)) % len(HOSTS)]
        if story == "waiting":
            self.built.jobs.setdefault(job, []).append((row.index, "PENDING", ""))
            return
        for last in (False, True) if story == "requeued, running" else (True,):
            with _on(host):
                claim = store.claim(run, row.attempt, _identity(self.site, job, row.index, ulid))
            store.heartbeat(run, claim, **_progress(random.Random(run.run_id)))
            run.attempt(row.attempt).log.write_text(f"{run.run_id}\n" * 20)
            if not last:
                self._end(run, claim, 75, "checkpointed")
        if story.endswith("running"):
            self.built.jobs.setdefault(job, []).append((row.index, "RUNNING", host))
            self.built.running.append((run.run_id, claim.attempt, claim.incarnation))
            return
        code, reason, closed = _ENDS[story]
        if reason:
            message = "" if code == 0 else f"the run ended: {story}\nmore of it"
            self._end(run, claim, code, reason, message)
        if closed:
            store.close(run, row.attempt, closed, submission=ulid)

    def _end(self, run: Any, claim: Any, code: int, reason: str, message: str = "") -> None:
        from lfadsrm_hpc.manifest import store
        from lfadsrm_hpc.manifest.records import Exit

        if reason == "killed":  # the script wrote the record when Python had died
            store.publish_exit(run, claim, Exit(code, reason, signal=code - 128, writer="shell"))
        else:
            store.publish_exit(run, claim, Exit(code, reason, message=message, peak_memory_mb=2900.5))


# story -> exit code and reason of its record ("": none), and the reason by which its attempt was closed
_ENDS = {
    "completed": (0, "done", ""),
    "failed": (1, "failed", ""),
    "bad data": (65, "bad_data", ""),
    "killed": (137, "killed", ""),
    "timeout": (75, "timeout", ""),
    "out of memory": (0, "", "out_of_memory"),
    "node fail": (0, "", "node_fail"),
    "lost": (0, "", "lost"),
    "cancelled": (75, "checkpointed", ""),
}


def _identity(cluster: str, job: str, index: int, ulid: str) -> Any:
    from lfadsrm_hpc.manifest.records import Identity

    return Identity(cluster, job, str(index), ulid)


def _local(number: int) -> Any:
    from lfadsrm_hpc.manifest.records import Identity

    return Identity.local("", number)


@contextmanager
def _on(host: str) -> Iterator[None]:
    """Be a process of another machine meanwhile."""
    from lfadsrm_hpc.manifest.process import Process

    there = Process(host, f"boot of {host}", "pid:[4026531836]", random.randrange(1000, 60000), 123456)
    with mock.patch.object(Process, "current", return_value=there):
        yield


def _progress(rng: random.Random) -> dict[str, Any]:
    epoch = rng.randrange(20, 480)
    costs = {
        f"{part}_{cost}": round(4000 * 0.999**epoch + rng.random(), 4)
        for part in ("train", "valid")
        for cost in ("total", "recon", "kl", "l2")
    }
    place = {"phase": "training", "epoch": epoch, "step": epoch * 32, "max_epochs": 500}
    return {**place, **costs, "learning_rate": 0.0098, "eta_s": 9000 * rng.random()}


def _date_back(collection: Any, running: set[str]) -> None:
    """Let all folders but those of running runs look as if nothing had happened in them for an hour."""
    then = time.time() - AGE_S
    for run in collection.runs:
        if run.id not in running:
            for attempt in run.layout.attempts():
                _walk_back(attempt.path, then)
            if run.layout.attempts_dir.is_dir():
                os.utime(run.layout.attempts_dir, (then, then))
    for submission in collection.layout.submissions():
        _walk_back(submission.path, then)


def _walk_back(folder: Path, then: float) -> None:
    for path in [*folder.iterdir(), folder]:
        os.utime(path, (then, then))


def count_files(folder: Path, keep: Callable[[Path], bool] = lambda path: True) -> int:
    """Return how many files (not folders) lie below a folder."""
    return sum(1 for path in folder.rglob("*") if path.is_file() and keep(path))
