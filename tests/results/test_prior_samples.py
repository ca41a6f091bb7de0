"""Samples from the prior as a Dataset."""

from __future__ import annotations

import numpy as np
import pytest

from lfadsrm_hpc.results.prior_samples import prior_dataset


@pytest.mark.parametrize("outputs", [("rates",), ("output_mean", "output_var")])
def test_samples_have_dimensions_and_units(outputs: tuple[str, ...]) -> None:
    rng = np.random.default_rng(0)
    arrays = {name: rng.random((4, 3, 2)) for name in outputs}
    arrays |= {"factors": rng.random((4, 3, 5)), "generator_ics": rng.random((4, 7))}
    arrays |= {"generator_states": rng.random((4, 3, 7)), "controller_outputs": rng.random((4, 3, 1))}
    found = prior_dataset(
        arrays, time_ms=[-20, 0, 20], bin_ms=20.0, neuron_names=["u1", "u7"], attributes={"run_id": "x"}
    )
    assert set(found.data_vars) == set(arrays)
    for name, values in arrays.items():
        factor = 50 if name == "rates" else 1
        np.testing.assert_allclose(found[name], values * factor, rtol=1e-6)
        assert "drawn from the prior" in found[name].attrs["long_name"]
    sizes = {"sample": 4, "time": 3, "neuron": 2, "factor": 5, "generator_unit": 7, "controller_output": 1}
    assert dict(found.sizes) == sizes
    assert found[outputs[0]].attrs["units"] == ("spikes/s" if outputs == ("rates",) else "units of the data")
    assert list(found.neuron_name.values) == ["u1", "u7"]
    np.testing.assert_array_equal(found.time, [-20, 0, 20])
    assert found.attrs["run_id"] == "x"
