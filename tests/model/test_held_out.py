"""Which neurons are withheld from the encoders."""

import numpy as np
import pytest

from lfadsrm_hpc.errors import DataError
from lfadsrm_hpc.model.held_out import held_out_mask
from lfadsrm_hpc.model.hyperparameters import Hyperparameters


def test_a_fraction_is_drawn_by_seed_and_session_alone() -> None:
    hp = Hyperparameters(held_out_neurons=0.2, held_out_seed=3)
    mask = held_out_mask(hp, "day1", 25)
    assert mask is not None
    assert mask.sum() == 5
    np.testing.assert_array_equal(mask, held_out_mask(hp, "day1", 25))
    others = [
        held_out_mask(hp, "day2", 25),
        held_out_mask(Hyperparameters(held_out_neurons=0.2, held_out_seed=4), "day1", 25),
    ]
    assert all(not np.array_equal(mask, other) for other in others)


RECORDED = [2, 7, 9]


def test_the_draw_never_changes() -> None:
    # Results of earlier releases were scored on these neurons.
    mask = held_out_mask(Hyperparameters(held_out_neurons=0.3), "dataset001", 10)
    assert mask is not None
    assert np.flatnonzero(mask).tolist() == RECORDED


def test_indices_none_and_errors() -> None:
    assert held_out_mask(Hyperparameters(), "a", 4) is None
    mask = held_out_mask(Hyperparameters(held_out_neurons=[2, 0]), "a", 4)
    assert mask is not None
    assert mask.tolist() == [True, False, True, False]
    with pytest.raises(DataError, match="neuron 7, and there are 4"):
        held_out_mask(Hyperparameters(held_out_neurons=[7]), "a", 4)
    with pytest.raises(DataError, match="none is left"):
        held_out_mask(Hyperparameters(held_out_neurons=[0]), "a", 1)
    one = held_out_mask(Hyperparameters(held_out_neurons=0.01), "a", 5)
    assert one is not None
    assert one.sum() == 1
