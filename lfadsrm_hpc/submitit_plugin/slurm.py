"""Jobs of Slurm that submitit handed over, with their states read by this package."""

from __future__ import annotations

from submitit.core import core
from submitit.slurm.slurm import SlurmJob

from lfadsrm_hpc.schedulers.batch import PLAIN, BatchScheduler
from lfadsrm_hpc.submitit_plugin.states import SchedulerWatcher


class SlurmRunWatcher(SchedulerWatcher):
    """Asks squeue, and sacct where there is one, for all jobs together."""

    def scheduler(self) -> BatchScheduler:
        from lfadsrm_hpc.schedulers.slurm.client import Slurm

        return Slurm()

    def job_of(self, job_id: str) -> tuple[str, int]:
        number, _, index = job_id.partition("_")
        return number, int(index) if index else PLAIN


class SlurmRunJob(SlurmJob[core.R]):
    """A job of Slurm, as submitit has it, but with states that do not take an unknown word for an end."""

    watcher = SlurmRunWatcher()  # type: ignore[assignment] # its own reads sacct alone

    @classmethod
    def of(cls, job: core.Job[core.R], name: str) -> SlurmRunJob[core.R]:
        """Return the same job, whose name in Slurm is `name`."""
        found: SlurmRunJob[core.R] = cls(job.paths._folder, job.job_id)
        cls.watcher.names[found.job_id.partition("_")[0]] = name
        return found
