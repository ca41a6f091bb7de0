"""Collections as the Matlab run manager leaves them, small and made up: all versions of its layout.

`Made(folder, ...)` writes one; its methods tell what the files hold, in the order of the dataset's trials.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

import h5py
import numpy as np
import numpy.typing as npt
from scipy.io import savemat

Array = npt.NDArray[Any]

TRIALS, BINS, RAW_PER_BIN, RAW_MS = 11, 6, 2, 1.0
BIN_MS = RAW_PER_BIN * RAW_MS
VALID = [0, 5, 10]  # trainToTestRatio 4
TRAIN = [trial for trial in range(TRIALS) if trial not in VALID]
INDS = {"train": TRAIN, "valid": VALID}
NEURONS = {"ds1": 4, "ds2": 5}
GEN, IC, CO = 7, 3, 2
SAMPLED, PUSHED = "posterior_sample_and_average", "posterior_push_mean"
HASHES = {2: "Ab-_9z", 3: "aB-_9z"}  # factors_dim: differ in case alone

SUMMARY_HEAD = """MyExperiment.RunCollection "{name}" ({count} runs total)
  Dataset Collection "days" (2 datasets) in ~/datasets
  Path: /home/somebody/runs/{name}

  {params} parameter settings
"""


@dataclass(frozen=True)
class Made:
    """A collection that is written when it is made.

    Attributes
    ----------
    layout : {"current", "flat data", "no params"}
        No data folders for run specs before version 20171107, no param folders before version 3.
    links : {"symlink", "dangling", "text", "copies", "none"}
        What is in `lfadsInput`: "dangling" links lead to where the collection was, "text" files hold the
        target, as git leaves them on Windows.
    gaussian : bool
    """

    path: Path
    layout: str = "current"
    links: str = "symlink"
    specs: Mapping[str, Sequence[str]] = field(
        default_factory=lambda: {"single_ds1": ["ds1"], "all": ["ds2", "ds1"]}
    )
    factors: Sequence[int] = (2, 3)
    kinds: Sequence[str] = (SAMPLED,)
    gaussian: bool = False
    with_summary: bool = True
    done: bool = True

    def __post_init__(self) -> None:
        for spec, datasets in self.specs.items():
            for factors in self.factors:
                self._run(spec, datasets, factors)
        if self.with_summary:
            self._summary()

    def run_path(self, spec: str, factors: int) -> Path:
        above = self.path if self.layout == "no params" else self.path / f"param_{HASHES[factors]}"
        return above / spec

    def data_path(self, spec: str, factors: int) -> Path:
        folder = self.path / f"data_D{HASHES[factors][1:]}{factors}"
        return folder / spec if self.layout == "current" else folder

    def means_path(self, spec: str, factors: int, dataset: str, split: str, kind: str = SAMPLED) -> Path:
        return self.run_path(spec, factors) / "lfadsOutput" / f"model_runs_{dataset}.h5_{split}_{kind}"

    # ---------------------------------------------------------------- what the files hold

    def means(self, spec: str, factors: int, dataset: str, kind: str = SAMPLED) -> dict[str, Array]:
        """Return the arrays of posterior means, trials in the order of the dataset, by LFADS's names."""
        rng = np.random.default_rng(crc32(f"{spec}/{factors}/{dataset}/{kind}".encode()))
        neurons = NEURONS[dataset] * (2 if self.gaussian else 1)
        over_time = {
            "factors": factors, "gen_states": GEN, "controller_outputs": CO, "output_dist_params": neurons,
        }  # fmt: skip
        of_trials = {
            "gen_ics": GEN, "post_g0_mean": IC, "post_g0_logvar": IC, "prior_g0_mean": IC,
            "prior_g0_logvar": IC,
        }  # fmt: skip
        return {
            **{name: rng.random((TRIALS, BINS, width)) for name, width in over_time.items()},
            **{name: rng.random((TRIALS, width)) for name, width in of_trials.items()},
            **{name: rng.random(TRIALS) for name in ("costs", "nll_bound_vaes", "nll_bound_iwaes")},
            "train_steps": np.full(TRIALS, 786.0),
        }

    def raw_counts(self, dataset: str) -> Array:
        """Return counts before binning, (trial, time, neuron)."""
        rng = np.random.default_rng(NEURONS[dataset])
        return rng.poisson(0.4, (TRIALS, RAW_PER_BIN * BINS + 1, NEURONS[dataset]))  # a bin too many

    def counts(self, dataset: str) -> Array:
        raw = self.raw_counts(dataset)[:, : BINS * RAW_PER_BIN]
        return raw.reshape(TRIALS, BINS, RAW_PER_BIN, -1).sum(axis=2)

    def truth(self, dataset: str) -> Array:
        """Return true rates in spikes/s."""
        return np.random.default_rng(1).random((TRIALS, BINS, NEURONS[dataset])) * 100

    def conditions(self, dataset: str) -> Array:
        if dataset == "ds1":
            return np.arange(TRIALS) % 3 + 1
        return np.array([f"reach {trial % 3}" for trial in range(TRIALS)], dtype=object)

    @property
    def time_ms(self) -> Array:
        return -3.0 + BIN_MS * np.arange(BINS)

    # ---------------------------------------------------------------- files

    def _run(self, spec: str, datasets: Sequence[str], factors: int) -> None:
        run = self.run_path(spec, factors)
        (run / "lfadsOutput").mkdir(parents=True)
        (run / "lfadsInput").mkdir()
        for dataset in datasets:
            self._inputs(spec, factors, dataset)
            for kind in self.kinds:
                write_means(run / "lfadsOutput", dataset, kind, self.means(spec, factors, dataset, kind))
        if self.done:
            (run / "lfads.done").touch()
        output = run / "lfadsOutput"
        (output / "hyperparameters-0.txt").write_text(json.dumps(self.hyperparameters(factors, datasets)))
        sampling = {**self.hyperparameters(factors, datasets), "batch_size": 512}
        (output / "hyperparameters-786.txt").write_text(json.dumps(sampling))
        (output / "fitlog.csv").write_text(fit_log([9.0, 8.0, 7.0 + factors / 10, 7.5]))
        (output / "checkpoint_lve").write_text("")
        write_params(output / "model_params", factors, {name: NEURONS[name] for name in datasets})

    def hyperparameters(self, factors: int, datasets: Sequence[str]) -> dict[str, Any]:
        return {
            "factors_dim": factors, "gen_dim": GEN, "ic_dim": IC, "co_dim": CO, "ic_enc_dim": 6,
            "batch_size": 4, "kl_increase_steps": 900 * len(datasets), "do_train_readin": "true",
            "do_causal_controller": "false", "learning_rate_init": 0.01, "num_steps": BINS,
            "output_dist": "gaussian" if self.gaussian else "poisson", "_clip_value": 80,
            "ndatasets": len(datasets), "ic_prior_var_min": 0.1, "ic_prior_var_max": 0.1,
        }  # fmt: skip

    def _inputs(self, spec: str, factors: int, dataset: str) -> None:
        folder = self.data_path(spec, factors)
        names = [f"lfads_{dataset}.h5", f"inputInfo_{dataset}.mat"]
        if not (folder / names[0]).exists():
            folder.mkdir(parents=True, exist_ok=True)
            self._write_inputs(folder, dataset)
        for name in names:
            link = self.run_path(spec, factors) / "lfadsInput" / name
            inside = (folder / name).relative_to(self.path)
            up = "../.." if self.layout == "no params" else "../../.."
            if self.links == "symlink":
                link.symlink_to(f"{up}/{inside.as_posix()}")
            elif self.links == "dangling":
                link.symlink_to(f"/gone/runs/{inside.as_posix()}")
            elif self.links == "text":
                link.write_text(f"{up}/{inside.as_posix()}")
            elif self.links == "copies":
                link.write_bytes((folder / name).read_bytes())

    def _write_inputs(self, folder: Path, dataset: str) -> None:
        counts = self.counts(dataset)
        data = counts + 0.5 if self.gaussian else counts.astype(np.int64)
        with h5py.File(folder / f"lfads_{dataset}.h5", "w") as file:
            for split, own in INDS.items():
                file[f"{split}_data"] = data[own]
                # the run manager adds rates up when it bins
                file[f"{split}_truth"] = RAW_PER_BIN * self.truth(dataset)[own]
                file[f"{split}_inds"] = np.array(own, float) + 1
            file["conversion_factor"] = np.array([1 / RAW_PER_BIN])
        raw = self.raw_counts(dataset)
        content = {
            "trainInds": np.array([TRAIN], float) + 1,
            "validInds": np.array([VALID], float) + 1,
            "paramInputDataHash": "Rabcde",
            "seq_timeVector": -3.0 + RAW_MS * np.arange(raw.shape[1])[:, None],
            "seq_binSizeMs": RAW_MS,
            "conditionId": self.conditions(dataset)[:, None],
            "counts": raw.astype(float).transpose(2, 1, 0),
        }
        savemat(folder / f"inputInfo_{dataset}.mat", content)

    def _summary(self) -> None:
        count = len(self.specs) * len(self.factors)
        text = SUMMARY_HEAD.format(name=self.path.name, count=count, params=len(self.factors))
        for number, factors in enumerate(self.factors, start=1):
            data = f"D{HASHES[factors][1:]}{factors}"
            text += f"    [{number} param_{HASHES[factors]} data_{data}] MyExperiment.RunParams\n"
            for name, value in {
                "spikeBinMs": 2, "c_factors_dim": factors, "c_gen_dim": GEN, "c_ic_dim": IC, "c_co_dim": CO,
                "c_ic_enc_dim": 6, "c_batch_size": 4, "c_kl_increase_steps": 900, "mySetting": "left",
                "c_output_dist": "gaussian" if self.gaussian else "poisson",
            }.items():  # fmt: skip
                text += f"      {name}: {value}\n"
        for number, (spec, datasets) in enumerate(self.specs.items(), start=1):
            text += f'  [runSpec {number}] MyExperiment.RunSpec "{spec}" ({len(datasets)} datasets)\n'
            for place, dataset in enumerate(datasets, start=1):
                text += f'    [ds {place}] MyExperiment.Dataset "{dataset}"\n'
        (self.path / "summary.txt").write_text(text + "  comment: none\n")


