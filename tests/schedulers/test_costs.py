"""What a submission will cost: pure functions over what was measured."""

from __future__ import annotations

from typing import Any

import pytest

from lfadsrm_hpc.collection.params import RunParams
from lfadsrm_hpc.model.training.schedule import LearningRate
from lfadsrm_hpc.schedulers.costs import Measured, RunNeeds, estimate, least_epochs
from lfadsrm_hpc.schedulers.resources import JobRequest


def needs(run_id: str = "a", work: float = 1e9, **more: Any) -> RunNeeds:
    about = {"sampling_work": 1e9, "least_epochs": 100, "most_epochs": None, "posterior_bytes": 1e6, **more}
    return RunNeeds(run_id, work, **about)


def requests(*runs: RunNeeds, walltime_s: int = 3600, **more: Any) -> dict[str, JobRequest]:
    return {run.run_id: JobRequest(walltime_s, **more) for run in runs}


@pytest.mark.parametrize(("stop", "factor", "compared"), [(1e-5, 0.98, 6), (1e-3, 0.95, 1), (0.0099, 0.5, 3)])
def test_training_cannot_end_sooner_than_the_least_epochs(stop: float, factor: float, compared: int) -> None:
    hp = RunParams(
        learning_rate_init=0.01,
        learning_rate_stop=stop,
        learning_rate_decay_factor=factor,
        learning_rate_n_to_compare=compared,
    )
    rate, epochs = LearningRate(hp, 0.01), 0
    while not rate.below_stop:
        epochs += 1
        rate.update(float(epochs))  # each epoch worse than all before: the rate falls as often as it can
    assert least_epochs(0.01, stop, factor, compared, None) == epochs


def test_max_epochs_bounds_the_least() -> None:
    assert least_epochs(0.01, 1e-5, 0.98, 6, 50) == 50
    assert least_epochs(0.01, 1e-5, 1.0, 6, None) == 1, "the rate never falls: nothing is known"
    assert least_epochs(0.01, 1e-5, 1.0, 6, 7) == 7


def test_nothing_measured_says_nothing_about_time() -> None:
    runs = [needs("a"), needs("b")]
    cost = estimate(runs, requests(*runs, gpus=1, cpus=4), [])
    assert (cost.basis, cost.expected_s, cost.gpu_hours, cost.walltime_s) == ("", {}, None, None)
    assert (cost.core_hours_at_least, cost.elapsed_at_least_s) == (None, None)
    assert cost.gpu_hours_at_most == 2
    assert cost.core_hours_at_most == 8
    assert cost.memory_fits is None
    assert cost.disk_bytes == 2e6
    assert cost.disk_basis == "uncompressed, so at most"


def test_a_timing_carries_over_by_arithmetic() -> None:
    small, large = needs("s", 1e9, most_epochs=200), needs("l", 4e9, least_epochs=10, sampling_work=2e9)
    timing = Measured(small, "timed", "cpu, 2 threads", seconds_per_epoch=2.0, start_s=10.0, sampling_s=5.0)
    cost = estimate([small, large], requests(small, large, gpus=2), [timing])
    assert cost.least_s == {"s": 10 + 5 + 100 * 2.0, "l": 10 + 10 + 10 * 8.0}
    assert cost.expected_s == {"s": 10 + 5 + 200 * 2.0}, "without max_epochs the end is not known"
    assert cost.gpu_hours is None
    assert cost.gpu_hours_at_least == pytest.approx(2 * (215 + 100) / 3600)
    assert cost.elapsed_at_least_s == 215
    assert cost.walltime_s == pytest.approx(1.5 * 415)
    assert "s on cpu, 2 threads" in cost.basis


