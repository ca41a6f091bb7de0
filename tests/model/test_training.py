"""Training of tiny models: it learns, stops, resumes bit-identically, and keeps its promises on masks."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lfadsrm_hpc.errors import (
    DataError,
    DivergedError,
    LfadsrmWarning,
    MismatchError,
    ModelError,
    ParamsError,
)
from lfadsrm_hpc.model.backend import tf
from lfadsrm_hpc.model.network import initial
from lfadsrm_hpc.model.network.architecture import Architecture
from lfadsrm_hpc.model.network.lfads import forward
from lfadsrm_hpc.model.network.noise import Noise
from lfadsrm_hpc.model.session import Session
from lfadsrm_hpc.model.training import batches, checkpoints, objective
from lfadsrm_hpc.model.training import loop as training
from lfadsrm_hpc.model.training.compiled import Compiled, fresh
from lfadsrm_hpc.model.training.schedule import COLUMNS

pytestmark = pytest.mark.train

Make = Callable[..., Any]


def stop_after(calls: int) -> Callable[[], bool]:
    """Return a `should_stop` that says yes at its n-th question."""
    asked = iter(range(1, 10**6))
    return lambda: next(asked) >= calls


def same_end(one: Path, other: Path) -> None:
    """Check that two trainings ended with the same bits."""
    a, b = checkpoints.load(one), checkpoints.load(other)
    assert a.meta == b.meta
    assert set(a.arrays) == set(b.arrays)
    for name, value in a.arrays.items():
        np.testing.assert_array_equal(value, b.arrays[name], err_msg=name)
    assert (one / "fitlog.csv").read_bytes() == (other / "fitlog.csv").read_bytes()


def test_training_lowers_the_validation_cost_and_reports(small: Make, session: Make, tmp_path: Path) -> None:
    hp = small(max_epochs=60, kl_increase_steps=50, adam_epsilon=1e-3, l2_gen_scale=0)
    seen: list[training.Progress] = []
    outcome = training.train(hp, [session(trials=60)], tmp_path / "a", on_progress=seen.append)
    first, last = (p for p in (next(p for p in seen if p.epoch == 1), seen[-1]))
    assert outcome.reason == "max_epochs"
    assert (outcome.epoch, outcome.step) == (60, 60 * 8)
    assert last.valid_recon < 0.9 * first.valid_recon
    assert last.kl_weight == last.l2_weight == 1.0
    assert outcome.best_epoch is not None
    assert last.eta_s == 0
    lines = (tmp_path / "a" / "fitlog.csv").read_text().splitlines()
    assert len(lines) == 61
    assert lines[0].startswith("epoch,step,train_total,valid_total")
    assert list((tmp_path / "a" / "tensorboard").iterdir())


@pytest.mark.parametrize(
    "changes",
    [
        {"batch_size": 8},
        pytest.param(
            {"batch_size": 8, "co_dim": 2, "coordinated_dropout_rate": 0.3, "temporal_spike_jitter_width": 1},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_stopping_and_slicing_never_change_a_bit(
    small: Make, session: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    """One go in whole epochs, against slices of one step, stopped in mid-epoch and resumed twice."""
    hp = small(max_epochs=4, seed=3, **changes)
    data = [session("a", neurons=6), session("bb", neurons=4)]
    whole = training.train(hp, data, tmp_path / "whole")
    monkeypatch.setattr(training, "SLICE_SECONDS", 0.0)
    parts = []
    for number, asked in enumerate((3, 8, 10**6)):
        folder = tmp_path / f"part{number}"
        source = tmp_path / f"part{number - 1}" if number else None
        parts.append(training.train(hp, data, folder, resume_from=source, should_stop=stop_after(asked)))
    assert [p.reason for p in parts] == ["stopped", "stopped", "max_epochs"]
    assert checkpoints.load(tmp_path / "part0").meta["position"] > 0
    assert parts[-1] == whole
    same_end(tmp_path / "whole", tmp_path / "part2")


@pytest.mark.slow
def test_xla_resumes_to_the_same_bits_and_agrees_with_graph_mode(
    small: Make, session: Make, tmp_path: Path
) -> None:
    data = [session()]
    hp = small(max_epochs=3, use_xla="on", co_dim=1)
    training.train(hp, data, tmp_path / "whole")
    training.train(hp, data, tmp_path / "part", should_stop=stop_after(2))
    training.train(hp, data, tmp_path / "rest", resume_from=tmp_path / "part")
    same_end(tmp_path / "whole", tmp_path / "rest")
    training.train(dataclasses.replace(hp, use_xla="off"), data, tmp_path / "graph")
    a, b = (checkpoints.load(tmp_path / name).arrays["fitlog"] for name in ("whole", "graph"))
    np.testing.assert_allclose(a, b, rtol=1e-4)


def test_resuming_a_finished_training_copies_it(small: Make, session: Make, tmp_path: Path) -> None:
    hp, data = small(max_epochs=1), [session()]
    first = training.train(hp, data, tmp_path / "a")
    again = training.train(hp, data, tmp_path / "b", resume_from=tmp_path / "a")
    assert again == first
    same_end(tmp_path / "a", tmp_path / "b")


def test_posterior_only_copies_an_unfinished_training(small: Make, session: Make, tmp_path: Path) -> None:
    hp, data = small(max_epochs=5), [session()]
    training.train(hp, data, tmp_path / "a", should_stop=stop_after(2))
    outcome = training.train(hp, data, tmp_path / "b", resume_from=tmp_path / "a", posterior_only=True)
    assert outcome.reason == "not_trained_on"
    same_end(tmp_path / "a", tmp_path / "b")


def test_resuming_another_model_is_refused(small: Make, session: Make, tmp_path: Path) -> None:
    training.train(small(max_epochs=1), [session()], tmp_path / "a")
    with pytest.raises(MismatchError, match="another model"):
        training.train(
            small(max_epochs=1, gen_dim=9), [session()], tmp_path / "b", resume_from=tmp_path / "a"
        )


def test_a_folder_that_holds_a_training_is_refused(small: Make, session: Make, tmp_path: Path) -> None:
    training.train(small(max_epochs=1), [session()], tmp_path)
    with pytest.raises(ModelError, match="already holds"):
        training.train(small(max_epochs=1), [session()], tmp_path)


def test_learning_rate_rule_ends_training(small: Make, session: Make, tmp_path: Path) -> None:
    hp = small(
        learning_rate_n_to_compare=1,
        learning_rate_decay_factor=0.1,
        learning_rate_stop=1e-3,
        kl_increase_steps=0,
    )
    outcome = training.train(hp, [session()], tmp_path)
    assert outcome.reason == "learning_rate"
    assert outcome.epoch < 300


def test_divergence_goes_back_and_gives_up_naming_the_step(
    small: Make, session: Make, tmp_path: Path
) -> None:
    hp = small(learning_rate_init=1e30, max_epochs=5, adam_epsilon=1e-8)
    said: list[str] = []
    with pytest.raises(DivergedError, match=r"not finite at step \d+ \(epoch 1\)"):
        training.train(hp, [session()], tmp_path, on_message=said.append)
    assert len(said) == training.MAX_ROLLBACKS
    assert "back to the start of epoch 1 (step 0) with a learning rate of 5e+29 (1 of" in said[0]
    assert "learning rate of 1.25e+29" in said[-1]


def test_divergence_recovers_with_a_lower_rate(
    small: Make, session: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hp = small(max_epochs=2)
    real, calls = Compiled.train, []

    def fails_once(self: Compiled, state: Any, *args: Any) -> Any:
        calls.append(args[-1])
        result = real(self, state, *args)
        return result._replace(failed=tf.constant(7)) if len(calls) == 2 else result

    monkeypatch.setattr(Compiled, "train", fails_once)
    progress: list[training.Progress] = []
    with pytest.warns(LfadsrmWarning, match=r"not finite at step 7: .* with a learning rate of 0\.005 \("):
        outcome = training.train(hp, [session()], tmp_path, on_progress=progress.append)
    assert outcome.rollbacks == progress[-1].rollbacks == 1
    rows = checkpoints.load(tmp_path).arrays["fitlog"]
    np.testing.assert_allclose(rows[:, COLUMNS.index("learning_rate")], 0.005)
    assert outcome.epoch == 2
    assert calls[-1] == calls[0] / 2


@pytest.mark.parametrize(
    ("changes", "shape"),
    [
        ({"batch_size": 64}, {"trials": 5}),
        ({"output_dist": "gaussian"}, {}),
        ({}, {"neurons": 1, "bins": 1}),
        ({"ic_dim": 0, "co_dim": 1}, {}),
        ({"ic_dim": 7}, {}),
        ({"co_dim": 1, "do_causal_controller": True, "controller_input_lag": 2}, {}),
        ({"co_dim": 2, "feedback_factors_or_rates": "rates", "co_mean_corr_scale": 0.1}, {}),
        ({"co_dim": 1, "do_feed_factors_to_controller": False, "ext_input_dim": 2}, {"ext": 2}),
        ({"ext_input_dim": 1, "inject_ext_input_to_gen": True}, {"ext": 1}),
        ({"num_steps_for_gen_ic": 4, "co_dim": 1, "forward_prediction_bins": 2}, {}),
        ({"ic_prior_var_min": 0.01, "ic_prior_var_max": 1.0, "loss_reduction": "mean"}, {}),
    ],
)
def test_every_shape_of_model_trains(
    small: Make, session: Make, tmp_path: Path, changes: dict[str, Any], shape: dict[str, Any]
) -> None:
    outcome = training.train(small(max_epochs=1, **changes), [session(**shape)], tmp_path)
    assert all(math.isfinite(v) for name, v in outcome.costs.items() if "_sv_" not in name)


def test_frozen_parameters_do_not_move(small: Make, session: Make, tmp_path: Path) -> None:
    data = [session("a"), session("b")]
    for name, changes, moving in (
        ("io", {"do_train_io_only": True}, {"readin", "readout"}),
        ("enc", {"do_train_encoder_only": True}, {"ic_enc", "ic"}),
        ("readin", {"do_train_readin": False}, {"ic_enc", "ic", "ic_prior", "gen", "factors", "readout"}),
    ):
        hp = small(max_epochs=1, **changes)
        training.train(hp, data, tmp_path / name)
        arch = Architecture.of(hp, data)
        before = {n: v.astype(np.float32) for n, v in initial.initial_parameters(arch, data).items()}
        after = checkpoints.load(tmp_path / name).group("latest")
        moved = {n.split("/")[0] for n in before if not np.array_equal(before[n], after[n])}
        assert moved == moving, name


def costs_of(hp: Any, sessions: list[Session], index: int, params: dict[str, Any], trials: int = 4) -> Any:
    """Return the costs of the first trials of one session, without dropout or sampling."""
    arch = Architecture.of(hp, sessions)
    data = batches.resident(arch, [s.train for s in sessions], [s.train_ext for s in sessions])
    start = sum(len(s.train) for s in sessions[:index])
    batch = batches.gather(
        arch, data, batches.Masks.of(arch, sessions), tf.range(start, start + trials), tf.constant(index)
    )
    theta = tf.constant(arch.pack(params))
    result = forward(arch.unpack(theta), arch, batch, training=False)
    weights = objective.Weights(tf.constant(1.0), tf.constant(1.0))
    return objective.costs(
        theta, arch, result, batch.session, weights, tf.fill([trials], 1.0 / trials)
    ).numpy()


def test_padding_to_the_widest_session_changes_nothing(small: Make, session: Make) -> None:
    """A narrow session has the same costs beside a wide one as alone, with the same parameters."""
    hp = small(co_dim=1)
    rng = np.random.default_rng(0)
    narrow = session("n", neurons=4, alignment_matrix=rng.normal(size=(4, 3)), alignment_bias=np.ones(4))
    wide = session("w", neurons=9)
    both = [wide, narrow]
    params = initial.initial_parameters(Architecture.of(hp, both), both)
    params["readout/b"][1, 4:] = 77.0  # what stands in the padding must not matter
    alone = dict(params)
    alone["readin/W"], alone["readin/b"] = params["readin/W"][1:, :4], params["readin/b"][1:]
    alone["readout/W"], alone["readout/b"] = params["readout/W"][1:, :, :4], params["readout/b"][1:, :4]
    np.testing.assert_allclose(
        costs_of(hp, both, 1, params), costs_of(hp, [narrow], 0, alone), rtol=1e-5, atol=1e-6
    )


def test_held_out_neurons_are_unseen_but_scored(small: Make, session: Make) -> None:
    held = np.array([False, True, False, False, False, True])
    one = session(held_out=held)
    changed = one.train.copy()
    changed[:, :, held] += 1
    other = dataclasses.replace(one, train=changed)
    hp = small()
    params = initial.initial_parameters(Architecture.of(hp, [one]), [one])
    a, b = (dict(zip(objective.COSTS, costs_of(hp, [s], 0, params), strict=True)) for s in (one, other))
    assert a["kl_ic"] == b["kl_ic"]
    assert a["recon"] != b["recon"]
    seen = dataclasses.replace(other, held_out=None)
    assert costs_of(hp, [seen], 0, params)[2] != a["kl_ic"]


def test_forward_prediction_hides_the_last_bins(small: Make, session: Make) -> None:
    one = session()
    changed = one.train.copy()
    changed[:, -2:] += 1
    hp = small(forward_prediction_bins=2)
    params = initial.initial_parameters(Architecture.of(hp, [one]), [one])
    a, b = (costs_of(hp, [s], 0, params) for s in (one, dataclasses.replace(one, train=changed)))
    assert a[2] == b[2]
    assert a[1] != b[1]


def test_coordinated_dropout_trains_only_on_what_is_hidden(small: Make, session: Make) -> None:
    """The gradient of the read-out's bias is the sum of (rate - count) over hidden elements alone."""
    one = session(held_out=np.array([True] + [False] * 5))
    hp = small(coordinated_dropout_rate=0.4, keep_prob=1.0)
    arch = Architecture.of(hp, [one])
    compiled = Compiled(arch, [one])
    theta = fresh(arch.pack(initial.initial_parameters(arch, [one]))).adam.theta
    data = batches.resident(arch, [one.train], [None])
    batch = batches.gather(arch, data, compiled.masks, tf.range(8), tf.constant(0))
    step = tf.constant(5)
    _, gradient = compiled.gradient(theta, step, batch, tf.fill([8], 1 / 8))
    found = arch.named(gradient.numpy())["readout/b"][0]
    noise = Noise(hp.seed, step)
    rates = tf.exp(forward(arch.unpack(theta), arch, batch, training=True, noise=noise).outputs).numpy()
    hidden = ~noise.kept(1, batch.x.shape, 0.6).numpy()
    assert hidden.mean() == pytest.approx(0.4, abs=0.1)
    hidden[:, :, 0] = True  # a held-out neuron is never an input, so it always counts
    expected = ((rates - batch.x.numpy()) * hidden).sum((0, 1)) / 8
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-5)


