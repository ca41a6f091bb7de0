"""What the verdicts of `lfadsrm check-runs` rest on: good trainings, and trainings broken on purpose.

    python tests/benchmarks/quality.py                       # all cases
    python tests/benchmarks/quality.py --only good too_short
    python tests/benchmarks/quality.py --data ../shared/data --only lorenz_file v1

Each case trains a small model and prints the numbers that verdicts are made of, beside the verdict. The
thresholds in `lfadsrm_hpc/results/quality.py` lie between the good cases and the broken ones. The last
three need files that are not part of the project: `lorenz/lfads_lorenz.h5` and
`ecker_v1/data_v1_binned_moving.mat`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from lfadsrm_hpc import Dataset, DatasetCollection, RunCollection, RunParams, RunSpec
from lfadsrm_hpc.data.synthetic import chaotic_rnn_session, lorenz_sessions

BASE: dict[str, Any] = {
    "spike_bin_ms": 10, "co_dim": 0, "factors_dim": 4, "gen_dim": 40, "ic_dim": 16, "ic_enc_dim": 40,
    "batch_size": 32, "kl_increase_steps": 300, "l2_increase_steps": 300, "max_epochs": 150,
    "l2_gen_scale": 100, "num_samples_posterior": 32, "use_xla": "off",
}  # fmt: skip
INPUTS = {"co_dim": 2, "ci_enc_dim": 32, "con_dim": 32}


def lorenz(**changes: Any) -> xr.Dataset:
    """One Lorenz session: 8 conditions, 160 trials of 500 ms, 20 neurons of 15 spikes/s."""
    given = {
        "n_neurons": 20, "n_conditions": 8, "trials_per_condition": 20, "duration_ms": 500, "bin_ms": 10,
        "mean_rate": 15, "speed": 3, "seed": 1,
    }  # fmt: skip
    return lorenz_sessions(1, **{**given, **changes})[0]


def pulses() -> xr.Dataset:
    """A chaotic network that gets a pulse in each trial: inferred inputs have something to do."""
    return chaotic_rnn_session(
        n_neurons=30, n_conditions=4, trials_per_condition=50, duration_ms=500, with_inputs=True, seed=2
    )


def no_conditions() -> xr.Dataset:
    """Spikes of constant rates under the labels of 8 conditions: there is nothing to learn."""
    session = lorenz()
    counts = np.random.default_rng(0).poisson(0.15, session.spikes.shape)
    return session.assign(spikes=(session.spikes.dims, counts)).drop_vars(["truth", "lowd"])


DATA = Path("../shared/data")


def lorenz_file() -> xr.Dataset:
    """The Lorenz data of the benchmarks: 800 trials, 20 conditions, 60 neurons of 1.8 spikes/s."""
    import h5py

    from lfadsrm_hpc.data.readers import from_arrays

    with h5py.File(DATA / "lorenz/lfads_lorenz.h5") as file:
        both = {
            name: np.concatenate([file[f"{part}_{name}"][()] for part in ("train", "valid")])
            for name in ("data", "truth", "lowd")
        }
    first = both["lowd"][:, 0].round(4)  # trials of a condition share their course
    condition = np.unique(first, axis=0, return_inverse=True)[1].reshape(-1)
    return from_arrays(
        both["data"].astype(int), bin_ms=10.0, truth=both["truth"], condition=condition, name="session"
    )


def v1() -> xr.Dataset:
    """One session of macaque V1, drifting gratings: 16 conditions."""
    from scipy.io import loadmat

    from lfadsrm_hpc.data.readers import from_arrays

    path = DATA / "ecker_v1/data_v1_binned_moving.mat"
    one = loadmat(path, squeeze_me=True, struct_as_record=False)["data"][1]
    units, conditions, bins, repeats = one.spikes.shape
    spikes = one.spikes.transpose(1, 3, 2, 0).reshape(conditions * repeats, bins, units)
    return from_arrays(
        spikes.astype(int), bin_ms=10.0, condition=np.repeat(np.arange(16), repeats), name="session"
    )


V1 = {
    "spike_bin_ms": 30, "factors_dim": 16, "gen_dim": 64, "ic_dim": 32, "ic_enc_dim": 64, "batch_size": 64,
    "keep_prob": 0.8, "coordinated_dropout_rate": 0.2, "learning_rate_init": 0.005, "adam_epsilon": 1e-8,
    "kl_increase_steps": 500, "l2_increase_steps": 500, "max_epochs": 120, "held_out_neurons": 0.2,
}  # fmt: skip
CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "good": (lorenz, {}),
    "good_longer": (lorenz, {"max_epochs": 400}),
    "good_sparse": (lambda: lorenz(mean_rate=4, n_neurons=40), {}),
    "good_few": (lambda: lorenz(trials_per_condition=8), {}),
    "good_dropout": (lorenz, {"coordinated_dropout_rate": 0.3, "keep_prob": 0.9}),
    "good_held_out": (lorenz, {"held_out_neurons": 0.25, "forward_prediction_bins": 10}),
    "good_inputs": (pulses, INPUTS),
    "lorenz_inputs": (lorenz, INPUTS),
    "kl_huge": (lorenz, {"kl_ic_weight": 300.0}),
    "kl_large": (lorenz, {"kl_ic_weight": 10.0}),
    "kl_co_huge": (lorenz, {**INPUTS, "kl_co_weight": 100.0}),
    "pulses_kl_co_huge": (pulses, {**INPUTS, "kl_co_weight": 100.0}),
    "both_huge": (lorenz, {**INPUTS, "kl_co_weight": 100.0, "kl_ic_weight": 300.0}),
    "overfitted": (
        lambda: lorenz(trials_per_condition=2),
        {"keep_prob": 1.0, "max_epochs": 1500, "l2_gen_scale": 0.0, "kl_ic_weight": 0.01, "batch_size": 12},
    ),
    "overfitted_kl": (
        lambda: lorenz(trials_per_condition=2),
        {"keep_prob": 1.0, "max_epochs": 1500, "l2_gen_scale": 0.0, "batch_size": 12},
    ),
    "too_short": (lorenz, {"max_epochs": 10}),
    "barely": (lorenz, {"max_epochs": 78}),
    "nothing": (no_conditions, {}),
    "lorenz_file": (lorenz_file, {"batch_size": 80, "max_epochs": 200, "gen_dim": 64, "ic_enc_dim": 64}),
    "v1": (v1, V1),
    "v1_weak_kl": (v1, {**V1, "kl_ic_weight": 0.1, "max_epochs": 240}),
}  # fmt: skip


def run_case(name: str, folder: Path) -> dict[str, Any]:
    """Train one case; return evidence, metrics and verdict."""
    from lfadsrm_hpc.data.inputs import open_inputs
    from lfadsrm_hpc.results.scoring.evidence import dataset_evidence, fit_evidence
    from lfadsrm_hpc.results.scoring.scores import score_dataset

    make, changes = CASES[name]
    dc = DatasetCollection(folder / "datasets")
    Dataset._from_memory(dc, "session", make())
    rc = RunCollection(folder / "runs", name, dc)
    rc.add_params(RunParams(**{**BASE, **changes}))
    rc.add_run_spec(RunSpec("session", dc, ["session"]))
    rc.prepare_for_lfads(warn=False)
    run = rc.runs[0]
    began = time.monotonic()
    code = run.train()
    if code:
        return {"case": name, "code": code}
    seconds = time.monotonic() - began
    fit = fit_evidence(run.fit_log_path(), run.effective_params.values())
    with run.load_posterior_means() as means, open_inputs(run.input_files()["session"]) as inputs:
        scores = score_dataset(means, inputs)
        found = dataset_evidence(means, scores)
    return {
        "case": name,
        "seconds": round(seconds),
        "fit": dataclasses.asdict(fit),
        "dataset": dataclasses.asdict(found),
        "valid": scores.values("valid"),
        "train": scores.values("train"),
        "verdict": run.metrics().quality,
    }


def main() -> None:
    """Run the cases."""
    global DATA
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES)[:-3])
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the last three cases")
    options = parser.parse_args()
    DATA = options.data
    for name in options.only:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(run_case(name, Path(folder)), default=float), flush=True)


if __name__ == "__main__":
    main()
