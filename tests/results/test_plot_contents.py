"""Figures show the numbers that they say they show; and what cannot be drawn is refused with a reason."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import xarray as xr
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parent))
from made_up_model import BIN_MS, Model, conditions, fit_log
from pictures import TINY, World

from lfadsrm_hpc.errors import DataError, NotFoundError, UsageError
from lfadsrm_hpc.results import plots
from lfadsrm_hpc.results.colors import NAMED, colors, foreground, text_on
from lfadsrm_hpc.results.dynamics import Generator, modes
from lfadsrm_hpc.results.model_params import of_dataset
from lfadsrm_hpc.results.plots.parts import neuron_order, take_axes
from lfadsrm_hpc.results.plots.sessions import shared_space

Floats = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


def lines(ax: Any) -> dict[str, Any]:
    return {line.get_label(): line for line in ax.get_lines()}


# ---------------------------------------------------------------- rates and spikes


def test_averages_and_their_standard_errors(world: World) -> None:
    means = world.one
    (ax,) = plots.average_rates_by_condition(means, 3, conditions=[4, 2])
    trials = means.rates.values[means.condition.values == 2][..., 3]
    np.testing.assert_allclose(lines(ax)["2"].get_ydata(), trials.mean(axis=0))
    np.testing.assert_array_equal(lines(ax)["2"].get_xdata(), means.time)
    band = ax.collections[1].get_paths()[0].vertices
    sem = trials.std(axis=0, ddof=1) / np.sqrt(len(trials))
    at = band[np.isclose(band[:, 0], float(means.time[30]))][:, 1]
    np.testing.assert_allclose([at.min(), at.max()], trials.mean(axis=0)[30] + np.array([-1, 1]) * sem[30])
    assert to_hex(lines(ax)["4"].get_color()) == NAMED[0].lower()


def test_a_single_trial_has_no_standard_error_and_many_conditions_have_no_bands(world: World) -> None:
    few = world.one.isel(trial=[0, 8, 1])  # two trials of condition 0, one of condition 1
    (ax,) = plots.average_rates_by_condition(few, 0)
    assert len(ax.collections) == 1
    (ax,) = plots.average_rates_by_condition(world.sixty, 0)
    assert not ax.collections
    assert len([line for line in ax.get_lines() if len(line.get_xdata()) > 2]) == 60
    assert ax.figure._suptitle.get_text() == "mean over trials"  # type: ignore[union-attr]


def test_six_neurons_are_shown_and_rates_of_others_are_not_read(world: World) -> None:
    drawn = plots.average_rates_by_condition(world.one)
    assert [ax.get_title().split()[1] for ax in drawn] == ["0", "3", "6", "9", "12", "15"]
    assert "rate (spikes/s)" in {ax.get_ylabel() for ax in drawn}


def test_only_so_many_trials_are_drawn_but_all_are_averaged(world: World) -> None:
    means = world.one
    ax = plots.single_trial_rates_by_condition(means, 1, conditions=[3], most_trials=2)
    assert len([line for line in ax.get_lines() if len(line.get_xdata()) > 2]) == 3
    trials = means.rates.values[means.condition.values == 3][..., 1]
    np.testing.assert_allclose(lines(ax)["3"].get_ydata(), trials.mean(axis=0))


def test_conditions_are_found_as_texts_too(world: World) -> None:
    ax = plots.single_trial_rates_by_condition(world.one, conditions=["3"])
    assert "3" in lines(ax)
    with pytest.raises(UsageError, match="no trial has the condition '33'"):
        plots.single_trial_rates_by_condition(world.one, conditions=["33"])


@pytest.mark.parametrize("missing", [np.nan, None, ""])
def test_trials_without_a_condition_are_left_out(world: World, missing: Any) -> None:
    means = world.one
    kinds = [missing if k == 0 else "left" if k == 1 else "right" for k in means.condition.values]
    given = means.assign_coords(condition=("trial", np.array(kinds, dtype=object)))
    ax = plots.single_trial_rates_by_condition(given, 2)
    assert {"left", "right"} <= set(lines(ax))
    assert len([line for line in ax.get_lines() if len(line.get_xdata()) > 2]) == 7 * 6 + 2


def test_spikes_of_a_bin_stand_evenly_in_it() -> None:
    spikes = np.zeros((2, 4, 3), int)
    spikes[1, 2, 0], spikes[1, 0, 2] = 2, 1
    data = xr.Dataset({"spikes": (("trial", "time", "neuron"), spikes)}, {"time": [-20.0, -10.0, 0.0, 10.0]})
    ax = plots.raster_of_trial(data, 1)
    segments = np.array(ax.collections[0].get_segments())
    found = sorted((round(float(s[0, 0]), 6), round(float(s[:, 1].mean()), 6)) for s in segments)
    assert found == [(-15.0, 2.0), (2.5, 0.0), (7.5, 0.0)]
    assert ax.get_xlim() == (-20.0, 20.0)
    assert ax.get_title() == "trial 1: 3 spikes"
    with pytest.raises(UsageError, match="there is no trial 2: they are 0 to 1"):
        plots.raster_of_trial(data, 2)


def test_a_raster_of_a_neuron_is_sorted_by_condition(world: World) -> None:
    means = world.one
    ax = plots.raster_of_neuron(means, 3, conditions=[5, 1])
    segments, shades = ax.collections[0].get_segments(), ax.collections[0].get_colors()
    rows = np.array([round(float(s[:, 1].mean())) for s in segments])
    counts = np.concatenate(
        [means.spikes.values[means.condition.values == k][..., 3].sum(axis=1) for k in (5, 1)]
    )
    np.testing.assert_array_equal(np.bincount(rows, minlength=12), counts)
    assert {to_hex(c) for c in shades[rows < 6]} == {NAMED[0].lower()}
    assert {to_hex(c) for c in shades[rows >= 6]} == {NAMED[1].lower()}
    assert [t.get_text() for t in ax.get_yticklabels()] == ["5", "1"]


def test_what_is_no_spike_count_has_no_raster(world: World) -> None:
    with pytest.raises(DataError, match="continuous"):
        plots.raster_of_trial(world.one.assign(spikes=world.one.rates + 0.5), 0)
    with pytest.raises(DataError, match="no spikes"):
        plots.raster_of_neuron(world.one.drop_vars("spikes"))


def test_fits_to_continuous_data_have_means_in_units_of_the_data(world: World) -> None:
    about = {"units": "units of the data"}
    values = world.one.drop_vars(["rates", "spikes"]).assign(output_mean=world.one.rates.assign_attrs(about))
    ax = plots.single_trial_rates_by_condition(values, 2)
    assert ax.get_ylabel() == "mean (units of the data)"
    assert plots.average_rates_by_condition(values, 2)[0].get_ylabel() == "mean (units of the data)"
    with pytest.raises(UsageError, match="no variable 'rates'"):
        plots.average_rates_by_condition(values, 2, variable="rates")
    params = world.params().assign_attrs(hyperparameters=json.dumps({"output_dist": "gaussian"}))
    drawn = plots.readout_weights(params)
    assert drawn[0].figure.axes[-1].get_ylabel() == "weight"


# ---------------------------------------------------------------- factors and inputs


def test_factors_over_time_are_those_that_vary_most(world: World) -> None:
    means = world.one
    wide = xr.concat([means.factors * scale for scale in (1, 0.01, 2)], "factor")  # 18, six of them flat
    given = means.drop_vars("factors").assign(factors=wide.transpose("trial", "time", "factor"))
    drawn = plots.factors_over_time(given)
    titles = [ax.get_title() for ax in drawn]
    assert titles == [f"factor {k}" for k in (*range(6), *range(12, 18))]
    assert drawn[0].figure._suptitle.get_text().startswith("12 of 18 factors")
    values = means.factors.values[means.condition.values == 1].mean(axis=0)
    np.testing.assert_allclose(lines(drawn[6])["1"].get_ydata(), 2 * values[:, 0])
    with pytest.raises(UsageError, match="no factor 18"):
        plots.factors_over_time(given, [0, 18])


def test_inferred_inputs_in_single_trials_and_averages(world: World) -> None:
    means = world.one
    grid = plots.inferred_inputs(means, 1, conditions=[2, 0])
    assert grid.shape == (1, 2)
    values = means.controller_outputs.values[..., 1]
    own = [values[means.condition.values == k] for k in (2, 0)]
    np.testing.assert_array_equal(grid[0, 0].images[0].get_array(), np.concatenate(own))
    low, high = grid[0, 0].images[0].get_clim()
    assert low == -high
    np.testing.assert_allclose(lines(grid[0, 1])["0"].get_ydata(), own[1].mean(axis=0))
    assert grid[0, 0].images[0].get_extent()[:2] == [-100.0, 500.0]
    with pytest.raises(DataError, match="no controller"):
        plots.inferred_inputs(world.tiny)


# ---------------------------------------------------------------- sessions


def test_all_sessions_lie_in_one_space(world: World) -> None:
    means = world.three
    drawn = plots.session_components(means, 2, conditions=[1])
    assert len(drawn) == 3
    factors = {name: one.factors.groupby("condition").mean().values for name, one in means.items()}
    stacked = np.stack(list(factors.values()))
    flat = stacked.reshape(-1, stacked.shape[-1])
    _, size, directions = np.linalg.svd(flat - flat.mean(axis=0), full_matrices=False)
    share = size**2 / np.sum(size**2)
    assert drawn[0].get_title() == f"PC 1, {100 * share[0]:.0f} % of variance"
    axis = directions[0] * np.sign(directions[0][np.abs(directions[0]).argmax()])
    expected = (stacked[:, 1] - flat.mean(axis=0)) @ axis
    thin = [line.get_ydata() for line in drawn[0].get_lines() if len(line.get_xdata()) > 2]
    np.testing.assert_allclose(thin, [*expected, expected.mean(axis=0)], atol=1e-9)
    title = drawn[0].figure._suptitle.get_text()
    alike = 1 - [
        ((s - (stacked.sum(0) - s) / 2) ** 2).sum() / ((s - s.mean(axis=(0, 1))) ** 2).sum() for s in stacked
    ] @ np.eye(3)
    assert f"3 sessions, {100 * np.median(alike):.0f} % of each explained by the others (median)" in title


def test_only_shared_conditions_count() -> None:
    rng = np.random.default_rng(0)
    one, two = ({k: rng.standard_normal((5, 3)) for k in kinds} for kinds in ("abc", "cbx"))
    space = shared_space({"one": one, "two": two}, np.arange(5.0))
    assert space.conditions == ["b", "c"]
    assert space.paths.shape == (2, 2, 5, 3)
    same = shared_space({"one": one, "two": one}, np.arange(5.0))
    np.testing.assert_allclose(same.alike, 1.0)
    assert np.isnan(shared_space({"one": one}, np.arange(5.0)).alike).all()
    with pytest.raises(DataError, match="no condition is shared"):
        shared_space({"one": {"a": np.zeros((5, 3))}, "two": {"x": np.zeros((5, 3))}}, np.arange(5.0))
    with pytest.raises(DataError, match="not equally long"):
        shared_space({"one": {"a": np.zeros((5, 3))}, "two": {"a": np.zeros((4, 3))}}, np.arange(5.0))


def test_alignment_sends_averages_through_the_trained_read_ins(world: World) -> None:
    params, means = world.params(), dict(world.three)
    means["day2"] = means["day2"].assign_attrs(held_out_neurons=json.dumps([1, 4]))
    drawn = plots.session_alignment(params, means, 2, conditions=[3])
    assert len(drawn) == 3

    def expected(variable: str, per_bin: float) -> tuple[Floats, Floats]:
        behind = []
        for name, one in means.items():
            counts = one[variable].groupby("condition").mean().values * per_bin
            if name == "day2":
                counts[..., [1, 4]] = 0  # withheld from the encoders, so they see nothing of them
            own = of_dataset(params, name)
            behind.append(counts @ own.readin_W.values + own.readin_b.values)
        stacked = np.stack(behind)
        centred = stacked - stacked.reshape(-1, 6).mean(axis=0)
        values, vectors = np.linalg.eigh(np.cov(centred.reshape(-1, 6).T))
        axis = vectors[:, -1] * np.sign(vectors[np.abs(vectors[:, -1]).argmax(), -1])
        return centred[:, 3] @ axis, values

    def found(drawn: Any) -> list[Floats]:
        return [line.get_ydata() for line in drawn[0].get_lines() if len(line.get_xdata()) > 2]

    paths, values = expected("rates", BIN_MS / 1000)
    np.testing.assert_allclose(found(drawn), paths, rtol=1e-4, atol=1e-4)
    assert drawn[0].get_ylabel() == f"PC 1 (a.u.), {100 * values[-1] / values.sum():.0f} %"
    assert [t.get_text() for t in drawn[-1].get_yticklabels()] == list(means)
    measured = plots.session_alignment(params, means, 2, conditions=[3], variable="spikes")
    np.testing.assert_allclose(found(measured), expected("spikes", 1.0)[0], rtol=1e-4, atol=1e-4)
    with pytest.raises(DataError, match="no read-in"):
        plots.session_alignment(world.params(**TINY), {"only": world.tiny})


def test_sessions_that_the_read_ins_do_not_align_are_told_apart(tmp_path: Path) -> None:
    """The same model, but one session's read-in takes its neurons in the wrong order."""
    model = Model({"day1": 16, "day2": 20})
    means = {name: model.outputs(name, conditions(6, 4)) for name in model.neurons}
    params = model.params(tmp_path)
    good = plots.session_alignment(params, means)[-1].patches
    wrong = params.assign(
        {"readin_W.day2": params["readin_W.day2"].isel({"neuron.day2": slice(None, None, -1)})}
    )
    bad = plots.session_alignment(wrong, means)[-1].patches
    assert good[1].get_width() > 0.8
    assert bad[1].get_width() < 0.3


