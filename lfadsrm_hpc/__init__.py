"""Fit LFADS to many recording sessions and hyperparameters, on one machine or a cluster.

The names that users hold are loaded when they are first used, so that `import lfadsrm_hpc` is cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lfadsrm_hpc._version import __version__

if TYPE_CHECKING:
    from lfadsrm_hpc.api import Run, RunCollection
    from lfadsrm_hpc.api.legacy import LegacyCollection
    from lfadsrm_hpc.collection.params import RunParams
    from lfadsrm_hpc.collection.run_spec import RunSpec
    from lfadsrm_hpc.data.dataset import Dataset
    from lfadsrm_hpc.data.dataset_collection import DatasetCollection

__all__ = [
    "Dataset",
    "DatasetCollection",
    "LegacyCollection",
    "Run",
    "RunCollection",
    "RunParams",
    "RunSpec",
    "__version__",
]

_HOMES = {
    "Dataset": "lfadsrm_hpc.data.dataset",
    "DatasetCollection": "lfadsrm_hpc.data.dataset_collection",
    "LegacyCollection": "lfadsrm_hpc.api.legacy",
    "Run": "lfadsrm_hpc.api",
    "RunCollection": "lfadsrm_hpc.api",
    "RunParams": "lfadsrm_hpc.collection.params",
    "RunSpec": "lfadsrm_hpc.collection.run_spec",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'lfadsrm_hpc' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
