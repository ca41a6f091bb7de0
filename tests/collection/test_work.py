"""What a run takes, from its params and sizes."""

from __future__ import annotations

from typing import Any

import pytest

from lfadsrm_hpc.collection.params import RunParams
from lfadsrm_hpc.collection.work import Sizes, work_of

ITEM = {"name": "d", "trials": 100, "neurons": 30, "bins": 500, "bin_ms": 2.0}


def params(**more: Any) -> RunParams:
    return RunParams(**{"spike_bin_ms": 10, "co_dim": 0, "gen_dim": 64, "factors_dim": 8, **more})


def test_sizes_are_those_of_the_models_bins() -> None:
    assert Sizes.of(ITEM, params()) == Sizes(100, 100, 30)
    assert Sizes.of({**ITEM, "bins": 503}, params()) == Sizes(100, 100, 30), "an incomplete bin is dropped"


def test_work_by_hand() -> None:
    one = params(ic_enc_dim=10, gen_dim=20, factors_dim=5, train_to_test_ratio=4, batch_size=30,
                 num_samples_posterior=7)  # fmt: skip
    work = work_of(one, [Sizes(100, 50, 30)])
    encoding = 2 * 3 * 10 * (10 + 30) * 50
    decoding = 3 * 20 * 20 * 50 + 50 * 20 * 5 + 50 * 5 * 30
    assert work.epoch == (3 * 80 + 20) * (encoding + decoding)
    assert work.sampling == 100 * (encoding + 7 * decoding)
    assert work.steps_per_epoch == 3


@pytest.mark.parametrize(
    "more",
    [{"gen_dim": 128}, {"factors_dim": 20}, {"co_dim": 2}, {"ic_enc_dim": 256}, {"spike_bin_ms": 5}],
)
def test_larger_models_take_more(more: dict[str, Any]) -> None:
    plain, larger = (work_of(p, [Sizes.of(ITEM, p)]) for p in (params(), params(**more)))
    assert larger.epoch > plain.epoch
    assert larger.sampling > plain.sampling


def test_stitched_runs_take_the_sum_of_their_sessions() -> None:
    one = params()
    data = Sizes.of(ITEM, one)
    both = work_of(one, [data, data])
    assert both.epoch == pytest.approx(2 * work_of(one, [data]).epoch, rel=0.2)
    assert both.posterior_bytes == 2 * work_of(one, [data]).posterior_bytes


def test_pushed_means_take_one_sample() -> None:
    sampled, pushed = params(), params(posterior_mean_kind="posterior_push_mean")
    data = Sizes.of(ITEM, sampled)
    assert work_of(sampled, [data]).sampling > 50 * work_of(pushed, [data]).sampling
