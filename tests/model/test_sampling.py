"""Sampling against the forward pass of training, sample by sample and averaged in float64."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lfadsrm_hpc.model.backend import tf
from lfadsrm_hpc.model.network import likelihoods
from lfadsrm_hpc.model.network.architecture import Architecture
from lfadsrm_hpc.model.network.lfads import Batch, forward
from lfadsrm_hpc.model.network.noise import KeyedNoise
from lfadsrm_hpc.model.network.priors import log_ratio_ar1
from lfadsrm_hpc.model.sampling import posterior
from lfadsrm_hpc.model.sampling.averaging import CO_NOISE, IC_NOISE
from lfadsrm_hpc.model.sampling.posterior import PUSH_MEAN, Moments, Sampler
from lfadsrm_hpc.model.training import checkpoints

pytestmark = pytest.mark.train

Make = Callable[..., Any]
S = 5

CASES: dict[str, dict[str, Any]] = {
    "no controller": {},
    "ic_dim = gen_dim": {"ic_dim": 7},
    "no initial condition": {"ic_dim": 0},
    "controller": {"co_dim": 2, "controller_input_lag": 2},
    "causal": {"co_dim": 1, "do_causal_controller": True},
    "rates fed back": {"co_dim": 2, "feedback_factors_or_rates": "rates"},
    "nothing fed back": {"co_dim": 3, "do_feed_factors_to_controller": False},
    "external to the encoders": {"co_dim": 2, "ext_input_dim": 1},
    "injected": {"ext_input_dim": 2, "inject_ext_input_to_gen": True},
    "injected beside a controller": {"co_dim": 1, "ext_input_dim": 1, "inject_ext_input_to_gen": True},
    "forward prediction": {"forward_prediction_bins": 3, "num_steps_for_gen_ic": 4},
    "one bin for the encoders": {"num_steps_for_gen_ic": 1},
    "gaussian": {"output_dist": "gaussian", "co_dim": 1},
    "negative binomial": {"output_dist": "negative_binomial"},
    "zero-inflated gamma": {"output_dist": "zero_inflated_gamma"},
    "trained prior variance": {"ic_prior_var_max": 0.5},
}


def arrays_of(sampler: Sampler, data: Any, ext: Any = None, **more: Any) -> dict[str, Any]:
    blocks = list(sampler.blocks(data, ext, **more))
    assert [b.start for b in blocks[1:]] == [b.stop for b in blocks[:-1]]
    assert (blocks[0].start, blocks[-1].stop) == (0, len(data))
    return {name: np.concatenate([b.arrays[name] for b in blocks]) for name in blocks[0].arrays}


def one_by_one(sampler: Sampler, folder: Any, index: int, data: Any, ext: Any) -> tuple[dict[str, Any], Any]:
    """Return every sample of every trial, (E, S, ...), by the forward pass of the whole model; and bounds."""
    model = checkpoints.trained(folder)
    hp = sampler.hp
    arch = Architecture(hp, model.names, model.neurons, model.bins, model.readin_width)
    params = arch.unpack(tf.constant(arch.pack(model.params)))
    noise = KeyedNoise.of(tf.constant(sampler._keys(np.arange(len(data)))), tf.range(S))
    f32, neurons = tf.float32, model.neurons[index]
    ic = noise.normal(IC_NOISE, tf.constant(0), hp.ic_dim, f32) if hp.ic_dim else None
    co = (
        [noise.normal(CO_NOISE, tf.constant(t), hp.co_dim, f32) for t in range(arch.bins)]
        if hp.co_dim
        else []
    )
    exists = np.arange(arch.width) < neurons
    seen = exists & ~np.isin(np.arange(arch.width), sampler.held_out)
    batch = Batch(
        x=tf.constant(np.pad(data, ((0, 0), (0, 0), (0, arch.width - neurons))).swapaxes(0, 1), f32),
        session=tf.constant(index),
        constant=tf.constant(likelihoods.constant(hp.output_dist, data), f32),
        observed=tf.constant(seen, f32),
        mask=tf.constant(exists, f32),
        ext=None if ext is None else tf.constant(ext.swapaxes(0, 1), f32),
    )
    co_noise = tf.stack(co) if co else None
    got = forward(params, arch, batch, training=False, samples=S, ic_noise=ic, co_noise=co_noise)
    decoded = got.decoded

    def rows(v: Any) -> Any:  # (B*S, ...) -> (E, S, ...), in float64
        return v.numpy().reshape(len(data), S, *v.shape[1:]).astype(float)

    def timed(v: Any) -> Any:
        return rows(tf.transpose(v, [1, 0, 2]))

    outputs = timed(likelihoods.parameters(hp.output_dist, got.outputs))
    found = {"factors": timed(decoded.factors), "generator_states": timed(decoded.states)}
    found["generator_ics"] = rows(decoded.g0)
    if outputs.shape[-1] == arch.width:
        found["rates"] = outputs[..., :neurons]
    else:
        found["output_mean"] = outputs[..., :neurons]
        found["output_var"] = outputs[..., arch.width : arch.width + neurons]
    kl_co = got.kl_co
    if hp.co_dim:
        found["controller_outputs"] = timed(decoded.u)
        prior = params["co_prior/log_tau"], params["co_prior/log_evar"]
        kl_co = log_ratio_ar1(decoded.u, decoded.co_mean, decoded.co_logvar, *prior)
    if hp.ic_dim:
        found["post_g0_mean"], found["post_g0_logvar"] = rows(got.ic_mean), rows(got.ic_logvar)
    return found, rows(got.recon + got.kl_ic + kl_co)


@pytest.mark.parametrize("case", CASES)
def test_averages_are_those_of_the_forward_pass(
    case: str, small: Make, session: Make, on_disk: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Means, standard deviations and bounds, in two calls of 3 and 2 samples, two trials at once."""
    monkeypatch.setattr(posterior, "CPU_ROWS", 4)
    monkeypatch.setattr(posterior, "ENCODED", 4)
    hp = small(**CASES[case])
    data = session(ext=hp.ext_input_dim)
    folder = on_disk(hp, [data])
    sampler = Sampler(hp, folder, "a", num_samples=S, with_std=True, seed=3)
    compare(sampler, folder, 0, data.valid[:5], None if data.valid_ext is None else data.valid_ext[:5])