def write_means(folder: Path, dataset: str, kind: str, arrays: Mapping[str, Array]) -> None:
    """Write the two files of posterior means of a dataset."""
    for split, own in INDS.items():
        with h5py.File(folder / f"model_runs_{dataset}.h5_{split}_{kind}", "w") as file:
            for name, values in arrays.items():
                file.create_dataset(name, data=values[own], compression="gzip")


def fit_log(valid_costs: Sequence[float], *, ramp: int = 2, step: int = 3, start: int = 0) -> str:
    """Return the text of a log in which both ramps are full from epoch `ramp` - 1 on (from 0)."""
    lines = []
    for epoch, cost in enumerate(valid_costs):
        weight = min(1.0, (epoch + 1) / ramp)
        lines.append(
            f"epoch,{epoch}, step,{start + step * (epoch + 1)}, total,{cost - 0.5:.2f},{cost:.2f}, "
            f"recon,{cost - 1:.2f},{cost - 0.7:.2f}, kl,0.40,0.70, l2,0.10, klweight,{weight:.2f}, "
            f"l2weight,{weight:.2f}\n"
        )
    return "".join(lines)


def write_params(path: Path, factors: int, neurons: Mapping[str, int]) -> None:
    """Write as much of the variables of a model as loaders need."""
    rng = np.random.default_rng(factors)
    shapes: dict[str, tuple[int, ...]] = {
        "gen_gen_2_fac_W": (GEN, factors),
        "gen_GenGRU_Gates_h_2_ru_W": (GEN, 2 * GEN),
        "gen_GenGRU_Gates_h_2_ru_b": (1, 2 * GEN),
        "gen_GenGRU_Candidate_rh_2_c_W": (GEN, GEN),
        "gen_GenGRU_Candidate_rh_2_c_b": (1, GEN),
    }
    for name, count in neurons.items():
        shapes[f"glm_fac_2_logrates_{name}.h5_W"] = (factors, count)
        shapes[f"glm_fac_2_logrates_{name}.h5_b"] = (1, count)
    with h5py.File(path, "w") as file:
        for name, shape in shapes.items():
            file[f"LFADS_{name}:0"] = rng.normal(size=shape).astype(np.float32)
        file["LFADS_global_step:0"] = np.int64(786)
        file["LFADS_learning_rate:0"] = np.float32(0.001)
