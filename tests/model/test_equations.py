"""The forward pass against the outputs of the original TensorFlow 1 program."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from lfadsrm_hpc.model import checkpoints
from lfadsrm_hpc.model.architecture import Architecture
from lfadsrm_hpc.model.hyperparameters import Hyperparameters
from lfadsrm_hpc.model.posterior import PUSH_MEAN, SAMPLE_AND_AVERAGE, Sampler
from lfadsrm_hpc.model.tf1_params import read_model_params

REFERENCE = Path(__file__).resolve().parents[3] / "shared" / "reference" / "tf1"
CASES = ("poisson_single", "controller_ext", "multisession", "gaussian")
TENSORS = {
    "factors": "factors",
    "gen_states": "generator_states",
    "gen_ics": "generator_ics",
    "controller_outputs": "controller_outputs",
    "post_g0_mean": "post_g0_mean",
    "post_g0_logvar": "post_g0_logvar",
    "prior_g0_mean": "prior_g0_mean",
    "prior_g0_logvar": "prior_g0_logvar",
}


def read(path: Path) -> dict[str, Any]:
    with h5py.File(path) as file:
        return {name: file[name][()] for name in file}


class Case:
    """One reference case as a trained model of ours on disk."""

    def __init__(self, name: str, folder: Path) -> None:
        self.path = REFERENCE / name
        if not self.path.is_dir():
            pytest.skip(f"the original's outputs are not here: {self.path}")
        known = {f.name for f in dataclasses.fields(Hyperparameters)}
        words = {"true": True, "false": False}
        stored = json.loads((self.path / "hyperparameters.json").read_text())
        values = {k: words.get(v, v) if isinstance(v, str) else v for k, v in stored.items() if k in known}
        self.hp = Hyperparameters(**{**values, "use_xla": "off"})
        self.inputs = {p.stem.removeprefix("lfads_"): read(p) for p in sorted(self.path.glob("lfads_*.h5"))}
        shapes = [d["train_data"].shape for d in self.inputs.values()]
        first = next(iter(self.inputs.values()))
        arch = Architecture(
            self.hp,
            tuple(self.inputs),
            tuple(s[2] for s in shapes),
            shapes[0][1],
            self.hp.factors_dim if "alignment_matrix_cxf" in first else 0,
        )
        params = read_model_params(self.path / "model_params.h5", arch)
        meta = {
            "step": 10**6, "epoch": 1, "best": None, "held_out": {},
            "architecture": {
                "names": arch.names, "neurons": arch.neurons, "bins": arch.bins, "readin_width": arch.readin_width
            },
        }  # fmt: skip
        checkpoints.save(folder, {f"latest/{n}": v for n, v in params.items()}, meta, keep=1)
        self.folder = folder

    def run(self, session: str, split: str, kind: str, samples: int = 1) -> dict[str, Any]:
        sampler = Sampler(self.hp, self.folder, session, kind=kind, num_samples=samples)
        data = self.inputs[session]
        blocks = list(sampler.blocks(data[f"{split}_data"], data.get(f"{split}_ext_input")))
        arrays = {name: np.concatenate([b.arrays[name] for b in blocks]) for name in blocks[0].arrays}
        if "output_mean" in arrays:
            arrays["rates"] = np.concatenate([arrays["output_mean"], arrays["output_var"]], -1)
        return arrays

    def original(self, session: str, split: str, kind: str) -> dict[str, Any]:
        return read(self.path / f"model_runs_{session}_{split}_{kind}.h5")


@pytest.mark.parametrize("split", ["train", "valid"])
@pytest.mark.parametrize("name", CASES)
def test_push_mean_equals_the_original(name: str, split: str, tmp_path: Path) -> None:
    case = Case(name, tmp_path)
    for session in case.inputs:
        ours, theirs = case.run(session, split, PUSH_MEAN), case.original(session, split, PUSH_MEAN)
        for original, mine in {"output_dist_params": "rates", **TENSORS}.items():
            if original not in theirs or theirs[original].size == 0:
                continue
            scale = np.abs(theirs[original]).max() or 1.0
            error = np.abs(ours[mine] - theirs[original]).max() / scale
            assert error < 5e-6, f"{session} {original}"


@pytest.mark.parametrize("split", ["train", "valid"])
def test_costs_and_bounds_without_controller(split: str, tmp_path: Path) -> None:
    """The original writes the mean over a full batch for each of its trials."""
    case = Case("poisson_single", tmp_path)
    ours, theirs = case.run("s1", split, PUSH_MEAN), case.original("s1", split, PUSH_MEAN)
    size = case.hp.batch_size
    assert ours["nll_bound_vae"][:size].mean() == pytest.approx(theirs["nll_bound_vaes"][0], rel=1e-6)
    assert ours["costs"][:size].mean() == pytest.approx(theirs["costs"][0], rel=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_sampled_means_and_bounds_agree_within_sampling_error(name: str, tmp_path: Path) -> None:
    """Means over trials, whose sampling error is small; rates and bounds of both programs are stochastic."""
    case = Case(name, tmp_path)
    ours = case.run("s1", "valid", SAMPLE_AND_AVERAGE, samples=64)
    theirs = case.original("s1", "valid", SAMPLE_AND_AVERAGE)
    assert ours["nll_bound_vae"].mean() == pytest.approx(theirs["nll_bound_vaes"].mean(), rel=0.01)
    assert (ours["nll_bound_iwae"] <= ours["nll_bound_vae"] + 1e-3).all()
    rates, original = ours["rates"], theirs["output_dist_params"]
    spread = np.abs(original - original.mean(0)).mean()
    assert np.abs(rates - original).mean() < 0.25 * spread
    assert rates.mean() == pytest.approx(original.mean(), rel=0.02)
