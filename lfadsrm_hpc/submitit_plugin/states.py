"""States of jobs for submitit, by this package's own reading of schedulers.

submitit takes every word for an end that is not on its list of beginnings (suspended, configuring, a word of
a newer version). Here a job has ended only if its state is on the list of ends.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping

from submitit.core.core import InfoWatcher

from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.schedulers.batch import PLAIN, BatchScheduler, Job

ENDS = frozenset(
    {
        RunState.COMPLETED,
        RunState.FAILED,
        RunState.TIMEOUT,
        RunState.OUT_OF_MEMORY,
        RunState.NODE_FAIL,
        RunState.CANCELLED,
        RunState.LOST,
    }
)
"""The states in which a job has ended. (PREEMPTED is none: it may be put back into the queue.)"""

_ABSENT_S = 60.0  # so old must a job be before its absence means that it is gone


class SchedulerWatcher(InfoWatcher):
    """Tells the states of all jobs of one kind by one query together, through a `BatchScheduler`.

    The state of a job is the word of a `RunState`. A job that a whole answer of the scheduler does not name,
    a minute after it was first asked for, is LOST: it has ended, and nobody knows how.
    """

    def __init__(self, delay_s: int = 60) -> None:
        super().__init__(delay_s)
        self.names: dict[str, str] = {}  # of jobs in the scheduler, by its id, where they are known
        self._first: dict[str, float] = {}  # when a job was first heard of, seconds since 1970

    @abstractmethod
    def scheduler(self) -> BatchScheduler:
        """Return whom to ask."""

    @abstractmethod
    def job_of(self, job_id: str) -> tuple[str, int]:
        """Return the scheduler's id and the index (`PLAIN`: no array) of a job's id in submitit."""

    def register_job(self, job_id: str) -> None:
        self._first.setdefault(job_id, time.time())
        super().register_job(job_id)

    def get_state(self, job_id: str, mode: str = "standard") -> str:
        """Return the word of a `RunState`; UNKNOWN: nothing is known yet."""
        return str(self.get_info(job_id, mode=mode).get("State") or RunState.UNKNOWN)

    def is_done(self, job_id: str, mode: str = "standard") -> bool:
        """Return whether a job has certainly ended."""
        return self.get_state(job_id, mode=mode) in ENDS

    def update(self) -> None:
        """Ask the scheduler for all jobs that have not ended."""
        waiting = sorted(self._registered - self._finished)
        if waiting:
            self._num_calls += 1
            self._info_dict.update(self._look(waiting))
            self._finished.update(job_id for job_id in waiting if self.is_done(job_id, mode="cache"))
        self._last_status_check = time.time()

    def _look(self, job_ids: list[str]) -> Mapping[str, dict[str, str]]:
        places = {job_id: self.job_of(job_id) for job_id in job_ids}
        sizes: dict[str, int] = {}
        for job, index in places.values():
            sizes[job] = max(sizes.get(job, 0), 0 if index == PLAIN else index + 1)
        since = min(self._first.get(job_id, 0.0) for job_id in job_ids)
        report = self.scheduler().look(
            [Job(job, self.names.get(job, ""), size, since) for job, size in sizes.items()]
        )
        whole = report.live_ok and report.history_ok is not False
        found: dict[str, dict[str, str]] = {}
        for job_id, place in places.items():
            seen = report.tasks.get(place)
            if seen is not None:
                found[job_id] = {"JobID": job_id, "State": seen.state.value, "Reason": seen.reason}
            elif whole and time.time() - self._first.get(job_id, 0.0) > _ABSENT_S:
                found[job_id] = {"JobID": job_id, "State": RunState.LOST.value, "Reason": "not in the queue"}
        return found
