"""Is this machine ready? Python, TensorFlow and GPUs, scheduler, disk: each checked within a time limit."""

from lfadsrm_hpc.doctor.checks import Result, Verdict
from lfadsrm_hpc.doctor.examining import Target, examine

__all__ = ["Result", "Target", "Verdict", "examine"]