# ---------------------------------------------------------------- weights and eigenvalues


def test_weights_of_the_generator_in_one_order_for_all_gates(world: World) -> None:
    params = world.params()
    drawn = plots.generator_weights(params, ["c", "u"])
    candidate = params.gen_W_h.sel(gate="c").values
    order = neuron_order(np.concatenate([candidate, candidate.T]))
    for ax, gate in zip(drawn, "cu", strict=True):
        expected = params.gen_W_h.sel(gate=gate).values[np.ix_(order, order)]
        np.testing.assert_array_equal(ax.images[0].get_array(), expected)
    assert len({ax.images[0].get_clim() for ax in drawn}) == 1
    plain = plots.generator_weights(params, ["c"], sort=False)
    np.testing.assert_array_equal(plain[0].images[0].get_array(), candidate)
    with pytest.raises(UsageError, match="no gate 'z'"):
        plots.generator_weights(params, ["z"])


def test_weights_of_read_outs(world: World) -> None:
    params = world.params()
    drawn = plots.readout_weights(params, ["day2"], sort=False)
    np.testing.assert_array_equal(drawn[0].images[0].get_array(), params["readout_W.day2"])
    assert (drawn[0].get_xlabel(), drawn[0].get_ylabel()) == ("neuron", "factor")
    np.testing.assert_array_equal(
        np.sort(plots.readout_weights(params)[0].images[0].get_array(), axis=1),
        np.sort(params["readout_W.day1"], axis=1),
    )
    with pytest.raises(NotFoundError, match="no dataset 'day9'"):
        plots.readout_weights(params, ["day9"])


