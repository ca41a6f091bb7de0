"""Names and hashes of the Matlab run manager's params, against folders that Matlab itself has named."""

from __future__ import annotations

from typing import Any

import pytest

from lfadsrm_hpc.collection.params import RunParams
from lfadsrm_hpc.results.legacy.matlab_params import ALL_STEPS, data_hash, param_hash, to_matlab

# From the documentation of the run manager: `[4 param_Qr2PeG data_RE1kuL] LorenzExperiment.RunParams ...`
LORENZ: dict[str, Any] = {
    "use_alignment_matrix": True, "ic_enc_dim": 64, "gen_dim": 64, "co_dim": 0, "batch_size": 150,
    "learning_rate_stop": 1e-3,
}  # fmt: skip
NAMED = {2: ("7I6XSW", "cgrfui"), 4: ("O4V73g", "2_zdvC"), 6: ("ngqEhM", "GeiefE"), 8: ("Qr2PeG", "RE1kuL")}


@pytest.mark.parametrize("factors", NAMED)
def test_hashes_are_those_of_matlab(factors: int) -> None:
    values = to_matlab(RunParams(**LORENZ, factors_dim=factors).values())
    assert (param_hash(values), data_hash(values)) == NAMED[factors]


def test_what_matlab_does_not_know_tells_runs_apart() -> None:
    values = to_matlab(RunParams(**LORENZ).values())
    assert len({param_hash(values), param_hash(values, {"seed": 1}), param_hash(values, {"seed": 2})}) == 3


def test_sampling_is_in_no_hash() -> None:
    one, other = (to_matlab(RunParams(**LORENZ, num_samples_posterior=count).values()) for count in (16, 512))
    assert one != other
    assert param_hash(one) == param_hash(other)


def test_all_steps_and_alignment_have_the_words_of_matlab() -> None:
    values = to_matlab(RunParams(alignment_method="ridge").values())
    assert values["alignmentApproach"] == "ridgeRegressGlobalPCs"
    assert values["c_num_steps_for_gen_ic"] == ALL_STEPS
    assert param_hash(to_matlab(RunParams(use_alignment_matrix=False).values())) == param_hash({})
