"""TensorBoard scalars of one training, written as events without the package tensorboard.

Tags are those that the original program wrote, so that old and new runs share their plots.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lfadsrm_hpc.model.backend import tf

FLUSH_SECONDS = 30.0
TAGS = {
    "train_total": "Total_cost__train_",
    "valid_total": "Total_cost__valid_",
    "train_recon": "Reconstruction_cost__train_",
    "valid_recon": "Reconstruction_cost__valid_",
    "train_kl": "KL_cost__train_",
    "valid_kl": "KL_cost__valid_",
    "l2": "L2_cost",
    "kl_weight": "KL_weight",
    "l2_weight": "L2_weight",
    "learning_rate": "Learning_rate",
    "train_sv_recon": "Sample_validation_cost__train_",  # the original has none
    "valid_sv_recon": "Sample_validation_cost__valid_",
}


def original_tags(row: Mapping[str, float]) -> dict[str, float]:
    """Return a line of the fit log by tags; a score that is nan has none."""
    scored = {
        name: tag for name, tag in TAGS.items() if not (name.endswith("_sv_recon") and np.isnan(row[name]))
    }
    return {tag: row[name] for name, tag in scored.items()}


def prior_tags(log_tau: NDArray[Any], log_evar: NDArray[Any]) -> dict[str, float]:
    """Return time constants (bins) and process variances of the AR(1) priors, one tag for each input."""
    tau = np.exp(log_tau)
    variance = np.exp(log_evar) / (1.0 - np.exp(-2.0 / tau))
    found = {f"AR_Autocorrelation_taus_{k}": float(v) for k, v in enumerate(tau)}
    return {**found, **{f"AR_Variances_{k}": float(v) for k, v in enumerate(variance)}}


class ScalarWriter:
    """Writes one value a name and step into an event file; it reaches the disk every 30 s and at the end."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}"
        self._writer = tf.io.TFRecordWriter(str(folder / name))
        self._event(file_version="brain.Event:2")
        self._flushed = time.monotonic()

    def _event(self, **content: object) -> None:
        self._writer.write(tf.compat.v1.Event(wall_time=time.time(), **content).SerializeToString())

    def write(self, step: int, values: dict[str, float]) -> None:
        """Write the values at one step (gradient steps done)."""
        items = [tf.compat.v1.Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._event(step=step, summary=tf.compat.v1.Summary(value=items))
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self._writer.flush()
            self._flushed = time.monotonic()

    def close(self) -> None:
        self._writer.close()
