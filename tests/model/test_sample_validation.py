"""Sample validation: which elements are withheld, and that nothing of them reaches the training."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import gammaln

from lfadsrm_hpc.model import sample_validation
from lfadsrm_hpc.model.backend import tf
from lfadsrm_hpc.model.network import initial, lfads
from lfadsrm_hpc.model.network.architecture import Architecture
from lfadsrm_hpc.model.network.noise import Noise
from lfadsrm_hpc.model.sampling import posterior
from lfadsrm_hpc.model.session import Session
from lfadsrm_hpc.model.training import batches, checkpoints
from lfadsrm_hpc.model.training import loop as training
from lfadsrm_hpc.model.training.compiled import Compiled, fresh


def test_part_and_independence_of_the_elements() -> None:
    rate = 0.2
    keys = sample_validation.trial_keys(3, "day1", "train", 400)
    mask = sample_validation.withheld(keys, 50, 40, rate)
    error = np.sqrt(rate * (1 - rate))
    assert mask.mean() == pytest.approx(rate, abs=5 * error / np.sqrt(mask.size))
    for axes in ((0, 1), (0, 2), (1, 2)):  # of each neuron, bin and trial
        part = mask.mean(axes)
        scaled = (part - rate) / (error / np.sqrt(mask.size / part.size))
        assert np.abs(scaled).max() < 5
        assert scaled.std() == pytest.approx(1, abs=0.5)
    pairs = (
        (mask[:-1], mask[1:]), (mask[:, :-1], mask[:, 1:]), (mask[..., :-1], mask[..., 1:]),
        (mask[:200], mask[200:]), (mask[:, :25], mask[:, 25:]),
    )  # fmt: skip
    for one, other in pairs:
        both = np.corrcoef(one.ravel(), other.ravel())[0, 1]
        assert abs(both) < 5 / np.sqrt(one.size)


def test_each_of_seed_session_and_split_draws_anew() -> None:
    def mask(seed: int = 3, session: str = "day1", split: str = "train") -> np.ndarray:
        return sample_validation.withheld(sample_validation.trial_keys(seed, session, split, 60), 30, 20, 0.3)

    first = mask()
    np.testing.assert_array_equal(first, mask())
    for other in (mask(seed=4), mask(seed=3 + 2**40), mask(session="day2"), mask(split="valid")):
        assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 5 / np.sqrt(first.size)


def test_the_draw_never_changes() -> None:
    # Results of earlier releases were scored on these elements.
    keys = sample_validation.trial_keys(0, "dataset001", "train", 2)
    assert np.flatnonzero(sample_validation.withheld(keys, 3, 4, 0.3)).tolist() == RECORDED


RECORDED = [3, 4, 5, 8, 15, 16, 17, 19, 20, 21, 22]


@pytest.mark.parametrize("compiled", [False, True])
def test_graph_and_numpy_agree(compiled: bool) -> None:
    keys = sample_validation.trial_keys(2**62, "ä", "valid", 9)
    mask = sample_validation.withheld(keys, 7, 5, 0.4)
    in_graph = tf.function(
        lambda k: sample_validation.withheld_in_graph(k, 7, 5, 0.4), jit_compile=compiled, autograph=False
    )
    np.testing.assert_array_equal(in_graph(tf.constant(keys.view(np.int32))), mask.swapaxes(0, 1))


Make = Callable[..., Any]
RATE = 0.25
MASKED = {"sample_validation_rate": RATE, "kl_increase_steps": 0, "l2_increase_steps": 0}


def masks_of(hp: Any, session: Session) -> np.ndarray:
    keys = sample_validation.trial_keys(hp.seed, session.name, "train", len(session.train))
    return sample_validation.withheld(keys, session.bins, session.neurons, hp.sample_validation_rate)


def changed(hp: Any, session: Session) -> Session:
    """Return the session with other values in the withheld elements of the training data."""
    return dataclasses.replace(
        session, train=np.where(masks_of(hp, session), 2 * session.train + 3, session.train)
    )


def first_batch(hp: Any, sessions: list[Session], index: int, epoch: int = 0) -> tuple[Compiled, Any, Any]:
    """Return compiled functions, first parameters and the batch of the first 8 trials of one session."""
    arch = Architecture.of(hp, sessions)
    compiled = Compiled(arch, sessions)
    parts = [s.train for s in sessions]
    if hp.temporal_spike_jitter_width:
        parts = [batches.jittered(arch, k, s, epoch) for k, s in enumerate(sessions)]
    data = batches.resident(arch, parts, [None] * len(sessions))
    start = sum(len(s.train) for s in sessions[:index])
    batch = batches.gather(arch, data, compiled.masks, tf.range(start, start + 8), tf.constant(index))
    theta = fresh(arch.pack(initial.initial_parameters(arch, sessions))).adam.theta
    return compiled, theta, batch


@pytest.mark.train
@pytest.mark.parametrize(
    "changes",
    [
        {"co_dim": 1},
        {"coordinated_dropout_rate": 0.4, "forward_prediction_bins": 2},
        {"temporal_spike_jitter_width": 2, "coordinated_dropout_rate": 0.4},
        {"output_dist": "gaussian", "loss_reduction": "mean"},
    ],
    ids=str,
)
def test_withheld_data_never_reach_the_training(small: Make, session: Make, changes: dict[str, Any]) -> None:
    hp = small(**MASKED, **changes)
    held = np.array([False, True, False, False])
    sessions = [session("a", neurons=6), session("b", neurons=4, held_out=held)]
    others = [changed(hp, s) for s in sessions]
    step, weights = tf.constant(5), tf.fill([8], 1 / 8)
    found = []
    for data in (sessions, others):
        compiled, theta, batch = first_batch(hp, data, 1)
        found.append((theta.numpy(), *(v.numpy() for v in compiled.gradient(theta, step, batch, weights))))
    (theta, costs, gradient), (other_theta, other_costs, other_gradient) = found
    np.testing.assert_array_equal(theta, other_theta, err_msg="they make the start of the parameters")
    np.testing.assert_array_equal(gradient, other_gradient)
    assert np.abs(gradient).max() > 0
    np.testing.assert_array_equal(costs[:6], other_costs[:6])
    assert costs[6] != other_costs[6], "the score does not see the data that it scores"
    assert costs[7] == other_costs[7] == masks_of(hp, sessions[1])[:8].sum() / 8


def test_encoders_see_zeros_and_the_rest_scaled_up(small: Make, session: Make) -> None:
    hp, one = small(**MASKED), session(trials=8)
    compiled, _, batch = first_batch(hp, [one], 0)
    mask = masks_of(hp, one).swapaxes(0, 1)
    seen, scored = lfads._visible(compiled.arch, batch, None)
    assert scored is None
    expected = np.where(mask, 0, one.train.swapaxes(0, 1) / (1 - RATE))
    np.testing.assert_allclose(seen, expected, rtol=1e-6)


def test_with_coordinated_dropout_an_element_is_input_or_target_or_withheld(
    small: Make, session: Make
) -> None:
    hp = small(**MASKED, coordinated_dropout_rate=0.4)
    compiled, _, batch = first_batch(hp, [session(trials=8)], 0)
    noise = Noise(hp.seed, tf.constant(3))
    outputs = tf.zeros(batch.x.shape)
    with tf.GradientTape() as tape:
        tape.watch(outputs)
        seen, scored = lfads._visible(compiled.arch, batch, noise)
        recon, _ = lfads._reconstruction(compiled.arch, batch.x, outputs, batch, scored)
    target = tape.gradient(recon, outputs).numpy() != 0
    withheld, kept = batch.withheld.mask.numpy(), noise.kept(lfads.NOISE_COORDINATED, batch.x.shape, 0.6)
    np.testing.assert_array_equal(target | (batch.x == 1), ~withheld & ~kept.numpy() | (batch.x == 1))
    assert not (seen.numpy().astype(bool) & (target | withheld)).any()
    expected = np.where(kept & ~withheld, batch.x, 0) / (1 - RATE) / 0.6
    np.testing.assert_allclose(seen, expected, rtol=1e-6)


def test_costs_by_hand(small: Make, session: Make) -> None:
    """Costs of both kinds of elements are Poisson log-likelihoods, log x! included, of the padded session."""
    from scipy import stats

    hp = small(**MASKED)
    narrow = session("n", neurons=4)
    compiled, theta, batch = first_batch(hp, [session("w"), narrow], 1)
    result = lfads.forward(compiled.arch.unpack(theta), compiled.arch, batch, training=False)
    logp = stats.poisson.logpmf(narrow.train[:8], np.exp(result.outputs.numpy().swapaxes(0, 1)[..., :4]))
    mask = masks_of(hp, narrow)[:8]
    np.testing.assert_allclose(result.recon, -np.where(mask, 0, logp).sum((1, 2)) / (1 - RATE), rtol=1e-4)
    cost, count = result.withheld.numpy()
    np.testing.assert_allclose(cost, -np.where(mask, logp, 0).sum((1, 2)), rtol=1e-4)
    np.testing.assert_array_equal(count, mask.sum((1, 2)))


def test_jitter_moves_neither_spikes_of_withheld_elements_nor_any_to_them(small: Make) -> None:
    hp = small(**MASKED, temporal_spike_jitter_width=2, forward_prediction_bins=3)
    flat = Session("a", np.full((2000, 9, 2), 2), np.ones((1, 9, 2), int))
    arch, mask = Architecture.of(hp, [flat]), masks_of(hp, flat)
    moved = batches.jittered(arch, 0, flat, epoch=1)
    np.testing.assert_array_equal(moved[mask], flat.train[mask])
    assert (moved != flat.train).mean() > 0.2
    np.testing.assert_array_equal(moved[:, :6].sum(1), flat.train[:, :6].sum(1))
    visible = np.where(mask, 0, moved).sum(0) / (~mask).sum(0)
    np.testing.assert_allclose(visible, 2, atol=5 * np.sqrt(2 / 2000 / (1 - RATE)))  # at most Poisson spread
    other = batches.jittered(arch, 0, changed(hp, flat), epoch=1)
    np.testing.assert_array_equal(other[~mask], moved[~mask])
    assert not np.array_equal(batches.jittered(arch, 0, flat, epoch=2), moved)


@pytest.mark.train
def test_fit_log_has_the_score_and_a_resumed_training_the_same_bits(
    small: Make, session: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hp = small(**MASKED, max_epochs=3, co_dim=1, coordinated_dropout_rate=0.2, temporal_spike_jitter_width=1)
    one = session()
    outcome = training.train(hp, [one], tmp_path / "whole")
    score = outcome.costs["valid_sv_recon"]
    mean = one.valid.mean((0, 1))
    at_mean = np.mean(mean - one.valid * np.log(mean)) + np.mean(gammaln(one.valid + 1))
    assert score == pytest.approx(at_mean, rel=0.5)
    assert outcome.costs["valid_recon"] / one.valid[0].size == pytest.approx(score, rel=0.5)
    monkeypatch.setattr(training, "SLICE_SECONDS", 0.0)
    asked = iter(range(100))
    training.train(hp, [one], tmp_path / "part", should_stop=lambda: next(asked) == 3)
    training.train(hp, [one], tmp_path / "rest", resume_from=tmp_path / "part")
    a, b = (tmp_path / name / "fitlog.csv" for name in ("whole", "rest"))
    assert a.read_bytes() == b.read_bytes()
    assert (
        checkpoints.load(tmp_path / "whole").arrays["latest/gen/W_ru"]
        == checkpoints.load(tmp_path / "rest").arrays["latest/gen/W_ru"]
    ).all()


def test_without_it_there_is_no_score(small: Make, session: Make, tmp_path: Path) -> None:
    outcome = training.train(small(max_epochs=1), [session()], tmp_path)
    assert math.isnan(outcome.costs["train_sv_recon"])
    assert (tmp_path / "fitlog.csv").read_text().splitlines()[1].endswith(",nan,nan")


@pytest.mark.train
def test_a_trained_model_sees_all_of_the_data(small: Make, session: Make, tmp_path: Path) -> None:
    hp, one = small(**MASKED, max_epochs=1), session()
    training.train(hp, [one], tmp_path)
    sampler = posterior.Sampler(hp, tmp_path, "a", kind=posterior.PUSH_MEAN)
    plain = posterior.Sampler(small(max_epochs=1), tmp_path, "a", kind=posterior.PUSH_MEAN)
    found, expected = (next(iter(s.blocks(one.train))).arrays["rates"] for s in (sampler, plain))
    np.testing.assert_array_equal(found, expected)
    other = next(iter(sampler.blocks(changed(hp, one).train))).arrays["rates"]
    assert not np.array_equal(found, other)