def dots(ax: Any) -> Floats:
    """Return the eigenvalues that a figure shows, sorted."""
    points = np.concatenate([np.asarray(c.get_offsets()) for c in ax.collections])
    return points[np.lexsort(np.round(points.T, 6))]


def test_eigenvalues_are_those_of_a_numerical_jacobian(world: World) -> None:
    """At the fixed point that the figure names, and at a state of one's own with inputs."""
    params = world.params()
    ax = plots.generator_eigenvalues(params, world.one)
    assert "at the fixed point that 12 of 12 searches find" in ax.get_title()
    assert "turning at 2 Hz" in ax.get_title()

    def expected(generator: Generator, state: Floats) -> Floats:
        rows = [
            (generator.step(state + 1e-6 * e).after - generator.step(state - 1e-6 * e).after) / 2e-6
            for e in np.eye(generator.units)
        ]
        values = np.linalg.eigvals(np.stack(rows))
        points = np.stack([values.real, values.imag], axis=1)
        return points[np.lexsort(np.round(points.T, 6))]

    origin = np.zeros(20)  # the planted fixed point
    np.testing.assert_allclose(dots(ax), expected(Generator.of(params), origin), atol=1e-6)
    state, inputs = np.random.default_rng(0).standard_normal(20), [0.7, -0.4]
    ax = plots.generator_eigenvalues(params, at=state, inputs=inputs, bin_ms=BIN_MS)
    np.testing.assert_allclose(dots(ax), expected(Generator.of(params, inputs), state), atol=1e-6)
    assert "at a given state" in ax.get_title()


