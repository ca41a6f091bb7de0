"""What a run makes up, and its parameters, from the run itself."""

from __future__ import annotations

import numpy as np
import pytest

from lfadsrm_hpc import RunCollection
from lfadsrm_hpc.errors import DataError, NotFoundError, ResultsError
from lfadsrm_hpc.results.model_params import of_dataset

pytestmark = pytest.mark.train


def test_samples_from_the_prior_of_a_run(trained: RunCollection) -> None:
    run = trained.find_run("both", 0)
    found = run.prior_samples(6, dataset="day2")
    assert dict(found.rates.sizes) == {"sample": 6, "time": 8, "neuron": 4}
    assert list(found.neuron_name.values) == ["a2", "b2", "c2", "d2"]
    means = run.load_posterior_means("day2")
    np.testing.assert_array_equal(found.time, means.time)
    # by the parameters of the run: factors to rates, in spikes/s
    own = of_dataset(run.load_model_params(), "day2")
    rates = np.exp(found.factors @ own.readout_W + own.readout_b) / 0.010
    np.testing.assert_allclose(found.rates, rates.transpose(*found.rates.dims), rtol=1e-4)
    np.testing.assert_allclose(run.prior_samples(2, dataset="day2").factors, found.factors[:2], rtol=1e-5)
    assert np.abs(run.prior_samples(2, dataset="day2", seed=5).factors - found.factors[:2]).max() > 1e-3


def test_what_is_refused(trained: RunCollection) -> None:
    with pytest.raises(NotFoundError, match="has 2 datasets: day1, day2"):
        trained.find_run("both", 0).prior_samples(2)
    alone = trained.find_run("alone", 0)
    with pytest.raises(DataError, match="the generator of this model has no external inputs"):
        alone.prior_samples(2, ext_input=np.zeros((8, 1)))
    alone.layout.model_params.unlink()
    with pytest.raises(ResultsError, match="no model parameters here"):
        alone.load_model_params()