def test_averages_of_a_stitched_model_with_neurons_held_out(
    small: Make, session: Make, on_disk: Make
) -> None:
    held = np.array([False, True, False, False])
    sessions = [session(), session("b", neurons=4, held_out=held)]
    hp = small(co_dim=2)
    folder = on_disk(hp, sessions)
    compare(Sampler(hp, folder, "b", num_samples=S, with_std=True), folder, 1, sessions[1].valid, None)


def compare(sampler: Sampler, folder: Any, index: int, data: Any, ext: Any) -> None:
    ours = arrays_of(sampler, data, ext)
    samples, bounds = one_by_one(sampler, folder, index, data, ext)
    expected = {name: v.mean(1) for name, v in samples.items()}
    spread = ("rates", "output_mean", "factors", "generator_states", "generator_ics", "controller_outputs")
    expected |= {f"{name}_std": samples[name].std(1, ddof=1) for name in spread if name in samples}
    expected["nll_bound_vae"] = bounds.mean(1)
    expected["nll_bound_iwae"] = np.log(S) - np.logaddexp.reduce(-bounds, axis=1)
    assert ours.keys() - expected.keys() <= {"costs", "prior_g0_mean", "prior_g0_logvar"}
    for name, value in expected.items():
        scale = np.abs(expected[name.removesuffix("_std")]).max()  # rounding is relative to the values
        np.testing.assert_allclose(ours[name], value, rtol=1e-4, atol=2e-6 * scale, err_msg=name)


@pytest.mark.parametrize("kind", ["one sample", "push-mean", "unwanted"])
def test_where_there_are_no_standard_deviations(kind: str, small: Make, session: Make, on_disk: Make) -> None:
    hp = small()
    folder = on_disk(hp, [session()])
    options: dict[str, Any] = {
        "one sample": {"num_samples": 1}, "push-mean": {"kind": PUSH_MEAN}, "unwanted": {"with_std": False},
    }[kind]  # fmt: skip
    sampler = Sampler(hp, folder, "a", **{"num_samples": 4, "with_std": True, **options})
    assert not sampler.with_std
    assert not any(name.endswith("_std") for name in arrays_of(sampler, session().valid))


