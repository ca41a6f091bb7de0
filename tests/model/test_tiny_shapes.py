"""The smallest models and data there are: they train, and give posterior means."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lfadsrm_hpc.errors import ParamsError
from lfadsrm_hpc.model.sampling import posterior
from lfadsrm_hpc.model.session import Session
from lfadsrm_hpc.model.training import loop as training

Make = Callable[..., Any]
ALL = {
    "co_dim": 1, "coordinated_dropout_rate": 0.3, "sample_validation_rate": 0.3,
    "temporal_spike_jitter_width": 1,
}  # fmt: skip


def slow(*values: Any) -> Any:
    """A shape whose parts test_training.py trains too; each of these takes seconds to compile."""
    return pytest.param(*values, marks=pytest.mark.slow)


def counts(trials: int, bins: int, neurons: int) -> Any:
    return np.random.default_rng(0).poisson(1.0, (trials, bins, neurons))


@pytest.mark.train
@pytest.mark.parametrize(
    ("changes", "trials", "bins", "neurons", "ext"),
    [
        ({"batch_size": 1, **ALL}, 3, 6, 2, 0),
        slow({"batch_size": 64, **ALL}, 3, 6, 2, 0),
        slow({"co_dim": 1, "factors_dim": 1, "gen_dim": 1, "ic_dim": 2}, 3, 6, 2, 0),
        slow({"co_dim": 1, "con_dim": 1, "ci_enc_dim": 1, "ic_enc_dim": 1, "ic_dim": 1}, 3, 6, 2, 0),
        ({**ALL, "ext_input_dim": 1}, 1, 6, 1, 1),
        slow({"co_dim": 1, "ext_input_dim": 1, "inject_ext_input_to_gen": True}, 1, 6, 1, 1),
        (ALL, 1, 1, 1, 0),
        slow({"co_dim": 1, "controller_input_lag": 6}, 3, 6, 1, 0),
        slow({"co_dim": 1, "controller_input_lag": 50, "do_causal_controller": True}, 3, 6, 1, 0),
        slow({"co_dim": 1, "controller_input_lag": 0, "feedback_factors_or_rates": "rates"}, 3, 6, 1, 0),
        slow({"num_steps_for_gen_ic": 1}, 3, 6, 1, 0),
        slow({"num_steps_for_gen_ic": 100, "forward_prediction_bins": 5}, 3, 6, 2, 0),
    ],
    ids=str,
)
def test_it_trains_and_samples(
    small: Make, tmp_path: Path, changes: dict[str, Any], trials: int, bins: int, neurons: int, ext: int
) -> None:
    hp = small(max_epochs=2, kl_increase_steps=0, l2_increase_steps=0, **changes)
    inputs = np.zeros((trials + 1, bins, 1)) if ext else None
    data = counts(trials + 1, bins, neurons)
    one = Session(
        "a",
        data[:trials],
        data[trials:],
        train_ext=None if inputs is None else inputs[:trials],
        valid_ext=None if inputs is None else inputs[trials:],
    )
    outcome = training.train(hp, [one], tmp_path)
    costs = {name: value for name, value in outcome.costs.items() if "_sv_" not in name}
    assert all(math.isfinite(value) for value in costs.values())
    assert outcome.step == 2 * -(-trials // hp.batch_size)
    sampler = posterior.Sampler(hp, tmp_path, "a", num_samples=2)
    blocks = list(sampler.blocks(data, inputs))
    assert np.concatenate([b.arrays["rates"] for b in blocks]).shape == data.shape


@pytest.mark.train
def test_sessions_of_one_trial_and_one_neuron_beside_wider_ones(small: Make, tmp_path: Path) -> None:
    hp = small(max_epochs=2, **ALL)
    sessions = [
        Session("a", counts(1, 6, 1), counts(1, 6, 1)),
        Session("b", counts(9, 6, 4), counts(2, 6, 4)),
    ]
    outcome = training.train(hp, sessions, tmp_path)
    assert outcome.step == 2 * 3
    assert all(math.isfinite(value) for value in outcome.costs.values())
    blocks = posterior.Sampler(hp, tmp_path, "a", num_samples=2).blocks(counts(1, 6, 1))
    assert next(iter(blocks)).arrays["rates"].shape == (1, 6, 1)


def test_forward_prediction_must_leave_bins_to_the_encoders(small: Make, tmp_path: Path) -> None:
    one = Session("a", counts(3, 1, 2), counts(1, 1, 2))
    with pytest.raises(ParamsError, match="forward_prediction_bins = 1 leaves the encoders none of the 1"):
        training.train(small(forward_prediction_bins=1), [one], tmp_path)
