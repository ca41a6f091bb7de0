"""Figures of runs and collections, from files that were made up: `run.plot_...`, `rc.plot_...`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parent))
from made_up_runs import NEURONS, SHOWN, build

from lfadsrm_hpc import RunCollection
from lfadsrm_hpc.api import Run
from lfadsrm_hpc.errors import DataError, MismatchError, NotFoundError, ResultsError, UsageError
from lfadsrm_hpc.results import averages
from lfadsrm_hpc.results.arrays import stored as stored_arrays


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> RunCollection:
    return build(tmp_path_factory.mktemp("made_up") / "runs")


@pytest.fixture(scope="module")
def run(collection: RunCollection) -> Run:
    return collection.find_run("stitched", factors_dim=SHOWN, l2_gen_scale=10, seed=0)


# method -> arguments, and how many axes there are
METHODS: dict[str, tuple[dict[str, Any], int]] = {
    "plot_learning_curves": ({}, 1),
    "plot_single_trial_rates": ({"neuron": 2, "dataset": "day2"}, 1),
    "plot_average_rates": ({"neurons": [2, 3], "dataset": "day2"}, 2),
    "plot_raster": ({"trial": 5, "dataset": "day2"}, 1),
    "plot_factors": ({"factors": [0, 3, 4], "dataset": "day2"}, 3),
    "plot_factors_3d": ({"dataset": "day2"}, 1),
    "plot_inferred_inputs": ({"dataset": "day2"}, 4),
    "plot_session_components": ({"components": 2}, 3),
    "plot_session_alignment": ({"components": 2, "conditions": [1]}, 3),
    "plot_generator_weights": ({}, 3),
    "plot_readout_weights": ({}, 3),
    "plot_generator_eigenvalues": ({}, 1),
}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_returns_axes_new_or_given(run: Run, method: str) -> None:
    arguments, count = METHODS[method]
    new = np.ravel(np.array(getattr(run, method)(**arguments), dtype=object))
    assert len(new) == count
    assert all(isinstance(ax, Axes) for ax in new)
    depth = {"projection": "3d"} if method.endswith("3d") else {}
    given = Figure().subplots(1, count, squeeze=False, subplot_kw=depth)[0]
    name, value = ("ax", given[0]) if "ax" in getattr(Run, method).__annotations__ else ("axes", given)
    found = np.ravel(np.array(getattr(run, method)(**arguments, **{name: value}), dtype=object))
    assert list(found) == list(given)


def test_what_a_run_shows_is_what_it_loads(run: Run) -> None:
    with run.load_posterior_means("day2") as means:
        rates = means.rates.sel(neuron=4).values[means.condition.values == 3]
    ax = run.plot_single_trial_rates(4, dataset="day2", conditions=[3])
    mean = next(line for line in ax.get_lines() if line.get_label() == "3")
    np.testing.assert_allclose(mean.get_ydata(), rates.mean(axis=0), rtol=1e-6)


def test_the_spikes_of_a_raster_are_those_of_the_session_in_its_order(run: Run) -> None:
    from lfadsrm_hpc.data.readers import read

    session = read(run.collection.root.parent / "sessions/day3.h5")
    for trial in (0, 4, 11):  # of either split
        ax = run.plot_raster(trial=trial, dataset="day3")
        rows = [round(float(s[:, 1].mean())) for s in ax.collections[0].get_segments()]
        counts = session.spikes.values[trial].sum(axis=0)
        np.testing.assert_array_equal(np.bincount(rows, minlength=NEURONS["day3"]), counts)
    ax = run.plot_raster(neuron=2, dataset="day3", conditions=[5])
    assert ax.get_title().endswith(
        f"{session.spikes.values[session.condition.values == 5][..., 2].sum()} spikes"
    )
    with pytest.raises(UsageError, match="one trial or of one neuron"):
        run.plot_raster(dataset="day3")


def test_spikes_may_be_what_is_aligned(run: Run) -> None:
    drawn = run.plot_session_alignment(1, conditions=[0], variable="spikes")
    rates = run.plot_session_alignment(1, conditions=[0])
    assert not np.allclose(drawn[0].get_lines()[0].get_ydata(), rates[0].get_lines()[0].get_ydata())


def test_files_are_closed(run: Run) -> None:
    """What is drawn does not hold a file: it can be replaced, also where files in use cannot."""
    import gc

    import netCDF4

    run.plot_factors(dataset="day1")
    run.plot_session_components()
    gc.collect()
    with netCDF4.Dataset(str(run.layout.posterior_means("day1")), "a"):
        pass


def test_several_datasets_need_a_name_and_one_does_not(collection: RunCollection, run: Run) -> None:
    with pytest.raises(NotFoundError, match="has 3 datasets: day1, day2, day3"):
        run.plot_factors()
    single = collection.find_run("single_day1", factors_dim=SHOWN, l2_gen_scale=10, seed=0)
    assert len(single.plot_factors()) == SHOWN
    assert len(run.plot_session_components(1, datasets=["day1", "day3"])) == 1
    with pytest.raises(DataError, match="no read-in"):
        single.plot_session_alignment()
    with pytest.raises(ResultsError, match="not complete"):
        collection.find_run("stitched", factors_dim=2, l2_gen_scale=10, seed=0).plot_factors(dataset="day1")


def test_a_raster_reads_the_spikes_that_it_draws_alone(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[int, ...]] = []
    plain = stored_arrays.Source.read

    def watched(self: Any, name: str, key: Any) -> Any:
        found = plain(self, name, key)
        if name.endswith("_data"):
            read.append(found.shape)
        return found

    monkeypatch.setattr(stored_arrays.Source, "read", watched)
    run.plot_raster(trial=4, dataset="day3")
    (shape,) = read
    assert len(shape) == 2, "one trial: bins and neurons"


@pytest.mark.parametrize(("method", "name"), [("alignment", "rates"), ("components", "factors")])
def test_sessions_are_averaged_in_blocks_of_trials(
    run: Run, monkeypatch: pytest.MonkeyPatch, method: str, name: str
) -> None:
    largest = 0
    plain = stored_arrays.Source.read

    def watched(self: Any, own: str, key: Any) -> Any:
        nonlocal largest
        found = plain(self, own, key)
        if own == name:
            largest = max(largest, len(found))
        return found

    monkeypatch.setattr(stored_arrays.Source, "read", watched)
    monkeypatch.setattr(averages, "_BLOCK_BYTES", 1 << 10)
    with run.load_posterior_means("day1") as means:
        trials = means.sizes["trial"]
    getattr(run, f"plot_session_{method}")(2)
    assert 0 < largest < trials


def test_inputs_of_other_data_are_refused(make: Any) -> None:
    (own,) = make().runs
    own.plot_raster(trial=0)
    with h5py.File(own.input_files()["day1"], "r+", locking=False) as file:
        file.attrs["fingerprint"] = "0" * 64
    with pytest.raises(MismatchError, match="not the one that the posterior means were made from"):
        own.plot_raster(trial=0)


def test_inputs_that_are_gone_are_told_of(run: Run, tmp_path: Path) -> None:
    shutil.copytree(run.collection.path, tmp_path / "reaching")
    copy = RunCollection.open(tmp_path / "reaching").find_run(
        "stitched", factors_dim=SHOWN, l2_gen_scale=10, seed=0
    )
    copy.input_files()["day1"].unlink()
    with pytest.raises(NotFoundError, match="inputs of the run are gone"):
        copy.plot_raster(trial=0, dataset="day1")


def test_learning_curves_name_runs_by_what_differs(collection: RunCollection) -> None:
    ax = collection.plot_learning_curves(collection.find_runs(l2_gen_scale=10, seed=0))
    names = {line.get_label() for line in ax.get_lines() if not line.get_label().startswith("_")}
    assert names == {
        f"{spec}, factors_dim={f}" for spec in ("stitched", "single_day1") for f in (2, 4, 8, 16)
    }
    one = collection.plot_learning_curves(
        collection.find_runs("stitched", l2_gen_scale=10, seed=0, factors_dim=8)
    )
    assert {"training", "validation"} <= {line.get_label() for line in one.get_lines()}


def test_a_sweep_of_a_collection(collection: RunCollection) -> None:
    drawn = collection.plot_sweep()  # factors_dim and l2_gen_scale differ, besides the seed
    assert [ax.get_title() for ax in drawn] == ["single_day1: 16 runs", "stitched: 16 runs"]
    table = collection.runs_table()
    own = table[(table.spec == "stitched") & (table.l2_gen_scale == 100)]
    expected = own.groupby("factors_dim").lowest_valid_cost.mean()
    np.testing.assert_allclose(drawn[1].images[0].get_array()[1], expected)
    ax = collection.plot_sweep("valid_cost", "factors_dim", runs=collection.find_runs("stitched"))
    assert (ax.get_xlabel(), ax.get_title()) == ("factors_dim", "16 runs")
    alone = collection.plot_sweep(over="co_dim", runs=collection.find_runs("stitched"))
    assert [t.get_text() for t in alone.get_xticklabels()] == ["2"], "a hyperparameter that was not swept"
    with pytest.raises(NotFoundError, match="no column 'co_bps'"):
        collection.plot_sweep("co_bps", "factors_dim")
    with pytest.raises(UsageError, match="no hyperparameter differs"):
        collection.plot_sweep(runs=collection.find_runs("stitched", factors_dim=8, l2_gen_scale=10, seed=0))
