"""The model against the outputs of the original TensorFlow 1 program."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from lfadsrm_hpc.model.backend import tf
from lfadsrm_hpc.model.network import priors
from lfadsrm_hpc.model.network.lfads import Batch, Result, forward
from lfadsrm_hpc.model.network.likelihoods import constant
from lfadsrm_hpc.model.sampling.posterior import PUSH_MEAN, SAMPLE_AND_AVERAGE, Sampler
from lfadsrm_hpc.model.tf1_case import SPLITS, Case
from lfadsrm_hpc.model.tf1_check import check_case
from lfadsrm_hpc.model.training import checkpoints
from lfadsrm_hpc.model.training.objective import l2_cost

Array = NDArray[Any]

TRIMMED = Path(__file__).resolve().parent / "reference"
COMPLETE = Path(__file__).resolve().parents[3] / "shared" / "reference" / "tf1"
CASES = ("poisson_single", "controller_ext", "multisession", "gaussian")
ALL = [
    *(pytest.param(TRIMMED / name, id=name) for name in CASES),
    *(
        pytest.param(
            COMPLETE / name,
            id=f"{name}, complete",
            marks=pytest.mark.skipif(
                not COMPLETE.is_dir(), reason=f"the complete cases are not at {COMPLETE}"
            ),
        )
        for name in CASES
    ),
]
SAMPLES = 16  # the original averages a batch of them
OUTPUTS = {
    "factors": "factors",
    "gen_states": "generator_states",
    "gen_ics": "generator_ics",
    "controller_outputs": "controller_outputs",
    "output_dist_params": "rates",
    "post_g0_mean": "post_g0_mean",
    "post_g0_logvar": "post_g0_logvar",
    "prior_g0_mean": "prior_g0_mean",
    "prior_g0_logvar": "prior_g0_logvar",
}
COSTS = {"costs": "costs", "nll_bound_vaes": "nll_bound_vae", "nll_bound_iwaes": "nll_bound_iwae"}


class Trained:
    """A case as a trained model of ours, at the step at which the original wrote its outputs."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.case, self.folder = Case(path), folder
        stored = json.loads((path / "hyperparameters.json").read_text())
        of_costs = [name for name in stored if name.startswith(("kl_", "l2_", "co_mean_corr"))]
        self.hp = dataclasses.replace(
            self.case.arch.hp, use_xla="off", **{name: stored[name] for name in of_costs}
        )
        self.arch = dataclasses.replace(self.case.arch, hp=self.hp)
        self.size = stored["batch_size"]
        self.samplers: dict[tuple[str, str], Sampler] = {}
        session = self.arch.names[0]
        step = int(self.case.outputs(session, "train", PUSH_MEAN)[1]["train_steps"][0])
        meta = {
            "step": step, "epoch": 1, "best": None, "held_out": {},
            "architecture": {
                "names": self.arch.names, "neurons": self.arch.neurons, "bins": self.arch.bins,
                "readin_width": self.arch.readin_width,
            },
        }  # fmt: skip
        checkpoints.save(folder, {f"latest/{n}": v for n, v in self.case.params.items()}, meta, keep=1)

    def data(self, session: str, split: str) -> tuple[Array, Array | None]:
        """Data (E, T, D) and external inputs (E, T, I)."""
        inputs, width = self.case.inputs[session], self.hp.ext_input_dim
        return inputs.data(split), inputs.external(split, width) if width else None

    def run(self, session: str, split: str, kind: str, copies: int = 1, trials: int | None = None) -> Any:
        """Our outputs and costs by our names; `copies` independent ones of each trial, (copies, E, ...)."""
        data, ext = (None if v is None else v[:trials] for v in self.data(session, split))
        assert data is not None
        if (session, kind) not in self.samplers:
            sampler = Sampler(self.hp, self.folder, session, kind=kind, num_samples=SAMPLES)
            self.samplers[session, kind] = sampler
        repeated = (None if v is None else np.tile(v, (copies, 1, 1)) for v in (data, ext))
        blocks = list(self.samplers[session, kind].blocks(*repeated))
        arrays = {name: np.concatenate([b.arrays[name] for b in blocks]) for name in blocks[0].arrays}
        if "output_mean" in arrays:
            arrays["rates"] = np.concatenate([arrays["output_mean"], arrays["output_var"]], -1)
        return {name: a.reshape(copies, len(data), *a.shape[1:]) for name, a in arrays.items()}


