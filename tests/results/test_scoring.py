"""Posterior means with a run's inputs, scored in blocks: the same numbers as on arrays."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lfadsrm_hpc.collection.params import RunParams
from lfadsrm_hpc.data.inputs import open_inputs, read_inputs, write_inputs
from lfadsrm_hpc.errors import DataError, MismatchError, UsageError
from lfadsrm_hpc.results.decoding import decode, latent_r2
from lfadsrm_hpc.results.metrics import (
    bits_per_spike,
    co_smoothing_bits_per_spike,
    forward_prediction_bits_per_spike,
    mean_rates,
)
from lfadsrm_hpc.results.nlb import write_submission
from lfadsrm_hpc.results.posterior_means.loaders import open_posterior_means
from lfadsrm_hpc.results.psth import psth_r2
from lfadsrm_hpc.results.r2 import rate_r2, rate_r2_by_neuron
from lfadsrm_hpc.results.scoring import trial_blocks
from lfadsrm_hpc.results.scoring.scores import NAMES, Scores, decode_variable, pooled, score, score_dataset


def some_rates(made: SimpleNamespace, session: Any, seed: int = 1) -> np.ndarray:
    """Return rates that are somewhere between the truth and the mean."""
    truth = made.together(session, "truth")
    noise = np.random.default_rng(seed).gamma(20.0, 1 / 20.0, truth.shape)
    return (0.7 * truth + 0.3 * truth.mean(axis=(0, 1))) * noise


def on_arrays(session: Any, rates: np.ndarray, factors: np.ndarray, held_out: list[int], forward: int) -> Any:
    """Return all metrics of the validation trials from arrays."""
    train, valid = session.train_inds, session.valid_inds
    mask = np.isin(np.arange(rates.shape[2]), held_out)
    seen = slice(0, rates.shape[1] - forward)
    null = mean_rates(session.train_data[:, seen][..., ~mask], bin_ms=10.0)
    counts = {"train_counts": session.train_data[:, seen], "held_out": mask, "bin_ms": 10.0}
    forward_of = {"train_counts": session.train_data, "bins": forward, "bin_ms": 10.0}
    _, *hand = session.extra["hand"]
    _, *lowd = session.extra["lowd"]
    return {
        "bits_per_spike": bits_per_spike(
            rates[valid][:, seen][..., ~mask], session.valid_data[:, seen][..., ~mask], null, bin_ms=10.0
        ),
        "co_bps": co_smoothing_bits_per_spike(rates[valid][:, seen], session.valid_data[:, seen], **counts),
        "fp_bps": forward_prediction_bits_per_spike(rates[valid], session.valid_data, **forward_of),
        "rate_r2": rate_r2(rates[valid], session.valid_truth, train_truth=session.train_truth),
        "psth_r2": psth_r2(
            rates[valid],
            session.valid_condition,
            train_counts=session.train_data,
            train_condition=session.train_condition,
            bin_ms=10.0,
        ),
        "latent_r2": latent_r2(factors[train], lowd[0], factors[valid], lowd[1]).r2,
        "decoding_r2": decode(rates[train], hand[0], rates[valid], hand[1]).r2,
    }


@pytest.fixture
def scored(made: SimpleNamespace, tmp_path: Path) -> SimpleNamespace:
    """A session, its posterior means on disk, and everything that they were made of."""
    session = made.session()
    rates = some_rates(made, session)
    factors = np.random.default_rng(3).normal(size=(*rates.shape[:2], 2)) + rates[..., :2] / 10
    path = made.write(tmp_path / "a.nc", session, rates, factors=factors, held_out=[1, 5], forward=4)
    stored = open_posterior_means(path)
    rounded = stored.rates.values.astype(float), stored.factors.values.astype(float)  # float32, as on disk
    stored.close()
    return SimpleNamespace(session=session, path=path, rates=rounded[0], factors=rounded[1])


def test_every_metric_is_the_one_on_arrays(scored: SimpleNamespace) -> None:
    expected = on_arrays(scored.session, scored.rates, scored.factors, [1, 5], 4)
    with open_posterior_means(scored.path) as means:
        found = score_dataset(means, scored.session)
    assert tuple(expected) == NAMES
    assert found.values("valid") == pytest.approx(expected, rel=1e-9)
    assert all(0.01 < value < 1 for value in expected.values())
    assert found.undefined == {}
    by_neuron = rate_r2_by_neuron(
        scored.rates[scored.session.valid_inds],
        scored.session.valid_truth,
        train_truth=scored.session.train_truth,
    )
    np.testing.assert_allclose(found.neurons["valid"]["rate_r2"], by_neuron)
    rate = scored.session.train_data.mean(axis=(0, 1)) * 100
    np.testing.assert_allclose(found.neurons["valid"]["rate"], rate)


@pytest.mark.parametrize("block", [1, 160, 700, 10**6])
def test_blocks_do_not_show(
    scored: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    """Neither small ones, of some neurons and trials at a time, nor inputs that stay on disk."""
    with open_posterior_means(scored.path) as means:
        whole = score_dataset(means, scored.session)
    monkeypatch.setattr(trial_blocks, "BLOCK", block)
    write_inputs(tmp_path / "inputs.h5", scored.session)
    calls: list[int] = []
    with open_posterior_means(scored.path) as means, open_inputs(tmp_path / "inputs.h5") as inputs:
        assert not isinstance(inputs.train_data, np.ndarray)
        lazy = dataclasses.replace(scored.session, **{
            f"{part}_{key}": getattr(inputs, f"{part}_{key}")
            for part in ("train", "valid") for key in ("data", "truth")
        })  # fmt: skip
        found = score_dataset(means, lazy, between=lambda: calls.append(1))
    for split in ("train", "valid"):
        assert found.values(split) == pytest.approx(whole.values(split), rel=1e-9)
    assert found.modulation == pytest.approx(whole.modulation)
    assert found.apart is not None
    assert whole.apart is not None
    assert found.apart.r2 == pytest.approx(whole.apart.r2)
    assert len(calls) > (10 if block < 10**6 else 0)


def test_no_scored_trial_enters_a_null(made: SimpleNamespace, tmp_path: Path) -> None:
    """Rates that are the null score nothing, whatever the scored trials are."""
    session = made.session()
    null = np.broadcast_to(session.train_data.mean(axis=(0, 1)) * 100, made.together(session, "truth").shape)
    truth = np.broadcast_to(session.train_truth.mean(axis=(0, 1)), null.shape)
    for kind, rates in (("bits_per_spike", null), ("rate_r2", truth)):
        path = made.write(tmp_path / f"{kind}.nc", session, rates)
        for spoilt in (
            session,
            dataclasses.replace(
                session, valid_data=session.valid_data * 3, valid_truth=session.valid_truth**2
            ),
            dataclasses.replace(session, valid_data=session.valid_data[::-1]),
        ):
            with open_posterior_means(path) as means:
                assert score(means, spoilt, kind) == pytest.approx(0.0, abs=1e-6)
    with open_posterior_means(path) as means:  # constant rates: nothing to decode from but the mean
        other = {**session.extra, "hand": (session.extra["hand"][0], session.extra["hand"][1], 1e3 * np.sin(
            np.arange(session.extra["hand"][2].size)).reshape(session.extra["hand"][2].shape))}  # fmt: skip
        for extra in (session.extra, other):
            assert score(means, dataclasses.replace(session, extra=extra), "decoding_r2") == pytest.approx(
                0.0
            )


def test_training_trials_have_scores_of_their_own(scored: SimpleNamespace) -> None:
    with open_posterior_means(scored.path) as means:
        found = score_dataset(means, scored.session)
    session, train = scored.session, scored.session.train_inds
    mask = np.isin(np.arange(8), [1, 5])
    seen = session.train_data[:, :16][..., ~mask]
    null = mean_rates(seen, bin_ms=10.0)
    expected = bits_per_spike(scored.rates[train][:, :16][..., ~mask], seen, null, bin_ms=10.0)
    assert found.values("train")["bits_per_spike"] == pytest.approx(expected)
    assert set(found.values("train")) == set(NAMES)


def test_what_is_not_defined_says_why(made: SimpleNamespace, tmp_path: Path) -> None:
    session = dataclasses.replace(
        made.session(),
        extra={},
        train_truth=None,
        valid_truth=None,
        train_condition=None,
        valid_condition=None,
    )
    path = made.write(tmp_path / "a.nc", session, some_rates(made, made.session()))
    with open_posterior_means(path) as means:
        found = score_dataset(means, session)
        assert list(found.values()) == ["bits_per_spike"]
        assert set(found.undefined) == set(NAMES) - {"bits_per_spike"}
        for name, word in (
            ("co_bps", "held_out_neurons"), ("fp_bps", "forward_prediction_bins"),
            ("rate_r2", "no true rates"), ("psth_r2", "no conditions"), ("latent_r2", "lowd"),
            ("decoding_r2", "no behaviour"),
        ):  # fmt: skip
            with pytest.raises(DataError, match=f"{name} is not defined here: .*{word}"):
                score(means, session, name)
        with pytest.raises(UsageError, match="did you mean 'co_bps'"):
            score(means, session, "cobps")


@pytest.mark.parametrize("dist", ["gaussian", "gamma", "zero_inflated_gamma"])
def test_continuous_outputs_have_no_bits(made: SimpleNamespace, tmp_path: Path, dist: str) -> None:
    session = made.session()
    smooth = {part: getattr(session, f"{part}_truth") / 7 for part in ("train", "valid")}
    session = dataclasses.replace(session, train_data=smooth["train"] + 1, valid_data=smooth["valid"] + 1)
    means_of = made.together(session, "data") * 0.9
    path = made.write(tmp_path / "a.nc", session, means_of, output_dist=dist)
    with open_posterior_means(path) as means:
        found = score_dataset(means, session)
        assert set(found.values()) == {"psth_r2", "latent_r2", "decoding_r2"}
        assert found.values()["psth_r2"] > 0.5
        with pytest.raises(DataError, match=f"the outputs are {dist}, and bits per spike are a likelihood"):
            score(means, session, "bits_per_spike")
        with pytest.raises(DataError, match=r"true rates are in spikes/s"):
            score(means, session, "rate_r2")


def test_bits_of_a_negative_binomial_model_are_said_to_be_poisson(
    made: SimpleNamespace, tmp_path: Path
) -> None:
    session = made.session()
    path = made.write(tmp_path / "a.nc", session, some_rates(made, session), output_dist="negative_binomial")
    with open_posterior_means(path) as means:
        found = score_dataset(means, session)
    assert found.values()["bits_per_spike"] > 0
    assert any("Poisson" in note for note in found.notes)
    assert any("near-silent" in note for note in found.notes)


def test_datasets_are_pooled_by_spikes_and_squares(made: SimpleNamespace, tmp_path: Path) -> None:
    sessions = [made.session(seed=seed, neurons=neurons) for seed, neurons in ((0, 3), (1, 12))]
    found: list[Scores] = []
    for number, session in enumerate(sessions):
        path = made.write(tmp_path / f"{number}.nc", session, some_rates(made, session), held_out=[0])
        with open_posterior_means(path) as means:
            found.append(score_dataset(means, session))
    both = pooled(found)
    spikes = [int(session.valid_data[..., 1:].sum()) for session in sessions]
    bits = [one.values()["bits_per_spike"] for one in found]
    assert both["bits_per_spike"] == pytest.approx(np.average(bits, weights=spikes))
    assert both["latent_r2"] == pytest.approx(np.mean([one.values()["latent_r2"] for one in found]))
    without = dataclasses.replace(found[0], splits={**found[0].splits, "valid": {}})
    assert pooled([without, found[1]]) == {}


def test_posterior_means_of_other_data_are_refused(scored: SimpleNamespace) -> None:
    session = scored.session
    with open_posterior_means(scored.path) as means:
        with pytest.raises(MismatchError, match="of other data"):
            score_dataset(means, dataclasses.replace(session, fingerprint="0" * 64))
        few = dataclasses.replace(session, valid_inds=session.valid_inds + 1000)
        with pytest.raises(MismatchError, match="have no trial 2,"):
            score_dataset(means, few)
        with pytest.raises(MismatchError, match="bins and neurons"):
            score_dataset(means, dataclasses.replace(session, neuron_names=session.neuron_names[1:]))


def test_nulls_need_all_training_trials(scored: SimpleNamespace) -> None:
    session = scored.session
    with open_posterior_means(scored.path) as means:
        whole = score(means, session, "co_bps")
        valid = means.isel(trial=np.flatnonzero(means.split.values == "valid"))
        with pytest.raises(MismatchError, match="lack 48 of 48 training trials"):
            score(valid, session, "co_bps")
        with pytest.raises(MismatchError, match="lack 10 of 48 training trials"):
            decode_variable(means.drop_sel(trial=session.train_inds[:10]), session, "hand")
        fewer = means.drop_sel(trial=session.valid_inds[:3])
        assert score(fewer, session, "co_bps") != whole, "some validation trials may be scored alone"
        assert score(fewer, session, "co_bps", split="train") == score(
            means, session, "co_bps", split="train"
        )


def test_what_is_no_split_is_refused(scored: SimpleNamespace) -> None:
    with open_posterior_means(scored.path) as means:
        with pytest.raises(UsageError, match="no split 'test'"):
            score(means, scored.session, "co_bps", split="test")
        with pytest.raises(UsageError, match="no split 'test'"):
            decode_variable(means, scored.session, "hand", split="test")


def test_one_variable_is_decoded_with_a_lag_from_what_one_likes(scored: SimpleNamespace) -> None:
    session = scored.session
    _, *hand = session.extra["hand"]
    with open_posterior_means(scored.path) as means:
        found = decode_variable(means, session, "hand", features="factors", lag_ms=30)
        expected = decode(
            scored.factors[session.train_inds],
            hand[0],
            scored.factors[session.valid_inds],
            hand[1],
            lag_bins=3,
        )
        assert found.r2 == pytest.approx(expected.r2)
        assert found.by_output.shape == (2,)
        assert decode_variable(means, session, "hand", split="train").r2 > 0.3
        with pytest.raises(UsageError, match="did you mean 'hand'"):
            decode_variable(means, session, "hnd")
        with pytest.raises(UsageError, match="not whole bins of 10 ms"):
            decode_variable(means, session, "hand", lag_ms=5)
        with pytest.raises(UsageError, match="nothing to decode from"):
            decode_variable(means, session, "hand", features="costs")


def test_two_behaviours_are_averaged_and_true_inputs_are_none(made: SimpleNamespace, tmp_path: Path) -> None:
    trials = np.arange(60.0)
    session = made.session(
        input_truth=(("trial", "time", "input"), np.ones((60, 20, 1))),
        reaction_time=(("trial",), trials),
        gaze=(("trial", "time"), np.random.default_rng(0).normal(size=(60, 20))),
        words=(("trial", "time"), np.full((60, 20), "x")),
    )
    path = made.write(tmp_path / "a.nc", session, some_rates(made, session))
    with open_posterior_means(path) as means:
        found = score_dataset(means, session)
        each = [decode_variable(means, session, name).r2 for name in ("hand", "gaze")]
    assert found.values()["decoding_r2"] == pytest.approx(np.mean(each))
    assert "decoding_r2 is the mean over hand, gaze" in found.notes


def test_one_of_a_stack_is_refused(make: Any, fabricated: Any, tmp_path: Path) -> None:
    """It does not tell which bins the encoders did not see."""
    params = RunParams(**fabricated.BASE, forward_prediction_bins=2, held_out_neurons=[1])
    rc = make(params.generate_sweep(seed=[0, 1]))
    one = rc.load_posterior_means(stack="seed").sel(seed=0)
    inputs = read_inputs(rc.runs[0].input_files()["day1"])
    with pytest.raises(UsageError, match="of a stack of runs"):
        score(one, inputs, "bits_per_spike")
    own = one.assign_attrs(held_out_neurons="[1]")
    with pytest.raises(UsageError, match="of a stack of runs"):
        write_submission(tmp_path / "s.h5", "mc_maze", own.assign_attrs(bin_ms=20.0))