def test_growing_modes_are_marked_and_counted(world: World) -> None:
    params = world.params()
    params["gen_W_h"] = params.gen_W_h.where(params.gate != "c", 3 * params.gen_W_h)
    ax = plots.generator_eigenvalues(params, at="origin", bin_ms=BIN_MS)
    values = modes(Generator.of(params).jacobian(np.zeros(20)), BIN_MS).eigenvalue
    growing = int((np.abs(values) > 1).sum())
    assert growing > 0
    assert f"{growing} growing mode" in ax.get_title()
    assert [len(c.get_offsets()) for c in ax.collections] == [20 - growing, growing]


def test_eigenvalues_need_bins_and_states_that_fit(world: World) -> None:
    params = world.params()
    with pytest.raises(UsageError, match="how wide is a bin"):
        plots.generator_eigenvalues(params)
    with pytest.raises(UsageError, match="a state has 20 finite values, and 3"):
        plots.generator_eigenvalues(params, at=[1, 2, 3], bin_ms=10)
    with pytest.raises(UsageError, match="is no state"):
        plots.generator_eigenvalues(params, at="fixd", bin_ms=10)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="different runs"):
        plots.generator_eigenvalues(params, world.tiny)


# ---------------------------------------------------------------- runs


def sweep() -> pd.DataFrame:
    rows = [
        {"spec": "a", "factors_dim": f, "kl": k, "seed": s, "co_bps": f / 10 + k / 100 + s / 1000}
        for f in (2, 4, 16)
        for k in (1, 2)
        for s in range(3)
    ]
    return pd.DataFrame(rows)


