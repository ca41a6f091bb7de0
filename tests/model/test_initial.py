"""How the parameters start."""

import numpy as np

from lfadsrm_hpc.model.architecture import Architecture
from lfadsrm_hpc.model.hyperparameters import Hyperparameters
from lfadsrm_hpc.model.initial import MAX_READ_OUT, initial_parameters
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