def test_moments_of_parts_are_those_of_the_whole_even_far_from_0() -> None:
    """A mean of 1e4 with a deviation of 0.1, in uneven parts of float32: sums of squares would cancel."""
    rng = np.random.default_rng(0)
    samples = (1e4 + 0.1 * rng.standard_normal((400, 30))).astype(np.float32)
    moments = Moments()
    for part in np.split(samples, [1, 8, 200, 390]):
        wide = part.astype(float)
        mean = wide.mean(0).astype(np.float32)
        moments.add(len(part), mean, ((wide - mean) ** 2).sum(0).astype(np.float32))
    np.testing.assert_allclose(moments.mean, samples.astype(float).mean(0), rtol=1e-7)
    np.testing.assert_allclose(moments.std(), samples.astype(float).std(0, ddof=1), rtol=1e-2)


CORNERS: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "one neuron": ({"co_dim": 1}, {"neurons": 1}, 6),
    "one trial": ({"co_dim": 1}, {}, 1),
    "one bin": ({"co_dim": 2}, {"bins": 1}, 3),
    "one of all": ({"co_dim": 1, "ext_input_dim": 1}, {"neurons": 1, "bins": 1}, 1),
    "one factor, one unit": ({"factors_dim": 1, "gen_dim": 1, "ic_dim": 1}, {}, 3),
}


@pytest.mark.parametrize("case", CORNERS)
def test_corners(case: str, small: Make, session: Make, on_disk: Make) -> None:
    """Fewer trials than a block has room for, one of what there usually are many of."""
    changes, shape, trials = CORNERS[case]
    hp = small(**changes)
    data = session(ext=hp.ext_input_dim, **shape)
    folder = on_disk(hp, [data])
    sampler = Sampler(hp, folder, "a", num_samples=S, with_std=True)
    compare(
        sampler, folder, 0, data.valid[:trials], None if data.valid_ext is None else data.valid_ext[:trials]
    )


@pytest.mark.parametrize(("rows", "encoded"), [(1, 5), (4, 1), (13, 5), (1000, 32)])
def test_any_size_of_blocks_gives_the_same(
    rows: int, encoded: int, small: Make, session: Make, on_disk: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    hp = small()
    folder, data = on_disk(hp, [session()]), session().train[:7]
    whole = arrays_of(Sampler(hp, folder, "a", num_samples=6, with_std=True), data)
    monkeypatch.setattr(posterior, "CPU_ROWS", rows)
    monkeypatch.setattr(posterior, "ENCODED", encoded)
    parts = arrays_of(Sampler(hp, folder, "a", num_samples=6, with_std=True), data)
    for name, value in whole.items():
        np.testing.assert_allclose(parts[name], value, rtol=2e-5, atol=1e-5, err_msg=name)


def test_which_trials_and_samples_is_no_constant_of_what_is_compiled(
    small: Make, session: Make, on_disk: Make
) -> None:
    # XLA compiles again for every new value of a constant
    hp = small(use_xla="on", co_dim=1)
    sampler = Sampler(hp, on_disk(hp, [session()]), "a", num_samples=4, with_std=True)
    data = session().train[:6]
    codes = sampler._codes(data, None)
    inputs = {
        "x": tf.constant(data[:2], tf.float32), "at": tf.constant([2, 3], tf.int64), "first": tf.constant(0),
        "keys": tf.constant(sampler._keys(np.arange(2)), tf.uint32), "weights": tf.ones([4]),
    }  # fmt: skip
    text = sampler._sample.experimental_get_compiler_ir(sampler.theta, codes, inputs)(stage="hlo")
    entry = text[text.index("ENTRY") :]
    shapes = re.findall(r"= (\w+\[[\d,]*\])\S* parameter\(\d+\)", entry)
    assert "s64[2]" in shapes, "the trials are compiled in"
    assert "s32[]" in shapes, "the number of the first sample is compiled in"
    assert "u32[2,2]" in shapes, "the keys are compiled in"
