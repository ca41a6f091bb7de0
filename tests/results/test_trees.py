"""Posterior means of many runs as a tree: what is selected, what is left out, what is read."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from lfadsrm_hpc.api import RunCollection
from lfadsrm_hpc.collection.params import RunParams
from lfadsrm_hpc.errors import NotFoundError, ParamsError, ResultsError, UsageError
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.records import Exit, Identity


def leaves(tree: Any) -> list[str]:
    return [node.path.lstrip("/") for node in tree.leaves]


def test_all_complete_runs_are_one_lazy_tree(sweep: RunCollection, fabricated: Any) -> None:
    tree = sweep.load_posterior_means()
    expected = [f"{run.id}/{name}" for run in sweep.runs[:-1] for name in run.dataset_names]
    assert sorted(leaves(tree)) == sorted(expected)
    assert json.loads(tree.attrs["not_complete"]) == [sweep.runs[-1].id]
    run = sweep.runs[5]
    assert tree[f"param_{run.params.param_hash}"].attrs == {"factors_dim": 2, "seed": 1}
    means = tree[f"{run.id}/day2"].ds
    one = means.rates.sel(neuron=3)
    np.testing.assert_array_equal(one, fabricated.values(run, "day2", "rates")[..., 3])
    assert not means.rates.variable._in_memory
    means.rates.to_numpy()
    assert not means.rates.variable._in_memory, "a look at many runs would fill the memory"


@pytest.mark.parametrize(
    ("select", "expected"),
    [
        ({"spec": "single_day1"}, [0, 1, 2, 3]),
        ({"spec": ["both"], "factors_dim": 2}, [4, 5]),
        ({"params": 1}, [1, 5]),
        ({"seed": [0], "spec": "single_day1"}, [0, 2]),
        ({"c_factors_dim": lambda dim: dim > 3}, [2, 3, 6]),
        ({"state": "completed", "seed": 1}, [1, 3, 5]),
        ({"dataset": "day2"}, [4, 5, 6]),
    ],
)
def test_runs_are_selected(sweep: RunCollection, select: dict[str, Any], expected: list[int]) -> None:
    found = {path.rpartition("/")[0] for path in leaves(sweep.load_posterior_means(**select))}
    assert found == {sweep.runs[k].id for k in expected}


def test_datasets_are_selected(sweep: RunCollection) -> None:
    tree = sweep.load_posterior_means(dataset=["day2"])
    assert {path.rpartition("/")[2] for path in leaves(tree)} == {"day2"}
    with pytest.raises(NotFoundError, match=r"has the dataset 'day3'(?s:.)*'day2'"):
        sweep.load_posterior_means(dataset="day3")
    with pytest.raises(NotFoundError, match="has the dataset 'day2'"):
        sweep.load_posterior_means(spec="single_day1", dataset="day2")


def test_wrong_selections_say_so(sweep: RunCollection) -> None:
    with pytest.raises(NotFoundError, match="single_day1"):
        sweep.load_posterior_means(spec="single_day")
    with pytest.raises(ParamsError, match="factors_dim"):
        sweep.load_posterior_means(factor_dim=2)
    with pytest.raises(ResultsError, match="none of the 1 selected runs is complete"):
        sweep.load_posterior_means(spec="both", factors_dim=4, seed=1)
    with pytest.raises(ResultsError, match="no run fits"):
        sweep.load_posterior_means(factors_dim=77)
    with pytest.raises(ResultsError, match="no run fits"):
        sweep.load_posterior_means(state="failed")
    with pytest.raises(UsageError, match="the states are: PREPARED"):
        sweep.load_posterior_means(state="done")
    with pytest.raises(UsageError, match="select nothing"):
        sweep.load_posterior_means(sweep.runs[:1], spec="both")


def test_named_runs_must_be_complete(sweep: RunCollection) -> None:
    assert len(leaves(sweep.load_posterior_means(sweep.runs[4:5]))) == 2
    with pytest.raises(ResultsError, match="is not complete, it is PREPARED"):
        sweep.load_posterior_means(sweep.runs)
    with pytest.raises(ResultsError, match="there are no runs"):
        RunCollection(sweep.root, "empty").load_posterior_means()


def test_a_run_that_is_done_anew_is_left_out_and_the_others_are_there(make: Any, fabricated: Any) -> None:
    rc = make(RunParams(**fabricated.BASE).generate_sweep(seed=[0, 1]))
    claim = store.take_local(rc.runs[0].layout, Identity.local("", 7), redo=True)
    assert leaves(rc.load_posterior_means()) == [f"{rc.runs[1].id}/day1"]
    store.publish_exit(rc.runs[0].layout, claim, Exit(1, "failed"))
    assert leaves(rc.load_posterior_means()) == [f"{rc.runs[1].id}/day1"]
    assert len(rc.runs[0].load_posterior_means().trial) == 20  # its own earlier results can still be had


def test_a_split_of_each_run(sweep: RunCollection) -> None:
    tree = sweep.load_posterior_means(split="valid", spec="both")
    for node in tree.leaves:
        assert set(node.ds.split.values) == {"valid"}
    whole = sweep.runs[0].load_posterior_means()
    part = sweep.runs[0].load_posterior_means(split="train")
    np.testing.assert_array_equal(part.trial, whole.trial[whole.split == "train"])
    assert list(whole.trial.values) == list(range(20)), "the original order"


def test_parameters_by_dataset(sweep: RunCollection) -> None:
    own = sweep.runs[4].load_model_params("day2")
    assert own.readout_W.dims == ("factor", "neuron")
    assert own.sizes == {"factor": 2, "neuron": 6, "encoder_channel": 2}
    with pytest.raises(NotFoundError, match="has no dataset 'day'"):
        sweep.runs[4].load_model_params("day")


def test_dask_arrays_where_they_are_asked_for(sweep: RunCollection, fabricated: Any) -> None:
    pytest.importorskip("dask.array")
    tree = sweep.load_posterior_means(spec="single_day1", chunks={"trial": 7})
    rates = tree[f"{sweep.runs[2].id}/day1"].ds.rates
    assert rates.chunksizes["trial"] == (7, 7, 6)
    expected = fabricated.values(sweep.runs[2], "day1", "rates").mean(axis=0)
    np.testing.assert_allclose(rates.mean("trial").compute(), expected, rtol=1e-5)
    stack = sweep.load_posterior_means(spec="single_day1", factors_dim=2, stack="seed", chunks={"trial": 20})
    assert stack.rates.chunksizes["seed"] == (1, 1)
    np.testing.assert_allclose(
        stack.rates.mean("trial").compute()[1],
        fabricated.values(sweep.runs[1], "day1", "rates").mean(axis=0),
        rtol=1e-5,
    )


def test_without_dask_chunks_are_refused(sweep: RunCollection, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: object, **__: object) -> None:
        raise ImportError("no dask")

    monkeypatch.setattr("xarray.Dataset.chunk", absent)
    with pytest.raises(UsageError, match=r"needs dask(?s:.)*pip install"):
        sweep.runs[0].load_posterior_means(chunks={"trial": 5})
