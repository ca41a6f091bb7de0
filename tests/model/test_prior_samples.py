"""Samples from the prior: their statistics, their independence of batching, and the original's."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from lfadsrm_hpc.errors import DataError, NotFoundError, ParamsError
from lfadsrm_hpc.model.backend import tf
from lfadsrm_hpc.model.hyperparameters import Hyperparameters
from lfadsrm_hpc.model.network.architecture import Architecture
from lfadsrm_hpc.model.network.noise import KeyedNoise
from lfadsrm_hpc.model.sampling import prior_samples
from lfadsrm_hpc.model.sampling.prior_samples import PriorSampler, ar1, driven
from lfadsrm_hpc.model.tf1_params import read_model_params
from lfadsrm_hpc.model.training import checkpoints

pytestmark = pytest.mark.train

Make = Callable[..., Any]
REFERENCE = Path(__file__).resolve().parent / "reference"


def within(value: Any, expected: Any, error: Any) -> None:
    """Allow 5 standard errors."""
    assert np.all(np.abs(np.asarray(value) - expected) < 5 * np.asarray(error)), (value, expected, error)


def test_inferred_inputs_are_stationary_ar1() -> None:
    tau, evar, rows, bins = np.array([10.0, 2.0]), np.array([0.1, 0.5]), 40000, 12
    params = {"co_prior/log_tau": np.log(tau), "co_prior/log_evar": np.log(evar)}
    noise = KeyedNoise.of(tf.constant([[7, 8]], tf.uint32), tf.range(rows))
    u = ar1({n: tf.constant(v, tf.float32) for n, v in params.items()}, noise, bins).numpy()
    phi = np.exp(-1 / tau)
    variance = evar / (1 - phi**2)
    assert u.shape == (bins, rows, 2)
    assert variance[0] == pytest.approx(0.551666, rel=1e-4)
    within(u.mean(1), 0, np.sqrt(variance / rows))
    within(u.var(1), variance, variance * math.sqrt(2 / rows))  # of the first bin as of the last
    for lag in (1, 3):
        correlation = (u[lag:] * u[:-lag]).mean(1) / variance
        within(correlation, phi**lag, math.sqrt(2 / rows))
    innovations = u[1:] - phi * u[:-1]
    within(innovations.var(1), evar, evar * math.sqrt(2 / rows))
    within((innovations[:, :, 0] * innovations[:, :, 1]).mean(1), 0, math.sqrt(evar.prod() / rows))


def test_initial_conditions_have_the_prior_s_mean_and_variance(
    small: Make, session: Make, on_disk: Make
) -> None:
    hp = small(ic_dim=7, ic_prior_var_min=0.05, ic_prior_var_scale=0.1, ic_prior_var_max=0.4)  # g_0 = z
    folder = on_disk(hp, [session()])
    z = PriorSampler(hp, folder, "a").samples(20000)["generator_ics"].astype(float)
    params = checkpoints.trained(folder).params
    variance = 0.05 + 0.35 / (1 + np.exp(-params["ic_prior/logvar"]))
    within(z.mean(0), params["ic_prior/mean"], np.sqrt(variance / len(z)))
    within(z.var(0), variance, variance * math.sqrt(2 / len(z)))
    off = np.cov(z.T)[np.triu_indices(7, 1)]
    within(off, 0, variance.max() / math.sqrt(len(z)))


@pytest.mark.parametrize("dist", ["poisson", "gaussian"])
def test_samples_do_not_depend_on_batching(
    dist: str, small: Make, session: Make, on_disk: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    hp = small(co_dim=2, output_dist=dist, ext_input_dim=1, inject_ext_input_to_gen=True)
    sessions = [session(ext=1), session("b", neurons=4, ext=1)]
    folder = on_disk(hp, sessions)
    ext = np.random.default_rng(0).normal(size=(10, 9, 1))
    whole = PriorSampler(hp, folder, "b").samples(10, ext)
    expected = {
        "generator_ics": (7,), "generator_states": (9, 7), "factors": (9, 3), "controller_outputs": (9, 2),
    }  # fmt: skip
    outputs = {"rates"} if dist == "poisson" else {"output_mean", "output_var"}
    expected |= dict.fromkeys(outputs, (9, 4))
    assert {name: a.shape for name, a in whole.items()} == {n: (10, *s) for n, s in expected.items()}
    monkeypatch.setattr(prior_samples, "MOST_ROWS", 4)
    parts = PriorSampler(hp, folder, "b").samples(10, ext)
    again = PriorSampler(hp, folder, "b").samples(3, ext[:3])
    other = PriorSampler(hp, folder, "b", seed=1).samples(3, ext[:3])
    for name, value in whole.items():
        np.testing.assert_allclose(parts[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
        np.testing.assert_allclose(again[name], value[:3], rtol=1e-5, atol=1e-6, err_msg=name)
        assert np.abs(other[name] - again[name]).max() > 1e-3
    same = PriorSampler(hp, folder, "b").samples(3, ext[0])
    np.testing.assert_allclose(same["factors"][0], again["factors"][0], rtol=1e-5, atol=1e-6)
    assert np.abs(same["factors"][1] - again["factors"][1]).max() > 1e-3


def test_little_memory_makes_small_blocks(small: Make, session: Make, on_disk: Make) -> None:
    folder = on_disk(small(), [session()])
    blocks = list(PriorSampler(small(), folder, "a", memory_mb=0.01).blocks(9))
    assert len(blocks) > 2
    assert [b.start for b in blocks[1:]] == [b.stop for b in blocks[:-1]]
    assert blocks[-1].stop == 9


def test_without_any_prior_all_samples_are_one(small: Make, session: Make, on_disk: Make) -> None:
    hp = small(ic_dim=0)
    found = PriorSampler(hp, on_disk(hp, [session()]), "a").samples(3)
    np.testing.assert_allclose(found["rates"][0], found["rates"][2], rtol=1e-5)


def test_wrong_requests(small: Make, session: Make, on_disk: Make) -> None:
    hp = small(ext_input_dim=1, inject_ext_input_to_gen=True)
    folder = on_disk(hp, [session(ext=1)])
    with pytest.raises(NotFoundError, match="no session 'c', only a"):
        PriorSampler(hp, folder, "c")
    sampler = PriorSampler(hp, folder, "a")
    with pytest.raises(DataError, match=r"the generator needs \(9, 1\), the same for all"):
        list(sampler.blocks(4))
    with pytest.raises(DataError, match=r"external input of shape \(3, 9, 1\)"):
        list(sampler.blocks(4, np.zeros((3, 9, 1))))
    with pytest.raises(ParamsError, match="not at least 1"):
        list(sampler.blocks(0, np.zeros((9, 1))))
    plain = small(ext_input_dim=1)
    with pytest.raises(DataError, match="the generator of this model has no external inputs"):
        list(PriorSampler(plain, on_disk(plain, [session(ext=1)]), "a").blocks(4, np.zeros((9, 1))))


# -- the original's samples: 16 of each case


class Original:
    """The model and the prior samples of one reference case."""

    def __init__(self, name: str) -> None:
        path = REFERENCE / name
        known = {f.name for f in dataclasses.fields(Hyperparameters)}
        words = {"true": True, "false": False}
        stored = json.loads((path / "hyperparameters.json").read_text())
        values = {k: words.get(v, v) if isinstance(v, str) else v for k, v in stored.items() if k in known}
        self.hp = Hyperparameters(**{**values, "use_xla": "off"})
        inputs = {p.stem.removeprefix("lfads_"): self.read(p) for p in sorted(path.glob("lfads_*.h5"))}
        shapes = [d["train_data"].shape for d in inputs.values()]
        names, neurons = tuple(inputs), tuple(s[2] for s in shapes)
        aligned = "alignment_matrix_cxf" in next(iter(inputs.values()))
        width = self.hp.factors_dim if aligned else 0
        self.arch = Architecture(self.hp, names, neurons, shapes[0][1], width)
        self.params = read_model_params(path / "model_params.h5", self.arch)
        self.samples = self.read(path / "model_runs_prior_sample.h5")

    @staticmethod
    def read(path: Path) -> dict[str, Any]:
        with h5py.File(path) as file:
            return {name: file[name][()] for name in file}

    def on_disk(self, folder: Path) -> Path:
        from lfadsrm_hpc.model.training import saved

        meta = {
            "step": 1,
            "epoch": 1,
            "best": None,
            "held_out": {},
            "architecture": saved.described(self.arch),
        }
        checkpoints.save(folder, {f"latest/{n}": v for n, v in self.params.items()}, meta, keep=1)
        return folder


@pytest.mark.parametrize("name", ["poisson_single", "gaussian", "multisession"])
def test_the_original_s_draws_give_its_states_factors_and_outputs(name: str) -> None:
    case = Original(name)
    theirs = case.samples
    u = theirs.get("prior_zs_ar_con")
    ours = driven(
        {n: tf.constant(v, tf.float32) for n, v in case.params.items()},
        case.arch,
        tf.constant(theirs["gen_ics"], tf.float32),
        None if u is None else tf.constant(u.swapaxes(0, 1), tf.float32),
        None,
    )
    pairs = {"gen_states": "generator_states", "factors": "factors", "output_dist_params": "outputs"}
    for original, mine in pairs.items():
        value = ours[mine].numpy().swapaxes(0, 1)[..., : theirs[original].shape[-1]]
        assert np.abs(value - theirs[original]).max() < 5e-6 * np.abs(theirs[original]).max(), original


@pytest.mark.parametrize("name", ["poisson_single", "gaussian", "multisession"])
def test_our_samples_are_distributed_as_the_original_s(name: str, tmp_path: Path) -> None:
    """Means and spreads of 16 samples of theirs, by the standard errors that 2000 of ours give for them."""
    case = Original(name)
    session = case.arch.names[0]
    ours = PriorSampler(case.hp, case.on_disk(tmp_path), session).samples(2000)
    if "output_mean" in ours:
        ours["rates"] = np.concatenate([ours["output_mean"], ours["output_var"]], -1)
    pairs = {
        "gen_ics": "generator_ics", "gen_states": "generator_states", "factors": "factors",
        "output_dist_params": "rates", "prior_zs_ar_con": "controller_outputs",
    }  # fmt: skip
    for original, mine in pairs.items():
        if original not in case.samples:
            continue
        theirs = case.samples[original]
        ours_here = ours[mine][..., : theirs.shape[-1]].astype(float)
        mean, std = ours_here.mean(0), ours_here.std(0) + 1e-9
        errors = (theirs.mean(0) - mean) / (std / math.sqrt(len(theirs)))
        assert np.sqrt((errors**2).mean()) < 2, original  # far from independent: 8 initial conditions
        assert np.abs(errors).max() < 5, original
        ratio = np.sqrt((theirs.var(0, ddof=1) / std**2).mean())
        assert 0.7 < ratio < 1.3, original


@pytest.mark.parametrize("name", ["poisson_single", "gaussian", "multisession"])
def test_the_original_s_initial_conditions_are_drawn_from_our_prior(name: str) -> None:
    case = Original(name)
    offset = case.samples["gen_ics"] - case.params["gen/from_ic/b"]
    z = np.linalg.lstsq(case.params["gen/from_ic/W"].T, offset.T, rcond=None)[0].T
    standard = (z - case.params["ic_prior/mean"]) * np.exp(-0.5 * case.params["ic_prior/logvar"])
    assert standard.size == 128
    assert 1 < 16 * (standard.mean(0) ** 2).sum() < 24  # chi-square with 8 degrees of freedom
    assert 0.6 < standard.var() < 1.4