def test_complete_runs_are_believed_more_than_a_timing() -> None:
    done, run = needs("done", 1e9, sampling_work=0), needs("run", 3e9, sampling_work=0)
    timing = Measured(done, "timed", seconds_per_epoch=99.0)
    complete = Measured(
        done, "complete", "A100", total_s=600.0, epochs=300, peak_memory_mb=2000.0, posterior_bytes=2.5e5
    )
    cost = estimate([run], requests(run, gpus=1, memory_mb=1500), [timing, complete])
    assert cost.expected_s == {"run": pytest.approx(1800.0)}
    assert cost.gpu_hours == pytest.approx(0.5)
    assert cost.basis == "1 complete run on A100"
    assert (cost.peak_memory_mb, cost.memory_fits) == (2000.0, False)
    assert cost.disk_bytes == pytest.approx(2.5e5)
    assert cost.too_long == ()


def test_runs_that_cannot_end_in_time_are_named() -> None:
    run = needs("run", least_epochs=10_000)
    timing = Measured(run, "timed", seconds_per_epoch=1.0)
    assert estimate([run], requests(run, walltime_s=3600), [timing]).too_long == ("run",)
    assert estimate([run], requests(run, walltime_s=36000), [timing]).too_long == ()


@pytest.mark.parametrize(("most", "elapsed"), [(0, 3600), (1, 4 * 3600), (2, 2 * 3600), (3, 2 * 3600)])
def test_elapsed_time_heeds_the_throttle(most: int, elapsed: float) -> None:
    runs = [needs(name) for name in "abcd"]
    assert estimate(runs, requests(*runs), [], max_parallel=most).elapsed_at_most_s == elapsed


def test_runs_that_share_a_task_are_paid_once() -> None:
    runs = [needs(name, most_epochs=100) for name in "abcdef"]
    timing = Measured(runs[0], "timed", seconds_per_epoch=10.0, start_s=0.0, peak_memory_mb=3000.0)
    asked = requests(*runs, gpus=2, cpus=16, memory_mb=12000)
    cost = estimate(runs, asked, [timing], tasks=["abcd", "ef"])
    assert cost.gpu_hours_at_most == 2 * 2
    assert cost.core_hours_at_most == 2 * 16
    assert cost.elapsed_at_most_s == 3600
    # Two GPUs: four runs take twice as long as one, two runs as long as one.
    assert cost.gpu_hours == pytest.approx((2000 + 1000) * 2 / 3600)
    assert cost.elapsed_s == 2000
    assert cost.walltime_s == pytest.approx(3000)
    assert cost.at_once == 4
    assert cost.memory_fits is True, "four at once, as far as the memory of their GPUs allows"
    assert estimate(runs, asked, [timing], tasks=["abcdef"]).memory_fits is False
    assert estimate(runs, asked, [timing], tasks=["abcdef"], slots=4).memory_fits is True
    assert estimate(runs, asked, [timing], tasks=["abcd", "ef"], slots=1).elapsed_s == 4000
    assert estimate(runs, asked, [timing], tasks=["abcd", "ef"], max_parallel=1).elapsed_s == 3000


def test_runs_that_share_a_task_and_do_not_end_in_its_time_are_named() -> None:
    runs = [needs(name, most_epochs=100) for name in "abcd"]
    timing = Measured(runs[0], "timed", seconds_per_epoch=10.0)
    cost = estimate(runs, requests(*runs, cpus=8, walltime_s=1500), [timing], tasks=["abcd"])
    assert cost.too_long == ("c", "d"), "two at once on eight cores: the last two begin after 1000 s"
    assert cost.walltime_s == pytest.approx(3000)
    assert estimate(runs, requests(*runs, cpus=2), [timing], tasks=["abcd"]).elapsed_s == 4000


def test_the_nearest_complete_run_is_taken() -> None:
    near, far = needs("near", 1e9, sampling_work=0), needs("far", 1e12, sampling_work=0)
    run = needs("run", 2e9, sampling_work=0)
    measured = [
        Measured(far, "complete", total_s=1e6, epochs=1),
        Measured(near, "complete", total_s=100.0, epochs=1),
    ]
    assert estimate([run], requests(run), measured).expected_s == {"run": pytest.approx(200.0)}
