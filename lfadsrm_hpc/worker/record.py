"""What a task is told by `params.json`, and what it tells of the machine that it runs on."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass

from lfadsrm_hpc._version import __version__
from lfadsrm_hpc.collection.params import RunParams
from lfadsrm_hpc.collection.run import read_record
from lfadsrm_hpc.layout import RunLayout


@dataclass(frozen=True)
class Record:
    """What `params.json` says of the run.

    Attributes
    ----------
    params : RunParams
        As the user gave them.
    inputs : tuple of (dataset, file, fingerprint)
        In the order of the run spec; files relative to the collection.
    """

    params: RunParams
    inputs: tuple[tuple[str, str, str], ...]

    @classmethod
    def read(cls, run: RunLayout) -> Record:
        record = read_record(run.params_json)
        inputs = tuple((e["dataset"], e["file"], e["inputs_fingerprint"]) for e in record["inputs"])
        return cls(RunParams.from_json(record["params"]), inputs)

    @property
    def effective_params(self) -> RunParams:
        """The params that the model trains with: ramps scaled by the number of datasets."""
        return self.params.effective(len(self.inputs))


def threads() -> int:
    """Return how many threads tensorflow computes with."""
    from lfadsrm_hpc.model import backend

    return backend.threads()


def versions() -> Mapping[str, str]:
    """Return the versions of what a result depends on."""
    import netCDF4
    import numpy as np
    import tensorflow as tf

    return {
        "lfadsrm_hpc": __version__,
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "numpy": np.__version__,
        "netCDF4": netCDF4.__version__,
    }
