"""Does stitching help? Co-smoothing of stitched and of single-session models on real recordings.

    python tests/benchmarks/stitching.py parts --data data_v1_binned_moving.mat
    python tests/benchmarks/stitching.py days --data data_v1_binned_moving.mat

`parts` cuts one recording into pseudo-sessions, which share neither trials nor neurons, and fits each alone,
all of them stitched, and, as the reference that knows more, one model of all neurons and all those trials.
`days` fits 14 recordings of one animal, alone and stitched, with all training trials or `--trials` of each.

All models of a comparison withhold the same neurons from their encoders, in all bins and trials, and are
scored on these neurons in the same test trials, which no model was trained, stopped or chosen by: bits/spike
above each neuron's mean rate in the training trials. Training ends by the validation trials, a fifth of each
model's own training trials. Beside them: the condition average of the training trials, smoothed and shrunk as
cross-validation within them says.

With `--folder`, what was trained there before with the same settings is not trained again.

Everything goes through the package's public way: `RunCollection.prepare_for_lfads`, `Run.train`, `Run.infer`.
Which grating is shown enters the generator as an external input, as in `co_smoothing.py`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat

from lfadsrm_hpc import Dataset, DatasetCollection, RunCollection, RunParams, RunSpec
from lfadsrm_hpc.data.readers import from_arrays
from lfadsrm_hpc.errors import DataWarning
from lfadsrm_hpc.results.baselines import condition_average
from lfadsrm_hpc.results.metrics import bits_per_spike, mean_rates

BIN_MS, WIDE = 10.0, 3  # bins of 30 ms
FIRST_MS = -200.0  # the file gives centres of bins
CONDITIONS = 16

# Chosen without the trials that are reported: docs/benchmarks.md tells how.
SETTINGS: dict[str, dict[str, Any]] = {
    "parts": {
        "factors_dim": 8, "gen_dim": 48, "ic_dim": 24, "ic_enc_dim": 48, "batch_size": 32, "keep_prob": 0.5,
        "learning_rate_init": 0.005, "learning_rate_stop": 2e-5,
        "learning_rate_decay_factor": 0.985, "kl_increase_steps": 300, "l2_increase_steps": 300,
        "max_epochs": 600, "early_stopping_patience": 60,
    },
    "days": {
        "factors_dim": 16, "gen_dim": 64, "ic_dim": 32, "ic_enc_dim": 64, "batch_size": 64,
        "coordinated_dropout_rate": 0.2, "learning_rate_init": 0.005, "learning_rate_stop": 1e-4,
        "learning_rate_n_to_compare": 3, "kl_increase_steps": 500, "l2_increase_steps": 500,
    },
}  # fmt: skip
SETTINGS["days, few trials"] = SETTINGS["parts"]
# A model of all days has many more neurons to describe than one of a single day.
STITCHED: dict[str, dict[str, Any]] = {
    "parts": {},
    "days": {
        "factors_dim": 64, "gen_dim": 128, "keep_prob": 0.95,
        "kl_increase_steps": 7000, "l2_increase_steps": 7000,
        "max_epochs": 130, "learning_rate_decay_factor": 0.7, "early_stopping_patience": 25,
    },
    "days, few trials": {"factors_dim": 40, "gen_dim": 96},
}  # fmt: skip
# Single models are trained with each of these, and the validation cost says which counts.
ALONE: dict[str, list[dict[str, Any]]] = {"days": [{"keep_prob": 0.95}, {"keep_prob": 0.8}]}
STEPS = 2000  # of a single day
COMMON: dict[str, Any] = {
    "spike_bin_ms": BIN_MS * WIDE, "alignment_method": "ridge", "co_dim": 0, "ext_input_dim": CONDITIONS,
    "inject_ext_input_to_gen": True, "l2_gen_scale": 100, "adam_epsilon": 1e-8, "num_samples_posterior": 32,
    "posterior_std": False, "scale_increase_steps_with_datasets": False,
}  # fmt: skip


@dataclass(frozen=True)
class Trials:
    """Trials of some neurons: counts (trial, bin of 10 ms, neuron) and the grating of each trial."""

    counts: Any
    condition: Any
    neurons: Any

    def take(self, trials: Any, neurons: Any) -> Trials:
        return Trials(self.counts[trials][:, :, neurons], self.condition[trials], self.neurons[neurons])

    def wide(self, neurons: Any = slice(None)) -> Any:
        """Return counts in the bins of the model."""
        trials, bins, count = self.counts.shape
        return self.counts.reshape(trials, bins // WIDE, WIDE, count).sum(axis=2)[:, :, neurons]

    def dataset(self, name: str) -> Any:
        """Return them in the in-memory form, with the grating as a one-hot input while it is on."""
        trials, bins, _ = self.counts.shape
        time_ms = FIRST_MS + BIN_MS * np.arange(bins)
        grating = np.zeros((trials, bins, CONDITIONS))
        on = np.flatnonzero((time_ms >= 0) & (time_ms < 500))
        grating[np.arange(trials)[:, None], on[None, :], self.condition[:, None]] = 1.0
        return from_arrays(
            self.counts.astype(np.int16),
            bin_ms=BIN_MS,
            time=time_ms,
            condition=self.condition,
            external_input=grating,
            neuron_names=[f"u{n:02d}" for n in self.neurons],
            name=name,
        )


def recording(data: Any, index: int) -> Trials:
    units, conditions, bins, repeats = data[index].spikes.shape
    counts = data[index].spikes.transpose(1, 3, 2, 0).reshape(conditions * repeats, bins, units)
    return Trials(counts.astype(np.int64), np.repeat(np.arange(conditions), repeats), np.arange(units))


# ------------------------------------------------------------------------------------- training and scoring


@dataclass
class Models:
    """Runs of one comparison, trained when they are asked for."""

    folder: Path
    settings: dict[str, Any]
    seconds: float = 0.0

    def fit(self, name: str, sessions: dict[str, Trials], held_out: Any, seed: int) -> Any:
        """Return the trained run of one or several sessions."""
        dc = DatasetCollection(self.folder)
        for key, trials in sessions.items():
            ds = trials.dataset(key)
            Dataset.from_arrays(
                dc,
                key,
                ds.spikes.values,
                bin_ms=BIN_MS,
                time=ds.time.values,
                condition=trials.condition,
                external_input=ds.external_input.values,
                neuron_names=ds.neuron_name.values,
            )
        rc = RunCollection(self.folder, name, dc)
        rc.add_params(RunParams(**COMMON, **self.settings, held_out_neurons=held_out, seed=seed))
        rc.add_run_spec(RunSpec("fit", dc, list(sessions)))
        rc.prepare_for_lfads(warn=False)
        (run,) = rc.runs
        if run.status().state == "COMPLETED":  # an earlier call with this folder trained it
            return run
        began = time.monotonic()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            code = run.train()
        if code != 0:
            raise SystemExit(f"training of {name} ended with {code}, see {run.path}")
        self.seconds += time.monotonic() - began
        return run


def spread_gain(rates: Any, test: Trials, train: Trials, held_out: Any) -> tuple[float, int]:
    """Return bits gained above mean rates over all spikes of the withheld neurons, and how many these are."""
    counts = test.wide(held_out)
    null = mean_rates(train.wide(held_out), bin_ms=BIN_MS * WIDE)
    bits = bits_per_spike(rates, counts, null, bin_ms=BIN_MS * WIDE)
    return bits * int(counts.sum()), int(counts.sum())


def model_gain(
    run: Any, session: str, test: Trials, train: Trials, columns: Any, given: Trials | None = None
) -> float:
    """Return the gain on some neurons of the test trials; `given`: what the model sees, where it is more."""
    shown = given or test
    with run.infer(shown.dataset(session), session=session, overwrite=True) as means:
        places = [list(shown.neurons).index(test.neurons[c]) for c in columns]
        rates = means.rates.values[:, :, places]
    return spread_gain(rates, test, train, columns)[0]


def average_gain(test: Trials, train: Trials, held_out: Any) -> tuple[float, int]:
    found = condition_average(train.wide(held_out), train.condition, test.condition, bin_ms=BIN_MS * WIDE)
    return spread_gain(found.rates, test, train, held_out)


# ------------------------------------------------------------------------------------------------ parts


def cut(whole: Trials, parts: int, trials: int, seed: int) -> tuple[list[Trials], list[Trials], Any]:
    """Cut a recording into pseudo-sessions.

    Each gets `trials` training trials, as many of each grating as can be, and neurons of its own: those above
    half a spike/s in these trials, dealt out from the busiest to the quietest, so that all parts are alike.
    All other trials are test trials of all parts, each with its own neurons.

    Returns
    -------
    training trials and test trials of each part, and the training trials' places
    """
    rng = np.random.default_rng(seed)
    each = trials * parts // CONDITIONS
    rows = [rng.permutation(np.flatnonzero(whole.condition == c))[:each] for c in range(CONDITIONS)]
    training = np.stack(rows)  # (gratings, repeats)
    places = [np.sort(training.ravel()[p::parts]) for p in range(parts)]
    if training.size % parts:
        raise SystemExit(f"{training.size} training trials cannot be dealt to {parts} parts")
    test = np.setdiff1d(np.arange(len(whole.counts)), training.ravel())
    rates = whole.counts[training.ravel()].mean(axis=(0, 1)) * 1000 / BIN_MS
    busy = np.argsort(-rates)[: int((rates >= 0.5).sum()) // parts * parts]
    dealt = np.array([rng.permutation(busy[i : i + parts]) for i in range(0, len(busy), parts)])
    neurons = [rng.permutation(dealt[:, p]) for p in range(parts)]  # withheld are the first ones: any
    orders = [rng.permutation(place) for place in places]
    return (
        [whole.take(order, own) for order, own in zip(orders, neurons, strict=True)],
        [whole.take(test, own) for own in neurons],
        np.concatenate(orders),
    )


def compare_parts(data: Any, index: int, options: Any, folder: Path) -> list[dict[str, Any]]:
    """Return one row a pseudo-session of one recording, summed over what is withheld in turn."""
    whole = recording(data, index)
    train, test, places = cut(whole, options.parts, options.trials, options.split_seed)
    size = train[0].counts.shape[2]
    names = [f"r{index:02d}p{p}" for p in range(options.parts)]
    rows = [
        {"session": n, "trials": len(a.counts), "neurons": size, "test trials": len(b.counts), "spikes": 0}
        for n, a, b in zip(names, train, test, strict=True)
    ]
    kinds = ["alone", "stitched", *([] if options.no_whole else ["all neurons"]), "condition average"]
    for row in rows:
        row.update(dict.fromkeys(kinds, 0.0))
    turns = [(fold, seed) for fold in range(options.folds) for seed in range(options.seeds)]
    for fold, seed in turns:
        held = list(range(fold * options.withheld, min((fold + 1) * options.withheld, size)))
        models = Models(folder / f"r{index:02d}-{fold}-{seed}", options.settings)
        stitched = models.fit("stitched", dict(zip(names, train, strict=True)), tuple(held), seed)
        if not options.no_whole:
            everyone = np.concatenate([t.neurons for t in train])
            first = np.concatenate([t.neurons[held] for t in train])
            order = np.concatenate([first, np.setdiff1d(everyone, first)])
            all_train = whole.take(np.random.default_rng(seed).permutation(places), order)
            known = models.fit("whole", {"whole": all_train}, tuple(range(len(first))), seed)
        for p, (name, row) in enumerate(zip(names, rows, strict=True)):
            alone = models.fit(f"alone-{name}", {name: train[p]}, tuple(held), seed)
            row["alone"] += model_gain(alone, name, test[p], train[p], held)
            row["stitched"] += model_gain(stitched, name, test[p], train[p], held)
            average, spikes = average_gain(test[p], train[p], held)
            row["condition average"] += average
            row["spikes"] += spikes
            if not options.no_whole:
                every = np.setdiff1d(np.arange(len(whole.counts)), places)
                shown = whole.take(every, order)
                row["all neurons"] += model_gain(known, "whole", test[p], train[p], held, shown)
        say(f"recording {index}, withheld {held}, seed {seed}: {models.seconds:.0f} s of training")
    for row in rows:
        for kind in kinds:
            row[kind] /= max(row["spikes"], 1)
        row["spikes"] //= len(turns) // options.folds
    return rows


# ------------------------------------------------------------------------------------------------- days


def paced(settings: dict[str, Any], session: Trials) -> dict[str, Any]:
    """Return settings with epochs enough, over which the learning rate falls alike; what is set stays.

    An epoch has one step where a session has 64 trials, and 21 where it has most. The rate is lowered about
    every seventh epoch once costs fluctuate, however many steps an epoch has.
    """
    each = -(-round(0.8 * len(session.counts)) // settings["batch_size"])
    epochs = int(np.clip(round(STEPS / each), 80, 1000))
    found = {
        "max_epochs": epochs,
        "learning_rate_decay_factor": round(0.85 ** (150 / epochs), 4),
        "early_stopping_patience": max(25, epochs // 5),
    }
    return found | settings


def validation_cost(run: Any) -> float:
    """Return the cost of reconstruction in validation trials where training was best."""
    log = run.load_fit_log()
    return float(log["valid_recon"].to_numpy()[log.attrs["lowest_valid_epoch"] - 1])


def compare_days(data: Any, options: Any, folder: Path) -> list[dict[str, Any]]:
    """Return one row a recording: alone and stitched with all the others."""
    train, test = {}, {}
    for index in options.recordings:
        whole = recording(data, index)
        rng = np.random.default_rng(options.split_seed)
        rows = [rng.permutation(np.flatnonzero(whole.condition == c)) for c in range(CONDITIONS)]
        apart = np.concatenate([r[: max(1, round(0.2 * len(r)))] for r in rows])
        rest = [r[max(1, round(0.2 * len(r))) :] for r in rows]
        if options.trials:
            rest = [r[: max(1, options.trials // CONDITIONS)] for r in rest]
        kept = rng.permutation(np.sort(np.concatenate(rest)))
        name = f"r{index:02d}"
        every = np.arange(whole.counts.shape[2])
        train[name], test[name] = whole.take(kept, every), whole.take(np.sort(apart), every)
    found: dict[str, dict[str, Any]] = {}
    for seed in range(options.seeds):
        models = Models(folder / f"days-{seed}", options.settings | options.stitched)
        stitched = models.fit("stitched", train, 0.2, seed)
        say(f"all stitched, seed {seed}: {models.seconds:.0f} s of training")
        seconds = 0.0
        for name in train:
            tried = []
            for number, choice in enumerate(options.alone):
                settings = paced(options.settings | choice, train[name])
                single = Models(folder / f"days-{seed}-{number}", settings)
                tried.append(single.fit(f"alone-{name}", {name: train[name]}, 0.2, seed))
                seconds += single.seconds
            alone = min(tried, key=validation_cost)
            with alone.load_posterior_means() as means:
                held = json.loads(means.attrs["held_out_neurons"])
            average, spikes = average_gain(test[name], train[name], held)
            row = found.setdefault(
                name,
                {
                    "session": name,
                    "trials": len(train[name].counts),
                    "neurons": len(train[name].neurons),
                    "withheld": len(held),
                    "test trials": len(test[name].counts),
                    "spikes": spikes,
                    "alone": 0.0,
                    "stitched": 0.0,
                    "condition average": average / spikes,
                },
            )
            for kind, run in (("alone", alone), ("stitched", stitched)):
                gain = model_gain(run, name, test[name], train[name], held)
                row[kind] += gain / spikes / options.seeds
        say(f"each alone, seed {seed}: {seconds:.0f} s of training")
    return list(found.values())


# ------------------------------------------------------------------------------------------------- report


def say(text: str) -> None:
    print(text, flush=True)


def summary(rows: Sequence[dict[str, Any]], seed: int = 0) -> dict[str, Any]:
    """Return how often stitched beats alone, and by how much, with a bootstrap over sessions."""
    gain = np.array([row["stitched"] - row["alone"] for row in rows])
    wins, n = int((gain > 0).sum()), len(gain)
    # chance of so many wins or more, if each were a toss of a coin
    chance = sum(math.comb(n, k) for k in range(wins, n + 1)) / 2**n
    draws = np.random.default_rng(seed).integers(0, n, (10_000, n))
    low, high = np.percentile(gain[draws].mean(axis=1), [2.5, 97.5])
    spikes = np.array([row["spikes"] for row in rows])
    kinds = [k for k in ("alone", "stitched", "all neurons", "condition average") if k in rows[0]]
    return {
        "sessions": n,
        "stitched above alone": wins,
        "chance of that": chance,
        "mean gain": float(gain.mean()),
        "95 % of it": [float(low), float(high)],
        "pooled": {k: float(np.average([row[k] for row in rows], weights=spikes)) for k in kinds},
    }


def show(rows: Sequence[dict[str, Any]]) -> None:
    names = list(rows[0])
    say("  ".join(f"{name:>17}" for name in names))
    for row in rows:
        say("  ".join(f"{row[n]:>17.3f}" if isinstance(row[n], float) else f"{row[n]:>17}" for n in names))
    told = summary(rows)
    say(
        f"stitched above alone in {told['stitched above alone']} of {told['sessions']} (chance of so many: "
        f"{told['chance of that']:.2g}); mean gain {told['mean gain']:.3f} bits/spike, 95 % between "
        f"{told['95 % of it'][0]:.3f} and {told['95 % of it'][1]:.3f}"
    )
    say("pooled over spikes: " + ", ".join(f"{k} {v:.3f}" for k, v in told["pooled"].items()))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["parts", "days"])
    parser.add_argument("--data", type=Path, required=True, help="data_v1_binned_moving.mat")
    parser.add_argument("--recordings", type=int, nargs="+", help="indices in the file")
    parser.add_argument("--parts", type=int, default=4)
    parser.add_argument("--trials", type=int, help="training trials of each part (48) or day (all)")
    parser.add_argument("--withheld", type=int, default=2, help="neurons withheld of each part at a time")
    parser.add_argument("--folds", type=int, default=2, help="how often, other neurons each time")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each, averaged")
    parser.add_argument("--split-seed", type=int, default=0)
    parser.add_argument("--no-whole", action="store_true", help="without the model of all neurons")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="other hyperparameters")
    parser.add_argument("--quick", action="store_true", help="a few epochs of little: does it run?")
    parser.add_argument("--folder", type=Path, help="keep everything there (default: a temporary folder)")
    parser.add_argument("--json", type=Path, help="write rows and summary there")
    options = parser.parse_args()
    kind = "days, few trials" if options.what == "days" and options.trials else options.what
    options.settings, options.stitched = dict(SETTINGS[kind]), dict(STITCHED[kind])
    options.alone = ALONE.get(kind, [{}])
    for text in options.set:
        name, _, value = text.partition("=")
        options.settings[name] = json.loads(value)
        options.stitched.pop(name, None)
        options.alone = [{k: v for k, v in choice.items() if k != name} for choice in options.alone]
    if options.trials is None and options.what == "parts":
        options.trials = 48
    if options.recordings is None:
        options.recordings = [2, 3, 4, 5, 12, 13, 19, 20] if options.what == "parts" else list(range(14))
    if options.quick:
        options.settings |= {"max_epochs": 3, "gen_dim": 8, "ic_dim": 4, "ic_enc_dim": 8}
        options.stitched = {}
        options.recordings, options.folds, options.trials = options.recordings[:2], 1, 16
    return options


def main() -> None:
    """Run the benchmark."""
    options = arguments()
    warnings.simplefilter("ignore", DataWarning)
    data = loadmat(options.data, squeeze_me=True, struct_as_record=False)["data"]
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        rows: list[dict[str, Any]] = []
        if options.what == "days":
            rows = compare_days(data, options, folder)
        else:
            for index in options.recordings:
                rows += compare_parts(data, index, options, folder)
                if options.json:
                    options.json.write_text(json.dumps({"rows": rows}, indent=1))
    show(rows)
    say(f"{time.monotonic() - began:.0f} s in all")
    if options.json:
        told = {"settings": options.settings, "stitched": options.stitched}
        document = {"rows": rows, "summary": summary(rows), **told}
        options.json.write_text(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
