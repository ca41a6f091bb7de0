"""One task on a compute node: claim -> train -> posterior means -> exit record."""

from lfadsrm_hpc.worker.task import run_task

__all__ = ["run_task"]
