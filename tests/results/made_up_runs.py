"""A run collection on disk whose runs were made up, not trained: a stitched run, single ones, a sweep.

What `lfadsrm run` would leave is there: inputs, claims, exit records, fit logs, parameters, posterior means.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lfadsrm_hpc import Dataset, DatasetCollection, RunCollection, RunParams, RunSpec
from lfadsrm_hpc.api import Run
from lfadsrm_hpc.data.readers import save_dataset
from lfadsrm_hpc.layout import fitlog
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.records import Exit, Identity, reason_of
from lfadsrm_hpc.results.posterior_means.format import VARIABLES
from lfadsrm_hpc.results.posterior_means.writing import PosteriorMeansWriter

sys.path.insert(0, str(Path(__file__).parent))
from made_up_model import BIN_MS, Model, conditions, fit_log

NEURONS = {"day1": 24, "day2": 30, "day3": 18}
KINDS, TRIALS = 6, 8
FACTORS, WEIGHTS, SEEDS = (2, 4, 8, 16), (10.0, 100.0), (0, 1)
SHOWN = 8  # factors_dim of the runs that are complete


def build(root: Path, *, sweep: bool = True) -> RunCollection:
    """Make the collection `<root>/reaching`; without `sweep` its two complete runs alone."""
    for name, means in _outputs(Model(NEURONS, factors=SHOWN)).items():
        save_dataset(means[["spikes"]].drop_vars("split"), root.parent / "sessions" / f"{name}.h5")
    sessions = DatasetCollection(root.parent / "sessions")
    for name in NEURONS:
        Dataset(sessions, f"{name}.h5")
    collection = RunCollection(root, "reaching", sessions)
    base = RunParams(spike_bin_ms=BIN_MS, co_dim=2, factors_dim=SHOWN, l2_gen_scale=10)
    if sweep:
        values: Any = {"factors_dim": FACTORS, "l2_gen_scale": WEIGHTS, "seed": SEEDS}
        collection.add_params(base.generate_sweep(**values))
    else:
        collection.add_params(base)
    names = [dataset.name for dataset in sessions]
    collection.add_run_spec(RunSpec("stitched", sessions, names))
    collection.add_run_spec(RunSpec("single_day1", sessions, [names[0]]))
    collection.prepare_for_lfads(warn=False)
    for number, run in enumerate(collection.runs):
        write_fit_log(run, fit_log(_cost(run), seed=number))
    for spec in ("stitched", "single_day1"):
        run = collection.find_run(spec, factors_dim=SHOWN, l2_gen_scale=10, seed=0)
        complete(run, Model({name: NEURONS[name] for name in run.dataset_names}, factors=SHOWN))
    return collection


def _outputs(model: Model) -> dict[str, Any]:
    return {name: model.outputs(name, conditions(KINDS, TRIALS)) for name in model.neurons}


def _cost(run: Run) -> float:
    """Return a cost that falls with more factors and rises again, and differs from seed to seed."""
    few = np.log2(run.params.factors_dim) - 3
    jitter = np.random.default_rng([int(run.params.seed), run.params.factors_dim, run.n_datasets]).normal()
    return (
        236 + 2.4 * few**2 + 0.02 * run.params.l2_gen_scale + 5 * (run.n_datasets == 1) + 1.2 * float(jitter)
    )


def write_fit_log(run: Run, log: pd.DataFrame) -> None:
    path = fitlog(run.layout.checkpoint_dir(1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    log.to_csv(path, index=False)


def complete(run: Run, model: Model) -> None:
    """Leave what a task leaves that has done a run."""
    claim = store.take_local(run.layout, Identity.local("", "0"))
    assert not isinstance(claim, store.AlreadyComplete)
    model.write(run.layout.model_params, run_id=run.id)
    for name, means in _outputs(model).items():
        sizes = {"factor": means.sizes["factor"], "generator_unit": means.sizes["generator_unit"]}
        sizes["controller_output"] = means.sizes.get("controller_output", 0)
        lengths = {**sizes, **{dim: means.sizes[dim] for dim in ("trial", "time", "neuron")}}
        with PosteriorMeansWriter(
            run.layout.posterior_means(name),
            dataset=name,
            time_ms=means["time"].values,
            bin_ms=BIN_MS,
            trial=means["trial"].values,
            split=means["split"].values,
            condition=means["condition"].values if "condition" in means.coords else None,
            neuron_names=means["neuron_name"].values,
            sizes=sizes,
            attributes={"run_id": run.id, "claim_token": claim.token},
        ) as writer:
            arrays = {
                variable: means[variable].values.astype(np.float32)
                if variable in means
                else np.zeros([lengths[dim] for dim in VARIABLES[variable].dims], np.float32)
                for variable in writer._names
            }
            arrays["rates"] = arrays["rates"] * np.float32(BIN_MS / 1000)  # written in counts a bin
            writer.write_block(0, arrays)
    store.publish_exit(run.layout, claim, Exit(0, reason_of(0)))
