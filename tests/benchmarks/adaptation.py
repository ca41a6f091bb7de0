"""How well a trained model adapts to a session that it does not know.

    python tests/benchmarks/adaptation.py [--folder DIR] [--epochs 150] [--adapt-epochs 30] [--json]

Three Lorenz sessions share dynamics and conditions, each has its own neurons. A model of the first two
together, and one of the first alone (without read-in), are adapted to the third: with conditions, by which
its read-in and read-out start at regressions, and without, where they start at the best of eight guesses. For
comparison a model is trained on the third session alone. R2 of the rates with the true ones, over the
validation trials of the third session, pooled over neurons, each about its mean.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from lfadsrm_hpc import Dataset, DatasetCollection, RunCollection, RunParams, RunSpec
from lfadsrm_hpc.data.synthetic import lorenz_sessions
from lfadsrm_hpc.errors import DataWarning
from lfadsrm_hpc.results.metrics import pooled_r2

PARAMS = RunParams(
    spike_bin_ms=10, co_dim=0, batch_size=32, gen_dim=40, ic_dim=24, ic_enc_dim=32, factors_dim=8,
    l2_gen_scale=50, kl_increase_steps=400, l2_increase_steps=400, keep_prob=0.95, learning_rate_init=0.01,
    adam_epsilon=1e-3, num_samples_posterior=64, posterior_std=False,
)  # fmt: skip


def valid_r2(means: Any, truth: Any) -> float:
    """Return the R2 of the rates on the validation trials of a file of posterior means."""
    with means:
        rows = means.split.values == "valid"
        return pooled_r2(means.rates.values[rows], truth[rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--adapt-epochs", type=int, default=30)
    parser.add_argument("--conditions", type=int, default=20)
    parser.add_argument("--trials", type=int, default=12, help="a condition")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore", DataWarning)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="adaptation-"))
    sessions = lorenz_sessions(
        3, n_neurons=30, n_conditions=options.conditions, trials_per_condition=options.trials,
        duration_ms=500, bin_ms=10, mean_rate=10, speed=4, seed=2,
    )  # fmt: skip
    new = sessions[2]
    truth = new.truth.values
    dc = DatasetCollection(folder)
    for session in sessions:
        Dataset.from_arrays(
            dc, session.attrs["name"], session.spikes.values, bin_ms=10, condition=session.condition.values
        )
    rc = RunCollection(folder, "runs", dc)
    rc.add_params(PARAMS.replace(max_epochs=options.epochs))
    rc.add_run_spec([RunSpec("both", dc, [0, 1]), RunSpec("first", dc, [0]), RunSpec("third", dc, [2])])
    rc.prepare_for_lfads(warn=False)
    found: dict[str, Any] = {}
    for name in ("third", "both", "first"):
        began = time.perf_counter()
        assert rc.find_run(name).train() == 0
        found[f"seconds to train {name}"] = time.perf_counter() - began
    found["trained on the third session alone"] = valid_r2(rc.find_run("third").load_posterior_means(), truth)
    for name in ("both", "first"):
        run = rc.find_run(name)
        for kind, ds in (("conditions", new), ("no conditions", new.drop_vars("condition"))):
            for epochs, rate in ((1, 1e-9), (options.adapt_epochs, 0.01)):
                began = time.perf_counter()
                model = run.adapt(
                    ds.drop_vars(["truth", "lowd", "readout_weights", "readout_bias"]),
                    name=f"{kind} {epochs} {rate}",
                    max_epochs=epochs,
                    learning_rate_init=rate,
                    learning_rate_stop=0,
                )
                label = f"{name}, {kind}" + (f", {epochs} epochs" if rate > 1e-6 else ", not trained")
                found[label] = valid_r2(model.load_posterior_means(), truth)
                found[f"seconds: {label}"] = time.perf_counter() - began
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        for label, value in found.items():
            print(f"{label:<45}{value:8.3f}")


if __name__ == "__main__":
    main()