def test_a_sweep_shows_each_run_the_means_and_the_spread() -> None:
    ax = plots.sweep_curve(sweep()[sweep().kl == 1], "co_bps", "factors_dim")
    runs, bars, ring = ax.get_lines()[0], ax.containers[0], ax.get_lines()[-1]
    np.testing.assert_allclose(
        runs.get_ydata(), [f / 10 + 0.01 + s / 1000 for f in (2, 4, 16) for s in range(3)]
    )
    np.testing.assert_allclose(bars[0].get_ydata().astype(float), [0.211, 0.411, 1.611])
    heights = [np.ptp(segment[:, 1]) for segment in bars[2][0].get_segments()]
    np.testing.assert_allclose(heights, 2 * np.std([0, 0.001, 0.002], ddof=1))
    assert (ring.get_xdata()[0], ring.get_ydata()[0]) == (16, pytest.approx(1.612))
    assert ax.get_xscale() == "log"
    assert [t.get_text() for t in ax.get_xticklabels()] == ["2", "4", "16"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("factors_dim", "co-smoothing (bits per spike)")


def test_a_cost_is_best_where_it_is_lowest() -> None:
    table = sweep().rename(columns={"co_bps": "lowest_valid_cost"})
    ring = plots.sweep_curve(table, "lowest_valid_cost", "factors_dim").get_lines()[-1]
    assert ring.get_ydata()[0] == table.lowest_valid_cost.min()
    (ax,) = plots.sweep_map(table, "lowest_valid_cost", ["factors_dim", "kl"])
    assert ax.patches[0].get_xy() == (-0.5, -0.5)


def test_two_hyperparameters_give_cells_of_means_and_spread() -> None:
    table = sweep()
    table.loc[(table.factors_dim == 4) & (table.kl == 2), "co_bps"] = np.nan
    table.loc[(table.factors_dim == 2) & (table.kl == 1) & (table.seed > 0), "co_bps"] = np.nan
    (ax,) = plots.sweep_map(table, "co_bps", ("factors_dim", "kl"))
    np.testing.assert_allclose(ax.images[0].get_array(), [[0.21, 0.411, 1.611], [0.221, np.nan, 1.621]])
    written = {text.get_text() for text in ax.texts}
    assert written == {"0.21", "0.411\n±0.001", "1.61\n±0.001", "0.221\n±0.001", "1.62\n±0.001"}
    assert len(ax.get_lines()) == 2, "the pair without a run is crossed out"
    assert ax.get_title() == "13 runs, 5 more without co_bps"
    assert ax.patches[0].get_xy() == (1.5, 0.5)


def test_values_that_are_no_numbers_stand_side_by_side() -> None:
    table = sweep().assign(epochs=lambda t: t.factors_dim.map({2: None, 4: "all", 16: True}).astype(object))
    ax = plots.sweep_curve(table, "co_bps", "epochs", by="nothing")
    assert [t.get_text() for t in ax.get_xticklabels()] == ["None", "True", "all"]


def test_random_values_are_dots() -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {"x": rng.uniform(0.5, 1, 30), "y": 10 ** rng.uniform(-5, 0, 30), "rate_r2": rng.random(30)}
    )
    (ax,) = plots.sweep_map(table, "rate_r2", ("x", "y"))
    np.testing.assert_allclose(ax.collections[0].get_offsets(), table[["x", "y"]])
    assert (ax.get_xscale(), ax.get_yscale()) == ("linear", "log")
    curve = plots.sweep_curve(table, "rate_r2", "x")
    assert not curve.containers, "a line would join noise"


