"""TensorBoard events: the original's tags, readable by TensorBoard itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lfadsrm_hpc import layout
from lfadsrm_hpc.model.hyperparameters import Hyperparameters
from lfadsrm_hpc.model.session import Session
from lfadsrm_hpc.model.training import loop as training
from lfadsrm_hpc.model.training.scalars import original_tags, prior_tags
from lfadsrm_hpc.model.training.schedule import COLUMNS


def test_scores_that_are_not_there_have_no_tag() -> None:
    row = dict.fromkeys(COLUMNS, 1.0)
    assert "Sample_validation_cost__train_" in original_tags(row)
    row["train_sv_recon"] = math.nan
    tags = original_tags(row)
    assert "Sample_validation_cost__train_" not in tags
    assert tags["Total_cost__train_"] == 1.0


def test_priors_are_told_as_time_constant_and_process_variance() -> None:
    tags = prior_tags(np.log([10.0, 5.0]), np.log([0.1, 0.2]))
    assert tags["AR_Autocorrelation_taus_0"] == pytest.approx(10.0)
    assert tags["AR_Variances_0"] == pytest.approx(0.551666, rel=1e-5)  # that of the original's defaults
    assert tags["AR_Variances_1"] == pytest.approx(0.2 / (1 - math.exp(-0.4)))


@pytest.mark.train
def test_tensorboard_reads_what_training_wrote(
    small: Callable[..., Hyperparameters], session: Callable[..., Session], tmp_path: Path
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    hp = small(max_epochs=3, co_dim=2, co_mean_corr_scale=0.5)
    training.train(hp, [session()], tmp_path)
    events = EventAccumulator(str(layout.tensorboard_events(tmp_path))).Reload()
    tags = set(events.Tags()["scalars"])
    log = np.genfromtxt(layout.fitlog(tmp_path), delimiter=",", names=True)
    for column, tag in (("valid_recon", "Reconstruction_cost__valid_"), ("learning_rate", "Learning_rate")):
        found = events.Scalars(tag)
        assert [event.step for event in found] == log["step"].tolist()
        np.testing.assert_allclose([event.value for event in found], log[column], rtol=1e-6)
    assert {"Gradient_global_norm", "Corr_cost", "AR_Variances_1", "KL_cost__train_", "L2_weight"} <= tags
    assert all(event.value > 0 for event in events.Scalars("Gradient_global_norm"))