@pytest.fixture
def trained(request: pytest.FixtureRequest, tmp_path: Path) -> Trained:
    return Trained(request.param, tmp_path)


def relative(error: Array, to: Array) -> float:
    return float(np.abs(error).max() / (np.abs(to).max() or 1.0))


@pytest.mark.parametrize("path", ALL)
def test_every_tensor_of_push_mean(path: Path) -> None:
    """In 64 bits, so that what remains is the original's rounding."""
    assert max(line.error for line in check_case(path)) < 2e-6


@pytest.mark.parametrize("trained", ALL, indirect=True)
def test_every_tensor_of_push_mean_as_it_is_shipped(trained: Trained) -> None:
    """In 32 bits, from a checkpoint, by what writes posterior means."""
    for session in trained.arch.names:
        for split in SPLITS:
            ours = trained.run(session, split, PUSH_MEAN)
            _, theirs = trained.case.outputs(session, split, PUSH_MEAN)
            for original, name in OUTPUTS.items():
                if original in theirs:
                    error = relative(ours[name][0] - theirs[original], theirs[original])
                    assert error < 5e-6, f"{session} {split} {original}"


@pytest.mark.parametrize("trained", [case for case in ALL if "poisson_single" in case.id], indirect=True)
@pytest.mark.parametrize("split", SPLITS)
def test_push_mean_costs_and_bounds_without_a_controller(trained: Trained, split: str) -> None:
    """The original writes means over batches of successive trials, of which the whole ones count."""
    ours = {name: copies[0] for name, copies in trained.run("s1", split, PUSH_MEAN).items()}
    _, theirs = trained.case.outputs("s1", split, PUSH_MEAN)
    size = trained.size
    whole = range(0, len(theirs["costs"]) - size + 1, size)
    assert len(whole) >= 1
    for start in whole:
        expected = {name: theirs[name][start] for name in COSTS}
        costs, nll = (ours[name][start : start + size].astype(float) for name in ("costs", "nll_bound_vae"))
        assert costs.mean() == pytest.approx(expected["costs"], rel=1e-5)
        assert nll.mean() == pytest.approx(expected["nll_bound_vaes"], rel=1e-5)
        # its importance weights run over the batch's trials in this mode
        weighted = np.log(size) - np.log(np.exp(nll.min() - nll).sum()) + nll.min()
        assert weighted == pytest.approx(expected["nll_bound_iwaes"], rel=1e-5)


