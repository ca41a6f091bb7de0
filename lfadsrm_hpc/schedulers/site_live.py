"""What a scheduler says of itself: its partitions or queues and its limits, asked with a time limit."""

from __future__ import annotations

import re

from lfadsrm_hpc.command import ask


def slurm_config(timeout_s: float) -> dict[str, str]:
    """Return `scontrol show config`.

    Raises
    ------
    CommandError
        There is no Slurm here, or its server does not answer.
    """
    text = ask(["scontrol", "show", "config"], timeout_s=timeout_s).stdout
    return {m[1]: m[2].strip() for m in re.finditer(r"(?m)^(\w+)\s*=(.*)$", text)}


def slurm_cluster(timeout_s: float) -> str:
    """Return what Slurm calls the cluster; "" where it does not say.

    Raises
    ------
    CommandError
        There is no Slurm here, or its server does not answer.
    """
    return slurm_config(timeout_s).get("ClusterName", "")


def pbs_server(timeout_s: float) -> str:
    """Return the name of the PBS server; "" where it cannot be read.

    Raises
    ------
    CommandError
        There is no PBS here, or its server does not answer.
    """
    text = ask(["qstat", "-B", "-f"], timeout_s=timeout_s).stdout
    match = re.search(r"(?m)^Server:\s*(\S+)", text)
    return match[1] if match else ""