def test_what_no_run_has_is_refused() -> None:
    with pytest.raises(NotFoundError, match="no column 'co_bp'") as caught:
        plots.sweep_curve(sweep(), "co_bp", "factors_dim")
    assert "co_bps" in str(caught.value.hint)
    with pytest.raises(DataError, match="none of 18 runs has a value of co_bps"):
        plots.sweep_curve(sweep().assign(co_bps=np.nan), "co_bps", "kl")
    table = sweep().assign(verdict="good", started=pd.Timestamp("2026-01-01", tz="UTC"))
    for name in ("verdict", "started"):
        with pytest.raises(UsageError, match=f"'{name}' does not hold numbers") as caught:
            plots.sweep_curve(table, name, "kl")
        assert "co_bps" in str(caught.value.hint)
    with pytest.raises(UsageError, match="two different"):
        plots.sweep_map(sweep(), "co_bps", ("kl", "kl"))


def test_ramps_are_shaded_and_the_best_of_many_runs_stands_out() -> None:
    ax = plots.learning_curves(fit_log(ramps=12))
    (shade,) = ax.patches
    left, right = np.asarray(shade.get_extents().transformed(ax.transData.inverted()))[:, 0]
    assert (round(left), round(right)) == (1, 11)
    many = {f"run {k}": fit_log(250 - k, seed=k) for k in range(15)}
    ax = plots.learning_curves(many)
    curves = lines(ax)
    assert curves["run 14"].get_color() == foreground()
    assert curves["run 14"].get_linewidth() == max(line.get_linewidth() for line in curves.values())
    worst, second = (to_rgb(curves[f"run {k}"].get_color()) for k in (0, 13))
    assert worst[2] > second[2], "from blue, the worst, to yellow"


# ---------------------------------------------------------------- axes, colours, grounds


def test_given_axes_are_drawn_into_and_returned(world: World) -> None:
    figure = Figure()
    axes = figure.subplots(2, 3)
    found = plots.average_rates_by_condition(world.one, range(6), axes=axes, legend=False)
    assert list(found) == list(axes.ravel())
    assert figure._suptitle is None  # type: ignore[attr-defined]
    ax = Figure().subplots()
    assert plots.learning_curves(fit_log(), ax=ax) is ax
    assert plots.sweep_curve(sweep(), "co_bps", "kl", ax=ax) is ax
    with pytest.raises(UsageError, match="needs 1 x 6 axes, and 2 are given"):
        plots.average_rates_by_condition(world.one, range(6), axes=axes[0, :2])
    with pytest.raises(UsageError, match="no depth"):
        plots.factors_3d(world.one, ax=ax)
    assert take_axes(ax, 1, 1)[0, 0] is ax


