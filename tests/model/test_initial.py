"""How the parameters start."""

import numpy as np
import pytest

from lfadsrm_hpc.model.hyperparameters import Hyperparameters
from lfadsrm_hpc.model.network.architecture import Architecture
from lfadsrm_hpc.model.network.initial import MAX_READ_OUT, initial_parameters
from lfadsrm_hpc.model.session import Session


def test_extreme_alignment_of_a_near_silent_neuron_is_read_in_but_not_out() -> None:
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(6, 3)) * 0.1
    matrix[4] = [30.0, 0.0, 0.0]
    counts = rng.poisson(0.3, (8, 10, 6))
    session = Session("a", counts, counts, alignment_matrix=matrix, alignment_bias=np.full(6, 0.3))
    hp = Hyperparameters(factors_dim=3, gen_dim=8, ic_enc_dim=8, ic_dim=4, co_dim=0)
    arrays = initial_parameters(Architecture.of(hp, [session]), [session])
    np.testing.assert_allclose(arrays["readin/W"][0], matrix, rtol=1e-6)
    read_out = arrays["readout/W"][0].T
    np.testing.assert_allclose(read_out[4], [MAX_READ_OUT, 0.0, 0.0], rtol=1e-6)
    others = [0, 1, 2, 3, 5]
    np.testing.assert_allclose(read_out[others], matrix[others], rtol=1e-6)


@pytest.mark.parametrize("output_dist", ["poisson", "negative_binomial", "gaussian"])
def test_read_outs_of_stitched_sessions_start_at_the_log_of_mean_counts(output_dist: str) -> None:
    """The original put mean counts where log-rates belong; a silent neuron has a floor."""
    rng = np.random.default_rng(1)
    sessions = []
    for name, neurons in (("a", 4), ("b", 6)):
        counts = rng.poisson(rng.uniform(0.05, 2.0, neurons), (20, 15, neurons))
        counts[..., 1] = 0
        matrix, bias = rng.normal(size=(neurons, 3)) * 0.2, rng.uniform(0, 1, neurons)
        sessions.append(Session(name, counts, counts[:2] + 7, alignment_matrix=matrix, alignment_bias=bias))
    hp = Hyperparameters(factors_dim=3, gen_dim=8, ic_enc_dim=8, ic_dim=4, co_dim=0, output_dist=output_dist)
    arrays = initial_parameters(Architecture.of(hp, sessions), sessions)
    for k, session in enumerate(sessions):
        means = session.train.mean(axis=(0, 1))
        expected = means if output_dist == "gaussian" else np.log(np.maximum(means, 1e-4))
        np.testing.assert_allclose(arrays["readout/b"][k, : session.neurons], expected, rtol=1e-6)
        assert session.alignment_matrix is not None
        assert session.alignment_bias is not None
        count = session.neurons
        np.testing.assert_allclose(arrays["readin/W"][k, :count], session.alignment_matrix, rtol=1e-6)
        np.testing.assert_allclose(
            arrays["readin/b"][k], -session.alignment_bias @ session.alignment_matrix, rtol=1e-6
        )
        np.testing.assert_allclose(arrays["readout/W"][k, :, :count], session.alignment_matrix.T, rtol=1e-6)


def test_a_session_without_a_matrix_beside_one_with_it_starts_at_random() -> None:
    rng = np.random.default_rng(1)
    counts = rng.poisson(0.5, (20, 15, 5))
    matrix = rng.normal(size=(5, 3)) * 0.2
    sessions = [
        Session("a", counts, counts, alignment_matrix=matrix, alignment_bias=counts.mean(axis=(0, 1))),
        Session("b", counts, counts),
    ]
    starts = []
    for seed in (0, 0, 1):
        hp = Hyperparameters(factors_dim=3, gen_dim=8, ic_enc_dim=8, ic_dim=4, co_dim=0, seed=seed)
        starts.append(initial_parameters(Architecture.of(hp, sessions), sessions))
    for arrays in starts:
        np.testing.assert_allclose(arrays["readin/W"][0], matrix, rtol=1e-6)
        assert np.abs(arrays["readin/W"][1]).min() > 0
        np.testing.assert_array_equal(arrays["readin/b"][1], 0)
        np.testing.assert_allclose(arrays["readout/b"][0], arrays["readout/b"][1])
    np.testing.assert_array_equal(starts[0]["readin/W"], starts[1]["readin/W"])
    assert np.abs(starts[0]["readin/W"][1] - starts[2]["readin/W"][1]).min() > 0
