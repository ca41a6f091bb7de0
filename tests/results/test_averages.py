"""Averages by condition: against numpy, block by block, for stacks and trees."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from lfadsrm_hpc.api import RunCollection
from lfadsrm_hpc.errors import DataError, NotFoundError
from lfadsrm_hpc.results import averages
from lfadsrm_hpc.results.averages import condition_averages


def expected(values: Any, labels: Any, label: object) -> tuple[Any, Any]:
    own = values[labels == label].astype(np.float64)
    sem = own.std(axis=0, ddof=1) / np.sqrt(len(own)) if len(own) > 1 else np.full(own.shape[1:], np.nan)
    return own.mean(axis=0) if len(own) else np.full(own.shape[1:], np.nan), sem


def test_means_errors_and_numbers_of_each_condition(sweep: RunCollection, fabricated: Any) -> None:
    run = sweep.runs[0]
    means = run.load_posterior_means()
    found = run.condition_averages()
    labels = means.condition.values
    assert found.condition.values.tolist() == [f"reach {k}" for k in range(4)]
    assert found.n_trials.values.tolist() == [5, 5, 5, 4], "one trial has no condition"
    assert set(found.data_vars) == {"rates", "rates_sem", "factors", "factors_sem", "n_trials"}
    for name in ("rates", "factors"):
        values = fabricated.values(run, "day1", name)
        for label in found.condition.values:
            mean, sem = expected(values, labels, label)
            np.testing.assert_allclose(found[name].sel(condition=label), mean, rtol=1e-6)
            np.testing.assert_allclose(found[name + "_sem"].sel(condition=label), sem, rtol=1e-6)
    assert found.rates.dims == ("condition", "time", "neuron")
    assert found.rates.attrs["units"] == found.rates_sem.attrs["units"] == "spikes/s"
    assert found.neuron_name.values[0] == "n000"
    assert found.attrs["run_id"] == run.id


@pytest.mark.parametrize("split", ["train", "valid"])
def test_of_one_split(sweep: RunCollection, fabricated: Any, split: str) -> None:
    run = sweep.runs[0]
    means = run.load_posterior_means()
    own = (means.split == split).values
    labels = means.condition.values
    found = run.condition_averages(variables="rates", split=split)  # type: ignore[arg-type]
    assert found.n_trials.values.tolist() == [int(np.sum(own & (labels == f"reach {k}"))) for k in range(4)]
    assert found.n_trials.sum() == np.sum(own & (labels != ""))
    mean, sem = expected(fabricated.values(run, "day1", "rates")[own], labels[own], "reach 2")
    np.testing.assert_allclose(found.rates[2], mean, rtol=1e-6)
    np.testing.assert_allclose(found.rates_sem[2], sem, rtol=1e-6)


def test_both_splits_apart(sweep: RunCollection) -> None:
    run = sweep.runs[0]
    found = run.condition_averages(variables=["rates"], split="each")
    assert found.rates.dims == ("split", "condition", "time", "neuron")
    for split in ("train", "valid"):
        alone = run.condition_averages(variables=["rates"], split=split)  # type: ignore[arg-type]
        xr.testing.assert_equal(found.sel(split=split, drop=True), alone)
    assert found.n_trials.sum() == 19


def test_a_condition_without_trials_and_one_with_a_single_trial() -> None:
    pm = xr.Dataset(
        {"rates": (("trial", "time"), [[1.0], [2.0], [7.0]])},
        {"condition": ("trial", [1, 1, 4]), "split": ("trial", ["train", "train", "valid"])},
    )
    found = condition_averages(pm, split="train")
    assert found.n_trials.values.tolist() == [2, 0]
    np.testing.assert_array_equal(found.rates, [[1.5], [np.nan]])
    whole = condition_averages(pm)
    np.testing.assert_array_equal(whole.rates, [[1.5], [7.0]])
    np.testing.assert_array_equal(whole.rates_sem, [[0.5], [np.nan]])


@given(
    labels=st.lists(st.sampled_from(["a", "b", "c", ""]), min_size=1, max_size=30).filter(any),
    block=st.integers(1, 9),
    chunk=st.integers(1, 4),
    offset=st.sampled_from([0.0, 1e7]),
)
@settings(deadline=None, max_examples=100)
def test_blocks_do_not_show(labels: list[str], block: int, chunk: int, offset: float) -> None:
    values = np.random.default_rng(0).normal(size=(len(labels), 3, 2)) + offset
    variable = xr.Variable(
        ("trial", "time", "neuron"), values, encoding={"preferred_chunks": {"trial": chunk}}
    )
    pm = xr.Dataset({"rates": variable}, {"condition": ("trial", labels)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(averages, "_BLOCK_BYTES", 8 * 6 * block)
        found = condition_averages(pm)
    for label in found.condition.values:
        mean, sem = expected(values, np.array(labels), label)
        np.testing.assert_allclose(found.rates.sel(condition=label), mean, rtol=1e-12)
        np.testing.assert_allclose(found.rates_sem.sel(condition=label), sem, rtol=1e-5)


def test_memory_does_not_hold_what_is_averaged(sweep: RunCollection, monkeypatch: pytest.MonkeyPatch) -> None:
    means = sweep.runs[0].load_posterior_means()
    sizes: list[int] = []
    real = xr.Variable.to_numpy

    def noted(self: xr.Variable) -> Any:
        found = real(self)
        sizes.append(found.size)
        return found

    monkeypatch.setattr(averages, "_BLOCK_BYTES", 8 * 50 * 4)
    means["rates"].encoding["preferred_chunks"] = {"trial": 2}
    monkeypatch.setattr(xr.Variable, "to_numpy", noted)
    condition_averages(means, "rates")
    assert max(sizes) == 4 * 50, "four trials of 10 bins and 5 neurons"
    assert not means.rates.variable._in_memory


def test_stacks_and_trees(sweep: RunCollection, fabricated: Any) -> None:
    stack = sweep.load_posterior_means(spec="single_day1", factors_dim=4, stack="seed")
    found = condition_averages(stack, ["rates", "costs"])
    assert found.rates.dims == ("seed", "condition", "time", "neuron")
    assert found.costs.dims == ("seed", "condition")
    assert found.run.values.tolist() == [run.id for run in sweep.runs[2:4]]
    labels = stack.condition.values
    for seed, run in enumerate(sweep.runs[2:4]):
        mean, sem = expected(fabricated.values(run, "day1", "rates"), labels, "reach 1")
        np.testing.assert_allclose(found.rates.sel(seed=seed, condition="reach 1"), mean, rtol=1e-6)
        np.testing.assert_allclose(found.rates_sem.sel(seed=seed, condition="reach 1"), sem, rtol=1e-6)
    tree = condition_averages(sweep.load_posterior_means(spec="both", factors_dim=2), "factors")
    assert len(tree.leaves) == 4
    one = tree[f"{sweep.runs[5].id}/day2"].to_dataset()
    xr.testing.assert_equal(one, sweep.runs[5].condition_averages("day2", "factors"))


def test_what_cannot_be_averaged(sweep: RunCollection) -> None:
    means = sweep.runs[0].load_posterior_means()
    with pytest.raises(NotFoundError, match="did you mean 'rates'"):
        condition_averages(means, "rate")
    with pytest.raises(DataError, match="have no 'target'"):
        condition_averages(means, by="target")
    with pytest.raises(DataError, match="not made of numbers"):
        condition_averages(means, "split")
    with pytest.raises(DataError, match="no trial has a condition"):
        condition_averages(means.assign_coords(condition=("trial", [""] * 20)))
    with pytest.raises(DataError, match="not split alike"):
        condition_averages(means.assign_coords(split=(("seed", "trial"), [["train"] * 20])), split="train")


def test_numbers_as_conditions_where_some_trials_have_none() -> None:
    pm = xr.Dataset({"x": ("trial", [1.0, 2.0, 3.0])}, {"condition": ("trial", [2.0, np.nan, 2.0])})
    found = condition_averages(pm)
    assert (found.condition.values.tolist(), found.x.values.tolist()) == ([2], [2.0])
    assert found.condition.dtype == np.int64


def test_a_tree_tells_which_dataset_has_no_conditions() -> None:
    one = xr.Dataset({"x": ("trial", [1.0, 2.0])})
    tree = xr.DataTree.from_dict(
        {"/a/day1": one.assign_coords(condition=("trial", ["left", "right"])), "/a/day2": one}
    )
    with pytest.raises(DataError, match=r"these trials have no 'condition'(?s:.)*/a/day2"):
        condition_averages(tree, "x")
