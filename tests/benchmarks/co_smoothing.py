"""Co-smoothing on real recordings: LFADS, alone and stitched, beside three predictions without dynamics.

    python tests/benchmarks/co_smoothing.py --data data_v1_binned_moving.mat

Three sessions of one monkey's V1 (drifting gratings; Ecker et al. 2010) go through the command line:
experiment.toml, `lfadsrm prepare`, `lfadsrm run`. A seeded 20 % of the neurons is withheld from the encoders,
all bins; their rates in the validation trials are scored in bits/spike above each neuron's mean rate in the
training trials, and beside them, on the same neurons, trials and bins:

- each neuron's condition average over the training trials (smoothed and shrunk, both cross-validated);
- smoothed spikes of the other neurons with a linear read-out (width and ridge cross-validated).

The stimulus (which of 16 gratings) is an external input of the generator: the condition average knows it too.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat

from lfadsrm_hpc import RunCollection
from lfadsrm_hpc.data.inputs import SessionInputs, read_inputs
from lfadsrm_hpc.data.readers import from_arrays, save_dataset
from lfadsrm_hpc.results.baselines import co_smoothing_baselines
from lfadsrm_hpc.results.metrics import co_smoothing_bits_per_spike

BIN_MS = 10.0
FIRST_MS = -200.0  # the file gives centres of bins
HELD_OUT = 0.2

EXPERIMENT = """\
[collection]
name = "v1"
root = "runs"

[datasets]
path = "datasets"

[params]
spike_bin_ms = 30
alignment_method = "ridge"       # rare spikes of near-silent neurons make least squares extreme
ext_input_dim = {conditions}
inject_ext_input_to_gen = true
co_dim = 0
factors_dim = 16
gen_dim = 64
ic_dim = 32
ic_enc_dim = 64
batch_size = 64
keep_prob = 0.8
coordinated_dropout_rate = 0.2
learning_rate_init = 0.005
learning_rate_stop = 1e-4
adam_epsilon = 1e-8
kl_increase_steps = 500
l2_increase_steps = 500
l2_gen_scale = 100
max_epochs = {epochs}
held_out_neurons = {held_out}
num_samples_posterior = 64

[run_specs]
singles = true
stitched = "stitched"
"""


def write_session(session: Any, name: str, folder: Path) -> None:
    """Write one session as a dataset: trials in random order, the grating as a one-hot external input."""
    units, conditions, bins, repeats = session.spikes.shape
    spikes = session.spikes.transpose(1, 3, 2, 0).reshape(conditions * repeats, bins, units)
    condition = np.repeat(np.arange(conditions), repeats)
    order = np.random.default_rng(0).permutation(len(spikes))  # the file is sorted by condition
    condition = condition[order]
    grating = np.zeros((len(spikes), bins, conditions))
    time_ms = FIRST_MS + BIN_MS * np.arange(bins)
    on = (time_ms >= 0) & (time_ms < 500)
    grating[np.arange(len(spikes))[:, None], np.flatnonzero(on)[None, :], condition[:, None]] = 1.0
    dataset = from_arrays(
        spikes[order].astype(np.int16),
        bin_ms=BIN_MS,
        time=time_ms,
        condition=condition,
        external_input=grating,
        name=name,
    )
    save_dataset(dataset, folder / f"{name}.h5")


def lfadsrm(*arguments: str) -> None:
    """Call the command line."""
    subprocess.run([sys.executable, "-m", "lfadsrm_hpc", *arguments], check=True)


def score(run: Any, inputs: SessionInputs) -> float:
    """Return the bits/spike of one run on the withheld neurons of one session."""
    with run.load_posterior_means(inputs.dataset) as means:
        held_out = np.isin(means.neuron.values, json.loads(means.attrs["held_out_neurons"]))
        rates = means.rates.sel(trial=inputs.valid_inds).values
    return co_smoothing_bits_per_spike(
        rates, inputs.valid_data, train_counts=inputs.train_data, held_out=held_out, bin_ms=inputs.bin_ms
    )


def main() -> None:
    """Run the benchmark."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--data", type=Path, required=True, help="data_v1_binned_moving.mat")
    parser.add_argument("--sessions", type=int, nargs="+", default=[1, 4, 8], help="indices in the file")
    parser.add_argument("--epochs", type=int, default=120)
    parser.add_argument("--folder", type=Path, help="keep everything there (default: a temporary folder)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    sessions = loadmat(options.data, squeeze_me=True, struct_as_record=False)["data"]
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        (folder / "datasets").mkdir(parents=True, exist_ok=True)
        for index in options.sessions:
            path = folder / "datasets" / f"session{index:02d}.h5"
            if not path.exists():
                write_session(sessions[index], path.stem, path.parent)
        experiment = folder / "experiment.toml"
        experiment.write_text(EXPERIMENT.format(conditions=16, epochs=options.epochs, held_out=HELD_OUT))
        began = time.monotonic()
        lfadsrm("prepare", str(folder))
        lfadsrm("run", str(folder))
        seconds = time.monotonic() - began
        rows = evaluate(RunCollection.open(folder / "runs" / "v1"))
    if options.json:
        print(json.dumps({"seconds": seconds, "rows": rows}, indent=2))
        return
    names = list(rows[0])
    print("  ".join(f"{name:>18}" for name in names))
    for row in rows:
        print("  ".join(f"{row[n]:>18.3f}" if isinstance(row[n], float) else f"{row[n]:>18}" for n in names))
    print(f"bits/spike on withheld neurons above their mean rate; training took {seconds:.0f} s")


def evaluate(collection: RunCollection) -> list[dict[str, Any]]:
    """Return one row a session: the scores of both runs and of the other predictions."""
    stitched = collection.find_run("stitched")
    rows = []
    for name in stitched.dataset_names:
        single = collection.find_run(f"single_{name}")
        inputs = read_inputs(single.input_files()[name])
        with single.load_posterior_means() as means:
            held_out = np.isin(means.neuron.values, json.loads(means.attrs["held_out_neurons"]))
        others = co_smoothing_baselines(
            inputs.train_data,
            inputs.valid_data,
            held_out,
            bin_ms=inputs.bin_ms,
            train_condition=inputs.train_condition,
            condition=inputs.valid_condition,
        )
        rows.append(
            {
                "session": name,
                "withheld": f"{held_out.sum()}/{held_out.size}",
                "trials": len(inputs.train_data) + len(inputs.valid_data),
                "lfads alone": score(single, inputs),
                "lfads stitched": score(stitched, inputs),
                "mean": 0.0,
                **{key.replace("_", " "): value[0] for key, value in others.items()},
            }
        )
    return rows


if __name__ == "__main__":
    main()