def test_gradient_step_against_finite_differences_of_the_whole_cost(small: Make, session: Make) -> None:
    """Along the gradient, the cost of the full stitched model with controller changes by its square."""
    hp = small(co_dim=2, kl_increase_steps=0, l2_increase_steps=0)
    data = [session("a"), session("b", neurons=4)]
    arch = Architecture.of(hp, data)
    compiled = Compiled(arch, data)
    theta = fresh(arch.pack(initial.initial_parameters(arch, data))).adam.theta
    resident = batches.resident(arch, [s.train for s in data], [None, None])
    batch = batches.gather(arch, resident, compiled.masks, tf.range(20, 28), tf.constant(1))
    gradient = tf.function(
        lambda v: compiled.gradient(v, tf.constant(9), batch, tf.fill([8], 1 / 8)), autograph=False
    )
    g = gradient(theta)[1]
    size = 1e-3 / float(tf.norm(g))
    up, down = (float(gradient(theta + sign * size * g)[0][0]) for sign in (1, -1))
    assert (up - down) / (2 * size) == pytest.approx(float(tf.reduce_sum(g * g)), rel=0.02)


def test_sessions_that_do_not_fit_are_refused(small: Make, session: Make, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="8 bins here, but 9 in session a"):
        training.train(small(), [session("a"), session("b", bins=8)], tmp_path)
    with pytest.raises(DataError, match="0 external inputs, but ext_input_dim = 1"):
        training.train(small(ext_input_dim=1), [session()], tmp_path)
    with pytest.raises(ParamsError, match="one dataset only"):
        training.train(
            small(co_dim=1, feedback_factors_or_rates="rates"), [session("a"), session("b")], tmp_path
        )
    with pytest.raises(DataError, match="alignment matrix has shape"):
        training.train(small(), [session(alignment_matrix=np.ones((6, 2)))], tmp_path)
