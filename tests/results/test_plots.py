"""Figures: what they show, that they can be drawn without a display, and that pyplot is left alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib.colors
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import xarray as xr

from lfadsrm_hpc.errors import DataError, UsageError
from lfadsrm_hpc.results.metrics import pooled_r2, smooth_spikes
from lfadsrm_hpc.results.plots import (
    demo_summary,
    factors_3d,
    learning_curves,
    rates_against_truth,
    single_trial_rates_by_condition,
)

E, T, D, BIN_MS = 24, 30, 6, 10.0


def make_means(factors: int = 5, *, conditions: int = 3) -> xr.Dataset:
    rng = np.random.default_rng(0)
    means = xr.Dataset(
        {
            "rates": (("trial", "time", "neuron"), rng.gamma(3, 5, (E, T, D)), {"units": "spikes/s"}),
            "factors": (("trial", "time", "factor"), rng.standard_normal((E, T, factors)).cumsum(axis=1)),
        },
        coords={
            "trial": np.arange(E),
            "time": BIN_MS * np.arange(T),
            "neuron": np.arange(D),
            "neuron_name": ("neuron", [f"unit{i}" for i in range(D)]),
        },
        attrs={"bin_ms": BIN_MS},
    )
    if conditions:
        means = means.assign_coords(condition=("trial", np.arange(E) % conditions))
    return means


def make_log(seed: int = 0, epochs: int = 40) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    valid = 100 + 1e4 * np.exp(-np.arange(epochs)) + rng.random(epochs)
    log = pd.DataFrame({"epoch": np.arange(epochs), "train_total": valid - 10, "valid_total": valid})
    log.attrs = {"lowest_valid_epoch": int(valid.argmin()), "lowest_valid_cost": float(valid.min())}
    return log


def drawn(figure: Any, path: Path) -> npt.NDArray[Any]:
    """Save, and return the picture; constrained layout complains if it cannot fit things."""
    import matplotlib.image

    figure.savefig(path, dpi=60)
    picture: npt.NDArray[Any] = matplotlib.image.imread(path)
    assert picture[..., :3].std() > 0.02
    return picture


def test_learning_curves_of_one_run_and_of_several(tmp_path: Path) -> None:
    log = make_log()
    ax = learning_curves(log)
    lines = {line.get_label(): line for line in ax.get_lines()}
    np.testing.assert_array_equal(lines["training"].get_ydata(), log["train_total"])
    np.testing.assert_array_equal(lines["validation"].get_ydata(), log["valid_total"])
    mark = next(line for line in ax.get_lines() if line.get_marker() == "o")
    assert mark.get_xdata().tolist() == [log.attrs["lowest_valid_epoch"]]
    assert ax.get_ylim()[1] < 1000  # the start, a hundred times the rest, is cut off
    assert "nats" in ax.get_ylabel()
    drawn(ax.figure, tmp_path / "one.png")

    ax = learning_curves({f"run {i}": make_log(i) for i in range(3)})
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["run 0", "run 1", "run 2"]
    many = {f"run {i}": make_log(i) for i in range(20)}
    ax = learning_curves(many)
    best = min(many, key=lambda name: many[name].attrs["lowest_valid_cost"])
    assert ax.get_legend() is None
    assert f"20 runs, lowest: {best}" in ax.get_title()
    curves = [line for line in ax.get_lines() if line.get_marker() == "None"]
    assert len({matplotlib.colors.to_hex(line.get_color()) for line in curves}) == 20


def test_learning_curves_of_a_run_that_has_just_begun(tmp_path: Path) -> None:
    empty = make_log(epochs=1).iloc[:0]
    empty.attrs = {"lowest_valid_epoch": None, "lowest_valid_cost": None}
    broken = make_log(epochs=2) * np.nan
    broken.attrs = empty.attrs
    learning_curves({"a": empty, "b": broken, "c": make_log(epochs=1)}).figure.savefig(tmp_path / "a.png")
    with pytest.raises(UsageError, match="no fit log"):
        learning_curves({})


def test_single_trials_and_their_mean_by_condition(tmp_path: Path) -> None:
    means = make_means()
    ax = single_trial_rates_by_condition(means, 2, conditions=[2, 0])
    lines = ax.get_lines()
    assert len(lines) == 2 * (E // 3 + 1)
    chosen = means.rates.values[means.condition.values == 2][..., 2]
    np.testing.assert_array_equal(lines[0].get_ydata(), chosen[0])
    thick = next(line for line in lines if line.get_label() == "2")
    np.testing.assert_allclose(thick.get_ydata(), chosen.mean(axis=0))
    assert ax.get_ylabel() == "rate (spikes/s)"
    drawn(ax.figure, tmp_path / "a.png")
    with pytest.raises(UsageError, match="condition 7"):
        single_trial_rates_by_condition(means, 2, conditions=[7])
    with pytest.raises(UsageError, match="0 to 5"):
        single_trial_rates_by_condition(means, 6)
    assert len(single_trial_rates_by_condition(make_means(conditions=0)).get_lines()) == E + 1


@pytest.mark.parametrize(("factors", "label"), [(2, "time (ms)"), (3, "factor 0"), (7, "PC 1")])
def test_factors_in_three_dimensions(tmp_path: Path, factors: int, label: str) -> None:
    ax = factors_3d(make_means(factors))
    assert ax.get_xlabel().startswith(label)
    assert len(ax.get_lines()) == E + 3
    drawn(ax.figure, tmp_path / "a.png")


def test_principal_axes_hold_the_variance_of_the_condition_means() -> None:
    means = make_means(4, conditions=2)
    ax = factors_3d(means, trials=False)
    averages = means.factors.groupby("condition").mean().values
    path = np.stack(ax.get_lines()[0].get_data_3d(), axis=-1)
    flat = averages.reshape(-1, 4)
    share = np.linalg.svd(flat - flat.mean(axis=0), compute_uv=False) ** 2
    assert f"({100 * share[0] / share.sum():.0f} %)" in ax.get_xlabel()
    # the projection keeps distances but for the fourth component
    steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
    assert np.all(steps <= np.linalg.norm(np.diff(averages[0], axis=0), axis=1) + 1e-9)
    with pytest.raises(DataError, match="single factor"):
        factors_3d(make_means(1))


def test_rates_against_truth_shows_r2_and_the_trials(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    truth = rng.gamma(2, 10, (E, T, D))
    counts = rng.poisson(truth * BIN_MS / 1000)
    rates = truth * 0.9
    figure = rates_against_truth(
        rates, counts, truth, time_ms=BIN_MS * np.arange(T), bin_ms=BIN_MS, trials=[4, 7],
        neurons=[5, 1], sd_ms=30,
    )  # fmt: skip
    panels = [ax for ax in figure.axes if ax.images]
    titles = " ".join(ax.get_title() for ax in figure.axes)
    assert f"R² {pooled_r2(rates, truth):.2f}" in titles
    assert f"R² {pooled_r2(smooth_spikes(counts, bin_ms=BIN_MS, sd_ms=30), truth):.2f}" in titles
    np.testing.assert_array_equal(panels[1].images[0].get_array(), rates[4][:, [5, 1]].T)
    np.testing.assert_array_equal(panels[5].images[0].get_array(), truth[7][:, [5, 1]].T)
    assert len({image.get_clim() for ax in panels for image in ax.images}) == 1
    drawn(figure, tmp_path / "a.png")
    with pytest.raises(UsageError, match="differ in shape"):
        rates_against_truth(rates[:3], counts, truth, time_ms=np.arange(T), bin_ms=BIN_MS)


def test_the_summary_of_the_demo_can_be_drawn(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    means = make_means().isel(trial=slice(9, None))
    truth = means.rates.values * rng.uniform(0.9, 1.1, means.rates.shape)
    counts = rng.poisson(truth * BIN_MS / 1000)
    figure = demo_summary(means, counts, truth, {"a": make_log(), "b": make_log(1)}, title="a title")
    picture = drawn(figure, tmp_path / "demo.png")
    assert picture.shape[:2] == (630, 780)
    said = " ".join(ax.get_title() + ax.get_xlabel() + ax.get_ylabel() for ax in figure.axes)
    for word in ("spikes/s", "ms", "epoch", "nats", "PC 1", "inferred", "trial 9"):
        assert word in said, word


def test_nothing_imports_pyplot(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np, pandas as pd\n"
        "from lfadsrm_hpc.results.plots import learning_curves\n"
        "log = pd.DataFrame({'epoch': [0], 'train_total': [1.0], 'valid_total': [2.0]})\n"
        "learning_curves(log).figure.savefig(sys.argv[1])\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.png")], cwd=root, check=False, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_a_notebook_shows_a_figure_without_pyplot() -> None:
    log = pd.DataFrame({"epoch": [0], "train_total": [1.0], "valid_total": [2.0]})
    picture = learning_curves(log).figure._repr_png_()
    assert picture.startswith(b"\x89PNG\r\n")
    assert len(picture) > 1000