@pytest.mark.parametrize("count", [1, 2, 8, 9, 60])
def test_colours_are_as_many_and_different(count: int) -> None:
    found = [to_hex(color) for color in colors(count)]
    assert len(set(found)) == count


# Colours as people without one kind of cone see them: Machado, Oliveira and Fernandes 2009, severity 1
# (doi 10.1109/TVCG.2009.113), on linear red, green and blue.
CONES = {
    "all": (1, 0, 0, 0, 1, 0, 0, 0, 1),
    "protan": (
        0.152286, 1.052583, -0.204868, 0.114503, 0.786281, 0.099216, -0.003882, -0.048116, 1.051998,
    ),
    "deutan": (
        0.367322, 0.860646, -0.227968, 0.280085, 0.672501, 0.047413, -0.011820, 0.042940, 0.968881,
    ),
    "tritan": (
        1.255528, -0.076749, -0.178779, -0.078411, 0.930809, 0.147602, 0.004733, 0.691367, 0.303900,
    ),
}  # fmt: skip


def linear(palette: list[Any]) -> Floats:
    rgb = np.array([to_rgb(color) for color in palette])
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(rgb: Floats) -> Floats:
    """Return CIE L*a*b* of linear sRGB, white D65."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = np.clip(rgb, 0, 1) @ to_xyz.T / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


@pytest.mark.parametrize("cones", CONES)
def test_colours_are_told_apart_by_everybody(cones: str) -> None:
    named = lab(linear(colors(8)) @ np.reshape(CONES[cones], (3, 3)).T)
    apart = np.linalg.norm(named[:, None] - named[None], axis=-1)[np.triu_indices(8, 1)]
    assert apart.min() > 15  # a difference of 2.3 is just noticeable
    many = lab(linear(colors(30)) @ np.reshape(CONES[cones], (3, 3)).T)
    assert np.linalg.norm(many[0] - many[-1]) > 60
    assert np.all(np.diff(many[:, 0]) > 0), "lighter and lighter"


def contrast(one: Any, two: Any) -> float:
    light, dark = sorted((linear([c]) @ [0.2126, 0.7152, 0.0722] + 0.05).item() for c in (one, two))[::-1]
    return light / dark


@pytest.mark.parametrize("ground", ["light", "dark", "transparent"])
def test_everything_is_seen_on_its_ground(ground: Any, world: World) -> None:
    behind = {"light": ["#ffffff"], "dark": ["#16181d"], "transparent": ["#ffffff", "#16181d"]}[ground]
    with plots.style(ground):
        text = foreground()
        ax = plots.generator_eigenvalues(world.params(), world.one)
        raster = plots.raster_of_trial(world.one, 0)
    assert to_hex(ax.title.get_color()) == to_hex(ax.spines["left"].get_edgecolor()) == to_hex(text)
    assert to_hex(raster.collections[0].get_colors()[0]) == to_hex(text)
    for paper in behind:
        assert contrast(text, paper) > (3.9 if ground == "transparent" else 12)
        for color in [*colors(8), *colors(40)]:
            assert contrast(color, paper) > 2
    assert ax.figure.get_facecolor()[3] == (0 if ground == "transparent" else 1)
    assert text_on((0, 0, 0)) == "#ffffff"
    assert text_on((1, 1, 1)) == "#000000"


def test_a_style_is_of_its_block_alone_and_users_settings_hold_outside(world: World) -> None:
    before = dict(matplotlib.rcParams)
    with plots.style("dark"):
        assert foreground() != before["text.color"]
    assert dict(matplotlib.rcParams) == before
    with matplotlib.rc_context({"text.color": "#123456"}):
        raster = plots.raster_of_trial(world.one, 0)
    assert to_hex(raster.collections[0].get_colors()[0]) == "#123456"


def test_no_figure_is_pyplots(tmp_path: Path) -> None:
    """All of them drawn in a process that has no pyplot at the end."""
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
import pictures
world = pictures.World(Path(sys.argv[1]))
for name in ("averages", "raster_trial", "factors_3d", "inputs", "alignment", "eigenvalues", "sweep_map"):
    pictures.draw(name, world, Path(sys.argv[1]) / "a.png")
assert "matplotlib.pyplot" not in sys.modules
"""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=root, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