def pushed(trained: Trained, session: str, trials: slice, split: str) -> Result:
    """The whole result of one batch with the posterior means pushed through, in 64 bits."""
    arch = trained.arch
    x, ext = (None if v is None else v[trials].swapaxes(0, 1) for v in trained.data(session, split))
    assert x is not None
    mask = arch.neuron_mask
    index = arch.names.index(session)
    batch = Batch(
        x=tf.constant(np.pad(x, ((0, 0), (0, 0), (0, arch.width - x.shape[2])))),
        session=tf.constant(index),
        constant=tf.constant(constant(trained.hp.output_dist, x.swapaxes(0, 1)), tf.float64),
        observed=None,
        mask=None if mask is None else tf.constant(mask[index], tf.float64),
        ext=None if ext is None else tf.constant(ext),
    )
    params = {name: tf.constant(array) for name, array in trained.case.params.items()}
    result: Result = forward(params, arch, batch, training=False)
    return result


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("trained", [case for case in ALL if "poisson_single" not in case.id], indirect=True)
def test_push_mean_costs_and_bounds_with_a_controller(trained: Trained, split: str) -> None:
    """There the original scores fresh draws of the inputs, whose cost has a known spread."""
    prior = [tf.constant(trained.case.params[f"co_prior/{part}"]) for part in ("log_tau", "log_evar")]
    theta = tf.constant(trained.arch.pack(trained.case.params))
    rng = np.random.default_rng(0)
    size, scores = trained.size, []
    for session in trained.arch.names:
        _, theirs = trained.case.outputs(session, split, PUSH_MEAN)
        for start in range(0, len(theirs["costs"]) - size + 1, size):
            result = pushed(trained, session, slice(start, start + size), split)
            mean, logvar = (v.numpy() for v in (result.decoded.co_mean, result.decoded.co_logvar))
            draws = []
            for _ in range(200):
                u = mean + np.exp(0.5 * logvar) * rng.normal(size=mean.shape)
                draws.append(priors.log_ratio_ar1(tf.constant(u), mean, logvar, *prior).numpy().mean())
            exact = float(tf.reduce_mean(result.recon + result.kl_ic))
            bound = theirs["nll_bound_vaes"][start]
            scores.append((bound - exact - np.mean(draws)) / (np.std(draws, ddof=1) * np.sqrt(1 + 1 / 200)))
            # the same draws are in the cost, so that the penalties are what they differ by
            penalties = float(l2_cost(theta, trained.arch)) + trained.hp.co_mean_corr_scale * float(
                tf.reduce_mean(result.correlation)
            )
            assert theirs["costs"][start] == pytest.approx(bound + penalties, rel=1e-5)
    assert stats.chi2.sf(np.square(scores).sum(), len(scores)) > 1e-3


def surprises(ours: Array, theirs: Array, onto: Array) -> list[float]:
    """How improbable the original's values (E, n) are among independent ones of ours (copies, E, n).

    Returns a p-value for the mean over trials of each projection, (k, n), and one for the spread of all
    values. Each compares a number of the original's with the same numbers of our copies; if the programs
    agree, it is just one more of them.
    """
    values = np.concatenate([theirs[None], ours])
    values = (values - values.mean(0)) / values.std(0, ddof=1)
    numbers = np.vstack([(values @ onto.T).mean(1).T, np.square(values).mean((1, 2))])
    other = numbers[:, 1:]
    copies = other.shape[1]
    t = (numbers[:, 0] - other.mean(1)) / (other.std(1, ddof=1) * np.sqrt(1.0 + 1.0 / copies))
    return [float(p) for p in 2.0 * stats.t.sf(np.abs(t), copies - 1)]


@pytest.mark.parametrize("trained", ALL, indirect=True)
def test_averages_of_samples_agree_within_sampling_error(trained: Trained) -> None:
    """Averages of 16 samples, ours repeated to know their spread.

    Of every tensor the mean, eight random projections and the spread are compared; of costs and bounds, mean
    and spread. If the programs agree, the smallest of n p-values is below 0.01/n in one case of a hundred.
    """
    rng = np.random.default_rng(1)
    copies = 60 if TRIMMED in trained.case.folder.parents else 30
    found = {}
    for session in trained.arch.names:
        theirs = [trained.case.outputs(session, split, SAMPLE_AND_AVERAGE)[1] for split in SPLITS]
        ours = [
            trained.run(session, split, SAMPLE_AND_AVERAGE, copies, len(given["costs"]))
            for split, given in zip(SPLITS, theirs, strict=True)
        ]
        for original, name in {**OUTPUTS, **COSTS}.items():
            if original not in theirs[0]:
                continue
            mine = np.concatenate([part[name].astype(float) for part in ours], 1)
            other = np.concatenate([part[original] for part in theirs])
            if np.ptp(mine, axis=0).max() < 1e-5 * np.abs(mine).max():  # not a matter of samples
                assert relative(mine[0] - other, other) < 5e-6, f"{session} {original}"
                continue
            mine, other = mine.reshape(*mine.shape[:2], -1), other.reshape(len(other), -1)
            width = other.shape[1]
            onto = np.ones((1, 1)) if width == 1 else np.vstack([np.ones(width), rng.normal(size=(8, width))])
            for k, p in enumerate(surprises(mine, other, onto)):
                found[session, original, k] = p
    least = min(found, key=lambda key: found[key])
    assert found[least] > 0.01 / len(found), f"{least}: p = {found[least]}"
