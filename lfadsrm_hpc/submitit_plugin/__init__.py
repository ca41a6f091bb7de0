"""submitit: runs of a collection through any of its executors, and an executor for PBS.

Loaded when first used: submitit loads the PBS executor in every program that uses submitit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lfadsrm_hpc.submitit_plugin.payload import TrainRun
    from lfadsrm_hpc.submitit_plugin.pbs import PbsExecutor, PbsJob, PbsJobEnvironment
    from lfadsrm_hpc.submitit_plugin.sending import submit_with

__all__ = ["PbsExecutor", "PbsJob", "PbsJobEnvironment", "TrainRun", "submit_with"]

_HOMES = {
    "TrainRun": "lfadsrm_hpc.submitit_plugin.payload",
    "PbsExecutor": "lfadsrm_hpc.submitit_plugin.pbs",
    "PbsJob": "lfadsrm_hpc.submitit_plugin.pbs",
    "PbsJobEnvironment": "lfadsrm_hpc.submitit_plugin.pbs",
    "submit_with": "lfadsrm_hpc.submitit_plugin.sending",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(home), name)
