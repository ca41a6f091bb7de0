"""Figures of alignments: what is drawn where, and errors."""

from __future__ import annotations

import matplotlib.colors
import numpy as np
import pytest
import xarray as xr

from lfadsrm_hpc.errors import UsageError
from lfadsrm_hpc.results.plots.alignments import alignment_components


def made(seed: int, conditions: int = 3) -> xr.Dataset:
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((conditions, 10, 4)).cumsum(axis=1)
    dims = ("condition", "time", "component")
    return xr.Dataset(
        {
            "components": (dims, z),
            "projection": (dims, z + 0.2 * rng.standard_normal(z.shape)),
            "r2_by_factor": ("factor", [0.9, 0.8, 0.5, 0.2, np.nan]),
        },
        coords={"condition": [f"c{i}" for i in range(conditions)], "time": 10.0 * np.arange(10)},
        attrs={"r2": 0.75},
    )


def test_lines_are_the_components_and_what_the_session_makes_of_them() -> None:
    sessions = {"day1": made(0), "day2": made(1, conditions=2)}
    axes = alignment_components(sessions, components=[0, 2])
    assert axes.shape == (2, 2)
    for row, (name, one) in enumerate(sessions.items()):
        assert axes[row, 0].get_ylabel() == name
        for column, component in enumerate((0, 2)):
            lines = [line for line in axes[row, column].lines if len(line.get_xdata())]
            conditions = one.sizes["condition"]
            assert len(lines) == 2 * conditions
            for i in range(conditions):
                pale, thin = lines[i], lines[conditions + i]
                np.testing.assert_array_equal(pale.get_ydata(), one.components[i, :, component])
                np.testing.assert_array_equal(thin.get_ydata(), one.projection[i, :, component])
                np.testing.assert_array_equal(thin.get_xdata(), one.time)
                # both of a condition in one colour, and the same in each session
                assert matplotlib.colors.same_color(pale.get_color(), thin.get_color())
                assert matplotlib.colors.same_color(
                    thin.get_color(), axes[0, 0].lines[sessions["day1"].sizes["condition"] + i].get_color()
                )
            assert f"{float(one.r2_by_factor[component]):.2f}" in axes[row, column].texts[0].get_text()
    axes[0, 0].figure.canvas.draw()  # constrained layout complains if it cannot fit things


def test_some_of_many_conditions_are_chosen() -> None:
    axes = alignment_components({"day1": made(0, conditions=20)})
    assert axes.shape == (1, 3)
    assert len([line for line in axes[0, 1].lines if len(line.get_xdata())]) == 2 * 6
    axes = alignment_components({"day1": made(0, conditions=20)}, conditions=["c3", "c19"])
    np.testing.assert_array_equal(
        axes[0, 1].lines[1].get_ydata(), made(0, conditions=20).components[19, :, 1]
    )


def test_what_cannot_be_drawn() -> None:
    with pytest.raises(UsageError, match="no alignment"):
        alignment_components({})
    with pytest.raises(UsageError, match=r"\[4\]"):
        alignment_components({"day1": made(0)}, components=[4])
    with pytest.raises(UsageError, match="'left'"):
        alignment_components({"day1": made(0)}, conditions=["left"])
