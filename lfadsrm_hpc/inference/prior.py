"""What a trained run makes up: samples from the prior of its model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lfadsrm_hpc.collection.run import Run
from lfadsrm_hpc.data.inputs import read_times
from lfadsrm_hpc.inference.new_trials import model_of
from lfadsrm_hpc.model.sampling.prior_samples import PriorSampler
from lfadsrm_hpc.results.prior_samples import prior_dataset

if TYPE_CHECKING:
    import xarray as xr


def prior_samples(
    run: Run, count: int, session: str, *, ext_input: npt.ArrayLike | None, seed: int | None
) -> xr.Dataset:
    """Do what `Run.prior_samples` says."""
    model = model_of(run, session)
    params = model.params
    sampler = PriorSampler(
        params, model.checkpoints, session, seed=seed, memory_mb=params.posterior_memory_mb
    )
    arrays = sampler.samples(count, None if ext_input is None else np.asarray(ext_input, dtype=np.float32))
    return prior_dataset(
        arrays,
        time_ms=read_times(run.input_files()[session]),
        bin_ms=params.spike_bin_ms,
        neuron_names=model.neuron_names,
        attributes={
            "run_id": run.id,
            "dataset": session,
            "checkpoint": f"{sampler.model.checkpoint['kind']}, epoch {sampler.model.checkpoint['epoch']}",
            "checkpoint_note": sampler.model.note,
            "seed": sampler.seed,
        },
    )
